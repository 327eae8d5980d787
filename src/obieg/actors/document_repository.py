"""The Document Repository: keeps documents and gives them back (ITI TF-1:10.1.1.4).

Documents are durable before anything speaks of them. On a node that is its own registry, a submission and its
documents become known in one commit. On any other node the documents and the submission, with its final UUIDs, are
first committed as *pending*; then ITI-42 is sent. Success or refusal closes the submission; after a time-out or a crash the background
worker repeats the identical message, which the registry answers with Success when it has it already. A pending document
is not retrievable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

import msgspec
import structlog

from obieg.actors.document_registry import DocumentRegistry, with_final_ids
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.content import MemoryContent
from obieg.domain.document_store import PIECE_SIZE_BYTES, DocumentMissingError, DocumentStore
from obieg.domain.documents import DocumentEntry, Submission
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import FoundDocument, LostRace, Pending, RepositoryStore, StoredDocument
from obieg.domain.rules import Codes, check_submission
from obieg.mapping.ebrim import IdSource
from obieg.mapping.ebrs import write_submit_objects
from obieg.protocol import Content, Context, RegistryClient

# The first repetition of a submission that got no answer, in seconds; storage doubles it from attempt to attempt.
FIRST_RETRY_S = 30.0

log = structlog.get_logger()


class Provided(NamedTuple):
    """An ITI-41 request: metadata and the documents by the id of their entry."""

    submission: Submission
    documents: Mapping[str, Content]
    found_on_reading: tuple[Finding, ...] = ()


class DocumentRequest(NamedTuple):
    """One document asked for."""

    unique_id: str
    repository_unique_id: str
    home_community_id: str = ""


class Retrieved(NamedTuple):
    """The documents found, in the order asked for, and what was not."""

    documents: tuple[tuple[DocumentRequest, Content], ...]
    findings: tuple[Finding, ...] = ()


class _StreamedContent:
    """A stored document larger than one piece, read while it is sent."""

    def __init__(self, store: DocumentStore, found: FoundDocument) -> None:
        self._store = store
        self._found = found
        self.content_type = found.mime_type
        self.size = found.size

    def sha1(self) -> str:
        return self._found.sha1

    def chunks(self) -> AsyncIterator[bytes]:
        return self._store.read(self._found.location, self._found.wrapped_key)


class DocumentRepository:
    """Stores documents, and sees to it that the registry knows them."""

    def __init__(
        self,
        store: RepositoryStore,
        documents: DocumentStore,
        *,
        repository_unique_id: str,
        home_community_id: str,
        codes: Codes,
        allow_limited_metadata: bool,
        new_uuid: Callable[[], str],
        registry: DocumentRegistry | None = None,
        client: RegistryClient | None = None,
        registry_address: str = "",
    ) -> None:
        """``registry`` on a node that is its own; else ``client`` and the registry's address."""
        self._store = store
        self._documents = documents
        self.repository_unique_id = repository_unique_id
        self._home = home_community_id
        self._codes = codes
        self._allow_limited = allow_limited_metadata
        self._new_uuid = new_uuid
        self._registry = registry
        self._client = client
        self._registry_address = registry_address

    # providing --------------------------------------------------------------------------------------------------

    async def provide(self, provided: Provided, context: Context) -> tuple[Finding, ...]:
        """Stores the documents and registers them; what comes back are warnings. Raises Problem."""
        submission, completing = self._complete(provided)
        findings = (*provided.found_on_reading, *completing)
        if self._registry is not None:
            return await self._registry.register(
                submission,
                context,
                found_already=findings,
                store_documents=lambda: self._put(submission, provided.documents, pending=False),
            )
        findings += tuple(check_submission(submission, self._codes, allow_limited=self._allow_limited))
        if findings:
            raise Problem(findings)
        return await self._forward(with_final_ids(submission, self._new_uuid), provided, submission, context)

    def _complete(self, provided: Provided) -> tuple[Submission, list[Finding]]:
        """The submission with what a repository adds: its uniqueId, size and hash (ITI TF-2:3.41.4.1.3.2)."""
        findings: list[Finding] = []
        entries: list[DocumentEntry] = []
        for entry in provided.submission.entries:
            content = provided.documents.get(entry.entry_uuid)
            where = f"DocumentEntry {entry.entry_uuid}"
            if content is None:
                if not any(f.code == "XDSMissingDocument" for f in provided.found_on_reading):
                    findings.append(Finding("XDSMissingDocument", "the message does not hold this document", where))
                entries.append(entry)
                continue
            sha1 = content.sha1()
            if entry.hash and entry.hash.lower() != sha1:
                findings.append(
                    Finding("XDSRepositoryMetadataError", f"the document has hash {sha1}", f"{where}: hash")
                )
            if entry.size and entry.size.isdecimal() and int(entry.size) != content.size:
                findings.append(
                    Finding("XDSRepositoryMetadataError", f"the document has {content.size} bytes", f"{where}: size")
                )
            entries.append(
                msgspec.structs.replace(
                    entry, hash=sha1, size=str(content.size), repository_unique_id=self.repository_unique_id
                )
            )
        described = {e.entry_uuid for e in provided.submission.entries}
        findings += [
            Finding("XDSMissingDocumentMetadata", "no DocumentEntry describes this document", f"Document {name}")
            for name in provided.documents
            if name not in described
        ]
        return msgspec.structs.replace(provided.submission, entries=tuple(entries)), findings

    async def _put(
        self, submission: Submission, documents: Mapping[str, Content], *, pending: bool
    ) -> tuple[StoredDocument, ...]:
        stored = []
        for entry in submission.entries:
            content = documents[entry.entry_uuid]
            appended = await self._documents.append(
                content.data if isinstance(content, MemoryContent) else content.chunks()
            )
            stored.append(
                StoredDocument(
                    unique_id=entry.unique_id or "",
                    repository_unique_id=self.repository_unique_id,
                    patient_id=entry.patient_id or "",
                    mime_type=entry.mime_type,
                    size=appended.size,
                    sha1=entry.hash or "",
                    sha256=appended.sha256,
                    location=appended.location,
                    wrapped_key=appended.wrapped_key,
                    pending=pending,
                )
            )
        return tuple(stored)

    async def _forward(
        self, final: Submission, provided: Provided, submission: Submission, context: Context
    ) -> tuple[Finding, ...]:
        """Stores as pending, sends ITI-42, and closes the submission by its answer."""
        by_final_id = {
            f.entry_uuid: provided.documents[e.entry_uuid]
            for f, e in zip(final.entries, submission.entries, strict=True)
        }
        stored = await self._put(final, by_final_id, pending=True)
        message = write_submit_objects(final, IdSource(final.submission_set.entry_uuid[-36:]))
        pending = Pending(
            final.submission_set.entry_uuid[9:], tuple(d.unique_id for d in stored), message, self._registry_address
        )
        try:
            await self._store.hold(stored, pending, FIRST_RETRY_S)
        except LostRace:
            raise Problem.of(
                "XDSNonIdenticalHash", "this repository holds a document with this uniqueId and other bytes"
            ) from None
        try:
            findings = await self._send(pending, context.audit())
        except RetryLater as error:
            await self._store.postpone(pending.submission_id, str(error))
            raise Problem.of(
                "XDSRegistryNotAvailable",
                "the documents are stored here and wait for the registry, which did not answer; the node repeats the "
                "registration by itself, and repeating this request is harmless",
            ) from None
        context.audited = True
        if any(not f.warning for f in findings):
            raise Problem(findings)
        return findings

    async def _send(self, pending: Pending, audit: AuditEvent) -> tuple[Finding, ...]:
        assert self._client is not None  # noqa: S101 - a repository has a registry or a client, wiring sees to it
        findings = await self._client.register(pending.message, pending.registry)
        refused = any(not f.warning for f in findings)
        if refused:
            codes = " ".join(sorted({f.code for f in findings}))
            audit = msgspec.structs.replace(audit, outcome=Outcome.MINOR_FAILURE, detail=codes)
            await self._store.discard(pending, self.repository_unique_id, audit)
        else:
            await self._store.release(pending, self.repository_unique_id, audit)
        return findings

    async def resume(self, count: int = 20) -> int:
        """Repeats submissions that got no answer; how many were tried. For the background worker."""
        due = await self._store.due(count)
        for pending in due:
            audit = AuditEvent(
                transaction="ITI-42",
                event="export",
                outcome=Outcome.SUCCESS,
                request_id=pending.submission_id,
                source_user=self.repository_unique_id,
                destination_user=pending.registry,
                objects=tuple(AuditObject("document", u) for u in pending.unique_ids),
            )
            try:
                findings = await self._send(pending, audit)
            except RetryLater as error:
                await self._store.postpone(pending.submission_id, str(error))
                log.warning("the registry still does not answer", submission=pending.submission_id, error=str(error))
            else:
                log.info(
                    "a waiting submission is closed",
                    submission=pending.submission_id,
                    refused=[f.code for f in findings],
                )
        return len(due)

    # retrieving -------------------------------------------------------------------------------------------------

    async def retrieve(self, requests: tuple[DocumentRequest, ...], context: Context) -> Retrieved:
        """The documents asked for. What is not there, not here, or still pending is answered alike."""
        findings: list[Finding] = []
        here: list[DocumentRequest] = []
        for request in requests:
            where = request.unique_id
            if request.repository_unique_id != self.repository_unique_id:
                detail = f"this repository is {self.repository_unique_id}"
                findings.append(Finding("XDSUnknownRepositoryId", detail, where))
            elif request.home_community_id and request.home_community_id != self._home:
                findings.append(Finding("XDSUnknownCommunity", f"this community is {self._home}", where))
            else:
                here.append(request)
        if not here:
            raise Problem(findings)
        unique_ids = [r.unique_id for r in here]
        rows = await self._store.documents(unique_ids, self.repository_unique_id, context.audit())
        context.audited = True
        found = {row.unique_id: row for row in rows if not row.pending}
        documents: list[tuple[DocumentRequest, Content]] = []
        for request in here:
            row = found.get(request.unique_id)
            if row is None:
                findings.append(
                    Finding("XDSDocumentUniqueIdError", "this document is not available here", request.unique_id)
                )
            else:
                documents.append((request, await self._content(row)))
        return Retrieved(tuple(documents), tuple(findings))

    async def _content(self, row: FoundDocument) -> Content:
        if row.size > PIECE_SIZE_BYTES:
            return _StreamedContent(self._documents, row)
        try:
            data = await self._documents.read_whole(row.location, row.wrapped_key)
        except DocumentMissingError:
            # Compaction may have moved it since the row was read.
            again = await self._store.documents([row.unique_id], self.repository_unique_id, None)
            data = await self._documents.read_whole(again[0].location, again[0].wrapped_key)
        return MemoryContent(data, row.mime_type)
