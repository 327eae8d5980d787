"""Metadata of Polish documents: expectations written by hand from reading the published samples."""

from __future__ import annotations

import hashlib
import itertools
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from obieg.domain.affinity_domain import polish
from obieg.domain.documents import Association, AssociationType, Author, Code, DocumentEntry
from obieg.domain.identifiers import PatientId
from obieg.domain.persons import Address, Demographics, PersonName
from obieg.domain.problems import Problem
from obieg.mapping import pik

PL = "2.16.840.1.113883.3.4424"
PATIENT = "R-77^^^&1.2.616.1&ISO"
NOW = datetime(2026, 1, 2, 4, 4, 5, tzinfo=timezone(timedelta(hours=1)))


def describe(document: bytes) -> pik.Described:
    numbers = itertools.count(1)
    return pik.describe_cda(
        document,
        patient_id=PATIENT,
        source_id="1.2.616.9",
        now=NOW,
        new_uuid=lambda: UUID(int=next(numbers)),
        repository_unique_id="1.2.616.5",
    )


def path_of(shared: Path, number: str) -> Path:
    if number.startswith("karta"):
        return next((shared / "data/p1/sbojanowski+plcda-kmcr/sources").glob(f"**/{number}.xml"))
    return shared / f"data/p1/paczos+sim/transformata_hl7/{PL}.13.10.1.{number}.xml"


def klas(code: str, display: str) -> Code:
    return Code(code, "Klasyfikacja dokumentów P1", (("", display),))


def loinc(code: str, display: str) -> Code:
    return Code(code, "LOINC", (("", display),))


def cell(code: str, display: str) -> Code:
    return Code(code, "Specjalność komórki organizacyjnej", (("", display),))


def specialty(code: str, display: str) -> Code:
    return Code(code, f"{PL}.11.3.3", (("", display),))


def procedure(code: str, display: str) -> tuple[Code, ...]:
    return (Code(code, f"{PL}.11.2.6", (("", display),)),)


NEUROLOGY = specialty("0718", "neurologia")
FAMILY_MEDICINE = specialty("0713", "medycyna rodzinna")
POZ = cell("0010", "Poradnia (gabinet) lekarza POZ")

KOWALSKI = (
    f"PID-3|12345^^^&{PL}.2.7.0.17.1&ISO",
    f"PID-3|62091599999^^^&{PL}.1.1.616&ISO",
    "PID-5|Kowalski^Jan^Franciszek",
    "PID-7|19620915",
    "PID-8|M",
    "PID-11|Odkryta 41/12^^Warszawa^^01-134",
)
NOWAK_DR = f"7724513^Nowak^Piotr^^^dr n. med.^^^&{PL}.1.6.2&ISO"
NOWAK_LEK = f"7724513^Nowak^Piotr^^^lek.^^^&{PL}.1.6.2&ISO"
NOWAK_LAB = f"7724513^Nowak^Piotr^^^mgr^^^&{PL}.1.6.4&ISO"
HOSPITAL = f"Wojewódzki Szpital Specjalistyczny^^^^^&{PL}.2.3.1&ISO^^^^2004"
SET = f"432231^^^&{PL}.2.7.0.7.2&ISO^urn:obieg:cda:setId"
ENCOUNTER = f"323432^^^&{PL}.2.7.0.98&ISO^urn:ihe:iti:xds:2015:encounterId"


def hospital_ward(name: str) -> str:
    return f"{name}^^^^^&{PL}.2.3.3&ISO^^^^2004-09"


# What almost all samples share; a row below says what is its own.
USUAL: dict[str, Any] = {
    "unique_id": f"{PL}.2.7.0.7.1^2345678",
    "source_patient_id": f"12345^^^&{PL}.2.7.0.17.1&ISO",
    "source_patient_info": KOWALSKI,
    "creation_time": "20140906",
    "service_start_time": None,
    "service_stop_time": None,
    "event_code_list": (),
    "legal_authenticator": NOWAK_DR,
    "reference_id_list": (SET,),
    "replaces": (),
}

SAMPLES: dict[str, dict[str, Any]] = {
    "14-1": {
        "unique_id": f"{PL}.7.2.9^2345678",
        "class_code": klas("08.80", "Dokument anulujący"),
        "type_code": loinc("51851-4", "Administrative note"),
        "healthcare_facility_type_code": POZ,  # the unit has no code
        "practice_setting_code": NEUROLOGY,  # first of 0718_0726
        "author": (
            Author(
                person=(NOWAK_LEK,),
                institution=(
                    f"POL-MED Sp. z o.o.^^^^^&{PL}.2.3.1&ISO^^^^1007",
                    f"Poradnia POZ^^^^^&{PL}.2.3.2&ISO^^^^1007-01",
                ),
                role=("Lekarz",),
                specialty=("neurologia, radiologia i diagnostyka obrazowa",),
            ),
        ),
        "creation_time": "20130420",
        "legal_authenticator": NOWAK_LEK,
        "reference_id_list": (f"432231^^^&{PL}.7.2.2&ISO^urn:obieg:cda:setId",),
        "title": "Dokument anulujący",
        "replaces": (f"{PL}.7.2.1^2345678",),
    },
    "15-1": {
        "class_code": klas("05.00", "Konsultacja lekarska"),
        "type_code": loinc("11488-4", "Consult note"),
        "healthcare_facility_type_code": cell(
            "1220", "Poradnia neurologiczna"
        ),  # of the encounter: a practice has none
        "practice_setting_code": NEUROLOGY,  # of the clinic
        "author": (
            Author(
                person=(NOWAK_DR,),
                institution=(
                    f"Praktyka lekarska Jan Nowak^^^^^&{PL}.2.4.68&ISO^^^^000000046985",
                    f"Praktyka lekarska Jan Nowak^^^^^&{PL}.2.4.68.1&ISO^^^^000000046985-01",
                ),
                role=("Lekarz",),
            ),
        ),
        "service_start_time": "20140906",
        "service_stop_time": "20140906",
        "event_code_list": procedure("89.005", "Konsultacja neurologiczna"),
        "title": "Konsultacja neurologa",
    },
    "16-1": {
        "class_code": klas("06.00", "Opis badania diagnostycznego"),
        "type_code": loinc("70004-7", "Diagnostic study note"),
        "healthcare_facility_type_code": cell("7200", "Pracownia diagnostyki obrazowej"),
        "practice_setting_code": specialty("0726", "radiologia i diagnostyka obrazowa"),
        "author": (
            Author(
                person=(NOWAK_LEK,),
                institution=(
                    f"POL-MED Sp. z o.o.^^^^^&{PL}.2.3.1&ISO^^^^1007",
                    f"Poradnia POZ^^^^^&{PL}.2.3.2&ISO^^^^1007-01",
                ),
                role=("Lekarz",),
            ),
        ),
        "service_start_time": "201409050812",  # 10:12 in Warsaw, summer
        "service_stop_time": "201409050812",
        "event_code_list": procedure("87.440", "RTG klatki piersiowej"),
        "legal_authenticator": NOWAK_LEK,
        "title": "RTG klatki piersiowej",
    },
    "17-1": {
        "class_code": klas("06.10", "Wynik badania laboratoryjnego"),
        "type_code": loinc("11502-2", "Laboratory report"),
        "healthcare_facility_type_code": cell("8502", "Punkt pobrań krwi"),
        "practice_setting_code": specialty("0708", "diagnostyka laboratoryjna"),
        "author": (
            Author(
                person=(NOWAK_LAB,),
                institution=(
                    f"ABC-LAB Sp. z o.o.^^^^^&{PL}.2.3.1&ISO^^^^2004",
                    f"Laboratorium analityczne ABC-LAB^^^^^&{PL}.2.3.2&ISO^^^^2004-09",
                ),
                role=("Diagnosta laboratoryjny",),
            ),
        ),
        "creation_time": "20141001",
        "service_start_time": "201409050812",
        "service_stop_time": "201409050812",
        "legal_authenticator": NOWAK_LAB,
        "title": "Sprawozdanie z badania laboratoryjnego",
    },
    "17-3": {
        "class_code": klas("06.10", "Wynik badania laboratoryjnego"),
        "type_code": loinc("11502-2", "Laboratory report"),
        "healthcare_facility_type_code": cell("4000", "Oddział chorób wewnętrznych"),
        "practice_setting_code": specialty("0705", "choroby wewnętrzne"),
        "author": (
            Author(
                person=(NOWAK_LAB,),
                institution=(
                    f"ABC-LAB Sp. z o.o.^^^^^&{PL}.2.3.1&ISO^^^^2004",
                    f"Laboratorium analityczne ABC-LAB^^^^^&{PL}.2.3.2&ISO^^^^2004-09",
                ),
                role=("Diagnosta laboratoryjny",),
            ),
        ),
        "legal_authenticator": NOWAK_LAB,
        "title": "Sprawozdanie z badania laboratoryjnego",
    },
    "18-1": {
        "class_code": klas("00.20", "Karta informacyjna leczenia szpitalnego"),
        "type_code": loinc("18842-5", "Discharge summary"),
        "healthcare_facility_type_code": cell("4220", "Oddział neurologiczny"),
        "practice_setting_code": NEUROLOGY,
        "author": (
            Author(person=(NOWAK_DR,), institution=(HOSPITAL, hospital_ward("Oddział neurologii")), role=("Lekarz",)),
        ),
        "service_start_time": "20140901",
        "service_stop_time": "20140906",
        "reference_id_list": (ENCOUNTER, SET),
        "title": "Karta informacyjna z leczenia szpitalnego",
    },
    "19-1B-png": {
        "class_code": klas("00.65", "Informacja o odmowie przyjęcia"),
        "type_code": loinc("11488-4", "Consult note"),
        "healthcare_facility_type_code": cell(
            "4220", "Oddział neurologiczny"
        ),  # the author's, not the encounter's 4900
        "practice_setting_code": NEUROLOGY,
        "author": (
            Author(person=(NOWAK_DR,), institution=(HOSPITAL, hospital_ward("Izba przyjęć")), role=("Lekarz",)),
        ),
        "service_start_time": "20140906",
        "service_stop_time": "20140906",
        "reference_id_list": (ENCOUNTER, SET),
        "title": "Karta odmowy przyjęcia do szpitala",
    },
    "20-1": {
        "class_code": klas("00.60", "Protokół operacyjny"),
        "type_code": loinc("11504-8", "Provider-unspecified Operation note"),
        "healthcare_facility_type_code": cell("4500", "Oddział chirurgiczny ogólny"),
        "practice_setting_code": Code("05", "Dziedzina medyczna", (("", "Chirurgia ogólna"),)),
        "author": (
            Author(person=(NOWAK_DR,), institution=(HOSPITAL, hospital_ward("I Oddział Chirurgii")), role=("Lekarz",)),
        ),
        "service_start_time": "201409060700",  # 09:00 to 11:23 in Warsaw
        "service_stop_time": "201409060923",
        "event_code_list": procedure("45.31", "Inne miejscowe wycięcie zmiany dwunastnicy"),
        "reference_id_list": (ENCOUNTER, SET),
        "title": "Protokół operacyjny",
    },
    "21-1": {
        "class_code": klas("07.61", "Wpis do karty szczepień"),
        "type_code": loinc("34109-9", "Note"),
        "healthcare_facility_type_code": cell("4220", "Oddział neurologiczny"),
        "practice_setting_code": NEUROLOGY,
        "author": (
            Author(person=(NOWAK_DR,), institution=(HOSPITAL, hospital_ward("Oddział neurologii")), role=("Lekarz",)),
        ),
        "source_patient_info": (
            f"PID-3|12345^^^&{PL}.2.7.0.17.1&ISO",
            f"PID-3|09290111832^^^&{PL}.1.1.616&ISO",
            "PID-5|Kowalski^Jan^Franciszek",
            "PID-7|20090901",
            "PID-8|M",
            "PID-11|Odkryta 41/12^^Warszawa^^01-134",
        ),
        "creation_time": "20150907",
        "service_start_time": "20150907",
        "service_stop_time": "20150907",
        "event_code_list": procedure("99.39", "Podanie szczepionki di-te-per"),
        "reference_id_list": (ENCOUNTER, SET),
        "title": "Wpis do karty uodpornienia",
    },
    "23-1": {
        "class_code": klas("05.70", "Pozostałe dokumenty pielęgniarskie"),
        "type_code": loinc("46208-5", "Nursing notes"),
        "healthcare_facility_type_code": cell("4220", "Oddział neurologiczny"),
        "practice_setting_code": NEUROLOGY,
        "author": (
            Author(
                person=(f"7724514^Nowak^Anna^^^^^^&{PL}.1.6.3&ISO",),
                institution=(
                    f"Wojewódzki szpital specjalistyczny^^^^^&{PL}.2.3.1&ISO^^^^2004",
                    hospital_ward("Oddział neurologii"),
                ),
                role=("Pielęgniarka",),
            ),
        ),
        "source_patient_info": (
            f"PID-3|12345^^^&{PL}.2.7.0.17.1&ISO",
            f"PID-3|64012608919^^^&{PL}.1.1.616&ISO",
            "PID-5|Kowalski^Jan^Franciszek",
            "PID-7|19640126",
            "PID-8|M",
            "PID-11|Odkryta 41/12^^Warszawa^^01-134",
        ),
        "creation_time": "20150907",
        "service_start_time": "20150907",  # the encounter goes on
        "legal_authenticator": f"7724514^Nowak^Anna^^^^^^&{PL}.1.6.3&ISO",
        "reference_id_list": (ENCOUNTER, SET),
        "title": "Karta oceny statusu zdrowotnego pacjenta",
    },
    "27-4": {
        "unique_id": f"{PL}.2.7.99999.5.1^543223454",
        "class_code": klas("04.12", "Realizacja recepty elektronicznej"),
        "type_code": loinc("60593-1", "Medication dispensed extended"),
        "healthcare_facility_type_code": POZ,  # a pharmacy has no VIII część
        "practice_setting_code": FAMILY_MEDICINE,
        "author": (
            Author(
                person=(f"82010199999^Miarka^Jerzy^^^tech. farm.^^^&{PL}.1.1.616&ISO",),
                institution=(f"Apteka porcelanowa^^^^^&{PL}.2.6&ISO^^^^12003",),
                role=("Technik farmaceutyczny",),
            ),
        ),
        "source_patient_id": f"1234567^^^&{PL}.2.7.0.17.1&ISO",
        "source_patient_info": (
            f"PID-3|1234567^^^&{PL}.2.7.0.17.1&ISO",
            f"PID-3|96013002256^^^&{PL}.1.1.616&ISO",
            "PID-5|Nowak^Anna^Maria",
            "PID-7|19960130",
            "PID-8|F",
            "PID-11|Szpitalna 3a/10^^Dzierżoniów^^58-200^Polska",
        ),
        "creation_time": "20150301112300",  # 12:23 in Warsaw, winter
        "legal_authenticator": f"82010199999^Miarka^Jerzy^^^tech. farm.^^^&{PL}.1.1.616&ISO",
        "reference_id_list": (f"24543234^^^&{PL}.2.7.99999.5.2&ISO^urn:obieg:cda:setId",),
        "title": "Realizacja recepty elektronicznej",
    },
    "28-1": {
        "unique_id": f"{PL}.2.7.0.7.1^2345699",
        "class_code": klas("08.90", "Informacja dla lekarza kierującego/POZ"),
        "type_code": loinc("51852-2", "Letter"),
        "healthcare_facility_type_code": cell("1220", "Poradnia neurologiczna"),
        "practice_setting_code": NEUROLOGY,
        "author": (
            Author(
                person=(NOWAK_DR,),
                institution=(HOSPITAL, hospital_ward("Poradnia neurologiczna")),
                role=("Lekarz",),
                specialty=("neurologia, radiologia i diagnostyka obrazowa",),
            ),
        ),
        "creation_time": "20160909",
        "service_start_time": "20140906",
        "service_stop_time": "20140906",
        "event_code_list": procedure("89.005", "Konsultacja neurologiczna"),
        "reference_id_list": (f"432299^^^&{PL}.2.7.0.7.2&ISO^urn:obieg:cda:setId",),
        "title": "Informacja dla lekarza POZ",
    },
    "karta-mcr": {
        "unique_id": f"{PL}.2.7.28.7.1^1000000000000376130",
        "class_code": klas("05.00", "Konsultacja lekarska"),
        "type_code": loinc("11503-0", "Medical document"),
        "healthcare_facility_type_code": cell("3112", "Zespół ratownictwa medycznego"),
        "practice_setting_code": specialty("0712", "medycyna ratunkowa"),
        "author": (
            Author(
                person=(f"7313648^Lecznicza^Wiktoria^^^^^^&{PL}.1.6.2&ISO",),
                institution=(
                    f"POGOTOWIE KATOWICKIE^^^^^&{PL}.2.3.1&ISO^^^^000000190353",  # the entity itself has no name
                    f"Katowice centrum WPR^^^^^&{PL}.2.3.3&ISO^^^^000000190353-1232",
                ),
            ),
        ),
        "source_patient_id": f"89083199973^^^&{PL}.2.7.28.17.1&ISO",  # PESEL comes first, the provider's own counts
        "source_patient_info": (
            f"PID-3|89083199973^^^&{PL}.1.1.616&ISO",
            f"PID-3|89083199973^^^&{PL}.2.7.28.17.1&ISO",
            "PID-5|KOWAL^JAN",
            "PID-7|19890831",
            "PID-8|M",
        ),
        "creation_time": "20240115111809",
        "legal_authenticator": f"7313648^Lecznicza^Wiktoria^^^^^^&{PL}.1.6.2&ISO",
        "reference_id_list": (f"1000000000000376130^^^&{PL}.2.7.28.1.4&ISO^urn:obieg:cda:setId",),
        "title": "Dokument medyczny",
    },
}


@pytest.mark.parametrize("number", SAMPLES)
def test_an_official_sample_field_by_field(shared: Path, number: str):
    document = path_of(shared, number).read_bytes()
    described = describe(document)
    expected = USUAL | SAMPLES[number]
    replaces = expected.pop("replaces")
    title = expected.pop("title")
    assert described.replaces == replaces
    assert described.entry == DocumentEntry(
        entry_uuid="urn:uuid:00000000-0000-0000-0000-000000000001",
        patient_id=PATIENT,
        mime_type="text/xml",
        format_code=Code("urn:extPL:pl-cda", "Kody formatów P1", (("", "PIK HL7 CDA"),)),
        confidentiality_code=(Code("N", "2.16.840.1.113883.5.25", (("", "normal"),)),),
        language_code="pl-PL",
        repository_unique_id="1.2.616.5",
        size=str(len(document)),
        hash=hashlib.sha1(document).hexdigest(),
        document_availability="urn:ihe:iti:2010:DocumentAvailability:Online",
        title=(("pl-PL", title),),
        **expected,
    )


def test_the_submission_set(shared: Path):
    described = describe(path_of(shared, "18-1").read_bytes())
    submission_set = described.submission_set
    assert submission_set.entry_uuid == "urn:uuid:00000000-0000-0000-0000-000000000002"
    assert submission_set.unique_id == "2.25.3"
    assert submission_set.source_id == "1.2.616.9"
    assert submission_set.patient_id == PATIENT
    assert submission_set.submission_time == "20260102030405"
    assert submission_set.content_type_code == Code("REGISTER", "Typ wysyłki", (("", "Rejestracja"),))
    assert submission_set.author == described.entry.author
    assert submission_set.title == (("pl-PL", "Karta informacyjna z leczenia szpitalnego"),)


def test_every_published_sample_fits_the_polish_affinity_domain(shared: Path):
    folder = shared / "data/p1/paczos+sim/transformata_hl7"
    for path in [*folder.glob("*.xml"), path_of(shared, "karta-mcr"), path_of(shared, "karta-medyczna")]:
        entry = describe(path.read_bytes()).entry
        for attribute in (
            "class_code",
            "type_code",
            "format_code",
            "healthcare_facility_type_code",
            "practice_setting_code",
        ):
            code = getattr(entry, attribute)
            assert polish().accepts(attribute, code.code, code.scheme), (path, attribute, code)
        assert all(polish().accepts("confidentiality_code", c.code, c.scheme) for c in entry.confidentiality_code)
        assert all(polish().accepts("event_code_list", c.code, c.scheme) for c in entry.event_code_list), path
        assert entry.mime_type in polish().mime_types


def test_a_submission_with_a_replacement(shared: Path):
    described = describe(path_of(shared, "14-1").read_bytes())
    numbers = itertools.count(100)
    submission = pik.submission(
        described, new_uuid=lambda: UUID(int=next(numbers)), replaced=["urn:uuid:11111111-1111-1111-1111-111111111111"]
    )
    assert submission.entries == (described.entry,)
    assert submission.associations == (
        Association(
            UUID(int=100).urn,
            AssociationType.HAS_MEMBER,
            described.submission_set.entry_uuid,
            described.entry.entry_uuid,
            submission_set_status="Original",
        ),
        Association(
            UUID(int=101).urn,
            AssociationType.RPLC,
            described.entry.entry_uuid,
            "urn:uuid:11111111-1111-1111-1111-111111111111",
        ),
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2014", "2014"),
        ("201409", "201409"),
        ("20140906", "20140906"),
        ("20140906+0200", "20140906"),  # a date stays the date that was written
        ("2014090612", "2014090610"),
        ("201409061012", "201409060812"),
        ("20140106101200", "20140106091200"),
        ("20140106101200.123+0100", "20140106091200"),
        ("20140106001200", "20140105231200"),
        ("20140906101200-0500", "20140906151200"),
        ("20141026023000", "20141026003000"),  # comes twice: the first is meant
        ("20140906101200+0000", "20140906101200"),
        ("", None),
        ("20141332", None),
        ("201", None),
        ("yesterday", None),
        ("20140906256000", None),
        ("00010101000000", None),
        ("20140906101200+9900", None),
    ],
)
def test_times_are_warsaw_time_unless_they_say_otherwise(written: str, meant: str | None):
    assert pik.utc(written) == meant


def cda(content: str) -> bytes:
    return f'<ClinicalDocument xmlns="urn:hl7-org:v3">{content}</ClinicalDocument>'.encode()


ESSENTIALS = '<id root="1.2.3" extension="4"/><effectiveTime value="2020"/>'


def test_a_document_that_says_next_to_nothing():
    described = describe(cda(ESSENTIALS))
    entry = described.entry
    assert entry.unique_id == "1.2.3^4"
    assert entry.class_code is None  # the registry will say so
    assert entry.healthcare_facility_type_code == POZ
    assert entry.practice_setting_code == FAMILY_MEDICINE
    assert entry.confidentiality_code[0].code == "N"
    assert entry.language_code == "pl-PL"
    assert entry.source_patient_id == PATIENT
    assert entry.source_patient_info == ("PID-8|U",)
    assert entry.author == ()
    assert entry.legal_authenticator is None
    assert entry.title == ()


def test_the_table_of_templates_stands_in_for_missing_codes():
    entry = describe(cda(f'<templateId root="{PL}.13.10.1.18"/>{ESSENTIALS}')).entry
    assert entry.class_code == klas("00.20", "Karta informacyjna leczenia szpitalnego")
    assert entry.type_code == loinc("18842-5", "Discharge summary")
    assert entry.healthcare_facility_type_code == cell("4000", "Oddział chorób wewnętrznych")
    assert entry.practice_setting_code == specialty("0705", "choroby wewnętrzne")
    assert entry.title == (("pl-PL", "Karta informacyjna z leczenia szpitalnego"),)


def test_delimiters_in_names_are_escaped():
    entry = describe(
        cda(
            f"""{ESSENTIALS}<recordTarget><patientRole><id root="1.2" extension="a^b&amp;c"/><patient>
            <name><given>A|B</given><family>O~N\\</family></name></patient></patientRole></recordTarget>
            <author><assignedAuthor><id root="1.3" extension="9"/><assignedPerson><name><family>X^Y</family></name>
            </assignedPerson><representedOrganization><name>Szpital &amp; Sp.</name></representedOrganization>
            </assignedAuthor></author>"""
        )
    ).entry
    assert entry.source_patient_id == r"a\S\b\T\c^^^&1.2&ISO"
    assert r"PID-5|O\R\N\E\^A\F\B" in entry.source_patient_info
    assert entry.author == (Author(person=(r"9^X\S\Y^^^^^^^&1.3&ISO",), institution=(r"Szpital \T\ Sp.",)),)


def test_a_newborn_without_a_name_of_its_own():
    entry = describe(
        cda(
            f"""{ESSENTIALS}<recordTarget><patientRole><id root="{PL}.2.7.0.17.1" extension="1"/><patient>
            <name><prefix>córka</prefix><given nullFlavor="NA"/><family>Berthier</family></name>
            <administrativeGenderCode code="UN"/><birthTime value="202005201214"/></patient></patientRole></recordTarget>"""
        )
    ).entry
    assert entry.source_patient_info == (
        f"PID-3|1^^^&{PL}.2.7.0.17.1&ISO",
        "PID-5|Berthier^^^^córka",
        "PID-7|20200520",
        "PID-8|O",
    )


def test_orders_and_telephones():
    entry = describe(
        cda(
            f"""{ESSENTIALS}<author><assignedAuthor><id root="1.3" extension="9"/><telecom value="tel:12-3"/>
            <telecom value="mailto:a@example.org"/><telecom value="x"/></assignedAuthor></author>
            <inFulfillmentOf><order><id root="1.2" extension="a"/></order></inFulfillmentOf>"""
        )
    ).entry
    assert entry.author[0].telecommunication == ("^^PH^^^^^^^^^12-3", "^^Internet^a@example.org")
    assert entry.reference_id_list == ("a^^^&1.2&ISO^urn:ihe:iti:xds:2013:order",)


@pytest.mark.parametrize(
    ("document", "locations"),
    [
        (b"not xml", [""]),
        (b"<a/>", ["/"]),
        (cda(""), ["/ClinicalDocument/id", "/ClinicalDocument/effectiveTime"]),
        (cda('<id root="1.2"/><effectiveTime value="soon"/>'), ["/ClinicalDocument/effectiveTime"]),
    ],
)
def test_what_cannot_be_described_is_said_precisely(document: bytes, locations: list[str]):
    with pytest.raises(Problem) as problem:
        describe(document)
    assert [finding.location for finding in problem.value.findings] == locations
    assert {finding.code for finding in problem.value.findings} == {"InvalidDocumentContent"}


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (b"%PDF-1.7\n", "application/pdf"),
        (b"\x89PNG\r\n\x1a\n\x00", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"II*\x00", "image/tiff"),
        (bytes(128) + b"DICM", "application/dicom"),
        (b'<?xml version="1.0"?><a/>', "text/xml"),
        (b"\xef\xbb\xbf\n<a/>", "text/xml"),
        ("Zażółć gęślą jaźń".encode(), "text/plain"),
        ("Zażółć".encode("cp1250"), None),
        (b"a\x00b", None),
        (b"", None),
    ],
)
def test_the_media_type_shows_in_the_content(document: bytes, kind: str | None):
    assert pik.media_type(document) == kind


OPTIONS = pik.DocumentOptions(
    unique_id="1.2.3^9",
    class_code="06.00",
    type_code="70004-7",
    title="Skan opisu",
    creation_time="20240701120000",
    source_patient_id=PatientId("12", "1.2.616.4"),
    patient=Demographics(
        names=(PersonName(family="Nowak", given=("Anna",)),),
        birth_date="19800102",
        sex="F",
        addresses=(Address(city="Kraków", postal_code="30-001"),),
    ),
    facility="4500",
    confidentiality="R",
    event_codes=("87.440",),
    service_start_time="202407011100",
    replaces=("1.2.3^8",),
)


def describe_file(document: bytes, options: pik.DocumentOptions) -> pik.Described:
    numbers = itertools.count(1)
    return pik.describe_file(
        document, options, patient_id=PATIENT, source_id="1.2.616.9", now=NOW, new_uuid=lambda: UUID(int=next(numbers))
    )


def test_a_file_described_by_hand():
    described = describe_file(b"%PDF-1.4 x", OPTIONS)
    assert described.replaces == ("1.2.3^8",)
    assert described.entry == DocumentEntry(
        entry_uuid="urn:uuid:00000000-0000-0000-0000-000000000001",
        unique_id="1.2.3^9",
        patient_id=PATIENT,
        mime_type="application/pdf",
        class_code=klas("06.00", "Opis badania diagnostycznego"),
        type_code=loinc("70004-7", "Diagnostic study note"),
        format_code=Code(
            "urn:ihe:iti:xds:2017:mimeTypeSufficient", "1.3.6.1.4.1.19376.1.2.3", (("", "MIME type sufficient"),)
        ),
        healthcare_facility_type_code=cell("4500", "Oddział chirurgiczny ogólny"),
        practice_setting_code=Code("05", "Dziedzina medyczna", (("", "Chirurgia ogólna"),)),
        confidentiality_code=(Code("R", "2.16.840.1.113883.5.25", (("", "restricted"),)),),
        event_code_list=(Code("87.440", f"{PL}.11.2.6"),),
        creation_time="20240701100000",
        service_start_time="202407010900",
        language_code="pl-PL",
        source_patient_id="12^^^&1.2.616.4&ISO",
        source_patient_info=(
            "PID-3|12^^^&1.2.616.4&ISO",
            "PID-5|Nowak^Anna",
            "PID-7|19800102",
            "PID-8|F",
            "PID-11|^^Kraków^^30-001",
        ),
        size="10",
        hash=hashlib.sha1(b"%PDF-1.4 x").hexdigest(),
        document_availability="urn:ihe:iti:2010:DocumentAvailability:Online",
        title=(("pl-PL", "Skan opisu"),),
    )


@pytest.mark.parametrize(
    ("document", "changes", "locations"),
    [
        (b"\x00", {}, ["mimeType"]),
        (b"<a/>", {}, ["mimeType"]),
        (b"%PDF-", {"mime_type": "image/png"}, ["mimeType"]),
        (b"%PDF-", {"creation_time": "x"}, ["creationTime"]),
        (
            b"%PDF-",
            {"class_code": "1", "type_code": "2", "confidentiality": "L"},
            ["classCode", "typeCode", "confidentialityCode"],
        ),
        (b"%PDF-", {"facility": "45"}, ["healthcareFacilityTypeCode"]),
        (b"%PDF-", {"specialty": "99"}, ["practiceSettingCode"]),
    ],
)
def test_all_that_is_wrong_with_the_options_is_said_at_once(document: bytes, changes: dict, locations: list[str]):
    from msgspec.structs import replace

    with pytest.raises(Problem) as problem:
        describe_file(document, replace(OPTIONS, **changes))
    assert [finding.location for finding in problem.value.findings] == locations
