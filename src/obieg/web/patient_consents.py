"""What patients permit and restrict: Consents of FHIR in plain words, and the forms in which pages record them.

What a Consent means for decisions is docs/access.md; here it is only told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from obieg.codes.load import toml
from obieg.domain.requester import Requester
from obieg.web.patient_records import Document, coding_text, moment

_TABLE = toml("access_consents.toml")
_PORTAL = toml("patient_portal.toml")["permissions"]
_STATES = {uri: row["states"] for uri, row in _TABLE["policies"].items() if "states" in row}
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
DAYS: tuple[int, ...] = tuple(_PORTAL["days"])
DAYS_USUAL: int = _PORTAL["days_usual"]
NOTICES = next(uri for uri, states in _STATES.items() if states == "notices")


class Rule(NamedTuple):
    """A provision in words: permit or deny, whom, what, until when. Nothing given: everybody, everything."""

    permit: bool
    whom: tuple[str, ...]
    roles: bool  # somebody is meant by a role
    documents: tuple[str, ...]  # ids
    classes: tuple[str, ...]  # what they are called
    class_codes: frozenset[str]
    labels: tuple[str, ...]
    purposes: tuple[str, ...]
    begin: datetime | None
    end: datetime | None
    narrowed: bool  # by what has no words here

    @property
    def everything(self) -> bool:
        """Whether it is about all documents."""
        return not (self.documents or self.class_codes or self.labels or self.narrowed)


class Stated(NamedTuple):
    """A Consent in force."""

    id: str
    states: str  # objection, notices; "": it permits and restricts
    rules: tuple[Rule, ...]
    recorded: str
    base: str  # a policy that it names

    @property
    def restricts(self) -> bool:
        """Whether nothing in it permits."""
        return not self.states and not any(rule.permit for rule in self.rules)


def read_consents(found: Iterable[Mapping[str, Any]], now: datetime) -> list[Stated]:
    """Those that are active and whose time is not over."""
    read = [_stated(r) for r in found if r["resourceType"] == "Consent" and r.get("status") == "active"]
    return [s for s in read if s.states or any(rule.end is None or rule.end > now for rule in s.rules) or s.base]


def _stated(resource: Mapping[str, Any]) -> Stated:
    policies = [p.get("uri", "") for p in resource.get("policy", ())]
    root = resource.get("provision")
    return Stated(
        resource["id"],
        next((_STATES[uri] for uri in policies if uri in _STATES), ""),
        tuple(_rules(root)) if root else (),
        resource.get("dateTime", "") or resource.get("meta", {}).get("lastUpdated", ""),
        next((uri for uri in policies if uri not in _STATES), "") or coding_text(resource.get("policyRule", {})),
    )


def _rules(provision: Mapping[str, Any], outer: datetime | None = None, depth: int = 1) -> Iterator[Rule]:
    period = provision.get("period", {})
    end = _end(period.get("end", "")) or outer
    if provision.get("type"):
        actors = [a.get("reference", {}) for a in provision.get("actor", ())]
        codes = [c for concept in provision.get("code", ()) for c in concept.get("coding", ())]
        data = [d.get("reference", {}).get("reference", "") for d in provision.get("data", ())]
        yield Rule(
            permit=provision["type"] == "permit",
            whom=tuple(_whom(a) for a in actors),
            roles=any(a.get("reference", "").startswith("#") for a in actors),
            documents=tuple(d.rpartition("/")[2] for d in data if "DocumentReference/" in d),
            classes=tuple(coding_text(concept) or _code(concept) for concept in provision.get("code", ())),
            class_codes=frozenset(c.get("code", "") for c in codes),
            labels=tuple(c.get("code", "") for c in provision.get("securityLabel", ())),
            purposes=tuple(c.get("code", "") for c in provision.get("purpose", ())),
            begin=moment(period.get("start", "")),
            end=end,
            narrowed="dataPeriod" in provision or any("DocumentReference/" not in d for d in data),
        )
    taken = {e: provision[e] for e in _TABLE["nested"]["taken"] if e in provision} if depth > 1 else {}
    for inner in provision.get("provision", ()):
        yield from _rules({**taken, **inner}, end, depth + 1)


def _end(said: str) -> datetime | None:
    """The first moment after it; a day belongs to the time that it ends."""
    found = moment(said)
    return found + timedelta(days=1) if found is not None and "T" not in said else found


def _code(concept: Mapping[str, Any]) -> str:
    return str(next((c.get("code", "") for c in concept.get("coding", ())), ""))


def _whom(reference: Mapping[str, Any]) -> str:
    return str(
        reference.get("display")
        or reference.get("identifier", {}).get("value")
        or reference.get("reference", "").rpartition("/")[2]
    )


def restricting(
    document: Document, lineage: Iterable[Document], stated: Iterable[Stated], now: datetime
) -> list[Stated]:
    """The restrictions that hide a document from somebody now, for its own sake or that of another version."""
    ids = {document.id, *(d.id for d in lineage)}
    code = document.class_coding.get("code", "")

    def hides(rule: Rule) -> bool:
        if rule.permit or (rule.begin and rule.begin > now) or (rule.end and rule.end <= now):
            return False
        fits = [not rule.documents or bool(ids & {*rule.documents}), not rule.class_codes or code in rule.class_codes]
        return all(fits) and not rule.narrowed and (not rule.labels or bool({*rule.labels} & {*document.labels}))

    return [s for s in stated if any(map(hides, s.rules))]


# recording -----------------------------------------------------------------------------------------------------------


def recognised(resource: Mapping[str, Any]) -> bool:
    """Whether a person or an organisation of the directory is known when they ask: else no Consent about them holds."""
    return any(given.get("system") and given.get("value") for given in resource.get("identifier", ()))


class Wish(NamedTuple):
    """What a form asks for. ``whom``: (system|value or a reference, name); None: everybody."""

    permit: bool
    whom: tuple[str, str] | None
    document: Document | None
    class_coding: Mapping[str, str] | None
    until: datetime | None


def consent(patient: str, by: Requester, now: datetime, wish: Wish) -> dict[str, Any]:
    """The Consent that says it."""
    provision: dict[str, Any] = {"type": "permit" if wish.permit else "deny"}
    if wish.until is not None:
        provision["period"] = {"start": _instant(now), "end": _instant(wish.until)}
    if wish.whom is not None:
        whom, name = wish.whom
        system, mark, value = whom.rpartition("|")
        meant = {"identifier": {"system": system, "value": value}} if mark else {"reference": whom}
        role = {"coding": [{"system": _PARTICIPATION, "code": "IRCP"}]}
        reference = {**meant, **({"display": name} if name else {})}
        provision["actor"] = [{"role": role, "reference": reference}]
    if wish.class_coding is not None:
        provision["code"] = [{"coding": [dict(wish.class_coding)]}]
    if wish.document is not None:
        named = {"reference": f"DocumentReference/{wish.document.id}", "display": wish.document.title}
        provision["data"] = [{"meaning": "instance", "reference": named}]
    return _resource(patient, by, now) | {"provision": provision}


def notices(patient: str, by: Requester, now: datetime) -> dict[str, Any]:
    """The patient asks to be told."""
    return _resource(patient, by, now) | {"policy": [{"uri": NOTICES}]}


def _resource(patient: str, by: Requester, now: datetime) -> dict[str, Any]:
    root, _, value = by.person.partition("#")
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": _TABLE["scope"]["system"], "code": _TABLE["scope"]["code"]}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": _instant(now),
        "performer": [{"identifier": {"system": f"urn:oid:{root}", "value": value}, "display": by.person_name}],
    }


def _instant(moment_: datetime) -> str:
    return moment_.isoformat(timespec="milliseconds").replace("+00:00", "Z")
