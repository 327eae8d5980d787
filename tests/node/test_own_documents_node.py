"""Documents that patients add: seen with their mark by all who may see, withdrawn by the patient, and nothing else of theirs."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import portals
import pytest
from axe import expect_accessible
from portals import DOCTOR, PHONE, visiting
from selves import parameters, reference, somebody
from uploads import jpeg, pdf

from obieg.ops.population import Person
from obieg.web.areas import PROFESSIONALS

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def person(portal: portals.Region) -> Person:
    return somebody(portal)


@pytest.fixture(scope="module")
def me(portal: portals.Region, person: Person) -> str:
    return reference(portal, person)


def added(data: bytes, **given: str) -> dict[str, Any]:
    said = parameters(**{"title": "Wynik z Wiednia", "kind": "result", "date": "2024-05-06", **given})
    binary = {"resourceType": "Binary", "contentType": "text/html", "data": b64encode(data).decode()}
    said["parameter"].append({"name": "file", "resource": binary})
    return said


def found(client: Any, me: str, **more: str) -> list[dict[str, Any]]:
    bundle = client.get(
        "/fhir/DocumentReference", params={"patient": me, "status": "current", "_count": "200", **more}
    ).json()
    return [e["resource"] for e in bundle.get("entry", ())]


def own_of(client: Any, me: str) -> dict[str, dict[str, Any]]:
    documents = found(client, me)
    return {d["id"]: d for d in documents if d["category"][0]["coding"][0]["code"] == "99.00"}


def test_a_patient_adds_a_document_and_takes_it_back(
    chrome: Any,
    portal: portals.Region,
    person: Person,
    me: str,
    tmp_path: Any,
) -> None:
    portal.chosen(person)
    file, html = tmp_path / "wynik.pdf", tmp_path / "wynik.jpg"
    file.write_bytes(pdf())
    html.write_bytes(b"<html><script>alert(1)</script></html>")
    with visiting(chrome, portal, portals.patient(person), size=PHONE) as visitor:
        page = visitor.go("/patient/documents")
        page.get_by_role("link", name="Dodaj dokument").click()
        expect_accessible(page)
        page.get_by_label("Tytuł").fill("Morfologia z Wiednia")
        page.get_by_label("Data dokumentu").fill("2024-05-06")
        page.get_by_label("Plik").set_input_files(html)
        page.get_by_role("button", name="Dodaj").click()
        assert "nie jest całym PDF" in page.get_by_role("alert").inner_text()
        expect_accessible(page)
        assert page.get_by_label("Tytuł").input_value() == "Morfologia z Wiednia"
        page.get_by_label("Plik").set_input_files(file)
        page.get_by_role("button", name="Dodaj").click()
        assert page.get_by_role("status").inner_text() == "Dokument został dodany."
        expect_accessible(page)
        row = page.locator("li", has_text="Morfologia z Wiednia")
        assert "dodane przez pacjenta" in row.inner_text()
        row.get_by_role("link").click()
        expect_accessible(page)
        assert "Żadna placówka nie potwierdziła jego treści." in page.inner_text("main")
        address = page.url
        visitor.expect_clean(400)
    with portals.client(portal, portals.patient(person)) as own:
        given = own.get(f"{address}/file")
    assert given.content == pdf()
    assert given.headers["content-disposition"].startswith("attachment")
    assert given.headers["content-security-policy"] == "default-src 'none'; sandbox"
    with visiting(chrome, portal, DOCTOR) as visitor:
        page = visitor.go(
            f"{PROFESSIONALS}/treatment/{me.removeprefix('Patient/')}?document={address.rpartition('/')[2]}"
        )
        assert "dodane przez pacjenta" in page.locator("#timeline .thread li.now").inner_text()
        assert "dodane przez pacjenta" in page.locator("#preview").inner_text()
        expect_accessible(page)
        visitor.expect_clean()
    with portals.client(portal, DOCTOR) as doctor:
        [document] = own_of(doctor, me).values()
        assert document["content"][0]["attachment"]["contentType"] == "application/pdf"
        id_ = document["id"]
        refused = doctor.post(f"/fhir/{me}/$withdraw-document", json=parameters(document=id_))
        assert refused.status_code in (403, 404)
    with visiting(chrome, portal, portals.patient(person), size=PHONE) as visitor:
        page = visitor.go(address.removeprefix(portal.origin))
        page.get_by_role("link", name="Wycofaj").click()
        expect_accessible(page)
        page.get_by_role("button", name="Tak, wycofaj").click()
        assert "Dokument został wycofany." in page.get_by_role("status").inner_text()
        assert page.get_by_text("Morfologia z Wiednia").count() == 0
        visitor.expect_clean()
    with portals.client(portal, DOCTOR) as doctor:
        assert own_of(doctor, me) == {}


def test_nothing_else_is_added_or_withdrawn(portal: portals.Region, person: Person, me: str) -> None:
    strangers = [{**portals.STRANGER, "purpose_of_use": "TREAT"}, portals.patient(portal.someone)]
    for who in strangers:
        with portals.client(portal, who) as client:
            assert client.post(f"/fhir/{me}/$add-document", json=added(pdf())).status_code in (403, 404)
    with portals.client(portal, portals.patient(person)) as own:
        [other, *_] = [d["id"] for d in found(own, me) if d["category"][0]["coding"][0]["code"] != "99.00"]
        assert own.post(f"/fhir/{me}/$withdraw-document", json=parameters(document=other)).status_code == 404
        for data, given in (
            (b"<svg onload='x()'/>", {}), (pdf()[:40], {}), (pdf(), {"kind": "recipe"}), (pdf(), {"date": "2999-01-01"}),
            (pdf(), {"title": "x" * 121}), (jpeg(65535, 65535), {}),
        ):  # fmt: skip
            assert own.post(f"/fhir/{me}/$add-document", json=added(data, **given)).status_code in (400, 422)
        assert own_of(own, me) == {}
        made = own.post(f"/fhir/{me}/$add-document", json=added(jpeg(100, 200)))
        assert made.status_code == 201, made.text
        assert made.headers["x-obieg-access"] == "patient"
        [document] = own_of(own, me).values()
        assert document["content"][0]["attachment"]["contentType"] == "image/jpeg"  # by its content, not as it was sent
        numbers = [i for r in document["contained"] for i in r.get("identifier", ())]
        assert {"system": f"urn:oid:{portals.PESEL}", "value": person.pesel} in [
            {"system": i.get("system"), "value": i.get("value")} for i in numbers
        ]
    someone = portals.patient(portal.someone)
    with portals.client(portal, someone) as other:
        said = other.get("/fhir/Patient/$represented").json()["parameter"]
        theirs = next(p["valueReference"]["reference"] for p in said[0]["part"] if p["name"] == "patient")
        answer = other.post(f"/fhir/{theirs}/$withdraw-document", json=parameters(document=document["id"]))
        assert answer.status_code == 404
    with portals.client(portal, portals.patient(person)) as own:
        taken = own.post(f"/fhir/{me}/$withdraw-document", json=parameters(document=document["id"]))
        assert taken.status_code == 204, taken.text
        assert taken.headers["x-obieg-access"] == "patient"
        assert own.post(f"/fhir/{me}/$withdraw-document", json=parameters(document=document["id"])).status_code == 404
