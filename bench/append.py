"""The reference of ITI-41: one process that appends 16 documents of 100 KB to a file, then makes them durable."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

DOCUMENTS_PER_SYNC = 16


def run(folder: Path, document: bytes, seconds: float) -> float:
    """Documents per second."""
    path = folder / "appended"
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    try:
        count = 0
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            for _ in range(DOCUMENTS_PER_SYNC):
                os.write(descriptor, document)
            os.fdatasync(descriptor)
            count += DOCUMENTS_PER_SYNC
    finally:
        os.close(descriptor)
        path.unlink()
    return count / took


if __name__ == "__main__":
    print(run(Path(sys.argv[1]), os.urandom(int(sys.argv[2])), float(sys.argv[3])))
