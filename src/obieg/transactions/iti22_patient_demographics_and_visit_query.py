"""ITI-22 Patient Demographics and Visit Query: as ITI-21, with visits (HL7 v2 QBP^ZV1 over MLLP).

The index knows persons, not visits: a question by a field of PV1 is refused, and an answer says that no visit applies
(PV1-2 N). A cancel (QCN^J01) names neither transaction and is taken by ITI-21.

https://profiles.ihe.net/ITI/TF/Volume2/ITI-22.html
"""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.domain.patients import Question
from obieg.mapping import pdq
from obieg.protocol import MllpBinding, Transaction


def _audit(asked: Question) -> tuple[AuditObject, ...]:
    """The query (ITI TF-2:3.22.5.1); the actor adds the patients that it answers, the edge MSH-10."""
    return (AuditObject(kind="pdvq_query", identifier=pdq.QUERY_NAME, query=asked.text),)


TRANSACTION = Transaction(
    id="ITI-22",
    name="Patient Demographics and Visit Query",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-22.html",
    actor="patient_index",
    initiator="Patient Demographics Consumer",
    responder="Patient Demographics Supplier",
    binding=MllpBinding("QBP", ("ZV1",)),
    event="query",
    decode=lambda request: pdq.read_question(request.message, request.authorities),
    serve=lambda index, asked, context: index.answer(asked, context),
    encode=lambda found, request: pdq.write_answer(found, request.message, request.authorities),
    refuse=lambda _findings, request: pdq.write_refusal(request.message),
    audit=_audit,
    permission="patient_index:demographics:query",
)
