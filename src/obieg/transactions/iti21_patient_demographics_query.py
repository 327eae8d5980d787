"""ITI-21 Patient Demographics Query: a consumer looks for a person by what it knows of them (HL7 v2 QBP^Q22 over MLLP).

https://profiles.ihe.net/ITI/TF/Volume2/ITI-21.html
"""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.domain.patients import Question
from obieg.mapping import pdq
from obieg.protocol import MllpBinding, Transaction


def _audit(asked: Question) -> tuple[AuditObject, ...]:
    """The query (ITI TF-2:3.21.5.1); the actor adds the patients that it answers, the edge MSH-10."""
    return (AuditObject(kind="pdq_query", identifier=pdq.QUERY_NAME, query=asked.text),)


TRANSACTION = Transaction(
    id="ITI-21",
    name="Patient Demographics Query",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-21.html",
    actor="patient_index",
    initiator="Patient Demographics Consumer",
    responder="Patient Demographics Supplier",
    binding=MllpBinding("QBP", ("Q22",), others=(("QCN", "J01"),)),
    event="query",
    decode=lambda request: pdq.read_question(request.message, request.authorities),
    serve=lambda index, asked, context: index.answer(asked, context),
    encode=lambda found, request: pdq.write_answer(found, request.message, request.authorities),
    refuse=lambda _findings, request: pdq.write_refusal(request.message),
    audit=_audit,
    permission="patient_index:demographics:query",
)
