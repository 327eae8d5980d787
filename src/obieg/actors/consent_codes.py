"""Consent during a visit: sends the patient a code, and records the consent when who asked is told it.

The code goes to the patient's phone and is kept as a digest; a try counts in a commit of its own, so that nobody gets a
fourth one. The Consent is recorded by the Consent Registry like any other, and ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from obieg.actors.access_control import nobody
from obieg.actors.consent_registry import ConsentRegistry
from obieg.actors.emergency_access import expect_person
from obieg.domain.audit import AuditObject
from obieg.domain.consent_codes import CODES_MAX, MINUTES, TRIES_MAX, CodeAsked, CodeSent, CodeStore, CodeTold, expiry
from obieg.domain.consent_codes import digest as digested
from obieg.domain.consents import Said
from obieg.domain.messages import Channel, code_message, reach
from obieg.domain.problems import Problem
from obieg.mapping.consent_code import consent_of
from obieg.protocol import Context


class ConsentCodes:
    """Asks patients by SMS."""

    def __init__(
        self,
        store: CodeStore,
        registry: ConsentRegistry,
        sms: Channel | None,
        *,
        language: str,
        new_uuid: Callable[[], str],
        new_code: Callable[[], str],
    ) -> None:
        """``new_code`` makes six digits that nobody can guess; ``language``: of whose records name none."""
        self._store = store
        self._registry = registry
        self._sms = sms
        self._language = language
        self._new_uuid = new_uuid
        self._new_code = new_code

    async def ask(self, asked: CodeAsked, context: Context) -> CodeSent:
        """Sends a code to the patient. Raises Problem."""
        requester = context.requester
        expect_person(requester)
        contact = await self._store.contact(asked.patient)
        if not await self._registry.may(None if contact is None else asked.patient, context) or contact is None:
            raise nobody()
        to = reach(contact.records, self._language)
        if self._sms is None or not to.mobile:
            said = "this node sends no SMS" if self._sms is None else "the patient's records name no mobile number"
            do = "have the patient sign, and somebody else record a Consent that names you"
            raise Problem.of("PatientNotReachable", f"{said}: {do}")
        id_, code, until = self._new_uuid(), self._new_code(), expiry(context.received_at)
        if not await self._store.put(id_, contact.patient_key, digested(id_, code), asked, requester, until):
            raise Problem.of("TooManyRequests", f"the patient was sent {CODES_MAX} codes within the hour")
        await self._sms.send(code_message(to, code, MINUTES, id_))
        context.objects = (*context.objects, AuditObject("consent", id_))
        return CodeSent(id_, until)

    async def confirm(self, told: CodeTold, context: Context) -> Said:
        """Records the Consent. Raises Problem."""
        requester = context.requester
        expect_person(requester)
        tried = await self._store.attempt(told, requester)
        if tried is None or not tried.right:
            left = 0 if tried is None else TRIES_MAX - tried.tries
            said = f"it is not the code; {left} tries are left" if left else "no code can be told (any more): ask anew"
            raise Problem.of("ConsentCodeRefused", said, "http.code")
        made = consent_of(told.patient, requester, tried.scope, context.received_at, tried.hours, base=told.base)
        return await self._registry.create(made, context, id_=told.id)
