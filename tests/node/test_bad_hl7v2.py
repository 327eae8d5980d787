"""Bad input over a real MLLP socket: each message is answered precisely, changes nothing, and the connection goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import hl7
import pytest
from listening import (
    AUTHORITIES,
    HOSPITAL,
    OURS,
    PESEL,
    Node,
    acknowledgement,
    adt,
    code,
    connected,
    cx,
    error,
    running,
)

from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.edges.mllp import MllpLimits

pytestmark = pytest.mark.node

GOOD = adt("A04", cx("1", HOSPITAL))
PDQ = (
    "MSH|^~\\&|APP|SZPITAL|OBIEG|REGION|20260301||QBP^Q22^QBP_Q21|Q1|P|2.5\r"
    "QPD|IHE PDQ Query|T1|@PID.5.1^KOWALSKI\rRCP|I\r"
)


@pytest.fixture
async def node(database_dsn: str) -> AsyncIterator[Node]:
    async with running(database_dsn) as node:
        assert code(await node.send(GOOD)) == "AA"
        yield node


def framed(message: str | bytes) -> bytes:
    return b"\x0b" + (message.encode() if isinstance(message, str) else message) + b"\x1c\r"


def located(answer: hl7.Message) -> tuple[str, str, str]:
    """MSA-1, location and code of the first ERR, in 2.3.1 and in 2.5."""
    err = answer.segment("ERR")
    if len(err) > 3:
        return code(answer), str(err[2]), str(err[3]).split("^")[0]
    return error(answer)


async def refused(node: Node, message: bytes) -> hl7.Message:
    """The answer, on a connection that then takes a good message; nothing has changed."""
    before = node.state()
    records = node.rows("SELECT count(*) FROM audit_event")[0][0]
    async with connected(node) as (reader, writer):
        writer.write(message)
        answer = acknowledgement(await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 20))
        assert node.state() == before
        assert node.rows("SELECT count(*) FROM audit_event") == [(records + 1,)], "a refusal is audited once"
        writer.write(framed(GOOD))
        assert code(acknowledgement(await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 20))) == "AA"
    assert node.state() == before, "a repeated message is harmless"
    return answer


FEEDS = {
    "unknown namespace": (adt("A04", "1^^^NIKT"), ("AE", "PID-3", "204")),
    "namespace and OID disagree": (adt("A04", f"1^^^PRZYCHODNIA&{HOSPITAL}&ISO"), ("AE", "PID-3", "102")),
    "authority that is none": (adt("A04", "1^^^&SZPITAL&ISO"), ("AE", "PID-3", "102")),
    "no authority": (adt("A04", "1"), ("AE", "PID-3", "101")),
    "no PID-3": (adt("A04", ""), ("AE", "PID-3", "101")),
    "no PID": (GOOD.replace("\rPID|", "\rZZZ|"), ("AE", "PID", "100")),
    "two PIDs": (GOOD + GOOD.split("\r")[2] + "\r", ("AE", "PID", "100")),
    "a merge without MRG": (adt("A40", cx("1", HOSPITAL)), ("AE", "MRG", "100")),
    "two messages in one frame": (GOOD + GOOD, ("AE", "MSH-1", "100")),
    "no event": (GOOD.replace("ADT^A04^ADT_A01", "ADT"), ("AR", "MSH-9", "201")),
    "no control id": (GOOD.replace("|M1|", "||"), ("AE", "MSH-10", "101")),
    "a birthday that never was": (adt("A04", cx("1", HOSPITAL), rest="||A^B||19830231|M"), ("AE", "PID-7", "102")),
    "a sex that is none": (adt("A04", cx("1", HOSPITAL), rest="||A^B||1983|X"), ("AE", "PID-8", "103")),
    "201 repetitions": (adt("A04", *[cx("1", HOSPITAL)] * 201), ("AE", "PID-3", "102")),
    "a value without end": (adt("A04", cx("1" * 201, HOSPITAL)), ("AE", "PID-3", "102")),
    "bytes smuggled by an escape": (adt("A04", cx("1\\X0B\\", HOSPITAL)), ("AE", "PID-3", "102")),
    "one name a thousand times": (adt("A04", cx("1", HOSPITAL), rest="||" + "~".join(["A^B"] * 1000)), ("AE", "PID-5", "102")),
}  # fmt: skip


@pytest.mark.parametrize("name", FEEDS)
async def test_feeds(node: Node, name: str) -> None:
    message, expected = FEEDS[name]
    answer = await refused(node, framed(message))
    assert located(answer) == expected, str(answer)
    assert len(str(answer.segment("MSA")[3])) > 10, "words for people"
    assert len(str(answer)) < 5_000


QUERIES = {
    "an unsupported field": (PDQ.replace("@PID.5.1^", "@PID.19^"), "QPD^1^3^1", "103"),
    "a component that is none": (PDQ.replace("@PID.5.1^KOWALSKI", "@PID.3.1^1~@PID.3.4.99^X"), "QPD^1^3^2", "103"),
    "an unknown domain": (PDQ.replace("KOWALSKI", "KOWALSKI|||||^^^NIKT"), "QPD^1^8^1", "204"),
    "an unknown domain of a number": (PDQ.replace("@PID.5.1^KOWALSKI", "@PID.3.1^1~@PID.3.4.1^NIKT"), "QPD^1^3^1", "204"),
    "nothing but a wildcard": (PDQ.replace("KOWALSKI", "*"), "QPD^1^3^1", "103"),
    "a flood of wildcards": (PDQ.replace("KOWALSKI", "K*O*W*"), "QPD^1^3^1", "103"),
    "a wildcard that lists half the region": (PDQ.replace("KOWALSKI", "K*"), "", "103"),
    "no query tag": (PDQ.replace("|T1|", "||"), "QPD^1^2^1", "101"),
    "two questions": (PDQ + "QPD|IHE PDQ Query|T2|@PID.5.1^A\r", "QPD^1", "100"),
    "a number of records that is none": (PDQ.replace("RCP|I", "RCP|I|x^RD"), "RCP^1^2^1^1", "102"),
    "a piece that never was": (PDQ + "DSC|1234|I\r", "", "204"),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
async def test_queries(node: Node, name: str) -> None:
    message, where, hl7_code = QUERIES[name]
    answer = await refused(node, framed(message))
    assert located(answer) == ("AE", where, hl7_code), str(answer)
    assert str(answer.segment("QAK")[2]) == "AE"
    assert "PID|" not in str(answer)
    assert len(str(answer.segment("ERR")[8])) > 10


BYTES = {
    "delimiters that are letters": (GOOD.replace("MSH|^~\\&|", "MSH|abcd|").encode(), ("AR", "MSH-2", "102")),
    "one delimiter for two things": (GOOD.replace("MSH|^~\\&|", "MSH|^^\\&|").encode(), ("AR", "MSH-2", "102")),
    "a frame byte within": (GOOD.replace("KOWALSKI", "KOWA\x0bLSKI").encode(), ("AE", "PID-5", "102")),
    "an end of frame within": (GOOD.replace("KOWALSKI", "KOWA\x1cLSKI").encode(), ("AE", "PID-5", "102")),
    "a NUL": (GOOD.replace("KOWALSKI", "KOWA\x00LSKI").encode(), ("AE", "PID-5", "102")),
    "a bell": (GOOD.replace("KOWALSKI", "KOWA\x07LSKI").encode(), ("AE", "PID-5", "102")),
    "a segment without a name": (GOOD.replace("EVN|", "??|").encode(), ("AE", "", "100")),
    "bytes that are not UTF-8": (GOOD.replace("KOWALSKI", "ŻÓŁW").encode("cp1250"), ("AE", "MSH-18", "102")),
    "no message": (b"hello", ("AR", "", "100")),
    "nothing": (b"", ("AR", "", "100")),
    "a version that is none": (GOOD.replace("2.3.1", "3.0").encode(), ("AR", "MSH^1^12^1", "203")),
}


@pytest.mark.parametrize("name", BYTES)
async def test_bytes(node: Node, name: str) -> None:
    message, expected = BYTES[name]
    answer = await refused(node, framed(message))
    found = located(answer)
    if found[0] == "AR" and len(answer.segment("ERR")) > 3:  # an unreadable header is answered in 2.5
        expected = (expected[0], expected[1].replace("MSH-2", "MSH^1^2^1"), expected[2])
    assert found == expected, str(answer)


@pytest.mark.parametrize(
    ("declared", "codec", "name"),
    [
        ("ASCII", "utf-8", "Żółw"),
        ("UNICODE UTF-8", "iso8859-2", "Żółw"),
        ("8859/2", "utf-8", "Żółw"),
        ("8859/1", "utf-8", "Józef"),
        ("8859/2", "cp1250", "Śliwa"),
        ("EBCDIC", "utf-8", "Jan"),
        ("UNICODE UTF-16", "utf-8", "Jan"),
    ],
)
async def test_a_character_set_that_lies_or_is_unknown(node: Node, declared: str, codec: str, name: str) -> None:
    message = GOOD.replace("|2.3.1\r", f"|2.3.1||||||{declared}\r").replace("KOWALSKI", name)
    answer = await refused(node, framed(message.encode(codec)))
    unknown = declared in {"EBCDIC", "UNICODE UTF-16"}
    assert error(answer) == ("AE", "MSH-18", "103" if unknown else "102")


@pytest.mark.parametrize("declared", ["8859/2", "CP1250", "UNICODE UTF-8", ""])
async def test_polish_names_come_back_in_the_askers_character_set(node: Node, declared: str) -> None:
    codec = {"8859/2": "iso8859-2", "CP1250": "cp1250"}.get(declared, "utf-8")
    feed = adt("A04", cx("9", HOSPITAL), rest="||Gżegżółka^Łucja||19440514|F")
    assert code(await node.send(feed)) == "AA"
    asked = PDQ.replace("|2.5\r", f"|2.5||||||{declared}\r").replace("KOWALSKI", "GŻEGŻÓŁKA").encode(codec)
    async with connected(node) as (reader, writer):
        writer.write(framed(asked))
        answer = await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 20)
    assert "|Gżegżółka^Łucja|" in answer.decode(codec)


async def test_redefined_delimiters_are_understood(node: Node) -> None:
    message = GOOD.translate(str.maketrans("|^~\\&", "#*!%+")).replace(cx("1", HOSPITAL), "")
    message = message.replace("PID###1***+", "PID###8***+")
    async with connected(node) as (reader, writer):
        writer.write(framed(message))
        answer = await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 20)
    assert answer.startswith(b"\x0bMSH#*!%+#OBIEG#REGION#APP#SZPITAL#")
    assert b"\rMSA#AA#M1" in answer
    assert await node.id("8", HOSPITAL) is not None


async def test_a_million_repetitions(node: Node) -> None:
    message = adt("A04", "~" * 1_000_000 + cx("1", HOSPITAL))
    assert error(await refused(node, framed(message))) == ("AE", "PID-3", "102")


async def test_a_frame_without_end_is_answered_and_the_connection_closed(database_dsn: str) -> None:
    async with running(database_dsn, MllpLimits(frame_bytes_max=10_000)) as node:
        async with connected(node) as (reader, writer):
            writer.write(b"\x0b" + adt("A04", "~" * 20_000).encode())
            answer = acknowledgement(await asyncio.wait_for(reader.read(), 20))
            assert error(answer)[::2] == ("AR", "207")
            assert str(answer.segment("MSA")[2]) == "M1"
        assert code(await node.send(GOOD)) == "AA"


async def test_half_a_frame_and_silence(database_dsn: str) -> None:
    async with running(database_dsn, MllpLimits(frame_time_s=0.3)) as node:
        async with connected(node) as (reader, writer):
            writer.write(framed(GOOD)[:60])
            assert await asyncio.wait_for(reader.read(), 20) == b""
        assert node.rows("SELECT count(*) FROM patient") == [(0,)]
        assert code(await node.send(GOOD)) == "AA"


async def test_a_frame_that_begins_again(node: Node) -> None:
    """Half a message, then a whole one in its frame: which of both is meant cannot be told."""
    answer = await refused(node, b"\x0b" + GOOD[:80].encode() + framed(GOOD))
    assert code(answer) == "AE"


async def test_a_repeated_control_id(node: Node) -> None:
    """The same message again is harmless; another message is taken for what it says, whatever it calls itself."""
    before = node.state()
    assert code(await node.send(GOOD)) == "AA"
    assert node.state() == before
    assert code(await node.send(GOOD.replace("|1^^^", "|5^^^"))) == "AA"
    assert await node.id("5", HOSPITAL) is not None


async def test_a_region_that_lists_its_authorities_takes_no_others(database_dsn: str) -> None:
    listed = [AssigningAuthority(OURS), AssigningAuthority(PESEL, single=True), AssigningAuthority(HOSPITAL, "SZPITAL")]
    async with running(database_dsn, authorities=Authorities(listed, closed=True)) as node:
        before = node.state()
        answer = await node.send(adt("A04", cx("1", HOSPITAL), cx("2", "1.9.9")))
        assert error(answer) == ("AE", "PID-3", "204")
        assert node.state() == before
        assert code(await node.send(adt("A04", "1^^^SZPITAL", cx("44051401458", PESEL)))) == "AA"
        answer = await node.send(PDQ.replace("@PID.5.1^KOWALSKI", "@PID.3.1^1~@PID.3.4.2^1.9.9~@PID.3.4.3^ISO"))
        assert located(answer) == ("AE", "QPD^1^3^1", "204")
    assert AUTHORITIES.accepts("1.9.9"), "an open one takes them"
