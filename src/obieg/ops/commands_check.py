"""``obieg check``: what changed settings, codes or trust would do, before they are put in place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from obieg.domain.operating import Operator
from obieg.domain.previewing import BYTES_MAX, Effect, Kind, Preview
from obieg.ops.accounts import os_user
from obieg.ops.failure import Failure
from obieg.ops.operating import Operating, operated
from obieg.ops.options import AsJson, By, NodeFile, OptionalSettingsFile
from obieg.ops.showing import local, print_json
from obieg.web.kit import texts


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(check)


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The changed file; it is read, nothing else.")],
    kind: Annotated[
        Kind,
        typer.Option(
            help="settings: a settings file. codes: the codes of the affinity domain. trust: whom the node trusts."
        ),
    ] = Kind.SETTINGS,
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    by: By = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Say whether a changed file is right, what differs, and what of that which is registered it would break.

    Compared is with the settings that --settings or --node names; nothing is applied. The look-up stands in the audit.
    Exit code 1: the node would not start with it.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Failure(
            f"{file} cannot be read: {error.strerror}.", "Nothing was compared.", "Name the changed file."
        ) from error
    if len(data) > BYTES_MAX:
        raise Failure(f"{file} has more than {BYTES_MAX} bytes.", "It was not read.", "Name the changed file.")

    async def ask(actors: Operating, who: Operator) -> Preview:
        return await actors.operations.preview(kind, data, who)

    found = operated(node, settings, ask, by or os_user())
    print_json(_written(found)) if as_json else _print(found)
    if found.proposal.faults:
        raise typer.Exit(1)


def _written(found: Preview) -> dict[str, Any]:
    proposal = found.proposal
    return {
        "valid": not proposal.faults,
        "faults": msgspec.to_builtins(proposal.faults),
        "changes": msgspec.to_builtins(proposal.changes),
        "overridden": list(proposal.overridden),
        "effects": msgspec.to_builtins(found.effects),
    }


def _print(found: Preview) -> None:
    say, console, proposal = texts("en"), Console(highlight=False, soft_wrap=True, markup=False), found.proposal

    def heading(key: str) -> None:
        console.print(f"\n{say.words[key]}", style="bold")

    if proposal.faults:
        console.print(say.words["operator_preview_invalid"], style="bold red")
        for fault in proposal.faults:
            where = " ".join(filter(None, (f"line {fault.line}" if fault.line else "", fault.key)))
            console.print(f"  {where}: {fault.said}" if where else f"  {fault.said}")
        return
    console.print(say.words["operator_preview_valid"], style="bold green")
    heading("operator_preview_effects")
    for effect in found.effects:
        console.print(f"  {_line(effect, say.words[f'operator_effect_{effect.what}'])}")
        for part in effect.parts:
            console.print(f"    {part.name or '–'}: {part.number}")
    if not found.effects:
        console.print(f"  {say.words['operator_preview_no_effects']}")
    heading("operator_preview_changes")
    for one in proposal.changes:
        console.print(f"  {one.key}: {one.now or '–'} → {one.then or '–'}")
    if not proposal.changes:
        console.print(f"  {say.words['operator_preview_no_changes']}")
    for name in proposal.overridden:
        console.print(f"  {name}: {say.words['operator_preview_overridden']}")
    heading("operator_preview_then")
    console.print(f"  {say.words[f'operator_preview_then_{proposal.kind}']}")


def _line(effect: Effect, what: str) -> str:
    heard = f" ({local(effect.at)})" if effect.at is not None else ""
    return f"{what}{f': {effect.name}' if effect.name else ''}: {effect.number}{heard}"
