"""What must be kept, by the classes of the law: answers the port :class:`obieg.domain.removing.Retention`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from obieg.domain.problems import Finding
from obieg.domain.removing import Removal
from obieg.domain.retention import About, KeptDocument, Person, RetentionStore, Term, local_day, term


class KeptByLaw:
    """Lets go what nothing keeps any more; what nothing here describes is kept."""

    def __init__(self, store: RetentionStore, *, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    async def forbids(self, removals: Sequence[Removal]) -> Sequence[Finding]:
        """See the port. An object may go when all documents that it is about may."""
        contents = [r.identifier for r in removals if r.kind == "B"]
        objects = [r.identifier for r in removals if r.kind != "B"]
        about = [
            *(await self._store.contents(contents) if contents else ()),
            *(await self._store.objects(objects) if objects else ()),
        ]
        keys = sorted({a.patient_key for a in about if a.patient_key is not None})
        persons = await self._store.persons(keys) if keys else {}
        today = local_day(self._now())
        found: dict[str, Finding] = {}
        for one in about:
            if one.identifier in found or (one.patient_key is None and one.described_before):
                continue
            person = persons.get(one.patient_key or 0)
            kept = None if person is None else _term(one, person)
            if kept is None or not kept.may_go(today):
                found[one.identifier] = Finding("RemovalForbidden", _told(kept), one.identifier)
        known = {a.identifier for a in about}
        return [
            found.get(r.identifier) or Finding("RemovalForbidden", _told(None), r.identifier)
            for r in removals
            if r.identifier in found or r.identifier not in known
        ]


def _term(one: About, person: Person) -> Term | None:
    """Of the document that something is about; what is about none is as a document of its own."""
    if not one.document:
        if one.registered_at is None:
            return None
        return term(KeptDocument(one.identifier, "", one.registered_at), person.known)
    document = next((d for d in person.known.documents if d.entry_uuid == one.document), None)
    return None if document is None else term(document, person.known)


def _told(kept: Term | None) -> str:
    if kept is None:
        return "nothing here says since when it is kept, so it must be kept"
    if kept.holds:
        return f"it is held: {'; '.join(kept.holds)}"
    if kept.until is None:
        return f"it must be kept, for its end is not known: {kept.why}"
    return f"it must be kept until {kept.until}: {kept.why}"
