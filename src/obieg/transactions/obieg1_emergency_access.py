"""Patient/[id]/$break-glass: a professional opens all of one patient in an emergency, renews and ends it (FHIR, ours).

docs/access.md, Emergency.
"""

from __future__ import annotations

from obieg.actors.emergency_access import EmergencyAccess
from obieg.domain.audit import AuditObject
from obieg.domain.obligations import EmergencyAsked, Session
from obieg.mapping import emergency, fhir_outcome
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(actor: EmergencyAccess, asked: EmergencyAsked, context: Context) -> Session | None:
    if asked.end:
        await actor.end(asked, context)
        return None
    return await actor.open(asked, context)


TRANSACTION = Transaction(
    id="OBIEG-1",
    name="Emergency Access",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="emergency_access",
    initiator="Document Consumer",
    responder="Document Registry",
    binding=FhirBinding(
        resources=("Patient",),
        interactions=("[id]/$break-glass", "delete [id]/$break-glass"),
        conforms_to="",
    ),
    event="security_alert",
    decode=emergency.read_request,
    serve=_serve,
    encode=emergency.write_session,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission="emergency_access:session:open",
)
