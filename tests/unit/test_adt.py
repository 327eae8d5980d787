"""ADT messages as the domain understands them, and PID as it is written."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hl7apy.core import Message as PeerMessage
from hypothesis import given
from hypothesis import strategies as st

from obieg.codes.load import toml
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import FeedEvent, PatientFeed
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.domain.problems import Finding, Problem
from obieg.mapping.adt import patient_feed
from obieg.mapping.pid import Reading, write_pid
from obieg.wire.hl7v2 import Message, parse

REGION = Authorities(
    [
        AssigningAuthority("1.2", "SZPITAL"),
        AssigningAuthority("1.3", "PRZYCHODNIA"),
        AssigningAuthority("2.16.840.1.113883.3.4424.1.1.616", single=True),
    ]
)
CLOSED = Authorities([AssigningAuthority("1.2", "SZPITAL")], nodes={"1.7": True}, closed=True)


def read(*segments: str, event: str = "A01", authorities: Authorities = REGION) -> PatientFeed:
    header = f"MSH|^~\\&|APP|FAC|OBIEG|REGION|20260301||ADT^{event}|M1|P|2.3.1"
    return patient_feed(parse("".join(s + "\r" for s in (header, *segments)).encode()), authorities)


def findings(*segments: str, event: str = "A01", authorities: Authorities = REGION) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as caught:
        read(*segments, event=event, authorities=authorities)
    assert all(f.code in toml("problems.toml") for f in caught.value.findings)
    return [(f.code, f.location) for f in caught.value.findings]


def test_a_message_of_another_program() -> None:
    m = PeerMessage("ADT_A01", version="2.5")
    m.msh.msh_9 = "ADT^A04^ADT_A01"
    m.msh.msh_10 = "42"
    m.msh.msh_3, m.msh.msh_4 = "HIS", "SZPITAL"
    m.msh.msh_18 = "UNICODE UTF-8"
    m.evn.evn_2 = "20260301"
    m.pid.pid_3 = "44051401458^^^&2.16.840.1.113883.3.4424.1.1.616&ISO^PESEL"
    m.pid.add_field("pid_3").value = "7/26^^^SZPITAL&1.2&ISO"
    m.pid.pid_5 = "Żółć^Łucja^Maria^^dr^^L"
    m.pid.add_field("pid_5").value = "Nowak^^^^^^B"
    m.pid.pid_6 = "Kowalska^Anna"
    m.pid.pid_7 = "19440514080000+0100"
    m.pid.pid_8 = "F"
    m.pid.pid_11 = "ul. Długa 5/7&Długa^m. 2^Kraków^małopolskie^31-147^PL^H^^1261029^0950463"
    m.pid.add_field("pid_11").value = "^^Łódź^^^^C"
    m.pid.pid_13 = "^NET^Internet^a@b.pl"
    m.pid.add_field("pid_13").value = "+48 12 345 67 89^PRN^CP"
    m.pid.pid_14 = "^^PH^^48^22^6543210"
    m.pid.pid_15 = "pol"
    m.pid.pid_16, m.pid.pid_17 = "W", "CAT"
    m.pid.pid_18 = "2026/7^^^SZPITAL"
    m.pid.pid_21 = "19/20^^^SZPITAL"
    m.pid.pid_23, m.pid.pid_24, m.pid.pid_25, m.pid.pid_26 = "Wrocław", "Y", "2", "PL"
    m.pid.pid_29, m.pid.pid_30 = "20260228233000", "Y"
    m.pv1.pv1_2 = "O"
    feed = patient_feed(parse(m.to_er7().encode()), REGION)
    assert feed.event is FeedEvent.REGISTER
    assert feed.source == "SZPITAL|HIS"
    assert feed.identifiers == (
        PatientId("44051401458", "2.16.840.1.113883.3.4424.1.1.616"),
        PatientId("7/26", "1.2"),
    )
    assert feed.identifier_locations == ("PID-3(0)", "PID-3(1)")
    assert feed.demographics == Demographics(
        names=(PersonName("Żółć", ("Łucja", "Maria"), "dr", "", "L"), PersonName("Nowak", use="B")),
        birth_date="19440514",
        sex="F",
        addresses=(
            Address("ul. Długa 5/7 m. 2", "Kraków", "małopolskie", "31-147", "PL", "H", "1261029", "0950463"),
            Address(city="Łódź", use="C"),
        ),
        telecoms=(
            Telecom("a@b.pl", "NET", "Internet"),
            Telecom("+48 12 345 67 89", "PRN", "CP"),
            Telecom("+48 22 6543210", "WPN", "PH", "48", "22", "6543210"),
        ),
        mother_name=PersonName("Kowalska", ("Anna",)),
        mother=PatientId("19/20", "1.2"),
        multiple_birth=True,
        birth_order=2,
        birth_place="Wrocław",
        language="pl",
        marital_status="W",
        religion="CAT",
        citizenship="PL",
        account="2026/7",
        deceased=True,
        deceased_at="20260228233000",
    )
    assert set(feed.stated) == {*Demographics.__struct_fields__}


def test_empty_says_nothing_and_null_empties() -> None:
    assert read("PID|||1^^^&1.2&ISO||^^^^^^L||||||^^^^^^H||^PRN^Internet").stated == ()
    everything = "|".join(['""'] * 26)
    feed = read(f"PID|||1^^^&1.2&ISO||{everything}")
    assert feed.demographics == Demographics()
    assert set(feed.stated) == {*Demographics.__struct_fields__}
    feed = read('PID|||1^^^&1.2&ISO||A^""||""||||""^^""^^""^""')
    assert feed.demographics == Demographics(names=(PersonName("A"),))
    assert set(feed.stated) == {"names", "birth_date", "addresses"}


def test_the_legal_name_comes_first() -> None:
    feed = read("PID|||1^^^&1.2&ISO||Basia^^^^^^N~^^^^^^S~NOWAK^BARBARA^^^^^L~NOWAK-LIS^B.^^^^^L")
    assert [(n.family, n.use) for n in feed.demographics.names] == [
        ("NOWAK", "L"), ("NOWAK-LIS", "L"), ("Basia", "N")
    ]  # fmt: skip


def test_a_newborn_without_a_name() -> None:
    feed = read("PID|||N1^^^&1.2&ISO||||20260301|U|||||||||||||19/20^^^SZPITAL|||Y|1")
    assert feed.demographics == Demographics(
        birth_date="20260301", sex="U", mother=PatientId("19/20", "1.2"), multiple_birth=True, birth_order=1
    )


def test_a_mother_who_cannot_be_looked_up_says_nothing() -> None:
    assert "mother" not in read("PID|||N1^^^&1.2&ISO||||||||||||||||||1203/19").stated
    assert findings("PID|||N1^^^&1.2&ISO||||||||||||||||||1203/19^^^NIEZNANY") == [
        ("UnknownKeyIdentifier", "PID-21(0)-4-1")
    ]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("EN", "en"), ("fra", "fr"), ("pl-PL", "pl-pl"), ("de_AT", "de-at"), ("POLSKI", None), ("uk^ukrainian", "uk")],
)
def test_languages(sent: str, kept: str | None) -> None:
    feed = read(f"PID|||1^^^&1.2&ISO||||||||||||{sent}")
    assert (feed.demographics.language if "language" in feed.stated else None) == kept


@pytest.mark.parametrize("event", ["A40", "A43", "A47"])
def test_two_sets_of_identifiers(event: str) -> None:
    feed = read("PID|||1^^^&1.2&ISO~9^^^&1.3&ISO", "MRG|2^^^&1.2&ISO~3^^^&1.2&ISO", event=event)
    assert feed.event == event
    assert feed.identifiers == (PatientId("1", "1.2"), PatientId("9", "1.3"))
    assert feed.merged == (PatientId("2", "1.2"), PatientId("3", "1.2"))
    assert feed.merged_locations == ("MRG-1(0)", "MRG-1(1)")
    assert findings("PID|||1^^^&1.2&ISO", event=event) == [("SegmentSequenceError", "MRG")]


def test_mrg_means_nothing_in_other_events() -> None:
    assert read("PID|||1^^^&1.2&ISO", "MRG|2^^^&1.2&ISO", event="A08").merged == ()


def test_a_namespace_is_translated() -> None:
    feed = read("PID|||1^^^SZPITAL~2^^^PRZYCHODNIA&1.3&ISO~3^^^OBCY&1.9&ISO")
    assert feed.identifiers == (PatientId("1", "1.2"), PatientId("2", "1.3"), PatientId("3", "1.9"))


@pytest.mark.parametrize(
    ("cx", "code", "place"),
    [
        ("1^^^OBCY", "UnknownKeyIdentifier", "4-1"),
        ("1^^^SZPITAL&1.3&ISO", "DataTypeError", "4"),  # each is known, and they are not one
        ("1^^^SZPITAL&1.9&ISO", "DataTypeError", "4"),
        ("1^^^OBCY&1.3&ISO", "DataTypeError", "4"),
        ("1^^^&&", "RequiredFieldMissing", "4"),
        ("1^^^&&ISO", "RequiredFieldMissing", "4"),
        ("1", "RequiredFieldMissing", "4"),
        ("1^^^&1.2", "TableValueNotFound", "4-3"),
        ("1^^^&1.2&UUID", "TableValueNotFound", "4-3"),
        ("1^^^&SZPITAL&ISO", "DataTypeError", "4-2"),
        ("^^^SZPITAL", "RequiredFieldMissing", "1"),
    ],
)
def test_authorities_that_cannot_be_told(cx: str, code: str, place: str) -> None:
    assert findings(f"PID|||{cx}") == [(code, f"PID-3(0)-{place}")]


def test_a_region_may_take_identifiers_of_its_own_authorities_only() -> None:
    assert read("PID|||1^^^SZPITAL~2^^^&1.7.804&ISO", authorities=CLOSED).identifiers[1] == PatientId("2", "1.7.804")
    assert findings("PID|||1^^^&1.3&ISO~2^^^&1.70&ISO", authorities=CLOSED) == [
        ("UnknownKeyIdentifier", "PID-3(0)-4-2"),
        ("UnknownKeyIdentifier", "PID-3(1)-4-2"),
    ]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    pid = "PID|||1^^^NIKT~2^^^&1.2&DNS~3^^^&nothing&ISO~^^^&1.2&ISO~5||A||1.1.1980|K||||||||||||||||T|0||||1|X"
    assert findings(pid, event="A40") == [
        ("UnknownKeyIdentifier", "PID-3(0)-4-1"),
        ("TableValueNotFound", "PID-3(1)-4-3"),
        ("DataTypeError", "PID-3(2)-4-2"),
        ("RequiredFieldMissing", "PID-3(3)-1"),
        ("RequiredFieldMissing", "PID-3(4)-4"),
        ("SegmentSequenceError", "MRG"),
        ("DataTypeError", "PID-7"),
        ("TableValueNotFound", "PID-8"),
        ("TableValueNotFound", "PID-24"),
        ("DataTypeError", "PID-25"),
        ("DataTypeError", "PID-29"),
        ("TableValueNotFound", "PID-30"),
    ]


@pytest.mark.parametrize("date", ["19830231", "198313", "1983-02-01", "83", "1983020112+1", "19830201250000"])
def test_days_that_never_were(date: str) -> None:
    assert findings(f"PID|||1^^^&1.2&ISO||||{date}") == [("DataTypeError", "PID-7")]


def test_what_must_be_there() -> None:
    assert findings("PV1||I") == [("SegmentSequenceError", "PID")]
    assert findings("PID|||", "PID|||1^^^&1.2&ISO") == [
        ("SegmentSequenceError", "PID"),
        ("RequiredFieldMissing", "PID-3"),
    ]
    assert findings('PID|||""^^^&1.2&ISO') == [("RequiredFieldMissing", "PID-3")]
    assert findings("PID|||1^^^&1.2&ISO", "MRG||x", event="A40") == [("RequiredFieldMissing", "MRG-1")]
    assert findings("PID|||" + "1" * 201 + "^^^&1.2&ISO||" + "A" * 201) == [
        ("DataTypeError", "PID-3(0)-1"),
        ("DataTypeError", "PID-5"),
    ]


def test_a_namespace_is_refused_in_words() -> None:
    with pytest.raises(Problem) as caught:
        read("PID|||1^^^OBCY")
    [finding] = caught.value.findings
    assert isinstance(finding, Finding)
    assert "'OBCY'" in finding.detail
    assert "OID" in finding.detail


# what other programs send ----------------------------------------------------------------------------------------------

PAIRS = "data/ihe/ipf/commons/ihe/hl7v3/src/test/resources/translation"
DOMAIN2 = Authorities([AssigningAuthority("1.2.99", "domain2")])


@pytest.mark.parametrize(
    ("name", "ids", "name_and_birth"),
    [
        ("pixsource/v2/A01.hl7", ["306563", "30753"], "Bob Barker R. 19290405"),
        ("pixsource/v2/A01_with_BR.hl7", ["306563", "30753"], "Molly Barker R. 19290405"),
        ("pixsource/v2/A04.hl7", ["305090", "13278", "02777"], "Hiccock WildBill 19770114"),
        ("pixsource/v2/A08.hl7", ["306567"], "BEST XML 2 19470101"),
        ("pixsource/v2/A40.hl7", ["142025"], "LENNON JOHN 19730811"),
        ("pixfeed/v2/PIX_FEED_MERGE_Maximal_Request.hl7", ["120-01"], "  "),
        (
            "pixfeed/v2/PIX_FEED_REG_Maximal_Request.hl7",
            ["PIX10515W3", "PIX10515W4", "PIX10515W5"],
            "WASHINGTON MARY ROSE 19771208",
        ),
        (
            "pixfeed/v2/PIX_FEED_REV_Maximal_Request.hl7",
            ["PIX10515W3", "PIX10515W4", "PIX10515W5"],
            "WASHINGTON-UPDATE MARY ROSE 19771208",
        ),
    ],
)
def test_feeds_of_the_reference_data(shared, name: str, ids: list[str], name_and_birth: str) -> None:
    feed = patient_feed(parse((shared / PAIRS / name).read_bytes()), DOMAIN2)
    assert [i.value for i in feed.identifiers] == ids
    person = feed.demographics
    assert f"{person.name.family} {' '.join(person.name.given)} {person.birth_date}" == name_and_birth


def test_everything_in_the_largest_feed_is_kept(shared) -> None:
    feed = patient_feed(parse((shared / PAIRS / "pixfeed/v2/PIX_FEED_REG_Maximal_Request.hl7").read_bytes()), DOMAIN2)
    person = feed.demographics
    assert [n.use for n in person.names] == ["L", "L", "B"]
    assert [(t.number, t.use, t.equipment) for t in person.telecoms] == [
        ("012-0001", "PRN", "PH"),
        ("012-0003", "PRN", "CP"),
        ("012-0004", "PRN", "FX"),
        ("marywash@gmx.de", "NET", "Internet"),
        ("012-0002", "WPN", "PH"),
    ]
    assert [(a.city, a.state, a.postal_code) for a in person.addresses] == [
        ("CHICAGO", "IL", "60523"), ("CHICAGO", "IL", "60555")
    ]  # fmt: skip
    assert (person.language, person.marital_status, person.religion) == ("en", "M", "1022")
    assert (person.account, person.birth_place, person.citizenship) == ("100-09-123456", "Chicago", "US")
    assert person.deceased is False


def test_an_unknown_namespace_in_the_reference_data(shared) -> None:
    message = parse((shared / PAIRS / "pixfeed/v2/PIX_FEED_REG_Maximal_Request.hl7").read_bytes())
    with pytest.raises(Problem) as caught:
        patient_feed(message, REGION)
    assert [(f.code, f.location) for f in caught.value.findings] == [("UnknownKeyIdentifier", "PID-3(2)-4-1")]


# writing -----------------------------------------------------------------------------------------------------------------


def written(person: Demographics, *identifiers: PatientId) -> Message:
    pid = write_pid(identifiers or (PatientId("1", "1.2"),), person, authorities=REGION)
    line = "|".join(("PID", *pid.fields))
    return parse(f"MSH|^~\\&|A|B|C|D|20260301||ADT^A31|M1|P|2.5\r{line}\r".encode())


def test_a_namespace_is_given_where_it_is_known() -> None:
    m = written(Demographics(), PatientId("1", "1.2"), PatientId("2", "1.9"))
    assert [m.get(f"PID-3(0)-4-{n}") for n in (1, 2, 3)] == ["SZPITAL", "1.2", "ISO"]
    assert [m.get(f"PID-3(1)-4-{n}") for n in (1, 2, 3)] == ["", "1.9", "ISO"]
    assert m.get("PID-5-7") == "U", "a name is required, and there is none"


def test_the_last_update_is_in_utc() -> None:
    at = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    pid = write_pid((), Demographics(), authorities=REGION, number=3, updated_at=at)
    assert (pid.field(1), pid.field(33)) == ("3", "20260301123000+0000")


_WORD = st.text(st.characters(categories=("L", "N"), include_characters="|^~\\&'-"), min_size=1, max_size=12)
_MAYBE = st.one_of(st.just(""), _WORD)
_NAMES = st.builds(PersonName, _WORD, st.lists(_WORD, max_size=3).map(tuple), _MAYBE, _MAYBE, st.sampled_from("LMANB"))
_ADDRESSES = st.builds(
    Address, _WORD, _MAYBE, _MAYBE, _MAYBE, _MAYBE, st.sampled_from("HCBM"), st.sampled_from(["", "1261029"])
)
_TELECOMS = st.builds(Telecom, _WORD, st.sampled_from(["PRN", "NET"]), st.sampled_from(["PH", "CP"]), _MAYBE, _MAYBE)
_PEOPLE = st.builds(
    Demographics,
    names=st.lists(_NAMES, max_size=3).map(lambda names: tuple(sorted(names, key=lambda n: n.use != "L"))),
    birth_date=st.sampled_from(["", "1980", "198002", "19800229"]),
    sex=st.sampled_from(["", "M", "F", "O", "U"]),
    addresses=st.lists(_ADDRESSES, max_size=3).map(tuple),
    telecoms=st.lists(_TELECOMS, max_size=3).map(tuple),
    mother_name=st.none() | _NAMES,
    mother=st.none() | st.builds(PatientId, _WORD, st.just("1.2")),
    multiple_birth=st.none() | st.booleans(),
    birth_order=st.none() | st.integers(1, 99),
    birth_place=_MAYBE,
    language=st.sampled_from(["", "pl", "uk"]),
    marital_status=_MAYBE,
    religion=_MAYBE,
    citizenship=_MAYBE,
    account=_MAYBE,
    deceased=st.none() | st.booleans(),
    deceased_at=st.sampled_from(["", "20260301", "202603011230"]),
)


@given(_PEOPLE)
def test_what_is_written_is_read_again(person: Demographics) -> None:
    m = written(person)
    reading = Reading(m, REGION)
    assert Demographics(**reading.demographics(m.all("PID")[0])) == person
    assert reading.findings == []
