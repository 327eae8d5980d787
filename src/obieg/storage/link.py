"""The way to PostgreSQL: a few connections that are always in pipeline mode, each shared by many requests.

Theory of operation. A *batch* is a list of calls that run in one round trip and one implicit transaction: libpq sends
them all, then a Sync, and PostgreSQL commits at the Sync or, when a call fails, undoes the whole batch and skips the
rest. Batches of different requests queue behind one another on the same connection without waiting for each other's
answers; each is answered through a future. So a request costs one write and one wake-up, whatever it is made of.
A call that must hold (a lost race, a duplicate) raises in SQL, which is what undoes the batch.

This stands on psycopg's libpq binding rather than on its cursors because those register and unregister the socket with
the event loop for every wait and add several round trips of Python for every statement.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import structlog
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.conninfo import make_conninfo

from obieg.domain.problems import Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.storage.statements import Call, load

Row = tuple[Any, ...]
_OK = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
# Longest a statement may run and a lock may be waited for before the request is answered "later".
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
LINKS_PER_WORKER = 8
_SQL = load("link.sql")
_EXPECTED_KEPT = 4_096  # the same is expected again and again
_PLAN_ONCE = _SQL.plan_once()

log = structlog.get_logger()


class DatabaseError(Exception):
    """A statement was refused; the batch is undone."""

    def __init__(self, sqlstate: str, message: str, constraint: str = "") -> None:
        super().__init__(f"{sqlstate}: {message}")
        self.sqlstate = sqlstate
        self.message = message
        self.constraint = constraint

    @property
    def lost_race(self) -> bool:
        """Whether another transaction changed what this one relied on: read again, then decide again."""
        return self.sqlstate in {"23505", "40001", "40P01", "OB001"}

    @property
    def replayed(self) -> bool:
        """Whether another request has used up what this one may be shown with once only."""
        return self.sqlstate == "OB002"

    @property
    def passing(self) -> bool:
        """Whether it may pass: connection, resources, operator, lock or system; anything else is our own fault."""
        return self.sqlstate.startswith(("08", "53", "55", "57", "58"))


class _Batch:
    __slots__ = ("error", "future", "results", "statements")

    def __init__(self, statements: list[str | None], future: asyncio.Future[list[list[Row]]]) -> None:
        self.statements = statements  # None for a call, the name for a preparation
        self.future = future
        self.results: list[list[Row]] = []
        self.error: BaseException | None = None


class Link:
    """One connection in pipeline mode."""

    def __init__(self, connection: pq.abc.PGconn, loop: asyncio.AbstractEventLoop) -> None:
        self._pg = connection
        self._loop = loop
        self._waiting: deque[_Batch] = deque()
        self._prepared: set[str] = set()
        self._at = 0  # position within the statements of the first waiting batch
        self._writing = False
        self._transformer = Transformer()
        self._fd = connection.socket
        self.broken: BaseException | None = None
        loop.add_reader(self._fd, self._readable)

    @classmethod
    async def open(cls, dsn: str) -> Link:
        """Connects; raises :class:`RetryLater` when the database does not answer."""
        options = f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
        conninfo = make_conninfo(dsn, options=options, application_name="obieg", client_encoding="UTF8")
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(None, pq.PGconn.connect, conninfo.encode())
        if connection.status != pq.ConnStatus.OK:
            message = connection.get_error_message().strip()
            connection.finish()
            raise RetryLater(f"the database does not answer: {message}")
        connection.nonblocking = 1
        connection.enter_pipeline_mode()
        return cls(connection, loop)

    @property
    def depth(self) -> int:
        """Batches sent and not yet answered."""
        return len(self._waiting)

    def run(self, calls: Sequence[Call]) -> asyncio.Future[list[list[Row]]]:
        """Sends one batch; the future gives the rows of each call, or the error that undid the batch."""
        future: asyncio.Future[list[list[Row]]] = self._loop.create_future()
        names: list[str | None] = []
        pg = self._pg
        try:
            # All preparations first: behind a call that fails they would be skipped, and the next batches rely on them.
            for call in calls:
                name = call.statement.name
                if name not in self._prepared:
                    pg.send_prepare(name.encode(), call.statement.sql.encode())
                    self._prepared.add(name)
                    names.append(name)
            for call in calls:
                pg.send_query_prepared(call.statement.name.encode(), call.values, call.formats, pq.Format.BINARY)
                names.append(None)
            pg.pipeline_sync()
            self._waiting.append(_Batch(names, future))
            self._flush()
        except Exception as error:  # noqa: BLE001 - libpq says only that the connection is gone
            self._break(error)
            if not future.done():
                future.set_exception(RetryLater(f"the connection to the database broke: {error}"))
        return future

    def close(self) -> None:
        """Ends the connection; batches not yet answered fail."""
        self._break(ConnectionError("closed"))

    def _flush(self) -> None:
        blocked = self._pg.flush() == 1
        if blocked and not self._writing:
            self._loop.add_writer(self._fd, self._writable)
        elif not blocked and self._writing:
            self._loop.remove_writer(self._fd)
        self._writing = blocked

    def _writable(self) -> None:
        try:
            self._flush()
        except Exception as error:  # noqa: BLE001
            self._break(error)

    def _readable(self) -> None:
        try:
            self._pg.consume_input()
            self._collect()
            if self._writing:
                self._flush()
        except Exception as error:  # noqa: BLE001
            self._break(error)

    def _collect(self) -> None:
        pg = self._pg
        while self._waiting and not pg.is_busy():
            batch = self._waiting[0]
            result = pg.get_result()
            if result is None:
                self._at += 1
                continue
            status = result.status
            if status == pq.ExecStatus.PIPELINE_SYNC:
                self._waiting.popleft()
                self._at = 0
                self._answer(batch)
            elif status == pq.ExecStatus.FATAL_ERROR:
                if batch.error is None:
                    batch.error = _error(result)
                self._forget(batch)
            elif status == pq.ExecStatus.PIPELINE_ABORTED:
                self._forget(batch)
            elif status in _OK:
                if batch.statements[self._at] is None:
                    batch.results.append(self._rows(result))
            else:
                raise ConnectionError(f"unexpected result {status}")

    def _forget(self, batch: _Batch) -> None:
        """A preparation that failed or was skipped must be made again."""
        name = batch.statements[self._at] if self._at < len(batch.statements) else None
        if name is not None:
            self._prepared.discard(name)

    def _rows(self, result: Any) -> list[Row]:
        count = result.ntuples
        if not count:
            return []
        transformer = self._transformer
        transformer.set_pgresult(result, format=pq.Format.BINARY)
        return transformer.load_rows(0, count, tuple)

    @staticmethod
    def _answer(batch: _Batch) -> None:
        if batch.future.done():  # its request was cancelled
            return
        if batch.error is not None:
            batch.future.set_exception(batch.error)
        else:
            batch.future.set_result(batch.results)

    def _break(self, error: BaseException) -> None:
        if self.broken is not None:
            return
        self.broken = error
        with contextlib.suppress(Exception):
            self._loop.remove_reader(self._fd)
        if self._writing:
            with contextlib.suppress(Exception):
                self._loop.remove_writer(self._fd)
        self._pg.finish()
        for batch in self._waiting:
            if not batch.future.done():
                batch.future.set_exception(RetryLater(f"the connection to the database broke: {error}"))
        self._waiting.clear()


def _error(result: Any) -> DatabaseError:
    def field(code: pq.DiagnosticField) -> str:
        return (result.error_field(code) or b"").decode("utf-8", "replace")

    return DatabaseError(
        field(pq.DiagnosticField.SQLSTATE),
        field(pq.DiagnosticField.MESSAGE_PRIMARY),
        field(pq.DiagnosticField.CONSTRAINT_NAME),
    )


class Database:
    """The links of one worker; a batch goes to the one with the fewest batches waiting."""

    def __init__(self, dsn: str, *, links: int = LINKS_PER_WORKER) -> None:
        self._dsn = dsn
        self._links: list[Link] = []
        self._count = links
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Opens all links; raises :class:`RetryLater` when the database does not answer."""
        self._links = list(await asyncio.gather(*(Link.open(self._dsn) for _ in range(self._count))))

    async def run(self, *calls: Call) -> list[list[Row]]:
        """Runs the calls in one round trip and one transaction; the rows of each.

        Raises :class:`DatabaseError` when a call was refused (nothing is stored then), :class:`RetryLater` when the
        database is away (whether it was stored is then unknown: ask, do not guess).
        """
        link = self._choose() or await self._reopen()
        first = [_expecting(known) for known in {call.known for call in calls} if known]
        if not first and True in [call.statement.planned_once for call in calls]:
            first = [_PLAN_ONCE]
        return (await link.run((*first, *calls)))[len(first) :] if first else await link.run(calls)

    def _choose(self) -> Link | None:
        """The link to use; None when one must be replaced first."""
        best, whole = None, len(self._links) == self._count
        for link in self._links:
            if link.broken is not None:
                whole = False
            elif best is None or link.depth < best.depth:
                if not link.depth:
                    return link
                best = link
        return best if whole or self._opening.locked() else None

    async def _reopen(self) -> Link:
        """Replaces broken links; as long as one is whole, a database that takes no more connections is no trouble."""
        async with self._opening:
            self._links = [link for link in self._links if link.broken is None]
            try:
                while len(self._links) < self._count:
                    self._links.append(await Link.open(self._dsn))
            except RetryLater:
                if not self._links:
                    raise
            return min(self._links, key=attrgetter("depth"))

    def close(self) -> None:
        """Ends all links."""
        for link in self._links:
            link.close()
        self._links.clear()


@lru_cache(_EXPECTED_KEPT)
def _expecting(known: tuple[tuple[int, str], ...]) -> Call:
    """What undoes a batch whose sight was kept for too long."""
    return _SQL.plan_once_if_known(keys=[key for key, _ in known], versions=[version for _, version in known])


async def run(database: Database, *calls: Call) -> list[list[Row]]:
    """One batch; raises LostRace where another transaction was faster, RetryLater where the database is away.

    Raises Problem ``Replayed`` where the record of the batch uses up what another request has used up.
    """
    try:
        return await database.run(*calls)
    except DatabaseError as error:
        if error.lost_race:
            raise LostRace(error.message) from error
        if error.replayed:
            raise Problem.of(
                "Replayed", "this message or proof was shown before; send a new one with an identifier of its own"
            ) from error
        if error.passing:
            raise RetryLater(f"the database cannot do this now: {error.message}") from error
        raise


async def done(database: Database, *calls: Call) -> bool:
    """Whether the batch was done; where what a call expects is not so, nothing of it is, nor its record."""
    try:
        await run(database, *calls)
    except LostRace:
        return False
    return True
