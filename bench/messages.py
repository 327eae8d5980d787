"""The submissions, requests and documents that the benchmarks send: Polish metadata, sizes that never change.

What differs from one request to the next stands in a message as a mark of fixed width, which the load generator, the
pgbench scripts and the loader each replace in their own way.
"""

from __future__ import annotations

import base64
import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from obieg.codes.load import toml
from obieg.domain.affinity_domain import polish
from obieg.domain.documents import Association, AssociationType, Author, Code, DocumentEntry, Submission, SubmissionSet
from obieg.mapping import fhir_codes
from obieg.mapping.ebrim import ENTRY_TYPES, RIM, IdSource
from obieg.mapping.ebrs import QUERY, XDSB, write_submit_objects
from obieg.protocol import SoapBinding
from obieg.transactions import TRANSACTIONS
from obieg.wire import fhir_json, mime, soap

PATIENT_MARK = "7170717"  # affinity-domain id of a patient, 7 digits
NUMBER_MARK = "987654321012345678"  # number of a document, 18 digits
ENTRY_MARK = "0a1b2c3d-0000-4000-8000-00000000000e"  # entryUUID of a document, without urn:uuid:
ROOT = "2.16.840.1.113883.3.4424.99"  # of the uniqueIds made here
ITI42_SIZE_BYTES = 9_216
DOCUMENT_SIZE_BYTES = 100_000

_BINDINGS = {  # what the registry and the repository answer
    t.id: t.binding
    for t in TRANSACTIONS
    if isinstance(t.binding, SoapBinding) and t.actor in ("document_registry", "document_repository")
}
_FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
_BOUNDARY = "obieg-bench-boundary"
_SURNAMES = ("Kowalska", "Wiśniewski", "Wójcik", "Kamińska", "Lewandowski", "Zielińska", "Szymański", "Woźniak")
_GIVEN = ("Anna", "Piotr", "Krzysztof", "Małgorzata", "Andrzej", "Agnieszka", "Tomasz", "Elżbieta")
_HOSPITALS = ("Szpital Powiatowy w Chrzanowie", "Szpital Wojewódzki w Tarnowie", "Przychodnia Rejonowa w Skawinie")


@dataclass(frozen=True)
class Identity:
    """Who the node under test is."""

    assigning_authority: str
    repository_unique_id: str


@dataclass(frozen=True)
class Message:
    """One HTTP request with marks in it."""

    path: str
    content_type: str
    body: bytes
    success: str = "ResponseStatusType:Success"  # what every right answer holds

    @property
    def method(self) -> str:
        return "POST" if self.body else "GET"

    def http(self) -> bytes:
        """The request as it goes over the wire; marks keep their width, so the length holds for every filling."""
        if not self.body:
            return f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body

    def filled(self, patient: int, number: int, entry_uuid: str = "") -> tuple[str, bytes]:
        """Path and body of one request."""
        path, body = self.path, self.body
        for mark, value in ((PATIENT_MARK, f"{patient:07}"), (NUMBER_MARK, f"{number:018}"), (ENTRY_MARK, entry_uuid)):
            path, body = path.replace(mark, value), body.replace(mark.encode(), value.encode())
        return path, body


def document_unique_id(number: str = NUMBER_MARK) -> str:
    return f"{ROOT}.1.{number}"


def set_unique_id(number: str = NUMBER_MARK) -> str:
    return f"{ROOT}.2.{number}"


def submission(identity: Identity, variant: int = 0, *, comments: str = "", provided: bool = False) -> Submission:
    """One entry, its set, and the association between them. ``provided``: as a source sends it, without a hash."""
    codes = polish()

    def code(attribute: str) -> Code:
        listed = codes.codes(attribute)
        chosen = listed[variant * 7 % len(listed)]
        return Code(chosen.code, chosen.scheme)

    surname, given = _SURNAMES[variant % 8], _GIVEN[variant * 3 % 8]
    hospital = f"{_HOSPITALS[variant % 3]}^^^^^&2.16.840.1.113883.3.4424.2.3.1&ISO^^^^0000000{variant:05}"
    doctor = f"{1000000 + variant}^{surname}^{given}^^^lek.^^^&2.16.840.1.113883.3.4424.1.6.2&ISO"
    author = Author((doctor,), (hospital,))
    patient = f"{PATIENT_MARK}^^^&{identity.assigning_authority}&ISO"
    day = f"2026{1 + variant % 12:02}{1 + variant % 28:02}"
    entry = DocumentEntry(
        "document",
        unique_id=document_unique_id(),
        patient_id=patient,
        mime_type="text/xml",
        class_code=code("class_code"),
        type_code=code("type_code"),
        format_code=Code("urn:extPL:pl-cda", "Kody formatów P1"),
        healthcare_facility_type_code=code("healthcare_facility_type_code"),
        practice_setting_code=code("practice_setting_code"),
        confidentiality_code=(Code("N", "2.16.840.1.113883.5.25"),),
        author=(author,),
        creation_time=f"{day}{variant % 24:02}1503",
        service_start_time=f"{day}0730",
        service_stop_time=f"{day}0815",
        language_code="pl-PL",
        legal_authenticator=doctor,
        source_patient_id=f"HIS{variant:06}^^^&2.16.840.1.113883.3.4424.2.7.{1 + variant}.17.1&ISO",
        source_patient_info=(
            f"PID-5|{surname}^{given}",
            f"PID-7|19{50 + variant % 50}0214",
            f"PID-8|{'FM'[variant % 2]}",
        ),
        repository_unique_id=None if provided else identity.repository_unique_id,
        size=None if provided else str(DOCUMENT_SIZE_BYTES),
        hash=None if provided else f"{variant:04x}" + "5a" * 18,
        title=(("pl-PL", f"Karta informacyjna z leczenia szpitalnego, oddział {variant}"),),
        comments=(("pl-PL", comments),) if comments else (),
    )
    sset = SubmissionSet(
        "set",
        unique_id=set_unique_id(),
        source_id=f"{ROOT}.3",
        patient_id=patient,
        submission_time=f"{day}{variant % 24:02}1604",
        content_type_code=Code("REGISTER", "Typ wysyłki"),
    )
    member = Association("member", AssociationType.HAS_MEMBER, "set", "document", submission_set_status="Original")
    return Submission(sset, (entry,), (), (member,))


def _new_id() -> IdSource:
    return IdSource("0123abcd-89ab-4cde-8f01-23456789abcd")


def _soap(transaction: str, body: bytes) -> Message:
    binding = _BINDINGS[transaction]
    envelope = soap.write_envelope(
        binding.action,
        body,
        message_id="urn:uuid:0f5a6bb2-3c7e-4d0a-9d5c-52b1c7c5a1e4",
        to="http://registry.example.org",
    )
    content_type = f'{soap.SOAP_TYPE}; charset=UTF-8; action="{binding.action}"'
    return Message(f"/services/{binding.endpoint}", content_type, envelope)


def _package(root: Message, documents: tuple[tuple[str, bytes], ...] = ()) -> Message:
    """``root`` as an MTOM package."""
    root_type = f'{soap.XOP_TYPE}; charset=UTF-8; type="{soap.SOAP_TYPE}"'
    parts = [mime.part_head(_BOUNDARY, root_type, "root@bench")[2:], root.body]
    for name, data in documents:
        parts += (mime.part_head(_BOUNDARY, "text/xml", name), data)
    parts.append(mime.closing(_BOUNDARY))
    content_type = (
        f'multipart/related; type="{soap.XOP_TYPE}"; boundary="{_BOUNDARY}"; start="<root@bench>"; '
        f'start-info="{soap.SOAP_TYPE}"'
    )
    return Message(root.path, content_type, b"".join(parts))


def _register(identity: Identity, variant: int, comments: str) -> Message:
    return _soap("ITI-42", write_submit_objects(submission(identity, variant, comments=comments), _new_id()))


def register(identity: Identity, variant: int = 0) -> Message:
    """ITI-42 of 9 KB: one entry with its set and association."""
    bare = len(_register(identity, variant, " ").body) - 1
    sentence = "Stan przy wypisie dobry, zalecana kontrola w poradni. "
    missing = ITI42_SIZE_BYTES - bare
    return _register(identity, variant, (sentence * (1 + missing // len(sentence)))[: missing - 1] + ".")


def find_documents(identity: Identity, return_type: str) -> Message:
    """ITI-18 FindDocuments of a patient's approved stable documents."""
    slots = {
        "$XDSDocumentEntryPatientId": f"'{PATIENT_MARK}^^^&amp;{identity.assigning_authority}&amp;ISO'",
        "$XDSDocumentEntryStatus": "('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')",
        "$XDSDocumentEntryType": f"('{next(iter(ENTRY_TYPES.values()))}')",
    }
    inner = "".join(
        f'<rim:Slot name="{name}"><rim:ValueList><rim:Value>{value}</rim:Value></rim:ValueList></rim:Slot>'
        for name, value in slots.items()
    )
    body = (
        f'<query:AdhocQueryRequest xmlns:query="{QUERY}" xmlns:rim="{RIM}">'
        f'<query:ResponseOption returnComposedObjects="true" returnType="{return_type}"/>'
        f'<rim:AdhocQuery id="{_FIND_DOCUMENTS}">{inner}</rim:AdhocQuery></query:AdhocQueryRequest>'
    )
    return _soap("ITI-18", body.encode())


def retrieve(identity: Identity) -> Message:
    """ITI-43 of one document."""
    body = (
        f'<x:RetrieveDocumentSetRequest xmlns:x="{XDSB}"><x:DocumentRequest>'
        f"<x:RepositoryUniqueId>{identity.repository_unique_id}</x:RepositoryUniqueId>"
        f"<x:DocumentUniqueId>{document_unique_id()}</x:DocumentUniqueId>"
        f"</x:DocumentRequest></x:RetrieveDocumentSetRequest>"
    )
    return _package(_soap("ITI-43", body.encode()))


def find_document_references(_identity: Identity) -> Message:
    """ITI-67: the question of :func:`find_documents` over FHIR."""
    return Message(f"/fhir/DocumentReference?patient={PATIENT_MARK}&status=current", "", b"", '"searchset"')


def read_binary(_identity: Identity) -> Message:
    """ITI-68 of one document."""
    return Message(f"/fhir/Binary/{ENTRY_MARK}", "", b"", "</ClinicalDocument>")


def provide(identity: Identity, variant: int = 0) -> Message:
    """ITI-41 of one document of 100 KB."""
    submit = write_submit_objects(submission(identity, variant, provided=True), _new_id())
    body = (
        f'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{XDSB}">'.encode()
        + submit
        + b'<x:Document id="document">'
        + f'<xop:Include xmlns:xop="{soap.XOP}" href="cid:document@bench"/></x:Document>'.encode()
        + b"</x:ProvideAndRegisterDocumentSetRequest>"
    )
    return _package(_soap("ITI-41", body), (("document@bench", document(variant)),))


def provide_bundle(identity: Identity, variant: int = 0) -> Message:
    """ITI-65 of what :func:`provide` sends: the same metadata and document."""
    sent = submission(identity, variant, provided=True)
    [entry], sset, codes = sent.entries, sent.submission_set, polish()

    def said(attribute: str, code: Code | None) -> dict[str, Any]:
        assert code is not None
        return fhir_codes.concept(code, attribute, codes)

    def identifier(oid: str | None) -> dict[str, str]:
        return {"use": "usual", "system": "urn:ietf:rfc:3986", "value": f"urn:oid:{oid}"}

    def time(dtm: str | None) -> str:
        digits = f"{dtm}00"[:14]
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).isoformat()

    (author,), subject = entry.author, {"reference": f"Patient/{PATIENT_MARK}"}
    number, family, given = author.person[0].split("^")[:3]
    hospital = author.institution[0].split("^")
    practitioner = {
        "resourceType": "Practitioner", "id": "doctor",
        "name": [{"family": family, "given": [given], "prefix": ["lek."]}],
        "identifier": [{"system": "urn:oid:2.16.840.1.113883.3.4424.1.6.2", "value": number}],
    }  # fmt: skip
    organization = {
        "resourceType": "Organization", "id": "hospital", "name": hospital[0],
        "identifier": [{"system": "urn:oid:2.16.840.1.113883.3.4424.2.3.1", "value": hospital[-1]}],
    }  # fmt: skip
    role = {
        "resourceType": "PractitionerRole", "id": "author", "practitioner": {"reference": "#doctor"},
        "organization": {"reference": "#hospital"},
    }  # fmt: skip
    source_id, _, authority = str(entry.source_patient_id).partition("^^^&")
    surname = entry.source_patient_info[0].removeprefix("PID-5|").split("^")
    person = {
        "resourceType": "Patient", "id": "source", "name": [{"family": surname[0], "given": surname[1:]}],
        "identifier": [{"system": f"urn:oid:{authority.partition('&')[0]}", "value": source_id}],
        "gender": ("female", "male")[variant % 2], "birthDate": f"19{50 + variant % 50}-02-14",
    }  # fmt: skip
    attachment = {
        "contentType": "text/xml", "language": entry.language_code,
        "url": "urn:uuid:00000003-0000-4000-8000-000000000000",
        "title": entry.title[0][1], "creation": time(entry.creation_time),
    }  # fmt: skip
    reference = {
        "resourceType": "DocumentReference", "contained": [person, practitioner, organization, role],
        "masterIdentifier": identifier(entry.unique_id), "status": "current",
        "type": said("type_code", entry.type_code), "category": [said("class_code", entry.class_code)],
        "subject": subject, "author": [{"reference": "#author"}], "authenticator": {"reference": "#doctor"},
        "securityLabel": [said("confidentiality_code", entry.confidentiality_code[0])],
        "content": [{"attachment": attachment, "format": said("format_code", entry.format_code)["coding"][0]}],
        "context": {
            "period": {"start": time(entry.service_start_time), "end": time(entry.service_stop_time)},
            "facilityType": said("healthcare_facility_type_code", entry.healthcare_facility_type_code),
            "practiceSetting": said("practice_setting_code", entry.practice_setting_code),
            "sourcePatientInfo": {"reference": "#source"},
        },
    }  # fmt: skip
    mhd = toml("mhd.toml")
    listed = {
        "resourceType": "List", "identifier": [identifier(sset.unique_id)], "status": "current", "mode": "working",
        "extension": [
            {"url": mhd["extensions"]["designation_type"],
             "valueCodeableConcept": said("content_type_code", sset.content_type_code)},
            {"url": mhd["extensions"]["source_id"], "valueIdentifier": {"value": f"urn:oid:{sset.source_id}"}},
        ],
        "code": {"coding": [{"system": mhd["list_types"]["system"], "code": mhd["list_types"]["submission_set"]}]},
        "subject": subject, "date": time(sset.submission_time),
        "entry": [{"item": {"reference": "urn:uuid:00000002-0000-4000-8000-000000000000"}}],
    }  # fmt: skip
    data = base64.b64encode(document(variant)).decode()
    binary = {"resourceType": "Binary", "contentType": "text/xml", "data": data}
    entries = [
        {"fullUrl": f"urn:uuid:0000000{n}-0000-4000-8000-000000000000", "resource": resource,
         "request": {"method": "POST", "url": resource["resourceType"]}}
        for n, resource in enumerate((listed, reference, binary), 1)
    ]  # fmt: skip
    meta = {"profile": [toml("mhd_provide.toml")["profiles"]["comprehensive"]]}
    bundle = {"resourceType": "Bundle", "meta": meta, "type": "transaction", "entry": entries}
    return Message("/fhir", "application/fhir+json", fhir_json.write(bundle), '"transaction-response"')


def document(variant: int) -> bytes:
    """A document of exactly 100 KB that compresses as little as a signed CDA with a picture does."""
    noise = base64.b64encode(random.Random(variant).randbytes(DOCUMENT_SIZE_BYTES))
    head = f'<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"><!-- {variant:08} --><text>'
    tail = "</text></ClinicalDocument>"
    data = head.encode() + noise[: DOCUMENT_SIZE_BYTES - len(head) - len(tail)] + tail.encode()
    # No mark may stand in it by chance.
    return re.sub(NUMBER_MARK.encode(), b"0" * 18, re.sub(PATIENT_MARK.encode(), b"0000000", data))
