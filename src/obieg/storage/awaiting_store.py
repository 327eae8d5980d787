"""Documents that professionals wait for, in PostgreSQL: port :class:`obieg.domain.awaiting.AwaitingStore`."""

from __future__ import annotations

from obieg.domain.awaiting import AWAITED_MAX, DAYS, Awaited
from obieg.domain.identifiers import PatientId
from obieg.domain.requester import Requester
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_SQL = load("awaiting.sql")


class PostgresAwaiting:
    """Implements the port over one database."""

    def __init__(self, database: Database, *, assigning_authority: str) -> None:
        self._database = database
        self._authority = assigning_authority

    async def put(self, id_: str, requester: Requester, patient: PatientId, kind: str, types: tuple[str, ...]) -> None:
        """See the port."""
        await run(
            self._database,
            _SQL.forget_awaited(person=requester.person),
            _SQL.put_awaited(
                id=id_,
                person=requester.person,
                organisation=requester.organisation,
                authority=patient.authority,
                value=patient.value,
                kind=kind,
                types=list(types),
                days=DAYS,
                most=AWAITED_MAX,
            ),
        )

    async def end(self, id_: str, requester: Requester) -> None:
        """See the port."""
        asked = _SQL.end_awaited(id=id_, person=requester.person, organisation=requester.organisation)
        await run(self._database, asked)

    async def of(self, requester: Requester) -> list[Awaited]:
        """See the port."""
        [rows] = await run(
            self._database, _SQL.awaited_of(person=requester.person, organisation=requester.organisation)
        )
        return [
            Awaited(id_, PatientId(value, self._authority), kind, since, until)
            for id_, value, kind, since, until in rows
        ]
