"""The npm package ``soap``, an MTOM client that nobody here wrote, as source (ITI-41) and consumer (ITI-43).

It is installed outside the project, for this test only.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peer
import pytest
from peer import ACTIONS, XSD_FOLDER, Node

pytestmark = [pytest.mark.node, pytest.mark.slow]

VERSION = "1.13.0"
SCRIPT = Path(__file__).with_name("npm_soap.mjs")
INSTALL_TIME_S = 120
Call = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def call() -> Call:
    """Sends one request; what the client makes of the answer."""
    node_js, npm = shutil.which("node"), shutil.which("npm")
    if node_js is None or npm is None:
        pytest.skip("node and npm are not installed")
    folder = Path(tempfile.gettempdir()) / f"obieg-peers-{os.getuid()}" / f"npm-soap-{VERSION}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", f"soap@{VERSION}"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_TIME_S)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"npm cannot install soap here: {getattr(error, 'stderr', None) or error}"[-300:])
        (folder / "complete").touch()

    def send(**task: Any) -> dict[str, Any]:
        done = subprocess.run(
            [node_js, str(SCRIPT), str(folder)],
            input=json.dumps({"attachments": [], **task}), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return send


def wsdls(node: Node, key: str, official: str) -> list[str]:
    """Our own WSDL, and the official one where it is there."""
    found = [f"{node.endpoints[key]}?wsdl"]
    if XSD_FOLDER.is_dir():
        found.append(str(XSD_FOLDER / official))
    return found


def status(answer: Any) -> str:
    """The status attribute, wherever the client has put it."""
    if isinstance(answer, dict):
        own = answer.get("attributes", {}).get("status", "")
        return own.rpartition(":")[2] or next((s for v in answer.values() if (s := status(v))), "")
    return ""


def test_provide_and_retrieve(node: Node, call: Call) -> None:
    contents = [bytes(range(256)) * 500, "zażółć\r\n--gęślą\r\n".encode() * 10]
    for wsdl in wsdls(node, "repository", "iti41.wsdl"):
        patient = node.patient()
        entries = [node.entry(patient, content=c) for c in contents]
        submission = node.submission(patient, *entries)
        names = {e.id: f"part{i}@npm" for i, e in enumerate(entries)}
        answer = call(
            wsdl=wsdl,
            address=node.endpoints["repository"],
            action=ACTIONS["repository"],
            operation="DocumentRepository_ProvideAndRegisterDocumentSet-b",
            xml=submission.provided("".join(peer.include(e, n) for e, n in names.items())),
            attachments=[{"contentId": names[e.id], "content": base64.b64encode(e.content).decode()} for e in entries],
        )
        assert status(answer.get("result")) == "Success", answer
        assert node.found(patient).ids == {e.id for e in entries}

        for retrieve_wsdl in wsdls(node, "retrieve", "iti43.wsdl"):
            items = [(node.repository, e.unique_id) for e in entries]
            answer = call(
                wsdl=retrieve_wsdl,
                address=node.endpoints["retrieve"],
                action=ACTIONS["retrieve"],
                operation="DocumentRepository_RetrieveDocumentSet",
                xml=peer.retrieval(*items),
            )
            assert status(answer.get("result")) == "Success", answer
            assert [base64.b64decode(p["content"]) for p in answer["parts"]] == contents
            assert [p["headers"]["content-type"] for p in answer["parts"]] == ["text/plain"] * 2


def test_provide_to_a_recipient(node: Node, call: Call) -> None:
    content = bytes(range(256)) * 500
    entry = node.entry("4711^^^&1.2.3&ISO", content=content)
    submission = node.submission("4711^^^&1.2.3&ISO", entry)
    for _ in range(2):
        answer = call(
            wsdl=f"{node.endpoints['xdr']}?wsdl",
            address=node.endpoints["xdr"],
            action=ACTIONS["xdr"],
            operation="DocumentRecipient_ProvideAndRegisterDocumentSet-b",
            xml=submission.provided(peer.include(entry.id, "part0@npm")),
            attachments=[{"contentId": "part0@npm", "content": base64.b64encode(content).decode()}],
        )
        assert status(answer.get("result")) == "Success", answer
    found = node.rows("SELECT document_ids FROM inbox_submission WHERE unique_id = %s", submission.unique_id)
    assert found == [([entry.unique_id],)]


def test_refusals_are_understood(node: Node, call: Call) -> None:
    answer = call(
        wsdl=f"{node.endpoints['retrieve']}?wsdl",
        address=node.endpoints["retrieve"],
        action=ACTIONS["retrieve"],
        operation="DocumentRepository_RetrieveDocumentSet",
        xml=peer.retrieval((node.repository, "1.2.3")),
    )
    assert status(answer.get("result")) == "Failure", answer
    answer = call(
        wsdl=f"{node.endpoints['retrieve']}?wsdl",
        address=node.endpoints["retrieve"],
        action="urn:none",
        operation="DocumentRepository_RetrieveDocumentSet",
        xml=peer.retrieval((node.repository, "1.2.3")),
    )
    assert "not served" in answer["error"]
    assert answer["status"] == 400
