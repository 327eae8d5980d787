"""Erasing what nothing keeps any more: by the removals of ITI-86 and ITI-62, under the rules of retention, audited.

Of one person after another: first the bytes, whose keys go, then the metadata. Ended in between, the same list can be
given again; what is gone is passed over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from obieg.actors.document_lifecycle import DocumentLifecycle, DocumentRemoval
from obieg.actors.document_repository import DocumentRequest
from obieg.actors.retention import KeptByLaw
from obieg.domain.affinity_domain import polish
from obieg.domain.documents import Association, AssociationType
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.removing import Removal, Standing
from obieg.domain.requester import Requester
from obieg.domain.retention import KeptDocument, Person, Term, keepers, term
from obieg.ops.accounts import os_user
from obieg.ops.index_access import Access
from obieg.ops.wiring import new_uuid
from obieg.ops.wiring_patients import utc_now
from obieg.protocol import Context
from obieg.storage.lifecycle_store import PostgresLifecycle
from obieg.storage.retention_store import PostgresRetention
from obieg.transactions import TRANSACTIONS

PAGE_SIZE = 200  # persons


class Judged(NamedTuple):
    """A document with the period for which it is kept."""

    patient: str  # CX
    document: KeptDocument
    term: Term
    may_go: bool

    @property
    def facilities(self) -> tuple[str, ...]:
        """Whose document it is; "unknown" where it names no entity."""
        return tuple(sorted(keepers(self.document.authors))) or ("unknown",)


class Erased(NamedTuple):
    """What became of a document."""

    unique_id: str
    patient: str
    done: bool
    why: str = ""  # it was not


async def judged(access: Access, today: date) -> AsyncIterator[Judged]:
    """Every registered document, person by person."""
    store = PostgresRetention(access.database)
    after = -1
    while page := await store.page(after, PAGE_SIZE):
        after = page[-1]
        persons = await store.persons(page)
        for key in page:
            for one in _of_person(access, persons[key], today):
                yield one


def _of_person(access: Access, person: Person, today: date) -> Iterable[Judged]:
    for document in person.known.documents:
        found = term(document, person.known)
        yield Judged(str(PatientId(person.id, access.authority)), document, found, found.may_go(today))


class Eraser:
    """Removes as a document administrator of the region's own would."""

    def __init__(self, access: Access) -> None:
        identity = access.settings.identity
        self._repository = identity.repository_unique_id
        self._store = PostgresLifecycle(access.database, access.audit, assigning_authority=access.authority)
        self._marks = PostgresRetention(access.database)
        self._retention = KeptByLaw(self._marks, now=utc_now)
        home = f"urn:oid:{identity.home_community_id}"
        self._bytes = DocumentRemoval(
            self._store, self._retention, repository_unique_id=self._repository, home_community_id=home
        )
        self._metadata = DocumentLifecycle(
            self._store,
            self._retention,
            codes=polish(),
            assigning_authority=access.authority,
            home_community_id=home,
            allow_limited_metadata=True,
            new_uuid=new_uuid,
        )
        self._requester = Requester(system="command line", person=os_user(), repositories=None)

    async def erase(self, patient: str, named: Mapping[str, str]) -> list[Erased]:
        """Erases documents of one person, by entryUUID: their uniqueIds. What must be kept stays. Raises Problem."""
        objects = await self._store.standing(sorted(named))
        kept = await self._kept(patient, named, objects)
        going = [u for u in named if u not in kept]
        stored = sorted({named[u] for u in going})
        there = [d.unique_id for d in await self._store.removable(stored, self._repository) if d.present]
        if there:
            requests = [
                DocumentRequest(unique_id=unique_id, repository_unique_id=self._repository, home_community_id="")
                for unique_id in there
            ]
            await self._bytes.remove(requests, self._context("ITI-86", requests))
        if going:
            uuids = await self._whole(going)
            await self._metadata.remove(uuids, self._context("ITI-62", uuids))
        if (cx := patient_id(patient)) is not None:
            await self._marks.forget_contents(cx)  # also what a run that was ended has left
        return [Erased(named[u], patient, u not in kept, kept.get(u, "")) for u in named]

    async def _kept(self, patient: str, named: Mapping[str, str], objects: Mapping[str, Standing]) -> dict[str, str]:
        """Which of them stay, and why."""
        kept = {u: "it is not registered any more" for u in named if u not in objects}
        by_unique_id: dict[str, set[str]] = {}
        for uuid, standing in objects.items():
            if standing.kind == "D":
                by_unique_id.setdefault(standing.value.unique_id or "", set()).add(uuid)  # type: ignore[union-attr]
                repository = getattr(standing.value, "repository_unique_id", None)
                on_demand = getattr(standing.value, "size", None) is None
                if uuid in named and repository != self._repository and not on_demand:
                    kept[uuid] = f"its bytes lie in repository {repository}, which must erase them first (ITI-86)"
        removals = [Removal("D", uuid, patient, self._requester) for uuid in named if uuid not in kept]
        kept |= {f.location: f.detail for f in await self._retention.forbids(removals)}
        for uuid, unique_id in named.items():
            if uuid not in kept and any(v not in named or v in kept for v in by_unique_id[unique_id]):
                kept[uuid] = "another version of it stays"
        return kept

    async def _whole(self, uuids: Sequence[str]) -> list[str]:
        """With them the associations at them, and the folders and submission sets that would be left empty."""
        going = dict.fromkeys(uuids)
        while True:
            before = len(going)
            objects = await self._store.standing(list(going))
            links = {u: s.value for u, s in objects.items() if isinstance(s.value, Association)}
            going |= dict.fromkeys(u for u, a in links.items() if a.source in going or a.target in going)
            containers = {
                a.source for a in links.values() if a.type is AssociationType.HAS_MEMBER and a.source in objects
            }
            # What stands at a container is known once it is named itself.
            around = await self._store.standing(sorted(containers - going.keys()))
            going |= dict.fromkeys(_emptied(containers - going.keys(), around, going))
            if len(going) == before:
                return list(going)

    def _context(self, transaction: str, asked: object) -> Context:
        found = next(t for t in TRANSACTIONS if t.id == transaction)
        context = Context(found, self._requester, new_uuid(), utc_now(), source_user=self._requester.person)
        context.objects = found.audit(asked)
        return context


def _emptied(containers: Collection[str], objects: Mapping[str, Standing], going: Collection[str]) -> list[str]:
    """The folders and sets all of whose members go."""
    members: dict[str, list[str]] = {}
    for uuid, standing in objects.items():
        if isinstance(standing.value, Association) and standing.value.type is AssociationType.HAS_MEMBER:
            members.setdefault(standing.value.source, []).append(uuid)
    return [c for c in containers if c in members and all(uuid in going for uuid in members[c])]
