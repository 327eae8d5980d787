"""CSV files of the directory: what a row says, as FHIR resources (columns: ``codes/directory_csv.toml``).

A podmiot is an Organization; a jednostka an Organization with the Location where it is; a komórka an Organization with
the HealthcareService that it gives; a pracownik a Practitioner with a PractitionerRole at each place of work. Logical
ids are made of the identifiers, so that the same row means the same resources in every file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from obieg.codes.load import toml
from obieg.domain.directory import identifier
from obieg.domain.documents import Value
from obieg.domain.names import fold
from obieg.domain.problems import Finding, Problem
from obieg.mapping.patient_csv import Layout, header
from obieg.wire.fhir_elements import Exact

VALUE_LENGTH_MAX = 500  # characters
_TABLE = toml("directory_csv.toml")
_PIK = toml("national/pl/pik.toml")
_FHIR = toml("fhir.toml")["directory"]
COLUMNS: Mapping[str, str] = {name: row["means"] for name, row in _TABLE["column"].items()}
_KINDS: dict[str, str] = _TABLE["values"]["kind"]
_TRUTH: dict[str, bool] = _TABLE["values"]["truth"]
_PROFESSIONS: dict[str, str] = _TABLE["professions"]
_SYSTEMS: dict[str, str] = _TABLE["systems"]
_OID = "urn:oid:"
_CODE = re.compile(r"\d{4}\Z", re.ASCII)
_POSTAL_CODE = re.compile(r"\d{2}-\d{3}\Z", re.ASCII)
_TERYT = re.compile(r"\d{7}\Z", re.ASCII)
_DEGREES = re.compile(r"-?\d{1,3}(\.\d{1,10})?\Z", re.ASCII)
_URL = re.compile(r"[a-z][a-z0-9+.-]*:\S+\Z", re.IGNORECASE)
_CONNECTION = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z", re.ASCII)
_NEEDED = ("book", "npwz")


class Row(Value, frozen=True):
    """The resources of a row, and the Organizations that must stand in the file or in the directory for it."""

    resources: tuple[dict[str, Any], ...]
    needs: tuple[str, ...] = ()  # logical ids


def read_header(line: str) -> Layout:
    """The layout that the first line tells; raises Problem with everything that is wrong with it."""
    layout, findings = header(line, _names())
    if not set(_NEEDED) & set(layout.columns):
        said = "no column has an identifier: one of book and npwz is needed"
        findings.append(Finding("RequiredFieldMissing", said, "header"))
    if findings:
        raise Problem(findings)
    return layout


@cache
def _names() -> dict[str, str]:
    return {fold(n): column for column, row in _TABLE["column"].items() for n in (column, *row["also"])}


def organization_of(values: Sequence[str], layout: Layout) -> str:
    """Logical id of the Organization that the row makes; "" for none."""
    try:
        found = read_row(values, layout).resources[0]
    except Problem:
        return ""
    return found["id"] if found["resourceType"] == "Organization" else ""


def read_row(values: Sequence[str], layout: Layout) -> Row:
    """What a row says; raises Problem with everything that is wrong with it. An empty cell says nothing."""
    reading = _Reading()
    reading.cells(values, layout)
    row = reading.row() if not reading.findings else None
    if reading.findings or row is None:
        raise Problem(reading.findings)
    return row


class _Reading:
    """Reads one row and collects what is wrong with it."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._said: dict[str, str] = {}

    def _refuse(self, said: str, column: str, code: str = "DataTypeError") -> str:
        self.findings.append(Finding(code, said, column))
        return ""

    def cells(self, values: Sequence[str], layout: Layout) -> None:
        """Takes in the cells that are not empty."""
        if len(values) != len(layout.columns):
            self._refuse(f"the row has {len(values)} cells and the header {len(layout.columns)} columns", "")
            return
        for column, cell in zip(layout.columns, values, strict=True):
            value = " ".join(cell.split())
            if len(value) > VALUE_LENGTH_MAX:
                self._refuse(f"the value has {len(value)} characters, {VALUE_LENGTH_MAX} at most", column)
            elif not value.isprintable():
                self._refuse("the value has control characters", column)
            elif value:
                self._said[column] = value

    def row(self) -> Row | None:
        """The resources."""
        said = self._said
        named = fold(said.get("kind", ""))
        kind = _KINDS.get(named, "") if named else self._guessed()
        if not kind:
            self._refuse(f"{said.get('kind', '')!r} is none of podmiot, jednostka, komórka, pracownik", "kind")
            return None
        active = self._active()
        return self._person(active=active) if kind == "person" else self._place(kind, active=active)

    def _guessed(self) -> str:
        said = self._said
        return (
            "person" if "npwz" in said else "cell" if "part_vii" in said else "unit" if "part_v" in said else "entity"
        )

    def _active(self) -> bool:
        text = fold(self._said.get("active", "tak"))
        if text not in _TRUTH:
            self._refuse(f"{text[:40]!r} is neither TAK nor NIE", "active")
        return _TRUTH.get(text, True)

    # places of work -------------------------------------------------------------------------------------------------

    def _codes(self) -> tuple[str, str, str]:
        """The numbers of the entity, of the unit and of the cell; "" for those that the row does not name."""
        said = self._said
        if "book" not in said:
            if "part_v" in said or "part_vii" in said:
                self._refuse("the number of the register book is needed", "book", "RequiredFieldMissing")
            return "", "", ""
        book = self._checked("entity", said["book"], "book")
        unit = self._checked("unit", f"{book}-{said['part_v']}", "part_v") if book and "part_v" in said else ""
        cell = self._checked("cell", f"{book}-{said['part_vii']}", "part_vii") if book and "part_vii" in said else ""
        return book, unit, cell

    def _checked(self, kind: str, value: str, column: str) -> str:
        kept, why = identifier(kind, value)
        return self._refuse(f"{value!r}: {why}", column) if why else kept

    def _place(self, kind: str, *, active: bool) -> Row | None:
        book, unit, cell = self._codes()
        own = {"entity": book, "unit": unit, "cell": cell}[kind]
        column = {"entity": "book", "unit": "part_v", "cell": "part_vii"}[kind]
        if not own and not self.findings:
            self._refuse(f"it is needed for {self._said.get('kind', kind)}", column, "RequiredFieldMissing")
        if "name" not in self._said:
            self._refuse("it has no name", "name", "RequiredFieldMissing")
        id_ = f"{kind}-{own}"
        parent = "" if kind == "entity" else f"unit-{unit}" if kind == "cell" and unit else f"entity-{book}"
        specialty = self._specialty_of_cell()
        organization: dict[str, Any] = {
            "resourceType": "Organization",
            "id": id_,
            "identifier": [_identifier(kind, own), *self._numbers()],
            "active": active,
            "type": self._types(kind, specialty),
            "name": self._said.get("name", ""),
        }
        if "short_name" in self._said:
            organization["alias"] = [self._said["short_name"]]
        telecom, address = self._telecom(), self._address()
        _put(organization, "telecom", telecom)
        _put(organization, "address", [address] if address else [])
        if parent:
            organization["partOf"] = {"reference": f"Organization/{parent}"}
        resources = [organization]
        if endpoint := self._endpoint(id_, active=active):
            organization["endpoint"] = [{"reference": f"Endpoint/{endpoint['id']}"}]
            resources.append(endpoint)
        if kind == "unit" or (kind == "entity" and self._position()):
            resources.append(self._location(id_, telecom, address, active=active))
        if kind == "cell":
            resources.append(self._service(id_, specialty, telecom, active=active))
        return Row(tuple(resources), (parent,) if parent else ())

    def _types(self, kind: str, specialty: list[dict[str, Any]]) -> list[dict[str, Any]]:
        code, display = ("dept", "Hospital Department") if kind == "cell" else ("prov", "Healthcare Provider")
        types = [_concept(_SYSTEMS["organization_type"], code, display)]
        if kind == "unit":
            types.append(_concept(_SYSTEMS["mcsd_type"], "facility", "Facility"))
        return [*types, *specialty]

    def _specialty_of_cell(self) -> list[dict[str, Any]]:
        code = self._said.get("part_viii", "")
        if code and not _CODE.match(code):
            self._refuse(f"{code[:40]!r} is not 4 digits", "part_viii")
        return [_concept(_OID + _PIK["systems"]["cell_specialty"], code)] if code else []

    def _numbers(self) -> list[dict[str, Any]]:
        found = []
        if text := self._said.get("regon"):
            kind = "regon14" if sum(c.isdigit() for c in text) > 9 else "regon9"
            if number := self._checked(kind, text, "regon"):
                found.append(_identifier(kind, number))
        if (text := self._said.get("nip")) and (number := self._checked("nip", text, "nip")):
            type_ = _concept(_SYSTEMS["identifier_type"], "TAX")
            found.append({"type": type_, "system": _FHIR["systems"]["nip"], "value": number.removeprefix("PL")})
        return found

    def _telecom(self) -> list[dict[str, Any]]:
        rows = (("phone", "phone"), ("email", "email"), ("web", "url"))
        return [{"system": system, "value": self._said[c], "use": "work"} for c, system in rows if c in self._said]

    def _address(self) -> dict[str, Any]:
        said = self._said
        address: dict[str, Any] = {}
        tracts = []
        for column, name in (("terc", "TERC"), ("simc", "SIMC")):
            if code := said.get(column):
                if not _TERYT.match(code):
                    self._refuse(f"{code[:40]!r} is not 7 digits", column)
                tracts.append({"url": _SYSTEMS["census_tract"], "valueString": f"TERYT {name}: {code}"})
        if (post := said.get("postal_code")) and not _POSTAL_CODE.match(post):
            self._refuse(f"{post[:40]!r} is no postal code (00-000)", "postal_code")
        _put(address, "extension", tracts)
        _put(address, "line", [said["street"]] if "street" in said else [])
        for column, name in (("city", "city"), ("state", "state"), ("postal_code", "postalCode")):
            _put(address, name, said.get(column, ""))
        return {**address, "country": "PL"} if address else {}

    def _position(self) -> dict[str, Any]:
        given = {name: self._said[name].replace(",", ".") for name in ("longitude", "latitude") if name in self._said}
        for name, text in given.items():
            if not _DEGREES.match(text) or abs(float(text)) > (180 if name == "longitude" else 90):
                self._refuse(f"{text[:40]!r} is no number of degrees", name)
                return {}
        if len(given) == 1:
            self._refuse("latitude and longitude go together", next(iter(given)))
        return {name: Exact(text) for name, text in given.items()} if len(given) == 2 else {}

    def _location(
        self, organization: str, telecom: list[dict[str, Any]], address: dict[str, Any], *, active: bool
    ) -> dict[str, Any]:
        location: dict[str, Any] = {
            "resourceType": "Location",
            "id": f"location-{organization}",
            "status": "active" if active else "inactive",
            "name": self._said.get("name", ""),
            "mode": "instance",
            "type": [
                _concept(_SYSTEMS["mcsd_type"], "facility", "Facility"),
                _concept(
                    _SYSTEMS["service_delivery"], "HOSP" if "szpital" in fold(self._said.get("name", "")) else "OF"
                ),
            ],
        }
        _put(location, "telecom", telecom)
        _put(location, "address", address)
        location["physicalType"] = _concept(_SYSTEMS["physical_type"], "si", "Site")
        _put(location, "position", self._position())
        location["managingOrganization"] = {"reference": f"Organization/{organization}"}
        return location

    def _service(
        self, organization: str, specialty: list[dict[str, Any]], telecom: list[dict[str, Any]], *, active: bool
    ) -> dict[str, Any]:
        service: dict[str, Any] = {
            "resourceType": "HealthcareService",
            "id": f"service-{organization}",
            "active": active,
            "providedBy": {"reference": f"Organization/{organization}"},
        }
        _put(service, "type", specialty)
        _put(service, "specialty", specialty)
        _, unit, _ = self._codes()
        _put(service, "location", [{"reference": f"Location/location-unit-{unit}"}] if unit else [])
        service["name"] = self._said.get("name", "")
        _put(service, "telecom", telecom)
        return service

    def _endpoint(self, organization: str, *, active: bool) -> dict[str, Any]:
        address, kind = self._said.get("endpoint", ""), self._said.get("endpoint_type", "")
        if not address and not kind:
            return {}
        if not _URL.match(address):
            self._refuse(f"{address[:80]!r} is no address of a service", "endpoint")
        if not _CONNECTION.match(kind):
            self._refuse("the kind of service is needed, a code like ihe-xds or hl7-fhir-rest", "endpoint_type")
        return {
            "resourceType": "Endpoint",
            "id": f"endpoint-{organization}",
            "status": "active" if active else "off",
            "connectionType": {"system": _SYSTEMS["connection_type"], "code": kind},
            "managingOrganization": {"reference": f"Organization/{organization}"},
            "payloadType": [_concept(_SYSTEMS["payload_type"], "any")],
            "address": address,
        }

    # people ---------------------------------------------------------------------------------------------------------

    def _person(self, *, active: bool) -> Row | None:
        said = self._said
        number, profession = said.get("npwz", ""), said.get("profession", "").upper()
        if not number:
            self._refuse("the licence number is needed", "npwz", "RequiredFieldMissing")
        if profession and profession not in _PROFESSIONS:
            self._refuse(f"{profession[:40]!r} is none of {', '.join(_PROFESSIONS)}", "profession")
        if "family" not in said:
            self._refuse("the family name is needed", "family", "RequiredFieldMissing")
        root = _PROFESSIONS.get(profession) or ("npwz_nurse" if number[-1:].upper() in ("P", "A") else "npwz_physician")
        profession = profession or {"P": "PIEL", "A": "POL"}.get(number[-1:].upper(), "")
        number = self._checked(root, number, "npwz") if number else ""
        id_ = f"{root.removeprefix('npwz_')}-{number}"
        name = {"use": "official", "family": said.get("family", "")}
        person: dict[str, Any] = {
            "resourceType": "Practitioner",
            "id": id_,
            "identifier": [_identifier(root, number)],
            "active": True,
            "name": [name],
        }
        _put(name, "given", said.get("given", "").split())
        _put(name, "prefix", [said["prefix"]] if "prefix" in said else [])
        book, unit, cell = self._codes()
        place = f"cell-{cell}" if cell else f"unit-{unit}" if unit else f"entity-{book}" if book else ""
        if not place:
            person["active"] = active
            _put(person, "telecom", self._telecom())
            return Row((person,))
        role: dict[str, Any] = {
            "resourceType": "PractitionerRole",
            "id": f"{id_}-{place}",
            "active": active,
            "practitioner": {"reference": f"Practitioner/{id_}"},
            "organization": {"reference": f"Organization/{place}"},
        }
        _put(role, "code", [_concept(_OID + _PIK["systems"]["profession"], profession)] if profession else [])
        _put(role, "specialty", self._specialties())
        _put(role, "location", [{"reference": f"Location/location-unit-{unit}"}] if unit else [])
        _put(role, "healthcareService", [{"reference": f"HealthcareService/service-cell-{cell}"}] if cell else [])
        _put(role, "telecom", self._telecom())
        return Row((person, role), (place, *((f"unit-{unit}",) if unit and cell else ())))

    def _specialties(self) -> list[dict[str, Any]]:
        codes = self._said.get("specialty", "").replace(",", " ").split()
        for code in codes:
            if not _CODE.match(code):
                self._refuse(f"{code[:40]!r} is not 4 digits", "specialty")
        return [_concept(_OID + _PIK["systems"]["physician_specialty"], code) for code in codes]


def _put(target: dict[str, Any], name: str, value: Any) -> None:
    if value:
        target[name] = value


def _concept(system: str, code: str, display: str = "") -> dict[str, Any]:
    coding = {"system": system, "code": code}
    return {"coding": [{**coding, "display": display} if display else coding]}


def _identifier(kind: str, value: str) -> dict[str, Any]:
    return {"system": _OID + _PIK["roots"][kind], "value": value}
