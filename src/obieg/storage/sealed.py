"""How stored bytes are encrypted: AES-256-GCM in chunks of 1 MiB, each authenticated on its own.

The nonce is the chunk's number and a flag on the last one (STREAM, https://eprint.iacr.org/2015/189), so a chunk that
is changed, moved, left out or cut off is noticed before a byte of it is given out. A key seals one stream only, hence
the numbers may begin at zero. ``identity`` binds the chunks to the place that names them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from obieg.domain.document_store import PIECE_SIZE_BYTES, DocumentDamagedError

TAG_SIZE_BYTES = 16
SEALED_CHUNK_SIZE_BYTES = PIECE_SIZE_BYTES + TAG_SIZE_BYTES
KEY_SIZE_BYTES = 32

Buffer = bytes | bytearray | memoryview
_ONLY = bytes(11) + b"\x01"  # number 0, last


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def seal(aead: AESGCM, identity: bytes, data: Buffer, number: int = 0, *, last: bool = True) -> bytes:
    """Encrypts one chunk; without a number, the only one."""
    return aead.encrypt(_ONLY if last and not number else _nonce(number, last=last), data, identity)


def unseal(aead: AESGCM, identity: bytes, data: Buffer, number: int = 0, *, last: bool = True) -> bytes:
    """Decrypts one chunk; raises :class:`DocumentDamagedError`."""
    try:
        return aead.decrypt(_ONLY if last and not number else _nonce(number, last=last), data, identity)
    except InvalidTag:
        raise DocumentDamagedError(f"chunk {number} fails its authentication") from None


def sealed_size(size: int) -> int:
    """Bytes that a stream of ``size`` bytes takes when sealed; an empty one is one empty chunk."""
    return size + TAG_SIZE_BYTES * max(1, -(-size // PIECE_SIZE_BYTES))


def plain_size(sealed: int) -> int:
    """The inverse of :func:`sealed_size`."""
    return sealed - TAG_SIZE_BYTES * max(1, -(-sealed // SEALED_CHUNK_SIZE_BYTES))


def sealed_chunks(sealed: int) -> Iterator[tuple[int, int, int, bool]]:
    """Number, offset, length and whether it is the last, of each sealed chunk of a stream of ``sealed`` bytes."""
    for number, offset in enumerate(range(0, sealed, SEALED_CHUNK_SIZE_BYTES)):
        length = min(SEALED_CHUNK_SIZE_BYTES, sealed - offset)
        yield number, offset, length, offset + length == sealed


async def pieces(source: AsyncIterator[bytes] | bytes) -> AsyncIterator[tuple[bytes, bool]]:
    """The source cut anew into pieces of 1 MiB, and whether each is the last; an empty source is one empty piece."""
    if isinstance(source, bytes):
        for start in range(0, len(source) or 1, PIECE_SIZE_BYTES):
            yield source[start : start + PIECE_SIZE_BYTES], start + PIECE_SIZE_BYTES >= len(source)
        return
    held = bytearray()
    async for chunk in source:
        held += chunk
        while len(held) > PIECE_SIZE_BYTES:  # not when equal: this may be the last one
            yield bytes(held[:PIECE_SIZE_BYTES]), False
            del held[:PIECE_SIZE_BYTES]
    yield bytes(held), True
