"""Clients that nobody here wrote, over FHIR: fhirpy, npm fhir-kit-client, and schemathesis on IHE's OpenAPI files."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fhir_peer
import peer
import pytest
from fhir_peer import MHD, OID, PDQM, PIXM, FhirPeer
from fhirpy import AsyncFHIRClient, SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome, ResourceNotFound
from peer import Node

pytestmark = [pytest.mark.node, pytest.mark.slow]

SEED = 20260301
FUZZ_TIME_S = 60


@pytest.fixture(scope="module")
def fhir(node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(node) as found:
        yield found


def person(authority: str, number: str, family: str = "") -> dict[str, Any]:
    name = family or "".join(chr(ord("a") + int(c, 16)) for c in uuid.uuid4().hex)[:12].capitalize()
    return {
        "resourceType": "Patient",
        "identifier": [{"system": f"{OID}{authority}", "value": number}],
        "active": True,
        "name": [{"family": name, "given": ["Anna"]}],
        "gender": "female",
        "birthDate": "1970-05-06",
    }


def test_the_tables_are_those_of_the_published_definitions() -> None:
    from tools import fhir_rules, fhir_tables

    folder = fhir_peer.installed("npm-fhir-r4", "hl7.fhir.r4.examples@4.0.1")
    for tool in (fhir_tables, fhir_rules):
        made = tool.table(folder / "node_modules" / "hl7.fhir.r4.examples")
        assert tool.PATH.read_text("utf-8") == made


# fhirpy ----------------------------------------------------------------------------------------------------------


def test_fhirpy(fhir: FhirPeer) -> None:
    client = SyncFHIRClient(fhir.base)
    number = peer.number()
    given = {k: v for k, v in person(fhir.authority, number).items() if k != "resourceType"}
    resource = client.resource("Patient", **given)
    saved = client.resources("Patient").search(identifier=fhir.token(number)).update(resource)
    assert (saved[0] if isinstance(saved, tuple) else saved)["id"] == number
    read = client.reference("Patient", number).to_resource()
    assert read["birthDate"] == "1970-05-06"
    family = read.get_by_path(["name", 0, "family"])
    found = client.resources("Patient").search(family=family, birthdate__ge="1970").fetch_all()
    assert [p["id"] for p in found] == [number]
    assert client.resources("Patient").search(family=family).count() == 1
    answer = client.execute("Patient/$ihe-pix", method="get", params={"sourceIdentifier": fhir.token(number)})
    assert answer["resourceType"] == "Parameters"
    matched = client.execute("Patient/$match", method="post", data=person(fhir.authority, number, family))
    assert matched["entry"][0]["resource"]["id"] == number
    with pytest.raises(ResourceNotFound):
        client.reference("Patient", "none").to_resource()
    with pytest.raises(OperationOutcome) as refused:
        client.resources("Patient").search(birthdate="yesterday").fetch()
    assert "http.birthdate" in str(refused.value)


async def test_fhirpy_follows_pages(fhir: FhirPeer) -> None:
    family = "".join(chr(ord("a") + int(c, 16)) for c in uuid.uuid4().hex)[:12].capitalize()
    numbers = set()
    for day in range(1, 8):
        number = peer.number()
        fhir.fed({**person(fhir.authority, number, family), "birthDate": f"19{day}0-01-01"})
        numbers.add(number)
    client = AsyncFHIRClient(fhir.base)
    found = await client.resources("Patient").search(family=family).limit(3).fetch_all()
    assert {p["id"] for p in found} == numbers
    assert len(found) == len(numbers)


# fhir-kit-client -------------------------------------------------------------------------------------------------


def kit(fhir: FhirPeer, call: str, argument: Any = None) -> Any:
    return fhir.npm(base=fhir.base, call=call, argument=argument)


def test_fhir_kit_client(fhir: FhirPeer) -> None:
    number = peer.number()
    resource = person(fhir.authority, number)
    created = kit(fhir, "update", {
        "resourceType": "Patient", "searchParams": {"identifier": fhir.token(number)}, "body": resource})  # fmt: skip
    assert created["status"] == 201, created
    family = resource["name"][0]["family"]
    assert kit(fhir, "read", {"resourceType": "Patient", "id": number})["answer"]["id"] == number
    found = kit(fhir, "search", {"resourceType": "Patient", "searchParams": {"family": family, "_count": 1}})["answer"]
    assert (found["total"], found["entry"][0]["resource"]["id"]) == (1, number)
    posted = kit(fhir, "search", {
        "resourceType": "Patient", "searchParams": {"family": family}, "options": {"postSearch": True}})["answer"]  # fmt: skip
    assert posted["total"] == 1
    pix = kit(fhir, "operation", {
        "name": "ihe-pix", "resourceType": "Patient", "method": "GET", "input": {"sourceIdentifier": fhir.token(number)}})  # fmt: skip
    assert pix["answer"]["resourceType"] == "Parameters"
    match = kit(fhir, "operation", {"name": "match", "resourceType": "Patient", "input": resource})
    assert match["answer"]["entry"][0]["resource"]["id"] == number
    assert kit(fhir, "capabilityStatement", {})["answer"]["fhirVersion"] == "4.0.1"
    missing = kit(fhir, "read", {"resourceType": "Patient", "id": "none"})
    assert missing["status"] == 404
    assert missing["answer"]["resourceType"] == "OperationOutcome"


def test_fhir_kit_client_follows_pages(fhir: FhirPeer) -> None:
    family = "".join(chr(ord("a") + int(c, 16)) for c in uuid.uuid4().hex)[:12].capitalize()
    for day in range(1, 4):
        fhir.fed({**person(fhir.authority, peer.number(), family), "birthDate": f"19{day}0-01-01"})
    bundle = kit(fhir, "search", {"resourceType": "Patient", "searchParams": {"family": family, "_count": 2}})["answer"]
    following = kit(fhir, "nextPage", {"bundle": bundle})["answer"]
    assert [len(b["entry"]) for b in (bundle, following)] == [2, 1]


# documents ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documents(node: Node) -> tuple[str, list[str]]:
    """A patient's id and the ids of their documents."""
    cx = node.patient()
    entries = [node.entry(cx, creation_time=f"2024010{day}", content=b"%d" % day) for day in range(1, 6)]
    for entry in entries:
        node.provided(node.submission(cx, entry))
    return cx.partition("^")[0], [e.id[9:] for e in entries]


def test_fhirpy_reads_documents(fhir: FhirPeer, documents: tuple[str, list[str]]) -> None:
    client, (patient, ids) = SyncFHIRClient(fhir.base), documents
    query = client.resources("DocumentReference").search(patient=patient, status="current", creation__ge="2024-01-02")
    assert query.count() == 4
    found = query.sort("creation").limit(2).fetch_all()
    assert [d["id"] for d in found] == ids[1:]
    assert found[0].get_by_path(["content", 0, "attachment", "creation"]) == "2024-01-02"
    binary = client.reference("Binary", ids[0]).to_resource()
    assert (binary["contentType"], binary["data"]) == ("text/plain", "MQ==")
    lists = client.resources("List").search(patient=patient, code="submissionset").include("List", "item").fetch_raw()
    assert {e.resource["id"] for e in lists.entry if e.search["mode"] == "include"} == set(ids)


def test_fhirclient_reads_documents(fhir: FhirPeer, documents: tuple[str, list[str]]) -> None:
    from fhirclient.models.documentreference import DocumentReference
    from fhirclient.models.list import List
    from fhirclient.server import FHIRServer

    server, (patient, ids) = FHIRServer(None, base_uri=fhir.base), documents
    found = list(DocumentReference.where({"patient": patient, "_count": "2"}).perform_resources_iter(server))
    assert [d.id for d in found] == ids[::-1]
    read = DocumentReference.read(ids[0], server)
    assert read.content[0].attachment.url == f"{fhir.base}/Binary/{ids[0]}"
    sets = list(List.where({"patient": patient, "code": "submissionset"}).perform_resources_iter(server))
    assert len(sets) == 5


def test_fhir_kit_client_reads_documents(fhir: FhirPeer, documents: tuple[str, list[str]]) -> None:
    patient, ids = documents
    asked = {"resourceType": "DocumentReference", "searchParams": {"patient": patient, "_count": 3}}
    first = kit(fhir, "search", asked)["answer"]
    second = kit(fhir, "nextPage", {"bundle": first})["answer"]
    assert [e["resource"]["id"] for b in (first, second) for e in b["entry"]] == ids[::-1]
    posted = kit(fhir, "search", {**asked, "options": {"postSearch": True}})["answer"]
    assert posted["total"] == 5
    assert kit(fhir, "read", {"resourceType": "DocumentReference", "id": ids[0]})["answer"]["id"] == ids[0]


# schemathesis ----------------------------------------------------------------------------------------------------

OPENAPI = (
    PIXM / "openapi" / "IHE.PIXm.Manager.openapi.json",
    PDQM / "openapi" / "IHE.PDQm.PatientDemographicsSupplier.openapi.json",
    PDQM / "openapi" / "IHE.PDQm.PatientDemographicsSupplierMatch.openapi.json",
    MHD / "openapi" / "IHE.MHD.DocumentResponder.openapi.json",
)


@pytest.mark.parametrize("path", OPENAPI, ids=lambda p: p.name.split(".openapi")[0])
def test_schemathesis(fhir: FhirPeer, path: Path, tmp_path: Path) -> None:
    """Whatever IHE's description allows is answered without a fault of ours, in a documented media type."""
    if not path.exists():
        pytest.skip("IHE's packages are not beside this repository")
    document = json.loads(path.read_text("utf-8-sig"))
    for operations in document["paths"].values():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {}) if isinstance(operation, dict) else {}
            for media in content.values():
                media["schema"] = {"type": "object"}  # the schemas it refers to are on HL7's server
            for answer in operation.get("responses", {}).values() if isinstance(operation, dict) else ():
                for media in answer.get("content", {}).values():
                    media.pop("schema", None)
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(document))
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", str(description), "--url", fhir.base, "--seed", str(SEED),
        "--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--max-time", "15", "--workers", "1",
        "--checks", "not_a_server_error,content_type_conformance", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=FUZZ_TIME_S)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
