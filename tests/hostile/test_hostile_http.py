"""Hostile HTTP and MIME over plain sockets, each with its valid twin; and callers who take their time."""

from __future__ import annotations

import os
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from field import LEAKS, LONGEST_REFUSAL, Field, connect, query
from http_cases import CASES, SLOW, SMUGGLED, TWINS, statuses

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


def drip(connection: socket.socket, data: bytes, pause_s: float, most_s: float = 20) -> None:
    """One byte after another."""
    ends = time.monotonic() + most_s
    for byte in data:
        connection.sendall(bytes((byte,)))
        if time.monotonic() > ends:
            return
        time.sleep(pause_s)


@pytest.fixture(scope="module")
def ended(hostile_field: Field) -> dict[str, tuple[str, float]]:
    """What came back to each slow sender and after how many seconds, all sent at once while a good caller is served."""

    def run(name: str) -> tuple[str, float]:
        make, pause_s, _ = SLOW[name]
        data = make(hostile_field)
        begun = time.monotonic()
        with connect(hostile_field.base, 30) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                if pause_s is None:
                    connection.sendall(data)
                else:
                    drip(connection, data, pause_s)
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
    assert re.match(SLOW[name][2], status), status
    assert seconds < 15
