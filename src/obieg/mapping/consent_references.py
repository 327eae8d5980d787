"""What a FHIR R4 Consent refers to, and how its elements are gone through."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from obieg.codes.load import toml
from obieg.mapping.fhir_documents import URI
from obieg.mapping.fhir_patient import authority

TABLE = toml("access_consents.toml")
ROUNDS_MAX = 4  # in which groups of groups are followed
ID = re.compile(r"[A-Za-z0-9.-]{1,64}\Z", re.ASCII)
MEMBERS = {  # of whom one speaks who speaks of these, by where they stand
    "Group": (("member", "entity"),),
    "CareTeam": (("participant", "member"),),
    "PractitionerRole": (("practitioner", ""),),
}


def references(resource: Mapping[str, Any], base: str) -> set[str]:
    """What must be looked up before the Consent can be read: Type/id."""
    found = set()
    for provision, _, _ in walk(resource.get("provision"), ""):
        for reference in (*_each(provision, "actor"), *_each(provision, "data")):
            found |= _named(reference, base)
    for inner in resource.get("contained", ()):
        found |= members(inner, base)
    return found


def members(resource: Mapping[str, Any], base: str) -> set[str]:
    """Of whom one speaks who speaks of the resource: Type/id."""
    found = set()
    for element, inner in MEMBERS.get(resource.get("resourceType", ""), ()):
        for _, named in parts_of(resource, element, inner):
            found |= _named(named, base)
    if resource.get("resourceType") == "Group":
        found |= _named(resource.get("managingEntity", {}), base)
    elif resource.get("resourceType") == "PractitionerRole" and "practitioner" not in resource:
        found |= _named(resource.get("organization", {}), base)
    return found


def _each(provision: Mapping[str, Any], element: str) -> Iterator[Mapping[str, Any]]:
    for item in provision.get(element, ()):
        yield item.get("reference", {})


def _named(reference: Mapping[str, Any], base: str) -> set[str]:
    kind, id_ = local(reference.get("reference", ""), base)
    return {f"{kind}/{id_}"} if kind else set()


def identifiers(resource: Mapping[str, Any]) -> tuple[str, ...]:
    """The identifiers of a resource as decisions name people, organisations and encounters: root#extension."""
    given = resource.get("identifier", [])
    return tuple(_identifier(i) for i in (given if isinstance(given, list) else [given]) if i.get("value"))


def _identifier(given: Mapping[str, Any]) -> str:
    system, value = given.get("system", ""), str(given["value"])
    if system == URI:
        return value.removeprefix("urn:oid:")  # an organisation may be known by an OID alone
    return f"{authority(system) or system}#{value}" if system else value


def actors(resource: Mapping[str, Any], base: str) -> tuple[str, ...]:
    """Whom a search for actors finds it by: Type/id of those whom its provisions name."""
    found = {
        r for p, _, _ in walk(resource.get("provision"), "") for item in _each(p, "actor") for r in _named(item, base)
    }
    return tuple(sorted(found))


def walk(provision: Any, where: str, depth: int = 1) -> Iterator[tuple[dict[str, Any], str, int]]:
    """A provision and its nested ones, depth first; among siblings denying ones come last."""
    if not provision:
        return
    yield provision, where, depth
    nested = [(p, f"{where}.provision[{n}]") for n, p in enumerate(provision.get("provision", ()))]
    for inner, place in sorted(nested, key=lambda pair: pair[0].get("type") == "deny"):
        yield from walk(inner, place, depth + 1)


def codings_of(holder: Mapping[str, Any], *path: str) -> Sequence[Mapping[str, Any]]:
    """The Codings of the CodeableConcept that stands under the path."""
    for name in path:
        holder = holder.get(name) or {}
    found: Sequence[Mapping[str, Any]] = holder.get("coding", ())
    return found


def parts_of(
    resource: Mapping[str, Any], element: str, inner: str
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each part, and the reference of whom it names, which may be the part itself."""
    listed = resource.get(element, [])
    items = listed if isinstance(listed, list) else [listed]
    return [(item, item.get(inner, {}) if inner else item) for item in items]


def over(membership: Mapping[str, Any]) -> bool:
    """Whether a group, a team, a role or a member of one is said to be none any more."""
    status = membership.get("status", "active")
    return membership.get("inactive") is True or membership.get("active") is False or status in TABLE["ended"]["status"]


def local(literal: str, base: str) -> tuple[str, str]:
    """Type and id of a literal reference into this service; ("", "") for any other."""
    path = literal.removeprefix(f"{base}/") if base else literal
    kind, _, id_ = path.partition("/")
    id_ = id_.partition("/_history/")[0]
    return (kind, id_) if kind.isalpha() and ID.match(id_) else ("", "")
