"""Whom an officer withholds is left out of any JSON, and nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from obieg.mapping.withheld import Withheld

PERSON = "1.2.616.1#77"
AT = "?"


def said(value: Any, *people: str) -> Any:
    return json.loads(Withheld(people or (PERSON,), AT).line(json.dumps(value).encode()))


@pytest.mark.parametrize(("value", "expected"), [
    ({"person": PERSON, "name": "N", "made_by_name": "N", "organisation": "1.3#9"}, {"person": AT, "organisation": "1.3#9"}),
    ({"key": f"access:{PERSON}:1.3#9", "said": {"name": "other"}}, {"key": AT, "said": {"name": "other"}}),
    ({"authors": [PERSON, "1.2.616.1#78"]}, {"authors": [AT, "1.2.616.1#78"]}),
    ({"author_person": ["77^Nowak^Jan^^^^^^&1.2.616.1&ISO"]}, {"author_person": [AT]}),
    ({"system": "urn:oid:1.2.616.1", "value": "77"}, {"system": "urn:oid:1.2.616.1", "value": AT}),
    ({"who": {"identifier": {"system": "urn:oid:1.2.616.1", "value": "77"}, "display": "N"}, "name": "N", "x": 1},
     {"who": {"identifier": {"system": "urn:oid:1.2.616.1", "value": AT}}, "x": 1}),
    ({"identifier": [{"system": "urn:oid:1.2.616.1", "value": "77"}], "name": [{"family": "N"}]},
     {"identifier": [{"system": "urn:oid:1.2.616.1", "value": AT}]}),
    ({"facts": [{"professional": PERSON}], "name": "kept"}, {"facts": [{"professional": AT}], "name": "kept"}),
])  # fmt: skip
def test_left_out(value: Any, expected: Any) -> None:
    assert said(value) == expected


@pytest.mark.parametrize("value", [
    {"person": "1.2.616.1#177", "name": "N"}, {"person": "1.2.616.1.5#77", "name": "N"}, {"person": "1.2.616.1#77.1"},
    {"person": "2.2#77", "text": "77"}, {"system": "urn:oid:1.2.616.2", "value": "77"}, {"unique_id": "1.2.616.1.77"},
    ["77", 77, None], {"cell": "77^N^J^^^^^^&1.2.616.11&ISO"},
])  # fmt: skip
def test_others_stay(value: Any) -> None:
    assert said(value) == value


def test_a_number_without_who_gave_it() -> None:
    assert said({"person": "jan.nowak", "name": "N"}, "jan.nowak") == {"person": AT}
