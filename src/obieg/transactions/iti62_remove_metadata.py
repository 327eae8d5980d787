"""ITI-62 Remove Metadata: a document administrator takes objects out of the registry (ITI TF-2:3.62)."""

from __future__ import annotations

from obieg.actors.document_lifecycle import DocumentLifecycle
from obieg.domain.audit import AuditObject
from obieg.domain.problems import Finding
from obieg.mapping import ebrs
from obieg.protocol import Context, SoapBinding, SoapReply, SoapRequest, Transaction


def _decode(message: SoapRequest) -> tuple[str, ...]:
    ebrs.expect(message.body, ebrs.LCM, "RemoveObjectsRequest")
    return ebrs.read_remove_objects(message.body)


async def _serve(lifecycle: DocumentLifecycle, uuids: tuple[str, ...], context: Context) -> tuple[Finding, ...]:
    await lifecycle.remove(uuids, context)
    return ()


def _encode(findings: tuple[Finding, ...], _message: SoapRequest) -> SoapReply:
    return SoapReply(ebrs.registry_response(findings))


def _audit(uuids: tuple[str, ...]) -> tuple[AuditObject, ...]:
    return tuple(AuditObject("registry_object", uuid) for uuid in uuids)


TRANSACTION = Transaction(
    id="ITI-62",
    name="Remove Metadata",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-62.html",
    actor="document_lifecycle",
    initiator="Document Administrator",
    responder="Document Registry",
    binding=SoapBinding(
        endpoint="remove",
        port_type="DocumentRegistry_DeleteDocumentSet",
        action="urn:ihe:iti:2010:DeleteDocumentSet",
        response_action="urn:ihe:iti:2010:DeleteDocumentSetResponse",
        request=(ebrs.LCM, "RemoveObjectsRequest"),
        response=(ebrs.RS, "RegistryResponse"),
    ),
    event="removal",
    decode=_decode,
    serve=_serve,
    encode=_encode,
    refuse=_encode,
    audit=_audit,
    permission="document_lifecycle:metadata:remove",
)
