"""The OpenAPI description of a running node: valid, complete, and kept to, whatever schemathesis makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fhir_peer
import httpx
import pytest
from fhir_peer import FhirPeer
from openapi_spec_validator import validate
from peer import Node

from obieg.protocol import FhirBinding
from obieg.transactions import TRANSACTIONS

pytestmark = pytest.mark.node

SEED = 20261122
FUZZ_TIME_S = 240
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture(scope="module")
def fhir(node: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(node) as found:
        yield found


@pytest.fixture(scope="module")
def document(fhir: FhirPeer) -> Any:
    answer = httpx.get(f"{fhir.base}/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


def test_it_is_openapi(document: Any, fhir: FhirPeer) -> None:
    validate(document)
    assert document["servers"] == [{"url": fhir.base}]


def test_every_interaction_of_the_transactions_is_in_it(document: Any) -> None:
    said = {word for path in document["paths"].values() for op in path.values() for word in op["summary"].split()}
    bindings = [t for t in TRANSACTIONS if isinstance(t.binding, FhirBinding)]
    without_a_source = {"OBIEG-13"}  # medical events are served where a source of them is connected
    assert {t.id for t in bindings} - without_a_source <= said
    searched = document["paths"]["/Patient"]["get"]["parameters"]
    resources = httpx.get(f"{document['servers'][0]['url']}/metadata").json()["rest"][0]["resource"]
    [patient] = [r for r in resources if r["type"] == "Patient"]
    assert {p["name"] for p in patient["searchParam"]} <= {p["name"] for p in searched}


def test_the_node_does_what_it_says(document: Any, fhir: FhirPeer, tmp_path: Path) -> None:
    """No fault of ours, no status, media type or form of an answer that is not in the description."""
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(document))
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", str(description), "--url", fhir.base, "--seed", str(SEED),
        "--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--max-time", "40", "--workers", "1",
        "--checks", CHECKS, "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=FUZZ_TIME_S)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
