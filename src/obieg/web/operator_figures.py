"""Figures for operators: the geometry of their charts, and files for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from obieg.domain.operating import Counted

_FORMULA = frozenset("=+-@\t\r")  # a spreadsheet runs what begins so (OWASP, CSV Injection)
_WIDTH, _HEIGHT, _TOP, _BOTTOM = 400, 180, 18, 22


class Column(NamedTuple):
    """A column of a chart, in units of its view box."""

    name: str
    number: int
    x: float
    y: float
    width: float
    height: float
    middle: float


def columns(counted: Sequence[Counted]) -> list[Column]:
    """Columns side by side, the highest as high as the chart."""
    if not counted:
        return []
    step, most = _WIDTH / len(counted), max(one.number for one in counted) or 1
    width = min(step * 0.7, 48)
    found = []
    for place, one in enumerate(counted):
        height = round((_HEIGHT - _TOP - _BOTTOM) * one.number / most, 1)
        middle = round(step * (place + 0.5), 1)
        found.append(
            Column(
                one.name,
                one.number,
                round(middle - width / 2, 1),
                round(_HEIGHT - _BOTTOM - height, 1),
                round(width, 1),
                height,
                middle,
            )
        )
    return found


def percent(part: int, whole: int) -> int:
    """Rounded; 0 of nothing."""
    return round(100 * part / whole) if whole else 0


def table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV (RFC 4180) in which no cell is a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for row in (heading, *rows):
        writer.writerow([_plain(cell) for cell in row])
    return out.getvalue()


def _plain(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in _FORMULA else cell
