"""The port to where a registry and a repository keep what they know, and the values that pass through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Submission
from obieg.domain.identifiers import PatientId


class LostRace(Exception):  # noqa: N818
    """What a write relied on changed in between, or stands there already: read again, then decide again."""


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


class FoundObject(NamedTuple):
    """A registry object with its rendering and the values that are spliced into it."""

    kind: str  # D, S, F, A
    entry_uuid: str  # without urn:uuid:
    rendering: bytes
    status: str
    version: int
    patient_id: str  # affinity-domain id, without authority; of its survivor after a merge; "" for associations
    last_update_time: str = ""


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

    async def register(self, registration: Registration, audit: AuditEvent) -> None:
        """One round trip, one commit. Raises :class:`LostRace`, then nothing is stored."""

    async def find(
        self, question: str, parameters: Mapping[str, Any], audit: AuditEvent, results_max: int
    ) -> list[FoundObject]:
        """Answers a stored query by its name in ``storage/sql/registry.sql``, with its audit row, in one round trip.

        At most ``results_max`` + 1 objects come back: one more than the limit says that there are too many.
        """

    async def find_ids(self, parameters: Mapping[str, Any], audit: AuditEvent, results_max: int) -> list[str]:
        """FindDocuments by status and type only, for ObjectRef: entryUUIDs."""


class Pending(NamedTuple):
    """A submission that waits for its registry."""

    submission_id: str  # without urn:uuid:
    fingerprint: bytes  # of the submission as received: by it a repetition is recognised
    unique_ids: tuple[str, ...]
    message: bytes
    attempts: int = 0  # how often it was taken after the first attempt; only the latest may give it up


class Repeated(NamedTuple):
    """A submission that was provided before: what still waits of it, None when the registry has it."""

    pending: Pending | None


class RepositoryStore(Protocol):
    """What ``actors/document_repository`` needs of storage."""

    async def documents(
        self, unique_ids: Sequence[str], repository_unique_id: str, audit: AuditEvent | None
    ) -> list[FoundDocument]:
        """Stored documents, pending ones included; ``unique_ids`` are distinct.

        ``audit`` is stored in the same round trip if all of them are there and none is pending.
        """

    async def record(self, audit: AuditEvent) -> None:
        """Stores the audit row of a retrieval that found not all."""

    async def hold(self, documents: Sequence[StoredDocument], pending: Pending, lease_s: float) -> None:
        """Stores documents and their submission as pending, in one commit; it is due in ``lease_s`` seconds.

        Raises :class:`LostRace` when this submission was provided before or a document has other bytes here.
        """

    async def repeat(self, fingerprint: bytes, lease_s: float) -> Repeated | None:
        """The submission with this fingerprint, taken to be sent again if it waits; None when there is none."""

    async def release(self, pending: Pending, repository_unique_id: str, audit: AuditEvent) -> None:
        """The registry accepted: the documents become retrievable."""

    async def discard(self, pending: Pending, repository_unique_id: str, audit: AuditEvent) -> None:
        """The registry refused: the documents were never visible and go, unless another submission waits with them.

        Raises :class:`LostRace` when somebody else has taken the submission since: theirs is the last word.
        """

    async def postpone(self, pending: Pending, pause_s_max: float, error: str) -> None:
        """Remembers why an attempt failed; the next is due after a pause that grows up to ``pause_s_max`` seconds."""

    async def due(self, lease_s: float) -> Pending | None:
        """The pending submission whose attempt is due longest; nobody else is given it for ``lease_s`` seconds."""
