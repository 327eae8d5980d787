"""ITI-105 Simplified Publish: one DocumentReference that carries its document (https://profiles.ihe.net/ITI/MHD/ITI-105.html)."""

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
    id="ITI-105",
    name="Simplified Publish",
    spec="https://profiles.ihe.net/ITI/MHD/ITI-105.html",
    actor="document_publisher",
    initiator="Document Source",
    responder="Document Recipient",
    binding=FhirBinding(
        resources=("DocumentReference",),
        interactions=("create", "conditional-create"),
        conforms_to="https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentRecipient.Simplified",
        profiles=(PROFILES["simplified"],),
    ),
    event="import",
    decode=mhd_provide.read_simplified,
    serve=_serve,
    encode=mhd_provide.write_simplified,
    refuse=fhir_outcome.refuse,
    audit=lambda publication: submission_audit(publication.submission),
    permission="document_repository:document:provide",
)
