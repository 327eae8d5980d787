"""What was done to a registered object after its registration, and by whom."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from obieg.domain.attributes import DOCUMENT_ENTRY, FOLDER, SUBMISSION_SET, Attribute
from obieg.domain.documents import Association, DocumentEntry, Folder, SubmissionSet

RegistryObject = DocumentEntry | SubmissionSet | Folder | Association


class Act(StrEnum):
    """What was done."""

    REGISTERED = "registered"
    REPLACED = "replaced"  # by another document
    RELATED = "related"  # to another document
    CHANGED = "changed"  # a new version of its metadata
    STATUS = "status changed"
    MOVED = "moved to another patient"
    REMOVED = "removed"  # its metadata
    DOCUMENT_REMOVED = "document removed"  # its bytes


class RecordedChange(NamedTuple):
    """One change as it is stored, in the commit of the change itself; ``before`` or ``after`` is None."""

    act: Act
    patient_key: int
    before: RegistryObject | None
    after: RegistryObject | None

    @property
    def subject(self) -> RegistryObject:
        """The object as it was; where nothing was there, as it is."""
        value = self.before or self.after
        assert value is not None  # noqa: S101 - one of both is given
        return value


class Event(NamedTuple):
    """One line of a history."""

    at: datetime
    act: Act
    entry_uuid: str  # urn:uuid
    by: str = ""
    transaction: str = ""
    request_id: str = ""
    detail: str = ""
    version: int = 0
    before: RegistryObject | None = None
    after: RegistryObject | None = None


class Difference(NamedTuple):
    """An attribute that two versions have different values of, in words; "" where there is none."""

    attribute: str
    before: str
    after: str


_TABLES: tuple[tuple[type[RegistryObject], tuple[Attribute, ...]], ...] = (
    (DocumentEntry, DOCUMENT_ENTRY),
    (SubmissionSet, SUBMISSION_SET),
    (Folder, FOLDER),
)
_OTHERS = (("availability_status", "availabilityStatus"), ("version", "version"), ("entry_uuid", "entryUUID"))
_OF_ASSOCIATION = (("type", "type"), ("source", "sourceObject"), ("target", "targetObject"))


def differences(before: RegistryObject | None, after: RegistryObject | None) -> list[Difference]:
    """In the order of the standard's table, then status, version and entryUUID."""
    value = after if before is None else before
    table = next((t for kind, t in _TABLES if isinstance(value, kind)), ())
    names = [(row.field, row.name) for row in table] or list(_OF_ASSOCIATION)
    found = []
    for field, name in (*names, *_OTHERS):
        was, now = _said(getattr(before, field, None)), _said(getattr(after, field, None))
        if was != now:
            found.append(Difference(name, was, now))
    return found


def _said(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return "; ".join(filter(None, map(_said, value)))
    code, scheme = getattr(value, "code", None), getattr(value, "scheme", None)
    if code is not None:
        return f"{code}^^{scheme}"
    person = getattr(value, "person", None)
    if person is not None:
        return " / ".join(filter(None, (_said(person), _said(getattr(value, "institution", ())))))
    return str(value)
