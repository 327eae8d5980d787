"""A hospital's own system opens a patient's record for its person, by the example of docs/launch.md."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import portals
import psycopg
import pytest
from axe import expect_accessible
from cryptography.hazmat.primitives.asymmetric import ec
from oauth_peer import ASSERTION, KEYS, public_jwk
from portals import CLINIC, DOCTOR, HOSPITAL, NPWZ, PESEL, PHONE, visiting
from test_people_login import enrol_password, enter, obieg, one_time

from obieg.web.areas import PROFESSIONALS as WORK
from running import maker

pytestmark = pytest.mark.node

PAGE = (Path(__file__).resolve().parents[2] / "docs/launch.md").read_text("utf-8")
EXAMPLE: dict[str, Any] = {}
exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], EXAMPLE)
DAY = 86400
SHOTS = Path(folder) if (folder := os.environ.get("OBIEG_LOOK")) else None  # where to leave pictures to look at
ANNA, JAN = DOCTOR["person"], f"{NPWZ}#7305386"


def trust() -> str:
    keys = {"keys": [public_jwk("p256")]}
    clients = [
        {"client_id": "his", "name": "HIS kliniki", "jwks": keys, "scopes": [], "launches": [CLINIC]},
        {"client_id": "app", "jwks": {"keys": [public_jwk("other")]}, "scopes": "system/*.rs"},
        {"client_id": "loose", "jwks": {"keys": []}, "scopes": [], "launches": [CLINIC]},
    ]
    return json.dumps({"oauth_clients": clients})


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[portals.Region]:
    trusted = tmp_path_factory.mktemp("trust") / "trust.json"
    trusted.write_text(trust())
    with maker(tmp_path_factory, None) as make:
        node = make("launch", module="launch_node", access={"enforced": True}, trust={"file": str(trusted)})
        made = portals.Region(node)
        made.chosen(made.someone)
        obieg(
            node, "add", "anna", "--name", DOCTOR["person_name"], "--id", ANNA, "--at", CLINIC,
            "--facility", "Poradnia Lipowa", "--role", "medical-doctor",
        )  # fmt: skip
        obieg(node, "role", "anna", "--at", HOSPITAL, "--facility", "Szpital", "--role", "medical-doctor")
        yield made


def named(region: portals.Region, **changes: Any) -> dict[str, Any]:
    """What a system says, as the example takes it."""
    return {
        "professional": ANNA, "organisation": CLINIC, "role": "medical-doctor", "purpose": "TREAT",
        "patient": f"{region.someone.pesel}^^^&{PESEL}&ISO", "proved_at": int(time.time()) - 600, **changes,
    }  # fmt: skip


def launch(region: portals.Region, **changes: Any) -> str:
    base = region.node.endpoints["base_url"].rstrip("/")
    found = EXAMPLE["launch"](base, "his", KEYS["p256"], "p256", **named(region, **changes))
    assert found.startswith(f"{region.origin}{WORK}/launch?code=")
    return str(found)


def rows(region: portals.Region, statement: str, *given: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(region.node.dsn) as connection:
        return connection.execute(statement, given).fetchall()


def audited(region: portals.Region, transaction: str) -> list[str]:
    found = rows(region, "SELECT message FROM audit_event WHERE transaction = %s ORDER BY audit_id", transaction)
    return [message for (message,) in found]


def browser(region: portals.Region) -> httpx.Client:
    return httpx.Client(base_url=region.origin, timeout=60, follow_redirects=False)


def opened(http: httpx.Client, address: str) -> str:
    """Where it leads; the code never stays."""
    answer = http.get(address)
    assert answer.status_code == 303
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    where = answer.headers["location"]
    assert "code=" not in where
    return str(where)


def test_a_record_is_open_without_a_log_in(chrome: Any, region: portals.Region) -> None:
    with visiting(chrome, region, None) as visitor:
        page = visitor.page
        page.goto(launch(region))
        page.wait_for_selector("#timeline")
        assert "code=" not in page.url
        assert region.someone.demographics.name.family in page.locator("h1").inner_text()
        assert "wybrał Cię w deklaracji POZ" in page.locator(".basis").inner_text()
        expect_accessible(page)
        page = visitor.go("/account")
        assert "z systemu szpitala" in page.locator("main table").inner_text()
        # The hospital's word is good for its own place, and gives nobody a password or a passkey here.
        csrf = page.locator("[name=csrf]").first.get_attribute("value")
        cookies = {c["name"]: c["value"] for c in visitor.context.cookies()}
        with httpx.Client(base_url=region.origin, cookies=cookies, headers={"Origin": region.origin}) as http:
            answer = http.post(
                "/login/facility", data={"csrf": csrf, "place": f"{HOSPITAL}|medical-doctor"}, follow_redirects=True
            )
            assert "dotyczy tylko tego miejsca pracy" in answer.text
            answer = http.post("/account/credentials", data={"csrf": csrf}, follow_redirects=True)
            assert "dotyczy tylko tego miejsca pracy" in answer.text
        visitor.expect_clean()
        listed = obieg(region.node, "sessions", "anna")
        assert "by launch" in listed
        assert "launched by his as medical-doctor" in audited(region, "login")[-1]
        obieg(region.node, "revoke", "--all-of", "anna")
        assert "/login" in visitor.go("/work").url


def test_a_code_is_good_for_once(region: portals.Region) -> None:
    address = launch(region)
    with browser(region) as first, browser(region) as second:
        assert first.head(address).status_code == 503  # whoever only looks uses nothing up
        assert first.get(address, headers={"Sec-Purpose": "prefetch"}).status_code == 503
        first.cookies.set("obieg", "planted", domain="localhost.local", path="/")
        assert opened(first, address).startswith(f"{WORK}/treatment/")
        assert first.cookies["obieg"] != "planted"
        assert first.get("/work").status_code == 200
        assert opened(second, address) == f"{WORK}/launch?refused=launch_twice"
        assert "obieg" not in second.cookies
        assert first.get("/work").status_code == 303  # what it became is ended
    assert "used twice" in " ".join(audited(region, "logout"))
    late = launch(region)
    with psycopg.connect(region.node.dsn) as connection:
        connection.execute("UPDATE launch_code SET until = now() - interval '1 second' WHERE session_id IS NULL")
    with browser(region) as http:
        assert opened(http, late) == f"{WORK}/launch?refused=launch_over"
        assert opened(http, f"{region.origin}{WORK}/launch?code=guessed") == f"{WORK}/launch?refused=launch_over"


def test_two_at_once_have_one_session_at_most(region: portals.Region) -> None:
    address = launch(region)
    with ThreadPoolExecutor(4) as pool:
        places = list(pool.map(lambda _: httpx.get(address, timeout=60).headers["location"], range(4)))
    assert len([place for place in places if place.startswith(f"{WORK}/treatment/")]) <= 1
    assert f"{WORK}/launch?refused=launch_twice" in places
    assert rows(region, "SELECT count(*) FROM session WHERE method = 'launch' AND ended_at IS NULL") == [(0,)]


def test_whoever_works_in_the_browser_is_asked(chrome: Any, region: portals.Region) -> None:
    said = obieg(
        region.node, "add", "jan", "--name", "lek. Jan Wrona", "--id", JAN, "--at", CLINIC,
        "--facility", "Poradnia Lipowa", "--role", "medical-doctor",
    )  # fmt: skip
    with visiting(chrome, region, None, size=PHONE, dark=True) as visitor:
        page = visitor.go("/login")
        enter(page, "jan", one_time(said))
        enrol_password(page)
        page.wait_for_url("**/work")
        page.goto(launch(region))
        page.wait_for_url(f"**{WORK}/launch/other")
        assert "lek. Jan Wrona" in page.locator(".lead").inner_text()
        expect_accessible(page)
        page.get_by_role("link", name="Zostań jako lek. Jan Wrona").click()
        page.wait_for_url("**/work")
        assert "by password" in obieg(region.node, "sessions", "jan")
        page.goto(launch(region))
        page.get_by_role("button", name="Dalej jako lek. Anna Nowak").click()
        page.wait_for_selector("#timeline")
        assert "Nobody is logged in" in obieg(region.node, "sessions", "jan")
        page.goto(launch(region))  # the same person: the old session gives way
        page.wait_for_selector("#timeline")
        assert rows(region, "SELECT count(*) FROM session WHERE method = 'launch' AND ended_at IS NULL") == [(1,)]
        visitor.expect_clean()


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"professional": f"{NPWZ}#1111111"}, "launch_stranger", "Nie masz tu konta"),
        ({"role": "nurse"}, "launch_place", "Nie masz tej roli"),
        ({"patient": f"12345678901^^^&{PESEL}&ISO"}, "patient", "Region nie zna tego pacjenta"),
    ],
)
def test_what_people_have_to_mend_they_are_told(
    chrome: Any, region: portals.Region, changes: dict[str, Any], reason: str, words: str
) -> None:
    with visiting(chrome, region, None) as visitor:
        page = visitor.page
        page.goto(launch(region, **changes))
        assert page.url.endswith(f"{WORK}/launch?refused={reason}")
        assert words in page.get_by_role("alert").inner_text()
        expect_accessible(page)
        for language in ("en", "uk"):
            page = visitor.go(f"{WORK}/launch?refused={reason}&lang={language}")
            assert words not in page.content()
        visitor.expect_clean(403)


class Asking:
    """Requests that the example would not send."""

    def __init__(self, region: portals.Region) -> None:
        self.region = region
        self.endpoint = region.node.endpoints["base_url"].rstrip("/") + "/auth/token"

    def signed(self, client: str = "his", key: Any = None, **claims: Any) -> str:
        now = int(time.time())
        common = {"iss": client, "aud": self.endpoint, "iat": now, "exp": now + 60, "jti": str(uuid.uuid4())}
        said = {name: value for name, value in {**common, **claims}.items() if value is not ...}
        return jwt.encode(said, key or KEYS["p256"], "ES256")

    def subject(self, iua: dict[str, Any] | None = None, **claims: Any) -> str:
        said = {
            "subject_organization_id": f"urn:oid:{CLINIC.replace('#', '/')}",
            "subject_role": [{"code": "medical-doctor"}],
            "purpose_of_use": [{"code": "TREAT"}],
            "person_id": f"{self.region.someone.pesel}^^^&{PESEL}&ISO",
            **(iua or {}),
        }
        kept = {name: value for name, value in said.items() if value is not ...}
        return self.signed(**{"sub": ANNA, "auth_time": int(time.time()), "extensions": {"ihe_iua": kept}, **claims})

    def __call__(self, subject: str = "", **form: Any) -> httpx.Response:
        sent = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requested_token_type": "urn:obieg:token-type:launch",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "subject_token": subject or self.subject(),
            "client_assertion_type": ASSERTION,
            "client_assertion": self.signed(sub="his"),
            **form,
        }
        return httpx.post(self.endpoint, data={n: v for n, v in sent.items() if v is not ...}, timeout=60)


def test_what_no_system_may_ask(region: portals.Region) -> None:
    ask, now = Asking(region), int(time.time())
    assert ask().status_code == 200
    other = ec.generate_private_key(ec.SECP256R1())
    app = ask.signed("app", KEYS["other"], sub="app")
    refused = {
        "invalid_request": [
            *(ask(ask.subject({name: ...})) for name in ("subject_role", "purpose_of_use", "person_id")),
            ask(ask.subject({"subject_organization_id": ...})),
            ask(ask.subject({"subject_organization_id": f"urn:oid:{HOSPITAL.replace('#', '/')}"})),  # not its people
            ask(ask.subject({"subject_role": [{"code": "operator"}]})),
            ask(ask.subject({"subject_role": [{"code": "medical-doctor"}, {"code": "nurse"}]})),
            ask(ask.subject({"purpose_of_use": [{"code": "HRESCH"}]})),
            ask(ask.subject({"person_id": region.someone.pesel})),
            ask(ask.subject(sub="")), ask(ask.subject(sub="anna")), ask(ask.subject(extensions=...)),
            ask(ask.subject(auth_time=...)), ask(ask.subject(auth_time=now - DAY)), ask(ask.subject(auth_time=now + 600)),
            ask(ask.subject(aud="https://elsewhere.example")), ask(ask.subject(exp=now - 120)),
            ask(ask.subject(exp=now + DAY)), ask(ask.subject(jti=...)), ask(ask.subject(key=other)),
            ask(ask.subject(client="app", key=KEYS["other"])),  # signed by another client
            ask(ask.subject()[:-4] + "AAAA"), ask("x.y.z"),
            ask(requested_token_type=...), ask(requested_token_type="urn:ietf:params:oauth:token-type:access_token"),
            ask(subject_token_type="urn:ietf:params:oauth:token-type:saml2"), ask(actor_token="a"),
        ],
        "unauthorized_client": [
            ask(client_assertion=app), ask(client_assertion=..., client_assertion_type=..., client_id="loose"),
        ],
        "invalid_client": [ask(client_assertion=...), ask(client_assertion=ask.signed(key=other, sub="his"))],
    }  # fmt: skip
    for error, answers in refused.items():
        said = [(answer.status_code, answer.json().get("error")) for answer in answers]
        assert {name for _, name in said} == {error}, (error, said)
    subject, assertion = ask.subject(), ask.signed(sub="his")
    assert ask(subject, client_assertion=assertion).status_code == 200
    assert ask(subject).json()["error"] == "invalid_client"  # shown again
    assert ask(client_assertion=assertion).json()["error"] == "invalid_client"
    said = ask().json()
    assert parse_qs(urlsplit(said["launch_uri"]).query) == {"code": [said["access_token"]]}
    assert (said["token_type"], said["expires_in"]) == ("N_A", 60)


def test_an_emergency_asks_for_a_fresh_proof(region: portals.Region) -> None:
    """What the hospital says of the time of the proof is what break-glass looks at."""
    for ago, fresh in ((60, True), (1200, False)):
        with browser(region) as http:
            place = opened(http, launch(region, purpose="BTG", proved_at=int(time.time()) - ago))
            assert place.startswith(f"{WORK}/emergency/")
            page = http.get(f"{place}/emergency").text
            assert ("Najpierw potwierdź, kim jesteś" not in page) is fresh


BASIA = f"{NPWZ}#9999999"
ASSISTING = {"professional": BASIA, "role": "medical-assistant"}


def test_an_assistant_reads_in_a_doctors_name(chrome: Any, region: portals.Region) -> None:
    """Nothing for herself, what the doctor may in the doctor's name; the patient sees both."""
    obieg(
        region.node, "add", "basia", "--name", "Barbara Lis", "--id", BASIA, "--at", CLINIC,
        "--facility", "Poradnia Lipowa", "--role", "medical-assistant",
    )  # fmt: skip
    assist = ("assist", "basia", "--at", CLINIC, "--for", ANNA, "--name", DOCTOR["person_name"])
    obieg(region.node, *assist)
    obieg(region.node, "assist", "basia", "--at", HOSPITAL, "--for", ANNA, "--name", "x", status=1)  # not hers
    obieg(region.node, "assist", "anna", "--at", CLINIC, "--for", JAN, "--name", "x", status=1)  # no assistant
    assert f"for {DOCTOR['person_name']}" in obieg(region.node, "list")
    with visiting(chrome, region, None, size=PHONE) as visitor:
        page = visitor.page
        page.goto(launch(region, **ASSISTING))
        assert "Brak podstawy" in page.locator("main").inner_text()
        assert page.locator("[data-dialog=btg]").count() == 0  # only the doctor opens an emergency
        expect_accessible(page)
        page.get_by_label("Pracujesz w imieniu").select_option(label=DOCTOR["person_name"])
        page.get_by_role("button", name="Zmień").click()
        page.wait_for_selector("#timeline")  # where she was
        assert "W imieniu: lek. Anna Nowak." in page.locator(".basis").inner_text()
        expect_accessible(page)
        record = page.url
        page.screenshot(path=SHOTS / "assistant.png", full_page=True) if SHOTS else None
        page.set_viewport_size({"width": 1280, "height": 900})
        page.emulate_media(color_scheme="dark")
        expect_accessible(page)
        page.screenshot(path=SHOTS / "assistant-wide.png") if SHOTS else None
        csrf = page.locator(".acting [name=csrf]").get_attribute("value")
        cookies = {c["name"]: c["value"] for c in visitor.context.cookies()}
        with httpx.Client(base_url=region.origin, cookies=cookies, headers={"Origin": region.origin}) as http:
            answer = http.post(f"{WORK}/acting", data={"csrf": csrf, "professional": JAN})  # nobody assigned him
            assert (answer.status_code, "Nie możesz już pracować" in answer.text) == (422, True)
            answer = http.post(
                f"{WORK}/acting", data={"csrf": csrf, "professional": ANNA, "then": "//elsewhere.example"}
            )
            assert answer.headers["location"] == WORK
        obieg(region.node, *assist[:6], "--remove")
        page.goto(record)
        assert "Brak podstawy" in page.locator("main").inner_text()  # at once
        visitor.expect_clean()
    person = portals.patient(region.someone)
    with visiting(chrome, region, person, size=PHONE) as visitor:
        page = visitor.go("/patient/access")
        assert "Barbara Lis" in page.locator("#log").inner_text()
        assert "w imieniu: lek. Anna Nowak" in page.locator("#log").inner_text()
        expect_accessible(page)
        page.screenshot(path=SHOTS / "assistant-log.png", full_page=True) if SHOTS else None
        visitor.expect_clean()
