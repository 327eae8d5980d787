"""What people who look after the system see and do (``/operator``): operators and the data-protection officer.

Every page belongs to an act of docs/access.md, which is asked before anything else; pages have no rules of their own.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from obieg.actors.operations import Operations
from obieg.actors.oversight import Oversight
from obieg.actors.patient_curation import PatientCuration
from obieg.actors.people import ASSISTANTS, People
from obieg.codes.load import toml
from obieg.domain.access import BASES, Act, Permit
from obieg.domain.access_explained import render
from obieg.domain.accounts import ROLES, Place, Professional
from obieg.domain.affinity_domain import AgreedCode
from obieg.domain.identifiers import PatientId, is_oid, patient_id
from obieg.domain.matching import Evidence, Judgement
from obieg.domain.obligations import REASONS
from obieg.domain.operating import Operator
from obieg.domain.patients import Candidate
from obieg.domain.persons import Demographics
from obieg.domain.previewing import BYTES_MAX, Kind
from obieg.domain.problems import Problem
from obieg.domain.reasons import is_reason
from obieg.domain.requester import Requester
from obieg.domain.watching import SIGNALS
from obieg.domain.zone import WARSAW
from obieg.web.areas import OPERATORS
from obieg.web.desk import Desk, Visit
from obieg.web.kit import language_of
from obieg.web.operator_figures import columns, percent, table

_ROOTS = toml("national/pl/pik.toml")["roots"]
_LICENCES = ((re.compile(r"[0-9]{7}"), "npwz_physician"), (re.compile(r"[0-9]{7}[AP]"), "npwz_nurse"))
_DIGITS = re.compile(r"(?<!\d)\d{11}(?!\d)")
_ROWS = 50
_OUTCOMES = {"success": "0", "minor": "4", "serious": "8", "major": "12"}
_TRANSACTION = re.compile(r"[A-Za-z0-9-]{1,40}")
_TRANSACTION_ID = re.compile(r"[A-Z]+-\d|operator$")
_HOURS = (1, 8, 24, 72, 168)
_MEBIBYTES = BYTES_MAX // 2**20

Handler = Callable[[Visit], Awaitable[Response]]


class Tab(NamedTuple):
    """An entry of the navigation."""

    path: str
    icon: str
    word: str
    act: Act


# Order: as often as they are needed.
TABS = (
    Tab("", "activity", "operator_tab_health", Act.INSPECT),
    Tab("/outbox", "send", "operator_tab_outbox", Act.MAINTAIN),
    Tab("/trace", "route", "operator_tab_trace", Act.INSPECT),
    Tab("/reviews", "siren", "operator_tab_reviews", Act.REVIEW),
    Tab("/lookups", "eye", "operator_tab_lookups", Act.REVIEW),
    Tab("/audit", "clipboard-list", "operator_tab_audit", Act.INSPECT),
    Tab("/patients", "users", "operator_tab_patients", Act.MAINTAIN),
    Tab("/explain", "circle-help", "operator_tab_explain", Act.INSPECT),
    Tab("/certificates", "badge-check", "operator_tab_certificates", Act.INSPECT),
    Tab("/people", "key", "operator_tab_people", Act.MAINTAIN),
    Tab("/facilities", "hospital", "operator_tab_facilities", Act.INSPECT),
    Tab("/quality", "chart-column", "operator_tab_quality", Act.INSPECT),
    Tab("/settings", "sliders-horizontal", "operator_tab_settings", Act.INSPECT),
    Tab("/notice", "bell", "operator_tab_notice", Act.MAINTAIN),
)


class OperatorPages:
    """The pages; see the module docstring."""

    def __init__(
        self,
        desk: Desk,
        operations: Operations,
        oversight: Oversight,
        curation: PatientCuration,
        people: People,
        *,
        assigning_authority: str,
        names: Mapping[str, Sequence[str]],
        repository: str,
        value_sets: Sequence[tuple[str, Sequence[AgreedCode]]],
    ) -> None:
        """``names``: what the node of each repository is called; ``value_sets``: the codes of each attribute."""
        self._desk = desk
        self._operations = operations
        self._oversight = oversight
        self._curation = curation
        self._people = people
        self._authority = assigning_authority
        self._names = names
        self._repository = repository
        self._value_sets = value_sets

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        inspect, maintain, review = Act.INSPECT, Act.MAINTAIN, Act.REVIEW
        return (
            self._desk.route(OPERATORS, get=self._home),
            self._page("/health", inspect, get=self._health),
            self._page("/outbox", maintain, get=self._outbox),
            self._page("/outbox/retry", maintain, post=self._retry),
            self._page("/outbox/drop", maintain, post=self._drop),
            self._page("/trace", inspect, get=self._trace),
            self._page("/reviews", review, get=self._reviews),
            self._page("/reviews/decide", review, post=self._decide_review),
            self._page("/lookups", review, get=self._look_ups),
            self._page("/audit", inspect, get=self._audit),
            self._page("/patients", maintain, get=self._worklist),
            self._page("/patients/{task:int}", maintain, get=self._task),
            self._page("/patients/decide", maintain, post=self._decide_task),
            self._page("/patients/undo", maintain, post=self._undo),
            self._page("/explain", inspect, get=self._explain),
            self._page("/certificates", inspect, get=self._certificates),
            self._page("/people", maintain, get=self._people_page),
            self._page("/people/add", maintain, post=self._add_person),
            self._page("/people/role", maintain, post=self._role),
            self._page("/people/assist", maintain, post=self._assist),
            self._page("/people/change", maintain, post=self._change_person),
            self._page("/people/revoke", maintain, post=self._revoke),
            self._page("/facilities", inspect, get=self._facilities),
            self._page("/quality", inspect, get=self._quality),
            self._page("/quality.csv", inspect, get=self._quality_csv),
            self._page("/usage.csv", inspect, get=self._usage_csv),
            self._page("/settings", inspect, get=self._settings),
            self._page(
                "/settings/preview", maintain, get=self._proposing, post=self._preview, file_bytes_max=BYTES_MAX
            ),
            self._page("/notice", maintain, get=self._notice, post=self._say),
        )

    # what all pages do --------------------------------------------------------------------------------------------

    def _page(
        self,
        path: str,
        act: Act,
        *,
        get: Handler | None = None,
        post: Handler | None = None,
        file_bytes_max: int = 0,
    ) -> Route:
        def admitted(handler: Handler | None) -> Handler | None:
            if handler is None:
                return None

            async def answer(visit: Visit) -> Response:
                try:
                    await self._operations.admit(_by(visit), act, visit.request.url.path)
                except Problem:
                    return self._show(visit, "operator/not_yours.html", status=403)
                return await handler(visit)

            return answer

        return self._desk.route(OPERATORS + path, get=admitted(get), post=admitted(post), file_bytes_max=file_bytes_max)

    def _show(self, visit: Visit, template: str, *, status: int = 200, **values: Any) -> Response:
        acts = self._operations.acts(_by(visit))
        here = visit.request.url.path.removeprefix(OPERATORS)
        return self._desk.kit.page(
            visit.request,
            template,
            status=status,
            tabs=[tab for tab in TABS if tab.act in acts],
            here="/" + here.split("/")[1] if here.strip("/") not in ("", "health") else "",
            me=visit.requester,
            may={str(act) for act in acts},
            csrf=visit.csrf,
            done=visit.request.query_params.get("done", ""),
            **values,
        )

    def _back(self, path: str, done: str) -> Response:
        return self._desk.kit.go(f"{OPERATORS}{path}?done={done}")

    async def _home(self, visit: Visit) -> Response:
        try:
            await self._operations.admit(_by(visit), Act.INSPECT, visit.request.url.path)
        except Problem:
            return self._show(visit, "operator/not_yours.html", status=403)
        return await self._health(visit)

    # the node -----------------------------------------------------------------------------------------------------

    async def _health(self, visit: Visit) -> Response:
        health = await self._operations.health()
        return self._show(visit, "operator/health.html", health=health, now=health.at)

    async def _certificates(self, visit: Visit) -> Response:
        health = await self._operations.health()
        return self._show(visit, "operator/certificates.html", certificates=health.certificates, now=health.at)

    async def _settings(self, visit: Visit) -> Response:
        return self._show(
            visit, "operator/settings.html", settings=self._operations.settings(), value_sets=self._value_sets
        )

    async def _proposing(self, visit: Visit, reason: str = "", kind: Kind = Kind.SETTINGS) -> Response:
        status = 400 if reason else 200
        return self._show(
            visit, "operator/propose.html", status=status, reason=reason, kind=kind, kinds=list(Kind), most=_MEBIBYTES
        )

    async def _preview(self, visit: Visit) -> Response:
        asked = visit.fields.get("kind", "")
        if asked not in set(Kind):
            return self._desk.missing(visit)
        kind = Kind(asked)
        if not visit.file:
            reason = "operator_preview_large" if visit.file is None else "operator_preview_nothing"
            return await self._proposing(visit, reason, kind)
        found = await self._operations.preview(kind, visit.file, _by(visit))
        names = {repository: called[0] for repository, called in self._names.items()}
        return self._show(
            visit, "operator/preview.html", proposal=found.proposal, effects=found.effects, kind=kind, names=names
        )

    async def _facilities(self, visit: Visit) -> Response:
        wanted = visit.request.query_params.get("q", "").strip()
        parameters = [("_count", "100"), ("_sort", "name"), *([("name:contains", wanted)] if wanted else [])]
        found = await self._desk.fhir(visit, "search-type", "Organization", parameters=parameters)
        facilities = [entry["resource"] for entry in found.body.get("entry", ())]
        return self._show(visit, "operator/facilities.html", facilities=facilities, q=wanted)

    async def _notice(self, visit: Visit, reason: str = "", fields: Mapping[str, str] | None = None) -> Response:
        notice = await self._operations.notice()
        given = fields or {"text": "", "until": f"{datetime.now(WARSAW) + timedelta(hours=4):%Y-%m-%dT%H:00}"}
        status = 400 if reason else 200
        return self._show(visit, "operator/notice.html", status=status, notice=notice, reason=reason, given=given)

    async def _say(self, visit: Visit) -> Response:
        text = "" if "end" in visit.fields else visit.fields.get("text", "").strip()
        try:
            until = datetime.fromisoformat(visit.fields["until"]).replace(tzinfo=WARSAW) if text else datetime.now(UTC)
        except (KeyError, ValueError):
            return await self._notice(visit, "operator_notice_until_wrong", visit.fields)
        if not text and "end" not in visit.fields:
            return await self._notice(visit, "operator_notice_empty", visit.fields)
        try:
            await self._operations.say(text, until, _by(visit))
        except Problem as problem:
            word = {"text": "operator_notice_long"}.get(problem.findings[0].location, "operator_notice_until_wrong")
            return await self._notice(visit, word, visit.fields)
        return self._back("/notice", "said" if text else "ended")

    # what waits ---------------------------------------------------------------------------------------------------

    async def _outbox(self, visit: Visit) -> Response:
        asked = visit.request.query_params
        receiver, dead = asked.get("receiver", ""), asked.get("state", "") == "dead"
        waiting = await self._operations.letters(receiver, _ROWS, dead=dead)
        inbox = await self._operations.inbox(_ROWS)
        return self._show(
            visit, "operator/outbox.html", waiting=waiting, inbox=inbox, receiver=receiver, dead=dead, rows=_ROWS
        )

    async def _retry(self, visit: Visit) -> Response:
        ids, receiver = _number(visit.fields.get("id", "")), visit.fields.get("receiver", "")
        if not ids and not receiver:
            return self._desk.missing(visit)
        done = await self._operations.retry(ids, _by(visit), destination="" if ids else receiver)
        return self._back("/outbox", "retried" if done else "gone")

    async def _drop(self, visit: Visit) -> Response:
        ids = _number(visit.fields.get("id", ""))
        if not ids:
            return self._desk.missing(visit)
        done = await self._operations.drop(ids, _by(visit))
        return self._back("/outbox", "dropped" if done else "gone")

    # afterwards ---------------------------------------------------------------------------------------------------

    async def _reviews(self, visit: Visit, reason: str = "") -> Response:
        everything = visit.request.query_params.get("all", "") == "1"
        found = await self._oversight.reviews(_ROWS, everything=everything)
        await self._operations.looked(_by(visit), "access reviews listed")
        return self._show(
            visit,
            "operator/reviews.html",
            status=400 if reason else 200,
            found=found,
            everything=everything,
            reasons={code: row[language_of(visit.request)] for code, row in REASONS.items()},
            reason=reason,
            given=visit.fields,
        )

    async def _decide_review(self, visit: Visit) -> Response:
        verdict, note = visit.fields.get("verdict", ""), visit.fields.get("note", "").strip()
        numbers = _number(visit.fields.get("review", ""))
        if not numbers:
            return self._desk.missing(visit)
        if verdict not in ("justified", "not") or not is_reason(note):
            return await self._reviews(visit, "operator_review_incomplete")
        try:
            await self._oversight.decide(numbers[0], _by(visit), justified=verdict == "justified", note=note)
        except Problem:
            return self._back("/reviews", "gone")
        return self._back("/reviews", "decided")

    async def _look_ups(self, visit: Visit) -> Response:
        asked = visit.request.query_params.get("hours", "24")
        hours = int(asked) if asked.isascii() and asked.isdigit() and int(asked) in _HOURS else 24
        found = await self._oversight.unusual(hours, _by(visit))
        language = language_of(visit.request)
        signals = {code: row[language] for code, row in SIGNALS.items()}
        return self._show(visit, "operator/lookups.html", found=found, signals=signals, hours=hours, choices=_HOURS)

    async def _trace(self, visit: Visit) -> Response:
        wanted = visit.request.query_params.get("q", "").strip()[:200]
        trace = await self._oversight.trace(wanted, _by(visit)) if wanted else None
        names = {repository: called[0] for repository, called in self._names.items()}
        return self._show(visit, "operator/trace.html", q=wanted, trace=trace, names=names, bases=_bases(visit))

    async def _audit(self, visit: Visit) -> Response:
        asked = visit.request.query_params
        given = {name: asked.get(name, "").strip() for name in ("who", "patient", "transaction", "since", "until")}
        given["outcome"] = asked.get("outcome", "") if asked.get("outcome", "") in _OUTCOMES else ""
        parameters, wrong = self._audit_parameters(given)
        cursor = asked.get("cursor", "")
        records: list[dict[str, Any]] = []
        following = ""
        if not wrong:
            if cursor:
                parameters.append(("_cursor", cursor))
            found = await self._desk.fhir(visit, "search-type", "AuditEvent", parameters=parameters)
            records = [_record(entry["resource"]) for entry in found.body.get("entry", ())]
            following = _cursor_of(found.body)
        health = await self._operations.health()
        complete = await self._oversight.completeness(self._names, self._repository)
        return self._show(
            visit,
            "operator/audit.html",
            given=given,
            wrong=wrong,
            records=records,
            following=following,
            sealing=health.sealing,
            complete=complete,
            outcomes=list(_OUTCOMES),
        )

    def _audit_parameters(self, given: Mapping[str, str]) -> tuple[list[tuple[str, str]], str]:
        """Of ITI-81, and which field cannot be read."""
        parameters = [("_count", str(_ROWS))]
        try:
            since = date.fromisoformat(given["since"]) if given["since"] else datetime.now(WARSAW).date() - timedelta(7)
            parameters.append(("date", f"ge{datetime.combine(since, time(), WARSAW).isoformat()}"))
        except ValueError:
            return [], "since"
        try:
            if given["until"]:
                end = date.fromisoformat(given["until"]) + timedelta(1)
                parameters.append(("date", f"lt{datetime.combine(end, time(), WARSAW).isoformat()}"))
        except (ValueError, OverflowError):
            return [], "until"
        if given["patient"]:
            if (whose := self._identifier(given["patient"])) is None:
                return [], "patient"
            parameters.append(("patient.identifier", f"urn:oid:{whose.authority}|{_escaped(whose.value)}"))
        if given["transaction"]:
            if not _TRANSACTION.fullmatch(given["transaction"]):
                return [], "transaction"
            parameters.append(("subtype", given["transaction"].upper()))
        if given["who"]:
            number = given["who"].partition("#")[2] or given["who"]
            name = any(letter.isalpha() for letter in number[:3])
            parameters.append(("agent-name:contains", given["who"]) if name else ("agent.identifier", _escaped(number)))
        if given["outcome"]:
            parameters.append(("outcome", _OUTCOMES[given["outcome"]]))
        return parameters, ""

    def _identifier(self, text: str) -> PatientId | None:
        if len(text) == 11 and text.isascii() and text.isdigit():
            return PatientId(text, _ROOTS["pesel"])
        if (cx := patient_id(text)) is not None:
            return cx
        value, at, authority = text.rpartition("@")
        if at:
            return PatientId(value, authority) if value and is_oid(authority) else None
        return None if "^" in text or not text else PatientId(text, self._authority)

    async def _explain(self, visit: Visit) -> Response:
        asked = visit.request.query_params
        names = ("who", "patient", "role", "organisation", "purpose", "document")
        given = {name: asked.get(name, "").strip()[:200] for name in names}
        given["role"] = given["role"] if given["role"] in ROLES else "medical-doctor"
        lines: list[str] = []
        wrong, allowed = "", False
        missing: tuple[str, ...] = ()
        if given["who"] or given["patient"]:
            who, patient = _person(given["who"]), self._identifier(given["patient"])
            organisation = given["organisation"]
            if who is None:
                wrong = "who"
            elif patient is None:
                wrong = "patient"
            elif organisation and "#" not in organisation:
                wrong = "organisation"
            else:
                requester = Requester(
                    system="",
                    person=who,
                    role=given["role"],
                    organisation=organisation,
                    purpose_of_use=given["purpose"],
                )
                documents = [given["document"]] if given["document"] else []
                try:
                    found = await self._oversight.explain(requester, patient, documents, _by(visit))
                except Problem:
                    wrong = "nobody"
                else:
                    lines = render(found.explanation, language_of(visit.request))
                    shown = all(one.shown for one in found.explanation.documents)
                    allowed, missing = isinstance(found.explanation.decision, Permit) and shown, found.missing
        roles = {code: row[language_of(visit.request)] for code, row in ROLES.items()}
        return self._show(
            visit,
            "operator/explain.html",
            given=given,
            roles=roles,
            lines=lines,
            wrong=wrong,
            allowed=allowed,
            missing=missing,
        )

    # who is who ---------------------------------------------------------------------------------------------------

    async def _worklist(self, visit: Visit) -> Response:
        decided = visit.request.query_params.get("decided", "") == "1"
        tasks = await self._curation.worklist(decided=decided, count=_ROWS)
        waiting = await self._curation.open_tasks()
        await self._operations.looked(_by(visit), "worklist of the patient index listed")
        return self._show(visit, "operator/patients.html", tasks=tasks, waiting=waiting, decided=decided, rows=_ROWS)

    async def _task(self, visit: Visit, reason: str = "", number: int | None = None) -> Response:
        task = await self._curation.task(visit.request.path_params["task"] if number is None else number)
        if task is None:
            return self._desk.missing(visit)
        evidence: Sequence[Evidence] = ()
        judgement = task.judgement
        if task.right is not None:
            pairs = await self._curation.explain(task.left.patient, task.right.patient)
            if pairs:
                judgement, evidence = pairs[0].judgement, pairs[0].judgement.evidence
        await self._operations.looked(_by(visit), f"line {task.task_id} of the worklist of the patient index shown")
        return self._show(
            visit,
            "operator/task.html",
            status=400 if reason else 200,
            task=task,
            fields=_compared(task.left, task.right),
            evidence=[_masked(one) for one in evidence],
            percent=judgement.percent if isinstance(judgement, Judgement) else None,
            reason=reason,
        )

    async def _decide_task(self, visit: Visit) -> Response:
        numbers, decision = _number(visit.fields.get("task", "")), visit.fields.get("decision", "")
        if not numbers or decision not in ("same", "different"):
            return self._desk.missing(visit)
        try:
            await self._curation.decide(
                numbers[0], same=decision == "same", by=_name(visit), note=visit.fields.get("note", "").strip()[:500]
            )
        except Problem as problem:
            word = _CURATION.get(problem.findings[0].code, "operator_task_refused")
            return await self._task(visit, word, numbers[0])
        return self._back("/patients", decision)

    async def _undo(self, visit: Visit) -> Response:
        numbers = _number(visit.fields.get("task", ""))
        task = await self._curation.task(numbers[0]) if numbers else None
        which = visit.fields.get("patient", "")
        sides = [side for side in (task.left, task.right) if side is not None] if task is not None else []
        chosen = next((side.patient for side in sides if side.patient.value == which), None)
        if task is None or chosen is None:
            return self._desk.missing(visit)
        try:
            await self._curation.unlink(chosen, by=_name(visit))
        except Problem as problem:
            word = _CURATION.get(problem.findings[0].code, "operator_task_refused")
            return await self._task(visit, word, task.task_id)
        return self._back("/patients", "undone")

    # people -------------------------------------------------------------------------------------------------------

    async def _people_page(
        self, visit: Visit, reason: str = "", *, invited: tuple[str, str, datetime] | None = None
    ) -> Response:
        accounts = await self._people.accounts()
        sessions = await self._people.all_sessions()
        await self._operations.looked(_by(visit), "people and sessions listed")
        return self._show(
            visit,
            "operator/people.html",
            status=400 if reason else 200,
            accounts=accounts,
            sessions=sessions,
            roles={code: row[language_of(visit.request)] for code, row in ROLES.items()},
            assistants=ASSISTANTS,
            reason=reason,
            invited=invited,
            given=visit.fields,
            origin=self._desk.kit.site.origin,
        )

    async def _add_person(self, visit: Visit) -> Response:
        said = {name: visit.fields.get(name, "").strip() for name in ("login", "name", "identifier")}
        try:
            one_time, until = await self._people.add(
                said["login"], said["name"], said["identifier"], [_place(visit)], _name(visit)
            )
        except Problem as problem:
            return await self._people_page(visit, f"operator_people_wrong_{_field(problem)}")
        return await self._people_page(visit, invited=(said["login"], one_time, until))

    async def _role(self, visit: Visit) -> Response:
        login, remove = visit.fields.get("login", ""), "remove" in visit.fields
        try:
            await self._people.grant(login, _place(visit), _name(visit), remove=remove)
        except Problem as problem:
            return await self._people_page(visit, f"operator_people_wrong_{_field(problem)}")
        return self._back("/people", "role")

    async def _assist(self, visit: Visit) -> Response:
        login, remove, fields = visit.fields.get("login", ""), "remove" in visit.fields, visit.fields
        number = fields.get("professional", "").strip()
        whom = Professional(fields.get("organisation", ""), _person(number) or number, fields.get("name", "").strip())
        try:
            await self._people.assist(login, whom, _name(visit), remove=remove)
        except Problem as problem:
            return await self._people_page(visit, f"operator_assist_wrong_{_field(problem)}")
        return self._back("/people", "unassist" if remove else "assist")

    async def _change_person(self, visit: Visit) -> Response:
        login, change = visit.fields.get("login", ""), visit.fields.get("change", "")
        try:
            if change == "reset":
                one_time, until = await self._people.reset(login, _name(visit))
                return await self._people_page(visit, invited=(login, one_time, until))
            if change not in ("disable", "enable"):
                return self._desk.missing(visit)
            await self._people.disable(login, _name(visit), disabled=change == "disable")
        except Problem:
            return self._desk.missing(visit)
        return self._back("/people", change)

    async def _revoke(self, visit: Visit) -> Response:
        ended = await self._people.revoke(_name(visit), session_id=visit.fields.get("session", ""))
        return self._back("/people", "revoked" if ended else "gone")

    # figures ------------------------------------------------------------------------------------------------------

    async def _quality(self, visit: Visit) -> Response:
        figures = await self._operations.figures()
        names = {repository: called[0] for repository, called in self._names.items()}
        return self._show(
            visit,
            "operator/quality.html",
            figures=figures,
            names=names,
            months=columns(figures.by_month),
            percent=percent,
            bases=_bases(visit),
        )

    async def _quality_csv(self, _visit: Visit) -> Response:
        figures = await self._operations.figures()
        heading = (
            "repository",
            "node",
            "documents",
            "no_type",
            "no_class",
            "no_format",
            "no_practice",
            "no_author",
            "late",
        )
        rows = [
            (
                q.repository,
                next(iter(self._names.get(q.repository, ())), ""),
                q.documents,
                q.no_type,
                q.no_class,
                q.no_format,
                q.no_practice,
                q.no_author,
                q.late,
            )
            for q in figures.quality
        ]
        return self._desk.kit.file(table(heading, rows).encode(), "text/csv; charset=utf-8", "quality.csv")

    async def _usage_csv(self, _visit: Visit) -> Response:
        figures = await self._operations.figures()
        rows = [
            ("patients", "", figures.patients),
            ("patients_with_documents", "", figures.covered),
            ("documents", "", figures.documents),
            *(("documents_by_month", one.name, one.number) for one in figures.by_month),
            *(("reads_by_purpose", one.name, one.number) for one in figures.reads_by_purpose),
            *(("reads_by_basis", one.name, one.number) for one in figures.reads_by_basis),
        ]
        return self._desk.kit.file(
            table(("figure", "of", "number"), rows).encode(), "text/csv; charset=utf-8", "usage.csv"
        )


_CURATION = {
    "UnknownTask": "operator_task_gone",
    "AlreadyLinked": "operator_task_linked",
    "NotLinked": "operator_task_not_linked",
    "MixedSubmission": "operator_task_mixed",
}


def _by(visit: Visit) -> Operator:
    return Operator(_name(visit), visit.requester, visit.request.state.request_id)


def _name(visit: Visit) -> str:
    return visit.requester.person


def _bases(visit: Visit) -> dict[str, str]:
    language = language_of(visit.request)
    return {code: row["name"][language] for code, row in BASES.items()}


def _number(text: str) -> list[int]:
    return [int(text)] if text.isascii() and text.isdigit() and len(text) < 19 else []


def _person(text: str) -> str | None:
    """An identifier of who asks: root#extension, the number of a licence, or a PESEL."""
    for licence, root in _LICENCES:
        if licence.fullmatch(text):
            return f"{_ROOTS[root]}#{text}"
    if len(text) == 11 and text.isascii() and text.isdigit():
        return f"{_ROOTS['pesel']}#{text}"
    return text if re.fullmatch(r"[0-2](\.\d+)+#\S+", text) else None


def _place(visit: Visit) -> Place:
    fields = visit.fields
    return Place(
        fields.get("organisation", "").strip(), fields.get("organisation_name", "").strip(), fields.get("role", "")
    )


def _field(problem: Problem) -> str:
    """Which field is wrong, as the texts name it."""
    location = problem.findings[0].location
    return location if location in ("login", "name", "identifier", "organisation", "role", "for") else "login"


def _escaped(value: str) -> str:
    """As a value of a search parameter (R4, 3.1.1.3)."""
    return re.sub(r"([\\,|$])", r"\\\1", value)


def _masked(one: Evidence) -> Evidence:
    """What may be a PESEL is not shown: two digits are left to compare by."""
    return Evidence(one.field, one.level, round(one.weight, 1), _hidden(one.left), _hidden(one.right))


def _hidden(text: str) -> str:
    return _DIGITS.sub(lambda match: "•" * 9 + match[0][-2:], text)


def _compared(left: Candidate, right: Candidate | None) -> list[tuple[str, str, str]]:
    """Both sides field by field."""
    one, other = _said(left), _said(right) if right is not None else {}
    return [(field, one[field], other.get(field, "")) for field in one if one[field] or other.get(field, "")]


def _said(candidate: Candidate) -> dict[str, str]:
    d: Demographics = candidate.demographics
    name, address = d.name, d.address
    numbers = (i for i in candidate.identifiers if i.authority != candidate.patient.authority)
    said = {
        "name": " ".join(filter(None, (*name.given, name.family))),
        "birth_date": ".".join(reversed([p for p in (d.birth_date[:4], d.birth_date[4:6], d.birth_date[6:8]) if p])),
        "sex": d.sex,
        "address": ", ".join(filter(None, (address.street, address.postal_code, address.city))),
        "mother_name": " ".join((*d.mother_name.given, d.mother_name.family)).strip() if d.mother_name else "",
        "numbers": ", ".join(f"{i.value} ({i.authority})" for i in numbers),
        "patient": candidate.patient.value,
    }
    return {field: _hidden(text) for field, text in said.items()}


def _cursor_of(bundle: Mapping[str, Any]) -> str:
    link = next((link["url"] for link in bundle.get("link", ()) if link["relation"] == "next"), "")
    found = re.search(r"[?&]_cursor=([^&]+)", link)
    return found[1] if found else ""


def _record(resource: Mapping[str, Any]) -> dict[str, Any]:
    """An AuditEvent as a row."""
    agents = resource.get("agent", ())
    asking = [agent for agent in agents if agent.get("requestor")] or list(agents)
    people = [a for a in asking if a.get("name") or a.get("role")] or asking
    who = people[0] if people else {}
    identifier = who.get("who", {}).get("identifier", {}).get("value", "")
    patients = [
        e["what"].get("identifier", {}).get("value") or e["what"].get("reference", "").rpartition("/")[2]
        for e in resource.get("entity", ())
        if e.get("role", {}).get("code") == "1" and "what" in e
    ]
    requests = [
        e["what"]["identifier"].get("value", "")
        for e in resource.get("entity", ())
        if e.get("type", {}).get("code") == "XrequestId" and "identifier" in e.get("what", {})
    ]
    subtypes = [one.get("code", "") for one in resource.get("subtype", ())]
    return {
        "id": resource.get("id", ""),
        "at": datetime.fromisoformat(resource["recorded"]),
        "transaction": next((s for s in subtypes if _TRANSACTION_ID.match(s)), next(iter(subtypes), "")),
        "outcome": resource.get("outcome", "0"),
        "detail": resource.get("outcomeDesc", ""),
        "who": who.get("name") or who.get("who", {}).get("display") or identifier,
        "patients": [_hidden(patient) for patient in dict.fromkeys(patients)],
        "node": resource.get("source", {}).get("observer", {}).get("display", ""),
        "request": next(iter(requests), ""),
    }
