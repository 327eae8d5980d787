"""A client over a few connections, hostile or well-behaved: the process that :mod:`bench.hostile` starts.

It knows nothing of the rest, imports little and makes nothing: what it sends lies in a file, or is one of two requests
whose numbers it fills in. Both clients are this program, so that what it takes of the machine it shares with the node
is the same for the same bytes; what it took is measured.

A hostile client goes round its cases, each on a connection of its own, sent as fast as the node takes it or byte by
byte; the next begins when the node has ended the connection, or the client has waited as long as it will. A
well-behaved one sends at given times messages of given sizes, each when the one before is answered, and looks at the
answers; it keeps its connections for half a second, as ``bench/exchange.py`` does and for the same reason.
"""

from __future__ import annotations

import itertools
import json
import mmap
import random
import re
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HAND_S = 0.5
_TCP_INFO_SIZE, _BYTES_ACKED = 232, 120  # struct tcp_info of linux/tcp.h, tcpi_bytes_acked
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_RIGHT = re.compile(rb"HTTP/1\.1 200 ")

Piece = bytes | memoryview


class Turn:
    """One message on one connection."""

    def __init__(
        self, number: int, pieces: list[Piece], pause_s: float | None, most_s: float | None, *, ends: bool
    ) -> None:
        self.number = number
        self.pieces = [memoryview(p) for p in pieces if len(p)]
        self.pause_s = pause_s
        self.most_s = float("inf") if most_s is None else most_s  # then the client gives up
        self.ends = ends  # the connection ends with it, whatever the answer is
        self.sent = 0
        self.began = 0.0
        self.byte_at = 0.0  # when the next byte is sent, where they are sent one by one


class Cycle:
    """The cases of a hostile client, again and again.

    Each is a number, its place in the file, its bytes, the pause after each of them, and how long it lasts at most.
    """

    def __init__(self, data: memoryview, given: dict[str, Any]) -> None:
        self._data = data
        self._cases: list[tuple[int, int, int, float | None, float | None]] = given["cases"]
        self.at: int = given["first"]

    def due(self, now: float) -> float:
        """When the next message may begin."""
        return now

    def take(self) -> Turn:
        number, begin, length, pause_s, most_s = self._cases[self.at]
        self.at = (self.at + 1) % len(self._cases)
        return Turn(number, [self._data[begin : begin + length]], pause_s, most_s, ends=True)


class Replay:
    """What a well-behaved client sends: (seconds since the beginning, kind, bytes)."""

    def __init__(self, given: dict[str, Any], began: float) -> None:
        self._left: Iterator[list[Any]] = iter(given["messages"])
        self._next = next(self._left, None)
        self._began = began
        self._given = given
        self._numbers = itertools.count(given["number"])
        fillers = {kind: given[kind]["filler"].encode() for kind in ("question", "document")}
        self._fillers = {k: memoryview(text * (1 + given["longest"] // len(text))) for k, text in fillers.items()}
        self._random = random.Random(given["number"])

    def due(self, now: float) -> float:
        del now
        return float("inf") if self._next is None else self._began + float(self._next[0])

    def take(self) -> Turn:
        assert self._next is not None
        _, kind, size = self._next
        self._next = next(self._left, None)
        message = self._given[kind]
        number = f"{next(self._numbers):018}"
        patient = str(self._random.randint(*message["patients"]))
        before, after = (
            text.replace(self._given["patient_mark"], patient).replace(self._given["number_mark"], number).encode()
            for text in (message["before"], message["after"])
        )
        around = len(before) + len(after)
        rest = size - len(message["head"]) - len(f"{size}\r\n\r\n") - around
        head = f"{message['head']}{around + rest}\r\n\r\n".encode()
        return Turn(0, [head + before, self._fillers[kind][:rest], after], None, None, ends=False)


class Connection:
    """One of the connections; it is made anew when it must be."""

    def __init__(self, address: tuple[str, int], lane: Cycle | Replay, poll: select.epoll) -> None:
        self._address = address
        self._poll = poll
        self._socket: socket.socket | None = None
        self._made = 0.0
        self._answer = bytearray()
        self._events = 0
        self.lane = lane
        self.turn: Turn | None = None

    @property
    def number(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def begin(self, now: float) -> None:
        turn = self.lane.take()
        if self._socket is not None and (turn.ends or now - self._made > _HAND_S):
            self.close()
        if self._socket is None:
            self._socket = socket.create_connection(self._address)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setblocking(False)
            self._made, self._events = now, select.EPOLLIN
            self._poll.register(self._socket.fileno(), self._events)
        turn.began = turn.byte_at = now
        self.turn = turn
        self._answer.clear()
        self.send(now)

    def send(self, now: float) -> None:
        """As much as the node takes; of what is sent byte by byte, the byte that is due."""
        assert self._socket is not None
        turn = self.turn
        assert turn is not None
        blocked = False
        try:
            while turn.pieces and not blocked:
                piece = turn.pieces[0]
                if turn.pause_s is not None:
                    if now < turn.byte_at:
                        break
                    turn.byte_at = now + turn.pause_s
                    piece = piece[:1]
                count = self._socket.send(piece)
                turn.sent += count
                turn.pieces[0] = turn.pieces[0][count:]
                if not len(turn.pieces[0]):
                    turn.pieces.pop(0)
        except BlockingIOError:
            blocked = True
        except (BrokenPipeError, ConnectionResetError):
            turn.pieces.clear()  # the node has refused it before all of it had come; its answer may still be read
        events = select.EPOLLIN | (select.EPOLLOUT if blocked else 0)
        if events != self._events:
            self._events = events
            self._poll.modify(self._socket.fileno(), events)

    def wakes(self) -> float:
        """When it has something to do, unless the socket says so before."""
        turn = self.turn
        if turn is None:
            return float("inf")
        gives_up = turn.began + turn.most_s
        return min(gives_up, turn.byte_at) if turn.pause_s is not None and turn.pieces else gives_up

    def gives_up(self, now: float) -> bool:
        return self.turn is not None and now >= self.turn.began + self.turn.most_s

    def receive(self) -> bool:
        """Whether the turn has ended with what has come."""
        assert self._socket is not None
        turn = self.turn
        try:
            piece = self._socket.recv(1 << 18)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            piece = b""
        if turn is None:  # the node ended a connection between two messages
            self.close()
            return False
        if turn.ends:
            return not piece
        if not piece:
            raise RuntimeError(f"the node closed a connection after {bytes(self._answer)!r}")
        self._answer += piece
        head = self._answer.find(b"\r\n\r\n")
        if head < 0:
            return False
        length = _CONTENT_LENGTH.search(self._answer, 0, head + 2)
        if length is None:
            raise RuntimeError(f"an answer without its length: {bytes(self._answer[:500])!r}")
        if len(self._answer) < head + 4 + int(length[1]):
            return False
        if not _RIGHT.match(self._answer) or b"ResponseStatusType:Success" not in self._answer:
            raise RuntimeError(f"a well-behaved message was refused: {bytes(self._answer[:2000])!r}")
        return True

    def finish(self) -> int:
        """Ends the turn; how many bytes the node's side of the connection has taken of it."""
        assert self._socket is not None
        turn = self.turn
        assert turn is not None
        self.turn = None
        if not turn.ends:
            return turn.sent
        told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        taken = int.from_bytes(told[_BYTES_ACKED : _BYTES_ACKED + 8], sys.byteorder)
        self.close()
        return min(turn.sent, taken)

    def close(self) -> None:
        if self._socket is not None:
            self._poll.unregister(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _mapped(path: str) -> memoryview:
    with Path(path).open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def run(plan: dict[str, Any], address: tuple[str, int], seconds: float) -> dict[str, Any]:
    """Everything that was sent: for each message when it began, its bytes, its number and how long it took."""
    clock = time.monotonic
    poll = select.epoll()
    began = clock()
    lanes: list[Cycle | Replay] = []
    connections: list[Connection] = []
    for given in plan["lanes"]:
        lane = Replay(given, began) if "messages" in given else Cycle(_mapped(plan["data"]), given)
        lanes.append(lane)
        connections += [Connection(address, lane, poll) for _ in range(given["connections"])]
    log: list[tuple[float, int, int, float]] = []

    def ended(connection: Connection) -> None:
        turn = connection.turn
        assert turn is not None
        log.append((turn.began - began, connection.finish(), turn.number, clock() - turn.began))

    until = began + seconds
    try:
        while (now := clock()) < until:
            for connection in connections:
                if connection.gives_up(now):
                    ended(connection)
                if connection.turn is None and connection.lane.due(now) <= now:
                    connection.begin(now)
                elif connection.wakes() <= now:
                    connection.send(now)
            wake = min(
                until,
                *(c.wakes() for c in connections),
                *(c.lane.due(now) for c in connections if c.turn is None),
            )
            by_number = {c.number: c for c in connections}
            for number, events in poll.poll(max(0.0, wake - clock())):
                connection = by_number[number]
                if events & select.EPOLLOUT and connection.turn is not None:
                    connection.send(clock())
                if events & ~select.EPOLLOUT and connection.receive():
                    ended(connection)
        for connection in connections:
            if connection.turn is not None:
                ended(connection)
    finally:
        for connection in connections:
            connection.close()
        poll.close()
    return {"log": log, "at": [getattr(lane, "at", 0) for lane in lanes], "took_s": clock() - began}


def main() -> None:
    """PLAN HOST PORT SECONDS; prints JSON."""
    path, host, port, seconds = sys.argv[1:]
    plan = json.loads(Path(path).read_bytes())
    used = time.process_time()
    found = run(plan, (host, int(port)), float(seconds))
    print(json.dumps(found | {"cpu_s": time.process_time() - used}))


if __name__ == "__main__":
    main()
