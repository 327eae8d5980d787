"""The tour of the README, from the arrival of a document to its trace, in the browsers of five people."""

from __future__ import annotations

from typing import Any

import portals
import psycopg
import pytest
from portals import DOCTOR, PESEL, PHONE, STRANGER, client, visiting
from test_pages_operator import OFFICER, OPERATOR

from obieg.ops.population import DemoDocument, Person, demo_documents
from obieg.web.areas import PROFESSIONALS as WORK

pytestmark = pytest.mark.node

WHY = "nieprzytomny po wypadku, brak wywiadu"


@pytest.fixture(scope="module")
def story(portal: portals.Region) -> tuple[Person, DemoDocument]:
    """Somebody who has chosen a doctor and asked for notices, and a document that has not come yet."""
    known = {document.unique_id for document in portal.documents}
    adults = [p for p in portal.people if p.pesel and p is not portal.someone]
    person, document = next(
        (document.person, document)
        for document in demo_documents(portal.people, 400, 8)
        if document.person in adults and document.unique_id not in known and b"relatedDocument" not in document.data
    )
    portal.chosen(person)
    with client(portal, portals.patient(person)) as own:
        page = own.get("/patient/permissions").text
        csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
        own.post(
            "/patient/permissions/notices", data={"csrf": csrf, "notices": "on"}, headers={"Origin": portal.origin}
        )
    return person, document


def record_of(portal: portals.Region, person: Person, purpose: str = "treatment") -> str:
    with psycopg.connect(portal.node.dsn) as connection:
        [id_] = connection.execute(
            "SELECT p.affinity_domain_id FROM patient p JOIN patient_locator l USING (patient_key)"
            " WHERE l.authority = %s AND l.value = %s",
            (PESEL, person.pesel),
        ).fetchone()
    return f"{WORK}/{purpose}/{id_}"


def test_tour(chrome: Any, portal: portals.Region, story: tuple[Person, DemoDocument]) -> None:
    person, document = story
    patient = portals.patient(person)

    # 1. A document arrives from a hospital, and the patient is told.
    portal.hand_in([document])
    with visiting(chrome, portal, patient, size=PHONE) as visitor:
        page = visitor.go("/patient/notices")
        assert "dokument" in page.locator("main .thread, main .list").first.inner_text().lower()
        visitor.expect_clean()

    # 2. A doctor elsewhere finds it by the PESEL and reads it, on a basis that is shown.
    with visiting(chrome, portal, DOCTOR) as visitor:
        page = visitor.go(WORK)
        page.keyboard.type(person.pesel)
        page.keyboard.press("Enter")
        page.wait_for_selector("#found")
        page.keyboard.press("Enter")
        page.wait_for_selector("#timeline")
        assert "wybrał Cię w deklaracji POZ" in page.locator(".basis").inner_text()
        link = page.locator(".thread > li a").filter(has_text=document_title(portal, document)).first
        link.click()
        page.wait_for_selector("#preview .doc")
        visitor.expect_clean()

    # 3. The patient sees that, and restricts the document.
    with visiting(chrome, portal, patient, size=PHONE) as visitor:
        page = visitor.go("/patient/access")
        assert "lek. Anna Nowak" in page.locator("main").inner_text()
        page = visitor.go(f"/patient/documents/{entry_of(portal, document)}")
        page.locator("main").get_by_role("link", name="Ogranicz dostęp").click()
        page.get_by_role("button", name="Zapisz ograniczenie").click()
        assert page.get_by_role("status").inner_text().startswith("Ograniczenie zapisane")
        visitor.expect_clean()

    # 4. The doctor no longer finds it, and cannot tell that it is there.
    with visiting(chrome, portal, DOCTOR) as visitor:
        page = visitor.go(record_of(portal, person))
        assert entry_of(portal, document) not in page.content()
        page = visitor.go(f"{record_of(portal, person)}/document/{entry_of(portal, document)}")
        assert page.locator("h1").inner_text() == "Nie ma takiej strony"
        visitor.expect_clean(404)

    # 5. In an emergency a hospital opens it.
    rescuer = {**STRANGER, "proof": "saml"}
    with visiting(chrome, portal, rescuer) as visitor:
        page = visitor.go(record_of(portal, person))
        page.click("[data-dialog=btg]")
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("pacjent nieprzytomny").check()
        dialog.get_by_label("Opisz w jednym zdaniu").fill(WHY)
        dialog.get_by_label("Oświadczam").check()
        dialog.get_by_role("button", name="Otwórz na 60 minut").click()
        page.wait_for_selector("#timeline")
        page = visitor.go(f"{record_of(portal, person, 'emergency')}/document/{entry_of(portal, document)}")
        page.wait_for_selector(".doc")
        visitor.expect_clean()

    # 6. The patient is told, and the officer has the report.
    with visiting(chrome, portal, patient, size=PHONE) as visitor:
        assert "lek. Jan Wrona" in visitor.go("/patient/notices").locator("main").inner_text()
        visitor.expect_clean()
    with visiting(chrome, portal, OFFICER) as visitor:
        page = visitor.go("/operator/reviews")
        card = page.locator("section").filter(has_text=WHY).last
        card.get_by_label("Uzasadniony", exact=True).check()
        card.get_by_label("Uzasadnienie").fill("Wypadek potwierdzony przez izbę przyjęć")
        card.get_by_role("button", name="Zapisz decyzję").click()
        assert page.get_by_role("status").inner_text() == "Zapisano decyzję."
        visitor.expect_clean()

    # 7. The operator traces all of it.
    with visiting(chrome, portal, OPERATOR) as visitor:
        page = visitor.go(f"/operator/trace?q={document.unique_id}")
        steps = page.locator("ol.thread > li").all_inner_texts()
        assert "ITI-41" in steps[0]
        assert any("lek. Anna Nowak" in step for step in steps)
        assert "lek. Jan Wrona" in steps[-1]
        visitor.expect_clean()


def entry_of(portal: portals.Region, document: DemoDocument) -> str:
    """The id of its DocumentReference."""
    with psycopg.connect(portal.node.dsn) as connection:
        [uuid] = connection.execute(
            "SELECT entry_uuid::text FROM document_entry WHERE unique_id = %s AND NOT superseded", (document.unique_id,)
        ).fetchone()
    return str(uuid)


def document_title(portal: portals.Region, document: DemoDocument) -> str:
    """As the region calls it."""
    with client(portal, portals.patient(document.person)) as own:
        found = own.get(f"/fhir/DocumentReference/{entry_of(portal, document)}").json()
    return str(found["content"][0]["attachment"]["title"])
