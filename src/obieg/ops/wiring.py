"""The one place that builds a node's objects and hands them to one another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version as package_version
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
from obieg.codes.load import toml
from obieg.domain.affinity_domain import AffinityDomain, polish
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.linkage import LinkageMatcher, Weights
from obieg.domain.matching import Matcher
from obieg.domain.problems import RetryLater
from obieg.domain.removing import KeptAtWill, KeptForEver, Retention
from obieg.edges import fhir
from obieg.edges.clients import SoapAsker, SoapRegistryClient, SubscriberHooks
from obieg.edges.mllp import MllpEdge, MllpLimits
from obieg.edges.soap import PATH_PREFIX, SoapEdge, SoapLimits
from obieg.mapping import fhir_outcome
from obieg.mapping.ebrs import read_registry_response
from obieg.mapping.fhir_capability import capability_statement
from obieg.mapping.fhir_documents import Renderer
from obieg.mapping.fhir_openapi import openapi
from obieg.ops.delivery import Delivery, subscribers
from obieg.ops.documents import open_store
from obieg.ops.pages import pages
from obieg.ops.settings import Settings
from obieg.ops.weights import newest_weights
from obieg.protocol import Authenticator, OnDemandSource
from obieg.storage.audit_store import AuditStore
from obieg.storage.curation_store import PostgresCurationStore
from obieg.storage.directory_store import PostgresDirectoryStore
from obieg.storage.export_store import DocumentPages, ListPages, PatientPages, PostgresExports
from obieg.storage.inbox_store import PostgresInbox
from obieg.storage.lifecycle_store import PostgresLifecycle
from obieg.storage.link import Database
from obieg.storage.outbox_store import PostgresOutbox
from obieg.storage.patient_store import PostgresPatientStore
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


def utc_now() -> datetime:
    """The node's clock."""
    return datetime.now(UTC)


def affinity_domain(settings: Settings) -> AffinityDomain:
    """The codes of the settings' file, or the Polish ones."""
    path = settings.affinity_domain.codes
    return polish() if path is None else AffinityDomain.from_json(path.read_bytes())


def authorities(settings: Settings) -> Authorities:
    """Those of the settings, and those that every Polish region knows."""
    listed = [AssigningAuthority(a.oid, a.name, a.single, a.assigners) for a in settings.authorities]
    roots = toml("national/pl/pik.toml")["roots"]
    known = {authority.oid for authority in listed}
    own = AssigningAuthority(settings.identity.assigning_authority)
    pesel = AssigningAuthority(roots["pesel"], single=True)
    return Authorities(
        [*listed, *(authority for authority in (own, pesel) if authority.oid not in known)],
        nodes={roots["national_id"]: True, roots["identity_card"]: False},
        closed=bool(listed) and not settings.lab,
    )


def bound_nodes(settings: Settings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name and repositories by address; several nodes may stand behind one address."""
    bound: dict[str, tuple[str, tuple[str, ...]]] = {}
    for node in settings.nodes:
        names, repositories = bound.get(node.address, ("", ()))
        name = f"{names}, {node.name}" if names else node.name
        bound[node.address] = (name, (*repositories, *filter(None, (node.repository_unique_id,))))
    return bound


class PatientActors(NamedTuple):
    """Who answers for the patient index, and what they are built of."""

    store: PostgresPatientStore
    actor: PatientIndex
    links: PostgresCurationStore
    curation: PatientCuration
    authorities: Authorities
    feeding_parts: dict[str, Any]  # what deciding feeds is built of, without new ids and keys


def patient_actors(
    settings: Settings, database: Database, audit: AuditStore, outbox: PostgresOutbox, matcher: Matcher
) -> PatientActors:
    """The index of a region over its database, for a node and for commands; opens no connection."""
    authority, told = settings.identity.assigning_authority, subscribers(settings)
    store = PostgresPatientStore(database, audit, outbox, assigning_authority=authority, tells=bool(told))
    common: dict[str, Any] = {"assigning_authority": authority, "matcher": matcher, "subscribers": told}
    known = authorities(settings)
    parts = {**common, "authorities": known}
    index = PatientIndex(store, home_community_id=settings.identity.home_community_id, **parts)
    links = PostgresCurationStore(database, audit, outbox, store, assigning_authority=authority)
    return PatientActors(store, index, links, PatientCuration(links, store, index, **common), known, parts)


class Node:
    """One worker's node, from its sockets to its database."""

    def __init__(self, settings: Settings) -> None:
        codes = affinity_domain(settings)
        known_authorities = authorities(settings)
        identity, limits = settings.identity, settings.limits
        self._database = Database(settings.database.dsn)
        self._documents = open_store(settings)
        self._asker: SoapAsker | None = None
        self._delivery: Delivery | None = None
        audit = AuditStore(
            self._database,
            source_id=settings.name,
            names={t.id: t.name for t in TRANSACTIONS} | {n.id: n.name for n in NOTIFICATIONS},
            now=utc_now,
        )
        store = RegistryDatabase(self._database, audit)
        actors = Actors(resource_validator=ResourceValidator())
        lifecycle = PostgresLifecycle(self._database, audit, assigning_authority=identity.assigning_authority)
        retention: Retention = KeptAtWill() if settings.lab else KeptForEver()
        actors.document_removal = DocumentRemoval(
            lifecycle,
            retention,
            repository_unique_id=identity.repository_unique_id,
            home_community_id=f"urn:oid:{identity.home_community_id}",
        )
        registry_client = None
        spool = settings.data_dir / "spool"
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        if settings.role == "region":
            outbox = PostgresOutbox(self._database, audit)
            who = patient_actors(
                settings, self._database, audit, outbox, LinkageMatcher(_learned(settings.database.dsn))
            )
            actors.patient_index, actors.patient_curation = who.actor, who.curation
            actors.provider_directory = ProviderDirectory(PostgresDirectoryStore(self._database, audit))
            actors.document_registry = DocumentRegistry(
                store,
                codes=codes,
                assigning_authority=identity.assigning_authority,
                home_community_id=f"urn:oid:{identity.home_community_id}",
                allow_limited_metadata=settings.affinity_domain.allow_limited_metadata,
                results_max=limits.results_max,
                new_uuid=new_uuid,
                renderer=Renderer(codes),
            )
            hooks = SubscriberHooks(anywhere=settings.lab)
            actors.notification_broker = ResourceNotificationBroker(
                PostgresSubscriptions(self._database, audit, outbox),
                actors.document_registry,
                hooks,
                next(n for n in NOTIFICATIONS if n.id == "ITI-112"),
                codes=codes,
                sender=(identity.home_community_id, settings.name),
                anywhere=settings.lab,
                new_uuid=new_uuid,
            )
            self._delivery = Delivery(
                settings,
                outbox,
                authorities=known_authorities,
                spool=spool,
                broker=actors.notification_broker,
                hooks=hooks,
            )
            actors.document_lifecycle = DocumentLifecycle(
                lifecycle,
                retention,
                codes=codes,
                assigning_authority=identity.assigning_authority,
                home_community_id=f"urn:oid:{identity.home_community_id}",
                allow_limited_metadata=settings.affinity_domain.allow_limited_metadata,
                new_uuid=new_uuid,
            )
            renderer = Renderer(codes)
            actors.exporter = Exporter(
                PostgresExports(self._database, audit),
                {
                    "Patient": PatientPages(self._database, actors.patient_index.candidates),
                    "DocumentReference": DocumentPages(self._database, renderer),
                    "List": ListPages(self._database, renderer),
                },
                of_patients=frozenset({"Patient", "DocumentReference", "List"}),
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
            assigning_authority=identity.assigning_authority,
            on_demand=on_demand_sources(actors, settings),
        )
        actors.document_publisher = DocumentPublisher(
            repository,
            codes=codes,
            assigning_authority=identity.assigning_authority,
            registry=actors.document_registry,
            index=actors.patient_index,
            authorities=known_authorities,
            directory=actors.provider_directory,
        )
        actors.document_recipient = DocumentRecipient(PostgresInbox(self._database, audit), self._documents)
        if actors.patient_index is not None and actors.document_registry is not None:
            actors.patient_summary = PatientSummary(actors.patient_index, actors.document_registry, repository, audit)
        authenticator: Authenticator = (
            LaboratoryAuthentication() if settings.lab else AddressAuthentication(bound_nodes(settings))
        )
        soap = SoapEdge(
            transactions=TRANSACTIONS,
            actors=actors,
            authenticator=authenticator,
            audit=audit,
            authorities=known_authorities,
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
        fhir_edge = fhir.FhirEdge(
            transactions=TRANSACTIONS,
            actors=actors,
            authenticator=authenticator,
            audit=audit,
            limits=fhir.FhirLimits(
                body_bytes_max=limits.message_bytes_max,
                depth_max=limits.depth_max,
                attributes_max=limits.attributes_max,
                request_time_s=limits.request_time_s,
            ),
            refuse=fhir_outcome.refuse,
            metadata=partial(
                capability_statement,
                made_at=utc_now().isoformat(timespec="seconds"),
                version=package_version("obieg"),
            ),
            openapi=partial(openapi, version=package_version("obieg")),
            authorities=known_authorities,
            affinity_domain=identity.assigning_authority,
            public_url=settings.http.public_url,
            clock=utc_now,
            new_request_id=new_uuid,
            observe=_observe,
        )
        self.asgi = _front(soap, fhir_edge, pages(settings))
        self.mllp = None
        if settings.role == "region" and settings.mllp.enabled:
            self.mllp = MllpEdge(
                transactions=TRANSACTIONS,
                actors=actors,
                authenticator=authenticator,
                audit=audit,
                authorities=known_authorities,
                limits=MllpLimits(frame_bytes_max=limits.mllp_frame_bytes_max, idle_time_s=limits.mllp_idle_time_s),
                clock=utc_now,
                new_request_id=new_uuid,
            )
        self.background: tuple[Callable[[], Awaitable[None]], ...] = ()
        if registry_client is not None:
            self.background = (lambda: _resume(repository),)
        if self._delivery is not None:
            self.background = self._delivery.background
        if (index := actors.patient_index) is not None:
            self.background = (*self.background, lambda: _forget_searches(index))
        if actors.exporter is not None:
            self.background = (*self.background, actors.exporter.work, actors.exporter.expire)

    async def open(self) -> None:
        """Connects to the database."""
        await self._database.open()

    async def close(self) -> None:
        """Gives everything back."""
        await self._documents.close()
        if self._delivery is not None:
            await self._delivery.close()
        if self._asker is not None:
            await self._asker.close()
        self._database.close()


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
