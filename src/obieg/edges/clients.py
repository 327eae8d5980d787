"""Outgoing calls to other nodes: SOAP 1.2 with WS-Addressing and MTOM, HL7 v2 over MLLP."""

from __future__ import annotations

import asyncio
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.authorities import Authorities
from obieg.domain.content import MemoryContent
from obieg.domain.outbox import Letter
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.subscriptions import address_fault, endpoint_fault
from obieg.edges.content import PartSink, SpooledContent
from obieg.edges.mtom import Package
from obieg.protocol import Asker, Content, Notification, Sending, SoapOperation, SoapQuestion, SoapRequest, Transaction
from obieg.wire import hl7v2, mime, mllp, soap
from obieg.wire.soap import SoapFault
from obieg.wire.xml import XmlRefused, parse_message

# Silence of the other side; for a registration, the whole exchange: what is not answered by then is repeated later.
TIMEOUT_S = 30.0
HOOK_TIMEOUT_S = 15.0  # for one notification, from looking up the name to the answer
ANSWER_BYTES_MAX = 32 << 20
# For documents that somebody waits for: to reach a repository, its silence, a place among those who ask it, the whole.
CONNECT_S, SILENCE_S, PLACE_S, WHOLE_S = 3.0, 8.0, 3.0, 20.0
BYTES_PER_S = 1 << 20  # of a document, the least
AT_ONCE = 8  # questions to one repository, for each worker
ENVELOPE_BYTES_MAX = 1 << 20  # of an answer, besides its documents
PARTS_MAX = 1001  # of one answer: the documents of one ITI-43 and the root


class SoapAsker:
    """Asks other nodes whatever can be asked over SOAP; documents are streamed both ways, as MTOM."""

    def __init__(
        self,
        *,
        spool_folder: Path,
        source_address: str = "",
        timeout_s: float = TIMEOUT_S,
        connect_s: float = TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``timeout_s`` is how long the other side may be silent; a large document may take longer as a whole.

        ``connect_s`` is how long it may take to reach it. ``tls`` says whom to trust and who we are; without it, whom
        the system trusts.
        """
        transport = httpx.AsyncHTTPTransport(local_address=source_address or None, verify=tls or True)
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(timeout_s, connect=connect_s), transport=transport)
        self._spool = spool_folder

    async def ask(
        self,
        transaction: Transaction | Notification,
        question: SoapQuestion,
        address: str,
        assertion: bytes = b"",
        *,
        bytes_max: int | None = None,
    ) -> SoapRequest:
        """The answer. Raises Problem for a SOAP fault, RetryLater where it is unknown what the other side did.

        ``assertion`` tells who asks (ITI-40). ``bytes_max``: of the answer with its documents; a larger one is a
        Problem, too.
        """
        assert isinstance(transaction.binding, SoapOperation)  # noqa: S101 - only such transactions are sent
        binding = transaction.binding
        try:
            try:
                return await self._exchange(binding, question, address, assertion, bytes_max)
            except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
                if isinstance(error, httpx.ConnectError):
                    raise
                # A connection that was kept may have ended unnoticed. To repeat the message is harmless, with another
                # MessageID: where somebody vouches for who asks, one is taken once.
                return await self._exchange(binding, question, address, assertion, bytes_max)
        except (httpx.HTTPError, OSError) as error:
            raise RetryLater(f"{address} does not answer ({type(error).__name__}: {error})") from error
        except (XmlRefused, SoapFault, mime.MimeRefused) as error:
            raise RetryLater(f"{address} does not answer with SOAP: {error}") from error

    async def _exchange(
        self, binding: SoapOperation, question: SoapQuestion, address: str, assertion: bytes, bytes_max: int | None
    ) -> SoapRequest:
        message_id = f"urn:uuid:{uuid.uuid4()}"
        root = soap.write_envelope(
            binding.action, question.body, message_id=message_id, to=address, assertion=assertion
        )
        content: bytes | AsyncIterator[bytes] = root
        headers = {"Content-Type": f'{soap.SOAP_TYPE}; charset=UTF-8; action="{binding.action}"'}
        if question.mtom:
            package = Package(root, question.parts, action=binding.action)
            headers = {"Content-Type": package.content_type, "Content-Length": str(package.size)}
            content = package.pieces()
        async with self._http.stream("POST", address, content=content, headers=headers) as answer:
            media, parameters = mime.content_type(answer.headers.get("content-type", ""))
            if media == "multipart/related":
                data, parts = await self._receive(answer, parameters, bytes_max)
            elif media == soap.SOAP_TYPE:
                data, parts = await _limited(answer), {}
            else:
                raise RetryLater(f"{address} answers HTTP {answer.status_code} {media or 'without a Content-Type'}")
        envelope = soap.read_envelope(parse_message(data))
        if envelope.relates_to not in ("", message_id):
            discard(parts.values())
            raise RetryLater(f"{address} answers another message than the one that was sent")
        if envelope.body.tag == f"{{{soap.SOAP}}}Fault":
            reason = envelope.body.findtext(f"{{{soap.SOAP}}}Reason/{{{soap.SOAP}}}Text") or ""
            raise Problem.of("XDSRepositoryError", f"SOAP fault (HTTP {answer.status_code}): {reason}", address)
        access = answer.headers.get("x-obieg-access", "")
        return SoapRequest(envelope.body, parts, mtom=media == "multipart/related", access=access)

    async def _receive(
        self, answer: httpx.Response, parameters: dict[str, str], bytes_max: int | None
    ) -> tuple[bytes, dict[str, Content]]:
        """The root part, and the others by Content-ID, taken to a file where they are large."""
        received = 0
        start = parameters.get("start", "").removeprefix("<").removesuffix(">")
        parser = mime.MultipartParser(parameters.get("boundary", ""), parts_max=PARTS_MAX)
        parts: dict[str, Content] = {}
        sink: PartSink | None = None
        content_id = first = ""
        try:
            async for piece in answer.aiter_bytes():
                received += len(piece)
                if bytes_max is not None and received > bytes_max:
                    said = f"the answer is larger than the {bytes_max} bytes that it can have"
                    raise Problem.of("RepositoryAnswerUnfit", said, str(answer.url))
                for event in parser.feed(piece):
                    if isinstance(event, mime.PartStart):
                        content_id = event.content_id
                        first = first or content_id
                        sink = PartSink(event.headers.get("content-type", ""), self._spool)
                    elif sink is None:
                        continue
                    elif isinstance(event, mime.PartData):
                        await sink.write(event.data)
                    else:
                        parts[content_id], sink = await sink.finish(), None
            parser.finish()
            root = parts.pop(start or first, None)
            if not isinstance(root, MemoryContent):
                raise mime.MimeRefused("there is no root part, or it is no message")
        except BaseException:
            if sink is not None:
                sink.close()
            discard(parts.values())
            raise
        return root.data, parts

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()


class SoapRepositoryClient:
    """Implements :class:`obieg.protocol.RepositoryClient`.

    A repository has connections of its own and few places, so that one that is slow keeps nobody from the others; who
    waits for a place is soon told that it does not answer.
    """

    def __init__(
        self, name: str, address: str, *, spool_folder: Path, tls: ssl.SSLContext | None, at_once: int = AT_ONCE
    ) -> None:
        """``name``: for people. ``tls``: whom to trust and who we are."""
        self.name = name
        self.address = address
        self._asker = SoapAsker(spool_folder=spool_folder, timeout_s=SILENCE_S, connect_s=CONNECT_S, tls=tls)
        self._places = asyncio.Semaphore(at_once)

    async def ask(
        self, transaction: Transaction, question: SoapQuestion, *, assertion: bytes, size: int
    ) -> SoapRequest:
        """See the port."""
        try:
            async with asyncio.timeout(PLACE_S):
                await self._places.acquire()
        except TimeoutError:
            raise RetryLater(f"{self.name} has not yet answered what it was asked before") from None
        try:
            async with asyncio.timeout(WHOLE_S + size / BYTES_PER_S):
                return await self._asker.ask(
                    transaction, question, self.address, assertion, bytes_max=size + ENVELOPE_BYTES_MAX
                )
        except TimeoutError:
            raise RetryLater(f"{self.address} takes too long") from None
        finally:
            self._places.release()

    async def close(self) -> None:
        """Ends its connections."""
        await self._asker.close()


class SoapRegistryClient:
    """Implements :class:`obieg.protocol.RegistryClient` over ITI-42."""

    def __init__(self, region: Asker, transaction: Transaction, read_answer: Any) -> None:
        """``read_answer`` gives status and findings of a RegistryResponse element (injected from ``mapping``)."""
        self._region = region
        self._transaction = transaction
        self._read_answer = read_answer

    async def register(self, message: bytes, registry: str, subject: Mapping[str, str]) -> tuple[Finding, ...]:
        """See the port."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._region.ask(self._transaction, SoapQuestion(message), registry, subject)
        except TimeoutError as error:
            raise RetryLater(f"{registry} did not answer within {TIMEOUT_S:.0f} s") from error
        except Problem as problem:  # the registry has not taken it as ITI-42, or nobody vouches: it may be mended
            raise RetryLater(f"{registry}: {problem}") from problem
        status, findings = self._read_answer(answer.body)
        errors: tuple[Finding, ...] = tuple(f for f in findings if not f.warning)
        if status == "Success":
            return tuple(f for f in findings if f.warning)
        if not errors or any(f.code == "XDSRegistryBusy" for f in errors):
            raise RetryLater(f"{registry}: {status}, the registry asks to repeat the request later")
        return errors


def discard(parts: Iterable[Content]) -> None:
    """Gives back the space of documents that came with an answer."""
    for part in parts:
        if isinstance(part, SpooledContent):
            part.close()


async def _limited(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise httpx.DecodingError(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


class MllpClient:
    """Sends HL7 v2 messages to one address, each answered before the next goes over the same connection."""

    def __init__(
        self,
        address: str,
        *,
        source_address: str = "",
        connections_max: int = 4,
        timeout_s: float = TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``address`` is host:port; ``tls`` says whom to trust and who we are."""
        self.address = address
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._source = (source_address, 0) if source_address else None
        self._timeout_s = timeout_s
        self._tls = tls
        self._free = asyncio.Semaphore(connections_max)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def exchange(self, message: hl7v2.Message) -> hl7v2.Message:
        """The answer to ``message``. Raises RetryLater where there is none or it answers something else."""
        try:
            async with self._free, asyncio.timeout(self._timeout_s):
                while self._idle:
                    with suppress(ConnectionError, EOFError):  # it may have ended unnoticed; ours are safe to repeat
                        return await self._over(self._idle.pop(), message)
                connection = await asyncio.open_connection(
                    self._host, self._port, local_addr=self._source, ssl=self._tls
                )
                return await self._over(connection, message)
        except (OSError, EOFError, TimeoutError) as error:
            raise RetryLater(f"{self.address} does not answer ({type(error).__name__}: {error})") from error
        except hl7v2.MessageError as error:
            raise RetryLater(f"{self.address} does not answer with HL7 v2: {error}") from error

    async def _over(
        self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], message: hl7v2.Message
    ) -> hl7v2.Message:
        reader, writer = connection
        splitter = mllp.FrameSplitter(ANSWER_BYTES_MAX)
        try:
            writer.write(mllp.encode(message.encode()))
            await writer.drain()
            while True:
                chunk = await reader.read(64 * 1024)
                if not chunk:
                    raise EOFError("the connection ended before the answer")
                if frames := splitter.feed(chunk):
                    break
            frame = frames[0]
            answer = hl7v2.parse(frame.data if isinstance(frame, mllp.Frame) else frame.head)
            if answer.get("MSA-2") not in ("", message.control_id):
                raise EOFError("the answer to another message")
        except BaseException:
            writer.close()
            raise
        self._idle.append(connection)
        return answer

    async def close(self) -> None:
        """Ends its connections."""
        for _, writer in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()


class NotifiedReceiver:
    """Implements :class:`obieg.protocol.Receiver`: writes each message as its transaction is written, and sends it."""

    def __init__(
        self,
        notification: Notification,
        exchange: Callable[[Notification, Any], Awaitable[Any]],
        *,
        sender: tuple[str, str],
        receiver: tuple[str, str],
        address: str,
        authorities: Authorities,
    ) -> None:
        """``exchange`` sends what the notification has written and gives the answer; the rest is as in Sending."""
        self._notification = notification
        self._exchange = exchange
        self._sender = sender
        self._receiver = receiver
        self._address = address
        self._host = urlsplit(address if "//" in address else f"//{address}").hostname or ""
        self._authorities = authorities

    async def deliver(self, letter: Letter) -> None:
        """See the port."""
        if letter.transaction != self._notification.id:
            said = f"it was stored for {letter.transaction}, and the settings now send {self._notification.id} there"
            raise Problem.of("NotificationRefused", said)
        sending = Sending(
            control_id=letter.control_id,
            at=letter.created_at,
            sender=self._sender,
            receiver=self._receiver,
            authorities=self._authorities,
            address=self._address,
        )
        message = self._notification.write(letter.body, sending)
        try:
            answer = await self._exchange(self._notification, message)
        except Problem as problem:  # a SOAP fault: not taken as this transaction, which may be mended
            raise RetryLater(f"{self._address}: {problem}") from problem
        self._notification.read(answer)

    def audit(self, letter: Letter, outcome: Outcome, detail: str = "") -> AuditEvent:
        """See the port."""
        objects: tuple[AuditObject, ...] = ()
        with suppress(Problem):  # what was stored cannot be read, which is why it was not sent
            objects = self._notification.audit(letter.body, letter.control_id)
        return AuditEvent(
            transaction=letter.transaction,
            event=self._notification.event,
            outcome=outcome,
            detail=detail,
            request_id=letter.control_id,
            source_user="|".join(reversed(self._sender)),
            destination_user="|".join(reversed(self._receiver)),
            destination_address=self._host,
            objects=objects,
        )


class SubscriberHooks:
    """Implements :class:`obieg.protocol.HookClient`.

    Whoever may subscribe names the address, so nothing is sent into the node's own surroundings: what a name stands for
    is looked up once, every address it has must be public, and that very address is connected to. Redirections are
    answers like others.
    """

    def __init__(
        self,
        *,
        anywhere: bool,
        timeout_s: float = HOOK_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``anywhere`` (the laboratory): addresses are connected to whatever they are. ``tls``: whom to trust."""
        self._anywhere = anywhere
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(
            timeout=timeout_s,
            verify=tls or True,
            trust_env=False,
            follow_redirects=False,
            # A connection is kept by its network address, which several names may share: none is kept.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def post(self, address: str, headers: Sequence[tuple[str, str]], body: bytes) -> int:
        """See the port."""
        if fault := endpoint_fault(address, anywhere=self._anywhere):
            raise Problem.of("NotificationRefused", f"{address}: {fault}")
        try:
            async with asyncio.timeout(self._timeout_s):
                url = httpx.URL(address)
                host = url.host
                extensions = {}
                named = [*headers]
                if not self._anywhere:
                    named.append(("Host", url.netloc.decode("ascii")))
                    extensions["sni_hostname"] = host
                    url = url.copy_with(host=await self._public(host, url.port or 443))
                request = self._http.build_request("POST", url, headers=named, content=body, extensions=extensions)
                answer = await self._http.send(request, stream=True)
                await answer.aclose()  # what it says is of no interest
                return answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise RetryLater(f"{address} does not answer ({type(error).__name__}: {error})") from error

    async def _public(self, host: str, port: int) -> str:
        """One of the network addresses of a name."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(sockaddr[0]) for *_, sockaddr in found]
        faults = list(filter(None, map(address_fault, addresses)))
        if faults:
            raise RetryLater(f"nothing is sent to {host}: {faults[0]}")
        return addresses[0]

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()


def over_mllp(client: MllpClient) -> Callable[[Notification, Any], Awaitable[Any]]:
    """Exchanges over one MLLP address."""

    async def exchange(_notification: Notification, message: hl7v2.Message) -> hl7v2.Message:
        return await client.exchange(message)

    return exchange


def over_soap(asker: SoapAsker, address: str) -> Callable[[Notification, Any], Awaitable[Any]]:
    """Exchanges over one SOAP endpoint."""

    async def exchange(notification: Notification, question: SoapQuestion) -> SoapRequest:
        return await asker.ask(notification, question, address)

    return exchange
