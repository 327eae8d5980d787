"""Gives the patient's own views out at the counter, to who stands there and confirms it.

Staff who do it need no basis of their own, and get to read nothing: what is given out is what access control would let
the person see who stands there, in whose name it is done. That person confirms by a code on their own phone. The
patient is told in the commit of the record, which names both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from obieg.actors.access_control import AccessControl, nobody
from obieg.actors.access_log import AccessLog
from obieg.actors.emergency_access import expect_person
from obieg.actors.exporter import Exporter
from obieg.actors.patient_summary import PatientSummary
from obieg.actors.representatives import Representatives
from obieg.domain.access import Act
from obieg.domain.access_log import LogQuestion
from obieg.domain.audit import AuditObject
from obieg.domain.consent_codes import (
    CODES_MAX,
    MINUTES,
    TRIES_MAX,
    CodeAsked,
    CodeSent,
    CodeStore,
    CodeTold,
    Contact,
    expiry,
)
from obieg.domain.consent_codes import digest as digested
from obieg.domain.consents import CONSENTS, AccessStore, Kind
from obieg.domain.handouts import (
    CODE,
    DOCUMENTS,
    DOCUMENTS_MAX,
    LOG_COUNT,
    NO_PHONE,
    REASONS,
    SCOPE,
    HandedOut,
    HandoutAsked,
    HandoutCodeAsked,
    told,
)
from obieg.domain.identifiers import PatientId
from obieg.domain.messages import Channel, Reach, handout_message, reach
from obieg.domain.obligations import HANDOUT, Told, who
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.protocol import AuditSink, Context

_STATED = (Kind.CONSENT, Kind.OBJECTION, Kind.NOTICES)
# As which purpose who stands there asks (v3-ActReason).
_PURPOSES = {"patient": "PATRQT", "guardian": "FAMRQT", "authorised": "PWATRNY"}


class Standing(NamedTuple):
    """Who stands there, and by which bases the patient's views are theirs."""

    person: PatientId
    contact: Contact | None  # None of somebody who is no patient here
    name: str
    bases: tuple[str, ...]


class Handouts:
    """Of one region."""

    def __init__(
        self,
        codes: CodeStore,
        facts: AccessStore,
        audit: AuditSink,
        sms: Channel | None,
        *,
        exporter: Exporter,
        log: AccessLog,
        representatives: Representatives,
        summaries: Callable[[], PatientSummary | None],
        access: AccessControl,
        language: str,
        new_uuid: Callable[[], str],
        new_code: Callable[[], str],
    ) -> None:
        """``summaries`` gives the actor, which is made later; the others as :class:`~obieg.actors.consent_codes`."""
        self._codes = codes
        self._facts = facts
        self._audit = audit
        self._sms = sms
        self._exporter = exporter
        self._log = log
        self._representatives = representatives
        self._summaries = summaries
        self._access = access
        self._language = language
        self._new_uuid = new_uuid
        self._new_code = new_code

    async def ask(self, asked: HandoutCodeAsked, context: Context) -> CodeSent:
        """Sends a code to who stands there. Raises Problem."""
        standing = await self._standing(asked.patient, asked.stands, context)
        to = self._reached(standing)
        if self._sms is None or standing.contact is None or to is None:
            raise Problem.of("PatientNotReachable", "no code can be sent: look at an identity document")
        id_, code, until = self._new_uuid(), self._new_code(), expiry(context.received_at)
        digest = digested(id_, told(code, asked.patient))
        code_asked = CodeAsked(standing.person, SCOPE, hours=0)
        key = standing.contact.patient_key
        if not await self._codes.put(id_, key, digest, code_asked, context.requester, until):
            raise Problem.of("TooManyRequests", f"{CODES_MAX} codes were sent within the hour")
        await self._sms.send(handout_message(to, code, MINUTES, id_))
        return CodeSent(id_, until)

    async def hand_out(self, asked: HandoutAsked, context: Context) -> HandedOut:
        """What is given out, recorded and told to the patient. Raises Problem."""
        standing = await self._standing(asked.patient, asked.stands, context)
        patient = await self._codes.contact(asked.patient)
        if patient is None:
            raise nobody()
        reason = await self._confirmed(asked, standing, context)
        confirmed = asked.document or CODE
        made = await self._made(asked, standing, confirmed, context)
        said = {**who(context.requester), "bases": list(standing.bases), "confirmed": confirmed, "reason": reason}
        key = f"{HANDOUT}:{context.request_id}"
        context.told = (Told(patient.patient_key, HANDOUT, key, said, report=bool(reason)),)
        detail = f"confirmed by: {confirmed}" + (f"; no code: {reason}" if reason else "")
        await self._audit.record(context.audit(detail=detail))
        context.audited = True
        return made

    # who stands there -------------------------------------------------------------------------------------------

    async def _standing(self, patient: PatientId, stands: str, context: Context) -> Standing:
        """In whose name it is done; the record names them from now on. Raises Problem for who may not."""
        root, _, extension = stands.partition("#")
        person = PatientId(extension, root) if stands else patient
        name = person.identifier
        context.requester = replace(
            context.requester, acting_for=name, acting_for_name="", purpose_of_use=_PURPOSES["patient"]
        )
        try:
            bases = await self._access.expect(patient, context, Act.HANDOUT)
        except Problem:
            # The patient reads the record, too, and is not told the number of somebody who is nobody to them.
            context.requester = replace(context.requester, acting_for="")
            context.refusal = f"{context.refusal or 'unknown'} for {name}"
            raise
        expect_person(context.requester)
        held = tuple(basis for basis in _PURPOSES if basis in bases)
        contact = await self._codes.contact(person)
        names = (r.name for r in contact.records) if contact else ()
        called = next((" ".join((*each.given, each.family)).strip() for each in names), "")
        called = called or await self._called(patient, name, context)
        purpose = _PURPOSES[next(iter(held), "patient")]
        context.requester = replace(context.requester, acting_for_name=called, purpose_of_use=purpose)
        return Standing(person, contact, called, held)

    async def _called(self, patient: PatientId, person: str, context: Context) -> str:
        """What the source calls them that says that they may act for the patient."""
        found = await self._representatives.entitled(patient, context.received_at)
        return next((each.name for each in found if each.person == person and each.name), "")

    def _reached(self, standing: Standing) -> Reach | None:
        """How a code gets to them; None where it cannot."""
        to = reach(standing.contact.records if standing.contact else (), self._language)
        return to if self._sms is not None and to.mobile else None

    async def _confirmed(self, asked: HandoutAsked, standing: Standing, context: Context) -> str:
        """Why there is no code; "" where it was told. Raises Problem."""
        if not asked.document:
            given = CodeTold(standing.person, asked.request, told(asked.code, asked.patient), asked.base)
            tried = await self._codes.attempt(given, context.requester)
            if tried is None or not tried.right:
                left = 0 if tried is None else TRIES_MAX - tried.tries
                said = (
                    f"it is not the code; {left} tries are left" if left else "no code can be told any more: ask anew"
                )
                raise Problem.of("ConsentCodeRefused", said, "http.code")
            return ""
        if asked.document not in DOCUMENTS:
            raise Problem.of("TableValueNotFound", f"one of {', '.join(DOCUMENTS)} is expected", "http.document")
        if self._reached(standing) is None:
            return NO_PHONE
        if asked.reason not in REASONS:
            said = f"a code can be sent; if it cannot be told, say why: {', '.join(REASONS)}"
            raise Problem.of("TableValueNotFound", said, "http.reason")
        return asked.reason

    # what is given out ------------------------------------------------------------------------------------------

    async def _made(self, asked: HandoutAsked, standing: Standing, confirmed: str, context: Context) -> HandedOut:
        """What access control would let who stands there see, asked in their name."""
        theirs = Context(
            transaction=context.transaction,
            requester=_as(standing, context.requester),
            request_id=context.request_id,
            received_at=context.received_at,
        )
        documents, more = await self._exporter.some_of(
            "DocumentReference", asked.patient, theirs, base=asked.base, most=DOCUMENTS_MAX
        )
        stated = await self._facts.of_patient(asked.patient, _STATED)
        log = await self._log.page(LogQuestion(asked.patient, LOG_COUNT), context.requester)
        entitled = await self._representatives.entitled(asked.patient, context.received_at)
        summaries = self._summaries()
        summary = await summaries.content(asked.patient, theirs, base=asked.base) if summaries else None
        read = summary.objects if summary is not None else ()
        context.objects = tuple(dict.fromkeys((AuditObject("patient", str(asked.patient)), *read)))
        return HandedOut(
            standing.name,
            standing.bases,
            confirmed,
            documents,
            more,
            [each for each in stated if each.source.startswith(CONSENTS) and each.resource is not None],
            log,
            entitled,
            summary.data if summary is not None else b"",
        )


def _as(standing: Standing, staff: Requester) -> Requester:
    """Who stands there, as they would ask; the rest is what was proved of who hands out."""
    return replace(
        staff,
        person=standing.person.identifier,
        person_name=standing.name,
        role="patient",
        organisation="",
        child_organisation="",
        acting_for="",
        acting_for_name="",
        patient="",
    )
