"""Holds of documents by facilities (docs/access.md, Holds; docs/retention.md).

A protective hold keeps a document from the patient for a time, a legal one from being erased.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.removing import Standing

HOLDS = "Hold/"  # what the names of sources that are protective holds begin with
PROTECTIVE, LEGAL = "protective", "legal"
KINDS = (PROTECTIVE, LEGAL)
REASON_LENGTHS = (5, 500)  # characters


class HoldAsked(Value, frozen=True):
    """A document is held, or its protective hold gets another reason and end."""

    document: str  # entryUUID
    kind: str
    reason: str
    until: datetime | None = None  # of a protective hold, which always ends


class HoldEnded(Value, frozen=True):
    """A hold is withdrawn."""

    document: str
    hold: str  # Held.id


class HoldsAsked(Value, frozen=True):
    """Which holds of a document stand is asked."""

    document: str


class Held(Value, frozen=True):
    """A hold that stands."""

    id: str  # protective, or legal-NUMBER
    kind: str
    reason: str
    since: datetime
    by: str  # who said so: root#extension of a person, else a system
    organisation: str = ""  # of a legal hold: for which facility; "": an operator of the node
    until: datetime | None = None
    changed: bool = False  # of an answer: it stood before


class LegalHolds(Protocol):
    """Legal holds of documents, which are marks of retention."""

    async def hold(self, patient_key: int, unique_id: str, held: Held, event: AuditEvent) -> Held:
        """Records one with its audit record; as it stands then."""

    async def of(self, unique_id: str) -> Sequence[Held]:
        """Those of this document that stand, in order."""

    async def end(self, number: int, by: str, event: AuditEvent) -> None:
        """Ends one with its audit record. Raises LostRace when it does not stand any more."""


class HeldDocuments(Protocol):
    """What documents are (a part of :class:`obieg.domain.lifecycle.LifecycleStore`)."""

    async def standing(self, uuids: Sequence[str]) -> Mapping[str, Standing]:
        """Registered objects by entryUUID."""
