"""``obieg …`` as an operator runs it, without waiting each time for Python to import it.

A server (:mod:`multiprocessing`) imports it once and forks for every command: a process of its own with its own streams,
environment, folder and status, but not a second or two of importing. Tests of starting itself start ``python -m obieg``.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["commanding", "obieg.ops.cli", "obieg.ops.wiring", "obieg.ops.importing"])


def _become(arguments: list[str], environment: dict[str, str], folder: str, streams: tuple[str, str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in enumerate(streams):
        opened = os.open(path, os.O_RDWR if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["obieg", *arguments]
    from obieg.ops.cli import main

    main()


def obieg(
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    answer: str = "",
    timeout_s: float = 120,
) -> CompletedProcess[str]:
    """Runs it to its end. ``answer``: its standard input. Raises TimeoutExpired."""
    words = [os.fspath(a) if isinstance(a, os.PathLike) else str(a) for a in arguments]
    with tempfile.TemporaryDirectory() as streams:
        paths = [Path(streams, name) for name in ("in", "out", "err")]
        for path, text in zip(paths, (answer, "", ""), strict=True):
            path.write_text(text, "utf-8")
        process = _SERVER.Process(
            target=_become,
            args=(words, dict(environment or os.environ), str(folder or Path.cwd()), tuple(map(str, paths))),
        )
        process.start()
        process.join(timeout_s)
        if (status := process.exitcode) is None:
            process.kill()
            process.join()
            raise TimeoutExpired(["obieg", *words], timeout_s, paths[1].read_text("utf-8"), paths[2].read_text("utf-8"))
        process.close()
        return CompletedProcess(["obieg", *words], status, paths[1].read_text("utf-8"), paths[2].read_text("utf-8"))
