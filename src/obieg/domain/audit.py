"""What is remembered of every transaction (DICOM PS3.15 A.5, RFC 3881, ITI TF-2:3.20)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from obieg.domain.documents import Value
from obieg.domain.obligations import Told
from obieg.domain.requester import Requester, Spent


class Outcome(StrEnum):
    """EventOutcomeIndicator."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"
    MAJOR_FAILURE = "12"


class AuditObject(Value, frozen=True):
    """One ParticipantObjectIdentification: what the act was about. ``kind`` is a row of codes/audit.toml."""

    kind: str
    identifier: str
    query: bytes = b""
    details: tuple[tuple[str, str], ...] = ()


class AuditEvent(Value, frozen=True):
    """An audit record before it is rendered; the event's codes come from codes/audit.toml by ``transaction``."""

    transaction: str  # "ITI-18"
    event: str  # a row of codes/audit.toml
    outcome: Outcome
    detail: str = ""  # EventOutcomeDescription: problem codes, never clinical content
    request_id: str = ""
    source_user: str = ""  # who sent the request: reply address, certificate, facility
    source_address: str = ""  # network address
    destination_user: str = ""  # who answered
    destination_address: str = ""
    requester: str = ""  # the person or system on whose behalf
    objects: tuple[AuditObject, ...] = ()
    spent: tuple[Spent, ...] = ()  # what the request uses up; not part of the record
    told: tuple[Told, ...] = ()  # who is told in the same commit; not part of the record
    proof: Requester | None = None  # how the caller proved who asks; None: the node acts by itself, or nobody proved


# What an audit message says, whoever wrote it (DICOM PS3.15 A.5.1; FHIR R4 AuditEvent says the same in other words).


class AuditCode(NamedTuple):
    """A code with its system as DICOM names it ("DCM", "IHE Transactions") or as a URI."""

    code: str
    system: str = ""
    display: str = ""


class AuditParticipant(Value, frozen=True):
    """ActiveParticipant: who took part."""

    user_id: str
    is_requestor: bool
    roles: tuple[AuditCode, ...] = ()
    user_name: str = ""
    alternative_user_id: str = ""
    network_address: str = ""
    network_type: str = ""  # 1 name of a machine, 2 IP address, 3 telephone number, 4 e-mail address, 5 URI


class AuditedObject(Value, frozen=True):
    """ParticipantObjectIdentification: what it was about."""

    identifier: str
    id_type: AuditCode
    type: str = ""  # ParticipantObjectTypeCode: 1 person, 2 system object, 3 organisation, 4 other
    role: str = ""  # ParticipantObjectTypeCodeRole: 1 patient, 3 report, 24 query, …
    lifecycle: str = ""
    sensitivity: str = ""
    name: str = ""
    query: bytes = b""
    details: tuple[tuple[str, bytes], ...] = ()


class AuditMessage(Value, frozen=True):
    """One whole audit message."""

    event: AuditCode
    action: str  # C, R, U, D, E
    outcome: str  # 0, 4, 8, 12
    recorded: datetime
    outcome_detail: str = ""
    types: tuple[AuditCode, ...] = ()
    purposes: tuple[AuditCode, ...] = ()
    participants: tuple[AuditParticipant, ...] = ()
    source_id: str = ""
    source_site: str = ""
    source_types: tuple[AuditCode, ...] = ()
    objects: tuple[AuditedObject, ...] = ()


# The Audit Record Repository -------------------------------------------------------------------------------------


class AuditFormat(StrEnum):
    """How the message of a record is kept: ours as DICOM; those of others as they came."""

    OWN = "dicom"  # AuditMessage that this node wrote
    FHIR_JSON = "fhir+json"  # AuditEvent over RESTful ATNA
    FHIR_XML = "fhir+xml"
    SYSLOG = "syslog"  # RFC 5424 message, header and all
    SYSLOG_BYTES = "syslog+base64"  # the same, whose bytes are no text that a database keeps


class ReceivedAudit(Value, frozen=True):
    """A record of another node, to be kept as it came, with what it is found by."""

    format: AuditFormat
    message: str
    happened_at: datetime  # as the message says
    transaction: str  # of its EventTypeCodes the one of IHE, or "ITI-20"
    outcome: Outcome
    patients: tuple[str, ...]  # CX
    request_id: str
    sender: str  # who sent it here


class StoredAudit(NamedTuple):
    """A row of the log."""

    audit_id: int
    recorded_at: datetime
    happened_at: datetime | None  # None: recorded_at
    format: str
    transaction: str
    outcome: int
    patient_id: str
    request_id: str
    sender: str
    message: str


class AuditQuestion(Value, frozen=True):
    """What records are looked for by in the database; everything else is looked at in what they say."""

    since: datetime | None = None
    until: datetime | None = None  # first moment that is too late
    patients: tuple[str, ...] | None = None  # CX; None: whoever they are about
    transactions: tuple[str, ...] | None = None
    outcomes: tuple[int, ...] | None = None
    request_id: str = ""
    ids: tuple[int, ...] | None = None
    before: int | None = None  # only records with a lower number


class AuditLog(Protocol):
    """The log as its repository sees it; all raise RetryLater where the database is away."""

    async def receive(self, records: tuple[ReceivedAudit, ...]) -> list[int]:
        """Stores records of others, all or none; their numbers."""

    async def find(self, question: AuditQuestion, count: int) -> list[StoredAudit]:
        """At most ``count`` records, the newest first."""

    async def names(self, patients: tuple[str, ...]) -> tuple[str, ...]:
        """These CX, and all others of the same persons, in the affinity domain and as their records state them."""

    async def record(self, event: AuditEvent) -> None:
        """Stores one record of our own."""


class Unsent(NamedTuple):
    """A record that is to be sent to another repository."""

    audit_id: int
    recorded_at: datetime
    format: str
    message: str


class Unsents(NamedTuple):
    """Records in the order of their numbers.

    Numbers are given out before a transaction ends, so one may be missing between two others: for ever, where its
    transaction was undone, or until it ends. No transaction that began after ``read_at`` of an earlier reading can fill
    a gap that this reading saw.
    """

    oldest_writer: datetime | None  # when the oldest transaction began that ran just before the reading; None: none
    records: list[Unsent]
    read_at: datetime  # just after the reading


class AuditQueue(Protocol):
    """The log as whoever forwards it sees it; all raise RetryLater where the database is away."""

    async def position(self, repository: str) -> int:
        """The number of the last record that the repository has; a new one has all that are there."""

    async def advance(self, repository: str, audit_id: int) -> None:
        """The repository has everything up to this record."""

    async def after(self, audit_id: int, count: int) -> Unsents:
        """The records after this one."""
