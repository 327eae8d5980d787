"""Which client is asking: ``private_key_jwt`` (RFC 7523, section 3; SMART App Launch, "Asymmetric Authentication")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from obieg.codes.load import toml
from obieg.domain.authorization import ClientProof, OAuthRefused
from obieg.domain.requester import Spent
from obieg.domain.trust import OAuthClient
from obieg.wire import jwt

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SKEW = timedelta(seconds=60)
LIFE_MAX = timedelta(minutes=5)
_TYPES = frozenset(toml("smart.toml")["header"]["assertion"])


class ProvedClient(NamedTuple):
    """A client, and what this proof of it uses up."""

    client: OAuthClient
    confidential: bool
    spent: tuple[Spent, ...] = ()


class Clients:
    """Those that are registered."""

    def __init__(
        self, clients: Sequence[OAuthClient], *, audiences: Sequence[str], clock: Callable[[], datetime]
    ) -> None:
        """``audiences``: issuer and token endpoint, by which an assertion names this server.

        Raises ValueError for a client whose keys cannot be used.
        """
        self.replace(clients)
        self._audiences = frozenset(audiences)
        self._clock = clock

    def replace(self, clients: Sequence[OAuthClient]) -> None:
        """Others are registered from now on; none where one has keys that cannot be used, which raises ValueError."""
        keys = {client.client_id: jwt.read_keys(client.jwks) for client in clients}
        self._clients = {client.client_id: client for client in clients}
        self._keys = keys
        self.origins = frozenset(
            origin(uri) for client in clients for uri in client.redirect_uris if uri.startswith(("http:", "https:"))
        )

    def get(self, client_id: str) -> OAuthClient | None:
        """A registered client."""
        return self._clients.get(client_id)

    def prove(self, proof: ClientProof) -> ProvedClient:
        """The client; one without keys is a public one and proves nothing. Raises OAuthRefused, always alike."""
        try:
            return self._prove(proof)
        except jwt.JwtRefused as error:
            said = "the client must prove itself by private_key_jwt"
            raise OAuthRefused("invalid_client", said, reason=f"client assertion: {error}") from None

    def _prove(self, proof: ClientProof) -> ProvedClient:
        if proof.other:
            raise jwt.JwtRefused("another way than private_key_jwt")
        if not proof.assertion and not proof.assertion_type:
            client = self._clients.get(proof.client_id)
            if client is None or self._keys[client.client_id]:
                raise jwt.JwtRefused("none")
            return ProvedClient(client, confidential=False)
        if proof.assertion_type != ASSERTION_TYPE:
            raise jwt.JwtRefused("of another type")
        token, spent = self.signed(proof.assertion)
        client_id = jwt.text(token.claims, "iss")
        if jwt.text(token.claims, "sub") != client_id or proof.client_id not in ("", client_id):
            raise jwt.JwtRefused("iss, sub and client_id are not one")
        return ProvedClient(self._clients[client_id], confidential=True, spent=spent)

    def signed(self, text: str, by: str = "") -> tuple[jwt.Jwt, tuple[Spent, ...]]:
        """A JWT that a registered client made for this server, and what it uses up.

        ``by``: the client whose it must be. Raises JwtRefused.
        """
        token = jwt.read(text, types=_TYPES)
        client_id = jwt.text(token.claims, "iss")
        if client_id not in self._clients or by not in ("", client_id):
            raise jwt.JwtRefused("of an unknown client" if not by else "of another client")
        jwt.verify(token, self._keys[client_id])
        audience = token.claims.get("aud")
        named = audience[0] if isinstance(audience, list) and len(audience) == 1 else audience
        if not isinstance(named, str) or named not in self._audiences:
            raise jwt.JwtRefused("aud is not this server alone")
        token_id = jwt.text(token.claims, "jti")
        until = self._in_time(token)
        return token, (Spent(kind="jwt", issuer=client_id, identifier=token_id, until=until + SKEW),)

    def _in_time(self, token: jwt.Jwt) -> datetime:
        """When it ends."""
        now, skew = self._clock().timestamp(), SKEW.total_seconds()
        expires, begins, made = (jwt.instant(token.claims, name) for name in ("exp", "nbf", "iat"))
        if expires is None:
            raise jwt.JwtRefused("no exp")
        if expires + skew <= now:
            raise jwt.JwtRefused("expired")
        if expires > now + LIFE_MAX.total_seconds() + skew:
            raise jwt.JwtRefused("exp is more than five minutes away")
        if any(at is not None and at > now + skew for at in (begins, made)):
            raise jwt.JwtRefused("not valid yet")
        return datetime.fromtimestamp(expires, UTC)


def origin(address: str) -> str:
    """Scheme, host and port (RFC 6454)."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
