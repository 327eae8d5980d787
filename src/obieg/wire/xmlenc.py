"""Decrypts an element whose key was agreed by ECDH-ES (XML Encryption 1.1; NIST SP 800-56A; RFC 3394).

AES-GCM alone, its key wrapped by AES-KW with a key that ConcatKDF makes of an agreement between an ephemeral key of the
sender and ours. The closed list of algorithms stands in ``codes/xmlenc.toml``.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from obieg.codes.load import toml
from obieg.wire.structure import Node, SecurityRefused
from obieg.wire.xmldsig import base64

_TABLE = toml("xmlenc.toml")
_CONTENT: dict[str, int] = _TABLE["content"]
_KEY_WRAP: dict[str, int] = _TABLE["key_wrap"]
_CURVES: dict[str, str] = _TABLE["curve"]
_DIGESTS: dict[str, str] = _TABLE["derivation_digest"]
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512(),
}  # fmt: skip
_PLAIN_BYTES_MAX: int = _TABLE["limits"]["plain_bytes_max"]
# SP 800-56A, section 5.8.2.1: what is put together beside the agreed secret, in this order.
_OTHER_INFO = ("AlgorithmID", "PartyUInfo", "PartyVInfo", "SuppPubInfo", "SuppPrivInfo")
_NONCE_BYTES, _TAG_BYTES = 12, 16
_UNCOMPRESSED = b"\x04"
_NO_PADDING_BITS = 0


def decrypt(encrypted: Node, key: ec.EllipticCurvePrivateKey) -> bytes:
    """What ``encrypted``, read by the rule ``encrypted-data``, holds for the owner of ``key``.

    Raises :class:`SecurityRefused` for an algorithm that is not listed and for whatever cannot be decrypted; all of
    the latter for one and the same reason, so that nothing can be learned of the key by trying.
    """
    size = _CONTENT.get(encrypted.one("encryption-method").attributes["Algorithm"])
    wrapped = encrypted.one("content-key").one("encrypted-key")
    wrapping = _KEY_WRAP.get(wrapped.one("encryption-method").attributes["Algorithm"])
    if size is None or wrapping is None:
        raise SecurityRefused("the encryption algorithm is not allowed")
    agreement = wrapped.one("agreed-key").one("agreement-method")
    secret = _agreed(agreement.one("originator-key").one("ec-key").one("ec-key-value"), key)
    parameters = agreement.one("key-derivation").one("concat-kdf")
    digest = _DIGESTS.get(parameters.one("digest-method").attributes["Algorithm"])
    if digest is None:
        raise SecurityRefused("the digest of the key derivation is not allowed")
    content_key = _unwrapped(wrapped, [
        ConcatKDFHash(_HASHES[digest], wrapping, other).derive(secret) for other in _other_info(parameters)
    ])  # fmt: skip
    data = base64(encrypted.one("cipher-data").one("cipher-value").text)
    if len(data) > _PLAIN_BYTES_MAX + _NONCE_BYTES + _TAG_BYTES:
        raise SecurityRefused("what is encrypted is too large")
    if len(content_key) != size or len(data) < _NONCE_BYTES + _TAG_BYTES:
        raise SecurityRefused("cannot be decrypted")
    try:
        return AESGCM(content_key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], None)
    except InvalidTag:
        raise SecurityRefused("cannot be decrypted") from None


def _agreed(value: Node, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The shared secret, as long as the curve's field; the sender's point is checked to lie on the curve."""
    curve = _CURVES.get(value.one("named-curve").attributes["URI"])
    if curve != key.curve.name:
        raise SecurityRefused("the key agreement is on another curve than our key")
    point = base64(value.one("public-key").text)
    if not point.startswith(_UNCOMPRESSED):
        raise SecurityRefused("the point of the key agreement is not written in full")
    try:
        return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point))
    except ValueError:
        raise SecurityRefused("the point of the key agreement is not on the curve") from None


def _other_info(parameters: Node) -> Iterator[bytes]:
    """OtherInfo of the key derivation, as it may be meant.

    XML Encryption 1.1 (5.4.1) begins each value with an octet that counts padding bits and is no part of it. Węzeł
    Krajowy, as seen in samples, writes a length of four octets before each value, all of which are part of it; since
    that length begins with zero too, only unwrapping the key tells the two apart.
    """
    values = [bytes.fromhex(parameters.attributes.get(name, "")) for name in _OTHER_INFO]
    yield b"".join(values)
    if any(values) and all(value[0] == _NO_PADDING_BITS for value in values if value):
        yield b"".join(value[1:] for value in values)


def _unwrapped(wrapped: Node, keys: list[bytes]) -> bytes:
    data = base64(wrapped.one("cipher-data").one("cipher-value").text)
    for key in keys:
        try:
            return aes_key_unwrap(key, data)
        except (InvalidUnwrap, ValueError):
            continue
    raise SecurityRefused("cannot be decrypted")
