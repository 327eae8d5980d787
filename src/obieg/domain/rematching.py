"""Looks at records again that stand already: whom the feeds missed, because another came first or weights have changed.

What follows is what would follow if the source said the record anew: links, or lines of the worklist.
"""

from __future__ import annotations

from typing import NamedTuple

from obieg.domain.feeding import Feeding, Meeting, by_patient, likeliest
from obieg.domain.identifiers import PatientId
from obieg.domain.patient_index import Change, Facts, KnownRecord, NewTask


class Found(NamedTuple):
    """What was found: a change that links, else lines for the worklist."""

    change: Change | None
    tasks: tuple[NewTask, ...]


class Rematching(Feeding):
    """Decides about records that stand."""

    def look_again(self, known: KnownRecord, facts: Facts) -> Found:
        """What the record leads to; ``facts`` are those of its identifiers and blocks."""
        key = known.survivor_key
        kin = [r for r in facts.records if r.survivor_key == key]
        others = [r for r in kin if r.record_key != known.record_key]
        meeting = Meeting(self._matcher, self._authority, facts, key, known.record, others)
        meeting.meet_all(by_patient(facts.candidates))
        tasks = likeliest(meeting.tasks)
        if not meeting.links:
            return Found(None, tasks)
        survivor, id_ = meeting.survivor(), PatientId(known.affinity_domain_id, self._authority)
        links = [link._replace(patient_key=key) if link.patient_key == survivor else link for link in meeting.links]
        if survivor != key:
            kin = [r for r in (*facts.records, *facts.candidates) if r.survivor_key == survivor]
            id_ = PatientId(kin[0].affinity_domain_id, self._authority)
        change = Change(patient_key=survivor, versions=meeting.versions(), links=tuple(links), tasks=tasks)
        return Found(self.announced(change, id_, facts, kin), ())
