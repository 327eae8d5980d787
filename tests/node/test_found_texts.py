"""Words in the text of documents: found by professional and patient alike, never where they may not see."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import portals
import psycopg
import pytest
from axe import expect_accessible
from portals import DOCTOR, PHONE, STRANGER, client, visiting
from test_tour import record_of

from obieg.wire.cda_content import read_content
from obieg.wire.cda_narrative import plain_text

pytestmark = pytest.mark.node

SHOTS = Path(folder) if (folder := os.environ.get("OBIEG_LOOK")) else None  # where to leave pictures to look at


def texts(region: portals.Region) -> dict[str, str]:
    """What the newest versions of someone's documents say, by title."""
    mine = [read_content(d.data) for d in region.documents if d.person is region.someone]
    return {content.header.title: " ".join(plain_text(c.narrative) for c in content.chapters) for content in mine}


@pytest.fixture(scope="module")
def word(portal: portals.Region) -> str:
    """A long word that stands in the text of some of someone's documents, and not of all."""
    said = texts(portal)
    words = {w for text in said.values() for w in re.findall(r"[^\W\d_]{9,}", text)}
    counted = {w: sum(w.lower()[:-3] in text.lower() for text in said.values()) for w in words}
    fitting = sorted(
        w for w, n in counted.items() if 0 < n < len(said) and not any(w[:5].lower() in t.lower() for t in said)
    )
    return fitting[0]


def audited(region: portals.Region) -> list[tuple[int, bytes]]:
    with psycopg.connect(region.node.dsn) as connection:
        return connection.execute(
            "SELECT outcome, message FROM audit_event WHERE transaction = 'OBIEG-12' ORDER BY audit_id"
        ).fetchall()


def test_a_professional_finds_words_in_texts(chrome: Any, portal: portals.Region, word: str) -> None:
    portal.chosen(portal.someone)
    address = record_of(portal, portal.someone)
    with visiting(chrome, portal, DOCTOR) as visitor:
        page = visitor.go(address)
        whole = page.locator(".thread > li").count()
        page.get_by_label("Szukaj w treści dokumentów").fill(word[:-1].upper() + "ą")  # in another form
        page.keyboard.press("Enter")
        page.wait_for_selector("#timeline mark")
        found = page.locator(".thread > li").count()
        assert 0 < found < whole
        assert page.locator(".thread mark").first.inner_text().lower()[:6] == word.lower()[:6]
        assert f"przejrzano: {whole}" in page.locator("#timeline [role=status]").inner_text()
        expect_accessible(page)
        if SHOTS:
            page.screenshot(path=SHOTS / "found.png", full_page=True)
        page.keyboard.press("j")  # goes on within what was found
        assert page.locator(".thread > li").count() == found
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        page.emulate_media(color_scheme="dark")
        expect_accessible(page)
        if SHOTS:
            page.screenshot(path=SHOTS / "found-phone.png", full_page=True)
        page.get_by_role("link", name="Pokaż wszystkie").click()
        page.wait_for_function("n => document.querySelectorAll('.thread > li').length === n", arg=whole)
        visitor.expect_clean()
    outcome, message = audited(portal)[-1]
    assert outcome == 0
    assert word[:6].lower() not in str(message).lower()  # what was asked for stands nowhere
    with client(portal, DOCTOR) as http:
        nothing = http.get(address, params={"text": "hipopotam"})
        assert (nothing.status_code, "Dokumentów ze wszystkimi słowami: 0" in nothing.text) == (200, True)
        hostile = http.get(address, params={"text": "<script>alert(1)</script>' OR 1=1 --"})
        assert "<script>alert" not in hostile.text
        assert http.get(address, params={"text": " .,;"}).status_code == 200


def test_who_may_not_see_finds_nothing(portal: portals.Region, word: str) -> None:
    portal.chosen(portal.someone)
    patient = record_of(portal, portal.someone).rpartition("/")[2]
    base = f"{portal.origin}/fhir/Patient"
    with client(portal, STRANGER) as http:
        asked = {who: http.get(f"{base}/{who}/$search-documents", params={"text": word}) for who in (patient, "nobody")}
        assert {answer.status_code for answer in asked.values()} == {200}
        assert len({answer.text for answer in asked.values()}) == 1  # as if there were nobody
        assert http.get(f"{base}/{patient}/$search-documents").status_code == 400
    with client(portal, DOCTOR) as http:
        mine = http.get(f"{base}/{patient}/$search-documents", params={"text": word})
        assert "match" in {p["name"] for p in mine.json()["parameter"]}
        assert "poz" in mine.headers["x-obieg-access"]


def test_patients_search_their_own_texts(chrome: Any, portal: portals.Region, word: str) -> None:
    with visiting(chrome, portal, portals.patient(portal.someone), size=PHONE) as visitor:
        page = visitor.go("/patient/documents")
        page.fill("#q", word)
        page.keyboard.press("Enter")
        page.wait_for_selector("#results mark")
        expect_accessible(page)
        if SHOTS:
            page.screenshot(path=SHOTS / "found-patient.png", full_page=True)
        page = visitor.go("/patient/access?who=all")
        assert "W treści dokumentów szukano słów" in page.locator("#log").inner_text()
        visitor.expect_clean()
