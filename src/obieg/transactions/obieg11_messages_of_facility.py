"""Communication/$inbox, $answer and $close-thread: a facility answers its patients (FHIR, ours).

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


def _audit(_asked: Asked) -> tuple[AuditObject, ...]:
    """The actor names the patients when it has found the threads."""
    return ()


TRANSACTION = Transaction(
    id="OBIEG-11",
    name="Messages of a Facility",
    spec="https://hl7.org/fhir/R4/communication.html",
    actor="messaging",
    initiator="Facility",
    responder="Message Exchange",
    binding=FhirBinding(
        resources=("Communication",), interactions=("$inbox", "$answer", "$close-thread"), conforms_to=""
    ),
    event="query",
    decode=messaging.read_request,
    serve=_serve,
    encode=messaging.write_answer,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="messaging:facility:answer",
)
