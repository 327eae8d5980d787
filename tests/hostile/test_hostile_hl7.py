"""Hostile HL7 v2 over MLLP, each with its valid twin: answered or ended, and nothing of it kept."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import peer
import pytest
from field import LEAKS, LONGEST_REFUSAL, Field
from hl7_cases import CASES, TWINS, Messages, framed, summary

pytestmark = pytest.mark.node


def test_there_are_enough() -> None:
    assert len(CASES) >= 100


@pytest.mark.parametrize("name", TWINS)
def test_twin(hostile_field: Field, name: str) -> None:
    make, expect = TWINS[name]
    answer = hostile_field.mllp(make(Messages(hostile_field, peer.number())))
    assert re.match(expect, summary(answer)), answer


@pytest.mark.parametrize("name", CASES)
def test_hostile(hostile_field: Field, name: str) -> None:
    make, expect = CASES[name]
    data = make(Messages(hostile_field, peer.number()))
    before, begun = hostile_field.kept(), time.monotonic()
    answer = hostile_field.mllp(data)
    took = time.monotonic() - begun
    if (found := os.environ.get("OBIEG_HOSTILE_TABLE")) is not None:
        with Path(found).open("a") as out:
            out.write(f"hl7\t{name}\t{summary(answer)}\t{took:.2f}\n")
    assert re.match(expect, summary(answer)), (summary(answer), answer[:1500])
    assert not LEAKS.search(answer), answer
    assert len(answer) < LONGEST_REFUSAL
    assert took < 10
    if not summary(answer).startswith("AA"):
        after = hostile_field.kept()
        assert after == before, {n: (before[n], after[n]) for n in before if before[n] != after[n]}


def test_merges_in_a_circle(hostile_field: Field) -> None:
    """A into B, B into C, C into A: the last is refused, and questions about each still end."""
    messages = [Messages(hostile_field, peer.number()) for _ in range(3)]
    ids = [m.cx(m.number) for m in messages]
    for m in messages:
        assert summary(hostile_field.mllp(framed(m.feed))) == "AA found=0"
    a, b, c = ids
    m = messages[0]
    assert summary(hostile_field.mllp(framed(m.adt("A40", b, merged=a)))).startswith("AA")
    assert summary(hostile_field.mllp(framed(m.adt("A40", c, merged=b)))).startswith("AA")
    before = hostile_field.kept()
    assert summary(hostile_field.mllp(framed(m.adt("A40", a, merged=c)))).startswith("AE")
    assert hostile_field.kept() == before
    for one in ids:
        assert summary(hostile_field.mllp(framed(m.pix(one)))) != "closed"
