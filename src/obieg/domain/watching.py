"""Unusual look-ups: what people asked within a window, counted, becomes a score by the table of codes/watching.toml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from obieg.codes.load import toml
from obieg.domain.documents import Value

_TABLE = toml("watching.toml")
SIGNALS: Mapping[str, Mapping[str, object]] = _TABLE["signals"]
WINDOW = timedelta(minutes=_TABLE["window"]["minutes"])
_TIMES_MAX = 3.0


class Counted(Value, frozen=True):
    """What one person asked about others within the window; the numbers are of different identifiers."""

    person: str
    name: str
    first: datetime
    last: datetime
    counts: Mapping[str, int]  # by signal


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
