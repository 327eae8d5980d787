"""The DICOMweb edge: an ASGI application for the transactions with a WADO binding (DICOM PS3.18, 10.4).

An address is taken apart, the caller proved, the rest left to the transaction. What comes from an archive is passed on
piece by piece as it comes: the first piece is awaited before anything is answered, so that an archive that is away is
told as such; one that breaks off later breaks off the connection, which no reader can take for a whole answer. Whoever
leaves meanwhile ends the transfer from the archive, also while it is silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qsl

import structlog

from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.requester import Requester
from obieg.domain.scopes import expect_patient, expect_scope, need
from obieg.edges.asgi import (
    Exchange,
    Host,
    Receive,
    Scope,
    Send,
    access_header,
    base_address,
    send_whole,
    token_challenge,
)
from obieg.protocol import Context, WadoBinding, WadoReply, WadoRequest

PREFIX = "/wado"
PARAMETERS_MAX = 10
_RETRY_AFTER = {503: b"5", 429: b"1"}
_RESOURCE = "ImagingStudy"  # whose scope a token must have
# A picture is shown within pages of ours; whatever it is, nothing in it runs.
_GUARDS = ((b"content-security-policy", b"sandbox; default-src 'none'"), (b"x-content-type-options", b"nosniff"))

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class _Exchange(Exchange):
    path: str  # behind the prefix: the manifest, and what of it
    person: Requester | None = None  # who asks, where a page of this node knows it already
    first: bytes = b""  # piece of the answer


class WadoEdge:
    """Mount it at ``/wado``."""

    def __init__(self, host: Host, *, affinity_domain: str) -> None:
        """``affinity_domain``: OID of the authority of patient ids, to which tokens are limited."""
        served = host.served(WadoBinding)
        self._transaction = served[0][0] if served else None
        self._host = host
        self._affinity_domain = affinity_domain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path = scope["path"].removeprefix(PREFIX).removeprefix("/")
        await self._answer(receive, send, _Exchange.begin(scope, self._host.new_request_id(), path=path))

    async def answer(self, scope: Scope, receive: Receive, send: Send, path: str, person: Requester) -> None:
        """The same for a page of this node: ``path`` begins with the manifest, ``person`` is who visits the page."""
        await self._answer(receive, send, _Exchange.begin(scope, self._host.new_request_id(), path=path, person=person))

    async def _answer(self, receive: Receive, send: Send, exchange: _Exchange) -> None:
        host = self._host
        refuse = partial(self._refused, exchange)
        outcome, reply = await host.settle(
            exchange, self._serve(exchange), refuse, protocol="DICOMweb", keeper="Repository"
        )
        headers = [(b"content-type", reply.content_type.encode("ascii")), *_GUARDS]
        if reply.file_name:
            headers.append((b"content-disposition", f'attachment; filename="{reply.file_name}"'.encode("ascii")))
        if (after := _RETRY_AFTER.get(reply.status)) is not None:
            headers.append((b"retry-after", after))
        if reply.status == 401:
            shown = any(name == b"authorization" for name, _ in exchange.scope["headers"])
            headers.append((b"www-authenticate", token_challenge(shown=shown).encode("ascii")))
        if reply.status == 405:
            headers.append((b"allow", b"GET"))
        if outcome == "success":
            headers += access_header(exchange.context)
        if reply.pieces is None:
            await send_whole(send, reply.status, headers, reply.body)
        elif not await _send_pieces(receive, send, headers, exchange, reply.pieces):
            outcome = "failed"
        host.finish(exchange, outcome)

    def _refused(self, exchange: Exchange, findings: Sequence[Finding]) -> WadoReply:
        assert self._transaction is not None  # noqa: S101 - the edge is mounted where it serves something
        reply: WadoReply = self._transaction.refuse(tuple(findings), None)
        del exchange
        return reply

    async def _serve(self, exchange: _Exchange) -> WadoReply:
        host, scope = self._host, exchange.scope
        transaction = exchange.transaction = self._transaction
        assert transaction is not None  # noqa: S101 - see above
        base = base_address(scope, host.public_url) + PREFIX
        context = await self._context(exchange, base)
        if scope["method"] != "GET":
            raise Problem.of("MethodNotAllowed", "images are retrieved here by GET, and nothing else")
        document, *path = exchange.path.split("/")
        if "\0" in document:  # no other part of the address is looked for in the database
            raise Problem.of("MessageNotReadable", "the address has a character that no text has", "http")
        request = WadoRequest(
            document=document,
            path=tuple(path),
            parameters=_parameters(scope["query_string"]),
            accept=", ".join(v.decode("latin-1") for n, v in scope["headers"] if n == b"accept"),
            request_id=exchange.request_id,
        )
        needed = need(transaction.permission, _RESOURCE, "read")
        limited = expect_scope(needed, context.requester, transaction.id)

        def expect(*, served: bool) -> None:
            if limited:
                patients = [o.identifier for o in context.objects if o.kind == "patient"]
                expect_patient(needed, context.requester, patients, self._affinity_domain, served=served)

        result = await host.perform(context, request, expect)
        reply: WadoReply = transaction.encode(result, request)
        if reply.pieces is not None:
            exchange.first = await anext(reply.pieces, b"")
        return reply

    async def _context(self, exchange: _Exchange, base: str) -> Context:
        """Raises Problem ``AuthenticationFailed``."""
        transaction, person = exchange.transaction, exchange.person
        assert transaction is not None  # noqa: S101 - see above
        now = self._host.clock()
        if person is None:
            return await self._host.admit(
                exchange, transaction, received_at=now, source_user=exchange.address, destination_user=base
            )
        exchange.context = Context(
            transaction=transaction,
            requester=person,
            request_id=exchange.request_id,
            received_at=now,
            source_user=person.token,
            destination_user=base,
        )
        return exchange.context


def _parameters(query: bytes) -> tuple[tuple[str, str], ...]:
    try:
        found = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX)
    except ValueError:
        said = f"the address is no UTF-8 in percent-encoding, or has more than {PARAMETERS_MAX} parameters"
        raise Problem.of("MessageNotReadable", said, "http") from None
    return tuple(found)


async def _send_pieces(
    receive: Receive,
    send: Send,
    headers: Sequence[tuple[bytes, bytes]],
    exchange: _Exchange,
    pieces: AsyncGenerator[bytes],
) -> bool:
    """Whether all of it was sent. What breaks off is not ended: the server then ends the connection."""
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    now, sending = asyncio.get_running_loop().time, True
    gone = asyncio.create_task(_disconnected(receive))
    try:
        async with aclosing(pieces), asyncio.timeout(None) as waiting:
            gone.add_done_callback(lambda _: waiting.reschedule(now()) if sending else None)
            try:
                piece: bytes | None = exchange.first
                while piece is not None:
                    if piece:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                    piece = await anext(pieces, None)
            finally:
                sending = False
    except Exception as error:
        if gone.done():
            log.info("the reader of images has gone", request_id=exchange.request_id, error=type(error).__name__)
        elif isinstance(error, (RetryLater, Problem)):
            log.warning("images broke off", request_id=exchange.request_id, error=str(error))
        else:
            log.exception("images failed", request_id=exchange.request_id)
        return False
    finally:
        gone.cancel()
        await asyncio.wait([gone])
    await send({"type": "http.response.body", "body": b""})
    return True


async def _disconnected(receive: Receive) -> None:
    """Returns when the caller has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
