"""Documents that patients add to their record by themselves (docs/access.md, Own documents)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Protocol

from obieg.codes.load import toml
from obieg.domain.documents import Submission, Value
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Finding

_TABLE = toml("own_documents.toml")
CLASS: str = _TABLE["class"]
KINDS: dict[str, str] = _TABLE["kinds"]  # typeCode by kind
MEDIA: dict[str, str] = _TABLE["media"]  # endings of file names by media type
BYTES_MAX: int = _TABLE["unit_bytes_max"]
NUMBER_MAX: int = _TABLE["number_max"]
PIXELS_MAX: int = _TABLE["pixels_max"]
TITLE_MAX = 120  # characters
PERMISSION = "own_documents:document:add"  # of the transaction that alone brings them


def check_mark(submission: Submission, permission: str) -> Iterator[Finding]:
    """Only what a patient adds may say so: by its class everybody sees who vouches for it."""
    if permission == PERMISSION:
        return
    for entry in submission.entries:
        if entry.class_code is not None and entry.class_code.code == CLASS:
            said = f"class {CLASS} marks what patients add by themselves: give the document's own class"
            yield Finding("XDSRegistryMetadataError", said, f"DocumentEntry {entry.entry_uuid}: classCode")


class Added(Value, frozen=True):
    """A document is to be added."""

    patient: PatientId
    title: str
    kind: str  # key of KINDS
    day: date  # of the document
    content: bytes


class Withdrawn(Value, frozen=True):
    """A document that was added is taken back."""

    patient: PatientId
    entry_uuid: str  # urn:uuid


class OwnDocumentStore(Protocol):
    """What stands of them in the registry."""

    async def number(self, patient: PatientId, class_code: str) -> int:
        """How many of this class (``code^^scheme``) the patient has, former ones counted."""

    async def is_own(self, patient: PatientId, entry_uuid: str, class_code: str) -> bool:
        """Whether this is an approved document of this class and patient."""
