"""PIX queries and their answers in HL7 v2, both ways (ITI TF-2:3.9.4.1.2, 3.9.4.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from obieg.domain.authorities import Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import CrossReferenceQuery
from obieg.domain.problems import Finding, Problem
from obieg.mapping.pid import Reading, write_cx
from obieg.wire.hl7v2 import Answer, Message, Repetition, Segment, field, request_header

QUERY_NAME = "IHE PIX Query"  # QPD-1
AUTHORITIES_MAX = 100  # of one query
_ANSWER_TYPE = ("RSP", "K23", "RSP_K23")
_UNKNOWN_KEY = "204"  # HL7 table 0357
# No name is told, and the second repetition says so: a pseudonym (ITI TF-2:3.9.4.2.2.5, HL7 table 0200 S).
_NO_NAME = "~^^^^^^S"


def read_query(message: Message, authorities: Authorities) -> CrossReferenceQuery:
    """The question; raises Problem with everything that is wrong with it."""
    qpd = one_qpd(message)
    reading = Reading(message, authorities)
    if not qpd.field(2):
        reading.find("RequiredFieldMissing", "without a query tag no answer can be told apart", "QPD-2")
    identifiers = message.repetitions(qpd, 3)
    value = identifiers[0].get(1).strip() if identifiers else ""
    if len(identifiers) != 1:
        code = "DataTypeError" if identifiers else "RequiredFieldMissing"
        reading.find(code, f"one patient identifier is expected, not {len(identifiers)}", "QPD-3")
    elif not value:
        reading.find("RequiredFieldMissing", "the identifier has no value (CX-1)", "QPD-3-1")
    domains = read_domains(reading, qpd, 4)
    before = len(reading.findings)
    authority = _authority(reading, identifiers[0], "QPD-3-4") if identifiers else ""
    if not authority and _by_namespace(message):
        # As the OpenHIE plan writes it (OHIE-CR-09-20), before what IHE and HL7 2.5 (ERL) want.
        reading.findings[before:before] = [Finding(f.code, f.detail, "QPD-3(3)-1") for f in reading.findings[before:]]
    if reading.findings:
        raise Problem(reading.findings)
    return CrossReferenceQuery(
        identifier=PatientId(value, authority),
        authorities=tuple(domains),
        identifier_location="QPD-3",
        authority_locations=tuple(domains.values()),
        text=query_text(message, qpd),
    )


def one_qpd(message: Message) -> Segment:
    """The QPD segment; raises Problem where there is not one."""
    found = message.all("QPD")
    if len(found) != 1:
        raise Problem.of("SegmentSequenceError", f"one QPD segment is expected, not {len(found)}", "QPD")
    return found[0]


def query_text(message: Message, qpd: Segment) -> bytes:
    """The question as asked, for the audit record."""
    return message.delimiters.field.join(("QPD", *qpd.fields)).encode()


def read_domains(reading: Reading, qpd: Segment, number: int) -> dict[str, str]:
    """The domains that are asked for (QPD-4, in ITI-21 QPD-8), each with the location where it stands first."""
    repetitions = reading.message.repetitions(qpd, number)
    if len(repetitions) > AUTHORITIES_MAX:
        reading.find("DataTypeError", f"more than {AUTHORITIES_MAX} domains are asked for", f"QPD-{number}")
        return {}
    authorities: dict[str, str] = {}
    for index, repetition in enumerate(repetitions):
        location = f"QPD-{number}({index})"
        if repetition.raw and (authority := _authority(reading, repetition, location)):
            authorities.setdefault(authority, location)
    return authorities


def _authority(reading: Reading, cx: Repetition, location: str) -> str:
    """The OID of CX-4; a domain that cannot be told is a domain that nobody here knows (ITI TF-2:3.9.4.2.2.6)."""
    domain = Reading(reading.message, reading.authorities)
    namespace, named, kind = cx.parts(4, 3)
    oid = domain.authority(namespace, named, kind, location)
    for finding in domain.findings:
        reading.find("UnknownKeyIdentifier", finding.detail, location)
    return oid


def write_answer(identifiers: Sequence[PatientId], message: Message, authorities: Authorities) -> Answer:
    """RSP^K23 to ``message``: QAK OK with a PID, or NF where the patient has no identifier in the domains asked for."""
    segments = _head(message, "OK" if identifiers else "NF")
    if identifiers:
        d = message.delimiters
        cx = [write_cx(i, authorities) for i in identifiers]
        name = _NO_NAME.replace("~", d.repetition).replace("^", d.component)
        segments += (Segment("PID", ("", "", field(*cx, delimiters=d), "", name)),)
    return Answer(_ANSWER_TYPE, segments)


def write_refusal(findings: Sequence[Finding], message: Message) -> Answer:
    """RSP^K23 with QAK AE; what is wrong stands in the ERR segments, which the edge writes.

    ITI TF-2:3.9.4.2.2.6 (cases 3 to 5) wants AE in MSA-1 as well. The OpenHIE client-registry plan (OHIE-CR-09-10)
    wants AA there for an unknown number of a known domain. Its consumers name a domain by its namespace alone; IHE's
    name the OID too: each is answered as it expects.
    """
    unknown = [(f.code, f.location) for f in findings] == [("UnknownKeyIdentifier", "QPD-3-1")]
    return Answer(_ANSWER_TYPE, _head(message, "AE"), code="AA" if unknown and _by_namespace(message) else "")


def _by_namespace(message: Message) -> bool:
    """Whether QPD-3 names its domain by a namespace alone, as OpenHIE's consumers do."""
    return bool(message.get("QPD-3-4-1")) and not message.get("QPD-3-4-2")


def _head(message: Message, status: str) -> tuple[Segment, ...]:
    """QAK, and the question once more."""
    qpd = message.all("QPD")[:1]
    return (Segment("QAK", (qpd[0].field(2) if qpd else "", status)), *qpd)


# asking --------------------------------------------------------------------------------------------------------------


def write_query(
    cx: str, authorities: Sequence[str], *, control_id: str, at: datetime, sender: tuple[str, str]
) -> Message:
    """Asks for the identifiers, in the domains ``authorities``, of the patient whom ``cx`` (already escaped) names."""
    targets = field(*[("", "", "", ("", authority, "ISO")) for authority in authorities])
    return Message(
        (
            request_header(("QBP", "Q23", "QBP_Q21"), control_id=control_id, at=at, sender=sender),
            Segment("QPD", (QUERY_NAME, control_id, cx, targets)),
            Segment("RCP", ("I",)),
        )
    )


def read_answer(answer: Message) -> tuple[PatientId, ...]:
    """The identifiers in an answer; none where the patient or the domain is not known. Raises Problem for a refusal."""
    if answer.get("MSA-1") not in {"AA", "CA"}:
        errors = answer.all("ERR")
        codes = {answer.get(f"ERR({number})-3") for number in range(len(errors))}
        if codes == {_UNKNOWN_KEY}:
            return ()
        said = "; ".join(filter(None, (answer.get(f"ERR({number})-8") for number in range(len(errors)))))
        raise Problem.of("XDSRegistryError", said or f"the patient index answers {answer.get('MSA-1')}", "QPD")
    return tuple(
        PatientId(cx.get(1), cx.get(4, 2)) for pid in answer.all("PID")[:1] for cx in answer.repetitions(pid, 3)
    )
