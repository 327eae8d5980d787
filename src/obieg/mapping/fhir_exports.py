"""Patient/$everything and Bulk Data over FHIR: what is asked, and what is answered.

http://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/uv/bulkdata/export.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from obieg.codes.load import toml
from obieg.domain.content import MemoryContent
from obieg.domain.documents import Value
from obieg.domain.exporting import EverythingRequest, Export, ExportFile, ExportRequest
from obieg.domain.identifiers import PatientId
from obieg.domain.problems import Finding, Problem
from obieg.mapping.fhir_bundle import searchset
from obieg.mapping.fhir_parameters import CURSOR, arguments
from obieg.mapping.fhir_patient import instant, patient_value
from obieg.protocol import FhirReply, FhirRequest, Sent

_TABLE = toml("fhir.toml")["bulk"]
_STATUS, _FILE = "$export-status", "$export-file"
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)


class ExportNamed(Value, frozen=True):
    """An export, or a file of it, by its address."""

    export_id: str
    file: int = 0
    packed: bool = False  # the caller takes gzip
    end: bool = False  # DELETE


def read_everything(request: FhirRequest) -> EverythingRequest:
    """What is asked of a patient; raises Problem."""
    given = arguments(request)
    findings: list[Finding] = []
    for name in ("start", "end"):  # of care: what of a patient's documents that is, the registry cannot tell
        if given[name]:
            findings.append(Finding("UnsupportedQueryField", f"{name} cannot be obeyed: leave it out", f"http.{name}"))
    count = _number(given["_count"], findings)
    since = _since(given, findings)
    if findings:
        raise Problem(findings)
    return EverythingRequest(
        patient=PatientId(patient_value(request.id), request.affinity_domain),
        base=request.base,
        types=_types(given),
        since=since,
        count=count,
        cursor="".join(given[CURSOR]),
    )


def write_everything(resources: Sequence[bytes], cursor: str, request: FhirRequest) -> FhirReply:
    """One page."""
    found = [orjson.loads(resource) for resource in resources]
    entries = [
        {"fullUrl": f"{request.base}/{r['resourceType']}/{r['id']}", "resource": r, "search": {"mode": "match"}}
        for r in found
    ]
    given = arguments(request)
    used = [(name, str(v)) for name in given if name != CURSOR for v in given[name]]
    path = f"Patient/{request.id}/$everything"
    return FhirReply(body=searchset(request, entries, path=path, used=used, cursor=cursor))


def read_export(request: FhirRequest) -> ExportRequest:
    """A kick-off; raises Problem."""
    given = arguments(request)
    findings: list[Finding] = []
    for form in given["_outputFormat"]:
        if form not in _TABLE["formats"]:
            said = f"{form[:80]!r} is not written; {_TABLE['formats'][0]} is"
            findings.append(Finding("UnsupportedQueryField", said, "http._outputFormat"))
    for name in _TABLE["unserved"]:
        if given[name] and not request.lenient:
            said = f"{name} cannot be obeyed: leave it out, or ask with Prefer: handling=lenient"
            findings.append(Finding("UnsupportedQueryField", said, f"http.{name}"))
    since = _since(given, findings)
    if findings:
        raise Problem(findings)
    path = "/".join(filter(None, (request.base, request.resource, "$export")))
    used = [(name, str(v)) for name in given for v in given[name] if name not in _TABLE["unserved"]]
    return ExportRequest(
        request=f"{path}?{urlencode(used, quote_via=quote)}" if used else path,
        base=request.base,
        types=_types(given),
        since=since,
        patients_only=request.resource == "Patient",
    )


def write_begun(export_id: str, request: FhirRequest) -> FhirReply:
    """202, with where to ask how it stands."""
    return FhirReply(status=202, headers=(("Content-Location", _address(request.base, _STATUS, export=export_id)),))


def read_named(request: FhirRequest) -> ExportNamed:
    """Which export, and which of its files; raises Problem."""
    given = arguments(request)
    findings: list[Finding] = []
    number = _number(given.get("file", []), findings)
    export_id = given["export"][0]
    if findings or len(export_id) != 36 or not all(c in "0123456789abcdef-" for c in export_id):
        raise Problem.of("AddressNotFound", "there is no such export")
    end = request.interaction.startswith("delete ")
    return ExportNamed(export_id=export_id, file=number, packed=request.gzip, end=end)


def write_state(export: Export, files: Sequence[ExportFile], expires_at: datetime | None, base: str) -> FhirReply:
    """202 while it runs, then the manifest."""
    if expires_at is None:
        of = f"{export.at_type} of {len(export.types)}"
        said = f"{export.types[export.at_type - 1]} ({of}), {export.position} pieces written"
        return FhirReply(status=202, headers=(("X-Progress", said), ("Retry-After", str(_TABLE["retry_after"]))))
    manifest = {
        "transactionTime": instant(export.begun_at),
        "request": export.request,
        "requiresAccessToken": False,
        "output": [
            {"type": f.type, "url": _address(base, _FILE, export=export.export_id, file=f.number), "count": f.resources}
            for f in files
        ],
        "deleted": [],
        "error": [],
    }
    expires = format_datetime(expires_at.astimezone(UTC), usegmt=True)
    return FhirReply(content=MemoryContent(orjson.dumps(manifest), "application/json"), headers=(("Expires", expires),))


def write_file(content: Sent, request: FhirRequest) -> FhirReply:
    """NDJSON, packed where the caller takes that."""
    packed = (("Content-Encoding", "gzip"),) if request.gzip else ()
    return FhirReply(content=content, headers=(*packed, ("Vary", "Accept-Encoding")))


def write_ended() -> FhirReply:
    """202: it is ended."""
    return FhirReply(status=202)


def _address(base: str, operation: str, **parameters: Any) -> str:
    return f"{base}/{operation}?{urlencode(parameters)}"


def _types(given: dict[str, list[Any]]) -> tuple[str, ...]:
    """May be given several times, or in one separated by commas."""
    return tuple(dict.fromkeys(t.strip() for text in given["_type"] for t in text.split(",") if t.strip()))


def _since(given: dict[str, list[Any]], findings: list[Finding]) -> datetime | None:
    text = "".join(given["_since"])
    if not text:
        return None
    text = text.replace(" ", "+")  # a plus sign that was not encoded in the address
    try:
        if not _INSTANT.fullmatch(text):
            raise ValueError
        return datetime.fromisoformat(text)
    except ValueError:
        said = f"{text[:40]!r} is no instant, such as 2026-03-01T12:00:00Z"
        findings.append(Finding("DataTypeError", said, "http._since"))
        return None


def _number(values: Sequence[Any], findings: list[Finding]) -> int:
    text = str(values[0]) if values else "0"
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        findings.append(Finding("DataTypeError", f"{text[:40]!r} is no number", "http"))
        return 0
    return int(text)
