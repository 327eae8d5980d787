"""Grants, codes, refresh tokens and signing keys of the authorization server in PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import orjson

from obieg.domain.audit import AuditEvent
from obieg.domain.authorization import Grant, Issued, Launch, Secret, SigningKey, StandingGrant
from obieg.domain.launching import Launching
from obieg.domain.requester import Spent
from obieg.storage.audit_store import AuditStore, run_once, using_up
from obieg.storage.keys import KeyWrapper
from obieg.storage.link import Database, run
from obieg.storage.statements import Call, load

_SQL = load("authorization.sql")
_GRANT = msgspec.json.Decoder(Grant)
_LAUNCH = msgspec.json.Decoder(Launch)


class PostgresAuthorization:
    """See :class:`obieg.domain.authorization.AuthorizationStore`."""

    def __init__(self, database: Database, audit: AuditStore, wrapper: KeyWrapper) -> None:
        self._database = database
        self._audit = audit
        self._wrapper = wrapper

    # keys -------------------------------------------------------------------------------------------------------

    async def keys(self) -> list[SigningKey]:
        """See the port."""
        [rows] = await run(self._database, _SQL.list_oauth_keys())
        return [
            SigningKey(key_id, orjson.loads(public), self._wrapper.unwrap(bytes(wrapped)), signs_from)
            for key_id, public, wrapped, signs_from in rows
        ]

    async def add_key(self, key: SigningKey, *, unless_after: datetime) -> None:
        """See the port."""
        insertion = _SQL.insert_oauth_key(
            key_id=key.key_id,
            public_key=orjson.dumps(key.public).decode(),
            wrapped=self._wrapper.wrap(key.secret),
            signs_from=key.signs_from.isoformat(),
            unless_after=unless_after.isoformat(),
        )
        await run(self._database, _SQL.lock_oauth_keys(), insertion)

    async def forget_keys(self, before: datetime) -> None:
        """See the port."""
        await run(self._database, _SQL.forget_oauth_keys(before=before.isoformat()))

    # a person's grant -------------------------------------------------------------------------------------------

    async def ask(self, grant_id: str, grant: Grant, session: str, until: datetime) -> None:
        """See the port."""
        call = _SQL.insert_oauth_grant(
            grant_id=grant_id,
            client_id=grant.client_id,
            session=session,
            content=_written(grant),
            until=until.isoformat(),
        )
        await run(self._database, call)

    async def asked(self, grant_id: str, session: str, now: datetime) -> Grant | None:
        """See the port."""
        if (uuid := _uuid(grant_id)) is None:
            return None
        call = _SQL.read_asked_grant(grant_id=uuid, session=session, now=now.isoformat())
        [rows] = await run(self._database, call)
        return _GRANT.decode(rows[0][0]) if rows else None

    async def allow(self, grant_id: str, grant: Grant, code: Issued, until: datetime, event: AuditEvent) -> None:
        """See the port."""
        allowed = _SQL.allow_oauth_grant(grant_id=grant_id, content=_written(grant), until=until.isoformat())
        await run(self._database, allowed, _insertion(code, grant_id), self._audit.call(event))

    async def deny(self, grant_id: str, event: AuditEvent) -> None:
        """See the port."""
        await run(self._database, _SQL.deny_oauth_grant(grant_id=grant_id), self._audit.call(event))

    async def end(self, grant_id: str, event: AuditEvent, now: datetime) -> bool:
        """See the port."""
        call = _SQL.end_oauth_grant(grant_id=grant_id, now=now.isoformat())
        [[(ended,)], _] = await run(self._database, call, self._audit.call(event))
        return bool(ended)

    async def standing_grants(self, now: datetime, count: int) -> list[StandingGrant]:
        """Grants that people have given and that have not ended, newest first."""
        [rows] = await run(self._database, _SQL.list_oauth_grants(now=now.isoformat(), count=count))
        return [StandingGrant(grant_id, _GRANT.decode(content), at, until) for grant_id, content, at, until in rows]

    # what is shown for it ---------------------------------------------------------------------------------------

    async def find(self, digest: bytes, now: datetime, spent: tuple[Spent, ...]) -> Secret | None:
        """See the port."""
        found = _SQL.read_oauth_secret(digest=digest, now=now.isoformat())
        *_, rows = await run_once(self._database, *_once(spent), found)
        if not rows:
            return None
        kind, grant_id, content, used, live = rows[0]
        return Secret(kind, grant_id, _GRANT.decode(content), used, live)

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
        """See the port."""
        calls = [_SQL.prolong_oauth_grant(grant_id=grant_id, until=until.isoformat(), now=now.isoformat())]
        if used is not None:
            calls.append(_SQL.use_oauth_secret(digest=used))
        if new is not None:
            calls.append(_insertion(new, grant_id))
        await run(self._database, *calls, self._audit.call(event))

    async def issue_to_client(self, event: AuditEvent, spent: tuple[Spent, ...]) -> None:
        """See the port."""
        await run_once(self._database, *_once(spent), self._audit.call(event))

    async def spend(self, spent: tuple[Spent, ...]) -> None:
        """See the port."""
        if spent:
            await run_once(self._database, *_once(spent))

    async def revoke(self, token_id: str, until: datetime, event: AuditEvent) -> None:
        """See the port."""
        revoked = _SQL.insert_oauth_revoked(token_id=token_id, until=until.isoformat())
        await run(self._database, revoked, self._audit.call(event))

    async def standing(self, token_id: str, grant_id: str) -> tuple[bool, Grant | None]:
        """See the port."""
        call = _SQL.read_oauth_standing(token_id=token_id, grant_id=_uuid(grant_id))
        [[(revoked, content)]] = await run(self._database, call)
        return revoked, _GRANT.decode(content) if content is not None else None

    # the rest ---------------------------------------------------------------------------------------------------

    async def begin_launch(self, digest: bytes, launch: Launch, until: datetime) -> None:
        """See the port."""
        content = msgspec.json.encode(launch).decode()
        await run(self._database, _SQL.insert_oauth_launch(digest=digest, content=content, until=until.isoformat()))

    async def launch(self, digest: bytes, now: datetime) -> Launch | None:
        """See the port."""
        [rows] = await run(self._database, _SQL.read_oauth_launch(digest=digest, now=now.isoformat()))
        return _LAUNCH.decode(rows[0][0]) if rows else None

    async def begin_launching(
        self, digest: bytes, launching: Launching, until: datetime, event: AuditEvent, spent: tuple[Spent, ...]
    ) -> None:
        """See the port."""
        content = msgspec.json.encode(launching).decode()
        insertion = _SQL.insert_launch_code(digest=digest, content=content, until=until.isoformat())
        await run_once(self._database, *_once(spent), insertion, self._audit.call(event))

    async def forget(self, now: datetime) -> None:
        """See the port."""
        at = now.isoformat()
        await run(
            self._database,
            _SQL.forget_oauth_grants(now=at),
            _SQL.forget_oauth_launches(now=at),
            _SQL.forget_oauth_revoked(now=at),
            _SQL.forget_launch_codes(now=at),
        )

    async def record(self, event: AuditEvent) -> None:
        """See the port."""
        await self._audit.record(event)


def _written(grant: Grant) -> str:
    return msgspec.json.encode(grant).decode()


def _insertion(secret: Issued, grant_id: str) -> Call:
    return _SQL.insert_oauth_secret(
        digest=secret.digest, kind=secret.kind, grant_id=grant_id, until=secret.until.isoformat()
    )


def _once(spent: Sequence[Spent]) -> tuple[Call, ...]:
    """A client's proof is of one use, whoever shows it again: each use is a request of its own."""
    return using_up(spent, secrets.token_hex(16))


def _uuid(text: str) -> str | None:
    """As PostgreSQL reads it; None for what is none, of which nothing is found."""
    try:
        return str(UUID(text))
    except ValueError:
        return None
