"""The one place that builds a node's objects and hands them to one another."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import structlog
from prometheus_client import Counter, Histogram
from starlette.routing import BaseRoute

from obieg.actors.access_control import AccessControl
from obieg.actors.access_log import AccessLog
from obieg.actors.audit_repository import AuditRepository
from obieg.actors.authentication import AddressAuthentication, LaboratoryAuthentication, TrustedAuthentication
from obieg.actors.awaited_documents import AwaitedDocuments
from obieg.actors.consent_codes import ConsentCodes
from obieg.actors.consent_registry import ConsentRegistry
from obieg.actors.decision_point import DecisionPoint, RegionDecides
from obieg.actors.document_consumer import DocumentConsumer
from obieg.actors.document_holds import DocumentHolds
from obieg.actors.document_lifecycle import DocumentLifecycle, DocumentRemoval
from obieg.actors.document_publisher import DocumentPublisher
from obieg.actors.document_recipient import DocumentRecipient
from obieg.actors.document_registry import DocumentRegistry
from obieg.actors.document_repository import DocumentRepository
from obieg.actors.emergency_access import EmergencyAccess
from obieg.actors.event_reader import EventReader
from obieg.actors.exporter import Exporter
from obieg.actors.handouts import Handouts
from obieg.actors.health_links import HealthLinks
from obieg.actors.image_source import ImageSource
from obieg.actors.messaging import Messaging
from obieg.actors.notification_broker import ResourceNotificationBroker
from obieg.actors.own_documents import OwnDocuments
from obieg.actors.patient_curation import PatientCuration
from obieg.actors.patient_index import PatientIndex
from obieg.actors.patient_portal import PatientPortal
from obieg.actors.patient_summary import PatientSummary, SummarySource
from obieg.actors.people import People
from obieg.actors.provider_directory import ProviderDirectory
from obieg.actors.representatives import Representatives
from obieg.actors.resource_validator import ResourceValidator
from obieg.actors.retention import KeptByLaw
from obieg.actors.security_token_service import SecurityTokenService
from obieg.actors.text_search import TextSearch
from obieg.domain.access import Settings as AccessChoices
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.authorities import Authorities
from obieg.domain.decisions import Decisions
from obieg.domain.document_store import DocumentStore
from obieg.domain.linkage import LinkageMatcher, Weights
from obieg.domain.problems import RetryLater
from obieg.domain.removing import KeptAtWill, Retention
from obieg.domain.trust import Trust, TrustedNode
from obieg.edges import fhir
from obieg.edges.asgi import Host, guarded
from obieg.edges.clients import SoapAsker, SoapRegistryClient, SubscriberHooks
from obieg.edges.health_link import PREFIX as LINKS
from obieg.edges.health_link import HealthLinkEdge
from obieg.edges.mllp import MllpEdge, MllpLimits
from obieg.edges.patient_login import PREFIX as PATIENT_LOGIN
from obieg.edges.patient_login import PatientLoginEdge
from obieg.edges.soap import PATH_PREFIX, SoapEdge, SoapLimits
from obieg.edges.syslog import SyslogEdge
from obieg.edges.throttle import Throttle
from obieg.edges.vouching import Region
from obieg.edges.wado import PREFIX as WADO
from obieg.edges.wado import WadoEdge
from obieg.mapping import fhir_outcome
from obieg.mapping.ebrs import read_registry_response
from obieg.mapping.fhir_capability import capability_statement
from obieg.mapping.fhir_documents import Renderer
from obieg.mapping.fhir_openapi import openapi
from obieg.ops.audit_events import audit_reading
from obieg.ops.audit_forwarding import AuditForwarding
from obieg.ops.authorizing import AUTHORIZATION_NAMES, Authorization, open_authorization
from obieg.ops.delivery import Delivery
from obieg.ops.documents import open_store
from obieg.ops.events import event_source
from obieg.ops.exchange import document_consumer, repository_clients, vouching
from obieg.ops.images import image_archive
from obieg.ops.logging_in import kit_of, login_pages, origin_for_patients, people_of, sessions_of
from obieg.ops.notifying import notice_receivers, reaching
from obieg.ops.operating import operating
from obieg.ops.pages import pages, public_pages
from obieg.ops.patient_login import Patients, patient_login
from obieg.ops.peers import Peers
from obieg.ops.portals import homes, portal_routes
from obieg.ops.sealing import Sealing
from obieg.ops.settings import Settings
from obieg.ops.sts_key import entity_id, own_key, trusting_itself
from obieg.ops.tls import calling, trust_of
from obieg.ops.watching import Watch
from obieg.ops.weights import newest_weights
from obieg.ops.wiring_patients import affinity_domain, authorities, patient_actors, utc_now
from obieg.protocol import (
    Authenticator,
    FhirBinding,
    LinkBinding,
    MllpBinding,
    OnDemandSource,
    Sessions,
    SoapBinding,
    Transaction,
    WadoBinding,
)
from obieg.storage.access_log_store import PostgresAccessLog
from obieg.storage.access_store import PostgresAccess
from obieg.storage.audit_repository_store import PostgresAuditLog
from obieg.storage.audit_store import AuditStore
from obieg.storage.awaiting_store import PostgresAwaiting
from obieg.storage.consent_code_store import PostgresConsentCodes
from obieg.storage.directory_store import PostgresDirectoryStore
from obieg.storage.emergency_store import PostgresEmergencies
from obieg.storage.export_store import DocumentPages, ListPages, PatientPages, PostgresExports
from obieg.storage.facts_store import LocatedFacts
from obieg.storage.health_link_store import PostgresHealthLinks
from obieg.storage.hold_store import PostgresLegalHolds
from obieg.storage.inbox_store import PostgresInbox
from obieg.storage.lifecycle_store import PostgresLifecycle
from obieg.storage.link import Database
from obieg.storage.message_store import PostgresMessages
from obieg.storage.operations_store import PostgresOperations
from obieg.storage.outbox_store import PostgresOutbox
from obieg.storage.patient_portal_store import PostgresPatientPortal
from obieg.storage.registry_store import RegistryDatabase
from obieg.storage.retention_store import PostgresRetention
from obieg.storage.subscription_store import PostgresSubscriptions
from obieg.storage.watch_store import WatchStore
from obieg.transactions import NOTIFICATIONS, TRANSACTIONS

# How long the background worker rests when no submission waits for its registry.
RESUME_PAUSE_S = 2.0
# How often what is over is forgotten.
FORGET_PAUSE_S = 600.0

log = structlog.get_logger()

_REQUESTS = Counter("obieg_requests_total", "Requests answered.", ("transaction", "outcome"))
_SYSLOG = Counter("obieg_audit_received_total", "Audit messages that came over syslog.", ("outcome",))
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
    text_search: TextSearch | None = None
    event_reader: EventReader | None = None
    exporter: Exporter | None = None
    audit_repository: AuditRepository | None = None
    security_token_service: SecurityTokenService | None = None
    consent_registry: ConsentRegistry | None = None
    emergency_access: EmergencyAccess | None = None
    document_holds: DocumentHolds | None = None
    access_log: AccessLog | None = None
    image_source: ImageSource | None = None
    consent_codes: ConsentCodes | None = None
    decision_point: DecisionPoint | None = None
    patient_portal: PatientPortal | None = None
    representatives: Representatives | None = None
    handouts: Handouts | None = None
    health_links: HealthLinks | None = None
    own_documents: OwnDocuments | None = None
    messaging: Messaging | None = None


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
    audit_log: PostgresAuditLog  # all records, those of others as well
    people: People  # who log in at the node's pages
    patients: Patients | None  # how patients do, where they can
    access: AccessControl

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
    audit = AuditStore(
        database,
        source_id=settings.name,
        names={t.id: t.name for t in TRANSACTIONS} | {n.id: n.name for n in NOTIFICATIONS} | AUTHORIZATION_NAMES,
        now=utc_now,
    )
    return Parts(
        settings,
        codes=affinity_domain(settings),
        authorities=authorities(settings),
        database=database,
        documents=open_store(settings),
        audit=audit,
        patients=patient_login(settings, database, audit, now=utc_now),
        people=people_of(settings, database, audit, new_uuid=new_uuid, clock=utc_now),
        audit_log=PostgresAuditLog(database, audit, assigning_authority=settings.identity.assigning_authority),
        retention=KeptAtWill() if settings.lab else kept_by_law(database),
        spool=spool,
        access=access_control(settings, database, enforced=settings.access_enforced),
    )


def kept_by_law(database: Database) -> Retention:
    """For how long documents must be kept, outside the laboratory."""
    return KeptByLaw(PostgresRetention(database), now=utc_now)


def access_control(settings: Settings, database: Database, *, enforced: bool) -> AccessControl:
    """Who decides who may see what."""
    authority = settings.identity.assigning_authority
    return AccessControl(
        LocatedFacts(database, assigning_authority=authority) if enforced else None,
        AccessChoices(
            emergency_opens_restricted=settings.access.emergency_opens_restricted,
            restriction_binds_author=settings.access.restriction_binds_author,
        ),
        organisations(settings),
    )


def organisations(settings: Settings) -> dict[str, str]:
    """By the name of a system the organisation that it is bound to, where it is to one."""
    return {node.name: node.organisation for node in settings.nodes if node.organisation}


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
    who = patient_actors(settings, parts.database, parts.audit, outbox, LinkageMatcher(weights), parts.access)
    index, registry = who.actor, _registry(parts)
    hooks = SubscriberHooks(anywhere=settings.lab)
    broker = _broker(parts, outbox, registry, hooks)
    people = reaching(settings, utc_now)
    delivery = Delivery(
        settings,
        outbox,
        authorities=parts.authorities,
        spool=parts.spool,
        broker=broker,
        hooks=hooks,
        notices=notice_receivers(settings, parts.database, people.channels, parts.access.settings, utc_now),
    )
    exporter = _exporter(parts, index)
    directory = ProviderDirectory(PostgresDirectoryStore(parts.database, parts.audit))
    tokens = _token_service(settings)
    actors = Actors(
        patient_index=index,
        patient_curation=who.curation,
        document_registry=registry,
        document_lifecycle=_lifecycle(parts),
        provider_directory=directory,
        notification_broker=broker,
        exporter=exporter,
        security_token_service=tokens,
    )
    facts = PostgresAccess(parts.database, parts.audit, assigning_authority=parts.assigning_authority)
    actors.consent_registry = ConsentRegistry(
        facts,
        index,
        directory,
        registry,
        codes=parts.codes,
        assigning_authority=parts.assigning_authority,
        home_community_id=parts.settings.identity.home_community_id,
        new_uuid=new_uuid,
        access=parts.access,
    )
    actors.emergency_access = EmergencyAccess(
        PostgresEmergencies(parts.database, parts.audit), index, access=parts.access, new_uuid=new_uuid
    )
    actors.document_holds = DocumentHolds(
        _lifecycle_store(parts), facts, PostgresLegalHolds(parts.database, parts.audit), access=parts.access
    )
    codes = PostgresConsentCodes(parts.database)
    actors.consent_codes = ConsentCodes(
        codes,
        actors.consent_registry,
        people.channels.sms,
        language=settings.notices.language,
        new_uuid=new_uuid,
        new_code=_new_code,
    )
    names = PostgresAccessLog(parts.database, parts.audit)
    actors.access_log = AccessLog(parts.audit_log, names, directory, access=parts.access)
    actors.patient_portal = PatientPortal(
        PostgresPatientPortal(parts.database, parts.audit),
        parts.audit_log,
        names,
        directory,
        access=parts.access,
        assigning_authority=parts.assigning_authority,
    )
    actors.representatives = Representatives(facts, names, directory, access=parts.access)
    actors.handouts = Handouts(
        codes,
        facts,
        parts.audit,
        people.channels.sms,
        exporter=exporter,
        log=actors.access_log,
        representatives=actors.representatives,
        summaries=lambda: actors.patient_summary,
        access=parts.access,
        language=settings.notices.language,
        new_uuid=new_uuid,
        new_code=_new_code,
    )
    actors.health_links = health_links = HealthLinks(
        PostgresHealthLinks(parts.database, parts.audit),
        lambda: actors.patient_summary,
        access=parts.access,
        assigning_authority=parts.assigning_authority,
        new_uuid=new_uuid,
        new_secret=lambda: secrets.token_bytes(32),
    )
    actors.messaging = Messaging(
        PostgresMessages(parts.database, parts.audit),
        directory,
        access=parts.access,
        assigning_authority=parts.assigning_authority,
        new_uuid=new_uuid,
    )
    actors.decision_point = DecisionPoint(
        parts.access,
        parts.audit,
        codes=parts.codes,
        assigning_authority=parts.assigning_authority,
        new_uuid=new_uuid,
    )
    clients = repository_clients(settings, parts.spool)
    repository = _repository(parts, actors, consumer=document_consumer(settings, clients, tokens))
    _add_common(parts, actors, repository)
    if actors.document_lifecycle is not None:
        actors.own_documents = OwnDocuments(
            PostgresPatientPortal(parts.database, parts.audit),
            repository,
            actors.document_lifecycle,
            index,
            codes=parts.codes,
            access=parts.access,
            new_uuid=new_uuid,
        )
    actors.patient_summary = PatientSummary(index, registry, repository, parts.audit, access=parts.access)
    actors.text_search = TextSearch(registry, repository, parts.audit, access=parts.access)
    events = event_source(settings)
    if events is not None:
        actors.event_reader = EventReader(
            events, index, parts.audit, access=parts.access, authority=parts.assigning_authority
        )
    archive = image_archive(settings)
    if archive is not None:
        actors.image_source = ImageSource(
            repository,
            archive,
            parts.audit,
            index=index,
            patient_authority=settings.images.patient_authority,
            access=parts.access,
            assigning_authority=parts.assigning_authority,
        )
    watch = Watch(WatchStore(parts.database), utc_now)
    background: tuple[Callable[[], Awaitable[None]], ...] = (
        *delivery.background,
        partial(_forgetting, index.forget_searches),
        partial(_forgetting, health_links.forget),
        exporter.work,
        exporter.expire,
        watch.run,
    )
    sources = [source.close for source in (archive, events) if source is not None]
    closing = (delivery.close, *people.closing, *sources, *(client.close for client in clients.values()))
    return Role(actors, background, closing)


def _new_code() -> str:
    """Six digits that nobody can guess."""
    return f"{secrets.randbelow(10**6):06}"


def _facility(parts: Parts) -> Role:
    """A repository whose registry is another node's."""
    settings = parts.settings
    asker = SoapAsker(
        spool_folder=parts.spool,
        source_address=settings.registry.source_address,
        tls=calling(settings, settings.registry.ca_file),
    )
    region = Region(asker, vouching(asker), settings.registry.sts_url)
    asked = {transaction.id: transaction for transaction in TRANSACTIONS}
    actors = Actors()
    client = SoapRegistryClient(region, asked["ITI-42"], read_registry_response)
    address = settings.registry.decisions_url
    decisions = RegionDecides(region, asked["XACML"], address, new_uuid=new_uuid) if address else None
    repository = _repository(parts, actors, client, decisions)
    _add_common(parts, actors, repository)
    return Role(actors, (lambda: _resume(repository),), (asker.close,))


def _add_common(parts: Parts, actors: Actors, repository: DocumentRepository) -> None:
    """What both roles have: the repository, who brings documents to it and takes them from it, and the validator."""
    actors.document_repository = repository
    actors.document_publisher = DocumentPublisher(
        repository,
        codes=parts.codes,
        assigning_authority=parts.assigning_authority,
        home_community_id=parts.settings.identity.home_community_id,
        registry=actors.document_registry,
        index=actors.patient_index,
        authorities=parts.authorities,
        directory=actors.provider_directory,
    )
    actors.audit_repository = AuditRepository(parts.audit_log, audit_reading(parts.settings), now=utc_now)
    actors.document_recipient = DocumentRecipient(PostgresInbox(parts.database, parts.audit), parts.documents)
    actors.document_removal = DocumentRemoval(
        _lifecycle_store(parts),
        parts.retention,
        repository_unique_id=parts.settings.identity.repository_unique_id,
        home_community_id=parts.home_community_id,
        access=parts.access,
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
        access=parts.access,
    )


def _repository(
    parts: Parts,
    actors: Actors,
    client: SoapRegistryClient | None = None,
    decisions: Decisions | None = None,
    consumer: DocumentConsumer | None = None,
) -> DocumentRepository:
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
        access=parts.access,
        decisions=decisions,
        consumer=consumer,
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
        access=parts.access,
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
        access=parts.access,
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
        access=parts.access,
    )


def _token_service(settings: Settings) -> SecurityTokenService:
    return SecurityTokenService(
        own_key(settings),
        issuer=entity_id(settings),
        home_community_id=settings.identity.home_community_id,
        organisations=organisations(settings),
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


def _fhir_edge(parts: Parts, host: Host, server: Authorization | None) -> fhir.FhirEdge:
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
        metadata=partial(
            capability_statement,
            made_at=utc_now().isoformat(timespec="seconds"),
            version=version,
            authorization=server.server.metadata() if server is not None else None,
        ),
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
        throttle=host.throttle,
        gate=host.gate,
        limits=MllpLimits(frame_bytes_max=limits.mllp_frame_bytes_max, idle_time_s=limits.mllp_idle_time_s),
        clock=host.clock,
        new_request_id=host.new_request_id,
    )


def _syslog_edge(parts: Parts, actors: Actors) -> SyslogEdge | None:
    """None where nobody listens for the audit records of others."""
    if not parts.settings.audit.enabled or actors.audit_repository is None:
        return None
    return SyslogEdge(
        actors.audit_repository,
        new_request_id=new_uuid,
        observe=lambda outcome: _SYSLOG.labels(outcome).inc(),
    )


def _patient_login_edge(parts: Parts, expect_sealed: Callable[[], Awaitable[None]]) -> PatientLoginEdge | None:
    """None where patients cannot log in."""
    if parts.patients is None:
        return None
    return PatientLoginEdge(
        parts.patients.login,
        public_url=origin_for_patients(parts.settings),
        new_request_id=new_uuid,
        expect_sealed=expect_sealed,
    )


def _web_pages(
    parts: Parts,
    host: Host,
    actors: Actors,
    served: Sequence[Transaction],
    expect_sealed: Callable[[], Awaitable[None]],
    more: Sequence[BaseRoute],
) -> Any:
    """What everybody sees, where people log in, and what they see then; and ``more``."""
    settings = parts.settings
    operates = operating(settings, parts.database, parts.audit, parts.access, actors.provider_directory)
    patients = parts.patients.login if parts.patients is not None else None
    kit = kit_of(settings, expect_sealed, operates.operations.notice)
    facts = operates.facts if settings.role == "region" else None
    public = public_pages(settings, served, kit=kit, facts=facts, codes=parts.codes)
    routes = [*more, *login_pages(kit, parts.people, patients, homes(settings))]
    if kit is not None:
        authority = parts.assigning_authority
        awaiting = PostgresAwaiting(parts.database, assigning_authority=authority)
        routes += portal_routes(
            settings,
            kit,
            host,
            operating=operates,
            awaited=AwaitedDocuments(awaiting, assigning_authority=authority, new_uuid=new_uuid),
            curation=actors.patient_curation,
            people=parts.people,
            codes=parts.codes,
        )
    return pages(public, routes)


# who asks -------------------------------------------------------------------------------------------------------------


def bound_nodes(settings: Settings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name and repositories by address; several nodes may stand behind one address."""
    bound: dict[str, tuple[str, tuple[str, ...]]] = {}
    for node in filter(lambda node: node.address, settings.nodes):
        names, repositories = bound.get(node.address, ("", ()))
        name = f"{names}, {node.name}" if names else node.name
        bound[node.address] = (name, (*repositories, *filter(None, (node.repository_unique_id,))))
    return bound


def _trusted(settings: Settings) -> Trust:
    """Whom the node trusts: what its file lists, and a region its own token service."""
    trust = trust_of(settings)
    return trusting_itself(trust, settings) if settings.role == "region" else trust


def trusted_nodes(settings: Settings) -> tuple[TrustedNode, ...]:
    """The systems that are known by their certificates."""
    return tuple(
        TrustedNode(node.name, (node.certificate,), tuple(filter(None, (node.repository_unique_id,))), node.address)
        for node in settings.nodes
        if node.certificate
    )


def sessions(parts: Parts) -> Sessions:
    """Who is logged in at the node's pages."""
    return sessions_of(parts.settings, parts.people, parts.patients.login if parts.patients is not None else None)


def authorization(
    parts: Parts, actors: Actors, trust: Trust, expect_sealed: Callable[[], Awaitable[None]]
) -> Authorization:
    """The node's authorization server."""
    return open_authorization(
        parts.settings,
        trust,
        sessions(parts),
        parts.database,
        parts.audit,
        expect_sealed=expect_sealed,
        access=parts.access,
        index=actors.patient_index,
        directory=actors.provider_directory,
        clock=utc_now,
        new_uuid=new_uuid,
    )


def authenticator(parts: Parts, trust: Trust | None, server: Authorization | None) -> Authenticator:
    """Who makes a Requester of what callers show."""
    settings = parts.settings
    if trust is None:
        return LaboratoryAuthentication() if settings.lab else AddressAuthentication(bound_nodes(settings))
    return TrustedAuthentication(
        trust,
        clock=utc_now,
        nodes=trusted_nodes(settings),
        # In a laboratory whoever has a certificate of a trusted authority is a system of its own.
        strangers=TrustedNode("", (), None) if settings.lab else None,
        bearer=server.server.bearer if server is not None else None,
        sessions=sessions(parts),
    )


class Node:
    """One worker's node, from its sockets to its database."""

    def __init__(self, settings: Settings) -> None:
        self._parts = parts = _parts(settings)
        self._role = role = _region(parts) if settings.role == "region" else _facility(parts)
        trust = _trusted(settings) if settings.trust.file is not None else None
        self._sealing = Sealing(settings, parts.database, utc_now)
        expect_sealed = self._sealing.watch.expect_sealed
        server = self._server = authorization(parts, role.actors, trust, expect_sealed) if trust is not None else None
        self._authenticator = authenticator(parts, trust, server)
        host = self._host = Host(
            transactions=TRANSACTIONS,
            actors=role.actors,
            authenticator=self._sealing.gate(self._authenticator),
            audit=parts.audit,
            authorities=parts.authorities,
            throttle=Throttle(
                requests_per_second=settings.limits.requests_per_second,
                person_requests_per_second=settings.limits.person_requests_per_second,
            ),
            gate=parts.access,
            public_url=settings.http.public_url,
            clock=utc_now,
            new_request_id=new_uuid,
            observe=_observe,
        )
        self.mllp = _mllp_edge(parts, host)
        over_http = (SoapBinding, FhirBinding, WadoBinding, LinkBinding)
        protocols = over_http if self.mllp is None else (*over_http, MllpBinding)
        served = [transaction for protocol in protocols for transaction, _ in host.served(protocol)]
        self._web = _front(
            _soap_edge(parts, host),
            _fhir_edge(parts, host, server),
            _patient_login_edge(parts, expect_sealed),
            WadoEdge(host, affinity_domain=parts.assigning_authority) if role.actors.image_source is not None else None,
            HealthLinkEdge(host, expect_sealed=expect_sealed) if role.actors.health_links is not None else None,
            _web_pages(parts, host, role.actors, served, expect_sealed, self._sealing.routes),
        )
        self.syslog = _syslog_edge(parts, role.actors)
        self._forwarding = AuditForwarding(settings, parts.audit_log)
        peers = Peers(PostgresOperations(parts.database, parts.audit, assigning_authority="", reading=()))
        self.keep_peers = peers.keep
        self.background = (
            *self._sealing.background,
            *self._forwarding.background,
            *role.background,
            partial(_forgetting, parts.audit.forget_spent),
            partial(_forgetting, parts.people.forget),
            peers.tell,
        )
        if server is not None:
            self._web = server.before(self._web)
            self.background = (*self.background, server.keep)

    def reload(self) -> None:
        """Reads again whom the node trusts."""
        if isinstance(self._authenticator, TrustedAuthentication):
            trust = self._authenticator.trust = _trusted(self._parts.settings)
            if self._server is not None:
                self._server.server.clients.replace(trust.oauth_clients)

    async def asgi(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Everything that is served over HTTP."""
        await self._web(scope, receive, guarded(send, scope) if scope["type"] == "http" else send)

    async def open(self) -> None:
        """Connects to the database."""
        await self._parts.database.open()
        await self._sealing.open()
        if self._server is not None:
            await self._server.open()

    async def close(self) -> None:
        """Gives everything back."""
        await self._host.refusals.close()
        if self.mllp is not None:
            await self.mllp.refusals.close()
        await self._parts.documents.close()
        await self._forwarding.close()
        if self._parts.patients is not None:
            await self._parts.patients.close()
        for close in self._role.closing:
            await close()
        self._parts.database.close()


class Inside(NamedTuple):
    """A region as commands that work within it see it, without sockets."""

    actors: Actors
    directory: PostgresDirectoryStore
    access: PostgresAccess
    patients: PatientIndex
    consents: ConsentRegistry
    authorities: Authorities


@asynccontextmanager
async def inside(settings: Settings) -> AsyncIterator[Inside]:
    """The actors of a region over its database, as long as the block."""
    parts = _parts(settings)
    role = _region(parts)
    consents, index = role.actors.consent_registry, role.actors.patient_index
    assert consents is not None  # noqa: S101 - a region has both
    assert index is not None  # noqa: S101
    await parts.database.open()
    try:
        yield Inside(
            role.actors,
            PostgresDirectoryStore(parts.database, parts.audit),
            PostgresAccess(parts.database, parts.audit, assigning_authority=parts.assigning_authority),
            index,
            consents,
            parts.authorities,
        )
    finally:
        await parts.documents.close()
        for close in role.closing:
            await close()
        parts.database.close()


def build(settings: Settings) -> Node:
    """The node that the settings describe; ``database.dsn`` must be set by then."""
    return Node(settings)


def _front(
    soap: SoapEdge,
    fhir_edge: fhir.FhirEdge,
    login: PatientLoginEdge | None,
    wado: WadoEdge | None,
    links: HealthLinkEdge | None,
    other: Any,
) -> Callable[..., Awaitable[None]]:
    """SOAP, FHIR, DICOMweb, links and log-ins of patients go to their edges; all else to the web application."""

    async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PATH_PREFIX):
            await soap(scope, receive, send)
        elif scope["type"] == "http" and f"{scope['path']}/".startswith(f"{fhir.PREFIX}/"):
            await fhir_edge(scope, receive, send)
        elif login and scope["type"] == "http" and f"{scope['path']}/".startswith(f"{PATIENT_LOGIN}/"):
            await login(scope, receive, send)
        elif wado and scope["type"] == "http" and f"{scope['path']}/".startswith(f"{WADO}/"):
            await wado(scope, receive, send)
        elif links and scope["type"] == "http" and scope["path"].startswith(f"{LINKS}/"):
            await links(scope, receive, send)
        else:
            await other(scope, receive, send)

    return application


def _learned(dsn: str) -> Weights | None:
    """What the region has learned of matching; where the database is away, opening it will say so."""
    try:
        return newest_weights(dsn)
    except psycopg.Error:
        return None


async def _forgetting(forget: Callable[[], Awaitable[int | None]]) -> None:
    """Forgets what is over, for ever; what says that there was something is asked again at once."""
    while True:
        forgotten = None
        with suppress(RetryLater):
            forgotten = await forget()
        if not forgotten:
            await asyncio.sleep(FORGET_PAUSE_S)


async def _resume(repository: DocumentRepository) -> None:
    """Closes submissions that wait for their registry, for ever."""
    while True:
        tried = 0
        with suppress(RetryLater):
            tried = await repository.resume()
        if not tried:
            await asyncio.sleep(RESUME_PAUSE_S)
