"""ITI-91 Request Care Services Updates: what has changed in the directory since (FHIR history).

https://profiles.ihe.net/ITI/mCSD/ITI-91.html
"""

from __future__ import annotations

from typing import Any

from obieg.domain.audit import AuditObject
from obieg.domain.directory import HistoryPage
from obieg.domain.problems import Problem
from obieg.mapping import fhir_outcome, mcsd
from obieg.mapping.directory_terms import KINDS
from obieg.mapping.mcsd import DirectoryHistory
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction


async def _serve(directory: Any, asked: DirectoryHistory, context: Context) -> tuple[DirectoryHistory, HistoryPage]:
    page: HistoryPage = await directory.history(asked.query, context)
    if asked.query.id and not page.total and not asked.used:
        raise Problem.of("AddressNotFound", "the directory never had a resource of this type and id")
    return asked, page


def _encode(result: tuple[DirectoryHistory, HistoryPage], request: FhirRequest) -> FhirReply:
    return mcsd.write_history(*result, request)


def _audit(asked: DirectoryHistory) -> tuple[AuditObject, ...]:
    return (AuditObject(kind="directory_history", identifier=" ".join(asked.query.kinds), query=asked.query.text),)


TRANSACTION = Transaction(
    id="ITI-91",
    name="Request Care Services Updates",
    spec="https://profiles.ihe.net/ITI/mCSD/ITI-91.html",
    actor="provider_directory",
    initiator="Update Client",
    responder="Directory",
    binding=FhirBinding(
        resources=(*KINDS, ""),
        interactions=("history-instance", "history-type", "history-system"),
        conforms_to="https://profiles.ihe.net/ITI/mCSD/CapabilityStatement/IHE.mCSD.Directory.Update",
    ),
    event="query",
    decode=mcsd.read_history,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="provider_directory:history:read",
)
