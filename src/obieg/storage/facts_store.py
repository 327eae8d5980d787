"""What decisions about access rest on, read in one round trip: port :class:`obieg.domain.permits.FactsStore`."""

from __future__ import annotations

from collections.abc import Sequence

from obieg.domain.permits import Named, Person
from obieg.storage.access_store import read_facts
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_LOCATED = load("located.sql").located_persons


class LocatedFacts:
    """Implements the port over one database."""

    def __init__(self, database: Database, *, assigning_authority: str) -> None:
        self._database = database
        self._authority = assigning_authority

    async def of(self, named: Named) -> Sequence[Person]:
        """See the port."""
        located = _LOCATED(
            authorities=[p.authority for p in named.patients],
            ids=[p.value for p in named.patients],
            uuids=named.uuids,
            unique_ids=named.unique_ids,
            keys=named.keys,
            own_authority=self._authority,
        )
        [rows] = await run(self._database, located)
        return [Person(tuple(keys), frozenset(ids), read_facts(said)) for keys, ids, said in rows]
