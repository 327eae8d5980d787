"""IPS: the summary of a patient, made of the registered documents ($summary on Patient).

http://hl7.org/fhir/uv/ips/OperationDefinition-summary.html
"""

from __future__ import annotations

from typing import Any

from obieg.actors.patient_summary import Made, SummaryQuery
from obieg.domain.audit import AuditObject
from obieg.domain.problems import Problem
from obieg.mapping import fhir_outcome, ips_request
from obieg.mapping.ips_request import SummaryRequest
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction

_SPEC = "https://hl7.org/fhir/uv/ips/OperationDefinition-summary.html"


def _decode(request: FhirRequest) -> tuple[SummaryRequest, str]:
    return ips_request.read_operation(request), request.base


async def _serve(summaries: Any, asked: tuple[SummaryRequest, str], context: Context) -> Made:
    request, base = asked
    made: Made | None = await summaries.summary(SummaryQuery(request.patient, base), context)
    if made is None:
        raise Problem.of("AddressNotFound", "no Patient has this id or identifier, or none this caller may know of")
    return made


def _encode(made: Made, _request: FhirRequest) -> FhirReply:
    return ips_request.write_operation(made.bundle)


def _audit(asked: tuple[SummaryRequest, str]) -> tuple[AuditObject, ...]:
    """The patient as asked for; the actor adds the affinity-domain id and the documents that were read."""
    return (AuditObject("patient", str(asked[0].patient)),)


TRANSACTION = Transaction(
    id="IPS",
    name="Patient Summary",
    spec=_SPEC,
    actor="patient_summary",
    initiator="Summary Consumer",
    responder="Summary Source",
    binding=FhirBinding(
        resources=("Patient",),
        interactions=("$summary", "[id]/$summary"),
        conforms_to="http://hl7.org/fhir/uv/ips/CapabilityStatement/ips-server",
    ),
    event="export",
    decode=_decode,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="patient_summary:patient:read",
)
