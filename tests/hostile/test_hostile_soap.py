"""Hostile SOAP and XML, each with its valid twin: none is taken."""

from __future__ import annotations

import pytest
from checking import refused
from field import Field, unique
from soap_cases import CASES

pytestmark = pytest.mark.node
NAMED = unique(CASES)


def test_there_are_enough() -> None:
    assert len(NAMED) >= 200


@pytest.mark.parametrize("name", NAMED)
def test_hostile(hostile_field: Field, name: str) -> None:
    refused(hostile_field, NAMED[name])
