"""Questions for a patient summary over FHIR: the operation $summary of the IPS, and MSIM's Query Emergency Data.

http://hl7.org/fhir/uv/ips/OperationDefinition-summary.html. Of MSIM the form of the call is public (a search for
Bundles, the address with and without a slash at its end), its parameters are not: those of FHIR R4 that can name a
patient are taken. A search answers with a searchset in which the document is the one entry; ``_bare=true``, a parameter
of our own, answers with the document itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from obieg.codes.load import toml
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Finding, Problem
from obieg.mapping.fhir_bundle import searchset
from obieg.mapping.fhir_parameters import Criterion, Search, arguments, plain, search, token
from obieg.mapping.fhir_patient import authority, patient_value
from obieg.protocol import FhirReply, FhirRequest

_FHIR = toml("cda_sections.toml")["fhir"]
_PROFILES = (_FHIR["bundle_profile"], _FHIR["composition_profile"])
_LOCAL = "Patient/"
_TYPED = re.compile(r":(?:Composition|Patient)(?=\.|\Z)")  # composition:Composition.patient says no more than without
_IDENTIFIER = "http.identifier"


class SummaryRequest(Value, frozen=True):
    """A patient by one identifier of whichever domain; ``search`` for Query Emergency Data."""

    patient: PatientId
    search: Search | None = None
    bare: bool = False
    fits: bool = True  # False: the search asks for something that a summary never is


def read_operation(request: FhirRequest) -> SummaryRequest:
    """``Patient/[id]/$summary`` or ``Patient/$summary?identifier=``; raises Problem."""
    given = arguments(request)
    findings: list[Finding] = []
    for profile in given["profile"]:
        if profile.partition("|")[0] not in _PROFILES:
            said = f"this node makes summaries of the profile {_PROFILES[0]} only"
            findings.append(Finding("UnsupportedQueryField", said, "http.profile"))
    if given["graph"]:
        findings.append(Finding("UnsupportedQueryField", "no graph definition is used here", "http.graph"))
    patient: PatientId | None = None
    if request.id:
        value = patient_value(request.id)
        if not value:
            raise Problem.of("AddressNotFound", "no Patient has this id, or none that this caller may know of")
        patient = PatientId(value, request.affinity_domain)
        if given["identifier"]:
            findings.append(Finding("RuleBroken", "the address names the Patient already", _IDENTIFIER))
    elif given["identifier"]:
        patient = _identified(given["identifier"][0], _IDENTIFIER, findings)
    else:
        said = "Patient/$summary needs identifier=urn:oid:…|…; or ask for Patient/[id]/$summary"
        findings.append(Finding("RequiredFieldMissing", said, _IDENTIFIER))
    if findings or patient is None:
        raise Problem(findings)
    return SummaryRequest(patient)


def read_search(request: FhirRequest) -> SummaryRequest:
    """Query Emergency Data; raises Problem with everything that is wrong with it."""
    asked = search(replace(request, parameters=tuple((_TYPED.sub("", n), v) for n, v in request.parameters)))
    findings: list[Finding] = []
    patients: list[PatientId] = []
    bare, fits = False, True
    for criterion in asked.criteria:
        if criterion.name.endswith("identifier"):
            patients += _alternatives(criterion, findings)
        elif criterion.name == "_bare":
            bare = criterion.alternatives[0] == "true"
        elif criterion.name == "type":
            fits = any(token(a)[1] == "document" for a in criterion.alternatives)
        else:
            patients += _referenced(criterion, request, findings)
    if not patients and not findings:
        said = "Query Emergency Data is about one patient: composition.patient.identifier=urn:oid:…|…"
        findings.append(Finding("RequiredFieldMissing", said, "http.composition.patient.identifier"))
    if len(set(patients)) > 1:
        findings.append(Finding("RuleBroken", "Query Emergency Data is about one patient", "http"))
    if findings:
        raise Problem(findings)
    return SummaryRequest(patients[0], asked, bare, fits)


def _alternatives(criterion: Criterion, findings: list[Finding]) -> list[PatientId]:
    found = [_identified(value, criterion.location, findings) for value in criterion.alternatives]
    return [patient for patient in found if patient is not None]


def _identified(value: str, where: str, findings: list[Finding]) -> PatientId | None:
    system, number = token(value)
    oid = authority(system or "")
    if not oid or not number:
        said = "an identifier is written urn:oid:…|…, with the OID of its assigning authority"
        findings.append(Finding("DataTypeError", said, where))
        return None
    return PatientId(number, oid)


def _referenced(criterion: Criterion, request: FhirRequest, findings: list[Finding]) -> list[PatientId]:
    """Patient/[id], its full address, or the id alone."""
    found = []
    for value in criterion.alternatives:
        reference = plain(value).removeprefix(f"{request.base}/").removeprefix(_LOCAL)
        named = patient_value(reference)
        if named:
            found.append(PatientId(named, request.affinity_domain))
        else:
            said = "it names no Patient of this service"
            findings.append(Finding("DataTypeError", said, criterion.location))
    return found


def write_operation(bundle: dict[str, Any]) -> FhirReply:
    """The document itself."""
    return FhirReply(body=bundle)


def write_search(result: tuple[SummaryRequest, dict[str, Any] | None], request: FhirRequest) -> FhirReply:
    """A searchset with the document, or the document alone; a patient who is not known has none."""
    asked, bundle = result
    found: Sequence[dict[str, Any]] = (bundle,) if bundle is not None and asked.fits else ()
    if asked.bare:
        if not found:
            raise Problem.of("AddressNotFound", "no patient is known here by this identifier")
        return FhirReply(body=found[0])
    assert asked.search is not None  # noqa: S101 - a search has read it
    entries = [{"fullUrl": f"urn:uuid:{b['id']}", "resource": b, "search": {"mode": "match"}} for b in found]
    return FhirReply(
        body=searchset(
            request,
            () if asked.search.count_only else entries,
            path="Bundle",
            used=asked.search.used,
            total=len(entries),
            warnings=asked.search.warnings,
        )
    )
