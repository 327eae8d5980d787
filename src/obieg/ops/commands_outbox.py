"""``obieg outbox …``: what waits to be told to others, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from obieg.domain.obligations import OFFICER, PATIENTS
from obieg.domain.operating import LetterShown
from obieg.domain.outbox import Backlog
from obieg.domain.subscriptions import DESTINATION
from obieg.ops.asking import loaded
from obieg.ops.failure import Failure
from obieg.ops.operating import operated
from obieg.ops.options import ROWS_MAX, NodeFile, OptionalSettingsFile
from obieg.ops.showing import local

_Receiver = Annotated[str, typer.Option("--receiver", metavar="NAME", help="Only what is for this receiver.")]
_Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Numbers, as obieg outbox list prints them.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    outbox = typer.Typer(help="What waits to be told to other systems.", no_args_is_help=True)
    outbox.command("list")(list_)
    outbox.command()(retry)
    outbox.command()(drop)
    app.add_typer(outbox, name="outbox")


def list_(
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    receiver: _Receiver = "",
    count: Annotated[int, typer.Option("-n", help="How many messages.", min=1, max=ROWS_MAX)] = 20,
    *,
    dead: Annotated[bool, typer.Option("--dead", help="Only dead letters: what is not tried any more.")] = False,
) -> None:
    """Say what waits for whom, since when, why, and what to do. Times are those of Warsaw."""
    console = Console(highlight=False)
    known = loaded(node, settings)
    found = operated(node, settings, lambda actors, _: actors.operations.letters(receiver, count, dead=dead))
    backlog, rows = [b for b in found.backlog if receiver in ("", b.destination)], found.letters
    if not backlog:
        console.print("Nothing waits.")
        return
    _print_backlog(console, backlog, {s.name for s in known.subscribers} | {PATIENTS, OFFICER})
    if rows:
        _print_rows(console, rows)
    total = sum(b.dead if dead else b.waiting + b.dead for b in backlog)
    if total > len(rows):
        console.print(f"\n{total - len(rows)} more; -n {min(total, ROWS_MAX)} lists them.")


def retry(
    ids: _Ids = None,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    receiver: _Receiver = "",
    *,
    everything: Annotated[bool, typer.Option("--all", help="All messages, or all of --receiver.")] = False,
) -> None:
    """Send messages again now; dead letters are tried for another seven days.

    Of messages about one patient's identifiers only the newest is kept, so trying
    again never brings old news. Changes of links (ITI-64) are told one by one: look
    whether later ones about the same patient went through before you repeat one.
    """
    _expect_named(ids, everything=everything)
    changed = _told(
        ids, operated(node, settings, lambda actors, by: actors.operations.retry(ids or (), by, destination=receiver))
    )
    typer.echo(f"{changed} to be sent again" if changed else "nothing to send again")


def drop(
    ids: _Ids = None,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    receiver: _Receiver = "",
    *,
    all_dead: Annotated[bool, typer.Option("--all-dead", help="All dead letters, or all of --receiver.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="All of --receiver, waiting ones too; for a receiver that is gone.")
    ] = False,
) -> None:
    """Delete messages unsent: their receivers never learn what they say."""
    if everything and not receiver:
        raise typer.BadParameter("--all needs --receiver")
    _expect_named(ids, everything=everything or all_dead)
    only_dead = all_dead and not everything
    changed = _told(
        ids,
        operated(
            node,
            settings,
            lambda actors, by: actors.operations.drop(ids or (), by, destination=receiver, dead=only_dead),
        ),
    )
    typer.echo(f"{changed} dropped" if changed else "nothing to drop")


def _expect_named(ids: Sequence[int] | None, *, everything: bool) -> None:
    if bool(ids) == everything:
        raise typer.BadParameter("name messages by their numbers, or say that you mean all of them")


def _told(ids: Sequence[int] | None, done: Sequence[int]) -> int:
    """How many rows were changed. Fails where a message that was named is not there or on its way."""
    changed = set(done)
    if missed := sorted(set(ids or ()) - changed):
        raise Failure(
            f"Not found, or being sent at this moment: {', '.join(map(str, missed))}"
            + (f" ({len(changed)} others are done)." if changed else "."),
            "What is delivered or replaced by a newer message is no longer in the outbox.",
            "See obieg outbox list.",
        )
    return len(changed)


# printing ------------------------------------------------------------------------------------------------------------


def _print_backlog(console: Console, backlog: Sequence[Backlog], known: set[str]) -> None:
    table = Table("Receiver", "Waiting", "Oldest", "Dead", "", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for b in backlog:
        name = b.destination
        listed = name in known or name.startswith(DESTINATION)
        note = "" if listed else "not in the settings any more: name it there again, or drop --all --receiver"
        table.add_row(Text(name), str(b.waiting), _age(b.oldest_s) if b.waiting else "", str(b.dead), Text(note))
    console.print(table)


def _print_rows(console: Console, rows: Sequence[LetterShown]) -> None:
    now = datetime.now(UTC)
    for row in rows:
        head = Text()
        state = "dead letter" if row.state == "D" else "waiting"
        head.append(f"\n{row.outbox_id}  ", style="bold").append(state, style="bold red" if row.state == "D" else "")
        head.append(f"  {row.transaction} to {row.destination}  {row.key}".rstrip())
        console.print(head, soft_wrap=True)
        tried = f", tried {row.attempts} time{'s' * (row.attempts != 1)}" if row.attempts else ", not yet tried"
        console.print(
            f"    since {local(row.created_at)} ({_age((now - row.created_at).total_seconds())}){tried}", soft_wrap=True
        )
        if row.last_error:
            console.print(Text(f"    {row.last_error}"), soft_wrap=True)
        console.print(Text(f"    {_advice(row)}"), soft_wrap=True)


def _advice(row: LetterShown) -> str:
    """What to do now."""
    if row.state == "D":
        if row.last_error.startswith("NotificationRefused"):
            return (
                "The receiver refuses it, so waiting helps nothing: have the cause mended there or here, then "
                f"obieg outbox retry {row.outbox_id}, or obieg outbox drop {row.outbox_id} if it is not to have it."
            )
        return f"When the receiver runs again: obieg outbox retry {row.outbox_id}."
    if row.on_its_way:
        return "Being sent at this moment."
    if not row.attempts:
        return "Sent as soon as its turn comes; messages about one patient go out in order."
    return f"Nothing to be done here: tried again at {local(row.next_attempt_at)}. See whether the receiver runs."


def _age(seconds: float) -> str:
    age = timedelta(seconds=max(0, int(seconds)))
    if age.days:
        return f"{age.days} d {age.seconds // 3600} h"
    hours, minutes = age.seconds // 3600, age.seconds % 3600 // 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{age.seconds} s"
