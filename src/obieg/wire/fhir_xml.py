"""FHIR resources in XML: the structure of their JSON, in elements and attributes (http://hl7.org/fhir/R4/xml.html)."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from obieg.wire.fhir_elements import RESOURCE, Element, Exact, elements, is_resource, order
from obieg.wire.xml import DEFAULT_LIMITS, XmlLimits, XmlRefused, attribute, parse_message

NAMESPACE = "http://hl7.org/fhir"
XHTML = "http://www.w3.org/1999/xhtml"
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
_INTEGERS = frozenset({"integer", "positiveInt", "unsignedInt"})
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d{1,20})?([eE][+-]?\d{1,2})?", re.ASCII)


# reading ---------------------------------------------------------------------------------------------------------


def read(data: bytes, limits: XmlLimits = DEFAULT_LIMITS) -> dict[str, Any]:
    """The resource as its JSON would say it. Raises :class:`obieg.wire.xml.XmlRefused`.

    Elements may come in any order, as senders mix them up and nothing depends on it. Values of a wrong form stay the
    text they are; :func:`obieg.wire.fhir_elements.check` finds them.
    """
    return _resource(parse_message(data, limits))


def _resource(node: Any) -> dict[str, Any]:
    namespace, kind = _name(node)
    if namespace != NAMESPACE:
        raise XmlRefused(f"element {kind} is not in the namespace {NAMESPACE}")
    if not is_resource(kind):
        raise XmlRefused(f"resources of type {kind} are not read here")
    return {"resourceType": kind, **_object(node, kind, kind)}


def _name(node: Any) -> tuple[str, str]:
    """Namespace and local name."""
    namespace, _, local = node.tag.rpartition("}")
    return namespace[1:], local


def _object(node: Any, kind: str, path: str) -> dict[str, Any]:
    known = elements(kind)
    found: dict[str, Any] = {}
    for key, value in node.attrib.items():
        element = known.get(key)
        if element is None or not element.attribute:
            raise XmlRefused(f"{path} has no attribute {key}")
        found[key] = value
    _check_text(node, path)
    for child in node:
        namespace, name = _name(child)
        element = known.get(name)
        where = f"{path}.{name}"
        if element is None or element.attribute:
            raise XmlRefused(f"{path} has no element {name}")
        if namespace != (XHTML if element.kind == "xhtml" else NAMESPACE):
            raise XmlRefused(f"{where} is in another namespace than it must be")
        _add(found, child, element, where)
    return found


def _add(found: dict[str, Any], node: Any, element: Element, path: str) -> None:
    name = element.name
    beside: dict[str, Any] | None = None
    value: Any
    if element.kind == RESOURCE:
        _check_text(node, path)
        if len(node) != 1 or node.attrib:
            raise XmlRefused(f"{path} holds one resource")
        value = _resource(node[0])
    elif element.kind == "xhtml":
        value = etree.tostring(node, encoding="unicode", with_tail=False)
    elif element.primitive:
        text = node.attrib.pop("value", None)
        value = None if text is None else _value(text, element.kind)
        beside = (_object(node, "Element", path) or None) if len(node) or node.attrib or node.text else None
        if value is None and beside is None:
            raise XmlRefused(f"{path} has no value")
    else:
        value = _object(node, element.kind, path)
    if not element.many:
        if name in found or f"_{name}" in found:
            raise XmlRefused(f"{path} stands twice")
        if value is not None:
            found[name] = value
        if beside is not None:
            found[f"_{name}"] = beside
        return
    found.setdefault(name, []).append(value)
    if element.primitive and (beside is not None or f"_{name}" in found):
        extensions = found.setdefault(f"_{name}", [])
        extensions += [None] * (len(found[name]) - 1 - len(extensions))
        extensions.append(beside)


def _value(text: str, kind: str) -> Any:
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if kind in _INTEGERS:
        return int(text) if _INTEGER.fullmatch(text) else text
    if kind == "decimal" and _DECIMAL.fullmatch(text):
        return Exact(text) if not _INTEGER.fullmatch(text) else int(text)
    return text


def _check_text(node: Any, path: str) -> None:
    if (node.text and node.text.strip()) or any(child.tail and child.tail.strip() for child in node):
        raise XmlRefused(f"{path} has text outside of elements")


# writing ---------------------------------------------------------------------------------------------------------


def write(resource: dict[str, Any]) -> bytes:
    """UTF-8 with its declaration. Raises XmlRefused for a narrative that is no XHTML, KeyError for unknown elements."""
    out = [_DECLARATION]
    _write_resource(resource, f' xmlns="{NAMESPACE}"', out)
    return "".join(out).encode()


def _write_resource(resource: dict[str, Any], namespace: str, out: list[str]) -> None:
    kind = resource["resourceType"]
    content = {key: value for key, value in resource.items() if key != "resourceType"}
    _write_object(kind, content, kind, namespace, out)


def _write_object(tag: str, value: dict[str, Any], kind: str, attributes: str, out: list[str]) -> None:
    known, ranks = elements(kind), order(kind)
    keys = sorted(value, key=ranks.__getitem__)
    start = len(out)
    out.append("")
    for key in keys:
        if key[0] == "_":
            # A primitive without any value; with values it is written when they are.
            if key[1:] not in value:
                element = known[key[1:]]
                _write_element(element, [None] * len(value[key]) if element.many else None, value[key], out)
            continue
        element = known[key]
        if element.attribute:
            attributes += f' {key}="{attribute(value[key])}"'
            continue
        _write_element(element, value[key], value.get(f"_{key}") if element.primitive else None, out)
    if len(out) == start + 1:
        out[start] = f"<{tag}{attributes}/>"
    else:
        out[start] = f"<{tag}{attributes}>"
        out.append(f"</{tag}>")


def _write_element(element: Element, value: Any, beside: Any, out: list[str]) -> None:
    if not element.many:
        _write_one(element, value, beside, out)
        return
    for index, item in enumerate(value):
        _write_one(element, item, beside[index] if beside and index < len(beside) else None, out)


def _write_one(element: Element, value: Any, beside: dict[str, Any] | None, out: list[str]) -> None:
    name, kind = element.name, element.kind
    if kind == RESOURCE:
        out.append(f"<{name}>")
        _write_resource(value, "", out)
        out.append(f"</{name}>")
    elif kind == "xhtml":
        out.append(_narrative(value))
    elif not element.primitive:
        _write_object(name, value, kind, "", out)
    else:
        text = "" if value is None else f' value="{attribute(_text(value))}"'
        if beside is None:
            out.append(f"<{name}{text}/>")
        else:
            _write_object(name, beside, "Element", text, out)


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _narrative(div: str) -> str:
    root = parse_message(div.encode())
    if root.tag != f"{{{XHTML}}}div":
        raise XmlRefused("a narrative is a div in the namespace of XHTML")
    return str(etree.tostring(root, encoding="unicode"))
