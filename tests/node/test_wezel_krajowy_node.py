"""Patients log in at a real node through the stand-in of Węzeł Krajowy, over TLS, with httpx as the browser."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import peer
import psycopg
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree, html
from standins.wezel_krajowy.provider import PEOPLE, KeyPair

import commanding
from obieg.ops import settings as node_settings
from obieg.ops.commands_certs import make as make_certificate
from obieg.ops.postgres import Server
from running import running

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.node


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Place:
    """The node, the stand-in, and what a browser needs to reach them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.node, self.there = f"http://127.0.0.1:{free_port()}", f"https://127.0.0.1:{free_port()}"
        make_certificate(folder, "standin", ["127.0.0.1"])
        self.tls = ssl.create_default_context(cafile=folder / "ca.pem")
        for name in ("signing", "encryption"):
            pair = KeyPair.make(name)
            pem = pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / f"{name}.key").write_bytes(pem)
            (folder / f"{name}.pem").write_bytes(pair.certificate.public_bytes(Encoding.PEM))
        command = [
            sys.executable, "-m", "standins.wezel_krajowy", "--port", self.there.rpartition(":")[2],
            "--client", f"{self.node}/login/wk/metadata", "--metadata", folder / "metadata.xml",
            "--certificate", folder / "standin.pem", "--key", folder / "standin.key",
        ]  # fmt: skip
        environment = peer.free_environment()
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), environment.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(command, env=environment)
        stack.callback(self.stop)
        peer.wait_for(self.answers)
        self.data = folder / "data"
        self.data.mkdir()
        identity = {
            n: node_settings.new_oid() for n in ("home_community_id", "repository_unique_id", "assigning_authority")
        }
        (self.data / "settings.toml").write_text(
            node_settings.write_commented(
                "region",
                lab=True,
                name="wk",
                data_dir=".",
                workers=1,
                http={"host": "127.0.0.1", "port": int(self.node.rpartition(":")[2]), "public_url": self.node},
                mllp={"enabled": False},
                identity=identity,
                wezel_krajowy={
                    "own_entity_id": "https://node.example/sp",
                    "metadata_file": "../metadata.xml",
                    "ca_file": "../ca.pem",
                    **{
                        f"{pair}_{kind}_file": f"../{pair}.{ending}"
                        for pair in ("signing", "encryption")
                        for kind, ending in (("certificate", "pem"), ("key", "key"))
                    },
                },
            )
        )
        self.endpoints = stack.enter_context(running(folder, "serve", "--settings", self.data / "settings.toml"))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def answers(self) -> bool:
        assert self.process.poll() is None
        try:
            return httpx.get(f"{self.there}/health", verify=self.tls).is_success
        except httpx.TransportError:
            return False

    def behave(self, **behaviour: Any) -> None:
        httpx.post(f"{self.there}/behaviour", json=behaviour, verify=self.tls).raise_for_status()

    def state(self) -> dict[str, Any]:
        return httpx.get(f"{self.there}/state", verify=self.tls).json()

    def browser(self) -> httpx.Client:
        return httpx.Client(verify=self.tls)

    def obieg(self, *arguments: str) -> str:
        words = (*arguments, "--settings", self.endpoints["settings"])
        done = commanding.obieg(*words, environment=peer.free_environment() | {"COLUMNS": "400"})
        assert done.returncode == 0, done.stderr
        return done.stdout

    def patients(self) -> list[str]:
        with psycopg.connect(Server(self.data / "postgres").dsn) as connection:
            return [
                p for (p,) in connection.execute("SELECT pesel FROM patient_session ORDER BY started_at").fetchall()
            ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path_factory.mktemp("wk"), stack)


@pytest.fixture
def wk(place: Place) -> Place:
    place.behave()
    return place


def submit(browser: httpx.Client, page: httpx.Response, **more: str) -> httpx.Response:
    """Sends the form of a page, as a press of a button or its script does."""
    form = html.fromstring(page.text).find(".//form")
    fields = {i.get("name"): i.get("value", "") for i in form.iter("input")}
    fields |= {s.get("name"): s.value for s in form.iter("select")}
    return browser.post(urljoin(str(page.url), form.get("action")), data={**fields, **more})


def chosen(wk: Place, browser: httpx.Client, *, person: int | str = 0, **begin: str) -> httpx.Response:
    """What the identity provider sends the browser back with."""
    page = browser.get(f"{wk.node}/login/wk", params=begin)
    assert page.status_code == 200, page.text
    people = submit(browser, page)
    assert people.status_code == 200, people.text
    return submit(browser, people, person=str(person))


def log_in(wk: Place, browser: httpx.Client, **more: Any) -> httpx.Response:
    back = chosen(wk, browser, **more)
    assert back.status_code == 302, back.text
    return browser.get(back.headers["location"])


def test_a_patient_logs_in_and_out(wk: Place) -> None:
    before = wk.patients()
    with wk.browser() as browser:
        done = log_in(wk, browser, person=1, **{"return": "/moje/dokumenty?od=2026"})
        assert (done.status_code, done.headers["refresh"]) == (200, "0; url=/moje/dokumenty?od=2026")
        assert wk.patients() == [*before, PEOPLE[1]["pesel"]]
        assert browser.cookies["obieg-patient"]
        assert "obieg-wk" not in browser.cookies  # nothing is left of the log-in
        sessions = len(wk.state()["sessions"])
        forged = browser.post(f"{wk.node}/login/wk/logout", headers={"origin": "https://evil.example"})
        cross = browser.post(f"{wk.node}/login/wk/logout", headers={"sec-fetch-site": "cross-site"})
        assert (forged.status_code, cross.status_code) == (403, 403)
        assert browser.get(f"{wk.node}/login/wk/logout").status_code == 405
        assert wk.patients() == [*before, PEOPLE[1]["pesel"]]
        out = browser.post(f"{wk.node}/login/wk/logout", headers={"origin": "null", "sec-fetch-site": "same-origin"})
        assert out.status_code == 200
        assert out.headers["clear-site-data"] == '"cache", "storage"'
        assert wk.patients() == before
        assert len(wk.state()["sessions"]) == sessions - 1


def test_a_patient_sees_and_ends_their_sessions(wk: Place) -> None:
    """The same list as that of staff; whoever operates the node sees and ends them, too."""
    shown = []
    for agent in ("Firefox/1 Linux", "Chrome/1 Windows", "Safari/1 iPhone"):
        with wk.browser() as browser:
            browser.headers["user-agent"] = agent
            log_in(wk, browser, person=2)
            shown.append(f"obieg-patient={browser.cookies['obieg-patient']}")
    there = len(wk.state()["sessions"])
    pages = wk.node.replace("127.0.0.1", "localhost")
    own = {"cookie": shown[0], "origin": pages, "accept-language": "pl"}
    account = httpx.get(f"{pages}/account", headers=own)
    assert account.status_code == 200
    assert PEOPLE[2]["family_name"] in account.text
    rows = html.fromstring(account.text).findall(".//tbody/tr")
    assert [row.find("th").text.strip() for row in rows] == ["Safari, iPhone", "Chrome, Windows", "Firefox, Linux"]
    fields = {i.get("name"): i.get("value") for i in rows[0].iter("input")}
    refused = httpx.post(f"{pages}/account/session", data={**fields, "csrf": "0" * 64}, headers=own)
    cross = httpx.post(f"{pages}/account/session", data=fields, headers={**own, "origin": "https://evil.example"})
    assert (refused.status_code, cross.status_code) == (403, 403)
    done = httpx.post(f"{pages}/account/session", data=fields, headers=own)
    assert (done.status_code, done.headers["location"]) == (303, "/account?done=ended")
    assert httpx.get(f"{pages}/account", headers={"cookie": shown[2]}).headers["location"].startswith("/login")
    assert len(wk.state()["sessions"]) == there - 1, "there, too"
    said = wk.obieg("people", "sessions")
    assert said.count(f"{PEOPLE[2]['pesel']}  patient {PEOPLE[2]['given_name']}") == 2
    second = re.findall(rf"(?m)^(\S{{36}})  {PEOPLE[2]['pesel']}", said)[0]
    assert wk.obieg("people", "revoke", second).strip() == "1 ended"
    left = [httpx.get(f"{pages}/account", headers={"cookie": c}).status_code for c in shown]
    assert sorted(left) == [200, 303, 303]
    [mine] = [c for c, status in zip(shown, left, strict=True) if status == 200]
    with wk.browser() as browser:
        log_in(wk, browser, person=2)
        own["cookie"] = f"obieg-patient={browser.cookies['obieg-patient']}"
    csrf = html.fromstring(httpx.get(f"{pages}/account", headers=own).text).find('.//input[@name="csrf"]').get("value")
    httpx.post(f"{pages}/account/sessions", data={"csrf": csrf}, headers=own)
    assert httpx.get(f"{pages}/account", headers={"cookie": mine}).status_code == 303
    assert httpx.get(f"{pages}/account", headers=own).status_code == 200


@pytest.mark.parametrize("behaviour", [
    {"key_wrap": "kw-aes128"}, {"content": "aes128-gcm", "key_wrap": "kw-aes128"}, {"prefixes": True},
    {"sign_assertion": True}, {"derivation": "standard"},
])  # fmt: skip
def test_what_it_may_do(wk: Place, behaviour: dict[str, Any]) -> None:
    wk.behave(**behaviour)
    with wk.browser() as browser:
        assert log_in(wk, browser).status_code == 200
        assert browser.cookies["obieg-patient"]


def test_it_may_answer_by_a_form(wk: Place) -> None:
    wk.behave(by_form=True)
    with wk.browser() as browser:
        assert submit(browser, chosen(wk, browser)).status_code == 200
        assert browser.cookies["obieg-patient"]


@pytest.mark.parametrize("behaviour", [
    {"signed_by": "stranger"}, {"signed_by": "claimed"}, {"changed": "response"}, {"sign_response": False},
    {"content": "aes256-cbc"}, {"key_wrap": "rsa-1_5"}, {"encrypted_for": "another"}, {"request": "ID-other"},
    {"ends": "-PT200S", "begins": "-PT600S"}, {"recipient": "https://evil.example/"}, {"status": "RequestDenied"},
    {"audience": "https://evil.example/"}, {"issuer": "evil.example"}, {"pesel": "12345678901"},
    {"resolve": "ID-other"}, {"level": "http://eidas.europa.eu/LoA/none"},
], ids="-".join)  # fmt: skip
def test_what_it_must_not_do(wk: Place, behaviour: dict[str, Any]) -> None:
    before = wk.patients()
    wk.behave(**behaviour)
    with wk.browser() as browser:
        page = browser.get(f"{wk.node}/login/wk")
        people = submit(browser, page)
        more = {"level": behaviour["level"]} if "level" in behaviour else {}
        refused = browser.get(submit(browser, people, person="0", **more).headers["location"])
        assert refused.status_code == 403
        assert "obieg-patient" not in browser.cookies
        assert not re.search("signature|podpis|another|changed", refused.text)
        wk.behave()
        assert log_in(wk, browser).status_code == 200  # nothing is wrong but that
    assert len(wk.patients()) == len(before) + 1


def test_who_cancels_is_not_logged_in(wk: Place) -> None:
    with wk.browser() as browser:
        assert log_in(wk, browser, person="").status_code == 403
        assert "obieg-patient" not in browser.cookies


def test_an_artifact_is_used_once_and_by_who_began(wk: Place) -> None:
    wk.behave(replays=True)
    with wk.browser() as browser, wk.browser() as thief:
        address = chosen(wk, browser).headers["location"]
        assert thief.get(address).status_code == 403
        thief.get(f"{wk.node}/login/wk")  # has begun one of its own
        assert thief.get(address).status_code == 403
        assert browser.get(address).status_code == 200
        assert browser.get(address).status_code == 403


def test_pages_are_closed(wk: Place) -> None:
    with wk.browser() as browser:
        page = browser.get(f"{wk.node}/login/wk", params={"return": "//evil.example"})
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert f"form-action {wk.there} 'self'" in policy
        assert "unsafe" not in policy
        assert (page.headers["cache-control"], page.headers["x-content-type-options"]) == ("no-store", "nosniff")
        [script] = html.fromstring(page.text).iter("script")
        assert script.text is None
        assert f"script-src 'nonce-{script.get('nonce')}'" in policy
        assert len(script.get("nonce")) == 22
        assert "submit" in browser.get(urljoin(wk.node, script.get("src"))).text
        assert html.fromstring(page.text).find(".//button") is not None  # for those without JavaScript
        cookie = page.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "Max-Age=600" in cookie
        done = submit(browser, submit(browser, page), person="0")
        assert browser.get(done.headers["location"]).headers["refresh"] == "0; url=/"


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/a\r\nb",
        "/ą",
        "/;url=https://evil.example\t",
    ],
)
def test_nobody_is_sent_elsewhere(wk: Place, wanted: str) -> None:
    with wk.browser() as browser:
        assert log_in(wk, browser, **{"return": wanted}).headers["refresh"] == "0; url=/"


@pytest.mark.parametrize(
    "query",
    ["", "SAMLart=a", "SAMLart=a&RelayState=b", "SAMLart=a&SAMLart=b&RelayState=c", "%ff=%ff", "a=" * 20 + "&" * 50],
)
def test_nonsense_is_refused(wk: Place, query: str) -> None:
    with wk.browser() as browser:
        assert browser.get(f"{wk.node}/login/wk/acs?{query}").status_code == 403
        assert browser.post(f"{wk.node}/login/wk/acs", content=query).status_code == 403
        assert browser.post(f"{wk.node}/login/wk/acs", content=b"a" * 20_000).status_code == 413
        assert browser.get(f"{wk.node}/login/wk/other").status_code == 404
        assert browser.put(f"{wk.node}/login/wk/acs").status_code == 405


def test_everything_is_audited(wk: Place) -> None:
    with wk.browser() as browser:
        log_in(wk, browser, person=2)
        wk.behave(signed_by="stranger")
        log_in(wk, browser)
    with psycopg.connect(Server(wk.data / "postgres").dsn) as connection:
        rows = connection.execute(
            "SELECT transaction, outcome, message FROM audit_event WHERE transaction = 'login' ORDER BY audit_id DESC LIMIT 2"
        ).fetchall()
    refused, good = rows
    assert (refused[1], good[1]) == (8, 0)
    assert "none of the issuer" in unescape(refused[2])
    message = etree.fromstring(good[2])
    assert message.find(".//EventTypeCode").get("csd-code") == "110122"
    assert message.find(".//EventID").get("csd-code") == "110114"
    assert any(p.get("UserID", "").endswith(f"#{PEOPLE[2]['pesel']}") for p in message.iter("ActiveParticipant"))


@pytest.mark.parametrize("script", [True, False])
def test_a_real_browser_logs_in(wk: Place, script: bool) -> None:
    """Chromium keeps the policy of the pages; without scripts the button does what the script does."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(ignore_https_errors=True, java_script_enabled=script)
        page, refused = context.new_page(), []
        page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
        page.goto(f"{wk.node}/login/wk?return=/health")
        if not script:
            page.get_by_role("button").click()
        page.wait_for_url(f"{wk.there}/**")
        assert page.get_by_role("note").inner_text().startswith("TO NIE JEST PRAWDZIWE LOGOWANIE")
        page.get_by_role("button", name=PEOPLE[0]["pesel"]).click()
        page.wait_for_url(f"{wk.node}/health")
        assert {c["name"]: c["httpOnly"] for c in context.cookies(wk.node)} == {"obieg-patient": True}
        assert refused == []
        browser.close()


def test_who_knows_nothing_of_it_has_no_such_pages(lab: dict[str, str]) -> None:
    base = re.match(r"https?://[^/]+", next(v for v in lab.values() if v.startswith("http")))
    assert base
    assert httpx.get(f"{base[0]}/login/wk").status_code == 404


def test_zz_the_identity_provider_is_away(place: Place) -> None:
    place.behave()
    with place.browser() as browser:
        address = chosen(place, browser).headers["location"]
        place.stop()
        answer = browser.get(address)
        assert (answer.status_code, "obieg-patient" in browser.cookies) == (503, False)
