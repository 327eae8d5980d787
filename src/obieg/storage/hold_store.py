"""Legal holds of documents in PostgreSQL: port :class:`obieg.domain.holds.LegalHolds`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from obieg.domain.audit import AuditEvent
from obieg.domain.holds import LEGAL, Held
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_SQL = load("retention.sql")


class PostgresLegalHolds:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def hold(self, patient_key: int, unique_id: str, held: Held, event: AuditEvent) -> Held:
        """See the port."""
        call = _SQL.insert_mark(
            patient_key=patient_key,
            unique_id=unique_id,
            mark="hold",
            day=None,
            reason=held.reason,
            said_by=held.by,
            organisation=held.organisation,
        )
        [[(number, at)], _] = await run(self._database, call, self._audit.call(event))
        return msgspec.structs.replace(held, id=f"{LEGAL}-{number}", since=at)

    async def of(self, unique_id: str) -> Sequence[Held]:
        """See the port."""
        [rows] = await run(self._database, _SQL.legal_holds(unique_id=unique_id))
        return [
            Held(f"{LEGAL}-{number}", LEGAL, reason, at, by, organisation)
            for number, reason, at, by, organisation in rows
        ]

    async def end(self, number: int, by: str, event: AuditEvent) -> None:
        """See the port."""
        await run(self._database, _SQL.end_legal_hold(mark_id=number, ended_by=by), self._audit.call(event))
