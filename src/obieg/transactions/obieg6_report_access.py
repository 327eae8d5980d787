"""Patient/[id]/$report-access and $access-reviews: the patient disputes an entry of the access log (FHIR, ours).

docs/access.md, What patients do by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from obieg.actors.patient_portal import PatientPortal
from obieg.domain.audit import AuditObject
from obieg.domain.patient_portal import ReportAsked, Reviewed, ReviewsAsked
from obieg.mapping import fhir_outcome, patient_portal
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(
    actor: PatientPortal, asked: ReportAsked | ReviewsAsked, context: Context
) -> Sequence[Reviewed] | None:
    if isinstance(asked, ReviewsAsked):
        return await actor.reviews(asked, context)
    await actor.report(asked, context)
    return None


TRANSACTION = Transaction(
    id="OBIEG-6",
    name="Report of an Access",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="patient_portal",
    initiator="Patient",
    responder="Patient Portal",
    binding=FhirBinding(
        resources=("Patient",), interactions=("[id]/$report-access", "[id]/$access-reviews"), conforms_to=""
    ),
    event="query",
    decode=patient_portal.read_report,
    serve=_serve,
    encode=patient_portal.write_report,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission="patient_portal:access:report",
)
