"""ITI-65 Provide Document Bundle: a source publishes documents over FHIR (https://profiles.ihe.net/ITI/MHD/ITI-65.html).

Minimal, comprehensive and uncontained comprehensive metadata, and FHIR documents.
"""

from __future__ import annotations

from typing import Any

from obieg.mapping import fhir_outcome, mhd_provide
from obieg.mapping.mhd_provide import PROFILES, Publication, Published
from obieg.mapping.submission import submission_audit
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(recipient: Any, publication: Publication, context: Context) -> Published:
    published: Published = await recipient.publish(publication, context)
    return published


TRANSACTION = Transaction(
    id="ITI-65",
    name="Provide Document Bundle",
    spec="https://profiles.ihe.net/ITI/MHD/ITI-65.html",
    actor="document_publisher",
    initiator="Document Source",
    responder="Document Recipient",
    binding=FhirBinding(
        resources=("",),
        interactions=("transaction",),
        conforms_to="https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentRecipient",
        profiles=(PROFILES["minimal"], PROFILES["comprehensive"], PROFILES["uncontained"]),
    ),
    event="import",
    decode=mhd_provide.read_bundle,
    serve=_serve,
    encode=mhd_provide.write_bundle,
    refuse=fhir_outcome.refuse,
    audit=lambda publication: submission_audit(publication.submission),
    permission="document_repository:document:provide",
)
