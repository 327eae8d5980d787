"""Rows of a fed record in the text format of COPY, and of its identifiers as parameters; no database is needed for it.

They are made where a file is read, in a process that imports as little as it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Record
from obieg.domain.searching import name_keys

_write = msgspec.json.Encoder().encode
_UNSAFE = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Told(NamedTuple):
    """What of a fed record is stored and does not depend on what is decided; made where the file is read."""

    record: bytes  # the columns of its row from source on, for COPY
    objects: str  # its identifiers as the audit message has them, for COPY


def audit_objects(around: tuple[str, str], identifiers: Iterable[PatientId]) -> str:
    """The identifiers as objects of the message."""
    before, after = around
    return "".join([f"{before}{marked(i.value)}{authority_written(i.authority)[1]}{after}" for i in identifiers])


@lru_cache(maxsize=1 << 12)
def authority_written(authority: str) -> tuple[str, str]:
    """What follows the value of an identifier, as :func:`copied` and as :func:`marked` give it."""
    rest = str(PatientId("", authority))
    return copied(rest), marked(rest)


def copied(text: str) -> str:
    """A value of COPY's text format."""
    return text.translate(_UNSAFE) if "\\" in text or not text.isprintable() else text


def marked(text: str) -> str:
    """As the value of an XML attribute, for COPY."""
    if not text.isalnum():
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return copied(text)


def element(text: str) -> str:
    """An element of an array of texts."""
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _elements(texts: Iterable[str]) -> str:
    return ",".join([element(text) for text in texts])


_authorities = lru_cache(maxsize=1 << 12)(_elements)  # those of one source are alike


def named_elements(identifiers: Iterable[PatientId]) -> tuple[str, str]:
    """What stands between the braces of the arrays that ``columns`` makes: authorities, values."""
    both = tuple(identifiers)
    return _authorities(tuple([i.authority for i in both])), _elements([i.value for i in both])


def record_columns(source: str, record: Record, blocks: Sequence[int]) -> bytes:
    """The columns of a record's row from ``source`` on, for COPY."""
    demographics = record.demographics
    authorities, values = named_elements(record.identifiers)
    names, sounds = name_keys(demographics)
    said = _write(demographics).decode()
    if "\\" in said:  # an escape of JSON in one of bytea in one of COPY
        said = said.replace("\\", "\\\\\\\\")
    return (
        f"{copied(source)}\t{{{copied(authorities)}}}\t{{{copied(values)}}}\t{said}\t"
        f"{{{','.join(map(str, blocks))}}}\t{copied(names)}\t{copied(sounds)}\t{copied(demographics.birth_date)}\t"
        f"{copied(demographics.sex)}\n"
    ).encode()
