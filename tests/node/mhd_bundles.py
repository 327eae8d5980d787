"""Provide Document Bundles: IHE's examples made ready to be sent, and small ones of our own."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import peer
from fhir_peer import EXAMPLES

from obieg.domain.affinity_domain import polish as fhir_domain
from obieg.domain.affinity_domain import polish_document
from obieg.domain.documents import Code
from obieg.mapping import fhir_codes

MHD = EXAMPLES / "ihe.iti.mhd-4.2.3" / "package"
MINIMAL, COMPREHENSIVE = (
    f"https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.{name}.ProvideBundle"
    for name in ("Minimal", "Comprehensive")
)
NAMES = tuple(
    sorted(
        path.name
        for path in (MHD / "example").glob("Bundle-*rovide*.json")
        if json.loads(path.read_text())["type"] == "transaction"
    )
    if MHD.is_dir()
    else ()
)
RFC_3986 = "urn:ietf:rfc:3986"
EXTENSION = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/ihe-"
LIST_TYPES = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes"
SNOMED, LOINC = "http://snomed.info/sct", "http://loinc.org"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
FORMATS = "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode"
# What IHE's examples use, by attribute of the affinity domain: (code, system).
_USED = {
    "classCode": [("11369-6", LOINC)],
    "typeCode": [("60591-5", LOINC), ("28655-9", LOINC)],
    "formatCode": [("urn:ihe:iti:xds-sd:text:2008", FORMATS), ("urn:ihe:iti:xds:2017:mimeTypeSufficient", FORMATS)],
    "healthcareFacilityTypeCode": [("82242000", SNOMED)],
    "practiceSettingCode": [("408467006", SNOMED)],
    "eventCodeList": [("PATDOC", "http://terminology.hl7.org/CodeSystem/v3-ActCode")],
    "confidentialityCode": [("N", CONFIDENTIALITY), ("R", CONFIDENTIALITY)],
    "contentTypeCode": [("225728007", SNOMED)],
    "folderCodeList": [("225728007", SNOMED), ("284548004", SNOMED)],
}
_SCHEMES = {
    LOINC: "2.16.840.1.113883.6.1", SNOMED: "2.16.840.1.113883.6.96", CONFIDENTIALITY: "2.16.840.1.113883.5.25",
    FORMATS: "1.3.6.1.4.1.19376.1.2.3", "http://terminology.hl7.org/CodeSystem/v3-ActCode": "2.16.840.1.113883.5.4",
}  # fmt: skip


PL_SCHEMES = {
    name: rows["codes"][0]["codingScheme"] for name, rows in polish_document().items()
    if isinstance(rows, dict) and rows["codes"]
}  # fmt: skip


def write_codes(folder: Path) -> Path:
    """An affinity domain that uses the codes of IHE's examples."""
    domain: dict[str, Any] = {
        "mimeType": ["text/plain", "text/xml", "application/pdf", "application/fhir+json", "application/fhir+xml"]
    }
    for attribute, codes in _USED.items():
        rows = [{"code": c, "codingScheme": _SCHEMES[s], "display": c, "system": s} for c, s in codes]
        domain[attribute] = {"codes": rows}
    path = folder / "codes.json"
    path.write_text(json.dumps(domain))
    return path


def example(name: str) -> dict[str, Any]:
    bundle: dict[str, Any] = json.loads((MHD / "example" / name).read_text("utf-8-sig"))
    return bundle


def ready(name: str, patient: str, authority: str, document: str) -> dict[str, Any]:
    """An example with this patient, identifiers that nobody else has, and ``document`` for what it refers to.

    Its faults are mended: one size that is not that of its Binary, and one uniqueId for two documents.
    """
    bundle = example(name)
    subject = {"reference": f"Patient/{patient}"}
    identifier = [{"system": f"urn:oid:{authority}", "value": patient}]
    for entry in bundle["entry"]:
        resource = entry["resource"]
        if "subject" in resource and resource["subject"]["reference"].partition(":")[0] != "urn":
            resource["subject"] = subject
        for inner in [resource, *resource.get("contained", [])]:
            if inner["resourceType"] == "Patient" and "identifier" not in inner:
                inner["identifier"] = identifier
        if "masterIdentifier" in resource:
            resource["masterIdentifier"]["value"] = f"urn:oid:{peer.oid()}"
        for found in (
            resource.get("identifier", []) if resource["resourceType"] in ("List", "DocumentReference") else []
        ):
            official = found.get("use") == "official"
            found["value"] = f"urn:uuid:{uuid.uuid4()}" if official else f"urn:oid:{peer.oid()}"
        if "Patient/" in (info := resource.get("context", {}).get("sourcePatientInfo", {})).get("reference", ""):
            info["reference"] = subject["reference"]
        for related in resource.get("relatesTo", []):
            related["target"] = {"reference": f"DocumentReference/{document}"}
        for item in resource.get("entry", []) if resource["resourceType"] == "List" else []:
            if item["item"]["reference"].startswith("DocumentReference/"):
                item["item"] = {"reference": f"DocumentReference/{document}"}
        if entry["request"]["method"] == "PATCH":
            entry["request"]["url"] = f"DocumentReference/{document}"
        if resource["resourceType"] == "DocumentReference" and resource["content"][0]["attachment"].get("size") == 24:
            resource["content"][0]["attachment"]["size"] = 23
    return bundle


# our own ---------------------------------------------------------------------------------------------------------


def concept(code: str, system: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def document_reference(patient: str, data: bytes = b"tresc", **more: Any) -> dict[str, Any]:
    """Comprehensive metadata, without the address of the document."""
    attachment = {
        "contentType": "text/plain", "language": "pl-PL", "size": len(data), "title": "Karta",
        "hash": base64.b64encode(hashlib.sha1(data).digest()).decode(), "creation": "2026-03-01T10:00:00+01:00",
    }  # fmt: skip
    return {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"use": "usual", "system": RFC_3986, "value": f"urn:oid:{peer.oid()}"},
        "status": "current",
        "type": concept("60591-5", LOINC),
        "category": [concept("11369-6", LOINC)],
        "subject": {"reference": f"Patient/{patient}"},
        "securityLabel": [concept("N", CONFIDENTIALITY)],
        "content": [{"attachment": attachment, "format": {"system": FORMATS, "code": "urn:ihe:iti:xds-sd:text:2008"}}],
        "context": {
            "facilityType": concept("82242000", SNOMED),
            "practiceSetting": concept("408467006", SNOMED),
            "sourcePatientInfo": {"identifier": {"system": "urn:oid:1.2.616.7", "value": "H1"}},
        },
        **more,
    }


def listed(kind: str, patient: str, *members: str, codes: tuple[str, ...] = ("225728007",), **more: Any) -> Any:
    """A submissionset or folder of these members."""
    extensions = [{"url": f"{EXTENSION}designationType", "valueCodeableConcept": concept(c, SNOMED)} for c in codes]
    if kind == "submissionset":
        extensions.append({"url": f"{EXTENSION}sourceId", "valueIdentifier": {"value": "urn:oid:1.2.616.7.1"}})
    return {
        "resourceType": "List",
        "extension": extensions,
        "identifier": [{"use": "usual", "system": RFC_3986, "value": f"urn:oid:{peer.oid()}"}],
        "status": "current",
        "mode": "working",
        "code": concept(kind, LIST_TYPES),
        "title": "Teczka",
        "subject": {"reference": f"Patient/{patient}"},
        "date": "2026-03-01T10:00:00Z",
        "entry": [{"item": {"reference": m}} for m in members],
        **more,
    }


def item(
    resource: dict[str, Any], full_url: str, method: str = "POST", url: str = "", **request: Any
) -> dict[str, Any]:
    return {
        "fullUrl": full_url,
        "resource": resource,
        "request": {"method": method, "url": url or resource["resourceType"], **request},
    }


SET, DOCUMENT, BINARY, FOLDER = (f"urn:uuid:0000000{n}-0000-4000-8000-000000000000" for n in range(1, 5))


def bundle(patient: str, data: bytes = b"tresc", *, profile: str = COMPREHENSIVE, **more: Any) -> dict[str, Any]:
    """One document; ``more`` goes into its DocumentReference."""
    described = document_reference(patient, data, **more)
    described["content"][0]["attachment"]["url"] = BINARY
    binary = {"resourceType": "Binary", "contentType": "text/plain", "data": base64.b64encode(data).decode()}
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [profile]},
        "type": "transaction",
        "entry": [
            item(listed("submissionset", patient, DOCUMENT), SET),
            item(described, DOCUMENT),
            item(binary, BINARY),
        ],
    }


def polish(bundle: dict[str, Any]) -> dict[str, Any]:
    """The bundle with codes of the Polish affinity domain."""

    def one(attribute: str, name: str, code: str) -> dict[str, Any]:
        return fhir_codes.concept(Code(code, PL_SCHEMES[attribute]), name, fhir_domain())

    for entry in bundle["entry"]:
        resource = entry["resource"]
        for extension in resource.get("extension", ()) if resource["resourceType"] == "List" else ():
            if "valueCodeableConcept" in extension:
                folder = resource["code"]["coding"][0]["code"] == "folder"
                kind = ("folderCodeList", "code_list", "00.20") if folder else ("contentTypeCode", "content_type_code", "REGISTER")  # fmt: skip
                extension["valueCodeableConcept"] = one(*kind)
        if resource["resourceType"] == "List":  # a folder has several codes, here the same
            resource["extension"] = [
                e for n, e in enumerate(resource["extension"]) if e not in resource["extension"][:n]
            ]
        if resource["resourceType"] == "DocumentReference":
            resource["type"] = one("typeCode", "type_code", "57833-6")
            resource["category"] = [one("classCode", "class_code", "00.20")]
            resource["context"]["facilityType"] = one(
                "healthcareFacilityTypeCode", "healthcare_facility_type_code", "0010"
            )
            resource["context"]["practiceSetting"] = one("practiceSettingCode", "practice_setting_code", "05")
            resource["content"][0]["format"]["code"] = "urn:ihe:iti:xds:2017:mimeTypeSufficient"
    return bundle


def changed(bundle: dict[str, Any]) -> dict[str, Any]:
    """A copy."""
    return copy.deepcopy(bundle)


def response_of(name: str) -> Path:
    """IHE's answer to an example, where there is one; the last of their names is cut short."""
    stem = name.removeprefix("Bundle-ex-").removesuffix(".json")
    folder = MHD / "example"
    cut = folder / f"Bundle-ex-response-{stem.removesuffix('lete')}t.json"
    return cut if cut.exists() else folder / f"Bundle-ex-response-{stem}.json"
