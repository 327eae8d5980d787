"""Every transaction leaves one audit record for each patient whom it is about, refused or not: none missing, none double."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import mhd_bundles
import peer
import pytest
import test_lifecycle as lifecycle
from lxml import etree

import hl7v3_messages as v3
from obieg.protocol import FhirBinding, LinkBinding, MllpBinding, Transaction, WadoBinding
from obieg.transactions import TRANSACTIONS

pytestmark = pytest.mark.node

FOLDER = Path(__file__).parents[1] / "transactions"
JSON = {"Content-Type": "application/fhir+json"}


def folder_of(transaction: Transaction) -> Path:
    family, _, number = transaction.id.lower().partition("-")
    return FOLDER / (f"{family}{int(number):02}" if family == "iti" else f"{family}{number}")


MESSAGES = [
    (transaction, path)
    for transaction in TRANSACTIONS
    for path in sorted(folder_of(transaction).glob("request__*"))
]  # fmt: skip


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode) -> peer.Node:
    return make_node("audited", images={"archive_url": "http://127.0.0.1:9/dicom-web", "patient_authority": "1.2.3"})


def send_golden(node: peer.Node, transaction: Transaction, path: Path) -> None:
    """A golden message over the wire of its transaction."""
    data = path.read_bytes()
    binding = transaction.binding
    if isinstance(binding, FhirBinding):
        head, _, body = data.partition(b"\n\n")
        first, *lines = head.decode().splitlines()
        method, target, _ = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        address = node.endpoints["fhir"] + target.removeprefix("/fhir")
        node.http.request(method, address, content=body.rstrip(b"\n"), headers=headers)
    elif isinstance(binding, WadoBinding):
        first, *lines = data.decode().splitlines()
        method, target, _ = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        node.http.request(method, node.endpoints["base_url"] + target, headers=headers)
    elif isinstance(binding, LinkBinding):
        head, _, body = data.partition(b"\n\n")
        method, target, _ = head.decode().splitlines()[0].split(" ")
        node.http.request(method, node.endpoints["base_url"] + target, content=body.rstrip(b"\n"))
    elif isinstance(binding, MllpBinding):
        over_mllp(node, data)
    else:
        tag = etree.QName(etree.fromstring(data))
        asked = (tag.namespace or "", tag.localname)
        operation = next((o for o in binding.operations if o.request == asked), binding)
        if binding.mtom:
            node.mtom(binding.endpoint, data.decode(), [("part@example", b"tresc dokumentu")], action=operation.action)
        else:
            over_soap(node, binding.endpoint, data.decode(), operation.action)


def over_soap(node: peer.Node, endpoint: str, body: str, action: str) -> bytes:
    media = f'application/soap+xml; charset=UTF-8; action="{action}"'
    content = peer.envelope(action, body).encode()
    return node.http.post(node.endpoints[endpoint], content=content, headers={"Content-Type": media}).content


def over_mllp(node: peer.Node, message: bytes) -> bytes:
    host, _, port = node.endpoints["mllp"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"\x0b" + message + b"\x1c\r")
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
    return answer


def records(node: peer.Node, since: int) -> list[tuple[str, int, set[str]]]:
    """(transaction, outcome, patients) of each record after number ``since``, in the order of the log."""
    rows = node.rows(
        "SELECT transaction, outcome, patient_id, array(SELECT p.patient_id FROM audit_patient p WHERE p.audit_id = "
        "e.audit_id) FROM audit_event e WHERE audit_id > %s ORDER BY audit_id",
        since,
    )
    return [(t, o, {p for p in (first, *others) if p}) for t, o, first, others in rows]


@pytest.mark.parametrize(("transaction", "path"), MESSAGES, ids=lambda v: getattr(v, "stem", getattr(v, "id", "")))
def test_every_golden_message_leaves_one_record(region: peer.Node, transaction: Transaction, path: Path) -> None:
    since = region.last_audit()
    send_golden(region, transaction, path)
    # What the outbox tells subscribers by the way has records of its own.
    found = [r for r in records(region, since) if r[0] != "ITI-112"]
    if transaction.id == "ITI-20" and "batch" in path.name:
        assert [o for _, o, _ in found] == [0, 0], "each record that is taken in is its own record"
        return
    if transaction.id == "ITI-51" and len(found) > 1:  # one for each patient
        assert len({frozenset(p) for _, _, p in found}) == len(found)
        return
    assert len(found) == 1, found
    if "__rejected__" in path.name:
        assert found[0][1] > 0, found


def test_every_transaction_is_sent_here() -> None:
    assert {t.id for t, _ in MESSAGES} == {t.id for t in TRANSACTIONS}
    for transaction in TRANSACTIONS:
        verdicts = {p.name.split("__")[1] for t, p in MESSAGES if t.id == transaction.id}
        assert verdicts == {"valid", "rejected"}, transaction.id


# whose ---------------------------------------------------------------------------------------------------------------


class Work:
    """What acts need: a person with a document, and the ways to the node."""

    def __init__(self, node: peer.Node) -> None:
        self.node = node
        self.patient = node.patient()
        self.logical = self.patient.partition("^")[0]
        self.number, self.hospital = peer.number(), peer.oid()
        self.authority = node.endpoints["assigning_authority"]
        self.base = node.endpoints["fhir"]
        self.token = f"urn:oid:{self.authority}|{self.logical}"

    def get(self, path: str, **headers: str) -> httpx.Response:
        response = self.node.http.get(f"{self.base}/{path}", headers=headers)
        assert response.status_code < 300, response.text
        return response

    def post(self, path: str, body: Any, method: str = "POST") -> httpx.Response:
        response = self.node.http.request(method, f"{self.base}/{path}", content=json.dumps(body), headers=JSON)
        assert response.status_code < 300, response.text
        return response

    def entry(self, **changes: Any) -> Any:
        return self.node.entry(self.patient, **changes)

    def document(self) -> Any:
        return self.node.provided(self.node.submission(self.patient, self.entry())).entries[0]

    def submitted(self) -> set[str]:
        """The entryUUIDs of all objects of a submission."""
        submission = self.node.provided(self.node.submission(self.patient, self.entry()))
        return lifecycle.contents(self.node, submission.id)

    def v2(self, kind: str, *segments: str, version: str = "2.5") -> None:
        head = f"MSH|^~\\&|HIS|SZPITAL|OBIEG|REGION|20261122||{kind}|{peer.number()}|P|{version}||||||UNICODE UTF-8"
        assert b"MSA|AA" in over_mllp(self.node, "\r".join((head, *segments, "")).encode())

    def pid(self) -> str:
        return f"PID|||{self.logical}^^^&{self.authority}&ISO||Wiśniewska^Anna||19700506|F"

    def v3(self, message: str, to: str) -> None:
        name = etree.QName(etree.fromstring(message)).localname
        answer = over_soap(self.node, to, message, f"{v3.NS}:{name}")
        assert b":Fault" not in answer, answer

    def soap(self, answer: peer.Answer) -> None:
        assert answer.status == "Success", answer.errors or answer.fault

    def uuid(self, entry: Any) -> str:
        """The entryUUID that the registry gave it."""
        answer = self.node.query("GetDocuments", XDSDocumentEntryUniqueId=peer.quoted(entry.unique_id))
        return str(answer.entries[0].get("id"))


# What each transaction does with one person, and whether its record is about them. "nobody": the act is about no patient.
ACTS: dict[str, tuple[Callable[[Work], Any], Callable[[Work, Any], Any]]] = {
    "FHIR-10": (lambda w: None, lambda w, _: w.post("Patient/$validate", {"resourceType": "Patient"})),
    "FHIR-11": (lambda w: None, lambda w, _: w.get(f"Patient/{w.logical}/$everything")),
    "IPS": (Work.document, lambda w, _: w.get(f"Patient/{w.logical}/$summary")),
    "ITI-8": (lambda w: None, lambda w, _: w.v2("ADT^A08^ADT_A01", "EVN||20261122", w.pid(), "PV1||O", version="2.3.1")),
    "ITI-9": (lambda w: None, lambda w, _: w.v2(
        "QBP^Q23^QBP_Q21", f"QPD|IHE PIX Query|q|{w.logical}^^^&{w.authority}&ISO", "RCP|I")),
    "ITI-18": (Work.document, lambda w, _: w.node.found(w.patient)),
    "ITI-21": (lambda w: None, lambda w, _: w.v2(
        "QBP^Q22^QBP_Q21", f"QPD|IHE PDQ Query|q|@PID.3.1^{w.logical}~@PID.3.4^&{w.authority}&ISO", "RCP|I")),
    "ITI-22": (lambda w: None, lambda w, _: w.v2(
        "QBP^ZV1^QBP_Q21", f"QPD|IHE PDVQ Query|q|@PID.3.1^{w.logical}~@PID.3.4^&{w.authority}&ISO", "RCP|I")),
    "ITI-30": (lambda w: None, lambda w, _: w.v2("ADT^A31^ADT_A05", "EVN||20261122", w.pid(), "PV1||N")),
    "ITI-41": (lambda w: None, lambda w, _: w.document()),
    "ITI-42": (lambda w: None, lambda w, _: w.node.registered(w.node.submission(w.patient, w.entry()))),
    "ITI-43": (Work.document, lambda w, e: w.soap(w.node.retrieve(e.unique_id))),
    "ITI-44": (lambda w: None, lambda w, _: w.v3(v3.feed("revise", (w.logical, w.authority)), "pix_v3")),
    "ITI-45": (lambda w: None, lambda w, _: w.v3(
        v3.pix_query(f'<value root="{w.authority}" extension="{w.logical}"/>'), "pix_v3")),
    "ITI-47": (lambda w: None, lambda w, _: w.v3(v3.candidates_query(
        ("livingSubjectId", f'<value root="{w.authority}" extension="{w.logical}"/>')), "pdq_v3")),
    "ITI-51": (Work.document, lambda w, _: w.soap(w.node.query_of_several(
        "FindDocumentsForMultiplePatients", XDSDocumentEntryPatientId=peer.quoted(w.patient),
        XDSDocumentEntryStatus=peer.quoted(peer.APPROVED)))),
    "ITI-57": (Work.document, lambda w, e: w.soap(lifecycle.Desk(w.node).state(w.patient, w.uuid(e)))),
    "ITI-62": (Work.submitted, lambda w, ids: w.soap(lifecycle.Desk(w.node).remove(*ids))),
    "ITI-65": (lambda w: None, lambda w, _: w.post("", mhd_bundles.polish(mhd_bundles.bundle(w.logical)))),
    "ITI-66": (Work.document, lambda w, _: w.get(f"List?patient={w.logical}&code=submissionset&status=current")),
    "ITI-67": (Work.document, lambda w, _: w.get(f"DocumentReference?patient={w.logical}&status=current")),
    "ITI-68": (Work.document, lambda w, e: w.get(f"Binary/{w.uuid(e).removeprefix('urn:uuid:')}")),
    "ITI-78": (lambda w: None, lambda w, _: w.get(f"Patient?identifier={w.token}")),
    "ITI-81": (lambda w: None, lambda w, _: w.get(f"AuditEvent?date=ge2000&patient={w.logical}")),
    "ITI-83": (lambda w: None, lambda w, _: w.get(f"Patient/$ihe-pix?sourceIdentifier={w.token}")),
    "ITI-108": (lambda w: None, lambda w, _: w.get(f"Consent?patient={w.logical}&status=active")),
    "ITI-104": (lambda w: None, lambda w, _: w.post(
        f"Patient?identifier={w.token}", {"resourceType": "Patient", "active": True, "name": [{"family": "Nowak"}],
        "identifier": [{"system": f"urn:oid:{w.authority}", "value": w.logical}]}, "PUT")),
}  # fmt: skip


@pytest.mark.parametrize("transaction", list(ACTS))
def test_the_record_of_an_act_is_in_the_log_of_whom_it_is_about(polish_node: peer.Node, transaction: str) -> None:
    prepare, act = ACTS[transaction]
    work = Work(polish_node)
    prepared = prepare(work)
    if "uuid" in act.__code__.co_names:  # looked up beforehand: the question has a record of its own
        known = work.uuid(prepared)
        work.uuid = lambda _entry: known  # type: ignore[method-assign]
    since = polish_node.last_audit()
    act(work, prepared)
    found = records(polish_node, since)
    expected = set() if transaction == "FHIR-10" else {work.patient}
    assert [(t, o) for t, o, _ in found] == [(transaction, 0)], found
    assert found[0][2] == expected
