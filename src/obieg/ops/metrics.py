"""What the node counts about itself, of all its workers together (prometheus_client's multiprocess mode)."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

# The supervisor sets this for its workers, before anything imports prometheus_client there.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

LOOP_LAG = Gauge(
    "obieg_loop_lag_seconds",
    "Longest time that the event loop came late within the last ten seconds",
    multiprocess_mode="livemax",
)
LOOP_LATE = Counter("obieg_loop_late_total", "How often the event loop came more than 50 ms late")
RESIDENT = Gauge("obieg_worker_resident_bytes", "Memory of a worker", multiprocess_mode="liveall")

LATE_S = 0.05
_SAMPLE_S = 0.05
_WINDOW_S = 10.0


async def watch_loop() -> None:
    """Measures the event loop it runs on, for ever."""
    loop = asyncio.get_running_loop()
    page = os.sysconf("SC_PAGE_SIZE")
    lags: deque[float] = deque(maxlen=int(_WINDOW_S / _SAMPLE_S))
    count = 0
    while True:
        due = loop.time() + _SAMPLE_S
        await asyncio.sleep(_SAMPLE_S)
        lag = max(0.0, loop.time() - due)
        lags.append(lag)
        if lag > LATE_S:
            LOOP_LATE.inc()
        count += 1
        if count % 20 == 0:
            LOOP_LAG.set(max(lags))
            RESIDENT.set(int(Path("/proc/self/statm").read_text("ascii").split()[1]) * page)  # noqa: ASYNC240 - no disk


def exposition() -> bytes:
    """The metrics of this node in Prometheus' text format."""
    if FOLDER_VARIABLE not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def worker_ended(pid: int, folder: Path) -> None:
    """Forgets the gauges of a worker that is gone."""
    multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
