"""RESTful ATNA over FHIR R4: records that come (ITI-20) and questions to the log (ITI-81).

ITI TF-2:3.20 and 3.81 with the supplement "Add RESTful ATNA (Query and Feed)"; IHE BALP 1.1.4, CapabilityStatement
IHE.BALP.ATNA.AuditRecordRepository. What a question asks beyond time, patient, transaction and outcome is looked at in
the AuditEvents themselves, by the paths of ``codes/fhir.toml``: looking costs something then, and recording never does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from obieg.codes.load import toml
from obieg.domain.audit import AuditFormat, AuditQuestion, Outcome, ReceivedAudit
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Finding, Problem
from obieg.mapping.audit import AuditUnreadable
from obieg.mapping.balp import patient_named, patients_named, read, transaction_of
from obieg.mapping.fhir_bundle import searchset
from obieg.mapping.fhir_parameters import CURSOR, Criterion, Search, plain, search, token
from obieg.protocol import FhirReply, FhirRequest
from obieg.wire import fhir_json

RECORDS_MAX = 1000  # of one Bundle
PAGE = 50
_ID = re.compile(r"(\d{1,18})(?:-(\d{1,6}))?\Z", re.ASCII)
_CURSOR = re.compile(r"(\d{1,18})-(\d{1,6})\Z", re.ASCII)
_DATE = re.compile(
    r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?"
    r"(Z|[+ -]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_PATHS: dict[str, dict[str, Any]] = toml("fhir.toml")["search"]["AuditEvent"]


# ITI-20 ------------------------------------------------------------------------------------------------------------


class Sent(Value, frozen=True):
    """What an Audit Creator sends: AuditEvents, and whether they came in a Bundle."""

    records: tuple[ReceivedAudit, ...]
    bundle: str = ""  # its type


def read_sent(request: FhirRequest) -> Sent:
    """A create, or a Bundle of creates. Raises Problem with everything that is wrong with it."""
    body = request.body or {}
    if body.get("resourceType") == "AuditEvent":
        # A JSON body is kept byte for byte; so is XML, whose declaration is all that may name another encoding.
        kept = AuditFormat.FHIR_JSON, request.data
        if request.written == "xml":
            kept = AuditFormat.FHIR_XML, request.data
        try:
            text = kept[1].decode()
        except UnicodeDecodeError:
            kept, text = (AuditFormat.FHIR_JSON, b""), fhir_json.write(body).decode()
        return Sent((_record(body, text, kept[0], request, ""),))
    if body.get("resourceType") != "Bundle":
        said = "an AuditEvent or a Bundle of AuditEvents is expected"
        raise Problem.of("RuleBroken", said, str(body.get("resourceType", "")))
    return Sent(tuple(_entries(body, request)), body["type"])


def _entries(bundle: Mapping[str, Any], request: FhirRequest) -> Iterator[ReceivedAudit]:
    findings: list[Finding] = []
    if bundle.get("type") not in ("batch", "transaction"):
        findings.append(Finding("RuleBroken", "records are sent in a batch or a transaction", "Bundle.type"))
    entries = bundle.get("entry", ())
    if not entries:
        findings.append(Finding("RequiredFieldMissing", "the Bundle has no entry", "Bundle.entry"))
    if len(entries) > RECORDS_MAX:
        findings.append(Finding("LimitExceeded", f"more than {RECORDS_MAX} records in one Bundle", "Bundle.entry"))
    found = []
    for number, entry in enumerate(entries[:RECORDS_MAX]):
        where = f"Bundle.entry[{number}]"
        asked, resource = entry.get("request", {}), entry.get("resource", {})
        if asked.get("method") != "POST" or asked.get("url", "").strip("/") != "AuditEvent":
            findings.append(Finding("RuleBroken", "records are created: POST AuditEvent", f"{where}.request"))
        elif resource.get("resourceType") != "AuditEvent":
            findings.append(Finding("RuleBroken", "an AuditEvent is expected", f"{where}.resource"))
        else:
            text = fhir_json.write(resource).decode()
            try:
                found.append(_record(resource, text, AuditFormat.FHIR_JSON, request, f"{where}.resource"))
            except Problem as problem:
                findings += problem.findings
    if findings:
        raise Problem(findings)
    yield from found


def _record(
    resource: Mapping[str, Any], text: str, format_: AuditFormat, request: FhirRequest, where: str
) -> ReceivedAudit:
    try:
        message = read(resource)
    except AuditUnreadable as error:
        raise Problem.of("RequiredFieldMissing", str(error), where or "AuditEvent") from None
    outcome = message.outcome if message.outcome in {o.value for o in Outcome} else Outcome.SUCCESS
    return ReceivedAudit(
        format=format_,
        message=text,
        happened_at=message.recorded,
        transaction=transaction_of(message),
        outcome=Outcome(outcome),
        patients=patients_named(resource, request.affinity_domain, request.base),
        request_id=request.request_id,
        sender="",
    )


def write_created(sent: Sent, ids: Sequence[int], request: FhirRequest) -> FhirReply:
    """201, or the response to the Bundle entry by entry."""
    if not sent.bundle:
        return FhirReply(
            status=201, body=_echo(request, ids[0]), location=f"{request.base}/AuditEvent/{ids[0]}", version="1"
        )
    entries = [
        {"response": {"status": "201 Created", "location": f"AuditEvent/{i}/_history/1", "etag": 'W/"1"'}} for i in ids
    ]
    return FhirReply(body={"resourceType": "Bundle", "type": f"{sent.bundle}-response", "entry": entries})


def _echo(request: FhirRequest, audit_id: int) -> dict[str, Any] | None:
    """A record is not sent back to whoever has just sent it, unless they want it."""
    if request.prefer != "representation" or request.body is None:
        return None
    return {**request.body, "id": str(audit_id)}


# ITI-81: the question ------------------------------------------------------------------------------------------------


class LogAsked(Value, frozen=True):
    """A read or a search of the log."""

    question: AuditQuestion
    number: int = 0  # of a read: which of the AuditEvents of the record; 0: the only one
    id: str = ""  # of a read
    search: Search | None = None
    patients: tuple[tuple[str, ...], ...] = ()  # by criterion, CX
    after: tuple[int, int] | None = None  # record and AuditEvent that a further page begins with
    count: int = PAGE
    text: bytes = b""


def read_question(request: FhirRequest) -> LogAsked:
    """What is asked. Raises Problem with everything that is wrong with it."""
    text = "&".join(f"{name}={value}" for name, value in request.parameters).encode()
    if request.interaction == "read":
        match = _ID.match(request.id)
        if match is None:
            raise Problem.of("AddressNotFound", "no AuditEvent has this id")
        return LogAsked(AuditQuestion(ids=(int(match[1]),)), int(match[2] or 0), request.id, text=text)
    asked = search(request)
    findings: list[Finding] = []
    bounds = _Bounds()
    patients: list[tuple[str, ...]] = []
    ids: tuple[int, ...] | None = None
    outcomes: tuple[int, ...] | None = None
    narrowed = False
    for criterion in asked.criteria:
        if criterion.modifier == "missing":
            continue
        if criterion.name in ("date", "_lastUpdated"):
            for alternative in criterion.alternatives:
                bounds.take(plain(alternative), criterion, findings, narrow=len(criterion.alternatives) == 1)
            narrowed = True
        elif criterion.name in ("patient", "patient.identifier") and criterion.modifier == "":
            named = tuple(_patient(a, criterion, request, findings) for a in criterion.alternatives)
            patients.append(named)
            narrowed = True
        elif criterion.name == "_id":
            ids = tuple(int(m[1]) for a in criterion.alternatives if (m := _ID.match(token(a)[1])))
            narrowed = True
        elif criterion.name == "outcome" and criterion.modifier == "":
            codes = {token(a)[1] for a in criterion.alternatives}
            outcomes = tuple(int(o.value) for o in Outcome if o.value in codes)
    if not narrowed:
        said = "the log is asked of a time: date=ge2026-01-01&date=lt2026-02-01 (ITI TF-2:3.81.4.1.2)"
        findings.append(Finding("RequiredFieldMissing", said, "http.date"))
    if asked.sort not in ("", "-date"):
        findings.append(Finding("UnsupportedQueryField", "the log is answered newest first: -date", "http._sort"))
    if asked.count_only:
        findings.append(Finding("UnsupportedQueryField", "the log is not counted: ask for pages", "http._summary"))
    after = None
    if asked.cursor:
        cursor = _CURSOR.match(asked.cursor)
        if cursor is None:
            findings.append(Finding("UnknownCursor", "this answer has no such page; ask anew", f"http.{CURSOR}"))
        else:
            after = int(cursor[1]), int(cursor[2])
    if findings:
        raise Problem(findings)
    question = AuditQuestion(since=bounds.since, until=bounds.until, outcomes=outcomes, ids=ids)
    return LogAsked(question, search=asked, patients=tuple(patients), after=after, count=asked.count or PAGE, text=text)


class _Bounds:
    """The time that every criterion leaves."""

    def __init__(self) -> None:
        self.since: datetime | None = None
        self.until: datetime | None = None

    def take(self, text: str, criterion: Criterion, findings: list[Finding], *, narrow: bool) -> None:
        span = _span(text)
        if isinstance(span, str):
            findings.append(Finding("DataTypeError", span, criterion.location))
        elif narrow:
            since, until = span
            self.since = max(filter(None, (self.since, since)), default=None)
            self.until = min(filter(None, (self.until, until)), default=None)


def _span(text: str) -> tuple[datetime | None, datetime | None] | str:
    """The moments that a date with its prefix allows, from the first to before the last; or what is wrong."""
    match = _DATE.fullmatch(text)
    named = _moments(match) if match else None
    if match is None or named is None:
        return f"{text[:40]!r} is no date or time"
    first, after = named
    match match[1] or "eq":
        case "eq":
            return first, after
        case "ge":
            return first, None
        case "gt" | "sa":
            return after, None
        case "le":
            return None, after
        case "lt" | "eb":
            return None, first
        case prefix:
            return f"the prefix {prefix} is not served: give a range (ge, le)"


def _moments(match: re.Match[str]) -> tuple[datetime, datetime] | None:
    _, year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        first = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
        if offset and offset != "Z":  # a plus sign may have become a space on its way through an address
            away = timedelta(hours=int(offset[1:3]), minutes=int(offset[4:]))
            first += away if offset[0] == "-" else -away
        if fraction:
            digits = fraction[:6]
            step = timedelta(microseconds=10 ** (6 - len(digits)))
            first += int(digits) * step
            return first, first + step
        if second or minute:
            return first, first + (timedelta(seconds=1) if second else timedelta(minutes=1))
        if day:
            return first, first + timedelta(days=1)
        if month:
            return first, (first + timedelta(days=31)).replace(day=1)
        return first, first.replace(year=first.year + 1)
    except (ValueError, OverflowError):
        return None


def _patient(text: str, criterion: Criterion, request: FhirRequest, findings: list[Finding]) -> str:
    if criterion.name == "patient":
        named = plain(text)
        return patient_named(named if "/" in named else f"Patient/{named}", request.affinity_domain, request.base)
    system, value = token(text)
    if not system or not value:
        said = "a patient is system|value, the system urn:oid: with the OID of the assigning authority"
        findings.append(Finding("DataTypeError", said, criterion.location))
        return ""
    if system == request.base:
        return str(PatientId(value, request.affinity_domain))
    return str(PatientId(value, system.removeprefix("urn:oid:")))


# ITI-81: whether an AuditEvent fits -----------------------------------------------------------------------------


def fits(resource: Mapping[str, Any], asked: LogAsked, names: Sequence[frozenset[str]], domain: str, base: str) -> bool:
    """Whether one AuditEvent is what is asked for; ``names`` are those of the patients, by criterion."""
    if names:
        about = set(patients_named(resource, domain, base))
        if not all(about & wanted for wanted in names):
            return False
    criteria = asked.search.criteria if asked.search else ()
    return all(_fits(resource, c) for c in criteria if c.name not in ("patient", "patient.identifier", "_lastUpdated"))


def _fits(resource: Mapping[str, Any], criterion: Criterion) -> bool:
    row = _PATHS[criterion.name]
    values = [v for path in row["path"].split() for v in _at([resource], path.split("."))]
    if criterion.modifier == "missing":
        return (not values) == (criterion.alternatives[0] == "true")
    one = _ONE[row["type"]]
    found = any(one(v, a, criterion.modifier) for v in values for a in criterion.alternatives)
    return found != (criterion.modifier == "not")


def _at(values: list[Any], path: Sequence[str]) -> list[Any]:
    for name in path:
        found: list[Any] = []
        for value in values:
            inner = value.get(name) if isinstance(value, Mapping) else None
            found += inner if isinstance(inner, list) else [] if inner is None else [inner]
        values = found
    return values


def _string(value: Any, alternative: str, modifier: str) -> bool:
    wanted, said = plain(alternative), str(value)
    if modifier == "exact":
        return said == wanted
    wanted, said = wanted.casefold(), said.casefold()
    return wanted in said if modifier == "contains" else said.startswith(wanted)


def _token(value: Any, alternative: str, _modifier: str) -> bool:
    system, code = token(alternative)
    for said_system, said in _tokens(value):
        if (system is None or system == said_system) and (not code or code == said):
            return True
    return False


def _tokens(value: Any) -> Iterator[tuple[str, str]]:
    """System and code of a code, a Coding, a CodeableConcept or an Identifier."""
    if not isinstance(value, Mapping):
        yield "", str(value)
    elif "coding" in value:
        for coding in value["coding"]:
            yield coding.get("system", ""), coding.get("code", "")
    else:
        yield value.get("system", ""), value.get("code") or value.get("value", "")


def _reference(value: Any, alternative: str, _modifier: str) -> bool:
    wanted = plain(alternative)
    said = str(value)
    return said == wanted or ("/" not in wanted and said.rpartition("/")[2] == wanted)


def _date(value: Any, alternative: str, _modifier: str) -> bool:
    span = _span(plain(alternative))
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return False
    if isinstance(span, str):
        return False
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (span[0] is None or moment >= span[0]) and (span[1] is None or moment < span[1])


def _uri(value: Any, alternative: str, _modifier: str) -> bool:
    return str(value) == plain(alternative)


_ONE = {"string": _string, "token": _token, "reference": _reference, "date": _date, "uri": _uri}


# ITI-81: the answer --------------------------------------------------------------------------------------------------


class LogPage(Value, frozen=True):
    """What was found, and where the page after it begins."""

    found: tuple[dict[str, Any], ...]
    after: tuple[int, int] | None = None


def write_page(asked: LogAsked, page: LogPage, request: FhirRequest) -> FhirReply:
    """A searchset, or the one AuditEvent of a read. Without a total: nobody counts a log to show one page of it."""
    if asked.search is None:
        return FhirReply(body=page.found[0])
    entries = [
        {"fullUrl": f"{request.base}/AuditEvent/{r['id']}", "resource": r, "search": {"mode": "match"}}
        for r in page.found
    ]
    cursor = f"{page.after[0]}-{page.after[1]}" if page.after else ""
    bundle = searchset(
        request, entries, path="AuditEvent", used=asked.search.used, cursor=cursor, warnings=asked.search.warnings
    )
    return FhirReply(body=bundle)
