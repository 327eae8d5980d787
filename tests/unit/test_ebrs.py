"""Answers to registrations, ours and those of other registries."""

from __future__ import annotations

from lxml import etree

from obieg.domain.problems import Finding
from obieg.mapping import ebrs


def test_a_code_of_another_registry_is_passed_on() -> None:
    body = ebrs.registry_response((Finding("XDSPatientIDReconciliationError", 'said "so"', "Document01"),))
    status, findings = ebrs.read_registry_response(etree.fromstring(body))
    assert status == "Failure"
    assert findings == (Finding("XDSPatientIDReconciliationError", 'said "so"', "Document01"),)


def test_our_own_codes_become_the_standards() -> None:
    body = ebrs.registry_response((Finding("LimitExceeded", "too large"),))
    assert ebrs.read_registry_response(etree.fromstring(body))[1][0].code == "XDSRegistryOutOfResources"
