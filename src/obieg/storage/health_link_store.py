"""Links to health summaries in PostgreSQL: port :class:`obieg.domain.health_links.LinkStore`."""

from __future__ import annotations

from collections.abc import Sequence

from obieg.domain.audit import AuditEvent
from obieg.domain.health_links import KEPT_DAYS, LINKS_MAX, LISTED_MAX, TICKET_S, TRIES_MAX, Kept, Link, Tried
from obieg.domain.identifiers import PatientId
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, Row, done, run
from obieg.storage.statements import load

_SQL = load("health_links.sql")


class PostgresHealthLinks:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def put(self, kept: Kept, event: AuditEvent) -> bool:
        """See the port."""
        asked = kept.asked
        put = _SQL.put_link(
            link_id=kept.id,
            authority=asked.patient.authority,
            value=asked.patient.value,
            locator=f"\\x{kept.locator}",
            passcode=f"\\x{kept.passcode}",
            label=asked.label,
            made_by=kept.by.person,
            made_by_name=kept.by.person_name,
            purpose=kept.by.purpose_of_use,
            expires_at=kept.until.isoformat(),
            file=kept.file.decode("ascii"),
            most=LINKS_MAX,
            tries=TRIES_MAX,
        )
        return await done(self._database, put, self._audit.call(event))

    async def forget(self) -> None:
        """See the port."""
        await run(self._database, _SQL.forget_links(days=KEPT_DAYS))

    async def of(self, patient: PatientId) -> Sequence[Link]:
        """See the port."""
        [rows] = await run(
            self._database, _SQL.links_of(authority=patient.authority, value=patient.value, count=LISTED_MAX)
        )
        return [Link(*row) for row in rows]

    async def end(self, patient: PatientId, id_: str, event: AuditEvent) -> bool:
        """See the port."""
        end = _SQL.end_health_link(link_id=id_, authority=patient.authority, value=patient.value)
        return await done(self._database, end, self._audit.call(event))

    async def attempt(self, locator: str, passcode: str) -> Tried | None:
        """See the port."""
        given = f"\\x{passcode}"
        [rows] = await run(self._database, _SQL.try_link(locator=f"\\x{locator}", passcode=given, most=TRIES_MAX))
        return _tried(rows[0]) if rows else None

    async def opened(self, id_: str, ticket: str, recipient: str, event: AuditEvent) -> None:
        """See the port."""
        calls = [_SQL.count_opening(link_id=id_), self._audit.call(event)]
        if ticket:
            calls.append(_SQL.put_ticket(ticket=f"\\x{ticket}", link_id=id_, recipient=recipient, seconds=TICKET_S))
        await run(self._database, *calls)

    async def take(self, locator: str, ticket: str) -> tuple[Tried, str] | None:
        """See the port."""
        [rows] = await run(self._database, _SQL.take_ticket(locator=f"\\x{locator}", ticket=f"\\x{ticket}"))
        return (_tried(rows[0][:-1]), rows[0][-1]) if rows else None

    async def record(self, event: AuditEvent) -> None:
        """See the port."""
        await self._audit.record(event)


def _tried(row: Row) -> Tried:
    return Tried._make((*row[:-1], bytes(row[-1])))
