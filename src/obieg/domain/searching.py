"""Searching people by what is said of them: which index serves a question, and how well a record fits it.

A record is found by its first name, kept folded as ``family|given given``, and by how that sounds; both are sorted byte
by byte, so that a question reads one short piece of an index. A question that would read a long one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from obieg.domain.identifiers import PatientId
from obieg.domain.names import Likeness, fold, given_likeness, sound, whole_names
from obieg.domain.patients import DemographicsQuery
from obieg.domain.persons import Demographics, PersonName
from obieg.domain.problems import Problem

PREFIX_MIN = 2  # letters of a family name that a question needs when no date of birth narrows it
NOBODY = "\x01"  # a pattern that fits no name
_AFTER = "~"  # sorts after every digit
_DIGITS = re.compile(r"\D+")
_PHONE_DIGITS = 9  # of a Polish number without its country code
_EXACT, _BEGINS, _PART, _SHORT, _SOUND = 1.0, 0.95, 0.92, 0.85, 0.8


class SearchPlan(NamedTuple):
    """How the store finds records that may fit; patterns are those of LIKE."""

    by: str  # identifier, birth, birth_range, name
    identifiers: tuple[PatientId, ...] = ()
    births: tuple[str, ...] = ()
    names: str = "%"
    first_part: str = NOBODY  # the family name as the first part of a longer one
    sounds: str = "%"
    given: tuple[str, ...] = ("%",)
    born_from: str = ""
    born_before: str = _AFTER


def name_keys(demographics: Demographics) -> tuple[str, str]:
    """``names`` and ``sounds`` of a record, for the index."""
    name = demographics.name
    if not name.family and not name.given:
        return "", ""
    words = [word for text in name.given for word in fold(text).split()]
    family = fold(name.family)
    return f"{family}|{' '.join(words)}", f"{sound(name.family)}|{' '.join([sound(w) for w in words])}"


def plan(query: DemographicsQuery) -> SearchPlan:
    """Which index answers the question; raises Problem TooBroad where none does."""
    _check_wildcards(query)
    if query.identifiers:
        return SearchPlan("identifier", identifiers=query.identifiers)
    family, open_end = _stem(query.family)
    given, _ = _stem(query.given)
    open_end = open_end or query.prefix
    names = f"{family}%" if open_end else f"{family}|%" if family else "%"
    # Names of two parts are found by their first; by any other part where the birth date narrows the question.
    sounds = NOBODY
    if family and not query.exact and not open_end:
        sounds = f"{sound(family)}|{sound(given)}%" if given else f"{sound(family)}|%"
    born_before = query.born_until + _AFTER  # of an open end: after every date
    if query.born_from and query.born_from == query.born_until and len(query.born_from) == len("YYYYMMDD"):
        day = query.born_from
        part = f"%{family}%" if family and not query.exact else names
        return SearchPlan("birth", births=(day, day[:6], day[:4]), names=part, sounds=sounds if family else "%")
    if len(family) >= PREFIX_MIN:
        return SearchPlan(
            "name",
            names=names,
            first_part=NOBODY if open_end or query.exact else f"{family} %",
            sounds=sounds,
            given=tuple(f"% {word}%" for word in (given, *sorted(whole_names(given)))) if given else ("%",),
            born_from=query.born_from,
            born_before=born_before,
        )
    if query.born_from[:6] and query.born_from[:6] == query.born_until[:6] and len(query.born_from) >= len("YYYYMM"):
        return SearchPlan(
            "birth_range",
            names=names,
            sounds=sounds if family else "%",
            born_from=query.born_from,
            born_before=born_before,
        )
    raise Problem.of(
        "TooBroad",
        "the question is too wide to be answered; give an identifier, or at least two letters of the family name, or "
        "the date of birth",
    )


def _check_wildcards(query: DemographicsQuery) -> None:
    for text in (query.family, query.given, query.mother_family, query.mother_given, query.city, query.street):
        if "*" in text.rstrip("*"):
            raise Problem.of("TooBroad", "a wildcard (*) stands at the end of a word only, after its first letters")


def _stem(text: str) -> tuple[str, bool]:
    """The folded text without its wildcard, and whether it had one."""
    return fold(text.rstrip("*")), text.endswith("*")


def fit(query: DemographicsQuery, demographics: Demographics, identifiers: Sequence[PatientId]) -> int:
    """How well a record fits, in percent; 0 if it does not."""
    d = demographics
    score = 1.0
    if query.identifiers:
        score *= _EXACT if any(_names(i, identifiers) for i in query.identifiers) else 0
    if query.family or query.given:
        score *= max((_name(query, name) for name in d.names), default=0.0)
    if query.mother_family or query.mother_given:
        mother = d.mother_name or PersonName()
        score *= _text(query.mother_family, mother.family, query) if query.mother_family else 1
        score *= _words(query.mother_given, mother.given, query) if query.mother_given else 1
    score *= _born(query, d.birth_date)
    if query.sex:
        score *= 1 if d.sex == query.sex else _PART if d.sex in {"", "U"} else 0
    score *= _contact(query, d)
    return round(100 * score)


def _names(wanted: PatientId, identifiers: Iterable[PatientId]) -> bool:
    return any(i == wanted or (not wanted.authority and i.value == wanted.value) for i in identifiers)


def _name(query: DemographicsQuery, name: PersonName) -> float:
    score = 1.0
    if query.family:
        score *= _text(query.family, name.family, query)
    if query.given:
        score *= _words(query.given, name.given, query)
    return score


def _words(wanted: str, given: Sequence[str], query: DemographicsQuery) -> float:
    """Each word asked for fits one of the given names."""
    words = [word for text in given for word in fold(text).split()]
    scores = [max((_text(part, word, query, short=True) for word in words), default=0.0) for part in wanted.split()]
    return min(scores, default=1.0)


def _text(wanted: str, there: str, query: DemographicsQuery, *, short: bool = False) -> float:
    stem, open_end = _stem(wanted)
    known = fold(there)
    if known == stem:
        return _EXACT
    if not known or not stem:
        return 0.0
    if (open_end or query.prefix) and known.startswith(stem):
        return _BEGINS
    if query.exact or open_end or query.prefix:
        return 0.0
    if stem in re.split(r"[ -]", known):
        return _PART
    if short and given_likeness(stem, known) is Likeness.SHORT:
        return _SHORT
    return _SOUND if sound(stem) == sound(known) else 0.0


def _born(query: DemographicsQuery, birth_date: str) -> float:
    if not query.born_from and not query.born_until:
        return 1.0
    if not birth_date:
        return 0.0
    first, last = query.born_from, query.born_until or _AFTER
    if first <= birth_date and birth_date[: len(last)] <= last:
        return 1.0
    # A record that knows only the year, or the month, may be meant.
    partial = len(birth_date) < max(len(first), len(query.born_until))
    return _PART if partial and first[: len(birth_date)] <= birth_date <= last[: len(birth_date)] else 0.0


def _contact(query: DemographicsQuery, d: Demographics) -> float:
    asked = [
        (query.street, "street"),
        (query.city, "city"),
        (query.state, "state"),
        (query.postal_code, "postal_code"),
        (query.country, "country"),
    ]
    given = [(text, field) for text, field in asked if text]
    if given and not any(all(_begins(text, getattr(a, field), query) for text, field in given) for a in d.addresses):
        return 0.0
    parts = (getattr(a, field) for a in d.addresses for _, field in asked)
    if query.address and not any(_begins(query.address, part, query) for part in parts):
        return 0.0
    if query.telecom and not any(_same_telecom(query.telecom, t.number) for t in d.telecoms):
        return 0.0
    return 1.0 if not query.account or query.account == d.account else 0.0


def _begins(wanted: str, there: str, query: DemographicsQuery) -> bool:
    stem, open_end = _stem(wanted)
    known = fold(there)
    return known == stem or known.startswith(stem + ("" if open_end or query.prefix else " "))


def _same_telecom(wanted: str, there: str) -> bool:
    if "@" in wanted or "@" in there:
        return wanted.removeprefix("mailto:").casefold() == there.removeprefix("mailto:").casefold()
    left, right = _DIGITS.sub("", wanted), _DIGITS.sub("", there)
    return bool(left) and left[-_PHONE_DIGITS:] == right[-_PHONE_DIGITS:]
