"""The load where every message differs: prepared messages, sent by a process of its own (``bench/exchange.py``)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.load import Measured

_SENDER = Path(__file__).with_name("exchange.py")


def write(path: Path, messages: Iterable[bytes]) -> None:
    """Writes the messages for :func:`run`, each after its length (8 digits)."""
    with path.open("wb") as file:
        for message in messages:
            file.write(b"%08d%b" % (len(message), message))


def framed(message: bytes) -> bytes:
    """In the frame of MLLP."""
    return b"\x0b%b\x1c\r" % message


def run(
    path: Path, address: tuple[str, int], protocol: str, *, connections: int, seconds: float, expected: Sequence[str]
) -> Measured:
    """Sends messages until the time is up or there are no more. ``protocol`` is mllp or http.

    Raises RuntimeError when an answer does not hold every text that is ``expected``.
    """
    command = [
        sys.executable, "-I", str(_SENDER), str(path), address[0], str(address[1]), protocol, str(connections),
        str(seconds), *expected,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the node did not answer as it should: {done.stderr[-3000:]}")
    return Measured(**json.loads(done.stdout))
