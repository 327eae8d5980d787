"""Publishing over FHIR on a running node what says less: ITI-105, ITI-106, and metadata that CDA completes."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fhir_peer
import mhd_bundles
import peer
import pytest
from fhir_peer import JSON, FhirPeer
from mhd_bundles import RFC_3986, bundle
from peer import DEPRECATED, Node
from publishing import announced, attachment_of, cx, entry_of, minimal, refused, sent, simplified, taken, uuids

pytestmark = pytest.mark.node

Twist = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def fhir(mhd_node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(mhd_node) as found:
        yield found


@pytest.fixture
def patient(fhir: FhirPeer) -> str:
    return announced(fhir)


# ITI-105 ---------------------------------------------------------------------------------------------------------


def test_simplified_publish(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body = simplified(patient)
    response = sent(fhir, body, "DocumentReference")
    assert response.status_code == 201, response.text
    made = response.json()
    assert response.headers["location"] == f"{fhir.base}/DocumentReference/{made['id']}"
    attachment = made["content"][0]["attachment"]
    assert attachment["url"] == f"{fhir.base}/Binary/{made['id']}"
    assert "data" not in attachment
    assert uuids(mhd_node, fhir, patient) == {made["id"]}
    before = mhd_node.stored()
    assert sent(fhir, body, "DocumentReference").json()["id"] == made["id"]
    assert mhd_node.stored() == before
    target = {"reference": f"DocumentReference/{made['id']}"}
    newer = simplified(patient, b"nowa", relatesTo=[{"code": "replaces", "target": target}])
    assert sent(fhir, newer, "DocumentReference").status_code == 201
    assert uuids(mhd_node, fhir, patient, DEPRECATED) == {made["id"]}


def test_simplified_publish_answers_with_what_is_stored(fhir: FhirPeer, patient: str) -> None:
    answer = sent(fhir, simplified(patient), "DocumentReference")
    made = answer.json()
    read = fhir.ask("GET", f"DocumentReference/{made['id']}")
    assert read.json() == made
    assert answer.headers["etag"] == read.headers["etag"] == f'W/"{made["meta"]["versionId"]}"'
    assert answer.headers["last-modified"] == read.headers["last-modified"]
    for prefer, kind in (("minimal", None), ("representation", "DocumentReference"), ("OperationOutcome", "OperationOutcome")):  # fmt: skip
        answer = sent(fhir, simplified(patient), "DocumentReference", Prefer=f"return={prefer}")
        assert answer.status_code == 201
        assert answer.headers["etag"] == 'W/"1"'
        assert answer.headers["location"].startswith(f"{fhir.base}/DocumentReference/")
        assert (answer.json()["resourceType"] if answer.content else None) == kind


def test_a_repetition_is_answered_with_the_version_of_now(fhir: FhirPeer, patient: str) -> None:
    body = simplified(patient)
    old = sent(fhir, body, "DocumentReference").json()["id"]
    newer = [{"code": "replaces", "target": {"reference": f"DocumentReference/{old}"}}]
    sent(fhir, simplified(patient, relatesTo=newer), "DocumentReference")
    again = sent(fhir, body, "DocumentReference")
    assert (again.json()["id"], again.json()["status"]) == (old, "superseded")
    assert again.headers["etag"] == fhir.ask("GET", f"DocumentReference/{old}").headers["etag"] != 'W/"1"'


def test_simplified_publish_only_where_it_is_new(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body = simplified(patient)
    master = body["masterIdentifier"]
    condition = f"identifier={master['system']}|{master['value']}"
    first = sent(fhir, body, "DocumentReference", **{"If-None-Exist": condition})
    assert first.status_code == 201, first.text
    document = first.json()["id"]
    before, last = mhd_node.stored(), mhd_node.last_audit()
    body["description"] = "inaczej"
    for named in (condition, f"identifier={RFC_3986}|urn:uuid:{document}"):
        again = sent(fhir, body, "DocumentReference", **{"If-None-Exist": named})
        assert (again.status_code, again.json()["id"]) == (200, document)
        assert "description" not in again.json()
        assert again.headers["location"] == first.headers["location"]
    assert mhd_node.stored() == before
    for _, transaction, outcome, message in mhd_node.audits(last):
        assert (transaction, outcome) == ("ITI-105", 0)
        assert patient in message
    for condition, code in (
        ("status=current", "UnsupportedQueryField"),
        (f"identifier={master['value']}", "UnsupportedQueryField"),
        ("identifier=", "RequiredFieldMissing"),
    ):
        answer = sent(fhir, simplified(patient), "DocumentReference", **{"If-None-Exist": condition})
        assert answer.status_code == 400
        [issue] = answer.json()["issue"]
        assert (issue["details"]["coding"][0]["code"], issue["expression"]) == (code, ["http.If-None-Exist"])
    assert mhd_node.stored() == before


def test_of_many_simplified_at_once_one_publishes(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    master = f"identifier={RFC_3986}|urn:oid:{peer.oid()}"
    bodies = [simplified(patient, f"{n}".encode()) for n in range(8)]
    for body in bodies:
        body["masterIdentifier"]["value"] = master.partition("|")[2]

    def post(body: Any) -> int:
        headers = {"Content-Type": JSON, "If-None-Exist": master}
        return mhd_node.http.post(f"{fhir.base}/DocumentReference", json=body, headers=headers).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(post, bodies))
    assert statuses.count(201) == 1
    assert set(statuses) <= {200, 201, 503}, statuses
    assert len(uuids(mhd_node, fhir, patient)) == 1


def test_simplified_publish_of_little(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    """IHE's example: an identifier, the patient and the document."""
    body = json.loads(
        (mhd_bundles.MHD / "example" / "DocumentReference-ex-DocumentReferenceSimplifiedPublish.json").read_text()
    )
    body["subject"] = {"reference": f"Patient/{patient}"}
    body["masterIdentifier"]["value"] = f"urn:oid:{peer.oid()}"
    assert sent(fhir, body, "DocumentReference").status_code == 201
    assert uuids(mhd_node, fhir, patient) == set()


@pytest.mark.parametrize(
    ("twist", "code", "where"),
    [
        (lambda r: r["content"][0]["attachment"].pop("data"), "XDSMissingDocument", "content[0].attachment.data"),
        (
            lambda r: r["content"][0]["attachment"].update(size=1),
            "XDSRepositoryMetadataError",
            "content[0].attachment.size",
        ),
        (lambda r: r["content"][0]["attachment"].update(url="http://x"), "RuleBroken", "content[0].attachment.url"),
        (lambda r: r.pop("subject"), "RequiredFieldMissing", "subject"),
        (lambda r: r.pop("masterIdentifier"), "RequiredFieldMissing", "masterIdentifier"),
        (lambda r: r.update(identifier=[{"value": "x"}]), "RuleBroken", "identifier"),
        (lambda r: r.update(subject={"reference": "Patient/nobody"}), "XDSUnknownPatientId", "subject"),
        (lambda r: r.update(category=[mhd_bundles.concept("1", "urn:x")]), "XDSRegistryMetadataError", "category"),
        (lambda r: r.update(docStatus="finished"), "TableValueNotFound", "docStatus"),
        (
            lambda r: r["context"].update(related=[{"type": "Patient", "reference": "#x"}]),
            "RuleBroken",
            "context.related[0]",
        ),
    ],
)
def test_bad_simplified(mhd_node: Node, fhir: FhirPeer, patient: str, twist: Twist, code: str, where: str) -> None:
    body = simplified(patient)
    twist(body)
    assert (code, f"DocumentReference.{where}") in refused(mhd_node, fhir, body, "DocumentReference")


# ITI-106, and metadata from CDA ----------------------------------------------------------------------------------

PL = "2.16.840.1.113883.3.4424"


def generate(fhir: FhirPeer, resource: dict[str, Any]) -> Any:
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "document", "resource": resource}]}
    return sent(fhir, parameters, "DocumentReference/$generate-metadata")


def pik_document(shared: Path) -> bytes:
    """A published consultation of Jan Kowalski; the uniqueId is made new."""
    data = (shared / f"data/p1/paczos+sim/transformata_hl7/{PL}.13.10.1.15-1.xml").read_bytes()
    assert b'extension="2345678"' in data
    return data.replace(b'extension="2345678"', f'extension="{peer.number()}"'.encode())


@pytest.fixture(scope="module")
def polish(polish_node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(polish_node) as found:
        yield found


@pytest.fixture(scope="module")
def kowalski(polish: FhirPeer) -> str:
    return announced(polish, **{f"{PL}.2.7.0.17.1": "12345"})


def test_metadata_are_made_of_cda(polish_node: Node, polish: FhirPeer, kowalski: str, shared: Path) -> None:
    data = pik_document(shared)
    binary = {"resourceType": "Binary", "contentType": "text/xml", "data": base64.b64encode(data).decode()}
    response = generate(polish, binary)
    assert response.status_code == 200, response.text
    [parameter] = response.json()["parameter"]
    document = parameter["valueReference"]["reference"].rpartition("/")[2]
    found = {e.get("id")[9:]: e for e in polish_node.found(cx(polish, kowalski)).entries}
    assert document in found
    unique_id = peer.identifier_of(found[document], "entryUnique")
    assert polish_node.retrieve(unique_id).documents == {unique_id: data}
    assert generate(polish, binary).json() == response.json()


def test_minimal_metadata_are_completed_from_cda(
    polish_node: Node, polish: FhirPeer, kowalski: str, shared: Path
) -> None:
    data = pik_document(shared)
    body = minimal(kowalski, data, "text/xml")
    entry_of(body)["description"] = "co mówi nadawca"
    del body["entry"][0]["resource"]["extension"][0]  # designationType of another affinity domain
    document = taken(polish, body)[1]["location"].partition("/")[2]
    found = {e.get("id")[9:]: e for e in polish_node.found(cx(polish, kowalski)).entries}
    assert peer.slot_of(found[document], "creationTime") == ["20140906"]
    unique_id = entry_of(body)["masterIdentifier"]["value"].removeprefix("urn:oid:")
    assert peer.identifier_of(found[document], "entryUnique") == unique_id  # what the sender says stays


@pytest.mark.parametrize(
    "identifiers",
    [
        {},  # the document's patient is known here, and is somebody else
        {f"{PL}.1.1.616": "70050612340"},  # PESEL: one number for life
    ],
)
def test_a_document_about_somebody_else(
    polish_node: Node, polish: FhirPeer, kowalski: str, shared: Path, identifiers: dict[str, str]
) -> None:
    data = pik_document(shared)
    if identifiers:
        data = data.replace(b'extension="12345" root', f'extension="{peer.number()}" root'.encode())
    who = announced(polish, **identifiers)
    body = minimal(who, data, "text/xml")
    del body["entry"][0]["resource"]["extension"][0]
    assert refused(polish_node, polish, body) == [("XDSPatientIdDoesNotMatch", "Bundle.entry[1].resource.subject")]


def test_a_document_about_somebody_by_numbers_that_nobody_knows(polish: FhirPeer, shared: Path) -> None:
    data = pik_document(shared).replace(b'extension="12345" root', f'extension="{peer.number()}" root'.encode())
    body = minimal(announced(polish), data, "text/xml")
    del body["entry"][0]["resource"]["extension"][0]
    assert taken(polish, body)


@pytest.mark.parametrize("mime_type", ["application/fhir+json", "application/fhir+xml"])
def test_a_fhir_document_in_poland(polish_node: Node, polish: FhirPeer, mime_type: str) -> None:
    patient = announced(polish)
    body = mhd_bundles.polish(bundle(patient, b"{}"))
    attachment_of(body)["contentType"] = body["entry"][2]["resource"]["contentType"] = mime_type
    document = taken(polish, body)[1]["location"].partition("/")[2]
    assert uuids(polish_node, polish, patient) == {document}


def test_metadata_of_a_fhir_document(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    parameters = json.loads((mhd_bundles.MHD / "example" / "Parameters-ex-input-doc-bundle.json").read_text())
    document = parameters["parameter"][0]["resource"]
    document["identifier"]["value"] = f"urn:uuid:{uuid.uuid4()}"
    named = [{"system": f"urn:oid:{fhir.authority}", "value": patient}]
    for entry in document["entry"]:
        if entry["resource"]["resourceType"] == "Patient":
            entry["resource"]["identifier"] = named
    response = generate(fhir, document)
    assert response.status_code == 200, response.text
    [row] = mhd_node.rows(
        "SELECT entry_type::text, type_code, title FROM document_entry WHERE entry_uuid = %s::uuid",
        response.json()["parameter"][0]["valueReference"]["reference"].rpartition("/")[2],
    )
    assert row == ("L", "28655-9^^2.16.840.1.113883.6.1", "Discharge Summary")


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        ({"resourceType": "Binary", "contentType": "text/plain", "data": "SGVsbG8gV29ybGQ="}, "InvalidDocumentContent"),
        ({"resourceType": "Binary", "contentType": "text/xml", "data": "PGEvPg=="}, "InvalidDocumentContent"),
        ({"resourceType": "Binary", "contentType": "text/xml"}, "XDSMissingDocument"),
        ({"resourceType": "Bundle", "type": "collection"}, "InvalidDocumentContent"),
        ({"resourceType": "Basic", "code": {"text": "x"}}, "DataTypeError"),
    ],
)
def test_what_no_metadata_can_be_made_of(mhd_node: Node, fhir: FhirPeer, resource: dict[str, Any], code: str) -> None:
    before = mhd_node.stored()
    response = generate(fhir, resource)
    assert response.status_code == 400
    assert code in [i["details"]["coding"][0]["code"] for i in response.json()["issue"]]
    assert mhd_node.stored() == before
