"""ITI-9 over a real socket, on a real database, with a client that knows nothing of this code."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator

import hl7
import pytest
from listening import CLINIC, HOSPITAL, OURS, PESEL, Node, adt, code, cx, errors, running, status
from lxml import etree

pytestmark = pytest.mark.node


async def feed(node: Node, *identifiers: str, event: str = "A04", merged: str = "") -> None:
    answer = await node.send(adt(event, *identifiers, merged=merged))
    assert code(answer) == "AA", str(answer)


async def ask(node: Node, identifier: str, targets: str = "") -> hl7.Message:
    return await node.send(query(identifier, targets))


def domain(*authorities: str) -> str:
    return "~".join(f"^^^&{a}&ISO" for a in authorities)


def query(identifier: str, targets: str = "", *, tag: str = "T 1") -> str:
    return (
        "MSH|^~\\&|HIS|SZPITAL|OBIEG|REGION|20260301||QBP^Q23^QBP_Q21|Q1|P|2.5\r"
        f"QPD|IHE PIX Query|{tag}|{identifier}|{targets}\rRCP|I\r"
    )


def found(answer: hl7.Message) -> list[str]:
    return str(answer.segment("PID")[3]).split("~")


@pytest.fixture
async def node(database_dsn: str) -> AsyncIterator[Node]:
    async with running(database_dsn) as node:
        yield node


async def test_pesel_leads_to_the_affinity_domain_id(node):
    await feed(node, cx("17", HOSPITAL), cx("44051401359", PESEL))
    answer = await ask(node, cx("44051401359", PESEL), domain(OURS))
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


async def test_without_domains_all_are_told_the_regions_own_last(node):
    await feed(node, cx("17", HOSPITAL), cx("44051401359", PESEL))
    await feed(node, cx("A/4", CLINIC), cx("44051401359", PESEL))
    answer = await ask(node, cx("17", HOSPITAL))
    authorities = [i.split("&")[1] for i in found(answer)]
    assert authorities == [HOSPITAL, CLINIC, PESEL, OURS], "sources first, national numbers next"
    assert found(answer)[0] == f"17^^^SZPITAL&{HOSPITAL}&ISO", "the namespace is told where it is known"


async def test_several_domains(node):
    await feed(node, cx("17", HOSPITAL), cx("44051401359", PESEL))
    await feed(node, cx("A/4", CLINIC), cx("44051401359", PESEL))
    answer = await ask(node, cx("17", HOSPITAL), domain(CLINIC, PESEL))
    assert found(answer) == [f"A/4^^^PRZYCHODNIA&{CLINIC}&ISO", cx("44051401359", PESEL)]


async def test_a_domain_in_which_the_patient_has_no_identifier_is_not_found(node):
    await feed(node, cx("17", HOSPITAL))
    await feed(node, cx("9", CLINIC))
    answer = await ask(node, cx("17", HOSPITAL), domain(CLINIC))
    assert status(answer) == ("AA", "NF")
    assert "PID|" not in str(answer)


async def test_an_unknown_identifier_is_an_error_at_qpd_3(node):
    await feed(node, cx("17", HOSPITAL))
    answer = await ask(node, cx("18", HOSPITAL), domain(OURS))
    assert status(answer) == ("AE", "AE")
    assert errors(answer) == {("QPD^1^3^1^1", "204")}
    assert str(answer.segment("MSH")[9]) == "RSP^K23^RSP_K23"
    assert str(answer.segment("QPD")).startswith("QPD|IHE PIX Query|T 1|18^^^")


@pytest.mark.parametrize("identifier", [cx("1", "1.9.9"), "1^^^&SZPITAL&ISO", "1", f"1^^^PRZYCHODNIA&{HOSPITAL}&ISO"])
async def test_an_unknown_domain_of_the_identifier_is_an_error_at_its_authority(node, identifier):
    answer = await ask(node, identifier, domain(OURS))
    assert status(answer) == ("AE", "AE")
    assert errors(answer) == {("QPD^1^3^1^4", "204")}


async def test_domains_may_be_named_by_their_namespace(node):
    await feed(node, "17^^^SZPITAL", cx("44051401359", PESEL))
    answer = await ask(node, "17^^^SZPITAL", "^^^PRZYCHODNIA~^^^SZPITAL")
    assert status(answer) == ("AA", "OK")
    assert found(answer) == [f"17^^^SZPITAL&{HOSPITAL}&ISO"]
    assert status(await ask(node, "17^^^SZPITAL", "^^^PRZYCHODNIA")) == ("AA", "NF"), (
        "known, though nobody is known in it"
    )


async def test_who_asks_by_namespace_is_refused_as_openhie_wants_it(node):
    """See mapping.pix.write_refusal; what IHE wants stands beside it, but for MSA-1 of an unknown number."""
    await feed(node, "17^^^SZPITAL")
    answer = await ask(node, "18^^^SZPITAL")
    assert status(answer) == ("AA", "AE")
    assert errors(answer) == {("QPD^1^3^1^1", "204")}
    answer = await ask(node, "17^^^NIKT")
    assert status(answer) == ("AE", "AE")
    assert [str(e[2]) for e in answer.segments("ERR")] == ["QPD^1^3^4^1", "QPD^1^3^1^4"]


async def test_every_unknown_target_domain_is_named(node):
    await feed(node, cx("17", HOSPITAL))
    answer = await ask(node, cx("17", HOSPITAL), domain("1.9.8", OURS, "1.9.9"))
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
    await feed(node, cx("R1", OURS), cx("17", HOSPITAL))
    await feed(node, cx("R2", OURS), cx("9", CLINIC))
    await feed(node, cx("R1", OURS), event="A40", merged=cx("R2", OURS))
    answer = await ask(node, cx("R1", OURS))
    assert found(answer)[-1] == cx("R1", OURS)
    assert f"9^^^PRZYCHODNIA&{CLINIC}&ISO" in found(answer)
    assert cx("R2", OURS) not in found(answer)
    assert found(await ask(node, cx("9", CLINIC), domain(OURS))) == [cx("R1", OURS)]
    assert errors(await ask(node, cx("R2", OURS))) == {("QPD^1^3^1^1", "204")}


async def test_question_and_refusal_are_audited(node):
    await feed(node, cx("17", HOSPITAL))
    await ask(node, cx("17", HOSPITAL), domain(OURS))
    await ask(node, cx("18", HOSPITAL), domain(OURS))
    records = node.rows(
        "SELECT outcome, patient_id, message::text FROM audit_event WHERE transaction = 'ITI-9' ORDER BY 3"
    )
    assert sorted(str(r[0]) for r in records) == ["0", "4"]
    [done] = [r for r in records if str(r[0]) == "0"]
    assert done[1].endswith(f"&{OURS}&ISO"), "the patient is filed under the affinity-domain id"
    message = etree.fromstring(done[2])
    assert message.find("EventIdentification/EventID").get("csd-code") == "110112"
    assert message.find("EventIdentification/EventTypeCode").get("csd-code") == "ITI-9"
    queries = [base64.b64decode(q.text).decode() for q in message.iter("ParticipantObjectQuery")]
    assert queries == [f"QPD|IHE PIX Query|T 1|{cx('17', HOSPITAL)}|{domain(OURS)}"]
    assert {d.get("type") for d in message.iter("ParticipantObjectDetail")} == {"MSH-10"}
