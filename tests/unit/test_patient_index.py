"""The patient index when others are faster; its rules on a real database are in tests/node/test_patient_feed.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from obieg.actors.patient_index import ATTEMPTS_MAX, PatientIndex, new_affinity_domain_id, new_patient_key
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import FeedEvent, PatientFeed, Standing
from obieg.domain.problems import RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.requester import Requester
from obieg.protocol import Context
from obieg.transactions.iti08_patient_identity_feed import TRANSACTION

PERSON = PatientId("1", "1.2.3")
FEED = PatientFeed(event=FeedEvent.REGISTER, identifiers=(PERSON,))


class ContendedStore:
    """Somebody else registers the patient between our read and our write, ``losses`` times."""

    def __init__(self, losses: int) -> None:
        self.losses = losses
        self.written: list[str] = []

    async def standing(self, identifiers: Sequence[PatientId]) -> Mapping[PatientId, Standing]:
        return {PERSON: Standing(patient_key=7, affinity_domain_id="A")} if self.written else {}

    async def _write(self, what: str) -> None:
        self.written.append(what)
        self.losses -= 1
        if self.losses >= 0:
            raise LostRace(what)

    async def create(self, **_: Any) -> None:
        await self._write("create")

    async def update(self, **_: Any) -> None:
        await self._write("update")

    async def merge(self, **_: Any) -> None:
        await self._write("merge")

    async def record(self, event: Any) -> None:
        await self._write("record")


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
    index = PatientIndex(store, assigning_authority="1.2.616")
    assert await index.feed(FEED, asked) == PatientId("A", "1.2.616")
    assert store.written == ["create", "update"]
    assert asked.audited
    assert [o.identifier for o in asked.objects] == ["A^^^&1.2.616&ISO", "1^^^&1.2.3&ISO"]


async def test_nobody_waits_for_ever() -> None:
    store, asked = ContendedStore(99), context()
    with pytest.raises(RetryLater):
        await PatientIndex(store, assigning_authority="1.2.616").feed(FEED, asked)
    assert len(store.written) == ATTEMPTS_MAX
    assert not asked.audited


def test_what_is_made_up_is_random() -> None:
    assert len({new_affinity_domain_id() for _ in range(100)}) == 100
    assert all(len(new_affinity_domain_id()) == 20 for _ in range(100))
    assert all(0 < new_patient_key() < 2**63 for _ in range(100))
