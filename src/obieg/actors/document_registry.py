"""The Document Registry: registers submissions and answers stored queries (ITI TF-1:10.1.1.3).

A registration takes two round trips: one that reads what the submission is judged by, one that stores everything with
its audit row. What may have changed in between is guarded in the write; a lost race is answered like the plain case, by
reading again. Between the two it is asked what a person's submission may refer to of what is registered: one more round
trip, and one for each patient concerned, only where it refers to what is registered and access is enforced.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from obieg.actors.access_control import AccessControl, Seen
from obieg.domain.audit import AuditEvent, AuditObject
from obieg.domain.documents import Association, AssociationType, DocumentEntry, EntryType, Submission
from obieg.domain.identifiers import PatientId, is_uuid_urn, patient_id
from obieg.domain.own_documents import check_mark
from obieg.domain.permits import Named
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.queries import SEARCHES, DocumentSearch, FoundResources, QueryAnswer, StoredQuery, by_ids
from obieg.domain.registry import (
    Facts,
    FoundObject,
    FoundResource,
    KnownObject,
    KnownPatient,
    LostRace,
    NewRendering,
    Registration,
    RegistryStore,
    SearchRow,
    Snapshot,
    StandingFolder,
    StoredDocument,
    TooMany,
)
from obieg.domain.rules import Codes, check_entry_types, check_submission
from obieg.domain.sight import Sight
from obieg.mapping.bppc import permitting
from obieg.mapping.ebrim import read_rendering
from obieg.mapping.fhir_documents import Renderer
from obieg.mapping.kos import opening
from obieg.mapping.mhd_search import with_schemes
from obieg.protocol import Context

# How often a registration is decided anew when others change what it relies on.
ATTEMPTS_MAX = 5
# Resources that stand beside those found on one page (_include, _revinclude).
INCLUDED_MAX = 1000
# Renderings in FHIR that are made on the event loop; more are made in a thread.
RENDERED_AT_ONCE = 20
# Of a question for several patients: how many are asked about in one round trip, and how many it may be about that it
# does not name.
PATIENTS_AT_ONCE = 50
CANDIDATES_MAX = 1_000
_encode = msgspec.json.Encoder().encode


class Brought(NamedTuple):
    """What the repository of this node brings with a submission.

    ``store`` puts the documents into the document store: while the registry is asked, when nothing speaks against the
    submission itself. They are recorded in the same commit (ITI-41 on one node); of what the registry's content refuses
    only encrypted bytes are left, which nothing names and compaction takes back. With ``snapshot`` this is the
    registration, within another request, of an on-demand document that has just been made.
    """

    store: Callable[[], Coroutine[Any, Any, tuple[StoredDocument, ...]]]
    fingerprint: bytes = b""  # of the request as received, where the submission was completed; b"": of the submission
    limited: bool = False  # the transaction allows limited metadata, whatever the node does
    absent: tuple[str, ...] = ()  # uniqueIds that nobody may have registered meanwhile
    snapshot: Snapshot | None = None


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
        renderer: Renderer | None = None,
        access: AccessControl | None = None,
    ) -> None:
        self._store = store
        self._access = access or AccessControl()
        self._renderer = renderer or Renderer()
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
        entry_type: EntryType = EntryType.STABLE,
        brought: Brought | None = None,
    ) -> tuple[Finding, ...]:
        """Stores a submission; what comes back are warnings. Raises Problem with all findings.

        All its entries must be of ``entry_type``. ``found_already`` is what was wrong with the message itself: it
        refuses the submission, together with everything else that is wrong with it. A snapshot that is ``brought`` has
        an audit record of its own, and raises LostRace when another snapshot has become the latest one.
        """
        # Documents that this node stores itself are for its own repository.
        unbound = [] if brought is not None else list(self._check_repositories(submission, context))
        limited = self._allow_limited or (brought is not None and brought.limited)
        if context.large:
            wrong, fingerprint = await asyncio.to_thread(self._examine, submission, limited)
        else:
            wrong, fingerprint = self._examine(submission, limited)
        if brought is not None and brought.fingerprint:
            fingerprint = brought.fingerprint
        marked = [*check_mark(submission, context.transaction.permission)]
        marked += unvouched(submission.entries, self._access, context)
        findings = [*found_already, *wrong, *unbound, *marked, *check_entry_types(submission, entry_type)]
        storing = None if findings or brought is None else asyncio.ensure_future(brought.store())
        try:
            return await self._decide(
                submission, context, findings, fingerprint, storing, brought, repeatable=not unbound
            )
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
        brought: Brought | None,
        *,
        repeatable: bool,
    ) -> tuple[Finding, ...]:
        """Reads what the registry knows, judges, stores; again when others were faster."""
        absent, snapshot = (brought.absent, brought.snapshot) if brought is not None else ((), None)
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
            referable = None if snapshot is not None else await self._referable(final, references, facts, context)
            problems = [*findings, *self._check_against(final, patient, facts, referable)]
            if problems and snapshot is not None and not findings:
                raise LostRace("another snapshot of this on-demand entry was registered meanwhile")
            if problems and looked_up:
                raise Problem(problems)
            if problems:
                # A repetition may be at odds with nothing but its own first time: what it replaces is deprecated now.
                uniques, references, looked_up = _unique_ids(final), _all_references(final, submission), True
                continue
            assert facts.patient is not None  # noqa: S101 - _check_against has seen to it
            documents = await storing if storing is not None else ()
            registration = _plan(final, facts, fingerprint, context.received_at, self._new_uuid, documents)
            if context.large or absent:
                registration = registration._replace(large=context.large, absent=absent)
            if snapshot is not None:
                await self._store.register(registration._replace(snapshot=snapshot), _audit_of_snapshot(final, context))
                return ()
            try:
                await self._store.register(registration, context.audit())
            except LostRace:
                # The next round names what is wrong.
                uniques, references, looked_up = _unique_ids(final), _all_references(final, submission), True
                continue
            context.audited = True
            return ()
        raise RetryLater("others keep changing what this submission relies on")

    def _examine(self, submission: Submission, limited: bool) -> tuple[list[Finding], bytes]:  # noqa: FBT001 - for to_thread
        """What is wrong with it by itself, and its fingerprint."""
        wrong = list(check_submission(submission, self._codes, allow_limited=limited))
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

    async def referable(
        self,
        documents: Sequence[str],
        context: Context,
        joined: Sequence[Collection[str]] = (),
        others: Sequence[str] = (),
    ) -> Mapping[str, bool] | None:
        """Which of these objects the caller's submission may refer to: :meth:`AccessControl.referable`."""
        return await self._access.referable(context.requester, documents, context.received_at, joined, others)

    async def _referable(
        self, final: Submission, references: Sequence[str], facts: Facts, context: Context
    ) -> Mapping[str, bool] | None:
        documents, others = list[str](), list[str]()
        for uuid in references:
            if (known := facts.objects.get(uuid)) is not None:
                (documents if known.kind == "D" else others).append(uuid)
        return await self.referable(documents, context, joined(final) if len(documents) > 1 else (), others)

    def _check_against(
        self, submission: Submission, patient: PatientId | None, facts: Facts, referable: Mapping[str, bool] | None
    ) -> Iterator[Finding]:
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
            yield from _check_association(association, own, facts, referable)
        on_demand = {e.entry_uuid: e.entry_type is EntryType.ON_DEMAND for e in submission.entries}
        on_demand |= {
            uuid: not known.stable
            for uuid, known in facts.objects.items()
            if known.kind == "D" and (referable is None or uuid in referable)
        }
        for association in submission.associations:
            if association.type is AssociationType.IS_SNAPSHOT_OF:
                yield from _check_snapshot(association, on_demand)

    async def known(self, *, uuids: Sequence[str] = (), unique_ids: Sequence[str] = ()) -> Facts:
        """What stands under entryUUIDs (urn:uuid:) and uniqueIds."""
        return await self._store.facts(None, references=uuids, unique_ids=unique_ids)

    async def folder(self, entry_uuid: str) -> StandingFolder | None:
        """A registered folder by its urn:uuid:."""
        return await self._store.folder(entry_uuid)

    def with_schemes(self, search: DocumentSearch) -> dict[str, Any]:
        """The parameters of a search, with codes as this registry keeps them."""
        return with_schemes(search, self._renderer.domain)

    # finding ----------------------------------------------------------------------------------------------------

    async def find(self, query: StoredQuery, context: Context) -> QueryAnswer:
        """Objects for LeafClass, entryUUIDs for ObjectRef. Raises Problem.

        A patient who is not known here is answered like one without documents.
        """
        find = self._find_of_several if query.candidates else self._find
        return QueryAnswer(await find(query, context), self.home_community_id, self.assigning_authority)

    async def _find(self, query: StoredQuery, context: Context) -> list[FoundObject] | list[str]:
        named = _named(query)
        kept = self._access.kept(named, context)
        if kept is not None:
            with contextlib.suppress(LostRace):  # it does not hold any more
                return await self._found(query, context, kept)
        return await self._found(query, context, await self._access.see(named, context))

    async def _found(self, query: StoredQuery, context: Context, seen: Seen) -> list[FoundObject] | list[str]:
        limit = self._results_max
        seen.refused(context, self.assigning_authority)
        # Whom a question names stands in its record, in the same round trip; whom an answer names is known then. So
        # is whether an author is one: who has written nothing is recorded, and counted, as one without a basis.
        ahead = query.patient is not None and seen.open
        if ahead:
            seen.told(context)
        audit = context.audit() if ahead else None
        if query.patient is not None and query.patient.authority != self.assigning_authority:
            query = msgspec.structs.replace(query, parameters={**query.parameters, "value": "", "authority": ""})
        result: list[FoundObject] | list[str]
        try:
            if query.only_status_and_type and not query.leaf and audit is not None:
                result = await self._store.find_ids(
                    query.parameters, audit, limit, seen.sight, old_versions=query.old_versions
                )
                found = []
            else:
                found = await self._store.find(
                    query.question, query.parameters, audit, limit, seen.sight, old_versions=query.old_versions
                )
                result = found if query.leaf else [f.entry_uuid for f in found]
        except TooMany:
            raise self._too_many() from None
        if audit is None and len(found) > limit:
            raise self._too_many()
        if audit is None and query.patient is not None:
            seen.told(context, shown=bool(result))
            await self._store.record(context.audit())
        elif audit is None:
            if query.leaf and len({f.patient_id for f in found if f.patient_id}) > 1:
                raise Problem.of(
                    "XDSResultNotSinglePatient",
                    "the objects asked for belong to more than one patient: ask for ObjectRef, or for each by itself",
                )
            listed = dict.fromkeys(f.patient_id for f in found if f.patient_id)
            seen = seen.of(listed)
            seen.told(context)
            patients = (AuditObject("patient", str(PatientId(p, self.assigning_authority))) for p in listed)
            context.objects = (*patients, *context.objects)
            await self._store.record(context.audit())
        if not result:
            seen.told(context, shown=False)
        context.audited = True
        return result

    async def shows(self, patient: PatientId, seen: Seen) -> bool:
        """Whether any document of the patient may be seen."""
        if seen.sight.permitted == ():
            return False
        question = {**SEARCHES["search_documents"], "patients": [f"{patient.authority}\x1e{patient.value}"], "count": 1}
        [page] = await self._store.search([("search_documents", question)], self._renderer.version, None, seen.sight)
        return bool(page.rows)

    async def newest(self, query: StoredQuery, count: int, sight: Sight) -> tuple[list[FoundObject], bool]:
        """The first objects of an answer and whether there are more; whoever asks records what came of it."""
        found = await self._store.find(query.question, query.parameters, None, count, sight)
        return found[:count], len(found) > count

    async def search(self, query: DocumentSearch, context: Context) -> FoundResources:
        """One page of what fits search parameters, in FHIR. Renderings that are not stored are made and stored.

        A patient who is not known here is answered like one without documents.
        """
        named = _sought(query)
        kept = self._access.kept(named, context)
        if kept is not None:
            with contextlib.suppress(LostRace):  # it does not hold any more
                return await self._page(query, context, kept)
        return await self._page(query, context, await self._access.see(named, context))

    async def _page(self, query: DocumentSearch, context: Context, seen: Seen) -> FoundResources:
        seen.refused(context, self.assigning_authority)
        foreign = any(p.authority != self.assigning_authority for p in query.patients)
        # Whom a question is about stands in its audit row: if it names them by their ids here, in the same round trip.
        known = bool(query.patients) and not foreign
        ahead = known and len(query.patients) == 1 and seen.open  # as of a stored query
        if ahead:
            seen.told(context)
        audit = context.audit() if ahead else None
        version = self._renderer.version
        parameters = {**with_schemes(query, self._renderer.domain), "count": query.count + 1}
        [page] = await self._store.search([(query.question, parameters)], version, audit, seen.sight)
        sight = seen.sight._replace(known=())  # it stood when the page was read: what belongs to the page is of then
        rows, more = page.rows[: query.count], len(page.rows) > query.count
        found = await self._rendered(rows)
        if not known:
            seen = seen.of({f.patient_id for f in found})
            patients = dict.fromkeys(f"{f.patient_id}^^^&{self.assigning_authority}&ISO" for f in found)
            context.objects = (*(AuditObject("patient", p) for p in patients), *context.objects)
        if known and not ahead:
            shown = {f.patient_id for f in found}
            asked = dict.fromkeys(query.patients)
            await self._store.record_each([self._audit_of(p, context, seen, shown) for p in asked])
        seen.told(context, shown=bool(found))
        if not known:
            await self._store.record(context.audit())
        context.audited = True
        included, capped = await self._included(query, found, sight) if query.include and found else ((), False)
        after = (rows[-1].position, rows[-1].found.entry_uuid) if more and rows else None
        return FoundResources(page.total, found, included, after, capped)

    async def _included(
        self, query: DocumentSearch, found: tuple[FoundResource, ...], sight: Sight
    ) -> tuple[tuple[FoundResource, ...], bool]:
        """What those found refer to, and what refers to them: one step, never further."""
        wanted: dict[str, str] = {}  # entryUUID -> kind
        for one in found:
            for relation in one.relations:
                kind, _, target = relation.partition(" ")
                if "members" in query.include and kind in ("D", "F"):
                    wanted.setdefault(target, kind)
                elif "relations" in query.include and kind not in ("D", "F"):
                    wanted.setdefault(target, "D")
        lists, documents = "holders" in query.include, "relating" in query.include
        if lists or documents:
            uuids = [one.entry_uuid for one in found]
            for kind, uuid in await self._store.referring(uuids, sight, lists=lists, documents=documents):
                wanted.setdefault(uuid, kind)
        for one in found:
            wanted.pop(one.entry_uuid, None)
        taken = dict(list(wanted.items())[:INCLUDED_MAX])
        return await self.resources(taken, sight), len(wanted) > len(taken)

    async def shown(self, kinds: Mapping[str, str], context: Context) -> tuple[FoundResource, ...]:
        """As :meth:`resources`, what the caller may see of them."""
        seen = await self._access.see(Named(uuids=[*kinds]), context)
        found = await self.resources(kinds, seen.sight)
        seen.of({f.patient_id for f in found}).told(context)
        return found

    async def resources(self, kinds: Mapping[str, str], sight: Sight) -> tuple[FoundResource, ...]:
        """What stands under entryUUIDs (without urn:uuid:), in FHIR; each with its kind: D, or S or F.

        For whoever records by itself what it does with the answer.
        """
        questions = []
        for question, some in (("search_documents", "D"), ("search_lists", "SF")):
            if uuids := [uuid for uuid, kind in kinds.items() if kind in some]:
                questions.append((question, {**by_ids(question, uuids), "count": len(uuids)}))
        if not questions:
            return ()
        pages = await self._store.search(questions, self._renderer.version, None, sight)
        return await self._rendered([row for page in pages for row in page.rows])

    async def _rendered(self, rows: list[SearchRow]) -> tuple[FoundResource, ...]:
        missing = [row for row in rows if not row.found.rendering]
        if not missing:
            return tuple([row.found for row in rows])
        if len(missing) > RENDERED_AT_ONCE:
            made = await asyncio.to_thread(self._render, missing)
        else:
            made = self._render(missing)
        await self._store.save_renderings(list(made.values()))
        return tuple(
            [
                r.found if r.found.rendering else r.found._replace(rendering=made[r.found.entry_uuid].content)
                for r in rows
            ]
        )

    def _render(self, rows: list[SearchRow]) -> dict[str, NewRendering]:
        made = {}
        for row in rows:
            found, ebrim = row.found, row.ebrim or b""
            value: Any = read_rendering(found.kind, ebrim, found.status, row.version)
            content = self._renderer.render(value, row.registered_at)
            made[found.entry_uuid] = NewRendering(
                row.patient_key, found.entry_uuid, self._renderer.version, content, ebrim
            )
        return made

    async def _find_of_several(self, query: StoredQuery, context: Context) -> list[FoundObject] | list[str]:
        """Asks for one patient after another (ITI-51), so that every question goes by a patient's keys.

        Each patient's access log has a record of its own, which names nobody else: of those whom the query names, or,
        when it names nobody, of those whose objects are answered.
        """
        own = [p for p in dict.fromkeys(query.patients) if p.authority == self.assigning_authority]
        if not query.patients:
            values = await self._store.candidates(query.candidates, query.parameters, CANDIDATES_MAX)
            if len(values) > CANDIDATES_MAX:
                raise Problem.of(
                    "XDSTooManyResults",
                    f"more than {CANDIDATES_MAX} patients have such objects: name patients, or ask for rarer codes",
                )
            own = [PatientId(value, self.assigning_authority) for value in sorted(values)]
        seen = await self._access.see(Named(own), context)
        found: dict[str, FoundObject] = {}
        for start in range(0, len(own), PATIENTS_AT_ONCE):
            asked = own[start : start + PATIENTS_AT_ONCE]
            for each in await self._store.find_of_each(
                query.question, query.parameters, asked, self._results_max, seen.sight
            ):
                found.setdefault(each.entry_uuid, each)
            if len(found) > self._results_max:
                raise self._too_many()
        answered = dict.fromkeys(f.patient_id for f in found.values())
        concerned = query.patients or [PatientId(p, self.assigning_authority) for p in answered]
        # Not with the questions: that the answer is not too large is known only after the last of them.
        records = [self._audit_of(p, context, seen, answered) for p in dict.fromkeys(concerned)] or [context.audit()]
        await self._store.record_each(records)
        context.audited = True
        (seen if query.patients else seen.of(answered)).told(context, shown=bool(found))
        return list(found.values()) if query.leaf else [*found]

    def _audit_of(self, patient: PatientId, context: Context, seen: Seen, shown: Collection[str | None]) -> AuditEvent:
        """The record of a request for several patients, for one of them; ``shown``: ids of whom anything is."""
        one = seen.of({patient.value})
        theirs = {id_ for person, _ in one.decisions for id_ in person.ids} or {patient.value}
        one.told(context, shown=not theirs.isdisjoint(shown))
        one.refused(context, self.assigning_authority)
        others = tuple(o for o in context.objects if o.kind != "patient")
        event = msgspec.structs.replace(context.audit(), objects=(AuditObject("patient", str(patient)), *others))
        context.refusal, context.concerned = "", ()
        return event

    def _too_many(self) -> Problem:
        return Problem.of(
            "XDSTooManyResults",
            f"the answer has more than {self._results_max} objects: narrow the query by status, type or time",
        )


def _audit_of_snapshot(submission: Submission, context: Context) -> AuditEvent:
    """The record of what a retrieval registers by the way: an ITI-42 of the same request."""
    sset = submission.submission_set
    objects = (AuditObject("patient", sset.patient_id or ""), AuditObject("submission_set", sset.unique_id or ""))
    return msgspec.structs.replace(context.audit(), transaction="ITI-42", event="import", objects=objects)


def _named(query: StoredQuery) -> Named:
    """Whom a stored query is about."""
    if query.patient is not None:
        return Named((query.patient,))
    asked = query.parameters
    return Named((), (*asked.get("uuids", ()), *asked.get("logical_ids", ())), asked.get("unique_ids", ()))


def _sought(query: DocumentSearch) -> Named:
    """Whom a search is about."""
    asked = query.parameters
    return Named(query.patients, asked["named_uuids"], asked["named_unique_ids"])


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


def unvouched(entries: Sequence[DocumentEntry], access: AccessControl, context: Context) -> Iterator[Finding]:
    """What is not the caller's to say, since what they may see would follow from it."""
    if access.enforced and context.requester.person:
        yield from opening(entries)
    if access.reads(context.requester):
        yield from permitting(entries)


def joined(submission: Submission) -> list[set[str]]:
    """Of what is registered, what the relationship associations of a submission or an update make one lineage.

    A new version is what it is a version of.
    """
    heads: dict[str, str] = {}
    named = {e.entry_uuid: e.logical_id or e.entry_uuid for e in submission.entries}

    def head(uuid: str) -> str:
        while heads.setdefault(uuid, uuid) != uuid:
            heads[uuid] = uuid = heads[heads[uuid]]
        return uuid

    for association in submission.associations:
        if association.type.relates_documents:
            source, target = (named.get(end, end) for end in (association.source, association.target))
            heads[head(source)] = head(target)
    own, groups = set(submission.ids), dict[str, set[str]]()
    for uuid in [*heads]:
        if uuid not in own:
            groups.setdefault(head(uuid), set()).add(uuid)
    return [group for group in groups.values() if len(group) > 1]


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
        standing = [known for known in facts.unique_ids.get(entry.unique_id or "", ()) if known.kind == "D"]
        on_demand = entry.entry_type is EntryType.ON_DEMAND
        if any(bool(known.hash) is on_demand for known in standing):  # only a document has a hash
            yield Finding(
                "XDSDuplicateUniqueIdInRegistry",
                f"uniqueId {entry.unique_id} belongs to {'a stable document' if on_demand else 'an on-demand entry'}",
                f"DocumentEntry {entry.entry_uuid}: uniqueId",
            )
        elif any(known.hash != (entry.hash or "").lower() for known in standing):
            yield Finding(
                "XDSNonIdenticalHash",
                f"document {entry.unique_id} is registered with another hash",
                f"DocumentEntry {entry.entry_uuid}: hash",
            )


def _check_association(
    association: Association, own: set[str], facts: Facts, referable: Mapping[str, bool] | None
) -> Iterator[Finding]:
    where = f"Association {association.entry_uuid}"
    for role, uuid in (("sourceObject", association.source), ("targetObject", association.target)):
        if uuid in own:
            continue
        known = facts.objects.get(uuid)
        replaced = association.type.replaces and role == "targetObject"
        closed = "" if known is None or referable is None else _closed(uuid, known, facts, referable, replaced=replaced)
        if known is None or closed:
            yield Finding("UnresolvedReferenceException", f"{role} {uuid} is not registered", where, reason=closed)
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


def _closed(uuid: str, known: KnownObject, facts: Facts, referable: Mapping[str, bool], *, replaced: bool) -> str:
    """Why what is registered is not there for whoever submits, for the record; "": they may refer to it."""
    if known.kind != "D" and facts.patient is not None and known.patient_key not in facts.patient.keys:
        return "refer: of another patient"
    if uuid not in referable:
        return "refer: not to be read"
    return "replace: not the author" if replaced and not referable[uuid] else ""


def _check_snapshot(association: Association, on_demand: Mapping[str, bool]) -> Iterator[Finding]:
    """IsSnapshotOf goes from a stable entry to an on-demand entry (ITI TF-3:4.2.2.2.5)."""
    where = f"Association {association.entry_uuid}"
    if on_demand.get(association.source, False):
        yield Finding("XDSRegistryMetadataError", "the source of IsSnapshotOf must be a stable entry", where)
    if not on_demand.get(association.target, True):
        yield Finding("XDSRegistryMetadataError", "the target of IsSnapshotOf must be an on-demand entry", where)


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
