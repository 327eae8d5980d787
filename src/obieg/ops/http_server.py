"""uvicorn with limits: how large the head of a request may be, and how long a caller may take over each part of one.

Theory of operation. Every connection only notes *when* its present state began (head, body, answer); once a second the
worker looks at all of them and ends those that are overdue. So a limit costs a request two readings of the clock and
no timer. Time between two requests is uvicorn's own keep-alive limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import ssl
from collections.abc import Generator, Iterable
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import httptools
import structlog
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from obieg.edges.asgi import CERTIFICATE
from obieg.ops import peers
from obieg.ops.settings import LimitSettings

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_STRANGER = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_BAD_HEAD = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_BAD_PROXY = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_SWEEP_S = 1.0
# Of each of these a request has one at most: with two, we and whoever stands before us may read different requests.
_SINGLE = frozenset({
    b"authorization", b"content-encoding", b"content-length", b"content-location", b"content-type", b"expect", b"host",
    b"if-match", b"if-none-exist", b"if-modified-since", b"origin", b"range", b"soapaction", b"transfer-encoding",
    b"upgrade", b"cookie", b"x-http-method-override",
})  # fmt: skip
_HOST = re.compile(rb"[A-Za-z0-9._~-]{1,255}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?")
# What a proxy tells: https://nginx.org/en/docs/http/ngx_http_ssl_module.html, $ssl_client_escaped_cert.
_REAL_ADDRESS, _CERTIFICATE_HEADER, _VERIFIED = b"x-real-ip", b"x-client-certificate", b"x-client-verify"

log = structlog.get_logger()


class _RefusedHead(httptools.HttpParserError):
    """Raised through the parser."""


class _Gathering:
    """A transport that sends what is written within one turn of the event loop as one.

    uvicorn writes head and body of an answer apart, which costs a system call and wakes the caller twice.
    """

    __slots__ = ("_loop", "_pieces", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            if not self._transport.is_closing():  # the caller may have gone since it was written
                self._transport.writelines(pieces)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    # set once per process, by HttpServer
    limits = LimitSettings.model_construct()
    proxies: frozenset[str] = frozenset()

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._in_head = True
        self._in_body = False
        self._head_bytes = 0
        self._since = self._heard = self.loop.time()  # of the present state; of the last bytes
        self._certificate: bytes | None = None  # DER: the client's

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn does, on a transport that gathers."""
        super().connection_made(_Gathering(transport, self.loop))  # type: ignore[arg-type]
        self._certificate = peers.shown_by(transport)
        peers.note(peers.INCOMING, self._certificate)

    def data_received(self, data: bytes) -> None:
        """Counts the head, then as uvicorn does."""
        self._heard = self.loop.time()
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.header_bytes_max:
                self._end(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A new request: its head is due."""
        self._in_head = True
        self._head_bytes = 0
        self._since = self._heard
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. Those that come behind a body would be kept in memory, and nothing here reads them."""
        if not self._in_head:
            self._end(_BAD_HEAD)
            raise _RefusedHead
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: the request begins unless the head was too large."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limits.header_bytes_max:
            self._end(_TOO_LARGE)
            raise _RefusedHead
        self._check_head()
        if self.proxies:
            self._hear_proxy()
        self.scope["extensions"] = {CERTIFICATE: {"der": self._certificate}}
        self._in_head = False
        self._in_body = True
        self._since = self._heard
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._in_body = False
        super().on_message_complete()

    def _check_head(self) -> None:
        """Refuses a head that can be read in two ways (RFC 9112, 3.2, 6.3)."""
        single = [name for name, _ in self.headers if name in _SINGLE]
        host = next((value for name, value in self.headers if name == b"host"), None)
        modern = self.parser.get_http_version() != "1.0"
        expected = next((value for name, value in self.headers if name == b"expect"), b"100-continue")
        if (
            len(single) != len(set(single))
            or (b"transfer-encoding" in single and not modern)
            or expected.lower() != b"100-continue"
            or (host is None and modern)
            or (host is not None and not _HOST.fullmatch(host))
        ):
            self._end(_BAD_HEAD)
            raise _RefusedHead

    def _hear_proxy(self) -> None:
        """Takes address and certificate of the caller from the proxy that the settings name, and from nobody else."""
        if self.client is None or self.client[0] not in self.proxies:
            self._end(_STRANGER)
            raise _RefusedHead
        said: dict[bytes, bytes] = {}
        for name, value in self.headers:
            if name in (_REAL_ADDRESS, _CERTIFICATE_HEADER, _VERIFIED):
                if name in said:
                    self._end(_BAD_PROXY)
                    raise _RefusedHead
                said[name] = value
        try:
            address = str(ipaddress.ip_address(said[_REAL_ADDRESS].decode("ascii")))
            escaped = said.get(_CERTIFICATE_HEADER, b"").decode("ascii")
            pem = unquote_to_bytes(escaped).decode("ascii").strip()
            if pem and said[_VERIFIED] != b"SUCCESS":
                raise ValueError("a certificate that the proxy has not verified")
            self._certificate = ssl.PEM_cert_to_DER_cert(pem) if pem else None
            peers.note(peers.INCOMING, self._certificate)
        except (KeyError, ValueError):
            log.error("the proxy does not say who calls; see docs/operations.md", peer=self.client)
            self._end(_BAD_PROXY)
            raise _RefusedHead from None
        self.headers[:] = [header for header in self.headers if header[0] not in said]
        self.scope["client"] = (address, 0)
        self.scope["scheme"] = "https"

    def send_400_response(self, msg: str) -> None:
        """What the parser refused, unless it was refused here."""
        if not self.transport.is_closing():
            log.info("a request was refused before it was read", peer=self.client, status="400")
            super().send_400_response(msg)

    def end_if_overdue(self, now: float) -> None:
        """Ends the connection when its caller has taken too long."""
        limits = self.limits
        if self._in_head:
            if now - self._since > limits.header_time_s:
                self._end(_TIMEOUT)
        elif self._in_body and not self.flow.read_paused and now - self._heard > limits.idle_time_s:
            log.warning("a request's body stopped coming", peer=self.client)
            self.transport.abort()
        elif self.cycle is not None and not self.cycle.response_complete and now - self._since > limits.request_time_s:
            log.warning("a request took too long", peer=self.client)
            self.transport.abort()

    def _end(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            status = answer.split(b" ", 2)[1].decode("ascii")
            log.info("a request was refused before it was read", peer=self.client, status=status)
            self.transport.write(answer)
            self.transport.close()


class HttpServer(uvicorn.Server):
    """uvicorn's server, told by us when to stop."""

    def __init__(
        self, app: Any, limits: LimitSettings, *, tls: ssl.SSLContext | None = None, proxies: Iterable[str] = ()
    ) -> None:
        """``proxies``: addresses whose word about their callers is taken; with any, nobody else may connect."""
        LimitedProtocol.limits = limits
        LimitedProtocol.proxies = frozenset(proxies)
        config = Config(
            app,
            loop="none",
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # who calls is known by the real address of the connection
            server_header=False,
            date_header=False,
            limit_concurrency=limits.connections_max,
            timeout_keep_alive=cast("int", limits.idle_time_s),
            timeout_graceful_shutdown=cast("int", limits.drain_time_s),
        )
        config.load()
        config.ssl = tls
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the worker's."""
        yield

    async def startup(self, sockets: Any = None) -> None:
        """As uvicorn does; then says so."""
        await super().startup(sockets)
        self.ready.set()

    async def sweep(self) -> None:
        """Ends overdue connections, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = loop.time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, LimitedProtocol) and not connection.transport.is_closing():
                    connection.end_if_overdue(now)
