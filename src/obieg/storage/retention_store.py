"""What retention rests on, in PostgreSQL: port :class:`obieg.domain.retention.RetentionStore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import msgspec

from obieg.domain.audit import AuditEvent
from obieg.domain.identifiers import PatientId
from obieg.domain.retention import About, KeptPatient, Mark, Person
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, Row, run
from obieg.storage.statements import load

SQL = load("retention.sql")
read_patient = msgspec.json.Decoder(KeptPatient).decode


class PostgresRetention:
    """Implements the port over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def objects(self, uuids: Sequence[str]) -> Sequence[About]:
        """See the port."""
        [rows] = await run(self._database, SQL.retention_objects(uuids=[u[9:] for u in uuids]))
        return [About(uuid, int(key), document or "", at) for uuid, key, document, at in rows]

    async def contents(self, unique_ids: Sequence[str]) -> Sequence[About]:
        """See the port."""
        [rows] = await run(self._database, SQL.retention_bytes(unique_ids=unique_ids))
        return [
            About(unique_id, None if key is None else int(key), document or "", described_before=before)
            for unique_id, key, document, before in rows
        ]

    async def persons(self, patient_keys: Sequence[int]) -> Mapping[int, Person]:
        """See the port."""
        [rows] = await run(self._database, SQL.retention_persons(patient_keys=patient_keys))
        found: dict[int, Person] = {}
        for row in rows:
            found |= _person(row)
        return found

    async def page(self, after: int, count: int) -> list[int]:
        """A key of each person with documents, in order; all who are linked have one."""
        [rows] = await run(self._database, SQL.retention_page(after=after, count=count))
        return [int(key) for (key,) in rows]

    async def forget_contents(self, patient: PatientId) -> None:
        """Takes what removed objects of a person said out of their history."""
        await run(self._database, SQL.forget_contents(authority=patient.authority, value=patient.value))

    async def patient_of(self, unique_id: str) -> int | None:
        """Whose document it is."""
        [rows] = await run(self._database, SQL.patient_of_document(unique_id=unique_id))
        return int(rows[0][0]) if rows else None

    async def mark(
        self,
        patient_key: int,
        unique_id: str,
        mark: Mark,
        *,
        day: date | None,
        reason: str,
        by: str,
        audit: AuditStore,
        event: AuditEvent,
    ) -> int:
        """Records what somebody says, with its audit record; the number of the mark."""
        call = SQL.insert_mark(
            patient_key=patient_key,
            unique_id=unique_id,
            mark=mark.value,
            day=None if day is None else day.isoformat(),
            reason=reason,
            said_by=by,
            organisation="",
        )
        [[(number, _)], _] = await run(self._database, call, audit.call(event))
        return int(number)

    async def end_mark(self, number: int, *, by: str, audit: AuditStore, event: AuditEvent) -> bool:
        """Says that a mark stands no more; False where it did not. Its audit record tells the attempt."""
        [rows, _] = await run(self._database, SQL.end_mark(mark_id=number, ended_by=by), audit.call(event))
        return bool(rows)

    async def marks(self, patient_keys: Sequence[int]) -> list[Row]:
        """All that was said, of these patients or of everybody."""
        [rows] = await run(self._database, SQL.marks(patient_keys=patient_keys))
        return rows


def _person(row: Row) -> dict[int, Person]:
    survivor, asked, affinity_domain_id, said = row
    person = Person(int(survivor), affinity_domain_id, read_patient(said))
    return {int(key): person for key in asked}
