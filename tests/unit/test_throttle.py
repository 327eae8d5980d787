"""Who asks too often, or fails too often, has to wait; an emergency does not."""

from __future__ import annotations

import pytest

from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.edges.asgi import admitted
from obieg.edges.throttle import FAILURES_FREE, PAUSE_MAX_S, PAUSE_OF_KNOWN_MAX_S, Throttle
from obieg.protocol import Credentials

CALLER = Credentials(address="10.1.1.1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Proof:
    """Takes or refuses, as it is told."""

    def __init__(self, **requester: str) -> None:
        self.good = True
        self.requester = Requester(**{"system": "his", **requester})

    async def authenticate(self, credentials: Credentials) -> Requester:
        if not self.good:
            raise Problem.of("AuthenticationFailed", "prove who you are")
        return self.requester


def throttle(clock: Clock, rate: float = 10, of_person: float = 2) -> Throttle:
    return Throttle(requests_per_second=rate, person_requests_per_second=of_person, clock=clock)


async def code(proof: Proof, by: Throttle, shown: Credentials = CALLER) -> str:
    try:
        requester = await admitted(proof, by, shown)
    except Problem as problem:
        return problem.findings[0].code
    return requester.remark or "taken"


@pytest.mark.parametrize(("who", "most"), [({"organisation": "o"}, 20), ({"person": "p"}, 4)])
async def test_rates(who: dict[str, str], most: int) -> None:
    clock = Clock()
    by, proof = throttle(clock), Proof(**who)
    found = [await code(proof, by) for _ in range(most + 1)]
    assert found == ["taken"] * most + ["TooManyRequests"]
    assert await code(Proof(**dict.fromkeys(who, "another"), system="another"), by) == "taken"
    clock.now += 1
    assert [await code(proof, by) for _ in range(most // 2 + 1)][-2:] == ["taken", "TooManyRequests"]


async def test_emergency_passes_and_is_flagged() -> None:
    by, proof = throttle(Clock(), of_person=1), Proof(person="p", purpose_of_use="BTG")
    found = [await code(proof, by) for _ in range(5)]
    assert found == ["taken"] * 2 + ["emergency access in spite of a rate limit"] * 3


async def test_failures_make_wait_longer_and_longer() -> None:
    clock = Clock()
    by, proof = throttle(clock), Proof()
    proof.good = False
    assert {await code(proof, by) for _ in range(FAILURES_FREE + 1)} == {"AuthenticationFailed"}
    assert await code(proof, by) == "TooManyRequests"
    proof.good = True
    assert await code(proof, by) == "TooManyRequests", "what is right is not told from what is wrong meanwhile"
    assert await code(Proof(purpose_of_use="ETREAT"), by) == "emergency access in spite of a pause"
    assert await code(proof, by, Credentials(address="10.1.1.2")) == "taken", "another caller"
    clock.now += PAUSE_MAX_S
    assert await code(proof, by) == "taken"
    proof.good = False
    assert await code(proof, by) == "AuthenticationFailed", "who has proved it begins anew"


async def test_an_organisation_is_only_slowed() -> None:
    clock = Clock()
    by, proof = throttle(clock), Proof()
    known = Credentials(address="10.1.1.1", certificate=b"der")
    proof.good = False
    for _ in range(100):
        await code(proof, by, known)
    proof.good = True
    clock.now += PAUSE_OF_KNOWN_MAX_S
    assert await code(proof, by, known) == "taken"
