"""The table of stored documents as maintenance sees it, over a connection without the limits of requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import tuple_row

from obieg.storage.statements import Parameter, Statement, load

SQL = load("documents.sql")
PAGE_SIZE = 1000


class StoredDocument(NamedTuple):
    """A row of stored_document."""

    unique_id: str
    repository_unique_id: str
    size: int
    sha256: bytes
    location: str
    wrapped_key: bytes


class StoredDocuments:
    """All of the rows, and changes to where a document stands."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, dsn: str) -> AsyncIterator[StoredDocuments]:
        """Connects."""
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, application_name="obieg maintenance")
        async with connection:
            yield cls(connection)

    async def lock(self) -> bool:
        """Whether this connection is now the one that a backup or a compaction runs on."""
        return bool((await self._run(SQL.take_maintenance_lock))[0][0])

    async def total(self) -> tuple[int, int]:
        """Number and bytes."""
        count, size = (await self._run(SQL.documents_total))[0]
        return count, size

    async def all(self) -> AsyncIterator[StoredDocument]:
        """Page after page, so that no snapshot is held."""
        unique_id = repository_unique_id = ""
        while page := await self._run(
            SQL.documents_page, unique_id=unique_id, repository_unique_id=repository_unique_id, count=PAGE_SIZE
        ):
            for row in page:
                yield StoredDocument(*row)
            unique_id, repository_unique_id = page[-1][:2]

    async def again(self, document: StoredDocument) -> StoredDocument | None:
        """The row as it stands now; None when it is gone."""
        rows = await self._run(
            SQL.document_place, unique_id=document.unique_id, repository_unique_id=document.repository_unique_id
        )
        return document._replace(location=rows[0][0], wrapped_key=rows[0][1]) if rows else None

    async def move(self, document: StoredDocument, *, location: str, wrapped_key: bytes) -> bool:
        """Says where the document stands now and under which key; False when the row is not as it was read."""
        return bool(
            await self._run(
                SQL.move_document,
                unique_id=document.unique_id,
                repository_unique_id=document.repository_unique_id,
                old_location=document.location,
                old_wrapped_key=document.wrapped_key,
                location=location,
                wrapped_key=wrapped_key,
            )
        )

    async def segments(self) -> dict[str, int]:
        """The bytes of each segment that rows refer to."""
        return dict(await self._run(SQL.segments_in_use))

    async def objects(self) -> AsyncIterator[str]:
        """The names that rows refer to, in the order of their bytes, in one snapshot."""
        async with (
            self._connection.transaction(),
            psycopg.AsyncRawServerCursor(self._connection, "objects", row_factory=tuple_row) as cursor,
        ):
            await cursor.execute(SQL.objects_in_use.sql.encode())
            async for (name,) in cursor:
                yield name

    async def _run(self, statement: Statement, **given: Parameter) -> list[tuple[Any, ...]]:
        cursor = psycopg.AsyncRawCursor(self._connection, row_factory=tuple_row)
        await cursor.execute(statement.sql.encode(), [given[name] for name in statement.parameters])
        return await cursor.fetchall()
