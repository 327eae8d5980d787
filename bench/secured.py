"""The node under test where everybody must prove who they are: ``python -m bench.secured --settings FILE …``.

It trusts one issuer of assertions, whose key lies in the folder of the bench, and takes every caller for a client whose
certificate a proxy has checked: the price of TLS is not what is measured.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bench.messages import NUMBER_MARK, Message
from bench.node import serve_built
from obieg.actors.authentication import TrustedAuthentication
from obieg.domain.requester import Requester
from obieg.domain.trust import TrustedNode
from obieg.ops import wiring
from obieg.ops.settings import Settings
from obieg.ops.trust_file import read_trust
from obieg.protocol import Credentials
from obieg.wire import soap

ISSUER, AUDIENCE = "https://sts.example.org", "https://region.example.org"
TRUST_FILE, _KEY_FILE = "trust.json", "sts.pem"
_ATTRIBUTES = {
    "urn:oasis:names:tc:xspa:1.0:subject:subject-id": "Anna Kowalska",
    "urn:oasis:names:tc:xspa:1.0:subject:organization-id": "urn:oid:2.16.840.1.113883.3.4424.2.3.1",
    "urn:oasis:names:tc:xacml:2.0:subject:role": "medical doctor",
    "urn:oasis:names:tc:xspa:1.0:subject:purposeofuse": "TREAT",
}
_ALGORITHM = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"


class BehindProxy:
    """Whoever calls is the client whose certificate this is."""

    def __init__(self, settings: Settings) -> None:
        trust = read_trust(settings.data_dir / TRUST_FILE)
        self._certificate = trust.client_authorities[0]
        self._inner = TrustedAuthentication(trust, clock=wiring.utc_now, strangers=TrustedNode("", (), None))

    async def authenticate(self, credentials: Credentials) -> Requester:
        return await self._inner.authenticate(replace(credentials, certificate=self._certificate))


def build(settings: Settings) -> wiring.Node:
    """A node of the settings behind that door; all assertions are of one person, who asks more than a person may."""
    limits = settings.limits.model_copy(update={"person_requests_per_second": 1_000_000})
    settings = settings.model_copy(update={"limits": limits})
    wiring.LaboratoryAuthentication = lambda: BehindProxy(settings)  # type: ignore[assignment,misc]
    return wiring.build(settings)


class Issuer:
    """Signs assertions as fast as the processor can: their canonical form is written, not made."""

    def __init__(self, folder: Path) -> None:
        path = folder / _KEY_FILE
        if not path.exists():
            path.write_bytes(_new_identity())
        self._key = serialization.load_pem_private_key(path.read_bytes(), None)
        read = x509.load_pem_x509_certificate(path.read_bytes())
        certificate = base64.b64encode(read.public_bytes(serialization.Encoding.DER)).decode()
        inner = f"<ds:X509Certificate>{certificate}</ds:X509Certificate>"
        self._key_info = f"<ds:KeyInfo><ds:X509Data>{inner}</ds:X509Data></ds:KeyInfo>"
        listed = {"saml_issuers": [{"entity_id": ISSUER, "certificate": certificate, "audience": AUDIENCE}]}
        (folder / TRUST_FILE).write_text(json.dumps(listed | {"client_cas": certificate}))

    def assertions(self, first: int) -> Iterator[bytes]:
        """Any number of them, each with an identifier of its own, all of one length and on one line."""
        while True:
            yield self._assertion(f"_{first:020}")
            first += 1

    def _assertion(self, identifier: str) -> bytes:
        now = datetime.now(UTC).replace(microsecond=0)
        begins, issued, ends = (
            (now + timedelta(minutes=m)).strftime("%Y-%m-%dT%H:%M:%SZ") for m in (-1, 0, 120)
        )  # fmt: skip
        before = (
            f'<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="{identifier}" '
            f'IssueInstant="{issued}" Version="2.0"><saml:Issuer>{ISSUER}</saml:Issuer>'
        )
        attributes = "".join(
            f'<saml:Attribute Name="{name}"><saml:AttributeValue>{value}</saml:AttributeValue></saml:Attribute>'
            for name, value in _ATTRIBUTES.items()
        )
        behind = (
            "<saml:Subject><saml:NameID>anna</saml:NameID><saml:SubjectConfirmation "
            'Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"></saml:SubjectConfirmation></saml:Subject>'
            f'<saml:Conditions NotBefore="{begins}" NotOnOrAfter="{ends}"><saml:AudienceRestriction><saml:Audience>'
            f"{AUDIENCE}</saml:Audience></saml:AudienceRestriction></saml:Conditions>"
            f'<saml:AuthnStatement AuthnInstant="{issued}"><saml:AuthnContext><saml:AuthnContextClassRef>'
            "urn:oasis:names:tc:SAML:2.0:ac:classes:X509</saml:AuthnContextClassRef></saml:AuthnContext>"
            f"</saml:AuthnStatement><saml:AttributeStatement>{attributes}</saml:AttributeStatement></saml:Assertion>"
        )
        digest = base64.b64encode(hashlib.sha256((before + behind).encode()).digest()).decode()
        inner = (
            f'<ds:CanonicalizationMethod Algorithm="{_EXCLUSIVE}"></ds:CanonicalizationMethod>'
            f'<ds:SignatureMethod Algorithm="{_ALGORITHM}"></ds:SignatureMethod><ds:Reference URI="#{identifier}">'
            '<ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature">'
            f'</ds:Transform><ds:Transform Algorithm="{_EXCLUSIVE}"></ds:Transform></ds:Transforms><ds:DigestMethod '
            'Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></ds:DigestMethod>'
            f"<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
        )
        namespace = ' xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
        signed = f"<ds:SignedInfo{namespace}>{inner}".encode()
        assert isinstance(self._key, rsa.RSAPrivateKey)
        value = base64.b64encode(self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())).decode()
        signature = (
            f"<ds:Signature{namespace}><ds:SignedInfo>{inner}<ds:SignatureValue>{value}</ds:SignatureValue>"
            f"{self._key_info}</ds:Signature>"
        )
        return f"{before}{signature}{behind}".encode()


def with_assertion(message: Message, assertion: bytes) -> Message:
    """``message`` with an assertion in its header, and with an identifier that no other message has."""
    opening = b'<wsse:Security xmlns:wsse="%b" s:mustUnderstand="1">' % soap.WSSE.encode()
    security = b"%b%b</wsse:Security></s:Header>" % (opening, assertion)
    body = message.body.replace(b"</s:Header>", security, 1)
    begin = body.index(b"<wsa:MessageID>") + len(b"<wsa:MessageID>")
    end = body.index(b"<", begin)
    return replace(message, body=b"%burn:obieg:%b%b" % (body[:begin], NUMBER_MARK.encode(), body[end:]))


def _new_identity() -> bytes:
    """A key and its certificate, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sts.example.org")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + certificate.public_bytes(pem)


if __name__ == "__main__":
    serve_built("bench.secured:build")
