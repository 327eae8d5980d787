"""MHD 4.2, publishing: Provide Document Bundle [ITI-65], Simplified Publish [ITI-105], Generate Metadata [ITI-106].

https://profiles.ihe.net/ITI/MHD/ITI-65.html, ITI-105.html, ITI-106.html. What is read is a submission as ITI-41 brings
it, with its documents. What only the registry or the patient index knows stays open in a :class:`Publication`: patients
by other numbers, documents by their uniqueId, folders that may exist already.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
import orjson

from obieg.codes.load import toml
from obieg.domain.attributes import DOCUMENT_ENTRY, FOLDER, SUBMISSION_SET
from obieg.domain.content import MemoryContent
from obieg.domain.documents import (
    Association,
    AssociationType,
    Code,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)
from obieg.domain.identifiers import PatientId, is_oid, is_uuid_urn
from obieg.domain.problems import Finding, Problem
from obieg.domain.registry import FoundResource
from obieg.mapping import fhir_outcome, fhir_validate, pik
from obieg.mapping.fhir_documents import RESOURCE_OF, splice
from obieg.mapping.fhir_parameters import arguments, token
from obieg.mapping.fhir_patient import instant
from obieg.mapping.mhd_metadata import (
    check_modifiers,
    entry_uuid,
    read_entry,
    read_folder,
    read_submission_set,
    unique_id,
)
from obieg.mapping.mhd_reading import Reading, Sought, Source
from obieg.protocol import FhirReply, FhirRequest
from obieg.wire import cda, fhir_json, fhir_xml
from obieg.wire.fhir_validation import violations

_TABLE, _PROVIDE = toml("mhd.toml"), toml("mhd_provide.toml")
PROFILES: dict[str, str] = _PROVIDE["profiles"]
_LIST_TYPES: dict[str, str] = _TABLE["list_types"]
_UUID: str = _TABLE["uuid"]
_RELATES_TO: dict[str, AssociationType] = {}
for _name, _code in _TABLE["relates_to"].items():
    _RELATES_TO.setdefault(_code, AssociationType(_name))
_FHIR_JSON, _FHIR_XML = "application/fhir+json", "application/fhir+xml"
SET_SYMBOL = "set"
_SET, _FOLDER, _ENTRY, _BINARY, _BUNDLE, _PATCH, _PATIENT = (
    "SubmissionSet", "Folder", "DocumentReference", "Binary", "Bundle", "Parameters", "Patient",
)  # fmt: skip
_FORMS = {
    kind: {method: re.compile(form) for method, form in row.items()} for kind, row in _PROVIDE["requests"].items()
}
_PLACE_OF_OBJECT = re.compile(r"(?:(?:SubmissionSet|DocumentEntry|Folder|Association|Document) )?(\S+?)(?:: (\w+))?\Z")
_ELEMENTS = {
    kind: {row.name: row.fhir.replace("[]", "") for row in table if row.fhir}
    for kind, table in (("DocumentEntry", DOCUMENT_ENTRY), ("SubmissionSet", SUBMISSION_SET), ("Folder", FOLDER))
}


class Answer(NamedTuple):
    """What became of one entry of the bundle; ``object`` is its entryUUID or, before it has one, its symbol."""

    kind: str  # type of the resource that the answer names
    object: str
    status: str = "201 Created"
    place: str = ""


class FolderUpdate(NamedTuple):
    """A folder sent with PUT: it gains members where it is registered, and is made where it is not."""

    folder: Folder
    entry_uuid: str  # that the sender names it by, or ""
    demanded: bool  # named by its address: it must be there
    members: tuple[str, ...]  # documents


class Condition(NamedTuple):
    """A document that is published only where nobody has published it (If-None-Exist)."""

    symbol: str
    name: str  # as in Publication.names
    place: str


@dataclass(frozen=True, slots=True)
class Publication:
    """A submission with its documents, and what has to be looked up before it can be registered."""

    submission: Submission
    documents: Mapping[str, MemoryContent]  # by the entryUUID of the entry
    fingerprint: bytes  # of all of it, as sent
    places: Mapping[str, str]  # entryUUID -> FHIRPath of the resource
    findings: tuple[Finding, ...] = ()
    answers: tuple[Answer, ...] = ()
    minimal: bool = False  # minimal metadata is allowed
    named_at: Mapping[str, str] = field(default_factory=dict)  # patient as written -> where
    patients: Mapping[str, tuple[PatientId, ...]] = field(
        default_factory=dict
    )  # as written -> all that name the patient
    others: Mapping[Code, tuple[Code, ...]] = field(default_factory=dict)  # further codings of a concept
    people: Mapping[str, Sought] = field(default_factory=dict)  # by what stands for them
    names: Mapping[str, tuple[str, str]] = field(
        default_factory=dict
    )  # name -> uniqueId, entryUUID or "": of documents
    optional: frozenset[str] = frozenset()  # names that may turn out to be nobody's
    updates: tuple[FolderUpdate, ...] = ()
    conditions: tuple[Condition, ...] = ()
    superseded: tuple[tuple[str, str], ...] = ()  # entryUUID that a PATCH deprecates, and where
    shown: bool = False  # the answer shows what is stored


class Published(NamedTuple):
    """What was registered."""

    answers: tuple[Answer, ...]
    at: datetime
    warnings: tuple[Finding, ...] = ()
    found: Mapping[str, FoundResource] = {}  # by entryUUID, where it is to be shown


# the bundle ------------------------------------------------------------------------------------------------------


class _Entry(NamedTuple):
    place: str
    kind: str
    full_url: str
    request: dict[str, Any]
    source: Source
    symbol: str

    @property
    def resource(self) -> dict[str, Any]:
        return self.source.resource


def read_bundle(request: FhirRequest) -> Publication:
    """Reads an ITI-65 request; raises Problem with everything that is wrong with its structure."""
    bundle = request.body or {}
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") != "transaction":
        raise Problem.of("RuleBroken", "a Bundle of type transaction is expected at this address", "Bundle.type")
    return _BundleReader(request, bundle).publication()


class _BundleReader:
    def __init__(self, request: FhirRequest, bundle: dict[str, Any]) -> None:
        self._bundle = bundle
        resources: dict[str, tuple[str, dict[str, Any]]] = {}
        twice: list[Finding] = []
        for number, item in enumerate(bundle.get("entry", ())):
            full_url, place = item.get("fullUrl", ""), f"Bundle.entry[{number}]"
            if full_url in resources:
                said = f"two entries have the fullUrl {full_url[:120]}"
                twice.append(Finding("RuleBroken", said, f"{place}.fullUrl"))
            if full_url:
                resources[full_url] = (f"{place}.resource", item.get("resource", {"resourceType": ""}))
        self.prefer = request.prefer
        self.reading = Reading(request.base, request.affinity_domain, resources)
        self.reading.findings += twice
        self.reading.findings += map(fhir_validate.finding, violations(_described(bundle)))
        self.entries = [e for n, item in enumerate(bundle.get("entry", ())) if (e := self._entry(n, item))]
        self.by_url = {e.full_url: e for e in self.entries}
        self.ids: dict[str, str] = {}  # fullUrl -> entryUUID or symbol
        self.places: dict[str, str] = {}
        self.associations: list[Association] = []
        self.names: dict[str, tuple[str, str]] = {}

    def _entry(self, number: int, item: dict[str, Any]) -> _Entry | None:
        reading, place = self.reading, f"Bundle.entry[{number}]"
        missing = [name for name in ("fullUrl", "resource", "request") if name not in item]
        for name in missing:
            reading.refuse("RequiredFieldMissing", f"an entry of this transaction needs {name}", f"{place}.{name}")
        if missing:
            return None
        resource, request = item["resource"], item["request"]
        kind = entry_kind(resource)
        if kind not in _FORMS:
            said = f"{kind or 'this List'} is no part of Provide Document Bundle: a List is a submissionset or a folder"
            if resource["resourceType"] != "List":
                said = f"a {kind} is no part of Provide Document Bundle"
            reading.refuse("RuleBroken", said, f"{place}.resource")
            return None
        forms = _FORMS[kind]
        url = request["url"].removeprefix(f"{reading.base}/")
        if request["method"] not in forms:
            said = f"a {kind} is sent with {' or '.join(forms)}, not with {request['method']}"
            reading.refuse("RuleBroken", said, f"{place}.request.method")
        elif not forms[request["method"]].fullmatch(url):
            said = f"{url[:80]!r} is no address for {request['method']} of a {kind}"
            reading.refuse("RuleBroken", said, f"{place}.request.url")
        for name in (
            "ifMatch",
            "ifNoneMatch",
            "ifModifiedSince",
            *(() if kind in (_ENTRY, _PATIENT) else ("ifNoneExist",)),
        ):
            if name in request:
                said = f"{name} cannot be obeyed for a {kind} here"
                reading.refuse("UnsupportedQueryField", said, f"{place}.request.{name}")
        source = Source(reading, resource, f"{place}.resource")
        return _Entry(place, kind, item["fullUrl"], {**request, "url": url}, source, f"e{number}")

    def _of(self, kind: str, method: str = "") -> list[_Entry]:
        return [e for e in self.entries if e.kind == kind and method in ("", e.request["method"])]

    def publication(self) -> Publication:
        reading = self.reading
        sets = self._of(_SET)
        if len(sets) != 1:
            found = reading.findings or [
                Finding("RuleBroken", f"the bundle needs one submissionset, it has {len(sets)}", "Bundle.entry")
            ]
            raise Problem(found)
        documents = self._documents()
        entries, contents = [], {}
        for entry in self._of(_ENTRY):
            described = read_entry(entry.source, entry.symbol)
            self._known(entry, described)
            if content := self._content(entry, described, documents):
                contents[described.entry_uuid] = content
            entries.append(described)
        submission_set = read_submission_set(sets[0].source, sets[0].symbol)
        self._known(sets[0], submission_set)
        folders = []
        for entry in self._of(_FOLDER):
            folder = read_folder(entry.source, entry.symbol)
            self._known(entry, folder)
            folders.append((entry, folder))
        for unused in documents.values():
            reading.refuse(
                "XDSMissingDocumentMetadata", "no DocumentReference refers to it", f"{unused.place}.resource"
            )
        self._relations()
        self._members(sets[0])
        updates = tuple(self._update(e, folder) for e, folder in folders if e.request["method"] == "PUT")
        made = [(e, folder) for e, folder in folders if e.request["method"] != "PUT"]
        for entry, folder in made:
            for number, target in self._items(entry):
                where = f"{entry.source.place}.entry[{number}]"
                self._associate(AssociationType.HAS_MEMBER, folder.entry_uuid, target, where)
        self._check_patients()
        minimal = PROFILES["minimal"] in self._bundle.get("meta", {}).get("profile", ())
        submission = _with_patient(
            Submission(submission_set, tuple(entries), tuple(f for _, f in made), tuple(self.associations)), reading
        )
        updates = tuple(u._replace(folder=_owned(u.folder, submission)) for u in updates)
        if not minimal:
            self._check_subjects()
        reading.refuse_all()
        return Publication(
            submission=submission,
            documents=contents,
            fingerprint=_fingerprint(submission, contents, reading.people, updates),
            places=self.places,
            findings=tuple(reading.findings),
            answers=tuple(self._answer(e) for e in self.entries),
            minimal=minimal,
            patients=reading.patients,
            named_at=reading.first_named,
            others=reading.others,
            people=reading.people,
            names=self.names,
            updates=updates,
            conditions=tuple(self._conditions()),
            superseded=tuple(self._superseded()),
            shown=self.prefer == "representation",
        )

    def _known(self, entry: _Entry, value: DocumentEntry | SubmissionSet | Folder) -> None:
        self.ids[entry.full_url] = value.entry_uuid
        if value.entry_uuid in self.places:
            said = f"two entries of the bundle have the entryUUID {value.entry_uuid}"
            self.reading.refuse("RuleBroken", said, f"{entry.source.place}.identifier")
        self.places[value.entry_uuid] = entry.source.place

    # documents

    def _documents(self) -> dict[str, _Entry]:
        return {e.full_url: e for e in self.entries if e.kind in (_BINARY, _BUNDLE)}

    def _content(self, entry: _Entry, described: DocumentEntry, documents: dict[str, _Entry]) -> MemoryContent | None:
        reading = self.reading
        attachment = entry.resource["content"][0]["attachment"]
        where = f"{entry.source.place}.content[0].attachment"
        if "data" in attachment:
            said = "the document of a bundle is a Binary of its own: refer to its fullUrl"
            reading.refuse("RuleBroken", said, f"{where}.data")
            return None
        holder = documents.pop(attachment.get("url", ""), None)
        if holder is None:
            said = "no Binary or document Bundle of this bundle has this fullUrl"
            if attachment.get("url") in self.by_url:
                said = "another DocumentReference has this document, or the entry is none"
            reading.refuse("XDSMissingDocument", said, f"{where}.url")
            return None
        self.ids[holder.full_url] = described.entry_uuid
        content = read_document(reading, holder.source, described.mime_type)
        if content is not None:
            _check_content(reading, content, described, holder, where)
        return content

    # relations

    def _associate(
        self, kind: AssociationType, source: str, target: str, where: str, status: str | None = None
    ) -> None:
        symbol = f"a{len(self.associations)}"
        self.places[symbol] = where
        self.associations.append(Association(symbol, kind, source, target, submission_set_status=status))

    def _document(self, reference: dict[str, Any], where: str) -> str:
        """What a reference to a document names: an entryUUID, a symbol, or a name to be looked up; "" for nothing."""
        literal: str = reference.get("reference", "")
        if literal in self.by_url:
            entry = self.by_url[literal]
            if entry.kind in (_ENTRY, _FOLDER, _SET):
                return self.ids.get(literal, "")
            self.reading.refuse("RuleBroken", f"a {entry.kind} stands where a DocumentReference is meant", where)
            return ""
        kind, logical = self.reading.local(literal)
        if kind in ("DocumentReference", "List") and is_uuid_urn(_UUID + logical):
            return _UUID + logical.lower()
        if is_uuid_urn(literal):
            return literal.lower()
        if not literal and (named := _named(reference.get("identifier", {}), self.names)):
            return named
        said = f"{literal[:120] or 'the reference'} names no document of this bundle or of this service"
        self.reading.refuse("UnresolvedReferenceException", said, where)
        return ""

    def _relations(self) -> None:
        for entry in self._of(_ENTRY):
            kinds: dict[str, tuple[set[AssociationType], str]] = {}
            for number, related in enumerate(entry.resource.get("relatesTo", ())):
                where = f"{entry.source.place}.relatesTo[{number}]"
                kind = _RELATES_TO.get(related["code"])
                if kind is None:
                    said = f"{related['code']!r} is none of {', '.join(_RELATES_TO)}"
                    self.reading.refuse("TableValueNotFound", said, f"{where}.code")
                elif target := self._document(related["target"], f"{where}.target"):
                    kinds.setdefault(target, (set(), where))[0].add(kind)
            for target, (found, where) in kinds.items():
                for kind in _joined(found):
                    self._associate(kind, self.ids[entry.full_url], target, where)

    def _items(self, entry: _Entry) -> Iterator[tuple[int, str]]:
        seen = set()
        for number, item in enumerate(entry.resource.get("entry", ())):
            where = f"{entry.source.place}.entry[{number}].item"
            target = self._document(item["item"], where)
            if target and target not in seen:
                seen.add(target)
                yield number, target

    def _members(self, entry: _Entry) -> None:
        """What the submission set holds: by itself, or by reference what is registered already."""
        updated = {self.ids[e.full_url] for e in self._of(_FOLDER, "PUT")}
        new = {self.ids[e.full_url] for e in self._of(_ENTRY)}
        own = {self.ids[e.full_url] for e in self._of(_FOLDER)}
        for number, target in self._items(entry):
            where = f"{entry.source.place}.entry[{number}]"
            status = "Original" if target in new else None if target in own else "Reference"
            if target not in updated:
                self._associate(AssociationType.HAS_MEMBER, self.ids[entry.full_url], target, where, status)

    def _update(self, entry: _Entry, folder: Folder) -> FolderUpdate:
        address, _, query = entry.request["url"].partition("?")
        logical = address.partition("/")[2]
        uuid = _UUID + logical.lower() if logical else ""
        if logical and not is_uuid_urn(uuid):
            said = f"no folder has the id {logical}"
            self.reading.refuse("UnresolvedReferenceException", said, f"{entry.place}.request.url")
        identifiers = _condition(_parameters(query)) if query else []
        if query and not identifiers:
            said = "a folder is found by identifier only"
            self.reading.refuse("UnsupportedQueryField", said, f"{entry.place}.request.url")
        for identifier in identifiers:
            folder = msgspec.structs.replace(folder, unique_id=unique_id(identifier) or folder.unique_id)
        if not uuid and is_uuid_urn(folder.entry_uuid):
            uuid = folder.entry_uuid
        members = tuple(target for _, target in self._items(entry))
        return FolderUpdate(folder, uuid, bool(logical), members)

    # the rest

    def _conditions(self) -> Iterator[Condition]:
        for entry in self._of(_ENTRY):
            query = entry.request.get("ifNoneExist")
            if query is None:
                continue
            where = f"{entry.place}.request.ifNoneExist"
            name = _only_name(_parameters(query), self.names)
            if not name:
                raise Problem([*self.reading.findings, Finding("UnsupportedQueryField", _ONE_IDENTIFIER, where)])
            yield Condition(self.ids[entry.full_url], name, where)

    def _superseded(self) -> Iterator[tuple[str, str]]:
        for entry in self._of(_PATCH):
            parts = [
                {part["name"]: next((v for k, v in part.items() if k.startswith("value")), None) for part in p["part"]}
                for p in entry.resource.get("parameter", ())
                if p["name"] == "operation" and "part" in p
            ]
            expected = {"path": "DocumentReference.status", "type": "replace", "value": "superseded"}
            logical = _UUID + entry.request["url"].partition("/")[2].lower()
            if parts != [expected] or not is_uuid_urn(logical):
                said = "the only patch here replaces DocumentReference.status by superseded (MHD: UpdateDocumentRefs)"
                raise Problem([*self.reading.findings, Finding("RuleBroken", said, f"{entry.source.place}.parameter")])
            yield logical, f"{entry.place}.request.url"

    def _check_patients(self) -> None:
        for number, entry in enumerate(self._of(_PATIENT)):
            if number:
                said = "one bundle is about one patient (MHD: Patient 0..1)"
                self.reading.refuse("XDSPatientIdDoesNotMatch", said, f"{entry.place}.resource")
            check_modifiers(entry.source)
            where = f"{entry.source.place}.identifier"
            self.reading.patient(entry.source, {"reference": entry.full_url}, where)

    def _check_subjects(self) -> None:
        for entry in self._of(_ENTRY):
            if "subject" not in entry.resource:
                said = "comprehensive metadata names the patient"
                self.reading.refuse("RequiredFieldMissing", said, f"{entry.source.place}.subject")

    def _answer(self, entry: _Entry) -> Answer:
        known = self.ids.get(entry.full_url, "")
        if entry.kind in (_SET, _FOLDER):
            return Answer("List", known, place=entry.place)
        if entry.kind in (_BINARY, _BUNDLE):
            return Answer("Binary", known, place=entry.place)
        if entry.kind == _PATCH:
            return Answer("DocumentReference", _UUID + entry.request["url"].partition("/")[2], "200 OK", entry.place)
        if entry.kind == _PATIENT:
            return Answer("Patient", "", "200 OK", entry.place)
        return Answer("DocumentReference", known, place=entry.place)


def _described(bundle: dict[str, Any]) -> dict[str, Any]:
    """The bundle without its documents: what they say is not looked into, as with documents of other forms."""
    entries = []
    for item in bundle.get("entry", ()):
        resource = item.get("resource", {})
        if resource.get("resourceType") in (_BINARY, _BUNDLE):
            item = {**item, "resource": {"resourceType": _BINARY, "contentType": "text/plain"}}  # noqa: PLW2901
        entries.append(item)
    return {**bundle, "entry": entries} if entries else bundle


def _joined(kinds: set[AssociationType]) -> list[AssociationType]:
    """Replacing and transforming the same document is one association (ITI TF-3:4.2.2.2)."""
    both = {AssociationType.RPLC, AssociationType.XFRM}
    return sorted(kinds - both | {AssociationType.XFRM_RPLC} if both <= kinds else kinds)


def entry_kind(resource: dict[str, Any]) -> str:
    """Its type; of a List, SubmissionSet or Folder, "" where it is neither."""
    kind = str(resource["resourceType"])
    if kind != "List":
        return kind
    codes = {
        c.get("code") for c in resource.get("code", {}).get("coding", ()) if c.get("system") == _LIST_TYPES["system"]
    }
    if codes == {_LIST_TYPES["submission_set"]}:
        return _SET
    return _FOLDER if codes == {_LIST_TYPES["folder"]} else ""


_ONE_IDENTIFIER = "a document is looked for by one identifier: identifier=system|value of its uniqueId or entryUUID"


def _named(identifier: dict[str, Any], names: dict[str, tuple[str, str]]) -> str:
    """A name for the document with this uniqueId or entryUUID, kept in ``names``; "" where it is neither."""
    unique = unique_id(identifier)
    if unique is None:
        return ""
    names[f"named:{unique}"] = (unique, entry_uuid([{**identifier, "use": "official"}]) or "")
    return f"named:{unique}"


def _only_name(parameters: Sequence[tuple[str, str]], names: dict[str, tuple[str, str]]) -> str:
    """The name of the document that a condition is about; "" where it is not made of one identifier."""
    found = _condition(parameters)
    return _named(found[0], names) if len(found) == 1 else ""


def _parameters(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query.removeprefix("?"), keep_blank_values=True)


def _condition(parameters: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Identifiers of a condition that is made of nothing else."""
    found = []
    for name, value in parameters:
        system, text = token(value)
        if name != "identifier" or not system or not text:
            return []
        found.append({"system": system, "value": text})
    return found


def _owned(value: Any, submission: Submission) -> Any:
    return (
        value if value.patient_id else msgspec.structs.replace(value, patient_id=submission.submission_set.patient_id)
    )


def _with_patient(submission: Submission, reading: Reading) -> Submission:
    """What names no patient is about the one whom the others name."""
    named = next((o.patient_id for o in submission.objects if o.patient_id), None)
    named = named or next(iter(reading.patients), None)
    # A minimal DocumentReference may name the patient only as its source knows him.
    named = named or next((e.source_patient_id for e in submission.entries if e.source_patient_id), None)
    if named is None:
        if not reading.findings:
            said = "no resource names the patient by an identifier: give a subject"
            reading.refuse("XDSUnknownPatientId", said, "Bundle.entry.resource.subject")
        return submission
    if named not in reading.patients:
        number, _, rest = named.partition("^^^&")
        reading.patients[named] = (PatientId(number, rest.partition("&")[0]),)

    def owned(value: Any) -> Any:
        return value if value.patient_id else msgspec.structs.replace(value, patient_id=named)

    return Submission(
        owned(submission.submission_set),
        tuple(owned(e) for e in submission.entries),
        tuple(owned(f) for f in submission.folders),
        submission.associations,
    )


_encode = msgspec.json.Encoder().encode


def _fingerprint(
    submission: Submission,
    contents: Mapping[str, MemoryContent],
    people: Mapping[str, Sought],
    updates: Sequence[FolderUpdate] = (),
) -> bytes:
    digest = hashlib.sha256(_encode(submission))
    for name, content in contents.items():
        digest.update(f"\0{name}\0{content.sha1()}".encode())
    digest.update(_encode([people, updates]))
    return digest.digest()


# documents -------------------------------------------------------------------------------------------------------


def decoded(text: str) -> bytes | None:
    """The bytes of a base64Binary; None where it is none. White space is read over, as FHIR allows."""
    # msgspec decodes several times faster than binascii.
    with suppress(msgspec.ValidationError):
        return msgspec.convert(text, bytes)
    with suppress(msgspec.ValidationError):
        return msgspec.convert("".join(text.split()), bytes)
    return None


def read_document(reading: Reading, source: Source, mime_type: str) -> MemoryContent | None:
    """The bytes of a Binary, or of a document Bundle as it is written down here."""
    resource, place = source.resource, source.place
    if resource["resourceType"] == "Bundle":
        if resource.get("type") != "document":
            said = f"a Bundle is published as a document, this is a {resource.get('type')}"
            reading.refuse("InvalidDocumentContent", said, f"{place}.type")
            return None
        if mime_type.partition(";")[0] == _FHIR_XML:
            return MemoryContent(fhir_xml.write(resource), mime_type)
        return MemoryContent(fhir_json.write(resource), mime_type)
    data = decoded(resource["data"]) if "data" in resource else None
    if data is None:
        rule = "DataTypeError" if "data" in resource else "XDSMissingDocument"
        reading.refuse(rule, "the bytes of the document stand here in base64", f"{place}.data")
        return None
    return MemoryContent(data, resource["contentType"])


def _check_content(
    reading: Reading, content: MemoryContent, described: DocumentEntry, holder: _Entry, where: str
) -> None:
    """What the DocumentReference says of the document must be so; the bytes of a Bundle are ours, not the sender's."""
    if holder.kind == _BUNDLE:
        if described.mime_type.partition(";")[0] not in (_FHIR_JSON, _FHIR_XML):
            said = f"a document Bundle is {_FHIR_JSON} or {_FHIR_XML}, not {described.mime_type!r}"
            reading.refuse("InvalidDocumentContent", said, f"{where}.contentType")
        return
    if content.content_type != described.mime_type:
        said = f"the Binary is {content.content_type!r}, the DocumentReference says {described.mime_type!r}"
        reading.refuse("InvalidDocumentContent", said, f"{where}.contentType")
    if described.size is not None and int(described.size) != content.size:
        said = f"the document has {content.size} bytes, the DocumentReference says {described.size}"
        reading.refuse("XDSRepositoryMetadataError", said, f"{where}.size")
    if described.hash is not None and described.hash != content.sha1():
        said = f"the document has the hash {content.sha1()}, the DocumentReference says {described.hash}"
        reading.refuse("XDSRepositoryMetadataError", said, f"{where}.hash")


# ITI-105, ITI-106 ------------------------------------------------------------------------------------------------


def read_simplified(request: FhirRequest) -> Publication:
    """Reads an ITI-105 request: a DocumentReference that carries its document."""
    resource = request.body or {}
    if resource.get("resourceType") != "DocumentReference":
        raise Problem.of("RuleBroken", "a DocumentReference is created at this address", "DocumentReference")
    reading = Reading(request.base, request.affinity_domain, {})
    source = Source(reading, resource, "DocumentReference")
    reading.findings += map(fhir_validate.finding, violations(resource))
    entry = read_entry(source, "e0")
    attachment, where = resource["content"][0]["attachment"], "DocumentReference.content[0].attachment"
    if "identifier" in resource:
        said = "entryUUID is assigned here (MHD: identifier 0..0)"
        reading.refuse("RuleBroken", said, "DocumentReference.identifier")
    if "url" in attachment:
        reading.refuse("RuleBroken", "the document stands in data, not at an address", f"{where}.url")
    if not entry.mime_type:
        reading.refuse("RequiredFieldMissing", "the media type is needed", f"{where}.contentType")
    if entry.patient_id is None and not reading.findings:
        reading.refuse("RequiredFieldMissing", "the patient is needed", "DocumentReference.subject")
    data = decoded(attachment["data"]) if "data" in attachment else None
    if data is None:
        rule = "DataTypeError" if "data" in attachment else "XDSMissingDocument"
        reading.refuse(rule, "the bytes of the document stand here in base64", f"{where}.data")
    content = MemoryContent(data or b"", entry.mime_type)
    if data is not None:
        _check_content(reading, content, entry, _Entry("", _BINARY, "", {}, source, ""), where)
    names: dict[str, tuple[str, str]] = {}
    associations = [Association("a0", AssociationType.HAS_MEMBER, SET_SYMBOL, "e0", submission_set_status="Original")]
    places = {"e0": "DocumentReference", SET_SYMBOL: "DocumentReference", "a0": "DocumentReference"}
    kinds: dict[str, tuple[set[AssociationType], str]] = {}
    for number, related in enumerate(resource.get("relatesTo", ())):
        path = f"DocumentReference.relatesTo[{number}]"
        kind, target = _RELATES_TO.get(related["code"]), _target(reading, related["target"], names)
        if kind is None or not target:
            reading.refuse("UnresolvedReferenceException", "the reference names no document of this service", path)
            continue
        kinds.setdefault(target, (set(), path))[0].add(kind)
    for target, (related_by, path) in kinds.items():
        for kind in _joined(related_by):
            symbol = f"a{len(associations)}"
            places[symbol] = path
            associations.append(Association(symbol, kind, "e0", target))
    conditions: tuple[Condition, ...] = ()
    if request.if_none_exist:
        name = _only_name(request.if_none_exist, names)
        if not name:
            reading.refuse("UnsupportedQueryField", _ONE_IDENTIFIER, "http.If-None-Exist")
        conditions = (Condition("e0", name, "http.If-None-Exist"),)
    reading.refuse_all()
    submission = Submission(_own_set(entry), (entry,), (), tuple(associations))
    return Publication(
        submission=submission,
        documents={"e0": content},
        fingerprint=_fingerprint(submission, {"e0": content}, reading.people),
        places=places,
        findings=tuple(reading.findings),
        answers=(Answer("DocumentReference", "e0", place="DocumentReference"),),
        minimal=True,
        patients=reading.patients,
        named_at=reading.first_named,
        others=reading.others,
        people=reading.people,
        names=names,
        conditions=conditions,
        shown=True,
    )


def _target(reading: Reading, reference: dict[str, Any], names: dict[str, tuple[str, str]]) -> str:
    kind, logical = reading.local(reference.get("reference", ""))
    if kind == "DocumentReference" and is_uuid_urn(_UUID + logical):
        return _UUID + logical.lower()
    return _named(reference.get("identifier", {}), names)


def _own_set(entry: DocumentEntry) -> SubmissionSet:
    """The submission set of a document that is published alone; the actor says who and when."""
    return SubmissionSet(SET_SYMBOL, patient_id=entry.patient_id, author=entry.author, title=entry.title)


def read_generate(request: FhirRequest) -> Publication:
    """Reads an ITI-106 request: a document alone, CDA in a Binary or a FHIR document Bundle."""
    resource = arguments(request)["document"][0]
    reading = Reading(request.base, request.affinity_domain, {})
    where = "Parameters.parameter[0].resource"
    source = Source(reading, resource, where)
    if resource["resourceType"] == "Binary":
        entry = DocumentEntry("e0", mime_type=pik.CDA_MEDIA_TYPE)
    elif resource["resourceType"] == "Bundle":
        entry = _described_by_composition(reading, resource, where)
    else:
        raise Problem.of("DataTypeError", "the document is a Binary or a Bundle", where)
    content = read_document(reading, source, entry.mime_type)
    reading.refuse_all()
    assert content is not None  # noqa: S101 - or something was refused
    replaced: tuple[str, ...] = ()
    if resource["resourceType"] == "Binary":
        entry, replaced = _described_by_cda(reading, entry, content, where)
    elif entry.patient_id is None:
        raise Problem.of("XDSUnknownPatientId", "its Composition names no patient by an identifier", where)
    member = Association("a0", AssociationType.HAS_MEMBER, SET_SYMBOL, "e0", submission_set_status="Original")
    names = {f"named:{unique}": (unique, "") for unique in replaced}
    replacements = (Association(f"a{number}", AssociationType.RPLC, "e0", name) for number, name in enumerate(names, 1))
    submission = Submission(_own_set(entry), (entry,), (), (member, *replacements))
    return Publication(
        submission=submission,
        documents={"e0": content},
        fingerprint=_fingerprint(submission, {"e0": content}, reading.people),
        places=dict.fromkeys(("e0", SET_SYMBOL, *(a.entry_uuid for a in submission.associations)), where),
        names=names,
        optional=frozenset(names),
        answers=(Answer("DocumentReference", "e0", place=where),),
        minimal=True,
        patients=reading.patients,
        named_at=reading.first_named,
        others=reading.others,
        people=reading.people,
    )


def _described_by_cda(
    reading: Reading, entry: DocumentEntry, content: MemoryContent, where: str
) -> tuple[DocumentEntry, tuple[str, ...]]:
    """What a PIK HL7 CDA says of itself, and the uniqueIds of what it replaces."""
    try:
        ids = cda.read_header(content.data).patient.ids
    except cda.CdaRefused as error:
        said = f"metadata is made of CDA and of FHIR documents, and this is no CDA: {error}"
        raise Problem.of("InvalidDocumentContent", said, where) from None
    found = [PatientId(i.extension, i.root) for i in ids if i.extension and is_oid(i.root)]
    own = [i for i in found if i.authority == reading.affinity_domain]
    if not found:
        raise Problem.of("XDSUnknownPatientId", "the document names no patient", f"{where}.data")
    written = str((*own, *found)[0])
    reading.patients[written] = tuple(dict.fromkeys((*own, *found)))
    reading.first_named[written] = f"{where}.data"
    described = pik.describe_cda(
        content.data,
        patient_id=written,
        source_id="",
        now=datetime.min.replace(tzinfo=UTC),
        new_uuid=lambda: UUID(int=0),
    )
    return msgspec.structs.replace(described.entry, entry_uuid=entry.entry_uuid, repository_unique_id=None), (
        described.replaces
    )


def _described_by_composition(reading: Reading, bundle: dict[str, Any], where: str) -> DocumentEntry:
    """What the Composition of a FHIR document says of it, in the terms of a DocumentReference."""
    items = bundle.get("entry", ())
    composition = items[0].get("resource", {}) if items else {}
    if composition.get("resourceType") != "Composition":
        raise Problem.of("InvalidDocumentContent", "a document Bundle begins with a Composition", f"{where}.entry[0]")
    resources: dict[str, tuple[str, dict[str, Any]]] = {}
    for number, item in enumerate(items):
        if inner := item.get("resource"):
            place = (f"{where}.entry[{number}].resource", inner)
            resources |= {item.get("fullUrl", ""): place, f"{inner['resourceType']}/{inner.get('id', '')}": place}
    reading.resources = resources
    source = Source(reading, {
        "resourceType": "DocumentReference",
        "masterIdentifier": bundle.get("identifier", {}),
        "status": "current",
        "type": composition["type"],
        "category": composition.get("category", [])[:1],
        "subject": composition.get("subject", {}),
        "author": composition.get("author", []),
        "securityLabel": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": c}]}
            for c in (composition.get("confidentiality"),) if c
        ],
        "content": [{"attachment": {
            "contentType": _FHIR_JSON, "title": composition["title"], "creation": composition["date"],
            **({"language": composition["language"]} if "language" in composition else {}),
        }}],
        "context": {"sourcePatientInfo": composition.get("subject", {})} if "subject" in composition else {},
    }, f"{where}.entry[0].resource")  # fmt: skip
    return read_entry(source, "e0")


# answering -------------------------------------------------------------------------------------------------------


def placed(finding: Finding, places: Mapping[str, str]) -> Finding:
    """The finding with its location in the request: the FHIRPath of the element that an XDS attribute was read from."""
    match = _PLACE_OF_OBJECT.match(finding.location)
    place = places.get(match[1]) if match else None
    if match is None or place is None:
        return finding
    kind = finding.location.partition(" ")[0]
    if kind == "Document":
        return finding._replace(location=f"{place}.content[0].attachment.url")
    element = _ELEMENTS.get(kind, {}).get(match[2] or "", "")
    return finding._replace(location=f"{place}.{element}" if element else place)


def settled(answers: Sequence[Answer], names: Mapping[str, str], statuses: Mapping[str, str]) -> tuple[Answer, ...]:
    """Answers with the entryUUIDs that symbols became, and the statuses of what was there before."""
    return tuple(
        a._replace(object=names.get(a.object, a.object), status=statuses.get(a.object, a.status)) for a in answers
    )


def write_bundle(published: Published, request: FhirRequest) -> FhirReply:
    """The transaction-response: one entry for each of the request, in its order (ProvideDocumentBundleResponse)."""
    modified, base = instant(published.at), orjson.dumps(request.base)[1:-1]
    entries = []
    for answer in published.answers:
        logical = answer.object.removeprefix(_UUID)
        response: dict[str, Any] = {"status": answer.status, "location": f"{answer.kind}/{logical}"}
        found = published.found.get(logical) if answer.kind in RESOURCE_OF.values() else None
        if found is not None:
            response |= {"etag": f'W/"{found.revision}"', "lastModified": found.updated_at}
        elif answer.status.startswith("201"):
            response |= {"etag": 'W/"1"', "lastModified": modified}
        warnings = [f for f in published.warnings if f.location.startswith(f"{answer.place}.")]
        if warnings or request.prefer == "OperationOutcome":
            response["outcome"] = _outcome(warnings)
        shown = {} if found is None else {"resource": fhir_json.read(splice(found, base))}
        entries.append({**shown, "response": response})
    return FhirReply(
        body={
            "resourceType": "Bundle",
            "meta": {"profile": [PROFILES["response"]]},
            "type": "transaction-response",
            "link": [{"relation": "self", "url": request.base}],
            "entry": entries,
        }
    )


def write_simplified(published: Published, request: FhirRequest) -> FhirReply:
    """201, or 200 where it was there already, and the DocumentReference as ITI-67 gives it.

    Whoever may not see it is given no more than return=minimal gives.
    """
    (answer,) = published.answers
    logical = answer.object.removeprefix(_UUID)
    created, found = answer.status.startswith("201"), published.found.get(logical)
    body = _outcome(published.warnings) if request.prefer == "OperationOutcome" else None
    bare = found is None or body is not None or request.prefer == "minimal"
    return FhirReply(
        status=201 if created else 200,
        body=body,
        json=None if found is None or bare else splice(found, orjson.dumps(request.base)[1:-1]),
        location=f"{request.base}/DocumentReference/{logical}",
        version=found.revision if found is not None else "1" if created else "",
        updated_at=datetime.fromisoformat(found.updated_at) if found is not None else published.at if created else None,
    )


def _outcome(warnings: Sequence[Finding]) -> dict[str, Any]:
    """An OperationOutcome of what succeeded."""
    said = {"severity": "information", "code": "informational", "diagnostics": "stored and registered"}
    return fhir_outcome.outcome([fhir_outcome.issue(f) for f in warnings] or [said])


def write_generated(published: Published, request: FhirRequest) -> FhirReply:
    """Parameters with the reference to the DocumentReference that was made."""
    (answer,) = published.answers
    reference = {"reference": f"{request.base}/DocumentReference/{answer.object.removeprefix(_UUID)}"}
    parameter = {"name": "DocumentReference", "valueReference": reference}
    return FhirReply(body={"resourceType": "Parameters", "parameter": [parameter]})
