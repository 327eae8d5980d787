"""Our engine on a list of records, with the rules by which the index attaches a record to a patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.linkage.records import Kept
from obieg.domain.linkage import LinkageMatcher, Prepared, best, of_one_person
from obieg.domain.matching import Judgement, Record, Verdict


@dataclass
class Linked:
    """Who is who after all records came in, one after the other."""

    patients: list[int] = field(default_factory=list)  # of each record
    worklist: set[tuple[int, int]] = field(default_factory=set)  # pairs of records for a person to decide
    judged: int = 0


class Index:
    """The patient index in memory: a record comes in, is compared with who is there, is attached or stays alone."""

    def __init__(self, matcher: LinkageMatcher) -> None:
        self._matcher = matcher
        self._records: list[Prepared] = []
        self._patient: list[int] = []
        self._members: dict[int, list[int]] = {}
        self._by_key: dict[object, list[int]] = defaultdict(list)
        self._open: set[tuple[int, int]] = set()
        self.judged = 0

    def add(self, record: Record) -> None:
        prepared = self._matcher.prepare(record)
        number = len(self._records)
        keys = _keys(self._matcher, prepared)
        found: dict[int, list[int]] = defaultdict(list)
        for other in dict.fromkeys(n for key in keys for n in self._by_key[key]):
            found[self._patient[other]].append(other)
        judged = {patient: self._judge(prepared, patient, others) for patient, others in found.items()}
        same = [patient for patient, judgement in judged.items() if judgement.verdict is Verdict.SAME]
        same.sort(key=lambda patient: (bool(judged[patient].rule), judged[patient].score), reverse=True)
        patients = of_one_person(same, self._conflicts, by_number=bool(same) and bool(judged[same[0]].rule))
        self._records.append(prepared)
        self._patient.append(number)
        self._members[number] = [number]
        for key in keys:
            self._by_key[key].append(number)
        for patient, judgement in judged.items():
            if patient in patients:
                self._join(patient, number)
            elif judgement.verdict is not Verdict.DIFFERENT:
                self._open.add((self._members[patient][0], number))

    def linked(self) -> Linked:
        open_now = {(a, b) for a, b in self._open if self._patient[a] != self._patient[b]}
        return Linked(self._patient, open_now, self.judged)

    def _judge(self, prepared: Prepared, patient: int, blocked: Sequence[int]) -> Judgement:
        """With the records found first; only when one is the same, with all others of the patient."""
        judgements = [self._one(prepared, n) for n in blocked]
        if any(j.verdict is Verdict.SAME for j in judgements):
            seen = set(blocked)
            judgements += [self._one(prepared, n) for n in self._members[patient] if n not in seen]
        return best(judgements)

    def _one(self, prepared: Prepared, number: int) -> Judgement:
        self.judged += 1
        return self._matcher.judge_prepared(prepared, self._records[number])

    def _conflicts(self, left: int, right: int) -> set[str]:
        pairs = [self._one(self._records[a], b) for a in self._members[left] for b in self._members[right]]
        return {judgement.rule for judgement in pairs if judgement.conflict}

    def _join(self, patient: int, number: int) -> None:
        kept = self._patient[number]
        for member in self._members.pop(patient):
            self._patient[member] = kept
            self._members[kept].append(member)


def link(records: Sequence[Record], matcher: LinkageMatcher) -> Linked:
    index = Index(matcher)
    for record in records:
        index.add(record)
    return index.linked()


def completeness(records: Sequence[Kept], matcher: LinkageMatcher) -> float:
    """The share of the true pairs that share a key or a number, so that they are judged at all."""
    of: dict[int, list[frozenset[object]]] = defaultdict(list)
    for kept in records:
        if not kept.planted:
            of[kept.person].append(frozenset(_keys(matcher, matcher.prepare(kept.record))))
    met = pairs = 0
    for keys in of.values():
        for place, left in enumerate(keys):
            for right in keys[place + 1 :]:
                pairs += 1
                met += not left.isdisjoint(right)
    return met / pairs if pairs else 1.0


def _keys(matcher: LinkageMatcher, prepared: Prepared) -> list[object]:
    keys: list[object] = [*matcher.blocks(prepared.record), *prepared.documents, *prepared.numbers]
    return [*keys, prepared.pesel] if prepared.pesel else keys
