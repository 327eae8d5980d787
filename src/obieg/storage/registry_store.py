"""The registry and repository in PostgreSQL: batches of named statements (``sql/registry.sql``, ``repository.sql``)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
from msgspec.structs import replace

from obieg.domain import document_facts
from obieg.domain.audit import AuditEvent
from obieg.domain.documents import AssociationType, Code, DocumentEntry, EntryType, Folder
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.obligations import written
from obieg.domain.on_demand import FoundOnDemand, LatestSnapshot
from obieg.domain.registry import (
    Facts,
    FoundDocument,
    FoundObject,
    FoundResource,
    KnownObject,
    KnownPatient,
    KnownUniqueId,
    LocatedDocument,
    LostRace,
    NewRendering,
    Pending,
    Registration,
    Repeated,
    SearchRow,
    SearchRows,
    StandingFolder,
    StoredDocument,
    TooMany,
)
from obieg.domain.sight import Sight
from obieg.mapping.ebrim import (
    RENDERING_VERSION,
    IdSource,
    read_rendering,
    render_association,
    render_entry,
    render_folder,
    render_submission_set,
)
from obieg.storage.audit_store import AuditStore, spending
from obieg.storage.link import Database, Row, run
from obieg.storage.statements import Call, Statement, load

_SQL = load("registry.sql")
_REPOSITORY = load("repository.sql")
_SEARCH = load("documents_search.sql")
_URN = "urn:uuid:"


class RegistryDatabase:
    """Implements :class:`obieg.domain.registry.RegistryStore` and ``RepositoryStore``."""

    def __init__(self, database: Database, audit: AuditStore) -> None:
        self._database = database
        self._audit = audit

    async def _run(self, *calls: Call) -> list[list[Row]]:
        return await run(self._database, *calls)

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
                _URN + uuid: KnownObject(kind, key, status == "A", entry_type not in ("O", "M"))
                for uuid, kind, key, status, entry_type in objects
            },
            unique_ids=by_unique_id,
            folders_of=folders_of,
        )

    async def folder(self, entry_uuid: str) -> StandingFolder | None:
        """See the port."""
        (rows,) = await self._run(_SQL.folder_with_members(uuid=entry_uuid[9:]))
        if not rows:
            return None
        rendering, status, version, members = rows[0]
        folder = read_rendering("F", rendering, status, version)
        assert isinstance(folder, Folder)  # noqa: S101 - of kind F nothing else is read
        return StandingFolder(folder, tuple(_URN + m for m in members))

    async def register(self, registration: Registration, audit: AuditEvent) -> None:
        """See the port."""
        if registration.large:
            calls = await asyncio.to_thread(self.registration_calls, registration)
        else:
            calls = self.registration_calls(registration)
        await self._run(*reference_calls(registration), *calls, self._audit.call(audit))

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
        calls = [insert_stored(d) for d in registration.documents]
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
        if registration.absent:
            calls.insert(len(registration.documents) + 1, _SQL.expect_absent(unique_ids=list(registration.absent)))
        keys = registration.patient.keys
        if registration.patient.merged_keys:
            calls += [_SQL.lock_person(patient_key=key), _SQL.expect_person(patient_key=key, patient_keys=keys)]
        if registration.replaced or registration.expected_approved or registration.snapshot:
            calls.append(_SQL.lock_relations(patient_keys=keys))
        if registration.snapshot is not None:
            calls.append(
                _SQL.expect_latest_snapshot(
                    on_demand=registration.snapshot.on_demand[9:],
                    latest=registration.snapshot.latest[9:] or None,
                    repository_unique_id=registration.documents[0].repository_unique_id,
                    patient_keys=keys,
                )
            )
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
                rendering_version=RENDERING_VERSION,
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
                rendering_version=RENDERING_VERSION,
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
                member_since=registration.last_update_time
                if a.type is AssociationType.HAS_MEMBER and a.source != sset.entry_uuid
                else None,
                ebrim=render_association(a, new_id),
                rendering_version=RENDERING_VERSION,
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
        self,
        question: str,
        parameters: Mapping[str, Any],
        audit: AuditEvent | None,
        results_max: int,
        sight: Sight,
        *,
        old_versions: bool = False,
    ) -> list[FoundObject]:
        """See the port."""
        statement = getattr(_SQL, question)
        asked = _complete(statement, parameters, old_versions=old_versions)
        if "refused_above" in statement.parameters:
            asked["refused_above"] = None if audit is None else results_max
        calls = [statement.seen(sight, **asked, results_max=results_max)]
        if audit is not None:
            calls.append(self._audit.call(audit))
        with _too_many():
            rows = (await self._run(*calls))[0]
        return _found(question, rows, parameters.get("value", ""))

    async def find_of_each(
        self,
        question: str,
        parameters: Mapping[str, Any],
        patients: Sequence[PatientId],
        results_max: int,
        sight: Sight,
    ) -> list[FoundObject]:
        """See the port."""
        statement = getattr(_SQL, question)
        asked = {**_complete(statement, parameters), "refused_above": None}
        calls = [
            statement.seen(sight, **{**asked, "authority": p.authority, "value": p.value}, results_max=results_max)
            for p in patients
        ]
        results = await self._run(*calls)
        found: dict[str, FoundObject] = {}
        for patient, rows in zip(patients, results, strict=False):
            for each in _found(question, rows, patient.value):
                found.setdefault(each.entry_uuid, each)
        return list(found.values())

    async def candidates(self, statement: str, parameters: Mapping[str, Any], patients_max: int) -> list[str]:
        """See the port."""
        asked = getattr(_SQL, statement)
        given = {name: parameters[name] for name in asked.parameters if name != "patients_max"}
        (rows,) = await self._run(asked(**given, patients_max=patients_max))
        return [row[0] for row in rows]

    async def record_each(self, audits: Sequence[AuditEvent]) -> None:
        """See the port."""
        await self._run(*map(self._audit.call, audits))

    async def find_ids(
        self,
        parameters: Mapping[str, Any],
        audit: AuditEvent,
        results_max: int,
        sight: Sight,
        *,
        old_versions: bool = False,
    ) -> list[str]:
        """See the port."""
        statement = _SQL.find_document_ids
        given = {name: parameters[name] for name in statement.parameters if name in parameters}
        asked = {**given, "old_versions": old_versions}
        call = statement.seen(sight, **asked, results_max=results_max, refused_above=results_max)
        with _too_many():
            rows, _ = await self._run(call, self._audit.call(audit))
        return [row[0] for row in rows]

    async def search(
        self,
        questions: Sequence[tuple[str, Mapping[str, Any]]],
        rendering_version: int,
        audit: AuditEvent | None,
        sight: Sight,
    ) -> list[SearchRows]:
        """See the port."""
        calls = [
            getattr(_SEARCH, question).seen(sight, **parameters, rendering_version=rendering_version)
            for question, parameters in questions
        ]
        if audit is not None:
            calls.append(self._audit.call(audit))
        results = await self._run(*calls)
        return [
            SearchRows(rows[0][0], [_search_row(row) for row in rows if row[1] is not None and row[2] is not None])
            for rows in results[: len(questions)]
        ]

    async def referring(
        self, uuids: Sequence[str], sight: Sight, *, lists: bool, documents: bool
    ) -> list[tuple[str, str]]:
        """See the port."""
        (rows,) = await self._run(_SEARCH.referring_objects.seen(sight, uuids=uuids, lists=lists, documents=documents))
        return [(kind, uuid) for kind, uuid in rows]

    async def save_renderings(self, renderings: Sequence[NewRendering]) -> None:
        """See the port."""
        await self._run(*(_SEARCH.insert_rendering(**r._asdict()) for r in renderings))

    async def located(self, entry_uuid: str, sight: Sight) -> LocatedDocument | None:
        """See the port."""
        (rows,) = await self._run(_SEARCH.locate_document.seen(sight, entry_uuid=entry_uuid))
        return LocatedDocument(*rows[0]) if rows else None

    async def located_named(self, unique_id: str, sight: Sight) -> LocatedDocument | None:
        """See the port."""
        (rows,) = await self._run(_SEARCH.locate_named_document.seen(sight, unique_id=unique_id))
        return LocatedDocument(*rows[0]) if rows else None

    # repository -------------------------------------------------------------------------------------------------

    async def documents(
        self,
        unique_ids: Sequence[str],
        repository_unique_id: str,
        audit: AuditEvent | None,
        sight: Sight,
    ) -> list[FoundDocument]:
        """See the port."""
        asked = {"unique_ids": unique_ids, "repository_unique_id": repository_unique_id}
        calls = [_REPOSITORY.stored_documents.seen(sight, **asked)]
        if audit is not None:
            calls.append(
                _REPOSITORY.insert_export_audit.seen(
                    sight,
                    **asked,
                    expected=len(unique_ids),
                    **self._audit.columns(audit),
                    **spending(audit.spent),
                    told=written(audit.told) if audit.told else None,
                )
            )
        results = await self._run(*calls)
        return [
            FoundDocument(unique_id, state == "P", patient_id, mime_type, size, sha1, location, wrapped_key)
            for unique_id, state, patient_id, mime_type, size, sha1, location, wrapped_key in results[0]
        ]

    async def was_removed(self, unique_id: str, repository_unique_id: str) -> bool:
        """See the port."""
        call = _REPOSITORY.was_removed(unique_id=unique_id, repository_unique_id=repository_unique_id)
        [[(removed,)]] = await self._run(call)
        return bool(removed)

    async def on_demand(
        self, unique_ids: Sequence[str], repository_unique_id: str, sight: Sight
    ) -> list[FoundOnDemand]:
        """See the port."""
        (rows,) = await self._run(
            _SQL.on_demand_entries.seen(sight, unique_ids=unique_ids, repository_unique_id=repository_unique_id)
        )
        found: dict[str, FoundOnDemand] = {}
        for unique_id, key, patient, ebrim, status, version, sset, snapshot, snapshot_unique_id, content_key in rows:
            entry = read_rendering("D", ebrim, status, version)
            registered_by = read_rendering("S", sset, "A", 1) if sset is not None else None
            assert isinstance(entry, DocumentEntry)  # noqa: S101 - kind D is one
            found.setdefault(
                unique_id,
                FoundOnDemand(
                    entry=replace(entry, patient_id=patient),
                    patient_key=key,
                    content_type_code=getattr(registered_by, "content_type_code", None),
                    latest=LatestSnapshot(_URN + snapshot, snapshot_unique_id, content_key) if snapshot else None,
                ),
            )
        return list(found.values())

    async def record(self, audit: AuditEvent) -> None:
        """See the port."""
        await self._run(self._audit.call(audit))

    async def hold(
        self, documents: Sequence[StoredDocument], pending: Pending, lease_s: float, audit: AuditEvent
    ) -> None:
        """See the port."""
        await self._run(
            *self._audit.spend(audit),
            _REPOSITORY.insert_provided_submission(
                fingerprint=pending.fingerprint, submission_id=pending.submission_id
            ),
            # In one order, so that two submissions with the same documents cannot wait for each other.
            *(insert_stored(d) for d in sorted(documents, key=attrgetter("unique_id"))),
            _REPOSITORY.insert_pending_submission(
                submission_id=pending.submission_id,
                fingerprint=pending.fingerprint,
                unique_ids=pending.unique_ids,
                message=pending.message,
                subject=msgspec.json.encode(pending.subject).decode(),
                delay_s=str(lease_s),
            ),
        )

    async def repeat(self, fingerprint: bytes, lease_s: float) -> Repeated | None:
        """See the port."""
        (rows,) = await self._run(_REPOSITORY.repeat_submission(fingerprint=fingerprint, lease_s=str(lease_s)))
        if not rows:
            return None
        return Repeated(_pending(rows[0]) if rows[0][0] is not None else None)

    async def release(self, pending: Pending, repository_unique_id: str, audits: Sequence[AuditEvent]) -> None:
        """See the port."""
        await self._run(
            _REPOSITORY.delete_pending_submission(submission_id=pending.submission_id),
            _REPOSITORY.lock_documents(unique_ids=pending.unique_ids, repository_unique_id=repository_unique_id),
            _REPOSITORY.release_documents(unique_ids=pending.unique_ids, repository_unique_id=repository_unique_id),
            *map(self._audit.call, audits),
        )

    async def discard(self, pending: Pending, repository_unique_id: str, audits: Sequence[AuditEvent]) -> None:
        """See the port."""
        await self._run(
            _REPOSITORY.delete_provided_submission(fingerprint=pending.fingerprint),
            _REPOSITORY.give_up_pending_submission(submission_id=pending.submission_id, attempts=pending.attempts),
            _REPOSITORY.lock_documents(unique_ids=pending.unique_ids, repository_unique_id=repository_unique_id),
            _REPOSITORY.drop_pending_documents(
                unique_ids=pending.unique_ids, repository_unique_id=repository_unique_id
            ),
            *map(self._audit.call, audits),
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


def _search_row(row: Row) -> SearchRow:
    (
        _, kind, uuid, rendering, status, revision, updated_at, patient_id, relations, last_update_time, position,
        patient_key, registered_at, version, ebrim,
    ) = row  # fmt: skip
    found = FoundResource(
        kind, uuid, rendering or b"", status, revision, _instant(updated_at), patient_id or "", tuple(relations),
        last_update_time,
    )  # fmt: skip
    return SearchRow(found, position, patient_key, _instant(registered_at), version, ebrim)


def _instant(digits: str) -> str:
    """``YYYYMMDDhhmmss`` and microseconds as an instant with milliseconds."""
    d = digits
    return f"{d[:4]}-{d[4:6]}-{d[6:8]}T{d[8:10]}:{d[10:12]}:{d[12:14]}.{d[14:17]}Z"


@contextmanager
def _too_many() -> Iterator[None]:
    """What questions by patient raise where there are more results than may be."""
    try:
        yield
    except LostRace as error:
        if str(error) != "more results than may be":
            raise
        raise TooMany from error


def _complete(statement: Statement, parameters: Mapping[str, Any], *, old_versions: bool = False) -> dict[str, Any]:
    """The parameters, with what a query sees unless it says otherwise: newest versions."""
    usual = {"old_versions": old_versions} if "old_versions" in statement.parameters else {}
    return {**usual, **parameters}


def _found(question: str, rows: Sequence[Row], patient: str) -> list[FoundObject]:
    """Rows as objects; those of questions that name a patient are of ``patient``."""
    if question == "find_documents":
        return [FoundObject("D", uuid, ebrim, status, version, patient) for uuid, ebrim, status, version in rows]
    if question == "find_submission_sets":
        return [FoundObject("S", uuid, ebrim, status, 1, patient) for uuid, ebrim, status in rows]
    if question == "find_folders":
        return [FoundObject("F", u, ebrim, status, v, patient, time) for u, ebrim, status, v, time in rows]
    return [FoundObject._make(row) for row in rows]


def reference_calls(registration: Registration) -> list[Call]:
    """What keeps the objects that a registration refers to from being removed meanwhile."""
    submission = registration.submission
    referred = {end for a in submission.associations for end in (a.source, a.target)}.difference(submission.ids)
    return [_SQL.expect_references(uuids=sorted(u[9:] for u in referred))] if referred else []


def _pending(row: Row) -> Pending:
    submission_id, fingerprint, unique_ids, message, subject, attempts = row
    return Pending(
        submission_id,
        fingerprint,
        tuple(unique_ids),
        message,
        msgspec.json.decode(subject, type=dict[str, str]),
        attempts,
    )


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


def insert_stored(document: StoredDocument) -> Call:
    """The insertion of a stored document, for the batch of what makes it known."""
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
        content_key=document.content_key,
    )


# Entries with limited metadata have letters of their own: whoever asks for S and O, as ITI-18 does, does not see them.
_ENTRY_TYPES = {
    (EntryType.STABLE, False): "S",
    (EntryType.ON_DEMAND, False): "O",
    (EntryType.STABLE, True): "L",
    (EntryType.ON_DEMAND, True): "M",
}


def _insert_entry(key: int, entry: DocumentEntry, new_id: IdSource) -> Call:
    return _SQL.insert_document_entry(
        patient_key=key,
        entry_uuid=entry.entry_uuid[9:],
        unique_id=entry.unique_id,
        logical_id=(entry.logical_id or entry.entry_uuid)[9:],
        version=entry.version,
        entry_type=_ENTRY_TYPES[entry.entry_type, entry.limited_metadata],
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
        labels=document_facts.labels(entry.confidentiality_code),
        authors=document_facts.authors(entry.author),
        encounters=document_facts.encounters(entry.reference_id_list),
        ebrim=render_entry(entry, new_id),
        rendering_version=RENDERING_VERSION,
    )
