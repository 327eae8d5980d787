"""Messages over FHIR: ``Patient/[id]/$messages`` and others, ``Communication/$inbox`` and others (ours)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from obieg.domain.identifiers import PatientId
from obieg.domain.messaging import SUBJECT_MAX, TEXT_MAX, Asked, Message, Thread
from obieg.domain.problems import Finding, Problem
from obieg.mapping.access_log import fhir_identifier
from obieg.mapping.emergency import named
from obieg.mapping.fhir_bundle import searchset
from obieg.mapping.fhir_parameters import arguments
from obieg.mapping.fhir_patient import instant, reference
from obieg.protocol import FhirReply, FhirRequest

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_FACILITY = re.compile(r"[0-9.]{3,64}#[^\s#]{1,64}\Z", re.ASCII)
THREAD, ROLE = "urn:obieg:thread", "urn:obieg:role"


def read_request(request: FhirRequest) -> Asked:
    """What is asked; raises Problem with everything that is wrong with it."""
    patient = named(request) if request.resource == "Patient" else None
    given = {name: (found[0] if found else None) for name, found in arguments(request).items()}
    thread, text, facility = given.get("thread") or "", _text(given.get("text")), given.get("facility") or ""
    subject = " ".join((given.get("subject") or "").split())
    findings = []
    if thread and not _UUID.match(thread):
        findings.append(Finding("DataTypeError", "the id of a thread is expected", "http.thread"))
    if "text" in given and not 0 < len(text) <= TEXT_MAX:
        findings.append(Finding("RuleBroken", f"1 to {TEXT_MAX} characters", "http.text"))
    if "facility" in given and not thread:
        if not _FACILITY.match(facility):
            findings.append(Finding("DataTypeError", "root#extension of a facility, or a thread", "http.facility"))
        if not 0 < len(subject) <= SUBJECT_MAX:
            findings.append(Finding("RuleBroken", f"1 to {SUBJECT_MAX} characters", "http.subject"))
    if findings:
        raise Problem(findings)
    return Asked(patient, thread, facility, subject, text, request.interaction.endswith("$close-thread"))


def _text(resource: dict[str, Any] | None) -> str:
    """Of a Communication with one payload: a parameter of type string would be too short for it."""
    payload = (resource or {}).get("payload", ())
    said = str(payload[0].get("contentString", "")) if len(payload) == 1 else ""
    return "".join(c for c in said if c.isprintable() or c == "\n").strip()


def write_answer(threads: Sequence[Thread] | None, request: FhirRequest) -> FhirReply:
    """Communications, those of one thread one after another; nothing of what was written."""
    if threads is None:
        return FhirReply(status=204)
    resources = [_communication(thread, m, request) for thread in threads for m in thread.messages]
    entries = [
        {"fullUrl": f"{request.base}/Communication/{r['id']}", "resource": r, "search": {"mode": "match"}}
        for r in resources
    ]
    path = f"Patient/{request.id}/$messages" if request.id else "Communication/$inbox"
    return FhirReply(body=searchset(request, entries, path=path, used=list(request.parameters)))


def _communication(thread: Thread, message: Message, request: FhirRequest) -> dict[str, Any]:
    name = thread.demographics.names[0] if thread.demographics.names else None
    subject = reference(PatientId(thread.patient, request.affinity_domain))
    if name is not None:
        subject["display"] = " ".join((*name.given, name.family)).strip()
    place = {"identifier": fhir_identifier(thread.facility), "display": thread.facility_name or thread.facility}
    whom: list[dict[str, Any]] = [place, subject]
    sender, recipient = whom[:: -1 if message.of_patient else 1]
    made: dict[str, Any] = {
        "resourceType": "Communication",
        "id": f"{thread.id[:23]}-{message.id}",
        "identifier": [{"system": THREAD, "value": thread.id}],
        "status": "completed",
        "subject": subject,
        "topic": {"text": thread.subject},
        "sent": instant(message.sent_at),
        "sender": {**sender, "display": message.author_name or sender.get("display", "")},
        "recipient": [recipient],
        "payload": [{"contentString": message.text}],
        "category": [{"coding": [{"system": ROLE, "code": message.role}]}],
    }
    if message.read_at is not None:
        made["received"] = instant(message.read_at)
    if thread.closed_at is not None:
        made["statusReason"] = {"coding": [{"system": THREAD, "code": "closed"}]}
    return made
