"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import hearing
from obieg.ops.migrate import migrate
from obieg.ops.postgres import Server

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # tools and bench are not installed; some tests look at them
_DATABASES_BYTES = 4 * 2**30  # more than those of one test at a time and their log take
# Tests may lose their data with the machine; what a crash of the machine does is not what they are about.
_UNSAFE_AND_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "64MB"}


def _debian_postgres() -> Path | None:
    """The newest of Debian's PostgreSQL servers, 15 if it is there."""
    found = {p.parent.name: p for p in Path("/usr/lib/postgresql").glob("*/bin") if (p / "initdb").exists()}
    return found.get("15") or (found[max(found, key=float)] if found else None)


def _servers() -> list[str]:
    names = ["embedded"]
    if os.environ.get("OBIEG_TEST_DSN"):
        names.append("dsn")
    elif _debian_postgres():
        names.append("debian")
    return names


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A folder for this run alone: pytest's own is shut to the database's user whenever another run begins."""
    hearing.listen()
    if config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="obieg-tests-")
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs a database needs a running node: ``./run check`` leaves it out."""
    for item in items:
        if "postgres_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.node)


@pytest.fixture(scope="session", autouse=True)
def _no_secret_was_said() -> Iterator[None]:
    """Nothing that any node of this run said holds a secret; nodes end before this does."""
    yield
    said = hearing.secrets_said()
    hearing.close()
    assert said == []


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data beside the repository; tests that need it are skipped, visibly, where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("reference data ../shared is not beside this repository")
    return folder


@pytest.fixture(scope="session", params=_servers())
def postgres_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """DSN of a server's maintenance database: the embedded server, and PostgreSQL 15 where there is one."""
    if request.param == "dsn":
        yield os.environ["OBIEG_TEST_DSN"]
        return
    bin_dir = _debian_postgres() if request.param == "debian" else None
    with tempfile.TemporaryDirectory(prefix="obieg-tests-", dir=_quick_folder()) as folder:
        server = Server(Path(folder) / "pg", bin_dir=bin_dir, settings=_UNSAFE_AND_FAST)
        dsn = server.start()
        yield make_conninfo(dsn, dbname="postgres")
        server.stop()


def _quick_folder() -> Path | None:
    """Memory, where there is enough: a database of a thousand files is made and dropped for every test."""
    memory = Path("/dev/shm")
    enough = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _DATABASES_BYTES
    return memory if enough else None


@contextmanager
def _database(server: str, template: str) -> Iterator[str]:
    name = f"obieg_test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
    yield make_conninfo(server, dbname=name)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def _template(postgres_server: str) -> Iterator[str]:
    with _database(postgres_server, "template0") as dsn:
        migrate(dsn)
        yield str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])


@pytest.fixture
def database_dsn(postgres_server: str, _template: str) -> Iterator[str]:
    """A fresh database with the schema of this code, dropped afterwards."""
    with _database(postgres_server, _template) as dsn:
        yield dsn


@pytest.fixture
def empty_database_dsn(postgres_server: str) -> Iterator[str]:
    """A fresh database with nothing in it."""
    with _database(postgres_server, "template0") as dsn:
        yield dsn
