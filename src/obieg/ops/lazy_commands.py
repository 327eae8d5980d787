"""Commands whose module is imported when one of them is run, or help is asked for.

Most of what the others need takes longer to import than many a command runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


def commands_of(module: str) -> Mapping[str, Any]:
    """The commands that the ``register`` of a module below obieg.ops adds."""
    own = typer.Typer()
    import_module(f"obieg.ops.{module}").register(own)
    return typer.main.get_group(own).commands


class LazyGroup(TyperGroup):  # of the click that typer brings, whose types it does not name
    """A group that has further commands."""

    modules: ClassVar[Mapping[str, str]] = {}  # by name of the command

    def list_commands(self, ctx: Any) -> list[str]:
        """All of them, in the order of the help."""
        return [*super().list_commands(ctx), *self.modules]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The one that is called so."""
        if cmd_name not in self.modules:
            return super().get_command(ctx, cmd_name)
        return commands_of(self.modules[cmd_name])[cmd_name]


def lazily(modules: Mapping[str, tuple[str, ...]]) -> type[LazyGroup]:
    """The group that has the commands of these modules, too."""
    return type("LazyGroup", (LazyGroup,), {"modules": {n: module for module, names in modules.items() for n in names}})
