"""The port to where documents are changed and removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Submission
from obieg.domain.identifiers import PatientId
from obieg.domain.removing import Removing, Standing
from obieg.domain.updating import Update, UpdateFacts


class RemovableDocument(NamedTuple):
    """A document that somebody wants to be removed."""

    unique_id: str
    patient_id: str  # CX; "" where nothing is known
    present: bool
    removed: bool  # it was there before


class LifecycleStore(Protocol):
    """What ``actors/document_lifecycle`` needs of storage; each method is one round trip."""

    async def update_facts(self, submission: Submission, patient: PatientId | None, fingerprint: bytes) -> UpdateFacts:
        """See :class:`obieg.domain.updating.UpdateFacts`."""

    async def update(self, update: Update, audit: AuditEvent) -> None:
        """One commit. Raises :class:`obieg.domain.registry.LostRace`, then nothing is changed."""

    async def standing(self, uuids: Sequence[str]) -> Mapping[str, Standing]:
        """What :func:`obieg.domain.removing.plan_removal` needs, by urn:uuid."""

    async def remove(self, removing: Removing, audit: AuditEvent) -> None:
        """One commit. Raises LostRace, then nothing is removed."""

    async def removable(self, unique_ids: Sequence[str], repository_unique_id: str) -> Sequence[RemovableDocument]:
        """One for each of the uniqueIds, which are distinct."""

    async def authors(self, unique_ids: Sequence[str]) -> Sequence[tuple[str, Sequence[str]]]:
        """Each entry with one of these uniqueIds: which, and the identifiers of its authors."""

    async def remove_documents(self, unique_ids: Sequence[str], repository_unique_id: str, audit: AuditEvent) -> None:
        """Drops keys and keeps proof, in one commit. Raises LostRace when one of them is not there."""
