"""The benchmarks: for each its request, its reference and what is asked of their ratio."""

from __future__ import annotations

import itertools
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

from bench import append, load, machine, messages, people, reference, secured, sockets
from bench.dataset import ENTRIES_PER_PATIENT, FIRST_NUMBER, FIRST_WITH_DOCUMENTS, FIRST_WITHOUT, PATIENTS_WITHOUT
from bench.load import Load, Measured
from bench.messages import Identity, Message
from bench.node import Node
from bench.people import NEWCOMERS, PESEL, Announced
from bench.recorder import named, recorder, value_of
from bench.reference import Script

_WITHOUT = (FIRST_WITHOUT, FIRST_WITHOUT + PATIENTS_WITHOUT - 1)
_NEW_NUMBERS = (5 * 10**17, 10**18 - 1)  # of documents that pgbench registers
_ENTRIES_DRAWN = 5_000  # documents that a load by entryUUID asks for
_RECORDED_NUMBER = 4 * 10**17
_CHECK_TRANSACTIONS = 20  # of each client, when the reference's own work is counted


@dataclass(frozen=True)
class Site:
    """Where a row is measured."""

    node: Node
    size: int  # entries, and people

    @property
    def folder(self) -> Path:
        return self.node.folder


@dataclass(frozen=True)
class Bench(ABC):
    """What can be sent to a node and measured."""

    name: str
    what: str

    holds = "entries"  # what the node must hold
    secured = False  # whether the node wants proof of who asks

    @abstractmethod
    def send(self, site: Site, seconds: float, *, seed: int, check: bool, connections: int) -> Measured:
        """One run of the load; raises RuntimeError when an answer is not what it should be."""


@dataclass(frozen=True)
class ReferencedBench(Bench):
    """One row of the table that has PostgreSQL's own speed beside it."""

    least: float
    aim: float
    stored: dict[str, int]  # table -> rows that one request adds

    read: dict[str, int] = field(
        default_factory=dict, kw_only=True
    )  # table -> rows that one request fetches, where that is the point
    appends: bool = field(default=False, kw_only=True)  # the reference is bench/append.py

    @abstractmethod
    async def script(self, site: Site) -> Script:
        """What pgbench runs: the batches of one real request."""

    @abstractmethod
    def request_bytes(self, identity: Identity) -> int:
        """How long the message of one request is."""


@dataclass(frozen=True)
class SoapBench(ReferencedBench):
    """A row of the document transactions; the load is wrk."""

    message: Callable[[Identity], Message] = field(kw_only=True)
    expected: str = field(default="RegistryResponse", kw_only=True)
    times: int = field(default=1, kw_only=True)
    writes: bool = field(default=False, kw_only=True)
    by_entry: bool = field(default=False, kw_only=True)  # documents are named by entryUUID

    def load(self, identity: Identity, entries: int) -> Load:
        if self.writes:
            return Load(self.message(identity), _WITHOUT, self.expected, self.times)
        patients = (FIRST_WITH_DOCUMENTS, FIRST_WITH_DOCUMENTS + entries // ENTRIES_PER_PATIENT - 1)
        return Load(
            self.message(identity), patients, self.expected, self.times, (FIRST_NUMBER, FIRST_NUMBER + entries - 1)
        )

    async def script(self, site: Site) -> Script:
        what = self.load(site.node.identity, site.size)
        patient = what.patients[0] + 1
        number = (
            what.numbers[0] + ENTRIES_PER_PATIENT + 1 if what.numbers else _RECORDED_NUMBER + time.time_ns() // 1000
        )
        identity, entry = site.node.identity, next(iter(self._entries(site)), "")
        async with recorder(site.node.settings) as recording:
            message = self.message(identity)
            if message.method == "GET":  # once, so that its renderings are there
                await recording.record(message, patient, number, entry)
            batches = await recording.record(message, patient, number, entry)
        changing = reference.of_documents(
            patient=patient, number=number, patients=what.patients, numbers=what.numbers or _NEW_NUMBERS,
            authority=identity.assigning_authority, entry_uuid=entry,
        )  # fmt: skip
        return reference.script(batches, changing)

    def _entries(self, site: Site) -> tuple[str, ...]:
        if not self.by_entry:
            return ()
        with psycopg.connect(site.node.dsn) as connection:
            rows = connection.execute(
                "SELECT d.entry_uuid::text FROM document_entry d JOIN stored_document s USING (unique_id) "
                "ORDER BY d.unique_id LIMIT %s", [_ENTRIES_DRAWN],
            ).fetchall()  # fmt: skip
        return tuple(uuid for (uuid,) in rows)

    def send(self, site: Site, seconds: float, *, seed: int, check: bool, connections: int) -> Measured:
        what = replace(self.load(site.node.identity, site.size), entry_uuids=self._entries(site))
        return load.run(site.node.url, what, site.folder, seconds, seed=seed, check=check, connections=connections)

    def request_bytes(self, identity: Identity) -> int:
        return len(self.message(identity).http())


@dataclass(frozen=True)
class XuaBench(SoapBench):
    """A row where each message carries an assertion; its reference is that of the row without."""

    fresh: bool = field(kw_only=True)  # another one each time
    secured = True

    def send(self, site: Site, seconds: float, *, seed: int, check: bool, connections: int) -> Measured:
        issuer = secured.Issuer(site.folder / "data")
        count = round(_ASSERTIONS_A_SECOND * max(1.0, seconds)) if self.fresh else 1
        assertions = list(itertools.islice(issuer.assertions(_now()), count))
        plain = self.load(site.node.identity, site.size)
        what = replace(
            plain, message=secured.with_assertion(plain.message, assertions[0]), pieces=assertions if self.fresh else ()
        )
        return load.run(site.node.url, what, site.folder, seconds, seed=seed, check=check, connections=connections)


class FeedBench(ReferencedBench):
    """New people are announced over MLLP; every message is of another one."""

    holds = "people"

    async def script(self, site: Site) -> Script:
        # Who meets somebody under their blocks, as few do, would be the same person's namesake in every transaction.
        async with recorder(site.node.settings) as recording:
            for number, one in enumerate(newcomers(site.node, 50, seed=_now())):
                batches = await recording.record_hl7v2(people.feed(one, f"R{number}"))
                if value_of(named(batches, "expect_blocks"), "state") == b"0":
                    return reference.script(batches, reference.of_feeds(batches))
        raise RuntimeError("everybody who was announced had a namesake")

    def send(self, site: Site, seconds: float, *, seed: int, check: bool, connections: int) -> Measured:  # noqa: ARG002
        found = newcomers(site.node, round(_FEEDS_A_SECOND_MAX * seconds), seed=_now())
        path = site.folder / "messages"
        sockets.write(path, (sockets.framed(people.feed(one, f"F{n}")) for n, one in enumerate(found)))
        return sockets.run(
            path, site.node.mllp, "mllp", connections=connections, seconds=seconds, expected=["\rMSA|AA|F"]
        )

    def request_bytes(self, identity: Identity) -> int:  # noqa: ARG002
        (one,) = people.announced(0, NEWCOMERS, 1, 1)
        return len(sockets.framed(people.feed(one, "F10000")))


def _now() -> int:
    """A number that no other run has."""
    return time.time_ns() // 10_000


def newcomers(node: Node, count: int, *, seed: int) -> list[Announced]:
    """People whom the node does not know."""
    found = list(people.announced(seed, NEWCOMERS, seed * 1_000_000, count))
    pesels = [one.record.identifiers[-1].value for one in found]
    with psycopg.connect(node.dsn) as connection:
        rows = connection.execute(
            "SELECT value FROM patient_locator WHERE authority = %s AND value = ANY(%s)", [PESEL, pesels]
        ).fetchall()
    known = {value for (value,) in rows}
    return [one for one, pesel in zip(found, pesels, strict=True) if pesel not in known]


_REGISTERED = {
    "document_entry": 1, "submission_set": 1, "association": 1, "object_locator": 3, "unique_id_locator": 2,
    "audit_event": 1,
}  # fmt: skip
_ANNOUNCED = {"patient": 1, "patient_record": 1, "patient_locator": 3, "audit_event": 1}
_ASSERTIONS_A_SECOND = 3_000  # that are signed before a run
_FEEDS_A_SECOND_MAX = 4_000  # messages that are prepared for a run

BENCHES: tuple[ReferencedBench, ...] = (
    SoapBench(
        "iti42", "ITI-42, 9 KB: one entry with set and association", 0.22, 0.32, _REGISTERED,
        message=messages.register, writes=True,
    ),
    XuaBench(
        "iti42_fresh", "ITI-42 with an assertion of its own each time", 0.12, 0.18, _REGISTERED,
        message=messages.register, writes=True, fresh=True,
    ),
    XuaBench(
        "iti42_again", "ITI-42 with one assertion for all", 0.18, 0.28, _REGISTERED,
        message=messages.register, writes=True, fresh=False,
    ),
    SoapBench(
        "iti18_leaf", "ITI-18 FindDocuments, 10 LeafClass", 0.22, 0.32, {"audit_event": 1},
        message=lambda i: messages.find_documents(i, "LeafClass"), read={"document_entry": 10},
        expected="<rim:ExtrinsicObject", times=10,
    ),
    SoapBench(
        "iti18_ref", "ITI-18 FindDocuments, 10 ObjectRef", 0.13, 0.20, {"audit_event": 1},
        message=lambda i: messages.find_documents(i, "ObjectRef"), read={"document_entry": 10},
        expected="<rim:ObjectRef", times=10,
    ),
    SoapBench(
        "iti43", "ITI-43, one document of 100 KB", 0.12, 0.18, {"audit_event": 1},
        message=messages.retrieve, read={"stored_document": 1}, expected="</ClinicalDocument>",
    ),
    # Their aims are ratios to ITI-18 and ITI-43 in the same run: 0.8 and 0.9 of what those do in a second.
    SoapBench(
        "iti67", "ITI-67, 10 DocumentReferences", 0.15, 0.25, {"audit_event": 1},
        message=messages.find_document_references, read={"document_entry": 10},
        expected='"resourceType":"DocumentReference"', times=10,
    ),
    SoapBench(
        "iti68", "ITI-68, one document of 100 KB", 0.10, 0.16, {"audit_event": 1},
        message=messages.read_binary, read={"stored_document": 1}, expected="</ClinicalDocument>", by_entry=True,
    ),
    SoapBench(
        "iti41", "ITI-41, one document of 100 KB", 0.15, 0.28, _REGISTERED | {"stored_document": 1},
        message=messages.provide, writes=True, appends=True,
    ),
    SoapBench(
        "iti65", "ITI-65, one document of 100 KB", 0.09, 0.17, _REGISTERED | {"stored_document": 1},
        message=messages.provide_bundle, writes=True, appends=True, expected='"201 Created"', times=3,
    ),
    FeedBench("feed", "ITI-8 over MLLP: a new person, matched", 0.10, 0.18, _ANNOUNCED),
)  # fmt: skip


@dataclass
class Row:
    """A result."""

    name: str
    what: str
    value: float
    unit: str
    reference: float
    ratio: float
    least: float | None
    aim: float | None
    met: bool
    aim_met: bool | None
    at_most: float | None = None  # the ratio is limited from above
    details: dict[str, Any] = field(default_factory=dict)


class Runner:
    """Measures rows on one node."""

    def __init__(self, site: Site, *, seconds: float, runs: int, tell: Callable[[str], None]) -> None:
        self._site = site
        self._node = site.node
        self._seconds = seconds
        self._runs = runs
        self._tell = tell
        self._seed = 0
        self._folder = site.folder

    async def measure(self, bench: ReferencedBench) -> Row:
        """Checks both sides, then runs them in turn."""
        script = None if bench.appends else await bench.script(self._site)
        self._tell(f"{bench.name}: warming up and checking")
        warm = max(1.0, self._seconds / 2)
        self._check_server(bench, warm)
        if script is not None:
            self._check_reference(bench, script)
            reference.run(self._node.dsn, script, self._folder, warm)
        self._execute("CHECKPOINT")
        references: list[float] = []
        servers: list[Measured] = []
        shares: list[dict[str, float]] = []
        lags: list[float] = []
        loads: list[float] = []
        for number in range(self._runs):
            self._tell(f"{bench.name}: run {number + 1} of {self._runs}")
            references.append(self._reference(script))
            measured, share = self._server(bench)
            servers.append(measured)
            shares.append(share)
            lags.append(self._node.loop_lag_s())
            loads.append(machine.load_average())
        ratios = [s.rate / r for s, r in zip(servers, references, strict=True)]
        middle = statistics.median
        ratio = middle(ratios)
        return Row(
            name=bench.name,
            what=bench.what,
            value=round(middle(s.rate for s in servers), 1),
            unit="1/s",
            reference=round(middle(references), 1),
            ratio=round(ratio, 4),
            least=bench.least,
            aim=bench.aim,
            met=ratio >= bench.least,
            aim_met=ratio >= bench.aim,
            details={
                "ratios": [round(r, 4) for r in ratios],
                "values": [round(s.rate, 1) for s in servers],
                "references": [round(r, 1) for r in references],
                "p50_ms": round(middle(s.p50_ms for s in servers), 2),
                "p95_ms": round(middle(s.p95_ms for s in servers), 2),
                "p99_ms": round(middle(s.p99_ms for s in servers), 2),
                "worker_resident_mib": round(self._node.resident_bytes() / 2**20, 1),
                "loop_lag_ms": round(max(lags) * 1000, 1),
                # Processor time of one second, in seconds: what a request costs and where.
                "cpu": {who: round(middle(s[who] for s in shares), 2) for who in shares[0]},
                "request_bytes": bench.request_bytes(self._node.identity),
                "answer_bytes": round(servers[0].answer_bytes),
                "reference_changed": script.changed if script is not None else [],
                "load_average": loads,
            },
        )

    # one side -------------------------------------------------------------------------------------------------------

    def _reference(self, script: Script | None) -> float:
        if script is None:
            return append.run(self._folder, messages.document(0), self._seconds)
        return reference.run(self._node.dsn, script, self._folder, self._seconds).rate

    def _server(self, bench: ReferencedBench) -> tuple[Measured, dict[str, float]]:
        """A run without a look at the answers; that all were Success is read from the audit."""
        mark = self.audit_mark()
        before = self._node.cpu_s()
        measured = self.send(bench, self._seconds)
        after = self._node.cpu_s()
        time.sleep(0.1)  # the last requests of wrk are still being answered
        good, all_ = self.audited(mark)
        if good != all_ or not measured.requests <= good <= measured.requests + 2 * load.CONNECTIONS:
            raise RuntimeError(f"{bench.name}: {measured.requests} answers, {good} of {all_} audit rows say success")
        share = {who: (after[who] - before[who]) / measured.took_s for who in after}
        share["client"] = measured.cpu_s / measured.took_s
        return measured, share

    def send(
        self, bench: Bench, seconds: float, *, check: bool = False, connections: int = load.CONNECTIONS
    ) -> Measured:
        self._seed += 1
        seed = int(time.time()) % 600 * 1000 + self._seed  # no run of an earlier start on the same data has it
        return bench.send(self._site, seconds, seed=seed, check=check, connections=connections)

    # that both do what they should ----------------------------------------------------------------------------------

    def _check_server(self, bench: ReferencedBench, seconds: float) -> None:
        """Looks at every answer, and counts what was stored."""
        before = self._counts(bench)
        requests = self.send(bench, seconds, check=True).requests
        time.sleep(0.2)
        added = self._added(bench, before)
        audited = added["audit_event"]
        expected = {table: audited * rows for table, rows in bench.stored.items()}
        if added != expected or not requests <= audited <= requests + 2 * load.CONNECTIONS:
            raise RuntimeError(f"{bench.name}: {requests} requests stored {added}")

    def _check_reference(self, bench: ReferencedBench, script: Script) -> None:
        """Counts what the reference stores and fetches."""
        before, fetched = self._counts(bench), self._fetched(bench)
        done = reference.run(self._node.dsn, script, self._folder, 0, transactions=_CHECK_TRANSACTIONS).transactions
        added = self._added(bench, before)
        if added != {table: done * rows for table, rows in bench.stored.items()}:
            raise RuntimeError(f"{bench.name}: {done} transactions of the reference stored {added}")
        after = self._fetched(bench)
        for table, rows in bench.read.items():
            if after[table] - fetched[table] < done * rows:
                raise RuntimeError(f"{bench.name}: the reference fetched too few rows of {table}")

    def _counts(self, bench: ReferencedBench) -> dict[str, int]:
        with psycopg.connect(self._node.dsn) as connection:
            return {t: _one(connection, f"SELECT count(*) FROM {t}") for t in bench.stored}

    def _added(self, bench: ReferencedBench, before: dict[str, int]) -> dict[str, int]:
        return {table: count - before[table] for table, count in self._counts(bench).items()}

    def _fetched(self, bench: ReferencedBench) -> dict[str, int]:
        with psycopg.connect(self._node.dsn) as connection:
            return {
                t: _one(
                    connection,
                    f"SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables "
                    f"WHERE relname = '{t}'",
                )
                for t in bench.read
            }

    def audit_mark(self) -> int:
        """The newest audit record, for :meth:`audited`."""
        with psycopg.connect(self._node.dsn) as connection:
            return _one(connection, "SELECT coalesce(max(audit_id), 0) FROM audit_event")

    def audited(self, mark: int) -> tuple[int, int]:
        """Audit records since ``mark``: those of a success, and all."""
        with psycopg.connect(self._node.dsn) as connection:
            found = connection.execute(
                "SELECT count(*) FILTER (WHERE outcome = 0), count(*) FROM audit_event WHERE audit_id > %s", [mark]
            ).fetchone()
        return found or (0, 0)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._node.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


def _one(connection: psycopg.Connection[Any], query: str) -> int:
    found = connection.execute(query.encode()).fetchone()
    return int(found[0]) if found else 0


def folder_of(base: Path, size: int) -> Path:
    """Of the node that has so many entries and people."""
    return base / f"node-{size}"
