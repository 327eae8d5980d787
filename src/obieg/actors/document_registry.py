"""The Document Registry: registers submissions and answers stored queries (ITI TF-1:10.1.1.3).

A registration takes two round trips: one that reads what the submission is judged by, one that stores everything with
its audit row. What may have changed in between is guarded in the write; a lost race is answered like the plain case, by
reading again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime
from typing import Any

import msgspec

from obieg.domain.documents import Association, AssociationType, DocumentEntry, Submission
from obieg.domain.identifiers import PatientId, is_uuid_urn, patient_id
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.queries import StoredQuery
from obieg.domain.registry import (
    Facts,
    FoundObject,
    KnownPatient,
    LostRace,
    Registration,
    RegistryStore,
    StoredDocument,
)
from obieg.domain.rules import Codes, check_submission
from obieg.protocol import Context

# How often a registration is decided anew when others change what it relies on.
ATTEMPTS_MAX = 5
_encode = msgspec.json.Encoder().encode


class DocumentRegistry:
    """Registers submissions and finds what was registered."""

    def __init__(
        self,
        store: RegistryStore,
        *,
        codes: Codes,
        assigning_authority: str,
        home_community_id: str,
        allow_limited_metadata: bool,
        results_max: int,
        new_uuid: Callable[[], str],
    ) -> None:
        self._store = store
        self._codes = codes
        self.assigning_authority = assigning_authority
        self.home_community_id = home_community_id
        self._allow_limited = allow_limited_metadata
        self._results_max = results_max
        self._new_uuid = new_uuid

    # registering ------------------------------------------------------------------------------------------------

    async def register(
        self,
        submission: Submission,
        context: Context,
        *,
        found_already: tuple[Finding, ...] = (),
        store_documents: Callable[[], Coroutine[Any, Any, tuple[StoredDocument, ...]]] | None = None,
    ) -> tuple[Finding, ...]:
        """Stores a submission; what comes back are warnings. Raises Problem with all findings.

        ``found_already`` is what was wrong with the message itself: it refuses the submission, together with everything
        else that is wrong with it. ``store_documents`` puts the documents into the document store: while the registry
        is asked, when nothing speaks against the submission itself. They are recorded in the same commit (ITI-41 on one
        node); of what the registry's content refuses only encrypted bytes are left, which nothing names and compaction
        takes back.
        """
        # Documents that this node stores itself are for its own repository.
        unbound = [] if store_documents is not None else list(self._check_repositories(submission, context))
        if context.large:
            wrong, fingerprint = await asyncio.to_thread(self._examine, submission)
        else:
            wrong, fingerprint = self._examine(submission)
        findings = [*found_already, *wrong, *unbound]
        storing = None if findings or store_documents is None else asyncio.ensure_future(store_documents())
        try:
            return await self._decide(submission, context, findings, fingerprint, storing, repeatable=not unbound)
        finally:
            if storing is not None and not storing.cancel() and not storing.cancelled():
                storing.exception()  # a refusal says more than that the documents could not be stored either

    async def _decide(
        self,
        submission: Submission,
        context: Context,
        findings: list[Finding],
        fingerprint: bytes,
        storing: asyncio.Future[tuple[StoredDocument, ...]] | None,
        *,
        repeatable: bool,
    ) -> tuple[Finding, ...]:
        """Reads what the registry knows, judges, stores; again when others were faster."""
        patient = patient_id(submission.submission_set.patient_id or "")
        known_here = patient if patient is not None and patient.authority == self.assigning_authority else None
        final = with_final_ids(submission, self._new_uuid)
        references = _references(final)
        replaced = tuple(a.target for a in final.associations if a.type.replaces and is_uuid_urn(a.target))
        uniques: list[str] = []
        looked_up = False  # whether what stands under the ids of the submission itself is read, too
        for _ in range(ATTEMPTS_MAX):
            facts = await self._store.facts(known_here, references=references, replaced=replaced, unique_ids=uniques)
            if repeatable and _is_repetition(submission, fingerprint, facts):
                return ()
            problems = [*findings, *self._check_against(final, patient, facts)]
            if problems and looked_up:
                raise Problem(problems)
            if problems:
                # A repetition may be at odds with nothing but its own first time: what it replaces is deprecated now.
                uniques, references, looked_up = _unique_ids(final), _all_references(final, submission), True
                continue
            assert facts.patient is not None  # noqa: S101 - _check_against has seen to it
            documents = await storing if storing is not None else ()
            registration = _plan(final, facts, fingerprint, context.received_at, self._new_uuid, documents)
            if context.large:
                registration = registration._replace(large=True)
            try:
                await self._store.register(registration, context.audit())
            except LostRace:
                # The next round names what is wrong.
                uniques, references, looked_up = _unique_ids(final), _all_references(final, submission), True
                continue
            context.audited = True
            return ()
        raise RetryLater("others keep changing what this submission relies on")

    def _examine(self, submission: Submission) -> tuple[list[Finding], bytes]:
        """What is wrong with it by itself, and its fingerprint."""
        wrong = list(check_submission(submission, self._codes, allow_limited=self._allow_limited))
        return wrong, hashlib.sha256(_encode(submission)).digest()

    def _check_repositories(self, submission: Submission, context: Context) -> Iterator[Finding]:
        """Outside the laboratory a node may register only for the repositories that are its own."""
        allowed = context.requester.repositories
        if allowed is None:
            return
        for entry in submission.entries:
            if entry.repository_unique_id not in allowed:
                yield Finding(
                    "XDSRegistryMetadataError",
                    "this sender is not bound to the repository that the entry names",
                    f"DocumentEntry {entry.entry_uuid}: repositoryUniqueId",
                )

    def _check_against(self, submission: Submission, patient: PatientId | None, facts: Facts) -> Iterator[Finding]:
        if facts.patient is None and patient is not None:
            yield Finding(
                "XDSUnknownPatientId",
                f"patient {patient} is not known to this registry",
                f"SubmissionSet {submission.submission_set.entry_uuid}: patientId",
            )
        yield from _check_unique_ids(submission, facts)
        own = set(submission.ids)
        for uuid in sorted(own & facts.objects.keys()):
            yield Finding("XDSRegistryMetadataError", "an object with this entryUUID is registered already", uuid)
        for association in submission.associations:
            yield from _check_association(association, own, facts)

    # finding ----------------------------------------------------------------------------------------------------

    async def find(self, query: StoredQuery, context: Context) -> list[FoundObject] | list[str]:
        """Objects for LeafClass, entryUUIDs (without urn:uuid:) for ObjectRef. Raises Problem.

        A patient who is not known here is answered like one without documents.
        """
        limit = self._results_max
        audit = context.audit()
        if query.patient is not None and query.patient.authority != self.assigning_authority:
            query = msgspec.structs.replace(query, parameters={**query.parameters, "value": "", "authority": ""})
        if query.only_status_and_type and not query.leaf:
            ids = await self._store.find_ids(query.parameters, audit, limit)
            found_count = len(ids)
            result: list[FoundObject] | list[str] = ids
        else:
            found = await self._store.find(query.question, query.parameters, audit, limit)
            found_count = len(found)
            if query.leaf and query.patient is None and len({f.patient_id for f in found if f.patient_id}) > 1:
                raise Problem.of(
                    "XDSResultNotSinglePatient",
                    "the objects asked for belong to more than one patient: ask for ObjectRef, or for each by itself",
                )
            result = found if query.leaf else [f.entry_uuid for f in found]
        if found_count > limit:
            raise Problem.of(
                "XDSTooManyResults",
                f"the answer has more than {limit} objects: narrow the query by status, type or time",
            )
        context.audited = True
        return result


def with_final_ids(submission: Submission, new_uuid: Callable[[], str]) -> Submission:
    """The submission with a UUID for every symbol, lower-case UUIDs, references that follow (ITI TF-3:4.2.3.1.5)."""
    names: dict[str, str] = {}

    def final(identifier: str) -> str:
        known = names.get(identifier)
        if known is None:
            known = identifier.lower() if is_uuid_urn(identifier) else f"urn:uuid:{new_uuid()}"
            names[identifier] = known
        return known

    replace = msgspec.structs.replace
    for identifier in submission.ids:
        final(identifier)
    return Submission(
        submission_set=replace(submission.submission_set, entry_uuid=final(submission.submission_set.entry_uuid)),
        entries=tuple(
            [
                replace(e, entry_uuid=final(e.entry_uuid), logical_id=final(e.entry_uuid), version=1)
                for e in submission.entries
            ]
        ),
        folders=tuple(
            [
                replace(f, entry_uuid=final(f.entry_uuid), logical_id=final(f.entry_uuid), version=1)
                for f in submission.folders
            ]
        ),
        associations=tuple(
            [
                replace(
                    a,
                    entry_uuid=final(a.entry_uuid),
                    source=names.get(a.source, a.source.lower()),
                    target=names.get(a.target, a.target.lower()),
                )
                for a in submission.associations
            ]
        ),
    )


def _references(submission: Submission) -> tuple[str, ...]:
    """UUIDs that associations name and the submission does not hold."""
    own = set(submission.ids)
    named = {end for a in submission.associations for end in (a.source, a.target)}
    return tuple(sorted(u for u in named - own if is_uuid_urn(u)))


def _all_references(final: Submission, submission: Submission) -> tuple[str, ...]:
    """These, and the UUIDs that the submitter chose."""
    return (*_references(final), *(identifier.lower() for identifier in submission.ids if is_uuid_urn(identifier)))


def _unique_ids(submission: Submission) -> list[str]:
    return [o.unique_id for o in submission.objects if o.unique_id]


def _is_repetition(submission: Submission, fingerprint: bytes, facts: Facts) -> bool:
    """Whether this very submission is registered already: then a repetition is answered Success."""
    standing = facts.unique_ids.get(submission.submission_set.unique_id or "", ())
    return any(known.kind == "S" and known.fingerprint == fingerprint for known in standing)


def _check_unique_ids(submission: Submission, facts: Facts) -> Iterator[Finding]:
    for kind, letter, values in (
        ("SubmissionSet", "S", (submission.submission_set,)),
        ("Folder", "F", submission.folders),
    ):
        for value in values:
            if any(known.kind == letter for known in facts.unique_ids.get(value.unique_id or "", ())):
                yield Finding(
                    "XDSDuplicateUniqueIdInRegistry",
                    f"uniqueId {value.unique_id} belongs to another object in the registry",
                    f"{kind} {value.entry_uuid}: uniqueId",
                )
    for entry in submission.entries:
        standing = facts.unique_ids.get(entry.unique_id or "", ())
        if any(known.kind == "D" and known.hash != (entry.hash or "").lower() for known in standing):
            yield Finding(
                "XDSNonIdenticalHash",
                f"document {entry.unique_id} is registered with another hash",
                f"DocumentEntry {entry.entry_uuid}: hash",
            )


def _check_association(association: Association, own: set[str], facts: Facts) -> Iterator[Finding]:
    where = f"Association {association.entry_uuid}"
    for role, uuid in (("sourceObject", association.source), ("targetObject", association.target)):
        if uuid in own:
            continue
        known = facts.objects.get(uuid)
        if known is None:
            yield Finding("UnresolvedReferenceException", f"{role} {uuid} is not registered", where)
        elif facts.patient is not None and known.patient_key not in facts.patient.keys:
            # A reference to another patient's object may say "same patient" only for set members by reference.
            yield Finding("XDSPatientIdDoesNotMatch", f"{role} {uuid} belongs to another patient", where)
        elif association.type.relates_documents and role == "targetObject":
            if known.kind != "D":
                yield Finding("XDSRegistryMetadataError", f"{role} {uuid} is not a DocumentEntry", where)
            elif not known.approved and association.type is not AssociationType.IS_SNAPSHOT_OF:
                yield Finding(
                    "XDSRegistryDeprecatedDocumentError",
                    f"{association.type} needs an approved document, {uuid} is deprecated",
                    where,
                )
        elif association.type is AssociationType.HAS_MEMBER and role == "sourceObject":
            if known.kind != "F":
                yield Finding(
                    "XDSRegistryMetadataError", f"{role} {uuid} is neither a folder nor this submission's set", where
                )
            elif not known.approved:
                yield Finding("XDSRegistryDeprecatedDocumentError", f"folder {uuid} is deprecated", where)


def _plan(
    submission: Submission,
    facts: Facts,
    fingerprint: bytes,
    now: datetime,
    new_uuid: Callable[[], str],
    documents: tuple[StoredDocument, ...],
) -> Registration:
    patient: KnownPatient = facts.patient  # type: ignore[assignment]
    entries = {e.entry_uuid: e for e in submission.entries}
    replaced = tuple(dict.fromkeys(a.target for a in submission.associations if a.type.replaces))
    related = {
        a.target
        for a in submission.associations
        if a.type.relates_documents and not a.type.replaces and a.type is not AssociationType.IS_SNAPSHOT_OF
    }
    inherited = tuple(_inherited_memberships(submission, facts, entries, new_uuid))
    if inherited:
        submission = msgspec.structs.replace(submission, associations=submission.associations + inherited)
    folders = {f.entry_uuid for f in submission.folders}
    touched = {
        a.source
        for a in submission.associations
        if a.type is AssociationType.HAS_MEMBER
        and a.source != submission.submission_set.entry_uuid
        and a.source not in folders
    }
    return Registration(
        submission=submission,
        patient=patient,
        fingerprint=fingerprint,
        replaced=replaced,
        expected_approved=tuple(sorted(related - entries.keys() - set(replaced))),
        touched_folders=tuple(sorted(touched)),
        last_update_time=now.strftime("%Y%m%d%H%M%S"),
        documents=documents,
    )


def _inherited_memberships(
    submission: Submission, facts: Facts, entries: dict[str, DocumentEntry], new_uuid: Callable[[], str]
) -> Iterator[Association]:
    """A replacement joins the folders of what it replaces (ITI TF-3:4.2.2.2.3 with ITI TF-2:3.42.4.1.3.3.3)."""
    present = {(a.source, a.target) for a in submission.associations if a.type is AssociationType.HAS_MEMBER}
    for association in submission.associations:
        if association.type is not AssociationType.RPLC or association.source not in entries:
            continue
        for folder in facts.folders_of.get(association.target, ()):
            if (folder, association.source) in present:
                continue
            present.add((folder, association.source))
            membership = Association(f"urn:uuid:{new_uuid()}", AssociationType.HAS_MEMBER, folder, association.source)
            yield membership
            yield Association(
                f"urn:uuid:{new_uuid()}",
                AssociationType.HAS_MEMBER,
                submission.submission_set.entry_uuid,
                membership.entry_uuid,
            )
