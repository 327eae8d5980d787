"""What patients see and do by themselves: for whom they act, what they were told, what of their log they report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from obieg.domain.access_log import Access
from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.persons import Demographics

NOTICES_MAX = 200  # that one answer has
REVIEWS_MAX = 200
REPORT_LENGTH_MAX = 2000  # characters of what a patient says of an entry
OWN = "patient"  # the basis by which one acts for oneself


class RepresentedAsked(Value, frozen=True):
    """For whom the caller may act."""


class Candidate(NamedTuple):
    """Somebody for whom the caller perhaps may act: that is decided by the facts."""

    keys: tuple[int, ...]
    id: str  # affinity-domain id
    own: bool  # it is the caller
    records: Sequence[Demographics]  # the newest first
    unread: int


class Represented(Value, frozen=True):
    """Somebody for whom the caller may act, or the caller."""

    patient: PatientId
    basis: str  # patient, guardian, authorised or close
    demographics: Demographics
    until: datetime | None = None
    unread: int = 0  # notices that nobody has read


class NoticesAsked(Value, frozen=True):
    """What a patient was told; with ``read_until`` all up to that one count as read from now on."""

    patient: PatientId
    read_until: int | None = None


class Notice(Value, frozen=True):
    """What a patient was told; ``said`` is :class:`obieg.domain.obligations.Told`'s."""

    id: int
    kind: str  # emergency, access, document
    said: dict[str, Any]
    times: int
    first_at: datetime
    last_at: datetime
    read_at: datetime | None = None
    organisation_name: str = ""


class ReportAsked(Value, frozen=True):
    """An entry of the log that the patient does not agree with."""

    patient: PatientId
    entry: int  # number of the audit record
    explanation: str = ""


class ReviewsAsked(Value, frozen=True):
    """What the officer looks at."""

    patient: PatientId


class Reviewed(Value, frozen=True):
    """A line of the officer's worklist, as the patient may know it."""

    kind: str  # emergency, reported
    entry: int  # of the log; 0: of none
    professional: str
    organisation: str
    reason: str
    opened_at: datetime
    until: datetime
    decided_at: datetime | None = None
    justified: bool | None = None


class PatientPortalStore(Protocol):
    """Where all this stands."""

    async def represented(self, person: str) -> Sequence[Candidate]:
        """Whom an identifier (root#extension) names, and of whom a fact says that this person may act for them."""

    async def notices(self, patient: PatientId) -> Sequence[Notice]:
        """The newest, newest first."""

    async def read(self, patient: PatientId, last: int, event: AuditEvent) -> None:
        """Notices up to this one are read."""

    async def report(self, asked: ReportAsked, entry: Access, by: str, event: AuditEvent) -> None:
        """A line of the worklist, once for each entry; the officer is told."""

    async def reviews(self, patient: PatientId) -> Sequence[Reviewed]:
        """The newest, newest first."""

    async def record(self, event: AuditEvent) -> None:
        """Stores a record of a reading."""
