"""Which pages of other sites may read answers in a browser: those of registered apps (the Fetch standard, CORS)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from obieg.edges.asgi import Receive, Scope, Send, send_whole

_METHODS = b"GET, HEAD, POST, PUT, DELETE"
_HEADERS = b"accept, authorization, content-type, dpop, if-match, if-none-match, if-none-exist, prefer, x-request-id"
_EXPOSED = b"etag, last-modified, location, content-location, www-authenticate, x-request-id"
_KEPT_S = b"600"

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Cors:
    """An application that pages of these origins may ask. Cookies never go along: only tokens prove anything there."""

    def __init__(self, application: Application, origins: Callable[[], Collection[str]]) -> None:
        self._application = application
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"")
        if not origin or origin.decode("latin-1") not in self._origins():
            await self._application(scope, receive, send)
            return
        allowed = [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            allowed += [
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-allow-headers", _HEADERS),
                (b"access-control-max-age", _KEPT_S),
            ]
            await send_whole(send, 204, allowed, b"")
            return

        async def send_with(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                exposed = (b"access-control-expose-headers", _EXPOSED)
                message = {**message, "headers": [*message["headers"], *allowed, exposed]}
            await send(message)

        await self._application(scope, receive, send_with)
