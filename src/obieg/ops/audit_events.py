"""Audit records of what happens to the node itself: start, stop, a new configuration, a new key, use of the log.

Commands and the supervisor have no event loop and no worker's links, so these records go over a connection of their
own, one at a time.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg

from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.mapping.balp import Reading
from obieg.ops.accounts import os_user
from obieg.ops.settings import Settings
from obieg.protocol import FhirBinding
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.transactions import NOTIFICATIONS, TRANSACTIONS

_ACTIVITIES = toml("audit.toml")["activity"]


def activity(kind: str, settings: Settings, detail: str = "", objects: Sequence[AuditObject] = ()) -> AuditEvent:
    """The record of an activity of ``codes/audit.toml``, by whoever runs this program."""
    return AuditEvent(
        transaction=kind,
        event=_ACTIVITIES[kind][3],
        outcome=Outcome.SUCCESS,
        detail=detail,
        source_user=os_user(),
        source_address=socket.gethostname(),
        destination_user=settings.name,
        objects=tuple(objects),
    )


def record(dsn: str, settings: Settings, event: AuditEvent, *, name: str = "") -> None:
    """Stores a record now. Raises psycopg.Error."""
    store = AuditStore(
        Database(dsn),
        source_id=settings.name,
        names={event.transaction: name or event.transaction},
        now=lambda: datetime.now(UTC),
    )
    call = store.call(event)
    values = [None if value is None else value.decode() for value in call.values]
    with psycopg.connect(dsn, autocommit=True, application_name="obieg audit") as connection:
        psycopg.RawCursor(connection).execute(call.statement.sql.encode(), values)


def audit_reading(settings: Settings) -> Reading:
    """What a reader of this node's log is told besides the rows."""
    return Reading(
        source_id=settings.name,
        affinity_domain=settings.identity.assigning_authority,
        restful=frozenset(t.id for t in TRANSACTIONS if isinstance(t.binding, FhirBinding))
        | frozenset(n.id for n in NOTIFICATIONS if isinstance(n.binding, FhirBinding)),
    )
