"""Hostile FHIR over REST, each with its valid twin: none is taken."""

from __future__ import annotations

import json
import re

import pytest
from checking import refused
from fhir_cases import CASES
from field import TWINS, Field, unique

pytestmark = pytest.mark.node
NARRATIVES = unique(c for c in CASES if c.expect == "narrative refused")
NAMED = unique(c for c in CASES if c.expect != "narrative refused")


def test_there_are_enough() -> None:
    assert len(NAMED) + len(NARRATIVES) >= 150


@pytest.mark.parametrize("name", NAMED)
def test_hostile(hostile_field: Field, name: str) -> None:
    refused(hostile_field, NAMED[name])


@pytest.mark.parametrize("name", NARRATIVES)
def test_narrative(hostile_field: Field, name: str) -> None:
    """The validator finds it, and no feed brings it in."""
    case = NARRATIVES[name]
    found = hostile_field.send(case.change(TWINS["validate"][0](hostile_field)))
    issues = json.loads(found.body)["issue"]
    assert any(i["severity"] == "error" and "txt-" in json.dumps(i) for i in issues), issues
    before = hostile_field.kept()
    request = case.change(TWINS["feed"][0](hostile_field))
    answer = hostile_field.send(request)
    answer.check()
    if answer.status in (200, 201):  # a Patient here is what its sources said of a person, never their narrative
        assert before != hostile_field.kept()
        shown = hostile_field.send(TWINS["search"][0](hostile_field)).body
        assert not re.search(rb"<script|onerror|javascript:", shown)
    else:
        assert hostile_field.kept() == before
