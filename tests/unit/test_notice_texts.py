"""Who is told what when identifiers change, and how the messages look (ITI TF-2:3.10.4.1, 3.64.4.1)."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from obieg.domain.audit import Outcome
from obieg.domain.authorities import AssigningAuthority, Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.notices import ChangeKind, Moved, PatientChange, Subscribers, Subscription, read_change
from obieg.domain.outbox import Letter
from obieg.domain.persons import PersonName
from obieg.domain.problems import Problem
from obieg.edges.clients import NotifiedReceiver
from obieg.mapping.audit import write_audit_message
from obieg.protocol import Sending
from obieg.transactions import NOTIFICATIONS
from obieg.wire import hl7v2

XAD, HOSPITAL, CLINIC = "1.2.616.1", "1.2.616.2", "1.2.616.3"
PATIENT, FORMER = PatientId("ABC", XAD), PatientId("XYZ", XAD)
H1, H2, C1 = PatientId("h|1", HOSPITAL), PatientId("h2", HOSPITAL), PatientId("c1", CLINIC)
NAMES = Authorities([AssigningAuthority(HOSPITAL, "SZPITAL"), AssigningAuthority(CLINIC, "POZ")])
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SENDING = Sending(
    control_id="69a42b60-1f",
    at=AT,
    sender=("1.2.616.9", "region"),
    receiver=("HIS", "Szpital"),
    authorities=NAMES,
)


def change(*now, before=(), kind=ChangeKind.IDENTIFIERS, **values):
    return PatientChange(
        kind, PATIENT, 7, (*now, PATIENT), before=before, name=PersonName("Kowalska", ("Anna",)), **values
    )


def subscribers(*authorities, kind=ChangeKind.IDENTIFIERS, transaction="ITI-10"):
    return Subscribers([Subscription("HIS", transaction, kind, frozenset(authorities))])


def told(found):
    return [read_change(message.body).identifiers for message in found]


def test_the_example_of_the_standard():
    """CON_A is interested in DOM_A and DOM_AD (ITI TF-2:3.10.4.1.2)."""
    con_a = subscribers(HOSPITAL, CLINIC)
    assert told(con_a.changed(change(H1))) == [(H1,)]  # a first feed
    assert told(con_a.changed(change(H1, C1, before=(H1, PATIENT)))) == [(H1, C1)]  # cross-referenced
    both = (H1, C1, PATIENT)  # no longer the same person: two notifications
    other = PatientChange(ChangeKind.IDENTIFIERS, FORMER, 8, (C1, FORMER), before=both)
    assert told((*con_a.changed(change(H1, before=both)), *con_a.changed(other))) == [(H1,), (C1,)]


def test_what_is_of_no_interest_is_not_told():
    assert subscribers(CLINIC).changed(change(H1)) == ()
    assert subscribers(HOSPITAL).changed(change(H1, C1, before=(H1, PATIENT))) == ()
    assert subscribers(HOSPITAL).changed(change(C1, before=(H1, C1))) == ()  # nothing left to tell
    assert subscribers().changed(change(C1, H1, before=(H1, C1, PATIENT))) == ()  # nothing changed
    assert Subscribers().changed(change(H1)) == ()
    [message] = subscribers().changed(change(H1))  # interested in all
    assert told([message]) == [(H1, PATIENT)]
    assert (message.key, message.patient_key, message.destination) == (str(PATIENT), 7, "HIS")


def test_links_are_told_one_by_one():
    linked = change(
        H1,
        C1,
        kind=ChangeKind.LINK,
        before=(PATIENT,),
        former=FORMER,
        moved=(Moved(H1, H2), Moved(C1), Moved(FORMER)),
    )
    found = subscribers(kind=ChangeKind.LINK, transaction="ITI-64").changed(linked)
    assert [read_change(m.body).moved for m in found] == [(Moved(H1, H2),), (Moved(C1),)]
    assert {(m.key, m.patient_key) for m in found} == {("", 0)}
    assert all(b"Kowalska" not in m.body for m in found)
    only = subscribers(CLINIC, kind=ChangeKind.LINK, transaction="ITI-64").changed(linked)
    assert [read_change(m.body).moved for m in only] == [(Moved(C1),)]
    assert told(subscribers().changed(linked)) == [(H1, C1, PATIENT)]  # a link changes identifiers as well
    assert subscribers(kind=ChangeKind.LINK, transaction="ITI-64").changed(change(H1)) == ()


def written(transaction, body, sending=SENDING):
    notification = next(n for n in NOTIFICATIONS if n.id == transaction)
    return notification, hl7v2.parse(notification.write(body, sending).encode())


def test_a31():
    [stored] = subscribers().changed(change(H1, C1, H2))
    notification, message = written("ITI-10", stored.body)
    assert [message.get(f"MSH-9-{n}") for n in (1, 2, 3)] == ["ADT", "A31", "ADT_A05"]
    assert message.version == (2, 5)
    assert message.control_id == "69a42b60-1f"
    assert [message.get(f"MSH-3-{n}") for n in (1, 2, 3)] == ["region", "1.2.616.9", "ISO"]
    assert [message.get(f"MSH-{n}") for n in (4, 5, 6)] == ["region", "HIS", "Szpital"]
    assert [segment.name for segment in message.segments] == ["MSH", "EVN", "PID", "PV1"]
    assert (message.get("EVN-1"), message.get("EVN-2")) == ("A31", "20260301120000+0000")
    [pid] = message.all("PID")
    found = message.repetitions(pid, 3)
    # Those of one domain stand together, each with namespace, universal id and its type.
    assert [(cx.get(1), cx.get(4, 1), cx.get(4, 2), cx.get(4, 3)) for cx in found] == [
        ("h|1", "SZPITAL", HOSPITAL, "ISO"),
        ("h2", "SZPITAL", HOSPITAL, "ISO"),
        ("c1", "POZ", CLINIC, "ISO"),
        ("ABC", "", XAD, "ISO"),
    ]
    assert pid.field(5) == " "
    assert [n for n, field in enumerate(pid.fields, 1) if field] == [3, 5]
    assert message.get("PV1-2") == "N"
    objects = notification.audit(stored.body, "69a42b60-1f")
    assert [o.identifier for o in objects] == [str(i) for i in (PATIENT, H1, C1, H2)]
    assert {o.details for o in objects} == {(("MSH-10", "69a42b60-1f"),)}


@pytest.mark.parametrize("subsumed", [None, H2])
def test_a43(subsumed):
    linked = change(H1, kind=ChangeKind.LINK, former=FORMER, moved=(Moved(H1, subsumed),))
    [stored] = subscribers(kind=ChangeKind.LINK, transaction="ITI-64").changed(linked)
    notification, message = written("ITI-64", stored.body)
    assert [message.get(f"MSH-9-{n}") for n in (1, 2, 3)] == ["ADT", "A43", "ADT_A43"]
    assert message.get("MSH-3-2") == "1.2.616.9"  # the OID of the sending system
    ids = [(cx.get(1), cx.get(4, 2)) for cx in message.repetitions(message.all("PID")[0], 3)]
    assert ids == [("ABC", XAD), ("h|1", HOSPITAL)]
    prior = [(cx.get(1), cx.get(4, 2)) for cx in message.repetitions(message.all("MRG")[0], 1)]
    assert prior == [("XYZ", XAD), *([("h2", HOSPITAL)] if subsumed else [])]
    assert message.all("PID")[0].field(5) == " "
    roles = [
        dict(o.details)["urn:ihe:iti:xpid:2017:patientIdentifierType"] for o in notification.audit(stored.body, "1")
    ]
    assert roles == [
        "newPatientId",
        "localPatientId",
        "previousPatientId",
        *(["subsumedPatientId"] if subsumed else []),
    ]


def letter(body, transaction="ITI-10", number=31):
    return Letter(outbox_id=number, patient_key=7, transaction=transaction, destination="HIS", body=body, created_at=AT)


def test_control_id_fits_and_differs():
    ids = {letter(b"", number=n).control_id for n in (1, 31, 2**40)}
    assert len(ids) == 3
    assert all(len(i) <= 20 for i in ids)  # HL7 2.5: MSH-10


def receiver(exchange, transaction="ITI-10"):
    notification = next(n for n in NOTIFICATIONS if n.id == transaction)
    return NotifiedReceiver(
        notification,
        exchange,
        sender=SENDING.sender,
        receiver=SENDING.receiver,
        address="10.0.0.1:2575",
        authorities=NAMES,
    )


async def test_every_attempt_sends_the_same_bytes():
    sent = []

    async def exchange(_, message):
        sent.append(message.encode())
        return hl7v2.parse(b"MSH|^~\\&|||||||ACK|1|P|2.5\rMSA|AA|" + message.control_id.encode())

    [stored] = subscribers().changed(change(H1))
    for _ in range(2):
        await receiver(exchange).deliver(letter(stored.body))
    assert sent[0] == sent[1]


async def test_what_cannot_be_written_is_not_sent():
    async def exchange(*_):
        raise AssertionError("sent")

    event = receiver(exchange).audit(letter(b"\xc1"), Outcome.SERIOUS_FAILURE, "refused")
    assert (event.objects, event.destination_user) == ((), "Szpital|HIS")
    for body, transaction in ((b"\xc1", "ITI-10"), (b"\x80", "ITI-10"), (b"", "ITI-46")):
        with pytest.raises(Problem, match="NotificationRefused"):
            await receiver(exchange).deliver(letter(body, transaction))


def test_audit_names_where_it_went():
    [stored] = subscribers().changed(change(H1))
    event = receiver(None).audit(letter(stored.body), Outcome.SUCCESS)
    text = write_audit_message(event, recorded_at=AT, source_id="region", transaction_name="PIX Update Notification")
    record = etree.fromstring(text)
    assert record.find("EventIdentification").get("EventActionCode") == "R"
    assert record.find("EventIdentification/EventTypeCode").get("csd-code") == "ITI-10"
    source, destination = record.findall("ActiveParticipant")
    assert source.get("UserID") == "region|1.2.616.9"
    assert destination.get("UserID") == "Szpital|HIS"
    assert destination.get("NetworkAccessPointID") == "10.0.0.1"
    assert destination.get("NetworkAccessPointTypeCode") == "2"
    [*_, last] = record.iterfind("ParticipantObjectIdentification")
    detail = last.find("ParticipantObjectDetail")
    assert base64.b64decode(detail.get("value")).decode() == letter(b"").control_id


def test_as_others_write_it(shared: Path):
    """The same shape as the notifications that another implementation's tests carry."""
    folder = shared / "data/ihe/ipf/commons/ihe/hl7v3/src/test/resources/translation/pixupdatenotification/v2"
    found = [hl7v2.parse(path.read_bytes()) for path in sorted(folder.glob("*.hl7"))]
    assert found
    _, ours = written("ITI-10", subscribers().changed(change(H1))[0].body)
    for theirs in found:
        assert [s.name for s in ours.segments] == [s.name for s in theirs.segments]
        for path in ("MSH-9-1", "MSH-9-2", "MSH-9-3", "MSH-12", "EVN-1", "PV1-2"):
            assert ours.get(path) == theirs.get(path)
        assert ours.all("PID")[0].field(5) == theirs.all("PID")[0].field(5)
