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

On a node that is its own registry the repository is an On-Demand Document Source, too, with the Persistence of
Retrieved Documents option (ITI TF-2:3.43.4.2.3): what an on-demand entry gives is stored and registered as a stable
snapshot before it is answered. While it says nothing new (``content_key``) the snapshot that stands is answered; a
newer one replaces it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import structlog

from obieg.actors.access_control import AccessControl
from obieg.actors.document_consumer import DocumentConsumer
from obieg.actors.document_registry import Brought, DocumentRegistry, with_final_ids
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.content import MemoryContent
from obieg.domain.decisions import Decisions, stated
from obieg.domain.document_store import PIECE_SIZE_BYTES, DocumentMissingError, DocumentStore
from obieg.domain.documents import (
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    EntryType,
    Submission,
    SubmissionSet,
)
from obieg.domain.identifiers import PatientId
from obieg.domain.on_demand import FoundOnDemand
from obieg.domain.permits import Named
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import (
    FoundDocument,
    LocatedDocument,
    LostRace,
    Pending,
    RepositoryStore,
    Snapshot,
    StoredDocument,
)
from obieg.domain.rules import Codes, check_entry_types, check_submission
from obieg.domain.sight import EVERYTHING, Sight
from obieg.mapping.ebrim import IdSource
from obieg.mapping.ebrs import write_submit_objects
from obieg.protocol import Content, Context, OnDemandSource, RegistryClient

# Whoever has taken a submission is left alone with it for so long. An answer that takes longer may be overtaken by
# another attempt, which does no harm; after a crash the submission waits no longer than this.
LEASE_S = 10.0
# Between two attempts of the background worker.
PAUSE_S_MAX = 60.0
# A submission that was refused at the very moment of its repetition is a new one when tried again.
HOLD_ATTEMPTS_MAX = 3
# When several retrieve one on-demand entry at once, all but one find that a snapshot was registered meanwhile.
SNAPSHOT_ATTEMPTS_MAX = 5

_encode = msgspec.json.Encoder().encode

log = structlog.get_logger()


class Provided(NamedTuple):
    """What ITI-41 or ITI-65 asks to have kept: metadata and the documents by the id of their entry."""

    submission: Submission
    documents: Mapping[str, Content]
    found_on_reading: tuple[Finding, ...] = ()
    fingerprint: bytes = b""  # of the request as received, where the submission was completed; b"": of the submission
    limited: bool = False  # the transaction allows limited metadata, whatever the node does
    absent: tuple[str, ...] = ()  # uniqueIds that nobody may have registered meanwhile


class DocumentRequest(NamedTuple):
    """One document asked for."""

    unique_id: str
    repository_unique_id: str
    home_community_id: str = ""


class NewDocument(NamedTuple):
    """What a document is called that an on-demand entry gave."""

    unique_id: str
    repository_unique_id: str


class Retrieved(NamedTuple):
    """The documents found, in the order asked for, and what was not."""

    documents: tuple[tuple[DocumentRequest, Content], ...]
    findings: tuple[Finding, ...] = ()
    new: Mapping[str, NewDocument] = {}  # by the uniqueId of the on-demand entry


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


def complete(provided: Provided, repository_unique_id: str | None) -> tuple[Submission, list[Finding]]:
    """The submission with what a repository adds: its uniqueId, size and hash (ITI TF-2:3.41.4.1.3.2).

    A recipient is no repository: it leaves what the sender says of one.
    """
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
            findings.append(Finding("XDSRepositoryMetadataError", f"the document has hash {sha1}", f"{where}: hash"))
        if entry.size and entry.size.isdecimal() and entry.size.lstrip("0") != str(content.size).lstrip("0"):
            findings.append(
                Finding("XDSRepositoryMetadataError", f"the document has {content.size} bytes", f"{where}: size")
            )
        entries.append(
            msgspec.structs.replace(
                entry,
                hash=sha1,
                size=str(content.size),
                repository_unique_id=repository_unique_id or entry.repository_unique_id,
            )
        )
    described = {e.entry_uuid for e in provided.submission.entries}
    findings += [
        Finding("XDSMissingDocumentMetadata", "no DocumentEntry describes this document", f"Document {name}")
        for name in provided.documents
        if name not in described
    ]
    return msgspec.structs.replace(provided.submission, entries=tuple(entries)), findings


async def put_documents(
    store: DocumentStore,
    submission: Submission,
    documents: Mapping[str, Content],
    *,
    repository_unique_id: str,
    pending: bool = False,
    content_key: bytes | None = None,
) -> tuple[StoredDocument, ...]:
    """Puts the documents of a submission into the store; what must be recorded of them."""
    stored = []
    for entry in submission.entries:
        content = documents[entry.entry_uuid]
        appended = await store.append(content.data if isinstance(content, MemoryContent) else content.chunks())
        stored.append(
            StoredDocument(
                unique_id=entry.unique_id or "",
                repository_unique_id=repository_unique_id,
                patient_id=entry.patient_id or "",
                mime_type=entry.mime_type,
                size=appended.size,
                sha1=entry.hash or "",
                sha256=appended.sha256,
                location=appended.location,
                wrapped_key=appended.wrapped_key,
                pending=pending,
                content_key=content_key,
            )
        )
    return tuple(stored)


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
        assigning_authority: str = "",
        on_demand: Sequence[OnDemandSource] = (),
        access: AccessControl | None = None,
        decisions: Decisions | None = None,
        consumer: DocumentConsumer | None = None,
    ) -> None:
        """``registry`` on a node that is its own; else ``client`` and the registry's address.

        ``on_demand`` are asked in their order who makes the document of an on-demand entry; ``decisions``, whether
        somebody may have documents that are registered elsewhere; ``consumer`` fetches documents of other repositories
        for callers who name their entry.
        """
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
        self._assigning_authority = assigning_authority
        self._sources = on_demand
        self._access = access or AccessControl()
        self._decisions = decisions
        self._consumer = consumer

    # providing --------------------------------------------------------------------------------------------------

    async def provide(self, provided: Provided, context: Context) -> tuple[Finding, ...]:
        """Stores the documents and registers them; what comes back are warnings. Raises Problem."""
        submission, completing = complete(provided, self.repository_unique_id)
        findings = (*provided.found_on_reading, *completing)
        if self._registry is not None:
            brought = Brought(
                lambda: self._put(submission, provided.documents),
                fingerprint=provided.fingerprint,
                limited=provided.limited,
                absent=provided.absent,
            )
            return await self._registry.register(submission, context, found_already=findings, brought=brought)
        if context.large:
            prepared = await asyncio.to_thread(self._prepare, submission, provided)
        else:
            prepared = self._prepare(submission, provided)
        findings += tuple(prepared.wrong)
        if findings:
            raise Problem(findings)
        return await self._forward(submission, prepared, provided.documents, context)

    def _prepare(self, submission: Submission, provided: Provided) -> _Prepared:
        allow_limited = self._allow_limited or provided.limited
        wrong = list(check_submission(submission, self._codes, allow_limited=allow_limited))
        wrong += check_entry_types(submission, EntryType.STABLE)
        final = with_final_ids(submission, self._new_uuid)
        message = write_submit_objects(final, IdSource(final.submission_set.entry_uuid[-36:])) if not wrong else b""
        fingerprint = provided.fingerprint or hashlib.sha256(_encode(submission)).digest()
        return _Prepared(wrong, fingerprint, final, message)

    async def _put(
        self,
        submission: Submission,
        documents: Mapping[str, Content],
        *,
        pending: bool = False,
        content_key: bytes | None = None,
    ) -> tuple[StoredDocument, ...]:
        return await put_documents(
            self._documents,
            submission,
            documents,
            repository_unique_id=self.repository_unique_id,
            pending=pending,
            content_key=content_key,
        )

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
        pending = Pending(
            final.submission_set.entry_uuid[9:], fingerprint, unique_ids, message, stated(context.requester)
        )
        for _ in range(HOLD_ATTEMPTS_MAX):
            try:
                await self._store.hold(stored, pending, LEASE_S, context.audit())
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

    async def _send(self, pending: Pending, *audits: AuditEvent) -> tuple[Finding, ...]:
        """The registry's answer, by which the submission is closed now. Raises RetryLater when it still waits.

        Closing is recorded as the ITI-42 that this node sent, and as what ``audits`` say besides.
        """
        assert self._client is not None  # noqa: S101 - a repository has a registry or a client, wiring sees to it
        try:
            findings = await self._client.register(pending.message, self._registry_address, pending.subject)
        except RetryLater as error:
            log.warning("the registry did not answer", submission=pending.submission_id, error=str(error))
            await self._store.postpone(pending, PAUSE_S_MAX, str(error))
            raise
        audits = (*audits, await self._sent(pending, audits))
        if all(f.warning for f in findings):
            await self._store.release(pending, self.repository_unique_id, audits)
            return findings
        codes = " ".join(sorted({f.code for f in findings}))
        refused = [msgspec.structs.replace(a, outcome=Outcome.MINOR_FAILURE, detail=codes) for a in audits]
        try:
            await self._store.discard(pending, self.repository_unique_id, refused)
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
            findings = await self._send(pending)
            log.info(
                "a waiting submission is closed", submission=pending.submission_id, codes=[f.code for f in findings]
            )
        return count_max

    async def _sent(self, pending: Pending, audits: Sequence[AuditEvent]) -> AuditEvent:
        """The record of the ITI-42 that closes a submission, about whom the request is that began it."""
        patients = {o for a in audits for o in a.objects if o.kind == "patient"}
        if not audits:
            rows = await self._store.documents(pending.unique_ids, self.repository_unique_id, None, EVERYTHING)
            patients = {AuditObject("patient", row.patient_id) for row in rows if row.patient_id}
        named = sorted(patients, key=lambda o: o.identifier)
        return AuditEvent(
            transaction="ITI-42",
            event="registration_sent",
            outcome=Outcome.SUCCESS,
            request_id=audits[0].request_id if audits else pending.submission_id,
            source_user=self.repository_unique_id,
            destination_user=self._registry_address,
            objects=(*named, *(AuditObject("document", u) for u in pending.unique_ids)),
        )

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
        seen = await self._access.see(Named(unique_ids=unique_ids), context)
        seen.refused(context, self._assigning_authority)
        seen.told(context, yet=False)
        retrieved = await self._retrieve(here, findings, context, seen.sight)
        # Not the bases of what was not there for this caller.
        patients = {o.identifier.partition("^")[0] for o in context.objects if o.kind == "patient"}
        seen.of(patients if retrieved.documents else ()).told(context)
        return retrieved

    async def _retrieve(
        self, here: Sequence[DocumentRequest], findings: list[Finding], context: Context, sight: Sight
    ) -> Retrieved:
        """What of these requests to this repository is there and may be seen, with its record."""
        asked = unique_ids = list(dict.fromkeys(r.unique_id for r in here))
        if self._decisions is not None:
            permitted = await self._decisions.permitted(tuple(asked), stated(context.requester))
            unique_ids = [name for name in asked if name in permitted]
            context.veiled = not unique_ids
        audit = context.audit() if unique_ids == asked and not findings else None
        rows = await self._store.documents(unique_ids, self.repository_unique_id, audit, sight)
        found = {row.unique_id: row for row in rows if not row.pending}
        missing = [u for u in unique_ids if u not in found]
        made, failed, patients = await self._on_demand(missing, context, sight) if missing else ({}, {}, set())
        documents: list[tuple[DocumentRequest, Content]] = []
        for request in here:
            row = found.get(request.unique_id)
            if row is not None:
                documents.append((request, await self._content(row)))
            elif request.unique_id in made:
                documents.append((request, made[request.unique_id][0]))
            else:
                missed = Finding("XDSDocumentUniqueIdError", "this document is not available here", request.unique_id)
                findings += failed.get(request.unique_id, (missed,))
        new = {unique_id: document for unique_id, (_, document) in made.items() if document is not None}
        if not any(o.kind == "patient" for o in context.objects):
            patients |= {row.patient_id for row in found.values()}
            context.objects = (*(AuditObject("patient", p) for p in sorted(patients)), *context.objects)
        context.objects += tuple(
            AuditObject("document", n.unique_id, details=(("Repository Unique Id", n.repository_unique_id),))
            for n in new.values()
        )
        if findings:
            codes = " ".join(sorted({f.code for f in findings}))
            await self._store.record(context.audit(Outcome.MINOR_FAILURE, codes))
        elif made:
            await self._store.record(context.audit())
        context.audited = True
        return Retrieved(tuple(documents), tuple(findings), new)

    async def _on_demand(
        self, unique_ids: Sequence[str], context: Context, sight: Sight
    ) -> tuple[dict[str, tuple[Content, NewDocument | None]], dict[str, tuple[Finding, ...]], set[str]]:
        """The documents that on-demand entries give now, and why others do not, by the uniqueId of the entry; whose."""
        made: dict[str, tuple[Content, NewDocument | None]] = {}
        failed: dict[str, tuple[Finding, ...]] = {}
        patients: set[str] = set()
        if self._registry is None:
            return made, failed, patients
        for found in await self._store.on_demand(unique_ids, self.repository_unique_id, sight):
            unique_id = found.entry.unique_id or ""
            patients.add(str(PatientId(found.entry.patient_id or "", self._registry.assigning_authority)))
            source = next((s for s in self._sources if s.makes(found.entry)), None)
            if source is None:
                code = found.entry.type_code
                detail = (
                    "nothing on this node makes the document of this on-demand entry "
                    f"(typeCode {code.code if code else 'none'}): ask whoever registered it to deprecate it"
                )
                failed[unique_id] = (Finding("XDSRepositoryError", detail, unique_id),)
                continue
            try:
                made[unique_id] = await self._snapshot(self._registry, source, found, context)
            except Problem as problem:
                failed[unique_id] = tuple(f._replace(location=unique_id) for f in problem.findings)
        return made, failed, patients

    async def _snapshot(
        self, registry: DocumentRegistry, source: OnDemandSource, found: FoundOnDemand, context: Context
    ) -> tuple[Content, NewDocument | None]:
        """The document of an on-demand entry, as the snapshot that is registered for it. Raises Problem.

        Where access is enforced it says what this caller may see: it is given to them and kept for nobody.
        """
        made = await source.make(found, context)
        content = MemoryContent(made.data, made.mime_type)
        if self._access.enforced:
            return content, None
        for _ in range(SNAPSHOT_ATTEMPTS_MAX):
            latest = found.latest
            if latest is not None and latest.content_key == made.key:
                rows = await self._store.documents([latest.unique_id], self.repository_unique_id, None, EVERYTHING)
                if rows:
                    return await self._content(rows[0]), NewDocument(latest.unique_id, self.repository_unique_id)
            submission = self._describe(registry, found, content, context)
            [entry] = submission.entries
            try:
                brought = Brought(
                    partial(self._put, submission, {entry.entry_uuid: content}, content_key=made.key),
                    snapshot=Snapshot(found.entry.entry_uuid, latest.entry_uuid if latest else ""),
                )
                await registry.register(submission, context, brought=brought)
            except LostRace:
                again = await self._store.on_demand(
                    [found.entry.unique_id or ""], self.repository_unique_id, EVERYTHING
                )
                if not again:
                    raise Problem.of("XDSDocumentUniqueIdError", "this entry is gone") from None
                [found] = again
                continue
            return content, NewDocument(entry.unique_id or "", self.repository_unique_id)
        raise RetryLater("others keep making snapshots of this on-demand entry")

    def _describe(
        self, registry: DocumentRegistry, found: FoundOnDemand, content: MemoryContent, context: Context
    ) -> Submission:
        """The submission of a new snapshot (ITI TF-2:3.43.4.2.3)."""
        entry, now = found.entry, context.received_at.strftime("%Y%m%d%H%M%S")
        patient = str(PatientId(entry.patient_id or "", registry.assigning_authority))
        snapshot = msgspec.structs.replace(
            entry,
            entry_uuid="snapshot",
            unique_id=self._new_oid(),
            patient_id=patient,
            mime_type=content.content_type,
            entry_type=EntryType.STABLE,
            creation_time=now,
            repository_unique_id=self.repository_unique_id,
            size=str(content.size),
            hash=content.sha1(),
            uri=None,
            logical_id=None,
            version=1,
            availability_status=AvailabilityStatus.APPROVED,
            home_community_id=None,
        )
        sset = SubmissionSet(
            entry_uuid="set",
            unique_id=self._new_oid(),
            source_id=self.repository_unique_id,
            patient_id=patient,
            submission_time=now,
            content_type_code=found.content_type_code,
            author=entry.author,
            limited_metadata=found.content_type_code is None,
        )
        associations = [
            Association("member", AssociationType.HAS_MEMBER, "set", "snapshot", submission_set_status="Original"),
            Association("of", AssociationType.IS_SNAPSHOT_OF, "snapshot", entry.entry_uuid),
        ]
        if found.latest is not None:
            associations.append(Association("newer", AssociationType.RPLC, "snapshot", found.latest.entry_uuid))
        return Submission(sset, (snapshot,), (), tuple(associations))

    def _new_oid(self) -> str:
        """A fresh UUID as an OID (ISO/IEC 9834-8)."""
        return f"2.25.{int(self._new_uuid().replace('-', ''), 16)}"

    async def locate(self, entry_uuid: str, context: Context) -> LocatedDocument:
        """The document of an entry of this region's registry; Problem where no entry has this entryUUID.

        The audit says from now on which document it is, and whose.
        """
        seen = await self._access.see(Named(uuids=(entry_uuid,)), context)
        seen.refused(context, self._assigning_authority)
        found = await self._store.located(entry_uuid, seen.sight)
        if found is None:
            raise Problem.of("AddressNotFound", "no document has this id, or none that this caller may know of")
        seen.told(context)
        details = (("Repository Unique Id", found.repository_unique_id),)
        document = AuditObject("document", found.unique_id, details=details)
        patient = f"{found.patient_id}^^^&{self._assigning_authority}&ISO"
        context.objects = (AuditObject("patient", patient), document)
        return found._replace(sight=seen.sight)

    async def retrieve_located(self, found: LocatedDocument, context: Context) -> Content:
        """The content of a document; Problem where it is not here, or not here any more, nor given by who has it."""
        request = DocumentRequest(found.unique_id, found.repository_unique_id)
        if found.repository_unique_id != self.repository_unique_id:
            if self._consumer is not None and self.reaches(found.repository_unique_id):
                return await self._fetch(self._consumer, found, context)
            said = f"the document is in the repository {found.repository_unique_id}: retrieve it there by its uniqueId"
            raise Problem.of("XDSUnknownRepositoryId", said, found.unique_id)
        retrieved = await self._retrieve((request,), [], context, found.sight)
        if retrieved.documents:
            return retrieved.documents[0][1]
        if all(f.code == "XDSDocumentUniqueIdError" for f in retrieved.findings):
            if await self._store.was_removed(found.unique_id, found.repository_unique_id):
                said = "the document is described here and is not kept any more"
                raise Problem.of("ResourceGone", said, found.unique_id)
            raise Problem.of("AddressNotFound", "the document is described here and never came here", found.unique_id)
        raise Problem(retrieved.findings)

    async def _fetch(self, consumer: DocumentConsumer, found: LocatedDocument, context: Context) -> Content:
        """From the repository that has it: records of what was asked there and of what is answered here."""
        fetched = await consumer.fetch(found, context, self._store.record)
        await self._store.record_each((context.audit(), fetched.record))
        context.audited = True
        return fetched.content

    async def located_elsewhere(self, unique_id: str, sight: Sight) -> LocatedDocument | None:
        """A document of a repository that this node can ask; None where there is none that the caller may know of."""
        found = await self._store.located_named(unique_id, sight)
        if found is None or found.repository_unique_id == self.repository_unique_id:
            return None
        return found if self.reaches(found.repository_unique_id) else None

    def reaches(self, repository_unique_id: str) -> bool:
        """Whether documents of this other repository are fetched here."""
        return self._consumer is not None and self._consumer.reaches(repository_unique_id)

    async def fetch(self, found: LocatedDocument, context: Context) -> Content:
        """What another repository gives of a document that the caller may see.

        The message to it is recorded; what comes of it is for whoever asks to record. Raises Problem as
        :meth:`DocumentConsumer.fetch`.
        """
        assert self._consumer is not None  # noqa: S101 - it reaches the repository
        fetched = await self._consumer.fetch(found, context, self._store.record)
        await self._store.record(fetched.record)
        return fetched.content

    async def fetch_some(
        self, founds: Sequence[LocatedDocument], context: Context, within_s: float
    ) -> Mapping[str, Content]:
        """What other repositories give within a time of documents that the caller may see, by uniqueId.

        Each message to one of them is recorded; what comes of it is for whoever asks to record.
        """
        if self._consumer is None:
            return {}
        reached = [found for found in founds if self._consumer.reaches(found.repository_unique_id)]
        return await self._consumer.fetch_some(reached, context, self._store.record, within_s) if reached else {}

    async def held(self, unique_ids: Sequence[str], sight: Sight) -> dict[str, FoundDocument]:
        """Which of these documents lie here and can be read; whoever asks records what it reads."""
        rows = await self._store.documents(unique_ids, self.repository_unique_id, None, sight)
        return {row.unique_id: row for row in rows if not row.pending}

    async def read(self, document: FoundDocument | Content) -> bytes:
        """A document that is held here or was fetched, whole. Raises DocumentUnreadableError."""
        content = await self._content(document) if isinstance(document, FoundDocument) else document
        return b"".join([chunk async for chunk in content.chunks()])

    async def _content(self, row: FoundDocument) -> Content:
        if row.size > PIECE_SIZE_BYTES:
            return _StreamedContent(self._documents, row)
        try:
            data = await self._documents.read_whole(row.location, row.wrapped_key)
        except DocumentMissingError:
            # Compaction may have moved it since the row was read.
            again = await self._store.documents([row.unique_id], self.repository_unique_id, None, EVERYTHING)
            data = await self._documents.read_whole(again[0].location, again[0].wrapped_key)
        return MemoryContent(data, row.mime_type)
