"""What the authorization server deals in: requests, grants, answers (OAuth 2.1; IHE IUA; SMART App Launch)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.launching import Launching
from obieg.domain.requester import Requester, Spent


class OAuthRefused(Exception):  # noqa: N818
    """A request is refused in OAuth's own terms (RFC 6749, sections 4.1.2.1 and 5.2)."""

    def __init__(self, error: str, description: str, *, reason: str = "") -> None:
        """``description`` is for the caller; ``reason``, what it must not be told, for audit and log."""
        super().__init__(reason or description)
        self.error = error
        self.description = description
        self.reason = reason


class AuthorizationRequest(Value, frozen=True):
    """What an app asks of a person, as far as it was checked (RFC 6749, section 4.1.1; RFC 7636, section 4.3)."""

    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    challenge: str
    state: str = ""
    nonce: str = ""
    launch: str = ""
    key: str = ""  # thumbprint of the one that the code will be bound to (RFC 9449, section 10)


class Grant(Value, frozen=True):
    """What a person lets an app do, and in whose name: the person as proved when the app was let in."""

    client_id: str
    person: Requester
    scopes: tuple[str, ...]
    patient: str = ""  # logical id of the patient in context
    nonce: str = ""
    at: datetime | None = None
    redirect_uri: str = ""  # of the authorization request
    challenge: str = ""
    key: str = ""  # as in the request
    state: str = ""


class Launch(Value, frozen=True):
    """An app that was started for a patient out of a page of this node (SMART App Launch, EHR launch)."""

    client_id: str
    person: str
    patient: str  # logical id


class Consent(Value, frozen=True):
    """What the person is asked."""

    identifier: str  # of the question; the answer names it
    client_id: str
    client_name: str
    redirect_uri: str
    person_name: str
    scopes: tuple[str, ...]
    minutes: int  # for which an access token holds
    patient: str = ""
    asks_patient: bool = False  # whether the person must say whose data the app shall see
    unknown_patient: bool = False  # whether the patient whom they named is not known


class SigningKey(Value, frozen=True):
    """A key pair of the node."""

    key_id: str
    public: dict[str, str]  # the JWK
    secret: bytes  # the private value
    signs_from: datetime


class Secret(Value, frozen=True):
    """An authorization code or a refresh token as it is stored, with the grant that it is of."""

    kind: str  # C code, R refresh token
    grant_id: str
    grant: Grant
    used: bool
    live: bool  # neither it nor its grant has ended


class StandingGrant(Value, frozen=True):
    """A grant that has not ended."""

    grant_id: str
    grant: Grant
    granted_at: datetime
    until: datetime


class ClientProof(Value, frozen=True):
    """How a client shows who it is, as it came (RFC 6749, section 2.3; RFC 7523, section 2.2)."""

    client_id: str = ""
    assertion_type: str = ""
    assertion: str = ""
    other: bool = False  # it shows a password or something else that this server does not take
    certificate: bytes | None = None  # DER: the client's, whose key the TLS connection has proved
    dpop: str = ""  # a proof of possession, as it came
    key: str = ""  # thumbprint of the key that it has proved
    address: str = ""


class Issued(Value, frozen=True):
    """New secrets of a grant: their digests, and when they end."""

    digest: bytes
    kind: str
    until: datetime


class AuthorizationStore(Protocol):
    """Keeps grants, what is shown for them, keys, and what may be shown once only."""

    async def keys(self) -> list[SigningKey]:
        """All, the one that signs last at the end."""

    async def add_key(self, key: SigningKey, *, unless_after: datetime) -> None:
        """Stores a key, unless there is one that signs from after ``unless_after``."""

    async def forget_keys(self, before: datetime) -> None:
        """Forgets keys that others have signed in place of since before ``before``."""

    async def ask(self, grant_id: str, grant: Grant, session: str, until: datetime) -> None:
        """Stores what a person is asked in one of their sessions."""

    async def asked(self, grant_id: str, session: str, now: datetime) -> Grant | None:
        """What a person was asked in this session and has not answered."""

    async def allow(self, grant_id: str, grant: Grant, code: Issued, until: datetime, event: AuditEvent) -> None:
        """Stores the person's yes. Raises LostRace when it has been answered."""

    async def deny(self, grant_id: str, event: AuditEvent) -> None:
        """Stores the person's no."""

    async def find(self, digest: bytes, now: datetime, spent: tuple[Spent, ...]) -> Secret | None:
        """What a code or refresh token is of; in the same commit uses up ``spent``, else raises LostRace."""

    async def issue(
        self,
        event: AuditEvent,
        *,
        used: bytes | None,
        new: Issued | None,
        grant_id: str,
        until: datetime,
        now: datetime,
    ) -> None:
        """Stores that a token was issued: a secret used, a new one. Raises LostRace when the secret is used."""

    async def issue_to_client(self, event: AuditEvent, spent: tuple[Spent, ...]) -> None:
        """Stores that a client got a token for itself. Raises LostRace when something was spent before."""

    async def spend(self, spent: tuple[Spent, ...]) -> None:
        """Uses up what may be shown once. Raises LostRace when it was before."""

    async def end(self, grant_id: str, event: AuditEvent, now: datetime) -> bool:
        """Ends a grant and everything issued for it; whether it stood."""

    async def revoke(self, token_id: str, until: datetime, event: AuditEvent) -> None:
        """Ends one access token."""

    async def standing(self, token_id: str, grant_id: str) -> tuple[bool, Grant | None]:
        """Whether an access token was revoked; its grant, if that stands."""

    async def begin_launch(self, digest: bytes, launch: Launch, until: datetime) -> None:
        """Stores a launch."""

    async def launch(self, digest: bytes, now: datetime) -> Launch | None:
        """A launch that has not ended."""

    async def begin_launching(
        self, digest: bytes, launching: Launching, until: datetime, event: AuditEvent, spent: tuple[Spent, ...]
    ) -> None:
        """Stores what a code stands for. Raises LostRace when something was spent before."""

    async def forget(self, now: datetime) -> None:
        """Forgets all that has ended."""

    async def record(self, event: AuditEvent) -> None:
        """Stores an audit record by itself."""


Answer = Mapping[str, Any]
