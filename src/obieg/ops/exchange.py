"""A document source and consumer over the standards: what ``obieg submit``, ``find``, ``get`` and the demo ask.

ITI-8 and ITI-9 at the region's patient index, ITI-18 at its registry, ITI-41 and ITI-43 at the repository.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from obieg.actors.document_repository import DocumentRequest
from obieg.domain.documents import DocumentEntry, Submission
from obieg.domain.patients import FeedEvent
from obieg.domain.problems import Problem
from obieg.edges.clients import MllpClient, SoapAsker
from obieg.mapping import adt, pix
from obieg.mapping.ebrim import STATUS_PREFIX, IdSource
from obieg.mapping.ebrs import read_registry_response
from obieg.ops.failure import Failure
from obieg.protocol import Content
from obieg.transactions import (
    iti18_registry_stored_query,
    iti41_provide_and_register_document_set,
    iti43_retrieve_document_set,
)

SENDER = "obieg"  # MSH-3
UNIQUE_IDS_MAX = 50  # of one question
APPROVED, DEPRECATED = f"{STATUS_PREFIX}Approved", f"{STATUS_PREFIX}Deprecated"


class Exchange:
    """Asks the node, or the nodes, of one ready file."""

    def __init__(
        self,
        endpoints: Mapping[str, Any],
        *,
        spool_folder: Path,
        source_address: str = "",
        connections_max: int = 4,
        facility: str = "",
    ) -> None:
        """``facility`` is who sends, as MSH-4 names it."""
        self._endpoints = endpoints
        authority = endpoints.get("tls_ca")
        tls = None if authority is None else ssl.create_default_context(cafile=authority)
        self._soap = SoapAsker(spool_folder=spool_folder, source_address=source_address, tls=tls)
        self._mllp: MllpClient | None = None
        self._source_address = source_address
        self._connections_max = connections_max
        self._sender = (SENDER, facility)

    def endpoint(self, name: str) -> str:
        """An address or identifier of the ready file. Raises Failure when it has none."""
        if found := self._endpoints.get(name):
            return str(found)
        raise Failure(
            f"The ready file has no {name!r}.",
            "What is asked for needs that service, and this node does not say where it is.",
            "Name the ready file of the region, or of a facility whose settings name the region's services.",
        )

    # the patient index ------------------------------------------------------------------------------------------------

    @property
    def _index(self) -> MllpClient:
        if self._mllp is None:
            self._mllp = MllpClient(
                self.endpoint("mllp"), source_address=self._source_address, connections_max=self._connections_max
            )
        return self._mllp

    async def affinity_domain_id(self, cx: str) -> str | None:
        """The CX in the affinity domain of the patient whom ``cx`` names; None where it names nobody (ITI-9)."""
        authority = self.endpoint("assigning_authority")
        answer = await self._index.exchange(
            pix.write_query(cx, (authority,), control_id=_control_id(), at=_now(), sender=self._sender)
        )
        return next((str(i) for i in pix.read_answer(answer) if i.authority == authority), None)

    async def announce(self, patient_info: Sequence[str], *, known: bool) -> None:
        """Feeds the patient of ``patient_info`` (sourcePatientInfo), new or known (ITI-8). Raises Problem."""
        event = FeedEvent.UPDATE if known else FeedEvent.REGISTER
        answer = await self._index.exchange(
            adt.write_feed(event, patient_info, control_id=_control_id(), at=_now(), sender=self._sender)
        )
        adt.read_acknowledgement(answer)

    # the registry -----------------------------------------------------------------------------------------------------

    async def find(self, parameters: Mapping[str, Sequence[str]]) -> list[DocumentEntry]:
        """ITI-18 FindDocuments."""
        return await self._query("FindDocuments", parameters)

    async def registered(self, unique_id: str) -> list[DocumentEntry]:
        """The entries of a uniqueId (ITI-18 GetDocuments)."""
        return await self.documents({"XDSDocumentEntryUniqueId": [unique_id]})

    async def documents(self, parameters: Mapping[str, Sequence[str]]) -> list[DocumentEntry]:
        """ITI-18 GetDocuments."""
        return await self._query("GetDocuments", parameters)

    async def any_registered(self, unique_ids: Sequence[str]) -> bool:
        """Whether any of at most :data:`UNIQUE_IDS_MAX` is. Whole entries of several patients may not be asked for."""
        asked = iti18_registry_stored_query
        question = asked.encode_request("GetDocuments", {"XDSDocumentEntryUniqueId": unique_ids}, leaf=False)
        answer = await self._soap.ask(asked.TRANSACTION, question, self.endpoint("registry"))
        return asked.decode_any(answer)

    async def _query(self, name: str, parameters: Mapping[str, Sequence[str]]) -> list[DocumentEntry]:
        asked = iti18_registry_stored_query
        question = asked.encode_request(name, parameters)
        return asked.decode_entries(await self._soap.ask(asked.TRANSACTION, question, self.endpoint("registry")))

    # repositories -----------------------------------------------------------------------------------------------------

    async def provide(self, submission: Submission, documents: Mapping[str, Content]) -> None:
        """Hands in documents, by the id of their entry (ITI-41). Raises Problem."""
        asked = iti41_provide_and_register_document_set
        question = asked.encode_request(submission, documents, IdSource(str(uuid.uuid4())))
        answer = await self._soap.ask(asked.TRANSACTION, question, self.endpoint("repository"))
        status, findings = read_registry_response(answer.body)
        if status != "Success":
            errors = tuple(f for f in findings if not f.warning)
            raise Problem(errors) if errors else Problem.of("XDSRepositoryError", f"the repository answers {status}")

    async def retrieve(self, entry: DocumentEntry, address: str) -> Content:
        """The document of an entry, from the repository at ``address`` (ITI-43). Raises Problem."""
        asked = iti43_retrieve_document_set
        request = DocumentRequest(entry.unique_id or "", entry.repository_unique_id or "")
        answer = await self._soap.ask(asked.TRANSACTION, asked.encode_request((request,)), address)
        retrieved = asked.decode_answer(answer)
        for found, content in retrieved.documents:
            if found.unique_id == entry.unique_id:
                return content
        raise (
            Problem(retrieved.findings)
            if retrieved.findings
            else Problem.of(
                "XDSDocumentUniqueIdError", "the repository's answer does not hold the document", request.unique_id
            )
        )

    def repository(self, unique_id: str) -> str | None:
        """Where the repository of that uniqueId answers ITI-43, as far as the ready file tells."""
        nodes: Mapping[str, Mapping[str, str]] = self._endpoints.get("nodes") or {}
        for endpoints in (self._endpoints, *nodes.values()):
            if endpoints.get("repository_uid") == unique_id:
                return endpoints.get("retrieve")
        return None

    async def close(self) -> None:
        """Ends the connections."""
        await self._soap.close()
        if self._mllp is not None:
            await self._mllp.close()


def _control_id() -> str:
    return uuid.uuid4().hex[:20]  # MSH-10 in 2.3.1


def _now() -> datetime:
    return datetime.now(UTC)
