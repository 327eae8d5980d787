"""What the web edges have in common: the node they stand in, limits, one request from its caller to its outcome.

An edge reads its protocol's message and writes its answers; who asks, what an actor is given, the outcome for metrics
and audit, and what is said when the node is busy or fails, are decided here.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import msgspec
import structlog

from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent, Outcome
from obieg.domain.authorities import Authorities
from obieg.domain.own_pages import SAFE_METHODS, is_own_page
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.requester import Requester
from obieg.edges.refusals import NOT_NOW, Refusals
from obieg.edges.throttle import Throttle, too_many
from obieg.protocol import AuditSink, Authenticator, Binding, Context, Credentials, Gate, Transaction
from obieg.wire.jwt import ALGORITHMS
from obieg.wire.xml import XmlLimits

Made = TypeVar("Made")
Bound = TypeVar("Bound", bound=Binding)
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Scope = MutableMapping[str, Any]

# What is made of more bytes than this is made in a thread, so that the event loop stays responsive.
LARGE_BYTES = 256 * 1024
_VEIL_S = 0.025  # between the times at which answers are given that show nothing; longer than nearly all of them take
# One after another: several at once would take turns with the event loop, each for as long as the interpreter lets a
# thread run, and hold their trees at the same time.
_LARGE = ThreadPoolExecutor(1, "large message")
# The ASGI extension with the client's certificate ("der") whose key the TLS connection has proved; None without one.
CERTIFICATE = "obieg.certificate"
_GUARDS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_GUARDS_TLS = (*_GUARDS, (b"strict-transport-security", b"max-age=63072000; includeSubDomains"))
_PROBLEMS = toml("problems.toml")
REPLAYED = "Replayed"
_TROUBLE = {  # what tells that the node is busy, that it failed
    "Registry": ("XDSRegistryBusy", "XDSRegistryError"),
    "Repository": ("XDSRepositoryBusy", "XDSRepositoryError"),
}

log = structlog.get_logger()


class Expect(Protocol):
    """What a request must keep to besides its transaction."""

    def __call__(self, *, served: bool) -> None:
        """Raises Problem. ``served``: whether the actor has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebLimits:
    """What one request may take."""

    message_bytes_max: int = 32 * 1024 * 1024  # of the body; of the XML part where documents are attached
    depth_max: int = 64
    attributes_max: int = 100
    tags_max: int = 300_000  # of the XML, end tags too: some 1,500 document entries
    request_time_s: float = 300  # to receive the whole request

    @property
    def xml(self) -> XmlLimits:
        """Those of the XML parser."""
        return XmlLimits(self.message_bytes_max, self.depth_max, self.attributes_max, self.tags_max)


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
    throttle: Throttle | None = None  # None: everybody may ask as often as they can
    gate: Gate | None = None  # None: everybody may do everything
    public_url: str = ""  # "": the address by which the caller reaches the node
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    new_request_id: Callable[[], str] = lambda: str(uuid.uuid4())
    observe: Callable[[str, str, float], None] = lambda _transaction, _outcome, _seconds: None
    refusals: Refusals = field(init=False)  # those that say "not now"

    def __post_init__(self) -> None:
        """The records of refusals go the way of all others."""
        object.__setattr__(self, "refusals", Refusals(self._record))

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
        shown = credentials(exchange.scope, base_address(exchange.scope, self.public_url))
        requester = await admitted(self.authenticator, self.throttle, replace(shown, **message) if message else shown)
        context = exchange.context = Context(
            transaction=transaction,
            requester=requester,
            request_id=exchange.request_id,
            received_at=received_at,
            source_user=source_user,
            destination_user=destination_user,
        )
        return context

    async def perform(self, context: Context, request: Any, expect: Expect = lambda *, served: None) -> Any:  # noqa: ARG005
        """Decodes, lets the actor work, and sees to it that the request is audited; the actor's result.

        ``expect`` raises Problem where the caller may not have this, before the actor has served and after.
        """
        transaction = context.transaction
        decoded = await made(transaction.decode, request, in_thread=context.large)
        context.objects = transaction.audit(decoded)
        expect(served=False)
        if self.gate is not None:
            self.gate.admit(context)
        result = await transaction.serve(getattr(self.actors, transaction.actor), decoded, context)
        if self.gate is not None:
            self.gate.expect_decided(context)
        if not context.audited:  # nothing was to be done, or it is stored already
            await self.audit.record(context.audit())
        expect(served=True)
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
            done = await work
        except passing:
            raise
        except Problem as problem:
            outcome, findings = "refused", problem.findings
        except RetryLater as error:
            log.warning("a request could not be served now", request_id=request_id, error=str(error))
            said = f"not possible now, repeat the identical request later (request {request_id})"
            outcome, findings = "busy", (Finding(busy, said),)
        except Exception:
            log.exception("a request failed", request_id=request_id, transaction=_whose(exchange, protocol))
            said = f"the node failed; tell its operator the request id {request_id}"
            outcome, findings = "failed", (Finding(failed, said),)
        else:
            await _veiled(exchange)
            return "success", done
        _shows_nothing(exchange)
        await self._record_refusal(exchange, findings, protocol)
        await _veiled(exchange)
        return outcome, refuse(findings)

    async def _record_refusal(self, exchange: Exchange, findings: Sequence[Finding], protocol: str) -> None:
        """Audits a refused request, unless an actor has; without a context nobody had proved who asks."""
        codes = sorted({f.code for f in findings})
        worst = max((int(_PROBLEMS[c]["audit"]) for c in codes if c in _PROBLEMS), default=4)
        reasons = [f.reason for f in findings if f.reason]
        outcome, detail = Outcome(str(worst or 4)), "; ".join([" ".join(codes), *reasons])
        whose = _whose(exchange, protocol)
        log.info("refused", request_id=exchange.request_id, transaction=whose, codes=codes, reasons=reasons)
        context = exchange.context
        if NOT_NOW.issuperset(codes):
            if context is None or not context.audited:
                await self.refusals.refused(*_not_now(exchange, outcome, detail, protocol))
        elif context is None:
            await self.record_alert(exchange, outcome, detail, protocol)
        elif not context.audited:
            if REPLAYED not in codes:
                try:
                    return await self._record(context.audit(outcome, detail))
                except Problem:  # refused before, now sent again
                    detail = f"{detail} {REPLAYED}"
            await self._record(context.audit(outcome, detail, spends=False))
        return None

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


def _shows_nothing(exchange: Exchange) -> None:
    """A refusal names no basis, tells nobody of a reading, and is given when any other answer is that shows nothing."""
    context = exchange.context
    if context is not None and context.decided:
        context.access, context.told, context.veiled = "", (), True


async def _veiled(exchange: Exchange) -> None:
    """An answer that shows nothing is given at one of few times, whatever it took to find that out."""
    if exchange.context is not None and exchange.context.veiled:
        took = asyncio.get_running_loop().time() - exchange.started
        await asyncio.sleep(_VEIL_S - took % _VEIL_S)


def _not_now(exchange: Exchange, outcome: Outcome, detail: str, protocol: str) -> tuple[str, AuditEvent]:
    """Who is told to come back, and the record of it. Nothing is used up: the identical request may come again."""
    if (context := exchange.context) is not None:
        event = context.audit(outcome, detail, spends=False)
        return event.requester or exchange.address, event
    transaction = exchange.transaction
    return exchange.address, AuditEvent(
        transaction.id if transaction else protocol,
        transaction.event if transaction else "security_alert",
        outcome,
        detail,
        exchange.request_id,
        source_address=exchange.address,
    )


def _whose(exchange: Exchange, protocol: str) -> str:
    return exchange.transaction.id if exchange.transaction else protocol


async def admitted(authenticator: Authenticator, throttle: Throttle | None, credentials: Credentials) -> Requester:
    """Who asks; raises Problem."""
    paused = throttle is not None and throttle.is_paused(credentials)
    try:
        requester = await authenticator.authenticate(credentials)
    except Problem:
        if throttle is not None:
            throttle.failed(credentials)
        if paused:
            raise too_many("this caller") from None
        raise
    if throttle is None:
        return requester
    remark = throttle.admit(credentials, requester, paused=paused)
    if not remark:
        return requester
    return msgspec.structs.replace(requester, remark="; ".join(filter(None, (requester.remark, remark))))


async def made(make: Callable[..., Made], *given: Any, in_thread: bool) -> Made:
    """``make(*given)``; in a thread where that would keep the event loop for too long."""
    if not in_thread:
        return make(*given)
    run = partial(copy_context().run, make, *given)
    return await asyncio.get_running_loop().run_in_executor(_LARGE, run)


def access_header(context: Context | None) -> list[tuple[bytes, bytes]]:
    """On which bases, and until when, the caller sees what is answered (docs/access.md, Answers)."""
    return [(b"x-obieg-access", context.access.encode())] if context is not None and context.access else []


def token_challenge(*, shown: bool) -> str:
    """What a token would have to be like (RFC 6750, section 3; RFC 9449, section 7.1); ``shown``: one was."""
    error = ', error="invalid_token"' if shown else ""
    return f'Bearer realm="obieg"{error}, DPoP realm="obieg"{error}, algs="{" ".join(ALGORITHMS)}"'


class Disconnected(Exception):  # noqa: N818
    """The connection ended within the request."""


class TooLarge(Exception):  # noqa: N818
    """The body is larger than the limit."""


def guarded(send: Send, scope: Scope) -> Send:
    """``send`` that adds to every answer what keeps browsers and caches from doing more with it than show it.

    No answer may be stored, framed, guessed at or act; what an edge or a page says itself about this goes first.
    """
    always = _GUARDS_TLS if scope["scheme"] == "https" else _GUARDS

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            said = {name for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(guard for guard in always if guard[0] not in said)]
        await send(message)

    return sending


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


def unread_coding(scope: Scope) -> str:
    """The Content-Encoding of a request that is coded, which nothing here undoes; "" where it is sent as it is."""
    said = next((v for n, v in scope["headers"] if n == b"content-encoding"), b"").decode("latin-1").strip().lower()
    return "" if said == "identity" else said[:40]


async def send_whole(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
    """An answer in one piece."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def client_certificate(scope: Scope) -> bytes | None:
    """DER of the certificate whose key the TLS connection has proved; None without one."""
    der: bytes | None = scope.get("extensions", {}).get(CERTIFICATE, {}).get("der")
    return der


def base_address(scope: Scope, public_url: str) -> str:
    """The address by which the caller reaches this node, without a slash at its end."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"localhost").decode("latin-1")
    return (public_url or f"{scope['scheme']}://{host}").rstrip("/")


def credentials(scope: Scope, base: str) -> Credentials:
    """What the caller of an HTTP request shows. ``base``: see :func:`base_address`."""
    client = scope.get("client")
    return Credentials(
        address=client[0] if client else "",
        certificate=client_certificate(scope),
        target=base + scope["path"],
        # One that stands twice is none that proves anything.
        authorization=", ".join(_values(scope, b"authorization")),
        dpop=", ".join(_values(scope, b"dpop")),
        method=scope["method"],
        path=scope["path"],
        cookie="; ".join(_values(scope, b"cookie")),
        foreign=scope["method"] not in SAFE_METHODS and not is_from_here(scope, base),
    )


def is_from_here(scope: Scope, base: str) -> bool:
    """Whether a browser says that a page of this node sent the request.

    The address in Host is one of the node's, too: no page can make a browser send a cookie of this node to another one.
    """
    parts = urlsplit(base)
    host = ", ".join(_values(scope, b"host"))
    own = (f"{parts.scheme}://{parts.netloc}", f"{scope['scheme']}://{host}")
    return is_own_page(", ".join(_values(scope, b"origin")), ", ".join(_values(scope, b"sec-fetch-site")), own)


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for header, value in scope["headers"] if header == name]
