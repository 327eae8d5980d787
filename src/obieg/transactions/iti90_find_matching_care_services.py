"""ITI-90 Find Matching Care Services: who gives which care where (FHIR search and read).

https://profiles.ihe.net/ITI/mCSD/ITI-90.html
"""

from __future__ import annotations

from typing import Any

from obieg.domain.audit import AuditObject
from obieg.domain.directory import DirectoryPage, Version
from obieg.domain.problems import Problem
from obieg.mapping import fhir_outcome, mcsd
from obieg.mapping.directory_terms import KINDS
from obieg.mapping.mcsd import DirectoryRead, DirectorySearch
from obieg.protocol import Context, FhirBinding, FhirReply, FhirRequest, Transaction


async def _serve(
    directory: Any, asked: DirectoryRead | DirectorySearch, context: Context
) -> tuple[DirectorySearch, DirectoryPage] | Version:
    if isinstance(asked, DirectorySearch):
        return asked, await directory.find(asked.query, context)
    found: Version | None = await directory.read(asked.kind, asked.id, asked.version, context)
    if found is None:
        raise Problem.of("AddressNotFound", f"the directory has no {asked.kind} of this id and version")
    if found.deleted:
        raise Problem.of("ResourceGone", "it was removed from the directory; its _history tells when")
    return found


def _encode(result: tuple[DirectorySearch, DirectoryPage] | Version, request: FhirRequest) -> FhirReply:
    return mcsd.write_read(result) if isinstance(result, Version) else mcsd.write_page(*result, request)


def _audit(asked: DirectoryRead | DirectorySearch) -> tuple[AuditObject, ...]:
    if isinstance(asked, DirectoryRead):
        return (AuditObject(kind="directory_resource", identifier=f"{asked.kind}/{asked.id}"),)
    return (AuditObject(kind="directory_query", identifier=asked.query.lookup.kind, query=asked.query.text),)


TRANSACTION = Transaction(
    id="ITI-90",
    name="Find Matching Care Services",
    spec="https://profiles.ihe.net/ITI/mCSD/ITI-90.html",
    actor="provider_directory",
    initiator="Query Client",
    responder="Directory",
    binding=FhirBinding(
        resources=KINDS,
        interactions=("read", "vread", "search-type"),
        conforms_to="https://profiles.ihe.net/ITI/mCSD/CapabilityStatement/IHE.mCSD.Directory",
    ),
    event="query",
    decode=mcsd.read_request,
    serve=_serve,
    encode=_encode,
    refuse=fhir_outcome.refuse,
    audit=_audit,
    permission="provider_directory:resource:search",
)
