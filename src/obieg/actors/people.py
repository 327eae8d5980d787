"""The people who work here: logging in, what they log in by, their sessions, and what an operator does about them.

A log-in is a password with a code (TOTP), or a passkey. Whoever is new, or was reset, proves to be meant by the
one-time password of an invitation and then chooses. Of tokens, only hashes are stored. Refusals say neither whether a
login exists nor which part was wrong; the audit does.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from base64 import b32encode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from urllib.parse import quote

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import parse_authentication_credential_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from obieg.codes.load import toml
from obieg.domain.accounts import (
    ATTEMPT,
    FRESH,
    ONE_TIME,
    ROLES,
    Account,
    AccountStore,
    Attempt,
    Enrolled,
    Listed,
    LogIn,
    LoginRefused,
    Opening,
    Passkey,
    Place,
    Professional,
    Session,
    check_password,
    fold_login,
    is_login,
    is_person_identifier,
    subject,
    totp_secret,
    totp_step,
)
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.launching import Launched, Launching
from obieg.domain.problems import Finding, Problem
from obieg.domain.registry import LostRace
from obieg.domain.requester import Requester

_TABLE = toml("people.toml")
_ASSURANCE: dict[str, str] = _TABLE["assurance"]
ASSISTANTS: frozenset[str] = frozenset(toml("access.toml")["roles"]["assistant"])
# Hashings at once in one worker: they bound the memory that guessing can take.
HASHINGS_MAX = 2
_LABEL_MAX = 60
_AGENT_MAX = 300
_NAME_MAX = 200
_CREDENTIAL_BYTES_MAX = 64 * 1024


class SecretKeeper(Protocol):
    """Wraps keys by the node's master key (:class:`obieg.storage.keys.KeyWrapper`)."""

    def wrap(self, key: bytes) -> bytes:
        """32 bytes, wrapped."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """Raises when no master key here opens it."""


class Site(NamedTuple):
    """The pages' address: what a passkey is bound to (Web Authentication Level 2, sections 5.1.2 and 13.4.9)."""

    origin: str  # https://host[:port]
    host: str


class Visit(NamedTuple):
    """Who is at the other end, for the session and the audit."""

    address: str
    agent: str = ""
    request_id: str = ""


class Proved(NamedTuple):
    """A person who is logged in; ``token`` is what the cookie says."""

    token: str
    session: Session
    account: Account


class Enrolment(NamedTuple):
    """Whom a person who chooses what to log in by is, and the secret of the codes that are offered."""

    account: Account
    secret: bytes


class Opened(NamedTuple):
    """What became of a code of launch."""

    proved: Proved | None  # None: another person is logged in in this browser, and nothing was done
    launching: Launching
    account: Account  # whom it opens for


class Current(NamedTuple):
    """A session as its pages see it."""

    session: Session
    account: Account

    @property
    def requester(self) -> Requester | None:
        """Who asks; None as long as the person has not chosen where and as whom."""
        session, account, place = self.session, self.account, self.session.place
        if place is None:
            return None
        return Requester(
            system=place.organisation,
            address=session.address,
            proof="session",
            person=account.identifier,
            person_name=account.name,
            role=place.role,
            organisation=place.organisation,
            assurance=_ASSURANCE[session.method],
            token=session.session_id,
            until=session.until,
            issuer=session.vouched_by,
            acting_for=whom.identifier if (whom := self.acting_for) is not None else "",
            acting_for_name=whom.name if whom is not None else "",
            logged_in_at=session.proved_at or session.started_at,
        )

    @property
    def professionals(self) -> tuple[Professional, ...]:
        """For whom the person may act where they are; nobody but assistants acts for others."""
        place = self.session.place
        if place is None or place.role not in ASSISTANTS:
            return ()
        return tuple(whom for whom in self.account.assists if whom.organisation == place.organisation)

    @property
    def acting_for(self) -> Professional | None:
        """For whom they act."""
        return self.session.acting_for if self.session.acting_for in self.professionals else None


class People:
    """Decides; see the module docstring."""

    def __init__(
        self,
        store: AccountStore,
        *,
        keys: SecretKeeper,
        clock: Callable[[], datetime],
        new_uuid: Callable[[], str],
        idle: timedelta,
        lifetime: timedelta,
        issuer: str,
    ) -> None:
        """``idle`` and ``lifetime`` end sessions; ``issuer`` is what authenticators call this node."""
        self._store = store
        self._keys = keys
        self._clock = clock
        self._new_uuid = new_uuid
        self.idle = idle
        self._lifetime = lifetime
        self.issuer = issuer
        argon2 = _TABLE["argon2"]
        self._hasher = PasswordHasher(argon2["passes"], argon2["memory_kib"], argon2["lanes"])
        self._hashing = asyncio.Semaphore(HASHINGS_MAX)
        self._nobodys = self._hasher.hash(secrets.token_hex())  # what the password of an unknown login is compared with

    # logging in by password and code --------------------------------------------------------------------------------

    async def enter_password(self, login: str, password: str, visit: Visit) -> tuple[str, str]:
        """What comes next (``totp`` or ``enrol``), and the token of the attempt. Raises LoginRefused."""
        now = self._clock()
        if not await self._store.count_failure(subject(login), now):
            await self._failed(None, visit, "too many failures")
            raise LoginRefused("wait")
        account = await self._store.account(login=fold_login(login))
        known = account is not None and not account.disabled
        is_password = await self._verify(account.password if account and known else "", password)
        if account is None or account.disabled:
            await self._failed(account, visit, "the account is disabled" if account else "no such account")
            raise LoginRefused("wrong")
        if is_password and account.totp:
            return "totp", await self._begin("totp", account, now)
        if self._is_one_time(account, password, now):
            return "enrol", await self._begin("enrol", account, now)
        await self._failed(account, visit, "wrong password")
        raise LoginRefused("wrong")

    async def enter_code(self, token: str, code: str, visit: Visit) -> Proved:
        """Ends a log-in by password. Raises LoginRefused."""
        attempt, account = await self._attempt(token, "totp")
        now = self._clock()
        if not await self._store.count_failure(subject(account.login), now):
            await self._failed(account, visit, "too many failures")
            raise LoginRefused("wait")
        step = totp_step(totp_secret(self._keys.unwrap(account.totp)), code, now, account.totp_step)
        if step is None:
            await self._failed(account, visit, "wrong code")
            raise LoginRefused("code")
        return await self._log_in(attempt, account, "password", visit, totp_step=step)

    # logging in by passkey ------------------------------------------------------------------------------------------

    async def ask_passkey(self, site: Site) -> tuple[str, str]:
        """The token of the attempt, and what the browser's authenticator is asked (JSON)."""
        challenge = secrets.token_bytes(32)
        token = await self._begin("passkey", None, self._clock(), challenge=challenge)
        options = generate_authentication_options(
            rp_id=site.host, challenge=challenge, user_verification=UserVerificationRequirement.REQUIRED
        )
        return token, options_to_json(options)

    async def enter_passkey(self, token: str, answer: str, site: Site, visit: Visit) -> Proved:
        """Ends a log-in by passkey; ``answer`` is the authenticator's (JSON). Raises LoginRefused."""
        attempt = await self._store.take_challenge(_hash(token), self._clock())
        if attempt is None or attempt.step != "passkey":
            raise LoginRefused("over")
        if len(answer) > _CREDENTIAL_BYTES_MAX:
            raise LoginRefused("passkey")
        try:
            credential = parse_authentication_credential_json(answer)
            passkey = await self._store.passkey(credential.raw_id)
            if passkey is None:
                await self._failed(None, visit, "no such passkey")
                raise LoginRefused("passkey")
            verified = verify_authentication_response(
                credential=credential,
                expected_challenge=attempt.challenge,
                expected_rp_id=site.host,
                expected_origin=site.origin,
                credential_public_key=passkey.public_key,
                credential_current_sign_count=passkey.sign_count,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, KeyError, TypeError) as error:
            await self._failed(None, visit, f"passkey: {type(error).__name__}")
            raise LoginRefused("passkey") from None
        account = await self._store.account(person_id=passkey.person_id)
        if account is None or account.disabled:
            await self._failed(account, visit, "the account is disabled")
            raise LoginRefused("passkey")
        used = msgspec.structs.replace(passkey, sign_count=verified.new_sign_count, used_at=self._clock())
        return await self._log_in(attempt, account, "passkey", visit, passkey=used)

    # launched by another system -------------------------------------------------------------------------------------

    async def open(self, code: str, current: Current | None, visit: Visit, *, instead: bool = False) -> Opened:
        """A session by a code of launch; ``current`` is who is logged in in this browser.

        Where that is another person nothing happens unless ``instead``, which ends their session. Whoever opens a code
        that was used ends what it became: two have it, and one of them should not. Raises LoginRefused.
        """
        now, digest = self._clock(), _hash(code)
        found = await self._store.launched(digest, now)
        if found is None:
            await self._failed(None, visit, "launch: no such code, or it is over")
            raise LoginRefused("launch_over")
        launching = found.launching
        account = await self._store.account(identifier=launching.person)
        if found.session_id:
            await self._end_opened_twice(found, account, visit)
        if account is None or account.disabled:
            await self._failed(account, visit, f"launch by {launching.client_id}: no account of {launching.person}")
            raise LoginRefused("launch_stranger")
        here = launching.organisation, launching.role
        place = next((p for p in account.places if (p.organisation, p.role) == here), None)
        if place is None:
            await self._failed(account, visit, f"launch by {launching.client_id}: not {here[1]} in {here[0]}")
            raise LoginRefused("launch_place")
        other = current is not None and current.account.person_id != account.person_id
        if other and not instead:
            return Opened(None, launching, account)
        token = _new_token()
        session = Session(
            session_id=self._new_uuid(),
            person_id=account.person_id,
            method="launch",
            started_at=now,
            seen_at=now,
            until=now + self._lifetime,
            address=visit.address,
            agent=_line(visit.agent, _AGENT_MAX),
            place=place,
            vouched_by=launching.client_id,
            proved_at=launching.proved_at,
            token=_hash(token),
        )
        said = f"launched by {launching.client_id} as {place.role} in {place.organisation}"
        events = [self._event("login", account, visit, said, session=session.session_id)]
        if current is not None:
            ended = current.session.session_id
            said = "another person opened a launch in the same browser" if other else "opened by a launch anew"
            events.append(self._event("logout", current.account, visit, said, session=ended))
        replaces = current.session.session_id if current is not None else ""
        try:
            await self._store.open(Opening(code=digest, session=session, replaces=replaces), *events)
        except LostRace:
            again = await self._store.launched(digest, now)
            if again is not None and again.session_id:
                await self._end_opened_twice(again, account, visit)
            raise LoginRefused("launch_over") from None
        return Opened(Proved(token, session, account), launching, account)

    async def whom_launched(self, code: str) -> Account | None:
        """For whom a code of launch opens; None where it is over, or used."""
        found = await self._store.launched(_hash(code), self._clock())
        if found is None or found.session_id:
            return None
        return await self._store.account(identifier=found.launching.person)

    async def _end_opened_twice(self, found: Launched, account: Account | None, visit: Visit) -> None:
        said = f"launch by {found.launching.client_id}: its code was used twice, what it opened is ended"
        await self._failed(account, visit, said)
        if account is not None:
            event = self._event("logout", account, visit, said, session=found.session_id)
            await self._store.end(event, session_id=found.session_id, reason="launched twice")
        raise LoginRefused("launch_twice")

    # choosing what to log in by -------------------------------------------------------------------------------------

    async def enrolment(self, token: str) -> Enrolment:
        """Raises LoginRefused when it took too long."""
        attempt, account = await self._attempt(token, "enrol")
        return Enrolment(account, totp_secret(self._keys.unwrap(attempt.secret)))

    async def enrol_again(self, current: Current) -> str:
        """The token of an enrolment for somebody who logged in just now. Raises LoginRefused."""
        self._expect_fresh(current)
        return await self._begin("enrol", current.account, self._clock(), replaces=current.session.session_id)

    async def enrol_password(self, token: str, password: str, code: str, visit: Visit) -> Proved:
        """A password, and the code that shows that the secret has reached an authenticator. Raises LoginRefused."""
        attempt, account = await self._attempt(token, "enrol")
        about = (account.login, account.name, self.issuer, *(place.organisation_name for place in account.places))
        if reason := check_password(password, about):
            raise LoginRefused(reason)
        now = self._clock()
        step = totp_step(totp_secret(self._keys.unwrap(attempt.secret)), code, now, 0)
        if step is None:
            raise LoginRefused("code")
        async with self._hashing:
            hashed = await asyncio.to_thread(self._hasher.hash, password)
        enrolled = Enrolled(password=hashed, totp=attempt.secret)
        return await self._log_in(attempt, account, "password", visit, totp_step=step, enrolled=enrolled)

    async def ask_new_passkey(self, token: str, site: Site) -> str:
        """What the browser is asked to make (JSON). Raises LoginRefused."""
        attempt, account = await self._attempt(token, "enrol")
        challenge = secrets.token_bytes(32)
        await self._store.challenge(attempt.token, challenge)
        options = generate_registration_options(
            rp_id=site.host,
            rp_name=self.issuer,
            user_id=account.person_id.encode(),
            user_name=account.login,
            user_display_name=account.name,
            challenge=challenge,
            exclude_credentials=[
                PublicKeyCredentialDescriptor(id=known.credential_id)
                for known in await self._store.passkeys(account.person_id)
            ],
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
        )
        return options_to_json(options)

    async def enrol_passkey(self, token: str, answer: str, label: str, site: Site, visit: Visit) -> Proved:
        """A passkey; ``label`` is what the person calls it. Raises LoginRefused."""
        attempt = await self._store.take_challenge(_hash(token), self._clock())
        if attempt is None or attempt.step != "enrol":
            raise LoginRefused("over")
        _, account = await self._attempt(token, "enrol")
        if len(answer) > _CREDENTIAL_BYTES_MAX:
            raise LoginRefused("passkey")
        try:
            verified = verify_registration_response(
                credential=answer,
                expected_challenge=attempt.challenge,
                expected_rp_id=site.host,
                expected_origin=site.origin,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, KeyError, TypeError) as error:
            await self._failed(account, visit, f"new passkey: {type(error).__name__}")
            raise LoginRefused("passkey") from None
        passkey = Passkey(
            credential_id=verified.credential_id,
            person_id=account.person_id,
            public_key=verified.credential_public_key,
            sign_count=verified.sign_count,
            label=_line(label, _LABEL_MAX),
            created_at=self._clock(),
        )
        return await self._log_in(attempt, account, "passkey", visit, enrolled=Enrolled(passkey=passkey))

    # sessions -------------------------------------------------------------------------------------------------------

    async def session(self, token: str) -> Current | None:
        """Who has the cookie with this token; None for nobody, or where the session has ended."""
        if not token:
            return None
        found = await self._store.session(_hash(token), self._clock(), self.idle)
        return Current(*found) if found else None

    async def stands(self, person: Requester) -> bool:
        """Whether the person may still log in and act in the same role and organisation, and for whom they act."""
        account = await self._store.account(identifier=person.person)
        if account is None or account.disabled:
            return False
        assists = {(whom.organisation, whom.identifier) for whom in account.assists}
        if person.acting_for and (person.organisation, person.acting_for) not in assists:
            return False
        return (person.organisation, person.role) in {(p.organisation, p.role) for p in account.places}

    async def choose(self, current: Current, place: tuple[str, str], visit: Visit) -> None:
        """Organisation and role to act in from now on. Raises LoginRefused.

        Who was launched acts where the system that did it may speak for them, and nowhere else.
        """
        if current.session.vouched_by:
            raise LoginRefused("launched")
        chosen = next((p for p in current.account.places if (p.organisation, p.role) == place), None)
        if chosen is None:
            raise LoginRefused("place")
        said = f"acts as {chosen.role} in {chosen.organisation}"
        event = self._event("login", current.account, visit, said, session=current.session.session_id)
        try:
            await self._store.choose(current.session.session_id, chosen, event)
        except LostRace:
            raise LoginRefused("place") from None

    async def act_for(self, current: Current, professional: str, visit: Visit) -> None:
        """For whom an assistant acts from now on; "": for nobody. Raises LoginRefused."""
        if professional and professional not in {whom.identifier for whom in current.professionals}:
            raise LoginRefused("assists")
        said = f"acts for {professional or 'nobody'}"
        event = self._event("login", current.account, visit, said, session=current.session.session_id)
        try:
            await self._store.act_for(current.session.session_id, professional, event)
        except LostRace:
            raise LoginRefused("assists") from None

    async def sessions(self, current: Current) -> Sequence[Session]:
        """The person's, the newest first."""
        listed = await self._store.sessions(self._clock(), self.idle, current.account.person_id)
        return [each.session for each in listed]

    async def log_out(self, current: Current, visit: Visit) -> None:
        """Ends the session."""
        session_id = current.session.session_id
        event = self._event("logout", current.account, visit, session=session_id)
        await self._store.end(event, session_id=session_id, reason="logged out")

    async def end(self, current: Current, session_id: str, visit: Visit) -> None:
        """Ends another session of the same person."""
        event = self._event("logout", current.account, visit, "ended by the person elsewhere", session=session_id)
        await self._store.end(event, session_id=session_id, person_id=current.account.person_id, reason="ended")

    async def end_others(self, current: Current, visit: Visit) -> int:
        """Ends all other sessions of the person; how many."""
        own = current.session.session_id
        event = self._event("logout", current.account, visit, "all but this session ended by the person", session=own)
        return await self._store.end(event, person_id=current.account.person_id, but=own, reason="ended")

    async def passkeys(self, current: Current) -> Sequence[Passkey]:
        """The person's."""
        return await self._store.passkeys(current.account.person_id)

    async def remove_passkey(self, current: Current, credential_id: bytes, visit: Visit) -> None:
        """Raises LoginRefused long after the log-in, and when nothing to log in by would remain."""
        self._expect_fresh(current)
        if all(own.credential_id != credential_id for own in await self.passkeys(current)):
            return  # another's, or removed already: nothing changes, and nothing is recorded as changed
        event = self._event("security_configuration", current.account, visit, "passkey removed")
        try:
            await self._store.remove_passkey(current.account.person_id, credential_id, event)
        except LostRace:
            raise LoginRefused("last") from None

    async def forget(self) -> None:
        """Deletes what is over for long."""
        await self._store.forget(self._clock())

    # what an operator does ------------------------------------------------------------------------------------------

    async def accounts(self) -> Sequence[Account]:
        """All, by login."""
        return await self._store.accounts()

    async def add(
        self, login: str, name: str, identifier: str, places: Sequence[Place], by: str
    ) -> tuple[str, datetime]:
        """The one-time password of a new person, and until when it is valid. Raises Problem."""
        login, name = fold_login(login), _line(name, _NAME_MAX)
        wrong = [f for place in places for f in _check_place(place)]
        if not is_login(login):
            wrong.append(Finding("RuleBroken", "a login has letters, digits and . _ @ + -, 64 at most", "login"))
        if not name:
            wrong.append(Finding("RuleBroken", "the person needs a name", "name"))
        if identifier and not is_person_identifier(identifier):
            wrong.append(Finding("RuleBroken", "an identifier is written as root#extension", "identifier"))
        if wrong:
            raise Problem(wrong)
        one_time, until = _new_one_time(), self._clock() + ONE_TIME
        account = Account(
            person_id=self._new_uuid(),
            login=login,
            name=name,
            identifier=identifier or login,
            created_at=self._clock(),
            places=tuple(places),
            one_time=_hash(_plain(one_time)),
            one_time_until=until,
        )
        if not await self._store.add(account, self._operated(account, by, "account made")):
            raise Problem.of("RuleBroken", f"there is somebody with this login or identifier already: {login}", "login")
        return one_time, until

    async def grant(self, login: str, place: Place, by: str, *, remove: bool = False) -> None:
        """Gives a person a place, or takes it. Raises Problem."""
        account = await self._known(login)
        if remove and (place.organisation, place.role) not in {(p.organisation, p.role) for p in account.places}:
            raise Problem.of("RuleBroken", f"{login} has no role {place.role} in {place.organisation}", "role")
        if not remove and (wrong := _check_place(place)):
            raise Problem(wrong)
        done = "taken" if remove else "given"
        event = self._operated(account, by, f"role {place.role} in {place.organisation} {done}")
        await self._store.place(account.person_id, place, event, remove=remove)

    async def assist(self, login: str, whom: Professional, by: str, *, remove: bool = False) -> None:
        """Lets an assistant act for a professional, or no longer. Raises Problem."""
        account = await self._known(login)
        if remove and (whom.organisation, whom.identifier) not in {
            (p.organisation, p.identifier) for p in account.assists
        }:
            raise Problem.of("RuleBroken", f"{login} does not act for {whom.identifier} there", "for")
        if not remove and (wrong := _check_professional(account, whom)):
            raise Problem(wrong)
        done = "no longer acts for" if remove else "may act for"
        event = self._operated(account, by, f"{done} {whom.identifier} in {whom.organisation}")
        await self._store.assist(account.person_id, whom, event, remove=remove)

    async def disable(self, login: str, by: str, *, disabled: bool = True) -> None:
        """Shuts a person out, or lets them in again. Raises Problem."""
        account = await self._known(login)
        event = self._operated(account, by, "account disabled" if disabled else "account enabled")
        await self._store.disable(account.person_id, event, disabled=disabled)

    async def reset(self, login: str, by: str) -> tuple[str, datetime]:
        """A new one-time password: all that the person logged in by is forgotten, sessions end. Raises Problem."""
        account = await self._known(login)
        one_time, until = _new_one_time(), self._clock() + ONE_TIME
        event = self._operated(account, by, "password, codes and passkeys reset")
        await self._store.reset(account.person_id, _hash(_plain(one_time)), until, event)
        return one_time, until

    async def all_sessions(self, login: str = "") -> Sequence[Listed]:
        """Those of a person, or of everybody. Raises Problem."""
        person_id = (await self._known(login)).person_id if login else ""
        return await self._store.sessions(self._clock(), self.idle, person_id)

    async def revoke(self, by: str, *, session_id: str = "", login: str = "") -> int:
        """Ends one session, or all of a person; how many. Raises Problem."""
        if login:
            account = await self._known(login)
            event = self._operated(account, by, "all sessions ended", activity="logout")
            return await self._store.end(event, person_id=account.person_id, reason="revoked")
        listed = await self._store.sessions(self._clock(), self.idle)
        whose = next((each for each in listed if each.session.session_id == session_id), None)
        if whose is None:
            return 0
        account = await self._known(whose.login)
        event = self._operated(account, by, "session ended", activity="logout", session=session_id)
        return await self._store.end(event, session_id=session_id, reason="revoked")

    # parts ----------------------------------------------------------------------------------------------------------

    async def _known(self, login: str) -> Account:
        account = await self._store.account(login=fold_login(login))
        if account is None:
            raise Problem.of("RuleBroken", f"nobody here has the login {login}", "login")
        return account

    def _expect_fresh(self, current: Current) -> None:
        """What one logs in by is changed only by whoever has just logged in, here."""
        if current.session.vouched_by:
            raise LoginRefused("launched")
        if self._clock() - current.session.started_at > FRESH:
            raise LoginRefused("stale")

    async def _verify(self, hashed: str, password: str) -> bool:
        """Takes as long for people who have no password."""
        async with self._hashing:
            return await asyncio.to_thread(self._verify_now, hashed, password) and bool(hashed)

    def _verify_now(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed or self._nobodys, password)
        except (VerificationError, InvalidHashError):
            return False

    @staticmethod
    def _is_one_time(account: Account, password: str, now: datetime) -> bool:
        valid = account.one_time_until is not None and now < account.one_time_until
        return valid and secrets.compare_digest(account.one_time, _hash(_plain(password)))

    async def _begin(
        self, step: str, account: Account | None, now: datetime, *, challenge: bytes = b"", replaces: str = ""
    ) -> str:
        token = _new_token()
        await self._store.begin(
            Attempt(
                token=_hash(token),
                step=step,
                until=now + ATTEMPT,
                person_id=account.person_id if account else "",
                challenge=challenge,
                secret=self._keys.wrap(secrets.token_bytes(32)) if step == "enrol" else b"",
                replaces=replaces,
            )
        )
        return token

    async def _attempt(self, token: str, step: str) -> tuple[Attempt, Account]:
        attempt = await self._store.attempt(_hash(token), self._clock()) if token else None
        if attempt is None or attempt.step != step:
            raise LoginRefused("over")
        account = await self._store.account(person_id=attempt.person_id)
        if account is None or account.disabled:
            raise LoginRefused("over")
        return attempt, account

    async def _log_in(
        self,
        attempt: Attempt,
        account: Account,
        method: str,
        visit: Visit,
        *,
        totp_step: int | None = None,
        passkey: Passkey | None = None,
        enrolled: Enrolled | None = None,
    ) -> Proved:
        now, token = self._clock(), _new_token()
        session = Session(
            session_id=self._new_uuid(),
            person_id=account.person_id,
            method=method,
            started_at=now,
            seen_at=now,
            until=now + self._lifetime,
            address=visit.address,
            agent=_line(visit.agent, _AGENT_MAX),
            place=account.places[0] if len(account.places) == 1 else None,
            token=_hash(token),
        )
        done = LogIn(
            session=session,
            attempt=attempt.token,
            subject=subject(account.login),
            totp_step=totp_step,
            passkey=passkey,
            enrolled=enrolled,
            replaces=attempt.replaces,
        )
        said = f"new {'passkey' if enrolled.passkey else 'password'}" if enrolled else method
        event = self._event("login", account, visit, said, session=session.session_id)
        try:
            await self._store.log_in(done, event)
        except LostRace:
            await self._failed(account, visit, "used before")
            raise LoginRefused("over") from None
        return Proved(token, session, account)

    async def _failed(self, account: Account | None, visit: Visit, detail: str) -> None:
        """What was typed as the login of nobody may be a password: it is not recorded."""
        await self._store.record(self._event("login", account, visit, detail, outcome=Outcome.SERIOUS_FAILURE))

    def _event(
        self,
        activity: str,
        account: Account | None,
        visit: Visit,
        detail: str = "",
        *,
        session: str = "",
        outcome: Outcome = Outcome.SUCCESS,
    ) -> AuditEvent:
        return AuditEvent(
            transaction=activity,
            event=toml("audit.toml")["activity"][activity][3],
            outcome=outcome,
            detail=detail,
            request_id=visit.request_id,
            source_address=visit.address,
            requester=account.identifier if account else "",
            objects=(AuditObject("session", session),) if session else (),
        )

    def _operated(
        self, account: Account, by: str, detail: str, *, activity: str = "security_configuration", session: str = ""
    ) -> AuditEvent:
        """What an operator did to somebody."""
        event = self._event(activity, account, Visit(""), f"{account.login}: {detail}", session=session)
        return msgspec.structs.replace(event, source_user=by, requester=by)


class CookieSessions:
    """Who is logged in, by the header Cookie: port :class:`obieg.protocol.Sessions`."""

    def __init__(self, people: People, cookie_name: str) -> None:
        self._people = people
        self._cookie_name = cookie_name

    async def current(self, cookie: str) -> Requester | None:
        """See the port."""
        current = await self._people.session(cookie_value(cookie, self._cookie_name))
        return current.requester if current else None

    async def stands(self, person: Requester) -> bool:
        """See the port."""
        return await self._people.stands(person)

    def login_address(self, then: str, again: Requester | None = None) -> str:
        """See the port."""
        return f"/login?next={quote(then, safe='')}{'&again=' if again is not None else ''}"


def cookie_value(header: str, name: str) -> str:
    """The value of a cookie (RFC 6265, section 4.2); "" where there is none, or more than one of the name."""
    pairs = [pair.strip().partition("=") for pair in header.split(";")]
    values = [value for key, _, value in pairs if key == name]
    return values[0] if len(values) == 1 else ""


def _check_place(place: Place) -> list[Finding]:
    wrong = []
    if place.role not in ROLES:
        wrong.append(Finding("RuleBroken", f"there is no role {place.role!r}; known: {', '.join(ROLES)}", "role"))
    if "#" not in place.organisation or not is_person_identifier(place.organisation):
        wrong.append(Finding("RuleBroken", "an organisation is written as root#extension", "organisation"))
    if not place.organisation_name.strip():
        wrong.append(Finding("RuleBroken", "the organisation needs a name", "organisation name"))
    return wrong


def _check_professional(account: Account, whom: Professional) -> list[Finding]:
    wrong = []
    if not any(p.organisation == whom.organisation and p.role in ASSISTANTS for p in account.places):
        said = f"{account.login} is no assistant ({', '.join(sorted(ASSISTANTS))}) in {whom.organisation}"
        wrong.append(Finding("RuleBroken", said, "organisation"))
    if "#" not in whom.identifier or not is_person_identifier(whom.identifier):
        wrong.append(Finding("RuleBroken", "a professional is written as root#extension", "for"))
    if whom.identifier == account.identifier:
        wrong.append(Finding("RuleBroken", "nobody acts for themself", "for"))
    if not whom.name.strip():
        wrong.append(Finding("RuleBroken", "the professional needs a name", "name"))
    return wrong


def _line(text: str, length: int) -> str:
    """One printable line."""
    return "".join(c for c in text.strip() if c.isprintable())[:length]


def _hash(text: str) -> bytes:
    """Of what has 128 random bits or more: nothing slower is needed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _new_token() -> str:
    return urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def _new_one_time() -> str:
    """130 bits, in groups that can be read out."""
    text = b32encode(secrets.token_bytes(17)).decode().lower()[:26]
    return "-".join(text[at : at + 6] for at in range(0, 24, 6)) + text[24:]


def _plain(one_time: str) -> str:
    """As it is compared: however somebody typed it."""
    return "".join(c for c in one_time.casefold() if c.isalnum())
