"""MSIM Query Emergency Data: the emergency data set of a patient, a FHIR document found by a search for Bundles.

The guide PLMsimPatientSummary on Simplifier makes public the form of the call and what the document holds; see
:mod:`obieg.mapping.ips_request` for what this node understands.
"""

from __future__ import annotations

from typing import Any

from obieg.actors.patient_summary import Made, SummaryQuery
from obieg.domain.audit import AuditObject
from obieg.domain.problems import Problem
from obieg.mapping import fhir_outcome, ips_request
from obieg.mapping.ips_request import SummaryRequest
from obieg.protocol import Context, FhirBinding, FhirRequest, Transaction


def _decode(request: FhirRequest) -> tuple[SummaryRequest, str]:
    return ips_request.read_search(request), request.base


async def _serve(
    summaries: Any, asked: tuple[SummaryRequest, str], context: Context
) -> tuple[SummaryRequest, dict[str, Any] | None]:
    request, base = asked
    if not request.fits:
        return request, None
    made: Made | None = await summaries.summary(SummaryQuery(request.patient, base), context)
    if made is None and request.bare:
        raise Problem.of("AddressNotFound", "no patient is known here by this identifier")
    return request, made.bundle if made is not None else None


def _audit(asked: tuple[SummaryRequest, str]) -> tuple[AuditObject, ...]:
    """The patient as asked for; the actor adds the affinity-domain id and the documents that were read."""
    return (AuditObject("patient", str(asked[0].patient)),)


TRANSACTION = Transaction(
    id="MSIM",
    name="Query Emergency Data",
    spec="https://simplifier.net/guide/plmsimpatientsummary",
    actor="patient_summary",
    initiator="Emergency Data Consumer",
    responder="Emergency Data Source",
    binding=FhirBinding(
        resources=("Bundle",),
        interactions=("search-type",),
        conforms_to="http://hl7.org/fhir/uv/ips/CapabilityStatement/ips-server",
        profiles=("http://hl7.org/fhir/uv/ips/StructureDefinition/Bundle-uv-ips",),
    ),
    event="export",
    decode=_decode,
    serve=_serve,
    encode=ips_request.write_search,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="patient_summary:patient:read",
)
