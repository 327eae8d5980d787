"""What makes look-ups unusual."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from obieg.domain.watching import SIGNALS, Counted, unusual

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def counted(person: str = "1.2#1", **counts: int) -> Counted:
    return Counted(person, "", NOW, NOW, counts)


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_signal_begins_with_its_number(signal: str) -> None:
    start = int(str(SIGNALS[signal]["from"]))
    [found] = unusual([counted(**{signal: start})])
    assert (found.signals, found.score) == ((signal,), SIGNALS[signal]["weight"])
    assert unusual([counted(**{signal: start - 1})]) == []


def test_a_score_adds_up_and_ends() -> None:
    [found] = unusual([counted(patients=30, missing=5, namesakes=1)])
    assert found.signals == ("missing", "namesakes")
    assert found.score == 0.5 + 2.0 + 1.0
    [many] = unusual([counted(missing=1_000_000)])
    assert many.score == 3 * 2.0


def test_the_highest_score_comes_first() -> None:
    some = [counted("1.2#1", namesakes=1), counted("1.2#2", missing=20), counted("1.2#3", namesakes=1)]
    assert [each.counted.person for each in unusual(some)] == ["1.2#2", "1.2#1", "1.2#3"]


def test_all_signals_are_told_in_both_languages() -> None:
    assert all(row["pl"] and row["en"] and row["uk"] for row in SIGNALS.values())
