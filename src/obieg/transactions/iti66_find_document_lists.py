"""ITI-66 Find Document Lists: which submission sets and folders a patient has (FHIR search and read).

https://profiles.ihe.net/ITI/MHD/ITI-66.html
"""

from __future__ import annotations

from obieg.actors.document_registry import DocumentRegistry
from obieg.domain.audit import AuditObject
from obieg.domain.problems import Problem
from obieg.domain.queries import FoundResources
from obieg.mapping import fhir_outcome, mhd_search
from obieg.mapping.mhd_search import DocumentsAsked
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction


async def _serve(
    registry: DocumentRegistry, asked: DocumentsAsked, context: Context
) -> tuple[DocumentsAsked, FoundResources]:
    page = await registry.search(asked.query, context)
    if asked.id and not page.found:
        raise Problem.of("AddressNotFound", "no List has this id, or none that this caller may know of")
    return asked, page


def _encode(result: tuple[DocumentsAsked, FoundResources], request: FhirRequest) -> FhirReply:
    asked, page = result
    return mhd_search.write_read(page.found[0], request) if asked.id else mhd_search.write_page(asked, page, request)


def _audit(asked: DocumentsAsked) -> tuple[AuditObject, ...]:
    """The query and the patients it names; the registry adds those who are found by other names."""
    patients = tuple(AuditObject("patient", str(patient)) for patient in asked.query.patients)
    query = asked.query.text or f"_id={asked.id}".encode()
    return (*patients, AuditObject("find_document_lists", "List", query=query))


TRANSACTION = Transaction(
    id="ITI-66",
    name="Find Document Lists",
    spec="https://profiles.ihe.net/ITI/MHD/ITI-66.html",
    actor="document_registry",
    initiator="Document Consumer",
    responder="Document Responder",
    binding=FhirBinding(
        resources=("List",),
        interactions=("read", "search-type"),
        conforms_to="https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentResponder",
        profiles=(
            "https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Comprehensive.SubmissionSet",
            "https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Minimal.SubmissionSet",
            "https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Comprehensive.Folder",
            "https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Minimal.Folder",
        ),
    ),
    event="query",
    decode=mhd_search.read_request,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="document_registry:object:find",
)
