"""Hears what every node says that a test starts, and finds in it what no node may say.

Whatever the suite starts goes through :class:`subprocess.Popen`, here and in ``asyncio``. So :func:`listen` stands in its
place for a whole run: of each Python process it keeps the file open that the process writes to, which is read when the
run ends, also where a test has deleted the file by then.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

# What tests plant (tests/hostile/test_hostile_output.py, the PESEL of the feeds), and what looks like a secret.
_SECRETS = re.compile(
    rb"c2VjcmV0LW9mLWEtYmVhcmVyLXRva2Vu|S3cretPassw0rdOfSomebody|PRIVATE-KEY-OF-THE-NODE|44051401458"
    rb"|BEGIN [A-Z ]*PRIVATE KEY|(?i:\bbearer) [A-Za-z0-9._~+/=-]{16,}|\beyJ[\w-]+\.eyJ[\w-]+\.|password=(?!\[masked)\w+"
)


class Heard(NamedTuple):
    """Where one process, or several after one another, said something."""

    path: Path
    file: BinaryIO

    def read(self) -> bytes:
        """All of it so far."""
        self.file.seek(0)
        return self.file.read()

    @property
    def size(self) -> int:
        """Of all of it so far, in bytes."""
        return os.fstat(self.file.fileno()).st_size


LOGS: list[Heard] = []


def hear(path: Path) -> None:
    """Remembers a log, once."""
    file = path.open("rb")
    if any(os.path.sameopenfile(file.fileno(), known.file.fileno()) for known in LOGS):
        file.close()
    else:
        LOGS.append(Heard(path.resolve(), file))


def secrets_said() -> list[str]:
    """The logs that hold a secret, each with the beginning of one; not all of it, for this is printed."""
    found = ((log, _SECRETS.search(log.read())) for log in LOGS)
    return [f"{log.path}: {match[0][:6].decode('ascii', 'replace')}…" for log, match in found if match]


def close() -> None:
    """When the run ends."""
    while LOGS:
        LOGS.pop().file.close()


class _Listening(subprocess.Popen):  # type: ignore[type-arg]
    def __init__(self, args: Any, *more: Any, **named: Any) -> None:
        super().__init__(args, *more, **named)
        if isinstance(args, (list, tuple)) and args[0] == sys.executable:
            for output in (named.get("stdout"), named.get("stderr")):
                number = output.fileno() if hasattr(output, "fileno") else output
                if isinstance(number, int) and number >= 0 and stat.S_ISREG(os.fstat(number).st_mode):
                    hear(Path(f"/proc/self/fd/{number}"))


def listen() -> None:
    """From now on."""
    subprocess.Popen = _Listening  # type: ignore[misc]
