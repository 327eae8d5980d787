"""Row ``import``: ``obieg patients import`` of a file, beside a source that sends the same messages one by one.

The reference is what a hospital would do without the import: one connection, each message sent when the one before is
acknowledged. It is measured in slices before and after the import, so that both meet the same machine. The rate of row
``feed``, sixteen such sources at once, stands in the details.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import psycopg

from bench import people
from bench.rows import BENCHES, Row, Runner, Site, newcomers

NAME = "import"
AT_LEAST = 10.0
_SECONDS_OF_FEED = 120  # messages in the file: what the feed would take so long for
_MOST = 100_000
_SLICES, _SLICE_S = 3, 1.0  # of the reference, before the import and again after it
_FEED = next(b for b in BENCHES if b.name == "feed")


def measure(runner: Runner, site: Site, feed: Row | None) -> Row:
    """One import; ``feed`` is the row of the same run, or is measured once for it."""
    rate = feed.value if feed is not None else _feed_rate(runner)
    slices = _alone(runner)
    found = newcomers(site.node, min(_MOST, round(rate * _SECONDS_OF_FEED)), seed=time.time_ns() // 10_000)
    path = site.folder / "patients.hl7"
    path.write_bytes(b"".join(people.feed(one, f"I{number}") for number, one in enumerate(found)))
    command = [
        sys.executable, "-m", "obieg", "patients", "import", str(path), "--node", str(site.node.ready_file),
    ]  # fmt: skip
    before = _patients(site)
    used, cpu, began = os.times(), site.node.cpu_s(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    used_now, cpu_now = os.times(), site.node.cpu_s()
    stored = _patients(site) - before
    if done.returncode or stored != len(found):
        raise RuntimeError(f"{stored} of {len(found)} people were imported: {(done.stdout + done.stderr)[-2000:]}")
    slices += _alone(runner)
    alone = statistics.median(slices)
    ratio = len(found) / took / alone
    return Row(
        name=NAME,
        what="obieg patients import of an HL7 v2 batch, beside the same messages one by one over one connection",
        value=round(len(found) / took, 1),
        unit="1/s",
        reference=round(alone, 1),
        ratio=round(ratio, 4),
        least=AT_LEAST,
        aim=None,
        met=ratio >= AT_LEAST,
        aim_met=None,
        details={
            "people": len(found),
            "took_s": round(took, 1),
            "file_bytes": path.stat().st_size,
            "references": [round(rate, 1) for rate in slices],  # the first half before the import
            "feed": round(rate, 1),
            "beside_feed": round(len(found) / took / rate, 2),
            # Processor time of one second, in seconds.
            "cpu": {
                "workers": round((cpu_now["workers"] - cpu["workers"]) / took, 2),
                "postgres": round((cpu_now["postgres"] - cpu["postgres"]) / took, 2),
                "client": round(
                    (used_now.children_user + used_now.children_system - used.children_user - used.children_system)
                    / took,
                    2,
                ),
            },
        },
    )


def _feed_rate(runner: Runner) -> float:
    return statistics.median(runner.send(_FEED, 2).rate for _ in range(3))


def _alone(runner: Runner) -> list[float]:
    return [runner.send(_FEED, _SLICE_S, connections=1).rate for _ in range(_SLICES)]


def _patients(site: Site) -> int:
    with psycopg.connect(site.node.dsn) as connection:
        row = connection.execute("SELECT count(*) FROM patient").fetchone()
    return int(row[0]) if row else 0
