"""Everything that the node knows, over FHIR: of one patient as pages (Patient/$everything), of all as files ($export).

An export is a row that says how far it has come. The leading worker reads a page of resources, packs it, and commits it
together with where it leads; so a worker that dies at any moment has neither lost nor repeated a resource, and whoever
leads next goes on. A piece of a file is DEFLATE data (RFC 1951) that ends on a byte and does not end the file. Between
a header and a trailer the pieces are one gzip member (RFC 1952): of several, many clients read the first only.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from obieg.actors.access_control import AccessControl, Seen
from obieg.domain.audit import AuditObject
from obieg.domain.exporting import (
    EverythingRequest,
    Export,
    ExportFile,
    ExportPiece,
    ExportRequest,
    ExportStore,
    Providers,
)
from obieg.domain.identifiers import PatientId
from obieg.domain.permits import Named
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.sight import EVERYTHING
from obieg.protocol import Context

BATCH = 200  # resources read and packed at a time
FILE_RESOURCES_MAX = 50_000
PAGE, PAGE_MAX = 50, 200  # resources on a page of $everything
KEEP_TIME_S = 24 * 3600  # how long files can be fetched after an export has finished
REST_S = 1.0  # when nothing is to be done
RETRY_S = 10.0
EXPIRE_PAUSE_S = 600.0
_DOCUMENTS = "DocumentReference"
_PACK_LEVEL = 6
_RAW = -zlib.MAX_WBITS  # DEFLATE alone
_HEADER = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))  # of gzip: no name, no time, no system
_LAST_BLOCK = b"\x03\x00"  # an empty one
_TRAILER_BYTES = 8  # CRC-32 and size of what is packed
_PIECE_BYTES = 1 << 20

log = structlog.get_logger()


class Standing(NamedTuple):
    """An export, and its files once it is done."""

    export: Export
    files: Sequence[ExportFile]
    expires_at: datetime | None


class Everything(NamedTuple):
    """One page of what is known of a patient; the cursor leads to the next one."""

    resources: Sequence[bytes]
    cursor: str


class FileContent:
    """A file of an export, read from the database while it is sent."""

    content_type = "application/fhir+ndjson"

    def __init__(self, store: ExportStore, export_id: str, file: ExportFile, *, packed: bool) -> None:
        self._store = store
        self._export_id = export_id
        self._file = file
        self._packed = packed
        around = len(_HEADER) + len(_LAST_BLOCK) + _TRAILER_BYTES
        self.size = file.packed + around if packed else file.size

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in pieces of at most 1 MiB."""
        crc = size = 0
        if self._packed:
            yield _HEADER
        async for piece in self._store.content(self._export_id, self._file.number):
            lines, crc = await asyncio.to_thread(_unpack, piece, crc)
            size += len(lines)
            data = piece if self._packed else lines
            for start in range(0, len(data), _PIECE_BYTES):
                yield data[start : start + _PIECE_BYTES]
        if self._packed:
            yield _LAST_BLOCK + b"".join(n.to_bytes(4, "little") for n in (crc, size & 0xFFFFFFFF))


class Exporter:
    """Answers $everything, keeps and works off exports."""

    def __init__(
        self,
        store: ExportStore,
        providers: Providers,
        *,
        of_patients: frozenset[str],
        new_uuid: Callable[[], str],
        access: AccessControl | None = None,
    ) -> None:
        """``of_patients`` are the types that belong to a patient, as FHIR's patient compartment has them."""
        self._store = store
        self._providers = providers
        self._of_patients = of_patients
        self._new_uuid = new_uuid
        self._access = access or AccessControl()

    # one patient ------------------------------------------------------------------------------------------------

    async def everything(self, asked: EverythingRequest, context: Context) -> Everything:
        """A page of it: the Patient first. Raises Problem."""
        seen = await self._access.see(Named((asked.patient,)), context)
        seen.refused(context, asked.patient.authority)
        seen.told(context)
        keys = await self._store.patient_keys(asked.patient)
        if not keys or not (seen.open or await self._shows(asked, keys, seen)):
            raise Problem.of("AddressNotFound", "no Patient has this id, or none that this caller may know of")
        types = self._types(asked.types, patients_only=True)
        number, after = _read_cursor(asked.cursor, len(types))
        wanted = min(asked.count or PAGE, PAGE_MAX)
        resources: list[bytes] = []
        while number < len(types) and len(resources) < wanted:
            page = await self._providers[types[number]].page(
                after,
                keys=keys,
                since=asked.since,
                base=asked.base,
                count=wanted - len(resources),
                sight=seen.sight,
            )
            resources += page.resources
            after = page.after
            number += not after
        await self._store.record(context.audit())
        context.audited = True
        return Everything(resources, f"{number}.{after}" if number < len(types) else "")

    async def some_of(
        self, type_: str, patient: PatientId, context: Context, *, base: str, most: int
    ) -> tuple[Sequence[bytes], bool]:
        """Resources of one type that the caller may see, and whether there are more; who gives them out records it."""
        seen = await self._access.see(Named((patient,)), context)
        keys = await self._store.patient_keys(patient)
        found: list[bytes] = []
        after = ""
        while len(found) < most:
            page = await self._providers[type_].page(
                after, keys=keys, since=None, base=base, count=min(most - len(found), BATCH), sight=seen.sight
            )
            found += page.resources
            after = page.after
            if not after:
                break
        return found, bool(after)

    async def _shows(self, asked: EverythingRequest, keys: Sequence[int], seen: Seen) -> bool:
        """Whether any document of the patient may be seen."""
        page = await self._providers[_DOCUMENTS].page(
            "", keys=keys, since=None, base=asked.base, count=1, sight=seen.sight
        )
        return bool(page.resources)

    # exports ----------------------------------------------------------------------------------------------------

    async def begin(self, asked: ExportRequest, context: Context) -> str:
        """Starts an export; its id. Raises Problem for types that are not exported, and for whoever may not."""
        _expect_operator(context)
        types = self._types(asked.types, patients_only=asked.patients_only)
        export_id = self._new_uuid()
        context.objects = (*context.objects, AuditObject("export", export_id))
        await self._store.begin(export_id, asked, types, context.audit())
        context.audited = True
        return export_id

    def _types(self, asked: Sequence[str], *, patients_only: bool) -> tuple[str, ...]:
        served = [t for t in self._providers if not patients_only or t in self._of_patients]
        if unknown := [t for t in asked if t not in served]:
            said = f"{', '.join(unknown)[:200]}: not given out here; {', '.join(served)} are"
            raise Problem.of("UnsupportedQueryField", said, "http._type")
        return tuple(t for t in served if not asked or t in asked)

    async def state(self, export_id: str, context: Context) -> Standing:
        """How an export stands. Raises Problem for one that there is not, or that failed."""
        export = await self._own(export_id, context)
        if export.state == "F":
            raise Problem.of("XDSRegistryError", f"the export failed: {export.error}; ask for another one")
        if export.state == "R":
            return Standing(export, (), None)
        assert export.finished_at is not None  # noqa: S101 - it is done
        expires_at = export.finished_at + timedelta(seconds=KEEP_TIME_S)
        return Standing(export, await self._store.files(export_id), expires_at)

    async def file(self, export_id: str, number: int, context: Context, *, packed: bool) -> FileContent:
        """A file of a finished export, audited. Raises Problem."""
        export = await self._own(export_id, context)
        found = next((f for f in await self._store.files(export_id) if f.number == number), None)
        if found is None or export.state != "D":
            raise Problem.of("AddressNotFound", "this export has no such file")
        await self._store.record(context.audit())
        context.audited = True
        return FileContent(self._store, export_id, found, packed=packed)

    async def cancel(self, export_id: str, context: Context) -> None:
        """Ends an export, or forgets a finished one. Raises Problem where there is none."""
        await self._own(export_id, context)
        await self._store.delete(export_id, _asker(context), context.audit())
        context.audited = True

    async def _own(self, export_id: str, context: Context) -> Export:
        _expect_operator(context)
        export = await self._store.read(export_id, _asker(context))
        if export is None:
            raise _no_export()
        return export

    # the work ---------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Works off exports, for ever; for the leading worker."""
        while True:
            try:
                export = await self._store.running()
                if export is None:
                    await asyncio.sleep(REST_S)
                else:
                    await self._step(export)
            except LostRace:
                continue  # it was ended, or another worker led for a moment
            except RetryLater as error:
                log.warning("an export waits", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _step(self, export: Export) -> None:
        """The next page of the oldest export."""
        try:
            provider = self._providers[export.types[export.at_type - 1]]
            page = await provider.page(
                export.after, keys=None, since=export.since, base=export.base, count=BATCH, sight=EVERYTHING
            )
        except (LostRace, RetryLater):
            raise
        except Exception:
            log.exception("an export failed", export=export.export_id)
            await self._store.fail(export, "the node could not write a resource; its log tells which")
            return
        content, size = await asyncio.to_thread(_pack, page.resources)
        in_file = export.in_file + len(page.resources)
        next_type = not page.after
        next_file = in_file > 0 and (next_type or in_file >= FILE_RESOURCES_MAX)
        at_type = export.at_type + next_type
        await self._store.advance(
            export,
            ExportPiece(
                resources=len(page.resources),
                size=size,
                content=content,
                at_type=at_type,
                after=page.after,
                file=export.file + next_file,
                in_file=0 if next_file else in_file,
                finished=at_type > len(export.types),
            ),
        )

    async def expire(self) -> None:
        """Forgets files that nobody may fetch any more, for ever; for the leading worker."""
        while True:
            try:
                await self._store.expire(KEEP_TIME_S)
            except RetryLater as error:
                log.warning("old exports could not be forgotten", error=str(error))
            await asyncio.sleep(EXPIRE_PAUSE_S)


def _pack(resources: Sequence[bytes]) -> tuple[bytes, int]:
    """A piece of a file, and how many bytes it holds."""
    lines = b"".join([line for resource in resources for line in (resource, b"\n")])
    if not lines:
        return b"", 0
    packing = zlib.compressobj(_PACK_LEVEL, zlib.DEFLATED, _RAW)
    return packing.compress(lines) + packing.flush(zlib.Z_SYNC_FLUSH), len(lines)


def _unpack(piece: bytes, crc: int) -> tuple[bytes, int]:
    """What a piece holds, and the CRC-32 of all up to its end; ``crc``: of all before it."""
    lines = zlib.decompressobj(_RAW).decompress(piece)
    return lines, zlib.crc32(lines, crc)


def _expect_operator(context: Context) -> None:
    """The operator's own services, by tokens for themselves; in the laboratory, on loopback, anybody."""
    requester = context.requester
    service = requester.proof == "oauth" and not requester.person
    if requester.repositories is not None and not service:
        raise Problem.of("NotPermitted", "exports of everything are for the operator of the node")


def _asker(context: Context) -> str:
    return context.audit().requester


def _no_export() -> Problem:
    return Problem.of("AddressNotFound", "there is no such export: it was ended, or its time is over")


def _read_cursor(cursor: str, types: int) -> tuple[int, str]:
    if not cursor:
        return 0, ""
    number, point, after = cursor.partition(".")
    if not point or not number.isascii() or not number.isdecimal() or len(number) > 3 or int(number) >= types:
        raise Problem.of("UnknownCursor", "this is no place in an answer", "http._cursor")
    return int(number), after
