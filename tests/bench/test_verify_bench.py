"""The audit that ``verify`` is measured on is made of real records, sealed as a node seals, and verified for real."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from bench_settings import IDENTITY, settings_of

from bench import verifying
from obieg.domain.sealing_check import Deviation, Outside
from obieg.ops.sealing import Sealing, origin, roots_file, seal_keys
from obieg.storage.link import Database
from obieg.storage.roots_file import RootsFile
from obieg.storage.seal_verifier import verify

RECORDS = 1_500


def _found(settings: Any, dsn: str) -> tuple[int, int, list[Deviation]]:
    outside, found = Outside(origin(settings)), list[Deviation]()
    for note in RootsFile(roots_file(settings)).read():
        outside.add(note, "roots")
    summary = verify(
        dsn, origin=origin(settings), signed=seal_keys(settings).signed, outside=outside, wanted=lambda _: True,
        report=found.append, progress=lambda _: None, processes=1,
    )  # fmt: skip
    return summary.records, summary.seals, found


async def test_records_are_real_and_sealed_as_a_node_seals(
    database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RECORDS", RECORDS), ("_VARIANTS", 2), ("_PEOPLE", 40)):
        monkeypatch.setattr(verifying, name, value)
    settings = settings_of(database_dsn, tmp_path)
    node = cast("Any", SimpleNamespace(settings=settings, dsn=database_dsn, identity=IDENTITY))
    Sealing(settings, cast("Database", None), lambda: None)  # type: ignore[arg-type, return-value] # makes the keys
    await verifying.ask(node)
    with psycopg.connect(database_dsn) as connection:
        real = connection.execute("SELECT DISTINCT transaction, outcome FROM audit_event").fetchall()
    assert {t for t, _ in real} >= {
        "ITI-42",
        "ITI-41",
        "ITI-18",
        "ITI-43",
        "ITI-67",
        "ITI-68",
        "ITI-8",
        "ITI-21",
        "ITI-78",
    }
    assert {o for _, o in real} > {0}
    verifying.load(node, lambda _: None)
    records, seals, found = _found(settings, database_dsn)
    assert (records >= RECORDS, seals, found) == (True, 3, [])
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        [(messages, requests)] = connection.execute(
            "SELECT count(DISTINCT message), count(DISTINCT request_id) FROM audit_event"
        ).fetchall()
        [(named,)] = connection.execute("SELECT count(DISTINCT audit_id) FROM audit_patient").fetchall()
        assert messages >= RECORDS
        assert requests >= RECORDS
        assert named > RECORDS / 50
    verifying._change(node, 777)
    assert [(d.kind.value, d.record) for d in _found(settings, database_dsn)[2]] == [("edited", 777)]
