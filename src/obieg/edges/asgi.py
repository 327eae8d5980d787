"""What the web edges have in common: the node they stand in, limits, one request from its caller to its outcome.

An edge reads its protocol's message and writes its answers; who asks, what an actor is given, the outcome for metrics
and audit, and what is said when the node is busy or fails, are decided here.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import structlog

from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.authorities import Authorities
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.protocol import AuditSink, Authenticator, Binding, Context, Credentials, Transaction
from obieg.wire.xml import XmlLimits

Made = TypeVar("Made")
Bound = TypeVar("Bound", bound=Binding)
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Scope = MutableMapping[str, Any]

# What is made of more bytes than this is made in a thread, so that the event loop stays responsive.
LARGE_BYTES = 256 * 1024
# The ASGI extension with the client's certificate ("der") whose key the TLS connection has proved; None without one.
CERTIFICATE = "obieg.certificate"
_PROBLEMS = toml("problems.toml")
_TROUBLE = {  # what tells that the node is busy, that it failed
    "Registry": ("XDSRegistryBusy", "XDSRegistryError"),
    "Repository": ("XDSRepositoryBusy", "XDSRepositoryError"),
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WebLimits:
    """What one request may take."""

    message_bytes_max: int = 32 * 1024 * 1024  # of the body; of the XML part where documents are attached
    depth_max: int = 64
    attributes_max: int = 100
    request_time_s: float = 300  # to receive the whole request

    @property
    def xml(self) -> XmlLimits:
        """Those of the XML parser."""
        return XmlLimits(self.message_bytes_max, self.depth_max, self.attributes_max)


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request while it is served."""

    scope: Scope
    request_id: str
    address: str  # of the caller
    started: float  # by the clock of the event loop
    transaction: Transaction | None = None  # as soon as it is known
    context: Context | None = None  # as soon as the caller is

    @classmethod
    def begin(cls, scope: Scope, request_id: str, **more: Any) -> Self:
        """``more``: what an edge keeps besides."""
        client = scope.get("client")
        return cls(
            scope=scope,
            request_id=request_id,
            address=client[0] if client else "",
            started=asyncio.get_running_loop().time(),
            **more,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The node that a web edge stands in."""

    transactions: Sequence[Transaction]
    actors: object  # by the names that transactions give; None where another node answers
    authenticator: Authenticator
    audit: AuditSink
    authorities: Authorities = Authorities()  # noqa: RUF009 - never changed
    public_url: str = ""  # "": the address by which the caller reaches the node
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    new_request_id: Callable[[], str] = lambda: str(uuid.uuid4())
    observe: Callable[[str, str, float], None] = lambda _transaction, _outcome, _seconds: None

    def served(self, binding: type[Bound]) -> list[tuple[Transaction, Bound]]:
        """The transactions of a protocol that an actor of this node answers."""
        return [
            (transaction, transaction.binding)
            for transaction in self.transactions
            if isinstance(transaction.binding, binding) and getattr(self.actors, transaction.actor, None) is not None
        ]

    async def admit(
        self,
        exchange: Exchange,
        transaction: Transaction,
        *,
        received_at: datetime,
        source_user: str,
        destination_user: str,
        **message: Any,
    ) -> Context:
        """The context of a caller who may ask; raises Problem ``AuthenticationFailed``.

        ``message``: what of the message itself proves who asks (:class:`obieg.protocol.Credentials`).
        """
        headers = dict(exchange.scope["headers"])
        credentials = Credentials(
            address=exchange.address,
            certificate=exchange.scope.get("extensions", {}).get(CERTIFICATE, {}).get("der"),
            target=base_address(exchange.scope, self.public_url) + exchange.scope["path"],
            authorization=headers.get(b"authorization", b"").decode("latin-1"),
            cookie=headers.get(b"cookie", b"").decode("latin-1"),
            **message,
        )
        requester = await self.authenticator.authenticate(credentials)
        context = exchange.context = Context(
            transaction=transaction,
            requester=requester,
            request_id=exchange.request_id,
            received_at=received_at,
            source_user=source_user,
            destination_user=destination_user,
        )
        return context

    async def perform(self, context: Context, request: Any) -> Any:
        """Decodes, lets the actor work, and sees to it that the request is audited; the actor's result."""
        transaction = context.transaction
        decoded = await made(transaction.decode, request, in_thread=context.large)
        context.objects = transaction.audit(decoded)
        result = await transaction.serve(getattr(self.actors, transaction.actor), decoded, context)
        if not context.audited:  # nothing was to be done, or it is stored already
            await self.audit.record(context.audit())
        return result

    async def settle(
        self,
        exchange: Exchange,
        work: Awaitable[Made],
        refuse: Callable[[tuple[Finding, ...]], Made],
        *,
        protocol: str,
        keeper: str = "Registry",
        passing: tuple[type[Exception], ...] = (),
    ) -> tuple[str, Made]:
        """The outcome for the metrics, and the answer.

        ``refuse`` makes the answer of findings, ``protocol`` is named in the audit as long as no transaction is known,
        ``keeper`` (Registry or Repository) says whose code tells that the node is busy or failed, and ``passing`` are
        the protocol's own faults, which the edge answers.
        """
        request_id = exchange.request_id
        busy, failed = _TROUBLE[keeper]
        try:
            return "success", await work
        except passing:
            raise
        except Problem as problem:
            outcome, findings = "refused", problem.findings
        except RetryLater as error:
            log.warning("a request could not be served now", request_id=request_id, error=str(error))
            said = f"not possible now, repeat the identical request later (request {request_id})"
            return "busy", refuse((Finding(busy, said),))
        except Exception:
            log.exception("a request failed", request_id=request_id, transaction=_whose(exchange, protocol))
            said = f"the node failed; tell its operator the request id {request_id}"
            outcome, findings = "failed", (Finding(failed, said),)
        await self._record_refusal(exchange, findings, protocol)
        return outcome, refuse(findings)

    async def _record_refusal(self, exchange: Exchange, findings: Sequence[Finding], protocol: str) -> None:
        """Audits a refused request, unless an actor has; without a context nobody had proved who asks."""
        codes = sorted({f.code for f in findings})
        worst = max((int(_PROBLEMS[c]["audit"]) for c in codes if c in _PROBLEMS), default=4)
        outcome, detail = Outcome(str(worst or 4)), " ".join(codes)
        log.info("refused", request_id=exchange.request_id, transaction=_whose(exchange, protocol), codes=codes)
        if exchange.context is None:
            await self.record_alert(exchange, outcome, detail, protocol)
        elif not exchange.context.audited:
            await self._record(exchange.context.audit(outcome, detail))

    async def record_alert(self, exchange: Exchange, outcome: Outcome, detail: str, protocol: str) -> None:
        """Audits a request of somebody who has not proved who asks."""
        whose = _whose(exchange, protocol)
        await self._record(
            AuditEvent(whose, "security_alert", outcome, detail, exchange.request_id, source_address=exchange.address)
        )

    async def _record(self, event: AuditEvent) -> None:
        """Stores a record of what changed nothing; that it could not be stored is logged."""
        try:
            await self.audit.record(event)
        except RetryLater as error:
            log.error("an audit record could not be stored", request_id=event.request_id, error=str(error))

    def finish(self, exchange: Exchange, outcome: str) -> None:
        """Tells the metrics."""
        name = exchange.transaction.id if exchange.transaction else "unknown"
        self.observe(name, outcome, asyncio.get_running_loop().time() - exchange.started)


def _whose(exchange: Exchange, protocol: str) -> str:
    return exchange.transaction.id if exchange.transaction else protocol


async def made(make: Callable[..., Made], *given: Any, in_thread: bool) -> Made:
    """``make(*given)``; in a thread where that would keep the event loop for too long."""
    return await asyncio.to_thread(make, *given) if in_thread else make(*given)


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
