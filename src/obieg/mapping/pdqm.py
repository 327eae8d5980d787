"""PDQm 3.2.0: the Mobile Patient Demographics Query [ITI-78] and the Patient Demographics Match [ITI-119].

https://profiles.ihe.net/ITI/PDQm/ITI-78.html, https://profiles.ihe.net/ITI/PDQm/ITI-119.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import product
from math import prod
from typing import Any
from urllib.parse import urlencode

import msgspec

from obieg.codes.load import toml
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import Candidate, Candidates, DemographicsQuery, PatientMatch
from obieg.domain.persons import Demographics
from obieg.domain.problems import Finding, Problem
from obieg.mapping import fhir_outcome
from obieg.mapping.fhir_bundle import search_entry, searchset
from obieg.mapping.fhir_parameters import Criterion, Search, arguments, plain, search, token
from obieg.mapping.fhir_patient import GENDERS, PROFILES, authority, patient_value, read_patient, write_patient
from obieg.protocol import FhirReply, FhirRequest
from obieg.wire import fhir_json

_MATCH_GRADE = toml("fhir_patient.toml")["extensions"]["match_grade"]
_DOMAIN = toml("fhir.toml")["pdqm"]["target_domain"]
_IDENTIFIER = "http.identifier"
_DATE = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T[\d:.Z+-]*)?)?)?", re.ASCII)
# Search parameter -> the field of the query.
_TEXTS = {
    "family": "family",
    "given": "given",
    "mothersMaidenName": "mother_family",
    "address": "address",
    "address-city": "city",
    "address-country": "country",
    "address-postalcode": "postal_code",
    "address-state": "state",
}
_NAMES = ("family", "given", "mothersMaidenName")
_OR_AT_ONCE = ("_id", "identifier", "active")  # the index takes several of these in one question
ALTERNATIVES_MAX = 20  # questions that alternatives may make of one
# What :exact compares, letter by letter: the index does not tell case and marks apart.
_SAID: dict[str, Callable[[Demographics], Iterable[str]]] = {
    "family": lambda d: (name.family for name in d.names),
    "given": lambda d: (given for name in d.names for given in name.given),
    "mothersMaidenName": lambda d: (d.mother_name.family,) if d.mother_name else (),
    "address": lambda d: (t for a in d.addresses for t in (a.street, a.city, a.state, a.postal_code, a.country)),
    "address-city": lambda d: (a.city for a in d.addresses),
    "address-country": lambda d: (a.country for a in d.addresses),
    "address-postalcode": lambda d: (a.postal_code for a in d.addresses),
    "address-state": lambda d: (a.state for a in d.addresses),
}


class PatientSearch(Value, frozen=True):
    """A search, and what the index cannot tell apart by itself."""

    query: DemographicsQuery
    search: Search
    identifiers: tuple[tuple[PatientId, ...], ...] = ()  # one of each must be the patient's
    exact: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (parameter, one of these texts), letter by letter

    def fits(self, candidate: Candidate, known: Iterable[PatientId]) -> bool:
        """Whether a patient that the index has found is one of those asked for."""
        there = set(known)
        return all(
            any(i in there or (not i.authority and any(i.value == k.value for k in there)) for i in group)
            for group in self.identifiers
        ) and all(not set(texts).isdisjoint(_SAID[name](candidate.demographics)) for name, texts in self.exact)


class PatientRead(Value, frozen=True):
    """A Patient by its logical id."""

    patient: PatientId


# ITI-78 ----------------------------------------------------------------------------------------------------------


def read_request(request: FhirRequest) -> PatientSearch | PatientRead:
    """The search or read; raises Problem with everything that is wrong with it."""
    if request.interaction == "read":
        return PatientRead(PatientId(patient_value(request.id), request.affinity_domain))
    asked = search(request)
    several = [c for c in asked.criteria if c.name not in _OR_AT_ONCE and len(c.alternatives) > 1]
    if prod(len(c.alternatives) for c in several) > ALTERNATIVES_MAX:
        said = f"the alternatives (,) make more than {ALTERNATIVES_MAX} questions together: ask one after the other"
        raise Problem.of("UnsupportedQueryField", said, several[0].location)
    # One question for each way to choose one of the alternatives of every parameter.
    chosen = product(
        *(
            [c] if c not in several else [msgspec.structs.replace(c, alternatives=(a,)) for a in c.alternatives]
            for c in asked.criteria
        )
    )
    first, *others = [_read_search(request, asked, criteria) for criteria in chosen]
    alternatives = tuple(other.query for other in others)
    exact = tuple((c.name, tuple(map(plain, c.alternatives))) for c in asked.criteria if c.modifier)
    return msgspec.structs.replace(
        first, query=msgspec.structs.replace(first.query, alternatives=alternatives), exact=exact
    )


def _read_search(request: FhirRequest, asked: Search, criteria: Sequence[Criterion]) -> PatientSearch:
    """The question that parameters with one value each make."""
    findings: list[Finding] = []
    values: dict[str, Any] = {"count": asked.count, "text": urlencode(asked.used).encode()}
    groups: list[tuple[PatientId, ...]] = []
    exactness = {c.modifier for c in criteria if c.name in _NAMES}
    for criterion in criteria:
        if criterion.name == "_id":
            ids = (patient_value(plain(a)) for a in criterion.alternatives)
            groups.insert(0, tuple(PatientId(i, request.affinity_domain) for i in ids))
        elif criterion.name == "identifier":
            _identifiers(criterion, groups, values, findings)
        elif criterion.name == "birthdate":
            _birth_date(criterion, values, findings)
        elif criterion.name == "active":
            _active(criterion, values, findings)
        else:
            text = criterion.alternatives[0]
            field = _TEXTS.get(criterion.name, criterion.name)
            if criterion.name == "telecom":
                text = token(text)[1]
            elif criterion.name == "gender":
                field, text = "sex", _gender(text, findings)
            else:
                text = plain(text)
            _and(values, field, text, criterion, findings)
    if findings:
        raise Problem(findings)
    query = DemographicsQuery(
        identifiers=groups[0] if groups else (),
        exact=exactness == {"exact"},
        prefix="exact" not in exactness,
        **values,
    )
    return PatientSearch(query, asked, tuple(groups[1:]))


def _and(values: dict[str, Any], field: str, text: str, criterion: Criterion, findings: list[Finding]) -> None:
    """A parameter given twice: both must fit."""
    before = values.get(field, "")
    if not before or before == text:
        values[field] = text
    elif field == "given":
        values[field] = f"{before} {text}"
    else:
        said = f"{criterion.name} is given twice with different values, which no patient can have both here"
        findings.append(Finding("UnsupportedQueryField", said, criterion.location))


def _identifiers(
    criterion: Criterion, groups: list[tuple[PatientId, ...]], values: dict[str, Any], findings: list[Finding]
) -> None:
    """Identifiers that the patient has, or, without a value, domains whose identifiers are returned (3.78.4.1.2.3)."""
    tokens = [token(a) for a in criterion.alternatives]
    domains = [system for system, value in tokens if not value]
    if not domains:
        # Nobody has an identifier of a system that is no authority: it is asked for as it is, and not found.
        groups.append(tuple(PatientId(value, authority(s) or s if s else "") for s, value in tokens))
        return
    if len(domains) < len(tokens):
        said = "identifiers and domains (system|) cannot be alternatives of one another: give them in two parameters"
        findings.append(Finding("UnsupportedQueryField", said, _IDENTIFIER))
        return
    authorities = [authority(system or "") for system in domains]
    for system, oid in zip(domains, authorities, strict=True):
        if not oid:
            said = f"{(system or '')[:80]!r} names no assigning authority by urn:oid:"
            findings.append(Finding("UnknownKeyIdentifier", said, _IDENTIFIER))
    values["authorities"] = tuple(dict.fromkeys((*values.get("authorities", ()), *authorities)))
    values["authority_locations"] = (_IDENTIFIER,) * len(values["authorities"])


def _gender(text: str, findings: list[Finding]) -> str:
    code = token(text)[1]
    if code not in GENDERS:
        said = f"{code[:40]!r} is none of {', '.join(GENDERS)}"
        findings.append(Finding("TableValueNotFound", said, "http.gender"))
    return GENDERS.get(code, "")


def _active(criterion: Criterion, values: dict[str, Any], findings: list[Finding]) -> None:
    said = {token(a)[1] for a in criterion.alternatives}
    if not said <= {"true", "false"}:
        findings.append(Finding("DataTypeError", "active is true or false", criterion.location))
    values["active"] = None if len(said) > 1 else said == {"true"}


def _birth_date(criterion: Criterion, values: dict[str, Any], findings: list[Finding]) -> None:
    """Several of them narrow the range; dates may be partial."""
    text = criterion.alternatives[0]
    match = _DATE.fullmatch(text)
    day = _day(match.groups()[1:]) if match else ""
    if match is None or not day:
        findings.append(Finding("DataTypeError", f"{text[:40]!r} is no date", criterion.location))
        return
    prefix = match[1] or "eq"
    if prefix in ("ne", "ap"):
        findings.append(
            Finding(
                "UnsupportedQueryField", f"the prefix {prefix} is not served: give a range (ge, le)", criterion.location
            )
        )
        return
    if prefix in ("eq", "ge", "gt", "sa"):
        first = _step(day, 1) if prefix in ("gt", "sa") else day
        values["born_from"] = max(first, values.get("born_from", ""), key=lambda d: d.ljust(8, "0"))
    if prefix in ("eq", "le", "lt", "eb"):
        last = _step(day, -1) if prefix in ("lt", "eb") else day
        values["born_until"] = min(last, values.get("born_until") or last, key=lambda d: d.ljust(8, "9"))


def _day(parts: Sequence[str | None]) -> str:
    year, month, day = parts
    try:
        date(int(year or 0), int(month or 1), int(day or 1))
    except ValueError:
        return ""
    return "".join(filter(None, parts))


def _step(day: str, by: int) -> str:
    """The day, month or year after or before."""
    try:
        if len(day) == len("YYYYMMDD"):
            moved = date(int(day[:4]), int(day[4:6]), int(day[6:])) + timedelta(days=by)
            return moved.strftime("%Y%m%d").zfill(8)
        months = int(day[:4]) * 12 + (int(day[4:]) - 1 if len(day) == len("YYYYMM") else 0)
        months += by if len(day) == len("YYYYMM") else 12 * by
        return f"{months // 12:04}{months % 12 + 1:02}"[: len(day)]
    except OverflowError:
        return day


def write_page(result: tuple[PatientSearch, Candidates], request: FhirRequest) -> FhirReply:
    """One page of the patients who fit, best first."""
    asked, page = result
    found = [c for c in page.found if asked.fits(c, c.identifiers)]
    warnings = list(asked.search.warnings)
    if page.capped:
        said = "more patients fit than are listed; give more of what you know of the person"
        warnings.append(Finding("ResultCapped", said, warning=True))
    entries: Iterator[Any] = (search_entry(request.base, write_patient(c), c.score) for c in found)
    bundle = searchset(
        request,
        () if asked.search.count_only else tuple(entries),
        path="Patient",
        used=asked.search.used,
        total=page.total - (len(page.found) - len(found)),
        cursor="" if asked.search.count_only else page.cursor,
        warnings=warnings,
        profile=PROFILES["query_out"],
    )
    return FhirReply(body=bundle)


def write_read(candidate: Candidate) -> FhirReply:
    """One Patient."""
    return FhirReply(body=write_patient(candidate), version=str(candidate.version), updated_at=candidate.updated_at)


def refuse_search(findings: Sequence[Finding], request: FhirRequest) -> FhirReply:
    """A domain that nobody here knows has words of its own in the profile (3.78.4.1.3, case 4)."""
    unknown = [f for f in findings if f.code == "UnknownKeyIdentifier" and f.location == _IDENTIFIER]
    if len(unknown) < len(findings):
        return fhir_outcome.refuse(findings, request)
    issues = [fhir_outcome.issue(f._replace(warning=True), code=_DOMAIN["code"], text=_DOMAIN["text"]) for f in unknown]
    return FhirReply(status=_DOMAIN["status"], body=fhir_outcome.outcome(issues))


# ITI-119 ---------------------------------------------------------------------------------------------------------


def read_match(request: FhirRequest) -> PatientMatch:
    """The person to be found; raises Problem with everything that is wrong with the question."""
    given = arguments(request)
    findings: list[Finding] = []
    resource = given["resource"][0]
    record = read_patient(resource, findings, foreign=True).record
    count = given["count"][0] if given["count"] else 0
    if given["count"] and count < 1:
        findings.append(Finding("DataTypeError", "count is at least 1", "http.count"))
    if not record.identifiers and record.demographics == Demographics() and not findings:
        said = "nothing is said of the person: give identifiers, a name or a date of birth"
        findings.append(Finding("RequiredFieldMissing", said, "Patient"))
    if findings:
        raise Problem(findings)
    return PatientMatch(
        record=record,
        only_certain=bool(given["onlyCertainMatches"] and given["onlyCertainMatches"][0]),
        count=count,
        text=fhir_json.write(resource),
    )


def write_match(page: Candidates, request: FhirRequest) -> FhirReply:
    """The patients who may be that person, best first, each with its grade."""
    entries = [
        search_entry(request.base, write_patient(c), c.score, [{"url": _MATCH_GRADE, "valueCode": c.grade}])
        for c in page.found
    ]
    said = "more patients may be this person than are listed"
    warnings = [Finding("ResultCapped", said, warning=True)] if page.capped else []
    bundle = searchset(
        request, entries, path="Patient/$match", total=page.total, warnings=warnings, profile=PROFILES["match_out"]
    )
    return FhirReply(body=bundle)
