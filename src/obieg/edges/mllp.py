"""HL7 v2 over MLLP (ITI TF-2x C.2.1): one connection, its messages in order, every message answered.

Each message is answered in original mode before the next is read, so a source's order is kept. AA says that everything
is committed; AE that the content was refused, or, with code 207, that the node could not do its work just now and the
identical message may be sent again; AR that the message was never looked into. Transactions picked by MSH-9 decide what
a message does; repeating one is theirs to make harmless. TLS belongs to the listener.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.authorities import Authorities
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.edges.asgi import admitted
from obieg.edges.refusals import NOT_NOW, Refusals
from obieg.edges.throttle import Throttle
from obieg.protocol import AuditSink, Authenticator, Context, Credentials, Gate, MllpBinding, MllpRequest, Transaction
from obieg.wire import hl7v2, mllp

_READ_BYTES = 64 * 1024
_CONTROL_ID_MAX = (
    199  # characters of MSH-10 in HL7 2.7, the longest of all versions; it is repeated in answer and audit
)
# Problems that say the message was never looked into (HL7 2.5 section 2.9.2.2): MSA-1 is AR.
_REJECTED = {"UnsupportedMessageType", "UnsupportedEventCode", "UnsupportedVersion", "LimitExceeded"}
_PROBLEM_OF_CODE = {
    hl7v2.SEGMENT_SEQUENCE_ERROR: "SegmentSequenceError",
    hl7v2.REQUIRED_FIELD_MISSING: "RequiredFieldMissing",
    hl7v2.DATA_TYPE_ERROR: "DataTypeError",
    hl7v2.TABLE_VALUE_NOT_FOUND: "TableValueNotFound",
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class MllpLimits:
    """What one connection may take."""

    frame_bytes_max: int = 1024 * 1024
    idle_time_s: float = 600  # between two messages
    frame_time_s: float = 30  # from the first byte of a message to its last, and for the peer to take our answer
    answer_time_s: float = 60
    connections_max: int = 500
    message: hl7v2.Limits = hl7v2.Limits()  # noqa: RUF009 - immutable


def utc_now() -> datetime:
    """The node's clock."""
    return datetime.now(UTC)


class MllpEdge:
    """Serves connections: pass it to ``asyncio.start_server``."""

    def __init__(
        self,
        *,
        transactions: Sequence[Transaction],
        actors: object,
        authenticator: Authenticator,
        audit: AuditSink,
        authorities: Authorities = Authorities(),  # noqa: B008 - never changed
        throttle: Throttle | None = None,
        gate: Gate | None = None,
        limits: MllpLimits = MllpLimits(),
        clock: Callable[[], datetime] = utc_now,
        new_request_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._events: dict[tuple[str, str], list[Transaction]] = {}  # by type and event, the highest version first
        for transaction in transactions:
            if isinstance(transaction.binding, MllpBinding):
                for trigger in transaction.binding.triggers:
                    self._events.setdefault(trigger, []).append(transaction)
        for trigger, answering in self._events.items():
            answering.sort(key=_since, reverse=True)
            if len({_since(transaction) for transaction in answering}) < len(answering):
                raise ValueError(f"{' and '.join(t.id for t in answering)} both answer {'^'.join(trigger)}")
        self._types = {message_type for message_type, _ in self._events}
        self._actors = actors
        self._authenticator = authenticator
        self._throttle = throttle
        self._gate = gate
        self._audit = audit
        self._authorities = authorities
        self._limits = limits
        self._clock = clock
        self._new_request_id = new_request_id
        self._connections = 0
        self.refusals = Refusals(self._record)  # those that say "not now"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection until its end."""
        peer = writer.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        tls = writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        shown = Credentials(address=address, certificate=certificate, tokens=False)
        self._connections += 1
        try:
            if self._connections > self._limits.connections_max:
                log.warning("too many MLLP connections; one was closed", address=address)
            else:
                await self._serve(reader, writer, shown)
        except ConnectionError as error:
            log.info("an MLLP connection broke", address=address, error=str(error))
        finally:
            self._connections -= 1
            writer.close()
            with suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, shown: Credentials) -> None:
        limits, address = self._limits, shown.address
        splitter = mllp.FrameSplitter(limits.frame_bytes_max)
        loop = asyncio.get_running_loop()
        frame_deadline = 0.0
        while True:
            waiting_until = frame_deadline if splitter.partial else loop.time() + limits.idle_time_s
            try:
                async with asyncio.timeout_at(waiting_until):
                    chunk = await reader.read(_READ_BYTES)
            except TimeoutError:
                log.warning(
                    "an MLLP connection was closed because nothing more came", address=address, half=splitter.partial
                )
                return
            if not chunk:
                if splitter.partial:
                    log.warning("an MLLP connection ended within a message", address=address)
                return
            within = splitter.partial
            junk_bytes = splitter.junk_bytes
            frames = splitter.feed(chunk)
            if splitter.junk_bytes > junk_bytes:
                log.warning("bytes between MLLP frames", address=address, bytes=splitter.junk_bytes - junk_bytes)
            for frame in frames:
                if isinstance(frame, mllp.TooLong):
                    answer = await self._too_long(frame, address)
                else:
                    answer = await self.answer(frame.data, shown)
                writer.write(mllp.encode(answer))
                try:
                    async with asyncio.timeout(limits.frame_time_s):
                        await writer.drain()
                except TimeoutError:
                    log.warning("an MLLP peer does not take its answer", address=address)
                    return
                if isinstance(frame, mllp.TooLong):
                    return
            if splitter.partial and (frames or not within):
                frame_deadline = loop.time() + limits.frame_time_s

    async def answer(self, data: bytes, shown: Credentials) -> bytes:
        """The acknowledgement of one message."""
        address = shown.address
        try:
            header = hl7v2.read_header(data)
        except hl7v2.MessageError as error:
            return await self._refuse_unread(hl7v2.UNREADABLE, address, "AR", _of(error))
        transaction = self._answering(header)
        if transaction is None:
            return await self._refuse_unread(header, address, "AR", self._unsupported(header))
        try:
            message = hl7v2.parse(data, self._limits.message, header)
        except hl7v2.MessageError as error:
            return await self._refuse_unread(header, address, "AE", _of(error), transaction)
        if not message.version or message.version[0] != 2:
            finding = Finding("UnsupportedVersion", "the version must be one of HL7 2.x", "MSH-12")
            return await self._refuse_unread(message, address, "AR", finding, transaction)
        if len(message.control_id) > _CONTROL_ID_MAX or not message.control_id.isprintable():
            finding = Finding("DataTypeError", f"a control id has at most {_CONTROL_ID_MAX} characters", "MSH-10")
            return await self._refuse_unread(hl7v2.UNREADABLE, address, "AR", finding, transaction)
        if not message.control_id:
            finding = Finding("RequiredFieldMissing", "without a control id no answer can be told apart", "MSH-10")
            return await self._refuse_unread(message, address, "AE", finding, transaction)
        return await self._transact(transaction, message, shown)

    def _answering(self, header: hl7v2.Message) -> Transaction | None:
        answering = self._events.get((header.type, header.event), [])
        reached = (t for t in answering if _since(t) <= header.version)
        return next(reached, answering[-1] if answering else None)

    async def _transact(self, transaction: Transaction, message: hl7v2.Message, shown: Credentials) -> bytes:
        request_id = self._new_request_id()
        context: Context | None = None
        received = MllpRequest(message, self._authorities)
        try:
            requester = await admitted(self._authenticator, self._throttle, shown)
            context = Context(
                transaction=transaction,
                requester=requester,
                request_id=request_id,
                received_at=self._clock(),
                source_user=_user(message, 4, 3),
                destination_user=_user(message, 6, 5),
            )
            request = transaction.decode(received)
            context.objects = _with_control_id(transaction.audit(request), message)
            if self._gate is not None:
                self._gate.admit(context)
            async with asyncio.timeout(self._limits.answer_time_s):
                result = await transaction.serve(getattr(self._actors, transaction.actor), request, context)
            if self._gate is not None:
                self._gate.expect_decided(context)
            return self._acknowledge(message, "AA", request_id, answer=transaction.encode(result, received))
        except Problem as problem:
            findings = problem.findings
        except (RetryLater, TimeoutError) as error:
            log.warning("a message could not be served now", request_id=request_id, reason=str(error) or "time-out")
            findings = (Finding("XDSRegistryBusy", f"not just now; send it again ({request_id})"),)
        except Exception:
            log.exception("alarm: a message made the node fail", request_id=request_id, transaction=transaction.id)
            findings = (Finding("XDSRegistryError", f"the node failed; its log has {request_id}"),)
        not_now = NOT_NOW.issuperset(f.code for f in findings)
        if context is None:
            event = _bare_event(message, shown.address, request_id, findings, transaction)
        else:
            event = context.audit(_outcome(findings), _codes(findings), spends=not not_now)
        if not_now and (context is None or not context.audited):
            await self.refusals.refused(event.requester or shown.address, event)
        elif context is None or not context.audited:
            await self._record(event)
        log.info("a message was refused", request_id=request_id, transaction=transaction.id, problems=_codes(findings))
        code = "AR" if any(f.code in _REJECTED for f in findings) else "AE"
        return self._acknowledge(message, code, request_id, findings, transaction.refuse(findings, received))

    def _unsupported(self, header: hl7v2.Message) -> Finding:
        if header.type not in self._types:
            known = ", ".join(sorted(self._types))
            return Finding("UnsupportedMessageType", f"this node answers messages of type {known}", "MSH-9-1")
        events = ", ".join(sorted(event for message_type, event in self._events if message_type == header.type))
        return Finding("UnsupportedEventCode", f"this node answers the events {events} of {header.type}", "MSH-9-2")

    async def _too_long(self, frame: mllp.TooLong, address: str) -> bytes:
        try:
            header = hl7v2.read_header(frame.head)
        except hl7v2.MessageError:
            header = hl7v2.UNREADABLE
        limit = self._limits.frame_bytes_max
        finding = Finding("LimitExceeded", f"a message may have {limit} bytes; the connection is closed")
        return await self._refuse_unread(header, address, "AR", finding)

    async def _refuse_unread(
        self,
        header: hl7v2.Message,
        address: str,
        code: str,
        finding: Finding,
        transaction: Transaction | None = None,
    ) -> bytes:
        """Answers what no transaction has seen."""
        request_id = self._new_request_id()
        await self._record(_bare_event(header, address, request_id, (finding,), transaction))
        log.info("a message was refused", request_id=request_id, problems=_codes((finding,)), location=finding.location)
        return self._acknowledge(header, code, request_id, (finding,))

    async def _record(self, event: AuditEvent) -> None:
        try:
            await self._audit.record(event)
        except RetryLater as error:
            log.error("an audit record could not be stored", request_id=event.request_id, error=str(error))
        except Exception:  # the answer is owed all the same
            log.exception("alarm: a refusal could not be audited", request_id=event.request_id, detail=event.detail)

    def _acknowledge(
        self,
        request: hl7v2.Message,
        code: str,
        request_id: str,
        findings: Sequence[Finding] = (),
        answer: hl7v2.Answer = hl7v2.Answer(),  # noqa: B008 - immutable
    ) -> bytes:
        faults = [hl7v2.Fault(int(_problem(f)["hl7"]), f.detail, f.location, f.warning) for f in findings]
        control_id = request_id[:20]  # MSH-10 in 2.3.1
        return hl7v2.acknowledge(request, code, control_id=control_id, at=self._clock(), faults=faults, answer=answer)


def _since(transaction: Transaction) -> tuple[int, ...]:
    return transaction.binding.since if isinstance(transaction.binding, MllpBinding) else ()


def _problem(finding: Finding) -> dict[str, str]:
    row: dict[str, str] = toml("problems.toml")[finding.code]
    return row


def _of(error: hl7v2.MessageError) -> Finding:
    return Finding(_PROBLEM_OF_CODE[error.code], error.detail, error.location)


def _codes(findings: Sequence[Finding]) -> str:
    return "; ".join(dict.fromkeys([*(f.code for f in findings), *(f.reason for f in findings if f.reason)]))


def _outcome(findings: Sequence[Finding]) -> Outcome:
    return Outcome(max((_problem(f)["audit"] for f in findings), key=int))


def _user(message: hl7v2.Message, facility: int, application: int) -> str:
    """Facility and application as the audit record names them (ITI TF-2:3.8.5.1)."""
    named = (message.get(f"MSH-{facility}"), message.get(f"MSH-{application}"))
    return "|".join(named) if any(named) else ""


def _with_control_id(objects: Sequence[AuditObject], message: hl7v2.Message) -> tuple[AuditObject, ...]:
    """ParticipantObjectDetail MSH-10, as every HL7 v2 transaction of IHE wants it."""
    detail = ("MSH-10", message.control_id)
    return tuple(
        AuditObject(kind=o.kind, identifier=o.identifier, query=o.query, details=(*o.details, detail)) for o in objects
    )


def _bare_event(
    message: hl7v2.Message,
    address: str,
    request_id: str,
    findings: Sequence[Finding],
    transaction: Transaction | None,
) -> AuditEvent:
    """The record of a message that no transaction has seen."""
    return AuditEvent(
        transaction=transaction.id if transaction else "",
        event=transaction.event if transaction else "security_alert",
        outcome=_outcome(findings),
        detail=_codes(findings),
        request_id=request_id,
        source_user=_user(message, 4, 3),
        source_address=address,
        destination_user=_user(message, 6, 5),
    )
