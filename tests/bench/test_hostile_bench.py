"""Both clients of the rows of hostile clients send what they claim; the node without audit records nothing, only that."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from bench.messages import Message
from bench.recorder import named, recorder, value_of
from bench_settings import IDENTITY, settings_of

from bench import audited, caller, dataset, hostile, messages
from obieg.ops import wiring

PATIENT, NUMBER = dataset.FIRST_WITHOUT + 1, 5 * 10**17


# the well-behaved client ---------------------------------------------------------------------------------------------


def test_as_many_bytes_are_replayed_at_the_same_times_in_messages_of_the_same_sizes() -> None:
    log = [(2.0, 700, 1, 0.1), (1.0, 50_000, 2, 0.1), (0.5, 900, 3, 0.1), (3.0, 2_100, 4, 0.1), (4.0, 0, 5, 0.1)]
    planned = list(hostile.replayed(log, 1_000, 10_000))
    # What is too small to be a message of its own belongs to the next.
    assert planned == [(1.0, "document", 50_900), (3.0, "question", 2_800)]
    assert sum(entry[1] for entry in log) == sum(size for _, _, size in planned)


def _replay(planned: list[hostile.Planned]) -> dict[str, Any]:
    more = {"connections": 2, "messages": planned, "longest": max(p[2] for p in planned), "number": NUMBER}
    return hostile.well_behaved(IDENTITY, 100) | more


def test_well_behaved_messages_have_the_size_that_is_planned_and_each_is_another() -> None:
    planned = [(0, "document", 20_000), (0, "document", 3_000_000), (0, "question", 2_000), (0, "question", 9_000)]
    replay = caller.Replay(_replay(planned), 0)
    sent = [b"".join(replay.take().pieces) for _ in planned]
    assert [len(one) for one in sent] == [20_000, 3_000_000, 2_000, 9_000]
    for one in sent:
        head, _, body = one.partition(b"\r\n\r\n")
        assert head.endswith(b"Content-Length: %d" % len(body))
        assert messages.NUMBER_MARK.encode() not in one
        assert messages.PATIENT_MARK.encode() not in one
    assert b"<!-- %d -->" % NUMBER in sent[0]
    assert b"<!-- %d -->" % (NUMBER + 1) in sent[1]


async def test_a_node_takes_what_the_well_behaved_client_sends(database_dsn: str, tmp_path: Path) -> None:
    dataset.load_patients(database_dsn, IDENTITY, 100)
    replay = caller.Replay(_replay([(0, "document", 40_000), (0, "question", 3_000), (0, "document", 40_000)]), 0)
    async with recorder(settings_of(database_dsn, tmp_path)) as node:
        for expected in ("insert_document_entry", "find_documents", "insert_document_entry"):
            head, _, body = b"".join(replay.take().pieces).partition(b"\r\n\r\n")
            path, content_type = (
                re.search(pattern, head.decode()) for pattern in (r"POST (\S+)", r"Content-Type: (.*)\r")
            )
            assert path
            assert content_type
            batches = await node.record(Message(path[1], content_type[1], body), 0, 0)
            assert any(call.statement.name.startswith(expected) for batch in batches for call in batch)


# the program of both -------------------------------------------------------------------------------------------------


@contextmanager
def _server(answer: bytes | None) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    """Answers a request that ends in ``!`` or has its length, or ends the connection for None; what was received."""
    received: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data = b""
            while piece := self.request.recv(65536):
                data += piece
                length = re.search(rb"Content-Length: (\d+)\r\n\r\n", data)
                if data.endswith(b"!") or (length and len(data) >= length.end() + int(length[1])):
                    received.append(data)
                    data = b""
                    if answer is None:
                        return
                    self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield (server.server_address[0], server.server_address[1]), received
        server.shutdown()


def test_a_hostile_client_goes_round_its_cases_and_counts_their_bytes(tmp_path: Path) -> None:
    cases = [b"a" * 300_000 + b"!", b"slow!", b"b!"]
    (tmp_path / "data").write_bytes(b"".join(cases))
    begins = [0, len(cases[0]), len(cases[0]) + len(cases[1])]
    listed = [(n, begins[n], len(cases[n]), 0.02 if n == 1 else None, None) for n in range(3)]
    plan = {"data": str(tmp_path / "data"), "lanes": [{"connections": 2, "cases": listed, "first": 1}]}
    with _server(None) as (address, received):
        said = caller.run(plan, address, 1.5)
    whole = [entry for entry in said["log"] if entry[1] == len(cases[entry[2]])]
    assert len(whole) >= len(said["log"]) - 2  # those that were at work at the end
    assert {entry[2] for entry in whole} == {0, 1, 2}
    assert all(took >= 0.08 for _, _, number, took in whole if number == 1)
    assert set(received) <= set(cases)
    assert said["at"] == [(1 + len(said["log"])) % 3]


def test_a_hostile_client_gives_up_what_takes_long(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"never whole")
    cases = [(0, 0, 11, None, 0.3), (1, 0, 11, 0.1, 0.3)]
    with _server(None) as (address, _):
        plan = {"data": str(tmp_path / "data"), "lanes": [{"connections": 1, "cases": cases, "first": 0}]}
        said = caller.run(plan, address, 1.3)
    assert [entry[2] for entry in said["log"]] == [0, 1, 0, 1, 0]
    assert [entry[1] for entry in said["log"][:4]] == [11, 3, 11, 3]
    assert all(0.3 <= entry[3] < 0.5 for entry in said["log"][:4])


def test_a_well_behaved_client_keeps_the_times_and_looks_at_the_answers() -> None:
    question = len(messages.find_documents(IDENTITY, "LeafClass").http())
    plan = {"lanes": [_replay([(0.3 * n, "question", question) for n in range(3)])]}
    success = b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\nResponseStatusType:Success"
    with _server(success) as (address, received):
        said = caller.run(plan, address, 1.5)
    assert [round(began, 1) for began, _, _, _ in said["log"]] == [0.0, 0.3, 0.6]
    assert [size for _, size, _, _ in said["log"]] == [question] * 3 == [len(one) for one in received]
    with _server(success.replace(b"200", b"400")) as (address, _), pytest.raises(RuntimeError, match="refused"):
        caller.run(plan, address, 1.5)


# the audit -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", [True, False])
async def test_the_node_without_audit_does_all_but_record(
    recorded: bool, database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Database", "AuditStore"):  # so that they are put back
        monkeypatch.setattr(wiring, name, getattr(wiring, name))
    monkeypatch.setattr("bench.recorder.build", audited.build_with if recorded else audited.build_without)
    dataset.load_patients(database_dsn, IDENTITY, 10)
    sent = set()
    async with recorder(settings_of(database_dsn, tmp_path)) as node:
        provided = await node.record(messages.provide(IDENTITY), PATIENT, NUMBER)
        entry = (value_of(named(provided, "insert_document_entry"), "entry_uuid") or b"").decode()
        for message in (
            messages.register(IDENTITY),
            messages.find_documents(IDENTITY, "LeafClass"),
            messages.find_documents(IDENTITY, "ObjectRef"),
            messages.retrieve(IDENTITY),
            messages.find_document_references(IDENTITY),
            messages.read_binary(IDENTITY),
        ):
            number = NUMBER + 1 if "register" in message.path else NUMBER
            batches = await node.record(message, PATIENT, number, entry)
            sent |= {call.statement.name for batch in batches for call in batch}
    with psycopg.connect(database_dsn) as connection:
        counts = connection.execute("SELECT (SELECT count(*) FROM document_entry), (SELECT count(*) FROM audit_event)")
        entries, records = counts.fetchone() or (0, 0)
    assert entries == 2
    assert bool(sent & audited.RECORDING) is recorded
    assert (records >= 7) if recorded else (records == 0)


def test_what_is_asked_is_what_was_promised() -> None:
    assert (hostile.LEAST, hostile.GROWTH_MAX_MIB, hostile.CONNECTIONS) == (0.8, 256, 8)
    assert audited.LEAST == {"iti42": 0.88, "iti18_leaf": None, "iti43": None, "iti67": None, "iti68": None}
