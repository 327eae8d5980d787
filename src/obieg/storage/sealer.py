"""Seals the audit: adds all records that are committed and not sealed yet to the tree, and signs what it is then.

Theory of operation. A record's number is drawn when it is written, not when it is committed, so a lower number may
appear after a higher one was sealed. What is sealed is therefore decided by what a transaction sees, not by numbers:
each pass takes every record it sees that no seal has. So that this need not look at the whole audit, each head names a
number below which nothing can appear any more (``complete``). It follows from two facts. Whoever inserts holds a lock
on the table from before it draws a number until its end; and of two looks at these locks, a writer that is in the
second only drew its numbers after the first. So at each pass, in this order: read the highest number drawn, read who is
writing, begin to look at records. A number up to the one read is then sealed, or will never exist, or belongs to one of
those who were writing; and of each of them it is above the number read in the last pass that did not see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import psycopg

from obieg.domain.merkle import HASH_BYTES, cover, join, leaf_hash, peaks_of, root
from obieg.domain.sealing import NO_NOTE, Head, Ranges, Seal, digest, head_of, ranges_of, write_head, write_ranges
from obieg.storage.seal_keys import SealKeys
from obieg.storage.seal_store import SQL, insert_seal, newest_seal, run, transaction, unsealed

RECORDS_MAX = 16_384  # of one seal: what cannot be located by its record is located by its seal


class SealBroken(Exception):  # noqa: N818 - it is an alarm, not an error of ours
    """The newest seal in the database is not one that was made here: somebody changed it. Nothing may be sealed on."""


class Sealer:
    """Seals one database; keeps from pass to pass who was writing."""

    def __init__(self, keys: SealKeys, origin: str, now: Callable[[], datetime]) -> None:
        self._keys = keys
        self._origin = origin
        self._now = now
        self._writing: dict[str, int] = {}  # transaction -> its records have higher numbers
        self._given = -1  # highest number drawn when the last pass began; -1: there was none

    def seal(self, connection: psycopg.Connection[Any]) -> list[Seal] | None:
        """One pass; the seals made, none where nothing is new. None where another sealer is at work.

        Raises :class:`SealBroken`.
        """
        if not run(connection, SQL.take_sealing_lock)[0][0]:
            return None
        try:
            [(given,)] = run(connection, SQL.audit_numbers_given)
            writers = [name for (name,) in run(connection, SQL.audit_writers)]
            with transaction(connection, SQL.begin_sealing):
                last = newest_seal_checked(connection, self._keys)
                before = 0 if last is None else head_of(last.note).complete
                since = before if self._given < 0 else max(before, self._given)
                writing = {name: self._writing.get(name, since) for name in writers}
                complete = max(before, min([given, *writing.values()]))
                seals = list(self._seals(connection, last, before, complete))
                for seal in seals:
                    insert_seal(connection, seal)
                run(connection, SQL.audit_looked_at)
            self._writing, self._given = writing, given
        finally:
            if not connection.closed:
                run(connection, SQL.release_sealing_lock)
        return seals

    def _seals(
        self, connection: psycopg.Connection[Any], last: Seal | None, before: int, complete: int
    ) -> Iterator[Seal]:
        numbers: list[int] = []
        hashes: list[bytes] = []
        for number, data in unsealed(connection, before):
            numbers.append(number)
            hashes.append(leaf_hash(data))
            if len(numbers) == RECORDS_MAX:
                last = self._next(last, ranges_of(numbers), b"".join(hashes), complete)
                yield last
                numbers.clear()
                hashes.clear()
        if numbers:
            yield self._next(last, ranges_of(numbers), b"".join(hashes), complete)

    def _next(self, last: Seal | None, records: Ranges, leaves: bytes, complete: int) -> Seal:
        begin = last.tree_size if last else 0
        peaks = join(peaks_of(begin, last.peaks) if last else (), cover(begin, leaves))
        head = Head(
            origin=self._origin,
            tree_size=begin + len(leaves) // HASH_BYTES,
            root=root(peaks),
            sequence=last.sequence + 1 if last else 1,
            sealed_at=self._now().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            complete=complete,
            records=sha256(write_ranges(records).encode()).digest(),
            leaves=sha256(leaves).digest(),
            previous=digest(last.note) if last else NO_NOTE,
        )
        return Seal(
            sequence=head.sequence,
            tree_size=head.tree_size,
            records=records,
            leaves=leaves,
            peaks=b"".join(peak.hash for peak in peaks),
            note=self._keys.sign(write_head(head)),
        )


def newest_seal_checked(connection: psycopg.Connection[Any], keys: SealKeys) -> Seal | None:
    """The last seal; raises :class:`SealBroken` where it is not what was signed."""
    try:
        last = newest_seal(connection)
        if last is None:
            return None
        head = head_of(last.note)
        sound = (
            keys.signed(last.note)
            and (head.sequence, head.tree_size) == (last.sequence, last.tree_size)
            and sha256(write_ranges(last.records).encode()).digest() == head.records
            and root(peaks_of(last.tree_size, last.peaks)) == head.root
        )
    except ValueError:
        sound = False
    if not sound:
        raise SealBroken("the newest seal in the database is not as it was signed; run obieg audit verify")
    return last
