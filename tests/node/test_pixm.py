"""PIXm on a running node: the feed ITI-104 and the query ITI-83, with IHE's examples and their expected answers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import fhir_peer
import peer
import pytest
from fhir_peer import JSON, OID, PIXM, XML, FhirPeer, issues, tokens
from peer import Node

pytestmark = pytest.mark.node

GREEN, BLUE = "1.3.6.1.4.1.21367.13.20.2000", "1.3.6.1.4.1.21367.13.20.3000"
ALICE = ("Patient-MohrAlissa-Red", "Patient-MohrAlice-Red", "Patient-MohrAlice-Green", "Patient-MohrAlice-Blue")


@pytest.fixture(scope="module")
def fhir(node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(node) as found:
        yield found


def example(name: str) -> Any:
    path = PIXM / "example" / f"{name}.json"
    if not path.exists():
        pytest.skip("IHE's packages are not beside this repository")
    return json.loads(path.read_text("utf-8-sig"))


def person(*identifiers: tuple[str, str], **more: Any) -> dict[str, Any]:
    """Somebody whom nothing but the identifiers joins to anybody."""
    unique = "".join(chr(ord("a") + int(c, 16)) for c in uuid.uuid4().hex)
    return {
        "resourceType": "Patient",
        "identifier": [{"system": f"{OID}{a}", "value": v} for v, a in identifiers],
        "active": True,
        "name": [{"family": unique[:14].capitalize(), "given": [unique[14:24].capitalize()]}],
        "gender": "female",
        "birthDate": f"19{peer.number()[-2:].zfill(2)}-01-30",
        **more,
    }


# IHE's examples --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alice(fhir: FhirPeer) -> list[int]:
    """The red, green and blue Alice Mohr; the statuses of the feeds."""
    return [fhir.put(example(f"Patient-{name}")).status_code for name in ALICE]


def test_the_examples_are_created_and_revised(alice: list[int]) -> None:
    assert alice == [201, 200, 201, 201]


@pytest.mark.parametrize("name", ["red-all", "red-to-blue"])
@pytest.mark.parametrize("way", ["get", "post"])
def test_the_examples_have_the_expected_answers(fhir: FhirPeer, alice: list[int], name: str, way: str) -> None:
    request, expected = (
        example(f"Parameters-pixm-request-mohralice-{name}"),
        example(f"Parameters-pixm-response-mohralice-{name}"),
    )
    # The example of red-to-blue asks for green as well, though its answer has blue alone.
    targets = {p["valueString"] for p in request["parameter"] if p["name"] == "targetSystem"}
    expected_tokens = tokens(expected) | ({f"{OID}{GREEN}|IHEGREEN-994"} if f"{OID}{GREEN}" in targets else set())
    given = [p for p in request["parameter"] if p["name"] != "_format"]
    if way == "get":
        response = fhir.both("GET", "Patient/$ihe-pix", params=[(p["name"], p["valueString"]) for p in given])
    else:
        body = {**request, "parameter": given}
        response = fhir.both("POST", "Patient/$ihe-pix", json=body, headers={"Content-Type": JSON})
    assert response.status_code == 200
    answer = response.json()
    assert tokens(answer) == expected_tokens
    references = [p["valueReference"]["reference"] for p in answer["parameter"] if p["name"] == "targetId"]
    assert len(references) == 1
    assert fhir.get(references[0])["name"][0]["family"] == "MOHR"


def test_an_operation_answers_in_the_format_among_its_parameters(fhir: FhirPeer, alice: list[int]) -> None:
    request = example("Parameters-pixm-request-mohralice-red-to-blue")
    response = fhir.ask("POST", "Patient/$ihe-pix", json=request, headers={"Content-Type": JSON})
    assert response.headers["content-type"].startswith(XML)


def test_the_source_identifier_that_is_not_found(fhir: FhirPeer, alice: list[int]) -> None:
    response = fhir.both("GET", "Patient/$ihe-pix", params={"sourceIdentifier": fhir.token("IHERED-none")})
    assert response.status_code == 404
    [expected] = example("OperationOutcome-pixm-response-error-not-found")["issue"]
    [said] = response.json()["issue"]
    assert {k: said[k] for k in ("severity", "code")} == {k: expected[k] for k in ("severity", "code")}
    assert said["details"]["text"] == expected["details"]["text"]
    assert said["diagnostics"].startswith(expected["details"]["text"])


def test_the_resolved_duplicate_is_retired_and_reads_as_replaced(fhir: FhirPeer, alice: list[int]) -> None:
    fhir.fed(example("Patient-Patient-MaidenAlice-Red"))
    response = fhir.put(example("Patient-Patient-MohrMaidenResolvedByMohrMalice-Red"))
    assert response.status_code == 200, response.text
    assert fhir.pix(fhir.token("IHERED-m94")).status_code == 404
    subsumed = fhir.both("GET", "Patient/IHERED-m94").json()
    assert subsumed["active"] is False
    [link] = subsumed["link"]
    assert (link["type"], link["other"]["reference"]) == ("replaced-by", "Patient/IHERED-994")
    # The same message again only repeats what stands.
    assert fhir.put(example("Patient-Patient-MohrMaidenResolvedByMohrMalice-Red")).status_code == 200
    # Who was merged away feeds nothing any more.
    again = fhir.put(example("Patient-Patient-MaidenAlice-Red"))
    assert again.status_code == 404
    assert issues(again) == [("error", "not-found", "Patient.identifier[0]")]


# the feed --------------------------------------------------------------------------------------------------------


def test_created_patients_have_an_address(fhir: FhirPeer) -> None:
    response = fhir.fed(person((peer.number(), "1.2.616.2")))
    assert response.status_code == 201
    location = response.headers["location"]
    assert location.startswith(f"{fhir.base}/Patient/")
    read = fhir.ask("GET", location.removeprefix(f"{fhir.base}/"))
    assert read.headers["etag"] == f'W/"{read.json()["meta"]["versionId"]}"'
    assert response.json()["id"] == read.json()["id"]


def test_revising_replaces_what_the_source_said(fhir: FhirPeer) -> None:
    number = peer.number()
    first = person((number, fhir.authority), address=[{"line": ["Długa 1"], "city": "Kraków"}], maritalStatus={
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "M"}]})  # fmt: skip
    fhir.fed(first)
    fhir.fed({k: v for k, v in first.items() if k not in ("address", "maritalStatus")} | {"birthDate": "1971"})
    read = fhir.both("GET", f"Patient/{number}").json()
    assert "address" not in read
    assert "maritalStatus" not in read
    assert read["birthDate"] == "1971"


def test_mothers_maiden_name_goes_both_ways(fhir: FhirPeer) -> None:
    number = peer.number()
    url = "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName"
    fhir.fed(person((number, fhir.authority), extension=[{"url": url, "valueString": "Wiśniewska-Ź"}]))
    read = fhir.both("GET", f"Patient/{number}").json()
    assert [e["valueString"] for e in read["extension"] if e["url"] == url] == ["Wiśniewska-Ź"]


def test_xml_is_fed_as_json_is(fhir: FhirPeer) -> None:
    number = peer.number()
    xml = (
        f'<Patient xmlns="http://hl7.org/fhir"><identifier><system value="{OID}{fhir.authority}"/><value value="{number}"/>'
        '</identifier><name><family value="Żółć"/><given value="Ewa"/></name><gender value="female"/></Patient>'
    )
    response = fhir.ask(
        "PUT", "Patient", params={"identifier": fhir.token(number)}, content=xml.encode(), headers={"Content-Type": XML}
    )
    assert response.status_code == 201, response.text
    assert fhir.get(f"Patient/{number}")["name"] == [{"family": "Żółć", "given": ["Ewa"]}]


def test_preferences_of_the_answer(fhir: FhirPeer) -> None:
    resource = person((peer.number(), fhir.authority))
    assert fhir.put(resource, Prefer="return=minimal").content == b""
    assert fhir.put(resource, Prefer="return=OperationOutcome").json()["issue"][0]["severity"] == "information"
    assert fhir.put(resource, Prefer="return=representation").json()["resourceType"] == "Patient"


def test_if_match(fhir: FhirPeer) -> None:
    resource = person((number := peer.number(), fhir.authority))
    unknown = fhir.put(resource, **{"If-Match": 'W/"1"'})
    assert (unknown.status_code, issues(unknown)[0][1]) == (412, "conflict")
    fhir.fed(resource)
    version = fhir.get(f"Patient/{number}")["meta"]["versionId"]
    stale = fhir.put({**resource, "birthDate": "1971"}, **{"If-Match": f'W/"{int(version) + 7}"'})
    assert (stale.status_code, issues(stale)[0][1]) == (412, "conflict")
    assert fhir.get(f"Patient/{number}")["birthDate"] == resource["birthDate"]
    assert fhir.put({**resource, "birthDate": "1971"}, **{"If-Match": f'W/"{version}"'}).status_code == 200


def test_removed_patients_are_found_no_more(fhir: FhirPeer) -> None:
    local = peer.number()
    resource = person((local, "1.2.616.2"))
    location = fhir.fed(resource).headers["location"].removeprefix(f"{fhir.base}/")
    token = fhir.token(local, "1.2.616.2")
    assert fhir.remove(token).status_code == 204
    assert fhir.pix(token).status_code == 404
    assert fhir.search(family=resource["name"][0]["family"])["total"] == 0
    gone = fhir.ask("GET", location)
    assert (gone.status_code, issues(gone)[0][1]) == (410, "deleted")
    assert fhir.remove(token).status_code == 204, "what is not there is removed already"
    assert fhir.remove(fhir.token("never", "1.2.616.2")).status_code == 204


BAD: dict[str, tuple[dict[str, Any], int, tuple[str, str]]] = {
    "no identifier": ({"identifier": None}, 400, ("required", "Patient.identifier")),
    "no name": ({"name": None}, 400, ("required", "Patient.name")),
    "another identifier": ({"identifier": [{"system": "urn:oid:1.2", "value": "1"}]}, 422, ("business-rule", "Patient.identifier")),
    "no system": ({"more": {"value": "1"}}, 400, ("required", "Patient.identifier[1].system")),
    "an unknown system": ({"more": {"system": "http://x", "value": "1"}}, 404, ("not-found", "Patient.identifier[1].system")),
    "inactive without a link": ({"active": False}, 422, ("business-rule", "Patient.active")),
    "an unknown survivor": (
        {"active": False, "link": [{"other": {"reference": "Patient/none"}, "type": "replaced-by"}]},
        404,
        ("not-found", "Patient.link[0].other"),
    ),
    "itself": (
        {"active": False, "link": [{"other": {"reference": "Patient/self"}, "type": "replaced-by"}]},
        409,
        ("conflict", "Patient.identifier[0]"),
    ),
    "contained in disguise": ({"contained": [{"resourceType": "Colour"}]}, 400, ("structure", "Patient.contained[0]")),
    "an unknown element": ({"colour": "red"}, 400, ("structure", "Patient.colour")),
    "a wrong date": ({"birthDate": "30.01.1958"}, 400, ("value", "Patient.birthDate")),
    "a day that is not": ({"birthDate": "1958-02-30"}, 400, ("value", "Patient.birthDate")),
    "a wrong code": ({"gender": "f"}, 400, ("code-invalid", "Patient.gender")),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_feed_is_refused_precisely_and_changes_nothing(fhir: FhirPeer, node: Node, what: str) -> None:
    changes, status, issue = BAD[what]
    number = peer.number()
    resource = person((number, fhir.authority))
    fhir.fed(resource)
    before = fhir.get(f"Patient/{number}")
    last = node.last_audit()
    more = changes.get("more")
    bad = {**resource, **{k: v for k, v in changes.items() if k != "more"}}
    bad["identifier"] = [*resource["identifier"], more] if more else bad["identifier"]
    text = json.dumps({k: v for k, v in bad.items() if v is not None}).replace("Patient/self", f"Patient/{number}")
    response = fhir.put(json.loads(text), fhir.token(number))
    assert response.status_code == status, response.text
    assert [i[1:] for i in issues(response)] == [issue]
    assert [o for _, t, o, _ in node.audits(last) if t == "ITI-104"] == [4]
    assert fhir.get(f"Patient/{number}") == before


def test_all_that_is_wrong_is_told_at_once(fhir: FhirPeer) -> None:
    response = fhir.put({"resourceType": "Patient", "gender": "f", "active": False}, "http://x|1")
    assert {e for _, _, e in issues(response)} == {
        "http.identifier.system", "Patient.identifier", "Patient.name", "Patient.gender", "Patient.active",
    }  # fmt: skip


# the query -------------------------------------------------------------------------------------------------------


def test_without_targets_all_identifiers_but_the_source(fhir: FhirPeer) -> None:
    a, b = peer.number(), peer.number()
    location = fhir.fed(person((a, "1.2.616.2"), (b, "1.2.616.3"))).headers["location"]
    logical = location.rpartition("/")[2]
    assert fhir.identifiers(fhir.token(a, "1.2.616.2")) == {fhir.token(b, "1.2.616.3"), fhir.token(logical)}
    # Where the Patient resource itself is asked about, by the address of this service.
    assert fhir.token(a, "1.2.616.2") in fhir.identifiers(f"{fhir.base}|Patient/{logical}")


def test_no_identifier_in_the_target_is_an_empty_answer(fhir: FhirPeer) -> None:
    a = peer.number()
    fhir.fed(person((a, "1.2.616.2")))
    fhir.fed(person((peer.number(), "1.2.616.3")))
    answer = fhir.both("GET", "Patient/$ihe-pix", params={
        "sourceIdentifier": fhir.token(a, "1.2.616.2"), "targetSystem": f"{OID}1.2.616.3"}).json()  # fmt: skip
    assert "parameter" not in answer


@pytest.mark.parametrize(
    ("source", "targets", "status", "expected"),
    [
        ("urn:oid:1.9.9|1", [], 400, [("code-invalid", "http.sourceIdentifier")]),
        ("http://x|1", [], 400, [("code-invalid", "http.sourceIdentifier")]),
        ("known", ["urn:oid:1.9.8"], 403, [("code-invalid", "http.targetSystem")]),
        ("known", ["http://x"], 403, [("code-invalid", "http.targetSystem")]),
        ("no bar", [], 400, [("value", "http.sourceIdentifier")]),
        ("urn:oid:1.2|", [], 400, [("value", "http.sourceIdentifier")]),
        ("", [], 404, None),
    ],
)
def test_questions_that_are_refused(
    fhir: FhirPeer, source: str, targets: list[str], status: int, expected: list[tuple[str, str]] | None
) -> None:
    if source == "known":
        number = peer.number()
        fhir.fed(person((number, fhir.authority)))
        source = fhir.token(number)
    if expected is None:
        response = fhir.ask("GET", "Patient/$ihe-pix")
        assert (response.status_code, issues(response)[0][1:]) == (400, ("required", "http.sourceIdentifier"))
        return
    response = fhir.pix(source, *targets)
    assert response.status_code == status, response.text
    assert [i[1:] for i in issues(response)] == expected


def test_questions_are_audited_once(fhir: FhirPeer, node: Node) -> None:
    number = peer.number()
    fhir.fed(person((number, "1.2.616.2")))
    last = node.last_audit()
    fhir.identifiers(fhir.token(number, "1.2.616.2"))
    fhir.pix("urn:oid:1.9.9|1")
    assert [(t, o) for _, t, o, _ in node.audits(last)] == [("ITI-83", 0), ("ITI-83", 4)]
