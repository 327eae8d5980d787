"""What a FHIR R4 Consent means for decisions about access, and what is wrong with one that cannot be told.

The meaning is docs/access.md, ``codes/access_consents.toml`` has the tables. What a Consent refers to must be known
here: a restriction of somebody whom nobody knows would restrict nothing. Days without a time zone are days of UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Any, NamedTuple

from obieg.codes.load import toml
from obieg.domain.access import Condition, Consent, Period, Provision, earliest
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.consents import Kind
from obieg.domain.problems import Finding, Problem
from obieg.mapping.consent_references import (
    MEMBERS,
    ROUNDS_MAX,
    TABLE,
    codings_of,
    identifiers,
    local,
    over,
    parts_of,
    walk,
)
from obieg.mapping.directory_terms import span
from obieg.mapping.fhir_codes import scheme_of

PROVISIONS_MAX = 500  # of one Consent, as they are after alternatives are spelled out
_ROLES = toml("roles.toml")
_TELLING = [uri for uri, row in TABLE["policies"].items() if row["provisions"]]
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def read_consent(
    id_: str, resource: Mapping[str, Any], known: Mapping[str, dict[str, Any]], domain: AffinityDomain, base: str = ""
) -> Consent:
    """What an active Consent says; raises Problem with all that cannot be told.

    ``known``: what stands under the references that :func:`references` names, and under those of :func:`members`.
    """
    return _Meaning(resource, known, domain, base).consent(id_)


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


class _Whom(NamedTuple):
    """An actor: identifiers, or roles of whoever acts for an organisation."""

    actors: tuple[str, ...] | None
    roles: tuple[str, ...] | None = None
    during: Period = _ALWAYS  # of the memberships by which they are meant


class _Meaning:
    def __init__(
        self, resource: Mapping[str, Any], known: Mapping[str, dict[str, Any]], domain: AffinityDomain, base: str
    ) -> None:
        self._resource = resource
        self._known = known
        self._domain = domain
        self._base = base
        self._contained = {f"#{c.get('id', '')}": c for c in resource.get("contained", ())}
        self._findings: list[Finding] = []

    def consent(self, id_: str) -> Consent:
        root = self._resource.get("provision")
        provisions = self._policies(root)
        for provision, where, depth in walk(root, "Consent.provision"):
            provisions += self._provisions(provision, where, root=depth == 1, told=bool(provisions))
        if len(provisions) > PROVISIONS_MAX:
            said = f"it says more than {PROVISIONS_MAX} things when its alternatives are spelled out: say it in several"
            self._refuse("LimitExceeded", said, "Consent.provision")
        period = self._period(root or {}, "period", "Consent.provision")
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

    def _provisions(self, provision: Mapping[str, Any], where: str, *, root: bool, told: bool) -> Iterator[Provision]:
        """A provision as one or several in a row: what is alternative there but not in ours is spelled out.

        ``told``: whether a policy has said something that it may leave to it.
        """
        kind = provision.get("type")
        whoms = self._whoms(provision, where)
        conditions = self._conditions(provision, where)
        period = self._period(provision, "period", where)
        purposes = self._purposes(provision.get("purpose", ()), f"{where}.purpose")
        self._check_unheard(provision, where)
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

    def _check_unheard(self, provision: Mapping[str, Any], where: str) -> None:
        if "modifierExtension" in provision:
            said = "an extension that changes what the provision means is not understood here"
            self._refuse("RuleBroken", said, f"{where}.modifierExtension")
        actions = {c.get("code") for a in provision.get("action", ()) for c in a.get("coding", ())}
        if "action" in provision and not actions & {*TABLE["actions"]["reading"]}:
            said = f"what is decided here is reading: {', '.join(TABLE['actions']['reading'])}"
            self._refuse("TableValueNotFound", said, f"{where}.action")
        for number, coding in enumerate(provision.get("class", ())):
            if coding.get("code") not in TABLE["classes"].get(coding.get("system", ""), ()):
                said = "this node keeps documents (DocumentReference); what class of them is meant says code"
                self._refuse("TableValueNotFound", said, f"{where}.class[{number}]")

    def _purposes(self, codings: Sequence[Mapping[str, Any]], where: str) -> tuple[str, ...] | None:
        if not codings:
            return None
        found: dict[str, None] = {}
        for number, coding in enumerate(codings):
            code = coding.get("code", "")
            if not code:
                self._refuse("RequiredFieldMissing", "a purpose is a code", f"{where}[{number}].code")
            found |= dict.fromkeys((code, *TABLE["purposes"].get(code, ())))
        return tuple(found)

    def _period(self, holder: Mapping[str, Any], element: str, where: str) -> Period:
        begin, end = self._bounds(holder, element, where)
        return Period(begin, end)

    def _bounds(self, holder: Mapping[str, Any], element: str, where: str) -> tuple[datetime | None, datetime | None]:
        """The first moment of a Period, and the first one after it; a day that it ends on belongs to it."""
        given = holder.get(element, {})
        moments: list[datetime | None] = []
        for name in ("start", "end"):
            text = given.get(name, "")
            found = span(text) if text else None
            if text and found is None:
                self._refuse("DataTypeError", f"{text[:40]!r} is no date or time", f"{where}.{element}.{name}")
            later = name == "end" and "T" not in text
            moments.append(datetime.fromisoformat(found[later]) if found else None)
        begin, end = moments
        if begin is not None and end is not None and (end < begin or (end == begin and "T" not in given["end"])):
            self._refuse("RuleBroken", "it ends before it begins", f"{where}.{element}")
        return begin, end

    # whom

    def _whoms(self, provision: Mapping[str, Any], where: str) -> Sequence[_Whom]:
        if "actor" not in provision:
            return (_Whom(None),)
        people: dict[Period, dict[str, None]] = {}
        found: list[_Whom] = []
        # Who is a member no more is permitted nothing; what denies still means all who were meant.
        ended = provision.get("type") != "permit"
        for number, actor in enumerate(provision["actor"]):
            place = f"{where}.actor[{number}]"
            roles = [(c.get("system", ""), c.get("code", "")) for c in codings_of(actor, "role")]
            if not any(code in TABLE["actor_roles"].get(system, ()) for system, code in roles):
                said = "what is decided here is who may be told: IRCP of v3-ParticipationType"
                self._refuse("TableValueNotFound", said, f"{place}.role")
            types = TABLE["actors"]["types"]
            for whom in self._whom(actor.get("reference", {}), f"{place}.reference", types, ended=ended):
                if whom.roles is not None:
                    found.append(whom)
                else:
                    people.setdefault(whom.during, {}).update(dict.fromkeys(whom.actors or ()))
        if not people and not found:
            return (_Whom(()),)
        return [*(_Whom(tuple(who), None, during) for during, who in people.items()), *found]

    def _whom(
        self,
        reference: Mapping[str, Any],
        where: str,
        types: Sequence[str],
        depth: int = 0,
        during: Period = _ALWAYS,
        *,
        ended: bool = True,
    ) -> Iterator[_Whom]:
        """``ended``: also by memberships that hold no more, or not yet; else while they hold."""
        literal = reference.get("reference", "")
        own = identifiers({"identifier": [reference["identifier"]]}) if "identifier" in reference else ()
        resource = self._found(literal)
        if resource is None:
            if own:
                yield _Whom(own, None, during)
            elif not literal:
                self._refuse("RequiredFieldMissing", "the reference names nobody", where)
            else:
                self._refuse("UnresolvedReferenceException", _unknown(literal), where)
            return
        kind = resource["resourceType"]
        if kind not in types or depth > ROUNDS_MAX:
            said = f"a {kind} is nobody who could be meant: {', '.join(types)}"
            self._refuse("RuleBroken", said, where)
            return
        if kind in MEMBERS and not ended:
            if over(resource):
                return
            during = both(during, self._period(resource, "period", f"{where} ({kind}.period)"))
        if kind == "Group" and resource.get("actual") is False:
            yield self._of_role(resource, where)._replace(during=during)
            return
        parts = [
            (part, r) for element, inner in MEMBERS.get(kind, ()) for part, r in parts_of(resource, element, inner)
        ]
        if kind == "PractitionerRole" and not parts:
            parts = parts_of(resource, "organization", "")
        if kind in MEMBERS:
            for part, named in parts:
                then = during
                if not ended and part is not named:
                    if over(part):
                        continue
                    then = both(during, self._period(part, "period", f"{where} ({kind})"))
                yield from self._whom(named, where, types, depth + 1, then, ended=ended)
            return
        # One who has no identifiers is recognised by none; the name keeps what was meant.
        yield _Whom((*own, *identifiers(resource)) or (literal.removeprefix(f"{self._base}/"),), None, during)

    def _found(self, literal: str) -> Mapping[str, Any] | None:
        if literal.startswith("#"):
            return self._contained.get(literal)
        kind, id_ = local(literal, self._base)
        return self._known.get(f"{kind}/{id_}")

    def _of_role(self, group: Mapping[str, Any], where: str) -> _Whom:
        """All who have a role, at an organisation where one manages the group."""
        roles = tuple(c.get("code", "") for c in codings_of(group, "code"))
        if not roles or any(role not in _ROLES for role in roles):
            said = f"a group that lists nobody says by its code which role is meant: {', '.join(_ROLES)}"
            self._refuse("TableValueNotFound", said, f"{where} (Group.code)")
        actors: tuple[str, ...] | None = None
        if "managingEntity" in group:
            found = self._whom(group["managingEntity"], f"{where} (Group.managingEntity)", ["Organization"])
            actors = tuple(a for whom in found for a in whom.actors or ())
        return _Whom(actors, roles)

    # what

    def _conditions(self, provision: Mapping[str, Any], where: str) -> Sequence[Condition]:
        """Every way in which a document may fit: data and codes are alternatives among themselves."""
        labels = tuple(dict.fromkeys(c.get("code", "") for c in provision.get("securityLabel", ()))) or None
        begin, end = self._bounds(provision, "dataPeriod", where)
        common: dict[str, Any] = {"labels": labels, "created_from": _dtm(begin), "created_to": _dtm(end)}
        data, codes = self._data(provision, where), self._codes(provision, where)
        return [Condition(**(common | one | other)) for one, other in product(data, codes)]

    def _data(self, provision: Mapping[str, Any], where: str) -> Sequence[dict[str, tuple[str, ...]]]:
        if "data" not in provision:
            return ({},)
        found: dict[str, dict[str, None]] = {}
        for number, item in enumerate(provision["data"]):
            place = f"{where}.data[{number}]"
            meaning, reference = item.get("meaning", ""), item.get("reference", {})
            kind = self._kind(reference)
            if not kind:
                said = "what is it? Refer to <type>/<id>, or say the type beside the identifier"
                self._refuse("RequiredFieldMissing", said, f"{place}.reference.type")
                continue
            rows = TABLE["data"].get(meaning, {})
            sort = rows.get(kind) or rows.get("*")
            if sort is None:
                said = (
                    f"what is {meaning} to a {kind or 'reference without a type'} is not told here: {', '.join(rows)}"
                )
                self._refuse("TableValueNotFound", said, f"{place}.reference")
            elif sort == "authors":
                whoms = self._whom(reference, f"{place}.reference", list(rows))
                found.setdefault(sort, {}).update(dict.fromkeys(a for w in whoms for a in w.actors or ()))
            else:
                found.setdefault(sort, {}).update(dict.fromkeys(self._things(sort, reference, f"{place}.reference")))
        meant = [{sort: tuple(values)} for sort, values in found.items() if sort != "none"]
        return meant or ({"documents": ()},)  # what is kept here fits none of it

    def _kind(self, reference: Mapping[str, Any]) -> str:
        resource = self._found(reference.get("reference", ""))
        kind = resource["resourceType"] if resource else local(reference.get("reference", ""), self._base)[0]
        return str(kind or reference.get("type", ""))

    def _things(self, sort: str, reference: Mapping[str, Any], where: str) -> Iterator[str]:
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
        if "identifier" in reference:
            yield from identifiers({"identifier": [reference["identifier"]]})
        elif resource is None:
            self._refuse("UnresolvedReferenceException", _unknown(literal), where)
        if resource is not None:
            yield from identifiers(resource)
            yield literal.removeprefix(f"{self._base}/")

    def _codes(self, provision: Mapping[str, Any], where: str) -> Sequence[dict[str, tuple[str, ...]]]:
        """Codes by the attribute of documents that holds them, as the registry keeps them."""
        found: dict[str, dict[str, None]] = {}
        for number, concept in enumerate(provision.get("code", ())):
            fits = False
            for coding in concept.get("coding", ()):
                code, system = coding.get("code", ""), coding.get("system", "")
                for attribute in TABLE["codes"]["attributes"]:
                    scheme = scheme_of(system, code, attribute, self._domain)
                    if self._domain.accepts(attribute, code, scheme):
                        found.setdefault(f"{attribute}s", {})[f"{code}^^{scheme}"] = None
                        fits = True
            if not fits:
                said = "it is none of the classes, types or practice settings of documents of this affinity domain"
                self._refuse("TableValueNotFound", said, f"{where}.code[{number}]")
        return [{attribute: tuple(codes)} for attribute, codes in found.items()] or ({},)


def unheld(resource: Mapping[str, Any], base: str = "") -> list[Finding]:
    """Warnings of data that is kept in no document as itself: what names it opens and hides nothing."""
    findings = []
    for provision, where, _ in walk(resource.get("provision"), "Consent.provision"):
        for number, item in enumerate(provision.get("data", ())):
            kind = local(item.get("reference", {}).get("reference", ""), base)[0]
            rows = TABLE["data"].get(item.get("meaning", ""), {})
            if rows.get(kind, rows.get("*")) == "none":
                said = f"this node keeps documents; a {kind or 'thing'} is none, so this opens and hides nothing"
                place = f"{where}.data[{number}].reference"
                findings.append(Finding("UnresolvedReferenceException", said, place, warning=True))
    return findings


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
