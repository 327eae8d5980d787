"""What patients, and who acts for them, see and do by themselves, beside their records (docs/access.md).

All of it is the act ``log``, but for whom one acts: that is ``identify``. Nobody else may do any of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from obieg.actors.access_control import AccessControl
from obieg.actors.provider_directory import ProviderDirectory
from obieg.domain.access import Act, Permit
from obieg.domain.access_log import Access, AccessLogStore
from obieg.domain.audit import AuditLog, AuditObject, AuditQuestion
from obieg.domain.identifiers import PatientId
from obieg.domain.obligations import NOTICE
from obieg.domain.patient_portal import (
    Notice,
    NoticesAsked,
    PatientPortalStore,
    ReportAsked,
    Represented,
    RepresentedAsked,
    Reviewed,
    ReviewsAsked,
)
from obieg.domain.permits import Named
from obieg.domain.persons import Demographics
from obieg.domain.problems import Problem
from obieg.mapping.access_log import entry
from obieg.protocol import Context


class PatientPortal:
    """Answers the portal of patients."""

    def __init__(
        self,
        store: PatientPortalStore,
        log: AuditLog,
        names: AccessLogStore,
        directory: ProviderDirectory,
        *,
        access: AccessControl,
        assigning_authority: str,
    ) -> None:
        self._store = store
        self._log = log
        self._names = names
        self._directory = directory
        self._access = access
        self._authority = assigning_authority

    async def represented(self, _asked: RepresentedAsked, context: Context) -> Sequence[Represented]:
        """The caller, where they may act for themselves, then those for whom they may act now."""
        found = await self._store.represented(context.requester.person) if context.requester.person else ()
        seen = await self._access.see(Named(keys=[c.keys[0] for c in found]), context, Act.IDENTIFY)
        permits = {person.keys[0]: d for person, d in seen.decisions if isinstance(d, Permit)}
        people = [
            Represented(
                PatientId(candidate.id, self._authority),
                permit.bases[0],
                candidate.records[0] if candidate.records else Demographics(),
                permit.end(permit.bases[0]),
                candidate.unread,
            )
            for candidate in found
            if (permit := permits.get(candidate.keys[0])) and permit.bases
        ]
        context.objects = tuple(AuditObject("patient", str(each.patient)) for each in people)
        seen.told(context, shown=bool(people))
        await self._record(context)
        return people

    async def notices(self, asked: NoticesAsked, context: Context) -> Sequence[Notice]:
        """What the patient was told, newest first; or counts it as read. Raises Problem."""
        await self._access.expect(asked.patient, context, Act.LOG)
        if asked.read_until is not None:
            await self._store.read(asked.patient, asked.read_until, context.audit())
            context.audited = True
            return ()
        withheld = await self._names.withheld(asked.patient)
        found = await self._store.notices(asked.patient)
        said = [_unnamed(notice.said, withheld) for notice in found]
        named = [o for each in said for o in _organisations(each)]
        places = await self._directory.organisation_names(dict.fromkeys(named))
        people = await self._directory.practitioner_names(dict.fromkeys(p for each in said for p in _nameless(each)))
        await self._record(context)
        return [
            msgspec.structs.replace(notice, said=_named(each, people), organisation_name=_place(each, places))
            for notice, each in zip(found, said, strict=True)
        ]

    async def report(self, asked: ReportAsked, context: Context) -> None:
        """An entry of the log becomes a line of the officer's worklist. Raises Problem."""
        await self._access.expect(asked.patient, context, Act.LOG)
        names = await self._log.names((str(asked.patient),))
        rows = await self._log.find(AuditQuestion(patients=names, ids=(asked.entry,)), 1)
        if not rows or rows[0].transaction == NOTICE:
            raise Problem.of("AddressNotFound", "the log of this patient has no such entry", "http.entry")
        found: Access = entry(rows[0])
        await self._store.report(asked, found, context.requester.person, context.audit())
        context.audited = True

    async def reviews(self, asked: ReviewsAsked, context: Context) -> Sequence[Reviewed]:
        """What the officer looks at, or has looked at. Raises Problem."""
        await self._access.expect(asked.patient, context, Act.LOG)
        withheld = await self._names.withheld(asked.patient)
        found = await self._store.reviews(asked.patient)
        await self._record(context)
        return [msgspec.structs.replace(r, professional="") if r.professional in withheld else r for r in found]

    async def _record(self, context: Context) -> None:
        await self._store.record(context.audit())
        context.audited = True


def _unnamed(said: dict[str, Any], withheld: frozenset[str]) -> dict[str, Any]:
    """Without the name of who is in ``withheld``."""
    if not {said.get("person"), said.get("acting_for")} & withheld:
        return said
    kept = {key: value for key, value in said.items() if key not in ("person", "name", "acting_for", "acting_for_name")}
    return {**kept, "withheld": True}


_NAMES = (("person", "name"), ("acting_for", "acting_for_name"))


def _nameless(said: Mapping[str, Any]) -> list[str]:
    """Who stands in it by a number alone."""
    return [said[person] for person, name in _NAMES if said.get(person) and not said.get(name)]


def _named(said: Mapping[str, Any], people: Mapping[str, str]) -> dict[str, Any]:
    """With the names that a directory has of these."""
    found = {name: people.get(said.get(person, ""), "") for person, name in _NAMES}
    return {**{name: value for name, value in found.items() if value}, **said}


def _organisations(said: Mapping[str, Any]) -> list[str]:
    """Where it was done: the facility of who did it, or authors of a document."""
    return [o for o in (said.get("organisation", ""), *said.get("organisations", ())) if o]


def _place(said: Mapping[str, Any], places: Mapping[str, str]) -> str:
    return next((places[o] for o in _organisations(said) if places.get(o)), "")
