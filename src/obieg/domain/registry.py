"""The port to where a registry and a repository keep what they know, and the values that pass through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Folder, Submission
from obieg.domain.identifiers import PatientId
from obieg.domain.on_demand import FoundOnDemand
from obieg.domain.sight import EVERYTHING, Sight


class LostRace(Exception):  # noqa: N818
    """What a write relied on changed in between, or stands there already: read again, then decide again."""


class TooMany(Exception):  # noqa: N818
    """An answer would have more objects than it may."""


class KnownPatient(NamedTuple):
    """A patient of the affinity domain; ``merged_keys`` are those of patients merged into it."""

    patient_key: int
    merged_keys: tuple[int, ...]

    @property
    def keys(self) -> tuple[int, ...]:
        """All keys under which objects of this patient stand."""
        return (self.patient_key, *self.merged_keys)


class KnownObject(NamedTuple):
    """A registered object that a submission refers to."""

    kind: str  # D, S, F, A
    patient_key: int
    approved: bool
    stable: bool


class KnownUniqueId(NamedTuple):
    """An object that stands under a uniqueId."""

    kind: str
    entry_uuid: str
    hash: str | None
    fingerprint: bytes | None  # of a set


class Facts(NamedTuple):
    """What the registry knows that a submission is judged by."""

    patient: KnownPatient | None
    objects: Mapping[str, KnownObject]  # by urn:uuid
    unique_ids: Mapping[str, Sequence[KnownUniqueId]]
    folders_of: Mapping[str, Sequence[str]]  # replaced document -> folders that hold it


class StandingFolder(NamedTuple):
    """A registered folder and the entryUUIDs of what it holds."""

    folder: Folder
    members: tuple[str, ...]


class StoredDocument(NamedTuple):
    """A document that lies in the document store."""

    unique_id: str
    repository_unique_id: str
    patient_id: str
    mime_type: str
    size: int
    sha1: str
    sha256: bytes
    location: str
    wrapped_key: bytes
    pending: bool = False
    content_key: bytes | None = None  # of a snapshot: equal for equal content, see obieg.domain.on_demand


class FoundDocument(NamedTuple):
    """A stored document as a retrieval finds it."""

    unique_id: str
    pending: bool
    patient_id: str
    mime_type: str
    size: int
    sha1: str
    location: str
    wrapped_key: bytes


class LocatedDocument(NamedTuple):
    """Where the document of a DocumentEntry is, and whose it is."""

    unique_id: str
    repository_unique_id: str
    patient_id: str  # affinity-domain id, without authority
    hash: str  # SHA-1, hexadecimal; "" for an on-demand entry
    mime_type: str
    size: int | None = None  # None for an on-demand entry
    sight: Sight = EVERYTHING  # of whoever has located it


class Snapshot(NamedTuple):
    """What the registration of a snapshot relies on: which one was the latest when it was made."""

    on_demand: str  # entryUUID of the on-demand entry
    latest: str = ""  # entryUUID of its latest approved snapshot that this repository made; "" when there is none


class Registration(NamedTuple):
    """Everything that one commit stores for a submission whose ids are final."""

    submission: Submission
    patient: KnownPatient
    fingerprint: bytes
    replaced: tuple[str, ...] = ()  # entryUUIDs that become deprecated
    expected_approved: tuple[str, ...] = ()  # entryUUIDs that must still be approved
    touched_folders: tuple[str, ...] = ()  # existing folders that gain a member
    last_update_time: str = ""
    documents: tuple[StoredDocument, ...] = ()
    large: bool = False  # rendered in a thread
    absent: tuple[str, ...] = ()  # uniqueIds under which no document may stand by now
    snapshot: Snapshot | None = None  # the one entry is a new snapshot of an on-demand entry


class FoundObject(NamedTuple):
    """A registry object with its rendering and the values that are spliced into it."""

    kind: str  # D, S, F, A
    entry_uuid: str  # without urn:uuid:
    rendering: bytes
    status: str
    version: int
    patient_id: str  # affinity-domain id, without authority; of its survivor after a merge; "" for associations
    last_update_time: str = ""


class FoundResource(NamedTuple):
    """A registry object as FHIR gives it: its rendering in FHIR and the values that are spliced into it."""

    kind: str  # D, S, F
    entry_uuid: str  # without urn:uuid:
    rendering: bytes
    status: str
    revision: str  # the version in FHIR: counts what changed of what is stored; a merge adds whose it is now
    updated_at: str  # instant
    patient_id: str  # affinity-domain id, without authority; of its survivor after a merge
    relations: tuple[str, ...]  # "RPLC uuid" of a document, "D uuid" and "F uuid" of what holds members
    last_update_time: str = ""


class SearchRow(NamedTuple):
    """An object that a search found, as it is stored."""

    found: FoundResource  # with an empty rendering where none is stored
    position: str  # what the search is sorted by
    patient_key: int
    registered_at: str  # instant
    version: int
    ebrim: bytes | None  # where no rendering in FHIR is stored


class SearchRows(NamedTuple):
    """One page, and how many objects fit altogether."""

    total: int
    rows: list[SearchRow]


class NewRendering(NamedTuple):
    """A rendering in FHIR that was made of what was read."""

    patient_key: int
    entry_uuid: str
    rendering_version: int
    content: bytes
    ebrim: bytes  # what it was made of: it is stored if this still stands there


class RegistryStore(Protocol):
    """What ``actors/document_registry`` needs of storage."""

    async def facts(
        self,
        patient: PatientId | None,
        *,
        references: Sequence[str] = (),
        replaced: Sequence[str] = (),
        unique_ids: Sequence[str] = (),
    ) -> Facts:
        """One round trip."""

    async def folder(self, entry_uuid: str) -> StandingFolder | None:
        """A folder by its urn:uuid:, with its members."""

    async def register(self, registration: Registration, audit: AuditEvent) -> None:
        """One round trip, one commit. Raises :class:`LostRace`, then nothing is stored."""

    async def find(
        self,
        question: str,
        parameters: Mapping[str, Any],
        audit: AuditEvent | None,
        results_max: int,
        sight: Sight,
        *,
        old_versions: bool = False,
    ) -> list[FoundObject]:
        """Answers a stored query by its name in ``storage/sql/registry.sql``, with its audit row, in one round trip.

        What ``sight`` hides is not fetched, here and in all that follows.

        Raises TooMany where there are more than ``results_max``; then nothing is recorded. Without ``audit`` whoever
        asks records it, and at most ``results_max`` + 1 objects come back: one more than the limit says the same.
        Versions that have newer ones, and deprecated associations, only with ``old_versions``.
        """

    async def find_of_each(
        self,
        question: str,
        parameters: Mapping[str, Any],
        patients: Sequence[PatientId],
        results_max: int,
        sight: Sight,
    ) -> list[FoundObject]:
        """The same question for several patients, each with at most ``results_max`` + 1 objects, in one round trip.

        Whoever asks records it. An object that several of them lead to (they are linked) comes once.
        """

    async def candidates(self, statement: str, parameters: Mapping[str, Any], patients_max: int) -> list[str]:
        """Affinity-domain ids of whom a question may be about; one more than the limit says that there are more."""

    async def record_each(self, audits: Sequence[AuditEvent]) -> None:
        """Stores several audit rows in one commit."""

    async def find_ids(
        self,
        parameters: Mapping[str, Any],
        audit: AuditEvent,
        results_max: int,
        sight: Sight,
        *,
        old_versions: bool = False,
    ) -> list[str]:
        """FindDocuments by status and type only, for ObjectRef: entryUUIDs. Raises TooMany as :meth:`find` does."""

    async def search(
        self,
        questions: Sequence[tuple[str, Mapping[str, Any]]],
        rendering_version: int,
        audit: AuditEvent | None,
        sight: Sight,
    ) -> list[SearchRows]:
        """Answers searches by their names in ``storage/sql/documents_search.sql``, in one round trip."""

    async def referring(
        self, uuids: Sequence[str], sight: Sight, *, lists: bool, documents: bool
    ) -> list[tuple[str, str]]:
        """Kind and entryUUID of the lists that hold these objects, and of documents that relate to them."""

    async def save_renderings(self, renderings: Sequence[NewRendering]) -> None:
        """Stores them; one whose object has changed since is not stored."""

    async def record(self, audit: AuditEvent) -> None:
        """Stores an audit row by itself."""


class Pending(NamedTuple):
    """A submission that waits for its registry."""

    submission_id: str  # without urn:uuid:
    fingerprint: bytes  # of the submission as received: by it a repetition is recognised
    unique_ids: tuple[str, ...]
    message: bytes
    subject: Mapping[str, str]  # who provided it, as domain/decisions says who asks
    attempts: int = 0  # how often it was taken after the first attempt; only the latest may give it up


class Repeated(NamedTuple):
    """A submission that was provided before: what still waits of it, None when the registry has it."""

    pending: Pending | None


class RepositoryStore(Protocol):
    """What ``actors/document_repository`` needs of storage."""

    async def documents(
        self, unique_ids: Sequence[str], repository_unique_id: str, audit: AuditEvent | None, sight: Sight
    ) -> list[FoundDocument]:
        """Stored documents, pending ones included; ``unique_ids`` are distinct.

        ``audit`` is stored in the same round trip if all of them are there and none is pending.
        """

    async def was_removed(self, unique_id: str, repository_unique_id: str) -> bool:
        """Whether a document that is not stored lay here once."""

    async def on_demand(
        self, unique_ids: Sequence[str], repository_unique_id: str, sight: Sight
    ) -> list[FoundOnDemand]:
        """The on-demand entries of this repository, one for each uniqueId: the newest approved one."""

    async def record(self, audit: AuditEvent) -> None:
        """Stores the audit row of a retrieval that found not all, or made something."""

    async def record_each(self, audits: Sequence[AuditEvent]) -> None:
        """Stores several audit rows in one commit."""

    async def located(self, entry_uuid: str, sight: Sight) -> LocatedDocument | None:
        """The document of an entry by its entryUUID without ``urn:uuid:``; None where no entry has it."""

    async def located_named(self, unique_id: str, sight: Sight) -> LocatedDocument | None:
        """The document of the newest version of the entry with this uniqueId; None where no entry has it."""

    async def hold(
        self, documents: Sequence[StoredDocument], pending: Pending, lease_s: float, audit: AuditEvent
    ) -> None:
        """Stores documents and their submission as pending, in one commit; it is due in ``lease_s`` seconds.

        Raises :class:`LostRace` when this submission was provided before or a document has other bytes here.
        ``audit`` is not stored; what its request uses up is.
        """

    async def repeat(self, fingerprint: bytes, lease_s: float) -> Repeated | None:
        """The submission with this fingerprint, taken to be sent again if it waits; None when there is none."""

    async def release(self, pending: Pending, repository_unique_id: str, audits: Sequence[AuditEvent]) -> None:
        """The registry accepted: the documents become retrievable."""

    async def discard(self, pending: Pending, repository_unique_id: str, audits: Sequence[AuditEvent]) -> None:
        """The registry refused: the documents were never visible and go, unless another submission waits with them.

        Raises :class:`LostRace` when somebody else has taken the submission since: theirs is the last word.
        """

    async def postpone(self, pending: Pending, pause_s_max: float, error: str) -> None:
        """Remembers why an attempt failed; the next is due after a pause that grows up to ``pause_s_max`` seconds."""

    async def due(self, lease_s: float) -> Pending | None:
        """The pending submission whose attempt is due longest; nobody else is given it for ``lease_s`` seconds."""
