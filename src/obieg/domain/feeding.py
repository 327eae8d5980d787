"""What a feed does to the index: from what is known to what is written, without touching anything (ITI TF-2:3.8, 3.30).

Rules. A feed states one source's record. Its own numbers (local ones, the affinity-domain id) say whom it is about; a
national number (PESEL) does so only where the records do not contradict one another, because numbers are mistyped. For
a person whom no number names the matcher decides: the same (the record joins the patient), to be decided (a new patient
and a line of the worklist) or different. The affinity domain's own authority names its patients itself; for all others
the region allocates an opaque id that says nothing of the person.

A merge (A40, ITI TF-2:3.8.4.2) moves nothing: the subsumed patient is linked to the surviving one. The identifiers of
MRG-1 and the subsumed affinity-domain id are retired: they find and register nothing. Other identifiers of the subsumed
patient, which the source of the merge did not speak of, lead to the survivor. The standard lets no merge happen where
either id is unknown or already subsumed, where both are the same, or where they are of different domains (the list in
3.8.4.2.4, Document Registry); each of these is refused with its reason and creates nothing. A merge that was already
made as asked is acknowledged, since its source only missed the first acknowledgement. A link that the index makes by
itself, or a person by deciding, retires nothing: both ids answer for both.

A :class:`~obieg.domain.patients.Feeder` who is bound changes its own records alone, and speaks of no patient of whom it
has none. Numbers that are nobody's own (PESEL, identity papers) then never say by themselves whom it means: the matcher
joins its record to those of others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from obieg.domain.authorities import Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.linkage import of_one_person
from obieg.domain.matching import Judgement, Matcher, Record, Verdict
from obieg.domain.notices import ChangeKind, Moved, PatientChange, Subscribers
from obieg.domain.patient_index import Change, Facts, KnownRecord, NewLink, NewTask, Retirement, SavedRecord
from obieg.domain.patients import Feeder, FeedEvent, PatientFeed, Standing, TaskKind
from obieg.domain.persons import Demographics
from obieg.domain.problems import Finding, Problem

TASKS_MAX = 3  # lines that one feed adds to the worklist: the likeliest
MERGED_BY_SOURCE = "merged by its source"  # a line about a merge of two national numbers
ANYBODY = Feeder()


class Decision(NamedTuple):
    """What is to be written, or None where all of it stands already, and the patient it is about.

    Where ``look`` names blocks the record turned out to be another one than the feed alone (it keeps what was said
    before): the candidates under these are to be read, and the feed is to be decided anew.
    """

    change: Change | None
    patient: PatientId
    look: tuple[int, ...] = ()


class _Fitting(NamedTuple):
    """The patients whom a record may be of."""

    joined: int | None  # whose it becomes
    taken: Mapping[int, Judgement]  # that one, and who is one person with it
    doubtful: Mapping[int, Judgement]  # for a person to decide


class Feeding:
    """Decides feeds; knows no database, no clock and no chance but what it is given."""

    def __init__(
        self,
        *,
        matcher: Matcher,
        authorities: Authorities,
        assigning_authority: str,
        new_id: Callable[[], str],
        new_key: Callable[[], int],
        subscribers: Subscribers,
    ) -> None:
        self._matcher = matcher
        self._authorities = authorities
        self._authority = assigning_authority
        self._new_id = new_id
        self._new_key = new_key
        self._subscribers = subscribers

    def blocks(self, feed: PatientFeed) -> tuple[int, ...]:
        """Under which keys the same person may be found."""
        if not feed.event.states_record:
            return ()
        return self._matcher.blocks(Record(feed.identifiers, feed.demographics))

    def decide(
        self, feed: PatientFeed, facts: Facts, looked: tuple[int, ...] = (), feeder: Feeder = ANYBODY
    ) -> Decision:
        """What the feed changes; raises Problem with everything that is wrong with it.

        The candidates of ``facts`` are those under the blocks ``looked``.
        """
        if feed.event is FeedEvent.MERGE:
            return self._merge(feed, facts, feeder)
        if feed.event is FeedEvent.CHANGE_IDENTIFIERS:
            return self._change_identifiers(feed, facts, feeder)
        if feed.event is FeedEvent.REMOVE:
            return self._remove(feed, facts, feeder)
        return self._state(feed, facts, looked, feeder)

    # whose records ----------------------------------------------------------------------------------------------

    def _foreign(
        self, feed: PatientFeed, identifiers: Iterable[PatientId], facts: Facts, feeder: Feeder
    ) -> Iterator[Finding]:
        """Facilities' own numbers that records of other feeders state."""
        if not feeder.bound:
            return
        for i in identifiers:
            if i.authority != self._authority and not self._authorities.is_shared(i.authority):
                stating = [r for r in facts.records if i in r.record.identifiers]
                yield from not_yours(feed, i, stating, feeder) if stating else ()

    def _stranger(self, feed: PatientFeed, patient: Standing, facts: Facts, feeder: Feeder) -> Iterator[Finding]:
        """A patient of whom the feeder has no record: others have, or had and their documents are still there."""
        kin = [r for r in facts.records if r.survivor_key == patient.patient_key]
        if not feeder.region and not any(feeder.owns(r.fed_by) for r in kin):
            named = (i for i in feed.identifiers if i in facts.standings)
            yield from not_yours(feed, next(named), kin, feeder)

    def _means(self, identifier: PatientId, facts: Facts, feeder: Feeder) -> bool:
        """Whether the identifier says by itself whom the feeder means."""
        if self._authorities.is_single(identifier.authority):
            return False
        if not feeder.bound or not self._authorities.is_shared(identifier.authority):
            return True
        return any(identifier in r.record.identifiers and feeder.owns(r.fed_by) for r in facts.records)

    # a record ---------------------------------------------------------------------------------------------------

    def _state(self, feed: PatientFeed, facts: Facts, looked: tuple[int, ...], feeder: Feeder) -> Decision:
        known = facts.standings
        trusted = [i for i in feed.identifiers if self._means(i, facts, feeder)]
        anchor, findings = _named(feed, trusted, known)
        findings += self._unassignable(feed, known, feeder)
        foreign = [*self._foreign(feed, feed.identifiers, facts, feeder)]
        if feeder.bound and anchor is not None and not foreign:
            foreign += self._stranger(feed, anchor, facts, feeder)
        findings += foreign
        own = [i for i in feed.identifiers if i.authority == self._authority]
        if len(own) > 1:
            findings.append(_finding(feed, own[1], "DuplicateKeyIdentifier", "a patient has one affinity-domain id"))
        elif anchor is not None and own and own[0] not in known and own[0].value != anchor.affinity_domain_id:
            said = "the other identifiers' patient has another affinity-domain id; send A40 if they are one person"
            findings.append(_finding(feed, own[0], "DuplicateKeyIdentifier", said))
        for i in feed.identifiers if known else ():
            if i not in trusted and i in known and known[i].retired:
                findings.append(_finding(feed, i, "UnknownKeyIdentifier", _RETIRED))
        if len(feed.identifiers) > len(trusted) + 1:
            findings += self._two_numbers(feed)
        if findings:
            raise Problem(findings)
        if anchor is not None:
            return self._of_known(feed, facts, anchor, looked, feeder)
        return self._of_unnamed(feed, facts, own[0] if own else None, feeder)

    def _unassignable(
        self, feed: PatientFeed, known: Mapping[PatientId, Standing], feeder: Feeder
    ) -> Iterator[Finding]:
        names = feeder.names if feeder.bound else feed.source.split("|")
        for i in feed.identifiers:
            if i not in known and not self._authorities.may_assign(names, i.authority):
                said = "this sender may not give out new numbers of this assigning authority; nothing was stored"
                yield _finding(feed, i, "AuthorityNotYours", said)

    def _two_numbers(self, feed: PatientFeed) -> Iterator[Finding]:
        seen: dict[str, PatientId] = {}
        for i in feed.identifiers:
            if self._authorities.is_single(i.authority) and seen.setdefault(i.authority, i) != i:
                said = "a person has one number in this authority, and the message gives two; nothing was stored"
                yield _finding(feed, i, "DuplicateKeyIdentifier", said)

    def _of_known(
        self, feed: PatientFeed, facts: Facts, patient: Standing, looked: tuple[int, ...], feeder: Feeder
    ) -> Decision:
        """A feed about a patient whom the source's own numbers name."""
        key = patient.patient_key
        kin = [r for r in facts.records if r.survivor_key == key]
        old = self._own_record(feed, kin, feeder)
        record = _merged(old.record if old else Record(), feed)
        released: tuple[PatientId, ...] = ()
        if old is not None:
            record, released = self._corrected(feed, old, record, kin)
        others = [r for r in kin if old is None or r.record_key != old.record_key]
        known = set(old.record.identifiers) if old else set()
        self._refuse_second_number(feed, known, others)
        meeting = Meeting(self._matcher, self._authority, facts, key, record, others)
        for i in feed.identifiers:
            standing = facts.standings.get(i)
            if standing is not None and standing.patient_key != key and i not in known:
                meeting.meet(standing.patient_key, [r for r in facts.records if r.survivor_key == standing.patient_key])
        blocks = self._matcher.blocks(record)
        moved = old is None or blocks != old.blocks
        if moved and blocks != looked:
            return Decision(None, PatientId(patient.affinity_domain_id, self._authority), blocks)
        if moved:
            meeting.meet_all(by_patient(facts.candidates))
        # A mistyped number leads to nobody; one that another patient gave up leads to who still states it.
        claimed = [i for i in feed.identifiers if i not in facts.standings and not self._has_another(others, i)]
        tasks = [*meeting.tasks, *self._unfit(old, record, others, key)]
        fed_by = feeder.after(old.fed_by if old else "")
        stands = old is not None and record == old.record and bool(old.fed_by) == bool(fed_by)
        if stands and not tasks and not meeting.links and not claimed:
            return Decision(None, PatientId(patient.affinity_domain_id, self._authority))
        saved = SavedRecord(
            patient_key=old.patient_key if old else key,
            record_key=old.record_key if old else self._new_key(),
            version=old.version if old else 0,
            source=feed.source,
            record=record,
            blocks=blocks,
            blocks_changed=moved,
            fed_by=fed_by,
        )
        survivor, id_ = meeting.survivor(), PatientId(patient.affinity_domain_id, self._authority)
        links = [link._replace(patient_key=key) if link.patient_key == survivor else link for link in meeting.links]
        if survivor != key:
            kin = [r for r in (*facts.records, *facts.candidates) if r.survivor_key == survivor]
            id_ = PatientId(kin[0].affinity_domain_id, self._authority)
        change = Change(
            patient_key=survivor,
            record=saved,
            claimed=tuple(claimed),
            released=released,
            numbers=self._numbers_then(record, known, others) if not links else (),
            versions=meeting.versions() if links else (),
            kin=_linked(kin, survivor),
            links=tuple(links),
            tasks=likeliest(tasks),
            blocks=blocks if moved else (),
            in_blocks=facts.in_blocks,
            standing=_standing(feed, facts),
        )
        return Decision(self.announced(change, id_, facts, kin), id_)

    def _of_unnamed(self, feed: PatientFeed, facts: Facts, own: PatientId | None, feeder: Feeder) -> Decision:
        """A feed whose source's own numbers name nobody yet: a national number or the matcher may."""
        record = Record(feed.identifiers, feed.demographics)
        groups = by_patient(facts.candidates)
        by_number: set[int] = set()
        for i in feed.identifiers:
            if (standing := facts.standings.get(i)) is not None:
                groups[standing.patient_key] = [r for r in facts.records if r.survivor_key == standing.patient_key]
                by_number.add(standing.patient_key)
        if not groups:
            return self._of_newcomer(feed, record, facts, own, feeder)
        fitting = self._fitting(record, facts, groups, by_number, own)
        joined, taken = fitting.joined, fitting.taken
        key = joined if joined is not None else self._new_key()
        if joined is not None:
            id_ = PatientId(groups[joined][0].affinity_domain_id, self._authority)
        else:
            id_ = own or PatientId(self._new_id(), self._authority)
        links = [NewLink(k, "automatic", judgement.rule or "score") for k, judgement in taken.items() if k != joined]
        theirs = [r for k in taken for r in groups[k]]
        kin = groups[joined] if joined is not None else []
        # A mistyped number that did not keep the record away leads to nobody.
        claimed = [
            i for i in feed.identifiers if i not in facts.standings and i != id_ and not self._has_another(theirs, i)
        ]
        blocks = self._matcher.blocks(record)
        tasks = [
            NewTask(
                TaskKind.CONTRADICTION if other in by_number else TaskKind.POSSIBLE_DUPLICATE,
                key,
                other,
                explained(self._matcher, record, groups[other], judgement),
            )
            for other, judgement in fitting.doubtful.items()
        ]
        change = Change(
            patient_key=key,
            affinity_domain_id=id_ if joined is None else None,
            record=SavedRecord(key, self._new_key(), 0, feed.source, record, blocks, fed_by=feeder.name),
            claimed=tuple(claimed),
            numbers=self._numbers_then(record, set(), theirs) if joined is not None and not links else (),
            versions=_versions(theirs) if links else (),
            kin=_linked(kin, key),
            links=tuple(links),
            tasks=likeliest(tasks),
            # Only who adds a patient must know that nobody else adds the same one at the same time.
            blocks=blocks if joined is None else (),
            in_blocks=facts.in_blocks,
            standing=_standing(feed, facts) if joined is not None else (),
        )
        return Decision(self.announced(change, id_, facts, kin), id_)

    def _of_newcomer(
        self, feed: PatientFeed, record: Record, facts: Facts, own: PatientId | None, feeder: Feeder
    ) -> Decision:
        """A feed that nobody known is near to."""
        key = self._new_key()
        id_ = own or PatientId(self._new_id(), self._authority)
        blocks = self._matcher.blocks(record)
        change = Change(
            key,
            id_,
            SavedRecord(key, self._new_key(), 0, feed.source, record, blocks, fed_by=feeder.name),
            tuple([i for i in feed.identifiers if i != id_]),
            blocks=blocks,
            in_blocks=facts.in_blocks,
        )
        return Decision(self.announced(change, id_, facts, ()), id_)

    def _fitting(
        self,
        record: Record,
        facts: Facts,
        groups: Mapping[int, Sequence[KnownRecord]],
        by_number: set[int],
        own: PatientId | None,
    ) -> _Fitting:
        """Whom of those near the record is of; ``by_number`` are the patients whom a national number names."""
        judged = {key: judge(self._matcher, record, theirs) for key, theirs in groups.items()}
        same = sorted(
            (key for key in judged if _joins(judged[key], by_number=key in by_number)),
            key=lambda key: (key not in by_number, -judged[key].score, key),
        )

        def conflicts(left: int, right: int) -> Iterator[str]:
            if frozenset((left, right)) in facts.apart or all(self._is_named(groups[key]) for key in (left, right)):
                yield "apart"
            pairs = (self._matcher.judge(a.record, b.record) for a in groups[left] for b in groups[right])
            yield from (judgement.rule for judgement in pairs if judgement.conflict)

        taken = of_one_person(same, conflicts, by_number=bool(same) and same[0] in by_number)
        doubtful = {
            key: judgement
            for key, judgement in judged.items()
            if key not in taken and (key in by_number or judgement.verdict is not Verdict.DIFFERENT)
        }
        named = [key for key in taken if self._is_named(groups[key])]
        if own is not None:  # the authority itself knows those whom it has named as others
            doubtful |= {key: judged[key] for key in named}
            taken = [key for key in taken if key not in named]
        joined = None if own is not None or not taken else (named or taken)[0]
        return _Fitting(joined, {key: judged[key] for key in taken}, doubtful)

    def _is_named(self, records: Sequence[KnownRecord]) -> bool:
        """Whether the affinity domain's own authority has given the patient an id."""
        return any(i.authority == self._authority for r in records for i in r.record.identifiers)

    def _own_record(self, feed: PatientFeed, kin: Sequence[KnownRecord], feeder: Feeder) -> KnownRecord | None:
        """The record that this feed says anew: that of its local number, else what the same source said before."""
        local = {i for i in feed.identifiers if i.authority != self._authority}
        local = {i for i in local if not self._authorities.is_single(i.authority)}
        kin = [r for r in kin if feeder.owns(r.fed_by)]
        for record in kin:
            if local & set(record.record.identifiers):
                return record
        if local:
            return None
        given = set(feed.identifiers)
        said = [r for r in kin if r.source == feed.source and given & set(r.record.identifiers)]
        return said[0] if said else None

    def _corrected(
        self, feed: PatientFeed, old: KnownRecord, record: Record, kin: Sequence[KnownRecord]
    ) -> tuple[Record, tuple[PatientId, ...]]:
        """A source may correct a person's national number, if it is still the same person that it speaks of."""
        corrected = {
            i: next(o for o in old.record.identifiers if o.authority == i.authority)
            for i in feed.identifiers
            if self._authorities.is_single(i.authority)
            and i not in old.record.identifiers
            and any(o.authority == i.authority for o in old.record.identifiers)
        }
        if not corrected:
            return record, ()
        if not _still_the_same(old.record.demographics, record.demographics, feed.stated):
            said = (
                "this record has another number in this authority and nothing says that it is the same person; send "
                "the name and the date of birth with a correction"
            )
            raise Problem([_finding(feed, i, "DuplicateKeyIdentifier", said) for i in corrected])
        gone = set(corrected.values())
        stated = {i for r in kin if r.record_key != old.record_key for i in r.record.identifiers}
        kept = tuple(i for i in record.identifiers if i not in gone)
        return Record(kept, record.demographics), tuple(sorted(gone - stated))

    def _refuse_second_number(self, feed: PatientFeed, known: set[PatientId], others: Sequence[KnownRecord]) -> None:
        """A person has one PESEL: another under a known local number means that somebody else is meant by one.

        What the record said before was taken with it, be it mistyped, and may be said again.
        """
        said = "the patient whom the other identifiers name has another number in this authority; nothing was joined"
        findings = [
            _finding(feed, i, "DuplicateKeyIdentifier", said)
            for i in feed.identifiers
            if i not in known and self._has_another(others, i)
        ]
        if findings:
            raise Problem(findings)

    def _has_another(self, records: Sequence[KnownRecord], identifier: PatientId) -> bool:
        """Whether records state another number of an authority in which a person has one."""
        return (
            bool(records)
            and self._authorities.is_single(identifier.authority)
            and any(
                i.authority == identifier.authority and i != identifier for r in records for i in r.record.identifiers
            )
        )

    def _numbers_then(
        self, record: Record, known: set[PatientId], others: Sequence[KnownRecord]
    ) -> tuple[tuple[str, int], ...]:
        """How many numbers the patient has in each authority in which the record brings a new one."""
        new = {i.authority for i in record.identifiers if i not in known and i.authority != self._authority}
        stated = {i for r in others for i in r.record.identifiers} | set(record.identifiers)
        return tuple((authority, sum(i.authority == authority for i in stated)) for authority in sorted(new))

    def _unfit(
        self, old: KnownRecord | None, record: Record, others: Sequence[KnownRecord], key: int
    ) -> Iterator[NewTask]:
        """A record that no longer says of its patient what the others say: its number may be used for somebody else."""
        if old is None or not others or record.demographics == old.record.demographics:
            return
        after = judge(self._matcher, record, others)
        if after.verdict is Verdict.DIFFERENT and judge(self._matcher, old.record, others).verdict is not after.verdict:
            said = f"what {old.source} says now does not fit the patient's other records"
            yield NewTask(TaskKind.CONTRADICTION, key, None, explained(self._matcher, record, others, after), said)

    # identifiers ------------------------------------------------------------------------------------------------

    def _merge(self, feed: PatientFeed, facts: Facts, feeder: Feeder) -> Decision:
        known = facts.standings
        survivor, findings = _named(feed, feed.identifiers, known)
        if survivor is None and not findings:
            said = "no patient has this identifier, so nothing can be merged into it; announce the patient first (A04)"
            findings.append(_finding(feed, feed.identifiers[0], "UnknownKeyIdentifier", said))
        findings += _unmergeable(feed, known, survivor)
        if findings or survivor is None:
            raise Problem(findings)
        id_ = PatientId(survivor.affinity_domain_id, self._authority)
        active = {i: known[i] for i in feed.merged if not known[i].retired}
        if not active:  # the same merge was made before
            return Decision(None, id_)
        subsumed = {s.patient_key: s.affinity_domain_id for s in active.values()}
        subsumed.pop(survivor.patient_key, None)  # the region knew already that both are one person
        tasks = self._contradictions(facts, survivor.patient_key, subsumed)
        if feeder.bound and (findings := self._not_theirs(feed, facts, survivor, active, tasks, feeder)):
            raise Problem(findings)
        places = {i.authority: i for i in feed.identifiers}
        retired = {i: Retirement(i, _by(s, survivor), places.get(i.authority)) for i, s in active.items()}
        for key, value in subsumed.items():
            gone = PatientId(value, self._authority)
            retired.setdefault(gone, Retirement(gone, key, id_))
        change = Change(
            patient_key=survivor.patient_key,
            links=tuple(NewLink(key, "A40", feed.source) for key in sorted(subsumed)),
            retired=tuple(retired[i] for i in sorted(retired)),
            tasks=tasks,
            # That they are the feeder's to merge was judged by the records of both.
            versions=_versions(facts.records) if feeder.bound else (),
            standing=tuple((i, known[i].patient_key) for i in sorted({*feed.identifiers, *active}) if i in known),
        )
        kin = [r for r in facts.records if r.survivor_key == survivor.patient_key]
        return Decision(self.announced(change, id_, facts, kin), id_)

    def _not_theirs(
        self,
        feed: PatientFeed,
        facts: Facts,
        survivor: Standing,
        active: Mapping[PatientId, Standing],
        contradictions: Sequence[NewTask],
        feeder: Feeder,
    ) -> list[Finding]:
        """Whose records a merge would take hold of that are not the feeder's.

        A person of whom others have records, too, stays the feeder's to merge by its own numbers, as long as no
        national number says that these are two people.
        """
        findings = [*self._foreign(feed, (*feed.identifiers, *active), facts, feeder)]
        if findings or feeder.region:
            return findings
        findings += self._stranger(feed, survivor, facts, feeder)
        for i, standing in active.items():
            theirs = [r for r in facts.records if r.survivor_key == standing.patient_key]
            stating = [r for r in theirs if i in r.record.identifiers and i.authority != self._authority]
            findings += not_yours(feed, i, stating or theirs, feeder)
        if contradictions and not findings:
            findings += not_yours(feed, next(iter(active)), facts.records, feeder)
        return findings

    def _contradictions(self, facts: Facts, survivor: int, subsumed: Iterable[int]) -> tuple[NewTask, ...]:
        """A source that merges two valid PESELs is obeyed, and somebody looks at it."""
        mine = [r for r in facts.records if r.survivor_key == survivor]
        tasks = []
        for key in sorted(subsumed):
            theirs = [r for r in facts.records if r.survivor_key == key]
            for left, right in ((left, right) for left in mine for right in theirs):
                # The source's own numbers always differ, or there would be nothing to merge.
                one, other = self._nationally(left.record), self._nationally(right.record)
                if self._matcher.judge(one, other).conflict:
                    judgement = self._matcher.explain(one, other)
                    tasks.append(NewTask(TaskKind.CONTRADICTION, survivor, key, judgement, MERGED_BY_SOURCE))
                    break
        return tuple(tasks[:TASKS_MAX])

    def _nationally(self, record: Record) -> Record:
        """The record with nothing but national numbers."""
        return Record(
            tuple(i for i in record.identifiers if self._authorities.is_single(i.authority)), record.demographics
        )

    def _change_identifiers(self, feed: PatientFeed, facts: Facts, feeder: Feeder) -> Decision:
        """A47: one person, other numbers (HL7 2.5 section 3.3.47, ITI TF-2:3.30.4.11)."""
        known = facts.standings
        places = {(s.patient_key, s.retired) for s in map(known.get, feed.identifiers) if s}
        if all(i in known and known[i].retired and (known[i].patient_key, False) in places for i in feed.merged):
            return Decision(None, PatientId(known[feed.merged[0]].affinity_domain_id, self._authority))  # made before
        patient, findings = _named(feed, feed.merged, known)
        if patient is None and not findings:
            said = "no patient has this identifier: there is nothing to change and nothing was created"
            findings.append(_finding(feed, feed.merged[0], "UnknownKeyIdentifier", said))
        old_by_authority = {i.authority: i for i in feed.merged}
        for i in feed.identifiers:
            standing = known.get(i)
            if standing is not None and standing.retired:
                findings.append(_finding(feed, i, "UnknownKeyIdentifier", _RETIRED))
            elif i not in feed.merged and standing is not None and standing != patient:
                said = "the new identifier belongs to another patient; send A40 if they are one person"
                findings.append(_finding(feed, i, "DuplicateKeyIdentifier", said))
            elif i.authority not in old_by_authority:
                said = "both identifiers of a change must be of one assigning authority"
                findings.append(_finding(feed, i, "UnknownKeyIdentifier", said))
        findings += self._unassignable(feed, known, feeder)
        findings += self._foreign(feed, dict.fromkeys((*feed.merged, *feed.identifiers)), facts, feeder)
        if any(i.authority == self._authority for i in feed.merged):
            said = "an affinity-domain id is never changed; merge it into the new one (A40)"
            findings.append(_finding(feed, feed.merged[0], "UnknownKeyIdentifier", said))
        if findings or patient is None:
            raise Problem(findings)
        id_ = PatientId(patient.affinity_domain_id, self._authority)
        kin = [r for r in facts.records if r.survivor_key == patient.patient_key]
        named = [r for r in kin if set(feed.merged) & set(r.record.identifiers)]
        old = next((r for r in named if feeder.owns(r.fed_by)), None)
        if old is None and named:
            raise Problem([*not_yours(feed, feed.merged[0], named, feeder)])
        gone = [i for i in feed.merged if i not in feed.identifiers and not known[i].retired]
        new = {i.authority: i for i in feed.identifiers}
        if old is None or not gone:
            return Decision(None, id_)
        others = [r for r in kin if r.record_key != old.record_key]
        stated = {i for r in others for i in r.record.identifiers}
        said = "other sources state this number of the patient; each of them corrects its own record (A08)"
        findings = [_finding(feed, i, "DuplicateKeyIdentifier", said) for i in gone if i in stated]
        if findings:
            raise Problem(findings)
        self._refuse_second_number(feed, set(old.record.identifiers), others)
        kept = tuple(dict.fromkeys(new.get(i.authority, i) if i in gone else i for i in old.record.identifiers))
        record = Record(kept, _stated(old.record.demographics, feed))
        blocks = self._matcher.blocks(record)
        change = Change(
            patient_key=patient.patient_key,
            record=SavedRecord(
                old.patient_key,
                old.record_key,
                old.version,
                old.source,
                record,
                blocks,
                blocks != old.blocks,
                fed_by=feeder.after(old.fed_by),
            ),
            claimed=tuple(i for i in feed.identifiers if i not in known),
            retired=tuple(Retirement(i, 0, new.get(i.authority)) for i in gone),
            kin=_linked(kin, patient.patient_key),
        )
        return Decision(self.announced(change, id_, facts, kin), id_)

    def _remove(self, feed: PatientFeed, facts: Facts, feeder: Feeder) -> Decision:
        """A source withdraws its record; what was registered for the patient stays (ITI-104)."""
        patient, findings = _named(feed, feed.identifiers, facts.standings)
        if patient is None and not findings:
            said = "no patient has this identifier: there is nothing to remove"
            findings.append(_finding(feed, feed.identifiers[0], "UnknownKeyIdentifier", said))
        findings += self._foreign(feed, feed.identifiers, facts, feeder)
        if findings or patient is None:
            raise Problem(findings)
        id_ = PatientId(patient.affinity_domain_id, self._authority)
        kin = [r for r in facts.records if r.survivor_key == patient.patient_key]
        stating = [r for r in kin if set(feed.identifiers) & set(r.record.identifiers)]
        named = [r for r in stating if feeder.owns(r.fed_by)]
        old = self._own_record(feed, kin, feeder) or (named[0] if len(named) == 1 else None)
        if stating and not named:
            raise Problem([*not_yours(feed, feed.identifiers[0], stating, feeder)])
        if old is None and named:
            said = "several sources state this identifier; name the record that is to be removed by its own number"
            raise Problem([_finding(feed, feed.identifiers[0], "DuplicateKeyIdentifier", said)])
        if old is None:
            return Decision(None, id_)
        stated = {i for r in kin if r.record_key != old.record_key for i in r.record.identifiers}
        released = tuple(i for i in old.record.identifiers if i not in stated and i.authority != self._authority)
        change = Change(
            patient_key=patient.patient_key,
            record=SavedRecord(
                old.patient_key,
                old.record_key,
                old.version,
                old.source,
                old.record,
                (),
                blocks_changed=True,
                removed=True,
                fed_by=old.fed_by,
            ),
            released=released,
            kin=_linked(kin, patient.patient_key),
        )
        return Decision(self.announced(change, id_, facts, kin), id_)

    # telling others ---------------------------------------------------------------------------------------------

    def announced(self, change: Change, id_: PatientId, facts: Facts, kin: Sequence[KnownRecord]) -> Change:
        """The change with the messages that tell of it; nothing is said where only demographics changed."""
        if not self._subscribers:
            return change
        if not (change.claimed or change.released or change.links or change.retired or change.affinity_domain_id):
            return change
        before = tuple(dict.fromkeys(i for r in kin for i in r.record.identifiers if i not in facts.retired))
        linked = {link.patient_key for link in change.links}
        gone = {*facts.retired, *change.released, *(r.identifier for r in change.retired)}
        came: dict[str, dict[PatientId, None]] = {}  # affinity-domain id of who is linked -> what comes along
        for r in (*facts.records, *facts.candidates):
            if r.survivor_key in linked:
                alive = (i for i in r.record.identifiers if i not in gone)
                came.setdefault(r.affinity_domain_id, {}).update(dict.fromkeys(alive))
        stated = change.record.record.identifiers if change.record and not change.record.removed else ()
        moved = tuple(i for identifiers in came.values() for i in identifiers)
        now = tuple(dict.fromkeys(i for i in (*before, *stated, *moved, id_) if i not in gone))
        replaced = tuple(Moved(r.replaced_by, r.identifier) for r in change.retired if r.replaced_by not in (None, id_))
        was = (*before, id_) if change.affinity_domain_id is None else ()
        told = [
            PatientChange(
                ChangeKind.LINK,
                id_,
                change.patient_key,
                now,
                was,
                former=PatientId(former, self._authority),
                moved=(*map(Moved, identifiers), *replaced),
            )
            for former, identifiers in came.items()
        ]
        if not told and replaced:  # one number in the place of another, both of this patient
            told = [PatientChange(ChangeKind.LINK, id_, change.patient_key, now, was, former=id_, moved=replaced)]
        if not told:
            told = [PatientChange(ChangeKind.IDENTIFIERS, id_, change.patient_key, now, was)]
        if change.record is not None:
            name = change.record.record.demographics.name
            told = [msgspec.structs.replace(one, name=name) for one in told]
        outgoing = tuple(message for one in told for message in self._subscribers.changed(one))
        return change._replace(outgoing=outgoing) if outgoing else change


_NOT_YOURS = (
    "another system feeds records of this patient, and they are its to change: send your own record, with your own "
    "number and national ones alone (the index joins both); what is wrong is corrected by whoever fed it, or by the "
    "operators of the region"
)
_RETIRED = "the identifier was merged into another and names nobody; send the surviving one"


class Meeting:
    """A patient whose record has changed, and the other patients it now looks like: who is one person with it.

    The patients are met one after the other, and whoever is linked counts from then on: of two who may never be joined
    at most one is.
    """

    def __init__(
        self,
        matcher: Matcher,
        authority: str,
        facts: Facts,
        key: int,
        record: Record,
        others: Sequence[KnownRecord],
    ) -> None:
        self._matcher = matcher
        self._authority = authority
        self._facts = facts
        self._key = key
        self._record = record
        self._mine = list(others)
        self._named = self._key if self._names_own(record.identifiers, others) else 0
        self._met: dict[int, Sequence[KnownRecord]] = {}
        self.tasks: list[NewTask] = []
        self.links: list[NewLink] = []

    def meet(self, other: int, theirs: Sequence[KnownRecord]) -> None:
        """What follows from the evidence between the patient and another one."""
        if other == self._key or other in self._met:
            return
        self._met[other] = theirs
        if any(frozenset((k, other)) in self._facts.apart for k in (self._key, *(n.patient_key for n in self.links))):
            return
        judgement = judge(self._matcher, self._record, theirs)
        shared = bool(set(self._record.identifiers) & {i for r in theirs for i in r.record.identifiers})
        contradicts = shared or judgement.conflict
        if not judgement.conflict and judgement.verdict is not Verdict.DIFFERENT:
            pairs = (self._matcher.judge(mine.record, r.record) for mine in self._mine for r in theirs)
            if (against := next((pair for pair in pairs if pair.conflict), None)) is not None:
                # Whichever record the evidence was found by, what keeps the two apart is the reason people are told.
                judgement = Judgement(Verdict.UNDECIDED, judgement.score, against.rule, conflict=True)
        named = self._names_own((), theirs)  # the affinity domain's own authority takes those it has named for two
        if judgement.verdict is Verdict.SAME and not (named and self._named):
            self.links.append(NewLink(other, "automatic", judgement.rule or "score"))
            self._mine += theirs
            self._named = self._named or (other if named else 0)
        elif judgement.verdict is not Verdict.DIFFERENT or shared:
            kind = TaskKind.CONTRADICTION if contradicts else TaskKind.POSSIBLE_DUPLICATE
            evident = explained(self._matcher, self._record, theirs, judgement)
            self.tasks.append(NewTask(kind, self._key, other, evident))

    def meet_all(self, groups: Mapping[int, Sequence[KnownRecord]]) -> None:
        """The likeliest first."""
        scores = {other: judge(self._matcher, self._record, theirs).score for other, theirs in groups.items()}
        for other in sorted(groups, key=lambda other: (-scores[other], other)):
            self.meet(other, groups[other])

    def survivor(self) -> int:
        """Whose affinity-domain id stays: the one whom the affinity domain's own authority has named."""
        return self._named or self._key

    def versions(self) -> tuple[tuple[int, int], ...]:
        """What the links rely on."""
        linked = {link.patient_key for link in self.links}
        return _versions(
            [r for r in (*self._facts.records, *self._facts.candidates) if r.survivor_key in {*linked, self._key}]
        )

    def _names_own(self, identifiers: Iterable[PatientId], records: Sequence[KnownRecord]) -> bool:
        stated = (*identifiers, *(i for r in records for i in r.record.identifiers))
        return any(i.authority == self._authority for i in stated)


def judge(matcher: Matcher, record: Record, theirs: Sequence[KnownRecord]) -> Judgement:
    """Whether the record is of the patient whose records are ``theirs``."""
    if not theirs:
        return Judgement(Verdict.DIFFERENT, 0.0, "nothing is known of the other patient")
    return matcher.judge_patient(record, [r.record for r in theirs])


def explained(matcher: Matcher, record: Record, theirs: Sequence[KnownRecord], judgement: Judgement) -> Judgement:
    """The judgement with the evidence of the likeliest pair, for whoever has to decide."""
    pairs = [matcher.explain(record, r.record) for r in theirs]
    if not pairs:
        return judgement
    return msgspec.structs.replace(judgement, evidence=max(pairs, key=lambda j: j.score).evidence)


def _versions(records: Iterable[KnownRecord]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted({(r.survivor_key, r.patient_version) for r in records}))


def _linked(kin: Iterable[KnownRecord], key: int) -> tuple[int, ...]:
    """Under which other patients the records of a person stand."""
    return tuple(sorted({r.patient_key for r in kin} - {key}))


def _joins(judgement: Judgement, *, by_number: bool) -> bool:
    """Whether a record joins a patient; a shared national number suffices where nothing speaks against it."""
    if judgement.conflict:
        return False
    return judgement.verdict is Verdict.SAME or (by_number and judgement.verdict is Verdict.UNDECIDED)


def _standing(feed: PatientFeed, facts: Facts) -> tuple[tuple[PatientId, int], ...]:
    """Whom the feed's identifiers named: a link may be taken back between two statements that read the facts."""
    named = ((i, facts.standings.get(i)) for i in sorted(feed.identifiers))
    return tuple((i, standing.patient_key) for i, standing in named if standing is not None and not standing.retired)


def _by(standing: Standing, survivor: Standing) -> int:
    return standing.patient_key if standing.patient_key != survivor.patient_key else 0


def by_patient(records: Iterable[KnownRecord]) -> dict[int, list[KnownRecord]]:
    """Records by the patient they are of, after links."""
    groups: dict[int, list[KnownRecord]] = {}
    for record in records:
        groups.setdefault(record.survivor_key, []).append(record)
    return groups


def likeliest(tasks: Sequence[NewTask]) -> tuple[NewTask, ...]:
    """The lines that one act may add to the worklist."""
    if len(tasks) <= TASKS_MAX:
        return tuple(tasks)
    return tuple(sorted(tasks, key=lambda t: -(t.judgement.score if t.judgement else 0.0))[:TASKS_MAX])


def _merged(old: Record, feed: PatientFeed) -> Record:
    """What a source has said so far, with what it says now."""
    identifiers = tuple(dict.fromkeys((*feed.identifiers, *old.identifiers)))
    if set(identifiers) == set(old.identifiers):
        identifiers = old.identifiers
    return Record(identifiers, _stated(old.demographics, feed))


def _stated(old: Demographics, feed: PatientFeed) -> Demographics:
    if not feed.stated:
        return old
    return msgspec.structs.replace(old, **{name: getattr(feed.demographics, name) for name in feed.stated})


def _still_the_same(old: Demographics, new: Demographics, stated: Sequence[str]) -> bool:
    """Whether name and date of birth are said again, and have stayed."""
    if "names" not in stated or "birth_date" not in stated or not new.names or not new.birth_date:
        return False
    return old.birth_date == new.birth_date and old.name.family == new.name.family and old.name.given == new.name.given


def _named(
    feed: PatientFeed, identifiers: Sequence[PatientId], known: Mapping[PatientId, Standing]
) -> tuple[Standing | None, list[Finding]]:
    """The one patient whom the identifiers name, or None."""
    if not known:
        return None, []
    findings = []
    named: dict[int, Standing] = {}
    for identifier in identifiers:
        standing = known.get(identifier)
        if standing is None:
            continue
        if standing.retired:
            findings.append(_finding(feed, identifier, "UnknownKeyIdentifier", _RETIRED))
        elif named and standing.patient_key not in named:
            said = "it belongs to another patient than the identifiers before it; send A40 if they are one person"
            findings.append(_finding(feed, identifier, "DuplicateKeyIdentifier", said))
        else:
            named[standing.patient_key] = standing
    return next(iter(named.values()), None), findings


def _unmergeable(
    feed: PatientFeed, known: Mapping[PatientId, Standing], survivor: Standing | None
) -> Iterator[Finding]:
    """Why the identifiers of MRG-1 cannot be merged into the survivor (ITI TF-2:3.8.4.2.4)."""
    domains = {i.authority for i in feed.identifiers}
    for identifier in feed.merged:
        standing = known.get(identifier)
        if identifier in feed.identifiers:
            said = "an identifier cannot be merged into itself"
            yield _finding(feed, identifier, "DuplicateKeyIdentifier", said)
        elif identifier.authority not in domains:
            said = "both identifiers of a merge must be of one assigning authority"
            yield _finding(feed, identifier, "UnknownKeyIdentifier", said)
        elif standing is None:
            said = "no patient has this identifier: there is nothing to merge and nothing was created"
            yield _finding(feed, identifier, "UnknownKeyIdentifier", said)
        elif standing.retired and (survivor is None or standing.patient_key != survivor.patient_key):
            said = "the identifier was already merged into another patient"
            yield _finding(feed, identifier, "UnknownKeyIdentifier", said)


def not_yours(
    feed: PatientFeed, identifier: PatientId, records: Collection[KnownRecord], feeder: Feeder
) -> Iterator[Finding]:
    """A finding about the identifier, unless the records are all the feeder's; whose they are only the audit says."""
    others = sorted({r.fed_by for r in records if not feeder.owns(r.fed_by)})
    if others or not records:
        finding = _finding(feed, identifier, "RecordNotYours", _NOT_YOURS)
        yield finding._replace(reason=f"fed by {', '.join(others) or 'nobody now'}")


def _finding(feed: PatientFeed, identifier: PatientId, code: str, detail: str) -> Finding:
    if identifier in feed.merged and feed.merged_locations:
        location = feed.merged_locations[feed.merged.index(identifier)]
    elif identifier in feed.identifiers and feed.identifier_locations:
        location = feed.identifier_locations[feed.identifiers.index(identifier)]
    else:
        location = ""
    return Finding(code, detail, location)
