"""Reads the tables of this package; each file is read once and its content is never changed."""

from __future__ import annotations

import csv
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def toml(name: str) -> dict[str, Any]:
    """The table ``name`` (a path below ``codes/``, with its ending)."""
    return tomllib.loads(files("obieg.codes").joinpath(name).read_text("utf-8"))


@cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """The rows of the CSV table ``name`` (a path below ``codes/``); lines that begin with # are comments."""
    text = files("obieg.codes").joinpath(name).read_text("utf-8")
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return tuple(csv.DictReader(lines))
