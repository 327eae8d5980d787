"""One worker process: builds the node from the settings and serves it on the sockets it was given.

It is started by the supervisor with an :class:`Assignment` on standard input, says ``ready`` on a pipe, ends running
requests on SIGTERM and dies with its supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog
import uvloop
from pydantic import SecretStr

from obieg.ops import logs, peers
from obieg.ops.clock import watch_clock
from obieg.ops.failure import Failure
from obieg.ops.http_server import HttpServer
from obieg.ops.leader import lead
from obieg.ops.metrics import watch_loop
from obieg.ops.settings import VARIABLES, Settings
from obieg.ops.tls import Listening, files_of, watch

READY = b"ready\n"
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

log = structlog.get_logger()


class Node(Protocol):
    """What ``obieg.ops.wiring.build`` gives. A node that has ``reload`` is told so on SIGHUP.

    A node that has ``keep_peers`` keeps the certificates of others, in every worker.
    A node that has ``syslog`` serves connections of audit senders by it, as ``mllp`` those of patient feeds.
    """

    @property
    def asgi(self) -> Any:
        """The web application."""

    @property
    def mllp(self) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None:
        """Serves one MLLP connection until its end."""

    @property
    def background(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """Loops that one worker of all runs."""

    async def open(self) -> None:
        """Connects to what it needs."""

    async def close(self) -> None:
        """Gives everything back."""


class Assignment(NamedTuple):
    """What a worker is told."""

    settings: Settings  # with the DSN and the ports in force
    number: int
    supervisor: int  # process id
    builder: str  # module:function, from Settings to Node
    ready: int  # file descriptor
    http: int  # file descriptor of a listening socket
    mllp: int | None
    syslog: int | None = None
    local: int | None = None


def write_assignment(assignment: Assignment) -> bytes:
    """For the standard input of a worker; holds secrets."""
    settings = assignment.settings
    dumped = assignment._replace(settings=settings.model_dump())  # type: ignore[arg-type]
    return msgspec.json.encode(
        (dumped, settings.asked.model_dump(), settings.folder),
        enc_hook=lambda value: value.get_secret_value() if isinstance(value, SecretStr) else str(value),
    )


def read_assignment(data: bytes) -> Assignment:
    """What :func:`write_assignment` wrote; no variable of the environment wins over it any more."""
    (settings, *rest), asked, folder = msgspec.json.decode(data)
    aside = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith(VARIABLES)}
    found = Settings(**settings).coming(Path(folder), Settings(**asked).coming(Path(folder)))
    Settings.aside.update(aside)  # they win again over what is proposed (ops/previewing.py)
    return Assignment(found, *rest)


def main() -> None:
    """Entry point of ``python -m obieg.ops.worker``."""
    assignment = read_assignment(sys.stdin.buffer.read())
    _die_with(assignment.supervisor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure(assignment.settings.log, node=assignment.settings.name, worker=assignment.number)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(assignment))
    except Failure as failure:
        log.error("the worker did not start", what=failure.what, meaning=failure.meaning, remedy=failure.remedy)
        sys.exit(failure.exit_code)


def _die_with(supervisor: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it died before we asked
        sys.exit(0)


async def _run(assignment: Assignment) -> None:
    settings = assignment.settings
    files = files_of(settings)  # before they are read
    module, _, function = assignment.builder.partition(":")
    node: Node = getattr(import_module(module), function)(settings)
    await node.open()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    listening = Listening(settings) if settings.tls.certificate_file is not None else None
    behind_proxy = bool(settings.http.proxies)
    http = HttpServer(
        node.asgi,
        settings.limits,
        tls=listening.people_and_systems if listening is not None and not behind_proxy else None,
        proxies=settings.http.proxies,
    )
    loop.add_signal_handler(signal.SIGHUP, _reload, node, listening)
    https = [(http, assignment.http)]
    if assignment.local is not None:
        https.append((HttpServer(node.asgi, settings.limits), assignment.local))
    serving = [asyncio.create_task(server.serve([socket.socket(fileno=fd)])) for server, fd in https]
    systems = listening.systems if listening is not None else None
    mllp = await _Streams.start(node.mllp, assignment.mllp, systems)
    syslog = await _Streams.start(getattr(node, "syslog", None), assignment.syslog, systems)
    around = [watch_loop(), watch_clock(), *(server.sweep() for server, _ in https)]
    if (keep_peers := getattr(node, "keep_peers", None)) is not None:
        around.append(keep_peers())
    around.append(lead(settings.database.dsn, tuple(node.background)))
    if files:
        around.append(watch(settings, files, partial(_reload, node, listening)))
    tasks = [asyncio.create_task(task) for task in around]
    # What lives as long as the process need not be looked at by every collection of garbage.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    for server, _ in https:
        await server.ready.wait()
    os.write(assignment.ready, READY)
    os.close(assignment.ready)

    await asyncio.wait([*serving, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
    for server, _ in https:
        server.should_exit = True
    await asyncio.gather(*serving, mllp.drain(settings.limits.drain_time_s), syslog.drain(settings.limits.drain_time_s))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await node.close()


def _reload(node: Node, listening: Listening | None) -> None:
    for reload in (getattr(node, "reload", None), listening.reload if listening is not None else None):
        if reload is not None:
            try:
                reload()
            except Failure as failure:
                log.error("reloading failed; the node goes on with what it had", what=failure.what, now=failure.remedy)
            except Exception:
                log.exception("reloading failed; the node goes on with what it had")


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class _Streams:
    """A listener of this worker for connections that stay open: MLLP, syslog."""

    def __init__(self, serve: Serve | None) -> None:
        self._serve_one = serve
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[Any], asyncio.StreamReader] = {}

    @classmethod
    async def start(cls, serve: Serve | None, descriptor: int | None, tls: ssl.SSLContext | None) -> _Streams:
        streams = cls(serve)
        if descriptor is not None and serve is not None:
            streams._server = await asyncio.start_server(streams._serve, sock=socket.socket(fileno=descriptor), ssl=tls)
        return streams

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._serve_one is None:
            return
        self._connections[task] = reader
        peers.note(peers.INCOMING, peers.shown_by(writer))
        try:
            await self._serve_one(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception:
            log.exception("a connection failed")
        finally:
            self._connections.pop(task, None)
            writer.close()

    async def drain(self, time_s: float) -> None:
        """Accepts no more, lets each connection end the message it is at, then closes it."""
        if self._server is None:
            return
        self._server.close()
        for reader in self._connections.values():
            reader.feed_eof()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=time_s)
        for task in list(self._connections):
            task.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), 1)


if __name__ == "__main__":
    main()
