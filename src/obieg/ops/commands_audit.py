"""``obieg audit …``: what the node remembers of every transaction."""

from __future__ import annotations

import time
from typing import Annotated, Any

import psycopg
import typer

from obieg.domain.audit import StoredAudit
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


def _newest(connection: psycopg.Connection[Any], after: int, count: int) -> list[StoredAudit]:
    rows = ask(connection, load("audit.sql").audit_tail, after=after, count=count)
    return [StoredAudit(*row) for row in reversed(rows)]


def _print(found: list[StoredAudit], *, messages: bool) -> int:
    """Prints the records; the number of the last."""
    for row in found:
        _, moment, transaction, outcome, *rest = audit_reading.cells(row)
        typer.echo(f"{moment}  {transaction:8} {outcome:15} " + "  ".join(filter(None, rest)))
        if messages:
            typer.echo(f"    {row.message}")
    return found[-1].audit_id if found else 0
