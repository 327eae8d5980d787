"""Audit records of refusals that say no more than "not now": too many requests, or the node is busy.

Theory of operation. A refused transaction has its record before it is answered. But callers that are told to come back
come back, and some never stop; a record is a commit, which costs about as much as the small question that it refuses.
So that a node that cannot keep up is not kept busy with saying so, and nobody can fill the audit by asking, the first
refusal of a caller, transaction and reason has a record of its own, and those that follow within a minute are counted
and share one more, which says how many they were. It is written when the minute is over, or the worker ends; what a
crash takes away is this number, never that there were refusals. Callers beyond a bound share their records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec

from obieg.domain.audit import AuditEvent

Record = Callable[[AuditEvent], Coroutine[Any, Any, None]]

PERIOD_S = 60.0
CALLERS_MAX = 1_000  # callers, each with a transaction and a reason, that have records of their own in one period
NOT_NOW = frozenset({"TooManyRequests", "XDSRegistryBusy", "XDSRepositoryBusy"})
_OTHERS = "others"


@dataclass(slots=True)
class _Period:
    event: AuditEvent
    timer: asyncio.TimerHandle
    more: int = 0


class Refusals:
    """Of one edge of one worker."""

    def __init__(self, record: Record, *, period_s: float = PERIOD_S) -> None:
        """``record`` stores one record, whatever happens."""
        self._record = record
        self._period_s = period_s
        self._periods: dict[tuple[str, str, str], _Period] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def refused(self, caller: str, event: AuditEvent) -> None:
        """Stores the record of a refusal, or counts it."""
        key = (caller, event.transaction, event.detail)
        if key not in self._periods and len(self._periods) >= CALLERS_MAX:
            key = (_OTHERS, event.transaction, event.detail)
        period = self._periods.get(key)
        if period is not None:
            period.more += 1
            return
        timer = asyncio.get_running_loop().call_later(self._period_s, self._end, key)
        self._periods[key] = _Period(event, timer)
        await self._record(event)

    def _end(self, key: tuple[str, str, str]) -> None:
        period = self._periods.pop(key)
        if period.more:
            task = asyncio.create_task(self._record(_rest(period, key[0])))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        """Stores what was counted."""
        for key, period in list(self._periods.items()):
            period.timer.cancel()
            self._end(key)
        if self._writing:
            await asyncio.gather(*self._writing)


def _rest(period: _Period, caller: str) -> AuditEvent:
    """The record of those that were counted. What each was about is not kept: nothing was answered about it."""
    first = period.event
    detail = f"{first.detail}; {period.more} more within {PERIOD_S:.0f} s"
    if caller == _OTHERS:
        return AuditEvent(first.transaction, first.event, first.outcome, f"{detail}, of several callers")
    return msgspec.structs.replace(first, detail=detail, request_id="", objects=(), spent=())
