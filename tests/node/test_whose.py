"""Whose something is: to everybody else a subscription, a Consent, and what a Consent refers to are as if not there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import peer
import pytest
from test_access_enforced import CLERK, PATIENT, STRANGER, Caller, World, _bare
from test_access_grounds import VEIL_S
from test_emergency import JSON, parameters
from test_subscriptions import subscription

pytestmark = pytest.mark.node

RECEIVER = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]
}  # Consent.provision.actor.role


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode) -> peer.Node:
    return make_node("whose", module="access_node", access={"enforced": True})


@pytest.fixture(scope="module")
def world(region: peer.Node) -> World:
    return World(region)


@pytest.fixture(scope="module")
def other(region: peer.Node) -> World:
    """Another patient, who is asked about by those of the world."""
    return World(region)


def acting(world: World, **more: Any) -> Caller:
    """The patient of a world."""
    return Caller(world.node, {**PATIENT, "person": f"{world.authority}#{world.logical}", **more})


def limited(world: World) -> Caller:
    """A doctor whose proof is good for the patient of a world alone."""
    return Caller(world.node, {**STRANGER, "patient": f"{world.authority}#{world.logical}"})


@pytest.fixture(scope="module")
def callers(world: World) -> Iterator[dict[str, Caller]]:
    found = {
        "patient": acting(world),
        "limited": limited(world),
        "clerk": Caller(world.node, CLERK),
        "doctor": Caller(world.node, STRANGER),
    }
    yield found
    for caller in found.values():
        caller.node.close()


def send(caller: Caller, method: str, path: str, body: Any = None) -> httpx.Response:
    address = f"{caller.node.endpoints['fhir']}/{path}"
    return caller.node.http.request(method, address, content=None if body is None else json.dumps(body), headers=JSON)


def expect_alike(one: httpx.Response, other: httpx.Response, *ids: str) -> None:
    """Two answers that differ in nothing but the ids that were asked for."""
    texts = []
    for answer in (one, other):
        text = answer.text
        for id_ in ids:
            text = text.replace(id_, "?")
        texts.append((answer.status_code, text))
    assert texts[0] == texts[1]


# subscriptions --------------------------------------------------------------------------------------------------------


def subscription_questions(body: dict[str, Any]) -> list[Callable[[Caller, str], httpx.Response]]:
    return [
        lambda c, id_: send(c, "GET", f"Subscription/{id_}"),
        lambda c, id_: send(c, "GET", f"Subscription/{id_}/$status"),
        lambda c, id_: send(c, "GET", f"Subscription/{id_}/$events"),
        lambda c, id_: send(c, "PUT", f"Subscription/{id_}", {**body, "id": id_, "status": "off"}),
        lambda c, id_: send(c, "DELETE", f"Subscription/{id_}"),
    ]


def test_a_subscription_is_of_the_person_who_made_it_by_that_system(world: World, other: World) -> None:
    """Two patients with one app do not read, list, switch off or delete each other's."""
    owner = acting(world, system="app", proof="oauth")
    body = subscription("http://127.0.0.1:9/x", world.patient)
    made = send(owner, "POST", "Subscription", body)
    assert made.status_code == 201, made.text
    id_, missing = made.json()["id"], str(uuid.uuid4())
    for caller in (
        acting(other, system="app", proof="oauth"),
        acting(other, system="app", proof="oauth", patient=f"{other.authority}#{other.logical}"),
        acting(world, system="another app", proof="oauth"),
        Caller(world.node, {**STRANGER, "system": "app"}),
        Caller(world.node, {**CLERK, "system": "app"}),
        Caller(world.node, {"system": "app", "proof": "certificate"}),
    ):
        for number, ask in enumerate(subscription_questions(body)):
            theirs, nobodys = ask(caller, id_), ask(caller, missing)
            assert theirs.status_code == 404, (caller.who, number, theirs.text)
            expect_alike(theirs, nobodys, id_, missing)
        for path in ("Subscription?status=requested,active,error,off", "Subscription/$status"):
            found = send(caller, "GET", path)
            assert found.status_code == 200, (path, found.text)
            assert id_ not in found.text
            assert world.logical not in found.text
        named = [send(caller, "GET", f"Subscription?_id={i}") for i in (id_, missing)]
        assert named[0].json()["total"] == 0
        expect_alike(*named, id_, missing)
        caller.node.close()
    again = acting(world, system="app", proof="oauth", role="patient", purpose_of_use="FAMRQT")
    assert send(again, "GET", f"Subscription/{id_}").json()["id"] == id_
    assert send(again, "GET", "Subscription?status=requested,active,error,off").json()["total"] == 1
    assert send(again, "DELETE", f"Subscription/{id_}").status_code == 204
    expect_alike(send(owner, "GET", f"Subscription/{id_}"), send(owner, "GET", f"Subscription/{missing}"), id_, missing)
    again.node.close()
    owner.node.close()


def test_several_subscriptions_of_one_system_are_listed_by_whose_they_are(world: World, other: World) -> None:
    """What each lists is their own, the system's among them."""
    who: list[dict[str, Any]] = [{"system": "shared", "proof": "certificate"}]
    who += [{**PATIENT, "person": f"{w.authority}#{w.logical}", "system": "shared"} for w in (world, other)]
    made = {}
    for number, each in enumerate(who):
        caller = Caller(world.node, each)
        subject = (
            {"patient": (world, other)[number - 1].patient} if number else {"topic": "DocumentReference-MultiPatient"}
        )
        answer = send(caller, "POST", "Subscription", subscription("http://127.0.0.1:9/x", **subject, **_more(number)))
        assert answer.status_code == 201, answer.text
        made[answer.json()["id"]] = caller
    for id_, caller in made.items():
        found = send(caller, "GET", "Subscription?status=requested,active,error,off").json()
        assert [entry["resource"]["id"] for entry in found["entry"]] == [id_]
        assert found["total"] == 1
        caller.node.close()


def _more(number: int) -> dict[str, str]:
    return {} if number else {"more": "status=current"}


# consents -------------------------------------------------------------------------------------------------------------


def consent(world: World, provision: dict[str, Any] | None = None, **elements: Any) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{world.logical}"},
        "dateTime": "2020-01-01",
        "policy": [{"uri": "urn:x"}],
        "provision": {"type": "deny", "purpose": [{"code": "HRESCH"}], **(provision or {})},
        **elements,
    }  # fmt: skip


def naming(kind: str, id_: str) -> dict[str, Any]:
    """A provision about an actor or a document."""
    reference = {"reference": f"{kind}/{id_}"}
    if kind == "DocumentReference":
        return {"data": [{"meaning": "instance", "reference": reference}]}
    if kind == "Encounter":
        return {"data": [{"meaning": "related", "reference": reference}]}
    return {"type": "permit", "actor": [{"role": RECEIVER, "reference": reference}]}


@pytest.mark.parametrize("who", ["patient", "limited"])
def test_a_consent_of_another_patient_is_answered_when_a_missing_one_is(
    who: str, world: World, other: World, callers: dict[str, Caller]
) -> None:
    owner, caller = acting(other), callers[who]
    made = send(owner, "POST", "Consent", consent(other))
    assert made.status_code == 201, made.text
    id_, missing = made.json()["id"], str(uuid.uuid4())
    questions: list[Callable[[str], httpx.Response]] = [
        lambda i: send(caller, "GET", f"Consent/{i}"),
        lambda i: send(caller, "GET", f"Consent/{i}/_history/1"),
        lambda i: send(caller, "GET", f"Consent/{i}/_history/9"),
        lambda i: send(caller, "GET", f"Consent?_id={i}"),
        lambda i: send(caller, "PUT", f"Consent/{i}", {**consent(world), "id": i}),
        lambda i: send(caller, "DELETE", f"Consent/{i}"),
    ]
    for number, ask in enumerate(questions):
        answers = [ask(i) for i in (id_, missing)]
        expect_alike(*answers, id_, missing)
        assert answers[0].status_code == 200 if number == 3 else 404, number
        for answer in answers:
            assert answer.elapsed.total_seconds() >= VEIL_S, (number, answer.text)
            assert "x-obieg-access" not in answer.headers
    own = send(caller, "POST", "Consent", consent(world)).json()["id"]
    for beside in (id_, missing):  # with one of their own, in whatever order
        for ids in (f"{own},{beside}", f"{beside},{own}"):
            mixed = send(caller, "GET", f"Consent?_id={ids}")
            assert [entry["resource"]["id"] for entry in mixed.json()["entry"]] == [own]
            assert mixed.elapsed.total_seconds() >= VEIL_S
    assert send(owner, "GET", f"Consent/{id_}").status_code == 200
    owner.node.close()


def test_a_code_to_consent_is_refused_alike_for_others_and_for_nobody(
    world: World, other: World, callers: dict[str, Caller]
) -> None:
    answers = []
    for id_ in (other.logical, peer.number()):
        answer = send(callers["limited"], "POST", f"Patient/{id_}/$consent-code", parameters())
        assert answer.status_code == 404, answer.text
        assert answer.elapsed.total_seconds() >= VEIL_S
        answers.append(answer.text.replace(id_, "?"))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("who", ["patient", "limited"])
def test_names_of_others_in_ones_own_consent_are_as_those_of_nobody(
    who: str, world: World, other: World, callers: dict[str, Caller]
) -> None:
    def two(first: str, second: str) -> dict[str, Any]:
        system = f"urn:oid:{world.authority}"
        named = {"reference": f"Patient/{first}", "identifier": {"system": system, "value": second}}
        return consent(world, patient=named)

    own = world.logical
    for id_ in (other.logical, peer.number()):
        for body in (two(own, id_), two(id_, own)):
            made = send(callers[who], "POST", "Consent", body)
            assert made.status_code == 201, made.text
            assert ("x-obieg-access" in made.headers) == (who == "patient"), "who records for others needs no basis"
            read = send(callers[who], "GET", f"Consent/{made.json()['id']}")
            assert read.json()["patient"] == body["patient"]
            moved = {**read.json(), "patient": {"reference": f"Patient/{id_}"}}
            refused = send(callers[who], "PUT", f"Consent/{moved['id']}", moved)
            assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (404, ["Consent.patient"])
            assert "no patient is known here by" in refused.text
    names = send(callers["clerk"], "POST", "Consent", two(own, other.logical))
    assert names.status_code == 400, "who may do it for both is told that they are two"
    assert "several patients" in names.text


@pytest.mark.parametrize("who", ["patient", "limited"])
def test_who_may_not_know_patients_names_them_as_nobody(
    who: str, world: World, other: World, callers: dict[str, Caller]
) -> None:
    missing = peer.number()
    answers = [
        send(callers[who], "POST", "Consent", consent(world, naming("Patient", id_)))
        for id_ in (other.logical, missing)
    ]
    expect_alike(*answers, other.logical, missing)
    assert answers[0].status_code == 400
    assert all(answer.elapsed.total_seconds() >= VEIL_S for answer in answers)
    denied = [
        send(callers[who], "POST", "Consent", consent(world, {**naming("Patient", id_), "type": "deny"}))
        for id_ in (other.logical, missing)
    ]
    expect_alike(*denied, other.logical, missing)  # refused for what it is, whoever it is
    assert denied[0].status_code == 422
    own = send(callers[who], "POST", "Consent", consent(world, naming("Patient", world.logical)))
    assert own.status_code == 201, own.text
    known = send(callers["clerk"], "POST", "Consent", consent(world, naming("Patient", other.logical)))
    assert known.status_code == 201, known.text
    assert send(callers["clerk"], "POST", "Consent", consent(world, naming("Patient", missing))).status_code == 400


def test_somebody_who_acts_for_two_may_name_both(world: World, other: World) -> None:
    person = f"1.2.616.1#{peer.number()}"
    for each in (world, other):
        each.state("representative", {"person": person, "kind": "authorised", "period": {}})
    both = Caller(world.node, {**PATIENT, "person": person})
    assert send(both, "POST", "Consent", consent(world, naming("Patient", other.logical))).status_code == 201
    both.node.close()


def test_a_patient_restricts_documents_of_their_own(world: World, other: World, callers: dict[str, Caller]) -> None:
    """Whichever of those linked with them they are of; what is no document of theirs is as if not there."""
    old = World(world.node)
    survivor = World(world.node)
    assert world.node.feed("A40", survivor.patient, old.patient) == "AA"
    caller = acting(survivor)
    for document in (survivor.shown, old.shown):
        made = send(caller, "POST", "Consent", consent(survivor, naming("DocumentReference", _bare(document))))
        assert made.status_code == 201, made.text
    missing = str(uuid.uuid4())
    for id_ in (_bare(other.shown), _bare(survivor.folder), missing, "nothing"):
        refused = send(caller, "POST", "Consent", consent(survivor, naming("DocumentReference", id_)))
        nobodys = send(caller, "POST", "Consent", consent(survivor, naming("DocumentReference", missing)))
        assert (refused.status_code, refused.json()["issue"][0]["code"]) == (400, "not-found")
        expect_alike(refused, nobodys, id_, missing)
    caller.node.close()


@pytest.mark.parametrize("who", ["clerk", "doctor", "limited"])
def test_others_are_not_told_which_documents_there_are(
    who: str, world: World, other: World, callers: dict[str, Caller]
) -> None:
    """They may name any: of one that is not the patient's nothing follows."""
    missing = str(uuid.uuid4())
    for id_ in (_bare(world.hidden), _bare(world.shown), _bare(world.folder), _bare(other.shown), missing):
        for status in ("active", "inactive"):
            body = consent(world, naming("DocumentReference", id_), status=status)
            made = send(callers[who], "POST", "Consent", body)
            assert made.status_code == 201, (id_, made.text)
            told = send(callers[who], "PUT", f"Consent/{made.json()['id']}", {**body, "id": made.json()["id"]})
            assert told.status_code == 200, (id_, told.text)
    malformed = send(callers[who], "POST", "Consent", consent(world, naming("DocumentReference", "nothing")))
    assert malformed.status_code == 400, "that is no name of a document at all"


def test_what_a_clerk_records_about_a_document_holds(region: peer.Node, callers: dict[str, Caller]) -> None:
    world = World(region)
    reader = acting(
        world, role="medical-doctor", purpose_of_use="TREAT", person="2.16.840.1.113883.3.4424.1.6.2#1111111"
    )
    id_ = _bare(world.shown)
    assert send(reader, "GET", f"DocumentReference/{id_}").status_code == 200
    body = consent(world, {**naming("DocumentReference", id_), "purpose": []})
    del body["provision"]["purpose"]
    assert send(callers["clerk"], "POST", "Consent", body).status_code == 201
    assert send(reader, "GET", f"DocumentReference/{id_}").status_code == 404
    reader.node.close()


def test_visits_of_others_are_as_if_not_there(world: World, other: World, callers: dict[str, Caller]) -> None:
    def visit(of: World) -> str:
        id_ = str(uuid.uuid4())
        resource = {"resourceType": "Encounter", "id": id_, "identifier": [{"system": "urn:oid:1.2.3", "value": id_}]}
        with of.node_connection() as connection:
            connection.execute(
                "INSERT INTO access_fact (patient_key, source, version, kind, facts, resource, recorded_at, recorded_by)"
                " SELECT patient_key, %s, 1, 'encounter', '[]', %s, now(), 'test' FROM patient_locator"
                " WHERE authority = %s AND value = %s",
                (f"Encounter/{id_}", json.dumps(resource), of.authority, of.logical),
            )
        return id_

    own, theirs, missing = visit(world), visit(other), str(uuid.uuid4())
    for who in ("patient", "clerk"):
        made = send(callers[who], "POST", "Consent", consent(world, naming("Encounter", own)))
        assert made.status_code == 201, made.text
        answers = [
            send(callers[who], "POST", "Consent", consent(world, naming("Encounter", i))) for i in (theirs, missing)
        ]
        assert answers[0].status_code == 400
        expect_alike(*answers, theirs, missing)
