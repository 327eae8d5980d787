"""ITI-51 Multi-Patient Stored Query: a consumer asks a registry about several patients at once (ITI TF-2:3.51)."""

from __future__ import annotations

from obieg.actors.document_registry import DocumentRegistry
from obieg.domain.audit import AuditObject
from obieg.domain.queries import QueryAnswer, StoredQuery
from obieg.mapping import ebrs
from obieg.mapping.stored_query import read_stored_query
from obieg.protocol import Context, SoapBinding, SoapRequest, Transaction


def _decode(message: SoapRequest) -> StoredQuery:
    ebrs.expect(message.body, ebrs.QUERY, "AdhocQueryRequest")
    return read_stored_query(message.body, "ITI-51")


async def _serve(registry: DocumentRegistry, query: StoredQuery, context: Context) -> QueryAnswer:
    return await registry.find(query, context)


def _audit(query: StoredQuery) -> tuple[AuditObject, ...]:
    patients = tuple(AuditObject("patient", str(patient)) for patient in dict.fromkeys(query.patients))
    return (*patients, AuditObject("multi_patient_query", query.name, query=query.text))


TRANSACTION = Transaction(
    id="ITI-51",
    name="Multi-Patient Stored Query",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-51.html",
    actor="document_registry",
    initiator="Document Consumer",
    responder="Document Registry",
    binding=SoapBinding(
        endpoint="registry",
        port_type="DocumentRegistry_MultiPatientStoredQuery",
        action="urn:ihe:iti:2009:MultiPatientStoredQuery",
        response_action="urn:ihe:iti:2009:MultiPatientStoredQueryResponse",
        request=(ebrs.QUERY, "AdhocQueryRequest"),
        response=(ebrs.QUERY, "AdhocQueryResponse"),
    ),
    event="query",
    decode=_decode,
    serve=_serve,
    encode=ebrs.write_answer,
    refuse=ebrs.refuse_query,
    audit=_audit,
    permission="document_registry:object:find_of_several",
)
