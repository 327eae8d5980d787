"""Named hostile messages with assertions, each with a valid twin that differs in the one thing that is wrong.

The lists are those of "On Breaking SAML" (XSW), of the published weaknesses of SAML libraries, and of what ITI-40 and
SAML 2.0 demand. ``hostile`` and ``twin`` make the message when they are called.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lxml import etree

import minting
from minting import (
    ATTRIBUTES,
    AUDIENCE,
    CM,
    DS,
    EXCLUSIVE,
    ISSUER,
    NOW,
    ORGANISATION,
    PATIENT,
    PURPOSE,
    RSA_SHA256,
    SAML,
    SUBJECT,
    WSSE,
    WSU,
    Assertion,
    coded_attribute,
    envelope,
    forge,
    holder_of_key,
    identity,
    signed_envelope,
    text_attribute,
    zulu,
)  # fmt: skip
from trusting import CLIENT, STS, TARGET

Make = Callable[[], bytes]


@dataclass(frozen=True)
class Case:
    """One hostile message and its twin."""

    name: str
    hostile: Make
    twin: Make
    client: Any = CLIENT  # who is connected when the hostile one is sent
    withdrawn: tuple[bytes, ...] = ()
    issuers: tuple[Any, ...] = field(default=(STS,))
    twin_issuers: tuple[Any, ...] = field(default=(STS,))


def good() -> bytes:
    return envelope(forge(Assertion().xml(), STS))


def held(**changed: Any) -> Assertion:
    return Assertion(**holder_of_key(CLIENT), **changed)


def good_message() -> bytes:
    return signed_envelope(held().signed(STS), CLIENT)


def assertion(**changed: Any) -> Make:
    """A message whose assertion says something else, well signed."""
    return lambda: envelope(forge(Assertion(**changed).xml(), STS))


def xml(old: str, new: str, **changed: Any) -> Make:
    """The same with a change of its text before it is signed."""

    def make() -> bytes:
        text = Assertion(**changed).xml()
        assert old in text, old
        return envelope(forge(text.replace(old, new, 1), STS))

    return make


def forged(by: Any = STS, **changed: Any) -> Make:
    """A message whose signature is made in another way."""
    return lambda: envelope(forge(Assertion().xml(), by, **changed))


def after(old: str, new: str, make: Make = good) -> Make:
    """A valid message that is changed afterwards."""

    def made() -> bytes:
        data = make()
        assert old.encode() in data, old
        return data.replace(old.encode(), new.encode(), 1)

    return made


def tree(change: Callable[[Any], Any], make: Make = good) -> Make:
    """A valid message whose tree is changed afterwards."""

    def made() -> bytes:
        root = etree.fromstring(make())
        change(root)
        return etree.tostring(root)

    return made


def security(root: Any) -> Any:
    return root[0].find(f"{{{WSSE}}}Security")


def assertion_of(root: Any) -> Any:
    return next(root.iter(f"{{{SAML}}}Assertion"))


def signature_of(root: Any) -> Any:
    return next(root.iter(f"{{{DS}}}Signature"))


# signatures ------------------------------------------------------------------------------------------------------------


def _method(algorithm: str, inner: str = "") -> str:
    return f'<ds:SignatureMethod Algorithm="{algorithm}">{inner}</ds:SignatureMethod>'


def _hmac(secret: bytes, size: int | None = None) -> Callable[[bytes], bytes]:
    return lambda data: hmac.new(secret, data, "sha256").digest()[:size]


def _signed(hash_: hashes.HashAlgorithm) -> Callable[[bytes], bytes]:
    return lambda data: STS.key.sign(data, padding.PKCS1v15(), hash_)


_HMAC = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"
_PUBLIC = STS.certificate.public_key().public_bytes
_X509 = "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"
_T = '<ds:Transform Algorithm="{}"/>'
_ENV, _EXC = _T.format(f"{DS}enveloped-signature"), _T.format(EXCLUSIVE)
_XPATH = (
    '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"><ds:XPath>not(ancestor-or-self::ds:Signature)'
    "</ds:XPath></ds:Transform>"
)
_XSLT = (
    '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"><xsl:stylesheet version="1.0" '
    'xmlns:xsl="http://www.w3.org/1999/XSL/Transform"/></ds:Transform>'
)
_REFERENCE = (
    '<ds:Reference URI="{}"><ds:Transforms><ds:Transform Algorithm="' + EXCLUSIVE + '"/></ds:Transforms>'
    '<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue>AAAA</ds:DigestValue>'
    "</ds:Reference>"
)


def _der() -> bytes:
    return _PUBLIC(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _void() -> bytes:
    """Relative namespace names make canonicalisation fail; a careless signer and verifier hash nothing."""
    text = Assertion().xml().replace("<saml:Subject>", '<saml:Subject xmlns:v="relative">', 1)
    text = text.replace("<saml:NameID>", '<saml:NameID v:void="1">', 1)
    return envelope(forge(text, STS, make_canonical=lambda _: b""))


def _wrong_signature(size: int) -> Callable[[bytes], bytes]:
    return lambda _: b"\0" * size


def _der_ecdsa(data: bytes) -> bytes:
    return identity("sts-p256", "p256").key.sign(data, ec.ECDSA(hashes.SHA256()))


SIGNATURES: dict[str, Make | Case] = {
    "no signature": after(
        "", "", lambda: envelope(Assertion().xml().replace(f'<ds:Signature xmlns:ds="{DS}" Id="placeholder"/>', "").encode())
    ),
    "empty signature": lambda: envelope(Assertion().xml().encode()),
    "signature of another key": forged(by=identity("attacker")),
    "signature of another key of the same name": lambda: envelope(forge(Assertion().xml(), identity("sts", "rsa3072"))),
    "key of the attacker in KeyInfo": forged(
        by=identity("attacker"), after_value=_X509.format(identity("attacker").der64)
    ),
    "certificate of the issuer beside the attacker's signature": forged(
        by=identity("attacker"), after_value=_X509.format(STS.der64)
    ),
    "certificate of the attacker beside a valid signature": forged(after_value=_X509.format(identity("attacker").der64)),
    "two certificates in KeyInfo": forged(
        after_value="<ds:KeyInfo><ds:X509Data>"
        + f"<ds:X509Certificate>{STS.der64}</ds:X509Certificate>" * 2
        + "</ds:X509Data></ds:KeyInfo>"
    ),
    "two X509Data in KeyInfo": forged(
        after_value="<ds:KeyInfo>"
        + f"<ds:X509Data><ds:X509Certificate>{STS.der64}</ds:X509Certificate></ds:X509Data>" * 2
        + "</ds:KeyInfo>"
    ),
    "empty KeyInfo": forged(after_value="<ds:KeyInfo/>"),
    "two KeyInfo": forged(after_value=_X509.format(STS.der64) * 2),
    "RetrievalMethod": forged(
        after_value='<ds:KeyInfo><ds:RetrievalMethod URI="http://169.254.169.254/key"/></ds:KeyInfo>'
    ),
    "KeyInfoReference": forged(
        after_value='<ds:KeyInfo><dsig11:KeyInfoReference xmlns:dsig11="http://www.w3.org/2009/xmldsig11#" '
        'URI="http://169.254.169.254/key"/></ds:KeyInfo>'
    ),
    "DEREncodedKeyValue": forged(
        after_value='<ds:KeyInfo><dsig11:DEREncodedKeyValue xmlns:dsig11="http://www.w3.org/2009/xmldsig11#">AAAA'
        "</dsig11:DEREncodedKeyValue></ds:KeyInfo>"
    ),
    "SecurityTokenReference in the assertion's signature": forged(
        after_value=f'<ds:KeyInfo><wsse:SecurityTokenReference xmlns:wsse="{WSSE}"/></ds:KeyInfo>'
    ),
    "HMAC with the public key": forged(signature_method=_method(_HMAC), sign_with=_hmac(_der())),
    "HMAC with the certificate": forged(signature_method=_method(_HMAC), sign_with=_hmac(STS.der)),
    "HMACOutputLength 0": forged(
        signature_method=_method(_HMAC, "<ds:HMACOutputLength>0</ds:HMACOutputLength>"), sign_with=_hmac(b"", 0)
    ),
    "HMACOutputLength 8": forged(
        signature_method=_method(_HMAC, "<ds:HMACOutputLength>8</ds:HMACOutputLength>"), sign_with=_hmac(b"", 1)
    ),
    "HMACOutputLength beside RSA": forged(
        signature_method=_method(RSA_SHA256, "<ds:HMACOutputLength>0</ds:HMACOutputLength>")
    ),
    "hmac-sha1": forged(signature_method=_method(f"{DS}hmac-sha1"), sign_with=_hmac(_der())),
    "rsa-sha1": forged(signature_method=_method(f"{DS}rsa-sha1"), sign_with=_signed(hashes.SHA1())),
    "rsa-md5": forged(
        signature_method=_method("http://www.w3.org/2001/04/xmldsig-more#rsa-md5"), sign_with=_signed(hashes.MD5())
    ),
    "rsa-sha224": forged(
        signature_method=_method("http://www.w3.org/2001/04/xmldsig-more#rsa-sha224"),
        sign_with=_signed(hashes.SHA224()),
    ),
    "rsa-pss": forged(
        signature_method=_method("http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1"),
        sign_with=lambda data: STS.key.sign(
            data, padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH), hashes.SHA256()
        ),
    ),
    "dsa-sha1": forged(signature_method=_method(f"{DS}dsa-sha1"), sign_with=_wrong_signature(40)),
    "ecdsa for an RSA key": forged(
        signature_method=_method("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"), sign_with=_wrong_signature(64)
    ),
    "algorithm of SHA-512 over SHA-256": forged(
        signature_method=_method("http://www.w3.org/2001/04/xmldsig-more#rsa-sha512")
    ),
    "unknown signature algorithm": forged(signature_method=_method("urn:none")),
    "digest by SHA-1": forged(
        digest_method=f"{DS}sha1", digest=lambda d: hashlib.sha1(d).digest()
    ),
    "digest by MD5": forged(
        digest_method="http://www.w3.org/2001/04/xmldsig-more#md5", digest=lambda d: hashlib.md5(d).digest()
    ),
    "digest cut short": forged(digest=lambda d: hashlib.sha256(d).digest()[:16]),
    "empty digest": forged(digest=lambda _: b""),
    "reference to nothing": forged(reference_attributes='URI="#nothing"'),
    "reference without URI": forged(reference_attributes=""),
    "reference to the whole document": forged(reference_attributes='URI=""'),
    "reference to elsewhere": forged(reference_attributes='URI="http://169.254.169.254/"'),
    "reference to a file": forged(reference_attributes='URI="file:///etc/passwd"'),
    "reference to a part": forged(reference_attributes='URI="cid:part@x"'),
    "reference by XPointer": forged(reference_attributes='URI="#xpointer(/)"'),
    "reference by XPointer id": forged(reference_attributes="URI=\"#xpointer(id('a'))\""),
    "reference with a Type": lambda: envelope(
        forge(Assertion(id="_typed").xml(), STS, reference_attributes=f'URI="#_typed" Type="{DS}Manifest"')
    ),
    "two references": forged(more_references=_REFERENCE.format("#Body-1")),
    "three references": forged(more_references=_REFERENCE.format("#a") + _REFERENCE.format("#b")),
    "no transforms": forged(transforms=""),
    "exclusive canonicalisation alone": forged(transforms=_EXC),
    "enveloped signature alone": forged(transforms=_ENV),
    "transforms in another order": forged(transforms=_EXC + _ENV),
    "enveloped signature twice": forged(transforms=_ENV + _ENV + _EXC),
    "canonicalisation ten times": forged(transforms=_ENV + _EXC * 10),
    "XPath transform": forged(transforms=_XPATH + _EXC),
    "XPath as third transform": forged(transforms=_ENV + _EXC + _XPATH),
    "XPath filter 2": forged(transforms=_T.format("http://www.w3.org/2002/06/xmldsig-filter2") + _EXC),
    "XSLT transform": forged(transforms=_XSLT + _EXC),
    "XSLT as third transform": forged(transforms=_ENV + _EXC + _XSLT),
    "base64 transform": forged(transforms=_ENV + _T.format(f"{DS}base64")),
    "decryption transform": forged(transforms=_ENV + _T.format("http://www.w3.org/2002/07/decrypt#XML")),
    "STR transform": forged(transforms=_ENV + _T.format(
        "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#STR-Transform")),
    "inclusive canonicalisation": forged(
        transforms=_ENV + _T.format("http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
        make_canonical=lambda e: etree.tostring(e, method="c14n"),
    ),
    "canonicalisation with comments": forged(transforms=_ENV + _T.format(f"{EXCLUSIVE}WithComments")),
    "SignedInfo by inclusive canonicalisation": forged(
        canonicalization='<ds:CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"/>'
    ),
    "SignedInfo by an unknown canonicalisation": forged(
        canonicalization='<ds:CanonicalizationMethod Algorithm="urn:none"/>'
    ),
    "SignedInfo by XSLT": forged(
        canonicalization=f'<ds:CanonicalizationMethod Algorithm="{EXCLUSIVE}">{_XSLT}</ds:CanonicalizationMethod>'
    ),
    "PrefixList of a thousand prefixes": forged(
        transforms=_ENV
        + f'<ds:Transform Algorithm="{EXCLUSIVE}"><ec:InclusiveNamespaces xmlns:ec="{EXCLUSIVE}" PrefixList="'
        + " ".join(f"p{n}" for n in range(1000))
        + '"/></ds:Transform>'
    ),
    "void canonicalisation": _void,
    "Object in the signature": forged(after_value="<ds:Object>x</ds:Object>"),
    "Manifest in the signature": forged(after_value="<ds:Object><ds:Manifest/></ds:Object>"),
    "xml:id on the signature": forged(signature_attributes=' xml:id="a"'),
    "second signature behind the first": tree(
        lambda root: signature_of(root).addnext(copy.deepcopy(signature_of(root)))
    ),
    "signature at the end": tree(lambda root: assertion_of(root).append(signature_of(root))),
    "signature at the beginning": tree(lambda root: assertion_of(root).insert(0, signature_of(root))),
    "signature beside the assertion": tree(lambda root: security(root).append(signature_of(root))),
    "signature within the Subject": tree(lambda root: assertion_of(root)[2].append(signature_of(root))),
    "SignatureValue empty": forged(sign_with=lambda _: b""),
    "SignatureValue of zeros": forged(sign_with=_wrong_signature(256)),
    "SignatureValue of one": forged(sign_with=lambda _: b"\0" * 255 + b"\1"),
    "SignatureValue of random bytes": forged(sign_with=lambda _: os.urandom(256)),
    "SignatureValue too long": forged(sign_with=lambda d: b"\0" + _signed(hashes.SHA256())(d)),
    "SignatureValue that is not Base64": after("<ds:SignatureValue>", "<ds:SignatureValue>!"),
    "SignatureValue with a comma": after("<ds:SignatureValue>", "<ds:SignatureValue>,"),
    "psychic ECDSA signature": Case(
        "psychic ECDSA signature",
        lambda: envelope(forge(Assertion().xml(), None, signature_method=_method(
            "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"), sign_with=_wrong_signature(64))),
        lambda: envelope(Assertion().signed(identity("sts-p256", "p256"))),
        issuers=(identity("sts-p256", "p256"),), twin_issuers=(identity("sts-p256", "p256"),),
    ),
    "ECDSA signature as DER": Case(
        "ECDSA signature as DER",
        lambda: envelope(forge(Assertion().xml(), None, signature_method=_method(
            "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"), sign_with=_der_ecdsa)),
        lambda: envelope(Assertion().signed(identity("sts-p256", "p256"))),
        issuers=(identity("sts-p256", "p256"),), twin_issuers=(identity("sts-p256", "p256"),),
    ),
}  # fmt: skip


def _keys() -> Iterator[Case]:
    """Keys and certificates of the issuer that prove nothing."""
    old = identity("sts-old", begins=NOW - timedelta(days=400), days=365)
    new = identity("sts-new", begins=NOW + timedelta(days=1))
    for name, by in {
        "issuer's certificate has expired": old, "issuer's certificate is not valid yet": new,
        "RSA key of 1024 bits": identity("sts-1024", "rsa1024"), "RSA exponent 3": identity("sts-e3", "e3"),
    }.items():  # fmt: skip
        yield Case(name, partial(_by, by), good, issuers=(by,))
    p521 = identity("sts-p521", "p521")
    yield Case(
        "curve P-521", lambda: envelope(Assertion().signed(p521, algorithm="ecdsa-sha256")),
        lambda: envelope(Assertion().signed(identity("sts-p384", "p384"))), issuers=(p521,),
        twin_issuers=(identity("sts-p384", "p384"),),
    )  # fmt: skip
    yield Case("issuer's certificate withdrawn", good, good, withdrawn=(STS.der,))
    yield Case("client's certificate withdrawn", good, good, withdrawn=(CLIENT.der,))
    yield Case(
        "client's certificate has expired",
        good,
        good,
        client=identity("client-old", begins=NOW - timedelta(days=400), days=365),
    )
    yield Case(
        "client's certificate is not valid yet",
        good,
        good,
        client=identity("client-new", begins=NOW + timedelta(days=1)),
    )
    yield Case("no client certificate", good, good, client=None)
    yield Case("no client certificate, signed message", good_message, good_message, client=None)


def _by(by: Any) -> bytes:
    return envelope(forge(Assertion().xml(), by))


# what an assertion says ------------------------------------------------------------------------------------------------

_RESTRICTION = "<saml:AudienceRestriction><saml:Audience>{}</saml:Audience></saml:AudienceRestriction>"
_OURS = _RESTRICTION.format(AUDIENCE)
_AUTHN = (
    f'<saml:AuthnStatement AuthnInstant="{zulu(NOW)}"><saml:AuthnContext><saml:AuthnContextClassRef>urn:c'
    "</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>"
)
_DATA = "<saml:SubjectConfirmationData {}/>"
_CONFIRMATION = f'<saml:SubjectConfirmation Method="{CM}bearer"></saml:SubjectConfirmation>'

SAYINGS: dict[str, Make] = {
    # times
    "NotBefore missing": xml(f'NotBefore="{zulu(NOW - timedelta(minutes=1))}" ', ""),
    "NotOnOrAfter missing": xml(f'NotOnOrAfter="{zulu(NOW + timedelta(minutes=10))}"', ""),
    "expired": assertion(not_before="2026-11-21T10:00:00Z", not_on_or_after="2026-11-21T11:00:00Z"),
    "expired in 2016": assertion(not_before="2016-11-21T10:00:00Z", not_on_or_after="2016-11-21T11:00:00Z"),
    "not valid yet": assertion(not_before="2026-11-21T13:00:00Z", not_on_or_after="2026-11-21T14:00:00Z"),
    "NotBefore without time zone": assertion(not_before="2026-11-21T11:59:00"),
    "NotOnOrAfter without time zone": assertion(not_on_or_after="2026-11-21T12:10:00"),
    "expired, with the time zone turned round": assertion(not_on_or_after="2026-11-21T12:10:00+02:00"),
    "year 9999": assertion(not_on_or_after="9999-12-31T23:59:59Z"),
    "year 99999": assertion(not_on_or_after="99999-12-31T23:59:59Z"),
    "NotOnOrAfter is NaN": assertion(not_on_or_after="NaN"),
    "NotOnOrAfter is INF": assertion(not_on_or_after="INF"),
    "NotOnOrAfter is a date": assertion(not_on_or_after="2026-11-22"),
    "NotOnOrAfter is a number": assertion(not_on_or_after="1795262400"),
    "NotOnOrAfter in Arabic digits": assertion(not_on_or_after="٢٠٢٦-11-21T12:10:00Z"),
    "a day that does not exist": assertion(not_on_or_after="2026-11-31T12:10:00Z"),
    "an hour that does not exist": assertion(not_on_or_after="2026-11-21T25:10:00Z"),
    "white space around a time": assertion(not_on_or_after=" 2026-11-21T12:10:00Z "),
    "ends before it begins": assertion(not_before="2026-11-21T12:00:30Z", not_on_or_after="2026-11-21T12:00:10Z"),
    "holds for a month": assertion(not_on_or_after="2026-12-21T12:00:00Z"),
    "issued in the future": assertion(issue_instant="2026-11-21T12:05:00Z"),
    "issued long ago": assertion(issue_instant="2026-11-10T12:00:00Z"),
    "issued without time zone": assertion(issue_instant="2026-11-21T12:00:00"),
    "authenticated in the future": assertion(authn=_AUTHN.replace(zulu(NOW), "2026-11-21T13:00:00Z")),
    "session ended": assertion(authn=_AUTHN.replace(" AuthnInstant", ' SessionNotOnOrAfter="2026-11-21T11:00:00Z" AuthnInstant')),
    "confirmation ended": assertion(data=_DATA.format('NotOnOrAfter="2026-11-21T11:00:00Z"')),
    "confirmation not valid yet": assertion(data=_DATA.format('NotBefore="2026-11-21T13:00:00Z"')),
    # for whom
    "no Conditions": lambda: envelope(forge(_without(Assertion().xml(), "saml:Conditions"), STS)),
    "no AudienceRestriction": assertion(conditions=""),
    "empty AudienceRestriction": assertion(conditions="<saml:AudienceRestriction/>"),
    "another audience": assertion(conditions=_RESTRICTION.format("https://other.example.pl")),
    "audience with another ending": assertion(conditions=_RESTRICTION.format(f"{AUDIENCE}.evil.pl")),
    "audience in capitals": assertion(conditions=_RESTRICTION.format(AUDIENCE.upper())),
    "audience within white space": assertion(conditions=_RESTRICTION.format(f"\n{AUDIENCE}\n")),
    "second restriction to another audience": assertion(
        conditions=_OURS + _RESTRICTION.format("https://other.example.pl")
    ),
    "another recipient": assertion(data=_DATA.format('Recipient="https://other.example.pl/"')),
    "recipient that begins like ours": assertion(data=_DATA.format(f'Recipient="{TARGET}/x"')),
    "another address": assertion(data=_DATA.format('Address="10.1.2.3"')),
    "InResponseTo": assertion(data=_DATA.format('InResponseTo="_a"')),
    "unknown Condition": assertion(
        conditions=_OURS + '<saml:Condition xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="x:y" xmlns:x="urn:x"/>'
    ),
    "ProxyRestriction": assertion(conditions=_OURS + '<saml:ProxyRestriction Count="1"/>'),
    "OneTimeUse twice": assertion(conditions=_OURS + "<saml:OneTimeUse/><saml:OneTimeUse/>"),
    # who vouches
    "unknown issuer": assertion(issuer="https://unknown.example.pl"),
    "issuer in capitals": assertion(issuer=ISSUER.upper()),
    "issuer with a slash": assertion(issuer=f"{ISSUER}/"),
    "issuer within white space": assertion(issuer=f" {ISSUER} "),
    "empty issuer": assertion(issuer=""),
    "no issuer": xml(f"<saml:Issuer>{ISSUER}</saml:Issuer>", ""),
    "two issuers": xml("</saml:Issuer>", f"</saml:Issuer><saml:Issuer>{ISSUER}</saml:Issuer>"),
    "version 1.1": assertion(version="1.1"),
    "version 2.1": assertion(version="2.1"),
    # whom it is about
    "no Subject": lambda: envelope(forge(_without(Assertion().xml(), "saml:Subject"), STS)),
    "two Subjects": xml("<saml:Conditions", f"<saml:Subject><saml:NameID>x</saml:NameID>{_CONFIRMATION}</saml:Subject><saml:Conditions"),
    "two NameIDs": xml("</saml:NameID>", "</saml:NameID><saml:NameID>admin</saml:NameID>"),
    "no NameID": xml("<saml:NameID>dr</saml:NameID>", ""),
    "BaseID": xml("<saml:NameID>dr</saml:NameID>", "<saml:BaseID/>"),
    "EncryptedID": xml("<saml:NameID>dr</saml:NameID>", "<saml:EncryptedID/>"),
    "empty NameID": assertion(name_id=""),
    "NameID of white space": assertion(name_id="  "),
    "NameID with a tab": assertion(name_id="d&#9;r"),
    "NameID with a line break": assertion(name_id="d&#10;r"),
    "NameID with a carriage return": assertion(name_id="d&#13;r"),
    "NameID with a C1 control": assertion(name_id="d\u0085r"),
    "NameID with a zero-width space": assertion(name_id="d\u200br"),
    "NameID turned round": assertion(name_id="\u202erd"),
    "NameID with a byte order mark": assertion(name_id="\ufeffdr"),
    "NameID with a line separator": assertion(name_id="d\u2028r"),
    "NameID within white space": assertion(name_id=" dr"),
    "NameID of ten thousand characters": assertion(name_id="d" * 10_000),
    "NameID with an element": assertion(name_id="d<x xmlns=''/>r"),
    "NameID with an element of SAML": assertion(name_id="d<saml:NameID>r</saml:NameID>"),
    # how it is confirmed
    "no SubjectConfirmation": xml(_CONFIRMATION, ""),
    "two SubjectConfirmations": xml(_CONFIRMATION, _CONFIRMATION * 2),
    "unknown confirmation": assertion(method="urn:none"),
    "confirmation of SAML 1.1": assertion(method="urn:oasis:names:tc:SAML:1.0:cm:bearer"),
    "holder of no key": assertion(method=f"{CM}holder-of-key"),
    "holder of another key": assertion(**holder_of_key(identity("attacker"))),
    "bearer with a key": assertion(**{**holder_of_key(CLIENT), "method": f"{CM}bearer"}),
    "holder named by KeyName": assertion(
        method=f"{CM}holder-of-key",
        data=f'<saml:SubjectConfirmationData><ds:KeyInfo xmlns:ds="{DS}"><ds:KeyName>client</ds:KeyName></ds:KeyInfo>'
        "</saml:SubjectConfirmationData>",
    ),
    "holder by two certificates": assertion(
        method=f"{CM}holder-of-key",
        data=f'<saml:SubjectConfirmationData><ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data>'
        f"<ds:X509Certificate>{identity('attacker').der64}</ds:X509Certificate>"
        f"<ds:X509Certificate>{CLIENT.der64}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></saml:SubjectConfirmationData>",
    ),
    "holder by what is no certificate": assertion(
        method=f"{CM}holder-of-key",
        data=f'<saml:SubjectConfirmationData><ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data><ds:X509Certificate>AAAA'
        "</ds:X509Certificate></ds:X509Data></ds:KeyInfo></saml:SubjectConfirmationData>",
    ),
    "holder of another RSA key": assertion(**minting.holder_of_rsa_key(identity("attacker"))),
    "holder of a small RSA key": assertion(**minting.holder_of_rsa_key(identity("weak", "rsa1024"))),
    "holder of an RSA key of nothing": assertion(
        method=f"{CM}holder-of-key",
        data=f'<saml:SubjectConfirmationData><ds:KeyInfo xmlns:ds="{DS}"><ds:KeyValue><ds:RSAKeyValue><ds:Modulus>AA=='
        "</ds:Modulus><ds:Exponent>AQ==</ds:Exponent></ds:RSAKeyValue></ds:KeyValue></ds:KeyInfo>"
        "</saml:SubjectConfirmationData>",
    ),
    "holder named twice": assertion(
        method=f"{CM}holder-of-key",
        data=minting.holder_of_rsa_key(CLIENT)["data"].replace(
            "<ds:KeyValue>", f"<ds:X509Data><ds:X509Certificate>{CLIENT.der64}</ds:X509Certificate></ds:X509Data><ds:KeyValue>"
        ),
    ),
    "attributes in SubjectConfirmationData": assertion(
        data="<saml:SubjectConfirmationData><saml:Attribute Name='x'><saml:AttributeValue>y</saml:AttributeValue>"
        "</saml:Attribute></saml:SubjectConfirmationData>"
    ),
    # how the person was authenticated
    "no AuthnStatement": lambda: envelope(forge(_without(Assertion().xml(), "saml:AuthnStatement"), STS)),
    "two AuthnStatements": assertion(authn=_AUTHN * 2),
    "two AuthnContexts": assertion(authn=_AUTHN.replace("</saml:AuthnContext>", "</saml:AuthnContext><saml:AuthnContext/>")),
    "two AuthnContextClassRefs": assertion(
        authn=_AUTHN.replace("</saml:AuthnContextClassRef>", "</saml:AuthnContextClassRef><saml:AuthnContextClassRef>urn:d</saml:AuthnContextClassRef>")
    ),
    "empty AuthnContextClassRef": assertion(authn=_AUTHN.replace("urn:c", "")),
    "AuthnContextDecl": assertion(authn=_AUTHN.replace("<saml:AuthnContextClassRef>urn:c</saml:AuthnContextClassRef>", "<saml:AuthnContextDecl/>")),
    "AuthnStatement without AuthnInstant": assertion(authn=_AUTHN.replace(f' AuthnInstant="{zulu(NOW)}"', "")),
    "AuthzDecisionStatement": assertion(extra='<saml:AuthzDecisionStatement Resource="" Decision="Permit"/>'),
    "second AttributeStatement": assertion(extra=f"<saml:AttributeStatement>{ATTRIBUTES}</saml:AttributeStatement>"),
    "Advice with an assertion": xml("<saml:AuthnStatement", f"<saml:Advice>{Assertion().xml()}</saml:Advice><saml:AuthnStatement"),
    "unknown element": assertion(extra="<x xmlns='urn:x'/>"),
    "text in the assertion": assertion(extra="admin"),
    "unknown attribute on the assertion": xml(' Version="2.0"', ' Version="2.0" x="y"'),
    "Id beside ID": xml(' Version="2.0"', ' Version="2.0" Id="_b"'),
    "id beside ID": xml(' Version="2.0"', ' Version="2.0" id="_b"'),
    "xml:id beside ID": xml(' Version="2.0"', ' Version="2.0" xml:id="_b"'),
    "wsu:Id beside ID": xml(' Version="2.0"', f' Version="2.0" xmlns:wsu="{WSU}" wsu:Id="_b"'),
    "Id on the Subject": xml("<saml:Subject>", '<saml:Subject Id="_b">'),
    "ID with white space": lambda: envelope(forge(Assertion(id=" _a ").xml(), STS, reference_attributes='URI="# _a "')),
    "empty ID": lambda: envelope(forge(Assertion(id="").xml(), STS, reference_attributes='URI="#"')),
    "ID of XPointer": lambda: envelope(forge(Assertion(id="xpointer(/)").xml(), STS)),
    # attributes
    "role twice": assertion(attributes=ATTRIBUTES + text_attribute("urn:oasis:names:tc:xacml:2.0:subject:role", "admin")),
    "purpose of use twice": assertion(attributes=ATTRIBUTES + text_attribute(PURPOSE, "BTG")),
    "subject-id twice": assertion(attributes=ATTRIBUTES + text_attribute(SUBJECT, "admin")),
    "an unknown attribute twice": assertion(attributes=text_attribute("urn:x", "a") * 2),
    "two values of the role": assertion(attributes=text_attribute("urn:oasis:names:tc:xacml:2.0:subject:role", "nurse", "doctor")),
    "two values of the purpose": assertion(attributes=text_attribute(PURPOSE, "TREAT", "BTG")),
    "two organisations": assertion(attributes=text_attribute(ORGANISATION, "urn:oid:1.2.3", "urn:oid:1.2.4")),
    "role under two names": assertion(
        attributes=ATTRIBUTES + text_attribute("urn:oasis:names:tc:xspa:1.0:subject:functional-role", "nurse")
    ),
    "purpose under two names": assertion(
        attributes=ATTRIBUTES + text_attribute("urn:oasis:names:tc:xacml:2.0:action:purpose", "BTG")
    ),
    "unknown purpose of use": assertion(attributes=text_attribute(PURPOSE, "CURIOSITY")),
    "purpose in small letters": assertion(attributes=text_attribute(PURPOSE, "treat")),
    "purpose of an unknown code system": assertion(attributes=coded_attribute(PURPOSE, "PurposeOfUse", "TREAT", "1.2.3")),
    "empty purpose of use": assertion(attributes=text_attribute(PURPOSE, "")),
    "patient without authority": assertion(attributes=text_attribute(PATIENT, "12^^^")),
    "patient of an authority that is no OID": assertion(attributes=text_attribute(PATIENT, "12^^^&amp;x&amp;ISO")),
    "patient by root that is no OID": assertion(attributes=text_attribute(PATIENT, "x#12")),
    "patient by two marks": assertion(attributes=text_attribute(PATIENT, "1.2.3#12#13")),
    "two HL7 values in one": assertion(
        attributes=f'<saml:Attribute Name="{PURPOSE}"><saml:AttributeValue><PurposeOfUse xmlns="urn:hl7-org:v3" code="TREAT"/>'
        '<Role xmlns="urn:hl7-org:v3" code="x"/></saml:AttributeValue></saml:Attribute>'
    ),
    "text beside an HL7 value": assertion(
        attributes=f'<saml:Attribute Name="{PURPOSE}"><saml:AttributeValue>BTG<PurposeOfUse xmlns="urn:hl7-org:v3" '
        'code="TREAT"/></saml:AttributeValue></saml:Attribute>'
    ),
    "markup in a value": assertion(attributes=text_attribute(SUBJECT, "<b xmlns=''>admin</b>")),
    "assertion in a value": assertion(attributes=text_attribute(SUBJECT, Assertion().xml())),
    "control characters in a value": assertion(attributes=text_attribute(SUBJECT, "a\u0085b")),
    "attribute without values": assertion(attributes=f'<saml:Attribute Name="{SUBJECT}"/>'),
    "attribute without name": assertion(attributes="<saml:Attribute><saml:AttributeValue>x</saml:AttributeValue></saml:Attribute>"),
    "xsi:nil in a value": assertion(
        attributes=f'<saml:Attribute Name="{SUBJECT}"><saml:AttributeValue xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:nil="true"/></saml:Attribute>'
    ),
    "EncryptedAttribute": assertion(attributes=ATTRIBUTES + "<saml:EncryptedAttribute/>"),
    # size
    "assertion of 100 KB": assertion(attributes="".join(text_attribute(f"urn:x:{n}", "x" * 1000) for n in range(100))),
    "ten thousand attributes": assertion(attributes="".join(text_attribute(f"urn:x:{n}", "x") for n in range(10_000))),
    "value of a hundred thousand characters": assertion(attributes=text_attribute(SUBJECT, "x" * 50_000)),
}  # fmt: skip


def _without(text: str, name: str) -> str:
    begin, end = text.index(f"<{name}"), text.index(f"</{name}>") + len(name) + 3
    return text[:begin] + text[end:]


# how it is written -----------------------------------------------------------------------------------------------------


def _into(root: Any, text: str, *, at: int | None = None) -> None:
    element = etree.fromstring(text)
    place = security(root)
    place.append(element) if at is None else place.insert(at, element)


_NAME = "<saml:NameID>dr</saml:NameID>"

WRITING: dict[str, Make] = {
    "comment in NameID": after(_NAME, "<saml:NameID>d<!---->r</saml:NameID>"),
    "comment that cuts NameID": after(
        "<saml:NameID>dr.evil</saml:NameID>", "<saml:NameID>dr<!---->.evil</saml:NameID>", assertion(name_id="dr.evil")
    ),
    "comment in the assertion": after("<saml:Subject>", "<!-- x --><saml:Subject>"),
    "comment in the Security header": tree(lambda r: security(r).insert(0, etree.Comment("x"))),
    "comment in the header": tree(lambda r: r[0].insert(0, etree.Comment("x"))),
    "comment in the Body": tree(lambda r: r[1].insert(0, etree.Comment("x"))),
    "comment before the envelope": lambda: b"<!-- x -->" + good(),
    "comment behind the envelope": lambda: good() + b"<!-- x -->",
    "comment in the SignedInfo": after("<ds:SignedInfo", "<!-- x --><ds:SignedInfo"),
    "comment in the DigestValue": after("<ds:DigestValue>", "<ds:DigestValue><!-- x -->"),
    "comment in a message in UTF-16": lambda: after(_NAME, "<saml:NameID>d<!---->r</saml:NameID>")().decode().encode("utf-16"),
    "CDATA in NameID": after(_NAME, "<saml:NameID>d<![CDATA[r]]></saml:NameID>"),
    "CDATA as NameID": after(_NAME, "<saml:NameID><![CDATA[dr]]></saml:NameID>"),
    "CDATA in the Issuer": after(f"<saml:Issuer>{ISSUER}", f"<saml:Issuer><![CDATA[{ISSUER}]]>"),
    "CDATA in the Security header": after("<saml:Assertion", "<![CDATA[ ]]><saml:Assertion"),
    "entity in NameID": lambda: b"<!DOCTYPE x [<!ENTITY e 'r'>]>" + after(_NAME, "<saml:NameID>d&e;</saml:NameID>")(),
    "external entity in NameID": lambda: b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>"
    + after(_NAME, "<saml:NameID>d&e;</saml:NameID>")(),
    "default attribute by DOCTYPE": lambda: b"<!DOCTYPE x [<!ATTLIST Assertion x CDATA 'y'>]>" + good(),
    "instruction in NameID": after(_NAME, "<saml:NameID>d<?x y?>r</saml:NameID>"),
    "instruction in the Security header": tree(lambda r: security(r).insert(0, etree.ProcessingInstruction("x", "y"))),
    "NameID changed": after(_NAME, "<saml:NameID>ATTACKER</saml:NameID>"),
    "Issuer changed": after(ISSUER, "https://evil.example.pl"),
    "role changed": after("112247003", "112247004"),
    "audience changed": after(AUDIENCE, "https://other.example.pl"),
    "time changed": after(zulu(NOW + timedelta(minutes=10)), zulu(NOW + timedelta(minutes=50))),
    "attribute taken away": tree(lambda r: assertion_of(r)[-1].remove(assertion_of(r)[-1][0])),
    "white space added": after("<saml:Subject>", " <saml:Subject>"),
    "prefix changed": lambda: good().replace(b"saml:", b"s2:").replace(b"xmlns:saml", b"xmlns:s2"),
    "namespace of NameID changed": after(_NAME, "<x:NameID xmlns:x='urn:x'>dr</x:NameID>"),
    "default namespace declared": after("<saml:NameID>", "<saml:NameID xmlns:xsi='urn:x' xsi:y='1'>"),
    "assertion of SAML 1.1": lambda: good().replace(SAML.encode(), b"urn:oasis:names:tc:SAML:1.0:assertion"),
    "xml:id in a message in UTF-16": lambda: tree(
        lambda r: r[1][0].set("{http://www.w3.org/XML/1998/namespace}id", "a")
    )().decode().encode("utf-16"),
    "xml:id anywhere": tree(lambda r: r[1][0].set("{http://www.w3.org/XML/1998/namespace}id", "a")),
    # the header
    "two Security headers": tree(lambda r: r[0].append(copy.deepcopy(security(r)))),
    "empty Security header": tree(lambda r: security(r).clear()),
    "Security header in the Body": tree(lambda r: r[1][0].append(copy.deepcopy(security(r)))),
    "Security header in another header": tree(
        lambda r: etree.SubElement(r[0], "{urn:x}h").append(copy.deepcopy(security(r)))
    ),
    "two assertions": tree(lambda r: security(r).append(copy.deepcopy(assertion_of(r)))),
    "unsigned assertion first": lambda: envelope(
        Assertion(name_id="ATTACKER").xml().encode() + forge(Assertion().xml(), STS)
    ),
    "unsigned assertion last": lambda: envelope(
        forge(Assertion().xml(), STS) + Assertion(name_id="ATTACKER").xml().encode()
    ),
    "two valid assertions": lambda: envelope(forge(Assertion().xml(), STS) + forge(Assertion(name_id="x").xml(), STS)),
    "assertion outside the Security header": tree(lambda r: r[0].append(assertion_of(r))),
    "assertion within another element": tree(
        lambda r: etree.SubElement(security(r), "{urn:x}wrapper").append(assertion_of(r))
    ),
    "another assertion in the Body": lambda: envelope(forge(Assertion().xml(), STS), body=Assertion().xml()),
    "another signature in the Body": lambda: envelope(
        forge(Assertion().xml(), STS), body=f'<ds:Signature xmlns:ds="{DS}"/>'
    ),
    "EncryptedAssertion": lambda: envelope(f'<saml:EncryptedAssertion xmlns:saml="{SAML}"/>'.encode()),
    "EncryptedAssertion beside the assertion": tree(lambda r: _into(r, f'<saml:EncryptedAssertion xmlns:saml="{SAML}"/>')),
    "EncryptedKey beside the assertion": tree(
        lambda r: _into(r, '<xenc:EncryptedKey xmlns:xenc="http://www.w3.org/2001/04/xmlenc#"/>')
    ),
    "UsernameToken alone": lambda: envelope(b"<wsse:UsernameToken><wsse:Username>admin</wsse:Username></wsse:UsernameToken>"),
    "UsernameToken beside the assertion": tree(lambda r: _into(r, f'<wsse:UsernameToken xmlns:wsse="{WSSE}"/>')),
    "Timestamp alone beside the assertion": tree(lambda r: _into(r, f'<wsu:Timestamp xmlns:wsu="{WSU}"/>')),
    "token alone beside the assertion": tree(lambda r: _into(r, f'<wsse:BinarySecurityToken xmlns:wsse="{WSSE}"/>')),
    "SecurityTokenReference beside the assertion": tree(
        lambda r: _into(r, f'<wsse:SecurityTokenReference xmlns:wsse="{WSSE}"/>')
    ),
    "unknown element beside the assertion": tree(lambda r: _into(r, "<x xmlns='urn:x'/>")),
    "text in the Security header": tree(lambda r: setattr(security(r), "text", "admin")),
    "text behind the assertion": tree(lambda r: setattr(assertion_of(r), "tail", "admin")),
    "Security for another role": lambda: envelope(
        forge(Assertion().xml(), STS), security_attributes='s:role="http://elsewhere"'
    ),
    "unknown attribute of Security": lambda: envelope(forge(Assertion().xml(), STS), security_attributes='x="y"'),
    "Id of Security": lambda: envelope(forge(Assertion().xml(), STS), security_attributes='wsu:Id="a"'),
    "xml:id of Security": lambda: envelope(forge(Assertion().xml(), STS), security_attributes='xml:id="a"'),
    "mustUnderstand of another value": lambda: envelope(
        forge(Assertion().xml(), STS), security_attributes='s:mustUnderstand="yes"'
    ),
    "identifier as long as a book": lambda: envelope(forge(Assertion().xml(), STS), message_id="m" * 1000),
}  # fmt: skip
for _name in ("ID", "Id", "id", "xml:id", "wsu:Id", "AssertionID"):

    def _same(name: str = _name) -> bytes:
        one = Assertion()
        return envelope(forge(one.xml(), STS), body=f'<q xmlns="urn:q" xmlns:wsu="{WSU}" {name}="{one.id}"/>')

    WRITING[f"the assertion's identifier as {_name} in the Body"] = _same


# signed messages -------------------------------------------------------------------------------------------------------


def message(**changed: Any) -> Make:
    return lambda: signed_envelope(held().signed(STS), CLIENT, **changed)


def _second(root: Any) -> Any:
    return security(root).find(f"{{{DS}}}Signature")


def _drop(root: Any, tag: str) -> None:
    element = security(root).find(tag)
    element.getparent().remove(element)


def _move_body(root: Any) -> None:
    """The signed Body goes into the header, another one takes its place (XSW of SOAP, McIntosh and Austel 2005)."""
    body = root[1]
    wrapper = etree.SubElement(root[0], "{urn:x}wrapper")
    evil = copy.deepcopy(body)
    evil[0].text = "evil"
    wrapper.append(body)
    evil.set(f"{{{WSU}}}Id", "Body-2")
    root.append(evil)


def _same_body(root: Any) -> None:
    _move_body(root)
    root[1].set(f"{{{WSU}}}Id", "Body-1")


_TIMESTAMP, _TOKEN = f"{{{WSU}}}Timestamp", f"{{{WSSE}}}BinarySecurityToken"
_PKCS7 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#PKCS7"
_V3 = _PKCS7.replace("PKCS7", "X509v3")


def _expired() -> Any:
    return identity("holder-old", begins=NOW - timedelta(days=400), days=365)


def _exchanged() -> bytes:
    """The assertion of another holder in a message that is well signed."""
    root = etree.fromstring(good_message())
    other = Assertion(name_id="other", **holder_of_key(identity("other"))).signed(STS)
    security(root).replace(assertion_of(root), etree.fromstring(other))
    return etree.tostring(root)


MESSAGES: dict[str, Make] = {
    "Body changed": after("?</q:Question>", "!</q:Question>", good_message),
    "Body emptied": tree(lambda r: r[1][0].clear(), good_message),
    "Created changed": after(zulu(NOW), zulu(NOW + timedelta(seconds=1)), lambda: signed_envelope(
        held(issue_instant=zulu(NOW - timedelta(seconds=9)), authn=_AUTHN.replace(zulu(NOW), zulu(NOW - timedelta(seconds=9)))).signed(STS), CLIENT)),
    "Expires changed": after(zulu(NOW + timedelta(seconds=300)), zulu(NOW + timedelta(seconds=299)), good_message),
    "message expired": message(now=NOW - timedelta(minutes=10)),
    "message of the future": message(now=NOW + timedelta(minutes=5)),
    "message holds for an hour": message(expires=NOW + timedelta(hours=1)),
    "message expires before it was made": message(expires=NOW - timedelta(seconds=1)),
    "only the Body signed": message(references=("Body-1",)),
    "only the Timestamp signed": message(references=("TS-1",)),
    "the Body signed twice": message(references=("Body-1", "Body-1")),
    "the token signed as well": message(references=("Body-1", "TS-1", "X509-1")),
    "the token signed in place of the Body": message(references=("X509-1", "TS-1")),
    "no Timestamp": tree(lambda r: _drop(r, _TIMESTAMP), good_message),
    "no token": tree(lambda r: _drop(r, _TOKEN), good_message),
    "no message signature": tree(lambda r: _drop(r, f"{{{DS}}}Signature"), good_message),
    "no assertion": tree(lambda r: _drop(r, f"{{{SAML}}}Assertion"), good_message),
    "two Timestamps": tree(lambda r: security(r).append(copy.deepcopy(security(r).find(_TIMESTAMP))), good_message),
    "two tokens": tree(lambda r: security(r).append(copy.deepcopy(security(r).find(_TOKEN))), good_message),
    "two message signatures": tree(lambda r: security(r).append(copy.deepcopy(_second(r))), good_message),
    "signed Body wrapped in the header": tree(_move_body, good_message),
    "signed Body wrapped, same identifier": tree(_same_body, good_message),
    "Timestamp wrapped": tree(
        lambda r: etree.SubElement(r[0], "{urn:x}w").append(copy.deepcopy(security(r).find(_TIMESTAMP))), good_message
    ),
    "message signature by SHA-1": message(algorithm=f"{DS}rsa-sha1"),
    "message signed by another key than the holder's": lambda: signed_envelope(held().signed(STS), identity("attacker")),
    "bearer's message signed by a stranger": lambda: signed_envelope(Assertion().signed(STS), identity("attacker")),
    "sender vouches in a signed message": lambda: signed_envelope(
        Assertion(method=f"{CM}sender-vouches").signed(STS), CLIENT
    ),
    "weak key of the message": lambda: signed_envelope(
        Assertion(**holder_of_key(identity("weak", "rsa1024"))).signed(STS), identity("weak", "rsa1024")
    ),
    "expired certificate of the message": lambda: signed_envelope(
        Assertion(**holder_of_key(_expired())).signed(STS), _expired()
    ),
    "token replaced": after(CLIENT.der64 + "</wsse:Binary", identity("attacker").der64 + "</wsse:Binary", good_message),
    "token that is no certificate": after(CLIENT.der64 + "</wsse:Binary", "AAAA</wsse:Binary", good_message),
    "token of PKCS 7": after(f'ValueType="{_V3}" Enc', f'ValueType="{_PKCS7}" Enc', good_message),
    "token in hexadecimal": after("#Base64Binary", "#HexBinary", good_message),
    "reference to another token": after('URI="#X509-1"', 'URI="#X509-2"', good_message),
    "reference to the token elsewhere": after('URI="#X509-1"', 'URI="http://169.254.169.254/"', good_message),
    "key by KeyIdentifier": tree(lambda r: _second(r)[-1][0].append(_second(r)[-1][0][0].__copy__()), good_message),
    "key by X509Data": tree(lambda r: _second(r)[-1].append(etree.fromstring(
        f'<ds:X509Data xmlns:ds="{DS}"><ds:X509Certificate>{CLIENT.der64}</ds:X509Certificate></ds:X509Data>')), good_message),
    "no KeyInfo": tree(lambda r: _second(r).remove(_second(r)[-1]), good_message),
    "no identifier of the Body": tree(lambda r: r[1].attrib.pop(f"{{{WSU}}}Id"), good_message),
    "another identifier of the Body": tree(lambda r: r[1].set("Id", "Body-1"), good_message),
    "another attribute of the Body": tree(lambda r: r[1].set("x", "y"), good_message),
    "the Body's identifier within it": tree(lambda r: r[1][0].set("Id", "Body-1"), good_message),
    "the Timestamp's identifier in the Body": tree(lambda r: r[1][0].set("ID", "TS-1"), good_message),
    "the token's identifier in the Body": tree(lambda r: r[1][0].set("id", "X509-1"), good_message),
    "Body and Timestamp of one identifier": tree(
        lambda r: security(r).find(_TIMESTAMP).set(f"{{{WSU}}}Id", "Body-1"), good_message
    ),
    "parts that are not signed": message(
        body='<q:Question xmlns:q="urn:q"><xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:a"/></q:Question>'
    ),
    "comment in the signed Body": tree(lambda r: r[1][0].append(etree.Comment("x")), good_message),
    "assertion changed in a signed message": after(_NAME, "<saml:NameID>ATTACKER</saml:NameID>", good_message),
    "assertion of another exchanged in a signed message": _exchanged,
    "third time in the Timestamp": tree(
        lambda r: security(r).find(_TIMESTAMP).append(copy.deepcopy(security(r).find(_TIMESTAMP)[0])), good_message
    ),
    "relative namespace name in the Body": tree(lambda r: r[1][0].set("{relative}a", "1"), good_message),
}  # fmt: skip


# signature wrapping ----------------------------------------------------------------------------------------------------

LOCATIONS = ("header", "body", "object", "extensions")
IDENTIFIERS = ("ID", "Id", "id", "xml:id", "duplicate", "whitespace", "case")
_XML_ID = "{http://www.w3.org/XML/1998/namespace}id"


def _evil(original: Any, kind: str) -> Any:
    """A copy that speaks of somebody else, without the signature, with an identifier of this kind."""
    evil = copy.deepcopy(original)
    evil.remove(evil.find(f"{{{DS}}}Signature"))
    next(evil.iter(f"{{{SAML}}}NameID")).text = "ATTACKER"
    identifier = evil.attrib.pop("ID")
    match kind:
        case "ID":
            evil.set("ID", "_evil")
        case "Id" | "id":
            evil.set(kind, identifier)
        case "xml:id":
            evil.set(_XML_ID, identifier)
        case "duplicate":
            evil.set("ID", identifier)
        case "whitespace":
            evil.set("ID", f" {identifier} ")
        case "case":
            evil.set("ID", identifier.upper())
    return evil


def wrap(number: int, location: str, kind: str) -> bytes:
    """XSW ``number`` of "On Breaking SAML" for an assertion in a Security header."""
    root = etree.fromstring(good())
    header = security(root)
    original = assertion_of(root)
    evil = _evil(original, kind)
    signature = signature_of(root)
    copied = copy.deepcopy(signature)  # what the evil one is given, where it is given one

    def keep(element: Any, within: Any = signature) -> None:
        """Puts an element away; ``within`` is the signature in whose Object."""
        match location:
            case "header":
                place = etree.SubElement(root[0], "{urn:x}header")
            case "body":
                place = root[1][0]
            case "object":
                place = etree.SubElement(within, f"{{{DS}}}Object")
            case _:
                place = etree.SubElement(header, "{urn:oasis:names:tc:SAML:2.0:protocol}Extensions")
        place.append(element)

    match number:
        case 1:  # the evil one in place, with a signature; the signed one elsewhere
            header.replace(original, evil)
            evil.insert(1, copied)
            keep(original, copied)
        case 2:  # the same with the signature beside it
            header.replace(original, evil)
            evil.addnext(copied)
            keep(original, copied)
        case 3:  # the evil one before the signed one, which stays; a copy elsewhere
            original.addprevious(evil)
            keep(copy.deepcopy(evil))
        case 4:  # the evil one around the signed one
            header.replace(original, evil)
            evil.append(original)
            keep(copy.deepcopy(evil[-2]))
        case 5:  # the signature in the evil one, the signed one without it elsewhere
            original.remove(signature)
            evil.insert(1, signature)
            header.replace(original, evil)
            keep(original)
        case 6:  # the signed one within the signature of the evil one
            original.remove(signature)
            evil.insert(1, signature)
            header.replace(original, evil)
            signature.append(original)
            keep(copy.deepcopy(evil[0]))
        case 7:  # the evil one elsewhere, the signed one as it was
            keep(evil)
        case _:  # the signed one elsewhere with its signature, the evil one in place
            header.replace(original, evil)
            evil.insert(1, copied)
            keep(copy.deepcopy(original), copied)
            copied.remove(copied[0])
    return etree.tostring(root)


def wrappings() -> Iterator[Case]:
    for number in range(1, 9):
        for location in LOCATIONS:
            for kind in IDENTIFIERS:
                yield Case(f"XSW{number} {location} {kind}", partial(wrap, number, location, kind), good)


# all of them -----------------------------------------------------------------------------------------------------------


def cases() -> Iterator[Case]:
    """Every one, by a name of its own."""
    for table, twin in ((SIGNATURES, good), (SAYINGS, good), (WRITING, good), (MESSAGES, good_message)):
        for name, made in table.items():
            yield made if isinstance(made, Case) else Case(name, made, twin)
    yield from _keys()
    yield from wrappings()
