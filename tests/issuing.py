"""Requests for tokens, and what comes back, for tests of the token service."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree

from obieg.actors.security_token_service import SecurityTokenService
from obieg.domain.audit import AuditObject
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.protocol import Context, SoapReply, SoapRequest
from obieg.transactions.wst_issue_token import TRANSACTION
from obieg.wire.saml_writer import SigningKey, read_key

WST = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
WSA = "http://www.w3.org/2005/08/addressing"
WSP = "http://schemas.xmlsoap.org/ws/2004/09/policy"
DS = "http://www.w3.org/2000/09/xmldsig#"
XSPA = "urn:oasis:names:tc:xspa:1.0:subject:"
NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
HOME = "2.16.840.1.113883.3.9999.1"
ENTITY = f"urn:oid:{HOME}"
TARGET = "https://region.example.pl/services/sts"
HOSPITAL = Requester(system="hospital", address="192.0.2.7", proof="certificate", organisation="hospital")


@cache
def identity(name: str, kind: str = "rsa2048") -> tuple[Any, bytes, bytes]:
    """Key, its PEM, and the DER of a certificate."""
    key: Any = (
        rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:]))
        if kind.startswith("rsa")
        else ec.generate_private_key({"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}[kind])
    )
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key, pem, certificate.public_bytes(serialization.Encoding.DER)


def signing_key(kind: str = "rsa2048") -> SigningKey:
    _, pem, der = identity("sts", kind)
    return read_key(pem, (der,))


def stated(name: str, value: str) -> str:
    return (
        f'<saml:Attribute xmlns:saml="{SAML}" Name="{name}"><saml:AttributeValue>{value}</saml:AttributeValue>'
        "</saml:Attribute>"
    )


SUBJECT = stated(f"{XSPA}subject-id", 'Anna Kowalska &amp; &lt;córki&gt; "s"')
ORGANISATION = stated(f"{XSPA}organization-id", "2.16.840.1.113883.3.4424.2.3.1#000000012345")
CHILD = stated(f"{XSPA}child-organization", "2.16.840.1.113883.3.4424.2.3.2#1")
PERSON = stated("urn:ihe:iti:xua:2017:subject:provider-identifier",
                '<id xmlns="urn:hl7-org:v3" root="2.16.840.1.113883.3.4424.1.6.2" extension="7654321"/>')  # fmt: skip
ROLE = stated(
    "urn:oasis:names:tc:xacml:2.0:subject:role",
    '<Role xmlns="urn:hl7-org:v3" code="112247003" codeSystem="2.16.840.1.113883.6.96"/>',
)
PURPOSE = stated(
    f"{XSPA}purposeofuse", '<PurposeOfUse xmlns="urn:hl7-org:v3" code="TREAT" codeSystem="2.16.840.1.113883.5.8"/>'
)
PATIENT = stated("urn:oasis:names:tc:xacml:2.0:resource:resource-id", "12^^^&amp;1.2.3.4&amp;ISO")
ALL = SUBJECT + stated(f"{XSPA}organization", "Szpital") + ORGANISATION + CHILD + PERSON + ROLE + PURPOSE + PATIENT
POLISH = (
    stated("urn:oasis:names:tc:SAML:attribute:subject-id", "2.16.840.1.113883.3.4424.1.6.2#7654321")
    + ORGANISATION + CHILD
    + stated(f"{XSPA}functional-role", "medical doctor")
    + stated("urn:oasis:names:tc:xacml:2.0:action:purpose", "CONTT")
    + stated("urn:oasis:names:tc:xacml:1.0:resource:resource-id", "2.16.840.1.113883.3.4424.1.1.616#70032816894")
    + stated("urn:p1:source-organization", "2.16.840.1.113883.3.4424.8.2#07")
)  # fmt: skip


def claims(*attributes: str) -> str:
    return f'<wst:Claims Dialect="urn:example">{"".join(attributes)}</wst:Claims>'


def applies_to(address: str) -> str:
    return (
        f'<wsp:AppliesTo xmlns:wsp="{WSP}"><wsa:EndpointReference xmlns:wsa="{WSA}"><wsa:Address>{address}'
        "</wsa:Address></wsa:EndpointReference></wsp:AppliesTo>"
    )


def lifetime(begins: datetime | None, ends: datetime) -> str:
    created = "" if begins is None else f"<u:Created>{begins.isoformat()}</u:Created>"
    return f'<wst:Lifetime xmlns:u="{WSU}">{created}<u:Expires>{ends.isoformat()}</u:Expires></wst:Lifetime>'


def rst(*content: str, kind: str = "Issue") -> bytes:
    return (
        f'<wst:RequestSecurityToken xmlns:wst="{WST}"><wst:RequestType>{WST}/{kind}</wst:RequestType>'
        f"{''.join(content)}</wst:RequestSecurityToken>"
    ).encode()


@dataclass
class Asked:
    """An answer, and what is audited of it."""

    reply: SoapReply
    objects: tuple[AuditObject, ...]
    codes: tuple[str, ...] = ()
    root: Any = field(init=False)

    def __post_init__(self) -> None:
        self.root = None if self.reply.fault else etree.fromstring(self.reply.body)

    @property
    def assertion(self) -> bytes:
        """As the client takes it out of the answer."""
        return etree.tostring(self.element, method="c14n", exclusive=True)

    @property
    def element(self) -> Any:
        (found,) = self.root.iter(f"{{{SAML}}}Assertion")
        return found

    @property
    def fault(self) -> str:
        assert self.reply.fault is not None
        return self.reply.fault.subcode

    def text(self, name: str) -> list[str]:
        return [e.text for e in self.element.iter(f"{{{SAML}}}{name}")]

    def values(self) -> dict[str, str]:
        """The attributes: text, or the XML attributes of an HL7 value."""
        found = {}
        for one in self.element.iter(f"{{{SAML}}}Attribute"):
            (value,) = one
            name = one.get("Name")
            found[name] = value.text or " ".join(v for k, v in value[0].items() if not k.startswith("{"))
        return found


def ask(
    body: bytes,
    requester: Requester = HOSPITAL,
    *,
    key: SigningKey | None = None,
    kind: str = "Issue",
    certificate: bytes | None = None,
    security: Any = None,
    organisations: dict[str, str] | None = None,
) -> Asked:
    """What the token service answers, without network and database."""
    numbers = iter(range(1_000))
    service = SecurityTokenService(
        key or signing_key(),
        issuer=ENTITY,
        home_community_id=HOME,
        organisations=organisations or {},
        new_uuid=lambda: f"00000000-0000-4000-8000-{next(numbers):012}",
    )
    message = SoapRequest(
        etree.fromstring(body),
        action=f"{WST}/RST/{kind}",
        target=TARGET,
        certificate=certificate,
        security=security,
    )
    context = Context(TRANSACTION, requester, "r", NOW)
    try:
        request = TRANSACTION.decode(message)
        context.objects = TRANSACTION.audit(request)
        result = asyncio.run(TRANSACTION.serve(service, request, context))
    except Problem as problem:
        reply = TRANSACTION.refuse(problem.findings, message)
        return Asked(reply, context.objects, tuple(f.code for f in problem.findings))
    return Asked(TRANSACTION.encode(result, message), context.objects)
