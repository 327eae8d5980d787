"""ITI-47 Patient Demographics Query HL7 V3: a consumer looks for a person by what it knows of them (SOAP).

https://profiles.ihe.net/ITI/TF/Volume2/ITI-47.html
"""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.mapping import hl7v3, pdqv3
from obieg.protocol import SoapBinding, SoapOperation, Transaction


def _audit(asked: hl7v3.Asked) -> tuple[AuditObject, ...]:
    """The query (ITI TF-2:3.47.5.1); the actor adds the patients that it answers."""
    query = AuditObject("pdqv3_query", pdqv3.QUERY_NAME, query=asked.value.text)
    return hl7v3.audited([query], asked.message_id)


_ELEMENT, _CONTINUATION = hl7v3.element_of("candidates_query")[1], hl7v3.element_of("continuation")

TRANSACTION = Transaction(
    id="ITI-47",
    name="Patient Demographics Query HL7 V3",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-47.html",
    actor="patient_index",
    initiator="Patient Demographics Consumer",
    responder="Patient Demographics Supplier",
    binding=SoapBinding(
        endpoint="pdq_v3",
        port_type=f"PDSupplier_{_ELEMENT}",
        action=hl7v3.action_of("candidates_query"),
        response_action=hl7v3.action_of("candidates_answer"),
        request=hl7v3.element_of("candidates_query"),
        response=hl7v3.element_of("candidates_answer"),
        others=(
            SoapOperation(
                port_type=f"PDSupplier_{_CONTINUATION[1]}{hl7v3.CONTINUE_SUFFIX}",
                action=hl7v3.action_of("continuation") + hl7v3.CONTINUE_SUFFIX,
                response_action=hl7v3.action_of("candidates_answer"),
                request=_CONTINUATION,
                response=hl7v3.element_of("candidates_answer"),
            ),
            SoapOperation(
                port_type=f"PDSupplier_{_CONTINUATION[1]}{hl7v3.CANCEL_SUFFIX}",
                action=hl7v3.action_of("continuation") + hl7v3.CANCEL_SUFFIX,
                response_action=hl7v3.action_of("acknowledgement"),
                request=(_CONTINUATION[0], _CONTINUATION[1] + hl7v3.CANCEL_SUFFIX),
                response=hl7v3.element_of("acknowledgement"),
            ),
        ),
    ),
    event="query",
    decode=pdqv3.read_question,
    serve=lambda index, asked, context: index.answer(asked.value, context),
    encode=pdqv3.write_answer,
    refuse=pdqv3.write_refusal,
    audit=_audit,
    permission="patient_index:demographics:query",
)
