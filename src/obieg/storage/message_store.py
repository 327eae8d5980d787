"""Messages between patients and facilities in PostgreSQL: port :class:`obieg.domain.messaging.MessageStore`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from obieg.domain.audit import AuditEvent
from obieg.domain.messaging import MESSAGES_MAX, OPEN_MAX, THREADS_MAX, Asked, Message, Side, Thread
from obieg.domain.persons import Demographics
from obieg.domain.requester import Requester
from obieg.domain.sight import Sight
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, done, run
from obieg.storage.statements import Call, load

_SQL = load("messages.sql")
_person = msgspec.json.Decoder(Demographics).decode
_message = msgspec.json.Decoder(Message).decode


class PostgresMessages:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def threads(self, side: Side, thread: str = "") -> Sequence[Thread]:
        """See the port."""
        [rows] = await run(self._database, _SQL.threads(**_whose(side), thread_id=thread, count=THREADS_MAX))
        return [
            Thread._make(
                (
                    *row[:6],
                    _person(bytes(row[6])) if row[6] is not None else Demographics(),
                    [_message(m) for m in row[7]],
                    "",
                )
            )
            for row in rows
        ]

    async def begin(self, side: Side, asked: Asked, id_: str, by: Requester, event: AuditEvent, sight: Sight) -> bool:
        """See the port."""
        patient = {name: value for name, value in _whose(side).items() if name != "facility"}
        begin = _SQL.put_thread.seen(
            sight, **patient, thread_id=id_, facility=asked.facility, subject=asked.subject, most=OPEN_MAX
        )
        return await done(self._database, begin, _put(side, id_, asked.text, by), self._audit.call(event))

    async def write(self, side: Side, asked: Asked, by: Requester, event: AuditEvent) -> bool:
        """See the port."""
        return await done(self._database, _put(side, asked.thread, asked.text, by), self._audit.call(event))

    async def read(self, side: Side, thread: str, event: AuditEvent) -> None:
        """See the port."""
        read = _SQL.read_messages(thread_id=thread, of_patient=side.of_patient)
        await run(self._database, read, self._audit.call(event))

    async def close(self, side: Side, thread: str, event: AuditEvent) -> bool:
        """See the port."""
        close = _SQL.close_thread(**_whose(side), thread_id=thread)
        return await done(self._database, close, self._audit.call(event))

    async def record(self, event: AuditEvent) -> None:
        """See the port."""
        await self._audit.record(event)


def _whose(side: Side) -> dict[str, str]:
    """A side that is not meant is named by nothing that could be found."""
    patient = side.patient
    if patient is None:
        return {"facility": side.facility, "authority": "", "value": ""}
    return {"facility": "", "authority": patient.authority, "value": patient.value}


def _put(side: Side, thread: str, text: str, by: Requester) -> Call:
    return _SQL.put_message(
        **_whose(side),
        thread_id=thread,
        most=MESSAGES_MAX,
        of_patient=side.of_patient,
        author=by.person,
        author_name=by.person_name,
        role=by.role,
        text=text,
    )
