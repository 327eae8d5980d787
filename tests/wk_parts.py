"""The log-in through Węzeł Krajowy without a network or a database: the actor beside the stand-in."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from standins.wezel_krajowy.provider import Behaviour, Client, KeyPair, Provider

from obieg.actors.wezel_krajowy import Keys, WezelKrajowy
from obieg.domain.audit import AuditEvent
from obieg.domain.patient_login import IdentityProvider, PatientSession, PendingLogin, ServiceProvider
from obieg.domain.registry import LostRace
from obieg.domain.requester import Spent
from obieg.protocol import BegunLogin, LoginAttempt

ENTITY = "https://node.example/sp"
ACS = "https://node.example/login/wk/acs"


class Logins:
    """In memory."""

    def __init__(self) -> None:
        self.pending: dict[str, PendingLogin] = {}
        self.spent: set[tuple[str, str, str]] = set()
        self.events: list[AuditEvent] = []
        self.open: dict[bytes, PatientSession] = {}

    async def begin(self, pending: PendingLogin) -> None:
        self.pending[pending.relay_state] = pending

    async def take(self, relay_state: str, browser: str, now: datetime) -> PendingLogin | None:
        found = self.pending.get(relay_state)
        if found is None or found.browser != browser:
            return None
        del self.pending[relay_state]
        return found if now < found.until else None

    async def log_in(self, session: PatientSession, token: bytes, spent: tuple[Spent, ...], audit: AuditEvent) -> None:
        keys = {(s.kind, s.issuer, s.identifier) for s in spent}
        if keys & self.spent:
            raise LostRace("spent")
        self.spent |= keys
        self.open[token] = session
        self.events.append(audit)

    async def session(self, token: bytes, now: datetime, idle: timedelta, seen: timedelta) -> PatientSession | None:
        found = self.open.get(token)
        return found if found is not None and now < found.until else None

    async def sessions(self, pesel: str, now: datetime, idle: timedelta) -> list[PatientSession]:
        return [s for s in self.open.values() if pesel in ("", s.patient.pesel)]

    async def end(self, session_id: str, pesel: str, audit: AuditEvent) -> bool:
        self.events.append(audit)
        before = len(self.open)
        self.open = {t: s for t, s in self.open.items() if (s.session_id, s.patient.pesel) != (session_id, pesel)}
        return len(self.open) < before

    async def record(self, event: AuditEvent) -> None:
        self.events.append(event)


class Direct:
    """The back channel without a network."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.asked: list[bytes] = []

    async def ask(self, address: str, message: bytes) -> bytes:
        self.asked.append(message)
        return self.provider.log_out(message) if address == self.provider.logout_url else self.provider.resolve(message)


class Both:
    """A service provider and the stand-in, who know one another."""

    def __init__(self, *, level: str = "low", curve: ec.EllipticCurve | None = None) -> None:
        self.provider = Provider("node.test", "https://wk.example")
        self.logins, self.channel = Logins(), Direct(self.provider)
        self.signing, self.encryption = KeyPair.make("sp-sign"), KeyPair.make("sp-enc", curve)
        self.offset = timedelta(0)
        self.actor = WezelKrajowy(
            self.logins,
            self.channel,
            self.logins,
            identity_provider=IdentityProvider(
                self.provider.entity_id,
                self.provider.sign_on_url,
                self.provider.artifact_url,
                self.provider.logout_url,
                (self.provider.signing.certificate.public_bytes(Encoding.DER),),
            ),
            service_provider=ServiceProvider(entity_id=ENTITY, consumer_url=ACS, name="Przychodnia", level=level),
            keys=Keys(
                signing=self.signing.key,
                signing_certificate=self.signing.certificate.public_bytes(Encoding.DER),
                encryption=self.encryption.key,
                encryption_certificate=self.encryption.certificate.public_bytes(Encoding.DER),
            ),
            now=lambda: datetime.now(UTC) + self.offset,
        )
        self.provider.clients[ENTITY] = Client.of_metadata(self.actor.metadata())

    async def begin(self, return_to: str = "/") -> BegunLogin:
        return await self.actor.begin(return_to)

    def there(self, begun: BegunLogin, **behaviour: Any) -> LoginAttempt:
        """What the browser brings back."""
        self.provider.behaviour = Behaviour(**behaviour)
        asked = self.provider.accept(b64encode(begun.request).decode(), begun.relay_state)
        return LoginAttempt(
            artifact=self.provider.issue(asked),
            relay_state=asked.relay_state,
            browser=begun.secret,
            address="192.0.2.7",
            request_id="r-1",
        )

    async def log_in(self, **behaviour: Any) -> tuple[str, str]:
        return await self.actor.finish(self.there(await self.begin("/moje"), **behaviour))
