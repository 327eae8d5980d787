"""Parameters of stored queries as senders write them (ITI TF-2:3.18.4.1.2.3.5)."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metadata_strategies import texts

from obieg.codes.load import toml
from obieg.domain.problems import Problem
from obieg.domain.queries import StoredQuery
from obieg.mapping.ebrim import RIM
from obieg.mapping.ebrs import QUERY
from obieg.mapping.stored_query import PATIENTS_MAX, read_stored_query
from obieg.wire.xml import parse_message

TABLE = toml("stored_queries.toml")
UUID = "urn:uuid:00000000-1111-4222-8333-444444444444"
APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
FIND = {"XDSDocumentEntryPatientId": "'1^^^&1.2&ISO'", "XDSDocumentEntryStatus": f"('{APPROVED}')"}


def asked(name: str, parameters: dict[str, Any], returns: str = "LeafClass", dollar: str = "$") -> StoredQuery:
    slots = []
    for parameter, given_ in parameters.items():
        for instance in given_ if isinstance(given_, list) else [given_]:
            inner = "".join(
                f"<Value>{escape(v)}</Value>" for v in (instance if isinstance(instance, tuple) else (instance,))
            )
            slots.append(f'<Slot name="{dollar}{parameter}"><ValueList>{inner}</ValueList></Slot>')
    xml = (
        f'<q:AdhocQueryRequest xmlns:q="{QUERY}" xmlns="{RIM}"><q:ResponseOption returnType="{returns}"/>'
        f'<AdhocQuery id="{TABLE[name].get("id", UUID)}">{"".join(slots)}</AdhocQuery></q:AdhocQueryRequest>'
    )
    return read_stored_query(parse_message(xml.encode()), TABLE[name].get("transaction", "ITI-18"))


def refused(name: str, parameters: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as problem:
        asked(name, parameters, **more)
    return [(f.code, f.location) for f in problem.value.findings]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("'a'", ["a"]),
        ("('a')", ["a"]),
        ("('a','b')", ["a", "b"]),
        (" ( 'a' , 'b' ) ", ["a", "b"]),
        ("('a')\n", ["a"]),
        ("'O''Hara'", ["O'Hara"]),
        ("''''", ["'"]),
        ("('a,b','c)')", ["a,b", "c)"]),
        ("('''a''','''')", ["'a'", "'"]),
        ("123", ["123"]),
        ("(1,2)", ["1", "2"]),
        ("(1,'2')", ["1", "2"]),
        (("'a'", "('b','c')"), ["a", "b", "c"]),
    ],
)
def test_values(text: Any, values: list[str]) -> None:
    query = asked("GetDocuments", {"XDSDocumentEntryUniqueId": text})
    assert query.parameters["unique_ids"] == values


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=5))
def test_any_text_is_quoted_and_read_back(values: list[str]) -> None:
    text = "(" + ",".join("'" + v.replace("'", "''") + "'" for v in values) + ")"
    # XML itself turns a carriage return into a line feed unless it is escaped.
    values = [v.replace("\r\n", "\n").replace("\r", "\n") for v in values]
    assert asked("GetDocuments", {"XDSDocumentEntryUniqueId": text}).parameters["unique_ids"] == values


@pytest.mark.parametrize(
    "text", ["a", "'a", "a'", "('a'", "'a')", "('a' 'b')", "('a',,'b')", "(a)", "'a'b", "(1.5)", "'a';", "١٢", "((1))"]
)
def test_values_that_are_none(text: str) -> None:
    found = refused("GetDocuments", {"XDSDocumentEntryUniqueId": text})
    assert found == [("XDSRegistryError", "AdhocQuery: $XDSDocumentEntryUniqueId")]


@pytest.mark.parametrize("text", ["", "()", " "])
def test_no_value(text: str) -> None:
    found = refused("GetDocuments", {"XDSDocumentEntryUniqueId": text})
    assert ("XDSStoredQueryMissingParam", "AdhocQuery: $XDSDocumentEntryUniqueId") in found


def test_and_of_ors() -> None:
    query = asked("FindDocuments", {**FIND, "XDSDocumentEntryEventCodeList": ["('a^^s','b^^s')", ("'c^^s'", "'d^^s'")]})
    assert query.parameters["event_code_list"] == ["a^^s\x1fb^^s", "c^^s\x1fd^^s"]


def test_wildcards_keep_backslashes_literal() -> None:
    query = asked("FindDocuments", {**FIND, "XDSDocumentEntryAuthorPerson": r"('%\T\%','_')"})
    assert query.parameters["author_person"] == [r"%\\T\\%", "_"]


@pytest.mark.parametrize("style", ["'{}'", "{}", "('{}')"])
@pytest.mark.parametrize(
    ("given_", "filled"),
    [("2024", "20240101000000"), ("202406", "20240601000000"), ("20240630235959", "20240630235959")],
)
def test_times(style: str, given_: str, filled: str) -> None:
    query = asked("FindDocuments", {**FIND, "XDSDocumentEntryCreationTimeFrom": style.format(given_)})
    assert query.parameters["creation_from"] == filled


def test_status_and_type() -> None:
    query = asked("FindDocuments", FIND)
    assert (query.parameters["status"], query.parameters["entry_type"]) == (["A"], ["S"])
    assert query.only_status_and_type
    assert str(query.patient) == "1^^^&1.2&ISO"
    narrowed = asked("FindDocuments", {**FIND, "XDSDocumentEntryClassCode": "('a^^b')"}, "ObjectRef")
    assert not narrowed.only_status_and_type
    assert not narrowed.leaf


def test_names_without_dollar() -> None:
    assert asked("FindDocuments", FIND, dollar="").patient is not None


def test_unknown_parameters_are_ignored() -> None:
    assert asked("FindDocuments", {**FIND, "$Something": "'x'"}).name == "FindDocuments"


@pytest.mark.parametrize(
    ("parameters", "code", "where"),
    [
        ({"XDSDocumentEntryPatientId": "'1'"}, "XDSRegistryError", "$XDSDocumentEntryPatientId"),
        ({"XDSDocumentEntryPatientId": "('1^^^&1.2&ISO','2^^^&1.2&ISO')"}, "XDSStoredQueryParamNumber", "$XDSDocumentEntryPatientId"),
        ({"XDSDocumentEntryStatus": "('Approved')"}, "XDSRegistryError", "$XDSDocumentEntryStatus"),
        ({"XDSDocumentEntryStatus": [f"('{APPROVED}')"] * 2}, "XDSStoredQueryParamNumber", "$XDSDocumentEntryStatus"),
        ({"XDSDocumentEntryClassCode": "('a')"}, "XDSRegistryError", "$XDSDocumentEntryClassCode"),
        ({"XDSDocumentEntryClassCode": "('^^s')"}, "XDSRegistryError", "$XDSDocumentEntryClassCode"),
        ({"XDSDocumentEntryCreationTimeTo": "'2024-01-01'"}, "XDSRegistryError", "$XDSDocumentEntryCreationTimeTo"),
        ({"XDSDocumentEntryType": "('urn:x')"}, "XDSRegistryError", "$XDSDocumentEntryType"),
    ],
)  # fmt: skip
def test_parameters_of_another_form(parameters: dict[str, Any], code: str, where: str) -> None:
    assert refused("FindDocuments", {**FIND, **parameters}) == [(code, f"AdhocQuery: {where}")]


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if "id" in row])
def test_every_query_without_parameters(name: str) -> None:
    assert {code for code, _ in refused(name, {})} == {"XDSStoredQueryMissingParam"}


@pytest.mark.parametrize("name", [n for n, row in TABLE.items() if "one_of" in row])
def test_one_of_several(name: str) -> None:
    choice = TABLE[name]["one_of"]
    rest = {"AssociationTypes": "('urn:ihe:iti:2007:AssociationType:RPLC')"} if name == "GetRelatedDocuments" else {}
    values = {p: "'1.2'" if p.endswith("UniqueId") else f"'{UUID}'" for p in choice}
    for parameter, value in values.items():
        assert asked(name, {parameter: value, **rest}).name == name
    assert refused(name, {**values, **rest}) == [("XDSStoredQueryParamNumber", "AdhocQuery")]


def test_return_types() -> None:
    for returns in ("RegistryObject", "RepositoryItem", ""):
        assert refused("FindDocuments", FIND, returns=returns) == [("XDSRegistryError", "ResponseOption")]


def test_too_many_values() -> None:
    ids = "(" + ",".join(["'1.2'"] * 10_001) + ")"
    assert refused("GetDocuments", {"XDSDocumentEntryUniqueId": ids}) == [
        ("XDSStoredQueryParamNumber", "AdhocQuery: $XDSDocumentEntryUniqueId")
    ]


def test_each_transaction_has_its_own_queries() -> None:
    several = TABLE["FindDocumentsForMultiplePatients"]["id"]
    for identifier, transaction in ((several, "ITI-18"), (TABLE["FindDocuments"]["id"], "ITI-51")):
        xml = (
            f'<q:AdhocQueryRequest xmlns:q="{QUERY}" xmlns="{RIM}"><q:ResponseOption returnType="LeafClass"/>'
            f'<AdhocQuery id="{identifier}"/></q:AdhocQueryRequest>'
        )
        with pytest.raises(Problem) as problem:
            read_stored_query(parse_message(xml.encode()), transaction)
        assert [f.code for f in problem.value.findings] == ["XDSUnknownStoredQuery"]


STATUS = {"XDSDocumentEntryStatus": f"('{APPROVED}')"}


def test_several_patients() -> None:
    query = asked(
        "FindDocumentsForMultiplePatients",
        {**STATUS, "XDSDocumentEntryPatientId": ["('1^^^&1.2&ISO','2^^^&1.2&ISO')"]},
    )
    assert query.patient is None
    assert [str(p) for p in query.patients] == ["1^^^&1.2&ISO", "2^^^&1.2&ISO"]
    nobody = asked(
        "FindFoldersForMultiplePatients", {"XDSFolderStatus": f"('{APPROVED}')", "XDSFolderCodeList": "'a^^b'"}
    )
    assert nobody.patients == ()
    assert nobody.candidates == "patients_of_folders"
    many = ",".join(f"'{n}^^^&1.2&ISO'" for n in range(PATIENTS_MAX + 1))
    assert refused("FindDocumentsForMultiplePatients", {**STATUS, "XDSDocumentEntryPatientId": f"({many})"}) == [
        ("XDSStoredQueryParamNumber", "AdhocQuery: $XDSDocumentEntryPatientId")
    ]


@pytest.mark.parametrize("name", ["FindDocumentsForMultiplePatients", "FindDocumentsByReferenceIdForMultiplePatients"])
def test_a_query_for_everybody_must_be_narrow(name: str) -> None:
    parameters = {**STATUS, "XDSDocumentEntryTypeCode": "'a^^b'"}
    assert {code for code, _ in refused(name, parameters)} == {"XDSStoredQueryMissingParam"}
    assert asked(name, {**parameters, "XDSDocumentEntryClassCode": "'a^^b'", "XDSDocumentEntryReferenceIdList": "'x'"})


def test_a_title_is_needed_to_find_by_title() -> None:
    assert refused("FindDocumentsByTitle", FIND) == [
        ("XDSStoredQueryMissingParam", "AdhocQuery: $XDSDocumentEntryTitle")
    ]
    query = asked("FindDocumentsByTitle", {**FIND, "XDSDocumentEntryTitle": "('Karta%')"})
    assert query.parameters["title"] == ["Karta%"]
    assert not query.only_status_and_type


def test_excluding() -> None:
    query = asked(
        "FindDocumentsExclude",
        {
            **FIND,
            "XDSDocumentEntryClassCodeExclude": "('a^^b')",
            "XDSDocumentEntryEventCodeListExclude": ["('c^^d','e^^f')", "('g^^h')"],
            "XDSDocumentEntryTypeExclude": "('urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248')",
        },
    )
    assert query.name == "FindDocumentsExclude"
    assert query.parameters["class_code_exclude"] == ["a^^b"]
    assert query.parameters["event_code_list_exclude"] == ["c^^d\x1fe^^f", "g^^h"]
    assert query.parameters["entry_type"] == ["S"]
    both = {"XDSDocumentEntryClassCodeExclude": "('a^^b')", "XDSDocumentEntryClassCode": "('c^^d')"}
    assert refused("FindDocumentsExclude", {**FIND, **both}) == [
        ("XDSStoredQueryParamNumber", "AdhocQuery: $XDSDocumentEntryClassCodeExclude")
    ]


def test_excluding_is_not_known_by_other_parameters() -> None:
    assert refused("FindDocumentsExclude", {**FIND, "XDSDocumentEntryReferenceIdList": "'x'"}) == [
        ("XDSUnknownStoredQuery", "AdhocQuery/@id")
    ]


def test_of_many_wrong_values_the_first_are_told() -> None:
    statuses = "(" + ",".join(["'a'"] * 5_000) + ")"
    found = refused("FindDocuments", {**FIND, "XDSDocumentEntryStatus": statuses})
    assert found == [("XDSRegistryError", "AdhocQuery: $XDSDocumentEntryStatus")] * 20
