"""What one request may see, in the form in which the database is asked for it (docs/access.md, The filter).

A :class:`Sight` goes with every question that shows documents: what may not be seen is not fetched. The functions
``obieg_hidden_documents`` and ``obieg_hidden`` of the migration ``access_filter`` read its rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from obieg.domain.access import Condition, Filter, Rule

_RANKS = {"N": 0, "R": 1, "V": 2}
_HIGHEST = _RANKS["V"]
_ANYTHING = Condition()
_encode = msgspec.json.Encoder().encode


class Sight(NamedTuple):
    """Of whom anything may be seen, and the rules about the documents of some of them."""

    permitted: tuple[int, ...] | None = None  # keys of patients; None: of everybody, everything
    filtered: tuple[int, ...] = ()  # those of them to whose documents rules apply
    rules: str | None = None  # JSON

    @property
    def parameters(self) -> dict[str, Any]:
        """As statements name them."""
        return self._asdict()


EVERYTHING = Sight()
NOTHING = Sight(())


def sight(permitted: Iterable[tuple[Sequence[int], Filter | None]]) -> Sight:
    """Of patients, each with all keys under which their objects stand, and what of these may be seen (None: all)."""
    keys: list[int] = []
    filtered: list[int] = []
    rules: list[dict[str, Any]] = []
    number = 0
    for own, filter_ in permitted:
        if filter_ is not None and not _permits(filter_):
            continue
        keys += own
        sources = () if filter_ is None else _needed(filter_)
        if sources:
            filtered += own
        for of_source in sources:
            number += 1
            rules += [_row(own, number, place, rule) for place, rule in enumerate(of_source)]
    return Sight(tuple(keys), tuple(filtered), _encode(rules).decode() if filtered else None)


def _permits(filter_: Filter) -> bool:
    return any(rule.permit for source in filter_ for rule in source.rules)


def _needed(filter_: Filter) -> Sequence[tuple[Rule, ...]]:
    """The rules of each source, as few as say the same; none where everything is shown.

    Sources of one rule add up: several that look at the same attribute are one that looks for any of their values, and
    what somebody permits whatever it is need not be permitted again.
    """
    distinct = dict.fromkeys(source.rules for source in filter_ if source.rules)
    several = [rules for rules in distinct if len(rules) > 1]
    single = [rules[0] for rules in distinct if len(rules) == 1]
    denying = [rule for rule in single if rule.permit is False]
    permitting = [rule for rule in single if rule.permit]
    open_ = max((r for r in permitting if r.condition == _ANYTHING), key=_rank, default=None)
    if open_ is not None:
        permitting = [open_, *(r for r in permitting if _rank(r) > _rank(open_))]
        if _rank(open_) == _HIGHEST:
            several = [rules for rules in several if any(rule.permit is False for rule in rules)]
            if not denying and not several:
                return ()
    return [*several, *((rule,) for rule in (*_together(permitting), *_together(denying)))]


def _rank(rule: Rule) -> int:
    return _RANKS[rule.max]


def _together(rules: Iterable[Rule]) -> Iterable[Rule]:
    """Rules that look at one and the same attribute as one."""
    values: dict[tuple[str, bool | None, str], dict[str, None]] = {}
    for rule in rules:
        given = {name: v for name, v in msgspec.structs.asdict(rule.condition).items() if v is not None}
        [name, value] = given.popitem() if len(given) == 1 else ("", None)
        if isinstance(value, tuple):
            values.setdefault((name, rule.permit, rule.max), {}).update(dict.fromkeys(value))
        else:
            yield rule
    for (name, permit, max_), some in values.items():
        yield Rule(permit, msgspec.structs.replace(_ANYTHING, **{name: tuple(some)}), max_)


def _row(keys: Sequence[int], source: int, place: int, rule: Rule) -> dict[str, Any]:
    said = {name: value for name, value in _conditions(rule.condition).items() if value is not None}
    return {"patients": keys, "source": source, "place": place, "permit": rule.permit, "rank": _rank(rule), **said}


def _conditions(condition: Condition) -> Mapping[str, Any]:
    found = msgspec.structs.asdict(condition)
    if condition.documents is not None:
        found["documents"] = [uuid for d in condition.documents if (uuid := _uuid(d))]
    return found


def _uuid(said: str) -> str:
    """Without ``urn:uuid:``; "" for what is no UUID and names nothing."""
    try:
        return str(UUID(said.removeprefix("urn:uuid:")))
    except ValueError:
        return ""
