"""docs/security/asvs.md goes by every requirement of ASVS 5.0.0, and names only what exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "security" / "asvs.md"
# How many requirements each section of the standard has, chapter by chapter.
SECTIONS = {
    1: (2, 10, 12, 3, 3), 2: (3, 3, 5, 2), 3: (1, 3, 5, 8, 8, 1, 5), 4: (5, 5, 2, 4), 5: (1, 6, 3, 3),
    6: (3, 12, 8, 6, 8, 4, 2, 4), 7: (3, 4, 2, 5, 3, 2), 8: (4, 4, 3, 2), 9: (3, 4), 10: (2, 3, 5, 16, 5, 2, 3),
    11: (4, 5, 5, 4, 2, 2, 2), 12: (5, 2, 5), 13: (4, 6, 4, 7), 14: (2, 8, 3), 15: (5, 5, 7, 4),
    16: (1, 5, 4, 3, 4), 17: (2, 8, 2),
}  # fmt: skip
LEVELS = {"1": 70, "2": 183, "3": 92}
STATES = ("met", "partly", "open", "not applicable")
MISSING = "Missing: "
_ROW = re.compile(r"\| (\d+\.\d+\.\d+) \| ([123]) \| ([^|]+) \| ([a-z ]+) \| ([^|]+) \|")
_FILE = re.compile(r"\.(?:py|toml|html|js|md|service|lock|css)\Z")


class Row(NamedTuple):
    number: str
    level: str
    short: str
    state: str
    text: str

    @property
    def names(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.text)

    @property
    def links(self) -> list[str]:
        return re.findall(r"\]\(([^)]+)\)", self.text)


def rows() -> list[Row]:
    return [Row(*match.groups()) for line in PAGE.read_text("utf-8").splitlines() if (match := _ROW.fullmatch(line))]


ROWS = rows()
IDS = [row.number for row in ROWS]


@cache
def files() -> tuple[str, ...]:
    folders = ("src", "tests", "docs", "packaging", "fuzz")
    found = [p for folder in folders for p in (REPOSITORY / folder).rglob("*") if p.is_file()]
    found += [p for p in REPOSITORY.iterdir() if p.is_file()]
    return tuple(p.relative_to(REPOSITORY).as_posix() for p in found if "__pycache__" not in p.parts)


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((REPOSITORY / path).read_text("utf-8"))
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def fault(name: str) -> str:
    """Why what stands in code font is no file, or no function of it; "" for good ones and for other words."""
    path, _, function = name.partition("::")
    if not _FILE.search(path):
        return f"{name} names no file" if function else ""
    found = [f for f in files() if f"/{f}".endswith(f"/{path}")]
    if len(found) != 1:
        return f"{path} is {len(found)} files"
    if function and function not in functions(found[0]):
        return f"{found[0]} has no {function}"
    return ""


def test_every_requirement_stands_once_and_in_order() -> None:
    wanted = [
        f"{chapter}.{section}.{number}"
        for chapter, counts in SECTIONS.items()
        for section, count in enumerate(counts, 1)
        for number in range(1, count + 1)
    ]
    assert wanted == IDS
    assert Counter(row.level for row in ROWS) == LEVELS
    # Lines that look like rows and are none would be overlooked.
    assert len(re.findall(r"(?m)^\| \d+\.\d", PAGE.read_text("utf-8"))) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_each_row_holds(row: Row) -> None:
    assert row.state in STATES
    assert [said for name in row.names if (said := fault(name))] == []
    for link in row.links:
        assert (PAGE.parent / link.partition("#")[0]).is_file(), link
    if row.state in ("partly", "open"):
        assert len(row.text.partition(MISSING)[2]) >= len("a test")
    else:
        assert MISSING not in row.text
    if row.state == "met":
        tests = [n for n in row.names if n.startswith("test_") or n in ("./run check", "./run fuzz")]
        assert tests or row.links, "met needs a test, or a page"
    if row.state == "not applicable":
        assert len(row.text.split()) >= 2


def test_the_counts_are_those_of_the_rows() -> None:
    page = PAGE.read_text("utf-8")
    for level in (*LEVELS, "all"):
        counted = Counter(row.state for row in ROWS if level in (row.level, "all"))
        numbers = " | ".join(str(n) for n in (*(counted[state] for state in STATES), counted.total()))
        assert f"| {level} | {numbers} |" in page


@pytest.mark.parametrize(
    "name", ["test_none.py", "test_xml.py::test_none", "authorization.py", "nothing::test_x", "a/b.toml"]
)
def test_what_does_not_exist_is_found(name: str) -> None:
    assert fault(name)


@pytest.mark.parametrize(
    "name", ["test_xml.py", "test_xml.py::test_limits", "wire/xml.py", "[limits]", "wire/xml.py::parse_message"]
)
def test_what_exists_passes(name: str) -> None:
    assert fault(name) == ""
