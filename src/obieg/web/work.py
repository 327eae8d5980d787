"""What professionals see of patients (``/work``): search, record, documents, results, consent and break-glass.

For what a record is opened stands in its address (``treatment``, ``coordination``, ``emergency``), so that nobody reads
for another purpose than the page says. A person is searched for by a form that is posted: numbers of people stand in no
address. Where nothing may be seen the page is the same, whether there is something or not.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.actors.awaited_documents import AwaitedDocuments
from obieg.actors.document_viewer import View
from obieg.actors.people import ASSISTANTS, Current, People
from obieg.codes.load import toml
from obieg.domain import pesel
from obieg.domain.accounts import ROLES, LoginRefused, Professional, own_path
from obieg.domain.awaiting import Awaited
from obieg.domain.obligations import EXPLANATION_LENGTHS, FRESH, MINUTES_MAX, REASONS
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.reasons import is_reason
from obieg.domain.requester import Requester
from obieg.domain.text_search import LENGTH_MAX
from obieg.domain.zone import WARSAW
from obieg.web import work_record as record
from obieg.web.areas import PROFESSIONALS
from obieg.web.desk import Answer, Desk, Visit
from obieg.web.found_texts import find_texts
from obieg.web.images import Place, Viewer
from obieg.web.kit import language_of, texts, visiting
from obieg.web.reader import Reader
from obieg.web.seen_events import seen_events
from obieg.web.work_handout import COUNTER, HANDERS, HandoutPages
from obieg.web.work_messages import MessageDesk

# For what a record is opened: part of the address -> HL7's PurposeOfUse.
PURPOSES = {"treatment": "TREAT", "coordination": "COC", "emergency": "BTG"}
EMERGENCY = "emergency"
_GROUPS: dict[str, list[str]] = toml("access.toml")["roles"]
READERS = frozenset(_GROUPS["medical"])  # who may read by themselves
RECORDERS = READERS | {*_GROUPS["clerk"]}  # who may record that a patient consents
WORKERS = RECORDERS | COUNTER | {*_GROUPS["assistant"]}  # for whom these pages are
_PESEL = f"urn:oid:{toml('national/pl/pik.toml')['roots']['pesel']}"
_FOUND_MAX = 20
_DOCUMENTS_MAX = 200
_DAY = re.compile(r"(?:(\d{1,2})[.-/](\d{1,2})[.-/])?(\d{4})|(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_SEEN_AS_NOTHING = frozenset({"AddressNotFound", "NotPermitted"})
_CODE_TROUBLES = {
    "PatientNotReachable": "unreachable",
    "TooManyRequests": "too_many",
    "ConsentCodeRefused": "wrong",
    "DataTypeError": "wrong",
    "NotPermitted": "not_permitted",
}
# Media types that a browser shows by itself, and nothing in them acts.
_INLINE = frozenset({"application/pdf", "image/png", "image/jpeg", "text/plain"})
_SUFFIXES = {"text/xml": "xml", "application/xml": "xml", "application/pdf": "pdf", "text/plain": "txt"}


Parameters = Sequence[tuple[str, str]]


class Question(NamedTuple):
    """Who is searched for, as it was typed."""

    pesel: str = ""
    family: str = ""
    given: str = ""
    birth: str = ""
    purpose: str = "treatment"

    @property
    def trouble(self) -> str:
        """What is wrong with it: the end of a key of the texts; "" where it can be asked."""
        if self.pesel:
            return "" if pesel.read(self.pesel).valid else "pesel"
        if not self.family:
            return "empty" if not self.birth else "family"
        return "" if _fhir_day(self.birth) else "birth"

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """As ITI-78 asks it."""
        if self.pesel:
            return [("identifier", f"{_PESEL}|{pesel.read(self.pesel).number}")]
        given = [("given", _plain(self.given))] if self.given else []
        return [
            ("family", _plain(self.family)),
            *given,
            ("birthdate", _fhir_day(self.birth)),
            ("_count", str(_FOUND_MAX)),
        ]


def _plain(text: str) -> str:
    return re.sub(r"([\\$,|])", r"\\\1", text)


def _fhir_day(text: str) -> str:
    """A date or a year; "" of anything else."""
    said = _DAY.fullmatch(text.strip())
    if not said:
        return ""
    day, month, year, iso_year, iso_month, iso_day = said.groups()
    if iso_year:
        year, month, day = iso_year, iso_month, iso_day
    if day is None:
        return year
    try:
        return f"{datetime(int(year), int(month), int(day), tzinfo=UTC):%Y-%m-%d}"
    except ValueError:
        return ""


def read_question(fields: dict[str, str]) -> Question:
    """Of the form, or of the one line in the header: a PESEL, or a name and a date of birth."""
    purpose = fields.get("purpose", "")
    purpose = purpose if purpose in PURPOSES else "treatment"
    line = fields.get("q", "").strip()
    if not line:
        named = {name: " ".join(fields.get(name, "").split()) for name in ("pesel", "family", "given", "birth")}
        return Question(purpose=purpose, **named)
    if re.fullmatch(r"[\d\s-]+", line) and _fhir_day(line) == "":
        return Question(pesel=line, purpose=purpose)
    words = line.replace(",", " ").split()
    days = [word for word in words if _fhir_day(word)]
    names = [word for word in words if word not in days]
    return Question("", next(iter(names), ""), " ".join(names[1:]), next(iter(days), ""), purpose)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A patient's record as far as whoever visits may see it."""

    purpose: str
    person: record.Person
    basis: record.Basis
    documents: list[record.Document]
    duplicates: int
    sources: list[record.Source]
    more: bool  # there are older documents than those that are shown
    summary: dict[str, Any] | None  # None: it could not be made now, or nobody asked

    @property
    def address(self) -> str:
        """Of the record."""
        return f"{PROFESSIONALS}/{self.purpose}/{self.person.id}"


class Come(NamedTuple):
    """A patient's documents that somebody waits for, and those that have come."""

    awaited: Awaited
    person: record.Person
    documents: list[record.Document]


class WorkPages:
    """The pages; see the module docstring."""

    def __init__(self, desk: Desk, awaited: AwaitedDocuments, people: People) -> None:
        """``people``: who says for whom assistants may act."""
        self._desk = desk
        self._awaited = awaited
        self._people = people
        self._reader = Reader(desk)
        self._viewer = Viewer(desk)
        self._facilities: dict[str, str] = {}  # names of organisations of the directory

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        route = self._desk.route
        patient = f"{PROFESSIONALS}/{{purpose}}/{{patient}}"
        return (
            route(PROFESSIONALS, get=self._search, post=self._found),
            route(f"{PROFESSIONALS}/keys", get=self._keys),
            route(f"{PROFESSIONALS}/acting", post=self._act_for),
            route(f"{PROFESSIONALS}/awaited", get=self._awaited_page),
            route(f"{PROFESSIONALS}/awaited/end", post=self._end_awaited),
            *MessageDesk(self._desk, self._page).routes,
            *HandoutPages(self._desk, self._page).routes,
            route(patient, get=self._record),
            route(f"{patient}/results", get=self._results),
            route(f"{patient}/compare", get=self._compare),
            route(f"{patient}/awaited", post=self._wait),
            route(f"{patient}/document/{{document}}", get=self._document),
            route(f"{patient}/document/{{document}}/original", get=self._original),
            route(f"{patient}/document/{{document}}/pdf", get=self._pdf),
            route(f"{patient}/document/{{document}}/image/{{number}}", get=self._picture),
            route(f"{patient}/document/{{document}}/images", get=self._images),
            route(f"{patient}/images/{{manifest}}/{{path:path}}", get=self._image),
            route(f"{patient}/consent", get=self._consent, post=self._ask_consent),
            route(f"{patient}/consent/code", post=self._confirm_consent),
            route(f"{patient}/emergency", get=self._emergency, post=self._open_emergency),
            route(f"{patient}/emergency/end", post=self._end_emergency),
        )

    async def _page(self, visit: Visit, template: str, section: str, *, status: int = 200, **values: Any) -> Response:
        who = visit.requester
        language = language_of(visit.request)
        return self._desk.kit.page(
            visit.request,
            f"work/{template}",
            status=status,
            csrf=visit.csrf,
            who=who,
            role=ROLES.get(who.role, {}).get(language, who.role),
            facility=await self._facility(visit),
            section=section,
            reads=_reads(who),
            rescues=who.role in READERS,
            hands=who.role in HANDERS,
            counter=who.role in COUNTER,
            assists=who.role in ASSISTANTS,
            professionals=await self._professionals(visit),
            here=own_path(visit.request.url.path + (f"?{query}" if (query := visit.request.url.query) else "")),
            records=who.role in RECORDERS,
            now=datetime.now(UTC),
            **values,
        )

    # for whom assistants act ----------------------------------------------------------------------------------------

    async def _professionals(self, visit: Visit) -> Sequence[Professional]:
        """For whom whoever visits may act here: of assistants alone."""
        if visit.requester.role not in ASSISTANTS:
            return ()
        current = await self._session(visit)
        return current.professionals if current is not None else ()

    async def _session(self, visit: Visit) -> Current | None:
        return await self._people.session(self._desk.kit.cookie(visit.request, self._desk.kit.session_cookie))

    async def _act_for(self, visit: Visit) -> Response:
        current = await self._session(visit)
        if current is None:
            return self._desk.missing(visit)
        try:
            await self._people.act_for(current, visit.fields.get("professional", ""), visiting(visit.request))
        except LoginRefused:
            return await self._search_page(visit, Question(), trouble="assists", status=422)
        return self._desk.kit.go(own_path(visit.fields.get("then", "")) or PROFESSIONALS)

    async def _facility(self, visit: Visit) -> str:
        """What the directory calls the facility of whoever visits."""
        organisation = visit.requester.organisation
        if organisation and organisation not in self._facilities:
            root, _, value = organisation.rpartition("#")
            asked = [("identifier", f"urn:oid:{root}|{value}" if root else value)]
            try:
                found = await self._desk.fhir(visit, "search-type", "Organization", parameters=asked)
            except (Problem, RetryLater):
                return value
            names = [each.get("name", "") for each in _resources(found.body, "Organization")]
            self._facilities[organisation] = next(filter(None, names), value)
        return self._facilities.get(organisation, "")

    # search ---------------------------------------------------------------------------------------------------------

    async def _search(self, visit: Visit) -> Response:
        return await self._search_page(visit, Question())

    async def _found(self, visit: Visit) -> Response:
        question = read_question(visit.fields)
        trouble = question.trouble
        if visit.requester.role in COUNTER and not question.pesel:
            trouble = "pesel"  # somebody stands there, with a number
        if trouble:
            return await self._search_page(visit, question, trouble=trouble, status=422)
        asking = visit.acting(purpose_of_use=PURPOSES[question.purpose])
        found = await self._desk.fhir(asking, "search-type", "Patient", parameters=question.parameters)
        today = datetime.now(UTC).date()
        people = [record.read_person(patient, today) for patient in _resources(found.body, "Patient")]
        return await self._search_page(visit, question, found=people, more=found.body.get("total", 0) > len(people))

    async def _search_page(
        self,
        visit: Visit,
        question: Question,
        *,
        found: list[record.Person] | None = None,
        more: bool = False,
        trouble: str = "",
        status: int = 200,
    ) -> Response:
        return await self._page(
            visit,
            "search.html",
            "search",
            status=status,
            question=question,
            purposes=[p for p in PURPOSES if p != EMERGENCY or _reads(visit.requester)],
            found=found,
            more=more,
            trouble=trouble,
        )

    async def _keys(self, visit: Visit) -> Response:
        return await self._page(visit, "keys.html", "keys")

    # the record -----------------------------------------------------------------------------------------------------

    async def _open(self, visit: Visit, *, summary: bool = False) -> Opened | None:
        """The record that the address names; None where there is no such patient or purpose."""
        purpose, patient = (visit.request.path_params[name] for name in ("purpose", "patient"))
        if purpose not in PURPOSES:
            return None
        asking = visit.acting(purpose_of_use=PURPOSES[purpose])
        theirs = [("patient", f"Patient/{patient}"), ("_count", str(_DOCUMENTS_MAX))]
        shown, listed, made = await asyncio.gather(
            self._desk.fhir(asking, "read", "Patient", patient),
            self._asked(asking, "search-type", "DocumentReference", parameters=theirs),
            self._asked(asking, "[id]/$summary", "Patient", patient) if summary else _nothing(),
        )
        if listed is None and made is None:
            raise RetryLater("neither documents nor the summary can be read now")
        bases = [record.read_basis(answer.access) for answer in (listed, made) if answer is not None]
        basis = next(filter(None, bases), record.Basis())
        found = _resources(listed.body, "DocumentReference") if listed is not None else ()
        held = [record.read_document(resource, "region") for resource in found]
        documents, duplicates = record.timeline(held)
        return Opened(
            purpose=purpose,
            person=record.read_person(shown.body, datetime.now(UTC).date()),
            basis=basis,
            documents=documents,
            duplicates=duplicates,
            sources=[record.Source("region", len(held), answered=listed is not None)],
            more=listed is not None and listed.body.get("total", 0) > len(held),
            summary=made.body if made is not None and made.body else None,
        )

    async def _asked(
        self, visit: Visit, interaction: str, resource: str, id_: str = "", *, parameters: Parameters = ()
    ) -> Answer | None:
        """What is answered; an empty answer where there is nothing to be seen, None where nothing answers now."""
        try:
            return await self._desk.fhir(visit, interaction, resource, id_, parameters=parameters)
        except RetryLater:
            return None
        except Problem as problem:
            if {finding.code for finding in problem.findings} <= _SEEN_AS_NOTHING:
                return Answer({}, None, 404, "", "")
            raise

    async def _record(self, visit: Visit) -> Response:
        headers = visit.request.headers
        # The timeline and the preview alone; a step back in the browser wants the whole page.
        swapped = headers.get("hx-request") == "true" and "hx-history-restore-request" not in headers
        opened = await self._open(visit, summary=not swapped)
        if opened is None:
            return self._desk.missing(visit)
        if not (opened.basis or opened.documents):
            return await self._closed(visit, opened)
        kind = visit.request.query_params.get("kind", "")
        asking = visit.acting(purpose_of_use=PURPOSES[opened.purpose])
        wanted = visit.request.query_params.get("text", "")[:LENGTH_MAX]
        texts, seen = await asyncio.gather(
            find_texts(self._desk, asking, opened.person.id, wanted),
            seen_events(self._desk, asking, opened.person.id),
        )
        events = seen.events if texts is None and kind in ("", "event") else ()
        fitting = [d for d in opened.documents if texts is None or not texts.answered or d.id in texts.passages]
        listed = [d for d in fitting if d.kind == kind or kind not in (*record.KINDS, "event")]
        chosen = visit.request.query_params.get("document", "")
        index = next((i for i, d in enumerate(listed) if d.id == chosen), 0)
        counts = {k: sum(d.kind == k for d in fitting) for k in record.KINDS}
        return await self._page(
            visit,
            "timeline.html" if swapped else "record.html",
            "record",
            opened=opened,
            person=opened.person,
            kind=kind if kind in (*record.KINDS, "event") else "",
            texts=texts,
            fitting=len(fitting) + (len(seen.events) if texts is None else 0),
            kinds={k: count for k, count in counts.items() if count},
            years=record.by_year([*listed, *events]),
            seen=seen,
            shown=listed[index] if listed else None,
            views=await self._views(visit, opened, listed[index : index + 1]),
            previous=listed[index - 1] if index > 0 else None,
            following=listed[index + 1] if index + 1 < len(listed) else None,
            facilities=record.facilities(opened.documents),
            emergency=record.read_emergency(opened.summary) if opened.summary is not None else None,
            results=len(record.read_results(opened.summary)) if opened.summary is not None else 0,
        )

    async def _closed(self, visit: Visit, opened: Opened) -> Response:
        """Nothing may be seen: the same page, whether there is something or not."""
        return await self._page(
            visit,
            "closed.html",
            "record",
            opened=opened,
            person=opened.person,
            reasons=REASONS,
            lengths=EXPLANATION_LENGTHS,
            minutes=MINUTES_MAX,
            fresh=_fresh(visit.requester),
            given={},
            trouble=(),
        )

    async def _results(self, visit: Visit) -> Response:
        opened = await self._open(visit, summary=True)
        if opened is None:
            return self._desk.missing(visit)
        if not (opened.basis or opened.documents):
            return await self._closed(visit, opened)
        tests = record.read_results(opened.summary or {})
        chosen = visit.request.query_params.get("test", "")
        longest = max(tests, key=lambda test: len(test.values), default=None)
        test = next((test for test in tests if test.key == chosen), longest)
        return await self._page(
            visit,
            "results.html",
            "record",
            opened=opened,
            person=opened.person,
            tests=tests,
            test=test,
            chart=record.chart(test) if test is not None else None,
            drawing=record,
        )

    # documents ------------------------------------------------------------------------------------------------------

    async def _document(self, visit: Visit) -> Response:
        opened = await self._open(visit)
        found = _found_in(opened, visit.request.path_params["document"])
        if opened is None or found is None:
            return self._desk.missing(visit)
        views = await self._views(visit, opened, (found,))
        return await self._page(
            visit, "document.html", "record", opened=opened, person=opened.person, document=found, views=views
        )

    async def _compare(self, visit: Visit) -> Response:
        opened = await self._open(visit)
        named = [_found_in(opened, visit.request.query_params.get(name, "")) for name in ("one", "other")]
        pair = [each for each in named if each is not None]
        if opened is None or len(pair) < len(named):
            return self._desk.missing(visit)
        views = await self._views(visit, opened, pair)
        return await self._page(
            visit, "compare.html", "record", opened=opened, person=opened.person, pair=pair, views=views
        )

    async def _views(
        self, visit: Visit, opened: Opened, documents: Sequence[record.Document]
    ) -> dict[str, tuple[View | None, str, str]]:
        """Of each document its content as it is read, why there is none, and where its images are given out."""
        asking = visit.acting(purpose_of_use=PURPOSES[opened.purpose])
        found = {}
        for each in documents:
            address = f"{opened.address}/document/{each.id}"
            read = await self._reader.view(asking, each.id, each.content_type, address)
            found[each.id] = *read, self._images_of(opened, each)
        return found

    async def _pdf(self, visit: Visit) -> Response:
        opened = await self._open(visit, summary=False)
        found = _found_in(opened, visit.request.path_params["document"])
        if opened is None or found is None:
            return self._desk.missing(visit)
        asking = visit.acting(purpose_of_use=PURPOSES[opened.purpose])
        note = f"{visit.requester.person_name}, {datetime.now(WARSAW):%d.%m.%Y %H:%M}"
        return await self._reader.pdf(asking, found.id, found.title, note)

    async def _picture(self, visit: Visit) -> Response:
        purpose, document, number = (visit.request.path_params[n] for n in ("purpose", "document", "number"))
        if purpose not in PURPOSES:
            return self._desk.missing(visit)
        return await self._reader.picture(visit.acting(purpose_of_use=PURPOSES[purpose]), document, number)

    async def _images(self, visit: Visit) -> Response:
        opened = await self._open(visit)
        found = _found_in(opened, visit.request.path_params["document"])
        images = self._images_of(opened, found) if opened is not None and found is not None else ""
        if opened is None or found is None or not images:
            return self._desk.missing(visit)
        t = texts(language_of(visit.request))
        because = ", ".join(t(f"work_basis_{basis}") for basis in opened.basis.told)
        place = Place(
            found.unique_id,
            images,
            f"{opened.address}/document/{found.id}",
            patient=opened.person.name,
            basis=f"{t('work_you_see')} {because}." if because else "",
        )
        return await self._viewer.page(visit.acting(purpose_of_use=PURPOSES[opened.purpose]), place)

    async def _image(self, visit: Visit) -> Response:
        """Asked for many times of one study, so that the record is not asked anew: access control decides."""
        purpose, manifest = (visit.request.path_params[name] for name in ("purpose", "manifest"))
        if purpose not in PURPOSES:
            return self._desk.missing(visit)
        return self._viewer.image(visit.acting(purpose_of_use=PURPOSES[purpose]), manifest)

    def _images_of(self, opened: Opened, document: record.Document) -> str:
        """Where the images of a manifest are given out; "" of any other document."""
        if not self._viewer.is_of(document.content_type):
            return ""
        return f"{opened.address}/images/{quote(document.unique_id, safe='')}"

    async def _original(self, visit: Visit) -> Response:
        """The bytes as they were handed in; what could act in a browser is only ever saved."""
        purpose, document = (visit.request.path_params[name] for name in ("purpose", "document"))
        if purpose not in PURPOSES:
            return self._desk.missing(visit)
        asking = visit.acting(purpose_of_use=PURPOSES[purpose])
        found = await self._desk.fhir(asking, "read", "Binary", document)
        if found.content is None:
            return self._desk.missing(visit)
        media = found.content.content_type
        name = f"{document}.{_SUFFIXES.get(media, 'bin')}"
        inline = media in _INLINE and "save" not in visit.request.query_params
        return self._desk.kit.file(found.content.chunks(), media, name, inline=inline)

    # documents to come ----------------------------------------------------------------------------------------------

    async def _wait(self, visit: Visit) -> Response:
        opened = await self._open(visit)
        if opened is None or not (opened.basis or opened.documents):
            return self._desk.missing(visit)
        await self._awaited.wait(visit.requester, opened.person.id, visit.fields.get("kind", ""))
        return self._desk.kit.go(f"{PROFESSIONALS}/awaited")

    async def _end_awaited(self, visit: Visit) -> Response:
        await self._awaited.end(visit.requester, visit.fields.get("awaited", ""))
        return self._desk.kit.go(f"{PROFESSIONALS}/awaited")

    async def _awaited_page(self, visit: Visit) -> Response:
        listed = await self._awaited.of(visit.requester)
        looked = await asyncio.gather(*(self._come(visit, each) for each in listed))
        return await self._page(visit, "awaited.html", "awaited", awaited=[each for each in looked if each is not None])

    async def _come(self, visit: Visit, awaited: Awaited) -> Come | None:
        """What has come, as far as whoever waits may see it; None of a patient who is not there any more."""
        asking = visit.acting(purpose_of_use=PURPOSES["treatment"])
        patient = awaited.patient.value
        shown = await self._asked(asking, "read", "Patient", patient)
        if shown is None or not shown.body:
            return None
        # Asked whether or not anything has come: who waits would learn by the time of the answer what they may not see.
        parameters = [("patient", f"Patient/{patient}"), ("_lastUpdated", f"gt{awaited.since.isoformat()}")]
        if awaited.kind:
            parameters.append(("type", record.types_of(awaited.kind)))
        found = await self._desk.fhir(asking, "search-type", "DocumentReference", parameters=parameters)
        listed = [record.read_document(each, "region") for each in _resources(found.body, "DocumentReference")]
        documents, _ = record.timeline(listed)
        return Come(awaited, record.read_person(shown.body, datetime.now(UTC).date()), documents)

    # consent --------------------------------------------------------------------------------------------------------

    async def _consent(self, visit: Visit) -> Response:
        return await self._consent_page(visit)

    async def _consent_page(self, visit: Visit, *, request: str = "", trouble: str = "", status: int = 200) -> Response:
        purpose, patient = (visit.request.path_params[name] for name in ("purpose", "patient"))
        if purpose not in PURPOSES or visit.requester.role not in RECORDERS:
            return self._desk.missing(visit)
        shown = await self._desk.fhir(visit.acting(purpose_of_use=PURPOSES[purpose]), "read", "Patient", patient)
        return await self._page(
            visit,
            "consent.html",
            "record",
            status=status,
            person=record.read_person(shown.body, datetime.now(UTC).date()),
            address=f"{PROFESSIONALS}/{purpose}/{patient}",
            request_id=request or visit.request.query_params.get("request", ""),
            done="done" in visit.request.query_params,
            trouble=trouble,
        )

    async def _ask_consent(self, visit: Visit) -> Response:
        scope = (
            "facility" if visit.fields.get("scope") == "facility" or visit.requester.role not in READERS else "person"
        )
        try:
            said = await self._operate(visit, "[id]/$consent-code", scope=scope)
        except Problem as problem:
            return await self._consent_page(visit, trouble=_code_trouble(problem), status=422)
        request = next(p["valueString"] for p in said.body["parameter"] if p["name"] == "request")
        return self._desk.kit.go(f"{visit.request.url.path}?request={request}")

    async def _confirm_consent(self, visit: Visit) -> Response:
        request = visit.fields.get("request", "")
        try:
            await self._operate(visit, "[id]/$consent-confirm", request=request, code=visit.fields.get("code", ""))
        except Problem as problem:
            return await self._consent_page(visit, request=request, trouble=_code_trouble(problem), status=422)
        address = visit.request.url.path.removesuffix("/consent/code")
        return self._desk.kit.go(address if _reads(visit.requester) else f"{address}/consent?done")

    async def _operate(self, visit: Visit, operation: str, **given: str) -> Answer:
        purpose, patient = (visit.request.path_params[name] for name in ("purpose", "patient"))
        body = {
            "resourceType": "Parameters",
            "parameter": [{"name": name, "valueString": value} for name, value in given.items()],
        }
        asking = visit.acting(purpose_of_use=PURPOSES.get(purpose, "TREAT"))
        return await self._desk.fhir(asking, operation, "Patient", patient, body=body)

    # break-glass ----------------------------------------------------------------------------------------------------

    async def _emergency(self, visit: Visit) -> Response:
        return await self._emergency_page(visit)

    async def _emergency_page(self, visit: Visit, *, trouble: Sequence[str] = (), status: int = 200) -> Response:
        patient = visit.request.path_params["patient"]
        if visit.requester.role not in READERS:
            return self._desk.missing(visit)
        shown = await self._desk.fhir(visit.acting(purpose_of_use=PURPOSES[EMERGENCY]), "read", "Patient", patient)
        return await self._page(
            visit,
            "emergency.html",
            "record",
            status=status,
            person=record.read_person(shown.body, datetime.now(UTC).date()),
            reasons=REASONS,
            lengths=EXPLANATION_LENGTHS,
            minutes=MINUTES_MAX,
            fresh=_fresh(visit.requester),
            given=visit.fields,
            trouble=trouble,
        )

    async def _open_emergency(self, visit: Visit) -> Response:
        fields = visit.fields
        trouble = [
            name
            for name, wrong in (
                ("reason", fields.get("reason", "") not in REASONS),
                ("text", not is_reason(fields.get("text", ""), EXPLANATION_LENGTHS)),
                ("sworn", "sworn" not in fields),
            )
            if wrong
        ]
        if trouble:
            return await self._emergency_page(visit, trouble=trouble, status=422)
        asking = visit.acting(purpose_of_use=PURPOSES[EMERGENCY])
        await self._operate(asking, "[id]/$break-glass", reason=fields["reason"], text=fields["text"].strip())
        return self._desk.kit.go(f"{PROFESSIONALS}/{EMERGENCY}/{visit.request.path_params['patient']}")

    async def _end_emergency(self, visit: Visit) -> Response:
        asking = visit.acting(purpose_of_use=PURPOSES[EMERGENCY])
        await self._desk.fhir(asking, "delete [id]/$break-glass", "Patient", visit.request.path_params["patient"])
        return self._desk.kit.go(f"{PROFESSIONALS}?ended")


def _reads(who: Requester) -> bool:
    """Whether documents are for them: an assistant reads for whom they act."""
    return who.role in READERS or (who.role in ASSISTANTS and who.acting_for != "")


async def _nothing() -> None:
    return None


def _resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Of a search: warnings stand among what was found."""
    resources = (entry["resource"] for entry in bundle.get("entry", ()))
    return [resource for resource in resources if resource["resourceType"] == kind]


def _found_in(opened: Opened | None, id_: str) -> record.Document | None:
    if opened is None:
        return None
    listed = (d for newest in opened.documents for d in (newest, *newest.older))
    return next((d for d in listed if d.id == id_), None)


def _code_trouble(problem: Problem) -> str:
    """What the page says of it. Raises the Problem that no page has words for."""
    known = [_CODE_TROUBLES[f.code] for f in problem.findings if f.code in _CODE_TROUBLES]
    if not known:
        raise problem
    return known[0]


def _fresh(who: Requester) -> bool:
    """Whether break-glass is opened without proving anew who it is."""
    if who.proof != "session":
        return True
    return who.logged_in_at is not None and datetime.now(UTC) - who.logged_in_at <= FRESH
