"""``obieg audit …``: what the node remembers of every transaction."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from obieg.domain.audit import Outcome
from obieg.ops import ready
from obieg.ops import settings as node_settings
from obieg.ops.failure import Failure
from obieg.ops.options import NodeFile, OptionalSettingsFile
from obieg.ops.postgres import reach
from obieg.storage.statements import load

FOLLOW_S = 1.0
FOLLOW_ROWS_MAX = 1000


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    audit = typer.Typer(help="What the node remembers of every transaction.", no_args_is_help=True)
    audit.command()(tail)
    app.add_typer(audit, name="audit")


def tail(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    count: Annotated[int, typer.Option("-n", help="How many records.", min=1, max=FOLLOW_ROWS_MAX)] = 20,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is recorded from now on.")] = False,
    messages: Annotated[bool, typer.Option("--messages", help="Print the whole audit messages (XML).")] = False,
) -> None:
    """Print the newest audit records, oldest first."""
    described = node_settings.load(settings or settings_of(node))
    with (
        reach(described.database.dsn, described.postgres_dir) as dsn,
        psycopg.connect(dsn, autocommit=True, application_name="obieg audit") as connection,
    ):
        after = _print(_newest(connection, 0, count), messages=messages)
        while follow:
            time.sleep(FOLLOW_S)
            after = _print(_newest(connection, after, FOLLOW_ROWS_MAX), messages=messages) or after


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


def _newest(connection: psycopg.Connection[Any], after: int, count: int) -> list[tuple[Any, ...]]:
    statement = load("audit.sql").audit_tail
    cursor = psycopg.RawCursor(connection)
    values = {"after": after, "count": count}
    cursor.execute(statement.sql.encode(), [values[name] for name in statement.parameters])
    return cursor.fetchall()[::-1]


def _print(rows: list[tuple[Any, ...]], *, messages: bool) -> int:
    """Prints the records; the number of the last."""
    last = 0
    for audit_id, recorded_at, transaction, outcome, patient_id, request_id, message in rows:
        last = audit_id
        when: datetime = recorded_at
        typer.echo(f"{when:%Y-%m-%d %H:%M:%S}  {transaction:8} {_word(outcome):15} {request_id:34} {patient_id}")
        if messages:
            typer.echo(f"    {message}")
    return last


def _word(code: int) -> str:
    """The outcome in words."""
    return next((each.name.lower().replace("_", " ") for each in Outcome if each.value == str(code)), str(code))
