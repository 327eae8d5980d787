"""Learns from a region's own records what matching weighs with: frequencies of names, and m and u of every level.

Records that share a valid PESEL are of one person, all but a few; how their other fields compare gives m. PESEL's own m
comes from records that agree in name, birth date and home. Records paired at a distance are of two people, all but a
few; how those compare gives u. What was seen is blended with the weights that one starts from, so that a level nobody
has met yet keeps a sensible weight, and a region of a hundred records keeps the defaults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import msgspec

from obieg.domain.linkage import Compared, LinkageMatcher, Odds, Prepared, Weights, default_weights
from obieg.domain.matching import Record

PRIOR_PAIRS = 200  # how many pairs the weights that one starts from stand for
NAME_RECORDS_MIN = 5  # a name met less often counts as rare
NAMES_PRIOR = 5_000  # how many records the frequencies that one starts from stand for
RANDOM_PAIRS_MAX = 100_000
# Pairs taken at random are too few to meet the first ones, and hardly ever relatives, who share the others.
_SET_U = frozenset(
    {("pesel", "equal"), ("pesel", "misspelt"), ("document", "equal"), ("mother", "equal"), ("telecom", "equal")}
    | {("address", level) for level in ("home", "street", "place")}
)
_SET_FIELDS = frozenset({"number"})  # one facility keeps one record of a number: pairs would be mistakes only
_FAR_PRIME = 15_485_863
_SPREAD_MIN = 1e-7


def learn(records: Iterable[Record], people: int, start: Weights | None = None) -> Weights:
    """The weights of a region of ``people`` people; a sample of some ten thousand records is enough.

    ``start`` are the weights to blend with, the defaults if none are given.
    """
    start = start or default_weights()
    matcher = LinkageMatcher(start)
    prepared = [matcher.prepare(record) for record in records]
    # Who shares a PESEL shares its date too: what people write in the birth date is compared without it.
    stated = [msgspec.structs.replace(p, derived_date="") if p.derived_date else p for p in prepared]
    same, other = _Counted(), _Counted()
    for left, right in _sharing(stated, lambda p: p.pesel):
        same.add(one for one in matcher.compare(left, right) if one[0] != "pesel")
    for left, right in _sharing(prepared, _described):
        same.add(one for one in matcher.compare(left, right) if one[0] == "pesel")
    for left, right in _apart(prepared):
        other.add(matcher.compare(left, right))
    families, rare_family = _shares([p.family for p in prepared], start.families, start.rare_family, people)
    givens, rare_given = _shares([p.given[0] for p in prepared if p.given], start.givens, start.rare_given, people)
    return msgspec.structs.replace(
        start,
        people=max(2, people),
        rare_family=rare_family,
        rare_given=rare_given,
        families=families,
        givens=givens,
        fields={
            field: {
                level: odds
                if field in _SET_FIELDS or level == "derived"
                else Odds(
                    same.blended(field, level, odds.m),
                    odds.u if (field, level) in _SET_U else other.blended(field, level, odds.u),
                )
                for level, odds in levels.items()
            }
            for field, levels in start.fields.items()
        },
    )


class _Counted:
    """How often a field came out at each level."""

    def __init__(self) -> None:
        self._levels: Counter[tuple[str, str]] = Counter()
        self._fields: Counter[str] = Counter()

    def add(self, compared: Iterable[Compared]) -> None:
        for field, level, _ in compared:
            self._levels[field, level] += 1
            self._fields[field] += 1

    def blended(self, field: str, level: str, before: float) -> float:
        if not self._fields[field]:
            return before
        share = (self._levels[field, level] + PRIOR_PAIRS * before) / (self._fields[field] + PRIOR_PAIRS)
        return max(share, _SPREAD_MIN)


def _sharing(prepared: Iterable[Prepared], key: Callable[[Prepared], Hashable]) -> Iterator[tuple[Prepared, Prepared]]:
    """Each record with the one before it that has the same key, so that nobody counts for more than his records."""
    last: dict[Hashable, Prepared] = {}
    for one in prepared:
        shared = key(one)
        if shared:
            if shared in last:
                yield last[shared], one
            last[shared] = one


def _apart(prepared: Sequence[Prepared]) -> Iterator[tuple[Prepared, Prepared]]:
    """Pairs as if taken at random, the same every time: records that came one after the other may be of one family."""
    count = len(prepared)
    for number in range(min(RANDOM_PAIRS_MAX, 4 * count)):
        left = prepared[number % count]
        right = prepared[(number * _FAR_PRIME + number // count + 1) % count]
        if left is not right and not (left.pesel and left.pesel == right.pesel):
            yield left, right


def _described(prepared: Prepared) -> Hashable:
    home = prepared.homes[0] if prepared.homes else None
    if not (home and home.numbers and prepared.family and prepared.given and len(prepared.birth_date) == 8):
        return None
    return prepared.family, prepared.given[0], prepared.birth_date, home.city, home.street, home.numbers[0]


def _shares(
    met: Sequence[str], before: Mapping[str, float], rare: float, people: int
) -> tuple[dict[str, float], float]:
    """The share of each name that was met often, and of one that was not."""
    if not met:
        return dict(before), rare
    counted = Counter(met)
    del counted[""]
    total = counted.total()
    often = {name: count / total for name, count in counted.items() if count >= NAME_RECORDS_MIN}
    seldom = [count for count in counted.values() if count < NAME_RECORDS_MIN]
    blend = total / (total + NAMES_PRIOR)
    shares = {
        name: blend * often.get(name, 0.0) + (1 - blend) * before.get(name, rare)
        for name in often.keys() | before.keys()
    }
    met_rare = sum(seldom) / len(seldom) / total if seldom else rare
    return shares, max(blend * met_rare + (1 - blend) * rare, 1 / max(2, people))
