"""ITI-9 over a real socket, on a real database, with a client that knows nothing of this code."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import hl7
import psycopg
import pytest
from hl7.client import MLLPClient
from lxml import etree

from obieg.actors.patient_index import PatientIndex
from obieg.domain.requester import Requester
from obieg.edges.mllp import MllpEdge
from obieg.storage.audit_store import AuditStore
from obieg.storage.link import Database
from obieg.storage.patient_store import PostgresPatientStore
from obieg.transactions import TRANSACTIONS

OURS = "1.2.616.1"  # the affinity domain
PESEL = "2.16.840.1.113883.3.4424.1.1.616"
HOSPITAL, CLINIC = "1.2.616.2", "1.2.616.3"

pytestmark = pytest.mark.node


class Laboratory:
    def authenticate(self, *, address: str, security_header: Any | None) -> Requester:
        return Requester(system=address, address=address)


@dataclass
class Actors:
    patient_index: PatientIndex


@dataclass
class Node:
    port: int
    dsn: str

    async def send(self, message: str) -> hl7.Message:
        return await asyncio.to_thread(self._send, message)

    def _send(self, message: str) -> hl7.Message:
        with MLLPClient("127.0.0.1", self.port) as client:
            client.socket.settimeout(20)
            data = client.send_message(message)
        return hl7.parse(data[1:-2].decode())

    async def feed(self, *identifiers: str, event: str = "A04", merged: str = "") -> None:
        lines = [
            f"MSH|^~\\&|APP|SZPITAL|OBIEG|REGION|20260301||ADT^{event}|F1|P|2.3.1",
            f"PID|||{'~'.join(identifiers)}||KOWALSKI^JAN",
            *([f"MRG|{merged}"] if merged else []),
        ]
        answer = await self.send("\r".join(lines) + "\r")
        assert str(answer.segment("MSA")[1]) == "AA", str(answer)

    async def ask(self, identifier: str, targets: str = "") -> hl7.Message:
        return await self.send(query(identifier, targets))

    def audit(self) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            sql = "SELECT outcome, patient_id, message::text FROM audit_event WHERE transaction = 'ITI-9' ORDER BY 3"
            return connection.execute(sql).fetchall()


def cx(value: str, authority: str) -> str:
    return f"{value}^^^&{authority}&ISO"


def domain(*authorities: str) -> str:
    return "~".join(f"^^^&{a}&ISO" for a in authorities)


def query(identifier: str, targets: str = "", *, tag: str = "T 1") -> str:
    return (
        "MSH|^~\\&|HIS|SZPITAL|OBIEG|REGION|20260301||QBP^Q23^QBP_Q21|Q1|P|2.5\r"
        f"QPD|IHE PIX Query|{tag}|{identifier}|{targets}\rRCP|I\r"
    )


def status(answer: hl7.Message) -> tuple[str, str]:
    return str(answer.segment("MSA")[1]), str(answer.segment("QAK")[2])


def errors(answer: hl7.Message) -> set[tuple[str, str]]:
    """Where, and code of table 0357, of every ERR."""
    return {(str(err[2]), str(err[3]).split("^")[0]) for err in answer.segments("ERR")}


def found(answer: hl7.Message) -> list[str]:
    return str(answer.segment("PID")[3]).split("~")


@pytest.fixture
async def node(database_dsn: str) -> AsyncIterator[Node]:
    database = Database(database_dsn)
    await database.open()
    audit = AuditStore(
        database, source_id="test", names={t.id: t.name for t in TRANSACTIONS}, now=lambda: datetime.now(UTC)
    )
    actors = Actors(PatientIndex(PostgresPatientStore(database, audit), assigning_authority=OURS))
    edge = MllpEdge(transactions=TRANSACTIONS, actors=actors, authenticator=Laboratory(), audit=audit)
    server = await asyncio.start_server(edge, "127.0.0.1", 0)
    try:
        yield Node(server.sockets[0].getsockname()[1], database_dsn)
    finally:
        server.close()
        database.close()


async def test_pesel_leads_to_the_affinity_domain_id(node):
    await node.feed(cx("17", HOSPITAL), cx("44051401359", PESEL))
    answer = await node.ask(cx("44051401359", PESEL), domain(OURS))
    assert status(answer) == ("AA", "OK")
    assert str(answer.segment("MSH")[9]) == "RSP^K23^RSP_K23"
    assert str(answer.segment("MSA")[2]) == "Q1"
    assert str(answer.segment("QAK")[1]) == "T 1"
    assert str(answer.segment("QPD")) == f"QPD|IHE PIX Query|T 1|{cx('44051401359', PESEL)}|{domain(OURS)}"
    [identifier] = found(answer)
    assert re.fullmatch(r"[A-Z2-7]{20}\^\^\^&1\.2\.616\.1&ISO", identifier)
    # No name is given away, as ITI TF-2:3.9.4.2.2.5 says.
    assert str(answer.segment("PID")[5]) == "~^^^^^^S"
    assert "KOWALSKI" not in str(answer)


async def test_without_domains_all_are_told_the_regions_own_first(node):
    await node.feed(cx("17", HOSPITAL), cx("44051401359", PESEL))
    await node.feed(cx("A/4", CLINIC), cx("44051401359", PESEL))
    answer = await node.ask(cx("17", HOSPITAL))
    authorities = [i.split("&")[1] for i in found(answer)]
    assert authorities[0] == OURS
    assert sorted(authorities[1:]) == sorted([HOSPITAL, CLINIC, PESEL])


async def test_several_domains(node):
    await node.feed(cx("17", HOSPITAL), cx("44051401359", PESEL))
    await node.feed(cx("A/4", CLINIC), cx("44051401359", PESEL))
    answer = await node.ask(cx("17", HOSPITAL), domain(CLINIC, PESEL))
    assert sorted(found(answer)) == sorted([cx("A/4", CLINIC), cx("44051401359", PESEL)])


async def test_a_domain_in_which_the_patient_has_no_identifier_is_not_found(node):
    await node.feed(cx("17", HOSPITAL))
    await node.feed(cx("9", CLINIC))
    answer = await node.ask(cx("17", HOSPITAL), domain(CLINIC))
    assert status(answer) == ("AA", "NF")
    assert "PID|" not in str(answer)


async def test_an_unknown_identifier_is_an_error_at_qpd_3(node):
    await node.feed(cx("17", HOSPITAL))
    answer = await node.ask(cx("18", HOSPITAL), domain(OURS))
    assert status(answer) == ("AE", "AE")
    assert errors(answer) == {("QPD^1^3^1^1", "204")}
    assert str(answer.segment("MSH")[9]) == "RSP^K23^RSP_K23"
    assert str(answer.segment("QPD")).startswith("QPD|IHE PIX Query|T 1|18^^^")


@pytest.mark.parametrize("identifier", [cx("1", "1.9.9"), "1^^^SZPITAL", "1"])
async def test_an_unknown_domain_of_the_identifier_is_an_error_at_its_authority(node, identifier):
    answer = await node.ask(identifier, domain(OURS))
    assert status(answer) == ("AE", "AE")
    assert errors(answer) == {("QPD^1^3^1^4", "204")}


async def test_every_unknown_target_domain_is_named(node):
    await node.feed(cx("17", HOSPITAL))
    answer = await node.ask(cx("17", HOSPITAL), domain("1.9.8", OURS, "1.9.9"))
    assert status(answer) == ("AE", "AE")
    assert errors(answer) == {("QPD^1^4^1", "204"), ("QPD^1^4^3", "204")}


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (query(""), ("QPD^1^3^1", "101")),
        (query(f"{cx('1', HOSPITAL)}~{cx('2', HOSPITAL)}"), ("QPD^1^3^1", "102")),
        (query(cx("", HOSPITAL)), ("QPD^1^3^1^1", "101")),
        (query(cx("1", HOSPITAL), tag=""), ("QPD^1^2^1", "101")),
        (query(cx("1", HOSPITAL)).replace("QPD|", "ZZZ|"), ("QPD^1", "100")),
    ],
)
async def test_a_malformed_query_is_answered_in_its_own_terms(node, message, where):
    answer = await node.send(message)
    assert status(answer) == ("AE", "AE")
    assert errors(answer) == {where}


async def test_after_a_merge_the_old_identifier_is_unknown_and_the_surviving_answers_for_both(node):
    await node.feed(cx("R1", OURS), cx("17", HOSPITAL))
    await node.feed(cx("R2", OURS), cx("9", CLINIC))
    await node.feed(cx("R1", OURS), event="A40", merged=cx("R2", OURS))
    answer = await node.ask(cx("R1", OURS))
    assert found(answer)[0] == cx("R1", OURS)
    assert cx("9", CLINIC) in found(answer)
    assert cx("R2", OURS) not in found(answer)
    assert found(await node.ask(cx("9", CLINIC), domain(OURS))) == [cx("R1", OURS)]
    assert errors(await node.ask(cx("R2", OURS))) == {("QPD^1^3^1^1", "204")}


async def test_question_and_refusal_are_audited(node):
    await node.feed(cx("17", HOSPITAL))
    await node.ask(cx("17", HOSPITAL), domain(OURS))
    await node.ask(cx("18", HOSPITAL), domain(OURS))
    records = node.audit()
    assert sorted(str(r[0]) for r in records) == ["0", "4"]
    [done] = [r for r in records if str(r[0]) == "0"]
    assert done[1].endswith(f"&{OURS}&ISO"), "the patient is filed under the affinity-domain id"
    message = etree.fromstring(done[2])
    assert message.find("EventIdentification/EventID").get("csd-code") == "110112"
    assert message.find("EventIdentification/EventTypeCode").get("csd-code") == "ITI-9"
    queries = [base64.b64decode(q.text).decode() for q in message.iter("ParticipantObjectQuery")]
    assert queries == [f"QPD|IHE PIX Query|T 1|{cx('17', HOSPITAL)}|{domain(OURS)}"]
    assert {d.get("type") for d in message.iter("ParticipantObjectDetail")} == {"MSH-10"}
