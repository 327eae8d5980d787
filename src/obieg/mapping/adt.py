"""ADT messages of the Patient Identity Feed as the domain understands them (ITI TF-2:3.8.4.1.2, 3.8.4.2.2).

PID-3, PID-5, PID-7, PID-8, PID-11, PID-13 and, for A40, MRG-1 are read; a registry ignores the rest. An empty field
says nothing; the HL7 null ``""`` says that there is no value any more. Only identifiers whose assigning authority is an
OID (CX-4.2 with CX-4.3 ISO) are taken: a namespace such as CX-4.1 means something else in every hospital.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from obieg.domain.identifiers import PatientId, is_oid
from obieg.domain.patients import ADDRESS, NAME, Demographics, FeedEvent, PatientFeed
from obieg.domain.problems import Finding, Problem
from obieg.wire.hl7v2 import Message, Repetition, Segment, request_header

NULL = '""'
VALUE_LENGTH_MAX = 200  # characters of an identifier or a demographic value
_DATE = re.compile(r"\d{4}((0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])?)?\Z")
# HL7 table 0001 as of 2.5; the domain keeps M, F, O, U (ITI TF-3:4.2.3.1.7, PID-8 of sourcePatientInfo).
_SEX = {"M": "M", "F": "F", "O": "O", "U": "U", "A": "O", "N": "U"}
_NOT_A_PHONE = ("Internet", "X.400")  # HL7 table 0202


def patient_feed(message: Message) -> PatientFeed:
    """Reads the feed; raises :class:`Problem` with everything that is wrong with it."""
    reading = _Reading(message)
    feed = reading.feed()
    if reading.findings:
        raise Problem(reading.findings)
    return feed


class _Reading:
    def __init__(self, message: Message) -> None:
        self.message = message
        self.findings: list[Finding] = []

    def feed(self) -> PatientFeed:
        event = FeedEvent(self.message.event)
        pid = self._segment("PID")
        identifiers = self._identifiers(pid, 3) if pid else {}
        merged: dict[PatientId, str] = {}
        if event is FeedEvent.MERGE and (mrg := self._segment("MRG")):
            merged = self._identifiers(mrg, 1)
        values = self._demographics(pid) if pid else {}
        return PatientFeed(
            event=event,
            identifiers=tuple(identifiers),
            demographics=Demographics(**values),
            stated=tuple(values),
            merged=tuple(merged),
            identifier_locations=tuple(identifiers.values()),
            merged_locations=tuple(merged.values()),
        )

    def _segment(self, name: str) -> Segment | None:
        found = self.message.all(name)
        if not found:
            self._find("SegmentSequenceError", f"the message has no {name} segment", name)
        elif len(found) > 1:
            self._find("SegmentSequenceError", f"one {name} segment is expected, not {len(found)}", name)
        return found[0] if found else None

    def _identifiers(self, segment: Segment, number: int) -> dict[PatientId, str]:
        """The identifiers of a field, each with the location where it stands first."""
        identifiers: dict[PatientId, str] = {}
        location = f"{segment.name}-{number}"
        repetitions = self.message.repetitions(segment, number)
        findings = len(self.findings)
        for index, repetition in enumerate(repetitions):
            # A null id names nobody; older systems send it beside real ones.
            if repetition.raw and repetition.get() != NULL:
                identifier = self._identifier(repetition, f"{location}({index})")
                if identifier is not None:
                    identifiers.setdefault(identifier, f"{location}({index})")
        if not identifiers and len(self.findings) == findings:
            self._find("RequiredFieldMissing", "no patient identifier is given", location)
        return identifiers

    def _identifier(self, cx: Repetition, location: str) -> PatientId | None:
        value, namespace, authority, kind = cx.get(1), cx.get(4, 1), cx.get(4, 2), cx.get(4, 3)
        before = len(self.findings)
        if not value.strip():
            self._find("RequiredFieldMissing", "the identifier has no value (CX-1)", f"{location}-1")
        self._length(value, f"{location}-1")
        if not authority:
            said = f"only the namespace {namespace[:40]!r}" if namespace else "nothing"
            self._find(
                "RequiredFieldMissing",
                f"the assigning authority must be an OID: {said} is given; send CX-4.2 with the OID and CX-4.3 ISO",
                f"{location}-4-2",
            )
        elif not is_oid(authority):
            self._find("DataTypeError", "the assigning authority (CX-4.2) is not an OID", f"{location}-4-2")
        elif kind != "ISO":
            self._find("TableValueNotFound", "the authority's type (CX-4.3) must be ISO", f"{location}-4-3")
        return PatientId(value.strip(), authority) if len(self.findings) == before else None

    def _demographics(self, pid: Segment) -> dict[str, str]:
        values: dict[str, str] = {}
        if name := self._name(pid):
            values.update(zip(NAME, name, strict=True))
        if address := self._first(pid, 11, (1, 3, 5, 6)):
            lines = (_text(address, 1), _text(address, 3), _text(address, 5), _text(address, 6))
            values.update(zip(ADDRESS, lines, strict=True))
        if birth := self._first(pid, 7, (1,)):
            values["birth_date"] = self._birth_date(_text(birth, 1))
        if sex := self._first(pid, 8, (1,)):
            values["sex"] = self._sex(_text(sex, 1))
        for phone in self.message.repetitions(pid, 13):
            number = phone.get(1).strip() or " ".join(filter(None, (phone.get(6), phone.get(7))))
            if number and phone.get(3) not in _NOT_A_PHONE and "phone" not in values:
                values["phone"] = "" if number == NULL else number
        for name_or_line, field in (("family", 5), ("given", 5), *((line, 11) for line in ADDRESS), ("phone", 13)):
            self._length(values.get(name_or_line, ""), f"PID-{field}")
        return values

    def _name(self, pid: Segment) -> tuple[str, str] | None:
        """The legal name if one is marked so, else the first (PID-5, XPN-7 of HL7 table 0200)."""
        legal = [n for n in self.message.repetitions(pid, 5) if n.get(7) == "L" and n.get(1)]
        name = legal[0] if legal else self._first(pid, 5, (1, 2, 3))
        if name is None:
            return None
        return _text(name, 1), " ".join(filter(None, (_text(name, 2), _text(name, 3))))

    def _first(self, pid: Segment, number: int, components: tuple[int, ...]) -> Repetition | None:
        """The first repetition in which one of the components is filled."""
        found = self.message.repetitions(pid, number)
        return next((r for r in found if any(r.get(c) for c in components)), None)

    def _birth_date(self, text: str) -> str:
        date = text[:8]
        if date and (not _DATE.match(date) or not re.fullmatch(r"[\d.+-]*", text)):
            self._find("DataTypeError", "the date of birth is not YYYY, YYYYMM or YYYYMMDD", "PID-7")
        return date

    def _sex(self, text: str) -> str:
        if text and text not in _SEX:
            self._find("TableValueNotFound", "administrative sex must be one of F, M, O, U, A, N", "PID-8")
        return _SEX.get(text, "")

    def _length(self, value: str, location: str) -> None:
        if len(value) > VALUE_LENGTH_MAX:
            self._find("DataTypeError", f"longer than {VALUE_LENGTH_MAX} characters", location)

    def _find(self, code: str, detail: str, location: str) -> None:
        self.findings.append(Finding(code, detail, location))


def _text(repetition: Repetition, component: int) -> str:
    text = repetition.get(component).strip()
    return "" if text == NULL else text


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
