"""What a person decides about who is who, how it is taken back, and the port to where that is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import NamedTuple, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Judgement
from obieg.domain.outbox import Outgoing
from obieg.domain.patient_index import Change, KnownRecord, Retirement
from obieg.domain.patients import Link, TaskKind
from obieg.domain.versioning import Filed, Versions


class KnownLink(NamedTuple):
    """A link as it is kept."""

    patient_key: int
    survivor_key: int
    into_key: int  # the patient it was linked to, at the end of the chain then
    link: Link


class StatedRecord(NamedTuple):
    """What a record of a person states, removed ones too."""

    patient_key: int
    record_key: int
    created_at: datetime
    identifiers: tuple[PatientId, ...]


class Mixing(NamedTuple):
    """Under which patient things came since when while a link stood: its target, and the targets of that."""

    patient_key: int
    since: datetime


class Division(NamedTuple):
    """Whose is what when a link is taken back."""

    records: tuple[tuple[int, int], ...]  # patient key and record key of those that go with the patient
    theirs: frozenset[PatientId]  # what the records of the patient state
    others: frozenset[PatientId]  # what the records of the survivor state


class KnownTask(NamedTuple):
    """A line of the worklist as it is kept."""

    task_id: int
    kind: TaskKind
    left_key: int
    right_key: int | None
    judgement: Judgement | None
    detail: str
    opened_at: datetime
    decision: str
    decided_by: str
    decided_at: datetime | None
    note: str


class Undoing(NamedTuple):
    """A link to be taken back, with the documents that go with the patient who is its own again."""

    known: KnownLink
    by: str
    version: int  # of the survivor when it was decided
    mixing: tuple[Mixing, ...]
    records: tuple[tuple[int, int], ...]  # that go with the patient
    documents: tuple[str, ...]  # entryUUIDs (without urn:uuid:) that go with the patient
    doubtful: tuple[str, ...]  # those of which nothing says whose they are
    newer: int  # documents that came while the link stood, as they were counted
    outgoing: tuple[Outgoing, ...] = ()


class Moving(NamedTuple):
    """What goes from one patient to another because a source says whom its number names (ITI TF-2:3.64)."""

    from_key: int
    to_key: int
    versions: Versions  # of the source's documents
    records: tuple[KnownRecord, ...]  # with the identifiers that they state from now on
    moved: tuple[PatientId, ...]  # identifiers that lead to the other patient from now on
    claimed: tuple[PatientId, ...]
    retired: tuple[Retirement, ...]
    outgoing: tuple[Outgoing, ...] = ()
    compared: tuple[tuple[int, int], ...] = ()  # patients, and the versions that they must still have


class Access(Value, frozen=True):
    """One audit record about a patient, as it is listed for people."""

    audit_id: int
    recorded_at: datetime
    transaction: str
    outcome: str
    patient_id: str  # CX as it was recorded: the survivor's while a link stood
    request_id: str
    message: str  # DICOM AuditMessage


class Mixture(Value, frozen=True):
    """Two patients who were read as one for a while, and no longer are."""

    patient: PatientId
    survivor: PatientId
    reason: str
    linked_by: str
    linked_at: datetime
    unlinked_at: datetime
    unlinked_by: str


class Undone(Value, frozen=True):
    """What taking a link back did."""

    patient: PatientId
    survivor: PatientId
    moved: tuple[str, ...]  # entryUUIDs of documents that followed their sourcePatientId
    doubtful: tuple[str, ...]  # entryUUIDs of documents that are on the worklist now
    seen: tuple[Access, ...]  # who saw the mixed record


def mixing(known: KnownLink, links: Iterable[KnownLink]) -> tuple[Mixing, ...]:
    """Where things of the linked patient came while the link stood, from all links of the person.

    What came under the target's own target counts only since that link was made.
    """
    made = {k.patient_key: k for k in links}
    found: list[Mixing] = []
    step: KnownLink | None = known
    since = known.link.linked_at
    while step is not None and all(step.into_key != m.patient_key for m in found):
        since = max(since, step.link.linked_at)
        found.append(Mixing(step.into_key, since))
        step = made.get(step.into_key)
    return tuple(found)


def divide(records: Iterable[StatedRecord], below: AbstractSet[int], came: Sequence[Mixing]) -> Division:
    """Which records go with the patients ``below`` a link.

    Those that stood under them before; of those that came while it stood, those that state an identifier which only
    theirs state.
    """
    since = {m.patient_key: m.since for m in came}
    later = [r for r in records if r.patient_key in since and r.created_at > since[r.patient_key]]
    before = [r for r in records if r not in later]
    theirs = {i for r in before if r.patient_key in below for i in r.identifiers}
    others = {i for r in before if r.patient_key not in below for i in r.identifiers}
    go = [r for r in later if (theirs - others) & set(r.identifiers)]
    return Division(
        tuple((r.patient_key, r.record_key) for r in go),
        frozenset(theirs).union(*(r.identifiers for r in go)),
        frozenset(others).union(*(r.identifiers for r in later if r not in go)),
    )


class CurationStore(Protocol):
    """Where links, decisions and the worklist are kept; writes raise LostRace, all raise RetryLater."""

    async def stands(self, identifier: PatientId) -> tuple[int, bool, int] | None:
        """Under which patient the identifier itself stands, whether it is retired, and by whose link (0: none)."""

    async def link_of(self, patient_key: int) -> KnownLink | None:
        """The patient's link to another one."""

    async def links(self, patient_key: int) -> Sequence[KnownLink]:
        """All links of those who are one person with the patient."""

    async def stated(self, patient_key: int) -> tuple[int, Sequence[StatedRecord]]:
        """The version of a patient, and what the records of the person state."""

    async def documents_since(self, mixing: Sequence[Mixing]) -> Sequence[tuple[str, str]]:
        """(entryUUID, sourcePatientId) of the documents that came under these patients since then."""

    async def filed(self, patient_key: int, source_ids: Sequence[PatientId]) -> Sequence[Filed]:
        """What :func:`~obieg.domain.versioning.new_versions` needs to know of documents of these sourcePatientIds."""

    async def replaced(self, identifiers: Sequence[PatientId]) -> Sequence[PatientId]:
        """The identifiers, and all that they took the place of."""

    async def undo(self, undoing: Undoing, event: AuditEvent) -> Sequence[str]:
        """Takes the link back; entryUUIDs of documents that could not follow because their set is of both."""

    async def revive(self, identifier: PatientId, event: AuditEvent) -> None:
        """Revives an identifier that was retired within one patient."""

    async def submitted_with(self, document: str) -> Sequence[tuple[str, int | None]]:
        """EntryUUIDs of the documents of its submission set, itself too, and their open lines on the worklist."""

    async def assign(
        self, left_key: int, right_key: int, documents: Mapping[str, int], by: str, note: str, event: AuditEvent
    ) -> None:
        """Moves documents from the left to the right patient and closes their lines."""

    async def move(self, moving: Moving, event: AuditEvent) -> None:
        """Moves what is named and registers the new versions; doubtful documents go onto the worklist."""

    async def join(self, change: Change, task_id: int, by: str, note: str, event: AuditEvent) -> None:
        """Links as decided; closes the line of the worklist unless ``task_id`` is 0."""

    async def part(
        self, left_key: int, right_key: int | None, task_id: int, by: str, note: str, event: AuditEvent
    ) -> None:
        """Writes down that two patients are different, or that a line is done; they are not joined automatically."""

    async def confirm(self, task_id: int, by: str, note: str, event: AuditEvent) -> None:
        """Closes a line about patients who are one already: they are rightly so."""

    async def tasks(
        self, *, task_id: int = 0, decided: bool = False, count: int = 50, skip: int = 0
    ) -> Sequence[KnownTask]:
        """Lines of the worklist, oldest first; decided ones come after the open ones."""

    async def open_tasks(self) -> int:
        """How many lines are open."""

    async def mixtures(self, patient_key: int = 0) -> Sequence[Mixture]:
        """Links that were taken back, newest first; 0: of everybody."""

    async def accesses(
        self, patient_key: int, since: datetime, until: datetime, *, reading: bool = False
    ) -> Sequence[Access]:
        """Audit records about the patient, those while the patient was read as part of another one included.

        With ``reading`` only those of what was read.
        """
