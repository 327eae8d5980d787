"""What patients see and do by themselves, asked over FHIR: for whom they act, notices, reports to the officer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import portals
import psycopg
import pytest
from portals import DOCTOR, STRANGER, WHOLE, Region

from obieg.ops.population import Person

pytestmark = pytest.mark.node


@pytest.fixture
def asking(portal: Region) -> Iterator[Any]:
    made: list[httpx.Client] = []

    def make(who: dict[str, str]) -> httpx.Client:
        made.append(portals.client(portal, who))
        return made[-1]

    yield make
    for client in made:
        client.close()


def represented(client: httpx.Client) -> list[dict[str, Any]]:
    answer = client.get("/fhir/Patient/$represented")
    assert answer.status_code == 200, answer.text
    return [flat(p["part"]) for p in answer.json().get("parameter", [])]


def flat(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {p["name"]: next(v for k, v in p.items() if k.startswith("value")) for p in parts}


def several(portal: Region, number: int) -> list[Person]:
    """Adults with a PESEL, in an order of their own."""
    found = [p for p in portal.people if p.pesel and p.born.year < 2000]
    assert len(found) >= number
    return sorted(found, key=lambda p: p.number)[:number]


def own(portal: Region, person: Person, asking: Any) -> str:
    [me] = [p for p in represented(asking(portals.patient(person))) if p["basis"] == "patient"]
    return str(me["patient"]["reference"])


def test_people_act_for_those_who_let_them(portal: Region, asking: Any) -> None:
    me, mother, stranger = several(portal, 3)
    assert [p["basis"] for p in represented(asking(portals.patient(me)))] == ["patient"]
    representative = {"person": f"{portals.PESEL}#{me.pesel}", "period": WHOLE}
    portal.state(mother, "representative", {**representative, "kind": "authorised"})
    portal.state(stranger, "representative", {**representative, "kind": "informed"})
    found = represented(asking(portals.patient(me)))
    assert [(p["basis"], p["given"]) for p in found] == [
        ("patient", me.given[0]),
        ("authorised", mother.given[0]),
    ]
    assert found[1]["until"].startswith("2100-01-01")
    assert represented(asking(DOCTOR)) == []  # no patient, and nobody lets them


def test_patients_see_who_acts_for_them_and_take_it_back(portal: Region, asking: Any) -> None:
    me, friend, child = several(portal, 3)
    adults = [d.person for d in portal.documents if d.person.pesel and d.person.born.year < 2000]
    other = next(person for person in adults if person not in (me, friend, child))
    reference, theirs = own(portal, me, asking), own(portal, other, asking)
    number = {p.number: f"{portals.PESEL}#{p.pesel}" for p in (me, friend, child, other)}
    named = {"resourceType": "RelatedPerson", "id": "17", "name": [{"family": "Wrona", "given": ["Ewa"]}]}
    close = {"person": number[friend.number], "kind": "close", "period": {}}
    authorised = {"person": number[friend.number], "kind": "authorised", "period": WHOLE}
    portal.state(me, "representative", authorised, close, resource=named)
    later = {"begin": "2099-01-01T00:00:00Z", "end": None}
    portal.state(me, "representative", {"person": number[child.number], "kind": "informed", "period": later})
    portal.state(me, "representative", {"person": number[child.number], "kind": "guardian", "period": WHOLE})  # of age
    over = {"begin": None, "end": "2020-01-01T00:00:00Z"}
    portal.state(me, "representative", {"person": number[other.number], "kind": "authorised", "period": over})
    portal.chosen(me)
    patient, friendly, stranger = (asking(portals.patient(p)) for p in (me, friend, other))

    def listed(client: httpx.Client) -> dict[str, dict[str, Any]]:
        answer = client.get(f"/fhir/{reference}/$representatives")
        assert answer.status_code == 200, answer.text
        found = [flat(r["part"]) for r in answer.json()["parameter"]]
        assert len({r["kind"] for r in found}) == len(found)
        return {r["kind"]: r for r in found}

    found = listed(patient)
    assert {kind: (r["now"], r["endable"]) for kind, r in found.items()} == {
        "authorised": (True, True), "close": (False, False), "informed": (False, True), "doctor": (True, False),
    }  # fmt: skip
    assert found["authorised"]["who"]["display"] == "Ewa Wrona"
    assert found["authorised"]["until"].startswith("2100-01-01")
    assert found["informed"]["since"].startswith("2099-01-01")
    assert found["doctor"]["who"]["identifier"]["value"] == DOCTOR["person"].partition("#")[2]
    assert {kind for kind, r in listed(friendly).items() if r["endable"]} == {"authorised"}  # their own

    def end(client: httpx.Client, kind: str, of: str = reference, source: str = "") -> int:
        said = {"source": source or found[kind]["source"], "kind": kind}
        listed = [{"name": name, "valueString": value} for name, value in said.items()]
        asked = {"resourceType": "Parameters", "parameter": listed}
        return client.post(f"/fhir/{of}/$end-authorisation", json=asked).status_code

    for client in (stranger, asking(DOCTOR)):
        assert client.get(f"/fhir/{reference}/$representatives").status_code in (403, 404)
        assert end(client, "authorised") in (403, 404)
    assert end(stranger, "authorised", theirs) == 404  # of somebody else's
    assert end(friendly, "informed") == 404
    assert end(patient, "close") == 400
    assert end(patient, "authorised", source=found["informed"]["source"]) == 404
    assert [p["basis"] for p in represented(friendly)] == ["patient", "authorised"]
    assert end(patient, "authorised") == 204
    assert [p["basis"] for p in represented(friendly)] == ["patient"]
    assert friendly.get(f"/fhir/{reference}/$representatives").status_code == 404
    assert end(patient, "authorised") == 404  # it has ended
    assert set(listed(patient)) == {"close", "informed", "doctor"}
    assert end(patient, "informed") == 204
    with psycopg.connect(portal.node.dsn) as connection:
        rows = connection.execute(
            "SELECT version, facts::text, resource IS NULL, recorded_by FROM access_fact WHERE source = %s ORDER BY version",
            (found["authorised"]["source"],),
        ).fetchall()
    assert [(v, bare, by) for v, _, bare, by in rows] == [(1, False, "test"), (2, False, number[me.number])]
    assert "close" in rows[1][1]
    assert "authorised" not in rows[1][1]
    log = patient.get(f"/fhir/{reference}/$access-log").json()["entry"]
    ended = [
        e["resource"]
        for e in log
        if e["resource"]["subtype"][0]["code"] == "OBIEG-15" and e["resource"]["action"] == "U"
    ]
    assert [e["outcome"] for e in ended].count("0") == 2


def test_a_report_is_a_line_of_the_worklist_once(portal: Region, asking: Any) -> None:
    person = portal.someone
    reference = own(portal, person, asking)
    doctor, patient, other = (
        asking(DOCTOR),
        asking(portals.patient(person)),
        asking(portals.patient(several(portal, 1)[0])),
    )
    portal.chosen(person)
    assert doctor.get(f"/fhir/DocumentReference?patient={reference}&status=current").json()["total"] > 0
    log = patient.get(f"/fhir/{reference}/$access-log").json()["entry"]
    number = next(e["resource"]["id"] for e in log if e["resource"]["agent"][0]["who"]["display"] == "lek. Anna Nowak")
    said = {"resourceType": "Parameters", "parameter": [
        {"name": "entry", "valueString": number}, {"name": "text", "valueString": "Nie byłem tam."},
    ]}  # fmt: skip
    for client, status in ((other, 404), (doctor, 403), (patient, 204), (patient, 204)):
        assert client.post(f"/fhir/{reference}/$report-access", json=said).status_code == status
    theirs = own(portal, several(portal, 1)[0], asking)
    assert other.post(f"/fhir/{theirs}/$report-access", json=said).status_code == 404, "it is of another log"
    told = other.get(f"/fhir/{theirs}/$access-reviews").json().get("parameter", [])
    assert number not in [flat(r["part"]).get("entry") for r in told]
    foreign = {"resourceType": "Parameters", "parameter": [{"name": "entry", "valueString": "999999999"}]}
    assert patient.post(f"/fhir/{reference}/$report-access", json=foreign).status_code == 404
    with psycopg.connect(portal.node.dsn) as connection:
        lines = connection.execute(
            "SELECT review_id, professional, organisation, explanation, reported_by FROM access_review WHERE audit_id = %s",
            (int(number),),
        ).fetchall()
    assert [line[1:] for line in lines] == [
        (DOCTOR["person"], DOCTOR["organisation"], "Nie byłem tam.", f"{portals.PESEL}#{person.pesel}")
    ]
    reviews = patient.get(f"/fhir/{reference}/$access-reviews").json()["parameter"]
    reported = [flat(r["part"]).get("entry") for r in reviews if flat(r["part"])["kind"] == "reported"]
    assert reported.count(number) == 1
    assert other.get(f"/fhir/{reference}/$access-reviews").status_code == 404


def test_notices_are_listed_and_read(portal: Region, asking: Any) -> None:
    person = portal.someone
    reference = own(portal, person, asking)
    portal.state(person, "notices", True)
    portal.chosen(person, STRANGER)
    assert asking(STRANGER).get(f"/fhir/DocumentReference?patient={reference}&status=current").status_code == 200
    patient = asking(portals.patient(person))
    notices = [flat(n["part"]) for n in patient.get(f"/fhir/{reference}/$notices").json()["parameter"]]
    mine = [n for n in notices if n.get("who") == STRANGER["person_name"]]
    assert ("access", False) in [(n["kind"], n["read"]) for n in mine]
    [me] = [p for p in represented(patient) if p["basis"] == "patient"]
    assert me["unread"] >= 1
    last = {
        "resourceType": "Parameters",
        "parameter": [{"name": "last", "valueString": max((n["id"] for n in notices), key=int)}],
    }
    assert patient.post(f"/fhir/{reference}/$notices-read", json=last).status_code == 204
    assert [p["unread"] for p in represented(patient) if p["basis"] == "patient"] == [0]
    assert asking(portals.patient(several(portal, 1)[0])).get(f"/fhir/{reference}/$notices").status_code == 404
