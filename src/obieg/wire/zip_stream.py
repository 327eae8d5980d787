"""A ZIP archive that is written while it is sent: members are stored as they come, unknown before. Sans-I/O.

Sizes and checksums follow each member (APPNOTE 4.3.9), so nothing is held but the names; beyond 4 GiB it is ZIP64.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that the format has: when a member was sent tells nothing of it


class _Outlet(io.RawIOBase):
    """Takes what the archive writes; nothing of it can be changed any more."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


class ZipWriter:
    """Write members one after another; what is to be sent is taken with :meth:`taken`."""

    def __init__(self) -> None:
        self._outlet = _Outlet()
        self._zip = zipfile.ZipFile(self._outlet, "w", zipfile.ZIP_STORED, allowZip64=True)

    @contextmanager
    def member(self, name: str) -> Iterator[IO[bytes]]:
        """What is written within the block is the member's content."""
        with self._zip.open(zipfile.ZipInfo(name, _TIME), "w", force_zip64=True) as member:
            yield member

    def taken(self) -> bytes:
        """What was written since it was taken last."""
        return self._outlet.taken()

    def finish(self) -> bytes:
        """The rest, with the directory."""
        self._zip.close()
        return self._outlet.taken()
