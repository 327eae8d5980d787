"""The visitors of the row ``pages``, on pages that a plain server gives."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from bench import pages, visitors

COOKIES = ("obieg=1", "obieg=2", "obieg=3")
SIZES = {"/home": 10, "/long": 300_000}


class Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: ClassVar[Counter[tuple[str, str]]] = Counter()

    def do_GET(self) -> None:
        self.asked[self.headers["cookie"], self.path] += 1
        body = b"x" * SIZES.get(self.path, 0)
        self.send_response(200 if self.path in SIZES else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def served() -> Iterator[tuple[str, int]]:
    Pages.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield "127.0.0.1", server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("pause", [0, 0.05])
def test_all_go_round_their_pages(served: tuple[str, int], pause: float) -> None:
    sessions = [{"cookie": cookie, "pages": [("home", "/home"), ("long", "/long")]} for cookie in COOKIES]
    found = visitors.run({"sessions": sessions, "pause_s": pause, "seed": 1}, served, 0.5)
    count = {kind: len(waits) for kind, waits in found["waits"].items()}
    assert sum(count.values()) == Pages.asked.total()
    assert {cookie for cookie, _ in Pages.asked} == set(COOKIES)
    assert abs(count["home"] - count["long"]) <= len(COOKIES)
    assert found["received"] > 10 * count["home"] + 300_000 * count["long"]
    if pause:
        assert sum(count.values()) <= len(COOKIES) * (1 + 0.5 / (0.5 * pause))


def test_a_page_that_is_refused_ends_the_run(served: tuple[str, int]) -> None:
    sessions = [{"cookie": COOKIES[0], "pages": [("gone", "/gone")]}]
    with pytest.raises(RuntimeError, match=r"gone was answered with .*404"):
        visitors.run({"sessions": sessions, "pause_s": 0, "seed": 1}, served, 0.5)


def test_what_is_asked_is_what_was_promised() -> None:
    assert (pages.PATIENTS + pages.DOCTORS, pages.LEAST, pages.P95_AT_MOST_MS) == (200, 0.004, 1_000)
