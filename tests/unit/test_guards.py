"""What every answer over HTTP gets, and what becomes of what nobody expected."""

from __future__ import annotations

from typing import Any

import pytest

from obieg.domain.audit import AuditEvent
from obieg.domain.requester import Requester
from obieg.edges.asgi import Exchange, Host, guarded
from obieg.edges.fhir import _file_name
from obieg.edges.patient_login import PREFIX, PatientLoginEdge
from obieg.protocol import Credentials

SCOPE: dict[str, Any] = {"type": "http", "scheme": "https", "method": "GET", "path": "/", "headers": [], "client": None}


class Sent:
    """What goes out."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def __call__(self, message: Any) -> None:
        self.messages.append(message)

    def header(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.messages[0]["headers"] if found == name]


async def answered(scheme: str, *headers: tuple[bytes, bytes]) -> Sent:
    sent = Sent()
    send = guarded(sent, {**SCOPE, "scheme": scheme})
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b""})
    return sent


async def test_over_tls_browsers_come_back_over_tls() -> None:
    assert (await answered("https")).header(b"strict-transport-security") == [b"max-age=63072000; includeSubDomains"]
    assert (await answered("http")).header(b"strict-transport-security") == []


async def test_what_an_edge_says_itself_stands_alone() -> None:
    sent = await answered("https", (b"content-security-policy", b"sandbox"))
    assert sent.header(b"content-security-policy") == [b"sandbox"]
    assert sent.header(b"cross-origin-opener-policy") == [b"same-origin"]
    assert sent.header(b"cross-origin-resource-policy") == [b"same-origin"]


@pytest.mark.parametrize(
    ("url", "begins", "ends"),
    [
        ("https://obieg.example", "__Secure-obieg-wk=s; ", "SameSite=None; Secure"),
        ("http://127.0.0.1:8080", "obieg-wk=s; ", "SameSite=Lax"),
    ],
)
def test_the_cookie_of_a_patients_log_in_has_a_prefix_over_tls(url: str, begins: str, ends: str) -> None:
    login: Any = None
    edge = PatientLoginEdge(login, public_url=url, new_request_id=str, expect_sealed=login)
    _, value = edge._cookie("s", 600)
    cookie = value.decode()
    assert cookie.startswith(begins)
    assert cookie.endswith(ends)
    assert f"; Path={PREFIX}; Max-Age=600; HttpOnly;" in cookie


class Nobody:
    async def authenticate(self, credentials: Credentials) -> Requester:
        raise AssertionError


class Records:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def record(self, event: AuditEvent) -> None:
        self.events.append(event)


async def test_what_nobody_expected_is_told_without_its_inside_and_recorded() -> None:
    audit = Records()
    host = Host(transactions=(), actors=None, authenticator=Nobody(), audit=audit)

    async def failing() -> str:
        raise ZeroDivisionError("SELECT secret FROM inside")

    exchange = Exchange.begin(SCOPE, "request-1")
    outcome, said = await host.settle(exchange, failing(), str, protocol="FHIR")
    assert outcome == "failed"
    assert "request-1" in said
    assert "XDSRegistryError" in said
    assert "inside" not in said
    assert "ZeroDivisionError" not in said
    [event] = audit.events
    assert event.request_id == "request-1"
    assert "inside" not in event.detail


def test_documents_are_saved_under_a_name_of_ours() -> None:
    for media, name in {
        "text/xml": "document.xml", "application/fhir+xml; charset=utf-8": "document.xml", "application/xml": "document.xml",
        "application/fhir+json": "document.json", "application/pdf": "document.pdf", "text/plain": "document.txt",
        'x/"; filename="../evil': "document", "": "document",
    }.items():  # fmt: skip
        assert _file_name(media) == name
