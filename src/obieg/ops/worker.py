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
import pickle
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import structlog
import uvloop

from obieg.ops import logs
from obieg.ops.failure import Failure
from obieg.ops.http_server import HttpServer
from obieg.ops.leader import lead
from obieg.ops.metrics import watch_loop
from obieg.ops.settings import MllpSettings, Settings

READY = b"ready\n"
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

log = structlog.get_logger()


class Node(Protocol):
    """What ``obieg.ops.wiring.build`` gives. A node that has ``reload`` is told so on SIGHUP."""

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


def main() -> None:
    """Entry point of ``python -m obieg.ops.worker``."""
    assignment: Assignment = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own supervisor
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
    module, _, function = assignment.builder.partition(":")
    node: Node = getattr(import_module(module), function)(settings)
    await node.open()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, node)
    http = HttpServer(node.asgi, settings.limits)
    serving = asyncio.create_task(http.serve([socket.socket(fileno=assignment.http)]))
    mllp = await _Mllp.start(node, assignment.mllp, _tls(settings.mllp))
    around = [watch_loop(), http.sweep(), lead(settings.database.dsn, tuple(node.background))]
    tasks = [asyncio.create_task(task) for task in around]
    # What lives as long as the process need not be looked at by every collection of garbage.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    await http.ready.wait()
    os.write(assignment.ready, READY)
    os.close(assignment.ready)

    await asyncio.wait([serving, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
    http.should_exit = True
    await asyncio.gather(serving, mllp.drain(settings.limits.drain_time_s))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await node.close()


def _tls(mllp: MllpSettings) -> ssl.SSLContext | None:
    if mllp.certificate_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(mllp.certificate_file, mllp.key_file)
        if mllp.client_ca_file is not None:
            context.load_verify_locations(mllp.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise Failure(
            f"The certificate of the patient feed cannot be used: {error}.",
            "The feed would be open to listeners, so the node does not start.",
            "Correct certificate_file, key_file or client_ca_file under [mllp] in the settings.",
        ) from error
    return context


def _reload(node: Node) -> None:
    if (reload := getattr(node, "reload", None)) is not None:
        try:
            reload()
        except Exception:
            log.exception("reloading failed; the node goes on with what it had")


class _Mllp:
    """The MLLP listener of this worker."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[Any], asyncio.StreamReader] = {}

    @classmethod
    async def start(cls, node: Node, descriptor: int | None, tls: ssl.SSLContext | None) -> _Mllp:
        mllp = cls(node)
        if descriptor is not None and node.mllp is not None:
            mllp._server = await asyncio.start_server(mllp._serve, sock=socket.socket(fileno=descriptor), ssl=tls)
        return mllp

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._node.mllp is None:
            return
        self._connections[task] = reader
        try:
            await self._node.mllp(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception:
            log.exception("an MLLP connection failed")
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
