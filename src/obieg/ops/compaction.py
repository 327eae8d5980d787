"""Gives back the space of documents that no row refers to, while the node works.

Theory of operation. Only *finished* segments are looked at: no writer holds the lock, and nothing was written for
longer than the safe age, so whatever stands there and was going to be registered is registered. Which segments those
are is found out before the database is asked what is in use. Documents that live in a segment with many dead bytes are
copied as they are to segments of this process, durably, and each row is changed only if it still says what was read. A
segment that nobody refers to gets a mark (``.dead``); it is deleted when the mark is older than the grace time, for
until then somebody may have read the old place and not yet opened the file. Ended at any point, a run leaves at worst
copies that nobody refers to, which a later run reclaims.
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import NamedTuple

import obstore
from obstore.store import ObjectStore

from obieg.domain.document_store import DocumentUnreadableError
from obieg.storage.segments import SUFFIX, Segments, sync_folder
from obieg.storage.stored_documents import StoredDocument, StoredDocuments

DEAD_SUFFIX = ".dead"
COPIES_AT_ONCE = 16  # share one fdatasync

Progress = Callable[[int], object]  # told of bytes done


class Compacted(NamedTuple):
    """What a run did."""

    moved: int = 0  # documents
    freed_bytes: int = 0
    waiting: int = 0  # segments that are marked and not yet deleted
    damaged: tuple[tuple[StoredDocument, str], ...] = ()  # documents that could not be copied; their segments stay


def finished(path: Path) -> bool:
    """Whether no process writes the segment; then none ever will."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _finished_segments(folder: Path, before: float) -> dict[str, int]:
    """Name and bytes of each."""
    return {
        path.name.removesuffix(SUFFIX): path.stat().st_size
        for path in folder.glob("*" + SUFFIX)
        if path.stat().st_mtime < before and finished(path)
    }


async def compact_segments(
    store: Segments,
    folder: Path,
    rows: StoredDocuments,
    *,
    dead_share_min: float,
    safe_age_s: float,
    grace_s: float,
    progress: Progress = lambda _: None,
) -> Compacted:
    """One run; see the module."""
    sizes = _finished_segments(folder, time.time() - safe_age_s)
    in_use = await rows.segments()
    dead = {name: size - in_use.get(name, 0) for name, size in sizes.items()}
    worth_it = {name for name, size in sizes.items() if name in in_use and dead[name] >= dead_share_min * size > 0}
    moved, damaged = await _move(store, rows, worth_it, progress) if worth_it else (0, ())

    in_use = await rows.segments()
    for name in sizes.keys() - in_use.keys():
        mark = folder / (name + DEAD_SUFFIX)
        if not mark.exists():
            mark.touch()
    freed, waiting = _delete(folder, await rows.segments(), time.time() - grace_s)
    return Compacted(moved, freed, waiting, damaged)


async def _move(
    store: Segments, rows: StoredDocuments, segments: set[str], progress: Progress
) -> tuple[int, tuple[tuple[StoredDocument, str], ...]]:
    moved, damaged = 0, []
    batch: list[StoredDocument] = []

    async def one(document: StoredDocument) -> bool:
        try:
            location = await store.copy(document.location)
        except DocumentUnreadableError as error:
            damaged.append((document, str(error)))
            return False
        progress(document.size)
        return await rows.move(document, location=location, wrapped_key=document.wrapped_key)

    async def all_of_batch() -> int:
        done = sum(await asyncio.gather(*map(one, batch)))
        batch.clear()
        return done

    async for document in rows.all():
        if document.location.partition(":")[0] in segments:
            batch.append(document)
        if len(batch) == COPIES_AT_ONCE:
            moved += await all_of_batch()
    moved += await all_of_batch()
    return moved, tuple(damaged)


def _delete(folder: Path, in_use: Container[str], before: float) -> tuple[int, int]:
    freed = waiting = 0
    for mark in folder.glob("*" + DEAD_SUFFIX):
        name = mark.name.removesuffix(DEAD_SUFFIX)
        segment = folder / (name + SUFFIX)
        if name in in_use:  # cannot be; but a mark is no reason to lose a document
            mark.unlink()
        elif mark.stat().st_mtime > before:
            waiting += 1
        else:
            if segment.exists():
                freed += segment.stat().st_size
                segment.unlink()
                sync_folder(folder)
            mark.unlink()
    return freed, waiting


async def compact_objects(bucket: ObjectStore, rows: StoredDocuments, *, safe_age_s: float) -> Compacted:
    """Deletes the objects that no row refers to and that are older than the safe age."""
    before = time.time() - safe_age_s
    freed = 0
    names = rows.objects()
    name = await anext(names, None)
    for prefix in (f"{number:02x}" for number in range(256)):
        in_use = set()
        while name is not None and name < prefix + "0":  # names are prefix/…, and "/" comes before "0"
            in_use.add(name)
            name = await anext(names, None)
        # Read after the rows: what is old enough by now was registered before.
        async for page in obstore.list(bucket, prefix, chunk_size=1000):
            unused = [m for m in page if m["path"] not in in_use and m["last_modified"].timestamp() < before]
            if unused:
                await obstore.delete_async(bucket, [m["path"] for m in unused])
                freed += sum(m["size"] for m in unused)
    return Compacted(freed_bytes=freed)
