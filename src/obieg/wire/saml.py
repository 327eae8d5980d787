"""Assertions in the Security header of a SOAP message (SAML 2.0 Core; WSS SOAP Message Security 1.1.1; ITI-40).

A message is read by a closed list of structures, ``codes/saml.toml``. What it says of its sender is read from the
canonical bytes that were signed, parsed again; the tree in which they came is looked at only for its shape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from lxml import etree

from obieg.codes.load import toml
from obieg.wire.structure import Node, Rules, SecurityRefused
from obieg.wire.xml import XmlLimits, XmlRefused, parse_message
from obieg.wire.xmldsig import (
    Certificate,
    algorithm_of,
    base64,
    canonical,
    certificate,
    check_digest,
    prefixes_of,
    rsa_key_info,
    signer,
    verified,
)

_TABLE = toml("saml.toml")
_RULES = Rules(_TABLE)
_tag = _RULES.tag
_BYTES_MAX: int = _TABLE["limits"]["assertion_bytes_max"]
_LIMITS = XmlLimits(bytes_max=_BYTES_MAX, depth_max=16, attributes_max=16, tags_max=2_000)
# A signed Body is parsed again; the edge has held it to its own limits.
_BODY_LIMITS = XmlLimits(bytes_max=256 * 1024 * 1024, depth_max=200, attributes_max=1_000, tags_max=2_000_000)
_METHODS: dict[str, str] = _TABLE["confirmation"]

_ASSERTION, _SIGNATURE, _SECURITY = _tag("saml:Assertion"), _tag("ds:Signature"), _tag("wsse:Security")
_ENVELOPE, _HEADER, _BODY = _tag("soap:Envelope"), _tag("soap:Header"), _tag("soap:Body")
_WSU_ID = _tag("wsu:Id")
_TRANSFORM = (_tag("ds:SignedInfo"), _tag("ds:Reference"), _tag("ds:Transforms"))
_EXCLUSIVE = "exclusive"
# Elements that stand in a message only where a structure says so.
_COUNTED = (_ASSERTION, _SIGNATURE, _SECURITY, _tag("wsse:BinarySecurityToken"), _tag("wsu:Timestamp"))
# Attributes with one of these values, whatever they are called.
_SAME_VALUE = etree.XPath("count(//@*[. = $a])")
_SAME_VALUES = etree.XPath("count(//@*[. = $a or . = $b or . = $c or . = $d])")


class AttributeValue(msgspec.Struct, frozen=True, gc=False):
    """A value: text, a code or an instance identifier."""

    text: str = ""
    code: str = ""
    root: str = ""  # of the code or of the identifier
    extension: str = ""


class Attribute(msgspec.Struct, frozen=True, gc=False):
    """What is said of the subject (SAML 2.0 Core, section 2.7.3.1)."""

    name: str
    values: tuple[AttributeValue, ...]


class Assertion(msgspec.Struct, frozen=True, gc=False):
    """An assertion whose signature is valid; whether it holds here and now has still to be asked."""

    id: str
    issuer: str
    issued_at: datetime
    name_id: str
    method: str  # bearer, holder-of-key, sender-vouches
    not_before: datetime
    not_on_or_after: datetime
    audiences: tuple[tuple[str, ...], ...]  # one of each restriction
    authenticated_at: datetime
    authn_context: str
    signed_by: bytes  # DER: the certificate of the issuer by which it was verified
    session_until: datetime | None = None
    confirmed_from: datetime | None = None
    confirmed_until: datetime | None = None
    recipient: str = ""
    address: str = ""
    holder: bytes = b""  # SubjectPublicKeyInfo, DER: the key whose owner alone may use it
    one_time_use: bool = False
    attributes: tuple[Attribute, ...] = ()


class MessageSignature(NamedTuple):
    """The signature over Body and Timestamp, verified."""

    token: bytes  # DER: the certificate that came with the message
    value: bytes
    created: datetime
    expires: datetime
    body: Any  # soap:Body, parsed again from what was signed


class SecurityHeader(NamedTuple):
    """A Security header of a known structure."""

    structure: str
    methods: tuple[str, ...]  # ways of confirming the subject that belong to the structure
    assertion: bytes  # canonical, with its signature
    elements: dict[str, Any]  # the others by their rules


_STRUCTURES = [
    (frozenset(_tag(_TABLE["rule"][rule]["element"]) for rule in row["children"]), row) for row in _TABLE["structure"]
]


def read_security(security: Any, envelope: Any) -> SecurityHeader:
    """Recognises the structure of the Security header ``security`` of ``envelope``; nothing is verified yet.

    Raises :class:`SecurityRefused` for any other.
    """
    parent = security.getparent()
    if envelope.tag != _ENVELOPE or parent is None or parent.tag != _HEADER or parent.getparent() is not envelope:
        raise SecurityRefused("the Security header is not a header of the message")
    _RULES.attributes(security, "security")
    if security.text and not security.text.isspace():
        raise SecurityRefused("text in the Security header")
    tags: list[str] = []
    for child in security:
        if child.tail and not child.tail.isspace():
            raise SecurityRefused("text in the Security header")
        tags.append(child.tag)
    row = next((r for wanted, r in _STRUCTURES if len(tags) == len(wanted) and wanted == frozenset(tags)), None)
    if row is None:
        raise SecurityRefused("the Security header has none of the known structures")
    by_tag = dict(zip(tags, security, strict=True))
    elements = {rule: by_tag[_tag(_TABLE["rule"][rule]["element"])] for rule in row["children"]}
    # The header, what stands in it, and the signature in the assertion.
    if sum(1 for _ in envelope.iter(*_COUNTED)) != len(tags) + 2:
        raise SecurityRefused("a second assertion, signature, token or Security header stands in the message")
    assertion = elements["assertion"]
    identifier = assertion.get("ID", "")
    if "message-signature" in elements:
        body = _body_of(envelope)
        _RULES.attributes(body, "signed-body")
        others = {"b": body.get(_WSU_ID)} | {
            name: elements[rule].get(_WSU_ID, "") for name, rule in (("c", "token"), ("d", "timestamp"))
        }
        unique = len({identifier, *others.values()}) == 4 == _SAME_VALUES(envelope, a=identifier, **others)
    else:
        unique = _SAME_VALUE(envelope, a=identifier) == 1
    if not unique:
        raise SecurityRefused("an identifier of what was signed is given twice")
    data = canonical(assertion, _inclusive(assertion))
    if len(data) > _BYTES_MAX:
        raise SecurityRefused("the assertion is too large")
    return SecurityHeader(row["name"], tuple(row["confirmation"]), data, elements)


def _body_of(envelope: Any) -> Any:
    body = envelope[-1]
    if body.tag != _BODY:
        raise SecurityRefused("the message has no Body at its place")
    return body


def _inclusive(assertion: Any) -> tuple[str, ...]:
    """The PrefixList by which the assertion is made canonical; the whole is checked when it is read again."""
    element = assertion.find(_SIGNATURE)
    for tag in _TRANSFORM:
        element = element.find(tag) if element is not None else None
    if element is None or len(element) == 0:
        return ()
    return prefixes_of(_RULES.read(element[-1], _EXCLUSIVE))


def digest(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


def verify_assertion(data: bytes, certificates_of: Callable[[str], Sequence[Certificate]]) -> Assertion:
    """The assertion whose canonical form with its signature is ``data``.

    ``certificates_of`` gives, for an issuer, the certificates of its keys. Depends on nothing else, so that the answer
    may be kept by the digest of ``data``. Raises :class:`SecurityRefused`.
    """
    root = _parse(data, _LIMITS)
    read = _RULES.read(root, "assertion")
    signature = read.one("assertion-signature")
    signed_info = signature.one("assertion-signed")
    reference = signed_info.one("assertion-reference")
    if reference.attributes["URI"] != f"#{read.attributes['ID']}":
        raise SecurityRefused("the signature is of something else")
    # In canonical form elements do not depend on those beside them: without this one it is the form without it.
    check_digest(reference, _cut(data, root[1].prefix))
    algorithm = algorithm_of(signed_info)
    signed = canonical(root[1][0], prefixes_of(signed_info.one("canonicalization")))
    value = base64(signature.one("signature-value").text)
    issuer = read.one("issuer").text
    by = signer(signature, certificates_of(issuer), algorithm, value, signed)
    return _assertion(read, issuer, by)


def _cut(data: bytes, prefix: str | None) -> bytes:
    """An assertion in canonical form without its signature.

    By its rule it has one, and text and attributes have no "<" in this form, so that the tag stands there once.
    """
    name = f"{prefix}:Signature" if prefix else "Signature"
    begin, end = f"<{name}".encode(), f"</{name}>".encode()
    if data.count(begin + b" ") + data.count(begin + b">") != 1 or data.count(end) != 1:
        raise SecurityRefused("more than one signature in the assertion")
    at = data.find(begin + b" ")
    return data[: at if at >= 0 else data.index(begin + b">")] + data[data.index(end) + len(end) :]


def _assertion(read: Node, issuer: str, by: Certificate) -> Assertion:
    subject, conditions, authn = read.one("subject"), read.one("conditions"), read.one("authn-statement")
    confirmation = subject.one("confirmation")
    method = _METHODS.get(confirmation.attributes["Method"])
    if method is None:
        raise SecurityRefused("the subject is confirmed in an unknown way")
    data = confirmation.maybe("confirmation-data") or Node("", "", {}, ())
    key = data.maybe("holder-key")
    if (method == "holder-of-key") != (key is not None):
        raise SecurityRefused("the key of the holder is missing, or is there without need")
    statement = read.maybe("attribute-statement")
    name_id = subject.one("name-id").text
    if name_id != name_id.strip():
        raise SecurityRefused("white space around the NameID")
    return Assertion(
        id=read.attributes["ID"],
        issuer=issuer,
        issued_at=_time(read.attributes["IssueInstant"]),
        name_id=name_id,
        method=method,
        not_before=_time(conditions.attributes["NotBefore"]),
        not_on_or_after=_time(conditions.attributes["NotOnOrAfter"]),
        audiences=tuple(
            tuple(a.text for a in restriction.children) for restriction in conditions.all("audience-restriction")
        ),
        authenticated_at=_time(authn.attributes["AuthnInstant"]),
        authn_context=authn.one("authn-context").one("authn-context-class").text,
        signed_by=by.der,
        session_until=_time_or_none(authn.attributes.get("SessionNotOnOrAfter")),
        confirmed_from=_time_or_none(data.attributes.get("NotBefore")),
        confirmed_until=_time_or_none(data.attributes.get("NotOnOrAfter")),
        recipient=data.attributes.get("Recipient", ""),
        address=data.attributes.get("Address", ""),
        holder=_key_info(key) if key is not None else b"",
        one_time_use=conditions.maybe("one-time-use") is not None,
        attributes=_attributes(statement) if statement is not None else (),
    )


def _key_info(key: Node) -> bytes:
    """The key that a KeyInfo names in one way."""
    if len(key.children) != 1:
        raise SecurityRefused("the key of the holder is named in two ways")
    data = key.maybe("x509-data")
    if data is not None:
        return certificate(base64(data.one("x509-certificate").text)).key_info
    numbers = key.one("key-value").one("rsa-key-value")
    return rsa_key_info(base64(numbers.one("modulus").text), base64(numbers.one("exponent").text))


def _attributes(statement: Node) -> tuple[Attribute, ...]:
    found: dict[str, Attribute] = {}
    for node in statement.children:
        name = node.attributes["Name"]
        if name in found:
            raise SecurityRefused("an attribute is given twice")
        found[name] = Attribute(name, tuple(read_value(v) for v in node.children))
    return tuple(found.values())


def read_value(node: Node) -> AttributeValue:
    """A checked AttributeValue: text, or one HL7 value (ITI TF-2:3.40.4.1.2.1). Raises SecurityRefused for several."""
    if not node.children:
        return AttributeValue(node.text.strip())
    if len(node.children) > 1:
        raise SecurityRefused("several values in one AttributeValue")
    given = node.children[0].attributes
    if "root" in given:
        return AttributeValue(root=given["root"], extension=given.get("extension", ""))
    return AttributeValue(code=given["code"], root=given.get("codeSystem", ""))


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise SecurityRefused("a time that does not exist") from None


def _time_or_none(text: str | None) -> datetime | None:
    return None if text is None else _time(text)


def verify_message(header: SecurityHeader, envelope: Any) -> MessageSignature:
    """The signature over exactly Body and Timestamp, by the key of the token that came with it.

    Whose key that is has still to be asked. Raises :class:`SecurityRefused`.
    """
    signature_element = header.elements["message-signature"]
    signature = _RULES.read(signature_element, "message-signature")
    token = _RULES.read(header.elements["token"], "token")
    reference = signature.one("token-key").one("token-reference").one("direct-reference")
    if reference.attributes["URI"] != f"#{token.attributes['wsu:Id']}":
        raise SecurityRefused("the message signature names another key")
    der = base64(token.text)
    key = certificate(der).key
    if key is None:
        raise SecurityRefused("the key of the message is too weak")
    signed_info = signature.one("message-signed")
    data = canonical(signature_element[0], prefixes_of(signed_info.one("canonicalization")))
    value = base64(signature.one("signature-value").text)
    if not verified(key, algorithm_of(signed_info), value, data):
        raise SecurityRefused("the message signature is not valid")
    # From here on, what the signature covers is read from what it covers.
    signed_info = _RULES.read(_parse(data, _LIMITS), "message-signed")
    body_element = _body_of(envelope)
    if next(body_element.iter(_tag("xop:Include")), None) is not None:
        raise SecurityRefused("the signature of the message does not cover its parts")
    wanted = {
        f"#{body_element.get(_WSU_ID)}": body_element,
        f"#{header.elements['timestamp'].get(_WSU_ID)}": header.elements["timestamp"],
    }
    signed: dict[str, bytes] = {}
    for one in signed_info.all("message-reference"):
        uri = one.attributes["URI"]
        if uri not in wanted or uri in signed:
            raise SecurityRefused("the message signature is not of Body and Timestamp")
        exclusive = one.one("message-transforms").one(_EXCLUSIVE)
        signed[uri] = canonical(wanted[uri], prefixes_of(exclusive))
        check_digest(one, signed[uri])
    body, timestamp = (signed[uri] for uri in wanted)
    times = _RULES.read(_parse(timestamp, _LIMITS), "timestamp")
    return MessageSignature(
        der,
        value,
        _time(times.one("created").text),
        _time(times.one("expires").text),
        _parse(body, _BODY_LIMITS),
    )


def _parse(data: bytes, limits: XmlLimits) -> Any:
    try:
        return parse_message(data, limits)
    except XmlRefused:
        raise SecurityRefused("what was signed cannot be read") from None
