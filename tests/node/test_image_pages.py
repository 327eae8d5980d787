"""The viewer of images in a real browser: a stack of 200 slices, a radiograph, an ultrasound; without an install."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import browser
import peer
import pytest
from axe import expect_accessible
from playwright.sync_api import expect
from pydicom.uid import generate_uid
from test_access_enforced import DOCTOR, STRANGER
from test_images import ALWAYS, PESEL, Study

import imaging
from obieg.web.areas import PROFESSIONALS

pytestmark = [pytest.mark.node, pytest.mark.slow]
PATIENT, PROXY = "80010112340", "80010112357"
LANGUAGES = {"pl": "pl-PL", "en": "en-GB", "uk": "uk-UA"}


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode, archive: imaging.Archive) -> peer.Node:
    return archive.region(make_node, "viewer")


@pytest.fixture(scope="module")
def study(region: peer.Node, archive: imaging.Archive) -> Study:
    uid = generate_uid()
    objects = [*imaging.ct(uid), *imaging.cr(uid), *imaging.us(uid)]
    return Study(region, archive, objects, pesel=PATIENT)


@pytest.fixture(scope="module")
def origin(region: peer.Node) -> str:
    return f"http://localhost:{urlsplit(region.endpoints['base_url']).port}"


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser.chromium() as found:
        yield found


@pytest.fixture
def open_page(chrome: Any, origin: str) -> Iterator[Any]:
    """Opens pages as somebody; whatever is asked of another host, and what the console says, fails the test."""
    opened = []

    def open_as(who: dict[str, str], **how: Any) -> Any:
        context = chrome.new_context(**{"locale": "pl-PL", "viewport": {"width": 1280, "height": 800}, **how})
        said = urlsafe_b64encode(json.dumps(who).encode()).decode()
        context.add_cookies([{"name": "who", "value": said, "url": origin}])
        page = context.new_page()
        page.faults, page.asked = [], []
        page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        opened.append((context, page))
        return page

    yield open_as
    for context, page in opened:
        faults = [fault for fault in page.faults if "status of 404" not in fault]
        elsewhere = [url for url in page.asked if not url.startswith((f"{origin}/", "blob:", "data:"))]
        context.close()
        assert (faults, elsewhere) == ([], [])


def shown(page: Any, at: int, of: int) -> None:
    """The image of this number is drawn."""
    page.wait_for_selector(f"canvas[data-shown='{at}']", timeout=20_000)
    assert re.search(rf"{at} / {of}$", page.locator("[data-at]").inner_text())


def grey(page: Any, x: float, y: float) -> int:
    """How bright the canvas is at a place of it, from 0 to 1 each way."""
    return page.evaluate(
        "([x, y]) => { const c = document.querySelector('canvas');"
        " return c.getContext('2d').getImageData(Math.round(c.width * x), Math.round(c.height * y), 1, 1).data[0] }",
        [x, y],
    )


def viewer(origin: str, study: Study, purpose: str = "treatment") -> str:
    """The page of a professional."""
    document = study.entry.id.removeprefix("urn:uuid:")
    return f"{origin}{PROFESSIONALS}/{purpose}/{study.patient.partition('^')[0]}/document/{document}/images"


def address(origin: str, study: Study, modality: str = "CT") -> str:
    one = next(o for o in study.objects if modality == o.Modality)
    return f"{viewer(origin, study)}?series={one.SeriesInstanceUID}"


def test_a_stack_is_scrolled_by_wheel_slider_and_keys(origin: str, study: Study, open_page: Any) -> None:
    page = open_page(DOCTOR)
    page.goto(viewer(origin, study))
    shown(page, 100, 200)
    assert "Widzisz, bo" in page.locator("header, .bar").first.inner_text()
    assert page.locator("nav[aria-label=Serie] li").count() == 3
    assert page.locator("nav[aria-label=Serie] img").evaluate_all(
        "all => all.every(i => i.complete && i.naturalWidth > 0)"
    )
    assert "Wczytano" in page.locator("[data-progress]").inner_text()
    expect(page.locator("[data-progress]")).to_have_text("Wczytano 200 z 200", timeout=60_000)
    page.locator("canvas").hover()
    page.mouse.wheel(0, 120)
    shown(page, 103, 200)
    page.keyboard.press("End")
    shown(page, 200, 200)
    page.keyboard.press("ArrowUp")
    shown(page, 199, 200)
    page.keyboard.press("PageDown")
    shown(page, 200, 200)
    page.locator("[data-slider]").fill("7")
    shown(page, 7, 200)
    assert page.locator("[data-slider]").get_attribute("aria-valuetext") == "Obraz 7 / 200"
    # All are here: none of 40 steps waits for the network.
    page.locator("canvas").focus()
    before = len(page.asked)
    for _ in range(40):
        page.keyboard.press("ArrowDown")
    shown(page, 47, 200)
    assert len(page.asked) == before


def test_window_zoom_move_length_and_reset(origin: str, study: Study, open_page: Any) -> None:
    page = open_page(DOCTOR)
    page.goto(address(origin, study))
    shown(page, 100, 200)
    assert page.locator("[data-windowed]").inner_text() == "Okno 400 / 40"
    box = page.locator("canvas").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    body = grey(page, 0.5, 0.35)
    assert 115 < body < 140  # 40 HU in the middle of the window
    page.get_by_label("Okno dla narządu").select_option(label="Płuca, 1500 / -600")
    expect(page.locator("[data-windowed]")).to_have_text("Okno 1500 / -600")
    assert 225 < grey(page, 0.5, 0.35) < 245
    page.locator("canvas").focus()
    page.keyboard.press("w")
    assert page.get_by_role("button", name="Okno").get_attribute("aria-pressed") == "true"
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] + 20)
    page.mouse.up()
    assert page.locator("[data-windowed]").inner_text() != "Okno 1500 / -600"
    page.keyboard.press("z")
    page.mouse.down()
    page.mouse.move(middle[0], middle[1] - 100)
    page.mouse.up()
    assert page.locator("[data-zoomed]").inner_text() != "Powiększenie 1"
    page.keyboard.press("m")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("r")
    expect(page.locator("[data-windowed]")).to_have_text("Okno 400 / 40")
    assert page.locator("[data-zoomed]").inner_text() == "Powiększenie 1"
    # 256 pixels of 0.8 mm are as high as the canvas: a quarter of it is 51.2 mm.
    page.keyboard.press("l")
    page.mouse.move(middle[0], middle[1] - box["height"] / 8)
    page.mouse.down()
    page.mouse.move(middle[0], middle[1] + box["height"] / 8)
    page.mouse.up()
    said = page.locator("[data-said]").inner_text()
    assert re.fullmatch(r"Zmierzono: 5[01](,\d)? mm", said), said
    # And by keyboard alone: 16 steps of a 64th.
    page.keyboard.press("Enter")
    for _ in range(16):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("[data-said]")).to_have_text("Zmierzono: 51,2 mm")


def test_single_keys_can_be_switched_off(origin: str, study: Study, open_page: Any) -> None:
    page = open_page(DOCTOR)
    page.goto(address(origin, study))
    shown(page, 100, 200)
    page.get_by_text("Skróty klawiszowe").click()
    page.get_by_label("Skróty z jednej litery").uncheck()
    page.locator("canvas").focus()
    page.keyboard.press("w")
    assert page.get_by_role("button", name="Okno").get_attribute("aria-pressed") == "false"
    page.keyboard.press("ArrowDown")
    shown(page, 101, 200)


def test_two_images_side_by_side(origin: str, study: Study, open_page: Any) -> None:
    page = open_page(DOCTOR)
    page.goto(address(origin, study))
    shown(page, 100, 200)
    page.keyboard.press("c")
    page.keyboard.press("Home")
    shown(page, 1, 200)
    assert page.get_by_role("button", name="Porównaj").get_attribute("aria-pressed") == "true"
    # The spine is in the middle of both halves.
    assert grey(page, 0.25, 0.6) > 240
    assert grey(page, 0.75, 0.6) > 240
    page.keyboard.press("c")
    expect(page.locator("[data-tool=compare]")).to_have_attribute("aria-pressed", "false")


def test_a_radiograph_is_white_where_the_lowest_value_is(origin: str, study: Study, open_page: Any) -> None:
    page = open_page(DOCTOR)
    page.goto(address(origin, study, "CR"))
    shown(page, 1, 1)
    box = page.locator("canvas").bounding_box()
    half = min(box["width"], box["height"] * 4 / 3) / box["width"] / 2
    assert grey(page, 0.5 - half + 0.02, 0.5) > 200
    assert grey(page, 0.5 + half - 0.02, 0.5) < 60
    # 8 steps of a 64th of 400 pixels of 0.2 mm.
    assert measured(page, "ArrowRight", 8) == "Zmierzono: 10 mm, na detektorze"


def measured(page: Any, *steps: Any) -> str:
    """A line by keyboard alone, from the middle; what is said of it."""
    page.locator("canvas").focus()
    page.keyboard.press("l")
    before = page.locator("[data-said]").inner_text()
    page.keyboard.press("Enter")
    for key, times in zip(steps[::2], steps[1::2], strict=True):
        for _ in range(times):
            page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.locator("[data-said]")).not_to_have_text(before)
    return page.locator("[data-said]").inner_text()


def test_an_ultrasound_is_measured_where_it_shows_the_body(origin: str, study: Study, open_page: Any) -> None:
    page = open_page(DOCTOR)
    page.goto(address(origin, study, "US"))
    shown(page, 1, 12)
    # 16 steps of 2 pixels of 0.5 mm; 4 pixels of 0.4 mm down are steps of 2 pixels, too.
    assert measured(page, "ArrowRight", 16) == "Zmierzono: 16 mm"
    page.keyboard.press("r")
    assert measured(page, "ArrowUp", 12) == "Zmierzono: 9,6 mm"
    page.keyboard.press("r")
    assert measured(page, "ArrowDown", 18) == "Nie zmierzono: końce leżą w częściach obrazu o różnej skali"
    expect(page.locator("[data-note]")).to_contain_text("Nie zmierzono")
    page.keyboard.press("r")
    page.keyboard.press("l")
    for _ in range(14):  # from row 48 to row 76, where the spectrum is
        page.keyboard.press("ArrowDown")
    assert measured_on(page, "ArrowRight", 3) == "Nie zmierzono: to widmo Dopplera: czas i prędkość, nie długość"


def measured_on(page: Any, key: str, times: int) -> str:
    """A line from where the pen is."""
    page.keyboard.press("Enter")
    for _ in range(times):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.locator("[data-said]")).to_contain_text("Doppler")
    return page.locator("[data-said]").inner_text()


def test_frames_of_an_ultrasound_are_played(origin: str, study: Study, open_page: Any) -> None:
    page = open_page(DOCTOR)
    page.goto(address(origin, study, "US"))
    shown(page, 1, 12)
    page.evaluate(
        "() => { const canvas = document.querySelector('canvas'); window.seen = [];"
        " new MutationObserver(() => window.seen.push(Number(canvas.dataset.shown)))"
        ".observe(canvas, {attributeFilter: ['data-shown']}) }"
    )
    page.get_by_role("button", name="Odtwórz").click()
    # Forwards, and from the beginning; a busy machine may leave some out.
    page.wait_for_function("() => window.seen.some((at, i) => i > 3 && at < window.seen[i - 1])", timeout=20_000)
    assert len(set(page.evaluate("window.seen"))) > 3
    page.get_by_role("button", name="Zatrzymaj").click()
    page.locator("canvas").focus()
    page.keyboard.press("End")
    shown(page, 12, 12)
    coloured = page.evaluate(
        "() => { const c = document.querySelector('canvas');"
        " const d = c.getContext('2d').getImageData(0, c.height / 2, c.width, 1).data;"
        " for (let i = 0; i < d.length; i += 4) if (d[i] > 150 && d[i + 2] < 90) return true; return false }"
    )
    assert coloured


def test_without_a_script_pictures_stand_on_pages(origin: str, study: Study, open_page: Any) -> None:
    page = open_page(DOCTOR, java_script_enabled=False)
    page.goto(address(origin, study))
    assert page.locator("ol.pictures img").count() == 12
    assert page.locator(".plain .meta").inner_text().startswith("Obrazy 1–12 z 200")
    page.get_by_role("link", name="Następne obrazy").click()
    assert page.locator(".plain .meta").inner_text().startswith("Obrazy 13–24 z 200")
    first = page.locator("ol.pictures img").first
    assert first.get_attribute("alt") == "Obraz 13 / 200"
    assert study.objects[12].SOPInstanceUID in first.get_attribute("src")


def test_the_study_is_downloaded(origin: str, study: Study, open_page: Any) -> None:
    page = open_page(DOCTOR)
    page.goto(address(origin, study, "US"))
    with page.expect_download(timeout=60_000) as download:
        page.get_by_role("link", name="Pobierz badanie").click()
    assert download.value.suggested_filename == "study.zip"
    assert Path(download.value.path()).stat().st_size > 200 * 256 * 256 * 2


def test_whoever_may_not_see_it_is_shown_what_nobody_finds(origin: str, study: Study, open_page: Any) -> None:
    page = open_page(STRANGER)
    for path in (viewer(origin, study), viewer(origin, study, "emergency"), viewer(origin, study, "research")):
        assert page.goto(path).status == 404
    images = viewer(origin, study).partition("/document/")[0] + f"/images/{study.uid}"
    tail = study.path(0).partition(study.uid)[2]
    for path in (f"{images}/thumbnail", f"{images}{tail}", f"{images}{tail}/rendered"):
        assert page.request.get(path).status == 404
    page = open_page(DOCTOR)
    assert page.request.get(f"{images}/thumbnail").status == 200
    assert page.goto(viewer(origin, study).replace("/document/", "/document/0")).status == 404
    assert page.request.get(f"{images.replace('treatment', 'research')}/thumbnail").status == 404


def test_a_proxy_sees_the_images_of_whom_they_act_for(
    origin: str, region: peer.Node, study: Study, open_page: Any
) -> None:
    """From the timeline on, though the session is good for their own record alone."""
    authority = region.endpoints["assigning_authority"]
    own = region.patient()
    assert region.feed("A08", f"{own}~{PROXY}^^^&{PESEL}&ISO") == "AA"
    proxy = {
        "person": f"{PESEL}#{PROXY}", "person_name": "Anna Kowalska", "role": "patient", "purpose_of_use": "PATRQT",
        "proof": "session", "patient": f"{authority}#{own.partition('^')[0]}",
    }  # fmt: skip
    record = f"{origin}/patient/p/{study.patient.partition('^')[0]}"
    page = open_page(proxy, viewport={"width": 390, "height": 844})
    assert page.goto(f"{record}/documents").status == 404
    study.state("representative", {"person": proxy["person"], "kind": "authorised", "period": ALWAYS})
    page.goto(f"{record}/documents")
    page.locator(".list a.go").first.click()
    thumbnail = page.locator("a.study img")
    expect(thumbnail).to_be_visible()
    page.wait_for_function("() => document.querySelector('a.study img').naturalWidth > 0")
    expect_accessible(page)
    before = region.last_audit()
    page.get_by_role("link", name="Obejrzyj").or_(page.locator("a.study")).first.click()
    shown(page, 100, 200)
    assert page.url.startswith(record)
    looked = [row[3] for row in region.audits(before) if row[1] == "RAD-107"]
    assert looked
    purpose = b64encode(b"PWATRNY").decode()
    assert all(PROXY in message and purpose in message and "access: authorised" in message for message in looked)
    page.get_by_role("link", name="Wróć").click()
    assert page.url.startswith(f"{record}/documents/")
    # By the session alone, without a page, they see nothing of it; nor does anybody else, whatever the address says.
    assert page.request.get(f"{origin}/{study.path(0)}").status == 404
    assert page.request.get(f"{origin}/patient/images/nobody/{study.uid}/thumbnail").status == 404
    assert page.request.get(f"{origin}/patient/images/authorised/{study.uid}/thumbnail").status == 200
    other = open_page({**proxy, "person": f"{PESEL}#80010112364", "patient": ""})
    for basis in ("patient", "guardian", "authorised", "close"):
        assert other.request.get(f"{origin}/patient/images/{basis}/{study.uid}/thumbnail").status == 404


def test_the_patient_sees_their_own(origin: str, study: Study, open_page: Any) -> None:
    page = open_page(
        {"person": f"{PESEL}#{PATIENT}", "role": "patient", "purpose_of_use": "PATRQT", "proof": "session"}
    )
    document = study.entry.id.removeprefix("urn:uuid:")
    page.goto(f"{origin}/patient/documents/{document}")
    page.locator("a.study").click()
    shown(page, 100, 200)


def test_access_that_ends_meanwhile_is_told(
    origin: str, region: peer.Node, archive: imaging.Archive, open_page: Any
) -> None:
    objects = imaging.ct(slices=3, size=16)
    study = Study(region, archive, objects)
    page = open_page(DOCTOR)
    page.route("**/frames/*", lambda route: route.fulfill(status=404))
    page.goto(address(origin, study))
    expect(page.locator("[data-note]")).to_contain_text("dostęp ustał")
    page.unroute("**/frames/*")
    page.route("**/frames/*", lambda route: route.fulfill(status=303, headers={"Location": "/login"}))
    page.goto(address(origin, study))
    expect(page.locator("[data-note]")).to_contain_text("sesja się skończyła")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_use_it(language: str, width: int, origin: str, study: Study, open_page: Any) -> None:
    page = open_page(DOCTOR, locale=LANGUAGES[language], viewport={"width": width, "height": 800})
    page.goto(address(origin, study))
    shown(page, 100, 200)
    assert page.locator("html").get_attribute("lang") == language
    page.locator("details summary").click()
    expect_accessible(page)
