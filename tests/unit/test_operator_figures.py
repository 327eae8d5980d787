"""Figures of operators: charts, files for spreadsheets, what needs attention, and the dashboard."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from obieg.domain.operating import Counted, DatabaseState, Disk, SealingState, troubles
from obieg.web.operator_figures import columns, percent, table

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WELL = DatabaseState("17.1", 1, 9, True, "0022", 0, 0, 0, 0, 0)


def test_columns_stand_side_by_side_within_the_chart() -> None:
    drawn = columns([Counted("2026-09", 5), Counted("2026-10", 10), Counted("2026-11", 0)])
    assert [one.height for one in drawn] == [70, 140, 0]
    assert all(one.y + one.height == drawn[0].y + drawn[0].height for one in drawn)
    assert all(a.x + a.width < b.x for a, b in itertools.pairwise(drawn))
    assert drawn[-1].x + drawn[-1].width <= 400
    assert columns([]) == []
    assert columns([Counted("2026-11", 0)])[0].height == 0


def test_percent() -> None:
    assert (percent(1, 3), percent(0, 0), percent(3, 3)) == (33, 0, 100)


@pytest.mark.parametrize("cell", ["=1+1", "+48", "-1", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("http://x")'])
def test_no_cell_is_a_formula(cell: str) -> None:
    [_, row] = csv.reader(io.StringIO(table(("a", "b"), [(cell, 3)]), newline=""))
    assert row == [f"'{cell}", "3"]


def test_cells_are_kept_apart() -> None:
    text = table(("a", "b"), [('x "y", z', -3), ("Łódź", 0)])
    assert [*csv.reader(io.StringIO(text))] == [["a", "b"], ['x "y", z', "-3"], ["Łódź", "0"]]
    assert text.endswith("\r\n")


def test_nothing_is_wrong_with_a_node_that_is_well() -> None:
    assert troubles(WELL, SealingState(3, 0), [Disk("/", 100, 50)], [NOW + timedelta(days=61)], NOW) == []


def test_what_needs_somebody_the_worst_first() -> None:
    ill = DatabaseState("17.1", 1, 9, False, "0022", 2, 0, 1, 1, 101)
    found = troubles(
        ill,
        SealingState(301, 9, deviations=1),
        [Disk("/", 100, 9)],
        [NOW, NOW + timedelta(days=60)],
        NOW,
    )
    assert found == [
        "deviations", "leader", "seal", "disk", "expired", "expiring", "dead", "reviews", "inbox", "pending",
    ]  # fmt: skip


def test_the_dashboard_shows_metrics_that_are_there() -> None:
    dashboard = json.loads((ROOT / "packaging" / "grafana-dashboard.json").read_text("utf-8"))
    said = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    named = {name for expression in said for name in re.findall(r"\bobieg_\w+", expression)}
    code = "".join(path.read_text("utf-8") for path in (ROOT / "src" / "obieg").rglob("*.py"))
    exposed = set()
    for kind, name in re.findall(r'(Counter|Gauge|Histogram)\(\s*"(obieg_\w+)"', code):
        base = name.removesuffix("_total")
        exposed |= {
            "Counter": {f"{base}_total"},
            "Gauge": {name},
            "Histogram": {f"{name}_bucket", f"{name}_sum", f"{name}_count"},
        }[kind]
    assert len(named) > 12
    assert named <= exposed
    assert {"obieg_certificate_not_after_seconds", "obieg_peer_certificate_not_after_seconds"} <= named
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["title"] and panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in dashboard["panels"])
