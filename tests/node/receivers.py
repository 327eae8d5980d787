"""Receivers of notifications that nobody here wrote (hl7apy's MLLP server), and one that does what a test says."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message
from hl7apy.mllp import AbstractErrorHandler, AbstractHandler, MLLPRequestHandler, MLLPServer
from hl7apy.parser import parse_message
from lxml import etree

TYPES = ("ADT^A31^ADT_A05", "ADT^A43^ADT_A43")


class Inbox:
    """What a receiver got, valid by hl7apy's own tables, in order; it accepts everything."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.errors: list[Exception] = []
        self.port = 0

    def lists(self) -> list[list[str]]:
        """CX-1 of each repetition of PID-3, by message."""
        return [[cx.cx_1.value for cx in patient_of(message).pid.pid_3] for message in self.messages]


def patient_of(message: Message) -> Any:
    """Where PID and MRG stand: ADT_A43 has a group around them."""
    return message.adt_a43_patient if message.name == "ADT_A43" else message


@contextmanager
def hl7apy_server(tls: ssl.SSLContext | None = None) -> Iterator[Inbox]:
    inbox = Inbox()

    class Accept(AbstractHandler):
        def reply(self) -> str:
            # The single space that PID-5 must be (ITI TF-2:3.10.4.1.2.3) is nothing to hl7apy, which then misses it.
            assert "|| \r" in self.incoming_message
            message = parse_message(
                self.incoming_message.replace("|| \r", "||NOBODY\r"),
                validation_level=VALIDATION_LEVEL.STRICT,
                find_groups=True,
            )
            message.validate()
            inbox.messages.append(message)
            answer = Message("ACK", version="2.5")
            answer.msh.msh_9 = "ACK^A31^ACK"
            answer.msa.msa_1 = "AA"
            answer.msa.msa_2 = message.msh.msh_10.value
            return str(answer.to_mllp())

    class Wrong(AbstractErrorHandler):
        def reply(self) -> str:
            inbox.errors.append(self.exc)
            raise self.exc

    class Handler(MLLPRequestHandler):
        def setup(self) -> None:
            if tls is not None:
                self.request = tls.wrap_socket(self.request, server_side=True)
            super().setup()

    handlers = dict.fromkeys(TYPES, (Accept,)) | {"ERR": (Wrong,)}
    server = MLLPServer("127.0.0.1", 0, handlers, request_handler_class=Handler)
    server.daemon_threads = True
    inbox.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield inbox
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def acknowledgement(message: bytes, code: str, error: str = "") -> bytes:
    control_id = message.split(b"\r", 1)[0].split(b"|")[9]
    text = b"MSH|^~\\&|HIS|SZPITAL|||20260301||ACK^A31^ACK|1|P|2.5\rMSA|" + code.encode() + b"|" + control_id + b"\r"
    return b"\x0b" + text + error.encode() + b"\x1c\r"


class Difficult:
    """An MLLP receiver whose answer to each message is what ``answer`` gives; None ends the connection without one."""

    def __init__(self, port: int, answer: Callable[[bytes], bytes | None]) -> None:
        self.got: list[bytes] = []
        self.answer = answer
        self._connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def _connection(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            data = b""
            while piece := connection.recv(65536):
                data += piece
                while b"\x1c\r" in data:
                    frame, _, data = data.partition(b"\x1c\r")
                    message = frame.removeprefix(b"\x0b")
                    self.got.append(message)
                    answer = self.answer(message)
                    if answer is None:
                        return
                    connection.sendall(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        # Waking accept() and recv() needs more than closing the descriptor under them.
        for each in (self._listener, *self._connections):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join(5)


SOAP, WSA, V3 = "http://www.w3.org/2003/05/soap-envelope", "http://www.w3.org/2005/08/addressing", "urn:hl7-org:v3"


class SoapConsumer:
    """A PIXV3 consumer made of the standard library and lxml: it takes what the official schema allows, else a fault."""

    def __init__(self, schema: etree.XMLSchema) -> None:
        self.got: list[etree._Element] = []
        self.errors: list[str] = []
        self.answers: list[str] = []  # typeCodes to give, then AA; "fault" and "html" instead of an acknowledgement
        consumer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                status, kind, body = consumer._answer(self.headers["Content-Type"], data, schema)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/consumer"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def _answer(self, content_type: str, data: bytes, schema: etree.XMLSchema) -> tuple[int, str, bytes]:
        envelope = etree.fromstring(data)
        action = envelope.findtext(f"{{{SOAP}}}Header/{{{WSA}}}Action")
        message_id = envelope.findtext(f"{{{SOAP}}}Header/{{{WSA}}}MessageID")
        [body] = envelope.find(f"{{{SOAP}}}Body")
        if not content_type.startswith("application/soap+xml"):
            self.errors.append(content_type)
        if action != "urn:hl7-org:v3:PRPA_IN201302UV02" or body.tag != f"{{{V3}}}PRPA_IN201302UV02":
            self.errors.append(f"{action} {body.tag}")
        if not schema.validate(body):
            self.errors.append(str(schema.error_log))
        self.got.append(body)
        code = self.answers.pop(0) if self.answers else "AA"
        if code == "html":
            return 502, "text/html", b"<html>Bad Gateway</html>"
        if code == "fault":
            text = f"""<s:Fault xmlns:s="{SOAP}"><s:Code><s:Value>s:Receiver</s:Value></s:Code>
                <s:Reason><s:Text xml:lang="en">not now</s:Text></s:Reason></s:Fault>"""
            return 500, "application/soap+xml", _envelope(message_id, f"{WSA}/fault", text)
        target = body.find(f"{{{V3}}}id")
        text = f"""<MCCI_IN000002UV01 xmlns="{V3}" ITSVersion="XML_1.0"><id root="1.2.3" extension="1"/>
            <creationTime value="20260301120000"/>
            <interactionId root="2.16.840.1.113883.1.6" extension="MCCI_IN000002UV01"/>
            <processingCode code="P"/><processingModeCode code="T"/><acceptAckCode code="NE"/>
            <receiver typeCode="RCV"><device classCode="DEV" determinerCode="INSTANCE"><id root="1.2"/></device></receiver>
            <sender typeCode="SND"><device classCode="DEV" determinerCode="INSTANCE"><id root="1.3"/></device></sender>
            <acknowledgement><typeCode code="{code}"/><targetMessage><id root="{target.get("root")}"
            extension="{target.get("extension")}"/></targetMessage></acknowledgement></MCCI_IN000002UV01>"""
        return (
            200,
            "application/soap+xml; charset=UTF-8",
            _envelope(message_id, "urn:hl7-org:v3:MCCI_IN000002UV01", text),
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _envelope(relates_to: str | None, action: str, body: str) -> bytes:
    return f"""<s:Envelope xmlns:s="{SOAP}" xmlns:a="{WSA}"><s:Header><a:Action>{action}</a:Action>
        <a:RelatesTo>{relates_to}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>""".encode()
