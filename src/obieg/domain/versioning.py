"""New versions of what a source registered, when its number names another patient or becomes another number.

A link change (ITI TF-2:3.64.4.1.3) works like an update of the metadata (ITI TF-2:3.57.4.1.3): the approved documents
of the number, and the folders that hold nothing else, are deprecated where they stand, and approved new versions of
them with the same logicalID and uniqueId stand under the new affinity-domain id. A submission set never changes: the
new versions are members of a copy of theirs, so that who asks for a document's set finds who submitted it. Deprecated
documents stay: they are history of the patient under whom they were read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from obieg.domain.documents import (
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)
from obieg.domain.history import Act, RecordedChange
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.registry import KnownPatient, Registration


class Filed(NamedTuple):
    """An object as it stands in the registry; patientId and lastUpdateTime are not read."""

    patient_key: int
    value: DocumentEntry | Folder | SubmissionSet | Association


class Replaced(NamedTuple):
    """A version that has a new one; entryUUIDs are without urn:uuid:."""

    patient_key: int
    entry_uuid: str
    new_uuid: str


class Versions(NamedTuple):
    """What one link change does to the registry."""

    registrations: tuple[Registration, ...] = ()  # one for each copy of a submission set
    replaced: tuple[Replaced, ...] = ()
    associations: int = 0  # how many have an end among these
    changes: tuple[RecordedChange, ...] = ()  # for the history
    doubtful: tuple[str, ...] = ()  # entryUUIDs of documents that stay for a relation to one that stays


def new_versions(
    found: Sequence[Filed],
    *,
    numbers: Collection[PatientId],
    renamed: Mapping[PatientId, PatientId],
    patient: PatientId,
    patient_key: int | None,
    former: PatientId,
    now: str,
    new_uuid: Callable[[], str],
) -> Versions:
    """New versions of the approved documents whose sourcePatientId is one of ``numbers``.

    ``found`` are these documents, the folders and sets that hold them, all associations of documents and folders, and
    what is at their other ends. ``patient`` is whose the new versions are, ``former`` whose those before were; without
    ``patient_key`` that is the same, and only documents of a renamed number change. What relates a document to an
    approved one that stays (APND, signs and the like) is of one patient, so that document stays too and is doubtful.
    """
    change = _Change(found, None if patient_key is None else numbers, renamed, new_uuid)
    registrations = tuple(change.registrations(patient, patient_key, now))
    return Versions(
        registrations,
        tuple(Replaced(change.filed[uuid].patient_key, uuid[9:], new[9:]) for uuid, new in change.names.items()),
        sum(1 for a in change.associations if a.source in change.names or a.target in change.names),
        tuple(change.changes(registrations, former)),
        change.doubtful,
    )


class _Change:
    """What changes: documents (``going``) and folders, and the entryUUIDs of their new versions (``names``)."""

    def __init__(
        self,
        found: Iterable[Filed],
        numbers: Collection[PatientId] | None,
        renamed: Mapping[PatientId, PatientId],
        new_uuid: Callable[[], str],
    ) -> None:
        """``numbers`` is None where the patient remains the same."""
        self.filed = {f.value.entry_uuid: f for f in found}
        values = [f.value for f in self.filed.values()]
        self.entries = {v.entry_uuid: v for v in values if isinstance(v, DocumentEntry)}
        self.associations = [v for v in values if isinstance(v, Association)]
        self._standing = [a for a in self.associations if a.availability_status is AvailabilityStatus.APPROVED]
        self._members = [a for a in self._standing if a.type is AssociationType.HAS_MEMBER]
        self._sets = {v.entry_uuid for v in values if isinstance(v, SubmissionSet)}
        self._stays_with_patient = numbers is None
        self._numbers = renamed.keys() if numbers is None else numbers
        self._renamed = renamed
        self._new_uuid = new_uuid
        named = {uuid for uuid, e in self.entries.items() if _number(e) in self._numbers and _approved(e)}
        bound = set() if self._stays_with_patient else self._bound(named)
        self.doubtful = tuple(uuid[9:] for uuid in self.entries if uuid in bound)
        self.going = [uuid for uuid in self.entries if uuid in named - bound]
        folders = [v.entry_uuid for v in values if isinstance(v, Folder) and _approved(v)]
        self.folders = [] if self._stays_with_patient else [f for f in folders if self._goes_whole(f)]
        self.names = {uuid: self._fresh() for uuid in (*self.going, *self.folders)}

    def _fresh(self) -> str:
        return f"urn:uuid:{self._new_uuid()}"

    def _bound(self, named: set[str]) -> set[str]:
        """The documents of the number that are related to an approved one that stays."""
        relations = [a for a in self._standing if a.type.relates_documents]
        ends = [(a.source, a.target) for a in relations if {a.source, a.target} <= self.entries.keys()]
        ends += [(target, source) for source, target in ends]
        bound: set[str] = set()
        while more := {
            one
            for one, other in ends
            if one in named - bound and other not in named - bound and _approved(self.entries[other])
        }:
            bound |= more
        return bound

    def _goes_whole(self, folder: str) -> bool:
        members = [a.target for a in self._members if a.source == folder and a.target in self.entries]
        return any(m in self.going for m in members) and all(
            m in self.going or (_number(self.entries[m]) in self._numbers and not _approved(self.entries[m]))
            for m in members
        )

    def registrations(self, patient: PatientId, patient_key: int | None, now: str) -> Iterator[Registration]:
        """The new versions, the associations among them, and copies of the sets that hold any of it."""
        names = dict(self.names)
        copied = [a for a in self._standing if a.source not in self._sets and self._is_copied(a)]
        names |= {a.entry_uuid: self._fresh() for a in copied}
        held = [a for a in self._members if a.source in self._sets and a.target in names]
        held.sort(key=lambda a: a.submission_set_status != "Original")
        names |= {sset: self._fresh() for sset in dict.fromkeys(a.source for a in held)}
        names |= {a.entry_uuid: self._fresh() for a in held}
        owner: dict[str, str] = {a.entry_uuid: a.source for a in held}
        for a in held:
            owner.setdefault(a.target, a.source)
        # What no set holds goes with a document that it names.
        for a in copied:
            of = owner[a.target if a.target in self.going else a.source]
            for uuid in (a.entry_uuid, *((a.source,) if a.source in self.folders else ())):
                owner.setdefault(uuid, of)
        by_set: dict[str, list[Any]] = {}
        for uuid in names:
            by_set.setdefault(owner.get(uuid, uuid), []).append(self._version(uuid, names, patient))
        for sset, values in by_set.items():
            [copy] = [v for v in values if isinstance(v, SubmissionSet)]
            submission = Submission(
                copy,
                tuple(v for v in values if isinstance(v, DocumentEntry)),
                tuple(v for v in values if isinstance(v, Folder)),
                tuple(v for v in values if isinstance(v, Association)),
            )
            key = self.filed[sset].patient_key if patient_key is None else patient_key
            yield Registration(submission, KnownPatient(key, ()), b"", last_update_time=now)

    def changes(self, registrations: Sequence[Registration], former: PatientId) -> Iterator[RecordedChange]:
        """What the history says of the new versions."""
        before = {new: uuid for uuid, new in self.names.items()}
        act = Act.CHANGED if self._stays_with_patient else Act.MOVED
        for registration in registrations:
            submission = registration.submission
            versions: list[DocumentEntry | Folder] = [*submission.entries, *submission.folders]
            for value in versions:
                was: Any = self.filed[before[value.entry_uuid]].value
                was = msgspec.structs.replace(was, patient_id=str(former))
                yield RecordedChange(act, registration.patient.patient_key, was, value)

    def _is_copied(self, association: Association) -> bool:
        """Whether both ends are there for the new versions; with the patient, what does not change is, too."""
        changing = [end in self.names for end in (association.source, association.target)]
        return any(changing) if self._stays_with_patient else all(changing)

    def _version(self, uuid: str, names: Mapping[str, str], patient: PatientId) -> Any:
        value = self.filed[uuid].value
        replace = msgspec.structs.replace
        name = names[uuid]
        if isinstance(value, Association):
            ends = {"source": names.get(value.source, value.source), "target": names.get(value.target, value.target)}
            return replace(value, entry_uuid=name, **ends)
        if isinstance(value, SubmissionSet):
            unique_id = f"2.25.{UUID(name).int}"
            return replace(value, entry_uuid=name, unique_id=unique_id, patient_id=str(patient))
        versioned = {"logical_id": value.logical_id or uuid, "version": value.version + 1}
        new: Any = replace(value, entry_uuid=name, patient_id=str(patient), **versioned)
        number = _number(value) if isinstance(value, DocumentEntry) else None
        if number is not None and number in self._renamed:
            new = replace(new, source_patient_id=str(self._renamed[number]))
        return new


def _approved(value: DocumentEntry | Folder) -> bool:
    return value.availability_status is AvailabilityStatus.APPROVED


def _number(entry: DocumentEntry) -> PatientId | None:
    return patient_id(entry.source_patient_id or "")
