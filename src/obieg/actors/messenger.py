"""Takes notices from the outbox to people (port :class:`obieg.protocol.Receiver`): to patients, to the officer.

The portal shows every notice, and the worklist every session; a message only says that there is one. Of the ways that
the patient's records name one is taken, an e-mail before an SMS, so that a repetition repeats one message only. Who can
be reached by none has been told by the portal.
"""

from __future__ import annotations

from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.messages import Channels, NoticeStore, reach, to_officer, to_patient
from obieg.domain.obligations import NOTICE
from obieg.domain.outbox import Letter


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
    """Tells patients that the portal has a notice for them."""

    def __init__(self, store: NoticeStore, channels: Channels, *, source: str, portal: str, language: str) -> None:
        """``portal`` is the address that messages name, ``language`` that of who says none."""
        super().__init__(source)
        self._store = store
        self._channels = channels
        self._portal = portal
        self._language = language

    async def deliver(self, letter: Letter) -> None:
        """See the port."""
        pending = await self._store.pending(letter.patient_key, int(letter.body))
        if pending is None:
            return
        to = reach(pending.records, self._language)
        if self._channels.email is not None and to.email:
            message = to_patient(pending.kind, to, self._portal, letter.control_id, sms=False)
            await self._channels.email.send(message)
        elif self._channels.sms is not None and to.mobile:
            message = to_patient(pending.kind, to, self._portal, letter.control_id, sms=True)
            await self._channels.sms.send(message)


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
