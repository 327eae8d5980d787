"""FHIR R4 Consent and what it means for decisions about access, and ITI-108 (IHE PCF, Access Consent).

http://hl7.org/fhir/R4/consent.html, https://profiles.ihe.net/ITI/PCF/ITI-108.html; the meaning is docs/access.md,
``codes/access_consents.toml`` has the tables. A Consent is kept as it was sent. What it refers to must be known here: a
restriction of somebody whom nobody knows would restrict nothing. Days without a time zone are days of UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Any, NamedTuple
from urllib.parse import urlencode

from obieg.codes.load import toml
from obieg.domain.access import Condition, Consent, Period, Provision, earliest
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.audit import AuditObject
from obieg.domain.consents import CONSENTS, ConsentQuery, Kind, Said
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Finding, Problem
from obieg.mapping.directory_terms import span
from obieg.mapping.fhir_bundle import searchset
from obieg.mapping.fhir_codes import scheme_of
from obieg.mapping.fhir_parameters import Criterion, Search, plain, search, token
from obieg.mapping.fhir_patient import authority, instant, patient_value
from obieg.protocol import FhirReply, FhirRequest
from obieg.wire import fhir_json

PAGE = 50  # consents on a page where the asker names no number
PROVISIONS_MAX = 500  # of one Consent, as they are after alternatives are spelled out
ROUNDS_MAX = 4  # in which groups of groups are followed
PATIENT = "Patient"
TABLE = toml("access_consents.toml")
_ROLES = toml("roles.toml")
_TELLING = [uri for uri, row in TABLE["policies"].items() if row["provisions"]]
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}\Z", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}\Z", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_KEPT_APART = ("versionId", "lastUpdated")
_MEMBERS = {  # of whom one speaks who speaks of these, by where they stand
    "Group": (("member", "entity"),),
    "CareTeam": (("participant", "member"),),
    "PractitionerRole": (("practitioner", ""),),
}


class ConsentDraft(Value, frozen=True):
    """A Consent as it is sent, read as far as it can be read alone."""

    resource: dict[str, Any]
    patients: tuple[PatientId, ...]  # all names of the one patient
    active: bool
    base: str


class ConsentAsked(Value, frozen=True):
    """ITI-108: one Consent is made, changed, ended or read."""

    interaction: str
    id: str = ""
    version: int | None = None
    if_match: str = ""
    draft: ConsentDraft | None = None


class ConsentSearch(Value, frozen=True):
    """ITI-108: a search, with what its answer must repeat."""

    query: ConsentQuery
    search: Search


# reading requests ------------------------------------------------------------------------------------------------


def read_request(request: FhirRequest) -> ConsentAsked | ConsentSearch:
    """What is asked; raises Problem with everything that is wrong with it."""
    if request.interaction == "search-type":
        return _search(request)
    if request.interaction == "create":
        return ConsentAsked("create", draft=draft(request.body or {}, request.base, request.affinity_domain))
    id_ = _logical(request.id)
    if request.interaction == "vread":
        if not _NUMBER.match(request.version):
            raise Problem.of("AddressNotFound", f"{request.version[:40]!r} is no version")
        return ConsentAsked("vread", id_, int(request.version))
    if request.interaction == "update":
        resource = request.body or {}
        if resource.get("id") != request.id:
            raise Problem.of("RuleBroken", "the id must be that of the address", "Consent.id")
        read = draft(resource, request.base, request.affinity_domain)
        return ConsentAsked("update", id_, if_match=request.if_match, draft=read)
    return ConsentAsked(request.interaction, id_, if_match=request.if_match)


def _logical(text: str) -> str:
    if not _ID.match(text):
        raise Problem.of("AddressNotFound", f"{text[:80]!r} is no logical id")
    return text


def draft(resource: dict[str, Any], base: str, affinity_domain: str) -> ConsentDraft:
    """A Consent read as far as it can be read alone; raises Problem."""
    if resource.get("resourceType") != "Consent":
        raise Problem.of("RuleBroken", "a Consent belongs to this address", "resourceType")
    findings: list[Finding] = []
    scope = TABLE["scope"]
    if not any(
        (c.get("system"), c.get("code")) == (scope["system"], scope["code"]) for c in _codings(resource, "scope")
    ):
        said = f"what is kept here is about privacy: {scope['code']} of {scope['system']}"
        findings.append(Finding("TableValueNotFound", said, "Consent.scope"))
    if "modifierExtension" in resource:
        said = "an extension that changes what the Consent means is not understood here"
        findings.append(Finding("RuleBroken", said, "Consent.modifierExtension"))
    patients = _patients(resource.get("patient"), base, affinity_domain, findings)
    for profile in resource.get("meta", {}).get("profile", ()):
        if rules := TABLE["profiles"].get(profile.partition("|")[0]):
            findings += _breaches(resource, rules, profile.rpartition("/")[2])
    if findings:
        raise Problem(findings)
    meta = {k: v for k, v in resource.get("meta", {}).items() if k not in _KEPT_APART}
    kept = {k: v for k, v in resource.items() if k not in ("resourceType", "id", "meta")}
    return ConsentDraft(
        resource={"resourceType": "Consent", **({"meta": meta} if meta else {}), **kept},
        patients=patients,
        active=TABLE["status"].get(resource.get("status"), False),
        base=base,
    )


def _codings(holder: Mapping[str, Any], *path: str) -> Sequence[Mapping[str, Any]]:
    for name in path:
        holder = holder.get(name) or {}
    found: Sequence[Mapping[str, Any]] = holder.get("coding", ())
    return found


def _patients(
    reference: Mapping[str, Any] | None, base: str, affinity_domain: str, findings: list[Finding]
) -> tuple[PatientId, ...]:
    """All identifiers by which a reference names the patient."""
    where = "Consent.patient"
    if not reference:
        findings.append(Finding("RequiredFieldMissing", "whose consent is it? Name the patient", where))
        return ()
    found = []
    if literal := reference.get("reference", ""):
        kind, id_ = local(literal, base)
        value = patient_value(id_) if kind == PATIENT else ""
        if value:
            found.append(PatientId(value, affinity_domain))
        elif "identifier" not in reference:
            said = f"{literal[:120]} is no Patient of this service: refer to Patient/<id>, or give an identifier"
            findings.append(Finding("XDSUnknownPatientId", said, f"{where}.reference"))
    if identifier := reference.get("identifier"):
        oid = authority(identifier.get("system", ""))
        if oid and identifier.get("value"):
            found.append(PatientId(identifier["value"], oid))
        else:
            said = "an identifier names its assigning authority by urn:oid:, and has a value"
            findings.append(Finding("DataTypeError", said, f"{where}.identifier"))
    elif not literal:
        findings.append(Finding("RequiredFieldMissing", "the reference names nobody", where))
    return tuple(dict.fromkeys(found))


def _breaches(resource: Mapping[str, Any], rules: Mapping[str, Any], name: str) -> Iterator[Finding]:
    """What a profile that the Consent claims does not allow."""
    for element in rules["required"]:
        if not any(key == element or (element == "source" and key.startswith("source")) for key in resource):
            yield Finding("RequiredFieldMissing", f"{name} has this element", f"Consent.{element}")
    for number, policy in enumerate(resource.get("policy", ())):
        if not policy.get("uri"):
            yield Finding(
                "RequiredFieldMissing", f"{name} names policies by their uri", f"Consent.policy[{number}].uri"
            )
    if "verification" in resource:
        yield Finding("ElementUnknown", f"{name} has no such element", "Consent.verification")
    for provision, where, depth in _walk(resource.get("provision"), "Consent.provision"):
        if depth > rules["depth"]:
            yield Finding("RuleBroken", f"{name} nests provisions {rules['depth']} deep at most", where)
        for element in rules["absent"]:
            if element in provision:
                yield Finding("ElementUnknown", f"provisions of {name} have no such element", f"{where}.{element}")
        if depth == 1 and "type" not in provision:
            yield Finding("RequiredFieldMissing", f"{name} permits or denies", f"{where}.type")


def _walk(provision: Any, where: str, depth: int = 1) -> Iterator[tuple[dict[str, Any], str, int]]:
    """A provision and its nested ones, depth first; among siblings denying ones come last."""
    if not provision:
        return
    yield provision, where, depth
    nested = [(p, f"{where}.provision[{n}]") for n, p in enumerate(provision.get("provision", ()))]
    for inner, place in sorted(nested, key=lambda pair: pair[0].get("type") == "deny"):
        yield from _walk(inner, place, depth + 1)


def local(literal: str, base: str) -> tuple[str, str]:
    """Type and id of a literal reference into this service; ("", "") for any other."""
    path = literal.removeprefix(f"{base}/") if base else literal
    kind, _, id_ = path.partition("/")
    id_ = id_.partition("/_history/")[0]
    return (kind, id_) if kind.isalpha() and _ID.match(id_) else ("", "")


# what a Consent refers to ----------------------------------------------------------------------------------------


def references(resource: Mapping[str, Any], base: str) -> set[str]:
    """What must be looked up before the Consent can be read: Type/id."""
    found = set()
    for provision, _, _ in _walk(resource.get("provision"), ""):
        for reference in (*_each(provision, "actor"), *_each(provision, "data")):
            found |= _named(reference, base)
    for inner in resource.get("contained", ()):
        found |= members(inner, base)
    return found


def members(resource: Mapping[str, Any], base: str) -> set[str]:
    """Of whom one speaks who speaks of the resource: Type/id."""
    found = set()
    for element, inner in _MEMBERS.get(resource.get("resourceType", ""), ()):
        for _, named in _parts(resource, element, inner):
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
    system = given.get("system", "")
    return f"{authority(system) or system}#{given['value']}" if system else str(given["value"])


# meaning ---------------------------------------------------------------------------------------------------------


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
        for provision, where, depth in _walk(root, "Consent.provision"):
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
        named += [f"{c.get('system', '')}#{c.get('code', '')}" for c in _codings(self._resource, "policyRule")]
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
            roles = [(c.get("system", ""), c.get("code", "")) for c in _codings(actor, "role")]
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
        if kind in _MEMBERS and not ended:
            if over(resource):
                return
            during = both(during, self._period(resource, "period", f"{where} ({kind}.period)"))
        if kind == "Group" and resource.get("actual") is False:
            yield self._of_role(resource, where)._replace(during=during)
            return
        parts = [(part, r) for element, inner in _MEMBERS.get(kind, ()) for part, r in _parts(resource, element, inner)]
        if kind == "PractitionerRole" and not parts:
            parts = _parts(resource, "organization", "")
        if kind in _MEMBERS:
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
        roles = tuple(c.get("code", "") for c in _codings(group, "code"))
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


def _parts(resource: Mapping[str, Any], element: str, inner: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each part, and the reference of whom it names, which may be the part itself."""
    listed = resource.get(element, [])
    items = listed if isinstance(listed, list) else [listed]
    return [(item, item.get(inner, {}) if inner else item) for item in items]


def over(membership: Mapping[str, Any]) -> bool:
    """Whether a group, a team, a role or a member of one is said to be none any more."""
    status = membership.get("status", "active")
    return membership.get("inactive") is True or membership.get("active") is False or status in TABLE["ended"]["status"]


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


def unheld(resource: Mapping[str, Any], base: str = "") -> list[Finding]:
    """Warnings of data that is kept in no document as itself: what names it opens and hides nothing."""
    findings = []
    for provision, where, _ in _walk(resource.get("provision"), "Consent.provision"):
        for number, item in enumerate(provision.get("data", ())):
            kind = local(item.get("reference", {}).get("reference", ""), base)[0]
            rows = TABLE["data"].get(item.get("meaning", ""), {})
            if rows.get(kind, rows.get("*")) == "none":
                said = f"this node keeps documents; a {kind or 'thing'} is none, so this opens and hides nothing"
                place = f"{where}.data[{number}].reference"
                findings.append(Finding("UnresolvedReferenceException", said, place, warning=True))
    return findings


def actors(resource: Mapping[str, Any], base: str) -> tuple[str, ...]:
    """Whom a search for actors finds it by: Type/id of those whom its provisions name."""
    found = {
        r for p, _, _ in _walk(resource.get("provision"), "") for item in _each(p, "actor") for r in _named(item, base)
    }
    return tuple(sorted(found))


# searches --------------------------------------------------------------------------------------------------------


def _search(request: FhirRequest) -> ConsentSearch:
    asked = search(request, tell=True)
    findings: list[Finding] = []
    values: dict[str, tuple[Any, ...]] = {}
    for criterion in asked.criteria:
        name = criterion.name
        if name == "_lastUpdated":
            values[name] = (*values.get(name, ()), *(_updated(a, criterion, findings) for a in criterion.alternatives))
            if len(criterion.alternatives) > 1:
                findings.append(Finding("DataTypeError", "one time is expected", criterion.location))
            continue
        given = [_value(criterion, text, request, findings) for text in criterion.alternatives]
        key = "patients" if name.startswith("patient") else name
        before = values.get(key)
        values[key] = tuple(v for v in given if v is not None and (before is None or v in before))
        if not values[key] and before is not None:
            said = "it is asked for in two ways that do not meet, so nothing can fit: ask for it once"
            findings.append(Finding("RuleBroken", said, criterion.location))
    if not findings and not (values.get("patients") or values.get("_id")):
        said = "name the patient (patient or patient.identifier), or consents by _id"
        findings.append(Finding("RequiredFieldMissing", said, "http.patient"))
    skipped = asked.skipped(findings)
    if findings:
        raise Problem(findings)
    times: tuple[tuple[str, str], ...] = values.get("_lastUpdated", ())
    query = ConsentQuery(
        patients=values.get("patients", ()),
        sources=values.get("_id", ()),
        statuses=values.get("status", ()),
        actors=values.get("actor", ()),
        updated_from=max((low for low, _ in times if low), default="-infinity"),
        updated_before=min((high for _, high in times if high), default="infinity"),
        count=0 if asked.count_only else asked.count or PAGE,
        skipped=skipped,
        text=urlencode(request.parameters).encode(),
    )
    return ConsentSearch(query, asked)


def _value(criterion: Criterion, text: str, request: FhirRequest, findings: list[Finding]) -> Any:
    """A value as the store compares it; None, with a finding, where it is none."""
    said = ""
    name = criterion.name
    if name == "patient":
        kind, id_ = local(plain(text), request.base)
        value = patient_value(id_ if kind == PATIENT else plain(text) if "/" not in text else "")
        if value:
            return PatientId(value, request.affinity_domain)
        said = "a Patient of this service is named: Patient/<id>"
    elif name == "patient.identifier":
        system, number = token(text)
        if number and (oid := authority(system or "")):
            return PatientId(number, oid)
        said = "the identifier of a patient is system|value, the system urn:oid: with the OID of its authority"
    elif name == "_id":
        if _ID.match(plain(text)):
            return CONSENTS + plain(text)
        said = f"{text[:80]!r} is no logical id"
    elif name == "status":
        _, code = token(text)
        if code in TABLE["status"]:
            return code
        said = f"{text[:40]!r} is none of {', '.join(TABLE['status'])}"
    else:
        kind, id_ = local(plain(text), request.base)
        if kind:
            return f"{kind}/{id_}"
        said = f"an actor is named by type and id: {', '.join(TABLE['actors']['types'])}"
    findings.append(Finding("DataTypeError", said, criterion.location))
    return None


def _updated(text: str, criterion: Criterion, findings: list[Finding]) -> tuple[str, str]:
    """The first moment that fits and the first one that fits no more; "" for none."""
    prefix, date = (text[:2], text[2:]) if text[:2].isalpha() else ("eq", text)
    found = span(date)
    if found is None:
        findings.append(Finding("DataTypeError", f"{text[:40]!r} is no date or time", criterion.location))
        return "", ""
    first, after = found
    ways = {
        "eq": (first, after), "ge": (first, ""), "gt": (after, ""), "sa": (after, ""),
        "le": ("", after), "lt": ("", first), "eb": ("", first),
    }  # fmt: skip
    if prefix not in ways:
        said = f"the prefix {prefix} is not served: give a range (ge, le)"
        findings.append(Finding("UnsupportedQueryField", said, criterion.location))
    return ways.get(prefix, ("", ""))


# answers ---------------------------------------------------------------------------------------------------------


def write_consent(said: Said) -> dict[str, Any]:
    """The resource as it was sent, with its id, version and time."""
    found = fhir_json.read((said.resource or "{}").encode())
    meta = {"versionId": str(said.version), "lastUpdated": instant(said.recorded_at)}
    rest = {k: v for k, v in found.items() if k not in ("resourceType", "meta")}
    return {"resourceType": "Consent", "id": said.id, "meta": {**meta, **found.get("meta", {})}} | rest


def write_one(said: Said, request: FhirRequest, warnings: Sequence[Mapping[str, Any]] = ()) -> FhirReply:
    """The answer to a create, an update or a read."""
    made = request.interaction == "create"
    body: dict[str, Any] | None = write_consent(said)
    if request.interaction in ("create", "update"):
        if request.prefer == "minimal":
            body = None
        elif request.prefer == "OperationOutcome":
            told = {"severity": "information", "code": "informational", "diagnostics": "the Consent holds as it says"}
            body = {"resourceType": "OperationOutcome", "issue": [told, *warnings]}
    return FhirReply(
        body=body,
        status=201 if made else 200,
        location=f"{request.base}/Consent/{said.id}/_history/{said.version}" if made else "",
        version=str(said.version),
        updated_at=said.recorded_at,
    )


def write_page(asked: ConsentSearch, page: tuple[Sequence[Said], int], request: FhirRequest) -> FhirReply:
    """One page of what was found."""
    found, total = page
    entries = [
        {"fullUrl": f"{request.base}/Consent/{said.id}", "resource": write_consent(said), "search": {"mode": "match"}}
        for said in found
    ]
    end = asked.query.skipped + len(found)
    bundle = searchset(
        request,
        entries,
        path="Consent",
        used=asked.search.used,
        total=total if asked.search.total else None,
        cursor=str(end) if found and end < total else "",
        warnings=asked.search.warnings,
    )
    return FhirReply(body=bundle)


def audited(asked: ConsentAsked | ConsentSearch) -> tuple[AuditObject, ...]:
    """What a request was about."""
    if isinstance(asked, ConsentSearch):
        patients = tuple(AuditObject("patient", str(p)) for p in asked.query.patients)
        return (*patients, AuditObject("consent_search", "Consent", query=asked.query.text))
    patients = tuple(AuditObject("patient", str(p)) for p in asked.draft.patients) if asked.draft else ()
    return (*patients, *([AuditObject("consent", asked.id)] if asked.id else ()))
