"""What patients see, in a browser."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import portals
import psycopg
import pytest
from axe import expect_accessible
from portals import DESK, DOCTOR, PHONE, WHOLE, visiting

from obieg.codes.load import toml
from obieg.ops.population import Person

pytestmark = pytest.mark.node
PAGES = (
    "", "/documents", "/documents?q=konsultacja&kind=visit", "/coverage", "/access", "/access?who=all", "/notices", "/permissions",
    "/permissions/grant", "/permissions/restrict", "/permissions/representatives", "/summary", "/share", "/documents/add", "/messages", "/everything",
)  # fmt: skip


@pytest.fixture(scope="module")
def person(portal: portals.Region) -> Person:
    """A patient with a doctor who has looked, in an emergency, too."""
    found = portal.someone
    portal.chosen(found)
    with portals.client(portal, portals.patient(found)) as own:
        [me] = own.get("/fhir/Patient/$represented").json()["parameter"]
        reference = next(p["valueReference"]["reference"] for p in me["part"] if p["name"] == "patient")
    rescuer = {**portals.STRANGER, "purpose_of_use": "BTG", "proof": "saml"}
    with portals.client(portal, DOCTOR) as doctor, portals.client(portal, rescuer) as other:
        found_documents = doctor.get(f"/fhir/DocumentReference?patient={reference}&status=current").json()["entry"]
        address = found_documents[0]["resource"]["content"][0]["attachment"]["url"]
        assert doctor.get(f"/fhir/Binary/{address.rpartition('/')[2]}").status_code == 200
        said = {"resourceType": "Parameters", "parameter": [
            {"name": "reason", "valueString": "unconscious"}, {"name": "text", "valueString": "Nieprzytomny po upadku"},
        ]}  # fmt: skip
        opened = other.post(f"/fhir/{reference}/$break-glass", json=said)
        assert opened.status_code == 201, opened.text
        other.get(f"/fhir/DocumentReference?patient={reference}&status=current")
        assert other.post(f"/fhir/{reference}/$break-glass", json=said).status_code == 200  # renewed
        assert other.delete(f"/fhir/{reference}/$break-glass").status_code == 204
        assert other.post(f"/fhir/{reference}/$break-glass", json=said).status_code == 201
    return found


@pytest.mark.parametrize(("locale", "size", "dark"), [
    ("pl-PL", PHONE, False), ("en-GB", DESK, True), ("uk-UA", PHONE, True),
])  # fmt: skip
def test_every_page_is_accessible(
    chrome: Any, portal: portals.Region, person: Person, locale: str, size: tuple[int, int], dark: bool
) -> None:
    with visiting(chrome, portal, portals.patient(person), locale=locale, size=size, dark=dark) as visitor:
        for path in PAGES:
            page = visitor.go(f"/patient{path}")
            assert page.locator("html").get_attribute("lang") == locale[:2]
            assert page.get_by_role("heading", level=1).count() == 1
            assert page.locator("nav.nav").count() == 1, page.inner_text("main")
            expect_accessible(page)
        page = visitor.go("/patient/documents")
        page.locator(".list a.go").first.click()
        expect_accessible(page)
        page = visitor.go("/patient/access?who=staff")
        page.locator(".thread a.btn").first.click()
        expect_accessible(page)
        visitor.expect_clean()


def test_a_page_prints_with_who_printed_it_and_when(chrome: Any, portal: portals.Region, person: Person) -> None:
    with visiting(chrome, portal, portals.patient(person), script=False) as visitor:
        for path in ("", "/documents", "/access", "/summary", "/permissions"):
            page = visitor.go(f"/patient{path}")
            assert not page.locator(".print-only").is_visible()
            page.emulate_media(media="print")
            printed = page.locator(".print-only").inner_text()
            assert printed.startswith(f"Wydrukowano {datetime.now(ZoneInfo('Europe/Warsaw')):%d.%m.%Y}")
            assert portals.patient(person)["person_name"] in printed
            assert not page.locator("nav.nav").is_visible()
            assert page.locator("main .btn:visible").count() == 0
            page.emulate_media(media="screen")


def bare(person: Person) -> dict[str, str]:
    return portals.patient(person)


def titles(portal: portals.Region, who: dict[str, str], reference: str) -> set[str]:
    with portals.client(portal, who) as client:
        found = client.get(f"/fhir/DocumentReference?patient={reference}&status=current")
        return {e["resource"]["id"] for e in found.json().get("entry", ())}


def reference_of(portal: portals.Region, person: Person) -> str:
    with portals.client(portal, bare(person)) as client:
        for found in client.get("/fhir/Patient/$represented").json()["parameter"]:
            parts = {p["name"]: p for p in found["part"]}
            if parts["basis"]["valueCode"] == "patient":
                return str(parts["patient"]["valueReference"]["reference"])
    raise AssertionError


def test_a_patient_hides_a_document_and_shows_it_again(chrome: Any, portal: portals.Region, person: Person) -> None:
    reference = reference_of(portal, person)
    before = titles(portal, DOCTOR, reference)
    with visiting(chrome, portal, bare(person), size=PHONE) as visitor:
        page = visitor.go("/patient/documents")
        page.locator(".list a.go").first.click()
        hidden = page.url.rpartition("/")[2]
        assert hidden in before
        page.locator("main").get_by_role("link", name="Ogranicz dostęp").click()
        assert "Ograniczenie może utrudnić leczenie." in page.inner_text("main")
        assert "P1" in page.inner_text("main")
        page.get_by_role("button", name="Zapisz ograniczenie").click()
        assert page.get_by_role("status").inner_text().startswith("Ograniczenie zapisane")
        expect_accessible(page)
        assert titles(portal, DOCTOR, reference) == before - {hidden}
        page = visitor.go(f"/patient/documents/{hidden}")
        assert page.get_by_text("Dostęp ograniczony przez Ciebie").count() == 1
        expect_accessible(page)
        assert visitor.go("/patient/documents").get_by_text("Dostęp ograniczony przez Ciebie").count() == 1
        page = visitor.go(f"/patient/documents/{hidden}")
        page.get_by_role("link", name="Zdejmij ograniczenie").click()
        expect_accessible(page)
        page.get_by_role("button", name="Tak, cofnij").click()
        assert titles(portal, DOCTOR, reference) == before
        visitor.expect_clean()


def test_a_patient_takes_an_authorisation_back(chrome: Any, portal: portals.Region, person: Person) -> None:
    other = next(p for p in portal.people if p.pesel and p is not person and p.born.year < 2000)
    given = {"person": f"{portals.PESEL}#{other.pesel}", "kind": "authorised", "period": WHOLE}
    name = [{"family": other.family, "given": [*other.given]}]
    portal.state(person, "representative", given, resource={"resourceType": "RelatedPerson", "id": "x", "name": name})
    called = " ".join((*other.given, other.family))
    with visiting(chrome, portal, bare(person), size=PHONE) as visitor:
        page = visitor.go("/patient/permissions")
        page.get_by_role("link", name="Pokaż te osoby").click()
        page.get_by_role("listitem").filter(has_text=called).get_by_role("link", name="Odwołaj").click()
        assert called in page.inner_text("main")
        expect_accessible(page)
        page.get_by_role("button", name="Tak, odwołaj").click()
        assert page.get_by_role("status").inner_text() == "Upoważnienie odwołane. Działa od teraz."
        assert called not in page.inner_text("main")
        expect_accessible(page)
        visitor.expect_clean()
    with visiting(chrome, portal, bare(other)) as visitor:
        assert page_of_another(visitor, portal, person) == 404


def page_of_another(visitor: portals.Visitor, portal: portals.Region, person: Person) -> int:
    path = f"/patient/p/{reference_of(portal, person).partition('/')[2]}"
    return int(visitor.page.goto(visitor.region.origin + path).status)


def test_a_patient_lets_a_doctor_see_one_kind_of_documents(chrome: Any, portal: portals.Region, person: Person) -> None:
    reference = reference_of(portal, person)
    treating = {**portals.STRANGER, "purpose_of_use": "TREAT"}
    assert titles(portal, treating, reference) == set()
    with visiting(chrome, portal, bare(person), script=False) as visitor:
        page = visitor.go("/patient/permissions")
        page.get_by_role("link", name="Udostępnij dane").click()
        page.get_by_role("button", name="Zapisz zgodę").click()
        assert "Wybierz z listy, kogo to dotyczy." in page.get_by_role("alert").first.inner_text()
        page.get_by_label("lek. Jan Wrona").check()
        page.get_by_label("Co udostępnić").select_option(label="Wynik badania laboratoryjnego")
        page.get_by_label("Jak długo").select_option(label="7 dni")
        page.get_by_role("button", name="Zapisz zgodę").click()
        assert "lek. Jan Wrona" in page.inner_text("main")
        assert "Wynik badania laboratoryjnego" in page.inner_text("main")
        seen = titles(portal, treating, reference)
        assert seen
        assert seen < titles(portal, bare(person), reference)
        page.get_by_role("link", name="Cofnij").first.click()
        page.get_by_role("button", name="Tak, cofnij").click()
        assert titles(portal, treating, reference) == set()
        page.get_by_role("button", name="Włącz powiadomienia").click()
        assert "Powiadamiamy o każdym wglądzie" in page.inner_text("main")
        page.get_by_role("button", name="Wyłącz powiadomienia").click()
        assert "tylko o dostępie ratunkowym" in page.inner_text("main")
        visitor.expect_clean(400)


def test_a_patient_reports_a_look_and_sees_that_it_is_reviewed(
    chrome: Any, portal: portals.Region, person: Person
) -> None:
    with visiting(chrome, portal, bare(person)) as visitor:
        page = visitor.go("/patient/access?who=emergency")
        with psycopg.connect(portal.node.dsn) as connection:  # other tests may have opened some, too
            [sessions] = connection.execute(
                "SELECT count(*) FROM access_review r JOIN patient_locator l USING (patient_key)"
                " WHERE r.kind = 'emergency' AND l.authority = %s AND l.value = %s", (portals.PESEL, person.pesel),
            ).fetchone()  # fmt: skip
        assert sessions >= 2
        assert f"{sessions} razy użyto dostępu ratunkowego" in page.inner_text("main")  # renewing is none of its own
        page.get_by_role("link", name="To nie moja wizyta").first.click()
        page.get_by_label("Co się nie zgadza?").fill("Nie byłem tam")
        page.get_by_role("button", name="Wyślij zgłoszenie").click()
        assert "Zgłoszenie przyjęte" in page.get_by_role("status").inner_text()
        page = visitor.go("/patient/access?who=emergency")
        assert "jeszcze tego nie rozstrzygnął" in page.locator(".thread").first.inner_text()
        expect_accessible(page)
        visitor.expect_clean()


def test_what_is_not_there_and_what_is_of_others_is_answered_alike(portal: portals.Region, person: Person) -> None:
    other = next(
        d.person for d in portal.documents if d.person.pesel and d.person != person and d.person.born.year < 2000
    )
    theirs = titles(portal, bare(other), reference_of(portal, other)).pop()
    stranger = reference_of(portal, other).removeprefix("Patient/")
    missing = "00000000-0000-4000-8000-000000000000"
    with portals.client(portal, bare(person)) as client:

        def answer(path: str) -> tuple[int, str]:
            found = client.get(f"/patient{path}")
            number = found.text.partition('<p class="meta">')[2].partition("<")[0]
            return found.status_code, found.text.replace(number, "").replace(path, "")

        for end in ("", "/file", "/fhir"):
            assert answer(f"/documents/{theirs}{end}") == answer(f"/documents/{missing}{end}")
        assert answer(f"/documents/{theirs}")[0] == 404
        assert answer(f"/p/{stranger}/documents") == answer("/p/PNOBODY/documents")
        assert answer(f"/p/{stranger}")[0] == 404
        assert answer("/permissions/withdraw?consent=nothing")[0] == 404
        assert answer("/access/report?entry=1")[0] == 404


def test_files_are_kept_and_never_shown(portal: portals.Region, person: Person) -> None:
    reference = reference_of(portal, person)
    document = min(titles(portal, bare(person), reference))
    own = {d.unique_id: d.data for d in portal.documents}
    with portals.client(portal, bare(person)) as client:
        for path in (f"/documents/{document}/file", f"/documents/{document}/fhir", "/summary/fhir", "/everything/fhir"):
            found = client.get(f"/patient{path}")
            assert found.status_code == 200, path
            assert found.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
            assert found.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert client.get(f"/patient/documents/{document}/file").content in own.values()
        everything = client.get("/patient/everything/fhir").json()
    kinds = {entry["resource"]["resourceType"] for entry in everything["entry"]}
    assert kinds >= {"Patient", "DocumentReference", "AuditEvent"}


def a_child(portal: portals.Region) -> Person:
    """Seven years old, told of by a facility's system."""
    born = date(datetime.now(UTC).year - 7, 1, 2)
    digits = f"{born:%y}{born.month + 20:02}{born.day:02}4321"
    pesel = digits + str(-sum(int(d) * w for d, w in zip(digits, (1, 3, 7, 9) * 3, strict=False)) % 10)
    child = portal.people[0]._replace(born=born, pesel=pesel, given=("Zofia",), family="Malik")
    told = {
        "resourceType": "Patient", "active": True, "birthDate": born.isoformat(),
        "identifier": [{"system": f"urn:oid:{portals.PESEL}", "value": pesel}],
        "name": [{"family": "Malik", "given": ["Zofia"]}],
    }  # fmt: skip
    answer = httpx.put(
        f"{portal.origin}/fhir/Patient",
        params={"identifier": f"urn:oid:{portals.PESEL}|{pesel}"},
        json=told,
        headers={"Content-Type": "application/fhir+json"},
    )
    assert answer.status_code in (200, 201), answer.text
    return child


def test_every_kind_of_notice_is_told(portal: portals.Region, person: Person) -> None:
    kinds = toml("notices.toml")["patient"]
    said = json.dumps({"person": DOCTOR["person"], "name": "Ewa Nowak", "organisation": "1.2.3#4"})
    with psycopg.connect(portal.node.dsn) as connection:
        for kind in kinds:
            connection.execute(
                "INSERT INTO access_notice (patient_key, kind, key, said)"
                " SELECT patient_key, %s, %s, %s FROM patient_locator WHERE authority = %s AND value = %s",
                (kind, f"test:{kind}", said, portals.PESEL, person.pesel),
            )
    for language in ("pl", "en", "uk"):
        with portals.client(portal, portals.patient(person)) as client:
            page = client.get("/patient/notices", headers={"Accept-Language": language})
            assert page.status_code == 200
            assert len(re.findall(r"<li", page.text.partition('<ul class="list">')[2])) >= len(kinds)


def test_a_parent_opens_the_record_of_a_child(chrome: Any, portal: portals.Region, person: Person) -> None:
    child = a_child(portal)
    guardian = {"person": f"{portals.PESEL}#{person.pesel}", "kind": "guardian", "period": WHOLE}
    portal.state(child, "representative", guardian)
    name = f"{child.given[0]} {child.family}"
    with portals.client(portal, bare(person)) as client:
        assert name in client.get("/patient").text
    with visiting(chrome, portal, bare(person), size=PHONE) as visitor:
        page = visitor.go("/patient")
        page.locator("details.menu summary").click()
        page.get_by_role("link", name=name).click()
        assert "/patient/p/" in page.url
        assert name in page.locator(".whose").inner_text()
        expect_accessible(page)
        home = page.url.removeprefix(portal.origin)
        for path in ("/documents", "/access", "/permissions", "/summary", "/notices"):
            page = visitor.go(home + path)
            assert name in page.locator(".whose").inner_text()
            assert page.get_by_role("heading", level=1).count() == 1
        page.get_by_role("link", name="Wróć do swoich").click()
        assert page.url == f"{portal.origin}/patient"
        page = visitor.go("/patient/permissions")
        assert name in page.inner_text("main")
        visitor.expect_clean()
    with visiting(chrome, portal, bare(child)) as visitor:
        page = visitor.go("/patient")
        assert "od 16. roku życia" in page.inner_text("main")
        expect_accessible(page)
