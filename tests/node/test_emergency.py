"""Break-glass on a node that enforces access: what it opens, for whom, how long, and who is told of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import peer
import pytest
from test_access_enforced import CLERK, DOCTOR, STRANGER, Caller, World

pytestmark = pytest.mark.node

JSON = {"Content-Type": "application/fhir+json"}
RESCUER = {**STRANGER, "purpose_of_use": "BTG", "person_name": "Ratowniczka Maria"}
WHY = "nieprzytomny, brak wywiadu, alergie nieznane"


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode) -> peer.Node:
    return make_node("emergency", module="access_node", access={"enforced": True})


@pytest.fixture
def world(region: peer.Node) -> World:
    return World(region)


@pytest.fixture
def rescuer(region: peer.Node) -> Iterator[Caller]:
    caller = Caller(region, RESCUER)
    yield caller
    caller.node.close()


def parameters(**given: Any) -> dict[str, Any]:
    kinds = {str: "valueString", int: "valueInteger"}
    listed = [{"name": name, kinds[type(value)]: value} for name, value in given.items()]
    return {"resourceType": "Parameters", **({"parameter": listed} if listed else {})}


def opened(caller: Caller, world: World, **given: Any) -> httpx.Response:
    address = f"{world.base}/Patient/{world.logical}/$break-glass"
    body = parameters(**{"reason": "unconscious", "text": WHY, **given})
    return caller.node.http.post(address, content=json.dumps(body), headers=JSON)


def said(answer: httpx.Response) -> dict[str, Any]:
    return {p["name"]: next(v for k, v in p.items() if k.startswith("value")) for p in answer.json()["parameter"]}


def found(caller: Caller, world: World) -> httpx.Response:
    return caller.get(f"DocumentReference?patient=Patient/{world.logical}&status=current")


def rows(world: World, statement: str, *given: Any) -> list[tuple[Any, ...]]:
    with world.node_connection() as connection:
        return list(connection.execute(statement, given).fetchall())


def key(world: World) -> int:
    locator = "SELECT patient_key FROM patient_locator WHERE authority = %s AND value = %s"
    return int(rows(world, locator, world.authority, world.logical)[0][0])


def test_it_opens_one_patient_until_it_ends(region: peer.Node, world: World, rescuer: Caller) -> None:
    other = World(region)
    assert found(rescuer, world).json()["total"] == 0
    answer = opened(rescuer, world)
    assert answer.status_code == 201, answer.text
    session = said(answer)
    assert session["patient"] == {"reference": f"Patient/{world.logical}"}
    began, until, latest = (datetime.fromisoformat(session[n]) for n in ("began", "until", "latest"))
    assert (until - began, latest - began) == (timedelta(hours=1), timedelta(hours=24))
    shown = found(rescuer, world)
    assert shown.json()["total"] == 4  # what the patient has closed, too
    assert shown.headers["x-obieg-access"].startswith("author,emergency; until=")
    assert found(rescuer, other).json()["total"] == 0  # one patient
    treating = Caller(region, {**RESCUER, "purpose_of_use": "TREAT"})
    colleague = Caller(region, {**RESCUER, "person": DOCTOR["person"] + "9"})
    for caller in (treating, colleague):
        assert found(caller, world).json()["total"] == 0
        caller.node.close()
    ended = rescuer.node.http.delete(f"{world.base}/Patient/{world.logical}/$break-glass")
    assert ended.status_code == 204
    assert found(rescuer, world).json()["total"] == 0
    assert rescuer.node.http.delete(f"{world.base}/Patient/{world.logical}/$break-glass").status_code == 204
    records = "SELECT transaction, outcome FROM audit_event WHERE patient_id = %s AND transaction LIKE 'OBIEG-1-%%'"
    assert rows(world, records + " ORDER BY audit_id", world.patient) == [("OBIEG-1-END", 0), ("OBIEG-1-NONE", 0)]


def test_a_renewal_is_the_same_session_to_its_last_hour(world: World, rescuer: Caller) -> None:
    first = said(opened(rescuer, world, minutes=5))
    again = opened(rescuer, world, reason="life-threat", text="nadal nieprzytomny, operacja trwa")
    assert again.status_code == 200
    renewed = said(again)
    assert (renewed["session"], renewed["began"]) == (first["session"], first["began"])
    assert renewed["until"] > first["until"]
    shorter = said(opened(rescuer, world, minutes=1))
    assert shorter["until"] == renewed["until"]  # a renewal takes nothing away
    # As if it had begun 23 hours and a half ago.
    old = (datetime.fromisoformat(first["began"]) - timedelta(hours=23, minutes=30)).isoformat()
    with world.node_connection() as connection:
        connection.execute(
            "UPDATE access_fact SET facts = jsonb_set(facts::jsonb, '{0,period,begin}', to_jsonb(%s::text))::json"
            " WHERE source = %s AND superseded_at IS NULL",
            (old, first["session"]),
        )
    capped = said(opened(rescuer, world))
    assert capped["until"] == capped["latest"]
    explained = rows(world, "SELECT renewals, explanation FROM access_review WHERE source = %s", first["session"])
    assert explained[0][0] == 3
    assert explained[0][1].startswith(f"{WHY}\nlife-threat: nadal")


def test_the_patient_and_the_officer_are_told_in_the_same_commit(world: World, rescuer: Caller) -> None:
    session = said(opened(rescuer, world))["session"]
    [(kind, told, times)] = rows(
        world, "SELECT kind, said, times FROM access_notice WHERE patient_key = %s", key(world)
    )
    assert (kind, times) == ("emergency", 1)
    assert told["name"] == RESCUER["person_name"]
    assert (told["person"], told["organisation"], told["reason"]) == (
        RESCUER["person"], RESCUER["organisation"], "unconscious",
    )  # fmt: skip
    assert WHY not in json.dumps(told)
    review = rows(world, "SELECT source, reason, explanation, reads FROM access_review WHERE source = %s", session)
    assert review == [(session, "unconscious", WHY, 0)]
    # The three have one transaction: one xmin.
    xmins = rows(
        world,
        "SELECT xmin::text FROM access_fact WHERE source = %s UNION SELECT xmin::text FROM access_review WHERE source = %s"
        " UNION SELECT xmin::text FROM access_notice WHERE patient_key = %s"
        " UNION SELECT xmin::text FROM audit_event WHERE transaction = 'OBIEG-1' AND patient_id = %s AND outcome = 0",
        session, session, key(world), world.patient,
    )  # fmt: skip
    assert len(xmins) == 1
    for _ in range(3):
        assert found(rescuer, world).status_code == 200
    read = rows(world, "SELECT kind, times FROM access_notice WHERE patient_key = %s ORDER BY notice_id", key(world))
    assert read == [("emergency", 1), ("access", 3)]
    assert rows(world, "SELECT reads FROM access_review WHERE source = %s", session) == [(3,)]
    record = rows(
        world, "SELECT message FROM audit_event WHERE transaction = 'OBIEG-1' AND patient_id = %s", world.patient
    )[0][0]
    assert "Emergency Override Started" in record
    assert "reason: unconscious" in record
    assert WHY not in record


def test_a_reading_is_counted_in_the_session_by_which_it_is(region: peer.Node, world: World, rescuer: Caller) -> None:
    elsewhere = Caller(region, {**RESCUER, "organisation": DOCTOR["organisation"]})
    aide = {**RESCUER, "role": "medical-assistant", "person": "1.2#aide", "acting_for": RESCUER["person"]}
    assistant = Caller(region, aide)
    assert {opened(caller, world).status_code for caller in (rescuer, elsewhere)} == {201}
    for caller in (rescuer, assistant, assistant, elsewhere):
        assert found(caller, world).json()["total"] == 4
    counted = (
        "SELECT professional, organisation, reason, reads FROM access_review WHERE patient_key = %s ORDER BY reads"
    )
    assert rows(world, counted, key(world)) == [
        (RESCUER["person"], DOCTOR["organisation"], "unconscious", 1),
        (RESCUER["person"], RESCUER["organisation"], "unconscious", 3),
    ]
    for caller in (elsewhere, assistant):
        caller.node.close()


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        (DOCTOR, "emergency: purpose"),
        ({**CLERK, "purpose_of_use": "BTG"}, "emergency: role"),
        ({**RESCUER, "organisation": ""}, "emergency: none"),
        ({"role": "patient", "person": "1.2#3", "purpose_of_use": "PATRQT"}, "emergency: role"),
        ({}, "emergency: role"),
    ],
)
def test_who_may_not(region: peer.Node, world: World, who: dict[str, str], reason: str) -> None:
    caller = Caller(region, who)
    answer = opened(caller, world)
    assert answer.status_code == 403
    assert reason not in answer.text  # the record says why
    assert rows(
        world, "SELECT count(*) FROM access_fact WHERE source LIKE 'Emergency/%%' AND patient_key = %s", key(world)
    ) == [(0,)]
    record = rows(
        world,
        "SELECT message FROM audit_event WHERE transaction = 'OBIEG-1' AND patient_id = %s AND outcome <> 0",
        world.patient,
    )
    assert reason in record[-1][0]
    caller.node.close()


def test_a_proof_for_another_patient_opens_nothing(region: peer.Node, world: World) -> None:
    other = Caller(region, {**RESCUER, "patient": f"{world.authority}#another"})
    assert opened(other, world).status_code == 404
    own = Caller(region, {**RESCUER, "patient": f"{world.authority}#{world.logical}"})
    assert opened(own, world).status_code == 201
    for caller in (other, own):
        caller.node.close()


@pytest.mark.parametrize(("seconds", "status"), [(30, 201), (301, 403), (None, 403)])
def test_a_session_of_the_pages_needs_a_fresh_proof(
    region: peer.Node, world: World, seconds: int | None, status: int
) -> None:
    who: dict[str, Any] = {**RESCUER, "proof": "session"}
    if seconds is not None:
        who["logged_in_at"] = datetime.fromtimestamp(time.time() - seconds).astimezone().isoformat()
    caller = Caller(region, who)
    answer = opened(caller, world)
    assert answer.status_code == status, answer.text
    caller.node.close()


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"reason": "curiosity"}, "http.reason"),
        ({"text": " x "}, "http.text"),
        ({"text": "x" * 2001}, "http.text"),
        ({"text": "." * 10}, "http.text"),
        ({"text": "ha ha ha ha!"}, "http.text"),
        ({"minutes": 61}, "http.minutes"),
        ({"minutes": 0}, "http.minutes"),
    ],
)
def test_what_is_no_reason(world: World, rescuer: Caller, given: dict[str, Any], where: str) -> None:
    answer = opened(rescuer, world, **given)
    assert answer.status_code in (400, 422)
    assert where in answer.text


def test_a_patient_nobody_knows(world: World, rescuer: Caller) -> None:
    world.logical = "nobody"
    assert opened(rescuer, world).status_code == 404


def test_a_patient_who_asked_is_told_of_reading_and_of_documents(region: peer.Node, world: World) -> None:
    doctor = Caller(region, DOCTOR)
    assert found(doctor, world).json()["total"] == 2
    assert rows(world, "SELECT count(*) FROM access_notice WHERE patient_key = %s", key(world)) == [(0,)]
    world.state("notices", True)
    found(doctor, world)
    found(doctor, world)
    entry = world.entry(title="Nowa", content=b"nowa")
    region.provided(region.submission(world.patient, entry))
    told = rows(
        world, "SELECT kind, times, said FROM access_notice WHERE patient_key = %s ORDER BY notice_id", key(world)
    )
    assert [(kind, times) for kind, times, _ in told] == [("access", 2), ("document", 1)]
    assert told[0][2]["bases"] == ["author", "poz"]
    assert told[1][2]["document"] == entry.id.removeprefix("urn:uuid:")
    doctor.node.close()
