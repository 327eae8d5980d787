"""RESTful ATNA at a running node: what others record comes back as it came, what the node records is BALP."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import peer
import pytest
from fhir_peer import valid

pytestmark = pytest.mark.node

BALP = peer.SHARED / "data" / "ihe" / "ihe-packages" / "ihe.iti.balp-1.1.4" / "package"
PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
EXAMPLES = sorted(BALP.glob("example/AuditEvent-*.json"))
JSON = {"Content-Type": "application/fhir+json"}
ALWAYS = "date=ge2000-01-01"


class Log:
    """The log of a node, as an Audit Consumer sees it."""

    def __init__(self, node: peer.Node) -> None:
        self.base = node.endpoints["fhir"]
        self.http = httpx.Client(timeout=60)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return self.http.post(f"{self.base}{path}", content=json.dumps(body), headers={**JSON, **headers})

    def read(self, id_: str) -> dict[str, Any]:
        response = self.http.get(f"{self.base}/AuditEvent/{id_}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        valid(found)
        return found

    def page(self, query: str) -> dict[str, Any]:
        response = self.http.get(query if query.startswith("http") else f"{self.base}/AuditEvent?{query}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        for entry in found.get("entry", ()):
            valid(entry["resource"])
        return found

    def find(self, query: str) -> list[dict[str, Any]]:
        """All pages."""
        found: list[dict[str, Any]] = []
        page = self.page(query)
        while True:
            found += [e["resource"] for e in page.get("entry", ())]
            link = next((x["url"] for x in page["link"] if x["relation"] == "next"), None)
            if link is None:
                return found
            page = self.page(link)


@pytest.fixture(scope="module")
def log(node: peer.Node) -> Iterator[Log]:
    found = Log(node)
    yield found
    found.http.close()


def without_id(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name != "id"}


@pytest.mark.skipif(not EXAMPLES, reason="the BALP package is not beside this repository")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem.removeprefix("AuditEvent-ex-"))
def test_balp_examples_come_back_as_they_came(log: Log, path: Path) -> None:
    sent = json.loads(path.read_text())
    response = log.post("/AuditEvent", sent)
    assert response.status_code == 201, response.text
    location = response.headers["location"]
    got = log.http.get(location).json()
    assert without_id(got) == without_id(sent)
    assert got["id"] == location.rpartition("/")[2]
    # By what it says: its time, its outcome and its type.
    query = f"date={sent['recorded']}&outcome={sent['outcome']}&type={sent['type']['system']}|{sent['type']['code']}"
    assert got["id"] in {r["id"] for r in log.find(query)}


def test_xml_comes_back_as_the_same_record(log: Log, node: peer.Node) -> None:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><AuditEvent xmlns="http://hl7.org/fhir"><type><code value="rest"/></type>'
        '<recorded value="2026-03-01T10:00:00+01:00"/><outcome value="0"/><agent><who><display value="Łódź"/></who>'
        '<requestor value="true"/></agent><source><observer><display value="x"/></observer></source></AuditEvent>'
    )
    response = log.http.post(
        f"{log.base}/AuditEvent", content=text.encode(), headers={"Content-Type": "application/fhir+xml"}
    )
    assert response.status_code == 201, response.text
    got = log.http.get(response.headers["location"], headers={"Accept": "application/fhir+json"}).json()
    assert got["agent"][0]["who"]["display"] == "Łódź"
    number = response.headers["location"].rpartition("/")[2]
    assert node.rows("SELECT message, format FROM audit_event WHERE audit_id = %s", int(number)) == [(text, "fhir+xml")]


def test_bundle_is_stored_whole_or_not_at_all(log: Log, node: peer.Node) -> None:
    record = json.loads(EXAMPLES[0].read_text()) if EXAMPLES else None
    if record is None:
        pytest.skip("the BALP package is not beside this repository")
    entry = {"resource": record, "request": {"method": "POST", "url": "AuditEvent"}}
    since = node.last_audit()
    response = log.post("", {"resourceType": "Bundle", "type": "batch", "entry": [entry, entry, entry]})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["type"] == "batch-response"
    assert [e["response"]["status"] for e in answer["entry"]] == ["201 Created"] * 3
    assert len(node.audits(since)) == 3
    for each in answer["entry"]:
        assert without_id(
            log.http.get(f"{log.base}/{each['response']['location']}".rpartition("/_history")[0]).json()
        ) == (without_id(record))

    since = node.last_audit()
    wrong = {**entry, "request": {"method": "DELETE", "url": "AuditEvent/1"}}
    response = log.post("", {"resourceType": "Bundle", "type": "batch", "entry": [entry, wrong]})
    assert response.status_code == 422
    assert [(t, o) for _, t, o, _ in node.audits(since)] == [("ITI-20", 4)], "one record, of the refusal"


def test_bundle_of_something_else_still_goes_to_whom_it_is_for(log: Log) -> None:
    response = log.post("", {"resourceType": "Bundle", "type": "batch", "entry": []})
    assert response.status_code in (400, 422)


def registered(node: peer.Node) -> tuple[Any, str]:
    patient = node.patient()
    return patient, node.provided(node.submission(patient, node.entry(patient))).entries[0].unique_id


def test_own_records_are_balp(log: Log, node: peer.Node) -> None:
    patient, unique_id = registered(node)
    node.retrieve(unique_id)
    logical = str(patient).partition("^")[0]
    assert log.http.get(f"{log.base}/Patient/{logical}").status_code == 200
    assert log.http.get(f"{log.base}/DocumentReference?patient=Patient/{logical}&status=current").status_code == 200

    found = log.find(f"{ALWAYS}&patient=Patient/{logical}")
    by_transaction: dict[str, dict[str, Any]] = {}
    for resource in found:
        codes = [c["code"] for c in resource["subtype"]]
        by_transaction[next(c for c in codes if c.startswith("ITI-"))] = resource
        patients = [e for e in resource["entity"] if e.get("role", {}).get("code") == "1"]
        assert [p["what"]["reference"] for p in patients] == [f"Patient/{logical}"], "one record, one patient"
    assert by_transaction["ITI-41"]["meta"]["profile"] == [f"{PROFILE}PrivacyDisclosure.Recipient"]
    assert by_transaction["ITI-43"]["meta"]["profile"] == [f"{PROFILE}PrivacyDisclosure.Source"]
    assert by_transaction["ITI-78"]["meta"]["profile"] == [f"{PROFILE}PatientRead"]
    assert by_transaction["ITI-67"]["meta"]["profile"] == [f"{PROFILE}PatientQuery"]
    query = next(e for e in by_transaction["ITI-67"]["entity"] if e.get("role", {}).get("code") == "24")
    assert f"patient=Patient/{logical}" in base64.b64decode(query["query"]).decode()
    for resource in by_transaction.values():
        assert sum("network" in a for a in resource["agent"]) == 2


def test_an_id_is_looked_for_beside_all_else_that_is_asked(log: Log, node: peer.Node) -> None:
    (mine, _), (other, _) = registered(node), registered(node)
    mine, other = (str(each).partition("^")[0] for each in (mine, other))
    [found] = log.find(f"{ALWAYS}&patient={mine}&subtype=ITI-41")
    asked = f"_id={found['id']}"
    assert [each["id"] for each in log.find(f"{asked}&{ALWAYS}&patient={mine}&outcome=0")] == [found["id"]]
    for more in (f"{ALWAYS}&patient={other}", "date=lt2020-01-01", f"{ALWAYS}&subtype=ITI-43", f"{ALWAYS}&outcome=8"):
        assert log.find(f"{asked}&{more}") == [], more


def test_looking_at_the_log_is_logged(log: Log, node: peer.Node) -> None:
    patient, _ = registered(node)
    logical = str(patient).partition("^")[0]
    assert log.find(f"{ALWAYS}&patient={logical}")
    again = log.find(f"{ALWAYS}&patient={logical}&subtype=ITI-81")
    assert len(again) == 1
    assert again[0]["outcome"] == "0"


def test_pages_lose_and_repeat_nothing(log: Log, node: peer.Node) -> None:
    patient, unique_id = registered(node)
    logical = str(patient).partition("^")[0]
    for _ in range(4):
        node.retrieve(unique_id)
    first = log.page(f"{ALWAYS}&patient={logical}&subtype=ITI-43&_count=3")
    assert len(first["entry"]) == 3
    found = log.find(f"{ALWAYS}&patient={logical}&subtype=ITI-43&_count=3")
    assert len({r["id"] for r in found}) == len(found) == 4


@pytest.mark.parametrize(
    ("query", "status"),
    [("outcome=0", 400), ("date=yesterday", 400), (f"{ALWAYS}&_sort=date", 400), (f"{ALWAYS}&_cursor=x", 410)],
)
def test_bad_questions_are_refused(log: Log, node: peer.Node, query: str, status: int) -> None:
    since = node.last_audit()
    response = log.http.get(f"{log.base}/AuditEvent?{query}")
    assert response.status_code == status, response.text
    assert [(t, o > 0) for _, t, o, _ in node.audits(since)] == [("ITI-81", True)]
