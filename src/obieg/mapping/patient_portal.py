"""The portal of patients over FHIR: ``Patient/$represented``, ``Patient/[id]/$notices`` and others (ours)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from obieg.domain.identifiers import PatientId
from obieg.domain.patient_portal import (
    REPORT_LENGTH_MAX,
    Notice,
    NoticesAsked,
    ReportAsked,
    Represented,
    RepresentedAsked,
    Reviewed,
    ReviewsAsked,
)
from obieg.domain.persons import Demographics
from obieg.domain.problems import Finding, Problem
from obieg.mapping.emergency import named
from obieg.mapping.fhir_parameters import arguments
from obieg.mapping.fhir_patient import instant, reference
from obieg.protocol import FhirReply, FhirRequest

_NUMBER = re.compile(r"\d{1,18}\Z", re.ASCII)
_DATE = re.compile(r"(\d{4})(\d\d)?(\d\d)?")


def read_represented(request: FhirRequest) -> RepresentedAsked:
    """Nothing is said: it is asked for the caller. Raises Problem where anything is."""
    arguments(request)
    return RepresentedAsked()


def write_represented(people: Sequence[Represented], _request: FhirRequest) -> FhirReply:
    """Parameters: ``person`` for each, whoever asks first."""
    ordered = sorted(people, key=lambda p: (p.basis != "patient", _name(p.demographics)))
    return _parameters([("person", _person(each)) for each in ordered])


def _person(each: Represented) -> list[dict[str, Any]]:
    name = each.demographics.names[0] if each.demographics.names else None
    return _parts(
        patient=("Reference", {**reference(each.patient), "display": _name(each.demographics)}),
        given=("String", name.given[0] if name and name.given else ""),
        birthDate=("Date", "-".join(p for p in _dated(each.demographics.birth_date) if p)),
        basis=("Code", each.basis),
        until=("Instant", instant(each.until) if each.until else ""),
        unread=("UnsignedInt", each.unread),
    )


def _dated(said: str) -> tuple[str, ...]:
    found = _DATE.match(said)
    return tuple(found.groups("")) if found else ()


def _name(said: Demographics) -> str:
    if not said.names:
        return ""
    return " ".join((*said.names[0].given, said.names[0].family)).strip()


def read_notices(request: FhirRequest) -> NoticesAsked:
    """``$notices``, or ``$notices-read`` with ``last``. Raises Problem."""
    patient = named(request)
    if "read" not in request.interaction:
        return NoticesAsked(patient)
    return NoticesAsked(patient, _number(arguments(request)["last"][0], "last"))


def write_notices(notices: Sequence[Notice], request: FhirRequest) -> FhirReply:
    """Parameters: ``notice`` for each; nothing where they were read."""
    if "read" in request.interaction:
        return FhirReply(status=204)
    return _parameters([("notice", _notice(each)) for each in notices])


def _notice(each: Notice) -> list[dict[str, Any]]:
    said = each.said
    return _parts(
        id=("String", str(each.id)),
        kind=("Code", each.kind),
        who=("String", said.get("name") or said.get("person") or said.get("system") or ""),
        actingFor=("String", said.get("acting_for_name") or said.get("acting_for") or ""),
        withheld=("Boolean", bool(said.get("withheld"))),
        place=("String", each.organisation_name or said.get("organisation", "")),
        bases=("String", ",".join(said.get("bases", ()))),
        reason=("Code", said.get("reason", "")),
        document=("String", said.get("document", "")),
        times=("UnsignedInt", each.times),
        first=("Instant", instant(each.first_at)),
        last=("Instant", instant(each.last_at)),
        read=("Boolean", each.read_at is not None),
    )


def read_report(request: FhirRequest) -> ReportAsked | ReviewsAsked:
    """``$report-access`` with ``entry`` and ``text``, or ``$access-reviews``. Raises Problem."""
    patient: PatientId = named(request)
    if "reviews" in request.interaction:
        return ReviewsAsked(patient)
    given = arguments(request)
    text = given["text"][0].strip() if given["text"] else ""
    if len(text) > REPORT_LENGTH_MAX:
        raise Problem([Finding("LimitExceeded", f"at most {REPORT_LENGTH_MAX} characters", "http.text")])
    return ReportAsked(patient, _number(given["entry"][0], "entry"), text)


def write_report(result: Sequence[Reviewed] | None, _request: FhirRequest) -> FhirReply:
    """Parameters: ``review`` for each; nothing of a report that was taken."""
    if result is None:
        return FhirReply(status=204)
    return _parameters([("review", _review(each)) for each in result])


def _review(each: Reviewed) -> list[dict[str, Any]]:
    return _parts(
        kind=("Code", each.kind),
        entry=("String", str(each.entry or "")),
        professional=("String", each.professional),
        organisation=("String", each.organisation),
        reason=("Code", each.reason),
        opened=("Instant", instant(each.opened_at)),
        until=("Instant", instant(each.until)),
        decided=("Instant", instant(each.decided_at) if each.decided_at else ""),
        justified=("Boolean", each.justified),
    )


def _number(text: str, name: str) -> int:
    if not _NUMBER.match(text):
        raise Problem.of("DataTypeError", "a number is expected", f"http.{name}")
    return int(text)


def _parts(**values: tuple[str, Any]) -> list[dict[str, Any]]:
    """Parts of a parameter; empty ones are left out."""
    return [{"name": n, f"value{kind}": value} for n, (kind, value) in values.items() if value not in ("", None)]


def _parameters(listed: list[tuple[str, list[dict[str, Any]]]]) -> FhirReply:
    body: dict[str, Any] = {"resourceType": "Parameters"}
    if listed:
        body["parameter"] = [{"name": name, "part": parts} for name, parts in listed]
    return FhirReply(body=body)
