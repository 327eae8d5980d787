"""Which codes and media types a community has agreed on (ITI TF-3:4.2.3.1.2, ITI TF-1:10.4.8).

A community writes its agreement down once, as JSON or as tables of ``codes/national``; the registry and every source
ask the same object. An attribute that the agreement leaves out accepts nothing: a registry that took whatever is sent
would store codes that no consumer can look for, and ITI-42 demands the check (ITI TF-2:3.42.4.1.3.3). A code system
too large to be listed is opened by a pattern instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import msgspec

from obieg.codes import load

# What the file calls an attribute, and the field of domain.documents that holds it.
ATTRIBUTES = {
    "classCode": "class_code",
    "typeCode": "type_code",
    "formatCode": "format_code",
    "healthcareFacilityTypeCode": "healthcare_facility_type_code",
    "practiceSettingCode": "practice_setting_code",
    "confidentialityCode": "confidentiality_code",
    "eventCodeList": "event_code_list",
    "contentTypeCode": "content_type_code",
    "folderCodeList": "code_list",
    "associationDocumentation": "documentation",
}


class Agreed(NamedTuple):
    """What is known of a code beside the code: its name, and its code system as a FHIR URI (either may be "")."""

    display: str
    system: str


class AgreedCode(NamedTuple):
    """A listed code, for forms and pages."""

    code: str
    scheme: str
    display: str


@dataclass(frozen=True, slots=True)
class AffinityDomain:
    """The agreement of one community. Attributes are named as the fields of :mod:`obieg.domain.documents`."""

    mime_types: frozenset[str]
    _codes: Mapping[tuple[str, str, str], Agreed] = field(repr=False)
    _open: Mapping[tuple[str, str], re.Pattern[str]] = field(repr=False, default_factory=dict)
    # (attribute, codingScheme) -> system; (attribute, code or "", system) -> codingScheme.
    _systems: Mapping[tuple[str, str], str] = field(repr=False, default_factory=dict)
    _schemes: Mapping[tuple[str, str, str], str] = field(repr=False, default_factory=dict)

    def accepts(self, attribute: str, code: str, scheme: str) -> bool:
        """Whether ``attribute`` may hold this code of this codingScheme."""
        if (attribute, code, scheme) in self._codes:
            return True
        pattern = self._open.get((attribute, scheme))
        return pattern is not None and pattern.fullmatch(code) is not None

    def codings(self, attribute: str, code: str) -> tuple[str, ...]:
        """The codingSchemes of which ``attribute`` may hold this code."""
        listed = [scheme for name, known, scheme in self._codes if (name, known) == (attribute, code)]
        opened = [
            scheme for (name, scheme), pattern in self._open.items() if name == attribute and pattern.fullmatch(code)
        ]
        return tuple(dict.fromkeys((*listed, *opened)))

    def display(self, attribute: str, code: str, scheme: str) -> str:
        """The name of a listed code; "" if it is not listed."""
        agreed = self._codes.get((attribute, code, scheme))
        return agreed.display if agreed else ""

    def system(self, attribute: str, code: str, scheme: str) -> str:
        """The FHIR code system of a listed code, or of others of its scheme; "" where none is listed."""
        agreed = self._codes.get((attribute, code, scheme))
        return agreed.system if agreed else self._systems.get((attribute, scheme), "")

    def scheme(self, attribute: str, code: str, system: str) -> str:
        """The codingScheme of a code that FHIR names by its system; "" where nothing listed has this system."""
        found = self._schemes.get((attribute, code, system))
        return found or self._schemes.get((attribute, "", system), "")

    @property
    def schemes(self) -> Mapping[tuple[str, str, str], str]:
        """The codingScheme by attribute, code (or "" for any) and FHIR code system."""
        return self._schemes

    def codes(self, attribute: str) -> tuple[AgreedCode, ...]:
        """All listed codes of ``attribute``, in the order of the agreement."""
        return tuple(
            AgreedCode(code, scheme, agreed.display)
            for (name, code, scheme), agreed in self._codes.items()
            if name == attribute
        )

    def patterns(self, attribute: str) -> dict[str, str]:
        """By codingScheme, what a code of it must look like where its code system is open."""
        return {scheme: pattern.pattern for (name, scheme), pattern in self._open.items() if name == attribute}

    @classmethod
    def from_json(cls, data: bytes) -> AffinityDomain:
        """Reads the form in which test suites and other communities publish their agreement.

        An object with one member per attribute, ``{"classificationScheme", "codes": [{"code", "codingScheme",
        "display", "system"}], "any": [{"codingScheme", "pattern"}]}``, and a list ``mimeType``. Of two entries for the
        same code the first counts. Raises ValueError, with the place, if the bytes are something else.
        """
        try:
            file = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"not the codes of an affinity domain: {error}") from None
        return _agreement(file)


class _Code(msgspec.Struct, frozen=True, rename="camel"):
    code: str
    coding_scheme: str
    display: str = ""
    system: str = ""


class _Any(msgspec.Struct, frozen=True, rename="camel"):
    coding_scheme: str
    pattern: str


class _Attribute(msgspec.Struct, frozen=True, rename="camel"):
    classification_scheme: str = ""
    codes: list[_Code] = []
    any: list[_Any] = []


class _File(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A misspelt attribute must not pass as one that accepts nothing, so unknown members are refused."""

    mime_type: list[str]
    class_code: _Attribute = _Attribute()
    type_code: _Attribute = _Attribute()
    format_code: _Attribute = _Attribute()
    healthcare_facility_type_code: _Attribute = _Attribute()
    practice_setting_code: _Attribute = _Attribute()
    confidentiality_code: _Attribute = _Attribute()
    event_code_list: _Attribute = _Attribute()
    content_type_code: _Attribute = _Attribute()
    folder_code_list: _Attribute = _Attribute()
    association_documentation: _Attribute = _Attribute()
    assigning_authorities: list[dict[str, str]] = []  # read elsewhere


def _agreement(file: _File) -> AffinityDomain:
    codes: dict[tuple[str, str, str], Agreed] = {}
    patterns: dict[tuple[str, str], re.Pattern[str]] = {}
    for key, name in ATTRIBUTES.items():
        member: _Attribute = getattr(file, _snake(key))
        for row in member.codes:
            if not row.code or not row.coding_scheme:
                raise ValueError(f"{key}: a code needs both code and codingScheme, found {row.code!r}")
            codes.setdefault((name, row.code, row.coding_scheme), Agreed(row.display, row.system))
        for opened in member.any:
            try:
                patterns[name, opened.coding_scheme] = re.compile(opened.pattern)
            except re.error as error:
                raise ValueError(f"{key}: pattern {opened.pattern!r} is not a regular expression: {error}") from None
    systems: dict[tuple[str, str], str] = {}
    schemes: dict[tuple[str, str, str], str] = {}
    for (attribute, code, scheme), agreed in codes.items():
        if agreed.system:
            systems.setdefault((attribute, scheme), agreed.system)
            schemes.setdefault((attribute, code, agreed.system), scheme)
            schemes.setdefault((attribute, "", agreed.system), scheme)
    return AffinityDomain(frozenset(file.mime_type), codes, patterns, systems, schemes)


def _snake(key: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", key)


@cache
def polish() -> AffinityDomain:
    """The affinity domain of Polish medical documentation, from ``codes/national/pl``."""
    return _agreement(msgspec.convert(polish_document(), type=_File))


def polish_document() -> dict[str, Any]:
    """The same as the JSON document that :meth:`AffinityDomain.from_json` reads, for peers and for the docs."""
    table = load.toml("national/pl/affinity_domain.toml")
    systems: dict[str, str] = load.toml("national/pl/pik.toml")["systems"]
    settings: dict[str, str] = table["practice_setting_schemes"]
    document: dict[str, Any] = {"mimeType": table["mime_types"]}
    for key, attribute in table["attribute"].items():
        rows: Iterable[dict[str, Any]] = attribute.get("codes", ())
        if "table" in attribute:
            rows = load.rows(f"national/pl/{attribute['table']}")
        document[key] = {
            "classificationScheme": attribute["classification_scheme"],
            "codes": [_listed(row, attribute, systems, settings) for row in rows],
            "any": [{"codingScheme": row["scheme"], "pattern": row["pattern"]} for row in attribute.get("any", ())],
        }
    return document


def _listed(
    row: Mapping[str, str], attribute: Mapping[str, Any], systems: Mapping[str, str], settings: Mapping[str, str]
) -> dict[str, str]:
    """One code; the scheme stands in the row, is that of the whole attribute, or follows from the row's system."""
    system = row.get("system", attribute.get("system", ""))
    scheme = row.get("scheme") or attribute.get("scheme") or settings[system]
    oid = systems.get(system, scheme if scheme[0].isdigit() else "")
    return {
        "code": row["code"],
        "codingScheme": scheme,
        "display": row["display"],
        "system": f"urn:oid:{oid}" if oid else "",
    }
