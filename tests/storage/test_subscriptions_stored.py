"""The broker on a real database: whose a subscription is, what its receiver's silence means, and where nothing is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from obieg.actors.notification_broker import ResourceNotificationBroker
from obieg.actors.notifier import Notifier
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.queries import SEARCHES, DocumentSearch
from obieg.domain.requester import Requester
from obieg.domain.subscriptions import DAYS_MAX, KEPT_OFF, SubscriptionDraft, SubscriptionSearch
from obieg.edges.clients import SubscriberHooks
from obieg.protocol import Context
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.storage.outbox_store import PostgresOutbox
from obieg.storage.subscription_store import PostgresSubscriptions
from obieg.transactions import NOTIFICATIONS, TRANSACTIONS

ITI_110 = next(t for t in TRANSACTIONS if t.id == "ITI-110")
ENTRY = "6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0"


class Registry:
    """What the broker needs of one; documents are no matter here."""

    assigning_authority = "1.2.616.1"

    def with_schemes(self, search: DocumentSearch) -> dict[str, Any]:
        return dict(search.parameters)

    async def resources(self, _kind: str, _uuids: Sequence[str]) -> tuple[Any, ...]:
        return ()


class Receiver:
    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[Any] = []

    async def post(self, _address: str, _headers: Any, body: bytes) -> int:
        if self.status == 0:
            raise RetryLater("nobody answers")
        if self.status == 200:
            self.bodies.append(json.loads(body))
        return self.status

    def numbers(self) -> list[str]:
        found = []
        for body in self.bodies:
            for parameter in body["entry"][0]["resource"]["parameter"]:
                if parameter["name"] == "notification-event":
                    found.append(parameter["part"][0]["valueString"])
        return found


class Shelf:
    def __init__(self, dsn: str, database: Database) -> None:
        audit = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
        self.dsn = dsn
        self.receiver = Receiver()
        self.outbox = PostgresOutbox(database, audit)
        self.store = PostgresSubscriptions(database, audit, self.outbox)
        self.broker = self.built(anywhere=True)
        self.notifier = Notifier(self.outbox, {}, subscribed=self.broker)

    def built(self, *, anywhere: bool) -> ResourceNotificationBroker:
        ids = (f"00000000-0000-4000-8000-{n:012}" for n in range(1, 100))
        return ResourceNotificationBroker(
            self.store, Registry(), self.receiver, next(n for n in NOTIFICATIONS if n.id == "ITI-112"),
            codes=AffinityDomain(frozenset(), {}), sender=("1.2.3", "node"), anywhere=anywhere, new_uuid=lambda: next(ids),
        )  # type: ignore[arg-type]  # fmt: skip

    def sql(self, statement: str, *values: Any) -> list[tuple]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    async def pass_on(self, *, until: str) -> None:
        """Sends for as long as something is due."""
        task = asyncio.create_task(self.notifier.serve_subscriptions())
        try:
            for _ in range(200):
                await asyncio.sleep(0.05)
                if self.sql(until) == [(True,)]:
                    return
            raise AssertionError(self.sql("SELECT status, error FROM subscription"))
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def happens(self) -> None:
        self.sql(
            "INSERT INTO outbox (patient_key, destination, transaction, key, body)"
            " SELECT patient_key, 'subscription:' || subscription_id, 'ITI-112', '',"
            f" obieg_notice('create', 'D', '{ENTRY}', patient_key, endpoint) FROM subscription"
        )


@pytest.fixture
async def shelf(database_dsn: str) -> AsyncIterator[Shelf]:
    database = Database(database_dsn, links=2)
    await database.open()
    try:
        yield Shelf(database_dsn, database)
    finally:
        database.close()


def context(system: str = "szpital", person: str = "") -> Context:
    return Context(
        transaction=ITI_110,
        requester=Requester(system=system, person=person),
        request_id="r",
        received_at=datetime.now(UTC),
    )


def draft(endpoint: str = "https://his.example/hook", **changes: Any) -> SubscriptionDraft:
    given: dict[str, Any] = {
        "topic": "t", "kind": "D", "events": ("create",), "payload": "application/fhir+json", "content": "id-only",
        "search": DocumentSearch(question="search_documents", parameters=SEARCHES["search_documents"], count=1),
        "criteria": "", "base": "http://node/fhir",
        "resource": b'{"reason": "x", "criteria": "t", "channel": {"type": "rest-hook"}}',
    }  # fmt: skip
    return SubscriptionDraft(endpoint=endpoint, **{**given, **changes})


ACTIVE = "SELECT bool_and(status = 'active') FROM subscription"


@pytest.mark.parametrize("other", [("przychodnia", "1.2#3"), ("szpital", "1.2#4"), ("szpital", "")])
async def test_only_who_made_it_sees_and_changes_it(shelf, other):
    """The person in a system; whoever else asks is told what is told of one that does not exist."""
    whose = ("szpital", "1.2#3")
    made = await shelf.broker.create(draft(), context(*whose))
    for id_ in (made.id, ENTRY):
        for refused in (
            shelf.broker.read(id_, context(*other)),
            shelf.broker.end(id_, "", context(*other)),
            shelf.broker.end(id_, "7", context(*other)),
            shelf.broker.delete(id_, "", context(*other)),
            shelf.broker.events(id_, (1, 9), "", context(*other)),
        ):
            with pytest.raises(Problem) as raised:
                await refused
            [finding] = raised.value.findings
            assert finding[:2] == ("AddressNotFound", "no subscription has this id, or none that this caller has made")
            assert finding.reason == ("it is another's" if id_ == made.id else ""), "the audit tells"
    assert await shelf.broker.find(SubscriptionSearch(), context(*other)) == ([], 0)
    found, total = await shelf.broker.find(SubscriptionSearch(), context(*whose))
    assert ([s.id for s in found], total) == ([made.id], 1)
    assert shelf.sql("SELECT status FROM subscription") == [("requested",)]


async def test_the_end_is_bounded(shelf):
    made = await shelf.broker.create(draft(end=datetime.now(UTC) + 10 * DAYS_MAX), context())
    assert made.end - datetime.now(UTC) <= DAYS_MAX
    near = datetime.now(UTC) + timedelta(days=3)
    assert abs((await shelf.broker.create(draft(end=near), context())).end - near) < timedelta(seconds=1)


async def test_silence_beyond_the_deadline_is_an_error_and_an_operator_can_mend_it(shelf):
    await shelf.broker.create(draft(), context())
    await shelf.pass_on(until=ACTIVE)
    shelf.receiver.status = 0
    shelf.happens()
    shelf.happens()
    await shelf.pass_on(until="SELECT count(*) = 1 FROM outbox WHERE last_error <> ''")
    shelf.sql("UPDATE outbox SET since = now() - interval '8 days', leased_until = NULL WHERE attempts > 0")
    task = asyncio.create_task(shelf.notifier.expire())
    for _ in range(100):
        await asyncio.sleep(0.05)
        if shelf.sql("SELECT status FROM subscription") == [("error",)]:
            break
    task.cancel()
    [(status, error)] = shelf.sql("SELECT status, error FROM subscription")
    assert status == "error"
    assert "not delivered within 7 days" in error
    assert shelf.sql("SELECT state::text FROM outbox") == [("D",), ("D",)]
    # The receiver runs again: obieg outbox retry.
    shelf.receiver.status = 200
    shelf.sql("UPDATE outbox SET state = 'W', since = now(), next_attempt_at = now()")
    await shelf.pass_on(until="SELECT count(*) = 0 FROM outbox")
    assert shelf.sql("SELECT status, error FROM subscription") == [("active", "")]
    assert shelf.receiver.numbers() == ["1", "2"]


async def test_a_letter_keeps_its_number_however_often_it_is_sent(shelf):
    await shelf.broker.create(draft(), context())
    await shelf.pass_on(until=ACTIVE)
    shelf.happens()
    [letter] = await shelf.outbox.take_subscribed(8, 60)
    await shelf.broker.deliver(letter)
    await shelf.broker.deliver(letter)  # its sender was killed before it could mark it
    assert shelf.receiver.numbers() == ["1", "1"]


async def test_one_slow_receiver_does_not_hold_up_the_others(shelf):
    await shelf.broker.create(draft("https://slow.example/"), context())
    await shelf.broker.create(draft(), context())
    await shelf.pass_on(until=ACTIVE)
    never = asyncio.Event()
    told: list[str] = []

    async def post(address: str, _headers: Any, _body: bytes) -> int:
        if "slow" in address:
            await never.wait()
        told.append(address)
        return 200

    shelf.receiver.post = post  # type: ignore[method-assign]
    for _ in range(5):
        shelf.happens()
    await shelf.pass_on(until="SELECT count(*) = 5 FROM outbox")
    assert told == ["https://his.example/hook"] * 5


@pytest.mark.parametrize(
    "endpoint",
    [
        "file:///etc/passwd", "ftp://his.example/", "http://his.example/", "https://", "https://127.0.0.1/", "//x",
        "https://localhost/", "https://10.1.2.3/hook", "https://[::1]/", "https://[::ffff:192.168.1.1]/",
        "https://169.254.169.254/latest/meta-data", "https://a@his.example/", "https://his.example/#x", "https://[x/",
        "https://his.example:99999/", "https://his .example/",
    ],
)  # fmt: skip
async def test_an_endpoint_outside_the_laboratory_is_public(shelf, endpoint):
    with pytest.raises(Problem) as refused:
        await shelf.built(anywhere=False).create(draft(endpoint), context())
    assert {f.location for f in refused.value.findings} == {"Subscription.channel.endpoint"}
    assert shelf.sql("SELECT count(*) FROM outbox") == [(0,)]


async def test_a_name_that_means_this_machine_is_sent_nothing(monkeypatch):
    hooks = SubscriberHooks(anywhere=False)
    asked = []

    async def looked_up(_self: Any, host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("93.184.216.34", 443)), (2, 1, 6, "", ("127.0.0.1", 443))]

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", looked_up, raising=False)
    with pytest.raises(RetryLater, match=r"127\.0\.0\.1 is of this machine"):
        await hooks.post("https://rebound.example/hook", [], b"{}")
    assert asked == ["rebound.example"]
    with pytest.raises(Problem):
        await hooks.post("http://rebound.example/hook", [], b"{}")
    await hooks.close()


async def test_a_letter_that_cannot_be_read_is_a_dead_letter(shelf):
    await shelf.broker.create(draft(), context())
    await shelf.pass_on(until=ACTIVE)
    shelf.happens()
    shelf.sql("UPDATE outbox SET body = 'x'::bytea")
    await shelf.pass_on(until="SELECT bool_and(state = 'D') FROM outbox")
    assert shelf.sql("SELECT status FROM subscription") == [("error",)]


async def test_what_is_off_is_removed_after_a_time(shelf):
    """Together with what it was told; one that still runs, or has only just ended, stays."""
    old = await shelf.broker.create(draft(), context())
    await shelf.pass_on(until=ACTIVE)
    shelf.happens()
    await shelf.pass_on(until="SELECT count(*) = 1 FROM subscription_event")
    recent = await shelf.broker.create(draft(), context())
    running = await shelf.broker.create(draft(), context())
    for made in (old, recent):
        await shelf.broker.end(made.id, "", context())
    longer, shorter = KEPT_OFF + timedelta(minutes=1), KEPT_OFF - timedelta(minutes=1)
    for made, ago in ((old, longer), (recent, shorter), (running, longer)):
        shelf.sql("UPDATE subscription SET updated_at = now() - %s::interval WHERE subscription_id = %s", ago, made.id)
    await shelf.broker.end_all()
    left = shelf.sql("SELECT subscription_id::text, status FROM subscription ORDER BY 1")
    assert left == [(recent.id, "off"), (running.id, "requested")]
    assert shelf.sql("SELECT count(*) FROM subscription_event") == [(0,)]
    with pytest.raises(Problem):
        await shelf.broker.read(old.id, context())
