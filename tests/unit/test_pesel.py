"""PESEL: what is valid, what is a fill-in, what a number says of its bearer."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.pl import pesel as register

from obieg.domain import pesel


def number_of(born: date, serial: int) -> str:
    century = {18: 80, 19: 0, 20: 20, 21: 40, 22: 60}[born.year // 100]
    digits = f"{born.year % 100:02}{born.month + century:02}{born.day:02}{serial:04}"
    return digits + register.calc_check_digit(digits)


births = st.dates(date(1800, 1, 1), date(2099, 12, 31))
serials = st.integers(0, 9999).filter(lambda n: len(set(f"{n:04}")) > 1)


@given(births, serials)
def test_a_number_says_when_its_bearer_was_born_and_of_which_sex(born: date, serial: int) -> None:
    read = pesel.read(number_of(born, serial))
    assert read.valid
    assert not read.artificial
    assert read.birth_date == f"{born:%Y%m%d}"
    assert read.sex == ("M" if serial % 2 else "F")


@given(births, serials, st.integers(0, 10), st.integers(1, 9))
def test_one_wrong_digit_is_always_noticed(born: date, serial: int, place: int, by: int) -> None:
    right = number_of(born, serial)
    wrong = right[:place] + str((int(right[place]) + by) % 10) + right[place + 1 :]
    assert not pesel.is_valid(wrong)
    assert pesel.is_misspelling(wrong, right)


@pytest.mark.parametrize(
    "text",
    ["00000000000", "0", "99999999999", "22222222222", "11111111111", "12345678901", "98765432109", "90010100000"],
)
def test_fill_ins_name_nobody(text: str) -> None:
    read = pesel.read(text)
    assert read.artificial
    assert not read.valid
    assert read.birth_date == read.sex == ""


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("44051401458", True),
        (" 440514-01458 ", True),
        ("44051401457", False),  # control digit
        ("4405140145", False),
        ("440514014580", False),
        ("44053201459", False),  # 32 May
        ("x" * 11, False),
        ("４４０５１４０１４５８", True),  # full-width digits, as some keyboards write them
        ("٤٤٠٥١٤٠١٤٥٨", False),  # digits of another script
        ("", False),
        ("brak", False),
    ],
)
def test_reading_never_fails(text: str, valid: bool) -> None:
    read = pesel.read(text)
    assert read.valid is valid
    assert not read.artificial


@given(st.text(max_size=14))
def test_any_text_can_be_read(text: str) -> None:
    read = pesel.read(text)
    assert not (read.valid and read.artificial)
    assert bool(read.birth_date) == bool(read.sex) == read.valid


def test_nobody_is_born_in_the_centuries_to_come() -> None:
    assert pesel.read(number_of(date(2122, 2, 3), 1234)).artificial


@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        ("44051401459", "44051401458", True),
        ("44051410458", "44051401458", True),  # neighbours swapped
        ("4405140145", "44051401458", True),  # one left out
        ("444051401458", "44051401458", True),  # one added
        ("44051401458", "44051401458", False),
        ("44051401449", "44051401458", False),
        ("41054401458", "44051401458", False),  # no neighbours
        ("", "44051401458", False),
    ],
)
def test_misspellings(wrong: str, right: str, expected: bool) -> None:
    assert pesel.is_misspelling(wrong, right) is expected
    assert pesel.is_misspelling(right, wrong) is expected


@given(st.from_regex(r"[0-9]{2}[0-9][0-9][0-3][0-9]{6}", fullmatch=True))
def test_it_is_read_as_stdnum_reads_it(number: str) -> None:
    found = pesel.read(number)
    if not found.artificial:
        assert found.valid == register.is_valid(number)
    if found.valid:
        assert found.birth_date == f"{register.get_birth_date(number):%Y%m%d}"
        assert found.sex == register.get_gender(number)
