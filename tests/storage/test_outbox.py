"""The outbox on a real database: order, leases, replacement, dead letters, and what a killed sender leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import psycopg
import pytest

from obieg.actors.notifier import LEASE_S, PAUSE_S, SEND_TIME_S, Notifier, pause
from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.outbox import Letter, Outgoing
from obieg.domain.problems import Problem, RetryLater
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.storage.outbox_store import PostgresOutbox

A, B = "Szpital A", "Szpital B"


def outgoing(text: str, *, key: str = "", patient: int = 1, to: str = A) -> Outgoing:
    return Outgoing(transaction="ITI-10", destination=to, key=key, body=text.encode(), patient_key=patient)


def event(outcome: Outcome = Outcome.SUCCESS, detail: str = "") -> AuditEvent:
    return AuditEvent(transaction="ITI-10", event="patient_record_sent", outcome=outcome, detail=detail)


class Shelf:
    """The store with what a test needs beside it."""

    def __init__(self, dsn: str, database: Database) -> None:
        audit = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
        self.store = PostgresOutbox(database, audit)
        self.database = database
        self._dsn = dsn

    async def put(self, *messages: Outgoing) -> None:
        await self.database.run(*self.store.calls(messages))

    async def take(self, to: str = A, count: int = 8, lease_s: float = 60) -> list[str]:
        return [letter.body.decode() for letter in await self.store.take(to, count, lease_s)]

    def sql(self, statement: str) -> list[tuple]:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def due(self) -> None:
        """Time passes: leases end and pauses are over."""
        self.sql("UPDATE outbox SET next_attempt_at = now() - interval '1 s', leased_until = now() - interval '1 s'")

    def rows(self) -> list[tuple]:
        return self.sql("SELECT convert_from(body, 'UTF8'), state::text, attempts FROM outbox ORDER BY outbox_id")

    def audits(self) -> list[tuple]:
        return self.sql("SELECT outcome FROM audit_event ORDER BY audit_id")


@asynccontextmanager
async def shelf_of(dsn: str) -> AsyncIterator[Shelf]:
    database = Database(dsn, links=2)
    await database.open()
    try:
        yield Shelf(dsn, database)
    finally:
        database.close()


@pytest.fixture
async def shelf(database_dsn: str) -> AsyncIterator[Shelf]:
    async with shelf_of(database_dsn) as found:
        yield found


async def test_one_patient_in_order_and_others_meanwhile(shelf):
    await shelf.put(outgoing("1a"), outgoing("1b"), outgoing("2a", patient=2), outgoing("other", to=B))
    first = await shelf.store.take(A, 8, 60)
    assert [letter.body for letter in first] == [b"1a", b"2a"]
    assert await shelf.take() == []  # 1b waits for 1a, which is on its way
    await shelf.store.postpone(first[0], 60, "away")
    assert await shelf.take() == []  # and while 1a waits to be tried again
    shelf.due()
    [again, _] = await shelf.store.take(A, 8, 60)
    assert (again.control_id, again.body, again.attempts) == (first[0].control_id, b"1a", 2)
    assert again.last_error == "away"
    await shelf.store.delivered(again, event())
    assert await shelf.take() == ["1b"]
    assert await shelf.take(B) == ["other"]


async def test_no_key_of_a_patient_is_one_lane(shelf):
    await shelf.put(outgoing("first", patient=0), outgoing("second", patient=0))
    assert await shelf.take() == ["first"]
    assert await shelf.take() == []


async def test_newer_replaces_what_waits_and_what_died(shelf):
    await shelf.put(outgoing("old", key="k"), outgoing("kept", key="j"), outgoing("link"), outgoing("link"))
    await shelf.put(outgoing("new", key="k"), outgoing("elsewhere", key="k", to=B))
    assert [body for body, *_ in shelf.rows()] == ["kept", "link", "link", "new", "elsewhere"]
    [letter] = await shelf.store.take(A, 1, 60)
    assert letter.body == b"kept"
    await shelf.put(outgoing("newer", key="j"))  # kept is on its way: it may arrive, and newer comes after
    assert ("kept", "W", 1) in shelf.rows()
    await shelf.store.bury(letter, "refused", event(Outcome.SERIOUS_FAILURE))
    assert "kept" not in [body for body, *_ in shelf.rows()]  # old news is never sent after newer
    await shelf.put(outgoing("dies", key="d", patient=3))
    [*_, letter] = await shelf.store.take(A, 8, 60)
    assert letter.body == b"dies"
    await shelf.store.bury(letter, "refused", event(Outcome.SERIOUS_FAILURE))
    assert ("dies", "D", 1) in shelf.rows()
    await shelf.put(outgoing("lives", key="d", patient=3))
    assert "dies" not in [body for body, *_ in shelf.rows()]


async def test_postponed_gives_way_to_newer(shelf):
    await shelf.put(outgoing("old", key="k"))
    [letter] = await shelf.store.take(A, 8, 60)
    await shelf.put(outgoing("new", key="k"))
    await shelf.store.postpone(letter, 60, "away")
    assert shelf.rows() == [("new", "W", 0)]
    assert await shelf.take() == ["new"]


async def test_a_lease_that_ended_belongs_to_its_new_holder(shelf):
    await shelf.put(outgoing("x"))
    [slow] = await shelf.store.take(A, 8, 60)
    shelf.due()
    [second] = await shelf.store.take(A, 8, 60)
    for mark in (shelf.store.delivered(slow, event()), shelf.store.bury(slow, "refused", event())):
        with pytest.raises(RetryLater):
            await mark
    await shelf.store.postpone(slow, 0, "late")
    assert await shelf.take() == []  # the lease of the second one stands
    assert shelf.audits() == []
    await shelf.store.delivered(second, event())
    assert shelf.rows() == []
    assert shelf.audits() == [(0,)]


async def test_many_senders_never_hold_the_same_message(shelf, database_dsn):
    async with shelf_of(database_dsn) as other:
        await shelf.put(*(outgoing(f"{p}.{n}", patient=p) for p in range(40) for n in range(3)))
        sent: list[str] = []

        async def send(store: PostgresOutbox) -> None:
            while letters := await store.take(A, 7, 60):
                sent.extend(letter.body.decode() for letter in letters)
                await asyncio.sleep(0)
                for letter in letters:
                    await store.delivered(letter, event())

        while shelf.rows():
            await asyncio.gather(*(send(s.store) for s in (shelf, other) for _ in range(4)))
        assert len(sent) == len(set(sent)) == 120
        for patient in range(40):
            assert [s for s in sent if s.startswith(f"{patient}.")] == [f"{patient}.{n}" for n in range(3)]


class Answers:
    """A receiver that does what a test says; no network."""

    def __init__(self, *answers: BaseException | Callable | None) -> None:
        self._answers = list(answers)
        self.got: list[Letter] = []

    async def deliver(self, letter: Letter) -> None:
        self.got.append(letter)
        answer = self._answers.pop(0) if self._answers else None
        if callable(answer):
            await answer()
        elif answer is not None:
            raise answer

    def audit(self, letter: Letter, outcome: Outcome, detail: str = "") -> AuditEvent:
        return event(outcome, detail)


async def test_what_becomes_of_a_message(shelf):
    refused = Problem.of("NotificationRefused", "no such patient")
    away = RetryLater("nobody listens")

    async def silence() -> None:
        await asyncio.sleep(30)

    receiver = Answers(None, refused, away, silence)
    notifier = Notifier(shelf.store, {A: receiver}, send_time_s=0.2)
    await shelf.put(*(outgoing(name, patient=n) for n, name in enumerate(("taken", "bad", "away", "silent"), 1)))
    assert await notifier.send(A) == (4, False)
    assert shelf.rows() == [("bad", "D", 1), ("away", "W", 1), ("silent", "W", 1)]
    assert sorted(shelf.audits()) == [(0,), (8,)]
    errors = dict(shelf.sql("SELECT convert_from(body, 'UTF8'), last_error FROM outbox"))
    assert errors["bad"] == "NotificationRefused: no such patient"
    assert errors["away"] == "nobody listens"
    assert "no answer" in errors["silent"]
    pauses = "SELECT extract(epoch FROM next_attempt_at - created_at) FROM outbox WHERE state = 'W'"
    assert all(seconds > PAUSE_S[0] / 2 for (seconds,) in shelf.sql(pauses))
    shelf.due()
    assert await notifier.send(A) == (2, True)
    assert shelf.rows() == [("bad", "D", 1)]  # a dead letter stays dead
    first, again = (letter.control_id for letter in receiver.got if letter.body == b"away")
    assert first == again
    assert len({letter.control_id for letter in receiver.got}) == 4
    assert all(len(letter.control_id) <= 20 for letter in receiver.got)


async def test_waiting_too_long_ends(shelf):
    await shelf.put(outgoing("old"), outgoing("gone", to=B), outgoing("young", patient=2))
    shelf.sql("UPDATE outbox SET since = now() - interval '8 days', last_error = 'x' WHERE body <> 'young'")
    notifier = Notifier(shelf.store, {A: Answers()})  # B is not in the settings any more
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(notifier.expire(), 1)
    assert [(body, state) for body, state, _ in shelf.rows()] == [("old", "D"), ("gone", "D"), ("young", "W")]
    assert shelf.audits() == [(8,)]
    found = {b.destination: (b.waiting, b.dead) for b in await shelf.store.backlog()}
    assert found == {A: (1, 1), B: (0, 1)}


async def test_the_loop_goes_on_without_the_database(shelf):
    class Away(PostgresOutbox):
        tries = 0

        async def take(self, *args):
            Away.tries += 1
            if Away.tries == 1:
                raise RetryLater("away")
            return await super().take(*args)

    await shelf.put(outgoing("x"))
    shelf.store.__class__ = Away
    receiver = Answers()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Notifier(shelf.store, {A: receiver}).serve(A), 2)
    assert [letter.body for letter in receiver.got] == [b"x"]


def test_pauses_grow_and_differ():
    pauses = [[pause(n) for _ in range(50)] for n in range(1, 40)]
    assert all(PAUSE_S[0] / 2 <= p <= PAUSE_S[0] for p in pauses[0])
    assert all(p <= PAUSE_S[1] for many in pauses for p in many)
    assert min(pauses[-1]) >= PAUSE_S[1] / 2
    assert all(len(set(many)) > 1 for many in pauses)


def test_a_sender_gives_up_before_its_lease_ends():
    assert SEND_TIME_S < LEASE_S / 1.5
