"""Data sets of DICOM files that tell of images; not the images themselves (DICOM PS3.5, PS3.10). Sans-I/O.

Little endian, explicit or implicit VR, sequences of defined and undefined length. In implicit VR only
``codes/dicom.toml`` says which elements are sequences; what it does not name is kept as bytes. Whatever does not fit
its length, its depth or a limit is refused as a whole.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from obieg.codes.load import toml

DATA_SET_BYTES_MAX = 16 * 1024 * 1024
DEPTH_MAX = 16
ELEMENTS_MAX = 500_000  # a manifest of 100,000 images has some 200,000

_TABLE = toml("dicom.toml")
TAGS: Mapping[str, int] = {name: int(tag, 16) for name, tag in _TABLE["tags"].items()}
_SEQUENCES = frozenset(TAGS[name] for name in _TABLE["sequences"])
_IMPLICIT, _EXPLICIT = (_TABLE["transfer_syntaxes"][name] for name in ("implicit", "explicit"))
_PREAMBLE_BYTES = 128
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_VR = re.compile(rb"[A-Z]{2}\Z")
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_META_GROUP = 0x0002
# PS3.5, section 9.1: components of digits without leading zeros, at most 64 characters.
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*\Z", re.ASCII)
_UID_LENGTH_MAX = 64


class DicomRefused(Exception):  # noqa: N818
    """The bytes are not the DICOM file that they should be."""


def is_uid(text: str) -> bool:
    """Whether ``text`` is a UID (PS3.5, section 9.1)."""
    return len(text) <= _UID_LENGTH_MAX and _UID.match(text) is not None


@dataclass(slots=True)
class DataSet:
    """Elements by tag (group and element as one number): bytes, or the items of a sequence."""

    values: dict[int, bytes] = field(default_factory=dict)
    sequences: dict[int, list[DataSet]] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The element of this keyword without padding; "" where there is none. Identifiers are ASCII (PS3.5, 6.2)."""
        value = self.values.get(TAGS[name], b"")
        try:
            return value.rstrip(b"\0 ").lstrip(b" ").decode("ascii")
        except UnicodeDecodeError:
            raise DicomRefused(f"{name} is no text of ASCII characters") from None

    def uid(self, name: str) -> str:
        """The UID of this keyword. Raises DicomRefused where there is none."""
        found = self.text(name)
        if not is_uid(found):
            raise DicomRefused(f"{name} is missing or no UID")
        return found

    def items(self, name: str) -> list[DataSet]:
        """The items of the sequence of this keyword."""
        return self.sequences.get(TAGS[name], [])


def read_file(data: bytes) -> DataSet:
    """The data set of a DICOM file (PS3.10, section 7). Raises DicomRefused."""
    if len(data) > DATA_SET_BYTES_MAX:
        raise DicomRefused(f"the file has more than {DATA_SET_BYTES_MAX} bytes")
    if data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] != b"DICM":
        raise DicomRefused("no DICM after the preamble")
    start = _PREAMBLE_BYTES + 4
    meta = _Reader(data, explicit=True)
    about, body = meta.data_set(start, len(data), depth=0, group=_META_GROUP)
    syntax = about.uid("TransferSyntaxUID")
    if syntax not in (_IMPLICIT, _EXPLICIT):
        raise DicomRefused(f"the transfer syntax {syntax} is not read")
    found, end = _Reader(data, explicit=syntax == _EXPLICIT).data_set(body, len(data), depth=0)
    if end != len(data):
        raise DicomRefused("bytes after the data set")
    return found


class _Reader:
    """Reads one file; ``data_set`` and ``_sequence`` call each other, no deeper than DEPTH_MAX."""

    def __init__(self, data: bytes, *, explicit: bool) -> None:
        self._data = data
        self._explicit = explicit
        self._left = ELEMENTS_MAX

    def data_set(
        self, at: int, end: int, *, depth: int, group: int | None = None, delimited: bool = False
    ) -> tuple[DataSet, int]:
        """The elements from ``at`` up to ``end``, and where they end.

        ``group``: only those of this group; ``delimited``: up to an item delimiter, which must come before ``end``.
        """
        if depth > DEPTH_MAX:
            raise DicomRefused(f"sequences within sequences deeper than {DEPTH_MAX}")
        found, before = DataSet(), -1
        while at < end:
            tag = self._tag(at, end)
            if group is not None and tag >> 16 != group:
                break
            if tag == _ITEM_END and delimited:
                return found, self._after_delimiter(at, end)
            if tag <= before or tag >> 16 == _ITEM >> 16:
                raise DicomRefused("elements are not in order, or one stands twice")
            before = tag
            self._count()
            at = self._element(found, tag, at + 4, end, depth)
        if delimited:
            raise DicomRefused("an item does not end")
        return found, at

    def _element(self, found: DataSet, tag: int, at: int, end: int, depth: int) -> int:
        vr, length, at = self._length(at, end)
        is_sequence = vr == b"SQ" or (vr in (b"", b"UN") and (tag in _SEQUENCES or length == _UNDEFINED))
        if is_sequence:
            # PS3.5, section 6.2.2: a sequence of VR UN is in implicit VR.
            reader = self if vr != b"UN" else self._implicit()
            found.sequences[tag], at = reader._sequence(at, end, length, depth)  # noqa: SLF001 - the same class
            self._left = reader._left  # noqa: SLF001
            return at
        if length == _UNDEFINED or length > end - at:
            raise DicomRefused("an element is longer than what holds it")
        found.values[tag] = self._data[at : at + length]
        return at + length

    def _implicit(self) -> _Reader:
        reader = _Reader(self._data, explicit=False)
        reader._left = self._left
        return reader

    def _length(self, at: int, end: int) -> tuple[bytes, int, int]:
        """VR (empty where it is implicit), length, and where the value begins."""
        data = self._data
        if end - at < 4:
            raise DicomRefused("an element is cut off")
        if not self._explicit:
            return b"", struct.unpack_from("<I", data, at)[0], at + 4
        vr = data[at : at + 2]
        if not _VR.match(vr):
            raise DicomRefused("an element has no value representation")
        if vr not in _LONG:
            return vr, struct.unpack_from("<H", data, at + 2)[0], at + 4
        if end - at < 8:
            raise DicomRefused("an element is cut off")
        return vr, struct.unpack_from("<I", data, at + 4)[0], at + 8

    def _sequence(self, at: int, end: int, length: int, depth: int) -> tuple[list[DataSet], int]:
        items: list[DataSet] = []
        undefined = length == _UNDEFINED
        if not undefined:
            if length > end - at:
                raise DicomRefused("a sequence is longer than what holds it")
            end = at + length
        while at < end:
            tag = self._tag(at, end)
            if tag == _SEQUENCE_END and undefined:
                return items, self._after_delimiter(at, end)
            if tag != _ITEM or end - at < 8:
                raise DicomRefused("a sequence holds something else than items")
            self._count()
            [size] = struct.unpack_from("<I", self._data, at + 4)
            at += 8
            if size != _UNDEFINED and size > end - at:
                raise DicomRefused("an item is longer than its sequence")
            until = end if size == _UNDEFINED else at + size
            item, at = self.data_set(at, until, depth=depth + 1, delimited=size == _UNDEFINED)
            items.append(item)
        if undefined:
            raise DicomRefused("a sequence does not end")
        return items, at

    def _tag(self, at: int, end: int) -> int:
        if end - at < 4:
            raise DicomRefused("an element is cut off")
        group, element = struct.unpack_from("<HH", self._data, at)
        return int(group << 16 | element)

    def _after_delimiter(self, at: int, end: int) -> int:
        if end - at < 8 or self._data[at + 4 : at + 8] != b"\0\0\0\0":
            raise DicomRefused("a delimiter with a length")
        return at + 8

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise DicomRefused(f"more than {ELEMENTS_MAX} elements")
