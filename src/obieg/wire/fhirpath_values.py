"""What FHIRPath works on: the nodes of a resource and computed values, their truth, equality and order.

http://hl7.org/fhirpath/N1/, sections 4 to 6, as far as :mod:`obieg.wire.fhirpath` needs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from itertools import zip_longest
from typing import Any

import msgspec

from obieg.wire.fhir_elements import RESOURCE, Element, elements, is_resource

BOOLEAN, STRING, INTEGER, DECIMAL = "Boolean", "String", "Integer", "Decimal"  # of FHIRPath itself
_DATES = frozenset({"date", "dateTime", "instant"})
_PRIMITIVE = (str, int, Decimal)
_QUANTITIES = frozenset({"Quantity", "Age", "Count", "Distance", "Duration"})


class Node(msgspec.Struct, frozen=True):
    """A value in a resource, or one that was computed."""

    value: Any  # None: a primitive that has only extensions
    kind: str  # FHIR type, group, or type of FHIRPath
    beside: Mapping[str, Any] | None = None  # id and extensions of a primitive


class Scope:
    """What surrounds an expression: %resource, %rootResource, %context, and what was worked out for the resource."""

    __slots__ = ("context", "kept", "kept_of_root", "resource", "root")

    def __init__(self, resource: Node, container: Scope | None = None) -> None:
        """``container`` is the scope of the resource that contains this one."""
        self.resource = self.context = resource
        self.root: Node = resource if container is None else container.root
        self.kept: dict[Any, Any] = {}
        self.kept_of_root: dict[Any, Any] = self.kept if container is None else container.kept_of_root

    @property
    def contained(self) -> Mapping[str, Node]:
        """The contained resources by their id."""
        found: dict[str, Node] | None = self.kept_of_root.get("contained")
        if found is None:
            nodes: Nodes = []
            collect(self.root, "contained", nodes)
            found = {n.value["id"]: n for n in nodes if isinstance(n.value.get("id"), str)}
            self.kept_of_root["contained"] = found
        return found


class Undecided(Exception):  # noqa: N818
    """Nobody can tell from the resource alone."""


Nodes = list[Node]


# the tree of a resource ------------------------------------------------------------------------------------------


@cache
def _named(kind: str) -> Mapping[str, tuple[Element, ...]]:
    """Elements by the name of FHIRPath, which knows no choices."""
    found: dict[str, tuple[Element, ...]] = {}
    for element in elements(kind).values():
        found[element.location] = (*found.get(element.location, ()), element)
    return found


def collect(node: Node, name: str, found: Nodes) -> None:
    """Adds the elements of this name; a choice of types has one name. What is of the wrong form is left out."""
    value, kind = (node.value, node.kind) if isinstance(node.value, dict) else (node.beside, "Element")
    if not isinstance(value, dict):
        return
    wanted: Sequence[Element] = _named(kind).get(name, ())
    if len(wanted) > 1:
        wanted = [e for e in wanted if e.name in value or "_" + e.name in value]
    for element in wanted:
        _collect(value, element, found)


def _collect(value: dict[str, Any], element: Element, found: Nodes) -> None:
    kind = element.kind
    content = value.get(element.name)
    if element.primitive:
        beside = value.get("_" + element.name)
        if content is None and beside is None:
            return
        if element.many:
            pairs: Iterable[tuple[Any, Any]] = zip_longest(_listed(content), _listed(beside))
        else:
            pairs = ((content, beside),)
        for item, more in pairs:
            if isinstance(item, _PRIMITIVE):
                found.append(Node(item, kind, more))
            elif isinstance(more, dict):
                found.append(Node(None, kind, more))
    elif content is not None:
        for item in _listed(content) if element.many else (content,):
            if not isinstance(item, dict):
                continue
            if kind != RESOURCE:
                found.append(Node(item, kind))
            elif isinstance(inner := item.get("resourceType"), str) and is_resource(inner):
                found.append(Node(item, inner))


def _listed(content: Any) -> Sequence[Any]:
    return content if isinstance(content, list) else ()


def children(node: Node) -> Nodes:
    """All that stands directly in it."""
    value, kind = (node.value, node.kind) if isinstance(node.value, dict) else (node.beside, "Element")
    found: Nodes = []
    if isinstance(value, dict):
        known = elements(kind)
        for key in value:
            name = key.removeprefix("_")
            if name in known and (name == key or name not in value):  # a value and its extensions are one node
                _collect(value, known[name], found)
    return found


def descendants(node: Node) -> Nodes:
    """All that stands in it, at any depth; what stands higher comes first."""
    found = children(node)
    for child in found:  # which grows meanwhile
        if child.beside or isinstance(child.value, dict):
            found.extend(children(child))
    return found


# values ----------------------------------------------------------------------------------------------------------


def truth_of(nodes: Nodes) -> bool | None:
    """None for nothing; one value that is no boolean is true (N1, 4.5)."""
    if not nodes:
        return None
    if len(nodes) > 1:
        raise Undecided
    return nodes[0].value if isinstance(nodes[0].value, bool) else True


def as_boolean(value: bool | None) -> Nodes:  # noqa: FBT001
    """Nothing for None."""
    return NOTHING if value is None else TRUE if value else FALSE


NOTHING: Nodes = []
TRUE, FALSE = [Node(True, BOOLEAN)], [Node(False, BOOLEAN)]


def key_of(node: Node) -> Any:
    """Equal for equal values, and hashable."""
    return _hashable(node.value) if node.value is not None else (None, _hashable(node.beside))


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return frozenset((key, _hashable(content)) for key, content in value.items())
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return (True, value) if isinstance(value, bool) else value  # True is not 1


def equal(left: Nodes, right: Nodes) -> bool | None:
    """Whether the one is the other, in order; None where one of them is nothing."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    for one, other in zip(left, right, strict=True):
        if one.kind in _DATES and other.kind in _DATES:
            if compared(one, other) != 0:
                return False
        elif key_of(one) != key_of(other):
            return False
    return True


def compared(left: Node, right: Node) -> int:
    """Below, at or above 0."""
    one, other = left.value, right.value
    if left.kind in _QUANTITIES and right.kind in _QUANTITIES:
        units = [[side.value.get(name) for name in ("system", "code", "unit")] for side in (left, right)]
        if units[0] != units[1] or any("comparator" in side.value for side in (left, right)):
            raise Undecided
        one, other = one.get("value"), other.get("value")
    elif left.kind in _DATES and right.kind in _DATES:
        one, other = _comparable(str(one), str(other))
    numbers = isinstance(one, int | Decimal) and isinstance(other, int | Decimal)
    if not numbers and not (isinstance(one, str) and isinstance(other, str)):
        raise Undecided
    return int(one > other) - int(one < other)


def _comparable(one: str, other: str) -> tuple[str, str]:
    """Two dates that compare as texts: cut to what both say, in one time zone."""
    texts = []
    for text in (one, other):
        if "T" not in text:
            texts.append(text)
            continue
        try:
            texts.append(datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="microseconds"))
        except ValueError:
            raise Undecided from None
    if "T" not in one + other or len(texts[0]) == len(texts[1]):
        short = min(map(len, texts))
        if len(texts[0]) != len(texts[1]) and texts[0][:short] == texts[1][:short]:
            raise Undecided
        return texts[0][:short], texts[1][:short]
    raise Undecided  # which day a moment is on depends on a time zone that nobody has named
