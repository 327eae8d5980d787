"""The one place that decides who may see what (docs/access.md).

An actor that shows documents asks :meth:`AccessControl.see` first, and gives the :class:`~obieg.domain.sight.Sight`
that it gets to every question. Who may not is answered like somebody who asks of what is not there; only the audit
tells.
Where access is not enforced nothing is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from msgspec.structs import replace

from obieg.domain import grounds
from obieg.domain.access import (
    Act,
    Deny,
    DocumentFacts,
    Facts,
    Filter,
    Permit,
    Settings,
    act_of,
    ask,
    asks_as,
    decide,
    next_change,
)
from obieg.domain.access_explained import Explanation, explain
from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId
from obieg.domain.obligations import Told, obliges, of_reading
from obieg.domain.patients import Feeder
from obieg.domain.permits import FactsStore, Named, Person
from obieg.domain.problems import Finding, Problem
from obieg.domain.requester import Requester
from obieg.domain.showing import shown, surely
from obieg.domain.sight import EVERYTHING, NOTHING, Sight, sight
from obieg.domain.zone import WARSAW
from obieg.protocol import Context

_RESTS_ON_NOTHING = {"author"}
KEPT_MAX = 8_192  # patients of whom a worker keeps what was read, a few KiB each
DECISIONS_MAX = 16  # that it keeps of one patient, about 2 KiB each
_PATIENT = "patient"  # the role: what it may do depends on who the patient is, whatever the act


class Seen(NamedTuple):
    """What a requester may see of those whom a request is about."""

    sight: Sight
    decisions: Sequence[tuple[Person, Permit | Deny]] = ()

    def of(self, patients: Collection[str]) -> Seen:
        """What of this is about these patients (affinity-domain ids, without authority)."""
        return Seen(self.sight, [d for d in self.decisions if not d[0].ids.isdisjoint(patients)])

    @property
    def permits(self) -> Sequence[Permit]:
        """Of those whom the requester may see anything of, or do it for."""
        return [d for _, d in self.decisions if isinstance(d, Permit)]

    @property
    def whole(self) -> bool:
        """Whether all of somebody may be seen."""
        return any(permit.filter is None for permit in self.permits)

    @property
    def certain(self) -> bool:
        """Whether it may be told that somebody is a patient here, even where nothing of them is shown.

        An author needs nothing to be one, so every professional may ask about everybody: who has written nothing of
        them is answered as if there were nobody.
        """
        return any(set(permit.bases) != _RESTS_ON_NOTHING for permit in self.permits)

    @property
    def open(self) -> bool:
        """Whether everybody may be asked about, or :attr:`certain`."""
        return self.sight.permitted is None or self.certain

    def told(self, context: Context, *, shown: bool = True, yet: bool = True) -> None:
        """The answer, and its record, name the bases on which it is given.

        ``shown``: whether it shows anything; ``yet``: whether that is known by now.
        """
        permits = self.permits
        if yet:
            context.veiled = context.decided and not (shown and (permits or self.sight.permitted is None))
        context.access = grounds.write(permits) if shown or self.certain else ""
        context.told = self._told(context) if context.access else ()

    def _told(self, context: Context) -> tuple[Told, ...]:
        """What is committed with the record: patients and the officer are told."""
        permits = [(person.keys[0], d) for person, d in self.decisions if isinstance(d, Permit) and obliges(d)]
        if not permits:
            return ()
        requester, at, transaction = context.requester, _now(context), context.transaction.id
        told = (of_reading(key, permit, requester, at, transaction) for key, permit in permits)
        return tuple(filter(None, told))

    def refused(self, context: Context, assigning_authority: str) -> None:
        """The record names everybody whom the request was about, and says why nothing of some was shown."""
        asked = {o.identifier for o in context.objects if o.kind == "patient"}
        names = [{str(PatientId(id_, assigning_authority)) for id_ in person.ids} for person, _ in self.decisions]
        context.concerned = tuple(AuditObject("patient", min(some)) for some in names if asked.isdisjoint(some))
        context.refusal = " ".join(sorted({d.reason for _, d in self.decisions if isinstance(d, Deny)}))


_EVERYTHING = Seen(EVERYTHING)


class Explained(NamedTuple):
    """A decision for whoever looks after the node, never for the caller whom it is about."""

    person: Person
    explanation: Explanation  # of the documents only those that were asked about
    missing: tuple[str, ...]  # documents that were asked about and are not this person's


class _Known:
    """What was read of a patient, and what was decided by it: by who asks, from when on, until when."""

    __slots__ = ("_alike", "decided", "person")

    def __init__(self, person: Person) -> None:
        self.person = person
        self.decided: dict[tuple[str, ...], tuple[datetime, datetime, Seen]] = {}
        self._alike: tuple[datetime, datetime] | None = None  # from when on, until when the facts are decided alike

    def until(self, at: datetime) -> datetime:
        """Until when what is decided at a moment holds."""
        if self._alike is None or not self._alike[0] <= at < self._alike[1]:
            self._alike = at, next_change(self.person.facts, at)
        return self._alike[1]


class AccessControl:
    """Decides; without a store of facts everybody may do everything."""

    def __init__(
        self,
        store: FactsStore | None = None,
        settings: Settings | None = None,
        systems: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``systems``: by the name of a system the organisation that it is bound to, where it is to one."""
        self._store = store
        self._kin = {
            name: frozenset(other for other in systems if systems[other] == organisation)
            for name, organisation in systems.items()
        }
        self._settings = self.settings = settings or Settings()
        self._kept: dict[PatientId, _Known] = {}

    @property
    def enforced(self) -> bool:
        """Whether anybody is asked."""
        return self._store is not None

    def admit(self, context: Context) -> None:
        """Whether the caller may do at all what needs no look at a patient. Raises Problem."""
        if self._store is None:
            return
        act = act_of(context.transaction.permission)
        if _depends(act, context.requester):
            return
        decision = decide(context.requester, Facts(()), act, _now(context), self._settings)
        if isinstance(decision, Deny):
            said = "the caller may not do this here"
            raise Problem([Finding("NotPermitted", said, reason=f"{act}: {decision.reason}")])
        context.decided = True

    def may(self, requester: Requester, act: Act) -> bool:
        """Whether somebody may do what is about no patient; where nobody is asked, they may."""
        if self._store is None:
            return True
        return isinstance(decide(requester, Facts(()), act, datetime.now(WARSAW), self._settings), Permit)

    def depends(self, act: Act, requester: Requester) -> bool:
        """Whether what the caller may do depends on the patient: :meth:`see` must then be asked of each."""
        return self._store is not None and _depends(act, requester)

    def records(self, requester: Requester) -> bool:
        """Whether who asks records what patients state (act ``consent``), and does not act as one."""
        return self._store is not None and requester.role != _PATIENT

    def reads(self, requester: Requester) -> bool:
        """Whether who asks is a professional, or an assistant, to whom what patients permit opens something."""
        if self._store is None:
            return False
        return ask(requester, Facts(()), datetime.now(WARSAW), self._settings).seat == "medical"

    def expect_decided(self, context: Context) -> None:
        """Raises where something was answered about patients without a decision: nothing may go round."""
        if self._store is not None and not context.decided:
            raise AssertionError(f"{context.transaction.id} has answered without asking whether it may")

    def feeder(self, requester: Requester) -> Feeder:
        """Who feeds. In the laboratory, and at the command line, nobody is proved, and nothing is anybody's."""
        if requester.proof in ("", "laboratory"):
            return Feeder()
        return Feeder(requester.system, self._kin.get(requester.system, frozenset()), bound=self.enforced)

    def changes(self, context: Context) -> Filter | None:
        """What of documents the caller may change, by whose they are; None: all. They were admitted."""
        if self._store is None:
            return None
        decision = decide(context.requester, Facts(()), Act.CHANGE, _now(context), self._settings)
        return decision.filter if isinstance(decision, Permit) else ()

    def decided_later(self, context: Context) -> None:
        """Here nothing of patients is shown; what follows from it is asked when it is."""
        context.decided = True

    async def see(self, named: Named, context: Context, act: Act = Act.READ) -> Seen:
        """What the caller may see of those whom a request is about; one round trip where access is enforced.

        Whoever is not among the permitted, also somebody whom nobody knows, is as if there were nothing of them.
        On which bases it is shown :meth:`Seen.told` is told once it is known what is; other acts rest on theirs.
        """
        if self._store is None:
            return _EVERYTHING
        context.decided = context.veiled = True
        seen = await self.seen_by(context.requester, named, _now(context), act)
        if act is not Act.READ:
            seen.told(context, shown=bool(seen.permits))
        return seen

    async def expect(self, patient: PatientId, context: Context, act: Act) -> frozenset[str]:
        """By which bases the caller may do this for the patient; none where it takes none.

        Raises Problem ``AddressNotFound`` to whoever may not, as if nobody had this id.
        """
        context.objects = (AuditObject("patient", str(patient)),)
        if self.depends(act, context.requester):
            seen = await self.see(Named(patients=(patient,)), context, act)
            if not seen.permits:
                seen.refused(context, patient.authority)
                raise nobody()
            return frozenset(basis for permit in seen.permits for basis in permit.bases)
        return frozenset()

    def kept(self, named: Named, context: Context) -> Seen | None:
        """What :meth:`see` would say for reading, by what was read of one patient before; None: ask it.

        It is good only for a batch that asks by its sight. That raises LostRace where what was read does not hold any
        more; then :meth:`see` must be asked.
        """
        known = self._kept.get(named.patients[0]) if _of_one(named) else None
        if known is None:
            return None
        context.decided = context.veiled = True
        asking = asks_as(context.requester)
        found = known.decided.get(asking)
        if found is None or not found[0] <= context.received_at < found[1]:
            at = _now(context)
            decision = decide(context.requester, known.person.facts, Act.READ, at, self._settings)
            seen = _seen([(known.person, decision)])
            return self._keep(known, asking, at, seen)
        return found[2]

    def _keep(self, known: _Known, asking: tuple[str, ...], at: datetime, seen: Seen) -> Seen:
        """Keeps what was decided, without what it was decided by."""
        [(person, decision)] = seen.decisions
        if isinstance(decision, Permit) and decision.filter is not None:
            decision = replace(decision, filter=())
        sight = seen.sight._replace(known=tuple(zip(person.keys, person.versions, strict=True)))
        kept = Seen(sight, [(Person(person.keys, person.ids, Facts(())), decision)])
        known.decided.pop(asking, None)
        known.decided[asking] = (at, known.until(at), kept)
        if len(known.decided) > DECISIONS_MAX:
            del known.decided[next(iter(known.decided))]
        return kept

    def _know(self, patient: PatientId, person: Person) -> _Known:
        """Keeps what was read of a patient."""
        known = _Known(person)
        self._kept.pop(patient, None)
        self._kept[patient] = known
        if len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        return known

    async def seen_by(self, requester: Requester, named: Named, at: datetime, act: Act = Act.READ) -> Seen:
        """As :meth:`see`, of somebody who is not the caller of a request."""
        if self._store is None:
            return _EVERYTHING
        if not any(named):
            return Seen(NOTHING)
        persons = await self._store.of(named)
        at = at.astimezone(WARSAW)
        decided = [(person, decide(requester, person.facts, act, at, self._settings)) for person in persons]
        seen = _seen(decided)
        if (
            act is Act.READ
            and len(persons) == 1
            and _of_one(named)
            and len(persons[0].versions) == len(persons[0].keys)
        ):
            self._keep(self._know(named.patients[0], persons[0]), asks_as(requester), at, seen)
        return seen

    async def shown(self, seen: Seen, named: Sequence[str]) -> Mapping[str, Sequence[int]]:
        """Which of these uniqueIds :meth:`see` shows, each with the keys of the person whose it is.

        They are those of which everything newest of one person is shown.
        """
        if self._store is None:
            return dict.fromkeys(named, ())
        found: dict[str, Sequence[int]] = {}
        for person, decision in seen.decisions:
            if isinstance(decision, Permit):
                meant = await self._store.documents(person.keys, named)
                visible = shown(decision.filter, [each.facts for each in meant])
                names = {name: [m.facts.entry_uuid in visible for m in meant if name in m.names] for name in named}
                found |= {name: person.keys for name, entries in names.items() if entries and all(entries)}
        return found

    async def shows_all(self, seen: Seen, type_codes: Sequence[str] | None, created_from: str, created_to: str) -> bool:
        """Whether :meth:`see` shows of one patient all that is, or may be, of these types (None: of any) and time.

        Where documents are registered that fit they say it; where none is, what the rules say of any that may come.
        """
        if self._store is None:
            return True
        if not seen.permits or (type_codes is not None and not type_codes):
            return False
        there, visible = await self._store.count(seen.sight, type_codes, created_from, created_to)
        types = ("",) if type_codes is None else type_codes
        return there == visible and (
            there > 0 or all(surely(p.filter, t, created_from, created_to) for p in seen.permits for t in types)
        )

    async def referable(
        self,
        requester: Requester,
        documents: Sequence[str],
        at: datetime,
        joined: Sequence[Collection[str]] = (),
        others: Sequence[str] = (),
    ) -> Mapping[str, bool] | None:
        """Which of these documents (urn:uuid:) a submission of this person may refer to, each with whether to replace.

        To all that they may read now, and to all that they or their organisation have written, which alone they may
        replace. But of what it would make one lineage (``joined``) not to what would show them more than before. To
        objects of other kinds (``others``) that are shown to them now, that hold a document which they have written, or
        that are folders of nothing. None: to everything; systems feed for people who are not named.
        """
        if self._store is None or not requester.person:
            return None
        if not documents and not others:
            return {}
        question = ask(requester, Facts(()), at, self._settings)
        writers = {requester.person, question.professional, requester.organisation} - {""}
        found: dict[str, bool] = {}
        seen = await self.seen_by(requester, Named(uuids=[_plain(uuid) for uuid in (*documents, *others)]), at)
        if others:
            found |= dict.fromkeys(await self._store.open(others, writers, seen.sight), False)
        for person, decision in seen.decisions if documents else ():
            meant = await self._store.documents(person.keys, documents)
            permitted = decision.filter if isinstance(decision, Permit) else ()
            readable = shown(permitted, [each.facts for each in meant])
            lineages: dict[str, list[DocumentFacts]] = {}
            lineage_of: dict[str, str] = {}
            for document, names in meant:
                lineages.setdefault(document.lineage, []).append(document)
                lineage_of[document.entry_uuid] = document.lineage
                theirs = not writers.isdisjoint(document.authors)
                if names and (theirs or document.entry_uuid in readable):
                    found[document.entry_uuid] = theirs
            for together in joined:
                parts = {lineage_of[uuid] for uuid in together if uuid in lineage_of}
                whole = [replace(each, lineage="joined") for part in parts for each in lineages[part]]
                opened = {lineage_of[uuid] for uuid in shown(permitted, whole) - readable}
                for uuid in together:
                    if lineage_of.get(uuid) in opened:
                        found.pop(uuid, None)
        return found

    async def explain(
        self, requester: Requester, patient: PatientId, documents: Sequence[str], at: datetime, act: Act = Act.READ
    ) -> Explained:
        """Why somebody may do something or not; ``documents``: entryUUIDs or uniqueIds.

        Raises Problem ``UnknownKeyIdentifier`` if nobody is named so.
        """
        persons = await self._store.of(Named((patient,))) if self._store else ()
        if not persons:
            raise Problem.of("UnknownKeyIdentifier", "no patient has this identifier", str(patient))
        [person] = persons
        found = await self._store.documents(person.keys, documents) if self._store and documents else ()
        facts = [each.facts for each in found]
        explained = explain(requester, person.facts, act, at.astimezone(WARSAW), self._settings, facts)
        names = {each.facts.entry_uuid: {_plain(name) for name in each.names} for each in found}
        asked = {_plain(name) for name in documents}
        meant = tuple(trace for trace in explained.documents if not asked.isdisjoint(names[trace.entry_uuid]))
        missing = tuple(name for name in documents if not any(_plain(name) in known for known in names.values()))
        return Explained(person, replace(explained, documents=meant), missing)


def nobody() -> Problem:
    """What is said to whoever may not do something for a patient, and of ids that nobody has: one and the same."""
    return Problem.of("AddressNotFound", "no patient has this id, or none for whom this caller may do this")


def _of_one(named: Named) -> bool:
    """Whether it names one patient and nothing else."""
    return len(named.patients) == 1 and not any(named[1:])


def _seen(decided: Sequence[tuple[Person, Permit | Deny]]) -> Seen:
    return Seen(sight((p.keys, d.filter) for p, d in decided if isinstance(d, Permit)), decided)


def _plain(name: str) -> str:
    return name.removeprefix("urn:uuid:").lower()


def _depends(act: Act, requester: Requester) -> bool:
    """Whether the decision rests on the facts of a patient."""
    of_one = act in (Act.CONSENT, Act.EMERGENCY) and requester.patient != ""  # whose proof is good for one alone
    return (
        act in (Act.READ, Act.HANDOUT)
        or of_one
        or (requester.role == _PATIENT and act in (Act.IDENTIFY, Act.CONSENT, Act.LOG))
    )


def _now(context: Context) -> datetime:
    return context.received_at.astimezone(WARSAW)
