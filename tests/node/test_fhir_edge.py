"""The FHIR edge of a running node: capabilities, bad input, connections that stay usable."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import fhir_peer
import peer
import pytest
from fhir_peer import JSON, OID, XML, FhirPeer, issues
from lxml import etree
from peer import Node

from obieg.protocol import FhirBinding
from obieg.transactions import TRANSACTIONS

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def fhir(node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(node) as found:
        yield found


def test_the_capability_statement_follows_from_the_transactions(fhir: FhirPeer) -> None:
    statement = fhir.both("GET", "metadata").json()
    assert statement["fhirVersion"] == "4.0.1"
    bindings = [t.binding for t in TRANSACTIONS if isinstance(t.binding, FhirBinding)]
    assert set(statement["instantiates"]) == {b.conforms_to for b in bindings if b.conforms_to}
    [at_base] = [i for i in statement["rest"][0]["interaction"] if i["code"] == "transaction"]
    assert "ITI-65" in at_base["documentation"]
    assert "ITI-111 (Bundles of https://profiles.ihe.net/ITI/DSUBm/" in at_base["documentation"]
    [patient] = [r for r in statement["rest"][0]["resource"] if r["type"] == "Patient"]
    assert {i["code"] for i in patient["interaction"]} == {"read", "search-type", "update", "delete"}
    assert (patient["conditionalUpdate"], patient["conditionalDelete"]) == (True, "single")
    assert {o["name"] for o in patient["operation"]} == {
        "ihe-pix", "match", "validate", "export", "everything", "summary",
    }  # fmt: skip


@pytest.mark.parametrize("package", [fhir_peer.PIXM, fhir_peer.PDQM])
def test_what_ihe_wants_of_the_server_is_there(fhir: FhirPeer, package: Any) -> None:
    [patient] = [r for r in fhir.get("metadata")["rest"][0]["resource"] if r["type"] == "Patient"]
    names = {"interaction": "code", "searchParam": "name", "operation": "definition"}
    files = [p for p in package.glob("CapabilityStatement-*.json") if "Supplier" in p.name or "Manager" in p.name]
    if not files:
        pytest.skip("IHE's packages are not beside this repository")
    for path in files:
        [wanted] = json.loads(path.read_text("utf-8-sig"))["rest"][0]["resource"]
        for element, name in names.items():
            found = {item[name] for item in patient[element]}
            asked = {item[name] for item in wanted.get(element, []) if ":exact" not in str(item[name])}
            assert asked - found <= {"_lastUpdated"}, path.name
        assert set(wanted["supportedProfile"]) <= set(patient["supportedProfile"])


BAD_BODIES: dict[str, tuple[bytes, str, int]] = {
    "nothing": (b"", JSON, 400),
    "half": (b'{"resourceType":"Patient"', JSON, 400),
    "keys twice": (b'{"resourceType":"Patient","active":true,"active":false}', JSON, 400),
    "beyond range": (b'{"resourceType":"Patient","multipleBirthInteger":99999999999}', JSON, 400),
    "far beyond range": (b'{"resourceType":"Patient","multipleBirthInteger":1e99999}', JSON, 400),
    "deep": (b'{"resourceType":"Patient","extension":' + b'[{"extension":' * 5000, JSON, 400),
    "a mark": (b"\xef\xbb\xbf{}", JSON, 400),
    "Latin-2": ('{"resourceType":"Patient","name":[{"family":"Żółć"}]}'.encode("iso-8859-2"), JSON, 400),
    "lying": (b"{}", "text/plain", 415),
    "a NUL": (b'{"resourceType":"Patient","name":[{"family":"a\\u0000b"}]}', JSON, 400),
    "half a character": (b'{"resourceType":"Patient","name":[{"family":"a\\ud800"}]}', JSON, 400),
    "a doctype": (b'<!DOCTYPE a [<!ENTITY b "c">]><Patient xmlns="http://hl7.org/fhir"/>', XML, 400),
    "a file": (b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><Patient xmlns="http://hl7.org/fhir"><id value="&b;"/></Patient>', XML, 400),
    "no namespace": (b"<Patient/>", XML, 400),
    "JSON as XML": (b'{"resourceType":"Patient"}', XML, 400),
    "too large": (b'{"resourceType":"Patient","language":"' + b"x" * (33 * 1024 * 1024) + b'"}', JSON, 413),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_BODIES)
def test_bodies_that_are_not_read(fhir: FhirPeer, node: Node, what: str) -> None:
    data, media, status = BAD_BODIES[what]
    last = node.last_audit()
    response = fhir.ask(
        "PUT", "Patient", params={"identifier": fhir.token("x")}, content=data, headers={"Content-Type": media}
    )
    assert response.status_code == status, response.text
    assert issues(response)[0][0] == "error"
    assert [(t, o > 0) for _, t, o, _ in node.audits(last)] == [("ITI-104", True)]
    assert fhir.get("metadata")["resourceType"] == "CapabilityStatement"


@pytest.mark.parametrize("number", [1_000_000, 100_000, 201])
@pytest.mark.parametrize("media", [JSON, XML])
def test_a_million_repetitions(fhir: FhirPeer, number: int, media: str) -> None:
    body = b'{"resourceType":"Patient","identifier":[' + b",".join([b'{"value":"1"}'] * number) + b"]}"
    if media == XML:
        body = (
            b'<Patient xmlns="http://hl7.org/fhir">'
            + b'<identifier><value value="1"/></identifier>' * number
            + b"</Patient>"
        )
    parameters = {"identifier": fhir.token("x")}
    response = fhir.ask("PUT", "Patient", params=parameters, content=body, headers={"Content-Type": media})
    assert response.status_code in (400, 413), response.text
    assert len(response.json()["issue"]) == 1


def test_many_bad_addresses(fhir: FhirPeer) -> None:
    for path in (
        "Patient/../metadata",
        "Patient//x",
        "Patient/%00",
        "Patient/%ff",
        "Patient/x/y/z",
        "%24ihe-pix",
        "Patient/$ihe-pix/x",
        "Patient/" + "x" * 3000,
    ):
        response = fhir.http.get(f"{fhir.base}/{path}", headers={"Accept": JSON})
        assert response.status_code in (200, 400, 404, 405), (path, response.text)
        fhir.check(response)


def test_the_connection_is_usable_after_refusals(fhir: FhirPeer, node: Node) -> None:
    host, port = re.fullmatch(r"http://(.+):(\d+)", node.endpoints["base_url"]).groups()  # type: ignore[union-attr]
    with socket.create_connection((host, int(port)), 20) as connection:
        stream = connection.makefile("rb")
        for line, status in [("GET /fhir/Nothing", 404), ("DELETE /fhir/metadata", 405), ("GET /fhir/metadata", 200)]:
            connection.sendall(f"{line} HTTP/1.1\r\nHost: node.example\r\nContent-Length: 0\r\n\r\n".encode())
            assert int(stream.readline().split()[1]) == status
            length = 0
            while (header := stream.readline().strip()) != b"":
                if header.lower().startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            body = json.loads(stream.read(length))
        # Links begin with the address that the caller used, or with public_url where it is set.
        assert body["implementation"]["url"].endswith("/fhir")


def test_a_half_sent_body_changes_nothing(fhir: FhirPeer, node: Node) -> None:
    host, port = re.fullmatch(r"http://(.+):(\d+)", node.endpoints["base_url"]).groups()  # type: ignore[union-attr]
    number = peer.number()
    body = json.dumps({
        "resourceType": "Patient", "identifier": [{"system": f"{OID}{fhir.authority}", "value": number}], "name": [{"family": "X"}],
    }).encode()  # fmt: skip
    with socket.create_connection((host, int(port)), 20) as connection:
        head = (
            f"PUT /fhir/Patient?identifier={OID}{fhir.authority}%7C{number} HTTP/1.1\r\nHost: n\r\nContent-Type: {JSON}\r\n"
            f"Content-Length: {len(body) + 10}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
    assert fhir.ask("GET", f"Patient/{number}").status_code == 404


def test_a_large_resource_is_taken(fhir: FhirPeer) -> None:
    number = peer.number()
    resource = {
        "resourceType": "Patient", "identifier": [{"system": f"{OID}{fhir.authority}", "value": number}],
        "name": [{"family": "Wielka"}], "photo": [{"contentType": "image/png", "data": "QUJD" * 300_000}],
    }  # fmt: skip
    assert fhir.put(resource).status_code == 201
    assert fhir.get(f"Patient/{number}")["name"] == [{"family": "Wielka"}]


def test_xml_and_json_of_a_refusal_are_the_same(fhir: FhirPeer) -> None:
    answer = fhir.both("GET", "Patient", params={"birthdate": 'x"<&>'})
    assert 'x"<&>' in answer.json()["issue"][0]["diagnostics"]
    as_xml = fhir.ask("GET", "Patient", params={"birthdate": "x"}, headers={"Accept": XML})
    assert etree.fromstring(as_xml.content).tag == "{http://hl7.org/fhir}OperationOutcome"
