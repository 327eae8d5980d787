"""A peer of the node that shares no code with it: ebRIM by hand, SOAP and MTOM over httpx, HL7 v2 over MLLP."""

from __future__ import annotations

import base64
import copy
import email
import email.policy
import hashlib
import itertools
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import httpx
import psycopg
from lxml import etree

SOAP = "http://www.w3.org/2003/05/soap-envelope"
WSA = "http://www.w3.org/2005/08/addressing"
XOP = "http://www.w3.org/2004/08/xop/include"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
XDSB = "urn:ihe:iti:xds-b:2007"
STATUS = "urn:oasis:names:tc:ebxml-regrep:StatusType:"
APPROVED, DEPRECATED = STATUS + "Approved", STATUS + "Deprecated"
STABLE = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
ON_DEMAND = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"
LIMITED_ENTRY = "urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85"
ACTIONS = {
    "registry": "urn:ihe:iti:2007:RegistryStoredQuery",
    "register": "urn:ihe:iti:2007:RegisterDocumentSet-b",
    "repository": "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b",
    "retrieve": "urn:ihe:iti:2007:RetrieveDocumentSet",
    "xdr": "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b",
    "update": "urn:ihe:iti:2010:UpdateDocumentSet",
    "restricted_update": "urn:ihe:iti:2018:RestrictedUpdateDocumentSet",
    "remove": "urn:ihe:iti:2010:DeleteDocumentSet",
    "remove_documents": "urn:ihe:iti:2017:RemoveDocuments",
}
MULTI_PATIENT_ACTION = "urn:ihe:iti:2009:MultiPatientStoredQuery"
REGISTER_ON_DEMAND_ACTION = "urn:ihe:iti:2010:RegisterOnDemandDocumentEntry"
ASSOCIATIONS = {
    "HasMember": "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember",
    **{name: f"urn:ihe:iti:2007:AssociationType:{name}" for name in ("RPLC", "APND", "XFRM", "XFRM_RPLC", "signs")},
    **{
        name: f"urn:ihe:iti:2010:AssociationType:{name}"
        for name in ("IsSnapshotOf", "UpdateAvailabilityStatus", "SubmitAssociation")
    },
}
QUERIES = {
    "FindDocuments": "14d4debf-8f97-4251-9a74-a90016b0af0d",
    "FindDocumentsByReferenceId": "12941a89-e02e-4be5-967c-ce4bfc8fe492",
    "FindSubmissionSets": "f26abbcb-ac74-4422-8a30-edb644bbc1a9",
    "FindFolders": "958f3006-baad-4929-a4de-ff1114824431",
    "GetAll": "10b545ea-725c-446d-9b95-8aeb444eddf3",
    "GetDocuments": "5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4",
    "GetFolders": "5737b14c-8a1a-4539-b659-e03a34a5e1e4",
    "GetAssociations": "a7ae438b-4bc2-4642-93e9-be891f7bb155",
    "GetDocumentsAndAssociations": "bab9529a-4a10-40b3-a01f-f68a615d247a",
    "GetSubmissionSets": "51224314-5390-4169-9b91-b1980040715a",
    "GetSubmissionSetAndContents": "e8e3cb2c-e39c-46b9-99e4-c12f57260b83",
    "GetFolderAndContents": "b909a503-523d-4517-8acf-8e5834dfc4c7",
    "GetFoldersForDocument": "10cae35a-c7f9-4cf5-b61e-fc3278ffb578",
    "GetRelatedDocuments": "d90e5407-b356-4d91-a89f-873917b4b0e6",
    "FindDocumentsByTitle": "ab474085-82b5-402d-8115-3f37cb1e2405",
    "FindDocumentsForMultiplePatients": "3d1bdb10-39a2-11de-89c2-2f44d94eaa9f",
    "FindDocumentsByReferenceIdForMultiplePatients": "1191642d-86c4-42d8-b784-f95445f9f0d5",
    "FindFoldersForMultiplePatients": "50d3f5ac-39a2-11de-a1ca-b366239e58df",
}
SCHEMES = {
    "author": "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d",
    "classCode": "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a",
    "typeCode": "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983",
    "formatCode": "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d",
    "confidentialityCode": "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f",
    "eventCodeList": "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4",
    "healthcareFacilityTypeCode": "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1",
    "practiceSettingCode": "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead",
    "contentTypeCode": "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500",
    "folderCodeList": "urn:uuid:1ba97051-7806-41a8-a48b-8fce7af683c5",
    "setAuthor": "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d",
}
IDENTIFIERS = {
    "entryPatient": ("urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427", "XDSDocumentEntry.patientId"),
    "entryUnique": ("urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab", "XDSDocumentEntry.uniqueId"),
    "setPatient": ("urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446", "XDSSubmissionSet.patientId"),
    "setUnique": ("urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8", "XDSSubmissionSet.uniqueId"),
    "setSource": ("urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832", "XDSSubmissionSet.sourceId"),
    "folderPatient": ("urn:uuid:f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a", "XDSFolder.patientId"),
    "folderUnique": ("urn:uuid:75df8f67-9973-4fbe-a900-df66cefecc5a", "XDSFolder.uniqueId"),
}
SET_NODE = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
FOLDER_NODE = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"
REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"
KIT_CODES = SHARED / "nistkit" / "kit" / "affinity_domain_codes.json"
XSD_FOLDER = SHARED / "data" / "ihe" / "ipf-wsdl" / "commons" / "ihe" / "xds" / "src" / "main" / "resources" / "wsdl"
_numbers = itertools.count(1)
_ROOT = str(uuid.uuid4().int)

# What every answer must be valid against; set by the suite when the schemas are there.
VALIDATE: list[Callable[[Any], None]] = []


def oid() -> str:
    """A fresh OID."""
    return f"2.25.{_ROOT}.{next(_numbers)}"


def urn() -> str:
    """A fresh UUID."""
    return f"urn:uuid:{uuid.uuid4()}"


def number() -> str:
    """A fresh patient number."""
    return f"T{_ROOT[:12]}{next(_numbers)}"


def xds_schema() -> etree.XMLSchema:
    """The official schemas of ebRS 3.0 and XDS.b as one."""
    main = XSD_FOLDER / "schema" / "IHE" / "IHEXDSB.xsd"
    document = etree.parse(main)
    # It shares its namespace with a schema that only another one imports; libxml2 loads one schema for a namespace.
    document.getroot().insert(
        0, etree.Element("{http://www.w3.org/2001/XMLSchema}include", schemaLocation=(main.parent / "xcf.xsd").as_uri())
    )
    return etree.XMLSchema(document)


# metadata --------------------------------------------------------------------------------------------------------

Code = tuple[str, str]


class Codes:
    """The codes of an affinity domain, by attribute and number."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._codes = {
            name: list(dict.fromkeys((c["code"], c["codingScheme"]) for c in attribute["codes"]))
            for name, attribute in document.items()
            if isinstance(attribute, dict)
        }

    def of(self, attribute: str) -> list[Code]:
        return self._codes[attribute]

    def __call__(self, attribute: str, index: int = 0) -> Code:
        return self._codes[attribute][index]


def slot(name: str, *values: str) -> str:
    inner = "".join(f"<rim:Value>{escape(v)}</rim:Value>" for v in values)
    return f"<rim:Slot name={quoteattr(name)}><rim:ValueList>{inner}</rim:ValueList></rim:Slot>"


def localized(tag: str, value: str) -> str:
    return f'<rim:{tag}><rim:LocalizedString xml:lang="pl-PL" value={quoteattr(value)}/></rim:{tag}>' if value else ""


def classified(attribute: str, owner: str, code: Code, display: str = "name") -> str:
    return (
        f'<rim:Classification id="{urn()}" classificationScheme="{SCHEMES[attribute]}" classifiedObject="{owner}" '
        f"nodeRepresentation={quoteattr(code[0])}>{slot('codingScheme', code[1])}{localized('Name', display)}"
        "</rim:Classification>"
    )


def authored(owner: str, person: str, scheme: str = "author") -> str:
    return (
        f'<rim:Classification id="{urn()}" classificationScheme="{SCHEMES[scheme]}" classifiedObject="{owner}" '
        f'nodeRepresentation="">{slot("authorPerson", person)}</rim:Classification>'
    )


def identified(name: str, owner: str, value: str) -> str:
    scheme, display = IDENTIFIERS[name]
    return (
        f'<rim:ExternalIdentifier id="{urn()}" registryObject="{owner}" identificationScheme="{scheme}" '
        f"value={quoteattr(value)}>{localized('Name', display)}</rim:ExternalIdentifier>"
    )


def lid(logical_id: str) -> str:
    return f'lid="{logical_id}" ' if logical_id else ""


@dataclass
class Entry:
    """One DocumentEntry; ``None`` or an empty value leaves an attribute out."""

    codes: Codes
    patient: str
    id: str = field(default_factory=urn)
    unique_id: str = field(default_factory=oid)
    content: bytes = b"tresc dokumentu"
    repository: str = ""
    mime_type: str = "text/plain"
    object_type: str = STABLE
    creation_time: str = "20240102030405"
    service_start: str = ""
    service_stop: str = ""
    language: str = "pl-PL"
    source_patient: str = "4711^^^&1.2.616.9&ISO"
    hash: str | None = None  # None: that of the content
    size: str | None = None
    with_hash: bool = True
    title: str = "Karta informacyjna"
    comments: str = ""
    authors: Sequence[str] = ("^Nowak^Anna^^^dr",)
    class_code: Code | None = None
    type_code: Code | None = None
    format_code: Code | None = None
    facility: Code | None = None
    practice: Code | None = None
    confidentiality: Sequence[Code] = ()
    events: Sequence[Code] = ()
    references: Sequence[str] = ()
    without: frozenset[str] = frozenset()  # coded attributes to leave out
    limited: bool = False
    more_slots: str = ""
    more: str = ""
    logical_id: str = ""

    def xml(self) -> str:
        codes, own = self.codes, self.id
        slots = [
            slot(name, value)
            for name, value in (
                ("creationTime", self.creation_time),
                ("languageCode", self.language),
                ("sourcePatientId", self.source_patient),
                ("serviceStartTime", self.service_start),
                ("serviceStopTime", self.service_stop),
                ("repositoryUniqueId", self.repository),
            )
            if value
        ]
        if self.with_hash:
            slots.append(slot("hash", hashlib.sha1(self.content).hexdigest() if self.hash is None else self.hash))
            slots.append(slot("size", str(len(self.content)) if self.size is None else self.size))
        if self.references:
            slots.append(slot("urn:ihe:iti:xds:2013:referenceIdList", *self.references))
        coded: list[tuple[str, Code]] = [
            ("classCode", self.class_code or codes("classCode")),
            ("typeCode", self.type_code or codes("typeCode")),
            ("formatCode", self.format_code or codes("formatCode")),
            ("healthcareFacilityTypeCode", self.facility or codes("healthcareFacilityTypeCode")),
            ("practiceSettingCode", self.practice or codes("practiceSettingCode")),
            *(("confidentialityCode", c) for c in self.confidentiality or [codes("confidentialityCode")]),
            *(("eventCodeList", c) for c in self.events),
        ]
        classifications = [classified(n, own, c) for n, c in coded if n not in self.without]
        classifications += [authored(own, a) for a in self.authors]
        if self.limited:
            classifications.append(
                f'<rim:Classification id="{urn()}" classifiedObject="{own}" classificationNode="{LIMITED_ENTRY}"/>'
            )
        identifiers = [identified("entryPatient", own, self.patient)] if self.patient else []
        identifiers += [identified("entryUnique", own, self.unique_id)] if self.unique_id else []
        return (
            f'<rim:ExtrinsicObject id="{own}" {lid(self.logical_id)}mimeType={quoteattr(self.mime_type)} objectType="{self.object_type}">'
            f"{''.join(slots)}{self.more_slots}{localized('Name', self.title)}{localized('Description', self.comments)}"
            f"{''.join(classifications)}{''.join(identifiers)}{self.more}</rim:ExtrinsicObject>"
        )


@dataclass
class Folder:
    """One Folder."""

    codes: Codes
    patient: str
    id: str = field(default_factory=urn)
    unique_id: str = field(default_factory=oid)
    title: str = "Ciąża"
    list: Sequence[Code] = ()
    logical_id: str = ""

    def xml(self) -> str:
        return (
            f'<rim:RegistryPackage {lid(self.logical_id)}id="{self.id}">{localized("Name", self.title)}'
            f'<rim:Classification id="{urn()}" classifiedObject="{self.id}" classificationNode="{FOLDER_NODE}"/>'
            f"{''.join(classified('folderCodeList', self.id, c) for c in self.list or [self.codes('folderCodeList')])}"
            f"{identified('folderPatient', self.id, self.patient)}{identified('folderUnique', self.id, self.unique_id)}"
            "</rim:RegistryPackage>"
        )


def association(kind: str, source: str, target: str, *, status: str = "", id: str = "", more: str = "") -> str:  # noqa: A002
    inner = (slot("SubmissionSetStatus", status) if status else "") + more
    return (
        f'<rim:Association id="{id or urn()}" associationType="{ASSOCIATIONS.get(kind, kind)}" '
        f'sourceObject="{source}" targetObject="{target}">{inner}</rim:Association>'
    )


@dataclass
class Submission:
    """One submission; memberships of its entries and folders in the set are added."""

    codes: Codes
    patient: str
    entries: Sequence[Entry] = ()
    folders: Sequence[Folder] = ()
    associations: Sequence[str] = ()
    id: str = field(default_factory=urn)
    unique_id: str = field(default_factory=oid)
    source_id: str = "2.25.71"
    time: str = "20240102030405"
    content_type: Code | None = None
    author: str = "^Kowalski^Jan"
    more_slots: str = ""
    member: bool = True

    @property
    def _members(self) -> list[Entry | Folder]:
        return [*self.entries, *self.folders]

    def objects(self) -> str:
        own = self.id
        content_type = self.content_type or self.codes("contentTypeCode")
        submission_set = (
            f'<rim:RegistryPackage id="{own}">{slot("submissionTime", self.time)}{self.more_slots}'
            f"{localized('Name', 'Wypis')}"
            f'<rim:Classification id="{urn()}" classifiedObject="{own}" classificationNode="{SET_NODE}"/>'
            f"{classified('contentTypeCode', own, content_type)}{authored(own, self.author, 'setAuthor')}"
            f"{identified('setPatient', own, self.patient)}{identified('setUnique', own, self.unique_id)}"
            f"{identified('setSource', own, self.source_id)}</rim:RegistryPackage>"
        )
        parts = [submission_set, *(e.xml() for e in self.entries), *(f.xml() for f in self.folders)]
        if self.member:
            # Always the same ids, so that the same submission can be sent again.
            ids = {
                o.id: f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own + self.unique_id + o.id)}" for o in self._members
            }
            parts += [association("HasMember", own, e.id, status="Original", id=ids[e.id]) for e in self.entries]
            parts += [association("HasMember", own, f.id, id=ids[f.id]) for f in self.folders]
        return "".join([*parts, *self.associations])

    def request(self) -> str:
        """``lcm:SubmitObjectsRequest``."""
        return (
            f'<lcm:SubmitObjectsRequest xmlns:lcm="{LCM}" xmlns:rim="{RIM}"><rim:RegistryObjectList>'
            f"{self.objects()}</rim:RegistryObjectList></lcm:SubmitObjectsRequest>"
        )

    def provided(self, documents: str) -> str:
        """``xdsb:ProvideAndRegisterDocumentSetRequest``."""
        return (
            f'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{XDSB}">{self.request()}{documents}'
            "</x:ProvideAndRegisterDocumentSetRequest>"
        )


def include(entry_id: str, content_id: str) -> str:
    return f'<x:Document id="{entry_id}"><xop:Include xmlns:xop="{XOP}" href="cid:{content_id}"/></x:Document>'


def inline(entry_id: str, content: bytes) -> str:
    return f'<x:Document id="{entry_id}">{base64.b64encode(content).decode()}</x:Document>'


# messages --------------------------------------------------------------------------------------------------------


def envelope(action: str, body: str, *, headers: str | None = None, to: str = "http://node", more: str = "") -> str:
    if headers is None:
        headers = (
            f'<a:Action s:mustUnderstand="1">{action}</a:Action><a:MessageID>{urn()}</a:MessageID>'
            f"<a:ReplyTo><a:Address>{WSA}/anonymous</a:Address></a:ReplyTo><a:To>{to}</a:To>{more}"
        )
    return (
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:a="{WSA}"><s:Header>{headers}</s:Header><s:Body>{body}</s:Body>'
        "</s:Envelope>"
    )


BOUNDARY = "MIMEBoundary.of.the.peer"


def package(root: str | bytes, parts: Iterable[tuple[str, bytes]] = (), boundary: str = BOUNDARY) -> bytes:
    """An MTOM package: the envelope and parts by Content-ID."""
    data = root.encode() if isinstance(root, str) else root
    pieces = [
        f"--{boundary}\r\nContent-Type: application/xop+xml; charset=UTF-8; "
        'type="application/soap+xml"\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <root@peer>\r\n\r\n'.encode(),
        data,
    ]
    for content_id, content in parts:
        head = (
            f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: <{content_id}>\r\n\r\n"
        )
        pieces += [head.encode(), content]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    return b"".join(pieces)


def package_type(action: str = "", boundary: str = BOUNDARY) -> str:
    return (
        f'multipart/related; boundary="{boundary}"; type="application/xop+xml"; start="<root@peer>"; '
        f'start-info="application/soap+xml"; action="{action}"'
    )


class Answer:
    """What came back, taken apart by other means than the node's own."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.http_status = status
        self.content_type = headers.get("content-type", "")
        self.raw = content
        self.parts: dict[str, bytes] = {}
        assert b"Traceback" not in content, content[:2000]
        self.mtom = self.content_type.startswith("multipart/related")
        if self.mtom:
            content = self._unpack(content)
        else:
            assert self.content_type.startswith("application/soap+xml"), (status, self.content_type, content[:500])
        self.envelope = etree.fromstring(content)
        assert self.envelope.tag == f"{{{SOAP}}}Envelope"
        self.body = self.envelope.find(f"{{{SOAP}}}Body")[0]
        whole = self._without_xop()
        for validate in VALIDATE:
            validate(whole)

    def _without_xop(self) -> Any:
        """The Body's content with every Include as the text that it stands for (XOP 1.0, section 3.2)."""
        if not self.parts:
            return self.body
        body = copy.deepcopy(self.body)
        for element in list(body.iter(f"{{{XOP}}}Include")):
            owner = element.getparent()
            owner.remove(element)
            owner.text = base64.b64encode(self.parts[element.get("href").removeprefix("cid:")][:30]).decode()
        return body

    def _unpack(self, content: bytes) -> bytes:
        head = b"Content-Type: " + self.content_type.encode() + b"\r\nMIME-Version: 1.0\r\n\r\n"
        message = email.message_from_bytes(head + content, policy=email.policy.HTTP)
        start = message.get_param("start")
        root = None
        for part in message.iter_parts():
            content_id = part["Content-ID"]
            data = part.get_payload(decode=True)
            if content_id == start:
                assert part.get_content_type() == "application/xop+xml"
                root = data
            else:
                self.parts[content_id.strip("<>")] = data
        assert root is not None
        return root

    def header(self, name: str) -> str:
        return str(self.envelope.findtext(f"{{{SOAP}}}Header/{{{WSA}}}{name}") or "")

    @property
    def fault(self) -> str:
        """The reason of a SOAP fault."""
        return str(self.body.findtext(f"{{{SOAP}}}Reason/{{{SOAP}}}Text") or "")

    @property
    def fault_code(self) -> str:
        value = self.body.findtext(f"{{{SOAP}}}Code/{{{SOAP}}}Value") or ""
        return value.rpartition(":")[2]

    @property
    def fault_subcode(self) -> str:
        return self.body.findtext(f"{{{SOAP}}}Code/{{{SOAP}}}Subcode/{{{SOAP}}}Value") or ""

    @property
    def status(self) -> str:
        for element in (self.body, *self.body.iter(f"{{{RS}}}RegistryResponse")):
            if element.get("status"):
                return str(element.get("status").rpartition(":")[2])
        return f"fault: {self.fault}"

    @property
    def errors(self) -> list[tuple[str, str, str]]:
        """(code, location, context)."""
        found = self.body.iter(f"{{{RS}}}RegistryError")
        return [(e.get("errorCode"), e.get("location"), e.get("codeContext")) for e in found]

    @property
    def codes(self) -> list[str]:
        return sorted({e[0] for e in self.errors})

    def _objects(self, tag: str) -> list[Any]:
        return list(self.body.iterfind(f"{{{RIM}}}RegistryObjectList/{{{RIM}}}{tag}"))

    @property
    def entries(self) -> list[Any]:
        return self._objects("ExtrinsicObject")

    def _packages(self, node: str) -> list[Any]:
        return [
            p
            for p in self._objects("RegistryPackage")
            if any(c.get("classificationNode") == node for c in p.iterfind(f"{{{RIM}}}Classification"))
        ]

    @property
    def sets(self) -> list[Any]:
        return self._packages(SET_NODE)

    @property
    def folders(self) -> list[Any]:
        return self._packages(FOLDER_NODE)

    @property
    def associations(self) -> list[Any]:
        return self._objects("Association")

    @property
    def ids(self) -> set[str]:
        """Ids of all objects and references, each of which must stand once."""
        found = [o.get("id") for o in self.body.find(f"{{{RIM}}}RegistryObjectList")]
        assert len(found) == len(set(found)), found
        return set(found)

    @property
    def documents(self) -> dict[str, bytes]:
        """Retrieved documents by uniqueId."""
        found = {}
        for response in self.body.iterfind(f"{{{XDSB}}}DocumentResponse"):
            href = response.find(f"{{{XDSB}}}Document/{{{XOP}}}Include").get("href")
            found[response.findtext(f"{{{XDSB}}}DocumentUniqueId")] = self.parts[href.removeprefix("cid:")]
        return found


def slot_of(element: Any, name: str) -> list[str]:
    """Values of a slot."""
    return [
        v.text or ""
        for s in element.iterfind(f"{{{RIM}}}Slot")
        if s.get("name") == name
        for v in s.iter(f"{{{RIM}}}Value")
    ]


def identifier_of(element: Any, name: str) -> str:
    """Value of an external identifier."""
    scheme = IDENTIFIERS[name][0]
    return next(
        i.get("value") for i in element.iterfind(f"{{{RIM}}}ExternalIdentifier")
        if i.get("identificationScheme") == scheme
    )  # fmt: skip


def status_of(element: Any) -> str:
    return str(element.get("status").removeprefix(STATUS))


def quoted(*values: str) -> str:
    """Values of a stored query, as one list."""
    return "(" + ",".join("'" + v.replace("'", "''") + "'" for v in values) + ")"


def stored_query(name: str, returns: str = "LeafClass", **parameters: str | Sequence[str]) -> str:
    """``query:AdhocQueryRequest``; a parameter given as a list of texts becomes several slots (AND)."""
    slots = []
    for parameter, value in parameters.items():
        for text in [value] if isinstance(value, str) else value:
            slots.append(slot(f"${parameter}", text))
    return (
        f'<query:AdhocQueryRequest xmlns:query="{QUERY}" xmlns:rim="{RIM}">'
        f'<query:ResponseOption returnComposedObjects="true" returnType="{returns}"/>'
        f'<rim:AdhocQuery id="urn:uuid:{QUERIES.get(name, name)}">{"".join(slots)}</rim:AdhocQuery>'
        "</query:AdhocQueryRequest>"
    )


def retrieval(*items: tuple[str, str], home: str = "") -> str:
    """``xdsb:RetrieveDocumentSetRequest`` for (repositoryUniqueId, uniqueId)."""
    community = f"<x:HomeCommunityId>{home}</x:HomeCommunityId>" if home else ""
    inner = "".join(
        f"<x:DocumentRequest>{community}<x:RepositoryUniqueId>{r}</x:RepositoryUniqueId>"
        f"<x:DocumentUniqueId>{u}</x:DocumentUniqueId></x:DocumentRequest>"
        for r, u in items
    )
    return f'<x:RetrieveDocumentSetRequest xmlns:x="{XDSB}">{inner}</x:RetrieveDocumentSetRequest>'


# the node as its peers see it ------------------------------------------------------------------------------------


class Node:
    """Talks to a running node."""

    def __init__(self, endpoints: Mapping[str, str], codes: Codes) -> None:
        self.endpoints = endpoints
        self.codes = codes
        self.repository = endpoints["repository_uid"]
        self.home = f"urn:oid:{endpoints['home_community_id']}"
        self.http = httpx.Client(timeout=60)

    # metadata

    def entry(self, patient: str, **changes: Any) -> Entry:
        return Entry(self.codes, patient, **{"repository": self.repository, **changes})

    def folder(self, patient: str, **changes: Any) -> Folder:
        return Folder(self.codes, patient, **changes)

    def submission(
        self,
        patient: str,
        *entries: Entry,
        folders: Sequence[Folder] = (),
        associations: Sequence[str] = (),
        **more: Any,
    ) -> Submission:
        return Submission(self.codes, patient, entries, folders, associations, **more)

    # messages

    def post(self, key: str, content: Any, content_type: str, **headers: str) -> Answer:
        """Bytes as they are; the answer must be SOAP whatever they were."""
        response = self.http.post(
            self.endpoints[key], content=content, headers={"Content-Type": content_type, **headers}
        )
        return Answer(response.status_code, response.headers, response.content)

    def soap(self, key: str, body: str, *, action: str = "", **more: Any) -> Answer:
        action = action or ACTIONS[key]
        return self.post(
            key, envelope(action, body, **more).encode(), f'application/soap+xml; charset=UTF-8; action="{action}"'
        )

    def mtom(
        self, key: str, body: str, parts: Iterable[tuple[str, bytes]] = (), *, action: str = "", **more: Any
    ) -> Answer:
        action = action or ACTIONS[key]
        return self.post(key, package(envelope(action, body, **more), parts), package_type(action))

    def register(self, submission: Submission) -> Answer:
        """ITI-42; ITI-61 for on-demand entries."""
        on_demand = submission.entries and all(e.object_type == ON_DEMAND for e in submission.entries)
        return self.soap("register", submission.request(), action=REGISTER_ON_DEMAND_ACTION if on_demand else "")

    def registered(self, submission: Submission) -> Submission:
        """ITI-42 that must succeed."""
        answer = self.register(submission)
        assert answer.status == "Success", answer.errors or answer.fault
        return submission

    def provide(self, submission: Submission, key: str = "repository") -> Answer:
        """ITI-41 with the contents of the entries, to the repository or the recipient (``xdr``)."""
        names = {e.id: f"part{i}@peer" for i, e in enumerate(submission.entries)}
        body = submission.provided("".join(include(e, name) for e, name in names.items()))
        return self.mtom(key, body, [(names[e.id], e.content) for e in submission.entries])

    def provided(self, submission: Submission) -> Submission:
        """ITI-41 that must succeed."""
        answer = self.provide(submission)
        assert answer.status == "Success", answer.errors or answer.fault
        return submission

    def retrieve(self, *unique_ids: str, repository: str = "", home: str = "") -> Answer:
        """ITI-43."""
        items = [(repository or self.repository, u) for u in unique_ids]
        return self.mtom("retrieve", retrieval(*items, home=home))

    def query(self, name: str, returns: str = "LeafClass", **parameters: str | Sequence[str]) -> Answer:
        """ITI-18."""
        return self.soap("registry", stored_query(name, returns, **parameters))

    def query_of_several(self, name: str, returns: str = "LeafClass", **parameters: str | Sequence[str]) -> Answer:
        """ITI-51."""
        return self.soap("registry", stored_query(name, returns, **parameters), action=MULTI_PATIENT_ACTION)

    def found(self, patient: str, status: str = APPROVED, returns: str = "LeafClass", **more: Any) -> Answer:
        """FindDocuments that must succeed; parameters without XDSDocumentEntry."""
        parameters = {f"XDSDocumentEntry{k}": v for k, v in more.items()}
        answer = self.query(
            "FindDocuments",
            returns,
            XDSDocumentEntryPatientId=quoted(patient)[1:-1],
            XDSDocumentEntryStatus=quoted(status),
            **parameters,
        )
        assert answer.status == "Success", answer.errors or answer.fault
        return answer

    def unique_ids(self, patient: str, status: str = APPROVED, **more: Any) -> list[str]:
        """uniqueIds of the documents found, sorted."""
        return sorted(identifier_of(e, "entryUnique") for e in self.found(patient, status, **more).entries)

    # patients

    def feed(self, event: str, patient: str, merged: str = "") -> str:
        """One ADT message; MSA-1 of its acknowledgement."""
        return feed(self.endpoints["mllp"], event, patient, merged)

    def patient(self) -> str:
        """A fresh patient of the affinity domain, announced."""
        cx = f"{number()}^^^&{self.endpoints['assigning_authority']}&ISO"
        assert self.feed("A04", cx) == "AA"
        return cx

    # what stands in its database, which no peer sees

    @property
    def dsn(self) -> str:
        from obieg.ops.postgres import Server

        return Server(Path(self.endpoints["settings"]).parent / "postgres").dsn

    def rows(self, query: str, *parameters: Any) -> list[Any]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    # The tables that a submission writes to.
    _TABLES = (
        "document_entry", "submission_set", "folder", "association", "object_locator", "unique_id_locator",
        "stored_document",
    )  # fmt: skip

    def forget(self) -> None:
        """Takes all submissions out of its database; patients stay."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(f"TRUNCATE {', '.join(self._TABLES)}".encode())

    def stored(self) -> tuple[int, ...]:
        """How many rows each of these tables has."""
        query = ", ".join(f"(SELECT count(*) FROM {t})" for t in self._TABLES)
        return tuple(self.rows(f"SELECT {query}")[0])

    def audits(self, since: int = 0) -> list[tuple[int, str, int, str]]:
        """(number, transaction, outcome, message) of audit records after number ``since``."""
        return self.rows(
            "SELECT audit_id, transaction, outcome, message FROM audit_event WHERE audit_id > %s ORDER BY 1", since
        )

    def last_audit(self) -> int:
        return int(self.rows("SELECT coalesce(max(audit_id), 0) FROM audit_event")[0][0])

    # its processes

    def workers(self) -> list[int]:
        """Process ids of the worker processes."""
        supervisor = int(self.endpoints["pid"])
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        return [
            int(pid) for pid in children if b"obieg.ops.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]  # fmt: skip

    def memory(self, *, peak: bool = True) -> dict[int, int]:
        """Bytes of memory of each worker: the highest since :meth:`forget_peak`, or those of now."""
        found = {}
        for pid in self.workers():
            text = Path(f"/proc/{pid}/status").read_text()
            match = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", text)
            assert match is not None
            found[pid] = int(match[1]) * 1024
        return found

    def forget_peak(self) -> bool:
        """Begins a new measurement of the peak; False where the system does not let us."""
        for pid in self.workers():
            try:
                Path(f"/proc/{pid}/clear_refs").write_text("5")
            except OSError:
                return False
        return True

    def close(self) -> None:
        self.http.close()


def feed(address: str, event: str, patient: str, merged: str = "") -> str:
    """One ADT message over MLLP; MSA-1 of its acknowledgement."""
    structure = "ADT_A39" if event == "A40" else "ADT_A01"
    message = (
        f"MSH|^~\\&|PEER|SZPITAL|OBIEG|REGION|20240101||ADT^{event}^{structure}|{uuid.uuid4().hex[:20]}|P|2.3.1\r"
        f"EVN|{event}|20240101\rPID|||{patient}||KOWALSKA^ANNA||19800101|F\r"
    )
    if merged:
        message += f"MRG|{merged}\r"
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"\x0b" + message.encode() + b"\x1c\r")
        data = b""
        while not data.endswith(b"\x1c\r"):
            piece = connection.recv(65536)
            assert piece, data
            data += piece
    match = re.search(r"\rMSA\|(\w\w)", data.decode())
    assert match is not None, data
    return match[1]


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """The first true value of ``condition``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return value


def read_ready(path: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        endpoints: dict[str, str] = json.loads(path.read_text())
        return endpoints
    return {}


def free_environment() -> dict[str, str]:
    """The environment without settings of a node."""
    return {k: v for k, v in os.environ.items() if not k.startswith("OBIEG_")}


MakeNode = Callable[..., Node]  # the fixture make_node
