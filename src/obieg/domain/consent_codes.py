"""Consent during a visit: the patient gets a code by SMS and tells it to who asks (docs/access.md, Consent by code)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.persons import Demographics
from obieg.domain.requester import Requester

PERSON, FACILITY = "person", "facility"
HOURS_MAX = 24  # for which such a consent holds; also what it holds where nothing is said
TRIES_MAX = 3
MINUTES = 10  # for which a code is good
CODES_MAX = 5  # sent to one patient within an hour


class CodeAsked(Value, frozen=True):
    """A code is to be sent to the patient."""

    patient: PatientId
    scope: str = PERSON  # whom the consent is to name: who asks, or the facility
    hours: int = HOURS_MAX


class CodeTold(Value, frozen=True):
    """What the patient has told."""

    patient: PatientId
    id: str
    code: str
    base: str  # address of the FHIR service


class CodeSent(NamedTuple):
    """A code that was sent; what it is only the patient knows."""

    id: str
    expires_at: datetime


class Tried(NamedTuple):
    """What came of a try."""

    right: bool
    tries: int
    scope: str
    hours: int


class Contact(NamedTuple):
    """A person, and what is said of how to reach them, the newest first."""

    patient_key: int
    records: Sequence[Demographics]


class CodeStore(Protocol):
    """Where codes are kept until they are told."""

    async def contact(self, patient: PatientId) -> Contact | None:
        """None where nobody knows the patient."""

    async def put(
        self, id_: str, patient_key: int, digest: str, asked: CodeAsked, requester: Requester, until: datetime
    ) -> bool:
        """Whether it was stored: not where the patient has been sent too many."""

    async def attempt(self, told: CodeTold, requester: Requester) -> Tried | None:
        """Counts a try; None where no code waits that this caller asked for."""


def digest(id_: str, code: str) -> str:
    """What is kept of a code, hexadecimal. It is good for minutes and three tries, so a plain hash is enough."""
    return hashlib.sha256(f"{id_} {code}".encode()).hexdigest()


def expiry(at: datetime) -> datetime:
    """When a code that is made now is good no more."""
    return at + timedelta(minutes=MINUTES)
