"""What patients and the officer are told outside the node: by e-mail, by SMS, again where it failed, and nothing medical."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from mailbox import Mailbox, mailbox, sms_gateway
from types import SimpleNamespace
from typing import Any

import fhir_peer
import httpx
import peer
import pytest
from test_access_enforced import Caller, World
from test_emergency import RESCUER, WHY, opened, rows

pytestmark = pytest.mark.node
KEY = "klucz-atrapy"
PORTAL = "https://portal.example/dziennik"


@pytest.fixture(scope="module")
def mail() -> Iterator[Mailbox]:
    with mailbox() as server:
        yield server


@pytest.fixture(scope="module")
def gateway() -> Iterator[SimpleNamespace]:
    with sms_gateway(KEY) as found:
        yield found


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode, mail: Mailbox, gateway: SimpleNamespace) -> peer.Node:
    notices = {
        "smtp_host": "127.0.0.1", "smtp_port": mail.port, "smtp_security": "none", "sender": "obieg@region.example",
        "officer_address": "iod@region.example", "sms_url": gateway.url, "sms_key": KEY, "portal_url": PORTAL,
    }  # fmt: skip
    return make_node("notices", module="access_node", access={"enforced": True}, notices=notices)


@pytest.fixture
def rescuer(region: peer.Node) -> Iterator[Caller]:
    caller = Caller(region, RESCUER)
    yield caller
    caller.node.close()


def reachable(region: peer.Node, *telecom: dict[str, str], language: str = "", born: str = "") -> World:
    """A world whose patient can be reached so."""
    world = World(region)
    resource: dict[str, Any] = {
        "resourceType": "Patient",
        "identifier": [{"system": f"urn:oid:{world.authority}", "value": world.logical}],
        "name": [{"family": "Lis"}],
        "telecom": list(telecom),
    }
    if born:
        resource["birthDate"] = born
    if language:
        resource["communication"] = [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": language}]}}]
    with fhir_peer.opened(region) as fhir:
        fhir.fed(resource)
    return world


def waited(look: Callable[[], list[Any]], count: int = 1) -> list[Any]:
    for _ in range(300):
        if len(found := look()) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{len(look())} of {count}")


def letters(mail: Mailbox, address: str) -> list[Any]:
    return [letter for letter in mail.letters if letter["To"] == address]


def texts(gateway: SimpleNamespace, number: str) -> list[str]:
    return [m["text"] for m in httpx.get(gateway.url).json() if m["to"] == number]


def test_by_email_and_the_officer_too(
    region: peer.Node, rescuer: Caller, mail: Mailbox, gateway: SimpleNamespace
) -> None:
    address = f"lis{peer.number()}@poczta.example"
    world = reachable(region, {"system": "email", "value": address}, {"system": "phone", "value": "512 345 678"})
    before = len(letters(mail, "iod@region.example"))
    assert opened(rescuer, world).status_code == 201
    [letter] = waited(lambda: letters(mail, address))
    assert letter["Subject"] == "Dostęp ratunkowy do Twojej dokumentacji"
    assert PORTAL in letter.get_content()
    officer = waited(lambda: letters(mail, "iod@region.example"), before + 1)[-1]
    review = rows(world, "SELECT review_id FROM access_review ORDER BY review_id DESC LIMIT 1")[0][0]
    assert officer["Subject"].endswith(f"nr {review}")
    secrets = (WHY, RESCUER["person"], RESCUER["person_name"], RESCUER["organisation"], world.logical, "Lis")
    for told in (letter, officer):
        assert not [secret for secret in secrets if secret in told.as_string() or secret in told.get_content()]
    assert texts(gateway, "+48512345678") == []  # one way is enough
    assert waited(lambda: [] if _waiting(world) else [True])


def _waiting(world: World) -> list[tuple[Any, ...]]:
    return rows(world, "SELECT destination, last_error FROM outbox WHERE destination IN ('patients', 'officer')")


def test_by_sms_in_the_language_of_the_patient(region: peer.Node, rescuer: Caller, gateway: SimpleNamespace) -> None:
    world = reachable(region, {"system": "phone", "value": "+48 601 234 567"}, language="uk")
    assert opened(rescuer, world).status_code == 201
    [text] = waited(lambda: texts(gateway, "+48601234567"))
    assert text == f"Хтось відкрив екстрений доступ до Вашої медичної документації. Хто і чому: {PORTAL}"


def test_what_failed_is_sent_again_and_once(region: peer.Node, rescuer: Caller, gateway: SimpleNamespace) -> None:
    world = reachable(region, {"system": "phone", "value": "602345678"})
    httpx.post(f"{gateway.base}/behaviour", json=[503])
    assert opened(rescuer, world).status_code == 201
    assert len(waited(lambda: texts(gateway, "+48602345678"))) == 1
    assert waited(lambda: [] if _waiting(world) else [True])


def test_what_is_refused_is_a_dead_letter_without_the_address(
    region: peer.Node, rescuer: Caller, mail: Mailbox
) -> None:
    address = f"nie{peer.number()}@poczta.example"
    world = reachable(region, {"system": "email", "value": address})
    waited(lambda: [] if _waiting(world) else [True])
    with world.node_connection() as connection:  # the officer is not to take the refusal
        connection.execute("DELETE FROM outbox")
    mail.refusals.append("550 no such user")
    world.state("notices", True)
    region.provided(region.submission(world.patient, world.entry(title="Nowa", content=b"nowa")))
    dead = waited(lambda: rows(world, "SELECT last_error FROM outbox WHERE state = 'D'"))
    assert dead == [("NotificationRefused: the mail server refuses the recipient: 550",)] or (
        "550" in dead[0][0] and address not in dead[0][0]
    )


def test_who_cannot_be_reached_has_the_notice_in_the_portal(region: peer.Node, rescuer: Caller) -> None:
    world = reachable(region, {"system": "phone", "value": "22 123 45 67"})
    assert opened(rescuer, world).status_code == 201
    assert waited(lambda: [] if [w for w in _waiting(world) if not w[1]] else [True])
    locator = "SELECT patient_key FROM patient_locator WHERE authority = %s AND value = %s"
    [(key,)] = rows(world, locator, world.authority, world.logical)
    assert rows(world, "SELECT kind, read_at FROM access_notice WHERE patient_key = %s", key) == [("emergency", None)]


def test_who_represents_a_child_is_told(
    region: peer.Node, rescuer: Caller, mail: Mailbox, gateway: SimpleNamespace
) -> None:
    addresses = [f"rodzic{peer.number()}@poczta.example" for _ in range(3)]
    mother, father = (reachable(region, {"system": "email", "value": a}) for a in addresses[:2])
    child = reachable(region, {"system": "email", "value": addresses[2]})
    with fhir_peer.opened(region) as fhir:
        fhir.fed(
            {
                "resourceType": "Patient",
                "identifier": [{"system": f"urn:oid:{child.authority}", "value": child.logical}],
                "name": [{"family": "Lis"}],
                "birthDate": "2019-04-02",
                "telecom": [{"system": "email", "value": addresses[2]}],
            }
        )
    period = {"begin": "2020-01-01T00:00:00Z"}
    guardians = [f"{w.authority}#{w.logical}" for w in (mother, father)]
    child.state(
        "representative",
        *({"person": g, "kind": "guardian", "period": period} for g in guardians),
        {"person": "1.2.3#4", "kind": "guardian", "period": period},  # who is no person here
    )
    child.state("notices", True)
    assert opened(rescuer, child).status_code == 201
    for address in addresses[:2]:
        [letter] = waited(lambda address=address: letters(mail, address))
        assert letter["Subject"] == "Dostęp ratunkowy do dokumentacji osoby, którą reprezentujesz"
        assert child.logical not in letter.as_string()
    region.provided(region.submission(child.patient, child.entry(title="Nowa", content=b"nowa")))
    for address in addresses[:2]:
        subjects = [each["Subject"] for each in waited(lambda address=address: letters(mail, address), 2)]
        assert subjects[1] == "Nowy dokument osoby, którą reprezentujesz"
    assert waited(lambda: [] if [w for w in _waiting(child) if not w[1]] else [True])
    assert letters(mail, addresses[2]) == []  # under 16
    # A mother who reads by herself is not told of it; the father is.
    reader = Caller(region, {"role": "patient", "purpose_of_use": "FAMRQT", "person": guardians[0]})
    assert reader.get(f"DocumentReference?patient=Patient/{child.logical}&status=current").json()["total"]
    reader.node.close()
    waited(lambda: letters(mail, addresses[1]), 3)
    assert waited(lambda: [] if [w for w in _waiting(child) if not w[1]] else [True])
    assert len(letters(mail, addresses[0])) == 2
