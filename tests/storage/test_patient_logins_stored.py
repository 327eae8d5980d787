"""Log-ins and sessions of patients on a real database: once, for this browser, and while they are used."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest

from obieg.actors.patient_sessions import PatientSessions
from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.patient_login import PatientSession, PendingLogin, ProvedPatient
from obieg.domain.registry import LostRace
from obieg.domain.requester import Spent
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.storage.login_store import PostgresLogins

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
IDLE, SEEN = timedelta(minutes=15), timedelta(minutes=1)
EVENT = AuditEvent("login", "user_authentication", Outcome.SUCCESS)
PATIENT = ProvedPatient(
    "85031448243", "Łęcka", "Zofia", date(1985, 3, 14), "node.test", "http://eidas.europa.eu/LoA/low", "n", "i"
)


@pytest.fixture
async def store(database_dsn: str) -> AsyncIterator[PostgresLogins]:
    database = Database(database_dsn, links=3)
    await database.open()
    yield PostgresLogins(database, AuditStore(database, source_id="test", names={}, now=lambda: NOW))
    database.close()


def pending(state: str, until: datetime = NOW + timedelta(minutes=10)) -> PendingLogin:
    return PendingLogin(state, "browser", "ID-1", "/moje", NOW, until)


def session(patient: ProvedPatient = PATIENT, **changes: datetime) -> PatientSession:
    times = {"started_at": NOW, "until": NOW + timedelta(hours=2), **changes}
    return PatientSession(str(uuid.uuid4()), patient, "192.0.2.7", "Firefox/1", seen_at=times["started_at"], **times)


def spent(name: str) -> tuple[Spent, ...]:
    return tuple(Spent(kind, "node.test", name, NOW + timedelta(days=1)) for kind in ("artifact", "response"))


async def test_a_login_is_taken_once_by_its_browser(store: PostgresLogins) -> None:
    one = pending("a")
    await store.begin(one)
    assert await store.take("a", "another", NOW) is None
    taken = await asyncio.gather(*(store.take("a", "browser", NOW) for _ in range(6)))
    assert [t for t in taken if t] == [one]
    await store.begin(pending("b"))
    assert await store.take("b", "browser", NOW + timedelta(minutes=10)) is None


async def test_what_is_over_is_forgotten(store: PostgresLogins) -> None:
    await store.begin(pending("old", NOW - timedelta(seconds=1)))
    await store.begin(pending("new"))
    assert await store.take("old", "browser", NOW - timedelta(minutes=1)) is None


async def test_what_was_shown_is_spent_with_all_that_belongs_to_it(store: PostgresLogins) -> None:
    results = await asyncio.gather(
        *(store.log_in(session(), bytes([n]) * 32, spent("x"), EVENT) for n in range(6)), return_exceptions=True
    )
    assert sorted(type(r).__name__ for r in results) == ["LostRace"] * 5 + ["NoneType"]
    assert len(await store.sessions(PATIENT.pesel, NOW, IDLE)) == 1
    # One of them is enough.
    (artifact, _), (_, response) = spent("y"), spent("x")
    with pytest.raises(LostRace):
        await store.log_in(session(), b"z" * 32, (artifact, response), EVENT)
    await store.log_in(session(), b"z" * 32, (artifact,), EVENT)


async def test_a_session_holds_while_it_is_used(store: PostgresLogins) -> None:
    one, token = session(), b"t" * 32
    await store.log_in(one, token, (), EVENT)
    assert await store.session(b"u" * 32, NOW, IDLE, SEEN) is None
    for minutes in (0, 14, 28, 42, 56, 70, 84, 98, 112):
        found = await store.session(token, NOW + timedelta(minutes=minutes), IDLE, SEEN)
        assert found is not None
        assert (found.session_id, found.patient, found.agent) == (one.session_id, PATIENT, "Firefox/1")
    assert await store.session(token, NOW + timedelta(minutes=120), IDLE, SEEN) is None  # the longest
    other = session()
    await store.log_in(other, b"o" * 32, (), EVENT)
    assert await store.session(b"o" * 32, NOW + timedelta(minutes=15), IDLE, SEEN) is None
    [left] = await store.sessions(PATIENT.pesel, NOW + timedelta(minutes=15), IDLE)
    assert (left.session_id, left.seen_at) == (one.session_id, NOW + timedelta(minutes=112))


async def test_a_session_is_ended_by_its_patient(store: PostgresLogins) -> None:
    one, token = session(), b"t" * 32
    await store.log_in(one, token, (), EVENT)
    assert not await store.end(one.session_id, "49040529461", EVENT)
    assert await store.session(token, NOW, IDLE, SEEN) == one
    assert await store.end(one.session_id, PATIENT.pesel, EVENT)
    assert not await store.end(one.session_id, PATIENT.pesel, EVENT)
    assert await store.session(token, NOW, IDLE, SEEN) is None


async def test_an_operator_sees_and_ends_those_of_everybody(store: PostgresLogins) -> None:
    other = msgspec.structs.replace(PATIENT, pesel="49040529461", family_name="Nowak")
    first, second = session(), session(other, started_at=NOW + timedelta(minutes=1))
    for one, token in ((first, b"1" * 32), (second, b"2" * 32)):
        await store.log_in(one, token, (), EVENT)
    sessions = PatientSessions(store, secure=True, now=lambda: NOW + timedelta(minutes=2))
    assert [each.session_id for each in await sessions.listed()] == [second.session_id, first.session_id]
    assert [each.session_id for each in await sessions.listed(first)] == [first.session_id]
    assert not await sessions.revoke(str(uuid.uuid4()), "operator")
    assert not await sessions.revoke("x", "operator")
    assert await sessions.revoke(second.session_id, "operator")
    assert not await sessions.revoke(second.session_id, "operator")
    assert await store.session(b"2" * 32, NOW, IDLE, SEEN) is None
    assert [each.session_id for each in await sessions.listed()] == [first.session_id]
