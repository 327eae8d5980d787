"""What decisions about access rest on, read in one round trip: port :class:`obieg.domain.permits.FactsStore`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from obieg.domain.access import DocumentFacts
from obieg.domain.permits import MeantDocument, Named, Person
from obieg.domain.sight import Sight
from obieg.storage.access_store import read_person
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_SQL = load("located.sql")


class LocatedFacts:
    """Implements the port over one database."""

    def __init__(self, database: Database, *, assigning_authority: str) -> None:
        self._database = database
        self._authority = assigning_authority

    async def documents(self, keys: Sequence[int], named: Sequence[str]) -> Sequence[MeantDocument]:
        """See the port."""
        uuids = [uuid for name in named if (uuid := _uuid(name))]
        [rows] = await run(self._database, _SQL.document_facts(keys=keys, uuids=uuids, unique_ids=named))
        found = []
        for uuid, lineage, class_, type_, setting, labels, authors, encounters, created, unique_id, meant in rows:
            facts = DocumentFacts(
                f"urn:uuid:{uuid}", lineage, class_ or "", type_ or "", setting or "", tuple(labels), tuple(authors),
                tuple(encounters), created or "",
            )  # fmt: skip
            found.append(MeantDocument(facts, frozenset((uuid, facts.entry_uuid, unique_id)) if meant else frozenset()))
        return found

    async def count(
        self, sight: Sight, type_codes: Sequence[str] | None, created_from: str, created_to: str
    ) -> tuple[int, int]:
        """See the port."""
        asked = {"keys": sight.permitted or (), "type_codes": type_codes, "since": created_from, "until": created_to}
        whole = Sight(sight.permitted)
        counted = await run(self._database, *(_SQL.count_documents.seen(each, **asked) for each in (whole, sight)))
        [[(there,)], [(visible,)]] = counted
        return int(there), int(visible)

    async def open(self, objects: Sequence[str], writers: Collection[str], sight: Sight) -> Collection[str]:
        """See the port."""
        uuids = [uuid for name in objects if (uuid := _uuid(name))]
        [rows] = await run(self._database, _SQL.open_objects.seen(sight, uuids=uuids, writers=writers))
        return [f"urn:uuid:{uuid}" for (uuid,) in rows]

    async def of(self, named: Named) -> Sequence[Person]:
        """See the port."""
        located = _SQL.located_persons(
            authorities=[p.authority for p in named.patients],
            ids=[p.value for p in named.patients],
            uuids=named.uuids,
            unique_ids=named.unique_ids,
            keys=named.keys,
            own_authority=self._authority,
        )
        [rows] = await run(self._database, located)
        return [read_person(written) for (written,) in rows]


def _uuid(said: str) -> str:
    try:
        return str(UUID(said.removeprefix("urn:uuid:")))
    except ValueError:
        return ""
