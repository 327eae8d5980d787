"""People log in at a real node with a real browser; what an attacker or another browser tries fails."""

from __future__ import annotations

import json
import re
import time
from base64 import b32decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import browser
import httpx
import peer
import psycopg
import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

import commanding
from obieg.ops import settings as node_settings
from obieg.ops.postgres import reach

HOSPITAL = "1.2.616.1.113883.77#szpital"
CLINIC = "1.2.616.1.113883.77#poradnia"
PASSWORD = "żuraw skleja cztery mosty"
SEEN: set[str] = set()  # secrets that no log may hold


@pytest.fixture(scope="module")
def node(make_node: peer.MakeNode) -> peer.Node:
    return make_node("people")


@pytest.fixture(scope="module")
def origin(node: peer.Node) -> str:
    return f"http://localhost:{urlsplit(node.endpoints['base_url']).port}"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser.chromium() as found:
        yield found


@pytest.fixture
def page(chrome: Any) -> Iterator[Any]:
    context = chrome.new_context(locale="pl-PL")
    page = context.new_page()
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    yield page
    # What a form is refused with is shown as an error, too; anything else (CSP, script) is a defect.
    faults = [fault for fault in page.faults if not re.search(r"status of (403|422|429)", fault)]
    context.close()
    assert faults == []


def obieg(node: peer.Node, *arguments: str, status: int = 0) -> str:
    words = ("people", *arguments, "--settings", node.endpoints["settings"])
    done = commanding.obieg(*words, environment=peer.free_environment() | {"COLUMNS": "400"})
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def invited(node: peer.Node, login: str, *more: str, roles: int = 1) -> str:
    """A new person's one-time password."""
    said = obieg(
        node, "add", login, "--name", f"lek. {login.title()} Nowak", "--at", HOSPITAL, "--facility", "Szpital w Wieliczce",
        "--role", "medical-doctor", *more,
    )  # fmt: skip
    if roles > 1:
        place = ("--at", CLINIC, "--facility", "Poradnia Lipowa", "--role", "administrative-employee")
        obieg(node, "role", login, *place)
    return one_time(said)


def one_time(said: str) -> str:
    found = re.search(r"^    ([a-z2-7]{6}(?:-[a-z2-7]{6,8}){3})$", said, re.MULTILINE)
    assert found, said
    SEEN.add(found[1])
    return found[1]


def code_of(secret: str, at: float | None = None) -> str:
    """By another implementation than ours."""
    key = b32decode(secret + "=" * (-len(secret) % 8))
    return TOTP(key, 6, SHA1(), 30, enforce_key_length=False).generate(int(at or time.time())).decode()


def enter(page: Any, login: str, password: str) -> None:
    page.get_by_label("Login", exact=True).fill(login)
    page.get_by_label("Hasło", exact=True).fill(password)
    page.get_by_role("button", name="Dalej").click()


def enrol_password(page: Any, password: str = PASSWORD) -> str:
    """The secret of the codes."""
    secret = page.locator(".secret").inner_text().replace(" ", "").strip()
    SEEN.update((password, secret))
    page.get_by_label("Nowe hasło").fill(password)
    page.get_by_label("Kod z aplikacji").fill(code_of(secret))
    page.get_by_role("button", name="Zapisz i zaloguj").click()
    return secret


def remember_cookies(page: Any) -> None:
    SEEN.update(c["value"] for c in page.context.cookies() if len(c["value"]) > 20)


def audit(node: peer.Node, transaction: str) -> list[tuple[int, str]]:
    described = node_settings.load(Path(node.endpoints["settings"]))
    with reach(described.database.dsn, described.postgres_dir) as dsn, psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT outcome, message FROM audit_event WHERE transaction = %s ORDER BY audit_id", (transaction,)
        ).fetchall()


def test_passkey_is_made_and_used(node: peer.Node, origin: str, page: Any) -> None:
    password = invited(node, "anna", "--id", "2.16.840.1.113883.3.4424.1.6.2#1234567", roles=2)
    browser.authenticator(page)
    page.goto(f"{origin}/login?next=/account%3Fdone%3D")
    enter(page, "Anna", password)
    assert page.get_by_role("heading", level=1).inner_text() == "Wybierz sposób logowania"
    page.get_by_label("Nazwa klucza").fill("laptop w gabinecie")
    page.get_by_role("button", name="Utwórz klucz dostępu").click()
    page.get_by_label("Poradnia Lipowa").check()
    remember_cookies(page)
    page.get_by_role("button", name="Dalej").click()
    assert page.url == f"{origin}/account?done="
    assert "pracownik administracji, Poradnia Lipowa" in page.locator(".lead").inner_text()
    assert page.get_by_text("laptop w gabinecie").is_visible()
    # The invitation is used up, the passkey is not.
    with page.expect_response("**/logout") as left:
        page.get_by_role("button", name="Wyloguj").click()
    assert left.value.all_headers()["clear-site-data"] == '"cache", "storage"'
    assert page.get_by_role("status").inner_text() == "Wylogowano"
    enter(page, "anna", password)
    assert "nie zgadza" in page.get_by_role("alert").inner_text()
    page.get_by_role("button", name="Zaloguj kluczem dostępu").click()
    page.get_by_label("Szpital w Wieliczce").check()
    page.get_by_role("button", name="Dalej").click()
    assert "lekarz, Szpital w Wieliczce" in page.locator(".lead").inner_text()
    remember_cookies(page)
    # Whoever logs in again in the same browser has one session, a new one.
    before = page.context.cookies()
    page.goto(f"{origin}/login?next=%2Faccount&again=")
    page.get_by_role("button", name="Zaloguj kluczem dostępu").click()
    page.get_by_label("Szpital w Wieliczce").check()
    page.get_by_role("button", name="Dalej").click()
    assert page.locator("tbody tr").filter(has_text="sesja").count() == 1
    with httpx.Client(cookies={c["name"]: c["value"] for c in before}) as stolen:
        assert stolen.get(f"{origin}/account").headers["location"].startswith("/login")
    remember_cookies(page)
    # Another facility, without logging in again.
    page.get_by_role("link", name="Zmień miejsce lub rolę").click()
    page.get_by_label("Poradnia Lipowa").check()
    page.get_by_role("button", name="Dalej").click()
    assert "Poradnia Lipowa" in page.locator(".lead").inner_text()
    # The only way to log in stays.
    page.get_by_role("button", name="Usuń").click()
    assert "To jedyny sposób logowania" in page.get_by_role("alert").inner_text()


def test_password_and_code(node: peer.Node, origin: str, page: Any, chrome: Any) -> None:
    password = invited(node, "jan")
    page.goto(f"{origin}/account")
    assert page.url == f"{origin}/login?next=%2Faccount"
    enter(page, "jan", password)
    # A password that anybody would guess is refused, with the reason beside the field.
    page.get_by_label("Nowe hasło").fill("Krakow2024!!!")
    page.get_by_label("Kod z aplikacji").fill("000000")
    page.get_by_role("button", name="Zapisz i zaloguj").click()
    assert "łatwo odgadnąć" in page.get_by_role("alert").inner_text()
    secret = enrol_password(page)
    assert "lekarz, Szpital w Wieliczce" in page.locator(".lead").inner_text()
    used = code_of(secret)

    context = chrome.new_context(locale="en-GB", user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0")
    other = context.new_page()
    other.goto(f"{origin}/login")
    assert other.locator("html").get_attribute("lang") == "en"
    other.get_by_label("Login", exact=True).fill("jan")
    other.get_by_label("Password", exact=True).fill(PASSWORD)
    other.get_by_role("button", name="Next").click()
    # A code is good for one log-in only.
    other.get_by_label("Code of the app").fill(used)
    other.get_by_role("button", name="Log in").click()
    assert "The code is not right" in other.get_by_role("alert").inner_text()
    other.get_by_label("Code of the app").fill(code_of(secret, time.time() + 30))  # a clock may be off by one step
    other.get_by_role("button", name="Log in").click()
    assert other.url == f"{origin}/account"
    remember_cookies(other)

    # Both see both; one ends the other.
    page.reload()
    rows = page.locator("tbody tr")
    assert rows.count() == 2
    assert "Firefox, Linux" in rows.nth(0).inner_text()
    assert "ta sesja" in rows.nth(1).inner_text()
    page.get_by_role("button", name=re.compile("^Zakończ sesję: Firefox")).click()
    assert "Sesja zakończona" in page.get_by_role("status").inner_text()
    assert rows.count() == 1
    other.goto(f"{origin}/account")
    assert other.url.startswith(f"{origin}/login")
    assert "Your session has ended" in other.get_by_role("status").inner_text()
    context.close()
    remember_cookies(page)


def test_language_is_switched_and_kept(origin: str, page: Any) -> None:
    page.goto(f"{origin}/login?next=%2Faccount")
    assert page.locator("html").get_attribute("lang") == "pl"
    page.get_by_role("link", name="UA, українська").click()
    assert page.locator("html").get_attribute("lang") == "uk"
    assert page.get_by_role("heading", level=1).inner_text() == "Увійдіть"
    assert page.url == f"{origin}/login?next=%2Faccount"
    page.get_by_label("Логін", exact=True).fill("nobody")
    page.get_by_label("Пароль", exact=True).fill("nothing")
    page.get_by_role("button", name="Далі").click()
    assert "Логін або пароль неправильний" in page.get_by_role("alert").inner_text()
    page.get_by_role("link", name="EN, English").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Log in"
    assert page.url == f"{origin}/login?next=%2Faccount"


def test_everything_can_be_done_by_keyboard(node: peer.Node, origin: str, page: Any) -> None:
    password = invited(node, "olena")
    browser.authenticator(page)
    page.goto(f"{origin}/login")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Przejdź do treści"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "login":
            break
    page.keyboard.type("olena")
    page.keyboard.press("Tab")
    page.keyboard.type(password)
    page.keyboard.press("Enter")
    page.wait_for_url("**/login/start")
    page.get_by_label("Nazwa klucza").focus()
    page.keyboard.type("klucz")
    page.keyboard.press("Enter")
    page.wait_for_url("**/account")


@pytest.mark.parametrize(
    "then",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "/%09/evil.example",
        "account",
    ],
)
def test_nobody_is_sent_elsewhere(origin: str, then: str) -> None:
    with Form(origin) as form:
        form.open("/login", params={"next": then})
        action = re.search(r'action="(/login[^"]*)"', form.text)[1]
        assert action in ("/login/passkey", "/login") or then.startswith("/%09"), action
        if then == "/%09/evil.example":
            assert "next=/%2509/evil.example" in action


class Form:
    """A browser's forms without a browser."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.client = httpx.Client(base_url=origin, headers={"origin": origin})
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def open(self, path: str, **more: Any) -> httpx.Response:
        answer = self.client.get(path, **more)
        self.text = answer.text
        return answer

    @property
    def csrf(self) -> str:
        return re.search(r'name="csrf" value="(\w+)"', self.text)[1]

    def send(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        answer = self.client.post(path, data={"csrf": fields.pop("csrf", "") or self.csrf, **fields}, headers=headers)
        if 'name="csrf"' in answer.text:
            self.text = answer.text
        return answer


def test_forms_of_other_pages_are_refused(origin: str) -> None:
    with Form(origin) as form:
        form.open("/login")
        fields = {"login": "anna", "password": "x"}
        assert form.send("/login", headers={"origin": "https://evil.example"}, **fields).status_code == 403
        assert form.send("/login", headers={"origin": "null"}, **fields).status_code == 403
        assert "formularz" in form.send("/login", csrf="0" * 64, **fields).text
        del form.client.headers["origin"]
        form.open("/login")
        assert "formularz" in form.send("/login", **fields).text
        assert form.client.post("/logout").status_code == 403
        assert form.client.post("/account/sessions", data={"csrf": ""}).status_code == 403


def test_headers_leave_nothing_open(origin: str) -> None:
    with Form(origin) as form:
        answer = form.open("/login")
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Path=/" in cookie
        assert not re.search(r"<script(?! src=)|\sstyle=|\son\w+=", answer.text)
        [nonce] = re.findall(r"script-src 'nonce-([\w-]{22})'", policy)
        assert re.findall(r"<script [^>]*nonce=\"([\w-]+)\"", answer.text) == [nonce]
        assert "script-src 'self'" not in policy
        assert nonce not in form.open("/login").headers["content-security-policy"]
        font = form.client.get("/static/fonts/atkinson-next-latin.woff2")
        assert font.headers["content-type"] == "font/woff2"
        assert form.client.get("/static/passkey.js").headers["content-type"].startswith("text/javascript")
        assert form.client.get("/static/icons.svg").headers["content-type"] == "image/svg+xml; charset=utf-8"
        assert form.client.get("/static/../kit.py").status_code == 404


def test_who_guesses_waits_and_learns_nothing(node: peer.Node, origin: str, page: Any) -> None:
    password = invited(node, "ewa")
    device = browser.authenticator(page)
    page.goto(f"{origin}/login")
    enter(page, "ewa", password)
    page.get_by_label("Nazwa klucza").fill("telefon")
    page.get_by_role("button", name="Utwórz klucz dostępu").click()
    page.get_by_role("button", name="Wyloguj").click()
    said: dict[str, list[str]] = {}
    for login in ("ewa", "nobody-of-that-name"):
        with Form(origin) as form:
            form.open("/login")
            for _ in range(6):
                answer = form.send("/login", login=login, password="żaden z nich nie pasuje")
                heading = re.search(r'id="refusal">.*?<b>(.*?)</b>', answer.text)[1]
                said.setdefault(login, []).append(f"{answer.status_code} {heading}")
    assert said["ewa"] == said["nobody-of-that-name"]
    assert said["ewa"] == ["403 Login albo hasło się nie zgadza"] * 5 + ["429 Za dużo nieudanych prób"]
    # Passkeys cannot be guessed: they go on working.
    page.get_by_role("button", name="Zaloguj kluczem dostępu").click()
    page.wait_for_url("**/account")
    # Without the person's finger they do not.
    page.get_by_role("button", name="Wyloguj").click()
    device.send("WebAuthn.setUserVerified", {"authenticatorId": device.authenticator_id, "isUserVerified": False})
    page.get_by_role("button", name="Zaloguj kluczem dostępu").click()
    page.get_by_text("Urządzenie nie podało klucza").wait_for()
    assert page.url.startswith(f"{origin}/login")


def test_answers_of_an_authenticator_are_good_once_and_here_only(node: peer.Node, origin: str, page: Any) -> None:
    password = invited(node, "igor")
    browser.authenticator(page)
    page.goto(f"{origin}/login")
    enter(page, "igor", password)
    page.get_by_label("Nazwa klucza").fill("telefon")
    page.get_by_role("button", name="Utwórz klucz dostępu").click()
    page.get_by_role("button", name="Wyloguj").click()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data) if request.url.endswith("/passkey") else None)
    page.get_by_role("button", name="Zaloguj kluczem dostępu").click()
    page.wait_for_url("**/account")
    answer = httpx.QueryParams(sent[0])["credential"]
    with Form(origin) as form:  # the same answer to another challenge
        form.open("/login")
        given = form.send("/login/passkey/options").json()
        refused = form.send("/login/passkey", csrf=given["csrf"], credential=answer)
        assert refused.status_code == 403
        assert "nie został przyjęty" in refused.text
    for broken in (
        "",
        "{}",
        "[]",
        "null",
        answer[:-20],
        json.dumps({**json.loads(answer), "rawId": "AAAA", "id": "AAAA"}),
    ):
        with Form(origin) as form:
            form.open("/login")
            given = form.send("/login/passkey/options").json()
            assert form.send("/login/passkey", csrf=given["csrf"], credential=broken).status_code == 403


def test_an_operator_sees_and_ends_sessions(node: peer.Node, origin: str, page: Any) -> None:
    password = invited(node, "piotr")
    page.goto(f"{origin}/login")
    enter(page, "piotr", password)
    enrol_password(page)
    listed = obieg(node, "sessions", "piotr")
    session = re.search(
        r"^([0-9a-f-]{36})\s+piotr\s+medical-doctor at Szpital w Wieliczce\s+by password", listed, re.MULTILINE
    )
    assert session, listed
    assert "1 ended" in obieg(node, "revoke", session[1])
    assert "There is no session" in obieg(node, "revoke", session[1], status=1)
    page.reload()
    assert page.url.startswith(f"{origin}/login")
    # A role that is taken is no role, within the session too.
    again = one_time(obieg(node, "reset", "piotr"))
    enter(page, "piotr", PASSWORD)
    assert page.get_by_role("alert").is_visible()
    enter(page, "piotr", again)
    enrol_password(page, "siedem kotów pije herbatę")
    obieg(node, "role", "piotr", "--at", HOSPITAL, "--role", "medical-doctor", "--remove")
    page.goto(f"{origin}/login/facility")
    assert "Nie masz jeszcze roli" in page.get_by_role("status").inner_text()
    obieg(node, "disable", "piotr")
    page.goto(f"{origin}/account")
    assert page.url.startswith(f"{origin}/login")
    assert re.search(r"piotr .* disabled", obieg(node, "list"))
    found = {each["login"]: each for each in json.loads(obieg(node, "list", "--json"))}
    assert found["piotr"]["disabled"]
    assert found["piotr"]["password"]
    assert "already" in obieg(
        node, "add", "Piotr", "--name", "x", "--at", HOSPITAL, "--facility", "x", "--role", "nurse", status=1
    )
    assert "there is no role" in obieg(
        node, "role", "anna", "--at", HOSPITAL, "--facility", "x", "--role", "x", status=1
    )


def test_what_happened_is_in_the_audit(node: peer.Node, origin: str) -> None:
    logins, logouts, changes = audit(node, "login"), audit(node, "logout"), audit(node, "security_configuration")
    assert {outcome for outcome, _ in logins} == {0, 8}
    assert all('csd-code="110114"' in message and 'csd-code="110122"' in message for _, message in logins)
    assert all('csd-code="110114"' in message and 'csd-code="110123"' in message for _, message in logouts)
    assert any("2.16.840.1.113883.3.4424.1.6.2#1234567" in message for outcome, message in logins if not outcome)
    details = [re.search("<EventOutcomeDescription>(.*?)<", message) for _, message in (*logins, *logouts, *changes)]
    said = {match[1] for match in details if match}
    assert {"new passkey", "new password", "passkey", "wrong password", "wrong code", "too many failures"} <= said
    assert {
        "no such account",
        "ended by the person elsewhere",
        "piotr: session ended",
        "piotr: account disabled",
    } <= said


def test_no_secret_is_told(node: peer.Node, origin: str) -> None:
    """Last of this module: neither the log nor the database holds what a browser or a person was told."""
    assert len(SEEN) > 12
    log = (Path(node.endpoints["settings"]).parents[1] / "node.log").read_text()
    described = node_settings.load(Path(node.endpoints["settings"]))
    with reach(described.database.dsn, described.postgres_dir) as dsn, psycopg.connect(dsn) as connection:
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        kept = "".join(
            str(
                connection.execute(
                    psycopg.sql.SQL("SELECT t::text FROM {} t").format(psycopg.sql.Identifier(name))
                ).fetchall()
            )
            for name in tables
        )
    assert "argon2id" in kept
    for secret in SEEN:
        for form in (secret, secret.replace("-", "")):
            assert form not in log
            assert form not in kept
        assert secret.encode().hex() not in kept
        if re.fullmatch("[A-Z2-7]{32}", secret):
            assert b32decode(secret).hex() not in kept
