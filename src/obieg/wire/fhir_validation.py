"""Whether a resource is valid FHIR R4 (http://hl7.org/fhir/R4/validation.html): structure, codes, references, rules.

The structure is checked by :mod:`obieg.wire.fhir_elements`; what is added here needs ``codes/fhir_rules.toml``, which
is read when the first resource is validated. Not checked: profiles, value sets that cannot be listed (media types,
units, currencies), and whether what a reference names exists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from obieg.codes.load import toml
from obieg.wire import fhir_narrative
from obieg.wire.fhir_elements import (
    FAULTS_MAX,
    RESOURCE,
    Element,
    Fault,
    check,
    elements,
    is_domain_resource,
    is_resource,
)
from obieg.wire.fhirpath import compiled
from obieg.wire.fhirpath_values import Node, Scope, Undecided

# A literal reference to a resource of a RESTful server (http://hl7.org/fhir/R4/references.html#literal).
_LITERAL = re.compile(r"(?:https?://[^?#]+/)?([A-Z][A-Za-z]+)/[A-Za-z0-9.-]{1,64}(?:/_history/[A-Za-z0-9.-]{1,64})?\Z")

_LISTED_MAX = 12  # codes of a value set that are named where another stands


class _Rule(NamedTuple):
    key: str
    said: str
    holds: Callable[[Node, Scope], bool]


class _ValueSet(NamedTuple):
    name: str
    codes: frozenset[str]  # of all systems
    pairs: frozenset[tuple[str, str]]  # system and code


class _Demands(NamedTuple):
    """What is asked of the values of one element."""

    rules: tuple[_Rule, ...]
    value_set: _ValueSet | None
    targets: frozenset[str]
    narrative: bool


def validate(resource: Any) -> list[Fault]:
    """Everything that is wrong with it, in the order of its elements; structure first."""
    faults = check(resource)
    return [*faults, *violations(resource)][:FAULTS_MAX]


def violations(resource: Any) -> list[Fault]:
    """What is wrong with it besides its structure: codes, references, rules."""
    faults: list[Fault] = []
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if isinstance(kind, str) and is_resource(kind):
        _Walk(faults).resource(Scope(Node(resource, kind)), kind)
    return faults[:FAULTS_MAX]


class _Walk:
    """Through one resource and all that is in it."""

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults

    def resource(self, scope: Scope, path: str) -> None:
        node = scope.resource
        if is_domain_resource(node.kind):
            self._obey(_rules("DomainResource"), node, scope, path)
        self._obey(_rules(node.kind), node, scope, path)
        self._object(node.value, node.kind, scope, path)

    def _obey(self, rules: tuple[_Rule, ...], node: Node, scope: Scope, path: str) -> None:
        for rule in rules:
            try:
                holds = rule.holds(node, scope)
            except Undecided:
                continue
            if not holds:
                self._faults.append(Fault("invariant", path, f"{rule.key}: {rule.said}"))

    def _object(self, value: Mapping[str, Any], kind: str, scope: Scope, path: str) -> None:
        if len(self._faults) > FAULTS_MAX:
            return
        if len(value) == 1 and "id" in value and not is_resource(kind):
            self._faults.append(Fault("invariant", path, "ele-1: an element has a value or elements besides its id"))
        asked = _asked(kind)
        for key, content in value.items():
            if key not in asked:
                continue
            element, demands = asked[key]
            where = f"{path}.{element.location}"
            if not element.many:
                self._item(content, element, demands, scope, where)
            elif isinstance(content, list):
                for index, item in enumerate(content):
                    self._item(item, element, demands, scope, f"{where}[{index}]")

    def _item(self, item: Any, element: Element, demands: _Demands | None, scope: Scope, path: str) -> None:
        if element.kind == RESOURCE:
            inner = item.get("resourceType") if isinstance(item, dict) else None
            if isinstance(inner, str) and is_resource(inner):
                node = Node(item, inner)
                # What is contained belongs to its container; what a Bundle or Parameters holds stands for itself.
                self.resource(Scope(node, scope if element.name == "contained" else None), path)
            return
        if isinstance(item, list) or item is None or isinstance(item, dict) is element.primitive:
            return
        if demands is not None:
            self._obey(demands.rules, Node(item, element.kind), scope, path)
            if demands.narrative and (said := fhir_narrative.fault(str(item))):
                self._faults.append(Fault("invariant", path, said))
            if demands.value_set is not None:
                self._faults.extend(_foreign_codes(item, element.kind, demands.value_set, path))
            if demands.targets:
                self._faults.extend(_wrong_target(item, demands.targets, scope, path))
        if isinstance(item, dict):
            self._object(item, element.kind, scope, path)


# codes -----------------------------------------------------------------------------------------------------------


def _foreign_codes(item: Any, kind: str, value_set: _ValueSet, path: str) -> Iterator[Fault]:
    """Of a CodeableConcept one coding must be of the value set; a text alone says that there is no code."""
    if isinstance(item, str):
        if item not in value_set.codes:
            listed = f" ({', '.join(sorted(value_set.codes))})" if len(value_set.codes) <= _LISTED_MAX else ""
            yield Fault("binding", path, f"{item[:80]!r} is no code of the value set {value_set.name}{listed}")
        return
    codings = item.get("coding", []) if kind == "CodeableConcept" else [item]
    codings = [c for c in codings if isinstance(c, dict)] if isinstance(codings, list) else []
    if any(_is_of(coding, value_set) for coding in codings):
        return
    if codings and any("code" in coding for coding in codings):
        said = ", ".join(f"{str(c.get('system', ''))[:80]}|{str(c.get('code', ''))[:80]}" for c in codings[:5])
        where = path if kind != "CodeableConcept" else f"{path}.coding"
        yield Fault("binding", where, f"{said} is no code of the value set {value_set.name}")


def _is_of(coding: Mapping[str, Any], value_set: _ValueSet) -> bool:
    system, code = coding.get("system"), coding.get("code")
    return isinstance(system, str) and isinstance(code, str) and (system, code) in value_set.pairs


# references ------------------------------------------------------------------------------------------------------


def _wrong_target(item: Mapping[str, Any], targets: frozenset[str], scope: Scope, path: str) -> Iterator[Fault]:
    text = item.get("reference", "")
    named = _named_type(text, scope) if isinstance(text, str) else ""
    for kind in dict.fromkeys((named, item.get("type", ""))):
        if isinstance(kind, str) and is_resource(kind) and kind not in targets:
            said = f"it names a {kind}; what may stand there is {', '.join(sorted(targets))}"
            yield Fault("target", path, said)


def _named_type(text: str, scope: Scope) -> str:
    if text.startswith("#"):
        found = scope.contained.get(text[1:])
        return found.kind if found is not None else ""
    match = _LITERAL.match(text)
    return match[1] if match else ""


# tables ----------------------------------------------------------------------------------------------------------


@cache
def _rules(path: str) -> tuple[_Rule, ...]:
    table = toml("fhir_rules.toml")["invariants"].get(path, {})
    return tuple(_Rule(key, said, compiled(expression)) for key, (said, expression) in table.items())


@cache
def _asked(kind: str) -> Mapping[str, tuple[Element, _Demands | None]]:
    """By the keys of a JSON object of this type: what has to be looked at, and what is asked of it itself."""
    found: dict[str, tuple[Element, _Demands | None]] = {}
    for name, element in elements(kind).items():
        demands = _demands(kind, element)
        if demands is not None or not element.primitive:
            found[name] = (element, demands)
        if element.primitive:
            found[f"_{name}"] = (_beside(element), None)
    return found


def _beside(element: Element) -> Element:
    """What stands beside a primitive value: its id and extensions."""
    return replace(element, kind="Element", primitive=False)


def _demands(owner: str, element: Element) -> _Demands | None:
    """None: nothing."""
    table = toml("fhir_rules.toml")
    paths = dict.fromkeys((f"{owner}.{element.choice}", f"{owner}.{element.name}", element.kind))
    bound_to = table["bindings"].get(f"{owner}.{element.choice}", "")
    targets = table["targets"].get(f"{owner}.{element.choice}", "") if element.kind == "Reference" else ""
    coded = element.kind in _CODED
    demands = _Demands(
        rules=tuple(rule for path in paths for rule in _rules(path)),
        value_set=_value_set(bound_to) if coded and bound_to in table["value_sets"] else None,
        targets=frozenset(targets.split()),
        narrative=element.kind == "xhtml",
    )
    return demands if any(demands) else None


_CODED = frozenset({"code", "Coding", "CodeableConcept", "string", "uri"})


@cache
def _value_set(name: str) -> _ValueSet:
    pairs = set()
    for line in toml("fhir_rules.toml")["value_sets"][name]:
        system, *codes = line.split(" ")
        pairs |= {(system, code) for code in codes}
    return _ValueSet(name, frozenset(code for _, code in pairs), frozenset(pairs))
