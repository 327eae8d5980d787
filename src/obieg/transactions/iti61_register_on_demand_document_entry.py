"""ITI-61 Register On-Demand Document Entry: a source announces what it can make when asked (ITI TF-2:3.61)."""

from __future__ import annotations

from obieg.actors.document_registry import DocumentRegistry
from obieg.domain.documents import EntryType, Submission
from obieg.domain.problems import Finding, Problem
from obieg.mapping import ebrs
from obieg.mapping.submission import submission_audit
from obieg.protocol import Context, SoapBinding, SoapReply, SoapRequest, Transaction

Read = tuple[Submission, tuple[Finding, ...]]


def _decode(message: SoapRequest) -> Read:
    ebrs.expect(message.body, ebrs.LCM, "SubmitObjectsRequest")
    findings: list[Finding] = []
    submission = ebrs.read_submit_objects(message.body, findings)
    if submission is None:
        raise Problem(findings)
    return submission, tuple(findings)


async def _serve(registry: DocumentRegistry, read: Read, context: Context) -> tuple[Finding, ...]:
    return await registry.register(read[0], context, found_already=read[1], entry_type=EntryType.ON_DEMAND)


def _encode(warnings: tuple[Finding, ...], _message: SoapRequest) -> SoapReply:
    return SoapReply(ebrs.registry_response(warnings))


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
    decode=_decode,
    serve=_serve,
    encode=_encode,
    refuse=_encode,
    audit=lambda read: submission_audit(read[0]),
    permission="document_registry:submission:register",
)
