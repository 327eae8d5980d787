"""What a node says beside its answers: headers of every answer, and a log without the secrets that were sent to it."""

from __future__ import annotations

import re

import pytest
from field import JSON, TWINS, Field, Request, more
from hl7_cases import Messages, framed

from hearing import LOGS

pytestmark = pytest.mark.node

SECRETS = {
    "pesel": "44051401458",
    "bearer": "c2VjcmV0LW9mLWEtYmVhcmVyLXRva2Vu",
    "password": "S3cretPassw0rdOfSomebody",
    "key": "/etc/obieg/PRIVATE-KEY-OF-THE-NODE.pem",
}
ANSWERS = {
    "the first page": Request("/", b"", (), "GET"),
    "what is served": Request("/services", b"", (), "GET"),
    "health": Request("/health", b"", (), "GET"),
    "metrics": Request("/metrics", b"", (), "GET"),
    "nothing": Request("/nothing", b"", (), "GET"),
    "no service": Request("/services/none", b"", (), "GET"),
    "a service": Request("/services/registry", b"", (), "GET"),
    "WSDL": Request("/services/registry?wsdl", b"", (), "GET"),
    "capabilities": Request("/fhir/metadata", b"", JSON[1:], "GET"),
    "a refused request": Request("/fhir/Patient/nobody", b"", JSON[1:], "GET"),
}


@pytest.mark.parametrize("name", [*ANSWERS, *(f"twin {t}" for t in TWINS)])
def test_headers(hostile_field: Field, name: str) -> None:
    request = ANSWERS[name] if name in ANSWERS else TWINS[name.removeprefix("twin ")][0](hostile_field)
    reply = hostile_field.send(request)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["cross-origin-opener-policy"] == "same-origin"
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in reply.headers
    policy = reply.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy == "sandbox" or ("default-src 'none'" in policy and "frame-ancestors 'none'" in policy)
    said = reply.headers.get("content-type", "")
    assert said or not reply.body
    if re.match(r"text/|[^;]*[/+]xml\b", said) and policy != "sandbox":  # a document is of the type it was sent as
        assert re.search(r"; charset=utf-8\b", said, re.IGNORECASE), said
    if said.startswith("text/html"):
        assert not re.search(rb"<script|<style|\sstyle=|\son[a-z]+=", reply.body)


@pytest.mark.parametrize("address", ["/", "/services", "/health", "/login", "/static/obieg.css", "/services/registry"])
def test_trace_is_not_answered(hostile_field: Field, address: str) -> None:
    reply = hostile_field.send(Request(address, b"", (("X-Secret", "of the caller"),), "TRACE"))
    assert reply.status in (400, 404, 405)
    assert b"of the caller" not in reply.body


@pytest.mark.parametrize(
    "address", ["/static", "/static/", "/static/fonts", "/static/fonts/", "/.git/config", "/static/.git/"]
)
def test_no_folder_is_listed(hostile_field: Field, address: str) -> None:
    reply = hostile_field.send(Request(address, b"", (), "GET"))
    assert reply.status in (307, 404)  # a slash is asked for, and then there is nothing
    assert b"woff2" not in reply.body


@pytest.mark.parametrize("name", ["callback", "jsonp", "_callback", "cb"])
def test_no_answer_is_a_script(hostile_field: Field, name: str) -> None:
    for address in ("/fhir/metadata", f"/fhir/Patient/{hostile_field.number}"):
        reply = hostile_field.send(Request(f"{address}?{name}=evil", b"", JSON[1:], "GET"))
        assert b"evil(" not in reply.body
        assert "javascript" not in reply.headers["content-type"]


def test_what_is_refused_before_it_is_read_is_logged(hostile_field: Field) -> None:
    [log] = [log for log in LOGS if log.path.parent.name.startswith("hostile")]
    for sent, status in ((b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"), (b"GET /\0 HTTP/9\r\n\r\n", "400")):
        before = len(log.read())
        hostile_field.raw(sent)
        said = log.read()[before:].decode()
        assert "refused before it was read" in said
        assert f'"status":"{status}"' in said


def test_secrets_are_not_in_the_log(hostile_field: Field) -> None:
    """Planted wherever a caller can put them: headers, addresses, bodies that are refused, messages that are taken."""
    s = SECRETS
    shown = more(
        ("Authorization", f"Bearer {s['bearer']}"), ("Cookie", f"session={s['password']}"), ("X-Key", s["key"])
    )
    text = f"{s['pesel']} {s['password']} {s['key']}"
    for twin in TWINS:
        request = shown(TWINS[twin][0](hostile_field))
        hostile_field.send(request)
        hostile_field.send(Request(request.path, text.encode(), request.headers, request.method))
    for address in (
        f"/fhir/Patient/{s['pesel']}",
        f"/fhir/Patient?identifier=urn:oid:2.16.840.1.113883.3.4424.1.1.616%7C{s['pesel']}",
        f"/fhir/Patient?evil={s['password']}",
        f"/{s['password']}",
        f"/services/{s['password']}?access_token={s['bearer']}",
    ):
        hostile_field.send(shown(Request(address, b"", JSON[1:], "GET")))
    soap = TWINS["query"][0](hostile_field)
    for old in ("urn:ihe:iti:2007:RegistryStoredQuery", "urn:uuid:", "FindDocuments", "$XDSDocumentEntryStatus"):
        hostile_field.send(Request(soap.path, soap.body.replace(old.encode(), text.encode()), soap.headers))
    message = Messages(hostile_field, "1").feed
    for old in ("ADT^A04^ADT_A01", "OBCY", "|2.3.1", "SZPITAL", "&ISO"):
        hostile_field.mllp(framed(message.replace(old, text)))
    [log] = [log.read() for log in LOGS if log.path.parent.name.startswith("hostile")]
    assert log.count(b"\n") > 20
    assert [name for name, secret in SECRETS.items() if secret.encode() in log] == []
