"""The identity provider itself, without a network: requests in, artifacts and answers out."""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import tomllib
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from lxml import etree
from signxml import DigestAlgorithm, SignatureConfiguration, SignatureMethod, XMLSigner, XMLVerifier

SAML, SAMLP = "urn:oasis:names:tc:SAML:2.0:assertion", "urn:oasis:names:tc:SAML:2.0:protocol"
MD, DS, SOAP = (
    "urn:oasis:names:tc:SAML:2.0:metadata",
    "http://www.w3.org/2000/09/xmldsig#",
    "http://schemas.xmlsoap.org/soap/envelope/",
)
XENC, XENC11 = "http://www.w3.org/2001/04/xmlenc#", "http://www.w3.org/2009/xmlenc11#"
DSIG11, XSI = "http://www.w3.org/2009/xmldsig11#", "http://www.w3.org/2001/XMLSchema-instance"
NATURAL = "http://eidas.europa.eu/attributes/naturalperson"
LEVELS = [f"http://eidas.europa.eu/LoA/{level}" for level in ("low", "substantial", "high")]
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_DECLARED = (
    f'xmlns:saml2p="{SAMLP}" xmlns:saml2="{SAML}" xmlns:ds="{DS}" xmlns:xenc="{XENC}" xmlns:xenc11="{XENC11}" '
    f'xmlns:dsig11="{DSIG11}" xmlns:naturalperson="{NATURAL}"'
)
_PLACE = '<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#" Id="placeholder"/>'
_CURVES = {"secp256r1": "urn:oid:1.2.840.10045.3.1.7", "secp384r1": "urn:oid:1.3.132.0.34"}
_PREFIXES = ["ds", "saml2", "saml2p", "xenc"]
PEOPLE: list[dict[str, str]] = tomllib.loads(
    files("standins.wezel_krajowy").joinpath("people.toml").read_text("utf-8")
)["person"]


class RequestRefused(Exception):  # noqa: N818 - the word of the house
    """The service provider did something that the identity provider does not accept."""


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How the stand-in answers. As it stands: right. A test changes what it is about."""

    level: str = LEVELS[1]
    content: str = "aes256-gcm"  # aes128-gcm; and, never to be accepted, aes256-cbc
    key_wrap: str = "kw-aes256"  # kw-aes128; and, never to be accepted, rsa-1_5
    derivation: str = "node"  # node: lengths before values, as seen; standard: XML Encryption 1.1; none: no values
    digest: str = "sha256"
    sign_outer: bool = True  # the ArtifactResponse
    sign_response: bool = True
    sign_assertion: bool = False  # as seen: the Response covers it
    certificate_in_signature: bool = True
    prefixes: bool = False  # signed by xmlsec, with a PrefixList as seen; else by signxml
    by_form: bool = False  # the artifact comes back by POST
    # None of these must be accepted:
    signed_by: str = "own"  # stranger; stranger with our certificate: "claimed"
    changed: str = ""  # what is changed after it was signed: outer, response, assertion
    encrypted_for: str = "recipient"  # another: for somebody else
    request: str = ""  # another request id
    confirmed_request: str = ""  # the same in the SubjectConfirmationData alone
    resolve: str = ""  # another ArtifactResolve
    issuer: str = ""
    response_issuer: str = ""
    outer_issuer: str = ""
    destination: str = ""
    recipient: str = ""
    audience: str = ""
    no_audience: bool = False
    response_id: str = ""  # one that was given before
    assertion_id: str = ""
    made: timedelta = timedelta(0)  # IssueInstant of the answers, from now
    begins: timedelta = timedelta(seconds=-5)  # NotBefore, from now
    ends: timedelta = timedelta(minutes=5)  # NotOnOrAfter of the conditions
    confirmed: timedelta = timedelta(minutes=5)  # NotOnOrAfter of the confirmation
    authenticated: timedelta = timedelta(0)
    status: str = ""  # second status code: AuthnFailed, RequestDenied
    pesel: str = ""  # another identifier
    drop: str = ""  # fact that is left out
    double: str = ""  # fact that is given twice
    replays: bool = False  # answers to an artifact again
    two_assertions: bool = False
    plain: bool = False  # the assertion is not encrypted
    instruction: bool = False  # XML that no parser should read: a DOCTYPE in the assertion


@dataclass
class KeyPair:
    """A key with its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str, curve: ec.EllipticCurve | None = None) -> KeyPair:
        """A new one, self-signed."""
        key = ec.generate_private_key(curve or ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        return cls(key, builder.not_valid_after(now + timedelta(days=30)).sign(key, hashes.SHA256()))

    @property
    def base64(self) -> str:
        """The certificate as metadata have it."""
        return b64encode(self.certificate.public_bytes(Encoding.DER)).decode()


@dataclass
class Client:
    """The service provider, as its metadata describe it."""

    entity_id: str
    consumer_url: str
    signing: x509.Certificate
    encryption: x509.Certificate

    @classmethod
    def of_metadata(cls, data: bytes) -> Client:
        """Reads EntityDescriptor."""
        root = etree.fromstring(data)
        ns = {"md": MD, "ds": DS}

        def certificate(use: str) -> x509.Certificate:
            (text,) = root.xpath(f"//md:KeyDescriptor[@use='{use}']//ds:X509Certificate/text()", namespaces=ns)
            return x509.load_der_x509_certificate(b64decode(text))

        (consumer,) = root.xpath("//md:AssertionConsumerService/@Location", namespaces=ns)
        return cls(root.get("entityID"), consumer, certificate("signing"), certificate("encryption"))


@dataclass
class Asked:
    """An AuthnRequest that was accepted."""

    request_id: str
    consumer_url: str
    level: str
    relay_state: str = ""


@dataclass
class _Kept:
    asked: Asked
    person: dict[str, str]
    behaviour: Behaviour
    used: bool = False


@dataclass
class Provider:
    """All that it remembers stands here, and is gone with it."""

    entity_id: str
    base: str
    people_file: Path | None = None  # whom it offers, instead of people.toml beside this module
    signing: KeyPair = field(default_factory=lambda: KeyPair.make("stand-in of the national node"))
    stranger: KeyPair = field(default_factory=lambda: KeyPair.make("stranger"))
    behaviour: Behaviour = field(default_factory=Behaviour)
    artifacts: dict[str, _Kept] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)  # NameID by SessionIndex
    given: list[tuple[str, str]] = field(default_factory=list)  # ids of Responses and assertions
    clients: dict[str, Client] = field(default_factory=dict)

    @property
    def people(self) -> list[dict[str, str]]:
        """Whom it offers now."""
        if self.people_file is None or not self.people_file.exists():
            return PEOPLE
        found: list[dict[str, str]] = tomllib.loads(self.people_file.read_text("utf-8"))["person"]
        return found

    @property
    def sign_on_url(self) -> str:
        """HTTP-POST."""
        return f"{self.base}/login/SingleSignOnService"

    @property
    def artifact_url(self) -> str:
        """SOAP."""
        return f"{self.base}/login-services/idpArtifactResolutionService"

    @property
    def logout_url(self) -> str:
        """SOAP."""
        return f"{self.base}/login-services/singleLogoutService"

    def metadata(self) -> bytes:
        """EntityDescriptor."""
        return (
            f'<md:EntityDescriptor xmlns:md="{MD}" entityID="{self.entity_id}"><md:IDPSSODescriptor '
            f'protocolSupportEnumeration="{SAMLP}" WantAuthnRequestsSigned="true"><md:KeyDescriptor use="signing">'
            f'<ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data><ds:X509Certificate>{self.signing.base64}</ds:X509Certificate>'
            f"</ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:ArtifactResolutionService "
            f'Binding="urn:oasis:names:tc:SAML:2.0:bindings:SOAP" Location="{self.artifact_url}" index="0"/>'
            f'<md:SingleLogoutService Binding="urn:oasis:names:tc:SAML:2.0:bindings:SOAP" '
            f'Location="{self.logout_url}"/><md:SingleSignOnService '
            f'Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="{self.sign_on_url}"/>'
            f"</md:IDPSSODescriptor></md:EntityDescriptor>"
        ).encode()

    # requests ---------------------------------------------------------------------------------------------------------

    def accept(self, saml_request: str, relay_state: str = "") -> Asked:
        """An AuthnRequest that came by HTTP-POST. Raises RequestRefused."""
        root, client = self._verified(b64decode(saml_request, validate=True), "AuthnRequest", self.sign_on_url)
        ns = {"saml2p": SAMLP, "saml2": SAML, "eidas": "http://eidas.europa.eu/saml-extensions"}

        def one(path: str) -> str:
            found = root.xpath(path, namespaces=ns)
            if len(found) != 1:
                raise RequestRefused(path)
            return str(found[0])

        wanted = {
            "@ProtocolBinding": "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Artifact",
            "@AssertionConsumerServiceURL": client.consumer_url,
            "saml2p:NameIDPolicy/@Format": "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified",
            "saml2p:RequestedAuthnContext/@Comparison": "minimum",
            "saml2p:Extensions/eidas:SPType/text()": "public",
        }
        for path, value in wanted.items():
            if one(path) != value:
                raise RequestRefused(path)
        names = root.xpath("saml2p:Extensions/eidas:RequestedAttributes/eidas:RequestedAttribute/@Name", namespaces=ns)
        facts = ("CurrentGivenName", "CurrentFamilyName", "DateOfBirth", "PersonIdentifier")
        if set(names) != {f"{NATURAL}/{fact}" for fact in facts}:
            raise RequestRefused("RequestedAttributes")
        level = one("saml2p:RequestedAuthnContext/saml2:AuthnContextClassRef/text()")
        if level not in LEVELS:
            raise RequestRefused("AuthnContextClassRef")
        return Asked(root.get("ID"), client.consumer_url, level, relay_state)

    def issue(self, asked: Asked, person: dict[str, str] | None = None) -> str:
        """The artifact for somebody who has chosen a person (SAML 2.0 Bindings, section 3.6.4)."""
        source = hashlib.sha1(self.entity_id.encode()).digest()
        artifact = b64encode(struct.pack(">HH", 4, 0) + source + os.urandom(20)).decode()
        self.artifacts[artifact] = _Kept(asked, person or self.people[0], self.behaviour)
        return artifact

    def resolve(self, soap: bytes) -> bytes:
        """The answer to ArtifactResolve, both in SOAP. Raises RequestRefused."""
        root, client = self._verified(_of_soap(soap), "ArtifactResolve", self.artifact_url)
        kept = self.artifacts.get(root.findtext(f"{{{SAMLP}}}Artifact") or "")
        inner = ""
        behaviour = self.behaviour
        if kept is not None and (not kept.used or kept.behaviour.replays):
            kept.used, behaviour = True, kept.behaviour
            inner = self._response(kept, client, behaviour)
        outer = self._message(
            "ArtifactResponse", behaviour.resolve or root.get("ID"), behaviour.outer_issuer, behaviour, inner=inner
        )
        return _soap(self._sealed(outer, behaviour, sign=behaviour.sign_outer, what="outer"))

    def log_out(self, soap: bytes) -> bytes:
        """The answer to LogoutRequest, both in SOAP. Raises RequestRefused."""
        root, _ = self._verified(_of_soap(soap), "LogoutRequest", self.logout_url)
        index, name_id = root.findtext(f"{{{SAMLP}}}SessionIndex"), root.findtext(f"{{{SAML}}}NameID")
        known = self.sessions.get(index or "") == name_id
        if known:
            del self.sessions[index or ""]
        status = SUCCESS if known else "urn:oasis:names:tc:SAML:2.0:status:Requester"
        message = self._message("LogoutResponse", root.get("ID"), "", self.behaviour, status=status)
        return _soap(self._sealed(message, self.behaviour, sign=self.behaviour.sign_outer, what="outer"))

    def _verified(self, data: bytes, name: str, address: str) -> tuple[Any, Client]:
        """The message as its signature covers it; verified by signxml."""
        root = etree.fromstring(data)
        client = self.clients.get(root.findtext(f"{{{SAML}}}Issuer") or "")
        if client is None:
            raise RequestRefused("nobody knows this Issuer")
        expected = SignatureConfiguration(
            signature_methods=frozenset({SignatureMethod.ECDSA_SHA256}),
            digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
        )
        certificate = client.signing.public_bytes(Encoding.PEM).decode()
        result = XMLVerifier().verify(root, x509_cert=certificate, id_attribute="ID", expect_config=expected)
        signed = result.signed_xml
        if signed is None or signed.tag != f"{{{SAMLP}}}{name}" or signed.get("Destination") != address:
            raise RequestRefused(f"no {name} for {address}")
        if abs(datetime.fromisoformat(signed.get("IssueInstant")) - datetime.now(UTC)) > timedelta(minutes=5):
            raise RequestRefused("of another time")
        return signed, client

    # answers ----------------------------------------------------------------------------------------------------------

    def _message(
        self, name: str, asked: str, issuer: str, behaviour: Behaviour, *, inner: str = "", more: str = "",
        identifier: str = "", status: str = SUCCESS,
    ) -> str:  # fmt: skip
        second = ""
        if name == "Response" and behaviour.status:
            status = "urn:oasis:names:tc:SAML:2.0:status:Responder"
            second = f'<saml2p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:{behaviour.status}"/>'
        return (
            f'<saml2p:{name} {_DECLARED} ID="{identifier or _id()}" InResponseTo="{asked}" Version="2.0" '
            f'IssueInstant="{_time(behaviour.made)}"{more}><saml2:Issuer>{issuer or self.entity_id}</saml2:Issuer>'
            f"{_PLACE}"
            f'<saml2p:Status><saml2p:StatusCode Value="{status}">{second}</saml2p:StatusCode></saml2p:Status>'
            f"{inner}</saml2p:{name}>"
        )

    def _response(self, kept: _Kept, client: Client, behaviour: Behaviour) -> str:
        assertion_id = behaviour.assertion_id or f"_{_id()}"
        assertion = self._sealed(
            self._assertion(kept, client, behaviour, assertion_id), behaviour, sign=behaviour.sign_assertion,
            what="assertion",
        )  # fmt: skip
        if behaviour.instruction:
            assertion = b'<!DOCTYPE a [<!ENTITY b "c">]>' + assertion
        inner = "" if behaviour.status else assertion.decode()
        if inner and not behaviour.plain:
            inner = self._encrypted(assertion, client, behaviour)
        identifier = behaviour.response_id or _id()
        self.given.append((identifier, assertion_id))
        response = self._message(
            "Response",
            behaviour.request or kept.asked.request_id,
            behaviour.response_issuer,
            behaviour,
            inner=inner * (2 if behaviour.two_assertions else 1),
            more=f' Destination="{behaviour.destination or kept.asked.consumer_url}"',
            identifier=identifier,
        )
        return self._sealed(response, behaviour, sign=behaviour.sign_response, what="response").decode()

    def _assertion(self, kept: _Kept, client: Client, behaviour: Behaviour, identifier: str) -> str:
        asked = kept.asked
        person = {**kept.person, **({"pesel": behaviour.pesel} if behaviour.pesel else {})}
        rows = (
            ("FamilyName", "CurrentFamilyName", person["family_name"]),
            ("DateOfBirth", "DateOfBirth", f"{person['birth_date']}Z"),
            ("FirstName", "CurrentGivenName", person["given_name"]),
            ("PersonIdentifier", "PersonIdentifier", person["pesel"]),
        )
        attributes = "".join(
            (
                f'<saml2:Attribute FriendlyName="{friendly}" Name="{NATURAL}/{name}" '
                f'NameFormat="urn:oasis:names:tc:SAML:2.0:attrname-format:uri"><saml2:AttributeValue '
                f'xmlns:xsi="{XSI}" xsi:type="naturalperson:{name}Type">{value}</saml2:AttributeValue>'
                f"</saml2:Attribute>"
            )
            * (2 if behaviour.double == name else 1)
            for friendly, name, value in rows
            if name != behaviour.drop
        )
        name_id = hashlib.sha256(person["pesel"].encode()).hexdigest()[:20]
        self.sessions[identifier] = name_id
        audience = f"<saml2:Audience>{behaviour.audience or client.entity_id}</saml2:Audience>"
        return (
            f'<saml2:Assertion {_DECLARED} ID="{identifier}" IssueInstant="{_time(behaviour.made)}" Version="2.0">'
            f"<saml2:Issuer>{behaviour.issuer or self.entity_id}</saml2:Issuer>{_PLACE}<saml2:Subject>"
            f'<saml2:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified">{name_id}</saml2:NameID>'
            f'<saml2:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">'
            f"<saml2:SubjectConfirmationData "
            f'InResponseTo="{behaviour.confirmed_request or behaviour.request or asked.request_id}" '
            f'NotOnOrAfter="{_time(behaviour.confirmed)}" '
            f'Recipient="{behaviour.recipient or asked.consumer_url}"/></saml2:SubjectConfirmation></saml2:Subject>'
            f'<saml2:Conditions NotBefore="{_time(behaviour.begins)}" NotOnOrAfter="{_time(behaviour.ends)}">'
            f"{'' if behaviour.no_audience else f'<saml2:AudienceRestriction>{audience}</saml2:AudienceRestriction>'}"
            f"</saml2:Conditions>"
            f'<saml2:AuthnStatement AuthnInstant="{_time(behaviour.authenticated)}" SessionIndex="{identifier}">'
            f"<saml2:AuthnContext><saml2:AuthnContextClassRef>{behaviour.level}</saml2:AuthnContextClassRef>"
            f"<saml2:AuthenticatingAuthority>pz.example</saml2:AuthenticatingAuthority></saml2:AuthnContext>"
            f"</saml2:AuthnStatement><saml2:AttributeStatement>{attributes}</saml2:AttributeStatement>"
            f"</saml2:Assertion>"
        )

    def _sealed(self, message: str, behaviour: Behaviour, *, sign: bool, what: str) -> bytes:
        """Signed by signxml at its place, and changed afterwards where the behaviour says so."""
        if not sign:
            return message.replace(_PLACE, "", 1).encode()
        pair = self.signing if behaviour.signed_by == "own" else self.stranger
        shown = self.stranger if behaviour.signed_by == "stranger" else self.signing
        sign_by = _by_xmlsec if behaviour.prefixes else _by_signxml
        signed = sign_by(etree.fromstring(message), pair, shown)
        if not behaviour.certificate_in_signature:
            signed[1].remove(signed[1].find(f"{{{DS}}}KeyInfo"))
        data: bytes = etree.tostring(signed)
        if behaviour.changed == what:
            old, new = (b"Zofia", b"Zosia") if what == "assertion" else (b'Version="2.0"', b'Version="2.0" Consent="x"')
            data = data.replace(old, new, 1)
        return data

    def _encrypted(self, plain: bytes, client: Client, behaviour: Behaviour) -> str:
        """EncryptedAssertion (XML Encryption 1.1, sections 5.2.4, 5.4.1, 5.6.4, 5.7.2)."""
        recipient: Any = client.encryption.public_key()
        if behaviour.encrypted_for == "another":
            recipient = self.stranger.key.public_key()
        ephemeral = ec.generate_private_key(recipient.curve)
        secret = ephemeral.exchange(ec.ECDH(), recipient)
        wrap = f"{XENC}{behaviour.key_wrap}"
        values = [v.encode() for v in (wrap, self.entity_id, client.entity_id)]
        match behaviour.derivation:
            case "node":
                values = [struct.pack(">I", len(v)) + v for v in values]
                other = b"".join(values)
            case "standard":
                other, values = b"".join(values), [b"\0" + v for v in values]
            case _:
                other, values = b"", []
        bits = int(behaviour.key_wrap.removeprefix("kw-aes")) if behaviour.key_wrap.startswith("kw-aes") else 256
        # Concatenation KDF, one round (SP 800-56A, section 5.8.1): the digest is at least as long as the key.
        derived = hashlib.new(behaviour.digest, struct.pack(">I", 1) + secret + other).digest()[: bits // 8]
        size = int(behaviour.content[3:6]) // 8
        content_key = os.urandom(size)
        if behaviour.content.endswith("-gcm"):
            nonce = os.urandom(12)
            cipher_text = nonce + AESGCM(content_key).encrypt(nonce, plain, None)
            content = f"{XENC11}{behaviour.content}"
        else:
            iv, pad = os.urandom(16), padding.ANSIX923(128).padder()
            encryptor = Cipher(algorithms.AES(content_key), modes.CBC(iv)).encryptor()
            cipher_text = iv + encryptor.update(pad.update(plain) + pad.finalize()) + encryptor.finalize()
            content = f"{XENC}{behaviour.content}"
        point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        names = ("AlgorithmID", "PartyUInfo", "PartyVInfo")
        given = "".join(f' {name}="{value.hex().upper()}"' for name, value in zip(names, values, strict=False))
        return (
            f'<saml2:EncryptedAssertion><xenc:EncryptedData Id="{_id()}" Type="{XENC}Element">'
            f'<xenc:EncryptionMethod Algorithm="{content}"><ds:DigestMethod Algorithm="{XENC}sha256"/>'
            f'</xenc:EncryptionMethod><ds:KeyInfo><xenc:EncryptedKey Id="{_id()}">'
            f'<xenc:EncryptionMethod Algorithm="{wrap}"/><ds:KeyInfo>'
            f'<xenc:AgreementMethod Algorithm="{XENC11}ECDH-ES"><xenc11:KeyDerivationMethod '
            f'Algorithm="{XENC11}ConcatKDF"><xenc11:ConcatKDFParams{given}>'
            f'<ds:DigestMethod Algorithm="{XENC}{behaviour.digest}"/></xenc11:ConcatKDFParams>'
            f"</xenc11:KeyDerivationMethod><xenc:OriginatorKeyInfo><ds:KeyValue><dsig11:ECKeyValue>"
            f'<dsig11:NamedCurve URI="{_CURVES[recipient.curve.name]}"/><dsig11:PublicKey>{b64encode(point).decode()}'
            f"</dsig11:PublicKey></dsig11:ECKeyValue></ds:KeyValue></xenc:OriginatorKeyInfo></xenc:AgreementMethod>"
            f"</ds:KeyInfo><xenc:CipherData><xenc:CipherValue>{b64encode(aes_key_wrap(derived, content_key)).decode()}"
            f"</xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey></ds:KeyInfo><xenc:CipherData>"
            f"<xenc:CipherValue>{b64encode(cipher_text).decode()}</xenc:CipherValue></xenc:CipherData>"
            f"</xenc:EncryptedData></saml2:EncryptedAssertion>"
        )


def _by_signxml(root: Any, pair: KeyPair, shown: KeyPair) -> Any:
    signer = XMLSigner(
        signature_algorithm=SignatureMethod.ECDSA_SHA256,
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm="http://www.w3.org/2001/10/xml-exc-c14n#",  # type: ignore[arg-type]
    )
    return signer.sign(root, key=pair.key, cert=[shown.certificate], reference_uri=root.get("ID"), id_attribute="ID")


def _by_xmlsec(root: Any, pair: KeyPair, shown: KeyPair) -> Any:
    """With a PrefixList, as seen; signxml cannot write one."""
    import xmlsec  # noqa: PLC0415 - for tests alone

    signature = xmlsec.template.create(root, xmlsec.Transform.EXCL_C14N, xmlsec.Transform.ECDSA_SHA256, ns="ds")
    root.replace(root[1], signature)
    xmlsec.tree.add_ids(root, ["ID"])
    reference = xmlsec.template.add_reference(signature, xmlsec.Transform.SHA256, uri=f"#{root.get('ID')}")
    xmlsec.template.add_transform(reference, xmlsec.Transform.ENVELOPED)
    transform = xmlsec.template.add_transform(reference, xmlsec.Transform.EXCL_C14N)
    xmlsec.template.transform_add_c14n_inclusive_namespaces(transform, _PREFIXES)
    xmlsec.template.add_x509_data(xmlsec.template.ensure_key_info(signature))
    context = xmlsec.SignatureContext()
    pem = pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    context.key = xmlsec.Key.from_memory(pem, xmlsec.KeyFormat.PEM)
    context.key.load_cert_from_memory(shown.certificate.public_bytes(Encoding.PEM), xmlsec.KeyFormat.PEM)
    context.sign(signature)
    return root


def _soap(message: bytes) -> bytes:
    return b'<soap:Envelope xmlns:soap="%s"><soap:Header/><soap:Body>%s</soap:Body></soap:Envelope>' % (
        SOAP.encode(), message,
    )  # fmt: skip


def _of_soap(data: bytes) -> bytes:
    body = etree.fromstring(data).find(f"{{{SOAP}}}Body")
    if body is None or len(body) != 1:
        raise RequestRefused("no SOAP message")
    return etree.tostring(body[0], with_tail=False)


def _id() -> str:
    return f"ID-{secrets.token_hex(16)}"


def _time(from_now: timedelta) -> str:
    return f"{(datetime.now(UTC) + from_now).isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"
