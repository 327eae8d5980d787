"""ITI-55 Cross Gateway Patient Discovery: another community asks whether a patient is known here (SOAP).

The deferred form is not offered; it is acknowledged with an error that says so (ITI TF-2:3.55.4.1.3).

https://profiles.ihe.net/ITI/TF/Volume2/ITI-55.html
"""

from __future__ import annotations

from obieg.actors.patient_index import PatientIndex
from obieg.domain.audit import AuditObject
from obieg.mapping import hl7v3, xcpd
from obieg.protocol import Context, SoapBinding, SoapOperation, Transaction


async def _serve(index: PatientIndex, asked: hl7v3.Asked, context: Context) -> xcpd.Discovered:
    found = await index.match(asked.value.match, context)
    return xcpd.judged(asked.value, found, index.home_community_id)


def _audit(asked: hl7v3.Asked) -> tuple[AuditObject, ...]:
    """The query (ITI TF-2:3.55.5.1); the actor adds the patients that it answers."""
    query = AuditObject("discovery", xcpd.QUERY_NAME, query=asked.value.match.text)
    return hl7v3.audited([query], asked.message_id)


_QUERY, _ANSWER = hl7v3.element_of("candidates_query"), hl7v3.element_of("candidates_answer")
_NAME = "CrossGatewayPatientDiscovery"

TRANSACTION = Transaction(
    id="ITI-55",
    name="Cross Gateway Patient Discovery",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-55.html",
    actor="patient_index",
    initiator="Initiating Gateway",
    responder="Responding Gateway",
    binding=SoapBinding(
        endpoint="xcpd",
        port_type=f"RespondingGateway_{_QUERY[1]}",
        action=f"{hl7v3.action_of('candidates_query')}:{_NAME}",
        response_action=f"{hl7v3.action_of('candidates_answer')}:{_NAME}",
        request=_QUERY,
        response=_ANSWER,
        others=(
            SoapOperation(
                port_type=f"RespondingGateway_Deferred_{_QUERY[1]}",
                action=f"{hl7v3.action_of('candidates_query')}{xcpd.DEFERRED}{_NAME}",
                response_action=hl7v3.action_of("acknowledgement"),
                request=_QUERY,
                response=hl7v3.element_of("acknowledgement"),
            ),
        ),
    ),
    event="query",
    decode=xcpd.read_discovery,
    serve=_serve,
    encode=xcpd.write_answer,
    refuse=xcpd.write_refusal,
    audit=_audit,
    permission="patient_index:demographics:discover",
)
