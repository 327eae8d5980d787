"""What others sent to this node as a Document Recipient (XDR, ITI TF-1:15), and the port to where it is kept."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Submission
from obieg.domain.registry import StoredDocument

# Stands for a repositoryUniqueId; no OID, so no retrieval can name it.
INBOX = "inbox"


class Received(NamedTuple):
    """A submission that was sent to this node, with its documents in the document store."""

    submission: Submission  # as sent, with size and hash of the documents
    fingerprint: bytes
    sender: str
    documents: tuple[StoredDocument, ...]


class Inbox(Protocol):
    """What ``actors/document_recipient`` needs of storage."""

    async def known(self, unique_id: str) -> bytes | None:
        """The fingerprint of the submission whose set has this uniqueId; None when none came."""

    async def receive(self, received: Received, audit: AuditEvent) -> None:
        """Stores it with its audit row, in one commit.

        Raises :class:`obieg.domain.registry.LostRace` when the set is there already or a document has other bytes.
        """
