"""One node for all hostile messages: outside the laboratory, so that the rules of real operation hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "node"))

import peer
from field import JSON, Field, Request

from obieg.ops import settings as node_settings
from running import maker

IDLE_S, HEADER_S, REQUEST_S = 2, 2, 6


@pytest.fixture(scope="session")
def hostile_field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A region that knows its caller by address, with documents of two patients."""
    repository = node_settings.new_oid()
    codes = peer.KIT_CODES if peer.KIT_CODES.exists() else None
    with maker(tmp_path_factory, codes) as make:
        node = make(
            "hostile",
            lab=False,
            identity={"repository_unique_id": repository},
            nodes=[{"name": "tester", "address": "127.0.0.1", "repository_unique_id": repository}],
            limits={
                "message_bytes_max": 8 * 1024 * 1024,
                "document_bytes_max": 8 * 1024 * 1024,
                "idle_time_s": IDLE_S,
                "header_time_s": HEADER_S,
                "request_time_s": REQUEST_S,
            },
        )
        field = Field(node)
        field.patient, field.other = node.patient(), node.patient()
        entry = node.entry(field.patient)
        node.provided(node.submission(field.patient, entry))
        found = node.found(field.patient)
        field.document, field.entry = entry.unique_id, found.entries[0].get("id")
        folder = node.folder(field.other)
        node.registered(node.submission(field.other, node.entry(field.other), folders=[folder]))
        field.other_entry = node.found(field.other).entries[0].get("id")
        field.folder = folder.id
        bundle = json.loads(
            field.send(Request(f"/fhir/DocumentReference?patient=Patient/{field.number}", b"", JSON[1:], "GET")).body
        )
        resource = bundle["entry"][0]["resource"]
        field.reference = resource["id"]
        field.binary = resource["content"][0]["attachment"]["url"].removeprefix(field.base)
        yield field
        field.close()
