"""Brings stored renderings to the mapping of this release while the node serves: ``obieg db rerender``.

Theory of operation. Each kind of rendering is gone over in the order of its keys, a batch at a time: read without a
lock, decode and encode anew, write what nobody has changed meanwhile and nobody holds now, and where that leads, in one
short transaction. Whatever was in use stays for another pass; passes end when one finds nothing that it can renew. So a
run can be killed at any moment, and answers are the same before, during and after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import psycopg

from obieg.mapping import ebrim
from obieg.mapping.fhir_documents import Renderer
from obieg.mapping.fhir_patient import instant
from obieg.ops.asking import ask
from obieg.ops.failure import Failure
from obieg.storage.statements import Statement, load

BATCH = 200  # rows read and written at a time
PAUSE_S = 0.01  # between two batches, so that the node comes first
PASSES_MAX = 5
PASS_PAUSE_S = 1.0  # before the second pass, and so on; what was in use may be free by then
TOLD_MAX = 20  # rows that cannot be renewed are told by name; more are counted
ADVISORY_LOCK = 0x6F626965_67000004  # "obieg", 4: who renders anew
_FIRST = "00000000-0000-0000-0000-000000000000"
_SQL = load("rerender.sql")


class Kind(NamedTuple):
    """One kind of rendering: where it is kept, and how it is made anew.

    ``following`` takes rendering_version, after_patient, after_entry and count; it gives (patient_key, entry_uuid,
    source and what more ``renew`` needs) in the order of these keys, the source NULL where the rendering is current.
    ``write`` takes keys, uuids, old (the sources), renewed and rendering_version; it writes what is still of that
    source and gives how many that were. ``renew`` makes a rendering of the source; it raises ValueError where that
    cannot be done. ``total`` takes rendering_version and gives how many there are and how many of them are old.
    """

    name: str
    version: int
    following: Statement
    write: Statement
    renew: Callable[..., bytes]
    total: Statement


# What is rendered: its name for people, the letter of ebrim, its table.
_OBJECTS = (
    ("document entries", "D", "document_entry"),
    ("submission sets", "S", "submission_set"),
    ("folders", "F", "folder"),
    ("associations", "A", "association"),
)

KINDS: tuple[Kind, ...] = tuple(
    Kind(
        name,
        ebrim.RENDERING_VERSION,
        following=_SQL.next_ebrim.of(table),
        write=_SQL.renew_ebrim.of(table),
        renew=partial(ebrim.renew_rendering, letter),
        total=_SQL.count_ebrim.of(table),
    )
    for name, letter, table in _OBJECTS
)


def fhir_kinds(renderer: Renderer) -> tuple[Kind, ...]:
    """The renderings in FHIR, which are made at the first reading or here; those of another affinity domain are old."""

    def renew(letter: str, source: bytes, registered_at: datetime) -> bytes:
        # Which version of an object this is stands in no rendering: FHIR counts revisions, between the pieces.
        value: Any = ebrim.read_rendering(letter, source, "A", version=1)
        return renderer.render(value, instant(registered_at))

    return tuple(
        Kind(
            f"{name} in FHIR",
            renderer.version,
            following=_SQL.next_fhir.of(table),
            write=_SQL.renew_fhir.of(table),
            renew=partial(renew, letter),
            total=_SQL.count_fhir.of(table),
        )
        for name, letter, table in _OBJECTS
        if letter != "A"
    )


class State(NamedTuple):
    """How one kind stands."""

    name: str
    rows: int
    old: int


class Rerendered(NamedTuple):
    """What a run came to: rows renewed by kind, and rows that stay as they are, with the reason."""

    renewed: Mapping[str, int]
    refused: Sequence[str]
    refused_count: int


def status(dsn: str, kinds: Sequence[Kind] = KINDS) -> list[State]:
    """How many rows of each kind there are, and how many an older mapping wrote."""
    with psycopg.connect(dsn, autocommit=True, application_name="obieg db rerender") as connection:
        return [State(kind.name, *ask(connection, kind.total, rendering_version=kind.version)[0]) for kind in kinds]


def rerender(
    dsn: str, *, advance: Callable[[str, int, int], object], kinds: Sequence[Kind] = KINDS, pause_s: float = PAUSE_S
) -> Rerendered:
    """Renews everything that is old. ``advance`` is told kind, rows looked at and rows renewed, of each batch.

    Raises Failure where another process does it already.
    """
    with psycopg.connect(dsn, autocommit=True, application_name="obieg db rerender") as connection:
        [(first,)] = connection.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK]).fetchall()
        if not first:
            raise Failure(
                "Another process renders anew at this moment.",
                "Two would do the same work; this one did nothing.",
                "Wait for it, or end it: the next one goes on where it stopped.",
            )
        worker = _Worker(connection, advance, pause_s)
        for kind in kinds:
            worker.go_over(kind)
        return Rerendered(worker.renewed, worker.refused[:TOLD_MAX], len(worker.refused))


class _Worker:
    def __init__(
        self, connection: psycopg.Connection[Any], advance: Callable[[str, int, int], object], pause_s: float
    ) -> None:
        self._connection = connection
        self._advance = advance
        self._pause_s = pause_s
        self.renewed: dict[str, int] = {}
        self.refused: list[str] = []
        self._refused: list[str] = []  # in this pass

    def go_over(self, kind: Kind) -> None:
        """Passes until only that is old which cannot be renewed: rows may have been in use, or moved behind us."""
        self.renewed[kind.name] = 0
        for number in range(PASSES_MAX):
            time.sleep(number * PASS_PAUSE_S)
            self._refused = []
            self.renewed[kind.name] += self._pass(kind)
            [(_, old)] = ask(self._connection, kind.total, rendering_version=kind.version)
            if old == len(self._refused):
                break
        else:
            self.refused.append(f"{kind.name}: {old - len(self._refused)} were in use all the time; try again later")
        self.refused += self._refused

    def _pass(self, kind: Kind) -> int:
        rows = ask(self._connection, _SQL.read_rerendering, kind=kind.name)
        if not rows or rows[0][0] != kind.version or rows[0][-1] is not None:
            ask(self._connection, _SQL.begin_pass, kind=kind.name, rendering_version=kind.version)
            at, renewed = (0, _FIRST), 0
        else:  # an interrupted one
            at, renewed = (rows[0][1], rows[0][2]), rows[0][4]
        while True:
            found = ask(
                self._connection,
                kind.following,
                rendering_version=kind.version,
                after_patient=at[0],
                after_entry=at[1],
                count=BATCH,
            )
            if not found:
                ask(self._connection, _SQL.end_pass, kind=kind.name)
                return renewed
            at = found[-1][:2]
            done = self._batch(kind, found, at)
            renewed += done
            self._advance(kind.name, len(found), done)
            time.sleep(self._pause_s)

    def _batch(self, kind: Kind, found: Sequence[tuple[Any, ...]], at: tuple[int, str]) -> int:
        old = [row for row in found if row[2] is not None]
        made: list[tuple[int, str, bytes, bytes]] = []
        for key, uuid, source, *more in old:
            try:
                made.append((key, uuid, source, kind.renew(source, *more)))
            except ValueError as error:
                self._refused.append(f"{kind.name} {uuid}: {error}")
        with self._connection.transaction():
            done = 0
            if made:
                keys, uuids, sources, renewed = map(list, zip(*made, strict=True))
                given = {"keys": keys, "uuids": uuids, "old": sources, "renewed": renewed}
                [(done,)] = ask(self._connection, kind.write, rendering_version=kind.version, **given)
            ask(
                self._connection,
                _SQL.advance_pass,
                kind=kind.name,
                after_patient=at[0],
                after_entry=at[1],
                looked=len(found),
                renewed=done,
            )
        return done
