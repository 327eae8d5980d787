"""``$validate``: what is to be validated as what, and the verdict as an OperationOutcome.

http://hl7.org/fhir/R4/resource-operation-validate.html. The answer has status 200 whatever the verdict: without an
issue of severity error the resource is valid. A profile that this node does not know is an error where the caller asked
for it, since nobody else would say that it was not looked at, and a warning where the resource claims it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from obieg.domain.documents import Value
from obieg.domain.problems import Finding, Problem
from obieg.mapping import fhir_outcome
from obieg.protocol import FhirReply, FhirRequest
from obieg.wire.fhir_elements import FAULTS_MAX, Fault, check

MODES = ("create", "update", "delete", "profile")
_PARAMETERS = {"mode": "valueCode", "profile": "valueUri"}
_BASE = "http://hl7.org/fhir/StructureDefinition/"
# By the rule of a fault: our code, and the issue type where it is not that code's.
_RULES = {
    "unknown": ("ElementUnknown", ""),
    "required": ("RequiredFieldMissing", ""),
    "type": ("DataTypeError", ""),
    "binding": ("TableValueNotFound", ""),
    "invariant": ("RuleBroken", "invariant"),
    "target": ("RuleBroken", "invalid"),
}


def finding(fault: Fault) -> Finding:
    """A fault in our own terms."""
    return Finding(_RULES[fault.rule][0], fault.said, fault.path)


class Validation(Value, frozen=True):
    """What is asked. Without a resource it is whether one may be deleted."""

    resource: dict[str, Any] | None
    mode: str = ""
    profiles: tuple[str, ...] = ()


def read_validation(request: FhirRequest) -> Validation:
    """The question; raises Problem where it is not clear what is asked. The resource itself may be anything."""
    findings: list[Finding] = []
    resource = request.body
    given: list[tuple[str, Any]] = [(name, value) for name, value in request.parameters if name in _PARAMETERS]
    if resource is not None and _is_wrapped(resource, request):
        resource, said = _unwrapped(resource, findings)
        given += said
    modes = [value for name, value in given if name == "mode"]
    if len(modes) > 1 or any(mode not in MODES for mode in modes):
        findings.append(Finding("TableValueNotFound", f"mode is one of {', '.join(MODES)}", "http.mode"))
    mode = modes[0] if modes else ""
    profiles = tuple(dict.fromkeys(value for name, value in given if name == "profile" and value))
    if mode == "profile" and not profiles:
        findings.append(Finding("RequiredFieldMissing", "mode=profile needs the profile", "http.profile"))
    if mode == "delete" and not request.id:
        said_of_delete = "whether something may be deleted is asked of one resource: [type]/[id]/$validate"
        findings.append(Finding("RuleBroken", said_of_delete, "http.mode"))
    if resource is None and mode != "delete":
        said_of_none = "send what is to be validated: a resource, or Parameters with one called resource"
        findings.append(Finding("RequiredFieldMissing", said_of_none, "http.resource"))
    if findings:
        raise Problem(findings)
    return Validation(resource, mode, profiles)


def _is_wrapped(body: Mapping[str, Any], request: FhirRequest) -> bool:
    """Parameters are the question, unless they are what is asked about."""
    if body.get("resourceType") != "Parameters":
        return False
    names = {item.get("name") for item in _items(body)}
    return request.resource != "Parameters" or bool(names & {"resource", *_PARAMETERS})


def _items(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    items = body.get("parameter", [])
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _unwrapped(body: dict[str, Any], findings: list[Finding]) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
    """The resource as it was sent, and the other parameters."""
    resources = [item["resource"] for item in _items(body) if item.get("name") == "resource" and "resource" in item]
    rest = [item for item in _items(body) if item.get("name") != "resource"]
    shell = {key: value for key, value in body.items() if key != "parameter"} | ({"parameter": rest} if rest else {})
    findings.extend(map(finding, check(shell)))
    if len(resources) > 1 or not all(isinstance(r, dict) for r in resources):
        findings.append(Finding("DataTypeError", "one resource is validated at a time", "Parameters.parameter"))
        return None, []
    said = [
        (item["name"], item[_PARAMETERS[item["name"]]])
        for item in rest
        if item.get("name") in _PARAMETERS and isinstance(item.get(_PARAMETERS[item["name"]]), str)
    ]
    named = {item.get("name") for item in rest} & _PARAMETERS.keys()
    findings.extend(
        Finding("DataTypeError", f"{name} is given as {_PARAMETERS[name]}", f"http.{name}")
        for name in sorted(str(n) for n in named)
        if name not in {n for n, _ in said}
    )
    return (resources[0] if resources else None), said


def write_verdict(result: tuple[Validation, Sequence[Fault]], request: FhirRequest) -> FhirReply:
    """The verdict; without an error the resource is valid."""
    asked, faults = result
    resource = asked.resource
    if resource is None:
        said = "what would speak against deleting it is told when it is deleted"
        return FhirReply(body=fhir_outcome.outcome([_information(said)]))
    issues = [fhir_outcome.issue(finding(f), code=_RULES[f.rule][1]) for f in faults]
    issues += [fhir_outcome.issue(finding) for finding in _context(resource, asked, request)]
    if len(faults) >= FAULTS_MAX:
        issues.append(_information(f"only the first {FAULTS_MAX} faults are listed"))
    if not any(issue["severity"] == "error" for issue in issues):
        issues.append(_information("valid FHIR R4: structure, required codes, references and invariants"))
    return FhirReply(body=fhir_outcome.outcome(issues))


def _information(said: str) -> dict[str, Any]:
    return {"severity": "information", "code": "informational", "diagnostics": said}


def _context(resource: Mapping[str, Any], asked: Validation, request: FhirRequest) -> list[Finding]:
    """What is wrong with it at this address, and profiles that nobody looked at."""
    found: list[Finding] = []
    kind = str(resource.get("resourceType", ""))[:64]
    if request.resource not in ("", kind):
        found.append(Finding("RuleBroken", f"the address is of {request.resource}, not of {kind}", kind))
    if request.id and resource.get("id") != request.id:
        found.append(Finding("RuleBroken", f"the address is of the id {request.id[:64]}", f"{kind}.id"))
    elif asked.mode == "update" and "id" not in resource:
        found.append(Finding("RequiredFieldMissing", "what is updated has an id", f"{kind}.id"))
    for profile in asked.profiles:
        if profile.partition("|")[0] != f"{_BASE}{kind}":
            said = f"the profile {profile[:200]!r} is not known here: nothing was checked against it"
            found.append(Finding("UnknownProfile", said, "http.profile"))
    meta = resource.get("meta")
    claimed = meta.get("profile", ()) if isinstance(meta, dict) else ()
    for index, profile in enumerate(claimed if isinstance(claimed, list) else ()):
        if isinstance(profile, str) and profile.partition("|")[0] != f"{_BASE}{kind}":
            said = f"the profile {profile[:200]!r} is not known here: nothing was checked against it"
            found.append(Finding("UnknownProfile", said, f"{kind}.meta.profile[{index}]", warning=True))
    return found
