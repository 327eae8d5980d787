"""Writes docs/settings.md from the settings' model. Run: python -m tools.settings_page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from obieg.ops.settings import Setting, tables

PATH = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_HEAD = """# Settings

<!-- Made by python -m tools.settings_page from src/obieg/ops/settings.py. Do not edit. -->

A node is described by one TOML file: `obieg init --role region DIR` writes it with every setting explained,
`obieg serve --settings DIR/settings.toml` runs it. An environment variable wins over the file: `OBIEG_`, the table, two
underscores, the name, as in `OBIEG_HTTP__PORT=8443`. An unknown key is an error. Units stand at the end of a name:
`_bytes`, `_s` (seconds).
"""


def page() -> str:
    """The whole page."""
    lines = [_HEAD]
    for table in tables():
        where = {None: "", "region": " Only on a region.", "facility": " Only on a facility."}[table.role]
        repeated = " May stand any number of times." if table.repeated else ""
        heading = (
            f"`[[{table.name}]]`" if table.repeated else f"`[{table.name}]`" if table.name else "Before the first table"
        )
        lines += [f"## {heading}", "", f"{table.title}{where}{repeated}", ""]
        lines += ["| name | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(setting) for setting in table.settings]
        lines.append("")
    return "\n".join(lines)


def _row(setting: Setting) -> str:
    default = "**required**" if setting.required else _default(setting.default)
    return f"| `{setting.name}` | {setting.type} | {default} | {setting.description} |"


def _default(value: Any) -> str:
    if isinstance(value, SecretStr) or value in ("", None, ()):
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        for unit, name in _UNITS:
            if value >= unit and value % unit == 0:
                return f"{value} ({value // unit} {name})"
    return f"{value}"


if __name__ == "__main__":
    PATH.write_text(page(), "utf-8")
