"""ITI-43 Retrieve Document Set: a consumer asks a repository for documents by uniqueId (ITI TF-2:3.43)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obieg.actors.document_repository import DocumentRepository, DocumentRequest, NewDocument, Retrieved
from obieg.domain.audit import AuditObject
from obieg.domain.problems import Finding, Problem
from obieg.mapping import ebrs
from obieg.protocol import Content, Context, SoapBinding, SoapQuestion, SoapReply, SoapRequest, Transaction
from obieg.wire.soap import XOP, include_href
from obieg.wire.xml import attribute, text

DOCUMENTS_MAX = 1000  # of one request
_ITEM = f"{{{ebrs.XDSB}}}DocumentRequest"
_ANSWERED, _DOCUMENT = f"{{{ebrs.XDSB}}}DocumentResponse", f"{{{ebrs.XDSB}}}Document"


def _decode(message: SoapRequest) -> tuple[DocumentRequest, ...]:
    ebrs.expect(message.body, ebrs.XDSB, "RetrieveDocumentSetRequest")
    if len(message.body) > DOCUMENTS_MAX:  # before any is read
        raise Problem.of("LimitExceeded", f"more than {DOCUMENTS_MAX} documents are asked for at once")
    requests: dict[DocumentRequest, None] = {}
    for item in message.body.iterfind(_ITEM):
        request = _named(item)
        if not request.unique_id or not request.repository_unique_id:
            raise Problem.of(
                "XDSRepositoryError", "RepositoryUniqueId and DocumentUniqueId are needed", "DocumentRequest"
            )
        requests[request] = None
    if not requests:
        raise Problem.of("XDSRepositoryError", "no document is asked for", "RetrieveDocumentSetRequest")
    return tuple(requests)


def _named(item: Any) -> DocumentRequest:
    return DocumentRequest(
        unique_id=ebrs.child_text(item, "DocumentUniqueId"),
        repository_unique_id=ebrs.child_text(item, "RepositoryUniqueId"),
        home_community_id=ebrs.child_text(item, "HomeCommunityId"),
    )


def encode_request(requests: Sequence[DocumentRequest]) -> SoapQuestion:
    """The request of a document consumer."""
    items = [
        "<x:DocumentRequest>"
        + (f"<x:HomeCommunityId>{text(r.home_community_id)}</x:HomeCommunityId>" if r.home_community_id else "")
        + f"<x:RepositoryUniqueId>{text(r.repository_unique_id)}</x:RepositoryUniqueId>"
        f"<x:DocumentUniqueId>{text(r.unique_id)}</x:DocumentUniqueId></x:DocumentRequest>"
        for r in requests
    ]
    body = f'<x:RetrieveDocumentSetRequest xmlns:x="{ebrs.XDSB}">{"".join(items)}</x:RetrieveDocumentSetRequest>'
    return SoapQuestion(body.encode(), mtom=True)


def decode_answer(answer: SoapRequest) -> Retrieved:
    """The documents in a repository's answer, and what it says is wrong. Raises Problem when nothing can be read."""
    ebrs.expect(answer.body, ebrs.XDSB, "RetrieveDocumentSetResponse")
    _, findings = ebrs.read_registry_response(answer.body)
    documents = []
    new = {}
    for item in answer.body.iterfind(_ANSWERED):
        request = _named(item)
        element = item.find(_DOCUMENT)
        content = None if element is None else _content(element, answer)
        if content is None:
            raise Problem.of(
                "XDSRepositoryError", "the answer names a document and does not hold it", request.unique_id
            )
        documents.append((request, content))
        if made := ebrs.child_text(item, "NewDocumentUniqueId"):
            new[request.unique_id] = NewDocument(made, ebrs.child_text(item, "NewRepositoryUniqueId"))
    return Retrieved(tuple(documents), findings, new)


def _content(element: Any, answer: SoapRequest) -> Content | None:
    href = include_href(element)
    return answer.parts.get(href) if href is not None else ebrs.inline_content(element)


async def _serve(repository: DocumentRepository, requests: tuple[DocumentRequest, ...], context: Context) -> Retrieved:
    return await repository.retrieve(requests, context)


def _encode(retrieved: Retrieved, _message: SoapRequest) -> SoapReply:
    status = None
    if retrieved.findings:
        status = "PartialSuccess" if retrieved.documents else "Failure"
    parts: list[tuple[str, Content]] = []
    xml = [
        f'<x:RetrieveDocumentSetResponse xmlns:x="{ebrs.XDSB}">',
        ebrs.registry_response(retrieved.findings, status).decode(),
    ]
    for number, (request, document) in enumerate(retrieved.documents, 1):
        content_id = f"document{number}@obieg"
        home = (
            f"<x:HomeCommunityId>{text(request.home_community_id)}</x:HomeCommunityId>"
            if request.home_community_id
            else ""
        )
        new = retrieved.new.get(request.unique_id)
        made = (
            f"<x:NewRepositoryUniqueId>{text(new.repository_unique_id)}</x:NewRepositoryUniqueId>"
            f"<x:NewDocumentUniqueId>{text(new.unique_id)}</x:NewDocumentUniqueId>"
            if new is not None
            else ""
        )
        xml.append(
            f"<x:DocumentResponse>{home}<x:RepositoryUniqueId>{text(request.repository_unique_id)}</x:RepositoryUniqueId>"
            f"<x:DocumentUniqueId>{text(request.unique_id)}</x:DocumentUniqueId>{made}"
            f"<x:mimeType>{text(document.content_type)}</x:mimeType>"
            f'<x:Document><xop:Include xmlns:xop="{XOP}" href="cid:{attribute(content_id)}"/></x:Document>'
            f"</x:DocumentResponse>"
        )
        parts.append((content_id, document))
    xml.append("</x:RetrieveDocumentSetResponse>")
    return SoapReply("".join(xml).encode(), tuple(parts), mtom=True)


def _refuse(findings: tuple[Finding, ...], message: SoapRequest) -> SoapReply:
    return _encode(Retrieved((), findings), message)


def _audit(requests: tuple[DocumentRequest, ...]) -> tuple[AuditObject, ...]:
    return tuple(
        AuditObject("document", r.unique_id, details=(("Repository Unique Id", r.repository_unique_id),))
        for r in requests
    )


TRANSACTION = Transaction(
    id="ITI-43",
    name="Retrieve Document Set",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-43.html",
    actor="document_repository",
    initiator="Document Consumer",
    responder="Document Repository",
    binding=SoapBinding(
        endpoint="retrieve",
        port_type="DocumentRepository_RetrieveDocumentSet",
        action="urn:ihe:iti:2007:RetrieveDocumentSet",
        response_action="urn:ihe:iti:2007:RetrieveDocumentSetResponse",
        request=(ebrs.XDSB, "RetrieveDocumentSetRequest"),
        response=(ebrs.XDSB, "RetrieveDocumentSetResponse"),
        mtom=True,
    ),
    event="export",
    decode=_decode,
    serve=_serve,
    encode=_encode,
    refuse=_refuse,
    audit=_audit,
    permission="document_repository:document:retrieve",
)
