"""The one place that builds a node's objects and hands them to one another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import structlog
from prometheus_client import Counter, Histogram

from obieg.actors.authentication import AddressAuthentication, LaboratoryAuthentication
from obieg.actors.document_registry import DocumentRegistry
from obieg.actors.document_repository import DocumentRepository
from obieg.actors.patient_index import PatientIndex
from obieg.codes.load import toml
from obieg.domain.affinity_domain import AffinityDomain, polish
from obieg.domain.problems import RetryLater
from obieg.edges.clients import SoapAsker, SoapRegistryClient
from obieg.edges.mllp import MllpEdge, MllpLimits
from obieg.edges.soap import PATH_PREFIX, SoapEdge, SoapLimits
from obieg.mapping.ebrs import read_registry_response
from obieg.ops.documents import open_store
from obieg.ops.pages import pages
from obieg.ops.settings import Settings
from obieg.protocol import Authenticator
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.storage.patient_store import PostgresPatientStore
from obieg.storage.registry_store import RegistryDatabase
from obieg.transactions import TRANSACTIONS

# How long the background worker rests when no submission waits for its registry.
RESUME_PAUSE_S = 2.0

log = structlog.get_logger()

_REQUESTS = Counter("obieg_requests_total", "Requests answered.", ("transaction", "outcome"))
_DURATION = Histogram("obieg_request_seconds", "From the first byte to the answer.", ("transaction",))


@dataclass(slots=True)
class Actors:
    """Who answers on this node; None where another node does."""

    patient_index: PatientIndex | None = None
    document_registry: DocumentRegistry | None = None
    document_repository: DocumentRepository | None = None


_count = cache(_REQUESTS.labels)
_duration = cache(_DURATION.labels)


def _observe(transaction: str, outcome: str, seconds: float) -> None:
    _count(transaction, outcome).inc()
    _duration(transaction).observe(seconds)


def new_uuid() -> str:
    """A random UUID."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def utc_now() -> datetime:
    """The node's clock."""
    return datetime.now(UTC)


def affinity_domain(settings: Settings) -> AffinityDomain:
    """The codes of the settings' file, or the Polish ones."""
    path = settings.affinity_domain.codes
    return polish() if path is None else AffinityDomain.from_json(path.read_bytes())


def bound_nodes(settings: Settings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name and repositories by address; several nodes may stand behind one address."""
    bound: dict[str, tuple[str, tuple[str, ...]]] = {}
    for node in settings.nodes:
        names, repositories = bound.get(node.address, ("", ()))
        name = f"{names}, {node.name}" if names else node.name
        bound[node.address] = (name, (*repositories, *filter(None, (node.repository_unique_id,))))
    return bound


class Node:
    """One worker's node, from its sockets to its database."""

    def __init__(self, settings: Settings) -> None:
        codes = affinity_domain(settings)
        identity, limits = settings.identity, settings.limits
        self._database = Database(settings.database.dsn)
        self._documents = open_store(settings)
        self._asker: SoapAsker | None = None
        audit = AuditStore(
            self._database, source_id=settings.name, names={t.id: t.name for t in TRANSACTIONS}, now=utc_now
        )
        store = RegistryDatabase(self._database, audit)
        actors = Actors()
        registry_client = None
        spool = settings.data_dir / "spool"
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        if settings.role == "region":
            actors.patient_index = PatientIndex(
                PostgresPatientStore(self._database, audit),
                assigning_authority=identity.assigning_authority,
                single_authorities=frozenset({toml("national/pl/pik.toml")["roots"]["pesel"]}),
            )
            actors.document_registry = DocumentRegistry(
                store,
                codes=codes,
                assigning_authority=identity.assigning_authority,
                home_community_id=f"urn:oid:{identity.home_community_id}",
                allow_limited_metadata=settings.affinity_domain.allow_limited_metadata,
                results_max=limits.results_max,
                new_uuid=new_uuid,
            )
        else:
            register = next(t for t in TRANSACTIONS if t.id == "ITI-42")
            self._asker = SoapAsker(spool_folder=spool, source_address=settings.registry.source_address)
            registry_client = SoapRegistryClient(self._asker, register, read_registry_response)
        repository = actors.document_repository = DocumentRepository(
            store,
            self._documents,
            repository_unique_id=identity.repository_unique_id,
            home_community_id=f"urn:oid:{identity.home_community_id}",
            codes=codes,
            allow_limited_metadata=settings.affinity_domain.allow_limited_metadata,
            new_uuid=new_uuid,
            registry=actors.document_registry,
            client=registry_client,
            registry_address=settings.registry.register_url,
        )
        authenticator: Authenticator = (
            LaboratoryAuthentication() if settings.lab else AddressAuthentication(bound_nodes(settings))
        )
        soap = SoapEdge(
            transactions=TRANSACTIONS,
            actors=actors,
            authenticator=authenticator,
            audit=audit,
            limits=SoapLimits(
                message_bytes_max=limits.message_bytes_max,
                document_bytes_max=limits.document_bytes_max,
                parts_max=limits.parts_max,
                depth_max=limits.depth_max,
                attributes_max=limits.attributes_max,
                request_time_s=limits.request_time_s,
                spool_folder=spool,
            ),
            public_url=settings.http.public_url,
            clock=utc_now,
            new_request_id=new_uuid,
            observe=_observe,
        )
        self.asgi = _front(soap, pages(settings))
        self.mllp = None
        if settings.role == "region" and settings.mllp.enabled:
            self.mllp = MllpEdge(
                transactions=TRANSACTIONS,
                actors=actors,
                authenticator=authenticator,
                audit=audit,
                limits=MllpLimits(frame_bytes_max=limits.mllp_frame_bytes_max, idle_time_s=limits.mllp_idle_time_s),
                clock=utc_now,
                new_request_id=new_uuid,
            )
        self.background: tuple[Callable[[], Awaitable[None]], ...] = ()
        if registry_client is not None:
            self.background = (lambda: _resume(repository),)

    async def open(self) -> None:
        """Connects to the database."""
        await self._database.open()

    async def close(self) -> None:
        """Gives everything back."""
        await self._documents.close()
        if self._asker is not None:
            await self._asker.close()
        self._database.close()


def build(settings: Settings) -> Node:
    """The node that the settings describe; ``database.dsn`` must be set by then."""
    return Node(settings)


def _front(soap: SoapEdge, other: Any) -> Callable[..., Awaitable[None]]:
    """SOAP goes straight to its edge; everything else to the web application."""

    async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PATH_PREFIX):
            await soap(scope, receive, send)
        else:
            await other(scope, receive, send)

    return application


async def _resume(repository: DocumentRepository) -> None:
    """Closes submissions that wait for their registry, for ever."""
    while True:
        tried = 0
        with suppress(RetryLater):
            tried = await repository.resume()
        if not tried:
            await asyncio.sleep(RESUME_PAUSE_S)
