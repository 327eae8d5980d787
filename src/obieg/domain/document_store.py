"""The port to where documents are kept: the database remembers what a store answers, and nothing else about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

# Documents up to this size are held whole; larger ones are handled in pieces of this size.
PIECE_SIZE_BYTES = 1 << 20


class Appended(NamedTuple):
    """What must be remembered of a stored document to read it again, and what was found out on the way."""

    location: str
    wrapped_key: bytes  # dropping it erases the document
    size: int  # bytes
    sha256: bytes


class DocumentUnreadableError(Exception):
    """A document that was acknowledged cannot be given back: an alarm, never the asker's fault."""


class DocumentMissingError(DocumentUnreadableError):
    """Nothing stands at the location. A reader that holds an old location asks the database again."""


class DocumentDamagedError(DocumentUnreadableError):
    """What stands at the location is not what was stored, or the key is not the document's."""


class DocumentStore(Protocol):
    """Keeps documents encrypted, each under its own key; the same bytes stored twice are two documents."""

    async def append(self, chunks: AsyncIterator[bytes] | bytes) -> Appended:
        """Stores one document; it is durable when this returns. Raises RetryLater when it cannot be written."""

    def read(self, location: str, wrapped_key: bytes) -> AsyncIterator[bytes]:
        """The document in pieces of at most 1 MiB, each authenticated before it is given out."""

    async def read_whole(self, location: str, wrapped_key: bytes) -> bytes:
        """A document of at most 1 MiB, the short way."""

    async def close(self) -> None:
        """Waits for what is being written, then lets go of everything."""
