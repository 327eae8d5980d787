"""Patient/[id]/$everything: the patient and all documents, submission sets and folders that are registered for them.

http://hl7.org/fhir/R4/patient-operation-everything.html. Documents themselves are named by their addresses.
"""

from __future__ import annotations

from obieg.actors.exporter import Everything, Exporter
from obieg.domain.audit import AuditObject
from obieg.domain.exporting import EverythingRequest
from obieg.mapping import fhir_exports, fhir_outcome
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction


async def _serve(exporter: Exporter, asked: EverythingRequest, context: Context) -> Everything:
    return await exporter.everything(asked, context)


def _encode(result: Everything, request: FhirRequest) -> FhirReply:
    return fhir_exports.write_everything(result.resources, result.cursor, request)


TRANSACTION = Transaction(
    id="FHIR-11",
    name="Patient Everything",
    spec="https://hl7.org/fhir/R4/patient-operation-everything.html",
    actor="exporter",
    initiator="Document Consumer",
    responder="Document Registry",
    binding=FhirBinding(
        resources=("Patient",),
        interactions=("[id]/$everything",),
        conforms_to="https://profiles.ihe.net/ITI/PDQm/CapabilityStatement/IHE.PDQm.PatientDemographicsSupplier",
    ),
    event="query",
    decode=fhir_exports.read_everything,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=lambda asked: (AuditObject("patient", str(asked.patient)),),
    permission="exporter:patient:everything",
)
