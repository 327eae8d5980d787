"""Many feeds decided one after the other as if each were stored before the next is read.

:class:`Memory` holds what the store knows that concerns a batch. It answers as the store would (:class:`Facts`) and
takes each decision in, so that :class:`obieg.domain.feeding.Feeding` decides by the very rules of a single feed. What
came of it all is gathered in :class:`Writes`, each row once, however often the batch changed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from obieg.domain.identifiers import PatientId
from obieg.domain.linkage import LinkageMatcher, Prepared, Weights
from obieg.domain.matching import Record
from obieg.domain.outbox import Outgoing
from obieg.domain.patient_index import Change, Facts, KnownRecord, NewLink, NewTask, SavedRecord
from obieg.domain.patients import Standing

BLOCK_MAX = 50  # records looked at under one block; more share it only where it says nothing
REMEMBERED_MAX = 60_000
_INSTANT = timedelta(microseconds=1)
_NEVER: frozenset[frozenset[int]] = frozenset()


class Known(NamedTuple):
    """What the store has read for a batch: everything about the persons whom its records may be about."""

    at: datetime  # by the store's clock
    locators: Mapping[PatientId, tuple[int, bool]]  # patient key, before links, and whether it is retired
    survivors: Mapping[int, int]  # of patients who are linked to another one
    ids: Mapping[int, str]  # affinity-domain ids of those who are not
    versions: Mapping[int, int]  # theirs, too
    records: Sequence[KnownRecord]
    blocks: Mapping[int, dict[int, int]]  # of each block asked for: patient keys by record key
    apart: Sequence[tuple[int, int]]
    retired: frozenset[PatientId] = frozenset()  # of what the records state; read where others are told of changes
    seen: str = ""  # whose writes it has, in the store's words


def together(first: Known, then: Known) -> Known:
    """What was read of the same state in two goes."""
    new = then.ids.keys() - first.ids.keys()
    return first._replace(
        survivors={**then.survivors, **first.survivors},
        ids={**then.ids, **first.ids},
        versions={**then.versions, **first.versions},
        records=[*first.records, *(r for r in then.records if r.survivor_key in new)],
        blocks={**then.blocks, **first.blocks},
        apart=[*first.apart, *then.apart],
        retired=first.retired | then.retired,
    )


class Saved(NamedTuple):
    """The last state of a record in a batch."""

    record: SavedRecord
    found: KnownRecord | None  # as the store had it; None for a new one
    saves: int
    created_at: datetime
    updated_at: datetime


class Linked(NamedTuple):
    """Links that one feed made."""

    survivor_key: int
    links: tuple[NewLink, ...]
    at: datetime


class Writes:
    """What a batch writes."""

    def __init__(self) -> None:
        self.created: dict[int, PatientId] = {}  # affinity-domain ids of new patients
        self.touched: dict[int, int] = {}  # how often each patient was changed; new ones once less
        self.saved: dict[int, Saved] = {}  # by record key
        self.claimed: dict[PatientId, int] = {}
        self.released: dict[PatientId, int] = {}  # of what the store had, by the patient key it stood under
        self.acts: list[Linked | NewTask] = []  # in the order in which they were decided
        self.outgoing: list[Outgoing] = []
        # What must hold in the store when the batch is written.
        self.blocks: set[int] = set()
        self.in_blocks = 0  # which records stand under them, as one number
        self.versions: dict[int, int] = {}  # of patients that were changed, linked or compared
        self.seen = ""  # whose writes the oldest of what was read has


class Memory:
    """What is known while a batch is decided."""

    def __init__(self, known: Known, before: Sequence[Memory] = ()) -> None:
        """``before`` are the batches decided just before, in order: what was read may have them or not, all or in part.

        Their word counts. What they have changed is known from them alone, whatever was read of it; of their patients
        only those who are met are looked up.
        """
        self.writes = Writes()
        self.writes.seen = known.seen
        self._before = tuple(reversed(before))  # the newest first
        self._locators = known.locators
        self._survivors = dict(known.survivors)
        self._ids = dict(known.ids)
        self._versions = dict(known.versions)
        self._blocks = dict(known.blocks)
        self._records: dict[int, list[KnownRecord]] = {}
        self._raw_apart = known.apart
        self._apart: frozenset[frozenset[int]] | None = None if known.apart else _NEVER
        self._retired = known.retired
        # What this batch has changed: patients, whom identifiers name, what stands under blocks.
        self.persons: set[int] = set()
        self.moved: dict[PatientId, int | None] = {}
        self._moves = (self.moved, *[memory.moved for memory in self._before])
        self.entries: dict[int, dict[int, int | None]] = {}
        self._linked: dict[int, int] = {}
        self._at = known.at
        self._carried: set[int] = set()  # patients whom they changed
        for memory in before:
            self._carry(memory)
        for record in known.records:
            if (survivor := self._end(record.patient_key)) not in self._carried:
                self._records.setdefault(survivor, []).append(record)
        self._stored_versions = dict(self._versions)
        self._stored_blocks = dict(self._blocks)

    def _carry(self, before: Memory) -> None:
        before._before = ()  # all that it needed of them is decided
        self._at = max(self._at, before._at)
        self._retired |= before._retired
        self._survivors.update(before._linked)
        for block in self._blocks.keys() & before.entries.keys():
            self._blocks[block] = _changed(self._blocks[block], before.entries[block])
        self._carried.update(map(before._end, before.persons) if before._survivors else before.persons)

    def _met(self, key: int) -> int:
        """The patient at the end of the chain of links, of whom everything is known from then on."""
        key = self._end(key)
        if key in self._carried:
            self._carried.remove(key)
            memory = next(m for m in self._before if key in m.persons)
            self._ids[key], self._versions[key], records = memory.patient(key)
            self._stored_versions[key] = self._versions[key]
            self._records[key] = list(records)
        return key

    def patient(self, key: int) -> tuple[str, int, Sequence[KnownRecord]]:
        """Affinity-domain id, version and records of one whom this batch has changed."""
        return self._ids[key], self._versions[key], self._records.get(key, ())

    def _located(self, identifier: PatientId) -> tuple[int, bool] | None:
        """The patient key, before links, and whether it is retired."""
        for moved in self._moves:
            if identifier in moved:
                key = moved[identifier]
                return None if key is None else (key, False)
        return self._locators.get(identifier)

    def missing(self, blocks: Iterable[int]) -> list[int]:
        """Those of the blocks about which nothing was read yet."""
        return [block for block in blocks if block not in self._blocks]

    def learn(self, known: Known) -> None:
        """Adds what was read later, of the same state of the store: only of blocks."""
        for raw, survivor in known.survivors.items():
            self._survivors.setdefault(raw, survivor)
        new = {key for key in known.ids if key not in self._ids and key not in self._carried}
        for key in new:
            self._ids[key] = known.ids[key]
            self._versions[key] = self._stored_versions[key] = known.versions[key]
        for record in known.records:
            if record.survivor_key in new:
                self._records.setdefault(self._end(record.survivor_key), []).append(record)
        for block, entries in known.blocks.items():
            stored = entries
            for memory in reversed(self._before):
                stored = _changed(stored, memory.entries.get(block, {}))
            self._stored_blocks[block] = stored
            self._blocks[block] = _changed(self._stored_blocks[block], self.entries.get(block, {}))
        self._raw_apart = [*self._raw_apart, *known.apart]
        if known.apart:
            self._apart = None
        self._retired |= known.retired

    def _end(self, key: int) -> int:
        """The end of the chain of links."""
        while (survivor := self._survivors.get(key)) is not None:
            key = survivor
        return key

    def facts(self, identifiers: Iterable[PatientId], blocks: Sequence[int], in_blocks: int = 0) -> Facts:
        """What a feed is judged by, as :meth:`obieg.domain.patient_index.PatientStore.facts` gives it.

        A batch is guarded as a whole; ``in_blocks`` is for a feed that is stored by itself.
        """
        standings: dict[PatientId, Standing] = {}
        named: dict[int, None] = {}
        for identifier in identifiers:
            if (found := self._located(identifier)) is not None:
                key = self._met(found[0])
                named[key] = None
                standings[identifier] = Standing(key, self._ids[key], found[1])
        near: dict[int, None] = {}
        for block in blocks:
            if entries := self._blocks.get(block):
                if len(entries) > BLOCK_MAX:
                    entries = {key: entries[key] for key in sorted(entries)[:BLOCK_MAX]}
                for key in entries.values():
                    near[self._met(key)] = None
        known = self._records
        return Facts(
            standings,
            tuple([r for key in named for r in known.get(key, ())]) if named else (),
            tuple([r for key in near for r in known.get(key, ())]) if near else (),
            in_blocks,
            self._kept_apart(),
            self._retired,
        )

    def _kept_apart(self) -> frozenset[frozenset[int]]:
        if self._apart is None:
            self._apart = frozenset(frozenset((self._end(a), self._end(b))) for a, b in self._raw_apart)
        return self._apart

    def apply(self, change: Change) -> None:
        """Takes a decision of a feed that states a record in; it retires nothing."""
        self._at += _INSTANT  # later records are newer ones
        writes, key = self.writes, change.patient_key
        self.persons.add(key)
        for block in change.blocks:
            if block not in writes.blocks:
                writes.blocks.add(block)
                if entries := self._stored_blocks.get(block):
                    writes.in_blocks ^= _state(block, entries)
        if change.affinity_domain_id is not None:
            self._ids[key] = change.affinity_domain_id.value
            self._versions[key] = 1
            writes.created[key] = change.affinity_domain_id
            self.moved[change.affinity_domain_id] = writes.claimed[change.affinity_domain_id] = key
        else:
            self._rely_on(key)
            writes.touched[key] = writes.touched.get(key, 0) + 1
            self._versions[key] += 1
        for compared, _ in change.versions:
            self._rely_on(compared)
        if change.links:
            self._link(key, change.links)
        for identifier in change.released:
            self._release(identifier)
        if change.claimed:
            came = dict.fromkeys(change.claimed, key)
            self.moved.update(came)
            writes.claimed.update(came)
        if change.record is not None:
            self._save(change.record, key)
        writes.acts += change.tasks
        writes.outgoing += change.outgoing

    def _rely_on(self, key: int) -> None:
        if (version := self._stored_versions.get(key)) is not None:
            self.writes.versions[key] = version

    def _release(self, identifier: PatientId) -> None:
        found = self._located(identifier)
        if found is None or found[1]:
            return
        self.moved[identifier] = None
        if self.writes.claimed.pop(identifier, None) is None:
            self.writes.released[identifier] = found[0]

    def _save(self, saved: SavedRecord, survivor: int) -> None:
        if (records := self._records.get(survivor)) is None:
            records = self._records[survivor] = []
        place = None
        if records:
            place = next((n for n, r in enumerate(records) if r.record_key == saved.record_key), None)
        known = KnownRecord(
            saved.patient_key,
            survivor,
            self._ids[survivor],
            saved.record_key,
            saved.version + 1,
            saved.source,
            saved.record,
            saved.blocks,
            self._at,
            fed_by=saved.fed_by,
        )
        before: tuple[int, ...] = ()
        if place is None:
            records.append(known)
            self.writes.saved[saved.record_key] = Saved(saved, None, 1, self._at, self._at)
        else:
            last, records[place] = records[place], known
            before = last.blocks
            earlier = self.writes.saved.get(saved.record_key) or Saved(saved, last, 0, self._at, self._at)
            self.writes.saved[saved.record_key] = earlier._replace(
                record=saved, saves=earlier.saves + 1, updated_at=self._at
            )
        if before != saved.blocks:
            if before:
                self._enter(before, saved.record_key, None)
            self._enter(saved.blocks, saved.record_key, saved.patient_key)

    def _enter(self, blocks: Iterable[int], record_key: int, patient_key: int | None) -> None:
        for block in blocks:
            changed = self.entries.get(block)
            if changed is None:
                self.entries[block] = {record_key: patient_key}
            else:
                changed[record_key] = patient_key
            entries = self._blocks.get(block)
            if entries is None:
                continue  # nobody asked for it; whoever does gets it from the store and from here
            if changed is None:
                entries = self._blocks[block] = dict(entries)
            if patient_key is None:
                entries.pop(record_key, None)
            else:
                entries[record_key] = patient_key

    def _link(self, key: int, links: tuple[NewLink, ...]) -> None:
        self.writes.acts.append(Linked(key, links, self._at))
        self._at += _INSTANT  # what comes with a link is newer than the link
        for link in links:
            self._rely_on(link.patient_key)
            self.persons.add(link.patient_key)
            self._survivors[link.patient_key] = self._linked[link.patient_key] = key
            came = self._records.pop(link.patient_key, ())
            self._records.setdefault(key, []).extend(
                [r._replace(survivor_key=key, affinity_domain_id=self._ids[key]) for r in came]
            )
        if self._raw_apart:
            self._apart = None


def _changed(entries: Mapping[int, int], changes: Mapping[int, int | None]) -> dict[int, int]:
    """What stands under a block after the changes."""
    changed = dict(entries)
    for record_key, patient_key in changes.items():
        if patient_key is None:
            changed.pop(record_key, None)
        else:
            changed[record_key] = patient_key
    return changed


def _state(block: int, entries: Iterable[int]) -> int:
    """Which records stand under the block, as ``expect_entries`` works it out."""
    state, factor = 0, block % 2147483629
    for record_key in entries:
        state ^= record_key % 2147483647 * factor
    return state


class _Remembered:
    """A record that may be compared many times."""

    __slots__ = ("blocks", "prepared", "record")

    def __init__(self, record: Record, prepared: Prepared | None, blocks: tuple[int, ...] | None) -> None:
        self.record = record
        self.prepared = prepared  # when it is first compared, for most never are
        self.blocks = blocks


class RememberingMatcher(LinkageMatcher):
    """Folds each record once, as long as it is remembered: records of a batch are compared many times."""

    def __init__(self, weights: Weights | None = None) -> None:
        super().__init__(weights)
        # By the identity of a record's parts, which what is remembered holds.
        self._remembered: dict[tuple[int, int], _Remembered] = {}

    def prepare(self, record: Record) -> Prepared:
        """As the matcher's own."""
        found = self._remembered.get((id(record.identifiers), id(record.demographics)))
        if found is not None and found.prepared is not None:
            return found.prepared
        prepared = super().prepare(record)
        if found is None:
            self._remember(_Remembered(record, prepared, None))
        else:
            found.prepared = prepared
        return prepared

    def blocks(self, record: Record) -> tuple[int, ...]:
        """As the matcher's own."""
        found = self._remembered.get((id(record.identifiers), id(record.demographics)))
        return super().blocks(record) if found is None or found.blocks is None else found.blocks

    def remember(self, record: Record, blocks: tuple[int, ...]) -> None:
        """Takes the blocks of a record, as another process has found them."""
        self._remember(_Remembered(record, None, blocks))

    def _remember(self, what: _Remembered) -> None:
        if len(self._remembered) >= REMEMBERED_MAX:
            for key in list(islice(self._remembered, REMEMBERED_MAX // 4)):
                del self._remembered[key]
        self._remembered[id(what.record.identifiers), id(what.record.demographics)] = what
