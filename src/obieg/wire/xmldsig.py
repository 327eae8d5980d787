"""XML Signature as far as assertions and SOAP messages need it (XML Signature 1.1; Exclusive XML Canonicalization 1.0).

A verifier that finds nothing by itself: who calls it says which element must have been signed, what is signed are the
canonical bytes, and only these may be read afterwards. Algorithms and keys are those of ``codes/saml.toml``.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lxml import etree

from obieg.codes.load import toml
from obieg.wire.structure import Node, SecurityRefused

_TABLE = toml("saml.toml")
_KEYS = _TABLE["keys"]
_PREFIXES_MAX: int = _TABLE["limits"]["prefixes_max"]
_SIGNATURE_ALGORITHMS: dict[str, dict[str, str]] = _TABLE["signature_algorithm"]
_DIGESTS = {uri: getattr(hashlib, name) for uri, name in _TABLE["digest_algorithm"].items()}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512(),
}  # fmt: skip
_CERTIFICATE_BYTES_MAX = 16_384
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class Certificate(NamedTuple):
    """What of an X.509 certificate matters here."""

    der: bytes
    key: PublicKey | None  # None: of a kind or size that proves nothing
    key_info: bytes  # SubjectPublicKeyInfo, DER: two certificates of one key have the same
    subject: str  # RFC 4514
    names: tuple[str, ...]  # DNS names and URIs of its subjectAltName
    fingerprint: str  # SHA-256, hexadecimal
    not_before: float  # seconds of POSIX time
    not_after: float


@lru_cache(maxsize=1_024)
def certificate(der: bytes) -> Certificate:
    """Reads a certificate. Raises :class:`SecurityRefused` for what is none."""
    if len(der) > _CERTIFICATE_BYTES_MAX:
        raise SecurityRefused("a certificate is too large")
    try:
        read = x509.load_der_x509_certificate(der)
        key = read.public_key()
        key_info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        subject = read.subject.rfc4514_string()
        try:
            names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            alternative: tuple[str, ...] = ()
        else:
            alternative = (
                *names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.UniformResourceIdentifier),
            )  # fmt: skip
        begin, end = read.not_valid_before_utc.timestamp(), read.not_valid_after_utc.timestamp()
    except Exception as error:
        # The library has an exception of its own for each way in which a certificate can be broken.
        raise SecurityRefused("a certificate cannot be read") from error
    return Certificate(der, _strong(key), key_info, subject, alternative, hashlib.sha256(der).hexdigest(), begin, end)


def rsa_key_info(modulus: bytes, exponent: bytes) -> bytes:
    """SubjectPublicKeyInfo of an RSA key (XML Signature 1.1, section 4.5.2.2). Raises :class:`SecurityRefused`."""
    try:
        numbers = rsa.RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus))
        key = _strong(numbers.public_key())
    except ValueError:
        key = None
    if key is None:
        raise SecurityRefused("an RSA key that proves nothing")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _strong(key: Any) -> PublicKey | None:
    if isinstance(key, rsa.RSAPublicKey):
        if _KEYS["rsa_bits_min"] <= key.key_size <= _KEYS["rsa_bits_max"]:
            exponent = key.public_numbers().e
            return key if exponent >= _KEYS["rsa_exponent_min"] and exponent % 2 else None
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _KEYS["curves"]:
        return key
    return None


def canonical(element: Any, prefixes: Sequence[str] = ()) -> bytes:
    """Exclusive canonical form without comments; ``prefixes`` is the InclusiveNamespaces PrefixList.

    Raises :class:`SecurityRefused` where there is none (relative namespace names), never returns a part of it.
    """
    try:
        data: bytes = etree.tostring(
            element, method="c14n", exclusive=True, with_comments=False, inclusive_ns_prefixes=list(prefixes) or None
        )
    except (etree.LxmlError, ValueError, AssertionError):
        raise SecurityRefused("the canonical form cannot be made") from None
    if not data.startswith(b"<") or not data.endswith(b">"):
        raise SecurityRefused("the canonical form is empty")
    return data


def prefixes_of(transform: Node) -> tuple[str, ...]:
    """The PrefixList of a transform or of the canonicalization method."""
    inclusive = transform.maybe("inclusive-namespaces")
    if inclusive is None:
        return ()
    prefixes = inclusive.attributes["PrefixList"].split()
    if len(prefixes) > _PREFIXES_MAX:
        raise SecurityRefused("the PrefixList is too long")
    return tuple(prefixes)


def base64(text: str) -> bytes:
    """The bytes. Raises :class:`SecurityRefused` for anything but Base64 with white space."""
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise SecurityRefused("something is not Base64") from None


def check_digest(reference: Node, data: bytes) -> None:
    """Raises :class:`SecurityRefused` unless the digest in the reference is that of the canonical bytes ``data``."""
    digest = _DIGESTS.get(reference.one("digest-method").attributes["Algorithm"])
    if digest is None:
        raise SecurityRefused("the digest algorithm is not allowed")
    if digest(data).digest() != base64(reference.one("digest-value").text):
        raise SecurityRefused("what was signed has been changed")


def algorithm_of(signed_info: Node) -> str:
    """The signature algorithm. Raises :class:`SecurityRefused` for one that is not allowed."""
    uri = signed_info.one("signature-method").attributes["Algorithm"]
    if uri not in _SIGNATURE_ALGORITHMS:
        raise SecurityRefused("the signature algorithm is not allowed")
    return uri


def verified(key: PublicKey, algorithm: str, value: bytes, data: bytes) -> bool:
    """Whether ``value`` is the signature of ``data`` by ``key`` (RFC 8017, section 8.2; XML Signature 1.1, 6.4.3)."""
    row = _SIGNATURE_ALGORITHMS[algorithm]
    hash_ = _HASHES[row["hash"]]
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if row["key"] != "rsa":
                return False
            key.verify(value, data, padding.PKCS1v15(), hash_)
            return True
        size = (key.key_size + 7) // 8
        if row["key"] != "ecdsa" or len(value) != 2 * size:
            return False
        first, second = int.from_bytes(value[:size]), int.from_bytes(value[size:])
        key.verify(encode_dss_signature(first, second), data, ec.ECDSA(hash_))
    except InvalidSignature:
        return False
    return True


def signer(signature: Node, known: Sequence[Certificate], algorithm: str, value: bytes, signed: bytes) -> Certificate:
    """The certificate, of those ``known`` of the issuer, whose key made the signature. Raises SecurityRefused."""
    if not known:
        raise SecurityRefused("nobody trusts this issuer")
    key_info = signature.maybe("issuer-key")
    named = key_info.maybe("x509-data") if key_info is not None else None
    if named is not None:
        der = base64(named.one("x509-certificate").text)
        known = [c for c in known if c.der == der]
        if not known:
            raise SecurityRefused("the certificate in the signature is none of the issuer's")
    for one in known:
        if one.key is not None and verified(one.key, algorithm, value, signed):
            return one
    raise SecurityRefused("the signature is not valid, is by another key, or the issuer's key is too weak")
