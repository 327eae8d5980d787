"""What professionals see and do, in a browser: search, basis, record, consent, break-glass, documents to come."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime
from mailbox import sms_gateway
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import peer
import portals
import psycopg
import pytest
from axe import expect_accessible
from document_pages import pdf_faults
from portals import DOCTOR, PESEL, PHONE, STRANGER, client, visiting
from pypdf import PdfReader
from selves import values
from test_access_enforced import CLERK, SECRET
from test_consent_code import code_of
from test_notices import KEY, reachable

import commanding
from obieg.ops.population import Person, demo_documents
from obieg.web.areas import PROFESSIONALS as WORK
from running import maker

pytestmark = pytest.mark.node

WHY = "nieprzytomny, brak wywiadu, alergie nieznane"
RESCUER = {**STRANGER, "proof": "saml"}
COUNTER = {
    "person": "2.999.7#okienko", "person_name": "Maria Okoń", "role": "patient-counter",
    "organisation": portals.HOSPITAL,
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway() -> Iterator[SimpleNamespace]:
    with sms_gateway(KEY) as opened:
        yield opened


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory, gateway: SimpleNamespace) -> Iterator[portals.Region]:
    notices = {"sms_url": gateway.url, "sms_key": KEY}
    with maker(tmp_path_factory, None) as make:
        made = portals.Region(make("work", module="access_node", access={"enforced": True}, notices=notices))
        made.chosen(made.someone)
        yield made


def rows(region: portals.Region, statement: str, *given: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(region.node.dsn) as connection:
        return connection.execute(statement, given).fetchall()


def logical(region: portals.Region, person: Person) -> str:
    """The logical id of the Patient."""
    [(id_,)] = rows(
        region,
        "SELECT p.affinity_domain_id FROM patient p JOIN patient_locator l USING (patient_key)"
        " WHERE l.authority = %s AND l.value = %s",
        PESEL, person.pesel,
    )  # fmt: skip
    return str(id_)


def named(person: Person) -> str:
    name = person.demographics.name
    return f"{name.given[0]} {name.family}"


def b64_of(message: str) -> str:
    """A record, with what stands in it as Base64 read."""
    return re.sub(r'value="([A-Za-z0-9+/]+=*)"', lambda found: b64decode(found[1]).decode("utf-8", "replace"), message)


def token(page: str) -> str:
    """Of the forms of a page."""
    return re.findall(r'name="csrf" value="(\w+)"', page)[0]


def test_from_search_to_document_by_keyboard(chrome: Any, region: portals.Region) -> None:
    person = region.someone
    with visiting(chrome, region, DOCTOR) as visitor:
        page = visitor.go(WORK)
        page.locator("h1").click()  # leaves the field
        page.keyboard.press("/")
        page.keyboard.type(person.pesel)
        page.keyboard.press("Enter")
        page.wait_for_selector("#found")
        assert page.evaluate("document.activeElement.textContent") == named(person)  # Enter opens the first
        assert person.pesel not in page.url
        expect_accessible(page)
        page.keyboard.press("Enter")
        page.wait_for_selector("#timeline")  # the second step: the newest document stands beside the list
        assert named(person) in page.locator("h1").inner_text()
        assert "wybrał Cię w deklaracji POZ" in page.locator(".basis").inner_text()
        positions = [page.locator(place).bounding_box()["y"] for place in (".er", ".basis", "#timeline")]
        assert positions == sorted(positions)  # emergency data first
        titles = page.locator(".thread > li a b").all_inner_texts()
        assert len(titles) == len([d for d in region.documents if d.person is person])
        title = page.locator("#preview h2")
        assert title.inner_text() == titles[0]
        expect_accessible(page)
        first = page.url
        page.keyboard.press("j")
        page.wait_for_function("before => location.href !== before", arg=first)
        page.wait_for_function("() => document.querySelector('.thread a[aria-current]') !== null")
        assert title.inner_text() == titles[1]
        expect_accessible(page)
        page.keyboard.press("k")
        page.wait_for_selector("[aria-keyshortcuts=k]", state="detached")
        assert title.inner_text() == titles[0]
        second = page.locator(".thread > li a").nth(1)
        second.focus()
        page.keyboard.press("Enter")
        page.wait_for_function("title => document.querySelector('#preview h2').textContent === title", arg=titles[1])
        assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"  # it stays where it was
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.emulate_media(media="screen", color_scheme="light")
        page.evaluate("window.print = () => { window.printed = true }")
        page.keyboard.press("p")
        assert page.evaluate("window.printed") is True
        page.keyboard.press("Escape")
        page.wait_for_url(f"**{WORK}")
        visitor.expect_clean()


def test_single_keys_can_be_switched_off(chrome: Any, region: portals.Region) -> None:
    with visiting(chrome, region, DOCTOR) as visitor:
        page = visitor.go(f"{WORK}/keys")
        expect_accessible(page)
        page.get_by_role("checkbox").uncheck()
        page.locator("h1").click()
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") != "q"
        page.get_by_role("checkbox").check()
        page.locator("h1").click()
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "q"
        visitor.expect_clean()


def test_arrows_go_through_what_was_found(chrome: Any, region: portals.Region) -> None:
    adults = [p for p in region.people if p.pesel]
    with visiting(chrome, region, DOCTOR) as visitor:
        page = visitor.go(WORK)
        page.fill("#family", adults[0].demographics.name.family)
        page.fill("#birth", adults[0].demographics.birth_date[:4])
        page.keyboard.press("Enter")
        page.wait_for_selector("#found")
        page.keyboard.press("ArrowDown")  # the last stays the last
        assert page.evaluate("document.activeElement.textContent") == named(adults[0])
        assert adults[0].pesel not in page.content()  # who searches by name sees its end only
        visitor.expect_clean()


@pytest.mark.parametrize(
    ("given", "trouble"),
    [({}, "Nie podano, kogo szukać"), ({"q": "123"}, "To nie jest numer PESEL"), ({"pesel": "12345678901"}, "PESEL"), ({"family": "Lis"}, "daty urodzenia"),
     ({"birth": "1958"}, "nazwiska"), ({"q": "Lis"}, "daty urodzenia"), ({"family": "Lis", "birth": "31.02.1958"}, "daty")],
)  # fmt: skip
def test_what_cannot_be_searched_is_said(region: portals.Region, given: dict[str, str], trouble: str) -> None:
    with client(region, DOCTOR) as http:
        csrf = token(http.get(WORK).text)
        before = rows(region, "SELECT count(*) FROM audit_event WHERE transaction = 'ITI-78'")
        answer = http.post(WORK, data={**given, "csrf": csrf}, headers={"Origin": region.origin})
        assert answer.status_code == 422
        assert trouble in answer.text
        assert rows(region, "SELECT count(*) FROM audit_event WHERE transaction = 'ITI-78'") == before


def test_a_stranger_cannot_tell(chrome: Any, region: portals.Region) -> None:
    """The same page about somebody with documents and about somebody of whom there are none."""
    known = logical(region, region.someone)
    nobody = region.node.patient().partition("^")[0]
    shown = []
    with visiting(chrome, region, STRANGER) as visitor:
        for patient in (known, nobody):
            page = visitor.go(f"{WORK}/treatment/{patient}")
            expect_accessible(page)
            text = page.locator("main .stack").first.inner_text()
            elements = page.evaluate("document.querySelectorAll('main *').length")
            shown.append(
                (text, elements - page.evaluate("document.querySelectorAll('.pbar *, .dlg > header *').length"))
            )
        visitor.expect_clean()
    assert shown[0] == shown[1]
    assert "Brak podstawy" in shown[0][0]
    [(document,)] = rows(
        region, "SELECT entry_uuid::text FROM document_entry d JOIN patient p USING (patient_key)"
        " WHERE p.affinity_domain_id = %s LIMIT 1", known,
    )  # fmt: skip
    with client(region, STRANGER) as http:
        other = "00000000-0000-4000-8000-000000000000"
        for path in ("document/{}", "document/{}/original", "compare?one={}&other={}"):
            answers = [http.get(f"{WORK}/treatment/{known}/{path.replace('{}', each)}") for each in (document, other)]
            assert [answer.status_code for answer in answers] == [404, 404]
            assert len({re.sub(r"[0-9a-f-]{36}|nonce=\"\S+\"", "", answer.text) for answer in answers}) == 1
        assert "Brak podstawy" in http.get(f"{WORK}/treatment/{known}/results").text
        assert http.get(f"{WORK}/curiosity/{known}").status_code == 404
        assert http.get(f"{WORK}/treatment/nobody").status_code == 404
        for odd in (f"treatment/{known}/images/1.2/studies/1.3", f"treatment/{known}/images/%00/x", "treatment/%00"):
            answer = http.get(f"{WORK}/{odd}")  # no archive is connected here
            assert (answer.status_code, answer.headers["x-frame-options"]) == (404, "DENY"), odd


def test_break_glass(chrome: Any, region: portals.Region) -> None:
    patient = logical(region, region.someone)
    with visiting(chrome, region, RESCUER) as visitor:
        page = visitor.go(f"{WORK}/treatment/{patient}")
        page.click("[data-dialog=btg]")
        dialog = page.get_by_role("dialog")
        expect_accessible(page)
        dialog.get_by_label("pacjent nieprzytomny").check()
        dialog.get_by_label("Opisz w jednym zdaniu").fill(WHY)
        dialog.get_by_label("Oświadczam").check()
        dialog.get_by_role("button", name="Otwórz na 60 minut").click()
        page.wait_for_selector("#timeline")
        assert page.url.endswith(f"{WORK}/emergency/{patient}")
        assert "trwa dostęp ratunkowy" in page.locator(".basis").inner_text()
        assert int(page.locator("[data-minutes]").inner_text()) in (59, 60)
        assert page.locator(".thread > li").count() > 0
        expect_accessible(page)
        review = rows(
            region, "SELECT reason, explanation FROM access_review WHERE professional = %s", RESCUER["person"]
        )
        assert review == [("unconscious", WHY)]
        told = rows(region, "SELECT said ->> 'person' FROM access_notice WHERE kind = 'emergency'")
        assert told == [(RESCUER["person"],)]
        page = visitor.go(f"{WORK}/treatment/{patient}")  # found again, and opened for treatment
        page.get_by_role("link", name="Dostęp ratunkowy już trwa?").click()
        page.wait_for_selector("#timeline")
        page.get_by_role("button", name="Zakończ teraz").click()
        page.wait_for_url(f"**{WORK}?ended")
        expect_accessible(page)
        page = visitor.go(f"{WORK}/emergency/{patient}")
        assert "Brak podstawy" in page.locator("main").inner_text()
        visitor.expect_clean()


def test_break_glass_wants_a_fresh_proof_and_a_whole_form(region: portals.Region) -> None:
    patient = logical(region, region.someone)
    address = f"{WORK}/emergency/{patient}/emergency"
    sent = {"reason": "unconscious", "text": WHY, "sworn": "on"}
    origin = {"Origin": region.origin}
    with client(region, STRANGER) as http:  # a session whose log-in is not fresh
        page = http.get(address).text
        assert "Najpierw potwierdź, kim jesteś" in page
        answer = http.post(address, data={**sent, "csrf": token(page)}, headers=origin)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login?next=")
        assert answer.headers["location"].endswith("&again=")
    fresh = {**STRANGER, "logged_in_at": datetime.now(UTC).isoformat()}
    with client(region, fresh) as http:
        page = http.get(address).text
        for missing in sent:
            given = {name: value for name, value in sent.items() if name != missing}
            answer = http.post(address, data={**given, "csrf": token(page)}, headers=origin)
            assert answer.status_code == 422
            assert f'href="#btg-{missing}"' in answer.text
        assert http.post(address, data={**sent, "csrf": token(page)}, headers=origin).status_code == 303
        assert http.post(f"{address}/end", data={"csrf": token(page)}, headers=origin).status_code == 303
        assert http.post(address, data=sent, headers=origin).status_code == 403  # no token


def test_consent_by_a_code(chrome: Any, region: portals.Region, gateway: SimpleNamespace) -> None:
    number = f"51{int(peer.number()[1:]) % 10**7:07}"
    world = reachable(region.node, {"system": "phone", "value": number})
    address = f"{WORK}/treatment/{world.logical}"
    with visiting(chrome, region, STRANGER, size=PHONE) as visitor:
        page = visitor.go(address)
        page.get_by_role("link", name="Wyślij kod SMS").click()
        expect_accessible(page)
        page.get_by_role("button", name="Wyślij kod").click()
        page.wait_for_url("**/consent?request=*")
        expect_accessible(page)
        code = code_of(gateway, f"+48{number}")
        assert code not in page.content()
        page.get_by_label("Kod z SMS").fill(f"{(int(code) + 1) % 10**6:06}")
        page.get_by_role("button", name="Zapisz zgodę").click()
        assert "Ten kod nie pasuje" in page.get_by_role("alert").inner_text()
        expect_accessible(page)
        page.get_by_label("Kod z SMS").fill(code)
        page.get_by_role("button", name="Zapisz zgodę").click()
        page.wait_for_url(f"**{address}")
        basis = page.locator(".basis").inner_text()
        assert re.search(r"pacjent się zgodził \(do \d\d\.\d\d\.\d{4}, \d\d:\d\d\)", basis)
        assert page.locator(".thread > li").count() > 0
        visitor.expect_clean(422)


def test_who_cannot_be_asked_is_told_what_to_do(region: portals.Region) -> None:
    with client(region, STRANGER) as http:
        address = f"{WORK}/treatment/{logical(region, region.someone)}/consent"
        csrf = token(http.get(address).text)
        answer = http.post(address, data={"scope": "person", "csrf": csrf}, headers={"Origin": region.origin})
        assert answer.status_code == 422
        assert "Poproś o zgodę na piśmie" in answer.text


@pytest.mark.parametrize(
    ("locale", "dark", "size", "words"),
    [("en-GB", False, portals.DESK, "You see this because"), ("uk-UA", True, PHONE, "Ви бачите це, бо")],
)
def test_every_page_in_every_light(
    chrome: Any, region: portals.Region, locale: str, dark: bool, size: tuple[int, int], words: str
) -> None:
    patient = logical(region, region.someone)
    record = f"{WORK}/treatment/{patient}"
    with visiting(chrome, region, DOCTOR, locale=locale, dark=dark, size=size) as visitor:
        page = visitor.go(record)
        assert words in page.locator(".basis").inner_text()
        documents = [a.get_attribute("href").rpartition("=")[2] for a in page.locator(".thread > li a").all()]
        both = f"one={documents[0]}&other={documents[1]}"
        for path in (
            WORK, record, f"{record}?kind=result", f"{record}/results", f"{record}/document/{documents[0]}",
            f"{record}/compare?{both}", f"{record}/consent", f"{WORK}/handout/{patient}", f"{WORK}/emergency/{patient}/emergency", f"{WORK}/awaited",
        ):  # fmt: skip
            expect_accessible(visitor.go(path))
            assert page.evaluate("document.documentElement.lang") == locale[:2]
        visitor.expect_clean()


def test_reading_without_script(chrome: Any, region: portals.Region) -> None:
    person = region.someone
    with visiting(chrome, region, DOCTOR, script=False) as visitor:
        page = visitor.go(WORK)
        page.fill("#pesel", person.pesel)
        page.get_by_role("button", name="Szukaj").click()
        page.get_by_role("link", name=named(person)).click()
        second = page.locator(".thread > li a").nth(1)
        title = second.inner_text()
        second.click()
        assert page.locator("#preview h2").inner_text() == title
        page.get_by_role("link", name="Cały dokument").click()
        assert page.locator(".paper h2").inner_text() == title
        page.get_by_role("link", name="Oś czasu").first.click()
        page.get_by_role("link", name="Wyniki badań").first.click()
        assert page.locator("#results table").count() == 2
        assert visitor.elsewhere == []


def test_the_original_is_the_bytes_that_were_handed_in(region: portals.Region) -> None:
    person = region.someone
    record = f"{WORK}/treatment/{logical(region, person)}"
    originals = {d.data for d in region.documents if d.person is person}
    with client(region, DOCTOR) as http:
        found = set(re.findall(r"document=([0-9a-f-]{36})", http.get(record).text))
        for document in found:
            answer = http.get(f"{record}/document/{document}/original?save")
            assert answer.content in originals
            assert answer.headers["content-disposition"].startswith("attachment;")
            assert "sandbox" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"] == "no-store"
    assert len(found) == len(originals)
    retrieved = rows(region, "SELECT count(*) FROM audit_event WHERE transaction = 'ITI-68' AND outcome = 0")
    assert retrieved[0][0] >= len(found)


def paper(answer: httpx.Response, folder: Path) -> str:
    """What a print says, without spaces."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf"), answer.text
    assert answer.headers["content-disposition"].startswith("inline;")
    file = folder / "print.pdf"
    file.write_bytes(answer.content)
    assert pdf_faults([file]) == []
    return "".join("".join(page.extract_text() for page in PdfReader(file).pages).split())


def handed_out(region: portals.Region, since: int) -> list[tuple[int, str]]:
    """Records of the counter: outcome and message."""
    said = "SELECT outcome, message FROM audit_event WHERE transaction = 'OBIEG-16' AND audit_id > %s ORDER BY audit_id"
    return rows(region, said, since)


PARAMETERS = {"resourceType": "Parameters"}


def test_a_print_at_the_counter_by_a_code(
    chrome: Any, region: portals.Region, gateway: SimpleNamespace, tmp_path: Path
) -> None:
    """The code goes to who stands there; what the patient restricted is on the paper, and who looked at the data."""
    number = f"51{int(peer.number()[1:]) % 10**7:07}"
    world = reachable(region.node, {"system": "phone", "value": number})
    with client(region, DOCTOR) as doctor:
        assert doctor.get(f"{WORK}/treatment/{world.logical}").status_code == 200  # which stands in the log
    address = f"{WORK}/handout/{world.logical}"
    before = region.node.last_audit()
    with visiting(chrome, region, COUNTER, size=PHONE, script=False) as visitor:
        page = visitor.go(address)
        page.get_by_role("button", name="Wyślij kod").click()
        code = code_of(gateway, f"+48{number}")
        assert code not in page.content()
        for tried in (1, 2):
            page.get_by_label("Kod z SMS").fill(f"{(int(code) + tried) % 10**6:06}")
            page.get_by_role("button", name="Wydrukuj").click()
            assert "Ten kod nie pasuje" in page.get_by_role("alert").inner_text()
        form = {name: page.locator(f"form.card [name={name}]").input_value() for name in ("request", "csrf", "stands")}
    form |= {"step": "code", "language": "uk"}
    with client(region, COUNTER) as http:
        origin = {"Origin": region.origin}
        form["csrf"] = token(http.get(address).text)
        other = reachable(region.node, {"system": "phone", "value": number})
        elsewhere = http.post(f"{WORK}/handout/{other.logical}/paper", data={**form, "code": code}, headers=origin)
        assert elsewhere.status_code == 422  # it is good for one patient
        consent = http.post(
            f"/fhir/Patient/{world.logical}/$consent-confirm",
            json={"resourceType": "Parameters", "parameter": [
                {"name": "request", "valueString": form["request"]}, {"name": "code", "valueString": code}]},
            headers=origin,
        )  # fmt: skip
        assert consent.status_code == 403  # the counter records no consents
        answer = http.post(f"{address}/paper", data={**form, "code": code}, headers=origin)
        said = paper(answer, tmp_path)
        again = http.post(f"{address}/paper", data={**form, "code": code}, headers=origin)
        assert again.status_code == 422  # a code is good once
    assert "Lis" in said
    assert SECRET in said  # restricted, and the patient's own
    assert "lek.AnnaNowak" in said  # who looked at the data
    assert "Підтвердженокодом" in said
    refused, granted = [], []
    for outcome, message in handed_out(region, before):
        (granted if outcome == 0 else refused).append(message)
    assert len(refused) == 4
    asked, given = granted
    for message in (asked, given):
        assert COUNTER["person"] in message
        assert f"{world.authority}#{world.logical}" in b64_of(message)
    assert "confirmed by: code" in given
    assert "access: patient" in given
    [(kind, told)] = rows(region, "SELECT kind, said FROM access_notice WHERE said ->> 'confirmed' = 'code'")
    assert (kind, told["name"], told["acting_for_name"]) == ("handout", COUNTER["person_name"], "Lis")
    reviewed = (
        "SELECT 1 FROM access_review JOIN patient_locator USING (patient_key) WHERE kind = 'handout' AND value = %s"
    )
    assert not rows(region, reviewed, world.logical)
    with client(
        region, {"person": f"{world.authority}#{world.logical}", "role": "patient", "purpose_of_use": "PATRQT"}
    ) as own:
        assert "Wydano wydruk Twoich danych" in own.get("/patient/notices").text
        assert COUNTER["person_name"] in own.get("/patient/access").text
    with client(
        region, {**DOCTOR, "proof": "session"}
    ) as both:  # who may do either: a code is for what it was asked for
        started = both.post(f"/fhir/Patient/{world.logical}/$handout-code", json=PARAMETERS, headers=origin)
        assert started.status_code == 202, started.text
        assert started.headers["x-obieg-access"] == "patient"
        named_by = {"name": "request", "valueString": values(started.json()["parameter"])["request"]}
        told = {
            **PARAMETERS,
            "parameter": [named_by, {"name": "code", "valueString": code_of(gateway, f"+48{number}")}],
        }
        for operation, status in (("consent-confirm", 422), ("handout", 200)):
            answer = both.post(f"/fhir/Patient/{world.logical}/${operation}", json=told, headers=origin)
            assert answer.status_code == status, (operation, answer.text)
            assert answer.headers.get("x-obieg-access") == ("patient" if status == 200 else None), operation
    with client(region, COUNTER) as http:  # three wrong tries use a code up
        form["csrf"] = token(http.get(address).text)
        started = http.post(address, data={"who": "patient", "go": "code", "csrf": form["csrf"]}, headers=origin)
        assert started.status_code == 200
        code = code_of(gateway, f"+48{number}")
        form["request"] = re.findall(r'name="request" value="([^"]+)"', started.text)[0]
        for tried in (1, 2, 3, 0):
            wrong = f"{(int(code) + tried) % 10**6:06}"
            assert http.post(f"{address}/paper", data={**form, "code": wrong}, headers=origin).status_code == 422


def test_a_print_at_the_counter_by_a_document(
    chrome: Any, region: portals.Region, gateway: SimpleNamespace, tmp_path: Path
) -> None:
    """Where a phone is known the officer looks at it; parents get what is their child's, and nobody else's."""
    number = f"51{int(peer.number()[1:]) % 10**7:07}"
    world = reachable(region.node, {"system": "phone", "value": number})
    origin = {"Origin": region.origin}
    with visiting(chrome, region, COUNTER) as visitor:
        page = visitor.go(WORK)
        expect_accessible(page)
        page.fill("#pesel", region.someone.pesel)
        page.get_by_role("button", name="Szukaj").click()
        page.get_by_role("link", name=named(region.someone)).click()
        page.wait_for_url(f"**{WORK}/handout/*")
        expect_accessible(page)
        page.get_by_role("button", name="Wyślij kod").click()
        assert "nie można wysłać kodu" in page.locator("main").inner_text()
        expect_accessible(page)
        visitor.expect_clean()
    with client(region, COUNTER) as http:
        address = f"{WORK}/handout/{world.logical}"
        csrf = token(http.get(WORK).text)
        form = {"csrf": csrf, "step": "document", "document": "passport", "language": "pl"}
        assert http.post(f"{address}/paper", data=form, headers=origin).status_code == 422  # there is a phone
        assert http.post(f"{address}/paper", data={**form, "document": ""}, headers=origin).status_code == 422
        before = region.node.last_audit()
        answer = http.post(f"{address}/paper", data={**form, "reason": "not-at-hand"}, headers=origin)
        assert "okazano:paszport" in paper(answer, tmp_path)
        [(_, message)] = handed_out(region, before)
        assert "confirmed by: passport; no code: not-at-hand" in message
        listed = commanding.obieg("access", "reviews", "list", "--settings", region.node.endpoints["settings"])
        assert "handed out a print about patient" in listed.stdout, listed.stderr
        assert "to Lis, without a code: not-at-hand" in listed.stdout
        review = "SELECT professional, reason, explanation FROM access_review WHERE reason = 'not-at-hand'"
        assert rows(region, review) == [(COUNTER["person"], "not-at-hand", "Lis")]
        told = rows(
            region, "SELECT count(*) FROM access_notice WHERE kind = 'handout' AND said ->> 'reason' = 'not-at-hand'"
        )
        assert told == [(1,)]

        child = reachable(
            region.node, {"system": "email", "value": "lis@poczta.example"}, born=f"{datetime.now(UTC).year - 9}-05-06"
        )
        mine, parent = f"{WORK}/handout/{child.logical}", region.someone
        stands = {**form, "stands": parent.pesel}
        nobody = http.post(f"{mine}/paper", data=stands, headers=origin)
        assert nobody.status_code == 404
        assert "nie można wydać wydruku" in nobody.text
        assert http.post(f"{mine}/paper", data=form, headers=origin).status_code == 404  # too young to ask alone
        refused = [message for _, message in handed_out(region, before)]
        assert f"no access: none for {PESEL}#{parent.pesel}" in refused[-2]
        fact = {"person": f"{PESEL}#{parent.pesel}", "kind": "guardian", "period": portals.WHOLE}
        child.state("representative", fact)
        before = region.node.last_audit()
        said = paper(http.post(f"{mine}/paper", data=stands, headers=origin), tmp_path)
        assert "".join(f"Odbiera: {named(parent)}. Podstawa: przedstawiciel ustawowy".split()) in said
        assert SECRET in said
        [(_, message)] = handed_out(region, before)
        assert f"{PESEL}#{parent.pesel}" in b64_of(message)
        assert "no code: no-phone" in message
        assert f"access: guardian; until={datetime.now(UTC).year + 9}-05-05T22:00:00Z" in message
        review = "SELECT reason FROM access_review WHERE kind = 'handout' AND explanation = %s"
        assert rows(region, review, named(parent)) == [("no-phone",)]
        listed = http.get(f"/fhir/DocumentReference?patient=Patient/{world.logical}")
        assert listed.json().get("total", 0) == 0
    for who in (CLERK, {**COUNTER, "role": "medical-assistant"}, {**COUNTER, "proof": "saml"}):
        with client(region, who) as other:
            if "proof" not in who:
                given = {**form, "csrf": token(other.get(WORK).text), "reason": "not-at-hand"}
                assert other.get(address).status_code == 404
                assert other.post(f"{address}/paper", data=given, headers=origin).status_code == 404
            asked = {"resourceType": "Parameters", "parameter": [{"name": "document", "valueString": "passport"}]}
            refused = other.post(f"/fhir/Patient/{world.logical}/$handout", json=asked, headers=origin)
            missing = other.post(f"/fhir/Patient/{peer.number()}/$handout", json=asked, headers=origin)
            assert (refused.status_code, missing.status_code) == (404, 404), refused.text


def test_documents_to_come(chrome: Any, region: portals.Region) -> None:
    adults = [p for p in region.people if p.pesel and p is not region.someone]
    pool = list(demo_documents(region.people, 400, 8))
    handed_in = {d.unique_id for d in region.documents}
    person, document = next(
        (p, d) for p in adults for d in pool
        if d.person is p and b'"18842-5"' in d.data and d.unique_id not in handed_in and b"relatedDocument" not in d.data
    )  # fmt: skip
    region.chosen(person)
    record = f"{WORK}/treatment/{logical(region, person)}"
    origin = {"Origin": region.origin}
    with client(region, DOCTOR) as http, client(region, STRANGER) as other:
        csrf = token(http.get(record).text)
        for _ in range(2):  # twice is once
            answer = http.post(f"{record}/awaited", data={"kind": "discharge", "csrf": csrf}, headers=origin)
            assert answer.headers["location"] == f"{WORK}/awaited"
        refused = other.post(f"{record}/awaited", data={"kind": "discharge", "csrf": token(other.get(WORK).text)},
                             headers=origin)  # fmt: skip
        assert refused.status_code == 404
        assert "Nic nowego jeszcze nie przyszło" in http.get(f"{WORK}/awaited").text
        assert rows(region, "SELECT person, kind FROM awaited_document") == [(DOCTOR["person"], "discharge")]
        region.hand_in([document])
        with visiting(chrome, region, DOCTOR) as visitor:
            page = visitor.go(f"{WORK}/awaited")
            assert "Nadeszło coś nowego u 1 osoby." in page.locator(".lead").inner_text()
            expect_accessible(page)
            page.locator("li.on a").click()
            assert page.locator("#preview").count() == 1
            visitor.expect_clean()
        with psycopg.connect(region.node.dsn) as connection:  # the choice has ended: nothing is told any more
            connection.execute("DELETE FROM access_fact WHERE kind = 'declaration' AND facts::text LIKE '%%5425740%%'"
                               " AND patient_key IN (SELECT patient_key FROM patient_locator WHERE value = %s)",
                               (person.pesel,))  # fmt: skip
        page = http.get(f"{WORK}/awaited").text
        assert "Nic nowego jeszcze nie przyszło" in page
        [awaited] = re.findall(r'name="awaited" value="(\S+)"', page)
        foreign = {"awaited": awaited, "csrf": token(other.get(WORK).text)}
        other.post(f"{WORK}/awaited/end", data=foreign, headers=origin)
        assert len(rows(region, "SELECT FROM awaited_document")) == 1
        http.post(f"{WORK}/awaited/end", data={"awaited": awaited, "csrf": token(page)}, headers=origin)
        assert rows(region, "SELECT FROM awaited_document") == []


def test_who_else_comes_in(chrome: Any, region: portals.Region) -> None:
    patient = logical(region, region.someone)
    assistant = {**DOCTOR, "person": DOCTOR["person"] + "1", "role": "medical-assistant"}
    with client(region, {**CLERK, "proof": "session"}) as http:
        assert "Dokumentów ta rola nie otwiera" in http.get(WORK).text
        page = http.get(f"{WORK}/treatment/{patient}")
        assert "Poproś o zgodę" in page.text
        assert "data-dialog" not in page.text
        assert http.get(f"{WORK}/emergency/{patient}/emergency").status_code == 404
        assert 'value="person"' not in http.get(f"{WORK}/treatment/{patient}/consent").text
    with client(region, assistant) as http:
        page = http.get(f"{WORK}/treatment/{patient}").text
        assert "Brak podstawy" in page
        assert "/consent" not in page
    with client(region, {**DOCTOR, "role": "patient", "purpose_of_use": "PATRQT"}) as http:
        assert http.get(WORK).status_code == 403
    with httpx.Client(base_url=region.origin) as http:
        assert http.get(f"{WORK}/treatment/{patient}").headers["location"].startswith("/login?next=")
