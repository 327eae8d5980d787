"""``Patient/[id]/$search-documents``: words in the text of documents, over FHIR (ours)."""

from __future__ import annotations

from typing import Any

from obieg.domain.text_search import LENGTH_MAX, TextFound, TextMatch, TextQuestion
from obieg.mapping.emergency import named
from obieg.mapping.fhir_parameters import arguments
from obieg.protocol import FhirReply, FhirRequest


def read_request(request: FhirRequest) -> TextQuestion:
    """What is asked; raises Problem."""
    patient = named(request)
    given = arguments(request)
    return TextQuestion(patient, "".join(given["text"])[:LENGTH_MAX])


def write_found(found: TextFound, _request: FhirRequest) -> FhirReply:
    """Parameters: ``looked``, ``left``, ``more``, and ``match`` with document, section and the passage in pieces."""
    listed: list[dict[str, Any]] = [
        {"name": "looked", "valueUnsignedInt": found.looked},
        {"name": "left", "valueUnsignedInt": found.left},
        {"name": "more", "valueBoolean": found.more},
        *({"name": "match", "part": _match(match)} for match in found.matches),
    ]
    return FhirReply(body={"resourceType": "Parameters", "parameter": listed})


def _match(match: TextMatch) -> list[dict[str, Any]]:
    id_ = match.document.removeprefix("urn:uuid:")
    parts: list[dict[str, Any]] = [
        {"name": "document", "valueReference": {"reference": f"DocumentReference/{id_}"}},
    ]
    if match.passage.section:
        parts.append({"name": "section", "valueString": match.passage.section})
    return parts + [
        {"name": "hit" if piece.hit else "text", "valueString": piece.text} for piece in match.passage.pieces
    ]
