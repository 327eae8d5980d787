"""FHIR resources as the facts that decisions about access rest on (docs/lab.md says how each is written).

``codes/access_world.toml`` has the codes. Whom a resource names must have an identifier: by it callers are recognised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from obieg.codes.load import toml
from obieg.domain.access import Declaration, Emergency, Encounter, Period, Representative
from obieg.domain.consents import Fact, Kind
from obieg.domain.identifiers import is_oid
from obieg.domain.problems import Finding, Problem
from obieg.mapping.consent_meaning import both
from obieg.mapping.consent_references import identifiers, local, over
from obieg.mapping.directory_terms import bounds

_TABLE = toml("access_world.toml")
KINDS = {  # resources that are sources of facts, and the elements that name their patients
    "CareTeam": "subject",
    "Encounter": "subject",
    "Flag": "subject",
    "RelatedPerson": "patient",
}

# Who is recognised by identifiers; "": whom a reference names by one. Patients and teams are known by their ids.
_BY_OID = frozenset(("", "Organization", "Practitioner", "RelatedPerson"))
_NO_OID = "nobody is recognised by an identifier whose system is no urn:oid:…: give one whose system is"


def protected(patient: Mapping[str, Any]) -> bool:
    """Whether a Patient is somebody protected."""
    return any(c.get("code") in _TABLE["protected"]["codes"] for c in patient.get("meta", {}).get("security", ()))


def recognised(holder: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the identifiers of a person or organisation those by which callers and authors are recognised: by OIDs."""
    return tuple(i for i in identifiers(holder) if is_oid(i.partition("#")[0]))


def misnamed(resource: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Of the members of a Group and the authors of a DocumentReference those whom no decision would recognise."""
    reader = _Reader(known)
    match resource["resourceType"]:
        case "Group":
            for number, member in enumerate(resource.get("member", ())):
                reader.meant(member.get("entity", {}), f"Group.member[{number}].entity")
        case "DocumentReference":
            for number, author in enumerate(resource.get("author", ())):
                reader.meant(author, f"DocumentReference.author[{number}]", elsewhere=True)
    return reader.findings


def facts(resource: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> tuple[Kind, tuple[Fact, ...]]:
    """What a resource says; raises Problem with all that cannot be told. ``known``: other resources by Type/id."""
    reader = _Reader(known)
    kind: Kind
    found: Sequence[Fact]
    match resource["resourceType"]:
        case "CareTeam":
            kind, found = Kind.DECLARATION, list(reader.declarations(resource))
        case "Encounter":
            kind, found = Kind.ENCOUNTER, list(reader.encounters(resource))
        case "Flag":
            kind, found = Kind.EMERGENCY, list(reader.emergencies(resource))
        case _:
            kind, found = Kind.REPRESENTATIVE, list(reader.representatives(resource))
    if reader.findings:
        raise Problem(reader.findings)
    return kind, tuple(dict.fromkeys(found))


class _Reader:
    def __init__(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        self._known = known
        self.findings: list[Finding] = []

    def declarations(self, team: Mapping[str, Any]) -> Iterator[Fact]:
        """The chosen POZ team: each professional in it by their role."""
        if team.get("status", "active") not in _TABLE["care_team"]["holds"]:
            return
        if not team.get("participant"):
            self._refuse("RequiredFieldMissing", "who is the chosen professional?", "CareTeam.participant")
        whole = self._period(team, "CareTeam.period")
        for number, participant in enumerate(team.get("participant", ())):
            where = f"CareTeam.participant[{number}]"
            if self._kind(participant.get("member", {})) in _TABLE["care_team"]["others"]:
                continue
            people, places, codes = self._professional(participant.get("member", {}), f"{where}.member")
            codes = [*_codes(participant.get("role", ())), *codes]
            kind = next((_TABLE["declaration"][code] for code in codes if code in _TABLE["declaration"]), "")
            if not kind:
                said = f"which professional is it? role.coding.code is one of {', '.join(_TABLE['declaration'])}"
                self._refuse("TableValueNotFound", said, f"{where}.role")
            if "onBehalfOf" in participant:
                places = self._named(participant["onBehalfOf"], f"{where}.onBehalfOf")
            elif not places and "managingOrganization" in team:
                places = self._named(team["managingOrganization"][0], "CareTeam.managingOrganization[0]")
            period = self._period(participant, f"{where}.period") if "period" in participant else whole
            role = self._found(participant.get("member", {})) or {}
            if role.get("resourceType") == "PractitionerRole":
                if over(role):
                    continue
                period = both(period, self._period(role, f"{where}.member (PractitionerRole.period)"))
            for person, place in product(people, places or ("",)):
                yield Declaration(person, kind, place, period)

    def encounters(self, encounter: Mapping[str, Any]) -> Iterator[Fact]:
        """Care in progress at an organisation."""
        table, status = _TABLE["encounter"], encounter.get("status")
        period = self._period(encounter, "Encounter.period")
        if status not in table["holds"] and not (status in table["held"] and period.end is not None):
            return
        for place in self._named(encounter.get("serviceProvider", {}), "Encounter.serviceProvider"):
            yield Encounter(place, period)

    def representatives(self, person: Mapping[str, Any]) -> Iterator[Fact]:
        """Who may act in the patient's place, and as what."""
        if person.get("active") is False:
            return
        who = recognised(person)
        if not who and identifiers(person):
            self._refuse("RequiredFieldMissing", _NO_OID, "RelatedPerson.identifier")
        elif not who:
            said = "by which identifier is the person recognised (a PESEL, say)?"
            self._refuse("RequiredFieldMissing", said, "RelatedPerson.identifier")
        kinds = [_TABLE["representative"].get(code) for code in _codes(person.get("relationship", ()))]
        if not any(kinds):
            said = f"what is the person to the patient? coding.code is one of {', '.join(_TABLE['representative'])}"
            self._refuse("TableValueNotFound", said, "RelatedPerson.relationship")
        period = self._period(person, "RelatedPerson.period")
        for identifier, kind in product(who, kinds):
            if kind:
                yield Representative(identifier, kind, period)

    def emergencies(self, flag: Mapping[str, Any]) -> Iterator[Fact]:
        """A break-glass session."""
        if flag.get("status") not in _TABLE["flag"]["holds"]:
            return
        if not {*_codes([flag.get("code", {})])} & {*_TABLE["emergency"]["codes"]}:
            said = f"what is flagged here is a break-glass session: {', '.join(_TABLE['emergency']['codes'])}"
            self._refuse("TableValueNotFound", said, "Flag.code")
        people, places, _ = self._professional(flag.get("author", {}), "Flag.author")
        period = self._period(flag, "Flag.period")
        if period.end is None:
            self._refuse("RequiredFieldMissing", "a break-glass session has an end", "Flag.period.end")
        for person, place in product(people, places or ("",)):
            yield Emergency(person, place, period)

    # references

    def _professional(
        self, reference: Mapping[str, Any], where: str
    ) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """Identifiers of a person and of where they work, and codes of what they do there."""
        found = self._found(reference)
        if found is None or found["resourceType"] != "PractitionerRole":
            return self._named(reference, where), (), ()
        people = self._named(found.get("practitioner", {}), f"{where} (PractitionerRole.practitioner)")
        place = found.get("organization")
        places = self._named(place, f"{where} (PractitionerRole.organization)") if place else ()
        return people, places, _codes(found.get("code", ()))

    def _kind(self, reference: Mapping[str, Any]) -> str:
        return str(reference.get("type") or local(reference.get("reference", ""), "")[0])

    def _found(self, reference: Mapping[str, Any]) -> Mapping[str, Any] | None:
        kind, id_ = local(reference.get("reference", ""), "")
        return self._known.get(f"{kind}/{id_}")

    def _named(self, reference: Mapping[str, Any], where: str) -> Sequence[str]:
        """The identifiers of whom a reference names."""
        own = recognised({"identifier": reference.get("identifier", [])})
        found = self._found(reference)
        theirs = recognised(found) if found is not None else ()
        if not self.meant(reference, where) and found is not None and not own and not theirs:
            said = f"{reference['reference'][:120]} has no identifier by which it is recognised: give it one"
            self._refuse("RequiredFieldMissing", said, where)
        return tuple(dict.fromkeys((*own, *theirs)))

    def meant(self, reference: Mapping[str, Any], where: str, *, elsewhere: bool = False) -> bool:
        """Refuses a reference to nobody, and to somebody whose identifiers are no OIDs; whether it did.

        ``elsewhere``: what is not in the folder may be somewhere else.
        """
        found, literal = self._found(reference), reference.get("reference", "")
        if found is not None and found["resourceType"] == "PractitionerRole" and "practitioner" in found:
            return self.meant(found["practitioner"], f"{where} (PractitionerRole.practitioner)")
        holders = [{"identifier": reference.get("identifier", [])}, found or {}]
        named = any(map(identifiers, holders))
        if found is None and not named:
            if not elsewhere:
                said = f"{literal[:120]} is not in this folder" if literal else "the reference names nobody"
                self._refuse("UnresolvedReferenceException", f"{said}: add it, or refer by an identifier", where)
            return not elsewhere
        if named and not any(map(recognised, holders)) and (found or {}).get("resourceType", "") in _BY_OID:
            self._refuse("RequiredFieldMissing", f"{literal[:120]}: {_NO_OID}".removeprefix(": "), where)
            return True
        return False

    def _period(self, holder: Mapping[str, Any], where: str) -> Period:
        return Period(*bounds(holder.get("period", {}), where, self.findings))

    def _refuse(self, code: str, detail: str, where: str) -> None:
        self.findings.append(Finding(code, detail, where))


def _codes(concepts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [coding.get("code", "") for concept in concepts for coding in concept.get("coding", ())]
