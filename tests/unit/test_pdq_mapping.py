"""Demographics queries of HL7 v2, and their answers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hl7apy.core import Message as PeerMessage
from hl7apy.parser import parse_message

from obieg.codes.load import toml
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import Cancel, Candidate, Candidates, Continuation, DemographicsQuery
from obieg.domain.persons import Address, Demographics, PersonName
from obieg.domain.problems import Problem
from obieg.mapping import pdq
from obieg.wire import hl7v2

REGION = Authorities([AssigningAuthority("1.2", "SZPITAL"), AssigningAuthority("1.3", "PRZYCHODNIA")])
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAIRS = "data/ihe/ipf/commons/ihe/hl7v3/src/test/resources/translation"


def message(
    fields: str,
    domains: str = "",
    *,
    rcp: str = "I",
    dsc: str = "",
    event: str = "Q22",
    tag: str = "T1",
    sender: str = "HIS|SZPITAL",
) -> hl7v2.Message:
    lines = [
        f"MSH|^~\\&|{sender}|OBIEG|REGION|20260301||QBP^{event}^QBP_Q21|Q1|P|2.5",
        f"QPD|IHE PDQ Query|{tag}|{fields}|||||{domains}",
        f"RCP|{rcp}",
        *([f"DSC|{dsc}|I"] if dsc else []),
    ]
    return hl7v2.parse("".join(f"{line}\r" for line in lines).encode())


def asked(fields: str, domains: str = "", **more: str) -> DemographicsQuery:
    question = pdq.read_question(message(fields, domains, **more), REGION)
    assert isinstance(question, DemographicsQuery)
    return question


def refused(fields: str, domains: str = "", **more: str) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as caught:
        pdq.read_question(message(fields, domains, **more), REGION)
    # TooBroad is the index's own; every other code must be one of the table already.
    assert all(f.code in toml("problems.toml") for f in caught.value.findings)
    return [(f.code, f.location) for f in caught.value.findings]


def test_a_question_of_another_program() -> None:
    m = PeerMessage("QBP_Q21", version="2.5")
    m.msh.msh_3, m.msh.msh_4, m.msh.msh_9, m.msh.msh_10 = "HIS", "SZPITAL", "QBP^Q22^QBP_Q21", "1"
    m.msh.msh_18 = "UNICODE UTF-8"
    m.qpd = (
        "QPD|IHE PDQ Query|T1|@PID.5.1.1^Żółć*~@PID.5.2^Łucja~@PID.7^194405~@PID.8^F~@PID.11.1^Długa 5"
        "~@PID.11.3^Kraków~@PID.11.4^małopolskie~@PID.11.5^31-147~@PID.11.6^PL~@PID.18.1^K1~@PID.6.1.1^Nowak"
        "~@PID.6.2^Anna~@PID.13.7^3456789|||||^^^SZPITAL~^^^&1.3&ISO"
    )
    m.rcp = "RCP|I|5^RD"
    question = pdq.read_question(hl7v2.parse(m.to_er7().encode()), REGION)
    assert question == DemographicsQuery(
        family="Żółć*",
        given="Łucja",
        born_from="194405",
        born_until="194405",
        sex="F",
        street="Długa 5",
        city="Kraków",
        state="małopolskie",
        postal_code="31-147",
        country="PL",
        account="K1",
        mother_family="Nowak",
        mother_given="Anna",
        telecom="3456789",
        authorities=("1.2", "1.3"),
        authority_locations=("QPD-8(0)", "QPD-8(1)"),
        count=5,
        cursor=question.cursor,
        text=question.text,
    )
    assert question.text.decode().startswith("QPD|IHE PDQ Query|T1|@PID.5.1.1^Żółć*~")


@pytest.mark.parametrize(
    ("fields", "identifiers"),
    [
        ("@PID.3.1^7~@PID.3.4.1^SZPITAL", [("7", "1.2")]),
        ("@PID.3.1^7~@PID.3.4.2^1.9~@PID.3.4.3^ISO", [("7", "1.9")]),
        ("@PID.3.4.2^1.9~@PID.3.4.3^ISO~@PID.3.1^7", [("7", "1.9")]),
        ("@PID.3.1^7~@PID.3.4.2^1.9", [("7", "1.9")]),
        ("@PID.3.1^7~@PID.3.4^SZPITAL", [("7", "1.2")]),
        ("@PID.3^7~@PID.3.4^&1.9&ISO", [("7", "1.9")]),
        (
            "@PID.3.1^7~@PID.3.4.1^SZPITAL~@PID.3.4.2^1.2~@PID.3.4.3^ISO~@PID.3.1^8~@PID.3.4.1^PRZYCHODNIA",
            [("7", "1.2"), ("8", "1.3")],
        ),
    ],
)
def test_identifiers(fields: str, identifiers: list[tuple[str, str]]) -> None:
    assert asked(fields).identifiers == tuple(PatientId(*i) for i in identifiers)


@pytest.mark.parametrize(
    ("fields", "findings"),
    [
        ("@PID.3.1^7~@PID.3.4.99^X", [("UnsupportedQueryField", "QPD-3(1)"), ("RequiredFieldMissing", "QPD-3(0)")]),
        ("@PID.5.1^A~@PID.19^1", [("UnsupportedQueryField", "QPD-3(1)")]),
        ("@PD1.4^A", [("UnsupportedQueryField", "QPD-3(0)")]),
        ("@PV1.3.2^389", [("UnsupportedQueryField", "QPD-3(0)")]),
        ("PID.5.1^A", [("UnsupportedQueryField", "QPD-3(0)")]),
        ("KOWALSKI", [("UnsupportedQueryField", "QPD-3(0)")]),
        ("@PID.05.1^A", [("UnsupportedQueryField", "QPD-3(0)")]),
        ("@PID.5.1^*SKI", [("UnsupportedQueryField", "QPD-3(0)")]),
        ("@PID.5.1^K*I", [("UnsupportedQueryField", "QPD-3(0)")]),
        ("@PID.5.1^A~@PID.5.1^B", [("UnsupportedQueryField", "QPD-3(1)")]),
        ("@PID.3.1^7*~@PID.3.4.1^SZPITAL", [("UnsupportedQueryField", "QPD-3(0)")]),
        ("@PID.3.1^7", [("RequiredFieldMissing", "QPD-3(0)")]),
        ("@PID.3.4.1^SZPITAL", [("RequiredFieldMissing", "QPD-3(0)")]),
        ("@PID.3.1^7~@PID.3.4.1^NIKT", [("UnknownKeyIdentifier", "QPD-3(0)")]),
        ("@PID.3.1^7~@PID.3.4.1^SZPITAL~@PID.3.4.2^1.3~@PID.3.4.3^ISO", [("DataTypeError", "QPD-3(0)")]),
        ("@PID.7^1.1.1980", [("DataTypeError", "QPD-3(0)")]),
        ("@PID.7^19800230", [("DataTypeError", "QPD-3(0)")]),
        ("@PID.8^K", [("TableValueNotFound", "QPD-3(0)")]),
        ("@PID.5.1^" + "A" * 201, [("DataTypeError", "QPD-3(0)")]),
        ("", [("RequiredFieldMissing", "QPD-3")]),
    ],
)
def test_what_cannot_be_asked(fields: str, findings: list[tuple[str, str]]) -> None:
    assert refused(fields) == findings


def test_a_wildcard_alone_says_nothing() -> None:
    question = asked("@PID.5.1^*~@PID.5.2^**~@PID.7^19800131")
    assert (question.family, question.given, question.born_from) == ("", "", "19800131")
    with pytest.raises(Problem, match="TooBroad"):
        pdq.read_question(message("@PID.5.1^*~@PID.5.2^*"), REGION)


@pytest.mark.parametrize(
    ("more", "findings"),
    [
        ({"tag": ""}, [("RequiredFieldMissing", "QPD-2")]),
        ({"rcp": "D"}, [("TableValueNotFound", "RCP-1")]),
        ({"rcp": "I|0^RD"}, [("DataTypeError", "RCP-2-1")]),
        ({"rcp": "I|-1^RD"}, [("DataTypeError", "RCP-2-1")]),
        ({"rcp": "I|ten^RD"}, [("DataTypeError", "RCP-2-1")]),
        ({"rcp": "I|10^LI"}, [("TableValueNotFound", "RCP-2-2")]),
        ({"domains": "^^^NIKT~^^^SZPITAL~^^^&x&ISO"}, [("UnknownKeyIdentifier", f"QPD-8({n})") for n in (0, 2)]),
    ],
)
def test_how_it_may_not_be_asked(more: dict[str, str], findings: list[tuple[str, str]]) -> None:
    assert refused("@PID.5.1^A", **more) == findings


def test_without_a_number_the_whole_answer_is_wanted() -> None:
    assert asked("@PID.5.1^A").count == pdq.WHOLE_ANSWER
    assert asked("@PID.5.1^A", rcp="I|999999999^RD").count == pdq.RECORDS_MAX


def test_a_continuation() -> None:
    question = pdq.read_question(message("@PID.5.1^A", rcp="I|2^RD", dsc="abc.2"), REGION)
    assert question == Continuation(cursor="abc.2", count=2, text=b"QPD|IHE PDQ Query|T1|@PID.5.1^A|||||")


def cancel(tag: str, sender: str = "HIS|SZPITAL") -> hl7v2.Message:
    lines = (f"MSH|^~\\&|{sender}|OBIEG|REGION|20260301||QCN^J01^QCN_J01|C1|P|2.5", f"QID|{tag}|IHE PDQ Query")
    return hl7v2.parse("".join(f"{line}\r" for line in lines).encode())


def test_a_cancel_names_the_search_as_its_asker_did() -> None:
    search = asked("@PID.5.1^A").cursor
    question = pdq.read_question(cancel("T1"), REGION)
    assert isinstance(question, Cancel)
    assert question.cursor == search
    assert {asked("@PID.5.1^A", tag="T2").cursor, asked("@PID.5.1^A", sender="HIS|INNY").cursor}.isdisjoint({search})
    with pytest.raises(Problem, match="the tag"):
        pdq.read_question(cancel(""), REGION)


def test_questions_of_the_reference_data(shared) -> None:
    authorities = Authorities([AssigningAuthority("1.3.6.1.4.1.21367.2005.1.1", "HIMSS2005")])

    def read(path: str, known: Authorities = authorities) -> DemographicsQuery:
        question = pdq.read_question(hl7v2.parse((shared / path).read_bytes()), known)
        assert isinstance(question, DemographicsQuery)
        return question

    question = read("data/ihe/ipf/commons/ihe/hl7v2/src/test/resources/qbp.hl7")
    assert (question.family, question.born_from, question.count) == ("MOORE", "19380224", 10)
    assert question.authorities == ("1.3.6.1.4.1.21367.2005.1.1",)

    question = read(f"{PAIRS}/pdq/v2/PDQ_Maximal_Query.hl7")
    assert (question.family, question.given, question.born_until, question.sex) == ("Heidi", "MARY", "19400101", "F")
    assert (question.street, question.city) == ("3443 North Arctic Avenue", "Some City")
    assert question.authorities == ("1.3.6.1.4.1.21367.2005.1.2",)

    question = read(f"{PAIRS}/pdq/v2/PDQ_ID_Query.hl7")
    assert question.identifiers == (PatientId("PDQ113XX03", "1.2.3.4"), PatientId("PDQ113XX04", "1.2.3.4.5"))
    assert question.account == "ACC001"


LUCJA = Demographics((PersonName("Żółć", ("Łucja",), use="L"),), "19440514", "F", (Address(city="Kraków"),))
FOUND = Candidates(
    (
        Candidate(PatientId("R1", "1.1"), (PatientId("7", "1.2"), PatientId("R1", "1.1")), LUCJA),
        Candidate(PatientId("R2", "1.1"), (PatientId("R2", "1.1"),), Demographics(), 87, "probable", updated_at=AT),
    ),
    total=5,
    cursor="abc.2",
    remaining=3,
)


def answer(question: hl7v2.Message, found: Candidates | None = FOUND) -> str:
    said = pdq.write_answer(found, question, REGION)
    return hl7v2.acknowledge(question, "AA", control_id="A1", at=AT, answer=said).decode(question.codec)


def test_an_answer() -> None:
    lines = answer(message("@PID.5.1^Ż*", rcp="I|2^RD")).split("\r")
    assert lines[0].split("|")[8:12] == ["RSP^K22^RSP_K21", "A1", "P", "2.5"]
    assert lines[1:] == [
        "MSA|AA|Q1",
        "QAK|T1|OK|IHE PDQ Query|5|2|3",
        "QPD|IHE PDQ Query|T1|@PID.5.1^Ż*|||||",
        "PID|1||7^^^SZPITAL&1.2&ISO~R1^^^&1.1&ISO||Żółć^Łucja^^^^^L||19440514|F|||^^Kraków",
        "QRI|1",
        "PID|2||R2^^^&1.1&ISO||^^^^^^U||||||||||||||||||||||||||||20260301120000+0000",
        "QRI|0.87",
        "DSC|abc.2|I",
        "",
    ]


def test_an_answer_with_visits_says_that_none_applies() -> None:
    lines = answer(message("@PID.5.1^Ż*", event="ZV1")).split("\r")
    assert lines[0].split("|")[8] == "RSP^ZV2^RSP_ZV2"
    assert [line.split("|")[0] for line in lines[4:-1]] == ["PID", "PV1", "QRI", "PID", "PV1", "QRI", "DSC"]
    assert "PV1||N" in lines


def test_nobody() -> None:
    lines = answer(message("@PID.5.1^Ż*"), Candidates((), 0)).split("\r")
    assert lines[1:] == ["MSA|AA|Q1", "QAK|T1|NF|IHE PDQ Query|0|0|0", "QPD|IHE PDQ Query|T1|@PID.5.1^Ż*|||||", ""]


def test_a_capped_answer_says_so() -> None:
    lines = answer(message("@PID.5.1^Ż*"), Candidates(FOUND.found, 500, capped=True)).split("\r")
    assert lines[1] == "MSA|AA|Q1"
    err = lines[2].split("|")
    assert (err[2], err[3].split("^")[0], err[4]) == ("QPD^1^3^1", "0", "W")
    assert "narrow the question" in err[8]


def test_a_cancel_is_acknowledged() -> None:
    lines = answer(cancel("T1"), None).split("\r")
    assert lines[0].split("|")[8] == "ACK^J01^ACK"
    assert lines[1:] == ["MSA|AA|C1", ""]


@pytest.mark.parametrize("found", [FOUND, Candidates((), 0)])
def test_another_program_finds_the_answer_valid(found: Candidates) -> None:
    question = message("@PID.5.1^Ż*", rcp="I|2^RD")
    peer = parse_message(answer(question, found), find_groups=True)
    assert peer.msh.msh_9.msh_9_3.value == "RSP_K21"
    assert peer.validate()


def test_a_character_set_without_polish_letters_gets_their_base_letters() -> None:
    header = "MSH|^~\\&|HIS|SZPITAL|OBIEG|REGION|20260301||QBP^Q22^QBP_Q21|Q1|P|2.5||||||"
    for declared, codec, name in (
        ("8859/2", "iso8859-2", "Żółć^Łucja"),
        ("8859/1", "iso8859-1", "Zólc^Lucja"),
        ("ASCII", "ascii", "Zolc^Lucja"),
        ("", "utf-8", "Żółć^Łucja"),
    ):
        question = hl7v2.parse(f"{header}{declared}\rQPD|IHE PDQ Query|T1|@PID.5.1^Z\rRCP|I\r".encode(codec))
        said = answer(question)
        assert f"|{name}^^^^^L|" in said
        assert said.split("\r")[0].endswith(declared or "|2.5")
