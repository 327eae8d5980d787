"""DSUBm against a running node: who subscribes is told, in order, once the receiver is there, and nobody else is."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import fhir_peer
import peer
import psycopg
import pytest
from fhir_peer import JSON, XML, FhirPeer, issues
from hooks import Hook, hook
from receivers import free_port

pytestmark = [pytest.mark.node, pytest.mark.slow]

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
TOPIC = "https://profiles.ihe.net/ITI/DSUBm/SubscriptionTopic/DSUBm-SubscriptionTopic-"


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode) -> peer.Node:
    return make_node("subscribing")


@pytest.fixture(scope="module")
def fhir(region: peer.Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(region) as found:
        yield found


@pytest.fixture(scope="module")
def receiver() -> Iterator[Hook]:
    with hook() as opened:
        yield opened


def logical(cx: str) -> str:
    return cx.partition("^")[0]


def subscription(
    endpoint: str,
    patient: str = "",
    *,
    topic: str = "DocumentReference-PatientDependent",
    more: str = "",
    content: str = "id-only",
    payload: str = JSON,
    **elements: Any,
) -> dict[str, Any]:
    kind = "List" if topic.startswith("SubmissionSet") else "DocumentReference"
    query = "&".join(filter(None, (f"patient=Patient/{logical(patient)}" if patient else "", more)))
    criteria = {"extension": [{"url": f"{BACKPORT}backport-filter-criteria", "valueString": f"{kind}?{query}"}]}
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "nowe dokumenty",
        "criteria": TOPIC + topic,
        **({"_criteria": criteria} if query else {}),
        "channel": {
            "type": "rest-hook",
            "endpoint": endpoint,
            "payload": payload,
            "_payload": {"extension": [{"url": f"{BACKPORT}backport-payload-content", "valueCode": content}]},
            "header": ["Authorization: Bearer tajne"],
        },
        **elements,
    }


def subscribed(fhir: FhirPeer, receiver: Hook, path: str, patient: str = "", **more: Any) -> str:
    """An active subscription; its id."""
    response = fhir.ask(
        "POST", "Subscription", json=subscription(receiver.url(path), patient, **more), headers={"Content-Type": JSON}
    )
    assert response.status_code == 201, response.text
    made = response.json()
    assert response.headers["location"] == f"{fhir.base}/Subscription/{made['id']}"
    peer.wait_for(lambda: fhir.get(f"Subscription/{made['id']}")["status"] == "active")
    return str(made["id"])


def ids_of(submission: peer.Submission) -> list[str]:
    return [e.id.removeprefix("urn:uuid:") for e in submission.entries]


def waiting(region: peer.Node, id_: str) -> int:
    return int(region.rows("SELECT count(*) FROM outbox WHERE destination = %s", f"subscription:{id_}")[0][0])


def test_a_new_document_is_told_with_its_resource(region, fhir, receiver):
    patient, other = region.patient(), region.patient()
    response = fhir.ask(
        "POST", "Subscription", json=subscription(receiver.url("full"), patient, content="full-resource")
    )
    assert response.status_code == 201
    made = response.json()
    assert made["status"] == "requested"
    end = datetime.fromisoformat(made["end"])
    assert timedelta(days=89) < end - datetime.now(UTC) < timedelta(days=91)
    [shake] = peer.wait_for(lambda: receiver.of("full"))
    fhir.check(_response(shake))
    assert (shake.kind, shake.status["status"], shake.status["events-since-subscription-start"]) == (
        "handshake",
        "requested",
        "0",
    )
    assert shake.status["subscription"]["reference"] == f"{fhir.base}/Subscription/{made['id']}"
    assert len(shake.bundle["entry"]) == 1
    assert shake.headers["authorization"] == "Bearer tajne"
    peer.wait_for(lambda: fhir.get(f"Subscription/{made['id']}")["status"] == "active")
    before = region.last_audit()
    region.registered(region.submission(other, region.entry(other)))
    sent = region.registered(region.submission(patient, region.entry(patient)))
    [got] = peer.wait_for(lambda: receiver.events("full"))
    fhir.check(_response(got))
    assert got.headers["content-type"] == JSON
    assert got.bundle["type"] == "history"
    assert got.bundle["meta"]["profile"] == [f"{BACKPORT}backport-subscription-notification-r4"]
    event = got.status["notification-event"]
    assert (got.status["events-since-subscription-start"], event["event-number"]) == ("1", "1")
    status, document = got.bundle["entry"]
    assert status["request"] == {"method": "GET", "url": f"{fhir.base}/Subscription/{made['id']}/$status"}
    assert document["fullUrl"] == event["focus"]["reference"] == f"{fhir.base}/DocumentReference/{ids_of(sent)[0]}"
    assert document["request"] == {"method": "POST", "url": "DocumentReference"}
    assert document["resource"] == fhir.get(f"DocumentReference/{ids_of(sent)[0]}")
    # Audited as the other notifications are: with whom it was about and where it went.
    peer.wait_for(lambda: any(t == "ITI-112" for _, t, _, _ in region.audits(before)))
    [(outcome, message)] = [(o, m) for _, t, o, m in region.audits(before) if t == "ITI-112"]
    assert outcome == 0
    assert logical(patient) in message
    assert receiver.url("full") in message
    assert ids_of(sent)[0] in message


def test_empty_id_only_and_xml(region, fhir, receiver):
    patient = region.patient()
    subscribed(fhir, receiver, "empty", patient, content="empty")
    subscribed(fhir, receiver, "ids", patient)
    subscribed(fhir, receiver, "xml", patient, content="full-resource", payload=XML)
    sent = region.registered(region.submission(patient, region.entry(patient)))
    [empty] = peer.wait_for(lambda: receiver.events("empty"))
    assert len(empty.bundle["entry"]) == 1
    assert ids_of(sent)[0].encode() not in empty.body
    [ids] = peer.wait_for(lambda: receiver.events("ids"))
    fhir.check(_response(ids))
    assert "resource" not in ids.bundle["entry"][1]
    assert ids.bundle["entry"][1]["fullUrl"].endswith(ids_of(sent)[0])
    [xml] = peer.wait_for(lambda: receiver.events("xml"))
    assert xml.headers["content-type"] == XML
    tree = fhir_peer.etree.fromstring(xml.body)
    assert tree.tag == "{http://hl7.org/fhir}Bundle"
    assert tree.xpath("//f:DocumentReference/f:id/@value", namespaces={"f": "http://hl7.org/fhir"}) == ids_of(sent)


def test_filters(region, fhir, receiver):
    patient = region.patient()
    wanted, unwanted = region.codes("typeCode", 0), region.codes("typeCode", 1)
    subscribed(fhir, receiver, "typed", patient, more=f"type={wanted[0]}&status=current")
    subscribed(fhir, receiver, "author", patient, more="author.family=nieznany")
    region.registered(region.submission(patient, region.entry(patient, type_code=unwanted)))
    sent = region.registered(region.submission(patient, region.entry(patient, type_code=wanted)))
    [got] = peer.wait_for(lambda: receiver.events("typed"))
    assert got.status["notification-event"]["focus"]["reference"].endswith(ids_of(sent)[0])
    assert receiver.events("author") == []


def test_submission_sets_and_everybody(region, fhir, receiver):
    patient, other = region.patient(), region.patient()
    one = subscribed(fhir, receiver, "sets", patient, topic="SubmissionSet-PatientDependent", more="code=submissionset")
    all_ = subscribed(fhir, receiver, "everybody", topic="DocumentReference-MultiPatient")
    sent = [region.registered(region.submission(p, region.entry(p))) for p in (patient, other)]
    [got] = peer.wait_for(lambda: receiver.events("sets"))
    fhir.check(_response(got))
    assert got.bundle["entry"][1]["fullUrl"].startswith(f"{fhir.base}/List/")
    peer.wait_for(lambda: len(receiver.events("everybody")) == 2)
    focus = {g.status["notification-event"]["focus"]["reference"][-36:] for g in receiver.events("everybody")}
    assert focus == {ids_of(s)[0] for s in sent}
    for id_ in (one, all_):
        assert fhir.ask("DELETE", f"Subscription/{id_}").status_code == 204
        assert fhir.ask("GET", f"Subscription/{id_}").status_code == 404


def test_a_replacement_is_new_and_the_replaced_changes_its_status(region, fhir, receiver):
    patient = region.patient()
    subscribed(fhir, receiver, "created", patient)
    subscribed(
        fhir, receiver, "changed", patient, topic="DocReference-PatientDependent-MinUpdate", content="full-resource"
    )
    old, new = region.entry(patient), region.entry(patient)
    region.registered(region.submission(patient, old))
    region.registered(region.submission(patient, new, associations=[peer.association("RPLC", new.id, old.id)]))
    peer.wait_for(lambda: len(receiver.events("created")) == 2)
    peer.wait_for(lambda: len(receiver.events("changed")) == 3)
    told = [
        (g.bundle["entry"][1]["request"]["method"], g.bundle["entry"][1]["fullUrl"][-36:])
        for g in receiver.events("changed")
    ]
    assert told[0] == ("POST", old.id[9:])
    assert sorted(told[1:]) == [("POST", new.id[9:]), ("PUT", old.id[9:])]
    assert [g.status["notification-event"]["event-number"] for g in receiver.events("changed")] == ["1", "2", "3"]
    changed = next(g for g in receiver.events("changed") if g.bundle["entry"][1]["request"]["method"] == "PUT")
    assert changed.bundle["entry"][1]["resource"]["status"] == "superseded"


def test_what_a_down_receiver_missed_comes_in_order_when_it_is_back(region, fhir):
    port, patient = free_port(), region.patient()
    with hook(port) as first:
        id_ = subscribed(fhir, first, "down", patient)
    sent = [region.registered(region.submission(patient, region.entry(patient))) for _ in range(4)]
    peer.wait_for(
        lambda: (
            "does not answer"
            in region.rows(
                "SELECT string_agg(last_error, ' ') FROM outbox WHERE destination = %s", f"subscription:{id_}"
            )[0][0]
        )
    )
    [status] = fhir.get(f"Subscription/{id_}/$status")["entry"]
    values = {p["name"]: p for p in status["resource"]["parameter"]}
    assert values["events-since-subscription-start"]["valueString"] == "4"
    assert values["type"]["valueCode"] == "query-status"
    with hook(port) as second:
        second.answer = lambda got: 503 if len(second.tried) == 2 else 200
        _due(region)
        peer.wait_for(lambda: len(second.events("down")) == 4 or _due(region), 60)
        told = [g.status["notification-event"] for g in second.events("down")]
    assert [t["event-number"] for t in told] == ["1", "2", "3", "4"]
    assert [t["focus"]["reference"][-36:] for t in told] == [ids_of(s)[0] for s in sent]
    peer.wait_for(lambda: waiting(region, id_) == 0)
    # What was told can be asked for again.
    bundle = fhir.get(f"Subscription/{id_}/$events", eventsSinceNumber="2", eventsUntilNumber="3")
    assert [e["fullUrl"][-36:] for e in bundle["entry"][1:]] == [ids_of(s)[0] for s in sent[1:3]]


def _due(region: peer.Node) -> bool:
    with psycopg.connect(region.dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE outbox SET next_attempt_at = now() WHERE leased_until IS NULL OR leased_until < now()"
        )
    return False


def test_a_killed_worker_loses_nothing(region, fhir, receiver):
    patient = region.patient()
    subscribed(fhir, receiver, "killed", patient)
    receiver.answer = lambda got: 503 if got.path == "/killed" else 200
    sent = region.registered(region.submission(patient, region.entry(patient)))
    for pid in region.workers():
        os.kill(pid, signal.SIGKILL)
    receiver.answer = lambda _got: 200
    with psycopg.connect(region.dsn, autocommit=True) as connection:
        connection.execute("UPDATE outbox SET leased_until = NULL, next_attempt_at = now()")
    got = peer.wait_for(lambda: receiver.events("killed"), 60)
    assert got[0].status["notification-event"]["focus"]["reference"].endswith(ids_of(sent)[0])
    assert {g.status["notification-event"]["event-number"] for g in got} == {"1"}


def test_after_its_end_nothing_is_sent(region, fhir, receiver):
    patient = region.patient()
    end = (datetime.now(UTC) + timedelta(seconds=8)).isoformat()
    id_ = subscribed(fhir, receiver, "ended", patient, end=end)
    receiver.answer = lambda got: 503 if got.path == "/ended" else 200
    region.registered(region.submission(patient, region.entry(patient)))
    peer.wait_for(lambda: fhir.get(f"Subscription/{id_}")["status"] == "off")
    receiver.answer = lambda _got: 200
    assert waiting(region, id_) == 0
    region.registered(region.submission(patient, region.entry(patient)))
    assert waiting(region, id_) == 0
    assert receiver.events("ended") == []


def test_switched_off_by_its_owner(region, fhir, receiver):
    patient = region.patient()
    id_ = subscribed(fhir, receiver, "switched", patient)
    found = fhir.get(f"Subscription/{id_}")
    stale = fhir.ask("PUT", f"Subscription/{id_}", json={**found, "status": "off"}, headers={"If-Match": 'W/"1"'})
    assert stale.status_code == 412
    response = fhir.ask("PUT", f"Subscription/{id_}", json={**found, "status": "off"})
    assert (response.status_code, response.json()["status"]) == (200, "off")
    region.registered(region.submission(patient, region.entry(patient)))
    assert waiting(region, id_) == 0
    assert fhir.get("Subscription", status="off", _id=id_)["total"] == 1


def test_who_does_not_shake_hands_is_in_error(region, fhir, receiver):
    patient = region.patient()
    receiver.answer = lambda got: 404 if got.path == "/nobody" else 200
    response = fhir.ask("POST", "Subscription", json=subscription(receiver.url("nobody"), patient))
    id_ = response.json()["id"]
    peer.wait_for(lambda: fhir.get(f"Subscription/{id_}")["status"] == "error")
    assert "404" in fhir.get(f"Subscription/{id_}")["error"]
    region.registered(region.submission(patient, region.entry(patient)))
    assert region.rows("SELECT state::text FROM outbox WHERE destination = %s", f"subscription:{id_}") == [("D",)]
    receiver.answer = lambda got: 302 if got.path == "/redirecting" else 200
    response = fhir.ask("POST", "Subscription", json=subscription(receiver.url("redirecting"), patient))
    peer.wait_for(lambda: fhir.get(f"Subscription/{response.json()['id']}")["status"] == "error")
    assert receiver.of("elsewhere") == []
    receiver.answer = lambda _got: 200


def test_after_a_merge_it_is_about_both(region, fhir, receiver):
    survivor, subsumed = region.patient(), region.patient()
    subscribed(fhir, receiver, "survivor", survivor)
    subscribed(fhir, receiver, "subsumed", subsumed)
    region.registered(region.submission(subsumed, region.entry(subsumed)))
    peer.wait_for(lambda: len(receiver.events("subsumed")) == 1)
    assert region.feed("A40", survivor, subsumed) == "AA"
    region.registered(region.submission(survivor, region.entry(survivor)))
    peer.wait_for(lambda: len(receiver.events("survivor")) == 1)
    peer.wait_for(lambda: len(receiver.events("subsumed")) == 2)


def test_search(region, fhir, receiver):
    patient = region.patient()
    contact = {"contact": [{"system": "email", "value": "it@his.example"}]}
    ids = sorted(subscribed(fhir, receiver, f"search{n}", patient, **contact) for n in range(3))
    whole = fhir.both("GET", "Subscription", params={"patient": f"Patient/{logical(patient)}"}).json()
    assert [e["resource"]["id"] for e in whole["entry"]] == ids
    first = fhir.get("Subscription", patient=logical(patient), _count="2")
    assert (first["total"], len(first["entry"])) == (3, 2)
    following = next(link["url"] for link in first["link"] if link["relation"] == "next")
    assert [e["resource"]["id"] for e in fhir.http.get(following).json()["entry"]] == ids[2:]
    for parameters, count in (
        ({"url": receiver.url("search1")}, 1),
        ({"criteria": TOPIC + "DocumentReference-PatientDependent", "status": "active"}, 3),
        ({"topic": TOPIC + "SubmissionSet-PatientDependent"}, 0),
        ({"filter-criteria": f"patient=Patient/{logical(patient)}"}, 3),
        ({"payload": XML}, 0),
        ({"payload-type": "id-only", "type": "rest-hook"}, 3),
        ({"contact": "email|it@his.example"}, 3),
        ({"contact": "somebody@his.example"}, 0),
        ({"status": "error,off"}, 0),
    ):
        assert fhir.get("Subscription", patient=logical(patient), **parameters)["total"] == count, parameters
    statuses = fhir.get("Subscription/$status", id=ids[0])["entry"]
    assert len(statuses) == 1
    # fhir-kit-client creates, finds and reads.
    made = fhir.npm(
        base=fhir.base,
        call="create",
        argument={"resourceType": "Subscription", "body": subscription(receiver.url("kit"), patient)},
    )
    assert made["answer"]["status"] == "requested", made
    found = fhir.npm(
        base=fhir.base,
        call="search",
        argument={"resourceType": "Subscription", "searchParams": {"url": receiver.url("kit")}},
    )
    assert found["answer"]["total"] == 1


def test_topics(fhir):
    bundle = fhir.both("GET", "Basic", params={"code": "SubscriptionTopic", "status": "active"}).json()
    urls = {e["valueUri"] for r in bundle["entry"] for e in r["resource"]["extension"] if e["url"].endswith(".url")}
    assert {
        TOPIC + f"{kind}-{whose}"
        for kind in ("DocumentReference", "SubmissionSet")
        for whose in ("PatientDependent", "MultiPatient")
    } <= urls
    [one] = fhir.get("Basic", url=TOPIC + "SubmissionSet-MultiPatient")["entry"]
    filters = [
        p["valueString"]
        for e in one["resource"]["extension"]
        if e["url"].endswith("canFilterBy")
        for p in e["extension"]
        if p["url"] == "filterParameter"
    ]
    assert "patient" not in filters
    assert "sourceId" in filters
    assert fhir.get(f"Basic/{one['resource']['id']}") == one["resource"]
    statement = fhir.get("metadata")
    kinds = {r["type"]: {i["code"] for i in r["interaction"]} for r in statement["rest"][0]["resource"]}
    assert {"create", "read", "update", "delete", "search-type"} <= kinds["Subscription"]


@pytest.mark.parametrize(
    ("twist", "status", "issue"),
    [
        ({"criteria": "https://example.org/topic"}, 400, "Subscription.criteria"),
        ({"endpoint": "file:///etc/passwd"}, 422, "Subscription.channel.endpoint"),
        ({"endpoint": "https://user:secret@his.example/"}, 422, "Subscription.channel.endpoint"),
        ({"patient": "nikt-taki"}, 404, "Subscription.criteria.extension(filter-criteria): patient"),
        ({"end": "2001-01-01T00:00:00Z"}, 422, "Subscription.end"),
    ],
)
def test_what_is_refused(region, fhir, receiver, twist, status, issue):
    before = region.rows("SELECT count(*) FROM subscription")
    patient = twist.pop("patient", "") or region.patient()
    resource = subscription(twist.pop("endpoint", receiver.url("refused")), patient, **twist)
    response = fhir.ask("POST", "Subscription", json=resource)
    assert (response.status_code, issues(response)[0][2]) == (status, issue), response.text
    assert region.rows("SELECT count(*) FROM subscription") == before


def test_nothing_waits_where_nobody_subscribes(region):
    patient = region.patient()
    with psycopg.connect(region.dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM subscription")
        connection.execute("DELETE FROM outbox")
    region.registered(region.submission(patient, region.entry(patient)))
    assert region.rows("SELECT count(*) FROM outbox") == [(0,)]


def _response(got: Any) -> Any:
    return fhir_peer.httpx.Response(200, content=got.body, headers={"content-type": got.headers["content-type"]})


PUBLISHED = "https://profiles.ihe.net/ITI/DSUBm/StructureDefinition/IHE.DSUBm.ResourceBundle"
LISTS = "https://profiles.ihe.net/ITI/MHD/"
ELSEWHERE = "https://elsewhere.example/fhir"


def document_elsewhere(patient: str, code: str = "18842-5", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"use": "usual", "system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.616.9.1"},
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{logical(patient)}"},
        "content": [{"attachment": {"contentType": "text/plain", "url": f"{ELSEWHERE}/Binary/1", "title": "Żółć"}}],
        **more,
    }


def set_elsewhere(patient: str) -> dict[str, Any]:
    source = {
        "url": f"{LISTS}StructureDefinition/ihe-sourceId",
        "valueIdentifier": {"value": "urn:oid:1.2.616.2.1"},
    }
    return {
        "resourceType": "List",
        "extension": [source],
        "identifier": [{"use": "usual", "system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.616.9.20"}],
        "status": "current",
        "mode": "working",
        "code": {"coding": [{"system": f"{LISTS}CodeSystem/MHDlistTypes", "code": "submissionset"}]},
        "subject": {"reference": f"Patient/{logical(patient)}"},
        "date": "2026-03-01T11:00:00Z",
        "entry": [{"item": {"reference": f"{ELSEWHERE}/DocumentReference/d1"}}],
    }


def happened(resource: dict[str, Any], logical_id: str, method: str = "POST") -> dict[str, Any]:
    kind = resource["resourceType"]
    url = kind if method == "POST" else f"{kind}/{logical_id}"
    return {
        "fullUrl": f"{ELSEWHERE}/{kind}/{logical_id}",
        "resource": resource,
        "request": {"method": method, "url": url},
    }


def refusals(response: Any) -> dict[str, str]:
    return {i["details"]["coding"][0]["code"]: i["expression"][0] for i in response.json()["issue"]}


def publish(fhir: FhirPeer, *entries: dict[str, Any]) -> Any:
    bundle = {"resourceType": "Bundle", "meta": {"profile": [PUBLISHED]}, "type": "transaction", "entry": list(entries)}
    return fhir.ask("POST", "", json=bundle, headers={"Content-Type": JSON})


def test_what_happened_elsewhere_is_told(region, fhir, receiver):
    patient, other = region.patient(), region.patient()
    everything = {"topic": "DocReference-PatientDependent-AllEvents"}
    full = subscribed(fhir, receiver, "p-full", patient, content="full-resource", **everything)
    subscribed(fhir, receiver, "p-ids", patient, more="type=http://loinc.org|18842-5", **everything)
    subscribed(fhir, receiver, "p-empty", patient, content="empty")
    subscribed(fhir, receiver, "p-sets", patient, topic="SubmissionSet-PatientDependent", content="full-resource")
    subscribed(fhir, receiver, "p-xml", patient, content="full-resource", payload=XML)
    subscribed(fhir, receiver, "p-other", other)
    rows = region.rows("SELECT count(*) FROM document_entry")
    document, letter = document_elsewhere(patient), document_elsewhere(patient, "11488-4")
    before = region.last_audit()
    response = publish(fhir, happened(set_elsewhere(patient), "s1"), happened(document, "d1"), happened(letter, "d2"))
    assert response.status_code == 200, response.text
    fhir.check(response)
    answer = response.json()
    assert answer["type"] == "transaction-response"
    assert [(e["response"]["status"][:3], e["response"]["location"]) for e in answer["entry"]] == [
        ("201", f"{ELSEWHERE}/List/s1"),
        ("201", f"{ELSEWHERE}/DocumentReference/d1"),
        ("201", f"{ELSEWHERE}/DocumentReference/d2"),
    ]
    first, second = peer.wait_for(lambda: len(receiver.events("p-full")) == 2 and receiver.events("p-full"))
    fhir.check(_response(first))
    assert first.status["notification-event"]["focus"]["reference"] == f"{ELSEWHERE}/DocumentReference/d1"
    assert first.bundle["entry"][1] == {
        "fullUrl": f"{ELSEWHERE}/DocumentReference/d1",
        "resource": document,
        "request": {"method": "POST", "url": "DocumentReference"},
        "response": {"status": "201"},
    }
    assert second.bundle["entry"][1]["resource"] == letter
    [by_id] = peer.wait_for(lambda: receiver.events("p-ids"))
    assert by_id.status["notification-event"]["focus"]["reference"] == f"{ELSEWHERE}/DocumentReference/d1"
    assert "resource" not in by_id.bundle["entry"][1]
    empty = peer.wait_for(lambda: receiver.events("p-empty"))[0]
    assert b"elsewhere.example" not in empty.body
    [of_set] = peer.wait_for(lambda: receiver.events("p-sets"))
    assert of_set.bundle["entry"][1]["resource"] == set_elsewhere(patient)
    xml = peer.wait_for(lambda: len(receiver.events("p-xml")) == 2 and receiver.events("p-xml"))
    assert "Żółć".encode() in xml[0].body
    assert not receiver.events("p-other")
    assert region.rows("SELECT count(*) FROM document_entry") == rows  # nothing is stored as if it stood here
    [message] = [m for _, t, outcome, m in region.audits(before) if (t, outcome) == ("ITI-111", 0)]
    assert logical(patient) in message
    # what it was told can be asked for again
    events = fhir.get(f"Subscription/{full}/$events")
    assert [e.get("resource") for e in events["entry"][1:]] == [document, letter]
    # and later
    changed = document_elsewhere(patient, status="superseded")
    assert [
        e["response"]["status"][:3]
        for e in publish(fhir, happened(changed, "d1", "PUT"), happened(letter, "d2", "DELETE")).json()["entry"]
    ] == ["200", "201"]
    *_, update, removal = peer.wait_for(lambda: len(receiver.events("p-full")) == 4 and receiver.events("p-full"))
    assert update.bundle["entry"][1]["request"]["method"] == "PUT"
    assert removal.bundle["entry"][1]["request"]["method"] == "DELETE"
    assert "resource" not in removal.bundle["entry"][1]
    assert len(receiver.events("p-empty")) == 2  # its topic is of new documents only


def test_what_cannot_be_published_is_refused_as_a_whole(region, fhir, receiver):
    patient = region.patient()
    subscribed(fhir, receiver, "p-none", patient)
    good = happened(document_elsewhere(patient), "d1")
    unknown = happened(document_elsewhere("nieznany"), "d2")
    response = publish(fhir, good, unknown)
    assert response.status_code >= 400
    assert refusals(response) == {"XDSUnknownPatientId": "Bundle.entry[1].resource.subject"}
    other = region.patient()
    system, value = region.rows(
        "SELECT authority, value FROM patient_locator WHERE value = %s AND retired_at IS NULL", logical(other)
    )[0]
    both = {
        "reference": f"Patient/{logical(patient)}",
        "identifier": {"system": f"urn:oid:{system}", "value": value},
    }
    response = publish(fhir, good, happened(document_elsewhere(patient, subject=both), "d2"))
    assert refusals(response) == {"XDSPatientIdDoesNotMatch": "Bundle.entry[1].resource.subject"}
    assert publish(fhir, good).status_code == 200
    peer.wait_for(lambda: receiver.events("p-none"))
    assert len(receiver.events("p-none")) == 1
