"""HL7 v3 messages of the patient index: read into the values of the domain, answered as the Technical Framework says."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from lxml import etree

import hl7v3_messages as v3
from hl7v3_messages import N
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Record
from obieg.domain.notices import ChangeKind, PatientChange
from obieg.domain.patients import Cancel, Candidate, Candidates, Continuation, FeedEvent, PatientMatch
from obieg.domain.persons import Address, Demographics, PersonName, Telecom
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.mapping import hl7v3, pdqv3, pixv3, xcpd
from obieg.mapping.hl7v3_person import REPETITIONS_MAX
from obieg.mapping.pdq import WHOLE_ANSWER
from obieg.protocol import Sending, SoapReply, SoapRequest
from obieg.transactions import TRANSACTIONS

OURS, HOSPITAL, CLINIC = "1.2.616.9.1", "1.2.616.9.2", "1.2.616.9.3"
PESEL = "2.16.840.1.113883.3.4424.1.1.616"
HOME = "1.2.616.9.99"
AUTHORITIES = Authorities([AssigningAuthority(HOSPITAL, "SZPITAL"), AssigningAuthority(OURS, "REGION")])
JAN = Demographics(
    names=(PersonName("Żak", ("Jan", "Ewaryst"), use="L"), PersonName("Kos", ("Jan",), use="B")),
    birth_date="19700228",
    sex="M",
    addresses=(Address("Prosta 5", "Łódź", "łódzkie", "90-001", "PL", "H", terc="1061011"),),
    telecoms=(Telecom("42 1", "PRN", "PH"), Telecom("j@example.pl", "NET", "Internet")),
    mother_name=PersonName("Ból", use="B"),
    mother=PatientId("44051401458", PESEL),
    multiple_birth=True,
    birth_order=2,
    birth_place="Zgierz",
    language="pl",
    marital_status="M",
    citizenship="PL",
    deceased=False,
)
CANDIDATE = Candidate(
    patient=PatientId("R1", OURS),
    identifiers=(PatientId("17", HOSPITAL), PatientId("70022812345", PESEL), PatientId("R1", OURS)),
    demographics=JAN,
    score=97,
)


def asked(text: str, action: str = "") -> SoapRequest:
    return SoapRequest(
        body=etree.fromstring(text),
        action=action,
        request_id=uuid.uuid4().hex,
        received_at=datetime(2026, 11, 22, 10, 15, tzinfo=UTC),
        authorities=AUTHORITIES,
    )


def body_of(reply: SoapReply) -> Any:
    """The answer, judged by the official schema."""
    body = etree.fromstring(reply.body)
    v3.assert_valid(body)
    return body


def codes(problem: pytest.ExceptionInfo[Problem]) -> list[tuple[str, str]]:
    return [(f.code, f.location) for f in problem.value.findings]


# feeds ---------------------------------------------------------------------------------------------------------------


def test_an_added_record() -> None:
    person = (
        v3.name("Nowak", "Anna")
        + '<administrativeGenderCode code="F"/><birthTime value="19700228"/>'
        + '<asOtherIDs classCode="CIT">'
        + v3.ii("id", ("70022812345", PESEL))
        + f'<scopingOrganization><id root="{PESEL}"/></scopingOrganization></asOtherIDs>'
    )
    message = asked(
        v3.feed("add", ("17", HOSPITAL), ("17", HOSPITAL), person=person, more='<id nullFlavor="NA"/>', id="1.2.9")
    )
    found = pixv3.read_feed(message)
    assert found.message_id == "1.2.9"
    feed = found.value
    assert feed.event is FeedEvent.ADD_PERSON
    assert feed.identifiers == (PatientId("17", HOSPITAL), PatientId("70022812345", PESEL))
    assert feed.stated == ("names", "sex", "birth_date")
    assert feed.demographics.names == (PersonName("Nowak", ("Anna",), use="L"),)
    assert feed.source == f"|{v3.SENDER}"
    event = "/PRPA_IN201301UV02/controlActProcess/subject/registrationEvent/subject1/patient"
    assert feed.identifier_locations == (f"{event}/id[1]", f"{event}/patientPerson/asOtherIDs/id")
    assert message.body.xpath(event.replace("/", "/h:"), namespaces={"h": v3.NS})


def test_a_revised_record() -> None:
    feed = pixv3.read_feed(asked(v3.feed("revise", ("17", HOSPITAL), person="<name nullFlavor='UNK'/>"))).value
    assert (feed.event, feed.stated, feed.demographics) == (FeedEvent.UPDATE_PERSON, ("names",), Demographics())


def test_a_merge_states_no_demographics() -> None:
    feed = pixv3.read_feed(asked(v3.feed("merge", ("1", HOSPITAL), merged=("2", HOSPITAL)))).value
    assert feed.event is FeedEvent.MERGE
    assert (feed.identifiers, feed.merged) == ((PatientId("1", HOSPITAL),), (PatientId("2", HOSPITAL),))
    assert feed.stated == ()
    assert feed.merged_locations[0].endswith("/replacementOf/priorRegistration/subject1/priorRegisteredRole/id")


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        (v3.feed("add"), "RequiredFieldMissing", "/patient/id"),
        (v3.feed("add", more='<id nullFlavor="UNK"/>'), "RequiredFieldMissing", "/patient/id"),
        (v3.feed("add", more='<id root="1.2"/>'), "RequiredFieldMissing", "/patient/id"),
        (v3.feed("add", ("1", "no oid")), "DataTypeError", "/patient/id"),
        (v3.feed("add", more='<id assigningAuthorityName="X" extension="1"/>'), "UnknownKeyIdentifier", "/patient/id"),
        (v3.feed("merge", ("1", HOSPITAL)), "RequiredFieldMissing", "/replacementOf"),
        (v3.feed("merge", ("1", HOSPITAL), merged=("", HOSPITAL)), "RequiredFieldMissing", "/priorRegisteredRole/id"),
        (v3.feed("add", ("1", HOSPITAL), sender=""), "RequiredFieldMissing", "/sender/device/id"),
        (v3.feed("add", ("1", HOSPITAL), receiver=""), "RequiredFieldMissing", "/receiver/device/id"),
        (
            v3.feed("add", *((str(n), HOSPITAL) for n in range(REPETITIONS_MAX + 1))),
            "DataTypeError",
            "/patient/id",
        ),
        (v3.message("PRPA_IN201301UV02", ""), "RequiredFieldMissing", "/subject/registrationEvent"),
        (
            v3.feed("add", ("1", HOSPITAL)).replace('processingModeCode code="T"', 'processingModeCode code="R"'),
            "UnsupportedProcessingMode",
            "/processingModeCode",
        ),
    ],
)
def test_a_feed_that_cannot_be_taken(text: str, code: str, where: str) -> None:
    message = asked(text)
    with pytest.raises(Problem) as problem:
        pixv3.read_feed(message)
    [(found, location)] = codes(problem)
    assert found == code
    assert location.endswith(where)
    body = body_of(hl7v3.acknowledgement(message, problem.value.findings))
    assert v3.acknowledged(body) == ("CR" if code.startswith("Unsupported") else "CE")
    assert [where for _, where in v3.details(body)] == [location]


def test_two_patients_in_one_feed_are_refused() -> None:
    text = v3.feed("add", ("1", HOSPITAL))
    subject = text[text.index("<subject ") : text.index("</controlActProcess>")]
    with pytest.raises(Problem, match="one message for each patient"):
        pixv3.read_feed(asked(text.replace(subject, subject * 2)))


def test_the_acknowledgement_answers_the_message_and_its_sender() -> None:
    message = asked(v3.feed("add", ("1", HOSPITAL), id="1.2.9"))
    body = body_of(hl7v3.acknowledgement(message))
    assert v3.acknowledged(body) == "CA"
    assert v3.code(body, "acknowledgement/targetMessage/id", "root") == "1.2.9"
    assert v3.code(body, "sender/device/id", "root") == v3.RECEIVER
    assert v3.code(body, "receiver/device/id", "root") == v3.SENDER
    assert v3.code(body, "acceptAckCode") == "NE"
    assert v3.code(body, "creationTime", "value") == "20261122101500+0000"
    assert v3.code(body, "id", "root") == str(uuid.UUID(message.request_id))


@pytest.mark.parametrize(
    ("text", "action", "code"),
    [
        (v3.feed("add", ("1", HOSPITAL)), "urn:hl7-org:v3:PRPA_IN201302UV02", "MessageNotReadable"),
        (v3.pix_query("<value/>"), "", "MessageNotReadable"),
        ("<x/>", "", "MessageNotReadable"),
        ("<PRPA_IN201301UV02/>", "", "MessageNotReadable"),
        (v3.feed("add", ("1", HOSPITAL)).replace('extension="PRPA_IN201301UV02"', 'extension="PRPA_IN201302UV02"'), "", "UnsupportedEventCode"),
        (v3.feed("add", ("1", HOSPITAL)).replace("<interactionId", "<x"), "", "UnsupportedEventCode"),
    ],
)  # fmt: skip
def test_another_message_than_the_one_that_is_promised(text: str, action: str, code: str) -> None:
    message = asked(text, action)
    with pytest.raises(Problem) as problem:
        pixv3.read_feed(message)
    assert [c for c, _ in codes(problem)] == [code]
    assert v3.acknowledged(body_of(hl7v3.acknowledgement(message, problem.value.findings))) == "CR"


# identifiers ---------------------------------------------------------------------------------------------------------


def test_a_query_for_identifiers() -> None:
    message = asked(v3.pix_query('<value root="1.2.616.9.2" extension="17"/>', OURS, PESEL, OURS))
    query = pixv3.read_query(message).value
    assert query.identifier == PatientId("17", HOSPITAL)
    assert query.authorities == (OURS, PESEL)
    parameters = "/PRPA_IN201309UV02/controlActProcess/queryByParameter/parameterList"
    assert query.identifier_location == f"{parameters}/patientIdentifier/value"
    assert query.authority_locations == (f"{parameters}/dataSource[1]/value", f"{parameters}/dataSource[2]/value")
    assert b"<queryByParameter" in query.text


def test_identifiers_found() -> None:
    message = asked(v3.pix_query('<value root="1.2.616.9.2" extension="17"/>', OURS))
    body = body_of(pixv3.write_answer([PatientId("A&B", HOSPITAL), PatientId("R1", OURS)], message))
    assert (v3.acknowledged(body), v3.response(body)) == ("AA", "OK")
    [patient] = v3.patients(body)
    assert v3.ids(patient) == [("A&B", HOSPITAL), ("R1", OURS)]
    assert [i.get("assigningAuthorityName") for i in patient.findall(f"{N}id")] == ["SZPITAL", "REGION"]
    echoed = v3.at(body, "controlActProcess/queryByParameter")
    assert v3.code(echoed, "parameterList/dataSource/value", "root") == OURS
    assert v3.code(body, "controlActProcess/queryAck/queryId", "extension") == "q1"


def test_no_identifiers_in_the_domains() -> None:
    message = asked(v3.pix_query('<value root="1.2.616.9.2" extension="17"/>', OURS))
    body = body_of(pixv3.write_answer([], message))
    assert (v3.acknowledged(body), v3.response(body), v3.patients(body)) == ("AA", "NF", [])


def test_unknown_identifiers_and_domains_are_named_by_their_xpath() -> None:
    message = asked(v3.pix_query('<value root="1.2.616.9.2" extension="17"/>', OURS, "1.9.9"))
    query = pixv3.read_query(message).value
    findings = [
        Finding("UnknownKeyIdentifier", "no patient", f"{query.identifier_location}-1"),
        Finding("UnknownKeyIdentifier", "no domain", f"{query.identifier_location}-4"),
        Finding("UnknownKeyIdentifier", "no domain", query.authority_locations[1]),
    ]
    body = body_of(pixv3.write_refusal(findings, message))
    assert (v3.acknowledged(body), v3.response(body), v3.patients(body)) == ("AE", "AE", [])
    expected = [query.identifier_location, query.identifier_location, query.authority_locations[1]]
    assert v3.details(body) == [("204", where) for where in expected]
    for where in expected:
        assert len(message.body.xpath(where.replace("/", "/h:"), namespaces={"h": v3.NS})) == 1
    assert v3.at(body, "controlActProcess/queryByParameter") is not None


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ('<value nullFlavor="UNK"/>', "RequiredFieldMissing"),
        ('<value root="1.2"/>', "RequiredFieldMissing"),
        ('<value extension="17"/>', "RequiredFieldMissing"),
        ('<value extension="17" assigningAuthorityName="INNY"/>', "UnknownKeyIdentifier"),
        ('<value root="1.2" extension="1"/><value root="1.2" extension="2"/>', "DataTypeError"),
        ("", "RequiredFieldMissing"),
    ],
)
def test_a_query_for_identifiers_that_cannot_be_answered(value: str, code: str) -> None:
    message = asked(v3.pix_query(value))
    with pytest.raises(Problem) as problem:
        pixv3.read_query(message)
    assert [c for c, _ in codes(problem)] == [code]
    assert v3.response(etree.fromstring(pixv3.write_refusal(problem.value.findings, message).body)) == "AE"


def test_a_query_without_a_query() -> None:
    message = asked(v3.message("PRPA_IN201309UV02", ""))
    with pytest.raises(Problem) as problem:
        pixv3.read_query(message)
    [(code, where)] = codes(problem)
    assert (code, where) == ("RequiredFieldMissing", "/PRPA_IN201309UV02/controlActProcess/queryByParameter")
    assert v3.acknowledged(body_of(pixv3.write_refusal(problem.value.findings, message))) == "AE"


def test_too_many_domains() -> None:
    sources = [f"1.2.{n}" for n in range(pixv3.AUTHORITIES_MAX + 1)]
    with pytest.raises(Problem, match="more than 100 domains"):
        pixv3.read_query(asked(v3.pix_query('<value root="1.2" extension="17"/>', *sources)))


# notifications -------------------------------------------------------------------------------------------------------

CHANGE = PatientChange(
    kind=ChangeKind.IDENTIFIERS,
    patient=PatientId("R1", OURS),
    patient_key=1,
    identifiers=(PatientId("17", HOSPITAL), PatientId("R1", OURS)),
)
STORED = msgspec.msgpack.encode(CHANGE)
SENDING = Sending(
    control_id="6912-1",
    at=datetime(2026, 11, 22, 10, 15, tzinfo=UTC),
    sender=("1.2.616.8", "1.2.616.8.1"),
    receiver=("1.2.616.7", ""),
    authorities=AUTHORITIES,
)


def test_a_notification() -> None:
    body = etree.fromstring(pixv3.write_notification(STORED, SENDING).body)
    v3.assert_valid(body)
    assert v3.code(body, "id", "extension") == "6912-1"
    assert v3.code(body, "acceptAckCode") == "AL"
    assert v3.code(body, "receiver/device/id", "root") == "1.2.616.7"
    assert v3.ids(v3.patients(body)[0]) == [("17", HOSPITAL), ("R1", OURS)]
    assert [n.get("nullFlavor") for n in body.iter(f"{N}name")] == ["NA"]
    assert pixv3.read_feed(SoapRequest(body)).value.identifiers == CHANGE.identifiers
    [first, second] = pixv3.audit_notification(STORED, "6912-1")
    assert (first.identifier, second.identifier) == (str(PatientId("R1", OURS)), str(PatientId("17", HOSPITAL)))
    assert first.details == (("II", "6912-1"),)


def acknowledging(code: str, *details: str) -> SoapRequest:
    said = "".join(f'<acknowledgementDetail><code code="{d}"/><text>t</text></acknowledgementDetail>' for d in details)
    ack = f'<acknowledgement><typeCode code="{code}"/>{said}</acknowledgement>' if code else ""
    return SoapRequest(etree.fromstring(f'<MCCI_IN000002UV01 xmlns="{v3.NS}">{ack}</MCCI_IN000002UV01>'))


def test_what_a_receiver_answers() -> None:
    for code in ("CA", "AA"):
        pixv3.read_acknowledgement(acknowledging(code))
    for refusal in (acknowledging("CE"), acknowledging("AE", "204"), acknowledging("CE", "207", "204")):
        with pytest.raises(Problem, match="NotificationRefused"):
            pixv3.read_acknowledgement(refusal)
    for later in (acknowledging(""), acknowledging("CR"), acknowledging("AE", "207"), acknowledging("CE", "206")):
        with pytest.raises(RetryLater):
            pixv3.read_acknowledgement(later)


# candidates ----------------------------------------------------------------------------------------------------------


def test_a_query_for_candidates() -> None:
    message = asked(
        v3.candidates_query(
            v3.value_name("Żak*", "Jan", use="SRCH"),
            ("mothersMaidenName", "<value><given>Ewa</given><family>Ból</family></value>"),
            ("livingSubjectBirthTime", '<value><low value="1970"/><high value="197503"/></value>'),
            ("livingSubjectAdministrativeGender", '<value code="UN"/>'),
            ("patientAddress", "<value><streetName>Prosta</streetName><city>Łódź</city></value>"),
            ("patientTelecom", '<value value="tel:42 1"/>'),
            ("livingSubjectId", '<value root="1.2.616.9.2" extension="17"/><value nullFlavor="UNK"/>'),
            v3.scoped(OURS),
            count="5",
            minimum="75",
        )
    )
    query = pdqv3.read_question(message).value
    assert (query.family, query.given, query.exact) == ("Żak*", "Jan", False)
    assert (query.mother_family, query.mother_given) == ("Ból", "Ewa")
    assert (query.born_from, query.born_until, query.sex) == ("1970", "197503", "O")
    assert (query.street, query.city, query.telecom) == ("Prosta", "Łódź", "42 1")
    assert query.identifiers == (PatientId("17", HOSPITAL),)
    assert query.authorities == (OURS,)
    assert query.authority_locations[0].endswith("/parameterList/otherIDsScopingOrganization/value")
    assert (query.count, query.minimum_score) == (5, 75)


def test_a_name_is_asked_for_as_it_is_written_unless_similar_ones_will_do() -> None:
    def read(use: str) -> bool:
        found = pdqv3.read_question(asked(v3.candidates_query(v3.value_name("Żak", use=use)))).value
        return bool(found.exact)

    assert [read(use) for use in ("", "L", "SRCH", "PHON")] == [True, True, False, False]


def test_two_parameters_make_one_name_and_no_quantity_means_all() -> None:
    query = pdqv3.read_question(
        asked(v3.candidates_query(v3.value_name("Żak"), v3.value_name("", "Jan"), v3.born("19700228")))
    ).value
    assert (query.family, query.given) == ("Żak", "Jan")
    assert (query.born_from, query.born_until) == ("19700228", "19700228")
    assert query.count == WHOLE_ANSWER


@pytest.mark.parametrize(
    ("parameters", "more", "code"),
    [
        ([], {}, "TooBroad"),
        ([v3.value_name("*", "**")], {}, "TooBroad"),
        ([("livingSubjectId", '<value nullFlavor="UNK"/>')], {}, "TooBroad"),
        ([v3.value_name("a*b")], {}, "UnsupportedQueryField"),
        ([v3.value_name("Żak"), v3.value_name("Kos")], {}, "UnsupportedQueryField"),
        ([v3.value_name("Żak"), ("livingSubjectBirthPlaceName", "<value>x</value>")], {}, "UnsupportedQueryField"),
        ([("livingSubjectId", '<value extension="1"/>')], {}, "RequiredFieldMissing"),
        ([("livingSubjectId", '<value root="1.2"/>')], {}, "RequiredFieldMissing"),
        ([v3.born("13.05.1970")], {}, "DataTypeError"),
        ([("livingSubjectAdministrativeGender", '<value code="?"/>')], {}, "TableValueNotFound"),
        ([v3.value_name("Żak")], {"count": "0"}, "DataTypeError"),
        ([v3.value_name("Żak")], {"count": "-3"}, "DataTypeError"),
        ([v3.value_name("Żak")], {"minimum": "150"}, "DataTypeError"),
        ([v3.value_name("Żak")], {"priority": "D"}, "UnsupportedProcessingMode"),
        ([v3.value_name("x" * 201)], {}, "DataTypeError"),
        ([v3.value_name("Żak")] * (REPETITIONS_MAX + 1), {}, "DataTypeError"),
    ],
)
def test_a_query_that_cannot_be_answered(parameters: list[Any], more: dict[str, str], code: str) -> None:
    message = asked(v3.candidates_query(*parameters, **more))
    with pytest.raises(Problem) as problem:
        pdqv3.read_question(message)
    assert {c for c, _ in codes(problem)} == {code}
    body = etree.fromstring(pdqv3.write_refusal(problem.value.findings, message).body)
    assert (v3.acknowledged(body), v3.response(body)) == ("AE", "AE")
    assert v3.details(body)[0][1].startswith("/PRPA_IN201305UV02/controlActProcess/queryByParameter")


def test_candidates_found() -> None:
    message = asked(v3.candidates_query(v3.value_name("Żak"), v3.scoped(HOSPITAL), v3.scoped(CLINIC)))
    found = Candidates((CANDIDATE, CANDIDATE), total=12, remaining=10, cursor="c")
    body = body_of(pdqv3.write_answer(found, message))
    assert (v3.acknowledged(body), v3.response(body)) == ("AA", "OK")
    assert v3.quantities(body) == (12, 2, 10)
    patient = v3.patients(body)[0]
    assert v3.ids(patient) == [("17", HOSPITAL), ("70022812345", PESEL), ("R1", OURS)]
    assert v3.code(patient, "subjectOf1/queryMatchObservation/value", "value") == "97"
    assert v3.code(patient, "subjectOf1/queryMatchObservation/value", f"{{{v3.XSI}}}type") == "INT"
    # The clinic has no number for the patient.
    [other] = patient.findall(f"{N}patientPerson/{N}asOtherIDs")
    assert v3.code(other, "id", "nullFlavor") == "NA"
    assert v3.code(other, "scopingOrganization/id", "root") == CLINIC
    custodian = "controlActProcess/subject/registrationEvent/custodian/assignedEntity/id"
    assert v3.code(body, custodian, "root") == v3.RECEIVER


def test_more_candidates_than_are_listed() -> None:
    message = asked(v3.candidates_query(v3.value_name("Żak")))
    body = body_of(pdqv3.write_answer(Candidates((CANDIDATE,), total=500, capped=True), message))
    assert (v3.acknowledged(body), v3.response(body)) == ("AA", "OK")
    detail = next(body.iter(f"{N}acknowledgementDetail"))
    assert detail.get("typeCode") == "W"
    assert "narrow" in detail.findtext(f"{N}text")


def test_nobody_found() -> None:
    body = body_of(pdqv3.write_answer(Candidates((), 0), asked(v3.candidates_query(v3.value_name("Żak")))))
    assert (v3.acknowledged(body), v3.response(body), v3.quantities(body)) == ("AA", "NF", (0, 0, 0))


def test_continuation_and_cancel_mean_the_same_query_of_the_same_asker() -> None:
    query = pdqv3.read_question(asked(v3.candidates_query(v3.value_name("Żak")))).value
    assert uuid.UUID(query.cursor)
    go_on = pdqv3.read_question(asked(v3.continuation(count=7))).value
    assert (go_on.cursor, go_on.count) == (query.cursor, 7)
    from_there = pdqv3.read_question(asked(v3.continuation(start=21))).value
    assert isinstance(from_there, Continuation)
    assert from_there.cursor == f"{query.cursor}.20"
    cancel = pdqv3.read_question(asked(v3.continuation(cancel=True))).value
    assert isinstance(cancel, Cancel)
    assert cancel.cursor == query.cursor
    for other in (v3.continuation("q2"), v3.continuation(sender="1.2.616.77.3")):
        assert pdqv3.read_question(asked(other)).value.cursor != query.cursor


def test_a_page_and_a_cancel_are_answered() -> None:
    action = "urn:hl7-org:v3:QUQI_IN000003UV01"
    message = asked(v3.continuation(start=3), f"{action}_Continue")
    body = body_of(pdqv3.write_answer(Candidates((CANDIDATE,), total=3), message))
    assert (v3.response(body), v3.quantities(body)) == ("OK", (3, 1, 0))
    assert v3.code(body, "controlActProcess/queryAck/queryId", "extension") == "q1"
    message = asked(v3.continuation(cancel=True), f"{action}_Cancel")
    assert v3.acknowledged(body_of(pdqv3.write_answer(None, message))) == "CA"
    refused = pdqv3.write_refusal([Finding("UnknownCursor", "there is no such query")], message)
    assert v3.acknowledged(body_of(refused)) == "CE"


@pytest.mark.parametrize(
    ("text", "action", "code"),
    [
        (v3.continuation().replace("waitContinuedQueryResponse", "aborted"), "_Continue", "TableValueNotFound"),
        (v3.continuation(cancel=True).replace("aborted", "new"), "_Cancel", "TableValueNotFound"),
        (
            v3.continuation().replace('<queryId root="1.2.3.9" extension="q1"/>', ""),
            "_Continue",
            "RequiredFieldMissing",
        ),
        (v3.continuation(count=3).replace('Quantity value="3"', 'Quantity value="x"'), "_Continue", "DataTypeError"),
        (v3.continuation(), "_Cancel", "MessageNotReadable"),
        (v3.continuation(cancel=True), "_Continue", "MessageNotReadable"),
    ],
)
def test_a_continuation_that_makes_no_sense(text: str, action: str, code: str) -> None:
    message = asked(text, f"urn:hl7-org:v3:QUQI_IN000003UV01{action}")
    with pytest.raises(Problem) as problem:
        pdqv3.read_question(message)
    assert [c for c, _ in codes(problem)] == [code]
    body = body_of(pdqv3.write_refusal(problem.value.findings, message))
    assert v3.acknowledged(body) in ("CE", "CR", "AE")


# other communities ---------------------------------------------------------------------------------------------------


def discovery(*parameters: tuple[str, str], action: str = v3.XCPD_ACTION, **more: str) -> SoapRequest:
    return asked(v3.candidates_query(*parameters, **more), action)


def test_a_discovery_by_demographics() -> None:
    found = xcpd.read_discovery(
        discovery(
            v3.value_name("Żak", "Jan"),
            v3.born("19700228"),
            ("livingSubjectAdministrativeGender", '<value code="M"/>'),
            ("patientAddress", "<value><city>Łódź</city></value>"),
            ("principalCareProviderId", '<value root="1.2" extension="1"/>'),
            minimum="99",
        )
    ).value
    expected = Demographics(
        names=(PersonName("Żak", ("Jan",), use="L"),), birth_date="19700228", sex="M", addresses=(Address(city="Łódź"),)
    )
    assert found.match == PatientMatch(Record((), expected), count=found.match.count, text=found.match.text)
    assert found.minimum_score == 99


def test_a_discovery_by_an_identifier_alone() -> None:
    found = xcpd.read_discovery(
        discovery(("livingSubjectId", f'<value root="{PESEL}" extension="70022812345"/>'))
    ).value
    assert found.match.record == Record((PatientId("70022812345", PESEL),))


@pytest.mark.parametrize(
    ("parameters", "missing"),
    [([v3.value_name("Żak")], "livingSubjectBirthTime"), ([v3.born("1970")], "livingSubjectName")],
)
def test_a_discovery_that_says_too_little(parameters: list[tuple[str, str]], missing: str) -> None:
    message = discovery(*parameters)
    with pytest.raises(Problem) as problem:
        xcpd.read_discovery(message)
    [(code, where)] = codes(problem)
    assert code == "RequiredFieldMissing"
    assert where.endswith(f"/parameterList/{missing}/value")
    body = body_of(xcpd.write_refusal(problem.value.findings, message))
    assert (v3.acknowledged(body), v3.response(body)) == ("AE", "AE")
    issue = "controlActProcess/reasonOf/detectedIssueEvent/mitigatedBy/detectedIssueManagement/code"
    assert v3.code(body, issue) == "AnswerNotAvailable"


def test_a_busy_node_says_so() -> None:
    message = discovery(v3.value_name("Żak"), v3.born("1970"))
    body = body_of(xcpd.write_refusal([Finding("XDSRegistryBusy", "later")], message))
    issue = "controlActProcess/reasonOf/detectedIssueEvent/mitigatedBy/detectedIssueManagement/code"
    assert v3.code(body, issue) == "ResponderBusy"


def discovered(message: SoapRequest, *found: Candidate) -> Any:
    request = xcpd.read_discovery(message).value
    return body_of(xcpd.write_answer(xcpd.judged(request, Candidates(found, len(found)), HOME), message))


def test_a_patient_is_told_with_the_home_community_and_only_the_identifiers_spoken_of() -> None:
    message = discovery(
        v3.value_name("Żak"), v3.born("19700228"), ("livingSubjectId", f'<value root="{PESEL}" extension="7"/>')
    )
    body = discovered(message, CANDIDATE)
    assert (v3.acknowledged(body), v3.response(body)) == ("AA", "OK")
    [patient] = v3.patients(body)
    assert v3.ids(patient) == [("R1", OURS)]
    assert [v3.ids(o) for o in patient.iter(f"{N}asOtherIDs")] == [[("70022812345", PESEL)]]
    [event] = body.iter(f"{N}registrationEvent")
    entity = event.find(f"{N}custodian/{N}assignedEntity")
    assert v3.ids(entity) == [("", HOME)]
    assert v3.code(entity, "code") == "NotHealthDataLocator"
    assert HOSPITAL not in etree.tostring(body).decode()


def test_who_is_not_certain_is_not_told_but_more_is_asked_for() -> None:
    likely = Candidate(CANDIDATE.patient, CANDIDATE.identifiers, JAN, score=80, grade="probable")
    gender = ("livingSubjectAdministrativeGender", '<value code="M"/>')
    body = discovered(discovery(v3.value_name("Żak"), v3.born("19700228"), gender, minimum="10"), likely)
    assert (v3.acknowledged(body), v3.response(body), v3.patients(body)) == ("AA", "OK", [])
    requested = [v3.code(r, "code") for r in body.iter(f"{N}actOrderRequired")]
    assert requested == [
        "PatientAddressRequested",
        "PatientTelecomRequested",
        "LivingSubjectBirthPlaceNameRequested",
        "MothersMaidenNameRequested",
    ]
    assert "Żak" not in etree.tostring(body, encoding="unicode").replace("<family>Żak</family>", "", 1)


def test_a_higher_degree_is_honoured_and_nobody_looks_like_nobody() -> None:
    parameters = (v3.value_name("Żak"), v3.born("19700228"))
    assert v3.patients(discovered(discovery(*parameters, minimum="97"), CANDIDATE))
    assert not v3.patients(discovered(discovery(*parameters, minimum="98"), CANDIDATE))
    body = discovered(discovery(*parameters))
    assert (v3.acknowledged(body), v3.response(body)) == ("AA", "NF")
    assert not list(body.iter(f"{N}reasonOf"))


def test_the_deferred_form_is_refused_as_it_is_acknowledged() -> None:
    action = "urn:hl7-org:v3:PRPA_IN201305UV02:Deferred:CrossGatewayPatientDiscovery"
    message = discovery(v3.value_name("Żak"), v3.born("1970"), action=action, priority="D")
    with pytest.raises(Problem) as problem:
        xcpd.read_discovery(message)
    body = body_of(xcpd.write_refusal(problem.value.findings, message))
    assert etree.QName(body).localname == "MCCI_IN000002UV01"
    assert v3.acknowledged(body) == "AE"
    assert {code for code, _ in v3.details(body)} == {"202"}


# transactions --------------------------------------------------------------------------------------------------------


def test_the_transactions_have_the_actions_of_the_published_services() -> None:
    actions = {
        t.id: [o.action.removeprefix("urn:hl7-org:v3:") for o in t.binding.operations]
        for t in TRANSACTIONS
        if t.id in ("ITI-44", "ITI-45", "ITI-47", "ITI-55")
    }
    assert actions == {
        "ITI-44": ["PRPA_IN201301UV02", "PRPA_IN201302UV02", "PRPA_IN201304UV02"],
        "ITI-45": ["PRPA_IN201309UV02"],
        "ITI-47": ["PRPA_IN201305UV02", "QUQI_IN000003UV01_Continue", "QUQI_IN000003UV01_Cancel"],
        "ITI-55": [
            "PRPA_IN201305UV02:CrossGatewayPatientDiscovery",
            "PRPA_IN201305UV02:Deferred:CrossGatewayPatientDiscovery",
        ],
    }
