"""Names: folding, sounds, short forms, double-barrelled names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obieg.domain import names
from obieg.domain.names import Likeness


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Żółć", "zolc"),
        ("ŁUKASZ", "lukasz"),
        ("Nowak-Kowalska", "nowak kowalska"),
        ("Nowak – Kowalska", "nowak kowalska"),
        ("O'Hara", "ohara"),
        ("D’Andrea", "dandrea"),
        ("  Müller ", "muller"),
        ("Straßer", "strasser"),
        ("Ðorđe Bjørn", "dorde bjorn"),
        ("Шевченко", "шевченко"),
        ("św. Jana 3/4", "sw jana 3 4"),
        ("Z\u0307o\u0301łw", "zolw"),
        ("", ""),
        ("--", ""),
    ],
)
def test_folding(text: str, folded: str) -> None:
    assert names.fold(text) == folded


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing(text: str) -> None:
    once = names.fold(text)
    assert names.fold(once) == once
    assert names.sound(text) == names.sound(once)


ALIKE = [
    ("JONEZ", "JONES"),
    ("JENIPHER", "JENNIFER"),
    ("Wójcik", "Wujcik"),
    ("Wójcik", "Wojcik"),
    ("Żak", "Rzak"),
    ("Chmielewski", "Hmielewski"),
    ("Kowalska", "Kowalski"),
    ("Nowicka", "Nowicki"),
    ("Zawadzka", "Zawadzki"),
    ("Wiktor", "Victor"),
    ("Grzegorz", "Gżegoż"),
    ("Dąbrowski", "Dombrowski"),
    ("Zięba", "Ziemba"),
    ("Stefania", "Stephania"),
    ("Tomas", "Thomas"),
    ("Maria", "Marya"),
    ("Jon", "John"),
]


@pytest.mark.parametrize(("left", "right"), ALIKE)
def test_what_sounds_alike(left: str, right: str) -> None:
    assert names.sound(left) == names.sound(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("Nowak", "Kowalski"), ("Jan", "Adam"), ("Anna", "Ewa"), ("Mazur", "Mazurek"), ("Zając", "Król"), ("Jan", "Anna")],
)
def test_what_does_not_sound_alike(left: str, right: str) -> None:
    assert names.sound(left) != names.sound(right)


@pytest.mark.parametrize(
    ("left", "right", "likeness"),
    [
        ("Katarzyna", "Katarzyna", Likeness.EQUAL),
        ("Kasia", "Katarzyna", Likeness.SHORT),
        ("Kasia", "Kaśka", Likeness.SHORT),
        ("Bartek", "Bartłomiej", Likeness.SHORT),
        ("Bartek", "Bartosz", Likeness.SHORT),
        ("K", "Katarzyna", Likeness.SHORT),
        ("J", "Katarzyna", Likeness.DIFFERENT),
        ("Jenn", "Jennifer", Likeness.SHORT),
        ("Jenipher", "Jennifer", Likeness.SIMILAR),
        ("Katarzna", "Katarzyna", Likeness.SIMILAR),
        ("Marta", "Maria", Likeness.DIFFERENT),  # both are names: neither is the other misspelt
        ("Jan", "Janusz", Likeness.DIFFERENT),
        ("Hanna", "Anna", Likeness.DIFFERENT),
        ("Lena", "Helena", Likeness.SHORT),
        ("", "Anna", Likeness.DIFFERENT),
    ],
)
def test_given_names(left: str, right: str, likeness: Likeness) -> None:
    one, other = names.fold(left), names.fold(right)
    assert names.given_likeness(one, other) is likeness
    assert names.given_likeness(other, one) is likeness


@pytest.mark.parametrize(
    ("left", "right", "likeness"),
    [
        ("Kowalska", "Kowalski", Likeness.EQUAL),
        ("Nowak-Kowalska", "Kowalska Nowak", Likeness.EQUAL),
        ("Nowak-Kowalska", "NOWAK KOWALSKI", Likeness.EQUAL),
        ("Nowak-Kowalska", "Kowalska", Likeness.SHORT),
        ("Nowak-Kowalska", "Nowak", Likeness.SHORT),
        ("Nowak-Kowalska", "Nowak-Lis", Likeness.SHORT),
        ("Wójcik", "Wójick", Likeness.SIMILAR),
        ("Kowalczyk", "Kowalczik", Likeness.SIMILAR),
        ("Nowak", "Nowacki", Likeness.DIFFERENT),
        ("Lis", "Lipski", Likeness.DIFFERENT),
        ("", "Nowak", Likeness.DIFFERENT),
    ],
)
def test_family_names(left: str, right: str, likeness: Likeness) -> None:
    one, other = names.family(left), names.family(right)
    assert names.family_likeness(one, other) is likeness
    assert names.family_likeness(other, one) is likeness


@pytest.mark.parametrize(
    ("left", "right", "limit", "expected"),
    [("abc", "abc", 1, 0), ("abc", "acb", 1, 1), ("abc", "abcd", 1, 1), ("abc", "xyz", 2, None), ("", "ab", 2, 2)],
)
def test_distance(left: str, right: str, limit: int, expected: int | None) -> None:
    assert names.distance(left, right, limit) == expected


def test_short_forms_lead_to_all_their_names() -> None:
    assert names.whole_names("bartek") == {"bartosz", "bartlomiej"}
    assert names.whole_names("katarzyna") == frozenset()
    assert names.is_whole("katarzyna")
    assert not names.is_whole("kasia")
