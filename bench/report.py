"""The results as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.rows import Row


def write(path: Path, rows: Sequence[Row], machine: dict[str, Any]) -> None:
    path.write_text(json.dumps({"machine": machine, "rows": [asdict(r) for r in rows]}, indent=2) + "\n", "utf-8")


def show(rows: Sequence[Row], machine: dict[str, Any], console: Console) -> None:
    table = Table(title="obieg beside its references")
    for heading in (
        "bench",
        "value",
        "reference",
        "ratio",
        "least",
        "aim",
        "p50",
        "p95",
        "p99",
        "RSS",
        "lag",
        "CPU w+p+c",
    ):
        table.add_column(heading, justify="left" if heading == "bench" else "right", no_wrap=True)
    for row in rows:
        d = row.details
        colour = "red" if not row.met else "green" if row.aim_met is not False else "yellow"
        cpu = d.get("cpu", {})
        table.add_row(
            row.name,
            f"{row.value:,.1f} {row.unit}",
            f"{row.reference:,.1f}",
            f"[{colour}]{_ratio(row, row.ratio)}[/]",
            _ratio(row, row.least) if row.at_most is None else f"≤ {row.at_most}",
            _ratio(row, row.aim),
            *(f"{d[p]:.1f} ms" if p in d else "" for p in ("p50_ms", "p95_ms", "p99_ms")),
            f"{d['worker_resident_mib']:.0f} MiB" if "worker_resident_mib" in d else "",
            f"{d['loop_lag_ms']:.0f} ms" if "loop_lag_ms" in d else "",
            "+".join(f"{cpu[w]:.2f}" for w in ("workers", "postgres", "client")) if cpu else "",
        )
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)


def _ratio(row: Row, value: float | None) -> str:
    if value is None:
        return ""
    if row.at_most is not None:
        return f"{value:.2f}"
    return f"{value:.1f}x" if (row.least or 0) >= 1 else f"{value:.1%}"
