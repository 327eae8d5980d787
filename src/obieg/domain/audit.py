"""What is remembered of every transaction (DICOM PS3.15 A.5, RFC 3881, ITI TF-2:3.20)."""

from __future__ import annotations

from enum import StrEnum

from obieg.domain.documents import Value


class Outcome(StrEnum):
    """EventOutcomeIndicator."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"
    MAJOR_FAILURE = "12"


class AuditObject(Value, frozen=True):
    """One ParticipantObjectIdentification: what the act was about. ``kind`` is a row of codes/audit.toml."""

    kind: str
    identifier: str
    query: bytes = b""
    details: tuple[tuple[str, str], ...] = ()


class AuditEvent(Value, frozen=True):
    """An audit record before it is rendered; the event's codes come from codes/audit.toml by ``transaction``."""

    transaction: str  # "ITI-18"
    event: str  # a row of codes/audit.toml
    outcome: Outcome
    detail: str = ""  # EventOutcomeDescription: problem codes, never clinical content
    request_id: str = ""
    source_user: str = ""  # who sent the request: reply address, certificate, facility
    source_address: str = ""  # network address
    destination_user: str = ""  # who answered
    destination_address: str = ""
    requester: str = ""  # the person or system on whose behalf
    objects: tuple[AuditObject, ...] = ()
