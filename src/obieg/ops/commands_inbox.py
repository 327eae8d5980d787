"""``obieg inbox …``: what others sent to this node as a Document Recipient (XDR), for people and for systems of old."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

import msgspec
import psycopg
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from obieg.domain.documents import Submission
from obieg.domain.inbox import INBOX
from obieg.mapping.ebrim import IdSource
from obieg.mapping.ebrs import write_submit_objects
from obieg.ops.asking import ask, connected, loaded
from obieg.ops.documents import explained, open_store
from obieg.ops.failure import Failure
from obieg.ops.operating import operated
from obieg.ops.options import ROWS_MAX, NodeFile, OptionalSettingsFile
from obieg.ops.settings import Settings
from obieg.ops.showing import local
from obieg.storage.statements import load

METADATA = "METADATA.XML"

_SQL = load("inbox.sql")
_read = msgspec.json.Decoder(Submission).decode
_Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Numbers, as obieg inbox list prints them.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    inbox = typer.Typer(help="Documents that others sent to this node (XDR).", no_args_is_help=True)
    inbox.command("list")(list_)
    inbox.command()(show)
    inbox.command()(take)
    inbox.command()(drop)
    app.add_typer(inbox, name="inbox")


class _Held(NamedTuple):
    """A row of ``inbox_submissions``."""

    inbox_id: int
    received_at: datetime
    sender: str
    submission: bytes
    taken_at: datetime | None


def list_(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    count: Annotated[int, typer.Option("-n", help="How many submissions.", min=1, max=ROWS_MAX)] = 20,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were taken.")] = False,
) -> None:
    """Say what came and nobody has taken yet, the oldest first. Times are those of Warsaw."""
    console = Console(highlight=False)
    rows, waiting, total = operated(
        node, settings, lambda actors, _: actors.operations.inbox(count, everything=everything)
    )
    if not rows:
        console.print("Nothing came." if not total else f"All of {total} submissions are taken.")
        return
    table = Table("No.", "Received", "From", "Patient", "Title", "Documents", "Taken", box=None, pad_edge=False)
    for row in rows:
        taken = local(row.taken_at) if row.taken_at else ""
        said = map(Text, (row.sender, row.patient, row.title))
        table.add_row(str(row.inbox_id), local(row.received_at), *said, str(row.documents), taken)
    console.print(table)
    if (more := (total if everything else waiting) - len(rows)) > 0:
        console.print(f"\n{more} more; -n {min(len(rows) + more, ROWS_MAX)} lists them.")


def show(
    number: Annotated[int, typer.Argument(metavar="ID", help="Number, as obieg inbox list prints it.")],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
) -> None:
    """Say what a submission is about and for whom, and what documents it holds."""
    console = Console(highlight=False, soft_wrap=True)
    with connected(loaded(node, settings), "inbox") as connection:
        [held] = _held(connection, [number])
    submission = _read(held.submission)
    sset = submission.submission_set
    facts = [
        ("received", f"{local(held.received_at)} from {held.sender}"),
        ("taken", local(held.taken_at) if held.taken_at else "not yet"),
        ("patient", sset.patient_id or "not named (limited metadata)"),
        ("title", " / ".join(text for _, text in sset.title)),
        ("comments", " / ".join(text for _, text in sset.comments)),
        ("uniqueId", sset.unique_id or ""),
        ("sourceId", sset.source_id or ""),
        *(("for", recipient) for recipient in sset.intended_recipient),
        *(("author", person) for author in sset.author for person in author.person),
    ]
    for name, value in facts:
        if value:
            console.print(f"{name:10} {value}", markup=False)
    for place, entry in enumerate(submission.entries, 1):
        title = " / ".join(text for _, text in entry.title)
        kind = entry.type_code.code if entry.type_code else ""
        console.print(f"\n{file_name(place, entry.mime_type)}  {title}".rstrip(), markup=False)
        console.print(f"    {entry.mime_type}, {entry.size} bytes, {kind} {entry.unique_id}", markup=False)


def take(
    folder: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where to; it is made if need be.")],
    ids: _Ids = None,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All that nobody has taken yet.")] = False,
) -> None:
    """Write submissions to a folder and mark them as taken.

    Each becomes a folder named by its number, complete as soon as it is there: METADATA.XML
    (ebRIM, as the sender wrote it; the slot URI names each document's file) and the
    documents. They stay in the inbox until obieg inbox drop.
    """
    if bool(ids) == everything:
        raise typer.BadParameter("name submissions by their numbers, or say --all")
    described = loaded(node, settings)
    folder.mkdir(parents=True, exist_ok=True)
    taken = 0
    with connected(described, "inbox") as connection:
        for held in _held(connection, list(ids or ())):
            target = folder / str(held.inbox_id)
            if not _stands(held, target):
                asyncio.run(_write(described, connection, held, target))
            ask(connection, _SQL.take_inbox_submission, inbox_id=held.inbox_id)
            typer.echo(target)
            taken += 1
    if not taken:
        typer.echo("nothing to take")


def drop(
    ids: Annotated[list[int], typer.Argument(metavar="ID...", help="Numbers, as obieg inbox list prints them.")],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
) -> None:
    """Delete submissions and their documents from the inbox, whether they were taken or not."""
    with connected(loaded(node, settings), "inbox") as connection:
        dropped = {row[0] for row in ask(connection, _SQL.drop_inbox_submissions, ids=ids, repository_unique_id=INBOX)}
    if missed := sorted(set(ids) - dropped):
        raise _not_found(missed)
    typer.echo(f"{len(dropped)} dropped")


def file_name(place: int, mime_type: str) -> str:
    """The name of a document's file, as on XDM media (ITI TF-2:3.32.4.1.2)."""
    extension = mimetypes.guess_extension(mime_type.partition(";")[0].strip()) or ".bin"
    return f"DOC{place:04}{extension}".upper()


def _stands(held: _Held, target: Path) -> bool:
    """Whether the submission was written there before and only not marked. Fails for anything else of that name."""
    if not target.exists():
        return False
    unique_id = (_read(held.submission).submission_set.unique_id or "").encode()
    metadata = target / METADATA
    if metadata.is_file() and b'value="%b"' % unique_id in metadata.read_bytes():
        return True
    raise Failure(
        f"{target} exists, and it is not submission {held.inbox_id}.",
        "It was not changed, and the submission waits as before.",
        "Take it to another folder, or move that one away.",
    )


async def _write(described: Settings, connection: psycopg.Connection[Any], held: _Held, target: Path) -> None:
    """Writes a submission under another name first, so that what stands under its own is complete."""
    submission = _read(held.submission)
    names = [file_name(place, e.mime_type) for place, e in enumerate(submission.entries, 1)]
    entries = tuple(msgspec.structs.replace(e, uri=name) for e, name in zip(submission.entries, names, strict=True))
    unique_ids = [e.unique_id for e in entries]
    rows = ask(connection, _SQL.inbox_documents, unique_ids=unique_ids, repository_unique_id=INBOX)
    places = {row[0]: row for row in rows}
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    submission = msgspec.structs.replace(submission, entries=entries)
    ids = IdSource(f"{held.inbox_id:08x}-0000-4000-8000-000000000000")
    with _written(part / METADATA) as file:
        file.write(b'<?xml version="1.0" encoding="UTF-8"?>\n' + write_submit_objects(submission, ids))
    with explained():
        store = open_store(described)
        try:
            for entry, name in zip(entries, names, strict=True):
                *_, location, wrapped_key = places[entry.unique_id]
                with _written(part / name) as file:
                    async for piece in store.read(location, wrapped_key):
                        file.write(piece)
        finally:
            await store.close()
    part.rename(target)


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A file that is on the disk afterwards."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _held(connection: psycopg.Connection[Any], ids: Sequence[int]) -> list[_Held]:
    """The submissions of these numbers; without any, all that wait. Fails where one is not there."""
    rows = [_Held(*row) for row in ask(connection, _SQL.inbox_submissions, ids=list(ids), waiting=not ids)]
    if missed := sorted(set(ids) - {row.inbox_id for row in rows}):
        raise _not_found(missed)
    return rows


def _not_found(missed: Sequence[int]) -> Failure:
    return Failure(
        f"Not in the inbox: {', '.join(map(str, missed))}.",
        "Nothing was sent under these numbers, or it was dropped.",
        "See obieg inbox list --all.",
    )
