"""A facility that registers with a region elsewhere: every way in which the link between them can fail."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import peer
import pytest
from link_proxy import State
from pair import FACILITY_ADDRESS, HOSPITAL_REPOSITORY, STRANGER_ADDRESS, Pair, Process, Sent

pytestmark = pytest.mark.node
UNAVAILABLE = ["XDSRegistryNotAvailable"]


@pytest.fixture(autouse=True)
def _mended(pair: Pair) -> Iterator[None]:
    yield
    pair.link.state = State.UP


@pytest.fixture
def patient(pair: Pair) -> str:
    return pair.at_region().patient()


def some_bytes(size: int = 10_000) -> bytes:
    return os.urandom(size)


def audits(node: Process, sent: Sent, transaction: str, outcome: int = 0) -> int:
    """How many audit rows speak of the submission."""
    unique_id = sent.submission.unique_id
    return int(
        node.rows(
            "SELECT count(*) FROM audit_event WHERE transaction = %s AND outcome = %s AND message LIKE %s",
            transaction, outcome, f'%"{unique_id}"%',
        )[0][0]
    )  # fmt: skip


def assert_whole(pair: Pair, sent: Sent) -> None:
    """The submission is found once, whole, and its documents are fetched from the facility as they were."""
    region, facility, patient = pair.at_region(), pair.at_facility(), sent.submission.patient
    assert region.unique_ids(patient) == sent.unique_ids
    assert region.sets(patient) == [sent.submission.unique_id]
    answer = region.query("GetSubmissionSetAndContents", XDSSubmissionSetUniqueId=f"'{sent.submission.unique_id}'")
    assert len(answer.entries) == len(answer.associations) == len(sent.unique_ids)
    documents = facility.retrieve(*sent.unique_ids).documents
    for entry in sent.submission.entries:
        assert documents[entry.unique_id] == entry.content
    for entry in answer.entries:
        unique_id = peer.identifier_of(entry, "entryUnique")
        assert peer.slot_of(entry, "repositoryUniqueId") == [pair.facility_repository]
        assert peer.slot_of(entry, "hash") == [hashlib.sha1(documents[unique_id]).hexdigest()]


def assert_nowhere(pair: Pair, sent: Sent) -> None:
    assert pair.at_region().unique_ids(sent.submission.patient) == []
    assert pair.at_facility().retrieve(*sent.unique_ids).status == "Failure"


def test_submitted_here_found_there(pair: Pair, patient: str) -> None:
    sent = pair.at_facility().symbolic(patient, some_bytes(), some_bytes(3_000_000), b"")
    assert sent.send().status == "Success"
    assert_whole(pair, sent)
    assert audits(pair.facility, sent, "ITI-41") == 1
    assert audits(pair.region, sent, "ITI-42") == 1
    sent_on = pair.facility.rows(
        "SELECT outcome, patient_id FROM audit_event WHERE transaction = 'ITI-42' AND message LIKE %s",
        f'%"{sent.unique_ids[0]}"%',
    )
    assert sent_on == [(0, patient)], "who sends a registration plays a role of its own"


def test_only_a_bound_node_registers(pair: Pair, patient: str) -> None:
    stranger = pair.at_region(STRANGER_ADDRESS)
    submission = stranger.submission(patient, stranger.text(patient, b"x", repository=pair.facility_repository))
    assert stranger.register(submission).codes == ["XDSRegistryError"]
    facility = pair.at_region(FACILITY_ADDRESS)
    region = pair.region.endpoints["repository_uid"]
    for other in (HOSPITAL_REPOSITORY, region, peer.oid()):
        submission = facility.submission(patient, facility.text(patient, b"x", repository=other))
        assert facility.register(submission).codes == ["XDSRegistryMetadataError"]
    assert pair.at_region().unique_ids(patient) == []
    own = facility.submission(patient, facility.text(patient, b"x", repository=pair.facility_repository))
    assert facility.register(own).status == "Success"
    # Who knows a submission that is registered learns nothing by repeating it.
    assert stranger.register(own).status == "Failure"
    assert pair.at_region("127.0.0.3").register(own).status == "Failure"
    # The region's own repository takes in documents for itself, whoever of its nodes brings them.
    brought = pair.at_region().symbolic(patient, b"y")
    assert brought.send().status == "Success"


def test_while_the_link_is_down_nothing_shows(pair: Pair, patient: str) -> None:
    facility = pair.at_facility()
    pair.link.state = State.DOWN
    sent = facility.symbolic(patient, some_bytes(), some_bytes())
    assert sent.send().codes == UNAVAILABLE
    assert_nowhere(pair, sent)
    assert pair.facility.waiting() == 1
    pair.link.state = State.UP
    pair.settled()
    assert_whole(pair, sent)
    # Audited: the refusal, the registration that the node made by itself, and its arrival.
    assert sum(audits(pair.facility, sent, "ITI-41", outcome) for outcome in (4, 8, 12)) == 1
    exported = pair.facility.rows(
        "SELECT count(*) FROM audit_event WHERE transaction = 'ITI-42' AND outcome = 0 AND message LIKE %s",
        f'%"{sent.unique_ids[0]}"%',
    )
    assert exported == [(1,)]
    assert audits(pair.region, sent, "ITI-42") == 1


def test_a_lost_answer_makes_no_second_entry(pair: Pair, patient: str) -> None:
    pair.link.state = State.CUT_ANSWERS
    sent = pair.at_facility().symbolic(patient, some_bytes())
    before = pair.link.answers_cut
    assert sent.send().codes == UNAVAILABLE
    # The registry has committed, the repository does not know: registered already, and not yet retrievable.
    assert pair.at_region().unique_ids(patient) == sent.unique_ids
    assert pair.at_facility().retrieve(*sent.unique_ids).status == "Failure"
    peer.wait_for(lambda: pair.link.answers_cut >= before + 3)
    pair.link.state = State.UP
    pair.settled()
    assert_whole(pair, sent)
    assert audits(pair.region, sent, "ITI-42") >= 3, "every repetition is audited"


def test_a_lost_answer_of_a_replacement(pair: Pair, patient: str) -> None:
    """Repeated, a replacement finds what it replaces deprecated: by itself."""
    facility = pair.at_facility()
    first = facility.text(patient, some_bytes())
    assert facility.exactly(patient, first).send().status == "Success"
    entry = facility.text(patient, some_bytes())
    replacement = facility.exactly(patient, entry, associations=[peer.association("RPLC", entry.id, first.id)])
    pair.link.state = State.CUT_ANSWERS
    assert replacement.send().codes == UNAVAILABLE
    pair.link.state = State.UP
    pair.settled()
    assert pair.at_region().unique_ids(patient) == [entry.unique_id]
    assert facility.retrieve(entry.unique_id).documents == {entry.unique_id: entry.content}
    assert replacement.send().status == "Success"


def test_a_source_that_repeats_makes_one_submission(pair: Pair, patient: str) -> None:
    """Its symbols would get new UUIDs each time; the repository recognises the repetition."""
    sent = pair.at_facility().symbolic(patient, some_bytes(), some_bytes())
    pair.link.state = State.DOWN
    assert [sent.send().codes for _ in range(3)] == [UNAVAILABLE] * 3
    assert pair.facility.waiting() == 1
    pair.link.state = State.CUT_ANSWERS
    assert sent.send().codes == UNAVAILABLE
    pair.link.state = State.UP
    assert sent.send().status == "Success", "by the repetition itself, without waiting for the worker"
    assert pair.facility.waiting() == 0
    assert [sent.send().status for _ in range(3)] == ["Success"] * 3
    assert_whole(pair, sent)
    assert audits(pair.facility, sent, "ITI-41") == 4, "every acknowledged request is audited"


def test_the_same_request_on_many_connections_at_once(pair: Pair, patient: str) -> None:
    peers = [pair.at_facility() for _ in range(8)]
    sent = peers[0].symbolic(patient, some_bytes())
    for state, allowed in ((State.UP, {"Success"}), (State.CUT_ANSWERS, {"Failure"})):
        pair.link.state = state
        sent = peers[0].symbolic(one := pair.at_region().patient(), some_bytes())
        with ThreadPoolExecutor(len(peers)) as threads:
            answers = [answer.status for answer in threads.map(Sent.send, map(sent.by, peers))]
        assert set(answers) == allowed
        pair.link.state = State.UP
        pair.settled()
        assert pair.at_region().sets(one) == [sent.submission.unique_id]
        assert_whole(pair, sent)


def test_other_bytes_under_the_same_unique_id_are_refused(pair: Pair, patient: str) -> None:
    facility = pair.at_facility()
    entry = facility.text(patient, b"ein")
    assert facility.exactly(patient, entry).send().status == "Success"
    other = facility.text(patient, b"zwei", unique_id=entry.unique_id)
    assert facility.exactly(patient, other).send().codes == ["XDSNonIdenticalHash"]
    assert facility.retrieve(entry.unique_id).documents == {entry.unique_id: b"ein"}


def test_what_the_registry_refuses_is_discarded(pair: Pair) -> None:
    unknown = f"{peer.number()}^^^&{pair.region.endpoints['assigning_authority']}&ISO"
    facility = pair.at_facility()
    at_once = facility.symbolic(unknown, some_bytes())
    assert at_once.send().codes == ["XDSUnknownPatientId"]
    assert_nowhere(pair, at_once)
    pair.link.state = State.DOWN
    late = facility.symbolic(unknown, some_bytes())
    assert late.send().codes == UNAVAILABLE
    pair.link.state = State.UP
    pair.settled()
    assert_nowhere(pair, late)
    for sent in (at_once, late):
        assert pair.facility.rows(
            "SELECT count(*) FROM stored_document WHERE unique_id = ANY(%s)", sent.unique_ids
        ) == [(0,)]
    refused = pair.facility.rows(
        "SELECT message FROM audit_event WHERE transaction = 'ITI-42' AND outcome = 4 AND message LIKE %s",
        f'%"{late.unique_ids[0]}"%',
    )
    assert len(refused) == 1
    assert "XDSUnknownPatientId" in refused[0][0]
    # It was refused, so it is no repetition: once the patient is known it goes in.
    assert pair.at_region().feed("A04", unknown) == "AA"
    assert late.send().status == "Success"
    assert at_once.send().status == "Success"
    assert pair.at_region().unique_ids(unknown) == sorted(late.unique_ids + at_once.unique_ids)


def test_two_who_send_the_same_waiting_submission_at_once(pair: Pair) -> None:
    """Both are refused; only the refusal of whoever took it last counts, and nothing is left behind."""
    unknown = f"{peer.number()}^^^&{pair.region.endpoints['assigning_authority']}&ISO"
    first = pair.at_facility().symbolic(unknown, some_bytes())
    second = first.by(pair.at_facility())
    pair.link.state = State.STALLED
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(first.send)
        peer.wait_for(lambda: pair.facility.waiting() == 1)
        two = threads.submit(second.send)
        peer.wait_for(lambda: pair.facility.rows("SELECT attempts FROM pending_submission") == [(1,)])
        pair.link.state = State.UP
        codes = [one.result().codes, two.result().codes]
    assert codes[1] == ["XDSUnknownPatientId"]
    assert codes[0] in (UNAVAILABLE, ["XDSUnknownPatientId"])
    assert pair.facility.waiting() == 0
    assert_nowhere(pair, first)


def test_a_refusal_leaves_the_document_of_another_submission(pair: Pair, patient: str) -> None:
    """Two submissions wait with the same document; one of them will be refused."""
    unknown = f"{peer.number()}^^^&{pair.region.endpoints['assigning_authority']}&ISO"
    facility = pair.at_facility()
    content, unique_id = some_bytes(), peer.oid()
    pair.link.state = State.DOWN
    for order in ((unknown, patient), (patient, unknown)):
        for one in order:
            sent = facility.exactly(one, facility.text(one, content, unique_id=unique_id))
            assert sent.send().codes == UNAVAILABLE
        assert facility.retrieve(unique_id).status == "Failure"
    pair.link.state = State.UP
    pair.settled()
    assert pair.at_region().unique_ids(patient) == [unique_id] * 2
    assert facility.retrieve(unique_id).documents == {unique_id: content}


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_facility_that_restarts_goes_on(pair: Pair, patient: str, how: str) -> None:
    pair.link.state = State.DOWN
    sent = pair.at_facility().symbolic(patient, some_bytes())
    assert sent.send().codes == UNAVAILABLE
    if how == "stop":
        pair.facility.stop()
    else:
        pair.facility.kill_supervisor()
    pair.link.state = State.UP
    pair.facility.start()
    pair.settled()
    assert_whole(pair, sent)
    assert sent.send().status == "Success"
    assert_whole(pair, sent)


def test_a_stalled_link_holds_up_nobody_else(pair: Pair, patient: str) -> None:
    """While one submission waits for an answer, documents are fetched and its repetition does no harm."""
    facility, other = pair.at_facility(), pair.at_facility()
    known = facility.symbolic(patient, some_bytes())
    assert known.send().status == "Success"
    pair.link.state = State.STALLED
    sent = facility.symbolic(second := pair.at_region().patient(), some_bytes())
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(sent.send()))
    waiting.start()
    peer.wait_for(lambda: pair.facility.waiting() == 1)
    began = time.monotonic()
    assert other.retrieve(*known.unique_ids).status == "Success"
    assert other.retrieve(*sent.unique_ids).status == "Failure"
    assert time.monotonic() - began < 5
    assert not answers
    pair.link.state = State.UP
    waiting.join(30)
    assert answers[0].status == "Success"
    assert pair.at_region().unique_ids(second) == sent.unique_ids
