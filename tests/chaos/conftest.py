"""What tests of failures share; the peers are those of tests/node."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "node"))

from pair import Pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A region and a facility; whoever breaks something mends it."""
    found = Pair(tmp_path_factory.mktemp("pair"))
    try:
        found.start()
        yield found
    finally:
        found.end()
