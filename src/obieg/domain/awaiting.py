"""Documents that a professional waits for: "tell me when the discharge card arrives"."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.requester import Requester

AWAITED_MAX = 50  # by one person at a time
DAYS = 90  # for which one waits


class Awaited(Value, frozen=True):
    """A kind of documents of one patient that somebody waits for."""

    id: str
    patient: PatientId  # the affinity-domain id
    kind: str  # key of codes/document_kinds.toml; "": any
    since: datetime
    until: datetime


class AwaitingStore(Protocol):
    """What ``actors/awaited_documents`` needs of storage; everything raises RetryLater where the database is away."""

    async def put(self, id_: str, requester: Requester, patient: PatientId, kind: str, types: tuple[str, ...]) -> None:
        """Stores it, once for a patient and kind; nothing where the person waits for ``AWAITED_MAX`` already."""

    async def end(self, id_: str, requester: Requester) -> None:
        """Forgets one of the person's own."""

    async def of(self, requester: Requester) -> list[Awaited]:
        """What the person waits for at this facility, the newest first."""
