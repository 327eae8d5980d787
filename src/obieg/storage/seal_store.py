"""Audit records as they are sealed, and seals, over a connection of their own.

A record's bytes are what PostgreSQL's binary COPY sends of its row (all columns, in the order of
``copy_audit_records``), followed by what it sends of the record's rows of audit_patient, in the order of their bytes.
Each row begins with the number of its columns and each column with its length, so no two records have the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import pq

from obieg.domain.merkle import leaf_hash
from obieg.domain.sealing import Ranges, Seal, read_ranges, write_ranges
from obieg.storage.statements import Parameter, Statement, load

SQL = load("sealing.sql")
# PostgreSQL documentation, COPY, "Binary Format": signature, flags and length of the header's extension; the trailer.
_HEADER_BYTES = 11 + 4 + 4
_TRAILER = b"\xff\xff"
_NUMBER = slice(2 + 4, 2 + 4 + 8)  # the first column, an int8, behind the number of columns and its own length
_LAST_NUMBER = 2**63 - 1
_PAGE = 500
APPLICATION = "obieg sealing"


class Record(NamedTuple):
    """A record as it is sealed."""

    number: int  # audit_id
    data: bytes


class StoredSeal(NamedTuple):
    """A seal without its leaves."""

    sequence: int
    tree_size: int
    records: str  # as PostgreSQL writes them
    leaves_bytes: int
    peaks: bytes
    note: str


def connect(dsn: str) -> psycopg.Connection[Any]:
    """A connection without the time limits of requests."""
    options = "-c statement_timeout=0 -c lock_timeout=10s -c jit=off -c client_encoding=UTF8"
    return psycopg.connect(dsn, autocommit=True, application_name=APPLICATION, options=options)


def run(connection: psycopg.Connection[Any], statement: Statement, **values: Parameter) -> list[tuple[Any, ...]]:
    """Runs one statement; its rows."""
    cursor = psycopg.RawCursor(connection)
    cursor.execute(statement.sql.encode(), [values[name] for name in statement.parameters])
    return cursor.fetchall() if cursor.description else []


@contextmanager
def transaction(connection: psycopg.Connection[Any], begin: Statement) -> Iterator[None]:
    """Commits at the end, undoes after an error."""
    run(connection, begin)
    try:
        yield
    except BaseException:
        if not connection.closed:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def records(connection: psycopg.Connection[Any], first: int, end: int | None = None) -> Iterator[Record]:
    """The records with numbers in [first, end), in their order; within a transaction that sees one state.

    Nothing else may be asked of the connection before the last is read.
    """
    others = _choose(connection, first, end)
    for row in _copy(connection, SQL.copy_audit_records):
        number = int.from_bytes(row[_NUMBER], "big", signed=True)
        yield Record(number, row + others[number] if others and number in others else row)


def leaves(connection: psycopg.Connection[Any], first: int, end: int) -> dict[int, bytes]:
    """The leaf hashes of the records with numbers in [first, end), by number."""
    others = _choose(connection, first, end)
    if others:
        return {number: leaf_hash(data) for number, data in records(connection, first, end)}
    number_of = int.from_bytes
    rows = _copy(connection, SQL.copy_audit_records)
    return {number_of(row[_NUMBER], "big", signed=True): leaf_hash(row) for row in rows}


def _choose(connection: psycopg.Connection[Any], first: int, end: int | None) -> dict[int, bytes]:
    """Says which records are read next; the rows of their other patients, by number."""
    run(connection, SQL.choose_records, first=first, end=_LAST_NUMBER if end is None else end)
    others: dict[int, bytes] = {}
    for row in _copy(connection, SQL.copy_audit_patients):
        number = int.from_bytes(row[_NUMBER], "big", signed=True)
        others[number] = others.get(number, b"") + row
    return others


def _copy(connection: psycopg.Connection[Any], statement: Statement) -> Iterator[bytes]:
    """The rows that COPY sends: the server sends each by itself, the first one together with the header.

    This stands on libpq's own reading, which costs a tenth of what psycopg's does for each row.
    """
    pg = connection.pgconn
    result = pg.exec_(statement.sql.encode())
    if result.status != pq.ExecStatus.COPY_OUT:
        raise psycopg.errors.lookup((result.error_field(pq.DiagnosticField.SQLSTATE) or b"XX000").decode())(
            result.get_error_message()
        )
    receive = pg.get_copy_data
    skipped = _HEADER_BYTES
    ended = False
    try:
        while True:
            size, data = receive(0)
            if size < 0:
                ended = True
                break
            row = bytes(data)
            if skipped:
                row, skipped = row[skipped:], 0
            if row and row != _TRAILER:
                yield row
    finally:
        if not ended:  # whoever reads has had enough: the connection is in the middle of a copy
            connection.close()
        else:
            last = pg.get_result()
            while last is not None:
                if last.status != pq.ExecStatus.COMMAND_OK:
                    raise psycopg.OperationalError(last.get_error_message())
                last = pg.get_result()


# seals ---------------------------------------------------------------------------------------------------------------


def newest_seal(connection: psycopg.Connection[Any]) -> Seal | None:
    """The last one; ValueError where its row cannot be one."""
    return _seal(run(connection, SQL.newest_seal))


def seal_of_record(connection: psycopg.Connection[Any], number: int) -> Seal | None:
    """The seal that a record is in."""
    return _seal(run(connection, SQL.seal_of_record, audit_id=number))


def seal_before(connection: psycopg.Connection[Any], sequence: int) -> Seal | None:
    """The seal before one."""
    return _seal(run(connection, SQL.seal_before, sequence=sequence))


def _seal(rows: Sequence[tuple[Any, ...]]) -> Seal | None:
    if not rows:
        return None
    sequence, tree_size, ranges, hashes, peaks, note = rows[0]
    return Seal(
        sequence=sequence, tree_size=tree_size, records=read_ranges(ranges), leaves=hashes, peaks=peaks, note=note
    )


def insert_seal(connection: psycopg.Connection[Any], seal: Seal) -> None:
    """Stores a seal."""
    run(
        connection,
        SQL.insert_seal,
        sequence=seal.sequence,
        tree_size=seal.tree_size,
        records=write_ranges(seal.records),
        leaves=seal.leaves,
        peaks=seal.peaks,
        note=seal.note,
    )


def stored_seals(connection: psycopg.Connection[Any], after: int = 0) -> Iterator[StoredSeal]:
    """All seals after one, page by page, without their leaves."""
    while page := run(connection, SQL.seals_without_leaves, after=after, count=_PAGE):
        yield from map(StoredSeal._make, page)
        after = page[-1][0]


def leaves_of_seal(connection: psycopg.Connection[Any], sequence: int) -> bytes:
    """The leaf hashes that were stored with a seal."""
    rows = run(connection, SQL.leaves_of_seal, sequence=sequence)
    return bytes(rows[0][0]) if rows else b""


def unsealed(connection: psycopg.Connection[Any], complete: int) -> Iterator[Record]:
    """Records with numbers above ``complete`` that no seal has, in their order."""
    for first, end in run(connection, SQL.unsealed_ranges, complete=complete):
        yield from records(connection, first, end)


def position(seal: Seal, number: int) -> int | None:
    """Where a record's leaf stands in the tree; None where the seal does not have it."""
    at = seal.begin
    for begin, end in seal.records:
        if begin <= number < end:
            return at + number - begin
        at += end - begin
    return None


def slices(ranges: Ranges, hashes: dict[int, bytes]) -> bytes:
    """The leaves of those records that are there, one after another."""
    return b"".join([hashes[number] for begin, end in ranges for number in range(begin, end) if number in hashes])
