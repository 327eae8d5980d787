"""Patient/$represented: for whom the caller may act, themselves among them (FHIR, ours).

docs/access.md, What patients do by themselves.
"""

from __future__ import annotations

from obieg.mapping import fhir_outcome, patient_portal
from obieg.protocol import FhirBinding, Transaction

TRANSACTION = Transaction(
    id="OBIEG-4",
    name="People Whom a Patient Represents",
    spec="https://hl7.org/fhir/R4/operations.html",
    actor="patient_portal",
    initiator="Patient",
    responder="Patient Portal",
    binding=FhirBinding(resources=("Patient",), interactions=("$represented",), conforms_to=""),
    event="query",
    decode=patient_portal.read_represented,
    serve=lambda actor, asked, context: actor.represented(asked, context),
    encode=patient_portal.write_represented,
    refuse=fhir_outcome.refuse,
    audit=lambda _asked: (),
    permission="patient_portal:people:read",
)
