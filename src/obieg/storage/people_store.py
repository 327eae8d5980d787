"""People who log in, in PostgreSQL: port :class:`obieg.domain.accounts.AccountStore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from obieg.domain.accounts import (
    FAILURES_FORGOTTEN,
    KEPT,
    PAUSES_S,
    SEEN,
    Account,
    Attempt,
    Enrolled,
    Listed,
    LogIn,
    Opening,
    Passkey,
    Place,
    Professional,
    Session,
)
from obieg.domain.audit import AuditEvent
from obieg.domain.launching import Launched, Launching
from obieg.domain.registry import LostRace
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, Row, done, run
from obieg.storage.statements import Call, load

_SQL = load("people.sql")
_LAUNCHING = msgspec.json.Decoder(Launching)


class PostgresAccounts:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    # people ---------------------------------------------------------------------------------------------------------

    async def account(self, *, login: str = "", person_id: str = "", identifier: str = "") -> Account | None:
        """See the port."""
        if not (login or person_id or identifier):
            return None
        question = _read_account(login=login, person_id=person_id or None, identifier=identifier)
        rows = await self._one(question)
        return _account(rows[0]) if rows else None

    async def accounts(self) -> list[Account]:
        """See the port."""
        return [_account(row) for row in await self._one(_read_account())]

    async def add(self, account: Account, event: AuditEvent) -> bool:
        """See the port."""
        add = _SQL.insert_person(
            person_id=account.person_id,
            login=account.login,
            name=account.name,
            identifier=account.identifier,
            created_at=_time(account.created_at),
            one_time=account.one_time,
            one_time_until=_time(account.one_time_until),
        )
        places = [_SQL.insert_place(person_id=account.person_id, **_columns(place)) for place in account.places]
        return await done(self._database, add, *places, self._audit.call(event))

    async def place(self, person_id: str, place: Place, event: AuditEvent, *, remove: bool = False) -> None:
        """See the port."""
        if remove:
            named = {"person_id": person_id, "organisation": place.organisation, "role": place.role}
            calls = [_SQL.delete_place(**named), _SQL.end_grants(**named, professional="")]
        else:
            calls = [_SQL.insert_place(person_id=person_id, **_columns(place))]
        await run(self._database, *calls, self._audit.call(event))

    async def disable(self, person_id: str, event: AuditEvent, *, disabled: bool) -> None:
        """See the port."""
        calls = [_SQL.disable_person(person_id=person_id, disabled=disabled)]
        if disabled:
            calls += [_ending(person_id=person_id, reason="disabled"), _SQL.drop_login_attempts(person_id=person_id)]
            calls.append(_SQL.end_grants(person_id=person_id, organisation="", role="", professional=""))
        await run(self._database, *calls, self._audit.call(event))

    async def reset(self, person_id: str, one_time: bytes, until: datetime, event: AuditEvent) -> None:
        """See the port."""
        await run(
            self._database,
            _SQL.reset_person(person_id=person_id, one_time=one_time, until=_time(until)),
            _SQL.delete_passkeys(person_id=person_id),
            _SQL.drop_login_attempts(person_id=person_id),
            _ending(person_id=person_id, reason="reset"),
            self._audit.call(event),
        )

    async def passkey(self, credential_id: bytes) -> Passkey | None:
        """See the port."""
        rows = await self._one(_SQL.read_passkeys(credential_id=credential_id, person_id=None))
        return _passkey(rows[0]) if rows else None

    async def passkeys(self, person_id: str) -> list[Passkey]:
        """See the port."""
        return [_passkey(row) for row in await self._one(_SQL.read_passkeys(credential_id=None, person_id=person_id))]

    async def remove_passkey(self, person_id: str, credential_id: bytes, event: AuditEvent) -> None:
        """See the port."""
        await run(
            self._database,
            _SQL.remove_passkey(person_id=person_id, credential_id=credential_id),
            _SQL.expect_way_to_log_in(person_id=person_id),
            self._audit.call(event),
        )

    # log-in ---------------------------------------------------------------------------------------------------------

    async def count_failure(self, subject: bytes, now: datetime) -> bool:
        """See the port."""
        return bool(await self._one(_SQL.count_login_failure(subject=subject, now=_time(now), pauses=PAUSES_S)))

    async def begin(self, attempt: Attempt, event: AuditEvent | None = None) -> None:
        """See the port."""
        insertion = _SQL.insert_login_attempt(
            token=attempt.token,
            step=attempt.step,
            person_id=attempt.person_id or None,
            challenge=attempt.challenge,
            secret=attempt.secret,
            replaces=attempt.replaces or None,
            until=_time(attempt.until),
        )
        await run(self._database, insertion, *([self._audit.call(event)] if event is not None else []))

    async def attempt(self, token: bytes, now: datetime) -> Attempt | None:
        """See the port."""
        return _attempt(token, await self._one(_SQL.read_login_attempt(token=token, now=_time(now))))

    async def challenge(self, token: bytes, challenge: bytes) -> None:
        """See the port."""
        await self._one(_SQL.set_login_challenge(token=token, challenge=challenge))

    async def take_challenge(self, token: bytes, now: datetime) -> Attempt | None:
        """See the port."""
        return _attempt(token, await self._one(_SQL.take_login_challenge(token=token, now=_time(now))))

    async def log_in(self, done: LogIn, event: AuditEvent) -> None:
        """See the port."""
        session = done.session
        calls = [_SQL.finish_login_attempt(token=done.attempt)]
        if done.passkey is not None:
            calls.append(_used(done.passkey))
        if done.enrolled is not None:
            calls += [_enrolling(session.person_id, done.enrolled), _SQL.drop_enrolments(person_id=session.person_id)]
        if done.totp_step is not None:
            calls.append(_SQL.spend_totp(person_id=session.person_id, step=done.totp_step))
        if done.replaces:
            calls.append(_ending(session_id=done.replaces, reason="replaced"))
        await run(
            self._database,
            *calls,
            _SQL.forget_login_failure(subject=done.subject),
            _beginning(session),
            self._audit.call(event),
        )

    async def launched(self, code: bytes, now: datetime) -> Launched | None:
        """See the port."""
        rows = await self._one(_SQL.read_launch_code(digest=code, now=_time(now)))
        return Launched(_LAUNCHING.decode(rows[0][0]), rows[0][1] or "") if rows else None

    async def open(self, done: Opening, *events: AuditEvent) -> None:
        """See the port."""
        session = done.session
        used = _SQL.use_launch_code(digest=done.code, session_id=session.session_id, now=_time(session.started_at))
        ended = [_ending(session_id=done.replaces, reason="replaced")] if done.replaces else []
        await run(self._database, used, *ended, _beginning(session), *(self._audit.call(event) for event in events))

    # sessions -------------------------------------------------------------------------------------------------------

    async def session(self, token: bytes, now: datetime, idle: timedelta) -> tuple[Session, Account] | None:
        """See the port."""
        at, silent = _time(now), _interval(idle)
        _, found, accounts = await run(
            self._database,
            _SQL.use_session(token=token, now=at, idle=silent, exactly=_interval(SEEN)),
            _SQL.read_session(token=token, now=at, idle=silent),
            _read_account(token=token),
        )
        return (_session(found[0]), _account(accounts[0])) if found else None

    async def sessions(self, now: datetime, idle: timedelta, person_id: str = "") -> list[Listed]:
        """See the port."""
        question = _SQL.list_sessions(now=_time(now), idle=_interval(idle), person_id=person_id or None)
        return [Listed(_session(row), *row[15:]) for row in await self._one(question)]

    async def choose(self, session_id: str, place: Place, event: AuditEvent) -> None:
        """See the port."""
        choice = _SQL.choose_place(session_id=session_id, organisation=place.organisation, role=place.role)
        await run(self._database, choice, self._audit.call(event))

    async def act_for(self, session_id: str, professional: str, event: AuditEvent) -> None:
        """See the port."""
        choice = _SQL.choose_professional(session_id=session_id, professional=professional)
        await run(self._database, choice, self._audit.call(event))

    async def assist(self, person_id: str, whom: Professional, event: AuditEvent, *, remove: bool = False) -> None:
        """See the port."""
        named = {"person_id": person_id, "organisation": whom.organisation, "professional": whom.identifier}
        if remove:
            calls = [_SQL.delete_assists(**named), _SQL.end_grants(**named, role="")]
        else:
            calls = [_SQL.insert_assists(**named, professional_name=whom.name)]
        await run(self._database, *calls, self._audit.call(event))

    async def end(
        self, event: AuditEvent, *, session_id: str = "", person_id: str = "", but: str = "", reason: str = ""
    ) -> int:
        """See the port."""
        ending = _ending(session_id=session_id, person_id=person_id, but=but, reason=reason, least=1)
        try:
            ended, _ = await run(self._database, ending, self._audit.call(event))
        except LostRace:
            return 0
        return int(ended[0][0])

    async def record(self, event: AuditEvent) -> None:
        """See the port."""
        await self._audit.record(event)

    async def forget(self, now: datetime) -> None:
        """See the port."""
        await self._one(
            _SQL.forget_log_ins(now=_time(now), failures=_interval(FAILURES_FORGOTTEN), sessions=_interval(KEPT))
        )

    async def _one(self, call: Call) -> Sequence[Row]:
        return (await run(self._database, call))[0]


def _ending(*, session_id: str = "", person_id: str = "", but: str = "", reason: str, least: int = 0) -> Call:
    return _SQL.end_sessions(
        session_id=session_id or None, person_id=person_id or None, but=but or None, reason=reason, least=least
    )


def _beginning(session: Session) -> Call:
    place = session.place
    return _SQL.insert_session(
        session_id=session.session_id,
        token=session.token,
        person_id=session.person_id,
        method=session.method,
        started_at=_time(session.started_at),
        until=_time(session.until),
        address=session.address,
        agent=session.agent,
        organisation=place.organisation if place else "",
        role=place.role if place else "",
        vouched_by=session.vouched_by,
        proved_at=_time(session.proved_at),
    )


def _used(passkey: Passkey) -> Call:
    return _SQL.use_passkey(
        credential_id=passkey.credential_id, sign_count=passkey.sign_count, used_at=_time(passkey.used_at)
    )


def _enrolling(person_id: str, enrolled: Enrolled) -> Call:
    passkey = enrolled.passkey
    if passkey is None:
        return _SQL.enrol_password(person_id=person_id, password=enrolled.password, totp=enrolled.totp)
    return _SQL.enrol_passkey(
        person_id=person_id,
        credential_id=passkey.credential_id,
        public_key=passkey.public_key,
        sign_count=passkey.sign_count,
        label=passkey.label,
        created_at=_time(passkey.created_at),
    )


def _columns(place: Place) -> dict[str, str]:
    return {
        "organisation": place.organisation,
        "organisation_name": place.organisation_name,
        "role": place.role,
    }


def _read_account(**by: Any) -> Call:
    """By one of what names a person; all where none is given."""
    return _SQL.read_account(**{"login": "", "person_id": None, "identifier": "", "token": None, **by})


def _account(row: Row) -> Account:
    person_id, login, name, identifier, created_at, disabled, password, totp, step, one_time, until, passkeys = row[:12]
    return Account(
        person_id=str(person_id),
        login=login,
        name=name,
        identifier=identifier,
        created_at=created_at,
        disabled=disabled,
        password=password,
        totp=bytes(totp),
        totp_step=step,
        one_time=bytes(one_time),
        one_time_until=until,
        passkeys=passkeys,
        places=tuple(Place(*place) for place in zip(*row[12:15], strict=True)),
        assists=tuple(Professional(*whom) for whom in zip(*row[15:18], strict=True)),
    )


def _passkey(row: Row) -> Passkey:
    credential_id, person_id, public_key, *rest = row
    return Passkey(bytes(credential_id), str(person_id), bytes(public_key), *rest)


def _attempt(token: bytes, rows: Sequence[Row]) -> Attempt | None:
    if not rows:
        return None
    step, person_id, challenge, secret, replaces, until = rows[0]
    return Attempt(
        token=token,
        step=step,
        until=until,
        person_id=str(person_id or ""),
        challenge=bytes(challenge),
        secret=bytes(secret),
        replaces=str(replaces or ""),
    )


def _session(row: Row) -> Session:
    session_id, person_id, method, started_at, seen_at, until, address, agent, *place = row[:11]
    vouched_by, proved_at, professional, name = row[11:15]
    return Session(
        session_id=str(session_id),
        person_id=str(person_id),
        method=method,
        started_at=started_at,
        seen_at=seen_at,
        until=until,
        address=address,
        agent=agent,
        place=Place(*place) if place[0] is not None else None,
        vouched_by=vouched_by,
        proved_at=proved_at,
        acting_for=Professional(place[0], professional, name) if place[0] is not None and professional else None,
    )


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _interval(length: timedelta) -> str:
    return f"{length.total_seconds()} s"
