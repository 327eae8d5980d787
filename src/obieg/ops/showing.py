"""How commands show things, whatever they are about: times, JSON, progress, what an import came to."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from obieg.domain.zone import WARSAW
from obieg.ops.import_files import PATIENTS, Header, Source, examine


def local(moment: datetime | None) -> str:
    """A moment in Warsaw."""
    return f"{moment.astimezone(WARSAW):%Y-%m-%d %H:%M:%S}" if moment else ""


def print_json(data: Any) -> None:
    """For other programs, and to be read."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")


def progress_bar(unit: str) -> Progress:
    """How far a file is read, shown while it takes longer."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
    )


def examined(path: Path, format_: str, charset: str, header: Header = PATIENTS) -> Source:
    """A file to be imported, looked at; see :func:`obieg.ops.import_files.examine`."""
    with progress_bar("") as progress:
        size = path.stat().st_size if path.exists() else 0
        shown = progress.add_task(f"looking at {path.name}", total=size or None)
        return examine(path, format_, charset, lambda count: progress.advance(shown, count), header)


def print_counts(console: Console, counts: Mapping[str, int], words: Mapping[str, str]) -> None:
    """What became of the records, in the order of ``words``."""
    table = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
    table.add_column(justify="right", style="bold")
    table.add_column()
    for name, means in words.items():
        if counts.get(name):
            table.add_row(str(counts[name]), means, style="red" if name == "rejected" else "")
    console.print(table)


def print_lines(console: Console, lines: Iterable[tuple[int, str]]) -> None:
    """What was found on lines of the file."""
    for line, said in lines:
        console.print(Text(f"  line {line}: {said}", style="dim"), soft_wrap=True)


def print_rejects(console: Console, rejects: Path | None) -> None:
    """Where the rejected records are, if there are any."""
    if rejects is not None:
        console.print(
            Text(f"  Rejected records and why: {rejects}. Correct them there and import that file."), soft_wrap=True
        )


def print_columns(columns: Mapping[str, str], more: str) -> None:
    """The columns that a CSV file may have, and what else is to be known of it."""
    table = Table("Column", "What stands there", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, means in columns.items():
        table.add_row(name, means)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\nThe first line names the columns, in any order; {more}", soft_wrap=True)
