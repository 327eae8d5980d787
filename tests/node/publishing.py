"""Publishing over FHIR: what tests send, and what they see of it."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import peer
from fhir_peer import JSON, FhirPeer
from mhd_bundles import BINARY, MINIMAL, bundle, document_reference
from peer import Node


def announced(fhir: FhirPeer, **more: str) -> str:
    """The logical id of somebody new; ``more`` are further identifiers by their OID."""
    number = peer.number()
    identifiers = {fhir.authority: number, **more}
    fhir.fed({
        "resourceType": "Patient", "active": True, "gender": "female", "birthDate": "1970-05-06",
        "identifier": [{"system": f"urn:oid:{oid}", "value": value} for oid, value in identifiers.items()],
        "name": [{"family": "".join(chr(ord("a") + int(c, 16)) for c in uuid.uuid4().hex)[:12].title(), "given": ["Anna"]}],
    })  # fmt: skip
    return number


def sent(fhir: FhirPeer, body: Any, path: str = "", **headers: str) -> Any:
    return fhir.ask("POST", path, json=body, headers={"Content-Type": JSON, **headers})


def taken(fhir: FhirPeer, body: Any) -> list[dict[str, Any]]:
    """The answers to a bundle that must be taken, in order."""
    response = sent(fhir, body)
    assert response.status_code == 200, response.text
    assert response.json()["type"] == "transaction-response"
    return [e["response"] for e in response.json()["entry"]]


def published(fhir: FhirPeer, patient: str, data: bytes = b"tresc", **more: Any) -> str:
    """The logical id of a document that is published."""
    return taken(fhir, bundle(patient, data, **more))[1]["location"].partition("/")[2]


def cx(fhir: FhirPeer, patient: str) -> str:
    return f"{patient}^^^&{fhir.authority}&ISO"


def uuids(node: Node, fhir: FhirPeer, patient: str, status: str = peer.APPROVED) -> set[str]:
    """What ITI-18 finds of a patient, without urn:uuid:."""
    return {e.get("id")[9:] for e in node.found(cx(fhir, patient), status).entries}


def refused(node: Node, fhir: FhirPeer, body: Any, path: str = "") -> list[tuple[str, str]]:
    """(code, expression) of the errors; nothing is stored."""
    before = node.stored()
    response = sent(fhir, body, path)
    assert 400 <= response.status_code < 500, response.text
    found = response.json()["issue"]
    assert node.stored() == before
    assert all(i["diagnostics"] for i in found)
    return [
        (i["details"]["coding"][0]["code"], (i.get("expression") or [""])[0])
        for i in found if i["severity"] == "error"
    ]  # fmt: skip


def minimal(patient: str, data: bytes = b"tresc", mime_type: str = "text/plain") -> dict[str, Any]:
    body = bundle(patient, data, profile=MINIMAL)
    described = body["entry"][1]["resource"]
    for name in ("type", "category", "securityLabel", "context"):
        del described[name]
    described["content"] = [{"attachment": {"contentType": mime_type, "url": BINARY}}]
    body["entry"][2]["resource"]["contentType"] = mime_type
    return body


def simplified(patient: str, data: bytes = b"tresc", **more: Any) -> dict[str, Any]:
    resource = document_reference(patient, data, **more)
    resource["content"][0]["attachment"]["data"] = base64.b64encode(data).decode()
    return resource


def entry_of(body: dict[str, Any]) -> dict[str, Any]:
    return body["entry"][1]["resource"]


def attachment_of(body: dict[str, Any]) -> dict[str, Any]:
    return entry_of(body)["content"][0]["attachment"]
