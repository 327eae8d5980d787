"""Imports files of patients: reads them in other processes, decides here, writes many records in one transaction.

Theory of operation. Chunks of the file go to worker processes, which give back feeds with all folded that matching
needs. A batch of them is decided against a :class:`Memory` by the rules of a single feed, and stored while the next one
is decided and what the one after that needs is fetched; a :class:`Memory` knows of the batches that may not be stored
yet. A batch that lost a race is decided again in halves, in the end one by one. How far the
import came, and how long the file of rejects is, stand in the same commit: a killed import goes on from there.
"""

from __future__ import annotations

import gc
import hashlib
import os
import random
import sys
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from itertools import accumulate, pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, Protocol, Self

import msgspec

from obieg.actors.patient_curation import OPERATOR
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.feeding import Feeding
from obieg.domain.feeding_batch import Known, Memory, RememberingMatcher, together
from obieg.domain.identifiers import PatientId
from obieg.domain.patient_index import Change
from obieg.domain.patients import Feeder, PatientFeed
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.ops.failure import Failure
from obieg.ops.import_files import Chunk, Source, chunks
from obieg.ops.import_reading import GARBAGE_THRESHOLD, Fed, Reading, Worker, decode, reason
from obieg.ops.index_access import Access
from obieg.storage.audit_store import AuditStore
from obieg.storage.bulk_store import (
    AuditWriter,
    Batch,
    BulkStore,
    Progress,
    Standing,
    advance_import,
    audit_row,
    batch,
)
from obieg.storage.copy_rows import Told, texts
from obieg.storage.patient_store import columns
from obieg.storage.statements import Parameter

RECORDS_MAX = 2_000  # of one transaction
BLOCKS_MAX = 4_000  # locks of one transaction: PostgreSQL has room for some 6,000 as it comes
ATTEMPTS_MAX = 8
PAUSE_S = 0.01
# Threads that pass data on to PostgreSQL and from the readers need the interpreter for some microseconds at a time, and
# those others wait for them meanwhile. Python would let a thread that decides go on for ten times as long.
SWITCH_S = 0.0005
COUNTED = ("created", "attached", "updated", "unchanged", "linked", "worklist", "rejected", "warnings")


class Part(NamedTuple):
    """Records that are stored together."""

    chunk: Chunk
    records: Sequence[Fed]
    start: tuple[int, int]  # position and line
    end: tuple[int, int]

    @property
    def alone(self) -> bool:
        """Whether it is one act that is not a record (a merge): it is taken in by itself."""
        return len(self.records) == 1 and not self.records[0].code and not self.records[0].event.states_record


class Done(NamedTuple):
    """A part as it was decided."""

    part: Part
    memory: Memory
    batch: Batch
    rejects: bytes
    counts: Counter[str]


class Rejected(Protocol):
    """A record that is not taken: where it stands in its chunk, and the line in the file."""

    @property
    def offset(self) -> int:
        """Bytes before it."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def line(self) -> int:
        """From 1."""


class Rejects:
    """The file of rejects: each record as it was, below the line of it and the reason. For its owner alone."""

    def __init__(self, path: Path, header: bytes, length: int) -> None:
        """``length`` is how much of it belongs to what is imported."""
        self.path = path
        self.length = length
        self._header = header if header.endswith(b"\n") or not header else header + b"\n"
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        self._file.truncate(length)

    def text(self, entries: Sequence[tuple[Rejected, str]], chunk: Chunk) -> bytes:
        """What is written for rejected records."""
        pieces = []
        for record, why in entries:
            raw = chunk.data[record.offset : record.offset + record.size]
            ended = raw if raw.endswith((b"\n", b"\r")) else raw + b"\n"
            pieces.append(f"# line {record.line}: {why}\n".encode() + ended)
        return b"".join(pieces)

    def after(self, text: bytes) -> int:
        """How long the file is then."""
        if not text:
            return self.length
        return self.length + len(text) + (0 if self.length else len(self._header))

    def write(self, text: bytes) -> None:
        """Puts it behind what is known to be imported."""
        if not text:
            return
        self._file.truncate(self.length)
        self._file.seek(self.length)
        self._file.write(text if self.length else self._header + text)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Removes a file in which nothing stands."""
        self._file.truncate(self.length)
        self._file.close()
        if not self.length:
            self.path.unlink(missing_ok=True)


class Importer:
    """Imports one file from where it stands."""

    def __init__(
        self,
        store: BulkStore,
        feeding: Feeding,
        matcher: RememberingMatcher,
        audit: AuditStore,
        *,
        source: Source,
        event: AuditEvent,
        fingerprint: str,
        fed_by: str = "",
        advance: Callable[[int, Mapping[str, int]], object] = lambda *_: None,
    ) -> None:
        """``event`` is the audit record of a patient written; ``advance`` is told of each part that is stored.

        ``fed_by`` is the system whose the records are that are nobody's yet.
        """
        self._store = store
        self._feeding = feeding
        self._matcher = matcher
        self._audit = audit
        self._event = event
        self._writer = AuditWriter(audit, event)
        self._source = source
        self._fingerprint = fingerprint
        self._feeder = Feeder(fed_by)
        self._advance = advance
        self._rejects: Rejects
        self._writing: tuple[Done, Future[None]] | None = None
        self._last: list[Memory] = []  # of the parts that what was fetched may lack
        self._outdated = False  # whether what was fetched may lack more
        self.counts: Counter[str] = Counter()
        self.position = 0
        self.line = 1
        self.warned: list[tuple[int, str]] = []  # the first ones, for people

    def run(
        self,
        readers: Readers,
        reading: Reading,
        rejects: Rejects,
        *,
        position: int,
        line: int,
        counts: Mapping[str, int],
    ) -> None:
        """Imports the rest of the file. Raises Failure where it cannot go on; what was stored until then stays."""
        self.position, self.line, self.counts = position, line, Counter(counts)
        thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
        gc.set_threshold(GARBAGE_THRESHOLD)
        sys.setswitchinterval(SWITCH_S)
        try:
            reading = msgspec.structs.replace(reading, audit=self.around)
            self.take(readers.parts(reading, self._source, position, line), rejects)
        except RetryLater as error:
            raise Failure(
                f"{error}.",
                f"The import stopped at line {self.line}; everything before it is stored.",
                "See whether the database runs, then give the same command again: it goes on from there.",
            ) from None
        except EOFError:
            raise Failure(
                "A process that reads the file has ended.",
                f"The import stopped at line {self.line}; everything before it is stored.",
                "Perhaps the machine has too little memory. Give the same command again: it goes on from there.",
            ) from None
        finally:
            gc.freeze()  # nor are they looked at now
            gc.set_threshold(*thresholds)
            sys.setswitchinterval(interval)
        finished = Progress(
            self._fingerprint, self.position, self._source.size, self.line, self.counts, rejects.length, finished=True
        )
        self._store.advance(finished)

    @property
    def around(self) -> tuple[bytes, bytes]:
        """What an identifier stands between in the audit records."""
        return self._writer.around

    def take(self, parts: Iterable[Part], rejects: Rejects) -> None:
        """Decides and stores the parts, one after the other."""
        self._rejects = rejects
        with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as fetcher:
            fetched: deque[tuple[Part, Future[Known]]] = deque()
            try:
                for part in parts:
                    fetched.append((part, fetcher.submit(self._fetch, part)))
                    if len(fetched) > 1:
                        self._next(*fetched.popleft(), writer)
                while fetched:
                    self._next(*fetched.popleft(), writer)
            finally:
                self._finish()

    def _next(self, part: Part, fetched: Future[Known], writer: ThreadPoolExecutor) -> None:
        """Decides a part while the one before it is stored, and begins to store it.

        What was fetched may lack the two parts before this one, which are known from their decisions; it is of no use
        after a part that was stored in another way.
        """
        if part.alone:
            self._finish()
            self._one(part, part.records[0])
            self._last, self._outdated = [], True
            return
        known = self._fetch(part) if self._outdated else fetched.result()
        self._outdated = False
        done = self._decide(part, known, self._last)
        if not self._finish():
            self._last, self._outdated = [], True
            done = self._decide(part, self._fetch(part), ())
        self._writing = (done, writer.submit(self._store.store, self._ready(done)))
        self._last = [*self._last, done.memory][-2:]

    def _fetch(self, part: Part) -> Known:
        """Everything about the persons whom the records may be about."""
        taken = [fed for fed in part.records if not fed.code]
        named = [fed.named for fed in taken if fed.named is not None]
        count = sum([each.size for each in named])
        asked: dict[str, Parameter] = {
            "authorities": texts(b"".join([each.authorities for each in named]), count),
            "values": texts(b"".join([each.values for each in named]), count),
        }
        known = self._store.read(asked, {block for fed in taken for block in fed.blocks})
        # Who says a record anew may have said more before: it is compared with what that leads to as well.
        stated = known.locators.keys()
        more = {
            block
            for record in known.records
            if not stated.isdisjoint(record.record.identifiers)
            for block in record.blocks
            if block not in known.blocks
        }
        return together(known, self._store.read(columns(()), more)) if more else known

    def _ready(self, done: Done) -> Batch:
        """The batch with how far the import is then; its rejects are written down."""
        self._rejects.write(done.rejects)
        return done.batch._replace(progress=advance_import(self._progress(done.part, done.counts, done.rejects)))

    def _progress(self, part: Part, counts: Counter[str], rejects: bytes) -> Progress:
        return Progress(
            self._fingerprint,
            before=self.position,
            position=part.end[0],
            line=part.end[1],
            counts=self.counts + counts,
            reject_bytes=self._rejects.after(rejects),
        )

    def _finish(self) -> bool:
        """Waits until what is being written is stored; whether it was stored as it had been decided."""
        if self._writing is None:
            return True
        done, writing = self._writing
        self._writing = None
        try:
            writing.result()
        except LostRace:
            self._again(done.part)
            return False
        self._store.remember(done.memory.writes)
        self._stored(done.part, done.counts, self._rejects.after(done.rejects))
        return True

    def _stored(self, part: Part, counts: Counter[str], reject_bytes: int) -> None:
        self.counts += counts
        size = part.end[0] - self.position
        self.position, self.line = part.end
        self._rejects.length = reject_bytes
        self._advance(size, self.counts)

    def _again(self, part: Part) -> None:
        """In halves, and those in halves if need be."""
        if len(part.records) == 1:
            self._one(part, part.records[0])
            return
        middle = len(part.records) // 2
        first, second = part.records[:middle], part.records[middle:]
        border = (part.chunk.position + second[0].offset, second[0].line)
        for half in (Part(part.chunk, first, part.start, border), Part(part.chunk, second, border, part.end)):
            done = self._decide(half, self._fetch(half), ())
            try:
                self._store.store(self._ready(done))
            except LostRace:
                self._again(half)
            else:
                self._stored(half, done.counts, self._rejects.after(done.rejects))

    def _one(self, part: Part, fed: Fed) -> None:
        """The way of a single feed."""
        lost = ""
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                time.sleep(random.uniform(0, PAUSE_S * 2**attempt))  # noqa: S311 - so that others come to an end
            counts: Counter[str] = Counter(warnings=len(fed.warnings))
            rejects, change, event = b"", None, self._event
            feed = fed.feed() if not fed.code else None
            why = fed.reason
            if feed is not None:
                identifiers = (*feed.identifiers, *feed.merged)
                state = self._store.in_blocks(fed.blocks)
                memory = Memory(self._store.read(columns(identifiers), fed.blocks))
                try:
                    change, patient = self._decided(fed, feed, memory, state)
                except Problem as problem:
                    why = reason(problem)
                else:
                    objects = tuple([AuditObject("patient", str(i)) for i in dict.fromkeys((patient, *identifiers))])
                    event = msgspec.structs.replace(event, objects=objects)
                    _count(counts, change)
            if why:
                rejects = self._rejects.text([(fed, why)], part.chunk)
                counts["rejected"] += 1
                event = self._summary(part, counts)
            self._rejects.write(rejects)
            try:
                self._store.store_one(change, event, self._progress(part, counts, rejects))
            except LostRace as race:
                lost = str(race)
                continue
            self._stored(part, counts, self._rejects.after(rejects))
            return
        raise RetryLater(
            f"the patient of line {fed.line} was changed by others {ATTEMPTS_MAX} times meanwhile ({lost})"
        )

    def _decide(self, part: Part, known: Known, before: Sequence[Memory]) -> Done:
        taken = [fed for fed in part.records if not fed.code]
        memory = Memory(known, before)
        counts: Counter[str] = Counter()
        rejected: list[tuple[Fed, str]] = [(fed, fed.reason) for fed in part.records if fed.code]
        told: dict[int, Told] = {}
        audit: list[bytes] = []
        for fed in taken:
            assert fed.record is not None  # noqa: S101 - of a record that was not refused
            assert fed.told is not None  # noqa: S101 - likewise
            feed = fed.feed()
            self._matcher.remember(fed.record, fed.blocks)
            try:
                change, patient = self._decided(fed, feed, memory)
            except Problem as problem:
                rejected.append((fed, reason(problem)))
                continue
            audit.append(self._writer.row(patient, fed.told.objects))
            if change is not None:
                memory.apply(change)
                saved = change.record
                if saved and not saved.version and saved.record == fed.record:
                    told[saved.record_key] = fed.told
            _count(counts, change)
            if fed.warnings:
                counts["warnings"] += len(fed.warnings)
                if len(self.warned) < 20:
                    self.warned += [(fed.line, each) for each in fed.warnings]
        rejected.sort(key=lambda entry: entry[0].offset)
        counts["rejected"] = len(rejected)
        audit.append(audit_row(self._audit, self._summary(part, counts)))
        made = batch(memory.writes, told, audit, advance_import(self._progress(part, counts, b"")))
        return Done(part, memory, made, self._rejects.text(rejected, part.chunk), counts)

    def _decided(
        self, fed: Fed, feed: PatientFeed, memory: Memory, in_blocks: int | None = None
    ) -> tuple[Change | None, PatientId]:
        """What the feed changes, as the patient index decides it; raises Problem."""
        identifiers = (*feed.identifiers, *feed.merged)
        facts = memory.facts(identifiers, fed.blocks, in_blocks or 0)
        decision = self._feeding.decide(feed, facts, fed.blocks, self._feeder)
        if look := decision.look:
            state = self._store.in_blocks(look) if in_blocks is not None else 0
            if missing := memory.missing(look):
                memory.learn(self._store.read(columns(()), missing))
            facts = memory.facts(identifiers, look, state)
            decision = self._feeding.decide(feed, facts, look, self._feeder)
        if decision.look:
            raise RetryLater(f"the record of line {fed.line} cannot be decided about")
        return decision.change, decision.patient

    def _summary(self, part: Part, counts: Mapping[str, int]) -> AuditEvent:
        """The audit record of the part itself: which lines of which file."""
        said = ", ".join(f"{counts[name]} {name}" for name in COUNTED if counts.get(name))
        lines = f"lines {part.start[1]} to {max(part.start[1], part.end[1] - 1)}"
        return msgspec.structs.replace(
            self._event, event="import", detail=f"import of {self._source.path.name}, {lines}: {said or 'nothing'}"
        )


def _count(counts: Counter[str], change: Change | None) -> None:
    if change is None:
        counts["unchanged"] += 1
        return
    if change.affinity_domain_id is not None:
        counts["created"] += 1
    elif change.record is not None and change.record.version == 0:
        counts["attached"] += 1
    else:
        counts["updated"] += 1
    counts["linked"] += len(change.links)
    counts["worklist"] += len(change.tasks)


class Imported(NamedTuple):
    """What an import came to."""

    counts: Mapping[str, int]
    resumed_at: int  # the line; 0 for one that began anew
    finished_at: datetime | None  # of an import of the very same file that was finished before: nothing was done
    rejects: Path | None
    warned: Sequence[tuple[int, str]]


def import_file(
    access: Access,
    readers: Readers,
    source: Source,
    *,
    authority: str,
    speaker: str,
    by: str,
    rejects: Path,
    fed_by: str = "",
    again: bool = False,
    advance: Callable[[int, Mapping[str, int]], object] = lambda *_: None,
) -> Imported:
    """Imports the file, or what is left of it. Raises Failure.

    ``authority`` is the OID of local numbers and ``speaker`` who says so, where the file does not tell; ``fed_by`` is
    the system whose records they are.
    """
    told = f"{source.sha256}|{source.format}|{source.charset}|{authority}|{speaker}|{fed_by}"
    fingerprint = hashlib.sha256(told.encode()).hexdigest()
    event = AuditEvent(
        transaction=OPERATOR,
        event="patient_record",
        outcome=Outcome.SUCCESS,
        detail=f"import of {source.path.name}",
        request_id=f"import-{fingerprint[:20]}",
        source_user=speaker or by,
        requester=by,
    )
    reading = Reading(
        format=source.format,
        charset=source.charset,
        layout=source.layout,
        authority=authority,
        source=speaker,
        authorities=access.who.authorities.listed,
        weights=access.weights,
    )
    with closing(access.bulk("obieg patients import")) as store:
        standing = _standing(store, fingerprint, source)
        if standing is not None and standing.finished_at is not None and not again:
            return Imported(standing.counts, 0, standing.finished_at, None, ())
        position, line = source.start
        counts: Mapping[str, int] = {}
        kept = 0
        if standing is None or standing.finished_at is not None:
            store.start(fingerprint, file=str(source.path), size=source.size, position=position, by=by)
        else:
            position, line, counts, kept = standing.position, standing.line, standing.counts, standing.reject_bytes
        if not kept and position == source.start[0] and rejects.exists() and rejects.stat().st_size:
            raise Failure(
                f"{rejects} exists.",
                "What this import rejects would be written over it; nothing was imported.",
                "Move it away, or name another file with --rejects.",
            )
        file = Rejects(rejects, source.header, kept)
        importer = Importer(
            store,
            Feeding(**access.feeding_parts),
            access.matcher,
            access.audit,
            source=source,
            event=event,
            fingerprint=fingerprint,
            fed_by=fed_by,
            advance=advance,
        )
        try:
            advance(position, counts)
            importer.run(readers, reading, file, position=position, line=line, counts=counts)
        finally:
            file.close()
        resumed = line if standing is not None and standing.finished_at is None else 0
        return Imported(importer.counts, resumed, None, rejects if file.length else None, importer.warned)


def _standing(store: BulkStore, fingerprint: str, source: Source) -> Standing | None:
    try:
        return store.begin(fingerprint)
    except LostRace:
        raise Failure(
            f"Another process imports {source.path} at this moment.",
            "Two would be in each other's way; this one did nothing.",
            "Wait for it, or end it: an import goes on where it stopped.",
        ) from None


class Readers:
    """The processes that read, and what they have read, in the order of the file."""

    def __init__(self) -> None:
        count = max(1, min(4, len(os.sched_getaffinity(0)) - 1))
        self._free: SimpleQueue[Worker] = SimpleQueue()
        self._workers = [Worker() for _ in range(count)]
        for worker in self._workers:
            self._free.put(worker)
        self._pool = ThreadPoolExecutor(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def parts(self, reading: Reading, source: Source, position: int, line: int) -> Iterator[Part]:
        """The parts of the file from there on. One file at a time."""
        for worker in self._workers:
            worker.begin(reading)
        ahead: deque[tuple[Chunk, Future[bytes]]] = deque()
        for chunk in chunks(source, position, line):
            ahead.append((chunk, self._pool.submit(self._read, chunk)))
            if len(ahead) > 2 * len(self._workers):
                chunk_, read = ahead.popleft()
                yield from parts(chunk_, decode(read.result()))
        while ahead:
            chunk_, read = ahead.popleft()
            yield from parts(chunk_, decode(read.result()))

    def _read(self, chunk: Chunk) -> bytes:
        worker = self._free.get()
        try:
            return worker.read(chunk)
        finally:
            self._free.put(worker)


def parts(chunk: Chunk, records: Sequence[Fed]) -> Iterator[Part]:
    """The records of a chunk in parts that fit into one transaction; an act that is no record is one by itself."""
    starts: list[int] = []
    first = 0
    for place, fed in enumerate(records):
        if not fed.code and not fed.event.states_record:
            starts += [*_even(records, first, place), place]
            first = place + 1
    starts += _even(records, first, len(records))
    if not starts:
        return
    begin = (chunk.position, chunk.line)
    cuts = [(chunk.position + records[start].offset, records[start].line) for start in starts[1:]]
    cuts.append((chunk.position + len(chunk.data), chunk.line + chunk.lines))
    for (start, end), cut in zip(pairwise([*starts, len(records)]), cuts, strict=True):
        yield Part(chunk, records[start:end], begin, cut)
        begin = cut


def _even(records: Sequence[Fed], first: int, end: int) -> list[int]:
    """Where the parts of these records begin: as few as may be, and of one size.

    A part is decided while the one before it is stored; a small one beside a large one would have to wait for it.
    """
    # Each record takes a share of what a transaction may hold, of records or of locks.
    filled = list(accumulate(max(BLOCKS_MAX, RECORDS_MAX * len(fed.blocks)) for fed in records[first:end]))
    count = -(-filled[-1] // (BLOCKS_MAX * RECORDS_MAX)) if filled else 0
    return sorted({first + bisect_right(filled, filled[-1] * part // count) for part in range(count)})
