"""ITI-42 Register Document Set-b: a repository announces documents to the registry (ITI TF-2:3.42)."""

from __future__ import annotations

from obieg.actors.document_registry import DocumentRegistry
from obieg.domain.problems import Finding
from obieg.mapping import ebrs, submission
from obieg.protocol import Context, SoapBinding, Transaction


async def _serve(registry: DocumentRegistry, read: submission.Read, context: Context) -> tuple[Finding, ...]:
    return await registry.register(read[0], context, found_already=read[1])


TRANSACTION = Transaction(
    id="ITI-42",
    name="Register Document Set-b",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-42.html",
    actor="document_registry",
    initiator="Document Repository",
    responder="Document Registry",
    binding=SoapBinding(
        endpoint="register",
        port_type="DocumentRegistry_RegisterDocumentSet-b",
        action="urn:ihe:iti:2007:RegisterDocumentSet-b",
        response_action="urn:ihe:iti:2007:RegisterDocumentSet-bResponse",
        request=(ebrs.LCM, "SubmitObjectsRequest"),
        response=(ebrs.RS, "RegistryResponse"),
    ),
    event="import",
    decode=submission.decode,
    serve=_serve,
    encode=submission.encode,
    refuse=submission.encode,
    audit=submission.audit,
    permission="document_registry:submission:register",
)
