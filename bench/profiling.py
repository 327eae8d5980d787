"""Where a worker's time goes under a benchmark's load: py-spy, if it is installed, sampled into functions."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from shutil import which
from threading import Thread

from rich.console import Console
from rich.table import Table

from bench.rows import Bench, Runner, Site

_TOP = 30
_RATE_HZ = 250


def profile(site: Site, bench: Bench, seconds: float, console: Console) -> None:
    beside = Path(sys.executable).with_name("py-spy")
    py_spy = str(beside) if beside.exists() else which("py-spy")
    if py_spy is None:
        raise RuntimeError("py-spy is not installed: pip install py-spy")
    runner = Runner(site, seconds=seconds, runs=1, tell=lambda _: None)
    runner.send(bench, 1, check=True)
    load = Thread(target=runner.send, args=(bench, seconds + 2))
    load.start()
    with tempfile.TemporaryDirectory() as folder:
        stacks = Path(folder) / "stacks"
        command = [
            py_spy, "record", "--pid", str(site.node.workers()[0]), "--duration", str(round(seconds)), "--rate",
            str(_RATE_HZ), "--format", "raw", "--output", str(stacks), "--function", "--nonblocking",
        ]  # fmt: skip
        subprocess.run(command, capture_output=True, check=True)
        load.join()
        own, total, samples = _count(stacks.read_text("utf-8"))
    for title, counts in (("own time", own), ("with what it calls", total)):
        table = Table(title=f"{bench.name}, one worker: {title}")
        table.add_column("share", justify="right")
        table.add_column("function")
        for name, count in counts.most_common(_TOP):
            table.add_row(f"{count / samples:.1%}", name)
        console.print(table)


def _count(text: str) -> tuple[Counter[str], Counter[str], int]:
    """From folded stacks (``a;b;c 12``) to samples by function."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in text.splitlines():
        stack, _, number = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(number)
        for frame in set(frames):
            total[frame] += int(number)
        samples += int(number)
    return own, total, max(1, samples)
