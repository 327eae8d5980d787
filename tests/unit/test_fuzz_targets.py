"""Every target of the fuzzers takes every message of its corpus, and every change of a single byte to a few of them."""

from __future__ import annotations

import random

import pytest
from fuzz.targets import TARGETS, corpus


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    found = corpus(name)
    assert found
    chance = random.Random(name)
    for path in found:
        data = path.read_bytes()
        TARGETS[name](data)
        for _ in range(30):
            changed = bytearray(data)
            changed[chance.randrange(len(changed))] = chance.randrange(256)
            TARGETS[name](bytes(changed))
