"""Patient of FHIR and the domain's persons, both ways; searches and feeds as the index understands them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obieg.codes.load import toml
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import Candidate, Candidates, DemographicsQuery, FeedEvent
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.domain.problems import Finding, Problem
from obieg.mapping import pdqm, pixm
from obieg.mapping.fhir_patient import STATED, logical_id, patient_value, read_patient, write_patient
from obieg.protocol import FhirRequest
from obieg.wire import fhir_xml
from obieg.wire.fhir_elements import check

OURS, HOSPITAL = "1.2.616.1", "1.2.616.2"
PESEL = toml("national/pl/pik.toml")["roots"]["pesel"]
BASE = "http://node/fhir"
WHOLE = Demographics(
    names=(
        PersonName("Nowak-Kowalska", ("Anna", "Maria"), prefix="dr", use="L"),
        PersonName("Nowak", ("Anna",), use="M"),
        PersonName("Nowak", ("Ania",), use="N"),
    ),
    birth_date="19440514",
    sex="F",
    addresses=(
        Address("Długa 1/2", "Kraków", "małopolskie", "31-147", "PL", "H"),
        Address("skr. 5", "Tarnów", use="M"),
    ),
    telecoms=(
        Telecom("+48 600 700 800", "PRN", "CP"),
        Telecom("12 345 67 89", "PRN", "PH"),
        Telecom("anna@example.org", "NET", "Internet"),
    ),
    mother_name=PersonName("Wiśniewska", use="M"),
    multiple_birth=True,
    birth_order=2,
    birth_place="Zakopane",
    language="pl",
    marital_status="W",
    citizenship="PL",
    religion="CAT",
    deceased=True,
    deceased_at="20240102",
)


def candidate(demographics: Demographics = WHOLE, **more: Any) -> Candidate:
    patient = PatientId("R1", OURS)
    return Candidate(
        patient=patient, identifiers=(PatientId("17", HOSPITAL), patient), demographics=demographics, **more
    )


def test_a_person_is_the_same_after_both_ways() -> None:
    resource = write_patient(candidate(version=3, updated_at=datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)))
    assert check(resource) == []
    assert resource["meta"]["versionId"] == "3"
    assert resource["meta"]["lastUpdated"] == "2026-01-02T03:04:05.678Z"
    findings: list[Finding] = []
    read = read_patient(fhir_xml.read(fhir_xml.write(resource)), findings)
    assert findings == []
    assert read.demographics == WHOLE
    assert read.identifiers == (PatientId("17", HOSPITAL), PatientId("R1", OURS))
    assert read.locations == ("Patient.identifier[0]", "Patient.identifier[1]")


_TEXT = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=8)
_WORDS = st.lists(_TEXT, max_size=2).map(" ".join)
_CODE = st.sampled_from(["", "L", "M", "A", "B", "N", "H", "C", "PH", "CP", "PRN", "WPN", "NET", "Internet", "??", "X"])
_NAMES = st.builds(PersonName, _WORDS, st.lists(_TEXT, max_size=3).map(tuple), _WORDS, _WORDS, _CODE)


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        Demographics,
        names=st.lists(_NAMES, max_size=3).map(tuple),
        birth_date=st.text("0123456789-x ", max_size=12),
        sex=st.sampled_from(["", "M", "F", "O", "U", "A", "N", "?"]),
        addresses=st.lists(st.builds(Address, _WORDS, _WORDS, _WORDS, _WORDS, _WORDS, _CODE), max_size=2).map(tuple),
        telecoms=st.lists(st.builds(Telecom, _WORDS, _CODE, _CODE, _TEXT, _TEXT, _TEXT), max_size=2).map(tuple),
        mother_name=st.none() | _NAMES,
        multiple_birth=st.none() | st.booleans(),
        birth_order=st.none() | st.integers(0, 9),
        birth_place=_WORDS,
        language=_TEXT,
        marital_status=_CODE,
        religion=_CODE,
        citizenship=_CODE,
        deceased=st.none() | st.booleans(),
        deceased_at=st.text("0123456789", max_size=14),
    )
)
def test_whatever_sources_say_becomes_a_resource(demographics: Demographics) -> None:
    resource = write_patient(candidate(_without_blanks(demographics)))
    assert check(resource) == []
    read_patient(resource, [])
    assert fhir_xml.write(fhir_xml.read(fhir_xml.write(resource))) == fhir_xml.write(resource)


def _without_blanks(value: Any) -> Any:
    """Records hold trimmed values."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, tuple):
        return tuple(_without_blanks(v) for v in value)
    if isinstance(value, msgspec.Struct):
        return type(value)(**{f: _without_blanks(getattr(value, f)) for f in value.__struct_fields__})
    return value


@given(st.text(min_size=1, max_size=20))
def test_a_logical_id_stands_for_one_patient_id(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return
    logical = logical_id(value)
    assert patient_value(logical) == value
    assert set(logical) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.")
    assert logical_id("IHERED-994") == "IHERED-994"


@pytest.mark.parametrize("logical", [".", ".4", ".41", ".zz", "a.2e", ".C5", "a..2E"])
def test_an_id_that_we_would_not_have_written_names_nobody(logical: str) -> None:
    assert patient_value(logical) == "" or logical_id(patient_value(logical)) == logical
    assert patient_value(".41") == ""


# ITI-78 ----------------------------------------------------------------------------------------------------------


def asked(*parameters: tuple[str, str], strict: bool = False) -> pdqm.PatientSearch:
    request = FhirRequest(
        interaction="search-type", resource="Patient", parameters=parameters, base=BASE, strict=strict,
        affinity_domain=OURS,
    )  # fmt: skip
    read = pdqm.read_request(request)
    assert isinstance(read, pdqm.PatientSearch)
    return read


_ALTERNATIVE = DemographicsQuery(family="B", sex="M", prefix=True)
QUERIES: list[tuple[list[tuple[str, str]], dict[str, Any]]] = [
    ([("family", "Now"), ("given", "Jan")], {"family": "Now", "given": "Jan", "prefix": True}),
    ([("family:exact", "Nowak")], {"family": "Nowak", "exact": True}),
    ([("family:exact", "Nowak"), ("given", "J")], {"family": "Nowak", "given": "J"}),
    ([("given", "Jan"), ("given", "Maria")], {"given": "Jan Maria", "prefix": True}),
    ([("family", r"a\,b\|c\\")], {"family": "a,b|c\\", "prefix": True}),
    ([("identifier", f"urn:oid:{HOSPITAL}|17")], {"identifiers": (PatientId("17", HOSPITAL),), "prefix": True}),
    ([("identifier", "17")], {"identifiers": (PatientId("17", ""),), "prefix": True}),
    (
        [("identifier", f"urn:oid:{HOSPITAL}|17,urn:oid:{PESEL}|4")],
        {"identifiers": (PatientId("17", HOSPITAL), PatientId("4", PESEL)), "prefix": True},
    ),
    ([("identifier", "http://x|17")], {"identifiers": (PatientId("17", "http://x"),), "prefix": True}),
    (
        [("identifier", f"urn:oid:{HOSPITAL}|,urn:oid:{PESEL}|")],
        {"authorities": (HOSPITAL, PESEL), "authority_locations": ("http.identifier",) * 2, "prefix": True},
    ),
    ([("_id", "R1")], {"identifiers": (PatientId("R1", OURS),), "prefix": True}),
    ([("birthdate", "1970")], {"born_from": "1970", "born_until": "1970", "prefix": True}),
    ([("birthdate", "1970-02")], {"born_from": "197002", "born_until": "197002", "prefix": True}),
    ([("birthdate", "eq1970-02-03")], {"born_from": "19700203", "born_until": "19700203", "prefix": True}),
    ([("birthdate", "gt1999-12-31")], {"born_from": "20000101", "prefix": True}),
    ([("birthdate", "sa1999")], {"born_from": "2000", "prefix": True}),
    ([("birthdate", "lt2000-01")], {"born_until": "199912", "prefix": True}),
    ([("birthdate", "eb2000-01-01")], {"born_until": "19991231", "prefix": True}),
    (
        [("birthdate", "ge1970"), ("birthdate", "le1971-05")],
        {"born_from": "1970", "born_until": "197105", "prefix": True},
    ),
    ([("birthdate", "ge1970"), ("birthdate", "ge1980")], {"born_from": "1980", "prefix": True}),
    ([("gender", "female")], {"sex": "F", "prefix": True}),
    ([("gender", "http://hl7.org/fhir/administrative-gender|male")], {"sex": "M", "prefix": True}),
    ([("active", "false")], {"active": False, "prefix": True}),
    ([("active", "true,false")], {"active": None, "prefix": True}),
    ([("telecom", "phone|600 700")], {"telecom": "600 700", "prefix": True}),
    ([("telecom", "600")], {"telecom": "600", "prefix": True}),
    ([("mothersMaidenName", "Wiś")], {"mother_family": "Wiś", "prefix": True}),
    ([("address", "Długa")], {"address": "Długa", "prefix": True}),
    (
        [("address-city", "K"), ("address-state", "m"), ("address-postalcode", "31"), ("address-country", "PL")],
        {"city": "K", "state": "m", "postal_code": "31", "country": "PL", "prefix": True},
    ),
    ([("_count", "5"), ("family", "No")], {"count": 5, "family": "No", "prefix": True}),
    ([("_count", "1000000000"), ("family", "No")], {"count": 200, "family": "No", "prefix": True}),
    ([("family", ""), ("given", "Jan"), ("colour", "red")], {"given": "Jan", "prefix": True}),
    (
        [("family", "A,B"), ("gender", "male")],
        {"family": "A", "sex": "M", "prefix": True, "alternatives": (_ALTERNATIVE,)},
    ),
]


@pytest.mark.parametrize(("parameters", "expected"), QUERIES)
def test_a_search_as_the_index_understands_it(parameters: list[tuple[str, str]], expected: dict[str, Any]) -> None:
    query = asked(*parameters).query
    without = [msgspec.structs.replace(one, text=b"") for one in query.alternatives]
    assert msgspec.structs.replace(query, text=b"", alternatives=tuple(without)) == DemographicsQuery(**expected)


REFUSED_SEARCHES = [
    ([("family:contains", "ow")], "UnsupportedQueryField", "http.family"),
    ([("family:missing", "true")], "UnsupportedQueryField", "http.family"),
    ([("gender:not", "male")], "UnsupportedQueryField", "http.gender"),
    ([("birthdate", "ne1970")], "UnsupportedQueryField", "http.birthdate"),
    ([("birthdate", "ap1970")], "UnsupportedQueryField", "http.birthdate"),
    ([("birthdate", "1970-13")], "DataTypeError", "http.birthdate"),
    ([("birthdate", "1970-02-30")], "DataTypeError", "http.birthdate"),
    ([("birthdate", "yesterday")], "DataTypeError", "http.birthdate"),
    ([("gender", "M")], "TableValueNotFound", "http.gender"),
    ([("active", "yes")], "DataTypeError", "http.active"),
    ([("_count", "-1")], "DataTypeError", "http._count"),
    ([("_count", "many")], "DataTypeError", "http._count"),
    ([("family", "A"), ("family", "B")], "UnsupportedQueryField", "http.family"),
    ([("family", ",".join("abcdefg")), ("given", "a,b,c")], "UnsupportedQueryField", "http.family"),
    ([("identifier", "urn:oid:1.2|,urn:oid:1.2|3")], "UnsupportedQueryField", "http.identifier"),
    ([("identifier", "http://x|")], "UnknownKeyIdentifier", "http.identifier"),
    ([("family", "A" * 501)], "DataTypeError", "http.family"),
    ([("_id", ",".join("abc" * 40))], "LimitExceeded", "http"),
]


@pytest.mark.parametrize(("parameters", "code", "location"), REFUSED_SEARCHES)
def test_a_search_that_cannot_be_obeyed_is_refused(parameters: list[tuple[str, str]], code: str, location: str) -> None:
    with pytest.raises(Problem) as problem:
        asked(*parameters)
    assert [(f.code, f.location) for f in problem.value.findings] == [(code, location)]


def test_strict_handling_refuses_what_lenient_leaves_out() -> None:
    lenient = asked(("family", "No"), ("colour", "red"), ("_lastUpdated", "gt2020"), ("_summary", "text"))
    assert lenient.search.used == (("family", "No"),)
    assert [(f.code, f.location, f.warning) for f in lenient.search.warnings] == [
        ("UnsupportedQueryField", "http._lastUpdated", True)
    ]
    with pytest.raises(Problem) as problem:
        asked(("family", "No"), ("colour", "red"), ("_lastUpdated", "gt2020"), strict=True)
    assert {f.location for f in problem.value.findings} == {"http.colour", "http._lastUpdated"}


def test_all_identifiers_and_exact_spelling_are_asked_of_what_the_index_finds() -> None:
    search = asked(
        ("identifier", f"urn:oid:{HOSPITAL}|17"), ("identifier", f"urn:oid:{OURS}|R1"), ("family:exact", "Nowak")
    )
    request = FhirRequest(interaction="search-type", resource="Patient", base=BASE, request_id="1")
    other = Candidate(PatientId("R2", OURS), (PatientId("17", HOSPITAL),), WHOLE)
    shouted = candidate(Demographics(names=(PersonName("NOWAK"),)))
    body = pdqm.write_page((search, Candidates((candidate(), other, shouted), 3)), request).body
    assert body is not None
    assert body["total"] == 1
    assert [e["resource"]["id"] for e in body["entry"]] == ["R1"]


def test_a_capped_answer_says_so_and_leads_on() -> None:
    search = asked(("family", "No"), ("_count", "1"))
    request = FhirRequest(interaction="search-type", resource="Patient", base=BASE, request_id="7")
    page = Candidates((candidate(score=93),), 500, capped=True, cursor="c.1")
    body = pdqm.write_page((search, page), request).body
    assert body is not None
    assert check(body) == []
    assert body["link"] == [
        {"relation": "self", "url": f"{BASE}/Patient?family=No&_count=1"},
        {"relation": "next", "url": f"{BASE}/Patient?family=No&_count=1&_cursor=c.1"},
    ]
    assert [e["search"]["mode"] for e in body["entry"]] == ["match", "outcome"]
    assert str(body["entry"][0]["search"]["score"]) == "0.93"
    assert body["entry"][1]["resource"]["issue"][0]["severity"] == "warning"
    counted = pdqm.write_page((asked(("family", "No"), ("_summary", "count")), page), request).body
    assert counted is not None
    assert counted["total"] == 500
    assert all(e["search"]["mode"] == "outcome" for e in counted["entry"])


# ITI-104 ---------------------------------------------------------------------------------------------------------

NAMED = ("identifier", f"urn:oid:{HOSPITAL}|17")


def put(body: dict[str, Any] | None, *parameters: tuple[str, str], **more: Any) -> pixm.IdentityFeed:
    assert body is None or check(body) == []
    interaction = "conditional-update" if body else "conditional-delete"
    return pixm.read_feed(
        FhirRequest(
            interaction=interaction, resource="Patient", parameters=parameters or (NAMED,), body=body, base=BASE,
            affinity_domain=OURS, **more,
        )
    )  # fmt: skip


def patient(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "identifier": [
            {"system": f"urn:oid:{PESEL}", "value": "44051401458"},
            {"system": f"urn:oid:{HOSPITAL}", "value": "17"},
        ],
        "name": [{"family": "Nowak"}],
        **more,
    }


def test_a_put_is_an_update_that_says_everything() -> None:
    feed = put(patient(meta={"source": "HIS"}), if_match="3")
    assert feed.if_match == "3"
    assert feed.feed.event is FeedEvent.UPDATE
    assert feed.feed.identifiers == (PatientId("17", HOSPITAL), PatientId("44051401458", PESEL))
    assert feed.feed.identifier_locations == ("Patient.identifier[1]", "Patient.identifier[0]")
    assert feed.feed.stated == STATED
    assert feed.feed.source == "HIS"


@pytest.mark.parametrize(
    ("other", "survivor"),
    [
        ({"identifier": {"system": f"urn:oid:{HOSPITAL}", "value": "18"}}, PatientId("18", HOSPITAL)),
        ({"reference": "Patient/R1"}, PatientId("R1", OURS)),
        ({"reference": f"{BASE}/Patient/R.201"}, PatientId("R 1", OURS)),
    ],
)
def test_replaced_by_is_a_merge(other: dict[str, Any], survivor: PatientId) -> None:
    feed = put(patient(active=False, link=[{"other": other, "type": "replaced-by"}])).feed
    assert feed.event is FeedEvent.MERGE
    assert (feed.identifiers, feed.merged) == ((survivor,), (PatientId("17", HOSPITAL),))
    assert feed.stated == ()
    assert feed.merged_locations == ("Patient.identifier[1]",)


def test_a_delete_is_a_removal() -> None:
    feed = put(None).feed
    assert (feed.event, feed.identifiers) == (FeedEvent.REMOVE, (PatientId("17", HOSPITAL),))


LINK = {"other": {"identifier": {"system": f"urn:oid:{HOSPITAL}", "value": "18"}}, "type": "replaced-by"}
REFUSED_FEEDS: list[tuple[dict[str, Any], tuple[tuple[str, str], ...], tuple[str, str]]] = [
    (patient(), (("identifier", f"urn:oid:{HOSPITAL}|18"),), ("RuleBroken", "Patient.identifier")),
    (patient(), (("identifier", "17"),), ("RequiredFieldMissing", "http.identifier.system")),
    (patient(), (("identifier", "http://x|17"),), ("UnknownKeyIdentifier", "http.identifier.system")),
    (patient(), (NAMED, NAMED), ("DataTypeError", "http.identifier")),
    (patient(), (("family", "x"), NAMED), ("UnsupportedQueryField", "http.family")),
    (patient(), (("identifier", ""),), ("RequiredFieldMissing", "http.identifier")),
    (patient(active=False), (NAMED,), ("RuleBroken", "Patient.active")),
    (patient(link=[LINK]), (NAMED,), ("RuleBroken", "Patient.active")),
    (patient(active=True, link=[LINK]), (NAMED,), ("RuleBroken", "Patient.active")),
    (patient(active=False, link=[LINK, LINK]), (NAMED,), ("RuleBroken", "Patient.link")),
    (
        patient(active=False, link=[{"other": {"display": "X"}, "type": "replaced-by"}]),
        (NAMED,),
        ("RequiredFieldMissing", "Patient.link[0].other"),
    ),
    (
        patient(active=False, link=[{"other": {"reference": "http://elsewhere/Patient/1"}, "type": "replaced-by"}]),
        (NAMED,),
        ("RequiredFieldMissing", "Patient.link[0].other"),
    ),
    (
        patient(identifier=[*patient()["identifier"], {"system": "http://x", "value": "1"}]),
        (NAMED,),
        ("UnknownKeyIdentifier", "Patient.identifier[2].system"),
    ),
    (
        patient(identifier=[*patient()["identifier"], {"system": "urn:oid:1.2"}]),
        (NAMED,),
        ("RequiredFieldMissing", "Patient.identifier[2].value"),
    ),
    ({k: v for k, v in patient().items() if k != "name"}, (NAMED,), ("RequiredFieldMissing", "Patient.name")),
    (
        {k: v for k, v in patient().items() if k != "identifier"},
        (NAMED,),
        ("RequiredFieldMissing", "Patient.identifier"),
    ),
    (patient(gender="M"), (NAMED,), ("TableValueNotFound", "Patient.gender")),
    (patient(birthDate="1970-02-30"), (NAMED,), ("DataTypeError", "Patient.birthDate")),
    (patient(name=[{"family": "x" * 201}]), (NAMED,), ("DataTypeError", "Patient.name[0].family")),
    (patient(implicitRules="http://x"), (NAMED,), ("RuleBroken", "Patient.implicitRules")),
    (patient(modifierExtension=[{"url": "http://x"}]), (NAMED,), ("RuleBroken", "Patient.modifierExtension")),
    ({"resourceType": "Organization", "name": "x"}, (NAMED,), ("RuleBroken", "Organization")),
]


@pytest.mark.parametrize(("body", "parameters", "finding"), REFUSED_FEEDS)
def test_a_feed_that_is_refused_says_where_and_why(
    body: dict[str, Any], parameters: tuple[tuple[str, str], ...], finding: tuple[str, str]
) -> None:
    with pytest.raises(Problem) as problem:
        put(body, *parameters)
    assert [(f.code, f.location) for f in problem.value.findings] == [finding]
