"""What decisions about access rest on, read in one round trip: port :class:`obieg.domain.permits.FactsStore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from obieg.domain.access import Facts
from obieg.domain.permits import Named, Person
from obieg.storage.access_store import read_facts
from obieg.storage.link import Database, run
from obieg.storage.statements import Statement, load, parse

_LOCATED = load("located.sql").located_patients
# Within a sub-select PostgreSQL does not look into the array when it plans, so it keeps one plan for everybody, which
# takes it longer to make than to follow.
_PLACES = (
    "(SELECT obieg_located(:authorities::text[], :ids::text[], :uuids::uuid[], :unique_ids::text[], :keys::bigint[]))"
)


def _facts_of_located() -> Statement:
    """The statement that reads facts by keys, of whom a request is about."""
    by_keys = load("access.sql").access_facts
    return parse("located_facts", by_keys.text.replace(":patient_keys::bigint[]", _PLACES))


_FACTS = _facts_of_located()


class LocatedFacts:
    """Implements the port over one database."""

    def __init__(self, database: Database, *, assigning_authority: str) -> None:
        self._database = database
        self._authority = assigning_authority

    async def of(self, named: Named) -> Sequence[Person]:
        """See the port. Whoever is linked or parted between the two statements is left out."""
        asked = {
            "authorities": [p.authority for p in named.patients],
            "ids": [p.value for p in named.patients],
            "uuids": named.uuids,
            "unique_ids": named.unique_ids,
            "keys": named.keys,
        }
        persons, rows = await run(self._database, _LOCATED(**asked), _FACTS(**asked, own_authority=self._authority))
        facts: Mapping[int, Facts] = {key: read_facts(said) for key, said in rows}
        return [Person(tuple(keys), frozenset(ids), facts[keys[0]]) for keys, ids in persons if keys[0] in facts]
