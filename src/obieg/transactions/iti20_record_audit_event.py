"""ITI-20 Record Audit Event, FHIR Feed: others leave their AuditEvents here, one or a Bundle of them.

ITI TF-2:3.20 and the supplement "Add RESTful ATNA (Query and Feed)". The same transaction over syslog has no message of
request and answer; it is an edge of its own, :mod:`obieg.edges.syslog`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from obieg.domain.audit import AuditObject
from obieg.mapping import atna, fhir_outcome
from obieg.mapping.atna import Sent
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction


class _Taken(NamedTuple):
    sent: Sent
    numbers: list[int]


async def _serve(repository: Any, sent: Sent, context: Context) -> _Taken:
    return _Taken(sent, await repository.receive(sent, context))


def _encode(taken: _Taken, request: FhirRequest) -> FhirReply:
    return atna.write_created(taken.sent, taken.numbers, request)


def _audit(sent: Sent) -> tuple[AuditObject, ...]:
    """Whom the records are about, for the record of a refusal: what is taken in is itself the record."""
    return tuple(AuditObject("patient", p) for p in dict.fromkeys(p for r in sent.records for p in r.patients))


TRANSACTION = Transaction(
    id="ITI-20",
    name="Record Audit Event",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-20.html",
    actor="audit_repository",
    initiator="Audit Creator",
    responder="Audit Record Repository",
    binding=FhirBinding(
        resources=("AuditEvent",),
        interactions=("create",),
        conforms_to="https://profiles.ihe.net/ITI/BALP/CapabilityStatement/IHE.BALP.ATNA.AuditRecordRepository",
        bundle_type="AuditEvent",
        keeps_body=True,
    ),
    event="audit_received",
    decode=atna.read_sent,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="audit_repository:audit_event:create",
)
