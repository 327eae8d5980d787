"""Carries questions of patients to facilities that have documents of theirs, and answers back.

A patient's side is the act ``log``; a facility's side the act ``answer``, and sees the threads of its own alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from obieg.actors.access_control import AccessControl
from obieg.actors.provider_directory import ProviderDirectory
from obieg.domain.access import Act
from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId
from obieg.domain.messaging import NOTICE, Asked, MessageStore, Side, Thread
from obieg.domain.obligations import Told
from obieg.domain.permits import Named
from obieg.domain.problems import Problem
from obieg.protocol import Context


class Messaging:
    """Of one region."""

    def __init__(
        self,
        store: MessageStore,
        directory: ProviderDirectory,
        *,
        access: AccessControl,
        assigning_authority: str,
        new_uuid: Callable[[], str],
    ) -> None:
        self._store = store
        self._directory = directory
        self._access = access
        self._authority = assigning_authority
        self._new_uuid = new_uuid

    async def serve(self, asked: Asked, context: Context) -> Sequence[Thread] | None:
        """Threads, or None where something was written. Raises Problem."""
        side = Side(asked.patient, context.requester.organisation)
        if asked.patient is not None:
            await self._access.expect(asked.patient, context, Act.LOG)
        if asked.thread or asked.reads:
            found = await self._store.threads(side, asked.thread)
            self._about(found, asked, context)
            if asked.thread and not found:
                raise Problem.of("AddressNotFound", "there is no such thread, or none of this caller", "http.thread")
            if asked.reads:
                return await self._read(side, asked, found, context)
            await self._change(side, asked, found[0], context)
        elif not await self._begun(side, asked, context):
            said = "the facility has handed over no documents of this patient, or too many threads are open"
            raise Problem.of("RuleBroken", said, "http.facility")
        context.audited = True
        return None

    async def _begun(self, side: Side, asked: Asked, context: Context) -> bool:
        """To a facility of whose documents they see one: a hold must not be told of either."""
        named = Named((side.patient,) if side.patient is not None else ())
        seen = await self._access.seen_by(context.requester, named, context.received_at)
        return await self._store.begin(side, asked, self._new_uuid(), context.requester, context.audit(), seen.sight)

    def _about(self, found: Sequence[Thread], asked: Asked, context: Context) -> None:
        """Whose threads they are stands in the record, and so in their logs."""
        if asked.patient is None:
            ids = dict.fromkeys(thread.patient for thread in found)
            context.objects = tuple(AuditObject("patient", str(PatientId(id_, self._authority))) for id_ in ids)

    async def _read(self, side: Side, asked: Asked, found: Sequence[Thread], context: Context) -> Sequence[Thread]:
        if asked.thread:
            await self._store.read(side, asked.thread, context.audit())
        else:
            await self._store.record(context.audit())
        context.audited = True
        places = await self._directory.organisation_names(dict.fromkeys(thread.facility for thread in found))
        return [thread._replace(facility_name=places.get(thread.facility, "")) for thread in found]

    async def _change(self, side: Side, asked: Asked, thread: Thread, context: Context) -> None:
        event = context.audit()
        if asked.close:
            done = await self._store.close(side, asked.thread, event)
        else:
            if not side.of_patient:
                said = {"organisation": thread.facility, "thread": thread.id}
                told = Told(thread.patient_key, NOTICE, f"message:{thread.id}:{len(thread.messages)}", said)
                event = msgspec.structs.replace(event, told=(*event.told, told))
            done = await self._store.write(side, asked, context.requester, event)
        if not done:
            why = "the thread is closed, or has as many messages as it can: begin another one"
            raise Problem.of("RuleBroken", why, "http.thread")
