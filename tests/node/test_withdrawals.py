"""A withdrawn consent holds from its acknowledgement on: readers and withdrawals at once, and workers that are killed.

``OBIEG_WITHDRAWAL_OPERATIONS=100000`` runs as many operations; without it as many as some seconds allow.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from base64 import urlsafe_b64encode
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import httpx
import peer
import pytest

pytestmark = [pytest.mark.node, pytest.mark.slow]

OPERATIONS = int(os.environ.get("OBIEG_WITHDRAWAL_OPERATIONS", "0"))
SECONDS = 12  # without a number of operations
PATIENTS, READERS, KILLS = 3, 2, 2
FOREVER_S = 60  # an operation that has not ended until then is an error
NPWZ, ENTITY = "2.16.840.1.113883.3.4424.1.6.2", "2.16.840.1.113883.3.4424.2.3.1"
READER = {
    "person": f"{NPWZ}#2222222", "role": "medical-doctor", "organisation": f"{ENTITY}#000000002", "purpose_of_use": "TREAT",
}  # fmt: skip
CLERK = {**READER, "person": f"{NPWZ}#3333333", "role": "administrative-employee"}


class Operation(NamedTuple):
    """Something that was asked, from just before it was sent until its answer was there."""

    begin: float
    end: float
    open: bool  # a write: whether the consent is in force from now on; a read: whether the document was shown


# the checker ---------------------------------------------------------------------------------------------------------


def stale(writes: Sequence[Operation], reads: Sequence[Operation]) -> list[Operation]:
    """The reads that no order of all operations explains; ``writes`` are those of one writer, in order.

    A read may have met any state whose write had begun before the read ended, but none older than what was acknowledged
    before it began, nor than what a read had met that ended before it began. Each takes the oldest that it may: that
    leaves most to those after it.
    """
    found = []
    ended: list[tuple[float, int]] = []  # ends of reads, and the newest state that any had met that ended so early
    acknowledged = [write.end for write in writes]
    waiting: list[tuple[float, int]] = []
    for read in sorted(reads):
        waiting.sort()
        while waiting and waiting[0][0] < read.begin:
            end, state = waiting.pop(0)
            ended.append((end, max(state, ended[-1][1] if ended else 0)))
        least = max(bisect_left(acknowledged, read.begin) - 1, ended[-1][1] if ended else 0)
        begun = (n for n in range(max(least, 0), len(writes)) if writes[n].begin <= read.end)
        state = next((n for n in begun if writes[n].open == read.open), None)
        if state is None:
            found.append(read)
        else:
            waiting.append((read.end, state))
    return found


def _operations(*given: tuple[float, float, int]) -> list[Operation]:
    return [Operation(begin, end, bool(state)) for begin, end, state in given]


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ([(0.5, 0.9, 0)], 0),  # nothing was granted yet
        ([(1.2, 1.4, 0), (1.5, 1.6, 1), (2.5, 2.6, 1)], 0),  # while it is granted either, then shown
        ([(2.5, 2.6, 0)], 1),  # granted, and not shown
        ([(3.2, 3.3, 1), (3.4, 3.5, 0)], 0),  # while it is withdrawn either
        ([(3.2, 3.3, 0), (3.4, 3.5, 1)], 1),  # but not back
        ([(3.2, 3.5, 0), (3.4, 3.6, 1)], 0),  # unless they were asked at once
        ([(4.5, 4.6, 1)], 1),  # after the acknowledgement
        ([(3.9, 4.6, 1)], 0),  # began before it
        ([(4.5, 5.5, 1)], 0),  # granted anew
    ],
)
def test_the_checker(reads: list[tuple[float, float, int]], expected: int) -> None:
    writes = _operations((0, 0, 0), (1, 2, 1), (3, 4, 0), (5, 6, 1))
    assert len(stale(writes, _operations(*reads))) == expected


# the node ------------------------------------------------------------------------------------------------------------


def _client(who: dict[str, str]) -> httpx.Client:
    said = urlsafe_b64encode(json.dumps(who).encode()).decode()
    # No connection is kept: each request may meet any worker.
    return httpx.Client(timeout=20, headers={"Cookie": f"who={said}"}, limits=httpx.Limits(max_keepalive_connections=0))


def _consent(logical: str, authority: str, *, active: bool) -> dict[str, Any]:
    root, _, value = READER["person"].partition("#")
    return {
        "resourceType": "Consent",
        "status": "active" if active else "inactive",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"identifier": {"system": f"urn:oid:{authority}", "value": logical}},
        "dateTime": "2026-06-01",
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
        "provision": {
            "type": "permit",
            "actor": [
                {
                    "role": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]},
                    "reference": {"identifier": {"system": f"urn:oid:{root}", "value": value}},
                }
            ],
        },
    }  # fmt: skip


class Trial:
    """One patient with one document, whose consent comes and goes while others read."""

    def __init__(self, node: peer.Node, alive: Callable[[], bool]) -> None:
        self.alive = alive
        self.authority = node.endpoints["assigning_authority"]
        self.base = node.endpoints["fhir"]
        patient = node.patient()
        self.logical = patient.partition("^")[0]
        entry = node.entry(patient, confidentiality=[node.codes("confidentialityCode")])
        node.provided(node.submission(patient, entry))
        self.trace = entry.unique_id
        self.writes: list[Operation] = [Operation(0, 0, False)]
        self.reads: list[Operation] = []
        self.failed: list[str] = []
        with _client(CLERK) as client:
            made = client.post(
                f"{self.base}/Consent", json=_consent(self.logical, self.authority, active=False), headers=_JSON
            )
        assert made.status_code == 201, made.text
        self.consent = made.json()

    def write(self) -> None:
        """Grants and withdraws in turn; what was not acknowledged is said again until it is."""
        with _client(CLERK) as client:
            while self.alive():
                active = not self.writes[-1].open
                said = {**self.consent, "status": "active" if active else "inactive"}
                begin = time.monotonic()
                if self._repeated(
                    lambda said=said: client.put(f"{self.base}/Consent/{said['id']}", json=said, headers=_JSON)
                ):  # type: ignore[misc]
                    self.writes.append(Operation(begin, time.monotonic(), active))
                    time.sleep(random.uniform(0, 0.02))

    def read(self) -> None:
        with _client(READER) as client:
            address = f"{self.base}/DocumentReference"
            asked = {"patient.identifier": f"urn:oid:{self.authority}|{self.logical}", "status": "current"}
            while self.alive():
                begin = time.monotonic()
                try:
                    answer = client.get(address, params=asked)
                except httpx.HTTPError:
                    continue  # its worker was killed
                if answer.status_code in (429, 503):
                    continue
                if answer.status_code != 200:
                    self.failed.append(answer.text[:500])
                    return
                self.reads.append(Operation(begin, time.monotonic(), self.trace in answer.text))

    def _repeated(self, ask: Callable[[], httpx.Response]) -> bool:
        until = time.monotonic() + FOREVER_S
        while time.monotonic() < until:
            try:
                answer = ask()
            except httpx.HTTPError:
                continue
            if answer.status_code == 200:
                return True
            if answer.status_code not in (409, 412, 429, 503):
                break
        self.failed.append("a consent was not changed")
        return False


_JSON = {"Content-Type": "application/fhir+json"}


def test_no_answer_is_stale(make_node: peer.MakeNode) -> None:
    node = make_node("withdrawals", module="access_node", access={"enforced": True}, workers=3)
    began = time.monotonic()
    trials: list[Trial] = []

    def done() -> int:
        return sum(len(trial.reads) + len(trial.writes) for trial in trials)

    def alive() -> bool:
        if any(trial.failed for trial in trials):
            return False
        return done() < OPERATIONS if OPERATIONS else time.monotonic() < began + SECONDS

    trials += [Trial(node, alive) for _ in range(PATIENTS)]
    began = time.monotonic()
    threads = [
        threading.Thread(target=act)
        for trial in trials
        for act in (trial.write, *[trial.read] * READERS)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    killed = 0
    while alive():
        time.sleep(SECONDS / (KILLS + 1) if not OPERATIONS else 10)
        workers = node.workers()
        if alive() and workers:
            os.kill(random.choice(workers), signal.SIGKILL)
            killed += 1
    for thread in threads:
        thread.join(FOREVER_S)
    assert not any(thread.is_alive() for thread in threads)
    assert [trial.failed for trial in trials] == [[]] * PATIENTS
    assert killed >= KILLS
    for trial in trials:
        assert stale(trial.writes, trial.reads) == []
        # It was really seen to come and go.
        assert {read.open for read in trial.reads} == {True, False}
        assert len(trial.writes) > 5
    assert done() >= max(OPERATIONS, 100)
