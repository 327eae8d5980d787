"""Writes src/obieg/codes/fhir_rules.toml from HL7's published definitions of FHIR R4: what only validation needs.

Run: python -m tools.fhir_rules FOLDER, where FOLDER is the installed npm package hl7.fhir.r4.examples 4.0.1.
An invariant that obieg.wire.fhirpath cannot compile, or a code that the table cannot hold, stops it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from obieg.wire.fhirpath import compiled
from tools.fhir_tables import definitions

PATH = Path(__file__).resolve().parents[1] / "src" / "obieg" / "codes" / "fhir_rules.toml"
_FHIR = "http://hl7.org/fhir/"
_PROFILE = f"{_FHIR}StructureDefinition/"
_VALUE_SET = f"{_FHIR}ValueSet/"
# Types whose rules the program applies to everything that is made of them.
_INHERITED = frozenset({"Element", "Extension", "Resource", "DomainResource"})
_NARRATIVE = "htmlChecks()"  # txt-1 and txt-2, which are words rather than an expression: obieg.wire.fhir_narrative
# Published texts that refuse what the standard allows, as HL7 has corrected them since (4.3.0).
_CORRECTED = {
    # References are made to the container too, by "#" alone (references.html#contained).
    "ref-1": "reference.startsWith('#').not() or (reference.substring(1) in %rootResource.contained.id) "
    "or (reference='#' and %rootResource!=%resource)",
}
_HEAD = """\
# What FHIR R4 demands beyond the elements of fhir_elements.toml (http://hl7.org/fhir/R4/validation.html).
# Made by tools/fhir_rules.py from the npm package hl7.fhir.r4.examples 4.0.1 (HL7, CC0); do not edit.
# Standing: official.
#
# [invariants] type, group or element (Type.element) = its rules of severity error, key = text and FHIRPath expression.
# [bindings] element = the value set that its codes must be of.
# [targets] element = types of the resources that its References may name.
# [value_sets] name = lines "system code code …"; those in [open] cannot be listed and are not checked.
"""


def main(folder: Path) -> None:
    """Reads the definitions, writes the table."""
    PATH.write_text(table(folder), "utf-8")


def table(folder: Path) -> str:
    """The table as TOML."""
    types = {name: d for name, d in sorted(definitions(folder).items()) if d["kind"] != "logical"}
    invariants: dict[str, dict[str, tuple[str, str]]] = {}
    bindings: dict[str, str] = {}
    targets: dict[str, str] = {}
    for definition in types.values():
        for element in definition["snapshot"]["element"]:
            path = element["path"]
            if found := dict(_invariants(element, definition["type"])):
                invariants.setdefault(path, {}).update(found)
            for concrete, profile in _profiled(element):
                root = _load(folder, "StructureDefinition", profile)["snapshot"]["element"][0]
                own = dict(_invariants(root, profile.removeprefix(_PROFILE)))
                invariants.setdefault(concrete, {}).update(
                    {k: v for k, v in own.items() if k not in _of_type(types, root)}
                )
            if not _is_own(element, definition["type"]):
                continue
            binding = element.get("binding", {})
            if binding.get("strength") == "required":
                bindings[path] = binding["valueSet"]
            if named := _targets(element):
                targets[path] = named
    value_sets = {url: _expansion(folder, url) for url in sorted(set(bindings.values()))}
    lines = [_HEAD]
    for path in sorted(invariants):
        if invariants[path]:
            lines.append(f"[invariants.{json.dumps(path)}]")
            lines += [f"{key} = [{_text(human)}, {_text(said)}]" for key, (human, said) in invariants[path].items()]
    lines += ["", "[bindings]"]
    lines += [f"{json.dumps(path)} = {json.dumps(_short(bindings[path]))}" for path in sorted(bindings)]
    lines += ["", "[targets]"]
    lines += [f"{json.dumps(path)} = {json.dumps(targets[path])}" for path in sorted(targets)]
    lines += ["", "[value_sets]"]
    for url, systems in value_sets.items():
        if systems:
            said = ",\n".join(f"  {_text(' '.join((system, *codes)))}" for system, codes in systems.items())
            lines.append(f"{json.dumps(_short(url))} = [\n{said},\n]")
    lines += ["", "[open]"]
    lines += [f"{json.dumps(_short(url))} = {json.dumps(url)}" for url, systems in value_sets.items() if not systems]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _short(url: str) -> str:
    return url.partition("|")[0].removeprefix(_VALUE_SET)


@cache
def _published(folder: Path, kind: str) -> dict[str, dict[str, Any]]:
    """All definitions of a kind by their canonical address."""
    found = (json.loads(path.read_text("utf-8")) for path in folder.glob(f"{kind}-*.json"))
    return {definition["url"]: definition for definition in found}


def _load(folder: Path, kind: str, url: str) -> dict[str, Any]:
    return _published(folder, kind)[url.partition("|")[0]]


# elements --------------------------------------------------------------------------------------------------------


def _is_own(element: dict[str, Any], name: str) -> bool:
    """Not of a base type, whose elements are looked up under its name."""
    origin = element["base"]["path"].partition(".")[0]
    return origin == name or origin not in ("Element", "BackboneElement", "Resource", "DomainResource")


def _invariants(element: dict[str, Any], name: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for rule in element.get("constraint", ()):
        source = rule.get("source", "").removeprefix(_PROFILE) or name
        if (
            rule["expression"] == _NARRATIVE
            or rule["severity"] != "error"
            or (source in _INHERITED and source != element["path"])
        ):
            continue
        expression = _CORRECTED.get(rule["key"], rule["expression"])
        compiled(expression)
        yield rule["key"], (rule["human"], expression)


def _of_type(types: dict[str, Any], root: dict[str, Any]) -> set[str]:
    """Keys of the rules that the profiled type has anyway."""
    return {rule["key"] for rule in types[root["path"]]["snapshot"]["element"][0]["constraint"]}


def _profiled(element: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Elements of a datatype that a profile narrows (SimpleQuantity): name of the element, canonical address."""
    for kind in element.get("type", ()):
        for profile in kind.get("profile", ()):
            code = kind["code"]
            yield element["path"].replace("[x]", code[0].upper() + code[1:]), profile


def _targets(element: dict[str, Any]) -> str:
    names = [
        target.removeprefix(_PROFILE)
        for kind in element.get("type", ())
        if kind["code"] == "Reference"
        for target in kind.get("targetProfile", ())
    ]
    return "" if "Resource" in names else " ".join(names)


# value sets ------------------------------------------------------------------------------------------------------


def _expansion(folder: Path, url: str) -> dict[str, list[str]]:
    """Codes by system; nothing where they cannot be listed."""
    try:
        compose = _load(folder, "ValueSet", url)["compose"]
    except KeyError:
        return {}
    found: dict[str, list[str]] = {}
    for include in compose["include"]:
        for inner in include.get("valueSet", ()):
            assert "system" not in include, url
            if not (of_other := _expansion(folder, inner)):
                return {}
            for system, codes in of_other.items():
                found.setdefault(system, []).extend(codes)
        if "system" in include:
            listed = _included(folder, include)
            if listed is None:
                return {}
            found.setdefault(include["system"], []).extend(listed)
    for exclude in compose.get("exclude", ()):
        out = set(_included(folder, exclude) or ())
        found[exclude["system"]] = [code for code in found[exclude["system"]] if code not in out]
    assert not any(" " in code for codes in found.values() for code in codes), url
    return {system: list(dict.fromkeys(codes)) for system, codes in found.items()}


def _included(folder: Path, include: dict[str, Any]) -> list[str] | None:
    if concepts := include.get("concept"):
        return [str(concept["code"]) for concept in concepts]
    try:
        system = _load(folder, "CodeSystem", include["system"])
    except KeyError:
        return None
    if system["content"] != "complete":
        return None
    parents = dict(_concepts(system.get("concept", ()), ()))
    codes = list(parents)
    for rule in include.get("filter", ()):
        value, itself = rule["value"], {"is-a": True, "descendent-of": False}[rule["op"]]
        codes = [code for code in codes if value in parents[code] or (itself and code == value)]
    return codes


def _concepts(concepts: Any, above: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each code with all those above it, by nesting and by the property subsumedBy."""
    for concept in concepts:
        stated = tuple(p["valueCode"] for p in concept.get("property", ()) if p["code"] == "subsumedBy")
        yield concept["code"], (*above, *stated)
        yield from _concepts(concept.get("concept", ()), (*above, concept["code"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
