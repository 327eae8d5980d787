"""Notifications that a local identifier is linked to another affinity-domain id: ADT^A43 (ITI TF-2:3.64.4.1.2)."""

from __future__ import annotations

from obieg.domain.audit import AuditObject
from obieg.domain.identifiers import PatientId
from obieg.domain.notices import read_change
from obieg.domain.problems import Problem
from obieg.mapping.pix_update import NO_NAME, cx, head
from obieg.protocol import Sending
from obieg.wire.hl7v2 import Message, Segment

_ROLE = "urn:ihe:iti:xpid:2017:patientIdentifierType"  # ITI TF-2:3.64.5.1.1


def write(body: bytes, sending: Sending) -> Message:
    """PID-3: new XAD-PID and local id; MRG-1: previous XAD-PID and, after a merge, the subsumed local id."""
    new, local, previous, subsumed = _parts(body)
    return Message(
        (
            *head(("ADT", "A43", "ADT_A43"), sending),
            Segment("PID", ("", "", cx((new, local), sending.authorities), "", NO_NAME)),
            Segment("MRG", (cx((previous, *((subsumed,) if subsumed else ())), sending.authorities),)),
        )
    )


def audit(body: bytes, control_id: str) -> tuple[AuditObject, ...]:
    """Each identifier with the part that it plays."""
    new, local, previous, subsumed = _parts(body)
    roles = (
        ("newPatientId", new),
        ("localPatientId", local),
        ("previousPatientId", previous),
        ("subsumedPatientId", subsumed),
    )
    return tuple(
        AuditObject("patient", str(identifier), details=(("MSH-10", control_id), (_ROLE, role)))
        for role, identifier in roles
        if identifier is not None
    )


def _parts(body: bytes) -> tuple[PatientId, PatientId, PatientId, PatientId | None]:
    change = read_change(body)
    if change.former is None or len(change.moved) != 1:
        raise Problem.of("NotificationRefused", "the stored message does not tell of one moved identifier")
    [moved] = change.moved
    return change.patient, moved.identifier, change.former, moved.subsumed
