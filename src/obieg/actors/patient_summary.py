"""The patient summary: what the registered documents of a patient say, as one FHIR document (IPS).

It reads the approved documents of a patient as ITI-18 finds them, for the patient and all who are linked to it, takes
their CDA documents apart, those of this node's repository and what facilities give of theirs in a short time, and puts
what they say together. A document that cannot be read, does not come or is too much is named in the summary, with the
reason; the others are read all the same. Documents are taken apart in a thread, one after the other, so that a patient
with hundreds of them holds nobody up.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import structlog

from obieg.actors.access_control import AccessControl, Seen
from obieg.actors.document_registry import DocumentRegistry
from obieg.actors.document_repository import DocumentRepository
from obieg.actors.patient_index import PatientIndex
from obieg.codes.load import toml
from obieg.domain.audit import AuditObject
from obieg.domain.document_store import DocumentUnreadableError
from obieg.domain.documents import DocumentEntry, Value
from obieg.domain.identifiers import PatientId
from obieg.domain.on_demand import FoundOnDemand
from obieg.domain.on_demand import Made as OnDemandMade
from obieg.domain.patients import Candidate
from obieg.domain.permits import Named
from obieg.domain.problems import Problem
from obieg.domain.registry import FoundDocument, LocatedDocument
from obieg.domain.sight import EVERYTHING, Sight
from obieg.domain.summary import Extract, Source, Summary, Unread, collapse
from obieg.mapping import cda_clinical, ips
from obieg.mapping.ebrim import read_rendering
from obieg.mapping.stored_query import approved_documents
from obieg.protocol import AuditSink, Content, Context
from obieg.wire import fhir_json
from obieg.wire.cda import CdaRefused
from obieg.wire.cda_body import TooMuch

CONTENT_TYPE = "application/fhir+json"
DOCUMENTS_MAX = 200  # the newest; more are not looked at
DOCUMENT_BYTES_MAX = 16 * 1024 * 1024
BYTES_MAX = 128 * 1024 * 1024  # of all documents of one summary
FETCHED_BYTES_MAX = 32 * 1024 * 1024  # of those that facilities are asked for
FETCH_TIME_S = 3.0  # a page waits for it
CDA_TYPES = frozenset({"text/xml", "application/xml", "application/hl7-cda+xml", "application/hl7-sda+xml"})
_FHIR = toml("cda_sections.toml")["fhir"]
_TYPE = _FHIR["document"][1]  # LOINC
_FORMATS = frozenset({_FHIR["bundle_profile"], _FHIR["composition_profile"]})

log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode


class SummaryQuery(Value, frozen=True):
    """Whose summary is asked for, by an identifier of any domain.

    ``base`` is the address of the FHIR service that links to documents lead to.
    """

    patient: PatientId
    base: str = ""


class Made(NamedTuple):
    """A summary: its key, the document bundle, and what was read for it."""

    key: str
    bundle: dict[str, Any]
    objects: tuple[AuditObject, ...]


class SummaryContent(NamedTuple):
    """A summary as a document: on-demand content. Equal keys mean equal data, so a snapshot may be given again."""

    key: str
    content_type: str
    data: bytes
    objects: tuple[AuditObject, ...]  # patient and documents that were read, for the audit of whoever gives it out


class _Known(NamedTuple):
    """What a summary is made of, before any document is opened."""

    key: str
    patient: Candidate
    entries: tuple[DocumentEntry, ...]
    more: bool


class PatientSummary:
    """Makes summaries."""

    def __init__(
        self,
        index: PatientIndex,
        registry: DocumentRegistry,
        repository: DocumentRepository,
        audit: AuditSink,
        *,
        documents_max: int = DOCUMENTS_MAX,
        bytes_max: int = BYTES_MAX,
        access: AccessControl | None = None,
    ) -> None:
        self._index = index
        self._registry = registry
        self._repository = repository
        self._audit = audit
        self._documents_max = documents_max
        self._bytes_max = bytes_max
        self._access = access or AccessControl()

    async def _see(self, patient: PatientId, context: Context) -> Seen:
        seen = await self._access.see(Named((patient,)), context)
        seen.refused(context, self._registry.assigning_authority)
        seen.told(context)
        return seen

    async def summary(self, asked: SummaryQuery, context: Context) -> Made | None:
        """The summary of a patient, recorded with the documents that were read; None for one who is not known here.

        Raises Problem for an id that was merged into another.
        """
        seen = await self._see(asked.patient, context)
        patient = (
            await self._index.affinity_domain_id(asked.patient) if self._is_foreign(asked.patient) else asked.patient
        )
        known = await self._known(patient, seen) if patient is not None else None
        if known is None:
            seen.told(context, shown=False)
            return None
        made = await self._make(known, seen.sight, context, base=asked.base)
        context.objects = _together(context.objects, made.objects)
        await self._audit.record(context.audit())
        context.audited = True
        return made

    async def key(self, patient: PatientId) -> str:
        """What names the data that a summary would be made of now; "" for a patient who is not known here."""
        known = await self._known(patient, Seen(EVERYTHING))
        return known.key if known is not None else ""

    async def content(self, patient: PatientId, context: Context, *, base: str = "") -> SummaryContent | None:
        """The summary as on-demand content; None for a patient who is not known. Whoever gives it out records it."""
        seen = await self._see(patient, context)
        known = await self._known(patient, seen)
        if known is None:
            return None
        made = await self._make(known, seen.sight, context, base=base)
        data = await asyncio.to_thread(fhir_json.write, made.bundle)
        return SummaryContent(made.key, CONTENT_TYPE, data, made.objects)

    def _is_foreign(self, patient: PatientId) -> bool:
        return patient.authority != self._registry.assigning_authority

    # what there is ----------------------------------------------------------------------------------------------

    async def _known(self, patient: PatientId, seen: Seen) -> _Known | None:
        person = await self._index.described(patient)
        if person is None or not (seen.open or await self._registry.shows(patient, seen)):
            return None
        if person.replaced_by is not None:
            said = f"this Patient was merged into Patient/{person.replaced_by.value}: ask for that one's summary"
            raise Problem.of("AddressNotFound", said)
        entries, more = await newest_documents(self._registry, patient, self._documents_max, seen.sight)
        made_of = [(e.entry_uuid, e.version, e.hash, e.repository_unique_id) for e in entries]
        person = msgspec.structs.replace(person, score=0, grade="")
        key = hashlib.sha256(_encode([ips.VERSION, person, made_of, more, self._documents_max])).hexdigest()
        return _Known(key, person, entries, more)

    # making -----------------------------------------------------------------------------------------------------

    async def _make(self, known: _Known, sight: Sight, context: Context, *, base: str) -> Made:
        sources = [ips.to_source(entry) for entry in known.entries]
        own = self._repository.repository_unique_id
        here = [s for s in sources if s.repository_unique_id == own and s.mime_type in CDA_TYPES]
        held: dict[str, FoundDocument | Content] = {}
        if here:
            held |= await self._repository.held([s.unique_id for s in dict.fromkeys(here)], sight)
        away = lying_elsewhere(
            sources, known.patient.patient, self._repository, min(self._bytes_max, FETCHED_BYTES_MAX)
        )
        if away:
            held |= await self._repository.fetch_some(away, context, FETCH_TIME_S)
        asked = {each.unique_id for each in away}
        extracts: list[tuple[Source, Extract]] = []
        unread: list[Unread] = []
        left = self._bytes_max
        for source in sources:
            reason = unreadable(source, own, held.get(source.unique_id), left)
            if reason is not None:
                silent = source.unique_id in asked and reason.reason == "elsewhere"
                unread.append(Unread(source, "silent", reason.detail) if silent else reason)
                continue
            left -= held[source.unique_id].size
            try:
                extract = await self._extract(source, held[source.unique_id])
            except (CdaRefused, TooMuch, DocumentUnreadableError) as error:
                log.warning("a document is left out of a summary", document=source.unique_id, error=str(error))
                unread.append(Unread(source, "unreadable", str(error)[:200]))
                continue
            extracts.append((source, extract))
            if extract.file:
                unread.append(Unread(source, "file", extract.file))
        if lacking := sorted(each.source.unique_id for each in unread if each.reason == "silent"):
            # It may come the next time, and then this is another summary.
            known = known._replace(key=hashlib.sha256(_encode([known.key, lacking])).hexdigest())
        bundle = await asyncio.to_thread(self._put_together, known, extracts, unread, context.received_at, base)
        return Made(known.key, bundle, tuple(_objects(known.patient.patient, [source for source, _ in extracts])))

    def _put_together(
        self,
        known: _Known,
        extracts: Sequence[tuple[Source, Extract]],
        unread: Sequence[Unread],
        made_at: datetime,
        base: str,
    ) -> dict[str, Any]:
        summary = Summary(
            key=known.key,
            patient=known.patient,
            made_at=made_at,
            statements=collapse((s for _, e in extracts for s in e.statements), is_state=cda_clinical.is_state),
            passages=tuple(p for _, e in extracts for p in e.passages),
            sources=tuple(source for source, _ in extracts),
            unread=tuple(unread),
            more=known.more,
            documents_max=self._documents_max,
        )
        return ips.write_summary(summary, base)

    async def _extract(self, source: Source, document: FoundDocument | Content) -> Extract:
        data = await self._repository.read(document)
        return await asyncio.to_thread(cda_clinical.read_extract, data, source)


class SummarySource:
    """The summary as an on-demand document (ITI-61, ITI-43): see :class:`obieg.protocol.OnDemandSource`."""

    def __init__(
        self, summaries: Callable[[], PatientSummary | None], *, assigning_authority: str, base: str = ""
    ) -> None:
        """``summaries`` gives the actor, which is made after the repository that asks this source."""
        self._summaries = summaries
        self._authority = assigning_authority
        self._base = base  # of the FHIR service that links in the document lead to

    def makes(self, entry: DocumentEntry) -> bool:
        """Entries of a summary in FHIR."""
        return is_summary(entry)

    async def make(self, found: FoundOnDemand, context: Context) -> OnDemandMade:
        """The summary as it is now; who reads the snapshot has read the documents that it repeats."""
        summaries = self._summaries()
        patient = PatientId(found.entry.patient_id or "", self._authority)
        made = None
        if summaries is not None:
            made = await summaries.content(patient, context, base=self._base)
        if made is None:
            said = "this node has no documents from which a summary of the patient could be made"
            raise Problem.of("XDSRepositoryError", said, found.entry.unique_id or "")
        context.objects = _together(context.objects, made.objects)
        return OnDemandMade(made.data, made.content_type, made.key.encode())


async def newest_documents(
    registry: DocumentRegistry, patient: PatientId, count: int, sight: Sight
) -> tuple[tuple[DocumentEntry, ...], bool]:
    """The newest approved documents that facilities handed in, and whether there are older ones."""
    found, more = await registry.newest(approved_documents(patient), count, sight)
    entries = await asyncio.to_thread(
        lambda: tuple(
            entry
            for o in found
            if isinstance(entry := read_rendering("D", o.rendering, o.status, o.version), DocumentEntry)
            and not is_summary(entry)
        )
    )
    return entries, more


def is_summary(entry: DocumentEntry) -> bool:
    """Whether the entry is of a summary in FHIR, by its type or format: ours on demand, or a snapshot of one.

    Such a document is no source of a summary; if it were, each snapshot would change the next summary.
    """
    typed = entry.type_code is not None and entry.type_code.code == _TYPE
    formatted = entry.format_code is not None and entry.format_code.code in _FORMATS
    return entry.mime_type.startswith("application/fhir+") and (typed or formatted)


def lying_elsewhere(
    sources: Iterable[Source], patient: PatientId, repository: DocumentRepository, left: int
) -> list[LocatedDocument]:
    """The CDA documents that other repositories are to be asked for, the first of them that have ``left`` bytes."""
    wanted = []
    for source in sources:
        size = int(source.size) if source.size.isascii() and source.size.isdecimal() else None
        if source.mime_type not in CDA_TYPES or size is None or size > min(left, DOCUMENT_BYTES_MAX):
            continue
        if source.repository_unique_id != repository.repository_unique_id and repository.reaches(
            source.repository_unique_id
        ):
            left -= size
            wanted.append(
                LocatedDocument(
                    unique_id=source.unique_id,
                    repository_unique_id=source.repository_unique_id,
                    patient_id=str(patient),
                    hash=source.hash,
                    mime_type=source.mime_type,
                    size=size,
                )
            )
    return wanted


def unreadable(source: Source, own: str, document: FoundDocument | Content | None, left: int) -> Unread | None:
    """Why a document is not even opened; ``document``: what there is of it, here or from elsewhere."""
    if document is None and source.repository_unique_id != own:
        return Unread(source, "elsewhere", source.repository_unique_id)
    if source.mime_type not in CDA_TYPES:
        return Unread(source, "format", source.mime_type or "?")
    if document is None:
        return Unread(source, "missing")
    if document.size > DOCUMENT_BYTES_MAX:
        return Unread(source, "limit", f"ma więcej niż {DOCUMENT_BYTES_MAX // 1024**2} MiB")
    if document.size > left:
        return Unread(source, "limit", "dokumenty pacjenta są razem większe, niż streszczenie odczytuje")
    return None


def _objects(patient: PatientId, read: Sequence[Source]) -> Iterable[AuditObject]:
    yield AuditObject("patient", str(patient))
    for source in read:
        yield AuditObject("document", source.unique_id)


def _together(asked: Iterable[AuditObject], found: Iterable[AuditObject]) -> tuple[AuditObject, ...]:
    """The affinity-domain id first, then whatever the request called the patient."""
    patients = [o for o in found if o.kind == "patient"]
    return tuple(dict.fromkeys((*patients, *asked, *found)))
