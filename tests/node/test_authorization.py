"""The authorization server of a running node: IUA (ITI-71, 72, 102, 103), SMART App Launch and Backend Services."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import fhir_peer
import httpx
import jwt
import oauth_peer
import psycopg
import pytest
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm
from oauth_peer import KEYS, REDIRECT, Flow, Server, b64, landed

from obieg.actors.authorization_server import GRANT_LIFE
from obieg.storage.keys import KeyFile
from obieg.wire import jwt as ours

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with oauth_peer.opened(tmp_path_factory.mktemp("oauth")) as found:
        yield found


def claims_of(server: Server, token: str, audience: str) -> dict[str, Any]:
    """As a resource server reads it: PyJWT, with the keys at jwks_uri."""
    found = jwt.PyJWKClient(server.http.get(f"{server.base}/.well-known/oauth-authorization-server").json()["jwks_uri"])
    key = found.get_signing_key_from_jwt(token)
    return dict(jwt.decode(token, key.key, algorithms=["ES256"], audience=audience, issuer=server.base))


# discovery -------------------------------------------------------------------------------------------------------


def test_what_the_server_says_of_itself(server: Server) -> None:
    metadata = server.http.get(f"{server.base}/.well-known/oauth-authorization-server")
    assert metadata.headers["content-type"] == "application/json"
    said = metadata.json()
    assert said["issuer"] == server.base
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert said["token_endpoint_auth_signing_alg_values_supported"] == ["RS256", "RS384", "PS256", "ES256", "ES384"]
    assert set(said["grant_types_supported"]) == {"authorization_code", "refresh_token", "client_credentials"}
    smart = server.http.get(f"{server.fhir}/.well-known/smart-configuration").json()
    assert smart["token_endpoint"] == said["token_endpoint"]
    wanted = {"launch-ehr", "launch-standalone", "client-public", "client-confidential-asymmetric", "permission-v2"}
    assert wanted <= set(smart["capabilities"])
    assert server.http.get(f"{server.base}/.well-known/openid-configuration").json() == said
    statement = server.http.get(f"{server.fhir}/metadata").json()
    [extension] = statement["rest"][0]["security"]["extension"]
    assert extension["url"] == oauth_peer.OAUTH_URIS
    uris = {e["url"]: e["valueUri"] for e in extension["extension"]}
    assert uris["token"] == said["token_endpoint"]
    assert uris["authorize"] == said["authorization_endpoint"]
    [key] = server.http.get(said["jwks_uri"]).json()["keys"]
    assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("EC", "P-256", "sig", "ES256")
    assert "d" not in key


def test_addresses_that_do_not_stand(server: Server) -> None:
    assert server.http.get(server.url("token")).status_code == 405
    assert server.http.get(server.url("nothing")).status_code == 404
    assert server.http.delete(server.url("jwks")).status_code == 405


# services --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["RS256", "RS384", "PS256", "ES256", "ES384"])
def test_a_service_gets_a_token_and_uses_it(server: Server, alg: str) -> None:
    last = server.node.last_audit()
    response = server.client_token("system/*.rs", alg=alg)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    answer = response.json()
    assert (answer["token_type"], answer["scope"], answer["expires_in"]) == ("Bearer", "system/*.rs", 300)
    claims = claims_of(server, answer["access_token"], server.fhir)
    assert jwt.get_unverified_header(answer["access_token"])["typ"] == "at+jwt"
    assert (claims["sub"], claims["client_id"]) == ("service", "service")
    assert claims["extensions"]["ihe_iua"]["home_community_id"] == server.node.home
    found = server.get("Patient?_id=nobody", answer["access_token"])
    assert found.status_code == 200, found.text
    records = server.node.audits(last)
    assert [(t, o) for _, t, o, _ in records] == [("ITI-71", 0), ("ITI-78", 0)]
    assert "Get Access Token" in records[0][3]
    assert "110114" in records[0][3]
    assert 'UserID="service"' in records[1][3]


def test_authlib_gets_a_token(server: Server) -> None:
    key = KEYS["rsa"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with OAuth2Session(client_id="service", client_secret=key, token_endpoint_auth_method="private_key_jwt") as client:
        client.register_client_auth_method(
            PrivateKeyJWT(server.url("token"), {"exp": int(time.time()) + 240}, alg="RS384", headers={"kid": "rsa"})
        )
        token = client.fetch_token(server.url("token"), grant_type="client_credentials", scope="system/Patient.rs")
        assert token["scope"] == "system/Patient.rs"
        assert client.get(f"{server.fhir}/Patient?_id=x").status_code == 200


def test_an_assertion_holds_once_even_when_shown_at_once(server: Server) -> None:
    data = {"grant_type": "client_credentials", "scope": "system/*.rs", **server.proof()}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.post("token", data), range(8)))
    assert sorted(a.status_code for a in answers) == [200] + [401] * 7
    assert {a.json().get("error") for a in answers if a.status_code == 401} == {"invalid_client"}


def test_scopes_are_what_the_client_may_have(server: Server) -> None:
    for scope, allowed in {
        "system/Patient.r": True,
        "system/Patient.cruds system/List.s": True,
        "system/Patient.read": True,
        "system/*.cruds": False,
        "system/List.u": False,
        "user/*.rs": False,
        "system/*.rs openid": False,
        "system/Patient.sr": False,
        "everything": False,
        "": False,
        "system/*.rs ": False,
    }.items():
        response = server.client_token(scope)
        assert response.status_code == (200 if allowed else 400), (scope, response.text)
        assert response.json().get("error") == (None if allowed else "invalid_scope")


def test_a_scope_may_be_a_transaction_of_ihe(server: Server) -> None:
    token = server.service("ITI-78")
    assert server.get("Patient?_id=x", token).status_code == 200
    assert server.get("List?patient=x", token).status_code == 403
    assert server.client_token("ITI-65").json()["error"] == "invalid_scope"
    mine, other = server.patient(), server.patient()
    answer = server.granted(Flow(who=f"patient.{mine}", scope="ITI-66"))
    assert answer["scope"] == "ITI-66"
    assert server.get(f"List?patient={mine}", answer["access_token"]).status_code == 200
    assert server.get(f"List?patient={other}", answer["access_token"]).status_code == 403
    assert server.get(f"Patient/{mine}", answer["access_token"]).status_code == 403


def test_a_scope_bounds_what_is_served(server: Server) -> None:
    token = server.service("system/Patient.s")
    assert server.get("Patient?_id=x", token).status_code == 200
    for path, wanted in {
        "Patient/x": "system/Patient.r",
        "List?patient=x": "system/List.s",
        "$export": "system/*.rs",
        "Organization/x/_history": "system/Organization.r",
    }.items():
        refused = server.get(path, token)
        assert refused.status_code == 403, (path, refused.text)
        assert refused.json()["issue"][0]["details"]["coding"] == [{"code": "InsufficientScope"}]
        assert (
            refused.headers["www-authenticate"] == f'Bearer realm="obieg", error="insufficient_scope", scope="{wanted}"'
        )
    put = server.http.put(
        f"{server.fhir}/Patient?identifier=urn:oid:1.2|3",
        json={"resourceType": "Patient"},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert put.status_code == 403


def test_without_a_token_nothing_is_served(server: Server) -> None:
    last = server.node.last_audit()
    for headers, challenge in [
        ({}, 'Bearer realm="obieg"'),
        ({"Authorization": "Bearer x"}, 'Bearer realm="obieg", error="invalid_token"'),
    ]:
        response = server.http.get(f"{server.fhir}/Patient?_id=x", headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].partition(", DPoP ")[0] == challenge
        assert response.json()["resourceType"] == "OperationOutcome"
    assert len(server.node.audits(last)) == 2


def test_a_token_is_bound_to_the_certificate_of_who_asked_for_it(server: Server) -> None:
    def certificate(name: str) -> str:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        made = x509.CertificateBuilder(
            subject, subject, KEYS["p256"].public_key(), 1, now, now + timedelta(days=1)
        ).sign(KEYS["p256"], hashes.SHA256())
        return b64encode(made.public_bytes(Encoding.DER)).decode()

    mine, other = certificate("mine"), certificate("other")
    data = {"grant_type": "client_credentials", "scope": "system/*.rs", **server.proof()}
    token = server.post("token", data, headers={"x-certificate": mine}).json()["access_token"]
    assert set(claims_of(server, token, server.fhir)["cnf"]) == {"x5t#S256"}
    path = "Patient?_id=x"
    assert server.get(path, token, **{"x-certificate": mine}).status_code == 200
    assert server.get(path, token, **{"x-certificate": other}).status_code == 401
    assert server.get(path, token).status_code == 401
    assert server.get(path, server.service(), **{"x-certificate": other}).status_code == 200


def test_smart_fetch_exports_as_a_backend_service(server: Server, tmp_path: Path) -> None:
    """A client of SMART Backend Services that nobody here wrote: discovery, private_key_jwt, then a bulk export."""
    patients = {server.patient() for _ in range(3)}
    key = tmp_path / "key.jwks"
    private = json.loads(ECAlgorithm.to_jwk(KEYS["p384"])) | {"kid": "p384", "alg": "ES384", "key_ops": ["sign"]}
    key.write_text(json.dumps({"keys": [private]}))
    command = [
        fhir_peer.smart_fetch(), "bulk", tmp_path / "out", "--fhir-url", server.fhir, "--no-compression",
        "--smart-client-id", "service", "--smart-key", key, "--type", "Patient",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for path in (tmp_path / "out").glob("Patient*.ndjson") for line in path.read_text().splitlines()]
    assert patients <= {json.loads(line)["id"] for line in lines}


# people ----------------------------------------------------------------------------------------------------------


def test_a_professional_lets_an_app_in(server: Server) -> None:
    flow = Flow(scope="user/Patient.rs user/Practitioner.r openid fhirUser offline_access")
    last = server.node.last_audit()
    page = server.authorize(flow)
    assert page.status_code == 200
    assert "script-src" not in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "form-action 'self' https://app.example;" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    assert '<html lang="pl">' in page.text
    assert "Zofia Żółć" in page.text
    assert "kończy się" not in page.text  # offline_access says itself for how long
    assert "Dostęp kończy się po <strong>60</strong> minutach." in server.authorize(Flow()).text
    said = landed(server.answer(flow, page))
    answer = server.exchange(flow, said["code"]).json()
    assert set(answer["scope"].split()) == set(flow.scope.split())
    claims = claims_of(server, answer["access_token"], server.fhir)
    assert claims["sub"] == "2.16.840.1.113883.3.4424.1.6.2#1234567"
    assert claims["extensions"]["ihe_iua"] == {
        "subject_name": "Zofia Żółć",
        "subject_organization_id": "urn:oid:2.16.840.1.113883.3.4424.2.3.1/000000001",
        "subject_role": [{"system": "urn:obieg:role", "code": "doctor"}],
        "purpose_of_use": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}],
        "home_community_id": server.node.home,
        "national_provider_identifier": "1234567",
    }
    identity = claims_of(server, answer["id_token"], "browser")
    assert identity["sub"] == claims["sub"]
    assert server.get("Patient?_id=x", answer["access_token"]).status_code == 200
    assert server.get("List?patient=x", answer["access_token"]).status_code == 403
    transactions = [(t, o) for _, t, o, _ in server.node.audits(last)]
    assert transactions == [("ITI-71", 0), ("ITI-71", 0), ("ITI-78", 0), ("ITI-66", 8)]
    assert "2.16.840.1.113883.3.4424.1.6.2#1234567" in server.node.audits(last)[2][3]


def test_authlib_walks_the_code_flow_with_pkce(server: Server) -> None:
    with OAuth2Session(
        client_id="browser", scope="user/Patient.rs openid", redirect_uri=REDIRECT,
        code_challenge_method="S256", token_endpoint_auth_method="none",
    ) as client:  # fmt: skip
        verifier = "v" * 64
        address, state = client.create_authorization_url(
            server.url("authorize"), code_verifier=verifier, aud=server.fhir, nonce="n-1"
        )
        flow = Flow()
        page = server.http.get(address, headers={"Cookie": "who=doctor"})
        answer = server.answer(flow, page)
        token = client.fetch_token(
            server.url("token"), authorization_response=answer.headers["location"], code_verifier=verifier, state=state
        )
        assert token["scope"] == "user/Patient.rs openid"
        assert claims_of(server, token["id_token"], "browser")["nonce"] == "n-1"
        assert client.get(f"{server.fhir}/Patient?_id=x").status_code == 200


@pytest.mark.parametrize(
    ("accept", "language", "word"), [("en-GB", "en", "Allow"), ("uk, pl", "uk", "Дозволяю"), ("de", "pl", "Zezwalam")]
)
def test_the_consent_page_speaks_three_languages(server: Server, accept: str, language: str, word: str) -> None:
    flow = Flow(
        client_id="ehr-app", scope="user/*.rs patient/Patient.cruds openid fhirUser offline_access launch/patient"
    )
    page = server.http.get(
        server.url("authorize"), params=flow.query(server), headers={"Cookie": "who=doctor", "Accept-Language": accept}
    )
    assert f'<html lang="{language}">' in page.text
    assert word in page.text
    assert "<script" not in page.text
    assert "App &lt;script&gt;" in page.text


def test_nobody_logged_in_is_sent_to_the_log_in_page(server: Server) -> None:
    flow = Flow(who="")
    response = server.authorize(flow)
    address = urlsplit(response.headers["location"])
    assert (response.status_code, address.scheme, address.path) == (303, "", "/login")
    then = urlsplit(dict(parse_qsl(address.query))["next"])
    assert then.path == "/auth/authorize"
    assert dict(parse_qsl(then.query)) == flow.query(server)
    back = server.http.get(f"{server.base}{then.path}?{then.query}", headers={"Cookie": "who=doctor"})
    assert back.status_code == 200
    assert landed(server.authorize(flow, prompt="none"))["error"] == "login_required"


def test_a_log_in_must_be_as_new_as_the_app_asks(server: Server) -> None:
    """OpenID Connect Core 1.0, section 3.1.2.1: max_age."""
    old = Flow(who=f"doctor; since={time.time() - 600}")
    assert server.authorize(old, max_age="700").status_code == 200
    for age in ("500", "0"):
        asked = server.authorize(old, max_age=age)
        address = dict(parse_qsl(urlsplit(asked.headers["location"]).query, keep_blank_values=True))
        assert (asked.status_code, set(address)) == (303, {"next", "again"})
        back = f"{server.base}{address['next']}"
        assert server.http.get(back, headers={"Cookie": f"who={old.who}"}).status_code == 303, "not without logging in"
        lately = f"who=doctor; since={time.time() - (100 if age == '500' else -1)}"
        assert server.http.get(back, headers={"Cookie": lately}).status_code == 200
        assert landed(server.authorize(old, max_age=age, prompt="none"))["error"] == "login_required"
    code = landed(server.answer(old, server.authorize(old, max_age="700")))["code"]
    said = claims_of(server, server.exchange(old, code).json()["id_token"], "browser")
    assert 590 < time.time() - said["auth_time"] < 660


@pytest.mark.parametrize("prompt", ["login", "select_account", "consent login"])
def test_an_app_may_have_the_person_log_in_anew(server: Server, prompt: str) -> None:
    flow = Flow()
    asked = server.authorize(flow, prompt=prompt)
    address = urlsplit(asked.headers["location"])
    assert (asked.status_code, address.path) == (303, "/login")
    back = f"{server.base}{dict(parse_qsl(address.query))['next']}"
    assert server.http.get(back, headers={"Cookie": "who=doctor"}).status_code == 303
    anew = server.http.get(back, headers={"Cookie": f"who=doctor; since={time.time() + 1}"})
    assert anew.status_code == 200, "once is enough"
    assert landed(server.answer(flow, anew))["state"] == flow.state


def test_prompts_that_ask_for_nothing_more(server: Server) -> None:
    assert server.authorize(Flow(), prompt="consent").status_code == 200
    assert landed(server.authorize(Flow(), prompt="none"))["error"] == "consent_required"
    nobody = server.authorize(Flow(who=""), prompt="login", max_age="0")
    back = f"{server.base}{dict(parse_qsl(urlsplit(nobody.headers['location']).query))['next']}"
    assert server.http.get(back, headers={"Cookie": f"who=doctor; since={time.time() + 1}"}).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": "none login"}, {"prompt": "create"}, {"prompt": "LOGIN"}, {"max_age": "-1"}, {"max_age": "1.5"},
        {"max_age": "x"}, {"max_age": "9" * 40}, {"max_age": "\u0661"}, {"login_after": "-1"}, {"login_after": "x"},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_of_a_log_in(server: Server, wrong: dict[str, str]) -> None:
    assert landed(server.authorize(Flow(), **wrong))["error"] == "invalid_request"


def test_a_form_of_another_page_lets_nobody_in(server: Server) -> None:
    flow = Flow()
    page = server.authorize(flow)
    question = re.search(r'name="question" value="([^"]*)"', page.text)
    assert question is not None
    data = {"question": question[1], "answer": "allow"}
    for headers in (
        {}, {"Origin": "null"}, {"Origin": "https://evil.example"}, {"Origin": server.base, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, {"Referer": server.base},
    ):  # fmt: skip
        refused = server.post("consent", data, headers={"Cookie": "who=doctor", **headers})
        assert (refused.status_code, "location" in refused.headers) == (400, False), headers
    own = {"Cookie": "who=doctor", "Origin": "null", "Sec-Fetch-Site": "same-origin"}
    assert "code" in landed(server.post("consent", data, headers=own))


def test_a_person_may_refuse(server: Server) -> None:
    flow = Flow()
    said = landed(server.answer(flow, server.authorize(flow), answer="deny"))
    assert (said["error"], said["state"]) == ("access_denied", flow.state)


def test_a_patient_lets_an_app_see_their_own_data_only(server: Server) -> None:
    mine, other = server.patient(), server.patient()
    flow = Flow(who=f"patient.{mine}", scope="patient/*.rs user/*.rs launch/patient openid fhirUser")
    page = server.authorize(flow)
    assert "Jan &lt;b&gt;Nowak" in page.text
    answer = server.exchange(flow, landed(server.answer(flow, page))["code"]).json()
    assert answer["scope"] == "patient/*.rs launch/patient openid fhirUser"
    assert answer["patient"] == mine
    token = answer["access_token"]
    claims = claims_of(server, token, server.fhir)
    assert claims["extensions"]["ihe_iua"]["person_id"] == f"{mine}^^^&{server.authority}&ISO"
    assert claims_of(server, answer["id_token"], "browser")["fhirUser"] == f"{server.fhir}/Patient/{mine}"
    assert server.get(f"Patient/{mine}", token).status_code == 200
    assert server.get(f"DocumentReference?patient={mine}", token).status_code == 200
    for path in (
        f"Patient/{other}",
        f"DocumentReference?patient={other}",
        f"DocumentReference?patient={mine},{other}",
        f"List?patient={other}",
        f"Patient?_id={other}",
        "Patient?_id=nobody",
        f"Patient/{other}/$everything",
        "$export",
    ):
        refused = server.get(path, token)
        assert refused.status_code == 403, (path, refused.status_code, refused.text)
        assert other not in refused.text or other in path
    assert server.get("Organization?_id=x", token).status_code == 200


def test_a_professional_says_whose_data_the_app_shall_see(server: Server) -> None:
    patient = server.patient()
    flow = Flow(scope="launch/patient patient/Patient.rs")
    page = server.authorize(flow)
    assert 'name="patient" required' in page.text
    again = server.answer(flow, page, patient="nobody")
    assert again.status_code == 200
    assert 'role="alert"' in again.text
    said = landed(server.answer(flow, again, patient=f" {patient} "))
    answer = server.exchange(flow, said["code"]).json()
    assert answer["patient"] == patient
    assert server.get(f"Patient/{patient}", answer["access_token"]).status_code == 200
    assert server.get(f"Patient/{server.patient()}", answer["access_token"]).status_code == 403


def test_an_app_is_launched_with_a_patient(server: Server) -> None:
    patient = server.patient()
    started = server.http.get(
        server.url("launch"), params={"client_id": "ehr-app", "patient": patient}, headers={"Cookie": "who=doctor"}
    )
    assert started.headers["location"].startswith(f"{oauth_peer.LAUNCH}?")
    given = landed(started)
    assert given["iss"] == server.fhir
    flow = Flow(client_id="ehr-app", scope="launch patient/*.rs openid fhirUser offline_access")
    answer = server.granted(flow, launch=given["launch"])
    assert answer["patient"] == patient
    assert server.get(f"Patient/{patient}", answer["access_token"]).status_code == 200
    for changed in (
        {"who": "nurse"}, {"client_id": "browser"}, {"scope": "patient/*.rs"},
    ):  # fmt: skip
        stolen = Flow(**{"client_id": "ehr-app", "scope": "launch patient/*.rs", **changed})  # type: ignore[arg-type]
        assert landed(server.authorize(stolen, launch=given["launch"]))["error"] == "invalid_request"
    assert landed(server.authorize(flow, launch="invented"))["error"] == "invalid_request"
    nobody = server.http.get(server.url("launch"), params={"client_id": "ehr-app", "patient": patient})
    assert nobody.status_code == 400
    assert "location" not in nobody.headers


# refresh, introspection, revocation ------------------------------------------------------------------------------


def refreshed(server: Server, token: str, **more: Any) -> httpx.Response:
    data = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "browser", **more}
    return server.post("token", data)


def test_refresh_tokens_change_and_a_used_one_ends_all(server: Server) -> None:
    answer = server.granted(Flow(scope="user/*.rs offline_access"))
    first = answer["refresh_token"]
    second = refreshed(server, first, scope="user/Patient.s").json()
    assert second["scope"] == "user/Patient.s"
    assert second["refresh_token"] != first
    third = refreshed(server, second["refresh_token"]).json()
    assert set(third["scope"].split()) == {"user/*.rs", "offline_access"}
    assert server.get("Patient?_id=x", third["access_token"]).status_code == 200
    assert refreshed(server, third["refresh_token"], scope="user/*.cruds").json()["error"] == "invalid_scope"
    stolen = refreshed(server, first)
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    assert refreshed(server, third["refresh_token"]).json()["error"] == "invalid_grant"
    for token in (answer, second, third):
        assert server.get("Patient?_id=x", token["access_token"]).status_code == 401


def test_who_may_not_act_so_any_more_gets_no_token(server: Server) -> None:
    dismissed = Flow(who="doctor.until0")
    answer = server.exchange(dismissed, server.code(dismissed))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    until = time.time() + 3
    granted = server.granted(Flow(scope="user/*.rs offline_access", who=f"doctor.until{until}"))
    time.sleep(max(0, until - time.time()))
    assert refreshed(server, granted["refresh_token"]).json()["error"] == "invalid_grant"


def test_every_refusal_is_audited_once(server: Server) -> None:
    asked: list[tuple[str, Callable[[], httpx.Response]]] = [
        ("ITI-71", lambda: server.client_token("system/*.cruds")),
        ("ITI-71", lambda: server.post("token", {"grant_type": "client_credentials"})),
        ("ITI-71", lambda: server.http.post(server.url("token"), json={})),
        ("ITI-71", lambda: server.authorize(Flow(), code_challenge=None)),
        ("ITI-71", lambda: server.authorize(Flow(), client_id="nobody")),
        ("ITI-71", lambda: server.post("consent", {"question": "x"}, headers={"Cookie": "who=doctor"})),
        ("ITI-102", lambda: server.post("introspect", {"token": "x"})),
        ("RFC 7009", lambda: server.post("revoke", {"token": "x"})),
    ]
    for transaction, ask in asked:
        last = server.node.last_audit()
        ask()
        [(_, name, outcome, message)] = server.node.audits(last)
        assert (name, outcome) == (transaction, 8)
        assert "127.0.0.1" in message


def test_of_two_who_refresh_at_once_none_goes_on(server: Server) -> None:
    token = server.granted(Flow(scope="user/*.rs offline_access"))["refresh_token"]
    with ThreadPoolExecutor(6) as pool:
        answers = [a.json() for a in pool.map(lambda _: refreshed(server, token), range(6))]
    won = [a for a in answers if "access_token" in a]
    assert len(won) <= 1
    for answer in won:
        assert server.get("Patient?_id=x", answer["access_token"]).status_code == 401


def test_a_refresh_token_is_its_clients_own(server: Server) -> None:
    token = server.granted(Flow(scope="user/*.rs offline_access"))["refresh_token"]
    assert refreshed(server, token, client_id="small").json()["error"] == "invalid_grant"
    assert "access_token" in refreshed(server, token).json()


def test_a_code_is_used_once(server: Server) -> None:
    flow = Flow()
    code = server.code(flow)
    token = server.exchange(flow, code).json()["access_token"]
    assert server.get("Patient?_id=x", token).status_code == 200
    assert server.exchange(flow, code).json()["error"] == "invalid_grant"
    assert server.get("Patient?_id=x", token).status_code == 401


def test_a_code_ends_within_a_minute(server: Server) -> None:
    flow = Flow()
    code = server.code(flow)
    digest = hashlib.sha256(code.encode()).digest()
    with psycopg.connect(server.node.dsn) as connection:
        [left] = connection.execute(
            "SELECT extract(epoch FROM until - now()) FROM oauth_secret WHERE digest = %s", [digest]
        ).fetchone()
        assert 0 < left <= 60
        connection.execute("UPDATE oauth_secret SET until = now() - interval '1 second' WHERE digest = %s", [digest])
    assert server.exchange(flow, code).json()["error"] == "invalid_grant"


def test_a_grant_ends_however_often_it_is_used(server: Server) -> None:
    token = server.granted(Flow(scope="user/*.rs offline_access"))["refresh_token"]
    for days, left in ((GRANT_LIFE.days - 10, 10), (GRANT_LIFE.days + 1, 0)):
        digest = hashlib.sha256(token.encode()).digest()
        at = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        with psycopg.connect(server.node.dsn) as connection:
            connection.execute(
                "UPDATE oauth_grant SET content = jsonb_set(content::jsonb, '{at}', to_jsonb(%s::text))::text"
                " WHERE grant_id = (SELECT grant_id FROM oauth_secret WHERE digest = %s)",
                [at, digest],
            )
        answer = refreshed(server, token).json()
        assert server.get("Patient?_id=x", answer["access_token"]).status_code == 200
        if not left:
            assert "refresh_token" not in answer
            return
        token = answer["refresh_token"]
        with psycopg.connect(server.node.dsn) as connection:
            [days_left] = connection.execute(
                "SELECT extract(epoch FROM until - now()) / 86400 FROM oauth_secret WHERE digest = %s",
                [hashlib.sha256(token.encode()).digest()],
            ).fetchone()
        assert left - 0.1 < days_left <= left


def test_introspection(server: Server) -> None:
    answer = server.granted(Flow(scope="user/*.rs offline_access"))
    last = server.node.last_audit()
    said = server.post("introspect", {"token": answer["access_token"], **server.proof()}).json()
    assert said["active"] is True
    assert (said["client_id"], said["scope"], said["aud"]) == ("browser", "user/*.rs offline_access", server.fhir)
    assert said["extensions"]["ihe_iua"]["purpose_of_use"][0]["code"] == "TREAT"
    assert [(t, o) for _, t, o, _ in server.node.audits(last)] == [("ITI-102", 0)]
    refresh = server.post("introspect", {"token": answer["refresh_token"], **server.proof()}).json()
    assert (refresh["active"], refresh["client_id"]) == (True, "browser")
    assert server.post("introspect", {"token": "x", **server.proof()}).json() == {"active": False}
    for nobody in ({}, {"client_id": "browser"}):
        response = server.post("introspect", {"token": answer["access_token"], **nobody})
        assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


def test_revocation(server: Server) -> None:
    service = server.service()
    other = server.post("revoke", {"token": service, **server.proof("other")})
    assert other.status_code == 200
    assert server.get("Patient?_id=x", service).status_code == 200
    assert server.post("revoke", {"token": service, **server.proof()}).status_code == 200
    assert server.get("Patient?_id=x", service).status_code == 401
    assert server.post("introspect", {"token": service, **server.proof()}).json() == {"active": False}

    answer = server.granted(Flow(scope="user/*.rs offline_access"))
    assert server.post("revoke", {"token": answer["refresh_token"], "client_id": "browser"}).status_code == 200
    assert server.get("Patient?_id=x", answer["access_token"]).status_code == 401
    assert refreshed(server, answer["refresh_token"]).json()["error"] == "invalid_grant"
    assert server.post("revoke", {"token": "unknown", "client_id": "browser"}).status_code == 200
    assert server.post("revoke", {"token": "unknown"}).status_code == 401


# browsers --------------------------------------------------------------------------------------------------------


def test_pages_of_registered_apps_may_read_answers(server: Server) -> None:
    asking = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    for address in (server.url("token"), f"{server.fhir}/Patient", f"{server.fhir}/.well-known/smart-configuration"):
        allowed = server.http.options(address, headers={"Origin": "https://app.example", **asking})
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        for origin in ("https://evil.example", "https://app.example.evil", "null", "http://app.example"):
            refused = server.http.options(address, headers={"Origin": origin, **asking})
            assert "access-control-allow-origin" not in refused.headers
    read = server.http.get(f"{server.fhir}/metadata", headers={"Origin": "https://app.example"})
    assert read.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-credentials" not in read.headers
    page = server.http.get(server.url("authorize"), headers={"Origin": "https://app.example"})
    assert "access-control-allow-origin" not in page.headers


# keys ------------------------------------------------------------------------------------------------------------


def test_another_key_signs_when_its_time_has_come(server: Server) -> None:
    """A key made elsewhere is found by a worker that does not know it."""
    old = server.service()
    pair = ours.new_key()
    key_id = pair.thumbprint()
    wrapped = KeyFile(server.node_folder / "master.key").wrap(ours.private_value(pair))
    assert ours.private_value(pair) not in wrapped
    with psycopg.connect(server.node.dsn) as connection:
        connection.execute(
            "INSERT INTO oauth_key VALUES (%s, %s, %s, now() + interval '1 hour')",
            [key_id, json.dumps(ours.public_jwk(pair, key_id)), wrapped],
        )
    time.sleep(2.1)
    now = int(time.time())
    claims = {
        "iss": server.base, "sub": "service", "client_id": "service", "aud": server.fhir, "iat": now, "exp": now + 60,
        "jti": b64(b"x" * 12), "scope": "system/*.rs",
    }  # fmt: skip
    made = ours.write(claims, pair, key_id, typ="at+jwt")
    assert server.get("Patient?_id=x", made).status_code == 200
    assert server.get("Patient?_id=x", old).status_code == 200
    with psycopg.connect(server.node.dsn) as connection:
        connection.execute("DELETE FROM oauth_key WHERE key_id = %s", [key_id])
