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
    ("messages", "/messages", "pl-PL", PHONE, False),
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
    with tempfile.TemporaryDirectory(prefix="obieg-shots-") as base, maker(_Folders(Path(base)), None) as make:
        region = portals.Region(make("shots", module="access_node", access={"enforced": True}))
        record = _lived(region)
        with browser.chromium() as chrome:
            _take(chrome, region, None, "public", PUBLIC)
            _take(chrome, region, portals.patient(region.someone), "patient", PATIENT, "/patient")
            for name, who, *page in OPERATING:
                _take(chrome, region, who, "operator", ((name, *page),), "/operator")
            _of_patient(chrome, region)
            _of_professional(chrome, region, record)


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
    with visiting(chrome, region, DOCTOR, dark=True, locale="en-GB") as visitor:
        _save(visitor.go(f"{WORK}/treatment/{record}"), "work-record-dark")
    with visiting(chrome, region, {**STRANGER, "proof": "saml"}) as visitor:
        page = visitor.go(f"{WORK}/treatment/{record}")
        _save(page, "work-closed")
        page.click("[data-dialog=btg]")
        _save(page, "work-break-glass", full_page=False)


def _save(page: Any, name: str, *, full_page: bool = True) -> None:
    path = FOLDER / f"{name}.png"
    here = page.get_by_text(tempfile.gettempdir())  # where the region of the pictures lies is nobody's business
    page.screenshot(path=path, full_page=full_page, mask=[here], mask_color="#808080")
    sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
