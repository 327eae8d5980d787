"""HL7 v2 reading, escapes, character sets, limits and acknowledgements."""

from __future__ import annotations

from datetime import UTC, datetime

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obieg.wire import hl7v2
from obieg.wire.hl7v2 import Delimiters, Fault, Limits, MessageError, Segment, parse

AT = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)


def message(*segments: str, version: str = "2.3.1", charset: str = "", codec: str = "utf-8") -> bytes:
    header = f"MSH|^~\\&|APP|FAC|OBIEG|REGION|20260301||ADT^A01^ADT_A01|M1|P|{version}"
    if charset:
        header += "||||||" + charset
    return "".join(s + "\r" for s in (header, *segments)).encode(codec)


def refused(data: bytes, limits: Limits | None = None) -> MessageError:
    with pytest.raises(MessageError) as caught:
        parse(data, limits or Limits())
    return caught.value


def test_terser_paths() -> None:
    m = parse(message("PID|||1^^^&1.2&ISO~2^^^NS&1.3&ISO||KOWALSKI&VON^JAN", "MRG|9", "MRG|8"))
    assert m.get("PID-3-1") == "1"
    assert m.get("PID-3(1)-4-2") == "1.3"
    assert m.get("QUERY_RESPONSE/.PID-3(1)-4-1") == "NS"
    assert m.get("PID-5") == "KOWALSKI"
    assert m.get("PID-5-1-2") == "VON"
    assert m.get("MRG(1)-1") == "8"
    assert m.get("PID-3(7)-4") == m.get("PID-99") == m.get("PID-3-9-9") == m.get("ZZZ-1") == m.get("MRG(2)-1") == ""
    assert (m.get("MSH-1"), m.get("MSH-2"), m.get("MSH-3")) == ("|", "^~\\&", "APP")
    assert (m.type, m.event, m.control_id, m.version) == ("ADT", "A01", "M1", (2, 3, 1))


def test_delimiters_may_be_redefined() -> None:
    m = parse(b"MSH#*!%+#APP#FAC#OBIEG#REGION###ADT*A01#M1#P#2.5\rPID###a%F%b*c!d+e#|^~\\&\r")
    assert m.get("PID-3-1") == "a#b"
    assert m.get("PID-3-2") == "c"
    assert m.get("PID-3(1)-1-2") == "e"
    assert m.get("PID-4") == "|^~\\&"
    answer = hl7v2.acknowledge(m, "AE", control_id="Z", at=AT, faults=(Fault(101, "a#b", "PID-3"),))
    assert answer.startswith(b"MSH#*!%+#OBIEG#REGION#APP#FAC#")
    assert parse(answer).get("ERR-8") == "a#b"


@pytest.mark.parametrize("start", [b"MSH|^^\\&|", b"MSHa^~\\&a", b"MSH|^~|", b"MSH |^~\\&", b"MSH|"])
def test_delimiters_that_cannot_be_told_apart_are_refused(start: bytes) -> None:
    refused(start + b"APP\r")


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"\X4A4B\!", "JK!"),
        (r"\XC485\\XC582\ ", "ął "),
        (r"one\.br\two", "one\ntwo"),
        (r"\H\bold\N\ ", "bold "),
        (r"C:\dir\file", r"C:\dir\file"),
        (r"lonely\ backslash", r"lonely\ backslash"),
        (r"\Z99\ ", r"\Z99\ "),
    ],
)
def test_escapes(sent: str, meant: str) -> None:
    assert parse(message(f"PID|||{sent}")).get("PID-3") == meant


@pytest.mark.parametrize("sent", [r"\X00\ ", r"\X0B\ ", r"\XFF\ ", r"\X1C0D\ "])
def test_escapes_that_smuggle_bytes_are_refused(sent: str) -> None:
    assert refused(message(f"PID||{sent}")).location == "PID-2"


_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\r\n"))


@given(st.lists(st.lists(st.lists(_TEXT, min_size=1), min_size=1), min_size=1))
def test_what_is_encoded_is_read_again(repetitions: list[list[list[str]]]) -> None:
    raw = hl7v2.field(*repetitions)
    m = parse(message(f"PID|{raw}|end"), Limits(repetitions_max=100_000))
    for r, components in enumerate(repetitions):
        for c, subcomponents in enumerate(components, 1):
            for s, text in enumerate(subcomponents, 1):
                assert m.get(f"PID-1({r})-{c}-{s}") == text
    assert m.get("PID-2") == "end"
    assert parse(m.encode()) == m


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for whole in (data, message() + data, b"MSH|^~\\&" + data):
        try:
            m = parse(whole)
        except MessageError:
            continue
        m.get("PID-3(1)-4-2")
        hl7v2.acknowledge(m, "AA", control_id="1", at=AT)


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("", "utf-8"),
        ("UNICODE UTF-8", "utf-8"),
        ("UNICODE", "utf-8"),
        ("8859/2", "iso8859-2"),
        ("8859/2~UNICODE UTF-8", "iso8859-2"),
        ("unicode utf-8", "utf-8"),
        ("ISO-8859-2", "iso8859-2"),
        ("cp1250", "cp1250"),
        ("WINDOWS-1250", "cp1250"),
    ],
)
def test_polish_in_each_character_set(charset: str, codec: str) -> None:
    name = "Żółć Gęślą-Jaźń Śliwiński"
    m = parse(message(f"PID|||||{name}", charset=charset, codec=codec))
    assert m.get("PID-5") == name
    assert m.get("MSH-18") == charset.partition("~")[0]
    assert parse(m.encode()) == m


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("8859/1", "Zólc Gesla-Jazn Sliwinski"),
        ("8859/15", "Zólc Gesla-Jazn Sliwinski"),
        ("ASCII", "Zolc Gesla-Jazn Sliwinski"),
        ("ISO IR6", "Zolc Gesla-Jazn Sliwinski"),
        ("8859/5", "Zolc Gesla-Jazn Sliwinski"),
        ("8859/2", "Żółć Gęślą-Jaźń Śliwiński"),
    ],
)
def test_letters_that_a_character_set_lacks_become_their_base_letters(charset: str, name: str) -> None:
    m = parse(message("PID|||1", charset=charset))
    answer = hl7v2.Answer(segments=(Segment("PID", ("", "", "1", "", "Żółć Gęślą-Jaźń Śliwiński")),))
    assert parse(hl7v2.acknowledge(m, "AA", control_id="1", at=AT, answer=answer)).get("PID-5") == name


def test_a_control_character_is_located() -> None:
    assert refused(message("PID|||1^\x07")).location == "PID-3"
    assert refused(message("PID|||1", "NTE|1|a\x0bb")).location == "NTE-2"
    assert refused(message("PID|||1").replace(b"|M1|", b"|M\x001|")).location == "MSH-10"


def test_an_answer_may_speak_for_itself() -> None:
    m = parse(message(version="2.5"))
    warned = hl7v2.Answer(code="AA", faults=(Fault(0, "more fit", "QPD-3", warning=True),))
    answer = parse(hl7v2.acknowledge(m, "AE", control_id="1", at=AT, faults=(Fault(204, "nobody"),), answer=warned))
    assert answer.get("MSA-1") == "AA"
    assert [answer.get(f"ERR({n})-4") for n in (0, 1)] == ["E", "W"]


@pytest.mark.parametrize(
    ("charset", "codec", "name"),
    [
        ("ASCII", "utf-8", "Żółw"),
        ("UNICODE UTF-8", "iso8859-2", "Żółw"),
        ("", "cp1250", "Śliwa"),
        ("8859/2", "utf-8", "Kózka"),
        ("8859/1", "utf-8", "Józef"),
        ("8859/2", "cp1250", "Śliwa"),
        ("CP1250", "utf-8", "Żaba"),
    ],
)
def test_a_lying_character_set_is_refused(charset: str, codec: str, name: str) -> None:
    error = refused(message(f"PID|||||{name}", charset=charset, codec=codec))
    assert (error.code, error.location) == (102, "MSH-18")


def test_unknown_character_set() -> None:
    error = refused(message("PID|||||x", charset="EBCDIC"))
    assert (error.code, error.location) == (103, "MSH-18")


def test_line_ends_of_files_are_understood() -> None:
    for end in ("\r", "\n", "\r\n", "\r\n\r\n"):
        data = message("PID|||1", "PV1||O").decode().replace("\r", end).encode()
        assert [s.name for s in parse(data).segments] == ["MSH", "PID", "PV1"]


def test_limits() -> None:
    limits = Limits(segments_max=3, fields_max=20, repetitions_max=5)
    parse(message("PID" + "|" * 20, "PID|a~b~c~d~e"), limits)
    assert refused(message("PV1", "PV1", "PV1"), limits).code == 100
    assert refused(message("PID" + "|" * 21), limits).code == 100
    error = refused(message("PID||a~b~c~d~e~f"), limits)
    assert (error.code, error.location) == (102, "PID-2")
    assert refused(message("PID|||" + "~" * 1_000_000)).location == "PID-3"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"PID|||1\r",
        message() + message(),
        message("pid|1"),
        message("PIDX|1"),
        message("PID|\x0bMSH"),
        message("PID|\x1c"),
        message("PID|a\x00b"),
    ],
)
def test_not_a_message(data: bytes) -> None:
    refused(data)


def test_an_acknowledgement_is_what_its_sender_waits_for() -> None:
    m = parse(message("PID|||1", charset="8859/2", codec="iso8859-2"))
    data = hl7v2.acknowledge(m, "AA", control_id="ours", at=AT)
    assert data == (
        b"MSH|^~\\&|OBIEG|REGION|APP|FAC|20260301123005+0000||ACK^A01^ACK|ours|P|2.3.1||||||8859/2\rMSA|AA|M1\r"
    )
    assert str(hl7.parse(data.decode()).segment("MSA")[2]) == "M1"


def test_errors_before_2_5_stand_in_err_1() -> None:
    faults = (Fault(101, "no id", "PID-3(1)-4-2"), Fault(204, "unknown | id", "MRG-1"))
    answer = parse(hl7v2.acknowledge(parse(message()), "AE", control_id="o", at=AT, faults=faults))
    assert answer.get("MSA-1") == "AE"
    assert answer.get("MSA-3") == "PID-3(1)-4-2: no id; MRG-1: unknown | id"
    [err] = answer.all("ERR")
    assert err.fields == ("PID^1^3^101&Required field missing&HL70357~MRG^1^1^204&Unknown key identifier&HL70357",)


def test_errors_since_2_5_are_segments() -> None:
    request = parse(message(version="2.5"))
    faults = (Fault(101, "no id", "PID-3(1)-4-2"), Fault(100, "two & two", "PV1"), Fault(207, "failed"))
    answer = parse(hl7v2.acknowledge(request, "AE", control_id="o", at=AT, faults=faults))
    assert answer.all("MSA")[0].fields == ("AE", "M1")
    assert [answer.get(f"ERR({i})-2-{c}") for i in (0,) for c in range(1, 7)] == ["PID", "1", "3", "2", "4", "2"]
    assert [answer.get(f"ERR({i})-3") for i in range(3)] == ["101", "100", "207"]
    assert [answer.get(f"ERR({i})-4") for i in range(3)] == ["E"] * 3
    assert answer.get("ERR(1)-2") == "PV1"
    assert answer.get("ERR(1)-8") == "two & two"
    assert answer.get("ERR(2)-2") == ""


def test_what_cannot_be_read_is_answered_too() -> None:
    data = message("PID|||||Śliwa", charset="ASCII")
    refused(data)
    header = hl7v2.read_header(data)
    answer = hl7v2.acknowledge(header, "AE", control_id="o", at=AT)
    assert parse(answer).get("MSA-2") == "M1"
    assert parse(hl7v2.acknowledge(hl7v2.UNREADABLE, "AR", control_id="o", at=AT)).get("MSH-9") == "ACK"


def test_answers_may_carry_segments() -> None:
    answer = hl7v2.Answer(("RSP", "K23", "RSP_K23"), (Segment("QAK", ("1", "OK")),))
    m = parse(hl7v2.acknowledge(parse(message(version="2.5")), "AA", control_id="o", at=AT, answer=answer))
    assert [s.name for s in m.segments] == ["MSH", "MSA", "QAK"]
    assert m.get("MSH-9-3") == "RSP_K23"


def test_a_path_that_is_none_is_our_mistake() -> None:
    with pytest.raises(ValueError):
        parse(message()).get("PID")


def test_delimiters_default() -> None:
    assert Delimiters().encoding_characters == "^~\\&"


def test_every_message_of_the_reference_data_is_read(shared) -> None:
    files = [*(shared / "data" / "ihe").rglob("*.hl7")]
    feeds = [f for f in files if "/pixfeed/" in f.as_posix() or "/pixsource/" in f.as_posix() or "iti8" in f.name]
    assert len(feeds) >= 9
    for file in files:
        m = parse(file.read_bytes())
        assert m.control_id, file
        theirs = hl7.parse(file.read_bytes().decode().replace("\r\n", "\r").replace("\r\r", "\r").strip() + "\r")
        assert m.control_id == str(theirs.segment("MSH")[10]), file
