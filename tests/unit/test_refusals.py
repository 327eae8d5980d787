"""What is recorded of callers that are told to come back: that they were, and how often, but not each time."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from test_fhir_interactions import STORE, peer

from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.problems import Problem, RetryLater
from obieg.edges.refusals import CALLERS_MAX, NOT_NOW, Refusals

BUSY = AuditEvent(
    "ITI-18", "query", Outcome.MINOR_FAILURE, "XDSRegistryBusy", "r1", objects=(AuditObject("patient", "1"),)
)


class Kept:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def __call__(self, event: AuditEvent) -> None:
        self.events.append(event)


async def test_the_first_is_recorded_at_once_and_the_others_are_counted() -> None:
    kept = Kept()
    counted = Refusals(kept, period_s=0.05)
    for _ in range(5):
        await counted.refused("a", BUSY)
    assert kept.events == [BUSY], "before it is answered"
    await asyncio.sleep(0.1)
    assert [e.detail for e in kept.events] == ["XDSRegistryBusy", "XDSRegistryBusy; 4 more within 60 s"]
    assert (kept.events[1].objects, kept.events[1].request_id) == ((), "")
    await counted.refused("a", BUSY)
    assert kept.events[2:] == [BUSY], "a new period"
    await asyncio.sleep(0.1)
    assert len(kept.events) == 3, "nothing more is said of one"


async def test_callers_transactions_and_reasons_are_told_apart() -> None:
    kept = Kept()
    counted = Refusals(kept)
    other = AuditEvent("ITI-43", "query", Outcome.MINOR_FAILURE, "XDSRepositoryBusy")
    throttled = AuditEvent("ITI-18", "query", Outcome.MINOR_FAILURE, "TooManyRequests")
    for caller, event in [("a", BUSY), ("b", BUSY), ("a", other), ("a", throttled)] * 2:
        await counted.refused(caller, event)
    assert kept.events == [BUSY, BUSY, other, throttled]
    await counted.close()
    assert sorted(e.detail for e in kept.events[4:]) == sorted(
        f"{e.detail}; 1 more within 60 s" for e in (BUSY, BUSY, other, throttled)
    )


async def test_many_callers_share_their_records() -> None:
    kept = Kept()
    counted = Refusals(kept)
    for number in range(CALLERS_MAX + 50):
        await counted.refused(f"10.0.{number}", BUSY)
    assert len(kept.events) == CALLERS_MAX + 1
    await counted.close()
    assert kept.events[-1].detail == "XDSRegistryBusy; 49 more within 60 s, of several callers"
    assert len(kept.events) == CALLERS_MAX + 2


class Refusing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def authenticate(self, _credentials: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RetryLater("the database is away"), 503, "XDSRegistryBusy"),
        (Problem.of("TooManyRequests", "wait"), 429, "TooManyRequests"),
    ],
)
async def test_an_edge_records_them(error: Exception, status: int, code: str) -> None:
    asked = peer(authenticator=Refusing(error))
    answers: list[httpx.Response] = [await asked("GET", "/fhir/Patient") for _ in range(20)]
    assert {a.status_code for a in answers} == {status}
    [event] = asked.records.events
    assert (event.transaction, event.detail, event.source_address) == (STORE.id, code, "127.0.0.1")
    assert event.outcome is not Outcome.SUCCESS


async def test_what_says_more_is_recorded_each_time() -> None:
    asked = peer(authenticator=Refusing(Problem.of("AuthenticationFailed", "nobody")))
    for _ in range(3):
        await asked("GET", "/fhir/Patient")
    assert [e.detail for e in asked.records.events] == ["AuthenticationFailed"] * 3


def test_codes_are_in_the_table() -> None:
    assert set(toml("problems.toml")) >= NOT_NOW
