"""Links to the health summary: opened by a client of others, and what those get who lack the link, the PIN or the time."""

from __future__ import annotations

import asyncio
import json
import subprocess
from base64 import urlsafe_b64decode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fhir_peer
import httpx
import portals
import psycopg
import pytest
from axe import expect_accessible
from joserfc import jwe
from joserfc.jwk import OctKey
from portals import DESK, PHONE, visiting
from selves import parameters, reference, somebody, values

from obieg.domain.health_links import KEPT_DAYS, LINKS_MAX, TRIES_MAX
from obieg.ops.population import Person
from obieg.storage.audit_store import AuditStore
from obieg.storage.health_link_store import PostgresHealthLinks
from obieg.storage.link import Database

pytestmark = pytest.mark.node
PIN, WRONG = "735029", "735028"
WHO = "Dr. Erika Muster, AKH Wien"


@pytest.fixture(scope="module")
def person(portal: portals.Region) -> Person:
    return somebody(portal)


@pytest.fixture(scope="module")
def me(portal: portals.Region, person: Person) -> str:
    return reference(portal, person)


def share(portal: portals.Region, person: Person, me: str, **given: Any) -> dict[str, Any]:
    with portals.client(portal, portals.patient(person)) as own:
        made = own.post(f"/fhir/{me}/$share-summary", json=parameters(passcode=PIN, **given))
    assert made.status_code == 201, made.text
    return values(made.json()["parameter"])


def end(portal: portals.Region, person: Person, me: str, link: str) -> int:
    with portals.client(portal, portals.patient(person)) as own:
        return own.post(f"/fhir/{me}/$end-link", json=parameters(link=link)).status_code


def payload(made: dict[str, Any]) -> dict[str, Any]:
    text = made["link"].removeprefix("shlink:/")
    return dict(json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4))))


def ask(url: str, **said: Any) -> httpx.Response:
    return httpx.post(url, json={"recipient": WHO, "passcode": PIN, **said}, timeout=60)


def log(portal: portals.Region, person: Person, me: str) -> list[dict[str, Any]]:
    with portals.client(portal, portals.patient(person)) as own:
        bundle = own.get(f"/fhir/{me}/$access-log?_count=100").json()
    found = [e["resource"] for e in bundle["entry"]]
    return [r for r in found if r["subtype"][0]["code"] == "OBIEG-8"]


@pytest.mark.parametrize("most", ["", "1000"])
def test_a_client_of_others_reads_the_summary(portal: portals.Region, person: Person, me: str, most: str) -> None:
    folder = fhir_peer.installed("npm-shl", "kill-the-clipboard@1.1.0")
    made = share(portal, person, me, label="Urlop we Włoszech", hours=168)
    before = len(log(portal, person, me))
    script = Path(__file__).with_name("npm_shl.mjs")

    def run(pin: str) -> dict[str, Any]:
        command = ["node", script, folder, made["link"], WHO, pin, *([most] if most else [])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return dict(json.loads(done.stdout))

    said = run(WRONG)
    assert said["error"] == "SHLInvalidPasscodeError", said
    said = run(PIN)
    [bundle] = said["resources"]
    assert bundle["type"] == "document"
    assert {e["resource"]["resourceType"] for e in bundle["entry"]} >= {"Composition", "Patient"}
    family = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Patient")["name"][0][
        "family"
    ]
    assert family == person.demographics.name.family
    assert (said["flag"], said["label"]) == ("P", "Urlop we Włoszech")
    entries = log(portal, person, me)[: len(log(portal, person, me)) - before]
    assert {e["outcome"] for e in entries} == {"0", "4"}
    opened = next(e for e in entries if e["outcome"] == "0")
    assert opened["agent"][0]["who"]["display"] == WHO
    assert opened["purposeOfEvent"][0]["coding"][0]["code"] == "link"
    assert len([e for e in entries if e["outcome"] == "0"]) == (2 if most else 1)  # the file apart is one more
    assert end(portal, person, me, made["id"]) == 204


def test_what_is_kept_opens_nothing_without_the_link(portal: portals.Region, person: Person, me: str) -> None:
    made = share(portal, person, me)
    said = payload(made)
    secret = said["url"].rpartition("/")[2]
    assert len(said["url"]) <= 128
    assert len(said["key"]) == 43
    ours = ask(said["url"]).json()["files"][0]
    key = OctKey.import_key(urlsafe_b64decode(said["key"] + "="))
    opened = jwe.decrypt_compact(ours["embedded"], key)
    assert opened.headers() == {"alg": "dir", "enc": "A256GCM", "zip": "DEF", "cty": "application/fhir+json"}
    assert json.loads(opened.plaintext or b"")["resourceType"] == "Bundle"
    with psycopg.connect(portal.node.dsn) as connection:
        tables = [r[0] for r in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        for table in tables:
            for hidden in (said["key"], secret, PIN + '"', urlsafe_b64decode(said["key"] + "=").hex()):
                query = psycopg.sql.SQL("SELECT count(*) FROM {} t WHERE strpos(t::text, %s) > 0")
                [found] = connection.execute(query.format(psycopg.sql.Identifier(table)), (hidden,)).fetchone() or (1,)
                assert found == 0, table
    end(portal, person, me, made["id"])
    with psycopg.connect(portal.node.dsn) as connection:
        assert connection.execute("SELECT file FROM health_link WHERE link_id = %s", (made["id"],)).fetchone() == (b"",)


def test_pins_are_tried_five_times_in_a_life_also_at_once(portal: portals.Region, person: Person, me: str) -> None:
    made = share(portal, person, me)
    url = payload(made)["url"]
    assert ask(url, passcode="").status_code == 401  # none given: nothing was tried
    assert ask(url).status_code == 200
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: ask(url, passcode=f"{n:06}"), range(24)))
    wrong = [a for a in answers if a.status_code == 401]
    assert sorted(a.json()["remainingAttempts"] for a in wrong) == list(range(TRIES_MAX))
    assert {a.status_code for a in answers if a not in wrong} == {404}
    assert ask(url).status_code == 404  # now the right one, too late
    with portals.client(portal, portals.patient(person)) as own:
        listed = [values(p["part"]) for p in own.get(f"/fhir/{me}/$shared-links").json()["parameter"]]
    assert next(link["blocked"] for link in listed if link["id"] == made["id"]) is True


def test_over_blocked_foreign_and_unknown_are_one_answer(portal: portals.Region, person: Person, me: str) -> None:
    ended, expired, taken = (share(portal, person, me) for _ in range(3))
    assert end(portal, person, me, ended["id"]) == 204
    since = portal.node.last_audit()
    assert end(portal, person, me, ended["id"]) == 404
    assert [outcome for _, _, outcome, _ in portal.node.audits(since)] == [4]  # once, as refused
    with psycopg.connect(portal.node.dsn) as connection:
        connection.execute("UPDATE health_link SET expires_at = now() WHERE link_id = %s", (expired["id"],))
        # made by somebody who may not act for the patient (any more)
        connection.execute("UPDATE health_link SET made_by = '1.2.3#4' WHERE link_id = %s", (taken["id"],))
    unknown = f"{portal.origin}/shl/{'A' * 43}"
    answers = [ask(url) for url in (unknown, *(payload(made)["url"] for made in (ended, expired, taken)))]
    assert {a.status_code for a in answers} == {404}
    assert len({a.content for a in answers}) == 1
    headers = [{n: v for n, v in a.headers.items() if n != "date"} for a in answers]
    assert headers[1:] == headers[:-1]
    for made in (ended, expired, taken):
        end(portal, person, me, made["id"])


def test_what_is_over_keeps_no_file_and_for_long_nothing(portal: portals.Region, person: Person, me: str) -> None:
    over, for_long, holding = (share(portal, person, me)["id"] for _ in range(3))
    with psycopg.connect(portal.node.dsn, autocommit=True) as connection:
        for link, days in ((over, 0), (for_long, KEPT_DAYS + 1)):
            connection.execute(
                "UPDATE health_link SET expires_at = now() - make_interval(days => %s) WHERE link_id = %s", (days, link)
            )
        asyncio.run(forget_links(portal.node.dsn))
        left = connection.execute(
            "SELECT link_id::text, file <> '' FROM health_link WHERE link_id = ANY(%s)", ([over, for_long, holding],)
        ).fetchall()
    assert sorted(left) == sorted([(over, False), (holding, True)])
    end(portal, person, me, holding)


async def forget_links(dsn: str) -> None:
    database = Database(dsn, links=1)
    await database.open()
    await PostgresHealthLinks(
        database, AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
    ).forget()
    database.close()


def test_who_may_share(portal: portals.Region, person: Person, me: str) -> None:
    other = portals.patient(next(p for p in portal.people if p.pesel and p not in (person, portal.someone)))
    clerk = {**portals.DOCTOR, "role": "administrative-employee"}
    for who in (other, portals.DOCTOR, clerk, {**portals.STRANGER, "purpose_of_use": "BTG"}):
        with portals.client(portal, who) as client:
            for operation, given in (
                ("share-summary", {"passcode": PIN}),
                ("end-link", {"link": "0" * 8 + "-0000-4000-8000-" + "0" * 12}),
            ):
                assert client.post(f"/fhir/{me}/${operation}", json=parameters(**given)).status_code in (403, 404)
            assert client.get(f"/fhir/{me}/$shared-links").status_code in (403, 404)
    made = [share(portal, person, me, hours=1) for _ in range(LINKS_MAX)]
    with portals.client(portal, portals.patient(person)) as own:
        refused = own.post(f"/fhir/{me}/$share-summary", json=parameters(passcode=PIN))
    assert refused.status_code in (400, 422), refused.text
    for link in made:
        assert end(portal, person, me, link["id"]) == 204


def test_files_apart_are_given_once_and_pages_of_others_may_ask(
    portal: portals.Region, person: Person, me: str
) -> None:
    made = share(portal, person, me)
    url = payload(made)["url"]
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
        "origin": "https://viewer.example",
    }
    allowed = httpx.options(url, headers=asked)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (204, "*")
    location = ask(url, embeddedLengthMax=100).json()["files"][0]["location"]
    first, second = httpx.get(location, timeout=60), httpx.get(location, timeout=60)
    assert (first.status_code, first.headers["content-type"]) == (200, "application/jose")
    assert first.headers["cache-control"] == "no-store"
    assert second.status_code == 404
    end(portal, person, me, made["id"])


def test_a_patient_shares_and_a_doctor_abroad_opens(chrome: Any, portal: portals.Region, person: Person) -> None:
    with visiting(chrome, portal, portals.patient(person), size=PHONE) as visitor:
        page = visitor.go("/patient/summary")
        page.get_by_role("link", name="Udostępnij podsumowanie").click()
        page.get_by_label("PIN, od 6 do 12 cyfr").fill("111111")
        page.get_by_role("button", name="Utwórz kod QR").click()
        assert "trzy różne" in page.get_by_role("alert").inner_text()
        expect_accessible(page)
        page.get_by_label("PIN, od 6 do 12 cyfr").fill(PIN)
        page.get_by_label("Do czego służy").fill("Wyjazd do Wiednia")
        page.get_by_role("button", name="Utwórz kod QR").click()
        assert page.locator("svg.qr").count() == 1
        expect_accessible(page)
        page.locator("summary", has_text="Link do wysłania").click()
        link = page.locator(".share-link a").get_attribute("href")
        visitor.expect_clean(400)
    base, _, fragment = link.partition("#")
    for locale, size, dark in (("en-GB", DESK, False), ("uk-UA", PHONE, True), ("pl-PL", PHONE, False)):
        with visiting(chrome, portal, None, locale=locale, size=size, dark=dark) as visitor:
            page = visitor.page
            visitor.region = SimpleNamespace(origin=base.removesuffix("/link"))
            page.goto(link)
            expect_accessible(page)
            page.locator("#recipient").fill(WHO)
            page.locator("#passcode").fill(WRONG if locale == "en-GB" else PIN)
            page.locator("form button").click()
            if locale == "en-GB":
                page.locator("[data-step=wrong]").wait_for()
                assert "Attempts left: 4" in page.get_by_role("alert").inner_text()
                expect_accessible(page)
                page.locator("#passcode").fill(PIN)
                page.locator("form button").click()
            page.locator("article h2").wait_for()
            assert person.demographics.name.family in page.locator("article h2").inner_text()
            assert page.locator("article section").count() > 2
            expect_accessible(page)
            visitor.expect_clean(401)
    with visiting(chrome, portal, None, locale="en-GB") as visitor:
        page, visitor.region = visitor.page, SimpleNamespace(origin=base.removesuffix("/link"))
        said = json.loads(urlsafe_b64decode(fragment.removeprefix("shlink:/") + "=="))

        def other(**changes: str) -> str:
            return urlsafe_b64encode(json.dumps({**said, **changes}).encode()).decode().rstrip("=")

        for changes, expected in (
            ({"key": "A" * 43}, "unreadable"), ({"url": said["url"][:-43] + "A" * 43}, "gone"),
        ):  # fmt: skip
            page.goto("about:blank")
            page.goto(f"{base}#shlink:/{other(**changes)}")
            page.locator("#recipient").fill(WHO)
            page.locator("#passcode").fill(PIN)
            page.locator("form button").click()
            page.locator(f"[data-step={expected}]").wait_for()
        for address, expected in (
            (base, "none"), (f"{base}#shlink:/rubbish", "unreadable"),
            (f"{base}#shlink:/{other(url='https://elsewhere.example/shl/x')}", "foreign"),
        ):  # fmt: skip
            page.goto("about:blank")
            page.goto(address)
            page.locator(f"[data-step={expected}]").wait_for()
        visitor.expect_clean(404)
    with visiting(chrome, portal, portals.patient(person)) as visitor:
        page = visitor.go("/patient/access")
        assert f"przedstawiła się jako „{WHO}”" in page.inner_text("main")
        assert "udostępnione przez pacjenta" in page.inner_text("main")
        expect_accessible(page)
        page = visitor.go("/patient/share")
        assert "Otwarto 4 razy." in page.inner_text("main")
        page.get_by_role("button", name="Zakończ").first.click()
        assert "Ten kod niczego już nie otwiera." in page.get_by_role("status").inner_text()
        expect_accessible(page)
        visitor.expect_clean()
