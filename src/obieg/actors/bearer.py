"""Tokens at this node's FHIR service (ITI-72; RFC 6750, RFC 9068 section 4, RFC 8705 section 3, RFC 9449 section 7)."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog

from obieg.actors import dpop
from obieg.actors.client_proof import SKEW
from obieg.actors.keyring import Keyring
from obieg.codes.load import toml
from obieg.domain.authorization import AuthorizationStore, Grant
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.protocol import Credentials
from obieg.wire import jwt

_TYPES = frozenset(toml("smart.toml")["header"]["access_token"])

_BOUND = "dpop"
_SCHEMES = ("bearer", _BOUND)

log = structlog.get_logger()


class Bearer:
    """Reads access tokens that this node has issued; there are no others."""

    def __init__(
        self,
        keyring: Keyring,
        store: AuthorizationStore,
        *,
        issuer: str,
        audience: str,
        assigning_authority: str,
        clock: Callable[[], datetime],
    ) -> None:
        """``audience``: address of the FHIR service. ``assigning_authority``: OID of the patients' logical ids."""
        self._keyring = keyring
        self._store = store
        self._issuer = issuer
        self._audience = audience
        self._authority = assigning_authority
        self._clock = clock

    async def verify(self, credentials: Credentials) -> Requester:
        """Whoever bears the token, or has its key. Raises Problem ``AuthenticationFailed``, which does not say why."""
        try:
            scheme, _, shown = credentials.authorization.partition(" ")
            if scheme.lower() not in _SCHEMES:
                raise jwt.JwtRefused("neither Bearer nor DPoP")
            token = shown.strip()
            read, grant = await self.read(token)
            possession = self._possessed(token, credentials) if scheme.lower() == _BOUND else None
            self._expect_binding(read.claims, credentials.certificate, possession)
        except jwt.JwtRefused as error:
            log.info("an access token was refused", reason=str(error), address=credentials.address)
            raise Problem.of(
                "AuthenticationFailed",
                "the access token is not accepted; ask the authorization server of this node for one",
                "http.Authorization",
            ) from None
        claims = read.claims
        until = datetime.fromtimestamp(claims["exp"], UTC)
        patient = str(claims.get("patient", ""))
        common: dict[str, Any] = {
            "system": str(claims["client_id"]),
            "address": credentials.address,
            "proof": "oauth",
            "issuer": self._issuer,
            "patient": f"{self._authority}#{patient}" if patient else "",
            "scopes": tuple(str(claims["scope"]).split()),
            "token": str(claims["jti"]),
            "until": until,
            "spent": (possession.spent,) if possession is not None else (),
            "repositories": (),
        }
        person = grant.person if grant is not None else Requester(system="")
        return msgspec.structs.replace(person, **common)

    async def read(self, text: str) -> tuple[jwt.Jwt, Grant | None]:
        """A token that stands, and the grant that it is of. Raises JwtRefused, RetryLater."""
        token = jwt.read(text, types=_TYPES)
        key = await self._keyring.key(token.key_id)
        if key is None or token.algorithm != "ES256":
            raise jwt.JwtRefused("signed by no key of this node")
        jwt.verify(token, {token.key_id: key})
        claims = token.claims
        if claims.get("iss") != self._issuer:
            raise jwt.JwtRefused("of another issuer")
        if claims.get("aud") != self._audience:
            raise jwt.JwtRefused("for another service")
        for name in ("sub", "client_id", "jti"):
            jwt.text(claims, name)
        jwt.text(claims, "scope", jwt.BYTES_MAX)
        self._expect_time(token)
        grant_id = str(claims.get("grant", ""))
        revoked, grant = await self._store.standing(str(claims["jti"]), grant_id)
        if revoked or (grant_id and grant is None):
            raise jwt.JwtRefused("revoked")
        return token, grant

    def _expect_time(self, token: jwt.Jwt) -> None:
        now, skew = self._clock().timestamp(), SKEW.total_seconds()
        expires, begins, made = (jwt.instant(token.claims, name) for name in ("exp", "nbf", "iat"))
        if expires is None or made is None or expires + skew <= now:
            raise jwt.JwtRefused("expired")
        if made > now + skew or (begins is not None and begins > now + skew):
            raise jwt.JwtRefused("not valid yet")

    def _possessed(self, token: str, credentials: Credentials) -> dpop.Possession:
        parts = urlsplit(self._issuer)
        own = dpop.Address(parts.scheme, parts.netloc, parts.path.rstrip("/") + credentials.path)
        return dpop.prove(credentials.dpop, method=credentials.method, address=own, token=token, clock=self._clock)

    @staticmethod
    def _expect_binding(claims: dict[str, Any], certificate: bytes | None, possession: dpop.Possession | None) -> None:
        """A token that was bound to a key is of use only to who has proved that key: each one that it names."""
        confirmed = claims.get("cnf", {})
        if not isinstance(confirmed, dict) or ("cnf" in claims and not confirmed):
            raise jwt.JwtRefused("bound to nothing that can be proved")
        proved = {
            "x5t#S256": thumbprint(certificate) if certificate is not None else "",
            "jkt": possession.thumbprint if possession is not None else "",
        }
        for name, wanted in confirmed.items():
            if not isinstance(wanted, str) or not proved.get(name):
                raise jwt.JwtRefused("bound to a key that was not proved")
            if not hmac.compare_digest(proved[name].encode(), wanted.encode()):
                raise jwt.JwtRefused("bound to another key")
        if possession is not None and "jkt" not in confirmed:
            raise jwt.JwtRefused("shown as bound, which it is not")


def thumbprint(certificate: bytes) -> str:
    """``x5t#S256`` (RFC 8705, section 3.1)."""
    return urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode("ascii")
