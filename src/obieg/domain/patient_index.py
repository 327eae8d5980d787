"""What the patient index knows, what it decides, and the port to where it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Judgement, Record
from obieg.domain.outbox import Outgoing
from obieg.domain.patients import Standing, TaskKind
from obieg.domain.persons import Demographics
from obieg.domain.searching import SearchPlan


class KnownRecord(NamedTuple):
    """A record as it is kept, and the patient it is of."""

    patient_key: int  # under which it stands
    survivor_key: int  # the patient it is of, after links
    affinity_domain_id: str  # of that patient
    record_key: int
    version: int
    source: str
    record: Record
    blocks: tuple[int, ...]
    updated_at: datetime
    patient_version: int = 0  # of the patient it is of
    fed_by: str = ""  # the system, as it was proved; "": nobody's


class Facts(NamedTuple):
    """What a feed is judged by."""

    standings: Mapping[PatientId, Standing]
    records: tuple[KnownRecord, ...]  # of the patients whom the feed's identifiers name
    candidates: tuple[KnownRecord, ...]  # records under the blocks asked for
    in_blocks: int  # which records stood there, as one number
    apart: frozenset[frozenset[int]]  # pairs of patient keys that a person has decided to be different
    retired: frozenset[PatientId] = frozenset()  # of the records' identifiers; read only where somebody is told


class SavedRecord(NamedTuple):
    """A record to be written; ``version`` is that which it replaces, 0 for a new one."""

    patient_key: int
    record_key: int
    version: int
    source: str
    record: Record
    blocks: tuple[int, ...]
    blocks_changed: bool = True
    removed: bool = False
    fed_by: str = ""


class NewLink(NamedTuple):
    """A patient becomes part of another one."""

    patient_key: int
    reason: str
    by: str


class NewTask(NamedTuple):
    """A pair that a person must look at."""

    kind: TaskKind
    left_key: int
    right_key: int | None
    judgement: Judgement | None
    detail: str = ""


class Retirement(NamedTuple):
    """An identifier that names nobody from now on, by the link of which patient, and what stands in its place."""

    identifier: PatientId
    by: int  # patient key; 0 where no link was made
    replaced_by: PatientId | None = None


class Change(NamedTuple):
    """Everything that one act writes; it is stored whole or not at all."""

    patient_key: int  # the patient the act is about, locked while it is written
    affinity_domain_id: PatientId | None = None  # of a new patient
    record: SavedRecord | None = None
    claimed: tuple[PatientId, ...] = ()  # identifiers that lead to the patient from now on
    released: tuple[PatientId, ...] = ()  # identifiers that its records no longer state
    numbers: tuple[tuple[str, int], ...] = ()  # authority, how many of its numbers the patient's records state then
    standing: tuple[tuple[PatientId, int], ...] = ()  # identifiers and the patients whom they must still name
    kin: tuple[int, ...] = ()  # patients who must still be linked to this one
    versions: tuple[tuple[int, int], ...] = ()  # patients who must not have changed since they were compared
    links: tuple[NewLink, ...] = ()
    retired: tuple[Retirement, ...] = ()
    tasks: tuple[NewTask, ...] = ()
    outgoing: tuple[Outgoing, ...] = ()
    blocks: tuple[int, ...] = ()  # under which nobody may have come since it was decided
    in_blocks: int = 0


class PatientRecords(NamedTuple):
    """A patient with everything its records say, for an answer."""

    patient_key: int
    affinity_domain_id: str
    version: int
    updated_at: datetime
    survivor_id: str | None  # the affinity-domain id of whom it is linked to
    identifiers: tuple[PatientId, ...]  # not retired, of all records
    records: tuple[tuple[tuple[PatientId, ...], Demographics, datetime], ...]  # newest first


class Found(NamedTuple):
    """A record that may fit a question, and the patient it is of."""

    stands_under: int  # before links
    patient_key: int  # after links
    affinity_domain_id: str
    identifiers: tuple[PatientId, ...]
    demographics: Demographics


class SavedSearch(NamedTuple):
    """Whom a search found, so that its later pages neither lose nor repeat anybody."""

    requester: str
    found: tuple[tuple[int, int], ...]  # patient key and score
    authorities: tuple[str, ...]
    capped: bool
    position: int = 0  # how many the page before has given


class PatientStore(Protocol):
    """Where the patient index is kept; each write commits its audit record with it, or raises and leaves nothing.

    Writes raise :class:`obieg.domain.registry.LostRace` where another transaction was faster; all raise RetryLater
    where the store is away.
    """

    async def standing(self, identifiers: Sequence[PatientId]) -> Mapping[PatientId, Standing]:
        """What is known of the identifiers; the unknown ones are left out."""

    async def recognised(
        self, identifier: PatientId, authorities: Sequence[str]
    ) -> tuple[Standing | None, frozenset[str]]:
        """What is known of the identifier, and those of the authorities in which any patient has an identifier."""

    async def known_authorities(self) -> frozenset[str]:
        """All authorities in which any patient has an identifier."""

    async def identifiers(
        self, *, patient_key: int, authorities: Sequence[str], event: AuditEvent
    ) -> tuple[PatientId, ...]:
        """The identifiers that name the patient, in these authorities or, for none, in all; audited as it is read."""

    async def facts(self, identifiers: Sequence[PatientId], blocks: Sequence[int]) -> Facts:
        """What a feed with these identifiers and blocks is judged by."""

    async def store(self, change: Change, event: AuditEvent) -> None:
        """Writes all of it."""

    async def record(self, event: AuditEvent) -> None:
        """The audit record of a feed that changed nothing because what it asks for stands already."""

    async def find(self, plan: SearchPlan, limit: int) -> Sequence[Found]:
        """Records that may fit, at most ``limit`` by each index."""

    async def near(self, identifiers: Sequence[PatientId], blocks: Sequence[int]) -> Sequence[KnownRecord]:
        """Records of whom the identifiers name, and of those who share a block."""

    async def patients(self, keys: Sequence[int], event: AuditEvent | None = None) -> Mapping[int, PatientRecords]:
        """The patients with these keys; audited as it is read, if there is an event."""

    async def save_search(self, search_id: str, search: SavedSearch) -> None:
        """Keeps whom a search found, in place of what its requester called so before."""

    async def advance_search(
        self, search_id: str, requester: str, *, start: int | None, count: int, seconds: int
    ) -> SavedSearch | None:
        """Whom it found, if it is this requester's and not older than ``seconds``; notes that ``count`` more are given.

        ``start`` is the position to go on at; None: after those who were given last.
        """

    async def forget_search(self, search_id: str, requester: str) -> bool:
        """Whether there was one."""

    async def forget_old_searches(self, seconds: int) -> None:
        """Forgets those older than ``seconds``."""
