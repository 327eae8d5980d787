"""What people who look after a node see of it and do, and the ports to where that is kept (docs/access.md, Acts)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.obligations import Review
from obieg.domain.outbox import Backlog
from obieg.domain.previewing import CodeInUse, InUse, Kind, PeerCertificate, Proposal
from obieg.domain.requester import Requester

NOTICE_LENGTH_MAX = 500  # characters of what all pages say
ROWS_MAX = 500  # of one list
CERTIFICATE_WARNING = timedelta(days=60)


class Operator(NamedTuple):
    """Who does it. ``proof`` is None where a command does, whose user has the database itself."""

    name: str
    proof: Requester | None = None
    request_id: str = ""


class LetterShown(Value, frozen=True):
    """A message of the outbox, without what it says."""

    outbox_id: int
    destination: str
    transaction: str
    key: str
    state: str  # W waits, D is dead
    created_at: datetime
    attempts: int
    next_attempt_at: datetime
    on_its_way: bool | None
    last_error: str
    died_at: datetime | None


class Waiting(NamedTuple):
    """A page of the outbox: what there is by receiver, and some messages."""

    backlog: Sequence[Backlog]
    letters: Sequence[LetterShown]


class Received(Value, frozen=True):
    """A submission in the inbox (XDR)."""

    inbox_id: int
    received_at: datetime
    sender: str
    patient: str
    title: str
    documents: int
    taken_at: datetime | None


class Inbox(NamedTuple):
    """What came, and how much of it nobody has taken, of all."""

    received: Sequence[Received]
    waiting: int
    total: int


class Reviews(NamedTuple):
    """Emergency access to be looked at."""

    reviews: Sequence[Review]
    waiting: int
    total: int


class Notice(Value, frozen=True):
    """What all pages say until a moment."""

    text: str
    until: datetime
    by: str
    made_at: datetime


class DatabaseState(Value, frozen=True):
    """What the database says of itself and of what waits in it."""

    version: str
    size: int  # bytes
    connections: int
    leader: bool  # whether some worker does the background work
    migration: str  # the newest
    dead_letters: int
    waiting_letters: int
    waiting_inbox: int
    open_reviews: int
    pending_documents: int  # submissions of a facility that wait for the region


class SealingState(Value, frozen=True):
    """How far the audit is sealed, and when it was last verified as a whole."""

    age_s: float
    unsealed: int
    sequence: int | None = None
    records: int | None = None
    stamped_at: datetime | None = None
    verified_at: datetime | None = None
    verified_records: int | None = None
    deviations: int | None = None


class NodeNews(Value, frozen=True):
    """What came from a source of documents."""

    repository: str
    documents: int
    first_at: datetime
    last_at: datetime


class CertificateShown(Value, frozen=True):
    """A certificate that this node uses or trusts, or that others showed."""

    purpose: str  # key of the pages' texts: own, authority, issuer, stamping, caller, called
    subject: str
    not_after: datetime
    seen_at: datetime | None = None  # by whom others are known: the last day on which it was


class Disk(Value, frozen=True):
    """A file system that the node writes to."""

    path: str
    total: int
    free: int


class Worker(Value, frozen=True):
    """A process of the node."""

    pid: int
    resident: int  # bytes


class KnownNode(Value, frozen=True):
    """A node or system of the settings."""

    name: str
    repository: str
    called: tuple[str, ...]  # what its records and calls are known by: name, address, certificate


class House(Protocol):
    """The machine around the node, and its settings."""

    nodes: Sequence[KnownNode]
    repository: str  # of this node
    version: str

    def disks(self) -> Sequence[Disk]:
        """Where the node writes."""

    def workers(self) -> Sequence[Worker]:
        """The processes that run."""

    def certificates(self) -> Sequence[CertificateShown]:
        """By end, the first to end first."""

    def settings(self) -> Sequence[tuple[str, str]]:
        """The settings by name, without secrets."""

    def proposal(self, kind: Kind, data: bytes) -> Proposal:
        """What ``data`` would change of what the node runs by, as far as its settings and files say."""


class NodeHealth(NamedTuple):
    """A source of documents, and when it was heard of."""

    name: str
    repository: str
    own: bool
    documents: int
    registered_at: datetime | None
    audit_at: datetime | None


class Health(NamedTuple):
    """All of it; ``trouble`` are keys of the pages' texts."""

    at: datetime
    version: str
    database: DatabaseState
    sealing: SealingState
    disks: Sequence[Disk]
    workers: Sequence[Worker]
    nodes: Sequence[NodeHealth]
    certificates: Sequence[CertificateShown]
    trouble: Sequence[str]


# figures ---------------------------------------------------------------------------------------------------------


class Quality(Value, frozen=True):
    """How good what one repository registered within a year is; numbers of documents."""

    repository: str
    documents: int
    no_type: int  # no typeCode
    no_class: int
    no_format: int
    no_practice: int
    no_author: int  # no authorInstitution
    late: int  # registered more than a day after it was made
    unknown_patients: int = 0  # submissions within a month that were refused for it


class Counted(NamedTuple):
    """A number of something."""

    name: str
    number: int


class Figures(Value, frozen=True):
    """What is worth publishing: sums, nothing of anybody."""

    at: datetime
    patients: int
    covered: int  # patients with a document
    documents: int
    by_month: tuple[Counted, ...]  # documents registered, oldest month first
    reads_by_purpose: tuple[Counted, ...]  # of the last month
    reads_by_basis: tuple[Counted, ...]
    quality: tuple[Quality, ...]
    unknown: tuple[Counted, ...]  # refused submissions by who sent them


# traces ----------------------------------------------------------------------------------------------------------


class Step(Value, frozen=True):
    """One audit record on the way of a document or message."""

    audit_id: int
    at: datetime
    after_ms: int  # since the step before
    transaction: str
    what: str
    outcome: str
    detail: str
    node: str  # who recorded it
    received: bool  # from another node (ITI-20)
    who: str
    request_id: str
    purpose: str = ""
    bases: tuple[str, ...] = ()


class Trace(NamedTuple):
    """All that is known of one document or message, in the order of time."""

    name: str
    steps: Sequence[Step]
    repository: str = ""
    registered_at: datetime | None = None
    more: bool = False  # there are more records than were looked at


class Found(Value, frozen=True):
    """A document that a trace is about."""

    patients: tuple[str, ...]  # CX
    names: tuple[str, ...]  # uniqueId, entryUUID, logical id
    repository: str
    registered_at: datetime


class Institution(NamedTuple):
    """What was registered of what one organisation wrote."""

    identifier: str  # root#extension; "" where documents give the name alone
    name: str  # as the newest documents spell it
    documents: int
    since: datetime  # of the first registration
    kinds: tuple[str, ...]  # class codes, as in the registry


class Facility(Value, frozen=True):
    """A facility whose documents are here, for everybody to see."""

    name: str
    city: str
    since: datetime
    kinds: tuple[str, ...]  # class codes, as in the registry


class OperationsStore(Protocol):
    """Where it is kept; all raise RetryLater where the database is away."""

    async def letters(self, destination: str, count: int, *, dead: bool) -> Waiting:
        """Messages that wait or are dead."""

    async def retry(self, ids: Sequence[int], destination: str, event: AuditEvent) -> list[int]:
        """Sends them again now, all where none is named; the numbers of those that will be."""

    async def drop(self, ids: Sequence[int], destination: str, event: AuditEvent, *, dead: bool) -> list[int]:
        """Deletes them unsent."""

    async def inbox(self, count: int, *, everything: bool) -> Inbox:
        """What came and nobody took."""

    async def reviews(self, count: int, *, everything: bool) -> Reviews:
        """Break-glass sessions, the oldest first."""

    async def review(self, review_id: int) -> Review | None:
        """One that is not decided."""

    async def decide(self, review_id: int, *, justified: bool, note: str, by: str, event: AuditEvent) -> bool:
        """Whether it was open until now."""

    async def notice(self) -> Notice | None:
        """What all pages say now."""

    async def say(self, text: str, until: datetime, by: str, event: AuditEvent) -> None:
        """Replaces it; an empty text ends it."""

    async def database(self) -> DatabaseState:
        """How the database is."""

    async def sealing(self) -> SealingState:
        """How the audit is."""

    async def news(self) -> list[NodeNews]:
        """By repository; reads all documents, so not for every request."""

    async def heard(self) -> Mapping[str, datetime]:
        """When each sender's last audit record of the last month is from."""

    async def provided(self, transactions: Sequence[str]) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Submissions of the last month by repository; records that others sent of making them, by sender."""

    async def institutions(self) -> list[Institution]:
        """By author institution, those with most documents first; reads all documents, so not for every request."""

    async def figures(self, at: datetime) -> Figures:
        """Reads very much, so not for every request."""

    async def in_use(self, *, codes: bool) -> InUse:
        """What a proposal may break; with ``codes`` it reads all documents."""

    async def documents_of_codes(self, refused: Sequence[CodeInUse]) -> Mapping[str, int]:
        """Documents that have one of these, by repository; reads all documents."""

    async def peers(self) -> list[PeerCertificate]:
        """The newest certificate of each who called and was called."""

    async def document(self, name: str) -> Found | None:
        """The document of a uniqueId, entryUUID or logical id."""


def troubles(
    database: DatabaseState,
    sealing: SealingState,
    disks: Collection[Disk],
    ends: Collection[datetime],
    at: datetime,
    *,
    peers: Collection[datetime] = (),
) -> list[str]:
    """What needs somebody, the worst first: keys of the pages' texts.

    ``ends``: of own certificates and of those that are trusted; ``peers``: of those that others showed.
    """
    found = {
        "deviations": bool(sealing.deviations),
        "leader": not database.leader,
        "seal": sealing.age_s > 300,
        "disk": any(disk.free * 10 < disk.total for disk in disks),
        "expired": any(end <= at for end in ends),
        "expiring": any(at < end <= at + CERTIFICATE_WARNING for end in ends),
        "peers": any(end <= at + CERTIFICATE_WARNING for end in peers),
        "dead": database.dead_letters > 0,
        "reviews": database.open_reviews > 0,
        "inbox": database.waiting_inbox > 0,
        "pending": database.pending_documents > 100,
    }
    return [name for name, holds in found.items() if holds]
