"""What leaves the node: a message waits in the database until its receiver has it or its time is over.

A message is stored in the commit of what it tells of, so neither exists without the other. It is sent at least once and
always under the same control id, so that a receiver can tell a repetition. It ends as delivered, as replaced by a newer
one of its key, or as a dead letter that people see.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value


class Outgoing(Value, frozen=True):
    """A message to be sent. ``key`` makes a repetition recognisable: one message of a key waits at a time.

    A newer message replaces one of its key and receiver that is not on its way; with an empty key none is replaced.
    """

    transaction: str  # "ITI-10"
    destination: str  # a receiver's name in the settings, or subscription: and its id
    key: str
    body: bytes  # what the transaction needs to write the message, in msgpack
    patient_key: int = 0  # messages about one patient to one receiver go out in order; so do all those with 0


class Outbox(Protocol):
    """Where outgoing messages wait; they are stored in the commit of what they tell of."""

    def calls(self, messages: Sequence[Outgoing]) -> Sequence[Any]:
        """What to add to the batch that stores the act."""


class Letter(Value, frozen=True):
    """A message on its way, leased by one sender."""

    outbox_id: int
    patient_key: int
    transaction: str
    destination: str
    body: bytes
    created_at: datetime
    attempts: int = 1  # this one included
    last_error: str = ""  # of the attempt before

    @property
    def control_id(self) -> str:
        """What names the message to its receiver, the same in every attempt (MSH-10: at most 20 characters).

        The time is part of it because numbers begin again in a database that was restored.
        """
        return f"{int(self.created_at.timestamp()):x}-{self.outbox_id:x}"


class Backlog(Value, frozen=True):
    """What waits for one receiver."""

    destination: str
    waiting: int
    dead: int
    oldest_s: float  # age of the oldest that waits; 0 if none does


class OutboxStore(Outbox, Protocol):
    """The outbox as its sender sees it; all raise RetryLater where the database is away."""

    async def take(self, destination: str, count: int, lease_s: float) -> Sequence[Letter]:
        """Messages that are due, at most one of a patient, for this sender alone until the lease ends."""

    async def take_subscribed(self, count: int, lease_s: float) -> Sequence[Letter]:
        """As ``take``, of all subscriptions that are not over, at most one of each."""

    async def delivered(self, letter: Letter, event: AuditEvent) -> None:
        """Ends the message, audited in the same commit."""

    async def postpone(self, letter: Letter, pause_s: float, why: str) -> None:
        """Sends it again after the pause, unless a newer message of its key is there."""

    async def bury(self, letter: Letter, why: str, event: AuditEvent | None) -> None:
        """Makes it a dead letter, audited in the same commit, unless a newer message of its key is there."""

    async def expired(self, age_s: float, count: int) -> Sequence[Letter]:
        """Messages for any receiver that have waited longer and are not on their way."""

    async def backlog(self) -> Sequence[Backlog]:
        """What waits, by receiver."""
