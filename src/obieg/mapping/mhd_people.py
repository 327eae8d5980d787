"""People and organisations whom resources of MHD 4.2 name, as HL7 v2 composites of XDS metadata.

https://profiles.ihe.net/ITI/MHD/32_fhir_maps.html. Whom a reference names by an address in this service, the directory
may know: a mark stands for them until it has been asked (:func:`with_people`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from obieg.codes.load import toml
from obieg.domain.documents import Author, Submission
from obieg.domain.problems import Finding
from obieg.mapping.consent_references import directory_identifier, identifiers
from obieg.mapping.fhir_patient import authority
from obieg.mapping.mhd_reading import Person, Reading, Sought, Source
from obieg.mapping.pik_values import organisation_rank
from obieg.wire.hl7v2 import escape

_DIRECTORY_TYPES = frozenset({"Practitioner", "PractitionerRole", "Organization"})
_UUID: str = toml("mhd.toml")["uuid"]


def _identified(identifiers: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """Id and authority (OID) of the first identifier that has an OID, else of the first."""
    known = [(i["value"], authority(i.get("system", ""))) for i in identifiers if i.get("value")]
    return next((pair for pair in known if pair[1]), known[0] if known else ("", ""))


def _xcn(identifiers: Sequence[dict[str, Any]], names: Sequence[dict[str, Any]]) -> str:
    """``id^family^given^second^suffix^prefix^^^&oid&ISO``."""
    number, oid = _identified(identifiers)
    name = names[0] if names else {}
    given = name.get("given", ())
    family = name.get("family") or ("" if given else name.get("text", ""))
    parts = (number, family, given[0] if given else "", " ".join(given[1:]),
             " ".join(name.get("suffix", ())), " ".join(name.get("prefix", ())))  # fmt: skip
    text = "^".join(map(escape, parts))
    return f"{text}^^^&{oid}&ISO" if oid else text.rstrip("^")


def _xon(name: str, identifiers: Sequence[dict[str, Any]]) -> str:
    """``name^^^^^&oid&ISO^^^^id``."""
    number, oid = _identified(identifiers)
    if not number:
        return escape(name)
    return f"{escape(name)}^^^^^{f'&{oid}&ISO' if oid else ''}^^^^{escape(number)}"


def _xtns(telecoms: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    found = []
    for telecom in telecoms:
        if not (value := telecom.get("value", "")):
            continue
        email = telecom.get("system") == "email"
        found.append(f"^^Internet^{escape(value)}" if email else f"^^PH^^^^^^^^^{escape(value)}")
    return tuple(found)


def _texts(concepts: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    found = []
    for concept in concepts:
        coding: dict[str, Any] = next(iter(concept.get("coding", ())), {})
        found.append(concept.get("text") or coding.get("display") or coding.get("code", ""))
    return tuple(text for text in found if text)


def person(source: Source, reference: dict[str, Any], where: str) -> Person:
    """Who is meant; a resource that this request does not carry is kept by what the reference itself says of it."""
    literal = reference.get("reference", "")
    resource = source.resolve(literal, where) if literal else None
    if resource is None:
        return _by_reference(source.reading, reference, where)
    return _person_of(source, resource, where)


def _by_reference(reading: Reading, reference: dict[str, Any], where: str) -> Person:
    literal, identifier = reference.get("reference", ""), reference.get("identifier")
    name = reference.get("display", "")
    told: tuple[Finding, ...] = ()
    if not name and not identifier and not literal.startswith(("#", _UUID)):
        if not literal:
            reading.refuse("RequiredFieldMissing", "the reference names nobody", where)
            return Person()
        name = literal
        said = f"{literal[:120]} is not known here: its address stands for the name; send it contained"
        told = (Finding("UnresolvedReferenceException", said, where, warning=True),)
    identifiers = [identifier] if identifier else []
    local, logical = reading.local(literal)
    kind = reference.get("type") or local or literal.split("/")[-2:][0]
    if kind == "Organization":
        found = Person(institution=_xon(name, identifiers))
    else:
        found = Person(person=_xcn(identifiers, [{"family": name}] if name else []))
    if local not in _DIRECTORY_TYPES:
        reading.findings += told
        return found
    mark = f"\0{len(reading.people)}\0"  # no text that was sent contains NUL
    reading.people[mark] = Sought(f"{local}/{logical}", found, told)
    return Person(institution=mark) if local == "Organization" else Person(person=mark)


def with_people(
    submission: Submission, people: Mapping[str, Sought], directory: Mapping[str, dict[str, Any]], home: str
) -> tuple[Submission, tuple[Finding, ...]]:
    """The submission with those whom ``directory`` knows, by their references, in place of what stands for them.

    Who is there without an identifier has one by the name that the directory has for them in the community ``home``.
    Who is not there is kept by what the reference itself says; the findings tell of them.
    """
    directory = {name: _numbered(name, resource, home) for name, resource in directory.items()}
    known: dict[str, Person] = {}
    told: list[Finding] = []
    for mark, sought in people.items():
        if sought.reference in directory:
            known[mark] = _of_directory(sought.reference, directory)
        else:
            known[mark] = sought.otherwise
            told += sought.told

    def resolved(said: Person) -> Person:
        if who := known.get(said.person):
            said = Person(
                who.person,
                said.institution or who.institution,
                said.role or who.role,
                said.specialty or who.specialty,
                said.telecom or who.telecom,
            )
        return said._replace(institution=known[said.institution].institution) if said.institution in known else said

    def author(a: Author) -> Author:
        said = Person("".join(a.person), "".join(a.institution), a.role, a.specialty, a.telecommunication)
        return author_of(resolved(said)) if known.keys() & {said.person, said.institution} else a

    def legal(text: str | None) -> str | None:
        mark = (text or "").removeprefix("^")
        return legal_authenticator_of(known[mark]) if mark in known else text

    def recipient(text: str) -> str:
        institution, person, telecom = [*text.split("|"), "", ""][:3]
        if not known.keys() & {institution, person}:
            return text
        return recipient_of(resolved(Person(person, institution, telecom=(telecom,) if telecom else ())))

    replace, sset = msgspec.structs.replace, submission.submission_set
    return replace(
        submission,
        submission_set=replace(
            sset,
            author=tuple(map(author, sset.author)),
            intended_recipient=tuple(map(recipient, sset.intended_recipient)),
        ),
        entries=tuple(
            replace(e, author=tuple(map(author, e.author)), legal_authenticator=legal(e.legal_authenticator))
            for e in submission.entries
        ),
    ), tuple(told)


def _numbered(name: str, resource: dict[str, Any], home: str) -> dict[str, Any]:
    if resource["resourceType"] == "PractitionerRole" or identifiers(resource):
        return resource
    return {**resource, "identifier": [directory_identifier(name, home)]}


def _of_directory(reference: str, directory: Mapping[str, dict[str, Any]]) -> Person:
    """Who a resource of the directory is; those to whom a role refers stand there, too, or are left out."""
    reading = Reading("", "", {literal: (literal, resource) for literal, resource in directory.items()})
    found = person(Source(reading, {}, ""), {"reference": reference}, "")
    return found._replace(
        person="" if found.person in reading.people else found.person,
        institution="" if found.institution in reading.people else found.institution,
    )


def _person_of(source: Source, resource: dict[str, Any], where: str) -> Person:
    kind = resource["resourceType"]
    telecom = _xtns(resource.get("telecom", ()))
    identifiers = resource.get("identifier", ())
    if kind == "Organization":
        ranked = sorted(identifiers, key=lambda i: organisation_rank(authority(i.get("system", "")) or ""))
        return Person(institution=_xon(resource.get("name", ""), ranked), telecom=telecom)
    if kind == "Device":
        names = [d["name"] for d in resource.get("deviceName", ())]
        return Person(person=_xcn(identifiers, [{"family": (names or [""])[0]}]))
    if kind == "PractitionerRole":
        inner = person(source, resource["practitioner"], where) if "practitioner" in resource else Person()
        unit = person(source, resource["organization"], where) if "organization" in resource else Person()
        return Person(
            person=inner.person,
            institution=unit.institution,
            role=_texts(resource.get("code", ())),
            specialty=_texts(resource.get("specialty", ())),
            telecom=telecom or inner.telecom,
        )
    if kind in ("Practitioner", "Patient", "RelatedPerson"):
        return Person(person=_xcn(identifiers, resource.get("name", ())), telecom=telecom)
    source.reading.refuse("RuleBroken", f"a {kind} stands where a person, device or organization is meant", where)
    return Person()


def author_of(found: Person) -> Author:
    """AuthorPerson, authorInstitution and what goes with them."""
    return Author(
        person=(found.person,) if found.person else (),
        institution=(found.institution,) if found.institution else (),
        role=found.role,
        specialty=found.specialty,
        telecommunication=found.telecom,
    )


def recipient_of(found: Person) -> str:
    """``XON|XCN|XTN`` (ITI TF-3:4.2.3.3.7)."""
    return f"{found.institution}|{found.person}|{found.telecom[0] if found.telecom else ''}".rstrip("|")


def legal_authenticator_of(found: Person) -> str | None:
    """XCN; of an institution its name in the place of a family name."""
    return found.person or (f"^{found.institution.partition('^')[0]}" if found.institution else None)
