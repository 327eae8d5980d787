"""Reads an element by a closed rule that is data: what the rule does not name is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class SecurityRefused(Exception):  # noqa: N818
    """What should prove the caller proves nothing. The message is for audit and log and repeats nothing received."""


class Node(NamedTuple):
    """An element as read: nothing of it is left out."""

    rule: str
    text: str
    attributes: dict[str, str]  # by their names in the rule
    children: tuple[Node, ...]

    def one(self, rule: str) -> Node:
        """The child that the rule has exactly once."""
        for child in self.children:
            if child.rule == rule:
                return child
        raise SecurityRefused(f"{rule} is missing")

    def maybe(self, rule: str) -> Node | None:
        """The child that may be missing."""
        for child in self.children:
            if child.rule == rule:
                return child
        return None

    def all(self, rule: str) -> list[Node]:
        """The children of one rule."""
        return [c for c in self.children if c.rule == rule]


_Check = Callable[[str], object]


class _Rule:
    __slots__ = ("attributes", "children", "least", "name", "occurs", "ordered", "required", "tag", "text")

    def __init__(self, name: str, tag: str, text: _Check | None) -> None:
        self.name = name
        self.tag = tag
        self.text = text
        self.attributes: dict[str, tuple[str, _Check]] = {}  # by tag: name in the rule, check
        self.required: tuple[str, ...] = ()  # names in the rule
        self.ordered = True
        self.least = 0  # of children in any order
        self.children: list[tuple[_Rule, int, int]] = []  # in order, with least and most
        self.occurs: dict[str, tuple[_Rule, int, int]] = {}  # the same by tag, where any order will do


_MANY = 1_000
_OCCURS = {"?": (0, 1), "*": (0, _MANY), "+": (1, _MANY)}


class Rules:
    """The rules of a table; see ``codes/saml.toml`` for its form."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._namespaces: Mapping[str, str] = table["namespaces"]
        self._types: dict[str, _Check] = {n: re.compile(p, re.ASCII).fullmatch for n, p in table["type"].items()}
        rows: Mapping[str, Mapping[str, Any]] = table["rule"]
        self._rules = {
            name: _Rule(name, self.tag(row["element"]), self._types[row["text"]] if "text" in row else None)
            for name, row in rows.items()
        }
        for name, row in rows.items():
            self._fill(self._rules[name], row)

    def _fill(self, rule: _Rule, row: Mapping[str, Any]) -> None:
        for name, kind in row.get("attributes", {}).items():
            check, optional = self._attribute(kind)
            rule.attributes[self.tag(name) if ":" in name else name] = name, check
            if not optional:
                rule.required += (name,)
        rule.ordered = "any" not in row
        rule.least = row.get("least", 0)
        rule.children = [self._child(reference) for reference in row.get("any" if "any" in row else "children", ())]
        rule.occurs = {target.tag: (target, least, most) for target, least, most in rule.children}

    def _attribute(self, kind: str | Sequence[str]) -> tuple[_Check, bool]:
        if isinstance(kind, str):
            return self._types[kind.removesuffix("?")], kind.endswith("?")
        return (frozenset(kind) - {"?"}).__contains__, "?" in kind

    def _child(self, reference: str) -> tuple[_Rule, int, int]:
        least, most = _OCCURS.get(reference[-1], (1, 1))
        return self._rules[reference.rstrip("?*+")], least, most

    def tag(self, name: str) -> str:
        """``prefix:name`` of the table as lxml names it."""
        prefix, _, local = name.partition(":")
        return f"{{{self._namespaces[prefix]}}}{local}"

    def read(self, element: Any, rule: str) -> Node:
        """``element`` by ``rule``. Raises :class:`SecurityRefused` for anything that the rule does not name."""
        found = self._rules[rule]
        if element.tag != found.tag:
            raise SecurityRefused(f"{rule}: another element stands there")
        return _read(element, found)

    def attributes(self, element: Any, rule: str) -> dict[str, str]:
        """The attributes alone, by ``rule``."""
        return _attributes(element, self._rules[rule])


def _attributes(element: Any, rule: _Rule) -> dict[str, str]:
    found: dict[str, str] = {}
    known = rule.attributes
    for tag, value in element.items():
        row = known.get(tag)
        if row is None:
            raise SecurityRefused(f"{rule.name}: an attribute that it does not have")
        name, check = row
        if not check(value):
            raise SecurityRefused(f"{rule.name}: {name} has a value that it cannot have")
        found[name] = value
    for name in rule.required:
        if name not in found:
            raise SecurityRefused(f"{rule.name}: {name} is missing")
    return found


def _read(element: Any, rule: _Rule) -> Node:
    attributes = _attributes(element, rule)
    text = element.text
    if not rule.children:
        if len(element):
            raise SecurityRefused(f"{rule.name}: an element that it does not have, or one too many")
        children: tuple[Node, ...] = ()
    else:
        children = _in_order(element, rule) if rule.ordered else _in_any_order(element, rule)
    if rule.text is not None and not children:
        text = text or ""
        if not rule.text(text):
            raise SecurityRefused(f"{rule.name}: text that it cannot have")
        return Node(rule.name, text, attributes, ())
    if text and not text.isspace():
        raise SecurityRefused(f"{rule.name}: text where none belongs")
    return Node(rule.name, "", attributes, children)


def _in_order(element: Any, rule: _Rule) -> tuple[Node, ...]:
    read: list[Node] = []
    rules = rule.children
    last = len(rules)
    position = count = 0
    target, least, most = rules[0]
    for child in element:
        tail = child.tail
        if tail and not tail.isspace():
            raise SecurityRefused(f"{rule.name}: text where none belongs")
        tag = child.tag
        while tag != target.tag or count == most:
            if count < least:
                raise SecurityRefused(f"{rule.name}: {target.name} is missing or out of its place")
            position += 1
            if position == last:
                raise SecurityRefused(f"{rule.name}: an element that it does not have, or one too many")
            target, least, most = rules[position]
            count = 0
        count += 1
        read.append(_read(child, target))
    while True:
        if count < least:
            raise SecurityRefused(f"{rule.name}: {target.name} is missing or out of its place")
        position += 1
        if position == last:
            return tuple(read)
        target, least, most = rules[position]
        count = 0


def _in_any_order(element: Any, rule: _Rule) -> tuple[Node, ...]:
    read: list[Node] = []
    counts: dict[str, int] = {}
    for child in element:
        tail = child.tail
        if tail and not tail.isspace():
            raise SecurityRefused(f"{rule.name}: text where none belongs")
        tag = child.tag
        row = rule.occurs.get(tag)
        if row is None:
            raise SecurityRefused(f"{rule.name}: an element that it does not have")
        target, _, most = row
        counts[tag] = counts.get(tag, 0) + 1
        if counts[tag] > most:
            raise SecurityRefused(f"{rule.name}: {target.name} is given too often")
        read.append(_read(child, target))
    if len(read) < rule.least:
        raise SecurityRefused(f"{rule.name}: it is empty")
    for target, least, _ in rule.children:
        if counts.get(target.tag, 0) < least:
            raise SecurityRefused(f"{rule.name}: {target.name} is missing")
    return tuple(read)
