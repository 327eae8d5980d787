"""Enveloped signatures of SAML messages, read and written (SAML 2.0 Core, section 5.4; XML Signature 1.1).

The primitives are those of ``wire/xmldsig``. What is signed is always the very element that is looked at: its reference
must name its own ID, and it is read from the canonical bytes that were signed.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from obieg.codes.load import toml
from obieg.wire.structure import Node, Rules, SecurityRefused
from obieg.wire.xml import XmlLimits, XmlRefused, parse_message
from obieg.wire.xmldsig import (
    Certificate,
    algorithm_of,
    base64,
    canonical,
    check_digest,
    prefixes_of,
    signer,
)

_SAML, _XMLENC = toml("saml.toml"), toml("xmlenc.toml")
_SIGNING = toml("national/pl/wezel_krajowy.toml")["signing"]
_DS, _EXC = _SAML["namespaces"]["ds"], _SAML["namespaces"]["ec"]
_ENVELOPED = f"{_DS}enveloped-signature"
_SIGNATURE = f"{{{_DS}}}Signature"
_TRANSFORMS = f"{{{_DS}}}SignedInfo/{{{_DS}}}Reference/{{{_DS}}}Transforms"


def rules_with(*tables: dict[str, Any]) -> Rules:
    """The rules of ``tables`` upon those of ``codes/saml.toml`` and ``codes/xmlenc.toml``; a later one replaces."""
    all_tables = (_SAML, _XMLENC, *tables)
    return Rules({
        part: {name: row for table in all_tables for name, row in table.get(part, {}).items()}
        for part in ("namespaces", "type", "rule")
    })  # fmt: skip


class Read(NamedTuple):
    """An element as read, and by whose key it is signed."""

    node: Node
    by: Certificate | None  # None: it has no signature


def read_enveloped(element: Any, rules: Rules, rule: str, known: Sequence[Certificate], limits: XmlLimits) -> Read:
    """``element`` by ``rule``, and who signed it with a signature that is its own child.

    ``known`` are the certificates by whose keys it may be signed. Raises :class:`SecurityRefused` for a signature that
    is not valid, is of something else, or is by another key; not for a missing one.
    """
    signature_element = element.find(_SIGNATURE)
    data = canonical(element, () if signature_element is None else _prefixes(signature_element, rules))
    try:
        root = parse_message(data, limits)
    except XmlRefused:
        raise SecurityRefused("what was signed cannot be read") from None
    node = rules.read(root, rule)
    signature = node.maybe("assertion-signature")
    if signature is None:
        return Read(node, None)
    signed_info = signature.one("assertion-signed")
    reference = signed_info.one("assertion-reference")
    if reference.attributes["URI"] != f"#{node.attributes['ID']}":
        raise SecurityRefused("the signature is of something else")
    algorithm = algorithm_of(signed_info)
    child = root.find(_SIGNATURE)
    signed = canonical(child[0], prefixes_of(signed_info.one("canonicalization")))
    exclusive = reference.one("enveloped-transforms").one("exclusive")
    before = child.getprevious()
    before.tail = (before.tail or "") + (child.tail or "")
    root.remove(child)
    check_digest(reference, canonical(root, prefixes_of(exclusive)))
    value = base64(signature.one("signature-value").text)
    return Read(node, signer(signature, known, algorithm, value, signed))


def _prefixes(signature: Any, rules: Rules) -> tuple[str, ...]:
    """The PrefixList of the reference; the whole is checked when it is read again."""
    transforms = signature.find(_TRANSFORMS)
    if transforms is None or len(transforms) == 0:
        return ()
    return prefixes_of(rules.read(transforms[-1], "exclusive"))


def sign_enveloped(message: bytes, key: ec.EllipticCurvePrivateKey, certificate: bytes) -> bytes:
    """``message`` with an enveloped signature behind its Issuer.

    ``message`` is an element with an ID and an Issuer as its first child; ``certificate`` is that of ``key``, as DER.
    """
    root = parse_message(message)
    data = canonical(root)
    digest = b64encode(hashlib.sha256(data).digest()).decode()
    signed_info = (
        f'<ds:SignedInfo xmlns:ds="{_DS}">'
        f'<ds:CanonicalizationMethod Algorithm="{_EXC}"></ds:CanonicalizationMethod>'
        f'<ds:SignatureMethod Algorithm="{_SIGNING["algorithm"]}"></ds:SignatureMethod>'
        f'<ds:Reference URI="#{root.get("ID")}"><ds:Transforms>'
        f'<ds:Transform Algorithm="{_ENVELOPED}"></ds:Transform><ds:Transform Algorithm="{_EXC}"></ds:Transform>'
        f'</ds:Transforms><ds:DigestMethod Algorithm="{_SIGNING["digest"]}"></ds:DigestMethod>'
        f"<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    )
    first, second = decode_dss_signature(key.sign(signed_info.encode(), ec.ECDSA(hashes.SHA256())))
    size = (key.key_size + 7) // 8
    value = b64encode(first.to_bytes(size) + second.to_bytes(size)).decode()
    signature = (
        f'<ds:Signature xmlns:ds="{_DS}">{signed_info}<ds:SignatureValue>{value}</ds:SignatureValue>'
        f"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{b64encode(certificate).decode()}</ds:X509Certificate>"
        f"</ds:X509Data></ds:KeyInfo></ds:Signature>"
    )
    issuer = canonical(root[0])
    end = issuer[issuer.rindex(b"</") :]
    before, _, after = data.partition(end)
    return before + end + signature.encode() + after
