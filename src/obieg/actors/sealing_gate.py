"""Who is still served when the audit is not sealed any more: nobody but those in an emergency.

Requests that an edge has authenticated come through the :class:`SealingGate`; pages and the authorization server's
addresses ask the :class:`SealWatch` themselves, and refuse in their own form. What stays open there is what shows
nothing of anybody and is needed to mend the node or to take rights away: staff log in, everybody logs out, sessions and
tokens are ended. All of it is recorded, and sealed when the node seals again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from obieg.codes.load import toml
from obieg.domain.problems import NotSealed
from obieg.domain.requester import Requester
from obieg.protocol import Authenticator, Credentials

_EMERGENCY = frozenset(toml("audit.toml")["emergency"]["purposes_of_use"])
_LOOK_OPEN_S = 10.0  # between two looks at how old the last seal is
_LOOK_CLOSED_S = 1.0
REMARK = "audit not sealed: emergency access"

log = structlog.get_logger()


class SealWatch:
    """Knows whether the audit has been sealed lately."""

    def __init__(self, age: Callable[[], Awaitable[float]], *, fail_after_s: float) -> None:
        """``age``: seconds since nothing was left to be sealed."""
        self._age = age
        self._fail_after_s = fail_after_s
        self._closed = False
        self._look_at = 0.0
        self._looking = asyncio.Lock()

    async def expect_sealed(self) -> None:
        """Raises NotSealed where it has not been for too long."""
        if await self._is_closed():
            raise NotSealed(
                f"the audit has not been sealed for more than {self._fail_after_s:.0f} s; nothing is served"
            )

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


class SealingGate:
    """Stands before the one place that makes a Requester."""

    def __init__(self, inner: Authenticator, watch: SealWatch) -> None:
        self._inner = inner
        self._watch = watch

    async def authenticate(self, credentials: Credentials) -> Requester:
        """As the one behind it; raises NotSealed where the audit has not been sealed for too long."""
        requester = await self._inner.authenticate(credentials)
        try:
            await self._watch.expect_sealed()
        except NotSealed:
            if requester.purpose_of_use not in _EMERGENCY:
                raise
            log.warning("emergency access while the audit is not sealed", system=requester.system)
            return msgspec.structs.replace(requester, remark=REMARK)
        return requester
