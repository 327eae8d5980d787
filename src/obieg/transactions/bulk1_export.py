"""Bulk Data Access: everything that the node knows, as files of NDJSON, for its operator.

https://hl7.org/fhir/uv/bulkdata/export.html: the kick-off, the state, the files, and the end.
"""

from __future__ import annotations

from typing import Any

from obieg.actors.exporter import Exporter, FileContent, Standing
from obieg.domain.audit import AuditObject
from obieg.domain.exporting import ExportRequest
from obieg.mapping import fhir_exports, fhir_outcome
from obieg.mapping.fhir_exports import ExportNamed
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction


def _decode(request: FhirRequest) -> ExportRequest | ExportNamed:
    return fhir_exports.read_export(request) if request.interaction == "$export" else fhir_exports.read_named(request)


async def _serve(exporter: Exporter, asked: ExportRequest | ExportNamed, context: Context) -> Any:
    if isinstance(asked, ExportRequest):
        return await exporter.begin(asked, context)
    if asked.end:
        return await exporter.cancel(asked.export_id, context)
    if asked.file:
        return await exporter.file(asked.export_id, asked.file, context, packed=asked.packed)
    return await exporter.state(asked.export_id, context)


def _encode(result: Any, request: FhirRequest) -> FhirReply:
    if isinstance(result, str):
        return fhir_exports.write_begun(result, request)
    if isinstance(result, Standing):
        return fhir_exports.write_state(*result, request.base)
    if isinstance(result, FileContent):
        return fhir_exports.write_file(result, request)
    return fhir_exports.write_ended()


def _audit(asked: ExportRequest | ExportNamed) -> tuple[AuditObject, ...]:
    if isinstance(asked, ExportRequest):
        return (AuditObject("export_query", asked.request, query=asked.request.encode()),)
    return (AuditObject("export", f"{asked.export_id}/{asked.file}" if asked.file else asked.export_id),)


TRANSACTION = Transaction(
    id="BULK-1",
    name="Bulk Data Export",
    spec="https://hl7.org/fhir/uv/bulkdata/export.html",
    actor="exporter",
    initiator="Bulk Data Client",
    responder="Bulk Data Provider",
    binding=FhirBinding(
        resources=("", "Patient"),
        interactions=("$export", "$export-status", "$export-file", "delete $export-status"),
        conforms_to="http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data",
        raw=True,
    ),
    event="export",
    decode=_decode,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="exporter:everything:export",
)
