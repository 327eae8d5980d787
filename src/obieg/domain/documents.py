"""Documents and what is said of them: the XDS metadata model (ITI TF-3:4.1, 4.2).

Attribute names are those of the Technical Framework in snake case. Times are HL7 v2 DTM in UTC, as sent
(``YYYY[MM[DD[hh[mm[ss]]]]]``). Composite identifiers are kept in their HL7 v2 form (CX, XCN, XON) because that is
what the standard compares; :mod:`obieg.domain.identifiers` reads them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

# (language, text); the language is "" where none was stated. One entry for each LocalizedString.
Localized = tuple[tuple[str, str], ...]


class AvailabilityStatus(StrEnum):
    """ITI TF-3:4.2.3.2.2."""

    APPROVED = "Approved"
    DEPRECATED = "Deprecated"


class EntryType(StrEnum):
    """What a DocumentEntry describes (objectType, ITI TF-3:4.2.3.2.15)."""

    STABLE = "stable"
    ON_DEMAND = "on-demand"


class AssociationType(StrEnum):
    """ITI TF-3:4.2.2 and 4.2.2.2; the URNs stand in ``codes/ebrim.toml``."""

    HAS_MEMBER = "HasMember"
    RPLC = "RPLC"
    APND = "APND"
    XFRM = "XFRM"
    XFRM_RPLC = "XFRM_RPLC"
    SIGNS = "signs"
    IS_SNAPSHOT_OF = "IsSnapshotOf"
    UPDATE_AVAILABILITY_STATUS = "UpdateAvailabilityStatus"
    SUBMIT_ASSOCIATION = "SubmitAssociation"

    @property
    def replaces(self) -> bool:
        """Whether the target is deprecated by this association (ITI TF-3:4.2.2.2.3)."""
        return self in (AssociationType.RPLC, AssociationType.XFRM_RPLC)

    @property
    def relates_documents(self) -> bool:
        """Whether this is a relationship association between two documents (ITI TF-3:4.2.2.2)."""
        return self in RELATIONSHIPS


RELATIONSHIPS = frozenset(
    {
        AssociationType.RPLC,
        AssociationType.APND,
        AssociationType.XFRM,
        AssociationType.XFRM_RPLC,
        AssociationType.SIGNS,
        AssociationType.IS_SNAPSHOT_OF,
    }
)


class Value(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of all values here: immutable, comparable, and serialisable by msgspec.

    What cannot change cannot come to hold itself, so that the garbage collector need not look at it: of a worker that
    keeps thousands of patients (actors/access_control.py) it would go through half a million objects in one pause.
    """


class Code(Value, frozen=True):
    """A coded value; ``scheme`` is the codingScheme. Equality of meaning is equality of code and scheme."""

    code: str
    scheme: str
    display: Localized = ()


class Slot(Value, frozen=True):
    """A named list of values that the Technical Framework does not know (extra metadata, ITI TF-3:4.2.3.1.6)."""

    name: str
    values: tuple[str, ...]


class Author(Value, frozen=True):
    """ITI TF-3:4.2.3.2.1; every field may hold several values."""

    person: tuple[str, ...] = ()  # XCN
    institution: tuple[str, ...] = ()  # XON
    role: tuple[str, ...] = ()
    specialty: tuple[str, ...] = ()
    telecommunication: tuple[str, ...] = ()  # XTN
    extra: tuple[Slot, ...] = ()


class DocumentEntry(Value, frozen=True):
    """XDS DocumentEntry (ITI TF-3:4.2.3.2). ``entry_uuid`` is a urn:uuid or, before registration, a symbol."""

    entry_uuid: str
    unique_id: str | None = None
    patient_id: str | None = None  # CX
    mime_type: str = ""
    entry_type: EntryType = EntryType.STABLE
    class_code: Code | None = None
    type_code: Code | None = None
    format_code: Code | None = None
    healthcare_facility_type_code: Code | None = None
    practice_setting_code: Code | None = None
    confidentiality_code: tuple[Code, ...] = ()
    event_code_list: tuple[Code, ...] = ()
    author: tuple[Author, ...] = ()
    creation_time: str | None = None
    service_start_time: str | None = None
    service_stop_time: str | None = None
    language_code: str | None = None
    legal_authenticator: str | None = None  # XCN
    source_patient_id: str | None = None  # CX
    source_patient_info: tuple[str, ...] = ()
    reference_id_list: tuple[str, ...] = ()  # CXi
    repository_unique_id: str | None = None
    size: str | None = None  # bytes, decimal
    hash: str | None = None  # SHA-1, hexadecimal
    uri: str | None = None
    document_availability: str | None = None
    title: Localized = ()
    comments: Localized = ()
    logical_id: str | None = None
    version: int = 1
    availability_status: AvailabilityStatus = AvailabilityStatus.APPROVED
    home_community_id: str | None = None
    limited_metadata: bool = False
    extra: tuple[Slot, ...] = ()


class SubmissionSet(Value, frozen=True):
    """XDS SubmissionSet (ITI TF-3:4.2.3.3)."""

    entry_uuid: str
    unique_id: str | None = None
    source_id: str | None = None
    patient_id: str | None = None
    submission_time: str | None = None
    content_type_code: Code | None = None
    author: tuple[Author, ...] = ()
    intended_recipient: tuple[str, ...] = ()
    title: Localized = ()
    comments: Localized = ()
    availability_status: AvailabilityStatus = AvailabilityStatus.APPROVED
    home_community_id: str | None = None
    limited_metadata: bool = False
    extra: tuple[Slot, ...] = ()


class Folder(Value, frozen=True):
    """XDS Folder (ITI TF-3:4.2.3.4)."""

    entry_uuid: str
    unique_id: str | None = None
    patient_id: str | None = None
    code_list: tuple[Code, ...] = ()
    last_update_time: str | None = None  # set by the registry
    title: Localized = ()
    comments: Localized = ()
    logical_id: str | None = None
    version: int = 1
    availability_status: AvailabilityStatus = AvailabilityStatus.APPROVED
    home_community_id: str | None = None
    limited_metadata: bool = False
    extra: tuple[Slot, ...] = ()


class Annotation(Value, frozen=True):
    """What an association of an update says of what is to be done (ITI TF-2:3.57.4.1.3.1.3)."""

    previous_version: int | None = None
    propagate: bool = True  # AssociationPropagation: the new version takes the associations of the one before
    original_status: AvailabilityStatus | None = None
    new_status: AvailabilityStatus | None = None


class Association(Value, frozen=True):
    """XDS Association (ITI TF-3:4.2.2). ``source`` and ``target`` are entryUUIDs or symbols of the submission."""

    entry_uuid: str
    type: AssociationType
    source: str
    target: str
    submission_set_status: str | None = None  # Original or Reference, on HasMember of a set and a document
    documentation: Code | None = None  # ITI TF-3:4.2.2.2.6
    annotation: Annotation | None = None  # only in an update
    availability_status: AvailabilityStatus = AvailabilityStatus.APPROVED
    home_community_id: str | None = None
    extra: tuple[Slot, ...] = ()


class Submission(Value, frozen=True):
    """What one ITI-41 or ITI-42 request asks to have registered."""

    submission_set: SubmissionSet
    entries: tuple[DocumentEntry, ...] = ()
    folders: tuple[Folder, ...] = ()
    associations: tuple[Association, ...] = ()

    @property
    def objects(self) -> tuple[SubmissionSet | DocumentEntry | Folder, ...]:
        """Everything but the associations."""
        return (self.submission_set, *self.entries, *self.folders)

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of every object, associations included."""
        return (*(o.entry_uuid for o in self.objects), *(a.entry_uuid for a in self.associations))
