"""``obieg patients everything``: all that a node knows about one person, in one archive (RODO art. 15 and 20).

JSON lines for each section of ``codes/national/pl/person_archive.toml``, the documents' bytes, FHIR as NDJSON, and a
page that prints well. What is said of several tables is read in one snapshot; nothing is held in memory as a whole.
"""

from __future__ import annotations

import html
import mimetypes
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import msgspec
import psycopg
import typer

from obieg.actors.patient_curation import OPERATOR
from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent, AuditObject, Outcome, StoredAudit
from obieg.domain.curation import Access as Seen
from obieg.domain.document_store import DocumentUnreadableError
from obieg.domain.exporting import Provider
from obieg.domain.identifiers import PatientId
from obieg.domain.sight import Sight
from obieg.mapping import balp
from obieg.mapping.fhir_documents import Renderer
from obieg.ops import showing_patients
from obieg.ops.accounts import os_user
from obieg.ops.audit_events import audit_reading
from obieg.ops.documents import open_store
from obieg.ops.failure import Failure
from obieg.ops.index_access import PESEL_ROOT, Access, asked
from obieg.ops.options import NodeFile, OptionalSettingsFile
from obieg.ops.wiring import affinity_domain
from obieg.storage.export_store import DocumentPages, ListPages, PatientPages
from obieg.storage.statements import Statement, load

if TYPE_CHECKING:
    from obieg.ops.erasing import Judged

_SECTIONS: list[dict[str, Any]] = toml("national/pl/person_archive.toml")["sections"]
_SQL = load("person.sql")
_ACCESSES = load("links.sql").find_accesses
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
    "facts": _SQL.person_facts,
    "emergencies": _SQL.person_emergencies,
    "consent_codes": _SQL.person_consent_codes,
    "notices": _SQL.person_notices,
    "awaited": _SQL.person_awaited,
    "retention": _SQL.person_retention,
    "subscriptions": _SQL.person_subscriptions,
    "letters": _SQL.person_letters,
    "inbox": _SQL.person_inbox,
    "sessions": _SQL.person_sessions,
}
_ROWS_AT_ONCE = 500
_encode = msgspec.json.Encoder().encode
_README = """Archiwum danych jednej osoby, sporządzone {at} przez węzeł {node}.

osoba.html    to samo do czytania i druku (w przeglądarce: Drukuj, Zapisz jako PDF)
json/         wszystkie dane: jeden plik na dział, jeden wiersz JSON na wpis
documents/    treść dokumentów; contents.ndjson mówi, który plik jest którym dokumentem
fhir/         to samo jako zasoby FHIR R4 (NDJSON)

Archive of all data about one person, made {at} by node {node}: a page to read and print, JSON lines by section,
the documents themselves (contents.ndjson names them), and FHIR R4 resources as NDJSON.
"""
_HEAD = """<!DOCTYPE html>
<html lang="pl"><head><meta charset="utf-8"><title>Dane osoby</title><style>
body {{ font: 11pt/1.4 sans-serif; margin: 2em; color: #111 }}
table {{ border-collapse: collapse; width: 100%; margin-bottom: 2em }}
th, td {{ border: 1px solid #999; padding: 2pt 4pt; text-align: left; vertical-align: top; overflow-wrap: anywhere }}
thead {{ display: table-header-group }} tr {{ break-inside: avoid }} h2 {{ break-after: avoid }}
@media print {{ body {{ margin: 0; font-size: 9pt }} @page {{ size: A4 landscape; margin: 12mm }} }}
</style></head><body><h1>Wszystkie dane o osobie {who}</h1>
<p>Sporządzono {at}, węzeł {node}. Podstawa: RODO art. 15.</p>
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
    """Write all that this node knows about a person into one archive: JSON, FHIR, documents, a page to print.

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
        page = _Page({**names, "who": ", ".join(i.partition("^")[0] for i in ids)})
        given = {"keys": keys, "ids": ids, "pesel_root": PESEL_ROOT}
        for section in _SECTIONS:
            name = section["name"]
            lines: Iterator[bytes]
            if name == "accesses":
                lines = (_encode(_access(row)) for row in _accesses(connection, access, patient_key))
            else:
                statement = _STATEMENTS[name]
                lines = _lines(connection, statement, **{p: given[p] for p in statement.parameters})
            counts[name] = _put(archive, f"json/{name}.ndjson", page.section(section, lines))
        rows = _rows(connection, _SQL.person_contents, keys=keys, ids=ids)
        counts["contents"] = await put_contents(access, archive, rows)
        await _put_fhir(access, connection, archive, keys, patient_key)
        page.put(archive, "osoba.html")
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


def _accesses(connection: psycopg.Connection[Any], access: Access, key: int) -> Iterator[tuple[Any, ...]]:
    return _rows(
        connection, _ACCESSES, patient_key=key, suffix=str(PatientId("", access.authority)), reading=False,
        since="-infinity", until="infinity", rows_max=1 << 62,
    )  # fmt: skip


def _access(row: tuple[Any, ...]) -> dict[str, Any]:
    id_, at, name, outcome, *rest = row
    seen = Seen(id_, at, name, str(outcome), *rest)
    return {**showing_patients.access_data(seen), "message": seen.message}


def _put(archive: zipfile.ZipFile, name: str, lines: Iterator[bytes]) -> int:
    count = 0
    with archive.open(name, "w", force_zip64=True) as file:
        for line in lines:
            file.write(line + b"\n")
            count += 1
    return count


async def put_contents(access: Access, archive: zipfile.ZipFile, rows: Iterator[tuple[Any, ...]]) -> int:
    """The bytes of documents and the list of them; how many. One that cannot be read is listed with the reason."""
    store = open_store(access.settings)
    listed = []
    try:
        for number, (unique_id, mime_type, size, sha256, location, key) in enumerate(rows, 1):
            name = f"documents/{number:06}{mimetypes.guess_extension(mime_type) or '.bin'}"
            one = {"unique_id": unique_id, "file": name, "mime_type": mime_type, "size": size, "sha256": sha256}
            try:
                with archive.open(name, "w", force_zip64=True) as file:
                    async for piece in store.read(location, bytes(key)):
                        file.write(piece)
            except DocumentUnreadableError as error:
                one["unreadable"] = str(error)
            listed.append(one)
    finally:
        await store.close()
    return _put(archive, "documents/contents.ndjson", map(_encode, listed))


async def _put_fhir(
    access: Access, connection: psycopg.Connection[Any], archive: zipfile.ZipFile, keys: Sequence[int], patient_key: int
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
                    file.write(resource + b"\n")
                after = page.after
                if not after:
                    break
    _put(archive, "fhir/Consent.ndjson", _lines(connection, _SQL.person_consents, keys=keys))
    reading = audit_reading(access.settings)
    _put(
        archive,
        "fhir/AuditEvent.ndjson",
        (
            _encode(event)
            for id_, at, name, outcome, cx, request_id, message in _accesses(connection, access, patient_key)
            for event in balp.render(
                StoredAudit(id_, at, None, "dicom", name, outcome, cx, request_id, "", message), reading
            )
        ),
    )


class _Page:
    """The page that is printed, made beside the archive of the same lines, so that both say the same."""

    def __init__(self, names: dict[str, str]) -> None:
        self.file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the page is
        self._write(_HEAD.format(**{k: html.escape(v) for k, v in names.items()}))

    def _write(self, text: str) -> None:
        self.file.write(text.encode())

    def section(self, section: dict[str, Any], lines: Iterator[bytes]) -> Iterator[bytes]:
        """The lines, each of which becomes a row as it passes."""
        shown = section["shown"]
        self._write(f"<h2>{html.escape(section['title'])}</h2>")
        empty = True
        for line in lines:
            if empty:
                self._write("<table><thead><tr>" + "".join(f"<th>{_cell(n)}</th>" for n in shown) + "</tr></thead>\n")
                empty = False
            said = msgspec.json.decode(line)
            self._write("<tr>" + "".join(f"<td>{_cell(said.get(n))}</td>" for n in shown) + "</tr>\n")
            yield line
        self._write("<p>Brak wpisów.</p>" if empty else "</table>")

    def put(self, archive: zipfile.ZipFile, name: str) -> None:
        """Into the archive."""
        self._write("</body></html>\n")
        self.file.seek(0)
        with archive.open(name, "w", force_zip64=True) as into:
            shutil.copyfileobj(self.file, into)
        self.file.close()


def _cell(value: Any) -> str:
    return html.escape(_said(value))


def _said(value: Any) -> str:
    match value:
        case None:
            return ""
        case dict():
            return "; ".join(f"{k}: {_said(v)}" for k, v in value.items() if v not in (None, "", [], {}))
        case list():
            return ", ".join(map(_said, value))
        case _:
            return str(value)
