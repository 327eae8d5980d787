"""Messages: a patient asks a facility, its people answer, others see nothing of it, and nobody is told what it says."""

from __future__ import annotations

from typing import Any

import portals
import psycopg
import pytest
from axe import expect_accessible
from portals import DESK, PHONE, visiting
from selves import parameters, reference, somebody

from obieg.domain.messaging import OPEN_MAX
from obieg.ops.population import Person
from obieg.web.areas import PROFESSIONALS

pytestmark = pytest.mark.node
QUESTION, ANSWER = "Czy mogę prosić o opis wyniku?", "Opis będzie jutro po południu."


@pytest.fixture(scope="module")
def person(portal: portals.Region) -> Person:
    return somebody(portal)


@pytest.fixture(scope="module")
def me(portal: portals.Region, person: Person) -> str:
    return reference(portal, person)


@pytest.fixture(scope="module")
def facility(portal: portals.Region, person: Person, me: str) -> str:
    """One that has handed over a document of the patient: root#extension."""
    with portals.client(portal, portals.patient(person)) as own:
        bundle = own.get("/fhir/DocumentReference", params={"patient": me, "status": "current"}).json()
    contained = [r for e in bundle["entry"] for r in e["resource"]["contained"] if r["resourceType"] == "Organization"]
    identifier = next(i for r in contained for i in r["identifier"] if i["system"] == f"urn:oid:{portals.ENTITY}")
    return f"{portals.ENTITY}#{identifier['value']}"


def said(text: str, **given: str) -> dict[str, Any]:
    body = parameters(**given)
    payload = {"resourceType": "Communication", "status": "completed", "payload": [{"contentString": text}]}
    body["parameter"].append({"name": "text", "resource": payload})
    return body


def texts(bundle: dict[str, Any]) -> list[str]:
    return [e["resource"]["payload"][0]["contentString"] for e in bundle.get("entry", ())]


def test_a_patient_asks_and_the_facility_answers(
    chrome: Any, portal: portals.Region, person: Person, me: str, facility: str
) -> None:
    nurse = {**portals.DOCTOR, "role": "nurse", "person_name": "piel. Ewa Maj", "organisation": facility}
    with visiting(chrome, portal, portals.patient(person), size=PHONE) as visitor:
        page = visitor.go("/patient")
        page.get_by_role("link", name="Wiadomości").click()
        expect_accessible(page)
        root, _, number = facility.partition("#")
        page.get_by_label("Do", exact=True).select_option(f"urn:oid:{root}|{number}")
        page.get_by_label("Temat").fill("Wynik <b>morfologii</b>")
        page.get_by_label("Wiadomość").fill(QUESTION)
        page.get_by_role("button", name="Wyślij").click()
        assert "Wiadomość wysłana." in page.get_by_role("status").inner_text()
        expect_accessible(page)
        visitor.expect_clean()
    for locale, size, dark in (("pl-PL", DESK, False), ("uk-UA", PHONE, True), ("en-GB", DESK, True)):
        with visiting(chrome, portal, nurse, locale=locale, size=size, dark=dark) as visitor:
            page = visitor.go(f"{PROFESSIONALS}/messages")
            expect_accessible(page)
            page.get_by_role("link", name="Wynik <b>morfologii</b>").click()
            assert QUESTION in page.inner_text("main")
            expect_accessible(page)
            if locale == "en-GB":
                page.get_by_label("Your answer").fill(ANSWER)
                page.get_by_role("button", name="Send").click()
                assert ANSWER in page.inner_text("main")
            visitor.expect_clean()
    with visiting(chrome, portal, portals.patient(person), locale="en-GB", dark=True) as visitor:
        page = visitor.go("/patient/notices")
        page.get_by_role("link", name="There is an answer to your message").first.click()
        assert "new answer" in page.inner_text("main")
        expect_accessible(page)
        page.get_by_role("link", name="Wynik").click()
        assert ANSWER in page.inner_text("main")
        assert "piel. Ewa Maj" in page.inner_text("main")
        expect_accessible(page)
        assert "new answer" not in visitor.go("/patient/messages").inner_text("main")
        page = visitor.go("/patient/access?who=all")
        assert "Messages between you and a facility" in page.inner_text("main")
        page = visitor.go("/patient/messages")
        page.get_by_role("link", name="Wynik").click()
        page.get_by_role("button", name="Close the conversation").click()
        assert "nothing can be added" in page.inner_text("main")
        expect_accessible(page)
        visitor.expect_clean()
    with portals.client(portal, nurse) as staff:
        inbox = staff.get("/fhir/Communication/$inbox").json()
        assert texts(inbox) == [QUESTION, ANSWER]
        thread = inbox["entry"][0]["resource"]["identifier"][0]["value"]
        since = portal.node.last_audit()
        assert staff.post("/fhir/Communication/$answer", json=said("Za późno", thread=thread)).status_code == 422
        assert [outcome for _, _, outcome, _ in portal.node.audits(since)] == [4]  # once, as refused
    with psycopg.connect(portal.node.dsn) as connection:
        rows = connection.execute(
            "SELECT convert_from(body, 'UTF8') FROM outbox WHERE destination = 'patients'"
        ).fetchall()
        notices = connection.execute("SELECT said::text FROM access_notice WHERE kind = 'message'").fetchall()
    assert notices
    assert not [text for (text,) in rows + notices if QUESTION in text or ANSWER in text or "morfologii" in text]


def test_nobody_else_reads_or_writes(portal: portals.Region, person: Person, me: str, facility: str) -> None:
    with portals.client(portal, portals.patient(person)) as own:
        begun = own.post(f"/fhir/{me}/$send-message", json=said(QUESTION, facility=facility, subject="Inne"))
        assert begun.status_code == 204, begun.text
        foreign = own.post(f"/fhir/{me}/$send-message", json=said("x", facility="2.999#1", subject="x"))
        assert foreign.status_code == 422
        assert own.get("/fhir/Communication/$inbox").status_code == 403
        [first, *_] = own.get(f"/fhir/{me}/$messages").json()["entry"]
    thread = first["resource"]["identifier"][0]["value"]
    elsewhere = {**portals.DOCTOR, "organisation": f"{portals.ENTITY}#999999999"}
    nowhere = {**portals.DOCTOR, "organisation": ""}
    for who, status in ((elsewhere, 404), (nowhere, 403), (portals.patient(portal.someone), 403)):
        with portals.client(portal, who) as other:
            inbox = other.get("/fhir/Communication/$inbox")
            assert inbox.status_code == 403 or texts(inbox.json()) == []
            for operation, body in (
                ("$answer", said("x", thread=thread)),
                ("$close-thread", parameters(thread=thread)),
            ):
                assert other.post(f"/fhir/Communication/{operation}", json=body).status_code == status
            assert other.get(f"/fhir/{me}/$messages").status_code in (403, 404)
            mine = other.post(f"/fhir/{me}/$send-message", json=said("x", thread=thread))
            assert mine.status_code in (403, 404)
    someone = portals.patient(portal.someone)
    theirs = reference(portal, portal.someone)
    with portals.client(portal, someone) as other:  # another's thread by one's own address
        assert other.post(f"/fhir/{theirs}/$send-message", json=said("x", thread=thread)).status_code == 404
        assert other.get(f"/fhir/{theirs}/$messages?thread={thread}").status_code == 404
    with portals.client(portal, portals.patient(person)) as own:
        statuses = [
            own.post(f"/fhir/{me}/$send-message", json=said("x", facility=facility, subject=f"{n}")).status_code
            for n in range(OPEN_MAX)
        ]
        assert statuses[-1] == 422
        for entry in own.get(f"/fhir/{me}/$messages").json()["entry"]:
            own.post(f"/fhir/{me}/$close-thread", json=parameters(thread=entry["resource"]["identifier"][0]["value"]))
