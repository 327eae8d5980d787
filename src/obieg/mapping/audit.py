"""Audit events as DICOM AuditMessage XML (DICOM PS3.15 A.5.1, the successor of RFC 3881; ITI TF-2:3.20)."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from functools import cache
from typing import Any

from obieg.codes.load import toml
from obieg.domain.audit import (
    AuditCode,
    AuditedObject,
    AuditEvent,
    AuditMessage,
    AuditObject,
    AuditParticipant,
)
from obieg.domain.requester import Requester
from obieg.wire.xml import XmlLimits, XmlRefused, attribute, parse_message, text

_TABLE = toml("audit.toml")
_ANSWERS_AS_SOURCE = frozenset(name for name, row in _TABLE["event"].items() if row.get("answers_as_source"))
_ROLES = "obieg role"
_IP = re.compile(r"[\d.]+|[0-9a-fA-F:]*:[0-9a-fA-F:.]+", re.ASCII)
LIMITS = XmlLimits(bytes_max=4 * 1024 * 1024, depth_max=16, attributes_max=40, tags_max=50_000)
DCM = "DCM"
SOURCE, DESTINATION = "110153", "110152"
# How the caller proved who asks, where that is told with a token of its own: the kind of object that says so.
TOKENS = {"saml": "saml_token", "oauth": "oauth_token", "session": "session", "link": "health_link"}
_STATED = "statement"  # of a person whom a system names, where nothing of the person's own proves it (XACML)
_SOURCE = '<RoleIDCode csd-code="110153" codeSystemName="DCM" originalText="Source Role ID"/>'
_DESTINATION = '<RoleIDCode csd-code="110152" codeSystemName="DCM" originalText="Destination Role ID"/>'


def write_audit_message(event: AuditEvent, *, recorded_at: datetime, source_id: str, transaction_name: str) -> str:
    """The AuditMessage. ``source_id`` names this node; ``recorded_at`` carries its offset."""
    parts = [
        "<AuditMessage>",
        _identification(event.event, event.transaction, transaction_name, event.outcome.value, recorded_at.isoformat()),
    ]
    if event.detail:
        parts.append(f"<EventOutcomeDescription>{attribute(event.detail)}</EventOutcomeDescription>")
    parts.append("</EventIdentification>")
    # Who gives out data is its source, though the other one asked (DICOM PS3.15 A.5.3.5, ITI TF-2:3.43.5.1).
    answers = event.event in _ANSWERS_AS_SOURCE
    asking = event.source_user or event.source_address or "unknown"
    parts.append(_participant(asking, event.source_address, _DESTINATION if answers else _SOURCE, requestor="true"))
    proof = event.proof
    if proof is not None and proof.proof not in TOKENS and not proof.person:
        proof = None
    if proof is not None and proof.person:
        parts.append(_person(proof))
    elif event.requester and event.requester != event.source_user:
        parts.append(f'<ActiveParticipant UserID="{attribute(event.requester)}" UserIsRequestor="true"/>')
    answering = event.destination_user or source_id
    parts.append(
        _participant(answering, event.destination_address, _SOURCE if answers else _DESTINATION, requestor="false")
    )
    parts.append(f'<AuditSourceIdentification AuditSourceID="{attribute(source_id)}"/>')
    parts += [_object(o) for o in event.objects]
    if proof is not None:
        parts.append(_object(_token(proof)))
    parts.append("</AuditMessage>")
    return "".join(parts)


def says_by(message: str, person: str) -> bool:
    """Whether an AuditMessage of :func:`write_audit_message` names this person as a participant, without reading it."""
    return f'<ActiveParticipant UserID="{attribute(person)}"' in message


def _person(proof: Requester) -> str:
    """The user whom a token names (ITI TF-2:3.40.4.2): UserName is alias<user@issuer>."""
    name = f"{proof.person_name}<{proof.person}@{proof.issuer}>" if proof.issuer else proof.person_name
    role = f'<RoleIDCode csd-code="{attribute(proof.role)}" codeSystemName="{_ROLES}"/>' if proof.role else ""
    return (
        f'<ActiveParticipant UserID="{attribute(proof.person)}"'
        + (f' UserName="{attribute(name)}"' if name else "")
        + f' UserIsRequestor="true">{role}</ActiveParticipant>'
    )


def _token(proof: Requester) -> AuditObject:
    """What else the proof says, as an object of its own: DICOM's participants have no place for it."""
    said = {
        "issuer": proof.issuer,
        "client": proof.system,
        "name": proof.person_name,
        "organisation": proof.organisation,
        "child organisation": proof.child_organisation,
        "purpose of use": proof.purpose_of_use,
        "patient": proof.patient,
        "acting for": proof.acting_for,
        "acting for name": proof.acting_for_name,
        "assurance": proof.assurance,
        "scopes": " ".join(proof.scopes or ()),
    }
    return AuditObject(
        TOKENS.get(proof.proof, _STATED), proof.token or "unknown", details=tuple((n, v) for n, v in said.items() if v)
    )


def _identification(event: str, transaction: str, name: str, outcome: str, when: str) -> str:
    head, middle = _event_codes(event, transaction, name)
    return f'{head} EventDateTime="{when}" EventOutcomeIndicator="{outcome}">{middle}'


@cache
def _event_codes(event: str, transaction: str, name: str) -> tuple[str, str]:
    if (activity := _TABLE["activity"].get(transaction)) is not None:
        code, system, display, event = activity
    else:
        # What FHIR or this node calls an act of its own is no transaction of IHE.
        code, display = transaction, name
        system = "IHE Transactions" if transaction.startswith("ITI-") else "obieg"
    row = _TABLE["event"][event]
    return (
        f'<EventIdentification EventActionCode="{row["action"]}"',
        (
            f'<EventID csd-code="{row["code"]}" codeSystemName="DCM" originalText="{row["display"]}"/>'
            f'<EventTypeCode csd-code="{attribute(code)}" codeSystemName="{system}" '
            f'originalText="{attribute(display)}"/>'
        ),
    )


def _participant(user: str, address: str, role: str, *, requestor: str) -> str:
    return (
        f'<ActiveParticipant UserID="{attribute(user)}" UserIsRequestor="{requestor}"{_network(address)}>'
        f"{role}</ActiveParticipant>"
    )


def _network(address: str) -> str:
    """NetworkAccessPointTypeCode 1 is a machine's name, 2 an IP address (DICOM PS3.15 A.5.2)."""
    if not address:
        return ""
    kind = "2" if _IP.fullmatch(address) else "1"
    return f' NetworkAccessPointID="{attribute(address)}" NetworkAccessPointTypeCode="{kind}"'


@cache
def _object_codes(kind: str) -> tuple[str, str]:
    row = _TABLE["object"][kind]
    code, system, display = row["id_type"]
    return (
        f'ParticipantObjectTypeCode="{row["type"]}" ParticipantObjectTypeCodeRole="{row["role"]}"',
        f'<ParticipantObjectIDTypeCode csd-code="{code}" codeSystemName="{system}" originalText="{display}"/>',
    )


def _object(value: AuditObject) -> str:
    codes, id_type = _object_codes(value.kind)
    query = f"<ParticipantObjectQuery>{b64encode(value.query).decode()}</ParticipantObjectQuery>" if value.query else ""
    details = "".join(
        [
            f'<ParticipantObjectDetail type="{attribute(name)}" value="{b64encode(content.encode()).decode()}"/>'
            for name, content in value.details
        ]
    )
    return (
        f'<ParticipantObjectIdentification ParticipantObjectID="{attribute(value.identifier)}" {codes}>'
        f"{id_type}{query}{details}</ParticipantObjectIdentification>"
    )


# reading ---------------------------------------------------------------------------------------------------------


class AuditUnreadable(Exception):  # noqa: N818
    """The bytes are no audit message; the text says why."""


def read_audit_message(data: bytes | str) -> AuditMessage:
    """An AuditMessage, whoever wrote it: DICOM (``csd-code``) or RFC 3881 (``code``). Raises AuditUnreadable."""
    try:
        root = parse_message(data.encode() if isinstance(data, str) else data, LIMITS)
    except XmlRefused as error:
        raise AuditUnreadable(str(error)) from None
    if _local(root) != "AuditMessage":
        raise AuditUnreadable(f"an AuditMessage is expected, not {_local(root)[:64]!r}")
    event = next(_children(root, "EventIdentification"), None)
    if event is None:
        raise AuditUnreadable("AuditMessage has no EventIdentification")
    event_id = next(_children(event, "EventID"), None)
    outcome = event.get("EventOutcomeIndicator", "")
    if event_id is None or outcome not in ("0", "4", "8", "12"):
        raise AuditUnreadable("EventIdentification lacks EventID or EventOutcomeIndicator")
    source = next(_children(root, "AuditSourceIdentification"), None)
    return AuditMessage(
        event=_read_code(event_id),
        action=event.get("EventActionCode", ""),
        outcome=outcome,
        recorded=_read_time(event.get("EventDateTime", "")),
        outcome_detail=next((e.text or "" for e in _children(event, "EventOutcomeDescription")), ""),
        types=tuple(map(_read_code, _children(event, "EventTypeCode"))),
        purposes=tuple(map(_read_code, _children(event, "PurposeOfUse"))),
        participants=tuple(map(_read_participant, _children(root, "ActiveParticipant"))),
        source_id="" if source is None else source.get("AuditSourceID", ""),
        source_site="" if source is None else source.get("AuditEnterpriseSiteID", ""),
        source_types=() if source is None else tuple(map(_read_code, _children(source, "AuditSourceTypeCode"))),
        objects=tuple(map(_read_object, _children(root, "ParticipantObjectIdentification"))),
    )


def _local(node: Any) -> str:
    return str(node.tag).rpartition("}")[2]


def _children(node: Any, name: str) -> Any:
    return (child for child in node if _local(child) == name)


def _read_code(node: Any) -> AuditCode:
    get = node.get
    return AuditCode(
        get("csd-code") or get("code") or "",
        get("codeSystemName") or get("codeSystem") or "",
        get("originalText") or get("displayName") or "",
    )


def _read_time(value: str) -> datetime:
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        raise AuditUnreadable(f"EventDateTime {value[:40]!r} is no time") from None
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def _read_participant(node: Any) -> AuditParticipant:
    return AuditParticipant(
        user_id=node.get("UserID", ""),
        is_requestor=node.get("UserIsRequestor", "true") == "true",
        roles=tuple(map(_read_code, _children(node, "RoleIDCode"))),
        user_name=node.get("UserName", ""),
        alternative_user_id=node.get("AlternativeUserID", ""),
        network_address=node.get("NetworkAccessPointID", ""),
        network_type=node.get("NetworkAccessPointTypeCode", ""),
    )


def _read_object(node: Any) -> AuditedObject:
    id_type = next(_children(node, "ParticipantObjectIDTypeCode"), None)
    return AuditedObject(
        identifier=node.get("ParticipantObjectID", ""),
        id_type=AuditCode("") if id_type is None else _read_code(id_type),
        type=node.get("ParticipantObjectTypeCode", ""),
        role=node.get("ParticipantObjectTypeCodeRole", ""),
        lifecycle=node.get("ParticipantObjectDataLifeCycle", ""),
        sensitivity=node.get("ParticipantObjectSensitivity", ""),
        name=next((e.text or "" for e in _children(node, "ParticipantObjectName")), ""),
        query=_read_base64(next((e.text or "" for e in _children(node, "ParticipantObjectQuery")), "")),
        details=tuple(
            (e.get("type", ""), _read_base64(e.get("value", ""))) for e in _children(node, "ParticipantObjectDetail")
        ),
    )


def _read_base64(value: str) -> bytes:
    """Senders forget to encode: what is no base64 is taken as it stands."""
    try:
        return b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return value.encode()


# writing a message of others -------------------------------------------------------------------------------------


def write_message(message: AuditMessage) -> str:
    """Any audit message as DICOM has it, such as one that came over FHIR."""
    parts = [
        "<AuditMessage><EventIdentification"
        + _attributes(
            EventActionCode=message.action,
            EventDateTime=message.recorded.isoformat(),
            EventOutcomeIndicator=message.outcome,
        )
        + ">",
        _code("EventID", message.event),
        *(_code("EventTypeCode", c) for c in message.types),
    ]
    if message.outcome_detail:
        parts.append(f"<EventOutcomeDescription>{text(message.outcome_detail)}</EventOutcomeDescription>")
    parts += [*(_code("PurposeOfUse", c) for c in message.purposes), "</EventIdentification>"]
    for p in message.participants:
        parts.append(
            "<ActiveParticipant"
            + _attributes(
                UserID=p.user_id or "unknown",
                AlternativeUserID=p.alternative_user_id,
                UserName=p.user_name,
                UserIsRequestor="true" if p.is_requestor else "false",
                NetworkAccessPointID=p.network_address,
                NetworkAccessPointTypeCode=p.network_type,
            )
            + ">"
        )
        parts += [*(_code("RoleIDCode", c) for c in p.roles), "</ActiveParticipant>"]
    source = _attributes(AuditEnterpriseSiteID=message.source_site, AuditSourceID=message.source_id or "unknown")
    parts.append(f"<AuditSourceIdentification{source}>")
    parts += [*(_code("AuditSourceTypeCode", c) for c in message.source_types), "</AuditSourceIdentification>"]
    parts += map(_written_object, message.objects)
    parts.append("</AuditMessage>")
    return "".join(parts)


def _written_object(o: AuditedObject) -> str:
    named = ""
    if o.query:
        named = f"<ParticipantObjectQuery>{b64encode(o.query).decode()}</ParticipantObjectQuery>"
    elif o.name:
        named = f"<ParticipantObjectName>{text(o.name)}</ParticipantObjectName>"
    head = _attributes(
        ParticipantObjectID=o.identifier or "unknown",
        ParticipantObjectTypeCode=o.type,
        ParticipantObjectTypeCodeRole=o.role,
        ParticipantObjectDataLifeCycle=o.lifecycle,
        ParticipantObjectSensitivity=o.sensitivity,
    )
    details = "".join(
        f'<ParticipantObjectDetail type="{attribute(n)}" value="{b64encode(v).decode()}"/>' for n, v in o.details
    )
    return (
        f"<ParticipantObjectIdentification{head}>{_code('ParticipantObjectIDTypeCode', o.id_type)}{named}{details}"
        "</ParticipantObjectIdentification>"
    )


def _code(tag: str, code: AuditCode) -> str:
    said = {"csd-code": code.code, "codeSystemName": code.system, "originalText": code.display or code.code}
    return f"<{tag}{_attributes(**said)}/>"


def _attributes(**values: str) -> str:
    return "".join(f' {name}="{attribute(value)}"' for name, value in values.items() if value)
