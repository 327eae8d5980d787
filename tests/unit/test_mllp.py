"""Frames of MLLP, however the bytes come, and the edge where nothing reaches an actor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obieg.domain.audit import AuditEvent
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.requester import Requester
from obieg.edges.mllp import MllpEdge
from obieg.protocol import Credentials, Transaction
from obieg.transactions.iti08_patient_identity_feed import TRANSACTION
from obieg.transactions.iti30_patient_identity_management import TRANSACTION as MANAGEMENT
from obieg.wire.hl7v2 import parse
from obieg.wire.mllp import Frame, FrameSplitter, TooLong, encode

LIMIT = 12


def split(chunks: list[bytes], limit: int = LIMIT) -> tuple[list[Frame | TooLong], bool, int]:
    splitter = FrameSplitter(limit)
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    return events, splitter.partial, splitter.junk_bytes


@given(st.lists(st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\x1c\r", b"MSH|", b"\n", b"PID", b"x"])), st.data())
def test_chunks_do_not_matter(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole, cut, single = split([stream]), split(chunks), split([bytes([b]) for b in stream])
    assert whole[0] == cut[0] == single[0]
    if not any(isinstance(event, TooLong) for event in whole[0]):
        assert whole == cut == single


@given(st.lists(st.binary(max_size=LIMIT).filter(lambda b: b"\x1c\r" not in b and not b.endswith(b"\x1c"))))
def test_what_is_framed_is_found(messages: list[bytes]) -> None:
    events, partial, junk_bytes = split([b"".join(map(encode, messages))])
    assert events == [Frame(m) for m in messages]
    assert (partial, junk_bytes) == (False, 0)


def test_two_messages_in_one_packet() -> None:
    assert split([encode(b"one") + encode(b"two")])[0] == [Frame(b"one"), Frame(b"two")]


def test_junk_between_frames_is_counted() -> None:
    events, partial, junk_bytes = split([b"\r\nGET / " + encode(b"one") + b"junk" + encode(b"two") + b"\r\n"])
    assert events == [Frame(b"one"), Frame(b"two")]
    assert (partial, junk_bytes) == (False, 14)


def test_frame_bytes_within_a_frame_are_left_to_the_parser() -> None:
    assert split([b"\x0bha\x0blf\x1c.\x1c\r"])[0] == [Frame(b"ha\x0blf\x1c.")]


def test_half_a_frame() -> None:
    assert split([b"\x0bhalf"]) == ([], True, 0)
    assert split([b"\x0bhalf\x1c"]) == ([], True, 0)


def test_the_limit() -> None:
    assert split([encode(b"x" * LIMIT)])[0] == [Frame(b"x" * LIMIT)]
    [event] = split([encode(b"MSH" + b"x" * LIMIT) + encode(b"next")])[0]
    assert event == TooLong(b"MSH" + b"x" * (LIMIT - 3))
    splitter = FrameSplitter(1000)
    assert splitter.feed(b"\x0b" + b"x" * 2000)
    assert splitter.feed(encode(b"never")) == []


# the edge, without a socket ------------------------------------------------------------------------------------------

FEED = b"MSH|^~\\&|APP|FAC|OBIEG|REGION|20260301||ADT^A01|M1|P|2.5\rPID|||1^^^&1.2&ISO\r"


class Door:
    """An authenticator and an audit sink that refuse, or do not."""

    def __init__(self, problem: Exception | None = None, failure: Exception | None = None) -> None:
        self.problem, self.failure, self.recorded = problem, failure, []

    async def authenticate(self, _: Credentials) -> Requester:
        if self.problem:
            raise self.problem
        return Requester(system="test")

    async def record(self, event: AuditEvent) -> None:
        if self.failure:
            raise self.failure
        self.recorded.append(event)


def edge(door: Door, *transactions: Transaction) -> MllpEdge:
    return MllpEdge(transactions=transactions or (TRANSACTION,), actors=None, authenticator=door, audit=door)


async def test_a_caller_who_proves_nothing_is_refused_and_recorded() -> None:
    door = Door(Problem.of("AuthenticationFailed", "no certificate"))
    answer = parse(await edge(door).answer(FEED, Credentials(address="192.0.2.1")))
    assert (answer.get("MSA-1"), answer.get("MSA-2"), answer.get("ERR-3")) == ("AE", "M1", "207")
    [event] = door.recorded
    assert (event.transaction, event.source_address, event.source_user) == ("ITI-8", "192.0.2.1", "FAC|APP")


@pytest.mark.parametrize("error", [RetryLater("the database is away"), Problem.of("TooManyRequests", "wait")])
async def test_who_is_told_to_come_back_again_and_again_fills_no_audit(error: Exception) -> None:
    door = Door(error)
    mllp = edge(door)
    for number in range(9):
        message = FEED.replace(b"|M1|", b"|M%d|" % number)
        assert parse(await mllp.answer(message, Credentials(address="192.0.2.1"))).get("MSA-1") == "AE"
        if not number:
            assert len(door.recorded) == 1, "before it is answered"
    await mllp.refusals.close()
    assert [e.transaction for e in door.recorded] == ["ITI-8"] * 2
    assert door.recorded[1].detail == f"{door.recorded[0].detail}; 8 more within 60 s"


async def test_an_answer_is_owed_even_if_nothing_works() -> None:
    answer = parse(await edge(Door(failure=OSError("disk full"))).answer(FEED, Credentials(address="")))
    assert (answer.get("MSA-1"), answer.get("ERR-3")) == ("AE", "207")


@pytest.mark.parametrize(
    ("version", "chosen"),
    [("2.3.1", "ITI-8"), ("2.4", "ITI-8"), ("2.5", "ITI-30"), ("2.5 ", "ITI-30"), ("2.8", "ITI-30")],
)
async def test_an_event_of_two_transactions_belongs_to_that_of_its_version(version: str, chosen: str) -> None:
    door = Door(Problem.of("AuthenticationFailed", "no certificate"))
    merge = FEED.replace(b"A01", b"A40").replace(b"|P|2.5", f"|P|{version}".encode())
    await edge(door, TRANSACTION, MANAGEMENT).answer(merge, Credentials(address=""))
    await edge(door, MANAGEMENT, TRANSACTION).answer(merge, Credentials(address=""))
    assert [event.transaction for event in door.recorded] == [chosen, chosen]


def test_two_transactions_cannot_answer_one_event() -> None:
    with pytest.raises(ValueError, match="ITI-8 and ITI-8 both answer ADT\\^A01"):
        edge(Door(), TRANSACTION, TRANSACTION)
