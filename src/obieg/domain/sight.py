"""What one request may see, in the form in which the database is asked for it (docs/access.md, The filter).

A :class:`Sight` goes with every question that shows documents: what may not be seen is not fetched. Its rules are read
by functions of the migration ``access_filter``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec.structs import astuple

from obieg.domain.access import Condition, Filter, Rule

_RANKS = {"N": 0, "R": 1, "V": 2}
_HIGHEST = _RANKS["V"]
_ABOVE = (("V", "R"), ("V",), ())  # by rank
_ANYTHING = Condition()
_ATTRIBUTES = Condition.__struct_fields__  # those of Look, in its order
_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_encode = msgspec.json.Encoder().encode


class Look(NamedTuple):
    """Of what attributes a document must have one; fields of the type ``obieg_look``."""

    documents: Sequence[str] | None = None
    class_codes: Sequence[str] | None = None
    type_codes: Sequence[str] | None = None
    practice_setting_codes: Sequence[str] | None = None
    labels: Sequence[str] | None = None
    authors: Sequence[str] | None = None
    encounters: Sequence[str] | None = None
    created_from: str | None = None
    created_to: str | None = None


class Asked(NamedTuple):
    """What rules ask of documents, plain or not; fields of the type ``obieg_filter``."""

    keys: tuple[int, ...]  # of patients to whose documents it applies
    rules: str | None = None  # JSON; None: what follows says all
    above: Sequence[str] | None = None  # labels, of which a document that is open has none; None: nothing is open
    opened: Look | None = None  # whatever the labels
    denied: Look | None = None


class Sight(NamedTuple):
    """Of whom anything may be seen, and the rules about the documents of some of them."""

    permitted: tuple[int, ...] | None = None  # keys of patients; None: of everybody, everything
    filter: Asked | None = None
    # Of one that was kept: keys of patients with the versions of what it was decided by. Whatever is asked by it is
    # answered only while these stand (storage/link.py).
    known: tuple[tuple[int, str], ...] = ()


EVERYTHING = Sight()
NOTHING = Sight(())


def sight(permitted: Iterable[tuple[Sequence[int], Filter | None]]) -> Sight:
    """Of patients, each with all keys under which their objects stand, and what of these may be seen (None: all)."""
    keys: list[int] = []
    filtered: list[tuple[Sequence[int], Sequence[Sequence[_Row]]]] = []
    for own, filter_ in permitted:
        if filter_ is not None and not any(source.permits for source in filter_):
            continue
        keys += own
        sources = () if filter_ is None else _needed(filter_)
        if sources:
            filtered.append((own, sources))
    if not filtered:
        return Sight(tuple(keys))
    return Sight(tuple(keys), (_plain(*filtered[0]) if len(filtered) == 1 else None) or _by_rules(filtered))


def _plain(keys: Sequence[int], sources: Sequence[Sequence[_Row]]) -> Asked | None:
    """The filter of one person, if a look or two at each document is all that it takes."""
    above: Sequence[str] | None = None
    looks: dict[bool, Look] = {}
    for rules in sources:
        if len(rules) != 1:
            return None
        row = rules[0]
        if row["permit"] and len(row) == len(("permit", "rank")):
            above = _ABOVE[row["rank"]]
        elif "any" not in row or row["rank"] != _HIGHEST:
            return None
        else:
            looks[row["permit"]] = Look(*map(row.get, _ATTRIBUTES))
    return Asked(tuple(keys), None, above, looks.get(True), looks.get(False))


def _by_rules(filtered: Iterable[tuple[Sequence[int], Sequence[Sequence[_Row]]]]) -> Asked:
    keys: list[int] = []
    rows: list[_Row] = []
    number = 0
    for own, sources in filtered:
        keys += own
        for of_source in sources:
            number += 1
            rows += [row | {"patients": own, "source": number, "place": place} for place, row in enumerate(of_source)]
    return Asked(tuple(keys), _encode(rows).decode())


_Row = dict[str, Any]  # a rule, as obieg_hidden_documents reads it


def _needed(filter_: Filter) -> Sequence[Sequence[_Row]]:
    """The rules of each source, as few as say the same; none where everything is shown.

    Sources of one rule add up: those that look at one attribute are one that looks at all of these attributes, and what
    somebody permits whatever it is need not be permitted again.
    """
    permitting: list[list[Condition]] = [[] for _ in _RANKS]
    denying: list[Condition] = []
    several: list[tuple[Rule, ...]] = []
    for source in filter_:
        if len(source.rules) > 1:
            several.append(source.rules)
            continue
        for rule in source.rules:
            if rule.permit:
                permitting[_RANKS[rule.max]].append(rule.condition)
            elif rule.permit is False:
                denying.append(rule.condition)
    # The highest rank that is permitted whatever the document is.
    open_ = max((rank for rank, conditions in enumerate(permitting) if _ANYTHING in conditions), default=-1)
    if open_ == _HIGHEST:
        several = [rules for rules in several if any(rule.permit is False for rule in rules)]
        if not denying and not several:
            return ()
    found: list[Sequence[_Row]] = [[_row(rule) for rule in rules] for rules in dict.fromkeys(several)]
    if open_ >= 0:
        found.append([{"permit": True, "rank": open_}])
    for rank in range(_HIGHEST, open_, -1):
        found += [[row] for row in _together(permitting[rank], permit=True, rank=rank)]
    found += [[row] for row in _together(denying, permit=False, rank=_HIGHEST)]
    return found


def _together(conditions: Iterable[Condition], *, permit: bool, rank: int) -> list[_Row]:
    """Rules that all permit, or all deny, up to one rank; those that look at one attribute are one."""
    rows: list[_Row] = []
    together: _Row = {}
    for condition in conditions:
        given = _given(condition)
        if len(given) != 1:
            rows.append({"permit": permit, "rank": rank, **given})
            continue
        for name, value in given.items():
            known = together.get(name)
            if known is None:
                together[name] = value
            elif name in _EITHER:
                together[name] = _EITHER[name](known, value)
            else:
                together[name] = (*known, *[v for v in value if v not in known])
    if together:
        rows.append({"permit": permit, "rank": rank, "any": True, **together})
    return rows


# What of two moments the later, or earlier, documents fit whatever fits one of them.
_EITHER = {"created_from": min, "created_to": max}


def _row(rule: Rule) -> _Row:
    return {"permit": rule.permit, "rank": _RANKS[rule.max], **_given(rule.condition)}


def _given(condition: Condition) -> dict[str, Any]:
    """What it asks for."""
    pairs = zip(_ATTRIBUTES, astuple(condition), strict=False)  # they are as many
    given: dict[str, Any] = {name: value for name, value in pairs if value is not None}
    if "documents" in given:
        given["documents"] = tuple([uuid for d in given["documents"] if (uuid := _uuid(d))])
    return given


def _uuid(said: str) -> str:
    """Without ``urn:uuid:``; "" for what is no UUID and names nothing."""
    plain = said.removeprefix("urn:uuid:")
    if _CANONICAL(plain):
        return plain
    try:
        return str(UUID(plain))
    except ValueError:
        return ""
