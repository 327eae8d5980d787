"""Elements of FHIR R4 resources and datatypes, and whether a resource is built of them (http://hl7.org/fhir/R4/json.html).

A resource is a plain dict as its JSON says it: primitive values are ``str``, ``bool``, ``int`` and, for decimals,
:class:`Exact`; an extension of the primitive ``birthDate`` stands under ``_birthDate``. JSON and XML are two ways to
write that one structure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from obieg.codes.load import toml

_TABLE = toml("fhir_elements.toml")
_TYPES: dict[str, str] = _TABLE["types"]
PRIMITIVES: dict[str, str] = _TABLE["primitives"]
# All types of resources, in the order of the alphabet.
RESOURCE_TYPES = tuple(n for n in sorted(_TYPES) if _TYPES[n].startswith(("DomainResource ", "Resource ")))
_RESOURCE_TYPES = frozenset(RESOURCE_TYPES)
RESOURCE = "Resource"  # the type of an element that holds a whole resource
FAULTS_MAX = 50  # of one resource: who sends more has another kind of trouble
_INTEGERS = {"integer": (-(2**31), 2**31 - 1), "unsignedInt": (0, 2**31 - 1), "positiveInt": (1, 2**31 - 1)}
# White space is that of ASCII: a no-break space is a character as any other.
_PATTERNS = {name: re.compile(pattern, re.ASCII) for name, pattern in PRIMITIVES.items() if pattern}
_SPACE = " \t\r\n"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
# What XML 1.0 cannot carry (section 2.2), and halves of characters.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Exact(Decimal):
    """A decimal that keeps how it was written: in FHIR 1.0 and 1.00 are not the same."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Exact:  # noqa: PYI034 - no subclass of it
        """``text`` is a number as JSON writes it."""
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a type; a choice of types is several of them."""

    name: str  # as in JSON: valueString
    kind: str  # a primitive, a datatype, a path, or Resource
    attribute: bool  # in XML
    many: bool
    required: bool  # for a choice: one of its elements
    choice: str  # value[x], or the name
    location: str  # what FHIRPath calls it, which knows no choices: value
    primitive: bool  # it holds a value


class Fault(NamedTuple):
    """What is wrong with a resource, and where (``Patient.name[0].family``). Rules: unknown, required, type."""

    rule: str
    path: str
    said: str


def is_resource(kind: str) -> bool:
    """Whether resources of this type can be read and written."""
    return kind in _RESOURCE_TYPES


def is_domain_resource(kind: str) -> bool:
    """Whether they have a narrative, contained resources and extensions."""
    return _TYPES[kind].startswith("DomainResource ")


@cache
def elements(kind: str) -> Mapping[str, Element]:
    """The elements of a type by name, in the order of the standard. Raises KeyError for a type that is not in use."""
    words = _TYPES[kind].split(" ")
    found = {} if "=" in words[0] else dict(elements(words.pop(0)))
    for element in (e for word in words for e in _expanded(word)):
        found[element.name] = element
    return found


@cache
def order(kind: str) -> Mapping[str, int]:
    """Rank of each key of a JSON object of this type; ``_name`` ranks as ``name``."""
    return {prefix + name: rank for rank, name in enumerate(elements(kind)) for prefix in ("", "_")}


@cache
def _required(kind: str) -> tuple[Element, ...]:
    return tuple(element for element in elements(kind).values() if element.required)


def _expanded(word: str) -> Iterator[Element]:
    name, _, kinds = word.partition("=")
    attribute, name = name.startswith("@"), name.removeprefix("@")
    many, required = name[-1] in "*+", name[-1] in "!+"
    name = name.rstrip("*+!")
    if not name.endswith("[x]"):
        yield Element(name, kinds, attribute, many, required, name, name, kinds in PRIMITIVES)
        return
    for kind in (_TYPES["*"] if kinds == "*" else kinds).split("|"):
        base = name.removesuffix("[x]")
        own = base + kind[0].upper() + kind[1:]
        yield Element(own, kind, attribute, many, required, name, base, kind in PRIMITIVES)


# checking --------------------------------------------------------------------------------------------------------


def check(resource: Any) -> list[Fault]:
    """What keeps ``resource`` from being one: unknown or missing elements, wrong types, values of the wrong form."""
    faults: list[Fault] = []
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    _check_resource(resource, str(kind or ""), faults)
    return faults[:FAULTS_MAX]


def _check_resource(value: Any, path: str, faults: list[Fault]) -> None:
    kind = value.get("resourceType") if isinstance(value, dict) else None
    if not isinstance(kind, str) or not is_resource(kind):
        said = (
            f"resources of type {kind[:64]} are not read here" if isinstance(kind, str) else "resourceType is missing"
        )
        faults.append(Fault("unknown", path, said))
        return
    _check_object(value, kind, path, faults)


def _check_object(value: dict[str, Any], kind: str, path: str, faults: list[Fault]) -> None:
    known = elements(kind)
    there: set[str] = set()
    for key, content in value.items():
        if key == "resourceType" and is_resource(kind):
            continue
        extends = key[0:1] == "_"
        element = known.get(key[1:] if extends else key)
        where = f"{path}.{key[:64] if element is None else element.location}"
        if len(faults) > FAULTS_MAX:
            return
        if element is None or (extends and not element.primitive):
            faults.append(Fault("unknown", f"{path}.{key[:64]}", f"{kind} has no element of this name"))
            continue
        if element.choice != element.name and element.choice in there and element.name not in there:
            faults.append(Fault("type", where, f"{element.choice} is given in two types"))
        there.add(element.name)
        there.add(element.choice)
        if element.many:
            _check_list(content, element, where, faults, extends=extends, beside=f"_{key}" in value)
        elif extends:
            _check_extension(content, where, faults)
        else:
            _check_value(content, element, where, faults)
    for element in _required(kind):
        if element.choice not in there and element.name not in there:
            faults.append(Fault("required", f"{path}.{element.location}", f"{kind} needs this element"))
            there.add(element.choice)


def _check_list(content: Any, element: Element, path: str, faults: list[Fault], *, extends: bool, beside: bool) -> None:
    if not isinstance(content, list) or not content:
        faults.append(Fault("type", path, "a JSON array of at least one value is expected"))
        return
    for index, item in enumerate(content):
        where = f"{path}[{index}]"
        if item is None and element.primitive and (extends or beside):
            continue
        if extends:
            _check_extension(item, where, faults)
        else:
            _check_value(item, element, where, faults)


def _check_extension(content: Any, path: str, faults: list[Fault]) -> None:
    if isinstance(content, dict):
        _check_object(content, "Element", path, faults)
    else:
        faults.append(Fault("type", path, "a JSON object with id or extension is expected"))


def _check_value(value: Any, element: Element, path: str, faults: list[Fault]) -> None:
    kind = element.kind
    if kind == RESOURCE:
        _check_resource(value, path, faults)
    elif not element.primitive:
        if isinstance(value, dict) and value:
            _check_object(value, kind, path, faults)
        else:
            faults.append(Fault("type", path, f"a JSON object of type {kind} is expected, with at least one element"))
    elif said := value_fault(value, kind):
        faults.append(Fault("type", path, said))


def is_text(value: str) -> bool:
    """Whether all of its characters may stand in a FHIR text."""
    return value.isprintable() or not _ILLEGAL.search(value)


def _is_base64(value: bytes) -> bool:
    """Groups of four letters, the last one padded; white space may stand anywhere."""
    beside = value.translate(None, _BASE64)
    padding = beside.translate(None, b" \t\r\n")
    letters = len(value) - len(beside)
    if not letters or (letters + len(padding)) % 4 or padding not in (b"", b"=", b"=="):
        return False
    return not padding or not value[value.index(b"=") :].translate(None, b"= \t\r\n")


def value_fault(value: Any, kind: str) -> str:
    """Why ``value`` is none of the primitive type ``kind``, or an empty text."""
    if kind == "boolean":
        return "" if isinstance(value, bool) else "true or false is expected"
    if kind in _INTEGERS:
        low, high = _INTEGERS[kind]
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if fits else f"a whole number from {low} to {high} is expected"
    if kind == "decimal":
        fits = isinstance(value, int | Decimal) and not isinstance(value, bool)
        return "" if fits else "a number is expected"
    if not isinstance(value, str):
        return f"a JSON string of type {kind} is expected"
    if kind == "base64Binary":  # documents: looked at as bytes, several times faster than as a text by its pattern
        return "" if value.isascii() and _is_base64(value.encode("ascii")) else f"{value[:80]!r} is no {kind}"
    if not is_text(value):
        return "the text has a character that no FHIR text may have"
    pattern = _PATTERNS.get(kind)
    if not value.strip(_SPACE) or (pattern is not None and not pattern.fullmatch(value)):
        return f"{value[:80]!r} is no {kind}"
    return ""
