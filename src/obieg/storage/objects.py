"""The document store on any S3 endpoint, for nodes with more than one machine: each document is one object.

The object is the sealed document (:mod:`obieg.storage.sealed`), named by its random id, which is also the identity
that its chunks are bound to. The location is ``name:length``. Reading asks for one range for each chunk, so a slow
reader keeps no connection to the object store open. A bucket should have a rule that ends incomplete multipart uploads.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import obstore
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, S3Store

from obieg.domain.document_store import PIECE_SIZE_BYTES, Appended, DocumentDamagedError, DocumentMissingError
from obieg.domain.problems import RetryLater
from obieg.storage.keys import KeyWrapper
from obieg.storage.sealed import KEY_SIZE_BYTES, pieces, seal, sealed_chunks, sealed_size, unseal

_ID_SIZE_BYTES = 16
_PART_SIZE_BYTES = 5 << 20  # the smallest part that S3 takes
_PARTS_IN_FLIGHT = 2  # what an upload holds in memory


def connect(url: str, *, endpoint: str = "", access_key: str = "", secret_key: str = "") -> ObjectStore:
    """Opens ``s3://bucket/prefix``; without an endpoint at Amazon, without keys with those of the environment."""
    parts = urlsplit(url)
    given = {"endpoint": endpoint, "access_key_id": access_key, "secret_access_key": secret_key}
    config = {name: value for name, value in given.items() if value}
    if endpoint:  # Amazon needs the region to be stated; others take any
        config["region"] = os.environ.get("AWS_REGION", "us-east-1")
    prefix = parts.path.strip("/") or None
    return S3Store(
        parts.netloc,
        prefix=prefix,
        config=config,  # type: ignore[arg-type]
        client_options={"allow_http": endpoint.startswith("http://")},
    )


class Objects:
    """See the module; a :class:`~obieg.domain.document_store.DocumentStore`."""

    def __init__(self, store: ObjectStore, wrapper: KeyWrapper) -> None:
        self._store = store
        self._wrapper = wrapper

    async def append(self, chunks: AsyncIterator[bytes] | bytes) -> Appended:
        """See :class:`~obieg.domain.document_store.DocumentStore`."""
        source = pieces(chunks)
        first, last = await anext(source)
        key, identity = os.urandom(KEY_SIZE_BYTES), os.urandom(_ID_SIZE_BYTES)
        name, aead = object_name(identity), AESGCM(key)
        if last:
            digest = hashlib.sha256(first)
            size = len(first)
            await self._put(name, seal(aead, identity, first))
        else:
            upload = _Upload(aead, identity, first, source)
            await self._put_parts(name, upload)
            digest, size = upload.digest, upload.size
        return Appended(f"{name}:{sealed_size(size)}", self._wrapper.wrap(key), size, digest.digest())

    async def _put(self, name: str, content: bytes) -> None:
        try:
            await obstore.put_async(self._store, name, content, use_multipart=False)
        except (BaseError, OSError) as error:
            raise _retry_later(error) from error

    async def _put_parts(self, name: str, upload: _Upload) -> None:
        try:
            await obstore.put_async(
                self._store, name, upload, chunk_size=_PART_SIZE_BYTES, max_concurrency=_PARTS_IN_FLIGHT
            )
        except Exception as error:  # the sender's own error comes back wrapped
            if upload.error is not None:
                raise upload.error from None
            if isinstance(error, BaseError | OSError):
                raise _retry_later(error) from error
            raise

    async def read_whole(self, location: str, wrapped_key: bytes) -> bytes:
        """See :class:`~obieg.domain.document_store.DocumentStore`."""
        name, identity, length = _parse(location)
        if length > sealed_size(PIECE_SIZE_BYTES):
            raise ValueError(f"{location}: larger than 1 MiB, read it in pieces")
        key = self._wrapper.unwrap(wrapped_key)
        return unseal(AESGCM(key), identity, await self._get(name, 0, length))

    async def read(self, location: str, wrapped_key: bytes) -> AsyncIterator[bytes]:
        """See :class:`~obieg.domain.document_store.DocumentStore`."""
        name, identity, length = _parse(location)
        aead = AESGCM(self._wrapper.unwrap(wrapped_key))
        for number, offset, size, last in sealed_chunks(length):
            sealed = await self._get(name, offset, size)
            yield await asyncio.to_thread(unseal, aead, identity, sealed, number, last=last)

    async def _get(self, name: str, offset: int, length: int) -> memoryview:
        try:
            return memoryview(await obstore.get_range_async(self._store, name, start=offset, length=length))
        except FileNotFoundError:
            raise DocumentMissingError(f"object {name} is not there") from None
        except (BaseError, OSError) as error:
            if "416" in str(error) or "Invalid range" in str(error):
                raise DocumentDamagedError(f"object {name} is shorter than it was") from None
            raise _retry_later(error) from error

    async def close(self) -> None:
        """See :class:`~obieg.domain.document_store.DocumentStore`; there is nothing to wait for."""


class _Upload:
    """Seals pieces as they are asked for; remembers the sender's error, which obstore would disguise."""

    def __init__(self, aead: AESGCM, identity: bytes, first: bytes, rest: AsyncIterator[tuple[bytes, bool]]) -> None:
        self._aead = aead
        self._identity = identity
        self._first = first
        self._rest = rest
        self.digest = hashlib.sha256()
        self.size = 0
        self.error: BaseException | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        number = 0
        try:
            yield await asyncio.to_thread(self._seal, self._first, number, last=False)
            async for piece, last in self._rest:
                number += 1
                yield await asyncio.to_thread(self._seal, piece, number, last=last)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise

    def _seal(self, piece: bytes, number: int, *, last: bool) -> bytes:
        self.digest.update(piece)
        self.size += len(piece)
        return seal(self._aead, self._identity, piece, number, last=last)


def object_name(identity: bytes) -> str:
    """The first two digits again as a folder, so that listings can be shared out."""
    digits = identity.hex()
    return f"{digits[:2]}/{digits}"


def _parse(location: str) -> tuple[str, bytes, int]:
    name, _, length = location.partition(":")
    try:
        identity = bytes.fromhex(name[3:])
        if object_name(identity) == name:
            return name, identity, int(length)
    except ValueError:
        pass
    raise DocumentMissingError(f"{location!r} is no location in an object store")


def _retry_later(error: Exception) -> RetryLater:
    return RetryLater(f"the object store does not answer: {type(error).__name__}: {error}")
