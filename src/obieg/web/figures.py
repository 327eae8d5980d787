"""Numbers as they are written in Polish documents."""

from __future__ import annotations


def number(value: float) -> str:
    """With a comma."""
    return f"{value:.6g}".replace(".", ",")


def between(low: float | None, high: float | None) -> str:
    """A range, open where a limit is missing; "" without any."""
    begins, ends = (None if limit is None else number(limit) for limit in (low, high))
    if begins is not None and ends is not None:
        return f"{begins}–{ends}"
    return f"≤ {ends}" if ends is not None else f"≥ {begins}" if begins is not None else ""
