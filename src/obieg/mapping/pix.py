"""PIX queries and their answers in HL7 v2, both ways (ITI TF-2:3.9.4.1.2, 3.9.4.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from obieg.domain.identifiers import PatientId, is_oid
from obieg.domain.patients import CrossReferenceQuery
from obieg.domain.problems import Finding, Problem
from obieg.wire.hl7v2 import Answer, Message, Repetition, Segment, field, request_header

QUERY_NAME = "IHE PIX Query"  # QPD-1
AUTHORITIES_MAX = 100  # of one query
_ANSWER_TYPE = ("RSP", "K23", "RSP_K23")
_UNKNOWN_KEY = "204"  # HL7 table 0357
# No name is told, and the second repetition says so: a pseudonym (ITI TF-2:3.9.4.2.2.5, HL7 table 0200 S).
_NO_NAME = "~^^^^^^S"


def read_query(message: Message) -> CrossReferenceQuery:
    """The question; raises Problem with everything that is wrong with it."""
    found = message.all("QPD")
    if len(found) != 1:
        raise Problem.of("SegmentSequenceError", f"one QPD segment is expected, not {len(found)}", "QPD")
    qpd = found[0]
    findings: list[Finding] = []
    if not qpd.field(2):
        findings.append(Finding("RequiredFieldMissing", "without a query tag no answer can be told apart", "QPD-2"))
    identifiers = message.repetitions(qpd, 3)
    if len(identifiers) != 1:
        code = "DataTypeError" if identifiers else "RequiredFieldMissing"
        findings.append(Finding(code, f"one patient identifier is expected, not {len(identifiers)}", "QPD-3"))
    elif not identifiers[0].get(1).strip():
        findings.append(Finding("RequiredFieldMissing", "the identifier has no value (CX-1)", "QPD-3-1"))
    authorities = _authorities(message, qpd, findings)
    authority = _authority(identifiers[0], "QPD-3-4", findings) if identifiers else ""
    if findings:
        raise Problem(findings)
    return CrossReferenceQuery(
        identifier=PatientId(identifiers[0].get(1).strip(), authority),
        authorities=tuple(authorities),
        identifier_location="QPD-3",
        authority_locations=tuple(authorities.values()),
        text=message.delimiters.field.join(("QPD", *qpd.fields)).encode(),
    )


def _authorities(message: Message, qpd: Segment, findings: list[Finding]) -> dict[str, str]:
    """The domains of QPD-4, each with the location where it stands first."""
    repetitions = message.repetitions(qpd, 4)
    if len(repetitions) > AUTHORITIES_MAX:
        findings.append(Finding("DataTypeError", f"more than {AUTHORITIES_MAX} domains are asked for", "QPD-4"))
        return {}
    authorities: dict[str, str] = {}
    for index, repetition in enumerate(repetitions):
        location = f"QPD-4({index})"
        if repetition.raw and (authority := _authority(repetition, location, findings)):
            authorities.setdefault(authority, location)
    return authorities


def _authority(cx: Repetition, location: str, findings: list[Finding]) -> str:
    """The OID of CX-4; a domain that is named in any other way is a domain that nobody here knows."""
    authority = cx.get(4, 2)
    if not is_oid(authority) or cx.get(4, 3) != "ISO":
        said = "the assigning authority must be an OID: send CX-4.2 with the OID and CX-4.3 ISO"
        findings.append(Finding("UnknownKeyIdentifier", said, location))
        return ""
    return authority


def write_answer(identifiers: Sequence[PatientId], message: Message) -> Answer:
    """RSP^K23 to ``message``: QAK OK with a PID, or NF where the patient has no identifier in the domains asked for."""
    segments = _head(message, "OK" if identifiers else "NF")
    if identifiers:
        d = message.delimiters
        cx = [(i.value, "", "", ("", i.authority, "ISO")) for i in identifiers]
        name = _NO_NAME.replace("~", d.repetition).replace("^", d.component)
        segments += (Segment("PID", ("", "", field(*cx, delimiters=d), "", name)),)
    return Answer(_ANSWER_TYPE, segments)


def write_refusal(message: Message) -> Answer:
    """RSP^K23 that says AE; what is wrong stands in the ERR segments, which the edge writes."""
    return Answer(_ANSWER_TYPE, _head(message, "AE"))


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
