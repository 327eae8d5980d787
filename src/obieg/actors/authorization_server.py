"""The IUA Authorization Server (ITI-71, ITI-102, ITI-103), which is SMART's as well (OAuth 2.1; RFC 7009, 7662, 9068).

A person's grant is a row, which ends with the role that it was given in; codes and refresh tokens are rows below it, by
their digest only. A refresh token is used once: whoever shows a used one ends the grant, and with it every access token
of it. Access tokens are JWTs that name grant and token, so that this node looks whether both still stand; other
resource servers ask by introspection.

Who names a patient here looks somebody up (docs/access.md, act identify): it is asked whether they may, and recorded.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
import structlog

from obieg.actors import dpop
from obieg.actors.access_control import AccessControl
from obieg.actors.bearer import Bearer, thumbprint
from obieg.actors.client_proof import Clients, ProvedClient
from obieg.actors.keyring import Keyring
from obieg.actors.launches import read_subject
from obieg.codes.load import toml
from obieg.domain import launching
from obieg.domain.access import Act, Deny
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.authorization import (
    AuthorizationRequest,
    AuthorizationStore,
    ClientProof,
    Consent,
    Grant,
    Issued,
    Launch,
    OAuthRefused,
    Secret,
)
from obieg.domain.identifiers import PatientId
from obieg.domain.permits import Named
from obieg.domain.problems import RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.requester import Requester
from obieg.domain.scopes import OTHERS, SCOPES_MAX, covered, granted, is_transaction, read_scope
from obieg.domain.trust import OAuthClient
from obieg.protocol import Sessions
from obieg.wire import jwt

ASKED_LIFE = timedelta(minutes=10)  # for a person to answer
CODE_LIFE = timedelta(seconds=60)
LAUNCH_LIFE = timedelta(minutes=5)
CLIENT_TOKEN_LIFE = timedelta(minutes=5)
PERSON_TOKEN_LIFE = timedelta(hours=1)
REFRESH_LIFE = timedelta(days=30)
GRANT_LIFE = timedelta(days=180)  # however often its refresh tokens are used
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}\Z")  # a SHA-256 in base64url (RFC 7636, section 4.2)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")  # RFC 7636, section 4.1
_ANEW = frozenset({"login", "select_account"})  # a person who logs in chooses as whom
_PROMPTS = _ANEW | {"none", "consent"}
_KEY_MARK = "."
_PATIENT_MAX = 128  # characters of what a person writes to name one
_PESEL_DIGITS = 11
_AFTER = "login_after"  # milliseconds since 1970
_MAX_AGE_MAX = 10**9  # seconds: no session is as old
_NUMBER = re.compile(r"[0-9]{1,13}\Z", re.ASCII)
_TABLE = toml("smart.toml")
_ROOTS = toml("national/pl/pik.toml")["roots"]
_PROFESSIONALS = frozenset(root for name, root in _ROOTS.items() if name.startswith("npwz_"))

Find = Callable[[str], Awaitable[str]]

log = structlog.get_logger()


class AuthorizationServer:
    """One for all clients, people's apps and services alike."""

    def __init__(
        self,
        store: AuthorizationStore,
        clients: Sequence[OAuthClient],
        *,
        base: str,
        fhir_base: str,
        assigning_authority: str,
        home_community_id: str,
        access: AccessControl,
        find_patient: Find,
        find_practitioner: Find,
        clock: Callable[[], datetime],
        new_uuid: Callable[[], str],
        sessions: Sessions,
        mutual_tls: bool = False,
        launch_page: str = "",
    ) -> None:
        """``base``: address of the node, which is the issuer.

        ``launch_page``: where a code of launch is opened; "": this node has no pages of professionals.
        ``find_patient``: what a person wrote, or root#extension, to the logical id of the patient, "" where it names
        nobody; ``find_practitioner``: root#extension to that of the Practitioner. Raises ValueError for clients that
        cannot be used.
        """
        self.issuer = base
        self._fhir_base = fhir_base
        self._store = store
        self.clients = Clients(clients, audiences=(base, self._address("token")), clock=clock)
        self.keyring = Keyring(store, clock)
        self.bearer = Bearer(
            self.keyring, store, issuer=base, audience=fhir_base, assigning_authority=assigning_authority, clock=clock
        )
        self._authority = assigning_authority
        self._home_community_id = home_community_id
        self._access = access
        self._find_patient = find_patient
        self._find_practitioner = find_practitioner
        self._clock = clock
        self._new_uuid = new_uuid
        self._sessions = sessions
        self._mutual_tls = mutual_tls
        self._launch_page = launch_page

    def _address(self, name: str) -> str:
        return f"{self.issuer}/auth/{name}"

    # who may be here --------------------------------------------------------------------------------------------

    @property
    def origins(self) -> frozenset[str]:
        """Where pages of registered apps come from: they may read answers in a browser."""
        return self.clients.origins

    # ITI-103 ----------------------------------------------------------------------------------------------------

    def metadata(self) -> dict[str, Any]:
        """Of the server (ITI-103; RFC 8414, section 2)."""
        algorithms = list(jwt.ALGORITHMS)
        methods = ["private_key_jwt", "none"]
        said: dict[str, Any] = {
            "issuer": self.issuer,
            "authorization_endpoint": self._address("authorize"),
            "token_endpoint": self._address("token"),
            "jwks_uri": self._address("jwks"),
            "introspection_endpoint": self._address("introspect"),
            "revocation_endpoint": self._address("revoke"),
            "scopes_supported": [*OTHERS, "patient/*.rs", "user/*.cruds", "system/*.cruds"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "introspection_endpoint_auth_methods_supported": methods[:1],
            "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
            "revocation_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
            "authorization_response_iss_parameter_supported": True,
            "id_token_signing_alg_values_supported": ["ES256"],
            "subject_types_supported": ["public"],
            "ui_locales_supported": ["pl", "en", "uk"],
            "prompt_values_supported": ["none", "login", "consent", "select_account"],
            "access_token_format": "ihe-jwt",
            "dpop_signing_alg_values_supported": list(dpop.ALGORITHMS),
        }
        if self._launch_page:
            said["grant_types_supported"] = [*said["grant_types_supported"], launching.GRANT_TYPE]
        if self._mutual_tls:
            said["tls_client_certificate_bound_access_tokens"] = True
        return said

    def smart_configuration(self) -> dict[str, Any]:
        """Of the FHIR service (SMART App Launch, "Conformance")."""
        return self.metadata() | {"capabilities": list(_TABLE["smart"]["capabilities"])}

    async def jwks(self) -> dict[str, Any]:
        """The keys that its tokens are verified with (RFC 7517, section 5)."""
        return {**await self.keyring.jwks()}

    # the person's side ------------------------------------------------------------------------------------------

    def check_client(self, client_id: str, redirect_uri: str) -> OAuthClient:
        """The app, at an address that it is registered with, compared as it is (RFC 9700, section 2.1).

        Until this has held, nothing may be sent to that address.
        """
        client = self.clients.get(client_id)
        if client is None or not client.redirect_uris:
            raise OAuthRefused("invalid_request", "no app of this name is registered here")
        if redirect_uri not in client.redirect_uris:
            raise OAuthRefused("invalid_request", "the app is not registered with this address")
        return client

    def check_request(self, given: dict[str, str], client: OAuthClient) -> AuthorizationRequest:
        """What it asks; raises OAuthRefused, which is told to the app at its address."""
        for name in ("request", "request_uri"):
            if name in given:
                raise OAuthRefused(f"{name}_not_supported", f"{name} is not read")
        if given.get("response_type", "") != "code":
            raise OAuthRefused("unsupported_response_type", "response_type is code")
        if given.get("response_mode", "query") != "query":
            raise OAuthRefused("invalid_request", "response_mode is query")
        challenge = given.get("code_challenge", "")
        if given.get("code_challenge_method", "") != "S256" or not _CHALLENGE.match(challenge):
            raise OAuthRefused("invalid_request", "code_challenge with the method S256 is required (RFC 7636)")
        if "dpop_jkt" in given and not _CHALLENGE.match(given["dpop_jkt"]):
            raise OAuthRefused("invalid_request", "dpop_jkt is the thumbprint of a key (RFC 9449, section 10)")
        self._expect_audience([given[name] for name in ("aud", "resource") if name in given])
        scopes = _scopes(given.get("scope", ""))
        if not scopes:
            raise OAuthRefused("invalid_scope", "scope says what is asked for")
        return AuthorizationRequest(
            client_id=client.client_id,
            redirect_uri=given["redirect_uri"],
            scopes=scopes,
            challenge=challenge,
            state=given.get("state", ""),
            nonce=given.get("nonce", ""),
            launch=given.get("launch", ""),
            key=given.get("dpop_jkt", ""),
        )

    def log_in_first(self, given: Mapping[str, str], person: Requester | None) -> Mapping[str, str] | None:
        """The parameters that the person comes back with after logging in; None where they need not.

        ``prompt`` and ``max_age`` are those of OpenID Connect Core 1.0, section 3.1.2.1; that the person is asked
        (``consent``) goes without saying. The moment after which they must have logged in is one of the parameters that
        they come back with: else ``prompt=login`` would ask for ever. Whoever changes it on the way lets in nobody but
        themselves, and the app sees in ``auth_time`` when that was. Raises OAuthRefused.
        """
        prompts = set(given.get("prompt", "").split())
        if not _PROMPTS.issuperset(prompts) or ("none" in prompts and len(prompts) > 1):
            raise OAuthRefused(
                "invalid_request", f"prompt is none, or some of {', '.join(sorted(_PROMPTS - {'none'}))}"
            )
        now, earliest = self._clock(), None
        if _AFTER in given:
            earliest = datetime.fromtimestamp(_number(_AFTER, given[_AFTER]) / 1000, UTC)
        elif prompts & _ANEW:
            earliest = now
        elif "max_age" in given:
            earliest = now - timedelta(seconds=min(_number("max_age", given["max_age"]), _MAX_AGE_MAX))
        proved_at = person.logged_in_at if person is not None else None
        if person is not None and (earliest is None or (proved_at is not None and proved_at >= earliest)):
            return None
        if "none" in prompts:
            raise OAuthRefused("login_required", "nobody is logged in, or not lately enough")
        return {**given, _AFTER: f"{earliest.timestamp() * 1000:.0f}"} if earliest is not None else given

    async def ask(self, request: AuthorizationRequest, person: Requester) -> Consent:
        """What the person must answer. Raises OAuthRefused where there is nothing that the app could be given."""
        client = self._client(request.client_id)
        contexts = {"patient"} if person.patient else {"user", "patient"}
        scopes = granted(request.scopes, client.scopes, contexts=contexts)
        patient = await self._patient(request, person, scopes)
        if not any(read_scope(scope) or is_transaction(scope) or scope == "openid" for scope in scopes):
            raise OAuthRefused("invalid_scope", "nothing of what is asked for may be granted to this app")
        grant = Grant(
            client_id=client.client_id,
            person=person,
            scopes=scopes,
            patient=patient,
            nonce=request.nonce,
            redirect_uri=request.redirect_uri,
            challenge=request.challenge,
            key=request.key,
            state=request.state,
        )
        identifier = self._new_uuid()
        await self._store.ask(identifier, grant, person.token, self._clock() + ASKED_LIFE)
        return self._consent(identifier, grant, client)

    async def allow(self, identifier: str, person: Requester, *, patient: str = "") -> str | Consent:
        """The person agrees: where to send them; or the question again, when the patient whom they named is unknown.

        Whom they may not look up is unknown to them.
        """
        grant = await self._asked(identifier, person)
        if not grant.patient and _needs_patient(grant.scopes):
            wanted = patient.strip()[:_PATIENT_MAX]
            found = await self._look_up(wanted, person) if wanted else ""
            if not found:
                return self._consent(identifier, grant, self._client(grant.client_id), unknown=bool(wanted))
            grant = _changed(grant, patient=found)
        now = self._clock()
        grant = _changed(grant, at=now)
        code = secrets.token_urlsafe(32)
        event = self._event("ITI-71", grant.person, grant.client_id, grant=grant)
        until = now + CODE_LIFE
        try:
            await self._store.allow(identifier, grant, Issued(digest(code), "C", until), until, event)
        except LostRace:
            raise OAuthRefused("invalid_request", "this question has been answered") from None
        return self.answer_address(grant.redirect_uri, grant.state, code=code)

    async def deny(self, identifier: str, person: Requester) -> str:
        """The person does not agree: where to send them."""
        grant = await self._asked(identifier, person)
        event = self._event(
            "ITI-71", person, grant.client_id, grant=grant, outcome=Outcome.MINOR_FAILURE, detail="access_denied"
        )
        await self._store.deny(identifier, event)
        return self.answer_address(grant.redirect_uri, grant.state, error="access_denied")

    def answer_address(self, redirect_uri: str, state: str, **said: str) -> str:
        """The app's address with an answer (RFC 6749, section 4.1.2; RFC 9207)."""
        answer = {**said, **({"state": state} if state else {}), "iss": self.issuer}
        return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(answer)}"

    async def launch_address(self, client_id: str, patient: str, person: Requester) -> str:
        """Where an app of this person starts with a patient (SMART App Launch, EHR launch).

        ``patient`` is what ``find_patient`` reads. Raises OAuthRefused.
        """
        client = self.clients.get(client_id)
        if client is None or not client.launch_uri:
            raise OAuthRefused("invalid_request", "no app of this name can be launched here")
        if person.patient:
            own = await self._find_patient(person.patient)
            logical = own if await self._find_patient(patient) == own else ""
        else:
            logical = await self._look_up(patient[:_PATIENT_MAX], person)
        if not logical:
            raise OAuthRefused("invalid_request", "no patient of this identifier can be opened")
        launch = secrets.token_urlsafe(32)
        of = Launch(client_id, person.person, logical)
        await self._store.begin_launch(digest(launch), of, self._clock() + LAUNCH_LIFE)
        joint = "&" if "?" in client.launch_uri else "?"
        return f"{client.launch_uri}{joint}{urlencode({'iss': self._fhir_base, 'launch': launch})}"

    async def _look_up(self, text: str, person: Requester) -> str:
        """The logical id of the patient whom somebody names; "" where it names nobody, or nobody for them.

        Each look is recorded, as one by ITI-83 is.
        """
        found = await self._find_patient(text)
        patient = PatientId(found, self._authority) if found else named(text, self._authority)[0]
        seen = await self._access.seen_by(person, Named(patients=(patient,)), self._clock(), Act.IDENTIFY)
        shown = found if seen.open else ""
        reasons = sorted({decision.reason for _, decision in seen.decisions if isinstance(decision, Deny)})
        event = AuditEvent(
            transaction="ITI-83",
            event="query",
            outcome=Outcome.SUCCESS if shown else Outcome.MINOR_FAILURE,
            detail=f"no access: {' '.join(reasons)}" if reasons else "",
            request_id=self._new_uuid(),
            source_user=person.token,
            source_address=person.address,
            destination_user=self.issuer,
            requester=person.person,
            objects=(AuditObject("patient", str(patient)),),
            proof=person,
        )
        await self._store.record(event)
        return shown

    async def _patient(self, request: AuthorizationRequest, person: Requester, scopes: Sequence[str]) -> str:
        """Whose data are in context, as far as it is known before the person is asked."""
        if request.launch:
            launch = await self._store.launch(digest(request.launch), self._clock())
            if "launch" not in scopes or launch is None:
                raise OAuthRefused("invalid_request", "this launch was not begun here, or has ended")
            if (launch.client_id, launch.person) != (request.client_id, person.person):
                raise OAuthRefused("invalid_request", "this launch was not begun here, or has ended")
            return launch.patient
        if person.patient:
            found = await self._find_patient(person.patient)
            if not found:
                raise OAuthRefused("access_denied", "the region holds nothing of this person")
            return found
        return ""

    def _consent(self, identifier: str, grant: Grant, client: OAuthClient, *, unknown: bool = False) -> Consent:
        return Consent(
            identifier=identifier,
            client_id=client.client_id,
            client_name=client.name or client.client_id,
            redirect_uri=grant.redirect_uri,
            person_name=grant.person.person_name or grant.person.person,
            scopes=grant.scopes,
            patient=grant.patient,
            asks_patient=not grant.patient and _needs_patient(grant.scopes),
            unknown_patient=unknown,
            minutes=int(PERSON_TOKEN_LIFE.total_seconds() // 60),
        )

    async def _asked(self, identifier: str, person: Requester) -> Grant:
        grant = await self._store.asked(identifier, person.token, self._clock())
        if grant is None or grant.person.person != person.person:
            raise OAuthRefused("invalid_request", "nothing is asked of you here, or it was answered")
        return grant

    def _client(self, client_id: str) -> OAuthClient:
        client = self.clients.get(client_id)
        if client is None:
            raise OAuthRefused("unauthorized_client", "the client is not registered any more")
        return client

    # ITI-71: the client's side ----------------------------------------------------------------------------------

    async def token(self, given: dict[str, str], proof: ClientProof) -> dict[str, Any]:
        """The answer of the token endpoint (RFC 6749, section 5.1). Raises OAuthRefused."""
        if given.get("grant_type") == "refresh_token" and not (proof.client_id or proof.assertion or proof.other):
            # A public client need not say which it is (RFC 6749, section 6): the token says it.
            secret = await self._store.find(digest(_expected(given, "refresh_token")), self._clock(), ())
            if secret is not None:
                proof = msgspec.structs.replace(proof, client_id=secret.grant.client_id)
        proved = self.clients.prove(proof)
        if proof.dpop:
            possession = self._possessed(proof.dpop)
            proved = proved._replace(spent=(*proved.spent, possession.spent))
            proof = msgspec.structs.replace(proof, key=possession.thumbprint)
        self._expect_audience([given["resource"]] if "resource" in given else [])
        match given.get("grant_type", ""):
            case "client_credentials":
                return await self._to_client(given, proved, proof)
            case "authorization_code":
                return await self._for_code(given, proved, proof)
            case "refresh_token":
                return await self._for_refresh(given, proved, proof)
            case launching.GRANT_TYPE if self._launch_page:
                return await self._for_person(given, proved, proof)
            case "":
                raise OAuthRefused("invalid_request", "grant_type is missing")
            case _:
                raise OAuthRefused("unsupported_grant_type", "this grant_type is not served")

    def _possessed(self, shown: str) -> dpop.Possession:
        """The key that the token will be bound to (RFC 9449, section 5)."""
        try:
            return dpop.prove(shown, method="POST", address=dpop.address_of(self._address("token")), clock=self._clock)
        except jwt.JwtRefused as error:
            said = "the header DPoP must be a proof of possession for this request (RFC 9449)"
            raise OAuthRefused("invalid_dpop_proof", said, reason=f"proof of possession: {error}") from None

    async def _to_client(self, given: dict[str, str], proved: ProvedClient, proof: ClientProof) -> dict[str, Any]:
        """A service acts for itself (SMART Backend Services)."""
        client = proved.client
        if not proved.confidential:
            raise OAuthRefused("unauthorized_client", "a client without keys gets no token for itself")
        scopes = _scopes(given.get("scope", ""))
        own = (is_transaction(s) or ((found := read_scope(s)) and found.context == "system") for s in scopes)
        outside = not all(own)
        if not scopes or outside or not covered(scopes, client.scopes):
            await self._spend(proved)
            raise OAuthRefused("invalid_scope", "scope asks for more than this client may be granted, or for nothing")
        now = self._clock()
        system = Requester(system=client.client_id, address=proof.address)
        grant = Grant(client.client_id, system, scopes)
        token, token_id = await self._access_token(grant, "", now, CLIENT_TOKEN_LIFE, proof)
        event = self._event("ITI-71", system, client.client_id, token_id=token_id)
        try:
            await self._store.issue_to_client(event, proved.spent)
        except LostRace:
            raise _replayed(proved) from None
        return _answer(token, CLIENT_TOKEN_LIFE, scopes, proof)

    async def _for_person(self, given: dict[str, str], proved: ProvedClient, proof: ClientProof) -> dict[str, Any]:
        """A hospital's system opens our pages for its person (RFC 8693, section 2); see ``actors/launches``."""
        client = proved.client
        if not proved.confidential or not client.launches:
            await self._spend(proved)
            raise OAuthRefused("unauthorized_client", "this client may not speak for people")
        asked = _expected(given, "subject_token_type"), _expected(given, "requested_token_type")
        if asked != (launching.SUBJECT_TYPE, launching.LAUNCH_TYPE) or "actor_token" in given:
            await self._spend(proved)
            raise OAuthRefused("invalid_request", f"{launching.SUBJECT_TYPE} is exchanged for {launching.LAUNCH_TYPE}")
        now = self._clock()
        try:
            named, patient, spent = read_subject(_expected(given, "subject_token"), client, self.clients, now)
        except OAuthRefused:
            await self._spend(proved)
            raise
        found = await self._find_patient(patient)
        named = msgspec.structs.replace(named, patient=found)
        who = Requester(system=client.client_id, address=proof.address, person=named.person)
        event = self._event(
            "ITI-71", who, client.client_id, detail=f"launch as {named.role} in {named.organisation}", of=proof
        )
        code = secrets.token_urlsafe(32)
        until = now + launching.CODE_LIFE
        try:
            await self._store.begin_launching(digest(code), named, until, event, (*proved.spent, *spent))
        except LostRace:
            raise _replayed(proved) from None
        return {
            "access_token": code,
            "issued_token_type": launching.LAUNCH_TYPE,
            "token_type": "N_A",
            "expires_in": int(launching.CODE_LIFE.total_seconds()),
            "launch_uri": f"{self._launch_page}?{urlencode({'code': code})}",
        }

    async def _for_code(self, given: dict[str, str], proved: ProvedClient, proof: ClientProof) -> dict[str, Any]:
        secret = await self._found(_expected(given, "code"), "C", proved)
        grant = secret.grant
        verifier = given.get("code_verifier", "")
        if (
            grant.client_id != proved.client.client_id
            or given.get("redirect_uri", grant.redirect_uri) != grant.redirect_uri
            or not _verifies(verifier, grant.challenge)
        ):
            raise _invalid_grant("the code is another client's, address or challenge")
        if grant.key not in ("", proof.key):
            raise _invalid_grant("the code is bound to another key")
        if not await self._sessions.stands(grant.person):
            raise _invalid_grant("the person may not act so any more")
        return await self._issue(given["code"], secret, grant.scopes, proof)

    async def _for_refresh(self, given: dict[str, str], proved: ProvedClient, proof: ClientProof) -> dict[str, Any]:
        secret = await self._found(_expected(given, "refresh_token"), "R", proved)
        if secret.grant.client_id != proved.client.client_id:
            raise _invalid_grant("the refresh token is another client's")
        if _bound_to(given["refresh_token"]) not in ("", proof.key):
            raise _invalid_grant("the refresh token is bound to another key")
        if not await self._sessions.stands(secret.grant.person):
            raise _invalid_grant("the person may not act so any more")
        # What the client may have today may be less than when it was granted.
        allowed = granted(secret.grant.scopes, self._client(secret.grant.client_id).scopes, contexts=_contexts())
        scopes = _scopes(given["scope"]) if given.get("scope") else allowed
        if not covered(scopes, allowed) or not scopes:
            raise OAuthRefused("invalid_scope", "scope asks for more than was granted")
        return await self._issue(given["refresh_token"], secret, scopes, proof)

    async def _found(self, shown: str, kind: str, proved: ProvedClient) -> Secret:
        try:
            secret = await self._store.find(digest(shown), self._clock(), proved.spent)
        except LostRace:
            raise _replayed(proved) from None
        if secret is None or secret.kind != kind:
            raise _invalid_grant("nothing of this name was issued")
        if secret.used:
            await self._end_reused(secret)
        if not secret.live:
            raise _invalid_grant("it has ended")
        return secret

    async def _end_reused(self, secret: Secret) -> None:
        """Two have the same secret: nobody may go on with it (RFC 6749, section 10.5; RFC 9700, section 4.14)."""
        event = self._event(
            "ITI-71",
            secret.grant.person,
            secret.grant.client_id,
            outcome=Outcome.SERIOUS_FAILURE,
            detail="used twice: the grant was ended",
        )
        await self._store.end(secret.grant_id, event, self._clock())
        log.warning("a code or refresh token was used twice; its grant was ended", client=secret.grant.client_id)
        raise _invalid_grant("it was used before")

    async def _issue(self, shown: str, secret: Secret, scopes: Sequence[str], proof: ClientProof) -> dict[str, Any]:
        now, grant = self._clock(), secret.grant
        token, token_id = await self._access_token(
            _changed(grant, scopes=tuple(scopes)), secret.grant_id, now, PERSON_TOKEN_LIFE, proof
        )
        answer = _answer(token, PERSON_TOKEN_LIFE, scopes, proof)
        new, until = None, now + PERSON_TOKEN_LIFE
        if "offline_access" in grant.scopes:
            refresh_until = min(now + REFRESH_LIFE, (grant.at or now) + GRANT_LIFE)
            if refresh_until > now:
                # One of a client that has no other key is bound to this one (RFC 9449, section 5), and says so.
                bound = f"{_KEY_MARK}{proof.key}" if proof.key and not proof.assertion else ""
                answer["refresh_token"] = refresh = secrets.token_urlsafe(32) + bound
                new = Issued(digest(refresh), "R", refresh_until)
                until = max(until, refresh_until)
        if grant.patient:
            answer["patient"] = grant.patient
            answer["need_patient_banner"] = False
        if "openid" in scopes:
            answer["id_token"] = await self._id_token(grant, now)
        event = self._event("ITI-71", grant.person, grant.client_id, grant=grant, token_id=token_id, of=proof)
        try:
            await self._store.issue(event, used=digest(shown), new=new, grant_id=secret.grant_id, until=until, now=now)
        except LostRace:
            await self._end_reused(secret)
        return answer

    # ITI-102 and revocation -------------------------------------------------------------------------------------

    async def introspect(self, given: dict[str, str], proof: ClientProof) -> dict[str, Any]:
        """What a token says and whether it stands (RFC 7662, section 2); asked by a registered resource server."""
        proved = self.clients.prove(proof)
        if not proved.confidential:
            raise OAuthRefused("invalid_client", "a resource server proves itself by private_key_jwt")
        await self._spend(proved)
        shown = _expected(given, "token")
        answer, about = await self._introspected(shown)
        system = Requester(system=proved.client.client_id, address=proof.address)
        await self._store.record(self._event("ITI-102", system, proved.client.client_id, token_id=about))
        return answer

    async def _introspected(self, shown: str) -> tuple[dict[str, Any], str]:
        """The answer, and the id of the token."""
        try:
            token, _ = await self.bearer.read(shown)
        except jwt.JwtRefused:
            secret = await self._store.find(digest(shown), self._clock(), ())
            if secret is None or secret.kind != "R" or secret.used or not secret.live:
                return {"active": False}, ""
            grant = secret.grant
            return {
                "active": True,
                "client_id": grant.client_id,
                "scope": " ".join(grant.scopes),
                "sub": grant.person.person,
                "iss": self.issuer,
            }, ""
        hidden = ("grant",)
        said = {name: value for name, value in token.claims.items() if name not in hidden}
        kind = "DPoP" if "jkt" in said.get("cnf", {}) else "Bearer"
        return {"active": True, "token_type": kind} | said, str(token.claims["jti"])

    async def revoke(self, given: dict[str, str], proof: ClientProof) -> None:
        """Ends what the client was given (RFC 7009, section 2); what it was not given is no trouble."""
        proved = self.clients.prove(proof)
        await self._spend(proved)
        shown = _expected(given, "token")
        now, client_id = self._clock(), proved.client.client_id
        system = Requester(system=client_id, address=proof.address)
        event = self._event("RFC 7009", system, client_id)
        try:
            token, _ = await self.bearer.read(shown)
        except jwt.JwtRefused:
            secret = await self._store.find(digest(shown), now, ())
            if secret is not None and secret.grant.client_id == client_id:
                await self._store.end(secret.grant_id, event, now)
            return
        if token.claims["client_id"] == client_id:
            await self._store.revoke(str(token.claims["jti"]), now + PERSON_TOKEN_LIFE * 2, event)

    # tokens -----------------------------------------------------------------------------------------------------

    async def _access_token(
        self, grant: Grant, grant_id: str, now: datetime, life: timedelta, proof: ClientProof
    ) -> tuple[str, str]:
        """The token (RFC 9068, section 2; ITI TF-2:3.71.4.2.2.1.1) and its id."""
        token_id = self._new_uuid()
        person = grant.person
        made = int(now.timestamp())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": person.person or grant.client_id,
            "aud": self._fhir_base,
            "client_id": grant.client_id,
            "exp": made + int(life.total_seconds()),
            "nbf": made,
            "iat": made,
            "jti": token_id,
            "scope": " ".join(grant.scopes),
        }
        if grant_id:
            claims["grant"] = grant_id
        if grant.patient:
            claims["patient"] = grant.patient
        bound = {"x5t#S256": thumbprint(proof.certificate)} if proof.certificate is not None else {}
        if proof.key:
            bound["jkt"] = proof.key
        if bound:
            claims["cnf"] = bound
        claims["extensions"] = {"ihe_iua": self._iua(grant)}
        key_id, key = await self.keyring.current()
        return jwt.write(claims, key, key_id, typ="at+jwt"), token_id

    def _iua(self, grant: Grant) -> dict[str, Any]:
        """IUA's claims about the person (ITI TF-2:3.71.4.2.2.1.1), those that are known."""
        person, systems = grant.person, _TABLE["iua"]
        said: dict[str, Any] = {
            "subject_name": person.person_name,
            "subject_organization_id": _urn(person.organisation),
            "subject_role": [_coding(person.role, systems["role"])] if person.role else None,
            "purpose_of_use": [_coding(person.purpose_of_use, systems["purpose_of_use"])]
            if person.purpose_of_use
            else None,
            "home_community_id": self._home_community_id,
            "person_id": f"{grant.patient}^^^&{self._authority}&ISO" if grant.patient else "",
        }
        root, _, extension = person.person.partition("#")
        if root in _PROFESSIONALS:
            said["national_provider_identifier"] = extension
        return {name: value for name, value in said.items() if value}

    async def _id_token(self, grant: Grant, now: datetime) -> str:
        made = int(now.timestamp())
        at = grant.person.logged_in_at or grant.at or now
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": grant.person.person,
            "aud": grant.client_id,
            "exp": made + int(PERSON_TOKEN_LIFE.total_seconds()),
            "iat": made,
            "auth_time": int(at.timestamp()),
        }
        if grant.nonce:
            claims["nonce"] = grant.nonce
        if "fhirUser" in grant.scopes and (user := await self._fhir_user(grant)):
            claims["fhirUser"] = user
        key_id, key = await self.keyring.current()
        return jwt.write(claims, key, key_id, typ="JWT")

    async def _fhir_user(self, grant: Grant) -> str:
        """The person as a resource: a patient is one of the index, anybody else one of the directory, if at all."""
        if grant.person.patient and not grant.person.acting_for:
            return f"{self._fhir_base}/Patient/{grant.patient}"
        found = await self._find_practitioner(grant.person.person)
        return f"{self._fhir_base}/Practitioner/{found}" if found else ""

    # the rest ---------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Makes keys in time and forgets what has ended; to be called now and then by one worker."""
        await self.keyring.renew()
        await self._store.forget(self._clock() - PERSON_TOKEN_LIFE)

    def _expect_audience(self, named: Sequence[str]) -> None:
        if any(address.rstrip("/") != self._fhir_base for address in named):
            raise OAuthRefused("invalid_target", f"tokens are issued for {self._fhir_base} only")

    async def _spend(self, proved: ProvedClient) -> None:
        try:
            await self._store.spend(proved.spent)
        except LostRace:
            raise _replayed(proved) from None

    async def record_refusal(self, transaction: str, refused: OAuthRefused, proof: ClientProof) -> None:
        """Audits what was refused: every OAuthRefused that one of the methods above has raised."""
        log.info("refused", transaction=transaction, error=refused.error, reason=str(refused))
        event = AuditEvent(
            transaction,
            "security_alert" if refused.error == "invalid_client" else "user_authentication",
            Outcome.SERIOUS_FAILURE,
            detail=refused.error,
            request_id=self._new_uuid(),
            source_user=proof.client_id,
            source_address=proof.address,
            destination_user=self.issuer,
        )
        try:
            await self._store.record(event)
        except RetryLater as error:
            log.error("an audit record could not be stored", error=str(error))

    def _event(
        self,
        transaction: str,
        who: Requester,
        client_id: str,
        *,
        grant: Grant | None = None,
        token_id: str = "",
        outcome: Outcome = Outcome.SUCCESS,
        detail: str = "",
        of: ClientProof | None = None,
    ) -> AuditEvent:
        """The record of what was done for a client in somebody's name; ``of``: who asked for it."""
        objects: list[AuditObject] = []
        if grant is not None and grant.patient:
            objects.append(AuditObject("patient", f"{grant.patient}^^^&{self._authority}&ISO"))
        if token_id:
            objects.append(AuditObject("access_token", token_id))
        return AuditEvent(
            transaction=transaction,
            event="user_authentication",
            outcome=outcome,
            detail=detail,
            request_id=self._new_uuid(),
            source_user=client_id,
            source_address=of.address if of else who.address,
            destination_user=self.issuer,
            requester=who.person or who.system,
            objects=tuple(objects),
        )


def digest(secret: str) -> bytes:
    """What is stored of a code, a refresh token or a launch."""
    return hashlib.sha256(secret.encode()).digest()


def named(text: str, authority: str) -> Sequence[PatientId]:
    """Whom somebody may mean by what they write, the likeliest first: root#extension, a PESEL, the own number."""
    root, mark, extension = text.partition("#")
    if mark:
        return (PatientId(extension, root),)
    own, pesel = PatientId(text, authority), PatientId(text, _ROOTS["pesel"])
    is_pesel = text.isascii() and text.isdigit() and len(text) == _PESEL_DIGITS
    return (pesel, own) if is_pesel else (own, pesel)


def _bound_to(refresh_token: str) -> str:
    """The thumbprint of the only key that may use it; "" for any. It is part of the secret: nobody can leave it out."""
    return refresh_token.partition(_KEY_MARK)[2]


def _verifies(verifier: str, challenge: str) -> bool:
    """RFC 7636, section 4.6."""
    if not _VERIFIER.match(verifier):
        return False
    hashed = urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=")
    return hmac.compare_digest(hashed, challenge.encode("ascii"))


def _scopes(text: str) -> tuple[str, ...]:
    """The scopes, each once (RFC 6749, section 3.3)."""
    scopes = tuple(dict.fromkeys(text.split(" "))) if text else ()
    if "" in scopes or len(scopes) > SCOPES_MAX or not text.isascii() or not text.isprintable():
        raise OAuthRefused("invalid_scope", "scope is a list of names with one space between them")
    return scopes


def _contexts() -> tuple[str, ...]:
    return tuple(_TABLE["contexts"])


def _needs_patient(scopes: Sequence[str]) -> bool:
    return "launch/patient" in scopes or any((s := read_scope(scope)) and s.context == "patient" for scope in scopes)


def _answer(token: str, life: timedelta, scopes: Sequence[str], proof: ClientProof) -> dict[str, Any]:
    return {
        "access_token": token,
        "token_type": "DPoP" if proof.key else "Bearer",
        "expires_in": int(life.total_seconds()),
        "scope": " ".join(scopes),
    }


def _number(name: str, text: str) -> int:
    if _NUMBER.match(text) is None:
        raise OAuthRefused("invalid_request", f"{name} is a number, not negative")
    return int(text)


def _expected(given: dict[str, str], name: str) -> str:
    if not (value := given.get(name, "")):
        raise OAuthRefused("invalid_request", f"{name} is missing")
    return value


def _invalid_grant(reason: str) -> OAuthRefused:
    return OAuthRefused("invalid_grant", "it is not valid for this request", reason=reason)


def _replayed(proved: ProvedClient) -> OAuthRefused:
    """By whichever of its proofs."""
    if not proved.confidential:
        return OAuthRefused(
            "invalid_dpop_proof", "a proof of possession is taken once", reason="its jti was used before"
        )
    said = "the client must prove itself by private_key_jwt"
    return OAuthRefused("invalid_client", said, reason="a jti of the client assertion or the proof was used before")


def _coding(code: str, system: str) -> dict[str, str]:
    return {"system": system, "code": code}


def _urn(identifier: str) -> str:
    """``urn:oid:root.extension`` where both are numbers, else the root's OID with the extension behind a slash."""
    root, _, extension = identifier.partition("#")
    return f"urn:oid:{root}{'/' if extension else ''}{extension}" if root else ""


def _changed(grant: Grant, **values: Any) -> Grant:
    return msgspec.structs.replace(grant, **values)
