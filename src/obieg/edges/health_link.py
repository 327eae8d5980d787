"""The edge of SMART Health Links: an ASGI application below ``/shl`` for whoever has a link, and proves nothing else.

Pages of any origin may ask (the viewers of others run in browsers): no cookie is read here, and nothing is given that
the link and its passcode do not open. Callers are told apart by their address alone, which is how often they may ask.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from obieg.domain.problems import Finding, Problem
from obieg.domain.requester import Requester
from obieg.edges.asgi import (
    Disconnected,
    Exchange,
    Host,
    Receive,
    Scope,
    Send,
    TooLarge,
    base_address,
    credentials,
    receive_whole,
    send_whole,
    unread_coding,
)
from obieg.protocol import Context, LinkBinding, LinkReply, LinkRequest

PREFIX = "/shl"
BODY_BYTES_MAX = 8 * 1024
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"retry-after"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"accept, content-type"),
    (b"access-control-max-age", b"600"),
)
_RETRY_AFTER = {503: b"5", 429: b"1"}


class HealthLinkEdge:
    """Mount it at ``/shl``."""

    def __init__(self, host: Host, *, expect_sealed: Callable[[], Awaitable[None]]) -> None:
        """``expect_sealed`` raises NotSealed where nothing may be given out (``actors/sealing_gate``)."""
        served = host.served(LinkBinding)
        self._transaction = served[0][0]
        self._host = host
        self._expect_sealed = expect_sealed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["method"] == "OPTIONS":
            await send_whole(send, 204, [*_CORS, *_PREFLIGHT], b"")
            return
        host = self._host
        exchange = Exchange.begin(scope, host.new_request_id())
        outcome, reply = await host.settle(exchange, self._serve(exchange, receive), self._refused, protocol="links")
        headers = [(b"content-type", reply.content_type.encode("ascii")), *_CORS]
        if (after := _RETRY_AFTER.get(reply.status)) is not None:
            headers.append((b"retry-after", after))
        if reply.status == 405:
            headers.append((b"allow", b"POST"))
        await send_whole(send, reply.status, headers, reply.body)
        host.finish(exchange, outcome)

    def _refused(self, findings: Sequence[Finding]) -> LinkReply:
        reply: LinkReply = self._transaction.refuse(tuple(findings), None)
        return reply

    async def _serve(self, exchange: Exchange, receive: Receive) -> LinkReply:
        host, scope = self._host, exchange.scope
        transaction = exchange.transaction = self._transaction
        await self._expect_sealed()
        base = base_address(scope, host.public_url) + PREFIX
        requester = Requester(system="link", address=exchange.address, proof="link")
        if host.throttle is not None:
            by_address = Requester(system=exchange.address, address=exchange.address)
            host.throttle.admit(credentials(scope, base), by_address, paused=False)
        context = exchange.context = Context(
            transaction=transaction,
            requester=requester,
            request_id=exchange.request_id,
            received_at=host.clock(),
            source_user=exchange.address,
            destination_user=base,
        )
        try:
            body = await receive_whole(receive, BODY_BYTES_MAX)
        except Disconnected:
            raise Problem.of("MessageNotReadable", "the request broke off") from None
        except TooLarge:
            raise Problem.of("LimitExceeded", f"at most {BODY_BYTES_MAX} bytes are read") from None
        if coding := unread_coding(scope):
            raise Problem.of("UnsupportedMediaType", f"it is sent as {coding}: send it as it is")
        path = tuple(scope["path"].removeprefix(PREFIX).removeprefix("/").split("/"))
        request = LinkRequest(method=scope["method"], path=path, body=body, base=base)
        reply: LinkReply = transaction.encode(await host.perform(context, request), request)
        return reply
