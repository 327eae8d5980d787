"""``obieg xdm pack`` and ``unpack``: documents with their metadata on a medium, as a ZIP (XDM, ITI TF-2:3.32)."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table
from rich.text import Text

from obieg.domain.affinity_domain import polish
from obieg.domain.documents import Code, DocumentEntry, EntryType, Submission
from obieg.domain.identifiers import patient_id
from obieg.domain.problems import Finding, Problem
from obieg.edges.clients import discard
from obieg.mapping import xdm
from obieg.mapping.xdm import Medium, OnMedium, ToWrite
from obieg.ops import describing
from obieg.ops.commands_documents import asking, check_content
from obieg.ops.exchange import APPROVED, Exchange
from obieg.ops.failure import Failure
from obieg.ops.options import NodeFile
from obieg.ops.submitting import Outcome, announced, said
from obieg.protocol import Content
from obieg.wire.xdm import Archive, ArchiveRefused, ArchiveWriter

_UUID_ROOT = "2.25"

Source = Callable[[DocumentEntry], "AsyncIterator[Content]"]
console = Console(highlight=False)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    media = typer.Typer(help="Documents on a medium: IHE XDM, as a ZIP.", no_args_is_help=True)
    media.command()(pack)
    media.command()(unpack)
    app.add_typer(media, name="xdm")


# pack ----------------------------------------------------------------------------------------------------------------


def pack(
    output: Annotated[Path, typer.Argument(metavar="ZIP", help="The file to write.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Files, or folders of them, described as for obieg submit."),
    ] = None,
    node: NodeFile = None,
    *,
    patient: Annotated[
        str, typer.Option(metavar="PESEL|CX", help="All approved documents of this patient at the node.")
    ] = "",
    document: Annotated[
        list[str] | None,
        typer.Option("--document", metavar="UUID", help="A document of the node by its entryUUID; may be repeated."),
    ] = None,
    patient_id_: Annotated[
        str, typer.Option("--patient-id", metavar="PESEL|CX", help="Patient of the files that name none.")
    ] = "",
    institution: Annotated[
        str, typer.Option(metavar="TEXT", help="Who issues the medium and how to reach them, for README.TXT.")
    ] = "",
    content_type: Annotated[
        str, typer.Option(metavar="CODE^^SCHEME", help="contentTypeCode of the submission sets; the Polish one if not.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite ZIP.")] = False,
) -> None:
    """Write documents and their metadata to a ZIP that any XDM importer reads.

    Documents come from a node, by patient or entryUUID, or from files. Each
    patient's documents are one submission set.
    """
    if bool(files) == bool(patient or document):
        raise typer.BadParameter("give FILES, or --patient or --document with --node", param_hint="FILE")
    if (patient or document) and node is None:
        raise typer.BadParameter("is needed with --patient and --document", param_hint="--node")
    if output.exists() and not force:
        raise Failure(f"{output} exists.", "It was not changed.", "Choose another name, or add --force.")
    code = _content_type(content_type)
    at = datetime.now(UTC)
    if files:
        planned = asyncio.run(_pack_files(files, patient_id_, output, code, at, institution))
    else:
        assert node is not None  # noqa: S101 - asked above
        planned = asyncio.run(_pack_node(node, patient, document or [], output, code, at, institution))
    documents = sum(len(p.files) for p in planned)
    console.print(f"{output}: {documents} documents in {len(planned)} submission sets", soft_wrap=True)


def _content_type(text: str) -> Code:
    if not text:
        known = polish().codes("content_type_code")[0]
        return Code(known.code, known.scheme, (("", known.display),))
    code, _, scheme = text.partition("^^")
    if not code or not scheme:
        raise typer.BadParameter("is of the form CODE^^SCHEME", param_hint="--content-type")
    return Code(code, scheme)


async def _pack_files(
    files: Sequence[Path], patient: str, output: Path, code: Code, at: datetime, institution: str
) -> list[ToWrite]:
    found = describing.files(files, recursive=True)
    source_id = _new_oid()
    items = []
    problems = []
    for path in found:
        try:
            items.append(describing.read(path, str(path), describing.Told(patient_id=patient), source_id=source_id))
        except Problem as problem:
            problems.append(f"{path}: {said(problem)}")
    if problems or not items:
        raise Failure(
            "; ".join(problems) or "There is no document in what was named.",
            "A medium holds only documents that are described in full. Nothing was written.",
            "Describe them (FILE.json beside FILE, or --patient-id), or leave them out.",
        )
    contents = {item.described.entry.unique_id: item.content for item in items}
    entries = [
        replace(e, patient_id=e.source_patient_id, repository_unique_id=None)
        for e in (item.described.entry for item in items)
    ]

    async def source(entry: DocumentEntry) -> AsyncIterator[Content]:
        yield contents[entry.unique_id]

    return await _write(output, _submissions(entries, source_id, code, at), source, at, institution)


async def _pack_node(
    node: Path, patient: str, uuids: Sequence[str], output: Path, code: Code, at: datetime, institution: str
) -> list[ToWrite]:
    async with asking(node) as exchange:
        entries = await _entries(exchange, patient, uuids)
        submissions = _submissions(entries, exchange.endpoint("repository_uid"), code, at)

        async def source(entry: DocumentEntry) -> AsyncIterator[Content]:
            address = exchange.repository(entry.repository_unique_id or "")
            if address is None:
                raise Failure(
                    f"Document {entry.unique_id} lies in repository {entry.repository_unique_id}.",
                    f"{node} does not say where that repository is. Nothing was written.",
                    "Name a ready file that lists that repository's node under nodes.",
                )
            content = await exchange.retrieve(entry, address)
            try:
                check_content(entry, content)
                yield content
            finally:
                discard((content,))

        return await _write(output, submissions, source, at, institution)


async def _entries(exchange: Exchange, patient: str, uuids: Sequence[str]) -> list[DocumentEntry]:
    found: list[DocumentEntry] = []
    for uuid_ in uuids:  # one at a time: a registry gives whole entries of one patient only
        urn = uuid_ if uuid_.startswith("urn:uuid:") else f"urn:uuid:{uuid_}"
        one = await exchange.documents({"XDSDocumentEntryEntryUUID": [urn]})
        if not one:
            raise Failure(
                f"No document is registered as {urn}.",
                "Nothing was written.",
                "obieg find --json lists the entryUUIDs of a patient's documents.",
            )
        found += one
    if patient:
        named = describing.person(patient)
        known = await exchange.affinity_domain_id(named)
        if known is None:
            raise Failure(
                f"The region knows no patient {named}.", "Nothing was written.", "Check the number, or ask by another."
            )
        parameters = {"XDSDocumentEntryPatientId": [known], "XDSDocumentEntryStatus": [APPROVED]}
        found += await exchange.find(parameters)
    stable = [e for e in found if e.entry_type is EntryType.STABLE]
    if not stable:
        raise Failure(
            "There is no document to be packed.", "Nothing was written.", "obieg find lists a patient's documents."
        )
    return list({e.entry_uuid: e for e in stable}.values())


def _submissions(entries: Sequence[DocumentEntry], source_id: str, code: Code, at: datetime) -> list[Submission]:
    by_patient: dict[str, list[DocumentEntry]] = {}
    for entry in entries:
        by_patient.setdefault(entry.patient_id or "", []).append(entry)
    return [
        xdm.new_submission(some, source_id=source_id, unique_id=_new_oid(), content_type=code, at=at)
        for some in by_patient.values()
    ]


def _new_oid() -> str:
    return f"{_UUID_ROOT}.{uuid.uuid4().int}"


@contextmanager
def _writing(output: Path) -> Iterator[Path]:
    """Where to write what becomes ``output`` when it is whole: nothing is left of what did not."""
    new = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        yield new
        new.replace(output)
    except OSError as error:
        raise Failure(
            f"{output} cannot be written: {error.strerror or error}.",
            "Nothing of it is kept.",
            "Choose a folder that exists, has room, and may be written.",
        ) from error
    finally:
        if new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        else:
            new.unlink(missing_ok=True)


async def _write(
    output: Path, submissions: Sequence[Submission], source: Source, at: datetime, institution: str
) -> list[ToWrite]:
    planned = xdm.plan_medium(submissions, lambda: str(uuid.uuid4()))
    facts = {"institution": institution or "(not stated)", "date": at.strftime("%Y-%m-%d")}
    index, readme = xdm.page_names()
    with _writing(output) as new, new.open("xb") as file:
        writer = ArchiveWriter(file, at)
        writer.add(index, xdm.write_index(planned, **facts))
        writer.add(readme, xdm.write_readme(planned, version=metadata.version("obieg"), **facts))
        for folder in planned:
            writer.add(folder.metadata_file, folder.metadata)
            for entry in folder.submission.entries:
                async for content in source(entry):
                    with writer.begin(folder.files[entry.entry_uuid], content.size) as document:
                        async for piece in content.chunks():
                            await asyncio.to_thread(document.write, piece)
        writer.close()
        file.flush()
        os.fsync(file.fileno())
    return planned


# unpack --------------------------------------------------------------------------------------------------------------


def unpack(
    archive: Annotated[Path, typer.Argument(metavar="ZIP", help="The medium.", exists=True, dir_okay=False)],
    node: NodeFile = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Write documents and metadata to it.")
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Hand the documents in at --node (ITI-41).")] = False,
    patient_id_: Annotated[
        str,
        typer.Option("--patient-id", metavar="PESEL|CX", help="Whose they are, where the medium's ids do not tell."),
    ] = "",
) -> None:
    """Check a medium and list what is on it; then, if asked to, write it out or hand it in.

    Nothing is written or sent before every byte was compared with the metadata.
    """
    if submit and node is None:
        raise typer.BadParameter("is needed with --submit", param_hint="--node")
    if output is not None and output.exists():
        raise Failure(f"{output} exists.", "It was not changed.", "Choose another name for the folder.")
    with _opened(archive) as opened:
        medium = xdm.read_medium(opened)
        _show(medium)
        if wrong := [f for f in medium.findings if not f.warning]:
            raise Failure(
                "; ".join(_line(f) for f in wrong),
                "The medium is refused as a whole: nothing was written or handed in.",
                "Ask whoever made it for another one.",
            )
        if output is not None:
            _write_out(opened, medium, output)
        if submit and node is not None:
            outcomes = asyncio.run(_submit(opened, medium, node, patient_id_))
            if Outcome.REFUSED in outcomes:
                raise typer.Exit(1)


@contextmanager
def _opened(path: Path) -> Iterator[Archive]:
    try:
        with path.open("rb") as file:
            yield Archive(file)
    except ArchiveRefused as refused:
        raise Failure(
            "; ".join(": ".join(filter(None, fault)) for fault in ((f.name, f.said) for f in refused.faults)),
            f"{path} is not opened: nothing was written or handed in.",
            "Ask whoever made it for another one.",
        ) from None


def _line(finding: Finding) -> str:
    return ": ".join(filter(None, (finding.location, finding.detail)))


def _show(medium: Medium) -> None:
    table = Table("File", "Document", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    table.columns[1].overflow = "fold"
    for folder, submission, files in medium.sets:
        sset = submission.submission_set
        table.add_row(Text(folder, style="bold"), Text(f"{sset.patient_id or ''}  {sset.unique_id}", style="bold"))
        for entry in submission.entries:
            title = entry.title[0][1] if entry.title else ""
            facts = (title, entry.mime_type, f"{entry.size} bytes", entry.unique_id)
            table.add_row(Text(files.get(entry.entry_uuid, "?")), Text(", ".join(filter(None, facts))))
    console.print(table)
    for finding in medium.findings:
        if finding.warning:
            console.print(Text(f"note: {_line(finding)}"), soft_wrap=True)


def _write_out(archive: Archive, medium: Medium, output: Path) -> None:
    """Metadata and documents in their folders; the folder appears whole or not at all."""
    with _writing(output) as new:
        new.mkdir(mode=0o700)
        for folder, submission, files in medium.sets:
            names = [xdm.metadata_name(archive, folder), *(files[e.entry_uuid] for e in submission.entries)]
            for name in names:
                path = new.joinpath(*name.split("/")[1:])
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    for piece in archive.pieces(name):
                        file.write(piece)
    console.print(f"written to {output}", soft_wrap=True)


class _MemberContent:
    """A document of the medium, unpacked as often as it is read."""

    def __init__(self, archive: Archive, name: str, entry: DocumentEntry) -> None:
        self._archive = archive
        self._name = name
        self._sha1 = (entry.hash or "").lower()
        self.size = archive.size(name)
        self.content_type = entry.mime_type

    def sha1(self) -> str:
        """SHA-1, hexadecimal: compared with the bytes when the medium was checked."""
        return self._sha1

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in pieces of at most 1 MiB, unpacked in a thread."""
        pieces = self._archive.pieces(self._name)
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece


async def _submit(archive: Archive, medium: Medium, node: Path, patient: str) -> list[Outcome]:
    outcomes = []
    async with asking(node) as exchange:
        for on_medium in medium.sets:
            try:
                outcome, reason = await _provide(archive, on_medium, exchange, patient)
            except Problem as problem:
                outcome, reason = Outcome.REFUSED, said(problem)
            outcomes.append(outcome)
            console.print(Text(f"{on_medium.folder}: {outcome}{f': {reason}' if reason else ''}"), soft_wrap=True)
    return outcomes


async def _provide(archive: Archive, on_medium: OnMedium, exchange: Exchange, patient: str) -> tuple[Outcome, str]:
    submission = on_medium.submission
    if submission.entries and await _all_registered(exchange, submission):
        return Outcome.SKIPPED, "all its documents are registered already"
    known = await _patient(exchange, submission, patient)
    contents: dict[str, Content] = {
        e.entry_uuid: _MemberContent(archive, on_medium.files[e.entry_uuid], e) for e in submission.entries
    }
    await exchange.provide(xdm.for_patient(submission, known), contents)
    return Outcome.NEW, f"{len(submission.entries)} documents of {known}"


async def _all_registered(exchange: Exchange, submission: Submission) -> bool:
    for entry in submission.entries:
        there = await exchange.registered(entry.unique_id or "")
        if not any(e.hash in (None, (entry.hash or "").lower()) for e in there):
            return False
    return True


async def _patient(exchange: Exchange, submission: Submission, told: str) -> str:
    """The patient's id here. Raises Problem where the medium's ids name several people."""
    named = [describing.person(told)] if told else list(xdm.identifiers(submission))
    found: dict[str, str] = {}
    for cx in named:
        if patient_id(cx) is not None and (known := await exchange.affinity_domain_id(cx)) is not None:
            found[known] = cx
    if len(found) > 1:
        several = ", ".join(f"{cx} is {known}" for known, cx in found.items())
        detail = f"the medium's identifiers name several people here: {several}; say whose it is with --patient-id"
        raise Problem.of("XDSPatientIdDoesNotMatch", detail)
    if found:
        return next(iter(found))
    info = [line for e in submission.entries[:1] for line in e.source_patient_info if line != "PID-8|U"]
    if told or not any(line.startswith("PID-3|") for line in info):
        info = [line for line in info if not line.startswith("PID-3|")] + [f"PID-3|{cx}" for cx in named]
    return await announced(exchange, info)
