"""SOAP 1.2 with WS-Addressing as IHE uses it (ITI TF-2 Appendix V), and MTOM/XOP answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from obieg.wire.xml import text

SOAP = "http://www.w3.org/2003/05/soap-envelope"
SOAP_11 = "http://schemas.xmlsoap.org/soap/envelope/"
WSA = "http://www.w3.org/2005/08/addressing"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WST = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
XOP = "http://www.w3.org/2004/08/xop/include"
ANONYMOUS = f"{WSA}/anonymous"
FAULT_ACTION = f"{WSA}/fault"
SOAP_TYPE = "application/soap+xml"
XOP_TYPE = "application/xop+xml"

_ENVELOPE, _HEADER, _BODY = f"{{{SOAP}}}Envelope", f"{{{SOAP}}}Header", f"{{{SOAP}}}Body"
_MUST_UNDERSTAND, _ROLE = f"{{{SOAP}}}mustUnderstand", f"{{{SOAP}}}role"
_WSA_PREFIX = f"{{{WSA}}}"
_SECURITY = f"{{{WSSE}}}Security"
_INCLUDE = f"{{{XOP}}}Include"
_YES, _NO = ("1", "true"), ("", "0", "false")  # xs:boolean
# Longer than any address or identifier, and short enough to be repeated in an answer and its audit record.
ADDRESSING_CHARACTERS_MAX = 2_000
_ROLES_OF_OURS = ("", f"{SOAP}/role/next", f"{SOAP}/role/ultimateReceiver")


class SoapFault(Exception):  # noqa: N818
    """The message cannot be processed as SOAP; ``code`` is a SOAP 1.2 fault code, ``subcode`` a QName or empty."""

    def __init__(self, code: str, reason: str, subcode: str = "") -> None:
        super().__init__(reason)
        self.code = code  # Sender, Receiver, VersionMismatch, MustUnderstand
        self.subcode = subcode  # of WS-Addressing or WS-Trust: "wsa:ActionNotSupported", "wst:InvalidRequest"
        self.reason = reason[:ADDRESSING_CHARACTERS_MAX]  # it may repeat what was sent


@dataclass(slots=True)
class Envelope:
    """The parts of a SOAP envelope that matter; addressing values are "" when absent."""

    body: Any
    action: str = ""
    message_id: str = ""
    reply_to: str = ""
    to: str = ""
    relates_to: str = ""
    security: Any | None = None


def read_envelope(root: Any) -> Envelope:
    """Takes an envelope apart; raises :class:`SoapFault`."""
    if root.tag != _ENVELOPE:
        if root.tag == f"{{{SOAP_11}}}Envelope":
            raise SoapFault("VersionMismatch", "SOAP 1.1 is not accepted; send SOAP 1.2")
        raise SoapFault("Sender", f"not a SOAP 1.2 envelope but {root.tag}")
    header = body = None
    for child in root:
        if child.tag == _HEADER and header is None and body is None:
            header = child
        elif child.tag == _BODY and body is None:
            body = child
        else:
            raise SoapFault("Sender", f"unexpected element {child.tag} in the envelope")
    if body is None or len(body) != 1:
        raise SoapFault("Sender", "the envelope needs one Body with one element")
    between = (root.text, body.text, body[0].tail, body.tail, *(() if header is None else (header.text, header.tail)))
    if any(text is not None and text.strip() for text in between):
        raise SoapFault("Sender", "text between the elements of the envelope")
    envelope = Envelope(body=body[0])
    if header is not None:
        _read_header(header, envelope)
    return envelope


_ADDRESSING = {
    f"{_WSA_PREFIX}Action": "action",
    f"{_WSA_PREFIX}MessageID": "message_id",
    f"{_WSA_PREFIX}To": "to",
    f"{_WSA_PREFIX}RelatesTo": "relates_to",
}
_ENDPOINTS = {f"{_WSA_PREFIX}ReplyTo", f"{_WSA_PREFIX}FaultTo", f"{_WSA_PREFIX}From"}


def _read_header(header: Any, envelope: Envelope) -> None:
    endpoints: set[str] = set()
    for block in header:
        tag = block.tag
        name = _ADDRESSING.get(tag)
        if name is not None:
            if getattr(envelope, name):
                raise SoapFault("Sender", f"{tag} is given twice", "wsa:InvalidAddressingHeader")
            value = (block.text or "").strip()
            if len(value) > ADDRESSING_CHARACTERS_MAX:
                said = f"{tag} has more than {ADDRESSING_CHARACTERS_MAX} characters"
                raise SoapFault("Sender", said, "wsa:InvalidAddressingHeader")
            setattr(envelope, name, value)
        elif tag in _ENDPOINTS:
            if tag in endpoints:
                raise SoapFault("Sender", f"{tag} is given twice", "wsa:InvalidAddressingHeader")
            endpoints.add(tag)
            address = (block.findtext(f"{_WSA_PREFIX}Address") or "").strip()
            if not tag.endswith("From") and address not in (ANONYMOUS, ""):
                raise SoapFault(
                    "Sender",
                    "answers go back on the same connection only: send wsa:ReplyTo with the anonymous address",
                    "wsa:OnlyAnonymousAddressSupported",
                )
            if tag.endswith("ReplyTo"):
                envelope.reply_to = address[:ADDRESSING_CHARACTERS_MAX]
        elif tag == _SECURITY:
            if envelope.security is not None:
                raise SoapFault("Sender", "more than one Security header")
            envelope.security = block
        elif _must_be_understood(block):
            raise SoapFault("MustUnderstand", f"header {tag} is not understood")


def _must_be_understood(block: Any) -> bool:
    asked = block.get(_MUST_UNDERSTAND, "").strip()
    if asked not in _YES + _NO:
        raise SoapFault("Sender", f"mustUnderstand {asked[:20]!r} is neither true nor false")
    return asked in _YES and block.get(_ROLE, "").strip() in _ROLES_OF_OURS


def include_href(element: Any) -> str | None:
    """Content-ID that the ``xop:Include`` below ``element`` names; None when there is none.

    Raises :class:`SoapFault` for an href to anything but a part of this message (XOP 1.0, section 2.1).
    """
    if not any(child.tag == _INCLUDE for child in element):
        return None
    only = element[0]
    if len(element) > 1 or len(only) or any((said or "").strip() for said in (element.text, only.text, only.tail)):
        raise SoapFault("Sender", "xop:Include stands alone in its element (XOP 1.0, section 3.2)")
    href = only.get("href", "")
    if not href.startswith("cid:"):
        raise SoapFault("Sender", "xop:Include may only refer to a part of this message (cid:)")
    return unquote(href[4:])


_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    f'<s:Envelope xmlns:s="{SOAP}" xmlns:wsa="{WSA}"><s:Header>'
    '<wsa:Action s:mustUnderstand="1">'
)
_TAIL = b"</s:Body></s:Envelope>"


def write_envelope(
    action: str, body: bytes, *, relates_to: str = "", message_id: str = "", to: str = "", assertion: bytes = b""
) -> bytes:
    """An envelope around ``body``, which is XML already. ``to`` is for requests, ``relates_to`` for answers.

    ``assertion`` tells who asks: it goes into the Security header as it is, for its signature covers its bytes.
    """
    head = [_HEAD, text(action), "</wsa:Action>"]
    if message_id:
        head += ("<wsa:MessageID>", text(message_id), "</wsa:MessageID>")
    if relates_to:
        head += ("<wsa:RelatesTo>", text(relates_to), "</wsa:RelatesTo>")
    if to:
        head += (f"<wsa:ReplyTo><wsa:Address>{ANONYMOUS}</wsa:Address></wsa:ReplyTo><wsa:To>", text(to), "</wsa:To>")
    if assertion:
        head += (f'<wsse:Security xmlns:wsse="{WSSE}" s:mustUnderstand="1">', assertion.decode(), "</wsse:Security>")
    head.append("</s:Header><s:Body>")
    return b"".join(("".join(head).encode(), body, _TAIL))


def write_fault(fault: SoapFault) -> bytes:
    """The Body of a fault (SOAP 1.2 part 1, section 5.4)."""
    declared = f' xmlns:wst="{WST}"' if fault.subcode.startswith("wst:") else ""
    subcode = f"<s:Subcode><s:Value{declared}>{text(fault.subcode)}</s:Value></s:Subcode>" if fault.subcode else ""
    return (
        f"<s:Fault><s:Code><s:Value>s:{fault.code}</s:Value>{subcode}</s:Code>"
        f'<s:Reason><s:Text xml:lang="en">{text(fault.reason)}</s:Text></s:Reason></s:Fault>'
    ).encode()
