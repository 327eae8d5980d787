"""The node that all hostile messages are sent to, what a peer may say to it, and how what it answers is summed up.

A case is a name, a *twin* (a message that the node takes), one change that makes it hostile, and what must happen, as a
regular expression over the summary of the answer. Every twin is sent unchanged as well, so that a node that refuses
everything passes nothing.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "node"))

import peer
import psycopg
from peer import ACTIONS, Node

TRANSACTIONS = Path(__file__).resolve().parents[1] / "transactions"
SOAP_TYPE = "application/soap+xml; charset=UTF-8"
# A refusal is short, and shows nothing of the inside of the node.
LONGEST_REFUSAL = 64 * 1024
LEAKS = re.compile(
    rb"Traceback|File \"|/site-packages|psycopg|obieg/src|root:[x*]:|pg_catalog|lxml\.etree|/proc/self|asyncio\."
)
QUIET_TABLES = {
    "audit_event",
    "audit_patient",
    "audit_seal",
    "schema_migration",
    "schema_version",
    "leader",
    "search_page",
    "patient_search",
}


@dataclass(frozen=True)
class Request:
    """One HTTP request, headers as they are sent."""

    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"

    @property
    def text(self) -> str:
        return self.body.decode()

    def header(self, name: str) -> str:
        return next(v for n, v in self.headers if n.lower() == name.lower())


Change = Callable[[Request], Request]


@dataclass(frozen=True)
class Case:
    """``expect``: what the summary of the answer must match from its beginning."""

    name: str
    twin: str
    change: Change
    expect: str


def table(twin: str, rows: Mapping[str, tuple[Change, str]]) -> list[Case]:
    return [Case(name, twin, change, expect) for name, (change, expect) in rows.items()]


# changes ---------------------------------------------------------------------------------------------------------


def sub(old: str, new: str, count: int = 1) -> Change:
    """Other text in place of some that must be there."""

    def change(request: Request) -> Request:
        assert old in request.text, (old, request.text[:3000])
        return replace(request, body=request.text.replace(old, new, count).encode("utf-8", "surrogatepass"))

    return change


def resub(pattern: str, new: str, count: int = 1) -> Change:
    def change(request: Request) -> Request:
        found, done = re.subn(pattern, lambda _: new, request.text, count=count)
        assert done, (pattern, request.text[:3000])
        return replace(request, body=found.encode("utf-8", "surrogatepass"))

    return change


def raw(change: Callable[[bytes], bytes]) -> Change:
    return lambda request: replace(request, body=change(request.body))


def before(text: str | bytes) -> Change:
    return raw(lambda b: (text.encode() if isinstance(text, str) else text) + b)


def after(text: str | bytes) -> Change:
    return raw(lambda b: b + (text.encode() if isinstance(text, str) else text))


def encoded(codec: str, declared: str = "", mark: bytes = b"") -> Change:
    def change(request: Request) -> Request:
        text = f'<?xml version="1.0" encoding="{declared}"?>' * bool(declared) + request.text
        return replace(request, body=mark + text.encode(codec))

    return change


def header(name: str, value: str) -> Change:
    """One header with another value, or one more."""

    def change(request: Request) -> Request:
        kept = tuple((n, v) for n, v in request.headers if n.lower() != name.lower())
        return replace(request, headers=(*kept, (name, value)))

    return change


def more(*headers: tuple[str, str]) -> Change:
    """Headers besides those that stand there, be it twice."""
    return lambda request: replace(request, headers=(*request.headers, *headers))


def without(name: str) -> Change:
    return lambda r: replace(r, headers=tuple((n, v) for n, v in r.headers if n.lower() != name.lower()))


def path(text: str) -> Change:
    return lambda request: replace(request, path=text)


def add_path(text: str) -> Change:
    return lambda request: replace(request, path=request.path + text)


def method(name: str) -> Change:
    return lambda request: replace(request, method=name)


def each(*changes: Change) -> Change:
    def change(request: Request) -> Request:
        for one in changes:
            request = one(request)
        return request

    return change


# answers ---------------------------------------------------------------------------------------------------------


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def summary(self) -> str:
        """Status, then fault code and subcode, or status, codes and how many were found."""
        media = self.headers.get("content-type", "")
        if "soap" in media or "multipart/related" in media:
            return f"{self.status} {self._soap()}".strip()
        if "json" in media:
            return f"{self.status} {self._fhir()}".strip()
        return f"{self.status}"

    def _soap(self) -> str:
        text = self.body.decode("utf-8", "replace")
        if "<s:Fault>" in text:
            code, *rest = re.findall(r"<s:Value>([^<]*)", text)
            return " ".join([code.removeprefix("s:"), *rest])
        status = re.search(r"ResponseStatusType:(\w+)", text)
        if status:
            codes = sorted(set(re.findall(r'errorCode="(\w+)"', text)))
            found = len(re.findall(r"<(?:\w+:)?(?:ExtrinsicObject|RegistryPackage|ObjectRef|DocumentResponse)\b", text))
            return " ".join([status[1], ",".join(codes), f"found={found}"]).replace("  ", " ")
        acknowledged = re.search(r"typeCode code=\"(\w\w)\"", text)
        found = len(re.findall(r"<(?:\w+:)?subject1\b|<(?:\w+:)?registrationEvent\b", text))
        return f"{acknowledged[1] if acknowledged else '?'} found={found}"

    def _fhir(self) -> str:
        try:
            body = json.loads(self.body)
        except ValueError:
            return "broken JSON"
        kind = body.get("resourceType")
        if kind == "OperationOutcome":
            return ",".join(dict.fromkeys(i["code"] for i in body["issue"]))
        if kind == "Bundle":
            return f"Bundle found={sum(e.get('search', {}).get('mode') != 'outcome' for e in body.get('entry', ()))}"
        return str(kind)

    def check(self) -> None:
        """Whatever was asked, nothing of the node's inside is shown."""
        assert self.status != 500, (self.status, self.body[:1000])
        assert not (found := LEAKS.search(self.body)), (found, self.body[:2000])


def connect(url: str, timeout: float = 30) -> socket.socket:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout)


@dataclass
class Field:
    """A node with something to lose."""

    node: Node
    patient: str = ""
    other: str = ""  # another patient
    document: str = ""  # uniqueId of a document of the patient
    entry: str = ""  # its entryUUID
    other_entry: str = ""  # of a document of the other patient
    folder: str = ""  # of the other patient
    reference: str = ""  # DocumentReference of the document, its logical id
    binary: str = ""  # address of its content, below the base
    _connection: Any = field(default=None, repr=False)

    @property
    def base(self) -> str:
        return self.node.endpoints["base_url"].rstrip("/")

    @property
    def authority(self) -> str:
        return self.node.endpoints["assigning_authority"]

    @property
    def number(self) -> str:
        """The patient's number."""
        return self.patient.partition("^")[0]

    def send(self, request: Request, timeout: float = 30) -> Reply:
        connection = http.client.HTTPConnection(*self.base.removeprefix("http://").split(":"), timeout=timeout)
        try:
            connection.putrequest(request.method, request.path, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value.encode("latin-1"))
            if request.body or request.method in ("POST", "PUT"):
                connection.putheader("Content-Length", str(len(request.body)))
            with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before all of it has come
                connection.endheaders(request.body or None)
            answer = connection.getresponse()
            body = answer.read()
            return Reply(answer.status, {n.lower(): v for n, v in answer.getheaders()}, body)
        finally:
            connection.close()

    def raw(self, data: bytes, timeout: float = 10) -> bytes:
        """Everything that comes back until the node ends the connection, or is silent for as long as is waited."""
        with connect(self.base, timeout) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            found = b""
            with suppress(TimeoutError, ConnectionResetError):
                while piece := connection.recv(65536):
                    found += piece
            return found

    def mllp(self, data: bytes, timeout: float = 10) -> bytes:
        """What comes back on one MLLP connection to which these bytes were sent."""
        host, _, port = self.node.endpoints["mllp"].rpartition(":")
        with socket.create_connection((host, int(port)), timeout) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            found = b""
            with suppress(TimeoutError, ConnectionResetError):
                while piece := connection.recv(65536):
                    found += piece
            return found

    def kept(self) -> dict[str, int]:
        """How many rows each table has, without those that any question leaves its traces in."""
        if self._connection is None:
            self._connection = psycopg.connect(self.node.dsn, autocommit=True)
            found = self._connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            names = sorted(t for (t,) in found if t not in QUIET_TABLES)
            self._counting = "SELECT " + ", ".join(f"(SELECT count(*) FROM {t})" for t in names)
            self._names = names
        row = self._connection.execute(self._counting).fetchone()
        return dict(zip(self._names, row, strict=True))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def prepared(node: Node) -> Field:
    """``node`` with documents of two patients, about which the twins ask."""
    field = Field(node)
    field.patient, field.other = node.patient(), node.patient()
    entry = node.entry(field.patient)
    node.provided(node.submission(field.patient, entry))
    found = node.found(field.patient)
    field.document, field.entry = entry.unique_id, found.entries[0].get("id")
    folder = node.folder(field.other)
    node.registered(node.submission(field.other, node.entry(field.other), folders=[folder]))
    field.other_entry = node.found(field.other).entries[0].get("id")
    field.folder = folder.id
    address = f"/fhir/DocumentReference?patient=Patient/{field.number}"
    resource = json.loads(field.send(Request(address, b"", JSON[1:], "GET")).body)["entry"][0]["resource"]
    field.reference = resource["id"]
    field.binary = resource["content"][0]["attachment"]["url"].removeprefix(field.base)
    return field


# twins -----------------------------------------------------------------------------------------------------------


def _soap(f: Field, key: str, body: str, action: str = "") -> Request:
    text = peer.envelope(action or ACTIONS[key], body)
    return Request(f"/services/{key}", text.encode(), (("Content-Type", SOAP_TYPE),))


def _mtom(f: Field, key: str, body: str, parts: Sequence[tuple[str, bytes]] = ()) -> Request:
    data = peer.package(peer.envelope(ACTIONS[key], body), parts)
    return Request(f"/services/{key}", data, (("Content-Type", peer.package_type()),))


def register(f: Field) -> Request:
    patient = f.patient
    return _soap(f, "register", f.node.submission(patient, f.node.entry(patient)).request())


def register_folder(f: Field) -> Request:
    folder = f.node.folder(f.patient)
    entry = f.node.entry(f.patient)
    link = peer.association("HasMember", folder.id, entry.id)
    submission = f.node.submission(f.patient, entry, folders=[folder], associations=[link])
    return _soap(f, "register", submission.request())


def replacement(f: Field) -> Request:
    """Replaces a document registered for this alone."""
    old = f.node.registered(f.node.submission(f.patient, f.node.entry(f.patient))).entries[0]
    new = f.node.entry(f.patient)
    link = peer.association("RPLC", new.id, old.id)
    return _soap(f, "register", f.node.submission(f.patient, new, associations=[link]).request())


def query(f: Field) -> Request:
    return _soap(
        f,
        "registry",
        peer.stored_query(
            "FindDocuments",
            XDSDocumentEntryPatientId=f"'{f.patient}'",
            XDSDocumentEntryStatus=peer.quoted(peer.APPROVED),
        ),
    )


def get_documents(f: Field) -> Request:
    return _soap(f, "registry", peer.stored_query("GetDocuments", XDSDocumentEntryEntryUUID=peer.quoted(f.entry)))


def provide(f: Field) -> Request:
    entry = f.node.entry(f.patient)
    body = f.node.submission(f.patient, entry).provided(peer.include(entry.id, "part1@peer"))
    return _mtom(f, "repository", body, [("part1@peer", entry.content)])


def retrieve(f: Field) -> Request:
    return _mtom(f, "retrieve", peer.retrieval((f.node.repository, f.document)))


def _golden(name: str) -> str:
    return (TRANSACTIONS / name).read_text()


def feed_v3(f: Field) -> Request:
    text = _golden("iti44/request__valid__added.xml").replace('extension="17"', f'extension="{peer.number()}"')
    text = text.replace(
        'root="2.16.840.1.113883.3.4424.1.1.616" extension="70022812345"', 'root="1.2.616.9.9" extension="5"'
    )
    return _soap(f, "pix_v3", text, "urn:hl7-org:v3:PRPA_IN201301UV02")


def pdq_v3(f: Field) -> Request:
    text = _golden("iti47/request__valid__name_and_birth_date.xml").replace("Kowal*", "Kowalska")
    text = re.sub(r"<otherIDsScopingOrganization>.*?</otherIDsScopingOrganization>", "", text, flags=re.DOTALL)
    return _soap(f, "pdq_v3", text, "urn:hl7-org:v3:PRPA_IN201305UV02")


JSON = (("Content-Type", "application/fhir+json"), ("Accept", "application/fhir+json"))
XML = (("Content-Type", "application/fhir+xml"), ("Accept", "application/fhir+json"))


def search(f: Field) -> Request:
    return Request(f"/fhir/DocumentReference?patient=Patient/{f.number}", b"", JSON[1:], "GET")


def strict_search(f: Field) -> Request:
    return replace(search(f), headers=(*JSON[1:], ("Prefer", "handling=strict")))


def people(f: Field) -> Request:
    return Request(
        "/fhir/Patient?family=Kowalska&birthdate=1980-01-01", b"", (*JSON[1:], ("Prefer", "handling=strict")), "GET"
    )


def organisations(f: Field) -> Request:
    return Request("/fhir/Organization?name=szpital", b"", (*JSON[1:], ("Prefer", "handling=strict")), "GET")


def read_document(f: Field) -> Request:
    return Request(f"/fhir/DocumentReference/{f.reference}", b"", JSON[1:], "GET")


def read_binary(f: Field) -> Request:
    return Request(f.binary, b"", (("Accept", "*/*"),), "GET")


def read_patient(f: Field) -> Request:
    return Request(f"/fhir/Patient/{f.number}", b"", JSON[1:], "GET")


def feed(f: Field) -> Request:
    number = peer.number()
    resource = {
        "resourceType": "Patient",
        "identifier": [{"system": f"urn:oid:{f.authority}", "value": number}],
        "name": [{"family": "Feed", "given": ["Jan"]}],
        "birthDate": "1980-01-01",
    }
    return Request(
        f"/fhir/Patient?identifier=urn:oid:{f.authority}%7C{number}",
        json.dumps(resource, separators=(",", ":")).encode(),
        JSON,
        "PUT",
    )


def feed_xml(f: Field) -> Request:
    number = peer.number()
    text = (
        f'<Patient xmlns="http://hl7.org/fhir"><identifier><system value="urn:oid:{f.authority}"/>'
        f'<value value="{number}"/></identifier><name><family value="Feed"/></name></Patient>'
    )
    return Request(f"/fhir/Patient?identifier=urn:oid:{f.authority}%7C{number}", text.encode(), XML, "PUT")


def _http_golden(name: str) -> tuple[str, str]:
    head, _, body = (TRANSACTIONS / name).read_text().partition("\n\n")
    return head.split()[1], body


def subscription(f: Field) -> Request:
    address, body = _http_golden("iti110/request__valid__documents_of_a_patient.http")
    return Request(address, body.replace("4711", f.number).encode(), JSON)


def publish(f: Field) -> Request:
    """ITI-105 with its content within."""
    codes = f.node.codes
    content = b"tresc dokumentu"
    address, body = _http_golden("iti105/request__valid__publish.http")
    resource = json.loads(body)
    resource["masterIdentifier"]["value"] = f"urn:oid:{peer.oid()}"
    resource["subject"] = {"reference": f"Patient/{f.number}"}

    def coded(attribute: str) -> dict[str, Any]:
        code, scheme = codes(attribute)
        return {"system": SYSTEMS.get(scheme, f"urn:oid:{scheme}"), "code": code}

    resource["type"] = {"coding": [coded("typeCode")]}
    resource["category"] = [{"coding": [coded("classCode")]}]
    resource["securityLabel"] = [{"coding": [coded("confidentialityCode")]}]
    resource["content"][0]["format"] = coded("formatCode")
    resource["context"]["facilityType"] = {"coding": [coded("healthcareFacilityTypeCode")]}
    resource["context"]["practiceSetting"] = {"coding": [coded("practiceSettingCode")]}
    assert content
    return Request(address, json.dumps(resource, separators=(",", ":")).encode(), JSON)


SYSTEMS = {
    "2.16.840.1.113883.6.1": "http://loinc.org",
    "2.16.840.1.113883.6.96": "http://snomed.info/sct",
    "2.16.840.1.113883.5.25": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
}


def match(f: Field) -> Request:
    patient = {
        "resourceType": "Patient",
        "name": [{"family": "Kowalska", "given": ["Anna"]}],
        "birthDate": "1980-01-01",
    }
    body = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": patient}]}
    return Request("/fhir/Patient/$match", json.dumps(body, separators=(",", ":")).encode(), JSON)


def pix(f: Field) -> Request:
    return Request(f"/fhir/Patient/$ihe-pix?sourceIdentifier=urn:oid:{f.authority}%7C{f.number}", b"", JSON[1:], "GET")


def validate(f: Field) -> Request:
    body = {"resourceType": "Patient", "name": [{"family": "Feed"}]}
    return Request("/fhir/Patient/$validate", json.dumps(body, separators=(",", ":")).encode(), JSON)


def metadata(f: Field) -> Request:
    return Request("/fhir/metadata", b"", JSON[1:], "GET")


# Twin -> how it is made, and what happens to it unchanged.
TWINS: dict[str, tuple[Callable[[Field], Request], str]] = {
    "register": (register, "200 Success"),
    "register_folder": (register_folder, "200 Success"),
    "replacement": (replacement, "200 Success"),
    "query": (query, "200 Success found=[1-9]"),
    "get_documents": (get_documents, "200 Success found=1"),
    "provide": (provide, "200 Success"),
    "retrieve": (retrieve, "200 Success found=1"),
    "feed_v3": (feed_v3, "200 CA"),
    "pdq_v3": (pdq_v3, "200 AA found=[1-9]"),
    "search": (search, "200 Bundle found=[1-9]"),
    "strict_search": (strict_search, "200 Bundle found=[1-9]"),
    "people": (people, "200 Bundle found=[1-9]"),
    "organisations": (organisations, "200 Bundle found=0"),
    "read_document": (read_document, "200 DocumentReference"),
    "read_binary": (read_binary, "200"),
    "read_patient": (read_patient, "200 Patient"),
    "feed": (feed, "201"),
    "feed_xml": (feed_xml, "201"),
    "subscription": (subscription, "201 Subscription"),
    "publish": (publish, "201 DocumentReference"),
    "match": (match, "200 Bundle"),
    "pix": (pix, "200 Parameters"),
    "validate": (validate, "200"),
    "metadata": (metadata, "200 CapabilityStatement"),
}


def unique(cases: Iterable[Case]) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for case in cases:
        assert case.name not in found, case.name
        found[case.name] = case
    return found
