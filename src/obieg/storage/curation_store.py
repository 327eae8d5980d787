"""Links, decisions and the worklist in PostgreSQL: port :class:`obieg.domain.curation.CurationStore`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from obieg.domain.audit import AuditEvent
from obieg.domain.curation import (
    Access,
    KnownLink,
    KnownTask,
    Mixing,
    Mixture,
    Moving,
    StatedRecord,
    Undoing,
)
from obieg.domain.feeding import MERGED_BY_SOURCE
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Judgement
from obieg.domain.outbox import Outbox
from obieg.domain.patient_index import Change, SavedRecord
from obieg.domain.patients import Link, TaskKind
from obieg.domain.versioning import Filed, Versions
from obieg.mapping.ebrim import read_rendering
from obieg.storage.audit_store import AuditStore
from obieg.storage.lifecycle_store import change_calls
from obieg.storage.link import Database, Row, run
from obieg.storage.patient_store import PostgresPatientStore, columns, record_calls, retire_call
from obieg.storage.registry_store import RegistryDatabase
from obieg.storage.statements import Call, Parameter, load

ACCESSES_MAX = 10_000  # audit records that one question lists

_SQL = load("links.sql")
_PATIENTS = load("patients.sql")
_REGISTRY = load("registry.sql")
_read_judgement = msgspec.json.Decoder(Judgement).decode


class PostgresCurationStore:
    """Implements the port over one database."""

    def __init__(
        self,
        database: Database,
        audit: AuditStore,
        outbox: Outbox,
        patients: PostgresPatientStore,
        *,
        assigning_authority: str,
    ) -> None:
        self._database = database
        self._audit = audit
        self._outbox = outbox
        self._patients = patients
        self._authority = assigning_authority

    async def stands(self, identifier: PatientId) -> tuple[int, bool, int] | None:
        """See the port."""
        [rows] = await self._run(_SQL.find_raw(authority=identifier.authority, value=identifier.value))
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else None

    async def link_of(self, patient_key: int) -> KnownLink | None:
        """See the port."""
        [rows] = await self._run(_SQL.read_link(patient_key=patient_key))
        return self._link(rows[0]) if rows else None

    async def links(self, patient_key: int) -> Sequence[KnownLink]:
        """See the port."""
        [rows] = await self._run(_SQL.read_links(patient_key=patient_key))
        return [self._link(row) for row in rows]

    async def stated(self, patient_key: int) -> tuple[int, Sequence[StatedRecord]]:
        """See the port."""
        [rows] = await self._run(_SQL.stated_identifiers(patient_key=patient_key))
        records = [
            StatedRecord(key, record_key, created_at, tuple(map(PatientId, values, authorities)))
            for _, key, record_key, created_at, authorities, values in rows
            if record_key is not None
        ]
        return int(rows[0][0]), records

    async def documents_since(self, mixing: Sequence[Mixing]) -> Sequence[tuple[str, str]]:
        """See the port."""
        [rows] = await self._run(_SQL.documents_since(**_mixing(mixing)))
        return [(uuid, source) for uuid, source in rows]

    async def filed(self, patient_key: int, source_ids: Sequence[PatientId]) -> Sequence[Filed]:
        """See the port."""
        [rows] = await self._run(
            _SQL.read_filed(patient_key=patient_key, source_patient_ids=list(map(str, source_ids)))
        )
        return await asyncio.to_thread(_filed, rows)

    async def replaced(self, identifiers: Sequence[PatientId]) -> Sequence[PatientId]:
        """See the port."""
        [rows] = await self._run(_SQL.replaced_identifiers(**columns(identifiers)))
        return [PatientId(value, authority) for authority, value in rows]

    async def undo(self, undoing: Undoing, event: AuditEvent) -> Sequence[str]:
        """See the port."""
        known = undoing.known
        key, survivor = known.patient_key, known.survivor_key
        since = known.link.linked_at.isoformat()
        calls = [
            _SQL.lock_kin(patient_key=survivor),
            _PATIENTS.expect_versions(patient_keys=[survivor], versions=[undoing.version]),
            _SQL.expect_no_newer_documents(**_mixing(undoing.mixing), count=undoing.newer),
            _SQL.end_link(patient_key=key, survivor_key=survivor, linked_at=since, by=undoing.by),
            _SQL.repoint_links(patient_key=key),
            _SQL.revive_locators(patient_key=key),
            _SQL.return_records(
                patient_key=key,
                from_keys=[from_key for from_key, _ in undoing.records],
                record_keys=[record_key for _, record_key in undoing.records],
            ),
            _SQL.return_locators(from_key=survivor, to_key=key),
            _SQL.return_locators(from_key=key, to_key=survivor),
            _SQL.reopen_tasks(patient_key=key, linked_at=since, merged=MERGED_BY_SOURCE),
            _PATIENTS.touch_patient(patient_key=key),
            _PATIENTS.touch_patient(patient_key=survivor),
            _SQL.move_documents(from_key=survivor, to_key=key, uuids=undoing.documents),
        ]
        moved_at = len(calls) - 1
        if undoing.doubtful:
            calls.append(_SQL.insert_document_tasks(left_key=survivor, right_key=key, documents=undoing.doubtful))
        calls += [*self._outbox.calls(undoing.outgoing), self._audit.call(event)]
        return [uuid for (uuid,) in (await self._run(*calls))[moved_at]]

    async def revive(self, identifier: PatientId, event: AuditEvent) -> None:
        """See the port."""
        await self._run(
            _SQL.revive_identifier(authority=identifier.authority, value=identifier.value), self._audit.call(event)
        )

    async def submitted_with(self, document: str) -> Sequence[tuple[str, int | None]]:
        """See the port."""
        [rows] = await self._run(_SQL.submitted_with(uuid=document))
        return [(uuid, task_id) for uuid, task_id in rows]

    async def assign(
        self, left_key: int, right_key: int, documents: Mapping[str, int], by: str, note: str, event: AuditEvent
    ) -> None:
        """See the port."""
        calls = [
            _PATIENTS.lock_patients(patient_keys=sorted({left_key, right_key})),
            *(_SQL.decide_task(task_id=task, decision="same", by=by, note=note) for task in documents.values()),
            _SQL.move_all_documents(from_key=left_key, to_key=right_key, uuids=tuple(documents)),
            self._audit.call(event),
        ]
        await self._run(*calls)

    async def confirm(self, task_id: int, by: str, note: str, event: AuditEvent) -> None:
        """See the port."""
        call = _SQL.decide_task(task_id=task_id, decision="same", by=by, note=note)
        await self._run(call, self._audit.call(event))

    async def move(self, moving: Moving, event: AuditEvent) -> None:
        """See the port."""
        source, target = moving.from_key, moving.to_key
        calls = [
            _PATIENTS.lock_patients(patient_keys=sorted({source, target})),
            _PATIENTS.expect_unlinked(patient_keys=sorted({source, target})),
            _PATIENTS.expect_versions(
                patient_keys=[key for key, _ in moving.compared], versions=[version for _, version in moving.compared]
            ),
            _PATIENTS.touch_patient(patient_key=source),
        ]
        if target != source:
            calls.append(_PATIENTS.touch_patient(patient_key=target))
        if moving.retired:
            calls.append(retire_call(moving.retired))
        for known in moving.records:
            to = target if target != source else known.patient_key
            version = known.version
            if to != known.patient_key:
                calls.append(
                    _SQL.move_record(
                        from_key=known.patient_key, to_key=to, record_key=known.record_key, version=version
                    )
                )
                version += 1
            saved = SavedRecord(
                to,
                known.record_key,
                version,
                known.source,
                known.record,
                known.blocks,
                blocks_changed=False,
                fed_by=known.fed_by,
            )
            calls += record_calls(saved)
        if moving.moved and target != source:
            from_keys = sorted({source, *(r.patient_key for r in moving.records)})
            calls.append(_SQL.move_locators(to_key=target, from_keys=from_keys, **columns(moving.moved)))
        if moving.claimed:
            calls.append(_PATIENTS.insert_locators(patient_key=target, **columns(sorted(moving.claimed))))
        versions = moving.versions
        if versions.replaced:
            uuids = [r.entry_uuid for r in versions.replaced]
            calls += [
                _REGISTRY.lock_relations(patient_keys=[source]),
                _SQL.deprecate_versions(
                    patient_keys=[r.patient_key for r in versions.replaced], uuids=uuids, superseded=source == target
                ),
                _SQL.follow_versions(uuids=uuids, new_uuids=[r.new_uuid for r in versions.replaced]),
                _SQL.expect_associations(patient_key=source, uuids=uuids, count=versions.associations),
                *await asyncio.to_thread(_registration_calls, versions),
                *change_calls(versions.changes, event),
            ]
        if versions.doubtful:
            calls.append(_SQL.insert_document_tasks(left_key=source, right_key=target, documents=versions.doubtful))
        await self._run(*calls, *self._outbox.calls(moving.outgoing), self._audit.call(event))

    async def join(self, change: Change, task_id: int, by: str, note: str, event: AuditEvent) -> None:
        """See the port."""
        both = sorted({change.patient_key, *(link.patient_key for link in change.links)})
        calls = [_PATIENTS.lock_patients(patient_keys=both), _SQL.withdraw_decisions(patient_keys=both)]
        if task_id:
            calls.append(_SQL.decide_task(task_id=task_id, decision="same", by=by, note=note))
        await self._run(*calls, *self._patients.calls(change), self._audit.call(event))

    async def part(
        self, left_key: int, right_key: int | None, task_id: int, by: str, note: str, event: AuditEvent
    ) -> None:
        """See the port."""
        calls = []
        if task_id:
            calls.append(_SQL.decide_task(task_id=task_id, decision="different", by=by, note=note))
        else:
            both = (left_key, right_key)
            calls.append(_SQL.close_pair(patient_keys=both, by=by, note=note))
            calls.append(_SQL.insert_decision(left_key=left_key, right_key=right_key, by=by, note=note))
        await self._run(*calls, self._audit.call(event))

    async def tasks(
        self, *, task_id: int = 0, decided: bool = False, count: int = 50, skip: int = 0
    ) -> Sequence[KnownTask]:
        """See the port."""
        call = _SQL.find_tasks(task_id=task_id, decided=decided or bool(task_id), tasks_max=count, skipped=skip)
        [rows] = await self._run(call)
        return [
            KnownTask(id_, TaskKind(kind), left, right, _read_judgement(judged) if judged else None, *rest)
            for id_, kind, left, right, judged, *rest in rows
        ]

    async def open_tasks(self) -> int:
        """See the port."""
        [[(count,)]] = await self._run(_SQL.count_tasks())
        return int(count)

    async def mixtures(self, patient_key: int = 0) -> Sequence[Mixture]:
        """See the port."""
        [rows] = await self._run(_SQL.find_mixed(patient_key=patient_key))
        return [
            Mixture(PatientId(patient, self._authority), PatientId(survivor, self._authority), *rest)
            for _, _, patient, survivor, *rest in rows
        ]

    async def accesses(
        self, patient_key: int, since: datetime, until: datetime, *, reading: bool = False
    ) -> Sequence[Access]:
        """See the port."""
        [rows] = await self._run(
            _SQL.find_accesses(
                patient_key=patient_key,
                suffix=str(PatientId("", self._authority)),
                reading=reading,
                since=since.isoformat(),
                until=until.isoformat(),
                rows_max=ACCESSES_MAX,
            )
        )
        return [Access(id_, at, name, str(outcome), *rest) for id_, at, name, outcome, *rest, _, _, _ in rows]

    async def _run(self, *calls: Call) -> list[list[Row]]:
        return await run(self._database, *calls)

    def _link(self, row: Row) -> KnownLink:
        key, survivor_key, into_key, patient, into, reason, by, at = row
        link = Link(PatientId(patient, self._authority), PatientId(into, self._authority), reason, at, by)
        return KnownLink(key, survivor_key, into_key, link)


def _mixing(mixing: Sequence[Mixing]) -> dict[str, Parameter]:
    return {"patient_keys": [m.patient_key for m in mixing], "since": [m.since.isoformat() for m in mixing]}


def _filed(rows: Sequence[Row]) -> list[Filed]:
    return [
        Filed(key, read_rendering(kind, rendering, status, version)) for kind, key, rendering, status, version in rows
    ]


def _registration_calls(versions: Versions) -> list[Call]:
    return [call for r in versions.registrations for call in RegistryDatabase.registration_calls(r)]
