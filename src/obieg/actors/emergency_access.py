"""Break-glass: a professional opens all of one patient for an hour, says why, and is looked at afterwards.

Whoever may (docs/access.md, act ``emergency``) is not asked for more than a reason; the patient and the officer are
told in the commit that opens the session.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from obieg.actors.access_control import AccessControl, nobody
from obieg.actors.patient_index import ATTEMPTS_MAX, PatientIndex
from obieg.domain.access import Act, Emergency, Period
from obieg.domain.audit import AuditObject
from obieg.domain.consents import Kind, Stated
from obieg.domain.identifiers import PatientId
from obieg.domain.obligations import (
    EMERGENCIES,
    FRESH,
    LONGEST,
    EmergencyAsked,
    EmergencyStore,
    Opened,
    Session,
    Standing,
    Told,
    who,
)
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.requester import Requester
from obieg.protocol import Context

ENDED = "OBIEG-1-END"  # what the audit calls the end of a session
_NONE = "OBIEG-1-NONE"  # and that none was there to end


class EmergencyAccess:
    """Opens, renews and ends sessions."""

    def __init__(
        self, store: EmergencyStore, index: PatientIndex, *, access: AccessControl, new_uuid: Callable[[], str]
    ) -> None:
        self._store = store
        self._index = index
        self._access = access
        self._new_uuid = new_uuid

    async def open(self, asked: EmergencyAsked, context: Context) -> Session:
        """A new session, or a later end of the one that runs. Raises Problem."""
        for _ in range(ATTEMPTS_MAX):
            patient, standing = await self._standing(asked.patient, context)
            with suppress(LostRace):
                return await self._put(asked, patient, standing, context)
        raise RetryLater("the session is changed all the time")

    async def end(self, asked: EmergencyAsked, context: Context) -> None:
        """Ends the session of the caller; none to end changes nothing. Raises Problem."""
        context.transaction = replace(context.transaction, id=ENDED)
        for _ in range(ATTEMPTS_MAX):
            patient, standing = await self._standing(asked.patient, context)
            if not standing.source:
                context.transaction = replace(
                    context.transaction, id=_NONE, name="No Emergency Access to End", event="query"
                )
                return
            _about(context, patient, standing.source)
            stated = Stated(standing.source, patient, Kind.EMERGENCY, (), by=context.requester.person)
            with suppress(LostRace):
                await self._store.put(stated, standing.version, None, (), context.audit())
                context.audited = True
                return
        raise RetryLater("the session is changed all the time")

    async def _standing(self, asked: PatientId, context: Context) -> tuple[PatientId, Standing]:
        """Of whom it is, by the id that stands, and what runs. Raises Problem for who may not."""
        requester, now = context.requester, context.received_at
        expect_person(requester)
        await self._access.expect(asked, context, Act.EMERGENCY)
        patient = await self._index.affinity_domain_id(asked)
        standing = await self._store.standing(asked, requester, now) if patient is not None else None
        if patient is None or standing is None:
            raise nobody()
        expect_fresh(requester, now)
        return patient, standing

    async def _put(self, asked: EmergencyAsked, patient: PatientId, standing: Standing, context: Context) -> Session:
        requester, now = context.requester, context.received_at
        began = standing.began or now
        source = standing.source or EMERGENCIES + self._new_uuid()
        latest = began + LONGEST
        until = min(latest, max(now + timedelta(minutes=asked.minutes), standing.until or now))
        session = Session(source, patient, began, until, latest, asked.reason, renewed=bool(standing.source))
        fact = Emergency(requester.person, requester.organisation, Period(began, until))
        said = {**who(requester), "reason": asked.reason, "until": until.isoformat()}
        told = Told(standing.patient_key, "emergency", source, said)
        _about(context, patient, source)
        stated = Stated(source, patient, Kind.EMERGENCY, (fact,), by=requester.person)
        event = context.audit(detail=f"reason: {asked.reason}; until {until.isoformat(timespec='seconds')}")
        opened = Opened(session, source, requester, asked.explanation)
        await self._store.put(stated, standing.version, opened, (told,), event)
        context.audited = True
        return session


def expect_person(requester: Requester) -> None:
    """Only a person of a facility opens it, in a laboratory, too. Raises Problem."""
    if not (requester.person and requester.organisation):
        said = "it is opened by a person who acts at a facility; who asks is neither"
        raise Problem([Finding("NotPermitted", said, reason="emergency: none")])


def expect_fresh(requester: Requester, now: datetime) -> None:
    """Whoever uses this node's pages has just proved who they are. Raises Problem."""
    if requester.proof == "session" and (requester.logged_in_at is None or now - requester.logged_in_at > FRESH):
        raise Problem.of("FreshProofRequired", f"the person must have logged in within {FRESH.seconds // 60} minutes")


def _about(context: Context, patient: PatientId, source: str) -> None:
    context.objects = (AuditObject("patient", str(patient)), AuditObject("emergency", source))
