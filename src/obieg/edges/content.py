"""Parts of a message while they arrive: in memory up to a limit, then in an unnamed file."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from obieg.domain.content import MemoryContent
from obieg.protocol import Content

MEMORY_BYTES_MAX = 1 << 20  # of one part; beyond it the part goes to a file
_PIECE_BYTES = 1 << 20


class SpooledContent:
    """A document in an unnamed temporary file, which goes when the request ends."""

    def __init__(self, file: IO[bytes], size: int, sha1: str, content_type: str) -> None:
        self._file = file
        self._sha1 = sha1
        self.size = size
        self.content_type = content_type

    def sha1(self) -> str:
        """SHA-1, hexadecimal, made while the part arrived."""
        return self._sha1

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in pieces of at most 1 MiB, read in a thread."""
        offset = 0
        while offset < self.size:
            piece = await asyncio.to_thread(self._read, offset)
            if not piece:
                raise OSError("the spool file is shorter than what was written to it")
            yield piece
            offset += len(piece)

    def _read(self, offset: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(_PIECE_BYTES)

    def close(self) -> None:
        """Gives the file's space back."""
        self._file.close()


class FileContent:
    """A file that is sent as it stands on the disk."""

    def __init__(self, path: Path, *, size: int, sha1: str, content_type: str) -> None:
        """``size`` and ``sha1`` are those of the metadata: a file that has changed since is refused there."""
        self._path = path
        self._sha1 = sha1
        self.size = size
        self.content_type = content_type

    def sha1(self) -> str:
        """SHA-1, hexadecimal."""
        return self._sha1

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in pieces of at most 1 MiB, read in a thread."""
        file = await asyncio.to_thread(self._path.open, "rb")
        try:
            while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                yield piece
        finally:
            file.close()


class PartSink:
    """Takes the bytes of one part and becomes its content."""

    def __init__(self, content_type: str, folder: Path) -> None:
        self._content_type = content_type
        self._folder = folder
        self._pieces: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self.size = 0

    async def write(self, data: bytes) -> None:
        """Adds bytes. What exceeds the memory limit is written and hashed in a thread."""
        self.size += len(data)
        self._pieces.append(data)
        if self._file is None and self.size <= MEMORY_BYTES_MAX:
            return
        if self._file is None or sum(map(len, self._pieces)) >= _PIECE_BYTES:
            await asyncio.to_thread(self._spill)

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by SpooledContent
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._sha1.update(data)
        self._file.write(data)

    async def finish(self) -> Content:
        """The content of the whole part."""
        if self._file is None:
            return MemoryContent(b"".join(self._pieces), self._content_type)
        await asyncio.to_thread(self._finish_file)
        return SpooledContent(self._file, self.size, self._sha1.hexdigest(), self._content_type)

    def _finish_file(self) -> None:
        self._spill()
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Gives up a part that was not finished."""
        if self._file is not None:
            self._file.close()
