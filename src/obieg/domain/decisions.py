"""Whether somebody may have documents, asked by who keeps them (XACML 3.0; docs/access.md, Decisions for others)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.requester import Requester

RESOURCES_MAX = 1000  # of one question, as documents of one ITI-43


class Resource(Value, frozen=True):
    """A document, or what of a patient is of a type and time, be it registered or not."""

    document: str = ""  # uniqueId or entryUUID
    patient: PatientId | None = None
    type_code: str = ""  # code^^scheme, or a code alone; "": any
    created_from: str = ""  # DTM of 14 digits
    created_to: str = ""  # exclusive


class DecisionQuery(Value, frozen=True):
    """What is asked: who wants to read what. ``subject``: facts of a Requester; {}: the caller."""

    resources: tuple[Resource, ...]
    subject: Mapping[str, str] = msgspec.field(default_factory=dict)
    query_id: str = ""  # as the question names itself
    protocol: str = ""  # the namespace in which it is asked


class Decided(Value, frozen=True):
    """An answer. Denied is also what nobody knows of: the two are one answer."""

    permitted: tuple[bool, ...]  # in the order of the resources
    answer_id: str
    at: datetime


STATED = (
    "person", "person_name", "role", "organisation", "child_organisation", "purpose_of_use", "patient", "acting_for",
)  # fmt: skip


def stated(requester: Requester) -> dict[str, str]:
    """What is said of who asks, to who decides."""
    return {fact: getattr(requester, fact) for fact in STATED}


class Decisions(Protocol):
    """Who decides about documents that are kept here and registered elsewhere."""

    async def permitted(self, documents: tuple[str, ...], subject: dict[str, str]) -> frozenset[str]:
        """Those of the uniqueIds that the subject may read. Raises RetryLater where nobody decides now."""
