"""What FHIR costs beside SOAP: the same work asked of the same node by both faces, in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from bench.load import CONNECTIONS, Measured
from bench.rows import BENCHES, ReferencedBench, Row, Runner

# The FHIR transaction, the SOAP transaction, and what the first must reach of the second.
_PAIRS = (("iti65", "iti41", 0.6), ("iti67", "iti18_leaf", 0.8), ("iti68", "iti43", 0.9))
_BENCHES: dict[str, ReferencedBench] = {b.name: b for b in BENCHES}
_FACES = {f"face_{fhir}": (_BENCHES[fhir], _BENCHES[soap], least) for fhir, soap, least in _PAIRS}
NAMES = tuple(_FACES)


def measure(name: str, runner: Runner, *, seconds: float, runs: int, tell: Callable[[str], None]) -> Row:
    """Requests in a second over FHIR, over SOAP, and their ratio."""
    fhir, soap, least = _FACES[name]
    tell(f"{name}: warming up and checking")
    for bench in (fhir, soap):
        runner.send(bench, 2, check=True)
    measured: list[tuple[Measured, Measured]] = []
    for number in range(runs):
        tell(f"{name}: run {number + 1} of {runs}")
        measured.append((runner.send(fhir, seconds), runner.send(soap, seconds)))
    ratios = [a.rate / b.rate for a, b in measured]
    ratio = statistics.median(ratios)
    return Row(
        name=name,
        what=f"{fhir.what}, beside {soap.what}, {CONNECTIONS} callers",
        value=round(statistics.median(a.rate for a, _ in measured), 1),
        unit="1/s",
        reference=round(statistics.median(b.rate for _, b in measured), 1),
        ratio=round(ratio, 4),
        least=least,
        aim=None,
        met=ratio >= least,
        aim_met=None,
        details={
            "ratios": [round(r, 4) for r in ratios],
            "p50_ms": round(statistics.median(a.p50_ms for a, _ in measured), 2),
            "p95_ms": round(statistics.median(a.p95_ms for a, _ in measured), 2),
            "p99_ms": round(statistics.median(a.p99_ms for a, _ in measured), 2),
        },
    )
