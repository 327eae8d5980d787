"""The command line. Each group of commands is a module of its own, named in one line of the table here.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 another node runs there; 4 database and program do not fit; 5 what was
asked about may not be done.
"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import NoReturn

import typer
from rich.console import Console

from obieg.ops.failure import Failure
from obieg.ops.lazy_commands import lazily

# The module below obieg.ops whose register(app) adds the commands, and their names, in the order of the help.
COMMANDS = {
    "commands_node": ("init", "serve", "lab"),
    "demo": ("demo",),
    "demo_emergency": ("demo-emergency",),
    "commands_documents": ("submit", "find", "get"),
    "commands_xdm": ("xdm",),
    "commands_check": ("check",),
    "commands_database": ("db",),
    "commands_transactions": ("explain",),
    "commands_access": ("access",),
    "commands_audit": ("audit",),
    "commands_certs": ("certs",),
    "commands_apps": ("apps",),
    "commands_inbox": ("inbox",),
    "commands_outbox": ("outbox",),
    "commands_patients": ("patients",),
    "commands_retention": ("retention",),
    "commands_directory": ("directory",),
    "commands_people": ("people",),
    "backup": ("backup", "restore"),
    "documents": ("verify", "documents"),
}
app = typer.Typer(
    cls=lazily(COMMANDS),
    name="obieg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _obieg() -> None:
    """Regional exchange of electronic medical documentation: a region, a facility, a laboratory."""


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
