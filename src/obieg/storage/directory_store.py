"""The directory of care services in PostgreSQL: port :class:`obieg.domain.directory.DirectoryStore`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from obieg.domain.audit import AuditEvent
from obieg.domain.directory import (
    Clause,
    DirectoryQuery,
    Draft,
    HistoryPage,
    HistoryQuery,
    Lookup,
    Standing,
    Term,
    Version,
)
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, Row, run
from obieg.storage.statements import Call, Parameter, load

_SQL = load("directory.sql")
_PAGE = 500


class PostgresDirectoryStore:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def read(self, kind: str, id_: str, version: int | None, event: AuditEvent) -> Version | None:
        """See the port."""
        rows = (await self._run(_SQL.read_version(kind=kind, id=id_, version=version), self._audit.call(event)))[0]
        return _version(rows[0]) if rows else None

    async def bound(self) -> int:
        """See the port."""
        [[(change,)]] = await self._run(_SQL.newest_change())
        return int(change)

    async def find(
        self, query: DirectoryQuery, limit: int, event: AuditEvent | None
    ) -> tuple[Sequence[Version], int, int]:
        """See the port."""
        calls = [_find(query.lookup, query.bound, query.sort, query.offset, limit, descending=query.descending)]
        if event is not None:
            calls.append(self._audit.call(event))
        rows = (await self._run(*calls))[0]
        total, bound = rows[0][:2]
        return [_version(row[2:]) for row in rows if row[2] is not None], total, bound

    async def ids(self, lookup: Lookup, bound: int, limit: int) -> Sequence[str]:
        """See the port."""
        [rows] = await self._run(_find(lookup, bound, "_id", 0, limit, descending=False))
        return [row[4] for row in rows if row[2] is not None]

    async def kin(self, kind: str, ids: Sequence[str], bound: int, limit: int, *, above: bool) -> Sequence[str]:
        """See the port."""
        statement = _SQL.wholes_above if above else _SQL.parts_below
        [rows] = await self._run(statement(kind=kind, ids=ids, bound=bound, count=limit))
        return [id_ for (id_,) in rows]

    async def named(self, names: Sequence[tuple[str, str]], bound: int) -> Sequence[Version]:
        """See the port."""
        [rows] = await self._run(_SQL.named_versions(**_columns(names), bound=bound))
        return list(map(_version, rows))

    async def history(
        self, query: HistoryQuery, limit: int, event: AuditEvent
    ) -> tuple[Sequence[Version], HistoryPage]:
        """See the port."""
        _, rows, _ = await self._run(
            _SQL.wait_for_changes(),
            _SQL.history_versions(
                kinds=query.kinds,
                id=query.id,
                since=query.since,
                bound=query.bound,
                before=query.before,
                count=limit,
            ),
            self._audit.call(event),
        )
        total, bound, as_of = rows[0][:3]
        versions = [_version(row[3:]) for row in rows if row[3] is not None]
        return versions, HistoryPage(versions=(), total=total, bound=bound, before=0, as_of=as_of)

    async def standing(self, names: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Standing]:
        """See the port."""
        [rows] = await self._run(_SQL.standing_versions(**_columns(names)))
        return {
            (kind, id_): Standing(v, bytes(digest), deleted, source) for kind, id_, v, digest, deleted, source in rows
        }

    async def of_source(self, source: str) -> Sequence[tuple[str, str, int, str]]:
        """Type, id, version and content of everything that a source says now."""
        found: list[tuple[str, str, int, str]] = []
        after = ("", "")
        while True:
            call = _SQL.standing_of_source(source=source, kind=after[0], id=after[1], count=_PAGE)
            [rows] = await self._run(call)
            found += [(kind, id_, version, content) for kind, id_, version, content in rows]
            if len(rows) < _PAGE:
                return found
            after = found[-1][:2]

    async def counts(self) -> Sequence[Row]:
        """Type, number of resources and time of the last change of each type."""
        [rows] = await self._run(_SQL.count_resources())
        return rows

    async def store(self, drafts: Sequence[Draft], event: AuditEvent) -> None:
        """See the port."""
        calls = [_SQL.lock_directory(), _SQL.take_time(), *map(_put, drafts), self._audit.call(event)]
        await self._run(*calls)

    async def _run(self, *calls: Call) -> list[list[Row]]:
        return await run(self._database, *calls)


def _version(row: Row) -> Version:
    change, kind, id_, version, updated_at, content, deleted = row
    return Version(change, kind, id_, version, updated_at, content, deleted)


def _columns(names: Sequence[tuple[str, str]]) -> dict[str, Parameter]:
    return {"kinds": [kind for kind, _ in names], "ids": [id_ for _, id_ in names]}


def _find(lookup: Lookup, bound: int | None, sort: str, skipped: int, count: int, *, descending: bool) -> Call:
    near = lookup.near
    return _SQL.find_versions(
        terms=_query(lookup),
        patterns=lookup.patterns,
        bound=bound,
        sort=sort,
        descending=descending,
        skipped=skipped,
        count=count,
        updated_from=lookup.updated_from,
        updated_before=lookup.updated_before,
        starts_least=lookup.starts[0],
        starts_most=lookup.starts[1],
        ends_least=lookup.ends[0],
        ends_most=lookup.ends[1],
        latitude=str(near.latitude) if near else None,
        longitude=str(near.longitude) if near else None,
        kilometres=str(near.kilometres) if near else None,
    )


def _put(draft: Draft) -> Call:
    index = draft.index
    latitude, longitude = index.position or (None, None)
    return _SQL.put_version(
        kind=draft.kind,
        id=draft.id,
        before=draft.before,
        deleted=draft.deleted,
        source=draft.source,
        digest=draft.digest,
        content=draft.content,
        terms=() if draft.deleted else index.terms,
        texts="\n".join(("", *index.texts)),
        sort_key=index.sort_key,
        part_of=index.part_of or None,
        valid_from=index.valid_from,
        valid_until=index.valid_until,
        latitude=None if latitude is None else str(latitude),
        longitude=None if longitude is None else str(longitude),
    )


# queries of terms ------------------------------------------------------------------------------------------------


def _query(lookup: Lookup) -> str:
    """The text of a tsquery. The type is a term of every resource, so there is always one that is not negated."""
    return " & ".join((_quoted(Term(lookup.kind)), *_clauses(lookup.clauses)))


def _clauses(clauses: Sequence[Clause]) -> Iterator[str]:
    for clause in clauses:
        any_of = " | ".join(map(_quoted, clause.any_of))
        yield f"!({any_of})" if clause.negated else f"({any_of})"


def _quoted(term: Term) -> str:
    text = term.text.replace("\\", "\\\\").replace("'", "''")
    return f"'{text}':*" if term.prefix else f"'{text}'"
