"""Why, in free text: what is asked of everybody who has to say it, wherever it is said."""

from __future__ import annotations

LENGTHS = (5, 2000)  # characters
_LETTERS_MIN = 3  # different ones


def is_reason(text: str, lengths: tuple[int, int] = LENGTHS) -> bool:
    """Whether a text says anything at all: it is as long as it has to be, and not made of dots or of one letter."""
    shortest, longest = lengths
    return shortest <= len(text.strip()) <= longest and len({c for c in text.casefold() if c.isalpha()}) >= _LETTERS_MIN


def wanted(lengths: tuple[int, int] = LENGTHS) -> str:
    """What a refusal says of it."""
    return f"say why in words, in {lengths[0]} to {lengths[1]} characters"
