"""What FHIRPath works on: the nodes of a resource and computed values, their truth, equality and order.

http://hl7.org/fhirpath/N1/, sections 4 to 6, as far as :mod:`obieg.wire.fhirpath` needs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from obieg.wire.fhir_elements import PRIMITIVES, RESOURCE, Element, elements, is_resource

BOOLEAN, STRING, INTEGER, DECIMAL = "Boolean", "String", "Integer", "Decimal"  # of FHIRPath itself
_DATES = frozenset({"date", "dateTime", "instant"})
_QUANTITIES = frozenset({"Quantity", "Age", "Count", "Distance", "Duration"})


class Node(NamedTuple):
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
            nodes = present(self.root, elements_of(self.root).get("contained", ()))
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


def present(node: Node, wanted: Iterable[Element]) -> Iterator[Node]:
    """Those of the elements that are there; what is of the wrong form is left out."""
    value = node.value if isinstance(node.value, dict) else node.beside
    if not isinstance(value, dict):
        return
    for element in wanted:
        name, kind = element.name, element.kind
        content = value.get(name)
        beside = value.get(f"_{name}") if kind in PRIMITIVES else None
        if content is None and beside is None:
            continue
        if not element.many:
            content, beside = [content], [beside]
        for index in range(max(_length(content), _length(beside))):
            item, more = _at(content, index), _at(beside, index)
            if kind == RESOURCE:
                inner = item.get("resourceType") if isinstance(item, dict) else None
                if isinstance(inner, str) and is_resource(inner):
                    yield Node(item, inner)
            elif kind in PRIMITIVES:
                if isinstance(item, str | int | Decimal) or isinstance(more, dict):
                    yield Node(None if isinstance(item, dict | list) else item, kind, more)
            elif isinstance(item, dict):
                yield Node(item, kind)


def _length(content: Any) -> int:
    return len(content) if isinstance(content, list) else 0


def _at(content: Any, index: int) -> Any:
    return content[index] if index < _length(content) else None


def elements_of(node: Node) -> Mapping[str, tuple[Element, ...]]:
    """Its elements by the name of FHIRPath, which knows no choices."""
    if isinstance(node.value, dict):
        return _named(node.kind)
    return _named("Element") if node.beside else {}


def children(node: Node) -> Iterator[Node]:
    """All that stands directly in it."""
    for wanted in elements_of(node).values():
        yield from present(node, wanted)


def descendants(node: Node) -> Iterator[Node]:
    """All that stands in it, at any depth."""
    for child in children(node):
        yield child
        yield from descendants(child)


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
