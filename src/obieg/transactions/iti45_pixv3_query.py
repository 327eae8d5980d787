"""ITI-45 PIXV3 Query: a consumer asks under which identifiers a patient is known (SOAP).

https://profiles.ihe.net/ITI/TF/Volume2/ITI-45.html
"""

from __future__ import annotations

from obieg.actors.patient_index import PatientIndex
from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId
from obieg.mapping import hl7v3, pixv3
from obieg.protocol import Context, SoapBinding, Transaction


async def _serve(index: PatientIndex, asked: hl7v3.Asked, context: Context) -> tuple[PatientId, ...]:
    return await index.cross_reference(asked.value, context)


def _audit(asked: hl7v3.Asked) -> tuple[AuditObject, ...]:
    """The patient asked for and the query (ITI TF-2:3.45.5.1)."""
    patient = AuditObject("patient", str(asked.value.identifier))
    query = AuditObject("pixv3_query", pixv3.QUERY_NAME, query=asked.value.text)
    return hl7v3.audited([patient, query], asked.message_id)


TRANSACTION = Transaction(
    id="ITI-45",
    name="PIXV3 Query",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-45.html",
    actor="patient_index",
    initiator="Patient Identifier Cross-reference Consumer",
    responder="Patient Identifier Cross-reference Manager",
    binding=SoapBinding(
        endpoint="pix_v3",
        port_type="PIXManager_PRPA_IN201309UV02",
        action=hl7v3.action_of("identifiers_query"),
        response_action=hl7v3.action_of("identifiers_answer"),
        request=hl7v3.element_of("identifiers_query"),
        response=hl7v3.element_of("identifiers_answer"),
    ),
    event="query",
    decode=pixv3.read_query,
    serve=_serve,
    encode=pixv3.write_answer,
    refuse=pixv3.write_refusal,
    audit=_audit,
    permission="patient_index:identifier:cross_reference",
)
