"""The SOAP edge: an ASGI application that carries every transaction with a SOAP binding (ITI TF-2 Appendix V).

The way of one request: limits, MIME and XML, the envelope, the caller, the transaction by ``wsa:Action``, decode, the
actor, encode. Whatever is wrong is answered in the protocol's own terms: a SOAP fault when the message cannot be taken
as what it claims to be, the transaction's own error answer otherwise. What never reached an actor is audited here.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from obieg.domain.audit import Outcome
from obieg.domain.content import MemoryContent
from obieg.edges.asgi import (
    LARGE_BYTES,
    Disconnected,
    Exchange,
    Host,
    Receive,
    Scope,
    Send,
    TooLarge,
    WebLimits,
    access_header,
    base_address,
    client_certificate,
    made,
    receive_whole,
    send_whole,
    unread_coding,
)
from obieg.edges.content import PartSink, SpooledContent
from obieg.edges.mtom import Package
from obieg.edges.wsdl import write_wsdl
from obieg.protocol import Content, SoapBinding, SoapOperation, SoapReply, SoapRequest, Transaction
from obieg.wire import mime, soap
from obieg.wire.soap import SoapFault
from obieg.wire.xml import XmlRefused, encoding_of, is_disguised, parse_message

Actions = dict[str, tuple[Transaction, SoapOperation]]

PATH_PREFIX = "/services/"
_KEEPERS = ("Document Repository", "Document Recipient")
_CHARSETS = {"UTF-8": ("UTF-8", "US-ASCII"), "UTF-16": ("UTF-16", "UTF-16LE", "UTF-16BE")}
_SOAP_HEADERS = [(b"content-type", b"application/soap+xml; charset=UTF-8")]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class SoapLimits(WebLimits):
    """What one request may take."""

    document_bytes_max: int = 1024 * 1024 * 1024  # of one attached part
    parts_max: int = 100
    spool_folder: Path = field(default_factory=Path)


class _Refused(Exception):  # noqa: N818
    """The HTTP request is no SOAP message: answered with a fault."""

    def __init__(self, status: int, fault: SoapFault, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(fault.reason)
        self.status = status
        self.fault = fault
        self.headers = headers


@dataclass(slots=True)
class _Received:
    root: Any
    parts: dict[str, Content]
    mtom: bool
    large: bool
    disguised: bool  # comments or xml:id, or CDATA in the header


@dataclass(slots=True, kw_only=True)
class _Exchange(Exchange):
    envelope: soap.Envelope = field(default_factory=lambda: soap.Envelope(body=None))  # as soon as it is read


class SoapEdge:
    """Mount it at ``/services/``."""

    def __init__(self, host: Host, *, limits: SoapLimits) -> None:
        self._endpoints: dict[str, Actions] = {}
        for transaction, binding in host.served(SoapBinding):
            actions = self._endpoints.setdefault(PATH_PREFIX + binding.endpoint, {})
            actions |= {operation.action: (transaction, operation) for operation in binding.operations}
        self._actions = {action for actions in self._endpoints.values() for action in actions}  # of the whole node
        self._host = host
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path = scope["path"]
        actions = self._endpoints.get(path)
        if actions is None:
            await _send_plain(send, 404, "there is no service at this address")
        elif scope["method"] == "POST":
            await self._post(scope, receive, send, actions)
        elif scope["method"] in ("GET", "HEAD"):
            await self._get(scope, send, actions, path)
        else:
            await _send_plain(send, 405, "send POST, or GET with ?wsdl", [(b"allow", b"GET, HEAD, POST")])

    async def _get(self, scope: Scope, send: Send, actions: Actions, path: str) -> None:
        if scope["query_string"].lower() not in (b"wsdl", b"singlewsdl"):
            names = ", ".join(f"{t.id} {t.name}" for t in _transactions(actions))
            await _send_plain(send, 200, f"{names}. The WSDL is at {path}?wsdl; send SOAP 1.2 by POST.")
            return
        body = write_wsdl(_transactions(actions), base_address(scope, self._host.public_url) + path)
        await send_whole(send, 200, [(b"content-type", b"text/xml; charset=UTF-8")], body)

    async def _post(self, scope: Scope, receive: Receive, send: Send, actions: Actions) -> None:
        host = self._host
        exchange = _Exchange.begin(scope, host.new_request_id())
        received: _Received | None = None
        outcome = "success"
        try:
            received = await self._receive(scope, receive)
            envelope = exchange.envelope = soap.read_envelope(received.root)
            transaction, operation = _choose(actions, envelope)
            _check_actions(scope, envelope, self._actions)
            exchange.transaction = transaction
            outcome, reply = await self._answer(exchange, transaction, received)
            if reply.fault is not None:
                await _send_fault(send, reply.fault, envelope)
            else:
                mtom = reply.mtom or received.mtom
                await _reply(send, operation, envelope, reply, access_header(exchange.context), mtom=mtom)
        except _Refused as refusal:
            outcome = "refused"
            await self._fault(send, exchange, refusal.status, refusal.fault, refusal.headers)
        except SoapFault as fault:
            outcome = "refused"
            await self._fault(send, exchange, _status(fault), fault)
        finally:
            if received is not None:
                for part in received.parts.values():
                    if isinstance(part, SpooledContent):
                        part.close()
            host.finish(exchange, outcome)

    async def _answer(
        self, exchange: _Exchange, transaction: Transaction, received: _Received
    ) -> tuple[str, SoapReply]:
        """Outcome for the metrics, and the answer."""
        message = SoapRequest(
            body=exchange.envelope.body,
            parts=received.parts,
            mtom=received.mtom,
            action=exchange.envelope.action,
            target=base_address(exchange.scope, self._host.public_url) + exchange.scope["path"],
            certificate=client_certificate(exchange.scope),
            security=exchange.envelope.security,
            request_id=exchange.request_id,
            received_at=self._host.clock(),
            authorities=self._host.authorities,
        )
        return await self._host.settle(
            exchange,
            self._serve(exchange, transaction, message, received),
            lambda findings: transaction.refuse(findings, message),
            protocol="SOAP",
            keeper="Repository" if transaction.responder in _KEEPERS else "Registry",
            passing=(SoapFault, _Refused),
        )

    async def _serve(
        self, exchange: _Exchange, transaction: Transaction, message: SoapRequest, received: _Received
    ) -> SoapReply:
        envelope = exchange.envelope
        context = await self._host.admit(
            exchange,
            transaction,
            received_at=message.received_at,
            source_user=envelope.reply_to or exchange.address,
            destination_user=self._host.public_url + exchange.scope["path"],
            security=envelope.security,
            envelope=received.root,
            message_id=envelope.message_id,
            disguised=received.disguised,
            large=received.large,
            tokens=isinstance(transaction.binding, SoapBinding) and transaction.binding.tokens,
        )
        context.large = received.large
        # Where the Body was signed, it now stands there as it was read from what was signed.
        message = replace(message, body=received.root[-1][0])
        binding = transaction.binding
        if isinstance(binding, SoapBinding) and binding.mtom and not message.mtom:
            raise _Refused(
                415,
                SoapFault("Sender", f"{transaction.id} is sent as an MTOM package: multipart/related with "
                          "type=application/xop+xml (ITI TF-2 Appendix V.8)"),
            )  # fmt: skip
        result = await self._host.perform(context, message)
        return transaction.encode(result, message)  # type: ignore[no-any-return]

    async def _fault(
        self,
        send: Send,
        exchange: _Exchange,
        status: int,
        fault: SoapFault,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        detail = f"{fault.code} {fault.subcode}".strip()
        # Not the reason: it may repeat what was sent.
        log.info("fault", request_id=exchange.request_id, code=detail, status=status, address=exchange.address)
        await self._host.record_alert(exchange, Outcome.SERIOUS_FAILURE, detail, "SOAP")
        await _send_fault(send, fault, exchange.envelope, status, headers)

    # receiving --------------------------------------------------------------------------------------------------

    async def _receive(self, scope: Scope, receive: Receive) -> _Received:
        headers = dict(scope["headers"])
        if coding := unread_coding(scope):
            fault = SoapFault("Sender", f"Content-Encoding {coding!r}: send the message as it is")
            raise _Refused(415, fault, [(b"accept-encoding", b"identity")])
        media, parameters = mime.content_type(headers.get(b"content-type", b"").decode("latin-1"))
        try:
            async with asyncio.timeout(self._limits.request_time_s):
                if media == soap.SOAP_TYPE:
                    data = await self._whole(receive)
                    _check_charset(data, parameters)
                    return await self._xml(data, {}, mtom=False)
                if media == "multipart/related":
                    return await self._multipart(receive, parameters)
        except XmlRefused as error:
            raise SoapFault("Sender", str(error)) from None
        except mime.MimeRefused as error:
            raise SoapFault("Sender", f"the MIME package cannot be read: {error}") from None
        except TimeoutError:
            raise _Refused(408, SoapFault("Sender", "the request did not arrive in time")) from None
        raise _Refused(
            415, SoapFault("Sender", f"Content-Type {media or 'missing'!r}: send application/soap+xml (SOAP 1.2) or "
                           "multipart/related with type=application/xop+xml (MTOM)")
        )  # fmt: skip

    async def _whole(self, receive: Receive) -> bytes:
        limit = self._limits.message_bytes_max
        try:
            return await receive_whole(receive, limit)
        except TooLarge:
            raise self._too_large("message_bytes_max", limit) from None
        except Disconnected:
            raise SoapFault("Sender", "the connection ended within the request") from None

    @staticmethod
    def _too_large(limit: str, value: int) -> _Refused:
        return _Refused(413, SoapFault("Sender", f"the message exceeds this node's limit {limit} of {value} bytes"))

    async def _xml(self, data: bytes, parts: dict[str, Content], *, mtom: bool) -> _Received:
        large = len(data) > LARGE_BYTES
        root = await made(parse_message, data, self._limits.xml, in_thread=large)
        disguised = await made(is_disguised, data, root, in_thread=large)
        return _Received(root, parts, mtom, large, disguised)

    async def _multipart(self, receive: Receive, parameters: dict[str, str]) -> _Received:
        if parameters.get("type", "").lower() != soap.XOP_TYPE:
            raise SoapFault("Sender", f"multipart/related needs type={soap.XOP_TYPE} (MTOM)")
        start = parameters.get("start", "").removeprefix("<").removesuffix(">")
        parser = mime.MultipartParser(parameters.get("boundary", ""), parts_max=self._limits.parts_max)
        parts: dict[str, Content] = {}
        root: bytes | None = None
        sink: PartSink | None = None
        content_id = ""
        is_root = False
        of_root: dict[str, str] = {}  # parameters of its Content-Type
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise SoapFault("Sender", "the connection ended within the request")
                more = bool(message.get("more_body"))
                for event in parser.feed(message.get("body", b"")):
                    if type(event) is mime.PartData:
                        assert sink is not None  # noqa: S101 - data follow a start
                        await sink.write(event.data)
                        limit = self._limits.message_bytes_max if is_root else self._limits.document_bytes_max
                        if sink.size > limit:
                            raise self._too_large("message_bytes_max" if is_root else "document_bytes_max", limit)
                    elif type(event) is mime.PartStart:
                        content_id = event.content_id
                        is_root = root is None and (content_id == start if start else not parts)
                        _check_encoding(event)
                        if is_root:
                            media, of_root = mime.content_type(event.headers.get("content-type", ""))
                            if media not in (soap.XOP_TYPE, ""):
                                raise SoapFault("Sender", f"the root part is {media!r}, not {soap.XOP_TYPE}")
                        sink = PartSink(event.headers.get("content-type", ""), self._limits.spool_folder)
                    elif sink is not None:
                        content, sink = await sink.finish(), None
                        if is_root:
                            root = await _bytes(content)
                            _check_charset(root, of_root)
                        elif content_id in parts or not content_id:
                            raise SoapFault("Sender", "every part needs a Content-ID of its own")
                        else:
                            parts[content_id] = content
            parser.finish()
            if root is None:
                raise SoapFault("Sender", "the MIME package has no root part")
            return await self._xml(root, parts, mtom=True)
        except BaseException:
            if sink is not None:
                sink.close()
            for part in parts.values():
                if isinstance(part, SpooledContent):
                    part.close()
            raise


def _check_charset(data: bytes, parameters: dict[str, str]) -> None:
    """The charset of a Content-Type goes before the declaration (RFC 7303, 3.2): here it may not deny the bytes."""
    charset = parameters.get("charset", "").upper().replace("UTF8", "UTF-8")
    if charset and charset not in _CHARSETS[encoding_of(data)]:
        raise SoapFault("Sender", f"charset {charset[:40]!r} is not the encoding of the message")


def _check_actions(scope: Scope, envelope: soap.Envelope, known: Collection[str]) -> None:
    """Whoever lets requests through by their HTTP headers must not be told of another operation than is performed.

    WS-Addressing 1.0 SOAP Binding, section 5.2. What names no operation of the node (zeep sends ``None``) does no harm.
    """
    headers = dict(scope["headers"])
    _, parameters = mime.content_type(headers.get(b"content-type", b"").decode("latin-1"))
    for said in (parameters.get("action", ""), headers.get(b"soapaction", b"").decode("latin-1").strip(' "')):
        if said in known and envelope.action and said != envelope.action:
            raise SoapFault("Sender", f"{said[:200]!r} is not the wsa:Action", "wsa:ActionMismatch")


def _check_encoding(part: mime.PartStart) -> None:
    encoding = part.headers.get("content-transfer-encoding", "binary").lower()
    if encoding not in ("binary", "8bit", "7bit"):
        raise SoapFault("Sender", f"Content-Transfer-Encoding {encoding!r}: parts of an MTOM package are binary")


async def _bytes(content: Content) -> bytes:
    if isinstance(content, MemoryContent):
        return content.data
    data = b"".join([piece async for piece in content.chunks()])
    if isinstance(content, SpooledContent):
        content.close()
    return data


def _transactions(actions: Actions) -> list[Transaction]:
    return list({transaction.id: transaction for transaction, _ in actions.values()}.values())


def _choose(actions: Actions, envelope: soap.Envelope) -> tuple[Transaction, SoapOperation]:
    if not envelope.action:
        raise SoapFault("Sender", "wsa:Action is missing", "wsa:MessageAddressingHeaderRequired")
    chosen = actions.get(envelope.action)
    if chosen is None:
        raise SoapFault(
            "Sender", f"action {envelope.action[:200]!r} is not served at this address", "wsa:ActionNotSupported"
        )
    if not envelope.message_id:
        raise SoapFault("Sender", "wsa:MessageID is missing", "wsa:MessageAddressingHeaderRequired")
    return chosen


# answering -------------------------------------------------------------------------------------------------------


def _status(fault: SoapFault) -> int:
    """SOAP 1.2 part 2, section 7.5.2.2."""
    return 500 if fault.code == "Receiver" else 400


async def _send_fault(
    send: Send,
    fault: SoapFault,
    envelope: soap.Envelope,
    status: int = 0,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    body = soap.write_envelope(soap.FAULT_ACTION, soap.write_fault(fault), relates_to=envelope.message_id)
    # What is left of an oversized request is not read: the connection ends with the answer.
    close = [(b"connection", b"close")] if status == 413 else []
    await send_whole(send, status or _status(fault), [*_SOAP_HEADERS, *headers, *close], body)


async def _reply(
    send: Send,
    operation: SoapOperation,
    envelope: soap.Envelope,
    reply: SoapReply,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    mtom: bool,
) -> None:
    root = soap.write_envelope(
        operation.response_action, reply.body, relates_to=envelope.message_id, message_id=f"urn:uuid:{uuid.uuid4()}"
    )
    if not mtom:
        await send_whole(send, 200, [*_SOAP_HEADERS, *headers], root)
        return
    package = Package(root, reply.parts)
    own = [(b"content-type", package.content_type.encode()), (b"content-length", b"%d" % package.size)]
    await send({"type": "http.response.start", "status": 200, "headers": [*own, *headers]})
    ready = b""
    async for piece in package.pieces():
        if ready:
            await send({"type": "http.response.body", "body": ready, "more_body": True})
        ready = piece
    await send({"type": "http.response.body", "body": ready})


async def _send_plain(send: Send, status: int, text: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    await send_whole(send, status, [(b"content-type", b"text/plain; charset=UTF-8"), *headers], text.encode() + b"\n")
