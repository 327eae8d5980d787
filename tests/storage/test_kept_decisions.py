"""What was decided about access is kept only while all that it rests on stands: every change of it is seen."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import psycopg
import pytest
from test_access_stored import ANNA, OWN, PESEL, patient

from obieg.domain.permits import Named, Person
from obieg.domain.registry import LostRace
from obieg.domain.sight import Sight
from obieg.storage.facts_store import LocatedFacts
from obieg.storage.link import Database, run
from obieg.storage.statements import load

_READS = re.compile(
    r"\b(?:FROM|JOIN)\s+(patient\w*|access_\w+|document_entry|object_locator|unique_id_locator|folder)\b"
)
# By these only who is named by an object is found, and what is asked so is not kept.
_LOCATING = {"object_locator", "unique_id_locator", "folder"}
_BPPC = "urn:ihe:iti:bppc:2007"
# Of each table that facts are read from, what makes a row of patient 1 in it, and which row that is.
_ROWS = {
    "patient_locator": (
        f"INSERT INTO patient_locator (authority, value, patient_key) VALUES ('{PESEL}', 'new', 1)",
        "authority <> '' AND value = 'new'",
    ),
    "patient_record": (
        ("INSERT INTO patient_record (patient_key, record_key, source, authorities, values, demographics, blocks, names,"
        " sounds, birth_date, sex) VALUES (1, 99, 's', '{}', '{}', '', '{}', '', '', '1970', 'F')"),
        "record_key = 99",
    ),
    "patient_link": (
        "INSERT INTO patient_link (patient_key, merged_into, survivor_key, reason, linked_by) VALUES (2, 1, 1, 'r', 'b')",
        "patient_key = 2",
    ),
    "access_fact": (
        ("INSERT INTO access_fact (patient_key, source, version, kind, facts, recorded_at, recorded_by)"
        " VALUES (1, 's', 1, 'notices', '[true]', now(), 't')"),
        "source = 's'",
    ),
    "document_entry": (
        ("INSERT INTO document_entry SELECT (jsonb_populate_record(NULL::document_entry, d.said)).* FROM ("
        "SELECT jsonb_object_agg(a.attname, CASE WHEN t.typcategory = 'A' THEN '[]' WHEN t.typcategory = 'N' THEN '1'"
        " WHEN t.typname = 'timestamptz' THEN '\"2026-01-01T00:00:00Z\"' WHEN t.typcategory = 'B' THEN 'false'"
        " WHEN t.typname = 'uuid' THEN '\"00000000-0000-0000-0000-000000000001\"' WHEN t.typname = 'bytea' THEN '\"\"'"
        f" WHEN a.attname = 'format_code' THEN '\"{_BPPC}\"' ELSE '\"A\"' END::jsonb) AS said"
        " FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid"
        " WHERE a.attrelid = 'document_entry'::regclass AND a.attnum > 0 AND NOT a.attisdropped) d"),
        "entry_uuid = '00000000-0000-0000-0000-000000000001'",
    ),
}  # fmt: skip


class Shelf:
    def __init__(self, dsn: str, database: Database) -> None:
        self.database = database
        self.facts = LocatedFacts(database, assigning_authority=OWN)
        self.dsn = dsn

    def sql(self, *statements: str) -> list[tuple[str, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursors = [connection.execute(statement.encode()) for statement in statements]
            return cursors[-1].fetchall() if cursors[-1].description else []

    async def anna(self) -> Person:
        [person] = await self.facts.of(Named((ANNA,)))
        return person

    async def stands(self, person: Person) -> bool:
        """Whether a question is answered that is asked by what was decided about this person."""
        known = tuple(zip(person.keys, person.versions, strict=True))
        statement = load("registry.sql").find_document_ids
        asked = dict.fromkeys(statement.plain.parameters) | {
            "authority": OWN, "value": "a", "status": "{A}", "results_max": 1, "refused_above": 1, "old_versions": False,
        }  # fmt: skip
        try:
            await run(self.database, statement.seen(Sight(person.keys, known=known), **asked))
        except LostRace:
            return False
        return True


@pytest.fixture
async def shelf(database_dsn: str) -> AsyncIterator[Shelf]:
    database = Database(database_dsn, links=2)
    await database.open()
    made = Shelf(database_dsn, database)
    made.sql(*patient(1, "a", ("19800229", "80022912345", "{}")), *patient(2, "b", ("1980", "", "{}")))
    yield made
    database.close()


async def test_the_tables_are_all_that_facts_are_read_from(shelf: Shelf) -> None:
    read = set()
    for function in ("obieg_persons", "obieg_kin"):
        [[text]] = shelf.sql(f"SELECT prosrc FROM pg_proc WHERE proname = '{function}'")
        assert set(re.findall(r"\bobieg_\w+(?=\()", text)) <= {"obieg_kin", "obieg_last_day"}
        read |= set(_READS.findall(text))
        # No other table is read there, under whatever name.
        [[used]] = shelf.sql(
            "SELECT array_agg(c.relname::text) FROM pg_class c WHERE c.relkind IN ('r', 'v', 'p', 'm')"
            " AND c.relnamespace = 'public'::regnamespace"
            f" AND (SELECT prosrc FROM pg_proc WHERE proname = '{function}') ~ ('(FROM|JOIN|,)\\s+' || c.relname || '\\M')"
        )
        assert set(used) <= read, function
    assert read == {"patient", *_ROWS, *_LOCATING}


@pytest.mark.parametrize("table", _ROWS)
async def test_a_change_of_any_row_is_seen(shelf: Shelf, table: str) -> None:
    insert, row = _ROWS[table]
    patient_key = "survivor_key" if table == "patient_link" else "patient_key"
    for change in (
        insert,
        f"UPDATE {table} SET {patient_key} = {patient_key} WHERE {row}",  # whichever column it is
        f"DELETE FROM {table} WHERE {row}",
        insert,
        f"UPDATE {table} SET {patient_key} = 3 WHERE {row}",  # away, and back
        f"UPDATE {table} SET {patient_key} = 1 WHERE {row}",
    ):
        before = await shelf.anna()
        assert await shelf.stands(before)
        shelf.sql(change)
        assert not await shelf.stands(before), change
        assert before.versions != (await shelf.anna()).versions


async def test_a_change_of_the_patient_and_its_end_are_seen(shelf: Shelf) -> None:
    before = await shelf.anna()
    shelf.sql("UPDATE patient SET affinity_domain_id = affinity_domain_id WHERE patient_key = 1")
    assert not await shelf.stands(before)
    before = await shelf.anna()
    shelf.sql("DELETE FROM patient WHERE patient_key = 1")
    assert not await shelf.stands(before)


async def test_what_is_said_of_one_who_is_linked_is_seen(shelf: Shelf) -> None:
    shelf.sql(_ROWS["patient_link"][0])
    before = await shelf.anna()
    assert before.keys == (1, 2)
    shelf.sql(_ROWS["access_fact"][0].replace("VALUES (1,", "VALUES (2,"))
    assert not await shelf.stands(before)
    # A link of somebody else to one of them, which makes them all one person.
    shelf.sql(*patient(3, "c"))
    before = await shelf.anna()
    shelf.sql(
        "INSERT INTO patient_link (patient_key, merged_into, survivor_key, reason, linked_by) VALUES (3, 2, 1, '', '')"
    )
    assert not await shelf.stands(before)


async def test_what_was_undone_or_is_of_others_changes_nothing(shelf: Shelf) -> None:
    before = await shelf.anna()
    with psycopg.connect(shelf.dsn) as connection:
        connection.execute(_ROWS["access_fact"][0].encode())
        assert await shelf.stands(before)  # not committed
        connection.rollback()
    shelf.sql(_ROWS["access_fact"][0].replace("VALUES (1,", "VALUES (2,"))
    shelf.sql(_ROWS["document_entry"][0].replace(_BPPC, "urn:other"))
    assert await shelf.stands(before)


async def test_a_change_is_written_once_however_much_it_changes(shelf: Shelf) -> None:
    with psycopg.connect(shelf.dsn, autocommit=True) as connection, connection.transaction():
        for number in range(3):
            connection.execute(_ROWS["access_fact"][0].replace("'s', 1", f"'s{number}', 1").encode())
        written = connection.execute(
            "SELECT n_tup_upd FROM pg_stat_xact_user_tables WHERE relname = 'patient'"
        ).fetchone()
    assert written == (1,)
