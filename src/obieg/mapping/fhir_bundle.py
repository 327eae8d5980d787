"""Bundles of type searchset (http://hl7.org/fhir/R4/bundle.html)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from obieg.domain.problems import Finding
from obieg.mapping import fhir_outcome
from obieg.mapping.fhir_parameters import CURSOR
from obieg.protocol import FhirRequest
from obieg.wire.fhir_elements import Exact


def search_entry(base: str, resource: dict[str, Any], score: int, extensions: Sequence[dict[str, Any]] = ()) -> Any:
    """An entry that fits; ``score`` in percent."""
    search: dict[str, Any] = {"extension": list(extensions)} if extensions else {}
    search |= {"mode": "match", "score": 1 if score >= 100 else Exact(f"{score / 100:.2f}")}
    full_url = f"{base}/{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": full_url, "resource": resource, "search": search}


def searchset(
    request: FhirRequest,
    entries: Sequence[Any],
    *,
    path: str,
    used: Sequence[tuple[str, str]] = (),
    total: int | None = None,
    cursor: str = "",
    warnings: Sequence[Finding] = (),
    profile: str = "",
) -> dict[str, Any]:
    """One page; the self link says which parameters were obeyed, ``next`` leads to the page after it.

    Its last entry, where there is something to say, is an OperationOutcome: why the caller is shown this, and warnings.
    """
    bundle: dict[str, Any] = {"resourceType": "Bundle"}
    if profile:
        bundle["meta"] = {"profile": [profile]}
    bundle["type"] = "searchset"
    if total is not None:
        bundle["total"] = total
    links = [{"relation": "self", "url": _address(request.base, path, used)}]
    if cursor:
        links.append({"relation": "next", "url": _address(request.base, path, [*used, (CURSOR, cursor)])})
    bundle["link"] = links
    listed = list(entries)
    issues = [fhir_outcome.shown_because(request.access)] if request.access else []
    issues += [fhir_outcome.issue(f) for f in warnings]
    if issues:
        resource = fhir_outcome.outcome(issues)
        full_url = f"urn:uuid:{request.request_id}"
        listed.append({"fullUrl": full_url, "resource": resource, "search": {"mode": "outcome"}})
    if listed:
        bundle["entry"] = listed
    return bundle


def _address(base: str, path: str, used: Sequence[tuple[str, str]]) -> str:
    return f"{base}/{path}?{urlencode(used, quote_via=quote, safe='/:')}" if used else f"{base}/{path}"
