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


def command() -> str:
    """What people type before a command: the program if it is installed, else the clone's own script."""
    return "obieg" if shutil.which("obieg") else "./run obieg"
