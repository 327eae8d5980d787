"""Break-glass over FHIR: ``Patient/[id]/$break-glass`` (ours; docs/access.md, Emergency)."""

from __future__ import annotations

from obieg.domain.identifiers import PatientId
from obieg.domain.obligations import EXPLANATION_LENGTHS, MINUTES_MAX, REASONS, EmergencyAsked, Session
from obieg.domain.problems import Finding, Problem
from obieg.domain.reasons import is_reason, wanted
from obieg.mapping.fhir_parameters import arguments
from obieg.mapping.fhir_patient import instant, patient_value, reference
from obieg.protocol import FhirReply, FhirRequest


def named(request: FhirRequest) -> PatientId:
    """The patient in the address. Raises Problem."""
    value = patient_value(request.id)
    if not value:
        raise Problem.of("AddressNotFound", f"{request.id[:80]!r} is no logical id of a Patient")
    return PatientId(value, request.affinity_domain)


def read_request(request: FhirRequest) -> EmergencyAsked:
    """What is asked; raises Problem with everything that is wrong with it."""
    patient = named(request)
    if request.interaction.startswith("delete "):
        return EmergencyAsked(patient, end=True)
    given = arguments(request)
    reason, explanation = given["reason"][0], given["text"][0].strip()
    minutes = given["minutes"][0] if given["minutes"] else MINUTES_MAX
    findings = []
    if reason not in REASONS:
        findings.append(Finding("TableValueNotFound", f"one of {', '.join(REASONS)} is expected", "http.reason"))
    if not is_reason(explanation, EXPLANATION_LENGTHS):
        findings.append(Finding("RuleBroken", wanted(EXPLANATION_LENGTHS), "http.text"))
    if not 1 <= minutes <= MINUTES_MAX:
        said = f"1 to {MINUTES_MAX} minutes; it can be renewed"
        findings.append(Finding("RuleBroken", said, "http.minutes"))
    if findings:
        raise Problem(findings)
    return EmergencyAsked(patient, reason=reason, explanation=explanation, minutes=minutes)


def write_session(session: Session | None, _request: FhirRequest) -> FhirReply:
    """Parameters: until when, and how long it can be renewed at most; nothing for an end."""
    if session is None:
        return FhirReply(status=204)
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "session", "valueString": session.id},
            {"name": "patient", "valueReference": reference(session.patient)},
            {"name": "reason", "valueCode": session.reason},
            {"name": "began", "valueInstant": instant(session.began)},
            {"name": "until", "valueInstant": instant(session.until)},
            {"name": "latest", "valueInstant": instant(session.latest)},
        ],
    }
    return FhirReply(body=body, status=200 if session.renewed else 201)
