"""Patient/[id]/$consent-code and $consent-confirm: the patient consents during a visit by a code (FHIR, ours).

docs/access.md, Consent by code.
"""

from __future__ import annotations

from dataclasses import replace

from obieg.actors.consent_codes import ConsentCodes
from obieg.domain.audit import AuditObject
from obieg.domain.consent_codes import CodeAsked, CodeSent, CodeTold
from obieg.domain.consents import Said
from obieg.mapping import consent_code, fhir_outcome
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(actor: ConsentCodes, asked: CodeAsked | CodeTold, context: Context) -> CodeSent | Said:
    if isinstance(asked, CodeTold):
        return await actor.confirm(asked, context)
    context.transaction = replace(context.transaction, event="query")
    return await actor.ask(asked, context)


TRANSACTION = Transaction(
    id="OBIEG-3",
    name="Consent by Code",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="consent_codes",
    initiator="Consent Recorder",
    responder="Consent Registry",
    binding=FhirBinding(
        resources=("Patient",), interactions=("[id]/$consent-code", "[id]/$consent-confirm"), conforms_to=""
    ),
    event="consent_recorded",
    decode=consent_code.read_request,
    serve=_serve,
    encode=consent_code.write_answer,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission="consent_registry:code:ask",
)
