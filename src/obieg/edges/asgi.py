"""What the web edges have in common: the types of ASGI, receiving a body within its limit, the record of a refusal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import structlog

from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.problems import Finding, RetryLater
from obieg.protocol import AuditSink, Context, Credentials

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Scope = MutableMapping[str, Any]

# What is made of more bytes than this is made in a thread, so that the event loop stays responsive.
LARGE_BYTES = 256 * 1024
_PROBLEMS = toml("problems.toml")

log = structlog.get_logger()


class Disconnected(Exception):  # noqa: N818
    """The connection ended within the request."""


class TooLarge(Exception):  # noqa: N818
    """The body is larger than the limit."""


async def receive_whole(receive: Receive, bytes_max: int) -> bytes:
    """The body. Raises TooLarge as soon as it is, Disconnected."""
    pieces: list[bytes] = []
    left = bytes_max
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body = message.get("body", b"")
        left -= len(body)
        if left < 0:
            raise TooLarge
        pieces.append(body)
        if not message.get("more_body"):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def send_whole(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
    """An answer in one piece."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def base_address(scope: Scope, public_url: str) -> str:
    """The address by which the caller reaches this node, without a slash at its end."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"localhost").decode("latin-1")
    return (public_url or f"{scope['scheme']}://{host}").rstrip("/")


def credentials(scope: Scope, base: str) -> Credentials:
    """What the caller of an HTTP request shows. ``base``: see :func:`base_address`."""
    headers = dict(scope["headers"])
    client = scope.get("client")
    return Credentials(
        address=client[0] if client else "",
        target=base + scope["path"],
        authorization=headers.get(b"authorization", b"").decode("latin-1"),
        cookie=headers.get(b"cookie", b"").decode("latin-1"),
    )


async def record_refusal(
    sink: AuditSink, findings: Sequence[Finding], context: Context | None, *, whose: str, request_id: str, address: str
) -> None:
    """Audits a refused request, unless an actor has; without a context nobody had proved who asks."""
    codes = sorted({f.code for f in findings})
    worst = max((int(_PROBLEMS[c]["audit"]) for c in codes if c in _PROBLEMS), default=4)
    outcome, detail = Outcome(str(worst or 4)), " ".join(codes)
    log.info("refused", request_id=request_id, transaction=whose, codes=codes)
    if context is None:
        event = AuditEvent(whose, "security_alert", outcome, detail, request_id, source_address=address)
        await record_quietly(sink, event)
    elif not context.audited:
        await record_quietly(sink, context.audit(outcome, detail))


async def record_quietly(sink: AuditSink, event: AuditEvent) -> None:
    """Stores a record of what changed nothing; that it could not be stored is logged."""
    try:
        await sink.record(event)
    except RetryLater as error:
        log.error("an audit record could not be stored", request_id=event.request_id, error=str(error))
