"""How often one caller may ask, and how long one who fails to prove who it is must wait.

Each worker counts for itself. A person or a system that asks too often is told to come back; so is an organisation,
which is only slowed, never shut out: that is for people to decide. Whoever fails to prove who it is again and again
waits twice as long after each failure. Emergency access passes both; its audit record says so.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from obieg.codes.load import toml
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.protocol import Credentials

Key = TypeVar("Key")
Value = TypeVar("Value")

EMERGENCY = frozenset(toml("audit.toml")["emergency"]["purposes_of_use"])
FAILURES_FREE = 10  # failed proofs before anybody has to wait
PAUSE_MAX_S = 300.0
# Of one whose TLS certificate an authority vouches for: behind it stands an organisation.
PAUSE_OF_KNOWN_MAX_S = 1.0
_KEPT_MAX = 10_000  # callers that are remembered; the longest unseen is forgotten first


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(slots=True)
class _Failures:
    count: int = 0
    until: float = 0.0


class Throttle:
    """Of one worker."""

    def __init__(
        self,
        *,
        requests_per_second: float,
        person_requests_per_second: float,
        clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        """``requests_per_second``: of one system, and of one organisation; bursts may be twice that."""
        self._rates = {
            "system": requests_per_second,
            "organisation": requests_per_second,
            "person": person_requests_per_second,
        }
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def is_paused(self, credentials: Credentials) -> bool:
        """Whether this caller has failed so often that it has to wait."""
        found = self._failures.get(_caller(credentials))
        return found is not None and self._clock() < found.until

    def failed(self, credentials: Credentials) -> None:
        """A caller did not prove who it is."""
        found = _kept(self._failures, _caller(credentials), _Failures)
        found.count += 1
        if found.count > FAILURES_FREE:
            longest = PAUSE_MAX_S if credentials.certificate is None else PAUSE_OF_KNOWN_MAX_S
            found.until = self._clock() + min(longest, 2.0 ** min(found.count - FAILURES_FREE - 1, 20))

    def admit(self, credentials: Credentials, requester: Requester, *, paused: bool) -> str:
        """What the audit record says besides; raises Problem ``TooManyRequests``."""
        emergency = requester.purpose_of_use in EMERGENCY
        if not paused:
            self._failures.pop(_caller(credentials), None)
        over = [
            kind
            for kind, name in (
                ("system", requester.system),
                ("organisation", requester.organisation),
                ("person", requester.person),
            )
            if name and not self._take(kind, name)
        ]
        if not paused and not over:
            return ""
        if emergency:
            return f"emergency access in spite of {'a pause' if paused else 'a rate limit'}"
        raise too_many(", ".join(over) or "this caller")

    def _take(self, kind: str, name: str) -> bool:
        rate, now = self._rates[kind], self._clock()
        bucket = _kept(self._buckets, (kind, name), lambda: _Bucket(2 * rate, now))
        bucket.tokens = min(2 * rate, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def too_many(who: str) -> Problem:
    """What a caller is told that has to wait."""
    return Problem.of("TooManyRequests", f"too many requests of {who}: wait, then send the identical request")


def _caller(credentials: Credentials) -> str:
    """A caller before it has proved anything: its certificate, or the address that it calls from."""
    if credentials.certificate is not None:
        return hashlib.sha256(credentials.certificate).hexdigest()
    return credentials.address


def _kept(kept: OrderedDict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    found = kept.get(key)
    if found is None:
        found = kept[key] = make()
        if len(kept) > _KEPT_MAX:
            kept.popitem(last=False)
    else:
        kept.move_to_end(key)
    return found
