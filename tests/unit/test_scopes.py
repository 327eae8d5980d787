"""What scopes mean, over all combinations, and which interaction needs what."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.domain.scopes import (
    ResourceScope,
    covered,
    expect_patient,
    expect_scope,
    granted,
    is_scope,
    need,
    read_scope,
)
from obieg.protocol import FhirBinding
from obieg.transactions import TRANSACTIONS

CONTEXTS = ("patient", "user", "system")
LETTERS = ["".join(c) for n in range(1, 6) for c in itertools.combinations("cruds", n)]
scopes = st.builds(
    ResourceScope, st.sampled_from(CONTEXTS), st.sampled_from(["*", "Patient", "List"]), st.sampled_from(LETTERS)
)


def acts(scope: ResourceScope) -> set[tuple[str, str, str]]:
    """Everything that it allows, in a world of three types."""
    types = ["Patient", "List", "Basic"] if scope.resource == "*" else [scope.resource]
    return {(scope.context, kind, letter) for kind in types for letter in scope.letters}


@given(scopes, scopes)
def test_meeting_and_covering_are_those_of_sets(one: ResourceScope, other: ResourceScope) -> None:
    meet = one.meet(other)
    assert (acts(meet) if meet else set()) == acts(one) & acts(other)
    assert one.covers(other) == (acts(other) <= acts(one))
    assert read_scope(str(one)) == one


@given(st.lists(scopes, max_size=5), st.lists(scopes, max_size=5))
def test_nothing_is_granted_beyond_what_is_asked_and_allowed(
    asked: list[ResourceScope], allowed: list[ResourceScope]
) -> None:
    found = granted([str(s) for s in asked], [str(s) for s in allowed], contexts=CONTEXTS)
    given_ = set().union(*(acts(s) for s in map(read_scope, found) if s))
    assert given_ == set().union(*map(acts, asked)) & set().union(*map(acts, allowed))
    if covered([str(s) for s in asked], [str(s) for s in allowed]):
        assert given_ == set().union(*map(acts, asked))


def test_forms() -> None:
    assert read_scope("patient/Patient.read") == ("patient", "Patient", "rs")
    assert read_scope("user/*.write") == ("user", "*", "cud")
    assert read_scope("system/*.*") == ("system", "*", "cruds")
    for text in (
        "", "patient", "patient/", "patient/Patient", "patient/Patient.", "patient/Patient.x", "patient/Patient.sr",
        "patient/Patient.rr", "patient/patient.r", "Patient/Patient.r", "patient/Patient.r ", "patient/Patient.r\n",
        "patient/Patient.rs?category=x", "*/Patient.r", "patient/*/x.r", "system/**.r", "patient/Pat ient.r",
    ):  # fmt: skip
        assert read_scope(text) is None
        assert not is_scope(text)
    assert is_scope("offline_access")
    assert not covered(["openid"], ["*"])


def test_every_interaction_that_is_served_needs_something_known() -> None:
    for transaction in TRANSACTIONS:
        if not isinstance(transaction.binding, FhirBinding):
            continue
        for resource, interaction in itertools.product(transaction.binding.resources, transaction.binding.interactions):
            needed = need(transaction.permission, resource, interaction)
            what = (transaction.id, resource, interaction)
            assert all(needed.resources) or transaction.id == "FHIR-10", what
            assert needed.letters != "cruds", what
            own = interaction in ("$export-status", "$export-file", "delete $export-status")
            assert bool(needed.letters) == (transaction.id != "FHIR-10" and not own), what


def person(*given_: str, patient: str = "", who: str = "1.2#3") -> Requester:
    return Requester(system="app", person=who, patient=patient, scopes=given_)


def test_whose_scopes_they_are() -> None:
    needed = need("patient_index:patient:search", "Patient", "search-type")
    assert expect_scope(needed, person("user/Patient.s")) is False
    assert expect_scope(needed, person("system/*.rs", who="")) is False
    assert expect_scope(needed, person("patient/*.rs", patient="1#2")) is True
    assert expect_scope(needed, person("patient/*.rs", "user/*.s", patient="1#2")) is False
    assert expect_scope(needed, Requester(system="node")) is False
    for caller in (
        person(),
        person("system/*.rs"),
        person("user/*.rs", who=""),
        person("patient/*.rs"),
        person("user/Patient.r"),
        person("user/List.rs"),
        person("openid", "launch"),
    ):
        with pytest.raises(Problem, match="InsufficientScope"):
            expect_scope(needed, caller)
    update = need("patient_index:identity:feed", "Patient", "conditional-update")
    assert expect_scope(update, person("user/Patient.c", "user/*.u")) is False
    with pytest.raises(Problem):
        expect_scope(update, person("user/Patient.u"))
    everything = need("exporter:everything:export", "", "$export")
    with pytest.raises(Problem):
        expect_scope(everything, person("patient/*.rs", patient="1#2"))
    with pytest.raises(Problem):
        expect_scope(everything, person("user/Patient.rs"))


def test_an_export_of_some_types_needs_those() -> None:
    def allowed(scope: str, *types: str, interaction: str = "$export") -> bool:
        needed = need("exporter:everything:export", "", interaction, [("_type", t) for t in types])
        try:
            expect_scope(needed, person(*scope.split(), who=""))
        except Problem:
            return False
        return True

    assert allowed("system/Patient.rs", "Patient")
    assert allowed("system/Patient.rs system/List.rs", "Patient", "List")
    assert allowed("system/Patient.rs system/List.rs", "Patient,List")
    assert allowed("system/*.rs")
    assert not allowed("system/Patient.rs")
    assert not allowed("system/Patient.rs", "Patient", "List")
    assert not allowed("system/Patient.rs", "Patient,List")
    assert not allowed("system/Patient.r", "Patient")
    assert not allowed("system/Patient.rs", "")
    assert allowed("system/Patient.r", interaction="$export-status")
    assert not allowed("openid", interaction="$export-status")


def test_one_patient_only() -> None:
    reading = need("document_registry:object:find", "List", "search-type")
    writing = need("document_repository:document:provide", "", "transaction")
    about_nobody = need("provider_directory:resource:search", "Organization", "read")
    caller = person("patient/*.cruds", patient="1.2#a")

    def allowed(needed: object, *named: str, served: bool) -> bool:
        try:
            expect_patient(needed, caller, named, "1.2", served=served)  # type: ignore[arg-type]
        except Problem:
            return False
        return True

    mine, other, elsewhere = "a^^^&1.2&ISO", "b^^^&1.2&ISO", "a^^^&1.3&ISO"
    assert allowed(reading, served=False)
    assert not allowed(reading, served=True)
    assert allowed(reading, mine, served=True)
    assert allowed(reading, mine, elsewhere, served=True)
    assert not allowed(reading, elsewhere, served=True)
    assert not allowed(reading, mine, other, served=True)
    assert not allowed(reading, other, served=False)
    assert not allowed(writing, served=False)
    assert not allowed(writing, elsewhere, served=False)
    assert allowed(writing, mine, served=False)
    assert allowed(about_nobody, served=True)
    assert not allowed(about_nobody, other, served=True)
