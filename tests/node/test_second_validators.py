"""Our verdicts beside those of validators that nobody here wrote: @medplum/core, fhir.resources, pyfhircheck.

What one of them refuses we refuse. What only we refuse is of a kind that they do not look at; each is named below.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fhir_peer
import pytest
from fhir_peer import EXAMPLES as PACKAGES
from fhir_peer import NpmProcess
from peer import SHARED
from pyfhircheck import Validator

from obieg.wire import fhir_json
from obieg.wire.fhir_elements import RESOURCE, Fault, elements
from obieg.wire.fhir_validation import validate

pytestmark = pytest.mark.node

HL7 = SHARED / "data" / "ihe" / "hl7-fhir-r4-examples" / "package"
IPS = SHARED / "data" / "ihe" / "hl7-ips-sushi-compiled"
SEED = 20261122
DAMAGES = 400
# Errors of pyfhircheck that are its own, or none of R4; what else it finds counts.
PYFHIRCHECK_ALONE = {
    "datatype.invalid": "it knows no base64Binary and calls every one of them wrong (EncodedBytes)",
    "element.unknown": "it does not know Composition.section.text, Questionnaire.item.text, Patient.communication.language",
    "extension.unknown": "R4 allows extensions whose definition nobody has (extensibility.html)",
    "bundle.entry.resource": "bdl-5: an entry with a request needs no resource",
    "resource.id.duplicate": "bdl-7 forbids two entries of one fullUrl, not of one id",
}
# By the rule of our first fault: validators that do not look at it, and why.
NOT_LOOKED_AT = {
    "binding": {"medplum": "it has no value sets", "resources": "it has no value sets"},
    "target": {"medplum": "it reads no reference", "resources": "it reads no reference"},
    "invariant": {"medplum": "it takes htmlChecks() for true", "resources": "it knows no FHIRPath"},
    "type": {
        "medplum": "it takes null and {} for absent, and one value for an array",
        "resources": "it turns numbers into texts and takes null for absent; it has no pattern of uri and markdown",
    },
    "unknown": {"medplum": "it takes an entry's resource for anything"},
}


@pytest.fixture(scope="module")
def npm() -> Iterator[NpmProcess]:
    process = NpmProcess()
    yield process
    process.close()


def by_resources(resource: dict[str, Any]) -> str:
    """What fhir.resources refuses."""
    try:
        fhir_peer.valid(resource)
    except (ValueError, TypeError, KeyError) as error:
        return str(error)
    return ""


def files(*folders: Path) -> list[Path]:
    found = sorted(p for folder in folders for p in folder.glob("*.json") if "-" in p.stem)
    if not found:
        pytest.skip("the examples are not beside this repository")
    return found


def is_resource(path: Path) -> bool:
    return path.stem.partition("-")[0] not in ("StructureDefinition", "ImplementationGuide", "SearchParameter")


def test_they_agree_on_published_examples(npm: NpmProcess) -> None:
    """HL7's, IHE's and those of the International Patient Summary."""
    packages = sorted(PACKAGES.glob("*/package/example"))
    judged = 0
    for path in filter(is_resource, files(HL7, IPS, *packages)):
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        resource = json.loads(data)
        assert validate(fhir_json.read(data)) == [], path.name
        assert npm(resource=resource) == [], path.name
        assert by_resources(resource) == "", path.name
        judged += 1
    assert judged > 300


def test_pyfhircheck_finds_nothing_else() -> None:
    validator = Validator()
    for path in files(HL7):
        report = validator.validate_resource(json.loads(path.read_bytes()))
        found = {i.code for i in report.issues if str(i.severity).lower().endswith(("error", "fatal"))}
        assert found <= PYFHIRCHECK_ALONE.keys(), path.name


def containers(value: Any, kind: str) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Every element: the object that holds it, the type of that object, its key."""
    for key, content in value.items():
        element = elements(kind).get(key)
        if element is None:
            continue
        yield value, kind, key
        for item in content if element.many else [content]:
            if isinstance(item, dict):
                yield from containers(item, item["resourceType"] if element.kind == RESOURCE else element.kind)


def damage(resource: dict[str, Any], chance: random.Random) -> str:
    """Does something to one element."""
    owner, kind, key = chance.choice(list(containers(resource, resource["resourceType"])))
    how = chance.choice(["remove", "replace", "repeat", "add", "alter"])
    if how == "remove":
        del owner[key]
    elif how == "replace":
        owner[key] = chance.choice([1, True, {}, [], "x y", "", {"a": 1}, ["x"], [1], None, -1, 1.5])
    elif how == "repeat":
        owner[key] = [owner[key]] * 2
    elif how == "add":
        owner["zzz"] = "x"
    elif isinstance(owner[key], str):
        owner[key] += chance.choice([" x", "x", "9"])
    return f"{how} {kind}.{key}"


def test_what_they_refuse_we_refuse(npm: NpmProcess) -> None:
    chance = random.Random(SEED)
    small = [p for p in files(HL7) if p.stat().st_size < 20_000]
    agreed = 0
    for _ in range(DAMAGES):
        path = chance.choice(small)
        resource = json.loads(path.read_bytes())
        done = f"{path.stem}: {damage(resource, chance)}"
        ours: list[Fault] = validate(resource)
        theirs = {"medplum": str(npm(resource=resource) or ""), "resources": by_resources(resource)}
        if not ours:
            assert theirs == {"medplum": "", "resources": ""}, done
        for name, said in theirs.items():
            alone = any(name in NOT_LOOKED_AT.get(fault.rule, {}) for fault in ours)
            assert not ours or said or alone, (done, name, ours[0])
            agreed += bool(said) is bool(ours)
    assert agreed > DAMAGES  # of twice as many verdicts
