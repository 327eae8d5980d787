"""Decrypting what was encrypted for a key of ours: the derivation against the standard's own numbers, and the refusals."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree
from standins.wezel_krajowy.provider import Behaviour, Client, KeyPair, Provider

from obieg.wire.enveloped import rules_with
from obieg.wire.structure import SecurityRefused
from obieg.wire.xmlenc import decrypt

PLAIN = b"<a>za\xc5\xbc\xc3\xb3\xc5\x82\xc4\x87</a>"
RULES = rules_with()
XENC = "{http://www.w3.org/2001/04/xmlenc#}"
OURS = KeyPair.make("ours")


def encrypted(**behaviour: Any) -> Any:
    client = Client("https://node.example/sp", "", OURS.certificate, OURS.certificate)
    text = Provider("node.test", "")._encrypted(PLAIN, client, Behaviour(**behaviour))
    declared = "".join(
        f' xmlns:{prefix}="{uri}"'
        for prefix, uri in RULES_NAMESPACES.items()
    )  # fmt: skip
    return etree.fromstring(text.replace("<saml2:EncryptedAssertion>", f"<saml2:EncryptedAssertion{declared}>"))[0]


RULES_NAMESPACES = {
    "saml2": "urn:oasis:names:tc:SAML:2.0:assertion",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
    "xenc": "http://www.w3.org/2001/04/xmlenc#",
    "xenc11": "http://www.w3.org/2009/xmlenc11#",
    "dsig11": "http://www.w3.org/2009/xmldsig11#",
}


def read(element: Any, key: ec.EllipticCurvePrivateKey = OURS.key) -> bytes:
    return decrypt(RULES.read(element, "encrypted-data"), key)


@pytest.mark.parametrize("key_wrap", ["kw-aes128", "kw-aes192", "kw-aes256"])
@pytest.mark.parametrize("content", ["aes128-gcm", "aes192-gcm", "aes256-gcm"])
@pytest.mark.parametrize("derivation", ["node", "standard", "none"])
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_all_that_is_listed(key_wrap: str, content: str, derivation: str, digest: str) -> None:
    assert read(encrypted(key_wrap=key_wrap, content=content, derivation=derivation, digest=digest)) == PLAIN


@pytest.mark.parametrize("content", ["aes128-cbc", "aes192-cbc", "aes256-cbc"])
def test_no_cbc(content: str) -> None:
    with pytest.raises(SecurityRefused, match="not allowed"):
        read(encrypted(content=content))


@pytest.mark.parametrize("algorithm", ["rsa-1_5", "rsa-oaep-mgf1p", "kw-tripledes", "kw-aes512"])
def test_no_other_way_to_a_key(algorithm: str) -> None:
    element = encrypted()
    element.find(f".//{XENC}EncryptedKey/{XENC}EncryptionMethod").set("Algorithm", f"{XENC[1:-1]}{algorithm}")
    with pytest.raises(SecurityRefused, match="not allowed"):
        read(element)


def other(element: Any, tag: str, attribute: str, value: str) -> Any:
    next(element.iter(f"{{*}}{tag}")).set(attribute, value)
    return element


@pytest.mark.parametrize("element", [
    other(encrypted(), "AgreementMethod", "Algorithm", f"{XENC[1:-1]}dh"),
    other(encrypted(), "KeyDerivationMethod", "Algorithm", "http://www.w3.org/2009/xmlenc11#pbkdf2"),
    other(encrypted(), "NamedCurve", "URI", "urn:oid:1.3.132.0.35"),
    other(encrypted(), "NamedCurve", "URI", "urn:oid:1.3.132.0.34"),
    other(encrypted(), "ConcatKDFParams", "PartyUInfo", "0"),
    other(encrypted(), "ConcatKDFParams", "PartyUInfo", "zz"),
    other(encrypted(), "ConcatKDFParams", "PartyUInfo", "00000001AA"),
    other(encrypted(), "ConcatKDFParams", "AlgorithmID", ""),
    other(encrypted(), "EncryptedData", "Type", f"{XENC[1:-1]}Content"),
    other(encrypted(content="aes128-gcm"), "EncryptionMethod", "Algorithm", "http://www.w3.org/2009/xmlenc11#aes256-gcm"),
])  # fmt: skip
def test_other_parameters(element: Any) -> None:
    with pytest.raises(SecurityRefused):
        read(element)


def test_only_the_owner_of_the_key() -> None:
    element = encrypted()
    with pytest.raises(SecurityRefused, match="cannot be decrypted"):
        read(element, KeyPair.make("another").key)
    assert read(element) == PLAIN


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("place", [0, 15, -1])
def test_every_bit_counts(number: int, place: int) -> None:
    """All that is changed is refused in the same words: nothing is learned by trying."""
    element = encrypted()
    value = list(element.iter(f"{XENC}CipherValue"))[number]
    data = bytearray(b64decode(value.text))
    data[place] ^= 1
    value.text = b64encode(data).decode()
    with pytest.raises(SecurityRefused, match=re.escape("cannot be decrypted")):
        read(element)


@pytest.mark.parametrize("point", [
    b"", b"\x04", b"\x00", b"\x04" + bytes(64), b"\x04" + b"\xff" * 64, b"\x02" + bytes(32), b"\x04" + b"\x01" * 96,
])  # fmt: skip
def test_points_that_are_not_on_the_curve(point: bytes) -> None:
    element = encrypted()
    next(element.iter("{*}PublicKey")).text = b64encode(point).decode()
    with pytest.raises(SecurityRefused):
        read(element)


@pytest.mark.parametrize("size", [0, 11, 27, 28])
def test_what_is_too_short(size: int) -> None:
    element = encrypted()
    list(element.iter(f"{XENC}CipherValue"))[-1].text = b64encode(bytes(size)).decode()
    with pytest.raises(SecurityRefused):
        read(element)
