"""ITI-44 Patient Identity Feed HL7 V3: a source adds, revises or merges the records of its patients (SOAP).

https://profiles.ihe.net/ITI/TF/Volume2/ITI-44.html
"""

from __future__ import annotations

from obieg.actors.patient_index import PatientIndex
from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId
from obieg.mapping import hl7v3, pixv3
from obieg.protocol import Context, SoapBinding, SoapOperation, Transaction


async def _serve(index: PatientIndex, asked: hl7v3.Asked, context: Context) -> PatientId:
    return await index.feed(asked.value, context)


def _audit(asked: hl7v3.Asked) -> tuple[AuditObject, ...]:
    """The patients that the message names, the merged ones too (ITI TF-2:3.44.5.1)."""
    identifiers = (*asked.value.identifiers, *asked.value.merged)
    return hl7v3.audited([AuditObject("patient", str(i)) for i in identifiers], asked.message_id)


TRANSACTION = Transaction(
    id="ITI-44",
    name="Patient Identity Feed HL7 V3",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-44.html",
    actor="patient_index",
    initiator="Patient Identity Source",
    responder="Patient Identifier Cross-reference Manager",
    binding=SoapBinding(
        endpoint="pix_v3",
        port_type="PIXManager_PRPA_IN201301UV02",
        action=hl7v3.action_of("add"),
        response_action=hl7v3.action_of("acknowledgement"),
        request=hl7v3.element_of("add"),
        response=hl7v3.element_of("acknowledgement"),
        others=tuple(
            SoapOperation(
                port_type=f"PIXManager_{hl7v3.element_of(interaction)[1]}",
                action=hl7v3.action_of(interaction),
                response_action=hl7v3.action_of("acknowledgement"),
                request=hl7v3.element_of(interaction),
                response=hl7v3.element_of("acknowledgement"),
            )
            for interaction in ("revise", "merge")
        ),
    ),
    event="patient_record",
    decode=pixv3.read_feed,
    serve=_serve,
    encode=lambda _patient, message: hl7v3.acknowledgement(message),
    refuse=lambda findings, message: hl7v3.acknowledgement(message, findings),
    audit=_audit,
    permission="patient_index:identity:feed",
)
