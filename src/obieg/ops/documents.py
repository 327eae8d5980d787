"""The node's document store: opening it, and ``obieg verify``, ``obieg documents compact`` and ``rotate-key``."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import obstore
import psycopg
import typer
from obstore.store import ObjectStore
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from obieg.domain.audit import AuditObject
from obieg.domain.document_store import DocumentStore, DocumentUnreadableError
from obieg.domain.problems import RetryLater
from obieg.ops import audit_events
from obieg.ops.compaction import Compacted, compact_objects, compact_segments
from obieg.ops.document_history import history
from obieg.ops.failure import Failure
from obieg.ops.postgres import reach
from obieg.ops.settings import Settings
from obieg.ops.settings import load as load_settings
from obieg.storage import keys, objects, segments
from obieg.storage.machine import FolderInUseError
from obieg.storage.stored_documents import StoredDocument, StoredDocuments

READERS = 4
GRACE_AFTER_REQUEST_S = 60  # on top of the longest request: until then somebody may hold the old place of a document
SAFE_AGE_S = 3600  # what is not registered this long after it was stored never will be

SettingsFile = Annotated[Path, typer.Option("--settings", help="The node's settings file.")]
console = Console(stderr=True)


# opening -------------------------------------------------------------------------------------------------------------


def segments_folder(settings: Settings) -> Path:
    """Where the segments stand."""
    return settings.data_dir / "segments"


def master_key_file(settings: Settings) -> Path:
    """Where the master keys stand."""
    return settings.store.master_key_file or settings.data_dir / "master.key"


def bucket(settings: Settings) -> ObjectStore:
    """Where the documents of a node whose store.kind is s3 stand."""
    store = settings.store
    return objects.connect(
        store.s3_url,
        endpoint=store.s3_endpoint,
        access_key=store.s3_access_key,
        secret_key=store.s3_secret_key.get_secret_value(),
    )


def is_empty(settings: Settings) -> bool:
    """Whether the store holds nothing."""
    if settings.store.kind == "s3":
        return not any(obstore.list(bucket(settings), chunk_size=1))
    return not any(segments_folder(settings).glob("*" + segments.SUFFIX))


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Says to an operator what the store's errors mean."""
    try:
        yield
    except keys.KeyFileError as error:
        raise Failure(
            f"The key file cannot be used: {error}.",
            "Without it no document can be stored or read.",
            "Put back the copy of the key file, or correct the settings.",
        ) from error
    except FolderInUseError as error:
        raise Failure(f"{error}.", "Nothing was changed.", "Do what is said above, then try again.") from error
    except psycopg.OperationalError as error:
        raise Failure(
            f"The database does not answer: {str(error).strip()}",
            "Only it knows which documents there are.",
            "Check that PostgreSQL runs and that database.dsn in the settings is right.",
        ) from error
    except RetryLater as error:
        raise Failure(
            f"{error}.", "The work was not finished; nothing is lost.", "Try again once it is put right."
        ) from error


def open_store(settings: Settings) -> segments.Segments | objects.Objects:
    """The node's document store; the master key of a new node is made here."""
    path = master_key_file(settings)
    with explained():
        if not path.exists() and is_empty(settings):
            with contextlib.suppress(keys.KeyFileError):  # another worker was faster
                keys.create_key_file(path)
        wrapper = keys.KeyFile(path)
        if settings.store.kind == "s3":
            return objects.Objects(bucket(settings), wrapper)
        return segments.Segments(
            segments_folder(settings), wrapper, segment_size_bytes=settings.store.segment_size_bytes
        )


class Maintained(NamedTuple):
    """What maintenance works on."""

    store: segments.Segments | objects.Objects
    rows: StoredDocuments


@contextlib.asynccontextmanager
async def maintain(settings: Settings, dsn: str, *, alone: bool) -> AsyncIterator[Maintained]:
    """Opens the store and the table; ``alone`` keeps backups and compactions out."""
    with explained():
        async with StoredDocuments.open(dsn) as rows:
            if alone and not await rows.lock():
                raise busy()
            store = open_store(settings)
            try:
                yield Maintained(store, rows)
            finally:
                await store.close()


def busy() -> Failure:
    """Somebody else holds the lock of maintenance."""
    return Failure(
        "A backup or a compaction is running on this node.",
        "They must not run at the same time: one would copy what the other moves.",
        "Wait until it has ended, then try again.",
    )


def progress() -> Progress:
    """A bar that counts bytes."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


# verify --------------------------------------------------------------------------------------------------------------


class Unsound(NamedTuple):
    """A document that is not as it was stored."""

    document: StoredDocument
    reason: str


async def check(store: DocumentStore, document: StoredDocument) -> str:
    """What is wrong with a document; empty when nothing is."""
    digest, size = hashlib.sha256(), 0
    try:
        async for piece in store.read(document.location, document.wrapped_key):
            digest.update(piece)
            size += len(piece)
    except DocumentUnreadableError as error:
        return f"{type(error).__name__.removeprefix('Document').removesuffix('Error').lower()}: {error}"
    except RetryLater as error:
        return f"not checked: {error}"
    if size != document.size:
        return f"damaged: {size} bytes instead of {document.size}"
    return "" if digest.digest() == document.sha256 else "damaged: its SHA-256 is another"


async def verify(maintained: Maintained, bar: Progress) -> tuple[int, list[Unsound]]:
    """Reads, decrypts and hashes every document; how many there were and which are unsound."""
    store, rows = maintained
    _, size = await rows.total()
    task = bar.add_task("Verifying", total=size)
    documents = rows.all()
    count = 0
    unsound: list[Unsound] = []

    async def reader() -> None:
        nonlocal count
        while True:
            async with next_one:
                document = await anext(documents, None)
            if document is None:
                return
            count += 1
            reason = await check(store, document)
            # Compaction may have moved it, or it was removed, since its row was read.
            if reason and (now := await rows.again(document)) != document:
                reason = await check(store, now) if now else ""
            if reason:
                unsound.append(Unsound(document, reason))
            bar.advance(task, document.size)

    next_one = asyncio.Lock()
    await asyncio.gather(*(reader() for _ in range(READERS)))
    return count, unsound


# commands ------------------------------------------------------------------------------------------------------------


def _verify(settings: SettingsFile) -> None:
    """Read, decrypt and hash every stored document; exit status 1 when one is damaged or missing."""
    node = load_settings(settings)

    async def run(dsn: str) -> tuple[int, list[Unsound]]:
        async with maintain(node, dsn, alone=False) as maintained:
            with progress() as bar:
                return await verify(maintained, bar)

    with reach(node.database.dsn, node.postgres_dir) as dsn:
        count, unsound = asyncio.run(run(dsn))
    for document, reason in unsound:
        typer.echo(f"{document.unique_id}\t{document.repository_unique_id}\t{reason}")
    if unsound:
        console.print(f"{len(unsound)} of {count} documents are damaged or missing; a backup may still hold them.")
        raise typer.Exit(1)
    console.print(f"All {count} documents are sound.")


def _compact(
    settings: SettingsFile,
    dead_share: Annotated[
        float, typer.Option(min=0, max=1, help="Rewrite segments with at least this share dead.")
    ] = 0.3,
    safe_age_s: Annotated[
        float, typer.Option(min=0, help="Seconds after which a stored document that is not registered is given up.")
    ] = SAFE_AGE_S,
    grace_s: Annotated[
        float | None,
        typer.Option(help="Seconds until an unused segment is deleted; by default more than a request takes."),
    ] = None,
) -> None:
    """Give back the space of documents that nobody refers to any more; the node may be running."""
    node = load_settings(settings)
    grace = node.limits.request_time_s + GRACE_AFTER_REQUEST_S if grace_s is None else grace_s

    async def run(dsn: str) -> Compacted:
        async with maintain(node, dsn, alone=True) as (store, rows):
            if isinstance(store, objects.Objects):
                return await compact_objects(bucket(node), rows, safe_age_s=safe_age_s)
            with progress() as bar:
                task = bar.add_task("Copying", total=None)
                return await compact_segments(
                    store,
                    segments_folder(node),
                    rows,
                    dead_share_min=dead_share,
                    safe_age_s=safe_age_s,
                    grace_s=grace,
                    progress=lambda size: bar.advance(task, size),
                )

    with reach(node.database.dsn, node.postgres_dir) as dsn:
        done = asyncio.run(run(dsn))
    for document, reason in done.damaged:
        typer.echo(f"{document.unique_id}\t{document.repository_unique_id}\t{reason}")
    console.print(f"{done.moved} documents moved, {done.freed_bytes / 2**20:.1f} MiB given back.")
    if done.waiting:
        console.print(
            f"{done.waiting} unused segments are deleted by the next run, {grace:.0f} s from now at the earliest."
        )
    if done.damaged:
        console.print(f"{len(done.damaged)} documents could not be read; run obieg verify.")
        raise typer.Exit(1)


async def rewrap_all(rows: StoredDocuments, wrapper: keys.KeyWrapper) -> int:
    """Wraps every document's key with the newest master key; how many were not."""
    count = 0
    async for document in rows.all():
        wrapped = keys.rewrap(wrapper, document.wrapped_key)
        if wrapped != document.wrapped_key:
            count += await rows.move(document, location=document.location, wrapped_key=wrapped)
    return count


def _rotate_key(settings: SettingsFile) -> None:
    """Make a new master key and wrap every document's key with it; the documents themselves stay as they are."""
    node = load_settings(settings)
    path = master_key_file(node)

    async def run(dsn: str) -> int:
        async with StoredDocuments.open(dsn) as rows:
            return await rewrap_all(rows, keys.KeyFile(path))

    with explained(), reach(node.database.dsn, node.postgres_dir) as dsn:
        number = keys.rotate(path)
        made = audit_events.activity("key", node, f"master key {number} is made", [AuditObject("settings", str(path))])
        audit_events.record(dsn, node, made)
        console.print(f"{path} has a new key, number {number}. Copy the file to a safe place.")
        count = asyncio.run(run(dsn))
    console.print(f"{count} documents are wrapped anew. Restart the node: its workers still wrap with the key before.")


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command("verify")(_verify)
    documents = typer.Typer(no_args_is_help=True, help="The document store, and what happened to documents.")
    documents.command("compact")(_compact)
    documents.command("rotate-key")(_rotate_key)
    documents.command("history")(history)
    app.add_typer(documents, name="documents")
