"""ITI-83 Mobile Patient Identifier Cross-reference Query: asks for the identifiers of a patient ($ihe-pix).

https://profiles.ihe.net/ITI/PIXm/ITI-83.html
"""

from __future__ import annotations

from typing import Any

from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import CrossReferenceQuery
from obieg.mapping import pixm
from obieg.protocol import Context, FhirBinding, Transaction


async def _serve(
    index: Any, query: CrossReferenceQuery, context: Context
) -> tuple[CrossReferenceQuery, tuple[PatientId, ...]]:
    return query, await index.cross_reference(query, context)


def _audit(query: CrossReferenceQuery) -> tuple[AuditObject, ...]:
    """The patient of sourceIdentifier and the query."""
    return (
        AuditObject(kind="patient", identifier=str(query.identifier)),
        AuditObject(kind="pixm_query", identifier="$ihe-pix", query=query.text),
    )


TRANSACTION = Transaction(
    id="ITI-83",
    name="Mobile Patient Identifier Cross-reference Query",
    spec="https://profiles.ihe.net/ITI/PIXm/ITI-83.html",
    actor="patient_index",
    initiator="Patient Identifier Cross-reference Consumer",
    responder="Patient Identifier Cross-reference Manager",
    binding=FhirBinding(
        resources=("Patient",),
        interactions=("$ihe-pix",),
        conforms_to="https://profiles.ihe.net/ITI/PIXm/CapabilityStatement/IHE.PIXm.Manager",
    ),
    event="query",
    decode=pixm.read_query,
    serve=_serve,
    encode=pixm.write_answer,
    refuse=pixm.refuse_query,
    audit=_audit,
    permission="patient_index:identifier:cross_reference",
)
