"""Patient/[id]/$add-document and $withdraw-document: documents that patients add by themselves (FHIR, ours).

docs/access.md, Own documents.
"""

from __future__ import annotations

from obieg.actors.own_documents import OwnDocuments
from obieg.domain.audit import AuditObject
from obieg.domain.own_documents import PERMISSION, Added, Withdrawn
from obieg.mapping import fhir_outcome, own_document
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(actor: OwnDocuments, asked: Added | Withdrawn, context: Context) -> str | None:
    if isinstance(asked, Added):
        return await actor.add(asked, context)
    await actor.withdraw(asked, context)
    return None


TRANSACTION = Transaction(
    id="OBIEG-9",
    name="Own Documents",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="own_documents",
    initiator="Patient",
    responder="Document Repository",
    binding=FhirBinding(
        resources=("Patient",), interactions=("[id]/$add-document", "[id]/$withdraw-document"), conforms_to=""
    ),
    event="import",
    decode=own_document.read_request,
    serve=_serve,
    encode=own_document.write_answer,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission=PERMISSION,
)
