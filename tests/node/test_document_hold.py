"""Holds of documents over FHIR: who makes and ends them, whom they hide from, and what they keep from being erased."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import peer
import pytest
from test_access_enforced import CLERK, DOCTOR, ENTITY, PATIENT, STRANGER, WHOLE, Caller, World, _bare
from test_emergency import JSON, parameters, rows

pytestmark = pytest.mark.node
OWN = f"Szpital^^^^^&{ENTITY}&ISO^^^^000000001"
COLLEAGUE = {**DOCTOR, "person": DOCTOR["person"] + "7", "role": "nurse"}
LATER = (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds")
WHY = "rozmowa z pacjentem przed udostępnieniem"


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode) -> peer.Node:
    return make_node("holds", module="access_node", access={"enforced": True})


class Ward(World):
    """A patient of whom DOCTOR's facility has written a document, with an addendum to it."""

    def __init__(self, node: peer.Node) -> None:
        super().__init__(node)
        self.own, self.added_to = self.written(node), self.written(node)
        node.provided(node.submission(self.patient, self.own))
        appended = [peer.association("APND", self.added_to.id, self.own.id)]
        node.provided(node.submission(self.patient, self.added_to, associations=appended))

    def written(self, node: peer.Node) -> Any:
        entry = self.entry(title="Własny")
        author = (
            f'<rim:Classification id="{peer.urn()}" classificationScheme="{peer.SCHEMES["author"]}"'
            f' classifiedObject="{entry.id}" nodeRepresentation="">{peer.slot("authorInstitution", OWN)}'
            "</rim:Classification>"
        )
        entry.authors = ()
        xml = entry.xml
        entry.xml = lambda: xml().replace("<rim:ExternalIdentifier", author + "<rim:ExternalIdentifier", 1)
        return entry


@pytest.fixture(scope="module")
def ward(region: peer.Node) -> Ward:
    return Ward(region)


@pytest.fixture
def callers(region: peer.Node) -> Iterator[Any]:
    made: list[Caller] = []

    def call(who: dict[str, str]) -> Caller:
        made.append(Caller(region, who))
        return made[-1]

    yield call
    for each in made:
        each.node.close()


def held(caller: Caller, entry: Any, kind: str = "protective", **given: str) -> httpx.Response:
    address = f"{caller.node.endpoints['fhir']}/DocumentReference/{_bare(entry)}/$hold"
    body = parameters(kind=kind, reason=given.pop("reason", WHY), **given)
    return caller.node.http.post(address, content=json.dumps(body), headers=JSON)


def ended(caller: Caller, entry: Any, hold: str) -> httpx.Response:
    address = f"{caller.node.endpoints['fhir']}/DocumentReference/{_bare(entry)}/$hold?hold={hold}"
    return caller.node.http.delete(address)


def listed(caller: Caller, entry: Any) -> list[dict[str, Any]]:
    answer = caller.get(f"DocumentReference/{_bare(entry)}/$holds")
    assert answer.status_code == 200, answer.text
    return [said(hold) for hold in answer.json().get("parameter", ())]


def said(hold: dict[str, Any]) -> dict[str, Any]:
    return {p["name"]: next(v for k, v in p.items() if k.startswith("value")) for p in hold["part"]}


def sees(caller: Caller, entry: Any) -> bool:
    return caller.get(f"DocumentReference/{_bare(entry)}").status_code == 200


def wrote(caller: Caller, ward: Ward, facility: str) -> tuple[int, str]:
    """The answer to the patient, or whoever acts for them, who writes to a facility."""
    address = f"{caller.node.endpoints['fhir']}/Patient/{ward.logical}/$send-message"
    body = parameters(facility=facility, subject="Pytanie")
    payload = {"resourceType": "Communication", "status": "completed", "payload": [{"contentString": "Czy?"}]}
    body["parameter"].append({"name": "text", "resource": payload})
    answer = caller.node.http.post(address, content=json.dumps(body), headers=JSON)
    return answer.status_code, re.sub("[0-9a-f]{8}-[0-9a-f-]{27}", "", answer.text)


def test_a_protective_hold_hides_from_the_patient_alone_until_it_ends(ward: Ward, callers: Any) -> None:
    authority, logical = ward.authority, ward.logical
    doctor, me = callers(DOCTOR), callers({**PATIENT, "person": f"{authority}#{logical}"})
    guardian = callers({**PATIENT, "person": "1.2.3#4"})
    ward.state("representative", {"person": "1.2.3#4", "kind": "authorised", "period": WHOLE})
    both = (ward.own, ward.added_to)
    assert [sees(me, e) for e in both] == [sees(guardian, e) for e in both] == [True, True]
    assert [wrote(c, ward, DOCTOR["organisation"])[0] for c in (me, guardian)] == [204, 204]
    answer = held(doctor, ward.own, until=LATER)
    assert answer.status_code == 201, answer.text
    [one] = map(said, answer.json()["parameter"])
    assert (one["id"], one["kind"], one["reason"], one["by"]) == ("protective", "protective", WHY, DOCTOR["person"])
    assert datetime.fromisoformat(one["until"]) == datetime.fromisoformat(LATER)
    assert [sees(me, e) for e in both] == [sees(guardian, e) for e in both] == [False, False]  # its lineage, too
    assert sees(me, ward.shown)
    for caller in (me, guardian):  # nor does it tell by whom they may write to
        assert wrote(caller, ward, DOCTOR["organisation"]) == wrote(caller, ward, STRANGER["organisation"])
        assert wrote(caller, ward, DOCTOR["organisation"])[0] == 422
    assert [sees(doctor, e) for e in both] == [True, True]
    [kept] = listed(callers(COLLEAGUE), ward.own)  # anybody of the facility
    assert kept == one
    again = held(callers(COLLEAGUE), ward.own, reason="wynik do omówienia osobiście", until=LATER)
    assert again.status_code == 200
    assert [h["reason"] for h in listed(doctor, ward.own)] == ["wynik do omówienia osobiście"]
    assert ended(doctor, ward.own, "protective").status_code == 204
    assert [sees(me, e) for e in both] == [True, True]
    assert wrote(guardian, ward, DOCTOR["organisation"])[0] == 204
    assert ended(doctor, ward.own, "protective").status_code == 404
    assert listed(doctor, ward.own) == []
    # A hold whose time has come is none.
    assert held(doctor, ward.own, until=LATER).status_code == 201
    with ward.node_connection() as connection:
        connection.execute(
            "UPDATE access_fact SET facts = jsonb_set(facts::jsonb, '{0,period,end}', to_jsonb(%s::text))::json"
            " WHERE source = %s AND superseded_at IS NULL",
            (datetime.now(UTC).isoformat(), f"Hold/{ward.own.id}"),
        )
    assert sees(me, ward.own)
    assert listed(doctor, ward.own) == []
    kinds = rows(
        ward, "SELECT kind, facts::text FROM access_fact WHERE source = %s ORDER BY version", f"Hold/{ward.own.id}"
    )
    assert [(kind, facts == "[]") for kind, facts in kinds] == [
        ("hold", empty) for empty in (False, False, True, False)
    ]


def test_of_what_is_held_the_patient_gets_no_notice(region: peer.Node, callers: Any) -> None:
    ward = Ward(region)
    ward.state("notices", True)
    doctor, me = callers(DOCTOR), callers({**PATIENT, "person": f"{ward.authority}#{ward.logical}"})

    def told() -> set[str]:
        answer = me.get(f"Patient/{ward.logical}/$notices")
        given = [said(each) for each in answer.json()["parameter"] if each["name"] == "notice"]
        return {str(notice["document"]) for notice in given if notice["kind"] == "document"}

    def added(to: Any) -> Any:
        entry = ward.written(region)
        appended = [peer.association("APND", entry.id, to.id)]
        region.provided(region.submission(ward.patient, entry, associations=appended))
        return entry

    first = added(ward.own)
    assert any(_bare(first) in each for each in told()), told()
    assert held(doctor, ward.own, until=LATER).status_code == 201
    before = told()
    assert not sees(me, added(ward.own))
    assert told() == before
    assert ended(doctor, ward.own, "protective").status_code == 204
    assert sees(me, added(ward.own))
    assert len(told()) == len(before) + 1


def test_only_whoever_wrote_it_and_as_if_it_were_not_there(ward: Ward, callers: Any) -> None:
    outsiders = [
        STRANGER,
        {**PATIENT, "person": f"{ward.authority}#{ward.logical}"},
        CLERK,
        {**DOCTOR, "organisation": ""},
    ]
    for who in outsiders:
        caller = callers(who)
        for answers in (
            [held(caller, e, until=LATER) for e in (ward.own, peer_of(ward))],
            [ended(caller, e, "protective") for e in (ward.own, peer_of(ward))],
            [caller.get(f"DocumentReference/{_bare(e)}/$holds") for e in (ward.own, peer_of(ward))],
        ):
            assert answers[0].status_code == answers[1].status_code >= 403, (who, answers[0].text)
            assert _without_ids(answers[0]) == _without_ids(answers[1])
    foreign = held(callers(DOCTOR), ward.shown, until=LATER)  # the doctor may read it, and did not write it
    assert foreign.status_code == 404
    late = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    assert held(callers(DOCTOR), ward.own, until=late).status_code == 422
    assert rows(ward, "SELECT 1 FROM access_fact WHERE source = %s", f"Hold/{ward.shown.id}") == []


def peer_of(ward: Ward) -> Any:
    """A document that nobody registered."""
    return ward.entry(title="Nikt")


def _without_ids(answer: httpx.Response) -> str:
    body = answer.json()
    return json.dumps([(i["code"], i.get("details")) for i in body["issue"]])


def test_a_legal_hold_keeps_from_erasure_until_it_is_withdrawn(ward: Ward, callers: Any) -> None:
    doctor, stranger = callers(DOCTOR), callers({**STRANGER, "organisation": DOCTOR["organisation"]})
    answer = held(doctor, ward.own, kind="legal", reason="sprawa IC 12/26")
    assert answer.status_code == 201, answer.text
    [legal] = map(said, answer.json()["parameter"])
    assert (legal["kind"], legal["organisation"]) == ("legal", DOCTOR["organisation"])
    assert "until" not in legal
    mark = "SELECT mark, reason, organisation, ended_by FROM retention_mark WHERE unique_id = %s ORDER BY mark_id"
    assert rows(ward, mark, ward.own.unique_id) == [("hold", "sprawa IC 12/26", DOCTOR["organisation"], None)]
    # What an operator of the node says is seen, and ended, by operators.
    with ward.node_connection() as connection:
        connection.execute(
            "INSERT INTO retention_mark (patient_key, unique_id, mark, reason, said_by) SELECT patient_key, unique_id,"
            " 'hold', 'sąd', 'root' FROM retention_mark WHERE unique_id = %s",
            (ward.own.unique_id,),
        )
    first, second = listed(doctor, ward.own)
    assert (first, second["by"]) == (legal, "root")
    assert ended(doctor, ward.own, second["id"]).status_code == 404
    assert ended(stranger, ward.own, legal["id"]).status_code == 204  # another of the same facility
    assert ended(doctor, ward.own, legal["id"]).status_code == 404
    assert [h["by"] for h in listed(doctor, ward.own)] == ["root"]
    assert rows(ward, mark, ward.own.unique_id)[0][3] == STRANGER["person"]
    assert ended(doctor, ward.own, "legal-x").status_code == 404


def test_it_stands_in_the_audit_and_not_its_reason(ward: Ward, callers: Any) -> None:
    doctor = callers(DOCTOR)
    since = ward.node.last_audit()
    assert held(doctor, ward.own, until=LATER, reason="bardzo tajny powód").status_code == 201
    assert "protective" in [h["id"] for h in listed(doctor, ward.own)]
    assert ended(doctor, ward.own, "protective").status_code == 204
    assert held(doctor, ward.shown, until=LATER).status_code == 404
    found = ward.node.rows(
        "SELECT transaction, outcome, patient_id, message FROM audit_event"
        " WHERE audit_id > %s AND transaction <> 'NOTICE' ORDER BY audit_id",  # which another test's documents may cause
        since,
    )
    assert [(t, o) for t, o, _, _ in found] == [("OBIEG-14", 0)] * 3 + [("OBIEG-14", 4)]
    assert [p for _, _, p, _ in found[:3]] == [ward.patient] * 3
    assert not [m for _, _, _, m in found if "tajny" in m]


def test_after_a_merge_it_goes_on(region: peer.Node, callers: Any) -> None:
    old, survivor = Ward(region), region.patient()
    doctor = callers(DOCTOR)
    region.feed("A40", survivor, old.patient)
    assert held(doctor, old.own, until=LATER).status_code == 201
    me = callers({**PATIENT, "person": f"{old.authority}#{survivor.partition('^')[0]}"})
    assert (sees(me, old.shown), sees(me, old.own)) == (True, False)
    assert ended(doctor, old.own, "protective").status_code == 204
    assert sees(me, old.own)
