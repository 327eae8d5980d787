"""FHIRPath as the invariants of FHIR R4 use it."""

from __future__ import annotations

from typing import Any

import pytest

from obieg.codes.load import toml
from obieg.wire.fhir_elements import Exact
from obieg.wire.fhirpath import ExpressionRefused, compiled
from obieg.wire.fhirpath_values import Node, Scope, Undecided

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "a",
    "contained": [
        {"resourceType": "Organization", "id": "o", "name": "O"},
        {"resourceType": "Organization", "id": "p"},
    ],
    "name": [{"family": "Kos", "given": ["Ala", "Ewa"]}, {"family": "Nowak"}],
    "birthDate": "1990-05",
    "_birthDate": {"extension": [{"url": "http://a", "valueDateTime": "1990-05-01T10:00:00Z"}]},
    "deceasedBoolean": False,
    "multipleBirthInteger": 2,
    "managingOrganization": {"reference": "#o"},
    "generalPractitioner": [{"reference": "#p"}],
}


def holds(expression: str, resource: dict[str, Any] = PATIENT) -> bool:
    node = Node(resource, resource["resourceType"])
    return compiled(expression)(node, Scope(node))


TRUE = [
    "name.count() = 2", "name.given.count() = 2", "name.first().family = 'Kos'", "name.tail().family = 'Nowak'",
    "Patient.name.exists()", "telecom.empty()", "name.exists(family = 'Nowak')", "name.where(given.empty()).family = 'Nowak'",
    "name.all(family.exists())", "name.select(family & given.first()) = ('KosAla' | 'Nowak')", "name.family.isDistinct()",
    "deceased.exists()", "deceased = false", "deceased is Boolean", "(deceased is dateTime).not()", "deceased.is(boolean)",
    "multipleBirth is integer", "(multipleBirth as integer) >= 2", "multipleBirth.ofType(integer) < 3",
    "birthDate.hasValue()", "birthDate.extension.exists()", "birthDate.extension.url = 'http://a'",
    "'x' in ('y' | 'x')", "('y' | 'x') contains 'x'", "'abc'.substring(1) = 'bc'", "'#' + id = '#a'", "id & nothing = 'a'",
    "'abc'.startsWith('ab') and 'abc'.contains('bc') and 'abc'.matches('[a-c]+')", "'abc'.matches('b').not()",
    "'12'.toInteger() = 12", "12.toString() = '12'", "'a.b'.replaceMatches('\\\\..*', '') = 'a'", "1 + 1 = 2",
    "true xor false", "false implies nothing.exists()", "true or nothing", "(false and nothing).not()",
    "iif(name.exists(), true, false)", "descendants().where(family = 'Kos').count() = 1", "name.given.intersect('Ala' | 'x') = 'Ala'",
    "children().count() > 5", "managingOrganization.resolve().name = 'O'", "contained.id.combine(id).count() = 3",
    "contained.where(('#' + id in %resource.descendants().reference).not()).empty()", "id = %resource.id", "%ucum.startsWith('http')",
    "name.where(family in (%resource.name.family.trace('x'))).count() = 2", "'b' = 'b' and %resource.id = 'a'",
    "(%resource.id = 'b').not() and (%resource.id = 'a')", "%resource.name.count() = 2 and %resource.name.exists()",
    "name.trace('x', family).exists()", "gender.startsWith('x').not()", "multipleBirth = 2.0",
]  # fmt: skip
FALSE = [
    "name.count() = 1", "gender = 'male'", "telecom.value = 'x'", "nothing", "'z' in ('y' | 'x')", "true xor true", "true implies false",
    "true and nothing", "nothing in ('x' | 'y')", "'é'.matches('[a-z]')", "deceased = 0", "name.select(1).isDistinct()",
]  # fmt: skip


@pytest.mark.parametrize("expression", TRUE)
def test_holds(expression: str) -> None:
    assert holds(expression)


@pytest.mark.parametrize("expression", FALSE)
def test_does_not_hold(expression: str) -> None:
    """What comes to nothing is not fulfilled either."""
    assert not holds(expression)


PERIODS = [
    ("2020", "2021", True), ("2021-02", "2021-01", False), ("2021-01-01", "2021-01-01", True),
    ("2021-01-01T10:00:00+02:00", "2021-01-01T09:00:00Z", True), ("2021-01-01T10:00:00Z", "2021-01-01T09:00:00.5Z", False),
    ("2021-01-01T09:00:00.0Z", "2021-01-01T09:00:00Z", True), ("2021", "2021-05", None), ("2022", "2021-05", False),
    ("2021-01-01", "2021-01-01T09:00:00Z", None),
]  # fmt: skip


@pytest.mark.parametrize(("start", "end", "verdict"), PERIODS)
def test_dates(start: str, end: str, verdict: bool | None) -> None:
    node, scope = Node({"start": start, "end": end}, "Period"), Scope(Node({}, "Patient"))
    rule = compiled("start <= end")
    if verdict is None:
        with pytest.raises(Undecided):
            rule(node, scope)
    else:
        assert rule(node, scope) is verdict


def test_quantities_compare_in_one_unit() -> None:
    def verdict(low: dict[str, Any], high: dict[str, Any]) -> bool:
        patient = Node({}, "Patient")
        return compiled("low <= high")(Node({"low": low, "high": high}, "Range"), Scope(patient))

    assert verdict({"value": Exact("1.0"), "unit": "g"}, {"value": 1, "unit": "g"})
    assert not verdict({"value": 2, "unit": "g"}, {"value": 1, "unit": "g"})
    with pytest.raises(Undecided):
        verdict({"value": 2, "unit": "g"}, {"value": 1, "unit": "kg"})


@pytest.mark.parametrize(
    "expression", ["", "a.", "a = ", "(a", "a.nothingSuch()", "a ~ b", "a b", "1 -", "%what", "'a", "a.count(1)"]
)
def test_what_is_not_understood_is_refused(expression: str) -> None:
    with pytest.raises(ExpressionRefused):
        compiled(expression)


def test_what_stands_in_a_node_is_counted_once_with_its_extensions() -> None:
    extensions = [{"url": "http://a", "valueString": "x"}]
    inner = {"resourceType": "Organization", "id": "o", "name": "O"}
    born = {"resourceType": "Patient", "birthDate": "1990", "_birthDate": {"extension": extensions}, "unheard": "of"}
    assert holds("children().count() = 1 and descendants().count() = 4", born)  # date, extension, url, value
    assert holds("children().count() = 1 and birthDate.hasValue().not()", {**born, "birthDate": None})
    assert holds("descendants().count() = 3", {"resourceType": "Patient", "contained": [inner]})
    names = {"resourceType": "Patient", "name": [{"given": ["Ala", None], "_given": [None, {"extension": extensions}]}]}
    assert holds("name.given.count() = 2 and name.given.extension.value = 'x'", names)


def test_what_is_kept_belongs_to_one_resource() -> None:
    rule = compiled("%resource.name.family.count() = 1")
    for count in (1, 2, 1):
        node = Node({"name": [{"family": "Kos"}] * count}, "Patient")
        assert rule(node, Scope(node)) is (count == 1)
    inner = Node({"resourceType": "Organization", "id": "o"}, "Organization")
    outer = Scope(Node({"contained": [inner.value]}, "Patient"))
    of_root = compiled("%rootResource.contained.count() = 1 and %resource.contained.empty()")
    assert of_root(inner, Scope(inner, outer))
    assert not of_root(outer.resource, outer)


def test_every_rule_of_the_table_compiles() -> None:
    table = toml("fhir_rules.toml")["invariants"]
    expressions = [expression for rules in table.values() for _, expression in rules.values()]
    assert len(expressions) > 190
    assert all(compiled(expression) for expression in expressions)
