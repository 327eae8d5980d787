"""One node for all hostile messages: outside the laboratory, so that the rules of real operation hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "node"))

import peer
from field import Field, prepared

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
        field = prepared(node)
        yield field
        field.close()
