"""Proofs of possession of an attacker (RFC 9449), at the token endpoint and at the FHIR service.

Each case is a change to a proof that is accepted without it: the valid twin is made by the same function just before.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fhir_peer
import httpx
import oauth_peer
import pytest
from jwt.algorithms import ECAlgorithm
from oauth_peer import KEYS, Flow, Server, b64, public_jwk
from test_hostile_jwt import (
    FORGED,
    Made,
    at,
    token,
    with_claims,
    with_header,
    with_hmac,
    written_claims,
)

pytestmark = pytest.mark.node
SCRIPT = Path(__file__).parents[1] / "node" / "npm_dpop.mjs"
MEMBERS = ("kty", "crv", "x", "y")
WORKERS = 8
IN_A_HEADER = str.maketrans({"\n": "%0A", " ": "%20"})  # what the client would not send


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with oauth_peer.opened(tmp_path_factory.mktemp("possession")) as found:
        yield found


def jwk(name: str = "p256", **more: Any) -> dict[str, Any]:
    row = public_jwk(name)
    return {member: row[member] for member in MEMBERS if member in row} | more


def jkt(name: str = "p256") -> str:
    """RFC 7638, by hand."""
    row = jwk(name)
    return b64(hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).digest())


def parts(address: str, method: str, shown: str = "", key: str = "p256") -> Made:
    claims = {"jti": str(uuid.uuid4()), "htm": method, "htu": address, "iat": int(time.time())}
    if shown:
        claims["ath"] = b64(hashlib.sha256(shown.encode()).digest())
    algorithm = {"p256": "ES256", "other": "ES256", "p384": "ES384"}[key]
    return Made({"alg": algorithm, "typ": "dpop+jwt", "jwk": jwk(key)}, claims, KEYS[key])


def ask(server: Server, *proofs: str) -> httpx.Response:
    """A token of a service, bound to the key of the proofs."""
    data = {"grant_type": "client_credentials", "scope": "system/*.rs", **server.proof()}
    return server.post("token", data, headers=[("DPoP", proof) for proof in proofs])


def bound(server: Server) -> str:
    answer = ask(server, token(parts(server.url("token"), "POST")))
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "DPoP"
    return str(answer.json()["access_token"])


def get(server: Server, shown: str, *proofs: str, scheme: str = "DPoP", path: str = "Patient?_id=x") -> httpx.Response:
    headers = [("Authorization", f"{scheme} {shown}"), *(("DPoP", proof) for proof in proofs)]
    return server.http.get(f"{server.fhir}/{path}", headers=headers)


# What is wrong wherever it is shown. What other tokens need and a proof does not is taken out.
_NOT_OF_PROOFS = (
    "kid ", "exp ", "nbf ", "iss ", "sub ", "aud ", "typ of an id token's proof", "jwk", "claims twice", "header twice kid",
)  # fmt: skip
PROOFS: dict[str, Callable[[Made], str]] = {
    **{name: change for name, change in FORGED.items() if not name.startswith(_NOT_OF_PROOFS)},
    "typ missing": with_header(typ=...),
    "typ of a token": with_header(typ="at+jwt"),
    "typ JWT": with_header(typ="JWT"),
    "no jwk": with_header(jwk=...),
    "jwk null": with_header(jwk=None),
    "jwk a text": with_header(jwk=json.dumps(jwk())),
    "jwk empty": with_header(jwk={}),
    "jwk of another key": with_header(jwk=jwk("other")),
    "jwk with the private value": lambda m: token(
        m._replace(header={**m.header, "jwk": {**m.header["jwk"], "d": b64(b"\1" * 32)}})
    ),
    "jwk with a prime": with_header(jwk=jwk(p="AQAB")),
    "jwk for encryption": with_header(jwk=jwk(use="enc")),
    "jwk of another algorithm": with_header(jwk=jwk(alg="ES384")),
    "jwk off the curve": with_header(jwk=jwk(x=b64(b"\1" * 32))),
    "jwk without y": lambda m: token(
        m._replace(header={**m.header, "jwk": {k: v for k, v in m.header["jwk"].items() if k != "y"}})
    ),
    "jwk symmetric": lambda m: with_hmac(
        m._replace(header={**m.header, "jwk": {"kty": "oct", "k": b64(b"s" * 32)}}), b"s" * 32
    ),
    "jwk a short RSA key": with_header(alg="RS256", jwk={"kty": "RSA", "n": b64(b"\xff" * 128), "e": "AQAB"}),
    "jku besides": with_header(jku="https://evil.example/jwks"),
    "x5c besides": with_header(x5c=["MIIB"]),
    "htm missing": with_claims(htm=...),
    "htm of another method": with_claims(htm="PUT"),
    "htm in lower case": lambda m: with_claims(htm=m.claims["htm"].lower())(m),
    "htm a list": lambda m: with_claims(htm=[m.claims["htm"]])(m),
    "htu missing": with_claims(htu=...),
    "htu a list": lambda m: with_claims(htu=[m.claims["htu"]])(m),
    "htu of another path": lambda m: with_claims(htu=m.claims["htu"] + "/x")(m),
    "htu with a slash": lambda m: with_claims(htu=m.claims["htu"] + "/")(m),
    "htu of another host": lambda m: with_claims(htu=m.claims["htu"].replace("127.0.0.1", "evil.example"))(m),
    "htu of another port": lambda m: with_claims(htu=m.claims["htu"].replace("127.0.0.1:", "127.0.0.1:1"))(m),
    "htu of another scheme": lambda m: with_claims(htu=m.claims["htu"].replace("http:", "https:"))(m),
    "htu with a person": lambda m: with_claims(htu=m.claims["htu"].replace("//", "//a@"))(m),
    "htu relative": lambda m: with_claims(htu=m.claims["htu"].partition("127.0.0.1")[2])(m),
    "htu no address": with_claims(htu="http://[::1"),
    "htu in two paths": lambda m: with_claims(htu=m.claims["htu"].replace("/fhir", "/x/../fhir"))(m)
    if "/fhir" in m.claims["htu"] else with_claims(htu=m.claims["htu"].replace("/auth", "/x/../auth"))(m),
    "iat missing": with_claims(iat=...),
    "iat two minutes ago": at("iat", -125),
    "iat two minutes to come": at("iat", 125),
    "ended": at("exp", -65),
    "not begun": at("nbf", 65),
    "twice htm": written_claims(lambda c: c[:-1] + b',"htm":"POST"}'),
    "twice jti": written_claims(lambda c: c[:-1] + b',"jti":"a"}'),
}  # fmt: skip


@pytest.mark.parametrize("case", PROOFS)
def test_a_forged_proof_at_the_token_endpoint(server: Server, case: str) -> None:
    address = server.url("token")
    twin = ask(server, token(parts(address, "POST")))
    assert twin.status_code == 200, twin.text
    answer = ask(server, PROOFS[case](parts(address, "POST")).translate(IN_A_HEADER))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof"), answer.text
    assert set(answer.json()) == {"error", "error_description"}


@pytest.mark.parametrize("case", PROOFS)
def test_a_forged_proof_at_the_fhir_service(server: Server, bound_token: str, case: str) -> None:
    address = f"{server.fhir}/Patient"
    twin = get(server, bound_token, token(parts(address, "GET", bound_token)))
    assert twin.status_code == 200, twin.text
    answer = get(server, bound_token, PROOFS[case](parts(address, "GET", bound_token)).translate(IN_A_HEADER))
    assert answer.status_code == 401, answer.text
    assert 'DPoP realm="obieg", error="invalid_token", algs="' in answer.headers["www-authenticate"]


@pytest.fixture(scope="module")
def bound_token(server: Server) -> str:
    return bound(server)


@pytest.mark.parametrize("case", ["ath missing", "ath of another", "another key", "no proof", "two proofs", "Bearer"])
def test_a_stolen_token(server: Server, bound_token: str, case: str) -> None:
    address = f"{server.fhir}/Patient"

    def proof(shown: str = bound_token, key: str = "p256") -> str:
        return token(parts(address, "GET", shown, key))

    assert get(server, bound_token, proof()).status_code == 200
    proofs, scheme = {
        "ath missing": ([proof("")], "DPoP"), "ath of another": ([proof("another")], "DPoP"),
        "another key": ([proof(key="other")], "DPoP"), "no proof": ([], "DPoP"),
        "two proofs": ([proof(), proof()], "DPoP"), "Bearer": ([proof()], "Bearer"),
    }[case]  # fmt: skip
    assert get(server, bound_token, *proofs, scheme=scheme).status_code == 401


def test_what_is_taken_although_it_may_look_odd(server: Server, bound_token: str) -> None:
    """So that not everything is refused."""

    def made(path: str = "Patient") -> Made:
        return parts(f"{server.fhir}/{path}", "GET", bound_token)

    for change in (
        with_header(typ="DPoP+JWT"), with_header(kid="any", jwk=jwk(kid="mine", alg="ES256", use="sig")),
        at("iat", -55), at("iat", 50), at("exp", 60), with_claims(more={"a": 1}),
        lambda m: with_claims(htu=m.claims["htu"] + "?a=b#c")(m),
        lambda m: with_claims(htu=m.claims["htu"].replace("http:", "HTTP:"))(m),
        lambda m: with_claims(htu=m.claims["htu"].replace("Patient", "P%61tient"))(m),
    ):  # fmt: skip
        answer = get(server, bound_token, change(made()))
        assert answer.status_code == 200, answer.text
    # A token that is bound to nothing is a bearer's, whatever else is shown.
    plain = server.service()
    proof = token(parts(f"{server.fhir}/Patient", "GET", plain))
    assert get(server, plain, proof, scheme="Bearer").status_code == 200
    assert get(server, plain, proof).status_code == 401


def test_a_proof_is_taken_once(server: Server, bound_token: str) -> None:
    proof = token(parts(f"{server.fhir}/Patient", "GET", bound_token))
    with ThreadPoolExecutor(WORKERS) as pool:
        answers = list(pool.map(lambda _: get(server, bound_token, proof).status_code, range(WORKERS)))
    assert sorted(answers) == [200, *[409] * (WORKERS - 1)]
    asked = token(parts(server.url("token"), "POST"))
    assert ask(server, asked).status_code == 200
    assert ask(server, asked).status_code == 401
    # The same jti by another key is another proof.
    mine, other = parts(server.url("token"), "POST"), parts(server.url("token"), "POST", key="p384")
    for made in (mine, other):
        assert ask(server, token(made._replace(claims={**made.claims, "jti": "the-same"}))).status_code == 200
    # A public client's proof is its only one.
    code = server.code(flow := Flow())
    answer = server.exchange_with(flow, code, token(mine._replace(claims={**mine.claims, "jti": "the-same"})))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")


def test_codes_and_refresh_tokens_of_an_app_are_bound(server: Server) -> None:
    def proof(key: str = "p256") -> str:
        return token(parts(server.url("token"), "POST", key=key))

    flow = Flow(scope="user/*.rs offline_access")
    assert (
        server.exchange_with(flow, server.code(flow, dpop_jkt=jkt()), proof("other")).json()["error"] == "invalid_grant"
    )
    assert server.exchange(flow, server.code(flow, dpop_jkt=jkt())).json()["error"] == "invalid_grant"
    answer = server.exchange_with(flow, server.code(flow, dpop_jkt=jkt()), proof())
    assert (answer.status_code, answer.json()["token_type"]) == (200, "DPoP"), answer.text
    refresh = answer.json()["refresh_token"]

    def again(shown: str, *proofs: str) -> httpx.Response:
        data = {"grant_type": "refresh_token", "refresh_token": shown, "client_id": "browser"}
        return server.post("token", data, headers=[("DPoP", one) for one in proofs])

    for shown, proofs in ((refresh, ()), (refresh, (proof("other"),)), (refresh.partition(".")[0], (proof(),))):
        assert again(shown, *proofs).json()["error"] == "invalid_grant"
    renewed = again(refresh, proof())
    assert renewed.status_code == 200, renewed.text
    said = server.post("introspect", {"token": renewed.json()["access_token"], **server.proof()}).json()
    assert (said["token_type"], said["cnf"]) == ("DPoP", {"jkt": jkt()})
    wrong = server.authorize(flow, dpop_jkt="short")
    assert "error=invalid_request" in wrong.headers["location"]
    # One without an own key that revokes needs no proof (RFC 7009).
    assert server.post("revoke", {"token": renewed.json()["refresh_token"], "client_id": "browser"}).status_code == 200
    assert again(renewed.json()["refresh_token"], proof()).json()["error"] == "invalid_grant"


def test_oauth4webapi_asks_with_proofs(server: Server) -> None:
    """A client that nobody here wrote: npm oauth4webapi, from discovery to the FHIR service."""
    folder = fhir_peer.installed("npm-dpop", "oauth4webapi@3.8.8")
    key = json.loads(ECAlgorithm.to_jwk(KEYS["p384"])) | {"kid": "p384", "alg": "ES384"}
    patient = server.patient()
    task = {"issuer": server.base, "fhir": server.fhir, "key": key, "scope": "system/*.rs", "patient": patient}
    done = subprocess.run(
        ["node", SCRIPT, folder], input=json.dumps(task), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "ES256" in said["algs"]
    assert said["token_type"] == "dpop"
    assert said["confirmation"] == said["thumbprint"]
    assert [said["first"], said["second"]] == [200, 200]
    assert said["id"] == patient
