"""A receiver of FHIR notifications (rest-hook) that does what a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from lxml import etree


class Got(NamedTuple):
    """One notification."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def bundle(self) -> Any:
        return json.loads(self.body)

    @property
    def status(self) -> dict[str, Any]:
        """Parameters by name: the value, or of an event its parts; the last of each."""
        found = {}
        for parameter in self.bundle["entry"][0]["resource"]["parameter"]:
            found[parameter["name"]] = value_of(parameter)
        return found

    @property
    def kind(self) -> str:
        return str(self.status["type"])


def value_of(parameter: dict[str, Any]) -> Any:
    if "part" in parameter:
        return {part["name"]: value_of(part) for part in parameter["part"]}
    [value] = [v for k, v in parameter.items() if k.startswith("value")]
    return value


class Hook:
    """What came, in order; ``answer`` says what each is answered with."""

    def __init__(self, port: int = 0, answer: Callable[[Got], int] = lambda _got: 200) -> None:
        self.got: list[Got] = []
        self.tried: list[Got] = []
        self.answer = answer
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got = Got(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                hook.tried.append(got)
                status = hook.answer(got)
                if 200 <= status < 300:
                    hook.got.append(got)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"http://127.0.0.1:{hook.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def of(self, path: str) -> list[Got]:
        return [got for got in self.got if got.path == f"/{path}"]

    def events(self, path: str) -> list[Got]:
        """Without the handshake."""
        return [got for got in self.of(path) if is_event(got)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def is_event(got: Got) -> bool:
    if got.headers["content-type"].startswith("application/fhir+xml"):
        namespace = {"f": "http://hl7.org/fhir"}
        kinds = etree.fromstring(got.body).xpath(
            "//f:parameter[f:name/@value='type']/f:valueCode/@value", namespaces=namespace
        )
        return kinds == ["event-notification"]
    return got.kind == "event-notification"


@contextmanager
def hook(port: int = 0) -> Iterator[Hook]:
    opened = Hook(port)
    try:
        yield opened
    finally:
        opened.close()
