"""Imports files into the directory of care services: CSV rows or FHIR resources, some hundred in one transaction.

What a file says again changes nothing; so a killed import is begun anew and passes over what is stored.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from obieg.actors.patient_curation import OPERATOR
from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.directory import Draft, Index, Standing, identifier
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.mapping import directory_csv
from obieg.mapping.directory_terms import KINDS, index, normal
from obieg.ops.failure import Failure
from obieg.ops.import_files import REASON, RECORD_BYTES_MAX, Chunk, Header, Source, chunks, csv_rows
from obieg.ops.importing import Rejects
from obieg.storage.directory_store import PostgresDirectoryStore
from obieg.wire import fhir_json
from obieg.wire.fhir_elements import check
from obieg.wire.fhir_json import JsonRefused

HEADER = Header("directory", "directory", directory_csv.COLUMNS, directory_csv.read_header)
COUNTED = ("created", "updated", "unchanged", "deactivated", "rejected")
BUNDLE_BYTES_MAX = 256 << 20  # a Bundle is read as a whole
_RECORDS = 200  # of one transaction
_ATTEMPTS = 8
_OFF = {"Location": ("status", "inactive"), "Endpoint": ("status", "off")}  # of other types: active = false
_OID = "urn:oid:"
_KIND_OF = {_OID + oid: kind for kind, oid in toml("national/pl/pik.toml")["roots"].items()}
_KIND_OF |= {system: kind for kind, system in toml("fhir.toml")["directory"]["systems"].items()}


class Record(NamedTuple):
    """What one record of the file says, or why it is not taken."""

    line: int
    offset: int  # within the chunk
    size: int
    resources: tuple[dict[str, Any], ...] = ()
    needs: tuple[str, ...] = ()  # Organizations that must stand somewhere
    reason: str = ""


class Imported(NamedTuple):
    """What an import came to."""

    counts: Mapping[str, int]
    rejects: Path | None
    first_rejects: Sequence[tuple[int, str]]
    kept_since_rejected: bool = False  # what is not in the file was left alone, because records were rejected


class DirectoryImport:
    """Imports one file."""

    def __init__(
        self,
        store: PostgresDirectoryStore,
        source: Source,
        *,
        speaker: str,
        by: str,
        dry_run: bool = False,
        advance: Callable[[int, Mapping[str, int]], object] = lambda *_: None,
    ) -> None:
        """``speaker`` is who says what stands in the file; ``advance`` is told of bytes and counts."""
        self._store = store
        self._source = source
        self._speaker = speaker
        self._by = by
        self._dry_run = dry_run
        self._advance = advance
        self._seen: dict[tuple[str, str], tuple[bytes, int]] = {}
        self._organizations: set[str] = set()
        self._rejected: list[tuple[int, str]] = []
        self.counts: Counter[str] = Counter()

    async def run(self, rejects: Path, *, complete: bool) -> Imported:
        """Imports the file; raises Failure. ``complete``: what the speaker said before and is not in it is put out."""
        if not self._dry_run:
            _expect_room(rejects)
        file = None if self._dry_run else Rejects(rejects, self._source.header, 0)
        try:
            self._look_ahead()
            for chunk, records in self._records():
                refused: list[tuple[Record, str]] = []
                for start in range(0, len(records), _RECORDS):
                    refused += await self._take(records[start : start + _RECORDS])
                if refused and file is not None:
                    text = file.text(sorted(refused, key=lambda each: (each[0].line, each[0].offset)), chunk)
                    file.write(text)
                    file.length = file.after(text)
                self._rejected += [(r.line, why) for r, why in refused]
                self.counts["rejected"] += len(refused)
                self._advance(len(chunk.data), self.counts)
            kept = complete and bool(self._rejected)
            if complete and not kept:
                await self._put_out()
        finally:
            if file is not None:
                file.close()
        return Imported(
            self.counts, rejects if file is not None and file.length else None, sorted(self._rejected)[:10], kept
        )

    # reading --------------------------------------------------------------------------------------------------------

    def _look_ahead(self) -> None:
        """Notes the Organizations of a CSV file: its rows may stand in any order."""
        if self._source.layout is None:
            return
        for chunk in chunks(self._source, *self._source.start):
            for values, _, _, _ in self._rows(chunk):
                if values is not None and (id_ := directory_csv.organization_of(values, self._source.layout)):
                    self._organizations.add(id_)

    def _records(self) -> Iterator[tuple[Chunk, list[Record]]]:
        if self._source.layout is not None:
            for chunk in chunks(self._source, *self._source.start):
                yield chunk, [self._of_row(*row) for row in self._rows(chunk)]
        elif (bundle := self._bundle()) is not None:
            yield bundle
        else:
            for chunk in chunks(self._source, *self._source.start):
                yield chunk, list(self._lines(chunk))

    def _rows(self, chunk: Chunk) -> Iterator[tuple[list[str] | None, int, int, int]]:
        """Cells, line, offset and size of each row."""
        assert self._source.layout is not None  # noqa: S101
        lines = chunk.data.splitlines(keepends=True)
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line))
        texts = [line.decode(self._source.charset, "replace") for line in lines]
        # A reason that an earlier import wrote down is read over; it has a line of its own.
        texts = ["\n" if REASON.match(line) else text for line, text in zip(lines, texts, strict=True)]
        at = 0
        for values, count in csv_rows(texts, self._source.layout.delimiter):
            if values is None or any(v.strip() for v in values):
                yield values, chunk.line + at, starts[at], starts[at + count] - starts[at]
            at += count

    def _of_row(self, values: list[str] | None, line: int, offset: int, size: int) -> Record:
        assert self._source.layout is not None  # noqa: S101
        if values is None:
            return Record(line, offset, size, reason="the row cannot be read: a quotation mark is not closed")
        try:
            row = directory_csv.read_row(values, self._source.layout)
        except Problem as problem:
            return Record(line, offset, size, reason=_said(problem))
        return Record(line, offset, size, row.resources, row.needs)

    def _bundle(self) -> tuple[Chunk, list[Record]] | None:
        """The file as one Bundle written over several lines, or as one line; None where it is NDJSON."""
        with self._source.path.open("rb") as file:
            head = file.readline(RECORD_BYTES_MAX)
            if head.rstrip().endswith(b"}") and b'"Bundle"' not in head[:4096]:
                return None
            if self._source.size > BUNDLE_BYTES_MAX:
                raise Failure(
                    f"{self._source.path} is a Bundle of more than {BUNDLE_BYTES_MAX >> 20} MiB.",
                    "A Bundle is read as a whole; nothing was imported.",
                    "Give the resources as NDJSON, one on each line.",
                )
            data = head + file.read()
        try:
            bundle = fhir_json.read(data)
        except JsonRefused as error:
            if head.strip() and head.rstrip().endswith(b"}"):
                return None  # NDJSON whose first line is a Bundle
            raise Failure(
                f"{self._source.path} is no FHIR JSON: {error}.", "Nothing was imported.", "Give a Bundle or NDJSON."
            ) from None
        pieces, records, at = [], [], 0
        for number, resource in enumerate(_unpacked(bundle), 1):
            text = fhir_json.write(resource) + b"\n"
            records.append(_of_resource(resource, number, at, len(text)))
            pieces.append(text)
            at += len(text)
        return Chunk(0, 1, b"".join(pieces), len(pieces)), records

    def _lines(self, chunk: Chunk) -> Iterator[Record]:
        at = 0
        for number, raw in enumerate(chunk.data.splitlines(keepends=True)):
            line, offset = chunk.line + number, at
            at += len(raw)
            if not raw.strip() or REASON.match(raw):
                continue
            try:
                resource = fhir_json.read(raw.strip())
            except JsonRefused as error:
                yield Record(line, offset, len(raw), reason=str(error))
                continue
            for inner in _unpacked(resource):
                yield _of_resource(inner, line, offset, len(raw))

    # storing --------------------------------------------------------------------------------------------------------

    async def _take(self, records: Sequence[Record]) -> list[tuple[Record, str]]:
        """Stores what the records say; those that are refused, with the reason."""
        for _ in range(_ATTEMPTS):
            seen = dict(self._seen)
            counts, refused, drafts = await self._decided(records, seen)
            try:
                if drafts and not self._dry_run:
                    await self._store.store(drafts, self._event(drafts))
            except LostRace:
                continue
            self._seen = seen
            self.counts += counts
            return refused
        raise RetryLater(f"the directory was changed by others {_ATTEMPTS} times while this was taken in")

    async def _decided(
        self, records: Sequence[Record], seen: dict[tuple[str, str], tuple[bytes, int]]
    ) -> tuple[Counter[str], list[tuple[Record, str]], list[Draft]]:
        named = {_name(r) for record in records for r in record.resources}
        needed = {("Organization", n) for record in records for n in record.needs} - {
            ("Organization", o) for o in self._organizations
        }
        standing = await self._store.standing(sorted(named | needed))
        counts: Counter[str] = Counter()
        refused: list[tuple[Record, str]] = []
        drafts: list[Draft] = []
        for record in records:
            made = [(r, digest_of(r)) for r in record.resources]
            why = record.reason or self._why_not(record, made, seen, standing)
            if why:
                refused.append((record, why))
                continue
            for resource, digest in made:
                name = _name(resource)
                if name in seen:
                    continue
                seen[name] = (digest, record.line)
                now = standing.get(name)
                if now is not None and now.digest == digest and not now.deleted:
                    counts["unchanged"] += 1
                    continue
                counts["created" if now is None or now.deleted else "updated"] += 1
                drafts.append(draft_of(resource, digest, now.version if now else 0, self._speaker))
        return counts, refused, drafts

    def _why_not(
        self,
        record: Record,
        made: Sequence[tuple[dict[str, Any], bytes]],
        seen: Mapping[tuple[str, str], tuple[bytes, int]],
        standing: Mapping[tuple[str, str], Standing],
    ) -> str:
        for resource, digest in made:
            name = _name(resource)
            before, now = seen.get(name), standing.get(name)
            if before is not None and before[0] != digest:
                return f"line {before[1]} says something else of {'/'.join(name)}"
            if now is None or now.deleted or now.digest == digest:
                continue
            if now.source != self._speaker:
                return f"{'/'.join(name)} is kept by the source {now.source!r}; import it with --source {now.source}"
        for id_ in record.needs:
            kept = standing.get(("Organization", id_))
            if id_ not in self._organizations and (kept is None or kept.deleted):
                kind, _, number = id_.partition("-")
                return f"no {kind} {number} is in this file or in the directory"
        return ""

    async def _put_out(self) -> None:
        """Makes inactive what the speaker said before and does not say any more."""
        gone = [row for row in await self._store.of_source(self._speaker) if row[:2] not in self._seen]
        drafts = []
        for kind, _, version, content in gone:
            resource = fhir_json.read(content.encode())
            element, value = _OFF.get(kind, ("active", False))
            if resource.get(element) != value:
                resource[element] = value
                drafts.append(draft_of(resource, digest_of(resource), version, self._speaker))
        self.counts["deactivated"] += len(drafts)
        for start in range(0, 0 if self._dry_run else len(drafts), _RECORDS):
            part = drafts[start : start + _RECORDS]
            try:
                await self._store.store(part, self._event(part))
            except LostRace:
                raise RetryLater("the directory was changed by others while this was taken in") from None

    def _event(self, drafts: Sequence[Draft]) -> AuditEvent:
        return operator_event(
            f"import of {self._source.path.name} from {self._speaker}", [f"{d.kind}/{d.id}" for d in drafts], self._by
        )


def _expect_room(rejects: Path) -> None:
    if rejects.exists() and rejects.stat().st_size:
        raise Failure(
            f"{rejects} exists.",
            "What this import rejects would be written over it; nothing was imported.",
            "Move it away, or name another file with --rejects.",
        )


def operator_event(what: str, resources: Sequence[str], by: str) -> AuditEvent:
    """The audit record of a change that the operator makes."""
    return AuditEvent(
        transaction=OPERATOR,
        event="import",
        outcome=Outcome.SUCCESS,
        detail=what,
        source_user=by,
        requester=by,
        objects=tuple(AuditObject(kind="directory_resource", identifier=name) for name in resources),
    )


def removal(kind: str, id_: str, content: str, standing: Standing) -> Draft:
    """The draft that removes a resource."""
    before = standing.version
    return Draft(kind, id_, content, b"", Index(), before=before, deleted=True, source=standing.source)


def draft_of(resource: dict[str, Any], digest: bytes, before: int, speaker: str) -> Draft:
    """The draft of a resource that follows a version; what is no type of the directory is not found by a search."""
    kind, id_ = _name(resource)
    text = fhir_json.write(resource).decode()
    found_by = index(resource) if kind in KINDS else Index()
    return Draft(kind, id_, text, digest, found_by, before=before, source=speaker)


def _name(resource: Mapping[str, Any]) -> tuple[str, str]:
    return resource["resourceType"], resource["id"]


def digest_of(resource: dict[str, Any]) -> bytes:
    """Of what the resource says, whatever the order of its elements."""
    return hashlib.sha256(fhir_json.write(_sorted(resource))).digest()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(v) for v in value] if isinstance(value, list) else value


# FHIR ----------------------------------------------------------------------------------------------------------------


def _unpacked(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The resource, or those of a Bundle with the references among them made local."""
    if resource.get("resourceType") != "Bundle":
        yield resource
        return
    entries = [e for e in resource.get("entry", ()) if isinstance(e, dict) and isinstance(e.get("resource"), dict)]
    local = {
        e["fullUrl"]: f"{e['resource'].get('resourceType')}/{_own_id(e['resource'])}"
        for e in entries
        if isinstance(e.get("fullUrl"), str)
    }
    for entry in entries:
        yield _localised({**entry["resource"], "id": _own_id(entry["resource"])}, local)


def _own_id(resource: Mapping[str, Any]) -> str:
    """Its logical id; where it has none, one made of its first identifier, the same in every file."""
    if isinstance(resource.get("id"), str):
        return str(resource["id"])
    for each in resource.get("identifier") or ():
        if isinstance(each, dict) and each.get("system") and each.get("value"):
            told = f"{resource.get('resourceType')}|{each['system']}|{normal(each['system'], str(each['value']))}"
            return hashlib.sha256(told.encode()).hexdigest()[:32]
    return ""


def _localised(value: Any, local: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            k: local.get(v, v) if k == "reference" and isinstance(v, str) else _localised(v, local)
            for k, v in value.items()
        }
    return [_localised(v, local) for v in value] if isinstance(value, list) else value


def _of_resource(resource: dict[str, Any], line: int, offset: int, size: int) -> Record:
    """A record of one resource, checked."""
    kind = resource.get("resourceType")
    if kind not in KINDS:
        why = f"{str(kind)[:40]} is no resource of the directory, which has {', '.join(KINDS)}"
        return Record(line, offset, size, reason=why)
    resource = {**resource, "id": _own_id(resource)}
    if not resource["id"]:
        return Record(line, offset, size, reason="it has neither an id nor an identifier with a system")
    resource["meta"] = {k: v for k, v in resource.get("meta", {}).items() if k not in ("versionId", "lastUpdated")}
    if not resource["meta"]:
        del resource["meta"]
    if faults := check(resource):
        return Record(line, offset, size, reason="; ".join(f"{f.path}: {f.said}" for f in faults[:5]))
    whys = []
    for number, each in enumerate(
        resource.get("identifier", ()) if isinstance(resource.get("identifier"), list) else ()
    ):
        known = _KIND_OF.get(each.get("system", ""), "")
        if known and (why := identifier(known, each.get("value", ""))[1]):
            whys.append(f"{kind}.identifier[{number}].value {each.get('value', '')[:40]!r}: {why}")
    return Record(line, offset, size, (resource,), reason="; ".join(whys))


def _said(problem: Problem) -> str:
    return "; ".join(f"{f.location}: {f.detail}" if f.location else f.detail for f in problem.findings)
