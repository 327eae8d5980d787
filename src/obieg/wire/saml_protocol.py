"""Messages of a SAML 2.0 service provider: Web Browser SSO with HTTP-Artifact, Single Logout over SOAP, metadata.

SAML 2.0 Core section 3, Bindings sections 3.2, 3.5 and 3.6, Metadata section 2.4, as Węzeł Krajowy uses them; codes
and structures stand in ``codes/national/pl/wezel_krajowy.toml``.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from obieg.codes.load import toml
from obieg.wire.enveloped import read_enveloped, rules_with
from obieg.wire.soap import SOAP_11
from obieg.wire.structure import Node, SecurityRefused
from obieg.wire.xml import XmlLimits, XmlRefused, attribute, parse_message, text
from obieg.wire.xmldsig import Certificate, base64
from obieg.wire.xmlenc import decrypt

_TABLE = toml("national/pl/wezel_krajowy.toml")
_SAML, _EIDAS = _TABLE["saml"], _TABLE["eidas"]
_RULES = rules_with(_TABLE)
LEVELS: tuple[str, ...] = tuple(row["uri"] for row in _TABLE["level"])  # the lowest first
LEVEL_BY_NAME: dict[str, str] = {row["name"]: row["uri"] for row in _TABLE["level"]}
_LIMITS = XmlLimits(bytes_max=_TABLE["limits"]["message_bytes_max"], depth_max=32, attributes_max=16, tags_max=2_000)
_ASSERTION_NS = "urn:oasis:names:tc:SAML:2.0:assertion"
_DECLARED = f'xmlns:saml2p="{_SAML["protocol"]}" xmlns:saml2="{_ASSERTION_NS}"'
_DS = "http://www.w3.org/2000/09/xmldsig#"
_RESPONSE = f"{{{_SAML['protocol']}}}Response"


class Status(NamedTuple):
    """How a request ended (SAML 2.0 Core, section 3.2.2)."""

    code: str
    second: str

    @property
    def succeeded(self) -> bool:
        """Whether it did what was asked for."""
        return self.code == str(_SAML["success"])


class Answer(NamedTuple):
    """What all answers have (SAML 2.0 Core, section 3.2.2)."""

    id: str
    in_response_to: str
    issued_at: datetime
    destination: str  # "" where none is named
    issuer: str
    status: Status
    signed: bool


class Assertion(NamedTuple):
    """What the identity provider says of a person (SAML 2.0 Core, section 2.3.3), as covered by a signature of its."""

    id: str
    issuer: str
    issued_at: datetime
    name_id: str
    in_response_to: str
    recipient: str
    confirmed_until: datetime
    not_before: datetime
    not_on_or_after: datetime
    audiences: tuple[tuple[str, ...], ...]  # one of each restriction
    authenticated_at: datetime
    session_index: str
    session_until: datetime | None
    level: str
    attributes: dict[str, str]  # by Name


class Resolved(NamedTuple):
    """What an artifact stood for."""

    answer: Answer  # the ArtifactResponse
    response: Answer | None  # None: the artifact stands for nothing (any more)
    assertion: Assertion | None  # None: the person was not proved


# writing --------------------------------------------------------------------------------------------------------------


def _head(name: str, identifier: str, issued_at: datetime, issuer: str, more: str = "") -> str:
    when = issued_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        f'<saml2p:{name} {_DECLARED} ID="{attribute(identifier)}" IssueInstant="{when}" Version="2.0"{more}>'
        f"<saml2:Issuer>{text(issuer)}</saml2:Issuer>"
    )


def write_authn_request(
    identifier: str, issued_at: datetime, *, issuer: str, name: str, destination: str, consumer_url: str, level: str
) -> bytes:
    """AuthnRequest without its signature; ``level`` is the URI of the least level of assurance."""
    more = (
        f' Destination="{attribute(destination)}" AssertionConsumerServiceURL="{attribute(consumer_url)}"'
        f' ProtocolBinding="{_SAML["artifact"]}" ProviderName="{attribute(name)}" ForceAuthn="true" IsPassive="false"'
    )
    wanted = "".join(
        f'<eidas:RequestedAttribute FriendlyName="{row["friendly_name"]}" Name="{row["name"]}"'
        f' NameFormat="{_SAML["attribute_name"]}" isRequired="true"/>'
        for row in _TABLE["attribute"]
    )
    return (
        f"{_head('AuthnRequest', identifier, issued_at, issuer, more)}"
        f'<saml2p:Extensions><eidas:SPType xmlns:eidas="{_EIDAS["extensions"]}">{_EIDAS["sp_type"]}</eidas:SPType>'
        f'<eidas:RequestedAttributes xmlns:eidas="{_EIDAS["extensions"]}">{wanted}</eidas:RequestedAttributes>'
        f"</saml2p:Extensions>"
        f'<saml2p:NameIDPolicy AllowCreate="true" Format="{_SAML["name_id"]}"/>'
        f'<saml2p:RequestedAuthnContext Comparison="{_SAML["comparison"]}">'
        f"<saml2:AuthnContextClassRef>{text(level)}</saml2:AuthnContextClassRef></saml2p:RequestedAuthnContext>"
        f"</saml2p:AuthnRequest>"
    ).encode()


def write_artifact_resolve(
    identifier: str, issued_at: datetime, *, issuer: str, destination: str, artifact: str
) -> bytes:
    """ArtifactResolve without its signature (SAML 2.0 Core, section 3.5.1)."""
    more = f' Destination="{attribute(destination)}"'
    return (
        f"{_head('ArtifactResolve', identifier, issued_at, issuer, more)}"
        f"<saml2p:Artifact>{text(artifact)}</saml2p:Artifact></saml2p:ArtifactResolve>"
    ).encode()


def write_logout_request(
    identifier: str, issued_at: datetime, *, issuer: str, destination: str, name_id: str, session_index: str
) -> bytes:
    """LogoutRequest without its signature (SAML 2.0 Core, section 3.7.1)."""
    more = f' Destination="{attribute(destination)}" Reason="{_SAML["by_user"]}"'
    index = f"<saml2p:SessionIndex>{text(session_index)}</saml2p:SessionIndex>" if session_index else ""
    return (
        f"{_head('LogoutRequest', identifier, issued_at, issuer, more)}"
        f'<saml2:NameID Format="{_SAML["name_id"]}">{text(name_id)}</saml2:NameID>{index}</saml2p:LogoutRequest>'
    ).encode()


def write_soap(message: bytes) -> bytes:
    """``message`` in a SOAP 1.1 envelope (SAML 2.0 Bindings, section 3.2)."""
    return b'<soap:Envelope xmlns:soap="%s"><soap:Body>%s</soap:Body></soap:Envelope>' % (SOAP_11.encode(), message)


def write_metadata(
    *, entity_id: str, consumer_url: str, signing: Sequence[bytes], encryption: Sequence[bytes]
) -> bytes:
    """Our metadata (SAML 2.0 Metadata, section 2.4.4); certificates as DER."""
    keys = "".join(
        f'<md:KeyDescriptor use="{use}"><ds:KeyInfo xmlns:ds="{_DS}"><ds:X509Data><ds:X509Certificate>'
        f"{b64encode(der).decode()}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
        for use, certificates in (("signing", signing), ("encryption", encryption))
        for der in certificates
    )
    return (
        f'<md:EntityDescriptor xmlns:md="{_SAML["metadata"]}" entityID="{attribute(entity_id)}">'
        f'<md:SPSSODescriptor AuthnRequestsSigned="true" WantAssertionsSigned="false"'
        f' protocolSupportEnumeration="{_SAML["protocol"]}">{keys}'
        f"<md:NameIDFormat>{_SAML['name_id']}</md:NameIDFormat>"
        f'<md:AssertionConsumerService Binding="{_SAML["artifact"]}" Location="{attribute(consumer_url)}" index="0"'
        f' isDefault="true"/></md:SPSSODescriptor></md:EntityDescriptor>'
    ).encode()


# reading --------------------------------------------------------------------------------------------------------------


def read_artifact_response(data: bytes, known: Sequence[Certificate], key: ec.EllipticCurvePrivateKey) -> Resolved:
    """What the SOAP message ``data`` says of the artifact that was asked about.

    ``known`` are the certificates of the identity provider, ``key`` is ours, for what is encrypted. The person is read
    only where the Response or the assertion is signed; every signature that is there must be valid. Whether it all
    holds here and now has still to be asked. Raises :class:`SecurityRefused`.
    """
    element = _of_soap(data)
    outer = read_enveloped(element, _RULES, "artifact-response", known, _LIMITS)
    answer = _answer(outer.node, signed=outer.by is not None)
    responses = [child for child in element if child.tag == _RESPONSE]
    if outer.node.maybe("response") is None or len(responses) != 1:
        return Resolved(answer, None, None)
    # Where it stands, so that the names of namespaces which its signature counts are all there.
    inner = read_enveloped(responses[0], _RULES, "response", known, _LIMITS)
    response = _answer(inner.node, signed=inner.by is not None)
    encrypted = inner.node.maybe("encrypted-assertion")
    if encrypted is None or not response.status.succeeded:
        return Resolved(answer, response, None)
    plain = decrypt(encrypted.one("encrypted-data"), key)
    try:
        root = parse_message(plain, _LIMITS)
    except XmlRefused:
        raise SecurityRefused("what was encrypted cannot be read") from None
    assertion = read_enveloped(root, _RULES, "assertion", known, _LIMITS)
    if not response.signed and assertion.by is None:
        raise SecurityRefused("neither the Response nor the assertion is signed")
    return Resolved(answer, response, _assertion(assertion.node))


def read_logout_response(data: bytes, known: Sequence[Certificate]) -> Answer:
    """The LogoutResponse in the SOAP message ``data``. Raises :class:`SecurityRefused`."""
    read = read_enveloped(_of_soap(data), _RULES, "logout-response", known, _LIMITS)
    return _answer(read.node, signed=read.by is not None)


def _of_soap(data: bytes) -> Any:
    """The one element in the Body of a SOAP 1.1 message; what its Header says is not looked at."""
    try:
        root = parse_message(data, _LIMITS)
    except XmlRefused:
        raise SecurityRefused("the answer cannot be read") from None
    body = root[-1] if len(root) else None
    if root.tag != f"{{{SOAP_11}}}Envelope" or body is None or body.tag != f"{{{SOAP_11}}}Body" or len(body) != 1:
        raise SecurityRefused("the answer is no SOAP message with one element")
    if body[0].tag == f"{{{SOAP_11}}}Fault":
        raise SecurityRefused("the answer is a SOAP fault")
    return body[0]


def _answer(node: Node, *, signed: bool) -> Answer:
    code = node.one("status").one("status-code")
    second = code.maybe("second-status-code")
    given = node.attributes
    return Answer(
        id=given["ID"],
        in_response_to=given["InResponseTo"],
        issued_at=_time(given["IssueInstant"]),
        destination=given.get("Destination", ""),
        issuer=node.one("issuer").text,
        status=Status(code.attributes["Value"], "" if second is None else second.attributes["Value"]),
        signed=signed,
    )


def _assertion(node: Node) -> Assertion:
    subject, conditions, authn = node.one("subject"), node.one("conditions"), node.one("authn-statement")
    confirmation = subject.one("confirmation").one("confirmation-data").attributes
    until = authn.attributes.get("SessionNotOnOrAfter")
    return Assertion(
        id=node.attributes["ID"],
        issuer=node.one("issuer").text,
        issued_at=_time(node.attributes["IssueInstant"]),
        name_id=subject.one("name-id").text,
        in_response_to=confirmation["InResponseTo"],
        recipient=confirmation["Recipient"],
        confirmed_until=_time(confirmation["NotOnOrAfter"]),
        not_before=_time(conditions.attributes["NotBefore"]),
        not_on_or_after=_time(conditions.attributes["NotOnOrAfter"]),
        audiences=tuple(tuple(a.text for a in r.children) for r in conditions.all("audience-restriction")),
        authenticated_at=_time(authn.attributes["AuthnInstant"]),
        session_index=authn.attributes.get("SessionIndex", ""),
        session_until=None if until is None else _time(until),
        level=authn.one("authn-context").one("authn-context-class").text,
        attributes=_attributes(node.one("attribute-statement")),
    )


def _attributes(statement: Node) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in statement.children:
        name = node.attributes["Name"]
        if name in found or len(node.children) != 1:
            raise SecurityRefused("an attribute is given more than once")
        found[name] = node.children[0].text.strip()
    return found


def _time(value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise SecurityRefused("a time that does not exist") from None


class Provider(NamedTuple):
    """What metadata say of an identity provider (SAML 2.0 Metadata, section 2.4.3)."""

    entity_id: str
    sign_on_url: str
    artifact_url: str
    logout_url: str
    certificates: tuple[bytes, ...]


def read_metadata(data: bytes) -> Provider:
    """The identity provider of an EntityDescriptor. Raises ValueError for what names none that can be used.

    Metadata come from the operator's own file: their signature is not looked at.
    """
    md = f"{{{_SAML['metadata']}}}"
    try:
        root = parse_message(data, XmlLimits(bytes_max=1 << 20))
    except XmlRefused as error:
        raise ValueError(f"the metadata cannot be read: {error}") from None
    descriptor = root.find(f"{md}IDPSSODescriptor")
    if root.tag != f"{md}EntityDescriptor" or descriptor is None or not root.get("entityID"):
        raise ValueError("the metadata are no EntityDescriptor of one identity provider")

    def address(service: str, binding: str) -> str:
        return next((s.get("Location", "") for s in descriptor.iter(md + service) if s.get("Binding") == binding), "")

    try:
        certificates = tuple(
            base64(found.text or "")
            for key in descriptor.iter(f"{md}KeyDescriptor")
            if key.get("use", "signing") == "signing"
            for found in key.iter(f"{{{_DS}}}X509Certificate")
        )
    except SecurityRefused as error:
        raise ValueError(f"the metadata cannot be read: {error}") from None
    return Provider(
        root.get("entityID"),
        address("SingleSignOnService", _SAML["post"]),
        address("ArtifactResolutionService", _SAML["soap"]),
        address("SingleLogoutService", _SAML["soap"]),
        certificates,
    )
