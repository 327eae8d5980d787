"""Consents of patients (IHE PCF, Consent Registry): they, and their ends, hold from the commit that acknowledges them.

Nothing is deleted: each change is a version, an end one that says nothing. What a Consent refers to is looked up in the
directory, the index and the registry when it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from obieg.actors.access_control import AccessControl
from obieg.actors.document_registry import DocumentRegistry
from obieg.actors.patient_index import ATTEMPTS_MAX, PatientIndex
from obieg.actors.provider_directory import ProviderDirectory
from obieg.domain import grounds
from obieg.domain.access import Act, Consent
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.audit import AuditObject
from obieg.domain.consents import CONSENTS, NOTICE, AccessStore, ConsentQuery, Fact, Kind, Said, Stated
from obieg.domain.identifiers import PatientId
from obieg.domain.obligations import Told, who
from obieg.domain.permits import Named
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.requester import Requester
from obieg.mapping.consent import ConsentDraft
from obieg.mapping.consent_code import UUID
from obieg.mapping.consent_meaning import read_consent, states
from obieg.mapping.consent_references import ROUNDS_MAX, actors, members, references
from obieg.mapping.fhir_patient import identifier, patient_value
from obieg.protocol import Context
from obieg.wire import fhir_json

_KEPT_BY_PATIENT = {  # resources that are sources of facts
    "CareTeam": Kind.DECLARATION,
    "Encounter": Kind.ENCOUNTER,
    "RelatedPerson": Kind.REPRESENTATIVE,
}
_URN = "urn:uuid:"
_NO_CONSENT = "no Consent has this id, or none that this caller may know of"


class ConsentRegistry:
    """Records, ends and answers consents."""

    def __init__(
        self,
        store: AccessStore,
        index: PatientIndex,
        directory: ProviderDirectory,
        registry: DocumentRegistry,
        *,
        codes: AffinityDomain,
        assigning_authority: str,
        home_community_id: str,
        new_uuid: Callable[[], str],
        access: AccessControl,
    ) -> None:
        self._access = access
        self._store = store
        self._index = index
        self._directory = directory
        self._registry = registry
        self._codes = codes
        self._authority = assigning_authority
        self._home = home_community_id
        self._new_uuid = new_uuid

    # recording --------------------------------------------------------------------------------------------------

    async def create(self, draft: ConsentDraft, context: Context, *, id_: str = "") -> Said:
        """A new Consent; ``id_``: that of the code by which the patient has stated it. Raises Problem."""
        proved, id_ = bool(id_), id_ or self._new_uuid()
        for _ in range(ATTEMPTS_MAX):
            with suppress(LostRace):
                return await self._put(draft, id_, 0, context, proved=proved)
        raise RetryLater("the patient is changed all the time")

    async def update(self, id_: str, draft: ConsentDraft, if_match: str, context: Context) -> Said:
        """The next version of a Consent. Raises Problem."""
        for _ in range(ATTEMPTS_MAX):
            standing = await self._standing(id_, if_match, context)
            with suppress(LostRace):
                return await self._put(draft, id_, standing.version, context)
        raise RetryLater("the Consent is changed all the time")

    async def end(self, id_: str, if_match: str, context: Context) -> None:
        """The Consent says nothing any more; ending one that has ended changes nothing. Raises Problem."""
        for _ in range(ATTEMPTS_MAX):
            found = await self._found(CONSENTS + id_, None, context)
            if found is None:
                raise Problem.of("AddressNotFound", _NO_CONSENT)
            said, named = found
            _expect_version(said, if_match)
            context.objects = (AuditObject("patient", str(named)), AuditObject("consent", id_))
            context.told = await self._told(named, id_, said.version, context) if said.resource is not None else ()
            event = context.audit()
            stated = Stated(CONSENTS + id_, named, Kind.CONSENT, (), by=_who(context))
            try:
                if said.resource is None:
                    await self._store.read(CONSENTS + id_, None, event)
                else:
                    await self._store.put(stated, said.version, event)
            except LostRace:
                continue
            context.audited = True
            return
        raise RetryLater("the Consent is changed all the time")

    async def _standing(self, id_: str, if_match: str, context: Context) -> Said:
        found = await self._found(CONSENTS + id_, None, context)
        if found is None:
            raise Problem.of("AddressNotFound", f"{_NO_CONSENT}: make one with POST, which gives it an id")
        _expect_version(found[0], if_match)
        return found[0]

    async def _put(self, draft: ConsentDraft, id_: str, before: int, context: Context, *, proved: bool = False) -> Said:
        named = await self._patient(draft, context)
        kind = states(draft.resource)
        facts: tuple[Fact, ...] = (True,) if kind is not None and draft.active else ()
        if kind is None and draft.active:
            known = await self.known(draft, named, context)
            consent = read_consent(id_, draft.resource, known, self._codes, draft.base, self._home)
            if not proved and self._access.reads(context.requester):
                _expect_for_others(consent, context.requester)
            facts = (consent,)
        resource = {"resourceType": "Consent", "id": id_} | draft.resource
        stated = Stated(
            source=CONSENTS + id_,
            patient=named,
            kind=kind or Kind.CONSENT,
            facts=facts,
            by=_who(context),
            resource=fhir_json.write(resource).decode(),
            status=draft.resource.get("status", ""),
            actors=actors(draft.resource, draft.base),
        )
        context.objects = (AuditObject("patient", str(named)), AuditObject("consent", id_))
        context.told = await self._told(named, id_, before, context)
        try:
            at = await self._store.put(stated, before, context.audit())
        except LostRace:
            await self._expect_same_patient(id_, named)
            raise
        context.audited = True
        return Said(stated.source, before + 1, stated.kind, b"", stated.resource, at, stated.by)

    async def _patient(self, draft: ConsentDraft, context: Context) -> PatientId:
        """The patient's id in the affinity domain; all that are given must name one person. Raises Problem.

        Names of whom the caller may not are as those of nobody: what else is said here would tell of them.
        """
        found = {i: await self._index.affinity_domain_id(i) for i in draft.patients if await self.may(i, context)}
        known = {i: p for i, p in found.items() if p is not None}
        if len({*known.values()}) > 1:
            raise Problem.of("XDSPatientIdDoesNotMatch", "its names are those of several patients", "Consent.patient")
        if not known:
            said = f"no patient is known here by {', '.join(map(str, draft.patients))}: announce the patient first"
            raise Problem.of("XDSUnknownPatientId", said, "Consent.patient")
        return next(iter(known.values()))

    async def _expect_same_patient(self, id_: str, named: PatientId) -> None:
        found = await self._store.read(CONSENTS + id_, None, None)
        person = await self._index.affinity_domain_id(named)
        if found is not None and person is not None and found[2] != person.value:
            said = "a Consent stays that of its patient: end this one, and make one of the other patient"
            raise Problem.of("XDSPatientIdDoesNotMatch", said, "Consent.patient")

    # who may

    async def may(self, patient: PatientId | None, context: Context) -> bool:
        """Whether the caller may, where that depends on the patient: patients, and proofs good for one patient.

        None: there is nobody, which is answered when it is answered that the caller may not.
        """
        if not self._access.depends(Act.CONSENT, context.requester):
            return patient is not None
        access, veiled = context.access, context.veiled
        named = Named() if patient is None else Named(patients=(patient,))
        seen = await self._access.see(named, context, Act.CONSENT)
        context.access = grounds.join((access, context.access))
        context.veiled = context.veiled or veiled
        if not seen.permits:
            seen.refused(context, self._authority)
        return bool(seen.permits)

    async def _told(self, patient: PatientId, id_: str, before: int, context: Context) -> tuple[Told, ...]:
        """The patient is told of what others record, change or end."""
        requester = context.requester
        if not self._access.records(requester):
            return ()
        seen = await self._access.seen_by(requester, Named(patients=(patient,)), context.received_at, Act.CONSENT)
        said = {**who(requester), "consent": id_}
        return tuple(Told(p.keys[0], NOTICE, f"{NOTICE}:{id_}:{before}", said) for p, _ in seen.decisions)

    def _theirs(self, said: Said, context: Context) -> bool:
        """Whether the caller may know of a version: who records for patients only of what they recorded themselves.

        What else patients have stated, restrictions above all, is not for professionals to see, to change or to end.
        """
        return not self._access.records(context.requester) or said.recorded_by == _who(context)

    async def _found(self, source: str, version: int | None, context: Context) -> tuple[Said, PatientId] | None:
        """A version of a Consent, the newest for None, and whose it is; None where the caller may not know of it."""
        found = await self._store.read(source, version, None)
        patient = None if found is None else PatientId(found[2], self._authority)
        if patient is not None:  # whoever may know of it or not: the record names whose it is
            context.objects = (AuditObject("patient", str(patient)), *context.objects)
        may = await self.may(patient, context)
        known = may and found is not None and self._theirs(found[0], context)
        return (found[0], patient) if found is not None and patient is not None and known else None

    # what it refers to

    async def known(self, draft: ConsentDraft, patient: PatientId, context: Context) -> dict[str, dict[str, Any]]:
        """What stands under the references of a patient's Consent, and of the groups that it names."""
        found: dict[str, dict[str, Any]] = {}
        wanted = references(draft.resource, draft.base)
        for _ in range(ROUNDS_MAX):
            new = await self._looked_up(wanted, patient, context)
            found |= new
            wanted = {r for resource in new.values() for r in members(resource, draft.base)} - found.keys()
            if not wanted:
                break
        return found

    async def _looked_up(self, names: Iterable[str], patient: PatientId, context: Context) -> dict[str, dict[str, Any]]:
        by_kind: dict[str, list[str]] = {}
        for name in names:
            by_kind.setdefault(name.partition("/")[0], []).append(name)
        found: dict[str, dict[str, Any]] = {}
        documents = by_kind.pop("DocumentReference", [])
        patients = by_kind.pop("Patient", [])
        kept = {name for kind in _KEPT_BY_PATIENT for name in by_kind.pop(kind, ())}
        if others := [name for several in by_kind.values() for name in several]:
            found |= await self._directory.resources(others)
        if kept:
            said = await self._store.of_patient(patient, [*_KEPT_BY_PATIENT.values()])
            found |= {s.source: fhir_json.read(s.resource.encode()) for s in said if s.resource and s.source in kept}
        if documents:
            theirs = await self._documents(documents, patient, context)
            found |= {name: {"resourceType": "DocumentReference"} for name in theirs}
        if patients:
            found |= await self._patients(patients, context)
        return found

    async def _documents(self, names: Sequence[str], patient: PatientId, context: Context) -> Sequence[str]:
        """Those that a Consent of the patient may name.

        Who acts as the patient is told which are no documents of theirs. To others that would tell what they may not
        see: they may name any, and one of somebody else, or of nobody, fits nothing.
        """
        if not self._access.depends(Act.IDENTIFY, context.requester):
            return names
        uuids = {_URN + id_: name for name in names if UUID.match(id_ := name.partition("/")[2])}
        asked = Named(patients=(patient,))
        seen = await self._access.seen_by(context.requester, asked, context.received_at, Act.CONSENT)
        keys = seen.sight.permitted or ()
        standing = (await self._registry.known(uuids=sorted(uuids))).objects
        return [name for u, name in uuids.items() if u in standing and standing[u][:2] in {("D", key) for key in keys}]

    async def _patients(self, names: Sequence[str], context: Context) -> dict[str, dict[str, Any]]:
        """Those whom the caller may know to be patients: who acts as one, and a proof good for one, only their own."""
        requester = context.requester
        wanted = {name: PatientId(patient_value(name.partition("/")[2]), self._authority) for name in names}
        act = Act.IDENTIFY if self._access.depends(Act.IDENTIFY, requester) else Act.CONSENT
        if self._access.depends(act, requester):
            asked = Named(patients=tuple(wanted.values()))
            seen = await self._access.seen_by(requester, asked, context.received_at, act)
            wanted = {name: patient for name, patient in wanted.items() if seen.of((patient.value,)).permits}
        found = {name: await self._index.described(patient) for name, patient in wanted.items()}
        return {
            name: {"resourceType": "Patient", "identifier": [identifier(i) for i in candidate.identifiers]}
            for name, candidate in found.items()
            if candidate is not None
        }

    # asking -----------------------------------------------------------------------------------------------------

    async def read(self, id_: str, version: int | None, context: Context) -> Said:
        """A version, the newest for None. Raises Problem."""
        found = await self._found(CONSENTS + id_, version, context)
        if found is None:
            raise Problem.of("AddressNotFound", _NO_CONSENT)
        said, patient = found
        context.objects = (AuditObject("patient", str(patient)), AuditObject("consent", id_))
        if said.resource is None:
            raise Problem.of("ResourceGone", "the Consent was ended; its versions before that can be read")
        await self._store.read(CONSENTS + id_, version, context.audit())
        context.audited = True
        return said

    async def find(self, query: ConsentQuery, context: Context) -> tuple[Sequence[Said], int]:
        """A page, newest first, and how many there are; of whom the caller may not ask it has none."""
        patients = [p for p in query.patients if await self.may(p, context)]
        sources = [s for s in query.sources if query.patients or await self._found(s, None, context)]
        context.decided = True  # who names nobody known is asked about nobody
        if (query.patients and not patients) or (query.sources and not sources):
            return (), 0
        theirs = _who(context) if self._access.records(context.requester) else ""
        query = msgspec.structs.replace(query, patients=tuple(patients), sources=tuple(sources), recorded_by=theirs)
        found, total = await self._store.find(
            msgspec.structs.replace(query, count=max(query.count, 1)), context.audit()
        )
        context.audited = True
        return found[: query.count], total


def _expect_for_others(consent: Consent, requester: Requester) -> None:
    """What opens anything to who records it is stated by the patient: by a code, or in the portal. Raises Problem."""
    own = {requester.person, requester.acting_for, requester.organisation, requester.child_organisation} - {""}
    if any(p.permit and (p.actors is None or not own.isdisjoint(p.actors)) for p in consent.provisions):
        said = (
            "it permits who records it, their facility, or everybody: the patient permits that by a code "
            "($consent-code) or in the portal; here name others whom the patient permits"
        )
        raise Problem([Finding("NotPermitted", said, "Consent.provision", reason="consent: for who records it")])


def _expect_version(said: Said, if_match: str) -> None:
    if if_match not in ("", "*", str(said.version)):
        detail = f"the Consent has version {said.version}, not {if_match[:20]}: read it again"
        raise Problem.of("VersionConflict", detail, "http.If-Match")


def _who(context: Context) -> str:
    return context.requester.person or context.requester.system
