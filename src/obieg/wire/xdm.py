"""The archive of a medium with documents (XDM, ITI TF-2:3.32): a ZIP that a stranger made, and one that we make.

Theory of operation. An archive is opened by looking at its directory alone: how many entries it claims, what they are
called, how large they say they are, whether they lie apart from one another. Nothing is unpacked until all of that is
in order. The bytes of a file are then given out in pieces, never more of them than the directory has promised, and its
CRC is checked at its end; so memory is bounded by one piece and disk by the sum that the directory admits to.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import IO, NamedTuple

PIECE_BYTES = 1 << 20
ARCHIVE_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")

_END = b"PK\x05\x06"
_END64, _END64_LOCATOR = b"PK\x06\x06", b"PK\x06\x07"
_END_SIZE, _LOCATOR_SIZE, _END64_SIZE = 22, 20, 56
_COMMENT_MAX = 0xFFFF
_LOCAL_HEADER_SIZE = 30
_ENTRY_BYTES = 1024  # of the directory, on the average
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FILE_KINDS, _FILE, _FOLDER = 0o170000, 0o100000, 0o040000
# What no file system that a medium is copied to may read in another way: no separators, wildcards or drive letters.
_SEGMENT = re.compile(r"[A-Za-z0-9_!#$%&'()+,;=@\[\]^`{}~. -]{0,126}[A-Za-z0-9_!#$%&'()+,;=@\[\]^`{}~-]\Z")
_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9]|CONIN\$|CONOUT\$)(?:\..*)?\Z", re.IGNORECASE)
_SHORT_NAME = re.compile(r"[A-Z0-9_]{1,8}(?:\.[A-Z0-9_]{1,3})?\Z")  # ISO 9660 level 1
_ZIP_EPOCH = 1980


class Fault(NamedTuple):
    """One thing that is wrong with an archive."""

    said: str
    name: str = ""  # of the entry, printable


class ArchiveRefused(Exception):  # noqa: N818
    """The bytes are no archive that this node opens; carries all faults, at least one."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(": ".join(filter(None, (f.name, f.said))) for f in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """What an archive may hold."""

    entries_max: int = 20_000
    bytes_max: int = 16 << 30  # of all files together, unpacked
    # Of one file: bytes unpacked for each byte packed. Deflate cannot reach 1032; XML and text stay far below 200.
    ratio_max: int = 200
    ratio_from_bytes: int = 10 << 20  # smaller files do no harm
    depth_max: int = 8  # ISO 9660


class Archive:
    """An archive whose directory is in order; ``names`` are its files, in its own order."""

    def __init__(self, file: IO[bytes], limits: ArchiveLimits | None = None) -> None:
        """``file`` can be sought. Raises ArchiveRefused."""
        limits = limits or ArchiveLimits()
        _check_end(file, limits)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError) as error:
            raise ArchiveRefused(Fault(f"not a ZIP archive that can be read: {error}")) from None
        infos = self._zip.infolist()
        if faults := [*_check_directory(infos, self._zip.start_dir, limits)]:
            raise ArchiveRefused(*faults)
        self._infos = {info.filename: info for info in infos if not info.is_dir()}
        self._by_folded = {name.casefold(): name for name in self._infos}

    @property
    def names(self) -> tuple[str, ...]:
        """The files."""
        return tuple(self._infos)

    def find(self, name: str) -> str | None:
        """The file of that name, whatever its case: media pass through file systems that do not keep it."""
        return self._by_folded.get(name.casefold())

    def size(self, name: str) -> int:
        """Bytes, unpacked."""
        return self._infos[name].file_size

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of a file in pieces of at most 1 MiB. Raises ArchiveRefused where they are damaged."""
        try:
            with self._zip.open(self._infos[name]) as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece
        except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, RuntimeError, NotImplementedError) as error:
            raise ArchiveRefused(Fault(f"damaged: {error}", printable(name))) from None

    def read(self, name: str, bytes_max: int) -> bytes:
        """The whole of a small file. Raises ArchiveRefused."""
        if self.size(name) > bytes_max:
            raise ArchiveRefused(Fault(f"has {self.size(name)} bytes, more than {bytes_max}", printable(name)))
        return b"".join(self.pieces(name))


def printable(name: str) -> str:
    """A name as people may be shown it."""
    return name if name.isprintable() and name.isascii() and len(name) <= 255 else ascii(name)[1:-1][:255]


def is_short(name: str) -> bool:
    """Whether each part of a name keeps to ISO 9660 level 1, as the profile demands of media."""
    return all(_SHORT_NAME.match(segment) for segment in name.split("/"))


def _check_end(file: IO[bytes], limits: ArchiveLimits) -> None:
    """What the archive's end says of its directory, before any of that is read."""
    size = file.seek(0, 2)
    start = max(0, size - _END_SIZE - _COMMENT_MAX - _LOCATOR_SIZE)
    file.seek(start)
    tail = file.read()
    at = len(tail) - _END_SIZE
    # The same record that zipfile takes: one without a comment at the very end, or else the last one.
    if at < 0 or tail[at : at + 4] != _END or tail[-2:] != b"\0\0":
        at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        raise ArchiveRefused(Fault("not a ZIP archive: the directory at its end is missing"))
    disk, directory_disk, here, count, directory_bytes, _, _ = struct.unpack("<4H2LH", tail[at + 4 : at + _END_SIZE])
    if at >= _LOCATOR_SIZE and tail[at - _LOCATOR_SIZE : at - _LOCATOR_SIZE + 4] == _END64_LOCATOR:
        disk, _, disks = struct.unpack("<LQL", tail[at - _LOCATOR_SIZE + 4 : at])
        file.seek(max(0, start + at - _LOCATOR_SIZE - _END64_SIZE))
        record = file.read(_END64_SIZE)
        if len(record) < _END64_SIZE or record[:4] != _END64 or disks > 1:
            raise ArchiveRefused(Fault("not a ZIP archive that can be read: its ZIP64 directory is damaged"))
        directory_disk, here, count, directory_bytes = struct.unpack("<L3Q", record[20:48])
    if disk or directory_disk or here != count:
        raise ArchiveRefused(Fault("it is one of several parts of an archive: join them first"))
    if count > limits.entries_max or directory_bytes > limits.entries_max * _ENTRY_BYTES:
        raise ArchiveRefused(Fault(f"it says that it has {count} entries; at most {limits.entries_max} are read"))


def _check_directory(infos: list[zipfile.ZipInfo], end: int, limits: ArchiveLimits) -> Iterator[Fault]:
    if len(infos) > limits.entries_max:
        yield Fault(f"it has {len(infos)} entries; at most {limits.entries_max} are read")
        return
    seen: dict[str, bool] = {}  # folded path -> whether it is a folder
    for info in infos:
        name = printable(info.orig_filename)
        said = _wrong_name(info, limits) or _wrong_content(info, limits)
        if said:
            yield Fault(said, name)
            continue
        folded = info.filename.casefold().rstrip("/")
        if folded in seen and not (seen[folded] and info.is_dir()):
            yield Fault(
                "stands in the archive twice, or as a file and as a folder; case does not tell names apart", name
            )
        elif any(seen.get(str(parent)) is False for parent in PurePosixPath(folded).parents):
            yield Fault("stands below a file as if that were a folder", name)
        seen[folded] = info.is_dir()
        for parent in PurePosixPath(folded).parents:
            if seen.setdefault(str(parent), True) is False:
                yield Fault("stands below a file as if that were a folder", name)
    total = sum(info.file_size for info in infos)
    if total > limits.bytes_max:
        yield Fault(f"its files have {total} bytes unpacked; at most {limits.bytes_max} are read")
    ordered = sorted(infos, key=lambda i: i.header_offset)
    for info, following in zip(ordered, [*(i.header_offset for i in ordered[1:]), end], strict=True):
        used = _LOCAL_HEADER_SIZE + len(info.orig_filename) + info.compress_size
        if info.header_offset < 0 or info.header_offset + used > following:
            yield Fault("its bytes overlap with those of another entry", printable(info.orig_filename))


def _wrong_name(info: zipfile.ZipInfo, limits: ArchiveLimits) -> str:
    raw = info.orig_filename
    if "\0" in raw or raw != info.filename:
        return "the name holds a character that no name may have"
    if not raw.isascii() or not raw.isprintable():
        return "the name is not plain ASCII, which names on media are (ISO 9660); its encoding is not guessed"
    if "\\" in raw:
        return "the name has a backslash: folders are separated by /"
    if raw.startswith("/"):
        return "the name is an absolute path"
    if re.match(r"[A-Za-z]:", raw):
        return "the name begins with a drive letter"
    segments = raw.removesuffix("/").split("/")
    if any(segment in ("..", ".") for segment in segments):
        return "the name leads out of its folder"
    if len(segments) > limits.depth_max:
        return f"it lies more than {limits.depth_max} folders deep"
    if not all(_SEGMENT.match(segment) for segment in segments):
        return "the name has an empty part, or one that ends in a dot or space or holds a character of no file name"
    if any(_DEVICE.match(segment) for segment in segments):
        return "the name is that of a device on some systems"
    return ""


def _wrong_content(info: zipfile.ZipInfo, limits: ArchiveLimits) -> str:
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted: have it sent without a password, over a protected way"
    if info.compress_type not in _METHODS:
        return f"is packed by method {info.compress_type}; only deflate and plain are read"
    kind = info.external_attr >> 16 & _FILE_KINDS
    if kind not in (0, _FOLDER if info.is_dir() else _FILE):
        return "is a link or a special file, not a plain one"
    if info.is_dir() and (info.file_size or info.compress_size > 2):
        return "is a folder that holds bytes"
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        return "is not packed and yet has two sizes"
    if info.file_size > limits.ratio_from_bytes and info.file_size > info.compress_size * limits.ratio_max:
        return f"would grow more than {limits.ratio_max} times when unpacked"
    return ""


# writing ---------------------------------------------------------------------------------------------------------


class ArchiveWriter:
    """Writes an archive file by file; end it with :meth:`close`."""

    def __init__(self, file: IO[bytes], at: datetime) -> None:
        """``at`` is the time that all files bear; a ZIP knows none before 1980."""
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self._at = (max(at.year, _ZIP_EPOCH), at.month, at.day, at.hour, at.minute, at.second)

    def begin(self, name: str, size: int) -> IO[bytes]:
        """A new file, to be written and closed before the next one; ``size`` is what it is expected to have."""
        info = zipfile.ZipInfo(name, self._at)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = (_FILE | 0o644) << 16
        return self._zip.open(info, "w", force_zip64=size >= zipfile.ZIP64_LIMIT // 2)

    def add(self, name: str, data: bytes) -> None:
        """A whole file."""
        with self.begin(name, len(data)) as file:
            file.write(data)

    def close(self) -> None:
        """Writes the directory."""
        self._zip.close()
