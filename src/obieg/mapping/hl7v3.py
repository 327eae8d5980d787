"""What all HL7 v3 messages of the patient index have in common: what they must hold, and how they are answered.

Feeds and cancels are answered with an accept acknowledgement (CA; CE where the content, CR where the kind of message is
refused), queries with their own answer, which acknowledges as the application (AA, AE) and repeats the question
(ITI TF-2:3.44.4.1.3, 3.45.4.2.3, 3.47.4.2.3, Appendix O). Answers are addressed to the sender by the device that it
wrote to, so that one node may stand for several.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from obieg.codes.load import toml
from obieg.domain.audit import AuditObject
from obieg.domain.problems import Finding, Problem
from obieg.mapping.hl7v3_person import Reading
from obieg.protocol import SoapReply, SoapRequest
from obieg.wire import hl7v3
from obieg.wire.hl7v3 import (
    Acknowledgement,
    Detail,
    InstanceId,
    Transmission,
    child,
    local_name,
    tag,
    value_of,
    write_id,
)

_TABLE = toml("hl7v3.toml")
_INTERACTION: dict[str, dict[str, str]] = _TABLE["interaction"]
_PROBLEMS = toml("problems.toml")
_IMMEDIATE = "I"
_NOT_SUPPORTED = {"MessageNotReadable", "UnsupportedEventCode", "UnsupportedProcessingMode"}
# The index says which component of an HL7 v2 identifier is unknown; in v3 both are attributes of one element.
_COMPONENT = re.compile(r"(?<=[\w\]])-[14]\Z")
CANCEL_SUFFIX = "_Cancel"  # of the element and the action
CONTINUE_SUFFIX = "_Continue"  # of the action only


class Asked(NamedTuple):
    """What a message asks for, and the name of the message, for the audit record."""

    value: Any
    message_id: str


def element_of(interaction: str) -> tuple[str, str]:
    """Namespace and name of the element in the Body."""
    return hl7v3.NS, _INTERACTION[interaction]["id"]


def action_of(interaction: str) -> str:
    """The action of a message."""
    return f"{hl7v3.NS}:{_INTERACTION[interaction]['id']}"


# reading -------------------------------------------------------------------------------------------------------------


def opened(message: SoapRequest, *interactions: str) -> tuple[str, Reading]:
    """Which of the interactions the message is, and what reads it.

    Raises Problem for a Body with another element than the action promises, and for another interactionId.
    """
    body = message.body
    names = {_INTERACTION[i]["id"]: i for i in interactions}
    name = local_name(body).removesuffix(CANCEL_SUFFIX)
    promised = message.action.rpartition(f"{hl7v3.NS}:")[2].partition(":")[0].removesuffix(CONTINUE_SUFFIX)
    if body.tag != tag(local_name(body)) or name not in names:
        said = f"the Body must hold {' or '.join(names)} in {hl7v3.NS}, it holds {body.tag}"
        raise Problem.of("MessageNotReadable", said, "Body")
    if promised and promised != local_name(body):
        raise Problem.of(
            "MessageNotReadable", f"the action promises {promised}, the Body holds {local_name(body)}", "Body"
        )
    said_id = hl7v3.read_id(child(body, "interactionId")).extension
    if said_id.removesuffix(CANCEL_SUFFIX) != name:
        where = hl7v3.location(body) + "/interactionId"
        raise Problem.of(
            "UnsupportedEventCode", f"the interaction is {said_id or 'missing'!r} and should be {name}", where
        )
    reading = Reading(message.authorities)
    _check_wrapper(reading, body)
    return names[name], reading


def _check_wrapper(reading: Reading, body: Any) -> None:
    transmission = hl7v3.read_transmission(body)
    where = hl7v3.location(body)
    for what, present in (
        ("id", transmission.id.root),
        ("sender/device/id", transmission.sender.id.root),
        ("receiver/device/id", transmission.receiver.id.root),
    ):
        if not present:
            reading.find("RequiredFieldMissing", "without it the message cannot be answered", f"{where}/{what}")
    if (mode := child(body, "processingModeCode")) is not None and value_of(mode, "code") != "T":
        reading.find("UnsupportedProcessingMode", "only current processing (T) is done here", mode)


def query_of(reading: Reading, body: Any) -> Any:
    """``queryByParameter``; raises Problem where there is none, or none that can be answered at once."""
    query = child(body, "controlActProcess", "queryByParameter")
    parameters = child(query, "parameterList")
    where = f"{hl7v3.location(body)}/controlActProcess/queryByParameter"
    if query is None or parameters is None:
        reading.find("RequiredFieldMissing", "there is no query", where if query is None else f"{where}/parameterList")
        raise Problem(reading.findings)
    if not hl7v3.read_id(child(query, "queryId")).root:
        reading.find("RequiredFieldMissing", "without a query id no answer can be told apart", f"{where}/queryId")
    priority = child(query, "responsePriorityCode")
    if priority is not None and value_of(priority, "code") not in ("", _IMMEDIATE):
        reading.find("UnsupportedProcessingMode", "answers are given at once only: send I", priority)
    return query


def source_of(transmission: Transmission) -> str:
    """Who speaks: organisation|device."""
    return f"{transmission.sender.organisation}|{transmission.sender.id}"


def audited(objects: Iterable[AuditObject], message_id: str) -> tuple[AuditObject, ...]:
    """The objects with the name of the message (type II in ITI TF-2:3.44.5.1 and its siblings)."""
    return tuple(AuditObject(o.kind, o.identifier, o.query, (*o.details, ("II", message_id))) for o in objects)


# writing -------------------------------------------------------------------------------------------------------------


def interaction_id(interaction: str) -> InstanceId:
    """The II of an interaction."""
    return InstanceId(_TABLE["interaction_root"], _INTERACTION[interaction]["id"])


def control_act(interaction: str, content: Sequence[str | bytes]) -> tuple[str | bytes, ...]:
    """``controlActProcess`` of an interaction."""
    code = hl7v3.coded("code", _INTERACTION[interaction]["trigger"], _TABLE["interaction_root"])
    return (f'<controlActProcess classCode="CACT" moodCode="EVN">{code}', *content, "</controlActProcess>")


def acknowledgement(message: SoapRequest, findings: Sequence[Finding] = ()) -> SoapReply:
    """The accept acknowledgement of a feed or a cancel (MCCI_IN000002UV01)."""
    code = "CA"
    if findings:
        code = "CR" if any(f.code in _NOT_SUPPORTED for f in findings) else "CE"
    return answer(message, "acknowledgement", code, findings)


def answer(
    message: SoapRequest,
    interaction: str,
    code: str,
    findings: Sequence[Finding] = (),
    content: Sequence[str | bytes] = (),
) -> SoapReply:
    """An answer to the message; ``content`` is its control act."""
    asked = hl7v3.read_transmission(message.body)
    written = hl7v3.write_message(
        interaction_id(interaction),
        id=InstanceId(str(uuid.UUID(message.request_id))),
        at=message.received_at,
        sender=asked.receiver,
        receiver=asked.sender,
        accept_ack="NE",
        processing_code=asked.processing_code or "P",
        acknowledgement=Acknowledgement(code, asked.id, tuple(map(_detail, findings))),
        content=content,
    )
    return SoapReply(written)


def _detail(finding: Finding) -> Detail:
    row = _PROBLEMS.get(finding.code, _PROBLEMS["XDSRegistryError"])
    location = _COMPONENT.sub("", finding.location)
    return Detail(row["hl7"], finding.detail, location, "W" if finding.warning else "E")


def query_answer(
    message: SoapRequest,
    interaction: str,
    response_code: str,
    *,
    findings: Sequence[Finding] = (),
    subjects: Sequence[str] = (),
    issues: str = "",
    quantities: tuple[int, int, int] | None = None,
) -> SoapReply:
    """An answer to a query: ``response_code`` is OK, NF or AE; ``quantities`` are total, in this answer and left."""
    control = child(message.body, "controlActProcess")
    asked = child(control, "queryByParameter")
    query = asked if asked is not None else child(control, "queryContinuation")
    counted = ""
    if quantities is not None:
        names = ("resultTotalQuantity", "resultCurrentQuantity", "resultRemainingQuantity")
        counted = "".join([f'<{n} value="{v}"/>' for n, v in zip(names, quantities, strict=True)])
    status = "aborted" if response_code == "AE" else "deliveredResponse"
    ack = (
        f"<queryAck>{write_id('queryId', hl7v3.read_id(child(query, 'queryId')))}"
        f'<statusCode code="{status}"/><queryResponseCode code="{response_code}"/>{counted}</queryAck>'
    )
    echoed = hl7v3.echo(asked) if asked is not None else b""
    content = control_act(interaction, (*subjects, issues, ack, echoed))
    return answer(message, interaction, "AE" if response_code == "AE" else "AA", findings, content)


def registration(patient: str, custodian: str) -> str:
    """``subject`` with one registration event; ``custodian`` is the content of its ``assignedEntity``."""
    return (
        '<subject typeCode="SUBJ" contextConductionInd="false"><registrationEvent classCode="REG" moodCode="EVN">'
        f'<id nullFlavor="NA"/><statusCode code="active"/><subject1 typeCode="SBJ">{patient}</subject1>'
        f'<custodian typeCode="CST"><assignedEntity classCode="ASSIGNED">{custodian}</assignedEntity></custodian>'
        "</registrationEvent></subject>"
    )


def our_device(message: SoapRequest) -> str:
    """``id`` of the device that the message was sent to."""
    return write_id("id", hl7v3.read_transmission(message.body).receiver.id)


def provider(root: str) -> str:
    """``providerOrganization``: the authority that the patient's identifiers are of."""
    return (
        f'<providerOrganization classCode="ORG" determinerCode="INSTANCE">{write_id("id", InstanceId(root))}'
        '<contactParty classCode="CON" nullFlavor="NI"/></providerOrganization>'
    )


def other_ids(identifier: str, root: str) -> str:
    """``asOtherIDs`` with an identifier that is written already, of the authority ``root``."""
    return (
        f'<asOtherIDs classCode="PAT">{identifier}<scopingOrganization classCode="ORG" determinerCode="INSTANCE">'
        f"{write_id('id', InstanceId(root))}</scopingOrganization></asOtherIDs>"
    )
