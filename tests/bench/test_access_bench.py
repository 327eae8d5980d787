"""Times of answers are compared as docs/benchmarks.md says."""

from __future__ import annotations

import pytest
from bench.access import auc


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1.0, 2.0], [3.0, 4.0], 0.0),
        ([3.0, 4.0], [1.0, 2.0], 1.0),
        ([1.0, 4.0], [2.0, 3.0], 0.5),
        ([1.0, 1.0, 1.0], [1.0, 1.0], 0.5),
        ([1.0, 3.0, 2.0], [2.0], 0.5),
    ],
)
def test_auc_is_the_share_of_pairs(one: list[float], other: list[float], expected: float) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in one for b in other]
    assert auc(one, other) == pytest.approx(expected) == pytest.approx(sum(pairs) / len(pairs))
