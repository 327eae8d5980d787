"""Who is still served when the audit is not sealed any more: nobody but those in an emergency."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from obieg.codes.load import toml
from obieg.domain.problems import RetryLater
from obieg.domain.requester import Requester
from obieg.protocol import Authenticator, Credentials

_EMERGENCY = frozenset(toml("audit.toml")["emergency"]["purposes_of_use"])
_LOOK_OPEN_S = 10.0  # between two looks at how old the last seal is
_LOOK_CLOSED_S = 1.0
REMARK = "audit not sealed: emergency access"

log = structlog.get_logger()


class SealingGate:
    """Stands before the one place that makes a Requester."""

    def __init__(self, inner: Authenticator, age: Callable[[], Awaitable[float]], *, fail_after_s: float) -> None:
        """``age``: seconds since nothing was left to be sealed."""
        self._inner = inner
        self._age = age
        self._fail_after_s = fail_after_s
        self._closed = False
        self._look_at = 0.0
        self._looking = asyncio.Lock()

    async def authenticate(self, credentials: Credentials) -> Requester:
        """As the one behind it; raises RetryLater where the audit has not been sealed for too long."""
        requester = await self._inner.authenticate(credentials)
        if not await self._is_closed():
            return requester
        if requester.purpose_of_use in _EMERGENCY:
            log.warning("emergency access while the audit is not sealed", system=requester.system)
            return msgspec.structs.replace(requester, remark=REMARK)
        raise RetryLater(f"the audit has not been sealed for more than {self._fail_after_s:.0f} s; nothing is served")

    async def _is_closed(self) -> bool:
        clock = asyncio.get_running_loop().time
        if clock() < self._look_at:
            return self._closed
        async with self._looking:
            if clock() >= self._look_at:
                closed = await self._age() > self._fail_after_s
                if closed != self._closed:
                    said = (
                        "refuses requests: the audit is not sealed" if closed else "serves again: the audit is sealed"
                    )
                    (log.error if closed else log.info)(f"the node {said}", fail_after_s=self._fail_after_s)
                self._closed = closed
                self._look_at = clock() + (_LOOK_CLOSED_S if closed else _LOOK_OPEN_S)
        return self._closed
