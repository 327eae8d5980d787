"""The CapabilityStatement of a node: what its transactions say (http://hl7.org/fhir/R4/capabilitystatement.html)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from obieg.codes.load import toml
from obieg.protocol import FhirBinding, Transaction
from obieg.wire.fhir_elements import RESOURCE_TYPES

FHIR_VERSION = "4.0.1"
_TABLE = toml("fhir.toml")
_OF_SYSTEM = ("transaction", "batch", "history-system")
_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_OAUTH_NAMES = {
    "authorize": "authorization_endpoint",
    "token": "token_endpoint",
    "introspect": "introspection_endpoint",
    "revoke": "revocation_endpoint",
}
_SECURITY_SERVICE = "http://terminology.hl7.org/CodeSystem/restful-security-service"
_CONDITIONAL = {"conditional-update": "conditionalUpdate", "conditional-create": "conditionalCreate"}


def capability_statement(
    transactions: Sequence[Transaction],
    base: str,
    *,
    made_at: str,
    version: str,
    authorization: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The statement about the service at ``base``; ``made_at`` is a dateTime, ``version`` obieg's.

    ``authorization`` is the metadata of the authorization server whose tokens are accepted (RFC 8414, section 2).
    """
    bindings = [(t, t.binding) for t in transactions if isinstance(t.binding, FhirBinding)]
    # An operation on every type makes none of them a type that this node serves.
    special = [(t, binding) for t, binding in bindings if not set(RESOURCE_TYPES) <= set(binding.resources)]
    types = sorted({resource for _, binding in special for resource in binding.resources if resource})
    rest: dict[str, Any] = {
        "mode": "server",
        "documentation": "; ".join(f"{t.id} {t.name}" for t, _ in bindings),
    }
    if authorization is not None:
        rest["security"] = _security(authorization)
    if types:
        rest["resource"] = [_resource(kind, bindings) for kind in types]
    statement: dict[str, Any] = {
        "resourceType": "CapabilityStatement",
        "url": f"{base}/metadata",
        "name": "Obieg",
        "title": "obieg: regional exchange of electronic medical documentation",
        "status": "active",
        "date": made_at,
        "kind": "instance",
        "instantiates": list(dict.fromkeys(b.conforms_to for _, b in bindings if b.conforms_to)),
        "software": {"name": "obieg", "version": version},
        "implementation": {"description": "An obieg node", "url": base},
        "fhirVersion": FHIR_VERSION,
        "format": ["application/fhir+json", "application/fhir+xml"],
    }
    if operations := _operations("", bindings):
        rest["operation"] = operations
    if system := _system_interactions(bindings):
        rest["interaction"] = system
    if bindings:
        statement["rest"] = [rest]
    return statement


def _security(authorization: Mapping[str, Any]) -> dict[str, Any]:
    """Where tokens come from (SMART App Launch, "Declaring support for OAuth 2.0 in the CapabilityStatement")."""
    uris = [{"url": name, "valueUri": authorization[member]} for name, member in _OAUTH_NAMES.items()]
    coding = {"system": _SECURITY_SERVICE, "code": "SMART-on-FHIR", "display": "SMART-on-FHIR"}
    return {
        "extension": [{"url": _OAUTH_URIS, "extension": uris}],
        "cors": True,
        "service": [{"coding": [coding], "text": "OAuth 2.1 as IHE IUA and SMART App Launch profile it"}],
    }


def _system_interactions(bindings: Sequence[tuple[Transaction, FhirBinding]]) -> list[dict[str, str]]:
    """What is served at the base address."""
    said: dict[str, list[str]] = {}
    for transaction, binding in bindings:
        for interaction in binding.interactions if "" in binding.resources else ():
            if interaction in _OF_SYSTEM:
                of = f" (Bundles of {binding.bundle_profile})" if binding.bundle_profile else ""
                said.setdefault(interaction, []).append(f"{interaction} for {transaction.id}{of}")
    return [{"code": interaction, "documentation": ", ".join(parts)} for interaction, parts in said.items()]


def _resource(kind: str, bindings: Sequence[tuple[Transaction, FhirBinding]]) -> dict[str, Any]:
    own = [(t, binding) for t, binding in bindings if kind in binding.resources]
    done = {interaction: t for t, binding in own for interaction in binding.interactions}
    plain = {name: t for name, t in done.items() if "$" not in name and name not in _OF_SYSTEM}
    answer = _TABLE["answer"].get(kind, {})
    resource: dict[str, Any] = {"type": kind}
    if profiles := list(
        dict.fromkeys([*(p for _, binding in own for p in binding.profiles), *answer.get("profiles", ())])
    ):
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
        for element, name in (("searchInclude", "include"), ("searchRevInclude", "revinclude")):
            if listed := answer.get(name):
                resource[element] = listed
        resource["searchParam"] = [_parameter(n, row) for n, row in _served(kind)]
    if operations := _operations(kind, bindings):
        resource["operation"] = operations
    return resource


def _operations(kind: str, bindings: Sequence[tuple[Transaction, FhirBinding]]) -> list[dict[str, str]]:
    """Those on a type and its resources, or at the base address, that have a definition; each once."""
    names = [name for _, binding in bindings if kind in binding.resources for name in binding.interactions]
    rows = [_TABLE["operations"][name] for name in names if name.startswith("$") or (kind and "$" in name)]
    defined = [(row["name"], row.get("definitions", {}).get(kind, row["definition"])) for row in rows]
    return [{"name": name, "definition": address} for name, address in dict.fromkeys(defined) if address]


def _served(kind: str) -> list[tuple[str, dict[str, str]]]:
    return [(name, row) for name, row in _TABLE["search"][kind].items() if "unserved" not in row]


def _parameter(name: str, row: dict[str, str]) -> dict[str, str]:
    definition = {"definition": row["definition"]} if "definition" in row else {}
    return {"name": name, **definition, "type": row["type"]}
