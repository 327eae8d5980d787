"""ITI-21 and ITI-22 over a real socket, on a real database, asked and read by hl7apy."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hl7apy.core import Message as PeerMessage
from hl7apy.parser import parse_message
from listening import CLINIC, HOSPITAL, OURS, PESEL, Node, adt, code, cx, errors, running, status
from lxml import etree

pytestmark = pytest.mark.node

PEOPLE = [
    # number, PID-5 to PID-8, PID-11
    ("1", "Kowalska^Łucja^Maria^^^^L", "Nowak^Anna", "19440514", "F", "Długa 5/7^^Kraków^^31-147^PL"),
    ("2", "Kowalski^Jan^^^^^L", "", "19800101", "M", "Krótka 1^^Łódź^^90-001^PL"),
    ("3", "Kowalczyk^Jan^^^^^L", "", "19800229", "M", "Krótka 2^^Łódź^^90-001^PL"),
    ("4", "Wiśniewski^Piotr^^^^^L", "", "1970", "M", "Rynek 1^^Kraków^^31-001^PL"),
    ("5", "Żółkiewska-Zając^Ewa^^^^^L", "", "199912", "F", "^^Gdańsk^^^PL"),
]


@pytest.fixture
async def node(database_dsn: str) -> AsyncIterator[Node]:
    async with running(database_dsn) as node:
        for number, name, mother, born, sex, address in PEOPLE:
            rest = f"||{name}|{mother}|{born}|{sex}|||{address}||+48 600 000 00{number}^PRN^CP|||||K{number}"
            assert code(await node.send(adt("A04", cx(number, HOSPITAL), rest=rest))) == "AA"
        yield node


def question(*fields: str, domains: str = "", count: int = 0, cursor: str = "", event: str = "Q22") -> str:
    """Built by hl7apy; DSC is added as text, because its structure has it in another place."""
    m = PeerMessage("QBP_Q21", version="2.5")
    m.msh.msh_3, m.msh.msh_4, m.msh.msh_5, m.msh.msh_6 = "APP", "SZPITAL", "OBIEG", "REGION"
    m.msh.msh_9, m.msh.msh_10, m.msh.msh_18 = f"QBP^{event}^QBP_Q21", "Q1", "UNICODE UTF-8"
    m.qpd = f"QPD|IHE PDQ Query|T1|{'~'.join(fields)}|||||{domains}"
    m.rcp = f"RCP|I|{count}^RD" if count else "RCP|I"
    return m.to_er7() + (f"\rDSC|{cursor}|I" if cursor else "")


async def ask(node: Node, *fields: str, **more: Any) -> Any:
    """The answer as hl7apy reads it, found valid where it knows the structure."""
    return await asyncio.to_thread(exchange, node.port, question(*fields, **more))


def exchange(port: int, message: str) -> Any:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"\x0b" + message.encode() + b"\x1c\r")
        data = b""
        while not data.endswith(b"\x1c\r"):
            data += connection.recv(65536)
    text = data[1:-2].decode()
    if "ZV2" in text:  # a structure of IHE, which hl7apy does not know
        return parse_message(text, find_groups=False)
    # hl7apy's QPD of Q22 has one parameter and no QPD-8: the question, which comes back as sent, is left out.
    lines = [line if not line.startswith("QPD|") else "QPD|IHE PDQ Query|T1|x" for line in text.split("\r")]
    assert parse_message("\r".join(lines)).validate()
    return parse_message(text)


def ids(answer: Any) -> list[str]:
    """The hospital's numbers of the patients, in order."""
    return [line.split("|")[3].split("^")[0] for line in answer.to_er7().split("\r") if line.startswith("PID|")]


def segments(answer: Any, name: str) -> list[list[str]]:
    return [line.split("|") for line in answer.to_er7().split("\r") if line.startswith(f"{name}|")]


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        (["@PID.5.1.1^KOWALSKA", "@PID.5.2^LUCJA"], ["1"]),
        (["@PID.5.1^kowalska", "@PID.7^1944"], ["1"]),
        (["@PID.5.1^Kowal*", "@PID.5.2^Jan"], ["2", "3"]),
        (["@PID.5.1^Kowal*", "@PID.7^19800229"], ["3"]),
        (["@PID.5.1^Kowal*", "@PID.8^F"], ["1"]),
        (["@PID.5.1^Kowal*", "@PID.11.3^LODZ"], ["2", "3"]),
        (["@PID.5.1^Kowal*", "@PID.11.5^90-001", "@PID.11.1^Krótka 2"], ["3"]),
        (["@PID.5.1^Kowal*", "@PID.13.1^+48 600 000 003"], ["3"]),
        (["@PID.5.1^Kowal*", "@PID.18.1^K2"], ["2"]),
        (["@PID.5.1^Kowal*", "@PID.6.1.1^Nowak", "@PID.6.2^Anna"], ["1"]),
        (["@PID.7^199912", "@PID.5.2^*"], ["5"]),
        (["@PID.5.1^zolkiewska zajac"], ["5"]),
        (["@PID.3.1^4", f"@PID.3.4.2^{HOSPITAL}", "@PID.3.4.3^ISO"], ["4"]),
        (["@PID.3.1^4", "@PID.3.4.1^SZPITAL"], ["4"]),
        (["@PID.3.1^4", "@PID.3.4.1^SZPITAL", "@PID.3.1^2", "@PID.3.4.1^SZPITAL"], ["2", "4"]),
        (["@PID.3.1^4", "@PID.3.4.1^PRZYCHODNIA"], []),
        (["@PID.5.1^Nieznany"], []),
    ],
)
async def test_who_is_found(node: Node, fields: list[str], numbers: list[str]) -> None:
    answer = await ask(node, *fields)
    assert sorted(ids(answer)) == numbers
    [qak] = segments(answer, "QAK")
    assert qak[1:] == ["T1", "OK" if numbers else "NF", "IHE PDQ Query", str(len(numbers)), str(len(numbers)), "0"]
    assert len(segments(answer, "QRI")) == len(numbers)


async def test_everything_that_is_known_is_told(node: Node) -> None:
    answer = await ask(node, "@PID.3.1^1", "@PID.3.4.1^SZPITAL")
    assert answer.msh.msh_9.value == "RSP^K22^RSP_K21"
    assert answer.msh.msh_3.value == "OBIEG", "the source that was asked (ITI TF-2:3.21.4.2.2.1)"
    [pid] = segments(answer, "PID")
    own = pid[3].split("~")[1]
    assert pid[3].split("~")[0] == f"1^^^SZPITAL&{HOSPITAL}&ISO"
    assert own.endswith(f"^^^&{OURS}&ISO")
    assert pid[5:9] == ["Kowalska^Łucja^Maria^^^^L", "Nowak^Anna", "19440514", "F"]
    assert pid[11] == "Długa 5/7^^Kraków^^31-147^PL"
    assert pid[13] == "+48 600 000 001^PRN^CP"
    assert pid[18] == "K1"
    assert segments(answer, "QRI") == [["QRI", "1"]]


async def test_those_who_fit_better_come_first(node: Node) -> None:
    answer = await ask(node, "@PID.5.1^Kowalski", "@PID.5.2^Jan")
    assert ids(answer)[0] == "2"
    sure = [float(qri[1]) for qri in segments(answer, "QRI")]
    assert sure == sorted(sure, reverse=True)
    assert sure[0] == 1


async def test_domains(node: Node) -> None:
    await node.send(adt("A04", cx("K/1", CLINIC), cx("1", HOSPITAL), rest=""))
    answer = await ask(node, "@PID.5.1^Kowal*", domains=f"^^^PRZYCHODNIA~^^^&{PESEL}&ISO")
    assert [pid[3] for pid in segments(answer, "PID")] == [f"K/1^^^PRZYCHODNIA&{CLINIC}&ISO"]
    answer = await ask(node, "@PID.5.1^Kowal*", domains=f"^^^&{PESEL}&ISO")
    assert segments(answer, "QAK")[0][2] == "NF", "known, though nobody here has such a number"
    answer = await node.send(question("@PID.5.1^Kowal*", domains="^^^NIKT~^^^SZPITAL~^^^&1.9.9&ISO"))
    assert status(answer) == ("AE", "AE")
    assert errors(answer) >= {("QPD^1^8^1", "204")}
    answer = await node.send(question("@PID.5.1^Kowal*", domains="^^^SZPITAL~^^^&1.9.9&ISO"))
    assert errors(answer) == {("QPD^1^8^2", "204")}


async def test_an_answer_in_pieces_neither_loses_nor_repeats_anybody(node: Node) -> None:
    for number in range(10, 35):
        rest = f"||Masowy^{chr(65 + number - 10)}||1950|M"
        await node.send(adt("A04", cx(str(number), HOSPITAL), rest=rest))
    seen: list[str] = []
    answer = await ask(node, "@PID.5.1^Masowy", count=10)
    while True:
        seen += ids(answer)
        [qak] = segments(answer, "QAK")
        assert qak[4:] == ["25", str(len(ids(answer))), str(25 - len(seen))]
        pointers = segments(answer, "DSC")
        if not pointers:
            break
        [[_, cursor, style]] = pointers
        assert style == "I"
        # Meanwhile the data change: somebody new would stand first, and one who was seen is renamed.
        await node.send(adt("A04", cx("99", HOSPITAL), rest="||Masowy^AA||1950|M"))
        await node.send(adt("A08", cx(seen[0], HOSPITAL), rest="||Masowy^ZZ"))
        answer = await ask(node, "@PID.5.1^Masowy", count=10, cursor=cursor)
    assert sorted(seen) == sorted(map(str, range(10, 35)))
    # Without a number all come at once.
    answer = await ask(node, "@PID.5.1^Masowy")
    assert len(ids(answer)) == 26
    assert segments(answer, "DSC") == []


def cancelling(tag: str) -> str:
    return f"MSH|^~\\&|APP|SZPITAL|OBIEG|REGION|20260301||QCN^J01^QCN_J01|C1|P|2.5\rQID|{tag}|IHE PDQ Query\r"


async def test_a_cancelled_answer_has_no_more_pieces(node: Node) -> None:
    first = await ask(node, "@PID.5.1^Kowal*", count=1)
    [[_, cursor, _]] = segments(first, "DSC")
    answer = await node.send(cancelling("T1"))
    assert code(answer) == "AA", str(answer)
    assert str(answer.segment("MSH")[9]) == "ACK^J01^ACK"
    answer = await node.send(question("@PID.5.1^Kowal*", count=1, cursor=cursor))
    assert status(answer) == ("AE", "AE")


@pytest.mark.parametrize("cursor", ["1", "x' OR 1=1", "00000000-0000-0000-0000-000000000000.5"])
async def test_a_piece_that_never_was(node: Node, cursor: str) -> None:
    answer = await node.send(question("@PID.5.1^Kowal*", cursor=cursor))
    assert status(answer) == ("AE", "AE")
    [(_, hl7_code)] = errors(answer)
    assert hl7_code == "204"


async def test_with_visits(node: Node) -> None:
    answer = await ask(node, "@PID.5.1.1^Wiśniewski", event="ZV1")
    assert answer.msh.msh_9.value == "RSP^ZV2^RSP_ZV2"
    assert ids(answer) == ["4"]
    assert segments(answer, "PV1") == [["PV1", "", "N"]]
    answer = await node.send(question("@PV1.3.2^389", "@PID.5.1^Wiśniewski", event="ZV1"))
    assert str(answer.segment("MSH")[9]) == "RSP^ZV2^RSP_ZV2"
    assert status(answer) == ("AE", "AE")
    assert errors(answer) == {("QPD^1^3^1", "103")}
    assert "visits" in str(answer.segment("ERR")[8])


async def test_a_merged_patient_is_found_as_the_survivor(node: Node) -> None:
    assert code(await node.send(adt("A40", cx("2", HOSPITAL), merged=cx("3", HOSPITAL)))) == "AA"
    assert ids(await ask(node, "@PID.3.1^3", "@PID.3.4.1^SZPITAL")) == []
    assert ids(await ask(node, "@PID.3.1^2", "@PID.3.4.1^SZPITAL")) == ["2"]


async def test_question_answer_and_refusal_are_audited(node: Node) -> None:
    await ask(node, "@PID.5.1^Kowal*", "@PID.5.2^Jan")
    await node.send(question("@PID.19^1"))
    await ask(node, "@PID.5.1^Nieznany", event="ZV1")
    rows = node.rows(
        "SELECT transaction, outcome::text, message::text FROM audit_event WHERE transaction <> 'ITI-8' ORDER BY audit_id"
    )
    assert [row[:2] for row in rows] == [("ITI-21", "0"), ("ITI-21", "4"), ("ITI-22", "0")]
    message = etree.fromstring(rows[0][2])
    assert message.find("EventIdentification/EventID").get("csd-code") == "110112"
    objects = message.findall("ParticipantObjectIdentification")
    assert len([o for o in objects if o.get("ParticipantObjectTypeCode") == "1"]) == 2, "each patient who was told of"
    [query] = message.iter("ParticipantObjectQuery")
    assert base64.b64decode(query.text).decode().startswith("QPD|IHE PDQ Query|T1|@PID.5.1^Kowal*~")
    assert "Patient Demographics and Visit Query" in rows[2][2]
