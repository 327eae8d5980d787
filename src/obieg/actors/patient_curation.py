"""What people decide about who is who, and taking it back (ITI TF-2:3.64; the worklist of the patient index).

A decision links two patients or keeps them apart; both can be undone. Undoing a link restores the state before it: each
id answers for its own patient again. What came while the link stood goes with whom its source speaks of: records by the
identifiers they state, documents by their sourcePatientId. A document of which nothing says whose it is stays with the
survivor and goes onto the worklist. Whoever read the two as one is listed, for the data-protection officer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

from obieg.actors.patient_index import ATTEMPTS_MAX, PatientIndex, about, pause
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.curation import (
    Access,
    CurationStore,
    KnownLink,
    KnownTask,
    Mixture,
    Moving,
    Undoing,
    Undone,
    divide,
    mixing,
)
from obieg.domain.feeding import not_yours
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.matching import Judgement, Matcher, Record
from obieg.domain.notices import ChangeKind, Moved, PatientChange, Subscribers
from obieg.domain.outbox import Outgoing
from obieg.domain.patient_index import Change, KnownRecord, NewLink, PatientStore, Retirement
from obieg.domain.patients import Candidate, PatientFeed, Standing, Task, TaskKind
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.versioning import new_versions
from obieg.protocol import Context

OPERATOR = "operator"  # the transaction under which acts of the worklist are audited


class Pair(NamedTuple):
    """Two records that were compared, one of each patient."""

    left: Record
    right: Record
    judgement: Judgement


class PatientCuration:
    """Decides, undoes, moves and explains; see the module docstring."""

    def __init__(
        self,
        store: CurationStore,
        patients: PatientStore,
        index: PatientIndex,
        *,
        assigning_authority: str,
        matcher: Matcher,
        subscribers: Subscribers,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_uuid: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        self._store = store
        self._patients = patients
        self._index = index
        self._authority = assigning_authority
        self._matcher = matcher
        self._subscribers = subscribers
        self._now = now
        self._new_uuid = new_uuid

    # the worklist -----------------------------------------------------------------------------------------------

    async def worklist(self, *, decided: bool = False, count: int = 50, skip: int = 0) -> Sequence[Task]:
        """What is to be decided, oldest first; with ``decided`` the log of decisions after it."""
        return await self._tasks(await self._store.tasks(decided=decided, count=count, skip=skip))

    async def task(self, task_id: int) -> Task | None:
        """One line of the worklist."""
        found = await self._tasks(await self._store.tasks(task_id=task_id, count=1))
        return found[0] if found else None

    async def open_tasks(self) -> int:
        """How many lines are open."""
        return await self._store.open_tasks()

    async def decide(self, task_id: int, *, same: bool, by: str, note: str = "") -> None:
        """Closes a line: both are one person (they are linked) or they are not (never joined automatically).

        Of one person the affinity-domain id on the left stays, unless only the other is one that the affinity domain's
        own authority gave. A doubtful document is the right patient's (it goes there, with what was submitted with it)
        or stays. Raises Problem UnknownTask for a line that is not there or not open any more, MixedSubmission for a
        document that was submitted with one of the left patient, AlreadyLinked for "different" while a link stands.
        """
        found = await self._store.tasks(task_id=task_id, count=1)
        if not found or found[0].decision:
            said = "there is no open line of this number on the worklist; obieg patients worklist shows the open ones"
            raise Problem.of("UnknownTask", said, str(task_id))
        task = found[0]
        left = await self._survivor(task.left_key)
        right = left if task.right_key is None else await self._survivor(task.right_key)
        if task.kind is TaskKind.DOUBTFUL_DOCUMENT and same and left != right:
            await self._assign(task, left, right, by, note)
        elif same and left != right:
            if await self._is_named(right) and not await self._is_named(left):
                left, right = right, left
            await self._join(left, right, task_id, by, note)
        elif same:
            event = await self._event("confirm", (left,), by)
            await self._store.confirm(task_id, by, note, event)
        elif left == right and task.right_key is not None:
            said = "both are one patient; take the link back first"
            raise Problem.of("AlreadyLinked", said, str(task_id))
        else:
            event = await self._event("keep apart", (task.left_key, task.right_key), by)
            await self._store.part(task.left_key, task.right_key, task_id, by, note, event)

    async def link(self, survivor: PatientId, other: PatientId, *, by: str, note: str = "") -> PatientId:
        """Two patients are one person; the survivor's affinity-domain id. Both ids stay in use."""
        left, right = await self._standing(survivor), await self._standing(other)
        if left.patient_key == right.patient_key:
            raise Problem.of("AlreadyLinked", "both identifiers name one patient already", str(other))
        await self._join(left.patient_key, right.patient_key, 0, by, note)
        return PatientId(left.affinity_domain_id, self._authority)

    async def keep_apart(self, left: PatientId, right: PatientId, *, by: str, note: str = "") -> None:
        """Two patients are different people; the matcher does not join them again."""
        one, other = await self._standing(left), await self._standing(right)
        if one.patient_key == other.patient_key:
            raise Problem.of("AlreadyLinked", "both identifiers name one patient; take the link back first", str(right))
        event = await self._event("keep apart", (one.patient_key, other.patient_key), by)
        await self._store.part(one.patient_key, other.patient_key, 0, by, note, event)

    async def _is_named(self, key: int) -> bool:
        """Whether the affinity domain's own authority has named the patient, rather than this region."""
        found = await self._patients.patients((key,))
        return any(i.authority == self._authority for i in found[key].identifiers)

    async def _assign(self, task: KnownTask, left: int, right: int, by: str, note: str) -> None:
        """A document, and the doubtful ones of its submission set, go to the right patient."""
        together = await self._store.submitted_with(task.detail)
        lines = {uuid: line for uuid, line in together if line is not None}
        event = await self._event("assign documents", (right, left), by)
        if len(lines) == len(together) and task.detail in lines:
            try:
                await self._store.assign(left, right, lines, by, note, event)
            except LostRace:
                pass  # one of the documents is related to one that stays
            else:
                return
        said = "it belongs to documents of the other patient by its submission set or a relation; register it anew"
        raise Problem.of("MixedSubmission", said, f"DocumentEntry urn:uuid:{task.detail}")

    async def _join(self, left: int, right: int, task_id: int, by: str, note: str) -> None:
        for attempt in range(ATTEMPTS_MAX):
            await pause(attempt)
            survivor, other = await self._survivor(left), await self._survivor(right)
            if survivor == other:
                raise Problem.of("AlreadyLinked", "both are one patient already; the line needs no decision", "")
            event = await self._event("link", (survivor, other), by)
            told = await self._told(survivor, other)
            change = Change(patient_key=survivor, links=(NewLink(other, "decision", by),), outgoing=told)
            try:
                await self._store.join(change, task_id, by, note, event)
            except LostRace:
                continue
            return
        raise _contended()

    # taking back ------------------------------------------------------------------------------------------------

    async def unlink(self, identifier: PatientId, *, by: str) -> Undone:
        """Takes back the link of the patient whom the identifier named, be it retired by a merge or not.

        Raises Problem NotLinked where there is nothing to take back.
        """
        for attempt in range(ATTEMPTS_MAX):
            await pause(attempt)
            stands = await self._store.stands(identifier)
            if stands is None:
                raise Problem.of("UnknownKeyIdentifier", "no patient has or had this identifier", str(identifier))
            key, retired, retired_by = stands
            within = retired and not retired_by  # the patient was one already when the source merged the numbers
            known = None if within else await self._store.link_of(retired_by or key)
            if within and not any(identifier in r.identifiers for r in (await self._store.stated(key))[1]):
                said = "its source has changed this number (A47, A43) and no record states it any more; change it again"
                raise Problem.of("NotLinked", said, str(identifier))
            if within:
                event = await self._event("revive identifier", (key,), by)
                await self._store.revive(identifier, event)
                patient = await self._id(key)
                return Undone(patient, patient, (), (), ())
            if known is None:
                said = "this patient is linked to no other one; name the one whose link is to be taken back"
                raise Problem.of("NotLinked", said, str(identifier))
            try:
                return await self._undo(known, by)
            except LostRace:
                continue
        raise _contended()

    async def _undo(self, known: KnownLink, by: str) -> Undone:
        key, survivor, link = known.patient_key, known.survivor_key, known.link
        links = await self._store.links(survivor)
        below = self._below(known, links)
        came = mixing(known, links)
        version, records = await self._store.stated(survivor)
        division = divide(records, below, came)
        theirs, others = division.theirs, division.others
        moved: list[str] = []
        doubtful: list[str] = []
        documents = await self._store.documents_since(came)
        for uuid, source in documents:
            source_id = patient_id(source)
            if source_id in theirs and source_id not in others:
                moved.append(uuid)
            elif source_id not in others or source_id in theirs:
                doubtful.append(uuid)
        survivor_id = await self._id(survivor)
        event = await self._event("unlink", (key, survivor), by)
        outgoing = [
            *self._subscribers.changed(
                PatientChange(
                    ChangeKind.LINK,
                    link.patient,
                    key,
                    (*sorted(theirs), link.patient),
                    (*sorted(theirs | others), survivor_id),
                    former=survivor_id,
                    moved=tuple(Moved(i) for i in sorted(theirs - others) if i.authority != self._authority),
                )
            ),
            *self._subscribers.changed(
                PatientChange(
                    ChangeKind.IDENTIFIERS,
                    survivor_id,
                    survivor,
                    (*sorted(others), survivor_id),
                    (*sorted(theirs | others), survivor_id),
                )
            ),
        ]
        undoing = Undoing(
            known, by, version, came, division.records, tuple(moved), tuple(doubtful), len(documents), tuple(outgoing)
        )
        left_behind = await self._store.undo(undoing, event)
        seen = await self._store.accesses(key, link.linked_at, self._now(), reading=True)
        return Undone(
            link.patient,
            survivor_id,
            tuple(uuid for uuid in moved if uuid not in left_behind),
            (*doubtful, *left_behind),
            tuple(seen),
        )

    @staticmethod
    def _below(known: KnownLink, links: Iterable[KnownLink]) -> set[int]:
        """The patient of the link and all that were merged into it."""
        below = {known.patient_key}
        while more := {k.patient_key for k in links if k.into_key in below} - below:
            below |= more
        return below

    async def mixtures(self, patient: PatientId | None = None) -> Sequence[Mixture]:
        """Links that were taken back: who was read as one with whom, and for how long."""
        return await self._store.mixtures(await self._own_key(patient) if patient else 0)

    async def seen_mixed(self, mixture: Mixture) -> Sequence[Access]:
        """Who read the two as one."""
        key = await self._own_key(mixture.patient)
        return await self._store.accesses(key, mixture.linked_at, mixture.unlinked_at, reading=True)

    async def accesses(self, patient: PatientId, since: datetime, until: datetime) -> Sequence[Access]:
        """The patient's access log: what was read under the own id, and under another one while both were linked."""
        return await self._store.accesses(await self._own_key(patient), since, until)

    # explaining -------------------------------------------------------------------------------------------------

    async def explain(self, left: PatientId, right: PatientId) -> Sequence[Pair]:
        """Why these two match or do not: every record of the one against every record of the other, best first."""
        one = [r.record for r in await self._records(left)]
        other = [r.record for r in await self._records(right)]
        pairs = [Pair(a, b, self._matcher.explain(a, b)) for a in one for b in other]
        return sorted(pairs, key=lambda pair: -pair.judgement.score)

    # ITI-64 -----------------------------------------------------------------------------------------------------

    async def move(self, feed: PatientFeed, context: Context) -> PatientId:
        """A source's number goes to another affinity-domain id (ADT^A43): its record and its documents go along.

        PID-3 has the id it goes to, MRG-1 the one it comes from; beside them the source's own numbers.
        """
        fed = context.objects
        for attempt in range(ATTEMPTS_MAX):
            await pause(attempt)
            context.objects = fed
            known = await self._patients.standing((*feed.identifiers, *feed.merged))
            target = self._xad(feed.identifiers, feed.identifier_locations, known, "PID-3")
            source = self._xad(feed.merged, feed.merged_locations, known, "MRG-1")
            new = [i for i in feed.identifiers if i != target]
            old = [i for i in feed.merged if i != source] or new
            self._expect_free(feed, new, old, known, (known[source].patient_key, known[target].patient_key))
            context.objects = about([target], context.objects)
            moving = await self._moving(feed, known[source], known[target], old, new, context)
            try:
                await self._store.move(moving, context.audit())
            except LostRace:
                continue
            context.audited = True
            return target
        raise _contended()

    def _expect_free(
        self,
        feed: PatientFeed,
        new: Sequence[PatientId],
        old: Sequence[PatientId],
        known: Mapping[PatientId, Standing],
        both: tuple[int, int],
    ) -> None:
        """The source's numbers must name nobody else, and those that stay in use must not be retired.

        What is of the affinity domain's authority beside the id is no number that the index keeps: only the documents
        say it, as their sourcePatientId.
        """
        findings = []
        for i in new:
            at = feed.identifier_locations[feed.identifiers.index(i)] if feed.identifier_locations else "PID-3"
            if i in known and known[i].retired:
                said = "the identifier was merged into another and names nobody; send the surviving one"
                findings.append(Finding("UnknownKeyIdentifier", said, at))
            elif i.authority != self._authority and i in known and known[i].patient_key not in both:
                said = "it belongs to a third patient; nothing was moved"
                findings.append(Finding("DuplicateKeyIdentifier", said, at))
            elif i not in old and all(i.authority != o.authority for o in old):
                said = "both local identifiers must be of one assigning authority; nothing was moved"
                findings.append(Finding("UnknownKeyIdentifier", said, at))
        for i in old:
            if i not in new and i.authority != self._authority and i in known and known[i].patient_key not in both:
                at = feed.merged_locations[feed.merged.index(i)] if feed.merged_locations else "MRG-1"
                said = "it belongs to a third patient; nothing was moved"
                findings.append(Finding("DuplicateKeyIdentifier", said, at))
        if findings:
            raise Problem(findings)

    async def _moving(
        self,
        feed: PatientFeed,
        source: Standing,
        target: Standing,
        old: Sequence[PatientId],
        new: Sequence[PatientId],
        context: Context,
    ) -> Moving:
        came = set(await self._store.replaced(old)) if old else set()
        both = [PatientId(standing.affinity_domain_id, self._authority) for standing in (source, target)]
        facts = await self._patients.facts((*sorted(came.union(old, both)), *new), ())
        known = facts.standings
        theirs = [r for r in facts.records if r.survivor_key == source.patient_key]
        records = [r for r in theirs if came & set(r.record.identifiers)]
        compared = self._expect_own(feed, facts.records, records or theirs, source, target, context)
        kept = {i for r in theirs if r not in records for i in r.record.identifiers}
        replaced = {i: n for i in old for n in new if n.authority == i.authority and n != i}
        # Where both numbers are known each keeps its record, as after a merge.
        changed = [(r, self._renumbered(r, {i: n for i, n in replaced.items() if n not in known})) for r in records]
        moved = tuple(
            dict.fromkeys(
                i for _, r in changed for i in r.record.identifiers if i.authority != self._authority and i not in kept
            )
        )
        retired = tuple(
            Retirement(i, 0, n)
            for i, n in replaced.items()
            if i.authority != self._authority and i in known and not known[i].retired
        )
        claimed = tuple(i for i in new if i not in known and records and replaced and i.authority != self._authority)
        told = [i for i in moved if i not in facts.retired]
        outgoing = self._moved(source, target, told) if source.patient_key != target.patient_key and told else ()
        filed = await self._store.filed(source.patient_key, sorted(came)) if came else ()
        versions = new_versions(
            filed,
            numbers=came,
            renamed=replaced,
            patient=PatientId(target.affinity_domain_id, self._authority),
            patient_key=target.patient_key if target.patient_key != source.patient_key else None,
            former=PatientId(source.affinity_domain_id, self._authority),
            now=context.received_at.strftime("%Y%m%d%H%M%S"),
            new_uuid=self._new_uuid,
        )
        return Moving(
            source.patient_key,
            target.patient_key,
            versions,
            tuple(r for was, r in changed if source.patient_key != target.patient_key or r != was),
            moved,
            claimed,
            retired,
            outgoing,
            compared,
        )

    def _expect_own(
        self,
        feed: PatientFeed,
        known: Sequence[KnownRecord],
        going: Sequence[KnownRecord],
        source: Standing,
        target: Standing,
        context: Context,
    ) -> tuple[tuple[int, int], ...]:
        """What goes is the feeder's, and goes to nobody of whom others have records. Raises Problem.

        Returns the versions of the patients by which it was judged.
        """
        feeder = self._index.feeder(context.requester)
        if feeder.region or not feeder.bound:
            return ()
        named = {i for i in (*feed.identifiers, *feed.merged) if i.authority != self._authority}
        stating = [r for r in known if named & set(r.record.identifiers)]
        findings = [*not_yours(feed, feed.merged[0], (*going, *stating), feeder)]
        if target.patient_key != source.patient_key:
            to = [r for r in known if r.survivor_key == target.patient_key]
            findings += not_yours(feed, feed.identifiers[0], to, feeder)
        if findings:
            raise Problem(findings)
        both = {source.patient_key, target.patient_key}
        return tuple(sorted({(r.survivor_key, r.patient_version) for r in known if r.survivor_key in both}))

    def _renumbered(self, known: KnownRecord, replaced: Mapping[PatientId, PatientId]) -> KnownRecord:
        identifiers = tuple(dict.fromkeys(replaced.get(i) or i for i in known.record.identifiers))
        record = Record(identifiers, known.record.demographics)
        return known._replace(record=record)

    def _moved(self, source: Standing, target: Standing, moved: Sequence[PatientId]) -> tuple[Outgoing, ...]:
        former = PatientId(source.affinity_domain_id, self._authority)
        now = PatientId(target.affinity_domain_id, self._authority)
        return (
            *self._subscribers.changed(
                PatientChange(
                    ChangeKind.LINK, now, target.patient_key, (*moved, now), (former, *moved), former=former,
                    moved=tuple(Moved(i) for i in moved),
                )
            ),
            *self._subscribers.changed(
                PatientChange(ChangeKind.IDENTIFIERS, former, source.patient_key, (former,), (former, *moved))
            ),
        )  # fmt: skip

    def _xad(
        self,
        identifiers: Sequence[PatientId],
        locations: Sequence[str],
        known: Mapping[PatientId, Standing],
        field: str,
    ) -> PatientId:
        """The affinity-domain id among the identifiers of a field; the source's own numbers may be of its authority."""
        for i in identifiers:
            if i.authority == self._authority and i in known and not known[i].retired:
                return i
        named = [(i, at) for i, at in zip(identifiers, locations, strict=False) if i.authority == self._authority]
        said = "one of the identifiers must be an affinity-domain id that names a patient; none of them does"
        raise Problem([Finding("UnknownKeyIdentifier", said, named[0][1] if named else field)])

    # what all of it needs ---------------------------------------------------------------------------------------

    async def _standing(self, identifier: PatientId) -> Standing:
        standing = (await self._patients.standing((identifier,))).get(identifier)
        if standing is None or standing.retired:
            said = "no patient has this identifier (any more)"
            raise Problem.of("UnknownKeyIdentifier", said, str(identifier))
        return standing

    async def _records(self, identifier: PatientId) -> Sequence[KnownRecord]:
        """What stands under the identifier's own patient; a retired one shows what was merged."""
        stands = await self._store.stands(identifier)
        if stands is None:
            raise Problem.of("UnknownKeyIdentifier", "no patient has or had this identifier", str(identifier))
        facts = await self._patients.facts((identifier,), ())
        own = [r for r in facts.records if r.patient_key == stands[0]]
        return own or facts.records

    async def _own_key(self, identifier: PatientId) -> int:
        """Under which patient the identifier itself stands, be it merged or not."""
        stands = await self._store.stands(identifier)
        if stands is None:
            raise Problem.of("UnknownKeyIdentifier", "no patient has or had this identifier", str(identifier))
        return stands[0]

    async def _survivor(self, key: int) -> int:
        known = await self._store.link_of(key)
        return known.survivor_key if known else key

    async def _id(self, key: int) -> PatientId:
        found = await self._patients.patients((key,))
        return PatientId(found[key].affinity_domain_id, self._authority)

    async def _told(self, survivor: int, other: int) -> tuple[Outgoing, ...]:
        found = await self._patients.patients((survivor, other))
        kept, came = found[survivor], found[other]
        id_ = PatientId(kept.affinity_domain_id, self._authority)
        return tuple(
            self._subscribers.changed(
                PatientChange(
                    ChangeKind.LINK,
                    id_,
                    survivor,
                    (*kept.identifiers, *came.identifiers, id_),
                    (*kept.identifiers, id_),
                    former=PatientId(came.affinity_domain_id, self._authority),
                    moved=tuple(Moved(i) for i in came.identifiers),
                )
            )
        )

    async def _event(self, what: str, keys: Sequence[int | None], by: str) -> AuditEvent:
        found = await self._patients.patients(tuple(key for key in keys if key is not None))
        objects = tuple(
            AuditObject(kind="patient", identifier=str(PatientId(p.affinity_domain_id, self._authority)))
            for p in found.values()
        )
        return AuditEvent(
            transaction=OPERATOR, event="patient_record", outcome=Outcome.SUCCESS, detail=what, source_user=by,
            requester=by, objects=objects,
        )  # fmt: skip

    async def _tasks(self, known: Sequence[KnownTask]) -> list[Task]:
        keys = {key for task in known for key in (task.left_key, task.right_key) if key is not None}
        patients = await self._index.candidates(sorted(keys)) if keys else {}

        def side(key: int | None) -> Candidate | None:
            return patients.get(key) if key is not None else None

        return [
            Task(
                task_id=task.task_id,
                kind=task.kind,
                left=left,
                right=side(task.right_key),
                judgement=task.judgement,
                detail=task.detail,
                opened_at=task.opened_at,
                decision=task.decision,
                decided_by=task.decided_by,
                decided_at=task.decided_at,
                note=task.note,
            )
            for task in known
            if (left := side(task.left_key)) is not None
        ]


def _contended() -> RetryLater:
    return RetryLater(f"the patient was changed by others {ATTEMPTS_MAX} times meanwhile; do it again")
