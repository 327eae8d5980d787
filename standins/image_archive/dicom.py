"""Objects of DICOM as this stand-in makes them: explicit VR, little endian (PS3.5), and DICOM JSON (PS3.18, F)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any
from uuid import NAMESPACE_OID, uuid5

EXPLICIT = "1.2.840.10008.1.2.1"
_LONG = {"OB", "OW", "SQ"}
_NUMBERS = {"US": "<H", "UL": "<I", "FD": "<d"}
_DECIMALS = {"DS": float, "IS": int}

# Tag -> (VR, values); the values of SQ are data sets, the value of OW is its bytes.
DataSet = dict[int, tuple[str, list[Any]]]


def uid(*named: str) -> str:
    """The same one for the same names (PS3.5, B.2)."""
    return f"2.25.{uuid5(NAMESPACE_OID, ' '.join(named)).int}"


def file_of(made: DataSet) -> bytes:
    """The object as a file (PS3.10, 7)."""
    meta: DataSet = {
        0x00020001: ("OB", [b"\0\1"]),
        0x00020002: ("UI", made[0x00080016][1]),
        0x00020003: ("UI", made[0x00080018][1]),
        0x00020010: ("UI", [EXPLICIT]),
        0x00020012: ("UI", ["2.25.202611220616"]),
    }
    written = _written(meta)
    length = _written({0x00020000: ("UL", [len(written)])})
    return b"\0" * 128 + b"DICM" + length + written + _written(made)


def _written(made: DataSet) -> bytes:
    return b"".join(_element(tag, vr, values) for tag, (vr, values) in sorted(made.items()))


def _element(tag: int, vr: str, values: Sequence[Any]) -> bytes:
    if vr == "SQ":
        items = [_written(each) for each in values]
        value = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    elif vr in _NUMBERS:
        value = b"".join(struct.pack(_NUMBERS[vr], each) for each in values)
    elif vr in ("OB", "OW"):
        value = b"".join(values)
    else:
        value = "\\".join(map(str, values)).encode()
    value += (b"\0" if vr in ("UI", "OB", "OW") else b" ") * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if vr in _LONG else struct.pack("<H", len(value))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode() + length + value


def json_of(made: DataSet) -> dict[str, Any]:
    """The object without its pixels."""
    told = {tag: (vr, values) for tag, (vr, values) in made.items() if vr not in ("OB", "OW")}
    return {f"{tag:08X}": {"vr": vr, "Value": _values(vr, values)} for tag, (vr, values) in told.items()}


def _values(vr: str, values: Sequence[Any]) -> list[Any]:
    if vr == "SQ":
        return [json_of(each) for each in values]
    if vr == "PN":
        return [{"Alphabetic": each} for each in values]
    return [_DECIMALS[vr](each) for each in values] if vr in _DECIMALS else [*values]


def manifest(objects: Sequence[DataSet], number: str) -> DataSet:
    """The Key Object Selection Document with the title Manifest that lists them (IHE RAD TF-3:4.68)."""
    first = objects[0]
    series: dict[str, list[DataSet]] = {}
    for each in objects:
        item: DataSet = {0x00081150: each[0x00080016], 0x00081155: each[0x00080018]}
        series.setdefault(each[0x0020000E][1][0], []).append(item)
    listed = [{0x00081199: ("SQ", items), 0x0020000E: ("UI", [named])} for named, items in series.items()]
    title = {0x00080100: ("SH", ["113030"]), 0x00080102: ("SH", ["DCM"]), 0x00080104: ("LO", ["Manifest"])}
    kept = (0x00080005, 0x00080020, 0x00080030, 0x00100010, 0x00100020, 0x0020000D)
    return {
        **{tag: first[tag] for tag in kept},
        0x00080016: ("UI", ["1.2.840.10008.5.1.4.1.1.88.59"]),
        0x00080018: ("UI", [uid("manifest", number)]),
        0x00080060: ("CS", ["KO"]),
        0x0020000E: ("UI", [uid("manifest series", number)]),
        0x00200011: ("IS", ["99"]),
        0x00200013: ("IS", ["1"]),
        0x0040A040: ("CS", ["CONTAINER"]),
        0x0040A043: ("SQ", [title]),
        0x0040A375: ("SQ", [{0x00081115: ("SQ", listed), 0x0020000D: first[0x0020000D]}]),
    }
