"""Builds what operators and officers work with, for a node and for commands."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import NamedTuple, TypeVar

from cryptography import x509
from prometheus_client.parser import text_string_to_metric_families

from obieg.actors.access_control import AccessControl
from obieg.actors.operations import Operations
from obieg.actors.oversight import Oversight
from obieg.actors.patient_curation import OPERATOR
from obieg.actors.provider_directory import ProviderDirectory
from obieg.actors.region_facts import RegionFacts
from obieg.domain.access import Act, act_of
from obieg.domain.operating import CertificateShown, Disk, KnownNode, Operator, Worker
from obieg.domain.previewing import Kind, Proposal
from obieg.ops.accounts import os_user
from obieg.ops.asking import loaded
from obieg.ops.index_access import told
from obieg.ops.metrics import exposition
from obieg.ops.postgres import reach
from obieg.ops.previewing import compare, leaves
from obieg.ops.settings import Settings
from obieg.ops.tls import trust_of
from obieg.ops.watching import LOOK_UPS
from obieg.ops.wiring_patients import utc_now
from obieg.storage.audit_repository_store import PostgresAuditLog
from obieg.storage.audit_store import AuditStore
from obieg.storage.facts_store import LocatedFacts
from obieg.storage.link import Database
from obieg.storage.operations_store import PostgresOperations
from obieg.storage.watch_store import WatchStore
from obieg.transactions import TRANSACTIONS

T = TypeVar("T")
READING = tuple(t.id for t in TRANSACTIONS if act_of(t.permission) is Act.READ)


class SettingsHouse:
    """The machine that a node's settings describe: port :class:`obieg.domain.operating.House`."""

    def __init__(self, settings: Settings, *, anywhere: bool = False) -> None:
        """``anywhere``: whether a proposal may name files of the machine that are not used yet."""
        self._settings = settings
        self._anywhere = anywhere
        self.repository = settings.identity.repository_unique_id
        self.name = settings.name
        self.version = package_version("obieg")
        self.nodes: Sequence[KnownNode] = [
            KnownNode(n.name, n.repository_unique_id, (n.name, *filter(None, (n.address, n.certificate))))
            for n in settings.nodes
        ]

    def disks(self) -> Sequence[Disk]:
        """See the port."""
        found: dict[int, Disk] = {}
        for path in (self._settings.data_dir, self._settings.postgres_dir):
            if path.exists():
                usage = shutil.disk_usage(path)
                found.setdefault(path.stat().st_dev, Disk(str(path), usage.total, usage.free))
        return list(found.values())

    def workers(self) -> Sequence[Worker]:
        """See the port."""
        return [
            Worker(int(sample.labels["pid"]), int(sample.value))
            for family in text_string_to_metric_families(exposition().decode())
            for sample in family.samples
            if sample.name == "obieg_worker_resident_bytes" and "pid" in sample.labels
        ]

    def certificates(self) -> Sequence[CertificateShown]:
        """See the port."""
        settings, found = self._settings, []
        trust = trust_of(settings)
        files = (("own", settings.tls.certificate_file), ("stamping", settings.sealing.tsa_ca_file))
        for purpose, path in files:
            if path is not None and path.exists():
                found += [_shown(purpose, each) for each in x509.load_pem_x509_certificates(path.read_bytes())[:1]]
        found += [_shown("authority", x509.load_der_x509_certificate(each)) for each in trust.client_authorities]
        return sorted(found, key=lambda one: (one.not_after, one.subject))

    def settings(self) -> Sequence[tuple[str, str]]:
        """See the port."""
        return [(key, leaf.shown) for key, leaf in leaves(self._settings).items()]

    def proposal(self, kind: Kind, data: bytes) -> Proposal:
        """See the port."""
        return compare(kind, data, self._settings, anywhere=self._anywhere)


def _shown(purpose: str, certificate: x509.Certificate) -> CertificateShown:
    return CertificateShown(purpose, certificate.subject.rfc4514_string(), certificate.not_valid_after_utc)


class Operating(NamedTuple):
    """Who does what operators and officers do."""

    operations: Operations
    oversight: Oversight
    house: SettingsHouse
    facts: RegionFacts

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """What the node of each repository is called."""
        called: dict[str, Sequence[str]] = {n.repository: n.called for n in self.house.nodes if n.repository}
        return {**called, self.house.repository: (self.house.name,)}


def operating(
    settings: Settings,
    database: Database,
    audit: AuditStore,
    access: AccessControl,
    directory: ProviderDirectory | None = None,
    *,
    anywhere: bool = False,
) -> Operating:
    """The actors over a node's database. ``access`` admits people who are logged in; ``anywhere``: see the house."""
    authority = settings.identity.assigning_authority
    store = PostgresOperations(database, audit, assigning_authority=authority, reading=READING)
    house = SettingsHouse(settings, anywhere=anywhere)
    return Operating(
        Operations(store, house, access=access, record=audit.record, node=settings.name, now=utc_now),
        Oversight(
            store,
            PostgresAuditLog(database, audit, assigning_authority=authority),
            WatchStore(database),
            access=AccessControl(LocatedFacts(database, assigning_authority=authority), access.settings),
            ways=LOOK_UPS,
            node=settings.name,
            assigning_authority=authority,
            now=utc_now,
        ),
        house,
        RegionFacts(store, directory, now=utc_now),
    )


def operated(
    node: Path | None, settings: Path | None, question: Callable[[Operating, Operator], Awaitable[T]], by: str = ""
) -> T:
    """What a command does over the database of the node that is meant, which need not run."""
    described = loaded(node, settings)

    async def ask(dsn: str) -> T:
        database = Database(dsn, links=1)
        names = {OPERATOR: "Operator at the command line"}
        audit = AuditStore(database, source_id=described.name, names=names, now=utc_now)
        await database.open()
        try:
            return await question(
                operating(described, database, audit, AccessControl(), anywhere=True), Operator(by or os_user())
            )
        finally:
            database.close()

    with reach(described.database.dsn, described.postgres_dir) as dsn, told():
        return asyncio.run(ask(dsn))
