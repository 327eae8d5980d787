"""The header reader says what the document says, and nothing of what it does not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from obieg.wire import cda
from obieg.wire.cda import Address, CdaRefused, Coded, Id, Name, Organisation, Period, Telecom, read_header

PL = "2.16.840.1.113883.3.4424"
OFFICIAL = "data/p1/paczos+sim/transformata_hl7"
AMBULANCE = "data/p1/sbojanowski+plcda-kmcr/sources"


def sample(shared: Path, number: str) -> bytes:
    return (shared / OFFICIAL / f"{PL}.13.10.1.{number}.xml").read_bytes()


def test_every_published_sample_can_be_read(shared: Path):
    paths = [*(shared / OFFICIAL).glob("*.xml"), *(shared / AMBULANCE).glob("**/*.xml")]
    assert len(paths) >= 36
    for path in paths:
        header = read_header(path.read_bytes())
        assert header.id is not None, path
        assert header.set_id is not None, path
        assert header.version_number is not None, path
        assert header.template, path
        assert header.code is not None, path
        assert header.code.in_system(f"{PL}.11.1.32"), path
        assert header.title, path
        assert header.effective_time[:2] == "20", path
        assert header.language == "pl-PL", path
        assert header.confidentiality == Coded("N", "2.16.840.1.113883.5.25", header.confidentiality.display), path
        assert header.patient.ids, path
        assert header.patient.names, path
        assert header.authors, path
        assert header.authors[0].names, path
        assert header.authors[0].organisation, path
        assert header.custodian, path
        assert header.legal_authenticator, path


def test_a_discharge_card(shared: Path):
    header = read_header(sample(shared, "18-1"))
    assert header.version == "1.3.1"
    assert header.template_ids == (Id(f"{PL}.13.10.1.18", "1.3.1"),)
    assert header.template == "18"
    assert header.id == Id(f"{PL}.2.7.0.7.1", "2345678")
    assert header.id.oid_form == f"{PL}.2.7.0.7.1^2345678"
    assert header.set_id == Id(f"{PL}.2.7.0.7.2", "432231")
    assert header.version_number == 1
    assert header.title == "Karta informacyjna z leczenia szpitalnego"
    assert header.effective_time == "20140906"
    assert header.code == Coded(
        "18842-5",
        "2.16.840.1.113883.6.1",
        "Discharge summary",
        "LOINC",
        (Coded("00.20", f"{PL}.11.1.32", "Karta informacyjna z leczenia szpitalnego", "KLAS_DOK_P1"),),
    )
    assert header.patient == cda.Patient(
        ids=(Id(f"{PL}.2.7.0.17.1", "12345"), Id(f"{PL}.1.1.616", "62091599999")),
        names=(Name(family=("Kowalski",), given=("Jan", "Franciszek")),),
        birth_time="19620915",
        gender="M",
        addresses=(Address(postal_code="01-134", city="Warszawa", street="Odkryta", house="41", unit="12"),),
        provider=Organisation(ids=(Id(f"{PL}.2.3.1", "1099"),)),
    )
    (author,) = header.authors
    assert author.ids == (Id(f"{PL}.1.6.2", "7724513"),)
    assert author.names == (Name(family=("Nowak",), given=("Piotr",), prefix=("dr n. med.",)),)
    assert author.function == Coded("LEK", f"{PL}.11.3.18", "Lekarz")
    assert author.specialty is None
    assert author.time == "20140906"
    assert author.organisation is not None
    assert [unit.ids for unit in author.organisation.chain()] == [
        (Id(f"{PL}.2.3.3", "2004-09"),),
        (Id(f"{PL}.2.2.2", "11223344901234"),),
        (Id(f"{PL}.2.3.1", "2004"), Id(f"{PL}.2.2.1", "121212445")),
    ]
    assert author.organisation.industry == Coded("4220", f"{PL}.11.2.4", "Oddział neurologiczny")
    assert author.organisation.telecoms == (Telecom("tel:22-1111123", "PUB"),)
    assert header.custodian == Organisation(ids=(Id(f"{PL}.2.3.1", "1099"),))
    assert header.legal_authenticator == cda.Authenticator(ids=(Id(f"{PL}.1.6.2", "7724513"),), time="20140906")
    assert header.service_events == ()
    assert header.encounter == cda.Encounter(
        ids=(Id(f"{PL}.2.7.0.98", "323432"),),
        code=Coded("4220", f"{PL}.11.2.4", "Oddział neurologiczny"),
        time=Period("20140901", "20140906"),
        disposition=Coded("1", f"{PL}.11.3.21", "zakończenie procesu terapeutycznego lub diagnostycznego"),
    )
    assert header.body == cda.Body()


def test_a_practice_and_several_specialties(shared: Path):
    practice = read_header(sample(shared, "15-1")).authors[0].organisation
    assert practice is not None
    assert practice.practice == Coded("L", f"{PL}.11.3.19", "Praktyka lekarska", "RODZ_PRAKTYKI")
    assert practice.whole is not None
    assert practice.whole.ids[0] == Id(f"{PL}.2.4.68", "000000046985")
    specialty = read_header(sample(shared, "28-1")).authors[0].specialty
    assert specialty is not None
    assert specialty.code == "0718_0726"


def test_services_encounters_and_places(shared: Path):
    study = read_header(sample(shared, "16-1"))
    assert study.service_events == (
        cda.ServiceEvent(
            ids=(Id(f"{PL}.2.7.0.99", "9990001"),),
            code=Coded("87.440", f"{PL}.11.2.6", "RTG klatki piersiowej", "ICD-9-PL"),
            time=Period("201409051012", "201409051012"),
        ),
    )
    operation = read_header(sample(shared, "20-1"))
    assert operation.service_events[0].time == Period("201409060900", "201409061123")
    ward = read_header(sample(shared, "17-3")).encounter
    assert ward is not None
    assert ward.time == Period()  # effectiveTime has the nullFlavor NA
    assert ward.location == Organisation(name="I Oddział Wewnętrzny")
    ongoing = read_header(sample(shared, "23-1")).encounter
    assert ongoing is not None
    assert ongoing.time == Period("20150907", "")
    assert ongoing.location == Organisation(
        name="Szpital Specjalistyczny im. Świętej Rodziny SP ZOZ, II Oddział Neurologii, sala 2"
    )


def test_related_documents(shared: Path):
    assert read_header(sample(shared, "14-1")).related_documents == (
        cda.RelatedDocument("RPLC", (Id(f"{PL}.7.2.1", "2345678"),), Id(f"{PL}.7.2.2", "432231"), 1),
    )


def test_a_guardian(shared: Path):
    patient = read_header(sample(shared, "21-1")).patient
    assert patient.guardian == Name(family=("Kowalska",), given=("Maria",))
    assert patient.guardian_ids == (Id(f"{PL}.1.1.616", "66031699999"),)


def test_a_file_in_a_document(shared: Path):
    assert read_header(sample(shared, "19-1B-png")).body == cda.Body(binary=True, media_type="image/tiff")
    ambulance = next((shared / AMBULANCE).glob("**/karta-mcr.xml")).read_bytes()
    header = read_header(ambulance)
    assert header.version == "1.3.2"
    assert header.body == cda.Body(binary=True, media_type="image/png")
    assert header.authors[0].function is None  # nullFlavor NA
    assert header.patient.addresses == ()  # nullFlavor UNK


HEAD = b'<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:extPL="http://www.csioz.gov.pl/xsd/extPL/r3"'


def test_nothing_but_the_root_is_demanded():
    header = read_header(HEAD + b"/>")
    assert header == cda.CdaHeader(version="1.3.2")
    assert header.template == ""


def test_null_flavours_are_nothing():
    header = read_header(
        HEAD
        + b"""><id nullFlavor="UNK" root="1.2.3"/><code nullFlavor="NI"/><title nullFlavor="UNK">x</title>
        <effectiveTime nullFlavor="UNK" value="2020"/><confidentialityCode nullFlavor="UNK"/>
        <setId nullFlavor="NA"/><versionNumber nullFlavor="UNK" value="3"/>
        <recordTarget><patientRole><id nullFlavor="UNK"/><addr nullFlavor="UNK"/><telecom nullFlavor="UNK"/>
        <patient><name nullFlavor="UNK"/><administrativeGenderCode nullFlavor="UNK"/><birthTime nullFlavor="UNK"/>
        </patient></patientRole></recordTarget>
        <author nullFlavor="UNK"/><componentOf><encompassingEncounter/></componentOf><relatedDocument/>
        <documentationOf><serviceEvent><code nullFlavor="UNK"/><effectiveTime/></serviceEvent></documentationOf>
        </ClinicalDocument>"""
    )
    assert header == cda.CdaHeader(
        version="1.3.2",
        authors=(cda.Author(),),
        service_events=(cda.ServiceEvent(),),
        encounter=cda.Encounter(),
        related_documents=(cda.RelatedDocument(""),),
    )


def test_a_code_that_is_null_may_have_a_translation():
    header = read_header(
        HEAD + b'><code nullFlavor="OTH"><translation code="00.20" codeSystem="9"/></code></ClinicalDocument>'
    )
    assert header.code == Coded("", translations=(Coded("00.20", "9"),))
    assert header.code.in_system("9") == Coded("00.20", "9")
    assert header.code.in_system("8") is None


def test_a_newborn():
    header = read_header(
        HEAD
        + """><recordTarget><patientRole><patient>
        <name><prefix>córka</prefix><given nullFlavor="NA"/><family>Berthier</family></name>
        <extPL:multipleBirthInd value="true"/><extPL:multipleBirthOrderNumber value="3"/>
        <extPL:personalRelationship><extPL:code code="MTH"/><extPL:person><extPL:name><given>Corinne</given></extPL:name>
        </extPL:person></extPL:personalRelationship></patient></patientRole></recordTarget></ClinicalDocument>""".encode()
    )
    assert header.patient == cda.Patient(
        names=(Name(family=("Berthier",), prefix=("córka",)),),
        multiple_birth=True,
        birth_order=3,
        mother=Name(given=("Corinne",)),
    )


def test_names_and_addresses_that_nobody_took_apart():
    header = read_header(
        HEAD
        + b"""><recordTarget><patientRole><addr>Rynek 1,\n  Krak&#243;w</addr>
        <addr><streetAddressLine>Rynek 1</streetAddressLine><streetAddressLine>m. 2</streetAddressLine></addr>
        <patient><name>Jan <!-- second name? --> Kowalski</name></patient></patientRole></recordTarget></ClinicalDocument>"""
    )
    assert header.patient.addresses == (Address(text="Rynek 1, Kraków"), Address(text="Rynek 1, m. 2"))
    assert header.patient.names == (Name(text="Jan Kowalski"),)


def test_orders_and_files_outside_poland():
    header = read_header(
        HEAD
        + b"""><inFulfillmentOf><order><id root="1.2" extension="a"/><id root="1.2" extension="b"/></order></inFulfillmentOf>
        <component><nonXMLBody><text mediaType="application/pdf" representation="B64">AA==</text></nonXMLBody></component>
        </ClinicalDocument>"""
    )
    assert header.orders == (Id("1.2", "a"), Id("1.2", "b"))
    assert header.body == cda.Body(binary=True, media_type="application/pdf")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "XML"),
        (b"%PDF-1.4", "not well-formed"),
        (b"<ClinicalDocument/>", "the root element is ClinicalDocument, not ClinicalDocument of urn:hl7-org:v3"),
        (b'<Bundle xmlns="http://hl7.org/fhir"/>', "Bundle"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><ClinicalDocument xmlns="urn:hl7-org:v3">&b;</ClinicalDocument>', "DOCTYPE"),
        (HEAD + b"><title>", "not well-formed"),
    ],
)
def test_what_is_not_cda_is_refused(document: bytes, says: str):
    with pytest.raises(CdaRefused, match=says):
        read_header(document)


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "٣", "9" * 30])
def test_a_version_that_is_no_number(value: str):
    assert read_header(HEAD + f'><versionNumber value="{value}"/></ClinicalDocument>'.encode()).version_number is None
