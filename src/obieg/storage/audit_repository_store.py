"""The log as a repository of audit records, in PostgreSQL: port :class:`obieg.domain.audit.AuditLog`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from obieg.domain.audit import AuditEvent, AuditQuestion, ReceivedAudit, StoredAudit, Unsent, Unsents
from obieg.domain.identifiers import PatientId, patient_id
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, run
from obieg.storage.statements import Call, Parameter, Statement, load

_SQL = load("audit_repository.sql")
_ID_MAX = 2**63 - 1


class PostgresAuditLog:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore, *, assigning_authority: str) -> None:
        self._database = database
        self._audit = audit
        self._authority = assigning_authority

    async def receive(self, records: tuple[ReceivedAudit, ...]) -> list[int]:
        """See the port."""
        results = await run(self._database, *map(_received, records))
        return [rows[0][0] for rows in results]

    async def find(self, question: AuditQuestion, count: int) -> list[StoredAudit]:
        """See the port."""
        statement, values = looked_up(question, count)
        (rows,) = await run(self._database, statement(**values))
        return [StoredAudit(*row) for row in rows]

    async def names(self, patients: tuple[str, ...]) -> tuple[str, ...]:
        """See the port."""
        statement, values = named(patients, self._authority)
        (rows,) = await run(self._database, statement(**values))
        return tuple(dict.fromkeys((*patients, *(str(PatientId(*row)) for row in rows))))

    async def record(self, event: AuditEvent) -> None:
        """See the port."""
        await self._audit.record(event)

    # sending ----------------------------------------------------------------------------------------------------

    async def position(self, repository: str) -> int:
        """The number of the last record that the repository has."""
        (rows,) = await run(self._database, _SQL.audit_position(repository=repository))
        return int(rows[0][0])

    async def advance(self, repository: str, audit_id: int) -> None:
        """The repository has everything up to this record."""
        await run(self._database, _SQL.advance_audit_position(repository=repository, audit_id=audit_id))

    async def after(self, audit_id: int, count: int) -> Unsents:
        """The next records, with what tells whether others will yet come between them."""
        writers, rows, clock = await run(
            self._database, _SQL.oldest_writer(), _SQL.audit_after(after=audit_id, count=count), _SQL.audit_clock()
        )
        return Unsents(writers[0][0], [Unsent(*row) for row in rows], clock[0][0])

    async def lag(self) -> Mapping[str, tuple[int, float]]:
        """By repository how many records wait, and the age of the oldest in seconds."""
        (rows,) = await run(self._database, _SQL.audit_lag())
        return {name: (int(waiting), float(seconds)) for name, waiting, seconds in rows}


def _received(record: ReceivedAudit) -> Call:
    return _SQL.insert_received_audit(
        transaction=record.transaction,
        outcome=record.outcome.value,
        patient_id=record.patients[0] if record.patients else "",
        request_id=record.request_id,
        message=record.message,
        format=record.format.value,
        happened_at=record.happened_at.isoformat(),
        sender=record.sender,
        other_patients=record.patients[1:],
    )


def looked_up(question: AuditQuestion, count: int) -> tuple[Statement, dict[str, Parameter]]:
    """The statement that answers a question, and its values; for commands too, which have no event loop."""
    values: dict[str, Parameter] = {
        "since": question.since.isoformat() if question.since else "-infinity",
        "until": question.until.isoformat() if question.until else "infinity",
        "transactions": question.transactions,
        "outcomes": question.outcomes,
        "request_id": question.request_id,
        "before": _ID_MAX if question.before is None else question.before,
        "count": count,
    }
    if question.ids is not None:
        return _SQL.find_audit_by_id, {**values, "ids": question.ids, "patients": question.patients}
    if question.patients is None:
        return _SQL.find_audit_by_time, values
    return _SQL.find_audit_by_patient, {**values, "patients": question.patients}


def named(patients: tuple[str, ...], authority: str) -> tuple[Statement, dict[str, Any]]:
    """As :func:`looked_up`, for the other ids of patients."""
    known = [found for found in map(patient_id, patients) if found is not None]
    return _SQL.audit_names, {
        "values": [k.value for k in known],
        "authorities": [k.authority for k in known],
        "own_authority": authority,
    }
