"""Patient/[id]/$representatives and $end-authorisation: who may act for a patient or see about them (FHIR, ours).

docs/access.md, Representatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from obieg.actors.representatives import Representatives
from obieg.domain.audit import AuditObject
from obieg.domain.representatives import AuthorisationEnded, Entitled, RepresentativesAsked
from obieg.mapping import fhir_outcome, representatives
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(
    actor: Representatives, asked: RepresentativesAsked | AuthorisationEnded, context: Context
) -> Sequence[Entitled] | None:
    if isinstance(asked, RepresentativesAsked):
        return await actor.find(asked, context)
    context.transaction = replace(context.transaction, event="patient_record")
    await actor.end(asked, context)
    return None


TRANSACTION = Transaction(
    id="OBIEG-15",
    name="Representatives of a Patient",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="representatives",
    initiator="Patient",
    responder="Patient Portal",
    binding=FhirBinding(
        resources=("Patient",), interactions=("[id]/$representatives", "[id]/$end-authorisation"), conforms_to=""
    ),
    event="query",
    decode=representatives.read_request,
    serve=_serve,
    encode=representatives.write_answer,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission="representatives:patient:read",
)
