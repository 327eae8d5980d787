"""What patients are told, in PostgreSQL: port :class:`obieg.domain.messages.NoticeStore`."""

from __future__ import annotations

import msgspec

from obieg.domain.messages import Pending
from obieg.domain.persons import Demographics
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_SQL = load("emergency.sql")
_read = msgspec.json.Decoder(Demographics).decode


class PostgresNotices:
    """Implements the port over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(self, patient_key: int, notice_id: int) -> Pending | None:
        """See the port."""
        [rows] = await run(self._database, _SQL.notice_to_send(patient_key=patient_key, notice_id=notice_id))
        if not rows:
            return None
        kind, at, records = rows[0]
        return Pending(kind, at, [_read(bytes(record)) for record in records])
