"""Demographics queries and their answers in HL7 v2 (ITI TF-2:3.21.4, 3.22.4), with continuation and cancel.

QPD-3 names fields of PID; which ones the index can ask by stands in ``codes/hl7v2.toml``. An identifier is asked for by
its value and its authority together: each value begins an identifier, and what follows of PID-3.4 belongs to it. Of
several identifiers any fits; of everything else all must fit.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from obieg.codes.load import toml
from obieg.domain.authorities import Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import Cancel, Candidate, Candidates, Continuation, DemographicsQuery, Question
from obieg.domain.problems import Problem
from obieg.mapping.adt import source
from obieg.mapping.pid import VALUE_LENGTH_MAX, Reading, read_time, write_pid
from obieg.mapping.pix import one_qpd, query_text, read_domains
from obieg.wire.hl7v2 import Answer, Fault, Message, Repetition, Segment, field

QUERY_NAME = "IHE PDQ Query"  # QPD-1
WHOLE_ANSWER = 1_000  # records asked for where RCP-2 names no number: as many as the index gives at once
RECORDS_MAX = 10_000  # that RCP-2 may ask for
_TABLES = toml("hl7v2.toml")
_FIELD = re.compile(r"@([A-Z][A-Z0-9]{2}(?:\.[1-9]\d{0,2}){1,3})\Z", re.ASCII)
_QUANTITY = re.compile(r"[1-9]\d{0,8}\Z", re.ASCII)
_CAPPED = 0  # HL7 table 0357: message accepted
_NOT_APPLICABLE = "N"  # PV1-2 (HL7 table 0004): the index knows no visits
_SEARCHES = uuid.UUID("5f0a9f0e-2f6d-5a53-9c52-6f9f4b1f7c10")  # name space of what askers call their searches
# How each answer is called: MSH-9 (ITI TF-2:3.21.4.2.2.1, 3.22.4.2.2.1).
_ANSWER_TYPES = {"Q22": ("RSP", "K22", "RSP_K21"), "ZV1": ("RSP", "ZV2", "RSP_ZV2")}


# reading -------------------------------------------------------------------------------------------------------------


def read_question(message: Message, authorities: Authorities) -> Question:
    """What is asked; raises Problem with everything that is wrong with it."""
    if message.event == "J01":
        return _read_cancel(message, authorities)
    qpd = one_qpd(message)
    reading = Reading(message, authorities)
    tag = message.get("QPD-2").strip()
    if not tag:
        reading.find("RequiredFieldMissing", "without a query tag no answer can be told apart", "QPD-2")
    count = _count(reading)
    text = query_text(message, qpd)
    if message.get("DSC-1"):
        if reading.findings:
            raise Problem(reading.findings)
        return Continuation(cursor=message.get("DSC-1"), count=count, text=text)
    asked = _Asked(reading)
    asked.read(message.repetitions(qpd, 3))
    domains = read_domains(reading, qpd, 8)
    if reading.findings:
        raise Problem(reading.findings)
    return DemographicsQuery(
        **asked.values,
        identifiers=tuple(asked.identifiers),
        authorities=tuple(domains),
        authority_locations=tuple(domains.values()),
        count=count,
        cursor=search_name(message, tag),
        text=text,
    )


def _read_cancel(message: Message, authorities: Authorities) -> Cancel:
    reading = Reading(message, authorities)
    reading.segment("QID")
    tag = message.get("QID-1").strip()
    if not tag and not reading.findings:
        reading.find("RequiredFieldMissing", "the tag of the query that is cancelled is missing", "QID-1")
    if reading.findings:
        raise Problem(reading.findings)
    qid = message.all("QID")[0]
    return Cancel(cursor=search_name(message, tag), text=message.delimiters.field.join(("QID", *qid.fields)).encode())


def search_name(message: Message, tag: str) -> str:
    """What the index calls a search: HL7 v2 cancels by query tag, which is unique only for who asks."""
    return str(uuid.uuid5(_SEARCHES, f"{source(message)}|{tag}"))


def _count(reading: Reading) -> int:
    """Records of one answer (RCP-2)."""
    message = reading.message
    if message.get("RCP-1").strip() not in ("", "I"):
        reading.find("TableValueNotFound", "answers are given at once: RCP-1 must be I", "RCP-1")
    quantity = message.get("RCP-2-1").strip()
    if not quantity:
        return WHOLE_ANSWER
    if message.get("RCP-2-2").strip() not in ("", "RD"):
        reading.find("TableValueNotFound", "answers are counted in records: RCP-2.2 must be RD", "RCP-2-2")
    if not _QUANTITY.match(quantity):
        reading.find("DataTypeError", "the number of records must be a whole number greater than 0", "RCP-2-1")
        return WHOLE_ANSWER
    return min(int(quantity), RECORDS_MAX)


class _Asked:
    """The parameters of QPD-3."""

    def __init__(self, reading: Reading) -> None:
        self.values: dict[str, Any] = {}
        self.identifiers: list[PatientId] = []
        self._reading = reading
        self._identifiers: list[dict[str, str]] = []  # value, namespace, oid, kind, and where it stands

    def read(self, parameters: Sequence[Repetition]) -> None:
        for index, parameter in enumerate(parameters):
            if parameter.raw:
                self._read(parameter, f"QPD-3({index})")
        for parts in self._identifiers:
            self._identify(parts)
        if not (self.values or self._identifiers or self._reading.findings):
            said = "no field is asked by, or by wildcards alone"
            self._reading.find("TooBroad" if parameters else "RequiredFieldMissing", said, "QPD-3")

    def _read(self, parameter: Repetition, location: str) -> None:
        name, value = parameter.get(1).strip(), parameter.get(2).strip()
        match = _FIELD.match(name)
        meaning = _TABLES["query"].get(match[1]) if match else None
        if meaning is None:
            self._reading.find("UnsupportedQueryField", _unsupported(name), location)
        elif len(value) > VALUE_LENGTH_MAX:
            self._reading.find("DataTypeError", f"longer than {VALUE_LENGTH_MAX} characters", location)
        elif meaning in ("value", "namespace", "oid", "kind"):
            self._part(meaning, value, parameter, location)
        elif value.strip("*"):  # an empty value, or a wildcard alone, says nothing
            self._put(meaning, value, location)

    def _part(self, meaning: str, value: str, parameter: Repetition, location: str) -> None:
        if not value and meaning != "namespace":
            return
        if not self._identifiers or (meaning == "value" and "value" in self._identifiers[-1]):
            self._identifiers.append({"location": location})
        parts = self._identifiers[-1]
        if meaning == "value":
            parts["location"] = location
        parts[meaning] = value
        for part, subcomponent in (("oid", 2), ("kind", 3)) if meaning == "namespace" else ():
            if text := parameter.get(2, subcomponent).strip():
                parts[part] = text

    def _identify(self, parts: Mapping[str, str]) -> None:
        value, location = parts.get("value", ""), parts["location"]
        namespace, oid = parts.get("namespace", ""), parts.get("oid", "")
        if not value:
            said = "an assigning authority is given without a number (@PID.3.1)"
            self._reading.find("RequiredFieldMissing", said, location)
        elif "*" in value:
            said = "a number is asked for as a whole, without wildcards"
            self._reading.find("UnsupportedQueryField", said, location)
        elif not (namespace or oid):
            said = "a number needs its assigning authority (@PID.3.4.2 with its OID and @PID.3.4.3 ISO)"
            self._reading.find("RequiredFieldMissing", said, location)
        else:
            domain = Reading(self._reading.message, self._reading.authorities)
            authority = domain.authority(namespace, oid, parts.get("kind", "ISO"), location)
            for finding in domain.findings:
                self._reading.find(finding.code, finding.detail, location)
            self.identifiers.append(PatientId(value, authority))

    def _put(self, meaning: str, value: str, location: str) -> None:
        if meaning == "born":
            self._born(value, location)
        elif meaning == "sex":
            sex = _TABLES["sex"].get(value.upper())
            if sex is None:
                self._reading.find("TableValueNotFound", "administrative sex must be one of F, M, O, U, A, N", location)
            self.values["sex"] = sex or ""
        elif meaning == "given+":
            self.values["given"] = f"{self.values.get('given', '')} {value}".strip()
        elif meaning:
            if "*" in value.rstrip("*"):
                said = "a wildcard (*) may stand at the end only, after the first letters"
                self._reading.find("UnsupportedQueryField", said, location)
            elif meaning in self.values:
                self._reading.find("UnsupportedQueryField", "the same field is asked for twice", location)
            self.values[meaning] = value

    def _born(self, value: str, location: str) -> None:
        digits = read_time(value.rstrip("*"))
        if digits is None:
            self._reading.find("DataTypeError", "the date of birth is not YYYY, YYYYMM or YYYYMMDD", location)
        else:
            self.values["born_from"] = self.values["born_until"] = digits[:8]


def _unsupported(name: str) -> str:
    said = f"the index cannot be asked by {name[:40]!r}"
    if name.startswith(("@PV1", "@PV2")):
        said += ", for it knows persons, not visits"
    numbers = sorted({int(key.split(".")[1]) for key in _TABLES["query"]})
    return f"{said}; it can be asked by {', '.join(f'PID.{number}' for number in numbers)} and their components"


# writing -------------------------------------------------------------------------------------------------------------


def write_answer(found: Candidates | None, message: Message, authorities: Authorities) -> Answer:
    """RSP to ``message``: QAK, QPD, one group for each patient, DSC where there is more; None acknowledges a cancel."""
    if found is None:
        return Answer()
    groups = [
        segment
        for number, candidate in enumerate(found.found, 1)
        for segment in _group(candidate, number, message, authorities)
    ]
    head = _head(message, "OK" if found.found else "NF", found)
    rest = (Segment("DSC", (field(found.cursor, delimiters=message.delimiters), "I")),) if found.cursor else ()
    said = "more patients fit than are listed; narrow the question"
    faults = (Fault(_CAPPED, said, "QPD-3", warning=True),) if found.capped else ()
    return Answer(_ANSWER_TYPES[message.event], (*head, *groups, *rest), faults=faults)


def _group(candidate: Candidate, number: int, message: Message, authorities: Authorities) -> tuple[Segment, ...]:
    pid = write_pid(
        candidate.identifiers,
        candidate.demographics,
        authorities=authorities,
        delimiters=message.delimiters,
        number=number,
        updated_at=candidate.updated_at,
    )
    visit = (Segment("PV1", ("", _NOT_APPLICABLE)),) if message.event == "ZV1" else ()
    return (pid, *visit, Segment("QRI", (f"{candidate.score / 100:g}",)))


def write_refusal(message: Message) -> Answer:
    """RSP that says AE; what is wrong stands in the ERR segments, which the edge writes."""
    if message.event == "J01":
        return Answer()
    return Answer(_ANSWER_TYPES[message.event], _head(message, "AE"))


def _head(message: Message, status: str, found: Candidates | None = None) -> tuple[Segment, ...]:
    """QAK with the numbers of records in all, in this answer and left, and the question once more."""
    qpd = message.all("QPD")[:1]
    numbers: tuple[str, ...] = ()
    if found is not None:
        name = qpd[0].field(1) if qpd else ""
        numbers = (name, str(found.total), str(len(found.found)), str(found.remaining))
    return (Segment("QAK", (qpd[0].field(2) if qpd else "", status, *numbers)), *qpd)
