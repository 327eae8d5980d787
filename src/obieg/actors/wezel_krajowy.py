"""Logs patients in through Węzeł Krajowy (SAML 2.0 Profiles, sections 4.1 and 4.4; Bindings, section 3.6).

A log-in is begun by a browser and can be ended once, within ten minutes, by that browser alone. Nothing that comes
through the browser is believed: it brings an artifact, and what that stands for is asked of the identity provider.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from obieg.actors.patient_sessions import LONGEST, PatientSessions, token_digest
from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.patient_login import (
    IdentityProvider,
    LoginsStore,
    PatientSession,
    PendingLogin,
    ProvedPatient,
    ServiceProvider,
)
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.requester import Requester, Spent
from obieg.mapping.wezel_krajowy import read_patient
from obieg.protocol import AuditSink, BackChannel, BegunLogin, LoginAttempt
from obieg.wire import saml_protocol as saml
from obieg.wire.enveloped import sign_enveloped
from obieg.wire.structure import SecurityRefused
from obieg.wire.xmldsig import certificate

_TABLE = toml("national/pl/wezel_krajowy.toml")
_LIMITS = _TABLE["limits"]
_SKEW = timedelta(seconds=_LIMITS["skew_s"])
_PENDING = timedelta(seconds=_LIMITS["pending_s"])
_AGE_MAX = timedelta(seconds=_LIMITS["response_age_max_s"])
_LIFETIME_MAX = timedelta(seconds=_LIMITS["lifetime_max_s"])
_SECRET_BYTES = 32
_AGENT_MAX = 300
_PESEL = toml("national/pl/pik.toml")["roots"]["pesel"]
_REFUSED = (
    "The log-in through Węzeł Krajowy was not completed. Nobody is logged in. Begin it again in this browser, and end "
    "it within ten minutes."
)

PATIENT_REQUEST = "PATRQT"  # HL7 v3 PurposeOfUse: patient request
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Ours: one pair signs, another one decrypts."""

    signing: ec.EllipticCurvePrivateKey
    signing_certificate: bytes  # DER
    encryption: ec.EllipticCurvePrivateKey
    encryption_certificate: bytes  # DER


class WezelKrajowy:
    """The service provider; implements :class:`obieg.protocol.PatientLogin`."""

    def __init__(
        self,
        store: LoginsStore,
        channel: BackChannel,
        audit: AuditSink,
        *,
        identity_provider: IdentityProvider,
        service_provider: ServiceProvider,
        keys: Keys,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._channel, self._audit = store, channel, audit
        self._idp, self._sp, self._keys, self._now = identity_provider, service_provider, keys, now
        self._known = [certificate(der) for der in identity_provider.certificates]
        self.sessions = PatientSessions(store, secure=service_provider.consumer_url.startswith("https://"), now=now)

    @property
    def sign_on_url(self) -> str:
        """Where the browser takes what :meth:`begin` gives."""
        return self._idp.sign_on_url

    def metadata(self) -> bytes:
        """Ours, for the operator of the identity provider."""
        return saml.write_metadata(
            entity_id=self._sp.entity_id,
            consumer_url=self._sp.consumer_url,
            signing=(self._keys.signing_certificate,),
            encryption=(self._keys.encryption_certificate,),
        )

    async def begin(self, return_to: str) -> BegunLogin:
        """See the port."""
        now = self._now()
        browser, relay_state, request_id = _token(), _token(), _identifier()
        request = saml.write_authn_request(
            request_id,
            now,
            issuer=self._sp.entity_id,
            name=self._sp.name,
            destination=self._idp.sign_on_url,
            consumer_url=self._sp.consumer_url,
            level=saml.LEVEL_BY_NAME[self._sp.level],
        )
        await self._store.begin(
            PendingLogin(
                relay_state=relay_state,
                browser=_digest(browser),
                request_id=request_id,
                return_to=return_to,
                begun_at=now,
                until=now + _PENDING,
            )
        )
        return BegunLogin(
            self._idp.sign_on_url, self._signed(request), relay_state, browser, int(_PENDING.total_seconds())
        )

    async def finish(self, attempt: LoginAttempt) -> tuple[str, str]:
        """See the port."""
        try:
            pending, patient, spent = await self._proved(attempt)
        except SecurityRefused as error:
            raise await self._refused(attempt, str(error)) from error
        except RetryLater as error:
            await self._record(attempt, Outcome.MINOR_FAILURE, f"the identity provider does not answer: {error}")
            raise
        now, token = self._now(), _token()
        session = PatientSession(
            session_id=str(uuid.uuid4()),
            patient=patient,
            address=attempt.address,
            agent=attempt.agent[:_AGENT_MAX],
            started_at=now,
            seen_at=now,
            until=min(now + LONGEST, patient.until or datetime.max.replace(tzinfo=UTC)),
        )
        event = self._event(attempt, Outcome.SUCCESS, "", _person(patient))
        try:
            await self._store.log_in(session, token_digest(token), spent, event)
        except LostRace as error:
            raise await self._refused(attempt, "shown once already") from error
        return self.sessions.cookie(token, session.until - now), pending.return_to

    async def current(self, cookie: str) -> Requester | None:
        """The patient whose session the HTTP header ``cookie`` names, ``token`` naming the session; None for nobody."""
        session = await self.sessions.session(cookie)
        if session is None:
            return None
        patient = session.patient
        return Requester(
            system="",
            proof="session",
            issuer=patient.issuer,
            person=_person(patient),
            person_name=patient.name,
            role="patient",
            purpose_of_use=PATIENT_REQUEST,
            patient=_person(patient),
            assurance=patient.assurance,
            token=session.session_id,
            until=session.until,
            logged_in_at=session.started_at,
        )

    async def _proved(self, attempt: LoginAttempt) -> tuple[PendingLogin, ProvedPatient, tuple[Spent, ...]]:
        now = self._now()
        if not attempt.browser or not attempt.relay_state:
            raise SecurityRefused("this browser began no log-in")
        pending = await self._store.take(attempt.relay_state, _digest(attempt.browser), now)
        if pending is None:
            raise SecurityRefused("this browser began no such log-in, or it was ended or is too old")
        artifact = attempt.artifact
        if not (artifact.isascii() and artifact.isprintable() and len(artifact) <= _LIMITS["artifact_length_max"]):
            raise SecurityRefused("the artifact cannot be one")
        if not artifact:
            raise SecurityRefused("there is no artifact")
        resolve_id = _identifier()
        request = saml.write_artifact_resolve(
            resolve_id,
            now,
            issuer=self._sp.entity_id,
            destination=self._idp.artifact_url,
            artifact=artifact,
        )
        data = await self._channel.ask(self._idp.artifact_url, saml.write_soap(self._signed(request)))
        resolved = saml.read_artifact_response(data, self._known, self._keys.encryption)
        now = self._now()
        assertion = self._checked(resolved, resolve_id, pending, now)
        patient = read_patient(assertion)
        until = now + _LIFETIME_MAX + _SKEW
        issuer = self._idp.entity_id
        assert resolved.response is not None  # noqa: S101 - _checked refuses without
        spent = (
            Spent("artifact", issuer, artifact, until),
            Spent("response", issuer, resolved.response.id, until),
            Spent("assertion", issuer, assertion.id, until),
        )
        return pending, patient, spent

    def _checked(
        self, resolved: saml.Resolved, resolve_id: str, pending: PendingLogin, now: datetime
    ) -> saml.Assertion:
        """The assertion, if all of what came holds here and now (SAML 2.0 Profiles, sections 4.1.4.3 and 4.1.4.5)."""
        answer, response, assertion = resolved
        self._answers(answer, resolve_id, now)
        if response is None:
            raise SecurityRefused("the artifact stands for nothing, or was used already")
        self._answers(response, pending.request_id, now)
        if response.destination not in ("", self._sp.consumer_url):
            raise SecurityRefused("the Response is for another address")
        if assertion is None:
            raise SecurityRefused("there is no assertion in the Response")
        if assertion.issuer != self._idp.entity_id:
            raise SecurityRefused("the assertion is by somebody else")
        if assertion.in_response_to != pending.request_id:
            raise SecurityRefused("the assertion answers another request")
        if assertion.recipient != self._sp.consumer_url:
            raise SecurityRefused("the assertion is for another recipient")
        restrictions = assertion.audiences
        if not restrictions or any(self._sp.entity_id not in audiences for audiences in restrictions):
            raise SecurityRefused("the assertion is for another audience")
        self._holds(assertion, pending, now)
        if assertion.level not in saml.LEVELS:
            raise SecurityRefused("the level of assurance is not known")
        if saml.LEVELS.index(assertion.level) < saml.LEVELS.index(saml.LEVEL_BY_NAME[self._sp.level]):
            raise SecurityRefused("the level of assurance is too low")
        return assertion

    def _answers(self, answer: saml.Answer, asked: str, now: datetime) -> None:
        if not answer.status.succeeded:
            raise SecurityRefused(f"the identity provider says {answer.status.code} {answer.status.second}".rstrip())
        if answer.in_response_to != asked:
            raise SecurityRefused("an answer to another request")
        if answer.issuer != self._idp.entity_id:
            raise SecurityRefused("an answer by somebody else")
        if not now - _AGE_MAX - _SKEW <= answer.issued_at <= now + _SKEW:
            raise SecurityRefused("an answer of another time")

    @staticmethod
    def _holds(assertion: saml.Assertion, pending: PendingLogin, now: datetime) -> None:
        """Times (SAML 2.0 Core, section 2.5.1.2; Profiles, section 4.1.4.3). The person was asked anew: ForceAuthn."""
        if not assertion.not_before - _SKEW <= now < assertion.not_on_or_after + _SKEW:
            raise SecurityRefused("the assertion does not hold now")
        if not timedelta(0) < assertion.not_on_or_after - assertion.not_before <= _LIFETIME_MAX:
            raise SecurityRefused("the assertion holds for no time, or for too long")
        if now >= assertion.confirmed_until + _SKEW:
            raise SecurityRefused("the assertion came too late")
        if not pending.begun_at - _SKEW <= assertion.authenticated_at <= now + _SKEW:
            raise SecurityRefused("the person was not asked for this log-in")
        if not pending.begun_at - _SKEW <= assertion.issued_at <= now + _SKEW:
            raise SecurityRefused("the assertion was not made for this log-in")
        if assertion.session_until is not None and now >= assertion.session_until:
            raise SecurityRefused("the session at the identity provider has ended")

    async def end(self, attempt: LoginAttempt, cookie: str) -> str:
        """See the port."""
        session = await self.sessions.session(cookie)
        if session is not None:
            await self.revoke(attempt, session)
        return self.sessions.cookie("", timedelta(0))

    async def revoke(self, attempt: LoginAttempt, session: PatientSession) -> None:
        """Ends ``session`` here, whatever is said there, and at the identity provider."""
        patient = session.patient
        event = self._event(attempt, Outcome.SUCCESS, "", _person(patient), event="logout")
        if not await self.sessions.end(session, event):
            return
        detail = await self._end_there(patient.name_id, patient.session_index)
        if detail:
            event = self._event(attempt, Outcome.MINOR_FAILURE, detail, _person(patient), event="logout")
            await self._audit.record(event)

    async def _end_there(self, name_id: str, session_index: str) -> str:
        """Ends the session at the identity provider; what went wrong. Ours has ended whatever that says."""
        if not self._idp.logout_url:
            return ""
        identifier, now = _identifier(), self._now()
        request = saml.write_logout_request(
            identifier,
            now,
            issuer=self._sp.entity_id,
            destination=self._idp.logout_url,
            name_id=name_id,
            session_index=session_index,
        )
        try:
            data = await self._channel.ask(self._idp.logout_url, saml.write_soap(self._signed(request)))
            answer = saml.read_logout_response(data, self._known)
            if not answer.signed:
                raise SecurityRefused("the LogoutResponse is not signed")
            self._answers(answer, identifier, self._now())
        except (SecurityRefused, RetryLater) as error:
            log.warning("the session at the identity provider was not ended", reason=str(error))
            return f"not ended at the identity provider: {error}"
        return ""

    def _signed(self, message: bytes) -> bytes:
        return sign_enveloped(message, self._keys.signing, self._keys.signing_certificate)

    async def _refused(self, attempt: LoginAttempt, reason: str) -> Problem:
        """The caller is told nothing of the reason; the audit and the log are."""
        log.warning("a log-in was refused", reason=reason, request_id=attempt.request_id)
        await self._record(attempt, Outcome.SERIOUS_FAILURE, f"AuthenticationFailed: {reason}")
        return Problem.of("AuthenticationFailed", _REFUSED)

    async def _record(self, attempt: LoginAttempt, outcome: Outcome, detail: str) -> None:
        await self._audit.record(self._event(attempt, outcome, detail, ""))

    def _event(
        self, attempt: LoginAttempt, outcome: Outcome, detail: str, person: str, *, event: str = "login"
    ) -> AuditEvent:
        return AuditEvent(
            transaction=event,
            event="user_authentication",
            outcome=outcome,
            detail=detail,
            request_id=attempt.request_id,
            source_user=self._idp.entity_id,
            source_address=attempt.address,
            destination_user=self._sp.entity_id,
            requester=person,
        )


def _person(patient: ProvedPatient) -> str:
    return f"{_PESEL}#{patient.pesel}"


def _token() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


def _identifier() -> str:
    """An ID that nobody can guess (SAML 2.0 Core, section 1.3.4)."""
    return f"ID-{secrets.token_hex(20)}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
