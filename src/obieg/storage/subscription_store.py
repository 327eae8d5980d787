"""Subscriptions in PostgreSQL: port :class:`obieg.domain.subscriptions.SubscriptionStore`.

What registrations tell subscribers is stored by triggers (migration ``subscription``), so that every way in is covered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import orjson

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import AvailabilityStatus, SubmissionSet
from obieg.domain.identifiers import PatientId
from obieg.domain.outbox import Letter, Outgoing
from obieg.domain.requester import Requester
from obieg.domain.subscriptions import (
    DESTINATION,
    HANDSHAKE,
    DocumentSubscription,
    Notice,
    NumberedNotice,
    PublishedEvent,
    SubscriptionDraft,
    SubscriptionSearch,
)
from obieg.mapping.dsubm import write_notice
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, Row, run
from obieg.storage.outbox_store import PostgresOutbox
from obieg.storage.registry_store import code_value
from obieg.storage.statements import Call, load

_SQL = load("subscriptions.sql")
_encode = msgspec.json.Encoder().encode
_read_requester = msgspec.json.Decoder(Requester).decode
_FILTERS = (
    "type_code", "class_code", "practice_setting_code", "healthcare_facility_type_code", "format_code",
    "event_code_list", "confidentiality_code", "author", "source_id", "source",
)  # fmt: skip
_CODES = ("type_code", "class_code", "practice_setting_code", "healthcare_facility_type_code", "format_code")


class PostgresSubscriptions:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore, outbox: PostgresOutbox) -> None:
        self._database = database
        self._audit = audit
        self._outbox = outbox

    async def patient_keys(self, patients: Sequence[PatientId]) -> Sequence[int | None]:
        """See the port."""
        found = await self._run(
            *(_SQL.subscription_patient(authority=patient.authority, value=patient.value) for patient in patients)
        )
        return [rows[0][0] for rows in found]

    async def create(
        self,
        id_: str,
        requester: Requester,
        draft: SubscriptionDraft,
        *,
        patient_key: int,
        end: datetime,
        filters: Mapping[str, Any],
        event: AuditEvent,
    ) -> None:
        """See the port."""
        patient = draft.search.patients[0].value if draft.search.patients else ""
        handshake = Outgoing(
            transaction="ITI-112",
            destination=DESTINATION + id_,
            key="",
            body=write_notice(Notice(event=HANDSHAKE, patient=patient, endpoint=draft.endpoint)),
            patient_key=patient_key,
        )
        await self._run(
            _SQL.insert_subscription(
                subscription_id=id_,
                patient_key=patient_key,
                owner=requester.system,
                person=requester.person,
                requester=_encode(msgspec.structs.replace(requester, spent=(), remark="")),
                kind=draft.kind,
                topic=draft.topic,
                events=list(draft.events),
                end_at=end.isoformat(),
                base=draft.base,
                endpoint=draft.endpoint,
                payload=draft.payload,
                content=draft.content,
                criteria=draft.criteria,
                contacts=list(draft.contacts),
                resource=draft.resource,
                status=filters["status"],
                **{name: filters.get(name) for name in _FILTERS},
            ),
            *self._outbox.calls([handshake]),
            self._audit.call(event),
        )

    async def read(self, id_: str, event: AuditEvent | None = None) -> DocumentSubscription | None:
        """See the port."""
        calls = [_SQL.read_subscription(subscription_id=id_)]
        if event is not None:
            calls.append(self._audit.call(event))
        rows = (await self._run(*calls))[0]
        return _subscription(rows[0]) if rows else None

    async def find(
        self, requester: Requester, search: SubscriptionSearch, event: AuditEvent
    ) -> tuple[Sequence[DocumentSubscription], int]:
        """See the port."""

        def given(values: tuple[str, ...] | None) -> list[str] | None:
            return None if values is None else list(values)

        rows = (
            await self._run(
                _SQL.find_subscriptions(
                    owner=requester.system,
                    person=requester.person,
                    ids=given(search.ids),
                    statuses=given(search.statuses),
                    topics=given(search.topics),
                    endpoints=given(search.endpoints),
                    payloads=given(search.payloads),
                    contents=given(search.contents),
                    contacts=given(search.contacts),
                    filters=given(search.filters),
                    authority=search.patient.authority if search.patient else None,
                    value=search.patient.value if search.patient else None,
                    count=max(search.count, 1),  # one, so that they are counted
                    skipped=search.skipped,
                ),
                self._audit.call(event),
            )
        )[0]
        found = [_subscription(row[:-1]) for row in rows[: search.count]]
        return found, rows[0][-1] if rows else 0

    async def end(self, id_: str, version: int, event: AuditEvent) -> None:
        """See the port."""
        await self._run(_SQL.end_subscription(subscription_id=id_, version=version), self._audit.call(event))

    async def delete(self, id_: str, version: int, event: AuditEvent) -> None:
        """See the port."""
        await self._run(_SQL.delete_subscription(subscription_id=id_, version=version), self._audit.call(event))

    async def end_all(self) -> Sequence[str]:
        """See the port."""
        (rows,) = await self._run(_SQL.end_subscriptions())
        return [row[0] for row in rows]

    async def remove_off(self, kept: timedelta) -> Sequence[str]:
        """See the port."""
        (rows,) = await self._run(_SQL.remove_off_subscriptions(kept_s=int(kept.total_seconds())))
        return [row[0] for row in rows]

    async def number(self, id_: str, letter: Letter) -> tuple[DocumentSubscription | None, int]:
        """See the port."""
        _, numbers, rows = await self._run(
            _SQL.number_event(
                subscription_id=id_,
                outbox_id=letter.outbox_id,
                occurred_at=letter.created_at.isoformat(),
                notice=letter.body,
            ),
            _SQL.numbered_event(subscription_id=id_, outbox_id=letter.outbox_id),
            _SQL.read_subscription(subscription_id=id_),
        )
        return (_subscription(rows[0]) if rows else None), (numbers[0][0] if numbers else 0)

    async def publish(self, events: Sequence[PublishedEvent], event: AuditEvent) -> None:
        """See the port."""
        await self._run(*map(_tell, events), self._audit.call(event))

    async def told(self, id_: str, first: int, last: int, count: int, event: AuditEvent) -> Sequence[NumberedNotice]:
        """See the port."""
        rows = (
            await self._run(
                _SQL.subscription_events(subscription_id=id_, first=first, last=last, count=count),
                self._audit.call(event),
            )
        )[0]
        return [NumberedNotice(number, at.astimezone(UTC), bytes(notice)) for number, at, notice in rows]

    async def _run(self, *calls: Call) -> list[list[Row]]:
        return await run(self._database, *calls)


def _tell(one: PublishedEvent) -> Call:
    """The row that the registry would have made of it, as far as subscriptions look at it."""
    described = one.described
    row: dict[str, Any] = {
        "patient_key": one.patient_key,
        "status": "A" if described.availability_status is AvailabilityStatus.APPROVED else "D",
        "author_person": [p for a in described.author for p in a.person],
    }
    told: dict[str, Any] = {"patient_key": one.patient_key, "focus": one.focus, "sent": one.resource}
    if isinstance(described, SubmissionSet):
        row["source_id"] = described.source_id
        return _SQL.tell_of_published_set(entry=orjson.dumps(row).decode(), **told)
    for name in _CODES:
        code = getattr(described, name)
        row[name] = None if code is None else code_value(code)
    for name in ("event_code_list", "confidentiality_code"):
        row[name] = [code_value(c) for c in getattr(described, name)]
    return _SQL.tell_of_published_document(entry=orjson.dumps(row).decode(), event=one.event, **told)


def _subscription(row: Row) -> DocumentSubscription:
    (
        id_, kind, topic, status, error, end, base, endpoint, payload, content, resource, version, updated_at,
        requester, events,
    ) = row  # fmt: skip
    return DocumentSubscription(
        id=id_,
        kind=kind,
        topic=topic,
        status=status,
        error=error,
        end=end.astimezone(UTC),
        base=base,
        endpoint=endpoint,
        payload=payload,
        content=content,
        resource=bytes(resource),
        version=version,
        updated_at=updated_at.astimezone(UTC),
        events=events,
        requester=_read_requester(requester),
    )
