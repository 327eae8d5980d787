"""``obieg db …``: the node's database."""

from __future__ import annotations

from typing import Annotated

import typer

from obieg.ops import settings as node_settings
from obieg.ops.migrate import migrate as apply_migrations
from obieg.ops.options import SettingsFile
from obieg.ops.postgres import reach


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    database = typer.Typer(help="The node's database.", no_args_is_help=True)
    database.command()(migrate)
    app.add_typer(database, name="db")


def migrate(
    settings: SettingsFile,
    *,
    before_upgrade: Annotated[
        bool, typer.Option("--before-upgrade", help="Stop before what the release still running could not bear.")
    ] = False,
) -> None:
    """Bring the database to the schema of this release."""
    node = node_settings.load(settings)
    with reach(node.database.dsn, node.postgres_dir) as dsn:
        applied = apply_migrations(dsn, stop_before_post=before_upgrade)
    for name in applied:
        typer.echo(f"applied {name}")
    typer.echo(
        f"{len(applied)} applied" if applied else "nothing to apply: the database has the schema of this release"
    )
