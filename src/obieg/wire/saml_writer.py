"""Writes and signs SAML 2.0 assertions (SAML 2.0 Core; XML Signature 1.1).

What is written is its own exclusive canonical form: each prefix is declared on the outermost element that uses it,
attributes stand in the canonical order, and nothing is empty-tagged. So what is signed are the bytes that are sent.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from obieg.codes.load import toml

_TABLE = toml("saml.toml")
_NS: dict[str, str] = _TABLE["namespaces"]
_KEYS = _TABLE["keys"]
_METHODS: dict[str, str] = {name: uri for uri, name in _TABLE["confirmation"].items()}
_SHA256 = next(uri for uri, name in _TABLE["digest_algorithm"].items() if name == "sha256")
_ALGORITHMS: dict[str, str] = {
    row["key"]: uri for uri, row in _TABLE["signature_algorithm"].items() if row["hash"] == "sha256"
}
_ENVELOPED: str = _TABLE["rule"]["enveloped"]["attributes"]["Algorithm"][0]
_EXCLUSIVE: str = _TABLE["rule"]["exclusive"]["attributes"]["Algorithm"][0]
# Of the schema (SAML 2.0 Core, section 2.4.1.3); its prefix is that of the assertion.
_HOLDER_TYPE = "saml:KeyInfoConfirmationDataType"
_URI = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"  # SAML 2.0 Core, section 8.2.2


class SigningKey(NamedTuple):
    """A private key with its certificate."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    certificate: bytes  # DER


class Stated(NamedTuple):
    """An attribute of the subject: text, or one HL7 v3 value whose XML attributes are ``given``."""

    name: str
    text: str = ""
    element: str = ""  # Role, PurposeOfUse, id
    given: tuple[tuple[str, str], ...] = ()
    type: str = ""  # xsi:type of the HL7 value


class Draft(NamedTuple):
    """An assertion before it is written; times carry their offset."""

    id: str
    issuer: str
    issued_at: datetime
    until: datetime
    name_id: str
    name_id_format: str
    audiences: tuple[str, ...]
    authenticated_at: datetime
    authn_context: str
    holder: bytes = b""  # DER: the certificate of whom alone it may be used by; none: of any bearer
    attributes: tuple[Stated, ...] = ()


def read_key(key_pem: bytes, certificates: Sequence[bytes]) -> SigningKey:
    """The key of PEM with its certificate of DER. Raises ValueError where there is none or the key is too weak."""
    key = load_pem_private_key(key_pem, None)
    if isinstance(key, rsa.RSAPrivateKey):
        fits = _KEYS["rsa_bits_min"] <= key.key_size <= _KEYS["rsa_bits_max"]
    else:
        fits = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _KEYS["curves"]
    if not fits or not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError("the key is of a kind or size that no verifier accepts")
    for certificate in certificates:
        if x509.load_der_x509_certificate(certificate).public_key() == key.public_key():
            return SigningKey(key, certificate)
    raise ValueError("the certificates are of other keys")


def write_assertion(draft: Draft, key: SigningKey) -> bytes:
    """The assertion with its enveloped signature, in exclusive canonical form."""
    head = (
        f'<saml:Assertion xmlns:saml="{_NS["saml"]}" ID="{_attribute(draft.id)}" '
        f'IssueInstant="{_time(draft.issued_at)}" Version="2.0"><saml:Issuer>{_text(draft.issuer)}</saml:Issuer>'
    ).encode()
    rest = "".join([*_subject(draft), *_conditions(draft), *_statements(draft), "</saml:Assertion>"]).encode()
    return b"".join((head, _signature(draft.id, head + rest, key), rest))


def _subject(draft: Draft) -> list[str]:
    method = "holder-of-key" if draft.holder else "bearer"
    until = _time(draft.until)
    data = f'<saml:SubjectConfirmationData NotOnOrAfter="{until}"></saml:SubjectConfirmationData>'
    if draft.holder:
        data = (
            f'<saml:SubjectConfirmationData xmlns:xsi="{_NS["xsi"]}" NotOnOrAfter="{until}" xsi:type="{_HOLDER_TYPE}">'
            f'<ds:KeyInfo xmlns:ds="{_NS["ds"]}">{_x509(draft.holder)}</ds:KeyInfo></saml:SubjectConfirmationData>'
        )
    return [
        f'<saml:Subject><saml:NameID Format="{_attribute(draft.name_id_format)}">{_text(draft.name_id)}</saml:NameID>',
        f'<saml:SubjectConfirmation Method="{_METHODS[method]}">{data}</saml:SubjectConfirmation></saml:Subject>',
    ]


def _conditions(draft: Draft) -> list[str]:
    return [
        f'<saml:Conditions NotBefore="{_time(draft.issued_at)}" NotOnOrAfter="{_time(draft.until)}">',
        "<saml:AudienceRestriction>",
        *[f"<saml:Audience>{_text(audience)}</saml:Audience>" for audience in draft.audiences],
        "</saml:AudienceRestriction></saml:Conditions>",
    ]


def _statements(draft: Draft) -> list[str]:
    authn = (
        f'<saml:AuthnStatement AuthnInstant="{_time(draft.authenticated_at)}"><saml:AuthnContext>'
        f"<saml:AuthnContextClassRef>{_text(draft.authn_context)}</saml:AuthnContextClassRef>"
        "</saml:AuthnContext></saml:AuthnStatement>"
    )
    if not draft.attributes:
        return [authn]
    stated = [write_attribute(attribute) for attribute in draft.attributes]
    return [authn, "<saml:AttributeStatement>", *stated, "</saml:AttributeStatement>"]


def write_attribute(attribute: Stated) -> str:
    """One attribute; the prefix saml is declared around it."""
    value = _text(attribute.text)
    if attribute.element:
        given = "".join([f' {name}="{_attribute(content)}"' for name, content in sorted(attribute.given) if content])
        instance = f' xmlns:xsi="{_NS["xsi"]}"' if attribute.type else ""
        kind = f' xsi:type="{attribute.type}"' if attribute.type else ""
        value = f'<{attribute.element} xmlns="{_NS["hl7"]}"{instance}{given}{kind}></{attribute.element}>'
    return (
        f'<saml:Attribute Name="{_attribute(attribute.name)}" NameFormat="{_URI}">'
        f"<saml:AttributeValue>{value}</saml:AttributeValue></saml:Attribute>"
    )


def _signature(id_: str, signed: bytes, key: SigningKey) -> bytes:
    kind = "rsa" if isinstance(key.key, rsa.RSAPrivateKey) else "ecdsa"
    digest = b64encode(hashlib.sha256(signed).digest()).decode()
    content = (
        f'<ds:CanonicalizationMethod Algorithm="{_EXCLUSIVE}"></ds:CanonicalizationMethod>'
        f'<ds:SignatureMethod Algorithm="{_ALGORITHMS[kind]}"></ds:SignatureMethod>'
        f'<ds:Reference URI="#{_attribute(id_)}"><ds:Transforms>'
        f'<ds:Transform Algorithm="{_ENVELOPED}"></ds:Transform><ds:Transform Algorithm="{_EXCLUSIVE}"></ds:Transform>'
        f'</ds:Transforms><ds:DigestMethod Algorithm="{_SHA256}"></ds:DigestMethod>'
        f"<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    )
    # By itself, as it is signed, SignedInfo declares the prefix that in the Signature it inherits.
    value = _sign(key, f'<ds:SignedInfo xmlns:ds="{_NS["ds"]}">{content}'.encode())
    return (
        f'<ds:Signature xmlns:ds="{_NS["ds"]}"><ds:SignedInfo>{content}'
        f"<ds:SignatureValue>{b64encode(value).decode()}</ds:SignatureValue>"
        f"<ds:KeyInfo>{_x509(key.certificate)}</ds:KeyInfo></ds:Signature>"
    ).encode()


def _sign(key: SigningKey, data: bytes) -> bytes:
    """RFC 8017, section 8.2; XML Signature 1.1, section 6.4.3."""
    if isinstance(key.key, rsa.RSAPrivateKey):
        return key.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    size = (key.key.key_size + 7) // 8
    return b"".join(n.to_bytes(size) for n in decode_dss_signature(key.key.sign(data, ec.ECDSA(hashes.SHA256()))))


def _x509(der: bytes) -> str:
    return f"<ds:X509Data><ds:X509Certificate>{b64encode(der).decode()}</ds:X509Certificate></ds:X509Data>"


def _time(value: datetime) -> str:
    """xsd:dateTime in UTC with milliseconds."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03}Z"


def _replaced(value: str, table: Sequence[tuple[str, str]]) -> str:
    for character, reference in table:
        value = value.replace(character, reference)
    return value


def _text(value: str) -> str:
    """Canonical XML 1.0, section 2.3, text nodes."""
    return _replaced(value, (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#xD;")))


def _attribute(value: str) -> str:
    """Canonical XML 1.0, section 2.3, attribute nodes."""
    table = (("&", "&amp;"), ("<", "&lt;"), ('"', "&quot;"), ("\t", "&#x9;"), ("\n", "&#xA;"), ("\r", "&#xD;"))
    return _replaced(value, table)
