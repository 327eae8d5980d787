"""Updates and removals in PostgreSQL: port :class:`obieg.domain.lifecycle.LifecycleStore`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Association, AvailabilityStatus, DocumentEntry, Folder, Submission, SubmissionSet
from obieg.domain.history import RecordedChange, RegistryObject
from obieg.domain.identifiers import PatientId, is_uuid_urn
from obieg.domain.lifecycle import RemovableDocument
from obieg.domain.registry import KnownPatient
from obieg.domain.removing import Removing, Standing
from obieg.domain.retention import remaining
from obieg.domain.updating import Changed, StoredHash, Update, UpdateFacts
from obieg.mapping.ebrim import read_rendering
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, Row, run
from obieg.storage.registry_store import RegistryDatabase, reference_calls
from obieg.storage.statements import Call, load

# Reading so many renderings takes longer than the event loop may wait.
ROWS_AT_ONCE = 50

_SQL = load("lifecycle.sql")
_REGISTRY = load("registry.sql")
_LINKS = load("links.sql")
_URN = "urn:uuid:"
_encode = msgspec.json.Encoder().encode
_KINDS: dict[type[RegistryObject], str] = {DocumentEntry: "D", SubmissionSet: "S", Folder: "F", Association: "A"}


class PostgresLifecycle:
    """Implements the port over one database."""

    def __init__(self, database: Database, audit: AuditStore, *, assigning_authority: str) -> None:
        self._database = database
        self._audit = audit
        self._authority = assigning_authority

    async def update_facts(self, submission: Submission, patient: PatientId | None, fingerprint: bytes) -> UpdateFacts:
        """See the port."""
        set_unique_id = submission.submission_set.unique_id or ""
        named = {*submission.ids, *(end for a in submission.associations for end in (a.source, a.target))}
        versioned: list[DocumentEntry | Folder] = [*submission.entries, *submission.folders]
        logical = {o.logical_id.lower() for o in versioned if o.logical_id}
        asked = patient or PatientId("", "")
        patients, rows, hashes, taken = await run(
            self._database,
            _REGISTRY.registration_patient(authority=asked.authority, value=asked.value),
            _objects_call(named, logical),
            _SQL.stored_hashes(unique_ids=[e.unique_id for e in submission.entries if e.unique_id]),
            _REGISTRY.registration_unique_ids(unique_ids=[set_unique_id]),
        )
        return UpdateFacts(
            patient=KnownPatient(patients[0][0], tuple(patients[0][1])) if patients else None,
            objects=await self._standing(rows),
            stored={unique_id: StoredHash(*rest) for unique_id, *rest in hashes},
            set_taken=bool(taken),
            repeated=any(kind == "S" and known == fingerprint for _, kind, _, _, known in taken),
        )

    async def update(self, update: Update, audit: AuditEvent) -> None:
        """See the port."""
        await run(self._database, *await asyncio.to_thread(_update_calls, update, audit), self._audit.call(audit))

    async def standing(self, uuids: Sequence[str]) -> Mapping[str, Standing]:
        """See the port."""
        [rows] = await run(self._database, _objects_call(uuids, ()))
        return await self._standing(rows)

    async def remove(self, removing: Removing, audit: AuditEvent) -> None:
        """See the port."""
        uuids = [uuid[9:] for _, _, uuid in removing.objects]
        keys = sorted({key for key, _, _ in removing.objects})
        logical = [uuid[9:] for uuid in removing.logical_ids]
        unique_ids = sorted({u for c in removing.changes if (u := getattr(c.subject, "unique_id", None))})
        await run(
            self._database,
            _REGISTRY.lock_unique_ids(unique_ids=unique_ids),
            _REGISTRY.lock_relations(patient_keys=keys),
            _SQL.lock_locators(uuids=[u[9:] for u in removing.counted]),
            _SQL.expect_association_count(uuids=[u[9:] for u in removing.counted], count=removing.expected),
            _SQL.delete_object_locators(uuids=uuids),
            _SQL.delete_unique_ids(unique_ids=unique_ids, uuids=uuids),
            *_last_entry_calls(removing.changes),
            _SQL.delete_objects(patient_keys=keys, uuids=uuids),
            _SQL.renew_newest_entries(logical_ids=logical),
            _SQL.renew_newest_folders(logical_ids=logical),
            _SQL.close_document_tasks(details=uuids),
            *change_calls(removing.changes, audit),
            self._audit.call(audit),
        )

    async def removable(self, unique_ids: Sequence[str], repository_unique_id: str) -> Sequence[RemovableDocument]:
        """See the port."""
        call = _SQL.removable_documents(unique_ids=unique_ids, repository_unique_id=repository_unique_id)
        [rows] = await run(self._database, call)
        return [RemovableDocument._make(row) for row in rows]

    async def authors(self, unique_ids: Sequence[str]) -> Sequence[tuple[str, Sequence[str]]]:
        """See the port."""
        [rows] = await run(self._database, _SQL.authors_of_documents(unique_ids=unique_ids))
        return [(unique_id, found) for unique_id, found in rows]

    async def remove_documents(self, unique_ids: Sequence[str], repository_unique_id: str, audit: AuditEvent) -> None:
        """See the port."""
        removal = _SQL.remove_documents(
            unique_ids=unique_ids,
            repository_unique_id=repository_unique_id,
            removed_by=who(audit),
            request_id=audit.request_id,
        )
        await run(self._database, *([removal] if unique_ids else []), self._audit.call(audit))

    async def _standing(self, rows: Sequence[Row]) -> dict[str, Standing]:
        if len(rows) > ROWS_AT_ONCE:
            return await asyncio.to_thread(self._read, rows)
        return self._read(rows)

    def _read(self, rows: Sequence[Row]) -> dict[str, Standing]:
        found = {}
        for kind, key, patient, rendering, status, version, updated, superseded in rows:
            value = read_object(kind, rendering, status, version, str(PatientId(patient, self._authority)), updated)
            found[value.entry_uuid] = Standing(kind, key, status == "A", superseded, version, value)
        newest: dict[str, int] = {}
        for standing in found.values():
            lid = getattr(standing.value, "logical_id", None) or ""
            newest[lid] = max(newest.get(lid, 0), standing.version)
        for uuid, standing in found.items():
            lid = getattr(standing.value, "logical_id", None)
            if lid and standing.version < newest[lid]:
                found[uuid] = standing._replace(superseded=True)
        return found


def read_object(kind: str, rendering: bytes, status: str, version: int, cx: str, updated: str) -> RegistryObject:
    """A registered object with the values that its rendering leaves open."""
    value = read_rendering(kind, rendering, status, version)
    if isinstance(value, Association):
        return value
    if isinstance(value, Folder):
        return msgspec.structs.replace(value, patient_id=cx, last_update_time=updated)
    return msgspec.structs.replace(value, patient_id=cx)


def _last_entry_calls(changes: Sequence[RecordedChange]) -> list[Call]:
    """What stays of documents that are removed: when the last entry was, by entity."""
    rows = [
        (change.patient_key, change.subject.entry_uuid[9:], entity, year)
        for change in changes
        if isinstance(change.subject, DocumentEntry)
        for entity, year in remaining(change.subject)
    ]
    if not rows:
        return []
    keys, uuids, entities, years = map(list, zip(*rows, strict=True))
    return [_SQL.keep_last_entries(patient_keys=keys, uuids=uuids, entities=entities, years=years)]


def change_calls(changes: Sequence[RecordedChange], audit: AuditEvent) -> list[Call]:
    """What the history keeps, in the commit of the changes."""
    calls = []
    for change in changes:
        subject = change.subject
        logical_id = getattr(subject, "logical_id", None)
        calls.append(
            _SQL.insert_registry_change(
                patient_key=change.patient_key,
                kind=_KINDS[type(subject)],
                act=change.act.value,
                entry_uuid=subject.entry_uuid[9:],
                logical_id=logical_id[9:] if logical_id else None,
                unique_id=getattr(subject, "unique_id", None),
                before=None if change.before is None else _encode(change.before),
                after=None if change.after is None else _encode(change.after),
                changed_by=who(audit),
                transaction=audit.transaction,
                request_id=audit.request_id,
            )
        )
    return calls


def who(audit: AuditEvent) -> str:
    """On whose behalf it is done, and from where."""
    asked = audit.requester or audit.source_address
    return f"{asked} ({audit.source_user})" if audit.source_user and audit.source_user != asked else asked


def _objects_call(uuids: Sequence[str] | set[str], logical_ids: Sequence[str] | set[str]) -> Call:
    return _SQL.lifecycle_objects(
        uuids=sorted({u[9:] for u in uuids if is_uuid_urn(u)}),
        logical_ids=sorted({u[9:] for u in logical_ids if is_uuid_urn(u)}),
    )


def _letter(status: AvailabilityStatus) -> str:
    return status.value[0]


def _status_call(changed: Sequence[Changed]) -> Call:
    return _SQL.change_status(
        patient_keys=[c.patient_key for c in changed],
        uuids=[c.entry_uuid[9:] for c in changed],
        was=[_letter(c.was) for c in changed],
        becomes=[_letter(c.becomes) for c in changed],
    )


def _update_calls(update: Update, audit: AuditEvent) -> list[Call]:
    registration = update.registration
    entries = registration.submission.entries
    keys = update.patient_keys
    own_key = registration.patient.patient_key
    old = [c for c in update.changed if c.versioned]
    states = [c for c in update.changed if not c.versioned]
    unique_ids = sorted({o.unique_id for o in registration.submission.objects if o.unique_id})
    calls = [_REGISTRY.lock_unique_ids(unique_ids=unique_ids), _REGISTRY.lock_relations(patient_keys=keys)]
    if old:
        calls.append(
            _SQL.supersede(
                patient_keys=[c.patient_key for c in old],
                uuids=[c.entry_uuid[9:] for c in old],
                was=[_letter(c.was) for c in old],
                superseded=[c.superseded for c in old],
            )
        )
        calls.append(_SQL.expect_association_count(uuids=[u[9:] for u in update.counted], count=update.expected))
    if states:
        calls.append(_status_call(states))
    if update.added:
        calls += [
            _SQL.expect_no_association(
                types=[kind for kind, _, _ in update.added],
                sources=[source[9:] for _, source, _ in update.added],
                targets=[target[9:] for _, _, target in update.added],
                patient_keys=keys,
            ),
            _SQL.expect_ends(patient_keys=keys, uuids=[u[9:] for u in update.ends]),
            _SQL.revise_entries(uuids=sorted({source[9:] for _, source, _ in update.added})),
        ]
    if update.replaced:
        calls.append(_REGISTRY.deprecate_entries(uuids=[u[9:] for u in update.replaced], patient_keys=keys))
    if entries:
        calls.append(
            _SQL.rehash_unique_ids(
                unique_ids=[e.unique_id for e in entries], hashes=[(e.hash or "").lower() for e in entries]
            )
        )
    calls += [*reference_calls(registration), *RegistryDatabase.registration_calls(registration)]
    if update.deprecated:
        approved, deprecated = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED
        calls.append(_status_call([Changed(own_key, "", u, approved, deprecated) for u in update.deprecated]))
    if update.renamed:
        calls.append(
            _LINKS.follow_versions(
                uuids=[before[9:] for before, _ in update.renamed], new_uuids=[now[9:] for _, now in update.renamed]
            )
        )
    return calls + change_calls(update.changes, audit)
