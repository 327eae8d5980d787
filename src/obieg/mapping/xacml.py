"""Questions whether somebody may have documents, and answers (XACML 3.0; its SAML 2.0 profile, sections 4 and 5)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from obieg.codes.load import toml
from obieg.domain.audit import AuditObject
from obieg.domain.decisions import RESOURCES_MAX, Decided, DecisionQuery, Resource
from obieg.domain.identifiers import PatientId, patient_id
from obieg.domain.problems import Finding, Problem
from obieg.mapping.directory_terms import span
from obieg.mapping.xua import read_facts
from obieg.protocol import SoapReply, SoapRequest
from obieg.wire.saml import Attribute, AttributeValue
from obieg.wire.structure import SecurityRefused
from obieg.wire.xml import attribute, text

_TABLE = toml("xacml.toml")
_NS: dict[str, str] = _TABLE["namespaces"]
_CATEGORY: dict[str, str] = _TABLE["category"]
PROTOCOLS: tuple[str, ...] = tuple(_TABLE["profile"]["protocol"])
_ASSERTIONS = dict(zip(PROTOCOLS, _TABLE["profile"]["assertion"], strict=True))
_NAMES = {name: fact for fact, names in _TABLE["resource"].items() for name in names}
QUERY, RESPONSE = "XACMLAuthzDecisionQuery", (_NS["samlp"], "Response")
_STRING = "http://www.w3.org/2001/XMLSchema#string"
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_OK = "urn:oasis:names:tc:xacml:1.0:status:ok"
_NOT_PROCESSED = "urn:oasis:names:tc:xacml:1.0:status:processing-error"
_UNKNOWN = "UnsupportedQueryField"  # of what XACML knows
_NO_TIME = "1970-01-01T00:00:00Z"  # of what nothing was looked up for
_ACTION_ID, _READ = "urn:oasis:names:tc:xacml:1.0:action:action-id", "read"
_ATTRIBUTES_MAX = 32  # of one category
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:T?(\d\d):?(\d\d):?(\d\d))?(?:\.\d+)?(?:Z|([+-]\d\d):?(\d\d))?")
_TRUE = frozenset(("true", "1"))  # xs:boolean


def _core(name: str) -> str:
    return f"{{{_NS['core']}}}{name}"


# reading ---------------------------------------------------------------------------------------------------------


def read_query(message: SoapRequest) -> DecisionQuery:
    """The question. Raises Problem for what cannot be read."""
    body = message.body
    protocol, _, name = body.tag[1:].partition("}")
    request = body.find(_core("Request"))
    if name != QUERY or protocol not in PROTOCOLS or request is None:
        raise Problem.of("MessageNotReadable", f"the Body holds no {QUERY} with a Request of XACML 3.0", QUERY)
    if request.get("CombinedDecision", "").strip() in _TRUE or request.find(_core("MultiRequests")) is not None:
        raise Problem.of(_UNKNOWN, "CombinedDecision and MultiRequests are not known here", "Request")
    said: list[Attribute] = []
    resources: list[Resource] = []
    for category in request.iterchildren(_core("Attributes")):
        named = category.get("Category", "")
        if named == _CATEGORY["resource"]:
            resources += _resources(_attributes(category))
        elif named in (_CATEGORY["subject"], _CATEGORY["action"]):
            stated = _attributes(category)
            if any(value.text != _READ for each in stated if each.name == _ACTION_ID for value in each.values):
                raise Problem.of(_UNKNOWN, "what is asked about is reading (read)", _ACTION_ID)
            said += stated
        elif named != _CATEGORY["environment"]:
            raise Problem.of("MessageNotReadable", "this category of attributes is not known here", named[:200])
    if not resources:
        raise Problem.of("RequiredFieldMissing", "no resource is named: a document, or a patient", "resource")
    if len(resources) > RESOURCES_MAX:
        raise Problem.of("LimitExceeded", f"more than {RESOURCES_MAX} resources in one question", "resource")
    if len({(resource.patient, bool(resource.document)) for resource in resources}) > 1:
        raise Problem.of("RuleBroken", "one question is about documents, or about one patient", "resource")
    try:
        subject = read_facts(said)
    except SecurityRefused as error:
        raise Problem.of("TableValueNotFound", f"who asks cannot be read: {error}", "subject") from None
    return DecisionQuery(tuple(resources), subject, body.get("ID", "")[:200], protocol)


def _attributes(category: Any) -> list[Attribute]:
    found = list(category.iterchildren(_core("Attribute")))
    if len(found) > _ATTRIBUTES_MAX + RESOURCES_MAX:
        raise Problem.of("LimitExceeded", f"more than {RESOURCES_MAX} attributes", "Attributes")
    return [
        Attribute(each.get("AttributeId", ""), tuple(map(_value, each.iterchildren(_core("AttributeValue")))))
        for each in found
    ]


def _value(element: Any) -> AttributeValue:
    """Text, or one HL7 value (InstanceIdentifier, CodedValue)."""
    child = next(element.iterchildren(f"{{{_NS['hl7']}}}*"), None)
    if child is None:
        return AttributeValue((element.text or "").strip())
    if "root" in child.attrib:
        return AttributeValue(root=child.get("root"), extension=child.get("extension", ""))
    return AttributeValue(code=child.get("code", ""), root=child.get("codeSystem", ""))


def _resources(attributes: Iterable[Attribute]) -> list[Resource]:
    """What one category names: each document, or what of a patient is of a type and time."""
    said: dict[str, list[AttributeValue]] = {}
    for each in attributes:
        said.setdefault(_NAMES.get(each.name, ""), []).extend(each.values)
    for name in ("patient", "type_code", "created_from", "created_to"):
        if len({*said.get(name, ())}) > 1:
            raise Problem.of("RuleBroken", "one resource is of one patient, one type and one time", name)
    patient = next(map(_patient, said.get("patient", ())), None)
    if documents := [value.text for value in said.get("document", ()) if value.text]:
        return [Resource(document, patient) for document in documents]
    if patient is None:
        return []
    type_code = next((value.text or value.code for value in said.get("type_code", ())), "")
    begins, ends = _time(said.get("created_from", ())), _time(said.get("created_to", ()), after=True)
    if ends and begins >= ends:
        raise Problem.of("RuleBroken", "the time that is asked about ends before it begins", "resource")
    return [Resource("", patient, type_code, begins, ends)]


def _patient(value: AttributeValue) -> PatientId:
    root, _, extension = value.text.partition("#")
    found = patient_id(value.text) or PatientId(value.extension or extension, value.root or root)
    if not (found.value and found.authority):
        raise Problem.of("DataTypeError", "a patient is named by CX, root#extension or InstanceIdentifier", "resource")
    return found


def _time(values: Sequence[AttributeValue], *, after: bool = False) -> str:
    """The first moment of a time in UTC, or the first one after it; "" for none."""
    said = values[0].text if values else ""
    if not said:
        return ""
    found = _DATE.fullmatch(said)
    bounds = None
    if found is not None:
        year, month, day, hour, minute, second, hours, minutes = found.groups()
        clock = f"T{hour}:{minute}:{second}{f'{hours}:{minutes}' if hours else 'Z'}" if hour else ""
        bounds = span(f"{year}-{month}-{day}{clock}")
    if bounds is None:
        raise Problem.of("DataTypeError", "a time is a date or a dateTime of XML Schema that exists", "resource")
    return re.sub(r"\D", "", bounds[after])[:14]


def audited(query: DecisionQuery) -> tuple[AuditObject, ...]:
    """What it was about."""
    patients = {str(resource.patient) for resource in query.resources if resource.patient is not None}
    documents = dict.fromkeys(resource.document for resource in query.resources if resource.document)
    return (*(AuditObject("patient", p) for p in sorted(patients)), *(AuditObject("document", d) for d in documents))


# writing ---------------------------------------------------------------------------------------------------------


def write_answer(result: tuple[Decided, DecisionQuery], issuer: str = "") -> SoapReply:
    """A SAML Response with one XACML Result for each resource, in their order."""
    decided, query = result
    results = "".join(
        _result("Permit" if permitted else "Deny", f'<x:StatusCode Value="{_OK}"/>', _echo(resource))
        for permitted, resource in zip(decided.permitted, query.resources, strict=True)
    )
    at = decided.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _response(results, decided.answer_id, at, query.query_id, query.protocol, issuer)


def _result(decision: str, status: str, echo: str = "") -> str:
    return f"<x:Result><x:Decision>{decision}</x:Decision><x:Status>{status}</x:Status>{echo}</x:Result>"


def _response(results: str, answer_id: str, at: str, query_id: str, protocol: str, issuer: str = "") -> SoapReply:
    named = f' InResponseTo="{attribute(query_id)}"' if query_id else ""
    statement = (
        f'<s:Statement xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xs="{_ASSERTIONS[protocol]}"'
        f' xsi:type="xs:XACMLAuthzDecisionStatementType"><x:Response>{results}</x:Response></s:Statement>'
    )
    issued = f"<s:Issuer>{text(issuer or 'urn:obieg')}</s:Issuer>"
    return SoapReply(
        (
            f'<p:Response xmlns:p="{_NS["samlp"]}" xmlns:s="{_NS["saml"]}" xmlns:x="{_NS["core"]}" '
            f'ID="_{answer_id}" Version="2.0" IssueInstant="{at}"{named}>{issued}'
            f'<p:Status><p:StatusCode Value="{_SUCCESS}"/></p:Status>'
            f'<s:Assertion ID="_{answer_id}-1" Version="2.0" IssueInstant="{at}">{issued}{statement}</s:Assertion>'
            f"</p:Response>"
        ).encode()
    )


def _echo(resource: Resource) -> str:
    """The resource, so that a result is known by itself (XACML 3.0, section 5.48)."""
    if resource.document:
        return _category("resource", ((_TABLE["resource"]["document"][0], resource.document),))
    return _category("resource", ((_TABLE["resource"]["patient"][0], str(resource.patient)),))


def _category(name: str, stated: Iterable[tuple[str, str]]) -> str:
    attributes = "".join(
        f'<x:Attribute AttributeId="{attribute(called)}" IncludeInResult="{"true" if name == "resource" else "false"}">'
        f'<x:AttributeValue DataType="{_STRING}">{text(value)}</x:AttributeValue></x:Attribute>'
        for called, value in stated
    )
    return f'<x:Attributes Category="{_CATEGORY[name]}">{attributes}</x:Attributes>'


def write_refusal(findings: Sequence[Finding], message: SoapRequest) -> SoapReply:
    """Why the question could not be answered: a SAML Response that says it (SAML 2.0 Core, section 3.2.2.2).

    What of XACML is not known here is Indeterminate (XACML 3.0, section 5.42).
    """
    said = "; ".join(f"{finding.code}: {finding.detail}" for finding in findings)
    if findings[0].code == _UNKNOWN:
        status = f'<x:StatusCode Value="{_NOT_PROCESSED}"/><x:StatusMessage>{text(said)}</x:StatusMessage>'
        protocol, _, _ = message.body.tag[1:].partition("}")
        query_id = message.body.get("ID", "")[:200]
        return _response(_result("Indeterminate", status), "refused", _NO_TIME, query_id, protocol)
    return SoapReply(
        (
            f'<p:Response xmlns:p="{_NS["samlp"]}" ID="_refused" Version="2.0" IssueInstant="{_NO_TIME}">'
            f'<p:Status><p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Requester"/>'
            f"<p:StatusMessage>{text(said)}</p:StatusMessage></p:Status></p:Response>"
        ).encode()
    )


# asking ----------------------------------------------------------------------------------------------------------


def write_query(documents: Sequence[str], subject: dict[str, str], *, query_id: str, at: datetime) -> bytes:
    """The question of who keeps these documents, about who asks for them there."""
    stated = "".join(
        _category(name, ((called, subject[fact]) for called, fact in rows.items() if subject.get(fact)))
        for name, rows in _TABLE["stated"].items()
    )
    asked = "".join(_category("resource", ((_TABLE["resource"]["document"][0], each),)) for each in documents)
    return (
        f'<q:{QUERY} xmlns:q="{PROTOCOLS[0]}" xmlns:x="{_NS["core"]}" ID="_{query_id}" Version="2.0" '
        f'IssueInstant="{at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}">'
        f'<x:Request ReturnPolicyIdList="false" CombinedDecision="false">{stated}{asked}</x:Request></q:{QUERY}>'
    ).encode()


def read_answer(message: SoapRequest, documents: Sequence[str]) -> frozenset[str]:
    """The documents that are permitted. Raises Problem for an answer that is none to this question."""
    decisions = [element.text for element in message.body.iter(_core("Decision"))]
    if len(decisions) != len(documents):
        said = message.body.findtext(f".//{{{_NS['samlp']}}}StatusMessage") or "it decides of something else"
        raise Problem.of("XDSRepositoryError", f"the region does not decide: {said[:500]}")
    return frozenset(name for name, said in zip(documents, decisions, strict=True) if said == "Permit")
