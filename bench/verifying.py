"""Row ``verify``: ``obieg audit verify`` of a million records, beside the ten seconds that it may take.

Records are those of real requests: a node in this process serves some of every kind that the other rows send, and some
that it refuses. Their rows are then repeated with other patients, documents, request ids and times, and sealed by the
node's own sealer: as many at a time as come in a minute when there are a million in a day. The command is the one that
an operator calls, from its start to its end. Afterwards one record is changed, and the same command must find it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import psycopg
from structlog.testing import capture_logs

from bench import machine, messages, people
from bench.dataset import ENTRIES_PER_PATIENT, FIRST_WITH_DOCUMENTS, FIRST_WITHOUT, load_patients, settle
from bench.messages import Message
from bench.node import Node
from bench.recorder import Recorder, named, recorder, value_of
from bench.rows import Row
from obieg.ops.sealing import origin, roots_file, seal_keys
from obieg.storage.roots_file import RootsFile
from obieg.storage.seal_store import connect
from obieg.storage.sealer import Sealer

NAME = "verify"
RECORDS = 1_000_000
AT_MOST_S = 10.0
SEALED_TOGETHER = 700  # a million in a day, sealed every minute
_VARIANTS = 40
_PEOPLE = 200
_NUMBER = 3 * 10**17
_UNKNOWN_PATIENT = 9_999_999

# Every record that there is, with what differs from one to the next.
_PATTERNS = """
CREATE TABLE bench_pattern AS
SELECT row_number() OVER (ORDER BY audit_id) - 1 AS place, a.*, substring(patient_id FROM '^\\d{7}(?=\\^)') AS patient,
  substring(message FROM '[34]\\d{17}') AS document,
  ARRAY(SELECT o.patient_id FROM audit_patient o WHERE o.audit_id = a.audit_id) AS others
FROM audit_event a
"""
_REPEAT = """
WITH made AS MATERIALIZED (
  SELECT nextval('audit_event_audit_id_seq') AS number, gen_random_uuid()::text AS request,
    (1000000 + (n * 7919) %% 8000000)::text AS another, (500000000000000000 + n)::text AS other_document, p.*
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
  JOIN bench_pattern p ON p.place = (n * 7919) %% (SELECT count(*) FROM bench_pattern) ORDER BY n
), written AS (
  INSERT INTO audit_event
    (audit_id, recorded_at, transaction, outcome, patient_id, request_id, message, format, happened_at, sender)
  OVERRIDING SYSTEM VALUE
  SELECT number, clock_timestamp(), transaction, outcome,
    CASE WHEN patient IS NULL THEN patient_id ELSE replace(patient_id, patient, another) END, request,
    replace(replace(replace(message, request_id, request), coalesce(patient, '-'), coalesce(another, '-')),
      coalesce(document, '-'), CASE WHEN document IS NULL THEN '-' ELSE other_document END),
    format, happened_at, sender
  FROM made
)
INSERT INTO audit_patient (patient_id, audit_id) SELECT unnest(others), number FROM made
"""


def load(node: Node, done: Callable[[int], None]) -> None:
    """Writes and seals the records; ``done`` is told how many were added."""
    settings = node.settings
    sealer = Sealer(seal_keys(settings), origin(settings), lambda: datetime.now(UTC))
    with psycopg.connect(node.dsn, autocommit=True) as writing, connect(node.dsn) as sealing:
        writing.execute("SET synchronous_commit = off")
        writing.execute("DROP TABLE IF EXISTS bench_pattern")
        writing.execute(_PATTERNS.encode())
        for first in range(0, RECORDS, SEALED_TOGETHER):
            last = min(RECORDS, first + SEALED_TOGETHER) - 1
            writing.execute(_REPEAT.encode(), {"first": first, "last": last})
            while sealer.seal(sealing) is None:  # the node is just sealing itself
                time.sleep(0.1)
            done(last + 1 - first)
        writing.execute("DROP TABLE bench_pattern")
        RootsFile(roots_file(settings)).publish(sealing)
    settle(node.dsn)


async def ask(node: Node) -> None:
    """Requests of every kind, which leave the records that are repeated."""
    identity = node.identity
    load_patients(node.dsn, identity, _VARIANTS * ENTRIES_PER_PATIENT)
    async with recorder(node.settings) as serving:
        with capture_logs():  # of what is refused on purpose
            for variant in range(_VARIANTS):
                patient, number = FIRST_WITH_DOCUMENTS + variant, _NUMBER + 2 * variant
                await _ask_about(serving, node, variant, patient, number)
        known = list(people.announced(1, people.NEWCOMERS, 1, _PEOPLE))
        for number, one in enumerate(known):
            await serving.record_hl7v2(people.feed(one, f"V{number}"))
        for number, one in enumerate(known):
            asked = one.record.demographics
            await serving.record_hl7v2(people.name_and_birth_query(asked, f"W{number}"))
            head = people.name_and_birth_search(asked).split(b" ", 2)[1].decode()
            family = f"/fhir/Patient?{urlencode({'family': asked.name.family, '_count': '10'})}"  # lists several
            for path in (head, family):
                await serving.record(Message(path, "", b"", '"searchset"'), FIRST_WITHOUT, _NUMBER)


async def _ask_about(serving: Recorder, node: Node, variant: int, patient: int, number: int) -> None:
    identity = node.identity
    await serving.record(messages.register(identity, variant), patient, number)
    batches = await serving.record(messages.provide(identity, variant), patient, number + 1)
    entry = (value_of(named(batches, "insert_document_entry"), "entry_uuid") or b"").decode()
    unknown = replace(messages.register(identity, variant), success="XDSUnknownPatientId")
    for message in (
        messages.find_documents(identity, "LeafClass"), messages.find_documents(identity, "ObjectRef"),
        messages.retrieve(identity), messages.find_document_references(identity), messages.read_binary(identity),
    ):  # fmt: skip
        await serving.record(message, patient, number + 1, entry)
    await serving.record(unknown, _UNKNOWN_PATIENT, number + 1)


def measure(node: Node, *, runs: int, tell: Callable[[str], None]) -> Row:
    """The command's time; raises RuntimeError where it does not find the audit sound, or not a change of it."""
    measured: list[tuple[float, dict[str, float]]] = []
    loads: list[float] = []
    found: dict[str, Any] = {}
    for number in range(runs):
        tell(f"{NAME}: run {number + 1} of {runs}")
        took, cpu, found = _verify(node, sound=True)
        measured.append((took, cpu))
        loads.append(machine.load_average())
    tell(f"{NAME}: a change must be found")
    changed = found["records"] // 2
    _change(node, changed)
    try:
        _, _, broken = _verify(node, sound=False)
    finally:
        _change(node, changed)  # back again
    named_ = [(d["kind"], d["record"]) for d in broken["deviations"]]
    if named_ != [("edited", changed)]:
        raise RuntimeError(f"record {changed} was edited, and verify found {named_}")
    took = statistics.median(t for t, _ in measured)
    rate = found["records"] / took
    return Row(
        name=NAME,
        what=f"obieg audit verify of {found['records']:,} records, beside {RECORDS:,} in {AT_MOST_S:g} s",
        value=round(rate, 1),
        unit="1/s",
        reference=RECORDS / AT_MOST_S,
        ratio=round(rate / (RECORDS / AT_MOST_S), 4),
        least=1.0,
        aim=None,
        met=rate >= RECORDS / AT_MOST_S,
        aim_met=None,
        details={
            "records": found["records"],
            "seals": found["seals"],
            "took_s": [round(t, 2) for t, _ in measured],
            # Cores that the command and PostgreSQL kept busy, and processor time of a million records.
            "cpu": {who: round(statistics.median(cpu[who] / t for t, cpu in measured), 2) for who in measured[0][1]},
            "cpu_s": {who: round(statistics.median(cpu[who] for _, cpu in measured), 2) for who in measured[0][1]},
            "cores": len(os.sched_getaffinity(0)),
            "worker_resident_mib": round(node.resident_bytes() / 2**20, 1),
            "load_average": loads,
        },
    )


def _verify(node: Node, *, sound: bool) -> tuple[float, dict[str, float], dict[str, Any]]:
    command = [sys.executable, "-m", "obieg", "audit", "verify", "--json", "--node", str(node.ready_file)]
    used, cpu, began = os.times(), node.cpu_s(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took, used_now, cpu_now = time.monotonic() - began, os.times(), node.cpu_s()
    if done.returncode != (0 if sound else 1) or not done.stdout:
        raise RuntimeError(f"obieg audit verify ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    found = json.loads(done.stdout)
    if found["sound"] != sound or found["records"] < RECORDS:
        raise RuntimeError(f"obieg audit verify compared {found['records']} records")
    client = used_now.children_user + used_now.children_system - used.children_user - used.children_system
    return (
        took,
        {
            "workers": cpu_now["workers"] - cpu["workers"],
            "postgres": cpu_now["postgres"] - cpu["postgres"],
            "client": client,
        },
        found,
    )


def _change(node: Node, number: int) -> None:
    with psycopg.connect(node.dsn, autocommit=True) as connection:
        connection.execute("UPDATE audit_event SET outcome = 4 - outcome WHERE audit_id = %s", [number])
