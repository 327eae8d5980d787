"""FHIR R4 Consent as it is sent, sought and answered: ITI-108 (IHE PCF, Access Consent).

http://hl7.org/fhir/R4/consent.html, https://profiles.ihe.net/ITI/PCF/ITI-108.html. A Consent is kept as it was sent;
what it means is in ``mapping/consent_meaning``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from obieg.domain.audit import AuditObject
from obieg.domain.consents import CONSENTS, ConsentQuery, Said
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Finding, Problem
from obieg.mapping.consent_references import ID, TABLE, codings_of, local, walk
from obieg.mapping.directory_terms import span
from obieg.mapping.fhir_bundle import searchset
from obieg.mapping.fhir_parameters import Criterion, Search, plain, search, token
from obieg.mapping.fhir_patient import authority, instant, patient_value
from obieg.protocol import FhirReply, FhirRequest
from obieg.wire import fhir_json

PAGE = 50  # consents on a page where the asker names no number
PATIENT = "Patient"
_NUMBER = re.compile(r"\d{1,9}\Z", re.ASCII)
_KEPT_APART = ("versionId", "lastUpdated")


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
    if not ID.match(text):
        raise Problem.of("AddressNotFound", f"{text[:80]!r} is no logical id")
    return text


def draft(resource: dict[str, Any], base: str, affinity_domain: str) -> ConsentDraft:
    """A Consent read as far as it can be read alone; raises Problem."""
    if resource.get("resourceType") != "Consent":
        raise Problem.of("RuleBroken", "a Consent belongs to this address", "resourceType")
    findings: list[Finding] = []
    scope = TABLE["scope"]
    if not any(
        (c.get("system"), c.get("code")) == (scope["system"], scope["code"]) for c in codings_of(resource, "scope")
    ):
        said = f"what is kept here is about privacy: {scope['code']} of {scope['system']}"
        findings.append(Finding("TableValueNotFound", said, "Consent.scope"))
    if resource.get("status") not in TABLE["status"]:
        said = f"whether it holds is one of {', '.join(TABLE['status'])}"
        findings.append(Finding("TableValueNotFound", said, "Consent.status"))
    said = "what changes the meaning of the rest is not understood here: say it without"
    findings += [Finding("RuleBroken", said, where) for where in _modifiers(resource, "Consent")]
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
        active=TABLE["status"][resource["status"]],
        base=base,
    )


def _modifiers(value: Any, where: str) -> Iterator[str]:
    """Where something stands by which everything else may mean something else."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _modifiers(item, f"{where}[{number}]")
    elif isinstance(value, dict):
        for element, inner in value.items():
            if element in ("modifierExtension", "implicitRules"):
                yield f"{where}.{element}"
            else:
                yield from _modifiers(inner, f"{where}.{element}")


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
    for provision, where, depth in walk(resource.get("provision"), "Consent.provision"):
        if depth > rules["depth"]:
            yield Finding("RuleBroken", f"{name} nests provisions {rules['depth']} deep at most", where)
        for element in rules["absent"]:
            if element in provision:
                yield Finding("ElementUnknown", f"provisions of {name} have no such element", f"{where}.{element}")
        if depth == 1 and "type" not in provision:
            yield Finding("RequiredFieldMissing", f"{name} permits or denies", f"{where}.type")


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
        if ID.match(plain(text)):
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
