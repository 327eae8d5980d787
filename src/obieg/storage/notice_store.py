"""What patients are told, in PostgreSQL: port :class:`obieg.domain.messages.NoticeStore`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from obieg.domain.messages import Pending
from obieg.domain.persons import Demographics
from obieg.storage.access_store import read_facts
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_SQL, _ACCESS = load("emergency.sql"), load("access.sql")
_read = msgspec.json.Decoder(Demographics).decode


class PostgresNotices:
    """Implements the port over one database."""

    def __init__(self, database: Database, *, assigning_authority: str) -> None:
        self._database = database
        self._authority = assigning_authority

    async def pending(self, patient_key: int, notice_id: int) -> Pending | None:
        """See the port."""
        rows, facts = await run(
            self._database,
            _SQL.notice_to_send(patient_key=patient_key, notice_id=notice_id),
            _ACCESS.access_facts(patient_keys=[patient_key], own_authority=self._authority),
        )
        if not rows or not facts:
            return None
        kind, at, by, records = rows[0]
        return Pending(kind, at, by, read_facts(facts[0][1]), [_read(bytes(record)) for record in records])

    async def records(self, person: str) -> Sequence[Demographics]:
        """See the port."""
        authority, _, value = person.rpartition("#")
        [rows] = await run(self._database, _SQL.patient_contact(authority=authority, value=value))
        return [_read(bytes(record)) for record in rows[0][1]] if rows else []
