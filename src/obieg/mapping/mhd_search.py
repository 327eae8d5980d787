"""MHD 4.2.3, reading: Find Document Lists [ITI-66], Find Document References [ITI-67], Retrieve Document [ITI-68].

https://profiles.ihe.net/ITI/MHD/ITI-66.html, https://profiles.ihe.net/ITI/MHD/ITI-67.html,
https://profiles.ihe.net/ITI/MHD/ITI-68.html

A parameter becomes groups: one alternative of each must fit. In the texts that the statements take
(``storage/sql/documents_search.sql``) alternatives are separated by 0x1F and their parts by 0x1E. Codes keep their FHIR
system until :func:`with_schemes`: only an affinity domain knows which codingScheme is meant.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from obieg.codes.load import toml
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.audit import AuditObject
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId, is_oid, is_uuid_urn
from obieg.domain.problems import Finding, Problem
from obieg.domain.queries import SEARCHES, DocumentSearch, FoundResources, by_ids
from obieg.domain.registry import FoundResource
from obieg.mapping.fhir_bundle import searchset
from obieg.mapping.fhir_codes import scheme_of
from obieg.mapping.fhir_documents import LIST_TYPES, OID, PROFILES, RESOURCE_OF, STATUS, URI, read_unique_id, splice
from obieg.mapping.fhir_parameters import CURSOR, Criterion, Search, plain, search, token
from obieg.mapping.fhir_patient import authority, patient_value
from obieg.protocol import FhirReply, FhirRequest
from obieg.wire import mime
from obieg.wire.hl7v2 import escape

COUNT_DEFAULT = 100  # resources of one page where nobody says
_FIELDS: dict[str, dict[str, dict[str, str]]] = toml("fhir.toml")["search"]
_QUESTIONS = {"DocumentReference": "search_documents", "List": "search_lists"}
_BUNDLES = {"DocumentReference": PROFILES["found_documents"], "List": PROFILES["found_lists"]}
_AUDITED = {"DocumentReference": "find_document_references", "List": "find_document_lists"}
_ALTERNATIVE, _PART = "\x1f", "\x1e"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_POSITION = re.compile(r"\d{0,20}\|[0-9a-f-]{36}\Z", re.ASCII)
# The type of what a chain leads through says nothing new: patient:Patient.identifier, author:Practitioner.family.
_TYPED = re.compile(r"(patient|author|source):(?:Patient|Practitioner)(?=\.|\Z)")
_OTHER_NAMES = {
    "patient:identifier": "patient.identifier",
    "related:identifier": "related",
    "_lastupdated": "_lastUpdated",  # as IHE's CapabilityStatement writes it
}
_NAMES_SOMEBODY = ("patient", "patient.identifier", "_id", "identifier")
_DATE = re.compile(
    r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(\d{4})(?:-(\d\d)(?:-(\d\d)"
    r"(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d{1,6}\d*)?)?(Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_BEGIN, _END = "0", "99999999999999999999"  # before and after every time, as the statements compare
_SPECIAL = re.compile(r"([\\%_])")
_LETTERS = {"Approved": "A", "Deprecated": "D"}


class DocumentsAsked(Value, frozen=True):
    """A search or, with an ``id``, a read of DocumentReference or List."""

    resource: str
    query: DocumentSearch
    id: str = ""
    count_only: bool = False
    used: tuple[tuple[str, str], ...] = ()  # for the self link
    warnings: tuple[Finding, ...] = ()


class BinaryAsked(Value, frozen=True):
    """A document by the entryUUID of its entry: its bytes, or the resource that holds them."""

    entry_uuid: str
    resource: bool
    accept: str  # the header


# ITI-66, ITI-67: questions ---------------------------------------------------------------------------------------


def read_request(request: FhirRequest) -> DocumentsAsked:
    """The search or read; raises Problem with everything that is wrong with it."""
    question = _QUESTIONS[request.resource]
    if request.interaction == "read":
        _expect_uuid(request)
        asked = DocumentSearch(question=question, parameters=by_ids(question, (request.id,)), count=1)
        return DocumentsAsked(resource=request.resource, query=asked, id=request.id)
    findings: list[Finding] = []
    found = search(replace(request, parameters=_named(request.parameters)), tell=True)
    values = _values(request, found.criteria, findings)
    if not any(c.name in _NAMES_SOMEBODY for c in found.criteria):
        said = f"one of {', '.join(_NAMES_SOMEBODY)} is needed: this would list the documents of the whole region"
        findings.append(Finding("RequiredFieldMissing", said, "http.patient"))
    values |= _order(request.resource, found, values, findings)
    if findings:
        raise Problem(findings)
    patients = values.pop("asked_patients", ())
    included = (_FIELDS[(at := named.split(":"))[0]][at[1]][way.removeprefix("_")] for way, named in found.inclusions)
    return DocumentsAsked(
        resource=request.resource,
        query=DocumentSearch(
            question=question,
            parameters={**SEARCHES[question], **values},
            count=0 if found.count_only else found.count or COUNT_DEFAULT,
            patients=patients,
            include=tuple(dict.fromkeys(included)),
            text="&".join(f"{name}={value}" for name, value in found.used).encode(),
        ),
        count_only=found.count_only,
        used=found.used,
        warnings=found.warnings,
    )


def _expect_uuid(request: FhirRequest) -> None:
    if not _UUID.match(request.id):
        raise Problem.of("AddressNotFound", f"no {request.resource} has this id: here they are UUIDs in lower case")


def _named(parameters: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Parameters under the names that the table has for them."""
    return tuple((_OTHER_NAMES.get(name := _TYPED.sub(r"\1", key), name), value) for key, value in parameters)


def _order(kind: str, found: Search, values: Mapping[str, Any], findings: list[Finding]) -> dict[str, Any]:
    """The parameters of the statement that say in which order, and after what."""
    by = found.sort.removeprefix("-")
    if by == "date" and "F" in values.get("kinds", SEARCHES[_QUESTIONS[kind]].get("kinds", ())):
        # A folder's date changes whenever something is put into it: pages sorted by it would lose and repeat.
        said = "only submission sets can be sorted by date: ask with code=submissionset"
        findings.append(Finding("UnsupportedQueryField", said, "http._sort"))
    order: dict[str, Any] = {"by": by, "descending": found.sort.startswith("-")}
    if found.cursor:
        order["after_key"], order["after_uuid"] = _read_cursor(found.cursor)
    return order


def _read_cursor(text: str) -> tuple[str, str]:
    try:
        found = base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii")
    except ValueError:
        found = ""
    key, _, uuid = found.partition("|")
    if not _POSITION.match(found) or not _UUID.match(uuid):
        raise Problem.of(
            "UnknownCursor", "this node did not write this link: begin with the first page", f"http.{CURSOR}"
        )
    return key, uuid


def _write_cursor(after: tuple[str, str] | None) -> str:
    return base64.urlsafe_b64encode("|".join(after).encode()).decode() if after else ""


def filters(request: FhirRequest, parameters: Sequence[tuple[str, str]], names: Sequence[str]) -> DocumentSearch:
    """What ``parameters`` of a search for the request's resource ask, of which only ``names`` may be there.

    Raises Problem with everything that is wrong with them.
    """
    question = _QUESTIONS[request.resource]
    findings: list[Finding] = []
    given = _named(parameters)
    for name, _ in given:
        if name.partition(":")[0] not in names:
            said = f"{name[:64]!r} is no filter of this topic; {', '.join(names)} are"
            findings.append(Finding("UnsupportedQueryField", said, f"http.{name[:64]}"))
    if findings:
        raise Problem(findings)
    found = search(replace(request, parameters=given, strict=True))
    values = _values(request, found.criteria, findings)
    if findings:
        raise Problem(findings)
    patients = values.pop("asked_patients", ())
    return DocumentSearch(question=question, parameters={**SEARCHES[question], **values}, count=1, patients=patients)


def _values(request: FhirRequest, criteria: Sequence[Criterion], findings: list[Finding]) -> dict[str, Any]:
    """Parameters of the statement, without its order."""
    values: dict[str, Any] = {}
    patients: list[tuple[PatientId, ...]] = []
    for criterion in criteria:
        name = criterion.name
        row = _FIELDS[request.resource][name]
        field = row.get("field", "")
        if name in ("patient", "patient.identifier"):
            read = _patient if name == "patient" else _patient_identifier
            found = (read(a, request, criterion, findings) for a in criterion.alternatives)
            patients.append(tuple(p for p in found if p is not None))
        elif name == "_id":
            ids = {i for a in criterion.alternatives if _UUID.match(i := plain(a))}
            values["ids"] = sorted(ids & set(values.get("ids", ids)))
        elif name == "identifier":
            group = [i for a in criterion.alternatives for i in _object_ids(*token(a))]
            values.setdefault("identifier", []).append(_ALTERNATIVE.join(group))
        elif name == "status":
            letters = [s for a in criterion.alternatives if (s := _status(a, request.resource, criterion, findings))]
            values["status"] = [s for s in letters if s in values.get("status", letters)]
        elif name == "code":
            kinds = {k for a in criterion.alternatives if (k := _list_kind(a, criterion, findings))}
            values["kinds"] = tuple(k for k in values.get("kinds", ("S", "F")) if k in kinds)
        elif name == "sourceId":
            _group(values, "source_id", (_like(v) for a in criterion.alternatives if (v := _source_id(*token(a)))))
        elif name == "related":
            _group(
                values,
                "reference_id_list",
                (p for a in criterion.alternatives for p in _related(a, criterion, findings)),
            )
        elif row["type"] == "date":
            _group(values, field, (b for a in criterion.alternatives for b in _times(plain(a), criterion, findings)))
        elif row["type"] == "string":
            part, way = "F" if name.endswith("family") else "G", "e" if criterion.modifier else "b"
            _group(values, field, (_PART.join((part, way, escape(plain(a)))) for a in criterion.alternatives))
        else:
            _group(values, field, (_coded(*token(a)) for a in criterion.alternatives))
    if patients:
        values["patients"] = [_ALTERNATIVE.join(f"{p.authority}{_PART}{p.value}" for p in group) for group in patients]
        values["asked_patients"] = tuple(dict.fromkeys(p for group in patients for p in group))
    else:
        named = [i for group in values.get("identifier", ()) for i in group.split(_ALTERNATIVE)]
        values["named_uuids"] = [*values.get("ids", ()), *(i[9:] for i in named if is_uuid_urn(i))]
        values["named_unique_ids"] = named
    return values


def _group(values: dict[str, Any], field: str, alternatives: Iterable[str]) -> None:
    values.setdefault(field, []).append(_ALTERNATIVE.join(alternatives))


def _patient(text: str, request: FhirRequest, criterion: Criterion, findings: list[Finding]) -> PatientId | None:
    """A reference: a logical id, Patient/id, or its whole address here."""
    logical = plain(text).removeprefix(f"{request.base}/").removeprefix("Patient/")
    value = patient_value(logical)
    if not value:
        findings.append(Finding("DataTypeError", f"{text[:80]!r} refers to no Patient here", criterion.location))
        return None
    return PatientId(value, request.affinity_domain)


def _patient_identifier(
    text: str, _request: FhirRequest, criterion: Criterion, findings: list[Finding]
) -> PatientId | None:
    system, value = token(text)
    if not system or not value:
        said = (
            "the identifier of a patient is system|value, the system urn:oid: with the OID of its assigning authority"
        )
        findings.append(Finding("DataTypeError", said, criterion.location))
        return None
    return PatientId(value, authority(system) or system)


def _object_ids(system: str | None, value: str) -> Iterator[str]:
    """What an identifier may be: entryUUIDs (with ``urn:uuid:``) and uniqueIds."""
    if system == "":  # an identifier without a system: ours all have one
        return
    if system in (None, URI) and is_uuid_urn(value):
        yield value.lower()
        yield f"2.25.{UUID(value[9:]).int}"
    if unique_id := read_unique_id(URI if system is None else system, value):
        yield unique_id
    if system is None:
        yield value


def _status(text: str, resource: str, criterion: Criterion, findings: list[Finding]) -> str:
    code, known = token(text)[1], STATUS[resource]
    found = next((_LETTERS[name] for name, said in known.items() if said == code), "")
    if not found and code != "entered-in-error":  # which nothing here ever is
        said = f"{code[:40]!r} is none of {', '.join(known.values())}"
        findings.append(Finding("TableValueNotFound", said, criterion.location))
    return found


def _list_kind(text: str, criterion: Criterion, findings: list[Finding]) -> str:
    system, code = token(text)
    kinds = {LIST_TYPES["submission_set"]: "S", LIST_TYPES["folder"]: "F"}
    if system not in (None, LIST_TYPES["system"]) or code not in kinds:
        said = f"{text[:80]!r} is none of {', '.join(kinds)} of {LIST_TYPES['system']}"
        findings.append(Finding("TableValueNotFound", said, criterion.location))
        return ""
    return kinds[code]


def _source_id(system: str | None, value: str) -> str:
    oid = value.removeprefix(OID)
    return oid if system in (None, URI) and is_oid(oid) else ""


def _related(text: str, criterion: Criterion, findings: list[Finding]) -> Iterator[str]:
    """Patterns for a CXi; the reference ids of a document are identifiers, not resources."""
    system, value = token(text)
    if not value or system == "" or (system is None and "/" in value):
        said = "the related things of a document here are identifiers: give system|value"
        findings.append(Finding("UnsupportedQueryField", said, criterion.location))
    elif system in (None, URI):
        for way in dict.fromkeys((value, value.removeprefix(OID))):
            yield _like(escape(way)) + "^%"
            yield _like(escape(way))
    elif oid := authority(system or ""):
        yield f"{_like(escape(value))}^%&{_like(oid)}&ISO%"


def _like(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _coded(system: str | None, code: str) -> str:
    return code if system is None else f"{system}{_PART}{code}"


def with_schemes(query: DocumentSearch, domain: AffinityDomain | None) -> dict[str, Any]:
    """The parameters of the statement, with codes as the registry keeps them."""
    values = dict(query.parameters)
    for field, attribute in _CODED.items():
        if values.get(field) is not None:
            values[field] = [
                _ALTERNATIVE.join(p for a in group.split(_ALTERNATIVE) for p in _patterns(a, attribute, domain))
                for group in values[field]
            ]
    return values


_CODED = {
    "type_code": ("type_code",),
    "class_code": ("class_code",),
    "practice_setting_code": ("practice_setting_code",),
    "healthcare_facility_type_code": ("healthcare_facility_type_code",),
    "format_code": ("format_code",),
    "event_code_list": ("event_code_list",),
    "confidentiality_code": ("confidentiality_code",),
    "designation_type": ("content_type_code", "code_list"),
}


def _patterns(alternative: str, attributes: tuple[str, ...], domain: AffinityDomain | None) -> list[str]:
    system, bar, code = alternative.partition(_PART)
    if not bar:
        return [f"{_like(alternative)}^^%"]
    schemes = dict.fromkeys(scheme_of(system, code, a, d) for a in attributes for d in (domain, None)) if system else ()
    return [f"{_like(code) if code else '%'}^^{_like(scheme)}" for scheme in schemes]


# times -----------------------------------------------------------------------------------------------------------


def _times(text: str, criterion: Criterion, findings: list[Finding]) -> list[str]:
    """A date with its prefix as bounds for a period: start from, start before, stop from, stop before.

    Times without an offset are UTC. http://hl7.org/fhir/R4/search.html#date
    """
    match = _DATE.fullmatch(text)
    bounds = _bounds(match) if match else None
    if match is None or bounds is None:
        findings.append(Finding("DataTypeError", f"{text[:40]!r} is no date or time", criterion.location))
        return []
    low, high = bounds
    before, after = (_BEGIN, low), (high, _END)
    inside, anywhere = (low, high), (_BEGIN, _END)
    ways: dict[str, list[tuple[tuple[str, str], tuple[str, str]]]] = {
        "eq": [(inside, inside)],
        "ne": [(before, anywhere), (after, anywhere), (anywhere, before), (anywhere, after)],
        "gt": [(anywhere, after)],
        "lt": [(before, anywhere)],
        "ge": [(anywhere, after), (inside, inside)],
        "le": [(before, anywhere), (inside, inside)],
        "sa": [(after, anywhere)],
        "eb": [(anywhere, before)],
    }
    prefix = match[1] or "eq"
    if prefix not in ways:
        said = f"the prefix {prefix} is not served: give a range (ge, le)"
        findings.append(Finding("UnsupportedQueryField", said, criterion.location))
        return []
    return [_PART.join((*start, *stop)) for start, stop in ways[prefix]]


def _bounds(match: re.Match[str]) -> tuple[str, str] | None:
    """First moment of what is named and first moment after it, as digits in UTC."""
    _, year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        first = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
        if offset and offset != "Z":
            minutes = int(offset[1:3]) * 60 + int(offset[4:])
            first -= timedelta(minutes=minutes) * (-1 if offset[0] == "-" else 1)
        if fraction:
            digits = first.strftime("%Y%m%d%H%M%S").zfill(14) + fraction[1:7]
            return digits, str(int(digits) + 1).zfill(len(digits))
        if second or minute:
            after = first + (timedelta(seconds=1) if second else timedelta(minutes=1))
        elif day:
            after = first + timedelta(days=1)
        else:
            months = int(year) * 12 + int(month or 12)
            after = datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return _digits(first), _digits(after)


def _digits(moment: datetime) -> str:
    return f"{moment.year:04}{moment:%m%d%H%M%S}"


# ITI-66, ITI-67: answers -----------------------------------------------------------------------------------------


def answered(asked: DocumentsAsked, page: FoundResources) -> tuple[DocumentsAsked, FoundResources]:
    """The question with its answer. Raises Problem where a resource was named and is not there."""
    if asked.id and not page.found:
        said = f"no {asked.resource} has this id, or none that this caller may know of"
        raise Problem.of("AddressNotFound", said)
    return asked, page


def audit(asked: DocumentsAsked) -> tuple[AuditObject, ...]:
    """The query and the patients it names; the registry adds those who are found by other names."""
    patients = tuple(AuditObject("patient", str(patient)) for patient in asked.query.patients)
    query = asked.query.text or f"_id={asked.id}".encode()
    return (*patients, AuditObject(_AUDITED[asked.resource], asked.resource, query=query))


def write_found(result: tuple[DocumentsAsked, FoundResources], request: FhirRequest) -> FhirReply:
    """The resource that was read, or a page of those that were found."""
    asked, page = result
    return write_read(page.found[0], request) if asked.id else write_page(asked, page, request)


def write_page(asked: DocumentsAsked, page: FoundResources, request: FhirRequest) -> FhirReply:
    """One page: what fits, then what was included; JSON that is put together from renderings."""
    warnings = list(asked.warnings)
    if page.capped:
        said = "more resources would be included than are: ask for fewer on one page"
        warnings.append(Finding("LimitExceeded", said, "http._include", warning=True))
    bundle = searchset(
        request,
        (),
        path=asked.resource,
        used=asked.used,
        total=page.total,
        cursor=_write_cursor(page.next),
        warnings=warnings,
        profile=_BUNDLES[asked.resource],
    )
    base = orjson.dumps(request.base)[1:-1]
    entries = [_entry(found, base, b"match") for found in page.found]
    entries += [_entry(found, base, b"include") for found in page.included]
    entries += [orjson.dumps(entry) for entry in bundle.pop("entry", ())]
    head = orjson.dumps(bundle)
    if entries:
        head = b'%b,"entry":[%b]}' % (head[:-1], b",".join(entries))
    return FhirReply(json=head)


def _entry(found: FoundResource, base: bytes, mode: bytes) -> bytes:
    full_url = b"%b/%b/%b" % (base, RESOURCE_OF[found.kind].encode(), found.entry_uuid.encode())
    return b'{"fullUrl":"%b","resource":%b,"search":{"mode":"%b"}}' % (full_url, splice(found, base), mode)


def write_read(found: FoundResource, request: FhirRequest) -> FhirReply:
    """One DocumentReference or List."""
    merged = "-" in found.revision  # it has changed since its own last change: its version says so, its time does not
    return FhirReply(
        json=splice(found, orjson.dumps(request.base)[1:-1]),
        version=found.revision,
        updated_at=None if merged else datetime.fromisoformat(found.updated_at),
    )


# ITI-68 ----------------------------------------------------------------------------------------------------------


def read_binary(request: FhirRequest) -> BinaryAsked:
    """The document asked for; raises Problem."""
    _expect_uuid(request)
    return BinaryAsked(entry_uuid=request.id, resource=bool(request.format), accept=request.accept)


def expect_acceptable(accept: str, media_type: str) -> None:
    """Raises Problem where an Accept header leaves no room for the document's media type (RFC 9110, 12.5.1)."""
    if not accept.strip():
        return
    kind = media_type.partition("/")[0]
    for item in accept.split(","):
        name, parameters = mime.content_type(item.strip())
        if name in (media_type.lower(), f"{kind}/*", "*/*") and parameters.get("q", "1") not in (
            "0",
            "0.0",
            "0.00",
            "0.000",
        ):
            return
    said = f"the document is {media_type}, and the caller accepts only {accept[:80]!r}"
    raise Problem.of("NotAcceptable", said, "http.Accept")


def binary(entry_uuid: str, media_type: str, data: bytes) -> dict[str, Any]:
    """Binary (http://hl7.org/fhir/R4/binary.html)."""
    content = base64.b64encode(data).decode()
    return {
        "resourceType": "Binary",
        "id": entry_uuid,
        "contentType": media_type,
        **({"data": content} if data else {}),
    }
