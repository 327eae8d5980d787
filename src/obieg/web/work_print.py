"""What a professional sees of a patient, printed for the patient who stands before them, as PDF/UA.

It is asked for on the professional's own basis and shows nothing that they do not see: not what is restricted, nor who
looked at the data, nor permissions. The paper says so, and where the patient gets these. Each record of what was read
for it says that it was printed for the patient, and by which document their identity was checked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.domain.access import BASES
from obieg.domain.problems import RetryLater
from obieg.web import work_record as record
from obieg.web.areas import PROFESSIONALS
from obieg.web.desk import Answer, Desk, Visit
from obieg.web.kit import LANGUAGES, Texts, shown_day, shown_moment, texts
from obieg.web.patient_records import SECTIONS, Document, coverage, documents, summary
from obieg.web.pdf import PdfFailed, Tables, make_tables

# By which document somebody's identity was checked, as the texts and the records name it.
DOCUMENTS = ("identity_card", "mobywatel", "passport", "residence_card", "other")
PURPOSES = {"treatment": "TREAT", "coordination": "COC"}  # nobody breaks the glass for a print
_COUNT = "200"  # documents on it


class PrintPages:
    """The form, and the PDF that it asks for."""

    def __init__(
        self, desk: Desk, page: Callable[..., Awaitable[Response]], asked: Callable[..., Awaitable[Answer | None]]
    ) -> None:
        """``page`` shows a page of professionals; ``asked`` asks as :class:`obieg.web.work.WorkPages` does."""
        self._desk = desk
        self._page = page
        self._asked = asked

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        return (self._desk.route(f"{PROFESSIONALS}/{{purpose}}/{{patient}}/print", get=self._form, post=self._print),)

    async def _form(self, visit: Visit) -> Response:
        return await self._ask(visit, trouble=False)

    async def _ask(self, visit: Visit, *, trouble: bool) -> Response:
        purpose, patient = (visit.request.path_params[name] for name in ("purpose", "patient"))
        if purpose not in PURPOSES:
            return self._desk.missing(visit)
        asking = visit.acting(purpose_of_use=PURPOSES[purpose])
        shown, listed = await self._desk.fhir(asking, "read", "Patient", patient), await self._listed(asking, patient)
        if listed is None:
            return self._desk.missing(visit)
        return await self._page(
            visit,
            "print.html",
            "record",
            status=422 if trouble else 200,
            person=record.read_person(shown.body, datetime.now(UTC).date()),
            purpose=purpose,
            address=f"{PROFESSIONALS}/{purpose}/{patient}",
            kinds=DOCUMENTS,
            printed={code: name for code, (_, name) in LANGUAGES.items()},
            trouble=trouble,
        )

    async def _listed(self, asking: Visit, patient: str) -> Answer | None:
        """The documents of which something may be told; None where nothing may."""
        parameters = [
            ("patient", f"Patient/{patient}"), ("status", "current"), ("_sort", "-creation"), ("_count", _COUNT),
        ]  # fmt: skip
        found = await self._asked(asking, "search-type", "DocumentReference", parameters=parameters)
        if found is None:
            raise RetryLater("the documents cannot be listed now")
        return found if found.access or found.body.get("total") else None

    async def _print(self, visit: Visit) -> Response:
        purpose, patient = (visit.request.path_params[name] for name in ("purpose", "patient"))
        kind, language = visit.fields.get("document", ""), visit.fields.get("language", "")
        if purpose not in PURPOSES:
            return self._desk.missing(visit)
        if kind not in DOCUMENTS or language not in LANGUAGES:
            return await self._ask(visit, trouble=True)
        said = f"printed for the patient, whose identity was checked: {kind}"
        remark = "; ".join(filter(None, (visit.requester.remark, said)))
        asking = visit.acting(purpose_of_use=PURPOSES[purpose], remark=remark)
        shown, listed = await self._desk.fhir(asking, "read", "Patient", patient), await self._listed(asking, patient)
        if listed is None:
            return self._desk.missing(visit)
        made = await self._asked(asking, "[id]/$summary", "Patient", patient)
        person = record.read_person(shown.body, datetime.now(UTC).date())
        tables = _tables(visit, texts(language), person, listed, made.body if made is not None else {}, kind)
        try:
            content = await make_tables(tables)
        except PdfFailed as error:
            raise RetryLater(f"no PDF could be made: {error}") from None
        return self._desk.kit.file(content, "application/pdf", f"{tables.title}.pdf")


def _tables(visit: Visit, t: Texts, person: record.Person, listed: Answer, made: dict[str, Any], kind: str) -> Tables:
    """What the paper says."""
    now = datetime.now(UTC)
    found = documents(listed.body)
    who, basis = visit.requester, record.read_basis(listed.access)
    by = ", ".join(filter(None, (who.person_name or who.person, who.acting_for_name)))
    because = ", ".join(BASES[each]["name"][t.language] for each in basis.told)
    at = shown_moment(now)
    lead = [
        t.plain("work_paper_made", at=at, by=by, document=t.plain(f"work_paper_{kind}")),
        t.plain("work_paper_shows", basis=because),
        *([t.plain("work_paper_newest", n=_COUNT)] if listed.body.get("total", 0) > len(found) else []),
        t.plain("work_paper_more"),
    ]
    sections = [_coverage(t, found, now), _documents(t, found), *_summary(t, made)]
    title = t.plain("work_paper_title", name=person.name, born=shown_day(person.birth_date))
    return Tables(
        title, t.language, lead, sections, t.plain("work_paper_none"), t.plain("work_paper_note", at=at, by=by)
    )


def _coverage(t: Texts, found: Sequence[Document], now: datetime) -> dict[str, Any]:
    rows = [
        [
            each.facility or t.plain("patient_facility_unknown"),
            shown_day(each.first),
            shown_day(each.last),
            str(each.number),
        ]
        for each in coverage(found, now)
    ]
    columns = [t.plain(f"work_paper_{name}") for name in ("facility", "first", "last", "number")]
    return {"heading": t.plain("patient_coverage_title"), "columns": columns, "rows": rows}


def _documents(t: Texts, found: Sequence[Document]) -> dict[str, Any]:
    rows = [
        [
            shown_day(each.date),
            t.plain("own_document" if each.own else f"patient_kind_one_{each.kind}"),
            each.title,
            each.facility,
            each.author,
        ]
        for each in sorted(found, key=lambda d: (d.when, d.id), reverse=True)
    ]
    columns = [t.plain(f"work_paper_{name}") for name in ("day", "kind", "title_of", "facility", "author")]
    return {"heading": t.plain("patient_nav_documents"), "columns": columns, "rows": rows}


def _summary(t: Texts, made: dict[str, Any]) -> list[dict[str, Any]]:
    """A table of each section of the health summary that says something, as the documents say it."""
    if not made:
        return []
    columns = [t.plain("patient_item_what"), t.plain("patient_item_value"), t.plain("patient_item_when")]
    tables = []
    for section in summary(made)[0]:
        title = t.plain(f"patient_section_{section.code}") if section.code in SECTIONS else section.title
        rows = [
            [each.what, ", ".join(filter(None, (each.value, each.note))), shown_day(each.when)]
            for each in section.items
        ]
        rows += [[said, "", ""] for said in section.texts]
        tables.append({"heading": title, "columns": columns, "rows": rows})
    return tables
