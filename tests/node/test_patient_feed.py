"""ITI-8 over a real socket, on a real database, with clients that know nothing of this code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import hl7
import psycopg
import pytest
from hl7apy.core import Message as PeerMessage
from indexing import context, feed
from listening import (
    CLINIC,
    HOSPITAL,
    OTHER,
    OURS,
    PESEL,
    Node,
    acknowledgement,
    adt,
    code,
    connected,
    cx,
    error,
    errors,
    running,
)

from obieg.actors.access_control import AccessControl
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import FeedEvent, PatientFeed
from obieg.domain.problems import Problem, RetryLater
from obieg.domain.requester import Requester
from obieg.edges.mllp import MllpLimits
from obieg.protocol import Context, Credentials
from obieg.wire import hl7v2

pytestmark = pytest.mark.node


@pytest.fixture
async def node(database_dsn: str) -> AsyncIterator[Node]:
    async with running(database_dsn) as node:
        yield node


async def test_a_feed_in_the_domains_own_authority_names_the_patient(node: Node) -> None:
    for event, value in (("A01", "NK1"), ("A04", "NK2"), ("A05", "NK3"), ("A08", "NK4")):
        answer = await node.send(adt(event, cx(value, OURS), control_id=f"X{value}"))
        assert code(answer) == "AA"
        assert str(answer.segment("MSA")[2]) == f"X{value}"
        header = answer.segment("MSH")
        assert [str(header[i]) for i in (3, 4, 5, 6)] == ["OBIEG", "REGION", "APP", "SZPITAL"]
        assert str(header[9]) == f"ACK^{event}^ACK"
        assert await node.id(value, OURS) == value
    assert await node.id("NK9", OURS) is None


async def test_a_feed_in_other_authorities_is_given_an_opaque_id(node: Node) -> None:
    await node.send(adt("A04", cx("44051401458", PESEL), cx("7/26", HOSPITAL)))
    given = await node.id("7/26", HOSPITAL)
    assert given is not None
    assert len(given) == 20
    assert "44051401458" not in given
    assert await node.id("44051401458", PESEL) == await node.id(given, OURS) == given
    # Another facility knows the same person by PESEL, and a third message knows only its number.
    await node.send(adt("A04", cx("44051401458", PESEL), cx("55", CLINIC)))
    assert await node.id("55", CLINIC) == given
    await node.send(adt("A04", cx("8/26", HOSPITAL)))
    assert await node.id("8/26", HOSPITAL) not in (None, given)
    # Two patients in one message are a merge, which this is not.
    answer = await node.send(adt("A08", cx("7/26", HOSPITAL), cx("8/26", HOSPITAL), cx("9/26", HOSPITAL)))
    assert error(answer) == ("AE", "PID-3", "205")
    assert await node.id("9/26", HOSPITAL) is None
    answer = await node.send(adt("A08", cx("7/26", HOSPITAL), cx("OWN", OURS)))
    assert error(answer) == ("AE", "PID-3", "205")


async def test_a_second_pesel_joins_nobody(node: Node) -> None:
    await node.send(adt("A04", cx("44051401458", PESEL), cx("12345", HOSPITAL)))
    await node.send(adt("A04", cx("44051401458", PESEL), cx("55", CLINIC)))
    given = await node.id("44051401458", PESEL)
    assert await node.id("55", CLINIC) == given
    before = node.state()
    answer = await node.send(adt("A04", cx("90090515836", PESEL), cx("12345", HOSPITAL)))
    assert error(answer) == ("AE", "PID-3", "205"), "the clinic says otherwise"
    answer = await node.send(adt("A04", cx("44051401359", PESEL), cx("90090515836", PESEL), cx("7", CLINIC)))
    assert error(answer) == ("AE", "PID-3", "205")
    assert node.state() == before


async def test_a_feed_is_at_most_three_round_trips(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the identifiers name, who else may be meant, and one write; what changes nothing is not written."""
    batches: list[int] = []
    run = node.database.run

    async def counted(*calls: Any) -> Any:
        batches.append(len(calls))
        return await run(*calls)

    monkeypatch.setattr(node.database, "run", counted)
    for message in (
        adt("A04", cx("1", HOSPITAL)),
        adt("A08", cx("1", HOSPITAL), cx("44051401458", PESEL)),
        adt("A04", cx("2", HOSPITAL)),
        adt("A40", cx("1", HOSPITAL), merged=cx("2", HOSPITAL)),
        adt("A40", cx("1", HOSPITAL), merged=cx("2", HOSPITAL)),
    ):
        batches.clear()
        assert code(await node.send(message)) == "AA"
        assert 2 <= len(batches) <= 3


# what another has fed -------------------------------------------------------------------------------------------------

ANNA, JAN = "||WRZESIŃSKA^ANNA||19800512|F|||Długa 5^^Kraków", "||ZAWADZKI^JAN||19551103|M|||Polna 1^^Opole"
ANNAS, JANS = "80051212326", "55110312352"
CARD = "2.16.840.1.113883.3.4424.1.2.616"  # identity cards of one country


class Shown:
    """Whoever the test says, as by a certificate; what a message says of its sender is not looked at."""

    system = ""

    async def authenticate(self, credentials: Credentials) -> Requester:
        return Requester(self.system, credentials.address, "certificate", organisation=self.system)


class Region:
    """A node that enforces access, and systems of which two are of one hospital."""

    def __init__(self, node: Node, shown: Shown) -> None:
        self.node = node
        self._shown = shown

    async def send(self, system: str, event: str, *identifiers: str, **said: str) -> hl7.Message:
        self._shown.system = system
        version = "2.5" if event in ("A28", "A31", "A43", "A47") else "2.3.1"
        return await self.node.send(adt(event, *identifiers, **{"rest": ANNA, "version": version} | said))

    async def take(self, system: str, event: str, *identifiers: str, **said: str) -> None:
        answer = await self.send(system, event, *identifiers, **said)
        assert code(answer) == "AA", answer

    async def refuse(self, system: str, event: str, *identifiers: str, **said: str) -> None:
        """Refused for whose it is, and nothing is changed."""
        before = self.node.state()
        answer = await self.send(system, event, *identifiers, **said)
        where = errors(answer) if event in ("A28", "A31", "A43", "A47") else {error(answer)[1:]}
        assert code(answer) == "AE"
        assert {number for _, number in where} == {"204"}, answer
        [(outcome, message)] = self.node.rows("SELECT outcome, message FROM audit_event ORDER BY audit_id DESC LIMIT 1")
        assert outcome == 8
        assert "RecordNotYours; fed by " in message
        assert self.node.state() == before

    async def ids(self, *identifiers: tuple[str, str]) -> set[str | None]:
        return {await self.node.id(*identifier) for identifier in identifiers}

    def fed_by(self, *identifier: str) -> list[str]:
        value, authority = identifier
        return [
            by
            for by, values, authorities in self.node.rows(
                'SELECT fed_by, "values", authorities FROM patient_record WHERE removed_at IS NULL ORDER BY created_at'
            )
            if (value, authority) in zip(values, authorities, strict=True)
        ]


@pytest.fixture
async def region(database_dsn: str) -> AsyncIterator[Region]:
    shown = Shown()
    access = AccessControl(cast("Any", object()), systems={"his": "1.2#S", "lis": "1.2#S", "poz": "1.2#P"})
    authorities = Authorities(
        [AssigningAuthority(OURS, assigners=("mpi",)), AssigningAuthority(PESEL, single=True),
         AssigningAuthority(HOSPITAL, assigners=("his",)), AssigningAuthority(CLINIC)],
        nodes={CARD.rpartition(".")[0]: False},
    )  # fmt: skip
    async with running(database_dsn, authorities=authorities, authenticator=shown, access=access) as node:
        yield Region(node, shown)


async def test_what_another_system_feeds_is_not_changed(region: Region) -> None:
    await region.take("his", "A04", cx("1", HOSPITAL))
    await region.take("poz", "A04", cx("7", CLINIC), cx(JANS, PESEL), rest=JAN)
    hers, his = await region.node.id("1", HOSPITAL), await region.node.id("7", CLINIC)
    for event, identifiers, merged in (
        ("A08", (cx("1", HOSPITAL), cx(JANS, PESEL)), ""),  # another person's number
        ("A08", (cx("1", HOSPITAL),), ""),
        ("A31", (cx("8", CLINIC), cx("1", HOSPITAL)), ""),
        ("A04", (cx(hers, OURS), cx("8", CLINIC)), ""),  # a stranger, by the region's id
        ("A28", (cx(hers, OURS), cx(JANS, PESEL)), ""),
        ("A40", (cx(his, OURS),), cx(hers, OURS)),
        ("A40", (cx(hers, OURS),), cx(his, OURS)),
        ("A47", (cx("2", HOSPITAL),), cx("1", HOSPITAL)),
        ("A43", (cx(his, OURS), cx("1", HOSPITAL)), f"{cx(hers, OURS)}~{cx('1', HOSPITAL)}"),
        ("A43", (cx(hers, OURS), cx("7", CLINIC)), f"{cx(his, OURS)}~{cx('7', CLINIC)}"),
    ):
        await region.refuse("poz", event, *identifiers, merged=merged, sender="APP|SZPITAL")
    answer = await region.send("poz", "A04", cx("2", HOSPITAL), sender="his|his")
    assert error(answer) == ("AE", "PID-3", "204"), "numbers of the hospital are given out by its system alone"
    # The hospital's systems are one; its number goes on being its own by whichever.
    await region.take("lis", "A08", cx("1", HOSPITAL), cx(ANNAS, PESEL))
    assert region.fed_by("1", HOSPITAL) == ["lis"]
    await region.take("his", "A08", cx("1", HOSPITAL), rest="||WRZESIŃSKA-LIS^ANNA||19800512|F")
    await region.take("lis", "A47", cx("2", HOSPITAL), merged=cx("1", HOSPITAL))
    assert await region.node.id(ANNAS, PESEL) == await region.node.id("2", HOSPITAL) == hers


async def test_a_second_feeder_joins_by_what_is_nobodys_own(region: Region) -> None:
    await region.take("his", "A04", cx("1", HOSPITAL), cx(ANNAS, PESEL), cx("ABA300000", CARD))
    one = await region.node.id("1", HOSPITAL)
    await region.take("poz", "A04", cx("7", CLINIC), cx(ANNAS, PESEL))
    await region.take("other", "A04", cx("7", OTHER), cx("ABA300000", CARD))
    assert await region.ids(("7", CLINIC), ("7", OTHER)) == {one}
    assert region.fed_by(ANNAS, PESEL) == ["his", "poz"]
    assert region.fed_by("ABA300000", CARD) == ["his", "other"]
    # Who has a record of the patient may name them by the region's id, and correct the own record.
    await region.take("poz", "A08", cx("7", CLINIC), cx(one, OURS), rest="||WRZESIŃSKA^ANNA^MARIA||19800512|F")
    # A card alone joins nobody of whom all else says that it is another one.
    await region.take("poz", "A04", cx("8", CLINIC), cx("ABA300000", CARD), rest=JAN)
    assert await region.node.id("8", CLINIC) not in (None, one)
    assert region.fed_by("1", HOSPITAL) == ["his"]


async def test_whose_a_record_is_takes_no_round_trip(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    run = region.node.database.run

    async def counted(*calls: Any) -> Any:
        batches.append(len(calls))
        return await run(*calls)

    monkeypatch.setattr(region.node.database, "run", counted)
    for event, number, merged in (("A04", "1", ""), ("A08", "1", ""), ("A04", "2", ""), ("A40", "1", "2")):
        batches.clear()
        await region.take("his", event, cx(number, HOSPITAL), merged=merged and cx(merged, HOSPITAL))
        assert 2 <= len(batches) <= 3


async def test_a_merge_takes_hold_of_own_records(region: Region) -> None:
    await region.take("his", "A04", cx("1", HOSPITAL), cx(ANNAS, PESEL))
    await region.take("his", "A04", cx("2", HOSPITAL))
    await region.take("his", "A04", cx("3", HOSPITAL), cx(JANS, PESEL), rest=JAN)
    await region.take("poz", "A04", cx("7", CLINIC), cx(ANNAS, PESEL))
    one, three = await region.node.id("1", HOSPITAL), await region.node.id("3", HOSPITAL)
    # The clinic knows the patient, too: the hospital's second chart is hers all the same, by the number of the hospital.
    await region.take("his", "A40", cx("1", HOSPITAL), cx(ANNAS, PESEL), merged=cx("2", HOSPITAL))
    await region.take("his", "A40", cx("1", HOSPITAL), merged=cx("2", HOSPITAL))  # again
    # Two valid PESELs are no longer the hospital's alone to join, where another has fed one of them; nor is her number.
    await region.refuse("his", "A40", cx("3", HOSPITAL), merged=cx("1", HOSPITAL), rest=JAN)
    await region.refuse("his", "A40", cx(three, OURS), merged=cx(one, OURS), rest=JAN)
    await region.refuse("his", "A40", cx(JANS, PESEL), merged=cx(ANNAS, PESEL), rest=JAN)
    # Who gives out the region's ids says whose they are.
    await region.take("mpi", "A04", cx("X9", OURS), rest="||LIS^EWA||19900101|F")
    await region.refuse("poz", "A40", cx(one, OURS), merged=cx("X9", OURS))
    await region.take("mpi", "A40", cx("X9", OURS), merged=cx(one, OURS))
    assert await region.ids(("1", HOSPITAL), ("7", CLINIC)) == {"X9"}
    # A number goes to another patient of the same feeder.
    await region.take("his", "A04", cx("4", HOSPITAL), rest="||SOWA^ADAM||19700101|M")
    four = await region.node.id("4", HOSPITAL)
    await region.take("his", "A43", cx(three, OURS), cx("4", HOSPITAL), merged=f"{cx(four, OURS)}~{cx('4', HOSPITAL)}")
    assert await region.node.id("4", HOSPITAL) == three
    assert region.fed_by("4", HOSPITAL) == ["his"]


async def test_nobodys_records_are_adopted_and_withdrawn_ones_are_nobodys_way_in(region: Region) -> None:
    await region.take("his", "A04", cx("1", HOSPITAL))
    one = await region.node.id("1", HOSPITAL)
    with psycopg.connect(region.node.dsn) as connection:
        connection.execute("UPDATE patient_record SET fed_by = ''")
    await region.take("poz", "A08", cx("1", HOSPITAL))  # as it was imported: whoever feeds it first
    assert region.fed_by("1", HOSPITAL) == ["poz"]
    await region.refuse("his", "A08", cx("1", HOSPITAL))
    removal = feed(PatientId("1", HOSPITAL), event=FeedEvent.REMOVE)
    with pytest.raises(Problem, match="RecordNotYours"):
        await region.node.index.feed(removal, context(system="his", proof="oauth"))
    await region.node.index.feed(removal, context(system="poz", proof="oauth"))
    assert region.fed_by("1", HOSPITAL) == []
    # What was registered for the patient is still there: nobody comes to it by the id alone.
    await region.refuse("his", "A08", cx(one, OURS), cx("2", HOSPITAL))
    await region.take("his", "A04", cx("2", HOSPITAL))
    two = await region.node.id("2", HOSPITAL)
    await region.refuse("his", "A40", cx(two, OURS), merged=cx(one, OURS))
    await region.refuse("his", "A43", cx(one, OURS), cx("2", HOSPITAL), merged=f"{cx(two, OURS)}~{cx('2', HOSPITAL)}")


async def test_updates_change_what_they_state(node: Node) -> None:
    async def known() -> tuple[str, str, str, str, str]:
        query = (
            "MSH|^~\\&|APP|SZPITAL|OBIEG|REGION|20260301||QBP^Q22^QBP_Q21|Q1|P|2.5\r"
            f"QPD|IHE PDQ Query|T|@PID.3.1^1~@PID.3.4.2^{HOSPITAL}~@PID.3.4.3^ISO\rRCP|I\r"
        )
        m = hl7v2.parse(str(await node.send(query)).encode())
        return (m.get("PID-5-1"), m.get("PID-5-2"), m.get("PID-7"), m.get("PID-8"), m.get("PID-11-3"))

    await node.send(adt("A04", cx("1", HOSPITAL), rest="||ŻÓŁW^ŁUCJA||19800101|F|||Długa 1^^Kraków^^31-147^PL"))
    assert await known() == ("ŻÓŁW", "ŁUCJA", "19800101", "F", "Kraków")
    await node.send(adt("A08", cx("1", HOSPITAL), rest='||NOWAK^ŁUCJA||""'))
    assert await known() == ("NOWAK", "ŁUCJA", "", "F", "Kraków")
    await node.send(adt("A01", cx("1", HOSPITAL), rest="||||19810202"))
    assert await known() == ("NOWAK", "ŁUCJA", "19810202", "F", "Kraków")
    # A repeated message changes nothing, whatever its control id.
    before = node.state()
    assert code(await node.send(adt("A01", cx("1", HOSPITAL), rest="||||19810202"))) == "AA"
    assert code(await node.send(adt("A08", cx("1", HOSPITAL), rest="||NOWAK^ŁUCJA", control_id="M2"))) == "AA"
    assert node.state() == before


async def test_merge(node: Node) -> None:
    for value in "ABCD":
        await node.send(adt("A01", cx(value, OURS)))
    merge = adt("A40", cx("B", OURS), merged=cx("A", OURS))
    assert code(await node.send(merge)) == "AA"
    assert await node.id("A", OURS) is None
    assert await node.id("B", OURS) == "B"
    # The source missed our answer and repeats itself.
    assert code(await node.send(merge)) == "AA"
    # A chain gets a new end.
    assert code(await node.send(adt("A40", cx("C", OURS), merged=cx("B", OURS)))) == "AA"
    links = """
        SELECT p.affinity_domain_id, m.affinity_domain_id, s.affinity_domain_id FROM patient_link k
        JOIN patient p USING (patient_key) JOIN patient m ON m.patient_key = k.merged_into
        JOIN patient s ON s.patient_key = k.survivor_key ORDER BY 1"""
    assert node.rows(links) == [("A", "B", "C"), ("B", "C", "C")]
    refusals = [
        (adt("A08", cx("A", OURS)), "PID-3", "204"),  # registers nothing
        (adt("A40", cx("A", OURS), merged=cx("C", OURS)), "PID-3", "204"),  # a loop
        (adt("A40", cx("D", OURS), merged=cx("A", OURS)), "MRG-1", "204"),  # already merged, elsewhere
        (adt("A40", cx("D", OURS), merged=cx("D", OURS)), "MRG-1", "205"),  # itself
        (adt("A40", cx("D", OURS), merged=cx("X", OURS)), "MRG-1", "204"),  # unknown
        (adt("A40", cx("X", OURS), merged=cx("D", OURS)), "PID-3", "204"),
        (adt("A40", cx("D", OURS), merged=cx("D", CLINIC)), "MRG-1", "204"),  # another domain
    ]
    before = node.rows("SELECT * FROM patient ORDER BY 1"), node.rows("SELECT * FROM patient_locator ORDER BY 1, 2")
    for message, location, hl7_code in refusals:
        assert error(await node.send(message)) == ("AE", location, hl7_code), message
    assert node.rows(links) == [("A", "B", "C"), ("B", "C", "C")]
    after = node.rows("SELECT * FROM patient ORDER BY 1"), node.rows("SELECT * FROM patient_locator ORDER BY 1, 2")
    assert before == after
    assert await node.id("X", OURS) is None


async def test_a_merge_of_local_numbers_leaves_the_other_numbers_alive(node: Node) -> None:
    await node.send(adt("A04", cx("1", HOSPITAL), cx("44051401458", PESEL)))
    await node.send(adt("A04", cx("2", HOSPITAL), cx("55", CLINIC)))
    survivor, subsumed = await node.id("1", HOSPITAL), await node.id("2", HOSPITAL)
    assert len({survivor, subsumed, None}) == 3
    await node.send(adt("A40", cx("1", HOSPITAL), merged=cx("2", HOSPITAL)))
    assert await node.id("2", HOSPITAL) is None
    assert await node.id(subsumed, OURS) is None
    assert await node.id("55", CLINIC) == await node.id("1", HOSPITAL) == survivor
    # The clinic knows nothing of it and goes on with its number.
    assert code(await node.send(adt("A08", cx("55", CLINIC), rest="||NOWY^JAN"))) == "AA"
    assert await node.id("55", CLINIC) == survivor
    # Two numbers of one patient: nothing to link, the old one is retired.
    await node.send(adt("A08", cx("1", HOSPITAL), cx("3", HOSPITAL)))
    assert await node.id("3", HOSPITAL) == survivor
    assert code(await node.send(adt("A40", cx("1", HOSPITAL), merged=cx("3", HOSPITAL)))) == "AA"
    assert await node.id("3", HOSPITAL) is None
    assert len(node.rows("SELECT 1 FROM patient_link")) == 1


async def test_feeds_of_one_new_patient_at_once_make_one_patient(node: Node) -> None:
    pesel, number = cx("44051401458", PESEL), cx("77", CLINIC)
    messages = [adt("A04", *((pesel, number) if i % 2 else (number, pesel))) for i in range(20)]
    answers = await asyncio.gather(*map(node.send, messages))
    assert {code(answer) for answer in answers} == {"AA"}
    assert node.rows("SELECT count(*) FROM patient") == [(1,)]
    assert node.rows("SELECT count(*), count(DISTINCT patient_key) FROM patient_locator") == [(3, 1)]
    assert node.rows("SELECT count(*) FROM audit_event WHERE outcome = '0'") == [(20,)]


async def test_merges_and_feeds_at_once_keep_the_links_whole(node: Node) -> None:
    count = 12
    await asyncio.gather(*(node.send(adt("A01", cx(f"P{i}", OURS))) for i in range(count)))
    merges = [adt("A40", cx(f"P{i + 1}", OURS), merged=cx(f"P{i}", OURS)) for i in range(count - 1)]
    feeds = [adt("A08", cx(f"P{i}", OURS)) for i in range(count)]
    answers = await asyncio.gather(*map(node.send, [*merges, *feeds]))
    assert {code(a) for a in answers} <= {"AA", "AE"}
    # Whatever came first: every link ends at a patient who is not merged, and it is the end of its chain.
    assert node.rows("""
        SELECT count(*) FROM patient_link k JOIN patient_link e ON e.patient_key = k.survivor_key""") == [(0,)]
    links = dict(node.rows("SELECT patient_key, merged_into FROM patient_link"))
    for key, survivor in node.rows("SELECT patient_key, survivor_key FROM patient_link"):
        end = key
        while end in links:
            end = links[end]
        assert end == survivor
    merged = [code(a) for a in answers[: count - 1]]
    assert len(links) == merged.count("AA")


async def test_every_feed_is_audited(node: Node) -> None:
    await node.send(adt("A04", cx("44051401458", PESEL), control_id="GOOD"))
    await node.send(adt("A04", "77^^^NIKT", control_id="BAD"))
    await node.send(adt("A99", cx("1", OURS)))
    await node.send(b"not a message")
    rows = node.rows("SELECT transaction, outcome::text, patient_id, message FROM audit_event ORDER BY audit_id")
    given = await node.id("44051401458", PESEL)
    assert [row[:3] for row in rows] == [
        ("ITI-8", "0", f"{given}^^^&{OURS}&ISO"),
        ("ITI-8", "4", ""),
        ("", "4", ""),
        ("", "4", ""),
    ]
    assert "SZPITAL|APP" in rows[0][3]
    assert "UnknownKeyIdentifier" in rows[1][3]


async def test_command_line_client_and_message_of_other_programs(node: Node, tmp_path: Path) -> None:
    m = PeerMessage("ADT_A01", version="2.5")
    m.msh.msh_9 = "ADT^A01^ADT_A01"
    m.msh.msh_10 = "PEER-1"
    m.msh.msh_18 = "UNICODE UTF-8"
    m.pid.pid_3 = cx("1203/19", HOSPITAL)
    m.pid.pid_5 = "Gżegżółka^Łucja"
    m.pv1.pv1_2 = "I"
    file = tmp_path / "feed.hl7"
    file.write_bytes(m.to_er7().encode())
    client = Path(sys.executable).with_name("mllp_send")
    process = await asyncio.create_subprocess_exec(
        client, "--loose", "-p", str(node.port), "-f", str(file), "127.0.0.1", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert b"MSA|AA|PEER-1" in out
    [(kept,)] = node.rows("SELECT convert_from(demographics, 'UTF8') FROM patient_record")
    assert "Gżegżółka" in kept


async def test_a_connection_survives_errors(node: Node) -> None:
    async with connected(node) as (reader, writer):

        async def ask(data: bytes) -> hl7.Message:
            writer.write(data)
            return acknowledgement(await reader.readuntil(b"\x1c\r"))

        def framed(text: str, codec: str = "utf-8") -> bytes:
            return b"\x0b" + text.encode(codec) + b"\x1c\r"

        good = adt("A04", cx("1", OURS))
        assert code(await ask(framed(good))) == "AA"
        assert code(await ask(b"junk" + framed(good))) == "AA"
        assert code(await ask(framed("hello"))) == "AR"
        assert error(await ask(framed(good.replace("ADT^A04", "ORU^R01"))))[::2] == ("AR", "200")
        assert error(await ask(framed(good.replace("^A04", "^A99"))))[::2] == ("AR", "201")
        answer = await ask(framed(good.replace("2.3.1", "3.0")))
        assert (code(answer), str(answer.segment("ERR")[3][0][0])) == ("AR", "203")
        assert error(await ask(framed(good.replace("|M1|", "||")))) == ("AE", "MSH-10", "101")
        assert error(await ask(framed(good.replace("KOWALSKI", "ŻÓŁW"), "iso8859-2"))) == ("AE", "MSH-18", "102")
        assert error(await ask(framed(good + good))) == ("AE", "MSH-1", "100")
        assert code(await ask(b"\x0b" + good[:80].encode() + framed(good))) == "AE"
        assert error(await ask(framed(adt("A04", *["1"] * 201)))) == ("AE", "PID-3", "102")
        writer.write(framed(good) + framed(good))
        assert code(acknowledgement(await reader.readuntil(b"\x1c\r"))) == "AA"
        assert code(acknowledgement(await reader.readuntil(b"\x1c\r"))) == "AA"
        assert node.rows("SELECT count(*) FROM patient") == [(1,)]


@dataclass
class Failing:
    error: Exception

    async def feed(self, feed: PatientFeed, context: Context) -> PatientId:
        raise self.error


@pytest.mark.parametrize(
    ("raised", "outcome", "hl7_code"),
    [
        (RetryLater("away"), "8", "207"),
        (ZeroDivisionError("secret"), "8", "207"),
        (Problem.of("NotPermitted", "not here"), "8", "207"),
    ],
)
async def test_our_own_failures_are_answered(node: Node, raised: Exception, outcome: str, hl7_code: str) -> None:
    index, node.actors.patient_index = node.actors.patient_index, Failing(raised)
    answer = await node.send(adt("A04", cx("1", OURS)))
    assert error(answer)[::2] == ("AE", hl7_code)
    assert "secret" not in str(answer)
    assert node.rows("SELECT outcome::text FROM audit_event") == [(outcome,)]
    node.actors.patient_index = index
    assert code(await node.send(adt("A04", cx("1", OURS)))) == "AA"


async def test_a_frame_that_is_too_long_is_refused_and_the_connection_closed(database_dsn: str) -> None:
    async with running(database_dsn, MllpLimits(frame_bytes_max=1000)) as node, connected(node) as (reader, writer):
        writer.write(b"\x0b" + adt("A04", cx("1", OURS)).encode() + b"ZZZ|" + b"x" * 2000)
        data = await reader.read()
        assert error(acknowledgement(data))[::2] == ("AR", "207")
        assert str(acknowledgement(data).segment("MSA")[2]) == "M1"


async def test_silence_and_half_a_frame_are_closed(database_dsn: str) -> None:
    async with running(database_dsn, MllpLimits(idle_time_s=0.3, frame_time_s=0.3)) as node:
        for data in (b"", b"\x0bMSH|^~\\&|half"):
            async with connected(node) as (reader, writer):
                writer.write(data)
                assert await asyncio.wait_for(reader.read(), 5) == b""
        # A drip of bytes does not keep half a frame alive.
        async with connected(node) as (reader, writer):

            async def drip() -> None:
                while True:
                    writer.write(b"\x0b")
                    await asyncio.sleep(0.1)

            dripping = asyncio.create_task(drip())
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            dripping.cancel()


async def test_connections_are_limited(database_dsn: str) -> None:
    async with running(database_dsn, MllpLimits(connections_max=1)) as node:
        async with connected(node):
            await asyncio.sleep(0.1)
            async with connected(node) as (reader, _):
                assert await asyncio.wait_for(reader.read(), 5) == b""
        await asyncio.sleep(0.1)
        assert code(await node.send(adt("A04", cx("1", OURS)))) == "AA"


async def test_answers_are_hl7_for_our_own_parser_too(node: Node) -> None:
    answer = await node.send(adt("A04", "77^^^NIKT").replace("|2.3.1", "|2.5"))
    m = hl7v2.parse(str(answer).encode())
    assert (m.get("ERR-2-1"), m.get("ERR-2-3"), m.get("ERR-2-4"), m.get("ERR-2-6")) == ("PID", "3", "1", "1")
    assert (m.get("ERR-3"), m.get("ERR-4")) == ("204", "E")
    assert "NIKT" in m.get("ERR-8")


# other events ---------------------------------------------------------------------------------------------------------


async def test_a_person_is_added_updated_merged_and_renumbered(node: Node) -> None:
    """ITI-30, in HL7 2.5, on the same port."""

    def pam(event: str, *identifiers: str, merged: str = "", rest: str = "||KOWALSKI^JAN||19800101|M") -> str:
        return adt(event, *identifiers, merged=merged, rest=rest, version="2.5")

    answer = await node.send(pam("A28", cx("1", HOSPITAL)))
    assert code(answer) == "AA"
    assert str(answer.segment("MSH")[9]) == "ACK^A28^ACK"
    first = await node.id("1", HOSPITAL)
    assert code(await node.send(pam("A31", cx("1", HOSPITAL), cx("44051401458", PESEL)))) == "AA"
    assert await node.id("44051401458", PESEL) == first
    assert code(await node.send(pam("A28", cx("2", HOSPITAL), rest="||NOWAK^ANNA||19700101|F"))) == "AA"
    assert code(await node.send(pam("A40", cx("1", HOSPITAL), merged=cx("2", HOSPITAL)))) == "AA"
    assert await node.id("2", HOSPITAL) is None
    answer = await node.send(pam("A47", cx("1/2026", HOSPITAL), merged=cx("1", HOSPITAL)))
    assert code(answer) == "AA", str(answer)
    assert await node.id("1/2026", HOSPITAL) == first
    assert await node.id("1", HOSPITAL) is None
    done = node.rows("SELECT transaction FROM audit_event WHERE outcome = '0' ORDER BY audit_id")
    assert done == [("ITI-30",)] * 5


async def test_a_merge_belongs_to_the_transaction_of_its_version(node: Node) -> None:
    for value in "ABC":
        await node.send(adt("A01", cx(value, OURS)))
    assert code(await node.send(adt("A40", cx("A", OURS), merged=cx("B", OURS)))) == "AA"
    assert code(await node.send(adt("A40", cx("A", OURS), merged=cx("C", OURS), version="2.5"))) == "AA"
    rows = node.rows("SELECT transaction FROM audit_event ORDER BY audit_id")
    assert [row[0] for row in rows] == ["ITI-8"] * 4 + ["ITI-30"]


async def test_identifiers_go_to_another_affinity_domain_id(node: Node) -> None:
    """ITI-64, as a PIX manager elsewhere tells it."""
    await node.send(adt("A01", cx("X1", OURS), cx("7", HOSPITAL)))
    await node.send(adt("A01", cx("X2", OURS)))
    move = adt("A43", cx("X2", OURS), cx("7", HOSPITAL), merged=f"{cx('X1', OURS)}~{cx('7', HOSPITAL)}", version="2.5")
    answer = await node.send(move)
    assert code(answer) == "AA", str(answer)
    assert await node.id("7", HOSPITAL) == "X2"
    assert node.rows("SELECT transaction FROM audit_event ORDER BY audit_id DESC LIMIT 1") == [("ITI-64",)]


async def test_only_its_assigners_give_out_new_numbers_of_an_authority(node: Node) -> None:
    before = node.state()
    answer = await node.send(adt("A04", cx("1", OTHER), sender="HIS|SZPITAL"))
    assert error(answer) == ("AE", "PID-3", "204")
    assert node.state() == before
    assert code(await node.send(adt("A04", cx("1", OTHER), sender="POZ|PORADNIA"))) == "AA"
    assert code(await node.send(adt("A04", cx("2", OTHER), sender="HIS|DENTYSTA"))) == "AA"
    # A number that is known may be named by anybody.
    assert code(await node.send(adt("A04", cx("1", OTHER), cx("7", HOSPITAL), sender="HIS|SZPITAL"))) == "AA"
    assert await node.id("7", HOSPITAL) == await node.id("1", OTHER)
    answer = await node.send(adt("A04", "3^^^PORADNIA", sender="HIS|SZPITAL"))
    assert error(answer) == ("AE", "PID-3", "204")
    [(outcome,)] = node.rows("SELECT outcome::text FROM audit_event ORDER BY audit_id DESC LIMIT 1")
    assert outcome == "8", "somebody gives out numbers that are not theirs"
