"""A folder of encrypted files with a manifest: what a backup is made of.

Every file is sealed (:mod:`obieg.storage.sealed`) under a key of its own, which a backup key wraps; it is bound to its
entry's name. The manifest is such a file too, and the last to be written: until then the folder holds the backup
before. What was finished is noted in ``progress``, so an interrupted run continues. An entry that can never change
again (a finished segment, an object) is *final* and is not written a second time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from obieg.domain.document_store import PIECE_SIZE_BYTES, DocumentDamagedError
from obieg.ops.failure import Failure
from obieg.storage.keys import WRAPPED_SIZE_BYTES, KeyWrapper
from obieg.storage.sealed import KEY_SIZE_BYTES, SEALED_CHUNK_SIZE_BYTES, seal, unseal
from obieg.storage.segments import sync_folder

FORMAT = 1
_MAGIC = b"OBBK\x00\x00\x00\x01"
_MANIFEST = "manifest"
_PROGRESS = "progress"

Report = Callable[[int], object]  # told of bytes done


class Entry(msgspec.Struct, frozen=True):
    """One file of the backup."""

    name: str  # database, keys, seal-keys, sts/…, segments/…, objects/…
    file: str  # below the folder
    size: int
    sha256: str
    stored_size: int  # as it stands in the folder, encrypted
    stored_sha256: str
    final: bool


class Manifest(msgspec.Struct, frozen=True):
    """What the backup holds."""

    format: int
    made_at: str  # UTC, when the backup began: all that was acknowledged before is in it
    postgresql_major: int
    store_kind: str
    entries: tuple[Entry, ...]


class Archive:
    """A backup folder that is being written."""

    def __init__(self, folder: Path, wrapper: KeyWrapper, stamp: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._wrapper = wrapper
        self.stamp = stamp
        # Of the runs before whose databases stand here; finish() removes them.
        self.stamps = sorted({p.name.split(".")[1] for p in folder.glob("database.*")})
        self._entries: list[Entry] = []
        before = read_manifest(folder, wrapper)
        done = [*(before.entries if before else ()), *_read_progress(folder)]
        self._done = {entry.name: entry for entry in done if entry.final and self._stands(entry)}
        self._progress = (folder / _PROGRESS).open("ab", buffering=0)

    def _stands(self, entry: Entry) -> bool:
        path = self._folder / entry.file
        return path.is_file() and path.stat().st_size == entry.stored_size

    def keep(self, name: str, size: int) -> bool:
        """Takes over a final entry of an earlier run, if there is one."""
        entry = self._done.get(name)
        if entry is None or entry.size != size:
            return False
        self._entries.append(entry)
        return True

    def add(self, name: str, source: Iterable[bytes], *, final: bool, report: Report = lambda _: None) -> None:
        """Writes one file, durably."""
        file = name if final else f"{name}.{self.stamp}"
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        entry = _write(path, name, file, self._wrapper, _reported(source, report), final=final)
        self._entries.append(entry)
        os.write(self._progress.fileno(), msgspec.json.encode(entry) + b"\n")

    def finish(self, made_at: str, postgresql_major: int, store_kind: str) -> Manifest:
        """Writes the manifest and removes what it does not name."""
        manifest = Manifest(FORMAT, made_at, postgresql_major, store_kind, tuple(self._entries))
        _write(
            self._folder / _MANIFEST, _MANIFEST, _MANIFEST, self._wrapper, [msgspec.json.encode(manifest)], final=True
        )
        (self._folder / _PROGRESS).unlink()
        named = {self._folder / entry.file for entry in self._entries} | {self._folder / _MANIFEST}
        for path in self._folder.rglob("*"):
            if path.is_file() and path not in named and _is_ours(path.relative_to(self._folder)):
                path.unlink()
        return manifest

    def close(self) -> None:
        """Lets go; a backup that was not finished can be continued."""
        self._progress.close()


def _is_ours(path: Path) -> bool:
    return path.parts[0] in ("segments", "objects") or path.name.split(".")[0] in ("database", "keys", _MANIFEST)


def read_manifest(folder: Path, wrapper: KeyWrapper) -> Manifest | None:
    """The manifest, if the folder holds a finished backup; :class:`Failure` when this key does not open it."""
    path = folder / _MANIFEST
    if not path.exists():
        return None
    try:
        manifest = msgspec.json.decode(b"".join(_unsealed(path, _MANIFEST, wrapper)), type=Manifest)
    except (DocumentDamagedError, msgspec.DecodeError) as error:
        raise Failure(
            f"The manifest of {folder} cannot be read: {error}.",
            "It is damaged, or the backup was made with another key.",
            "Name the key file that the backup was made with (--key).",
        ) from error
    if manifest.format != FORMAT:
        raise Failure(
            f"The backup in {folder} has format {manifest.format}; this obieg knows {FORMAT}.",
            "It was made by another release.",
            "Use the release that made it.",
        )
    return manifest


def check(folder: Path, entry: Entry, report: Report) -> str:
    """What is wrong with a file of the backup; empty when nothing is."""
    digest = hashlib.sha256()
    try:
        with (folder / entry.file).open("rb") as file:
            while piece := file.read(PIECE_SIZE_BYTES):
                digest.update(piece)
                report(len(piece))
    except OSError as error:
        return f"{entry.file} cannot be read: {error.strerror}"
    return "" if digest.hexdigest() == entry.stored_sha256 else f"{entry.file} is not as it was written"


def read(folder: Path, entry: Entry, wrapper: KeyWrapper, report: Report = lambda _: None) -> Iterator[bytes]:
    """The content of an entry; each piece is authentic, and the end is."""
    return _reported(_unsealed(folder / entry.file, entry.name, wrapper), report)


def _reported(source: Iterable[bytes], report: Report) -> Iterator[bytes]:
    for piece in source:
        report(len(piece))
        yield piece


def _read_progress(folder: Path) -> Iterator[Entry]:
    path = folder / _PROGRESS
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        if line.endswith(b"\n"):  # the last may be torn
            yield msgspec.json.decode(line, type=Entry)


def _write(path: Path, name: str, file: str, wrapper: KeyWrapper, source: Iterable[bytes], *, final: bool) -> Entry:
    new = path.with_name(path.name + ".new")
    key = os.urandom(KEY_SIZE_BYTES)
    plain, stored, size, stored_size = hashlib.sha256(), hashlib.sha256(), 0, 0
    with new.open("wb") as output:

        def write(data: bytes) -> None:
            nonlocal stored_size
            stored.update(data)
            stored_size += len(data)
            output.write(data)

        write(_MAGIC + wrapper.wrap(key))
        aead = AESGCM(key)
        for number, (piece, last) in enumerate(_pieces(source)):
            plain.update(piece)
            size += len(piece)
            write(seal(aead, name.encode(), piece, number, last=last))
        output.flush()
        os.fsync(output.fileno())
    new.replace(path)
    sync_folder(path.parent)
    return Entry(name, file, size, plain.hexdigest(), stored_size, stored.hexdigest(), final)


def _pieces(source: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """As :func:`obieg.storage.sealed.pieces`."""
    held = bytearray()
    for chunk in source:
        held += chunk
        while len(held) > PIECE_SIZE_BYTES:
            yield bytes(held[:PIECE_SIZE_BYTES]), False
            del held[:PIECE_SIZE_BYTES]
    yield bytes(held), True


def _unsealed(path: Path, name: str, wrapper: KeyWrapper) -> Iterator[bytes]:
    with path.open("rb") as file:
        head = file.read(len(_MAGIC) + WRAPPED_SIZE_BYTES)
        if not head.startswith(_MAGIC):
            raise DocumentDamagedError(f"{path} is no file of a backup")
        aead = AESGCM(wrapper.unwrap(head[len(_MAGIC) :]))
        for number, (sealed, last) in enumerate(_sealed(file)):
            yield unseal(aead, name.encode(), sealed, number, last=last)


def _sealed(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    ahead = file.read(SEALED_CHUNK_SIZE_BYTES)
    while True:
        chunk, ahead = ahead, file.read(SEALED_CHUNK_SIZE_BYTES)
        yield chunk, not ahead
        if not ahead:
            return
