"""Sends prepared messages over a few connections, one at a time on each: the process that :mod:`bench.sockets` starts.

It knows nothing of the rest, imports little and does nothing but send and receive, so that it takes little of the
machine it shares with the node; what it took is measured.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_LENGTH_DIGITS = 8
_LONGEST_WAIT_S = 20
_HAND_S = 0.5
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def _messages(path: Path) -> list[bytes]:
    data = path.read_bytes()
    found, at = [], 0
    while at < len(data):
        begin = at + _LENGTH_DIGITS
        at = begin + int(data[at:begin])
        found.append(data[begin:at])
    return found


def _whole_mllp(answer: bytes) -> bool:
    return answer.endswith(b"\x1c\r")


def _whole_http(answer: bytes) -> bool:
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    length = _CONTENT_LENGTH.search(answer, 0, head + 2)
    if length is None:
        raise RuntimeError(f"an answer without its length: {answer[:500]!r}")
    return len(answer) >= head + 4 + int(length[1])


_WHOLE: dict[str, Callable[[bytes], bool]] = {"mllp": _whole_mllp, "http": _whole_http}


class Exchange:
    """Everything that was sent and what came back."""

    def __init__(
        self, messages: list[bytes], address: tuple[str, int], whole: Callable[[bytes], bool], expected: Sequence[bytes]
    ) -> None:
        self._left = iter(messages)
        self._address = address
        self._whole = whole
        self._expected = expected
        self.waits: list[float] = []
        self.answered_bytes = 0
        self.took_s = 0.0

    def run(self, connections: int, seconds: float) -> None:
        """Sends for so long over new connections."""
        clock, left = time.perf_counter, self._left
        poll = select.epoll()
        sockets: dict[int, socket.socket] = {}
        received: dict[int, bytes] = {}
        sent_at: dict[int, float] = {}
        for _ in range(connections):
            connection = socket.create_connection(self._address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets[connection.fileno()] = connection
        began = clock()
        until = began + seconds
        waiting = 0
        for number, connection in sockets.items():
            if message := next(left, None):
                poll.register(number, select.EPOLLIN)
                received[number] = b""
                sent_at[number] = clock()
                connection.sendall(message)
                waiting += 1
        while waiting:
            events = poll.poll(_LONGEST_WAIT_S)
            if not events:
                raise RuntimeError(f"{waiting} messages have no answer")
            for number, _ in events:
                connection = sockets[number]
                chunk = connection.recv(1 << 18)
                if not chunk:
                    raise RuntimeError(f"the node closed a connection after {received[number]!r}")
                answer = received[number] + chunk
                if not self._whole(answer):
                    received[number] = answer
                    continue
                now = clock()
                self._take(answer, now - sent_at[number])
                received[number] = b""
                message = next(left, None) if now < until else None
                if message is None:
                    waiting -= 1
                    poll.unregister(number)
                    continue
                sent_at[number] = clock()
                connection.sendall(message)
        self.took_s += clock() - began
        poll.close()
        for connection in sockets.values():
            connection.close()

    def _take(self, answer: bytes, waited: float) -> None:
        self.waits.append(waited)
        self.answered_bytes += len(answer)
        for text in self._expected:
            if text not in answer:
                raise RuntimeError(f"{text!r} is not in {answer[:2000].decode(errors='replace')}")

    def measured(self) -> dict[str, float]:
        waits, count = sorted(self.waits), len(self.waits)
        return {
            "took_s": self.took_s,
            "rate": count / self.took_s,
            "requests": count,
            "p50_ms": waits[count // 2] * 1000,
            "p95_ms": waits[count * 95 // 100] * 1000,
            "p99_ms": waits[count * 99 // 100] * 1000,
            "answer_bytes": self.answered_bytes / count,
        }


def main() -> None:
    """FILE HOST PORT PROTOCOL CONNECTIONS SECONDS EXPECTED…; prints JSON."""
    path, host, port, protocol, connections, seconds, *expected = sys.argv[1:]
    exchange = Exchange(
        _messages(Path(path)), (host, int(port)), _WHOLE[protocol], [text.encode() for text in expected]
    )
    used = time.process_time()
    # The kernel deals connections out to the workers by chance; new ones now and then keep a bad hand from lasting.
    hands = max(1, round(float(seconds) / _HAND_S))
    for _ in range(hands):
        exchange.run(int(connections), float(seconds) / hands)
    print(json.dumps(exchange.measured() | {"cpu_s": time.process_time() - used}))


if __name__ == "__main__":
    main()
