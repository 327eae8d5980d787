"""ITI-61 Register On-Demand Document Entry: a source announces what it can make when asked (ITI TF-2:3.61)."""

from __future__ import annotations

from obieg.actors.document_registry import DocumentRegistry
from obieg.domain.documents import EntryType
from obieg.domain.problems import Finding
from obieg.mapping import ebrs, submission
from obieg.protocol import Context, SoapBinding, Transaction


async def _serve(registry: DocumentRegistry, read: submission.Read, context: Context) -> tuple[Finding, ...]:
    return await registry.register(read[0], context, found_already=read[1], entry_type=EntryType.ON_DEMAND)


TRANSACTION = Transaction(
    id="ITI-61",
    name="Register On-Demand Document Entry",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-61.html",
    actor="document_registry",
    initiator="On-Demand Document Source",
    responder="Document Registry",
    binding=SoapBinding(
        endpoint="register",
        port_type="DocumentRegistry_RegisterOnDemandDocumentEntry",
        action="urn:ihe:iti:2010:RegisterOnDemandDocumentEntry",
        response_action="urn:ihe:iti:2010:RegisterOnDemandDocumentResponse",
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
