"""Update notifications of a patient's identifiers in HL7 v2: ADT^A31 (ITI TF-2:3.10.4.1.2)."""

from __future__ import annotations

from collections.abc import Iterable

from obieg.domain.audit import AuditObject
from obieg.domain.authorities import Authorities
from obieg.domain.identifiers import PatientId, is_oid
from obieg.domain.notices import read_change
from obieg.mapping.pid import write_cx
from obieg.protocol import Sending
from obieg.wire.hl7v2 import Message, Segment, field, request_header

# No name is told, because the domains may know the patient by different ones (ITI TF-2:3.10.4.1.2.3).
NO_NAME = " "


def write(body: bytes, sending: Sending) -> Message:
    """The identifiers in the receiver's domains of interest, those of one domain one after the other."""
    change = read_change(body)
    order = {authority: n for n, authority in enumerate(dict.fromkeys(i.authority for i in change.identifiers))}
    identifiers = sorted(change.identifiers, key=lambda i: order[i.authority])
    return Message(
        (
            *head(("ADT", "A31", "ADT_A05"), sending),
            Segment("PID", ("", "", cx(identifiers, sending.authorities), "", NO_NAME)),
            Segment("PV1", ("", "N")),
        )
    )


def audit(body: bytes, control_id: str) -> tuple[AuditObject, ...]:
    """The components of PID-3, the affinity-domain id first where it is told (ITI TF-2:3.10.5.1.1)."""
    change = read_change(body)
    identifiers = sorted(change.identifiers, key=lambda i: i != change.patient)
    return tuple(AuditObject("patient", str(i), details=(("MSH-10", control_id),)) for i in identifiers)


def head(kind: tuple[str, ...], sending: Sending) -> tuple[Segment, Segment]:
    """MSH and EVN (ITI TF-2 C.2.2, C.2.4); MSH-3 names this system by its OID as well (ITI TF-2:3.64.4.1.2.1)."""
    oid, name = sending.sender
    header = request_header(kind, control_id=sending.control_id, at=sending.at, sender=("", name))
    fields = list(header.fields)
    fields[2] = field((name, oid, "ISO"))
    application, facility = sending.receiver
    fields[4] = field(("", application, "ISO") if is_oid(application) else application)
    fields[5] = field(facility)
    return Segment("MSH", tuple(fields)), Segment("EVN", (kind[1], sending.at.strftime("%Y%m%d%H%M%S+0000")))


def cx(identifiers: Iterable[PatientId], authorities: Authorities) -> str:
    """A field of identifiers, each with the whole of its assigning authority."""
    return field(*[write_cx(i, authorities) for i in identifiers])
