"""Who may act for a patient, over FHIR: ``Patient/[id]/$representatives`` and ``$end-authorisation`` (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obieg.domain.problems import Problem
from obieg.domain.representatives import ENDED_BY_PATIENT, AuthorisationEnded, Entitled, RepresentativesAsked
from obieg.mapping.emergency import named
from obieg.mapping.fhir_parameters import arguments
from obieg.mapping.fhir_patient import instant
from obieg.protocol import FhirReply, FhirRequest


def read_request(request: FhirRequest) -> RepresentativesAsked | AuthorisationEnded:
    """Raises Problem."""
    patient = named(request)
    given = arguments(request)
    if "end" not in request.interaction:
        return RepresentativesAsked(patient)
    source, kind = given["source"][0], given["kind"][0]
    if kind not in ENDED_BY_PATIENT:
        said = f"one of {', '.join(ENDED_BY_PATIENT)} is expected: nothing else is ended by the patient"
        raise Problem.of("TableValueNotFound", said, "http.kind")
    return AuthorisationEnded(patient, source, kind)


def write_answer(found: Sequence[Entitled] | None, _request: FhirRequest) -> FhirReply:
    """Parameters: ``representative`` for each; nothing for an end."""
    if found is None:
        return FhirReply(status=204)
    return FhirReply(body=write_entitled(found))


def write_entitled(found: Sequence[Entitled]) -> dict[str, Any]:
    """Parameters: ``representative`` for each."""
    listed = [{"name": "representative", "part": _parts(each)} for each in found]
    return {"resourceType": "Parameters", **({"parameter": listed} if listed else {})}


def _parts(each: Entitled) -> list[dict[str, Any]]:
    root, _, value = each.person.partition("#")
    who = {"identifier": {"system": f"urn:oid:{root}", "value": value}} if each.person else {}
    values = {
        "source": ("String", each.source),
        "kind": ("Code", each.kind),
        "who": ("Reference", {**who, **({"display": each.name} if each.name else {})}),
        "place": ("String", each.organisation_name),
        "since": ("Instant", instant(each.begin) if each.begin else ""),
        "until": ("Instant", instant(each.end) if each.end else ""),
        "now": ("Boolean", each.now),
        "endable": ("Boolean", each.endable),
    }
    return [{"name": n, f"value{kind}": value} for n, (kind, value) in values.items() if value not in ("", {})]
