"""What builds the patient index, for a node and for the commands that work on it while no node need run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from obieg.actors.access_control import AccessControl
from obieg.actors.patient_curation import PatientCuration
from obieg.actors.patient_index import PatientIndex
from obieg.codes.load import toml
from obieg.domain.affinity_domain import AffinityDomain, polish
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.matching import Matcher
from obieg.domain.notices import ChangeKind, Subscribers, Subscription
from obieg.ops.settings import Settings
from obieg.storage.audit_store import AuditStore
from obieg.storage.curation_store import PostgresCurationStore
from obieg.storage.link import Database
from obieg.storage.outbox_store import PostgresOutbox
from obieg.storage.patient_store import PostgresPatientStore


class _Told(NamedTuple):
    """What a protocol of the settings sends, and of what."""

    transaction: str
    kind: ChangeKind


PROTOCOLS = {
    "pix_v2": _Told("ITI-10", ChangeKind.IDENTIFIERS),
    "pix_v3": _Told("ITI-46", ChangeKind.IDENTIFIERS),
    "xad_pid": _Told("ITI-64", ChangeKind.LINK),
}


def subscribers(settings: Settings) -> Subscribers:
    """Who is told of changes of patients."""
    return Subscribers(
        [Subscription(s.name, *PROTOCOLS[s.protocol], frozenset(s.authorities)) for s in settings.subscribers]
    )


def affinity_domain(settings: Settings) -> AffinityDomain:
    """The codes of the settings' file, or the Polish ones."""
    path = settings.affinity_domain.codes
    return polish() if path is None else AffinityDomain.from_json(path.read_bytes())


def utc_now() -> datetime:
    """The node's clock."""
    return datetime.now(UTC)


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


class PatientActors(NamedTuple):
    """Who answers for the patient index, and what they are built of."""

    store: PostgresPatientStore
    actor: PatientIndex
    links: PostgresCurationStore
    curation: PatientCuration
    authorities: Authorities
    feeding_parts: dict[str, Any]  # what deciding feeds is built of, without new ids and keys


def patient_actors(
    settings: Settings,
    database: Database,
    audit: AuditStore,
    outbox: PostgresOutbox,
    matcher: Matcher,
    access: AccessControl | None = None,
) -> PatientActors:
    """The index of a region over its database, for a node and for commands; opens no connection."""
    authority, told = settings.identity.assigning_authority, subscribers(settings)
    store = PostgresPatientStore(database, audit, outbox, assigning_authority=authority, tells=bool(told))
    common: dict[str, Any] = {"assigning_authority": authority, "matcher": matcher, "subscribers": told}
    known = authorities(settings)
    parts = {**common, "authorities": known}
    index = PatientIndex(store, home_community_id=settings.identity.home_community_id, access=access, **parts)
    links = PostgresCurationStore(database, audit, outbox, store, assigning_authority=authority)
    return PatientActors(store, index, links, PatientCuration(links, store, index, **common), known, parts)
