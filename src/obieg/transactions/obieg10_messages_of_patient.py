"""Patient/[id]/$messages, $send-message and $close-thread: a patient writes to a facility (FHIR, ours).

docs/access.md, Messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from obieg.actors.messaging import Messaging
from obieg.domain.audit import AuditObject
from obieg.domain.messaging import Asked, Thread
from obieg.mapping import fhir_outcome, messaging
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(actor: Messaging, asked: Asked, context: Context) -> Sequence[Thread] | None:
    return await actor.serve(asked, context)


def _audit(asked: Asked) -> tuple[AuditObject, ...]:
    return (AuditObject("patient", str(asked.patient)),)


TRANSACTION = Transaction(
    id="OBIEG-10",
    name="Messages of a Patient",
    spec="https://hl7.org/fhir/R4/communication.html",
    actor="messaging",
    initiator="Patient",
    responder="Message Exchange",
    binding=FhirBinding(
        resources=("Patient",),
        interactions=("[id]/$messages", "[id]/$send-message", "[id]/$close-thread"),
        conforms_to="",
    ),
    event="query",
    decode=messaging.read_request,
    serve=_serve,
    encode=messaging.write_answer,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="messaging:patient:write",
)
