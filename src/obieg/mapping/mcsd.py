"""mCSD over FHIR: ITI-90 Find Matching Care Services and ITI-91 Request Care Services Updates.

https://profiles.ihe.net/ITI/mCSD/ITI-90.html, https://profiles.ihe.net/ITI/mCSD/ITI-91.html. Resources are answered as
they were taken in, with version and time. An answer of several pages is that of one moment: what is changed meanwhile
neither goes missing in it nor comes twice.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import Any
from urllib.parse import urlencode

from obieg.codes.load import toml
from obieg.domain.directory import (
    BEGINNING,
    DirectoryPage,
    DirectoryQuery,
    HistoryPage,
    HistoryQuery,
    Inclusion,
    Version,
)
from obieg.domain.documents import Value
from obieg.domain.problems import Finding, Problem
from obieg.mapping.directory_terms import KINDS, instant, lookup
from obieg.mapping.fhir_bundle import searchset
from obieg.mapping.fhir_parameters import COUNT_MAX, CURSOR, Search, search
from obieg.protocol import FhirReply, FhirRequest
from obieg.wire import fhir_json

PAGE = 20  # resources on a page where the asker names no number
HISTORY_PAGE = 100
_SEARCH = toml("fhir.toml")["search"]
_CURSOR = re.compile(r"(\d{1,18})\.(\d{1,18})\Z", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}\Z", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}\Z", re.ASCII)
_COUNT = re.compile(r"\d{1,18}\Z", re.ASCII)


class DirectoryRead(Value, frozen=True):
    """The newest version of a resource, or one of its versions."""

    kind: str
    id: str
    version: int | None = None


class DirectorySearch(Value, frozen=True):
    """A search, with what its answer must repeat."""

    query: DirectoryQuery
    search: Search


class DirectoryHistory(Value, frozen=True):
    """A history, with what its answer must repeat."""

    query: HistoryQuery
    used: tuple[tuple[str, str], ...]


# reading ---------------------------------------------------------------------------------------------------------


def read_request(request: FhirRequest) -> DirectoryRead | DirectorySearch:
    """ITI-90; raises Problem with everything that is wrong with the question."""
    if request.interaction == "read":
        return DirectoryRead(request.resource, _logical(request.id))
    if request.interaction == "vread":
        if not _NUMBER.match(request.version):
            raise Problem.of("AddressNotFound", f"{request.version[:40]!r} is no version")
        return DirectoryRead(request.resource, _logical(request.id), int(request.version))
    asked = search(request)
    findings: list[Finding] = []
    wanted = lookup(request.resource, asked.criteria, request.base, findings)
    bound, offset = _cursor(asked.cursor, findings)
    if findings:
        raise Problem(findings)
    query = DirectoryQuery(
        lookup=wanted,
        count=0 if asked.count_only else asked.count or PAGE,
        sort=asked.sort.removeprefix("-"),
        descending=asked.sort.startswith("-"),
        inclusions=tuple(_inclusion(key, named) for key, named in asked.inclusions),
        bound=bound,
        offset=offset,
        text=urlencode(request.parameters).encode(),
    )
    return DirectorySearch(query, asked)


def _logical(text: str) -> str:
    if not _ID.match(text):
        raise Problem.of("AddressNotFound", f"{text[:80]!r} is no logical id")
    return text


def _inclusion(key: str, named: str) -> Inclusion:
    kind, _, parameter = named.partition(":")
    target = _SEARCH[kind][parameter]["target"]
    return Inclusion(kind, parameter, target, reverse=key.startswith("_rev"), iterate=key.endswith(":iterate"))


def _cursor(text: str, findings: list[Finding]) -> tuple[int | None, int]:
    if not text:
        return None, 0
    match = _CURSOR.match(text)
    if match is None:
        findings.append(Finding("UnknownCursor", "this answer has no such page; ask anew", f"http.{CURSOR}"))
        return None, 0
    return int(match[1]), int(match[2])


def read_history(request: FhirRequest) -> DirectoryHistory:
    """ITI-91; raises Problem with everything that is wrong with the question."""
    findings: list[Finding] = []
    given: dict[str, str] = {}
    used = []
    for name, value in request.parameters:
        where = f"http.{name[:64]}"
        if name not in ("_since", "_count", CURSOR):
            if request.strict:
                said = f"a history has no parameter {name[:64]!r} here"
                findings.append(Finding("UnsupportedQueryField", said, where))
        elif given.setdefault(name, value) != value:
            findings.append(Finding("DataTypeError", f"{name} is given twice", where))
        elif name != CURSOR:
            used.append((name, value))
    since, count = given.get("_since", ""), given.get("_count", "")
    if since and not instant(since):
        said = f"{since[:40]!r} is no instant: a date with time and zone is expected, 2026-01-31T12:00:00.000Z"
        findings.append(Finding("DataTypeError", said, "http._since"))
    if count and not _COUNT.match(count):
        findings.append(Finding("DataTypeError", f"{count[:40]!r} is no number of versions", "http._count"))
    bound, before = _cursor(given.get(CURSOR, ""), findings)
    if findings:
        raise Problem(findings)
    query = HistoryQuery(
        kinds=(request.resource,) if request.resource else KINDS,
        count=min(int(count), COUNT_MAX) if count else HISTORY_PAGE,
        id=_logical(request.id) if request.id else "",
        since=instant(since) if since else BEGINNING,
        bound=bound,
        before=before if bound is not None else None,
        text=urlencode(request.parameters).encode(),
    )
    return DirectoryHistory(query, tuple(used))


# writing ---------------------------------------------------------------------------------------------------------


def resource(version: Version) -> dict[str, Any]:
    """The resource with its version and time."""
    found = fhir_json.read(version.content.encode())
    meta = {"versionId": str(version.version), "lastUpdated": _instant(version)}
    rest = {k: v for k, v in found.items() if k not in ("resourceType", "id", "meta")}
    head = {"resourceType": found["resourceType"], "id": found["id"], "meta": {**meta, **found.get("meta", {}), **meta}}
    return head | rest


def _instant(version: Version) -> str:
    return version.updated_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_read(version: Version) -> FhirReply:
    """One resource."""
    return FhirReply(body=resource(version), version=str(version.version), updated_at=version.updated_at)


def write_page(asked: DirectorySearch, page: DirectoryPage, request: FhirRequest) -> FhirReply:
    """One page of what was found, and what goes with it."""
    search_ = asked.search
    entries = [_found(request.base, v, "match") for v in page.found]
    entries += [_found(request.base, v, "include") for v in page.included]
    bundle = searchset(
        request,
        entries,
        path=request.resource,
        used=search_.used,
        total=page.total if search_.total else None,
        cursor=f"{page.bound}.{page.offset}" if page.offset else "",
        warnings=search_.warnings,
    )
    return FhirReply(body=bundle)


def _found(base: str, version: Version, mode: str) -> dict[str, Any]:
    return {
        "fullUrl": f"{base}/{version.kind}/{version.id}",
        "resource": resource(version),
        "search": {"mode": mode},
    }


def write_history(asked: DirectoryHistory, page: HistoryPage, request: FhirRequest) -> FhirReply:
    """One page of a history, newest first; meta.lastUpdated is the moment to be asked from next time."""
    path = "/".join(filter(None, (request.resource, request.id, "_history")))
    bundle = searchset(
        request,
        [_changed(request.base, v) for v in page.versions],
        path=path,
        used=asked.used,
        total=page.total,
        cursor=f"{page.bound}.{page.before}" if page.before else "",
    )
    as_of = page.as_of.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return FhirReply(body={"resourceType": "Bundle", "meta": {"lastUpdated": as_of}, **bundle, "type": "history"})


def _changed(base: str, version: Version) -> dict[str, Any]:
    entry: dict[str, Any] = {"fullUrl": f"{base}/{version.kind}/{version.id}"}
    if not version.deleted:
        entry["resource"] = resource(version)
    entry["request"] = {"method": "DELETE" if version.deleted else "PUT", "url": f"{version.kind}/{version.id}"}
    status = "204" if version.deleted else "201" if version.version == 1 else "200"
    entry["response"] = {"status": status, "etag": f'W/"{version.version}"', "lastModified": _instant(version)}
    return entry
