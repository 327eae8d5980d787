"""What pages share: their words in three languages, tokens of forms, the language that is chosen."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from obieg.actors.people import cookie_value
from obieg.domain.accounts import ROLES
from obieg.web.kit import (
    LANGUAGES,
    Kit,
    _agent,
    form_token,
    is_safe_origin,
    language_of,
    session_cookie,
    texts,
)

FOLDER = files("obieg.web")
TEMPLATES = sorted(Path(str(FOLDER.joinpath("templates"))).rglob("*.html"))
ADDRESS = "https://obieg.example"


async def sealed() -> None:
    """As it should be."""


def request(path: str = "/login", query: str = "", **headers: str) -> Request:
    return Request(
        {
            "type": "http", "method": "GET", "path": path, "query_string": query.encode(), "scheme": "https",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }
    )  # fmt: skip


def test_every_reason_has_words() -> None:
    code = FOLDER.joinpath("..", "actors", "people.py").read_text("utf-8")
    reasons = set(re.findall(r'LoginRefused\("(\w+)"\)', code)) | {"short", "long", "guessable"}
    assert len(reasons) > 8
    for reason in reasons:
        assert {f"refused_{reason}", f"refused_{reason}_now"} <= texts("pl").words.keys()


def test_values_are_escaped() -> None:
    assert "<script>" not in texts("en")("start_lead", name="<script>alert(1)</script>")
    assert "&lt;script&gt;" in texts("en")("start_lead", name="<script>alert(1)</script>")
    kit = Kit(origin=ADDRESS, name="<b>x</b>", expect_sealed=sealed)
    page = kit.page(request(query="next=%22%3E%3Cscript%3E"), "refused.html", request_id="<i>").body.decode()
    assert "<b>x" not in page
    assert "<script>" not in page
    assert "<i>" not in page


@pytest.mark.parametrize(
    ("accept", "cookie", "language"),
    [
        ("", "", "pl"), ("en-GB,en;q=0.9", "", "en"), ("uk", "", "uk"), ("de,fr;q=0.8", "", "pl"),
        ("de,uk;q=0.5,en;q=0.7", "", "en"), ("en;q=0,uk;q=0.1", "", "uk"), ("en;q=x,uk", "", "uk"),
        ("en", "obieg-language=uk", "uk"), ("en", "__Host-obieg-language=uk", "uk"), ("en", "obieg-language=../../x", "en"),
    ],
)  # fmt: skip
def test_language(accept: str, cookie: str, language: str) -> None:
    assert language_of(request(accept_language=accept, cookie=cookie)) == language


def test_cookies_are_bound_to_the_host() -> None:
    response: Any = Kit(origin=ADDRESS, name="x", expect_sealed=sealed).page(request(), "refused.html", request_id="1")
    Kit(origin=ADDRESS, name="x", expect_sealed=sealed).keep(response, session_cookie(ADDRESS), "secret")
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Host-obieg=secret; ")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
    assert "Domain" not in cookie
    assert response.headers["strict-transport-security"] == "max-age=63072000; includeSubDomains"
    assert session_cookie("http://localhost:8080") == "obieg"


def test_the_cookie_of_the_language_is_bound_to_the_host() -> None:
    for origin, name in ((ADDRESS, "__Host-obieg-language"), ("http://localhost:8080", "obieg-language")):
        kit = Kit(origin=origin, name="x", expect_sealed=sealed)
        response = kit._choose_language(request(), "uk")
        cookie = response.headers["set-cookie"]
        assert cookie.startswith(f"{name}=uk; ")
        assert ("Secure" in cookie) == (origin == ADDRESS)
        assert "Path=/;" in f"{cookie};"
        assert "Domain" not in cookie


@pytest.mark.parametrize(
    ("header", "value"),
    [("", ""), ("obieg=a", "a"), ("x=1; obieg=a=b", "a=b"), ("xobieg=1", ""), ("obieg=a; obieg=b", ""), ("obieg", "")],
)
def test_a_cookie_that_stands_twice_is_none(header: str, value: str) -> None:
    assert cookie_value(header, "obieg") == value


def test_passwords_are_masked_and_open_to_managers() -> None:
    fields = [
        field
        for name in TEMPLATES
        for field in re.findall(r"<input[^>]*>", FOLDER.joinpath("templates", name).read_text("utf-8"))
        if 'name="password"' in field
    ]
    assert len(fields) == 2
    for field in fields:
        assert 'type="password"' in field
        assert re.search(r'autocomplete="(?:current|new)-password"', field)
        assert not re.search(r"\bon\w+=|readonly|\bpattern=", field)


def test_pages_are_of_living_technologies() -> None:
    for name in TEMPLATES:
        text = FOLDER.joinpath("templates", name).read_text("utf-8")
        assert not re.search(r"<(?:object|embed|applet|iframe|frame|marquee)\b|https?://|//[a-z]", text), name


def test_scripts_build_no_html_and_keep_nothing() -> None:
    found = {p.name: p.read_text("utf-8") for p in FOLDER.joinpath("static").iterdir() if p.name.endswith(".js")}
    assert found.pop("htmx.min.js")  # not ours
    # That single keys are switched off is all that a browser remembers.
    found["page.js"] = re.sub(r"localStorage\.[gs]etItem\(SHORTCUTS", "", found["page.js"])
    for script in found.values():
        for word in (
            "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "localStorage",
            "sessionStorage", "indexedDB", "document.cookie", "postMessage", "addEventListener('message'", "onpaste",
            "var ", "window.name",
        ):  # fmt: skip
            assert word not in script


def test_forms_are_bound_to_the_browser() -> None:
    assert form_token("") == ""
    assert form_token("a") != form_token("b")
    assert "a" * 40 not in form_token("a" * 40)


async def test_addresses_that_name_nothing_are_not_there() -> None:
    kit = Kit(origin=ADDRESS, name="x", expect_sealed=sealed)
    seen: list[str] = []

    async def get(request: Request) -> Response:
        seen.append(request.url.path)
        return kit.go("/")

    app = Starlette(routes=[kit.route("/rows/{row:int}", get=get), kit.route("/people/{name}", get=get)])
    async with AsyncClient(transport=ASGITransport(app), base_url=ADDRESS) as browser:
        for address in (
            "/people/%00", "/people/x?q=%00", "/people/x?a%00=1", "/people/x?lang=%00", f"/rows/{2**63}", f"/rows/{9 * 10**30}",
        ):  # fmt: skip
            answer = await browser.get(address)
            assert (answer.status_code, answer.headers["x-frame-options"]) == (404, "DENY"), address
        assert not seen
        for address in ("/people/%E2%98%83?q=%0A", f"/rows/{2**63 - 1}"):
            assert (await browser.get(address)).status_code == 303
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("origin", "safe"),
    [("https://obieg.example", True), ("http://localhost:1", True), ("http://127.0.0.1", True), ("http://[::1]:1", True),
     ("http://obieg.example", False), ("http://0.0.0.0:1", False), ("http://localhost.evil.example", False), ("", False)],
)  # fmt: skip
def test_passwords_go_over_tls_only(origin: str, safe: bool) -> None:
    assert is_safe_origin(origin) is safe


def test_browsers_are_named() -> None:
    assert (
        _agent("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/131.0 Safari/537.36 Edg/131.0")
        == "Edge, Windows"
    )
    assert (
        _agent("Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1 Safari/604.1") == "Safari, iPhone"
    )
    assert _agent("curl/8") == "curl/8"


def test_all_roles_can_be_shown() -> None:
    assert all(language in names for names in ROLES.values() for language in LANGUAGES)
