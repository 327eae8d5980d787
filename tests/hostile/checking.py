"""What holds for every hostile message: an answer that is none of our failures, and nothing kept."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from field import LONGEST_REFUSAL, TWINS, Case, Field

# Longer than this no hostile message may keep the node busy.
SECONDS = 10


def refused(field: Field, case: Case) -> None:
    request = case.change(TWINS[case.twin][0](field))
    before = field.kept()
    begun = time.monotonic()
    reply = field.send(request)
    took = time.monotonic() - begun
    if (found := os.environ.get("OBIEG_HOSTILE_TABLE")) is not None:  # what the node says to each, for the review of it
        with Path(found).open("a") as out:
            out.write(f"{case.twin}\t{case.name}\t{reply.summary()}\t{took:.2f}\n")
    reply.check()
    assert re.match(case.expect, reply.summary()), (reply.summary(), reply.body[:1500])
    after = field.kept()
    assert after == before, {n: (before[n], after[n]) for n in before if before[n] != after[n]}
    assert took < SECONDS
    assert len(reply.body) < LONGEST_REFUSAL
