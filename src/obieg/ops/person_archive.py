"""``obieg patients everything``: all that a node knows about one person, in one archive (RODO art. 15 and 20).

JSON lines for each section of ``codes/national/pl/person_archive.toml``, the documents' bytes with a PDF beside each
CDA document, FHIR as NDJSON, and pages to read (:mod:`obieg.ops.person_pages`). What is said of several tables is read
in one snapshot; nothing is held in memory as a whole.
"""

from __future__ import annotations

import mimetypes
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import psycopg
import typer

from obieg.actors.document_viewer import CannotShow
from obieg.actors.patient_curation import OPERATOR
from obieg.actors.provider_directory import ProviderDirectory
from obieg.codes.load import toml
from obieg.domain.access_log import Access as Logged
from obieg.domain.audit import AuditEvent, AuditObject, Outcome, StoredAudit
from obieg.domain.document_store import DocumentUnreadableError
from obieg.domain.exporting import Provider
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.sight import Sight
from obieg.mapping import balp
from obieg.mapping.access_log import entry, hidden
from obieg.mapping.fhir_documents import Renderer
from obieg.mapping.withheld import Withheld
from obieg.ops.accounts import os_user
from obieg.ops.audit_events import audit_reading
from obieg.ops.documents import open_store
from obieg.ops.failure import Failure
from obieg.ops.index_access import PESEL_ROOT, Access, asked
from obieg.ops.options import NodeFile, OptionalSettingsFile
from obieg.ops.person_pages import LANGUAGE, WITHHELD, Pages, of_access
from obieg.ops.wiring_patients import affinity_domain
from obieg.storage.directory_store import PostgresDirectoryStore
from obieg.storage.export_store import DocumentPages, ListPages, PatientPages
from obieg.storage.statements import Statement, load
from obieg.web.kit import texts
from obieg.web.pdf import PdfFailed, make_pdf
from obieg.web.reader import CDA, SHOWN_MAX

if TYPE_CHECKING:
    from obieg.ops.erasing import Judged

_SECTIONS: list[dict[str, Any]] = toml("national/pl/person_archive.toml")["sections"]
_SQL = load("person.sql")
_ACCESSES = load("links.sql").find_accesses
_WITHHELD = load("emergency.sql").withheld_names
# What each section is read by; the accesses have a statement that others ask as well.
_STATEMENTS = {
    "patients": _SQL.person_patients,
    "identifiers": _SQL.person_identifiers,
    "records": _SQL.person_records,
    "links": _SQL.person_links,
    "links_taken_back": _SQL.person_links_taken_back,
    "decisions": _SQL.person_decisions,
    "documents": _SQL.person_documents,
    "submission_sets": _SQL.person_submission_sets,
    "folders": _SQL.person_folders,
    "associations": _SQL.person_associations,
    "corrections": _SQL.person_corrections,
    "removed": _SQL.person_removed,
    "last_entries": _SQL.person_last_entries,
    "facts": _SQL.person_facts,
    "emergencies": _SQL.person_emergencies,
    "consent_codes": _SQL.person_consent_codes,
    "notices": _SQL.person_notices,
    "awaited": _SQL.person_awaited,
    "health_links": _SQL.person_health_links,
    "messages": _SQL.person_messages,
    "retention": _SQL.person_retention,
    "subscriptions": _SQL.person_subscriptions,
    "letters": _SQL.person_letters,
    "inbox": _SQL.person_inbox,
    "sessions": _SQL.person_sessions,
}
_ROWS_AT_ONCE = 500
_encode = msgspec.json.Encoder().encode
_README = """Archiwum danych jednej osoby, sporządzone {at} przez węzeł {node}.

osoba.pdf     to samo do czytania i druku (dalsze części: osoba-2.pdf, …)
json/         wszystkie dane: jeden plik na dział, jeden wiersz JSON na wpis
documents/    treść dokumentów, a dokumenty HL7 CDA także jako PDF; contents.ndjson mówi, co jest którym dokumentem
fhir/         to samo jako zasoby FHIR R4 (NDJSON)

Archive of all data about one person, made {at} by node {node}: pages to read and print (PDF), JSON lines by section,
the documents themselves, those of HL7 CDA as PDF, too (contents.ndjson names them), and FHIR R4 resources as NDJSON.
"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(everything)


def everything(
    who: Annotated[str, typer.Argument(metavar="PATIENT", help="PESEL, number@authority, or patient id.")],
    out: Annotated[Path, typer.Option(metavar="FILE.zip", help="The archive to write.")],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
) -> None:
    """Write all that this node knows about a person into one archive: JSON, FHIR, documents, pages to print.

    It is recorded as an export, and stands in the person's access log.
    """
    if out.exists():
        raise Failure(f"{out} exists.", "Nothing was written.", "Choose another name.")

    async def make(access: Access) -> dict[str, int]:
        identifier = access.identifier(who)
        standing = (await access.who.store.standing((identifier,))).get(identifier)
        if standing is None:
            raise Failure(f"No patient has the identifier {who}.", "Nothing was written.", "Check the number.")
        return await write(access, standing.patient_key, out)

    counts = asked(node, settings, make)
    typer.echo(f"{out}: {sum(counts.values())} entries, {counts['contents']} documents")


async def write(access: Access, patient_key: int, out: Path) -> dict[str, int]:
    """Writes the archive; how many entries each section has."""
    counts: dict[str, int] = {}
    at = datetime.now(UTC)
    with _written(out) as archive, _snapshot(access) as connection:
        [(keys,)] = _rows(connection, _SQL.person_keys, patient_key=patient_key)
        ids = [
            str(PatientId(p["affinity_domain_id"], access.authority))
            for p in map(msgspec.json.decode, _lines(connection, _SQL.person_patients, keys=keys))
        ]
        names = {"at": at.isoformat(timespec="seconds"), "node": access.settings.name}
        archive.writestr("README.txt", _README.format(**names))
        pages = Pages(who=", ".join(i.partition("^")[0] for i in ids), at=at, node=access.settings.name)
        log = await _Log.of(connection, access, patient_key, ids)
        given = {"keys": keys, "ids": ids, "pesel_root": PESEL_ROOT}
        for section in _SECTIONS:
            name = section["name"]
            lines: Iterator[bytes]
            if name == "accesses":
                lines = (_encode(log.said(row)) for row in _accesses(connection, access, patient_key))
            else:
                statement = _STATEMENTS[name]
                lines = _lines(connection, statement, **{p: given[p] for p in statement.parameters})
            lines = map(log.unnamed.line, lines)
            counts[name] = _put(archive, f"json/{name}.ndjson", pages.section(section, lines))
        rows = _rows(connection, _SQL.person_contents, keys=keys, ids=ids)
        counts["contents"] = await put_contents(access, archive, rows, readable=True)
        await _put_fhir(access, connection, archive, keys, patient_key, log)
        await pages.put(archive, counts["contents"])
        objects = [AuditObject("patient", cx) for cx in ids]
        # Before the file has its name: nobody has an export that is not recorded.
        await access.audit.record(_exported(access, "everything about one person", objects))
    return counts


async def hand_over(access: Access, folder: Path, of: Sequence[Judged]) -> None:
    """A file for a patient: the documents that are to be destroyed, with what retention says of them."""
    patient = of[0].patient
    with _written(folder / f"{patient.partition('^')[0]}.zip") as archive, _snapshot(access) as connection:
        told = (
            _encode({"unique_id": o.document.unique_id, "title": o.document.title, "class": o.term.class_,
                     "kept_until": o.term.until, "why": o.term.why, "written": o.document.creation_time})
            for o in of
        )  # fmt: skip
        _put(archive, "documents.ndjson", told)
        rows = _rows(connection, _SQL.contents_of, unique_ids=[o.document.unique_id for o in of])
        await put_contents(access, archive, rows)
        about = [AuditObject("patient", patient), *(AuditObject("document", o.document.unique_id) for o in of)]
        await access.audit.record(_exported(access, "offered before erasure", about))


def _exported(access: Access, detail: str, objects: Sequence[AuditObject]) -> AuditEvent:
    return AuditEvent(
        transaction=OPERATOR,
        event="export",
        outcome=Outcome.SUCCESS,
        detail=detail,
        source_user=os_user(),
        destination_user=access.settings.name,
        requester=os_user(),
        objects=tuple(objects),
    )


@contextmanager
def _written(out: Path) -> Iterator[zipfile.ZipFile]:
    """The archive has its name when it is whole."""
    part = out.with_name(out.name + ".part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600), "w+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
        part.rename(out)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _snapshot(access: Access) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(access.dsn, application_name="obieg patients everything") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        yield connection


def _rows(connection: psycopg.Connection[Any], statement: Statement, **given: Any) -> Iterator[tuple[Any, ...]]:
    with psycopg.RawServerCursor(connection, statement.name) as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        cursor.execute(statement.sql.encode(), [given[name] for name in statement.parameters])
        yield from cursor


def _lines(connection: psycopg.Connection[Any], statement: Statement, **given: Any) -> Iterator[bytes]:
    return (line.encode() for (line,) in _rows(connection, statement, **given))


def _accesses(connection: psycopg.Connection[Any], access: Access, key: int) -> Iterator[StoredAudit]:
    rows = _rows(
        connection, _ACCESSES, patient_key=key, suffix=str(PatientId("", access.authority)), reading=False,
        since="-infinity", until="infinity", rows_max=1 << 62,
    )  # fmt: skip
    for id_, at, name, outcome, cx, request_id, message, happened_at, form, sender in rows:
        yield StoredAudit(id_, at, happened_at, form, name, outcome, cx, request_id, sender, message)


class _Log:
    """What is said of records of access: what the person's access log says, so no names that an officer withholds.

    ``unnamed`` leaves these out of all else.
    """

    def __init__(self, withheld: frozenset[str], people: Mapping[str, str], places: Mapping[str, str]) -> None:
        self.unnamed = Withheld(withheld, WITHHELD)
        self._withheld = withheld
        self._people, self._places = people, places

    @classmethod
    async def of(
        cls, connection: psycopg.Connection[Any], access: Access, patient_key: int, ids: Sequence[str]
    ) -> _Log:
        """``ids``: CX of the person."""
        withheld: set[str] = set()
        for each in filter(None, map(patient_id, ids)):
            rows = _rows(connection, _WITHHELD, authority=each.authority, value=each.value)
            withheld |= {person for (person,) in rows}
        people: set[str] = set()
        places: set[str] = set()
        for found in map(entry, _accesses(connection, access, patient_key)):
            people.update(found.nameless)
            places.add(found.organisation)
        directory = ProviderDirectory(PostgresDirectoryStore(access.database, access.audit))
        named = await directory.practitioner_names(people)
        return cls(frozenset(withheld), named, await directory.organisation_names(places - {""}))

    def entry(self, row: StoredAudit) -> Logged:
        """As the log shows it."""
        return hidden(entry(row), self._withheld).named(self._people, self._places)

    def said(self, row: StoredAudit) -> dict[str, Any]:
        """A line; of whom an officer withholds, without the record itself, which has the name."""
        found = self.entry(row)
        whole = {} if found.withheld else {"message": row.message}
        known = {"audit_id": row.audit_id, "patient_id": row.patient_id, "request_id": row.request_id}
        return {
            **known, "recorded_at": row.recorded_at, "transaction": row.transaction, "outcome": str(row.outcome),
            **of_access(found), "bases": found.bases, "documents": found.documents, **whole,
        }  # fmt: skip


def _put(archive: zipfile.ZipFile, name: str, lines: Iterator[bytes]) -> int:
    count = 0
    with archive.open(name, "w", force_zip64=True) as file:
        for line in lines:
            file.write(line + b"\n")
            count += 1
    return count


async def put_contents(
    access: Access, archive: zipfile.ZipFile, rows: Iterator[tuple[Any, ...]], *, readable: bool = False
) -> int:
    """The bytes of documents and the list of them; how many. One that cannot be read is listed with the reason.

    ``readable``: beside each CDA document it stands as PDF, unless none can be made of it.
    """
    store = open_store(access.settings)
    listed = []
    try:
        for number, (unique_id, mime_type, size, sha256, location, key) in enumerate(rows, 1):
            stem = f"documents/{number:06}"
            name = stem + (mimetypes.guess_extension(mime_type) or ".bin")
            shown = bytearray()
            show = readable and mime_type in CDA and size <= SHOWN_MAX
            one = {"unique_id": unique_id, "file": name, "mime_type": mime_type, "size": size, "sha256": sha256}
            try:
                with archive.open(name, "w", force_zip64=True) as file:
                    async for piece in store.read(location, bytes(key)):
                        file.write(piece)
                        shown += piece if show else b""
                if show and (made := await _pdf(bytes(shown))):
                    archive.writestr(f"{stem}.pdf", made)
                    one["pdf"] = f"{stem}.pdf"
            except DocumentUnreadableError as error:
                one["unreadable"] = str(error)
            listed.append(one)
    finally:
        await store.close()
    return _put(archive, "documents/contents.ndjson", map(_encode, listed))


async def _pdf(document: bytes) -> bytes:
    """b"" for what is no CDA, and for a document of which none can be made: it is there as it is."""
    try:
        return await make_pdf(document, texts=texts(LANGUAGE))
    except (CannotShow, PdfFailed):
        return b""


async def _put_fhir(
    access: Access,
    connection: psycopg.Connection[Any],
    archive: zipfile.ZipFile,
    keys: Sequence[int],
    patient_key: int,
    log: _Log,
) -> None:
    renderer = Renderer(affinity_domain(access.settings))
    base = access.settings.http.public_url.rstrip("/")
    providers: dict[str, Provider] = {
        "Patient": PatientPages(access.database, access.who.actor.candidates),
        "DocumentReference": DocumentPages(access.database, renderer),
        "List": ListPages(access.database, renderer),
    }
    for kind, provider in providers.items():
        with archive.open(f"fhir/{kind}.ndjson", "w", force_zip64=True) as file:
            after = ""
            while True:
                page = await provider.page(after, keys=keys, since=None, base=base, count=_ROWS_AT_ONCE, sight=Sight())
                for resource in page.resources:
                    file.write(log.unnamed.line(resource) + b"\n")
                after = page.after
                if not after:
                    break
    consents = _lines(connection, _SQL.person_consents, keys=keys)
    _put(archive, "fhir/Consent.ndjson", map(log.unnamed.line, consents))
    reading = audit_reading(access.settings)
    _put(
        archive,
        "fhir/AuditEvent.ndjson",
        (
            log.unnamed.line(_encode(event))
            for row in _accesses(connection, access, patient_key)
            if not log.entry(row).withheld
            for event in balp.render(row, reading)
        ),
    )
