"""What patients see of themselves and of whom they act for (``/patient``)."""

from __future__ import annotations

from asyncio import gather
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.web.areas import PATIENTS
from obieg.web.desk import Desk, Visit
from obieg.web.found_texts import find_texts
from obieg.web.images import Place, Viewer
from obieg.web.patient_access import AccessPages
from obieg.web.patient_consents import restricting
from obieg.web.patient_links import LinkPages
from obieg.web.patient_log import named
from obieg.web.patient_messages import MessagePages
from obieg.web.patient_own import OwnPages
from obieg.web.patient_permissions import PermissionPages
from obieg.web.patient_records import KINDS, SECTIONS, Document, coverage, resources, summary, versions
from obieg.web.patient_representatives import RepresentativePages
from obieg.web.patient_shell import PURPOSES, Record, Shell, next_page, written
from obieg.web.reader import Reader
from obieg.web.seen_events import seen_events

_NEWEST = 4  # documents at home
_LOOKED = 3  # lines of the log there
_RECENT = timedelta(days=30)
_FHIR = "application/fhir+json"
_ENDINGS = {"text/xml": "xml", "application/pdf": "pdf", "image/png": "png", "image/jpeg": "jpg", "text/plain": "txt"}


class PatientPages:
    """The pages; see the module docstring."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._shell = Shell(desk)
        self._reader = Reader(desk)
        self._viewer = Viewer(desk)

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        page = self._shell.routes
        return (
            *page("", get=self._home),
            *page("/documents", get=self._documents),
            *OwnPages(self._shell).routes,
            *page("/documents/{document}", get=self._document),
            *page("/documents/{document}/file", get=self._file),
            *page("/documents/{document}/pdf", get=self._pdf),
            *page("/documents/{document}/image/{number}", get=self._picture),
            *page("/documents/{document}/fhir", get=self._fhir),
            *page("/documents/{document}/images", get=self._images),
            self._desk.route(f"{PATIENTS}/images/{{basis}}/{{manifest}}/{{path:path}}", get=self._image),
            *page("/coverage", get=self._coverage),
            *page("/summary", get=self._summary),
            *page("/summary/fhir", get=self._summary_file),
            *page("/everything", get=self._everything),
            *page("/everything/fhir", get=self._everything_file),
            *AccessPages(self._shell).routes,
            *PermissionPages(self._shell).routes,
            *RepresentativePages(self._shell).routes,
            *LinkPages(self._shell).routes,
            *MessagePages(self._shell).routes,
        )

    # pages ----------------------------------------------------------------------------------------------------------

    async def _home(self, record: Record) -> Response:
        listed, (lines, _) = await gather(self._shell.documents(record), self._shell.log(record, others=True))
        found = [d for d in listed if d.current]
        looks = [line for line in named(lines, found) if line.look and not line.relative]
        return self._shell.show(
            record,
            "home",
            "home",
            number=len(found),
            newest=found[:_NEWEST],
            places=len({d.facility for d in found}),
            looks=looks[:_LOOKED],
            recently=len({line.who for line in looks if line.last > record.now - _RECENT}),
            coverage=coverage(found, record.now),
            begin=min((d.when for d in found), default=record.now),
        )

    async def _documents(self, record: Record) -> Response:
        everything, stated = await gather(self._shell.documents(record), self._shell.consents(record))
        current = [d for d in everything if d.current]
        wanted = {name: record.query.get(name, "") for name in ("kind", "facility", "year", "q")}
        words = wanted["q"].casefold().split()
        texts = await find_texts(self._desk, record.visit, record.subject.id, wanted["q"])
        passages = texts.passages if texts is not None else {}
        found = [
            d
            for d in current
            if (not wanted["kind"] or d.kind == wanted["kind"])
            and (not wanted["facility"] or d.facility == wanted["facility"])
            and (not wanted["year"] or f"{d.when.year}" == wanted["year"])
            and (d.id in passages or all(word in d.words for word in words))
        ]
        kinds = Counter(d.kind for d in current)
        return self._shell.show(
            record,
            "documents",
            "documents",
            number=len(current),
            places=sorted({d.facility for d in current if d.facility}),
            years=sorted({d.when.year for d in current}, reverse=True),
            counts={kind: kinds[kind] for kind in KINDS if kinds[kind]},
            months=_months(found),
            found=len(found),
            texts=texts,
            seen=await seen_events(self._desk, record.visit, record.subject.id),
            wanted=wanted,
            restricted={d.id for d in found if restricting(d, versions(d, everything), stated, record.now)},
        )

    async def _document(self, record: Record) -> Response:
        everything = await self._shell.documents(record)
        document = _named(record, everything)
        if document is None:
            return self._desk.missing(record.visit)
        others = versions(document, everything)
        address = record.visit.request.url.path
        stated, (lines, _), read = await gather(
            self._shell.consents(record),
            self._shell.log(record, others=True),
            self._reader.view(record.visit, document.id, document.content_type, address),
        )
        looks = [line for line in lines if line.look and document.unique_id in line.documents]
        return self._shell.show(
            record,
            "document",
            "documents",
            document=document,
            versions=others,
            titles={d.id: d for d in (document, *others)},
            newer=next((d for d in others if d.current), None) if not document.current else None,
            restrictions=restricting(document, others, stated, record.now),
            looks=sum(line.times for line in looks),
            last_look=looks[0] if looks else None,
            view=read.view,
            away=read.away,
            images=self._images_of(record, document),
        )

    async def _coverage(self, record: Record) -> Response:
        found = [d for d in await self._shell.documents(record) if d.current]
        begin = min((d.when for d in found), default=record.now)
        return self._shell.show(
            record, "coverage", "documents", coverage=coverage(found, record.now), number=len(found), begin=begin
        )

    async def _summary(self, record: Record) -> Response:
        answer = await self._desk.fhir(record.visit, "[id]/$summary", "Patient", record.subject.id)
        sections, made, language = summary(answer.body)
        return self._shell.show(
            record, "summary", "summary", sections=sections, made=made, original=language, known_sections=SECTIONS
        )

    async def _everything(self, record: Record) -> Response:
        return self._shell.show(record, "everything", "summary")

    # files ----------------------------------------------------------------------------------------------------------

    async def _file(self, record: Record) -> Response:
        document = _named(record, await self._shell.documents(record))
        if document is None:
            return self._desk.missing(record.visit)
        answer = await self._desk.fhir(record.visit, "read", "Binary", document.id)
        if answer.content is None:
            return self._desk.missing(record.visit)
        ending = _ENDINGS.get(document.content_type, "bin")
        return self._desk.kit.file(answer.content.chunks(), document.content_type, f"{document.title}.{ending}")

    async def _pdf(self, record: Record) -> Response:
        document = _named(record, await self._shell.documents(record))
        if document is None:
            return self._desk.missing(record.visit)
        note = f"{record.visit.requester.person_name}, {record.now:%d.%m.%Y %H:%M}"
        return await self._reader.pdf(record.visit, document.id, document.title, note)

    async def _picture(self, record: Record) -> Response:
        document = _named(record, await self._shell.documents(record))
        if document is None:
            return self._desk.missing(record.visit)
        return await self._reader.picture(record.visit, document.id, record.visit.request.path_params["number"])

    async def _images(self, record: Record) -> Response:
        document = _named(record, await self._shell.documents(record))
        images = self._images_of(record, document) if document is not None else ""
        if document is None or not images:
            return self._desk.missing(record.visit)
        back = f"{record.subject.prefix}/documents/{document.id}"
        return await self._viewer.page(
            record.visit, Place(document.unique_id, images, back, patient=record.subject.name)
        )

    async def _image(self, visit: Visit) -> Response:
        """Asked for many times of one study, so that for whom they act is not asked anew: access control knows it."""
        basis, manifest = (visit.request.path_params[name] for name in ("basis", "manifest"))
        if basis not in PURPOSES:
            return self._desk.missing(visit)
        return self._viewer.image(visit.acting(purpose_of_use=PURPOSES[basis]), manifest)

    def _images_of(self, record: Record, document: Document) -> str:
        """Where the images of a manifest are given out; "" of any other document."""
        if not self._viewer.is_of(document.content_type):
            return ""
        return f"{PATIENTS}/images/{record.subject.basis}/{quote(document.unique_id, safe='')}"

    async def _fhir(self, record: Record) -> Response:
        document = _named(record, await self._shell.documents(record))
        if document is None:
            return self._desk.missing(record.visit)
        answer = await self._desk.fhir(record.visit, "read", "DocumentReference", document.id)
        return self._desk.kit.file(written(answer.body), _FHIR, f"{document.title}.json")

    async def _summary_file(self, record: Record) -> Response:
        answer = await self._desk.fhir(record.visit, "[id]/$summary", "Patient", record.subject.id)
        return self._desk.kit.file(written(answer.body), _FHIR, f"IPS {record.now:%Y-%m-%d}.json")

    async def _everything_file(self, record: Record) -> Response:
        """What the node knows of the person, what they state and who saw it, in one Bundle."""
        entries: list[object] = []
        for interaction, resource, id_, parameters in (
            ("[id]/$everything", "Patient", record.subject.id, [("_count", "500")]),
            ("search-type", "Consent", "", [("patient", record.reference), ("_count", "200")]),
            ("[id]/$access-log", "Patient", record.subject.id, [("_count", "500")]),
        ):
            more: list[tuple[str, str]] = []
            while True:
                answer = await self._desk.fhir(
                    record.visit, interaction, resource, id_, parameters=[*parameters, *more]
                )
                entries += [{"resource": r} for r in resources(answer.body)]
                more = next_page(answer.body)
                if not more:
                    break
        bundle = {"resourceType": "Bundle", "type": "collection", "timestamp": record.now.isoformat(), "entry": entries}
        return self._desk.kit.file(written(bundle), _FHIR, f"obieg {record.now:%Y-%m-%d}.json")


def _named(record: Record, found: Sequence[Document]) -> Document | None:
    """The document of the address; None of one that is not there, or not to be seen, or of somebody else."""
    wanted = record.visit.request.path_params["document"]
    return next((d for d in found if d.id == wanted), None)


def _months(found: Sequence[Document]) -> list[tuple[int, int, list[Document]]]:
    """Documents by year and month, in their order."""
    months: dict[tuple[int, int], list[Document]] = {}
    for document in found:
        months.setdefault((document.when.year, document.when.month), []).append(document)
    return [(year, month, several) for (year, month), several in months.items()]
