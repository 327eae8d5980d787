"""The same transaction in HL7 v2 and v3, as IPF has written both down: one meaning, whichever face it comes through.

Where the two differ the difference is of the messages and named here: version 2 has an account number (PID-18) and a
social security number (PID-19) of their own, which the v3 message states as further identifiers; it says the use
of an address that the v3 message leaves out; it tears a birth name from its given name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from lxml import etree

import hl7v3_messages as v3
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import DemographicsQuery, FeedEvent, PatientFeed
from obieg.domain.persons import Demographics, PersonName
from obieg.domain.problems import Problem
from obieg.mapping import adt, pdq, pdqv3, pixv3
from obieg.mapping.hl7v3_person import Reading, write_person
from obieg.protocol import SoapRequest
from obieg.wire import hl7v2
from obieg.wire.xml import parse_message

NAMED = Authorities([AssigningAuthority("1.2.3.999", "domain2"), AssigningAuthority("1.2.3.4.666", "domain1")])
SAMPLES = "data/ihe/ipf/commons/ihe/hl7v3/src/test/resources"
FEEDS = [
    ("pixfeed", "PIX_FEED_REG_Maximal_Request", "PIX_FEED_REG_Maximal_Request"),
    ("pixfeed", "PIX_FEED_REV_Maximal_Request", "PIX_FEED_REV_Maximal_Request"),
    ("pixfeed", "PIX_FEED_MERGE_Maximal_Request", "PIX_FEED_MERGE_Maximal_Request"),
    *[("pixsource", name, f"{name}_Response") for name in ("A01", "A01_with_BR", "A04", "A08", "A40")],
]
ACCOUNT, SOCIAL_SECURITY = "1.2.3", "2.16.840.1.113883.4.1"  # what IPF maps PID-18 and PID-19 to
MEANS_THE_SAME = {
    FeedEvent.ADMIT: FeedEvent.ADD_PERSON,
    FeedEvent.REGISTER: FeedEvent.ADD_PERSON,
    FeedEvent.UPDATE: FeedEvent.UPDATE_PERSON,
}


def of_v2(path: Path) -> hl7v2.Message:
    lines = path.read_bytes().replace(b"\n", b"\r").split(b"\r")
    return hl7v2.parse(b"\r".join(filter(None, lines)))


def of_v3(path: Path) -> SoapRequest:
    return SoapRequest(parse_message(path.read_bytes()), authorities=NAMED)


def alike(person: Demographics, birth_names: tuple[PersonName, ...]) -> dict[str, Any]:
    """What both messages can say of a person."""
    values = msgspec.structs.asdict(person)
    legal = [n for n in person.names if n.use == "L" and n.family]
    births = {n.family for n in (*person.names, *birth_names) if n.use == "B"}
    given = {g for n in person.names for g in n.given}
    addresses = [msgspec.structs.replace(a, use="") for a in person.addresses]
    telecoms = sorted((t.number, t.equipment or "PH") for t in person.telecoms)
    for name in ("names", "addresses", "telecoms", "account", "mother_name"):
        del values[name]
    if values["marital_status"] == "U":  # unknown: not said in the v3 message
        values["marital_status"] = ""
    return values | {"legal": legal, "births": births, "given": given, "addresses": addresses, "telecoms": telecoms}


@pytest.mark.parametrize(("folder", "second", "third"), FEEDS)
def test_a_feed_means_the_same(shared: Path, folder: str, second: str, third: str) -> None:
    translation = shared / SAMPLES / "translation" / folder
    left: PatientFeed = adt.patient_feed(of_v2(translation / "v2" / f"{second}.hl7"), NAMED)
    right: PatientFeed = pixv3.read_feed(of_v3(translation / "v3" / f"{third}.xml")).value
    assert right.event is MEANS_THE_SAME.get(left.event, left.event)
    assert left.merged == right.merged
    assert left.identifiers == tuple(i for i in right.identifiers if i.authority not in (ACCOUNT, SOCIAL_SECURITY))
    if right.event is not FeedEvent.MERGE:
        assert alike(left.demographics, ()) == alike(right.demographics, ())


@pytest.mark.parametrize(("second", "third"), [("ID", "ID_Query"), ("Maximal", "Maximal_Query"), ("Maximal", "")])
def test_a_query_means_the_same(shared: Path, second: str, third: str) -> None:
    translation = shared / SAMPLES / "translation" / "pdq"
    left = pdq.read_question(of_v2(translation / "v2" / f"PDQ_{second}_Query.hl7"), NAMED)
    right = pdqv3.read_question(of_v3(translation / "v3" / f"PDQ{third and '_'}{third}.xml")).value
    assert isinstance(left, DemographicsQuery)
    accounts = tuple(PatientId(left.account, ACCOUNT) for _ in filter(None, [left.account]))
    # Version 2 knows neither an exact match nor a degree of match, and these v2 messages no number of records.
    expected = msgspec.structs.replace(
        left,
        identifiers=(*left.identifiers, *accounts),
        account="",
        exact=bool(left.family),
        minimum_score=75,
        count=2,
        cursor=right.cursor,
        text=right.text,
        authority_locations=right.authority_locations,
    )
    assert right == expected


def test_other_queries(shared: Path) -> None:
    queries = shared / SAMPLES / "translation"
    for name in ("PDQ_connectathon2011_namespaces_issue", "PDQ_unused_global_namespace_issue"):
        query = pdqv3.read_question(of_v3(queries / "pdq" / "v3" / f"{name}.xml")).value
        assert (query.family, query.given, query.count) == ("MOORE", "CHIP", 30)
    query = pdqv3.read_question(of_v3(queries / "pdq" / "v3" / "PDQ_with_PID4.xml")).value
    assert (query.given, query.born_from, query.born_until) == ("", "19800131", "19800131")
    found = {path.stem: pixv3.read_query(of_v3(path)).value for path in (queries / "pixquery" / "v3").glob("Nist*.xml")}
    assert {q.identifier.authority for q in found.values()} == {
        "1.3.6.1.4.1.21367.2005.1.1",
        "1.3.6.1.4.1.21367.2005.3.3333",
    }
    assert sorted(len(q.authorities) for q in found.values()) == [0, 0, 1, 1]


def test_the_answers_of_others_hold_persons_that_we_read_and_write_again(shared: Path) -> None:
    found = 0
    for path in sorted((shared / SAMPLES / "translation" / "pdq" / "v3").glob("*_Response.xml")):
        for person in of_v3(path).body.iter(f"{v3.N}patientPerson"):
            reading = Reading(NAMED)
            said = Demographics(**reading.demographics(person))
            assert reading.findings == []
            assert said.names[0].family
            again = write_person(said, authorities=NAMED).replace(
                "<patientPerson", f'<patientPerson xmlns="{v3.NS}"', 1
            )
            assert Demographics(**Reading(NAMED).demographics(etree.fromstring(again))) == said
            found += 1
    assert found > 10


def test_requests_that_are_refused(shared: Path) -> None:
    samples = shared / SAMPLES
    with pytest.raises(Problem, match="one message for each patient"):
        pixv3.read_feed(of_v3(samples / "validation" / "iti44-multipatient-request-1.xml"))
    with pytest.raises(Problem, match="interaction"):
        pixv3.read_feed(of_v3(samples / "xsd" / "prpa-invalid.xml"))
    assert pixv3.read_feed(of_v3(samples / "xsd" / "prpa-valid.xml")).value.identifiers


def test_swiss_requests(shared: Path) -> None:
    def body(name: str) -> SoapRequest:
        envelope = parse_message((shared / "data" / "ihe" / "epr-by-example" / "samples" / name).read_bytes())
        return SoapRequest(envelope[1][0], authorities=NAMED)

    feed = pixv3.read_feed(body("ITI-44_request_raw.xml")).value
    assert [n.use for n in feed.demographics.names] == ["L", "B"]
    assert len(feed.identifiers) == 2
    assert len(pixv3.read_query(body("ITI-45_request_raw.xml")).value.authorities) == 2
    assert pdqv3.read_question(body("ITI-47_request_raw.xml")).value.identifiers == (
        PatientId("08242eb8-dd47-4298-8d2f-25d60114f137", "1.1.1.2.2"),
    )
