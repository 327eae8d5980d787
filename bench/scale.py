"""How latency grows: the same requests in turn at 10,000 and at 1,000,000 entries, or people."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import psycopg

from bench import people, sockets
from bench.load import Measured
from bench.rows import BENCHES, Bench, Row, Runner, Site
from obieg.domain.persons import Demographics

SIZES = (10_000, 1_000_000)
AT_MOST = 1.3
CONNECTIONS = 4
_ASKED = 5_000  # people who are asked for in turn


@dataclass(frozen=True)
class QueryBench(Bench):
    """A question by name and date of birth; every one is about another person, whom the node knows."""

    message: Callable[[Demographics, str], bytes] = field(kw_only=True)
    protocol: str = field(kw_only=True)
    expected: tuple[str, ...] = field(kw_only=True)

    holds = "people"

    def send(self, site: Site, seconds: float, *, seed: int, check: bool, connections: int) -> Measured:  # noqa: ARG002
        asked = _known(site, seed)
        path = site.folder / "messages"
        count = round(_QUESTIONS_A_SECOND_MAX * seconds)
        sockets.write(path, (self.message(asked[n % len(asked)], f"Q{seed}X{n}") for n in range(count)))
        address = site.node.mllp if self.protocol == "mllp" else site.node.http
        return sockets.run(
            path, address, self.protocol, connections=connections, seconds=seconds, expected=self.expected
        )


_QUESTIONS_A_SECOND_MAX = 3_000  # messages that are prepared for a run
_read = msgspec.json.Decoder(Demographics).decode


def _known(site: Site, seed: int) -> list[Demographics]:
    """People whom the node knows, from everywhere in its tables."""
    with psycopg.connect(site.node.dsn) as connection:
        rows = connection.execute(
            "SELECT demographics FROM patient_record TABLESAMPLE BERNOULLI (%s) REPEATABLE (%s) WHERE birth_date <> ''",
            [min(100, 110 * _ASKED / site.size), seed],
        ).fetchall()
    found = [_read(row) for (row,) in rows]
    random.Random(seed).shuffle(found)
    return found[:_ASKED]


_BENCHES: dict[str, Bench] = {
    **{f"scale_{b.name}": b for b in BENCHES if b.name in ("iti42", "iti18_leaf")},
    "scale_pdq": QueryBench(
        "pdq", "ITI-21 by name and date of birth",
        message=lambda d, control_id: sockets.framed(people.name_and_birth_query(d, control_id)),
        protocol="mllp", expected=("\rMSA|AA|", "\rPID|"),
    ),
    "scale_iti78": QueryBench(
        "iti78", "ITI-78 by name and date of birth",
        message=lambda d, _: people.name_and_birth_search(d),
        protocol="http", expected=("HTTP/1.1 200 ", '"Patient"'),
    ),
}  # fmt: skip
NAMES = tuple(_BENCHES)


def holds(name: str) -> str:
    """What the nodes must hold for a row: entries or people."""
    return _BENCHES[name].holds


def measure(name: str, small: Site, large: Site, *, seconds: float, runs: int, tell: Callable[[str], None]) -> Row:
    """p95 at the larger size, p95 at the smaller, and their ratio."""
    bench = _BENCHES[name]
    runners = [Runner(site, seconds=seconds, runs=runs, tell=tell) for site in (small, large)]
    for runner in runners:
        runner.send(bench, 2, check=True, connections=CONNECTIONS)
    measured: list[tuple[Measured, Measured]] = []
    for number in range(runs):
        tell(f"{name}: run {number + 1} of {runs}")
        pair = [runner.send(bench, seconds, connections=CONNECTIONS) for runner in runners]
        measured.append((pair[0], pair[1]))
    ratio = statistics.median(b.p95_ms / a.p95_ms for a, b in measured)
    return Row(
        name=name,
        what=f"{bench.what}: p95 at {large.size:,} {bench.holds} beside p95 at {small.size:,}, {CONNECTIONS} callers",
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
            "answer_bytes": [round(r.answer_bytes) for r in measured[0]],
        },
    )
