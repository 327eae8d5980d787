"""Findings as an OperationOutcome: which element or parameter, which rule, what to do (http://hl7.org/fhir/R4/operationoutcome.html).

``codes/problems.toml`` gives status, issue type and meaning of each code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obieg.codes.load import toml
from obieg.domain import grounds
from obieg.domain.access import TOLD
from obieg.domain.problems import Finding
from obieg.protocol import FhirReply

ISSUES_MAX = 100  # of one answer
_PROBLEMS = toml("problems.toml")


def issue(finding: Finding, *, code: str = "", text: str = "") -> dict[str, Any]:
    """One issue; ``code`` and ``text`` are a profile's own words for it, in place of the table's."""
    row = _PROBLEMS[finding.code]
    said: dict[str, Any] = {
        "severity": "warning" if finding.warning else "error",
        "code": code or row["fhir"],
        "details": {"coding": [{"code": finding.code}], "text": text or row["means"]},
        "diagnostics": f"{text}: {finding.detail}" if text else finding.detail,
    }
    if finding.location:
        said["expression"] = [finding.location]
    return said


def shown_because(access: str) -> dict[str, Any]:
    """An issue that is none: on which bases something is shown, and until when (docs/access.md, Answers)."""
    known = grounds.read(access)
    coding = [{"system": grounds.SYSTEM, "code": basis, "display": TOLD[basis]["name"]["en"]} for basis in known]
    details = {"coding": coding, "text": "the bases on which this is shown, each with its end where it has one"}
    return {"severity": "information", "code": "informational", "details": details, "diagnostics": access}


def outcome(issues: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The resource."""
    return {"resourceType": "OperationOutcome", "issue": list(issues[:ISSUES_MAX])}


def refuse(findings: Sequence[Finding], _request: Any = None) -> FhirReply:
    """The answer in place of a result; the status is that of the first finding that is no warning."""
    worst = next((f for f in findings if not f.warning), findings[0])
    return FhirReply(status=_PROBLEMS[worst.code]["http"], body=outcome([issue(f) for f in findings]))
