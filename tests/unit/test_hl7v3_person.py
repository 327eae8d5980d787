"""Persons in HL7 v3: what is written is read back, and what others write is understood."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from hl7v3_messages import NS
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.mapping.hl7v3_person import REPETITIONS_MAX, Reading, write_person

PESEL = "2.16.840.1.113883.3.4424.1.1.616"
NOBODY = Authorities()
NAMED = Authorities([AssigningAuthority("1.2.616.5", "SZPITAL")])


def person(content: str) -> Any:
    return etree.fromstring(f'<patientPerson xmlns="{NS}">{content}</patientPerson>')


def read(content: str, authorities: Authorities = NOBODY) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    reading = Reading(authorities)
    values = reading.demographics(person(content))
    return values, [(f.code, f.location) for f in reading.findings]


words = (
    st.text(st.sampled_from("aąbćłŁżŹ<&\"'- 12"), min_size=1, max_size=12)
    .map(str.strip)
    .filter(bool)
    .map(lambda text: " ".join(text.split()))
)
texts = st.just("") | words
names = st.builds(
    PersonName,
    family=words,
    given=st.lists(words, max_size=3).map(tuple),
    prefix=texts,
    suffix=texts,
    use=st.sampled_from(["L", "A"]),
) | st.builds(PersonName, family=words, given=st.lists(words, max_size=2).map(tuple), use=st.just("B"))
addresses = st.builds(
    Address,
    street=texts,
    city=words,
    state=texts,
    postal_code=texts,
    country=texts,
    use=st.sampled_from(["", "H", "C", "B", "M"]),
    terc=st.sampled_from(["", "1465011"]),
    simc=st.sampled_from(["", "0918123"]),
    ulic=st.sampled_from(["", "10268"]),
)
numbers = st.text("0123456789 +-()", min_size=3, max_size=15).map(str.strip).filter(bool)
telecoms = st.builds(
    Telecom, number=numbers, use=st.sampled_from(["PRN", "WPN", "VHN", "EMR"]), equipment=st.just("PH")
) | st.sampled_from(
    [
        Telecom("600 100 200", "PRN", "CP"),
        Telecom("jan@example.pl", "NET", "Internet"),
        Telecom("jan@example.pl", "PRN", "Internet"),
        Telecom("22 1", "PRN", "FX"),
    ]
)
people = st.builds(
    Demographics,
    names=st.lists(names, min_size=1, max_size=3, unique=True).map(
        lambda found: tuple(sorted(found, key=lambda name: name.use != "L"))
    ),
    birth_date=st.sampled_from(["", "1970", "197002", "19700228"]),
    sex=st.sampled_from(["", "M", "F", "O", "U"]),
    addresses=st.lists(addresses, max_size=2).map(tuple),
    telecoms=st.lists(telecoms, max_size=3).map(tuple),
    mother_name=st.none() | st.builds(PersonName, family=words, use=st.just("B")),
    mother=st.none() | st.just(PatientId("44051401458", PESEL)),
    multiple_birth=st.sampled_from([None, True, False]),
    birth_order=st.none() | st.integers(1, 9),
    birth_place=texts,
    language=st.sampled_from(["", "pl", "uk"]),
    marital_status=st.sampled_from(["", "S", "M", "D", "W", "N", "E", "P"]),
    religion=st.sampled_from(["", "1041"]),
    citizenship=st.sampled_from(["", "PL"]),
    deceased=st.sampled_from([None, True, False]),
    deceased_at=st.sampled_from(["", "20250301", "20250301101500"]),
)


@settings(deadline=None, max_examples=150)
@given(people)
def test_what_is_written_is_read_back(value: Demographics) -> None:
    reading = Reading(NOBODY)
    written = write_person(value, authorities=NOBODY)
    element = etree.fromstring(written.replace("<patientPerson", f'<patientPerson xmlns="{NS}"', 1))
    assert Demographics(**reading.demographics(element)) == value
    assert reading.findings == []


def test_what_is_not_there_says_nothing() -> None:
    assert read("") == ({}, [])
    assert read("<name/><addr/><birthTime/><administrativeGenderCode/>") == ({}, [])


def test_what_is_null_is_gone() -> None:
    null = "".join(
        f'<{name} nullFlavor="UNK"/>'
        for name in ("name", "telecom", "birthTime", "deceasedInd", "deceasedTime", "addr", "maritalStatusCode")
    )
    assert read(null) == (
        {
            "names": (),
            "telecoms": (),
            "birth_date": "",
            "deceased": None,
            "deceased_at": "",
            "addresses": (),
            "marital_status": "",
        },
        [],
    )


@pytest.mark.parametrize("said", ['nullFlavor="UNK"', 'nullFlavor="ASKU"', 'code="UNK"'])
def test_an_unknown_gender_is_said_to_be_unknown(said: str) -> None:
    assert read(f"<administrativeGenderCode {said}/>") == ({"sex": "U"}, [])


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("<name><given>Jan</given><family>Nowak</family></name>", [PersonName("Nowak", ("Jan",), use="L")]),
        (
            "<name use='L'><given>Jan</given><given/><family>Nowak</family></name>",
            [PersonName("Nowak", ("Jan",), use="L")],
        ),
        ("<name use='C SRCH'><family>Nowak</family></name>", [PersonName("Nowak", use="L")]),
        ("<name use='P'><given>Janek</given></name>", [PersonName("", ("Janek",), use="A")]),
        ("<name>Jan  Nowak</name>", [PersonName("Jan Nowak", use="L")]),
        (
            "<name><given>Anna</given><family>Nowak</family><family>Kowalska</family></name>",
            [PersonName("Nowak-Kowalska", ("Anna",), use="L")],
        ),
        (
            "<name><given>Anna</given><family qualifier='BR'>Kowal</family><family>Nowak</family></name>",
            [PersonName("Nowak", ("Anna",), use="L"), PersonName("Kowal", ("Anna",), use="B")],
        ),
        (
            "<name><given>Anna</given><family qualifier='SP BR'>Kowal</family></name><name use='L'><family>N</family></name>",
            [PersonName("N", use="L"), PersonName("Kowal", ("Anna",), use="B")],
        ),
        ("<name nullFlavor='MSK'/><name><family>N</family></name>", [PersonName("N", use="L")]),
        (
            "<name><prefix qualifier='AC'>dr</prefix><given>A</given><family>N</family><suffix>jr</suffix></name>",
            [PersonName("N", ("A",), "dr", "jr", "L")],
        ),
    ],
)
def test_names(written: str, found: list[PersonName]) -> None:
    assert read(written) == ({"names": tuple(found)}, [])


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (
            (
                "<addr use='HP'><streetName>Prosta</streetName><houseNumber>5</houseNumber><unitID>12</unitID>"
                "<city>Łódź</city></addr>"
            ),
            Address("Prosta 5/12", "Łódź", use="H"),
        ),
        (
            "<addr><streetAddressLine>ul. Długa 1</streetAddressLine><streetAddressLine>m. 2</streetAddressLine></addr>",
            Address("ul. Długa 1 m. 2"),
        ),
        ("<addr><city>Wólka</city><houseNumber>7</houseNumber></addr>", Address("7", "Wólka")),
        (
            (
                "<addr><city>W</city><censusTract>TYERT</censusTract><censusTract>TERYT TERC: 1465011</censusTract>"
                "<censusTract>TERYT ULIC:10268</censusTract></addr>"
            ),
            Address(city="W", terc="1465011", ulic="10268"),
        ),
    ],
)
def test_addresses(written: str, found: Address) -> None:
    assert read(written) == ({"addresses": (found,)}, [])


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ('value="tel:+48 22 1" use="WP"', Telecom("+48 22 1", "WPN", "PH")),
        ('value="022/1"', Telecom("022/1", "PRN", "PH")),
        ('value="TEL:1" use="MC"', Telecom("1", "PRN", "CP")),
        ('value="fax:1" use="HP"', Telecom("1", "PRN", "FX")),
        ('value="mailto:a@b.pl" use="WP"', Telecom("a@b.pl", "WPN", "Internet")),
        ('value="a@b.pl"', Telecom("a@b.pl", "NET", "Internet")),
        ('value="tel:1" use="BAD HV"', Telecom("1", "VHN", "PH")),
    ],
)
def test_telecoms(written: str, found: Telecom) -> None:
    assert read(f"<telecom {written}/>") == ({"telecoms": (found,)}, [])


def test_the_mother() -> None:
    written = (
        '<personalRelationship classCode="PRS"><code code="FTH"/><relationshipHolder1><name><family>O</family></name>'
        '</relationshipHolder1></personalRelationship><personalRelationship><code code="MTH"/><relationshipHolder1>'
        f'<id root="{PESEL}" extension="44051401458"/><name><family>Nowak</family></name>'
        '<name><family qualifier="BR">Kowal</family></name></relationshipHolder1></personalRelationship>'
    )
    assert read(written) == (
        {"mother_name": PersonName("Kowal", use="B"), "mother": PatientId("44051401458", PESEL)},
        [],
    )


def test_codes_that_differ_from_those_of_version_2() -> None:
    read_all, findings = read(
        '<maritalStatusCode code="A" codeSystem="2.16.840.1.113883.5.2"/>'
        '<languageCommunication><languageCode code="pol"/></languageCommunication>'
    )
    assert (read_all, findings) == ({"marital_status": "N", "language": "pl"}, [])
    of_v2 = '<maritalStatusCode code="A" codeSystem="2.16.840.1.113883.12.2"/>'
    assert read(of_v2) == ({"marital_status": "A"}, [])


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ('<administrativeGenderCode code="X"/>', "TableValueNotFound"),
        ('<birthTime value="19701332"/>', "DataTypeError"),
        ('<birthTime value="before the war"/>', "DataTypeError"),
        ('<deceasedInd value="perhaps"/>', "DataTypeError"),
        ('<multipleBirthOrderNumber value="first"/>', "DataTypeError"),
        (f"<name><family>{'x' * 201}</family></name>", "DataTypeError"),
        (f"<name><family>x</family>{'<given>y</given>' * (REPETITIONS_MAX + 1)}</name>", "DataTypeError"),
        ("<name><family>x</family></name>" * (REPETITIONS_MAX + 1), "DataTypeError"),
        ("<addr><city>x</city></addr>" * (REPETITIONS_MAX + 1), "DataTypeError"),
        ('<telecom value="tel:1"/>' * (REPETITIONS_MAX + 1), "DataTypeError"),
    ],
)
def test_what_cannot_be_taken_is_named_with_its_place(written: str, code: str) -> None:
    _, findings = read(written)
    assert [c for c, _ in findings] == [code]
    assert findings[0][1].startswith("/patientPerson/")


@pytest.mark.parametrize(
    ("written", "found", "code"),
    [
        ('<id root="1.2.616.5" extension=" 17 "/>', PatientId("17", "1.2.616.5"), ""),
        ('<id assigningAuthorityName="SZPITAL" extension="17"/>', PatientId("17", "1.2.616.5"), ""),
        ('<id assigningAuthorityName="anything" root="1.2.616.5" extension="1"/>', PatientId("1", "1.2.616.5"), ""),
        ('<id nullFlavor="NA"/>', None, ""),
        ('<id nullFlavor="MSK" root="1.2.616.5"/>', None, ""),
        ('<id assigningAuthorityName="INNY" extension="17"/>', None, "UnknownKeyIdentifier"),
        ('<id extension="17"/>', None, "RequiredFieldMissing"),
        ('<id root="1.2.616.5"/>', None, "RequiredFieldMissing"),
        ('<id root="6f9619ff-8b86-d011-b42d-00cf4fc964ff" extension="1"/>', None, "DataTypeError"),
        (f'<id root="1.2" extension="{"1" * 201}"/>', None, "DataTypeError"),
    ],
)
def test_identifiers(written: str, found: PatientId | None, code: str) -> None:
    reading = Reading(NAMED)
    assert reading.identifier(person(written)[0]) == found
    assert [f.code for f in reading.findings] == ([code] if code else [])


def test_a_closed_region_takes_no_other_identifiers_but_may_be_asked_for_them() -> None:
    reading = Reading(Authorities([AssigningAuthority("1.2.616.5")], closed=True))
    other = person('<id root="1.9.9" extension="1"/>')[0]
    assert reading.identifier(other) is None
    assert [f.code for f in reading.findings] == ["UnknownKeyIdentifier"]
    assert reading.identifier(other, announced=False) == PatientId("1", "1.9.9")
