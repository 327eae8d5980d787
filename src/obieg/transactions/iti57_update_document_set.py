"""ITI-57 Update Document Set: a document administrator changes what is registered (ITI TF-2:3.57)."""

from __future__ import annotations

from obieg.actors.document_lifecycle import DocumentLifecycle
from obieg.domain.problems import Finding
from obieg.mapping import ebrs, submission
from obieg.protocol import Context, SoapBinding, Transaction


async def _serve(lifecycle: DocumentLifecycle, read: submission.Read, context: Context) -> tuple[Finding, ...]:
    return await lifecycle.update(read[0], context, restricted=False, found_already=read[1])


TRANSACTION = Transaction(
    id="ITI-57",
    name="Update Document Set",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-57.html",
    actor="document_lifecycle",
    initiator="Document Administrator",
    responder="Document Registry",
    binding=SoapBinding(
        endpoint="update",
        port_type="DocumentRegistry_UpdateDocumentSet",
        action="urn:ihe:iti:2010:UpdateDocumentSet",
        response_action="urn:ihe:iti:2010:UpdateDocumentSetResponse",
        request=(ebrs.LCM, "SubmitObjectsRequest"),
        response=(ebrs.RS, "RegistryResponse"),
    ),
    event="update",
    decode=submission.decode_update,
    serve=_serve,
    encode=submission.encode,
    refuse=submission.encode,
    audit=submission.audit,
    permission="document_lifecycle:submission:update",
)
