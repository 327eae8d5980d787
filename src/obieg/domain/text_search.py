"""Words in the text of documents: what is searched for, and the passages in which it stands.

There is no index of texts: documents lie encrypted, each under a key of its own that is destroyed with it, and an index
would keep their words beside them in clear. So the text is looked through when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.names import fold

WORDS_MAX = 8
LENGTH_MAX = 100
_WORD = re.compile(r"[^\W_]+")
_AROUND = 90  # characters before and after what was found
# How many letters of the end of a word may be another ending, by its length; what is shorter must begin alike.
_ENDINGS = ((8, 3), (6, 2), (4, 1))


class TextQuestion(Value, frozen=True):
    """Words that all stand in one document of a patient."""

    patient: PatientId
    text: str


class Piece(NamedTuple):
    """A part of a passage."""

    text: str
    hit: bool


class Passage(NamedTuple):
    """Where something was found."""

    section: str  # title of the section; "" where it has none
    pieces: tuple[Piece, ...]


class TextMatch(NamedTuple):
    """A document in which all words stand."""

    document: str  # entryUUID
    unique_id: str
    passage: Passage


class TextFound(NamedTuple):
    """What was found, newest first, and how much was looked through."""

    matches: Sequence[TextMatch]
    looked: int
    left: int  # documents that were not looked through: too many, too large, elsewhere, not text
    more: bool = False  # there are older ones besides


def stems(text: str) -> tuple[str, ...]:
    """What a word of a document must begin with, for each word that is asked for: ``cukrzycą`` gives ``cukrz``.

    Polish endings are cut by length, not by grammar; a word with digits is what it is.
    """
    words = (fold(word) for word in _WORD.findall(text[:LENGTH_MAX]))
    return tuple(dict.fromkeys(_stem(word) for word in words if word))[:WORDS_MAX]


def _stem(word: str) -> str:
    if not word.isalpha():
        return word
    return word[: len(word) - next((cut for length, cut in _ENDINGS if len(word) >= length), 0)]


def passage(sections: Iterable[tuple[str, str]], wanted: Sequence[str]) -> Passage | None:
    """Of a document's sections (title, text) the one that says most of it; None unless the document has every stem."""
    found: set[str] = set()
    best: tuple[int, str, str, list[re.Match[str]]] | None = None
    for title, text in sections:
        hits = [(word, fit) for word in _WORD.finditer(text) if (fit := _fitting(word[0], wanted))]
        here = {stem for _, fit in hits for stem in fit}
        found |= here.union(*(_fitting(word, wanted) for word in _WORD.findall(title)))
        if hits and (best is None or len(here) > best[0]):
            best = len(here), title, text, [word for word, _ in hits]
    if not wanted or found != {*wanted}:
        return None
    return Passage(best[1], _pieces(best[2], best[3])) if best is not None else Passage("", ())


def _fitting(word: str, wanted: Sequence[str]) -> set[str]:
    """The stems that the word begins with; one with digits must be the word."""
    folded = fold(word)
    return {stem for stem in wanted if (folded.startswith(stem) if stem.isalpha() else folded == stem)}


def _pieces(text: str, hits: Sequence[re.Match[str]]) -> tuple[Piece, ...]:
    """The text around the first hit, in whole words, with all hits in it."""
    begin, end = max(0, hits[0].start() - _AROUND), min(len(text), hits[0].end() + _AROUND)
    begin = text.find(" ", begin, hits[0].start()) + 1 or hits[0].start() if begin else 0
    end = max(text.rfind(" ", hits[0].end(), end), hits[0].end()) if end < len(text) else end
    pieces, at = [Piece("… ", hit=False)] if begin else [], begin
    for hit in hits:
        if hit.end() <= end:
            pieces += [Piece(text[at : hit.start()], hit=False), Piece(hit[0], hit=True)]
            at = hit.end()
    pieces.append(Piece(text[at:end] + (" …" if end < len(text) else ""), hit=False))
    return tuple(piece for piece in pieces if piece.text)
