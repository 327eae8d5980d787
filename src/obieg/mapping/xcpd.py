"""Cross-community patient discovery, the answering side (ITI TF-2:3.55.4).

Other communities are told of a patient only where the index is sure. What they get is the
affinity-domain id, under which they may ask for documents, the demographics, and those identifiers of whose authorities
they spoke themselves. Where the candidates are not close enough, more attributes are asked for; where there is none, or
none that may be shown, the answer is the same: nobody was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from obieg.codes.load import toml
from obieg.domain.identifiers import PatientId
from obieg.domain.matching import Record
from obieg.domain.patients import Candidate, Candidates, PatientMatch
from obieg.domain.persons import Demographics
from obieg.domain.problems import Finding, Problem
from obieg.mapping.hl7v3 import Asked, answer, opened, other_ids, query_answer, query_of, registration
from obieg.mapping.hl7v3_person import Reading, write_patient_id
from obieg.mapping.pdqv3 import born_between, patient, read_minimum, read_query_ids
from obieg.mapping.pixv3 import read_domains
from obieg.protocol import SoapReply, SoapRequest
from obieg.wire import hl7v3
from obieg.wire.hl7v3 import InstanceId, child, children, coded, is_null, location, write_id

QUERY_NAME = "CrossGatewayPatientDiscovery"
DEFERRED = ":Deferred:"  # in the action of the option that is not offered
_TABLE = toml("hl7v3.toml")
_MATCH: dict[str, str] = _TABLE["match"]
_SYSTEM: dict[str, str] = _TABLE["code_system"]
_ATTRIBUTES: dict[str, str] = _TABLE["attribute_requested"]
_CERTAIN = "certain"
_CANDIDATES_MAX = 10
_BUSY = "XDSRegistryBusy"


class Discovery(NamedTuple):
    """What another community asks."""

    match: PatientMatch
    minimum_score: int  # percent; who fits less well is not told, however sure the index is


class Discovered(NamedTuple):
    """The answer to it, and whose it is."""

    sure: tuple[Candidate, ...]
    wanting: tuple[str, ...]  # fields of Demographics that would make one of the other candidates sure
    home_community_id: str  # OID


# reading -------------------------------------------------------------------------------------------------------------


def read_discovery(message: SoapRequest) -> Asked:
    """The question: demographics (name and date of birth), an identifier that communities share, or both.

    Raises Problem with everything that is wrong with it.
    """
    _, reading = opened(message, "candidates_query")
    query = query_of(reading, message.body)
    if DEFERRED in message.action:
        reading.find("UnsupportedProcessingMode", "answers are given at once only", location(message.body))
    parameters = child(query, "parameterList")
    identifiers = read_query_ids(reading, children(parameters, "livingSubjectId", "value"))
    person = _person(reading, parameters)
    for field, name in (("names", "livingSubjectName"), ("birth_date", "livingSubjectBirthTime")):
        if not (identifiers or getattr(person, field) or reading.findings):
            said = "without an identifier a name and a date of birth are needed"
            reading.find("RequiredFieldMissing", said, f"{location(parameters)}/{name}/value")
    read_domains(reading, children(parameters, "otherIDsScopingOrganization", "value"))
    minimum = read_minimum(reading, query)
    if reading.findings:
        raise Problem(reading.findings)
    match = PatientMatch(Record(identifiers, person), count=_CANDIDATES_MAX, text=hl7v3.echo(query))
    return Asked(Discovery(match, minimum), str(hl7v3.read_transmission(message.body).id))


def _person(reading: Reading, parameters: Any) -> Demographics:
    """The parameters as a Person states the same."""
    values: dict[str, Any] = {}

    def stated(name: str) -> list[Any]:
        return [v for v in reading.limited(children(parameters, name, "value")) if not is_null(v)]

    if names := stated("livingSubjectName"):
        values["names"] = reading.names(names) or ()
    if mothers := stated("mothersMaidenName"):
        values["mother_name"] = next(iter(reading.names(mothers) or ()), None)
    for born in stated("livingSubjectBirthTime")[:1]:
        low, high = (reading.time(end, 8) for end in born_between(born))
        values["birth_date"] = (low if low == high else "") or ""
    for sex in stated("livingSubjectAdministrativeGender")[:1]:
        values["sex"] = reading.sex(sex) or ""
    addresses = [reading.address(a) for a in stated("patientAddress")]
    telecoms = [reading.telecom(t) for t in stated("patientTelecom")]
    place = next((hl7v3.text_of(p) for p in stated("livingSubjectBirthPlaceName")), "")
    return Demographics(**values, addresses=tuple(addresses), telecoms=tuple(filter(None, telecoms)), birth_place=place)


# deciding ------------------------------------------------------------------------------------------------------------


def judged(asked: Discovery, found: Candidates, home_community_id: str) -> Discovered:
    """Who is told: who is certain, and fits as well as is demanded; and what would help to be sure of the others."""
    sure = tuple(c for c in found.found if c.grade == _CERTAIN and c.score >= asked.minimum_score)
    wanting: tuple[str, ...] = ()
    if found.found and not sure:
        person = asked.match.record.demographics
        wanting = tuple(field for field in _ATTRIBUTES if not getattr(person, field))
    return Discovered(sure, wanting, home_community_id)


# writing -------------------------------------------------------------------------------------------------------------


def write_answer(discovered: Discovered, message: SoapRequest) -> SoapReply:
    """One registration for each sure patient, a request for more attributes, or NF (TF-2:3.55.4.2.3, cases 1 to 4)."""
    spoken_of = _authorities_spoken_of(message.body)
    home = write_id("id", InstanceId(discovered.home_community_id)) + coded(
        "code", _MATCH["not_a_locator"], _SYSTEM["data_locator"]
    )
    subjects = [registration(_patient(c, spoken_of, message), home) for c in discovered.sure]
    issues = ""
    if discovered.wanting:
        issues = _issue(_requested(_ATTRIBUTES[field] for field in discovered.wanting))
    status = "OK" if subjects or issues else "NF"
    return query_answer(message, "candidates_answer", status, subjects=subjects, issues=issues)


def write_refusal(findings: Sequence[Finding], message: SoapRequest) -> SoapReply:
    """AE, with what is wrong, and whether to come back (case 5); the deferred form is refused as it is acknowledged."""
    if DEFERRED in message.action:
        return answer(message, "acknowledgement", "AE", findings)
    reason = _MATCH["busy" if any(f.code == _BUSY for f in findings) else "not_available"]
    issue = _issue(
        '<mitigatedBy typeCode="MITGT"><detectedIssueManagement classCode="ACT" moodCode="EVN">'
        f"{coded('code', reason, _SYSTEM['refusal_reason'])}</detectedIssueManagement></mitigatedBy>"
    )
    return query_answer(message, "candidates_answer", "AE", findings=findings, issues=issue)


def _authorities_spoken_of(body: Any) -> frozenset[str]:
    parameters = child(body, "controlActProcess", "queryByParameter", "parameterList")
    names = ("livingSubjectId", "otherIDsScopingOrganization")
    return frozenset(hl7v3.value_of(v, "root") for name in names for v in children(parameters, name, "value"))


def _patient(candidate: Candidate, spoken_of: frozenset[str], message: SoapRequest) -> str:
    authorities = message.authorities
    own = candidate.patient
    told: list[PatientId] = [i for i in candidate.identifiers if i.authority in spoken_of and i != own]
    others = [other_ids(write_patient_id("id", i, authorities), i.authority) for i in told]
    return patient(candidate, write_patient_id("id", own, authorities), others, authorities)


def _requested(codes: Iterable[str]) -> str:
    return "".join(
        [
            '<triggerFor typeCode="TRIG"><actOrderRequired classCode="ACT" moodCode="RQO">'
            f"{coded('code', code, _SYSTEM['attributes_requested'])}</actOrderRequired></triggerFor>"
            for code in codes
        ]
    )


def _issue(content: str) -> str:
    code = coded("code", _MATCH["issue"], _SYSTEM["act_code"])
    return (
        f'<reasonOf typeCode="RSON"><detectedIssueEvent classCode="ALRT" moodCode="EVN">{code}{content}'
        "</detectedIssueEvent></reasonOf>"
    )
