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
_ATTRIBUTES_MAX = 32  # of one category
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:T?(\d\d):?(\d\d):?(\d\d))?(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")


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
    said: list[Attribute] = []
    resources: list[Resource] = []
    for category in request.iterchildren(_core("Attributes")):
        named = category.get("Category", "")
        if named == _CATEGORY["resource"]:
            resources += _resources(_attributes(category))
        elif named in (_CATEGORY["subject"], _CATEGORY["action"]):
            said += _attributes(category)
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
    patient = next(map(_patient, said.get("patient", ())), None)
    if documents := [value.text for value in said.get("document", ()) if value.text]:
        return [Resource(document, patient) for document in documents]
    if patient is None:
        return []
    type_code = next((value.text or value.code for value in said.get("type_code", ())), "")
    begins, ends = (_time(said.get(name, ())) for name in ("created_from", "created_to"))
    return [Resource("", patient, type_code, begins, ends)]


def _patient(value: AttributeValue) -> PatientId:
    root, _, extension = value.text.partition("#")
    found = patient_id(value.text) or PatientId(value.extension or extension, value.root or root)
    if not (found.value and found.authority):
        raise Problem.of("DataTypeError", "a patient is named by CX, root#extension or InstanceIdentifier", "resource")
    return found


def _time(values: Sequence[AttributeValue]) -> str:
    said = values[0].text if values else ""
    found = _DATE.fullmatch(said)
    if said and found is None:
        raise Problem.of("DataTypeError", "a time is a date or a dateTime of XML Schema", "resource")
    return "".join(part or "00" for part in found.groups()) if found else ""


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
        f"<x:Result><x:Decision>{'Permit' if permitted else 'Deny'}</x:Decision>"
        f'<x:Status><x:StatusCode Value="{_OK}"/></x:Status>{_echo(resource)}</x:Result>'
        for permitted, resource in zip(decided.permitted, query.resources, strict=True)
    )
    answer_id = decided.answer_id
    at = decided.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    named = f' InResponseTo="{attribute(query.query_id)}"' if query.query_id else ""
    statement = (
        f'<s:Statement xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xs="{_ASSERTIONS[query.protocol]}"'
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


def write_refusal(findings: Sequence[Finding], _message: SoapRequest) -> SoapReply:
    """A SAML Response that says why the question could not be answered (SAML 2.0 Core, section 3.2.2.2)."""
    said = "; ".join(f"{finding.code}: {finding.detail}" for finding in findings)
    return SoapReply(
        (
            f'<p:Response xmlns:p="{_NS["samlp"]}" ID="_refused" Version="2.0" IssueInstant="1970-01-01T00:00:00Z">'
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
