"""Stored queries as the domain understands them, whichever protocol asked (ITI TF-2:3.18.4.1.2.3.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.registry import FoundObject, FoundResource

# The parameters of the searches, with nothing asked.
_ANY: dict[str, Any] = {
    "patients": (), "named_uuids": (), "named_unique_ids": (), "ids": None, "identifier": None, "status": None,
    "date": None, "last_updated": None, "by": "", "descending": True, "after_key": None, "after_uuid": None,
}  # fmt: skip
SEARCHES: dict[str, dict[str, Any]] = {
    "search_documents": {
        **_ANY,
        **dict.fromkeys((
            "type_code", "class_code", "practice_setting_code", "healthcare_facility_type_code", "format_code",
            "event_code_list", "confidentiality_code", "reference_id_list", "author", "creation", "period",
        )),
    },
    "search_lists": {**_ANY, "kinds": ("S", "F"), **dict.fromkeys(("designation_type", "source_id", "source"))},
}  # fmt: skip


def by_ids(question: str, uuids: Sequence[str]) -> dict[str, Any]:
    """The parameters of a search for these objects and nothing else."""
    return {**SEARCHES[question], "named_uuids": uuids, "ids": uuids}


class DocumentSearch(Value, frozen=True):
    """One question by search parameters (MHD ITI-66, ITI-67).

    ``question`` names the statement that answers it; ``parameters`` are that statement's, complete.
    """

    question: str
    parameters: Mapping[str, Any]
    count: int  # resources of one page
    patients: tuple[PatientId, ...] = ()  # of the affinity domain; () where the question names them otherwise
    include: tuple[str, ...] = ()  # of what is found: members, relations; of others: holders, relating
    text: bytes = b""  # the query as asked, for the audit


class FoundResources(NamedTuple):
    """One page of an answer, and how many objects fit altogether."""

    total: int
    found: tuple[FoundResource, ...]
    included: tuple[FoundResource, ...] = ()
    next: tuple[str, str] | None = None  # position and entryUUID after which the next page begins
    capped: bool = False  # more would be included than are


class QueryAnswer(NamedTuple):
    """What a stored query found, and what every object of this registry says of itself."""

    found: list[FoundObject] | list[str]  # whole objects, or entryUUIDs without urn:uuid:
    home_community_id: str | None
    assigning_authority: str


class StoredQuery(Value, frozen=True):
    """One question to the registry.

    ``question`` names the statement that answers it; ``parameters`` are that statement's, complete. ``patient`` is set
    for the questions that name a patient. A question to be asked of several patients, one after another, has
    ``candidates`` and ``patients``; when it names none, the statement ``candidates`` finds whom it may be about.
    """

    name: str  # "FindDocuments"
    question: str
    parameters: Mapping[str, Any]
    patient: PatientId | None = None
    patients: tuple[PatientId, ...] = ()
    candidates: str = ""
    leaf: bool = True  # LeafClass; False: ObjectRef
    old_versions: bool = False  # $MetadataLevel 2: also versions that have newer ones, and deprecated associations
    only_status_and_type: bool = False  # FindDocuments that nothing else narrows
    text: bytes = b""  # the query as asked, for the audit
