"""Polish alphabetical order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obieg.domain.polish import SORT_KEY_BYTES_MAX, sort_key

ORDERS = [
    list("aąbcćdeęfghijklłmnńoópqrsśtuvwxyzźż"),
    ["ćma", "dąb", "łania", "łza", "mak", "zima", "źrebię", "żaba"],
    ["lato", "lód", "łata", "łąka", "łódź"],
    ["koc", "koń", "kos", "kosa", "kość"],
    ["Zając", "Zawada", "Zięba", "Ziółko", "Źrebiec", "Żak", "Żółw", "Życki"],
    ["Adam", "Ądam", "Bartek"],
    ["nowak", "Nowak", "NOWAK", "Nowak Kowalska", "Nowakowska"],
    ["oddział 2", "oddział 3", "oddział A"],
    ["Muller", "Müller", "Mullerowa"],
    ["DAndrea", "D'Andreb"],
    ["Żuk", "Коваленко", "Шевченко"],
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order[-1])
def test_known_orders(order: list[str]) -> None:
    shuffled = random.Random(1).sample(order, len(order))
    assert sorted(shuffled, key=sort_key) == order


def test_the_polish_alphabet_orders_words_that_code_points_do_not() -> None:
    names = ["Łukasz", "Lech", "Zenon", "Świętosława", "Stefan", "Ludwik", "Ćwiek", "Czesław"]
    assert sorted(names, key=sort_key) == [
        "Czesław",
        "Ćwiek",
        "Lech",
        "Ludwik",
        "Łukasz",
        "Stefan",
        "Świętosława",
        "Zenon",
    ]


def test_a_list_of_persons() -> None:
    persons = [
        ("Nowak", "Adam"),
        ("Nowak", "Łucja"),
        ("Nowak", "Zofia"),
        ("Nowak-Adamska", "Anna"),
        ("Nowakowska", "Anna"),
    ]
    shuffled = random.Random(2).sample(persons, len(persons))
    assert sorted(shuffled, key=lambda p: sort_key(*p)) == persons


def test_case_decides_last() -> None:
    assert sort_key("Ala ma kota") < sort_key("ala ma koty")
    assert sort_key("ala") < sort_key("Ala") < sort_key("ALA")
    assert sort_key("Nowak-Kowalska") == sort_key("Nowak Kowalska")
    assert sort_key(" Nowak  ") == sort_key("Nowak")
    assert sort_key("Z\u0307o\u0301łw") == sort_key("Żółw")


def test_nothing_comes_first() -> None:
    assert sort_key("") == sort_key("-") == b"" < sort_key("0") < sort_key("a")


def test_keys_fit_into_an_index() -> None:
    assert len(sort_key("Ж" * 1000, "Ż" * 1000)) == SORT_KEY_BYTES_MAX


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_has_a_key_without_regard_to_case(a: str, b: str) -> None:
    assert isinstance(sort_key(a, b), bytes)
    if a.isascii() and b.isascii() and a.isalpha() and b.isalpha() and a.lower() != b.lower():
        assert (sort_key(a) < sort_key(b)) == (a.lower() < b.lower())
