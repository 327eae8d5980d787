"""The one XML parser: what it refuses, and that what is written is read back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from metadata_strategies import texts

from obieg.wire.xml import XmlLimits, XmlRefused, attribute, parse_document, parse_message, text

XI = "http://www.w3.org/2001/XInclude"


@settings(deadline=None)
@given(texts)
def test_written_is_read_back(value: str) -> None:
    xml = f'<a b="{attribute(value)}">{text(value)}</a>'
    root = parse_message(xml.encode())
    assert root.text == value
    assert root.get("b") == value


@settings(deadline=None)
@given(st.text())
def test_anything_is_written_as_well_formed_xml(value: str) -> None:
    encoded = f'<a b="{attribute(value)}">{text(value)}</a>'.encode("utf-8", "surrogatepass")
    if all(not 0xD800 <= ord(c) < 0xE000 for c in value):
        root = etree.fromstring(encoded)
        assert len(root.text or "") == len(value)


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<a>",
        "<!DOCTYPE a><a/>",
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        '<?xml-stylesheet href="x"?><a/>',
        '<?xml version="1.0"?><?b c?><a/>',
        "<a><?b c?></a>",
        "<a/><?b c?>",
        f'<a xmlns:x="{XI}"><x:include href="file:///etc/passwd"/></a>',
        f'<a xmlns:x="{XI.replace("clude", "cl&#117;de")}"><x:include href="b"/></a>',
        "<a>&b;</a>",
        "<a b='1' b='2'/>",
    ],
)
def test_refused_in_messages(xml: str) -> None:
    for encoding in ("utf-8", "utf-16"):
        with pytest.raises(XmlRefused):
            parse_message(xml.encode(encoding))


@pytest.mark.parametrize(
    "xml",
    [
        "<a/>",
        '<?xml version="1.0" encoding="UTF-8"?>\n<!-- c --><a><!-- d -->x</a><!-- e -->',
        "<a><![CDATA[<?not an instruction?>]]></a>",
        "<a b='&#110;'>&lt;?b?&gt;</a>",
    ],
)
def test_accepted_in_messages(xml: str) -> None:
    for data in (xml.encode(), b"\xef\xbb\xbf" + xml.encode()):
        assert parse_message(data).tag == "a"


def test_utf_16() -> None:
    assert parse_message("<a>ż</a>".encode("utf-16")).text == "ż"


def test_documents_keep_instructions() -> None:
    tree = parse_document(b'<?xml version="1.0"?><?xml-stylesheet href="cda.xsl"?><a/>')
    assert tree.getroot().getprevious().target == "xml-stylesheet"
    with pytest.raises(XmlRefused):
        parse_document(b"<!DOCTYPE a><a/>")


LIMITS = XmlLimits(bytes_max=1000, depth_max=5, attributes_max=3, tags_max=40)


@pytest.mark.parametrize(
    ("fits", "refused"),
    [
        ("<a>" + "x" * 900 + "</a>", "<a>" + "x" * 1000 + "</a>"),
        ("<a>" * 5 + "</a>" * 5, "<a>" * 6 + "</a>" * 6),
        ('<a><b c="" d="" e=""/></a>', '<a><b c="" d="" e="" f=""/></a>'),
        ("<a>" + "<b/>" * 38 + "</a>", "<a>" + "<b/>" * 39 + "</a>"),
    ],
)
def test_limits(fits: str, refused: str) -> None:
    parse_message(fits.encode(), LIMITS)
    with pytest.raises(XmlRefused, match=r"\d"):
        parse_message(refused.encode(), LIMITS)


LONG = 40_000  # bytes; no honest tag is as long


@pytest.mark.parametrize(
    "tag",
    [
        "<a " + " ".join(f'a{i:07}="1"' for i in range(LONG // 10)) + "/>",
        "<a " + "\n".join(f"a{i:07} = '1'" for i in range(LONG // 10)) + ">",
        '<a b="' + "x" * LONG + '" ' + " ".join(f'a{i}="1"' for i in range(101)) + "/>",
        "<a><b>" + "x" * LONG + "</b><c " + " ".join(f'a{i:07}="1"' for i in range(LONG // 10)),  # not even closed
    ],
)
def test_many_attributes_are_refused_before_the_xml_is_parsed(tag: str) -> None:
    with pytest.raises(XmlRefused, match="more than 100 attributes on one element"):
        parse_message(tag.encode())


@pytest.mark.parametrize(
    "text",
    [
        "<a>" + "x='1' " * LONG + "</a>",
        "<a><![CDATA[<b " + "x='1' " * LONG + "]]></a>",
        "<a><!-- <b " + "x='1' " * LONG + "--></a>",
        '<a b="' + "x='1' " * LONG + '"/>',
        "<a " + " ".join(f'a{i}="{"x" * 400}"' for i in range(100)) + "/>",
    ],
)
def test_what_only_looks_like_many_attributes_is_read(text: str) -> None:
    assert parse_message(text.encode()).tag == "a"
