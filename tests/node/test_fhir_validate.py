"""``$validate`` of a running node: verdicts with their places, by system, type and resource, in JSON and XML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fhir_peer
import pytest
from fhir_peer import JSON, XML, FhirPeer, issues
from peer import SHARED, Node

pytestmark = pytest.mark.node

EXAMPLES = SHARED / "data" / "ihe" / "hl7-fhir-r4-examples" / "package"
PATIENT: dict[str, Any] = {"resourceType": "Patient", "id": "1", "gender": "female", "birthDate": "1990-01-02"}


@pytest.fixture(scope="module")
def fhir(node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(node) as found:
        yield found


def validated(fhir: FhirPeer, resource: Any, path: str = "$validate", **parameters: str) -> list[tuple[str, str, str]]:
    """Issues of a validation that was done."""
    data = json.dumps(resource)
    answer = fhir.ask("POST", path, content=data, headers={"Content-Type": JSON}, params=parameters)
    assert answer.status_code == 200, answer.text
    return issues(answer)


def wrapped(resource: Any, **parameters: str) -> dict[str, Any]:
    items: list[dict[str, Any]] = [{"name": "resource", "resource": resource}]
    items += [{"name": n, "valueUri" if n == "profile" else "valueCode": v} for n, v in parameters.items()]
    return {"resourceType": "Parameters", "parameter": items}


VALID = [("information", "informational", "")]


@pytest.mark.parametrize("path", ["$validate", "Patient/$validate", "Patient/1/$validate"])
def test_levels(fhir: FhirPeer, path: str) -> None:
    assert validated(fhir, PATIENT, path) == VALID
    assert validated(fhir, wrapped(PATIENT, mode="update"), path) == VALID
    wrong = {**PATIENT, "gender": "F", "name": [{"use": "mine", "family": 3}], "colour": "red"}
    said = {
        ("error", "structure", "Patient.colour"), ("error", "value", "Patient.name[0].family"),
        ("error", "code-invalid", "Patient.gender"), ("error", "code-invalid", "Patient.name[0].use"),
    }  # fmt: skip
    assert set(validated(fhir, wrong, path)) == said
    assert set(validated(fhir, wrapped(wrong), path)) == said


def test_the_address_speaks_too(fhir: FhirPeer) -> None:
    assert validated(fhir, PATIENT, "Observation/$validate") == [("error", "business-rule", "Patient")]
    assert validated(fhir, PATIENT, "Patient/2/$validate") == [("error", "business-rule", "Patient.id")]
    nameless = {"resourceType": "Patient"}
    assert validated(fhir, nameless, "Patient/$validate", mode="update") == [("error", "required", "Patient.id")]
    assert validated(fhir, nameless, "Patient/$validate", mode="create") == VALID
    deletion = fhir.ask("POST", "Patient/1/$validate", params={"mode": "delete"})
    assert (deletion.status_code, issues(deletion)) == (200, VALID)


def test_profiles_that_nobody_here_knows_are_named(fhir: FhirPeer) -> None:
    profile = "http://example.org/StructureDefinition/Nothing"
    assert ("error", "not-supported", "http.profile") in validated(
        fhir, wrapped(PATIENT, mode="profile", profile=profile)
    )
    assert validated(fhir, PATIENT, profile="http://hl7.org/fhir/StructureDefinition/Patient") == VALID
    of_another = validated(fhir, PATIENT, profile="http://hl7.org/fhir/StructureDefinition/Group")
    assert ("error", "not-supported", "http.profile") in of_another
    claimed = validated(fhir, {**PATIENT, "meta": {"profile": [profile]}})
    assert claimed == [("warning", "not-supported", "Patient.meta.profile[0]"), *VALID]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [("", 400, "required"), ("{", 400, "structure"), ("[]", 400, "structure"), ('{"a":1,"a":2}', 400, "structure")],
)
def test_what_is_no_question_is_refused(fhir: FhirPeer, body: str, status: int, code: str) -> None:
    answer = fhir.ask("POST", "$validate", content=body, headers={"Content-Type": JSON})
    assert (answer.status_code, issues(answer)[0][1]) == (status, code)


def test_xml(fhir: FhirPeer) -> None:
    body = '<Patient xmlns="http://hl7.org/fhir"><gender value="F"/><birthDate value="yesterday"/></Patient>'
    answer = fhir.ask("POST", "$validate", content=body, headers={"Content-Type": XML})
    found = {(code, at) for _, code, at in issues(answer)}
    assert found == {("code-invalid", "Patient.gender"), ("value", "Patient.birthDate")}
    unknown = '<Patient xmlns="http://hl7.org/fhir"><colour value="red"/></Patient>'
    refused = fhir.ask("POST", "$validate", content=unknown, headers={"Content-Type": XML})
    assert refused.status_code == 400  # what has no place in a resource cannot be read from XML
    assert "Patient has no element colour" in refused.json()["issue"][0]["diagnostics"]


def test_the_largest_examples_of_hl7(fhir: FhirPeer) -> None:
    """Large ones are worked on beside the event loop; the verdict is the same."""
    largest = sorted(EXAMPLES.glob("*.json"), key=lambda p: p.stat().st_size)[-5:]
    if not largest:
        pytest.skip("HL7's examples are not beside this repository")
    for path in largest:
        resource = json.loads(path.read_bytes())
        assert not [i for i in validated(fhir, resource) if i[0] == "error"], path.name
        entry = resource.get("entry")
        entry[-1]["resource" if "resource" in entry[-1] else "item"] = {"resourceType": "Nobody"}
        assert [i for i in validated(fhir, resource) if i[0] == "error"], path.name


def test_more_faults_than_are_listed(fhir: FhirPeer) -> None:
    found = validated(fhir, {"resourceType": "Patient", **{f"x{n}": n for n in range(300)}})
    assert len(found) == 51
    assert found[-1][0] == "information"


def test_it_stands_in_the_capability_statement(fhir: FhirPeer) -> None:
    rest = fhir.get("metadata")["rest"][0]
    assert "validate" in {o["name"] for o in rest["operation"]}
    assert all("validate" in {o["name"] for o in r["operation"]} for r in rest["resource"])
    assert "Observation" not in {r["type"] for r in rest["resource"]}
