"""What may be kept of a decision: until when, and for whom the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis
import msgspec
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from random_worlds import requesters, worlds

from obieg.domain.access import Act, Period, asks_as, decide, next_change
from obieg.domain.requester import Requester

WARSAW = ZoneInfo("Europe/Warsaw")
NOW = datetime(2026, 3, 10, 0, 30, tzinfo=WARSAW)
quick = hypothesis.settings(deadline=None, max_examples=500, suppress_health_check=list(HealthCheck))


def _periods(value: Any) -> list[Period]:
    """All that stand anywhere in a value, wherever somebody may add one."""
    if isinstance(value, Period):
        return [value]
    parts = (
        value
        if isinstance(value, tuple)
        else [getattr(value, name) for name in getattr(value, "__struct_fields__", ())]
    )
    return [period for part in parts for period in _periods(part)]


@quick
@given(world=worlds(NOW), later=st.timedeltas(timedelta(0), timedelta(days=2)))
def test_it_is_the_next_of_all_moments(world: Any, later: timedelta) -> None:
    at = (NOW.astimezone(UTC) + later).astimezone(WARSAW)
    moments = [m for period in _periods(world) for m in (period.begin, period.end) if m is not None and m > at]
    midnight = (at + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert next_change(world, at) == min([midnight, *moments])


@quick
@given(world=worlds(NOW), who=requesters, part=st.floats(0, 1))
def test_until_then_the_decision_is_the_same(world: Any, who: Requester, part: float) -> None:
    until = next_change(world, NOW)
    later = (NOW.astimezone(UTC) + (until - NOW) * part).astimezone(WARSAW)
    for moment in (later, (until - timedelta(microseconds=1)).astimezone(WARSAW)):
        if NOW <= moment < until:
            assert decide(who, world, Act.READ, moment) == decide(who, world, Act.READ, NOW)


@quick
@given(world=worlds(NOW), who=requesters)
def test_who_is_the_same_to_a_question_is_decided_alike(world: Any, who: Requester) -> None:
    other = Requester(
        system="another", address="a", issuer="i", person_name="n", assurance="x", token="t", until=NOW, remark="r",
        logged_in_at=NOW, scopes=("s",) if who.scopes is None else None, repositories=None,
        **{name: getattr(who, name) for name in _DECIDED_BY},
    )  # fmt: skip
    assert asks_as(other) == asks_as(who)
    assert decide(other, world, Act.READ, NOW) == decide(who, world, Act.READ, NOW)


_DECIDED_BY = (
    "person", "role", "organisation", "child_organisation", "purpose_of_use", "acting_for", "patient", "proof",
)  # fmt: skip


def test_whoever_differs_in_anything_that_counts_asks_another_question() -> None:
    who = Requester("s", **dict.fromkeys(_DECIDED_BY, "one"))
    others = [msgspec.structs.replace(who, **{name: "other"}) for name in _DECIDED_BY]
    assert len({asks_as(one) for one in (who, *others)}) == 1 + len(_DECIDED_BY)
