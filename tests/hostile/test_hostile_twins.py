"""What every hostile message was before somebody changed it: taken."""

from __future__ import annotations

import re

import pytest
from field import TWINS, Field

pytestmark = pytest.mark.node


@pytest.mark.parametrize("name", TWINS)
def test_twin(hostile_field: Field, name: str) -> None:
    make, expect = TWINS[name]
    reply = hostile_field.send(make(hostile_field))
    reply.check()
    assert re.match(expect, reply.summary()), (reply.summary(), reply.body[:2000])
