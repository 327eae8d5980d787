"""PCF over FHIR (ITI-108) against a running node: IHE's own samples, versions, ends, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fhir_peer
import peer
import pytest
from fhir_peer import FhirPeer, issues

from running import codes_of, running

pytestmark = [pytest.mark.node, pytest.mark.slow]

JSON = "application/fhir+json"
_PCF = Path("data/ihe/ihe-pcf-sushi-compiled")
SAMPLES = peer.SHARED / _PCF
CONSENTS = sorted(SAMPLES.glob("Consent-*.json"))
PATIENT = "Patient/ex-patient"


def sample(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text())
    return read


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[peer.Node]:
    """A laboratory into which the samples were loaded as a world; it enforces nothing when it is asked."""
    folder = tmp_path_factory.mktemp("consents")
    world = folder / "world"
    world.mkdir()
    kinds = ("Organization", "Practitioner", "Group", "Patient", "Encounter", "Consent")
    lines = [json.dumps(sample(p)) for kind in kinds for p in sorted((shared / _PCF).glob(f"{kind}-*.json"))]
    (world / "pcf.ndjson").write_text("\n".join(lines))
    with running(folder, "lab", "--load", world, "--data", folder / "data", "--workers", "1"):
        pass
    with running(folder, "lab", "--data", folder / "data", "--workers", "2") as endpoints:
        found = peer.Node(endpoints, codes_of(None))
        yield found
        found.close()


@pytest.fixture(scope="module")
def fhir(region: peer.Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(region) as found:
        yield found


def send(fhir: FhirPeer, method: str, path: str, resource: dict[str, Any], **headers: str) -> Any:
    return fhir.ask(method, path, json=resource, headers={"Content-Type": JSON, **headers})


def said(resource: dict[str, Any]) -> dict[str, Any]:
    """What a Consent says besides its id and version."""
    meta = {k: v for k, v in resource.get("meta", {}).items() if k not in ("versionId", "lastUpdated")}
    return {**{k: v for k, v in resource.items() if k not in ("id", "meta")}, "meta": meta}


def test_there_are_all_samples() -> None:
    assert len(CONSENTS) in (0, 23)


@pytest.mark.parametrize("path", CONSENTS, ids=lambda p: p.stem)
def test_a_sample_is_loaded_and_recorded_and_read_back(fhir: FhirPeer, path: Path) -> None:
    sent = sample(path)
    loaded = fhir.get(f"Consent/{sent['id']}")
    assert said(loaded) == said(sent)
    made = send(fhir, "POST", "Consent", sent)
    assert made.status_code == 201, made.text
    id_ = made.json()["id"]
    assert id_ != sent["id"]
    assert made.headers["location"].endswith(f"/Consent/{id_}/_history/1")
    assert made.headers["etag"] == 'W/"1"'
    read = fhir.both("GET", f"Consent/{id_}")
    assert said(read.json()) == said(sent)
    assert fhir.ask("DELETE", f"Consent/{id_}").status_code == 204


def basic(fhir: FhirPeer) -> tuple[dict[str, Any], str]:
    """A Consent of a patient of its own, and its id."""
    patient = f"p{peer.number()}"
    name = [{"family": "Lis"}]
    identifier = [{"system": f"urn:oid:{fhir.authority}", "value": patient}]
    fhir.fed({"resourceType": "Patient", "identifier": identifier, "name": name})
    resource = sample(SAMPLES / "Consent-ex-consent-basic-treat.json")
    del resource["id"]
    resource["patient"] = {"reference": f"Patient/{patient}"}
    made = send(fhir, "POST", "Consent", resource)
    assert made.status_code == 201, made.text
    return made.json(), made.json()["id"]


def test_versions_follow_one_another(fhir: FhirPeer, region: peer.Node) -> None:
    first, id_ = basic(fhir)
    changed = {**first, "status": "inactive"}
    assert issues(send(fhir, "PUT", f"Consent/{id_}", changed, **{"If-Match": 'W/"7"'}))[0][1] == "conflict"
    second = send(fhir, "PUT", f"Consent/{id_}", changed, **{"If-Match": 'W/"1"'})
    assert (second.status_code, second.headers["etag"]) == (200, 'W/"2"')
    assert fhir.get(f"Consent/{id_}")["status"] == "inactive"
    assert fhir.get(f"Consent/{id_}/_history/1")["status"] == "active"
    assert fhir.ask("DELETE", f"Consent/{id_}", headers={"If-Match": 'W/"1"'}).status_code in (409, 412)
    assert fhir.ask("DELETE", f"Consent/{id_}").status_code == 204
    assert fhir.ask("DELETE", f"Consent/{id_}").status_code == 204  # again: nothing more happens
    gone = fhir.ask("GET", f"Consent/{id_}")
    assert gone.status_code == 410
    assert said(fhir.get(f"Consent/{id_}/_history/2"))["status"] == "inactive"
    again = send(fhir, "PUT", f"Consent/{id_}", first)
    assert (again.status_code, again.headers["etag"]) == (200, 'W/"4"')
    cached = fhir.ask("GET", f"Consent/{id_}", headers={"If-None-Match": 'W/"4"'})
    assert cached.status_code == 304


def test_a_consent_stays_that_of_its_patient(fhir: FhirPeer) -> None:
    first, id_ = basic(fhir)
    moved = send(fhir, "PUT", f"Consent/{id_}", {**first, "patient": {"reference": PATIENT}})
    assert (moved.status_code, issues(moved)[0][2]) == (400, "Consent.patient")
    assert fhir.get(f"Consent/{id_}")["meta"]["versionId"] == "1"


def test_what_is_not_known_is_refused(fhir: FhirPeer) -> None:
    resource = sample(SAMPLES / "Consent-ex-consent-advanced-normal-focused-psy.json")
    resource["provision"]["provision"][0]["actor"][0]["reference"] = {"reference": "Practitioner/nobody"}
    refused = send(fhir, "POST", "Consent", resource)
    assert issues(refused) == [("error", "not-found", "Consent.provision.provision[0].actor[0].reference")]
    resource["patient"] = {"reference": "Patient/nobody"}
    unknown = send(fhir, "POST", "Consent", resource)
    assert issues(unknown)[0][2] == "Consent.patient"
    assert fhir.ask("GET", "Consent/nothing").status_code == 404
    assert send(fhir, "PUT", "Consent/nothing", {**resource, "id": "nothing"}).status_code == 404


def test_what_is_kept_in_no_document_is_told(fhir: FhirPeer) -> None:
    resource = sample(SAMPLES / "Consent-ex-consent-intermediate-data.json")
    told = send(fhir, "POST", "Consent", resource, Prefer="return=OperationOutcome")
    assert told.status_code == 201
    found = issues(told)
    assert [severity for severity, _, _ in found] == ["information", *["warning"] * 6]
    fhir.ask("DELETE", f"Consent/{told.headers['location'].split('/')[-3]}")


def test_searches(fhir: FhirPeer) -> None:
    first, id_ = basic(fhir)
    patient = first["patient"]["reference"]
    number = patient.partition("/")[2]

    def ids(**parameters: str) -> set[str]:
        bundle = fhir.get("Consent", **parameters)
        found = {e["resource"]["id"] for e in bundle.get("entry", []) if e["search"]["mode"] == "match"}
        assert bundle["total"] == len(found)
        return found

    assert ids(patient=patient, status="active") == {id_}
    assert ids(patient=number) == {id_}
    assert ids(**{"patient.identifier": fhir.token(number), "status": "active"}) == {id_}
    assert ids(patient=patient, status="inactive,draft") == set()
    assert ids(_id=id_) == {id_}
    assert ids(patient=patient, _lastUpdated="lt2020") == set()
    assert ids(patient=patient, _lastUpdated="ge2020") == {id_}
    assert ids(patient="Patient/nobody") == set()
    by_doctor = ids(patient=PATIENT, actor="Practitioner/ex-practitioner")
    assert by_doctor == {f"ex-consent-advanced-normal-focused-{what}" for what in ("psy", "psy-or-sdv", "restricted")}
    fhir.both("GET", f"Consent?patient={PATIENT}&_count=5")
    page = fhir.get("Consent", patient=PATIENT, _count="10")
    seen = [e["resource"]["id"] for e in page["entry"]]
    while following := [link["url"] for link in page["link"] if link["relation"] == "next"]:
        page = fhir.ask("GET", following[0].removeprefix(f"{fhir.base}/")).json()
        seen += [e["resource"]["id"] for e in page["entry"]]
    assert len(seen) == len({*seen}) == page["total"] == 23
    assert fhir.get("Consent", patient=PATIENT, _summary="count")["total"] == 23
    form = fhir.ask("POST", "Consent/_search", data={"patient": patient, "status": "active"})
    assert form.json()["total"] == 1


def test_the_log_tells_who_did_what(fhir: FhirPeer) -> None:
    first, id_ = basic(fhir)
    fhir.get(f"Consent/{id_}")
    send(fhir, "PUT", f"Consent/{id_}", first)
    fhir.ask("DELETE", f"Consent/{id_}")
    fhir.get("Consent", patient=first["patient"]["reference"], status="active")
    log = fhir.get("AuditEvent", date="ge2000", patient=first["patient"]["reference"], _count="50")
    events = [e["resource"] for e in log["entry"] if e["search"]["mode"] == "match"]
    done = {
        (event["action"], profile.rpartition(".")[2])
        for event in events if any(s["code"] == "ITI-108" for s in event["subtype"])
        for profile in event.get("meta", {}).get("profile", [])
    }  # fmt: skip
    expected = {
        ("C", "PatientCreate"),
        ("R", "PatientRead"),
        ("U", "PatientUpdate"),
        ("D", "PatientDelete"),
        ("E", "PatientQuery"),
    }
    assert done >= expected


def test_the_statement_says_so(fhir: FhirPeer) -> None:
    statement = fhir.get("metadata")
    assert "https://profiles.ihe.net/ITI/PCF/CapabilityStatement/IHE.PCF.consentRegistry" in statement["instantiates"]
    [consent] = [r for r in statement["rest"][0]["resource"] if r["type"] == "Consent"]
    wanted = sample(SAMPLES / "CapabilityStatement-IHE.PCF.consentRegistry.json")["rest"][0]["resource"][0]
    codes = {i["code"] for i in consent["interaction"]}
    assert {i["code"] for i in wanted["interaction"]} | {"vread"} == codes
    assert {p["name"] for p in wanted["searchParam"]} == {p["name"] for p in consent["searchParam"]}
