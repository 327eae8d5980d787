"""Rows ``audit_…``: what the audit costs, beside the same node without it.

No setting of the product switches the audit off, so the other node is one that only the bench can build: every
statement that writes an audit record is left out of its batch, and no record is rendered. A batch that was nothing else
is not sent. What remains of the audit there is that actors still say what they did (a struct of a dozen fields).
The node with audit is built by the bench too, with one difference from an ordinary one: it seals what it has recorded
every second instead of every minute, so that a run of a few seconds pays for the sealing of its own records and not,
by chance, for those of another.

Both are started in turn on the same database, which holds the same entries; each run measures all rows on one, then all
rows on the other, and the next run begins with the other one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg

from bench import machine
from bench.load import Measured
from bench.node import serve_built, start
from bench.rows import BENCHES, ReferencedBench, Row, Runner, Site
from obieg.ops import wiring
from obieg.ops.settings import Settings
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.storage.link import Row as DatabaseRow
from obieg.storage.statements import Call, load

# Benchmark -> what is left of its throughput with audit, at least; None: it is only reported.
LEAST: dict[str, float | None] = {"iti42": 0.88, "iti18_leaf": None, "iti43": None, "iti67": None, "iti68": None}
_BENCHES: dict[str, ReferencedBench] = {f"audit_{b.name}": b for b in BENCHES if b.name in LEAST}
NAMES = tuple(_BENCHES)
_SIDES = ("with", "without")
_SEALED_EVERY_S = 1.0
_SEALING_TIME_S = 120
_SETTLE_S = 0.2  # the last requests of wrk are still being answered

RECORDING = frozenset(
    statement.name
    for name in ("audit.sql", "repository.sql")
    for statement in load(name).sent
    if "INSERT INTO audit_event" in statement.sql
)


class Unaudited(Database):
    """A database that is not sent what would record something."""

    async def run(self, *calls: Call) -> list[list[DatabaseRow]]:
        kept = [call for call in calls if call.statement.name not in RECORDING]
        results = iter(await super().run(*kept) if kept else ())
        return [[] if call.statement.name in RECORDING else next(results) for call in calls]


class _Unwritten(AuditStore):
    """Renders nothing."""

    def columns(self, event: Any) -> dict[str, str]:  # noqa: ARG002
        return {"transaction": "", "outcome": "0", "patient_id": "", "request_id": "", "message": ""}


def build_with(settings: Settings) -> wiring.Node:
    """An ordinary node that seals often."""
    sealing = settings.sealing.model_copy(update={"interval_s": _SEALED_EVERY_S})
    return wiring.build(settings.model_copy(update={"sealing": sealing}))


def build_without(settings: Settings) -> wiring.Node:
    """The same without audit."""
    wiring.Database = Unaudited  # type: ignore[misc]
    wiring.AuditStore = _Unwritten  # type: ignore[misc]
    return build_with(settings)


def measure(
    names: Sequence[str], folder: Path, size: int, *, seconds: float, runs: int, tell: Callable[[str], None]
) -> list[Row]:
    """The rows, from a folder whose node is loaded and does not run."""
    measured: dict[tuple[str, str], list[tuple[Measured, dict[str, float]]]] = {}
    loads: list[float] = []
    for number in range(runs):
        for side in _SIDES if number % 2 == 0 else _SIDES[::-1]:
            tell(f"audit: run {number + 1} of {runs}, {side} audit")
            with start(folder, module="bench.audited", arguments=[side]) as node:
                site = Site(node, size)
                runner = Runner(site, seconds=seconds, runs=runs, tell=tell)
                _wait_for_seal(node.dsn)
                for name in names:
                    found = _run(runner, site, _BENCHES[name], seconds, audited=side == "with")
                    measured.setdefault((name, side), []).append(found)
        loads.append(machine.load_average())
    return [_row(name, measured[name, "with"], measured[name, "without"], loads) for name in names]


def _run(
    runner: Runner, site: Site, bench: ReferencedBench, seconds: float, *, audited: bool
) -> tuple[Measured, dict[str, float]]:
    """One run on one side, and processor time; what was recorded must be what that side records."""
    runner.send(bench, 1, check=True)
    time.sleep(_SETTLE_S)
    mark, before = runner.audit_mark(), site.node.cpu_s()
    measured = runner.send(bench, seconds)
    after = site.node.cpu_s()
    time.sleep(_SETTLE_S)
    good, recorded = runner.audited(mark)
    if good != recorded or (not audited and recorded) or (audited and recorded < measured.requests):
        raise RuntimeError(
            f"{bench.name}: {measured.requests} answers left {recorded} audit records, {good} of success"
        )
    return measured, {who: after[who] - before[who] for who in after}


def _row(
    name: str,
    audited: Sequence[tuple[Measured, dict[str, float]]],
    plain: Sequence[tuple[Measured, dict[str, float]]],
    loads: Sequence[float],
) -> Row:
    middle, bench = statistics.median, _BENCHES[name]
    ratios = [a.rate / b.rate for (a, _), (b, _) in zip(audited, plain, strict=True)]
    ratio, least = middle(ratios), LEAST[bench.name]

    def of_request(side: Sequence[tuple[Measured, dict[str, float]]]) -> dict[str, float]:
        return {who: round(middle(1000 * cpu[who] / m.requests for m, cpu in side), 3) for who in side[0][1]}

    return Row(
        name=name,
        what=f"{bench.what}, beside the same without audit",
        value=round(middle(m.rate for m, _ in audited), 1),
        unit="1/s",
        reference=round(middle(m.rate for m, _ in plain), 1),
        ratio=round(ratio, 4),
        least=least,
        aim=None,
        met=least is None or ratio >= least,
        aim_met=None,
        details={
            "costs": round(1 - ratio, 4),
            "ratios": [round(r, 4) for r in ratios],
            "values": [round(m.rate, 1) for m, _ in audited],
            "references": [round(m.rate, 1) for m, _ in plain],
            "p50_ms": round(middle(m.p50_ms for m, _ in audited), 2),
            "p95_ms": round(middle(m.p95_ms for m, _ in audited), 2),
            "p99_ms": round(middle(m.p99_ms for m, _ in audited), 2),
            # Of workers and PostgreSQL for one request.
            "cpu_ms": {"with": of_request(audited), "without": of_request(plain)},
            "load_average": list(loads),
        },
    )


def _wait_for_seal(dsn: str) -> None:
    """What others recorded is not to be sealed in our time: waits for a pass of the sealing."""
    age = load("sealing.sql").sealing_age.sql.encode()
    began = time.monotonic()
    with psycopg.connect(dsn, autocommit=True) as connection:
        while (row := connection.execute(age).fetchone()) is None or row[0] >= time.monotonic() - began:
            if time.monotonic() > began + _SEALING_TIME_S:
                raise RuntimeError(f"the node has not sealed its audit within {_SEALING_TIME_S} s")
            time.sleep(0.1)


if __name__ == "__main__":
    serve_built("bench.audited:build_{}")
