"""ITI-18 Registry Stored Query: a consumer asks a registry what documents there are (ITI TF-2:3.18)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from obieg.actors.document_registry import DocumentRegistry
from obieg.domain.audit import AuditObject
from obieg.domain.documents import DocumentEntry
from obieg.domain.problems import Finding, Problem
from obieg.domain.queries import QueryAnswer, StoredQuery
from obieg.mapping import ebrs
from obieg.mapping.ebrim import RIM, read_entries
from obieg.mapping.stored_query import read_stored_query, write_stored_query
from obieg.protocol import Context, SoapBinding, SoapQuestion, SoapRequest, Transaction


def _decode(message: SoapRequest) -> StoredQuery:
    ebrs.expect(message.body, ebrs.QUERY, "AdhocQueryRequest")
    return read_stored_query(message.body)


def encode_request(name: str, parameters: Mapping[str, Sequence[str]], *, leaf: bool = True) -> SoapQuestion:
    """The request of a document consumer: a stored query by its name, parameters by theirs without the ``$``."""
    return SoapQuestion(write_stored_query(name, parameters, leaf=leaf))


def decode_entries(answer: SoapRequest) -> list[DocumentEntry]:
    """The DocumentEntries found. Raises Problem for an answer that says Failure."""
    _expect_success(answer)
    return read_entries(answer.body)


def decode_any(answer: SoapRequest) -> bool:
    """Whether anything was found, in either form. Raises Problem for an answer that says Failure."""
    _expect_success(answer)
    return any(len(objects) > 0 for objects in answer.body.iter(f"{{{RIM}}}RegistryObjectList"))


def _expect_success(answer: SoapRequest) -> None:
    ebrs.expect(answer.body, ebrs.QUERY, "AdhocQueryResponse")
    status, findings = ebrs.read_registry_response(answer.body)
    if status == "Failure":
        raise Problem(findings or (Finding("XDSRegistryError", "the registry refuses and does not say why"),))


async def _serve(registry: DocumentRegistry, query: StoredQuery, context: Context) -> QueryAnswer:
    return await registry.find(query, context)


def _audit(query: StoredQuery) -> tuple[AuditObject, ...]:
    asked = AuditObject("stored_query", query.name, query=query.text)
    return (AuditObject("patient", str(query.patient)), asked) if query.patient is not None else (asked,)


TRANSACTION = Transaction(
    id="ITI-18",
    name="Registry Stored Query",
    spec="https://profiles.ihe.net/ITI/TF/Volume2/ITI-18.html",
    actor="document_registry",
    initiator="Document Consumer",
    responder="Document Registry",
    binding=SoapBinding(
        endpoint="registry",
        port_type="DocumentRegistry_RegistryStoredQuery",
        action="urn:ihe:iti:2007:RegistryStoredQuery",
        response_action="urn:ihe:iti:2007:RegistryStoredQueryResponse",
        request=(ebrs.QUERY, "AdhocQueryRequest"),
        response=(ebrs.QUERY, "AdhocQueryResponse"),
    ),
    event="query",
    decode=_decode,
    serve=_serve,
    encode=ebrs.write_answer,
    refuse=ebrs.refuse_query,
    audit=_audit,
    permission="document_registry:object:find",
)
