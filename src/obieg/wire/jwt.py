"""JSON Web Tokens, signed (RFC 7515, 7519; RFC 8725): read without the liberties that libraries take, and written.

The way of a token: its form (three parts of canonical base64url), its header (a closed list of algorithms, no member
that brings a key or changes what is signed), its key (only one that was registered, found by ``kid``, fit for the
algorithm), its signature, and only then its claims. Each member stands once. The library joserfc does the arithmetic;
it never chooses anything.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from obieg.codes.load import toml
from obieg.wire import fhir_json
from obieg.wire.fhir_elements import Exact
from obieg.wire.fhir_json import JsonRefused

_TABLE = toml("smart.toml")
_ALGORITHMS: dict[str, dict[str, str]] = _TABLE["algorithm"]
ALGORITHMS: tuple[str, ...] = tuple(_ALGORITHMS)
BYTES_MAX = 16 * 1024
_DEPTH_MAX = 8
_KEYS_MAX = 100
RSA_BITS = range(2048, 8193)
RSA_EXPONENT_MIN = 65537
SECONDS_MAX = 253_402_300_799  # the end of the year 9999
_PART = re.compile(r"[A-Za-z0-9_-]+\Z")
# joserfc's own limit of a header is too small for some key ids; ours is BYTES_MAX.
_REGISTRY = jws.JWSRegistry(algorithms=list(ALGORITHMS))

Key = ECKey | RSAKey


class JwtRefused(Exception):  # noqa: N818
    """Not a token that this node reads; the message says why, for the log."""


class Jwt(NamedTuple):
    """A token that has been taken apart; nothing of it is proved yet."""

    header: dict[str, Any]
    claims: dict[str, Any]
    text: str

    @property
    def algorithm(self) -> str:
        """One of :data:`ALGORITHMS`."""
        return str(self.header["alg"])

    @property
    def key_id(self) -> str:
        """``kid``; "" where it names none."""
        return str(self.header.get("kid", ""))


def read(text: str, *, types: Collection[str], brings_key: bool = False) -> Jwt:
    """Takes a token apart; ``types`` are the values of ``typ`` in lower case that it may have, "" for none.

    ``brings_key``: it is a proof that one has the key in its own header, and of nothing else (RFC 9449, section 4.2).

    Raises :class:`JwtRefused`.
    """
    if len(text) > BYTES_MAX:
        raise JwtRefused(f"longer than {BYTES_MAX} characters")
    parts = text.split(".")
    if len(parts) != 3:
        raise JwtRefused("not three parts")
    header, claims = (_json(part) for part in parts[:2])
    if not parts[2]:
        raise JwtRefused("no signature")
    _bytes(parts[2])
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise JwtRefused("an algorithm that is not read")
    if named := [n for n in _TABLE["header"]["refused"] if n in header and not (brings_key and n == "jwk")]:
        raise JwtRefused(f"a header with {', '.join(named)}")
    kind = header.get("typ", "")
    if not isinstance(kind, str) or kind.lower() not in types:
        raise JwtRefused("a token of another type")
    key_id = header.get("kid", "")
    if not isinstance(key_id, str) or len(key_id) > 255 or ("kid" in header and not key_id):
        raise JwtRefused("kid is no name of a key")
    return Jwt(header, claims, text)


def verify(token: Jwt, keys: Mapping[str, Key]) -> None:
    """Raises :class:`JwtRefused` unless one of the registered ``keys`` (by their id) has signed it."""
    if token.key_id:
        key = keys.get(token.key_id)
        fit = [key] if key is not None and _fits(key, token.algorithm) else []
    else:
        fit = [key for key in keys.values() if _fits(key, token.algorithm)]
    if len(fit) != 1:
        raise JwtRefused("no registered key of this name fits the algorithm")
    header, payload, signature = token.text.encode("ascii").split(b".")
    model = _REGISTRY.get_alg(token.algorithm)
    try:
        proved = model.verify(header + b"." + payload, _bytes(signature.decode("ascii")), fit[0])
    except (JoseError, ValueError, TypeError):
        proved = False
    if not proved:
        raise JwtRefused("the signature is not the key's")


def verify_own(token: Jwt) -> str:
    """The thumbprint (RFC 7638) of the public key that stands in the header and has signed the token.

    Raises :class:`JwtRefused`.
    """
    brought = token.header.get("jwk")
    if not isinstance(brought, dict) or brought.get("use", "sig") != "sig":
        raise JwtRefused("jwk is no key for signatures")
    try:
        key = _public_key(brought)
    except ValueError as error:
        raise JwtRefused(str(error)) from None
    verify(token, {token.key_id: key})
    return str(key.thumbprint())


def write(claims: Mapping[str, Any], key: Key, key_id: str, *, typ: str) -> str:
    """A token signed with ES256."""
    head = {"alg": "ES256", "typ": typ, "kid": key_id}
    signed = b".".join(urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=") for part in (head, claims))
    signature = _REGISTRY.get_alg("ES256").sign(signed, key)
    return (signed + b"." + urlsafe_b64encode(signature).rstrip(b"=")).decode("ascii")


def instant(claims: Mapping[str, Any], name: str) -> int | None:
    """A NumericDate in whole seconds (RFC 7519, section 2); None where it is absent. Raises :class:`JwtRefused`."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Exact) or not 0 <= value <= SECONDS_MAX:
        raise JwtRefused(f"{name} is no time")
    return int(value)


def text(claims: Mapping[str, Any], name: str, length_max: int = 255) -> str:
    """A claim that must be there as a text. Raises :class:`JwtRefused`."""
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= length_max or not value.isprintable():
        raise JwtRefused(f"{name} is not given as a text")
    return value


def read_keys(jwks: Mapping[str, Any]) -> dict[str, Key]:
    """The public keys of a JWK Set (RFC 7517, section 5) by their ids; a key without one has its thumbprint's.

    Raises ValueError for a set that is none, a private or symmetric key, one too weak, an id that stands twice.
    """
    listed = jwks.get("keys")
    if not isinstance(listed, list) or len(listed) > _KEYS_MAX:
        raise ValueError("a JWK Set has a list of keys")
    keys: dict[str, Key] = {}
    for row in listed:
        if not isinstance(row, dict):
            raise ValueError("a key is an object")  # noqa: TRY004 - what is wrong is the file
        if row.get("use", "sig") != "sig" or "verify" not in row.get("key_ops", ["verify"]):
            continue
        key = _public_key(row)
        key_id = row.get("kid", key.thumbprint())
        if not isinstance(key_id, str) or not key_id or key_id in keys:
            raise ValueError("each key has an id of its own")
        keys[key_id] = key
    return keys


def new_key() -> ECKey:
    """A key pair for ES256."""
    return ECKey.generate_key("P-256", private=True)


def private_value(key: ECKey) -> bytes:
    """The secret of a key pair: 32 bytes."""
    return _bytes(str(key.as_dict(private=True)["d"])).rjust(32, b"\0")


def key_pair(public: Mapping[str, Any], secret: bytes) -> ECKey:
    """The key pair that :func:`public_jwk` and :func:`private_value` were taken from."""
    d = urlsafe_b64encode(secret).rstrip(b"=").decode("ascii")
    return ECKey.import_key({"kty": "EC", "crv": "P-256", "x": public["x"], "y": public["y"], "d": d})


def public_jwk(key: ECKey, key_id: str) -> dict[str, str]:
    """A public key as it is shown to others."""
    public = key.as_dict(private=False)
    names = ("kty", "crv", "x", "y")
    return {name: str(public[name]) for name in names} | {"kid": key_id, "use": "sig", "alg": "ES256"}


def _public_key(row: Mapping[str, Any]) -> Key:
    if not {"d", "k", "p", "q", "dp", "dq", "qi", "oth"}.isdisjoint(row):
        raise ValueError("a registered key is public")
    kind, curve = row.get("kty"), row.get("crv")
    fit = {name for name, a in _ALGORITHMS.items() if a["kty"] == kind and a.get("crv") in (None, curve)}
    if not fit or row.get("alg", next(iter(fit))) not in fit:
        raise ValueError(f"a key of kind {kind} {curve or ''} for {row.get('alg', 'any algorithm')} is not taken")
    members = ("kty", "crv", "x", "y", "n", "e", "alg")
    try:
        if kind == "RSA":
            modulus, exponent = (int.from_bytes(_bytes(row[name])) for name in ("n", "e"))
            if modulus.bit_length() not in RSA_BITS or exponent < RSA_EXPONENT_MIN:
                raise ValueError(f"it has fewer than {RSA_BITS[0]} bits, or an exponent below {RSA_EXPONENT_MIN}")
        made = {name: row[name] for name in members if name in row}
        key: Key = RSAKey.import_key(made) if kind == "RSA" else ECKey.import_key(made)
        key.public_key  # noqa: B018 - which is when the library looks whether the point is on the curve
    except (JoseError, JwtRefused, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"a key cannot be used: {error}") from None
    return key


def _fits(key: Key, algorithm: str) -> bool:
    row = _ALGORITHMS[algorithm]
    named = key.get("alg")
    if key.key_type != row["kty"] or named not in (None, algorithm):
        return False
    return not isinstance(key, ECKey) or key.curve_name == row["crv"]


def _json(part: str) -> dict[str, Any]:
    try:
        return fhir_json.read(_bytes(part), depth_max=_DEPTH_MAX)
    except JsonRefused as error:
        raise JwtRefused(f"a part is no JSON object: {error}") from None


def _bytes(part: str) -> bytes:
    """Base64url without padding and without stray bits: one way only to write the same bytes."""
    if not _PART.match(part) or len(part) % 4 == 1:
        raise JwtRefused("a part is not base64url")
    data = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if urlsafe_b64encode(data).rstrip(b"=").decode("ascii") != part:
        raise JwtRefused("a part is not canonical base64url")
    return data
