"""``obieg submit``, ``find`` and ``get``: documents in, what there is, and documents out, over the standards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from obieg.domain.affinity_domain import polish
from obieg.domain.documents import AvailabilityStatus, Code, DocumentEntry, Localized
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.zone import WARSAW
from obieg.edges.clients import discard
from obieg.ops import describing, ready
from obieg.ops.exchange import APPROVED, DEPRECATED, Exchange
from obieg.ops.failure import Failure
from obieg.ops.options import AsJson, AsPerson, NeededNodeFile, Purpose, command
from obieg.ops.showing import print_json
from obieg.ops.submitting import JOBS, Item, Outcome, Result, Submitter, said
from obieg.protocol import Content
from obieg.wire.hl7v2 import unescape

_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2}))?")
STATUSES = {"approved": (APPROVED,), "deprecated": (DEPRECATED,), "all": (APPROVED, DEPRECATED)}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(submit)
    app.command()(find)
    app.command()(get)


@contextlib.asynccontextmanager
async def asking(node: Path, connections: int = 1, *, login: str = "", purpose: str = "") -> AsyncIterator[Exchange]:
    """An exchange with the node; what goes wrong with it is told to people. ``login``: see :func:`ready.asker`."""
    endpoints = ready.read(node)
    person = ready.asker(endpoints, login, purpose)
    with tempfile.TemporaryDirectory(prefix="obieg-") as spool:
        exchange = Exchange(endpoints, spool_folder=Path(spool), connections_max=connections, person=person)
        try:
            yield exchange
        except RetryLater as error:
            raise Failure(
                f"{error}.",
                "Without it nothing can be asked or handed in.",
                f"See whether the node of {node} runs, then try again.",
            ) from None
        except Problem as problem:
            raise Failure(
                "; ".join(f.detail or f.code for f in problem.findings),
                "The node understood what was asked and refuses it.",
                "Correct what it names; the node's log and audit tell more.",
            ) from None
        finally:
            await exchange.close()


# submit --------------------------------------------------------------------------------------------------------------

_FILE_PANEL = "Files that are not PIK HL7 CDA (a file's own FILE.json wins over these)"
_DESCRIBES = partial(typer.Option, rich_help_panel=_FILE_PANEL)


def submit(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="PIK HL7 CDA, PDF, PNG, JPEG or plain text; or folders of them."),
    ],
    node: NeededNodeFile,
    *,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Folders within folders, too.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Documents at a time.", min=1, max=32)] = JOBS,
    patient_id: Annotated[
        str,
        typer.Option(metavar="PESEL|CX", help="Patient of the files that name none: PESEL, or 'number^^^&OID&ISO'."),
    ] = "",
    type_: Annotated[str, _DESCRIBES("--type", metavar="LOINC", help="What it is, for example 18842-5.")] = "",
    class_: Annotated[
        str, _DESCRIBES("--class", metavar="KLAS_DOK_P1", help="Its class, where that does not follow from --type.")
    ] = "",
    title: Annotated[str, _DESCRIBES(metavar="TEXT", help="Title; the file's name if none is given.")] = "",
    confidentiality: Annotated[str, _DESCRIBES(metavar="N|R|V", help="How closely it is kept; N if not given.")] = "",
    author: Annotated[str, _DESCRIBES(metavar="NAME|XCN", help="Who wrote it: 'Jan Kowalski', or XCN.")] = "",
    institution: Annotated[str, _DESCRIBES(metavar="NAME|XON", help="Where it was written.")] = "",
    format_: Annotated[
        str, _DESCRIBES("--format", metavar="CODE^^SCHEME", help="Format code; follows from the kind of file if not.")
    ] = "",
    date: Annotated[
        str,
        _DESCRIBES(metavar="DATE", help="When it was written, as 2026-03-01 or '2026-03-01 14:30'; else the file's."),
    ] = "",
) -> None:
    """Hand documents in at a node: what is registered already is skipped, so a run can be repeated.

    PIK HL7 CDA 1.3.1 and 1.3.2 describe themselves. Each patient is announced
    to the region with the identifiers that the document names. A document that
    replaces another one replaces it in the registry as well.

    Of other files say what they are, with the options below or in a side file:
    for scan.pdf a scan.pdf.json such as {"patient_id": "44051401359",
    "type": "11502-2", "title": "Morfologia", "author": "Jan Kowalski"}.
    """
    told = describing.Told(
        patient_id=patient_id,
        type=type_,
        class_=class_,
        title=title,
        confidentiality=confidentiality,
        author=author,
        institution=institution,
        format=format_,
        date=date,
    )
    found = describing.files(files, recursive=recursive)
    if not found:
        raise Failure(
            "There is no document in what was named.",
            f"Of folders only files ending in {', '.join(sorted(describing.SUFFIXES))} are taken.",
            "Name the files themselves, or add --recursive.",
        )
    results = asyncio.run(_submit(found, told, node, jobs))
    console = Console(highlight=False)
    _print_summary(console, results)
    outcomes = {result.outcome for result in results}
    if Outcome.LEFT in outcomes:
        console.print("Interrupted: run the same command again to hand in the rest.")
        raise typer.Exit(130)
    if Outcome.REFUSED in outcomes:
        raise typer.Exit(1)


async def _submit(found: Sequence[Path], told: describing.Told, node: Path, jobs: int) -> list[Result]:
    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with asking(node, jobs) as exchange:
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            reading = progress.add_task("Reading", total=len(found))
            items: list[Item] = []
            results: list[Result] = []
            source_id = exchange.endpoint("repository_uid")
            with _interruptible() as interrupted:
                for path, name in zip(found, _names(found), strict=True):
                    if interrupted.is_set():
                        results.append(Result(name, Outcome.LEFT))
                        continue
                    try:
                        items.append(await asyncio.to_thread(describing.read, path, name, told, source_id=source_id))
                    except Problem as problem:
                        results.append(Result(name, Outcome.REFUSED, said(problem)))
                    progress.advance(reading)
                sending = progress.add_task("Submitting", total=len(items))
                submitter = Submitter(exchange, jobs=jobs, done=lambda _: progress.advance(sending))
                stopper = asyncio.create_task(_stop(interrupted, submitter))
                results += await submitter.submit(items)
                stopper.cancel()
    return results


@contextlib.contextmanager
def _interruptible() -> Iterator[asyncio.Event]:
    """The first Ctrl-C sets the event, the second one ends the program at once."""
    loop = asyncio.get_running_loop()
    interrupted = asyncio.Event()

    def note() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        interrupted.set()

    loop.add_signal_handler(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _stop(interrupted: asyncio.Event, submitter: Submitter) -> None:
    await interrupted.wait()
    submitter.stopping = True


_WORDS = {
    Outcome.NEW: "registered",
    Outcome.REPLACED: "registered in place of an earlier version",
    Outcome.SKIPPED: "skipped: registered already",
    Outcome.REFUSED: "[bold red]refused[/]",
    Outcome.LEFT: "not tried",
}


def _print_summary(console: Console, results: Sequence[Result]) -> None:
    counts = Counter(result.outcome for result in results)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right", style="bold")
    table.add_column()
    for outcome, word in _WORDS.items():
        if counts[outcome]:
            table.add_row(str(counts[outcome]), word)
    console.print(table)
    for heading, outcomes in (
        ("Worth knowing", (Outcome.NEW, Outcome.REPLACED, Outcome.SKIPPED)),
        ("Refused", (Outcome.REFUSED,)),
    ):
        rows = [r for r in results if r.outcome in outcomes and r.reason]
        if rows:
            told = Table(heading, "Why", box=None, pad_edge=False, padding=(0, 2, 0, 0))
            told.columns[0].overflow = told.columns[1].overflow = "fold"
            told.columns[0].ratio, told.columns[1].ratio = 2, 3
            told.expand = True
            for row in sorted(rows):
                told.add_row(Text(row.name), Text(row.reason))
            console.print()
            console.print(told)


def _names(paths: Sequence[Path]) -> list[str]:
    """What the files are called in the summary: from the folder on that they share."""
    shared = os.path.commonpath([path.absolute().parent for path in paths])
    return [str(path.absolute().relative_to(shared)) for path in paths]


# find ----------------------------------------------------------------------------------------------------------------


def find(
    patient: Annotated[str, typer.Option(metavar="PESEL|CX", help="PESEL, or an identifier as 'number^^^&OID&ISO'.")],
    node: NeededNodeFile,
    *,
    type_: Annotated[
        list[str] | None, typer.Option("--type", metavar="LOINC", help="Only documents of this type; may be repeated.")
    ] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="KLAS_DOK_P1", help="Only documents of this class; may be repeated."),
    ] = None,
    from_: Annotated[
        str, typer.Option("--from", metavar="DATE", help="Written on or after it: 2026-03-01 or '2026-03-01 14:30'.")
    ] = "",
    to: Annotated[str, typer.Option("--to", metavar="DATE", help="Written on that day at the latest.")] = "",
    status: Annotated[str, typer.Option(help="approved, deprecated (replaced by newer ones) or all.")] = "approved",
    login: AsPerson = "",
    purpose: Purpose = "",
    as_json: AsJson = False,
) -> None:
    """List a patient's documents, the newest first."""
    if status not in STATUSES:
        raise typer.BadParameter("is approved, deprecated or all", param_hint="--status")
    parameters = {
        "XDSDocumentEntryStatus": STATUSES[status],
        "XDSDocumentEntryTypeCode": [c for text in type_ or () for c in describing.coded(text, "type_code")],
        "XDSDocumentEntryClassCode": [c for text in class_ or () for c in describing.coded(text, "class_code")],
        "XDSDocumentEntryCreationTimeFrom": [_moment(from_, "--from", end=False)] if from_ else [],
        "XDSDocumentEntryCreationTimeTo": [_moment(to, "--to", end=True)] if to else [],
    }
    try:
        named = describing.person(patient)
    except Problem as problem:
        raise typer.BadParameter(problem.findings[0].detail, param_hint="--patient") from None
    entries, access = asyncio.run(_find(named, node, parameters, login, purpose))
    entries.sort(key=lambda entry: (entry.creation_time or "").ljust(14, "0"), reverse=True)
    if as_json:
        print_json([_plain(entry) for entry in entries])
        return
    console = Console(highlight=False)
    if not entries:
        console.print("No document is registered for this patient that fits what was asked.")
        return
    console.print(_table(entries))
    if access:
        console.print(f"\nBasis of access: {access}", soft_wrap=True)
    console.print(
        f"\n{_count(len(entries))}. To fetch one: {command()} get 'UNIQUE_ID' -o FILE --node {node}", soft_wrap=True
    )


async def _find(
    patient: str, node: Path, parameters: dict[str, Sequence[str]], login: str, purpose: str
) -> tuple[list[DocumentEntry], str]:
    """What is found, and on which bases it is shown."""
    async with asking(node, login=login, purpose=purpose) as exchange:
        found = await exchange.affinity_domain_id(patient)
        if found is None:
            raise Failure(
                f"The region knows no patient {patient}.",
                "Either nothing was ever registered for them, or the identifier is another one's or misspelt.",
                "Check the number, or ask by another identifier of the patient ('number^^^&OID&ISO').",
            )
        return await exchange.find({"XDSDocumentEntryPatientId": [found], **parameters}), exchange.access


def _moment(text: str, option: str, *, end: bool) -> str:
    """A local date or time as DTM in UTC; a day that ends something counts whole."""
    match = _DATE.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        moment = datetime.fromisoformat(text).replace(tzinfo=WARSAW)
    except ValueError:
        raise typer.BadParameter("is a date such as 2026-03-01 or '2026-03-01 14:30'", param_hint=option) from None
    if end and match[4] is None:
        moment = datetime.combine(moment.date() + timedelta(days=1), time(), WARSAW)
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def _table(entries: Sequence[DocumentEntry]) -> Table:
    """Date and status, then what it is, who wrote it, and under which uniqueId it is fetched."""
    table = Table("Written", "Document", box=None, pad_edge=False, padding=(0, 2, 1, 0))
    table.columns[0].no_wrap = True
    table.columns[1].overflow = "fold"
    for entry in entries:
        approved = entry.availability_status is AvailabilityStatus.APPROVED
        about = Text(_kind(entry), style="bold")
        title = _shown(entry.title)
        if title and title.casefold() != about.plain.casefold():
            about.append(f"\n{title}", style="not bold")
        if wrote := ", ".join([*_authors(entry), *_places(entry)]):
            about.append(f"\n{wrote}", style="not bold")
        about.append(f"\n{entry.unique_id}", style="not bold cyan")
        table.add_row(
            Text(
                f"{_local(entry.creation_time)}\n{entry.availability_status.value.lower()}",
                style="" if approved else "dim",
            ),
            about,
        )
    return table


def _count(number: int) -> str:
    return "1 document" if number == 1 else f"{number} documents"


def _kind(entry: DocumentEntry) -> str:
    """The Polish name of the class, which is finer than that of the LOINC type."""
    for attribute, code in (("class_code", entry.class_code), ("type_code", entry.type_code)):
        if code is not None:
            name = polish().display(attribute, code.code, code.scheme) or _shown(code.display)
            return f"{name or code.code} ({entry.type_code.code if entry.type_code else code.code})"
    return "Document"


def _shown(text: Localized) -> str:
    return text[0][1] if text else ""


def _authors(entry: DocumentEntry) -> Iterator[str]:
    for xcn in (xcn for author in entry.author for xcn in author.person):
        parts = [unescape(part) for part in xcn.split("^")] + [""] * 6
        yield " ".join(filter(None, (parts[5], parts[2], parts[3], parts[1]))) or parts[0]


def _places(entry: DocumentEntry) -> Iterator[str]:
    names = [unescape(xon.split("^")[0]) for author in entry.author for xon in author.institution]
    yield from dict.fromkeys(filter(None, names))


def _local(dtm: str | None) -> str:
    """A DTM in UTC as Polish local time; a date stays the date."""
    if not dtm:
        return ""
    if len(dtm) <= 8:
        return "-".join(filter(None, (dtm[:4], dtm[4:6], dtm[6:8])))
    moment = datetime.strptime(dtm[:12].ljust(12, "0"), "%Y%m%d%H%M").replace(tzinfo=UTC)
    return moment.astimezone(WARSAW).strftime("%Y-%m-%d %H:%M")


def _plain(entry: DocumentEntry) -> dict[str, Any]:
    """The entry for programs: times as the registry keeps them, in UTC."""

    def code(value: Code | None) -> dict[str, str] | None:
        return None if value is None else {"code": value.code, "scheme": value.scheme, "name": _shown(value.display)}

    return {
        "unique_id": entry.unique_id,
        "entry_uuid": entry.entry_uuid,
        "status": entry.availability_status.value,
        "creation_time": entry.creation_time,
        "class": code(entry.class_code),
        "type": code(entry.type_code),
        "format": code(entry.format_code),
        "facility_type": code(entry.healthcare_facility_type_code),
        "practice_setting": code(entry.practice_setting_code),
        "confidentiality": [code(c) for c in entry.confidentiality_code],
        "title": _shown(entry.title),
        "authors": [*_authors(entry)],
        "institutions": [*_places(entry)],
        "service_start_time": entry.service_start_time,
        "service_stop_time": entry.service_stop_time,
        "language": entry.language_code,
        "mime_type": entry.mime_type,
        "size": int(entry.size) if entry.size else None,
        "sha1": entry.hash,
        "patient_id": entry.patient_id,
        "repository_unique_id": entry.repository_unique_id,
    }


# get -----------------------------------------------------------------------------------------------------------------


def get(
    unique_id: Annotated[str, typer.Argument(metavar="UNIQUE_ID", help="uniqueId of the document, as find prints it.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is standard output.")],
    node: NeededNodeFile,
    login: AsPerson = "",
    purpose: Purpose = "",
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Fetch a document; its size and SHA-1 are compared with what the registry says."""
    if str(output) != "-" and not force and output.exists():
        raise Failure(f"{output} exists.", "It was not changed.", "Choose another name, or add --force.")
    size = asyncio.run(_get(unique_id, output, node, login, purpose))
    if str(output) != "-":
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"{output}: {size} bytes, SHA-1 as registered")


async def _get(unique_id: str, output: Path, node: Path, login: str, purpose: str) -> int:
    async with asking(node, login=login, purpose=purpose) as exchange:
        entries = await exchange.registered(unique_id)
        if not entries:
            raise Failure(
                f"No document is registered as {unique_id}.",
                "Either it never was, or this registry does not let you see it.",
                "obieg find lists a patient's documents with their uniqueIds.",
            )
        for entry in entries:
            if (address := exchange.repository(entry.repository_unique_id or "")) is not None:
                content = await exchange.retrieve(entry, address)
                try:
                    check_content(entry, content)
                    await _write(content, output)
                finally:
                    discard((content,))
                return content.size
    raise Failure(
        f"The document lies in repository {entries[0].repository_unique_id}.",
        f"{node} does not say where that repository is.",
        "Name the ready file of that repository's node, or one that lists it under nodes.",
    )


def check_content(entry: DocumentEntry, content: Content) -> None:
    """Raises Failure for a document that is not what its entry says."""
    said = (entry.size or str(content.size), (entry.hash or content.sha1()).lower())
    if (str(content.size), content.sha1()) != said:
        raise Failure(
            f"What the repository sent is not the document: {content.size} bytes with SHA-1 {content.sha1()}.",
            f"The registry says {said[0]} bytes and {said[1]}. Nothing was written.",
            "Tell the operator of the repository; obieg verify finds damaged documents there.",
        )


async def _write(content: Content, output: Path) -> None:
    if str(output) == "-":
        async for piece in content.chunks():
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    new = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with new.open("xb") as file:
            async for piece in content.chunks():
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        new.replace(output)
    except OSError as error:
        raise Failure(
            f"{output} cannot be written: {error.strerror or error}.",
            "The document was fetched and nothing of it is kept.",
            "Choose a folder that exists, has room, and may be written.",
        ) from error
    finally:
        new.unlink(missing_ok=True)
