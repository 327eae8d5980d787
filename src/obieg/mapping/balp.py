"""Audit messages as FHIR R4 AuditEvents of IHE BALP 1.1.4, and back (https://profiles.ihe.net/ITI/BALP/).

The log keeps one row for one act, with the DICOM AuditMessage that names everybody whom it was about. BALP wants one
AuditEvent for each patient, so that nobody who reads one patient's log learns of another: :func:`render` makes of a row
as many AuditEvents as it has patients, each with its own patient alone. This costs nothing when the act happens, only
when somebody reads.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from obieg.codes.load import toml
from obieg.domain.audit import (
    AuditCode,
    AuditedObject,
    AuditFormat,
    AuditMessage,
    AuditParticipant,
    StoredAudit,
)
from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId, patient_id
from obieg.mapping.audit import DESTINATION, SOURCE, AuditUnreadable, read_audit_message
from obieg.wire import fhir_json, fhir_xml
from obieg.wire.fhir_json import JsonRefused
from obieg.wire.syslog import SyslogRefused, payload
from obieg.wire.xml import XmlRefused

_TABLE = toml("audit.toml")
_DONE: dict[str, dict[str, str]] = _TABLE["balp"]["done"]
_URI: dict[str, str] = _TABLE["balp"]["systems"]
_NAME = {uri: name for name, uri in _URI.items()}
DCM_URI = _URI["DCM"]
_PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_AGENTS = "https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes"
_OTHER_ID = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/ihe-otherId"
_ASSURANCE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/ihe-assuranceLevel"
_TERMS = "http://terminology.hl7.org/CodeSystem/"
_ENTITY_TYPE, _ENTITY_ROLE = f"{_TERMS}audit-entity-type", f"{_TERMS}object-role"
_LIFECYCLE, _SOURCE_TYPE = f"{_TERMS}dicom-audit-lifecycle", f"{_TERMS}security-source-type"
_REST = {"system": f"{_TERMS}audit-event-type", "code": "rest", "display": "Restful Operation"}
_INTERACTION = "http://hl7.org/fhir/restful-interaction"
_DISCLOSE = {
    "system": f"{_TERMS}iso-21089-lifecycle", "code": "disclose", "display": "Disclose Record Lifecycle Event",
}  # fmt: skip
_REQUEST_ID = {"system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "code": "XrequestId"}
_RECIPIENT = {"system": f"{_TERMS}v3-ParticipationType", "code": "IRCP", "display": "information recipient"}
_PROVIDER = {"system": f"{_TERMS}v3-RoleClass", "code": "PROV", "display": "healthcare provider"}
_CUSTODIAN = {"system": f"{_TERMS}provenance-participant-type", "code": "custodian", "display": "Custodian"}
_PURPOSE = f"{_TERMS}v3-ActReason"
_ENTITY_WORDS = {"1": "Person", "2": "System Object", "3": "Organization", "4": "Other"}
_ROLE_WORDS = {
    "1": "Patient", "3": "Report", "4": "Domain Resource", "12": "Data Repository", "13": "Security Resource",
    "20": "Job", "24": "Query",
}  # fmt: skip
_ROLES = {
    "110150": "Application", "110151": "Application Launcher", DESTINATION: "Destination Role ID",
    SOURCE: "Source Role ID",
}  # fmt: skip
_DISCLOSURES = {("110107", "C"): "Recipient", ("110106", "R"): "Source"}


class Reading(Value, frozen=True):
    """What a reader of the log is told besides the row."""

    source_id: str  # this node
    affinity_domain: str  # OID: a patient id of it is the logical id of a Patient here
    restful: frozenset[str]  # ids of the transactions that are interactions of FHIR


# rows ------------------------------------------------------------------------------------------------------------


def render(row: StoredAudit, reading: Reading) -> list[dict[str, Any]]:
    """The AuditEvents of a row: one for each patient of our own records, the one that was sent of those of others.

    Of a message that cannot be read the AuditEvent says that it is there and who sent it.
    """
    try:
        if row.format in (AuditFormat.FHIR_JSON, AuditFormat.FHIR_XML):
            return [_as_sent(row)]
        message = read_audit_message(payload_of(row))
    except (AuditUnreadable, SyslogRefused, JsonRefused, XmlRefused) as error:
        return [_unreadable(row, reading, str(error))]
    if row.format != AuditFormat.OWN:
        return [write(message, id_=str(row.audit_id))]
    patients = patients_of(message)
    if len(patients) <= 1:
        return [_own(message, row, reading, str(row.audit_id))]
    return [
        _own(_about(message, patient), row, reading, f"{row.audit_id}-{number}")
        for number, patient in enumerate(patients, 1)
    ]


def payload_of(row: StoredAudit) -> bytes:
    """The audit message of a row that is no FHIR resource. Raises SyslogRefused."""
    if row.format == AuditFormat.SYSLOG:
        return payload(row.message.encode())
    if row.format == AuditFormat.SYSLOG_BYTES:
        return payload(b64decode(row.message))
    return row.message.encode()


def message_of(row: StoredAudit) -> AuditMessage:
    """What a row says, whatever it is kept as. Raises AuditUnreadable."""
    try:
        if row.format in (AuditFormat.FHIR_JSON, AuditFormat.FHIR_XML):
            return read(_as_sent(row))
        return read_audit_message(payload_of(row))
    except (SyslogRefused, JsonRefused, XmlRefused) as error:
        raise AuditUnreadable(str(error)) from None


def patients_of(message: AuditMessage) -> list[str]:
    """Whom a record is about, by the ids of the authority that the first has: the others are other names of theirs."""
    named = [o.identifier for o in message.objects if _is_patient(o)]
    authority = named[0].partition("^")[2] if named else ""
    return list(dict.fromkeys(n for n in named if n.partition("^")[2] == authority))


def _about(message: AuditMessage, patient: str) -> AuditMessage:
    objects = tuple(o for o in message.objects if not _is_patient(o) or o.identifier == patient)
    return AuditMessage(
        event=message.event,
        action=message.action,
        outcome=message.outcome,
        recorded=message.recorded,
        outcome_detail=message.outcome_detail,
        types=message.types,
        purposes=message.purposes,
        participants=message.participants,
        source_id=message.source_id,
        source_site=message.source_site,
        source_types=message.source_types,
        objects=objects,
    )


def _is_patient(o: AuditedObject) -> bool:
    return o.type == "1" and o.role == "1"


def _as_sent(row: StoredAudit) -> dict[str, Any]:
    """As it came, under the id that it has here."""
    data = row.message.encode()
    resource = fhir_json.read(data) if row.format == AuditFormat.FHIR_JSON else fhir_xml.read(data)
    return {"resourceType": "AuditEvent", **resource, "id": str(row.audit_id)}


def _unreadable(row: StoredAudit, reading: Reading, why: str) -> dict[str, Any]:
    return {
        "resourceType": "AuditEvent",
        "id": str(row.audit_id),
        "type": {"system": DCM_URI, "code": "110113", "display": "Security Alert"},
        "action": "C",
        "recorded": _instant(row.recorded_at),
        "outcome": "8",
        "outcomeDesc": f"what came cannot be read: {why}",
        "agent": [{"who": {"display": row.sender or "unknown"}, "requestor": True}],
        "source": {"observer": {"display": reading.source_id}},
    }


# our own records ---------------------------------------------------------------------------------------------------


def _own(message: AuditMessage, row: StoredAudit, reading: Reading, id_: str) -> dict[str, Any]:
    done = _what_was_done(message, reading)
    succeeded = message.outcome == "0"
    patient = any(map(_is_patient, message.objects))
    disclosed = _DISCLOSURES.get((message.event.code, message.action), "") if patient and succeeded else ""
    resource = write(message, id_=id_)
    resource["recorded"] = _instant(row.recorded_at)
    profiles = []
    agents = _own_agents(message, done)
    entities = [_entity(o, reading) for o in message.objects if o.id_type.system != _AGENTS]
    if done:
        resource["type"] = _REST
        resource["action"] = _DONE[done]["action"]
        resource["subtype"] = [{"system": _INTERACTION, "code": done, "display": done}, *resource.get("subtype", ())]
        if done != "search" and not any(e.get("type", {}).get("code") == "2" for e in entities):
            entities += [_data(o, reading) for o in message.objects if _is_patient(o)][:1]
        data = sum(e["type"]["code"] == "2" for e in entities if "type" in e)
        if succeeded and data == 1:
            profiles.append(_PROFILE + _DONE[done]["profile"].format("Patient" if patient else ""))
    elif disclosed:
        resource["subtype"] = [_DISCLOSE, *resource.get("subtype", ())]
        profiles.append(f"{_PROFILE}PrivacyDisclosure.{disclosed}")
    profiles += _with_token(message, agents)
    if any(a.get("type", {}).get("coding", [{}])[0].get("system") in (_AGENTS, _RECIPIENT["system"]) for a in agents):
        for agent in agents:
            if "network" in agent:
                agent["requestor"] = False
    if row.request_id:
        entities.append({"what": {"identifier": {"value": row.request_id}}, "type": _REQUEST_ID})
    for agent in agents:
        if agent.get("type") and "network" not in agent and _is_machine(agent):
            agent["network"] = {"address": reading.source_id, "type": "1"}
    resource["agent"] = agents
    resource["source"] = {
        "observer": {"identifier": {"value": reading.source_id}, "display": reading.source_id},
        "type": [{"system": _SOURCE_TYPE, "code": "4", "display": "Application Server"}],
    }
    if entities:
        resource["entity"] = entities
    if profiles:
        resource["meta"] = {"profile": profiles}
    return _in_order(resource)


def _what_was_done(message: AuditMessage, reading: Reading) -> str:
    """The interaction of FHIR that a record is of; "" where it is another protocol's, or a disclosure."""
    if not any(t.code in reading.restful for t in message.types):
        return ""
    event, action = message.event.code, message.action
    if event == "110113" or (event, action) in _DISCLOSURES:
        return ""
    if event in ("110112", "110101"):
        return "search" if any(o.role == "24" for o in message.objects) else "read"
    return {"C": "create", "R": "read", "U": "update", "D": "delete"}.get(action, "")


def _own_agents(message: AuditMessage, done: str) -> list[dict[str, Any]]:
    agents = []
    for participant in message.participants:
        agent = _agent(participant)
        role = participant.roles[0].code if participant.roles else ""
        if done and role in (SOURCE, DESTINATION):
            # A client is who asks: DICOM's Source for what is sent or asked, its Destination for what is given out.
            coded = _DONE[done]["client" if role == SOURCE else "server"]
            coding = _CUSTODIAN if coded == "custodian" else _dicom(coded)
            agent["type"] = {"coding": [coding]}
        elif participant.is_requestor and role not in (SOURCE, DESTINATION):
            agent["type"] = {"coding": [_RECIPIENT]}
            agent["requestor"] = True
        if role in (SOURCE, DESTINATION) and "network" not in agent and participant.user_id.startswith("http"):
            agent["network"] = {"address": participant.user_id, "type": "5"}
        agents.append(agent)
    return agents


def _is_machine(agent: Mapping[str, Any]) -> bool:
    return agent["type"]["coding"][0].get("system") in (DCM_URI, _CUSTODIAN["system"])


def _dicom(code: str) -> dict[str, str]:
    return {"system": DCM_URI, "code": code, "display": _ROLES[code]}


def _with_token(message: AuditMessage, agents: list[dict[str, Any]]) -> list[str]:
    """What the proof of the caller adds (BALP 3:5.7.5, 3:5.7.6): the profiles that it makes the record conform to."""
    token = next((o for o in message.objects if o.id_type.system == _AGENTS), None)
    user = next((a for a in agents if a.get("type", {}).get("coding") == [_RECIPIENT]), None)
    if token is None or user is None:
        return []
    said = {name: value.decode("utf-8", "replace") for name, value in token.details}
    kind = token.id_type.code
    user["type"]["coding"].insert(0, {"system": _AGENTS, "code": kind})
    user["policy"] = [token.identifier]
    identifier = user["who"].setdefault("identifier", {})
    if "issuer" in said:
        user["who"]["identifier"] = {"system": said["issuer"], **identifier}
    if "name" in said:
        user["name"] = said["name"]
        user["who"]["display"] = said["name"]
    if "purpose of use" in said:
        user["purposeOfUse"] = [{"coding": [{"system": _PURPOSE, "code": said["purpose of use"]}]}]
    extensions = []
    if "assurance" in said:
        extensions.append({"url": _ASSURANCE, "valueCodeableConcept": {"text": said["assurance"]}})
    if kind == "UserSamlAgent" and "name" in said:
        coding = {"system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/OtherIdentifierTypes",
                  "code": "SAML-subject-id"}  # fmt: skip
        extensions.append({"url": _OTHER_ID, "valueIdentifier": {"type": {"coding": [coding]}, "value": said["name"]}})
    if extensions:
        user["extension"] = extensions
    for name in ("organisation", "child organisation"):
        if name in said:
            agents.append(
                {
                    "type": {"coding": [_PROVIDER]},
                    "who": {"identifier": {"value": said[name]}, "display": said[name]},
                    "requestor": False,
                }
            )
    if kind == "UserOauthAgent" and "client" in said:
        agents.append(
            {
                "type": {"coding": [_dicom("110150")]},
                "who": {"identifier": {"value": said["client"]}},
                "requestor": False,
                "network": next((dict(a["network"]) for a in agents if "network" in a), {"address": said["client"]}),
            }
        )
        return [f"{_PROFILE}OAUTHaccessTokenUse.Comprehensive", f"{_PROFILE}OAUTHaccessTokenUse.Minimal"]
    if kind == "UserSamlAgent":
        return [f"{_PROFILE}SAMLaccessTokenUse.Comprehensive"]
    return []


def _entity(o: AuditedObject, reading: Reading) -> dict[str, Any]:
    written = _write_object(o)
    if _is_patient(o):
        found = patient_id(o.identifier)
        if found is not None:
            what: dict[str, Any] = {"identifier": _identifier(found)}
            if found.authority == reading.affinity_domain:
                what = {"reference": f"Patient/{found.value}", **what}
            written["what"] = what
    elif o.role == "24":  # BALP: a query says what was asked and nothing else
        written.pop("what", None)
        written.pop("name", None)
        written["query"] = b64encode(o.query or o.identifier.encode()).decode()
        written["description"] = o.identifier
    return written


def _data(o: AuditedObject, reading: Reading) -> dict[str, Any]:
    """The Patient as what was read or changed."""
    return {
        "what": _entity(o, reading)["what"],
        "type": {"system": _ENTITY_TYPE, "code": "2", "display": _ENTITY_WORDS["2"]},
        "role": {"system": _ENTITY_ROLE, "code": "4", "display": _ROLE_WORDS["4"]},
    }


def _identifier(found: PatientId) -> dict[str, str]:
    return {"system": f"urn:oid:{found.authority}", "value": found.value}


# any message as an AuditEvent (ITI TF-2:3.20.4.2.2.1; http://hl7.org/fhir/R4/auditevent-mappings.html#dicom) ------


def write(message: AuditMessage, *, id_: str = "") -> dict[str, Any]:
    """What a DICOM AuditMessage says, as an AuditEvent."""
    resource: dict[str, Any] = {"resourceType": "AuditEvent"}
    if id_:
        resource["id"] = id_
    resource["type"] = _coding(message.event)
    if message.types:
        resource["subtype"] = [_coding(c) for c in message.types]
    if message.action in ("C", "R", "U", "D", "E"):
        resource["action"] = message.action
    resource["recorded"] = _instant(message.recorded)
    resource["outcome"] = message.outcome
    if message.outcome_detail:
        resource["outcomeDesc"] = message.outcome_detail
    if message.purposes:
        resource["purposeOfEvent"] = [{"coding": [_coding(c)]} for c in message.purposes]
    resource["agent"] = [_agent(p) for p in message.participants] or [
        {"who": {"display": "unknown"}, "requestor": False}
    ]
    source: dict[str, Any] = {"site": message.source_site} if message.source_site else {}
    observer = message.source_id or "unknown"
    source["observer"] = {"identifier": {"value": observer}, "display": observer}
    if message.source_types:
        source["type"] = [_coding(c, _SOURCE_TYPE) for c in message.source_types]
    resource["source"] = source
    if message.objects:
        resource["entity"] = [_write_object(o) for o in message.objects]
    return resource


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _coding(code: AuditCode, system: str = "") -> dict[str, str]:
    uri = _URI.get(code.system, code.system if ":" in code.system else system)
    said = {"system": uri, "code": code.code or "unknown", "display": code.display}
    return {name: value for name, value in said.items() if value}


def _agent(participant: AuditParticipant) -> dict[str, Any]:
    agent: dict[str, Any] = {}
    if participant.roles:
        agent["type"] = {"coding": [_coding(participant.roles[0])]}
        if more := participant.roles[1:]:
            agent["role"] = [{"coding": [_coding(c)]} for c in more]
    if participant.user_id:
        agent["who"] = {"identifier": {"value": participant.user_id}, "display": participant.user_id}
    if participant.alternative_user_id:
        agent["altId"] = participant.alternative_user_id
    if participant.user_name:
        agent["name"] = participant.user_name
    agent["requestor"] = participant.is_requestor
    if participant.network_address:
        agent["network"] = {"address": participant.network_address}
        if participant.network_type in ("1", "2", "3", "4", "5"):
            agent["network"]["type"] = participant.network_type
    return agent


def _write_object(o: AuditedObject) -> dict[str, Any]:
    entity: dict[str, Any] = {}
    if o.identifier:
        identifier: dict[str, Any] = {"value": o.identifier}
        if _is_patient(o) and (found := patient_id(o.identifier)) is not None:
            identifier = _identifier(found)
        elif o.id_type.code:
            identifier = {"type": {"coding": [_coding(o.id_type)]}, **identifier}
        entity["what"] = {"identifier": identifier}
    if o.type:
        entity["type"] = _named(_ENTITY_TYPE, o.type, _ENTITY_WORDS)
    if o.role:
        entity["role"] = _named(_ENTITY_ROLE, o.role, _ROLE_WORDS)
    if o.lifecycle:
        entity["lifecycle"] = {"system": _LIFECYCLE, "code": o.lifecycle}
    if o.query:  # sev-1: a name or a query, never both
        entity["query"] = b64encode(o.query).decode()
    elif o.name:
        entity["name"] = o.name
    if o.details:
        entity["detail"] = [_detail(name, value) for name, value in o.details]
    return entity


def _detail(name: str, value: bytes) -> dict[str, str]:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if text.strip() and text.isprintable():
        return {"type": name or "unknown", "valueString": text}
    return {"type": name or "unknown", "valueBase64Binary": b64encode(value or b"\0").decode()}


def _named(system: str, code: str, words: Mapping[str, str]) -> dict[str, str]:
    display = words.get(code)
    return {"system": system, "code": code, "display": display} if display else {"system": system, "code": code}


_ORDER = (
    "resourceType", "id", "meta", "type", "subtype", "action", "recorded", "outcome", "outcomeDesc", "purposeOfEvent",
    "agent", "source", "entity",
)  # fmt: skip


def _in_order(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: resource[name] for name in _ORDER if name in resource}


# an AuditEvent as a message ------------------------------------------------------------------------------------------


def read(resource: Mapping[str, Any]) -> AuditMessage:
    """What an AuditEvent says, as DICOM has it; what DICOM has no place for is left out. Raises AuditUnreadable."""
    try:
        recorded = datetime.fromisoformat(str(resource["recorded"]))
        return AuditMessage(
            event=_read_coding(resource["type"]),
            action=resource.get("action", ""),
            outcome=resource.get("outcome", "0"),
            recorded=recorded if recorded.tzinfo is not None else recorded.replace(tzinfo=UTC),
            outcome_detail=resource.get("outcomeDesc", ""),
            types=tuple(map(_read_coding, resource.get("subtype", ()))),
            purposes=tuple(_read_concepts(resource.get("purposeOfEvent", ()))),
            participants=tuple(map(_read_agent, resource["agent"])),
            source_id=_who(resource["source"].get("observer", {})),
            source_site=resource["source"].get("site", ""),
            source_types=tuple(map(_read_coding, resource["source"].get("type", ()))),
            objects=tuple(map(_read_entity, resource.get("entity", ()))),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AuditUnreadable(f"the AuditEvent lacks what every AuditEvent has: {error}") from None


def _read_coding(coding: Mapping[str, Any]) -> AuditCode:
    system = coding.get("system", "")
    return AuditCode(coding.get("code", ""), _NAME.get(system, system), coding.get("display", ""))


def _read_concepts(concepts: Sequence[Mapping[str, Any]]) -> Iterator[AuditCode]:
    for concept in concepts:
        yield from map(_read_coding, concept.get("coding", ()))


def _who(reference: Mapping[str, Any]) -> str:
    """What names somebody: identifier, reference or what people read."""
    identifier = reference.get("identifier", {})
    return identifier.get("value") or reference.get("reference") or reference.get("display") or ""


def _read_agent(agent: Mapping[str, Any]) -> AuditParticipant:
    network = agent.get("network", {})
    return AuditParticipant(
        user_id=_who(agent.get("who", {})),
        is_requestor=agent.get("requestor", False),
        roles=tuple(_read_concepts([agent.get("type", {}), *agent.get("role", ())])),
        user_name=agent.get("name", ""),
        alternative_user_id=agent.get("altId", ""),
        network_address=network.get("address", ""),
        network_type=network.get("type", ""),
    )


def _read_entity(entity: Mapping[str, Any]) -> AuditedObject:
    what = entity.get("what", {})
    identifier = what.get("identifier", {})
    id_type = next(_read_concepts([identifier.get("type", {})]), AuditCode(""))
    named = _who(what)
    system = identifier.get("system", "")
    if system.startswith("urn:oid:") and entity.get("type", {}).get("code") == "1":
        named = str(PatientId(named, system.removeprefix("urn:oid:")))
    return AuditedObject(
        identifier=named,
        id_type=id_type,
        type=_code_of(entity.get("type")),
        role=_code_of(entity.get("role")),
        lifecycle=_code_of(entity.get("lifecycle")),
        name=entity.get("name", ""),
        query=_binary(entity.get("query", "")),
        details=tuple(_read_details(entity.get("detail", ()))),
    )


def _read_details(details: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, bytes]]:
    for detail in details:
        text = detail.get("valueString")
        yield detail["type"], text.encode() if text is not None else _binary(detail.get("valueBase64Binary", ""))


def _code_of(coding: Mapping[str, Any] | None) -> str:
    return coding.get("code", "") if coding else ""


def _binary(value: str) -> bytes:
    try:
        return b64decode(value)
    except (binascii.Error, ValueError):
        return b""


# what a record of others is found by ------------------------------------------------------------------------------


def patients_named(resource: Mapping[str, Any], affinity_domain: str, base: str) -> tuple[str, ...]:
    """Whom an AuditEvent is about, as the log finds them: CX, or the reference where it leads to another server."""
    found = []
    for entity in resource.get("entity", ()):
        what = entity.get("what", {})
        if _code_of(entity.get("role")) != "1" and not what.get("reference", "").startswith("Patient/"):
            continue
        identifier = what.get("identifier", {})
        if (system := identifier.get("system", "")).startswith("urn:oid:") and identifier.get("value"):
            found.append(str(PatientId(identifier["value"], system.removeprefix("urn:oid:"))))
        if reference := what.get("reference", ""):
            found.append(patient_named(reference, affinity_domain, base))
    return tuple(dict.fromkeys(found))


def patient_named(reference: str, affinity_domain: str, base: str) -> str:
    """A reference to a Patient as the log keeps it: one of this service is a patient id of the affinity domain."""
    local = reference.removeprefix(f"{base}/")
    if local.startswith("Patient/"):
        return str(PatientId(local.removeprefix("Patient/").partition("/")[0], affinity_domain))
    return reference


def transaction_of(message: AuditMessage) -> str:
    """The transaction of IHE that a message is of; ITI-20 where it is of none."""
    of_ihe = (t.code for t in message.types if t.code.partition("-")[0] in ("ITI", "RAD", "PHARM", "QRPH", "PCC"))
    return next(of_ihe, "ITI-20")
