"""Sealing on a real database: what is committed late, and 10,000 ways to change the past."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from obieg.domain.merkle import HASH_BYTES, cover, join, leaf_hash, peaks_of, root
from obieg.domain.sealing import (
    CUT_OFF,
    PATIENT_COLUMNS,
    RECORD_COLUMNS,
    count,
    digest,
    head_of,
    numbers,
    ranges_of,
    read_ranges,
    read_record,
    split_note,
    write_head,
    write_note,
    write_ranges,
)
from obieg.domain.sealing_check import Deviation, Kind, Outside
from obieg.storage.keys import KeyFileError
from obieg.storage.roots_file import RootsFile
from obieg.storage.seal_keys import SealKeys, create_seal_keys, put_back_seal_keys
from obieg.storage.seal_store import (
    SQL,
    connect,
    newest_seal,
    position,
    records,
    run,
    seal_of_record,
    stored_seals,
    transaction,
)
from obieg.storage.seal_verifier import verify, verify_within
from obieg.storage.sealer import SealBroken, Sealer

ORIGIN = "obieg/1.2.3/4.5.6"
Connection = psycopg.Connection[Any]


def insert(
    connection: Connection, count: int = 1, patient: str = "p^^^&1.2&ISO", others: tuple[str, ...] = ()
) -> list[int]:
    found = connection.execute(
        "INSERT INTO audit_event (transaction, outcome, patient_id, request_id, message)"
        " SELECT 'ITI-' || i, 0, %s, 'r' || i, repeat('<é>', i) FROM generate_series(1, %s) AS i RETURNING audit_id",
        [patient, count],
    ).fetchall()
    for (number,) in found:
        for other in others:
            connection.execute("INSERT INTO audit_patient VALUES (%s, %s)", [other, number])
    return [number for (number,) in found]


class Log:
    """A log, its sealer and its verifier."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        create_seal_keys(folder / "seal.key")
        self.keys = SealKeys(folder / "seal.key", ORIGIN)
        self.roots = RootsFile(folder / "roots.txt")
        self.sealer = Sealer(self.keys, ORIGIN, lambda: datetime.now(UTC))
        self.connection = connect(dsn)

    def seal(self) -> list[int]:
        """Numbers of the records sealed."""
        sealed = self.sealer.seal(self.connection)
        assert sealed is not None
        return [number for seal in sealed for number in numbers(seal.records)]

    def outside(self) -> Outside:
        found = Outside(ORIGIN)
        for note in self.roots.read():
            assert found.add(note, "roots.txt") is None
        return found

    def deviations(self, outside: Outside | None = None) -> list[Deviation]:
        found: list[Deviation] = []
        with self.connection.transaction():
            verify_within(
                self.connection,
                origin=ORIGIN,
                signed=self.keys.signed,
                outside=outside or Outside(ORIGIN),
                report=found.append,
            )
        return found


@pytest.fixture
def log(database_dsn: str, tmp_path: Path) -> Iterator[Log]:
    found = Log(database_dsn, tmp_path)
    yield found
    found.connection.close()


def test_every_column_is_sealed(log):
    """A new column must be decided about: it is sealed, as another form, or not."""
    for table, columns in (("audit_event", RECORD_COLUMNS), ("audit_patient", PATIENT_COLUMNS)):
        found = log.connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s", [table]
        ).fetchall()
        assert sorted(found) == sorted(columns)


def test_a_records_bytes_say_all_of_it(log):
    [number] = insert(log.connection, others=("q", "r", "ą"))
    with transaction(log.connection, SQL.begin_verifying):
        [record] = records(log.connection, number, number + 1)
    row = log.connection.execute("SELECT * FROM audit_event WHERE audit_id = %s", [number])
    assert row.description
    names = [column.name for column in row.description]
    stored = dict(zip(names, row.fetchall()[0], strict=True))
    read = read_record(record.data)
    assert datetime.fromisoformat(read.pop("recorded_at")) == stored.pop("recorded_at")
    assert read.pop("other_patients") == ["q", "r", "ą"]
    assert read == stored
    for end in range(len(record.data)):
        if record.data[end:] != b"" and not record.data[end:].startswith(b"\x00\x02"):
            with pytest.raises(ValueError):
                read_record(record.data[:end])


def test_what_is_committed_is_sealed_once_and_the_tree_grows(log):
    assert log.seal() == []
    first = insert(log.connection, 5)
    assert log.seal() == first
    assert log.seal() == []
    second = insert(log.connection, 3, others=("someone",))
    assert log.seal() == second
    seals = list(stored_seals(log.connection))
    assert [(s.sequence, s.tree_size) for s in seals] == [(1, 5), (2, 8)]
    assert log.deviations() == []
    seal = seal_of_record(log.connection, second[1])
    assert seal is not None
    assert position(seal, second[1]) == 6


def test_more_records_than_one_seal_takes(log, monkeypatch):
    monkeypatch.setattr("obieg.storage.sealer.RECORDS_MAX", 10)
    made = insert(log.connection, 25)
    assert log.seal() == made
    assert [s.tree_size for s in stored_seals(log.connection)] == [10, 20, 25]
    assert log.deviations() == []


def test_a_transaction_held_open_across_two_seals_loses_nothing(log):
    early = insert(log.connection, 2)
    assert log.seal() == early
    early = insert(log.connection, 1)
    with psycopg.connect(log.dsn) as held, psycopg.connect(log.dsn) as undone:
        late = insert(held, 2)
        insert(undone, 1)
        assert log.seal() == early
        middle = insert(log.connection, 2)
        late += insert(held, 1)
        assert log.seal() == middle
        later = insert(log.connection, 1)
        late += insert(held, 1)
        assert log.seal() == later
        assert head_of(list(stored_seals(log.connection))[-1].note).complete == early[0] - 1
        undone.rollback()
        assert log.seal() == []
        held.commit()
    last = insert(log.connection, 1)
    assert log.seal() == sorted(late + last)
    assert head_of(list(stored_seals(log.connection))[-1].note).complete == last[0]
    assert log.seal() == []
    assert log.deviations() == []
    total = [(11,), (11,)]
    assert (
        log.connection.execute(
            "SELECT count(*) FROM audit_event UNION ALL SELECT max(tree_size) FROM audit_seal"
        ).fetchall()
        == total
    )


def test_a_sealer_that_begins_again_loses_nothing(log):
    with psycopg.connect(log.dsn) as held:
        late = insert(held, 1)
        now = insert(log.connection, 1)
        assert log.seal() == now
        log.sealer = Sealer(log.keys, ORIGIN, lambda: datetime.now(UTC))
        more = insert(log.connection, 1)
        assert log.seal() == more
        held.commit()
    log.sealer = Sealer(log.keys, ORIGIN, lambda: datetime.now(UTC))
    assert log.seal() == late
    assert log.deviations() == []


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_or_sealed_twice_whatever_the_order(log, seed, tmp_path):
    chance = random.Random(seed)
    sealed: list[int] = []
    committed: set[int] = set()
    open_ones: list[tuple[Connection, list[int]]] = []
    for _ in range(120):
        what = chance.random()
        if what < 0.3 and len(open_ones) < 6:
            open_ones.append((psycopg.connect(log.dsn), []))
        elif what < 0.6 and open_ones:
            connection, mine = chance.choice(open_ones)
            mine += insert(connection, chance.randint(1, 3))
        elif what < 0.8 and open_ones:
            connection, mine = open_ones.pop(chance.randrange(len(open_ones)))
            if chance.random() < 0.7:
                connection.commit()
                committed.update(mine)
            connection.close()
        elif what < 0.84:
            log.sealer = Sealer(log.keys, ORIGIN, lambda: datetime.now(UTC))
        else:
            sealed += log.seal()
            assert set(sealed) == committed
    for connection, _ in open_ones:
        connection.close()
    assert len(sealed) == len(set(sealed))
    assert log.deviations() == []


def test_two_sealers_at_once(log, tmp_path):
    insert(log.connection, 3)
    with connect(log.dsn) as other:
        run(other, SQL.take_sealing_lock)
        assert log.sealer.seal(log.connection) is None
        run(other, SQL.release_sealing_lock)
    assert len(log.seal()) == 3


def test_nothing_is_sealed_on_after_a_seal_that_was_changed(log):
    insert(log.connection, 3)
    log.seal()
    insert(log.connection, 1)
    for change in (
        "UPDATE audit_seal SET tree_size = 2",
        "UPDATE audit_seal SET note = replace(note, 'seal 1', 'seal 2')",
        "UPDATE audit_seal SET peaks = set_byte(peaks, 3, get_byte(peaks, 3) # 1)",
        "UPDATE audit_seal SET records = '{[1,3)}'",
    ):
        with psycopg.connect(log.dsn, autocommit=True) as connection:
            before = connection.execute("SELECT * FROM audit_seal").fetchall()
            connection.execute(change)
            with pytest.raises(SealBroken):
                log.sealer.seal(log.connection)
            connection.execute("DELETE FROM audit_seal")
            connection.execute("INSERT INTO audit_seal VALUES (%s, %s, %s, %s, %s, %s)", before[0])
    assert len(log.seal()) == 1


# tampering -----------------------------------------------------------------------------------------------------------

SEALS = 24
PER_SEAL = 12


@pytest.fixture
def sealed_log(log) -> Log:
    for number in range(SEALS):
        insert(log.connection, PER_SEAL - 4, patient=f"p{number}")
        insert(log.connection, 4, others=(f"o{number}", f"x{number}"))
        with psycopg.connect(log.dsn) as undone:
            insert(undone, 2)  # numbers that no record has
            undone.rollback()
        log.seal()
        assert log.roots.publish(log.connection)
    assert log.deviations(log.outside()) == []
    return log


class Past:
    """Changes to the past of one seal, by somebody who may do everything in the database."""

    def __init__(self, connection: Connection, chance: random.Random, sequence: int) -> None:
        self.connection = connection
        self.chance = chance
        self.sequence = sequence
        [(ranges,)] = self.sql("SELECT records::text FROM audit_seal WHERE sequence = %s", sequence)
        self.numbers = list(numbers(read_ranges(ranges)))
        self.record = chance.choice(self.numbers)

    def sql(self, text: str, *values: Any) -> list[Any]:
        cursor = self.connection.execute(text, values)
        return cursor.fetchall() if cursor.description else []

    def edit(self) -> set[tuple[str, int]]:
        column, _ = self.chance.choice(RECORD_COLUMNS[1:])
        change = {
            "recorded_at": "recorded_at + make_interval(secs => 0.000001 * (1 + floor(random() * 1000000000)))",
            "outcome": "CASE outcome WHEN 0 THEN 8 ELSE 0 END",
            "happened_at": "coalesce(happened_at + interval '1 second', recorded_at)",
            "sender": "sender || 'x'",  # it is empty where the record is the node's own
        }.get(
            column,
            f"overlay({column} placing chr(300 + floor(random() * 10)::int) from 1 + floor(random() * length({column}))::int for 1)",
        )
        self.sql(f"UPDATE audit_event SET {column} = {change} WHERE audit_id = %s", self.record)
        return {("edited", self.record)}

    def trim(self) -> set[tuple[str, int]]:
        self.sql("UPDATE audit_event SET message = left(message, -1) || '' WHERE audit_id = %s", self.record)
        return {("edited", self.record)}

    def move_text_between_columns(self) -> set[tuple[str, int]]:
        self.sql(
            "UPDATE audit_event SET request_id = request_id || left(message, 1), message = substr(message, 2) WHERE audit_id = %s",
            self.record,
        )
        return {("edited", self.record)}

    def delete(self) -> set[tuple[str, int]]:
        self.sql("DELETE FROM audit_patient WHERE audit_id = %s", self.record)
        self.sql("DELETE FROM audit_event WHERE audit_id = %s", self.record)
        return {("deleted", self.record)}

    def swap(self) -> set[tuple[str, int]]:
        one, other = self.chance.sample(self.numbers, 2)
        self.sql(
            "UPDATE audit_event a SET message = b.message, request_id = b.request_id, transaction = b.transaction,"
            " recorded_at = b.recorded_at + make_interval(secs => 0.000001) FROM audit_event b"
            " WHERE (a.audit_id, b.audit_id) IN ((%s, %s), (%s, %s))",
            one, other, other, one,
        )  # fmt: skip
        return {("edited", one), ("edited", other)}

    def renumber(self) -> set[tuple[str, int]]:
        gap = self.gap()
        self.sql(
            "INSERT INTO audit_event OVERRIDING SYSTEM VALUE SELECT %s, recorded_at, transaction, outcome, patient_id,"
            " request_id, message FROM audit_event WHERE audit_id = %s",
            gap, self.record,
        )  # fmt: skip
        self.delete()
        return {("deleted", self.record), ("inserted", gap)}

    def gap(self) -> int:
        return self.chance.choice((self.numbers[-1] + 1, self.numbers[-1] + 2))

    def insert(self) -> set[tuple[str, int]]:
        gap = self.gap()
        self.sql("INSERT INTO audit_event OVERRIDING SYSTEM VALUE VALUES (%s, now(), 'ITI-18', 0, 'p', 'r', 'm')", gap)
        return {("inserted", gap)}

    def insert_patient(self) -> set[tuple[str, int]]:
        self.sql("INSERT INTO audit_patient VALUES (%s, %s)", f"z{self.chance.random()}", self.record)
        return {("edited", self.record)}

    def edit_patient(self) -> set[tuple[str, int]]:
        [(record, patient)] = self.sql(
            "SELECT audit_id, patient_id FROM audit_patient WHERE audit_id = ANY(%s) ORDER BY random() LIMIT 1",
            self.numbers,
        )
        self.sql(
            "UPDATE audit_patient SET patient_id = patient_id || '1' WHERE audit_id = %s AND patient_id = %s",
            record,
            patient,
        )
        return {("edited", record)}

    def delete_patient(self) -> set[tuple[str, int]]:
        [(record, patient)] = self.sql(
            "SELECT audit_id, patient_id FROM audit_patient WHERE audit_id = ANY(%s) ORDER BY random() LIMIT 1",
            self.numbers,
        )
        self.sql("DELETE FROM audit_patient WHERE audit_id = %s AND patient_id = %s", record, patient)
        return {("edited", record)}

    def orphan_patient(self) -> set[tuple[str, int]]:
        gap = self.gap()
        self.sql("INSERT INTO audit_patient VALUES ('z', %s)", gap)
        return {("inserted", gap)}

    def edit_seal(self) -> set[tuple[str, int]]:
        change = self.chance.choice(
            [
                "tree_size = tree_size + 1",
                "leaves = set_byte(leaves, floor(random() * length(leaves))::int, floor(random() * 256)::int) || ''::bytea",
                "leaves = substr(leaves, 1, length(leaves) - 32)",
                "leaves = leaves || substr(leaves, 1, 32)",
                "peaks = overlay(peaks placing '\\x0102'::bytea from 7)",
                "peaks = ''",
                "records = records - int8multirange(int8range(lower(records), lower(records) + 1))",
                "records = records + int8multirange(int8range(upper(records), upper(records) + 1))",
                "note = replace(note, 'time 2', 'time 1')",
                "note = replace(note, 'complete ', 'complete 9')",
                "note = overlay(note placing 'A' from length(note) - 40 for 1) || ''",
                "note = note || 'more'",
                "note = ''",
            ]
        )
        [(before,)] = self.sql("SELECT (s.*)::text FROM audit_seal s WHERE sequence = %s", self.sequence)
        self.sql(f"UPDATE audit_seal SET {change} WHERE sequence = %s", self.sequence)
        [(after,)] = self.sql("SELECT (s.*)::text FROM audit_seal s WHERE sequence = %s", self.sequence)
        return {("seal", self.sequence)} if before != after else set()

    def hide_edit(self) -> set[tuple[str, int]]:
        """The record and its stored leaf hash."""
        self.edit()
        with_leaf(self.connection, self.sequence, self.numbers, self.record)
        return {("seal", self.sequence)}

    def hide_deletion(self) -> set[tuple[str, int]]:
        """The record, its number and its leaf hash in the seal."""
        self.delete()
        at = self.numbers.index(self.record)
        left = write_ranges(ranges_of(n for n in self.numbers if n != self.record))
        self.sql(
            "UPDATE audit_seal SET records = %s::int8multirange, leaves = overlay(leaves placing ''::bytea from %s for 32)"
            " WHERE sequence = %s",
            left, at * 32 + 1, self.sequence,
        )  # fmt: skip
        return {("seal", self.sequence)}

    def hide_insertion(self) -> set[tuple[str, int]]:
        [(_, gap)] = self.insert()
        self.sql(
            "UPDATE audit_seal SET records = %s::int8multirange, leaves = leaves || substr(leaves, 1, 32) WHERE sequence = %s",
            write_ranges(ranges_of(sorted([*self.numbers, gap]))), self.sequence,
        )  # fmt: skip
        with_leaf(self.connection, self.sequence, sorted([*self.numbers, gap]), gap)
        return {("seal", self.sequence)}


def with_leaf(connection: Connection, sequence: int, own: list[int], record: int) -> None:
    [(_, data)] = records(connection, record, record + 1)
    connection.execute(
        "UPDATE audit_seal SET leaves = overlay(leaves placing %s from %s for 32) WHERE sequence = %s",
        [leaf_hash(data), own.index(record) * HASH_BYTES + 1, sequence],
    )


ALONE = [
    Past.edit, Past.edit, Past.edit, Past.trim, Past.move_text_between_columns, Past.delete, Past.delete, Past.swap,
    Past.renumber, Past.insert, Past.insert_patient, Past.edit_patient, Past.delete_patient, Past.orphan_patient,
    Past.edit_seal, Past.edit_seal, Past.hide_edit, Past.hide_deletion, Past.hide_insertion,
]  # fmt: skip


def located(deviations: list[Deviation]) -> set[tuple[str, int]]:
    places: set[tuple[str, int]] = set()
    for deviation in deviations:
        if deviation.record is not None:
            places.add((deviation.kind.value, deviation.record))
        if deviation.seal is not None:
            places.add(("seal", deviation.seal))
    return places


@pytest.mark.slow
def test_ten_thousand_tamperings_are_all_located(sealed_log):
    """Several at a time, each in a seal of its own, so that each must be located by itself."""
    chance = random.Random(6962)
    outside = sealed_log.outside()
    done = 0
    kinds: dict[str, int] = {}
    connection = sealed_log.connection
    connection.execute("SELECT setseed(0.6962)")
    while done < 10_000:
        use_outside = chance.random() < 0.5
        with connection.transaction(force_rollback=True):
            expected: dict[int, set[tuple[str, int]]] = {}
            names: dict[int, str] = {}
            for sequence in chance.sample(range(1, SEALS + 1), 12):
                act = chance.choice(ALONE)
                expected[sequence] = act(Past(connection, chance, sequence))
                names[sequence] = act.__name__
            found = located(sealed_log.deviations(outside if use_outside else None))
        missed = {(names[s], place) for s, places in expected.items() for place in places if place not in found}
        assert missed == set(), f"{missed} among {names}"
        # Nothing is blamed on seals that nobody touched, but that a neighbour no longer follows one that was changed.
        records_touched = {place for places in expected.values() for place in places if place[0] != "seal"}
        touched = {n for kind, n in found if kind == "seal"} - expected.keys() - {s + 1 for s in expected}
        assert touched == set()
        for kind, number in found - records_touched:
            assert kind == "seal" or any(
                number in range((s - 1) * (PER_SEAL + 2) + 1, s * (PER_SEAL + 2) + 1) for s in expected
            )
        done += sum(bool(places) for places in expected.values())
        for name in names.values():
            kinds[name] = kinds.get(name, 0) + 1
    assert min(kinds.values()) > 100
    assert sealed_log.deviations(outside) == []


def rechain(log: Log, connection: Connection, first: int, keys: SealKeys | None) -> None:
    """Makes all seals from ``first`` on anew over the records as they are now; without keys, with the old signatures."""
    rows = connection.execute(
        "SELECT sequence, records::text, note, tree_size, peaks FROM audit_seal WHERE sequence >= %s - 1 ORDER BY sequence",
        [first],
    ).fetchall()
    size, peaks, previous = 0, [], bytes(32)
    for sequence, text, note, tree_size, stored in rows:
        if sequence < first:
            size, peaks, previous = tree_size, peaks_of(tree_size, bytes(stored)), digest(note)
            continue
        there = {
            record.number: leaf_hash(record.data)
            for n in numbers(read_ranges(text))
            for record in records(connection, n, n + 1)
        }
        own = ranges_of(there)
        leaves = b"".join(there.values())
        peaks = join(peaks, cover(size, leaves))
        size += count(own)
        _, signatures = split_note(note)

        head = msgspec.structs.replace(
            head_of(note), tree_size=size, root=root(peaks), records=sha256(write_ranges(own).encode()).digest(),
            leaves=sha256(leaves).digest(), previous=previous,
        )  # fmt: skip
        fresh = keys.sign(write_head(head)) if keys else write_note(write_head(head), signatures)
        connection.execute(
            "UPDATE audit_seal SET tree_size = %s, records = %s::int8multirange, leaves = %s, peaks = %s, note = %s WHERE sequence = %s",
            [size, write_ranges(own), leaves, b"".join(p.hash for p in peaks), fresh, sequence],
        )
        previous = digest(fresh)


@pytest.mark.parametrize("stolen_key", [False, True])
def test_a_superuser_who_recomputes_the_chain_is_found(sealed_log, stolen_key):
    chance = random.Random(3161)
    outside = sealed_log.outside()
    connection = sealed_log.connection
    for _ in range(10):
        sequence = chance.randint(1, SEALS)
        with connection.transaction(force_rollback=True):
            act = chance.choice([Past.edit, Past.delete, Past.swap, Past.insert_patient])
            act(Past(connection, chance, sequence))
            rechain(sealed_log, connection, sequence, sealed_log.keys if stolen_key else None)
            alone = sealed_log.deviations()
            found = sealed_log.deviations(outside)
        # Who has the key, too, makes a sound log; only what is kept outside tells.
        assert alone == [] if stolen_key else ("seal", sequence) in located(alone)
        assert ("seal", sequence) in located(found)
        assert min(n for kind, n in located(found) if kind == "seal") == sequence


def test_what_is_cut_off_is_found(sealed_log):
    outside = sealed_log.outside()
    connection = sealed_log.connection
    for kept in (0, 1, SEALS // 2, SEALS - 1):
        with connection.transaction(force_rollback=True):
            [(last,)] = connection.execute(
                "SELECT coalesce(max(upper(records)), 0) FROM audit_seal WHERE sequence <= %s", [kept]
            ).fetchall()
            connection.execute("DELETE FROM audit_seal WHERE sequence > %s", [kept])
            connection.execute("DELETE FROM audit_patient WHERE audit_id >= %s", [last])
            connection.execute("DELETE FROM audit_event WHERE audit_id >= %s", [last])
            assert sealed_log.deviations() == []  # nothing in the database says so
            [found] = sealed_log.deviations(outside)
        assert (found.kind, found.seal) == (Kind.SEAL_MISSING, kept + 1)
        with connection.transaction(force_rollback=True):  # records alone: what is in the database says so
            connection.execute("DELETE FROM audit_patient WHERE audit_id >= %s", [last])
            gone = connection.execute(
                "DELETE FROM audit_event WHERE audit_id >= %s RETURNING audit_id", [last]
            ).fetchall()
            found_all = sealed_log.deviations()
        assert {(d.kind, d.record) for d in found_all} == {(Kind.DELETED, number) for (number,) in gone}


def test_a_seal_that_is_gone_and_roots_that_are_not_ours(sealed_log):
    connection = sealed_log.connection
    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM audit_seal WHERE sequence IN (7, 8)")
        found = sealed_log.deviations()
    assert any(d.kind is Kind.SEAL_MISSING and d.seal == 7 for d in found)
    assert {d.record for d in found if d.kind is Kind.INSERTED} == {
        n for s in (7, 8) for n in range((s - 1) * (PER_SEAL + 2) + 1, s * (PER_SEAL + 2) - 1)
    }
    outside = Outside(ORIGIN)
    assert outside.add("rubbish\n", "file") is not None
    seal = newest_seal(connection)
    assert seal is not None
    forged = seal.note.replace("\nform 1", "\nform 2")
    assert outside.add(forged, "file") is None
    [found_one] = sealed_log.deviations(outside)
    assert (found_one.kind, found_one.seal) == (Kind.OUTSIDE, SEALS)


def test_all_cores_find_the_same(sealed_log):
    connection = sealed_log.connection
    chance = random.Random(1)
    expected = Past(connection, chance, 5).edit() | Past(connection, chance, 20).delete()
    found: list[Deviation] = []
    counted: list[int] = []
    summary = verify(
        sealed_log.dsn,
        origin=ORIGIN,
        signed=sealed_log.keys.signed,
        outside=sealed_log.outside(),
        wanted=lambda _: True,
        report=found.append,
        progress=counted.append,
        processes=2,
    )
    assert {(d.kind.value, d.record) for d in found} == expected
    assert sum(counted) == summary.records == SEALS * PER_SEAL
    assert summary.seals == SEALS
    some: list[Deviation] = []
    summary = verify(
        sealed_log.dsn,
        origin=ORIGIN,
        signed=sealed_log.keys.signed,
        outside=sealed_log.outside(),
        wanted=lambda examined: examined.stored.sequence > 10,
        report=some.append,
        progress=counted.append,
        processes=1,
    )
    assert {d.seal for d in some} == {20}
    assert summary.records == (SEALS - 10) * PER_SEAL


# roots file ----------------------------------------------------------------------------------------------------------


def test_the_roots_file_is_only_added_to_and_says_when_the_database_is_set_back(log, tmp_path):
    insert(log.connection)
    log.seal()
    assert log.roots.publish(log.connection)
    before = (tmp_path / "roots.txt").read_bytes()
    (tmp_path / "roots.txt").write_bytes(before + before[:50])  # cut off while it was written
    insert(log.connection)
    log.seal()
    again = RootsFile(tmp_path / "roots.txt")
    assert again.publish(log.connection)
    assert again.publish(log.connection)
    assert (tmp_path / "roots.txt").read_bytes().startswith(before + before[:50] + b"\n" + CUT_OFF.encode())
    assert [head_of(note).sequence for note in again.read()] == [1, 2]
    log.connection.execute("DELETE FROM audit_seal WHERE sequence = 2")
    assert not RootsFile(tmp_path / "roots.txt").publish(log.connection)
    assert log.sealer.seal(log.connection)
    back = RootsFile(tmp_path / "roots.txt")
    assert not back.publish(log.connection)
    assert [head_of(note).sequence for note in back.read()] == [1, 2, 2]


def test_keys_stay_with_their_owner(tmp_path):
    path = tmp_path / "seal.key"
    create_seal_keys(path)
    keys = SealKeys(path, ORIGIN)
    create_seal_keys(path)  # never overwritten
    note = keys.sign("a\n1\nb\n")
    assert SealKeys(path, ORIGIN).signed(note)
    assert not keys.signed(note.replace("1", "2", 1))
    assert not SealKeys(path, "another").signed(note)
    create_seal_keys(tmp_path / "new.key")
    path.write_bytes(path.read_bytes() + (tmp_path / "new.key").read_bytes())
    both = SealKeys(path, ORIGIN)
    assert both.signed(note)
    assert not keys.signed(both.sign("a\n1\nb\n"))
    put_back_seal_keys(both_keys := path.read_bytes(), path)
    put_back_seal_keys(both_keys, tmp_path / "data" / "seal.key")
    assert SealKeys(tmp_path / "data" / "seal.key", ORIGIN).signed(note)
    with pytest.raises(KeyFileError, match="other keys"):
        put_back_seal_keys((tmp_path / "new.key").read_bytes()[::-1], path)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        SealKeys(path, ORIGIN)
