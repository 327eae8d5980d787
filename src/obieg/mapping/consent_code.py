"""Consent by code over FHIR: ``Patient/[id]/$consent-code`` and ``$consent-confirm`` (ours; docs/access.md)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from obieg.domain.consent_codes import FACILITY, HOURS_MAX, PERSON, CodeAsked, CodeSent, CodeTold
from obieg.domain.consents import Said
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Finding, Problem
from obieg.domain.requester import Requester
from obieg.mapping.access_log import fhir_identifier
from obieg.mapping.consent import ConsentDraft, draft, write_consent
from obieg.mapping.consent_references import TABLE
from obieg.mapping.emergency import named
from obieg.mapping.fhir_parameters import arguments
from obieg.mapping.fhir_patient import instant, reference
from obieg.protocol import FhirReply, FhirRequest

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
CODE = re.compile(r"\d{6}\Z", re.ASCII)
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"


def read_request(request: FhirRequest) -> CodeAsked | CodeTold:
    """What is asked; raises Problem with everything that is wrong with it."""
    patient, given = named(request), arguments(request)
    findings = []
    if "confirm" in request.interaction:
        id_, code = given["request"][0], given["code"][0].replace(" ", "")
        if not UUID.match(id_):
            findings.append(Finding("DataTypeError", "the request that $consent-code answered with", "http.request"))
        if not CODE.match(code):
            findings.append(Finding("DataTypeError", "six digits are expected", "http.code"))
        if findings:
            raise Problem(findings)
        return CodeTold(patient, id_, code, request.base)
    scope = given["scope"][0] if given["scope"] else PERSON
    hours = given["hours"][0] if given["hours"] else HOURS_MAX
    if scope not in (PERSON, FACILITY):
        findings.append(Finding("TableValueNotFound", f"{PERSON} or {FACILITY} is expected", "http.scope"))
    if not 1 <= hours <= HOURS_MAX:
        findings.append(Finding("RuleBroken", f"1 to {HOURS_MAX} hours", "http.hours"))
    if findings:
        raise Problem(findings)
    return CodeAsked(patient, scope, hours)


def consent_of(
    patient: PatientId, requester: Requester, scope: str, at: datetime, hours: int, *, base: str
) -> ConsentDraft:
    """The Consent that a code stands for: who asked for it, or the facility, may read for so many hours."""
    whom = requester.person if scope == PERSON else requester.organisation
    role = {"coding": [{"system": _PARTICIPATION, "code": "IRCP"}]}
    resource: dict[str, Any] = {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": TABLE["scope"]["system"], "code": TABLE["scope"]["code"]}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": reference(patient),
        "dateTime": instant(at),
        "performer": [reference(patient)],
        "organization": [{"identifier": fhir_identifier(requester.organisation)}],
        "verification": [{"verified": True, "verifiedWith": reference(patient), "verificationDate": instant(at)}],
        "provision": {
            "type": "permit",
            "period": {"start": instant(at), "end": instant(at + timedelta(hours=hours))},
            "actor": [{"role": role, "reference": {"identifier": fhir_identifier(whom)}}],
        },
    }
    return draft(resource, base, patient.authority)


def write_answer(made: CodeSent | Said, request: FhirRequest) -> FhirReply:
    """By which request the code is told; or the Consent that it made."""
    if isinstance(made, Said):
        location = f"{request.base}/Consent/{made.id}/_history/{made.version}"
        return FhirReply(body=write_consent(made), status=201, location=location, version=str(made.version))
    return write_sent(made)


def write_sent(made: CodeSent) -> FhirReply:
    """By which request a code is told, and until when."""
    listed = [
        {"name": "request", "valueString": made.id},
        {"name": "expires", "valueInstant": instant(made.expires_at)},
    ]
    return FhirReply(body={"resourceType": "Parameters", "parameter": listed}, status=202)
