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

    @property
    def identifier(self) -> str:
        """As decisions about access name it: root#extension."""
        return f"{self.authority}#{self.value}"


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


def person_identifier(xcn: str) -> str:
    """``root#extension`` of a person (XCN components 1 and 9.2); "" where it has no number or nobody gave it."""
    parts = xcn.split("^")
    return _named(parts[0], parts[8] if len(parts) > 8 else "")


def organisation_identifier(xon: str) -> str:
    """``root#extension`` of an organisation (XON components 10 and 6.2), or the OID that is its number, or ""."""
    parts = xon.split("^")
    number = parts[9].removeprefix("urn:oid:") if len(parts) > 9 else ""
    return _named(number, parts[5] if len(parts) > 5 else "") or (number if is_oid(number) else "")


def reference_identifier(cxi: str) -> tuple[str, str]:
    """``root#extension`` and the type of what a document refers to (CXi, ITI TF-3:4.2.3.1.7)."""
    parts = cxi.split("^")
    return _named(parts[0], parts[3] if len(parts) > 3 else ""), parts[4] if len(parts) > 4 else ""


def _named(extension: str, authority: str) -> str:
    root = authority.split("&")[1] if authority.count("&") == 2 else ""
    return f"{root}#{extension}" if extension and is_oid(root) else ""
