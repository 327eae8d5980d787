"""Proofs of possession: who asks for a token, or shows one, has the key that it is bound to (DPoP, RFC 9449).

A proof names one request and is taken once: its ``jti`` is used up in the commit of the request's audit record.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from obieg.actors.client_proof import SKEW
from obieg.codes.load import toml
from obieg.domain.requester import Spent
from obieg.wire import jwt

LIFE = timedelta(seconds=60)  # after it was made a proof is taken, give or take SKEW (RFC 9449, section 11.1)
ALGORITHMS = jwt.ALGORITHMS
_TYPES = frozenset(toml("smart.toml")["header"]["dpop"])
_PORTS = {"http": ":80", "https": ":443"}


class Address(NamedTuple):
    """Of a request, without what stands behind ``?``."""

    scheme: str
    host: str  # and port
    path: str  # decoded


class Possession(NamedTuple):
    """What a proof proved."""

    thumbprint: str  # of the key (RFC 7638): ``jkt``
    spent: Spent


def prove(proof: str, *, method: str, address: Address, token: str = "", clock: Callable[[], datetime]) -> Possession:
    """The key by which a request is made (RFC 9449, section 4.3); ``token``: the access token that it shows.

    ``method`` and ``address`` are those of the request. Raises :class:`obieg.wire.jwt.JwtRefused`.
    """
    read = jwt.read(proof, types=_TYPES, brings_key=True)
    thumbprint = jwt.verify_own(read)
    claims = read.claims
    if claims.get("htm") != method:
        raise jwt.JwtRefused("of another method")
    if _normal(address_of(jwt.text(claims, "htu", jwt.BYTES_MAX))) != _normal(address):
        raise jwt.JwtRefused("of another address")
    now, made = clock().timestamp(), jwt.instant(claims, "iat")
    if made is None or made > now + SKEW.total_seconds() or made + (LIFE + SKEW).total_seconds() <= now:
        raise jwt.JwtRefused("made too long ago, or not yet")
    begins, ends = (jwt.instant(claims, name) for name in ("nbf", "exp"))
    if (begins or 0) > now + SKEW.total_seconds() or (ends is not None and ends + SKEW.total_seconds() <= now):
        raise jwt.JwtRefused("it does not hold now")
    if token and not hmac.compare_digest(jwt.text(claims, "ath").encode(), hashed(token).encode()):
        raise jwt.JwtRefused("of another token")
    until = datetime.fromtimestamp(made, UTC) + LIFE + 2 * SKEW
    return Possession(thumbprint, Spent("dpop", thumbprint, jwt.text(claims, "jti"), until))


def hashed(token: str) -> str:
    """``ath`` (RFC 9449, section 4.2)."""
    return urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode("ascii")


def address_of(text: str) -> Address:
    """The address in a proof. Raises :class:`obieg.wire.jwt.JwtRefused`."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise jwt.JwtRefused("htu is no address") from None
    return Address(parts.scheme, parts.netloc, unquote(parts.path))


def _normal(address: Address) -> Address:
    """As it is compared (RFC 3986, sections 6.2.2 and 6.2.3)."""
    scheme, host = address.scheme.lower(), address.host.lower()
    return Address(scheme, host.removesuffix(_PORTS.get(scheme, "\0")), address.path or "/")
