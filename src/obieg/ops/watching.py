"""Watching who looks whom up: the leading worker counts what the audit holds, and raises an alarm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog
from prometheus_client import Counter, Gauge

from obieg.domain.access import Act, act_of
from obieg.domain.problems import RetryLater
from obieg.domain.watching import WINDOW, Ways, unusual
from obieg.storage.watch_store import WatchStore
from obieg.transactions import TRANSACTIONS, xacml_authorization_decision

EVERY_S = 30.0  # an alarm follows within a minute of the look-up that makes it
_BASED = tuple(t.id for t in TRANSACTIONS if act_of(t.permission) in (Act.READ, Act.IDENTIFY, Act.HANDOUT))
# Numbers are tried by what wants no basis, too.
_OTHERS = tuple(t.id for t in TRANSACTIONS if act_of(t.permission) in (Act.CONSENT, Act.EMERGENCY))
LOOK_UPS = Ways(
    (*_BASED, *_OTHERS, xacml_authorization_decision.TRANSACTION.id), founding=_BASED, by_id=("ITI-67", "ITI-68")
)
_PEOPLE = Gauge(
    "obieg_access_unusual_people", "People whose look-ups of the last hour are unusual.", multiprocess_mode="livemax"
)
_ALARMS = Counter("obieg_access_unusual_total", "Alarms about unusual look-ups.", ("signal",))

log = structlog.get_logger()


class Watch:
    """Looks again and again; each person and signal is an alarm once in a window."""

    def __init__(self, store: WatchStore, clock: Callable[[], datetime], *, every_s: float = EVERY_S) -> None:
        self._store = store
        self._clock = clock
        self._every_s = every_s
        self._told: dict[tuple[str, str], datetime] = {}

    async def run(self) -> None:
        """Does it for ever."""
        while True:
            try:
                await self.look()
            except RetryLater as error:
                log.warning("look-ups are not watched just now", error=str(error))
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """One look at the last window."""
        now = self._clock()
        found = unusual(await self._store.counted(now - WINDOW, now, LOOK_UPS))
        self._told = {key: at for key, at in self._told.items() if at > now - WINDOW}
        for each in found:
            for signal in each.signals:
                if (key := (each.counted.person, signal)) not in self._told:
                    self._told[key] = now
                    _ALARMS.labels(signal).inc()
                    log.warning(
                        "unusual look-ups", person=each.counted.person, signal=signal,
                        count=each.counted.counts[signal], score=each.score,
                    )  # fmt: skip
        _PEOPLE.set(len(found))
