"""Clients of the authorization server that share no code with it: httpx, PyJWT."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.util
import json
import re
import secrets
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import jwt
import peer
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from obieg.domain.affinity_domain import polish_document
from obieg.ops import settings as node_settings

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
REDIRECT = "https://app.example/callback"
LAUNCH = "https://app.example/launch"
with socket.socket() as _free:
    _free.bind(("127.0.0.1", 0))
    # Where tests serve the pages of an app.
    APP = f"http://127.0.0.1:{_free.getsockname()[1]}"
OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
KEYS: dict[str, Any] = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "other": ec.generate_private_key(ec.SECP256R1()),
}
KEY_OF = {"RS256": "rsa", "RS384": "rsa", "PS256": "rsa", "ES256": "p256", "ES384": "p384"}
ALL_SCOPES = "system/*.cruds user/*.cruds patient/*.rs ITI-66 launch launch/patient openid fhirUser offline_access"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def public_jwk(name: str, **more: Any) -> dict[str, Any]:
    public = KEYS[name].public_key()
    algorithm = RSAAlgorithm if isinstance(KEYS[name], rsa.RSAPrivateKey) else ECAlgorithm
    row = json.loads(algorithm.to_jwk(public))
    return {k: v for k, v in row.items() if k != "key_ops"} | {"kid": name} | more


def trust() -> dict[str, Any]:
    keys = {"keys": [public_jwk("rsa"), public_jwk("p256"), public_jwk("p384")]}
    return {
        "oauth_clients": [
            {"client_id": "service", "jwks": keys, "scopes": "system/*.rs system/Patient.cruds ITI-66 ITI-78"},
            {"client_id": "other", "jwks": {"keys": [public_jwk("other")]}, "scopes": ["system/*.rs"]},
            {
                "client_id": "ehr-app", "name": "App <script>alert(1)</script>", "jwks": keys, "scopes": ALL_SCOPES,
                "redirect_uris": [REDIRECT, "https://app.example/second?a=1"], "launch_uri": LAUNCH,
            },
            {
                "client_id": "browser", "name": "Przeglądarka", "jwks": {"keys": []}, "scopes": ALL_SCOPES,
                "redirect_uris": [REDIRECT, f"{APP}/index.html"], "launch_uri": f"{APP}/launch.html",
            },
            {
                "client_id": "small", "jwks": {"keys": []}, "scopes": "patient/Patient.rs launch/patient",
                "redirect_uris": [REDIRECT],
            },
        ]
    }  # fmt: skip


@dataclass
class Flow:
    """One person's way through the authorization code grant."""

    client_id: str = "browser"
    who: str = "doctor"
    scope: str = "user/*.rs openid fhirUser"
    redirect_uri: str = REDIRECT
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    state: str = field(default_factory=lambda: secrets.token_urlsafe(8))

    @property
    def challenge(self) -> str:
        return b64(hashlib.sha256(self.verifier.encode()).digest())

    def query(self, server: Server, **changes: str | None) -> dict[str, str]:
        given: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": self.scope,
            "state": self.state,
            "aud": server.fhir,
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
            **changes,
        }
        return {name: value for name, value in given.items() if value is not None}


class Server:
    """A running node with its authorization server."""

    def __init__(self, node: peer.Node) -> None:
        self.node = node
        self.base = node.endpoints["base_url"].rstrip("/")
        self.fhir = f"{self.base}/fhir"
        self.http = httpx.Client(timeout=30, follow_redirects=False)
        self.authority = node.endpoints["assigning_authority"]

    @property
    def node_folder(self) -> Path:
        return Path(self.node.endpoints["settings"]).parent

    def url(self, name: str) -> str:
        return f"{self.base}/auth/{name}"

    # proving a client

    def claims(self, client: str = "service", **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": client, "sub": client, "aud": self.url("token"), "iat": now, "exp": now + 240,
            "jti": str(uuid.uuid4()), **changes,
        }  # fmt: skip
        return {name: value for name, value in claims.items() if value is not ...}

    def assertion(self, client: str = "service", alg: str = "ES384", **changes: Any) -> str:
        key = "other" if client == "other" else KEY_OF[alg]
        return jwt.encode(
            self.claims(client, **changes), KEYS[key], "ES256" if client == "other" else alg, headers={"kid": key}
        )

    def proof(self, client: str = "service", **changes: Any) -> dict[str, str]:
        return {"client_assertion_type": ASSERTION, "client_assertion": self.assertion(client, **changes)}

    def post(self, name: str, data: Mapping[str, Any], **more: Any) -> httpx.Response:
        return self.http.post(self.url(name), data=dict(data), **more)

    def client_token(self, scope: str = "system/*.rs", **changes: Any) -> httpx.Response:
        return self.post("token", {"grant_type": "client_credentials", "scope": scope, **self.proof(**changes)})

    def service(self, scope: str = "system/*.rs", **changes: Any) -> str:
        response = self.client_token(scope, **changes)
        assert response.status_code == 200, response.text
        return str(response.json()["access_token"])

    # a person

    def authorize(self, flow: Flow, **changes: str | None) -> httpx.Response:
        cookie = {"Cookie": f"who={flow.who}"} if flow.who else {}
        return self.http.get(self.url("authorize"), params=flow.query(self, **changes), headers=cookie)

    def answer(self, flow: Flow, page: httpx.Response, **given: str) -> httpx.Response:
        assert page.status_code == 200, (page.status_code, page.headers.get("location"), page.text)
        question = html.unescape(re.search(r'name="question" value="([^"]*)"', page.text)[1])  # type: ignore[index]
        return self.post(
            "consent",
            {"question": question, "answer": "allow", **given},
            headers={"Cookie": f"who={flow.who}", "Origin": self.base},
        )

    def code(self, flow: Flow, *, patient: str = "", **changes: str | None) -> str:
        answer = self.answer(flow, self.authorize(flow, **changes), **({"patient": patient} if patient else {}))
        said = landed(answer)
        assert "code" in said, (answer.status_code, said, answer.text)
        assert (said.get("state", ""), said["iss"]) == (flow.state, self.base)
        return said["code"]

    def exchange(self, flow: Flow, code: str, /, **changes: Any) -> httpx.Response:
        data = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": flow.redirect_uri,
            "code_verifier": flow.verifier,
            **({"client_id": flow.client_id} if flow.client_id in ("browser", "small") else self.proof(flow.client_id)),
            **changes,
        }  # fmt: skip
        return self.post("token", {name: value for name, value in data.items() if value is not None})

    def exchange_with(self, flow: Flow, code: str, proof: str) -> httpx.Response:
        """The same of a public client that shows a proof of possession."""
        data = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": flow.redirect_uri,
            "code_verifier": flow.verifier, "client_id": flow.client_id,
        }  # fmt: skip
        return self.post("token", data, headers={"DPoP": proof})

    def granted(self, flow: Flow, *, patient: str = "", **changes: str | None) -> dict[str, Any]:
        response = self.exchange(flow, self.code(flow, patient=patient, **changes))
        assert response.status_code == 200, response.text
        return dict(response.json())

    # resources

    def get(self, path: str, token: str, **headers: str) -> httpx.Response:
        return self.http.get(f"{self.fhir}/{path}", headers={"Authorization": f"Bearer {token}", **headers})

    def patient(self) -> str:
        """Logical id of a new patient."""
        return self.node.patient().partition("^")[0]

    def signing_key(self) -> tuple[str, Any]:
        """Id and private key of the node, out of its database and key file: for tokens that only it could sign."""
        from obieg.storage.keys import KeyFile

        self.http.get(self.url("jwks"))
        [(key_id, public, wrapped)] = self.node.rows("SELECT key_id, public_key, wrapped FROM oauth_key")
        secret = KeyFile(self.node_folder / "master.key").unwrap(bytes(wrapped))
        key = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
        numbers = key.public_key().public_numbers()
        assert unb64(json.loads(public)["x"]) == numbers.x.to_bytes(32, "big")
        return key_id, key


def landed(response: httpx.Response) -> dict[str, str]:
    """What a redirection says to the app."""
    assert response.status_code == 303, (response.status_code, response.text)
    parts = urlsplit(response.headers["location"])
    assert all(len(values) == 1 for values in parse_qs(parts.query).values())
    return dict(parse_qsl(parts.query))


@contextmanager
def opened(folder: Path) -> Iterator[Server]:
    """A node of its own, trusting :func:`trust`."""
    where = Path(__file__).with_name("conftest.py")
    spec = importlib.util.spec_from_file_location("node_conftest", where)
    assert spec is not None
    assert spec.loader is not None
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    data = folder / "data"
    data.mkdir()
    (data / "trust.json").write_text(json.dumps(trust()))
    text = node_settings.write_commented(
        "region",
        lab=True,
        name="oauth",
        data_dir=".",
        workers=2,
        http={"host": "127.0.0.1", "port": 0},
        mllp={"host": "127.0.0.1", "port": 0},
        trust={"file": "trust.json"},
        identity={
            name: node_settings.new_oid()
            for name in ("home_community_id", "repository_unique_id", "assigning_authority")
        },
    )
    (data / "settings.toml").write_text(text)
    with helpers.running(folder, "serve", "--settings", data / "settings.toml", module="oauth_node") as endpoints:
        node = peer.Node(endpoints, peer.Codes(polish_document()))
        server = Server(node)
        yield server
        server.http.close()
        node.close()
