"""Takes what is published over FHIR (the Document Recipient of MHD): it goes the way of ITI-41.

Before that it finds out what a submission says only by other names: the patient by the numbers that a source knows,
documents by their uniqueId, folders that may be there already, documents that are published only if they are new.
Every object gets an entryUUID that follows from the request, so a repeated request is recognised and answered alike.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

import msgspec

from obieg.actors.document_registry import DocumentRegistry, with_final_ids
from obieg.actors.document_repository import DocumentRepository, Provided, complete
from obieg.actors.patient_index import PatientIndex
from obieg.actors.provider_directory import ProviderDirectory
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.attributes import DOCUMENT_ENTRY, FOLDER, SUBMISSION_SET, lacks_full_metadata
from obieg.domain.authorities import Authorities
from obieg.domain.documents import Association, AssociationType, Code, DocumentEntry, Folder, Submission, SubmissionSet
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import FoundResource
from obieg.mapping import pik
from obieg.mapping.fhir_documents import RESOURCE_OF, Renderer
from obieg.mapping.fhir_patient import instant, logical_id
from obieg.mapping.mhd_metadata import with_schemes
from obieg.mapping.mhd_people import with_people
from obieg.mapping.mhd_provide import SET_SYMBOL, FolderUpdate, Publication, Published, placed, settled
from obieg.mapping.submission import submission_audit
from obieg.protocol import Context

_SHOWN = frozenset(RESOURCE_OF.values())
_KEPT = ("entry_uuid", "patient_id", "hash", "size", "repository_unique_id", "mime_type")
_FOUND = "200 OK"


class DocumentPublisher:
    """Publishes documents that come over FHIR."""

    def __init__(
        self,
        repository: DocumentRepository,
        *,
        codes: AffinityDomain,
        assigning_authority: str,
        registry: DocumentRegistry | None = None,
        authorities: Authorities,
        index: PatientIndex | None = None,
        directory: ProviderDirectory | None = None,
    ) -> None:
        """``registry``, ``index``, ``directory`` on a node that has them: without nothing is found by other names."""
        self._repository = repository
        self._codes = codes
        self._renderer = Renderer(codes)
        self._authority = assigning_authority
        self._registry = registry
        self._index = index
        self._authorities = authorities
        self._directory = directory

    async def publish(self, publication: Publication, context: Context) -> Published:
        """Registers it; raises Problem with findings located in the request."""
        work = _Work(publication)
        try:
            return await self._publish(work, context)
        except (Problem, RetryLater) as error:
            if await self._was_overtaken(work):
                return await self.publish(publication, context)
            if isinstance(error, RetryLater):
                raise
            raise Problem([placed(f, work.places) for f in error.findings]) from None

    async def _was_overtaken(self, work: _Work) -> bool:
        """Whether a document that was to be published only if new has been published by another meanwhile."""
        if not work.absent:
            return False
        facts = await self._registry.known(unique_ids=work.absent) if self._registry is not None else None
        return facts is not None and any(k.kind == "D" for kept in facts.unique_ids.values() for k in kept)

    async def _publish(self, work: _Work, context: Context) -> Published:
        publication = work.publication
        await self._identify_patients(work)
        await self._identify_people(work)
        await self._identify_documents(work, context)
        await self._apply_conditions(work)
        if not work.submission.entries and work.is_of_one_document and not work.refused:
            context.objects = submission_audit(work.submission)
            return await self._published(work, context)  # it is there already
        await self._update_folders(work, context)
        work.check_superseded()
        if publication.minimal:
            if context.large:
                await asyncio.to_thread(self._describe, work, context)
            else:
                self._describe(work, context)
            await self._check_described(work)
        if context.large:
            await asyncio.to_thread(self._complete, work, context)
        else:
            self._complete(work, context)
        if work.refused:
            raise Problem(sorted(work.findings, key=lambda f: f.warning))
        context.objects = submission_audit(work.submission)
        provided = Provided(
            work.submission,
            work.documents,
            fingerprint=publication.fingerprint,
            limited=publication.minimal,
            absent=tuple(work.absent),
        )
        warnings = await self._repository.provide(provided, context)
        work.findings += (placed(f, work.places) for f in warnings)
        work.submission, _ = complete(provided, self._repository.repository_unique_id)
        return await self._published(work, context)

    async def _published(self, work: _Work, context: Context) -> Published:
        patient = logical_id((work.submission.submission_set.patient_id or "").partition("^")[0])
        answers = tuple(
            a._replace(object=patient) if a.kind == "Patient" else a
            for a in settled(work.publication.answers, work.names, work.statuses)
        )
        found: dict[str, FoundResource] = {}
        if work.publication.shown:
            kinds = {a.object[9:]: "D" if a.kind == "DocumentReference" else "S" for a in answers if a.kind in _SHOWN}
            stored = (
                await self._registry.shown(kinds, context)
                if self._registry is not None
                else _registered_elsewhere(work.submission, self._renderer, context.received_at)
            )
            found = {f.entry_uuid: f for f in stored}
        return Published(answers, context.received_at, tuple(work.findings), found)

    # patients

    async def _identify_patients(self, work: _Work) -> None:
        """The affinity-domain id of whoever the submission names; everybody named must be one person."""
        found: dict[str, PatientId] = {}
        for written, identifiers in work.publication.patients.items():
            named = {p for i in identifiers if (p := await self._affinity_domain_id(i)) is not None}
            if len(named) > 1:
                said = f"its identifiers are those of {len(named)} patients"
                work.refuse("XDSPatientIdDoesNotMatch", said, work.where_patient(written))
            if named:
                found[written] = named.pop()
            else:
                said = f"no patient is known here by {', '.join(map(str, identifiers))}: announce the patient first"
                if self._index is None:
                    said = f"this node has no patient index: name the patient by an id of {self._authority}"
                work.refuse("XDSUnknownPatientId", said, work.where_patient(written))
        names = {written: str(patient) for written, patient in found.items()}

        def renamed(value: Any) -> Any:
            return msgspec.structs.replace(value, patient_id=names.get(value.patient_id or "", value.patient_id))

        work.submission = _each(work.submission, renamed)
        work.updates = [u._replace(folder=renamed(u.folder)) for u in work.updates]
        if len(set(names.values())) > 1 and len({o.patient_id for o in work.submission.objects}) == 1:
            said = "one bundle is about one patient"
            work.refuse("XDSPatientIdDoesNotMatch", said, work.where_patient(list(names)[-1]))

    async def _affinity_domain_id(self, identifier: PatientId) -> PatientId | None:
        if identifier.authority == self._authority:
            return identifier  # whether it is known is the registry's to say
        return None if self._index is None else await self._index.affinity_domain_id(identifier)

    async def _check_described(self, work: _Work) -> None:
        """A document that says itself whom it is about is about the subject, as far as both have identifiers."""
        sset = work.submission.submission_set
        subject = patient_id(sset.patient_id or "")
        if not work.described or subject is None:
            return
        known = None if self._index is None else await self._index.described(subject)
        same = {subject, *((known.patient, known.replaced_by) if known is not None else ())}
        own = {subject, *(i for sent in work.publication.patients.values() for i in sent)}
        own |= set(known.identifiers) if known is not None else set()
        for symbol, described in work.described.items():
            for identifier in described.patient_ids:
                if identifier in own:
                    continue
                found = None if self._index is None else await self._index.affinity_domain_id(identifier)
                if found is not None and found in same:
                    continue
                single = identifier.authority == self._authority or self._authorities.is_single(identifier.authority)
                if found is not None or (single and any(o.authority == identifier.authority for o in own)):
                    said = f"the document is about {identifier}, who is not the subject"
                    work.refuse("XDSPatientIdDoesNotMatch", said, f"{work.places[symbol]}.subject")

    # people

    async def _identify_people(self, work: _Work) -> None:
        """Authors and recipients whom the directory of this node knows."""
        sought = work.publication.people
        if not sought:
            return
        references = {s.reference for s in sought.values()}
        found = {} if self._directory is None else await self._directory.resources(references)
        work.submission, told = with_people(work.submission, sought, found)
        work.findings += told

    # what stands in the registry

    async def _identify_documents(self, work: _Work, context: Context) -> None:
        """EntryUUIDs of documents that are named by another identifier.

        Those to which the caller may not refer are not registered for them.
        """
        wanted = work.publication.names
        conditional = {c.name for c in work.publication.conditions}
        if not wanted:
            return
        if self._registry is None:
            said = "this node has no registry that could be asked: refer to documents by DocumentReference/<id>"
            places = [c.place for c in work.publication.conditions]
            for place in (*places, *(p for name in wanted for p in work.naming(name))):
                work.refuse("UnresolvedReferenceException", said, place)
            raise Problem(work.findings)
        found = await self._documents(self._registry, wanted)
        work.closed = await self._closed(self._registry, work.submission, found, context)
        for name, (unique_id, _) in wanted.items():
            if name in found and name not in work.closed:
                work.known[name] = found[name]
            elif name in work.publication.optional:
                work.forget(name)
            elif name not in conditional:
                for place in work.naming(name):
                    said = f"no document {unique_id} is registered here"
                    work.refuse("UnresolvedReferenceException", said, place, reason=work.closed.get(name, ""))

        def ends(a: Association) -> Association:
            return msgspec.structs.replace(a, target=work.known.get(a.target, a.target))

        work.submission = msgspec.structs.replace(
            work.submission, associations=tuple(ends(a) for a in work.submission.associations)
        )
        work.updates = [u._replace(members=tuple(work.known.get(m, m) for m in u.members)) for u in work.updates]

    @staticmethod
    async def _closed(
        registry: DocumentRegistry, submission: Submission, found: Mapping[str, str], context: Context
    ) -> dict[str, str]:
        """The names of documents to which the caller may not refer so, with why, for the record."""
        referable = await registry.referable(sorted({*found.values()}), context)
        if referable is None:
            return {}
        closed = {name: "refer: not to be read" for name, uuid in found.items() if uuid not in referable}
        replaced = {a.target for a in submission.associations if a.type.replaces}
        not_theirs = (name for name in replaced & found.keys() - closed.keys() if not referable[found[name]])
        return closed | dict.fromkeys(not_theirs, "replace: not the author")

    @staticmethod
    async def _documents(registry: DocumentRegistry, wanted: Mapping[str, tuple[str, str]]) -> dict[str, str]:
        """Name to entryUUID; of several documents with one uniqueId an approved one."""
        uniques = {unique_id for unique_id, _ in wanted.values()}
        facts = await registry.known(uuids=[uuid for _, uuid in wanted.values() if uuid], unique_ids=sorted(uniques))
        standing = {k.entry_uuid for kept in facts.unique_ids.values() for k in kept if k.kind == "D"}
        objects = (await registry.known(uuids=sorted(standing))).objects if len(standing) > len(wanted) else {}
        found: dict[str, str] = {}
        for name, (unique_id, uuid) in wanted.items():
            if uuid in facts.objects:
                found[name] = uuid
                continue
            kept = [k.entry_uuid for k in facts.unique_ids.get(unique_id, ()) if k.kind == "D"]
            approved = [u for u in kept if u in objects and objects[u].approved]
            if kept:
                found[name] = (approved or kept)[0]
        return found

    async def _apply_conditions(self, work: _Work) -> None:
        """A document that is there already is not published again: the rest refers to it."""
        for condition in work.publication.conditions:
            entry = work.entry(condition.symbol)
            there = work.known.get(condition.name)
            unique_id, _ = work.publication.names[condition.name]
            if condition.name in work.closed:  # as to whoever sets no condition and sends something else
                said = f"document {unique_id} is registered with another hash"
                where = f"DocumentEntry {condition.symbol}: hash"
                work.refuse("XDSNonIdenticalHash", said, where, reason=work.closed[condition.name])
            elif there is None:
                work.absent.append(unique_id)
            elif entry is not None:
                work.leave_out(entry, there)

    async def _update_folders(self, work: _Work, context: Context) -> None:
        for update in work.updates:
            standing = await self._folder(work, update, context)
            if standing is None:
                work.make_folder(update)
            else:
                uuid, members = standing
                work.extend_folder(update, uuid, members)

    async def _folder(self, work: _Work, update: FolderUpdate, context: Context) -> tuple[str, frozenset[str]] | None:
        """EntryUUID of the folder that is meant, and the members that the caller may refer to.

        None where there is none and one may be made.
        """
        folder, place = update.folder, work.places[update.folder.entry_uuid]
        if self._registry is None:
            if update.entry_uuid:
                return update.entry_uuid, frozenset()
            said = "this node has no registry that could be asked: name the folder by its id"
            raise Problem.of("UnresolvedReferenceException", said, place)
        uuid = update.entry_uuid
        if not uuid and folder.unique_id:
            facts = await self._registry.known(unique_ids=[folder.unique_id])
            uuid = next((k.entry_uuid for k in facts.unique_ids.get(folder.unique_id, ()) if k.kind == "F"), "")
        standing = await self._registry.folder(uuid) if uuid else None
        members = standing.members if standing is not None else ()
        referable = await self._registry.referable(members, context, others=[uuid] if standing is not None else [])
        if standing is None or (referable is not None and uuid not in referable):
            if update.demanded:
                work.refuse("UnresolvedReferenceException", f"no folder {uuid} is registered here", place)
            return None
        work.check_folder(update, standing.folder, self._codes)
        return uuid, frozenset(m for m in members if referable is None or m in referable)

    # completing

    def _complete(self, work: _Work, context: Context) -> None:
        """Codes of the affinity domain, what a CDA says of itself, marks of limited metadata, final ids."""
        publication = work.publication
        now = context.received_at.astimezone(UTC).strftime("%Y%m%d%H%M%S")
        work.submission = with_schemes(work.submission, publication.others, self._codes)
        if publication.minimal:
            entries = tuple(
                _completed(entry, work.described.get(entry.entry_uuid)) for entry in work.submission.entries
            )
            work.submission = msgspec.structs.replace(work.submission, entries=entries)
        digest = publication.fingerprint.hex()
        sset = work.submission.submission_set
        agreed = self._codes.codes("content_type_code") if work.is_of_one_document else ()
        if len(agreed) == 1:  # there is nothing else that it could be
            code = Code(agreed[0].code, agreed[0].scheme, (("", agreed[0].display),) if agreed[0].display else ())
            sset = msgspec.structs.replace(sset, content_type_code=code)
        sset = msgspec.structs.replace(
            sset,
            unique_id=sset.unique_id or f"2.25.{int(digest[:32], 16)}",
            source_id=sset.source_id or self._repository.repository_unique_id,
            submission_time=sset.submission_time or now,
        )
        work.submission = msgspec.structs.replace(
            work.submission,
            submission_set=sset,
            folders=tuple(_with_unique_id(f, digest) for f in work.submission.folders),
        )
        if publication.minimal:
            work.submission = _each(work.submission, _marked)
        work.finish(partial(_derived_uuid, publication.fingerprint, count()))

    def _describe(self, work: _Work, context: Context) -> None:
        """What PIK HL7 CDA documents say of themselves, where their senders left something out."""
        for entry in work.submission.entries:
            content = work.documents.get(entry.entry_uuid)
            if (
                content is None
                or not lacks_full_metadata(entry, DOCUMENT_ENTRY)
                or entry.mime_type.partition(";")[0] not in pik.CDA_MEDIA_TYPES
            ):
                continue
            with suppress(Problem):  # it is no CDA that says these things
                work.described[entry.entry_uuid] = pik.describe_cda(
                    content.data,
                    patient_id=entry.patient_id or "",
                    source_id=self._repository.repository_unique_id,
                    now=context.received_at,
                    new_uuid=partial(UUID, int=0),
                )


def _completed(entry: DocumentEntry, described: pik.Described | None) -> DocumentEntry:
    """What a document says of itself stands in for what the sender left out."""
    if described is None:
        return entry
    added = {
        row.field: getattr(described.entry, row.field)
        for row in DOCUMENT_ENTRY
        if row.field not in _KEPT and not getattr(entry, row.field)
    }
    return msgspec.structs.replace(entry, **added)


class _Work:
    """A publication on its way to become a submission."""

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self.submission = publication.submission
        self.documents = dict(publication.documents)
        self.places = dict(publication.places)
        self.findings = list(publication.findings)
        self.updates = list(publication.updates)
        self.described: dict[str, pik.Described] = {}  # what CDA documents say of themselves, by symbol
        self.known: dict[str, str] = {}  # name -> entryUUID
        self.closed: dict[str, str] = {}  # name -> why the caller may not refer to this document
        self.names: dict[str, str] = {}  # symbol -> entryUUID
        self.statuses: dict[str, str] = {}  # symbol -> what is answered in place of "201 Created"
        self.absent: list[str] = []  # uniqueIds that must still be free

    @property
    def is_of_one_document(self) -> bool:
        """Whether the set is the node's own: nobody sent one."""
        return self.publication.submission.submission_set.entry_uuid == SET_SYMBOL

    @property
    def refused(self) -> bool:
        return any(not f.warning for f in self.findings)

    def refuse(self, code: str, detail: str, where: str, *, reason: str = "") -> None:
        self.findings.append(Finding(code, detail, where, reason=reason))

    def where_patient(self, written: str) -> str:
        """Where the patient was named so for the first time."""
        return self.publication.named_at.get(written, "")

    def naming(self, name: str) -> Iterator[str]:
        """Places of the associations that name a document so."""
        for a in self.submission.associations:
            if a.target == name:
                yield self.places[a.entry_uuid]

    def forget(self, name: str) -> None:
        """What a document says to replace and nobody has registered here is left alone, and said."""
        for place in self.naming(name):
            said = f"the document replaces {name.removeprefix('named:')}, which is not registered here"
            self.findings.append(Finding("UnresolvedReferenceException", said, place, warning=True))
        kept = tuple(a for a in self.submission.associations if a.target != name)
        self.submission = msgspec.structs.replace(self.submission, associations=kept)

    def entry(self, symbol: str) -> DocumentEntry | None:
        return next((e for e in self.submission.entries if e.entry_uuid == symbol), None)

    def _associate(self, kind: AssociationType, source: str, target: str, where: str, status: str | None = None) -> str:
        symbol = f"m{len(self.submission.associations)}"
        self.places[symbol] = where
        made = Association(symbol, kind, source, target, submission_set_status=status)
        self.submission = msgspec.structs.replace(self.submission, associations=(*self.submission.associations, made))
        return symbol

    def leave_out(self, entry: DocumentEntry, there: str) -> None:
        """``there`` stands in for the entry."""
        self.documents.pop(entry.entry_uuid, None)
        self.names[entry.entry_uuid], self.statuses[entry.entry_uuid] = there, _FOUND
        kept = []
        for a in self.submission.associations:
            if a.source == entry.entry_uuid:
                continue
            refers = a.target == entry.entry_uuid
            status = "Reference" if refers and a.submission_set_status else a.submission_set_status
            target = there if refers else a.target
            kept.append(msgspec.structs.replace(a, target=target, submission_set_status=status))
        self.submission = msgspec.structs.replace(
            self.submission,
            entries=tuple(e for e in self.submission.entries if e is not entry),
            associations=tuple(kept),
        )
        self.updates = [
            u._replace(members=tuple(there if m == entry.entry_uuid else m for m in u.members)) for u in self.updates
        ]

    def make_folder(self, update: FolderUpdate) -> None:
        """A folder that nobody knows is made."""
        folder, sset = update.folder, self.submission.submission_set
        self.submission = msgspec.structs.replace(self.submission, folders=(*self.submission.folders, folder))
        where = self.places[folder.entry_uuid]
        self._associate(AssociationType.HAS_MEMBER, sset.entry_uuid, folder.entry_uuid, where)
        for member in update.members:
            self._associate(AssociationType.HAS_MEMBER, folder.entry_uuid, member, where)

    def extend_folder(self, update: FolderUpdate, uuid: str, members: frozenset[str]) -> None:
        """The folder gains the documents that it does not hold; the set says who added them (ITI TF-3:4.2.1.4)."""
        symbol, sset = update.folder.entry_uuid, self.submission.submission_set
        where = self.places[symbol]
        self.places[uuid] = where
        self.names[symbol], self.statuses[symbol] = uuid, _FOUND
        for member in update.members:
            if member not in members:
                held = self._associate(AssociationType.HAS_MEMBER, uuid, member, where)
                self._associate(AssociationType.HAS_MEMBER, sset.entry_uuid, held, where)
        if left := members - set(update.members):
            said = f"{len(left)} members that the List leaves out stay in the folder: taking them out is ITI-57's"
            self.findings.append(Finding("RuleBroken", said, f"{where}.entry", warning=True))

    def check_folder(self, update: FolderUpdate, standing: Folder, codes: AffinityDomain) -> None:
        """A folder keeps its title, comments and codes: changing them is a new version (ITI-57)."""
        place = self.places[update.folder.entry_uuid]
        sent = with_schemes(
            Submission(self.submission.submission_set, folders=(update.folder,)), self.publication.others, codes
        ).folders[0]
        for field, element in (("title", "title"), ("comments", "note"), ("code_list", "extension")):
            said, kept = getattr(sent, field), getattr(standing, field)
            if said and _plain(said) != _plain(kept):
                detail = (
                    f"the folder's {field} would change: that is Update Document Set (ITI-57), send what stands there"
                )
                self.refuse("RuleBroken", detail, f"{place}.{element}")

    def check_superseded(self) -> None:
        """Deprecating a document alone is ITI-57's: a PATCH goes with the DocumentReference that replaces it."""
        replaced = {a.target for a in self.submission.associations if a.type.replaces}
        for uuid, where in self.publication.superseded:
            if uuid not in replaced:
                said = "no DocumentReference of this bundle replaces it (relatesTo): a document is not superseded alone"
                self.refuse("RuleBroken", said, where)

    def finish(self, new_uuid: Callable[[], str]) -> None:
        """EntryUUIDs in place of symbols."""
        symbols = self.submission.ids
        self.submission = with_final_ids(self.submission, new_uuid)
        for symbol, uuid in zip(symbols, self.submission.ids, strict=True):
            self.names.setdefault(symbol, uuid)
            if symbol in self.places:
                self.places[uuid] = self.places[symbol]
        self.documents = {self.names[symbol]: content for symbol, content in self.documents.items()}


def _registered_elsewhere(submission: Submission, renderer: Renderer, at: datetime) -> Iterator[FoundResource]:
    """What a registry that cannot be asked in FHIR has just been told, as it would give it."""
    patient = (submission.submission_set.patient_id or "").partition("^")[0]
    stamp, held = instant(at), {a.entry_uuid for a in submission.associations}
    kinds = {o.entry_uuid: kind for kind, some in (("D", submission.entries), ("F", submission.folders)) for o in some}
    for value in submission.objects:
        relations = [
            f"{kinds.get(a.target, 'D') if a.type is AssociationType.HAS_MEMBER else a.type} {a.target[9:]}"
            for a in submission.associations
            if a.source == value.entry_uuid and a.target not in held
        ]
        yield FoundResource(
            kinds.get(value.entry_uuid, "S"),
            value.entry_uuid[9:],
            renderer.render(value, stamp),
            "A",
            "1",
            stamp,
            patient,
            tuple(relations),
            at.astimezone(UTC).strftime("%Y%m%d%H%M%S"),
        )


def _derived_uuid(fingerprint: bytes, numbers: Iterator[int]) -> str:
    """A UUID of version 8 (RFC 9562, 5.8) that follows from a request: its repetition names the same objects."""
    raw = bytearray(hashlib.sha256(fingerprint + next(numbers).to_bytes(4, "big")).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(raw)))


def _each(submission: Submission, change: Callable[[Any], Any]) -> Submission:
    return Submission(
        change(submission.submission_set),
        tuple(change(e) for e in submission.entries),
        tuple(change(f) for f in submission.folders),
        submission.associations,
    )


def _with_unique_id(folder: Folder, digest: str) -> Folder:
    if folder.unique_id:
        return folder
    own = hashlib.sha256(f"{digest}{folder.entry_uuid}".encode()).hexdigest()
    return msgspec.structs.replace(folder, unique_id=f"2.25.{int(own[:32], 16)}")


_TABLES: dict[type, Any] = {DocumentEntry: DOCUMENT_ENTRY, SubmissionSet: SUBMISSION_SET, Folder: FOLDER}


def _marked(value: Any) -> Any:
    """Marked as limited metadata where something is missing that only limited metadata may leave out."""
    if not lacks_full_metadata(value, _TABLES[type(value)]):
        return value
    return msgspec.structs.replace(value, limited_metadata=True)


def _plain(value: Any) -> Any:
    """Texts without their languages, codes without their names."""
    return [(c.code, c.scheme) if hasattr(c, "code") else c[1] for c in value]
