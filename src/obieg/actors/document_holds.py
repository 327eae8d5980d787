"""Holds of documents by the facilities that wrote them: protective and legal (docs/access.md, Holds).

Whoever may change a document may hold it (act ``change``); of what somebody else wrote nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import msgspec

from obieg.actors.access_control import AccessControl
from obieg.actors.patient_index import ATTEMPTS_MAX
from obieg.domain.access import Hold, Period
from obieg.domain.audit import AuditObject
from obieg.domain.consents import AccessStore, Kind, Said, Stated
from obieg.domain.document_facts import written_by
from obieg.domain.documents import DocumentEntry
from obieg.domain.holds import (
    HOLDS,
    LEGAL,
    PROTECTIVE,
    Held,
    HeldDocuments,
    HoldAsked,
    HoldEnded,
    HoldsAsked,
    LegalHolds,
)
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.removing import Standing
from obieg.domain.showing import shown
from obieg.protocol import Context

_read = msgspec.json.Decoder(tuple[Hold, ...]).decode


class DocumentHolds:
    """Makes, lists and ends holds."""

    def __init__(
        self, documents: HeldDocuments, protective: AccessStore, legal: LegalHolds, *, access: AccessControl
    ) -> None:
        self._documents = documents
        self._protective = protective
        self._legal = legal
        self._access = access

    async def hold(self, asked: HoldAsked, context: Context) -> Held:
        """A hold from now on. Raises Problem."""
        if asked.until is not None and asked.until <= context.received_at:
            raise Problem.of("RuleBroken", "the hold would have ended already", "http.until")
        standing, unique_id, patient = await self._theirs(asked.document, context)
        until = f" until {asked.until.isoformat(timespec='seconds')}" if asked.until else ""
        event_detail = f"{asked.kind} hold{until}"
        if asked.kind == LEGAL:
            held = Held("", LEGAL, asked.reason, context.received_at, _who(context), context.requester.organisation)
            held = await self._legal.hold(standing.patient_key, unique_id, held, context.audit(detail=event_detail))
            context.audited = True
            return held
        period = Period(context.received_at, asked.until)
        for _ in range(ATTEMPTS_MAX):
            known = await self._known(asked.document)
            fact = Hold(asked.document, asked.reason, period)
            stated = Stated(HOLDS + asked.document, patient, Kind.HOLD, (fact,), by=_who(context))
            with suppress(LostRace):
                await self._protective.put(stated, known.version if known else 0, context.audit(detail=event_detail))
                context.audited = True
                held = _protective(fact, _who(context))
                return msgspec.structs.replace(held, changed=bool(_facts(known, context.received_at)))
        raise RetryLater("the hold is changed all the time")

    async def end(self, asked: HoldEnded, context: Context) -> None:
        """Withdraws a hold; of a legal one only for whose facility it was made. Raises Problem."""
        _, unique_id, patient = await self._theirs(asked.document, context)
        if asked.hold == PROTECTIVE:
            await self._end_protective(asked.document, patient, context)
            return
        held = next((h for h in await self._legal.of(unique_id) if h.id == asked.hold), None)
        if held is None or not self._may_end(held, context):
            raise Problem.of("AddressNotFound", "no such hold stands, or another made it", "http.hold")
        try:
            await self._legal.end(number_of(held), _who(context), context.audit(detail="legal hold withdrawn"))
        except LostRace:
            raise Problem.of("AddressNotFound", "the hold has been withdrawn meanwhile", "http.hold") from None
        context.audited = True

    async def holds(self, asked: HoldsAsked, context: Context) -> Sequence[Held]:
        """Those that stand. Raises Problem."""
        _, unique_id, _ = await self._theirs(asked.document, context)
        known = await self._known(asked.document)
        facts = _facts(known, context.received_at)
        protective = [_protective(fact, known.recorded_by) for fact in facts] if known is not None else []
        found = [*protective, *await self._legal.of(unique_id)]
        await self._protective.read(HOLDS + asked.document, None, context.audit(detail="holds listed"))
        context.audited = True
        return found

    async def _end_protective(self, document: str, patient: PatientId, context: Context) -> None:
        for _ in range(ATTEMPTS_MAX):
            known = await self._known(document)
            if known is None or not _facts(known, context.received_at):
                raise Problem.of("AddressNotFound", "no such hold stands, or it has ended", "http.hold")
            stated = Stated(HOLDS + document, patient, Kind.HOLD, (), by=_who(context))
            with suppress(LostRace):
                await self._protective.put(stated, known.version, context.audit(detail="protective hold withdrawn"))
                context.audited = True
                return
        raise RetryLater("the hold is changed all the time")

    async def _known(self, document: str) -> Said | None:
        found = await self._protective.read(HOLDS + document, None, None)
        return found[0] if found is not None else None

    async def _theirs(self, document: str, context: Context) -> tuple[Standing, str, PatientId]:
        """The document and its uniqueId, if the caller may change it; else it is as if not there. Raises Problem."""
        standing = (await self._documents.standing([document])).get(document)
        entry = standing.value if standing is not None else None
        if standing is None or not isinstance(entry, DocumentEntry):
            raise _unknown("no such document")
        patient = patient_id(entry.patient_id or "")
        requester, own = context.requester, self._access.changes(context)
        foreign = (
            not requester.person
            and requester.repositories is not None
            and entry.repository_unique_id not in requester.repositories
        )
        if patient is None or foreign or (own is not None and not shown(own, [written_by(entry)])):
            raise _unknown("change: not the author")
        unique_id = entry.unique_id or ""
        context.objects = (AuditObject("patient", str(patient)), AuditObject("document", unique_id))
        return standing, unique_id, patient

    def _may_end(self, held: Held, context: Context) -> bool:
        """Who made it, or their facility; what an operator of the node holds an operator ends."""
        theirs = held.organisation and held.organisation == context.requester.organisation
        return bool(theirs) or held.by == _who(context) or not self._access.enforced


def number_of(held: Held) -> int:
    """The number of the mark that a legal hold is."""
    return int(held.id.rpartition("-")[2])


def _facts(said: Said | None, at: datetime) -> tuple[Hold, ...]:
    """What a source says now."""
    return tuple(h for h in _read(said.facts) if h.period.holds(at)) if said is not None else ()


def _protective(fact: Hold, by: str) -> Held:
    return Held(PROTECTIVE, PROTECTIVE, fact.reason, fact.period.begin or datetime.min, by, until=fact.period.end)  # noqa: DTZ901


def _who(context: Context) -> str:
    return context.requester.person or context.requester.system


def _unknown(reason: str) -> Problem:
    said = "no document has this id, or none that this caller may change"
    return Problem([Finding("AddressNotFound", said, reason=reason)])
