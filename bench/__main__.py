"""``python -m bench [NAME…] [--json FILE]`` and ``python -m bench profile NAME``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import dataset, machine, profiling, report, scale
from bench.node import Node, start
from bench.recorder import recorder
from bench.rows import BENCHES, Row, Runner, folder_of

ENTRIES = 100_000
DOCUMENTS = 1_000  # really stored; every loaded entry's document is one of them


def main() -> int:
    names = [b.name for b in BENCHES] + ["scale"]
    parser = argparse.ArgumentParser(prog="bench", description="Measures a node beside PostgreSQL doing the same work.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(names)}; none: all. Or: profile NAME.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the rows there.")
    parser.add_argument("--seconds", type=float, default=4, help="How long each run takes.")
    parser.add_argument("--runs", type=int, default=5, help="How many runs of each side.")
    parser.add_argument("--entries", type=int, default=ENTRIES, help="How many entries the registry holds.")
    parser.add_argument("--data", type=Path, metavar="DIR", help="Keep the loaded nodes here for the next time.")
    given = parser.parse_args()
    profiled = given.names[:1] == ["profile"]
    wanted = given.names[1:] if profiled else given.names or names
    if unknown := [n for n in wanted if n not in names] or (profiled and not wanted):
        parser.error(f"there is no {unknown}: {', '.join(names)}")
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed: apt-get install wrk")
    console = Console(stderr=True)
    benches = [b for b in BENCHES if b.name in wanted]
    rows: list[Row] = []
    described: dict[str, object] = {}
    failed = False
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        base = given.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="obieg-bench-", dir=_roomy())))
        if benches:
            with _loaded(base, given.entries, DOCUMENTS, console) as node:
                described = machine.describe(node.dsn)
                for bench in benches:
                    try:
                        if profiled:
                            profiling.profile(node, bench, given.entries, given.seconds, Console())
                            continue
                        runner = Runner(
                            node, given.entries, seconds=given.seconds, runs=given.runs, tell=_teller(console)
                        )
                        rows.append(asyncio.run(runner.measure(bench)))
                    except (RuntimeError, OSError) as error:
                        console.print(f"[red]{bench.name} could not be measured:[/] {error}", highlight=False)
                        failed = True
        if "scale" in wanted and not profiled:
            small, large = scale.SIZES
            with _loaded(base, small, 0, console) as first, _loaded(base, large, 0, console) as second:
                described = described or machine.describe(first.dsn)
                try:
                    rows += scale.measure(first, second, seconds=given.seconds, runs=given.runs, tell=_teller(console))
                except (RuntimeError, OSError) as error:
                    console.print(f"[red]scale could not be measured:[/] {error}", highlight=False)
                    failed = True
    if not profiled:
        described |= {"load_average": machine.load_average(), "took_s": round(time.monotonic() - began)}
        report.show(rows, described, Console(width=None if sys.stdout.isatty() else 180))
        if given.json:
            report.write(given.json, rows, described)
    return int(failed)


def _roomy() -> str | None:
    """Where the data go: beside the sources when /tmp is memory, where fsync costs nothing."""
    mounts = Path("/proc/mounts").read_text("utf-8").splitlines()
    return str(Path.cwd()) if any(m.split()[1:3] == [tempfile.gettempdir(), "tmpfs"] for m in mounts) else None


def _teller(console: Console):
    return lambda text: console.print(f"[dim]{text}[/]", highlight=False)


@contextlib.contextmanager
def _loaded(base: Path, entries: int, documents: int, console: Console) -> Iterator[Node]:
    """A node that holds ``entries`` entries; loaded when its folder is new."""
    folder = folder_of(base, entries)
    finished = folder / "loaded"
    if folder.exists() and not finished.exists():
        shutil.rmtree(folder)
    with start(folder) as node:
        if not finished.exists():
            asyncio.run(_load(node, entries, documents, console))
            finished.touch()
        yield node


async def _load(node: Node, entries: int, documents: int, console: Console) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"loading {entries:,} entries", total=dataset.rows_of(entries, documents))
        dataset.load_patients(node.dsn, node.identity, entries)
        async with recorder(node.settings) as recording:
            await dataset.load(
                node.dsn, node.identity, recording, entries, documents, lambda rows: progress.advance(task, rows)
            )


if __name__ == "__main__":
    sys.exit(main())
