"""Patient/[id]/$notices and $notices-read: what the patient was told (FHIR, ours).

docs/access.md, Obligations.
"""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.mapping import fhir_outcome, patient_portal
from obieg.protocol import FhirBinding, Transaction

TRANSACTION = Transaction(
    id="OBIEG-5",
    name="Notices of a Patient",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="patient_portal",
    initiator="Patient",
    responder="Patient Portal",
    binding=FhirBinding(resources=("Patient",), interactions=("[id]/$notices", "[id]/$notices-read"), conforms_to=""),
    event="query",
    decode=patient_portal.read_notices,
    serve=lambda actor, asked, context: actor.notices(asked, context),
    encode=patient_portal.write_notices,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission="patient_portal:notice:read",
)
