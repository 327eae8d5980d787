"""How many pixels a picture says that it has, without drawing it (PNG, third edition, 11.2.1; ITU-T T.81, B.2.2)."""

from __future__ import annotations

from typing import NamedTuple

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15, without what else stands among them
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length


class Size(NamedTuple):
    """Width and height."""

    width: int
    height: int


def size(data: bytes) -> Size | None:
    """Of a PNG or JPEG; None of what is neither, or says nothing that makes sense."""
    if data.startswith(_PNG):
        if len(data) < 33 or data[12:16] != b"IHDR":
            return None
        return _sane(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    return _jpeg(data) if data.startswith(_JPEG) else None


def _jpeg(data: bytes) -> Size | None:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            if at + 9 > len(data):
                return None
            return _sane(int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big"))
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _sane(width: int, height: int) -> Size | None:
    return Size(width, height) if width > 0 and height > 0 else None
