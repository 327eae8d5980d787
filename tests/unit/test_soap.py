"""SOAP envelopes: read strictly, written so that others read them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from lxml import etree
from metadata_strategies import values

from obieg.wire import soap
from obieg.wire.soap import SOAP, WSA, WSSE, SoapFault
from obieg.wire.xml import parse_message

BODY = f"<s:Body xmlns:s='{SOAP}'><x/></s:Body>"


def enveloped(headers: str = "", body: str = "<s:Body><x/></s:Body>") -> Any:
    header = f"<s:Header>{headers}</s:Header>" if headers else ""
    return etree.fromstring(
        f"<s:Envelope xmlns:s='{SOAP}' xmlns:a='{WSA}' xmlns:w='{WSSE}'>{header}{body}</s:Envelope>"
    )


def reference(name: str, address: str) -> str:
    return f"<a:{name}><a:Address>{address}</a:Address></a:{name}>"


@settings(deadline=None)
@given(values, values, values)
def test_written_is_read_back(action: str, message_id: str, to: str) -> None:
    data = soap.write_envelope(action, b"<x/>", relates_to=message_id, message_id=message_id, to=to)
    found = soap.read_envelope(parse_message(data))
    assert (found.action, found.message_id, found.relates_to, found.to) == (action, message_id, message_id, to)
    assert found.body.tag == "x"


def test_read() -> None:
    found = soap.read_envelope(
        enveloped(
            "<a:Action> do </a:Action><a:MessageID>m</a:MessageID><a:To>t</a:To><w:Security/>"
            + reference("ReplyTo", soap.ANONYMOUS)
            + reference("From", "http://source/")
            + reference("FaultTo", soap.ANONYMOUS)
        )
    )
    assert (found.action, found.message_id, found.to, found.reply_to) == ("do", "m", "t", soap.ANONYMOUS)
    assert found.security is not None


def test_without_header() -> None:
    assert soap.read_envelope(enveloped()).action == ""


@pytest.mark.parametrize(
    ("root", "code", "subcode"),
    [
        (etree.fromstring(f"<s:Envelope xmlns:s='{soap.SOAP_11}'/>"), "VersionMismatch", ""),
        (etree.fromstring("<Envelope/>"), "Sender", ""),
        (enveloped(body=""), "Sender", ""),
        (enveloped(body="<s:Body/>"), "Sender", ""),
        (enveloped(body="<s:Body><x/><y/></s:Body>"), "Sender", ""),
        (enveloped(body="<s:Body><x/></s:Body><s:Body><x/></s:Body>"), "Sender", ""),
        (enveloped(body="<s:Body><x/></s:Body><s:Header/>"), "Sender", ""),
        (enveloped(body="<s:Body><x/></s:Body><x/>"), "Sender", ""),
        (enveloped("<a:Action>1</a:Action><a:Action>1</a:Action>"), "Sender", "wsa:InvalidAddressingHeader"),
        (enveloped("<a:To>1</a:To><a:To>2</a:To>"), "Sender", "wsa:InvalidAddressingHeader"),
        (enveloped(reference("ReplyTo", "http://x/")), "Sender", "wsa:OnlyAnonymousAddressSupported"),
        (enveloped(reference("ReplyTo", f"{WSA}/none")), "Sender", "wsa:OnlyAnonymousAddressSupported"),
        (enveloped(reference("FaultTo", "http://x/")), "Sender", "wsa:OnlyAnonymousAddressSupported"),
        (enveloped("<w:Security/><w:Security/>"), "Sender", ""),
        (enveloped("<x s:mustUnderstand='1'/>"), "MustUnderstand", ""),
        (enveloped("<x s:mustUnderstand='true'/>"), "MustUnderstand", ""),
        (enveloped(f"<x s:mustUnderstand='1' s:role='{SOAP}/role/next'/>"), "MustUnderstand", ""),
        (enveloped(f"<x s:mustUnderstand='1' s:role='{SOAP}/role/ultimateReceiver'/>"), "MustUnderstand", ""),
    ],
)
def test_refused(root: Any, code: str, subcode: str) -> None:
    with pytest.raises(SoapFault) as refused:
        soap.read_envelope(root)
    assert (refused.value.code, refused.value.subcode) == (code, subcode)


@pytest.mark.parametrize(
    "header", ["<x/>", "<x s:mustUnderstand='0'/>", f"<x s:mustUnderstand='1' s:role='{SOAP}/role/none'/>"]
)
def test_headers_for_others(header: str) -> None:
    assert soap.read_envelope(enveloped(header)).body.tag == "x"


def test_fault() -> None:
    fault = SoapFault("Sender", "<why> & how", "wsa:ActionNotSupported")
    data = soap.write_envelope(soap.FAULT_ACTION, soap.write_fault(fault), relates_to="urn:m")
    root = etree.fromstring(data)
    found = root.find(f".//{{{SOAP}}}Fault")
    value = found.find(f"{{{SOAP}}}Code/{{{SOAP}}}Value")
    # The values are QNames: their prefixes must be declared where they stand.
    assert value.nsmap[value.text.split(":")[0]] == SOAP
    subcode = found.find(f"{{{SOAP}}}Code/{{{SOAP}}}Subcode/{{{SOAP}}}Value")
    assert subcode.nsmap[subcode.text.split(":")[0]] == WSA
    reason = found.find(f"{{{SOAP}}}Reason/{{{SOAP}}}Text")
    assert reason.text == "<why> & how"
    assert reason.get("{http://www.w3.org/XML/1998/namespace}lang") == "en"


def including(href: str) -> Any:
    return etree.fromstring(f"<d><i:Include xmlns:i='{soap.XOP}' href='{href}'/></d>")


@pytest.mark.parametrize(
    ("href", "name"), [("cid:a@b", "a@b"), ("cid:a%40b", "a@b"), ("cid:", ""), ("cid:http://x", "http://x")]
)
def test_include(href: str, name: str) -> None:
    assert soap.include_href(including(href)) == name


@pytest.mark.parametrize("href", ["", "a@b", "http://x/", "file:///etc/passwd", "mid:a@b", " cid:a"])
def test_include_of_anything_else(href: str) -> None:
    with pytest.raises(SoapFault, match="cid:"):
        soap.include_href(including(href))


def test_no_include() -> None:
    assert soap.include_href(etree.fromstring("<d>YQ==</d>")) is None
