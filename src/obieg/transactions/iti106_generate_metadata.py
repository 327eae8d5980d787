"""ITI-106 Generate Metadata: a document alone, of which the node says the rest (https://profiles.ihe.net/ITI/MHD/ITI-106.html)."""

from __future__ import annotations

from typing import Any

from obieg.mapping import fhir_outcome, mhd_provide
from obieg.mapping.mhd_provide import Publication, Published
from obieg.mapping.submission import submission_audit
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(recipient: Any, publication: Publication, context: Context) -> Published:
    published: Published = await recipient.publish(publication, context)
    return published


TRANSACTION = Transaction(
    id="ITI-106",
    name="Generate Metadata",
    spec="https://profiles.ihe.net/ITI/MHD/ITI-106.html",
    actor="document_publisher",
    initiator="Document Source",
    responder="Document Recipient",
    binding=FhirBinding(
        resources=("DocumentReference",),
        interactions=("$generate-metadata",),
        conforms_to="https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentRecipient.Generate",
    ),
    event="import",
    decode=mhd_provide.read_generate,
    serve=_serve,
    encode=mhd_provide.write_generated,
    refuse=fhir_outcome.refuse,
    audit=lambda publication: submission_audit(publication.submission),
    permission="document_repository:document:provide",
)
