"""Break-glass sessions in PostgreSQL: port :class:`obieg.domain.obligations.EmergencyStore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from obieg.domain.audit import AuditEvent
from obieg.domain.consents import Stated
from obieg.domain.identifiers import PatientId
from obieg.domain.obligations import Opened, Standing, Told
from obieg.domain.requester import Requester
from obieg.storage.access_store import put_calls
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, run
from obieg.storage.statements import Call, load

_SQL = load("emergency.sql")


class PostgresEmergencies:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def standing(self, patient: PatientId, requester: Requester, at: datetime) -> Standing | None:
        """See the port."""
        [rows] = await run(
            self._database,
            _SQL.standing_session(
                authority=patient.authority,
                value=patient.value,
                professional=requester.person,
                organisation=requester.organisation,
                at=at.isoformat(),
            ),
        )
        key, source, version, began, until = rows[0]
        return None if key is None else Standing(key, source or "", version or 0, began, until)

    async def put(
        self, stated: Stated, before: int, review: Opened | None, told: Sequence[Told], event: AuditEvent
    ) -> None:
        """See the port."""
        calls = put_calls(stated, before)
        if review is None:
            calls.append(_SQL.end_review(source=stated.source))
        else:
            calls.append(_put_review(review))
            if not before:
                calls.append(_SQL.report(source=stated.source))
        await run(self._database, *calls, self._audit.call(msgspec.structs.replace(event, told=(*event.told, *told))))


def _put_review(opened: Opened) -> Call:
    session, requester = opened.session, opened.requester
    return _SQL.put_review(
        source=opened.source,
        professional=requester.person,
        professional_name=requester.person_name,
        organisation=requester.organisation,
        reason=session.reason,
        explanation=opened.explanation,
        opened_at=session.began.isoformat(),
        until=session.until.isoformat(),
    )
