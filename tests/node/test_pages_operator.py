"""What operators and the data-protection officer see and do, in a browser."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import peer
import portals
import psycopg
import pytest
from axe import expect_accessible
from portals import DESK, DOCTOR, PESEL, PHONE, STRANGER, Visitor, client, visiting

pytestmark = pytest.mark.node

OPERATOR = {
    "person": "2.999.7#walas", "person_name": "Igor Walas", "role": "operator", "organisation": portals.HOSPITAL,
}  # fmt: skip
OFFICER = {
    "person": "2.999.7#rzepka", "person_name": "Ewa Rzepka", "role": "privacy-officer", "organisation": portals.HOSPITAL,
}  # fmt: skip
BOTH = ("", "/trace", "/audit", "/explain", "/certificates", "/facilities", "/quality", "/settings")
OPERATORS_OWN = ("/outbox", "/patients", "/people", "/notice")
OFFICERS_OWN = ("/reviews", "/lookups")


@pytest.fixture
def database(portal: portals.Region) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(portal.node.dsn, autocommit=True) as connection:
        yield connection


def letter(database: psycopg.Connection[Any], state: str = "D") -> int:
    [number] = database.execute(
        "INSERT INTO outbox (patient_key, destination, transaction, key, body, state, attempts, last_error, died_at,"
        " next_attempt_at) VALUES (1, 'szpital-a', 'ITI-10', '', 'x', %s, 3, 'NotificationRefused: AE', now(),"
        " now() + interval '1 hour') RETURNING outbox_id",
        (state,),
    ).fetchone()
    return int(number)


def review(database: psycopg.Connection[Any], region: portals.Region) -> int:
    [number] = database.execute(
        "INSERT INTO access_review (patient_key, source, professional, professional_name, organisation, reason,"
        " explanation, opened_at, until, reads) SELECT patient_key, %s, %s, %s, %s, 'unconscious', %s,"
        " now() - interval '2 hours', now() - interval '1 hour', 4 FROM patient_locator WHERE value = %s RETURNING review_id",
        (peer.oid(), STRANGER["person"], STRANGER["person_name"], portals.HOSPITAL, "<b>bez kontaktu</b>",
         region.someone.pesel),
    ).fetchone()  # fmt: skip
    return int(number)


def other_reviews(database: psycopg.Connection[Any], region: portals.Region) -> list[int]:
    """An entry that a patient reports, and a print without a code."""
    made = database.execute(
        "INSERT INTO access_review (patient_key, professional, professional_name, organisation, reason, explanation,"
        " opened_at, until, kind, reported_by) SELECT patient_key, %s, %s, %s, r.reason, r.explanation,"
        " now(), now(), r.kind, r.by FROM patient_locator CROSS JOIN (VALUES"
        " ('reported', '', E'Nie byłam tam.\\nProszę sprawdzić.', 'pesel#1'), ('handout', 'no-phone', 'Maria Lis', NULL)"
        ") AS r (kind, reason, explanation, by) WHERE value = %s RETURNING review_id",
        (STRANGER["person"], STRANGER["person_name"], portals.HOSPITAL, region.someone.pesel),
    ).fetchall()
    return [int(number) for (number,) in made]


def audited(database: psycopg.Connection[Any], said: str) -> list[str]:
    """Messages of records that say this, of what happened at these pages."""
    rows = database.execute("SELECT message FROM audit_event WHERE message LIKE %s", (f"%{said}%",)).fetchall()
    return [row[0] for row in rows]


def see(visitor: Visitor, paths: tuple[str, ...], locale: str) -> None:
    for path in paths:
        page = visitor.go(f"/operator{path}")
        assert page.locator("html").get_attribute("lang") == locale[:2]
        assert page.locator("h1").count() == 1, path
        assert page.locator('nav.rail [aria-current="page"]').count() == 1, path
        expect_accessible(page)


@pytest.mark.parametrize(
    ("locale", "size", "dark"), [("pl-PL", DESK, False), ("en-GB", PHONE, True), ("uk-UA", PHONE, False)]
)
def test_every_page_is_accessible(
    chrome: Any, portal: portals.Region, database: Any, locale: str, size: tuple[int, int], dark: bool
) -> None:
    letter(database)
    review(database, portal)
    other_reviews(database, portal)
    trace = f"/trace?q={portal.documents[0].unique_id}"
    explain = f"/explain?who=5425740&patient={portal.someone.pesel}"
    with visiting(chrome, portal, OPERATOR, locale=locale, size=size, dark=dark) as visitor:
        see(visitor, (*BOTH, *OPERATORS_OWN, trace, explain), locale)
        visitor.expect_clean()
    with visiting(chrome, portal, OFFICER, locale=locale, size=size, dark=dark) as visitor:
        see(visitor, OFFICERS_OWN, locale)
        visitor.expect_clean()


def test_pages_are_for_those_whose_they_are(portal: portals.Region, database: Any) -> None:
    for who in (DOCTOR, portals.patient(portal.someone), {**OPERATOR, "role": "administrative-employee"}):
        with client(portal, who) as http:
            for path in (*BOTH, *OPERATORS_OWN, *OFFICERS_OWN):
                answer = http.get(f"/operator{path}", headers={"accept-language": "en"})
                assert (answer.status_code, "for somebody else" in answer.text) == (403, True), (who["role"], path)
    for who, others in ((OPERATOR, OFFICERS_OWN), (OFFICER, OPERATORS_OWN)):
        with client(portal, who) as http:
            assert {http.get(f"/operator{path}").status_code for path in BOTH} == {200}
            if who is OPERATOR:
                for odd in ("/audit?patient=%00", "/explain?who=5425740&patient=1&document=%00", f"/patients/{10**20}"):
                    assert http.get(f"/operator{odd}").status_code == 404, odd
            for path in others:
                answer = http.get(f"/operator{path}", headers={"accept-language": "en"})
                assert (answer.status_code, "not for this role" in answer.text) == (403, True), path
                assert f'href="/operator{path}"' not in answer.text
    assert audited(database, "review: /operator/reviews")
    with client(portal, {**OPERATOR, "proof": "saml"}) as http:  # another node makes nobody an operator
        assert http.get("/operator", headers={"accept-language": "en"}).status_code == 403
    with client(portal, OPERATOR) as http:
        assert http.get("/fhir/DocumentReference", params={"patient.identifier": portal.someone.pesel}).json().get(
            "total", 0
        ) == 0  # fmt: skip


def test_messages_are_sent_again_or_dropped(chrome: Any, portal: portals.Region, database: Any) -> None:
    again, gone = letter(database), letter(database)
    with visiting(chrome, portal, OPERATOR) as visitor:
        page = visitor.go("/operator/outbox?state=dead&receiver=szpital-a")
        page.get_by_role("button", name=f"Ponów #{again}").click()
        assert page.get_by_role("status").inner_text() == "Ponowiono wysyłkę."
        page.get_by_text(f"Usuń #{gone}", exact=False).first.click()
        page.get_by_role("button", name=f"Usuń bez wysyłania #{gone}").click()
        assert page.get_by_role("status").inner_text() == "Usunięto bez wysyłania."
        visitor.expect_clean()
    assert database.execute("SELECT state::text FROM outbox WHERE outbox_id = %s", (again,)).fetchone() == ("W",)
    assert database.execute("SELECT count(*) FROM outbox WHERE outbox_id = %s", (gone,)).fetchone() == (0,)
    [message] = audited(database, f"outbox: dropped: {gone}")
    assert f'UserID="{OPERATOR["person"]}"' in message
    with client(portal, OPERATOR) as http:  # a form of another page
        answer = http.post("/operator/outbox/drop", data={"id": str(again)}, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert database.execute("SELECT count(*) FROM outbox WHERE outbox_id = %s", (again,)).fetchone() == (1,)


def test_the_officer_decides_once(chrome: Any, portal: portals.Region, database: Any) -> None:
    number = review(database, portal)
    with visiting(chrome, portal, OFFICER, script=False) as visitor:
        page = visitor.go("/operator/reviews")
        card = page.locator(f'section[aria-labelledby="r{number}"]')
        assert "<b>bez kontaktu</b>" in card.inner_text()
        card.get_by_label("Nieuzasadniony").check()
        card.get_by_label("Uzasadnienie").fill("?????")  # that is no reason
        card.get_by_role("button", name="Zapisz decyzję").click()
        assert "w kilku słowach" in page.get_by_role("alert").inner_text().replace("\u00a0", " ")
        assert card.get_by_label("Nieuzasadniony").is_checked()
        assert card.get_by_label("Uzasadnienie").input_value() == "?????"
        card.get_by_label("Uzasadnienie").fill("Pacjent był przytomny")
        card.get_by_role("button", name="Zapisz decyzję").click()
        assert page.get_by_role("status").inner_text() == "Zapisano decyzję."
        assert page.locator(f'section[aria-labelledby="r{number}"]').count() == 0
        page = visitor.go("/operator/reviews?all=1")
        assert "Pacjent był przytomny" in page.locator(f'section[aria-labelledby="r{number}"]').inner_text()
        visitor.expect_clean(400)
    row = database.execute("SELECT justified, decided_by FROM access_review WHERE review_id = %s", (number,)).fetchone()
    assert row == (False, OFFICER["person"])
    [message] = audited(database, f"access review {number} by")
    assert "not justified" in message
    assert "przytomny" not in message


def test_the_officer_is_told_why_each_access_is_to_be_reviewed(
    chrome: Any, portal: portals.Region, database: Any
) -> None:
    emergency, (reported, handout) = review(database, portal), other_reviews(database, portal)
    with visiting(chrome, portal, OFFICER, script=False) as visitor:
        page = visitor.go("/operator/reviews")
        said = {
            n: page.locator(f'section[aria-labelledby="r{n}"]').inner_text() for n in (emergency, reported, handout)
        }
        visitor.expect_clean()
    assert "Dostęp ratunkowy" in said[emergency]
    assert "4 odczyty" in said[emergency]
    assert "Zgłoszony przez pacjenta" in said[reported]
    assert "„Nie byłam tam.”\n„Proszę sprawdzić.”" in said[reported]
    assert "pesel#1" in said[reported]
    assert "odczyt" not in said[reported]
    assert "Wydruk bez kodu" in said[handout]
    assert "Maria Lis" in said[handout]


def test_a_document_is_traced(chrome: Any, portal: portals.Region, database: Any) -> None:
    document = next(d for d in portal.documents if d.person is portal.someone)
    portal.chosen(portal.someone)
    with client(portal, DOCTOR) as http:
        found = http.get(
            "/fhir/DocumentReference", params={"patient.identifier": f"urn:oid:{PESEL}|{portal.someone.pesel}"}
        ).json()
        urls = [e["resource"]["content"][0]["attachment"]["url"] for e in found["entry"]]
        assert {http.get(re.sub(r"^.*?/fhir/", "/fhir/", url)).status_code for url in urls} == {200}
    with visiting(chrome, portal, OPERATOR, script=False) as visitor:
        page = visitor.go("/operator")
        page.get_by_role("searchbox").first.fill(document.unique_id)
        page.get_by_role("searchbox").first.press("Enter")
        steps = page.locator("ol.thread > li")
        assert "ITI-41" in steps.first.inner_text()
        assert "ITI-68" in steps.last.inner_text()
        assert DOCTOR["person_name"] in steps.last.inner_text()
        assert "lekarz POZ" in steps.last.inner_text() or "POZ" in steps.last.inner_text()
        count = steps.count()
        steps.first.get_by_role("link").click()  # the request by itself
        assert page.locator("ol.thread > li").count() == 1
        page.go_back()
        page.reload()
        assert page.locator("ol.thread > li").count() == count  # who looks is no part of the way
        page.goto(f"{portal.origin}/operator/trace?q=1.2.3.4.5")
        assert page.locator("ol.thread").count() == 0
        visitor.expect_clean()
    assert audited(database, f"trace of {document.unique_id}".replace("&", "&amp;"))


def test_audit_is_searched(chrome: Any, portal: portals.Region) -> None:
    with client(portal, DOCTOR) as http:
        http.get("/fhir/DocumentReference", params={"patient.identifier": f"urn:oid:{PESEL}|{portal.someone.pesel}"})
    with visiting(chrome, portal, OFFICER) as visitor:
        page = visitor.go("/operator/audit")
        page.get_by_label("Pacjent (PESEL albo numer)").fill(portal.someone.pesel)
        page.get_by_label("Transakcja", exact=True).fill("ITI-67")
        page.get_by_role("button", name="Szukaj").click()
        page.wait_for_url("**transaction=ITI-67**")
        rows = page.locator('section[aria-labelledby="records"] tbody tr')
        assert rows.count() > 0
        assert all("ITI-67" in row for row in rows.all_inner_texts())
        assert DOCTOR["person_name"] in rows.first.inner_text() or DOCTOR["person"] in rows.first.inner_text()
        page.get_by_label("Pacjent (PESEL albo numer)").fill("1^^^x")
        page.get_by_role("button", name="Szukaj").click()
        page.wait_for_url("**patient=1**")
        assert page.get_by_role("alert").count() == 1
        visitor.expect_clean()


def test_access_is_explained(chrome: Any, portal: portals.Region) -> None:
    portal.chosen(portal.someone)
    with visiting(chrome, portal, OPERATOR) as visitor:
        page = visitor.go("/operator/explain")
        page.get_by_label("Kto pyta").fill("5425740")
        page.get_by_label("Pacjent (PESEL albo numer)").fill(portal.someone.pesel)
        page.get_by_role("button", name="Wyjaśnij").click()
        assert page.locator("#result h2").inner_text() == "Może"
        page.get_by_label("Rola").select_option("administrative-employee")
        page.get_by_role("button", name="Wyjaśnij").click()
        assert page.locator("#result h2").inner_text().startswith("Nie może")
        page.get_by_label("Kto pyta").fill("nobody")
        page.get_by_role("button", name="Wyjaśnij").click()
        assert page.get_by_role("alert").count() == 1
        visitor.expect_clean()


def test_pairs_are_decided_and_undone(chrome: Any, portal: portals.Region, database: Any) -> None:
    keys = [row[0] for row in database.execute(
        "SELECT p.patient_key FROM patient p WHERE NOT EXISTS (SELECT FROM patient_link k WHERE p.patient_key IN"
        " (k.patient_key, k.survivor_key)) AND NOT EXISTS (SELECT FROM patient_locator l WHERE l.patient_key ="
        " p.patient_key AND l.value = %s) ORDER BY 1 LIMIT 2", (portal.someone.pesel,),
    )]  # fmt: skip
    [task] = database.execute(
        "INSERT INTO patient_task (kind, left_key, right_key, detail) VALUES ('possible_duplicate', %s, %s, '')"
        " RETURNING task_id", keys,
    ).fetchone()  # fmt: skip
    with visiting(chrome, portal, OPERATOR) as visitor:
        page = visitor.go("/operator/patients")
        page.locator(f'a[href="/operator/patients/{task}"]').click()
        assert page.locator('section[aria-labelledby="sides"] tbody tr').count() > 2
        assert not re.search(r"\d{11}", page.locator('section[aria-labelledby="sides"]').inner_text())
        expect_accessible(page)
        page.get_by_role("button", name="To jedna osoba").click()
        assert page.get_by_role("status").inner_text() == "Zapisano: to jedna osoba."
        assert database.execute(
            "SELECT count(*) FROM patient_link WHERE patient_key = ANY(%s)", (keys,)
        ).fetchone() == (1,)
        page = visitor.go(f"/operator/patients/{task}")
        buttons = page.get_by_role("button", name=re.compile("Cofnij połączenie"))
        buttons.last.click()
        if page.get_by_role("alert").count():  # it was the other one who was joined
            buttons.first.click()
        assert page.get_by_role("status").inner_text() == "Cofnięto połączenie."
    assert database.execute("SELECT count(*) FROM patient_link WHERE patient_key = ANY(%s)", (keys,)).fetchone() == (0,)


def test_people_are_invited_and_shut_out(chrome: Any, portal: portals.Region, database: Any) -> None:
    login = f"osoba{peer.oid()[-6:]}"
    with visiting(chrome, portal, OPERATOR) as visitor:
        page = visitor.go("/operator/people")
        form = page.locator('section[aria-labelledby="invite"]')
        form.get_by_label("Login").fill(login)
        form.get_by_label("Nazwa", exact=True).fill("dr Ada Test")
        form.get_by_label("Placówka (OID#numer)").fill("not an identifier")
        form.get_by_label("Nazwa placówki").fill("Szpital")
        form.get_by_role("button", name="Utwórz konto").click()
        assert page.get_by_role("alert").count() == 1
        form.get_by_label("Placówka (OID#numer)").fill(portals.HOSPITAL)
        form.get_by_role("button", name="Utwórz konto").click()
        assert len(page.get_by_role("status").locator(".secret").inner_text()) > 10
        expect_accessible(page)
        row = page.locator("section[aria-labelledby=accounts] li").filter(has_text=login)
        row.locator("summary").click()
        row.get_by_role("button", name="Zablokuj konto").click()
        assert "Zablokowano konto" in page.get_by_role("status").inner_text()
        visitor.expect_clean(400)
    assert database.execute("SELECT disabled_at IS NOT NULL FROM person WHERE login = %s", (login,)).fetchone() == (
        True,
    )


def test_assistants_are_assigned_and_released(chrome: Any, portal: portals.Region, database: Any) -> None:
    login = f"asystent{peer.oid()[-6:]}"
    with visiting(chrome, portal, OPERATOR) as visitor:
        page = visitor.go("/operator/people")
        form = page.locator('section[aria-labelledby="invite"]')
        for label, text in (("Login", login), ("Placówka (OID#numer)", portals.CLINIC), ("Nazwa placówki", "Poradnia")):
            form.get_by_label(label).fill(text)
        form.get_by_label("Nazwa", exact=True).fill("Iga Asystentka")
        form.get_by_label("Rola").select_option("medical-assistant")
        form.get_by_role("button", name="Utwórz konto").click()
        row = page.locator("section[aria-labelledby=accounts] li").filter(has_text=login)
        row.locator("summary").click()
        row.get_by_label("W imieniu: numer osoby").fill("nobody")
        row.get_by_label("W imieniu: tytuł, imię i nazwisko").fill(DOCTOR["person_name"])
        expect_accessible(page)
        row.get_by_role("button", name="Przypisz asystenta").click()
        assert page.get_by_role("alert").count() == 1
        number = row.get_by_label("W imieniu: numer osoby")
        assert number.input_value() == "nobody"
        number.fill(DOCTOR["person"].partition("#")[2])
        row.get_by_role("button", name="Przypisz asystenta").click()
        assert page.get_by_role("status").inner_text() == "Asystent może pracować w imieniu tej osoby."
        assert "Pracuje w imieniu: lek. Anna Nowak (5425740), Poradnia" in row.inner_text()
        expect_accessible(page)
        assigned = "SELECT a.organisation, a.professional, a.professional_name FROM person_assists a JOIN person p USING (person_id)"
        assert database.execute(f"{assigned} WHERE p.login = %s", (login,)).fetchall() == [
            (portals.CLINIC, DOCTOR["person"], DOCTOR["person_name"])
        ]
        row.get_by_role("button", name="Zakończ").click()
        assert page.get_by_role("status").inner_text() == "Asystent nie pracuje już w imieniu tej osoby."
        assert "Pracuje w imieniu" not in row.inner_text()
        assert database.execute(f"{assigned} WHERE p.login = %s", (login,)).fetchall() == []
        visitor.expect_clean(400)
    told = database.execute(
        "SELECT count(*) FROM audit_event WHERE message LIKE %s", (f"%act%for {DOCTOR['person']} in%",)
    )
    assert told.fetchone() == (2,)


def test_a_notice_stands_on_all_pages(chrome: Any, portal: portals.Region, database: Any) -> None:
    with visiting(chrome, portal, OPERATOR) as visitor:
        page = visitor.go("/operator/notice")
        page.get_by_label("Treść").fill("Przerwa <b>techniczna</b> w sobotę")
        page.get_by_label("Do kiedy (czas w Warszawie)").fill("2020-01-01T10:00")
        page.get_by_role("button", name="Pokaż na stronach").click()
        assert page.get_by_role("alert").count() == 1
        page.get_by_label("Do kiedy (czas w Warszawie)").fill("2099-01-01T10:00")
        page.get_by_role("button", name="Pokaż na stronach").click()
        assert "<b>techniczna</b>" in page.locator(".site-notice").inner_text()
        expect_accessible(page)
        with visiting(chrome, portal, None) as everybody:
            assert "Przerwa" in everybody.go("/").locator(".site-notice").inner_text()
            expect_accessible(everybody.page)
            assert "Przerwa" in everybody.go("/status").locator("main").inner_text()
        page.get_by_role("button", name="Zdejmij teraz").click()
        assert page.locator(".site-notice").count() == 0
        visitor.expect_clean(400)
    assert audited(database, "notice ended")


def test_figures_are_sums(portal: portals.Region) -> None:
    with client(portal, OFFICER) as http:
        page = http.get("/operator/quality", headers={"accept-language": "en"})
        usage, quality = (http.get(f"/operator/{name}.csv") for name in ("usage", "quality"))
    assert usage.headers["content-type"].startswith("text/csv")
    assert "attachment" in usage.headers["content-disposition"]
    said = {(row["figure"], row["of"]): int(row["number"]) for row in csv.DictReader(io.StringIO(usage.text))}
    assert said["documents", ""] >= len(portal.documents)
    assert said["patients_with_documents", ""] <= said["patients", ""]
    [row, *_] = csv.DictReader(io.StringIO(quality.text))
    assert int(row["documents"]) >= len(portal.documents)
    assert f"Documents: {said['documents', '']}" in page.text
    for text in (page.text, usage.text, quality.text):
        assert portal.someone.pesel not in text
        assert portal.someone.demographics.name.family not in text


def test_no_secret_is_shown(portal: portals.Region) -> None:
    with client(portal, OPERATOR) as http:
        page = http.get("/operator/settings").text
    assert "repository_unique_id" in page
    assert "postgresql://" not in page
    assert "host=/" not in page
    assert json.dumps(portal.node.dsn)[1:-1] not in page
