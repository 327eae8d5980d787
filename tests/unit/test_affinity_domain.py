"""A registry accepts exactly what its community agreed on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from obieg.codes import load
from obieg.domain.affinity_domain import ATTRIBUTES, AffinityDomain, polish, polish_document

MINIMAL = {
    "classCode": {
        "classificationScheme": "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a",
        "codes": [{"code": "A", "codingScheme": "1.2.3", "display": "Letter", "system": "urn:oid:1.2.3"}],
    },
    "mimeType": ["text/xml"],
}


def test_a_listed_code_is_accepted_in_its_own_attribute_and_scheme_only():
    domain = AffinityDomain.from_json(json.dumps(MINIMAL).encode())
    assert domain.accepts("class_code", "A", "1.2.3")
    assert not domain.accepts("class_code", "A", "1.2.4")
    assert not domain.accepts("class_code", "B", "1.2.3")
    assert not domain.accepts("type_code", "A", "1.2.3")
    assert domain.display("class_code", "A", "1.2.3") == "Letter"
    assert domain.system("class_code", "A", "1.2.3") == "urn:oid:1.2.3"
    assert domain.display("class_code", "B", "1.2.3") == ""
    assert domain.mime_types == {"text/xml"}


def test_an_attribute_that_the_agreement_leaves_out_accepts_nothing():
    domain = AffinityDomain.from_json(b'{"mimeType": []}')
    assert not any(domain.accepts(attribute, "", "") for attribute in ATTRIBUTES.values())
    assert not domain.accepts("no_such_attribute", "A", "1.2.3")


def test_a_pattern_opens_a_code_system():
    document = MINIMAL | {"eventCodeList": {"any": [{"codingScheme": "9", "pattern": r"\d\d\.\d"}]}}
    domain = AffinityDomain.from_json(json.dumps(document).encode())
    assert domain.accepts("event_code_list", "12.3", "9")
    assert not domain.accepts("event_code_list", "12.34", "9")
    assert not domain.accepts("event_code_list", "12.3", "8")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "mimeType"),
        (b'{"mimeType": [], "classcode": {}}', "classcode"),
        (b'{"mimeType": [], "classCode": {"codes": [{"code": "A"}]}}', "$.classCode.codes[0]"),
        (b'{"mimeType": [], "classCode": {"codes": [{"code": "", "codingScheme": "1"}]}}', "classCode: a code needs"),
        (
            b'{"mimeType": [], "eventCodeList": {"any": [{"codingScheme": "1", "pattern": "("}]}}',
            "eventCodeList: pattern",
        ),
        (b'{"mimeType": ["\xff"]}', "utf-8"),
    ],
)
def test_bad_input_is_refused_with_the_place(data: bytes, says: str):
    with pytest.raises(ValueError, match=re.escape(says)):
        AffinityDomain.from_json(data)


def test_every_code_of_the_test_kit_is_accepted(shared: Path):
    data = (shared / "nistkit/kit/affinity_domain_codes.json").read_bytes()
    domain = AffinityDomain.from_json(data)
    for key, attribute in ATTRIBUTES.items():
        for row in json.loads(data)[key]["codes"]:
            assert domain.accepts(attribute, row["code"], row["codingScheme"]), (key, row)
            assert domain.system(attribute, row["code"], row["codingScheme"])
    assert not domain.accepts("class_code", "unknown", "1.3.6.1.4.1.19376.1.2.6.1")


def test_the_polish_domain_reads_back_from_its_own_json():
    assert AffinityDomain.from_json(json.dumps(polish_document()).encode()) == polish()


@pytest.mark.parametrize(
    ("attribute", "code", "scheme", "display"),
    [
        ("class_code", "00.20", "Klasyfikacja dokumentów P1", "Karta informacyjna leczenia szpitalnego"),
        ("type_code", "11502-2", "LOINC", "Laboratory report"),
        ("format_code", "urn:extPL:pl-cda", "Kody formatów P1", "PIK HL7 CDA"),
        ("healthcare_facility_type_code", "4220", "Specjalność komórki organizacyjnej", "Oddział neurologiczny"),
        ("practice_setting_code", "05", "Dziedzina medyczna", "Chirurgia ogólna"),
        ("confidentiality_code", "V", "2.16.840.1.113883.5.25", "very restricted"),
        ("content_type_code", "REGISTER", "Typ wysyłki", "Rejestracja"),
        ("healthcare_facility_type_code", "9999", "Specjalność komórki organizacyjnej", ""),
        ("event_code_list", "89.005", "2.16.840.1.113883.3.4424.11.2.6", ""),
        ("event_code_list", "O35", "2.16.840.1.113883.3.4424.11.2.6", ""),
    ],
)
def test_the_polish_domain_accepts(attribute: str, code: str, scheme: str, display: str):
    assert polish().accepts(attribute, code, scheme)
    assert polish().display(attribute, code, scheme) == display


def test_the_polish_domain_refuses():
    assert not polish().accepts("class_code", "00.2", "Klasyfikacja dokumentów P1")
    assert not polish().accepts("healthcare_facility_type_code", "99", "Specjalność komórki organizacyjnej")
    assert not polish().accepts("confidentiality_code", "L", "2.16.840.1.113883.5.25")
    assert not polish().accepts("documentation", "anything", "1.2.3")


def test_the_schemes_are_those_of_the_metadata_tables():
    """One classificationScheme for an attribute, wherever it stands (codes/document_entry.toml)."""
    keys = {row["name"]: row["key"] for row in load.toml("document_entry.toml")["attribute"] if row["kind"] == "code"}
    for key, attribute in load.toml("national/pl/affinity_domain.toml")["attribute"].items():
        assert attribute["classification_scheme"] == keys.get(key, attribute["classification_scheme"])
    assert set(keys) <= set(polish_document())


@pytest.mark.parametrize(
    "table", ["document_classes", "document_types", "templates", "facility_types", "practice_settings"]
)
def test_every_row_says_where_it_comes_from(table: str):
    rows = load.rows(f"national/pl/{table}.csv")
    assert rows
    for row in rows:
        assert row["standing"] in {"official", "seen in client code", "assumed"}, row
        assert row["source"], row


def test_the_tables_refer_to_one_another():
    classes = {row["code"] for row in load.rows("national/pl/document_classes.csv")}
    types = {row["code"] for row in load.rows("national/pl/document_types.csv")}
    facilities = {row["code"] for row in load.rows("national/pl/facility_types.csv")}
    specialties = {row["specialty"] for row in load.rows("national/pl/practice_settings.csv")}
    for row in load.rows("national/pl/facility_types.csv"):
        assert row["specialty"] in specialties, row
    for row in load.rows("national/pl/templates.csv"):
        assert row["class"] in classes, row
        assert row["type"] in types, row
        assert row["facility"] in facilities, row
        assert row["specialty"] in specialties, row
