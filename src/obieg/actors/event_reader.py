"""Reads medical events (ZM) from where they are kept, and shows of them what access control shows.

The source is asked of nobody for whom no basis holds. An event counts as a document of its facility: who restricted the
facility, a period or the event restricted it, too.
"""

from __future__ import annotations

import structlog

from obieg.actors.access_control import AccessControl, Seen
from obieg.actors.patient_index import PatientIndex
from obieg.codes.load import toml
from obieg.domain.access import Permit
from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId
from obieg.domain.medical_events import EventsAsked, EventSource, MedicalEvent, MedicalEvents
from obieg.domain.permits import Named
from obieg.domain.problems import RetryLater
from obieg.domain.showing import shown
from obieg.protocol import AuditSink, Context

_PESEL = toml("national/pl/pik.toml")["roots"]["pesel"]

log = structlog.get_logger()


class EventReader:
    """See the module docstring."""

    def __init__(
        self,
        source: EventSource,
        index: PatientIndex,
        audit: AuditSink,
        *,
        access: AccessControl,
        authority: str,
    ) -> None:
        """``authority``: of the affinity domain's ids."""
        self._source = source
        self._index = index
        self._audit = audit
        self._access = access
        self._authority = authority

    async def read(self, asked: EventsAsked, context: Context) -> MedicalEvents:
        """What may be seen; nothing of a patient who is not known, or not to whoever asks."""
        seen = await self._access.see(Named((asked.patient,)), context)
        seen.refused(context, self._authority)
        seen.told(context)
        context.objects = (AuditObject("patient", str(asked.patient)),)
        found = await self._found(asked.patient, seen)
        if not found.events:
            seen.told(context, shown=False)
        await self._audit.record(context.audit())
        context.audited = True
        return found

    async def _found(self, patient: PatientId, seen: Seen) -> MedicalEvents:
        # To be an author needs nothing: by that alone nobody's number is sent anywhere.
        permits = [permit for permit in seen.permits if {*permit.bases} - {"author"}]
        everything = seen.sight.permitted is None  # nobody is asked
        person = await self._index.described(patient) if permits or everything else None
        numbers = [i.value for i in person.identifiers if i.authority == _PESEL] if person is not None else []
        if not numbers:
            return MedicalEvents()
        try:
            events = await self._source.of(numbers[0])
        except RetryLater as error:
            log.warning("medical events could not be read", error=str(error))
            return MedicalEvents(answered=False)
        if not everything:
            events = [event for event in events if any(_shows(permit, event) for permit in permits)]
        return MedicalEvents(sorted(events, key=lambda event: event.begin, reverse=True))


def _shows(permit: Permit, event: MedicalEvent) -> bool:
    return bool(shown(permit.filter, [event.facts]))
