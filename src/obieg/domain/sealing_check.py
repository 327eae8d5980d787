"""Compares what is stored of the audit with what its seals say, and says where they deviate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from hashlib import sha256

from obieg.domain.documents import Value
from obieg.domain.merkle import HASH_BYTES, Node, cover, join, peaks_of, root
from obieg.domain.sealing import Head, NotANote, Ranges, count, digest, head_of, numbers, read_ranges

_NAMED_MAX = 1000  # deviations named for one seal, one by one

# Whether a note bears a signature of the node's key.
Signed = Callable[[str], bool]


class Kind(StrEnum):
    """What deviates."""

    EDITED = "edited"  # a record is not as it was sealed
    DELETED = "deleted"  # a sealed record is gone
    INSERTED = "inserted"  # a record that no seal has, among sealed ones
    SEAL_ALTERED = "seal-altered"  # a seal is not as it was made
    SEAL_MISSING = "seal-missing"  # a seal is gone
    OUTSIDE = "outside"  # what is kept outside the database does not go with it
    TIMESTAMP = "time-stamp"  # a time-stamp does not hold


class Deviation(Value, frozen=True):
    """One thing that is not as it was sealed."""

    kind: Kind
    detail: str
    seal: int | None = None  # sequence
    record: int | None = None  # audit_id


class Stored(Value, frozen=True):
    """A seal's row without its leaves."""

    sequence: int
    tree_size: int
    records: str  # as PostgreSQL writes them
    leaves_bytes: int
    peaks: bytes
    note: str


class Examined(Value, frozen=True):
    """What can be said of a seal before its records are looked at."""

    stored: Stored
    head: Head | None  # what it must be; None where nothing is left that says so
    ranges: Ranges | None  # numbers of its records; None where they are not known
    deviations: tuple[Deviation, ...] = ()


class Outside:
    """Notes that are kept outside the database, by the sequence of their seals."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self.notes: dict[int, dict[bytes, str]] = {}  # digest -> where it is kept
        self._texts: dict[bytes, str] = {}

    def add(self, note: str, source: str) -> Deviation | None:
        """Takes a note in; what is wrong with it, if anything."""
        try:
            head = head_of(note)
        except NotANote as error:
            return Deviation(kind=Kind.OUTSIDE, detail=f"{source} holds something that is no root: {error}")
        if head.origin != self._origin:
            return Deviation(
                kind=Kind.OUTSIDE,
                seal=head.sequence,
                detail=f"{source} holds a root of {head.origin}, not of this node",
            )
        key = digest(note)
        self.notes.setdefault(head.sequence, {}).setdefault(key, source)
        self._texts[key] = note
        return None

    def others(self, sequence: int, note: str) -> list[tuple[str, str]]:
        """Notes of a seal that differ from this one, and where they are kept."""
        found = self.notes.get(sequence, {})
        own = digest(note)
        return [(self._texts[key], source) for key, source in found.items() if key != own]

    @property
    def last(self) -> int:
        """The newest seal that is known outside."""
        return max(self.notes, default=0)


class Chain:
    """Looks at seals in their order: each by itself, to the one before, and to what is known outside."""

    def __init__(self, origin: str, signed: Signed, outside: Outside) -> None:
        self._origin = origin
        self._signed = signed
        self._outside = outside
        self._sequence = 0
        self._head: Head | None = None  # of the seal before
        self._note: bytes | None = bytes(HASH_BYTES)  # digest of its note
        self._size: int | None = 0  # of the tree

    @property
    def complete(self) -> int:
        """Up to this number every record is sealed."""
        return self._head.complete if self._head else 0

    def examine(self, stored: Stored) -> Examined:
        """The next seal."""
        found: list[Deviation] = []

        def altered(detail: str) -> None:
            found.append(Deviation(kind=Kind.SEAL_ALTERED, seal=stored.sequence, detail=detail))

        missing = range(self._sequence + 1, stored.sequence)
        if missing:
            self._size = None
            names = str(missing[0]) if len(missing) == 1 else f"{missing[0]} to {missing[-1]}"
            found.append(
                Deviation(kind=Kind.SEAL_MISSING, seal=missing[0], detail=f"seal {names} is not in the database")
            )
        head = self._head_of(stored, found)
        ranges: Ranges | None = None
        try:
            ranges = read_ranges(stored.records)
        except ValueError:
            altered("the numbers of its records cannot be read")
        if head is not None:
            if (head.sequence, head.tree_size) != (stored.sequence, stored.tree_size):
                altered(f"its sequence or tree_size is not the signed one ({head.sequence}, {head.tree_size})")
            if not missing and self._note is not None and head.previous != self._note:
                altered(f"it does not follow seal {self._sequence} as that now stands")
            if sha256(stored.records.encode()).digest() != head.records:
                altered("the numbers of its records were changed")
                ranges = None
            elif ranges is not None and count(ranges) != head.tree_size - (self._size or 0) and self._size is not None:
                altered("it has another number of records than the tree grew by")
            if ranges is not None and count(ranges) * HASH_BYTES != stored.leaves_bytes:
                altered("the number of its leaf hashes was changed")
        self._size = head.tree_size if head else None
        self._sequence, self._head = stored.sequence, head or self._head
        self._note = digest(stored.note)
        return Examined(stored=stored, head=head, ranges=ranges, deviations=tuple(found))

    def _head_of(self, stored: Stored, found: list[Deviation]) -> Head | None:
        """What the seal must be."""

        def altered(detail: str) -> None:
            found.append(Deviation(kind=Kind.SEAL_ALTERED, seal=stored.sequence, detail=detail))

        head: Head | None = None
        try:
            head = head_of(stored.note)
        except NotANote as error:
            altered(f"its note cannot be read: {error}")
        if head is not None and not self._signed(stored.note):
            altered("its note is not signed by this node's key")
            head = None
        if head is not None and head.origin != self._origin:
            altered(f"its note is that of {head.origin}")
        for note, source in self._outside.others(stored.sequence, stored.note):
            if self._signed(note):
                altered(f"it is not the seal whose root is kept in {source}")
                return head_of(note)
            found.append(
                Deviation(
                    kind=Kind.OUTSIDE,
                    seal=stored.sequence,
                    detail=f"{source} holds a root of this seal that this node's key did not sign",
                )
            )
        return head

    def end(self) -> list[Deviation]:
        """What is missing after the last seal."""
        last = self._outside.last
        if last <= self._sequence:
            return []
        sources = sorted(
            {source for n, by in self._outside.notes.items() if n > self._sequence for source in by.values()}
        )
        first = self._sequence + 1
        names = str(first) if first == last else f"{first} to {last}"
        return [
            Deviation(
                kind=Kind.SEAL_MISSING,
                seal=first,
                detail=f"seal {names}, known from {', '.join(sources)}, is not in the database: it was cut off",
            )
        ]


class Compared(Value, frozen=True):
    """What came of comparing a seal with its records."""

    sequence: int
    nodes: tuple[Node, ...] | None  # cover of its leaves as they were sealed; None where that is not known
    deviations: tuple[Deviation, ...] = ()


def compare(examined: Examined, found: Mapping[int, bytes], leaves: bytes) -> Compared:
    """Compares a seal with the leaf hashes of its records as they are now, and with those stored with it."""
    sequence, head, ranges = examined.stored.sequence, examined.head, examined.ranges
    if head is None or ranges is None:
        return Compared(sequence=sequence, nodes=None)
    begin = head.tree_size - count(ranges)
    now = b"".join([found[number] for first, end in ranges for number in range(first, end) if number in found])
    if sha256(now).digest() == head.leaves and len(now) == count(ranges) * HASH_BYTES:
        differ = (
            () if now == leaves else (_altered(sequence, "its stored leaf hashes were changed; its records are whole"),)
        )
        return Compared(sequence=sequence, nodes=tuple(cover(begin, now)), deviations=differ)
    deviations: list[Deviation] = []
    known = sha256(leaves).digest() == head.leaves and len(leaves) == count(ranges) * HASH_BYTES
    for at, number in enumerate(numbers(ranges)):
        leaf = found.get(number)
        if leaf is None:
            deviations.append(Deviation(kind=Kind.DELETED, seal=sequence, record=number, detail="the record is gone"))
        elif known and leaf != leaves[at * HASH_BYTES : (at + 1) * HASH_BYTES]:
            deviations.append(
                Deviation(kind=Kind.EDITED, seal=sequence, record=number, detail="the record is not as it was sealed")
            )
        if len(deviations) == _NAMED_MAX:
            deviations.append(_altered(sequence, "there are more deviations in this seal"))
            break
    if not known:
        deviations.append(
            _altered(
                sequence,
                f"its leaf hashes were changed, and its records, numbers {ranges[0][0]} to {ranges[-1][1] - 1}, are "
                "not as they were sealed, or its note is not",
            )
        )
    return Compared(
        sequence=sequence, nodes=tuple(cover(begin, leaves)) if known else None, deviations=tuple(deviations)
    )


class Tree:
    """The tree as it grows from seal to seal, compared with each root that was signed."""

    def __init__(self) -> None:
        self._peaks: list[Node] | None = []

    def grow(self, examined: Examined, nodes: Iterable[Node] | None, *, whole: bool) -> list[Deviation]:
        """Adds a seal; ``whole`` where nothing else deviates in it."""
        stored, head = examined.stored, examined.head
        if head is None:
            self._peaks = None
            return []
        given = _peaks(head.tree_size, stored.peaks)
        fits = given is not None and root(given) == head.root
        deviations = [] if fits else [_altered(stored.sequence, "its stored peaks do not make its root")]
        if self._peaks is not None and nodes is not None:
            self._peaks = join(self._peaks, nodes)
            if root(self._peaks) == head.root:
                return deviations
            if whole:
                deviations.append(_altered(stored.sequence, "its root is not that of the records up to it"))
        self._peaks = given if fits else None
        return deviations


def _peaks(size: int, hashes: bytes) -> list[Node] | None:
    try:
        return peaks_of(size, hashes)
    except ValueError:
        return None


def _altered(sequence: int, detail: str) -> Deviation:
    return Deviation(kind=Kind.SEAL_ALTERED, seal=sequence, detail=detail)
