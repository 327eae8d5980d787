"""The patient's own views on paper, for who stands at the counter and confirms it (docs/access.md).

No page shows who hands out any of it: the last form answers with the PDF/UA to print. The number of who stands there,
and codes, are in forms, never in an address.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.codes.load import toml
from obieg.domain import pesel
from obieg.domain.access import BASES, TOLD
from obieg.domain.handouts import CODE, DOCUMENTS, REASONS
from obieg.domain.problems import Problem, RetryLater
from obieg.web import work_record as record
from obieg.web.areas import PROFESSIONALS
from obieg.web.desk import Answer, Desk, Visit
from obieg.web.kit import LANGUAGES, Texts, shown_day, shown_moment, texts
from obieg.web.patient_consents import Rule, Stated, read_consents, restricting
from obieg.web.patient_log import Line, read_log
from obieg.web.patient_records import SECTIONS, Document, coverage, documents, resources, summary, values, versions
from obieg.web.patient_representatives import Representative, read_representatives
from obieg.web.pdf import PdfFailed, Tables, make_tables

_TABLE = toml("access.toml")
COUNTER = frozenset(_TABLE["roles"]["counter"])  # who does nothing else here
HANDERS = frozenset(role for group in _TABLE["acts"]["handout"]["groups"] for role in _TABLE["roles"][group])
_PESEL = toml("national/pl/pik.toml")["roots"]["pesel"]
# What a form is told of, by finding; the fields of which it speaks.
_TROUBLES = {
    "AddressNotFound": "nobody",
    "ConsentCodeRefused": "wrong",
    "DataTypeError": "wrong",
    "TableValueNotFound": "incomplete",
}


class _Form(NamedTuple):
    """How far somebody has come."""

    step: str = "start"  # start, code, document
    stands: str = ""  # PESEL of who stands there for the patient; "": the patient
    request: str = ""  # by which the code is told
    why: str = ""  # there is no code: unreachable, too_many; "": whoever hands out says why
    trouble: str = ""


class HandoutPages:
    """The forms, and the PDF that they end with."""

    def __init__(self, desk: Desk, page: Callable[..., Awaitable[Response]]) -> None:
        """``page`` shows a page of professionals."""
        self._desk = desk
        self._page = page

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        address = f"{PROFESSIONALS}/handout/{{patient}}"
        return (
            self._desk.route(address, get=self._start, post=self._begin),
            self._desk.route(f"{address}/paper", post=self._paper),
        )

    # forms ----------------------------------------------------------------------------------------------------------

    async def _start(self, visit: Visit) -> Response:
        return await self._form(visit, _Form())

    async def _form(self, visit: Visit, form: _Form, *, status: int = 200) -> Response:
        if visit.requester.role not in HANDERS:
            return self._desk.missing(visit)
        patient = visit.request.path_params["patient"]
        shown = await self._desk.fhir(visit, "read", "Patient", patient)
        person = record.read_person(shown.body, datetime.now(UTC).date())
        return await self._page(
            visit,
            "handout.html",
            "record",
            status=status,
            person=person._replace(city=""),
            address=f"{PROFESSIONALS}/handout/{patient}",
            form=form,
            kinds=DOCUMENTS,
            reasons=REASONS,
            printed={code: name for code, (_, name) in LANGUAGES.items()},
        )

    async def _begin(self, visit: Visit) -> Response:
        """Sends a code; or goes on to the document where there is none."""
        other = visit.fields.get("who", "") == "other"
        stands = visit.fields.get("stands", "") if other else ""
        if other and not pesel.read(stands).valid:
            return await self._form(visit, _Form(stands=stands or " ", trouble="pesel"), status=422)
        stands = pesel.read(stands).number if other else ""
        if visit.fields.get("go", "") == "document":
            return await self._form(visit, _Form("document", stands))
        try:
            sent = await self._operate(visit, "[id]/$handout-code", stands)
        except Problem as problem:
            codes = {finding.code for finding in problem.findings}
            if codes & {"PatientNotReachable", "TooManyRequests"}:
                why = "unreachable" if "PatientNotReachable" in codes else "too_many"
                return await self._form(visit, _Form("document", stands, why=why))
            return await self._form(visit, _Form(stands=stands, trouble=_trouble(problem)), status=404)
        return await self._form(visit, _Form("code", stands, values(sent.body["parameter"])["request"]))

    async def _operate(self, visit: Visit, operation: str, stands: str, **given: str) -> Answer:
        said = {"stands": f"{_PESEL}#{stands}" if stands else "", **given}
        body = {
            "resourceType": "Parameters",
            "parameter": [{"name": name, "valueString": value} for name, value in said.items() if value],
        }
        return await self._desk.fhir(visit, operation, "Patient", visit.request.path_params["patient"], body=body)

    # the paper ------------------------------------------------------------------------------------------------------

    async def _paper(self, visit: Visit) -> Response:
        given = {
            name: visit.fields.get(name, "") for name in ("stands", "request", "code", "document", "reason", "language")
        }
        stands, language = given.pop("stands"), given.pop("language")
        coded = visit.fields.get("step", "") == CODE
        form = _Form(CODE if coded else "document", stands, given["request"], visit.fields.get("why", ""))
        if visit.requester.role not in HANDERS:
            return self._desk.missing(visit)
        if language not in LANGUAGES or not (coded or given["document"]):
            return await self._form(visit, form._replace(trouble="incomplete"), status=422)
        shown = await self._desk.fhir(visit, "read", "Patient", visit.request.path_params["patient"])
        try:
            made = await self._operate(visit, "[id]/$handout", stands, **given)
        except Problem as problem:
            trouble = _trouble(problem)
            return await self._form(visit, form._replace(trouble=trouble), status=404 if trouble == "nobody" else 422)
        person = record.read_person(shown.body, datetime.now(UTC).date())
        tables = _tables(visit, texts(language), person, made.body, await self._place(visit))
        try:
            content = await make_tables(tables)
        except PdfFailed as error:
            raise RetryLater(f"no PDF could be made: {error}") from None
        return self._desk.kit.file(content, "application/pdf", f"{tables.title}.pdf", inline=True)

    async def _place(self, visit: Visit) -> str:
        """What the directory calls the facility where it is done; its number where it does not know it."""
        root, _, value = visit.requester.organisation.partition("#")
        asked = [("identifier", f"urn:oid:{root}|{value}")]
        found = await self._desk.fhir(visit, "search-type", "Organization", parameters=asked)
        return next((str(each["name"]) for each in resources(found.body) if each.get("name")), value)


def _trouble(problem: Problem) -> str:
    """What the form says of it. Raises the Problem that it has no words for."""
    known = [_TROUBLES[f.code] for f in problem.findings if f.code in _TROUBLES]
    if not known:
        raise problem
    return known[0]


# what the paper says -------------------------------------------------------------------------------------------------


def _tables(visit: Visit, t: Texts, person: record.Person, made: dict[str, Any], place: str) -> Tables:
    now, given = datetime.now(UTC), made["parameter"]
    said, parts = values(given), {p["name"]: p["resource"] for p in given if "resource" in p}
    everything = documents(parts["documents"])
    found = sorted((d for d in everything if d.current), key=lambda d: (d.when, d.id), reverse=True)
    stated = read_consents(resources(parts["consents"]), now)
    hidden = {d.id for d in found if restricting(d, versions(d, everything), stated, now)}
    titles = {name: d for d in everything for name in (d.id, d.unique_id)}
    log = read_log(parts["log"], "")
    at = shown_moment(now)
    by = ", ".join(filter(None, (visit.requester.person_name or visit.requester.person, place)))
    basis = ", ".join(BASES[each]["name"][t.language] for each in said.get("bases", "").split(",") if each in BASES)
    confirmed = said["confirmed"]
    lead = [
        t.plain("work_paper_made", at=at, by=by),
        t.plain("work_paper_to", name=said.get("stands") or t.plain("work_nameless"), basis=basis or "-"),
        t.plain("work_paper_by_code")
        if confirmed == CODE
        else t.plain("work_paper_by_document", document=t.plain(f"work_paper_{confirmed}")),
        t.plain("work_paper_shows"),
        *([t.plain("work_paper_newest", n=len(found))] if said.get("more") else []),
        t.plain("work_paper_again"),
    ]
    sections = [
        _coverage(t, found, now),
        _documents(t, found, hidden),
        _log(t, log, titles),
        _consents(t, stated, titles),
        _entitled(t, read_representatives(parts["entitled"])),
        *_summary(t, parts.get("summary", {})),
    ]
    title = t.plain("work_paper_title", name=person.name, born=shown_day(person.birth_date))
    return Tables(
        title, t.language, lead, sections, t.plain("work_paper_none"), t.plain("work_paper_note", at=at, by=by)
    )


def _section(t: Texts, heading: str, columns: Sequence[str], rows: list[list[str]]) -> dict[str, Any]:
    return {"heading": t.plain(heading), "columns": [t.plain(each) for each in columns], "rows": rows}


def _coverage(t: Texts, found: Sequence[Document], now: datetime) -> dict[str, Any]:
    unknown = t.plain("patient_facility_unknown")
    rows = [
        [each.facility or unknown, shown_day(each.first), shown_day(each.last), str(each.number)]
        for each in coverage(found, now)
    ]
    columns = [f"work_paper_{name}" for name in ("facility", "first", "last", "number")]
    return _section(t, "patient_coverage_title", columns, rows)


def _documents(t: Texts, found: Sequence[Document], hidden: set[str]) -> dict[str, Any]:
    rows = [
        [
            shown_day(each.date),
            t.plain("own_document" if each.own else f"patient_kind_one_{each.kind}"),
            each.title + (f" ({t.plain('work_paper_restricted')})" if each.id in hidden else ""),
            each.facility,
            each.author,
        ]
        for each in found
    ]
    columns = [f"work_paper_{name}" for name in ("day", "kind", "title_of", "facility", "author")]
    return _section(t, "patient_nav_documents", columns, rows)


def _log(t: Texts, lines: Sequence[Line], titles: dict[str, Document]) -> dict[str, Any]:
    columns = [f"work_paper_{name}" for name in ("at", "who", "facility", "act", "basis")]
    rows = [[shown_moment(each.last), *_line(t, each, titles)] for each in lines]
    return _section(t, "patient_access_title", columns, rows)


def _line(t: Texts, line: Line, titles: dict[str, Document]) -> Iterator[str]:
    """Who, where, what, by which basis."""
    who = line.who or t.plain("patient_log_withheld")
    if line.link:
        who = t.plain("patient_log_link")
    elif line.system:
        who = f"{t.plain('patient_log_system')} {line.who}"
    if line.acting_for:
        who += ", " + t.plain("patient_in_name", name=line.acting_for)
    yield who
    yield line.facility or line.facility_id.rpartition("|")[2]
    if line.refused:
        yield t.plain("patient_refused_other")
    else:
        named = [titles[each].title for each in line.documents if each in titles]
        yield ": ".join(filter(None, (t.plain(f"patient_act_{line.act}"), ", ".join(named))))
    yield ", ".join(TOLD[basis]["name"][t.language] for basis in line.told_bases)


def _consents(t: Texts, stated: Sequence[Stated], titles: dict[str, Document]) -> dict[str, Any]:
    rows = []
    for each in stated:
        if each.states:
            rows.append([t.plain(f"patient_states_{each.states}"), "", "", shown_day(each.recorded)])
        elif not each.rules:
            rows.append([t.plain("patient_rule_policy"), each.base, "", shown_day(each.recorded)])
        rows += [[*_rule(t, rule, titles), shown_day(each.recorded)] for rule in each.rules]
    columns = [f"work_paper_{name}" for name in ("what", "whom", "until", "recorded_on")]
    return _section(t, "patient_nav_permissions", columns, rows)


def _rule(t: Texts, rule: Rule, titles: dict[str, Document]) -> Iterator[str]:
    """What, for whom, until when."""
    hidden = t.plain("patient_rule_document")
    what = [titles[each].title if each in titles else hidden for each in rule.documents]
    if rule.classes:
        what.append(f"{t.plain('patient_rule_classes')} {', '.join(rule.classes)}")
    if rule.labels:
        what.append(f"{t.plain('patient_rule_labels')} {', '.join(rule.labels)}")
    if rule.narrowed:
        what.append(t.plain("patient_rule_narrowed"))
    yield t.plain("patient_rule_all") if rule.everything else ", ".join(what)
    sense = "permit" if rule.permit else "deny"
    if rule.whom or rule.roles:
        yield f"{t.plain(f'patient_rule_{sense}')} {', '.join(rule.whom) or t.plain('patient_rule_roles')}"
    else:
        yield t.plain(f"patient_rule_{sense}_everybody")
    yield t.plain("patient_rule_until", end=shown_moment(rule.end)) if rule.end else t.plain("patient_rule_endless")


def _entitled(t: Texts, found: Sequence[Representative]) -> dict[str, Any]:
    rows = [
        [
            one.name
            or (t.plain("patient_reps_number", number=one.number[-4:]) if one.number else "")
            or t.plain("patient_log_withheld"),
            one.place,
            t.plain(f"patient_reps_as_{one.kind}{'_now' if one.kind == 'close' and one.now else ''}"),
            shown_day(one.since) if one.since else "",
            shown_day(one.until) if one.until else t.plain("patient_rule_endless"),
        ]
        for one in found
    ]
    columns = [f"work_paper_{name}" for name in ("who", "facility", "may", "since", "until")]
    return _section(t, "patient_reps_title", columns, rows)


def _summary(t: Texts, made: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A table of each section of the health summary that says something, as the documents say it."""
    columns = ["patient_item_what", "patient_item_value", "patient_item_when"]
    for section in summary(made)[0] if made else ():
        title = t.plain(f"patient_section_{section.code}") if section.code in SECTIONS else section.title
        rows = [
            [each.what, ", ".join(filter(None, (each.value, *_noted(t, each.note)))), shown_day(each.when)]
            for each in section.items
        ]
        width = len(columns) if rows else 1  # texts alone have the whole page
        rows += [[said, "", ""][:width] for said in section.texts]
        yield {"heading": title, "columns": [t.plain(each) for each in columns[:width]], "rows": rows}


def _noted(t: Texts, note: str) -> Iterator[str]:
    """Above or below what is usual, and what that is; as the page of the summary says it."""
    flag, _, norm = note.partition("|")
    if flag in ("H", "HH", "L", "LL"):
        yield t.plain("patient_above" if flag[0] == "H" else "patient_below")
    if norm:
        yield t.plain("patient_norm", norm=norm)
