"""Publishing over FHIR on a running node: ITI-65, with IHE's examples and every refusal."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fhir_peer
import mhd_bundles
import peer
import pytest
from fhir_peer import JSON, XML, FhirPeer
from fhirpy import SyncFHIRClient
from mhd_bundles import (
    BINARY,
    DOCUMENT,
    FOLDER,
    MINIMAL,
    RFC_3986,
    SET,
    bundle,
    changed,
    document_reference,
    item,
    listed,
    ready,
)
from peer import DEPRECATED, Node
from publishing import (
    announced,
    attachment_of,
    cx,
    entry_of,
    minimal,
    published,
    refused,
    sent,
    simplified,
    taken,
    uuids,
)

import commanding

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def fhir(mhd_node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(mhd_node) as found:
        yield found


@pytest.fixture
def patient(fhir: FhirPeer) -> str:
    return announced(fhir)


# IHE's examples --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", mhd_bundles.NAMES)
def test_examples(mhd_node: Node, fhir: FhirPeer, patient: str, name: str) -> None:
    document = published(fhir, patient)
    body = ready(name, patient, fhir.authority, document)
    answers = taken(fhir, body)
    assert len(answers) == len(body["entry"])
    for entry, answer in zip(body["entry"], answers, strict=True):
        kind = entry["resource"]["resourceType"]
        expected = {"Bundle": "Binary", "Parameters": "DocumentReference"}.get(kind, kind)
        assert answer["location"].partition("/")[0] == expected
        existing = kind in ("Parameters", "Patient")
        assert answer["status"] == ("200 OK" if existing else "201 Created")
        assert ({"etag", "lastModified"} <= answer.keys()) is not existing
    made = {
        a["location"].partition("/")[2]
        for e, a in zip(body["entry"], answers, strict=True) if e["resource"]["resourceType"] == "DocumentReference"
    }  # fmt: skip
    visible = uuids(mhd_node, fhir, patient)
    if "minimal" in name:
        assert visible == {document}
    else:
        assert made <= visible
        assert (document in visible) is ("Replace" not in name)


@pytest.mark.parametrize("name", [n for n in mhd_bundles.NAMES if mhd_bundles.response_of(n).exists()])
def test_answers_have_the_shape_of_the_examples(fhir: FhirPeer, patient: str, name: str) -> None:
    answers = taken(fhir, ready(name, patient, fhir.authority, published(fhir, patient)))
    official = [e["response"] for e in json.loads(mhd_bundles.response_of(name).read_text())["entry"]]
    kinds = sorted(a["location"].partition("/")[0] for a in official)
    assert sorted(a["location"].partition("/")[0] for a in answers) == kinds
    for answer in answers:
        if not answer["location"].startswith("Patient/"):  # the example makes one, here patients come by feeds
            assert official[0].keys() <= answer.keys()
            assert answer["status"] == official[0]["status"]


def test_a_document_is_given_back_by_soap(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body = bundle(patient, b"zazolc")
    taken(fhir, body)
    unique_id = body["entry"][1]["resource"]["masterIdentifier"]["value"].removeprefix("urn:oid:")
    assert mhd_node.unique_ids(cx(fhir, patient)) == [unique_id]
    answer = mhd_node.retrieve(unique_id)
    assert answer.status == "Success"
    assert b"zazolc" in answer.raw
    [entry] = mhd_node.found(cx(fhir, patient)).entries
    assert peer.slot_of(entry, "creationTime") == ["20260301090000"]
    assert peer.slot_of(entry, "sourcePatientId") == ["H1^^^&1.2.616.7&ISO"]


def test_a_fhir_document_is_kept_as_json(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body = bundle(patient)
    inner = {"resourceType": "Bundle", "type": "document", "timestamp": "2026-03-01T10:00:00Z",
             "identifier": {"system": RFC_3986, "value": f"urn:uuid:{uuid.uuid4()}"},
             "entry": [{"fullUrl": f"urn:uuid:{uuid.uuid4()}", "resource": {"resourceType": "Basic", "code": {"text": "x"}}}]}  # fmt: skip
    attachment = body["entry"][1]["resource"]["content"][0]["attachment"]
    del attachment["size"], attachment["hash"]
    attachment["contentType"] = "application/fhir+json"
    body["entry"][2] = item(inner, BINARY)
    taken(fhir, body)
    [entry] = mhd_node.found(cx(fhir, patient)).entries
    answer = mhd_node.retrieve(peer.identifier_of(entry, "entryUnique"))
    assert b'"type":"document"' in answer.raw
    assert entry.get("mimeType") == "application/fhir+json"


def test_in_xml(fhir: FhirPeer, patient: str) -> None:
    from obieg.wire import fhir_xml

    response = fhir.ask(
        "POST", "", content=fhir_xml.write(bundle(patient)), headers={"Content-Type": XML, "Accept": XML}
    )
    assert response.status_code == 200
    assert b"transaction-response" in response.content


# repetition, races -----------------------------------------------------------------------------------------------


def test_a_repetition_is_answered_alike(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body = bundle(patient)
    first = taken(fhir, body)
    before = mhd_node.stored()
    again = taken(fhir, body)
    assert [a["location"] for a in first] == [a["location"] for a in again]
    assert mhd_node.stored() == before


def test_without_unique_ids_of_its_lists(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body = bundle(patient)
    del body["entry"][0]["resource"]["identifier"]
    first, before = taken(fhir, body), mhd_node.stored()
    assert [a["location"] for a in taken(fhir, body)] == [a["location"] for a in first]
    assert mhd_node.stored() == before


def test_the_senders_entry_uuid_is_kept(fhir: FhirPeer, patient: str) -> None:
    own = str(uuid.uuid4())
    identifier = [{"use": "official", "system": RFC_3986, "value": f"urn:uuid:{own}"}]
    assert published(fhir, patient, identifier=identifier) == own


def test_the_same_full_urls_in_another_bundle(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    assert {published(fhir, patient), published(fhir, patient)} == uuids(mhd_node, fhir, patient)


def test_published_only_where_it_is_new(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body = bundle(patient)
    master = body["entry"][1]["resource"]["masterIdentifier"]
    body["entry"][1]["request"]["ifNoneExist"] = f"identifier={master['system']}|{master['value']}"
    first = taken(fhir, body)
    again = changed(body)
    again["entry"][0]["resource"]["identifier"][0]["value"] = f"urn:oid:{peer.oid()}"
    answers = taken(fhir, again)
    assert answers[0]["status"] == "201 Created"
    assert (answers[1]["status"], answers[1]["location"]) == ("200 OK", first[1]["location"])
    assert uuids(mhd_node, fhir, patient) == {first[1]["location"].partition("/")[2]}


def test_of_many_at_once_one_publishes(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    """If-None-Exist holds among requests that arrive together: one makes the document, others refer to it or wait."""
    body = bundle(patient)
    master = body["entry"][1]["resource"]["masterIdentifier"]
    body["entry"][1]["request"]["ifNoneExist"] = f"identifier={master['system']}|{master['value']}"
    bodies = []
    for _ in range(8):
        body = changed(body)
        body["entry"][0]["resource"]["identifier"][0]["value"] = f"urn:oid:{peer.oid()}"
        bodies.append(body)

    def post(one: Any) -> int:
        return mhd_node.http.post(fhir.base, json=one, headers={"Content-Type": JSON}).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(post, bodies))
    assert set(statuses) <= {200, 503}
    assert len(uuids(mhd_node, fhir, patient)) == 1
    for one in bodies:
        assert taken(fhir, one)
    assert len(uuids(mhd_node, fhir, patient)) == 1


# documents and folders that are there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "kind"),
    [(["replaces"], "RPLC"), (["transforms"], "XFRM"), (["appends"], "APND"), (["signs"], "signs"),
     (["replaces", "transforms"], "XFRM_RPLC")],
)  # fmt: skip
@pytest.mark.parametrize("named", ["literal", "absolute", "entryUUID", "uniqueId"])
def test_relations(mhd_node: Node, fhir: FhirPeer, patient: str, codes: list[str], kind: str, named: str) -> None:
    first = bundle(patient)
    old = taken(fhir, first)[1]["location"].partition("/")[2]
    master = {k: v for k, v in first["entry"][1]["resource"]["masterIdentifier"].items() if k != "use"}
    target = {
        "literal": {"reference": f"DocumentReference/{old}"},
        "absolute": {"reference": f"{fhir.base}/DocumentReference/{old}"},
        "entryUUID": {"identifier": {"system": RFC_3986, "value": f"urn:uuid:{old}"}},
        "uniqueId": {"identifier": master},
    }[named]
    new = published(fhir, patient, relatesTo=[{"code": c, "target": target} for c in codes])
    answer = mhd_node.query("GetAssociations", uuid=f"('urn:uuid:{old}')")
    found = {
        a.get("associationType").rpartition(":")[2] for a in answer.associations if a.get("sourceObject")[9:] == new
    }
    assert found == {kind}
    replaced = {old} if "replaces" in codes else set()
    assert uuids(mhd_node, fhir, patient, DEPRECATED) == replaced


def test_a_patch_goes_with_a_replacement(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    old = published(fhir, patient)
    body = bundle(patient)
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "path", "valueString": "DocumentReference.status"}, {"name": "type", "valueCode": "replace"},
        {"name": "value", "valueCode": "superseded"}]}]}  # fmt: skip
    body["entry"].append(item(patch, FOLDER, "PATCH", f"DocumentReference/{old}"))
    assert refused(mhd_node, fhir, body) == [("RuleBroken", "Bundle.entry[3].request.url")]
    target = {"reference": f"DocumentReference/{old}"}
    body["entry"][1]["resource"]["relatesTo"] = [{"code": "replaces", "target": target}]
    other = changed(body)
    other["entry"][3]["resource"]["parameter"][0]["part"][2]["valueCode"] = "entered-in-error"
    assert refused(mhd_node, fhir, other) == [("RuleBroken", "Bundle.entry[3].resource.parameter")]
    assert taken(fhir, body)[3] == {"status": "200 OK", "location": f"DocumentReference/{old}"}
    assert uuids(mhd_node, fhir, patient, DEPRECATED) == {old}


def with_folder(
    patient: str, *members: str, method: str = "POST", url: str = "List", relations: Any = (), **more: Any
) -> dict[str, Any]:
    body = bundle(patient, **({"relatesTo": relations} if relations else {}))
    folder = listed("folder", patient, DOCUMENT, *members, codes=("225728007", "284548004"), **more)
    body["entry"].append(item(folder, FOLDER, method, url))
    body["entry"][0]["resource"]["entry"].append({"item": {"reference": FOLDER}})
    return body


def held(node: Node, folder: str) -> set[str]:
    answer = node.query("GetFolderAndContents", XDSFolderEntryUUID=f"'urn:uuid:{folder}'")
    assert answer.status == "Success"
    return {e.get("id")[9:] for e in answer.entries}


def test_folders(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    old = published(fhir, patient)
    body = with_folder(patient, f"DocumentReference/{old}")
    answers = taken(fhir, body)
    folder, first = answers[3]["location"].partition("/")[2], answers[1]["location"].partition("/")[2]
    assert held(mhd_node, folder) == {old, first}
    identifier = body["entry"][3]["resource"]["identifier"]
    members = {old, first}
    for url in (f"List/{folder}", "List", f"List?identifier={RFC_3986}|{identifier[0]['value']}"):
        more = with_folder(patient, f"DocumentReference/{old}", method="PUT", url=url, identifier=identifier)
        answer = taken(fhir, more)
        assert (answer[3]["status"], answer[3]["location"]) == ("200 OK", f"List/{folder}")
        assert answer[3]["outcome"]["issue"][0]["severity"] == "warning"  # members that the List leaves out stay
        members.add(answer[1]["location"].partition("/")[2])
        assert held(mhd_node, folder) == members
    renamed = with_folder(patient, method="PUT", url=f"List/{folder}", identifier=identifier, title="Inna")
    assert refused(mhd_node, fhir, renamed) == [("RuleBroken", "Bundle.entry[3].resource.title")]
    unknown = with_folder(patient, method="PUT", url=f"List/{uuid.uuid4()}")
    assert refused(mhd_node, fhir, unknown) == [("UnresolvedReferenceException", "Bundle.entry[3].resource")]
    other = announced(fhir)
    foreign = with_folder(other, method="PUT", url=f"List/{folder}")
    assert ("XDSPatientIdDoesNotMatch", "Bundle.entry[3].resource") in refused(mhd_node, fhir, foreign)


def test_a_bundle_is_answered_as_preferred(fhir: FhirPeer, patient: str) -> None:
    old = published(fhir, patient)
    body = with_folder(patient, relations=[{"code": "replaces", "target": {"reference": f"DocumentReference/{old}"}}])
    plain = sent(fhir, body, Prefer="return=minimal").json()["entry"]
    assert all(entry.keys() == {"response"} for entry in plain)
    told = sent(fhir, body, Prefer="return=OperationOutcome").json()["entry"]
    assert {e["response"]["outcome"]["issue"][0]["severity"] for e in told} == {"information"}
    shown = sent(fhir, body, Prefer="return=representation").json()["entry"]
    assert [e.get("resource", {}).get("resourceType") for e in shown] == ["List", "DocumentReference", None, "List"]
    for before, entry in zip(plain, shown, strict=True):
        assert before["response"]["location"] == entry["response"]["location"]
        if "resource" in entry:
            read = fhir.ask("GET", entry["response"]["location"])
            assert read.json() == entry["resource"]
            assert entry["response"]["etag"] == read.headers["etag"]


# whose they are --------------------------------------------------------------------------------------------------


def test_ways_to_name_the_patient(mhd_node: Node, fhir: FhirPeer) -> None:
    hospital, number = "1.2.616.41", peer.number()
    patient = announced(fhir, **{hospital: number})
    found = set()
    contained = {
        "resourceType": "Patient",
        "id": "p",
        "identifier": [{"system": f"urn:oid:{hospital}", "value": number}],
    }
    for subject in (
        {"reference": f"Patient/{patient}"},
        {"reference": f"{fhir.base}/Patient/{patient}"},
        {"identifier": {"system": f"urn:oid:{fhir.authority}", "value": patient}},
        {"identifier": {"system": f"urn:oid:{hospital}", "value": number}},
        {"reference": "#p"},
        {"reference": "urn:uuid:00000009-0000-4000-8000-000000000000"},
    ):
        body = bundle(patient)
        for entry in body["entry"][:2]:
            entry["resource"]["subject"] = subject
            if subject.get("reference") == "#p":
                entry["resource"]["contained"] = [contained]
        if subject.get("reference", "").startswith("urn:uuid:"):
            inner = {k: v for k, v in contained.items() if k != "id"}
            body["entry"].append(item(inner, subject["reference"]))
        answers = taken(fhir, body)
        found.add(answers[1]["location"].partition("/")[2])
        if len(answers) == 4:
            assert answers[3] == {"status": "200 OK", "location": f"Patient/{patient}"}
    assert uuids(mhd_node, fhir, patient) == found
    assert len(found) == 6


def test_one_bundle_is_about_one_patient(mhd_node: Node, fhir: FhirPeer) -> None:
    hospital, number = "1.2.616.42", peer.number()
    first, second = announced(fhir), announced(fhir, **{hospital: number})
    body = bundle(first)
    body["entry"][1]["resource"]["subject"] = {"reference": f"Patient/{second}"}
    assert refused(mhd_node, fhir, body) == [("XDSPatientIdDoesNotMatch", "Bundle.entry[1].resource.subject")]
    body = bundle(first)
    body["entry"][1]["resource"]["subject"] = {"identifier": {"system": f"urn:oid:{hospital}", "value": number}}
    assert refused(mhd_node, fhir, body) == [("XDSPatientIdDoesNotMatch", "Bundle.entry[1].resource.subject")]
    body = bundle(first)
    body["entry"][1]["resource"]["context"]["sourcePatientInfo"] = {"reference": f"Patient/{second}"}
    where = "Bundle.entry[1].resource.context.sourcePatientInfo"
    assert refused(mhd_node, fhir, body) == [("XDSPatientIdDoesNotMatch", where)]
    body = bundle(first)
    both = [{"system": f"urn:oid:{fhir.authority}", "value": first}, {"system": f"urn:oid:{hospital}", "value": number}]
    body["entry"].append(item({"resourceType": "Patient", "identifier": both}, FOLDER))
    assert [c for c, _ in refused(mhd_node, fhir, body)] == ["XDSPatientIdDoesNotMatch"]
    body["entry"][3] = item({"resourceType": "Patient", "identifier": both[:1]}, FOLDER)
    body["entry"].append(item({"resourceType": "Patient", "identifier": both[1:]}, f"urn:uuid:{uuid.uuid4()}"))
    assert ("XDSPatientIdDoesNotMatch", "Bundle.entry[4].resource") in refused(mhd_node, fhir, body)


def test_a_document_of_another_patient(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    foreign = published(fhir, announced(fhir))
    for code in ("replaces", "appends"):
        body = bundle(patient, relatesTo=[{"code": code, "target": {"reference": f"DocumentReference/{foreign}"}}])
        assert refused(mhd_node, fhir, body) == [("XDSPatientIdDoesNotMatch", "Bundle.entry[1].resource.relatesTo[0]")]


# minimal metadata ------------------------------------------------------------------------------------------------


def test_minimal_metadata_is_not_shown_by_soap(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body = minimal(patient)
    document = taken(fhir, body)[1]["location"].partition("/")[2]
    unique_id = body["entry"][1]["resource"]["masterIdentifier"]["value"].removeprefix("urn:oid:")
    urn = f"urn:uuid:{document}"
    assert uuids(mhd_node, fhir, patient) == set()
    for name, parameters in (
        ("FindDocuments", {"XDSDocumentEntryPatientId": f"'{cx(fhir, patient)}'",
                           "XDSDocumentEntryStatus": f"('{peer.APPROVED}')"}),
        ("GetAll", {"patientId": f"'{cx(fhir, patient)}'", "XDSDocumentEntryStatus": f"('{peer.APPROVED}')",
                    "XDSSubmissionSetStatus": f"('{peer.APPROVED}')", "XDSFolderStatus": f"('{peer.APPROVED}')"}),
        ("GetDocuments", {"XDSDocumentEntryEntryUUID": f"('{urn}')"}),
        ("GetDocuments", {"XDSDocumentEntryUniqueId": f"('{unique_id}')"}),
        ("GetDocumentsAndAssociations", {"XDSDocumentEntryEntryUUID": f"('{urn}')"}),
        ("GetSubmissionSetAndContents", {"XDSSubmissionSetUniqueId":
            f"'{body['entry'][0]['resource']['identifier'][0]['value'].removeprefix('urn:oid:')}'"}),
        ("GetRelatedDocuments", {"XDSDocumentEntryEntryUUID": f"'{urn}'", "AssociationTypes": "('urn:ihe:iti:2007:AssociationType:RPLC')"}),
    ):  # fmt: skip
        answer = mhd_node.query(name, **parameters)
        assert answer.status == "Success", (name, answer.errors)
        assert not answer.entries, name
    [row] = mhd_node.rows("SELECT entry_type::text FROM document_entry WHERE entry_uuid = %s::uuid", document)
    assert row == ("L",)
    assert b"tresc" in mhd_node.retrieve(unique_id).raw


def test_minimal_metadata_that_is_whole_is_shown(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    document = taken(fhir, bundle(patient, profile=MINIMAL))[1]["location"].partition("/")[2]
    assert uuids(mhd_node, fhir, patient) == {document}


def test_comprehensive_metadata_must_be_whole(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body = minimal(patient)
    body["meta"]["profile"] = [mhd_bundles.COMPREHENSIVE]
    found = refused(mhd_node, fhir, body)
    resource = "Bundle.entry[1].resource"
    for element in ("category", "type", "securityLabel", "context.facilityType", "context.practiceSetting",
                    "content.format", "content.attachment.language", "content.attachment.creation"):  # fmt: skip
        assert ("XDSRegistryMetadataError", f"{resource}.{element}") in found


# people whom the directory knows ---------------------------------------------------------------------------------

NPWZ, ENTITY, REGON = (
    "2.16.840.1.113883.3.4424.1.6.2",
    "2.16.840.1.113883.3.4424.2.3.1",
    "2.16.840.1.113883.3.4424.2.2.1",
)


@pytest.fixture(scope="module")
def directory(mhd_node: Node, tmp_path_factory: pytest.TempPathFactory) -> None:
    resources = [
        {"resourceType": "Organization", "id": "dietl", "active": True, "name": "Szpital Dietla", "identifier": [
            {"value": "17"}, {"system": f"urn:oid:{REGON}", "value": "123456785"},
            {"system": f"urn:oid:{ENTITY}", "value": "000000004711"}]},
        {"resourceType": "Practitioner", "id": "nowak", "active": True, "name": [{"family": "Nowak", "given": ["Anna"]}],
         "identifier": [{"system": f"urn:oid:{NPWZ}", "value": "5425740"}]},
        {"resourceType": "PractitionerRole", "id": "role", "active": True, "practitioner": {"reference": "Practitioner/nowak"},
         "organization": {"reference": "Organization/dietl"}, "specialty": [{"text": "chirurgia"}]},
    ]  # fmt: skip
    file = tmp_path_factory.mktemp("directory") / "directory.ndjson"
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in resources), "utf-8")
    words = ("directory", "import", file, "--source", "test", "--settings", mhd_node.endpoints["settings"])
    commanding.obieg(*words, environment=peer.free_environment()).check_returncode()


NOWAK = f"5425740^Nowak^Anna^^^^^^&{NPWZ}&ISO"
DIETL = f"Szpital Dietla^^^^^&{ENTITY}&ISO^^^^000000004711"


def authors_of(node: Node, fhir: FhirPeer, patient: str) -> list[dict[str, list[str]]]:
    [entry] = node.found(cx(fhir, patient)).entries
    return [
        {s.get("name"): [v.text for v in s.iter("{*}Value")] for s in c.iterchildren("{*}Slot")}
        for c in entry.iter("{*}Classification")
        if c.get("classificationScheme") == "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
    ]


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize("absolute", [False, True])
def test_authors_of_the_directory(mhd_node: Node, fhir: FhirPeer, patient: str, absolute: bool) -> None:
    base = f"{fhir.base}/" if absolute else ""
    references = [{"reference": f"{base}{name}"} for name in ("PractitionerRole/role", "Practitioner/nowak", "Organization/dietl")]  # fmt: skip
    contained = {
        "resourceType": "PractitionerRole",
        "id": "r",
        "practitioner": references[1],
        "code": [{"text": "lekarz"}],
    }
    body = bundle(
        patient, author=[*references, {"reference": "#r"}], authenticator=references[0], contained=[contained]
    )
    recipient = {"url": f"{mhd_bundles.EXTENSION}intendedRecipient", "valueReference": references[0]}
    body["entry"][0]["resource"]["extension"].append(recipient)
    body["entry"][0]["resource"]["source"] = references[1]
    assert not [a for a in taken(fhir, body) if "outcome" in a]
    assert authors_of(mhd_node, fhir, patient) == [
        {"authorPerson": [NOWAK], "authorInstitution": [DIETL], "authorSpecialty": ["chirurgia"]},
        {"authorPerson": [NOWAK]},
        {"authorInstitution": [DIETL]},
        {"authorPerson": [NOWAK], "authorRole": ["lekarz"]},
    ]
    [entry] = mhd_node.found(cx(fhir, patient)).entries
    assert peer.slot_of(entry, "legalAuthenticator") == [NOWAK]
    unique_id = body["entry"][0]["resource"]["identifier"][0]["value"].removeprefix("urn:oid:")
    answer = mhd_node.query("GetSubmissionSetAndContents", XDSSubmissionSetUniqueId=f"'{unique_id}'")
    [sset] = answer.sets
    assert peer.slot_of(sset, "intendedRecipient") == [f"{DIETL}|{NOWAK}"]
    assert NOWAK in [v.text for v in sset.iter("{*}Value")]


@pytest.mark.usefixtures("directory")
def test_authors_whom_nobody_knows(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body = bundle(patient, author=[
        {"reference": "Practitioner/nobody"}, {"reference": "Practitioner/x", "display": "Anna Lis"},
        {"reference": "http://example.org/Practitioner/nowak"},
    ])  # fmt: skip
    answer = taken(fhir, body)[1]
    assert {i["expression"][0] for i in answer["outcome"]["issue"]} == {f"{ENTRY}.author[0]", f"{ENTRY}.author[2]"}
    assert [a["authorPerson"] for a in authors_of(mhd_node, fhir, patient)] == [
        ["^Practitioner/nobody"], ["^Anna Lis"], ["^http://example.org/Practitioner/nowak"],
    ]  # fmt: skip
    other = changed(body)
    entry_of(other)["author"][1]["display"] = "Ewa Lis"
    assert refused(mhd_node, fhir, other)  # another document of the same uniqueId, no repetition


# bad input -------------------------------------------------------------------------------------------------------

Twist = Callable[[dict[str, Any]], None]
ENTRY, ATTACHMENT = "Bundle.entry[1].resource", "Bundle.entry[1].resource.content[0].attachment"


def contain(body: dict[str, Any], resource: dict[str, Any], *, refer: bool = True) -> None:
    entry_of(body)["contained"] = [resource]
    if refer:
        entry_of(body)["author"] = [{"reference": f"#{resource['id']}"}]


PRACTITIONER = {"resourceType": "Practitioner", "id": "p", "name": [{"family": "Lis"}]}
TWISTS: list[tuple[str, Twist, str, str]] = [
    ("hash", lambda b: attachment_of(b).update(hash=base64.b64encode(bytes(20)).decode()),
     "XDSRepositoryMetadataError", f"{ATTACHMENT}.hash"),
    ("size", lambda b: attachment_of(b).update(size=6), "XDSRepositoryMetadataError", f"{ATTACHMENT}.size"),
    ("media type", lambda b: attachment_of(b).update(contentType="text/xml"),
     "InvalidDocumentContent", f"{ATTACHMENT}.contentType"),
    ("no SHA-1", lambda b: attachment_of(b).update(hash="YWJj"), "DataTypeError", f"{ATTACHMENT}.hash"),
    ("not base64", lambda b: b["entry"][2]["resource"].update(data="abc"),
     "DataTypeError", "Bundle.entry[2].resource.data"),
    ("no bytes", lambda b: b["entry"][2]["resource"].pop("data"),
     "XDSMissingDocument", "Bundle.entry[2].resource.data"),
    ("document within the metadata", lambda b: attachment_of(b).update(data="dHJlc2M="),
     "RuleBroken", f"{ATTACHMENT}.data"),
    ("document elsewhere", lambda b: attachment_of(b).update(url="http://example.com/doc"),
     "XDSMissingDocument", f"{ATTACHMENT}.url"),
    ("two contents", lambda b: entry_of(b)["content"].append(entry_of(b)["content"][0]),
     "RuleBroken", f"{ENTRY}.content"),
    ("fullUrl twice", lambda b: b["entry"][2].update(fullUrl=DOCUMENT), "RuleBroken", "Bundle.entry[2].fullUrl"),
    ("no fullUrl", lambda b: b["entry"][2].pop("fullUrl"), "RequiredFieldMissing", "Bundle.entry[2].fullUrl"),
    ("no request", lambda b: b["entry"][2].pop("request"), "RequiredFieldMissing", "Bundle.entry[2].request"),
    ("unknown entry", lambda b: b["entry"].append(item({"resourceType": "Basic", "code": {"text": "x"}}, FOLDER)),
     "RuleBroken", "Bundle.entry[3].resource"),
    ("List of another kind", lambda b: b["entry"][0]["resource"].update(code={"text": "x"}),
     "RuleBroken", "Bundle.entry[0].resource"),
    ("method", lambda b: b["entry"][1]["request"].update(method="PUT"), "RuleBroken", "Bundle.entry[1].request.method"),
    ("address", lambda b: b["entry"][1]["request"].update(url="Binary"), "RuleBroken", "Bundle.entry[1].request.url"),
    ("ifMatch", lambda b: b["entry"][1]["request"].update(ifMatch='W/"1"'),
     "UnsupportedQueryField", "Bundle.entry[1].request.ifMatch"),
    ("condition", lambda b: b["entry"][1]["request"].update(ifNoneExist="status=current"),
     "UnsupportedQueryField", "Bundle.entry[1].request.ifNoneExist"),
    ("two sets", lambda b: b["entry"].append(item(b["entry"][0]["resource"], FOLDER)), "RuleBroken", "Bundle.entry"),
    ("not of the set", lambda b: b["entry"][0]["resource"]["entry"].clear() or b["entry"][0]["resource"].pop("entry"),
     "XDSRegistryMetadataError", ENTRY),
    ("a member that is not there", lambda b: b["entry"][0]["resource"]["entry"].append({"item": {"reference": "Basic/1"}}),
     "UnresolvedReferenceException", "Bundle.entry[0].resource.entry[1].item"),
    ("status", lambda b: entry_of(b).update(status="superseded"), "RuleBroken", f"{ENTRY}.status"),
    ("docStatus", lambda b: entry_of(b).update(docStatus="final"), "RuleBroken", f"{ENTRY}.docStatus"),
    ("modifier", lambda b: entry_of(b).update(implicitRules="urn:x"), "RuleBroken", f"{ENTRY}.implicitRules"),
    ("uniqueId", lambda b: entry_of(b)["masterIdentifier"].update(value="17"), "DataTypeError", f"{ENTRY}.masterIdentifier"),
    ("uniqueId of two", lambda b: b["entry"][0]["resource"].update(identifier=[entry_of(b)["masterIdentifier"]]),
     "XDSRegistryDuplicateUniqueIdInMessage", "Bundle.entry[1].resource"),
    ("unknown code", lambda b: entry_of(b).update(category=[mhd_bundles.concept("1", "http://loinc.org")]),
     "XDSRegistryMetadataError", f"{ENTRY}.category"),
    ("concept without code", lambda b: entry_of(b).update(type={"text": "karta"}), "TableValueNotFound", f"{ENTRY}.type"),
    ("a day that is not", lambda b: attachment_of(b).update(creation="2026-02-30T10:00:00Z"),
     "DataTypeError", f"{ATTACHMENT}.creation"),
    ("unknown patient", lambda b: [e["resource"].update(subject={"reference": "Patient/nobody"}) for e in b["entry"][:2]] and None,
     "XDSUnknownPatientId", "Bundle.entry[0].resource.subject"),
    ("patient elsewhere", lambda b: entry_of(b).update(subject={"reference": "http://example.org/Patient/1"}),
     "XDSUnknownPatientId", f"{ENTRY}.subject"),
    ("relation to nothing", lambda b: entry_of(b).update(relatesTo=[{"code": "replaces", "target": {"reference": f"DocumentReference/{SET[9:]}"}}]),
     "UnresolvedReferenceException", f"{ENTRY}.relatesTo[0]"),
    ("relation to an unknown uniqueId", lambda b: entry_of(b).update(relatesTo=[{"code": "replaces", "target": {"identifier": {"system": RFC_3986, "value": "urn:oid:1.2.3.99"}}}]),
     "UnresolvedReferenceException", f"{ENTRY}.relatesTo[0]"),
    ("contained document", lambda b: contain(b, {"resourceType": "Binary", "id": "p", "contentType": "text/plain"}),
     "RuleBroken", f"{ENTRY}.contained[0]"),
    ("contained metadata", lambda b: contain(b, {**document_reference("1"), "id": "p"}), "RuleBroken", f"{ENTRY}.contained[0]"),
    ("contained and nobody's", lambda b: contain(b, PRACTITIONER, refer=False), "RuleBroken", ENTRY),
    ("contained in contained", lambda b: contain(b, {**PRACTITIONER, "contained": [{"resourceType": "Basic", "id": "x", "code": {"text": "x"}}]}),
     "RuleBroken", ENTRY),
    ("contained with a version", lambda b: contain(b, {**PRACTITIONER, "meta": {"versionId": "1"}}),
     "RuleBroken", ENTRY),
    ("reference to nothing contained", lambda b: entry_of(b).update(author=[{"reference": "#x"}]),
     "RuleBroken", f"{ENTRY}.author[0]"),
    ("an author that is a document", lambda b: entry_of(b).update(author=[{"reference": BINARY}]),
     "RuleBroken", f"{ENTRY}.author[0]"),
    ("no sourceId", lambda b: b["entry"][0]["resource"]["extension"].pop(), "RequiredFieldMissing", "Bundle.entry[0].resource.extension"),
    ("unused Binary", lambda b: b["entry"].append(item(b["entry"][2]["resource"], FOLDER)),
     "XDSMissingDocumentMetadata", "Bundle.entry[3].resource"),
    ("a code that FHIR does not have", lambda b: b["entry"][0]["resource"].update(status="active"),
     "TableValueNotFound", "Bundle.entry[0].resource.status"),
    ("a period that ends before it begins", lambda b: entry_of(b)["context"].update(period={"start": "2026-03-02", "end": "2026-03-01"}),
     "RuleBroken", f"{ENTRY}.context.period"),
    ("a reference to another type", lambda b: entry_of(b).update(author=[{"reference": "Location/1"}]),
     "RuleBroken", f"{ENTRY}.author[0]"),
    ("fullUrl of a version", lambda b: b["entry"][2].update(fullUrl="http://x/Binary/1/_history/1"),
     "RuleBroken", "Bundle.entry[2]"),
    ("not a transaction", lambda b: b.update(type="batch"), "RuleBroken", "Bundle.type"),
    ("empty", lambda b: b.pop("entry"), "RuleBroken", "Bundle.entry"),
]  # fmt: skip


@pytest.mark.parametrize(("twist", "code", "where"), [t[1:] for t in TWISTS], ids=[t[0] for t in TWISTS])
def test_bad_bundles(mhd_node: Node, fhir: FhirPeer, patient: str, twist: Twist, code: str, where: str) -> None:
    body = changed(bundle(patient))
    twist(body)
    found = refused(mhd_node, fhir, body)
    assert (code, where) in found
    assert uuids(mhd_node, fhir, patient) == set()


def test_the_same_unique_id_with_other_bytes(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body = bundle(patient)
    taken(fhir, body)
    other = bundle(patient, b"inna tresc")
    entry_of(other)["masterIdentifier"] = entry_of(body)["masterIdentifier"]
    assert refused(mhd_node, fhir, other) == [("XDSNonIdenticalHash", f"{ENTRY}.content.attachment.hash")]


def test_a_set_that_is_there_with_other_content(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body, other = bundle(patient), bundle(patient)
    taken(fhir, body)
    other["entry"][0]["resource"]["identifier"] = body["entry"][0]["resource"]["identifier"]
    assert refused(mhd_node, fhir, other) == [("XDSDuplicateUniqueIdInRegistry", "Bundle.entry[0].resource.identifier")]


def test_what_is_replaced_must_be_approved(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    old = published(fhir, patient)
    relation = {"relatesTo": [{"code": "replaces", "target": {"reference": f"DocumentReference/{old}"}}]}
    published(fhir, patient, **relation)
    assert refused(mhd_node, fhir, bundle(patient, **relation)) == [
        ("XDSRegistryDeprecatedDocumentError", f"{ENTRY}.relatesTo[0]")
    ]


def test_every_request_is_audited_once(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    body, last = bundle(patient), mhd_node.last_audit()
    taken(fhir, body)
    [(_, transaction, outcome, message)] = mhd_node.audits(last)
    assert (transaction, outcome) == ("ITI-65", 0)
    assert patient in message
    last = mhd_node.last_audit()
    attachment_of(body)["size"] = 6
    sent(fhir, body)
    [(_, transaction, outcome, _)] = mhd_node.audits(last)
    assert (transaction, outcome) == ("ITI-65", 4)


def test_a_large_document(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    data = bytes(range(256)) * 40_000
    body = bundle(patient, data)
    for resource in (attachment_of(body), body["entry"][2]["resource"]):
        resource["contentType"] = "application/pdf"
    taken(fhir, body)
    unique_id = entry_of(body)["masterIdentifier"]["value"].removeprefix("urn:oid:")
    assert mhd_node.retrieve(unique_id).documents == {unique_id: data}


# clients that nobody here wrote ----------------------------------------------------------------------------------


def test_fhirpy(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    client = SyncFHIRClient(fhir.base)
    answer = client.execute("", method="post", data=bundle(patient))
    assert answer["type"] == "transaction-response"
    resource = client.resource(
        "DocumentReference", **{k: v for k, v in simplified(patient).items() if k != "resourceType"}
    )
    resource.save()
    assert resource["id"] in uuids(mhd_node, fhir, patient)
    assert len(uuids(mhd_node, fhir, patient)) == 2


def test_fhir_kit_client(mhd_node: Node, fhir: FhirPeer, patient: str) -> None:
    def kit(call: str, argument: Any) -> Any:
        return fhir.npm(base=fhir.base, call=call, argument=argument)

    done = kit("transaction", {"body": bundle(patient)})
    assert done["answer"]["type"] == "transaction-response", done
    created = kit("create", {"resourceType": "DocumentReference", "body": simplified(patient)})
    assert created["status"] == 201, created
    wrong = bundle(patient)
    attachment_of(wrong)["size"] = 6
    assert kit("transaction", {"body": wrong})["answer"]["resourceType"] == "OperationOutcome"
    assert len(uuids(mhd_node, fhir, patient)) == 2


def test_the_capability_statement_says_so(fhir: FhirPeer) -> None:
    statement = fhir.get("metadata")
    [rest] = statement["rest"]
    assert "transaction" in [i["code"] for i in rest["interaction"]]
    [resource] = [r for r in rest["resource"] if r["type"] == "DocumentReference"]
    assert "create" in [i["code"] for i in resource["interaction"]]
    assert "generate-metadata" in [o["name"] for o in resource["operation"]]
    assert [r["type"] for r in rest["resource"] if r.get("conditionalCreate")] == ["DocumentReference"]
