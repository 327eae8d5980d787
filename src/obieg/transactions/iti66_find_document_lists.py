"""ITI-66 Find Document Lists: which submission sets and folders a patient has (FHIR search and read).

https://profiles.ihe.net/ITI/MHD/ITI-66.html
"""

from __future__ import annotations

from obieg.actors.document_registry import DocumentRegistry
from obieg.domain.queries import FoundResources
from obieg.mapping import fhir_outcome, mhd_search
from obieg.mapping.mhd_search import DocumentsAsked
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(
    registry: DocumentRegistry, asked: DocumentsAsked, context: Context
) -> tuple[DocumentsAsked, FoundResources]:
    return mhd_search.answered(asked, await registry.search(asked.query, context))


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
    encode=mhd_search.write_found,
    refuse=fhir_outcome.refuse,
    audit=mhd_search.audit,
    permission="document_registry:object:find",
)
