"""What tests of failures share; the peers are those of tests/node."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "node"))

from pair import Pair


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own: started by root it takes the server's user's right to enter away whenever it is started anew."""
    with tempfile.TemporaryDirectory(prefix="obieg-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A region and a facility; whoever breaks something mends it."""
    with tempfile.TemporaryDirectory(prefix="obieg-", ignore_cleanup_errors=True) as name:
        yield from _running(Path(name))


def _running(folder: Path) -> Iterator[Pair]:
    found = Pair(folder)
    try:
        found.start()
        yield found
    finally:
        found.end()
