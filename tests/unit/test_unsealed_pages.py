"""What pages and the authorization server say while the audit is not sealed, and what stays possible."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from obieg.domain.problems import NotSealed
from obieg.domain.requester import Requester
from obieg.domain.trust import OAuthClient
from obieg.edges.authorization import AuthorizationEdge
from obieg.edges.patient_login import PatientLoginEdge
from obieg.web.kit import Kit

BASE = "https://region.example.pl"
BACK = "https://app.example/back"
OWN = {"Origin": BASE, "Cookie": "a=b"}
WORDS = {"pl": "zapieczętować", "en": "cannot seal", "uk": "опечатати"}


async def closed() -> None:
    raise NotSealed("the audit has not been sealed for more than 5 s; nothing is served")


class Server:
    """Whoever reaches it does something; ``done`` says what."""

    issuer = BASE

    def __init__(self) -> None:
        self.done: list[str] = []

    def metadata(self) -> dict[str, Any]:
        return {"issuer": BASE}

    def check_client(self, client_id: str, redirect_uri: str) -> OAuthClient:
        return OAuthClient(client_id, {}, (), redirect_uris=(redirect_uri,))

    def answer_address(self, redirect_uri: str, state: str, **said: str) -> str:
        return str(httpx.URL(redirect_uri, params={**said, "state": state}))

    async def deny(self, _identifier: str, _person: Requester) -> str:
        self.done.append("deny")
        return BACK

    async def revoke(self, _given: Any, _proof: Any) -> None:
        self.done.append("revoke")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked")


class Sessions:
    async def current(self, _cookie: str) -> Requester:
        return Requester(system="pages", person="anna", proof="session")

    async def stands(self, _person: Requester) -> bool:
        return True

    def login_address(self, then: str, _again: Requester | None = None) -> str:
        return then


class PatientLogin:
    sign_on_url = "https://idp.example"

    def __init__(self) -> None:
        self.done: list[str] = []

    def metadata(self) -> bytes:
        return b"<m/>"

    async def end(self, _attempt: Any, _cookie: str) -> str:
        self.done.append("end")
        return "a=; Max-Age=0"

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked")


def client(application: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url=BASE)


def authorization() -> tuple[Server, httpx.AsyncClient]:
    server = Server()
    return server, client(AuthorizationEdge(server, Sessions(), base=BASE, expect_sealed=closed))


@pytest.mark.parametrize("name", ["token", "introspect"])
async def test_programs_are_told_to_come_back(name: str) -> None:
    server, peer = authorization()
    answer = await peer.post(f"/auth/{name}", data={"grant_type": "client_credentials", "token": "x"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"] == "temporarily_unavailable"
    assert "not sealed" in answer.json()["error_description"]
    assert server.done == []


async def test_an_app_is_told_by_the_address_of_the_person() -> None:
    _, peer = authorization()
    answer = await peer.get("/auth/authorize", params={"client_id": "a", "redirect_uri": BACK, "state": "s"})
    where = urlsplit(answer.headers["location"])
    said = dict(parse_qsl(where.query))
    assert (answer.status_code, f"{where.scheme}://{where.netloc}{where.path}") == (303, BACK)
    assert (said["error"], said["state"]) == ("temporarily_unavailable", "s")


@pytest.mark.parametrize("language", WORDS)
async def test_people_read_in_their_language_what_happened(language: str) -> None:
    server, peer = authorization()
    headers = {**OWN, "Accept-Language": language}
    for answer in (
        await peer.post("/auth/consent", data={"question": "q", "answer": "allow"}, headers=headers),
        await peer.get("/auth/launch", params={"client_id": "a"}, headers=headers),
    ):
        assert answer.status_code == 503
        assert answer.headers["content-type"].startswith("text/html")
        assert WORDS[language] in answer.text
    assert server.done == []
    kit = Kit(origin=BASE, name="x", expect_sealed=closed)
    page = Starlette(routes=[kit.route("/page", get=_shown), kit.route("/login", get=_shown, sealed=False)])
    answer = await client(page).get("/page", headers=headers)
    assert (answer.status_code, f'lang="{language}"' in answer.text) == (503, True)
    assert WORDS[language] in answer.text
    assert "obieg audit verify" in answer.text
    assert (await client(page).get("/login")).text == "shown"


async def _shown(_request: Any) -> PlainTextResponse:
    return PlainTextResponse("shown")


async def test_what_takes_rights_away_stays_possible() -> None:
    server, peer = authorization()
    denied = await peer.post("/auth/consent", data={"question": "q", "answer": "deny"}, headers=OWN)
    assert (denied.status_code, denied.headers["location"]) == (303, BACK)
    assert (await peer.post("/auth/revoke", data={"token": "x"})).status_code == 200
    assert server.done == ["deny", "revoke"]
    assert (await peer.get("/.well-known/oauth-authorization-server")).json() == {"issuer": BASE}


async def test_patients_cannot_log_in_but_out() -> None:
    login = PatientLogin()
    edge = PatientLoginEdge(login, public_url=BASE, new_request_id=lambda: "r", expect_sealed=closed)
    peer = client(edge)
    for answer in (
        await peer.get("/login/wk"),
        await peer.get("/login/wk/acs", params={"SAMLart": "x"}),
        await peer.post("/login/wk/acs", data={"SAMLart": "x"}),
    ):
        assert answer.status_code == 503
        assert all(word in answer.text for word in WORDS.values())
    assert login.done == []
    assert (await peer.post("/login/wk/logout", headers=OWN)).status_code == 200
    assert login.done == ["end"]
    assert (await peer.get("/login/wk/metadata")).status_code == 200
