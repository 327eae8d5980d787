"""The CapabilityStatement of a node: what its transactions say (http://hl7.org/fhir/R4/capabilitystatement.html)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obieg.codes.load import toml
from obieg.protocol import FhirBinding, Transaction

FHIR_VERSION = "4.0.1"
_TABLE = toml("fhir.toml")
_CONDITIONAL = {"conditional-update": "conditionalUpdate", "conditional-create": "conditionalCreate"}


def capability_statement(
    transactions: Sequence[Transaction], base: str, *, made_at: str, version: str
) -> dict[str, Any]:
    """The statement about the service at ``base``; ``made_at`` is a dateTime, ``version`` obieg's."""
    bindings = [(t, t.binding) for t in transactions if isinstance(t.binding, FhirBinding)]
    types = sorted({resource for _, binding in bindings for resource in binding.resources if resource})
    rest: dict[str, Any] = {
        "mode": "server",
        "documentation": "; ".join(f"{t.id} {t.name}" for t, _ in bindings),
        "resource": [_resource(kind, bindings) for kind in types],
    }
    statement: dict[str, Any] = {
        "resourceType": "CapabilityStatement",
        "url": f"{base}/metadata",
        "name": "Obieg",
        "title": "obieg: regional exchange of electronic medical documentation",
        "status": "active",
        "date": made_at,
        "kind": "instance",
        "instantiates": list(dict.fromkeys(binding.conforms_to for _, binding in bindings)),
        "software": {"name": "obieg", "version": version},
        "implementation": {"description": "An obieg node", "url": base},
        "fhirVersion": FHIR_VERSION,
        "format": ["application/fhir+json", "application/fhir+xml"],
    }
    if types:
        statement["rest"] = [rest]
    return statement


def _resource(kind: str, bindings: Sequence[tuple[Transaction, FhirBinding]]) -> dict[str, Any]:
    own = [(t, binding) for t, binding in bindings if kind in binding.resources]
    done = {interaction: t for t, binding in own for interaction in binding.interactions}
    plain = {name: t for name, t in done.items() if "$" not in name}
    operations = [_TABLE["operations"][name] for name in done if "$" in name]
    resource: dict[str, Any] = {"type": kind}
    if profiles := list(dict.fromkeys(p for _, binding in own for p in binding.profiles)):
        resource["supportedProfile"] = profiles
    interactions: dict[str, list[str]] = {}
    for name, transaction in plain.items():
        interactions.setdefault(name.removeprefix("conditional-"), []).append(f"{name} for {transaction.id}")
    resource["interaction"] = [{"code": c, "documentation": ", ".join(said)} for c, said in interactions.items()]
    if "read" in plain:
        resource["versioning"] = "versioned"
    for name, element in _CONDITIONAL.items():
        if name in plain:
            resource[element] = True
    if "conditional-delete" in plain:
        resource["conditionalDelete"] = "single"
    if "search-type" in plain:
        resource["searchParam"] = [_parameter(n, row) for n, row in _served(kind)]
    if operations:
        resource["operation"] = [{"name": o["name"], "definition": o["definition"]} for o in operations]
    return resource


def _served(kind: str) -> list[tuple[str, dict[str, str]]]:
    return [(name, row) for name, row in _TABLE["search"][kind].items() if "unserved" not in row]


def _parameter(name: str, row: dict[str, str]) -> dict[str, str]:
    definition = {"definition": row["definition"]} if "definition" in row else {}
    return {"name": name, **definition, "type": row["type"]}
