"""Audit records as entries of a patient's access log, and these as FHIR: ``Patient/[id]/$access-log`` (ours)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec

from obieg.domain import grounds
from obieg.domain.access import TOLD
from obieg.domain.access_log import COUNT, COUNT_MAX, Access, AccessLogPage, LogQuestion
from obieg.domain.audit import AuditFormat, AuditMessage, AuditParticipant, StoredAudit
from obieg.domain.problems import Problem
from obieg.mapping.audit import DESTINATION, SOURCE, AuditUnreadable, says_by
from obieg.mapping.balp import message_of
from obieg.mapping.emergency import named
from obieg.mapping.fhir_bundle import searchset
from obieg.mapping.fhir_parameters import CURSOR, arguments
from obieg.mapping.fhir_patient import instant, reference
from obieg.protocol import FhirReply, FhirRequest

_MACHINE = frozenset((SOURCE, DESTINATION, "110150", "110151"))
_DOCUMENT = frozenset(("3",))  # ParticipantObjectTypeCodeRole: report
_NUMBER = re.compile(r"\d{1,18}\Z", re.ASCII)
_TERMS = "http://terminology.hl7.org/CodeSystem/"
_PURPOSE, _ROLE = f"{_TERMS}v3-ActReason", "urn:obieg:role"
AGENT, ACTING_FOR = "urn:obieg:agent", "acting-for"  # in whose name it was done
_DOCUMENTS_NAMED = 20  # of one entry
_WITHHELD = "name withheld by a decision of the data-protection officer"


def entry(row: StoredAudit) -> Access:
    """What a record says to the patient whom it is about; of one that cannot be read, that it is there."""
    at = row.happened_at or row.recorded_at
    try:
        message = message_of(row)
    except AuditUnreadable:
        return Access(str(row.audit_id), at, row.transaction, "", "", str(row.outcome), row.sender)
    asking = [p for p in message.participants if p.is_requestor]
    person = next((p for p in asking if not _MACHINE & {r.code for r in p.roles}), None)
    system = next((p for p in asking if p is not person), None)
    proof = _proof(message)
    purposes = [p.code for p in message.purposes]
    return Access(
        id=str(row.audit_id),
        at=at,
        transaction=row.transaction,
        what=next((t.display for t in message.types if t.display), row.transaction),
        action=message.action,
        outcome=message.outcome,
        recorded_by=row.sender or message.source_id,
        person=person.user_id if person else "",
        name=proof.get("name", "") or (_name(person) if person else ""),
        role=next((r.code for r in person.roles), "") if person else "",
        organisation=proof.get("organisation", ""),
        acting_for=proof.get("acting for", ""),
        acting_for_name=proof.get("acting for name", ""),
        system=proof.get("client", "") or (system.user_id if system else ""),
        purpose=proof.get("purpose of use", "") or next(iter(purposes), ""),
        bases=tuple(grounds.recorded(message.outcome_detail)),
        documents=tuple(o.identifier for o in message.objects if o.role in _DOCUMENT),
        fetched=not row.sender and row.transaction == "ITI-43" and message.action == "C",
    )


def made_by(row: StoredAudit, person: str) -> bool:
    """Whether this person did it, as far as that shows without reading all of the record: in this node's own."""
    return not row.sender and row.format == AuditFormat.OWN and says_by(row.message, person)


def hidden(found: Access, withheld: Collection[str]) -> Access:
    """Without the name of who is in ``withheld``."""
    if not {found.person, found.acting_for} & {*withheld} - {""}:
        return found
    return msgspec.structs.replace(found, person="", name="", acting_for="", acting_for_name="", withheld=True)


def _proof(message: AuditMessage) -> dict[str, str]:
    """What the proof of who asked says besides (:func:`obieg.mapping.audit.write_audit_message`)."""
    said: dict[str, str] = {}
    for o in message.objects:
        if o.role == "13" and o.details:
            said |= {name: value.decode("utf-8", "replace") for name, value in o.details}
    return said


def _name(person: AuditParticipant) -> str:
    return person.user_name.partition("<")[0]


# FHIR ------------------------------------------------------------------------------------------------------------


def read_request(request: FhirRequest) -> LogQuestion:
    """What is asked; raises Problem."""
    patient, given = named(request), arguments(request)
    count, before = "".join(given["_count"]) or str(COUNT), "".join(given[CURSOR])
    if not _NUMBER.match(count) or int(count) < 1:
        raise Problem.of("DataTypeError", "a number from 1 on is expected", "http._count")
    if before and not _NUMBER.match(before):
        raise Problem.of("UnknownCursor", "this answer has no such page; ask anew", f"http.{CURSOR}")
    others = given["others"] == [True]
    return LogQuestion(patient, min(int(count), COUNT_MAX), int(before) if before else None, others)


def write_page(page: AccessLogPage, request: FhirRequest) -> FhirReply:
    """AuditEvents of what the patient is told, newest first."""
    resources = events(page)
    entries = [
        {"fullUrl": f"{request.base}/AuditEvent/{r['id']}", "resource": r, "search": {"mode": "match"}}
        for r in resources
    ]
    used = [(n, v) for n, v in request.parameters if n in ("_count", "others")]
    cursor = "" if page.before is None else str(page.before)
    path = f"Patient/{request.id}/$access-log"
    return FhirReply(body=searchset(request, entries, path=path, used=used, cursor=cursor))


def events(page: AccessLogPage) -> list[dict[str, Any]]:
    """AuditEvents of its entries."""
    return [_event(found, page) for found in page.entries]


def _event(found: Access, page: AccessLogPage) -> dict[str, Any]:
    why = [
        {"coding": [{"system": grounds.SYSTEM, "code": b, "display": TOLD[b]["name"]["pl"]}]}
        for b in found.bases
        if b in TOLD
    ]
    if found.purpose:
        why.append({"coding": [{"system": _PURPOSE, "code": found.purpose}]})
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": found.id,
        "type": {"system": f"{_TERMS}audit-event-type", "code": "rest" if found.action else "object"},
        "subtype": [{"code": found.transaction, **({"display": found.what} if found.what else {})}],
        **({"action": found.action} if found.action else {}),
        "recorded": instant(found.at),
        "outcome": found.outcome,
        **({"purposeOfEvent": why} if why else {}),
        "agent": _agents(found),
        "source": {"observer": {"display": found.recorded_by or "unknown"}},
        "entity": [{"what": reference(page.patient)}],
    }
    if found.documents:
        event["entity"][0]["description"] = f"documents: {len(found.documents)}"
        event["entity"] += [{"what": {"identifier": {"value": d}}} for d in found.documents[:_DOCUMENTS_NAMED]]
    return event


def _agents(found: Access) -> list[dict[str, Any]]:
    who = found.name or found.person or found.system or "unknown"
    shown = _WITHHELD if found.withheld else who
    agent: dict[str, Any] = {"who": {"display": shown}, "requestor": True}
    if found.person:
        agent["who"]["identifier"] = fhir_identifier(found.person)
    if found.role:
        agent["role"] = [{"coding": [{"system": _ROLE, "code": found.role}]}]
    agents = [agent]
    if found.acting_for:
        whom = {"identifier": fhir_identifier(found.acting_for), "display": found.acting_for_name or found.acting_for}
        kind = {"coding": [{"system": AGENT, "code": ACTING_FOR}]}
        agents.append({"type": kind, "who": whom, "requestor": False})
    if found.organisation:
        place = found.organisation_name or found.organisation
        agents.append(
            {"who": {"identifier": fhir_identifier(found.organisation), "display": place}, "requestor": False}
        )
    return agents


def fhir_identifier(name: str) -> dict[str, str]:
    """An Identifier of root#extension, or of an OID alone."""
    root, mark, extension = name.rpartition("#")
    return {"system": f"urn:oid:{root}", "value": extension} if mark else {"value": name}
