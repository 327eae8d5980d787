"""Patient/[id]/$search-documents: words in the text of a patient's documents (FHIR, ours).

docs/access.md, Search in texts.
"""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.mapping import fhir_outcome, text_search
from obieg.protocol import FhirBinding, Transaction

TRANSACTION = Transaction(
    id="OBIEG-12",
    name="Search in the Text of Documents",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="text_search",
    initiator="Document Consumer",
    responder="Document Repository",
    binding=FhirBinding(resources=("Patient",), interactions=("[id]/$search-documents",), conforms_to=""),
    event="query",
    decode=text_search.read_request,
    serve=lambda actor, asked, context: actor.search(asked, context),
    encode=text_search.write_found,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission="text_search:document:search",
)
