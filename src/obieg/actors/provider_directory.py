"""The directory of care services (mCSD Directory, ITI TF-1:46): what was asked, as the directory was at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from obieg.domain.directory import (
    DirectoryPage,
    DirectoryQuery,
    DirectoryStore,
    HistoryPage,
    HistoryQuery,
    Inclusion,
    Lookup,
    Through,
    Version,
)
from obieg.domain.problems import Problem
from obieg.mapping.directory_terms import identified, references, referring
from obieg.mapping.fhir_patient import called
from obieg.mapping.mcsd import resource
from obieg.protocol import Context

KIN_MAX = 2_000  # resources that a condition on what is referred to may mean
INCLUDED_MAX = 1_000  # resources that go with one page
ROUNDS_MAX = 10  # in which inclusions are followed; a circle ends by itself, since nothing is included twice


class ProviderDirectory:
    """Answers questions; what is in it is imported by the operator."""

    def __init__(self, store: DirectoryStore) -> None:
        self._store = store

    async def read(self, kind: str, id_: str, version: int | None, context: Context) -> Version | None:
        """A version of a resource, the newest for None."""
        found = await self._store.read(kind, id_, version, context.audit())
        context.audited = True
        return found

    async def find(self, query: DirectoryQuery, context: Context) -> DirectoryPage:
        """One page; raises Problem TooBroad where a condition or an inclusion means too many resources."""
        if query.lookup.through:
            bound = await self._store.bound() if query.bound is None else query.bound
            lookup = await self._resolved(query.lookup, bound)
            query = msgspec.structs.replace(query, bound=bound, lookup=lookup)
        found, total, bound = await self._store.find(query, query.count, context.audit())
        context.audited = True
        included = await self._included(query.inclusions, found, bound) if query.inclusions and found else []
        end = query.offset + len(found)
        more = end if query.count and found and end < total else 0
        return DirectoryPage(found=tuple(found), included=tuple(included), total=total, bound=bound, offset=more)

    async def history(self, query: HistoryQuery, context: Context) -> HistoryPage:
        """One page of changes, newest first."""
        versions, page = await self._store.history(query, query.count + 1, context.audit())
        context.audited = True
        shown = tuple(versions[: query.count])
        before = shown[-1].change if shown and len(versions) > query.count else 0
        return msgspec.structs.replace(page, versions=shown, before=before)

    async def practitioner(self, person: str) -> str:
        """Logical id of the one Practitioner with the identifier root#extension; "" where there is none, or several.

        For whoever records by itself what it does with the answer.
        """
        root, _, extension = person.partition("#")
        found = await self._store.ids(
            identified("Practitioner", f"urn:oid:{root}", extension), await self._store.bound(), 2
        )
        return found[0] if len(found) == 1 else ""

    async def organisation_names(self, organisations: Iterable[str]) -> dict[str, str]:
        """The names of Organizations by their identifiers (root#extension), of those that stand here.

        For whoever records by itself what it does with the answer.
        """
        found = await self.organisations(organisations)
        return {organisation: str(resource.get("name", "")) for organisation, resource in found.items()}

    async def organisations(self, organisations: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The Organizations themselves; {} for one that does not stand here.

        For whoever records by itself what it does with the answer, or shows it to everybody.
        """
        return await self._first("Organization", organisations)

    async def practitioner_names(self, people: Iterable[str]) -> dict[str, str]:
        """What people call Practitioners, by their identifiers (root#extension), of those that stand here.

        For whoever records by itself what it does with the answer.
        """
        found = await self._first("Practitioner", people)
        return {person: called(resource) for person, resource in found.items()}

    async def _first(self, kind: str, identifiers: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What stands under each identifier (root#extension); {} for one that does not stand here."""
        bound = await self._store.bound()
        found: dict[str, dict[str, Any]] = {}
        for identifier in identifiers:
            root, _, extension = identifier.partition("#")
            ids = await self._store.ids(identified(kind, f"urn:oid:{root}", extension), bound, 1)
            resources = await self._under([f"{kind}/{id_}" for id_ in ids], bound)
            found[identifier] = next(iter(resources.values()), {})
        return found

    async def resources(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What stands now under references (Type/id), and those to whom practitioners' roles among it refer.

        For whoever records by itself what it does with the answer. By the references as they are written.
        """
        bound = await self._store.bound()
        found = await self._under(names, bound)
        roles = [r for r in found.values() if r["resourceType"] == "PractitionerRole"]
        ends = {
            role[part]["reference"] for role in roles for part in ("practitioner", "organization")
            if "reference" in role.get(part, {})
        }  # fmt: skip
        return found | (await self._under(ends - found.keys(), bound) if ends else {})

    async def _under(self, references: Iterable[str], bound: int) -> dict[str, dict[str, Any]]:
        meant = {r: tuple(r.partition("/_history/")[0].split("/")[-2:]) for r in references if "/" in r}
        versions = await self._store.named(sorted({(kind, id_) for kind, id_ in meant.values()}), bound)
        found = {(v.kind, v.id): resource(v) for v in versions}
        return {r: found[name] for r, name in meant.items() if name in found}

    async def _resolved(self, lookup: Lookup, bound: int) -> Lookup:
        """The lookup with what its conditions on other resources mean."""
        clauses = list(lookup.clauses)
        for through in lookup.through:
            ids = await self._meant(through, bound)
            if len(ids) > KIN_MAX:
                said = f"more than {KIN_MAX} {through.kind} fit the condition on {through.parameter}; narrow it"
                raise Problem.of("TooBroad", said, f"http.{through.parameter}")
            clauses.append(referring(through.parameter, through.kind, ids))
        return msgspec.structs.replace(lookup, clauses=tuple(clauses), through=())

    async def _meant(self, through: Through, bound: int) -> Sequence[str]:
        if through.lookup is None:
            return await self._store.kin(through.kind, through.ids, bound, KIN_MAX + 1, above=through.above)
        return await self._store.ids(await self._resolved(through.lookup, bound), bound, KIN_MAX + 1)

    async def _included(self, inclusions: Sequence[Inclusion], found: Sequence[Version], bound: int) -> list[Version]:
        """What the inclusions want: of what was found, and where they iterate also of what was included."""
        seen = {(v.kind, v.id) for v in found}
        included: list[Version] = []
        news = list(found)
        for turn in range(ROUNDS_MAX):
            wanted = [i for i in inclusions if not turn or i.iterate]
            named: set[tuple[str, str]] = set()
            added: list[Version] = []
            for inclusion in wanted:
                if inclusion.reverse:
                    added += await self._referring(inclusion, news, bound)
                else:
                    named |= _named(inclusion, news)
            if named := named - seen:
                added += await self._store.named(sorted(named)[: INCLUDED_MAX + 1], bound)
            news = []
            for version in added:
                if (version.kind, version.id) not in seen:
                    seen.add((version.kind, version.id))
                    news.append(version)
            included += news
            if len(included) > INCLUDED_MAX:
                said = f"more than {INCLUDED_MAX} resources would go with this page; ask for fewer with _count"
                raise Problem.of("TooBroad", said, "http._include")
            if not news:
                break
        return included

    async def _referring(self, inclusion: Inclusion, news: Sequence[Version], bound: int) -> Sequence[Version]:
        ids = [v.id for v in news if v.kind == inclusion.target]
        if not ids:
            return ()
        lookup = Lookup(kind=inclusion.kind, clauses=(referring(inclusion.parameter, inclusion.target, ids),))
        query = DirectoryQuery(lookup=lookup, count=INCLUDED_MAX + 1, bound=bound)
        found, _, _ = await self._store.find(query, query.count, None)
        return found


def _named(inclusion: Inclusion, news: Sequence[Version]) -> set[tuple[str, str]]:
    """Types and ids of this directory that the parameter of these versions refers to."""
    found = set()
    for version in news:
        if version.kind == inclusion.kind:
            for reference in references(resource(version), inclusion.parameter):
                kind, _, id_ = reference.partition("/")
                if kind == inclusion.target:
                    found.add((kind, id_.partition("/_history/")[0]))
    return found
