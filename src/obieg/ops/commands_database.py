"""``obieg db …``: the node's database."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from obieg.mapping.fhir_documents import Renderer
from obieg.ops import rerendering
from obieg.ops import settings as node_settings
from obieg.ops.index_access import told
from obieg.ops.migrate import migrate as apply_migrations
from obieg.ops.options import SettingsFile
from obieg.ops.postgres import reach
from obieg.ops.wiring_patients import affinity_domain


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    database = typer.Typer(help="The node's database.", no_args_is_help=True)
    database.command()(migrate)
    database.command()(rerender)
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


def rerender(
    settings: SettingsFile,
    *,
    status: Annotated[bool, typer.Option("--status", help="Only count what an older release has written.")] = False,
) -> None:
    """Write stored metadata anew as this release writes them, while the node serves; repeat it as often as you like."""
    node = node_settings.load(settings)
    kinds = (*rerendering.KINDS, *rerendering.fhir_kinds(Renderer(affinity_domain(node))))
    with reach(node.database.dsn, node.postgres_dir) as dsn, told():
        if status:
            for name, rows, old in rerendering.status(dsn, kinds):
                typer.echo(f"{name}: {rows}, {old} of an older release")
            return
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description:18}"),
            TextColumn("{task.completed:>12.0f} looked at"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            tasks = {kind.name: progress.add_task(kind.name, total=None) for kind in kinds}
            done = rerendering.rerender(
                dsn, advance=lambda kind, looked, _: progress.advance(tasks[kind], looked), kinds=kinds
            )
    for name, renewed in done.renewed.items():
        typer.echo(f"{name}: {renewed} written anew")
    if done.refused_count:
        for line in done.refused:
            typer.echo(line, err=True)
        typer.echo(f"{done.refused_count} stay as they are; they are still found and given out as before", err=True)
        raise typer.Exit(1)
