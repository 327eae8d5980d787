"""ITI-78 Mobile Patient Demographics Query: who fits this description, and who is this Patient (FHIR search and read).

https://profiles.ihe.net/ITI/PDQm/ITI-78.html
"""

from __future__ import annotations

from typing import Any

from obieg.domain.audit import AuditObject
from obieg.domain.patients import Candidate, Candidates
from obieg.domain.problems import Problem
from obieg.mapping import pdqm
from obieg.mapping.pdqm import PatientRead, PatientSearch
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction


async def _serve(
    index: Any, asked: PatientSearch | PatientRead, context: Context
) -> tuple[PatientSearch, Candidates] | Candidate:
    if isinstance(asked, PatientRead):
        found: Candidate | None = await index.read(asked.patient, context)
        if found is None:
            raise Problem.of("AddressNotFound", "no Patient has this id, or none that this caller may know of")
        if not found.active and found.replaced_by is None:
            raise Problem.of("ResourceGone", "every source of this Patient has withdrawn it")
        return found
    if asked.search.cursor:
        return asked, await index.more(asked.search.cursor, asked.search.count, context)
    return asked, await index.search(asked.query, context)


def _encode(result: tuple[PatientSearch, Candidates] | Candidate, request: FhirRequest) -> FhirReply:
    return pdqm.write_read(result) if isinstance(result, Candidate) else pdqm.write_page(result, request)


def _audit(asked: PatientSearch | PatientRead) -> tuple[AuditObject, ...]:
    """The query; the index adds the patients who are listed."""
    if isinstance(asked, PatientRead):
        return (AuditObject(kind="patient", identifier=str(asked.patient)),)
    return (AuditObject(kind="pdqm_query", identifier="Patient", query=asked.query.text),)


TRANSACTION = Transaction(
    id="ITI-78",
    name="Mobile Patient Demographics Query",
    spec="https://profiles.ihe.net/ITI/PDQm/ITI-78.html",
    actor="patient_index",
    initiator="Patient Demographics Consumer",
    responder="Patient Demographics Supplier",
    binding=FhirBinding(
        resources=("Patient",),
        interactions=("read", "search-type"),
        conforms_to="https://profiles.ihe.net/ITI/PDQm/CapabilityStatement/IHE.PDQm.PatientDemographicsSupplier",
        profiles=("https://profiles.ihe.net/ITI/PDQm/StructureDefinition/IHE.PDQm.Patient",),
    ),
    event="query",
    decode=pdqm.read_request,
    serve=_serve,
    encode=_encode,
    refuse=pdqm.refuse_search,
    audit=_audit,
    permission="patient_index:patient:search",
)
