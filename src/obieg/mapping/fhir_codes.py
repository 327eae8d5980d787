"""XDS codes and FHIR codings, both ways: a codingScheme is a text of the affinity domain, a system is a URI.

The affinity domain's list may give both names of a code. Without it an OID is ``urn:oid:…`` (well-known code systems
have another URI, ``codes/mhd.toml``), a URI stays, and any other text is percent-encoded: every code comes back.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote

from obieg.codes.load import toml
from obieg.domain.affinity_domain import AffinityDomain
from obieg.domain.documents import Code
from obieg.domain.identifiers import is_oid

_TABLE = toml("mhd.toml")
_OID: str = _TABLE["oid"]
_LOCAL: str = _TABLE["local_scheme"]
_WELL_KNOWN: dict[str, str] = _TABLE["systems"]
_OID_OF = {uri: oid for oid, uri in _WELL_KNOWN.items()}
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]+\Z", re.ASCII)


def coding(code: Code, attribute: str = "", domain: AffinityDomain | None = None) -> dict[str, Any]:
    """Coding. ``attribute`` is the field of :mod:`obieg.domain.documents` that holds the code."""
    said = {"system": system_of(code.scheme, code.code, attribute, domain), "code": code.code}
    if code.display:
        said["display"] = code.display[0][1]
    return said


def concept(code: Code, attribute: str = "", domain: AffinityDomain | None = None) -> dict[str, Any]:
    """CodeableConcept."""
    return {"coding": [coding(code, attribute, domain)]}


def read_coding(given: dict[str, Any], attribute: str = "", domain: AffinityDomain | None = None) -> Code:
    """The code that a Coding is; code and scheme are "" where it has none: the rules for submissions refuse that."""
    code, display = given.get("code", ""), given.get("display", "")
    scheme = scheme_of(given.get("system", ""), code, attribute, domain)
    if not display and domain is not None:
        display = domain.display(attribute, code, scheme)
    return Code(code, scheme, (("", display),) if display else ())


def system_of(scheme: str, code: str = "", attribute: str = "", domain: AffinityDomain | None = None) -> str:
    """The FHIR system of a codingScheme, which may depend on the attribute and the code."""
    known = domain.system(attribute, code, scheme) if domain is not None else ""
    oid = known.removeprefix(_OID) if known.startswith(_OID) else "" if known else scheme
    if oid in _WELL_KNOWN:
        return _WELL_KNOWN[oid]
    if known:
        return known
    if is_oid(scheme):
        return _OID + scheme
    return scheme if _URI.match(scheme) else _LOCAL + quote(scheme, safe="")


def scheme_of(system: str, code: str = "", attribute: str = "", domain: AffinityDomain | None = None) -> str:
    """The codingScheme of a FHIR system: the reverse of :func:`system_of`, which also takes an OID's other URI."""
    if domain is not None:
        for name in _names(system):
            if scheme := domain.scheme(attribute, code, name):
                return scheme
    if system in _OID_OF:
        return _OID_OF[system]
    if system.startswith(_OID):
        return system.removeprefix(_OID)
    return unquote(system.removeprefix(_LOCAL)) if system.startswith(_LOCAL) else system


def _names(system: str) -> tuple[str, ...]:
    """A system under all its names."""
    if system in _OID_OF:
        return system, _OID + _OID_OF[system]
    other = _WELL_KNOWN.get(system.removeprefix(_OID)) if system.startswith(_OID) else None
    return (system, other) if other else (system,)
