"""What one request may see, in the form in which the database is asked for it (docs/access.md, The filter).

A :class:`Sight` goes with every question that shows documents: what may not be seen is not fetched. The functions
``obieg_hidden_documents`` and ``obieg_hidden`` of the migration ``access_cost`` read its rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from obieg.domain.access import Condition, Filter, Rule

_RANKS = {"N": 0, "R": 1, "V": 2}
_HIGHEST = _RANKS["V"]
_ANYTHING = Condition()
_ATTRIBUTES = Condition.__struct_fields__
_encode = msgspec.json.Encoder().encode


class Sight(NamedTuple):
    """Of whom anything may be seen, and the rules about the documents of some of them."""

    permitted: tuple[int, ...] | None = None  # keys of patients; None: of everybody, everything
    filtered: tuple[int, ...] = ()  # those of them to whose documents rules apply
    rules: str | None = None  # JSON
    # Of one that was kept: keys of patients with the versions of what it was decided by. Whatever is asked by it is
    # answered only while these stand (storage/link.py).
    known: tuple[tuple[int, str], ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """As statements name them."""
        return {"permitted": self.permitted, "filtered": self.filtered, "rules": self.rules}


EVERYTHING = Sight()
NOTHING = Sight(())


def sight(permitted: Iterable[tuple[Sequence[int], Filter | None]]) -> Sight:
    """Of patients, each with all keys under which their objects stand, and what of these may be seen (None: all)."""
    keys: list[int] = []
    filtered: list[int] = []
    rows: list[_Row] = []
    number = 0
    for own, filter_ in permitted:
        if filter_ is not None and True not in [source.permits for source in filter_]:
            continue
        keys += own
        sources = () if filter_ is None else _needed(filter_)
        if sources:
            filtered += own
        for of_source in sources:
            number += 1
            for place, row in enumerate(of_source):
                row |= {"patients": own, "source": number, "place": place}
                rows.append(row)
    return Sight(tuple(keys), tuple(filtered), _encode(rows).decode() if filtered else None)


_Row = dict[str, Any]  # a rule, as obieg_hidden_documents reads it


def _needed(filter_: Filter) -> Sequence[Sequence[_Row]]:
    """The rules of each source, as few as say the same; none where everything is shown.

    Sources of one rule add up: those that look at one attribute are one that looks at all of these attributes, and what
    somebody permits whatever it is need not be permitted again.
    """
    permitting: list[Rule] = []
    denying: list[Rule] = []
    several: list[tuple[Rule, ...]] = []
    open_ = -1  # the highest rank that is permitted whatever the document is
    for source in filter_:
        if len(source.rules) > 1:
            several.append(source.rules)
            continue
        for rule in source.rules:
            if rule.permit is False:
                denying.append(rule)
            elif rule.permit:
                permitting.append(rule)
                if rule.condition == _ANYTHING:
                    open_ = max(open_, _RANKS[rule.max])
    if open_ == _HIGHEST:
        several = [rules for rules in several if any(rule.permit is False for rule in rules)]
        if not denying and not several:
            return ()
    found: list[Sequence[_Row]] = [[_row(rule) for rule in rules] for rules in dict.fromkeys(several)]
    if open_ >= 0:
        found.append([{"permit": True, "rank": open_}])
    found += [[row] for row in _together([r for r in permitting if _RANKS[r.max] > open_])]
    found += [[row] for row in _together(denying)]
    return found


def _together(rules: Iterable[Rule]) -> Iterable[_Row]:
    """Rules that all permit, or all deny; those of one rank that look at one attribute are one."""
    by_rank: dict[int, dict[str, Any]] = {}
    for rule in rules:
        given = _given(rule.condition)
        if len(given) != 1:
            yield _row(rule)
            continue
        rank = _HIGHEST if rule.permit is False else _RANKS[rule.max]
        together = by_rank.get(rank)
        if together is None:
            by_rank[rank] = together = {"permit": rule.permit, "rank": rank, "any": True}
        for name, value in given.items():
            known = together.get(name)
            if known is None:
                together[name] = value
            elif name in _EITHER:
                together[name] = _EITHER[name](known, value)
            else:
                together[name] = [*known, *[v for v in value if v not in known]]
    yield from by_rank.values()


# What of two moments the later, or earlier, documents fit whatever fits one of them.
_EITHER = {"created_from": min, "created_to": max}


def _row(rule: Rule) -> _Row:
    return {"permit": rule.permit, "rank": _RANKS[rule.max], **_given(rule.condition)}


def _given(condition: Condition) -> dict[str, Any]:
    """What it asks for."""
    given = {name: value for name in _ATTRIBUTES if (value := getattr(condition, name)) is not None}
    if "documents" in given:
        given["documents"] = [uuid for d in given["documents"] if (uuid := _uuid(d))]
    return given


def _uuid(said: str) -> str:
    """Without ``urn:uuid:``; "" for what is no UUID and names nothing."""
    try:
        return str(UUID(said.removeprefix("urn:uuid:")))
    except ValueError:
        return ""
