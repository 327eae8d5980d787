"""Bytes of a document while they are in memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator


class MemoryContent:
    """A document of at most a few megabytes, whole in memory."""

    __slots__ = ("_sha1", "content_type", "data")

    def __init__(self, data: bytes, content_type: str = "") -> None:
        self.data = data
        self.content_type = content_type
        self._sha1 = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def sha1(self) -> str:
        """SHA-1, hexadecimal: what XDS compares, not a security measure."""
        self._sha1 = self._sha1 or hashlib.sha1(self.data, usedforsecurity=False).hexdigest()
        return self._sha1

    async def chunks(self) -> AsyncIterator[bytes]:
        """The whole in one piece."""
        yield self.data
