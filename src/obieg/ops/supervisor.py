"""``obieg serve``: keeps one node running.

Theory of operation. The supervisor binds every socket, starts the embedded database if the node has no other, brings
the schema up to date and starts the workers as fresh processes that inherit one listening socket each (SO_REUSEPORT:
the kernel spreads the connections). Because the supervisor keeps the sockets open, callers of a worker that died wait
in the queue of its socket for the next one and are not refused. Nothing else is shared: each worker has its own event
loop. SIGTERM or SIGINT drains, a second one ends at once; SIGHUP is passed on to the workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import structlog

from obieg.domain.audit import AuditObject
from obieg.ops import audit_events, logs
from obieg.ops.backup import UNFINISHED
from obieg.ops.clock import check_clock
from obieg.ops.documents import master_key_file
from obieg.ops.failure import Failure
from obieg.ops.folder_lock import FolderLock
from obieg.ops.metrics import FOLDER_VARIABLE, worker_ended
from obieg.ops.migrate import migrate
from obieg.ops.postgres import Server
from obieg.ops.settings import Settings
from obieg.ops.worker import READY, Assignment, write_assignment

BUILDER = "obieg.ops.wiring:build"
SERVICES = ("registry", "register", "repository", "retrieve", "remove_documents", "xdr")
REGION_SERVICES = ("pix_v3", "pdq_v3", "xcpd", "update", "restricted_update", "remove", "sts", "decisions")
BACKLOG = 1024
LOCAL = "127.0.0.1"  # where browsers of this machine reach the pages
# Workers of a supervisor that was killed a moment ago still hold the port.
BIND_TIME_S = 5.0
START_TIME_S = 60.0
BACK_OFF_S = (0.1, 10.0)
HEALTHY_S = 30.0  # a worker that lived this long is started again without delay
DATABASE_WATCH_S = 1.0
KILL_AFTER_DRAIN_S = 5.0

log = structlog.get_logger()


def serve(
    settings: Settings,
    *,
    settings_file: Path | None = None,
    ready_file: Path | None = None,
    builder: str = BUILDER,
    prepare: Callable[[Settings], None] | None = None,
    announce: Callable[[dict[str, str]], None] | None = None,
) -> None:
    """Runs the node until it is told to stop; ``prepare`` is called before it serves anybody.

    Raises :class:`Failure` when it cannot start.
    """
    logs.configure(settings.log, node=settings.name)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the event loop takes over
    if not settings.lab:
        check_clock()
    lock = FolderLock(settings.data_dir)
    lock.take()
    if (settings.data_dir / UNFINISHED).exists():
        raise Failure(
            f"A restore into {settings.data_dir} was begun and has not ended.",
            "Some documents would be missing, so the node does not start.",
            "Run obieg restore again with the same backup; it goes on where it stopped.",
        )
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        stack.callback(lock.release)
        http = stack.enter_context(_listeners(settings.http.host, settings.http.port, settings.workers, "http"))
        local: list[socket.socket] = []
        if settings.http.local_port:
            local = stack.enter_context(_listeners(LOCAL, settings.http.local_port, settings.workers, "http.local"))
        mllp: list[socket.socket] = []
        if settings.role == "region" and settings.mllp.enabled:
            mllp = stack.enter_context(_listeners(settings.mllp.host, settings.mllp.port, settings.workers, "mllp"))
        syslog: list[socket.socket] = []
        if settings.audit.enabled:
            syslog = stack.enter_context(
                _listeners(settings.audit.host, settings.audit.port, settings.workers, "audit")
            )
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
            stack.callback(ready_file.unlink, missing_ok=True)
        embedded = None if settings.database.dsn else stack.enter_context(_embedded(settings))
        dsn = embedded.dsn if embedded is not None else settings.database.dsn
        for name in migrate(dsn, stop_before_post=bool(settings.database.dsn)):
            log.info("migration applied", migration=name)
        new_key = not master_key_file(settings).exists()
        settings = in_force(settings, dsn, http, mllp, syslog)
        endpoints = endpoints_of(settings, settings_file)

        def ready() -> None:
            if ready_file is not None:
                write_atomically(ready_file, json.dumps(endpoints, indent=2) + "\n")
            _notify_systemd("READY=1")
            log.info("ready", url=endpoints["base_url"], mllp=endpoints.get("mllp", ""), workers=settings.workers)
            if announce is not None:
                announce(endpoints)

        _remember(settings, "start", f"obieg {package_version('obieg')}", settings_file)
        if new_key:
            _remember(settings, "key", "a master key is made", master_key_file(settings))
        if prepare is not None:
            prepare(settings)
        try:
            asyncio.run(_Supervisor(settings, builder, _Sockets(http, mllp, syslog, local), embedded).run(ready))
        finally:
            _remember(settings, "stop", "", settings_file)


def _remember(settings: Settings, kind: str, detail: str, file: Path | None) -> None:
    """Records what happens to the node; a node that cannot start for its database says so elsewhere."""
    objects = [AuditObject("settings", str(file.absolute()))] if file is not None else []
    try:
        audit_events.record(settings.database.dsn, settings, audit_events.activity(kind, settings, detail, objects))
    except psycopg.Error as error:
        log.error("an audit record could not be stored", activity=kind, error=str(error).strip())


def in_force(
    settings: Settings,
    dsn: str,
    http: list[socket.socket],
    mllp: list[socket.socket],
    syslog: Sequence[socket.socket] = (),
) -> Settings:
    """The settings with what was decided at start: the database, the ports, the address others use."""
    port = http[0].getsockname()[1]
    host = f"[{settings.http.host}]" if ":" in settings.http.host else settings.http.host
    if host in {"0.0.0.0", "[::]"}:  # noqa: S104 - compared, not bound
        host = socket.gethostname()
    scheme = "https" if settings.tls.certificate_file is not None and not settings.http.proxies else "http"
    url = settings.http.public_url.rstrip("/") or f"{scheme}://{host}:{port}"
    updates: dict[str, object] = {
        "database": settings.database.model_copy(update={"dsn": dsn}),
        "http": settings.http.model_copy(update={"port": port, "public_url": url}),
    }
    if mllp:
        updates["mllp"] = settings.mllp.model_copy(update={"port": mllp[0].getsockname()[1]})
    if syslog:
        updates["audit"] = settings.audit.model_copy(update={"port": syslog[0].getsockname()[1]})
    return settings.model_copy(update=updates).coming(settings.folder, settings)


def endpoints_of(settings: Settings, settings_file: Path | None = None) -> dict[str, str]:
    """What the ready file says."""
    url = settings.http.public_url
    found = {name: f"{url}/services/{name}" for name in SERVICES}
    found["fhir"] = f"{url}/fhir"
    found["audit_fhir"] = f"{url}/fhir"
    if settings.audit.enabled:
        encrypted = settings.tls.certificate_file is not None
        found["audit_tls" if encrypted else "audit_tcp"] = f"{settings.audit.host}:{settings.audit.port}"
    region = settings.registry
    if settings.role == "facility":
        found |= {"registry": region.query_url, "register": region.register_url}
        if region.mllp_address:
            found["mllp"] = region.mllp_address
    else:
        found |= {name: f"{url}/services/{name}" for name in REGION_SERVICES}
        if settings.mllp.enabled:
            found["mllp"] = f"{settings.mllp.host}:{settings.mllp.port}"
    found |= {
        "repository_uid": settings.identity.repository_unique_id,
        "home_community_id": settings.identity.home_community_id,
        "assigning_authority": settings.identity.assigning_authority,
        "base_url": url,
        "pid": str(os.getpid()),
    }
    if settings.http.local_port:
        found["pages"] = f"http://localhost:{settings.http.local_port}"
    if settings.trust.file is not None:
        found |= {name: f"{url}/auth/{name}" for name in ("token", "authorize", "jwks")}
    if settings.tls.ca_file is not None:
        found["tls_ca"] = str(settings.tls.ca_file)
    if settings_file is not None:
        found["settings"] = str(settings_file.absolute())
    return found


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Whoever reads ``path`` sees all of ``text`` or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


# what the node stands on ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _embedded(settings: Settings) -> Iterator[Server]:
    server = Server(settings.postgres_dir, connections_max=50 + 16 * settings.workers)
    began = time.monotonic()
    server.start()
    try:
        took = round(time.monotonic() - began, 2)
        log.info("embedded PostgreSQL runs", folder=str(settings.postgres_dir), start_s=took)
        yield server
    finally:
        server.stop()
        log.info("embedded PostgreSQL stopped")


@contextlib.contextmanager
def _listeners(host: str, port: int, count: int, what: str) -> Iterator[list[socket.socket]]:
    """``count`` listening sockets on one port; each worker gets its own."""
    deadline = time.monotonic() + BIND_TIME_S
    while True:
        try:
            listeners = _bind(host, port, count)
        except OSError as error:
            if time.monotonic() < deadline and port:
                time.sleep(0.2)
                continue
            raise Failure(
                f"{what}: {host} port {port} cannot be listened on: {error.strerror or error}.",
                "Another program uses the port, or the address is not this machine's, or the port needs more rights.",
                f"Stop the other program (ss -ltnp shows it), or change {what}.port or {what}.host in the settings.",
            ) from error
        break
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


def _bind(host: str, port: int, count: int) -> list[socket.socket]:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    # With SO_REUSEPORT alone, a second node of the same user could join the port unnoticed.
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        if not port:
            address = probe.getsockname()
        if port:
            probe.listen(1)
    found: list[socket.socket] = []
    for _ in range(count):
        listener = socket.socket(family)
        found.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    return found


def _notify_systemd(state: str) -> None:
    """sd_notify(3)."""
    if not (address := os.environ.get("NOTIFY_SOCKET", "")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + address[1:] if address.startswith("@") else address)
        notify.sendall(state.encode())


# the workers ---------------------------------------------------------------------------------------------------------


class _Sockets(NamedTuple):
    """Listening sockets, one for each worker; none of what the node does not serve. In the order of Assignment."""

    http: list[socket.socket]
    mllp: list[socket.socket]
    syslog: list[socket.socket]
    local: list[socket.socket]


class _Supervisor:
    def __init__(
        self,
        settings: Settings,
        builder: str,
        sockets: _Sockets,
        database: Server | None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._builder = builder
        self._sockets = sockets
        self._stopping = asyncio.Event()
        self._running: dict[int, asyncio.subprocess.Process] = {}  # by worker number
        self._metrics = settings.data_dir / "run" / "metrics"

    async def run(self, ready: Callable[[], None]) -> None:
        """Until told to stop."""
        shutil.rmtree(self._metrics, ignore_errors=True)
        self._metrics.mkdir(parents=True)
        loop = asyncio.get_running_loop()

        def stop(*_: Any) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._stop)

        # Not by the loop, which at its end leaves signals to what they do by themselves: one that comes again, as the
        # kernel sends it for each thread of a parent that dies, would end this process before the database is stopped.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        started = [asyncio.Event() for _ in range(self._settings.workers)]
        keepers = [asyncio.create_task(self._keep(number, event)) for number, event in enumerate(started)]
        all_started = asyncio.create_task(_all(started))
        stopping = asyncio.create_task(self._stopping.wait())
        database = asyncio.create_task(self._keep_database())
        try:
            await asyncio.wait([all_started, stopping, *keepers], return_when=asyncio.FIRST_COMPLETED)
            if all_started.done():
                ready()
                await asyncio.wait([stopping, *keepers], return_when=asyncio.FIRST_COMPLETED)
            for keeper in keepers:
                if keeper.done():
                    keeper.result()  # raises why it gave up
        finally:
            _notify_systemd("STOPPING=1")
            self._stopping.set()
            await self._drain(keepers)
            all_started.cancel()
            await database

    async def _keep_database(self) -> None:
        """Starts the embedded PostgreSQL again when it dies; workers connect to it again by themselves."""
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), DATABASE_WATCH_S)
                return
            try:
                if self._database is not None and await asyncio.to_thread(self._database.revive):
                    log.error("the embedded PostgreSQL had died and was started again")
            except Failure as failure:
                log.error("the embedded PostgreSQL has died", what=failure.what, remedy=failure.remedy)

    def _stop(self) -> None:
        if self._stopping.is_set():
            log.warning("told to stop a second time: ending now")
            self._signal(signal.SIGKILL)
        else:
            log.info("stopping: running requests are ended first")
            self._stopping.set()

    def _reload(self) -> None:
        log.info("reloading")
        self._signal(signal.SIGHUP)
        asyncio.get_running_loop().run_in_executor(
            None, _remember, self._settings, "configuration", "certificates and settings are read again", None
        )

    def _signal(self, number: signal.Signals) -> None:
        for process in self._running.values():
            _tell(process, number)

    async def _drain(self, keepers: list[asyncio.Task[None]]) -> None:
        self._signal(signal.SIGTERM)
        _, late = await asyncio.wait(keepers, timeout=self._settings.limits.drain_time_s + KILL_AFTER_DRAIN_S)
        if late:
            log.error("workers did not end in time", workers=sorted(self._running))
            self._signal(signal.SIGKILL)
        await asyncio.gather(*keepers, return_exceptions=True)

    async def _keep(self, number: int, started: asyncio.Event) -> None:
        """Runs worker ``number``, again when it dies; gives up when it has never once started."""
        pause = BACK_OFF_S[0]
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            began = clock()
            process, ready = await self._spawn(number)
            self._running[number] = process
            if self._stopping.is_set():  # it came while the others were being told
                _tell(process, signal.SIGTERM)
            is_ready = await ready
            if is_ready:
                log.info("worker ready", worker=number, pid=process.pid)
                started.set()
            elif is_ready is None:
                log.error("worker did not become ready in time", worker=number)
                _tell(process, signal.SIGKILL)
            status = await process.wait()
            del self._running[number]
            worker_ended(process.pid, self._metrics)
            if self._stopping.is_set():
                return
            if not started.is_set():
                raise Failure(
                    f"Worker {number} ended with status {status} before it was ready.",
                    "The node cannot serve; what the worker said stands above.",
                    "Correct what it names and start again.",
                )
            pause = BACK_OFF_S[0] if clock() - began > HEALTHY_S else pause
            log.error("worker died and is started again", worker=number, status=status, pause_s=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, BACK_OFF_S[1])

    async def _spawn(self, number: int) -> tuple[asyncio.subprocess.Process, asyncio.Task[bool | None]]:
        """Starts a worker; the task tells whether it became ready."""
        reading, writing = os.pipe()
        http, *others = (listeners[number].fileno() if listeners else None for listeners in self._sockets)
        assert http is not None  # noqa: S101 - every node has it
        assignment = Assignment(self._settings, number, os.getpid(), self._builder, writing, http, *others)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "obieg.ops.worker",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=[fd for fd in (writing, http, *others) if fd is not None],
            process_group=0,  # the terminal's Ctrl-C is for the supervisor alone
            env=os.environ | {FOLDER_VARIABLE: str(self._metrics)},
        )
        os.close(writing)
        if process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                process.stdin.write(write_assignment(assignment))
                await process.stdin.drain()
            process.stdin.close()
        return process, asyncio.create_task(_becomes_ready(reading))


async def _all(events: list[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def _tell(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signals a worker; asyncio's own way would take the status of one just ended from whoever waits for it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


async def _becomes_ready(reading: int) -> bool | None:
    """Whether the worker said that it is ready; False when it ended before, None when it took too long."""
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb"))
    try:
        async with asyncio.timeout(START_TIME_S):
            return await stream.readline() == READY
    except TimeoutError:
        return None
    finally:
        transport.close()
