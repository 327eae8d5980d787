"""Many feeds in one transaction: reads what a batch is judged by, and stores what came of it.

Theory of operation. New rows go straight into their tables by COPY, whose unique keys are the guard of identifiers;
everything else is a statement over arrays. The order of locks is that of a single feed (blocks, patients, identifiers
in their order), so that an import and the feeds beside it wait for one another and do not block one another for ever.
How far the import came is part of the same commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from itertools import groupby, islice
from struct import Struct
from threading import Lock
from typing import Any, NamedTuple, cast

import msgspec
import psycopg
from psycopg import pq

from obieg.domain.audit import AuditEvent, AuditObject
from obieg.domain.feeding_batch import Known, Linked, Saved, Writes
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Record
from obieg.domain.outbox import Outgoing
from obieg.domain.patient_index import Change, KnownRecord, NewTask
from obieg.domain.persons import Demographics
from obieg.domain.problems import RetryLater
from obieg.domain.registry import LostRace
from obieg.storage.audit_store import AuditStore
from obieg.storage.copy_rows import (
    Told,
    authority_written,
    bigints,
    copying,
    data_field,
    instant,
    marked,
    named,
    record_columns,
    repeated,
    text,
)
from obieg.storage.link import DatabaseError
from obieg.storage.patient_store import PostgresPatientStore, columns, tasks_call
from obieg.storage.statements import Call, Parameter, Statement, load

STATEMENT_TIMEOUT_MS = 120_000
# Every statement looks rows up by their keys. The planner cannot know that of tables that grow tenfold within minutes.
_PLANNING = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c enable_bitmapscan=off -c jit=off"
LOCK_TIMEOUT_MS = 10_000
SEEN_MAX = 50_000  # records
OWN_MAX = 8  # transactions; a batch is read while the two before it may not be stored yet
_BEFORE_ALL = "1:1:"  # a snapshot that has nobody's writes
OUT_OF_SHARED_MEMORY = "53200"

_SQL = load("bulk.sql")
_PATIENTS = load("patients.sql")
_LINKS = load("links.sql")
_read_demographics = msgspec.json.Decoder(Demographics).decode
_write = msgspec.json.Encoder().encode
_PLACE = "\N{REPLACEMENT CHARACTER}"


class Progress(NamedTuple):
    """How far an import is after a batch."""

    fingerprint: str
    before: int  # bytes
    position: int
    line: int
    counts: Mapping[str, int]
    reject_bytes: int
    finished: bool = False


class Standing(NamedTuple):
    """How far an import has come."""

    position: int
    line: int
    counts: dict[str, int]
    reject_bytes: int
    finished_at: datetime | None
    file: str


class AuditWriter:
    """Audit rows of one kind for COPY: the message is written once and its patients are put in."""

    def __init__(self, audit: AuditStore, event: AuditEvent) -> None:
        whole = audit.columns(msgspec.structs.replace(event, objects=(AuditObject("patient", _PLACE),)))
        message = whole["message"]
        start = message.index("<ParticipantObjectIdentification")
        end = message.index("</AuditMessage>")
        before, after = message[start:end].split(_PLACE)
        self.around = (before.encode(), after.encode())  # what an identifier stands between
        self._head = message[:start].encode() + self.around[0]
        self._tail = message[end:].encode()
        self._first, self._second = _audit_fields(whole)

    def row(self, patient: PatientId, objects: bytes) -> bytes:
        """The row of one record; the patient is named first."""
        value = patient.value
        plainly, as_marked = authority_written(patient.authority)
        message = b"".join((self._head, marked(value), as_marked, self.around[1], objects, self._tail))
        return b"".join((self._first, data_field(value.encode() + plainly), self._second, data_field(message)))


def audit_row(audit: AuditStore, event: AuditEvent) -> bytes:
    """The row of an audit record, for COPY."""
    row = audit.columns(event)
    first, second = _audit_fields(row)
    return b"".join((first, text(row["patient_id"]), second, text(row["message"])))


def _audit_fields(row: Mapping[str, str]) -> tuple[bytes, bytes]:
    """What stands before the patient, and between the patient and the message."""
    return _columns(5) + text(row["transaction"]) + _smallint(2, int(row["outcome"])), text(row["request_id"])


# How many columns a row has, and the first ones, each behind its length.
_columns = Struct(">h").pack
_smallint = Struct(">ih").pack
_integer = Struct(">ii").pack
_bigint = Struct(">iq").pack
_record_row = Struct(">hiqiqiiiqiq").pack
_changed_row = Struct(">hiqiqiiiiiq").pack
_block_row = Struct(">hiqiqiq").pack


@lru_cache(maxsize=1 << 12)
def _of_authority(authority: str) -> bytes:
    """How the row of a locator begins."""
    return _columns(3) + text(authority)


class Batch(NamedTuple):
    """Everything that one transaction stores, ready to be sent."""

    writes: Writes
    patients: bytes
    locators: bytes
    records: bytes
    blocks: bytes
    changed: bytes
    changed_count: int
    gone: tuple[list[int], list[int]]  # blocks and record keys of rows that go
    audit: bytes
    progress: Call  # how far it is then


def batch(writes: Writes, told: Mapping[int, Told], audit: Sequence[bytes], progress: Call) -> Batch:
    """Makes the rows; ``told`` has by record key what was made where the file was read."""
    records: list[bytes] = []
    blocks: list[tuple[int, int, int]] = []
    changed: list[bytes] = []
    gone: tuple[list[int], list[int]] = ([], [])
    for record_key, saved in writes.saved.items():
        record = saved.record
        made = told.get(record_key)
        if made is None or saved.saves > 1 or saved.found is not None:
            tail = record_columns(record.source, record.record, record.blocks, named(record.record.identifiers))
        else:
            tail = made.record
        key = record.patient_key
        if saved.found is None:
            at = instant(saved.updated_at)
            created_at = at if saved.saves == 1 else instant(saved.created_at)
            head = _record_row(15, 8, key, 8, record_key, 4, saved.saves, 8, created_at, 8, at)
            records.append(head + repeated(record.fed_by) + tail)
            before: tuple[int, ...] = ()
        else:
            changed.append(_changed(saved) + repeated(record.fed_by) + tail)
            before = saved.found.blocks
        if before != record.blocks:
            gone[0].extend(before)
            gone[1].extend([record_key] * len(before))
            blocks += [(block, key, record_key) for block in dict.fromkeys(record.blocks)]
    blocks.sort()  # in the order of the index: neighbours are found in the processor's memory
    patients = [
        b"".join((_columns(3), _bigint(8, key), text(id_.value), _integer(4, 1 + writes.touched.get(key, 0))))
        for key, id_ in sorted(writes.created.items())
    ]
    # As single feeds order identifiers, so that two who claim the same wait for one another.
    claimed = sorted([(i.value, i.authority, key) for i, key in writes.claimed.items()])
    locators = [b"".join((_of_authority(authority), text(value), _bigint(8, key))) for value, authority, key in claimed]
    return Batch(
        writes,
        copying(patients),
        copying(locators),
        copying(records),
        copying([_block_row(3, 8, block, 8, key, 8, record_key) for block, key, record_key in blocks]),
        copying(changed),
        len(changed),
        gone,
        copying(audit),
        progress,
    )


def _changed(saved: Saved) -> bytes:
    assert saved.found is not None  # noqa: S101 - the caller looked
    record, version = saved.record, saved.found.version
    at = instant(saved.updated_at)
    return _changed_row(15, 8, record.patient_key, 8, record.record_key, 4, version, 4, version + saved.saves, 8, at)


class BulkStore:
    """One import's way to the database, over two connections: one reads while the other writes."""

    def __init__(self, dsn: str, *, audit: AuditStore, patients: PostgresPatientStore, name: str) -> None:
        """Raises :class:`RetryLater` when the database does not answer."""
        options = f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS} {_PLANNING}"
        self._audit = audit
        self._patients = patients
        self._reading = Lock()
        self._seen: dict[tuple[int, int], Record] = {}  # by record key and version
        self._own: deque[str] = deque(maxlen=OWN_MAX)  # transactions in which batches were stored
        with _told():
            self._reader = psycopg.connect(dsn, autocommit=True, application_name=name, options=options)
            self._writer = psycopg.connect(dsn, autocommit=True, application_name=name, options=options)
            self._writer.execute(_SQL.make_staging.sql.encode())

    def close(self) -> None:
        """Ends the connections."""
        self._reader.close()
        self._writer.close()

    # progress -------------------------------------------------------------------------------------------------------

    def begin(self, fingerprint: str) -> Standing | None:
        """How far the import is, None for one that was never begun; raises LostRace where another process is at it."""
        with _told():
            [[(free,)]] = _run(self._writer, _SQL.begin_import(fingerprint=fingerprint))
            if not free:
                raise LostRace("another process imports this file")
            [rows] = _run(self._writer, _SQL.read_import(fingerprint=fingerprint))
        if not rows:
            return None
        position, line, counts, reject_bytes, finished_at, file = rows[0]
        return Standing(position, line, msgspec.json.decode(counts), reject_bytes, finished_at, file)

    def start(self, fingerprint: str, *, file: str, size: int, position: int, by: str) -> None:
        """From the beginning."""
        with _told():
            _run(
                self._writer,
                _SQL.insert_import(fingerprint=fingerprint, file=file, size=size, position=position, by=by),
            )

    # batches --------------------------------------------------------------------------------------------------------

    def read(self, named: Mapping[str, Parameter], blocks: Collection[int]) -> Known:
        """Everything about the persons whom the identifiers name (``columns``) or who stand under the blocks."""
        with _told(), self._reading:
            return self._read(named, blocks)

    def remember(self, writes: Writes) -> None:
        """Keeps records that were stored, so that they need not be read and folded when they are met again."""
        for record_key, saved in writes.saved.items():
            version = saved.saves + (saved.found.version if saved.found else 0)
            self._seen[record_key, version] = saved.record.record
        self._forget()

    def _forget(self) -> None:
        if len(self._seen) > SEEN_MAX:
            for key in list(islice(self._seen, SEEN_MAX // 4)):
                del self._seen[key]

    def in_blocks(self, blocks: Sequence[int]) -> int:
        """Which records stand under the blocks, as a single feed is guarded by it; to be read before the rest."""
        with _told(), self._reading:
            [[(state,)]] = _run(self._reader, _PATIENTS.read_blocks(blocks=blocks))
            return int(state)

    def _read(self, named: Mapping[str, Parameter], blocks: Collection[int]) -> Known:
        [[(at, seen)], located, entered] = _run(
            self._reader,
            _SQL.moment(),
            _SQL.find_locators(**named),
            _SQL.find_entries(blocks=bigints(sorted(blocks))),
        )
        locators = {PatientId(value, authority): (key, retired) for authority, value, key, retired in located}
        entries: dict[int, dict[int, int]] = {block: {} for block in blocks}
        for block, record_key, patient_key in entered:
            entries[block][record_key] = patient_key
        keys = {key for key, _ in locators.values()} | {key for found in entries.values() for key in found.values()}
        known = Known(at, locators, {}, {}, {}, [], entries, [], seen=seen)
        return self._persons(keys, known) if keys else known

    def _persons(self, keys: Iterable[int], known: Known) -> Known:
        survivors: dict[int, int] = {}
        ids: dict[int, str] = {}
        versions: dict[int, int] = {}
        records: list[KnownRecord] = []
        [rows] = _run(self._reader, _SQL.find_persons(patient_keys=bigints(list(keys))))
        for key, survivor, id_, record_key, version, source, authorities, values, said, blocks, at, of, fed_by in rows:
            ids[survivor] = id_
            versions[survivor] = of
            if key != survivor:
                survivors[key] = survivor
            if record_key is not None:
                record = self._seen.get((record_key, version))
                if record is None:
                    record = Record(tuple(map(PatientId, values, authorities)), _read_demographics(said))
                    self._seen[record_key, version] = record
                records.append(
                    KnownRecord(key, survivor, id_, record_key, version, source, record, tuple(blocks), at, of, fed_by)
                )
        self._forget()
        [pairs] = _run(self._reader, _PATIENTS.find_apart(patient_keys=bigints(list(ids))))
        apart = [(left, right) for left, right in pairs]
        retired: frozenset[PatientId] = frozenset()
        if self._patients.tells:
            stated = sorted({i for r in records for i in r.record.identifiers})
            [located] = _run(self._reader, _SQL.find_locators(**columns(stated)))
            retired = frozenset(PatientId(value, authority) for authority, value, _, gone in located if gone)
        return known._replace(
            survivors=survivors, ids=ids, versions=versions, records=records, apart=apart, retired=retired
        )

    def store(self, made: Batch) -> None:
        """Stores all of it; raises LostRace where others were faster, RetryLater where the database is away."""
        with _told(), self._writer.transaction():
            self._store(made)
            [[(own,)]] = self._run(_SQL.own_transaction())
        self._own.append(own)

    def _store(self, made: Batch) -> None:
        writes = made.writes
        calls: list[Call] = []
        if writes.blocks:
            blocks = bigints(sorted(writes.blocks))
            calls += [
                _PATIENTS.lock_blocks(blocks=blocks),
                _SQL.expect_entries(
                    blocks=blocks,
                    state=writes.in_blocks,
                    seen=writes.seen or _BEFORE_ALL,
                    ours=f"{{{','.join(self._own)}}}",
                ),
            ]
        if writes.versions:
            keys = sorted(writes.versions)
            touched = [key for key in keys if key in writes.touched]
            calls += [
                _PATIENTS.lock_patients(patient_keys=keys),
                _PATIENTS.expect_versions(patient_keys=keys, versions=[writes.versions[key] for key in keys]),
                _PATIENTS.expect_unlinked(patient_keys=keys),
                _SQL.touch_patients(patient_keys=touched, changes=[writes.touched[key] for key in touched]),
            ]
        if writes.released:
            named = list(writes.released)
            calls.append(_SQL.release_locators(**columns(named), patient_keys=[writes.released[i] for i in named]))
        run = self._run
        run(*calls)
        self._copy(_SQL.copy_patients, made.patients)
        self._copy(_SQL.copy_locators, made.locators)
        if made.changed:
            self._copy(_SQL.copy_changed, made.changed)
            run(_SQL.update_records(count=made.changed_count))
        if made.gone[0]:
            run(_SQL.delete_entries(blocks=made.gone[0], record_keys=made.gone[1]))
        self._copy(_SQL.copy_records, made.records)
        self._copy(_SQL.copy_blocks, made.blocks)
        run(*self._rest(made))
        self._copy(_SQL.copy_audit, made.audit)

    def _rest(self, made: Batch) -> Iterator[Call]:
        writes = made.writes
        for kind, acts in groupby(writes.acts, type):
            if kind is Linked:
                for linked in cast("Iterator[Linked]", acts):
                    yield from _links(linked)
            else:
                yield tasks_call(cast("Iterator[NewTask]", acts))
        if writes.outgoing:
            yield _letters(writes.outgoing)
        yield made.progress

    def store_one(self, change: Change | None, event: AuditEvent, progress: Progress | None = None) -> None:
        """What a single feed stores, with how far the import is."""
        calls = [] if change is None else self._patients.calls(change)
        calls.append(self._audit.call(event))
        if progress is not None:
            calls.append(advance_import(progress))
        with _told(), self._writer.transaction():
            self._run(*calls)

    def advance(self, progress: Progress) -> None:
        """Only how far the import is."""
        with _told(), self._writer.transaction():
            self._run(advance_import(progress))

    def run(self, *calls: Call) -> list[list[tuple[Any, ...]]]:
        """Other statements, in one transaction."""
        with _told(), self._writer.transaction():
            return self._run(*calls)

    def _run(self, *calls: Call) -> list[list[tuple[Any, ...]]]:
        return _run(self._writer, *calls)

    def _copy(self, statement: Statement, rows: bytes) -> None:
        if rows:
            with self._writer.cursor() as cursor, cursor.copy(statement.sql.encode()) as copy:
                copy.write(rows)


def _links(linked: Linked) -> Iterator[Call]:
    keys = [link.patient_key for link in linked.links]
    yield _PATIENTS.close_moot_tasks(patient_keys=sorted({linked.survivor_key, *keys}), by="index")
    yield _SQL.insert_links_at(
        survivor_key=linked.survivor_key,
        linked_keys=keys,
        reasons=[link.reason for link in linked.links],
        linked_by=[link.by for link in linked.links],
        at=linked.at.isoformat(),
    )
    yield _PATIENTS.move_links(survivor_key=linked.survivor_key, linked_keys=keys)


def _letters(messages: Sequence[Outgoing]) -> Call:
    newest: dict[object, Outgoing] = {}
    for place, message in enumerate(messages):
        name: object = (message.destination, message.patient_key, message.key) if message.key else place
        newest.pop(name, None)
        newest[name] = message
    kept = list(newest.values())
    return _SQL.put_letters(
        patient_keys=[m.patient_key for m in kept],
        destinations=[m.destination for m in kept],
        transactions=[m.transaction for m in kept],
        keys=[m.key for m in kept],
        bodies=[f"\\x{m.body.hex()}" for m in kept],
    )


def advance_import(progress: Progress) -> Call:
    """Writes how far an import is; raises LostRace where another process has written it."""
    return _SQL.advance_import(
        fingerprint=progress.fingerprint,
        before=progress.before,
        position=progress.position,
        line=progress.line,
        counts=_write(progress.counts),
        reject_bytes=progress.reject_bytes,
        finished=progress.finished,
    )


def _run(connection: psycopg.Connection[Any], *calls: Call) -> list[list[tuple[Any, ...]]]:
    """The rows of each call."""
    results = []
    pg = connection.pgconn
    for call in calls:
        result = pg.exec_params(call.statement.sql.encode(), call.values, None, call.formats, pq.Format.BINARY)
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            raise psycopg.errors.error_from_result(result)
        transformer = psycopg.adapt.Transformer(connection)
        transformer.set_pgresult(result, format=pq.Format.BINARY)
        results.append(transformer.load_rows(0, result.ntuples, tuple) if result.ntuples else [])
    return results


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the driver in the words of the ports."""
    try:
        yield
    except psycopg.Error as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        state = error.sqlstate or ("08000" if isinstance(error, psycopg.OperationalError) else "")
        found = DatabaseError(state, message)
        # A table of locks that is full is none of what others do: a smaller batch needs fewer.
        if found.lost_race or state == OUT_OF_SHARED_MEMORY:
            raise LostRace(message) from error
        if found.passing:
            raise RetryLater(f"the database cannot do this now: {message}") from error
        raise
