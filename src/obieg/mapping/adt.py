"""ADT messages as the domain understands them (ITI TF-2:3.8.4.1.2, 3.8.4.2.2, 3.30.4, 3.64.4).

PID says who it is about (:mod:`obieg.mapping.pid`), and MRG-1 which identifiers are merged into it (A40), moved to it
(A43) or replaced by it (A47). A registry ignores the rest of the message.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from obieg.domain.audit import AuditObject
from obieg.domain.authorities import Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import FeedEvent, PatientFeed
from obieg.domain.persons import Demographics
from obieg.domain.problems import Problem
from obieg.mapping.pid import Reading
from obieg.wire.hl7v2 import Message, Segment, request_header

_OF_TWO = (FeedEvent.MERGE, FeedEvent.MOVE, FeedEvent.CHANGE_IDENTIFIERS)


def patient_feed(message: Message, authorities: Authorities) -> PatientFeed:
    """Reads the feed; raises :class:`Problem` with everything that is wrong with it."""
    reading = Reading(message, authorities)
    event = FeedEvent(message.event)
    pid = reading.segment("PID")
    identifiers = reading.identifiers(pid, 3) if pid else {}
    merged: dict[PatientId, str] = {}
    if event in _OF_TWO and (mrg := reading.segment("MRG")):
        merged = reading.identifiers(mrg, 1)
    values = reading.demographics(pid) if pid else {}
    if reading.findings:
        raise Problem(reading.findings)
    return PatientFeed(
        event=event,
        identifiers=tuple(identifiers),
        demographics=Demographics(**values),
        stated=tuple(values),
        merged=tuple(merged),
        identifier_locations=tuple(identifiers.values()),
        merged_locations=tuple(merged.values()),
        source=source(message),
    )


def audit(feed: PatientFeed) -> tuple[AuditObject, ...]:
    """The patients of PID-3, and of MRG-1 in a merge (ITI TF-2:3.8.5.1, 3.30.5.1); the edge adds MSH-10."""
    return tuple(AuditObject(kind="patient", identifier=str(i)) for i in (*feed.identifiers, *feed.merged))


def source(message: Message) -> str:
    """Who speaks: facility|application (MSH-4, MSH-3)."""
    return f"{message.get('MSH-4').strip()}|{message.get('MSH-3').strip()}"


# sending -------------------------------------------------------------------------------------------------------------

VERSION_SENT = "2.3.1"  # ITI TF-2:3.8.3


def write_feed(
    event: FeedEvent, patient_info: Iterable[str], *, control_id: str, at: datetime, sender: tuple[str, str]
) -> Message:
    """A feed of what ``patient_info`` says: values of sourcePatientInfo, ``PID-n|`` and the field, already escaped."""
    fields = [""] * 30
    for line in patient_info:
        place, _, value = line.partition("|")
        number = int(place.removeprefix("PID-")) - 1
        fields[number] = f"{fields[number]}~{value}" if fields[number] else value
    while not fields[-1]:
        fields.pop()
    return Message(
        (
            request_header(
                ("ADT", event, "ADT_A01"), control_id=control_id, at=at, sender=sender, version=VERSION_SENT
            ),
            Segment("EVN", (event, at.strftime("%Y%m%d%H%M%S+0000"))),
            Segment("PID", tuple(fields)),
            Segment("PV1", ("", "N")),
        )
    )


def read_acknowledgement(answer: Message) -> None:
    """Raises Problem when a feed was not accepted."""
    code = answer.get("MSA-1")
    if code in {"AA", "CA"}:
        return
    said = answer.get("MSA-3") or "; ".join(
        filter(None, (answer.get(f"ERR({number})-8") for number in range(len(answer.all("ERR")))))
    )
    raise Problem.of("XDSRegistryError", said or f"the patient index answers {code or 'nothing'}", "ITI-8")
