"""Hostile HTTP and MIME over plain sockets, each with its valid twin; and callers who take their time."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from field import LEAKS, LONGEST_REFUSAL, Field, connect, query
from http_cases import CASES, SMUGGLED, TWINS, TYPE, body, head, statuses

pytestmark = pytest.mark.node


def test_there_are_enough() -> None:
    assert len(CASES) + len(SLOW) >= 60


@pytest.mark.parametrize("name", TWINS)
def test_twin(hostile_field: Field, name: str) -> None:
    make, expect = TWINS[name]
    assert re.match(expect, statuses(hostile_field.raw(make(hostile_field))))


@pytest.mark.parametrize("name", CASES)
def test_hostile(hostile_field: Field, name: str) -> None:
    make, expect = CASES[name]
    data = make(hostile_field)
    before, begun = hostile_field.kept(), time.monotonic()
    answer = hostile_field.raw(data)
    took = time.monotonic() - begun
    if (found := os.environ.get("OBIEG_HOSTILE_TABLE")) is not None:
        with Path(found).open("a") as out:
            out.write(f"http\t{name}\t{statuses(answer)}\t{took:.2f}\n")
    assert re.match(expect, statuses(answer)), answer[:1500]
    assert not LEAKS.search(answer), answer
    assert took < 9
    if statuses(answer) != "200":
        assert hostile_field.kept() == before
        assert len(answer) < LONGEST_REFUSAL
    assert SMUGGLED not in data or b"\r\n\r\nok\n" not in answer, "the smuggled request was answered"


# slow senders ----------------------------------------------------------------------------------------------------


def drip(data: bytes, pause_s: float, most_s: float = 20) -> Callable[[socket.socket], None]:
    """One byte after another."""

    def send(connection: socket.socket) -> None:
        ends = time.monotonic() + most_s
        for byte in data:
            connection.sendall(bytes((byte,)))
            if time.monotonic() > ends:
                return
            time.sleep(pause_s)

    return send


def hold(data: bytes) -> Callable[[socket.socket], None]:
    """All at once, and then nothing."""
    return lambda connection: connection.sendall(data)


# What is sent, and what comes back before the node ends the connection.
SLOW: dict[str, tuple[Callable[[Field], Callable[[socket.socket], None]], str]] = {
    "nothing at all": (lambda f: hold(b""), "closed|408"),
    "a letter": (lambda f: hold(b"P"), "closed|408"),
    "half a head": (lambda f: hold(head(TYPE)[:-3]), "408|closed"),
    "a head, a byte a second": (lambda f: drip(head(TYPE, "X: " + "y" * 500), 0.2), "408|closed"),
    "a head, a line a second": (lambda f: drip(b"POST /services/registry HTTP/1.1\r\n" + b"X: y\r\n" * 100, 0.1), "408|closed"),
    "no body": (lambda f: hold(head(TYPE, "Content-Length: 1000")), "closed|408"),
    "half a body": (lambda f: hold(head(TYPE, "Content-Length: 1000") + b"x" * 500), "closed|408"),
    "a body, a byte at a time": (lambda f: drip(head(TYPE, "Content-Length: 100000") + b" " * 200, 0.1), "closed|408"),
    "a chunk that is never whole": (lambda f: hold(head(TYPE, "Transfer-Encoding: chunked") + b"ff\r\nx"), "closed|408"),
    "chunks, one at a time": (lambda f: drip(head(TYPE, "Transfer-Encoding: chunked") + b"1\r\n \r\n" * 100, 0.05), "closed|408"),
    "a package without end": (lambda f: drip(head('Content-Type: multipart/related; type="application/xop+xml"; boundary=b', "Content-Length: 99999", request="POST /services/repository HTTP/1.1") + b"--b\r\nContent-ID: <a>\r\n\r\n" + b"x" * 200, 0.1), "closed|408|400"),
    "a connection that is kept": (lambda f: hold(head(TYPE, f"Content-Length: {len(body(f))}", keep=True) + body(f)), "200$"),
}  # fmt: skip


@pytest.fixture(scope="module")
def ended(hostile_field: Field) -> dict[str, tuple[str, float]]:
    """What came back to each slow sender and after how many seconds, all sent at once while a good caller is served."""

    def run(name: str) -> tuple[str, float]:
        send = SLOW[name][0](hostile_field)
        begun = time.monotonic()
        with connect(hostile_field.base, 30) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                send(connection)
            found = b""
            with suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    found += piece
        return statuses(found), time.monotonic() - begun

    with ThreadPoolExecutor(len(SLOW)) as pool:
        running = {name: pool.submit(run, name) for name in SLOW}
        for _ in range(20):
            begun = time.monotonic()
            assert hostile_field.send(query(hostile_field)).status == 200
            assert time.monotonic() - begun < 2
            time.sleep(0.1)
        return {name: one.result() for name, one in running.items()}


@pytest.mark.parametrize("name", SLOW)
def test_slow(ended: dict[str, tuple[str, float]], name: str) -> None:
    status, seconds = ended[name]
    assert re.match(SLOW[name][1], status), status
    assert seconds < 15
