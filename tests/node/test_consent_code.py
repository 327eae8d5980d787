"""Consent during a visit by a code: what it opens and for whom, three tries, ten minutes, five codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from mailbox import sms_gateway
from types import SimpleNamespace
from typing import Any

import httpx
import peer
import pytest
from test_access_enforced import CLERK, DOCTOR, STRANGER, Caller, World
from test_emergency import JSON, found, parameters, rows, said
from test_notices import KEY, reachable, texts

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def gateway() -> Iterator[SimpleNamespace]:
    with sms_gateway(KEY) as opened:
        yield opened


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode, gateway: SimpleNamespace) -> peer.Node:
    return make_node(
        "codes", module="access_node", access={"enforced": True}, notices={"sms_url": gateway.url, "sms_key": KEY}
    )


@pytest.fixture
def stranger(region: peer.Node) -> Iterator[Caller]:
    caller = Caller(region, STRANGER)
    yield caller
    caller.node.close()


@pytest.fixture
def patient(region: peer.Node) -> tuple[World, str]:
    """A world without restrictions whose patient has a mobile number."""
    number = f"51{int(peer.number()[1:]) % 10**7:07}"
    world = reachable(region, {"system": "phone", "value": number})
    with world.node_connection() as connection:
        connection.execute("DELETE FROM access_fact WHERE kind = 'consent' AND patient_key IN ("
                           "SELECT patient_key FROM patient_locator WHERE value = %s)", (world.logical,))  # fmt: skip
    return world, f"+48{number}"


def operate(caller: Caller, world: World, operation: str, **given: Any) -> httpx.Response:
    address = f"{world.base}/Patient/{world.logical}/${operation}"
    return caller.node.http.post(address, content=json.dumps(parameters(**given)), headers=JSON)


def code_of(gateway: SimpleNamespace, number: str) -> str:
    text = texts(gateway, number)[-1]
    [code] = re.findall(r"\b\d{6}\b", text)
    return str(code)


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06}"


def test_a_code_makes_a_consent_for_the_person(
    region: peer.Node, patient: tuple[World, str], stranger: Caller, gateway: SimpleNamespace
) -> None:
    world, number = patient
    asked = operate(stranger, world, "consent-code")
    assert asked.status_code == 202, asked.text
    assert found(stranger, world).json()["total"] == 0
    code, request = code_of(gateway, number), said(asked)["request"]
    assert code not in asked.text
    made = operate(stranger, world, "consent-confirm", request=request, code=f"{code[:3]} {code[3:]}")
    assert made.status_code == 201, made.text
    consent = made.json()
    period = consent["provision"]["period"]
    begin, end = (datetime.fromisoformat(period[n]) for n in ("start", "end"))
    assert end - begin == timedelta(hours=24)
    shown = found(stranger, world)
    assert shown.json()["total"] == 4
    assert shown.headers["x-obieg-access"].startswith("author,consent; until=")
    colleague = Caller(region, {**STRANGER, "person": STRANGER["person"] + "7"})
    assert found(colleague, world).json()["total"] == 0
    again = operate(stranger, world, "consent-confirm", request=request, code=code)
    assert again.status_code == 422  # a code is good once
    assert stranger.node.http.delete(f"{world.base}/Consent/{consent['id']}").status_code == 204
    assert found(stranger, world).json()["total"] == 0  # it is ended like any other
    kept = rows(world, "SELECT c::text FROM consent_code c WHERE code_id = %s::uuid", request)[0][0]
    assert code not in kept
    colleague.node.close()


def test_a_code_for_the_facility(
    region: peer.Node, patient: tuple[World, str], stranger: Caller, gateway: SimpleNamespace
) -> None:
    world, number = patient
    clerk = Caller(region, CLERK)  # the desk of the same facility
    asked = operate(clerk, world, "consent-code", scope="facility", hours=2)
    made = operate(clerk, world, "consent-confirm", request=said(asked)["request"], code=code_of(gateway, number))
    assert made.status_code == 201, made.text
    period = made.json()["provision"]["period"]
    assert datetime.fromisoformat(period["end"]) - datetime.fromisoformat(period["start"]) == timedelta(hours=2)
    assert found(stranger, world).json()["total"] == 4
    clerk.node.close()


def test_three_tries(patient: tuple[World, str], stranger: Caller, gateway: SimpleNamespace) -> None:
    world, number = patient
    request = said(operate(stranger, world, "consent-code"))["request"]
    code = code_of(gateway, number)
    for left in (2, 1, 0):
        refused = operate(stranger, world, "consent-confirm", request=request, code=wrong(code))
        assert refused.status_code == 422
        assert (f"{left} tries are left" in refused.text) == bool(left)
    assert operate(stranger, world, "consent-confirm", request=request, code=code).status_code == 422
    assert found(stranger, world).json()["total"] == 0


def test_who_else_and_when_too_late(
    region: peer.Node, patient: tuple[World, str], stranger: Caller, gateway: SimpleNamespace
) -> None:
    world, number = patient
    request = said(operate(stranger, world, "consent-code"))["request"]
    code = code_of(gateway, number)
    for who in (
        {**STRANGER, "person": STRANGER["person"] + "7"},
        {**STRANGER, "organisation": DOCTOR["organisation"]},
    ):
        other = Caller(region, who)
        assert operate(other, world, "consent-confirm", request=request, code=code).status_code == 422
        other.node.close()
    elsewhere = World(region)
    assert operate(stranger, elsewhere, "consent-confirm", request=request, code=code).status_code == 422
    with world.node_connection() as connection:
        connection.execute("UPDATE consent_code SET expires_at = now() WHERE code_id = %s::uuid", (request,))
    assert operate(stranger, world, "consent-confirm", request=request, code=code).status_code == 422
    assert rows(world, "SELECT tries FROM consent_code WHERE code_id = %s::uuid", request) == [(0,)]


def test_five_codes_within_an_hour(patient: tuple[World, str], stranger: Caller, gateway: SimpleNamespace) -> None:
    world, number = patient
    answers = [operate(stranger, world, "consent-code").status_code for _ in range(6)]
    assert answers == [202] * 5 + [429]
    assert len(texts(gateway, number)) == 5


def test_who_cannot_be_asked(region: peer.Node, patient: tuple[World, str], stranger: Caller) -> None:
    unreachable = World(region)
    assert operate(stranger, unreachable, "consent-code").status_code == 422
    world, _ = patient
    citizen = Caller(
        region, {"role": "patient", "person": f"{world.authority}#{world.logical}", "purpose_of_use": "PATRQT"}
    )
    assert operate(citizen, world, "consent-code").status_code == 403
    system = Caller(region, {})
    assert operate(system, world, "consent-code").status_code == 403
    assert operate(stranger, world, "consent-code", scope="everybody").status_code in (400, 422)
    assert operate(stranger, world, "consent-code", hours=25).status_code in (400, 422)
    world.logical = "nobody"
    assert operate(stranger, world, "consent-code").status_code == 404
    for caller in (citizen, system):
        caller.node.close()
