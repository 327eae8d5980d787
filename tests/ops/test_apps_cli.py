"""``obieg apps``: what an operator sees of the apps that people have let in, and can do about them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from obieg.actors.keyring import Keyring
from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.authorization import Grant, Issued
from obieg.domain.requester import Requester
from obieg.ops import settings as node_settings
from obieg.ops.cli import app
from obieg.ops.failure import Failure
from obieg.storage.audit_store import AuditStore
from obieg.storage.authorization_store import PostgresAuthorization
from obieg.storage.keys import KeyFile, create_key_file
from obieg.storage.link import Database

NOW = datetime.now(UTC)
EVENT = AuditEvent("ITI-71", "user_authentication", Outcome.SUCCESS)
Run = Callable[..., Any]


@pytest.fixture
def run(database_dsn: str, tmp_path: Path) -> Run:
    text = node_settings.write_commented(
        "region",
        data_dir="data",
        database={"dsn": database_dsn},
        identity={"home_community_id": "1.2.1", "repository_unique_id": "1.2.2", "assigning_authority": "1.2.3"},
    )
    (tmp_path / "settings.toml").write_text(text)
    create_key_file(tmp_path / "data" / "master.key")

    def invoke(*arguments: str) -> Any:
        command = ["apps", *arguments, "--settings", str(tmp_path / "settings.toml")]
        done = CliRunner().invoke(app, command, env={"COLUMNS": "300"})
        return done.exception or done.exit_code if done.exit_code else done.output

    return invoke


def within(dsn: str, tmp_path: Path, work: Callable[[PostgresAuthorization], Any]) -> Any:
    async def within_loop() -> Any:
        database = Database(dsn, links=1)
        audit = AuditStore(database, source_id="test", names={}, now=lambda: NOW)
        try:
            return await work(PostgresAuthorization(database, audit, KeyFile(tmp_path / "data" / "master.key")))
        finally:
            database.close()

    return asyncio.run(within_loop())


def test_apps_are_listed_and_ended(run: Run, database_dsn: str, tmp_path: Path) -> None:
    assert run("list") == "No app has been let in.\n"
    person = Requester(system="pages", person="1.2#7", token="session")
    asked, let_in = str(uuid.uuid4()), str(uuid.uuid4())
    grant = Grant("app", person, ("user/*.rs", "offline_access"), patient="P1")

    async def put(store: PostgresAuthorization) -> None:
        for grant_id in (asked, let_in):
            await store.ask(grant_id, grant, "session", NOW + timedelta(minutes=5))
        code = Issued(b"c" * 32, "C", NOW + timedelta(minutes=1))
        await store.allow(let_in, grant, code, NOW + timedelta(days=1), EVENT)

    within(database_dsn, tmp_path, put)
    listed = run("list")
    assert let_in in listed
    assert asked not in listed
    assert "1.2#7" in listed
    assert "user/*.rs offline_access" in listed
    assert run("end", let_in) == "ended\n"
    assert run("list") == "No app has been let in.\n"
    assert isinstance(run("end", let_in), Failure)
    assert run("end", "x") == 2 or isinstance(run("end", "x"), SystemExit)
    found = within(database_dsn, tmp_path, lambda store: store.find(b"c" * 32, NOW, ()))
    assert (found.live, found.used) == (False, False)
    with psycopg.connect(database_dsn) as connection:
        rows = connection.execute("SELECT transaction, outcome FROM audit_event ORDER BY audit_id").fetchall()
    assert rows[:2] == [("ITI-71", 0), ("RFC 7009", 0)]


def test_what_has_ended_is_forgotten(run: Run, database_dsn: str, tmp_path: Path) -> None:
    person = Requester(system="pages", person="1.2#7", token="session")

    async def put(store: PostgresAuthorization) -> list[int]:
        for hours in (-1, 1):
            grant_id, until = str(uuid.uuid4()), NOW + timedelta(hours=hours)
            await store.ask(grant_id, Grant("app", person, ("user/*.rs",)), "session", until)
            await store.allow(
                grant_id, Grant("app", person, ()), Issued(bytes([hours + 1]) * 32, "C", until), until, EVENT
            )
            await store.revoke(grant_id, until, EVENT)
        await store.forget(NOW)
        with psycopg.connect(database_dsn) as connection:
            tables = ("oauth_grant", "oauth_secret", "oauth_revoked")
            return [connection.execute(f"SELECT count(*) FROM {t}".encode()).fetchone()[0] for t in tables]  # type: ignore[index]

    assert within(database_dsn, tmp_path, put) == [1, 1, 1]


def test_another_key_signs_at_once(run: Run, database_dsn: str, tmp_path: Path) -> None:
    async def current(store: PostgresAuthorization) -> str:
        return (await Keyring(store, lambda: datetime.now(UTC)).current())[0]

    old = within(database_dsn, tmp_path, current)
    said = run("rotate-key")
    new = within(database_dsn, tmp_path, current)
    assert old != new
    assert new in said


async def test_of_workers_that_start_at_once_one_makes_the_key(run: Run, database_dsn: str, tmp_path: Path) -> None:
    database = Database(database_dsn, links=4)
    audit = AuditStore(database, source_id="test", names={}, now=lambda: NOW)
    store = PostgresAuthorization(database, audit, KeyFile(tmp_path / "data" / "master.key"))
    rings = [Keyring(store, lambda: NOW) for _ in range(8)]
    found = await asyncio.gather(*(ring.current() for ring in rings))
    assert len({key_id for key_id, _ in found}) == 1
    assert len(await store.keys()) == 1
    database.close()
