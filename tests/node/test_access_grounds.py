"""On which bases an answer is given, with their ends, whatever is asked; and when one is given that shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import peer
import pytest
from lxml import etree
from test_access_enforced import (
    CLERK,
    PATIENT,
    QUESTIONS,
    READING,
    STRANGER,
    WHOLE,
    Caller,
    Nothing,
    Question,
    World,
    _get,
    _who,
)
from test_subscriptions import subscription

import hl7v3_messages as v3
from obieg.domain.access import Act, Facts, Settings, act_of, ask, needed
from obieg.domain.requester import Requester
from obieg.transactions import TRANSACTIONS

pytestmark = pytest.mark.node

BASIS = "authorised; until=2100-01-01T00:00:00Z"
VEIL_S = 0.025  # docs/access.md, Answers


class Friend(Caller):
    """Somebody whom a patient has authorised, for a time; asks about that patient."""

    def __init__(self, world: World) -> None:
        person = f"1.2.616.1#{peer.number()}"
        world.state("representative", {"person": person, "kind": "authorised", "period": WHOLE})
        super().__init__(world.node, {**PATIENT, "person": person})
        self.world = world
        self.identifier = f"urn:oid:{world.authority}|{world.logical}"
        self.living = f'<value root="{world.authority}" extension="{world.logical}"/>'

    def of_patient(self, path: str) -> httpx.Response:
        return self.get(f"Patient/{self.world.logical}/{path}")

    def post(self, path: str, **body: Any) -> httpx.Response:
        headers = {"Content-Type": "application/fhir+json"}
        return self.node.http.post(f"{self.world.base}/{path}", json=body, headers=headers)

    def v3(self, key: str, message: str, action: str = "") -> httpx.Response:
        return self.soap(key, message, action or f"{v3.NS}:{etree.QName(etree.fromstring(message)).localname}")


def _discovered(friend: Friend) -> httpx.Response:
    known = (("livingSubjectId", friend.living), v3.value_name("KOWALSKA", "ANNA"), v3.born("19800101"))
    return friend.v3("xcpd", v3.candidates_query(*known), v3.XCPD_ACTION)


def _matched(friend: Friend) -> httpx.Response:
    system, _, value = friend.identifier.partition("|")
    return friend.post("Patient/$match", resourceType="Patient", identifier=[{"system": system, "value": value}])


# What is asked by a basis and reads no documents.
ACTING: dict[str, Callable[[Friend], httpx.Response]] = {
    "ITI-45": lambda f: f.v3("pix_v3", v3.pix_query(f.living)),
    "ITI-47": lambda f: f.v3("pdq_v3", v3.candidates_query(("livingSubjectId", f.living))),
    "ITI-55": _discovered,
    "ITI-78": lambda f: f.get(f"Patient/{f.world.logical}"),
    "ITI-83": lambda f: f.get(f"Patient/$ihe-pix?sourceIdentifier={f.identifier}"),
    "ITI-108": lambda f: f.get(f"Consent?patient.identifier={f.identifier}"),
    "ITI-119": _matched,
    "OBIEG-2": lambda f: f.of_patient("$access-log"),
    "OBIEG-4": lambda f: f.get("Patient/$represented"),
    "OBIEG-5": lambda f: f.of_patient("$notices"),
    "OBIEG-6": lambda f: f.of_patient("$access-reviews"),
    "OBIEG-7": lambda f: f.of_patient("$shared-links"),
    "OBIEG-10": lambda f: f.of_patient("$messages"),
    "OBIEG-15": lambda f: f.of_patient("$representatives"),
}
# HL7 v2 has no place for it, and proves nobody to be a person; for a code staff ask, who need no basis. By themselves are
# asked: own documents (test_own_documents_node.py: codes of the region) and prints at the counter (test_pages_work.py:
# sessions).
WITHOUT = {"ITI-9", "ITI-21", "ITI-22", "OBIEG-3", "OBIEG-9", "OBIEG-16"}


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode) -> peer.Node:
    return make_node("grounds", module="access_node", access={"enforced": True})


@pytest.fixture(scope="module")
def friend(region: peer.Node) -> Iterator[Friend]:
    caller = Friend(World(region))
    yield caller
    caller.node.close()


def test_every_transaction_that_takes_a_basis_is_asked_here() -> None:
    anybody = ask(Requester(system="", person="1.2#3", role="patient"), Facts(()), datetime.now(UTC), Settings())
    acts = {t.id: act_of(t.permission) for t in TRANSACTIONS}
    taking = {id_ for id_, act in acts.items() if act is Act.HANDOUT or needed(act, anybody)}
    assert taking == {*ACTING, *WITHOUT, *READING}


@pytest.mark.parametrize("transaction", [*ACTING, *sorted(QUESTIONS)])
def test_an_answer_and_its_record_name_the_bases_with_their_ends(transaction: str, friend: Friend) -> None:
    world = friend.world
    asked: list[Callable[[], httpx.Response]]
    if transaction in ACTING:
        asked = [lambda: ACTING[transaction](friend)]
    else:
        asked = [lambda question=question: question(friend, world, False) for question in QUESTIONS[transaction]]  # type: ignore[misc]
    for number, question in enumerate(asked):
        before = world.node.last_audit()
        answer = question()
        assert answer.status_code in (200, 201), (number, answer.text)
        assert answer.headers.get("x-obieg-access") == BASIS, (number, answer.text)
        records = [message for _, made_by, _, message in world.node.audits(before) if made_by == transaction]
        assert any(f"access: {BASIS}" in message for message in records), (number, records)


def test_consents_of_several_patients_are_answered_by_the_bases_of_all(friend: Friend) -> None:
    other = Friend(World(friend.world.node))
    person = {"person": friend.who["person"], "kind": "guardian", "period": {}}
    other.world.state("representative", person)
    found = friend.get(f"Consent?patient.identifier={friend.identifier},{other.identifier}")
    assert found.status_code == 200
    assert found.headers["x-obieg-access"] == BASIS, "the other patient is of age: a guardian is nobody to them"
    other.world.state("representative", {**person, "kind": "authorised"})
    found = friend.get(f"Consent?patient.identifier={friend.identifier},{other.identifier}")
    assert found.headers["x-obieg-access"] == "authorised", "for one of them it does not end"
    other.node.close()


# Who may see nothing of the patient: a doctor of elsewhere, a clerk, somebody else, who may not know of them either, and a
# doctor whose proof is good for another patient.
NOBODY = {
    "doctor": STRANGER,
    "clerk": CLERK,
    "person": {**PATIENT, "person": "1.2#3"},
    "limited": {**STRANGER, "patient": "1.2#4"},
}


@pytest.mark.parametrize("transaction", [*sorted(QUESTIONS), "ITI-83", "ITI-110"])
def test_what_shows_nothing_is_answered_when_all_such_answers_are(transaction: str, friend: Friend) -> None:
    """Of somebody who may not be read as of nobody; a clock that runs on makes the answer later, never earlier."""
    nothing = Nothing(friend.world)
    for name, who in NOBODY.items():
        if transaction == "ITI-83" and name != "person":
            continue  # staff may know who is a patient
        caller = Caller(friend.node, who)
        for number, question in enumerate(QUESTIONS.get(transaction) or [OTHERS[transaction]]):
            for world in (friend.world, nothing):
                answer = question(caller, world, False)  # type: ignore[arg-type]
                assert answer.elapsed.total_seconds() >= VEIL_S, (name, number, world is nothing, answer.text)
                assert "x-obieg-access" not in answer.headers, (name, number, world is nothing)
        caller.node.close()


def _subscribed(caller: Caller, world: World, _hidden: bool) -> httpx.Response:
    body = subscription("https://127.0.0.1:1/", world.patient)
    headers = {"Content-Type": "application/fhir+json"}
    return caller.node.http.post(f"{caller.node.endpoints['fhir']}/Subscription", json=body, headers=headers)


OTHERS: dict[str, Question] = {
    "ITI-83": _get(lambda w, _: f"Patient/$ihe-pix?sourceIdentifier={_who(w)}"),
    "ITI-110": _subscribed,
}
