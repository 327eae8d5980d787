"""What the narrative of a FHIR resource may hold (http://hl7.org/fhir/R4/narrative.html, rules txt-1 and txt-2)."""

from __future__ import annotations

from obieg.codes.load import toml
from obieg.wire.xml import XmlRefused, parse_message

_TABLE = toml("fhir_narrative.toml")
_ATTRIBUTES: frozenset[str] = frozenset(_TABLE["attributes"])
_ELEMENTS: dict[str, frozenset[str]] = {name: frozenset(own) for name, own in _TABLE["elements"].items()}
_XHTML = "{http://www.w3.org/1999/xhtml}"


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
        said = said or name == "img" or bool((node.text or "").strip()) or bool((node.tail or "").strip())
    return "" if said else "txt-2: a narrative says something"
