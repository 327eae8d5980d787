"""How pages of professionals read what the node answers: timeline, basis, emergency data, results, questions."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from obieg.web.work import Question, read_question
from obieg.web.work_record import (
    Basis,
    chart,
    facilities,
    read_basis,
    read_document,
    read_emergency,
    read_person,
    read_results,
    timeline,
    types_of,
)

LOINC = "http://loinc.org"
ABSENT = "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips"


def reference(id_: str, *, unique: str = "", day: str = "2026-01-01", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": id_,
        "status": "current",
        "masterIdentifier": {"system": "urn:oid:1.2", "value": unique or id_},
        "type": {"coding": [{"system": LOINC, "code": "18842-5"}]},
        "content": [{"attachment": {"title": f"Karta {id_}", "creation": f"{day}T23:30:00Z"}}],
        **more,
    }


def replacing(target: str) -> list[dict[str, Any]]:
    return [{"code": "replaces", "target": {"reference": f"DocumentReference/{target}"}}]


def test_what_several_sources_hold_stands_once_and_what_was_replaced_below() -> None:
    read = [
        read_document(reference("a"), "region"),
        read_document(reference("b", day="2026-02-01", relatesTo=replacing("a")), "region"),
        read_document(reference("c", day="2026-03-01", relatesTo=replacing("b")), "region"),
        read_document(reference("x", unique="c", day="2026-03-01"), "elsewhere"),
        read_document(reference("d", day="2026-02-15"), "region"),
        read_document(reference("lost", status="superseded"), "region"),
    ]
    listed, duplicates = timeline(read)
    assert [d.id for d in listed] == ["c", "d"]
    assert [d.id for d in listed[0].older] == ["b", "a"]
    assert duplicates == 1


def test_who_replaces_each_other_ends() -> None:
    read = [
        read_document(reference("a", relatesTo=replacing("b")), "region"),
        read_document(reference("b", relatesTo=replacing("a")), "region"),
        read_document(reference("c", relatesTo=replacing("a")), "region"),
    ]
    listed, _ = timeline(read)
    assert [(d.id, [o.id for o in d.older]) for d in listed] == [("c", ["a", "b"])]


def test_a_document_is_of_the_day_that_it_was_in_poland() -> None:
    document = read_document(reference("a", day="2026-01-01"), "region")
    assert document.when == "2026-01-02T00:30+01:00"
    assert document.kind == "discharge"
    assert document.title == "Karta a"
    bare = read_document({"id": "z", "status": "current"}, "region")
    assert (bare.kind, bare.title, bare.when, bare.unique_id) == ("other", "", "", "z")
    assert facilities([document, bare])[0].documents == 2


def test_kinds_are_asked_by_their_codes() -> None:
    assert types_of("discharge") == f"{LOINC}|18842-5"


@pytest.mark.parametrize(
    ("said", "bases", "ends"),
    [
        ("", (), {}),
        ("author", ("author",), {}),
        ("author,poz; until=2027-01-01T00:00:00Z", ("author", "poz"), {"poz": datetime(2027, 1, 1, tzinfo=UTC)}),
        ("poz; until=2100-01-01T00:00:00Z", ("poz",), {}),
        ("same-entity", ("same-entity",), {}),
        (
            "same-entity,emergency; until=2026-11-23T13:00:00Z",
            ("same-entity", "emergency"),
            {"emergency": datetime(2026, 11, 23, 13, tzinfo=UTC)},
        ),
    ],
)
def test_basis(said: str, bases: tuple[str, ...], ends: dict[str, datetime]) -> None:
    found = read_basis(said)
    assert found == Basis(bases, ends)
    assert bool(found) == bool(bases)


def test_that_one_is_an_author_is_told_only_by_itself() -> None:
    assert read_basis("author,poz").told == ("poz",)
    assert read_basis("author").told == ("author",)


def test_person() -> None:
    patient = {"id": "1", "name": [{"family": "Wrona", "given": ["Barbara", "Anna"]}], "birthDate": "1958-03-14"}
    person = read_person(patient, date(2026, 3, 13))
    assert (person.name, person.age, person.sex, person.pesel) == ("Barbara Anna Wrona", 67, "unknown", "")
    assert read_person(patient, date(2026, 3, 14)).age == 68
    died = read_person({**patient, "deceasedDateTime": "2000-01-01"}, date(2026, 3, 14))
    assert (died.age, died.died) == (41, "2000-01-01")
    assert read_person({"id": "2", "birthDate": "1958"}, date(2026, 1, 1)).age is None


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"entry": [{"resource": resource} for resource in resources]}


def test_nothing_known_is_not_nothing() -> None:
    unknown = {"coding": [{"system": ABSENT, "code": "no-allergy-info"}]}
    none = {"coding": [{"system": ABSENT, "code": "no-known-medications"}]}
    found = read_emergency(
        bundle(
            {"resourceType": "AllergyIntolerance", "code": unknown},
            {"resourceType": "MedicationStatement", "medicationCodeableConcept": none},
            {"resourceType": "Condition", "code": {
                "text": "Migotanie", "coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "I48.2"}]}},
        )
    )  # fmt: skip
    assert found.allergies is None
    assert found.medicines == []
    assert [(s.text, s.code) for s in found.problems or ()] == [("Migotanie", "I48.2")]


def observation(value: float | None, at: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"text": "Kreatynina"},
        "effectiveDateTime": at,
        **({"valueQuantity": {"value": value, "unit": "mg/dl"}} if value is not None else {}),
        "referenceRange": [{"low": {"value": 0.5}, "high": {"value": 1.1}}],
        **more,
    }


def test_results_of_one_test_are_one_row_with_a_trend() -> None:
    [test] = read_results(
        bundle(
            observation(1.4, "2026-03-01T10:00:00Z"),
            observation(0.9, "2025-03-01"),
            observation(1, "2026-01-01T10:00:00Z", category=[]),
            observation(None, "2026-01-01T10:00:00Z"),
        )
    )
    assert (test.name, test.unit, [v.text for v in test.values]) == ("Kreatynina", "mg/dl", ["0,9", "1,4"])
    assert (test.last.mark, test.earlier.mark if test.earlier else "?", test.last.range) == ("high", "", "0,5–1,1")
    drawn = chart(test)
    assert drawn is not None
    first, last = drawn.points
    assert first.x < last.x
    assert first.y > last.y  # higher is further up
    assert drawn.band is not None
    assert drawn.band[0] > last.y  # the result is above the band
    assert drawn.band[1] > 0


def test_one_result_or_words_have_no_trend() -> None:
    tests = read_results(
        bundle(
            observation(1.4, "2026-03-01"),
            observation(None, "2026-03-01", code={"text": "Posiew"}, valueString="ujemny"),
            observation(None, "2026-04-01", code={"text": "Posiew"}, valueString="dodatni"),
        )
    )
    assert [(t.name, t.last.text) for t in tests] == [("Kreatynina", "1,4"), ("Posiew", "dodatni")]
    assert [chart(t) for t in tests] == [None, None]


def test_equal_results_have_a_trend() -> None:
    [test] = read_results(bundle(observation(1, "2026-03-01"), observation(1, "2026-03-01")))
    assert chart(test) is not None


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("58031404562", Question(pesel="58031404562")),
        ("580314 04562", Question(pesel="580314 04562")),
        ("Wrona 14.03.1958", Question(family="Wrona", birth="14.03.1958")),
        ("Wrona, Barbara 1958-03-14", Question(family="Wrona", given="Barbara", birth="1958-03-14")),
        ("123", Question(pesel="123")),
        ("1958", Question(birth="1958")),
        ("1958 Wrona", Question(family="Wrona", birth="1958")),
    ],
)
def test_one_line_is_a_number_or_a_name_with_a_day(line: str, asked: Question) -> None:
    assert read_question({"q": line}) == asked


def test_parameters_of_a_search() -> None:
    asked = read_question({"family": "Wro,na", "birth": "14.3.1958", "purpose": "coordination"})
    assert dict(asked.parameters) == {"family": r"Wro\,na", "birthdate": "1958-03-14", "_count": "20"}
    assert asked.purpose == "coordination"
    assert read_question({"purpose": "curiosity"}).purpose == "treatment"
    assert Question(pesel="05230500757").trouble == ""
    assert Question(pesel="05230500758").trouble == "pesel"
