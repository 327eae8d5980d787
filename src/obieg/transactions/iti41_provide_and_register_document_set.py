"""ITI-41 Provide and Register Document Set-b: a source hands documents to a repository (ITI TF-2:3.41).

Or, at an address of its own, to a recipient without a registry (XDR, ITI TF-1:15): the same message and answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from obieg.actors.document_recipient import DocumentRecipient
from obieg.actors.document_repository import DocumentRepository, Provided
from obieg.domain.documents import Submission
from obieg.domain.problems import Finding, Problem
from obieg.mapping import ebrs
from obieg.mapping.ebrim import IdSource
from obieg.mapping.submission import submission_audit
from obieg.protocol import Content, Context, SoapBinding, SoapQuestion, SoapReply, SoapRequest, Transaction
from obieg.wire.soap import XOP, include_href
from obieg.wire.xml import attribute

_DOCUMENT = f"{{{ebrs.XDSB}}}Document"
_SUBMIT = f"{{{ebrs.LCM}}}SubmitObjectsRequest"


def _decode(message: SoapRequest) -> Provided:
    ebrs.expect(message.body, ebrs.XDSB, "ProvideAndRegisterDocumentSetRequest")
    findings: list[Finding] = []
    submission = None
    documents: dict[str, Content] = {}
    unused = dict.fromkeys(message.parts)
    for child in message.body:
        if child.tag == _SUBMIT:
            submission = ebrs.read_submit_objects(child, findings)
        elif child.tag == _DOCUMENT:
            entry = child.get("id", "")
            if entry in documents:
                findings.append(
                    Finding("XDSRepositoryMetadataError", "two documents have the same id", f"Document {entry}")
                )
            content = _content(child, message, entry, findings, unused)
            if content is not None:
                documents[entry] = content
    findings += [
        Finding("XDSMissingDocumentMetadata", f"nothing refers to the part with Content-ID {name!r}", f"Part {name}")
        for name in unused
    ]
    if submission is None:
        raise Problem(findings or (Finding("XDSRepositoryMetadataError", "there is no SubmitObjectsRequest"),))
    return Provided(submission, documents, tuple(findings))


def _content(
    element: Any, message: SoapRequest, entry: str, findings: list[Finding], unused: dict[str, None]
) -> Content | None:
    href = include_href(element)
    if href is not None:
        part = message.parts.get(href)
        unused.pop(href, None)
        if part is None:
            findings.append(
                Finding("XDSMissingDocument", f"the message has no part with Content-ID {href!r}", f"Document {entry}")
            )
        return part
    content = ebrs.inline_content(element)
    if content is None:
        findings.append(Finding("XDSRepositoryMetadataError", "the inline content is not base64", f"Document {entry}"))
    return content


def encode_request(submission: Submission, documents: Mapping[str, Content], new_id: IdSource) -> SoapQuestion:
    """The request of a document source; ``documents`` by the id of their entry."""
    body = [f'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{ebrs.XDSB}">'.encode()]
    body.append(ebrs.write_submit_objects(submission, new_id))
    parts = []
    for number, (entry, content) in enumerate(documents.items(), 1):
        content_id = f"document{number}@obieg"
        body.append(
            f'<x:Document id="{attribute(entry)}"><xop:Include xmlns:xop="{XOP}" href="cid:{content_id}"/>'
            "</x:Document>".encode()
        )
        parts.append((content_id, content))
    body.append(b"</x:ProvideAndRegisterDocumentSetRequest>")
    return SoapQuestion(b"".join(body), tuple(parts), mtom=True)


async def _serve(repository: DocumentRepository, provided: Provided, context: Context) -> tuple[Finding, ...]:
    return await repository.provide(provided, context)


async def _receive(recipient: DocumentRecipient, provided: Provided, context: Context) -> tuple[Finding, ...]:
    return await recipient.receive(provided, context)


def _encode(warnings: tuple[Finding, ...], _message: SoapRequest) -> SoapReply:
    return SoapReply(ebrs.registry_response(warnings), mtom=True)


_BINDING = SoapBinding(
    endpoint="repository",
    port_type="DocumentRepository_ProvideAndRegisterDocumentSet-b",
    action="urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b",
    response_action="urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-bResponse",
    request=(ebrs.XDSB, "ProvideAndRegisterDocumentSetRequest"),
    response=(ebrs.RS, "RegistryResponse"),
    mtom=True,
)

TRANSACTION = Transaction(
    id="ITI-41",
    name="Provide and Register Document Set-b",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-41.html",
    actor="document_repository",
    initiator="Document Source",
    responder="Document Repository",
    binding=_BINDING,
    event="import",
    decode=_decode,
    serve=_serve,
    encode=_encode,
    refuse=_encode,
    audit=lambda provided: submission_audit(provided.submission),
    permission="document_repository:document:provide",
)

TO_RECIPIENT = replace(
    TRANSACTION,
    actor="document_recipient",
    responder="Document Recipient",
    binding=replace(_BINDING, endpoint="xdr", port_type="DocumentRecipient_ProvideAndRegisterDocumentSet-b"),
    serve=_receive,
    permission="document_recipient:document:receive",
)
