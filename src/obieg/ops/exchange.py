"""A document source and consumer over the standards: what ``obieg submit``, ``find``, ``get`` and the demo ask.

ITI-8 and ITI-9 at the region's patient index, ITI-18 at its registry, ITI-41 and ITI-43 at the repository.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from obieg.actors.document_consumer import DocumentConsumer
from obieg.actors.document_repository import DocumentRequest
from obieg.actors.security_token_service import SecurityTokenService
from obieg.domain.documents import DocumentEntry, Submission
from obieg.domain.issuing import Claims
from obieg.domain.patients import FeedEvent
from obieg.domain.problems import Finding, Problem
from obieg.edges.clients import MllpClient, SoapAsker, SoapRepositoryClient
from obieg.edges.vouching import VouchingAsker
from obieg.mapping import adt, pix
from obieg.mapping.ebrim import STATUS_PREFIX, IdSource
from obieg.mapping.ebrs import read_registry_response
from obieg.ops.failure import Failure
from obieg.ops.settings import Settings
from obieg.ops.tls import calling, certificate_of
from obieg.protocol import Content, SoapQuestion, SoapRequest, Transaction
from obieg.transactions import (
    iti18_registry_stored_query,
    iti41_provide_and_register_document_set,
    iti43_retrieve_document_set,
    wst_issue_token,
)

SENDER = "obieg"  # MSH-3
UNIQUE_IDS_MAX = 50  # of one question
APPROVED, DEPRECATED = f"{STATUS_PREFIX}Approved", f"{STATUS_PREFIX}Deprecated"


def vouching(asker: SoapAsker) -> VouchingAsker:
    """Asks with assertions of token services (ITI-40)."""
    issue = wst_issue_token
    return VouchingAsker(asker, issue.TRANSACTION, issue.encode_request, issue.decode_answer, _now)


def repository_clients(settings: Settings, spool: Path) -> dict[str, SoapRepositoryClient]:
    """Those of the repositories that a region fetches documents from, by uniqueId."""
    return {
        node.repository_unique_id: SoapRepositoryClient(
            node.name, node.retrieve_url, spool_folder=spool, tls=calling(settings, node.ca_file)
        )
        for node in settings.nodes
        if node.retrieve_url
    }


def document_consumer(
    settings: Settings, clients: Mapping[str, SoapRepositoryClient], tokens: SecurityTokenService
) -> DocumentConsumer | None:
    """Who fetches there; None where there is nobody to ask."""
    if not clients:
        return None
    asked = iti43_retrieve_document_set
    holder = certificate_of(settings)
    return DocumentConsumer(
        clients,
        asked.TRANSACTION,
        lambda founds: asked.encode_request([DocumentRequest(f.unique_id, f.repository_unique_id) for f in founds]),
        _given,
        own=settings.identity.repository_unique_id,
        bytes_max=settings.limits.document_bytes_max,
        vouch=partial(tokens.vouch, holder=holder) if holder else None,
    )


def _given(answer: SoapRequest) -> tuple[dict[str, Content], tuple[Finding, ...]]:
    retrieved = iti43_retrieve_document_set.decode_answer(answer)
    return {request.unique_id: content for request, content in retrieved.documents}, retrieved.findings


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
        person: Claims | None = None,
    ) -> None:
        """``facility`` is who sends, as MSH-4 names it; ``person`` who asks, None for the system itself."""
        self._endpoints = endpoints
        self._tls = _tls(endpoints)
        self._soap = SoapAsker(spool_folder=spool_folder, source_address=source_address, tls=self._tls)
        self._person = person
        self.access = ""  # on which bases the last answer showed what it showed
        self._vouching = vouching(self._soap)
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
                self.endpoint("mllp"),
                source_address=self._source_address,
                connections_max=self._connections_max,
                tls=self._tls,
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

    async def registered(self, unique_id: str, by: Claims | None = None) -> list[DocumentEntry]:
        """The entries of a uniqueId (ITI-18 GetDocuments); ``by``: who asks, if not the person of this exchange."""
        return await self._query("GetDocuments", {"XDSDocumentEntryUniqueId": [unique_id]}, by)

    async def documents(self, parameters: Mapping[str, Sequence[str]]) -> list[DocumentEntry]:
        """ITI-18 GetDocuments."""
        return await self._query("GetDocuments", parameters)

    async def any_registered(self, unique_ids: Sequence[str], by: Claims | None = None) -> bool:
        """Whether any of at most :data:`UNIQUE_IDS_MAX` is. Whole entries of several patients may not be asked for."""
        asked = iti18_registry_stored_query
        question = asked.encode_request("GetDocuments", {"XDSDocumentEntryUniqueId": unique_ids}, leaf=False)
        return asked.decode_any(await self._ask(asked.TRANSACTION, question, self.endpoint("registry"), by))

    async def _query(
        self, name: str, parameters: Mapping[str, Sequence[str]], by: Claims | None = None
    ) -> list[DocumentEntry]:
        asked = iti18_registry_stored_query
        question = asked.encode_request(name, parameters)
        return asked.decode_entries(await self._ask(asked.TRANSACTION, question, self.endpoint("registry"), by))

    # who asks ---------------------------------------------------------------------------------------------------------

    async def _ask(
        self, transaction: Transaction, question: SoapQuestion, address: str, by: Claims | None = None
    ) -> SoapRequest:
        """The answer to the person, for whom this system vouches at the region's token service."""
        person = by or self._person
        if person is None:
            answer = await self._soap.ask(transaction, question, address)
        else:
            answer = await self._vouching.ask(transaction, question, address, person, self.endpoint("sts"))
        self.access = answer.access
        return answer

    # repositories -----------------------------------------------------------------------------------------------------

    async def provide(self, submission: Submission, documents: Mapping[str, Content]) -> None:
        """Hands in documents, by the id of their entry (ITI-41). Raises Problem."""
        asked = iti41_provide_and_register_document_set
        question = asked.encode_request(submission, documents, IdSource(str(uuid.uuid4())))
        answer = await self._ask(asked.TRANSACTION, question, self.endpoint("repository"))
        status, findings = read_registry_response(answer.body)
        if status != "Success":
            errors = tuple(f for f in findings if not f.warning)
            raise Problem(errors) if errors else Problem.of("XDSRepositoryError", f"the repository answers {status}")

    async def retrieve(self, entry: DocumentEntry, address: str) -> Content:
        """The document of an entry, from the repository at ``address`` (ITI-43). Raises Problem."""
        asked = iti43_retrieve_document_set
        request = DocumentRequest(entry.unique_id or "", entry.repository_unique_id or "")
        answer = await self._ask(asked.TRANSACTION, asked.encode_request((request,)), address)
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


def _tls(endpoints: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Whom to trust and who we are, as the ready file says it; None where the node has no TLS."""
    if (authority := endpoints.get("tls_ca")) is None:
        return None
    context = ssl.create_default_context(cafile=authority)
    if certificate := endpoints.get("tls_certificate"):
        try:
            context.load_cert_chain(certificate, endpoints.get("tls_key"))
        except (OSError, ssl.SSLError) as error:
            raise Failure(
                f"The certificate {certificate} cannot be used: {error}.",
                "Without it the node would not know who asks.",
                "Correct tls_certificate and tls_key in the ready file.",
            ) from error
    return context


def _control_id() -> str:
    return uuid.uuid4().hex[:20]  # MSH-10 in 2.3.1


def _now() -> datetime:
    return datetime.now(UTC)
