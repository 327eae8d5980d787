"""What a seal over audit records is, and how it is written (docs/audit.md).

A *record* is a row of the audit with all that belongs to it; its *leaf* is the hash of its bytes in the Merkle tree
over all records (``domain/merkle``). A *seal* adds records to the tree, in the order of their numbers; its *head* says
what the tree then is. A head is written as a checkpoint (https://c2sp.org/tlog-checkpoint) and signed as a note
(https://c2sp.org/signed-note). Notes are what is kept outside the database.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any

from obieg.domain.documents import Value
from obieg.domain.merkle import HASH_BYTES

# How a record is turned into bytes; another number when that changes.
FORM = 1
NO_NOTE = bytes(HASH_BYTES)  # what the first head names as the digest of the note before it
_SIGNATURE = "\N{EM DASH} "
CUT_OFF = f"{_SIGNATURE}cut off while it was written\n"  # ends what is left of a note in a file of them
_FIELDS = ("seal", "time", "form", "complete", "records", "leaves", "previous")

# Numbers of records, as half-open ranges in ascending order that neither touch nor overlap.
Ranges = tuple[tuple[int, int], ...]


class Head(Value, frozen=True):
    """What a seal states."""

    origin: str  # whose audit it is
    tree_size: int  # records in the tree
    root: bytes  # MTH of RFC 6962
    sequence: int  # of the seal, from 1
    sealed_at: str  # RFC 3339, UTC
    complete: int  # no record with this number or a lower one will be sealed later
    records: bytes  # SHA-256 of the numbers of its records, as ``write_ranges`` writes them
    leaves: bytes  # SHA-256 of their leaf hashes, one after another
    previous: bytes  # SHA-256 of the note before it
    form: int = FORM


class Seal(Value, frozen=True):
    """A seal as it is stored."""

    sequence: int
    tree_size: int
    records: Ranges
    leaves: bytes  # the hashes of its leaves, one after another
    peaks: bytes  # the hashes of the tree's peaks, one after another
    note: str

    @property
    def begin(self) -> int:
        """Position of its first leaf in the tree."""
        return self.tree_size - len(self.leaves) // HASH_BYTES


class NotANote(ValueError):  # noqa: N818 - it says what a text is not
    """A text is no note of a head."""


def write_ranges(ranges: Ranges) -> str:
    """As PostgreSQL writes an int8multirange."""
    return "{" + ",".join(f"[{begin},{end})" for begin, end in ranges) + "}"


def read_ranges(text: str) -> Ranges:
    """The inverse of :func:`write_ranges`; ValueError for anything else."""
    inner = text.removeprefix("{[").removesuffix(")}")
    pairs = [pair.split(",") for pair in inner.split("),[")] if text != "{}" else []
    ranges = tuple((int(begin), int(end)) for begin, end in pairs)
    if write_ranges(ranges) != text or any(b >= e for b, e in ranges) or any(a[1] >= b[0] for a, b in pairwise(ranges)):
        raise ValueError("these are no ranges in ascending order")
    return ranges


def ranges_of(numbers: Iterable[int]) -> Ranges:
    """The ranges of ascending numbers."""
    ranges: list[tuple[int, int]] = []
    begin = end = 0
    for number in numbers:
        if number == end and ranges:
            end += 1
            ranges[-1] = (begin, end)
        else:
            begin, end = number, number + 1
            ranges.append((begin, end))
    return tuple(ranges)


def count(ranges: Ranges) -> int:
    """How many numbers there are."""
    return sum(end - begin for begin, end in ranges)


def numbers(ranges: Ranges) -> Iterator[int]:
    """The numbers one by one."""
    for begin, end in ranges:
        yield from range(begin, end)


def write_head(head: Head) -> str:
    """The body of the note."""
    values = (
        head.sequence,
        head.sealed_at,
        head.form,
        head.complete,
        _base64(head.records),
        _base64(head.leaves),
        _base64(head.previous),
    )
    fields = (f"{name} {value}" for name, value in zip(_FIELDS, values, strict=True))
    return "".join(f"{line}\n" for line in (head.origin, head.tree_size, _base64(head.root), *fields))


def read_head(body: str) -> Head:
    """The inverse of :func:`write_head`; raises :class:`NotANote` for anything that it would not write so."""
    lines = body.split("\n")
    if len(lines) != 4 + len(_FIELDS):
        raise NotANote("a head has another number of lines")
    said = [line.partition(" ") for line in lines[3:-1]]
    if tuple(name for name, _, _ in said) != _FIELDS:
        raise NotANote("a head says other things")
    sequence, sealed_at, form, complete, *digests = (value for _, _, value in said)
    try:
        records, leaves, previous, root = (b64decode(text, validate=True) for text in (*digests, lines[2]))
        head = Head(
            origin=lines[0],
            tree_size=int(lines[1]),
            root=root,
            sequence=int(sequence),
            sealed_at=sealed_at,
            complete=int(complete),
            records=records,
            leaves=leaves,
            previous=previous,
            form=int(form),
        )
    except (ValueError, Base64Error) as error:
        raise NotANote(str(error)) from None
    if write_head(head) != body:
        raise NotANote("a head is not in its one form")
    return head


def write_note(body: str, signatures: Iterable[tuple[str, bytes]]) -> str:
    """A signed note; each signature is the name of its key, and the key's four bytes with the signature."""
    return body + "\n" + "".join(f"{_SIGNATURE}{name} {_base64(signature)}\n" for name, signature in signatures)


def split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The body and the signatures; the inverse of :func:`write_note`."""
    body, separator, rest = note.rpartition("\n\n")
    lines = rest.split("\n")
    if not separator or lines.pop() or not lines:
        raise NotANote("there is no signature")
    signatures: list[tuple[str, bytes]] = []
    for line in lines:
        name, _, text = line.removeprefix(_SIGNATURE).partition(" ")
        try:
            signatures.append((name, b64decode(text, validate=True)))
        except (ValueError, Base64Error) as error:
            raise NotANote(str(error)) from None
    body += "\n"
    if write_note(body, signatures) != note:
        raise NotANote("a signature is not in its one form")
    return body, signatures


def head_of(note: str) -> Head:
    """What a note states, whoever signed it; raises :class:`NotANote`."""
    return read_head(split_note(note)[0])


def digest(note: str) -> bytes:
    """How the next head names a note, and what is time-stamped."""
    return sha256(note.encode()).digest()


def notes(lines: Iterable[str]) -> Iterator[str]:
    """The notes of a file of them, one after another, without what was cut off while it was written.

    What is no note is given out as it stands.
    """
    held: list[str] = []
    for line in lines:
        if held and held[-1].startswith(_SIGNATURE) and not line.startswith(_SIGNATURE):
            if held[-1] != CUT_OFF:
                yield "".join(held)
            held.clear()
        held.append(line)
    if held and is_whole(held[-1]) and held[-1] != CUT_OFF:
        yield "".join(held)


def is_whole(line: str) -> bool:
    """Whether a file of notes may end with this line."""
    return line.startswith(_SIGNATURE) and line.endswith("\n")


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


# a record's bytes -----------------------------------------------------------------------------------------------------

# Form 1: the columns of audit_event in the order in which they are sealed, then, for each other patient of the record,
# a row of audit_patient. PostgreSQL documentation, COPY, "Binary Format": a row is the number of its columns (int16),
# and each column its length (int32) and its bytes, as the type's send function makes them.
RECORD_COLUMNS = (
    ("audit_id", "bigint"),
    ("recorded_at", "timestamp with time zone"),  # microseconds since 2000-01-01 00:00 UTC, int64
    ("transaction", "text"),
    ("outcome", "smallint"),
    ("patient_id", "text"),
    ("request_id", "text"),
    ("message", "text"),
    ("format", "text"),
    ("happened_at", "timestamp with time zone"),  # NULL, length -1, where the record is the node's own
    ("sender", "text"),
)
NULLABLE = frozenset({"happened_at"})
PATIENT_COLUMNS = (("audit_id", "bigint"), ("patient_id", "text"))
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def read_record(data: bytes) -> dict[str, Any]:
    """The columns of a record's bytes, and its other patients as ``other_patients``; ValueError for other bytes."""
    record, at = _row(data, 0, RECORD_COLUMNS)
    others: list[str] = []
    while at < len(data):
        row, at = _row(data, at, PATIENT_COLUMNS)
        if row["audit_id"] != record["audit_id"]:
            raise ValueError("a patient of another record")
        others.append(row["patient_id"])
    return {**record, "other_patients": others}


def _row(data: bytes, at: int, columns: tuple[tuple[str, str], ...]) -> tuple[dict[str, Any], int]:
    if data[at : at + 2] != len(columns).to_bytes(2, "big"):
        raise ValueError("another number of columns")
    at += 2
    row: dict[str, Any] = {}
    for name, kind in columns:
        size = int.from_bytes(data[at : at + 4], "big", signed=True)
        if size == -1 and name in NULLABLE:
            row[name] = None
            at += 4
            continue
        value = data[at + 4 : at + 4 + size]
        if size < 0 or len(value) != size or at + 4 > len(data):
            raise ValueError(f"{name} is cut off")
        at += 4 + size
        if kind == "text":
            row[name] = value.decode()
        elif kind == "timestamp with time zone":
            row[name] = (_EPOCH + timedelta(microseconds=int.from_bytes(value, "big", signed=True))).isoformat()
        else:
            row[name] = int.from_bytes(value, "big", signed=True)
    return row, at
