"""The audit repositories that the settings name, and the loops that tell them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import Counter, Gauge

from obieg.actors.audit_forwarder import AuditForwarder
from obieg.domain.problems import RetryLater
from obieg.edges.syslog import SyslogClient
from obieg.ops.settings import Settings
from obieg.ops.tls import calling
from obieg.storage.audit_repository_store import PostgresAuditLog

MEASURE_S = 15.0

_WAITING = Gauge(
    "obieg_audit_waiting", "Audit records that wait for a repository.", ("repository",),
    multiprocess_mode="livemostrecent",
)  # fmt: skip
_OLDEST = Gauge(
    "obieg_audit_oldest_seconds", "Age of the oldest audit record that waits for a repository; 0 if none does.",
    ("repository",), multiprocess_mode="livemostrecent",
)  # fmt: skip
_SENT = Counter("obieg_audit_sent_total", "Audit records sent, and attempts that failed.", ("repository", "outcome"))

log = structlog.get_logger()


class AuditForwarding:
    """One forwarder for each repository; only the leading worker runs them."""

    def __init__(self, settings: Settings, queue: PostgresAuditLog) -> None:
        """Opens no connection. Raises Failure where a certificate cannot be used."""
        self._queue = queue
        self._clients: list[SyslogClient] = []
        loops: list[Callable[[], Awaitable[None]]] = []
        for repository in settings.audit_repositories:
            client = SyslogClient(
                repository.address.removeprefix("tcp://"),
                tls=None if repository.address.startswith("tcp://") else calling(settings, repository.ca_file),
            )
            self._clients.append(client)
            forwarder = AuditForwarder(
                repository.name,
                queue,
                client,
                hostname=socket.gethostname(),
                procid=str(os.getpid()),
                observe=_observer(repository.name),
            )
            loops.append(forwarder.serve)
        self.background = (*loops, self._measure) if loops else ()

    async def _measure(self) -> None:
        """Tells the metrics what waits, for ever."""
        while True:
            try:
                for name, (waiting, seconds) in (await self._queue.lag()).items():
                    _WAITING.labels(name).set(waiting)
                    _OLDEST.labels(name).set(seconds)
            except RetryLater as error:
                log.warning("the audit log cannot be read now", error=str(error))
            await asyncio.sleep(MEASURE_S)

    async def close(self) -> None:
        """Ends all connections."""
        for client in self._clients:
            await client.close()


def _observer(name: str) -> Callable[[str, int], None]:
    return lambda outcome, count: _SENT.labels(name, outcome).inc(count)
