"""A patient index on a real database, asked without a protocol around it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from obieg.actors.patient_curation import PatientCuration
from obieg.actors.patient_index import PatientIndex
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.linkage import LinkageMatcher
from obieg.domain.notices import Subscribers
from obieg.domain.patients import FeedEvent, PatientFeed
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.domain.requester import Requester
from obieg.protocol import Context
from obieg.storage.audit_store import AuditStore
from obieg.storage.curation_store import PostgresCurationStore
from obieg.storage.link import Database
from obieg.storage.outbox_store import PostgresOutbox
from obieg.storage.patient_store import PostgresPatientStore
from obieg.transactions import TRANSACTIONS

OURS = "1.2.616.1"  # the affinity domain
PESEL = "2.16.840.1.113883.3.4424.1.1.616"
HOSPITAL, CLINIC, OTHER = "1.2.616.2", "1.2.616.3", "1.2.616.4"
ITI_8 = next(t for t in TRANSACTIONS if t.id == "ITI-8")


def local(value: str) -> PatientId:
    return PatientId(value, HOSPITAL)


def person(family: str = "", given: str = "", born: str = "", sex: str = "", **more: str) -> Demographics:
    names = (PersonName(family=family, given=tuple(given.split())),) if family or given else ()
    where = {k: more[k] for k in ("street", "city", "postal_code") if k in more}
    return Demographics(
        names=names,
        birth_date=born,
        sex=sex,
        addresses=(Address(**where),) if where else (),
        telecoms=(Telecom(number=more["phone"]),) if "phone" in more else (),
    )


def feed(
    *identifiers: PatientId,
    who: Demographics | None = None,
    event: FeedEvent = FeedEvent.UPDATE,
    merged: tuple[PatientId, ...] = (),
    source: str = "",
) -> PatientFeed:
    who = who or Demographics()
    stated = tuple(n for n in Demographics.__struct_fields__ if getattr(who, n) not in ("", (), None))
    return PatientFeed(
        event=event,
        identifiers=identifiers,
        demographics=who,
        stated=stated,
        merged=merged,
        source=source or f"{identifiers[0].authority}|HIS",
    )


def context(transaction: Any = ITI_8, system: str = "test", proof: str = "") -> Context:
    return Context(
        transaction=transaction,
        requester=Requester(system=system, proof=proof, repositories=None),
        request_id=system,
        received_at=datetime.now(UTC),
    )


def make_index(database: Database, **given: Any) -> PatientIndex:
    audit = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
    listed = [AssigningAuthority(OURS), AssigningAuthority(PESEL, single=True)]
    defaults: dict[str, Any] = {
        "matcher": LinkageMatcher(),
        "authorities": Authorities(listed),
        "subscribers": Subscribers(),
        "assigning_authority": OURS,
    }
    parts = defaults | given
    outbox = PostgresOutbox(database, audit)
    store = PostgresPatientStore(database, audit, outbox, assigning_authority=OURS, tells=bool(parts["subscribers"]))
    return PatientIndex(store, **parts)


def make_curation(database: Database, **given: Any) -> PatientCuration:
    audit = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
    outbox = PostgresOutbox(database, audit)
    patients = PostgresPatientStore(database, audit, outbox, assigning_authority=OURS, tells=True)
    return PatientCuration(
        PostgresCurationStore(database, audit, outbox, patients, assigning_authority=OURS),
        patients,
        make_index(database, **given),
        assigning_authority=OURS,
        matcher=given.get("matcher", LinkageMatcher()),
        subscribers=given.get("subscribers", Subscribers()),
    )
