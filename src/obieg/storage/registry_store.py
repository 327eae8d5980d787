"""The registry and repository in PostgreSQL: batches of named statements (``sql/registry.sql``, ``repository.sql``)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Code, DocumentEntry, EntryType
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.problems import RetryLater
from obieg.domain.registry import (
    Facts,
    FoundDocument,
    FoundObject,
    KnownObject,
    KnownPatient,
    KnownUniqueId,
    LostRace,
    Pending,
    Registration,
    Repeated,
    StoredDocument,
)
from obieg.mapping.ebrim import (
    IdSource,
    render_association,
    render_entry,
    render_folder,
    render_submission_set,
)
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database, DatabaseError, Row
from obieg.storage.statements import Call, load

_SQL = load("registry.sql")
_REPOSITORY = load("repository.sql")
_URN = "urn:uuid:"
# SQLSTATE classes that may pass: connection, resources, object in use, intervention, system. Others are our own fault.
_PASSING = ("53", "57", "58", "08", "55")


class RegistryDatabase:
    """Implements :class:`obieg.domain.registry.RegistryStore` and ``RepositoryStore``."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def _run(self, *calls: Call) -> list[list[Row]]:
        try:
            return await self._database.run(*calls)
        except DatabaseError as error:
            if error.lost_race:
                raise LostRace(error.message) from error
            if error.sqlstate[:2] in _PASSING:
                raise RetryLater(f"the database cannot do this now: {error.message}") from error
            raise

    # registry ---------------------------------------------------------------------------------------------------

    async def facts(
        self,
        patient: PatientId | None,
        *,
        references: Sequence[str] = (),
        replaced: Sequence[str] = (),
        unique_ids: Sequence[str] = (),
    ) -> Facts:
        """See the port."""
        calls: list[Call] = []
        if patient is not None:
            calls.append(_SQL.registration_patient(authority=patient.authority, value=patient.value))
        if references:
            calls.append(_SQL.registration_objects(uuids=_bare(references)))
        if replaced:
            calls.append(_SQL.registration_folders(uuids=_bare(replaced)))
        if unique_ids:
            calls.append(_SQL.registration_unique_ids(unique_ids=unique_ids))
        results = iter(await self._run(*calls)) if calls else iter(())
        known = next(results) if patient is not None else []
        objects = next(results) if references else []
        folders = next(results) if replaced else []
        taken = next(results) if unique_ids else []
        folders_of: dict[str, list[str]] = {}
        for document, folder in folders:
            folders_of.setdefault(_URN + document, []).append(_URN + folder)
        by_unique_id: dict[str, list[KnownUniqueId]] = {}
        for unique_id, kind, uuid, hash_, fingerprint in taken:
            by_unique_id.setdefault(unique_id, []).append(KnownUniqueId(kind, _URN + uuid, hash_, fingerprint))
        return Facts(
            patient=KnownPatient(known[0][0], tuple(known[0][1])) if known else None,
            objects={
                _URN + uuid: KnownObject(kind, key, status == "A", entry_type != "O")
                for uuid, kind, key, status, entry_type in objects
            },
            unique_ids=by_unique_id,
            folders_of=folders_of,
        )

    async def register(self, registration: Registration, audit: AuditEvent) -> None:
        """See the port."""
        if registration.large:
            calls = await asyncio.to_thread(self.registration_calls, registration)
        else:
            calls = self.registration_calls(registration)
        await self._run(*calls, self._audit.call(audit))

    @staticmethod
    def registration_calls(registration: Registration) -> list[Call]:
        """The statements of one registration, in their order; the benchmarks export these."""
        submission, key = registration.submission, registration.patient.patient_key
        sset = submission.submission_set
        new_id = IdSource(sset.entry_uuid[-36:])
        uniques: list[tuple[str | None, str, str, int, str | None]] = [
            (e.unique_id, e.entry_uuid, "D", e.version, (e.hash or "").lower()) for e in submission.entries
        ]
        uniques += [(f.unique_id, f.entry_uuid, "F", f.version, None) for f in submission.folders]
        uniques.append((sset.unique_id, sset.entry_uuid, "S", 1, None))
        located = [(u[1][9:], u[2]) for u in uniques] + [(a.entry_uuid[9:], "A") for a in submission.associations]
        unique_ids = [u[0] for u in uniques]
        calls = [_insert_stored(d) for d in registration.documents]
        calls += [
            _SQL.lock_unique_ids(unique_ids=unique_ids),
            _SQL.insert_unique_ids(
                unique_ids=unique_ids,
                uuids=[u[1][9:] for u in uniques],
                kinds=[u[2] for u in uniques],
                versions=[u[3] for u in uniques],
                hashes=[u[4] for u in uniques],
                patient_key=key,
            ),
            _SQL.insert_object_locators(uuids=[u for u, _ in located], kinds=[k for _, k in located], patient_key=key),
        ]
        keys = registration.patient.keys
        if registration.patient.merged_keys:
            calls += [_SQL.lock_person(patient_key=key), _SQL.expect_person(patient_key=key, patient_keys=keys)]
        if registration.replaced or registration.expected_approved:
            calls.append(_SQL.lock_relations(patient_keys=keys))
        if registration.replaced:
            calls.append(_SQL.deprecate_entries(uuids=_bare(registration.replaced), patient_keys=keys))
        if registration.expected_approved:
            calls.append(_SQL.expect_approved(uuids=_bare(registration.expected_approved), patient_keys=keys))
        calls += [_insert_entry(key, entry, new_id) for entry in submission.entries]
        calls.append(
            _SQL.insert_submission_set(
                patient_key=key,
                entry_uuid=sset.entry_uuid[9:],
                unique_id=sset.unique_id,
                source_id=sset.source_id,
                submission_time=filled(sset.submission_time),
                content_type_code=_code(sset.content_type_code),
                author_person=[p for a in sset.author for p in a.person],
                ebrim=render_submission_set(sset, new_id),
                fingerprint=registration.fingerprint,
            )
        )
        calls += [
            _SQL.insert_folder(
                patient_key=key,
                entry_uuid=f.entry_uuid[9:],
                unique_id=f.unique_id,
                logical_id=(f.logical_id or f.entry_uuid)[9:],
                version=f.version,
                code_list=[code_value(c) for c in f.code_list],
                last_update_time=registration.last_update_time,
                ebrim=render_folder(f, new_id),
            )
            for f in submission.folders
        ]
        calls += [
            _SQL.insert_association(
                patient_key=key,
                entry_uuid=a.entry_uuid[9:],
                type=a.type.value,
                source=a.source[9:],
                target=a.target[9:],
                ebrim=render_association(a, new_id),
            )
            for a in submission.associations
        ]
        if registration.touched_folders:
            calls.append(
                _SQL.touch_folders(
                    last_update_time=registration.last_update_time,
                    patient_keys=keys,
                    uuids=_bare(registration.touched_folders),
                )
            )
        return calls

    async def find(
        self, question: str, parameters: Mapping[str, Any], audit: AuditEvent, results_max: int
    ) -> list[FoundObject]:
        """See the port."""
        statement = getattr(_SQL, question)
        rows, _ = await self._run(statement(**parameters, results_max=results_max), self._audit.call(audit))
        patient = parameters.get("value", "")
        if question == "find_documents":
            return [FoundObject("D", uuid, ebrim, status, version, patient) for uuid, ebrim, status, version in rows]
        if question == "find_submission_sets":
            return [FoundObject("S", uuid, ebrim, status, 1, patient) for uuid, ebrim, status in rows]
        if question == "find_folders":
            return [FoundObject("F", u, ebrim, status, v, patient, time) for u, ebrim, status, v, time in rows]
        return [FoundObject._make(row) for row in rows]

    async def find_ids(self, parameters: Mapping[str, Any], audit: AuditEvent, results_max: int) -> list[str]:
        """See the port."""
        statement = _SQL.find_document_ids
        given = {name: parameters[name] for name in statement.parameters if name != "results_max"}
        rows, _ = await self._run(statement(**given, results_max=results_max), self._audit.call(audit))
        return [row[0] for row in rows]

    # repository -------------------------------------------------------------------------------------------------

    async def documents(
        self, unique_ids: Sequence[str], repository_unique_id: str, audit: AuditEvent | None
    ) -> list[FoundDocument]:
        """See the port."""
        calls = [_REPOSITORY.stored_documents(unique_ids=unique_ids, repository_unique_id=repository_unique_id)]
        if audit is not None:
            calls.append(
                _REPOSITORY.insert_export_audit(
                    unique_ids=unique_ids,
                    repository_unique_id=repository_unique_id,
                    expected=len(unique_ids),
                    **self._audit.columns(audit),
                )
            )
        results = await self._run(*calls)
        return [
            FoundDocument(unique_id, state == "P", patient_id, mime_type, size, sha1, location, wrapped_key)
            for unique_id, state, patient_id, mime_type, size, sha1, location, wrapped_key in results[0]
        ]

    async def record(self, audit: AuditEvent) -> None:
        """See the port."""
        await self._run(self._audit.call(audit))

    async def hold(self, documents: Sequence[StoredDocument], pending: Pending, lease_s: float) -> None:
        """See the port."""
        await self._run(
            _REPOSITORY.insert_provided_submission(
                fingerprint=pending.fingerprint, submission_id=pending.submission_id
            ),
            # In one order, so that two submissions with the same documents cannot wait for each other.
            *(_insert_stored(d) for d in sorted(documents, key=attrgetter("unique_id"))),
            _REPOSITORY.insert_pending_submission(
                submission_id=pending.submission_id,
                fingerprint=pending.fingerprint,
                unique_ids=pending.unique_ids,
                message=pending.message,
                delay_s=str(lease_s),
            ),
        )

    async def repeat(self, fingerprint: bytes, lease_s: float) -> Repeated | None:
        """See the port."""
        (rows,) = await self._run(_REPOSITORY.repeat_submission(fingerprint=fingerprint, lease_s=str(lease_s)))
        if not rows:
            return None
        return Repeated(_pending(rows[0]) if rows[0][0] is not None else None)

    async def release(self, pending: Pending, repository_unique_id: str, audit: AuditEvent) -> None:
        """See the port."""
        await self._run(
            _REPOSITORY.delete_pending_submission(submission_id=pending.submission_id),
            _REPOSITORY.lock_documents(unique_ids=pending.unique_ids, repository_unique_id=repository_unique_id),
            _REPOSITORY.release_documents(unique_ids=pending.unique_ids, repository_unique_id=repository_unique_id),
            self._audit.call(audit),
        )

    async def discard(self, pending: Pending, repository_unique_id: str, audit: AuditEvent) -> None:
        """See the port."""
        await self._run(
            _REPOSITORY.delete_provided_submission(fingerprint=pending.fingerprint),
            _REPOSITORY.give_up_pending_submission(submission_id=pending.submission_id, attempts=pending.attempts),
            _REPOSITORY.lock_documents(unique_ids=pending.unique_ids, repository_unique_id=repository_unique_id),
            _REPOSITORY.drop_pending_documents(
                unique_ids=pending.unique_ids, repository_unique_id=repository_unique_id
            ),
            self._audit.call(audit),
        )

    async def postpone(self, pending: Pending, pause_s_max: float, error: str) -> None:
        """See the port."""
        await self._run(
            _REPOSITORY.postpone_pending_submission(
                submission_id=pending.submission_id,
                attempts=pending.attempts,
                pause_s_max=str(pause_s_max),
                error=error,
            )
        )

    async def due(self, lease_s: float) -> Pending | None:
        """See the port."""
        (rows,) = await self._run(_REPOSITORY.due_submission(lease_s=str(lease_s)))
        return _pending(rows[0]) if rows else None


def _pending(row: Row) -> Pending:
    submission_id, fingerprint, unique_ids, message, attempts = row
    return Pending(submission_id, fingerprint, tuple(unique_ids), message, attempts)


def _bare(urns: Sequence[str]) -> list[str]:
    return [u[9:] for u in urns]


def code_value(code: Code) -> str:
    """A code as stored queries name it (ITI TF-2:3.18.4.1.2.3.4): ``code^^scheme``."""
    return f"{code.code}^^{code.scheme}"


def _code(code: Code | None) -> str | None:
    return None if code is None else code_value(code)


_FILL = "00000101000000"


def filled(dtm: str | None) -> str | None:
    """A DTM as the first second of what it names, in 14 digits, so that times of any precision compare as text."""
    return None if dtm is None else dtm + _FILL[len(dtm) :]


def _insert_stored(document: StoredDocument) -> Call:
    return _REPOSITORY.insert_stored_document(
        unique_id=document.unique_id,
        repository_unique_id=document.repository_unique_id,
        state="P" if document.pending else "R",
        patient_id=document.patient_id,
        mime_type=document.mime_type,
        size=document.size,
        sha1=document.sha1,
        sha256=document.sha256,
        location=document.location,
        wrapped_key=document.wrapped_key,
    )


def _insert_entry(key: int, entry: DocumentEntry, new_id: IdSource) -> Call:
    return _SQL.insert_document_entry(
        patient_key=key,
        entry_uuid=entry.entry_uuid[9:],
        unique_id=entry.unique_id,
        logical_id=(entry.logical_id or entry.entry_uuid)[9:],
        version=entry.version,
        entry_type="O" if entry.entry_type is EntryType.ON_DEMAND else "S",
        class_code=_code(entry.class_code),
        type_code=_code(entry.type_code),
        format_code=_code(entry.format_code),
        healthcare_facility_type_code=_code(entry.healthcare_facility_type_code),
        practice_setting_code=_code(entry.practice_setting_code),
        confidentiality_code=[code_value(c) for c in entry.confidentiality_code],
        event_code_list=[code_value(c) for c in entry.event_code_list],
        author_person=list(chain.from_iterable(a.person for a in entry.author)),
        author_institution=list(chain.from_iterable(a.institution for a in entry.author)),
        reference_id_list=entry.reference_id_list,
        creation_time=filled(entry.creation_time),
        service_start_time=filled(entry.service_start_time),
        service_stop_time=filled(entry.service_stop_time),
        repository_unique_id=entry.repository_unique_id,
        mime_type=entry.mime_type,
        hash=entry.hash,
        size=entry.size,
        title=entry.title[0][1] if entry.title else "",
        source_patient_id=str(patient_id(entry.source_patient_id or "") or ""),
        ebrim=render_entry(entry, new_id),
    )
