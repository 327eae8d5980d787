"""Names as they are compared: without case and marks, by their sound, by their short forms.

``fold`` and ``sound`` are also what the index searches by. Folding loses only what sources lose on the way (case,
marks, hyphens, apostrophes). The sound loses what is misheard or misspelt: rz and ż, ch and h, ó and u, ph and f,
s and z, w and v, c and k, doubled letters, and the endings by which Polish names tell men from women (Kowalski,
Kowalska). It is no transcription: two names that sound alike share a key, and some do that do not.
"""

from __future__ import annotations

import re
import unicodedata
from enum import IntEnum
from functools import cache, lru_cache

from obieg.codes import load

_LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ß": "ss", "æ": "ae", "œ": "oe", "þ": "th"}
    | dict.fromkeys("'’‘`ʼ´.", "")
)
_GAP = re.compile(r"[\W_]+")
_CACHED = 1 << 17


@lru_cache(maxsize=_CACHED)
def fold(text: str) -> str:
    """Small letters without marks, words parted by one space: ``Żółć-O'Hara`` gives ``zolc ohara``.

    Letters of other scripts stay what they are.
    """
    text = text.lower()
    if not text.isascii():
        text = unicodedata.normalize("NFD", text.translate(_LETTERS))
        text = "".join([c for c in text if not unicodedata.combining(c)]).translate(_LETTERS)
    elif not text.isalnum():
        text = text.translate(_LETTERS)
    return text if text.isalnum() else _GAP.sub(" ", text).strip()


# The order matters: what is written with two letters goes before the letters.
_SOUNDS = tuple(
    pair.split(">")
    for pair in (
        "sch>s", "ph>f", "th>t", "sz>s", "cz>q", "rz>z", "dz>z", "ch>h", "ck>k", "qu>k", "x>ks",
        "w>v", "y>i", "j>i", "c>k", "z>s", "u>o", "q>c",
    )
)  # fmt: skip
_ENDING = re.compile(r"([sc]|dz)k(?:a|y|i|aia|ii|ij|iy|yi|yj)\b")
_SILENT = re.compile(r"h(?=[bdfgklmnprstv])|(?<=[bdfgklmnprstv])i(?=[aeo])|(?<=e)[nm](?=[bptdkg][^\W_])")
_NASAL = re.compile(r"o[nm](?=[bptdkg][^\W_])")  # what is left when ą is heard: Dombrowski
_DOUBLED = re.compile(r"(.)\1+")


@lru_cache(maxsize=_CACHED)
def sound(text: str) -> str:
    """A key that names share which sound alike; words stay parted by one space."""
    return _sound(fold(text))


def _sound(folded: str) -> str:
    key = _ENDING.sub(r"\1ki", folded)
    for written, heard in _SOUNDS:
        key = key.replace(written, heard)
    key = _NASAL.sub("a", _DOUBLED.sub(r"\1", key))
    return _DOUBLED.sub(r"\1", _SILENT.sub("", key))


_FAMILY = re.compile(r"(?<=[a-z]{2})(s|c|dz)(?:k[ay]|cy)\b")


@lru_cache(maxsize=_CACHED)
def family(text: str) -> str:
    """A family name folded, in the ending that men bear: ``Kowalska`` and ``Kowalscy`` give ``kowalski``."""
    return _FAMILY.sub(r"\1ki", fold(text))


# given names ---------------------------------------------------------------------------------------------------------


@cache
def _given_names() -> tuple[frozenset[str], dict[str, frozenset[str]]]:
    """Whole names; the whole names that a short form stands for."""
    whole: set[str] = set()
    short: dict[str, set[str]] = {}
    for row in load.rows("national/pl/given_names.csv"):
        name = fold(row["name"])
        whole.add(name)
        for form in row["short"].split():
            short.setdefault(fold(form), set()).add(name)
    return frozenset(whole), {form: frozenset(names) for form, names in short.items()}


def is_whole(given: str) -> bool:
    """Whether the folded name is one that the table knows as a whole name."""
    return given in _given_names()[0]


def whole_names(given: str) -> frozenset[str]:
    """The whole names that the folded short form stands for; none for what is no short form."""
    return _given_names()[1].get(given, frozenset())


class Likeness(IntEnum):
    """How alike two names are, from the least."""

    DIFFERENT = 0
    SHORT = 1  # a short form, the beginning or the initial of the other
    SIMILAR = 2  # misspelt, or of one sound
    EQUAL = 3


@lru_cache(maxsize=_CACHED)
def given_likeness(left: str, right: str) -> Likeness:
    """Compares two folded given names, one word each."""
    if left == right:
        return Likeness.EQUAL
    short, long = (left, right) if len(left) <= len(right) else (right, left)
    if not short:
        return Likeness.DIFFERENT
    whole, forms = _given_names()
    if short in forms.get(long, ()) or long in forms.get(short, ()):
        return Likeness.SHORT
    if left in whole and right in whole:
        return Likeness.DIFFERENT
    if not forms.get(left, frozenset()).isdisjoint(forms.get(right, ())):
        return Likeness.SHORT
    if len(short) == 1:
        return Likeness.SHORT if long[0] == short else Likeness.DIFFERENT
    if _is_misspelt(short, long):
        return Likeness.SIMILAR
    if len(short) > 2 and long.startswith(short) and short not in whole:
        return Likeness.SHORT
    return Likeness.DIFFERENT


@lru_cache(maxsize=_CACHED)
def family_likeness(left: str, right: str) -> Likeness:
    """Compares two family names as :func:`family` gives them. SHORT: they share a part of a double-barrelled name."""
    if left == right:
        return Likeness.EQUAL
    if not left or not right:
        return Likeness.DIFFERENT
    if " " in left or " " in right:
        lefts, rights = left.split(), right.split()
        if sorted(lefts) == sorted(rights) or "".join(lefts) == "".join(rights):
            return Likeness.EQUAL
        if any(_is_misspelt(a, b) or a == b for a in lefts for b in rights if len(a) > 2 and len(b) > 2):
            return Likeness.SIMILAR if len(lefts) == len(rights) and _all_alike(lefts, rights) else Likeness.SHORT
        return Likeness.SIMILAR if _is_misspelt(left, right) else Likeness.DIFFERENT
    return Likeness.SIMILAR if _is_misspelt(left, right) else Likeness.DIFFERENT


def _all_alike(lefts: list[str], rights: list[str]) -> bool:
    pairs = zip(sorted(lefts), sorted(rights), strict=True)
    return all(a == b or _is_misspelt(a, b) for a, b in pairs)


def _is_misspelt(left: str, right: str) -> bool:
    """One sound, or few letters apart for their length: one up to seven letters, two beyond."""
    if _sound(left) == _sound(right):
        return True
    longest = max(len(left), len(right))
    return longest > 3 and distance(left, right, 1 if longest < 8 else 2) is not None


def distance(left: str, right: str, limit: int) -> int | None:
    """How many letters must be replaced, added, left out or swapped with a neighbour; None beyond ``limit``."""
    if abs(len(left) - len(right)) > limit:
        return None
    before: list[int] = []
    previous = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        current = [i]
        for j, b in enumerate(right, 1):
            cost = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        if min(current) > limit:
            return None
        before, previous = previous, current
    return previous[-1] if previous[-1] <= limit else None
