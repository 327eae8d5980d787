"""What becomes of documents after they are registered: updates and removals.

Like a registration, each takes two round trips: one that reads what it is judged by, one that does everything with its
audit row and its line of history. What may have changed in between is guarded in the write; who lost the race is
answered by what stands then, so of two updates from one version one wins and the other is told so.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from obieg.actors.access_control import AccessControl
from obieg.actors.document_registry import ATTEMPTS_MAX, joined, unvouched, with_final_ids
from obieg.actors.document_repository import DocumentRequest
from obieg.domain.access import DocumentFacts, Filter
from obieg.domain.audit import AuditObject, Outcome
from obieg.domain.document_facts import written_by
from obieg.domain.documents import Association, DocumentEntry, Submission, SubmissionSet
from obieg.domain.identifiers import patient_id
from obieg.domain.lifecycle import LifecycleStore, RemovableDocument
from obieg.domain.own_documents import check_mark
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.removing import Removal, Retention, Standing, plan_removal
from obieg.domain.rules import Codes, check_update
from obieg.domain.showing import shown
from obieg.domain.updating import PLAIN_CODES, UpdateFacts, plan_update
from obieg.protocol import Context

_encode = msgspec.json.Encoder().encode


class DocumentLifecycle:
    """Changes and removes what is registered."""

    def __init__(
        self,
        store: LifecycleStore,
        retention: Retention,
        *,
        codes: Codes,
        assigning_authority: str,
        home_community_id: str,
        allow_limited_metadata: bool,
        new_uuid: Callable[[], str],
        access: AccessControl | None = None,
    ) -> None:
        self._store = store
        self._access = access or AccessControl()
        self._retention = retention
        self._codes = codes
        self._authority = assigning_authority
        self._home = home_community_id
        self._allow_limited = allow_limited_metadata
        self._new_uuid = new_uuid

    async def update(
        self,
        submission: Submission,
        context: Context,
        *,
        restricted: bool,
        found_already: tuple[Finding, ...] = (),
        theirs: bool = False,
    ) -> tuple[Finding, ...]:
        """Carries out an update (ITI-57; ITI-92 when ``restricted``); what comes back are warnings. Raises Problem.

        ``found_already`` is what was wrong with the message itself; ``theirs``: an actor has found that the caller may
        change what the update names.
        """
        if context.large:
            wrong, fingerprint = await asyncio.to_thread(self._examine, submission)
        else:
            wrong, fingerprint = self._examine(submission)
        wrong = [*found_already, *wrong, *self._check_homes(submission)]
        final = _with_final_ids(submission, self._new_uuid)
        patient = patient_id(submission.submission_set.patient_id or "")
        known_here = patient if patient is not None and patient.authority == self._authority else None
        asked = context.objects
        for _ in range(ATTEMPTS_MAX):
            facts = await self._store.update_facts(final, known_here, fingerprint)
            if facts.repeated and not found_already:
                return ()
            own = None if theirs else self._access.changes(context)
            closed = _closed(_named(final, facts), facts.objects, own)
            if own is not None:
                closed |= await self._not_to_join(final, context)
            facts = facts._replace(objects={u: s for u, s in facts.objects.items() if u not in closed})
            update, findings = plan_update(
                final,
                facts,
                restricted=restricted,
                fingerprint=fingerprint,
                now=context.received_at.strftime("%Y%m%d%H%M%S"),
                new_uuid=self._new_uuid,
            )
            unbound = () if theirs else self._check_repositories(final, facts, context)
            marked = [*check_mark(final, context.transaction.permission)]
            marked += unvouched(final.entries, self._access, context)
            findings = [*wrong, *findings, *unbound, *marked]
            if closed and not findings:
                raise _not_theirs()
            if findings or update is None:
                raise Problem(findings if restricted else [_plain(f) for f in findings])
            context.objects = _with_patients(asked, (c.before for c in update.changes))
            try:
                await self._store.update(update, context.audit())
            except LostRace:
                continue
            context.audited = True
            return ()
        raise RetryLater("others keep changing what this update relies on")

    def _examine(self, submission: Submission) -> tuple[list[Finding], bytes]:
        """What is wrong with it by itself, and its fingerprint."""
        wrong = check_update(submission, self._codes, allow_limited=self._allow_limited)
        return wrong, hashlib.sha256(_encode(submission)).digest()

    async def _not_to_join(self, submission: Submission, context: Context) -> set[str]:
        """What the caller may change, but not make one lineage of: it would show them more than before."""
        together = joined(submission)
        documents = sorted(set[str]().union(*together))
        referable = await self._access.referable(context.requester, documents, context.received_at, together)
        return set() if referable is None else {*documents} - referable.keys()

    def _check_homes(self, submission: Submission) -> Iterator[Finding]:
        for value in submission.objects:
            if value.home_community_id and value.home_community_id != self._home:
                yield Finding("XDSUnknownCommunity", f"this community is {self._home}", value.entry_uuid)

    @staticmethod
    def _check_repositories(submission: Submission, facts: UpdateFacts, context: Context) -> Iterator[Finding]:
        """Outside the laboratory a node may change only what its own repositories registered."""
        allowed = context.requester.repositories
        if allowed is None:
            return
        named = {a.target for a in submission.associations} | {a.source for a in submission.associations}
        logical = {e.logical_id for e in submission.entries}
        standing = [
            s.value
            for u, s in facts.objects.items()
            if isinstance(s.value, DocumentEntry) and (u in named or s.value.logical_id in logical)
        ]
        yield from _unbound((*submission.entries, *standing), allowed)
        changed = {f.logical_id for f in submission.folders}
        for uuid, folder in facts.objects.items():
            if getattr(folder.value, "logical_id", None) in changed:
                held = _held(uuid, facts.objects)
                if not any(document.repository_unique_id in allowed for document in held):
                    yield from _unbound(held[:1], allowed)

    async def remove(self, uuids: Sequence[str], context: Context) -> None:
        """Removes metadata by entryUUID (ITI-62), all or nothing. Raises Problem with all findings."""
        asked = context.objects
        for _ in range(ATTEMPTS_MAX):
            objects = await self._store.standing(uuids)
            own = self._access.changes(context)
            closed = _closed(uuids, objects, own)
            if own is None and (unbound := [*self._unbound_of(uuids, objects, context)]):
                raise Problem(unbound)
            unseen = set[str]() if own is None else await self._unseen(uuids, objects, own, context)
            removing = plan_removal(uuids, {u: s for u, s in objects.items() if u not in closed | unseen})
            removals = [
                Removal(objects[u].kind, u, getattr(objects[u].value, "patient_id", None) or "", context.requester)
                for u in uuids
            ]
            forbidden = await self._retention.forbids(removals)
            if forbidden:
                raise Problem(forbidden)
            if unseen:  # said last: where the rest may not go either nobody learns of it
                raise _not_theirs()
            context.objects = _with_patients(asked, (objects[u].value for u in uuids))
            try:
                await self._store.remove(removing, context.audit())
            except LostRace:
                continue
            context.audited = True
            return
        raise RetryLater("others keep changing what is to be removed")

    @staticmethod
    def _unbound_of(named: Sequence[str], objects: Mapping[str, Standing], context: Context) -> Iterator[Finding]:
        """Outside the laboratory a node removes only what its own repositories registered."""
        if context.requester.repositories is None:
            return
        values = [objects[u].value for u in named if u in objects]
        ends = {e for v in values if isinstance(v, Association) for e in (v.source, v.target)}
        documents = [objects[u].value for u in dict.fromkeys((*named, *sorted(ends))) if u in objects]
        yield from _unbound((d for d in documents if isinstance(d, DocumentEntry)), context.requester.repositories)

    async def _unseen(
        self, named: Sequence[str], objects: Mapping[str, Standing], own: Filter, context: Context
    ) -> set[str]:
        """Associations that keep what is named from going, and which the caller neither sees nor may change."""
        going = set(named)
        staying = [
            u
            for u, s in objects.items()
            if u not in going and isinstance(s.value, Association) and {s.value.source, s.value.target} & going
        ]
        unsure = _closed(staying, objects, own)
        referable = await self._access.referable(context.requester, (), context.received_at, others=sorted(unsure))
        return unsure - (referable or {}).keys()


class Removed(NamedTuple):
    """What a repository removed, or had removed before, and what it did not."""

    unique_ids: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


class DocumentRemoval:
    """Removes documents from this node's repository."""

    def __init__(
        self,
        store: LifecycleStore,
        retention: Retention,
        *,
        repository_unique_id: str,
        home_community_id: str,
        access: AccessControl | None = None,
    ) -> None:
        self._store = store
        self._access = access or AccessControl()
        self._retention = retention
        self._repository = repository_unique_id
        self._home = home_community_id

    async def remove(self, requests: Sequence[DocumentRequest], context: Context) -> Removed:
        """Drops the keys of documents (ITI-86). What is removed already counts as removed. Raises Problem.

        A document that is not here, or must be kept, does not keep the others from going.
        """
        allowed = context.requester.repositories
        if allowed is not None and self._repository not in allowed and self._access.changes(context) is None:
            raise Problem.of("NotPermitted", "this sender is not bound to this repository")
        findings: list[Finding] = []
        here: list[str] = []
        for request in requests:
            where = request.unique_id
            if request.repository_unique_id != self._repository:
                findings.append(Finding("XDSUnknownRepositoryId", f"this repository is {self._repository}", where))
            elif request.home_community_id and request.home_community_id != self._home:
                findings.append(Finding("XDSUnknownCommunity", f"this community is {self._home}", where))
            else:
                here.append(request.unique_id)
        if not here:
            raise Problem(findings)
        asked = context.objects
        for _ in range(ATTEMPTS_MAX):
            found = await self._removable(list(dict.fromkeys(here)), context)
            missing = [
                Finding("XDSDocumentUniqueIdError", "this document is not available here", d.unique_id)
                for d in found
                if not (d.present or d.removed)
            ]
            removals = [Removal("B", d.unique_id, d.patient_id, context.requester) for d in found if d.present]
            forbidden = await self._retention.forbids(removals)
            kept = {f.location for f in forbidden}
            going = [d.unique_id for d in found if d.present and d.unique_id not in kept]
            wrong = (*findings, *missing, *forbidden)
            done = [d.unique_id for d in found if d.unique_id in going or (d.removed and not d.present)]
            if not done:
                raise Problem(wrong)
            context.objects = _with_patients(asked, found)
            outcome = Outcome.MINOR_FAILURE if wrong else Outcome.SUCCESS
            audit = context.audit(outcome, " ".join(sorted({f.code for f in wrong})))
            try:
                await self._store.remove_documents(going, self._repository, audit)
            except LostRace:
                continue
            context.audited = True
            return Removed(tuple(done), tuple(wrong))
        raise RetryLater("others keep changing what is to be removed")

    async def _removable(self, unique_ids: Sequence[str], context: Context) -> Sequence[RemovableDocument]:
        """What is not the caller's to remove is as if it had never been there."""
        found = await self._store.removable(unique_ids, self._repository)
        own = self._access.changes(context)
        if own is None:
            return found
        entries: dict[str, list[Sequence[str]]] = {}
        for unique_id, authors in await self._store.authors(unique_ids):
            entries.setdefault(unique_id, []).append(authors)
        return [
            d
            if d.unique_id in entries and all(_is_theirs(own, authors) for authors in entries[d.unique_id])
            else d._replace(patient_id="", present=False, removed=False)
            for d in found
        ]


def _is_theirs(own: Filter, authors: Sequence[str]) -> bool:
    return bool(shown(own, [DocumentFacts("", authors=tuple(authors))]))


def _named(submission: Submission, facts: UpdateFacts) -> set[str]:
    """The registered objects that an update names: ends of its associations, and versions of what it brings."""
    logical = {*(e.logical_id for e in submission.entries), *(f.logical_id for f in submission.folders)} - {None}
    named = {end for a in submission.associations for end in (a.source, a.target)}
    return {u for u, s in facts.objects.items() if u in named or getattr(s.value, "logical_id", None) in logical}


def _closed(named: Iterable[str], objects: Mapping[str, Standing], own: Filter | None) -> set[str]:
    """What of these the caller may not change: for them it is not there. Associations go by the documents they join."""
    if own is None:
        return set()

    def is_open(uuid: str) -> bool:
        match objects[uuid].value:
            case DocumentEntry() | SubmissionSet() as described:
                return bool(shown(own, [written_by(described)]))
            case Association() as association:
                ends = [end for end in (association.source, association.target) if end in objects]
                documents = [end for end in ends if objects[end].kind == "D"]
                return bool(documents) and all(map(is_open, documents))
            case _:
                return False

    return {uuid for uuid in named if uuid in objects and not is_open(uuid)}


def _held(folder: str, objects: Mapping[str, Standing]) -> list[DocumentEntry]:
    """The documents of a folder among these objects."""
    memberships = (s.value for s in objects.values() if isinstance(s.value, Association) and s.value.source == folder)
    members = (objects[m.target].value for m in memberships if m.target in objects)
    return [member for member in members if isinstance(member, DocumentEntry)]


def _unbound(entries: Iterable[DocumentEntry], allowed: Collection[str]) -> Iterator[Finding]:
    for entry in entries:
        if entry.repository_unique_id not in allowed:
            detail = "this sender is not bound to the repository that the entry names"
            where = f"DocumentEntry {entry.entry_uuid}: repositoryUniqueId"
            yield Finding("XDSRegistryMetadataError", detail, where)


def _not_theirs() -> Problem:
    return Problem([Finding("NotPermitted", "the caller may not do this here", reason="change: not the author")])


def _with_patients(asked: tuple[AuditObject, ...], values: Iterable[object]) -> tuple[AuditObject, ...]:
    """What an act is about, and the patients whom it concerns: they find it in their access log."""
    known = {o.identifier for o in asked if o.kind == "patient"}
    found = dict.fromkeys(getattr(value, "patient_id", None) or "" for value in values)
    return (*asked, *(AuditObject("patient", cx) for cx in found if cx and cx not in known))


def _plain(finding: Finding) -> Finding:
    code = PLAIN_CODES.get(finding.code)
    return finding if code is None else Finding(code, finding.detail, finding.location, warning=finding.warning)


def _with_final_ids(submission: Submission, new_uuid: Callable[[], str]) -> Submission:
    """As for a registration, but the objects keep the logicalID that they name."""
    final = with_final_ids(submission, new_uuid)
    replace = msgspec.structs.replace
    return replace(
        final,
        entries=tuple(
            replace(f, logical_id=e.logical_id and e.logical_id.lower())
            for f, e in zip(final.entries, submission.entries, strict=True)
        ),
        folders=tuple(
            replace(f, logical_id=e.logical_id and e.logical_id.lower())
            for f, e in zip(final.folders, submission.folders, strict=True)
        ),
    )
