"""Identity feeds, queries for identifiers and their answers in HL7 v3 (ITI TF-2:3.44, 3.45, 3.46)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId
from obieg.domain.notices import read_change
from obieg.domain.patients import CrossReferenceQuery, FeedEvent, PatientFeed
from obieg.domain.persons import Demographics
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.mapping.hl7v3 import (
    Asked,
    audited,
    control_act,
    interaction_id,
    opened,
    our_device,
    query_answer,
    query_of,
    registration,
    source_of,
)
from obieg.mapping.hl7v3_person import Reading, write_patient_id
from obieg.protocol import Sending, SoapQuestion, SoapReply, SoapRequest
from obieg.wire import hl7v3
from obieg.wire.hl7v3 import Device, InstanceId, child, children, is_null, location, write_id

QUERY_NAME = "PatientRegistryGetIdentifiersQuery"
AUTHORITIES_MAX = 100  # of one query
_ACCEPTED = ("CA", "AA")
_FAULTY = ("CE", "AE")
_PASSING = {"206", "207"}  # HL7 table 0357: the record is locked, the receiver failed within
# The domains may know the patient by different names, so none is told (TF-2:3.45.4.2.2.2).
_NAMELESS = '<patientPerson classCode="PSN" determinerCode="INSTANCE"><name nullFlavor="NA"/></patientPerson>'
_EVENTS = {"add": FeedEvent.ADD_PERSON, "revise": FeedEvent.UPDATE_PERSON, "merge": FeedEvent.MERGE}


# feeds ---------------------------------------------------------------------------------------------------------------


def read_feed(message: SoapRequest) -> Asked:
    """An added, revised or merged record; raises Problem with everything that is wrong with it.

    A merge states no demographics: its Person has a name only because the schema wants one (TF-2:3.44.4.2.2).
    """
    interaction, reading = opened(message, *_EVENTS)
    body, event = message.body, _EVENTS[interaction]
    registered = _registration(reading, body)
    patient = child(registered, "subject1", "patient")
    if patient is None:
        where = f"{location(registered)}/subject1/patient"
        reading.find("RequiredFieldMissing", "the message is about no patient", where)
        raise Problem(reading.findings)
    identifiers = _identifiers(reading, patient)
    merged = _merged(reading, registered) if event is FeedEvent.MERGE else {}
    values: dict[str, Any] = {}
    if event is not FeedEvent.MERGE and (person := child(patient, "patientPerson")) is not None:
        values = reading.demographics(person)
    if reading.findings:
        raise Problem(reading.findings)
    transmission = hl7v3.read_transmission(body)
    feed = PatientFeed(
        event=event,
        identifiers=tuple(identifiers),
        demographics=Demographics(**values),
        stated=tuple(values),
        merged=tuple(merged),
        identifier_locations=tuple(identifiers.values()),
        merged_locations=tuple(merged.values()),
        source=source_of(transmission),
    )
    return Asked(feed, str(transmission.id))


def _registration(reading: Reading, body: Any) -> Any:
    """The one registration event; a second patient would have no acknowledgement of its own."""
    found = children(body, "controlActProcess", "subject", "registrationEvent")
    if len(found) != 1:
        code = "SegmentSequenceError" if found else "RequiredFieldMissing"
        where = f"{location(body)}/controlActProcess/subject/registrationEvent"
        reading.find(code, f"one registration is expected, not {len(found)}; send one message for each patient", where)
        raise Problem(reading.findings)
    return found[0]


def _identifiers(reading: Reading, patient: Any) -> dict[PatientId, str]:
    """``id``, then those that other organisations know the person by."""
    before = len(reading.findings)
    others = children(patient, "patientPerson", "asOtherIDs", "id")
    found = reading.identifiers(children(patient, "id"))
    for identifier, where in reading.identifiers(others).items():
        found.setdefault(identifier, where)
    if not found and len(reading.findings) == before:
        reading.find("RequiredFieldMissing", "no patient identifier is given", f"{location(patient)}/id")
    return found


def _merged(reading: Reading, registered: Any) -> dict[PatientId, str]:
    """The identifiers that are obsolete now: one registration is replaced (TF-2:3.44.4.2.2.1)."""
    prior = children(registered, "replacementOf")
    where = f"{location(registered)}/replacementOf"
    if len(prior) != 1:
        code = "SegmentSequenceError" if prior else "RequiredFieldMissing"
        reading.find(code, f"one replaced registration is expected, not {len(prior)}", where)
        return {}
    before = len(reading.findings)
    found = reading.identifiers(children(prior[0], "priorRegistration", "subject1", "priorRegisteredRole", "id"))
    if not found and len(reading.findings) == before:
        where += "/priorRegistration/subject1/priorRegisteredRole/id"
        reading.find("RequiredFieldMissing", "the identifier that was merged is not given", where)
    return found


# queries -------------------------------------------------------------------------------------------------------------


def read_query(message: SoapRequest) -> Asked:
    """The question for identifiers; raises Problem with everything that is wrong with it."""
    _, reading = opened(message, "identifiers_query")
    query = query_of(reading, message.body)
    parameters = child(query, "parameterList")
    values = children(parameters, "patientIdentifier", "value")
    where = f"{location(parameters)}/patientIdentifier/value"
    identifier = None
    if len(values) != 1:
        code = "DataTypeError" if values else "RequiredFieldMissing"
        reading.find(code, f"one patient identifier is expected, not {len(values)}", where)
    else:
        where = location(values[0])
        identifier = reading.identifier(values[0], announced=False)
        if is_null(values[0]):
            reading.find("RequiredFieldMissing", "the identifier is null", where)
    domains = read_domains(reading, children(parameters, "dataSource", "value"))
    if reading.findings or identifier is None:
        raise Problem(reading.findings)
    asked = CrossReferenceQuery(
        identifier=identifier,
        authorities=tuple(domains),
        identifier_location=where,
        authority_locations=tuple(domains.values()),
        text=hl7v3.echo(query),
    )
    return Asked(asked, str(hl7v3.read_transmission(message.body).id))


def read_domains(reading: Reading, values: list[Any]) -> dict[str, str]:
    """The domains whose identifiers are wanted, each with the location where it stands first."""
    if len(values) > AUTHORITIES_MAX:
        where = location(values[0].getparent().getparent())
        reading.find("DataTypeError", f"more than {AUTHORITIES_MAX} domains are asked for", where)
        return {}
    domains: dict[str, str] = {}
    for value in values:
        if not is_null(value) and (authority := reading.authority(value, announced=False)):
            domains.setdefault(authority, location(value))
    return domains


def write_answer(found: Sequence[PatientId], message: SoapRequest) -> SoapReply:
    """OK with one registration that has the identifiers, or NF where there are none in the domains asked for."""
    if not found:
        return query_answer(message, "identifiers_answer", "NF")
    ids = "".join([write_patient_id("id", i, message.authorities) for i in found])
    patient = f'<patient classCode="PAT">{ids}<statusCode code="active"/>{_NAMELESS}</patient>'
    subject = registration(patient, our_device(message))
    return query_answer(message, "identifiers_answer", "OK", subjects=(subject,))


def write_refusal(findings: Sequence[Finding], message: SoapRequest) -> SoapReply:
    """AE, with each thing that is wrong and where (TF-2:3.45.4.2.3, cases 3 and 4)."""
    return query_answer(message, "identifiers_answer", "AE", findings=findings)


# notifications -------------------------------------------------------------------------------------------------------


def write_notification(body: bytes, sending: Sending) -> SoapQuestion:
    """PRPA_IN201302UV02 that tells which identifiers name one patient now, and no name (TF-2:3.46.4.1.2)."""
    identifiers = read_change(body).identifiers
    ids = "".join([write_patient_id("id", i, sending.authorities) for i in identifiers])
    # The facility is a name, and a represented organization would need an OID.
    sender, receiver = (Device(InstanceId(names[0])) for names in (sending.sender, sending.receiver))
    patient = f'<patient classCode="PAT">{ids}<statusCode code="active"/>{_NAMELESS}</patient>'
    written = hl7v3.write_message(
        interaction_id("revise"),
        id=InstanceId(sending.sender[0], sending.control_id),
        at=sending.at,
        sender=sender,
        receiver=receiver,
        accept_ack="AL",
        content=control_act("revise", (registration(patient, write_id("id", sender.id)),)),
    )
    return SoapQuestion(written)


def read_acknowledgement(answer: SoapRequest) -> None:
    """Returns where a notification was accepted.

    Raises Problem where the receiver finds it wrong, RetryLater where the reason passes or no acknowledgement is given.
    """
    said = hl7v3.read_acknowledgement(answer.body)
    if said.code in _ACCEPTED:
        return
    what = "; ".join([" ".join(filter(None, detail[:3])) for detail in said.details]) or "it does not say why"
    passes = bool(said.details) and {detail.code for detail in said.details} <= _PASSING
    if said.code in _FAULTY and not passes:
        raise Problem.of("NotificationRefused", f"the receiver answers {said.code}: {what}", "acknowledgement")
    raise RetryLater(f"the receiver answers {said.code or 'without an acknowledgement'}: {what}")


def audit_notification(body: bytes, control_id: str) -> tuple[AuditObject, ...]:
    """The identifiers, the affinity-domain id first where it is told (TF-2:3.46.5.1.1)."""
    change = read_change(body)
    identifiers = sorted(change.identifiers, key=lambda i: i != change.patient)
    return audited([AuditObject("patient", str(i)) for i in identifiers], control_id)
