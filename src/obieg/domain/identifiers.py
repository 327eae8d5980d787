"""Composite identifiers in their HL7 v2 form and the rules for object identifiers (ITI TF-3:4.2.3.1)."""

from __future__ import annotations

import re
from typing import NamedTuple

OID = re.compile(r"[0-2](\.(0|[1-9]\d*))+\Z", re.ASCII)
UUID_URN = re.compile(r"urn:uuid:[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
OID_LENGTH_MAX = 64  # ITI TF-3:4.2.3.1.7, OID


class PatientId(NamedTuple):
    """A patient's number within an assigning authority (CX with components 1 and 4.2)."""

    value: str
    authority: str  # OID

    def __str__(self) -> str:
        return f"{self.value}^^^&{self.authority}&ISO"


def patient_id(cx: str) -> PatientId | None:
    """Reads ``id^^^&oid&ISO``; None if that is not what it is (ITI TF-3:4.2.3.1.7, CX)."""
    parts = cx.split("^")
    if len(parts) < 4 or not parts[0]:
        return None
    authority = parts[3].split("&")
    if len(authority) != 3 or authority[2] != "ISO" or not is_oid(authority[1]):
        return None
    return PatientId(parts[0], authority[1])


def is_oid(text: str) -> bool:
    """Whether ``text`` is an OID in dotted form of at most 64 characters."""
    return len(text) <= OID_LENGTH_MAX and OID.match(text) is not None


def is_uuid_urn(text: str) -> bool:
    """Whether ``text`` is a ``urn:uuid:``."""
    return UUID_URN.match(text) is not None
