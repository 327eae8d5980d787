"""The demo's people and documents are mixed, plausible and the same every time."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from datetime import UTC, date, datetime
from uuid import uuid4

import pytest
from faker import Faker
from stdnum.pl import pesel as stdnum_pesel

from obieg.domain.affinity_domain import polish
from obieg.mapping import pik
from obieg.ops.demo_files import pdf, png_curve
from obieg.ops.people import data, seeded
from obieg.ops.population import (
    DOCUMENTS,
    PEOPLE,
    TODAY,
    DemoDocument,
    Person,
    demo_documents,
    documents,
    facilities,
    people,
    pesel,
)
from obieg.wire.cda import CdaHeader, read_header
from obieg.wire.xml import parse_document


@pytest.fixture(scope="module")
def population() -> list[Person]:
    return people()


@pytest.fixture(scope="module")
def made(population: list[Person]) -> list[DemoDocument]:
    return list(demo_documents(population))


@pytest.fixture(scope="module")
def headers(made: list[DemoDocument]) -> list[CdaHeader]:
    return [read_header(document.data) for document in made]


def test_the_same_seed_gives_the_same_region(population: list[Person], made: list[DemoDocument]):
    assert people() == population
    hospital = facilities()["szpital-a"]
    again = list(documents(population, 20, 616, hospital))
    assert again == [document for document in made if document.facility == hospital][:20]
    assert people(seed=1) != population
    assert list(documents(population, 5, 1, hospital)) != again[:5]


def test_the_default_amounts(population: list[Person], made: list[DemoDocument]):
    assert len(population) == PEOPLE == 240
    assert len(made) == DOCUMENTS == 1200
    assert len({person.number for person in population}) == PEOPLE
    assert {document.facility.key for document in made} == set(facilities())


def test_every_pesel_is_right(population: list[Person]):
    with_pesel = [person for person in population if person.pesel]
    assert len(with_pesel) > 200
    assert len({person.pesel for person in with_pesel}) == len(with_pesel)
    for person in with_pesel:
        assert stdnum_pesel.is_valid(person.pesel), person
        assert stdnum_pesel.get_birth_date(person.pesel) == person.born
        assert stdnum_pesel.get_gender(person.pesel) == person.sex


@pytest.mark.parametrize(
    ("born", "sex", "serial"),
    [
        (date(1899, 12, 31), "M", 0),
        (date(1944, 5, 14), "M", 135),
        (date(2000, 1, 1), "F", 9999),
        (date(2099, 2, 28), "F", 5),
    ],
)
def test_pesel_of_every_century(born: date, sex: str, serial: int):
    number = pesel(born, sex, serial)
    assert stdnum_pesel.is_valid(number)
    assert stdnum_pesel.get_birth_date(number) == born
    assert stdnum_pesel.get_gender(number) == sex


def test_there_are_people_of_every_kind(population: list[Person]):
    newborns = [person for person in population if person.newborn]
    assert len(newborns) >= 3
    for person in newborns:
        assert not person.given
        assert not person.pesel
        assert person.born
        assert 0 < (TODAY - person.born).days <= 28
        assert person.mother_given
        assert stdnum_pesel.get_gender(person.mother_pesel) == "F"
    assert any(person.birth_order for person in newborns)
    foreigners = [person for person in population if person.passport]
    assert len(foreigners) >= 3
    assert all(person.country in data()["countries"] and not person.pesel for person in foreigners)
    assert any(not person.family for person in population)
    assert any(person.given and not person.pesel and not person.passport for person in population)
    for person in population:
        assert person.born is None or date(1929, 1, 1) < person.born < TODAY


def test_names_go_with_the_sex(population: list[Person]):
    fake = Faker("pl_PL")
    provider = next(provider for provider in fake.get_providers() if hasattr(provider, "first_names_female"))
    names = {"F": set(provider.first_names_female), "M": set(provider.first_names_male)}
    for person in population:
        if person.given and not person.passport:
            assert set(person.given) <= names[person.sex], person
            assert not (person.family.endswith("ska") and person.sex == "M")
            assert not (person.family.endswith("ski") and person.sex == "F")


def test_a_feed_can_be_made_of_a_person(population: list[Person]):
    hospital = facilities()["szpital-a"]
    person = next(person for person in population if person.pesel)
    assert person.demographics.birth_date == f"{person.born:%Y%m%d}"
    own, national = hospital.identifiers(person)
    assert own == hospital.patient_id(person)
    assert own.authority.endswith(".17.1")
    assert national.value == person.pesel
    numbers = {facility.patient_id(someone) for facility in facilities().values() for someone in population}
    assert len(numbers) == len(facilities()) * len(population)
    foreigner = next(person for person in population if person.passport)
    assert hospital.identifiers(foreigner)[1].value == foreigner.passport
    assert foreigner.demographics.address.country


def test_unique_ids_are_unique_and_true(made: list[DemoDocument], headers: list[CdaHeader]):
    assert len({document.unique_id for document in made}) == len(made)
    for document, header in zip(made, headers, strict=True):
        assert header.id is not None
        assert header.id.oid_form == document.unique_id
        assert header.id.root.startswith(document.facility.node)


def test_corrections_follow_what_they_correct(made: list[DemoDocument], headers: list[CdaHeader]):
    seen: dict[str, CdaHeader] = {}
    corrections = 0
    for document, header in zip(made, headers, strict=True):
        for replaced in document.replaces:
            corrections += 1
            first = seen[replaced]
            assert header.set_id == first.set_id
            assert header.version_number == 2
            assert first.version_number == 1
            assert header.patient == first.patient
            assert header.authors[0].time > first.authors[0].time
        seen[document.unique_id] = header
    assert corrections > 40


def test_the_documents_are_mixed(made: list[DemoDocument], headers: list[CdaHeader]):
    templates = Counter(header.template for header in headers)
    assert set(templates) == {"15", "16", "17", "18", "19", "28"}
    assert min(templates.values()) > 40
    media = Counter(header.body.media_type for header in headers)
    assert media["application/pdf"] > 40
    assert media["image/png"] > 10
    confidentiality = Counter(header.confidentiality.code for header in headers if header.confidentiality)
    assert confidentiality["R"] > 5
    assert confidentiality["V"] >= 1
    times = Counter(len(header.effective_time) for header in headers)
    assert set(times) == {8, 14, 19}
    assert max(len(document.data) for document in made) > 30_000
    texts = Counter(document.data for document in made)
    assert max(texts.values()) == 1
    assert len({header.authors[0].names for header in headers}) > 30
    assert len({document.person.number for document in made}) > 200


def test_the_documents_fit_their_patients(made: list[DemoDocument], headers: list[CdaHeader]):
    for document, header in zip(made, headers, strict=True):
        person = document.person
        assert header.encounter is not None
        assert header.encounter.time.low[:8] <= header.authors[0].time[:8]
        assert header.authors[0].time[:8] <= f"{TODAY:%Y%m%d}"
        if person.born:
            assert f"{person.born:%Y%m%d}" <= header.encounter.time.low[:8]
        text = document.data.decode()
        assert "{" not in text
        assert "[" not in text
        if person.sex == "M":
            assert "pacjentka" not in text
            assert "O80.0" not in text
        else:
            assert "N40" not in text
        if person.born and (int(header.encounter.time.low[:4]) - person.born.year) < 16:
            assert "alkohol" not in text
            assert "palenia" not in text
        if person.newborn:
            assert "P59.9" in text or header.body.binary or header.template in {"16", "17"}
            assert header.patient.guardian_ids
        assert header.body.binary or "Wszystkie dane są fikcyjne" in text


def test_results_are_plausible(made: list[DemoDocument]):
    limits = {"Sód (Na)": (115, 165), "Potas (K)": (2.0, 7.5), "Hemoglobina glikowana HbA1c": (3.5, 14)}
    found = 0
    for document in made:
        for observation in parse_document(document.data).iter("{urn:hl7-org:v3}observation"):
            name = observation.find("{urn:hl7-org:v3}code").get("displayName")
            if name in limits:
                low, high = limits[name]
                value = float(observation.find("{urn:hl7-org:v3}value").get("value"))
                assert low < value < high, (name, value)
                found += 1
    assert found > 50


def test_everything_fits_the_polish_affinity_domain(made: list[DemoDocument]):
    for document in made:
        described = pik.describe_cda(
            document.data,
            patient_id="1^^^&1.2.3&ISO",
            source_id="1.2.3.4",
            now=datetime(2026, 10, 1, tzinfo=UTC),
            new_uuid=uuid4,
        )
        entry = described.entry
        assert entry.unique_id == document.unique_id
        assert described.replaces == document.replaces
        assert entry.source_patient_id == str(document.facility.patient_id(document.person))
        for attribute in ("class_code", "type_code", "healthcare_facility_type_code", "practice_setting_code"):
            code = getattr(entry, attribute)
            assert polish().display(attribute, code.code, code.scheme), (attribute, code)
        for code in entry.event_code_list:
            assert polish().accepts("event_code_list", code.code, code.scheme), code


def test_the_files_are_files():
    content = pdf(["Zażółć (gęślą) jaźń \\ " * 10, "", "x"])
    assert pik.media_type(content) == "application/pdf"
    start = int(content.rsplit(b"startxref\n", 1)[1].split()[0])
    assert content[start:].startswith(b"xref\n0 6\n")
    for number, line in enumerate(content[start:].split(b"\n")[3:8], 1):
        assert content[int(line[:10]) :].startswith(b"%d 0 obj" % number)
    image = png_curve(seeded("test"), width=100, height=40)
    assert pik.media_type(image) == "image/png"
    assert struct.unpack(">II", image[16:24]) == (100, 40)
    size = struct.unpack(">I", image[33:37])[0]
    assert len(zlib.decompress(image[41 : 41 + size])) == 101 * 40


def test_the_tables_hold_together():
    tables = data()
    for case in tables["case"]:
        assert set(case["panels"]) <= set(tables["panels"])
        assert set(case["studies"]) <= set(tables["studies"])
