"""ITI-86 Remove Documents: a document administrator has a repository destroy documents (ITI TF-2:3.86)."""

from __future__ import annotations

from obieg.actors.document_lifecycle import DocumentRemoval, Removed
from obieg.actors.document_repository import DocumentRequest
from obieg.domain.audit import AuditObject
from obieg.domain.problems import Finding, Problem
from obieg.mapping import ebrs
from obieg.protocol import Context, SoapBinding, SoapReply, SoapRequest, Transaction

DOCUMENTS_MAX = 1000  # of one request
_ITEM = f"{{{ebrs.XDSB}}}DocumentRequest"


def _decode(message: SoapRequest) -> tuple[DocumentRequest, ...]:
    ebrs.expect(message.body, ebrs.RMD, "RemoveDocumentsRequest")
    if len(message.body) > DOCUMENTS_MAX:  # before any is read
        raise Problem.of("LimitExceeded", f"more than {DOCUMENTS_MAX} documents are named at once")
    requests = dict.fromkeys(
        DocumentRequest(
            unique_id=ebrs.child_text(item, "DocumentUniqueId"),
            repository_unique_id=ebrs.child_text(item, "RepositoryUniqueId"),
            home_community_id=ebrs.child_text(item, "HomeCommunityId"),
        )
        for item in message.body.iterfind(_ITEM)
    )
    if not requests:
        raise Problem.of("XDSRepositoryError", "no document is named", "RemoveDocumentsRequest")
    if any(not r.unique_id or not r.repository_unique_id for r in requests):
        raise Problem.of("XDSRepositoryError", "RepositoryUniqueId and DocumentUniqueId are needed", "DocumentRequest")
    return tuple(requests)


async def _serve(removal: DocumentRemoval, requests: tuple[DocumentRequest, ...], context: Context) -> Removed:
    return await removal.remove(requests, context)


def _encode(removed: Removed, _message: SoapRequest) -> SoapReply:
    status = None
    if removed.findings:
        status = "PartialSuccess" if removed.unique_ids else "Failure"
    return SoapReply(ebrs.registry_response(removed.findings, status))


def _refuse(findings: tuple[Finding, ...], message: SoapRequest) -> SoapReply:
    return _encode(Removed((), findings), message)


def _audit(requests: tuple[DocumentRequest, ...]) -> tuple[AuditObject, ...]:
    return tuple(
        AuditObject("document", r.unique_id, details=(("Repository Unique Id", r.repository_unique_id),))
        for r in requests
    )


TRANSACTION = Transaction(
    id="ITI-86",
    name="Remove Documents",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-86.html",
    actor="document_removal",
    initiator="Document Administrator",
    responder="Document Repository",
    binding=SoapBinding(
        endpoint="remove_documents",
        port_type="DocumentRepository_RemoveDocuments",
        action="urn:ihe:iti:2017:RemoveDocuments",
        response_action="urn:ihe:iti:2017:RemoveDocumentsResponse",
        request=(ebrs.RMD, "RemoveDocumentsRequest"),
        response=(ebrs.RS, "RegistryResponse"),
    ),
    event="removal",
    decode=_decode,
    serve=_serve,
    encode=_encode,
    refuse=_refuse,
    audit=_audit,
    permission="document_removal:document:remove",
)
