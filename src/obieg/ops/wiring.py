"""The one place that builds a node's objects and hands them to one another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import structlog
from prometheus_client import Counter, Histogram

from obieg.actors.authentication import AddressAuthentication, LaboratoryAuthentication
from obieg.actors.document_lifecycle import DocumentLifecycle, DocumentRemoval
from obieg.actors.document_publisher import DocumentPublisher
from obieg.actors.document_recipient import DocumentRecipient
from obieg.actors.document_registry import DocumentRegistry
from obieg.actors.document_repository import DocumentRepository
from obieg.actors.exporter import Exporter
from obieg.actors.notification_broker import ResourceNotificationBroker
from obieg.actors.patient_curation import PatientCuration
from obieg.actors.patient_index import PatientIndex
from obieg.actors.patient_summary import PatientSummary, SummarySource
from obieg.actors.provider_directory import ProviderDirectory
from obieg.actors.resource_validator import ResourceValidator
from obieg.domain.affinity_domain import AffinityDomain, polish
from obieg.domain.authorities import Authorities
from obieg.domain.document_store import DocumentStore
from obieg.domain.linkage import LinkageMatcher, Weights
from obieg.domain.problems import RetryLater
from obieg.domain.removing import KeptAtWill, KeptForEver, Retention
from obieg.edges import fhir
from obieg.edges.asgi import Host
from obieg.edges.clients import SoapAsker, SoapRegistryClient, SubscriberHooks
from obieg.edges.mllp import MllpEdge, MllpLimits
from obieg.edges.soap import PATH_PREFIX, SoapEdge, SoapLimits
from obieg.mapping import fhir_outcome
from obieg.mapping.ebrs import read_registry_response
from obieg.mapping.fhir_capability import capability_statement
from obieg.mapping.fhir_documents import Renderer
from obieg.mapping.fhir_openapi import openapi
from obieg.ops.delivery import Delivery
from obieg.ops.documents import open_store
from obieg.ops.pages import pages
from obieg.ops.settings import Settings
from obieg.ops.tls import calling
from obieg.ops.weights import newest_weights
from obieg.ops.wiring_patients import authorities, patient_actors, utc_now
from obieg.protocol import OnDemandSource
from obieg.storage.audit_store import AuditStore
from obieg.storage.directory_store import PostgresDirectoryStore
from obieg.storage.export_store import DocumentPages, ListPages, PatientPages, PostgresExports
from obieg.storage.inbox_store import PostgresInbox
from obieg.storage.lifecycle_store import PostgresLifecycle
from obieg.storage.link import Database
from obieg.storage.outbox_store import PostgresOutbox
from obieg.storage.registry_store import RegistryDatabase
from obieg.storage.subscription_store import PostgresSubscriptions
from obieg.transactions import NOTIFICATIONS, TRANSACTIONS

# How long the background worker rests when no submission waits for its registry.
RESUME_PAUSE_S = 2.0
# How often answers to searches that are too old are forgotten.
FORGET_PAUSE_S = 600.0

log = structlog.get_logger()

_REQUESTS = Counter("obieg_requests_total", "Requests answered.", ("transaction", "outcome"))
_DURATION = Histogram("obieg_request_seconds", "From the first byte to the answer.", ("transaction",))


@dataclass(slots=True)
class Actors:
    """Who answers on this node; None where another node does."""

    patient_index: PatientIndex | None = None
    patient_curation: PatientCuration | None = None
    document_registry: DocumentRegistry | None = None
    document_repository: DocumentRepository | None = None
    document_publisher: DocumentPublisher | None = None
    document_recipient: DocumentRecipient | None = None
    document_lifecycle: DocumentLifecycle | None = None
    document_removal: DocumentRemoval | None = None
    resource_validator: ResourceValidator | None = None
    provider_directory: ProviderDirectory | None = None
    notification_broker: ResourceNotificationBroker | None = None
    patient_summary: PatientSummary | None = None
    exporter: Exporter | None = None


def on_demand_sources(actors: Actors, settings: Settings) -> tuple[OnDemandSource, ...]:
    """Who makes the documents of on-demand entries."""
    public_url = settings.http.public_url.rstrip("/")
    summaries = SummarySource(
        lambda: actors.patient_summary,
        assigning_authority=settings.identity.assigning_authority,
        base=f"{public_url}{fhir.PREFIX}" if public_url else "",
    )
    return (summaries,)


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


class Parts(NamedTuple):
    """What the actors and edges of one worker's node are built of."""

    settings: Settings
    codes: AffinityDomain
    authorities: Authorities
    database: Database
    documents: DocumentStore
    audit: AuditStore
    retention: Retention
    spool: Path

    @property
    def assigning_authority(self) -> str:
        """Of affinity-domain ids."""
        return self.settings.identity.assigning_authority

    @property
    def home_community_id(self) -> str:
        """As documents name it."""
        return f"urn:oid:{self.settings.identity.home_community_id}"


def _parts(settings: Settings) -> Parts:
    database = Database(settings.database.dsn)
    spool = settings.data_dir / "spool"
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Parts(
        settings,
        codes=affinity_domain(settings),
        authorities=authorities(settings),
        database=database,
        documents=open_store(settings),
        audit=AuditStore(
            database,
            source_id=settings.name,
            names={t.id: t.name for t in TRANSACTIONS} | {n.id: n.name for n in NOTIFICATIONS},
            now=utc_now,
        ),
        retention=KeptAtWill() if settings.lab else KeptForEver(),
        spool=spool,
    )


class Role(NamedTuple):
    """What makes a node a region or a facility.

    A new actor is a field of Actors, built in _region, in _facility, or in _add_common where both have it.
    """

    actors: Actors
    background: tuple[Callable[[], Awaitable[None]], ...]  # what the leading worker does for ever
    closing: tuple[Callable[[], Awaitable[None]], ...]


def _region(parts: Parts) -> Role:
    """Index, registry and regional repository, directory, and what a region tells others."""
    settings = parts.settings
    outbox = PostgresOutbox(parts.database, parts.audit)
    weights = _learned(settings.database.dsn)
    who = patient_actors(settings, parts.database, parts.audit, outbox, LinkageMatcher(weights))
    index, registry = who.actor, _registry(parts)
    hooks = SubscriberHooks(anywhere=settings.lab)
    broker = _broker(parts, outbox, registry, hooks)
    delivery = Delivery(settings, outbox, authorities=parts.authorities, spool=parts.spool, broker=broker, hooks=hooks)
    exporter = _exporter(parts, index)
    actors = Actors(
        patient_index=index,
        patient_curation=who.curation,
        document_registry=registry,
        document_lifecycle=_lifecycle(parts),
        provider_directory=ProviderDirectory(PostgresDirectoryStore(parts.database, parts.audit)),
        notification_broker=broker,
        exporter=exporter,
    )
    repository = _repository(parts, actors)
    _add_common(parts, actors, repository)
    actors.patient_summary = PatientSummary(index, registry, repository, parts.audit)
    background = (*delivery.background, lambda: _forget_searches(index), exporter.work, exporter.expire)
    return Role(actors, background, (delivery.close,))


def _facility(parts: Parts) -> Role:
    """A repository whose registry is another node's."""
    settings = parts.settings
    asker = SoapAsker(
        spool_folder=parts.spool,
        source_address=settings.registry.source_address,
        tls=calling(settings, settings.registry.ca_file),
    )
    register = next(t for t in TRANSACTIONS if t.id == "ITI-42")
    actors = Actors()
    repository = _repository(parts, actors, SoapRegistryClient(asker, register, read_registry_response))
    _add_common(parts, actors, repository)
    return Role(actors, (lambda: _resume(repository),), (asker.close,))


def _add_common(parts: Parts, actors: Actors, repository: DocumentRepository) -> None:
    """What both roles have: the repository, who brings documents to it and takes them from it, and the validator."""
    actors.document_repository = repository
    actors.document_publisher = DocumentPublisher(
        repository,
        codes=parts.codes,
        assigning_authority=parts.assigning_authority,
        registry=actors.document_registry,
        index=actors.patient_index,
        authorities=parts.authorities,
        directory=actors.provider_directory,
    )
    actors.document_recipient = DocumentRecipient(PostgresInbox(parts.database, parts.audit), parts.documents)
    actors.document_removal = DocumentRemoval(
        _lifecycle_store(parts),
        parts.retention,
        repository_unique_id=parts.settings.identity.repository_unique_id,
        home_community_id=parts.home_community_id,
    )
    actors.resource_validator = ResourceValidator()


def _registry(parts: Parts) -> DocumentRegistry:
    return DocumentRegistry(
        RegistryDatabase(parts.database, parts.audit),
        codes=parts.codes,
        assigning_authority=parts.assigning_authority,
        home_community_id=parts.home_community_id,
        allow_limited_metadata=parts.settings.affinity_domain.allow_limited_metadata,
        results_max=parts.settings.limits.results_max,
        new_uuid=new_uuid,
        renderer=Renderer(parts.codes),
    )


def _repository(parts: Parts, actors: Actors, client: SoapRegistryClient | None = None) -> DocumentRepository:
    """With the registry among ``actors``, or the client of one elsewhere."""
    settings = parts.settings
    return DocumentRepository(
        RegistryDatabase(parts.database, parts.audit),
        parts.documents,
        repository_unique_id=settings.identity.repository_unique_id,
        home_community_id=parts.home_community_id,
        codes=parts.codes,
        allow_limited_metadata=settings.affinity_domain.allow_limited_metadata,
        new_uuid=new_uuid,
        registry=actors.document_registry,
        client=client,
        registry_address=settings.registry.register_url,
        assigning_authority=parts.assigning_authority,
        on_demand=on_demand_sources(actors, settings),
    )


def _lifecycle_store(parts: Parts) -> PostgresLifecycle:
    return PostgresLifecycle(parts.database, parts.audit, assigning_authority=parts.assigning_authority)


def _lifecycle(parts: Parts) -> DocumentLifecycle:
    return DocumentLifecycle(
        _lifecycle_store(parts),
        parts.retention,
        codes=parts.codes,
        assigning_authority=parts.assigning_authority,
        home_community_id=parts.home_community_id,
        allow_limited_metadata=parts.settings.affinity_domain.allow_limited_metadata,
        new_uuid=new_uuid,
    )


def _broker(
    parts: Parts, outbox: PostgresOutbox, registry: DocumentRegistry, hooks: SubscriberHooks
) -> ResourceNotificationBroker:
    settings = parts.settings
    return ResourceNotificationBroker(
        PostgresSubscriptions(parts.database, parts.audit, outbox),
        registry,
        hooks,
        next(n for n in NOTIFICATIONS if n.id == "ITI-112"),
        codes=parts.codes,
        sender=(settings.identity.home_community_id, settings.name),
        anywhere=settings.lab,
        new_uuid=new_uuid,
    )


def _exporter(parts: Parts, index: PatientIndex) -> Exporter:
    renderer = Renderer(parts.codes)
    return Exporter(
        PostgresExports(parts.database, parts.audit),
        {
            "Patient": PatientPages(parts.database, index.candidates),
            "DocumentReference": DocumentPages(parts.database, renderer),
            "List": ListPages(parts.database, renderer),
        },
        of_patients=frozenset({"Patient", "DocumentReference", "List"}),
        new_uuid=new_uuid,
    )


def _soap_edge(parts: Parts, host: Host) -> SoapEdge:
    limits = parts.settings.limits
    return SoapEdge(
        host,
        limits=SoapLimits(
            message_bytes_max=limits.message_bytes_max,
            document_bytes_max=limits.document_bytes_max,
            parts_max=limits.parts_max,
            depth_max=limits.depth_max,
            attributes_max=limits.attributes_max,
            request_time_s=limits.request_time_s,
            spool_folder=parts.spool,
        ),
    )


def _fhir_edge(parts: Parts, host: Host) -> fhir.FhirEdge:
    limits, version = parts.settings.limits, package_version("obieg")
    return fhir.FhirEdge(
        host,
        limits=fhir.FhirLimits(
            message_bytes_max=limits.message_bytes_max,
            depth_max=limits.depth_max,
            attributes_max=limits.attributes_max,
            request_time_s=limits.request_time_s,
        ),
        refuse=fhir_outcome.refuse,
        metadata=partial(capability_statement, made_at=utc_now().isoformat(timespec="seconds"), version=version),
        openapi=partial(openapi, version=version),
        affinity_domain=parts.assigning_authority,
    )


def _mllp_edge(parts: Parts, host: Host) -> MllpEdge | None:
    """None where nobody listens for HL7 v2."""
    settings = parts.settings
    if settings.role != "region" or not settings.mllp.enabled:
        return None
    limits = settings.limits
    return MllpEdge(
        transactions=host.transactions,
        actors=host.actors,
        authenticator=host.authenticator,
        audit=host.audit,
        authorities=host.authorities,
        limits=MllpLimits(frame_bytes_max=limits.mllp_frame_bytes_max, idle_time_s=limits.mllp_idle_time_s),
        clock=host.clock,
        new_request_id=host.new_request_id,
    )


class Node:
    """One worker's node, from its sockets to its database."""

    def __init__(self, settings: Settings) -> None:
        self._parts = parts = _parts(settings)
        self._role = role = _region(parts) if settings.role == "region" else _facility(parts)
        host = Host(
            transactions=TRANSACTIONS,
            actors=role.actors,
            authenticator=LaboratoryAuthentication() if settings.lab else AddressAuthentication(bound_nodes(settings)),
            audit=parts.audit,
            authorities=parts.authorities,
            public_url=settings.http.public_url,
            clock=utc_now,
            new_request_id=new_uuid,
            observe=_observe,
        )
        self.asgi = _front(_soap_edge(parts, host), _fhir_edge(parts, host), pages(settings))
        self.mllp = _mllp_edge(parts, host)
        self.background = role.background

    async def open(self) -> None:
        """Connects to the database."""
        await self._parts.database.open()

    async def close(self) -> None:
        """Gives everything back."""
        await self._parts.documents.close()
        for close in self._role.closing:
            await close()
        self._parts.database.close()


def build(settings: Settings) -> Node:
    """The node that the settings describe; ``database.dsn`` must be set by then."""
    return Node(settings)


def _front(soap: SoapEdge, fhir_edge: fhir.FhirEdge, other: Any) -> Callable[..., Awaitable[None]]:
    """SOAP and FHIR go straight to their edges; everything else to the web application."""

    async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PATH_PREFIX):
            await soap(scope, receive, send)
        elif scope["type"] == "http" and f"{scope['path']}/".startswith(f"{fhir.PREFIX}/"):
            await fhir_edge(scope, receive, send)
        else:
            await other(scope, receive, send)

    return application


def _learned(dsn: str) -> Weights | None:
    """What the region has learned of matching; where the database is away, opening it will say so."""
    try:
        return newest_weights(dsn)
    except psycopg.Error:
        return None


async def _forget_searches(index: PatientIndex) -> None:
    """Forgets answers that nobody can ask for any more, for ever."""
    while True:
        with suppress(RetryLater):
            await index.forget_searches()
        await asyncio.sleep(FORGET_PAUSE_S)


async def _resume(repository: DocumentRepository) -> None:
    """Closes submissions that wait for their registry, for ever."""
    while True:
        tried = 0
        with suppress(RetryLater):
            tried = await repository.resume()
        if not tried:
            await asyncio.sleep(RESUME_PAUSE_S)
