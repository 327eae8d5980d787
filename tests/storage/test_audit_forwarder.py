"""What is forwarded of the log: all of it, in order, though numbers are given out before transactions end."""

from __future__ import annotations

import asyncio

import psycopg

from obieg.actors import audit_forwarder
from obieg.actors.audit_forwarder import AuditForwarder
from obieg.domain.problems import RetryLater
from obieg.storage.audit_repository_store import PostgresAuditLog
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database

INSERT = "INSERT INTO audit_event (transaction, outcome, request_id, message) VALUES ('ITI-43', 0, '', %s)"


class Carrier:
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.down = False

    async def send(self, messages: list[bytes]) -> None:
        if self.down:
            raise RetryLater("nobody listens")
        self.messages += [m.decode().rpartition("\ufeff")[2] for m in messages]


def test_a_transaction_that_is_held_open_loses_and_reorders_nothing(database_dsn: str) -> None:
    async def work() -> None:
        database = Database(database_dsn, links=1)
        await database.open()
        audit = AuditStore(database, source_id="x", names={}, now=lambda: None)  # type: ignore[arg-type,return-value]
        log = PostgresAuditLog(database, audit, assigning_authority="1.2")
        carrier = Carrier()
        forwarder = AuditForwarder("there", log, carrier, hostname="h", procid="1")

        async def told() -> list[str]:
            for _ in range(4):  # a gap is believed only when it is still there the next time
                await forwarder.step()
            return carrier.messages

        assert await told() == []
        with psycopg.connect(database_dsn) as held, psycopg.connect(database_dsn, autocommit=True) as other:
            other.execute(INSERT, ["a"])
            held.execute(INSERT, ["b"])  # has its number, and does not end
            other.execute(INSERT, ["c"])
            assert await told() == ["a"]
            held.commit()
            assert await told() == ["a", "b", "c"]

            held.execute(INSERT, ["undone"])
            other.execute(INSERT, ["d"])
            assert await told() == ["a", "b", "c"]
            held.rollback()
            assert await told() == ["a", "b", "c", "d"]

            # What others sent here is theirs to forward.
            other.execute(INSERT.replace("message)", "message, format)").replace("%s)", "%s, 'syslog')"), ["foreign"])
            carrier.down = True
            other.execute(INSERT, ["e"])
            for _ in range(2):
                try:
                    await forwarder.step()
                except RetryLater:
                    continue
                raise AssertionError("nobody listened")
            assert (await log.lag())["there"][0] == 2
            carrier.down = False
            assert await told() == ["a", "b", "c", "d", "e"]
            assert (await log.lag())["there"] == (0, 0.0)
        database.close()

    assert audit_forwarder.RECORDS_AT_ONCE > 4
    asyncio.run(work())
