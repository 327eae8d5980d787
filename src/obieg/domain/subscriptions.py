"""Who is told of new documents, and of what (IHE Document Subscription for Mobile, DSUBm).

https://profiles.ihe.net/ITI/DSUBm/. A subscription is *requested* until its receiver has taken the first message, then
*active*; in *error* when a message could not be delivered in its time, *off* when its owner or its end ended it. What
happens to an object is told in the commit in which it happens. One that has been off for KEPT_OFF is removed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import DocumentEntry, SubmissionSet, Value
from obieg.domain.identifiers import PatientId
from obieg.domain.outbox import Letter
from obieg.domain.queries import DocumentSearch
from obieg.domain.requester import Requester

DESTINATION = "subscription:"  # of the outbox, with the subscription's id
# How long a subscription stands where nobody says, and at most; after that it is asked for anew.
DAYS = timedelta(days=90)
DAYS_MAX = timedelta(days=366)
# How long one that is off can still be read, with what it was told; after that it is removed.
KEPT_OFF = timedelta(days=30)
HANDSHAKE = "handshake"


class SubscriptionDraft(Value, frozen=True):
    """A subscription as it was asked for."""

    topic: str  # canonical address
    kind: str  # D documents, S submission sets
    events: tuple[str, ...]
    search: DocumentSearch  # its filters; who is named there is whom it is about
    endpoint: str
    payload: str  # media type
    content: str  # empty, id-only, full-resource
    criteria: str  # the filter as sent
    resource: bytes  # JSON without id, meta, status, error and end
    base: str
    contacts: tuple[str, ...] = ()
    end: datetime | None = None


class DocumentSubscription(Value, frozen=True):
    """A subscription as it stands."""

    id: str  # UUID
    kind: str
    topic: str
    status: str  # requested, active, error, off
    error: str
    end: datetime
    base: str
    endpoint: str
    payload: str
    content: str
    resource: bytes
    version: int
    updated_at: datetime
    events: int  # that have occurred
    requester: Requester  # who made it: they are told what they may see

    def is_of(self, requester: Requester) -> bool:
        """Whether the caller made it: the system, and the person where one asks."""
        return (self.requester.system, self.requester.person) == (requester.system, requester.person)


class Notice(Value, frozen=True):
    """What a letter of the outbox tells; storage makes it in SQL."""

    event: str  # a row of [event.*] in codes/subscription_topics.toml, or the handshake
    kind: str = ""
    entry_uuid: str = ""  # without urn:uuid:
    patient: str = ""  # the affinity-domain id of the person
    endpoint: str = ""
    focus: str = ""  # address of a resource that was published elsewhere; "": the resource stands here
    resource: str = ""  # its JSON as sent, for subscribers who get it


class PublishedEvent(Value, frozen=True):
    """What happened to a resource that stands elsewhere (ITI-111)."""

    event: str  # a row of [event.*] in codes/subscription_topics.toml
    described: DocumentEntry | SubmissionSet  # by which subscriptions match
    patient_key: int
    focus: str
    resource: str


class NumberedNotice(NamedTuple):
    """A notice that was on its way."""

    number: int
    occurred_at: datetime
    notice: bytes


class SubscriptionSearch(Value, frozen=True):
    """Which of the caller's subscriptions are asked for; None: whichever."""

    ids: tuple[str, ...] | None = None
    statuses: tuple[str, ...] | None = None
    topics: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    payloads: tuple[str, ...] | None = None
    contents: tuple[str, ...] | None = None
    contacts: tuple[str, ...] | None = None  # patterns of LIKE
    filters: tuple[str, ...] | None = None  # patterns of LIKE
    patient: PatientId | None = None
    count: int = 100
    skipped: int = 0


class SubscriptionStore(Protocol):
    """Subscriptions and what they are told."""

    async def patient_keys(self, patients: Sequence[PatientId]) -> Sequence[int | None]:
        """Under which key subscriptions of each stand; None where nobody is known by it."""

    async def create(
        self,
        id_: str,
        requester: Requester,
        draft: SubscriptionDraft,
        *,
        patient_key: int,
        end: datetime,
        filters: Mapping[str, Any],
        event: AuditEvent,
    ) -> None:
        """Stores it with its handshake; ``filters`` are its search's parameters as the registry keeps codes."""

    async def read(self, id_: str, event: AuditEvent | None = None) -> DocumentSubscription | None:
        """One, whosever it is."""

    async def find(
        self, requester: Requester, search: SubscriptionSearch, event: AuditEvent
    ) -> tuple[Sequence[DocumentSubscription], int]:
        """A page of those that are of the requester, and how many there are."""

    async def end(self, id_: str, version: int, event: AuditEvent) -> None:
        """Switches it off and forgets what waits for it. Raises LostRace when it has another version by now."""

    async def delete(self, id_: str, version: int, event: AuditEvent) -> None:
        """As ``end``; nothing of it is left."""

    async def end_all(self) -> Sequence[str]:
        """Switches off those whose end has come; their ids."""

    async def remove_off(self, kept: timedelta) -> Sequence[str]:
        """Removes those that have been off for longer than ``kept``, with what they were told; their ids."""

    async def number(self, id_: str, letter: Letter) -> tuple[DocumentSubscription | None, int]:
        """The subscription and the number of the letter's event, the same in every attempt."""

    async def publish(self, events: Sequence[PublishedEvent], event: AuditEvent) -> None:
        """Tells the subscriptions that match."""

    async def told(self, id_: str, first: int, last: int, count: int, event: AuditEvent) -> Sequence[NumberedNotice]:
        """What it was told, by number."""


def endpoint_fault(endpoint: str, *, anywhere: bool) -> str:
    """Why no notification may be sent there, or nothing.

    ``anywhere`` (the laboratory): also over http, and to addresses of this machine and of private networks.
    """
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "it is no address"
    if parts.scheme not in ("https", "http"):
        return f"notifications go to https addresses, not to {parts.scheme[:20] or 'one without a scheme'}"
    if not host or port == 0 or not endpoint.isascii() or any(c.isspace() for c in endpoint):
        return "it is no address"
    if parts.username is not None or parts.fragment:
        return "it has a user name, a password or a fragment; headers of the channel say who the node is"
    if anywhere:
        return ""
    if parts.scheme != "https":
        return "notifications go to https addresses only"
    if host == "localhost" or host.endswith(".localhost"):
        return "it is this machine's own"
    try:
        return address_fault(host)
    except ValueError:
        return ""  # a name; what it stands for is looked at when something is sent


def address_fault(address: str) -> str:
    """Why a network address is none of a subscriber's, or nothing. Raises ValueError where it is no network address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    if found.is_global and not found.is_multicast:
        return ""
    return f"{address} is of this machine, of a private network, or of none"
