"""The patient's access log on a node that enforces access: who, where, when, what and why; for whom it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import peer
import pytest
from test_access_enforced import CLERK, DOCTOR, NPWZ, PATIENT, WHOLE, Caller, World
from test_decisions import TYPE, ask, document, question
from test_emergency import RESCUER, WHY, opened, rows
from test_whose import consent
from typer.testing import CliRunner

import commanding
from obieg.ops.cli import app

pytestmark = pytest.mark.node
ENTITY = DOCTOR["organisation"]
HOSPITAL = "1.2.616.1.4711"  # an assigning authority
NAMED = {**DOCTOR, "person_name": "Nowak Jan"}


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode) -> peer.Node:
    return make_node("log", module="access_node", access={"enforced": True})


@pytest.fixture
def world(region: peer.Node) -> World:
    return World(region)


@pytest.fixture
def callers(region: peer.Node) -> Iterator[Any]:
    made: list[Caller] = []

    def make(who: dict[str, str]) -> Caller:
        made.append(Caller(region, who))
        return made[-1]

    yield make
    for caller in made:
        caller.node.close()


def read(caller: Caller, world: World) -> None:
    answer = caller.get(f"DocumentReference?patient=Patient/{world.logical}&status=current")
    assert answer.status_code == 200


def log(caller: Caller, world: World, query: str = "") -> list[dict[str, Any]]:
    answer = caller.get(f"Patient/{world.logical}/$access-log{query}")
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", [])]


def own(world: World) -> dict[str, str]:
    return {**PATIENT, "person": f"{world.authority}#{world.logical}"}


def told(event: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    why = [c["coding"][0]["code"] for c in event.get("purposeOfEvent", [])]
    return event["subtype"][0]["code"], [a["who"]["display"] for a in event["agent"] if "display" in a["who"]], why


def test_the_patient_sees_who_read_what_and_why(world: World, callers: Any) -> None:
    read(callers(NAMED), world)
    assert opened(callers(RESCUER), world).status_code == 201
    read(callers(RESCUER), world)
    stranger = callers({**RESCUER, "purpose_of_use": "TREAT", "person": DOCTOR["person"] + "5", "person_name": "Obcy"})
    assert stranger.get(f"Patient/{world.logical}/$everything").status_code in (200, 404)
    patient = callers(own(world))
    events = log(patient, world)
    assert WHY not in json.dumps(events)
    seen = [told(event) for event in events]
    assert ("ITI-67", ["Nowak Jan", ENTITY], ["author", "poz", "TREAT"]) in seen
    assert ("OBIEG-1", [RESCUER["person_name"], RESCUER["organisation"]], ["BTG"]) in seen
    assert ("ITI-67", [RESCUER["person_name"], RESCUER["organisation"]], ["author", "emergency", "BTG"]) in seen
    assert any(who[0] == "Obcy" for _, who, _ in seen)
    moments = [event["recorded"] for event in events]
    assert moments == sorted(moments, reverse=True)
    assert {e["entity"][0]["what"]["reference"] for e in events} == {f"Patient/{world.logical}"}
    again = log(patient, world)
    assert told(again[0])[0] == "OBIEG-2"  # whoever reads it is in it


def test_who_stands_in_a_proof_by_a_number_has_the_name_of_the_directory(
    region: peer.Node, world: World, callers: Any, tmp_path: Path
) -> None:
    zofia = {**DOCTOR, "person": f"{NPWZ}#5425740"}
    known = {
        "resourceType": "Practitioner", "id": "zofia", "name": [{"family": "Nowakowska", "given": ["Zofia"]}],
        "identifier": [{"system": f"urn:oid:{NPWZ}", "value": "5425740"}],
    }  # fmt: skip
    (tmp_path / "a.ndjson").write_text(json.dumps(known) + "\n")
    settings = region.endpoints["settings"]
    done = commanding.obieg("directory", "import", tmp_path / "a.ndjson", "--settings", settings)
    assert done.returncode == 0, done.stdout + done.stderr
    world.state("notices", True)
    declared = {"professional": zofia["person"], "kind": "doctor", "organisation": "", "period": WHOLE}
    world.state("declaration", declared)
    read(callers(zofia), world)
    read(callers({**zofia, "role": "medical-assistant", "person": "1.2#aide", "acting_for": zofia["person"]}), world)
    patient = callers(own(world))
    by_aide, by_doctor, *_ = [e for e in log(patient, world) if told(e)[0] == "ITI-67"]
    assert told(by_doctor)[1][0] == "Zofia Nowakowska"
    assert "Zofia Nowakowska" in json.dumps(by_aide, ensure_ascii=False)
    listed = patient.get(f"Patient/{world.logical}/$notices").json()["parameter"]
    parts = [{p["name"]: p.get("valueString", "") for p in notice["part"]} for notice in listed]
    said = [(p["who"], p.get("actingFor", "")) for p in parts]
    assert said == [("1.2#aide", "Zofia Nowakowska"), ("Zofia Nowakowska", "")]


def test_who_looked_in_vain_is_not_called_an_author(world: World, callers: Any) -> None:
    """To be an author needs nothing: who has written nothing looked without a basis, and nobody is told of a reading."""
    world.state("notices", True)
    stranger = callers({**NAMED, "person": DOCTOR["person"] + "6", "person_name": "Obcy"})
    read(stranger, world)
    for returns in ("LeafClass", "ObjectRef"):
        stranger.node.found(world.patient, returns=returns)
    patient = callers(own(world))
    seen = [told(event) for event in log(patient, world)]
    assert [(act, why) for act, who, why in seen if who[0] == "Obcy"] == [
        ("ITI-18", ["TREAT"]), ("ITI-18", ["TREAT"]), ("ITI-67", ["TREAT"]),
    ]  # fmt: skip
    notices = patient.get(f"Patient/{world.logical}/$notices").json().get("parameter", [])
    assert "Obcy" not in json.dumps(notices)


def test_of_several_patients_each_has_the_bases_that_hold_of_them(
    region: peer.Node, world: World, callers: Any
) -> None:
    other = World(region)
    with other.node_connection() as connection:
        connection.execute("UPDATE access_fact SET superseded_at = now() WHERE kind = 'declaration' AND patient_key = ("
                           "SELECT patient_key FROM patient_locator WHERE value = %s)", (other.logical,))  # fmt: skip
    both = f"Patient/{world.logical},Patient/{other.logical}"
    answer = callers(NAMED).get(f"DocumentReference?patient={both}&status=current")
    assert answer.headers["x-obieg-access"].startswith("author,poz")
    for one, why in ((world, ["author", "poz", "TREAT"]), (other, ["TREAT"])):
        [event] = [told(e) for e in log(callers(own(one)), one) if told(e)[0] == "ITI-67"]
        assert event[2] == why


def test_pages_lose_and_repeat_nothing(world: World, callers: Any) -> None:
    for _ in range(5):
        read(callers(NAMED), world)
    patient = callers(own(world))
    whole = [e["id"] for e in log(patient, world, "?_count=500")]
    listed: list[str] = []
    address = f"Patient/{world.logical}/$access-log?_count=3"
    while address:
        bundle = patient.get(address).json()
        listed += [e["resource"]["id"] for e in bundle["entry"]]
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        address = following[0].removeprefix(f"{world.base}/") if following else ""
    # Each page is a reading that is itself recorded, before those that are asked for later.
    assert [i for i in listed if i in whole] == whole
    assert len(listed) == len({*listed})


def test_the_log_is_for_the_patient_and_who_may_act_for_them(world: World, callers: Any) -> None:
    guardian = {**PATIENT, "person": "1.2#77"}
    for who, status in ((DOCTOR, 403), (RESCUER, 403), ({}, 403), (guardian, 404)):
        assert callers(who).get(f"Patient/{world.logical}/$access-log").status_code == status
    world.state("representative", {"person": "1.2#77", "kind": "authorised", "period": {}})
    assert log(callers(guardian), world)


def test_records_of_all_who_are_linked_are_one_log(region: peer.Node, world: World, callers: Any) -> None:
    other = World(region)
    read(callers(NAMED), other)
    with world.node_connection() as connection:
        keys = [
            connection.execute(
                "SELECT patient_key FROM patient_locator WHERE authority = %s AND value = %s", (w.authority, w.logical)
            ).fetchone()[0]
            for w in (world, other)
        ]
        connection.execute(
            "INSERT INTO patient_link (patient_key, merged_into, survivor_key) VALUES (%s, %s, %s)",
            (keys[1], keys[0], keys[0]),
        )
    assert any(told(e)[1][0] == "Nowak Jan" for e in log(callers(own(world)), world))


def test_however_a_request_names_the_patient_it_stands_in_the_log(region: peer.Node, callers: Any) -> None:
    """By another identifier, a document, a Consent, or as nobody for whom the caller may; one that is retired, too."""
    number, former, merged = peer.number(), peer.number(), region.patient()
    world = World(region)
    assert region.feed("A04", f"{world.patient}~{number}^^^&{HOSPITAL}&ISO") == "AA"
    assert region.feed("A04", f"{merged}~{former}^^^&{HOSPITAL}&ISO") == "AA"
    identifier = {"system": f"urn:oid:{HOSPITAL}", "value": number}
    by_number, by_former = (f"urn:oid:{HOSPITAL}%7C{n}" for n in (number, former))
    doctor, clerk, stranger = (callers(who) for who in (NAMED, CLERK, {**PATIENT, "person": "1.2#3"}))
    patient = callers(own(world))
    stated = consent(world, patient={"identifier": identifier})

    def post(caller: Caller, path: str, resource: Any) -> httpx.Response:
        headers = {"Content-Type": "application/fhir+json"}
        return caller.node.http.post(f"{world.base}/{path}", json=resource, headers=headers)

    made = post(clerk, "Consent", stated)
    assert made.status_code == 201, made.text
    id_ = made.json()["id"]
    whose = {"resourceType": "Patient", "identifier": [identifier]}

    def decided(*resources: tuple[tuple[str, str], ...]) -> Callable[[], Any]:
        return lambda: ask(region, question(NAMED, *resources))

    def asked(caller: Caller, path: str) -> Callable[[], Any]:
        return lambda: caller.get(path)

    resource, cx = "urn:oasis:names:tc:xacml:1.0:resource:resource-id", f"{HOSPITAL}#{number}"
    acts: list[tuple[str, Callable[[], Any]]] = [
        ("XACML", decided(document(world.shown))),
        ("XACML", decided(document(world.hidden))),
        ("XACML", decided(((resource, cx), *document(world.shown)))),
        ("XACML", decided(((resource, cx), (TYPE, "1-1")))),
        ("ITI-108", lambda: post(clerk, "Consent", stated)),
        ("ITI-108", asked(clerk, f"Consent?patient.identifier={by_number}")),
        ("ITI-108", asked(clerk, f"Consent?_id={id_}")),
        ("ITI-108", asked(doctor, f"Consent?_id={id_}")),  # which somebody else has recorded
        ("ITI-108", asked(doctor, f"Consent/{id_}")),
        ("ITI-108", asked(stranger, f"Consent?patient.identifier={by_number}")),
        ("ITI-119", lambda: post(doctor, "Patient/$match", {"resourceType": "Parameters", "parameter": [
            {"name": "resource", "resource": whose}]})),
        ("ITI-119", lambda: post(stranger, "Patient/$match", {"resourceType": "Parameters", "parameter": [
            {"name": "resource", "resource": whose}]})),
        ("ITI-78", asked(doctor, f"Patient?identifier={by_number}")),
        ("ITI-78", asked(stranger, f"Patient?identifier={by_number}")),
        ("ITI-67", asked(doctor, f"DocumentReference?patient.identifier={by_number}&status=current")),
        ("ITI-67", asked(stranger, f"DocumentReference?patient.identifier={by_number}&status=current")),
        ("ITI-18", lambda: doctor.soap("registry", peer.stored_query(
            "GetDocuments", XDSDocumentEntryEntryUUID=peer.quoted(world.hidden.id)))),
        ("ITI-43", lambda: doctor.soap("retrieve", peer.retrieval((region.repository, world.hidden.unique_id)))),
    ]  # fmt: skip
    for place, (transaction, act) in enumerate(acts):
        known = {event["id"] for event in log(patient, world, "?_count=500")}
        act()
        new = [event for event in log(patient, world, "?_count=500") if event["id"] not in known]
        assert [e["subtype"][0]["code"] for e in new] == [transaction, "OBIEG-2"], place
    doctor.get(f"DocumentReference?patient.identifier={by_former}&status=current")
    doctor.get(f"Consent?patient.identifier={by_former}")
    before = log(patient, world)
    assert region.feed("A40", world.patient, merged) == "AA"
    new = [told(event)[0] for event in log(patient, world) if event["id"] not in {e["id"] for e in before}]
    assert {*new} >= {"ITI-108", "ITI-67"}


def run(region: peer.Node, *arguments: str) -> str:
    ready = region.endpoints["settings"]
    done = CliRunner().invoke(app, ["access", *arguments, "--settings", ready], env={"COLUMNS": "300"})
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_officers_read_decide_and_withhold(region: peer.Node, world: World, callers: Any) -> None:
    assert opened(callers(RESCUER), world).status_code == 201
    read(callers(RESCUER), world)
    [(number,)] = rows(world, "SELECT max(review_id) FROM access_review WHERE professional = %s", RESCUER["person"])
    listed = run(region, "reviews", "list", "-n", "100")
    assert WHY in listed
    assert "; 1 request, the last" in listed
    run(region, "reviews", "decide", str(number), "--not-justified", "--note", "nie było zagrożenia", "--by", "iod")
    reviews = json.loads(run(region, "reviews", "list", "--all", "--json"))
    [decided] = [r for r in reviews if r["review_id"] == number]
    assert (decided["justified"], decided["decided_by"], decided["patient"]) == (False, "iod", world.logical)
    again = CliRunner().invoke(
        app,
        [
            "access",
            "reviews",
            "decide",
            str(number),
            "--justified",
            "--note",
            "zbyt późno",
            "--settings",
            region.endpoints["settings"],
        ],
    )
    assert again.exit_code != 0

    printed = run(region, "log", "--patient", world.logical)
    assert f"{RESCUER['person_name']} ({RESCUER['person']})" in printed
    assert "threat to life" in printed
    assert f"{region.repository}  this node: 4 submissions" in printed
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    run(
        region, "withhold", RESCUER["person"], "--patient", world.logical, "--until", tomorrow,
        "--reason", "groźby pod adresem ratowniczki", "--by", "iod",
    )  # fmt: skip
    unsaid = (
        "access",
        "withhold",
        "1.2#77",
        "--until",
        tomorrow,
        "--reason",
        "x",
        "--settings",
        region.endpoints["settings"],
    )
    assert CliRunner().invoke(app, unsaid).exit_code == 2
    patient = callers(own(world))
    events = json.dumps(log(patient, world))
    assert RESCUER["person_name"] not in events
    assert RESCUER["person"].partition("#")[2] not in events
    assert "name withheld" in events
    assert RESCUER["person_name"] not in run(region, "log", "--patient", world.logical)
    with world.node_connection() as connection:  # when it ends, the name is shown again
        connection.execute("UPDATE access_withheld SET until = now()")
    assert RESCUER["person_name"] in json.dumps(log(patient, world))
