"""Assertions and messages that are signed by libraries that nobody here wrote."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import signxml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from lxml import etree
from signxml.algorithms import CanonicalizationMethod

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
DS = "http://www.w3.org/2000/09/xmldsig#"
SOAP = "http://www.w3.org/2003/05/soap-envelope"
WSA = "http://www.w3.org/2005/08/addressing"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
HL7 = "urn:hl7-org:v3"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
CM = "urn:oasis:names:tc:SAML:2.0:cm:"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ISSUER = "https://sts.example.pl"
AUDIENCE = "https://region.example.pl"
X509V3 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
BASE64 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"


@dataclass(frozen=True)
class Identity:
    """A key with its certificate."""

    key: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def der64(self) -> str:
        return base64.b64encode(self.der).decode()


@cache
def identity(
    name: str, kind: str = "rsa2048", *, begins: datetime = NOW - timedelta(days=30), days: int = 3650
) -> Identity:
    """One for each name, the same within a run."""
    if kind == "e3":
        key: Any = rsa.generate_private_key(public_exponent=3, key_size=2048)
    elif kind.startswith("rsa"):
        key = rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:]))
    else:
        key = ec.generate_private_key({"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}[kind])
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"{name}.example.pl")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Identity(key, certificate)


def zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def text_attribute(name: str, *values: str) -> str:
    inner = "".join(f"<saml:AttributeValue>{v}</saml:AttributeValue>" for v in values)
    return f'<saml:Attribute Name="{name}">{inner}</saml:Attribute>'


ROLE = "urn:oasis:names:tc:xacml:2.0:subject:role"
PURPOSE = "urn:oasis:names:tc:xspa:1.0:subject:purposeofuse"
ORGANISATION = "urn:oasis:names:tc:xspa:1.0:subject:organization-id"
SUBJECT = "urn:oasis:names:tc:xspa:1.0:subject:subject-id"
PATIENT = "urn:oasis:names:tc:xacml:2.0:resource:resource-id"


def coded_attribute(name: str, element: str, code: str, system: str) -> str:
    return (
        f'<saml:Attribute Name="{name}"><saml:AttributeValue><{element} xmlns="{HL7}" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CE" code="{code}" codeSystem="{system}"/>'
        "</saml:AttributeValue></saml:Attribute>"
    )


ATTRIBUTES = (
    text_attribute(SUBJECT, "Jan Kowalski")
    + text_attribute(ORGANISATION, "urn:oid:2.16.840.1.113883.3.4424.2.3.1")
    + coded_attribute(ROLE, "Role", "112247003", "2.16.840.1.113883.6.96")
    + coded_attribute(PURPOSE, "PurposeOfUse", "TREAT", "2.16.840.1.113883.1.11.20448")
)


@dataclass(kw_only=True)
class Assertion:
    """An assertion before it is signed; every piece may be replaced."""

    id: str = field(default_factory=lambda: f"_{uuid.uuid4().hex}")
    issuer: str = ISSUER
    name_id: str = "dr"
    now: datetime = NOW
    method: str = f"{CM}bearer"
    data: str = ""  # SubjectConfirmationData
    issue_instant: str = ""
    not_before: str = ""
    not_on_or_after: str = ""
    conditions: str = f"<saml:AudienceRestriction><saml:Audience>{AUDIENCE}</saml:Audience></saml:AudienceRestriction>"
    authn: str = ""
    attributes: str = ATTRIBUTES
    version: str = "2.0"
    extra: str = ""  # before the end

    def xml(self) -> str:
        now = self.now
        authn = self.authn or (
            f'<saml:AuthnStatement AuthnInstant="{zulu(now)}"><saml:AuthnContext><saml:AuthnContextClassRef>'
            "urn:oasis:names:tc:SAML:2.0:ac:classes:X509</saml:AuthnContextClassRef></saml:AuthnContext>"
            "</saml:AuthnStatement>"
        )
        statement = f"<saml:AttributeStatement>{self.attributes}</saml:AttributeStatement>" if self.attributes else ""
        return (
            f'<saml:Assertion xmlns:saml="{SAML}" ID="{self.id}" Version="{self.version}" '
            f'IssueInstant="{self.issue_instant or zulu(now)}"><saml:Issuer>{self.issuer}</saml:Issuer>'
            f'<ds:Signature xmlns:ds="{DS}" Id="placeholder"/>'
            f"<saml:Subject><saml:NameID>{self.name_id}</saml:NameID>"
            f'<saml:SubjectConfirmation Method="{self.method}">{self.data}</saml:SubjectConfirmation></saml:Subject>'
            f'<saml:Conditions NotBefore="{self.not_before or zulu(now - timedelta(minutes=1))}" '
            f'NotOnOrAfter="{self.not_on_or_after or zulu(now + timedelta(minutes=10))}">{self.conditions}'
            f"</saml:Conditions>{authn}{statement}{self.extra}</saml:Assertion>"
        )

    def signed(self, by: Identity, **options: Any) -> bytes:
        """Signed by signxml."""
        return sign(self.xml().encode(), by, self.id, **options)


def holder_of_rsa_key(holder: Identity) -> dict[str, str]:
    """The same by the numbers of the key."""
    numbers = holder.key.public_key().public_numbers()
    modulus, exponent = (
        base64.b64encode(n.to_bytes((n.bit_length() + 7) // 8)).decode() for n in (numbers.n, numbers.e)
    )
    return {
        "method": f"{CM}holder-of-key",
        "data": (
            f'<saml:SubjectConfirmationData><ds:KeyInfo xmlns:ds="{DS}"><ds:KeyValue><ds:RSAKeyValue>'
            f"<ds:Modulus>{modulus}</ds:Modulus><ds:Exponent>{exponent}</ds:Exponent></ds:RSAKeyValue></ds:KeyValue>"
            "</ds:KeyInfo></saml:SubjectConfirmationData>"
        ),
    }


class Signer(signxml.XMLSigner):
    """signxml's, also with what it warns of: for messages that must be refused."""

    def check_deprecated_methods(self) -> None:
        """Nothing is too old for a hostile message."""


def sign(xml: bytes, by: Identity, reference: str, **options: Any) -> bytes:
    """An element with a placeholder, with its enveloped signature."""
    algorithm = options.pop("algorithm", None)
    if algorithm is None:
        algorithm = "rsa-sha256" if isinstance(by.key, rsa.RSAPrivateKey) else "ecdsa-sha256"
    signer = Signer(
        method=signxml.methods.enveloped,
        signature_algorithm=algorithm,
        digest_algorithm=options.pop("digest", "sha256"),
        c14n_algorithm=options.pop("c14n", CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0),
    )
    signed = signer.sign(etree.fromstring(xml), key=by.key, cert=[by.certificate], reference_uri=reference, **options)
    return etree.tostring(signed)


def envelope(
    security: bytes,
    *,
    body: str = "<q:Question xmlns:q='urn:q'>?</q:Question>",
    message_id: str = "",
    header: str = "",
    action: str = "urn:ihe:iti:2007:RegistryStoredQuery",
    security_attributes: str = 's:mustUnderstand="1"',
    body_attributes: str = "",
) -> bytes:
    """A message whose Security header has ``security`` in it."""
    identifier = message_id or f"urn:uuid:{uuid.uuid4()}"
    return (
        (
            f'<s:Envelope xmlns:s="{SOAP}" xmlns:wsa="{WSA}" xmlns:wsse="{WSSE}" xmlns:wsu="{WSU}"><s:Header>'
            f"<wsa:Action>{action}</wsa:Action><wsa:MessageID>{identifier}</wsa:MessageID>{header}"
            f"<wsse:Security {security_attributes}>"
        ).encode()
        + security
        + f"</wsse:Security></s:Header><s:Body{body_attributes}>{body}</s:Body></s:Envelope>".encode()
    )


def holder_of_key(holder: Identity) -> dict[str, str]:
    """What an assertion says when only ``holder`` may use it."""
    return {
        "method": f"{CM}holder-of-key",
        "data": (
            f'<saml:SubjectConfirmationData><ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data><ds:X509Certificate>'
            f"{holder.der64}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></saml:SubjectConfirmationData>"
        ),
    }


def signed_envelope(
    assertion: bytes,
    by: Identity,
    *,
    now: datetime = NOW,
    references: tuple[str, ...] = ("Body-1", "TS-1"),
    expires: datetime | None = None,
    body: str = "<q:Question xmlns:q='urn:q'>?</q:Question>",
    message_id: str = "",
    action: str = "urn:ihe:iti:2007:RegistryStoredQuery",
    prefixes: str = "",
    algorithm: str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
) -> bytes:
    """A message whose Body and Timestamp are signed by xmlsec1's library."""
    import xmlsec

    token = (
        f'<wsse:BinarySecurityToken wsu:Id="X509-1" ValueType="{X509V3}" EncodingType="{BASE64}">{by.der64}'
        "</wsse:BinarySecurityToken>"
    )
    until = expires or now + timedelta(seconds=300)
    timestamp = (
        f'<wsu:Timestamp wsu:Id="TS-1"><wsu:Created>{zulu(now)}</wsu:Created><wsu:Expires>{zulu(until)}</wsu:Expires>'
        "</wsu:Timestamp>"
    )
    inclusive = f'<ec:InclusiveNamespaces xmlns:ec="{EXCLUSIVE}" PrefixList="{prefixes}"/>' if prefixes else ""
    reference = "".join(
        f'<ds:Reference URI="#{r}"><ds:Transforms><ds:Transform Algorithm="{EXCLUSIVE}">{inclusive}</ds:Transform>'
        '</ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue/>'
        "</ds:Reference>"
        for r in references
    )
    signature = (
        f'<ds:Signature xmlns:ds="{DS}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{EXCLUSIVE}">{inclusive}'
        f'</ds:CanonicalizationMethod><ds:SignatureMethod Algorithm="{algorithm}"/>{reference}</ds:SignedInfo>'
        "<ds:SignatureValue/><ds:KeyInfo><wsse:SecurityTokenReference>"
        f'<wsse:Reference URI="#X509-1" ValueType="{X509V3}"/></wsse:SecurityTokenReference></ds:KeyInfo></ds:Signature>'
    )
    whole = envelope(
        b"".join((assertion, token.encode(), timestamp.encode(), signature.encode())),
        body=body,
        message_id=message_id,
        action=action,
        body_attributes=' wsu:Id="Body-1"',
    )
    root = etree.fromstring(whole)
    for element in root.iter(f"{{{SOAP}}}Body", f"{{{WSU}}}Timestamp", f"{{{WSSE}}}BinarySecurityToken"):
        xmlsec.tree.add_ids(element, ["Id"])
    context = xmlsec.SignatureContext()
    for element in root.iter(f"{{{SOAP}}}Body", f"{{{WSU}}}Timestamp", f"{{{WSSE}}}BinarySecurityToken"):
        context.register_id(element, "Id", WSU)
    context.key = xmlsec.Key.from_memory(by.key_pem, xmlsec.KeyFormat.PEM)
    context.sign(root[0].find(f"{{{WSSE}}}Security/{{{DS}}}Signature"))
    return etree.tostring(root)


# forging ---------------------------------------------------------------------------------------------------------------

_ENVELOPED = f'<ds:Transform Algorithm="{DS}enveloped-signature"/>'
_TRANSFORM = f'<ds:Transform Algorithm="{EXCLUSIVE}"/>'
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"


def canonical(element: Any) -> bytes:
    return etree.tostring(element, method="c14n", exclusive=True)


def by_rsa_sha256(by: Identity) -> Callable[[bytes], bytes]:
    return lambda data: by.key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def forge(
    xml: str,
    by: Identity | None,
    *,
    uri: str = "",
    signature_method: str = f'<ds:SignatureMethod Algorithm="{RSA_SHA256}"/>',
    canonicalization: str = f'<ds:CanonicalizationMethod Algorithm="{EXCLUSIVE}"/>',
    transforms: str = _ENVELOPED + _TRANSFORM,
    digest_method: str = SHA256,
    digest: Callable[[bytes], bytes] = lambda data: hashlib.sha256(data).digest(),
    make_canonical: Callable[[Any], bytes] = canonical,
    sign_with: Callable[[bytes], bytes] | None = None,
    more_references: str = "",
    reference_attributes: str | None = None,
    after_value: str = "",
    signature_attributes: str = "",
) -> bytes:
    """An assertion signed step by step, so that one thing can be wrong and everything else right."""
    root = etree.fromstring(xml)
    signature = root.find(f"{{{DS}}}Signature")
    tail, before = signature.tail, signature.getprevious()
    root.remove(signature)
    if tail and before is not None:
        before.tail = (before.tail or "") + tail
    value = base64.b64encode(digest(make_canonical(root))).decode()
    named = reference_attributes if reference_attributes is not None else f'URI="{uri or "#" + root.get("ID", "")}"'
    info = (
        f'<ds:SignedInfo xmlns:ds="{DS}">{canonicalization}{signature_method}<ds:Reference {named}>'
        f'<ds:Transforms>{transforms}</ds:Transforms><ds:DigestMethod Algorithm="{digest_method}"/>'
        f"<ds:DigestValue>{value}</ds:DigestValue></ds:Reference>{more_references}</ds:SignedInfo>"
    )
    signed = (sign_with or by_rsa_sha256(by))(canonical(etree.fromstring(info)))  # type: ignore[arg-type]
    text = (
        f'<ds:Signature xmlns:ds="{DS}"{signature_attributes}>{info}<ds:SignatureValue>'
        f"{base64.b64encode(signed).decode()}</ds:SignatureValue>{after_value}</ds:Signature>"
    )
    return etree.tostring(etree.fromstring(xml)).replace(
        f'<ds:Signature xmlns:ds="{DS}" Id="placeholder"/>'.encode(), text.encode()
    )
