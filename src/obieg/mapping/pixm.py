"""PIXm 3.1.0: the Patient Identity Feed FHIR [ITI-104] and the query for identifiers [ITI-83], and their answers.

https://profiles.ihe.net/ITI/PIXm/ITI-104.html, https://profiles.ihe.net/ITI/PIXm/ITI-83.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from obieg.codes.load import toml
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import Candidate, CrossReferenceQuery, FeedEvent, PatientFeed
from obieg.domain.problems import Finding, Problem
from obieg.mapping import fhir_outcome
from obieg.mapping.fhir_parameters import arguments, token
from obieg.mapping.fhir_patient import (
    PROFILES,
    STATED,
    ReadPatient,
    authority,
    identifier,
    patient_value,
    read_identifier,
    read_patient,
    reference,
    write_patient,
)
from obieg.protocol import FhirReply, FhirRequest

_REFUSALS = toml("fhir.toml")["pixm"]
_SOURCE, _TARGET = "http.sourceIdentifier", "http.targetSystem"
_LOCAL = "Patient/"


# ITI-104 ---------------------------------------------------------------------------------------------------------


class IdentityFeed(Value, frozen=True):
    """A feed, and the version of the Patient that its sender wants to change, or ""."""

    feed: PatientFeed
    if_match: str = ""


class Taken(Value, frozen=True):
    """A feed that was taken in; without a patient there was nobody to remove."""

    feed: PatientFeed
    patient: PatientId | None = None
    created: bool = False


def read_feed(request: FhirRequest) -> IdentityFeed:
    """What a conditional update or delete says; raises Problem with everything that is wrong with it."""
    return IdentityFeed(_feed(request), request.if_match)


def _feed(request: FhirRequest) -> PatientFeed:
    findings: list[Finding] = []
    named = _named(request, findings)
    if request.interaction == "conditional-delete":
        if findings or named is None:
            raise Problem(findings)
        return PatientFeed(event=FeedEvent.REMOVE, identifiers=(named,), identifier_locations=("http.identifier",))
    resource = request.body
    if resource is None or resource["resourceType"] != "Patient":
        raise Problem.of("RuleBroken", "a Patient resource is expected", (resource or {}).get("resourceType", ""))
    patient = read_patient(resource, findings)
    _check(resource, patient, named, request, findings)
    survivor = _survivor(patient, request, findings)
    if findings or named is None:
        raise Problem(findings)
    where = patient.locations[patient.identifiers.index(named)]
    source = resource.get("meta", {}).get("source", "")
    if survivor is not None:
        return PatientFeed(
            event=FeedEvent.MERGE,
            identifiers=(survivor,),
            merged=(named,),
            identifier_locations=(patient.replaced_by[0][1],),
            merged_locations=(where,),
            source=source,
        )
    others = {i: at for i, at in zip(patient.identifiers, patient.locations, strict=True) if i != named}
    return PatientFeed(
        event=FeedEvent.UPDATE,
        identifiers=(named, *others),
        demographics=patient.demographics,
        stated=STATED,
        identifier_locations=(where, *others.values()),
        source=source,
    )


def _named(request: FhirRequest, findings: list[Finding]) -> PatientId | None:
    """The one identifier in the address."""
    given = [value for name, value in request.parameters if name == "identifier" and value]
    for name, _ in request.parameters:
        if name != "identifier":
            said = "only identifier says which Patient is meant"
            findings.append(Finding("UnsupportedQueryField", said, f"http.{name[:64]}"))
    if len(given) != 1:
        code = "DataTypeError" if given else "RequiredFieldMissing"
        said = f"one identifier=urn:oid:…|… in the address says which Patient is meant, not {len(given)}"
        findings.append(Finding(code, said, "http.identifier"))
        return None
    system, value = token(given[0])
    item = {"system": system or "", "value": value}
    return _accepted(read_identifier(item, "http.identifier", findings), "http.identifier", request, findings)


def _accepted(found: PatientId | None, where: str, request: FhirRequest, findings: list[Finding]) -> PatientId | None:
    if found is not None and not request.authorities.accepts(found.authority):
        said = f"this region takes no identifiers of the assigning authority {found.authority}"
        findings.append(Finding("UnknownKeyIdentifier", said, where))
    return found


def _check(
    resource: dict[str, Any],
    patient: ReadPatient,
    named: PatientId | None,
    request: FhirRequest,
    findings: list[Finding],
) -> None:
    for found, where in zip(patient.identifiers, patient.locations, strict=True):
        if found != named:
            _accepted(found, where, request, findings)
    if "identifier" not in resource:
        findings.append(Finding("RequiredFieldMissing", "a Patient is fed with its identifiers", "Patient.identifier"))
    elif named is not None and named not in patient.identifiers:
        said = "the identifier in the address is none of the Patient's, so it is not clear who is meant"
        findings.append(Finding("RuleBroken", said, "Patient.identifier"))
    if not resource.get("name"):
        said = "PIXm Patient has a name; of a person without one send a name with a data-absent-reason"
        findings.append(Finding("RequiredFieldMissing", said, "Patient.name"))
    if patient.replaced_by and resource.get("active") is not False:
        said = "a Patient that is replaced by another one is not active: send active=false"
        findings.append(Finding("RuleBroken", said, "Patient.active"))
    elif not patient.active and not patient.replaced_by:
        said = "to withdraw a Patient send DELETE; to merge it send active=false with a link of type replaced-by"
        findings.append(Finding("RuleBroken", said, "Patient.active"))


def _survivor(patient: ReadPatient, request: FhirRequest, findings: list[Finding]) -> PatientId | None:
    if len(patient.replaced_by) > 1:
        findings.append(Finding("RuleBroken", "a Patient is replaced by one other", "Patient.link"))
    if len(patient.replaced_by) != 1:
        return None
    other, where = patient.replaced_by[0]
    if "identifier" in other:
        return _accepted(
            read_identifier(other["identifier"], f"{where}.identifier", findings), where, request, findings
        )
    target = other.get("reference", "").removeprefix(f"{request.base}/")
    value = patient_value(target.removeprefix(_LOCAL)) if target.startswith(_LOCAL) else ""
    if not value:
        said = "the surviving Patient is named by other.identifier, or by a reference to Patient/… of this service"
        findings.append(Finding("RequiredFieldMissing", said, where))
        return None
    return PatientId(value, request.affinity_domain)


def write_taken(taken: Taken, request: FhirRequest) -> FhirReply:
    """201 with the address of the Patient, or 200; the body is the source's record as it was taken in.

    The Patient resource itself, which all sources speak of, is at that address.
    """
    feed, patient = taken.feed, taken.patient
    if feed.event is FeedEvent.REMOVE or patient is None:
        return FhirReply(status=204)
    status = 201 if taken.created else 200
    location = f"{request.base}/{reference(patient)['reference']}" if taken.created else ""
    if request.prefer == "minimal":
        return FhirReply(status=status, location=location)
    if request.prefer == "OperationOutcome":
        said = {"severity": "information", "code": "informational", "diagnostics": "the Patient was taken in"}
        return FhirReply(status=status, location=location, body=fhir_outcome.outcome([said]))
    merged = feed.event is FeedEvent.MERGE
    record = Candidate(
        patient=feed.merged[0] if merged else patient,
        identifiers=feed.merged if merged else feed.identifiers,
        demographics=feed.demographics,
        active=not merged,
        replaced_by=patient if merged else None,
    )
    body = write_patient(record)
    del body["meta"]  # the version is that of the whole Patient
    if record.patient.authority != request.affinity_domain:
        del body["id"]
    return FhirReply(status=status, location=location, body=body)


# ITI-83 ----------------------------------------------------------------------------------------------------------


def read_query(request: FhirRequest) -> CrossReferenceQuery:
    """The question; raises Problem with everything that is wrong with it.

    The affinity domain is always asked for as well, without a location, since its id leads to the Patient resource. An
    address of this service stands for the affinity domain too, and its ``Patient/id`` for a patient id there.
    """
    given = arguments(request)
    findings: list[Finding] = []
    system, value = token(given["sourceIdentifier"][0])
    if system == request.base and value.startswith(_LOCAL):
        system, value = f"urn:oid:{request.affinity_domain}", patient_value(value.removeprefix(_LOCAL))
    if not system or not value:
        said = "the identifier is written system|value"
        findings.append(Finding("DataTypeError", said, _SOURCE))
    elif not authority(system):
        findings.append(Finding("UnknownKeyIdentifier", "it names no assigning authority by urn:oid:", f"{_SOURCE}-4"))
    targets: dict[str, str] = {}
    for target in given["targetSystem"]:
        oid = request.affinity_domain if target == request.base else authority(target)
        if oid:
            targets[oid] = _TARGET
        else:
            said = f"{target[:80]!r} names no assigning authority by urn:oid:"
            findings.append(Finding("UnknownKeyIdentifier", said, _TARGET))
    if findings:
        raise Problem(findings)
    if targets:
        targets.setdefault(request.affinity_domain, "")
    asked = [("sourceIdentifier", given["sourceIdentifier"][0]), *(("targetSystem", t) for t in given["targetSystem"])]
    return CrossReferenceQuery(
        identifier=PatientId(value, authority(system or "")),
        authorities=tuple(targets),
        identifier_location=_SOURCE,
        authority_locations=tuple(targets.values()),
        text=urlencode(asked).encode(),
    )


def write_answer(result: tuple[CrossReferenceQuery, Sequence[PatientId]], request: FhirRequest) -> FhirReply:
    """Parameters with the identifiers, without the one that was asked by, and the Patient."""
    query, found = result
    unasked = {a for a, at in zip(query.authorities, query.authority_locations, strict=True) if not at}
    targets = [i for i in found if i != query.identifier and i.authority not in unasked]
    parameters: list[dict[str, Any]] = [
        {"name": "targetIdentifier", "valueIdentifier": identifier(target)} for target in targets
    ]
    patient = next((i for i in found if i.authority == request.affinity_domain), None)
    if parameters and patient is not None:
        parameters.append({"name": "targetId", "valueReference": reference(patient)})
    answer: dict[str, Any] = {"resourceType": "Parameters", "meta": {"profile": [PROFILES["pixm_out"]]}}
    if parameters:
        answer["parameter"] = parameters
    return FhirReply(body=answer)


def refuse_query(findings: Sequence[Finding], request: FhirRequest) -> FhirReply:
    """The profile has words of its own for what it does not know (3.83.4.2.2.2 to 3.83.4.2.2.4)."""
    issues, statuses = [], []
    for finding in findings:
        row = _REFUSALS.get(_unknown(finding))
        if row is None:
            issues.append(fhir_outcome.issue(finding))
        else:
            location = finding.location.removesuffix("-1").removesuffix("-4")
            issues.append(fhir_outcome.issue(finding._replace(location=location), code=row["code"], text=row["text"]))
            statuses.append(row["status"])
    if len(statuses) < len(findings):
        return FhirReply(status=fhir_outcome.refuse(findings, request).status, body=fhir_outcome.outcome(issues))
    return FhirReply(status=statuses[0], body=fhir_outcome.outcome(issues))


def _unknown(finding: Finding) -> str:
    if finding.code != "UnknownKeyIdentifier":
        return ""
    named = {f"{_SOURCE}-1": "source_identifier", f"{_SOURCE}-4": "source_domain", _TARGET: "target_domain"}
    return named.get(finding.location, "")
