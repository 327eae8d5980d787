"""On-demand documents: entries whose document is made when it is asked for (ITI TF-3:4.1.1, ITI TF-2:3.61, 3.43)."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from obieg.domain.documents import Code, DocumentEntry


class LatestSnapshot(NamedTuple):
    """The newest approved snapshot that this repository made of an on-demand entry."""

    entry_uuid: str  # urn:uuid
    unique_id: str
    content_key: bytes


class FoundOnDemand(NamedTuple):
    """A registered on-demand entry of this repository, as a retrieval finds it.

    ``entry`` says what it said when it was registered; its ``patient_id`` is the value of the affinity-domain id that
    the patient has now (of the survivor after a merge), without the authority.
    """

    entry: DocumentEntry
    patient_key: int
    content_type_code: Code | None  # of the submission set that registered it
    latest: LatestSnapshot | None


class Made(NamedTuple):
    """A document that was just made for an on-demand entry.

    ``content_key`` decides whether it says something new: as long as it stays the same, the snapshot of the first time
    is answered. Where the bytes hold what changes without meaning (when they were made), it must not cover that.
    """

    data: bytes
    mime_type: str
    content_key: bytes = b""

    @property
    def key(self) -> bytes:
        """SHA-256 of what its maker says, or of the bytes."""
        return hashlib.sha256(self.content_key or self.data).digest()
