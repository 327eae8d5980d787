"""What access logs are made of besides audit records: port :class:`obieg.domain.access_log.AccessLogStore`."""

from __future__ import annotations

from obieg.domain.audit import AuditEvent
from obieg.domain.identifiers import PatientId
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_SQL = load("emergency.sql")


class PostgresAccessLog:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def withheld(self, patient: PatientId) -> frozenset[str]:
        """See the port."""
        [rows] = await run(self._database, _SQL.withheld_names(authority=patient.authority, value=patient.value))
        return frozenset(row[0] for row in rows)

    async def record(self, event: AuditEvent) -> None:
        """See the port."""
        await self._audit.record(event)
