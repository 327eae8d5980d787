"""What people looked up, counted in the audit log."""

from __future__ import annotations

from datetime import datetime

import msgspec

from obieg.domain.persons import Address
from obieg.domain.watching import COMPARED_MAX, Compared, Counted, Ways, alike
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_SQL = load("watching.sql")
_COLUMNS = ("patients", "missing", "unfounded")
_Rows = list[tuple[int, str | None, list[Address] | None]]


class WatchStore:
    """Reads over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counted(self, since: datetime, until: datetime, ways: Ways) -> list[Counted]:
        """What each person asked of others from ``since`` on, before ``until``."""
        [rows] = await run(
            self._database,
            _SQL.count_look_ups(
                since=since.isoformat(),
                until=until.isoformat(),
                transactions=list(ways.all),
                founding=list(ways.founding),
                by_id=list(ways.by_id),
                compared_max=COMPARED_MAX,
            ),
        )
        return [
            Counted(
                person,
                name.strip(),
                first,
                last,
                dict(zip(_COLUMNS, counts, strict=True)) | alike(name, _compared(own), _compared(of)),
            )
            for person, name, first, last, *counts, of, own in rows
        ]


def _compared(text: str | None) -> list[Compared]:
    rows = msgspec.json.decode(text or b"[]", type=_Rows)
    return [Compared(key, family or "", tuple(addresses or ())) for key, family, addresses in rows]
