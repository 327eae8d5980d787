"""What a source of medical events answers is read as far as it makes sense, and never more than that."""

from __future__ import annotations

from typing import Any

import pytest
from standins.medical_events.app import events

from obieg.domain.medical_events import EVENTS_MAX
from obieg.mapping.medical_events import read_bundle


def bundle(*resources: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "entry": [{"resource": each} for each in resources]}


def test_read() -> None:
    found = read_bundle(bundle(*events("44051401359")))
    assert len(found) == 4
    assert found[0].facility == "2.16.840.1.113883.3.4424.2.3.1#000000001"
    assert found[0].professional.startswith("2.16.840.1.113883.3.4424.1.6.2#")
    assert (found[0].labels, len(found[0].diagnoses)) == (("N",), 1)
    assert found[0].facts.creation_time.endswith("00")
    assert found[0].facts.encounters == (found[0].id,)


@pytest.mark.parametrize(
    "changes",
    [
        {"identifier": []}, {"identifier": [{"system": "https://elsewhere", "value": "1"}]}, {"identifier": "x"},
        {"period": {}}, {"period": {"start": "2026-13-01"}}, {"period": {"start": "2026-10-01"}}, {"period": []},
        {"status": "entered-in-error"}, {"resourceType": "Patient"},
    ],
)  # fmt: skip
def test_left_out(changes: dict[str, Any]) -> None:
    one = events("44051401359")[0]
    assert read_bundle(bundle({**one, **changes})) == []


@pytest.mark.parametrize(
    "changes",
    [{"participant": "x"}, {"participant": [1]}, {"serviceProvider": []}, {"class": None}, {"meta": {"security": "N"}}],
)
def test_the_rest_is_read(changes: dict[str, Any]) -> None:
    one = events("44051401359")[0]
    assert len(read_bundle(bundle({**one, **changes}))) == 1


def test_bounded() -> None:
    one = events("44051401359")[0]
    many = bundle(*({**one, "class": {"code": "4", "display": "a\x00b\n" * 1000}} for _ in range(EVENTS_MAX + 50)))
    found = read_bundle(many)
    assert len(found) == EVENTS_MAX
    assert len(found[0].kind_name) <= 300
    assert found[0].kind_name.isprintable()
    assert read_bundle({"resourceType": "Bundle", "entry": [None, {"resource": 1}, "x"]}) == []
