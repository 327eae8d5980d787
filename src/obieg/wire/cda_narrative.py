"""The narrative block of a CDA section as XHTML that is safe to show (HL7 CDA R2, 4.3.5; FHIR R4, narrative.html).

Only elements of a short list come out, without any attribute but column and row spans and the addresses of links to the
web. What a browser would run, load or obey (script, style, other namespaces' markup) goes; all other text stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from obieg.wire.xml import attribute, text

# Elements of the narrative block and what they become; "" keeps their content only.
_ELEMENTS = {
    "content": "span",
    "sub": "sub",
    "sup": "sup",
    "br": "br",
    "footnote": "span",
    "paragraph": "p",
    "item": "li",
    "table": "table",
    "thead": "thead",
    "tbody": "tbody",
    "tfoot": "tfoot",
    "tr": "tr",
    "th": "th",
    "td": "td",
    "caption": "b",
}
_BLOCKS = frozenset({"paragraph", "item", "tr", "th", "td", "list", "table", "caption", "br", "text", "title"})
# Never shown, whatever the namespace: their content is no text.
_DROPPED = frozenset({"script", "style", "iframe", "object", "embed", "applet", "head", "template", "noscript"})
_SPACE = re.compile(r"[ \t\r\n]+")
_CELLS = frozenset({"td", "th"})
_SPANS = ("colspan", "rowspan")
_LINKS = ("http://", "https://")


def write_xhtml(block: Any) -> str:
    """The content of a section's ``text`` as XHTML without a root element; "" if it says nothing."""
    if block is None or not flat_text(block):
        return ""
    return "".join(_content(block)).strip()


def flat_text(element: Any) -> str:
    """What a reader would read, on one line."""
    return " ".join("".join(_flat(element)).split())


def _flat(element: Any) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        name = _local(child)
        if name and name not in _DROPPED:
            around = " " if name in _BLOCKS else ""
            yield around
            yield from _flat(child)
            yield around
        yield child.tail or ""


def _content(element: Any) -> Iterator[str]:
    yield _words(element.text)
    for child in element:
        name = _local(child)
        if name and name not in _DROPPED:
            yield from _element(child, name)
        yield _words(child.tail)


def _element(element: Any, name: str) -> Iterator[str]:
    if name == "br":
        yield "<br/>"
        return
    if name == "list":
        yield from _list(element)
        return
    if name == "linkHtml":
        address = element.get("href", "").strip()
        link = address.lower().startswith(_LINKS)
        yield f'<a href="{attribute(address)}">' if link else ""
        yield from _content(element)
        yield "</a>" if link else ""
        return
    parent = _local(element.getparent())
    written = "caption" if name == "caption" and parent == "table" else _ELEMENTS.get(name, "")
    if not written:
        yield from _content(element)
        return
    content = "".join(_content(element))
    if not content and written not in _CELLS:
        return  # says nothing, and HTML reads an empty element as an open one
    spans = "".join(f' {a}="{element.get(a)}"' for a in _SPANS if _is_span(element.get(a, "")))
    yield f"<{written}{spans}>{content or ' '}</{written}>"


def _list(element: Any) -> Iterator[str]:
    """A list's caption stands before it: XHTML has none inside."""
    written = "ol" if element.get("listType") == "ordered" else "ul"
    yield _words(element.text).strip()
    inner = False
    for child in element:
        name = _local(child)
        if name == "item" and not inner:
            yield f"<{written}>"
        if name != "item" and inner:
            yield f"</{written}>"
        if name and name not in _DROPPED:
            inner = name == "item"
            yield from ("<p>", *_element(child, name), "</p>") if name == "caption" else _element(child, name)
        yield _words(child.tail).strip()
    if inner:
        yield f"</{written}>"


def _words(characters: str | None) -> str:
    """Character data; runs of white space are one space, as they are when shown."""
    return text(_SPACE.sub(" ", characters)) if characters else ""


def _is_span(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) <= 3


def _local(element: Any) -> str:
    """The local name, in any namespace: what is dropped is dropped however it is called."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
