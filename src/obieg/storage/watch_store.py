"""What people looked up, counted in the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from obieg.domain.watching import Counted
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_SQL = load("watching.sql")
_COLUMNS = ("patients", "missing", "unfounded", "namesakes")


class WatchStore:
    """Reads over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counted(self, since: datetime, until: datetime, transactions: Sequence[str]) -> list[Counted]:
        """What each person asked of others from ``since`` on, before ``until``."""
        [rows] = await run(
            self._database,
            _SQL.count_look_ups(since=since.isoformat(), until=until.isoformat(), transactions=list(transactions)),
        )
        return [
            Counted(person, name.strip(), first, last, dict(zip(_COLUMNS, counts, strict=True)))
            for person, name, first, last, *counts in rows
        ]
