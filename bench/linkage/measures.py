"""Precision, recall and F1 over pairs of records, and wrong merges among the pairs that are hard to tell apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from bench.linkage.records import Kept, Negative


class Pairwise(NamedTuple):
    precision: float
    recall: float
    wrong: int  # pairs of records of two people in one cluster
    missed: int

    @property
    def f1(self) -> float:
        return (
            2 * self.precision * self.recall / (self.precision + self.recall) if self.precision + self.recall else 0.0
        )


def pairwise(records: Sequence[Kept], clusters: Sequence[int]) -> Pairwise:
    """``clusters`` says where each record was put.

    Planted records count for precision only: they are no sample of what people write.
    """
    rows = [(kept.person, cluster) for kept, cluster in zip(records, clusters, strict=True)]
    claimed, right = _pairs(Counter(c for _, c in rows)), _pairs(Counter(rows))
    plain = [row for row, kept in zip(rows, records, strict=True) if not kept.planted]
    real, found = _pairs(Counter(p for p, _ in plain)), _pairs(Counter(plain))
    return Pairwise(right / claimed if claimed else 1.0, found / real if real else 1.0, claimed - right, real - found)


def _pairs(sizes: Counter[Any]) -> int:
    return sum(n * (n - 1) // 2 for n in sizes.values())


def merged(negatives: Iterable[Negative], records: Sequence[Kept], clusters: Sequence[int]) -> Counter[str]:
    """How many of the pairs share a cluster, by kind."""
    of: dict[int, set[int]] = defaultdict(set)
    for kept, cluster in zip(records, clusters, strict=True):
        of[kept.person].add(cluster)
    return Counter(n.kind for n in negatives if of[n.left] & of[n.right])


def decided(records: Sequence[Kept], clusters: Sequence[int], worklist: Iterable[tuple[int, int]]) -> list[int]:
    """The clusters after somebody went through the worklist and decided every line rightly."""
    root: dict[int, int] = {}

    def find(cluster: int) -> int:
        while (above := root.get(cluster, cluster)) != cluster:
            cluster = above
        return cluster

    for left, right in worklist:
        if records[left].person == records[right].person:
            root[find(clusters[left])] = find(clusters[right])
    return [find(cluster) for cluster in clusters]


def joined_pairs(
    negatives: Iterable[Negative], records: Sequence[Kept], pairs: Sequence[tuple[int, int]]
) -> tuple[Pairwise, Counter[str]]:
    """As :func:`pairwise` and :func:`merged`, for pairs that were not closed to clusters."""
    linked = {frozenset((records[a].person, records[b].person)) for a, b in pairs}
    right = [(records[a], records[b]) for a, b in pairs if records[a].person == records[b].person]
    found = sum(not (a.planted or b.planted) for a, b in right)
    real = _pairs(Counter(kept.person for kept in records if not kept.planted))
    measured = Pairwise(
        len(right) / len(pairs) if pairs else 1.0, found / real if real else 1.0, len(pairs) - len(right), real - found
    )
    return measured, Counter(n.kind for n in negatives if frozenset((n.left, n.right)) in linked)
