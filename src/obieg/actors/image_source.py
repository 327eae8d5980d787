"""The Imaging Document Source as readers meet it: images of a manifest whom they may see (IHE RAD-107).

Whoever may read the manifest (as by ITI-43) is given the images that it lists; the archive behind is asked for them one
by one, in our own words. What is missing, hidden, not listed or not in the archive is answered alike. A manifest that
lies at a facility is fetched there as any document is, once while it is remembered.

Whoever publishes documents could write a manifest that lists other images than theirs. So manifests are registered by
systems, never in the name of a person (:func:`obieg.mapping.kos.opening`), and a study is given out only where its
Patient ID in the archive names the patient whose document the manifest is.

A study of 200 slices is asked for in 200 requests and looked at once: a record is made for the first request of its
kind and then left out, for each caller, basis and manifest, for a quarter of an hour in each worker. It is committed
before the first byte is given out. A refusal is always recorded.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta

import orjson
import structlog
from msgspec.structs import replace

from obieg.actors.access_control import AccessControl
from obieg.actors.document_repository import DocumentRepository
from obieg.actors.patient_index import PatientIndex
from obieg.domain.audit import AuditObject
from obieg.domain.document_store import PIECE_SIZE_BYTES
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.images import ImageName, ImagesAsked, Kind, ListedSeries, Manifest, ShownStudy, nothing
from obieg.domain.permits import Named
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.registry import FoundDocument, LocatedDocument
from obieg.mapping import dicom_json, wado
from obieg.mapping.kos import read_manifest
from obieg.protocol import ArchivedPart, AuditSink, Context, ImageArchive
from obieg.wire.dicom import DATA_SET_BYTES_MAX, DicomRefused

RECORD_AGAIN = timedelta(minutes=15)
RECORDED_MAX = 10_000  # of one worker; the oldest is forgotten, and recorded again
MANIFESTS_MAX = 64  # kept by a worker, read already
STUDIES_MAX = 10_000  # whose Patient ID a worker remembers
SERIES_MAX = 500  # of an overview
ASKED_AT_ONCE = 4  # of the archive, for one request
_LARGE_BYTES = 256 * 1024

log = structlog.get_logger()

Answer = tuple[bytes | ShownStudy | AsyncGenerator[tuple[ImageName, ArchivedPart]], ImagesAsked]


class ImageSource:
    """Gives out the images of manifests; see the module docstring."""

    def __init__(
        self,
        repository: DocumentRepository,
        archive: ImageArchive,
        audit: AuditSink,
        *,
        index: PatientIndex,
        patient_authority: str,
        access: AccessControl,
        assigning_authority: str,
    ) -> None:
        """``patient_authority``: the OID of whoever assigns the archive's Patient IDs."""
        self._repository = repository
        self._archive = archive
        self._audit = audit
        self._index = index
        self._patient_authority = patient_authority
        self._access = access
        self._assigning_authority = assigning_authority
        self._manifests: OrderedDict[tuple[str, str], Manifest] = OrderedDict()
        self._patients: OrderedDict[str, str] = OrderedDict()  # Patient ID of a study in the archive
        self._recorded: OrderedDict[tuple[str, ...], datetime] = OrderedDict()

    async def retrieve(self, asked: ImagesAsked, context: Context) -> Answer:
        """What is asked for, with the question. Raises Problem ``AddressNotFound``, RetryLater."""
        manifest = await self._manifest(asked.document, context)
        study = asked.study or manifest.studies[0]
        context.objects += (AuditObject("study", study),)
        listed = manifest.listed(study, asked.series, asked.instance)
        if not listed:
            raise nothing()
        await self._expect_same_patient(listed[0], context)
        if asked.kind is Kind.OVERVIEW:
            shown = await self._overview(asked.document, study, manifest, listed)
            await self._record(asked, context)
            return shown, asked
        if asked.kind is Kind.THUMBNAIL:  # the middle of the longest series
            longest = max(listed, key=lambda series: len(series.instances))
            names = [[*longest.names()][len(longest.instances) // 2]]
        else:
            names = [name for series in listed for name in series.names()]
        if asked.kind is Kind.METADATA:
            found = [each for series in listed for each in await self._metadata(series, asked.instance)]
            data = await asyncio.to_thread(orjson.dumps, found)
            await self._record(asked, context)
            return data, asked
        paths = wado.archive_paths(asked, names)
        path, name, _ = next(paths)
        first, asked = await self._opened(asked, path)
        accept = wado.archive_accept(asked)
        try:
            await self._record(asked, context)
        except BaseException:
            await first.chunks().aclose()
            raise

        async def parts() -> AsyncGenerator[tuple[ImageName, ArchivedPart]]:
            yield name, first
            for path, following, _ in paths:
                yield following, await self._archive.open(path, accept, asked.parameters)

        return parts(), asked

    async def _opened(self, asked: ImagesAsked, path: Sequence[str]) -> tuple[ArchivedPart, ImagesAsked]:
        """The first part in the first form that the archive can give it in, and the question for that."""
        for media_type in asked.or_else:
            try:
                return await self._archive.open(path, wado.archive_accept(asked), asked.parameters), asked
            except Problem as problem:
                if problem.findings[0].code != "NotAcceptable":
                    raise
            asked = replace(asked, media_type=media_type)
        return await self._archive.open(path, wado.archive_accept(asked), asked.parameters), asked

    # the manifest ---------------------------------------------------------------------------------------------------

    async def _manifest(self, unique_id: str, context: Context) -> Manifest:
        """What the document lists, if the caller may read it and it is a manifest."""
        seen = await self._access.see(Named(unique_ids=(unique_id,)), context)
        seen.refused(context, self._assigning_authority)
        row = (await self._repository.held((unique_id,), seen.sight)).get(unique_id)
        found = row or await self._repository.located_elsewhere(unique_id, seen.sight)
        if found is None:
            raise nothing()
        whose = found.patient_id.partition("^")[0]
        seen.of((whose,)).told(context)
        if isinstance(found, LocatedDocument):
            repository, sha1 = found.repository_unique_id, found.hash
        else:
            repository, sha1 = self._repository.repository_unique_id, found.sha1
        context.objects = (
            AuditObject("patient", f"{whose}^^^&{self._assigning_authority}&ISO"),
            AuditObject("document", unique_id, details=(("Repository Unique Id", repository),)),
        )
        key = (unique_id, sha1)
        manifest = self._manifests.pop(key, None) or await self._read(found, context)
        self._manifests[key] = manifest
        if len(self._manifests) > MANIFESTS_MAX:
            self._manifests.popitem(last=False)
        return manifest

    async def _read(self, found: FoundDocument | LocatedDocument, context: Context) -> Manifest:
        size_max = min(DATA_SET_BYTES_MAX, PIECE_SIZE_BYTES * 16)
        if found.mime_type != wado.DICOM or found.size is None or found.size > size_max:
            raise nothing()
        held = await self._repository.fetch(found, context) if isinstance(found, LocatedDocument) else found
        data = await self._repository.read(held)
        try:
            if len(data) <= _LARGE_BYTES:
                return read_manifest(data)
            return await asyncio.to_thread(read_manifest, data)
        except DicomRefused as error:
            log.info("a document is no manifest of images", document=found.unique_id, reason=str(error))
            raise nothing() from None

    async def _expect_same_patient(self, listed: ListedSeries, context: Context) -> None:
        """Raises Problem where the archive has the study of somebody else."""
        archived = self._patients.pop(listed.study, None)
        if archived is None:
            [item] = await self._metadata(listed, listed.instances[0])
            archived = dicom_json.text(item, "PatientID")
        self._patients[listed.study] = archived
        if len(self._patients) > STUDIES_MAX:
            self._patients.popitem(last=False)
        [whose] = [patient_id(o.identifier) for o in context.objects if o.kind == "patient"]
        named = PatientId(archived, self._patient_authority)
        if whose is None or not archived or not await self._index.is_one_patient(named, whose):
            said = "the archive has the study under a Patient ID that does not name the patient of the manifest"
            raise Problem([nothing().findings[0]._replace(reason=said)])

    # metadata -------------------------------------------------------------------------------------------------------

    async def _metadata(self, series: ListedSeries, instance: str = "") -> list[dict[str, object]]:
        """Of the listed objects of a series, or of one of them."""
        one = ("instances", instance) if instance else ()
        data = await self._archive.metadata(("studies", series.study, "series", series.uid, *one, "metadata"))
        try:
            found = await asyncio.to_thread(dicom_json.read, data, frozenset(series.names()))
        except DicomRefused as error:
            raise RetryLater(f"the archive of images does not answer with DICOM JSON: {error}") from None
        if not found:
            raise nothing()
        return found

    async def _overview(
        self, document: str, study: str, manifest: Manifest, chosen: Sequence[ListedSeries]
    ) -> ShownStudy:
        """The study with the images of one series: the chosen one, or the first by its number."""
        turn = asyncio.Semaphore(ASKED_AT_ONCE)

        async def about(series: ListedSeries) -> tuple[ListedSeries, list[dict[str, object]]]:
            async with turn:
                return series, await self._metadata(series, series.instances[len(series.instances) // 2])

        every = await asyncio.gather(*map(about, manifest.listed(study)[:SERIES_MAX]))
        shown = {series.uid: dicom_json.shown_series(series, found, images=False) for series, found in every}
        wanted = chosen[0].uid if len(chosen) == 1 else min(shown.values(), key=lambda s: (s.number, s.uid)).uid
        [whole] = manifest.listed(study, wanted)
        shown[wanted] = dicom_json.shown_series(whole, await self._metadata(whole), images=True)
        return dicom_json.shown_study(document, study, tuple(shown.values()), every[0][1][0], wanted)

    # the record -----------------------------------------------------------------------------------------------------

    async def _record(self, asked: ImagesAsked, context: Context) -> None:
        """See the module docstring. What a proof of one use uses up is always stored."""
        by = context.requester
        kind = wado.ZIP if asked.media_type == wado.ZIP else asked.kind.value
        caller = (by.system, by.person, by.role, by.organisation, by.purpose_of_use, by.acting_for, by.token)
        key = (*caller, by.address, asked.document, asked.study, kind, context.access)
        now = context.received_at
        before = self._recorded.get(key)
        if before is None or now - before >= RECORD_AGAIN or by.spent:
            await self._audit.record(context.audit(detail=f"images: {kind}"))
            self._recorded.pop(key, None)
            self._recorded[key] = now
            if len(self._recorded) > RECORDED_MAX:
                self._recorded.popitem(last=False)
        context.audited = True
