"""Takes notices from the outbox to people (port :class:`obieg.protocol.Receiver`): to patients, to the officer.

The portal shows every notice, and the worklist every session; a message only says that there is one. Of the ways that
a person's records name one is taken, an e-mail before an SMS. Who can be reached by none has been told by the portal.
Where several are told (a patient, guardians) each message has a reference of its own, the same when it is repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

from obieg.domain.access import Settings
from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.messages import Channels, NoticeStore, Pending, reach, to_officer, to_person
from obieg.domain.obligations import NOTICE, receivers
from obieg.domain.outbox import Letter
from obieg.domain.persons import Demographics
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.zone import WARSAW


class _Messenger:
    def __init__(self, source: str) -> None:
        self._source = source

    def audit(self, letter: Letter, outcome: Outcome, detail: str = "") -> AuditEvent:
        """See the port."""
        return AuditEvent(
            NOTICE,
            "notification",
            outcome,
            detail,
            letter.control_id,
            source_user=self._source,
            destination_user=letter.destination,
        )


class PatientMessenger(_Messenger):
    """Tells patients, and who represents them, that the portal has a notice for them."""

    def __init__(
        self,
        store: NoticeStore,
        channels: Channels,
        *,
        settings: Settings,
        now: Callable[[], datetime],
        source: str,
        portal: str,
        language: str,
    ) -> None:
        """``settings``: of access; ``portal``: the address that messages name; ``language``: of who says none."""
        super().__init__(source)
        self._store = store
        self._channels = channels
        self._settings = settings
        self._now = now
        self._portal = portal
        self._language = language

    async def deliver(self, letter: Letter) -> None:
        """See the port."""
        pending = await self._store.pending(letter.patient_key, int(letter.body))
        if pending is None:
            return
        told = receivers(pending.facts, pending.by, self._now().astimezone(WARSAW), self._settings)
        failed: list[Problem | RetryLater] = []
        if told.patient:
            failed += await self._told("patient", pending, pending.records, letter.control_id)
        for guardian in told.guardians:
            # A guardian who is not here as a person is told by the portal alone.
            records = await self._store.records(guardian)
            number = hashlib.sha256(guardian.encode()).hexdigest()[:8]
            failed += await self._told("guardian", pending, records, f"{letter.control_id}-{number}")
        # What may succeed later is repeated: whoever was reached is sent the same message, under the same reference.
        for failure in sorted(failed, key=lambda each: isinstance(each, Problem)):
            raise failure

    async def _told(
        self, whose: str, pending: Pending, records: Sequence[Demographics], reference: str
    ) -> list[Problem | RetryLater]:
        """One message, or none where nobody can be reached; what went wrong, so that others are told all the same."""
        to = reach(records, self._language)
        try:
            if self._channels.email is not None and to.email:
                message = to_person(whose, pending.kind, to, self._portal, reference, sms=False)
                await self._channels.email.send(message)
            elif self._channels.sms is not None and to.mobile:
                message = to_person(whose, pending.kind, to, self._portal, reference, sms=True)
                await self._channels.sms.send(message)
        except (Problem, RetryLater) as failure:
            return [failure]
        return []


class OfficerMessenger(_Messenger):
    """Tells the data-protection officer that the worklist has another line."""

    def __init__(self, channels: Channels, *, source: str, address: str, language: str) -> None:
        """``address``: of the officer; "" where nobody is told but by the worklist."""
        super().__init__(source)
        self._channels = channels
        self._address = address
        self._language = language

    async def deliver(self, letter: Letter) -> None:
        """See the port."""
        if self._channels.email is not None and self._address:
            review = letter.body.decode()
            await self._channels.email.send(to_officer(self._address, review, self._language, letter.control_id))
