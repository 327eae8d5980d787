"""The pages of docs/security that list where something is done name every place, and none besides."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src" / "obieg"
PAGES = REPOSITORY / "docs" / "security"
MODULES = {p.relative_to(SOURCE).as_posix(): ast.parse(p.read_text("utf-8")) for p in sorted(SOURCE.rglob("*.py"))}
CRYPTOGRAPHY = {
    "cryptography", "hashlib", "hmac", "secrets", "ssl", "joserfc", "argon2", "webauthn", "rfc3161_client", "random",
}  # fmt: skip
# What opens a connection, by its last two names.
OPENING = {
    "httpx.AsyncClient", "httpx.Client", "httpx.AsyncHTTPTransport", "httpx.get", "httpx.post", "asyncio.open_connection",
    "asyncio.open_unix_connection", "socket.create_connection", "socket.socket", "psycopg.connect", "AsyncConnection.connect",
    "Connection.connect", "PGconn.connect", "PGconn.connect_start", "S3Store",
}  # fmt: skip


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ".".join(ast.unparse(node.func).split(".")[-2:])


def mentioned(tree: ast.AST) -> set[str]:
    """Attributes by their last two names, and bare names: also of what is handed on to be called."""
    found = {".".join(ast.unparse(node).split(".")[-2:]) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def attributes(tree: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def named(page: str, heading: str = "") -> set[str]:
    """The modules that a page names, or one section of it."""
    text = (PAGES / page).read_text("utf-8")
    if heading:
        text = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return {name for name in re.findall(r"`([a-z0-9_]+/[a-z0-9_/]+\.py)`", text) if name in MODULES}


def test_every_place_of_cryptography_is_named() -> None:
    using = {
        name for name, tree in MODULES.items() if CRYPTOGRAPHY & set(imported(tree)) or "urandom" in attributes(tree)
    }
    assert len(using) > 50
    assert named("cryptography.md", "Where it is used") == using


def test_what_can_be_foreseen_is_used_for_no_secret() -> None:
    text = (PAGES / "cryptography.md").read_text("utf-8").partition("\n`random`")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z_/]+\.py)`", text)) == {
        n for n, tree in MODULES.items() if "random" in imported(tree)
    }


def test_every_connection_is_named() -> None:
    opening = {name for name, tree in MODULES.items() if OPENING & mentioned(tree)}
    assert {"edges/clients.py", "storage/link.py", "storage/objects.py"} <= opening
    assert opening - named("connections.md") == set()


def test_there_is_one_log() -> None:
    assert {name for name, tree in MODULES.items() if "logging" in imported(tree)} == {"ops/logs.py"}
    # "typer.echo" and a command's own tables go to whoever called the command.
    printing = {name for name, tree in MODULES.items() if "print" in set(called(tree))}
    assert {name for name in printing if not name.startswith("ops/")} == set()
