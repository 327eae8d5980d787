"""Audit records over syslog (ITI-20): RFC 5424 messages in the frames of RFC 5425, receiver and sender.

TLS belongs to the listener and to whoever opens the connection; RFC 5425 wants it, and only a laboratory goes without.
Syslog has no answers: what a sender has handed over is the receiver's. So everything that arrives whole is stored
before more is read, whatever it is, and a sender is slowed down by TCP alone. Where the framing is lost nothing that
follows can be told apart: what has come is stored, the connection is closed, and a security alert says so.
"""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from obieg.domain.problems import RetryLater
from obieg.wire.syslog import FrameSplitter, FramingLost, frame

_READ_BYTES = 64 * 1024
_PAUSE_S = 1.0  # while the database is away

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogLimits:
    """What one connection may take."""

    message_bytes_max: int = 4 * 1024 * 1024  # ITI TF-2:3.20.4.1.2.2 wants 32 KiB at least
    frame_time_s: float = 60  # from the first byte of a message to its last
    connections_max: int = 500


class Recorder(Protocol):
    """Where messages are kept."""

    async def receive_syslog(self, data: bytes, *, sender: str, request_id: str, broken: str = "") -> None:
        """Stores one message as it came, whatever it is; ``broken`` says why it is less than one. Raises RetryLater."""


class SyslogEdge:
    """Serves connections: pass it to ``asyncio.start_server``, with the TLS context."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        limits: SyslogLimits = SyslogLimits(),
        new_request_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        observe: Callable[[str], None] = lambda _outcome: None,
    ) -> None:
        self._recorder = recorder
        self._limits = limits
        self._new_request_id = new_request_id
        self._observe = observe
        self._connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection until its end."""
        peer = writer.get_extra_info("peername")
        sender = _sender(writer, peer[0] if isinstance(peer, tuple) else "")
        self._connections += 1
        try:
            if self._connections > self._limits.connections_max:
                log.warning("too many syslog connections; one was closed", sender=sender)
            else:
                await self._serve(reader, sender)
        except ConnectionError as error:
            log.info("a syslog connection broke", sender=sender, error=str(error))
        finally:
            self._connections -= 1
            writer.close()
            with suppress(ConnectionError, TimeoutError, ssl.SSLError):
                await asyncio.wait_for(writer.wait_closed(), 5)

    async def _serve(self, reader: asyncio.StreamReader, sender: str) -> None:
        splitter = FrameSplitter(self._limits.message_bytes_max)
        loop = asyncio.get_running_loop()
        deadline: float | None = None  # of the message that is being received; between two there is none
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    chunk = await reader.read(_READ_BYTES)
            except TimeoutError:
                await self._broken(splitter, "a message did not arrive in time", sender)
                return
            if not chunk:
                if splitter.partial:
                    await self._broken(splitter, "the connection ended within a message", sender)
                return
            count = 0
            try:
                for data in splitter.feed(chunk):
                    count += 1
                    await self._store(data, sender)
            except FramingLost as error:
                await self._broken(splitter, str(error), sender)
                return
            if not splitter.partial:
                deadline = None
            elif deadline is None or count:
                deadline = loop.time() + self._limits.frame_time_s

    async def _store(self, data: bytes, sender: str) -> None:
        request_id = self._new_request_id()
        await _insisting(lambda: self._recorder.receive_syslog(data, sender=sender, request_id=request_id), request_id)
        self._observe("received")

    async def _broken(self, splitter: FrameSplitter, why: str, sender: str) -> None:
        """Keeps what has come of a message, and says why the connection ends."""
        request_id = self._new_request_id()
        log.warning("a syslog connection is closed", sender=sender, reason=why, request_id=request_id)
        self._observe("broken")
        rest = splitter.partial
        await _insisting(
            lambda: self._recorder.receive_syslog(rest, sender=sender, request_id=request_id, broken=why), request_id
        )


async def _insisting(store: Callable[[], Awaitable[None]], request_id: str) -> None:
    """Until it is stored: the sender gets no answer and keeps no copy."""
    while True:
        try:
            await store()
        except RetryLater as error:
            log.warning("an audit message waits for the database", request_id=request_id, error=str(error))
            await asyncio.sleep(_PAUSE_S)
        else:
            return


def _sender(writer: asyncio.StreamWriter, address: str) -> str:
    """The common name of the certificate that the connection has proved, and the address."""
    shown = writer.get_extra_info("peercert") or {}
    names = [value for group in shown.get("subject", ()) for name, value in group if name == "commonName"]
    return f"{names[0]} ({address})" if names else address


class SyslogClient:
    """Sends messages to one audit repository over one connection, which is opened when it is needed."""

    def __init__(self, address: str, *, tls: ssl.SSLContext | None, timeout_s: float = 30.0) -> None:
        """``address`` is host:port."""
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._tls = tls
        self._timeout_s = timeout_s
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, messages: list[bytes]) -> None:
        """Returns when the operating system has them all; raises RetryLater. Syslog itself acknowledges nothing."""
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._open is not None and self._open[0].at_eof():
                    await self.close()  # the receiver has gone: what is written now would be lost
                if self._open is None:
                    self._open = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
                reader, writer = self._open
                for message in messages:
                    writer.write(frame(message))
                    await writer.drain()
                # A receiver that has just closed is noticed before its silence is taken for consent.
                await asyncio.sleep(0)
                if reader.at_eof() or writer.is_closing():
                    raise ConnectionError("the audit repository closed the connection")
        except (OSError, TimeoutError) as error:
            await self.close()
            raise RetryLater(f"the audit repository cannot be reached: {error or 'time-out'}") from error

    async def close(self) -> None:
        """Ends the connection after what was written has left."""
        if self._open is None:
            return
        _, writer = self._open
        self._open = None
        writer.close()
        with suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 5)
