"""``obieg lab --secure --trust FILE``, as docs/lab.md describes it, by keys and libraries that are not the node's own."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree
from peer import wait_for

import minting
from obieg.ops.commands_certs import make as make_certificate
from running import running

pytestmark = pytest.mark.node

PAGE = Path(__file__).resolve().parents[2] / "docs" / "lab.md"
LOCAL = ["localhost", "127.0.0.1"]
ADHOC = (
    '<query:AdhocQueryRequest xmlns:query="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0" '
    'xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">'
    '<query:ResponseOption returnComposedObjects="true" returnType="LeafClass"/>'
    '<rim:AdhocQuery id="urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d">'
    '<rim:Slot name="$XDSDocumentEntryPatientId"><rim:ValueList><rim:Value>'
    "'1^^^&amp;{authority}&amp;ISO'</rim:Value></rim:ValueList></rim:Slot>"
    '<rim:Slot name="$XDSDocumentEntryStatus"><rim:ValueList><rim:Value>'
    "('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')</rim:Value></rim:ValueList></rim:Slot>"
    "</rim:AdhocQuery></query:AdhocQueryRequest>"
)


class SecureLab:
    def __init__(self, folder: Path, endpoints: dict[str, str], portal: Any) -> None:
        self.folder, self.endpoints, self.portal = folder, endpoints, portal

    def tls(self, *, certificate: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.endpoints["tls_ca"])
        if certificate:
            context.load_cert_chain(self.folder / "hospital.pem", self.folder / "hospital.key")
        return context

    def ask(self, security: bytes, *, certificate: bool = True, message_id: str = "") -> httpx.Response:
        """ITI-18 with this in its Security header."""
        body = ADHOC.format(authority=self.endpoints["assigning_authority"])
        message = minting.envelope(security, body=body, message_id=message_id)
        headers = {"Content-Type": "application/soap+xml; charset=UTF-8"}
        with httpx.Client(verify=self.tls(certificate=certificate)) as http:
            return http.post(self.endpoints["registry"], content=message, headers=headers)

    def token(self, **claims: Any) -> httpx.Response:
        now = datetime.now(UTC)
        said = {"iss": "portal", "sub": "portal", "aud": self.endpoints["token"], "jti": str(uuid.uuid4())}
        said |= {"exp": now + timedelta(minutes=4), "iat": now} | claims
        form = {
            "grant_type": "client_credentials",
            "scope": "system/Patient.rs",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": jwt.encode(said, self.portal, "ES256", headers={"kid": "1"}),
        }
        with httpx.Client(verify=self.tls(certificate=False)) as http:
            return http.post(self.endpoints["token"], data=form)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureLab]:
    folder = tmp_path_factory.mktemp("secure")
    make_certificate(folder, "hospital", LOCAL)
    (folder / "sts.pem").write_bytes(minting.identity("sts").pem)
    portal = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(portal.public_key())) | {"kid": "1", "alg": "ES256"}
    trust = json.loads(re.search(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)[1])
    trust["oauth_clients"][0]["jwks"] = {"keys": [public]}
    (folder / "trust.json").write_text(json.dumps(trust))
    options = ("lab", "--secure", "--trust", "trust.json", "--data", "data", "--workers", "1")
    with running(folder, *options) as endpoints:
        yield SecureLab(folder, endpoints, portal)


def example(now: datetime | None = None, **changes: str) -> bytes:
    """The assertion of the page, of now, signed by signxml."""
    now = now or datetime.now(UTC)
    text = re.search(r"```xml\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    for old, new in changes.items():
        text = text.replace(getattr(Old, old), new)
    identifier = f"_{uuid.uuid4().hex}"
    text = re.sub(r"<ds:Signature.*?</ds:Signature>", f'<ds:Signature xmlns:ds="{minting.DS}" Id="placeholder"/>', text)
    text = text.replace("_a1b2c3", identifier).replace("2026-11-22T10:00:00Z", minting.zulu(now))
    text = text.replace("2026-11-22T11:00:00Z", minting.zulu(now + timedelta(hours=1)))
    return minting.sign(text.encode(), minting.identity(changes.get("signer", "sts")), identifier)


class Old:
    audience = "https://region.example.pl"
    issuer = "https://sts.example.pl"
    signer = "\0"


def status(answer: httpx.Response) -> str:
    root = etree.fromstring(answer.content)
    return str(root[-1][0].get("status", "")).rpartition(":")[2]


def test_the_assertion_of_the_page_is_accepted(lab: SecureLab) -> None:
    assertion = example()
    for _ in range(2):  # without OneTimeUse it may be used again, in a message of its own
        answer = lab.ask(assertion)
        assert (answer.status_code, status(answer)) == (200, "Success"), answer.text


@pytest.mark.parametrize(
    "changes",
    [
        {"audience": "https://other.example.pl"}, {"issuer": "https://nobody.example.pl"}, {"signer": "another"},
    ],
    ids=str,
)  # fmt: skip
def test_another_assertion_is_refused(lab: SecureLab, changes: dict[str, str]) -> None:
    answer = lab.ask(example(**changes))
    assert status(answer) == "Failure", answer.text
    assert "has not proved who it is" in answer.text


def test_refused_without_saying_why(lab: SecureLab) -> None:
    answers = [
        lab.ask(example(datetime.now(UTC) - timedelta(hours=3))), lab.ask(example(), certificate=False), lab.ask(b""),
    ]  # fmt: skip
    assert {status(answer) for answer in answers} == {"Failure"}
    said = {re.search(r'codeContext="([^"]*)"', answer.text)[1] for answer in answers}
    assert len(said) == 1


def test_a_message_is_taken_once(lab: SecureLab) -> None:
    message_id = f"urn:uuid:{uuid.uuid4()}"
    assert status(lab.ask(example(), message_id=message_id)) == "Success"
    again = lab.ask(example(), message_id=message_id)
    assert status(again) == "Failure"
    assert "shown before" in again.text or "Replayed" in again.text


def test_the_token_of_the_page_is_accepted(lab: SecureLab) -> None:
    answer = lab.token()
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    with httpx.Client(verify=lab.tls(certificate=False), headers={"Authorization": f"Bearer {token}"}) as http:
        found = http.get(f"{lab.endpoints['fhir']}/Patient", params={"identifier": "urn:oid:1.2|1"})
        assert (found.status_code, found.json()["total"]) == (200, 0)
        refused = http.get(f"{lab.endpoints['fhir']}/DocumentReference", params={"patient": "1"})
        assert refused.status_code == 403
        assert "insufficient_scope" in refused.headers["WWW-Authenticate"]


def test_tokens_that_are_refused(lab: SecureLab) -> None:
    assert lab.token(aud="https://other.example.pl").status_code in (400, 401)
    repeated = str(uuid.uuid4())
    assert lab.token(jti=repeated).status_code == 200
    assert lab.token(jti=repeated).status_code in (400, 401)
    with httpx.Client(verify=lab.tls()) as http:
        for headers in ({}, {"Authorization": "Bearer e30.e30.e30"}):
            answer = http.get(f"{lab.endpoints['fhir']}/Patient", params={"family": "x"}, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert http.get(f"{lab.endpoints['fhir']}/metadata").status_code == 200
        assert set(http.get(lab.endpoints["jwks"]).json()) == {"keys"}


def test_the_page_names_every_key_and_option(lab: SecureLab) -> None:
    page = PAGE.read_text()
    for key in lab.endpoints:
        assert f"`{key}`" in page, key


def test_who_is_trusted_no_more_is_refused_without_a_restart(lab: SecureLab) -> None:
    """The last test: nobody is trusted after it."""
    assertion, token = example(), lab.token()
    assert (status(lab.ask(assertion)), token.status_code) == ("Success", 200)
    (lab.folder / "trust.json").write_text(json.dumps({"client_cas": ["ca.pem"]}))
    os.kill(int(lab.endpoints["pid"]), signal.SIGHUP)
    wait_for(lambda: status(lab.ask(assertion)) == "Failure")
    assert lab.token().status_code in (400, 401)
