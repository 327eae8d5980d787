"""Registered documents, submission sets and folders as FHIR R4: DocumentReference and List of MHD 4.2.3.

Writing makes *renderings*, as :mod:`obieg.mapping.ebrim` does: the JSON of one resource in pieces around what changes
after registration, separated by NUL, which neither JSON nor metadata can contain. An answer in JSON is made by splicing
current values between the pieces; XML is written from the JSON. Where an attribute stands is the column ``fhir`` of
the attribute tables; authors, people and organisations are contained resources.

What FHIR does not say: repositoryUniqueId and URI (the attachment's address stands for them), documentAvailability,
extra metadata, texts in further languages, further institutions of one author (they become authors of their own).
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import orjson

from obieg.codes.load import toml
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.attributes import DOCUMENT_ENTRY, FOLDER, SUBMISSION_SET, Attribute
from obieg.domain.documents import Author, Code, DocumentEntry, Folder, SubmissionSet
from obieg.domain.identifiers import is_oid, patient_id
from obieg.domain.registry import FoundResource
from obieg.mapping.fhir_codes import coding, concept
from obieg.mapping.fhir_patient import GENDERS, logical_id
from obieg.wire.hl7v2 import unescape

# Counts what this module writes: raised with every change of it, so that stored renderings are made anew.
SCHEMA_VERSION = 1
TABLE = toml("mhd.toml")
URI: str = TABLE["uri"]
OID: str = TABLE["oid"]
UUID: str = TABLE["uuid"]
EXTENSIONS: dict[str, str] = TABLE["extensions"]
PROFILES: dict[str, str] = TABLE["profiles"]
LIST_TYPES: dict[str, str] = TABLE["list_types"]
STATUS: dict[str, dict[str, str]] = TABLE["status"]
RELATES_TO: dict[str, str] = TABLE["relates_to"]
# No XML document and no FHIR text may have this character, so it marks what becomes NUL.
_MARK = "\uffff"
_GENDER_OF = {v2: fhir for fhir, v2 in GENDERS.items()}
_NEEDED = (
    "type_code", "class_code", "confidentiality_code", "language_code", "creation_time", "format_code",
    "healthcare_facility_type_code", "practice_setting_code", "source_patient_id",
)  # fmt: skip
_STATUS_OF = {
    kind: {letter: STATUS[resource][name].encode() for letter, name in (("A", "Approved"), ("D", "Deprecated"))}
    for kind, resource in (("D", "DocumentReference"), ("S", "List"), ("F", "List"))
}
RESOURCE_OF = {"D": "DocumentReference", "S": "List", "F": "List"}

Registered = DocumentEntry | SubmissionSet | Folder


# identifiers -----------------------------------------------------------------------------------------------------


def unique_identifier(unique_id: str) -> dict[str, Any]:
    """Identifier of a uniqueId: an OID, an OID with an extension, a URI or, by a system of its own, anything else."""
    root, bar, extension = unique_id.partition("^")
    if is_oid(unique_id):
        system, value = URI, OID + unique_id
    elif bar and extension and is_oid(root):
        system, value = OID + root, extension
    elif unique_id.startswith(("urn:", "http:", "https:")):
        system, value = URI, unique_id
    else:
        system, value = TABLE["unique_id"], unique_id
    return {"use": "usual", "system": system, "value": value}


def read_unique_id(system: str, value: str) -> str:
    """The uniqueId that system and value of an Identifier name; "" where they name none."""
    if system in (URI, ""):
        oid = value.removeprefix(OID)
        return oid if oid != value and is_oid(oid) else value if system else ""
    if system.startswith(OID):
        return f"{system.removeprefix(OID)}^{value}"
    return value if system == TABLE["unique_id"] else ""


def reference_identifier(cxi: str) -> dict[str, Any]:
    """Identifier of a reference id; its type is that of the CXi (ITI TF-3:4.2.3.1.7, 4.2.3.2.28)."""
    parts = [*cxi.split("^"), "", "", "", ""]
    value, authority, kind = unescape(parts[0]), parts[3].split("&"), unescape(parts[4])
    said: dict[str, Any] = {}
    if kind:
        said["type"] = {"coding": [{"system": URI, "code": kind}]}
    if len(authority) > 1 and is_oid(authority[1]):
        said["system"] = OID + authority[1]
    elif is_oid(value):
        said["system"], value = URI, OID + value
    elif value.startswith("urn:"):
        said["system"] = URI
    if value:
        said["value"] = value
    return said


# times and files -------------------------------------------------------------------------------------------------


def date_time(dtm: str) -> str:
    """A DTM (UTC) as a dateTime of its precision; an hour or a minute begins with its first second."""
    day = "-".join(filter(None, (dtm[:4], dtm[4:6], dtm[6:8])))
    if len(dtm) <= len("YYYYMMDD"):
        return day
    time = (dtm[8:] + "0000")[:6]
    return f"{day}T{time[:2]}:{time[2:4]}:{time[4:]}Z"


def _hash(sha1: str) -> str:
    try:
        return base64.b64encode(bytes.fromhex(sha1)).decode()
    except (ValueError, binascii.Error):
        return ""


# people ----------------------------------------------------------------------------------------------------------


class _Contained:
    """The contained resources of one resource."""

    def __init__(self) -> None:
        self.resources: list[dict[str, Any]] = []

    def add(self, name: str, resource: dict[str, Any] | None) -> dict[str, str] | None:
        """A reference to it; the same resource is not contained twice."""
        if resource is None:
            return None
        for known in self.resources:
            if {**known, "id": ""} == {"id": "", **resource}:
                return {"reference": f"#{known['id']}"}
        number = 1 + sum(known["id"].partition("-")[0] == name for known in self.resources)
        self.resources.append({"resourceType": resource["resourceType"], "id": f"{name}-{number}", **resource})
        return {"reference": f"#{name}-{number}"}


def _filled(resource: dict[str, Any]) -> dict[str, Any] | None:
    made = {key: value for key, value in resource.items() if value}
    return made if len(made) > 1 else None


def _name(family: str, *given: str, suffix: str = "", prefix: str = "") -> list[dict[str, Any]]:
    said: dict[str, Any] = {}
    for key, value in (
        ("family", family),
        ("given", list(filter(None, given))),
        ("prefix", prefix),
        ("suffix", suffix),
    ):
        if value:
            said[key] = value if key in ("family", "given") else [value]
    return [said] if said else []


def _authority_identifier(value: str, authority: str) -> list[dict[str, Any]]:
    """Identifier of an HL7 v2 id and its authority (HD)."""
    oid = next((part for part in authority.split("&")[1:2] if is_oid(part)), "")
    if value and oid:
        return [{"system": OID + oid, "value": value}]
    if is_oid(value):
        return [{"system": URI, "value": OID + value}]
    return [{"value": value}] if value else []


def practitioner(xcn: str, telecoms: Sequence[dict[str, str]] = ()) -> dict[str, Any] | None:
    """Practitioner of an XCN; None where it says nothing."""
    c = [*map(unescape, xcn.split("^")), *[""] * 9]
    return _filled(
        {
            "resourceType": "Practitioner",
            "identifier": _authority_identifier(c[0], c[8]),
            "name": _name(c[1].partition("&")[0], c[2], c[3], suffix=c[4], prefix=c[5]),
            "telecom": list(telecoms),
        }
    )


def organization(xon: str, telecoms: Sequence[dict[str, str]] = ()) -> dict[str, Any] | None:
    """Organization of an XON; None where it says nothing."""
    c = [*map(unescape, xon.split("^")), *[""] * 10]
    return _filled(
        {
            "resourceType": "Organization",
            "identifier": _authority_identifier(c[9] or c[2], c[5]),
            "name": c[0],
            "telecom": list(telecoms),
        }
    )


def telecom(xtn: str) -> dict[str, str] | None:
    """ContactPoint of an XTN."""
    c = [*map(unescape, xtn.split("^")), *[""] * 12]
    if c[3] or "@" in c[0]:
        return {"system": "email", "value": c[3] or c[0]}
    number = c[11] or c[0] or " ".join(filter(None, (f"+{c[4].lstrip('+')}" if c[4] else "", c[5], c[6])))
    system = {"FX": "fax", "BP": "pager", "Internet": "url"}.get(c[2], "phone")
    return {"system": system, "value": number} if number else None


def _author(author: Author, contained: _Contained, name: str) -> Iterator[dict[str, str]]:
    """References to the author; institutions beyond the first are referred to by themselves."""
    telecoms = [t for text in author.telecommunication if (t := telecom(text))]
    concepts = {
        "code": [{"text": text} for role in author.role if (text := unescape(role))],
        "specialty": [{"text": text} for special in author.specialty if (text := unescape(special))],
    }
    first_org, *other_orgs = author.institution or ("",)
    first, *others = author.person or ("",)
    plain = not (first_org and first) and not any(concepts.values())
    person = contained.add("practitioner", practitioner(first, () if first_org else telecoms))
    org = contained.add("organization", organization(first_org, () if person else telecoms))
    if plain and (only := person or org):
        yield only
    else:
        role: dict[str, Any] = {"resourceType": "PractitionerRole"}
        if person:
            role["practitioner"] = person
        if org:
            role["organization"] = org
        both = telecoms if first_org and first else [] if person or org else telecoms
        made = contained.add(name, _filled({**role, **concepts, "telecom": both}))
        if made:
            yield made
    for text in others:
        if found := contained.add("practitioner", practitioner(text)):
            yield found
    for text in other_orgs:
        if found := contained.add("organization", organization(text)):
            yield found


def source_patient(cx: str | None, info: Iterable[str]) -> dict[str, Any] | None:
    """Patient of sourcePatientId and sourcePatientInfo (ITI TF-3:4.2.3.2.22, .23)."""
    fields: dict[str, list[str]] = {}
    for line in info:
        name, _, value = line.partition("|")
        fields.setdefault(name, []).extend(filter(None, value.split("~")))
    ids = dict.fromkeys(i for text in (cx or "", *fields.get("PID-3", ())) if (i := patient_id(text)) is not None)
    names = []
    for text in fields.get("PID-5", ()):
        c = [*map(unescape, text.split("^")), *[""] * 5]
        names += _name(c[0].partition("&")[0], c[1], c[2], suffix=c[3], prefix=c[4])
    addresses = []
    for text in fields.get("PID-11", ()):
        c = [*map(unescape, text.split("^")), *[""] * 6]
        said = {
            "line": [x for x in (c[0].partition("&")[0], c[1]) if x],
            "city": c[2],
            "state": c[3],
            "postalCode": c[4],
        }
        said["country"] = c[5]
        if found := {key: value for key, value in said.items() if value}:
            addresses.append(found)
    born = next(iter(fields.get("PID-7", ())), "")[:8]
    made = {
        "resourceType": "Patient",
        "identifier": [{"system": OID + i.authority, "value": i.value} for i in ids],
        "name": names,
        "gender": _GENDER_OF.get(next(iter(fields.get("PID-8", ())), ""), ""),
        "birthDate": date_time(born) if born.isdecimal() and len(born) in (4, 6, 8) else "",
        "address": addresses,
    }
    return _filled(made)


def _recipient(value: str, contained: _Contained) -> dict[str, str] | None:
    """An intendedRecipient: organisation, person and telecommunication (ITI TF-3:4.2.3.3.7)."""
    org, person, xtn = [*value.split("|"), "", ""][:3]
    telecoms = [t for text in (xtn,) if (t := telecom(text))]
    them = contained.add("practitioner", practitioner(person, telecoms)) if person else None
    theirs = contained.add("organization", organization(org, () if person else telecoms)) if org else None
    if not (them and theirs):
        return them or theirs
    role = {"resourceType": "PractitionerRole", "practitioner": them, "organization": theirs}
    return contained.add("recipient", role)


# resources -------------------------------------------------------------------------------------------------------


def _put(target: dict[str, Any], path: str, value: Any) -> None:
    """Sets the element at a path of the tables; an element that repeats is made once on the way, and takes a list."""
    *way, last = path.split(".")
    for step in way:
        name = step.removesuffix("[]")
        target = target.setdefault(name, {}) if name == step else target.setdefault(name, [{}])[0]
    name = last.removesuffix("[]")
    target[name] = value if name == last or isinstance(value, list) else [value]


class Renderer:
    """Writes renderings with the codes of one affinity domain."""

    def __init__(self, domain: AffinityDomain | None = None) -> None:
        """Without a domain codes have the names that follow from their schemes alone."""
        self.domain = domain
        names = "" if domain is None else repr(sorted(domain.schemes.items()))
        # Other names of codes make other renderings.
        self.version = SCHEMA_VERSION << 32 | zlib.crc32(names.encode())

    def render(self, value: Registered, registered_at: str) -> bytes:
        """The pieces; see :func:`splice` for the values between them. ``registered_at`` is an instant."""
        contained = _Contained()
        if isinstance(value, DocumentEntry):
            resource = self._entry(value, contained, registered_at)
        else:
            resource = self._list(value, contained)
        meta = {"versionId": _MARK, "lastUpdated": _MARK, "profile": [PROFILES[_profile(value)]]}
        head: dict[str, Any] = {"resourceType": resource.pop("resourceType"), "id": value.entry_uuid[9:], "meta": meta}
        if contained.resources:
            head["contained"] = contained.resources
        mark = _MARK.encode()
        written = orjson.dumps({**head, **resource})
        return written.replace(b'"%b":0,' % mark, b"\0").replace(mark, b"\0")

    def _attributes(self, value: Any, table: Sequence[Attribute], resource: dict[str, Any]) -> None:
        """What stands in one element and needs nothing beside it."""
        for row in table:
            found = getattr(value, row.field)
            write = _SIMPLE.get(row.kind)
            if not row.fhir or not found or row.fhir.endswith(("extension[]", "identifier[]")):
                continue
            if row.kind == "code":
                make: Callable[..., dict[str, Any]] = coding if row.fhir.endswith("format") else concept
                codes = found if row.many else (found,)
                made = [make(c, row.field, self.domain) for c in codes]
                _put(resource, row.fhir, made if row.fhir.endswith("[]") else made[0])
            elif write is not None and (said := write(found)) not in ("", None):
                _put(resource, row.fhir, said)

    def _entry(self, entry: DocumentEntry, contained: _Contained, registered_at: str) -> dict[str, Any]:
        resource: dict[str, Any] = {
            "resourceType": "DocumentReference",
            "masterIdentifier": unique_identifier(entry.unique_id or ""),
            "identifier": [_entry_uuid(entry)],
            "status": _MARK,
            "subject": {"reference": f"Patient/{_MARK}"},
            "date": registered_at,
            _MARK: 0,  # relatesTo
        }
        attachment = {"contentType": entry.mime_type, "url": f"{_MARK}/Binary/{entry.entry_uuid[9:]}"}
        resource["content"] = [{"attachment": attachment}]
        self._attributes(entry, DOCUMENT_ENTRY, resource)
        if authors := [r for a in entry.author for r in _author(a, contained, "author")]:
            resource["author"] = authors
        if entry.legal_authenticator and (
            found := contained.add("practitioner", practitioner(entry.legal_authenticator))
        ):
            resource["authenticator"] = found
        context = resource.setdefault("context", {})
        patient = source_patient(entry.source_patient_id, entry.source_patient_info)
        if found := contained.add("patient", patient):
            context["sourcePatientInfo"] = found
        for cxi in entry.reference_id_list:
            kind = "encounter" if cxi.endswith(f"^{TABLE['encounter']}") else "related"
            if identifier := reference_identifier(cxi):
                context.setdefault(kind, []).append({"identifier": identifier})
        if not context:
            del resource["context"]
        return resource

    def _list(self, value: SubmissionSet | Folder, contained: _Contained) -> dict[str, Any]:
        is_set = isinstance(value, SubmissionSet)
        kind = LIST_TYPES["submission_set" if is_set else "folder"]
        extensions = list(self._extensions(value, contained))
        resource: dict[str, Any] = {"resourceType": "List", **({"extension": extensions} if extensions else {})}
        identifiers = [_entry_uuid(value)]
        if value.unique_id:
            identifiers.append(unique_identifier(value.unique_id))
        resource |= {
            "identifier": identifiers,
            "status": _MARK,
            "mode": "working",
            _MARK: 0,  # entry
            "code": {"coding": [{"system": LIST_TYPES["system"], "code": kind}]},
            "subject": {"reference": f"Patient/{_MARK}"},
        }
        self._attributes(value, SUBMISSION_SET if is_set else FOLDER, resource)
        if isinstance(value, SubmissionSet):
            if source := _source(value.author, contained):
                resource["source"] = source
        else:
            resource["date"] = _MARK  # lastUpdateTime; after subject, as splice() has it
        return resource

    def _extensions(self, value: SubmissionSet | Folder, contained: _Contained) -> Iterator[dict[str, Any]]:
        codes: tuple[tuple[str, Code], ...]
        if isinstance(value, SubmissionSet):
            codes = (("content_type_code", value.content_type_code),) if value.content_type_code else ()
            if value.source_id:
                identifier = {"system": URI, "value": OID + value.source_id}
                yield {"url": EXTENSIONS["source_id"], "valueIdentifier": identifier}
            for recipient in value.intended_recipient:
                if found := _recipient(recipient, contained):
                    yield {"url": EXTENSIONS["intended_recipient"], "valueReference": found}
        else:
            codes = tuple(("code_list", code) for code in value.code_list)
        for attribute, code in codes:
            concepts = concept(code, attribute, self.domain)
            yield {"url": EXTENSIONS["designation_type"], "valueCodeableConcept": concepts}


def _entry_uuid(value: Registered) -> dict[str, Any]:
    return {"use": "official", "system": URI, "value": value.entry_uuid}


_SIMPLE: dict[str, Callable[[Any], Any]] = {
    "text": lambda value: value[0][1] if isinstance(value, tuple) else value,
    "dtm": date_time,
    "language": str,
    "mime_type": str,
    "sha1": _hash,
    "int": int,
}


def _profile(value: Registered) -> str:
    if isinstance(value, DocumentEntry):
        whole = all(getattr(value, name) for name in _NEEDED)
        return "comprehensive_entry" if whole and not value.limited_metadata else "minimal_entry"
    if isinstance(value, SubmissionSet):
        return f"{'minimal' if value.limited_metadata else 'comprehensive'}_submission_set"
    whole = bool(value.code_list and value.title)
    return f"{'comprehensive' if whole and not value.limited_metadata else 'minimal'}_folder"


def _source(authors: Sequence[Author], contained: _Contained) -> dict[str, Any] | None:
    """List.source takes one author: the first, with one institution, which stands in an extension."""
    if not authors:
        return None
    first = msgspec.structs.replace(authors[0], person=authors[0].person[:1], institution=authors[0].institution[:1])
    org = None
    if not first.role and not first.specialty:
        org = contained.add("organization", organization("".join(first.institution)))
        first = msgspec.structs.replace(first, institution=())
    source: dict[str, Any] = next(_author(first, contained, "author"), {})
    if org:
        source["extension"] = [{"url": EXTENSIONS["author_organization"], "valueReference": org}]
    return source or None


# splicing --------------------------------------------------------------------------------------------------------


def splice(found: FoundResource, base: bytes) -> bytes:
    """The JSON of a resource; ``base`` is the address of the service as it stands within a JSON text."""
    status, patient = _STATUS_OF[found.kind][found.status], logical_id(found.patient_id).encode()
    head = (found.revision.encode(), found.updated_at.encode())
    values: tuple[bytes, ...]
    if found.kind == "D":
        values = (*head, status, patient, _relates_to(found.relations), base)
    elif found.kind == "S":
        values = (*head, status, _entries(found.relations), patient)
    else:
        values = (*head, status, _entries(found.relations), patient, date_time(found.last_update_time).encode())
    pieces = found.rendering.split(b"\0")
    joined = [pieces[0]]
    for value, piece in zip(values, pieces[1:], strict=True):
        joined += (value, piece)
    return b"".join(joined)


def _relates_to(relations: Sequence[str]) -> bytes:
    """``RPLC uuid``, from the association whose source this document is."""
    said = [
        {"code": RELATES_TO[kind], "target": {"reference": f"DocumentReference/{target}"}}
        for kind, _, target in (relation.partition(" ") for relation in relations)
        if kind in RELATES_TO
    ]
    return b'"relatesTo":%b,' % orjson.dumps(said) if said else b""


def _entries(relations: Sequence[str]) -> bytes:
    """``D uuid``, ``F uuid``: the members."""
    said = [
        {"item": {"reference": f"{RESOURCE_OF[kind]}/{target}"}}
        for kind, _, target in (relation.partition(" ") for relation in relations)
    ]
    return b'"entry":%b,' % orjson.dumps(said) if said else b""
