"""Who is served when the audit is not sealed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from obieg.actors import sealing_gate
from obieg.actors.sealing_gate import REMARK, SealingGate, SealWatch
from obieg.domain.audit import Outcome
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.requester import Requester
from obieg.protocol import Context, Credentials
from obieg.transactions import TRANSACTIONS


class Someone:
    def __init__(self, purpose: str = "") -> None:
        self.purpose = purpose

    async def authenticate(self, credentials: Credentials) -> Requester:
        if self.purpose == "stranger":
            raise Problem.of("AuthenticationFailed", "no")
        return Requester(system="somebody", address=credentials.address, purpose_of_use=self.purpose)


class Age:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.asked = 0

    async def __call__(self) -> float:
        self.asked += 1
        return self.seconds


@pytest.fixture
def age(monkeypatch) -> Age:
    monkeypatch.setattr(sealing_gate, "_LOOK_OPEN_S", 0.0)
    monkeypatch.setattr(sealing_gate, "_LOOK_CLOSED_S", 0.0)
    return Age()


CALLER = Credentials(address="10.0.0.1")


async def test_closed_only_after_the_set_time_and_open_again_when_sealed(age):
    gate = SealingGate(Someone("TREAT"), SealWatch(age, fail_after_s=100))
    for seconds, served in ((0, True), (100, True), (100.1, False), (1e6, False), (3, True)):
        age.seconds = seconds
        if served:
            assert (await gate.authenticate(CALLER)).remark == ""
        else:
            with pytest.raises(RetryLater, match="not been sealed"):
                await gate.authenticate(CALLER)


@pytest.mark.parametrize("purpose", ["BTG", "ETREAT"])
async def test_an_emergency_passes_and_its_record_says_so(age, purpose):
    gate = SealingGate(Someone(purpose), SealWatch(age, fail_after_s=100))
    assert (await gate.authenticate(CALLER)).remark == ""
    age.seconds = 101
    requester = await gate.authenticate(CALLER)
    context = Context(transaction=TRANSACTIONS[0], requester=requester, request_id="1", received_at=datetime.now(UTC))
    assert context.audit().detail == REMARK
    assert context.audit(Outcome.MINOR_FAILURE, "XDSRegistryError").detail == f"XDSRegistryError; {REMARK}"


async def test_who_proves_nothing_is_refused_as_ever(age):
    age.seconds = 101
    with pytest.raises(Problem, match="AuthenticationFailed"):
        await SealingGate(Someone("stranger"), SealWatch(age, fail_after_s=100)).authenticate(CALLER)


async def test_the_database_is_not_asked_for_every_request():
    age = Age()
    gate = SealingGate(Someone(), SealWatch(age, fail_after_s=100))
    for _ in range(50):
        await gate.authenticate(CALLER)
    assert age.asked == 1
