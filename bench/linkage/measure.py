"""The row ``linkage`` of the benchmarks: our engine beside splink on the same records."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from bench.linkage import ours
from bench.linkage.measures import Pairwise, decided, merged, pairwise
from bench.linkage.records import DataSet, Rates, make
from bench.rows import Row
from obieg.domain.learning import learn
from obieg.domain.linkage import LinkageMatcher

PEOPLE, NEGATIVES, SEED = 100_000, 10_000, 616
PRECISION_LEAST, RECALL_LEAST = 0.9995, 0.97
LEARNED_RECORDS = 50_000  # a sample is enough to learn from


class Ours(NamedTuple):
    """What our engine made of a data set."""

    automatic: Pairwise
    with_worklist: Pairwise  # when a person decided every line of the worklist rightly
    wrong_merges: Counter[str]
    completeness: float  # share of the true pairs that a key or an identifier brings together
    worklist: int
    worklist_right: int  # lines whose records are of one person
    learn_s: float
    link_s: float

    @property
    def met(self) -> bool:
        return (
            self.automatic.precision >= PRECISION_LEAST
            and self.automatic.recall >= RECALL_LEAST
            and not self.wrong_merges.total()
        )


def run_ours(data: DataSet) -> Ours:
    """Learns from a sample of the records, then takes them in one by one."""
    records = [kept.record for kept in data.records]
    began = time.perf_counter()
    step = max(1, len(records) // LEARNED_RECORDS)
    weights = learn(records[::step], data.people)
    learnt = time.perf_counter()
    matcher = LinkageMatcher(weights)
    gc.disable()  # a quarter of a million records that live to the end
    linked = ours.link(records, matcher)
    gc.enable()
    done = time.perf_counter()
    return Ours(
        automatic=pairwise(data.records, linked.patients),
        with_worklist=pairwise(data.records, decided(data.records, linked.patients, linked.worklist)),
        wrong_merges=merged(data.negatives, data.records, linked.patients),
        completeness=ours.completeness(data.records, matcher),
        worklist=len(linked.worklist),
        worklist_right=sum(data.records[a].person == data.records[b].person for a, b in linked.worklist),
        learn_s=learnt - began,
        link_s=done - learnt,
    )


def measure(tell: Callable[[str], None], console: Console) -> list[Row]:
    from bench.linkage import theirs  # noqa: PLC0415 - splink is needed for this row only

    tell(f"linkage: making {PEOPLE:,} people and their records")
    data = make(PEOPLE, NEGATIVES, SEED, Rates())
    tell(f"linkage: our engine on {len(data.records):,} records")
    mine = run_ours(data)
    tell("linkage: splink on the same records")
    began = time.perf_counter()
    other = theirs.link(data.records, data.negatives)
    splink_s = time.perf_counter() - began
    console.print(_table(data, mine, other, splink_s))
    details: dict[str, Any] = {
        "records": len(data.records),
        "people": data.people,
        "hard_negatives": len(data.negatives),
        "precision": mine.automatic.precision,
        "recall": mine.automatic.recall,
        "wrong_merges": dict(mine.wrong_merges),
        "recall_with_worklist": mine.with_worklist.recall,
        "worklist": mine.worklist,
        "worklist_right": mine.worklist_right,
        "pair_completeness": mine.completeness,
        "learn_s": round(mine.learn_s, 1),
        "link_s": round(mine.link_s, 1),
        "splink_precision": other.measured.precision,
        "splink_recall": other.measured.recall,
        "splink_threshold": other.threshold,
        "splink_clustered": other.clustered,
        "splink_wrong_merges": dict(other.wrong_merges),
        "splink_s": round(splink_s, 1),
    }
    f1, reference = 100 * mine.automatic.f1, 100 * other.measured.f1
    return [
        Row(
            name="linkage",
            what=f"F1 over pairs of {len(data.records):,} records of {data.people:,} people, beside splink",
            value=f1,
            unit="% F1",
            reference=reference,
            ratio=f1 / reference,
            least=1.0,
            aim=None,
            met=f1 >= reference and mine.met,
            aim_met=None,
            details=details,
        )
    ]


def _table(data: DataSet, mine: Ours, other: Any, splink_s: float) -> Table:
    table = Table(title=f"{len(data.records):,} records of {data.people:,} people, seed {SEED}")
    for heading in ("", "precision", "recall", "F1", f"wrong of {len(data.negatives):,}", "seconds"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = (
        ("obieg, automatic", mine.automatic, mine.wrong_merges.total(), f"{mine.learn_s:.0f} + {mine.link_s:.0f}"),
        (f"obieg, {mine.worklist:,} lines decided", mine.with_worklist, None, ""),
        (
            f"splink, best of all: {'clusters' if other.clustered else 'pairs'} at {other.threshold}",
            other.measured,
            other.wrong_merges.total(),
            f"{splink_s:.0f}",
        ),
    )
    for name, measured, wrong, seconds in rows:
        figures = (measured.precision, measured.recall, measured.f1)
        table.add_row(name, *(f"{100 * f:.3f} %" for f in figures), "" if wrong is None else str(wrong), seconds)
    return table
