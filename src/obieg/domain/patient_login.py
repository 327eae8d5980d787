"""Log-ins of patients through an identity provider, and the ports that ``actors/wezel_krajowy`` needs."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.requester import Spent


class IdentityProvider(Value, frozen=True):
    """Who proves people to us (SAML 2.0 Metadata, section 2.4.3): entity, addresses and keys belong together."""

    entity_id: str
    sign_on_url: str  # HTTP-POST
    artifact_url: str  # SOAP
    logout_url: str = ""  # SOAP; "": nobody is logged out there
    certificates: tuple[bytes, ...] = ()  # DER, of its signatures; any of them is its own


class ServiceProvider(Value, frozen=True):
    """Who we are to the identity provider."""

    entity_id: str
    consumer_url: str  # where it sends people back
    name: str  # for people
    level: str  # least level of assurance: low, substantial, high


class PendingLogin(Value, frozen=True):
    """A log-in that a browser has begun; it can be ended once, by the same browser."""

    relay_state: str  # opaque; names it
    browser: str  # SHA-256 of the secret in the browser's cookie, hexadecimal
    request_id: str  # ID of the AuthnRequest
    return_to: str  # path of this node to which the person goes afterwards
    begun_at: datetime
    until: datetime


class ProvedPatient(Value, frozen=True):
    """A person as the identity provider proved them."""

    pesel: str
    family_name: str
    given_name: str
    birth_date: date
    issuer: str  # entity id of the identity provider
    assurance: str  # URI of the level that was reached
    name_id: str  # by both the identity provider knows the session when it is to end
    session_index: str
    until: datetime | None = None  # when the identity provider wants the session to have ended

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.given_name} {self.family_name}"


class PatientSession(Value, frozen=True):
    """A patient who is logged in."""

    session_id: str  # UUID; no secret
    patient: ProvedPatient
    address: str
    agent: str  # what the browser calls itself
    started_at: datetime
    seen_at: datetime
    until: datetime  # at the latest

    @property
    def method(self) -> str:
        """By what the patient logged in, as sessions of staff say it."""
        return "wk"


class LoginsStore(Protocol):
    """What is kept of log-ins and sessions of patients; everything raises RetryLater where the database is away."""

    async def begin(self, pending: PendingLogin) -> None:
        """Keeps one."""

    async def take(self, relay_state: str, browser: str, now: datetime) -> PendingLogin | None:
        """The log-in that this browser began, once; None where there is none, or its time is over."""

    async def log_in(self, session: PatientSession, token: bytes, spent: tuple[Spent, ...], audit: AuditEvent) -> None:
        """Begins a session, known by ``token``, and uses up what can be shown once only, in one commit.

        Raises :class:`obieg.domain.registry.LostRace` when any of it is used up already; then nothing is stored.
        """

    async def session(self, token: bytes, now: datetime, idle: timedelta, seen: timedelta) -> PatientSession | None:
        """One that has not ended and was used within ``idle``; it is used by this, as exactly as ``seen`` wants."""

    async def sessions(self, pesel: str, now: datetime, idle: timedelta) -> list[PatientSession]:
        """All of a patient, or of everybody for "", the newest first."""

    async def end(self, session_id: str, pesel: str, audit: AuditEvent) -> bool:
        """Ends a session of this patient; whether there was one. The record is stored either way."""
