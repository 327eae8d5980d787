"""Hostile messages with assertions: none is accepted, and every valid twin is."""

from __future__ import annotations

from collections import Counter

import pytest
import saml_cases
from saml_cases import Case

from obieg.domain.problems import Problem
from obieg.wire.soap import SoapFault
from obieg.wire.xml import XmlRefused
from trusting import Door, asked, shown

CASES = list(saml_cases.cases())


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 500
    assert [name for name, count in Counter(c.name for c in CASES).items() if count > 1] == []
    assert len(list(saml_cases.wrappings())) == 8 * 4 * 7


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_hostile_and_twin(case: Case) -> None:
    door = Door(*case.issuers)
    door.withdrawn.update(case.withdrawn)
    data = case.hostile()
    with pytest.raises((Problem, SoapFault, XmlRefused)) as refusal:
        door.prove(shown(data, client=case.client))
    if isinstance(refusal.value, Problem):
        (finding,) = refusal.value.findings
        assert finding.code == "AuthenticationFailed"
        assert finding.reason
    assert asked(case.twin(), door=Door(*case.twin_issuers)).person == "dr"
