"""How latency grows with the registry: the same requests at 10,000 and at 1,000,000 entries, in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from bench.load import Measured
from bench.node import Node
from bench.rows import BENCHES, Row, Runner

SIZES = (10_000, 1_000_000)
AT_MOST = 1.3
CONNECTIONS = 4
_NAMES = ("iti42", "iti18_leaf")


def measure(small: Node, large: Node, *, seconds: float, runs: int, tell: Callable[[str], None]) -> list[Row]:
    """A row for each transaction: p95 at the larger size, p95 at the smaller, and their ratio."""
    nodes = [
        Runner(node, entries, seconds=seconds, runs=runs, tell=tell)
        for node, entries in zip((small, large), SIZES, strict=True)
    ]
    rows = []
    for bench in (b for b in BENCHES if b.name in _NAMES):
        for runner in nodes:
            runner.send(bench, 2, check=True, connections=CONNECTIONS)
        measured: list[tuple[Measured, Measured]] = []
        for number in range(runs):
            tell(f"scale, {bench.name}: run {number + 1} of {runs}")
            pair = [runner.send(bench, seconds, connections=CONNECTIONS) for runner in nodes]
            measured.append((pair[0], pair[1]))
        ratio = statistics.median(b.p95_ms / a.p95_ms for a, b in measured)
        rows.append(
            Row(
                name=f"scale_{bench.name}",
                what=f"{bench.what}: p95 at {SIZES[1]:,} entries beside p95 at {SIZES[0]:,}, {CONNECTIONS} callers",
                value=statistics.median(b.p95_ms for _, b in measured),
                unit="ms",
                reference=statistics.median(a.p95_ms for a, _ in measured),
                ratio=round(ratio, 4),
                least=None,
                aim=None,
                met=ratio <= AT_MOST,
                aim_met=None,
                at_most=AT_MOST,
                details={
                    "ratios": [round(b.p95_ms / a.p95_ms, 4) for a, b in measured],
                    "p50_ms": round(statistics.median(b.p50_ms for _, b in measured), 2),
                    "p95_ms": round(statistics.median(b.p95_ms for _, b in measured), 2),
                    "p99_ms": round(statistics.median(b.p99_ms for _, b in measured), 2),
                    "rates": [[round(a.rate, 1), round(b.rate, 1)] for a, b in measured],
                },
            )
        )
    return rows
