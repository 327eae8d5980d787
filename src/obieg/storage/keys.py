"""The keys that wrap document keys: they live outside the database, so a copy of the database opens no document.

A key file has one line for each master key, a number and 64 hexadecimal digits; the one with the highest number
wraps, every one unwraps. A wrapped key is the master key's number (4 bytes), a random nonce (12), and the document key
with its tag (48). Nothing of the document's place goes into it: each document has its own key, which opens nothing
else, and so a document may be moved, or its key wrapped anew, without touching the other. One master key may wrap
2^32 document keys (NIST SP 800-38D, 8.3); rotate long before.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from obieg.domain.document_store import DocumentDamagedError
from obieg.storage.sealed import KEY_SIZE_BYTES, TAG_SIZE_BYTES

_NONCE_SIZE_BYTES = 12
_NUMBER_SIZE_BYTES = 4
WRAPPED_SIZE_BYTES = _NUMBER_SIZE_BYTES + _NONCE_SIZE_BYTES + KEY_SIZE_BYTES + TAG_SIZE_BYTES
_LABEL = b"obieg key 1"
_HEADING = "# Keys of obieg. Keep a copy in another place: without this file nothing it protects can be read again.\n"


class KeyFileError(Exception):
    """The key file cannot be used; the message says what to do."""


class KeyWrapper(Protocol):
    """Wraps and unwraps the key of a document."""

    def wrap(self, key: bytes) -> bytes:
        """Wraps with the newest master key."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """Raises :class:`DocumentDamagedError` when no master key here opens it."""

    def is_current(self, wrapped: bytes) -> bool:
        """Whether the newest master key wrapped it."""


def rewrap(wrapper: KeyWrapper, wrapped: bytes) -> bytes:
    """The same key under the newest master key; unchanged when it already is."""
    return wrapped if wrapper.is_current(wrapped) else wrapper.wrap(wrapper.unwrap(wrapped))


class KeyFile:
    """Master keys in a file that only its owner may read. A key added by another process is found when it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._load()

    def _load(self) -> None:
        self._keys = {number: AESGCM(key) for number, key in _read(self._path).items()}
        self._newest = max(self._keys)
        self._prefix = self._newest.to_bytes(_NUMBER_SIZE_BYTES, "big")

    def wrap(self, key: bytes) -> bytes:
        """See :class:`KeyWrapper`."""
        nonce = os.urandom(_NONCE_SIZE_BYTES)
        return self._prefix + nonce + self._keys[self._newest].encrypt(nonce, key, _LABEL + self._prefix)

    def unwrap(self, wrapped: bytes) -> bytes:
        """See :class:`KeyWrapper`."""
        prefix = wrapped[:_NUMBER_SIZE_BYTES]
        number = int.from_bytes(prefix, "big")
        if number not in self._keys:
            self._load()
        aead = self._keys.get(number)
        if aead is None or len(wrapped) != WRAPPED_SIZE_BYTES:
            raise DocumentDamagedError(f"the document's key is wrapped by master key {number}, which is not here")
        nonce = wrapped[_NUMBER_SIZE_BYTES : _NUMBER_SIZE_BYTES + _NONCE_SIZE_BYTES]
        try:
            return aead.decrypt(nonce, wrapped[_NUMBER_SIZE_BYTES + _NONCE_SIZE_BYTES :], _LABEL + prefix)
        except InvalidTag:
            raise DocumentDamagedError("the document's key fails its authentication") from None

    def is_current(self, wrapped: bytes) -> bool:
        """See :class:`KeyWrapper`."""
        return wrapped[:_NUMBER_SIZE_BYTES] == self._prefix


def create_key_file(path: Path) -> None:
    """Makes a file with one key; an existing one is never overwritten."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _write_beside(path, {1: os.urandom(KEY_SIZE_BYTES)})
    try:
        os.link(fresh, path)  # unlike a rename, refuses an existing file
    except FileExistsError:
        raise KeyFileError(f"{path} exists; it is not overwritten because documents may depend on it") from None
    finally:
        fresh.unlink()
    _sync_folder(path.parent)


def rotate(path: Path) -> int:
    """Adds a key, which wraps from now on; its number. Workers use it once restarted, and read with it at once."""
    keys = _read(path)
    number = max(keys) + 1
    fresh = _write_beside(path, keys | {number: os.urandom(KEY_SIZE_BYTES)})
    fresh.replace(path)
    _sync_folder(path.parent)
    return number


def copy_key_file(content: bytes, path: Path) -> None:
    """Puts back a key file from a backup; keys that stand here already must be the same."""
    keys = _parse(content.decode("ascii"), path)
    if path.exists():
        here = _read(path)
        if any(here.get(number, key) != key for number, key in keys.items()):
            raise KeyFileError(f"{path} holds other keys than the backup; move it away first")
        keys |= here
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_beside(path, keys).replace(path)
    _sync_folder(path.parent)


def _write_beside(path: Path, keys: dict[int, bytes]) -> Path:
    fresh = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(_HEADING + "".join(f"{number} {key.hex()}\n" for number, key in sorted(keys.items())))
        file.flush()
        os.fsync(file.fileno())
    return fresh


def _read(path: Path) -> dict[int, bytes]:
    try:
        with path.open(encoding="ascii") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise KeyFileError(f"{path} can be read by others; run: chmod 600 {path}")
            return _parse(file.read(), path)
    except FileNotFoundError:
        raise KeyFileError(f"the key file {path} is missing; put back its copy, or on a new node create one") from None


def _parse(text: str, path: Path) -> dict[int, bytes]:
    keys: dict[int, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                name, digits = line.split()
                keys[int(name)] = key = bytes.fromhex(digits)
            except ValueError:
                key = b""
            if len(key) != KEY_SIZE_BYTES:
                raise KeyFileError(f"{path}, line {number}: expected a number and 64 hexadecimal digits")
    if not keys:
        raise KeyFileError(f"{path} holds no key")
    return keys


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
