"""What patients and facilities write to one another (docs/access.md, Messages)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.persons import Demographics
from obieg.domain.requester import Requester
from obieg.domain.sight import Sight

SUBJECT_MAX = 120  # characters
TEXT_MAX = 4000
OPEN_MAX = 10  # threads of one patient at once
MESSAGES_MAX = 100  # of one thread
THREADS_MAX = 100  # that one answer has
NOTICE = "message"  # kind of what patients are told


class Asked(Value, frozen=True):
    """Threads are read, one is written to, begun or closed: by a patient, or without one by a facility."""

    patient: PatientId | None = None
    thread: str = ""
    facility: str = ""  # root#extension: to which a patient begins a thread
    subject: str = ""
    text: str = ""
    close: bool = False

    @property
    def reads(self) -> bool:
        """Whether nothing is written."""
        return not (self.text or self.close)


class Message(NamedTuple):
    """One message."""

    id: int
    of_patient: bool
    author_name: str
    role: str
    text: str
    sent_at: datetime
    read_at: datetime | None = None


class Thread(NamedTuple):
    """A question and what was answered."""

    id: str
    patient_key: int
    patient: str  # affinity-domain id
    facility: str
    subject: str
    closed_at: datetime | None
    demographics: Demographics
    messages: Sequence[Message]
    facility_name: str = ""


class Side(NamedTuple):
    """Whose threads are meant: of a patient, or of a facility."""

    patient: PatientId | None
    facility: str

    @property
    def of_patient(self) -> bool:
        """Whether it is the patient's side."""
        return self.patient is not None


class MessageStore(Protocol):
    """Where messages stand."""

    async def threads(self, side: Side, thread: str = "") -> Sequence[Thread]:
        """Those where something happened last first; one, where it is named."""

    async def begin(self, side: Side, asked: Asked, id_: str, by: Requester, event: AuditEvent, sight: Sight) -> bool:
        """Begins a thread with its first message; whether it could be. ``sight``: what its patient is shown."""

    async def write(self, side: Side, asked: Asked, by: Requester, event: AuditEvent) -> bool:
        """Adds a message; whether it could be."""

    async def read(self, side: Side, thread: str, event: AuditEvent) -> None:
        """What the other side wrote is read."""

    async def close(self, side: Side, thread: str, event: AuditEvent) -> bool:
        """Closes a thread; whether it was open."""

    async def record(self, event: AuditEvent) -> None:
        """Stores a record."""
