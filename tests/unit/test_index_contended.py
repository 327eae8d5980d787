"""The patient index when others are faster; its rules on a real database are in tests/node/test_patient_index.py."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from obieg.actors import patient_index
from obieg.actors.patient_index import ATTEMPTS_MAX, PatientIndex, new_affinity_domain_id, new_patient_key
from obieg.domain.authorities import Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.linkage import LinkageMatcher
from obieg.domain.matching import Record
from obieg.domain.notices import Subscribers
from obieg.domain.patient_index import Change, Facts, KnownRecord
from obieg.domain.patients import FeedEvent, PatientFeed, Standing
from obieg.domain.problems import RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.requester import Requester
from obieg.protocol import Context
from obieg.transactions.iti08_patient_identity_feed import TRANSACTION

PERSON = PatientId("1", "1.2.3")
FEED = PatientFeed(event=FeedEvent.REGISTER, identifiers=(PERSON,))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class ContendedStore:
    """Somebody else registers the patient between our read and our write, ``losses`` times."""

    def __init__(self, losses: int) -> None:
        self.losses = losses
        self.written: list[str] = []

    async def facts(self, identifiers: Sequence[PatientId], blocks: Sequence[int]) -> Facts:
        if not self.written:
            return Facts({}, (), (), 0, frozenset())
        known = KnownRecord(7, 7, "A", 1, 1, "", Record((PERSON,)), (), NOW)
        return Facts({PERSON: Standing(patient_key=7, affinity_domain_id="A")}, (known,), (), 0, frozenset())

    async def _write(self, what: str) -> None:
        self.written.append(what)
        self.losses -= 1
        if self.losses >= 0:
            raise LostRace(what)

    async def store(self, change: Change, event: Any) -> None:
        await self._write("store")

    async def record(self, event: Any) -> None:
        await self._write("record")


def index(store: Any) -> PatientIndex:
    return PatientIndex(
        store,
        assigning_authority="1.2.616",
        matcher=LinkageMatcher(),
        authorities=Authorities(),
        subscribers=Subscribers(),
    )


def context() -> Context:
    return Context(
        transaction=TRANSACTION,
        requester=Requester(system="test"),
        request_id="r",
        received_at=datetime.now(UTC),
        objects=TRANSACTION.audit(FEED),
    )


async def test_a_lost_race_is_decided_again() -> None:
    store, asked = ContendedStore(1), context()
    assert await index(store).feed(FEED, asked) == PatientId("A", "1.2.616")
    assert store.written == ["store", "record"]
    assert asked.audited
    assert [o.identifier for o in asked.objects] == ["A^^^&1.2.616&ISO", "1^^^&1.2.3&ISO"]


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_index, "PAUSE_MS", 1)
    store, asked = ContendedStore(99), context()
    with pytest.raises(RetryLater):
        await index(store).feed(FEED, asked)
    assert len(store.written) == ATTEMPTS_MAX
    assert not asked.audited


def test_what_is_made_up_is_random() -> None:
    assert len({new_affinity_domain_id() for _ in range(100)}) == 100
    assert all(len(new_affinity_domain_id()) == 20 for _ in range(100))
    assert all(0 < new_patient_key() < 2**63 for _ in range(100))
