"""The outbox in PostgreSQL: port :class:`obieg.domain.outbox.OutboxStore`.

A sender holds a message by a lease that ends by itself, not by a transaction: a batch is one transaction and ends with
its answer, and a sender that died holds nothing for long.
"""

from __future__ import annotations

from collections.abc import Sequence

from obieg.domain.audit import AuditEvent
from obieg.domain.outbox import Backlog, Letter, Outgoing
from obieg.domain.problems import RetryLater
from obieg.domain.subscriptions import DESTINATION
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, DatabaseError, Row
from obieg.storage.statements import Call, Parameter, load

_SUBSCRIPTIONS = load("subscriptions.sql")
ERROR_LENGTH_MAX = 1000  # characters kept of what a receiver said


class PostgresOutbox:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit
        self._sql = load("outbox.sql")

    def calls(self, messages: Sequence[Outgoing]) -> list[Call]:
        """See the port."""
        return [
            self._sql.put_letter(
                patient_key=m.patient_key, destination=m.destination, transaction=m.transaction, key=m.key, body=m.body
            )
            for m in messages
        ]

    async def take(self, destination: str, count: int, lease_s: float) -> list[Letter]:
        """See the port."""
        [rows] = await self._run(self._sql.take_letters(destination=destination, count=count, lease_s=str(lease_s)))
        return sorted(map(_letter, rows), key=lambda letter: letter.outbox_id)

    async def take_subscribed(self, count: int, lease_s: float) -> list[Letter]:
        """See the port."""
        [rows] = await self._run(_SUBSCRIPTIONS.take_subscribed(count=count, lease_s=str(lease_s)))
        return sorted(map(_letter, rows), key=lambda letter: letter.outbox_id)

    async def delivered(self, letter: Letter, event: AuditEvent) -> None:
        """See the port."""
        calls = [self._sql.delete_letter(**_held(letter)), self._audit.call(event)]
        if letter.destination.startswith(DESTINATION):
            calls.append(_SUBSCRIPTIONS.subscriber_reached(destination=letter.destination))
        await self._run(*calls)

    async def postpone(self, letter: Letter, pause_s: float, why: str) -> None:
        """See the port."""
        await self._run(
            self._sql.drop_superseded(**_held(letter)),
            self._sql.postpone_letter(pause_s=str(pause_s), why=_short(why), **_held(letter)),
        )

    async def bury(self, letter: Letter, why: str, event: AuditEvent | None) -> None:
        """See the port."""
        await self._run(
            self._sql.bury_letter(why=_short(why), **_held(letter)),
            self._sql.drop_superseded(**_held(letter)),
            *((self._audit.call(event),) if event is not None else ()),
            *self._lost(letter, why),
        )

    @staticmethod
    def _lost(letter: Letter, why: str) -> list[Call]:
        if not letter.destination.startswith(DESTINATION):
            return []
        return [_SUBSCRIPTIONS.subscriber_lost(destination=letter.destination, why=_short(why))]

    async def expired(self, age_s: float, count: int) -> list[Letter]:
        """See the port."""
        [rows] = await self._run(self._sql.expired_letters(age_s=str(age_s), count=count))
        return list(map(_letter, rows))

    async def backlog(self) -> list[Backlog]:
        """See the port."""
        [rows] = await self._run(self._sql.backlog())
        return [Backlog(destination=d, waiting=w, dead=x, oldest_s=s) for d, w, x, s in rows]

    async def _run(self, *calls: Call) -> list[list[Row]]:
        try:
            return await self._database.run(*calls)
        except DatabaseError as error:
            if error.lost_race or error.passing:
                raise RetryLater(f"the outbox was not changed: {error.message}") from error
            raise


def _letter(row: Row) -> Letter:
    outbox_id, patient_key, transaction, destination, body, created_at, attempts, last_error = row
    return Letter(
        outbox_id=outbox_id,
        patient_key=patient_key,
        transaction=transaction,
        destination=destination,
        body=bytes(body),
        created_at=created_at,
        attempts=attempts,
        last_error=last_error,
    )


def _held(letter: Letter) -> dict[str, Parameter]:
    return {"patient_key": letter.patient_key, "outbox_id": letter.outbox_id, "attempts": letter.attempts}


def _short(why: str) -> str:
    """As it may be stored: PostgreSQL takes no NUL."""
    return why.replace("\0", " ")[:ERROR_LENGTH_MAX]
