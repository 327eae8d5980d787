"""Unusual look-ups: what people asked within a window, counted, becomes a score by the table of codes/watching.toml."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from obieg.codes.load import toml
from obieg.domain import names
from obieg.domain.addresses import Home, homes
from obieg.domain.documents import Value
from obieg.domain.persons import Address

_TABLE = toml("watching.toml")
SIGNALS: Mapping[str, Mapping[str, object]] = _TABLE["signals"]
WINDOW = timedelta(minutes=_TABLE["window"]["minutes"])
_TIMES_MAX = 3.0
COMPARED_MAX = 500  # people whose names and addresses are compared, of those whom one person asked about


class Ways(NamedTuple):
    """Transactions by which people are looked up."""

    all: tuple[str, ...]
    founding: tuple[str, ...]  # those that want a basis
    by_id: tuple[str, ...]  # those that read a document by an id


class Counted(Value, frozen=True):
    """What one person asked about others within the window; the numbers are of different identifiers."""

    person: str
    name: str
    first: datetime
    last: datetime
    counts: Mapping[str, int]  # by signal


class Compared(NamedTuple):
    """What is compared of one record of a patient."""

    patient_key: int
    family: str
    addresses: Sequence[Address]


def alike(name: str, own: Sequence[Compared], asked: Sequence[Compared]) -> dict[str, int]:
    """Patients who share a surname or a home with who asked (``name``, ``own``), and who share one among themselves."""
    surname = {*names.family((name.split() or [""])[-1]).split()}
    namesakes = {each.patient_key for each in asked if surname & {*names.family(each.family).split()}}
    themself = {each.patient_key for each in own}
    living = {(place, each.patient_key) for each in asked for place in _places(each)}
    at_home = {place for each in own for place in _places(each)}
    neighbours = {key for place, key in living if place in at_home} - themself
    household = max(Counter(place for place, _ in living).values(), default=0)
    return {"namesakes": len(namesakes), "neighbours": len(neighbours), "household": household}


def _places(of: Compared) -> set[tuple[str, ...]]:
    """Homes that are told to the house and flat."""
    return {_place(home) for home in homes(of.addresses) if home.numbers}


def _place(home: Home) -> tuple[str, ...]:
    return (home.postal_code or home.city, home.street, *home.numbers)


class Unusual(NamedTuple):
    """Somebody whose look-ups an officer wants to see."""

    score: float
    signals: tuple[str, ...]  # that reached their number, the weightiest first
    counted: Counted


def unusual(counted: Iterable[Counted]) -> list[Unusual]:
    """Those of whom a signal has reached its number, the highest score first."""
    found = []
    for one in counted:
        weighed = {
            signal: row["weight"] * min(one.counts.get(signal, 0) / row["from"], _TIMES_MAX)
            for signal, row in _TABLE["signals"].items()
        }
        reached = [signal for signal, row in _TABLE["signals"].items() if one.counts.get(signal, 0) >= row["from"]]
        if reached:
            reached.sort(key=lambda signal: -weighed[signal])
            found.append(Unusual(round(sum(weighed.values()), 2), tuple(reached), one))
    return sorted(found, key=lambda each: (-each.score, each.counted.person))
