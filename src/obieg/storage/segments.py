"""The default document store: each worker appends documents to its own files, many documents for one fdatasync.

Theory of operation. A *segment* is a file of records, one after another; a record is a header (magic, version, size of
the document, its random id, CRC-32) and the sealed document (:mod:`obieg.storage.sealed`; the id is the identity). The
location of a document is ``segment:offset:length`` of its record. A segment has one writer at a time: documents of at
most 1 MiB share one, a larger one that is being streamed has one to itself, and its header is written last. The writer
holds an exclusive flock, so that others know which segments are finished: those whose lock is free, for a new process
makes new segments. A crash leaves at most a torn record at the end, which nobody was told of.

A record then waits for the *syncer*, a thread that takes whatever waits, writes it, makes the segments durable (and,
for a new segment, its folder) and wakes the appenders together. While it runs the next group gathers; the loop only
hashes and encrypts. fdatasync that failed says nothing about what was written before (PostgreSQL, "fsyncgate"), so the
segment is then abandoned and its waiters are told to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from obieg.domain.document_store import PIECE_SIZE_BYTES, Appended, DocumentDamagedError, DocumentMissingError
from obieg.domain.problems import RetryLater
from obieg.storage.keys import KeyWrapper
from obieg.storage.machine import claim
from obieg.storage.sealed import (
    KEY_SIZE_BYTES,
    Buffer,
    pieces,
    plain_size,
    seal,
    sealed_chunks,
    sealed_size,
    unseal,
)

SEGMENT_SIZE_BYTES = 256 << 20
SUFFIX = ".seg"
_MAGIC = b"OBSG"
_VERSION = 1
_HEADER = struct.Struct(">4sHxxQ16s")  # magic, version, size of the plain document, id; then CRC-32 of these
_CRC = struct.Struct(">I")
HEADER_SIZE_BYTES = _HEADER.size + _CRC.size
_ID_SIZE_BYTES = 16
_NAME = re.compile(r"[0-9a-f]{16}-[0-9]+\Z")
_OPEN_FILES_MAX = 256
_BUFFERS_PER_CALL_MAX = 1024  # IOV_MAX of Linux
_THREADS = 2
_PAUSE_AFTER_FAILURE_S = 1.0
_WHOLE_RECORD_SIZE_MAX = HEADER_SIZE_BYTES + sealed_size(PIECE_SIZE_BYTES)


class Place(NamedTuple):
    """A location, taken apart."""

    segment: str
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.segment}:{self.offset}:{self.length}"

    @classmethod
    def parse(cls, location: str) -> Place:
        """Raises :class:`DocumentMissingError` when this is no location of a segment store."""
        segment, _, numbers = location.partition(":")
        offset, _, length = numbers.partition(":")
        try:
            return cls(segment, int(offset), int(length))
        except ValueError:
            raise DocumentMissingError(f"{location!r} is no location in segments") from None


class _File:
    """An open file that is closed when nobody holds it any more: threads may still be at work on it."""

    def __init__(self, path: Path, flags: int) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class _Segment(_File):
    """A segment that this process writes."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder / (name + SUFFIX), os.O_CREAT | os.O_EXCL | os.O_RDWR)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.name = name
        self.end = 0  # where the next record begins
        self.listed = False  # whether its name in the folder is durable
        self.broken: OSError | None = None


class _Record(NamedTuple):
    """Bytes on their way into a segment, and who waits for them."""

    segment: _Segment
    offset: int
    buffers: list[bytes]
    durable: asyncio.Future[None]


def _write(segment: _Segment, buffers: list[bytes], offset: int) -> None:
    """Writes all of the buffers."""
    for first in range(0, len(buffers), _BUFFERS_PER_CALL_MAX):
        some = buffers[first : first + _BUFFERS_PER_CALL_MAX]
        missing = sum(map(len, some))
        written = os.pwritev(segment.descriptor, some, offset)
        if written < missing:  # a disk that is nearly full writes a part, and says why the next time
            rest = memoryview(b"".join(some))
            while written < missing:
                written += os.pwrite(segment.descriptor, rest[written:], offset + written)
        offset += missing


def _write_or_break(segment: _Segment, buffers: list[bytes], offset: int) -> None:
    try:
        _write(segment, buffers, offset)
    except OSError as error:
        segment.broken = error
        raise _retry_later(error) from error


class _Syncer:
    """The thread that writes records and makes them durable, a group at a time, and those who wait for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: SimpleQueue[_Record | None] = SimpleQueue()  # None: no more will come
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def write(self, segment: _Segment, offset: int, buffers: list[bytes]) -> asyncio.Future[None]:
        """Done when this, and everything written to the segment before, will survive a power cut."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, args=(loop,), name="segments-syncer", daemon=True)
            self._thread.start()
        record = _Record(segment, offset, buffers, loop.create_future())
        self._waiting.put(record)
        return record.durable

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        closing = False
        while not closing:
            group: list[_Record] = []
            record = self._waiting.get()
            with contextlib.suppress(Empty):
                while record is not None:
                    group.append(record)
                    record = self._waiting.get_nowait()
                closing = True
            for segment, records in groupby(sorted(group, key=_by_place), key=attrgetter("segment")):
                self._store(segment, list(records))
            with contextlib.suppress(RuntimeError):  # the loop was closed under us: nobody waits any more
                loop.call_soon_threadsafe(self._answer, group)

    def _store(self, segment: _Segment, records: list[_Record]) -> None:
        """Writes records, which are in order of offset, and makes the segment durable."""
        if segment.broken is not None:
            return
        try:
            start = end = records[0].offset
            buffers: list[bytes] = []
            for record in records:
                if record.offset != end:
                    _write(segment, buffers, start)
                    start, buffers, end = record.offset, [], record.offset
                buffers += record.buffers
                end += sum(map(len, record.buffers))
            _write(segment, buffers, start)
            os.fdatasync(segment.descriptor)
            if not segment.listed:
                sync_folder(self._folder)
                segment.listed = True
        except OSError as error:
            segment.broken = error

    @staticmethod
    def _answer(group: list[_Record]) -> None:
        for record in group:
            if record.durable.done():  # its request was cancelled
                continue
            error = record.segment.broken
            if error is None:
                record.durable.set_result(None)
            else:
                record.durable.set_exception(_retry_later(error))

    async def close(self) -> None:
        """Sees through whoever still waits, then ends."""
        if self._thread is not None:
            self._waiting.put(None)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)


def _retry_later(error: OSError) -> RetryLater:
    return RetryLater(f"the document store cannot write: {error}")


def _by_place(record: _Record) -> tuple[str, int]:
    return record.segment.name, record.offset


class Segments:
    """See the module; a :class:`~obieg.domain.document_store.DocumentStore`. One event loop uses it."""

    def __init__(self, folder: Path, wrapper: KeyWrapper, *, segment_size_bytes: int = SEGMENT_SIZE_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._machine = claim(folder)
        self._folder = folder
        self._wrapper = wrapper
        self._segment_size = segment_size_bytes
        self._syncer = _Syncer(folder)
        self._threads = ThreadPoolExecutor(_THREADS, "segments")
        self._prefix = os.urandom(8).hex()
        self._made = 0
        self._retry_at = 0.0
        self._shared: _Segment | None = None
        self._idle: list[_Segment] = []  # segments with room that no streamed document is using
        self._open: dict[str, _File] = {}

    async def append(self, chunks: AsyncIterator[bytes] | bytes) -> Appended:
        """See :class:`~obieg.domain.document_store.DocumentStore`."""
        if isinstance(chunks, bytes) and len(chunks) <= PIECE_SIZE_BYTES:
            return await self._append_whole(chunks)
        source = pieces(chunks)
        first, last = await anext(source)
        if last:
            return await self._append_whole(first)
        return await self._append_streamed(first, source)

    async def _append_whole(self, data: bytes) -> Appended:
        # One call for both secrets. Hashing and encrypting 1 MiB takes less than a millisecond together.
        secret = os.urandom(KEY_SIZE_BYTES + _ID_SIZE_BYTES)
        key, identity = secret[:KEY_SIZE_BYTES], secret[KEY_SIZE_BYTES:]
        # All that reads the document is done at once, while the processor's caches hold it.
        digest = hashlib.sha256(data).digest()
        record = [_header(len(data), identity), seal(AESGCM(key), identity, data)]
        place = await self._append_record(record)
        return Appended(str(place), self._wrapper.wrap(key), len(data), digest)

    async def _append_record(self, record: list[bytes]) -> Place:
        segment = self._shared
        length = sum(map(len, record))
        if segment is None or segment.broken or segment.end + length > self._segment_size:
            segment = self._shared = self._new_segment(after=segment)
        place = Place(segment.name, segment.end, length)
        segment.end += length
        await self._syncer.write(segment, place.offset, record)
        return place

    async def _append_streamed(self, first: bytes, rest: AsyncIterator[tuple[bytes, bool]]) -> Appended:
        loop = asyncio.get_running_loop()
        key, identity = os.urandom(KEY_SIZE_BYTES), os.urandom(_ID_SIZE_BYTES)
        aead, digest, size, number = AESGCM(key), hashlib.sha256(), 0, 0
        segment = self._idle.pop() if self._idle else self._new_segment()
        start = segment.end
        end = start + HEADER_SIZE_BYTES

        def store(piece: bytes, offset: int, last: bool) -> int:  # noqa: FBT001 - called by an executor
            digest.update(piece)
            sealed = seal(aead, identity, piece, number, last=last)
            _write_or_break(segment, [sealed], offset)
            return len(sealed)

        # When this fails or is cancelled the segment is left as it is and not used again: a thread may be writing.
        end += await loop.run_in_executor(self._threads, store, first, end, False)
        size += len(first)
        async for piece, last in rest:
            number += 1
            size += len(piece)
            end += await loop.run_in_executor(self._threads, store, piece, end, last)
        await self._syncer.write(segment, start, [_header(size, identity)])
        self._release(segment, end)
        return Appended(str(Place(segment.name, start, end - start)), self._wrapper.wrap(key), size, digest.digest())

    def _new_segment(self, after: _Segment | None = None) -> _Segment:
        if after is not None and after.broken is not None:
            now = time.monotonic()
            if now < self._retry_at:  # a full disk shall not fill up with empty segments too
                raise _retry_later(after.broken)
            self._retry_at = now + _PAUSE_AFTER_FAILURE_S
        self._made += 1
        try:
            return _Segment(self._folder, f"{self._prefix}-{self._made}")
        except OSError as error:
            raise _retry_later(error) from error

    def _release(self, segment: _Segment, end: int) -> None:
        segment.end = end
        if end < self._segment_size:
            self._idle.append(segment)

    async def read_whole(self, location: str, wrapped_key: bytes) -> bytes:
        """See :class:`~obieg.domain.document_store.DocumentStore`."""
        place = Place.parse(location)
        if place.length > _WHOLE_RECORD_SIZE_MAX:
            raise ValueError(f"{location}: larger than 1 MiB, read it in pieces")
        file = self._open.get(place.segment) or self._open_segment(place.segment)
        record: Buffer | None = _read_cached(file, place)
        if record is None:
            loop = asyncio.get_running_loop()
            record = await loop.run_in_executor(self._threads, _read, file, place.length, place.offset)
        identity = _check_header(place, record)
        return unseal(AESGCM(self._wrapper.unwrap(wrapped_key)), identity, memoryview(record)[HEADER_SIZE_BYTES:])

    async def read(self, location: str, wrapped_key: bytes) -> AsyncIterator[bytes]:
        """See :class:`~obieg.domain.document_store.DocumentStore`."""
        place = Place.parse(location)
        if place.length <= _WHOLE_RECORD_SIZE_MAX:
            yield await self.read_whole(location, wrapped_key)
            return
        file = self._open.get(place.segment) or self._open_segment(place.segment)
        identity = _check_header(place, _read(file, HEADER_SIZE_BYTES, place.offset))
        aead = AESGCM(self._wrapper.unwrap(wrapped_key))
        body = place.offset + HEADER_SIZE_BYTES

        def load(number: int, offset: int, length: int, last: bool) -> bytes:  # noqa: FBT001 - one row of sealed_chunks
            return unseal(aead, identity, _read(file, length, body + offset), number, last=last)

        loop = asyncio.get_running_loop()
        for chunk in sealed_chunks(place.length - HEADER_SIZE_BYTES):
            yield await loop.run_in_executor(self._threads, load, *chunk)

    def _open_segment(self, name: str) -> _File:
        if not _NAME.match(name):
            raise DocumentMissingError(f"{name!r} is no name of a segment")
        try:
            file = _File(self._folder / (name + SUFFIX), os.O_RDONLY)
        except FileNotFoundError:
            raise DocumentMissingError(f"segment {name} is not there") from None
        # Let go of segments that were compacted away, so that their space is freed, and of the oldest.
        self._open = {n: f for n, f in self._open.items() if os.fstat(f.descriptor).st_nlink}
        if len(self._open) >= _OPEN_FILES_MAX:
            del self._open[next(iter(self._open))]
        self._open[name] = file
        return file

    async def copy(self, location: str) -> str:
        """Copies a record, sealed as it is, to a segment of this process; the new location, durable."""
        place = Place.parse(location)
        file = self._open.get(place.segment) or self._open_segment(place.segment)
        _check_header(place, _read(file, HEADER_SIZE_BYTES, place.offset))
        if place.length <= _WHOLE_RECORD_SIZE_MAX:
            return str(await self._append_record([_read(file, place.length, place.offset)]))
        segment = self._idle.pop() if self._idle else self._new_segment()
        start = segment.end

        def copy_all() -> None:
            for done in range(0, place.length, PIECE_SIZE_BYTES):
                length = min(PIECE_SIZE_BYTES, place.length - done)
                _write_or_break(segment, [_read(file, length, place.offset + done)], start + done)

        await asyncio.get_running_loop().run_in_executor(self._threads, copy_all)
        await self._syncer.write(segment, start, [])
        self._release(segment, start + place.length)
        return str(Place(segment.name, start, place.length))

    async def close(self) -> None:
        """See :class:`~obieg.domain.document_store.DocumentStore`."""
        await self._syncer.close()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        self._shared = None
        self._idle.clear()
        self._open.clear()
        self._machine.close()


def _read_cached(file: _File, place: Place) -> bytearray | None:
    """The record if all of it is in the page cache; else a thread has to wait for the disk."""
    record = bytearray(place.length)
    try:
        length = os.preadv(file.descriptor, [record], place.offset, os.RWF_NOWAIT)
    except OSError:  # EAGAIN, or a file system that does not know the flag
        return None
    return record if length == place.length else None


def _read(file: _File, length: int, offset: int) -> bytes:
    try:
        return os.pread(file.descriptor, length, offset)
    except OSError as error:
        raise DocumentDamagedError(f"the disk does not give it back: {error}") from error


def _header(size: int, identity: bytes) -> bytes:
    header = _HEADER.pack(_MAGIC, _VERSION, size, identity)
    return header + _CRC.pack(zlib.crc32(header))


def _parse_header(data: Buffer) -> tuple[int, bytes] | None:
    """Size of the document and its id; None when this is no header."""
    if len(data) < HEADER_SIZE_BYTES or _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
        return None
    magic, version, size, identity = _HEADER.unpack_from(data)
    return (size, identity) if (magic, version) == (_MAGIC, _VERSION) else None


def _check_header(place: Place, record: Buffer) -> bytes:
    """The document's id."""
    header = _parse_header(record)
    if header is None or header[0] != plain_size(place.length - HEADER_SIZE_BYTES):
        raise DocumentDamagedError(f"no document of this length begins at {place}")
    return header[1]


def scan(path: Path) -> Iterator[Place]:
    """The records of a segment, without the database; ends at the first that is not whole."""
    offset = 0
    with path.open("rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        while header := _parse_header(os.pread(file.fileno(), HEADER_SIZE_BYTES, offset)):
            length = HEADER_SIZE_BYTES + sealed_size(header[0])
            if offset + length > end:
                return
            yield Place(path.name.removesuffix(SUFFIX), offset, length)
            offset += length


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
