"""What tests of patients' own acts share: somebody of whom no other test looks at the log, and FHIR Parameters."""

from __future__ import annotations

from typing import Any

import portals

from obieg.ops.population import Person


def somebody(portal: portals.Region) -> Person:
    """An adult with documents who is not ``portal.someone``."""
    others = [d.person for d in portal.documents if d.person.pesel and d.person != portal.someone]
    return max((p for p in others if p.born.year < 2000), key=others.count)


def reference(portal: portals.Region, person: Person) -> str:
    """Patient/…"""
    with portals.client(portal, portals.patient(person)) as own:
        said = own.get("/fhir/Patient/$represented").json()["parameter"]
    return str(next(p["valueReference"]["reference"] for p in said[0]["part"] if p["name"] == "patient"))


def parameters(**given: Any) -> dict[str, Any]:
    kinds = {str: "String", int: "Integer"}
    listed = [{"name": name, f"value{kinds[type(value)]}": value} for name, value in given.items()]
    return {"resourceType": "Parameters", "parameter": listed}


def values(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {p["name"]: next(v for k, v in p.items() if k.startswith("value")) for p in parts}
