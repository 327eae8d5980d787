"""The load: wrk with ``load.lua``."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.messages import ENTRY_MARK, NUMBER_MARK, PATIENT_MARK, Message

CONNECTIONS = 16
_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Load:
    """What is sent, and what a right answer holds."""

    message: Message
    patients: tuple[int, int]
    expected: str  # besides Success
    times: int = 1
    numbers: tuple[int, int] | None = None  # None: a new one for each request
    entry_uuids: tuple[str, ...] = ()  # one is drawn for each request
    # Texts of one length, the first of which stands in the message: each request takes the next one.
    pieces: Sequence[bytes] = ()


@dataclass(frozen=True)
class Measured:
    """One run of the load."""

    took_s: float
    rate: float  # answers per second
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    answer_bytes: float
    cpu_s: float


def run(
    url: str, load: Load, folder: Path, seconds: float, *, seed: int, check: bool, connections: int = CONNECTIONS
) -> Measured:
    """Runs wrk. Raises RuntimeError when an answer is not what it should be; all are looked at with ``check``."""
    path = folder / "request.http"
    text = load.message.http()
    assert b"\1" not in text
    for mark, kind in ((PATIENT_MARK, b"\1P"), (NUMBER_MARK, b"\1N"), (ENTRY_MARK, b"\1E")):
        text = text.replace(mark.encode(), kind)
    if load.pieces:
        text = text.replace(load.pieces[0], b"\1A")
    (folder / "pieces").write_bytes(b"".join(b"%b\n" % piece for piece in load.pieces))
    path.write_bytes(text)
    (folder / "entries").write_text("".join(f"{uuid}\n" for uuid in load.entry_uuids))
    if load.numbers is None:
        # Six digits that no other run has, twelve that count.
        numbers = [f"{300_000 + seed:06}", "0", "0"]
    else:
        first, last = load.numbers
        numbers = [f"{first:018}"[:6], str(first % 10**12), str(last % 10**12)]
    arguments = [
        str(path),
        *map(str, load.patients),
        *numbers,
        str(seed),
        load.expected if check else "",
        str(load.times),
        load.message.success,
        str(folder / "entries"),
        str(folder / "pieces"),
    ]
    command = [
        "wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{max(1, round(seconds))}s",
        "--timeout", "20s", "--script", str(_SCRIPT), url, "--", *arguments,
    ]  # fmt: skip
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = os.times()
    found = re.search(r"^obieg (\{.*\})$", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        raise RuntimeError(f"wrk failed: {(done.stdout + done.stderr)[-2000:]}")
    said = json.loads(found[1])
    if said["errors"] or said["bad"] or not said["requests"]:
        raise RuntimeError(f"the node did not answer as it should: {done.stdout[-3000:]}")
    return Measured(
        took_s=said["duration_us"] / 1e6,
        rate=said["requests"] / said["duration_us"] * 1e6,
        requests=said["requests"],
        p50_ms=said["p50_us"] / 1000,
        p95_ms=said["p95_us"] / 1000,
        p99_ms=said["p99_us"] / 1000,
        answer_bytes=said["bytes"] / said["requests"],
        cpu_s=after.children_user + after.children_system - before.children_user - before.children_system,
    )
