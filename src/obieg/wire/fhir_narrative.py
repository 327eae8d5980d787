"""What the narrative of a FHIR resource may hold (http://hl7.org/fhir/R4/narrative.html, rules txt-1 and txt-2)."""

from __future__ import annotations

import re

from obieg.codes.load import toml
from obieg.wire.xml import XmlRefused, parse_message

_TABLE = toml("fhir_narrative.toml")
_ATTRIBUTES: frozenset[str] = frozenset(_TABLE["attributes"])
_ELEMENTS: dict[str, frozenset[str]] = {name: frozenset(own) for name, own in _TABLE["elements"].items()}
# Where a link may lead, and what a style may do, without anything that acts: no scripts, nothing loaded by a style.
_SCHEMES = ("http", "https", "mailto", "tel", "cid", "urn")
_LINKS = frozenset({"href", "src", "cite", "longdesc", "usemap", "background"})
_SCHEME = re.compile(r"[\s\x00-\x20]*([A-Za-z][A-Za-z0-9+.\-\s]*):")
_ACTING_STYLE = re.compile(r"url\s*\(|expression|@import|\\|/\*|behavior|-moz-binding|javascript", re.IGNORECASE)
_XHTML = "{http://www.w3.org/1999/xhtml}"


def _acts(attribute: str, value: str) -> bool:
    if attribute == "style":
        return _ACTING_STYLE.search(value) is not None
    if attribute not in _LINKS:
        return False
    scheme = _SCHEME.match(value)
    named = "".join(scheme[1].split()).lower() if scheme is not None else ""
    return bool(named) and named not in _SCHEMES and not (attribute == "src" and value.startswith("data:image/"))


def fault(div: str) -> str:
    """The rule that ``div`` breaks, and how; or an empty text."""
    try:
        root = parse_message(div.encode())
    except XmlRefused as error:
        return f"txt-1: {error}"
    if root.tag != f"{_XHTML}div":
        return "txt-1: a narrative is a div in the namespace of XHTML"
    said = False
    for node in root.iter():
        if not isinstance(node.tag, str):
            continue  # a comment
        name = node.tag.removeprefix(_XHTML)
        if name not in _ELEMENTS:
            return f"txt-1: a narrative has no element {name[:64]}"
        for attribute in node.attrib:
            if attribute not in _ATTRIBUTES and attribute not in _ELEMENTS[name]:
                return f"txt-1: {name} has no attribute {attribute[:64]} in a narrative"
            if _acts(attribute, node.get(attribute)):
                return f"txt-1: {attribute} of {name} does more than a narrative may: {node.get(attribute)[:64]}"
        said = said or name == "img" or bool((node.text or "").strip()) or bool((node.tail or "").strip())
    return "" if said else "txt-2: a narrative says something"
