"""The Document Recipient: takes what a source sends to this very node, without any registry (XDR, ITI TF-1:15).

What comes stays in the inbox until people take it (``obieg inbox``). A sender need not belong to this affinity domain:
its codes and patient ids are its own, and limited metadata is accepted (XDR Metadata-Limited). A submission that is
repeated identically is answered Success and kept once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Container

import msgspec

from obieg.actors.document_repository import Provided, complete, put_documents
from obieg.domain.document_store import DocumentStore
from obieg.domain.documents import EntryType, Submission
from obieg.domain.inbox import INBOX, Inbox, Received
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.rules import check_entry_types, check_submission
from obieg.protocol import Context

ATTEMPTS_MAX = 3
_encode = msgspec.json.Encoder().encode


class _Everything(Container[str]):
    def __contains__(self, _value: object) -> bool:
        return True


class _AnyCodes:
    """Every media type and every code: the sender's community has agreed on its own."""

    mime_types = _Everything()

    def accepts(self, attribute: str, code: str, scheme: str) -> bool:  # noqa: ARG002 - as the port names them
        return True


_ANY = _AnyCodes()


class DocumentRecipient:
    """Keeps what is sent, and says so."""

    def __init__(self, inbox: Inbox, documents: DocumentStore) -> None:
        self._inbox = inbox
        self._documents = documents

    async def receive(self, provided: Provided, context: Context) -> tuple[Finding, ...]:
        """Stores the submission with its documents; what comes back are warnings. Raises Problem."""
        submission, completing = complete(provided, None)
        wrong, fingerprint = await asyncio.to_thread(_examine, submission) if context.large else _examine(submission)
        if findings := [*provided.found_on_reading, *completing, *wrong]:
            raise Problem(findings)
        unique_id = submission.submission_set.unique_id or ""
        stored = None
        for _ in range(ATTEMPTS_MAX):
            known = await self._inbox.known(unique_id)
            if known == fingerprint:
                return ()
            if known is not None:
                raise Problem.of(
                    "XDSDuplicateUniqueIdInRegistry",
                    f"uniqueId {unique_id} belongs to another submission that was received before",
                    f"SubmissionSet {submission.submission_set.entry_uuid}: uniqueId",
                )
            if stored is not None:  # nobody else sent this submission: it was a document
                raise Problem.of(
                    "XDSNonIdenticalHash",
                    "a document with one of these uniqueIds was received before, with other bytes",
                )
            stored = await put_documents(self._documents, submission, provided.documents, repository_unique_id=INBOX)
            sender = context.requester.person or context.requester.system
            try:
                await self._inbox.receive(Received(submission, fingerprint, sender, stored), context.audit())
            except LostRace:
                continue
            context.audited = True
            return ()
        raise RetryLater("others keep sending what this submission holds")


def _examine(submission: Submission) -> tuple[list[Finding], bytes]:
    """What is wrong with it by itself, and its fingerprint."""
    wrong = check_submission(submission, _ANY, provide=True, allow_limited=True, recipient=True)
    wrong += check_entry_types(submission, EntryType.STABLE)
    return wrong, hashlib.sha256(_encode(submission)).digest()
