"""Medical events (zdarzenia medyczne): what facilities report to P1 of each visit, stay and examination."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from obieg.domain.access import DocumentFacts
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId

EVENTS_MAX = 200


class Diagnosis(NamedTuple):
    """A diagnosis of an event."""

    code: str  # ICD-10
    name: str


class MedicalEvent(Value, frozen=True):
    """One event, as far as a timeline shows it."""

    id: str  # root#extension
    kind: str  # code of rodzaj zdarzenia
    kind_name: str
    begin: datetime
    end: datetime | None = None
    facility: str = ""  # root#extension
    facility_name: str = ""
    professional: str = ""  # root#extension
    professional_name: str = ""
    labels: tuple[str, ...] = ()  # of confidentiality
    diagnoses: tuple[Diagnosis, ...] = ()

    @property
    def facts(self) -> DocumentFacts:
        """As rules of access look at it: like a document of its facility that belongs to the event."""
        return DocumentFacts(
            entry_uuid=self.id,
            labels=self.labels,
            authors=tuple(filter(None, (self.facility, self.professional))),
            encounters=(self.id,),
            creation_time=self.begin.astimezone(UTC).strftime("%Y%m%d%H%M%S"),
        )


class EventsAsked(Value, frozen=True):
    """Whose events."""

    patient: PatientId


class MedicalEvents(NamedTuple):
    """What is known of somebody's events now."""

    events: Sequence[MedicalEvent] = ()
    answered: bool = True  # whether the source answered; nobody may take silence for "there are none"


class EventSource(Protocol):
    """Where events are asked: P1, once it is connected."""

    async def of(self, pesel: str) -> Sequence[MedicalEvent]:
        """The newest :data:`EVENTS_MAX` of a person, in any order. Raises RetryLater."""
