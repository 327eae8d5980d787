"""ITI-9 PIX Query: a consumer asks under which identifiers a patient is known (HL7 v2 QBP^Q23 over MLLP).

It is how a document source learns the affinity-domain id of the patient whose PESEL or local number it knows.

https://profiles.ihe.net/ITI/TF/Volume2/ITI-9.html
"""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.domain.patients import CrossReferenceQuery
from obieg.mapping import pix
from obieg.protocol import MllpBinding, Transaction


def _audit(query: CrossReferenceQuery) -> tuple[AuditObject, ...]:
    """The patient of QPD-3 and the query (ITI TF-2:3.9.5.1); the edge adds MSH-10."""
    return (
        AuditObject(kind="patient", identifier=str(query.identifier)),
        AuditObject(kind="pix_query", identifier=pix.QUERY_NAME, query=query.text),
    )


TRANSACTION = Transaction(
    id="ITI-9",
    name="PIX Query",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-9.html",
    actor="patient_index",
    initiator="Patient Identifier Cross-reference Consumer",
    responder="Patient Identifier Cross-reference Manager",
    binding=MllpBinding("QBP", ("Q23",)),
    event="query",
    decode=lambda request: pix.read_query(request.message, request.authorities),
    serve=lambda index, query, context: index.cross_reference(query, context),
    encode=lambda found, request: pix.write_answer(found, request.message, request.authorities),
    refuse=lambda findings, request: pix.write_refusal(findings, request.message),
    audit=_audit,
    permission="patient_index:identifier:cross_reference",
)
