"""The benchmarks measure what the node does: the reference runs its very SQL, and the results have their shape."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from bench.messages import Message
from bench.people import PESEL, Announced
from bench.recorder import Batch, named, recorder, value_of
from bench.reference import Script
from bench.rows import BENCHES, Row, SoapBench
from bench_settings import IDENTITY, settings_of
from psycopg.conninfo import make_conninfo

from bench import dataset, messages, people, reference, report, scale, sockets
from obieg.domain.linkage import LinkageMatcher
from obieg.domain.patient_index import SavedRecord
from obieg.storage.patient_store import record_calls
from obieg.storage.statements import load

PATIENT = dataset.FIRST_WITHOUT + 1
NUMBER = 4 * 10**17
BY_NAME = {b.name: b for b in BENCHES if isinstance(b, SoapBench) and not b.secured}


_FILES = ("documents_search.sql", "link.sql", "registry.sql", "repository.sql", "patients.sql", "audit.sql")


def _texts() -> dict[str, str]:
    """Every statement of the files that the node sends, by its name."""
    return {s.name: s.sql for name in _FILES for s in load(name).sent}


def _check_script(script: Script, batches: Sequence[Batch], dsn: str) -> None:
    """The script sends the node's batches, and each statement is one that PostgreSQL takes as it stands."""
    pipelines = script.text.split("\\startpipeline\n")[1:]
    sent = [
        [s.strip() for s in p.removesuffix("\n").removesuffix("\\endpipeline").split(";\n")][:-1] for p in pipelines
    ]
    assert [len(batch) for batch in sent] == [len(batch) for batch in batches]
    texts = _texts()
    changed = {name.partition(".")[0] for name in script.changed}
    for written, call in zip([s for b in sent for s in b], [c for b in batches for c in b], strict=True):
        assert call.statement.sql == texts[call.statement.name]
        if call.statement.name not in changed:
            assert reference.as_sent(written) == call.statement.sql
    with psycopg.connect(dsn) as connection:
        for number, written in enumerate(s for b in sent for s in b):
            connection.execute(f"PREPARE s{number} AS {reference.as_sent(written)}".encode())


@pytest.mark.parametrize("bench", [b for b in BY_NAME.values() if not b.appends], ids=lambda b: b.name)
async def test_reference_sends_the_text_and_the_round_trips_of_the_node(
    bench: SoapBench, database_dsn: str, tmp_path: Path
) -> None:
    dataset.load_patients(database_dsn, IDENTITY, 10)
    async with recorder(settings_of(database_dsn, tmp_path)) as node:
        message, entry = bench.message(IDENTITY), ""
        if not bench.writes:
            provided = await node.record(messages.provide(IDENTITY), PATIENT, NUMBER)
            entry = (value_of(named(provided, "insert_document_entry"), "entry_uuid") or b"").decode()
        if message.method == "GET":  # the first reading stores a rendering
            await node.record(message, PATIENT, NUMBER, entry)
        batches = await node.record(message, PATIENT, NUMBER, entry)
    assert len(batches) <= 2
    assert batches[-1][-1].statement.name in ("insert_audit", "insert_export_audit_plain")
    changing = reference.of_documents(
        patient=PATIENT, number=NUMBER, patients=(PATIENT, PATIENT), numbers=(NUMBER, NUMBER),
        authority=IDENTITY.assigning_authority, entry_uuid=entry,
    )  # fmt: skip
    script = reference.script(batches, changing)
    _check_script(script, batches, database_dsn)
    for name in script.changed:
        _, _, parameter = name.partition(".")
        assert "uuid" in parameter or "unique_id" in parameter or parameter in (
            "logical_id", "source", "target", "patients")  # fmt: skip


# people --------------------------------------------------------------------------------------------------------------


def _first(count: int, share: int = 0) -> list[Announced]:
    first = dataset.FIRST_LOCAL_NUMBER + share * people.SHARE_PEOPLE
    return list(people.announced(share, share, first, count))


async def test_reference_of_the_feed_brings_another_person_each_time(database_dsn: str, tmp_path: Path) -> None:
    (one,) = _first(1, people.NEWCOMERS)
    async with recorder(settings_of(database_dsn, tmp_path)) as node:
        batches = await node.record_hl7v2(people.feed(one, "R1"))
    assert len(batches) == 2
    assert named(batches, "insert_audit") is batches[1][-1]
    script = reference.script(batches, reference.of_feeds(batches))
    _check_script(script, batches, database_dsn)
    # Nothing that is unique or in an index stays as it was recorded.
    kept = set(script.constants.values())
    record = named(batches, "insert_record")
    recorded = {
        name: (value or b"").decode() for name, value in zip(record.statement.parameters, record.values, strict=True)
    }
    for name in ("patient_key", "record_key", "values", "blocks", "names", "sounds", "birth_date"):
        assert recorded[name]
        assert recorded[name] not in kept
    assert recorded["demographics"] in kept
    assert {"find_standing.values", "insert_locators.values", "insert_audit.patient_id"} <= set(script.changed)


async def test_loaded_people_are_those_of_a_feed(database_dsn: str, tmp_path: Path) -> None:
    matcher = LinkageMatcher()
    async with recorder(settings_of(database_dsn, tmp_path)) as node:
        for number, one in enumerate(_first(20)):
            call = named(await node.record_hl7v2(people.feed(one, f"L{number}")), "insert_record")
            saved = SavedRecord(1, 2, 0, one.source, one.record, matcher.blocks(one.record))
            (expected, *_) = record_calls(saved)
            assert call.values[2:] == expected.values[2:]  # all but the two keys, which are drawn


async def test_loaded_people_are_found_and_new_ones_are_new(database_dsn: str, tmp_path: Path) -> None:
    told: list[int] = []
    dataset.load_people(database_dsn, IDENTITY, 40, told.append)
    assert told == [40]
    with psycopg.connect(database_dsn) as connection:

        def count(query: str) -> int:
            row = connection.execute(query.encode()).fetchone()
            return 0 if row is None else int(row[0])

        assert count("SELECT count(*) FROM patient") == count("SELECT count(*) FROM patient_record") == 40
        assert count("SELECT count(*) FROM patient_locator") == 120
        assert count(f"SELECT count(DISTINCT value) FROM patient_locator WHERE authority = '{PESEL}'") == 40
        assert count(
            "SELECT count(*) FROM patient_record r CROSS JOIN unnest(r.blocks) AS b (block)"
            " JOIN patient_block p ON p.block = b.block AND p.record_key = r.record_key"
        ) == count("SELECT count(*) FROM patient_block")
    async with recorder(settings_of(database_dsn, tmp_path)) as node:
        for number, one in enumerate(_first(5)):
            demographics = one.record.demographics
            batches = await node.record_hl7v2(people.name_and_birth_query(demographics, f"Q{number}"))
            (found, *_) = [v for v in named(batches, "insert_audit").values if v and b"^^^&" in v]
            assert IDENTITY.assigning_authority.encode() in found
        for number, one in enumerate(_first(5, people.NEWCOMERS)):
            batches = await node.record_hl7v2(people.feed(one, f"N{number}"))
            assert named(batches, "insert_patient")


def test_people_of_two_shares_have_no_number_in_common() -> None:
    pesels = [{one.record.identifiers[1].value for one in _first(3_000, share)} for share in (0, 1, people.NEWCOMERS)]
    assert all(len(share) == 3_000 for share in pesels)
    assert not pesels[0] & pesels[1]
    assert not pesels[0] & pesels[2]


# the load ------------------------------------------------------------------------------------------------------------


@contextmanager
def _server(answer: bytes) -> Iterator[tuple[str, int]]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while received := self.request.recv(65536):
                assert received.endswith(b"\x1c\r")
                self.request.sendall(answer[:7])
                self.request.sendall(answer[7:])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[0], server.server_address[1]
        server.shutdown()


def test_every_message_is_sent_once_and_its_answer_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "messages"
    sockets.write(path, [sockets.framed(b"MSH|%d" % number) for number in range(50)])

    def run(answer: bytes, expected: str) -> int:
        with _server(sockets.framed(answer)) as address:
            return sockets.run(path, address, "mllp", connections=3, seconds=20, expected=[expected]).requests

    assert run(b"MSH|\rMSA|AA|1\r", "\rMSA|AA|") == 50
    with pytest.raises(RuntimeError, match="MSA"):
        run(b"MSH|\rMSA|AE|1\r", "\rMSA|AA|")


# ---------------------------------------------------------------------------------------------------------------------


def test_requests_keep_their_size_whatever_is_filled_in() -> None:
    for bench in BY_NAME.values():
        message = bench.message(IDENTITY)
        path, body = message.filled(PATIENT, NUMBER, messages.ENTRY_MARK)
        assert (len(path), len(body)) == (len(message.path), len(message.body))
        assert not body or f"Content-Length: {len(body)}\r\n".encode() in message.http()
    assert len(messages.register(IDENTITY).body) == messages.ITI42_SIZE_BYTES == 9 * 1024
    assert len(messages.document(3)) == messages.DOCUMENT_SIZE_BYTES == 100_000


def test_marks_stand_only_where_something_is_filled_in() -> None:
    def marks(message: Message) -> tuple[int, int]:
        said = message.path.encode() + message.body
        return said.count(messages.PATIENT_MARK.encode()), said.count(messages.NUMBER_MARK.encode())

    assert {name: marks(bench.message(IDENTITY)) for name, bench in BY_NAME.items()} == {
        "iti42": (2, 2),
        "iti18_leaf": (1, 0),
        "iti18_ref": (1, 0),
        "iti43": (0, 1),
        "iti67": (1, 0),
        "iti68": (0, 0),
        "iti41": (2, 2),
        "iti65": (2, 2),
    }


async def test_loaded_rows_are_those_of_a_registration(database_dsn: str, tmp_path: Path) -> None:
    dataset.load_patients(database_dsn, IDENTITY, 100)
    async with recorder(settings_of(make_conninfo(database_dsn), tmp_path)) as node:
        await dataset.load(database_dsn, IDENTITY, node, 100, 2, lambda _: None)
        found = await node.record(
            messages.find_documents(IDENTITY, "LeafClass"), dataset.FIRST_WITH_DOCUMENTS + 3, dataset.FIRST_NUMBER
        )
        await node.record(messages.retrieve(IDENTITY), PATIENT, dataset.FIRST_NUMBER + 99)
    assert len(found) == 1
    with psycopg.connect(database_dsn) as connection:

        def count(query: str) -> int:
            row = connection.execute(query.encode()).fetchone()
            return 0 if row is None else int(row[0])

        loaded = f"patient_key BETWEEN {dataset.patient_key(dataset.FIRST_WITH_DOCUMENTS)} AND {dataset.patient_key(dataset.FIRST_WITH_DOCUMENTS + 9)}"
        assert count(f"SELECT count(*) FROM document_entry WHERE {loaded}") == 100
        assert count(f"SELECT count(DISTINCT patient_key) FROM document_entry WHERE {loaded}") == 10
        assert count(f"SELECT count(*) FROM object_locator WHERE {loaded}") == 300
        assert count(f"SELECT count(*) FROM unique_id_locator WHERE {loaded}") == 200
        # Every row is reached by its locators, and an association joins a set and an entry of the same patient.
        assert (
            count(
                "SELECT count(*) FROM association a"
                " JOIN submission_set s ON s.patient_key = a.patient_key AND s.entry_uuid = a.source"
                " JOIN document_entry d ON d.patient_key = a.patient_key AND d.entry_uuid = a.target"
                " JOIN unique_id_locator u ON u.unique_id = d.unique_id AND u.entry_uuid = d.entry_uuid AND u.hash = d.hash"
                " JOIN object_locator o ON o.entry_uuid = a.entry_uuid AND o.kind = 'A'"
                f" WHERE a.{loaded}"
            )
            == 100
        )
        assert (
            count(
                f"SELECT count(*) FROM document_entry WHERE {loaded} AND position(entry_uuid::text::bytea IN ebrim) > 0"
            )
            == 100
        )


def test_results_have_the_shape_that_is_promised(tmp_path: Path) -> None:
    row = Row("iti42", "ITI-42", 1000.0, "1/s", 4000.0, 0.25, 0.22, 0.32, met=True, aim_met=False)
    report.write(tmp_path / "rows.json", [row], {"cores": 2})
    written = json.loads((tmp_path / "rows.json").read_bytes())
    assert written["machine"] == {"cores": 2}
    (read,) = written["rows"]
    assert {"name", "value", "unit", "reference", "ratio", "least", "aim", "met", "aim_met"} <= read.keys()
    assert (read["met"], read["aim_met"]) == (True, False)


def test_what_is_asked_is_what_was_promised() -> None:
    assert {b.name: (b.least, b.aim) for b in BENCHES} == {
        "iti42": (0.22, 0.32),
        "iti42_fresh": (0.12, 0.18),
        "iti42_again": (0.18, 0.28),
        "iti18_leaf": (0.22, 0.32),
        "iti18_ref": (0.13, 0.20),
        "iti43": (0.12, 0.18),
        "iti67": (0.15, 0.25),
        "iti68": (0.10, 0.16),
        "iti41": (0.15, 0.28),
        "iti65": (0.09, 0.17),
        "feed": (0.10, 0.18),
    }
    assert scale.AT_MOST == 1.3
    assert scale.SIZES == (10_000, 1_000_000)
