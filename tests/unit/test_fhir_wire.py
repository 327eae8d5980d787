"""FHIR in JSON and XML: what is read, what is refused, and that both are one structure."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obieg.wire import fhir_json, fhir_xml
from obieg.wire.fhir_elements import PRIMITIVES, Exact, check, elements, value_fault
from obieg.wire.fhir_json import JsonRefused
from obieg.wire.xml import XmlRefused

PATIENT = '{"resourceType":"Patient","active":true}'

BAD_JSON = {
    "nothing": b"",
    "a mark": b"\xef\xbb\xbf" + PATIENT.encode(),
    "UTF-16": PATIENT.encode("utf-16"),
    "not UTF-8": b'{"resourceType":"Patient","id":"\xff"}',
    "a key twice": b'{"resourceType":"Patient","active":true,"active":false}',
    "a key twice inside": b'{"resourceType":"Patient","name":[{"family":"A","family":"B"}]}',
    "a key twice by escape": b'{"active":true,"\\u0061ctive":false}',
    "NaN": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "an integer too long": b'{"a":' + b"9" * 5000 + b"}",
    "an integer beyond range": b'{"a":9223372036854775808}',
    "a decimal too long": b'{"a":1.' + b"0" * 5000 + b"}",
    "an exponent beyond range": b'{"a":1e400}',
    "an array": b"[" + PATIENT.encode() + b"]",
    "a text": b'"Patient"',
    "deep": b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
    "very deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "too many values": b'{"a":[' + b"1," * 500_000 + b"1]}",
    "cut": PATIENT.encode()[:-3],
    "more after it": PATIENT.encode() + b"{}",
    "single quotes": b"{'a':1}",
    "a comment": b'{"a":1 /* x */}',
}


@pytest.mark.parametrize("what", BAD_JSON)
def test_json_that_is_refused(what: str) -> None:
    with pytest.raises(JsonRefused) as refused:
        fhir_json.read(BAD_JSON[what])
    assert 10 < len(str(refused.value)) < 300


def test_decimals_keep_how_they_were_written() -> None:
    read = fhir_json.read(b'{"a":1.00,"b":-0.0,"c":1.5e3,"d":10}')
    assert fhir_json.write(read) == b'{"a":1.00,"b":-0.0,"c":1.5e3,"d":10}'
    assert read["a"] == 1
    assert isinstance(read["d"], int)


BUNDLE = {
    "resourceType": "Bundle",
    "type": "searchset",
    "entry": [
        {
            "fullUrl": "urn:uuid:0dcf1b45-2d1e-4d62-9c4a-5ad0e07a7ad9",
            "resource": {
                "resourceType": "Patient",
                "id": "p-1",
                "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>Zażółć &amp; co</p></div>'},
                "contained": [{"resourceType": "Organization", "id": "o", "name": "Szpital"}],
                "extension": [{"url": "http://example.org/e", "valueDecimal": Exact("1.50")}],
                "name": [
                    {"family": 'Ó"<&>', "given": ["Jan", None, "Maria"], "_given": [None, {"id": "g"}, None]},
                    {"id": "n", "_family": {"extension": [{"url": "http://example.org/x", "valueCode": "unknown"}]}},
                ],
                "_birthDate": {"extension": [{"url": "http://example.org/t", "valueDateTime": "2001-02-03T04:05:06Z"}]},
                "deceasedBoolean": False,
                "multipleBirthInteger": 2,
            },
            "search": {"mode": "match", "score": Exact("0.90")},
        }
    ],
}  # fmt: skip


def test_json_and_xml_are_one_structure() -> None:
    assert check(BUNDLE) == []
    written = fhir_xml.write(BUNDLE)
    assert fhir_json.write(fhir_xml.read(written)) == fhir_json.write(_ordered(BUNDLE, "Bundle"))
    assert fhir_xml.write(fhir_json.read(fhir_json.write(BUNDLE))) == written
    assert b'<given id="g"/>' in written
    assert b'<score value="0.90"/>' in written


def _ordered(value: Any, kind: str) -> Any:
    """As XML orders it."""
    known = elements(kind)
    made: dict[str, Any] = {"resourceType": value["resourceType"]} if "resourceType" in value else {}
    for name, element in known.items():
        for key in (name, f"_{name}"):
            if key not in value:
                continue
            inner = value[key]
            item = "Element" if key[0] == "_" else element.kind

            def one(part: Any, item: str = item) -> Any:
                return _ordered(part, part.get("resourceType", item)) if isinstance(part, dict) else part

            made[key] = [one(part) for part in inner] if isinstance(inner, list) else one(inner)
    return made


NS = 'xmlns="http://hl7.org/fhir"'
BAD_XML = {
    "another namespace": '<Patient xmlns="urn:x"/>',
    "no namespace": "<Patient/>",
    "a resource that FHIR does not know": f"<Person2 {NS}/>",
    "an unknown element": f'<Patient {NS}><colour value="x"/></Patient>',
    "an unknown attribute": f'<Patient {NS} colour="x"/>',
    "an element of another namespace": f'<Patient {NS}><active xmlns="urn:x" value="true"/></Patient>',
    "text": f"<Patient {NS}>Jan</Patient>",
    "text in a value": f"<Patient {NS}><active>true</active></Patient>",
    "an element twice": f'<Patient {NS}><active value="true"/><active value="false"/></Patient>',
    "two resources in one place": f"<Patient {NS}><contained><Patient/><Patient/></contained></Patient>",
    "a doctype": f"<!DOCTYPE x><Patient {NS}/>",
    "an entity": f'<!DOCTYPE x [<!ENTITY a "b">]><Patient {NS}><id value="&a;"/></Patient>',
    "a script for it": f'<?xml-stylesheet href="x"?><Patient {NS}/>',
    "cut": f"<Patient {NS}>",
}


@pytest.mark.parametrize("what", BAD_XML)
def test_xml_that_is_refused(what: str) -> None:
    with pytest.raises(XmlRefused) as refused:
        fhir_xml.read(BAD_XML[what].encode())
    assert len(str(refused.value)) > 10


FAULTS = [
    ({"resourceType": "Patient", "colour": "x"}, ("unknown", "Patient.colour")),
    ({"resourceType": "Patient", "_name": {"id": "x"}}, ("unknown", "Patient._name")),
    ({"resourceType": "Patient", "active": "true"}, ("type", "Patient.active")),
    ({"resourceType": "Patient", "active": None}, ("type", "Patient.active")),
    ({"resourceType": "Patient", "name": {"family": "A"}}, ("type", "Patient.name")),
    ({"resourceType": "Patient", "name": []}, ("type", "Patient.name")),
    ({"resourceType": "Patient", "name": [None]}, ("type", "Patient.name[0]")),
    ({"resourceType": "Patient", "name": [{}]}, ("type", "Patient.name[0]")),
    ({"resourceType": "Patient", "name": [{"family": ""}]}, ("type", "Patient.name[0].family")),
    ({"resourceType": "Patient", "name": [{"family": 5}]}, ("type", "Patient.name[0].family")),
    ({"resourceType": "Patient", "name": [{"family": "a\0b"}]}, ("type", "Patient.name[0].family")),
    ({"resourceType": "Patient", "name": [{"family": "a\ud800"}]}, ("type", "Patient.name[0].family")),
    ({"resourceType": "Patient", "name": [{"given": [None]}]}, ("type", "Patient.name[0].given[0]")),
    ({"resourceType": "Patient", "birthDate": "01.02.1970"}, ("type", "Patient.birthDate")),
    ({"resourceType": "Patient", "multipleBirthInteger": 2**31}, ("type", "Patient.multipleBirth")),
    ({"resourceType": "Patient", "multipleBirthInteger": True}, ("type", "Patient.multipleBirth")),
    ({"resourceType": "Patient", "deceasedBoolean": True, "deceasedDateTime": "2020"}, ("type", "Patient.deceased")),
    ({"resourceType": "Patient", "link": [{"type": "refer"}]}, ("required", "Patient.link[0].other")),
    ({"resourceType": "Patient", "extension": [{"valueString": "x"}]}, ("required", "Patient.extension[0].url")),
    ({"resourceType": "Patient", "contained": [{"resourceType": "Nothing"}]}, ("unknown", "Patient.contained[0]")),
    ({"resourceType": "Patient", "id": "a b"}, ("type", "Patient.id")),
    ({"resourceType": "Nothing"}, ("unknown", "")),
    ({"name": []}, ("unknown", "")),
    ({"resourceType": ["Patient"]}, ("unknown", "")),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "fault"), FAULTS)
def test_what_is_no_resource_is_told_with_its_place(resource: dict[str, Any], fault: tuple[str, str]) -> None:
    found = [(f.rule, f.path if "resourceType" in resource and len(fault[1]) else "") for f in check(resource)]
    assert found == [fault]


def test_faults_are_limited() -> None:
    assert len(check({"resourceType": "Patient", **{f"x{i}": 1 for i in range(10_000)}})) == 50


def test_the_patterns_of_values_take_no_time() -> None:
    for name, pattern in PRIMITIVES.items():
        compiled = re.compile(pattern)
        for text in ("a" * 50_000 + "\x01", " a" * 25_000 + "\x01", "1" * 50_000 + "!", "A" * 50_001 + "!"):
            assert not compiled.fullmatch(text) or name in (
                "uri",
                "url",
                "canonical",
                "markdown",
                "string",
                "code",
                "xhtml",
            )


# hypothesis: JSON -> XML -> JSON ---------------------------------------------------------------------------------

_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1, max_size=12).filter(str.strip)  # fmt: skip
_CODE = st.from_regex(r"[a-z][a-z-]{0,10}", fullmatch=True)
_DATE = st.from_regex(r"(19|20)[0-9]{2}(-0[1-9](-[01][1-9])?)?", fullmatch=True)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "positiveInt": st.integers(1, 2**31 - 1),
    "unsignedInt": st.integers(0, 2**31 - 1),
    "decimal": st.from_regex(r"-?(0|[1-9][0-9]{0,8})\.[0-9]{1,8}", fullmatch=True).map(Exact),
    "date": _DATE,
    "dateTime": _DATE,
    "instant": st.just("2020-01-02T03:04:05.678+01:00"),
    "time": st.just("03:04:05"),
    "code": _CODE,
    "id": st.from_regex(r"[A-Za-z0-9.-]{1,20}", fullmatch=True),
    "base64Binary": st.just("aGVq"),
    "oid": st.just("urn:oid:1.2.3"),
    "uuid": st.just("urn:uuid:c757873d-ec9a-4326-a141-556f43239520"),
    "string": _TEXT,
    "markdown": _TEXT,
}


def _value(kind: str, depth: int) -> st.SearchStrategy[Any]:
    if kind in PRIMITIVES:
        return _VALUES.get(kind, st.just("http://example.org/x"))
    return _object(kind, depth)


@st.composite
def _object(draw: st.DrawFn, kind: str, depth: int) -> dict[str, Any]:
    known = [e for e in elements(kind).values() if e.kind not in ("Resource", "xhtml", "Narrative")]
    if depth <= 0:
        known = [e for e in known if e.primitive]
    chosen = draw(st.lists(st.sampled_from(known), max_size=4, unique_by=lambda e: e.choice))
    chosen += [e for e in known if e.required and not e.choice.endswith("[x]") and e not in chosen]
    made: dict[str, Any] = {}
    for element in chosen:
        strategy = _value(element.kind, depth - 1)
        value = draw(st.lists(strategy, min_size=1, max_size=2) if element.many else strategy)
        if value in ({}, [{}], [{}, {}], [{}]) or (isinstance(value, list) and {} in value):
            continue
        made[element.name] = value
        if element.primitive and not element.attribute and draw(st.booleans()) and depth > 0:
            extension = {"extension": [{"url": "http://example.org/e", "valueString": draw(_TEXT)}]}
            made[f"_{element.name}"] = [extension] if element.many else extension
    return made


@settings(max_examples=60, deadline=None)
@given(_object("Patient", 3))
def test_json_to_xml_to_json_is_identity(content: dict[str, Any]) -> None:
    patient = {"resourceType": "Patient", **content}
    back = fhir_xml.read(fhir_xml.write(patient))
    padded = json.loads(fhir_json.write(_ordered(patient, "Patient")), parse_float=str)
    assert _unpadded(json.loads(fhir_json.write(back), parse_float=str)) == _unpadded(padded)


def _unpadded(value: Any) -> Any:
    """Arrays of extensions may be shorter than those of their values; the missing ones are null."""
    if isinstance(value, dict):
        made = {k: _unpadded(v) for k, v in value.items()}
        for key, inner in made.items():
            if key[0] == "_" and isinstance(inner, list):
                made[key] = inner + [None] * (len(made.get(key[1:], [])) - len(inner))
        return made
    return [_unpadded(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("text", ["aGVq", "aGU=", "aA==", "aGVq aGVq", "aG\r\nVq\n", "aA= =", " aA==\t"])
def test_base64_comes_in_groups_of_four(text: str) -> None:
    assert value_fault(text, "base64Binary") == ""


@pytest.mark.parametrize(
    "text", ["", " ", "=", "====", "aGV", "aGVqa", "aGVq=", "a===", "aA==aGVq", "aA=a", "aG-q", "aGV\xf3"]
)
def test_what_is_no_base64(text: str) -> None:
    assert "is no base64Binary" in value_fault(text, "base64Binary")
