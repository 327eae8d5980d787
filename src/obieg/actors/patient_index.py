"""The patient index: which identifiers name which patient, and under which affinity-domain id (ITI TF-2:3.8, 3.9).

Rules. An identifier in the affinity domain's own authority is the affinity-domain id. For a patient who comes only with
others (PESEL, hospital numbers) the region allocates an opaque one that says nothing of the person. A known identifier
joins the feed to its patient and brings the feed's new identifiers along; identifiers of two patients in one feed are
refused, for that would be a merge. Every event of the feed creates what is unknown and updates what is known, because
sources repeat themselves and messages overtake one another.

A merge (A40, ITI TF-2:3.8.4.2) moves nothing: the subsumed patient is linked to the surviving one. The identifiers of
MRG-1 and the subsumed affinity-domain id are retired: they find and register nothing. Other identifiers of the subsumed
patient, which the source of the merge did not speak of, lead to the survivor. The standard lets no merge happen where
either id is unknown or already subsumed, where both are the same, or where they are of different domains (the list in
3.8.4.2.4, Document Registry); each of these is refused with its reason and creates nothing. A merge that was already
made as asked is acknowledged, since its source only missed the first acknowledgement.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterable, Mapping

from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import CrossReferenceQuery, FeedEvent, PatientFeed, PatientStore, Standing
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import LostRace
from obieg.protocol import Context

ATTEMPTS_MAX = 5  # reads and writes of one feed while others keep changing the same patient
AFFINITY_DOMAIN_ID_LENGTH = 20  # base32 characters, 100 random bits


def new_affinity_domain_id() -> str:
    """An opaque value: random, without meaning."""
    return base64.b32encode(secrets.token_bytes(13)).decode()[:AFFINITY_DOMAIN_ID_LENGTH]


def new_patient_key() -> int:
    """A random positive 63-bit number."""
    return secrets.randbelow(2**63 - 1) + 1


class PatientIndex:
    """Answers ITI-8 and ITI-9; the other faces of the index come beside it."""

    def __init__(
        self,
        store: PatientStore,
        *,
        assigning_authority: str,
        single_authorities: frozenset[str] = frozenset(),
        new_id: Callable[[], str] = new_affinity_domain_id,
        new_key: Callable[[], int] = new_patient_key,
    ) -> None:
        """``single_authorities``: OIDs of authorities that give a person one number (PESEL)."""
        self._store = store
        self._authority = assigning_authority  # OID of the affinity domain
        self._single = single_authorities
        self._new_id = new_id
        self._new_key = new_key

    async def affinity_domain_id(self, identifier: PatientId) -> PatientId | None:
        """The affinity-domain id of the patient whom the identifier names; None where it names nobody (any more)."""
        standing = (await self._store.standing((identifier,))).get(identifier)
        if standing is None or standing.retired:
            return None
        return PatientId(standing.affinity_domain_id, self._authority)

    async def cross_reference(self, query: CrossReferenceQuery, context: Context) -> tuple[PatientId, ...]:
        """All identifiers of the patient in the domains asked for, the affinity-domain id first (ITI TF-2:3.9.4.2).

        Raises Problem for an identifier that names nobody and for domains in which nobody has an identifier.
        """
        asked, authorities = query.identifier, query.authorities
        standing, known = await self._store.recognised(asked, (asked.authority, *authorities))
        known |= {self._authority}
        findings = []
        if standing is None or standing.retired:
            if asked.authority in known:
                said, part = "no patient has this identifier", "1"
            else:
                said, part = "this region knows no patient of this assigning authority", "4"
            findings.append(Finding("UnknownKeyIdentifier", said, f"{query.identifier_location}-{part}"))
        for authority, location in zip(authorities, query.authority_locations, strict=True):
            if authority not in known:
                said = "this region knows no patient of this assigning authority"
                findings.append(Finding("UnknownKeyIdentifier", said, location))
        if findings or standing is None:
            raise Problem(findings)
        self._about(PatientId(standing.affinity_domain_id, self._authority), context)
        found = await self._store.identifiers(
            patient_key=standing.patient_key, authorities=authorities, event=context.audit()
        )
        context.audited = True
        return tuple(sorted(found, key=lambda i: i.authority != self._authority))

    async def feed(self, feed: PatientFeed, context: Context) -> PatientId:
        """Takes in one feed message, audited in the same commit; the affinity-domain id of the patient it is about."""
        act = self._merge if feed.event is FeedEvent.MERGE else self._register
        fed = context.objects
        for attempt in range(ATTEMPTS_MAX):
            context.objects = fed
            try:
                patient = await act(feed, context, contended=attempt > 0)
            except LostRace:
                continue
            context.audited = True
            return patient
        raise RetryLater(f"the patient was changed by others {ATTEMPTS_MAX} times while this feed was taken in")

    async def _register(self, feed: PatientFeed, context: Context, *, contended: bool) -> PatientId:
        known = await self._store.standing(feed.identifiers)
        standing, findings = self._named(feed, known)
        own = [i for i in feed.identifiers if i.authority == self._authority]
        if len(own) > 1:
            findings.append(_finding(feed, own[1], "DuplicateKeyIdentifier", "a patient has one affinity-domain id"))
        elif standing is not None and own and own[0].value != standing.affinity_domain_id and own[0] not in known:
            said = "the other identifiers' patient has another affinity-domain id; send A40 if they are one person"
            findings.append(_finding(feed, own[0], "DuplicateKeyIdentifier", said))
        added = tuple(i for i in feed.identifiers if i not in known)
        singular = tuple(i for i in added if i.authority in self._single)
        if singular:
            # What the patient holds is read only when the write has found that something is in its way.
            findings += await self._second_numbers(feed, singular, standing if contended else None)
        if findings:
            raise Problem(findings)
        if standing is None:
            patient = own[0] if own else PatientId(self._new_id(), self._authority)
            self._about(patient, context)
            await self._store.create(
                patient_key=self._new_key(), affinity_domain_id=patient, feed=feed, event=context.audit()
            )
            return patient
        patient = PatientId(standing.affinity_domain_id, self._authority)
        self._about(patient, context)
        await self._store.update(
            patient_key=standing.patient_key, added=added, single=singular, feed=feed, event=context.audit()
        )
        return patient

    async def _second_numbers(
        self, feed: PatientFeed, singular: tuple[PatientId, ...], standing: Standing | None
    ) -> list[Finding]:
        """A person has one PESEL: another under a known number means that somebody else is meant by one of them."""
        authorities = {i.authority for i in singular}
        held = {i for i in feed.identifiers if i.authority in authorities} - {singular[0]}
        if standing is not None:
            held |= set(await self._store.held(standing.patient_key, sorted(authorities)))
        said = "the patient whom the other identifiers name has another number in this authority; nothing was joined"
        return [
            _finding(feed, i, "DuplicateKeyIdentifier", said)
            for i in singular
            if any(h.authority == i.authority and h != i for h in held)
        ]

    async def _merge(self, feed: PatientFeed, context: Context, *, contended: bool) -> PatientId:  # noqa: ARG002
        known = await self._store.standing((*feed.identifiers, *feed.merged))
        survivor, findings = self._named(feed, known)
        if survivor is None and not findings:
            said = "no patient has this identifier, so nothing can be merged into it; announce the patient first (A04)"
            findings.append(_finding(feed, feed.identifiers[0], "UnknownKeyIdentifier", said))
        findings += self._unmergeable(feed, known, survivor)
        if findings or survivor is None:
            raise Problem(findings)
        patient = PatientId(survivor.affinity_domain_id, self._authority)
        self._about(patient, context)
        active = {i: known[i] for i in feed.merged if not known[i].retired}
        if not active:  # the same merge was made before
            await self._store.record(context.audit())
            return patient
        subsumed = {s.patient_key: s.affinity_domain_id for s in active.values()}
        subsumed.pop(survivor.patient_key, None)  # the region knew already that both are one person
        retired = {*active, *(PatientId(value, self._authority) for value in subsumed.values())}
        await self._store.merge(
            survivor_key=survivor.patient_key,
            merged_keys=sorted(subsumed),
            retired=sorted(retired),
            event=context.audit(),
        )
        return patient

    def _named(self, feed: PatientFeed, known: Mapping[PatientId, Standing]) -> tuple[Standing | None, list[Finding]]:
        """The one patient whom the feed's identifiers name, or None."""
        findings = []
        named: dict[int, Standing] = {}
        for identifier in feed.identifiers:
            standing = known.get(identifier)
            if standing is None:
                continue
            if standing.retired:
                said = "the identifier was merged into another and names nobody; send the surviving one"
                findings.append(_finding(feed, identifier, "UnknownKeyIdentifier", said))
            elif named and standing.patient_key not in named:
                said = "it belongs to another patient than the identifiers before it; send A40 if they are one person"
                findings.append(_finding(feed, identifier, "DuplicateKeyIdentifier", said))
            else:
                named[standing.patient_key] = standing
        return next(iter(named.values()), None), findings

    @staticmethod
    def _unmergeable(
        feed: PatientFeed, known: Mapping[PatientId, Standing], survivor: Standing | None
    ) -> Iterable[Finding]:
        """Why the identifiers of MRG-1 cannot be merged into the survivor (ITI TF-2:3.8.4.2.4)."""
        domains = {i.authority for i in feed.identifiers}
        for identifier in feed.merged:
            standing = known.get(identifier)
            if identifier in feed.identifiers:
                said = "an identifier cannot be merged into itself"
                yield _finding(feed, identifier, "DuplicateKeyIdentifier", said)
            elif identifier.authority not in domains:
                said = "both identifiers of a merge must be of one assigning authority"
                yield _finding(feed, identifier, "UnknownKeyIdentifier", said)
            elif standing is None:
                said = "no patient has this identifier: there is nothing to merge and nothing was created"
                yield _finding(feed, identifier, "UnknownKeyIdentifier", said)
            elif standing.retired and (survivor is None or standing.patient_key != survivor.patient_key):
                said = "the identifier was already merged into another patient"
                yield _finding(feed, identifier, "UnknownKeyIdentifier", said)

    @staticmethod
    def _about(patient: PatientId, context: Context) -> None:
        """The audit record names the patient by the affinity-domain id first, whatever the feed called them."""
        if all(o.identifier != str(patient) for o in context.objects):
            details = context.objects[0].details if context.objects else ()
            subject = AuditObject(kind="patient", identifier=str(patient), details=details)
            context.objects = (subject, *context.objects)


def _finding(feed: PatientFeed, identifier: PatientId, code: str, detail: str) -> Finding:
    if identifier in feed.merged and feed.merged_locations:
        location = feed.merged_locations[feed.merged.index(identifier)]
    elif identifier in feed.identifiers and feed.identifier_locations:
        location = feed.identifier_locations[feed.identifiers.index(identifier)]
    else:
        location = ""
    return Finding(code, detail, location)
