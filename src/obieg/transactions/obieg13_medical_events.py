"""Patient/[id]/$medical-events: what facilities have reported to P1 of a patient (FHIR, ours).

docs/access.md, Medical events.
"""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.mapping import fhir_outcome, medical_events
from obieg.protocol import FhirBinding, Transaction

TRANSACTION = Transaction(
    id="OBIEG-13",
    name="Medical Events of a Patient",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="event_reader",
    initiator="Document Consumer",
    responder="Source of Medical Events",
    binding=FhirBinding(resources=("Patient",), interactions=("[id]/$medical-events",), conforms_to=""),
    event="query",
    decode=medical_events.read_request,
    serve=lambda actor, asked, context: actor.read(asked, context),
    encode=medical_events.write_events,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission="event_reader:event:read",
)
