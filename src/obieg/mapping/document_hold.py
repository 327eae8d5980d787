"""Holds of documents over FHIR: ``DocumentReference/[id]/$hold`` and ``$holds`` (ours; docs/access.md, Holds)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from obieg.domain.holds import KINDS, PROTECTIVE, REASON_LENGTHS, Held, HoldAsked, HoldEnded, HoldsAsked
from obieg.domain.problems import Finding, Problem
from obieg.domain.reasons import is_reason, wanted
from obieg.mapping.fhir_parameters import arguments
from obieg.mapping.fhir_patient import instant
from obieg.protocol import FhirReply, FhirRequest


def read_request(request: FhirRequest) -> HoldAsked | HoldEnded | HoldsAsked:
    """What is asked; raises Problem with everything that is wrong with it."""
    document = _document(request)
    if request.interaction == "[id]/$holds":
        return HoldsAsked(document)
    given = arguments(request)
    if request.interaction.startswith("delete "):
        return HoldEnded(document, given["hold"][0])
    kind, reason = given["kind"][0], given["reason"][0].strip()
    findings = []
    if kind not in KINDS:
        findings.append(Finding("TableValueNotFound", f"one of {', '.join(KINDS)} is expected", "http.kind"))
    if not is_reason(reason, REASON_LENGTHS):
        findings.append(Finding("RuleBroken", wanted(REASON_LENGTHS), "http.reason"))
    until = _instant(given["until"][0], findings) if given["until"] else None
    if bool(given["until"]) != (kind == PROTECTIVE) and kind in KINDS:
        said = "a protective hold has an end" if kind == PROTECTIVE else "a legal hold stands until it is withdrawn"
        findings.append(Finding("RuleBroken", said, "http.until"))
    if findings:
        raise Problem(findings)
    return HoldAsked(document, kind, reason, until)


def _document(request: FhirRequest) -> str:
    try:
        return f"urn:uuid:{UUID(request.id)}"
    except ValueError:
        said = f"{request.id[:80]!r} is no logical id of a DocumentReference"
        raise Problem.of("AddressNotFound", said) from None


def _instant(text: str, findings: list[Finding]) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        findings.append(Finding("DataTypeError", "an instant with its time zone is expected", "http.until"))
        return None
    return found


def write_answer(result: Held | Sequence[Held] | None, _request: FhirRequest) -> FhirReply:
    """Parameters: ``hold`` for each; nothing for an end."""
    if result is None:
        return FhirReply(status=204)
    if isinstance(result, Held):
        return FhirReply(body=_parameters([result]), status=200 if result.changed else 201)
    return FhirReply(body=_parameters(result))


def _parameters(holds: Sequence[Held]) -> dict[str, Any]:
    listed = [{"name": "hold", "part": _parts(each)} for each in holds]
    return {"resourceType": "Parameters", **({"parameter": listed} if listed else {})}


def _parts(held: Held) -> list[dict[str, Any]]:
    values = {
        "id": ("String", held.id),
        "kind": ("Code", held.kind),
        "reason": ("String", held.reason),
        "since": ("Instant", instant(held.since)),
        "until": ("Instant", instant(held.until) if held.until else ""),
        "by": ("String", held.by),
        "organisation": ("String", held.organisation),
    }
    return [{"name": name, f"value{kind}": value} for name, (kind, value) in values.items() if value]
