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
    namespaces_max: int = 50_000  # declarations of the whole: they are not attributes, and are looked through for names


DEFAULT_LIMITS = XmlLimits()
_DECLARATION = re.compile(rb"<\?xml[ \t\r\n]")
_DECLARED = re.compile(
    r"""<\?xml\s+version\s*=\s*["']([^"']*)["'](?:\s+encoding\s*=\s*["']([^"']*)["'])?[^>]*\?>""", re.ASCII
)
_HEAD_BYTES = 512
_STRETCH_BYTES = 16 * 1024  # a tag that is longer than two of these is looked at before the XML is parsed
# Every processor reads these (XML 1.0, 2.2), and nothing else is a message (WS-I Basic Profile 2.0, R1012). With
# libxml2's other encodings a tag is not the byte "<", so that what is counted before parsing counts nothing.
_UTF_8, _UTF_16 = frozenset({"UTF-8", "US-ASCII", "ASCII"}), frozenset({"UTF-16", "UTF-16LE", "UTF-16BE"})
# Documents that people wrote elsewhere: also the pages of eight bits that carry Polish, in which "<" is "<".
_EIGHT_BITS = frozenset({"ISO-8859-1", "ISO-8859-2", "ISO-8859-15", "ISO-8859-16", "WINDOWS-1250", "WINDOWS-1252"})
_USES_XINCLUDE = etree.XPath(f"boolean(//*[namespace-uri() = '{XINCLUDE.decode()}'])")
_HAS_XML_ID = etree.XPath("boolean(//@xml:id)")
_DISGUISES = (b"<!--", b"<![CDATA[", b"xml:id")
# Everything that is not Char of XML 1.0, section 2.2.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _parser(*, comments: bool, cdata: bool = False) -> etree.XMLParser:
    return etree.XMLParser(
        strip_cdata=not cdata,
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
_VERBATIM_PARSER = _parser(comments=True, cdata=True)


def parse_message(data: bytes, limits: XmlLimits = DEFAULT_LIMITS) -> Any:
    """Root element of a message: additionally no processing instruction anywhere (SOAP 1.2 part 1, section 5)."""
    root = _parse(data, _MESSAGE_PARSER, limits, encoding_of(data))
    # The bytes tell at once that nearly every message is harmless. They do not where they are not what they look like.
    plain = _is_plain(data, root)
    if (not plain or data.count(b"<?") > (_DECLARATION.match(data) is not None)) and _has_instruction(root):
        raise XmlRefused("a processing instruction is not allowed in a message")
    if XINCLUDE in data or ((not plain or b"&#" in data) and _USES_XINCLUDE(root)):
        raise XmlRefused("XInclude is not allowed in a message")
    return root


def is_disguised(data: bytes, root: Any) -> bool:
    """Whether the message ``data``, parsed as ``root``, has what nothing that is signed may have.

    That is comments and xml:id anywhere, and CDATA in its first child, the header: harmless to who reads the parsed
    message, but they let one thing be written in two ways.
    """
    if _is_plain(data, root) and not any(mark in data for mark in _DISGUISES):
        return False
    if _HAS_XML_ID(root):
        return True
    verbatim = etree.fromstring(data, _VERBATIM_PARSER)
    if next(verbatim.iter(etree.Comment), None) is not None:
        return True
    if verbatim.getprevious() is not None or verbatim.getnext() is not None:
        return True
    return len(verbatim) > 0 and b"<![CDATA[" in etree.tostring(verbatim[0], with_tail=False)


def _is_plain(data: bytes, root: Any) -> bool:
    """Whether markup stands in the bytes as it is written in ASCII."""
    return b"\0" not in data[:4] and (root.getroottree().docinfo.encoding or "UTF-8").upper() == "UTF-8"


def parse_document(data: bytes, limits: XmlLimits = DEFAULT_LIMITS) -> Any:
    """Tree of a document of its own (CDA): instructions and comments before the root are kept."""
    return _parse(data, _DOCUMENT_PARSER, limits, encoding_of(data, also=_EIGHT_BITS)).getroottree()


def encoding_of(data: bytes, *, also: frozenset[str] = frozenset()) -> str:
    """UTF-8, UTF-16 or one of ``also``: what the first bytes show and the declaration does not deny.

    Raises :class:`XmlRefused` for any other (XML 1.0, appendix F).
    """
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:2]
    if wide and (data[:4].count(0) > 2 or data[:4] == b"\xff\xfe\0\0"):
        raise XmlRefused("UTF-32: send UTF-8 or UTF-16")
    codec = ("utf-16-be" if data[:1] in (b"\xfe", b"\0") else "utf-16-le") if wide else "ascii"
    head = data[:_HEAD_BYTES].decode(codec, "replace").lstrip("\ufeff" if wide else "\ufffd")
    found = _DECLARED.match(head)
    if found is None:
        return "UTF-16" if wide else "UTF-8"
    if found[1] != "1.0":
        raise XmlRefused(f"XML {found[1][:10]}: send XML 1.0")
    declared = (found[2] or ("UTF-16" if wide else "UTF-8")).upper()
    if declared not in (_UTF_16 if wide else _UTF_8 | also):
        raise XmlRefused(f"encoding {declared[:40]}, or bytes that deny it: send UTF-8 or UTF-16")
    return "UTF-16" if wide else "UTF-8" if declared in _UTF_8 else declared


def _parse(data: bytes, parser: etree.XMLParser, limits: XmlLimits, encoding: str) -> Any:
    if len(data) > limits.bytes_max:
        raise XmlRefused(f"more than {limits.bytes_max} bytes of XML")
    if data.count(b"<") > limits.tags_max:
        raise XmlRefused(f"more than {limits.tags_max} tags")
    if data.count(b"xmlns" if encoding != "UTF-16" else b"x\0m\0l\0n\0s") > limits.namespaces_max:
        raise XmlRefused(f"more than {limits.namespaces_max} declarations of namespaces")
    if _has_crowded_tag(data, limits.attributes_max):
        raise XmlRefused(f"more than {limits.attributes_max} attributes on one element")
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise XmlRefused(f"not well-formed XML: {_first_line(error)}") from None
    if root is None:
        raise XmlRefused("no XML element")
    # The parser may have read another declaration than was read here: then somebody else may read another one, too.
    read_as = (root.getroottree().docinfo.encoding or "UTF-8").upper()
    # Where nothing is declared lxml says UTF-8, whatever the mark says.
    alike = {"UTF-16": _UTF_16 | _UTF_8, "UTF-8": _UTF_8}.get(encoding, {encoding})
    if read_as not in alike:
        raise XmlRefused(f"encoding {read_as[:40]}, which is not what the first bytes show")
    if root.getroottree().docinfo.internalDTD is not None:
        raise XmlRefused("a DOCTYPE is not allowed")
    if _deeper_than(limits.depth_max)(root):
        raise XmlRefused(f"elements nested more than {limits.depth_max} deep")
    if _more_attributes_than(limits.attributes_max)(root):
        raise XmlRefused(f"more than {limits.attributes_max} attributes on one element")
    return root


def _has_crowded_tag(data: bytes, attributes_max: int) -> bool:
    """Whether a very long tag has more attributes: libxml2 would compare each of them with those before it.

    Only stretches without ``>`` are looked at, which messages hardly have; shorter tags are counted when they are read.
    """
    at = 0
    while at < len(data):
        if data.find(b">", at, at + _STRETCH_BYTES) >= 0:
            at += _STRETCH_BYTES
            continue
        end = data.find(b">", at + _STRETCH_BYTES)
        end = len(data) if end < 0 else end
        start = data.rfind(b"<", 0, end)  # there is none in the value of an attribute
        if start >= 0 and _attributes(attributes_max + 1).match(data, start, end):
            return data.find(b"<!", 0, start) < 0  # in a comment or in CDATA it would be no tag: the parser knows
        at = end + 1
    return False


@cache
def _attributes(count: int) -> re.Pattern[bytes]:
    """A tag that begins with so many attributes or declarations of namespaces."""
    return re.compile(rb"""<[^\s<>/!?]+(?:\s+[^\s=<>"']+\s*=\s*(?:"[^"]*"|'[^']*')){%d}""" % count)


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
