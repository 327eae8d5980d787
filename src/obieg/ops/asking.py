"""The node's database for commands: which one is meant, a connection to it, named statements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import typer

from obieg.ops import ready
from obieg.ops.failure import Failure
from obieg.ops.postgres import reach
from obieg.ops.settings import Settings, load
from obieg.storage.statements import Statement


def settings_of(node: Path | None) -> Path:
    """The settings file that the ready file of a running node names."""
    if node is None:
        raise typer.BadParameter("one of --node and --settings is needed")
    if named := ready.read(node).get("settings"):
        return Path(named)
    raise Failure(
        f"{node} does not name the node's settings file.",
        "What you ask for is read from the node's database, which only the settings name.",
        "Give --settings instead.",
    )


def loaded(node: Path | None, settings: Path | None) -> Settings:
    """The settings that are meant by --node or --settings."""
    return load(settings or settings_of(node))


@contextmanager
def connected(settings: Settings, command: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection in which every statement is committed by itself; the database is started where it does not run."""
    with (
        reach(settings.database.dsn, settings.postgres_dir) as dsn,
        psycopg.connect(dsn, autocommit=True, application_name=f"obieg {command}") as connection,
    ):
        yield connection


def ask(connection: psycopg.Connection[Any], statement: Statement, **given: Any) -> list[tuple[Any, ...]]:
    """What a statement answers; nothing where it answers nothing."""
    cursor = psycopg.RawCursor(connection)
    cursor.execute(statement.sql.encode(), [given[name] for name in statement.parameters])
    return cursor.fetchall() if cursor.description else []
