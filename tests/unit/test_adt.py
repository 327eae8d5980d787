"""ADT messages as the domain understands them."""

from __future__ import annotations

import pytest
from hl7apy.core import Message as PeerMessage

from obieg.codes.load import toml
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import Demographics, FeedEvent, PatientFeed
from obieg.domain.problems import Finding, Problem
from obieg.mapping.adt import patient_feed
from obieg.wire.hl7v2 import parse


def read(*segments: str, event: str = "A01") -> PatientFeed:
    header = f"MSH|^~\\&|APP|FAC|OBIEG|REGION|20260301||ADT^{event}|M1|P|2.3.1"
    return patient_feed(parse("".join(s + "\r" for s in (header, *segments)).encode()))


def findings(*segments: str, event: str = "A01") -> list[tuple[str, str]]:
    with pytest.raises(Problem) as caught:
        read(*segments, event=event)
    assert all(f.code in toml("problems.toml") for f in caught.value.findings)
    return [(f.code, f.location) for f in caught.value.findings]


def test_a_message_of_another_program() -> None:
    m = PeerMessage("ADT_A01", version="2.5")
    m.msh.msh_9 = "ADT^A04^ADT_A01"
    m.msh.msh_10 = "42"
    m.msh.msh_18 = "UNICODE UTF-8"
    m.evn.evn_2 = "20260301"
    m.pid.pid_3 = "44051401458^^^&2.16.840.1.113883.3.4424.1.1.616&ISO^PESEL"
    m.pid.add_field("pid_3").value = "7/26^^^SZPITAL&1.2.3&ISO"
    m.pid.pid_5 = "Żółć&&Żółć^Łucja^Maria^^^^L"
    m.pid.pid_7 = "19440514080000+0100"
    m.pid.pid_8 = "F"
    m.pid.pid_11 = "ul. Długa 5/7&Długa^^Kraków^^31-147^PL^H"
    m.pid.pid_13 = "^NET^Internet^a@b.pl"
    m.pid.add_field("pid_13").value = "+48 12 345 67 89^PRN^PH"
    m.pv1.pv1_2 = "O"
    feed = patient_feed(parse(m.to_er7().encode()))
    assert feed.event is FeedEvent.REGISTER
    assert feed.identifiers == (
        PatientId("44051401458", "2.16.840.1.113883.3.4424.1.1.616"),
        PatientId("7/26", "1.2.3"),
    )
    assert feed.identifier_locations == ("PID-3(0)", "PID-3(1)")
    assert feed.demographics == Demographics(
        family="Żółć",
        given="Łucja Maria",
        birth_date="19440514",
        sex="F",
        street="ul. Długa 5/7",
        city="Kraków",
        postal_code="31-147",
        country="PL",
        phone="+48 12 345 67 89",
    )
    assert set(feed.stated) == {*Demographics.__struct_fields__}


def test_empty_says_nothing_and_null_empties() -> None:
    assert read("PID|||1^^^&1.2&ISO||^^^^^^L||||||^^^^^^H||^PRN^Internet^a@b.pl").stated == ()
    feed = read('PID|||1^^^&1.2&ISO||""||""||||||""')
    assert feed.stated == ("family", "given", "birth_date", "phone")
    feed = read('PID|||1^^^&1.2&ISO||A^""||""|""|||""')
    assert feed.demographics == Demographics(family="A")
    assert set(feed.stated) == {"family", "given", "birth_date", "sex", "street", "city", "postal_code", "country"}


def test_a_newborn_without_a_name() -> None:
    feed = read("PID|||N1^^^&1.2&ISO||||20260301|U")
    assert feed.demographics == Demographics(birth_date="20260301", sex="U")


def test_merge() -> None:
    feed = read("PID|||1^^^&1.2&ISO", "MRG|2^^^&1.2&ISO~3^^^&1.2&ISO", event="A40")
    assert feed.merged == (PatientId("2", "1.2"), PatientId("3", "1.2"))
    assert feed.merged_locations == ("MRG-1(0)", "MRG-1(1)")
    assert read("PID|||1^^^&1.2&ISO", "MRG|2^^^&1.2&ISO", event="A08").merged == ()


def test_everything_that_is_wrong_is_said_at_once() -> None:
    assert findings("PID|||1^^^SZPITAL~2^^^&1.2&DNS~3^^^&nothing&ISO~^^^&1.2&ISO~5||A||1.1.1980|K", event="A40") == [
        ("RequiredFieldMissing", "PID-3(0)-4-2"),
        ("TableValueNotFound", "PID-3(1)-4-3"),
        ("DataTypeError", "PID-3(2)-4-2"),
        ("RequiredFieldMissing", "PID-3(3)-1"),
        ("RequiredFieldMissing", "PID-3(4)-4-2"),
        ("SegmentSequenceError", "MRG"),
        ("DataTypeError", "PID-7"),
        ("TableValueNotFound", "PID-8"),
    ]


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
        read("PID|||1^^^SZPITAL")
    [finding] = caught.value.findings
    assert isinstance(finding, Finding)
    assert "'SZPITAL'" in finding.detail
    assert "OID" in finding.detail


PIX = "data/ihe/ipf/commons/ihe/hl7v3/src/test/resources/translation"


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("pixsource/v2/A01.hl7", ["306563", "30753"]),
        ("pixsource/v2/A01_with_BR.hl7", ["306563", "30753"]),
        ("pixsource/v2/A04.hl7", ["305090", "13278", "02777"]),
        ("pixsource/v2/A08.hl7", ["306567"]),
        ("pixsource/v2/A40.hl7", ["142025"]),
        ("pixfeed/v2/PIX_FEED_MERGE_Maximal_Request.hl7", ["120-01"]),
    ],
)
def test_feeds_of_the_reference_data(shared, name: str, ids: list[str]) -> None:
    assert [i.value for i in patient_feed(parse((shared / PIX / name).read_bytes())).identifiers] == ids


@pytest.mark.parametrize("name", ["PIX_FEED_REG_Maximal_Request.hl7", "PIX_FEED_REV_Maximal_Request.hl7"])
def test_feeds_of_the_reference_data_with_a_namespace(shared, name: str) -> None:
    with pytest.raises(Problem) as caught:
        patient_feed(parse((shared / PIX / "pixfeed" / "v2" / name).read_bytes()))
    assert [f.location for f in caught.value.findings] == ["PID-3(2)-4-2"]
