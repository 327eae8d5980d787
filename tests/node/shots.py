"""``./run shots``: a picture of every main page, in ``docs/shots``, of a region with the people of the demo.

Each is to be looked at: what is cramped, misaligned or not translated is a defect.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import browser
import portals
from portals import DESK, DOCTOR, PHONE, STRANGER, visiting
from selves import reference
from standing_in import drawn_images, serving
from standins.medical_events.app import application as events
from test_launch import ANNA, JAN, launch, trust
from test_messages_node import said
from test_people_login import obieg

from obieg.web.areas import PROFESSIONALS as WORK
from running import maker

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "shots"
OPERATOR = {
    "person": "2.999.7#walas",
    "person_name": "Igor Walas",
    "role": "operator",
    "organisation": portals.HOSPITAL,
}
OFFICER = {**OPERATOR, "person": "2.999.7#rzepka", "person_name": "Ewa Rzepka", "role": "privacy-officer"}
COUNTER = {**OPERATOR, "person": "2.999.7#okienko", "person_name": "Maria Okoń", "role": "patient-counter"}
RESCUER = {**STRANGER, "proof": "saml", "purpose_of_use": "BTG"}

# name, who, path, language, and how: wide or phone, light or dark.
PUBLIC = (
    ("start", "/", "pl-PL", DESK, False), ("start-phone", "/", "uk-UA", PHONE, False),
    ("enter", "/enter", "pl-PL", DESK, False), ("facilities", "/facilities", "en-GB", DESK, True),
    ("status", "/status", "pl-PL", PHONE, False),
)  # fmt: skip
PATIENT = (
    ("home", "", "pl-PL", PHONE, False), ("home-wide", "", "pl-PL", DESK, False),
    ("documents", "/documents", "pl-PL", PHONE, True),
    ("access", "/access", "pl-PL", DESK, False), ("coverage", "/coverage", "uk-UA", PHONE, False),
    ("permissions", "/permissions", "en-GB", DESK, False), ("restrict", "/permissions/restrict", "pl-PL", PHONE, False),
    ("notices", "/notices", "pl-PL", PHONE, False), ("summary", "/summary", "pl-PL", DESK, False),
    ("share", "/share", "pl-PL", PHONE, False), ("add", "/documents/add", "pl-PL", PHONE, False),
)  # fmt: skip
OPERATING = (
    ("health", OPERATOR, "", "pl-PL", DESK, False), ("outbox", OPERATOR, "/outbox", "pl-PL", DESK, False),
    ("audit", OPERATOR, "/audit", "pl-PL", DESK, True), ("quality", OPERATOR, "/quality", "pl-PL", DESK, False),
    ("people", OPERATOR, "/people", "en-GB", DESK, False), ("reviews", OFFICER, "/reviews", "pl-PL", DESK, False),
    ("worklist", OPERATOR, "/patients", "pl-PL", PHONE, False),
)  # fmt: skip


class _Folders:
    """As pytest's tmp_path_factory."""

    def __init__(self, base: Path) -> None:
        self._base = base

    def mktemp(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._base))


def main() -> None:
    """Takes them all."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    with (
        tempfile.TemporaryDirectory(prefix="obieg-shots-") as base,
        maker(_Folders(Path(base)), None) as make,
        drawn_images(Path(base)) as archive,
        serving(events()) as p1,
    ):
        trusted = Path(base) / "trust.json"
        trusted.write_text(trust())
        node = make(
            "shots", module="launch_node", access={"enforced": True}, trust={"file": str(trusted)},
            images=archive.settings, medical_events={"url": p1},
        )  # fmt: skip
        region = portals.Region(node)
        archive.study(region, region.someone)
        record = _lived(region)
        facility = _asked(region)
        with browser.chromium() as chrome:
            _take(chrome, region, None, "public", PUBLIC)
            _take(chrome, region, portals.patient(region.someone), "patient", PATIENT, "/patient")
            for name, who, *page in OPERATING:
                _take(chrome, region, who, "operator", ((name, *page),), "/operator")
            _of_patient(chrome, region)
            _of_professional(chrome, region, record)
            _of_messages(chrome, region, facility)
            _of_images(chrome, region, record)
            _of_launch(chrome, region)
            _of_preview(chrome, region)


def _lived(region: portals.Region) -> str:
    """A doctor has read, a hospital has broken the glass; the id of the Patient."""
    person = region.someone
    region.chosen(person)
    with portals.client(region, portals.patient(person)) as own:
        said = own.get("/fhir/Patient/$represented").json()["parameter"]
    reference = next(p["valueReference"]["reference"] for p in said[0]["part"] if p["name"] == "patient")
    with portals.client(region, DOCTOR) as doctor, portals.client(region, RESCUER) as other:
        found = doctor.get(f"/fhir/DocumentReference?patient={reference}&status=current").json()["entry"]
        address = found[0]["resource"]["content"][0]["attachment"]["url"]
        doctor.get(f"/fhir/Binary/{address.rpartition('/')[2]}")
        parameters = [{"name": "reason", "valueString": "unconscious"},
                      {"name": "text", "valueString": "Nieprzytomny po upadku, brak wywiadu"}]  # fmt: skip
        other.post(f"/fhir/{reference}/$break-glass", json={"resourceType": "Parameters", "parameter": parameters})
        other.get(f"/fhir/DocumentReference?patient={reference}&status=current")
    return str(reference.rpartition("/")[2])


def _asked(region: portals.Region) -> str:
    """A patient has asked a facility something; which."""
    me = reference(region, region.someone)
    with portals.client(region, portals.patient(region.someone)) as own:
        found = own.get("/fhir/DocumentReference", params={"patient": me, "status": "current"}).json()
        kept = [r for e in found["entry"] for r in e["resource"]["contained"] if r["resourceType"] == "Organization"]
        given = (i for r in kept for i in r.get("identifier", ()) if i["system"] == f"urn:oid:{portals.ENTITY}")
        facility = f"{portals.ENTITY}#{next(given)['value']}"
        begun = own.post(
            f"/fhir/{me}/$send-message",
            json=said("Czy mogę prosić o opis wyniku?", facility=facility, subject="Wynik morfologii"),
        )
        assert begun.status_code == 204, begun.text
    return facility


def _take(
    chrome: Any, region: portals.Region, who: dict[str, str] | None, area: str, pages: Any, base: str = ""
) -> None:
    for name, path, locale, size, dark in pages:
        with visiting(chrome, region, who, locale=locale, size=size, dark=dark) as visitor:
            _save(visitor.go(f"{base}{path}"), f"{area}-{name}")


def _of_patient(chrome: Any, region: portals.Region) -> None:
    _of_link(chrome, region)
    for size, mark in ((PHONE, "-phone"), (DESK, "")):
        with visiting(chrome, region, portals.patient(region.someone), size=size) as visitor:
            page = visitor.go("/patient/documents")
            page.locator(".list a.go").first.click()
            _save(page, f"patient-document{mark}")


def _of_link(chrome: Any, region: portals.Region) -> None:
    """A patient shares the summary; a doctor abroad opens it."""
    with visiting(chrome, region, portals.patient(region.someone), size=PHONE) as visitor:
        page = visitor.go("/patient/share")
        page.fill("#passcode", "735029")
        page.click("form.card button")
        link = page.locator(".share-link a").get_attribute("href")
        _save(page, "patient-shared")
    with visiting(chrome, region, None, locale="en-GB") as visitor:
        page = visitor.page
        page.goto(link)
        page.fill("#recipient", "Dr. Erika Muster, AKH Wien")
        page.fill("#passcode", "735029")
        _save(page, "public-link")
        page.click("form button")
        page.wait_for_selector("article h2")
        _save(page, "public-link-opened")


def _of_professional(chrome: Any, region: portals.Region, record: str) -> None:
    with visiting(chrome, region, DOCTOR) as visitor:
        page = visitor.go(WORK)
        _save(page, "work-search")
        page.keyboard.type(region.someone.pesel)
        page.keyboard.press("Enter")
        page.wait_for_selector("#found")
        _save(page, "work-found")
        _save(visitor.go(f"{WORK}/treatment/{record}"), "work-record")
        _save(visitor.go(f"{WORK}/treatment/{record}/results"), "work-results")
    with visiting(chrome, region, COUNTER) as visitor:
        page = visitor.go(f"{WORK}/handout/{record}")
        _save(page, "work-handout")
        page.locator("button[value=document]").click()
        _save(page, "work-handout-document")
    with visiting(chrome, region, DOCTOR, dark=True, locale="en-GB") as visitor:
        _save(visitor.go(f"{WORK}/treatment/{record}"), "work-record-dark")
    with visiting(chrome, region, {**STRANGER, "proof": "saml"}) as visitor:
        page = visitor.go(f"{WORK}/treatment/{record}")
        _save(page, "work-closed")
        page.click("[data-dialog=btg]")
        _save(page, "work-break-glass", full_page=False)


def _of_messages(chrome: Any, region: portals.Region, facility: str) -> None:
    """A facility reads what a patient asks, and answers."""
    nurse = {**DOCTOR, "role": "nurse", "person_name": "piel. Ewa Maj", "organisation": facility}
    with visiting(chrome, region, nurse) as visitor:
        page = visitor.go(f"{WORK}/messages")
        _save(page, "work-messages")
        page.get_by_role("link", name="Wynik morfologii").click()
        page.get_by_label("Odpowiedź").fill("Opis będzie jutro po południu.")
        _save(page, "work-thread")
        page.get_by_role("button", name="Wyślij").click()
    with visiting(chrome, region, portals.patient(region.someone), size=PHONE) as visitor:
        page = visitor.go("/patient/messages")
        _save(page, "patient-messages")
        page.get_by_role("link", name="Wynik morfologii").click()
        _save(page, "patient-thread")


def _of_images(chrome: Any, region: portals.Region, record: str) -> None:
    """A stack of slices, which a program drew."""
    with visiting(chrome, region, DOCTOR) as visitor:
        page = visitor.go(f"{WORK}/treatment/{record}")
        page.get_by_role("link", name="RTG i TK klatki piersiowej").first.click()
        page.locator('a[href$="/images"]').first.click()
        page.locator('a[href*="series="]').last.click()
        page.wait_for_selector("canvas[data-shown]")
        _save(page, "work-images", full_page=False)
        address = page.url.removeprefix(region.origin)
    with visiting(chrome, region, portals.patient(region.someone), size=PHONE) as visitor:
        document = address.partition("/document/")[2].partition("/")[0]
        page = visitor.go(f"/patient/documents/{document}/images")
        page.wait_for_selector("canvas[data-shown]")
        _save(page, "patient-images")


def _of_launch(chrome: Any, region: portals.Region) -> None:
    """A hospital's system opens a record where somebody else works, and for somebody who has no account."""
    for login, name, number in (("anna", DOCTOR["person_name"], ANNA), ("jan", STRANGER["person_name"], JAN)):
        person = (login, "--name", name, "--id", number, "--at", portals.CLINIC, "--facility", "Poradnia Lipowa")
        obieg(region.node, "add", *person, "--role", "medical-doctor")
    with visiting(chrome, region, None) as visitor:
        visitor.page.goto(launch(region, professional=JAN))
        visitor.page.goto(launch(region))
        _save(visitor.page, "work-launch-other")
    with visiting(chrome, region, None, size=PHONE) as visitor:
        visitor.page.goto(launch(region, professional=f"{portals.NPWZ}#1111111"))
        _save(visitor.page, "work-launch-refused")


def _of_preview(chrome: Any, region: portals.Region) -> None:
    """What a change of the settings would break, before it is applied."""
    now = Path(region.node.endpoints["settings"]).read_text("utf-8")
    new = now.replace("workers = 1", "workers = 3") + '\n[[authorities]]\noid = "1.2.3.4"\nname = "SZPITAL"\n'
    with visiting(chrome, region, OPERATOR) as visitor:
        page = visitor.go("/operator/settings/preview")
        page.locator("#upload-kind").select_option("settings")
        page.locator("#file").set_input_files({"name": "new.toml", "mimeType": "text/plain", "buffer": new.encode()})
        page.locator('section[aria-labelledby="upload"] button').click()
        page.wait_for_selector('section[aria-labelledby="changes"]')
        _save(page, "operator-preview")


def _save(page: Any, name: str, *, full_page: bool = True) -> None:
    path = FOLDER / f"{name}.png"
    size = page.viewport_size
    if full_page:  # what stands at the lower edge of a phone stands at the end of the picture
        page.set_viewport_size({**size, "height": page.evaluate("document.documentElement.scrollHeight")})
    page.wait_for_function("() => [...document.images].every(each => each.complete)")
    here = page.get_by_text(tempfile.gettempdir())  # where the region of the pictures lies is nobody's business
    page.screenshot(path=path, mask=[here], mask_color="#808080")
    page.set_viewport_size(size)
    sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
