"""Exports in PostgreSQL (port :class:`obieg.domain.exporting.ExportStore`), and what they are made of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from obieg.domain.audit import AuditEvent
from obieg.domain.exporting import Export, ExportFile, ExportPiece, ExportRequest, Page
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import Candidate
from obieg.domain.problems import Problem
from obieg.domain.registry import FoundResource
from obieg.domain.sight import Sight
from obieg.mapping.ebrim import read_rendering
from obieg.mapping.fhir_documents import Renderer, splice
from obieg.mapping.fhir_patient import write_patient
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, Row, run
from obieg.storage.statements import Statement, load
from obieg.wire import fhir_json

_SQL = load("exports.sql")
_FIRST = "00000000-0000-0000-0000-000000000000"


class PostgresExports:
    """Implements the port."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def patient_keys(self, patient: PatientId) -> list[int]:
        """See the port."""
        [rows] = await run(self._database, _SQL.patient_keys(authority=patient.authority, value=patient.value))
        return [key for (key,) in rows]

    async def begin(self, export_id: str, asked: ExportRequest, types: Sequence[str], event: AuditEvent) -> None:
        """See the port."""
        since = asked.since.isoformat() if asked.since else None
        await run(
            self._database,
            _SQL.insert_export(
                export_id=export_id,
                requester=event.requester,
                request=asked.request,
                base=asked.base,
                types=types,
                since=since,
            ),
            self._audit.call(event),
        )

    async def read(self, export_id: str, requester: str) -> Export | None:
        """See the port."""
        [rows] = await run(self._database, _SQL.read_export(export_id=export_id, requester=requester))
        return _export(rows[0]) if rows else None

    async def files(self, export_id: str) -> list[ExportFile]:
        """See the port."""
        [rows] = await run(self._database, _SQL.list_export_files(export_id=export_id))
        return [ExportFile._make(row) for row in rows]

    async def delete(self, export_id: str, requester: str, event: AuditEvent) -> bool:
        """See the port."""
        found, _ = await run(
            self._database, _SQL.delete_export(export_id=export_id, requester=requester), self._audit.call(event)
        )
        return bool(found[0][0])

    async def content(self, export_id: str, number: int) -> AsyncIterator[bytes]:
        """See the port."""
        position = -1
        while True:
            call = _SQL.next_export_piece(export_id=export_id, file=number, position=position)
            [rows] = await run(self._database, call)
            if not rows:
                return
            [(position, content)] = rows
            yield bytes(content)

    async def running(self) -> Export | None:
        """See the port."""
        [rows] = await run(self._database, _SQL.running_export())
        return _export(rows[0]) if rows else None

    async def advance(self, export: Export, piece: ExportPiece) -> None:
        """See the port."""
        calls = [
            _SQL.advance_export(
                export_id=export.export_id,
                position=export.position,
                at_type=piece.at_type,
                after=piece.after,
                file=piece.file,
                in_file=piece.in_file,
                finished=piece.finished,
            )
        ]
        if piece.resources:
            calls.append(
                _SQL.insert_export_piece(
                    export_id=export.export_id,
                    position=export.position,
                    type=export.types[export.at_type - 1],
                    file=export.file,
                    resources=piece.resources,
                    size=piece.size,
                    content=piece.content,
                )
            )
        await run(self._database, *calls)

    async def fail(self, export: Export, error: str) -> None:
        """See the port."""
        await run(self._database, _SQL.fail_export(export_id=export.export_id, position=export.position, error=error))

    async def expire(self, seconds: int) -> None:
        """See the port."""
        await run(self._database, _SQL.expire_exports(seconds=str(seconds)))

    async def record(self, event: AuditEvent) -> None:
        """See the port."""
        await run(self._database, self._audit.call(event))


def _export(row: Row) -> Export:
    export = Export._make(row)
    return export._replace(types=tuple(export.types))


# what is exported ------------------------------------------------------------------------------------------------


_PATIENT = re.compile(r"\d{1,19}", re.ASCII)
_OBJECT = re.compile(r"\d{1,19}/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def _expect_place(form: re.Pattern[str], after: str) -> None:
    """A place may come from outside, as the cursor of $everything."""
    if after and (not form.fullmatch(after) or int(after.partition("/")[0]) >= 1 << 63):
        raise Problem.of("UnknownCursor", "this is no place in an answer", "http._cursor")


class PatientPages:
    """Patients, by key."""

    def __init__(
        self, database: Database, candidates: Callable[[Sequence[int]], Awaitable[Mapping[int, Candidate]]]
    ) -> None:
        """``candidates`` reads the patients of keys."""
        self._database = database
        self._candidates = candidates

    async def page(
        self, after: str, *, keys: Sequence[int] | None, since: datetime | None, base: str, count: int, sight: Sight
    ) -> Page:
        """See :class:`obieg.domain.exporting.Provider`."""
        _ = base  # nothing in a Patient is an address of ours
        if sight.permitted is not None:
            keys = [key for key in sight.permitted if keys is None or key in keys]
        _expect_place(_PATIENT, after)
        call = _SQL.page_patients(
            after=after or "0", keys=keys, since=since.isoformat() if since else None, count=count + 1
        )
        [rows] = await run(self._database, call)
        found = [key for (key,) in rows[:count]]
        known = await self._candidates(found) if found else {}
        live = [known[key] for key in found if key in known and known[key].active]
        written = await asyncio.to_thread(lambda: [fhir_json.write(write_patient(c)) for c in live])
        return Page(written, str(found[-1]) if len(rows) > count else "")


class _ObjectPages:
    """Registry objects, by key and entryUUID, as renderings in FHIR."""

    def __init__(self, database: Database, renderer: Renderer, statement: Statement) -> None:
        self._database = database
        self._renderer = renderer
        self._statement = statement

    async def page(
        self, after: str, *, keys: Sequence[int] | None, since: datetime | None, base: str, count: int, sight: Sight
    ) -> Page:
        """See :class:`obieg.domain.exporting.Provider`."""
        _expect_place(_OBJECT, after)
        key, _, uuid = after.partition("/")
        call = self._statement.seen(
            sight,
            after_key=key or "0",
            after_uuid=uuid or _FIRST,
            keys=keys,
            since=since.isoformat() if since else None,
            count=count + 1,  # whether there are more
            rendering_version=self._renderer.version,
        )
        [rows] = await run(self._database, call)
        address = fhir_json.write({"base": base})[len('{"base":"') : -len('"}')]
        page = rows[:count]
        written = await asyncio.to_thread(lambda: [self._write(row, address) for row in page])
        return Page(written, f"{page[-1][1]}/{page[-1][2]}" if len(rows) > count else "")

    def _write(self, row: Row, base: bytes) -> bytes:
        kind, _, uuid, content, status, revision, updated_at, patient, relations, time, registered, version, ebrim = row
        if content is None:
            value: Any = read_rendering(kind, bytes(ebrim), status, version)
            content = self._renderer.render(value, _instant(registered))
        found = FoundResource(
            kind, uuid, bytes(content), status, revision, _instant(updated_at), patient or "", tuple(relations), time
        )
        return splice(found, base)


class DocumentPages(_ObjectPages):
    """DocumentReferences."""

    def __init__(self, database: Database, renderer: Renderer) -> None:
        super().__init__(database, renderer, _SQL.page_documents)


class ListPages(_ObjectPages):
    """Lists: submission sets and folders."""

    def __init__(self, database: Database, renderer: Renderer) -> None:
        super().__init__(database, renderer, _SQL.page_lists)


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
