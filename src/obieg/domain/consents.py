"""What sources say of patients for decisions about access, as it is recorded and answered (docs/access.md).

A source is a FHIR resource (``Consent/…``, ``Encounter/…``, ``CareTeam/…``) or an act of the node's own; what it says
has versions, and an end is a version that says nothing. What it says holds for all who are linked to its patient, and
goes with its own patient when a link is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from obieg.domain.access import Consent, Declaration, Emergency, Encounter, Facts, Hold, Representative
from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId

CONSENTS = "Consent/"  # what the names of sources that are consents begin with
NOTICE = "consent"  # kind of what patients are told of consents that others record

Fact = Declaration | Encounter | Representative | Consent | Emergency | Hold | bool | str


class Kind(StrEnum):
    """What a source speaks about."""

    DECLARATION = "declaration"
    ENCOUNTER = "encounter"
    REPRESENTATIVE = "representative"
    CONSENT = "consent"
    EMERGENCY = "emergency"
    HOLD = "hold"
    OBJECTION = "objection"  # its fact is True
    NOTICES = "notices"  # likewise
    PROTECTED = "protected"  # likewise
    DEATH = "death"  # its fact is the day, YYYY-MM-DD


class Stated(Value, frozen=True):
    """A version of what a source says, to be recorded."""

    source: str
    patient: PatientId  # whom the source names
    kind: Kind
    facts: tuple[Fact, ...]  # all of one kind; none: it says nothing (any more)
    by: str  # who says so: a person, else a system
    resource: str | None = None  # FHIR JSON without versionId and lastUpdated; None: ended, or not from FHIR
    status: str = ""  # of a Consent
    actors: tuple[str, ...] = ()  # of a Consent: references of the actors that it names, Type/id

    @property
    def written(self) -> bytes:
        """The facts as a JSON array."""
        return msgspec.json.encode(self.facts)


class Said(Value, frozen=True):
    """A version of what a source says, as recorded."""

    source: str
    version: int
    kind: Kind
    facts: bytes  # JSON array
    resource: str | None
    recorded_at: datetime
    recorded_by: str

    @property
    def id(self) -> str:
        """Logical id of the resource."""
        return self.source.partition("/")[2]


class ConsentQuery(Value, frozen=True):
    """A search for consents: of the patients, or of the sources, or both; an empty part asks nothing."""

    patients: tuple[PatientId, ...] = ()
    sources: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()
    updated_from: str = "-infinity"
    updated_before: str = "infinity"
    recorded_by: str = ""  # empty: by anybody
    count: int = 0
    skipped: int = 0
    text: bytes = b""  # as asked, for the audit


class AccessStore(Protocol):
    """Where facts are kept."""

    async def facts(self, patient_keys: Sequence[int]) -> Mapping[int, Facts]:
        """What a decision rests on, by the key of each patient's survivor."""

    async def put(self, stated: Stated, before: int, event: AuditEvent) -> datetime:
        """Records the version after ``before`` (0: the first) with its audit record; when.

        Raises LostRace when the source has another version, or speaks of another patient than ``stated`` names.
        """

    async def put_all(self, stated: Sequence[tuple[Stated, int]], event: AuditEvent) -> None:
        """Records several, or none."""

    async def read(self, source: str, version: int | None, event: AuditEvent | None) -> tuple[Said, str, str] | None:
        """A version, the newest for None, with the affinity-domain ids of its patient: its own and the survivor's."""

    async def of_patient(self, patient: PatientId, kinds: Sequence[Kind]) -> Sequence[Said]:
        """What sources that speak about these kinds say of a person now; everybody who is linked is one."""

    async def find(self, query: ConsentQuery, event: AuditEvent) -> tuple[Sequence[Said], int]:
        """A page, newest first, and how many there are."""
