"""Links to a health summary that patients make and hand out (SMART Health Links, STU 1; docs/access.md, Health links).

A link is an address nobody can guess, a key and a passcode. The node keeps the address and the passcode as digests and
the summary encrypted; the key stands in the link alone, so that what is kept cannot be read without it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.requester import Requester

HOURS = (1, 24, 168, 720)  # for which a link may hold
HOURS_USUAL = 24
LINKS_MAX = 10  # that hold at once, of one patient
LISTED_MAX = 50
TRIES_MAX = 5  # wrong passcodes in the whole life of a link
KEPT_DAYS = 90  # for which an ended link is still listed
LABEL_MAX = 80  # characters (ShlPayload.label)
RECIPIENT_MAX = 200
FILE_BYTES_MAX = 8 * 1024 * 1024  # of the encrypted summary
TICKET_S = 300  # for which the address of a file is good, once
VIEWER = "/link"  # the page that opens links, below the node's address
BASIS = "link"  # as the log names why something was shown

_PASSCODE = re.compile(r"\d{6,12}\Z", re.ASCII)
_DIGITS_LEAST = 3  # different ones in a passcode


class LinkAsked(Value, frozen=True):
    """A link is to be made."""

    patient: PatientId
    passcode: str
    hours: int = HOURS_USUAL
    label: str = ""
    base: str = ""  # address of the node


class LinksAsked(Value, frozen=True):
    """The links of a patient; with ``end`` that one is ended."""

    patient: PatientId
    end: str = ""


class LinkMade(NamedTuple):
    """A link, whole: nobody is told it a second time."""

    id: str
    url: str  # of the manifest
    key: str  # base64url
    label: str
    until: datetime


class Link(NamedTuple):
    """A link as its patient sees it."""

    id: str
    label: str
    made_by: str
    made_at: datetime
    until: datetime
    ended_at: datetime | None
    tries: int  # wrong passcodes
    opened: int
    opened_at: datetime | None  # the last time


class Opening(Value, frozen=True):
    """Somebody asks for the manifest of a link."""

    secret: str  # of the address
    recipient: str  # as they call themselves
    passcode: str = ""
    embedded_max: int | None = None  # bytes of a file within the manifest
    base: str = ""  # address of the links


class FileAsked(Value, frozen=True):
    """Somebody asks for the file that a manifest named."""

    secret: str
    ticket: str


class Kept(NamedTuple):
    """What is kept of a link."""

    asked: LinkAsked
    id: str
    locator: str  # digests, hexadecimal
    passcode: str
    by: Requester
    until: datetime
    file: bytes


class Tried(NamedTuple):
    """What came of a passcode."""

    id: str
    patient: str  # affinity-domain id
    right: bool
    tries: int
    made_by: str
    purpose: str  # for which its maker asked
    made_at: datetime
    file: bytes  # empty where the passcode was wrong


class Manifest(NamedTuple):
    """What whoever knows the passcode is given: the file, or where it stands for a while."""

    made_at: datetime
    file: bytes = b""
    location: str = ""


class WrongPasscode(NamedTuple):
    """What others are told."""

    left: int


class LinkStore(Protocol):
    """Where links are kept."""

    async def put(self, kept: Kept, event: AuditEvent) -> bool:
        """Whether it was stored: not where too many hold already."""

    async def forget(self) -> None:
        """Deletes the files of links that are over, links that are for long, and tickets that nobody used."""

    async def of(self, patient: PatientId) -> Sequence[Link]:
        """The newest, newest first."""

    async def end(self, patient: PatientId, id_: str, event: AuditEvent) -> bool:
        """Ends a link and forgets its file; whether there was one that held."""

    async def attempt(self, locator: str, passcode: str) -> Tried | None:
        """Tries a passcode, which counts where it is wrong; None where no link holds. "": none is given."""

    async def opened(self, id_: str, ticket: str, recipient: str, event: AuditEvent) -> None:
        """Counts an opening; ``ticket``: a digest by which the file is given once more, or ""."""

    async def take(self, locator: str, ticket: str) -> tuple[Tried, str] | None:
        """Uses up a ticket: the link, and for whom. None of one that is not good."""

    async def record(self, event: AuditEvent) -> None:
        """Stores a record."""


def is_passcode(text: str) -> bool:
    """Six to twelve digits, at least three different ones."""
    return bool(_PASSCODE.match(text)) and len({*text}) >= _DIGITS_LEAST


def locator(secret: str) -> str:
    """How a link is found, hexadecimal: 256 random bits need no slower digest."""
    return hashlib.sha256(secret.encode()).hexdigest()


def digest(secret: str, told: str) -> str:
    """What is kept of a passcode or a ticket. Trying them all takes the link's secret, which is not kept."""
    return hashlib.sha256(f"{secret} {told}".encode()).hexdigest()
