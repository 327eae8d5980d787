"""Audit records in PostgreSQL: one row, committed with what it describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from obieg.domain.audit import AuditEvent
from obieg.mapping.audit import write_audit_message
from obieg.storage.link import Database
from obieg.storage.statements import Call, load

_SQL = load("audit.sql")


class AuditStore:
    """Makes audit rows; stores those of requests that never reached an actor."""

    def __init__(
        self, database: Database, *, source_id: str, names: Mapping[str, str], now: Callable[[], datetime]
    ) -> None:
        """``names`` gives the name of each transaction by its id."""
        self._database = database
        self._source_id = source_id
        self._names = names
        self._now = now

    def call(self, event: AuditEvent) -> Call:
        """The insertion of one record, for the batch of the act that it describes."""
        patients = [o.identifier for o in event.objects if o.kind == "patient"]
        # The first is named by the affinity-domain id; so are the others whose data were seen.
        authority = patients[0].partition("^")[2] if patients else ""
        others = sorted({p for p in patients[1:] if p.partition("^")[2] == authority} - {*patients[:1]})
        if others:
            return _SQL.insert_audit_of_several(**self.columns(event), other_patients=others)
        return _SQL.insert_audit(**self.columns(event))

    def columns(self, event: AuditEvent) -> dict[str, str]:
        """A record as the columns of its row."""
        patient = next((o.identifier for o in event.objects if o.kind == "patient"), "")
        return {
            "transaction": event.transaction,
            "outcome": event.outcome.value,
            "patient_id": patient,
            "request_id": event.request_id,
            "message": write_audit_message(
                event,
                recorded_at=self._now(),
                source_id=self._source_id,
                transaction_name=self._names.get(event.transaction, event.transaction),
            ),
        }

    async def record(self, event: AuditEvent) -> None:
        """Stores one record by itself."""
        await self._database.run(self.call(event))
