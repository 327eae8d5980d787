"""Work that exactly one worker of all nodes on a database does: whoever holds an advisory lock leads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import psycopg
import structlog

ADVISORY_LOCK = 0x6F626965_67000002  # "obieg", 2: who leads
CANDIDATE_S = 2.0  # between two attempts to become leader
ALIVE_S = 5.0  # between two checks that the lock, that is the connection, is still there
BACK_OFF_S = (0.5, 30.0)

Loop = Callable[[], Awaitable[None]]

log = structlog.get_logger()


async def lead(dsn: str, loops: Sequence[Loop]) -> None:
    """Runs the loops whenever this worker leads; ends only by cancellation."""
    while loops:
        try:
            connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, application_name="obieg leader")
            async with connection:
                await _as_candidate(connection, loops)
        except psycopg.Error as error:
            log.warning("the leader's connection to the database broke", error=str(error).strip())
        await asyncio.sleep(CANDIDATE_S)


async def _as_candidate(connection: psycopg.AsyncConnection[tuple[bool]], loops: Sequence[Loop]) -> None:
    while True:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK])
        if (row := await cursor.fetchone()) is not None and row[0]:
            break
        await asyncio.sleep(CANDIDATE_S)
    log.info("this worker leads the background work")
    tasks = [asyncio.create_task(_keep(loop)) for loop in loops]
    try:
        while True:
            await asyncio.sleep(ALIVE_S)
            await connection.execute("SELECT 1")
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def _keep(loop: Loop) -> None:
    """Runs a loop that should never end, again with back-off when it does."""
    pause = BACK_OFF_S[0]
    clock = asyncio.get_running_loop().time
    while True:
        began = clock()
        try:
            await loop()
        except Exception:
            log.exception("background work failed", work=getattr(loop, "__qualname__", repr(loop)))
        if clock() - began > BACK_OFF_S[1]:
            pause = BACK_OFF_S[0]
        await asyncio.sleep(pause)
        pause = min(pause * 2, BACK_OFF_S[1])
