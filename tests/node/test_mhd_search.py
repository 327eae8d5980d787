"""MHD on a running node, reading: ITI-66, ITI-67 and ITI-68 of what SOAP has registered."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import fhir_peer
import peer
import pytest
from fhir_peer import OID, FhirPeer
from peer import APPROVED, DEPRECATED, Node, Submission
from test_lifecycle import Desk

pytestmark = pytest.mark.node

URI = "urn:ietf:rfc:3986"
REFERENCE = "accession7^^^&1.2.616.77&ISO^urn:ihe:iti:xds:2013:accession"


@pytest.fixture(scope="module")
def fhir(node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(node) as found:
        yield found


def value(cx: str) -> str:
    return cx.partition("^")[0]


def codes_of(response: Any) -> list[str]:
    return [issue["details"]["coding"][0]["code"] for issue in response.json()["issue"]]


def ids(bundle: Any, mode: str = "match") -> list[str]:
    return [e["resource"]["id"] for e in bundle.get("entry", []) if e["search"]["mode"] == mode]


def resources(bundle: Any, mode: str = "match") -> list[Any]:
    return [e["resource"] for e in bundle.get("entry", []) if e["search"]["mode"] == mode]


def asked(fhir: FhirPeer, kind: str, *parameters: tuple[str, str], **more: Any) -> Any:
    """A search that must succeed; every resource must be valid by itself, too."""
    response = fhir.ask("GET", kind, params=list(parameters), **more)
    assert response.status_code == 200, response.text
    bundle = response.json()
    for entry in bundle.get("entry", []):
        fhir_peer.valid(entry["resource"])
        problems = fhir.npm(resource=entry["resource"])
        assert problems == [], (problems, entry)
    return bundle


def documents(fhir: FhirPeer, patient: str, *parameters: tuple[str, str]) -> list[str]:
    return ids(asked(fhir, "DocumentReference", ("patient", value(patient)), *parameters))


def event_of(node: Node) -> peer.Code:
    """One that the affinity domain lists, or one of the system that the Polish domain leaves open."""
    try:
        return node.codes("eventCodeList")
    except IndexError:
        return "89.00", "2.16.840.1.113883.3.4424.11.2.6"


@dataclass
class World:
    """What is registered for one patient: three documents of three days, the last in a folder with the first."""

    patient: str
    submissions: list[Submission]
    folder: str

    @property
    def ids(self) -> list[str]:
        return [s.entries[0].id[9:] for s in self.submissions]

    def entry(self, number: int) -> peer.Entry:
        return self.submissions[number].entries[0]


@pytest.fixture(scope="module")
def world(node: Node) -> World:
    patient = node.patient()
    codes = node.codes
    found = []
    for day, changes in enumerate((
        {"authors": ("77^Żółtowska^Łucja Maria^^^dr^^^&1.2.616.5&ISO",), "references": (REFERENCE,),
         "service_start": "20240101", "service_stop": "20240103", "comments": "Uwagi"},
        {"type_code": codes("typeCode", 1), "class_code": codes("classCode", 1), "format_code": codes("formatCode", 1),
         "practice": codes("practiceSettingCode", 1), "facility": codes("healthcareFacilityTypeCode", 1),
         "confidentiality": [codes("confidentialityCode", 1)], "events": [event_of(node)]},
        {"service_start": "202402"},
    ), 1):  # fmt: skip
        entry = node.entry(patient, creation_time=f"2024010{day}120000", content=f"treść {day}".encode(), **changes)
        found.append(node.provided(node.submission(patient, entry, time=f"2024010{day}130000")))
    folder = node.folder(patient)
    sset = node.submission(patient, folders=[folder], time="20240104130000", source_id="2.25.72")
    names = [peer.urn(), peer.urn()]
    inner = [
        peer.association("HasMember", folder.id, found[n].entries[0].id, id=name)
        for n, name in zip((0, 2), names, strict=True)
    ]
    held = [peer.association("HasMember", sset.id, name) for name in names]
    sset.associations = [*inner, *held]
    node.registered(sset)
    return World(patient, found, folder.id[9:])


# DocumentReference -----------------------------------------------------------------------------------------------


def test_what_soap_registered_is_found_and_says_the_same(fhir: FhirPeer, node: Node, world: World) -> None:
    bundle = asked(fhir, "DocumentReference", ("patient", value(world.patient)), ("status", "current"))
    assert bundle["total"] == 3
    assert ids(bundle) == world.ids[::-1]
    entry, [said] = world.entry(0), [r for r in resources(bundle) if r["id"] == world.ids[0]]
    assert said["identifier"] == [{"use": "official", "system": URI, "value": entry.id}]
    assert said["masterIdentifier"] == {"use": "usual", "system": URI, "value": OID + entry.unique_id}
    assert said["subject"] == {"reference": f"Patient/{value(world.patient)}"}
    assert said["description"] == "Uwagi"
    for element, attribute in (
        ("type", "typeCode"),
        ("category", "classCode"),
        ("securityLabel", "confidentialityCode"),
    ):
        concept = said[element] if element == "type" else said[element][0]
        assert concept["coding"][0]["code"] == node.codes(attribute)[0]
    attachment = said["content"][0]["attachment"]
    assert attachment == {
        "contentType": "text/plain", "language": "pl-PL", "size": len(entry.content), "title": "Karta informacyjna",
        "hash": base64.b64encode(hashlib.sha1(entry.content).digest()).decode(), "creation": "2024-01-01T12:00:00Z",
        "url": f"{fhir.base}/Binary/{world.ids[0]}",
    }  # fmt: skip
    assert said["content"][0]["format"]["code"] == node.codes("formatCode")[0]
    assert said["context"]["period"] == {"start": "2024-01-01", "end": "2024-01-03"}
    related = {"system": "urn:oid:1.2.616.77", "value": "accession7"}
    assert said["context"]["related"][0]["identifier"].items() >= related.items()
    contained = {f"#{c['id']}": c for c in said["contained"]}
    author = contained[said["author"][0]["reference"]]
    assert author["name"] == [{"family": "Żółtowska", "given": ["Łucja Maria"], "prefix": ["dr"]}]
    assert author["identifier"] == [{"system": "urn:oid:1.2.616.5", "value": "77"}]
    source = contained[said["context"]["sourcePatientInfo"]["reference"]]
    assert source["identifier"] == [{"system": "urn:oid:1.2.616.9", "value": "4711"}]
    assert said["meta"]["profile"] == [
        "https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Comprehensive.DocumentReference"
    ]


def test_json_and_xml_say_the_same_the_first_time_and_the_second(fhir: FhirPeer, node: Node) -> None:
    patient = node.patient()
    entry = node.registered(node.submission(patient, node.entry(patient, title='„A" & <b>\\u0000'))).entries[0]
    for _ in range(2):
        fhir.both("GET", "DocumentReference", params={"patient": value(patient)})
        fhir.both("GET", f"DocumentReference/{entry.id[9:]}")
        fhir.both("GET", "List", params={"patient": value(patient)})
    said = fhir.get(f"DocumentReference/{entry.id[9:]}")
    assert said["content"][0]["attachment"]["title"] == '„A" & <b>\\u0000'
    stored = node.rows("SELECT count(*) FROM fhir_rendering WHERE entry_uuid = %s", entry.id[9:])
    assert stored == [(1,)]


SEARCHES: dict[str, tuple[list[tuple[str, str]], set[int]]] = {
    "status": ([("status", "current")], {0, 1, 2}),
    "no such status": ([("status", "superseded")], set()),
    "entered in error": ([("status", "entered-in-error")], set()),
    "either status": ([("status", "superseded,current")], {0, 1, 2}),
    "creation": ([("creation", "2024-01-02")], {1}),
    "creation range": ([("creation", "ge2024-01-02"), ("creation", "lt2024-01-03")], {1}),
    "creation after": ([("creation", "gt2024-01-02")], {2}),
    "creation, other offset": ([("creation", "2024-01-02T14:00:00+02:00")], {1}),
    "creation, minute": ([("creation", "le2024-01-02T12:00Z")], {0, 1}),
    "creation, not": ([("creation", "ne2024-01-02")], {0, 2}),
    "creation, either": ([("creation", "2024-01-01,2024-01-03")], {0, 2}),
    "creation, month": ([("creation", "2024-01")], {0, 1, 2}),
    "creation, year": ([("creation", "eb2024")], set()),
    "registered": ([("date", "gt2024-01-01"), ("_lastUpdated", "gt2024-01-01")], {0, 1, 2}),
    "registered before": ([("date", "lt2024-01-01")], set()),
    "period": ([("period", "ge2024-01-02"), ("period", "le2024-01-02")], {0}),
    "period, open": ([("period", "gt2030")], {2}),
    "family": ([("author.family", "zolt")], {0}),
    "family, exact": ([("author.family:exact", "Żółtowska")], {0}),
    "family, not exact": ([("author.family:exact", "Zoltowska")], set()),
    "given, the second": ([("author:Practitioner.given", "Łuc")], {0}),
    "given of others": ([("author.given", "Anna")], {1, 2}),
    "either family": ([("author.family", "Nowak,Żółtowska")], {0, 1, 2}),
    "both families": ([("author.family", "Nowak"), ("author.family", "Żółtowska")], set()),
    "related": ([("related:identifier", "urn:oid:1.2.616.77|accession7")], {0}),
    "related, any system": ([("related", "accession7")], {0}),
    "related, other system": ([("related", "urn:oid:1.2.616.78|accession7")], set()),
    "related, wildcard": ([("related", "urn:oid:1.2.616.77|%")], set()),
    "nothing known": ([("type", "http://example.org|none")], set()),
    "code without a system": ([("type", "|none")], set()),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches(fhir: FhirPeer, world: World, name: str) -> None:
    parameters, expected = SEARCHES[name]
    assert set(documents(fhir, world.patient, *parameters)) == {world.ids[n] for n in expected}


@pytest.mark.parametrize(
    ("parameter", "attribute"),
    [
        ("type", "typeCode"), ("category", "classCode"), ("format", "formatCode"), ("setting", "practiceSettingCode"),
        ("facility", "healthcareFacilityTypeCode"), ("security-label", "confidentialityCode"),
    ],
)  # fmt: skip
def test_codes(fhir: FhirPeer, node: Node, world: World, parameter: str, attribute: str) -> None:
    """By code, by system and code, by alternatives; the system is what the resource says."""
    first, second = node.codes(attribute)[0], node.codes(attribute, 1)[0]
    assert documents(fhir, world.patient, (parameter, second)) == [world.ids[1]]
    assert set(documents(fhir, world.patient, (parameter, f"{first},{second}"))) == set(world.ids)
    assert documents(fhir, world.patient, (parameter, first), (parameter, second)) == []
    [said] = resources(asked(fhir, "DocumentReference", ("_id", world.ids[1])))
    context = said["context"]
    coding = {
        "type": lambda: said["type"]["coding"], "category": lambda: said["category"][0]["coding"],
        "format": lambda: [said["content"][0]["format"]], "setting": lambda: context["practiceSetting"]["coding"],
        "facility": lambda: context["facilityType"]["coding"], "security-label": lambda: said["securityLabel"][0]["coding"],
    }[parameter]()[0]  # fmt: skip
    assert documents(fhir, world.patient, (parameter, f"{coding['system']}|{second}")) == [world.ids[1]]
    assert world.ids[1] in documents(fhir, world.patient, (parameter, f"{coding['system']}|"))
    assert documents(fhir, world.patient, (parameter, f"http://example.org|{second}")) == []


def test_event(fhir: FhirPeer, node: Node, world: World) -> None:
    assert documents(fhir, world.patient, ("event", event_of(node)[0])) == [world.ids[1]]


def test_by_identifiers_without_a_patient(fhir: FhirPeer, world: World) -> None:
    entry = world.entry(1)
    for name, said in (
        ("_id", world.ids[1]), ("identifier", f"{URI}|{entry.id}"), ("identifier", entry.id.upper().replace("URN:UUID", "urn:uuid")),
        ("identifier", f"{URI}|{OID}{entry.unique_id}"), ("identifier", f"{OID}{entry.unique_id}"),
    ):  # fmt: skip
        assert ids(asked(fhir, "DocumentReference", (name, said))) == [world.ids[1]], (name, said)
    both = asked(fhir, "DocumentReference", ("_id", f"{world.ids[0]},{world.ids[2]}"))
    assert set(ids(both)) == {world.ids[0], world.ids[2]}
    assert ids(asked(fhir, "DocumentReference", ("_id", world.ids[0]), ("_id", world.ids[1]))) == []
    assert ids(asked(fhir, "DocumentReference", ("_id", "nobody"))) == []
    other = ("patient", peer.number())
    assert ids(asked(fhir, "DocumentReference", ("identifier", entry.id), other)) == []


def test_ways_to_name_the_patient(fhir: FhirPeer, node: Node, world: World) -> None:
    number = value(world.patient)
    for name, said in (
        ("patient", number), ("patient", f"Patient/{number}"), ("patient", f"{fhir.base}/Patient/{number}"),
        ("patient:Patient", number), ("patient.identifier", fhir.token(number)),
        ("patient:Patient.identifier", fhir.token(number)), ("patient:identifier", fhir.token(number)),
    ):  # fmt: skip
        assert len(ids(asked(fhir, "DocumentReference", (name, said)))) == 3, (name, said)
    local = peer.number()
    fhir.fed({
        "resourceType": "Patient", "identifier": [
            {"system": f"{OID}{fhir.authority}", "value": number}, {"system": f"{OID}1.2.616.55", "value": local}],
        "name": [{"family": "Kowal", "given": ["Ewa"]}], "active": True,
    })  # fmt: skip
    bundle = asked(fhir, "DocumentReference", ("patient.identifier", f"{OID}1.2.616.55|{local}"))
    assert {r["subject"]["reference"] for r in resources(bundle)} == {f"Patient/{number}"}
    assert len(ids(bundle)) == 3
    mark = node.last_audit()
    asked(fhir, "DocumentReference", ("patient.identifier", f"{OID}1.2.616.55|{local}"))
    [(patient, message)] = node.rows("SELECT patient_id, message FROM audit_event WHERE audit_id > %s", mark)
    assert patient == world.patient
    assert base64.b64encode(b"patient.identifier=").decode()[:16] in message


def test_by_post(fhir: FhirPeer, world: World) -> None:
    form = {"patient": value(world.patient), "creation": "ge2024-01-02"}
    response = fhir.both("POST", "DocumentReference/_search", data=form)
    assert set(ids(response.json())) == {world.ids[1], world.ids[2]}


# the life of a document ------------------------------------------------------------------------------------------


def test_replaced_documents_are_superseded(fhir: FhirPeer, node: Node) -> None:
    patient = node.patient()
    old = node.registered(node.submission(patient, node.entry(patient))).entries[0]
    before = fhir.ask("GET", f"DocumentReference/{old.id[9:]}")
    assert before.headers["etag"] == 'W/"1"'
    new = node.entry(patient)
    node.registered(node.submission(patient, new, associations=[peer.association("RPLC", new.id, old.id)]))
    assert documents(fhir, patient, ("status", "current")) == [new.id[9:]]
    assert documents(fhir, patient, ("status", "superseded")) == [old.id[9:]]
    bundle = asked(fhir, "DocumentReference", ("_id", new.id[9:]), ("_include", "DocumentReference:relatesto"))
    assert resources(bundle)[0]["relatesTo"] == [
        {"code": "replaces", "target": {"reference": f"DocumentReference/{old.id[9:]}"}}
    ]
    assert ids(bundle, "include") == [old.id[9:]]
    after = fhir.ask("GET", f"DocumentReference/{old.id[9:]}", headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.json()["status"], after.headers["etag"]) == (200, "superseded", 'W/"2"')
    assert after.json()["meta"]["lastUpdated"] > before.json()["meta"]["lastUpdated"]
    again = fhir.ask("GET", f"DocumentReference/{old.id[9:]}", headers={"If-None-Match": after.headers["etag"]})
    assert again.status_code == 304
    back = asked(fhir, "DocumentReference", ("_id", old.id[9:]), ("_revinclude", "DocumentReference:relatesto"))
    assert ids(back, "include") == [new.id[9:]]


def test_a_merged_patient_has_the_documents_of_both(fhir: FhirPeer, node: Node) -> None:
    one, other = node.patient(), node.patient()
    first = node.registered(node.submission(one, node.entry(one))).entries[0]
    second = node.registered(node.submission(other, node.entry(other))).entries[0]
    assert documents(fhir, one) == [first.id[9:]]
    assert node.feed("A40", other, one) == "AA"
    bundle = asked(fhir, "DocumentReference", ("patient", value(other)))
    assert set(ids(bundle)) == {first.id[9:], second.id[9:]}
    assert {r["subject"]["reference"] for r in resources(bundle)} == {f"Patient/{value(other)}"}
    assert documents(fhir, one) == []
    assert len(node.found(other).entries) == 2


@pytest.mark.parametrize("kind", ["DocumentReference", "List"])
def test_a_merge_makes_another_version(fhir: FhirPeer, node: Node, kind: str) -> None:
    """Who has read what names the old patient is not told that nothing has changed; who has the new one is."""
    one, other, last = node.patient(), node.patient(), node.patient()
    given = node.registered(node.submission(one, node.entry(one)))
    own = node.registered(node.submission(other, node.entry(other)))
    ids_ = [(g.entries[0].id if kind == "DocumentReference" else g.id)[9:] for g in (given, own)]
    path = f"{kind}/{ids_[0]}"
    seen = fhir.ask("GET", path)
    etags = [seen.headers["etag"]]
    dates = {"If-Modified-Since": seen.headers["last-modified"]}
    untouched = fhir.ask("GET", f"{kind}/{ids_[1]}").headers["etag"]
    for merged, into in ((one, other), (other, last)):
        assert node.feed("A40", into, merged) == "AA"
        found = fhir.ask("GET", path, headers={"If-None-Match": ", ".join(etags)})
        assert found.status_code == 200
        assert found.json()["subject"]["reference"] == f"Patient/{value(into)}"
        assert found.headers["etag"] == f'W/"{found.json()["meta"]["versionId"]}"'
        assert found.headers["etag"] not in etags
        [listed] = resources(asked(fhir, kind, ("_id", ids_[0])))
        assert listed == found.json()
        assert fhir.ask("GET", path, headers=dates).status_code == 200
        assert fhir.ask("GET", path, headers={"If-None-Match": found.headers["etag"]}).status_code == 304
        etags.append(found.headers["etag"])
        if into == other:
            assert fhir.ask("GET", f"{kind}/{ids_[1]}").headers["etag"] == untouched


# pages -----------------------------------------------------------------------------------------------------------


def following(fhir: FhirPeer, bundle: Any) -> Any | None:
    url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
    if not url:
        return None
    parts = urlsplit(url)
    return asked(fhir, parts.path.rpartition("/")[2], *parse_qsl(parts.query))


@pytest.mark.parametrize("sort", ["", "creation", "-creation", "date", "-date"])
def test_pages_lose_and_repeat_nothing_while_documents_come(fhir: FhirPeer, node: Node, sort: str) -> None:
    patient = node.patient()

    def add(time: str) -> str:
        return node.registered(node.submission(patient, node.entry(patient, creation_time=time))).entries[0].id[9:]

    there = [add(f"202401{day:02}") for day in (3, 1, 2, 2, 2, 4, 1)]
    more = [("_sort", sort)] if sort else []
    bundle = asked(fhir, "DocumentReference", ("patient", value(patient)), ("_count", "2"), *more)
    assert bundle["total"] == 7
    seen = []
    page: Any = bundle
    while page is not None:
        seen += ids(page)
        if len(seen) < 10:
            add("20240102")
            add("20231231")
        page = following(fhir, page)
        assert len(seen) < 40
    assert len(seen) == len(set(seen))
    assert set(there) <= set(seen)


def test_counts(fhir: FhirPeer, world: World) -> None:
    patient = ("patient", value(world.patient))
    for counted in (("_summary", "count"), ("_count", "0")):
        bundle = asked(fhir, "DocumentReference", patient, counted)
        assert (bundle["total"], bundle.get("entry", [])) == (3, [])
    capped = asked(fhir, "DocumentReference", patient, ("_count", "1000000000"))
    assert (len(ids(capped)), capped["total"]) == (3, 3)
    [told] = resources(capped, "outcome")
    assert told["issue"][0]["severity"] == "warning"
    assert "_count=200" in capped["link"][0]["url"]
    sorted_ids = documents(fhir, world.patient, ("_sort", "creation"), ("_total", "accurate"))
    assert sorted_ids == world.ids


# List ------------------------------------------------------------------------------------------------------------


def lists(fhir: FhirPeer, world: World, *parameters: tuple[str, str]) -> list[Any]:
    return resources(asked(fhir, "List", ("patient", value(world.patient)), *parameters))


def test_submission_sets_and_folders(fhir: FhirPeer, node: Node, world: World) -> None:
    found = lists(fhir, world)
    assert len(found) == 5
    [folder] = lists(fhir, world, ("code", "folder"))
    assert folder["id"] == world.folder
    assert {e["item"]["reference"] for e in folder["entry"]} == {f"DocumentReference/{world.ids[n]}" for n in (0, 2)}
    assert (folder["status"], folder["mode"], folder["title"]) == ("current", "working", "Ciąża")
    sets = lists(fhir, world, ("code", "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes|submissionset"))
    assert len(sets) == 4
    [first] = lists(fhir, world, ("code", "submissionset"), ("date", "2024-01-01"))
    assert first["entry"] == [{"item": {"reference": f"DocumentReference/{world.ids[0]}"}}]
    extensions = {e["url"].rpartition("/")[2]: e for e in first["extension"]}
    assert extensions["ihe-sourceId"]["valueIdentifier"] == {"system": URI, "value": "urn:oid:2.25.71"}
    designation = extensions["ihe-designationType"]["valueCodeableConcept"]["coding"][0]
    assert designation["code"] == node.codes("contentTypeCode")[0]
    assert first["source"]["reference"] == f"#{first['contained'][0]['id']}"
    [last] = lists(fhir, world, ("sourceId", "urn:oid:2.25.72"))
    assert last["entry"] == [{"item": {"reference": f"List/{world.folder}"}}]
    assert len(lists(fhir, world, ("source.family", "kowal"))) == 4
    assert lists(fhir, world, ("source.given", "Anna")) == []
    by_type = ("designationType", f"{designation['system']}|{designation['code']}")
    assert len(lists(fhir, world, by_type, ("code", "submissionset"))) == 4
    oldest = lists(fhir, world, ("code", "submissionset"), ("_sort", "date"))
    assert [s["date"][:10] for s in oldest] == [f"2024-01-0{day}" for day in (1, 2, 3, 4)]
    assert lists(fhir, world, ("status", "retired")) == []
    [one] = resources(asked(fhir, "List", ("identifier", f"urn:oid:{world.submissions[1].unique_id}")))
    assert one["id"] == world.submissions[1].id[9:]
    assert fhir.get(f"List/{world.folder}") == folder


def test_what_stands_beside_lists(fhir: FhirPeer, world: World) -> None:
    bundle = asked(fhir, "List", ("_id", world.folder), ("_include", "List:item"))
    assert set(ids(bundle, "include")) == {world.ids[0], world.ids[2]}
    around = asked(fhir, "DocumentReference", ("_id", world.ids[0]), ("_revinclude", "List:item"))
    assert set(ids(around, "include")) == {world.folder, world.submissions[0].id[9:]}
    above = asked(fhir, "List", ("_id", world.folder), ("_revinclude", "List:item"), ("_include", "List:item"))
    assert len(ids(above, "include")) == 3


# Binary ----------------------------------------------------------------------------------------------------------


def test_documents_are_given_as_they_are(fhir: FhirPeer, node: Node, world: World) -> None:
    url = fhir.get(f"DocumentReference/{world.ids[1]}")["content"][0]["attachment"]["url"]
    mark = node.last_audit()
    response = fhir.http.get(url)
    assert (response.status_code, response.content) == (200, "treść 2".encode())
    assert response.headers["content-type"] == "text/plain"
    assert response.headers["content-disposition"] == 'attachment; filename="document.txt"'
    sha1 = hashlib.sha1(response.content).hexdigest()
    assert response.headers["etag"] == f'W/"{sha1}"'
    [(transaction, patient, message)] = node.rows(
        "SELECT transaction, patient_id, message FROM audit_event WHERE audit_id > %s", mark
    )
    assert (transaction, patient) == ("ITI-68", world.patient)
    assert world.entry(1).unique_id in message
    for accept in ("text/plain", "text/*", "application/pdf;q=0.5, */*;q=0.1", "text/html, text/plain;q=0.2"):
        assert fhir.http.get(url, headers={"Accept": accept}).content == response.content
    head = fhir.http.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(response.content))
    known = fhir.http.get(url, headers={"If-None-Match": response.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert node.retrieve(world.entry(1).unique_id).documents[world.entry(1).unique_id] == response.content


def test_documents_are_given_as_resources(fhir: FhirPeer, world: World) -> None:
    path = f"Binary/{world.ids[1]}"
    said = fhir.both("GET", path).json()
    assert base64.b64decode(said["data"]) == "treść 2".encode()
    assert (said["id"], said["contentType"]) == (world.ids[1], "text/plain")
    assert fhir.http.get(f"{fhir.base}/{path}?_format=json").json() == said


def test_large_documents_are_streamed(fhir: FhirPeer, node: Node) -> None:
    patient = node.patient()
    content = bytes(range(256)) * 4096 * 5
    entry = node.provided(node.submission(patient, node.entry(patient, content=content))).entries[0]
    response = fhir.http.get(f"{fhir.base}/Binary/{entry.id[9:]}")
    assert response.content == content


def test_documents_that_are_not_here(fhir: FhirPeer, node: Node, world: World) -> None:
    patient = node.patient()
    entry = node.registered(node.submission(patient, node.entry(patient))).entries[0]
    foreign = node.registered(node.submission(patient, node.entry(patient, repository="1.2.3.4"))).entries[0]
    removed = node.provided(node.submission(patient, node.entry(patient))).entries[0]
    assert Desk(node).destroy(removed.unique_id).status == "Success"
    for path, status, code in (
        (f"Binary/{peer.urn()[9:]}", 404, "AddressNotFound"),
        ("Binary/x", 404, "AddressNotFound"),
        (f"Binary/{world.folder}", 404, "AddressNotFound"),
        (f"Binary/{entry.id[9:]}", 404, "AddressNotFound"),
        (f"Binary/{removed.id[9:]}", 410, "ResourceGone"),
        (f"Binary/{foreign.id[9:]}", 404, "XDSUnknownRepositoryId"),
        (f"DocumentReference/{world.folder}", 404, "AddressNotFound"),
        (f"List/{world.ids[0]}", 404, "AddressNotFound"),
    ):
        response = fhir.ask("GET", path)
        assert (response.status_code, codes_of(response)) == (status, [code]), path
    refused = fhir.http.get(f"{fhir.base}/Binary/{world.ids[0]}", headers={"Accept": "application/pdf"})
    assert refused.status_code == 406
    assert "text/plain" in refused.json()["issue"][0]["diagnostics"]


# bad input -------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[str, list[tuple[str, str]], str]] = {
    "nobody named": ("DocumentReference", [("status", "current")], "RequiredFieldMissing"),
    "nothing": ("List", [], "RequiredFieldMissing"),
    "identifier of nobody": ("DocumentReference", [("patient.identifier", "4711")], "DataTypeError"),
    "reference elsewhere": ("DocumentReference", [("patient", "http://other.example/Patient/1")], "DataTypeError"),
    "status": ("DocumentReference", [("_id", "x"), ("status", "final")], "TableValueNotFound"),
    "status of a List": ("List", [("_id", "x"), ("status", "superseded")], "TableValueNotFound"),
    "kind of list": ("List", [("_id", "x"), ("code", "shopping")], "TableValueNotFound"),
    "day": ("DocumentReference", [("_id", "x"), ("creation", "2024-02-30")], "DataTypeError"),
    "prefix": ("DocumentReference", [("_id", "x"), ("creation", "ap2024-02")], "UnsupportedQueryField"),
    "modifier": ("DocumentReference", [("_id", "x"), ("type:not", "1")], "UnsupportedQueryField"),
    "iterate": ("List", [("_id", "x"), ("_include:iterate", "List:item")], "UnsupportedQueryField"),
    "include of all": ("List", [("_id", "x"), ("_include", "*")], "UnsupportedQueryField"),
    "include of others": ("DocumentReference", [("_id", "x"), ("_include", "List:item")], "UnsupportedQueryField"),
    "revinclude": ("DocumentReference", [("_id", "x"), ("_revinclude", "Provenance:target")], "UnsupportedQueryField"),
    "sort": ("DocumentReference", [("_id", "x"), ("_sort", "author")], "UnsupportedQueryField"),
    "sort by two": ("DocumentReference", [("_id", "x"), ("_sort", "creation,date")], "UnsupportedQueryField"),
    "folders by date": ("List", [("_id", "x"), ("_sort", "date")], "UnsupportedQueryField"),
    "count": ("DocumentReference", [("_id", "x"), ("_count", "many")], "DataTypeError"),
    "cursor": ("DocumentReference", [("_id", "x"), ("_cursor", "Zm9v")], "UnknownCursor"),
    "cursor that is none": ("DocumentReference", [("_id", "x"), ("_cursor", "%00")], "UnknownCursor"),
    "resource related": ("DocumentReference", [("_id", "x"), ("related", "Patient/1")], "UnsupportedQueryField"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_questions(fhir: FhirPeer, name: str) -> None:
    kind, parameters, code = BAD[name]
    response = fhir.ask("GET", kind, params=parameters)
    assert 400 <= response.status_code < 500
    assert codes_of(response) == [code], response.text


def test_unknown_parameters(fhir: FhirPeer, world: World) -> None:
    patient, unknown = ("patient", value(world.patient)), ("colour", "red")
    bundle = asked(fhir, "DocumentReference", patient, unknown)
    assert len(ids(bundle)) == 3
    [told] = resources(bundle, "outcome")
    assert "colour" in json.dumps(told)
    assert "colour" not in bundle["link"][0]["url"]
    strict = fhir.ask("GET", "DocumentReference", params=[patient, unknown], headers={"Prefer": "handling=strict"})
    assert (strict.status_code, codes_of(strict)) == (400, ["UnsupportedQueryField"])


def test_what_a_pattern_means_is_not_asked(fhir: FhirPeer, world: World) -> None:
    """Nothing in a question is read as a pattern, a separator or SQL."""
    for name in ("type", "author.family", "related", "identifier", "patient", "patient.identifier"):
        for text in ("%", "_", "a\x1fb", "\x1e", "';--", "\\", "{}", '"', "urn:oid:1|%", "x" * 400):
            response = fhir.ask("GET", "DocumentReference", params=[("_id", world.ids[0]), (name, text)])
            assert response.status_code in (200, 400), (name, text, response.text)
            if response.status_code == 200:
                assert response.json()["total"] == 0, (name, text)


def test_every_search_parameter_of_the_profile_is_served(fhir: FhirPeer) -> None:
    path = fhir_peer.MHD / "CapabilityStatement-IHE.MHD.DocumentResponder.json"
    if not path.exists():
        pytest.skip("IHE's packages are not beside this repository")
    ours = {r["type"]: r for r in fhir.get("metadata")["rest"][0]["resource"]}
    for wanted in json.loads(path.read_text("utf-8-sig"))["rest"][0]["resource"]:
        served = ours[wanted["type"]]
        names = {p["name"].lower() for p in served.get("searchParam", ())}
        assert {p["name"].lower() for p in wanted.get("searchParam", ())} <= names
        assert {i["code"] for i in wanted["interaction"]} <= {i["code"] for i in served["interaction"]}


def test_statuses_are_those_of_iti_18(fhir: FhirPeer, node: Node, world: World) -> None:
    for soap, said in ((APPROVED, "current"), (DEPRECATED, "superseded")):
        assert set(documents(fhir, world.patient, ("status", said))) == {
            e.get("id")[9:] for e in node.found(world.patient, soap).entries
        }
