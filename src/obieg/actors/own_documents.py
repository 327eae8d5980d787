"""Takes documents that patients add by themselves, the way of ITI-41, and lets them be withdrawn, the way of ITI-57.

What is said of such a document is said here: the class that marks it, its author, whose it is. Nothing of another class
or another patient can be reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from obieg.actors.access_control import AccessControl, nobody
from obieg.actors.document_lifecycle import DocumentLifecycle
from obieg.actors.document_repository import DocumentRepository, Provided
from obieg.actors.patient_index import PatientIndex
from obieg.domain.access import Act
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.audit import AuditObject
from obieg.domain.content import MemoryContent
from obieg.domain.own_documents import CLASS, NUMBER_MAX, Added, OwnDocumentStore, Withdrawn
from obieg.domain.problems import Problem
from obieg.mapping.own_document import submission_of, today, withdrawal_of
from obieg.protocol import Context


class OwnDocuments:
    """Of a region that has a repository."""

    def __init__(
        self,
        store: OwnDocumentStore,
        repository: DocumentRepository,
        lifecycle: DocumentLifecycle,
        index: PatientIndex,
        *,
        codes: AffinityDomain,
        access: AccessControl,
        new_uuid: Callable[[], str],
    ) -> None:
        self._store = store
        self._repository = repository
        self._lifecycle = lifecycle
        self._index = index
        self._access = access
        self._new_uuid = new_uuid
        scheme = next((c.scheme for c in codes.codes("class_code") if c.code == CLASS), "")
        self._class = f"{CLASS}^^{scheme}"

    async def add(self, added: Added, context: Context) -> str:
        """Stores and registers it; its entryUUID. Raises Problem."""
        await self._access.expect(added.patient, context, Act.LOG)
        if added.day > today(context.received_at) + timedelta(days=1):
            raise Problem.of("RuleBroken", "the document cannot be of a day to come", "http.date")
        if await self._store.number(added.patient, self._class) >= NUMBER_MAX:
            raise Problem.of("RuleBroken", f"{NUMBER_MAX} documents were added: no more are taken", "http")
        person = await self._index.described(added.patient)
        if person is None:
            raise nobody()
        submission = await asyncio.to_thread(
            submission_of,
            added,
            context.requester,
            person.demographics,
            own=context.requester.person in {i.identifier for i in person.identifiers},
            source_id=self._repository.repository_unique_id,
            now=context.received_at,
            new_uuid=self._uuid,
        )
        [entry] = submission.entries
        content = MemoryContent(added.content, entry.mime_type)
        context.objects = (*context.objects, AuditObject("document", entry.unique_id or ""))
        await self._repository.provide(Provided(submission, {entry.entry_uuid: content}), context)
        return entry.entry_uuid

    async def withdraw(self, withdrawn: Withdrawn, context: Context) -> None:
        """Deprecates it: nobody finds it any more among what is current. Raises Problem."""
        await self._access.expect(withdrawn.patient, context, Act.LOG)
        if not await self._store.is_own(withdrawn.patient, withdrawn.entry_uuid, self._class):
            raise Problem.of("AddressNotFound", "the patient has added no such document", "http.document")
        context.objects = (*context.objects, AuditObject("registry_object", withdrawn.entry_uuid))
        update = withdrawal_of(
            withdrawn,
            context.requester,
            source_id=self._repository.repository_unique_id,
            now=context.received_at,
            new_uuid=self._uuid,
        )
        await self._lifecycle.update(update, context, restricted=False, theirs=True)

    def _uuid(self) -> UUID:
        return UUID(self._new_uuid())
