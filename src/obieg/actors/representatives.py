"""Who may act for a patient or see about them, and the end of an authorisation (docs/access.md, Representatives).

Both are the act ``log``. An authorisation is taken back by who may have given it: the patient, or a guardian; and given
up by who has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from obieg.actors.access_control import AccessControl
from obieg.actors.patient_index import ATTEMPTS_MAX
from obieg.actors.provider_directory import ProviderDirectory
from obieg.domain.access import DECLARED, Act, Declaration, Permit, Representative
from obieg.domain.access_log import AccessLogStore
from obieg.domain.audit import AuditObject
from obieg.domain.consents import AccessStore, Kind, Said, Stated
from obieg.domain.identifiers import PatientId
from obieg.domain.permits import Named
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.representatives import ENDED_BY_PATIENT, AuthorisationEnded, Entitled, RepresentativesAsked
from obieg.domain.requester import Requester
from obieg.mapping.fhir_patient import called
from obieg.protocol import Context
from obieg.wire import fhir_json

_KINDS = (Kind.REPRESENTATIVE, Kind.DECLARATION)
_GIVERS = frozenset(("patient", "guardian"))  # the bases of who may have given an authorisation
_SILENT = ("guardian", *DECLARED)  # of whom nothing is said once their basis holds no more, whatever is recorded
_representatives = msgspec.json.Decoder(tuple[Representative, ...]).decode
_declarations = msgspec.json.Decoder(tuple[Declaration, ...]).decode


class Representatives:
    """Lists who is entitled, and ends authorisations."""

    def __init__(
        self, store: AccessStore, names: AccessLogStore, directory: ProviderDirectory, *, access: AccessControl
    ) -> None:
        self._store = store
        self._names = names
        self._directory = directory
        self._access = access

    # asking -----------------------------------------------------------------------------------------------------

    async def find(self, asked: RepresentativesAsked, context: Context) -> Sequence[Entitled]:
        """Who may act or see now, or will; those of one source who are called alike are one. Raises Problem."""
        bases = await self._access.expect(asked.patient, context, Act.LOG)
        found = await self.entitled(
            asked.patient, context.received_at, lambda fact: self._may_end(fact, bases, context)
        )
        await self._names.record(context.audit())
        context.audited = True
        return found

    async def entitled(
        self,
        patient: PatientId,
        at: datetime,
        may_end: Callable[[Representative | Declaration], bool] = lambda _fact: False,
    ) -> Sequence[Entitled]:
        """The same without a question whether it may be told, and without a record: who tells it has both."""
        facts = [f for said in await self._store.of_patient(patient, _KINDS) for f in _standing(said, at)]
        withheld = await self._names.withheld(patient)
        people = dict.fromkeys(fact.professional for _, fact in facts if isinstance(fact, Declaration))
        names = await self._directory.practitioner_names(people)
        places = dict.fromkeys(f.organisation for _, f in facts if isinstance(f, Declaration) and f.organisation)
        organisations = await self._directory.organisation_names(places)
        found: dict[tuple[str, str, str], Entitled] = {}
        for said, fact in facts:
            permit = await self._permitted(fact, patient, at)
            if permit is None and fact.kind in _SILENT and fact.period.holds(at):
                continue
            one = _entitled(said, fact, permit)
            if isinstance(fact, Declaration):
                one = msgspec.structs.replace(
                    one, name=names.get(one.person, ""), organisation_name=organisations.get(fact.organisation, "")
                )
            if one.person in withheld:
                one = msgspec.structs.replace(one, person="", name="")
            may = fact.kind in ENDED_BY_PATIENT and may_end(fact)
            found.setdefault((one.source, one.kind, one.name or one.person), msgspec.structs.replace(one, endable=may))
        return list(found.values())

    async def _permitted(self, fact: Representative | Declaration, patient: PatientId, at: datetime) -> Permit | None:
        """What access control would let them see now by this fact; None: nothing."""
        if not self._access.enforced:
            return Permit(()) if fact.period.holds(at) else None
        seen = await self._access.seen_by(_as(fact), Named(patients=(patient,)), at)
        basis = fact.kind if isinstance(fact, Representative) else "poz"
        return next((d for _, d in seen.decisions if isinstance(d, Permit) and basis in d.bases), None)

    # ending -----------------------------------------------------------------------------------------------------

    async def end(self, asked: AuthorisationEnded, context: Context) -> None:
        """The authorisation gives nothing any more, from the commit that acknowledges it. Raises Problem."""
        bases = await self._access.expect(asked.patient, context, Act.LOG)
        context.objects = (*context.objects, AuditObject("directory_resource", asked.source))
        for _ in range(ATTEMPTS_MAX):
            said, left = await self._ended(asked, bases, context)
            stated = Stated(
                asked.source,
                asked.patient,
                Kind.REPRESENTATIVE,
                left,
                by=context.requester.person,
                resource=said.resource if left else None,
            )
            with suppress(LostRace):
                await self._store.put(stated, said.version, context.audit(detail=f"{asked.kind}: authorisation ended"))
                context.audited = True
                return
        raise RetryLater("what is said of the patient is changed all the time")

    async def _ended(
        self, asked: AuthorisationEnded, bases: frozenset[str], context: Context
    ) -> tuple[Said, tuple[Representative, ...]]:
        """The source, and what it says besides this authorisation. Raises Problem."""
        stood = await self._store.of_patient(asked.patient, (Kind.REPRESENTATIVE,))
        said = next((each for each in stood if each.source == asked.source), None)
        facts = _representatives(said.facts) if said is not None else ()
        ended = [f for f in facts if f.kind == asked.kind and self._may_end(f, bases, context)]
        if said is None or not ended or asked.kind not in ENDED_BY_PATIENT:
            raise Problem.of("AddressNotFound", "no such authorisation stands, or none that this caller may end")
        return said, tuple(f for f in facts if f not in ended)

    def _may_end(self, fact: Representative | Declaration, bases: frozenset[str], context: Context) -> bool:
        own = isinstance(fact, Representative) and fact.person == context.requester.person
        return own or not bases.isdisjoint(_GIVERS) or not self._access.enforced


def _standing(said: Said, at: datetime) -> Iterator[tuple[Said, Representative | Declaration]]:
    """What a source says that is not over."""
    facts: Iterable[Representative | Declaration]
    facts = _representatives(said.facts) if said.kind is Kind.REPRESENTATIVE else _declarations(said.facts)
    return ((said, fact) for fact in facts if fact.period.end is None or fact.period.end > at)


def _as(fact: Representative | Declaration) -> Requester:
    """As whom they would ask."""
    if isinstance(fact, Representative):
        return Requester(system="", person=fact.person, role="patient")
    role = DECLARED[fact.kind][0]
    return Requester(system="", person=fact.professional, role=role, organisation=fact.organisation)


def _entitled(said: Said, fact: Representative | Declaration, permit: Permit | None) -> Entitled:
    person = fact.person if isinstance(fact, Representative) else fact.professional
    resource: dict[str, Any] = fhir_json.read(said.resource.encode()) if said.resource else {}
    return Entitled(
        source=said.source,
        kind=fact.kind,
        person=person,
        name=called(resource) if isinstance(fact, Representative) else "",
        organisation_name="",
        begin=fact.period.begin,
        end=permit.end("guardian") if permit is not None and fact.kind == "guardian" else fact.period.end,
        now=permit is not None,
        endable=False,
    )
