"""The Document Repository: keeps documents and gives them back (ITI TF-1:10.1.1.4).

Documents are durable before anything speaks of them. On a node that is its own registry, a submission and its
documents become known in one commit. On any other node the documents and the submission, with its final UUIDs, are
first committed as *pending*; then ITI-42 is sent. Success or refusal closes the submission; after a time-out or a crash
the background worker repeats the identical message, which the registry answers with Success when it has it already. A
pending document is not retrievable.

A source that repeats its ITI-41 sends symbols again where this node has chosen UUIDs, so the repetition is recognised
here, by a fingerprint of the submission as received: it answers Success when the registry has it, and sends the waiting
message otherwise. Whoever sends has taken the submission first, which is counted. Two may still send at once (a
message that takes longer than its lease): both are accepted, or both refused, and a refusal counts only when it is the
answer to whoever took it last, so that no document goes whose registration may yet be accepted.
"""

from __future__ import annotations

import asyncio
import hashlib
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

# Whoever has taken a submission is left alone with it for so long. An answer that takes longer may be overtaken by
# another attempt, which does no harm; after a crash the submission waits no longer than this.
LEASE_S = 10.0
# Between two attempts of the background worker.
PAUSE_S_MAX = 60.0
# A submission that was refused at the very moment of its repetition is a new one when tried again.
HOLD_ATTEMPTS_MAX = 3

_encode = msgspec.json.Encoder().encode

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


class _Prepared(NamedTuple):
    """A submission on its way to a registry elsewhere."""

    wrong: list[Finding]
    fingerprint: bytes
    final: Submission
    message: bytes


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
        prepared = await asyncio.to_thread(self._prepare, submission) if context.large else self._prepare(submission)
        findings += tuple(prepared.wrong)
        if findings:
            raise Problem(findings)
        return await self._forward(submission, prepared, provided.documents, context)

    def _prepare(self, submission: Submission) -> _Prepared:
        wrong = list(check_submission(submission, self._codes, allow_limited=self._allow_limited))
        final = with_final_ids(submission, self._new_uuid)
        message = write_submit_objects(final, IdSource(final.submission_set.entry_uuid[-36:])) if not wrong else b""
        return _Prepared(wrong, hashlib.sha256(_encode(submission)).digest(), final, message)

    def _complete(self, provided: Provided) -> tuple[Submission, list[Finding]]:
        """The submission with what a repository adds: its uniqueId, size and hash (ITI TF-2:3.41.4.1.3.2)."""
        findings: list[Finding] = []
        entries: list[DocumentEntry] = []
        for entry in provided.submission.entries:
            content = provided.documents.get(entry.entry_uuid)
            where = f"DocumentEntry {entry.entry_uuid}"
            if content is None:
                if not any(f.location == f"Document {entry.entry_uuid}" for f in provided.found_on_reading):
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
        self, submission: Submission, prepared: _Prepared, documents: Mapping[str, Content], context: Context
    ) -> tuple[Finding, ...]:
        """Stores as pending, sends ITI-42, and closes the submission by its answer."""
        _, fingerprint, final, message = prepared
        by_final_id = {
            f.entry_uuid: documents[e.entry_uuid] for f, e in zip(final.entries, submission.entries, strict=True)
        }
        stored = await self._put(final, by_final_id, pending=True)
        unique_ids = tuple(d.unique_id for d in stored)
        pending = Pending(final.submission_set.entry_uuid[9:], fingerprint, unique_ids, message)
        for _ in range(HOLD_ATTEMPTS_MAX):
            try:
                await self._store.hold(stored, pending, LEASE_S)
            except LostRace:
                repeated = await self._store.repeat(fingerprint, LEASE_S)
                if repeated is None:  # it has other bytes, or was refused this very moment
                    continue
                if repeated.pending is None:
                    return ()
                pending = repeated.pending
            return await self._send_or_wait(pending, context)
        raise Problem.of("XDSNonIdenticalHash", "this repository holds a document with this uniqueId and other bytes")

    async def _send_or_wait(self, pending: Pending, context: Context) -> tuple[Finding, ...]:
        try:
            findings = await self._send(pending, context.audit())
        except RetryLater:
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
        """The registry's answer, by which the submission is closed now. Raises RetryLater when it still waits."""
        assert self._client is not None  # noqa: S101 - a repository has a registry or a client, wiring sees to it
        try:
            findings = await self._client.register(pending.message, self._registry_address)
        except RetryLater as error:
            log.warning("the registry did not answer", submission=pending.submission_id, error=str(error))
            await self._store.postpone(pending, PAUSE_S_MAX, str(error))
            raise
        if all(f.warning for f in findings):
            await self._store.release(pending, self.repository_unique_id, audit)
            return findings
        codes = " ".join(sorted({f.code for f in findings}))
        audit = msgspec.structs.replace(audit, outcome=Outcome.MINOR_FAILURE, detail=codes)
        try:
            await self._store.discard(pending, self.repository_unique_id, audit)
        except LostRace as error:
            raise RetryLater(f"refused ({codes}), but {error}") from error
        return findings

    async def resume(self, count_max: int = 100) -> int:
        """Sends submissions again whose time has come; how many were closed. For the background worker.

        Raises RetryLater when one still waits.
        """
        for count in range(count_max):
            pending = await self._store.due(LEASE_S)
            if pending is None:
                return count
            audit = AuditEvent(
                transaction="ITI-42",
                event="export",
                outcome=Outcome.SUCCESS,
                request_id=pending.submission_id,
                source_user=self.repository_unique_id,
                destination_user=self._registry_address,
                objects=tuple(AuditObject("document", u) for u in pending.unique_ids),
            )
            findings = await self._send(pending, audit)
            log.info(
                "a waiting submission is closed", submission=pending.submission_id, codes=[f.code for f in findings]
            )
        return count_max

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
        unique_ids = list(dict.fromkeys(r.unique_id for r in here))
        audit = None if findings else context.audit()
        rows = await self._store.documents(unique_ids, self.repository_unique_id, audit)
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
        if findings:
            codes = " ".join(sorted({f.code for f in findings}))
            await self._store.record(context.audit(Outcome.MINOR_FAILURE, codes))
        context.audited = True
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
