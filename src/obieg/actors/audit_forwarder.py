"""Sends this node's own audit records to repositories elsewhere, in order, at least once (ITI-20 over syslog).

The log itself is the outbox: what a repository has been told is one number. So a record costs nothing when it is made,
and none is lost when a repository or this node stands still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import structlog

from obieg.domain.audit import AuditFormat, AuditQueue, Unsent, Unsents
from obieg.domain.problems import RetryLater
from obieg.wire import syslog

RECORDS_AT_ONCE = 200
PAUSE_S = 1.0  # when nothing is to be sent
BACK_OFF_S = (1.0, 60.0)

log = structlog.get_logger()


class Carrier(Protocol):
    """The way to a repository."""

    async def send(self, messages: list[bytes]) -> None:
        """Returns when they have left; raises RetryLater."""


class AuditForwarder:
    """Tells one repository."""

    def __init__(
        self,
        name: str,
        queue: AuditQueue,
        carrier: Carrier,
        *,
        hostname: str,
        procid: str,
        observe: Callable[[str, int], None] = lambda _outcome, _count: None,
    ) -> None:
        self._name = name
        self._queue = queue
        self._carrier = carrier
        self._hostname = hostname
        self._procid = procid
        self._observe = observe
        self._gap: tuple[int, datetime] | None = None  # the first missing number, and when it was seen to be missing

    async def serve(self) -> None:
        """For ever."""
        back_off = BACK_OFF_S[0]
        while True:
            try:
                sent = await self.step()
            except RetryLater as error:
                self._observe("failed", 1)
                log.warning("audit records wait for a repository", repository=self._name, error=str(error))
                await asyncio.sleep(back_off)
                back_off = min(back_off * 2, BACK_OFF_S[1])
            else:
                back_off = BACK_OFF_S[0]
                if not sent:
                    await asyncio.sleep(PAUSE_S)

    async def step(self) -> int:
        """Sends what is next; how many records are done with. Raises RetryLater."""
        position = await self._queue.position(self._name)
        ready = self._ready(position, await self._queue.after(position, RECORDS_AT_ONCE))
        if not ready:
            return 0
        messages = [self._written(r) for r in ready if r.format == AuditFormat.OWN]
        if messages:
            await self._carrier.send(messages)
            self._observe("sent", len(messages))
        await self._queue.advance(self._name, ready[-1].audit_id)
        return len(ready)

    def _ready(self, position: int, found: Unsents) -> list[Unsent]:
        """The records before which no other will come."""
        expected = position + 1
        for place, record in enumerate(found.records):
            if record.audit_id != expected and not self._is_empty(expected, found):
                return found.records[:place]
            expected = record.audit_id + 1
        return found.records

    def _is_empty(self, missing: int, found: Unsents) -> bool:
        """Whether a number will never be used: everybody who ran when it was missing has ended, and it still is."""
        if self._gap is None or self._gap[0] != missing:
            self._gap = missing, found.read_at
            return False
        return found.oldest_writer is None or found.oldest_writer > self._gap[1]

    def _written(self, record: Unsent) -> bytes:
        return syslog.write(
            record.message.encode(),
            at=record.recorded_at,
            hostname=self._hostname,
            app_name="obieg",
            procid=self._procid,
        )
