"""Publishing over FHIR at a facility: it goes to the registry of the region by ITI-42, which nothing else is asked of."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import mhd_bundles
import peer
import pytest
from fhir_peer import JSON
from link_proxy import State
from mhd_bundles import BINARY, DOCUMENT, FOLDER, MINIMAL, RFC_3986, bundle, document_reference, item, listed
from pair import Pair

pytestmark = pytest.mark.node
ENTRY = "Bundle.entry[1].resource"


@pytest.fixture
def patient(pair: Pair) -> str:
    """The number of somebody whom the region knows."""
    return pair.at_region().patient().partition("^")[0]


def post(pair: Pair, body: Any, path: str = "", **headers: str) -> Any:
    url = pair.facility.endpoints["fhir"] + (f"/{path}" if path else "")
    return pair.at_facility().http.post(url, json=body, headers={"Content-Type": JSON, **headers})


def taken(pair: Pair, body: Any) -> list[str]:
    """The ids that the answers name."""
    response = post(pair, mhd_bundles.polish(body))
    assert response.status_code == 200, response.text
    return [e["response"]["location"].rpartition("/")[2] for e in response.json()["entry"]]


def refused(pair: Pair, body: Any, path: str = "", **headers: str) -> set[tuple[str, str]]:
    response = post(pair, body, path, **headers)
    assert 400 <= response.status_code < 500, response.text
    issues = response.json()["issue"]
    return {
        (i["details"]["coding"][0]["code"], i.get("expression", [""])[0]) for i in issues if i["severity"] == "error"
    }


def cx(pair: Pair, patient: str) -> str:
    return f"{patient}^^^&{pair.region.endpoints['assigning_authority']}&ISO"


def found(pair: Pair, patient: str, status: str = peer.APPROVED) -> set[str]:
    return {e.get("id")[9:] for e in pair.at_region().found(cx(pair, patient), status).entries}


def test_published_here_found_there(pair: Pair, patient: str) -> None:
    body = bundle(patient, b"zazolc")
    _, document, binary = taken(pair, body)
    assert binary == document
    [entry] = pair.at_region().found(cx(pair, patient)).entries
    assert entry.get("id") == f"urn:uuid:{document}"
    assert peer.slot_of(entry, "repositoryUniqueId") == [pair.facility_repository]
    unique_id = peer.identifier_of(entry, "entryUnique")
    assert pair.at_facility().retrieve(unique_id).documents == {unique_id: b"zazolc"}
    assert taken(pair, body)[1] == document  # a repetition


def test_relations_and_folders_by_entry_uuid(pair: Pair, patient: str) -> None:
    body = bundle(patient)
    body["entry"].append(item(listed("folder", patient, DOCUMENT), FOLDER))
    body["entry"][0]["resource"]["entry"].append({"item": {"reference": FOLDER}})
    _, old, _, folder = taken(pair, body)
    target = {"reference": f"DocumentReference/{old}"}
    body = bundle(patient, relatesTo=[{"code": "replaces", "target": target}])
    body["entry"].append(item(listed("folder", patient, DOCUMENT), FOLDER, "PUT", f"List/{folder}"))
    _, new, _, again = taken(pair, body)
    assert again == folder
    assert found(pair, patient) == {new}
    assert found(pair, patient, peer.DEPRECATED) == {old}
    answer = pair.at_region().query("GetFolderAndContents", XDSFolderEntryUUID=f"'urn:uuid:{folder}'")
    assert {e.get("id")[9:] for e in answer.entries} == {old, new}


def test_simplified_publish(pair: Pair, patient: str) -> None:
    body = mhd_bundles.polish({"entry": [{"resource": document_reference(patient)}]})["entry"][0]["resource"]
    body["content"][0]["attachment"]["data"] = base64.b64encode(b"tresc").decode()
    response = post(pair, body, "DocumentReference")
    assert response.status_code == 201, response.text
    made = response.json()
    assert response.headers["location"].endswith(f"/DocumentReference/{made['id']}")
    assert made["content"][0]["attachment"]["size"] == 5
    assert made["subject"] == {"reference": f"Patient/{patient}"}
    assert found(pair, patient) == {made["id"]}
    del body["type"]
    body["masterIdentifier"]["value"] = f"urn:oid:{peer.oid()}"
    # What lacks metadata is for the region to take or not: ITI-42 of MHD's minimal metadata is refused by default.
    assert refused(pair, body, "DocumentReference") == {("XDSRegistryMetadataError", "DocumentReference")}


def test_what_cannot_be_looked_up(pair: Pair, patient: str) -> None:
    unknown = {"identifier": {"system": RFC_3986, "value": f"urn:oid:{peer.oid()}"}}
    body = mhd_bundles.polish(bundle(patient, relatesTo=[{"code": "replaces", "target": unknown}]))
    assert refused(pair, body) == {("UnresolvedReferenceException", f"{ENTRY}.relatesTo[0]")}
    body = mhd_bundles.polish(bundle(patient))
    master = body["entry"][1]["resource"]["masterIdentifier"]
    condition = f"identifier={RFC_3986}|{master['value']}"
    body["entry"][1]["request"]["ifNoneExist"] = condition
    assert refused(pair, body) == {("UnresolvedReferenceException", "Bundle.entry[1].request.ifNoneExist")}
    alone = document_reference(patient)
    alone["content"][0]["attachment"]["data"] = base64.b64encode(b"tresc").decode()
    told = refused(pair, alone, "DocumentReference", **{"If-None-Exist": condition})
    assert told == {("UnresolvedReferenceException", "http.If-None-Exist")}
    body = mhd_bundles.polish(bundle(patient))
    body["entry"].append(item(listed("folder", patient, DOCUMENT), FOLDER, "PUT", "List"))
    assert refused(pair, body) == {("UnresolvedReferenceException", "Bundle.entry[3].resource")}
    body = mhd_bundles.polish(bundle(patient))
    for entry in body["entry"][:2]:
        entry["resource"]["subject"] = {"identifier": {"system": "urn:oid:1.2.616.43", "value": "17"}}
    assert refused(pair, body) == {("XDSUnknownPatientId", f"{ENTRY}.subject")}
    assert found(pair, patient) == set()


def test_what_the_region_refuses(pair: Pair, patient: str) -> None:
    nowhere = {"reference": f"DocumentReference/{uuid.uuid4()}"}
    body = mhd_bundles.polish(bundle(patient, relatesTo=[{"code": "replaces", "target": nowhere}]))
    assert refused(pair, body) == {("UnresolvedReferenceException", f"{ENTRY}.relatesTo[0]")}
    body = mhd_bundles.polish(bundle("nobody"))
    assert ("XDSUnknownPatientId", "Bundle.entry[0].resource.subject") in refused(pair, body)
    body = mhd_bundles.polish(bundle(patient, profile=MINIMAL))
    del body["entry"][1]["resource"]["type"]
    assert refused(pair, body)
    assert found(pair, patient) == set()


def test_while_the_region_is_away(pair: Pair, patient: str) -> None:
    body = mhd_bundles.polish(bundle(patient))
    pair.link.state = State.DOWN
    try:
        response = post(pair, body)
    finally:
        pair.link.state = State.UP
    assert response.json()["issue"][0]["details"]["coding"][0]["code"] == "XDSRegistryNotAvailable"
    assert BINARY in str(body)
    pair.settled()
    assert len(found(pair, patient)) == 1
    assert taken(pair, body)[1] in found(pair, patient)
