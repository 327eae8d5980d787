"""The node under test: ``obieg lab`` in a process of its own, as anybody would start it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.messages import Identity
from obieg.ops import settings as node_settings
from obieg.ops.postgres import Server
from obieg.ops.settings import Settings
from obieg.ops.supervisor import serve

WORKERS = 2
READY_FILE = "ready.json"
_START_TIME_S = 90
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Node:
    """A running node."""

    settings: Settings  # with the DSN in force
    url: str
    mllp: tuple[str, int]  # host and port
    identity: Identity
    supervisor: int  # process id
    folder: Path

    @property
    def dsn(self) -> str:
        return self.settings.database.dsn

    @property
    def http(self) -> tuple[str, int]:
        """Host and port."""
        return _address(self.url.partition("://")[2])

    @property
    def ready_file(self) -> Path:
        return self.folder / READY_FILE

    def workers(self) -> list[int]:
        """Process ids."""
        return [p for p in _children(self.supervisor) if b"obieg.ops.worker" in _read(f"/proc/{p}/cmdline")]

    def resident_bytes(self) -> int:
        """Memory of the larger worker."""
        return max(self.resident_by_worker().values())

    def resident_by_worker(self) -> dict[int, int]:
        """Bytes that each worker holds, by process id."""
        return {p: int(_field(p, "VmRSS")) * 1024 for p in self.workers()}

    def forget_peaks(self) -> None:
        """From now on :meth:`peak_by_worker` counts."""
        for worker in self.workers():
            Path(f"/proc/{worker}/clear_refs").write_text("5")  # proc(5): the peak is what is resident now

    def peak_by_worker(self) -> dict[int, int]:
        """The most bytes that each worker has held, by process id."""
        return {p: int(_field(p, "VmHWM")) * 1024 for p in self.workers()}

    def cpu_s(self) -> dict[str, float]:
        """Processor time used so far by the workers and by PostgreSQL."""
        postmaster = Server(self.settings.postgres_dir).pid
        assert postmaster is not None
        used = [_ticks(postmaster, reaped=True), *(_ticks(p) for p in _children(postmaster))]
        return {"workers": sum(map(_ticks, self.workers())) / _TICK, "postgres": sum(used) / _TICK}

    def loop_lag_s(self) -> float:
        """The longest that an event loop came late within the last ten seconds."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=10) as answer:
            found = re.search(r"^obieg_loop_lag_seconds\S* (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0


@contextlib.contextmanager
def start(
    folder: Path, *, module: str = "", arguments: Sequence[str] = (), settings_file: Path | None = None
) -> Iterator[Node]:
    """Runs ``obieg lab`` on ``folder``; ``module``: what it has become, as that module of the bench builds it.

    ``settings_file``: of another node, which that module builds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready, log = folder / READY_FILE, folder / "node.log"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "obieg", "lab", "--data", str(folder / "data"), "--ready-file", str(ready)]
    command += ["--workers", str(WORKERS)]
    if module:
        described = settings_file or folder / "data" / "settings.toml"
        given = ["--settings", str(described), "--ready-file", str(ready)]
        command = [sys.executable, "-m", module, *arguments, *given]
    with log.open("ab") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + _START_TIME_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the node did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        endpoints = json.loads(ready.read_text())
        settings = node_settings.load(Path(endpoints["settings"]))
        database = settings.database.model_copy(update={"dsn": Server(settings.postgres_dir).dsn})
        yield Node(
            settings.model_copy(update={"database": database}),
            endpoints["base_url"],
            _address(endpoints["mllp"]),
            Identity(endpoints["assigning_authority"], endpoints["repository_uid"]),
            process.pid,
            folder,
        )
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def serve_built(builder: str) -> None:
    """Runs a node that the bench builds: [WORD…] --settings FILE --ready-file FILE; the words fill in ``builder``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    given = parser.parse_args()
    serve(
        node_settings.load(given.settings),
        settings_file=given.settings,
        ready_file=given.ready_file,
        builder=builder.format(*given.words),
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    return [int(p) for p in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _field(pid: int, name: str) -> str:
    found = re.search(rf"^{name}:\s*(\d+)", _read(f"/proc/{pid}/status").decode(), re.MULTILINE)
    return found[1] if found else "0"


def _ticks(pid: int, *, reaped: bool = False) -> int:
    """User and system time; with ``reaped`` that of children that have ended too."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return sum(map(int, fields[11 : 15 if reaped else 13])) if fields else 0
