"""``obieg apps …``: which apps people have let in, ending that, and another key for tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from obieg.actors.keyring import Keyring
from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.zone import WARSAW
from obieg.ops import settings as node_settings
from obieg.ops.accounts import os_user
from obieg.ops.asking import settings_of
from obieg.ops.authorizing import AUTHORIZATION_NAMES
from obieg.ops.documents import explained, master_key_file
from obieg.ops.failure import Failure
from obieg.ops.options import NodeFile, OptionalSettingsFile
from obieg.ops.postgres import reach
from obieg.ops.settings import Settings
from obieg.ops.wiring import new_uuid
from obieg.ops.wiring_patients import utc_now
from obieg.storage.audit_store import AuditStore
from obieg.storage.authorization_store import PostgresAuthorization
from obieg.storage.keys import KeyFile
from obieg.storage.link import Database

ROWS_MAX = 10_000

Result = TypeVar("Result")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    apps = typer.Typer(help="Apps that people have let see or change data.", no_args_is_help=True)
    apps.command("list")(list_)
    apps.command()(end)
    apps.command("rotate-key")(rotate_key)
    app.add_typer(apps, name="apps")


def list_(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    count: Annotated[int, typer.Option("-n", help="How many.", min=1, max=ROWS_MAX)] = 100,
) -> None:
    """Print who has let which app in, newest first. Times are those of Warsaw."""
    rows = _with(node, settings, lambda store, _: store.standing_grants(utc_now(), count))
    if not rows:
        typer.echo("No app has been let in.")
        return
    table = Table("id", "app", "person", "patient", "may", "since", "until", box=None)
    for standing in rows:
        grant = standing.grant
        times = (f"{at.astimezone(WARSAW):%Y-%m-%d %H:%M}" for at in (standing.granted_at, standing.until))
        table.add_row(
            standing.grant_id, grant.client_id, grant.person.person, grant.patient, " ".join(grant.scopes), *times
        )
    Console(highlight=False).print(table, markup=False)


def end(
    grant: Annotated[str, typer.Argument(metavar="ID", help="As obieg apps list prints it.")],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
) -> None:
    """Take back what a person has let an app do: its tokens hold no longer, at once."""

    async def ended(store: PostgresAuthorization, described: Settings) -> bool:
        return await store.end(grant, _event("RFC 7009", "user_authentication", described, grant), utc_now())

    try:
        UUID(grant)
    except ValueError:
        raise typer.BadParameter("an id as obieg apps list prints it is expected") from None
    if not _with(node, settings, ended):
        raise Failure(f"{grant} does not stand.", "Nothing was changed.", "obieg apps list prints what stands.")
    typer.echo("ended")


def rotate_key(node: NodeFile = None, settings: OptionalSettingsFile = None) -> None:
    """Sign tokens with a new key from now on, as when the old one may have been seen by others.

    Tokens of the old key hold until it is forgotten, two days later; end them by
    ending their apps. A node makes a new key by itself every 90 days.
    """

    async def rotated(store: PostgresAuthorization, described: Settings) -> str:
        key_id = await Keyring(store, utc_now).rotate()
        await store.record(_event("Signing keys", "security_alert", described, f"new key {key_id}"))
        return key_id

    typer.echo(f"tokens are signed with {_with(node, settings, rotated)} from now on")


def _with(
    node: Path | None,
    settings: Path | None,
    work: Callable[[PostgresAuthorization, Settings], Awaitable[Result]],
) -> Result:
    """Does the work over the node's database."""
    described = node_settings.load(settings or settings_of(node))

    async def run(dsn: str) -> Result:
        database = Database(dsn, links=1)
        audit = AuditStore(database, source_id=described.name, names=AUTHORIZATION_NAMES, now=utc_now)
        try:
            return await work(PostgresAuthorization(database, audit, KeyFile(master_key_file(described))), described)
        finally:
            database.close()

    with reach(described.database.dsn, described.postgres_dir) as dsn, explained():
        return asyncio.run(run(dsn))


def _event(transaction: str, event: str, described: Settings, detail: str) -> AuditEvent:
    return AuditEvent(
        transaction,
        event,
        Outcome.SUCCESS,
        detail=detail,
        request_id=new_uuid(),
        source_user=os_user(),
        destination_user=described.name,
    )
