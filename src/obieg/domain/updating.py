"""What an update of the registry does: new versions, new states, new associations (ITI TF-2:3.57.4.1.3, 3.92.4.1.3).

An update is a submission. Its associations say what is to be done: a membership of its set with PreviousVersion makes
a new version of a document or a folder, UpdateAvailabilityStatus changes a state, SubmitAssociation adds an
association between objects that are there. The version before stays, deprecated; unless AssociationPropagation says
no, the new version takes its associations over. The restricted update (ITI-92) makes new versions of documents only,
and may not change what a document is.

Rules give the finer codes of ITI-92; :data:`PLAIN_CODES` are what ITI-57 calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from obieg.domain.attributes import DOCUMENT_ENTRY
from obieg.domain.documents import (
    Annotation,
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    Folder,
    Submission,
)
from obieg.domain.history import Act, RecordedChange
from obieg.domain.identifiers import is_uuid_urn
from obieg.domain.problems import Finding
from obieg.domain.registry import KnownPatient, Registration
from obieg.domain.removing import Standing

PLAIN_CODES = {
    "XDSMetadataAnnotationError": "XDSMetadataUpdateError",
    "XDSMetadataIdentifierError": "XDSMetadataUpdateError",
    "UnmodifiableMetadataError": "XDSMetadataUpdateError",
}
_UPDATES = (AssociationType.UPDATE_AVAILABILITY_STATUS, AssociationType.SUBMIT_ASSOCIATION)
_APPROVED, _DEPRECATED = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED
Versioned = DocumentEntry | Folder


class StoredHash(NamedTuple):
    """A document that lies in a repository of this node."""

    repository_unique_id: str
    sha1: str
    size: int


class UpdateFacts(NamedTuple):
    """What the registry knows that an update is judged by.

    ``objects`` holds, by entryUUID, what the update names, all versions of the objects whose logicalID it gives, all
    associations at these, and the other ends of the associations.
    """

    patient: KnownPatient | None  # of the submission set
    objects: Mapping[str, Standing]
    stored: Mapping[str, StoredHash]  # by uniqueId
    set_taken: bool = False  # another set has the uniqueId
    repeated: bool = False  # this very update is done already


class Changed(NamedTuple):
    """A registered object that gets another state; what it was is expected in the write."""

    patient_key: int
    kind: str
    entry_uuid: str
    was: AvailabilityStatus
    becomes: AvailabilityStatus
    versioned: bool = False  # it has a newer version now
    superseded: bool = False  # which is of the same patient


class Update(NamedTuple):
    """What one commit does, and what it relies on."""

    registration: Registration
    changed: tuple[Changed, ...]
    deprecated: tuple[str, ...]  # new objects of the registration that are not approved
    renamed: tuple[tuple[str, str], ...]  # entryUUIDs: version before, new version
    patient_keys: tuple[int, ...]  # under which any of this stands
    counted: tuple[str, ...]  # objects of which no association may have come or gone since
    expected: int  # how many associations these have
    added: tuple[tuple[str, str, str], ...]  # type, source, target: no approved one may stand there
    ends: tuple[str, ...]  # registered documents and folders that must be approved
    replaced: tuple[str, ...]  # documents that a submitted association replaces
    changes: tuple[RecordedChange, ...]


def plan_update(
    submission: Submission,
    facts: UpdateFacts,
    *,
    restricted: bool,
    fingerprint: bytes,
    now: str,
    new_uuid: Callable[[], str],
) -> tuple[Update | None, list[Finding]]:
    """What is to be done, or None and why it is not. The submission's ids are final, ``now`` is a DTM."""
    plan = _Plan(submission, facts, new_uuid, restricted=restricted)
    plan.judge()
    return (None if plan.findings else plan.update(fingerprint, now)), plan.findings


class _NewVersion(NamedTuple):
    value: Versioned
    annotation: Annotation
    before: Standing


class _Plan:
    """The operations of one update, judged and then carried out."""

    def __init__(
        self, submission: Submission, facts: UpdateFacts, new_uuid: Callable[[], str], *, restricted: bool
    ) -> None:
        self.submission = submission
        self.facts = facts
        self.restricted = restricted
        self.findings: list[Finding] = []
        self._new_uuid = new_uuid
        self._set_id = submission.submission_set.entry_uuid
        versioned: list[Versioned] = [*submission.entries, *submission.folders]
        self._new = {o.entry_uuid: o for o in versioned}
        self._submitted = {a.entry_uuid: a for a in submission.associations}
        self._members: dict[str, Association] = {}
        self._status: dict[str, Association] = {}  # by the object whose state changes
        self._added: dict[str, Association] = {}
        self._versions: dict[str, _NewVersion] = {}
        self._copied: dict[str, Association] = {}  # by the entryUUID of the association that was copied

    def _find(self, code: str, detail: str, where: str) -> None:
        self.findings.append(Finding(code, detail, where))

    # what is asked for ------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Collects all findings."""
        sset = self.submission.submission_set
        if self.facts.patient is None:
            where = f"SubmissionSet {self._set_id}: patientId"
            self._find("XDSUnknownPatientId", f"patient {sset.patient_id} is not known to this registry", where)
        if self.facts.set_taken:
            where = f"SubmissionSet {self._set_id}: uniqueId"
            detail = f"uniqueId {sset.unique_id} belongs to another object in the registry"
            self._find("XDSDuplicateUniqueIdInRegistry", detail, where)
        for uuid in self.submission.ids:
            if uuid in self.facts.objects:
                self._find("XDSRegistryMetadataError", "an object with this entryUUID is registered already", uuid)
        self._sort_operations()
        seen: dict[str, str] = {}
        for value in self._new.values():
            self._judge_version(value, seen)
        for association in self._added.values():
            self._judge_added(association)
        for association in self._status.values():
            self._judge_status(association)
        if not self.findings:
            self._propagate()

    def _sort_operations(self) -> None:
        """Which association asks for what."""
        for association in self.submission.associations:
            if association.source != self._set_id:
                continue
            where, target = f"Association {association.entry_uuid}", association.target
            kind = association.type
            if kind is AssociationType.HAS_MEMBER and target in self._new and target not in self._members:
                self._members[target] = association
            elif kind is AssociationType.UPDATE_AVAILABILITY_STATUS and target not in self._status:
                self._status[target] = association
            elif kind is AssociationType.SUBMIT_ASSOCIATION and target in self._submitted:
                self._added[target] = self._submitted[target]
            elif kind is AssociationType.HAS_MEMBER and target in self._submitted:
                pass  # the membership of a new association in the set, beside its SubmitAssociation
            else:
                self._find("XDSMetadataUpdateOperationError", f"{kind} to {target} is no operation", where)
        for association in self.submission.associations:
            if association.source != self._set_id and association.entry_uuid not in self._added:
                detail = "SubmitAssociation from the submission set must ask for this association"
                self._find("XDSMetadataUpdateOperationError", detail, f"Association {association.entry_uuid}")
        if not (self._new or self._status or self._added):
            self._find(
                "XDSMetadataUpdateOperationError", "the update asks for nothing", f"SubmissionSet {self._set_id}"
            )
        if self.restricted:
            for uuid in (*(f.entry_uuid for f in self.submission.folders), *self._status, *self._added):
                detail = "a restricted update makes new versions of documents, and nothing else"
                self._find("XDSMetadataUpdateOperationError", detail, uuid)

    # new versions -----------------------------------------------------------------------------------------------

    def _judge_version(self, value: Versioned, seen: dict[str, str]) -> None:
        is_entry = isinstance(value, DocumentEntry)
        where = f"{'DocumentEntry' if is_entry else 'Folder'} {value.entry_uuid}"
        lid = (value.logical_id or "").lower()
        if not is_uuid_urn(lid) or lid == value.entry_uuid:
            detail = "an update needs the logicalID (lid) of what it changes; new objects are registered"
            self._find("XDSMetadataUpdateError", detail, where)
            return
        if lid in seen:
            detail = f"{seen[lid]} changes the same object: one update makes one version of it"
            self._find("XDSMetadataUpdateError", detail, where)
        seen[lid] = value.entry_uuid
        annotation = self._member_annotation(value, where)
        kind = "D" if is_entry else "F"
        standing = [
            s for s in self.facts.objects.values() if s.kind == kind and getattr(s.value, "logical_id", None) == lid
        ]
        if not standing:
            self._find("XDSMetadataVersionError", f"no version of {lid} is registered", f"{where}: logicalID")
            return
        before = max(standing, key=lambda s: s.version)
        was = before.value
        assert isinstance(was, DocumentEntry | Folder)  # noqa: S101 - by its kind
        if annotation is not None and annotation.previous_version not in (None, before.version):
            detail = f"the newest version is {before.version}, not {annotation.previous_version}: read it, decide anew"
            self._find("XDSMetadataVersionError", detail, f"{where}: PreviousVersion")
        if not before.approved and not self.restricted:
            self._find("XDSMetadataUpdateError", f"version {before.version} is deprecated", where)
        if value.unique_id != was.unique_id:
            self._find("XDSMetadataIdentifierError", f"its uniqueId is {was.unique_id} for ever", f"{where}: uniqueId")
        if isinstance(value, DocumentEntry) and isinstance(was, DocumentEntry):
            self._judge_entry(value, was, where)
        if self.restricted and self.facts.patient is not None and before.patient_key not in self.facts.patient.keys:
            detail = "a restricted update leaves a document with its patient"
            self._find("XDSPatientIDReconciliationError", detail, f"{where}: patientId")
        if annotation is not None:
            self._versions[value.entry_uuid] = _NewVersion(value, annotation, before)

    def _member_annotation(self, value: Versioned, where: str) -> Annotation | None:
        member = self._members.get(value.entry_uuid)
        if member is None:
            detail = "is not linked to the submission set by HasMember"
            self._find("XDSMetadataAnnotationError", detail, where)
            return None
        at = f"Association {member.entry_uuid}"
        annotation = member.annotation
        if annotation is None or annotation.previous_version is None:
            self._find("XDSMetadataAnnotationError", "PreviousVersion is missing", at)
            return None
        if annotation.original_status is not None or annotation.new_status is not None:
            detail = "a status is changed by UpdateAvailabilityStatus, not by HasMember"
            self._find("XDSMetadataAnnotationError", detail, at)
        status = member.submission_set_status
        if status != "Original" and (status is not None or isinstance(value, DocumentEntry)):
            detail = f"SubmissionSetStatus of a new version must be Original, is {status!r}"
            self._find("XDSMetadataAnnotationError", detail, at)
        return annotation

    def _judge_entry(self, value: DocumentEntry, was: DocumentEntry, where: str) -> None:
        if value.entry_type is not was.entry_type:
            detail = f"the document is {was.entry_type} and stays so"
            self._find("UnmodifiableMetadataError", detail, f"{where}: objectType")
        if self.restricted:
            for row in DOCUMENT_ENTRY:
                if row.fixed and getattr(value, row.field) != getattr(was, row.field):
                    detail = f"{row.name} is {getattr(was, row.field)} and cannot be changed (ITI TF-2:3.92.4.1.3)"
                    self._find("UnmodifiableMetadataError", detail, f"{where}: {row.name}")
        stored = self.facts.stored.get(value.unique_id or "")
        if stored is None or stored.repository_unique_id != value.repository_unique_id:
            return
        if value.hash and value.hash.lower() != stored.sha1:
            detail = f"the document that is stored here has hash {stored.sha1}"
            self._find("XDSNonIdenticalHash", detail, f"{where}: hash")
        if value.size and value.size != str(stored.size):
            detail = f"the document that is stored here has {stored.size} bytes"
            self._find("XDSNonIdenticalHash", detail, f"{where}: size")

    # states and associations ------------------------------------------------------------------------------------

    def _judge_status(self, association: Association) -> None:
        where, target = f"Association {association.entry_uuid}", association.target
        asked = association.annotation or Annotation()
        if asked.original_status is None or asked.new_status is None:
            self._find("XDSMetadataAnnotationError", "OriginalStatus and NewStatus are needed", where)
            return
        standing = self.facts.objects.get(target)
        if target in self._new or target in self._added:
            was = _APPROVED
        elif standing is None:
            self._find("UnresolvedReferenceException", f"targetObject {target} is not registered", where)
            return
        else:
            was = _APPROVED if standing.approved else _DEPRECATED
            self._judge_status_of(standing, target, where)
        if asked.original_status is not was:
            self._find("XDSMetadataUpdateError", f"the status of {target} is {was.value}", f"{where}: OriginalStatus")

    def _judge_status_of(self, standing: Standing, target: str, where: str) -> None:
        if standing.superseded or any(n.before is standing for n in self._versions.values()):
            self._find("XDSMetadataVersionError", f"{target} is not the newest version", where)
        if standing.kind == "S" or (standing.kind == "A" and not self._is_changeable(standing)):
            detail = "a submission set, and what it holds, stays as it was submitted"
            self._find("XDSMetadataUpdateError", detail, where)
        self._expect_patient(standing, target, where)

    def _is_changeable(self, standing: Standing) -> bool:
        value = standing.value
        assert isinstance(value, Association)  # noqa: S101 - by its kind
        source = self.facts.objects.get(value.source)
        return value.type not in _UPDATES and (source is None or source.kind != "S")

    def _expect_patient(self, standing: Standing, uuid: str, where: str) -> None:
        if self.facts.patient is not None and standing.patient_key not in self.facts.patient.keys:
            detail = f"{uuid} belongs to another patient than the submission set"
            self._find("XDSPatientIDReconciliationError", detail, where)

    def _judge_added(self, association: Association) -> None:
        where = f"Association {association.entry_uuid}"
        kinds = []
        for role, uuid in (("sourceObject", association.source), ("targetObject", association.target)):
            standing = self.facts.objects.get(uuid)
            if uuid in self._new:
                kinds.append("D" if isinstance(self._new[uuid], DocumentEntry) else "F")
                continue
            if standing is None:
                self._find("UnresolvedReferenceException", f"{role} {uuid} is not registered", where)
                return
            kinds.append(standing.kind)
            if standing.superseded or any(n.before is standing for n in self._versions.values()):
                self._find("XDSMetadataVersionError", f"{role} {uuid} is not the newest version", where)
            elif not standing.approved:
                self._find("XDSMetadataUpdateError", f"{role} {uuid} is deprecated", where)
            self._expect_patient(standing, uuid, where)
        wanted = ["F", "D"] if association.type is AssociationType.HAS_MEMBER else ["D", "D"]
        if kinds != wanted or not (
            association.type.relates_documents or association.type is AssociationType.HAS_MEMBER
        ):
            detail = "an update adds documents to folders and relates documents, nothing else"
            self._find("XDSMetadataUpdateError", detail, where)
        elif association.source == association.target:
            self._find("XDSMetadataUpdateError", "nothing is related to itself", where)
        same = (association.type, association.source, association.target)
        others = [a for a in self._added.values() if a is not association]
        standing_ones = [s.value for s in self.facts.objects.values() if s.kind == "A" and s.approved]
        if any(isinstance(a, Association) and (a.type, a.source, a.target) == same for a in (*standing_ones, *others)):
            self._find("XDSMetadataUpdateError", "this association stands already", where)

    # propagation ------------------------------------------------------------------------------------------------

    def _propagate(self) -> None:
        """Copies the associations of the versions before; each copy must be of one patient."""
        names = {n.before.value.entry_uuid: new for new, n in self._versions.items()}
        taking = {n.before.value.entry_uuid for n in self._versions.values() if n.annotation.propagate}
        for uuid, standing in self.facts.objects.items():
            value = standing.value
            if not isinstance(value, Association) or not standing.approved or not {value.source, value.target} & taking:
                continue
            if not self._is_changeable(standing):
                continue
            source, target = names.get(value.source, value.source), names.get(value.target, value.target)
            if len({self._is_of_patient(source), self._is_of_patient(target)}) > 1:
                detail = (
                    f"association {uuid} would relate objects of two patients: update both together, or send "
                    "AssociationPropagation no"
                )
                where = next(self._versions[e].before.value.entry_uuid for e in (source, target) if e in self._versions)
                self._find("XDSPatientIDReconciliationError", detail, where)
                continue
            self._copied[uuid] = msgspec.structs.replace(
                value, entry_uuid=f"urn:uuid:{self._new_uuid()}", source=source, target=target
            )

    def _is_of_patient(self, uuid: str) -> bool:
        """Whether an object is, afterwards, of the patient of the submission set."""
        patient = self.facts.patient
        assert patient is not None  # noqa: S101 - what is propagated was judged
        return uuid in self._new or (
            uuid in self.facts.objects and self.facts.objects[uuid].patient_key in patient.keys
        )

    # carrying out -----------------------------------------------------------------------------------------------

    def update(self, fingerprint: bytes, now: str) -> Update:
        """What the commit does."""
        patient = self.facts.patient
        assert patient is not None  # noqa: S101 - it was judged
        versions = {uuid: self._version(uuid, n) for uuid, n in self._versions.items()}
        before = {n.before.value.entry_uuid: n.before for n in self._versions.values()}
        associations = self._associations()
        # Where all versions before stand under one key of the patient, the new ones join them there.
        keys = {s.patient_key for s in before.values()}
        key = keys.pop() if len(keys) == 1 and keys <= set(patient.keys) else patient.patient_key
        submission = msgspec.structs.replace(
            self.submission,
            entries=tuple(v for v in versions.values() if isinstance(v, DocumentEntry)),
            folders=tuple(v for v in versions.values() if isinstance(v, Folder)),
            associations=associations,
        )
        owner = KnownPatient(key, tuple(k for k in patient.keys if k != key))
        touched = self._touched(associations)
        registration = Registration(
            submission, owner, fingerprint, touched_folders=touched, last_update_time=now, large=False
        )
        changed = tuple(self._changed())
        joined = self._added.values()
        replaced = tuple(a.target for a in joined if a.type.replaces and a.target not in self._new)
        known = {c.patient_key for c in changed} | {s.patient_key for s in before.values()} | set(patient.keys)
        ends = {e for a in joined for e in (a.source, a.target) if e not in self._new and e not in replaced}
        return Update(
            registration=registration,
            changed=changed,
            deprecated=tuple(sorted(self._initially_deprecated(versions))),
            renamed=tuple((old, new) for old, new in self._names().items()),
            patient_keys=tuple(sorted(known)),
            counted=tuple(sorted(before)),
            expected=sum(
                1
                for s in self.facts.objects.values()
                if isinstance(s.value, Association) and {s.value.source, s.value.target} & before.keys()
            ),
            added=tuple((a.type.value, a.source, a.target) for a in joined),
            ends=tuple(sorted(ends)),
            replaced=replaced,
            changes=tuple(self._changes(versions, key)),
        )

    def _names(self) -> dict[str, str]:
        return {n.before.value.entry_uuid: new for new, n in self._versions.items()}

    def _version(self, uuid: str, new: _NewVersion) -> Versioned:
        was = new.before.value
        assert isinstance(was, DocumentEntry | Folder)  # noqa: S101 - by its kind
        status = _APPROVED if new.before.approved else _DEPRECATED
        asked = self._status.get(uuid)
        if asked is not None and asked.annotation is not None and asked.annotation.new_status is not None:
            status = asked.annotation.new_status
        return msgspec.structs.replace(
            new.value, logical_id=was.logical_id, version=new.before.version + 1, availability_status=status
        )

    def _associations(self) -> tuple[Association, ...]:
        """Those of the update without PreviousVersion, the copies, and the memberships that the set gains by them."""
        kept = [
            msgspec.structs.replace(a, annotation=None) if a.type is AssociationType.HAS_MEMBER else a
            for a in self.submission.associations
        ]
        present = {(a.source, a.target) for a in kept if a.type is AssociationType.HAS_MEMBER}
        gained = [
            Association(f"urn:uuid:{self._new_uuid()}", AssociationType.HAS_MEMBER, self._set_id, a.entry_uuid)
            for a in (*self._copied.values(), *self._added.values())
            if a.type is AssociationType.HAS_MEMBER and (self._set_id, a.entry_uuid) not in present
        ]
        return (*kept, *self._copied.values(), *gained)

    def _touched(self, associations: Iterable[Association]) -> tuple[str, ...]:
        """Folders that stand and whose content changes."""
        changed = [a for a in associations if a.type is AssociationType.HAS_MEMBER]
        for uuid in self._status:
            value = self.facts.objects[uuid].value if uuid in self.facts.objects else None
            if isinstance(value, Association) and value.type is AssociationType.HAS_MEMBER:
                changed.append(value)
        old = self._names()
        return tuple(
            sorted(
                {
                    a.source
                    for a in changed
                    if (s := self.facts.objects.get(a.source)) is not None
                    and s.kind == "F"
                    and s.approved
                    and a.source not in old
                    and a.source not in self._status
                }
            )
        )

    def _changed(self) -> Iterable[Changed]:
        for new in self._versions.values():
            s = new.before
            was = _APPROVED if s.approved else _DEPRECATED
            yield Changed(
                s.patient_key,
                s.kind,
                s.value.entry_uuid,
                was,
                _DEPRECATED,
                versioned=True,
                superseded=self._is_same_patient(s),
            )
        for uuid in self._copied:
            yield Changed(self.facts.objects[uuid].patient_key, "A", uuid, _APPROVED, _DEPRECATED)
        for uuid, association in self._status.items():
            asked, standing = association.annotation, self.facts.objects.get(uuid)
            if standing is None or asked is None or asked.original_status is None or asked.new_status is None:
                continue
            yield Changed(standing.patient_key, standing.kind, uuid, asked.original_status, asked.new_status)

    def _initially_deprecated(self, versions: Mapping[str, Versioned]) -> Iterable[str]:
        for uuid, version in versions.items():
            if version.availability_status is _DEPRECATED:
                yield uuid
        for uuid in self._added:
            asked = self._status.get(uuid)
            if asked is not None and asked.annotation is not None and asked.annotation.new_status is _DEPRECATED:
                yield uuid

    def _changes(self, versions: Mapping[str, Versioned], key: int) -> Iterable[RecordedChange]:
        """For the history: new versions and states; what a set brings is there to be read."""
        for uuid, version in versions.items():
            before = self._versions[uuid].before
            act = Act.CHANGED if self._is_same_patient(before) else Act.MOVED
            yield RecordedChange(act, key, before.value, version)
        for uuid, association in self._status.items():
            standing = self.facts.objects.get(uuid)
            if standing is not None and association.annotation is not None:
                status = association.annotation.new_status or _APPROVED
                after = msgspec.structs.replace(standing.value, availability_status=status)
                yield RecordedChange(Act.STATUS, standing.patient_key, standing.value, after)

    def _is_same_patient(self, before: Standing) -> bool:
        patient = self.facts.patient
        return patient is not None and before.patient_key in patient.keys
