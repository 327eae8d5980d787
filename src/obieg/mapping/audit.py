"""Audit events as DICOM AuditMessage XML (DICOM PS3.15 A.5.1, the successor of RFC 3881; ITI TF-2:3.20)."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import datetime
from functools import cache

from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent, AuditObject
from obieg.wire.xml import attribute

_TABLE = toml("audit.toml")
_IP = re.compile(r"[\d.]+|[0-9a-fA-F:]*:[0-9a-fA-F:.]+")
_SOURCE = '<RoleIDCode csd-code="110153" codeSystemName="DCM" originalText="Source Role ID"/>'
_DESTINATION = '<RoleIDCode csd-code="110152" codeSystemName="DCM" originalText="Destination Role ID"/>'


def write_audit_message(event: AuditEvent, *, recorded_at: datetime, source_id: str, transaction_name: str) -> str:
    """The AuditMessage. ``source_id`` names this node; ``recorded_at`` carries its offset."""
    destination = attribute(event.destination_user or source_id)
    parts = [
        "<AuditMessage>",
        _identification(event.event, event.transaction, transaction_name, event.outcome.value, recorded_at.isoformat()),
    ]
    if event.detail:
        parts.append(f"<EventOutcomeDescription>{attribute(event.detail)}</EventOutcomeDescription>")
    parts.append("</EventIdentification>")
    parts.append(_participant(event.source_user or event.source_address or "unknown", event.source_address, _SOURCE))
    if event.requester and event.requester != event.source_user:
        parts.append(f'<ActiveParticipant UserID="{attribute(event.requester)}" UserIsRequestor="true"/>')
    network = _network(event.destination_address)
    parts.append(
        f'<ActiveParticipant UserID="{destination}" UserIsRequestor="false"{network}>{_DESTINATION}</ActiveParticipant>'
    )
    parts.append(f'<AuditSourceIdentification AuditSourceID="{attribute(source_id)}"/>')
    parts += [_object(o) for o in event.objects]
    parts.append("</AuditMessage>")
    return "".join(parts)


def _identification(event: str, transaction: str, name: str, outcome: str, when: str) -> str:
    head, middle = _event_codes(event, transaction, name)
    return f'{head} EventDateTime="{when}" EventOutcomeIndicator="{outcome}">{middle}'


@cache
def _event_codes(event: str, transaction: str, name: str) -> tuple[str, str]:
    row = _TABLE["event"][event]
    return (
        f'<EventIdentification EventActionCode="{row["action"]}"',
        (
            f'<EventID csd-code="{row["code"]}" codeSystemName="DCM" originalText="{row["display"]}"/>'
            f'<EventTypeCode csd-code="{attribute(transaction)}" codeSystemName="IHE Transactions" '
            f'originalText="{attribute(name)}"/>'
        ),
    )


def _participant(user: str, address: str, role: str) -> str:
    return (
        f'<ActiveParticipant UserID="{attribute(user)}" UserIsRequestor="true"{_network(address)}>'
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
