"""Writes src/obieg/codes/fhir_elements.toml from HL7's published definitions of FHIR R4.

Run: python -m tools.fhir_tables FOLDER, where FOLDER is the installed npm package hl7.fhir.r4.examples 4.0.1 (others
that carry R4 have their own additions in it).
All resource types are in it: which of them a node serves follows from the transactions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parents[1] / "src" / "obieg" / "codes" / "fhir_elements.toml"
_BASES = ("Element", "BackboneElement", "Resource", "DomainResource")
_INHERITS = {"BackboneElement": "Element", "DomainResource": "Resource"}
# The published pattern takes exponential time on text that does not fit.
_PATTERNS = {"base64Binary": r"[0-9a-zA-Z+/\s]*(=\s*){0,2}"}
_SYSTEM = "http://hl7.org/fhirpath/System."
_HEAD = """\
# Elements of FHIR R4 in the order of the standard, which is the order of XML (http://hl7.org/fhir/R4/xml.html).
# Made by tools/fhir_tables.py from the npm package hl7.fhir.r4.examples 4.0.1 (HL7, CC0); do not edit.
# Standing: official.
#
# [types] Type or path = "base, then name=type of each element". A name that begins with @ is an attribute in XML, one
# that ends with ! must be there, with * may repeat, with + both; [x] stands for the type's name, | separates types.
# [primitives] type = regular expression of its values.
"""


def main(folder: Path) -> None:
    """Reads the definitions, writes the table."""
    PATH.write_text(table(folder), "utf-8")


def table(folder: Path) -> str:
    """The table as TOML."""
    primitives: dict[str, str] = {}
    types: dict[str, str] = {}
    known = definitions(folder)
    for name, definition in sorted(known.items()):
        if definition["kind"] == "primitive-type":
            primitives[name] = _PATTERNS.get(name) or _pattern(definition)
        elif definition["kind"] in ("complex-type", "resource"):
            types |= _types(definition)
    types["*"] = _open_types(known["Extension"])
    used = _used(types)
    lines = [_HEAD, "[primitives]"]
    lines += [f"{name} = '''{pattern}'''" for name, pattern in primitives.items()]
    lines += ["", "[types]"]
    lines += [f'{json.dumps(name) if "." in name or name == "*" else name} = "{types[name]}"' for name in sorted(used)]
    return "\n".join(lines) + "\n"


def definitions(folder: Path) -> dict[str, dict[str, Any]]:
    """StructureDefinitions of types by name."""
    found = (
        json.loads(p.read_text("utf-8")) for p in folder.glob("StructureDefinition-*.json") if p.stem.count("-") == 1
    )
    return {d["type"]: d for d in found if d.get("derivation") != "constraint" and d["id"] == d["type"]}


def _pattern(definition: dict[str, Any]) -> str:
    value = next(e for e in definition["snapshot"]["element"] if e["path"].endswith(".value"))
    extensions = value["type"][0].get("extension", [])
    return next((e["valueString"] for e in extensions if e["url"].endswith("/regex")), "")


def _types(definition: dict[str, Any]) -> dict[str, str]:
    name = definition["type"]
    elements = definition["snapshot"]["element"][1:]
    owners: dict[str, list[str]] = {name: []}
    bases: dict[str, str] = {name: _INHERITS.get(name, "")}
    for element in elements:
        owner, _, own = element["path"].rpartition(".")
        origin = element["base"]["path"].partition(".")[0]
        if origin in _BASES and origin != name:
            bases[owner] = max(bases.get(owner, ""), origin, key=("", *_BASES).index)
            continue
        owners.setdefault(owner, []).append(_element(element, own))
        if _is_group(element):
            owners.setdefault(element["path"], [])
    return {path: " ".join(filter(None, (bases.get(path, ""), *found))) for path, found in owners.items()}


def _is_group(element: dict[str, Any]) -> bool:
    return [t["code"] for t in element.get("type", ())] in (["BackboneElement"], ["Element"])


def _element(element: dict[str, Any], name: str) -> str:
    mark = {(False, False): "", (True, False): "!", (False, True): "*", (True, True): "+"}[
        element["min"] > 0, element["max"] != "1"
    ]
    kinds = [t["code"].removeprefix(_SYSTEM) for t in element.get("type", ())]
    if reference := element.get("contentReference"):
        kind = reference.removeprefix("#")
    elif _is_group(element):
        kind = element["path"]
    elif name.endswith("[x]") and len(kinds) > 40:  # any datatype
        kind = "*"
    else:
        kind = "|".join(_plain(k, element["path"]) for k in kinds)
    return f"{'@' if 'xmlAttr' in element.get('representation', ()) else ''}{name}{mark}={kind}"


def _plain(kind: str, path: str) -> str:
    """FHIRPath's name of a primitive stands for id and Extension.url."""
    return {"String": "uri" if path == "Extension.url" else "id" if path == "Resource.id" else "string"}.get(kind, kind)


def _open_types(definition: dict[str, Any]) -> str:
    value = next(e for e in definition["snapshot"]["element"] if e["path"] == "Extension.value[x]")
    return "|".join(t["code"] for t in value["type"])


def _used(types: dict[str, str]) -> set[str]:
    """What the resources need, directly or through others."""
    wanted = [name for name in types if types[name].startswith(("DomainResource", "Resource")) or name == "*"]
    used: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in used or name not in types:
            continue
        used.add(name)
        words = types[name].split(" ")
        wanted += [kind for word in words for kind in word.rpartition("=")[2].split("|")]
    return used


if __name__ == "__main__":
    main(Path(sys.argv[1]))
