"""PDQm on a running node: search and read ITI-78, match ITI-119, with IHE's examples."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import fhir_peer
import peer
import pytest
from fhir_peer import JSON, OID, PDQM, XML, FhirPeer, issues, patients
from lxml import etree
from peer import Node

pytestmark = pytest.mark.node

HOSPITAL, CLINIC = "1.2.616.2", "1.2.616.3"


@pytest.fixture(scope="module")
def fhir(node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(node) as found:
        yield found


def word(length: int = 12) -> str:
    """A name that nobody else has."""
    return "".join(chr(ord("a") + int(c, 16)) for c in uuid.uuid4().hex)[:length].capitalize()


def person(fhir: FhirPeer, family: str, given: str = "Anna", **more: Any) -> str:
    """Feeds somebody; the logical id."""
    number = peer.number()
    identifiers = [{"system": f"{OID}{fhir.authority}", "value": number}, *more.pop("identifiers", [])]
    fhir.fed({
        "resourceType": "Patient", "identifier": identifiers, "active": True,
        "name": [{"family": family, "given": [given]}], "gender": "female", "birthDate": "1970-05-06", **more,
    })  # fmt: skip
    return number


@pytest.fixture(scope="module")
def family(fhir: FhirPeer) -> dict[str, str]:
    """Three people of one unusual name; names to logical ids, and the family name."""
    name = word()
    return {
        "family": name,
        "Anna": person(
            fhir, name, "Anna",
            identifiers=[{"system": f"{OID}{HOSPITAL}", "value": name}],
            address=[{"line": ["Długa 1"], "city": "Kraków", "state": "małopolskie", "postalCode": "31-147", "country": "PL"}],
            telecom=[{"system": "phone", "value": "+48 600 700 800"}],
            extension=[{"url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName", "valueString": "Łoś"}],
        ),
        "Jan": person(fhir, name, "Jan", gender="male", birthDate="1980-01-31",
                      identifiers=[{"system": f"{OID}{CLINIC}", "value": name}]),
        "Ewa": person(fhir, name.upper(), "Ewa", birthDate="1980"),
    }  # fmt: skip


SEARCHES: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"Anna", "Jan", "Ewa"}),
    ({"given": "Anna"}, {"Anna"}),
    ({"given": "An"}, {"Anna"}),
    ({"given": "Anna,Jan"}, {"Anna", "Jan"}),
    ({"given:exact": "Jan,Ewa"}, {"Jan", "Ewa"}),
    ({"gender": "male,female", "birthdate": "1970-05-06,1970-05-07"}, {"Anna"}),
    ({"given:exact": "An"}, set()),
    ({"given:exact": "Anna"}, {"Anna"}),
    ({"gender": "male"}, {"Jan"}),
    ({"gender": "http://hl7.org/fhir/administrative-gender|female"}, {"Anna", "Ewa"}),
    ({"birthdate": "1970-05-06"}, {"Anna"}),
    ({"birthdate": "1970"}, {"Anna"}),
    ({"birthdate": "ge1970-05-07"}, {"Jan", "Ewa"}),
    ({"birthdate": ["ge1979", "lt1980-02"]}, {"Jan", "Ewa"}),
    ({"birthdate": "lt1970-05-06"}, set()),
    ({"address-city": "krakow"}, {"Anna"}),
    ({"address-city:exact": "krakow"}, set()),
    ({"address-city:exact": "Kraków"}, {"Anna"}),
    ({"address-state": "małop"}, {"Anna"}),
    ({"address-postalcode": "31-147"}, {"Anna"}),
    ({"address-country": "PL"}, {"Anna"}),
    ({"address": "Długa"}, {"Anna"}),
    ({"address": "31-147"}, {"Anna"}),
    ({"address": "Warszawa"}, set()),
    ({"telecom": "+48600700800"}, {"Anna"}),
    ({"telecom": "phone|600 700 800"}, {"Anna"}),
    ({"mothersMaidenName": "los"}, {"Anna"}),
    ({"mothersMaidenName:exact": "Łoś"}, {"Anna"}),
    ({"mothersMaidenName:exact": "Los"}, set()),
    ({"active": "true"}, {"Anna", "Jan", "Ewa"}),
    ({"active": "false"}, set()),
    ({"identifier": f"{OID}{HOSPITAL}|"}, {"Anna"}),
    ({"identifier": f"{OID}{HOSPITAL}|,{OID}{CLINIC}|"}, {"Anna", "Jan"}),
    ({"identifier": "http://nobody|1"}, set()),
    ({"colour": "red"}, {"Anna", "Jan", "Ewa"}),
]


@pytest.mark.parametrize("number", range(len(SEARCHES)))
def test_searches(fhir: FhirPeer, family: dict[str, str], number: int) -> None:
    parameters, expected = SEARCHES[number]
    bundle = fhir.both("GET", "Patient", params={"family": family["family"], **parameters}).json()
    assert set(patients(bundle)) == {family[name] for name in expected}
    assert bundle["total"] == len(expected)
    for entry in bundle.get("entry", []):
        assert entry["fullUrl"] == f"{fhir.base}/Patient/{entry['resource']['id']}"
        assert 0 < entry["search"]["score"] <= 1


def test_a_search_by_post_is_the_same(fhir: FhirPeer, family: dict[str, str]) -> None:
    form = fhir.ask("POST", "Patient/_search", data={"family": family["family"], "gender": "male"}).json()
    half = fhir.ask("POST", f"Patient/_search?family={family['family']}", data={"gender": "male"}).json()
    assert patients(form) == patients(half) == [family["Jan"]]
    assert form["link"] == fhir.search(family=family["family"], gender="male")["link"]


def test_exact_means_letter_by_letter(fhir: FhirPeer, family: dict[str, str]) -> None:
    assert set(patients(fhir.search(family__exact=family["family"]))) == {family["Anna"], family["Jan"]}
    assert patients(fhir.search(family__exact=family["family"].upper())) == [family["Ewa"]]


def test_ids_and_identifiers(fhir: FhirPeer, family: dict[str, str]) -> None:
    anna, name = family["Anna"], family["family"]
    assert patients(fhir.search(_id=anna)) == [anna]
    assert set(patients(fhir.search(_id=f"{anna},{family['Jan']}"))) == {anna, family["Jan"]}
    assert patients(fhir.search(_id="none")) == []
    assert patients(fhir.search(identifier=f"{OID}{HOSPITAL}|{name}")) == [anna]
    assert set(patients(fhir.search(identifier=name))) == {anna, family["Jan"]}
    both = [f"{OID}{HOSPITAL}|{name}", f"{OID}{fhir.authority}|{anna}"]
    assert patients(fhir.search(identifier=both)) == [anna]
    neither = [f"{OID}{HOSPITAL}|{name}", f"{OID}{fhir.authority}|{family['Jan']}"]
    assert fhir.search(identifier=neither)["total"] == 0


def test_only_identifiers_of_the_domains_asked_for_are_returned(fhir: FhirPeer, family: dict[str, str]) -> None:
    bundle = fhir.search(family=family["family"], identifier=f"{OID}{HOSPITAL}|")
    [entry] = bundle["entry"]
    assert [i["system"] for i in entry["resource"]["identifier"]] == [f"{OID}{HOSPITAL}"]


def test_an_unknown_domain_is_told_in_the_profiles_words(fhir: FhirPeer, family: dict[str, str]) -> None:
    for system in (f"{OID}1.9.9", "http://nobody"):
        response = fhir.ask("GET", "Patient", params={"family": family["family"], "identifier": f"{system}|"})
        assert (response.status_code, issues(response)) == (404, [("warning", "not-found", "http.identifier")])
        assert response.json()["issue"][0]["details"]["text"] == "targetSystem not found"


def test_the_self_link_says_what_was_obeyed(fhir: FhirPeer, family: dict[str, str]) -> None:
    bundle = fhir.search(family=family["family"], colour="red", _lastUpdated="gt2020", _count="2")
    link = next(x["url"] for x in bundle["link"] if x["relation"] == "self")
    assert dict(parse_qsl(urlsplit(link).query)) == {"family": family["family"], "_count": "2"}
    [outcome] = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "outcome"]
    assert [(i["severity"], i["expression"]) for i in outcome["issue"]] == [("warning", ["http._lastUpdated"])]
    strict = fhir.ask("GET", "Patient", params={"family": "x", "colour": "red"}, headers={"Prefer": "handling=strict"})
    assert (strict.status_code, issues(strict)) == (400, [("error", "not-supported", "http.colour")])


@pytest.mark.parametrize(
    ("parameters", "status", "issue"),
    [
        ({"family:contains": "ow"}, 400, ("not-supported", "http.family")),
        ({"birthdate": "ap1970"}, 400, ("not-supported", "http.birthdate")),
        ({"birthdate": "13.05.1970"}, 400, ("value", "http.birthdate")),
        ({"gender": "F"}, 400, ("code-invalid", "http.gender")),
        ({"_count": "x"}, 400, ("value", "http._count")),
        ({"family": "a" * 1000}, 400, ("value", "http.family")),
        ({"gender": "female"}, 422, ("too-costly", "")),
        ({}, 422, ("too-costly", "")),
        ({"family": "*"}, 422, ("too-costly", "")),
        ({"_id": ",".join(["x"] * 500)}, 413, ("too-long", "http")),
        ({"family": "x", "_cursor": "nothing"}, 410, ("not-found", "")),
    ],
)  # fmt: skip
def test_searches_that_are_refused(
    fhir: FhirPeer, parameters: dict[str, str], status: int, issue: tuple[str, str]
) -> None:
    response = fhir.ask("GET", "Patient", params=parameters)
    assert response.status_code == status, response.text
    assert issues(response)[0][1:] == issue


def test_huge_counts_are_cut(fhir: FhirPeer, family: dict[str, str]) -> None:
    assert len(patients(fhir.search(family=family["family"], _count="1000000000"))) == 3
    counted = fhir.search(family=family["family"], _summary="count")
    assert (counted["total"], "entry" in counted) == (3, False)


def test_reading(fhir: FhirPeer, family: dict[str, str]) -> None:
    response = fhir.both("GET", f"Patient/{family['Anna']}")
    assert response.json()["id"] == family["Anna"]
    known = fhir.ask("GET", f"Patient/{family['Anna']}", headers={"If-None-Match": response.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    missing = fhir.both("GET", "Patient/none")
    assert (missing.status_code, issues(missing)[0][:2]) == (404, ("error", "not-found"))
    assert fhir.ask("GET", "Patient/.zz").status_code == 404


def follow(fhir: FhirPeer, bundle: Any) -> Iterator[Any]:
    """All pages."""
    while True:
        yield bundle
        following = [x["url"] for x in bundle["link"] if x["relation"] == "next"]
        if not following:
            return
        assert following[0].startswith(fhir.base)
        response = fhir.http.get(following[0], headers={"Accept": JSON})
        fhir.check(response)
        assert response.status_code == 200, response.text
        bundle = response.json()


def test_pages_neither_lose_nor_repeat_while_data_change(fhir: FhirPeer) -> None:
    name = word()
    there = [person(fhir, name, f"Anna{word(4)}", birthDate=f"19{i:02}-01-01") for i in range(50, 57)]
    seen: list[str] = []
    totals = set()
    for number, page in enumerate(follow(fhir, fhir.search(family=name, _count="2"))):
        seen += patients(page)
        totals.add(page["total"])
        # Somebody comes before all others, somebody who was not yet listed is renamed, somebody is removed.
        person(fhir, name, f"Aaa{word(3)}", birthDate=f"18{number + 10}-01-01")
        last = there[-1]
        fhir.fed({
            "resourceType": "Patient", "identifier": [{"system": f"{OID}{fhir.authority}", "value": last}],
            "name": [{"family": word()}], "birthDate": "1956-01-01",
        })  # fmt: skip
    assert sorted(seen) == sorted(there)
    assert totals == {7}
    assert len(patients(fhir.search(family=name, _count="200"))) > 7


def test_a_page_is_its_askers_and_is_asked_in_either_format(fhir: FhirPeer, family: dict[str, str]) -> None:
    first = fhir.search(family=family["family"], _count="1")
    following = next(x["url"] for x in first["link"] if x["relation"] == "next")
    as_json = fhir.http.get(following, headers={"Accept": JSON})
    fhir.check(as_json)
    as_xml = fhir.http.get(following, headers={"Accept": XML})
    assert fhir_peer.of_xml(etree.fromstring(as_xml.content)) == fhir_peer.of_json(as_json)


# $match ----------------------------------------------------------------------------------------------------------


def example(name: str) -> Any:
    path = PDQM / "example" / f"{name}.json"
    if not path.exists():
        pytest.skip("IHE's packages are not beside this repository")
    return json.loads(path.read_text("utf-8-sig"))


def match(fhir: FhirPeer, body: Any, **headers: str) -> Any:
    response = fhir.both("POST", "Patient/$match", json=body, headers={"Content-Type": JSON, **headers})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
def schmidt(fhir: FhirPeer) -> str:
    """The patient of IHE's examples, under an identifier of the region."""
    given = example("Patient-ex-patient")
    number = peer.number()
    fhir.fed({**given, "identifier": [{"system": f"{OID}{fhir.authority}", "value": number}]})
    return number


SHAPE = {
    "Parameters-ex-match-input-patient-only": "Bundle-ex-match-output",
    "Parameters-ex-match-input-count": "Bundle-ex-match-output",
    "Parameters-ex-match-input-onlyCertainMatches": "Bundle-ex-match-output",
    "Patient-ex-match-input-patient": "Bundle-ex-match-output",
}


@pytest.mark.parametrize("name", SHAPE)
def test_the_examples_of_match_are_answered_in_the_expected_shape(fhir: FhirPeer, schmidt: str, name: str) -> None:
    answer, expected = match(fhir, example(name)), example(SHAPE[name])
    assert answer["type"] == expected["type"] == "searchset"
    assert answer["meta"]["profile"] == expected["meta"]["profile"]
    if name.endswith("onlyCertainMatches"):
        assert all(e["search"]["extension"][0]["valueCode"] == "certain" for e in answer.get("entry", []))
        return
    entry, wanted = answer["entry"][0], expected["entry"][0]
    assert entry["resource"]["id"] == schmidt
    assert entry["search"].keys() == wanted["search"].keys()
    assert entry["search"]["extension"][0]["url"] == wanted["search"]["extension"][0]["url"]
    assert entry["search"]["extension"][0]["valueCode"] in ("certain", "probable", "possible")
    assert entry["resource"]["name"][0]["family"] == wanted["resource"]["name"][0]["family"]


def test_nobody_matches(fhir: FhirPeer) -> None:
    answer = match(
        fhir, {"resourceType": "Patient", "name": [{"family": word(), "given": [word()]}], "birthDate": "1901-01-01"}
    )
    assert answer.keys() == example("Bundle-ex-match-output-empty").keys() - {"id"} | {"total"}


def test_an_identifier_is_a_certain_match(fhir: FhirPeer, family: dict[str, str]) -> None:
    resource = {
        "resourceType": "Patient", "name": [{"family": family["family"], "given": ["Anna"]}], "birthDate": "1970-05-06",
        "gender": "female", "identifier": [{"system": f"{OID}{HOSPITAL}", "value": family["family"]}],
    }  # fmt: skip
    parameters = {"resourceType": "Parameters", "parameter": [
        {"name": "resource", "resource": resource}, {"name": "onlyCertainMatches", "valueBoolean": True},
        {"name": "count", "valueInteger": 3},
    ]}  # fmt: skip
    [entry] = match(fhir, parameters)["entry"]
    assert (entry["resource"]["id"], entry["search"]["extension"][0]["valueCode"]) == (family["Anna"], "certain")


@pytest.mark.parametrize(
    ("body", "status", "issue"),
    [
        ({"resourceType": "Parameters"}, 400, ("required", "http.resource")),
        ({"resourceType": "Parameters", "parameter": [{"name": "resource", "valueString": "x"}]}, 400, ("value", "http.resource")),
        ({"resourceType": "Patient"}, 400, ("required", "Patient")),
        ({"resourceType": "Organization", "name": "x"}, 422, ("business-rule", "Organization")),
        ({"resourceType": "Patient", "name": [{"family": "x"}], "implicitRules": "http://x"}, 422, ("business-rule", "Patient.implicitRules")),
        ({"resourceType": "Patient", "name": [{"family": "x"}], "modifierExtension": [{"url": "http://x"}]}, 422, ("business-rule", "Patient.modifierExtension")),
        (
            {"resourceType": "Parameters", "parameter": [
                {"name": "resource", "resource": {"resourceType": "Patient", "name": [{"family": "x"}]}},
                {"name": "count", "valueInteger": 0}]},
            400,
            ("value", "http.count"),
        ),
        (
            {"resourceType": "Parameters", "parameter": [
                {"name": "resource", "resource": {"resourceType": "Patient", "name": [{"family": "x"}]}}] * 2},
            400,
            ("value", "http.resource"),
        ),
    ],
)  # fmt: skip
def test_matches_that_are_refused(fhir: FhirPeer, body: Any, status: int, issue: tuple[str, str]) -> None:
    response = fhir.ask("POST", "Patient/$match", json=body, headers={"Content-Type": JSON})
    assert response.status_code == status, response.text
    assert issues(response)[0][1:] == issue


def test_searches_and_matches_are_audited_once_with_the_patients_listed(
    fhir: FhirPeer, node: Node, family: dict[str, str]
) -> None:
    last = node.last_audit()
    fhir.search(family=family["family"], given="Anna")
    fhir.get(f"Patient/{family['Anna']}")
    fhir.ask("GET", "Patient", params={})
    body = {
        "resourceType": "Patient",
        "name": [{"family": family["family"], "given": ["Anna"]}],
        "birthDate": "1970-05-06",
    }
    fhir.ask("POST", "Patient/$match", json=body, headers={"Content-Type": JSON})
    records = node.audits(last)
    assert [(t, o) for _, t, o, _ in records] == [("ITI-78", 0), ("ITI-78", 0), ("ITI-78", 4), ("ITI-119", 0)]
    assert all(family["Anna"] in message for _, _, outcome, message in records if not outcome)
