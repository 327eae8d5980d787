"""Audit records in PostgreSQL: one row, committed with what it describes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec

from obieg.domain.audit import AuditEvent
from obieg.domain.obligations import written
from obieg.domain.problems import Problem
from obieg.domain.registry import LostRace
from obieg.domain.requester import Spent
from obieg.mapping.audit import write_audit_message
from obieg.storage.link import Database, Row, run
from obieg.storage.statements import Call, load

_SQL = load("audit.sql")
_FORGET_AT_ONCE = 10_000


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
        if event.told:
            return _SQL.insert_audit_telling(
                **self.columns(event), **spending(event.spent), other_patients=others, told=written(event.told)
            )
        if event.spent:
            spent = spending(event.spent)
            if others:
                return _SQL.insert_audit_of_several_spending(**self.columns(event), **spent, other_patients=others)
            return _SQL.insert_audit_spending(**self.columns(event), **spent)
        if others:
            return _SQL.insert_audit_of_several(**self.columns(event), other_patients=others)
        return _SQL.insert_audit(**self.columns(event))

    def spend(self, event: AuditEvent) -> tuple[Call, ...]:
        """What uses up what the request of ``event`` uses up, for a batch that comes before that of the record."""
        return using_up(event.spent, event.request_id)

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
        """Stores one record by itself. Raises Problem ``Replayed``."""
        await run(self._database, self.call(event))

    async def forget_spent(self) -> int:
        """Forgets some of what nothing can be shown with any more; how many."""
        [[(forgotten,)]] = await run(self._database, _SQL.forget_spent(count=_FORGET_AT_ONCE))
        return int(forgotten)


def using_up(spent: Sequence[Spent], request_id: str) -> tuple[Call, ...]:
    """What uses it up in the batch; another request's is refused: the batch raises Problem ``Replayed``."""
    return (_SQL.spend(**spending(spent), request_id=request_id),) if spent else ()


async def run_once(database: Database, *calls: Call) -> list[list[Row]]:
    """As :func:`obieg.storage.link.run`; what another request has used up is a lost race."""
    try:
        return await run(database, *calls)
    except Problem as problem:
        raise LostRace(problem.findings[0].code) from problem


def spending(spent: Sequence[Spent]) -> dict[str, list[str]]:
    """What is used up, as the parameters of a statement; always in one order, so that no two requests deadlock."""
    digests = {
        hashlib.sha256(msgspec.json.encode((s.kind, s.issuer, s.identifier))).hexdigest(): s.until for s in spent
    }
    ordered = sorted(digests)
    return {"digests": [f"\\x{d}" for d in ordered], "ends": [digests[d].isoformat() for d in ordered]}
