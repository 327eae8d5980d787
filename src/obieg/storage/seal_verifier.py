"""Reads the whole sealed audit again and compares it with its seals, on all cores, as of one moment.

What is trusted is only the signing key, and what is kept outside the database: the rows of seals are looked at like
those of records.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import psycopg

from obieg.domain.sealing import Ranges
from obieg.domain.sealing_check import (
    Chain,
    Compared,
    Deviation,
    Examined,
    Kind,
    Outside,
    Signed,
    Stored,
    Tree,
    compare,
)
from obieg.storage.seal_store import SQL, connect, leaves, run, stored_seals, transaction

_GROUP_RECORDS = 8_192  # worked on at a time by one process
_NEAR = 256  # records between two ranges that are read along rather than by another statement
_AHEAD = 4  # groups waiting for each process


class Summary(NamedTuple):
    """How much was compared."""

    records: int
    seals: int
    waiting: int  # records that no seal has yet
    complete: int  # up to this number every record is sealed
    newest: str  # note of the newest seal, or ""


# Which seals' records are looked at; the seals themselves always are.
Wanted = Callable[[Examined], bool]


def verify(
    dsn: str,
    *,
    origin: str,
    signed: Signed,
    outside: Outside,
    wanted: Wanted,
    report: Callable[[Deviation], None],
    progress: Callable[[int], None],
    processes: int | None = None,
) -> Summary:
    """Compares everything; what deviates is reported as it is found."""
    count = processes or len(os.sched_getaffinity(0))
    with connect(dsn) as connection, transaction(connection, SQL.begin_verifying):
        [(snapshot,)] = run(connection, SQL.export_snapshot)
        verifying = _Verifying(connection, origin, signed, outside, wanted, report, progress)
        pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin, initargs=(dsn, snapshot))
        with pool:
            return verifying.run(lambda group: pool.submit(_compare_here, group), ahead=count * _AHEAD)


def verify_within(
    connection: psycopg.Connection[Any],
    *,
    origin: str,
    signed: Signed,
    outside: Outside,
    report: Callable[[Deviation], None],
) -> Summary:
    """The same by this process alone, as the connection's own transaction sees it."""

    def compared(group: Group) -> Future[list[Compared]]:
        future: Future[list[Compared]] = Future()
        future.set_result(_compare(connection, group))
        return future

    verifying = _Verifying(connection, origin, signed, outside, lambda _: True, report, lambda _: None)
    return verifying.run(compared, ahead=0)


Group = list[Examined]


class _Verifying:
    def __init__(
        self,
        connection: psycopg.Connection[Any],
        origin: str,
        signed: Signed,
        outside: Outside,
        wanted: Wanted,
        report: Callable[[Deviation], None],
        progress: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._chain = Chain(origin, signed, outside)
        self._wanted = wanted
        self._report = report
        self._progress = progress
        self._tree = Tree()
        self._records = 0
        self._seals = 0
        self._newest = ""

    def run(self, submit: Callable[[Group], Future[list[Compared]]], *, ahead: int) -> Summary:
        waiting: deque[tuple[Group, Future[list[Compared]] | None]] = deque()
        for group, looked_at in self._groups():
            waiting.append((group, submit(group) if looked_at else None))
            while len(waiting) > ahead:
                self._take(*waiting.popleft())
        while waiting:
            self._take(*waiting.popleft())
        for deviation in self._chain.end():
            self._report(deviation)
        complete = self._chain.complete
        for (number,) in run(self._connection, SQL.records_outside_seals, complete=complete):
            self._report(
                Deviation(kind=Kind.INSERTED, record=number, detail="no seal has this record, which came after sealing")
            )
        for (number,) in run(self._connection, SQL.patients_without_record):
            self._report(
                Deviation(
                    kind=Kind.INSERTED, record=number, detail="a patient was added to a record that does not exist"
                )
            )
        [(left,)] = run(self._connection, SQL.records_waiting, complete=complete)
        return Summary(self._records, self._seals, left, complete, self._newest)

    def _groups(self) -> Iterator[tuple[Group, bool]]:
        """Seals in their order, together as long as they are looked at alike and few."""
        group: Group = []
        size, looking = 0, True
        for row in stored_seals(self._connection):
            examined = self._chain.examine(Stored(*row))
            looked_at = self._wanted(examined)
            if group and (looked_at != looking or size >= _GROUP_RECORDS):
                yield group, looking
                group, size = [], 0
            group.append(examined)
            size += row.leaves_bytes // 32
            looking = looked_at
            self._newest = row.note
        if group:
            yield group, looking

    def _take(self, group: Group, compared: Future[list[Compared]] | None) -> None:
        results = compared.result() if compared else [Compared(sequence=e.stored.sequence, nodes=None) for e in group]
        for examined, result in zip(group, results, strict=True):
            own = (*examined.deviations, *result.deviations)
            grown = self._tree.grow(examined, result.nodes, whole=not own and compared is not None)
            for deviation in (*own, *grown):
                self._report(deviation)
            self._seals += 1
            if compared is not None:
                self._records += examined.stored.leaves_bytes // 32
                self._progress(examined.stored.leaves_bytes // 32)


_here: psycopg.Connection[Any]


def _begin(dsn: str, snapshot: str) -> None:
    """In a process of the pool: connects, and looks at the same moment as all."""
    global _here  # noqa: PLW0603 - a process has one connection
    _here = connect(dsn)
    run(_here, SQL.begin_verifying)
    psycopg.ClientCursor(_here).execute(SQL.take_snapshot.text.replace(":snapshot", "%s").encode(), [snapshot])


def _compare_here(group: Group) -> list[Compared]:
    return _compare(_here, group)


def _compare(connection: psycopg.Connection[Any], group: Group) -> list[Compared]:
    stored = dict(run(connection, SQL.leaves_of_seals, sequences=[examined.stored.sequence for examined in group]))
    found: dict[int, bytes] = {}
    for first, end in _together(examined.ranges for examined in group if examined.ranges and examined.head):
        found |= leaves(connection, first, end)
    return [compare(examined, found, stored.get(examined.stored.sequence, b"")) for examined in group]


def _together(several: Iterator[Ranges]) -> Ranges:
    """What is read at once: ranges that are near one another become one."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(pair for ranges in several for pair in ranges):
        if joined and begin - joined[-1][1] <= _NEAR:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return tuple(joined)
