"""``obieg audit …``: what the node remembers of every transaction."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any

import psycopg
import typer

from obieg.domain.audit import Outcome
from obieg.ops import audit_reading, commands_seal
from obieg.ops.asking import ask, connected, loaded
from obieg.ops.options import NodeFile, OptionalSettingsFile
from obieg.storage.statements import load

FOLLOW_S = 1.0
FOLLOW_ROWS_MAX = 1000


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    audit = typer.Typer(help="What the node remembers of every transaction.", no_args_is_help=True)
    audit.command()(tail)
    commands_seal.add(audit)
    audit.command()(audit_reading.search)
    audit.command()(audit_reading.export)
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
    with connected(loaded(node, settings), "audit") as connection:
        after = _print(_newest(connection, 0, count), messages=messages)
        while follow:
            time.sleep(FOLLOW_S)
            after = _print(_newest(connection, after, FOLLOW_ROWS_MAX), messages=messages) or after


def _newest(connection: psycopg.Connection[Any], after: int, count: int) -> list[tuple[Any, ...]]:
    return ask(connection, load("audit.sql").audit_tail, after=after, count=count)[::-1]


def _print(found: list[tuple[Any, ...]], *, messages: bool) -> int:
    """Prints the records; the number of the last."""
    last = 0
    for audit_id, recorded_at, transaction, outcome, patient_id, request_id, message in found:
        last = audit_id
        when: datetime = recorded_at
        typer.echo(f"{when:%Y-%m-%d %H:%M:%S}  {transaction:8} {_word(outcome):15} {request_id:34} {patient_id}")
        if messages:
            typer.echo(f"    {message}")
    return last


def _word(code: int) -> str:
    """The outcome in words."""
    return next((each.name.lower().replace("_", " ") for each in Outcome if each.value == str(code)), str(code))
