"""ITI-68 Retrieve Document: the bytes of a document by its address in the DocumentReference (FHIR read of Binary).

https://profiles.ihe.net/ITI/MHD/ITI-68.html
"""

from __future__ import annotations

from typing import NamedTuple

from obieg.actors.document_repository import DocumentRepository
from obieg.domain.audit import AuditObject
from obieg.domain.problems import Problem
from obieg.mapping import fhir_outcome, mhd_search
from obieg.mapping.mhd_search import BinaryAsked
from obieg.protocol import Content, Context, FhirBinding, FhirReply, FhirRequest, Transaction

RESOURCE_BYTES_MAX = 32 * 1024 * 1024  # of a document that is given as a resource, in memory and in base64


class _Answer(NamedTuple):
    content: Content
    hash: str
    data: bytes | None  # where the caller wants the resource


async def _serve(repository: DocumentRepository, asked: BinaryAsked, context: Context) -> _Answer:
    found = await repository.locate(asked.entry_uuid, context)
    if not asked.resource:
        mhd_search.expect_acceptable(asked.accept, found.mime_type)
    content = await repository.retrieve_located(found, context)
    if not asked.resource:
        return _Answer(content, found.hash, None)
    if content.size > RESOURCE_BYTES_MAX:
        said = (
            f"a document of {content.size} bytes is not given as a resource: leave the format open, or ask for its own"
        )
        raise Problem.of("LimitExceeded", said, "http.Accept")
    return _Answer(content, found.hash, b"".join([piece async for piece in content.chunks()]))


def _encode(answer: _Answer, request: FhirRequest) -> FhirReply:
    if answer.data is not None:
        body = mhd_search.binary(request.id, answer.content.content_type, answer.data)
        return FhirReply(body=body, version=answer.hash)
    return FhirReply(content=answer.content, version=answer.hash)


def _audit(asked: BinaryAsked) -> tuple[AuditObject, ...]:
    """The repository names document and patient when it has found them."""
    return (AuditObject("document", f"urn:uuid:{asked.entry_uuid}"),)


TRANSACTION = Transaction(
    id="ITI-68",
    name="Retrieve Document",
    spec="https://profiles.ihe.net/ITI/MHD/ITI-68.html",
    actor="document_repository",
    initiator="Document Consumer",
    responder="Document Responder",
    binding=FhirBinding(
        resources=("Binary",),
        interactions=("read",),
        conforms_to="https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentResponder",
        raw=True,
    ),
    event="export",
    decode=mhd_search.read_binary,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="document_repository:document:retrieve",
)
