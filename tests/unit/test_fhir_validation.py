"""Validation of FHIR resources: HL7's examples, each rule broken on purpose, random damage to what is valid."""

from __future__ import annotations

import copy
import gc
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obieg.codes.load import toml
from obieg.wire import fhir_json
from obieg.wire.fhir_elements import PRIMITIVES, RESOURCE, Fault, elements
from obieg.wire.fhir_validation import validate

EXAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "ihe" / "hl7-fhir-r4-examples" / "package"
_SYSTEM = "http://terminology.hl7.org/CodeSystem/condition"
CONDITION: dict[str, Any] = {
    "resourceType": "Condition",
    "id": "c",
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>Asthma</p></div>'},
    "contained": [{"resourceType": "Practitioner", "id": "p", "gender": "female"}],
    "extension": [{"url": "http://example.org/a", "valuePeriod": {"start": "2020", "end": "2021"}}],
    "clinicalStatus": {"coding": [{"system": f"{_SYSTEM}-clinical", "code": "resolved"}]},
    "verificationStatus": {"coding": [{"system": f"{_SYSTEM}-ver-status", "code": "confirmed"}]},
    "subject": {"reference": "Patient/1"},
    "onsetAge": {"value": 3, "code": "a", "system": "http://unitsofmeasure.org"},
    "abatementDateTime": "2021-03-01",
    "recorder": {"reference": "#p"},
    "stage": [{"summary": {"text": "1"}}],
}
BUNDLE: dict[str, Any] = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [
        {
            "fullUrl": "urn:uuid:3c1a8f0a-8f7e-4a5e-9d53-2f5a4b7c9e10",
            "resource": CONDITION,
            "request": {"method": "POST", "url": "Condition"},
        }
    ],
}


def changed(resource: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a path of keys and indexes; None removes it."""
    made = copy.deepcopy(resource)
    *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place: Any = made
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return made


def found(resource: Any) -> list[tuple[str, str, str]]:
    """(rule, path, key of the invariant)."""
    return [(f.rule, f.path, f.said.partition(":")[0] if f.rule == "invariant" else "") for f in validate(resource)]


def test_what_is_valid_is_valid() -> None:
    assert validate(CONDITION) == []
    assert validate(BUNDLE) == []


BROKEN: list[tuple[str, Any, tuple[str, str, str]]] = [
    ("clinicalStatus/coding/0/code", "gone", ("binding", "Condition.clinicalStatus.coding", "")),
    ("contained/0/gender", "F", ("binding", "Condition.contained[0].gender", "")),
    ("subject", None, ("required", "Condition.subject", "")),
    ("subject", {"reference": "Practitioner/1"}, ("target", "Condition.subject", "")),
    ("subject", {"reference": "http://a.example/fhir/Device/1/_history/2"}, ("target", "Condition.subject", "")),
    ("subject", {"display": "x", "type": "Device"}, ("target", "Condition.subject", "")),
    ("recorder", {"reference": "#q"}, ("invariant", "Condition.recorder", "ref-1")),
    ("recorder", None, ("invariant", "Condition", "dom-3")),
    ("contained/0/meta", {"versionId": "1"}, ("invariant", "Condition", "dom-4")),
    ("onsetAge/value", -1, ("invariant", "Condition.onset", "age-1")),
    ("onsetAge/comparator", "=", ("binding", "Condition.onset.comparator", "")),
    ("onsetAge", {"id": "x"}, ("invariant", "Condition.onset", "ele-1")),
    ("extension/0/valuePeriod/end", "2019", ("invariant", "Condition.extension[0].value", "per-1")),
    ("extension/0/extension", [{"url": "http://b", "valueCode": "x"}], ("invariant", "Condition.extension[0]", "ext-1")),
    ("stage/0/summary", None, ("invariant", "Condition.stage[0]", "con-1")),
    ("text/div", "<div>x</div>", ("invariant", "Condition.text.div", "txt-1")),
    ("text/div", '<div xmlns="http://www.w3.org/1999/xhtml"><script>x</script></div>', ("invariant", "Condition.text.div", "txt-1")),
    ("text/div", '<div xmlns="http://www.w3.org/1999/xhtml"><p onclick="x">x</p></div>', ("invariant", "Condition.text.div", "txt-1")),
    ("text/div", '<div xmlns="http://www.w3.org/1999/xhtml"> <br/> </div>', ("invariant", "Condition.text.div", "txt-2")),
    ("clinicalStatus/coding/0/code", "active", ("invariant", "Condition", "con-4")),
    ("onsetDateTime", "2020", ("type", "Condition.onset", "")),
    ("_abatementDateTime", {"extension": [{"url": "http://a"}]}, ("invariant", "Condition.abatement.extension[0]", "ext-1")),
    ("severity", {"coding": "x"}, ("type", "Condition.severity.coding", "")),
    ("colour", "red", ("unknown", "Condition.colour", "")),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "fault"), BROKEN, ids=lambda v: str(v)[:40])
def test_what_is_broken_is_found(path: str, value: Any, fault: tuple[str, str, str]) -> None:
    assert fault in found(changed(CONDITION, path, value))
    within = changed(BUNDLE, f"entry/0/resource/{path}", value)
    rule, place, key = fault
    assert (rule, place.replace("Condition", "Bundle.entry[0].resource", 1), key) in found(within)


BROKEN_BUNDLES: list[tuple[str, Any, tuple[str, str, str]]] = [
    ("total", 1, ("invariant", "Bundle", "bdl-1")),
    ("type", "batch-response", ("invariant", "Bundle", "bdl-4")),
    ("entry/0/request", None, ("invariant", "Bundle", "bdl-3")),
    ("entry/0/request/method", "SEND", ("binding", "Bundle.entry[0].request.method", "")),
    ("entry/0/fullUrl", "http://a/Condition/1/_history/1", ("invariant", "Bundle.entry[0]", "bdl-8")),
    ("entry/1", {**BUNDLE["entry"][0]}, ("invariant", "Bundle", "bdl-7")),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "fault"), BROKEN_BUNDLES, ids=lambda v: str(v)[:40])
def test_what_is_broken_in_a_bundle_is_found(path: str, value: Any, fault: tuple[str, str, str]) -> None:
    longer = {**BUNDLE, "entry": [*BUNDLE["entry"], value]}
    broken = longer if path == "entry/1" else changed(BUNDLE, path, value)
    assert fault in found(broken)


def test_a_reference_to_the_container_is_no_loose_end() -> None:
    practitioner = {"resourceType": "Provenance", "id": "p", "target": [{"reference": "#"}]}
    practitioner |= {"recorded": "2020-01-01T00:00:00Z", "agent": [{"who": {"display": "x"}}]}
    resource = changed(CONDITION, "recorder", None) | {"contained": [practitioner]}
    assert validate(resource) == []


def _many_contained(count: int) -> dict[str, Any]:
    contained = [
        {
            "resourceType": "Device",
            "id": f"d{n}",
            "parent": {"reference": f"#d{n - 1}"},
            "owner": {"reference": f"#d{n}"},
        }
        for n in range(count)
    ]
    evidence = [{"detail": [{"reference": f"#d{n}"} for n in range(count)]}]
    return {**changed(CONDITION, "recorder", None), "contained": contained, "evidence": evidence}


def _many_components(count: int) -> dict[str, Any]:
    codes = {"coding": [{"system": "http://a", "code": f"c{n}"} for n in range(count)]}
    components = [{"code": {"coding": [{"system": "http://b", "code": f"c{n}"}]}} for n in range(count)]
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": codes,
        "valueString": "x",
        "component": components,
    }


def _many_members(count: int) -> dict[str, Any]:
    contained = [{"resourceType": "Practitioner", "id": f"p{n}"} for n in range(count)]
    participants = [
        {"member": {"reference": f"#p{n}"}, "onBehalfOf": {"reference": "Organization/1"}} for n in range(count)
    ]
    return {"resourceType": "CareTeam", "contained": contained, "participant": participants}


@pytest.mark.parametrize("made", [_many_contained, _many_components, _many_members])
def test_the_time_grows_as_the_resource_does(made: Callable[[int], dict[str, Any]]) -> None:
    """What depends on the resource alone is worked out once: sixteen times the size takes no 256 times the time."""

    def seconds(count: int) -> float:
        resource = made(count)
        gc.disable()  # what it looks through is what other tests have left
        try:
            started = time.process_time()
            validate(resource)
            return time.process_time() - started
        finally:
            gc.enable()

    seconds(10)
    assert seconds(8000) < 128 * max(seconds(500), 0.002)


def test_nonsense_is_not_a_crash() -> None:
    for resource in (
        None,
        [],
        {},
        {"resourceType": 1},
        {"resourceType": "Nobody"},
        {"resourceType": "Bundle", "entry": 1},
    ):
        assert validate(resource)
    assert validate({"resourceType": "Bundle", "type": ["x"], "entry": [None, 1, {"resource": []}, {"fullUrl": {}}]})


# HL7's own examples ----------------------------------------------------------------------------------------------


def examples() -> list[Path]:
    return sorted(p for p in EXAMPLES.glob("*.json") if p.name != "package.json")


@pytest.mark.parametrize("path", examples(), ids=lambda p: p.stem)
def test_examples_of_hl7_are_valid(path: Path) -> None:
    assert validate(fhir_json.read(path.read_bytes())) == []


# random damage ---------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """An element with a value somewhere in a resource."""

    owner: dict[str, Any]  # the JSON object that holds it
    kind: str  # of the owner
    key: str
    location: str


def places(value: dict[str, Any], kind: str, path: str) -> Iterator[Place]:
    """All elements, down to the last."""
    known = elements(kind)
    for key, content in value.items():
        element = known.get(key)
        if element is None:
            continue
        where = f"{path}.{element.location}"
        yield Place(value, kind, key, where)
        for index, item in enumerate(content if element.many else [content]):
            at = f"{where}[{index}]" if element.many else where
            if element.kind == RESOURCE:
                yield from places(item, item["resourceType"], at)
            elif isinstance(item, dict):
                yield from places(item, element.kind, at)


def _kept() -> list[tuple[str, dict[str, Any]]]:
    own = [("a Condition", CONDITION), ("a Bundle", BUNDLE)]
    # The largest take long to copy for each of many tries.
    return own + [(p.stem, json.loads(p.read_bytes())) for p in examples() if p.stat().st_size < 30_000]


VALID = _kept()


def damaged(draw: st.DrawFn, fits: Any) -> tuple[dict[str, Any], Place]:
    """A copy of something valid, and a place in it that fits."""
    resource = copy.deepcopy(draw(st.sampled_from(VALID))[1])
    kind = resource["resourceType"]
    found = [p for p in places(resource, kind, kind) if fits(p)]
    if not found:
        resource = copy.deepcopy(BUNDLE)
        found = [p for p in places(resource, "Bundle", "Bundle") if fits(p)]
    return resource, draw(st.sampled_from(found))


def has(resource: dict[str, Any], rule: str, location: str) -> bool:
    faults: list[Fault] = validate(resource)
    return any(f.rule == rule and f.path == location for f in faults)


DAMAGES = settings(max_examples=150, deadline=None)


@DAMAGES
@given(st.data())
def test_a_required_element_that_is_missing(data: st.DataObject) -> None:
    resource, place = damaged(data.draw, lambda p: elements(p.kind)[p.key].required)
    del place.owner[place.key]
    place.owner.pop(f"_{place.key}", None)
    place.owner["id"] = "left"  # so that something is there
    assert has(resource, "required", place.location)


@DAMAGES
@given(st.data())
def test_a_value_of_another_type(data: st.DataObject) -> None:
    resource, place = damaged(data.draw, lambda _: True)
    element = elements(place.kind)[place.key]
    wrong: list[Any] = [{}, "", None]
    if element.kind in PRIMITIVES:
        wrong += [{"a": 1}, *([] if element.kind == "boolean" else [True]), "\x00"]
    else:
        wrong += ["text", 1, True]
    bad = data.draw(st.sampled_from(wrong))
    if element.kind == RESOURCE:
        bad = data.draw(st.sampled_from([{"resourceType": "Nobody"}, "text", 1]))
    place.owner[place.key] = [bad] if element.many else bad
    place.owner.pop(f"_{place.key}", None)
    rule = "unknown" if element.kind == RESOURCE else "type"
    assert has(resource, rule, f"{place.location}[0]" if element.many else place.location)


@DAMAGES
@given(st.data())
def test_an_element_that_may_stand_once_stands_twice(data: st.DataObject) -> None:
    resource, place = damaged(
        data.draw, lambda p: not elements(p.kind)[p.key].many and elements(p.kind)[p.key].kind != RESOURCE
    )
    value = place.owner[place.key]
    place.owner[place.key] = [value, value]
    assert has(resource, "type", place.location)


def bound(place: Place) -> bool:
    table = toml("fhir_rules.toml")
    element = elements(place.kind)[place.key]
    name = table["bindings"].get(f"{place.kind}.{element.choice}", "")
    return name in table["value_sets"] and element.kind in ("code", "Coding", "CodeableConcept")


@DAMAGES
@given(st.data(), st.from_regex(r"[a-z]{5,12}-not", fullmatch=True))
def test_a_code_outside_of_a_required_binding(data: st.DataObject, code: str) -> None:
    resource, place = damaged(data.draw, bound)
    element = elements(place.kind)[place.key]
    coding = {"system": "http://example.org/codes", "code": code}
    bad: Any = {"code": code, "Coding": coding, "CodeableConcept": {"coding": [coding]}}[element.kind]
    place.owner[place.key] = [bad] if element.many else bad
    where = f"{place.location}[0]" if element.many else place.location
    assert has(resource, "binding", f"{where}.coding" if element.kind == "CodeableConcept" else where)
