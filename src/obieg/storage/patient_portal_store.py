"""What patients see and do by themselves: ports of ``domain/patient_portal`` and ``domain/own_documents``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from obieg.domain.access_log import Access
from obieg.domain.audit import AuditEvent
from obieg.domain.identifiers import PatientId
from obieg.domain.patient_portal import NOTICES_MAX, REVIEWS_MAX, Candidate, Notice, ReportAsked, Reviewed
from obieg.domain.persons import Demographics
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_SQL = load("patient_portal.sql")
_NOTICES = load("emergency.sql").notices_of
_read = msgspec.json.Decoder(Demographics).decode


class PostgresPatientPortal:
    """Implements the ports over one database."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def represented(self, person: str) -> Sequence[Candidate]:
        """See the port."""
        authority, _, value = person.partition("#")
        [rows] = await run(self._database, _SQL.represented(authority=authority, value=value, person=person))
        return [
            Candidate(tuple(keys), id_, own, [_read(bytes(r)) for r in records], unread)
            for keys, id_, own, records, unread in rows
        ]

    async def notices(self, patient: PatientId) -> Sequence[Notice]:
        """See the port."""
        [rows] = await run(self._database, _NOTICES(**_named(patient), count=NOTICES_MAX))
        return [Notice(*row) for row in rows]

    async def read(self, patient: PatientId, last: int, event: AuditEvent) -> None:
        """See the port."""
        await run(self._database, _SQL.read_notices(**_named(patient), last=last), self._audit.call(event))

    async def report(self, asked: ReportAsked, entry: Access, by: str, event: AuditEvent) -> None:
        """See the port."""
        named = _named(asked.patient)
        line = _SQL.put_report(
            **named,
            professional=entry.person or entry.system,
            professional_name=entry.name,
            organisation=entry.organisation,
            explanation=asked.explanation,
            at=entry.at.isoformat(),
            audit_id=asked.entry,
            by=by,
        )
        await run(self._database, line, _SQL.tell_officer(**named, audit_id=asked.entry), self._audit.call(event))

    async def reviews(self, patient: PatientId) -> Sequence[Reviewed]:
        """See the port."""
        [rows] = await run(self._database, _SQL.reviews_of(**_named(patient), count=REVIEWS_MAX))
        return [Reviewed(*row) for row in rows]

    async def number(self, patient: PatientId, class_code: str) -> int:
        """See the port :class:`obieg.domain.own_documents.OwnDocumentStore`."""
        [[(number,)]] = await run(self._database, _SQL.count_own_documents(**_named(patient), class_code=class_code))
        return int(number)

    async def is_own(self, patient: PatientId, entry_uuid: str, class_code: str) -> bool:
        """See the same."""
        uuid = entry_uuid.removeprefix("urn:uuid:")
        [[(own,)]] = await run(
            self._database, _SQL.is_own_document(**_named(patient), entry_uuid=uuid, class_code=class_code)
        )
        return bool(own)

    async def record(self, event: AuditEvent) -> None:
        """See the port."""
        await self._audit.record(event)


def _named(patient: PatientId) -> dict[str, str]:
    return {"authority": patient.authority, "value": patient.value}
