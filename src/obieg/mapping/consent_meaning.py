"""What a FHIR R4 Consent means for decisions about access, and what is wrong with one that cannot be told.

The meaning is docs/access.md, ``codes/access_consents.toml`` has the tables. What a Consent refers to must be known,
and what a denying provision says must be able to hold: a patient who restricts nobody would believe to be protected.
Days without a time zone are days of UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import product
from typing import Any, NamedTuple

from obieg.codes.load import toml
from obieg.domain.access import Condition, Consent, Period, Provision, earliest
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.consents import Kind
from obieg.domain.identifiers import is_oid
from obieg.domain.problems import Finding, Problem
from obieg.mapping.consent_references import (
    MEMBERS,
    ROUNDS_MAX,
    TABLE,
    codings_of,
    directory_identifier,
    identifiers,
    local,
    over,
    parts_of,
    walk,
)
from obieg.mapping.directory_terms import bounds
from obieg.mapping.fhir_codes import scheme_of
from obieg.wire.fhir_elements import is_resource

PROVISIONS_MAX = 500  # of one Consent, as they are after alternatives are spelled out
_ROLES = toml("roles.toml")
_PURPOSES = frozenset(toml("saml.toml")["purposes"]["hl7"])
_LEVELS = frozenset("NRV")  # every document has one of them
_TELLING = [uri for uri, row in TABLE["policies"].items() if row["provisions"]]
_BY_THEMSELVES = 2  # as deep provisions are about what they say; below, about what the one around them is about
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def read_consent(
    id_: str,
    resource: Mapping[str, Any],
    known: Mapping[str, dict[str, Any]],
    domain: AffinityDomain,
    base: str = "",
    home: str = "",
) -> Consent:
    """What an active Consent says; raises Problem with all that cannot be told.

    ``known``: what stands under the references that :func:`references` names, and under those of :func:`members`.
    ``home``: the community whose directory names people by Type/id.
    """
    return _Meaning(resource, known, domain, base, home).consent(id_)


def states(resource: Mapping[str, Any]) -> Kind | None:
    """What a Consent states that is neither permit nor restriction, by the policy that it names; raises Problem."""
    named = [TABLE["policies"].get(policy.get("uri", ""), {}).get("states") for policy in resource.get("policy", ())]
    if not any(named):
        return None
    if len(named) > 1 or "provision" in resource:
        said = "this policy says it all: a Consent that names it has no other policy, and no provision"
        raise Problem.of("RuleBroken", said, "Consent.policy")
    return Kind(named[0])


def policy_provisions(uri: str) -> tuple[Provision, ...]:
    """What a policy says by itself; nothing for one that is not known here."""
    rows = TABLE["policies"].get(uri, {}).get("provisions", ())
    told = [(row["type"] == "permit", tuple(row.get("purpose", ())) or None) for row in rows]
    return tuple(Provision(permit=permit, purposes=purposes) for permit, purposes in told)


_ALWAYS = Period()
_AT = {"Group": "managingEntity", "PractitionerRole": "organization"}  # where those are who have a role


class _Whom(NamedTuple):
    """An actor: identifiers, or roles of whoever acts for an organisation."""

    actors: tuple[str, ...] | None
    roles: tuple[str, ...] | None = None
    during: Period = _ALWAYS  # of the memberships by which they are meant


class _Naming(NamedTuple):
    """How whoever is named somewhere is meant."""

    types: Sequence[str]  # of resources that may be named
    ended: bool  # also by memberships that hold no more, or not yet; else while they hold
    # What denies must mean somebody: by which identifiers they are recognised where it is decided. None: it permits.
    recognised: Callable[[str], bool] | None = None
    unbound: Sequence[str] = ()  # types of those from whom nothing is hidden


class _Said(NamedTuple):
    """A provision with what it takes over from the one around it, and where each of its elements stands."""

    provision: Mapping[str, Any]
    at: Mapping[str, str]

    @property
    def denies(self) -> bool:
        return self.provision.get("type") == "deny"


class _Meaning:
    def __init__(
        self,
        resource: Mapping[str, Any],
        known: Mapping[str, dict[str, Any]],
        domain: AffinityDomain,
        base: str,
        home: str,
    ) -> None:
        self._resource = resource
        self._known = known
        self._domain = domain
        self._base = base
        self._home = home
        self._contained = {f"#{c.get('id', '')}": c for c in resource.get("contained", ())}
        self._findings: list[Finding] = []

    def consent(self, id_: str) -> Consent:
        root = self._resource.get("provision")
        provisions = self._policies(root)
        for said, where, depth in _said(root):
            provisions += self._provisions(said, where, root=depth == 1, told=bool(provisions))
        if len(provisions) > PROVISIONS_MAX:
            detail = (
                f"it says more than {PROVISIONS_MAX} things when its alternatives are spelled out: say it in several"
            )
            self._refuse("LimitExceeded", detail, "Consent.provision")
        period = self._period(root or {}, "period", "Consent.provision.period")
        if self._findings:
            raise Problem([*dict.fromkeys(self._findings)])
        return Consent(id_, period, tuple(provisions))

    def _refuse(self, code: str, detail: str, where: str) -> None:
        self._findings.append(Finding(code, detail, where))

    # policies

    def _policies(self, root: Mapping[str, Any] | None) -> list[Provision]:
        """What the policies say that the Consent names, which come before its own provisions."""
        named = [policy.get("uri", "") for policy in self._resource.get("policy", ())]
        named += [f"{c.get('system', '')}#{c.get('code', '')}" for c in codings_of(self._resource, "policyRule")]
        said = [provision for uri in named for provision in policy_provisions(uri)]
        if not root and not said:
            told = (
                "it has no provision, and names no policy whose provisions are known here, so it says nothing: "
                f"give a provision, or one of {', '.join(_TELLING)}"
            )
            self._refuse("RequiredFieldMissing", told, "Consent.provision")
        return said

    # provisions

    def _provisions(self, said: _Said, where: str, *, root: bool, told: bool) -> Iterator[Provision]:
        """A provision as one or several in a row: what is alternative there but not in ours is spelled out.

        ``told``: whether a policy has said something that it may leave to it.
        """
        provision = said.provision
        kind = provision.get("type")
        whoms = self._whoms(said)
        conditions = self._conditions(said)
        period = self._period(provision, "period", said.at.get("period", ""))
        purposes = self._purposes(said)
        self._check_unheard(said)
        if kind is None:
            narrowed = [e for e in provision if e not in ("id", "provision", "period")]
            if not root or narrowed or not (told or provision.get("provision")):
                self._refuse("RequiredFieldMissing", "does it permit or deny?", f"{where}.type")
            return
        if kind not in ("permit", "deny"):
            self._refuse("TableValueNotFound", "a provision is of the type permit or deny", f"{where}.type")
            return
        for whom, condition in product(whoms, conditions):
            yield Provision(
                permit=kind == "permit",
                actors=whom.actors,
                roles=whom.roles,
                purposes=purposes,
                period=both(period, whom.during),
                condition=condition,
            )

    def _check_unheard(self, said: _Said) -> None:
        actions = {c.get("code") for a in said.provision.get("action", ()) for c in a.get("coding", ())}
        if "action" in said.provision and not actions & {*TABLE["actions"]["reading"]}:
            detail = f"what is decided here is reading: {', '.join(TABLE['actions']['reading'])}"
            self._refuse("TableValueNotFound", detail, said.at["action"])
        for number, coding in enumerate(said.provision.get("class", ())):
            if coding.get("code") not in TABLE["classes"].get(coding.get("system", ""), ()):
                detail = "this node keeps documents (DocumentReference); what class of them is meant says code"
                self._refuse("TableValueNotFound", detail, f"{said.at['class']}[{number}]")

    def _purposes(self, said: _Said) -> tuple[str, ...] | None:
        found: dict[str, None] = {}
        for number, coding in enumerate(said.provision.get("purpose", ())):
            place = f"{said.at['purpose']}[{number}].code"
            code = coding.get("code", "")
            if not code:
                self._refuse("RequiredFieldMissing", "a purpose is a code", place)
            elif said.denies and code not in _PURPOSES:
                detail = (
                    f"nobody has the purpose {code[:40]!r}, so this would restrict nobody: give a code of PurposeOfUse"
                )
                self._refuse("TableValueNotFound", detail, place)
            narrower = (
                *TABLE["purposes"].get(code, ()),
                *(TABLE["purposes_denied"].get(code, ()) if said.denies else ()),
            )
            found |= dict.fromkeys((code, *narrower))
        return tuple(found) or None

    def _period(self, holder: Mapping[str, Any], element: str, where: str) -> Period:
        begin, end = self._bounds(holder, element, where)
        return Period(begin, end)

    def _bounds(self, holder: Mapping[str, Any], element: str, where: str) -> tuple[datetime | None, datetime | None]:
        """The first moment of a Period, and the first one after it; a day that it ends on belongs to it."""
        given = holder.get(element, {})
        begin, end = bounds(given, where, self._findings)
        if begin is not None and end is not None and (end < begin or (end == begin and "T" not in given["end"])):
            self._refuse("RuleBroken", "it ends before it begins", where)
        return begin, end

    # whom

    def _whoms(self, said: _Said) -> Sequence[_Whom]:
        if "actor" not in said.provision:
            return (_Whom(None),)
        people: dict[Period, dict[str, None]] = {}
        found: list[_Whom] = []
        # Who is a member no more is permitted nothing; what denies still means all who were meant.
        naming = _Naming(TABLE["actors"]["types"], ended=said.provision.get("type") != "permit")
        if said.denies:
            naming = naming._replace(recognised=_asks, unbound=TABLE["actors"]["unbound"])
        for number, actor in enumerate(said.provision["actor"]):
            place = f"{said.at['actor']}[{number}]"
            roles = [(c.get("system", ""), c.get("code", "")) for c in codings_of(actor, "role")]
            if not any(code in TABLE["actor_roles"].get(system, ()) for system, code in roles):
                detail = "what is decided here is who may be told: IRCP of v3-ParticipationType"
                self._refuse("TableValueNotFound", detail, f"{place}.role")
            for whom in self._named(actor.get("reference", {}), f"{place}.reference", naming):
                if whom.roles is not None:
                    found.append(whom)
                else:
                    people.setdefault(whom.during, {}).update(dict.fromkeys(whom.actors or ()))
        if not people and not found:
            return (_Whom(()),)
        return [*(_Whom(tuple(who), None, during) for during, who in people.items()), *found]

    def _named(self, reference: Mapping[str, Any], where: str, naming: _Naming) -> Sequence[_Whom]:
        """All who are named; what denies names somebody."""
        before = len(self._findings)
        found = [*self._whom(reference, where, naming)]
        if not found and naming.recognised is not None and len(self._findings) == before:
            said = "nobody is named by it, so this would restrict nobody: name whom you mean"
            self._refuse("RequiredFieldMissing", said, where)
        return found

    def _whom(
        self,
        reference: Mapping[str, Any],
        where: str,
        naming: _Naming,
        depth: int = 0,
        during: Period = _ALWAYS,
    ) -> Iterator[_Whom]:
        literal = reference.get("reference", "")
        own = identifiers({"identifier": [reference["identifier"]]}) if "identifier" in reference else ()
        if (kind := self._kind(reference)) in naming.unbound:
            said = f"from a {kind} nothing is hidden by a restriction: end their authorisation instead"
            self._refuse("RuleBroken", said, where)
            return
        resource = self._found(literal)
        if resource is None:
            if own and naming.recognised is not None and kind and (kind in MEMBERS or kind not in naming.types):
                said = f"nobody is recognised by the identifier of a {kind[:40]}: name the people or the organisation"
                self._refuse("RuleBroken", said, where)
            elif own:
                yield self._one(own, where, naming, during)
            elif not literal:
                self._refuse("RequiredFieldMissing", "the reference names nobody", where)
            else:
                self._refuse("UnresolvedReferenceException", _unknown(literal), where)
            return
        kind = resource["resourceType"]
        if kind not in naming.types or depth > ROUNDS_MAX:
            said = f"a {kind} is nobody who could be meant: {', '.join(naming.types)}"
            self._refuse("RuleBroken", said, where)
            return
        if kind in MEMBERS and not naming.ended:
            if over(resource):
                return
            during = both(during, self._period(resource, "period", f"{where} ({kind}.period)"))
        if _means_roles(resource):
            yield self._of_role(resource, where, naming)._replace(during=during)
            return
        parts = [
            (part, r) for element, inner in MEMBERS.get(kind, ()) for part, r in parts_of(resource, element, inner)
        ]
        if kind == "PractitionerRole" and not parts:
            parts = parts_of(resource, "organization", "")
        if kind in MEMBERS:
            for part, named in parts:
                then = during
                if not naming.ended and part is not named:
                    if over(part):
                        continue
                    then = both(during, self._period(part, "period", f"{where} ({kind}.period)"))
                yield from self._whom(named, where, naming, depth + 1, then)
            return
        if found := (*own, *identifiers(resource)):
            yield self._one(found, where, naming, during)
        elif not literal.startswith("#"):
            # Whom the directory knows without an identifier: by its name, which documents here have as a number.
            name = literal.removeprefix(f"{self._base}/")
            numbered = identifiers({"identifier": [directory_identifier(name, self._home)]}) if self._home else ()
            yield _Whom((name, *numbered), None, during)
        else:
            yield self._one((literal,), where, naming, during)

    def _one(self, found: tuple[str, ...], where: str, naming: _Naming, during: Period) -> _Whom:
        """One person or organisation, by their identifiers."""
        if naming.recognised is not None and not any(map(naming.recognised, found)):
            said = (
                f"{found[0][:120]} is recognised by nothing here, so this would restrict nobody: "
                "give an identifier with a system (urn:oid: and the OID) and a value"
            )
            self._refuse("RequiredFieldMissing", said, where)
        return _Whom(found, None, during)

    def _found(self, literal: str) -> Mapping[str, Any] | None:
        if literal.startswith("#"):
            return self._contained.get(literal)
        kind, id_ = local(literal, self._base)
        return self._known.get(f"{kind}/{id_}")

    def _of_role(self, resource: Mapping[str, Any], where: str, naming: _Naming) -> _Whom:
        """All who have a role, at an organisation where one is given."""
        kind = resource["resourceType"]
        told = [concept.get("coding", ()) for concept, _ in parts_of(resource, "code", "")]
        roles = tuple(coding.get("code", "") for codings in told for coding in codings)
        if not (told and all(told)) or any(role not in _ROLES for role in roles):
            said = f"a {kind} that lists nobody says by its code which role is meant: {', '.join(_ROLES)}"
            self._refuse("TableValueNotFound", said, f"{where} ({kind}.code)")
        if "characteristic" in resource:
            said = "characteristics are not understood here, so more people would be meant: list the members"
            self._refuse("RuleBroken", said, f"{where} ({kind}.characteristic)")
        actors: tuple[str, ...] | None = None
        if (element := _AT[kind]) in resource:
            of = naming._replace(types=["Organization"])
            found = self._whom(resource[element], f"{where} ({kind}.{element})", of)
            actors = tuple(a for whom in found for a in whom.actors or ())
        return _Whom(actors, roles)

    # what

    def _conditions(self, said: _Said) -> Sequence[Condition]:
        """Every way in which a document may fit: data and codes are alternatives among themselves."""
        begin, end = self._bounds(said.provision, "dataPeriod", said.at.get("dataPeriod", ""))
        if end is not None and "T" in said.provision["dataPeriod"]["end"]:
            end = end.replace(microsecond=0) + timedelta(seconds=1)  # documents say the second; this one belongs to it
        common: dict[str, Any] = {
            "labels": self._labels(said),
            "created_from": _dtm(begin),
            "created_to": _dtm(end),
        }
        data, codes = self._data(said), self._codes(said)
        return [Condition(**(common | one | other)) for one, other in product(data, codes)]

    def _labels(self, said: _Said) -> tuple[str, ...] | None:
        found: dict[str, None] = {}
        for number, coding in enumerate(said.provision.get("securityLabel", ())):
            place = f"{said.at['securityLabel']}[{number}].code"
            code = coding.get("code", "")
            if not code:
                self._refuse("RequiredFieldMissing", "a security label is a code", place)
            elif said.denies and code not in _LEVELS and not self._borne(code, coding.get("system", "")):
                detail = (
                    f"no document here bears {code[:40]!r}, so this would hide nothing: N, R, V, or another "
                    "confidentialityCode of the affinity domain, with its system or none"
                )
                self._refuse("TableValueNotFound", detail, place)
            found[code] = None
        return tuple(found) or None

    def _borne(self, code: str, system: str) -> bool:
        """Whether documents may have this code among their confidentialityCodes, in any scheme if none is said."""
        name, domain = "confidentiality_code", self._domain
        schemes = {*domain.patterns(name), *(listed.scheme for listed in domain.codes(name))}
        if system:
            schemes = {scheme_of(system, code, name, domain)}
        return any(domain.accepts(name, code, scheme) for scheme in schemes)

    def _data(self, said: _Said) -> Sequence[dict[str, tuple[str, ...]]]:
        if "data" not in said.provision:
            return ({},)
        found: dict[str, dict[str, None]] = {}
        for number, item in enumerate(said.provision["data"]):
            place = f"{said.at['data']}[{number}].reference"
            meaning, reference = item.get("meaning", ""), item.get("reference", {})
            kind = self._kind(reference)
            if not kind:
                detail = "what is it? Refer to <type>/<id>, or say the type beside the identifier"
                self._refuse("RequiredFieldMissing", detail, f"{place}.type")
                continue
            rows = TABLE["data"].get(meaning, {})
            sort = rows.get(kind) or rows.get("*")
            if not is_resource(kind):
                self._refuse("TableValueNotFound", f"{kind[:40]!r} is no type of resources", place)
            elif sort is None:
                detail = f"what is {meaning} to a {kind} is not told here: {', '.join(rows)}"
                self._refuse("TableValueNotFound", detail, place)
            elif said.denies and (instead := TABLE["denied"].get(meaning, {}).get(kind)):
                self._refuse("RuleBroken", f"a {kind} is not hidden as itself here: {instead}", place)
            elif sort == "authors":
                found.setdefault(sort, {}).update(dict.fromkeys(self._authors(reference, place, list(rows), said)))
            else:
                things = self._things(sort, reference, place, denied=said.denies)
                found.setdefault(sort, {}).update(dict.fromkeys(things))
        meant = [{sort: tuple(values)} for sort, values in found.items() if sort != "none"]
        return meant or ({"documents": ()},)  # what is kept here fits none of it

    def _kind(self, reference: Mapping[str, Any]) -> str:
        resource = self._found(reference.get("reference", ""))
        kind = resource["resourceType"] if resource else local(reference.get("reference", ""), self._base)[0]
        return str(kind or reference.get("type", ""))

    def _authors(self, reference: Mapping[str, Any], where: str, types: Sequence[str], said: _Said) -> Iterator[str]:
        naming = _Naming(types, ended=True, recognised=_in_documents if said.denies else None)
        for whom in self._named(reference, where, naming):
            if whom.roles is not None:
                self._refuse("RuleBroken", "documents tell who wrote them, not in which role: name the authors", where)
            yield from whom.actors or ()

    def _things(self, sort: str, reference: Mapping[str, Any], where: str, *, denied: bool) -> Iterator[str]:
        """Documents by their entryUUID, encounters by their identifiers."""
        literal = reference.get("reference", "")
        if sort == "none":
            return
        resource = self._found(literal)
        if sort == "documents":
            _, id_ = local(literal, self._base)
            if resource is None or not _UUID.match(id_):
                self._refuse("UnresolvedReferenceException", _unknown(literal), where)
            else:
                yield f"urn:uuid:{id_}"
            return
        found: tuple[str, ...] = ()
        if "identifier" in reference:
            found = identifiers({"identifier": [reference["identifier"]]})
            if not found:
                self._refuse("RequiredFieldMissing", "an identifier has a value", f"{where}.identifier.value")
                return
        elif resource is None:
            self._refuse("UnresolvedReferenceException", _unknown(literal), where)
            return
        if resource is not None:
            found = (*found, *identifiers(resource), literal.removeprefix(f"{self._base}/"))
        if denied and not any("#" in each and _in_documents(each) for each in found):
            said = "documents name their visits by identifiers with an OID: give one (system urn:oid: and the OID)"
            self._refuse("RequiredFieldMissing", said, f"{where}.identifier")
        yield from found

    def _codes(self, said: _Said) -> Sequence[dict[str, tuple[str, ...]]]:
        """Codes by the attribute of documents that holds them, as the registry keeps them."""
        found: dict[str, dict[str, None]] = {}
        for number, concept in enumerate(said.provision.get("code", ())):
            fits = False
            for coding in concept.get("coding", ()):
                code, system = coding.get("code", ""), coding.get("system", "")
                for attribute in TABLE["codes"]["attributes"]:
                    scheme = scheme_of(system, code, attribute, self._domain)
                    if self._domain.accepts(attribute, code, scheme):
                        found.setdefault(f"{attribute}s", {})[f"{code}^^{scheme}"] = None
                        fits = True
            if not fits:
                detail = "it is none of the classes, types or practice settings of documents of this affinity domain"
                self._refuse("TableValueNotFound", detail, f"{said.at['code']}[{number}]")
        return [{attribute: tuple(codes)} for attribute, codes in found.items()] or ({},)


def _said(root: Mapping[str, Any] | None) -> Iterator[tuple[_Said, str, int]]:
    """Provisions as :func:`walk` comes to them."""
    around: dict[int, _Said] = {}
    for provision, where, depth in walk(root, "Consent.provision"):
        around[depth] = _within(around[depth - 1] if depth > _BY_THEMSELVES else None, provision, where)
        yield around[depth], where, depth


def _within(around: _Said | None, provision: Mapping[str, Any], where: str) -> _Said:
    """A provision with what it does not say itself and is about because the one around it is."""
    own = _Said(provision, {element: f"{where}.{element}" for element in provision})
    if around is None:
        return own
    taken = [e for e in TABLE["nested"]["taken"] if e in around.provision and e not in provision]
    return _Said(
        {**provision, **{e: around.provision[e] for e in taken}}, {**own.at, **{e: around.at[e] for e in taken}}
    )


def _means_roles(resource: Mapping[str, Any]) -> bool:
    """Whether whoever has a role is meant, and not who is listed."""
    if resource["resourceType"] == "Group":
        return resource.get("actual") is False
    return resource["resourceType"] == "PractitionerRole" and "practitioner" not in resource and "code" in resource


def _asks(identifier: str) -> bool:
    """Whether it may be that of somebody who asks."""
    root, mark, _ = identifier.partition("#")
    return is_oid(identifier) or (bool(mark and root) and not root.startswith("urn:oid:"))


def _in_documents(identifier: str) -> bool:
    """Whether documents may hold it: their authors and visits have OIDs."""
    return is_oid(identifier.partition("#")[0])


def unheld(resource: Mapping[str, Any], at: datetime, base: str = "") -> list[Finding]:
    """Warnings of what opens and hides nothing here, though nothing is wrong with it; ``at``: when it was recorded.

    Data that is kept in no document as itself, a period that is over.
    """
    findings = []
    _, until = bounds(resource.get("provision", {}).get("period", {}), "", [])
    if until is not None and until <= at:
        said = "its period is over, so it opens and hides nothing"
        findings.append(Finding("RuleBroken", said, "Consent.provision.period.end", warning=True))
    for stated, _, _ in _said(resource.get("provision")):
        provision = stated.provision
        for number, item in enumerate(provision.get("data", ())):
            kind = local(item.get("reference", {}).get("reference", ""), base)[0]
            rows = TABLE["data"].get(item.get("meaning", ""), {})
            if rows.get(kind, rows.get("*")) == "none":
                said = f"this node keeps documents; a {kind or 'thing'} is none, so this opens and hides nothing"
                place = f"{stated.at['data']}[{number}].reference"
                findings.append(Finding("UnresolvedReferenceException", said, place, warning=True))
    return [*dict.fromkeys(findings)]


def both(one: Period, other: Period) -> Period:
    """While both hold."""
    begins = [begin for begin in (one.begin, other.begin) if begin is not None]
    return Period(max(begins, default=None), earliest(one.end, other.end))


def _unknown(literal: str) -> str:
    if not literal:
        return "it is meant by its id here: refer to <type>/<id>"
    return f"{literal[:120]} is not known here: announce it first, or refer to it by an identifier"


def _dtm(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.year:04}{moment:%m%d%H%M%S}"
