"""Reads records of a file into feeds, in processes of their own: parsing and folding cost more than deciding.

``python -m obieg.ops.import_reading`` takes for each file a :class:`Reading` and then its chunks on its standard input,
each preceded by its length, and gives back for each chunk the :class:`Fed` records on its standard output. It ends when
its input does, so none outlives the import.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Any, NamedTuple

import msgspec

from obieg.domain.authorities import Authorities, Listed
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.linkage import LinkageMatcher, Weights
from obieg.domain.matching import Record
from obieg.domain.patients import FeedEvent, PatientFeed
from obieg.domain.problems import Finding, Problem
from obieg.mapping.adt import patient_feed
from obieg.mapping.fhir_patient import STATED, read_identifier, read_patient
from obieg.mapping.patient_csv import Layout, read_row, speaker
from obieg.ops.import_files import REASON, Chunk, csv_rows, lines_of, messages
from obieg.storage.copy_rows import Named, Told, audit_objects, named, record_columns
from obieg.wire import fhir_elements, fhir_json
from obieg.wire.hl7v2 import MessageError, parse

_LENGTH_BYTES = 4
_PIPE_BYTES = 1 << 20  # what Linux gives anybody at most; a chunk goes through it in a few pieces
GARBAGE_THRESHOLD = 5_000_000  # values have no cycles: looking for some among all that is remembered would cost more
_NICENESS = 5  # it is ahead of what is stored: PostgreSQL, for which all wait, goes first where cores are few
_EVENTS = frozenset(FeedEvent) - {FeedEvent.MOVE}


class Reading(Value, frozen=True):
    """How the records of an import are read."""

    format: str
    charset: str
    layout: Layout | None
    authority: str  # OID of local numbers in CSV
    source: str  # who says so, of CSV and FHIR
    authorities: Listed  # those of the node
    weights: Weights | None = None
    audit: tuple[bytes, bytes] = (b"", b"")  # what an identifier stands between in an audit message


class Fed(Value, frozen=True, array_like=True):
    """A record of the file: the feed, or why it is none."""

    offset: int  # within the chunk
    size: int
    line: int
    code: str = ""  # of the problem
    reason: str = ""
    warnings: tuple[str, ...] = ()
    event: FeedEvent = FeedEvent.UPDATE
    stated: tuple[str, ...] = ()
    merged: tuple[PatientId, ...] = ()
    locations: tuple[str, ...] = ()
    merged_locations: tuple[str, ...] = ()
    source: str = ""
    record: Record | None = None
    blocks: tuple[int, ...] = ()
    told: Told | None = None
    named: Named | None = None  # its identifiers, for reading what is known of them

    def feed(self) -> PatientFeed:
        """The feed; only of one that was not refused."""
        assert self.record is not None  # noqa: S101
        return PatientFeed(
            event=self.event,
            identifiers=self.record.identifiers,
            demographics=self.record.demographics,
            stated=self.stated,
            merged=self.merged,
            identifier_locations=self.locations,
            merged_locations=self.merged_locations,
            source=self.source,
        )


class Stated(NamedTuple):
    """A record of the file that was read, and what a :class:`Fed` says of it besides."""

    offset: int
    size: int
    line: int
    feed: PatientFeed
    warnings: tuple[Finding, ...] = ()


class Reader:
    """Reads chunks."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._authorities = Authorities.of(reading.authorities)
        self._matcher = LinkageMatcher(reading.weights)

    def read(self, chunk: Chunk) -> list[Fed]:
        """The records of a chunk, refused ones among them, in their order."""
        if chunk.endless:
            said = "the record has no end: a quote was opened and not closed, or a line has millions of characters"
            return [Fed(0, len(chunk.data), chunk.line, "DataTypeError", said)]
        read = {"csv": self._csv, "fhir": self._fhir, "hl7v2": self._hl7v2}[self._reading.format]
        found = list(read(chunk))
        feds = iter(self._feds([each for each in found if isinstance(each, Stated)]))
        return [each if isinstance(each, Fed) else next(feds) for each in found]

    def fed(self, offset: int, size: int, line: int, feed: PatientFeed, warnings: tuple[Finding, ...] = ()) -> Fed:
        """A feed with everything worked out that does not depend on others."""
        [fed] = self._feds([Stated(offset, size, line, feed, warnings)])
        return fed

    def _feds(self, stated: Sequence[Stated]) -> list[Fed]:
        """As :meth:`fed`, one step after the other for all: what a step needs stays in the processor's memory."""
        feeds = [each.feed for each in stated]
        records = [Record(feed.identifiers, feed.demographics) for feed in feeds]
        blocks = [
            self._matcher.blocks(record) if feed.event.states_record else ()
            for record, feed in zip(records, feeds, strict=True)
        ]
        stated_ = [named(feed.identifiers) for feed in feeds]
        columns = [
            record_columns(f.source, r, b, n) for f, r, b, n in zip(feeds, records, blocks, stated_, strict=True)
        ]
        objects = [audit_objects(self._reading.audit, (*feed.identifiers, *feed.merged)) for feed in feeds]
        all_ = [named((*f.identifiers, *f.merged)) if f.merged else n for f, n in zip(feeds, stated_, strict=True)]
        return [
            Fed(
                offset,
                size,
                line,
                warnings=tuple([w.detail for w in warnings]),
                event=feed.event,
                stated=feed.stated,
                merged=feed.merged,
                locations=feed.identifier_locations,
                merged_locations=feed.merged_locations,
                source=feed.source,
                record=record,
                blocks=under,
                told=Told(row, patients),
                named=names,
            )
            for (offset, size, line, feed, warnings), record, under, row, patients, names in zip(
                stated, records, blocks, columns, objects, all_, strict=True
            )
        ]

    def _csv(self, chunk: Chunk) -> Iterator[Fed | Stated]:
        reading = self._reading
        assert reading.layout is not None  # noqa: S101 - of CSV there is one
        raw = chunk.data.split(b"\n")
        raw = [*(each + b"\n" for each in raw[:-1]), *([raw[-1]] if raw[-1] else [])]
        try:
            texts = chunk.data.decode(reading.charset).split("\n")
        except UnicodeDecodeError:
            texts = [each.decode(reading.charset, "replace") for each in chunk.data.split(b"\n")]
        texts = [text + "\n" for text in texts[: len(raw)]]
        at = offset = 0
        for values, taken in csv_rows(texts, reading.layout.delimiter):
            size = sum(map(len, raw[at : at + taken])) if taken > 1 else len(raw[at])
            line, comment = chunk.line + at, REASON.fullmatch(raw[at])
            at += taken
            offset, start = offset + size, offset
            if comment or (values is not None and not any(values)):
                continue
            try:
                if values is None:
                    raise Problem.of("DataTypeError", "a line break stands in a cell without quotes")
                if any("\N{REPLACEMENT CHARACTER}" in value for value in values):
                    raise Problem.of("DataTypeError", f"the row has bytes that are not {reading.charset}")
                row = read_row(
                    values, reading.layout, self._authorities, authority=reading.authority, source=reading.source
                )
                yield Stated(start, size, line, row.feed, row.warnings)
            except Problem as problem:
                yield refused(start, size, line, problem)

    def _fhir(self, chunk: Chunk) -> Iterator[Fed | Stated]:
        offset = 0
        for number, raw in enumerate(chunk.data.splitlines(keepends=True)):
            start, offset = offset, offset + len(raw)
            content = raw.strip().removeprefix(b"\xef\xbb\xbf")
            if not content or REASON.fullmatch(raw):
                continue
            try:
                yield Stated(start, len(raw), chunk.line + number, self._patient(content))
            except Problem as problem:
                yield refused(start, len(raw), chunk.line + number, problem)

    def _patient(self, content: bytes) -> PatientFeed:
        try:
            resource: dict[str, Any] = fhir_json.read(content)
        except fhir_json.JsonRefused as error:
            raise Problem.of("DataTypeError", str(error)) from None
        if resource.get("resourceType") != "Patient":
            raise Problem.of("RuleBroken", "each line is a resource of type Patient, and this one is not")
        findings = [Finding("RuleBroken", fault.said, fault.path) for fault in fhir_elements.check(resource)]
        if findings:
            raise Problem(findings)
        patient = read_patient(resource, findings)
        for found, where in zip(patient.identifiers, patient.locations, strict=True):
            if not self._authorities.accepts(found.authority):
                said = f"this region takes no identifiers of the assigning authority {found.authority}"
                findings.append(Finding("UnknownKeyIdentifier", said, where))
        if not patient.identifiers and not findings:
            findings.append(Finding("RequiredFieldMissing", "the Patient has no identifier", "Patient.identifier"))
        said = resource.get("meta", {}).get("source", "") or self._reading.source
        source = str(said or (speaker(patient.identifiers, self._authorities) if patient.identifiers else ""))
        if patient.replaced_by:
            return self._replaced(patient.identifiers, patient.locations, patient.replaced_by[0], source, findings)
        if not patient.active:
            said = "the Patient is not active and names none that replaces it; nothing was stored"
            findings.append(Finding("RuleBroken", said, "Patient.active"))
        if findings:
            raise Problem(findings)
        return PatientFeed(
            event=FeedEvent.UPDATE,
            identifiers=patient.identifiers,
            demographics=patient.demographics,
            stated=STATED,
            identifier_locations=patient.locations,
            source=source,
        )

    @staticmethod
    def _replaced(
        identifiers: tuple[PatientId, ...],
        locations: tuple[str, ...],
        other: tuple[dict[str, Any], str],
        source: str,
        findings: list[Finding],
    ) -> PatientFeed:
        """A Patient that another one replaces is a merge of the identifiers of one authority."""
        named, where = other[0].get("identifier", {}), f"{other[1]}.identifier"
        survivor = read_identifier(named, where, findings)
        merged = {
            i: at for i, at in zip(identifiers, locations, strict=True) if survivor and i.authority == survivor[1]
        }
        if survivor is not None and not merged:
            said = "none of the Patient's identifiers is of the authority of the one that replaces it"
            findings.append(Finding("RuleBroken", said, where))
        if findings or survivor is None:
            raise Problem(findings)
        return PatientFeed(
            event=FeedEvent.MERGE,
            identifiers=(survivor,),
            merged=tuple(merged),
            identifier_locations=(where,),
            merged_locations=tuple(merged.values()),
            source=source,
        )

    def _hl7v2(self, chunk: Chunk) -> Iterator[Fed | Stated]:
        line, counted = chunk.line, 0
        for offset, size, content in messages(chunk.data):
            line += lines_of(chunk.data[counted:offset], "hl7v2")
            counted = offset
            try:
                yield Stated(offset, size, line, self._message(content))
            except Problem as problem:
                yield refused(offset, size, line, problem)

    def _message(self, content: bytes) -> PatientFeed:
        try:
            message = parse(content)
        except MessageError as error:
            raise Problem.of("DataTypeError", error.detail, error.location) from None
        if message.type != "ADT" or message.event not in _EVENTS:
            said = f"messages {message.type[:10]}^{message.event[:10]} are not imported; ADT feeds of patients are"
            if message.event == FeedEvent.MOVE:
                said = "a move of identifiers (A43) is sent to the node over MLLP, it is not imported"
            raise Problem.of("UnsupportedEventCode", said, "MSH-9")
        return patient_feed(message, self._authorities)


def refused(offset: int, size: int, line: int, problem: Problem) -> Fed:
    """A record that is not taken."""
    return Fed(offset, size, line, problem.findings[0].code, reason(problem))


def reason(problem: Problem) -> str:
    """All that is wrong, in one line."""
    told = [f"{f.location}: {f.detail}" if f.location else f.detail for f in problem.findings]
    return "; ".join(" ".join(each.split()) for each in told)


# the process ---------------------------------------------------------------------------------------------------------

_encode = msgspec.msgpack.Encoder().encode
_decode_fed = msgspec.msgpack.Decoder(list[Fed]).decode
_decode_told = msgspec.msgpack.Decoder(Reading | Chunk).decode


class Worker:
    """A process that reads; one chunk at a time. It gets ready while the caller goes on."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        with suppress(OSError):  # who has too many pipes keeps a small one
            fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def begin(self, reading: Reading) -> None:
        """The chunks that follow are read like this. Raises EOFError when the process has ended."""
        self._send(_encode(reading))

    def read(self, chunk: Chunk) -> bytes:
        """The records of the chunk, for :func:`decode`. Raises EOFError when the process has ended."""
        self._send(_encode(chunk))
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        return _receive(self._process.stdout)

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            self._process.stdin.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EOFError from None

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


def decode(data: bytes) -> list[Fed]:
    """What a worker has read."""
    return _decode_fed(data)


def _receive(stream: IO[bytes]) -> bytes:
    length = stream.read(_LENGTH_BYTES)
    if len(length) < _LENGTH_BYTES:
        raise EOFError
    data = stream.read(int.from_bytes(length, "big"))
    if len(data) < int.from_bytes(length, "big"):
        raise EOFError
    return data


def main() -> None:
    """Serves until the input ends."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the import, which then ends this process
    os.nice(_NICENESS)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    try:
        while True:
            told = _decode_told(_receive(source))
            if isinstance(told, Reading):
                reader = Reader(told)
                continue
            data = _encode(reader.read(told))
            target.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
            target.flush()
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    main()
