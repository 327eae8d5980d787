"""The benchmarks measure what the node does: the reference runs its very SQL, and the results have their shape."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from bench.messages import Identity, Message
from bench.recorder import recorder
from bench.rows import BENCHES, Bench, Row
from psycopg.conninfo import make_conninfo

from bench import dataset, messages, reference, report
from obieg.ops.settings import Settings
from obieg.storage.statements import load

IDENTITY = Identity("1.3.6.1.4.1.21367.13.20.1000", "2.25.17")
PATIENT = dataset.FIRST_WITHOUT + 1
NUMBER = 4 * 10**17
BY_NAME = {b.name: b for b in BENCHES}


def _settings(dsn: str, folder: Path) -> Settings:
    return Settings.model_validate(
        {
            "role": "region",
            "lab": True,
            "data_dir": folder,
            "database": {"dsn": dsn},
            "identity": {
                "home_community_id": "2.25.16",
                "repository_unique_id": IDENTITY.repository_unique_id,
                "assigning_authority": IDENTITY.assigning_authority,
            },
        }
    )


def _texts() -> dict[str, str]:
    """Every statement of the files that the node sends, by its name."""
    return {s.name: s.sql for name in ("registry.sql", "repository.sql", "audit.sql") for s in load(name)}


@pytest.mark.parametrize("bench", [b for b in BENCHES if not b.appends], ids=lambda b: b.name)
async def test_reference_sends_the_text_and_the_round_trips_of_the_node(
    bench: Bench, database_dsn: str, tmp_path: Path
) -> None:
    dataset.load_patients(database_dsn, IDENTITY, 10)
    async with recorder(_settings(database_dsn, tmp_path)) as node:
        if not bench.writes:
            await node.record(messages.provide(IDENTITY), PATIENT, NUMBER)
        batches = await node.record(bench.message(IDENTITY), PATIENT, NUMBER)
    assert len(batches) <= 2
    assert batches[-1][-1].statement.name in ("insert_audit", "insert_export_audit")
    script = reference.script(
        batches, patient=PATIENT, number=NUMBER, patients=(PATIENT, PATIENT), numbers=(NUMBER, NUMBER)
    )
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
    for name in script.changed:
        _, _, parameter = name.partition(".")
        assert "uuid" in parameter or "unique_id" in parameter or parameter in ("logical_id", "source", "target")
    with psycopg.connect(database_dsn) as connection:  # each is a statement that PostgreSQL takes as it stands
        for number, written in enumerate(s for b in sent for s in b):
            connection.execute(f"PREPARE s{number} AS {reference.as_sent(written)}".encode())


def test_requests_keep_their_size_whatever_is_filled_in() -> None:
    for bench in BENCHES:
        message = bench.message(IDENTITY)
        assert len(message.filled(PATIENT, NUMBER)) == len(message.body)
        assert f"Content-Length: {len(message.body)}\r\n".encode() in message.http()
    assert len(messages.register(IDENTITY).body) == messages.ITI42_SIZE_BYTES == 9 * 1024
    assert len(messages.document(3)) == messages.DOCUMENT_SIZE_BYTES == 100_000


def test_marks_stand_only_where_something_is_filled_in() -> None:
    def marks(message: Message) -> tuple[int, int]:
        return (
            message.body.count(messages.PATIENT_MARK.encode()),
            message.body.count(messages.NUMBER_MARK.encode()),
        )

    assert {name: marks(bench.message(IDENTITY)) for name, bench in BY_NAME.items()} == {
        "iti42": (2, 2),
        "iti18_leaf": (1, 0),
        "iti18_ref": (1, 0),
        "iti43": (0, 1),
        "iti41": (2, 2),
    }


async def test_loaded_rows_are_those_of_a_registration(database_dsn: str, tmp_path: Path) -> None:
    dataset.load_patients(database_dsn, IDENTITY, 100)
    async with recorder(_settings(make_conninfo(database_dsn), tmp_path)) as node:
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
        "iti18_leaf": (0.22, 0.32),
        "iti18_ref": (0.13, 0.20),
        "iti43": (0.12, 0.18),
        "iti41": (0.15, 0.28),
    }
