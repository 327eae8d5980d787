"""The one place that makes an XML parser.

What comes from outside is parsed without document types, entities, XInclude or network, within limits on size, depth
and attributes. Comments are dropped while parsing, so that no text is ever cut in two by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from lxml import etree

XINCLUDE = b"http://www.w3.org/2001/XInclude"
# libxml2 itself refuses more than this without "huge" mode, which is never switched on here.
LIBXML2_DEPTH_MAX = 256


class XmlRefused(Exception):  # noqa: N818
    """The bytes are not XML that this node reads; the message says why, for the peer."""


@dataclass(frozen=True, slots=True)
class XmlLimits:
    """Limits of one XML document."""

    bytes_max: int = 32 * 1024 * 1024
    depth_max: int = 64
    attributes_max: int = 100  # of one element
    # Of the whole, end tags too: a tree of tiny elements takes thirty times the memory of its text. Enough for some
    # thousand document entries.
    tags_max: int = 500_000


DEFAULT_LIMITS = XmlLimits()
_DECLARATION = re.compile(rb"<\?xml[ \t\r\n]")
_USES_XINCLUDE = etree.XPath(f"boolean(//*[namespace-uri() = '{XINCLUDE.decode()}'])")
# Everything that is not Char of XML 1.0, section 2.2.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _parser(*, comments: bool) -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        remove_comments=not comments,
        collect_ids=False,
    )


_MESSAGE_PARSER = _parser(comments=False)
_DOCUMENT_PARSER = _parser(comments=True)


def parse_message(data: bytes, limits: XmlLimits = DEFAULT_LIMITS) -> Any:
    """Root element of a message: additionally no processing instruction anywhere (SOAP 1.2 part 1, section 5)."""
    root = _parse(data, _MESSAGE_PARSER, limits)
    # The bytes tell at once that nearly every message is harmless. They do not where they are not what they look like.
    plain = b"\0" not in data[:4] and (root.getroottree().docinfo.encoding or "UTF-8").upper() == "UTF-8"
    if (not plain or data.count(b"<?") > (_DECLARATION.match(data) is not None)) and _has_instruction(root):
        raise XmlRefused("a processing instruction is not allowed in a message")
    if XINCLUDE in data or ((not plain or b"&#" in data) and _USES_XINCLUDE(root)):
        raise XmlRefused("XInclude is not allowed in a message")
    return root


def parse_document(data: bytes, limits: XmlLimits = DEFAULT_LIMITS) -> Any:
    """Tree of a document of its own (CDA): instructions and comments before the root are kept."""
    return _parse(data, _DOCUMENT_PARSER, limits).getroottree()


def _parse(data: bytes, parser: etree.XMLParser, limits: XmlLimits) -> Any:
    if len(data) > limits.bytes_max:
        raise XmlRefused(f"more than {limits.bytes_max} bytes of XML")
    if data.count(b"<") > limits.tags_max:
        raise XmlRefused(f"more than {limits.tags_max} tags")
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise XmlRefused(f"not well-formed XML: {_first_line(error)}") from None
    if root is None:
        raise XmlRefused("no XML element")
    if root.getroottree().docinfo.internalDTD is not None:
        raise XmlRefused("a DOCTYPE is not allowed")
    if _deeper_than(limits.depth_max)(root):
        raise XmlRefused(f"elements nested more than {limits.depth_max} deep")
    if _more_attributes_than(limits.attributes_max)(root):
        raise XmlRefused(f"more than {limits.attributes_max} attributes on one element")
    return root


def _has_instruction(root: Any) -> bool:
    if any(True for _ in root.iter(etree.PI)):
        return True
    return any(node.tag is etree.PI for axis in (True, False) for node in root.itersiblings(preceding=axis))


@cache
def _deeper_than(depth: int) -> etree.XPath:
    return etree.XPath(f"boolean({'/*' * (depth + 1)})")


@cache
def _more_attributes_than(count: int) -> etree.XPath:
    # An attribute at this position of its element; many times cheaper than counting.
    return etree.XPath(f"boolean(//@*[{count + 1}])")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def text(value: str) -> str:
    """``value`` as XML character data. Characters that XML 1.0 cannot carry are replaced by U+FFFD."""
    if "&" in value:
        value = value.replace("&", "&amp;")
    if "<" in value:
        value = value.replace("<", "&lt;")
    if ">" in value:
        value = value.replace(">", "&gt;")
    return value if value.isprintable() else _ILLEGAL.sub("\ufffd", value).replace("\r", "&#13;")


def attribute(value: str) -> str:
    """``value`` as the content of a double-quoted attribute."""
    value = text(value)
    if '"' in value:
        value = value.replace('"', "&quot;")
    if not value.isprintable():
        value = value.replace("\t", "&#9;").replace("\n", "&#10;")
    return value
