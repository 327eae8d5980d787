"""ITI-119 Patient Demographics Match: asks who a person may be ($match).

https://profiles.ihe.net/ITI/PDQm/ITI-119.html
"""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.domain.patients import PatientMatch
from obieg.mapping import fhir_outcome, pdqm
from obieg.protocol import FhirBinding, Transaction


def _audit(match: PatientMatch) -> tuple[AuditObject, ...]:
    """The question; the index adds the patients who are listed."""
    return (AuditObject(kind="pdqm_match", identifier="$match", query=match.text),)


TRANSACTION = Transaction(
    id="ITI-119",
    name="Patient Demographics Match",
    spec="https://profiles.ihe.net/ITI/PDQm/ITI-119.html",
    actor="patient_index",
    initiator="Patient Demographics Consumer",
    responder="Patient Demographics Supplier",
    binding=FhirBinding(
        resources=("Patient",),
        interactions=("$match",),
        conforms_to="https://profiles.ihe.net/ITI/PDQm/CapabilityStatement/IHE.PDQm.PatientDemographicsSupplierMatch",
        profiles=("https://profiles.ihe.net/ITI/PDQm/StructureDefinition/IHE.PDQm.Patient",),
    ),
    event="query",
    decode=pdqm.read_match,
    serve=lambda index, match, context: index.match(match, context),
    encode=pdqm.write_match,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="patient_index:patient:match",
)
