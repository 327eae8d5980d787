"""Patient/[id]/$handout-code and $handout: the patient's own views, printed at the counter (FHIR, ours).

docs/access.md, Handing out at the counter.
"""

from __future__ import annotations

from obieg.actors.handouts import Handouts
from obieg.domain.audit import AuditObject
from obieg.domain.consent_codes import CodeSent
from obieg.domain.handouts import HandedOut, HandoutAsked, HandoutCodeAsked
from obieg.mapping import fhir_outcome, handout
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(actor: Handouts, asked: HandoutCodeAsked | HandoutAsked, context: Context) -> CodeSent | HandedOut:
    if isinstance(asked, HandoutCodeAsked):
        return await actor.ask(asked, context)
    return await actor.hand_out(asked, context)


TRANSACTION = Transaction(
    id="OBIEG-16",
    name="Handing Out at the Counter",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="handouts",
    initiator="Patient Counter",
    responder="Patient Portal",
    binding=FhirBinding(resources=("Patient",), interactions=("[id]/$handout-code", "[id]/$handout"), conforms_to=""),
    event="query",
    decode=handout.read_request,
    serve=_serve,
    encode=handout.write_answer,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission="handouts:patient:print",
)
