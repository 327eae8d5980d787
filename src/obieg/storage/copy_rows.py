"""Rows of a fed record in COPY's binary format, and its identifiers as parameters; no database is needed for it.

They are made where a file is read, in a process that imports as little as it can. In binary nothing is escaped here and
nothing parsed there; numbers are big-endian, a field stands behind its length (PostgreSQL, COPY, Binary Format).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

import msgspec

from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Record
from obieg.domain.searching import name_keys

_write = msgspec.json.Encoder().encode
_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_TEXT, _BIGINT = 25, 20  # types of elements
_EPOCH, _MICROSECOND = datetime(2000, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_length = Struct(">i").pack
_bigint = Struct(">iq").pack
_array = Struct(">iiiii").pack  # dimensions, nulls, type of the elements, how many, number of the first
_NO_TEXTS = Struct(">iii").pack(0, 0, _TEXT)
_NO_BIGINTS = Struct(">iii").pack(0, 0, _BIGINT)


class Told(NamedTuple):
    """What of a fed record is stored and does not depend on what is decided; made where the file is read."""

    record: bytes  # the columns of its row from source on, for COPY
    objects: bytes  # its identifiers as the audit message has them


class Named(NamedTuple):
    """Identifiers as elements of the arrays that ``columns`` makes, for :func:`texts`."""

    authorities: bytes
    values: bytes
    size: int  # how many


def copying(rows: Sequence[bytes]) -> bytes:
    """All that COPY is sent; nothing where there are no rows."""
    return b"".join((_BEGIN, *rows, _END)) if rows else b""


def text(value: str) -> bytes:
    """A text, as a field or as an element of an array."""
    data = value.encode()
    return _length(len(data)) + data


def data_field(data: bytes) -> bytes:
    """Bytes, or a text that is encoded already, as a field."""
    return _length(len(data)) + data


repeated = lru_cache(maxsize=1 << 12)(text)  # of authorities, sources and dates, which many records share


def instant(at: datetime) -> int:
    """A point in time, as a field of eight bytes."""
    return (at - _EPOCH) // _MICROSECOND


def texts(elements: bytes, count: int) -> bytes:
    """An array of texts, as a parameter or below its length as a field."""
    return _array(1, 0, _TEXT, count, 1) + elements if count else _NO_TEXTS


def bigints(values: Sequence[int]) -> bytes:
    """An array of numbers, likewise."""
    if not values:
        return _NO_BIGINTS
    return _array(1, 0, _BIGINT, len(values), 1) + b"".join([_bigint(8, value) for value in values])


def audit_objects(around: tuple[bytes, bytes], identifiers: Iterable[PatientId]) -> bytes:
    """The identifiers as objects of the message."""
    before, after = around
    return b"".join([before + marked(i.value) + authority_written(i.authority)[1] + after for i in identifiers])


@lru_cache(maxsize=1 << 12)
def authority_written(authority: str) -> tuple[bytes, bytes]:
    """What follows the value of an identifier: plainly, and as :func:`marked` gives it."""
    rest = str(PatientId("", authority))
    return rest.encode(), marked(rest)


def marked(value: str) -> bytes:
    """As the value of an XML attribute."""
    if not value.isalnum():
        value = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return value.encode()


def named(identifiers: Iterable[PatientId]) -> Named:
    """The identifiers as elements."""
    both = tuple(identifiers)
    authorities = b"".join([repeated(i.authority) for i in both])
    return Named(authorities, b"".join([text(i.value) for i in both]), len(both))


def record_columns(source: str, record: Record, blocks: Sequence[int], identifiers: Named) -> bytes:
    """The columns of a record's row from ``source`` on, for COPY; ``identifiers`` are the record's."""
    demographics = record.demographics
    names, sounds = name_keys(demographics)
    authorities, values, count = identifiers
    return b"".join(
        (
            repeated(source),
            data_field(texts(authorities, count)),
            data_field(texts(values, count)),
            data_field(_write(demographics)),
            data_field(bigints(blocks)),
            text(names),
            text(sounds),
            repeated(demographics.birth_date),
            repeated(demographics.sex),
        )
    )
