"""Demographics queries and their answers in HL7 v3 (ITI TF-2:3.47.4), with continuation and cancel.

A name is asked for as it is written, unless the consumer says by the use SRCH that similar ones will do. Of several
identifiers any fits; of everything else all must fit. The consumer names its query, and continues or cancels by it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from obieg.codes.load import toml
from obieg.domain.authorities import Authorities
from obieg.domain.identifiers import PatientId
from obieg.domain.patients import Cancel, Candidate, Candidates, Continuation, DemographicsQuery, Question
from obieg.domain.problems import Finding, Problem
from obieg.mapping.hl7v3 import (
    CANCEL_SUFFIX,
    Asked,
    acknowledgement,
    opened,
    other_ids,
    our_device,
    provider,
    query_answer,
    query_of,
    registration,
    source_of,
)
from obieg.mapping.hl7v3_person import Reading, write_patient_id, write_person
from obieg.mapping.pdq import RECORDS_MAX, WHOLE_ANSWER
from obieg.mapping.pixv3 import read_domains
from obieg.protocol import SoapReply, SoapRequest
from obieg.wire import hl7v3
from obieg.wire.hl7v3 import child, children, is_null, local_name, location, text_of, value_of

QUERY_NAME = "PatientRegistryFindCandidatesQuery"
_TABLE = toml("hl7v3.toml")
_MATCH: dict[str, str] = _TABLE["match"]
_UNSUPPORTED = frozenset(_TABLE["query"]["unsupported"])
_QUANTITY = re.compile(r"[1-9]\d{0,8}\Z", re.ASCII)
_PERCENT = re.compile(r"(100|\d{1,2})\Z", re.ASCII)
_SIMILAR = ("SRCH", "PHON", "SNDX")  # EntityNameUse: not limited to an exact match
_GO_ON, _STOP = "waitContinuedQueryResponse", "aborted"  # QueryStatusCode
_NO_ID = '<id nullFlavor="NA"/>'


# reading -------------------------------------------------------------------------------------------------------------


def read_question(message: SoapRequest) -> Asked:
    """What is asked; raises Problem with everything that is wrong with it."""
    interaction, reading = opened(message, "candidates_query", "continuation")
    if interaction == "continuation":
        asked: Question = _read_continuation(reading, message.body)
    else:
        asked = _read_query(reading, message.body)
    return Asked(asked, str(hl7v3.read_transmission(message.body).id))


def _read_query(reading: Reading, body: Any) -> DemographicsQuery:
    query = query_of(reading, body)
    parameters = Parameters(reading, child(query, "parameterList"))
    values = parameters.read()
    minimum = read_minimum(reading, query)
    count = _quantity(reading, child(query, "initialQuantity"))
    if reading.findings:
        raise Problem(reading.findings)
    return DemographicsQuery(
        **values,
        identifiers=parameters.identifiers,
        authorities=tuple(parameters.domains),
        authority_locations=tuple(parameters.domains.values()),
        count=count,
        minimum_score=minimum,
        cursor=search_name(body, query),
        text=hl7v3.echo(query),
    )


def _read_continuation(reading: Reading, body: Any) -> Continuation | Cancel:
    query = child(body, "controlActProcess", "queryContinuation")
    where = f"{location(body)}/controlActProcess/queryContinuation"
    if not hl7v3.read_id(child(query, "queryId")).root:
        reading.find("RequiredFieldMissing", "the query that is meant is not named", f"{where}/queryId")
        raise Problem(reading.findings)
    cancels = local_name(body).endswith(CANCEL_SUFFIX)
    status, wanted = value_of(child(query, "statusCode"), "code"), _STOP if cancels else _GO_ON
    if status != wanted:
        reading.find("TableValueNotFound", f"the status must be {wanted}", f"{where}/statusCode")
    count = _quantity(reading, child(query, "continuationQuantity"))
    first = child(query, "startResultNumber")
    start = _quantity(reading, first) if first is not None and not is_null(first) else 0
    if reading.findings:
        raise Problem(reading.findings)
    if cancels:
        return Cancel(cursor=search_name(body, query), text=hl7v3.echo(query))
    cursor = search_name(body, query)
    return Continuation(f"{cursor}.{start - 1}" if start else cursor, count, hl7v3.echo(query))


def search_name(body: Any, query: Any) -> str:
    """What the index calls a search: the query id is unique only for who asks."""
    said = f"{source_of(hl7v3.read_transmission(body))}|{hl7v3.read_id(child(query, 'queryId'))}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, said))


def _quantity(reading: Reading, number: Any) -> int:
    if number is None or is_null(number):
        return WHOLE_ANSWER
    if not _QUANTITY.match(value_of(number)):
        reading.find("DataTypeError", "must be a whole number greater than 0", number)
        return WHOLE_ANSWER
    return min(int(value_of(number)), RECORDS_MAX)


def read_minimum(reading: Reading, query: Any) -> int:
    """``minimumDegreeMatch``, percent; 0 where nothing is demanded."""
    value = child(query, "matchCriterionList", "minimumDegreeMatch", "value")
    if value is None or is_null(value):
        return 0
    if not _PERCENT.match(value_of(value)):
        reading.find("DataTypeError", "the degree of match is a whole number from 0 to 100", value)
        return 0
    return int(value_of(value))


class Parameters:
    """The parameters of PRPA_MT201306UV02."""

    def __init__(self, reading: Reading, parameters: Any) -> None:
        self.identifiers: tuple[PatientId, ...] = ()
        self.domains: dict[str, str] = {}
        self._reading = reading
        self._parameters = parameters
        self._values: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """The criteria, by name of the field of DemographicsQuery; identifiers and domains are set beside."""
        reading, parameters = self._reading, self._parameters
        for name, read in _PARAMETERS.items():
            for value in reading.limited(children(parameters, name, "value")):
                if not is_null(value):
                    read(self, value)
        for parameter in parameters.iterchildren("*"):
            if local_name(parameter) in _UNSUPPORTED:
                reading.find("UnsupportedQueryField", "the index cannot search by this; leave it out", parameter)
        ids = children(parameters, "livingSubjectId", "value")
        self.identifiers = read_query_ids(reading, ids)
        self.domains = read_domains(reading, children(parameters, "otherIDsScopingOrganization", "value"))
        if not (self._values.keys() - {"exact", "active"} or self.identifiers or reading.findings):
            said = "nothing is asked by, or by wildcards alone; give a name, a date of birth or an identifier"
            reading.find("TooBroad", said, parameters)
        return self._values

    def _put(self, field: str, said: str, where: Any) -> None:
        """A criterion; a wildcard alone is none."""
        self._reading.length(said, where)
        if not said.strip("*"):
            return
        if "*" in said.rstrip("*"):
            text = "a wildcard (*) may stand at the end only, after the first letters"
            self._reading.find("UnsupportedQueryField", text, where)
        elif self._values.setdefault(field, said) != said:
            self._reading.find("UnsupportedQueryField", "two values are given; the index searches by one", where)

    def _name(self, en: Any) -> None:
        given = [text_of(g) for g in children(en, "given") if not value_of(g, "qualifier")]
        families = children(en, "family")
        present = [f for f in families if "BR" not in value_of(f, "qualifier").split()]
        # The index looks among all names; a birth name narrows only where no present one is given.
        family = [text_of(f) for f in present or families]
        self._put("family", "-".join(dict.fromkeys(filter(None, family))), en)
        self._put("given", " ".join(filter(None, given)), en)
        if not set(_SIMILAR) & set(value_of(en, "use").split()):
            self._values["exact"] = True

    def _mother(self, pn: Any) -> None:
        self._put("mother_family", text_of(child(pn, "family")), pn)
        self._put("mother_given", " ".join(filter(None, map(text_of, children(pn, "given")))), pn)

    def _sex(self, ce: Any) -> None:
        sex = _TABLE["gender_read"].get(value_of(ce, "code"))
        if sex is None:
            self._reading.find("TableValueNotFound", "administrative gender must be F, M or UN", ce)
        else:
            self._put("sex", sex, ce)

    def _born(self, ivl: Any) -> None:
        low, high = (self._reading.time(end, 8) for end in born_between(ivl))
        self._put("born_from", low or "", ivl)
        self._put("born_until", high or "", ivl)

    def _address(self, ad: Any) -> None:
        address = self._reading.address(ad)
        for field in ("street", "city", "state", "postal_code", "country"):
            self._put(field, getattr(address, field), ad)

    def _telecom(self, tel: Any) -> None:
        telecom = self._reading.telecom(tel)
        if telecom is not None:
            self._put("telecom", telecom.number, tel)

    def _status(self, cv: Any) -> None:
        status = value_of(cv, "code")
        if status not in _STATUS:
            self._reading.find("TableValueNotFound", "the status must be active or obsolete", cv)
        else:
            self._values["active"] = _STATUS[status]


_STATUS = {"active": True, "obsolete": False}
_PARAMETERS: dict[str, Callable[[Parameters, Any], None]] = {
    "livingSubjectName": Parameters._name,  # noqa: SLF001 - the table of the class itself
    "mothersMaidenName": Parameters._mother,  # noqa: SLF001
    "livingSubjectAdministrativeGender": Parameters._sex,  # noqa: SLF001
    "livingSubjectBirthTime": Parameters._born,  # noqa: SLF001
    "patientAddress": Parameters._address,  # noqa: SLF001
    "patientTelecom": Parameters._telecom,  # noqa: SLF001
    "patientStatusCode": Parameters._status,  # noqa: SLF001
}


def born_between(ivl: Any) -> tuple[Any, Any]:
    """The elements that carry the ends of an IVL_TS: itself where it is one date."""
    if value_of(ivl):
        return ivl, ivl
    return child(ivl, "low"), child(ivl, "high")


def read_query_ids(reading: Reading, elements: list[Any]) -> tuple[PatientId, ...]:
    """The identifiers asked for, of whatever authority."""
    found = [reading.identifier(ii, announced=False) for ii in reading.limited(elements)]
    return tuple(dict.fromkeys(filter(None, found)))


# writing -------------------------------------------------------------------------------------------------------------


def write_answer(found: Candidates | None, message: SoapRequest) -> SoapReply:
    """OK with one registration for each patient of this page, NF where there is none; None acknowledges a cancel."""
    if found is None:
        return acknowledgement(message)
    wanted = _wanted(message.body)
    custodian = our_device(message)
    subjects = [registration(_patient(c, wanted, message.authorities), custodian) for c in found.found]
    quantities = (found.total, len(found.found), found.remaining)
    capped: tuple[Finding, ...] = ()
    if found.capped:
        capped = (Finding("TooBroad", "more patients fit than are listed; narrow the question", warning=True),)
    status = "OK" if subjects else "NF"
    return query_answer(message, "candidates_answer", status, findings=capped, subjects=subjects, quantities=quantities)


def write_refusal(findings: Sequence[Finding], message: SoapRequest) -> SoapReply:
    """AE, with each thing that is wrong and where (TF-2:3.47.4.2.3); a cancel is refused by its acknowledgement."""
    if message.action.endswith(CANCEL_SUFFIX) or local_name(message.body).endswith(CANCEL_SUFFIX):
        return acknowledgement(message, findings)
    return query_answer(message, "candidates_answer", "AE", findings=findings)


def _wanted(body: Any) -> tuple[str, ...]:
    """The domains whose identifiers were asked for; a continuation does not repeat them."""
    parameters = child(body, "controlActProcess", "queryByParameter", "parameterList")
    values = children(parameters, "otherIDsScopingOrganization", "value")
    return tuple(dict.fromkeys(filter(None, (value_of(v, "root") for v in values))))


def _patient(candidate: Candidate, wanted: Sequence[str], authorities: Authorities) -> str:
    """A patient with all identifiers; in a domain that was asked for and has none it says so (TF-2:3.47.4.2.3)."""
    held = {i.authority for i in candidate.identifiers}
    ids = "".join([write_patient_id("id", i, authorities) for i in candidate.identifiers])
    missing = [other_ids(_NO_ID, root) for root in wanted if root not in held]
    return patient(candidate, ids or _NO_ID, missing, authorities)


def patient(candidate: Candidate, ids: str, others: Sequence[str], authorities: Authorities) -> str:
    """``patient`` as an answer has it, with how well it fits (TF-2:3.47.4.2.2, Table 3.47.4.2.2-8)."""
    person = write_person(candidate.demographics, authorities=authorities, other_ids=others)
    status = "active" if candidate.active else "obsolete"
    return (
        f'<patient classCode="PAT">{ids}<statusCode code="{status}"/>{person}{provider(candidate.patient.authority)}'
        '<subjectOf1><queryMatchObservation classCode="COND" moodCode="EVN">'
        f'{hl7v3.coded("code", _MATCH["observation"])}<value xmlns:xsi="{hl7v3.XSI}" xsi:type="INT" '
        f'value="{candidate.score}"/></queryMatchObservation></subjectOf1></patient>'
    )
