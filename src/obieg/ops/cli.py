"""The command line. Each group of commands is a module of its own, registered in one line at the end of this one.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 another node runs there; 4 database and program do not fit.
"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import NoReturn

import typer
from rich.console import Console

from obieg.ops import (
    backup,
    commands_audit,
    commands_certs,
    commands_database,
    commands_directory,
    commands_documents,
    commands_inbox,
    commands_node,
    commands_outbox,
    commands_patients,
    commands_transactions,
    commands_xdm,
    demo,
    documents,
)
from obieg.ops.failure import Failure

app = typer.Typer(
    name="obieg",
    help="Regional exchange of electronic medical documentation: a region, a facility, a laboratory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"obieg {metadata.version('obieg')}")


def main() -> NoReturn:
    """Entry point of ``obieg``."""
    try:
        app(standalone_mode=True)
    except Failure as failure:
        show(failure)
        sys.exit(failure.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def show(failure: Failure) -> None:
    """Prints the three parts of a failure on standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("[bold red]error[/]  ", end="")
    console.print(failure.what, markup=False)
    console.print(f"       {failure.meaning}", markup=False)
    console.print("[bold]now[/]    ", end="")
    console.print(failure.remedy, markup=False)


# One line for each group of commands: register(app) adds its commands.
commands_node.register(app)
demo.register(app)
commands_documents.register(app)
commands_xdm.register(app)
commands_database.register(app)
commands_transactions.register(app)
commands_audit.register(app)
commands_certs.register(app)
commands_inbox.register(app)
commands_outbox.register(app)
commands_patients.register(app)
commands_directory.register(app)
backup.register(app)
documents.register(app)
