"""The FHIR edge with transactions of every kind: routes, formats, preferences, versions, limits, its own refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from obieg.domain.audit import AuditEvent
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.requester import Requester
from obieg.edges.asgi import Host
from obieg.edges.fhir import FhirEdge, FhirLimits
from obieg.mapping import fhir_outcome
from obieg.mapping.fhir_capability import capability_statement
from obieg.mapping.fhir_openapi import openapi
from obieg.protocol import Credentials, FhirBinding, FhirReply, FhirRequest, Transaction
from obieg.wire import fhir_xml

PATIENT: dict[str, Any] = {"resourceType": "Patient", "active": True}
JSON, XML = "application/fhir+json", "application/fhir+xml"


@dataclass
class Records:
    events: list[AuditEvent] = field(default_factory=list)

    async def record(self, event: AuditEvent) -> None:
        self.events.append(event)


class Anybody:
    async def authenticate(self, credentials: Credentials) -> Requester:
        return Requester(system=credentials.address, address=credentials.address)


class Nobody:
    async def authenticate(self, credentials: Credentials) -> Requester:
        raise Problem.of("AuthenticationFailed", "who are you")


@dataclass
class Actors:
    store: object = None


async def _done(_actor: Any, request: FhirRequest, _context: Any) -> FhirRequest:
    return request


def _echo(request: FhirRequest, _: Any) -> FhirReply:
    """What was understood, as an answer."""
    said = f"{request.interaction} {request.resource} {request.id} {request.parameters} {request.if_match}".strip()
    body = request.body or {**PATIENT, "id": "1", "name": [{"text": said}]}
    return FhirReply(body=body, version="4", updated_at=datetime(2026, 1, 2, 3, 4, 5, 600, UTC))


STORE = Transaction(
    id="TEST-1", name="Test", spec="https://example.org", actor="store", initiator="A", responder="B",
    binding=FhirBinding(
        resources=("", "Patient"),
        interactions=(
            "read", "search-type", "create", "update", "delete", "conditional-create", "conditional-update",
            "conditional-delete", "transaction", "$ihe-pix", "$match",
        ),
        conforms_to="https://example.org/statement",
    ),
    event="query", decode=lambda request: request, serve=_done, encode=_echo, refuse=fhir_outcome.refuse,
    audit=lambda _: (), permission="a:b:c",
)  # fmt: skip


@dataclass
class Peer:
    """A client of an edge in the same process."""

    records: Records
    client: httpx.AsyncClient

    async def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        response = await self.client.request(method, path, **more)
        assert "x-request-id" in response.headers
        assert "Traceback" not in response.text
        return response


def peer(transaction: Transaction = STORE, *, authenticator: Any = None, **limits: Any) -> Peer:
    records = Records()
    host = Host(
        transactions=[transaction], actors=Actors(object()), authenticator=authenticator or Anybody(), audit=records
    )  # fmt: skip
    edge = FhirEdge(
        host,
        limits=FhirLimits(**limits), refuse=fhir_outcome.refuse,
        metadata=lambda served, base: capability_statement(served, base, made_at="2026-01-02", version="1"),
        openapi=lambda served, base: openapi(served, base, version="1"),
        affinity_domain="1.2.3",
    )  # fmt: skip
    transport = httpx.ASGITransport(app=edge)
    return Peer(records, httpx.AsyncClient(transport=transport, base_url="http://node"))


def codes(response: httpx.Response) -> list[str]:
    """Codes of all issues."""
    assert response.headers["content-type"].startswith(JSON), response.text
    body = response.json()
    assert body["resourceType"] == "OperationOutcome"
    assert all(i["severity"] in ("error", "warning") and i["diagnostics"] for i in body["issue"])
    return [i["details"]["coding"][0]["code"] for i in body["issue"]]


ROUTES = [
    ("GET", "/fhir/Patient", "search-type Patient"),
    ("GET", "/fhir/Patient/", "search-type Patient"),
    ("GET", "/fhir/Patient/a.1-B", "read Patient a.1-B"),
    ("GET", "/fhir/Patient/$ihe-pix?sourceIdentifier=a", "$ihe-pix Patient"),
    ("POST", "/fhir/Patient/$ihe-pix?sourceIdentifier=a", "$ihe-pix Patient"),
    ("DELETE", "/fhir/Patient/1", "delete Patient 1"),
    ("DELETE", "/fhir/Patient?identifier=x", "conditional-delete Patient"),
    ("POST", "/fhir/Patient/_search?family=x", "search-type Patient"),
]


@pytest.mark.parametrize(("method", "path", "understood"), ROUTES)
async def test_routes(method: str, path: str, understood: str) -> None:
    response = await peer()(method, path)
    assert response.status_code == 200, response.text
    assert response.json()["name"][0]["text"].startswith(understood)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/fhir/Patient"), ("PUT", "/fhir/Patient/1"), ("PUT", "/fhir/Patient?identifier=x"), ("POST", "/fhir"),
     ("POST", "/fhir/Patient/$match")],
)  # fmt: skip
@pytest.mark.parametrize(
    "media", [JSON, XML, "application/json", "text/xml; charset=UTF-8", f"{JSON}; fhirVersion=4.0"]
)
async def test_bodies(method: str, path: str, media: str) -> None:
    data = fhir_xml.write(PATIENT) if "xml" in media else json.dumps(PATIENT).encode()
    response = await peer()(method, path, content=data, headers={"Content-Type": media})
    assert response.status_code == 200, response.text
    # Nothing else said, the answer is as the question was.
    assert response.headers["content-type"].startswith(XML if "xml" in media else JSON)


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/fhir", 405, "MethodNotAllowed", "POST"),
        ("GET", "/fhir/Observation", 404, "AddressNotFound", None),
        ("GET", "/fhir/Patient/1/_history", 404, "AddressNotFound", None),
        ("GET", "/fhir/Patient/1/_history/2", 404, "AddressNotFound", None),
        ("GET", "/fhir/Patient/$everything", 404, "AddressNotFound", None),
        ("GET", "/fhir/$ihe-pix/x/y/z", 404, "AddressNotFound", None),
        ("PATCH", "/fhir/Patient/1", 405, "MethodNotAllowed", "DELETE, GET, HEAD, PUT"),
        ("GET", "/fhir/Patient/$match", 405, "MethodNotAllowed", "POST"),
        ("PUT", "/fhir/Patient/$ihe-pix", 405, "MethodNotAllowed", "GET, HEAD, POST"),
        ("GET", "/fhir/Patient/_search", 405, "MethodNotAllowed", "POST"),
        ("POST", "/fhir/metadata", 405, "MethodNotAllowed", "GET, HEAD"),
    ],
)
async def test_addresses_that_are_not_served(method: str, path: str, status: int, code: str, allow: str | None) -> None:
    client = peer()
    response = await client(method, path)
    assert (response.status_code, codes(response)) == (status, [code])
    assert response.headers.get("allow") == allow
    assert [e.transaction for e in client.records.events] == ["FHIR"]


ACCEPTS = [
    ({}, "", JSON),
    ({"Accept": "*/*"}, "", JSON),
    ({"Accept": XML}, "", XML),
    ({"Accept": "application/xml"}, "", XML),
    ({"Accept": "text/html, application/xml;q=0.9, */*;q=0.8"}, "", XML),
    ({"Accept": f"{JSON};q=0.5, {XML};q=0.4"}, "", JSON),
    ({"Accept": f"{JSON};q=0, {XML}"}, "", XML),
    ({"Accept": f"{XML}; fhirVersion=4.0"}, "", XML),
    ({"Accept": XML}, "_format=json", JSON),
    ({"Accept": "text/html"}, "_format=application/fhir+xml", XML),  # the plus sign arrives as a space
    ({"Accept": "text/html"}, "_format=application/fhir%2Bjson", JSON),
]


@pytest.mark.parametrize(("headers", "query", "media"), ACCEPTS)
async def test_formats(headers: dict[str, str], query: str, media: str) -> None:
    response = await peer()("GET", f"/fhir/Patient/1?{query}", headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith(media)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"Accept": "text/html"}, ""),
        ({"Accept": "application/fhir+turtle"}, ""),
        ({"Accept": f"{JSON};q=0"}, ""),
        ({"Accept": f"{JSON}; fhirVersion=3.0"}, ""),
        ({}, "_format=ttl"),
        ({"Accept": JSON}, "_format=text/csv"),
    ],
)
async def test_formats_that_are_not_written(headers: dict[str, str], query: str) -> None:
    response = await peer()("GET", f"/fhir/Patient/1?{query}", headers=headers)
    assert (response.status_code, codes(response)) == (406, ["NotAcceptable"])


async def test_an_operation_is_told_its_format_in_its_parameters() -> None:
    body = {"resourceType": "Parameters", "parameter": [{"name": "_format", "valueString": XML}]}
    response = await peer()("POST", "/fhir/Patient/$ihe-pix", json=body, headers={"Content-Type": JSON})
    assert response.headers["content-type"].startswith(XML)


@pytest.mark.parametrize(
    "media",
    ["", "text/plain", "json", "application/fhir+json; charset=ISO-8859-2", "application/fhir+json; fhirVersion=5.0"],
)
async def test_media_that_are_not_read(media: str) -> None:
    response = await peer()("POST", "/fhir/Patient", content=b"{}", headers={"Content-Type": media} if media else {})
    assert (response.status_code, codes(response)) == (415, ["UnsupportedMediaType"])
    response = await peer()("POST", "/fhir/Patient/_search", content=b"a=b", headers={"Content-Type": JSON})
    assert (response.status_code, codes(response)) == (415, ["UnsupportedMediaType"])


async def test_a_refusal_comes_in_the_format_that_was_asked_for() -> None:
    response = await peer()("GET", "/fhir/Nothing", headers={"Accept": XML})
    outcome = fhir_xml.read(response.content)
    assert outcome["resourceType"] == "OperationOutcome"
    assert response.headers["content-type"].startswith(XML)


BODIES: list[tuple[Any, str, int]] = [
    (b"", "MessageNotReadable", 400),
    (b"{", "MessageNotReadable", 400),
    (b"\xff\xfe{", "MessageNotReadable", 400),
    (b'{"resourceType":"Patient","resourceType":"Bundle"}', "MessageNotReadable", 400),
    (b'{"resourceType":"Patient","a":1e999}', "MessageNotReadable", 400),
    (b'{"resourceType":"Colour"}', "ElementUnknown", 400),
    (b'{"resourceType":"Patient","colour":"red"}', "ElementUnknown", 400),
    (b'{"resourceType":"Patient","active":"yes"}', "DataTypeError", 400),
    (b'{"resourceType":"Patient","link":[{"type":"refer"}]}', "RequiredFieldMissing", 400),
    (b'{"resourceType":"Patient","extension":' + b"[" * 500 + b"]" * 500 + b"}", "MessageNotReadable", 400),
    (b'{"resourceType":"Patient","language":"' + b"x" * 70_000 + b'"}', "LimitExceeded", 413),
]


@pytest.mark.parametrize(("data", "code", "status"), BODIES)
async def test_bodies_that_are_refused(data: bytes, code: str, status: int) -> None:
    client = peer(message_bytes_max=65_536)
    response = await client("POST", "/fhir/Patient", content=data, headers={"Content-Type": JSON})
    assert (response.status_code, codes(response)) == (status, [code])
    assert [e.transaction for e in client.records.events] == ["TEST-1"]
    assert response.headers.get("connection") == ("close" if status == 413 else None)


async def test_all_faults_of_a_body_are_told_with_their_places() -> None:
    body = {"resourceType": "Patient", "active": 1, "colour": 2, "name": [{"family": ""}]}
    response = await peer()("POST", "/fhir/Patient", json=body, headers={"Content-Type": JSON})
    assert {i["expression"][0] for i in response.json()["issue"]} == {
        "Patient.active", "Patient.colour", "Patient.name[0].family",
    }  # fmt: skip


@pytest.mark.parametrize("query", ["a=%ff", "a=%C5", "&".join(f"a{i}=1" for i in range(300))])
async def test_addresses_that_cannot_be_read(query: str) -> None:
    response = await peer()("GET", f"/fhir/Patient?{query}")
    assert response.status_code in (400, 413)
    assert codes(response)[0] in ("MessageNotReadable", "LimitExceeded")


async def test_versions() -> None:
    client = peer()
    response = await client("GET", "/fhir/Patient/1")
    assert response.headers["etag"] == 'W/"4"'
    assert response.headers["last-modified"] == "Fri, 02 Jan 2026 03:04:05 GMT"
    for name, value, status in [
        ("If-None-Match", 'W/"4"', 304),
        ("If-None-Match", '"3", W/"4"', 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", 'W/"5"', 200),
        ("If-Modified-Since", "Fri, 02 Jan 2026 03:04:05 GMT", 304),
        ("If-Modified-Since", "Fri, 02 Jan 2026 03:04:04 GMT", 200),
        ("If-Modified-Since", "yesterday", 200),
    ]:
        response = await client("GET", "/fhir/Patient/1", headers={name: value})
        assert response.status_code == status, (name, value)
        assert response.headers["etag"] == 'W/"4"'
        assert (response.content == b"") == (status == 304)
    response = await client("DELETE", "/fhir/Patient?identifier=x", headers={"If-Match": 'W/"7"'})
    assert response.json()["name"][0]["text"].endswith("7")
    response = await client("DELETE", "/fhir/Patient?identifier=x", headers={"If-Match": "seven"})
    assert (response.status_code, codes(response)) == (400, ["DataTypeError"])


async def test_if_none_exist() -> None:
    """The search reaches the transaction as it was written; elsewhere than with a create it is refused."""
    seen: list[FhirRequest] = []

    def decode(request: FhirRequest) -> FhirRequest:
        seen.append(request)
        return request

    client = peer(replace(STORE, decode=decode))
    for header in ("identifier=http://a%7C1&_count=1", "?identifier=http://a|1&_count=1"):
        response = await client("POST", "/fhir/Patient", json=PATIENT, headers={"If-None-Exist": header})
        assert response.status_code == 200, response.text
        assert seen.pop().if_none_exist == (("identifier", "http://a|1"), ("_count", "1"))
    for path, header, code in [
        ("/fhir/Patient/$match", "identifier=1", "RuleBroken"),
        ("/fhir/Patient", "", "RequiredFieldMissing"),
        ("/fhir/Patient", "identifier=", "RequiredFieldMissing"),
        ("/fhir/Patient", "identifier=%FF", "MessageNotReadable"),
    ]:
        response = await client("POST", path, json=PATIENT, headers={"If-None-Exist": header})
        assert codes(response) == [code], (path, header)
    # Who creates unconditionally would create a second one.
    assert isinstance(STORE.binding, FhirBinding)
    only = peer(replace(STORE, decode=decode, binding=replace(STORE.binding, interactions=("create",))))
    response = await only("POST", "/fhir/Patient", json=PATIENT, headers={"If-None-Exist": "identifier=1"})
    assert codes(response) == ["RuleBroken"]
    assert seen == []


async def test_head_is_get_without_its_body() -> None:
    get, head = await peer()("GET", "/fhir/Patient/1"), await peer()("HEAD", "/fhir/Patient/1")
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))
    assert head.headers["etag"] == get.headers["etag"]


async def test_preferences() -> None:
    seen: list[FhirRequest] = []

    def decode(request: FhirRequest) -> FhirRequest:
        seen.append(request)
        return request

    client = peer(replace(STORE, decode=decode))
    await client("GET", "/fhir/Patient", headers={"Prefer": "handling=strict; return=minimal"})
    await client("GET", "/fhir/Patient?_format=json&_pretty=true&a=b", headers={"Prefer": "return=OperationOutcome"})
    assert [(r.strict, r.prefer, r.parameters) for r in seen] == [
        (True, "minimal", ()), (False, "OperationOutcome", (("a", "b"),)),
    ]  # fmt: skip
    assert seen[0].base == "http://node/fhir"
    assert seen[0].affinity_domain == "1.2.3"


async def test_pretty() -> None:
    response = await peer()("GET", "/fhir/Patient/1?_pretty=true")
    assert b'\n  "resourceType"' in response.content


def failing(error: Callable[[], Exception]) -> Transaction:
    async def serve(*_: Any) -> Any:
        raise error()

    return replace(STORE, serve=serve)


@pytest.mark.parametrize(
    ("error", "status", "issue"),
    [
        (lambda: RetryLater("the database is away"), 503, "transient"),
        (lambda: ValueError("secret"), 500, "exception"),
        (lambda: Problem.of("TooBroad", "narrow it", "http.family"), 422, "too-costly"),
    ],
)
async def test_trouble_is_told_in_the_protocols_terms(error: Any, status: int, issue: str) -> None:
    client = peer(failing(error))
    response = await client("GET", "/fhir/Patient")
    assert response.status_code == status
    assert response.json()["issue"][0]["code"] == issue
    assert "secret" not in response.text
    assert ("retry-after" in response.headers) == (status == 503)
    # That nothing was possible leaves no record; who repeats the request leaves one.
    assert len(client.records.events) == 1


async def test_who_proves_nothing_reads_nothing() -> None:
    client = peer(authenticator=Nobody())
    response = await client("POST", "/fhir/Patient", content=b"{", headers={"Content-Type": JSON})
    assert (response.status_code, codes(response)) == (401, ["AuthenticationFailed"])
    assert [e.event for e in client.records.events] == ["security_alert"]


async def test_a_request_that_does_not_end_is_given_up() -> None:
    async def slowly() -> Any:
        yield b"{"
        await asyncio.sleep(5)
        yield b"}"

    response = await peer(request_time_s=0.05)(
        "POST", "/fhir/Patient", content=slowly(), headers={"Content-Type": JSON}
    )
    assert (response.status_code, codes(response)) == (408, ["RequestTimeout"])


async def test_an_actor_that_is_not_here_serves_nothing() -> None:
    response = await peer(replace(STORE, actor="elsewhere"))("GET", "/fhir/Patient")
    assert response.status_code == 404
    assert "rest" not in (await peer(replace(STORE, actor="elsewhere"))("GET", "/fhir/metadata")).json()
