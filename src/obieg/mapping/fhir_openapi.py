"""The FHIR face of a node as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), from its transactions and the tables.

Resources are described to the depth of their own elements; what a datatype is made of, R4 says. An operation on every
type of resource is one address with the type in its path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from obieg.codes.load import toml
from obieg.mapping.fhir_parameters import COUNT_MAX
from obieg.protocol import FhirBinding, Transaction
from obieg.wire.fhir_elements import PRIMITIVES, RESOURCE_TYPES, Element, elements

_JSON, _XML = "application/fhir+json", "application/fhir+xml"
_FORM = "application/x-www-form-urlencoded"
_TABLE = toml("fhir.toml")
_INTERACTIONS = toml("fhir_interactions.toml")
_EVERY = "{type}"  # in place of a type: an operation on all of them
_NUMBERS = {
    "boolean": "boolean",
    "decimal": "number",
    "integer": "integer",
    "positiveInt": "integer",
    "unsignedInt": "integer",
}
_HEADERS = {
    "If-Match": 'The version that the sender has seen, W/"3"; with another one nothing is changed.',
    "If-None-Exist": "A search; nothing is created where it finds something.",
    "If-None-Match": 'Versions that the caller has, W/"3"; of one of them nothing is sent.',
    "If-Modified-Since": "What has not changed since is not sent.",
    "Prefer": "return=minimal, return=representation or return=OperationOutcome; handling=strict or handling=lenient.",
}


class _Served(NamedTuple):
    """One interaction with one type."""

    transaction: Transaction
    resource: str
    interaction: str


def openapi(transactions: Sequence[Transaction], base: str, *, version: str) -> dict[str, Any]:
    """The description of the service at ``base``; ``version`` is obieg's."""
    paths: dict[str, dict[str, Any]] = {
        "/metadata": {"get": _fixed("The CapabilityStatement", "CapabilityStatement", _JSON)},
        "/openapi.json": {"get": _fixed("This description", "", "application/json")},
    }
    used = {"CapabilityStatement", "OperationOutcome"}
    for served in _served(transactions):
        for path, method, operation in _operations(served):
            _add(paths.setdefault(path, {}), method, operation, served)
        used.add(served.resource if served.resource in RESOURCE_TYPES else "Bundle")
    used |= {"Bundle", "Parameters"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "obieg: FHIR R4", "version": version, "description": "HL7 FHIR R4 (4.0.1) in JSON and XML."},
        "servers": [{"url": base}],
        "paths": paths,
        "components": {
            "schemas": {kind: _schema(kind) for kind in sorted(used)} | {"Resource": _RESOURCE},
            "responses": {"Refused": _response("What is wrong, and what to do", "OperationOutcome")},
        },
    }


def _add(methods: dict[str, Any], method: str, operation: dict[str, Any], served: _Served) -> None:
    """One address and method have one description: it names all transactions, and what tells their Bundles apart."""
    binding = served.transaction.binding
    profile = binding.bundle_profile if isinstance(binding, FhirBinding) else ""
    if profile:
        said = f"A Bundle whose meta.profile names {profile} is {served.transaction.id}."
        operation["description"] = said
        if method in methods:
            methods[method]["summary"] += f"; {operation['summary']}"
            methods[method]["description"] = said
            return
    methods[method] = operation


def _served(transactions: Sequence[Transaction]) -> Iterator[_Served]:
    for transaction in transactions:
        binding = transaction.binding
        if not isinstance(binding, FhirBinding):
            continue
        every = set(RESOURCE_TYPES) <= set(binding.resources)
        kinds = [k for k in binding.resources if not every or k not in RESOURCE_TYPES] + [_EVERY] * every
        for interaction in binding.interactions:
            for kind in kinds:
                at_base = interaction in ("transaction", "history-system") or interaction.removeprefix(
                    "delete "
                ).startswith("$")
                on_type = interaction not in ("transaction", "history-system")
                if on_type if kind else at_base:
                    yield _Served(transaction, kind, interaction)


# operations ------------------------------------------------------------------------------------------------------


def _operations(served: _Served) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Address, method and description."""
    name = served.interaction
    if "$" in name:
        row = _TABLE["operations"][name]
        method, _, bare = name.rpartition(" ")
        path = "/".join(filter(None, ("", served.resource, *bare.replace("[id]", "{id}").split("/"))))
        if method:
            yield _path(path), method, _operation(served, _INTERACTIONS["$"], row, method)
            return
        yield _path(path), "post", _operation(served, _INTERACTIONS["$"], row, "post")
        if row["get"]:
            yield _path(path), "get", _operation(served, _INTERACTIONS["$"], row, "get")
        return
    rows = [_INTERACTIONS[name]]
    if name == "search-type":
        rows.append(_INTERACTIONS["search-type-post"])
    for row in rows:
        path = row["path"].replace("[type]", served.resource).replace("[id]", "{id}").replace("[version]", "{version}")
        yield _path(path), row["method"], _operation(served, row, {}, row["method"])


def _path(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _operation(served: _Served, row: dict[str, Any], operation: dict[str, Any], method: str) -> dict[str, Any]:
    transaction, kind = served.transaction, served.resource
    described: dict[str, Any] = {
        "summary": f"{transaction.id} {transaction.name}",
        "externalDocs": {"url": transaction.spec},
        "tags": [kind or "system"] if kind != _EVERY else ["every type"],
        "parameters": [*_in_path(served), *_shared(served, row), *_headers(row)],
        "responses": _responses(served, row, operation, method),
    }
    if operation and method in ("get", "delete"):
        described["parameters"] += _of_operation(operation)
    elif body := row.get("body", ""):
        described["requestBody"] = _body(served, body, operation)
    return described


def _in_path(served: _Served) -> Iterator[dict[str, Any]]:
    if served.resource == _EVERY:
        yield {"name": "type", "in": "path", "required": True, "schema": {"enum": list(RESOURCE_TYPES)}}
    path = _INTERACTIONS.get(served.interaction, {}).get("path", served.interaction)
    for name in ("id", "version"):
        if f"[{name}]" in path:
            schema = {"type": "string", "pattern": f"^{PRIMITIVES['id']}$"}
            yield {"name": name, "in": "path", "required": True, "schema": schema}


def _shared(served: _Served, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Parameters of the search, and the format."""
    yield {"name": "_format", "in": "query", "schema": {"enum": [*_TABLE["formats"]]}}
    table = _TABLE["search"].get(served.resource, {})
    wanted = row.get("parameters", "")
    if wanted == "search" and row.get("body") != "form":
        for name, found in table.items():
            if "unserved" not in found:
                yield _parameter(name, found)
        yield {"name": "_count", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": COUNT_MAX}}
    elif wanted and wanted in table:
        yield {**_parameter(wanted, table[wanted]), "required": True}


def _parameter(name: str, row: dict[str, Any]) -> dict[str, Any]:
    found = {"name": name, "in": "query", "description": f"A search parameter of type {row['type']}."}
    if "definition" in row:
        found["description"] += f" {row['definition']}"
    return {**found, "schema": {"type": "array", "items": {"type": "string"}}}


def _headers(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in row.get("headers", ()):
        yield {"name": name, "in": "header", "description": _HEADERS[name], "schema": {"type": "string"}}


def _of_operation(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, kind in operation["parameters"].items():
        if name == "_format":
            continue
        schema: dict[str, Any] = {"type": _NUMBERS.get(kind.rstrip("!*"), "string")}
        if kind.endswith("*"):
            schema = {"type": "array", "items": schema}
        yield {"name": name, "in": "query", "required": kind.endswith("!"), "schema": schema}


def _body(served: _Served, body: str, operation: dict[str, Any]) -> dict[str, Any]:
    if body == "form":
        found = [(n, r) for n, r in _TABLE["search"].get(served.resource, {}).items() if "unserved" not in r]
        schema: dict[str, Any] = {"type": "object", "properties": {n: _parameter(n, r)["schema"] for n, r in found}}
        return {"required": False, "content": {_FORM: {"schema": schema}}}
    if body == "parameters":
        kinds = dict.fromkeys(k.rstrip("!*") for k in operation["parameters"].values())
        named = [_schema_of(k) for k in kinds if k == "Resource" or k in RESOURCE_TYPES]
        schema = {"anyOf": [_schema_of("Parameters"), *named]}
    else:
        schema = _schema_of("Bundle" if body == "bundle" else served.resource)
    return {"required": body != "parameters", "content": {_JSON: {"schema": schema}, _XML: {}}}


# answers ---------------------------------------------------------------------------------------------------------


def _responses(served: _Served, row: dict[str, Any], operation: dict[str, Any], method: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, content in operation.get("answers", row["answers"]).items():
        kind = {"bundle": "Bundle", "none": "", "resource": served.resource}.get(content, content)  # or a type
        if "$" in served.interaction or served.resource in ("", _EVERY) or row["method"] in ("put", "delete"):
            kind = kind and ("Bundle" if content == "bundle" else "Resource")
        found[status] = _response(served.transaction.name, kind)
    for group in (*row["refused"], *(["sent"] if method != "get" and row.get("body") else [])):
        for status in _INTERACTIONS["statuses"][group]:
            found.setdefault(str(status), {"$ref": "#/components/responses/Refused"})
    return dict(sorted(found.items()))


def _response(said: str, kind: str) -> dict[str, Any]:
    if not kind:
        return {"description": said}
    return {"description": said, "content": {_JSON: {"schema": _schema_of(kind)}, _XML: {}}}


def _fixed(said: str, kind: str, media: str) -> dict[str, Any]:
    """What stands at an address of its own."""
    found = _response(said, kind) if kind else {"description": said, "content": {media: {"schema": {"type": "object"}}}}
    refused = {str(s): {"$ref": "#/components/responses/Refused"} for s in _INTERACTIONS["statuses"]["any"]}
    return {"summary": said, "tags": ["system"], "responses": {"200": found, **refused}}


# schemas ---------------------------------------------------------------------------------------------------------

_RESOURCE = {
    "type": "object",
    "properties": {"resourceType": {"enum": list(RESOURCE_TYPES)}},
    "required": ["resourceType"],
}


def _schema_of(kind: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{kind}"}


def _schema(kind: str) -> dict[str, Any]:
    """Its elements; what they are made of is left to R4."""
    known = elements(kind)
    required = [e.name for e in known.values() if e.required and e.choice == e.name and not e.primitive]
    return {
        "type": "object",
        "properties": {"resourceType": {"const": kind}} | {name: _element(e) for name, e in known.items()},
        "patternProperties": {"^_": {"type": ["object", "array"]}},
        "required": ["resourceType", *required],
        "additionalProperties": False,
    }


def _element(element: Element) -> dict[str, Any]:
    schema: dict[str, Any]
    if element.kind in _NUMBERS:
        schema = {"type": _NUMBERS[element.kind]}
    elif element.primitive:
        schema = {"type": "string", "description": element.kind}
    else:
        schema = {"type": "object", "description": element.kind}
    if not element.many:
        return schema
    if element.primitive:  # a value without one has its place beside it
        schema["type"] = [schema["type"], "null"]
    return {"type": "array", "items": schema, "minItems": 1}
