"""The summary as a FHIR document: its shape, its names, and what it says where nobody says anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import summaries
from obieg.domain.documents import Author, Code, DocumentEntry
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import Candidate
from obieg.domain.persons import Demographics
from obieg.domain.summary import Source, Summary, Unread, collapse
from obieg.mapping import ips
from obieg.mapping.cda_clinical import is_state, read_extract
from obieg.wire import fhir_json, fhir_xml
from obieg.wire.fhir_elements import check
from obieg.wire.xml import XmlLimits
from summaries import allergy, cda, check_document, composition, diagnosis, drug, of_type, section

BASE = "https://node.example/fhir"
NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
PERSON = PatientId("PACJENT17", "1.2.616.1")


def source(number: int, **more: Any) -> Source:
    more = {
        "created_at": f"2024010{number}101112",
        "title": "Karta",
        "authors": ("dr Anna Nowak",),
        "mime_type": "text/xml",
        **more,
    }
    return Source(f"0f0e0d0c-0000-4000-8000-00000000000{number}", f"1.2.3.{number}", **more)


def summary(documents: Sequence[tuple[Source, bytes]], **more: Any) -> Summary:
    extracts = [read_extract(content, of) for of, content in documents]
    return Summary(
        key="a",
        patient=Candidate(PERSON, (PERSON,), Demographics()),
        made_at=NOW,
        statements=collapse((s for e in extracts for s in e.statements), is_state=is_state),
        passages=tuple(p for e in extracts for p in e.passages),
        sources=tuple(of for of, _ in documents),
        **more,
    )  # fmt: skip


def made(*documents: tuple[Source, bytes], **more: Any) -> Any:
    """The bundle, well-formed in JSON and XML alike."""
    bundle = ips.write_summary(summary(documents, **more), BASE)
    assert check(bundle) == []
    read = fhir_json.read(fhir_json.write(bundle))
    assert fhir_xml.read(fhir_xml.write(bundle), XmlLimits()) == read
    check_document(bundle)
    return bundle


def test_where_nobody_says_anything_there_is_no_information() -> None:
    bundle = made()
    first = composition(bundle)
    assert [s["code"]["coding"][0]["code"] for s in first["section"][:-1]] == ["11450-4", "48765-2", "10160-0"]
    found = {
        kind: r[name]["coding"]
        for kind, name in (
            ("Condition", "code"),
            ("AllergyIntolerance", "code"),
            ("MedicationStatement", "medicationCodeableConcept"),
        )
        for r in of_type(bundle, kind)
    }
    assert {k: v[0]["code"] for k, v in found.items()} == {
        "Condition": "no-problem-info", "AllergyIntolerance": "no-allergy-info", "MedicationStatement": "no-medication-info",
    }  # fmt: skip
    assert {v[0]["system"] for v in found.values()} == {"http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips"}
    assert "no-known" not in json.dumps(bundle, default=str)
    assert all("emptyReason" not in s for s in first["section"])


def test_entries_stand_in_their_sections_with_their_sources() -> None:
    first, second = source(1), source(2)
    bundle = made(
        (second, cda(section("Nadciśnienie", diagnosis("I10", "Nadciśnienie"), code="29548-5"))),
        (first, cda(
            section("Nadciśnienie", diagnosis("I10", "Nadciśnienie"), code="29548-5"),
            section("Orzechy", allergy("256349002", "Orzechy"), code="48765-2", title="Alergie"),
            section("Polocard", drug("B01AC06", "Polocard", text="1 x 1"), code="10160-0"),
        )),
    )  # fmt: skip
    [condition] = of_type(bundle, "Condition")
    assert condition["code"]["coding"][0]["code"] == "I10"
    assert condition["recordedDate"] == "2024-01-01T10:11:12Z"
    assert "coding" not in condition["clinicalStatus"], "nobody says whether it is over"
    url = next(e["fullUrl"] for e in bundle["entry"] if e["resource"] is condition)
    named = [p for p in of_type(bundle, "Provenance") if {"reference": url} in p["target"]]
    assert sorted(p["occurredDateTime"] for p in named) == ["2024-01-01T10:11:12Z", "2024-01-02T10:11:12Z"]
    assert {p["agent"][0]["who"]["display"] for p in named} == {"dr Anna Nowak"}
    documents = {
        d["masterIdentifier"]["value"]: d["content"][0]["attachment"] for d in of_type(bundle, "DocumentReference")
    }
    assert documents.keys() == {"urn:oid:1.2.3.1", "urn:oid:1.2.3.2"}
    assert documents["urn:oid:1.2.3.1"]["url"] == f"{BASE}/Binary/{first.entry_uuid}"
    problems, allergies, drugs, *_ = composition(bundle)["section"]
    assert problems["entry"] == [{"reference": url}]
    for part in (problems, allergies, drugs):
        cited = "".join(summaries.xhtml(part).itertext())
        assert "1.2.3.1" in cited
        assert "dr Anna Nowak" in cited
        assert "2024-01-01 11:11" in cited
    assert "1.2.3.2" in "".join(summaries.xhtml(problems).itertext())


def test_texts_of_sections_that_the_ips_does_not_know_are_carried() -> None:
    bundle = made(
        (source(2), cda(section("Pali od 20 lat", code="72166-2", title="Palenie"), section("Bez kodu", title="Inne"))),
        (source(1), cda(section("Rzucił palenie", code="72166-2", title="Nikotyna"))),
    )
    further = {s["title"]: s for s in composition(bundle)["section"][3:-1]}
    assert further.keys() == {"Palenie", "Inne"}
    texts = ["".join(summaries.xhtml(s).itertext()) for s in further.values()]
    assert "Pali od 20 lat" in texts[0]
    assert "Rzucił palenie" in texts[0]
    assert "Bez kodu" in texts[1]


@pytest.mark.parametrize("path", summaries.samples(), ids=lambda p: p.stem.rpartition(".10.1.")[2])
def test_a_sample_goes_into_the_bundle_whole(path: Path) -> None:
    document = path.read_bytes()
    bundle = made((source(1), document))
    everything = "".join(summaries.shown(bundle))
    assert [t for t in summaries.section_texts(document) if t not in everything] == []
    written = json.dumps(bundle, default=str, ensure_ascii=False)
    assert [c for c in summaries.codes(document) if c not in written] == []


def test_what_could_not_be_read_is_named() -> None:
    unread = (
        Unread(source(2), "unreadable", "not well-formed XML"),
        Unread(source(3, repository_unique_id="1.2.9"), "elsewhere", "1.2.9"),
        Unread(source(4, mime_type="application/pdf"), "format", "application/pdf"),
    )
    bundle = made((source(1), cda()), unread=unread, more=True, documents_max=200)
    listed = "".join(summaries.xhtml(composition(bundle)["section"][-1]).itertext())
    for said in ("1.2.3.2", "not well-formed XML", "1.2.9", "application/pdf", "200"):
        assert said in listed
    elsewhere = next(
        d for d in of_type(bundle, "DocumentReference") if d["masterIdentifier"]["value"] == "urn:oid:1.2.3.3"
    )
    assert elsewhere["custodian"]["identifier"]["value"] == "urn:oid:1.2.9"
    assert "url" not in elsewhere["content"][0]["attachment"]


def test_the_same_data_make_the_same_document_but_for_its_time() -> None:
    documents = [(source(1), cda(section("x", diagnosis("I10", "N"), code="29548-5")))]
    first, again = (fhir_json.write(ips.write_summary(summary(documents), BASE)) for _ in range(2))
    assert first == again


VALUES = [
    ('<value xsi:type="PQ" value="5.060" unit="mmol/L"/>', "valueQuantity", {"value": "5.060", "unit": "mmol/L"}),
    ('<value xsi:type="PQ" value="około 5" unit="mmol/L"/>', "valueString", "około 5 mmol/L"),
    ('<value xsi:type="INT" value="7"/>', "valueQuantity", {"value": "7"}),
    ('<value xsi:type="ST">Rh+</value>', "valueString", "Rh+"),
    ('<value xsi:type="BL" value="true"/>', "valueBoolean", True),
    ('<value xsi:type="TS" value="20240203"/>', "valueDateTime", "2024-02-03"),
    ('<value xsi:type="IVL_PQ"><low value="3" unit="g"/></value>', "valueQuantity", {"value": "3", "comparator": ">="}),
    ('<value xsi:type="IVL_PQ"><low value="3" unit="g"/><high value="4" unit="g"/></value>', "valueRange", {}),
    ('<value xsi:type="RTO_PQ_PQ"><numerator value="1"/><denominator value="128"/></value>', "valueString", "1 / 128"),
    ('<value xsi:type="CD" nullFlavor="OTH"><originalText>dodatni</originalText></value>', "valueString", "dodatni"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "element", "expected"), VALUES)
def test_values_of_results(value: str, element: str, expected: Any) -> None:
    entry = f'<observation classCode="OBS" moodCode="EVN"><code code="2823-3" codeSystem="{summaries.LOINC}"/>{value}</observation>'
    [observation] = of_type(made((source(1), cda(section("x", entry, code="30954-2")))), "Observation")
    found = observation[element]
    if isinstance(expected, dict):
        assert {k: str(found[k]) for k in expected} == expected
    else:
        assert found == expected


def test_a_denied_value_is_denied() -> None:
    entry = (
        f'<observation classCode="OBS" moodCode="EVN" negationInd="true"><code code="8" codeSystem="{summaries.SNOMED}"/>'
        f'<value xsi:type="CD" code="371632003" codeSystem="{summaries.SNOMED}" displayName="Śpiączka"/></observation>'
    )
    [observation] = of_type(made((source(1), cda(section("x", entry, code="47420-5")))), "Observation")
    assert observation["valueString"].startswith("Źródło zaprzecza: Śpiączka")


def test_a_source_is_what_the_registry_says_of_it() -> None:
    entry = DocumentEntry(
        entry_uuid="urn:uuid:0f0e0d0c-0000-4000-8000-000000000001",
        unique_id="1.2^3",
        repository_unique_id="1.2.9",
        title=(("pl-PL", "Karta informacyjna"),),
        type_code=Code("00.20", "1.2.4", (("pl-PL", "Karta z leczenia"),)),
        author=(Author(person=("123^Nowak^Anna^Maria^^dr",), institution=("Szpital^^^^^&1.2&ISO^^^^1",)),),
        creation_time="20240102",
        hash="AB",
    )
    found = ips.to_source(entry)
    assert (found.author, found.title, found.type_name) == (
        "dr Anna Maria Nowak, Szpital",
        "Karta informacyjna",
        "Karta z leczenia",
    )
    bundle = made((found, cda()))
    [document] = of_type(bundle, "DocumentReference")
    assert document["masterIdentifier"] == {"system": "urn:oid:1.2", "value": "3"}
    assert "hash" not in document["content"][0]["attachment"], "no SHA-1"


def test_the_examples_of_hl7_have_the_shape_that_is_asked_for() -> None:
    """The five bundles of the guide: what :func:`check_document` wants of a Composition is not more than they have."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "ihe" / "hl7-ips-sushi-compiled"
    files = sorted(folder.glob("Bundle-*.json"))
    if not files:
        pytest.skip("the bundles of the guide are not beside this repository")
    ours = made((source(1), cda(section("x", diagnosis("I10", "N"), code="29548-5"))))
    for path in files:
        theirs = json.loads(path.read_text())
        mine, other = composition(ours), composition(theirs)
        needed = {"status", "type", "subject", "date", "author", "title", "section"}
        assert needed <= other.keys()
        assert needed <= mine.keys()
        assert mine["type"] == other["type"]
        assert {"identifier", "type", "timestamp", "entry"} <= theirs.keys() & ours.keys()
        known = {s["code"]["coding"][0]["code"]: s["code"]["coding"][0]["display"] for s in other["section"]}
        for part in mine["section"]:
            for coding in part["code"].get("coding", ()):
                assert known.get(coding["code"], coding["display"]) == coding["display"]
        assert {"11450-4", "48765-2", "10160-0"} <= known.keys()
