"""``python -m bench [NAME…] [--json FILE]`` and ``python -m bench profile NAME``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import (
    access,
    audited,
    dataset,
    faces,
    hostile,
    importing,
    machine,
    pages,
    profiling,
    report,
    scale,
    verifying,
)
from bench.linkage import measure as linkage
from bench.node import Node, start
from bench.recorder import recorder
from bench.rows import BENCHES, ReferencedBench, Row, Runner, Site, folder_of
from bench.secured import Issuer

ENTRIES = 100_000
LINKAGE = "linkage"
DOCUMENTS = 1_000  # really stored; every loaded entry's document is one of them


def main() -> int:
    names = [
        *(b.name for b in BENCHES),
        *faces.NAMES,
        importing.NAME,
        *audited.NAMES,
        verifying.NAME,
        *access.NAMES,
        pages.NAME,
        *hostile.NAMES,
        *scale.NAMES,
        LINKAGE,
    ]
    groups = {
        "face": list(faces.NAMES),
        "audit": [*audited.NAMES, verifying.NAME],
        "hostile": list(hostile.NAMES),
        "scale": list(scale.NAMES),
    }
    parser = argparse.ArgumentParser(prog="bench", description="Measures a node beside PostgreSQL doing the same work.")
    listed = ", ".join([*names, *groups])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{listed}; none: all. Or: profile NAME.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the rows there.")
    parser.add_argument("--seconds", type=float, default=4, help="How long each run takes.")
    parser.add_argument("--runs", type=int, default=5, help="How many runs of each side.")
    parser.add_argument("--entries", type=int, default=ENTRIES, help="How many entries, and people, the node holds.")
    parser.add_argument("--data", type=Path, metavar="DIR", help="Keep the loaded nodes here for the next time.")
    given = parser.parse_args()
    profiled = given.names[:1] == ["profile"]
    asked = given.names[1:] if profiled else given.names or names
    wanted = [name for one in asked for name in groups.get(one, [one])]
    if unknown := [n for n in wanted if n not in names] or (profiled and not wanted):
        parser.error(f"there is no {unknown}: {listed}")
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed: apt-get install wrk")
    session = _Session(given)
    with contextlib.ExitStack() as stack:
        base = given.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="obieg-bench-", dir=_roomy())))
        if profiled:
            session.profile(base, wanted)
        else:
            session.measure(base, wanted)
            session.audited(base, wanted)
            session.verifying(base, wanted)
            session.access(base, wanted)
            session.pages(base, wanted)
            session.hostile(base, wanted)
            session.scale(base, wanted)
            session.linkage(wanted)
    if not profiled:
        session.report()
    return int(session.failed)


class _Session:
    """One call of the command."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.failed = False
        self._given = given
        self._console = Console(stderr=True)
        self._rows: list[Row] = []
        self._described: dict[str, object] = {}
        self._began = time.monotonic()

    def measure(self, base: Path, wanted: list[str]) -> None:
        """The rows that have a reference."""
        self._measure_secured(base, [b for b in BENCHES if b.name in wanted and b.secured])
        benches = [b for b in BENCHES if b.name in wanted and not b.secured]
        compared = [name for name in faces.NAMES if name in wanted]
        imports = importing.NAME in wanted
        if not benches and not compared and not imports:
            return
        holds = {b.holds for b in benches} | ({"people"} if imports else set()) | ({"entries"} if compared else set())
        with self._site(base, self._given.entries, DOCUMENTS, holds) as site:
            for bench in benches:
                with self._attempt(bench.name):
                    self._rows.append(asyncio.run(self._runner(site).measure(bench)))
            for name in compared:
                with self._attempt(name):
                    given = self._given
                    runner = self._runner(site)
                    self._rows.append(
                        faces.measure(name, runner, seconds=given.seconds, runs=given.runs, tell=self._tell)
                    )
            if imports:
                with self._attempt(importing.NAME):
                    feed = next((row for row in self._rows if row.name == "feed"), None)
                    self._rows.append(importing.measure(self._runner(site), site, feed))

    def _measure_secured(self, base: Path, benches: Sequence[ReferencedBench]) -> None:
        """The rows whose callers prove who they are, on the same data."""
        if not benches:
            return
        size = self._given.entries
        with self._site(base, size, DOCUMENTS, {b.holds for b in benches}) as loaded:
            Issuer(loaded.folder / "data")
        with start(folder_of(base, size), module="bench.secured") as node:
            for bench in benches:
                with self._attempt(bench.name):
                    self._rows.append(asyncio.run(self._runner(Site(node, size)).measure(bench)))

    def audited(self, base: Path, wanted: list[str]) -> None:
        """What the audit takes of the rows that are also measured without it."""
        names = [n for n in audited.NAMES if n in wanted]
        if not names:
            return
        size, given = self._given.entries, self._given
        with self._site(base, size, DOCUMENTS, {"entries"}):
            pass
        with self._attempt("audit"):
            self._rows += audited.measure(
                names, folder_of(base, size), size, seconds=given.seconds, runs=given.runs, tell=self._tell
            )

    def verifying(self, base: Path, wanted: list[str]) -> None:
        """How long it takes to verify the sealed audit, on a node of its own."""
        if verifying.NAME not in wanted:
            return
        folder = base / "node-records"
        with (
            self._attempt(verifying.NAME),
            _loaded(folder, verifying.RECORDS, 0, {"records"}, self._console) as node,
        ):
            self._described = self._described or machine.describe(node.dsn)
            self._rows.append(verifying.measure(node, runs=self._given.runs, tell=self._tell))

    def access(self, base: Path, wanted: list[str]) -> None:
        """What deciding who may see what takes, and whether its times tell anything."""
        names = [n for n in access.NAMES if n in wanted]
        if not names:
            return
        size, given = self._given.entries, self._given
        with self._site(base, size, DOCUMENTS, {"entries"}):
            pass
        with self._attempt("access"):
            self._rows += access.measure(
                names, folder_of(base, size), size, seconds=given.seconds, runs=given.runs, tell=self._tell
            )

    def pages(self, base: Path, wanted: list[str]) -> None:
        """What people's pages cost, on the data of the demo."""
        if pages.NAME not in wanted:
            return
        given = self._given
        with self._attempt(pages.NAME):
            self._rows.append(pages.measure(base / pages.NAME, seconds=given.seconds, runs=given.runs, tell=self._tell))

    def hostile(self, base: Path, wanted: list[str]) -> None:
        """The rows of hostile clients, on a node that nobody has asked anything before."""
        names = [n for n in hostile.NAMES if n in wanted]
        if not names:
            return
        size, given = self._given.entries, self._given
        with self._site(base, size, DOCUMENTS, {"entries"}):
            pass
        with start(folder_of(base, size)) as node, hostile.prepared(site := Site(node, size)) as field:
            measurement = hostile.Measurement(
                site, self._runner(site), field, seconds=given.seconds, runs=given.runs, tell=self._tell
            )
            for name in names:
                with self._attempt(name):
                    self._rows += measurement.measure(name)

    def scale(self, base: Path, wanted: list[str]) -> None:
        """The rows that compare two sizes."""
        names = [n for n in scale.NAMES if n in wanted]
        if not names:
            return
        holds = {scale.holds(n) for n in names}
        small, large = scale.SIZES
        with self._site(base, small, 0, holds) as first, self._site(base, large, 0, holds) as second:
            for name in names:
                with self._attempt(name):
                    given = self._given
                    self._rows.append(
                        scale.measure(name, first, second, seconds=given.seconds, runs=given.runs, tell=self._tell)
                    )

    def linkage(self, wanted: list[str]) -> None:
        """The quality of matching, which needs no node."""
        if LINKAGE in wanted:
            with self._attempt(LINKAGE):
                self._rows += linkage.measure(self._tell, Console())

    def profile(self, base: Path, wanted: list[str]) -> None:
        benches = [b for b in BENCHES if b.name in wanted]
        with self._site(base, self._given.entries, DOCUMENTS, {b.holds for b in benches}) as site:
            for bench in benches:
                with self._attempt(bench.name):
                    profiling.profile(site, bench, self._given.seconds, Console())

    def report(self) -> None:
        described = self._described | {
            "load_average": machine.load_average(),
            "took_s": round(time.monotonic() - self._began),
        }
        report.show(self._rows, described, Console(width=None if sys.stdout.isatty() else 180))
        if self._given.json:
            report.write(self._given.json, self._rows, described)

    @contextlib.contextmanager
    def _attempt(self, name: str) -> Iterator[None]:
        """What cannot be measured is said, and the others are measured all the same."""
        try:
            yield
        except (RuntimeError, OSError) as error:
            self._console.print(f"[red]{name} could not be measured:[/] {error}", highlight=False)
            self.failed = True

    @contextlib.contextmanager
    def _site(self, base: Path, size: int, documents: int, holds: set[str]) -> Iterator[Site]:
        with _loaded(folder_of(base, size), size, documents, holds, self._console) as node:
            self._described = self._described or machine.describe(node.dsn)
            yield Site(node, size)

    def _runner(self, site: Site) -> Runner:
        return Runner(site, seconds=self._given.seconds, runs=self._given.runs, tell=self._tell)

    def _tell(self, text: str) -> None:
        self._console.print(f"[dim]{text}[/]", highlight=False)


def _roomy() -> str | None:
    """Where the data go: beside the sources when /tmp is memory, where fsync costs nothing."""
    mounts = Path("/proc/mounts").read_text("utf-8").splitlines()
    return str(Path.cwd()) if any(m.split()[1:3] == [tempfile.gettempdir(), "tmpfs"] for m in mounts) else None


@contextlib.contextmanager
def _loaded(folder: Path, size: int, documents: int, holds: set[str], console: Console) -> Iterator[Node]:
    """A node that holds ``size`` entries, people or records; what its folder does not have yet is loaded."""
    # What was being loaded when the bench was stopped is neither there nor not.
    if folder.exists() and any(folder.glob("*.unfinished")):
        shutil.rmtree(folder)
    with start(folder) as node:
        for what in sorted(holds):
            finished, unfinished = folder / f"{what}.loaded", folder / f"{what}.unfinished"
            if not finished.exists():
                unfinished.touch()
                _load(node, what, size, documents, console)
                unfinished.rename(finished)
        yield node


def _load(node: Node, what: str, size: int, documents: int, console: Console) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    total = dataset.rows_of(size, documents) if what == "entries" else size
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"loading {size:,} {what}", total=total)

        def done(rows: int) -> None:
            progress.advance(task, rows)

        if what == "people":
            dataset.load_people(node.dsn, node.identity, size, done)
        elif what == "records":
            asyncio.run(verifying.ask(node))
            verifying.load(node, done)
        else:
            asyncio.run(_load_entries(node, size, documents, done))


async def _load_entries(node: Node, entries: int, documents: int, done: Callable[[int], None]) -> None:
    dataset.load_patients(node.dsn, node.identity, entries)
    async with recorder(node.settings) as recording:
        await dataset.load(node.dsn, node.identity, recording, entries, documents, done)


if __name__ == "__main__":
    sys.exit(main())
