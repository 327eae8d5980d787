"""Goes over the patients of an index: finds pairs that the feeds missed, and learns the weights of matching."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import msgspec
import psycopg

from obieg.actors.patient_curation import OPERATOR
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.feeding_batch import Known, Memory
from obieg.domain.identifiers import PatientId
from obieg.domain.learning import learn
from obieg.domain.linkage import Weights
from obieg.domain.matching import Record
from obieg.domain.patient_index import KnownRecord
from obieg.domain.persons import Demographics
from obieg.domain.problems import RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.rematching import Rematching
from obieg.ops.asking import ask
from obieg.ops.failure import Failure
from obieg.ops.index_access import Access
from obieg.storage.bulk_store import BulkStore, audit_row, batch
from obieg.storage.patient_store import columns
from obieg.storage.statements import load

RECORDS_MAX = 500  # looked at in one transaction
SAMPLE_RECORDS = 50_000  # that weights are learned from
RECORDS_MIN = 1_000  # fewer say nothing of a region
ATTEMPTS_MAX = 5
_SQL = load("bulk.sql")
_LOCK = "rematch"


class Rematched(NamedTuple):
    """What going over the patients came to."""

    counts: Mapping[str, int]
    resumed: bool


def rematch(
    access: Access, by: str, *, again: bool, advance: Callable[[int, int, Mapping[str, int]], object]
) -> Rematched:
    """Looks at every record again, from where an interrupted run stopped. Raises Failure, RetryLater.

    ``advance`` is told how many records were looked at, how many there are, and what was found.
    """
    with closing(access.bulk("obieg patients rematch")) as store:
        try:
            store.begin(_LOCK)
        except LostRace:
            raise Failure(
                "Another process goes over the patients at this moment.",
                "Two would do the same work; this one did nothing.",
                "Wait for it, or end it: the next one goes on where it stopped.",
            ) from None
        [rows] = store.run(_SQL.read_rematch())
        resumed = bool(rows) and rows[0][3] is None and not again
        if not resumed:
            store.run(_SQL.begin_rematch(by=by))
        at: tuple[int, int] = (rows[0][0], rows[0][1]) if resumed else (0, 0)
        counts: Counter[str] = Counter(msgspec.json.decode(rows[0][2]) if resumed else {})
        [[(total,)]] = store.run(_SQL.count_records(after_patient=at[0], after_record=at[1]))
        worker = _Worker(access, store, by, counts)
        looked = 0
        while found := worker.step(at):
            at = found[-1]
            looked += len(found)
            advance(looked, total, worker.counts)
        store.run(_advance(at, worker.counts, finished=True))
        return Rematched(worker.counts, resumed)


class _Worker:
    def __init__(self, access: Access, store: BulkStore, by: str, counts: Counter[str]) -> None:
        self.counts = counts
        self._store = store
        self._audit = access.audit
        self._matcher = access.matcher
        self._authority = access.authority
        self._feeding = Rematching(**access.feeding_parts)
        self._event = AuditEvent(
            transaction=OPERATOR,
            event="patient_record",
            outcome=Outcome.SUCCESS,
            detail="rematch: linked as one person",
            source_user=by,
            requester=by,
        )

    def step(self, after: tuple[int, int]) -> list[tuple[int, int]]:
        """Looks at the next records; their keys, none when all were looked at."""
        for _ in range(ATTEMPTS_MAX):
            call = _SQL.next_records(after_patient=after[0], after_record=after[1], count=RECORDS_MAX)
            [rows] = self._store.run(call)
            if not rows:
                return []
            keys = [(patient_key, record_key) for patient_key, record_key, *_ in rows]
            try:
                self._look(keys, [(r[2], r[3], r[4]) for r in rows])
            except LostRace:
                continue
            return keys
        raise RetryLater("the patients were changed by others all the time; try again when less is going on")

    def _look(self, keys: list[tuple[int, int]], rows: list[tuple[Any, Any, Any]]) -> None:
        named = {PatientId(v, a) for authorities, values, _ in rows for a, v in zip(authorities, values, strict=True)}
        known = self._store.read(columns(sorted(named)), {block for *_, blocks in rows for block in blocks})
        memory = Memory(known)
        counts: Counter[str] = Counter()
        audit: list[bytes] = []
        here = _by_key(known)
        [open_pairs] = self._store.run(_SQL.find_open_pairs(patient_keys={r.patient_key for r in known.records}))
        listed = {frozenset(pair) for pair in open_pairs}
        for patient_key, record_key in keys:
            record = here.get((patient_key, record_key))
            if record is None:
                continue  # withdrawn since it was listed
            facts = memory.facts(record.record.identifiers, record.blocks)
            current = next((r for r in facts.records if r.record_key == record_key), None)
            if current is None:
                continue  # none of its identifiers names anybody: its patient is not looked for by it
            found = self._feeding.look_again(current, facts)
            if found.change is not None:
                memory.apply(found.change)
                counts["linked"] += len(found.change.links)
                counts["worklist"] += len(found.change.tasks)
                patients = [current.affinity_domain_id, *(known.ids[link.patient_key] for link in found.change.links)]
                objects = tuple(AuditObject("patient", str(PatientId(p, self._authority))) for p in patients)
                audit.append(audit_row(self._audit, msgspec.structs.replace(self._event, objects=objects)))
            for task in found.tasks:
                pair = frozenset((task.left_key, task.right_key))
                if pair not in listed:
                    listed.add(pair)
                    memory.writes.acts.append(task)
                    counts["worklist"] += 1
        after = self.counts + counts
        self._store.store(batch(memory.writes, {}, audit, _advance(keys[-1], after)))
        self.counts = after


def _by_key(known: Known) -> dict[tuple[int, int], KnownRecord]:
    return {(r.patient_key, r.record_key): r for r in known.records}


def _advance(at: tuple[int, int], counts: Mapping[str, int], *, finished: bool = False) -> Any:
    return _SQL.advance_rematch(
        after_patient=at[0], after_record=at[1], counts=msgspec.json.encode(counts), finished=finished
    )


# learning ------------------------------------------------------------------------------------------------------------


class Learned(NamedTuple):
    """Weights learned from the region's own records."""

    weights_id: int
    records: int
    people: int
    weights: Weights


def learn_weights(access: Access) -> Learned:
    """Learns from a sample of the records and keeps what was learned. Raises Failure where there are too few."""
    with psycopg.connect(access.dsn, autocommit=True, application_name="obieg patients learn") as connection:
        [(people,)] = ask(connection, _SQL.count_people)
        sample = ask(connection, _SQL.sample_records, after_patient=secrets.randbelow(2**62), count=SAMPLE_RECORDS)
        if len(sample) < SAMPLE_RECORDS:
            sample = ask(connection, _SQL.sample_records, after_patient=0, count=SAMPLE_RECORDS)
        if len(sample) < RECORDS_MIN:
            raise Failure(
                f"The index has {len(sample)} records.",
                f"Weights are learned from {RECORDS_MIN} at least; those that obieg brings stay in use.",
                "Try again when more patients are known.",
            )
        read = msgspec.json.Decoder(Demographics).decode
        records = [
            Record(tuple(map(PatientId, values, authorities)), read(said)) for authorities, values, said in sample
        ]
        weights = learn(records, people)
        given = {"records": len(records), "weights": msgspec.json.encode(weights)}
        [(weights_id,)] = ask(connection, _SQL.insert_weights, **given)
    return Learned(weights_id, len(records), people, weights)
