"""Visitors of pages, each with a connection and pages of their own: the process that :mod:`bench.pages` starts.

It knows nothing of the rest, imports little and does nothing but send and receive, so that it takes little of the
machine it shares with the node; what it took is measured.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import random
import re
import select
import socket
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

_LONGEST_WAIT_S = 60
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_MARK_BYTES = 200  # of an answer that is not what it should be


class Visitor:
    """One session in a browser, which sends a request when the answer to the one before has come."""

    def __init__(self, given: dict[str, Any], address: tuple[str, int], begin: int) -> None:
        said = f"host: localhost:{address[1]}\r\naccept-language: pl\r\ncookie: {given['cookie']}\r\n\r\n"
        pages = [(kind, f"GET {path} HTTP/1.1\r\n{said}".encode()) for kind, path in given["pages"]]
        self._pages: Iterator[tuple[str, bytes]] = cycle(pages[begin % len(pages) :] + pages[: begin % len(pages)])
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.kind = ""
        self.sent_at = 0.0
        self._pieces: list[bytes] = []
        self._wanted = -1  # bytes that are still to come; -1: the head is not whole

    def ask(self) -> None:
        """Sends the next request."""
        self.kind, request = next(self._pages)
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def hear(self) -> int:
        """Takes what has come; the size of the answer once it is whole, 0 before."""
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise RuntimeError(f"the node closed a connection within {self.kind}")
        self._pieces.append(piece)
        if self._wanted < 0:
            so_far = b"".join(self._pieces)
            end = so_far.find(b"\r\n\r\n")
            if end < 0:
                return 0
            length = _LENGTH.search(so_far, 0, end + 2)
            if length is None or not so_far.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"{self.kind} was answered with {so_far[:_MARK_BYTES]!r}")
            self._wanted = end + 4 + int(length[1]) - len(so_far)
            self._pieces = [so_far]
        else:
            self._wanted -= len(piece)
        if self._wanted:
            return 0
        size = sum(map(len, self._pieces))
        self._pieces, self._wanted = [], -1
        return size


def run(plan: dict[str, Any], address: tuple[str, int], seconds: float) -> dict[str, Any]:
    """All visit for so long; milliseconds until each answer was whole, by kind of page, and what came.

    ``pause_s``: how long a visitor looks at a page on average; 0: not at all.
    """
    with contextlib.ExitStack() as stack:
        visitors = [Visitor(given, address, number) for number, given in enumerate(plan["sessions"])]
        by_number = {visitor.socket.fileno(): visitor for visitor in visitors}
        poll = stack.enter_context(select.epoll())
        for number, visitor in by_number.items():
            stack.enter_context(visitor.socket)
            poll.register(number, select.EPOLLIN)
        return _visit(plan, by_number, poll, seconds)


def _visit(plan: dict[str, Any], by_number: dict[int, Visitor], poll: select.epoll, seconds: float) -> dict[str, Any]:
    pause, draw = plan["pause_s"], random.Random(plan["seed"])
    waits: dict[str, list[float]] = {kind: [] for given in plan["sessions"] for kind, _ in given["pages"]}
    received, clock = 0, time.perf_counter
    began = clock()
    until = began + seconds
    due = [(began + draw.random() * pause, number) for number in by_number]
    heapq.heapify(due)
    waiting = 0
    while waiting or due:
        while due and due[0][0] <= clock():
            _, number = heapq.heappop(due)
            by_number[number].ask()
            waiting += 1
        events = poll.poll(max(0.0, due[0][0] - clock()) if due else _LONGEST_WAIT_S)
        if not events and not due:
            raise RuntimeError(f"{waiting} requests have no answer")
        for number, _ in events:
            visitor = by_number[number]
            size = visitor.hear()
            if not size:
                continue
            now = clock()
            waits[visitor.kind].append(1000 * (now - visitor.sent_at))
            received += size
            waiting -= 1
            after = now + pause * (0.5 + draw.random())
            if after < until:
                heapq.heappush(due, (after, number))
        if clock() >= until:
            due.clear()
    return {"took_s": clock() - began, "waits": waits, "received": received}


def main() -> None:
    """PLAN HOST PORT SECONDS; prints JSON."""
    path, host, port, seconds = sys.argv[1:]
    used = time.process_time()
    found = run(json.loads(Path(path).read_bytes()), (host, int(port)), float(seconds))
    print(json.dumps(found | {"cpu_s": time.process_time() - used}))


if __name__ == "__main__":
    main()
