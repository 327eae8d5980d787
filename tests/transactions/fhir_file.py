"""What the FHIR edge, or that of DICOMweb, says of a request that stands in a file, before anything is looked up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx

from obieg.domain.requester import Requester
from obieg.edges.asgi import Host
from obieg.edges.fhir import FhirEdge, FhirLimits
from obieg.edges.health_link import HealthLinkEdge
from obieg.edges.wado import WadoEdge
from obieg.mapping import fhir_outcome
from obieg.protocol import Credentials, FhirReply, LinkBinding, LinkReply, Transaction, WadoBinding, WadoReply


class _Anybody:
    async def authenticate(self, credentials: Credentials) -> Requester:
        return Requester(system=credentials.address, address=credentials.address)


class _Sink:
    async def record(self, event: Any) -> None:
        pass


async def _nothing(*_: Any) -> None:
    return None


def codes_of_request(transaction: Transaction, data: bytes) -> set[str]:
    """Codes of the OperationOutcome, none where the request was understood."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode().splitlines()
    method, target, _ = first.split(" ")
    idle = replace(transaction, serve=_nothing, encode=lambda _result, _request: FhirReply())
    actors = SimpleNamespace(**{transaction.actor: object()})
    host = Host(transactions=[idle], actors=actors, authenticator=_Anybody(), audit=_Sink())
    edge: Any
    if isinstance(transaction.binding, WadoBinding):
        host = replace(host, transactions=[replace(idle, encode=lambda _result, _request: WadoReply(content_type=""))])
        edge = WadoEdge(host, affinity_domain="1.2.616.1")
    elif isinstance(transaction.binding, LinkBinding):
        link = replace(idle, encode=lambda _result, _request: LinkReply(content_type="application/json"))
        edge = HealthLinkEdge(replace(host, transactions=[link]), expect_sealed=_nothing)
    else:
        edge = FhirEdge(
            host, limits=FhirLimits(),
            refuse=fhir_outcome.refuse, metadata=lambda *_: {}, openapi=lambda *_: {}, affinity_domain="1.2.616.1",
        )  # fmt: skip

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=edge)
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            headers = dict(line.split(": ", 1) for line in lines)
            return await client.request(method, target, content=body.rstrip(b"\n"), headers=headers)

    response = asyncio.run(ask())
    if not response.content:
        return set()
    if isinstance(transaction.binding, WadoBinding | LinkBinding):
        return {error["code"] for error in response.json()["errors"]}
    return {issue["details"]["coding"][0]["code"] for issue in response.json()["issue"]}
