"""Codes between XDS and FHIR."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obieg.domain.affinity_domain import ATTRIBUTES, AffinityDomain, polish
from obieg.domain.documents import Code
from obieg.mapping.fhir_codes import coding, concept, read_coding, system_of

LOINC = "2.16.840.1.113883.6.1"


@pytest.mark.parametrize(
    ("scheme", "system"),
    [
        (LOINC, "http://loinc.org"),
        ("1.2.616.5", "urn:oid:1.2.616.5"),
        ("http://example.org/codes", "http://example.org/codes"),
        ("urn:ihe:event-type-code", "urn:ihe:event-type-code"),
        ("Dziedzina medyczna", "urn:x-coding-scheme:Dziedzina%20medyczna"),
    ],
)
def test_a_scheme_has_a_uri_and_comes_back(scheme: str, system: str) -> None:
    code = Code("55107-7", scheme, (("", "Zgoda"),))
    assert concept(code) == {"coding": [{"system": system, "code": "55107-7", "display": "Zgoda"}]}
    assert read_coding(coding(code)) == code


@given(st.text(min_size=1, max_size=40, alphabet=st.characters(exclude_categories=("Cc", "Cs", "Zs"))))
def test_every_scheme_comes_back(scheme: str) -> None:
    assert read_coding(coding(Code("a", scheme))) == Code("a", scheme)


def test_the_affinity_domain_gives_both_names() -> None:
    rows = [
        {"code": "a", "codingScheme": "Nasze", "system": "http://a.example", "display": "Pierwszy"},
        {"code": "b", "codingScheme": "Obce", "system": f"urn:oid:{LOINC}"},
    ]
    domain = AffinityDomain.from_json(json.dumps({"mimeType": [], "typeCode": {"codes": rows}}).encode())
    assert coding(Code("a", "Nasze"), "type_code", domain)["system"] == "http://a.example"
    assert read_coding({"system": "http://a.example", "code": "a"}, "type_code", domain) == Code(
        "a", "Nasze", (("", "Pierwszy"),)
    )
    # Another code of the same scheme, and one that the list knows by the OID of a well-known system.
    assert read_coding({"system": "http://a.example", "code": "z"}, "type_code", domain).scheme == "Nasze"
    assert system_of("Obce", "b", "type_code", domain) == "http://loinc.org"
    for name in ("http://loinc.org", f"urn:oid:{LOINC}"):
        assert read_coding({"system": name, "code": "b"}, "type_code", domain).scheme == "Obce"
    # Another attribute has not agreed on these names.
    assert read_coding({"system": "http://loinc.org", "code": "b"}, "class_code", domain).scheme == LOINC


def test_every_polish_code_comes_back() -> None:
    domain = polish()
    seen = 0
    for attribute in ATTRIBUTES.values():
        for listed in domain.codes(attribute):
            code = Code(listed.code, listed.scheme)
            found = read_coding(coding(code, attribute, domain), attribute, domain)
            assert (found.code, found.scheme) == (code.code, code.scheme)
            seen += 1
    assert seen > 100
