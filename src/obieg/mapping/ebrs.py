"""ebRS requests and answers around the metadata: RegistryResponse, AdhocQuery, document requests (ITI TF-3:4.2.4)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from obieg.codes.load import toml
from obieg.domain.content import MemoryContent
from obieg.domain.documents import Submission
from obieg.domain.identifiers import is_uuid_urn
from obieg.domain.problems import Finding, Problem
from obieg.domain.queries import QueryAnswer
from obieg.mapping import ebrim
from obieg.mapping.ebrim import IdSource
from obieg.protocol import SoapReply, SoapRequest
from obieg.wire.xml import attribute

RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
XDSB = "urn:ihe:iti:xds-b:2007"
RMD = "urn:ihe:iti:rmd:2017"
RIM = ebrim.RIM

REMOVED_MAX = 10_000  # objects of one request

_EBRIM = toml("ebrim.toml")
_STATUS: dict[str, str] = _EBRIM["response_status"]
_STATUS_NAME = {urn: name for name, urn in _STATUS.items()}
_SEVERITY: dict[str, str] = _EBRIM["severity"]
_PROBLEMS = toml("problems.toml")


def read_submit_objects(request: Any, findings: list[Finding], *, annotated: bool = False) -> Submission | None:
    """The submission of a ``lcm:SubmitObjectsRequest`` (``annotated``: an update); problems go to ``findings``."""
    lists = [child for child in request if child.tag == f"{{{ebrim.RIM}}}RegistryObjectList"]
    if len(request) > len(lists) + len(request.findall(f"{{{RS}}}RequestSlotList")):
        detail = "nothing but a RegistryObjectList is submitted (ebRS 3.0, 4.2.1)"
        findings.append(Finding("XDSRegistryMetadataError", detail, "SubmitObjectsRequest"))
    if len(lists) != 1:
        said = "there is no RegistryObjectList" if not lists else "there are several RegistryObjectLists"
        findings.append(Finding("XDSRegistryMetadataError", said, "SubmitObjectsRequest"))
        return None
    return ebrim.read_submission(lists[0], findings, annotated=annotated)


def write_submit_objects(submission: Submission, new_id: IdSource) -> bytes:
    """A ``lcm:SubmitObjectsRequest``."""
    return b"".join(
        (
            f'<lcm:SubmitObjectsRequest xmlns:lcm="{LCM}" xmlns:rim="{ebrim.RIM}">'.encode(),
            ebrim.write_submission(submission, new_id),
            b"</lcm:SubmitObjectsRequest>",
        )
    )


def read_remove_objects(request: Any) -> tuple[str, ...]:
    """The ids in a ``lcm:RemoveObjectsRequest`` (ITI TF-2:3.62.4.1.2). Raises Problem."""
    findings: list[Finding] = []
    if request.find(f"{{{RIM}}}AdhocQuery") is not None:
        findings.append(Finding("XDSRegistryMetadataError", "objects are named, not asked for", "AdhocQuery"))
    scope = request.get("deletionScope", _EBRIM["deletion_scope"]["all"])
    if scope != _EBRIM["deletion_scope"]["all"]:
        findings.append(Finding("XDSRegistryMetadataError", f"deletionScope {scope!r}: only DeleteAll is done"))
    named = request.findall(f"{{{RIM}}}ObjectRefList")
    if sum(map(len, named)) > REMOVED_MAX:  # before any is read
        findings.append(Finding("LimitExceeded", f"more than {REMOVED_MAX} objects are named at once", "ObjectRefList"))
        raise Problem(findings)
    ids = [e.get("id", "") for each in named for e in each.iterfind(f"{{{RIM}}}ObjectRef")]
    if not ids:
        findings.append(Finding("XDSRegistryMetadataError", "nothing is named to be removed", "ObjectRefList"))
    findings += [
        Finding("UnresolvedReferenceException", f"{i[:80]!r} is no UUID as urn:uuid:", "ObjectRef")
        for i in ids
        if not is_uuid_urn(i)
    ]
    if findings:
        raise Problem(findings)
    return tuple(dict.fromkeys(i.lower() for i in ids))


def _error_code(code: str) -> str:
    """The errorCode of a finding; another registry's code, which our table may not have, is passed on as it came."""
    row = _PROBLEMS.get(code)
    return code if row is None else row["xds"]


def registry_errors(findings: Sequence[Finding]) -> str:
    """A ``rs:RegistryErrorList``; empty text when there are none."""
    if not findings:
        return ""
    severities = [_SEVERITY["warning" if f.warning else "error"] for f in findings]
    highest = _SEVERITY["error"] if _SEVERITY["error"] in severities else _SEVERITY["warning"]
    inner = "".join(
        [
            f'<rs:RegistryError errorCode="{attribute(_error_code(f.code))}" codeContext="{attribute(f.detail)}" '
            f'location="{attribute(f.location)}" severity="{severity}"/>'
            for f, severity in zip(findings, severities, strict=True)
        ]
    )
    return f'<rs:RegistryErrorList highestSeverity="{highest}">{inner}</rs:RegistryErrorList>'


_SUCCESS = f'<rs:RegistryResponse xmlns:rs="{RS}" status="{_STATUS["Success"]}"/>'.encode()


def registry_response(findings: Sequence[Finding] = (), status: str | None = None) -> bytes:
    """``rs:RegistryResponse``: Success when nothing but warnings was found, Failure otherwise."""
    if not findings and status is None:
        return _SUCCESS
    if status is None:
        status = "Success" if all(f.warning for f in findings) else "Failure"
    return (
        f'<rs:RegistryResponse xmlns:rs="{RS}" status="{_STATUS[status]}">'
        f"{registry_errors(findings)}</rs:RegistryResponse>"
    ).encode()


def read_registry_response(element: Any) -> tuple[str, tuple[Finding, ...]]:
    """Status ("Success", "Failure", "PartialSuccess") and errors of an answer, wherever in it they stand."""
    answer = element
    if not element.get("status"):
        answer = next(element.iter(f"{{{RS}}}RegistryResponse"), element)
    findings = tuple(
        [
            Finding(
                e.get("errorCode", ""),
                e.get("codeContext", ""),
                e.get("location", ""),
                warning=e.get("severity", "").endswith("Warning"),
            )
            for e in element.iter(f"{{{RS}}}RegistryError")
        ]
    )
    return _STATUS_NAME.get(answer.get("status", ""), "Failure"), findings


_QUERY_HEAD = (
    f'<query:AdhocQueryResponse xmlns:query="{QUERY}" xmlns:rim="{ebrim.RIM}" xmlns:rs="{RS}" '
    f'status="{_STATUS["Success"]}"><rim:RegistryObjectList>'
).encode()
_QUERY_TAIL = b"</rim:RegistryObjectList></query:AdhocQueryResponse>"


def query_response(answer: QueryAnswer) -> bytes:
    """``query:AdhocQueryResponse`` with whole objects (LeafClass) or, for plain UUIDs, ObjectRefs."""
    parts = [_QUERY_HEAD]
    home = ebrim.home_attribute(answer.home_community_id)
    cx = f"^^^&amp;{answer.assigning_authority}&amp;ISO".encode()
    patients: dict[str, bytes] = {}
    for item in answer.found:
        if isinstance(item, str):
            parts += (b'<rim:ObjectRef id="urn:uuid:', item.encode(), b'"', home, b"/>")
            continue
        kind, _, rendering, status, version, patient, updated = item
        patient_id = patients.get(patient)
        if patient_id is None:
            patient_id = patients[patient] = attribute(patient).encode() + cx
        if kind == "D":
            parts.append(ebrim.splice_entry(rendering, status, home, version, patient_id))
        elif kind == "A":
            parts.append(ebrim.splice_association(rendering, status, home))
        elif kind == "S":
            parts.append(ebrim.splice_submission_set(rendering, status, home, patient_id))
        else:
            parts.append(ebrim.splice_folder(rendering, status, home, updated, version, patient_id))
    parts.append(_QUERY_TAIL)
    return b"".join(parts)


def write_answer(answer: QueryAnswer, _message: SoapRequest) -> SoapReply:
    """The answer of ITI-18 and ITI-51."""
    return SoapReply(query_response(answer))


def refuse_query(findings: tuple[Finding, ...], _message: SoapRequest) -> SoapReply:
    """The answer to a question that was not answered."""
    return SoapReply(query_refusal(findings))


def query_refusal(findings: Sequence[Finding]) -> bytes:
    """``query:AdhocQueryResponse`` that says what is wrong."""
    return (
        f'<query:AdhocQueryResponse xmlns:query="{QUERY}" xmlns:rim="{ebrim.RIM}" xmlns:rs="{RS}" '
        f'status="{_STATUS["Failure"]}">{registry_errors(findings)}<rim:RegistryObjectList/>'
        "</query:AdhocQueryResponse>"
    ).encode()


def child_text(element: Any, local_name: str) -> str:
    """Text of a child in the namespace of XDS.b; "" when it is not there."""
    return (element.findtext(f"{{{XDSB}}}{local_name}") or "").strip()


def inline_content(element: Any) -> MemoryContent | None:
    """The base64 of a Document that is not a part of its own; None where it is none."""
    try:
        return MemoryContent(base64.b64decode("".join((element.text or "").split()), validate=True))
    except (binascii.Error, ValueError):
        return None


def expect(body: Any, namespace: str, local_name: str) -> None:
    """Refuses a Body that holds another element than the SOAP action promises."""
    if body.tag != f"{{{namespace}}}{local_name}":
        raise Problem.of("MessageNotReadable", f"the Body must hold {local_name}, it holds {body.tag}", "Body")
