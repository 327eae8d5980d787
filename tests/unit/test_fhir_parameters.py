"""How a search asks to be answered: one way for every type, by the tables of codes/fhir.toml."""

from __future__ import annotations

from typing import Any

import pytest

from obieg.codes.load import toml
from obieg.domain.problems import Problem
from obieg.mapping.fhir_capability import capability_statement
from obieg.mapping.fhir_parameters import COUNT_MAX, Search, search
from obieg.protocol import FhirRequest
from obieg.transactions import TRANSACTIONS

TABLE: dict[str, Any] = toml("fhir.toml")


def asked(kind: str, *parameters: tuple[str, str], strict: bool = False) -> Search:
    return search(
        FhirRequest(interaction="search-type", resource=kind, parameters=parameters, strict=strict), tell=True
    )


def refused(kind: str, *parameters: tuple[str, str]) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as problem:
        asked(kind, *parameters)
    return [(f.code, f.location) for f in problem.value.findings]


@pytest.mark.parametrize("kind", TABLE["answer"])
def test_all_that_is_listed_is_obeyed(kind: str) -> None:
    row = TABLE["answer"][kind]
    assert asked(kind).sort == row["by"]
    for name in row["sort"]:
        for said in (name, f"-{name}"):
            found = asked(kind, ("_sort", said))
            assert (found.sort, found.used) == (said, (("_sort", said),))
    for way in ("include", "revinclude"):
        for named in row[way]:
            of, _, parameter = named.partition(":")
            ends = ["", ":", *(f":{target}" for target in TABLE["search"][of][parameter]["target"].split())]
            for end in ends:
                given = (f"_{way}", f"{named}{end}")
                found = asked(kind, given)
                assert (found.inclusions, found.used) == (((f"_{way}", named),), (given,))


@pytest.mark.parametrize("kind", TABLE["answer"])
@pytest.mark.parametrize(
    "given",
    [
        ("_sort", "colour"),
        ("_sort:desc", "_id"),
        ("_include", "*"),
        ("_include", "Basic:author"),
        ("_revinclude", "Provenance:target"),
        ("_include:recurse", "List:item"),
    ],
)
def test_nothing_else_is(kind: str, given: tuple[str, str]) -> None:
    assert refused(kind, given) == [("UnsupportedQueryField", f"http.{given[0].partition(':')[0]}")]


@pytest.mark.parametrize("kind", TABLE["answer"])
def test_what_is_included_includes_more_where_the_table_says_so(kind: str) -> None:
    if TABLE["answer"][kind].get("iterate"):
        given = ("_include:iterate", "Location:partof")
        assert asked(kind, given).inclusions == (given,)
        assert refused(kind, ("_include:iterate", "List:item"))
    else:
        for way in ("include", "revinclude"):
            for named in TABLE["answer"][kind][way]:
                assert refused(kind, (f"_{way}:iterate", named)) == [("UnsupportedQueryField", f"http._{way}")]


def test_one_order_only() -> None:
    assert refused("List", ("_sort", "date"), ("_sort", "-date")) == [("UnsupportedQueryField", "http._sort")]
    assert asked("List", ("_sort", "date"), ("_sort", "date")).sort == "date"


def test_another_target_is_refused() -> None:
    assert refused("Organization", ("_include", "Organization:endpoint:Location"))
    assert refused("DocumentReference", ("_include", "DocumentReference:relatesto:List"))


@pytest.mark.parametrize("kind", ["Patient", "List", "Organization", "Subscription", "Basic"])
def test_a_page_that_is_cut_short_says_so(kind: str) -> None:
    found = asked(kind, ("_count", str(COUNT_MAX + 1)))
    assert (found.count, found.used) == (COUNT_MAX, (("_count", str(COUNT_MAX)),))
    [warning] = found.warnings
    assert (warning.code, warning.location) == ("LimitExceeded", "http._count")
    assert asked(kind, ("_count", str(COUNT_MAX))).warnings == ()


def test_types_that_are_not_in_the_table_are_neither_sorted_nor_accompanied() -> None:
    for given in (("_sort", "family"), ("_include", "Patient:link")):
        [warning] = asked("Patient", given).warnings
        assert warning.location == f"http.{given[0]}"
        with pytest.raises(Problem):
            asked("Patient", given, strict=True)


def test_the_capability_statement_says_the_same() -> None:
    statement = capability_statement(TRANSACTIONS, "http://here/fhir", made_at="2026-01-01", version="1")
    said = {r["type"]: r for r in statement["rest"][0]["resource"]}
    for kind, row in TABLE["answer"].items():
        for element, way in (("searchInclude", "include"), ("searchRevInclude", "revinclude")):
            assert said[kind].get(element, []) == row[way]
            assert said[kind].get(element) != []  # FHIR knows no empty lists
        served = {p["name"] for p in said[kind]["searchParam"]}
        assert served.isdisjoint(n for n, r in TABLE["search"][kind].items() if "unserved" in r)
    assert [kind for kind, resource in said.items() if resource.get("conditionalCreate")] == ["DocumentReference"]
