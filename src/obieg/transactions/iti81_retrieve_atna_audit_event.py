"""ITI-81 Retrieve ATNA Audit Event: who did what with whose data (FHIR search and read of AuditEvent).

ITI TF-2:3.81 (supplement "Add RESTful ATNA (Query and Feed)"), IHE BALP 1.1.4.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from obieg.domain.audit import AuditObject
from obieg.mapping import atna, fhir_outcome
from obieg.mapping.atna import LogAsked, LogPage
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction


class _Answer(NamedTuple):
    asked: LogAsked
    page: LogPage


async def _serve(repository: Any, asked: LogAsked, context: Context) -> _Answer:
    return _Answer(asked, await repository.find(asked, context))


def _encode(answer: _Answer, request: FhirRequest) -> FhirReply:
    return atna.write_page(answer.asked, answer.page, request)


def _audit(asked: LogAsked) -> tuple[AuditObject, ...]:
    """The log and the question (DICOM PS3.15 A.5.3.2); the actor adds whose records were shown."""
    log = AuditObject("audit_log", "urn:obieg:audit")
    query = (AuditObject("audit_query", "AuditEvent", query=asked.text),) if asked.search else ()
    patients = tuple(AuditObject("patient", p) for named in asked.patients for p in named)
    return (*patients, log, *query)


TRANSACTION = Transaction(
    id="ITI-81",
    name="Retrieve ATNA Audit Event",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-81.html",
    actor="audit_repository",
    initiator="Audit Consumer",
    responder="Audit Record Repository",
    binding=FhirBinding(
        resources=("AuditEvent",),
        interactions=("read", "search-type"),
        conforms_to="https://profiles.ihe.net/ITI/BALP/CapabilityStatement/IHE.BALP.ATNA.AuditRecordRepository",
    ),
    event="audit_log_used",
    decode=atna.read_question,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="audit_repository:audit_event:search",
)
