"""The patient index: who is who (PIX, PDQ, XCPD and their FHIR forms; ITI TF-1 chapters 5, 8, 23, 24, 27, 38, 41).

One index behind many faces. What a feed does is decided in :mod:`obieg.domain.feeding`, how a question is answered in
:mod:`obieg.domain.searching`; this actor reads what they need, stores what follows, and audits both.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from obieg.actors.access_control import AccessControl
from obieg.domain.access import Act
from obieg.domain.audit import AuditObject
from obieg.domain.authorities import Authorities
from obieg.domain.feeding import Feeding
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Judgement, Matcher, Record, Verdict
from obieg.domain.notices import Subscribers
from obieg.domain.patient_index import PatientRecords, PatientStore, SavedSearch
from obieg.domain.patients import (
    Cancel,
    Candidate,
    Candidates,
    Continuation,
    CrossReferenceQuery,
    DemographicsQuery,
    Feeder,
    PatientFeed,
    PatientMatch,
    Question,
)
from obieg.domain.permits import Named
from obieg.domain.persons import Demographics
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.domain.requester import Requester
from obieg.domain.searching import fit, plan
from obieg.protocol import Context

ATTEMPTS_MAX = 8  # reads and writes of one act while others keep changing the same patient
PAUSE_MS = 4  # longest pause before the second attempt; it doubles with each, so that rivals miss one another
AFFINITY_DOMAIN_ID_LENGTH = 20  # base32 characters, 100 random bits
PAGE = 20  # patients on a page where the asker names no number
PAGE_MAX = 200
FOUND_MAX = 500  # patients that a question may list; more is answered as capped
RECORDS_MAX = 2_000  # records that are looked at to find them
SEARCH_TIME_S = 3600  # how long the later pages of an answer can be asked for
_GRADES = ((95, "certain"), (75, "probable"), (0, "possible"))
# The name of a search, and the position to go on at; without one: after those who were given last.
_CURSOR = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.([0-9]{1,6}))?")
_CONFLICT_PERCENT_MAX = 40  # of a pair in which a fact speaks against one person


def new_affinity_domain_id() -> str:
    """An opaque value: random, without meaning."""
    return base64.b32encode(secrets.token_bytes(13)).decode()[:AFFINITY_DOMAIN_ID_LENGTH]


def new_patient_key() -> int:
    """A random positive 63-bit number."""
    return secrets.randbelow(2**63 - 1) + 1


class PatientIndex:
    """Answers feeds and questions of all faces."""

    def __init__(
        self,
        store: PatientStore,
        *,
        assigning_authority: str,
        matcher: Matcher,
        authorities: Authorities,
        subscribers: Subscribers,
        home_community_id: str = "",
        new_id: Callable[[], str] = new_affinity_domain_id,
        new_key: Callable[[], int] = new_patient_key,
        access: AccessControl | None = None,
    ) -> None:
        self.home_community_id = home_community_id  # OID; told to other communities (XCPD)
        self._store = store
        self._access = access or AccessControl()
        self._authority = assigning_authority  # OID of the affinity domain
        self._matcher = matcher
        self._authorities = authorities
        self._feeding = Feeding(
            matcher=matcher,
            authorities=authorities,
            assigning_authority=assigning_authority,
            new_id=new_id,
            new_key=new_key,
            subscribers=subscribers,
        )

    # whom an identifier names -----------------------------------------------------------------------------------

    async def affinity_domain_id(self, identifier: PatientId) -> PatientId | None:
        """The affinity-domain id of the patient whom the identifier names; None where it names nobody (any more)."""
        standing = (await self._store.standing((identifier,))).get(identifier)
        if standing is None or standing.retired:
            return None
        return PatientId(standing.affinity_domain_id, self._authority)

    async def is_one_patient(self, one: PatientId, other: PatientId) -> bool:
        """Whether both name the same patient; an identifier that was merged away names the survivor."""
        found = await self._store.standing((one, other))
        return one in found and other in found and found[one].patient_key == found[other].patient_key

    async def cross_reference(self, query: CrossReferenceQuery, context: Context) -> tuple[PatientId, ...]:
        """All identifiers of the patient in the domains asked for: the sources' first, the affinity-domain id last.

        Raises Problem for an identifier that names nobody and for domains in which nobody has an identifier
        (ITI TF-2:3.9.4.2).
        """
        asked, authorities = query.identifier, query.authorities
        standing, known = await self._store.recognised(asked, (asked.authority, *authorities))
        if not await self._may_know((standing.patient_key,) if standing is not None else (), context):
            standing = None
        findings = []
        if standing is None or standing.retired:
            if self._knows(asked.authority, known):
                said, part = "no patient has this identifier", "1"
            else:
                said, part = "this region knows no patient of this assigning authority", "4"
            findings.append(Finding("UnknownKeyIdentifier", said, f"{query.identifier_location}-{part}"))
        locations = query.authority_locations or ("",) * len(authorities)
        for authority, location in zip(authorities, locations, strict=True):
            if not self._knows(authority, known):
                said = "this region knows no patient of this assigning authority"
                findings.append(Finding("UnknownKeyIdentifier", said, location))
        if findings or standing is None:
            raise Problem(findings)
        context.objects = about([PatientId(standing.affinity_domain_id, self._authority)], context.objects)
        found = await self._store.identifiers(
            patient_key=standing.patient_key, authorities=authorities, event=context.audit()
        )
        context.audited = True
        return self._ordered(found)

    async def described(self, patient: PatientId) -> Candidate | None:
        """As :meth:`read`, for whoever records by itself what it does with the answer."""
        standing = (await self._store.standing((patient,))).get(patient)
        if standing is None or patient.authority != self._authority:
            return None
        found = (await self._store.patients((standing.patient_key,))).get(standing.patient_key)
        if found is None:
            return None
        survivor = self._candidate(found, (), 100, "certain")
        if not standing.retired:
            return survivor
        return msgspec.structs.replace(survivor, patient=patient, active=False, replaced_by=survivor.patient)

    async def read(self, patient: PatientId, context: Context) -> Candidate | None:
        """The patient with this affinity-domain id; one who was merged is inactive. None where there is none."""
        standing = (await self._store.standing((patient,))).get(patient)
        if standing is None or patient.authority != self._authority:
            await self._may_know((), context)
            return None
        if not await self._may_know((standing.patient_key,), context):
            return None
        context.objects = ()
        context.objects = about([patient], context.objects)
        key = standing.patient_key
        found = (await self._store.patients((key,), context.audit())).get(key)
        context.audited = True
        if found is None:
            return None
        survivor = self._candidate(found, (), 100, "certain")
        if standing.affinity_domain_id == patient.value and not standing.retired:
            return survivor
        return Candidate(
            patient=patient,
            identifiers=(patient,),
            demographics=survivor.demographics,
            active=False,
            replaced_by=survivor.patient,
            version=survivor.version,
            updated_at=survivor.updated_at,
        )

    # who fits a description -------------------------------------------------------------------------------------

    async def search(self, query: DemographicsQuery, context: Context) -> Candidates:
        """The patients who fit, best first; raises Problem TooBroad where the question would list half the region."""
        await self._expect_authorities(query)
        queries = (query, *query.alternatives)
        context.objects = _asked_by(query.identifiers, context.objects)
        found_by = [await self._store.find(one, RECORDS_MAX) for one in dict.fromkeys(map(plan, queries))]
        records = [record for found in found_by for record in found]
        scores: dict[int, int] = {}
        names: dict[int, str] = {}
        for record in records:
            score = max(fit(one, record.demographics, record.identifiers) for one in queries)
            keys = {record.patient_key} if query.active is not False else set()
            if query.active is not True and record.stands_under != record.patient_key:
                keys.add(record.stands_under)  # one who was merged
            for key in keys:
                if score >= query.minimum_score and score > scores.get(key, 0):
                    scores[key] = score
                    name = record.demographics.name
                    names[key] = f"{name.family} {' '.join(name.given)}"
        ordered = sorted(scores, key=lambda key: (-scores[key], names[key], key))
        if query.authorities:
            ordered = await self._having(ordered[: FOUND_MAX + 1], query.authorities)
        capped = len(ordered) > FOUND_MAX or any(len(found) >= RECORDS_MAX for found in found_by)
        found = SavedSearch(
            _asker(context), tuple((key, scores[key]) for key in ordered[:FOUND_MAX]), query.authorities, capped
        )
        ids = {record.patient_key: record.affinity_domain_id for record in records} if query.active else None
        return await self._first_page(found, query.count, ids, context, query.cursor)

    async def answer(self, question: Question, context: Context) -> Candidates | None:
        """Whichever of the three is asked; None for a cancelled answer. Raises Problem."""
        match question:
            case Continuation():
                return await self.more(question.cursor, question.count, context)
            case Cancel():
                await self.cancel(question.cursor, context)
                return None
            case query:
                return await self.search(query, context)

    async def more(self, cursor: str, count: int, context: Context) -> Candidates:
        """The next page; raises Problem UnknownCursor for one that is too old, of somebody else, or never was."""
        search_id, start = _read_cursor(cursor)
        found = await self._store.advance_search(
            search_id, _asker(context), start=start, count=_size(count), seconds=SEARCH_TIME_S
        )
        if found is None or found.position > len(found.found):
            raise _unknown_cursor()
        return await self._page(found, found.position, count, search_id, None, context)

    async def cancel(self, cursor: str, context: Context) -> None:
        """Forgets a search whose other pages nobody wants."""
        self._access.decided_later(context)
        search_id, _ = _read_cursor(cursor)
        if not await self._store.forget_search(search_id, _asker(context)):
            raise _unknown_cursor()

    async def forget_searches(self) -> None:
        """Forgets the answers whose later pages can no longer be asked for."""
        await self._store.forget_old_searches(SEARCH_TIME_S)

    async def match(self, match: PatientMatch, context: Context) -> Candidates:
        """Who this may be, as the matcher judges it, best first (ITI-119, ITI-55)."""
        record = match.record
        context.objects = _asked_by(record.identifiers, context.objects)
        # An identifier that was merged away names nobody, so it speaks for nobody either.
        standings = await self._store.standing(record.identifiers)
        live = tuple(i for i in record.identifiers if i not in standings or not standings[i].retired)
        record = Record(live, record.demographics)
        near = await self._store.near(record.identifiers, self._matcher.blocks(record))
        judged: dict[int, Judgement] = {}
        for known in near:
            judgement = self._matcher.judge(record, known.record)
            best = judged.get(known.survivor_key)
            if best is None or _rank(judgement) > _rank(best):
                judged[known.survivor_key] = judgement
        wanted = {
            key: judgement
            for key, judgement in judged.items()
            if judgement.verdict is Verdict.SAME or (judgement.verdict is Verdict.UNDECIDED and not match.only_certain)
        }
        ordered = sorted(wanted, key=lambda key: _rank(wanted[key]), reverse=True)
        if match.only_certain and len(ordered) > 1:
            ordered = []  # two certain matches: neither is (FHIR Patient/$match, onlyCertainMatches)
        found = tuple((key, _percent(wanted[key])) for key in ordered[:FOUND_MAX])
        capped = len(ordered) > FOUND_MAX
        ids = {known.survivor_key: known.affinity_domain_id for known in near}
        return await self._first_page(SavedSearch(_asker(context), found, (), capped), match.count, ids, context)

    async def _expect_authorities(self, query: DemographicsQuery) -> None:
        if not query.authorities:
            return
        known = await self._store.known_authorities()
        locations = query.authority_locations or ("",) * len(query.authorities)
        findings = [
            Finding("UnknownKeyIdentifier", "this region knows no patient of this assigning authority", location)
            for authority, location in zip(query.authorities, locations, strict=True)
            if not self._knows(authority, known)
        ]
        if findings:
            raise Problem(findings)

    def _knows(self, authority: str, known: frozenset[str]) -> bool:
        listed = self._authorities.by_oid(authority) is not None
        return authority == self._authority or authority in known or listed

    async def _having(self, keys: Sequence[int], authorities: Sequence[str]) -> list[int]:
        """Those who have an identifier in one of the authorities."""
        found = await self._store.patients(keys) if keys else {}
        own = self._authority in authorities
        return [
            k for k in keys if k in found and (own or any(i.authority in authorities for i in found[k].identifiers))
        ]

    async def _first_page(
        self, found: SavedSearch, count: int, ids: Mapping[int, str] | None, context: Context, name: str = ""
    ) -> Candidates:
        search_id = ""
        known = await self._may_know([key for key, _ in found.found], context)
        if len(known) < len(found.found):  # that there are more is told to who may know all of them
            found = found._replace(found=tuple(one for one in found.found if one[0] in known), capped=False)
        if len(found.found) > _size(count):
            search_id = name or str(uuid.uuid4())
            await self._store.save_search(search_id, found._replace(position=_size(count)))
        return await self._page(found, 0, count, search_id, ids, context)

    async def _page(
        self,
        search: SavedSearch,
        start: int,
        count: int,
        search_id: str,
        ids: Mapping[int, str] | None,
        context: Context,
    ) -> Candidates:
        """One page, audited as it is read; ``ids`` are the affinity-domain ids where they are known already."""
        self._access.decided_later(context)  # what was found first was
        end = start + _size(count)
        scores = dict(search.found[start:end])
        if ids is None:
            ids = {key: p.affinity_domain_id for key, p in (await self._store.patients(tuple(scores))).items()}
        context.objects = about([PatientId(ids[key], self._authority) for key in scores if key in ids], context.objects)
        known = await self._store.patients(tuple(scores), context.audit())
        context.audited = True
        # Whoever was merged since the first page stays in the answer, as one who was replaced.
        found = [
            self._candidate(known[key], search.authorities, score, _grade(score))
            for key, score in scores.items()
            if key in known
        ]
        found = await self._with_mothers(found)
        cursor = f"{search_id}.{end}" if search_id and end < len(search.found) else ""
        return Candidates(tuple(found), len(search.found), search.capped, cursor, max(0, len(search.found) - end))

    async def _may_know(self, keys: Sequence[int], context: Context) -> Collection[int]:
        """Of these patients those whom the caller may know to be patients: somebody who acts as one, only their own."""
        if not self._access.depends(Act.IDENTIFY, context.requester):
            return keys
        seen = await self._access.see(Named(keys=keys), context, Act.IDENTIFY)
        return frozenset(seen.sight.permitted or ()).intersection(keys)

    async def _with_mothers(self, found: list[Candidate]) -> list[Candidate]:
        """A child whose mother is known by her number (PID-21) is told with her name, where nothing is said of it."""

        def mother_of(c: Candidate) -> PatientId | None:
            return c.demographics.mother if c.demographics.mother_name is None else None

        wanted = {mother for c in found if (mother := mother_of(c)) is not None}
        if not wanted:
            return found
        standings = {m: s for m, s in (await self._store.standing(tuple(wanted))).items() if not s.retired}
        known = await self._store.patients([s.patient_key for s in standings.values()]) if standings else {}
        names = {m: _view(known[s.patient_key], ()).name for m, s in standings.items() if s.patient_key in known}

        def named(c: Candidate) -> Candidate:
            mother = mother_of(c)
            name = names.get(mother) if mother is not None else None
            if name is None or not (name.family or name.given):
                return c
            return msgspec.structs.replace(c, demographics=msgspec.structs.replace(c.demographics, mother_name=name))

        return [named(c) for c in found]

    async def candidates(self, keys: Sequence[int]) -> Mapping[int, Candidate]:
        """The patients with these keys, for people who decide about them."""
        found = await self._store.patients(keys)
        return {key: self._candidate(known, (), 100, "certain") for key, known in found.items()}

    def _candidate(self, known: PatientRecords, authorities: Sequence[str], score: int, grade: str) -> Candidate:
        id_ = PatientId(known.affinity_domain_id, self._authority)
        identifiers = self._ordered({*known.identifiers, id_})
        if authorities:
            identifiers = tuple(i for i in identifiers if i.authority in authorities)
        return Candidate(
            patient=id_,
            identifiers=identifiers,
            demographics=_view(known, authorities),
            score=score,
            grade=grade,
            active=bool(known.records) and known.survivor_id is None,
            replaced_by=PatientId(known.survivor_id, self._authority) if known.survivor_id else None,
            version=known.version,
            updated_at=known.updated_at,
        )

    def _ordered(self, identifiers: Iterable[PatientId]) -> tuple[PatientId, ...]:
        """What sources call the patient, then national numbers, then the affinity-domain id."""

        def place(i: PatientId) -> tuple[int, str, str]:
            national = self._authorities.is_single(i.authority)
            return (2 if i.authority == self._authority else 1 if national else 0, i.authority, i.value)

        return tuple(sorted(identifiers, key=place))

    # feeds ------------------------------------------------------------------------------------------------------

    async def feed(self, feed: PatientFeed, context: Context, *, if_match: str = "") -> PatientId:
        """Takes in one feed message, audited in the same commit; the affinity-domain id of the patient it is about.

        ``if_match`` is the version that the patient whom the feed names first must have in that commit; "*": any.
        Raises Problem with everything that is wrong with it, RetryLater where others keep changing the same patient.
        """
        fed, feeder = context.objects, self.feeder(context.requester)
        blocks = self._feeding.blocks(feed)
        identifiers = (*feed.identifiers, *feed.merged)
        for attempt in range(ATTEMPTS_MAX):
            await pause(attempt)
            context.objects = fed
            expected = await self._expected((*feed.merged, *feed.identifiers)[0], if_match) if if_match else None
            facts = await self._store.facts(identifiers, blocks)
            change, patient, look = self._feeding.decide(feed, facts, blocks, feeder)
            if look:
                facts = await self._store.facts(identifiers, look)
                change, patient, look = self._feeding.decide(feed, facts, look, feeder)
            if look:
                continue  # the record was changed just now
            context.objects = about([patient], context.objects)
            if change is not None and expected is not None:
                change = change._replace(versions=tuple(sorted({*change.versions, expected})))
            try:
                if change is None:
                    await self._store.record(context.audit())
                else:
                    await self._store.store(change, context.audit())
            except LostRace:
                continue
            context.audited = True
            return patient
        raise RetryLater(f"the patient was changed by others {ATTEMPTS_MAX} times while this feed was taken in")

    def feeder(self, requester: Requester) -> Feeder:
        """Who feeds, and whether it is the one who gives out the affinity domain's ids."""
        feeder = self._access.feeder(requester)
        if feeder.bound and self._authorities.is_assigner(feeder.names, self._authority):
            return msgspec.structs.replace(feeder, region=True)
        return feeder

    async def _expected(self, identifier: PatientId, version: str) -> tuple[int, int]:
        """The patient whom the identifier names and its version; raises Problem where that is another one."""
        standing = (await self._store.standing((identifier,))).get(identifier)
        there = None
        if standing is not None and not standing.retired:
            there = (await self._store.patients((standing.patient_key,))).get(standing.patient_key)
        if there is None or version not in ("*", str(there.version)):
            raise Problem.of("VersionConflict", "the Patient is not of the version in If-Match", "http.If-Match")
        return there.patient_key, there.version


async def pause(attempt: int) -> None:
    """Before an act is tried again because others were faster."""
    if attempt:
        await asyncio.sleep(secrets.randbelow(PAUSE_MS << attempt) / 1000)


def about(patients: Sequence[PatientId], objects: tuple[AuditObject, ...]) -> tuple[AuditObject, ...]:
    """The audit record names patients by the affinity-domain id first, whatever the message called them."""
    details = objects[0].details if objects else ()
    first = {
        str(patient): AuditObject(kind="patient", identifier=str(patient), details=details) for patient in patients
    }
    return (*first.values(), *(o for o in objects if o.kind != "patient" or o.identifier not in first))


def _asked_by(identifiers: Iterable[PatientId], objects: tuple[AuditObject, ...]) -> tuple[AuditObject, ...]:
    """The objects of a question that says who is meant: whoever it finds, or may not be told of, it was about them."""
    return (*objects, *(AuditObject("patient", str(i)) for i in dict.fromkeys(identifiers) if i.authority))


def _view(known: PatientRecords, authorities: Sequence[str]) -> Demographics:
    """What is said of the patient: of each thing the newest word; a facility that asks gets its own first."""
    records = known.records
    if authorities:
        records = tuple(sorted(records, key=lambda r: all(i.authority not in authorities for i in r[0])))
    if len(records) == 1:
        return records[0][1]
    values: dict[str, object] = {}
    for _, demographics, _ in records:
        for name in Demographics.__struct_fields__:
            value = getattr(demographics, name)
            if name not in values and value not in ("", (), None):
                values[name] = value
    return msgspec.structs.replace(Demographics(), **values)


def _asker(context: Context) -> str:
    return f"{context.requester.organisation}|{context.requester.person}|{context.requester.system}"


def _size(count: int) -> int:
    return min(count, PAGE_MAX) if count > 0 else PAGE


def _read_cursor(cursor: str) -> tuple[str, int | None]:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise _unknown_cursor()
    return match[1], int(match[2]) if match[2] else None


def _unknown_cursor() -> Problem:
    said = (
        "this answer has no such page (any more): it was cancelled, is too old, or belongs to somebody else; ask anew"
    )
    return Problem.of("UnknownCursor", said)


def _rank(judgement: Judgement) -> tuple[bool, bool, float]:
    return judgement.verdict is Verdict.SAME, judgement.verdict is Verdict.UNDECIDED, judgement.score


def _percent(judgement: Judgement) -> int:
    if judgement.conflict:
        return min(judgement.percent, _CONFLICT_PERCENT_MAX)
    if judgement.verdict is Verdict.SAME:
        return max(judgement.percent, _GRADES[0][0])
    return min(judgement.percent, _GRADES[0][0] - 1)


def _grade(score: int) -> str:
    return next(grade for least, grade in _GRADES if score >= least)
