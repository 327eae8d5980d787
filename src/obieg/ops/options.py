"""Options that several commands take, spelled and explained alike."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

SettingsFile = Annotated[Path, typer.Option("--settings", "-s", help="The node's settings file (TOML).")]
OptionalSettingsFile = Annotated[Path | None, typer.Option("--settings", "-s", help="The node's settings file (TOML).")]
NodeFile = Annotated[
    Path | None, typer.Option("--node", help="Ready file of a running node, as lab, demo and serve write it.")
]
NeededNodeFile = Annotated[
    Path, typer.Option("--node", metavar="FILE", help="Ready file of a running node, as lab, demo and serve write it.")
]
ReadyFile = Annotated[
    Path | None,
    typer.Option("--ready-file", help="File to write the endpoints to (JSON) as soon as the node is ready."),
]
AsPerson = Annotated[
    str,
    typer.Option("--as", metavar="LOGIN|PESEL", help="Who asks: a person whom the ready file names, or a patient."),
]
Purpose = Annotated[
    str, typer.Option("--purpose", metavar="CODE", help="PurposeOfUse, such as TREAT or BTG; the usual of the role.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who does it; the system's user if not given.")]
Charset = Annotated[
    str, typer.Option(metavar="NAME", help="Of CSV: utf-8, windows-1250 or iso-8859-2; if it is not certain.")
]
Rejects = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Where rejected records go; FILE.rejected if not given.")
]

ROWS_MAX = 10_000  # of a list


def command() -> str:
    """What people type before a command: the program if it is installed, else the clone's own script."""
    return "obieg" if shutil.which("obieg") else "./run obieg"
