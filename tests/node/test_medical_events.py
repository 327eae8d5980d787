"""Medical events of P1 (its stand-in) beside documents: whose rules go for them, and what is said when it is silent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import portals
import pytest
from axe import expect_accessible
from portals import DOCTOR, ENTITY, PHONE, STRANGER, WHOLE, client, visiting
from standing_in import serving
from standins.medical_events.app import application, events
from test_tour import record_of

from running import maker

pytestmark = pytest.mark.node

SHOTS = Path(folder) if (folder := os.environ.get("OBIEG_LOOK")) else None  # where to leave pictures to look at
KEY = "klucz-do-atrapy"


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    with serving(application(KEY)) as address:
        yield address


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory, source: str) -> Iterator[portals.Region]:
    with maker(tmp_path_factory, None) as make:
        node = make(
            "events", module="access_node", access={"enforced": True}, medical_events={"url": source, "key": KEY}
        )
        made = portals.Region(node)
        made.chosen(made.someone)
        yield made


def test_events_beside_documents(chrome: Any, region: portals.Region, source: str) -> None:
    person = region.someone
    made = [e for e in events(person.pesel) if e["resourceType"] == "Encounter"]
    address = record_of(region, person)
    with client(region, STRANGER) as http:
        assert "Brak podstawy" in http.get(address).text
    with client(region, STRANGER) as http:
        patient = address.rpartition("/")[2]
        answer = http.get(f"{region.origin}/fhir/Patient/{patient}/$medical-events")
        assert [p["name"] for p in answer.json()["parameter"]] == ["answered"]
    assert httpx.get(f"{source}/asked").json() == []  # nobody's number leaves the region without a basis
    with visiting(chrome, region, DOCTOR) as visitor:
        page = visitor.go(address)
        listed = page.locator(".thread > li").filter(has_text="P1 (zdarzenia)")
        assert listed.count() == len(made)
        assert made[0]["serviceProvider"]["display"] in page.locator("#timeline").inner_text()
        assert page.locator(".srcs").get_by_text("P1 (zdarzenia)").count() == 1
        expect_accessible(page)
        if SHOTS:
            page.screenshot(path=SHOTS / "events.png", full_page=True)
        page = visitor.go(address)
        page.get_by_role("link", name=f"Zdarzenia {len(made)}").click()
        page.wait_for_function("n => document.querySelectorAll('.thread > li').length === n", arg=len(made))
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        page.emulate_media(color_scheme="dark")
        expect_accessible(page)
        visitor.expect_clean()
    with visiting(chrome, region, portals.patient(person), size=PHONE) as visitor:
        page = visitor.go("/patient/documents")
        assert page.locator("section[aria-labelledby=zm] li").count() == len(made)
        expect_accessible(page)
        if SHOTS:
            page.screenshot(path=SHOTS / "events-patient.png", full_page=True)
        visitor.expect_clean()


def test_what_is_restricted_is_no_event_either(region: portals.Region) -> None:
    person = region.someone
    facility = f"{ENTITY}#000000009"
    region.state(
        person, "consent",
        {"id": "c1", "period": WHOLE, "provisions": [{"permit": False, "condition": {"authors": [facility]}}]},
    )  # fmt: skip
    patient = record_of(region, person).rpartition("/")[2]

    def places(who: dict[str, str]) -> set[str]:
        with client(region, who) as http:
            answer = http.get(f"{region.origin}/fhir/Patient/{patient}/$medical-events").json()
        return {
            p["resource"]["serviceProvider"]["identifier"]["value"] for p in answer["parameter"] if p["name"] == "event"
        }

    assert places(DOCTOR) == {"000000001"}
    assert places(portals.patient(person)) == {"000000001", "000000009"}


def test_silence_is_shown(region: portals.Region, source: str) -> None:
    """After the others: for half a minute nobody asks again."""
    httpx.post(f"{source}/behaviour", json=[503])
    with client(region, DOCTOR) as http:
        page = http.get(record_of(region, region.someone)).text
        assert "P1 (zdarzenia): nie odpowiada" in page
        assert 'id="timeline"' in page  # the documents stand there
        asked = len(httpx.get(f"{source}/asked").json())
        assert "nie odpowiada" in http.get(record_of(region, region.someone)).text
        assert len(httpx.get(f"{source}/asked").json()) == asked  # nobody waits for it again at once
    with client(region, portals.patient(region.someone)) as http:
        assert "Nie wiadomo, czy są tam wizyty" in http.get("/patient/documents").text


def test_a_node_without_a_source_says_so(portal: portals.Region) -> None:
    portal.chosen(portal.someone)
    address = record_of(portal, portal.someone)
    with client(portal, DOCTOR) as http:
        assert "P1 (zdarzenia): niepodłączone" in http.get(address).text
        patient = address.rpartition("/")[2]
        assert http.get(f"{portal.origin}/fhir/Patient/{patient}/$medical-events").status_code == 404
