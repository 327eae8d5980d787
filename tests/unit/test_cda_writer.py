"""What is written is valid, can be read back, and says what it was given."""

from __future__ import annotations

import base64
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from msgspec.structs import replace

from obieg.ops.demo_files import pdf
from obieg.ops.population import demo_documents, people
from obieg.wire import cda
from obieg.wire.cda import (
    Address,
    Author,
    Coded,
    Encounter,
    Id,
    Name,
    Organisation,
    Patient,
    Period,
    Telecom,
    read_header,
)
from obieg.wire.cda_writer import (
    TEMPLATES,
    Attachment,
    CdaDocument,
    Diagnosis,
    Result,
    Section,
    Stay,
    write_document,
)
from obieg.wire.xml import parse_document

PL = "2.16.840.1.113883.3.4424"
NS = {"c": "urn:hl7-org:v3", "e": "http://www.csioz.gov.pl/xsd/extPL/r3"}
DOCUMENTS_PER_SECOND_MIN = 300


@cache
def _schema(source: Path, target: Path) -> etree.XMLSchema:
    for path in source.rglob("*.xsd"):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes().replace(b"csioz.gov.pl/xsd/extPL/r2", b"csioz.gov.pl/xsd/extPL/r3"))
    return etree.XMLSchema(etree.parse(target / "extPL_r2.xsd"))


@pytest.fixture(scope="session")
def schema_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plcda-xsd")


@pytest.fixture
def schema(shared: Path, schema_folder: Path) -> etree.XMLSchema:
    """A schema for PIK HL7 CDA 1.3.2, derived from the published one of 1.3.1 by changing the extension's namespace.

    It is NOT official: the schema of the namespace r3 is not at hand.
    """
    return _schema(shared / "data/p1/paczos+sim/transformata_hl7/plcda-xsd-1.3.1", schema_folder)


def valid(schema: etree.XMLSchema, document: bytes) -> None:
    if not schema.validate(parse_document(document)):
        raise AssertionError(f"{schema.error_log.last_error}\n{document.decode()}")


def test_the_derived_schema_accepts_the_published_samples_and_refuses_others(shared: Path, schema: etree.XMLSchema):
    for path in sorted((shared / "data/p1/paczos+sim/transformata_hl7").glob("*.xml")):
        sample = path.read_bytes().replace(b"extPL/r2", b"extPL/r3")
        valid(schema, sample)
        assert not schema.validate(parse_document(sample.replace(b"<setId", b"<set", 1)))


PATIENT = Patient(
    ids=(Id(f"{PL}.2.7.5.17.1", "12"), Id(f"{PL}.1.1.616", "44051401359")),
    names=(Name(family=("Kowalska-Nowak",), given=("Maria", "Anna")),),
    birth_time="19440514",
    gender="F",
    addresses=(
        Address(
            country="Polska",
            postal_code="30-001",
            post_city="Kraków",
            city="Kraków",
            street="Długa",
            house="1",
            unit="2",
            census_tracts=("TERYT TERC: 1261011",),
        ),
    ),
    telecoms=(Telecom("tel:+48123456789"),),
)
AUTHOR = Author(
    ids=(Id(f"{PL}.1.6.2", "7724513"),),
    names=(Name(family=("Nowak",), given=("Piotr",), prefix=("dr n. med.",)),),
    function=Coded("LEK", f"{PL}.11.3.18", "Lekarz"),
    specialty=Coded("0718", f"{PL}.11.3.3", "neurologia"),
    time="20260301120000",
    organisation=Organisation(
        ids=(Id(f"{PL}.2.3.3", "000000001007-001"),),
        name="Oddział neurologiczny",
        telecoms=(Telecom("tel:12-5550100", "PUB"),),
        addresses=(Address(postal_code="30-001", city="Kraków", street="Solna", house="3"),),
        industry=Coded("4220", f"{PL}.11.2.4", "Oddział neurologiczny"),
        whole=Organisation(
            ids=(Id(f"{PL}.2.2.2", "12345678901234"),),
            name="Szpital",
            whole=Organisation(
                ids=(Id(f"{PL}.2.3.1", "000000001007"), Id(f"{PL}.2.2.1", "123456789")), name="Szpital sp. z o.o."
            ),
        ),
    ),
)
DIAGNOSES = (
    Diagnosis("I63.3", "Zawał mózgu wywołany przez zakrzep", "Udar niedokrwienny mózgu", main=True),
    Diagnosis("I10", "Nadciśnienie tętnicze samoistne"),
)
RESULTS = (
    Result("Sód", "146", "mmol/l", "135", "145", "O35", "202603010812"),
    Result("CRP", "3.2", "mg/l", "", "5.0", "I81", "202603010812"),
    Result("Bakterie", "nieliczne", code="A01"),
    Result("WBC", "3.9", "10^3/µl", "4.0", "10.0"),
)
SECTIONS = {
    "stays": Section(
        "stays",
        stays=(
            Stay("4902", "SOR", Period("20260226", "20260227")),
            Stay("4220", "Oddział neurologiczny", Period("20260227", "20260301")),
        ),
    ),
    "diagnoses": Section("diagnoses", diagnoses=DIAGNOSES),
    "results": Section("results", results=RESULTS),
    "laboratory": Section("laboratory", paragraphs=("Materiał: krew",), results=RESULTS),
    "study": Section("study", paragraphs=("Bez zmian.",)),
    "treatment": Section("treatment", paragraphs=("Leczenie zachowawcze.",)),
    "discharge_summary": Section("discharge_summary", paragraphs=("Przebieg bez powikłań.",)),
    "recommendations": Section("recommendations", paragraphs=("Kontrola.",), items=("Polocard 150 mg", "Dieta")),
    "history": Section("history", paragraphs=("Od tygodnia ból głowy.",)),
    "examination": Section("examination", paragraphs=("RR 150/90 mmHg",)),
    "refusal": Section("refusal", paragraphs=("Brak wskazań do hospitalizacji.",)),
}
PERIOD = Period("20260226", "20260301")


def document(template: str, **changes: Any) -> CdaDocument:
    usual = CdaDocument(
        template=template,
        id=Id(f"{PL}.2.7.5.7.1", "100"),
        set_id=Id(f"{PL}.2.7.5.7.2", "50"),
        effective_time="20260301120000",
        patient=PATIENT,
        author=AUTHOR,
        service_events=(
            cda.ServiceEvent(
                code=Coded("89.00", f"{PL}.11.2.6", "Porada", "ICD-9-PL"), time=Period("20260301", "20260301")
            ),
        ),
        encounter=Encounter(
            ids=(Id(f"{PL}.2.7.5.98", "9"),),
            code=Coded("4220", f"{PL}.11.2.4", "Oddział neurologiczny"),
            time=PERIOD,
            disposition=Coded("1", f"{PL}.11.3.21", "zakończenie procesu"),
        ),
        orders=(Id(f"{PL}.2.7.5.4.1", "7"),),
        sections=tuple(SECTIONS[kind] for kind in TEMPLATES[template]),
    )
    return replace(usual, **changes)


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_is_valid(schema: etree.XMLSchema, template: str):
    valid(schema, write_document(document(template)))


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_header_reads_back(template: str):
    given = document(template)
    header = read_header(write_document(given))
    assert header.version == "1.3.2"
    assert header.template_ids == (Id(f"{PL}.13.10.1.{template}", "1.3.2"),)
    assert header.id == given.id
    assert header.set_id == given.set_id
    assert header.version_number == 1
    assert header.effective_time == given.effective_time
    assert header.patient == PATIENT
    assert header.authors == (AUTHOR,)
    assert header.custodian == Organisation(ids=(Id(f"{PL}.2.3.1", "000000001007"),))
    assert header.legal_authenticator == cda.Authenticator(ids=AUTHOR.ids, time=AUTHOR.time)
    assert header.service_events == given.service_events
    assert header.encounter == given.encounter
    assert header.orders == given.orders
    assert header.related_documents == ()
    assert header.body == cda.Body()


@pytest.mark.parametrize(
    ("template", "loinc", "klas", "title"),
    [
        ("15", "11488-4", "05.00", "Konsultacja lekarska"),
        ("16", "70004-7", "06.00", "Opis badania diagnostycznego"),
        ("17", "11502-2", "06.10", "Sprawozdanie z badania laboratoryjnego"),
        ("18", "18842-5", "00.20", "Karta informacyjna z leczenia szpitalnego"),
        ("19", "11488-4", "00.65", "Karta odmowy przyjęcia do szpitala"),
        ("28", "51852-2", "08.90", "Informacja dla lekarza kierującego/POZ"),
    ],
)
def test_codes_and_title_of_each_kind(template: str, loinc: str, klas: str, title: str):
    header = read_header(write_document(document(template)))
    assert header.title == title
    assert header.code is not None
    assert header.code.code == loinc
    assert [translation.code for translation in header.code.translations] == [klas]


def test_the_stylesheet_comes_before_the_root():
    assert write_document(document("18")).startswith(
        b'<?xml version="1.0" encoding="UTF-8"?>\n<?xml-stylesheet href="CDA_PL_IG_1.3.2.xsl" type="text/xsl"?>\n<ClinicalDocument'
    )


def test_a_correction(schema: etree.XMLSchema):
    previous = cda.RelatedDocument("RPLC", (Id(f"{PL}.2.7.5.7.1", "99"),), Id(f"{PL}.2.7.5.7.2", "50"), 1)
    data = write_document(document("18", version_number=2, previous=previous))
    valid(schema, data)
    header = read_header(data)
    assert header.version_number == 2
    assert header.related_documents == (previous,)


def test_a_file_in_place_of_text(schema: etree.XMLSchema):
    content = pdf(["Skan dokumentu papierowego"])
    for template in TEMPLATES:
        data = write_document(
            document(
                template,
                sections=(),
                attachment=Attachment("application/pdf", content),
                attachment_diagnoses=DIAGNOSES,
            )
        )
        valid(schema, data)
        assert read_header(data).body == cda.Body(binary=True, media_type="application/pdf")
        tree = parse_document(data)
        assert base64.b64decode(tree.findtext(".//c:observationMedia/c:value", namespaces=NS)) == content
        section = tree.find(".//c:section/c:code", NS)
        assert section.get("code") == tree.find("c:code", NS).get("code")


@pytest.mark.parametrize(
    "patient",
    [
        Patient(),
        Patient(ids=(Id("1.2", "3"),), gender="M"),
        Patient(ids=(Id("1.2", "3"),), names=(Name(family=("Smith",)),), birth_time="1980"),
        Patient(
            ids=(Id("1.2", "3"),),
            names=(Name(family=("Berthier",), prefix=("córka",)),),
            birth_time="202603010412",
            gender="F",
            mother=Name(given=("Corinne",)),
            father=Name(given=("Luc",)),
            guardian=Name(family=("Berthier",), given=("Corinne",)),
            guardian_ids=(Id(f"{PL}.1.1.250", "940992310285"),),
            multiple_birth=True,
            birth_order=2,
        ),
    ],
)
def test_patients_of_whom_little_is_known(schema: etree.XMLSchema, patient: Patient):
    data = write_document(document("19", patient=patient))
    valid(schema, data)
    assert read_header(data).patient == patient


def test_a_practice_and_an_author_without_function(schema: etree.XMLSchema):
    practice = Organisation(
        ids=(Id(f"{PL}.2.4.68.1", "000000046985-01"),),
        name="Praktyka lekarska",
        practice=Coded("L", f"{PL}.11.3.19", "Praktyka lekarska"),
        whole=Organisation(ids=(Id(f"{PL}.2.4.68", "000000046985"),), name="Praktyka lekarska"),
    )
    author = replace(AUTHOR, organisation=practice, function=None, specialty=None)
    data = write_document(document("15", author=author, encounter=None, orders=(), service_events=()))
    valid(schema, data)
    assert read_header(data).authors == (author,)


def test_an_encounter_without_times(schema: etree.XMLSchema):
    encounter = Encounter(location=Organisation(name="I Oddział Wewnętrzny"))
    data = write_document(document("17", encounter=encounter))
    valid(schema, data)
    assert read_header(data).encounter == encounter


def test_the_narrative_and_the_entries_point_at_each_other():
    tree = parse_document(write_document(document("18")))
    ids = tree.xpath("//@ID")
    references = tree.xpath("//c:reference/@value", namespaces=NS)
    assert len(ids) == len(set(ids))
    assert {reference.removeprefix("#") for reference in references} <= set(ids)
    assert tree.xpath("string(//*[@ID='DIAG_1'])") == "Udar niedokrwienny mózguI63.3"
    assert tree.xpath("string(//*[@ID='ENC_1'])") == "26.02.2026 - 27.02.2026 SOR"
    row = tree.xpath("//*[@ID='OBS_1']/c:td/text()", namespaces=NS)
    assert row == ["Sód (ICD-9: O35)", "146", "mmol/l", "135 - 145", "H", "01.03.2026 08:12"]
    value = tree.xpath("//c:observation[c:code/@code='I81']/c:value", namespaces=NS)[0]
    assert (value.get("value"), value.get("unit")) == ("3.2", "mg/l")


@pytest.mark.parametrize(
    ("value", "low", "high", "flag"),
    [
        ("5", "4", "6", ""),
        ("7", "4", "6", "H"),
        ("3.9", "4", "6", "L"),
        ("7", "", "6", "H"),
        ("7", "4", "", ""),
        ("ujemny", "", "", ""),
    ],
)
def test_flags(value: str, low: str, high: str, flag: str):
    assert Result("x", value, low=low, high=high).flag == flag


def test_any_text_survives(schema: etree.XMLSchema):
    wild = 'a < b & "c" > d ]]> \u0105\U0001f600'
    data = write_document(
        document(
            "15",
            title=wild,
            patient=replace(PATIENT, names=(Name(family=(wild,), given=("Zażółć",)),)),
            sections=(
                Section("history", wild, (wild, "\x00\x0b")),
                Section("diagnoses", diagnoses=(Diagnosis("A00", wild),)),
            ),
        )
    )
    valid(schema, data)
    header = read_header(data)
    assert header.title == wild
    assert header.patient.names[0].family == (wild,)
    tree = parse_document(data)
    assert tree.xpath("//c:paragraph/text()", namespaces=NS) == [wild, "\ufffd\ufffd"]
    assert tree.xpath("//c:observation/c:code/@displayName", namespaces=NS) == [wild]


def test_very_long_texts(schema: etree.XMLSchema):
    section = Section("discharge_summary", paragraphs=("Doba bez zmian. " * 50,) * 2000)
    data = write_document(document("18", sections=(section,)))
    assert len(data) > 1_500_000
    valid(schema, data)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sections": ()}, "either sections or an attachment"),
        ({"attachment": Attachment("image/png", b"")}, "either sections or an attachment"),
        ({"sections": (SECTIONS["stays"],)}, "has no section stays"),
        ({"version_number": 2}, "previous"),
        ({"author": replace(AUTHOR, ids=())}, "author"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        write_document(document("15", **changes))


def test_other_templates_are_refused():
    with pytest.raises(ValueError, match="template '3'"):
        write_document(replace(document("15"), template="3"))


def test_the_population_is_valid(schema: etree.XMLSchema):
    for made in demo_documents(people(), count=250):
        valid(schema, made.data)


def test_the_official_stylesheet_renders_it(shared: Path):
    path = shared / "data/p1/paczos+sim/transformata_hl7/CDA_PL_IG_1.3.1.xsl"
    if not path.exists():
        pytest.skip("the official stylesheet CDA_PL_IG_1.3.1.xsl is not among the reference data")
    stylesheet = etree.XSLT(etree.parse(path))
    data = write_document(document("18")).replace(b"extPL/r3", b"extPL/r2")
    assert "Udar niedokrwienny mózgu" in str(stylesheet(parse_document(data)))


def test_it_is_fast_enough():
    """The demo makes 1,200 documents while somebody waits."""
    given = document("18")
    best = min(_seconds(given) for _ in range(3))
    assert 50 / best > DOCUMENTS_PER_SECOND_MIN


def _seconds(given: CdaDocument) -> float:
    start = time.perf_counter()
    for _ in range(50):
        write_document(given)
    return time.perf_counter() - start
