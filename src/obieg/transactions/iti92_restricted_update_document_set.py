"""ITI-92 Restricted Update Document Set: somebody corrects the metadata of a document (ITI TF-2:3.92, RMU)."""

from __future__ import annotations

from obieg.actors.document_lifecycle import DocumentLifecycle
from obieg.domain.problems import Finding
from obieg.mapping import ebrs, submission
from obieg.protocol import Context, SoapBinding, Transaction


async def _serve(lifecycle: DocumentLifecycle, read: submission.Read, context: Context) -> tuple[Finding, ...]:
    return await lifecycle.update(read[0], context, restricted=True, found_already=read[1])


TRANSACTION = Transaction(
    id="ITI-92",
    name="Restricted Update Document Set",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-92.html",
    actor="document_lifecycle",
    initiator="Update Initiator",
    responder="Update Responder",
    binding=SoapBinding(
        endpoint="restricted_update",
        port_type="UpdateResponder_RestrictedUpdateDocumentSet",
        action="urn:ihe:iti:2018:RestrictedUpdateDocumentSet",
        response_action="urn:ihe:iti:2018:RestrictedUpdateDocumentSetResponse",
        request=(ebrs.LCM, "SubmitObjectsRequest"),
        response=(ebrs.RS, "RegistryResponse"),
    ),
    event="update",
    decode=submission.decode_update,
    serve=_serve,
    encode=submission.encode,
    refuse=submission.encode,
    audit=submission.audit,
    permission="document_lifecycle:submission:update_restricted",
)
