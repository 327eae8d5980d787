"""The inbox in PostgreSQL (``sql/inbox.sql``)."""

from __future__ import annotations

from operator import attrgetter

import msgspec

from obieg.domain.audit import AuditEvent
from obieg.domain.inbox import Received
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, run
from obieg.storage.registry_store import insert_stored
from obieg.storage.statements import load

_SQL = load("inbox.sql")
_write = msgspec.json.Encoder().encode


class PostgresInbox:
    """Implements :class:`obieg.domain.inbox.Inbox`."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def known(self, unique_id: str) -> bytes | None:
        """See the port."""
        (rows,) = await run(self._database, _SQL.inbox_fingerprint(unique_id=unique_id))
        return rows[0][0] if rows else None

    async def receive(self, received: Received, audit: AuditEvent) -> None:
        """See the port."""
        submission, sset = received.submission, received.submission.submission_set
        await run(
            self._database,
            # First, so that of two that send it at once one waits, and then finds it there.
            _SQL.insert_inbox_submission(
                unique_id=sset.unique_id,
                fingerprint=received.fingerprint,
                sender=received.sender,
                source_id=sset.source_id,
                patient_id=sset.patient_id or "",
                title=sset.title[0][1] if sset.title else "",
                intended_recipient=sset.intended_recipient,
                submission=_write(submission),
                document_ids=[e.unique_id for e in submission.entries],
            ),
            *(insert_stored(d) for d in sorted(received.documents, key=attrgetter("unique_id"))),
            self._audit.call(audit),
        )
