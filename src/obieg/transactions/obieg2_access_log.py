"""Patient/[id]/$access-log: the patient, or who may act for them, sees who saw what, when, where and why (FHIR, ours).

EHDS art. 9; docs/access.md, Access log.
"""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.mapping import access_log, fhir_outcome
from obieg.protocol import FhirBinding, Transaction

TRANSACTION = Transaction(
    id="OBIEG-2",
    name="Access Log of a Patient",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="access_log",
    initiator="Document Consumer",
    responder="Audit Record Repository",
    binding=FhirBinding(resources=("Patient",), interactions=("[id]/$access-log",), conforms_to=""),
    event="audit_log_used",
    decode=access_log.read_request,
    serve=lambda actor, asked, context: actor.read(asked, context),
    encode=access_log.write_page,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission="access_log:patient:read",
)
