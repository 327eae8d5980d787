"""oru2xds, a Document Source that nobody here wrote: it is fed by ``mllp_send`` and sends ITI-41 to the laboratory.

It is GPL: it is installed for this test only, outside the project, and runs as a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import peer
import pytest
from lxml import etree
from peer import MakeNode, Node, identifier_of

pytestmark = [pytest.mark.node, pytest.mark.slow]

VERSION = "2.0.25"
# Its own pins are years old; these are what it imports beside lxml and requests.
NEEDS = ("hl7==0.4.5", "striprtf==0.0.35", "aiorun==2025.1.1", "sympy==1.14.0", "mpmath", "requests-toolbelt==1.0.0")
INSTALL_TIME_S = 120
# The codes that stand in its source.
CODES = {
    "mimeType": ["text/xml"],
    "classCode": {"codes": [{"code": "REPORTS", "codingScheme": "1.3.6.1.4.1.19376.1.2.6.1"}]},
    "typeCode": {"codes": [{"code": "18748-4", "codingScheme": "2.16.840.1.113883.6.1"}]},
    "formatCode": {
        "codes": [{"code": "urn:ihe:iti:xds:2017:mimeTypeSufficient", "codingScheme": "1.3.6.1.4.1.19376.1.2.3"}]
    },
    "confidentialityCode": {"codes": [{"code": "N", "codingScheme": "2.16.840.1.113883.5.25"}]},
    "healthcareFacilityTypeCode": {"codes": [{"code": "22232009", "codingScheme": "2.16.840.1.113883.6.96"}]},
    "practiceSettingCode": {"codes": [{"code": "R-3027B", "codingScheme": "2.16.840.1.113883.6.96"}]},
    "contentTypeCode": {"codes": [{"code": "UNSPECIFIED-CONTENT-TYPE", "codingScheme": "1.3.6.1.4.1.21367.2017.3"}]},
}


@pytest.fixture(scope="module")
def installed() -> Path:
    """Folder with the program and what it needs; kept between runs."""
    folder = Path(tempfile.gettempdir()) / f"obieg-peers-{os.getuid()}" / f"oru2xds-{VERSION}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        try:
            subprocess.run(
                [*command, f"oru2xds=={VERSION}", *NEEDS],
                check=True, capture_output=True, text=True, timeout=INSTALL_TIME_S,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"oru2xds cannot be installed here: {getattr(error, 'stderr', None) or error}"[-300:])
        (folder / "complete").touch()
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def region(make_node: MakeNode, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A laboratory whose affinity domain is that of the program."""
    path = tmp_path_factory.mktemp("codes") / "codes.json"
    path.write_text(json.dumps(CODES))
    return make_node("oru2xds-region", affinity_domain={"codes": path})


class Source:
    """A running oru2xds."""

    def __init__(self, folder: Path, installed: Path, node: Node) -> None:
        self.port = free_port()
        program = folder / "oru2xds"
        shutil.copytree(installed / "oru2xds", program)
        config = program / "config.py"
        text = config.read_text("utf-8")
        for name, value in (
            ("SERVICE_URL", node.endpoints["repository"]),
            ("AFFINITY_DOMAIN_ASSIGNING_AUTHORITY_OID", node.endpoints["assigning_authority"]),
        ):
            text = re.sub(rf'(?m)^{name} = ".*"$', f'{name} = "{value}"', text)
        config.write_text(text.replace("HL7_LISTENER_PORT = 2575", f"HL7_LISTENER_PORT = {self.port}"), "utf-8")
        self.environment = {**os.environ, "PYTHONPATH": str(installed)}
        self.log = folder / "log"
        self._output = self.log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "oru2xds.py"], cwd=program, env=self.environment, stdout=self._output, stderr=self._output
        )
        self.sample = (program / "examples" / "sample3-ORU-R01.hl7").read_text("utf-8")

    def wait(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def send(self, message: Path) -> str:
        """What ``mllp_send`` prints: the acknowledgement."""
        command = ["mllp_send", "--port", str(self.port), "--file", str(message), "--loose", "127.0.0.1"]
        command[0] = str(Path(sys.executable).parent / "mllp_send")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=self.environment)
        return done.stdout + done.stderr

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._output.close()


@pytest.fixture(scope="module")
def source(installed: Path, region: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    running = Source(tmp_path_factory.mktemp("oru2xds"), installed, region)
    try:
        running.wait()
        yield running
    finally:
        running.close()


def message(source: Source, patient: str, folder: Path) -> Path:
    """Its own sample for ``patient``, with identifiers of its own."""
    unique = peer.number()
    text = source.sample.replace("\r\n", "\r").replace("\n", "\r")
    text = text.replace("Unique-Report-id-2", unique).replace("R2020011751", unique)
    text = re.sub(r"PID\|\|\|[^|]*", f"PID|||{patient}", text)
    path = folder / f"{unique}.hl7"
    path.write_bytes(text.encode())
    return path


def test_a_report_becomes_a_document(source: Source, region: Node, tmp_path: Path) -> None:
    patient = region.patient()
    acknowledgement = source.send(message(source, patient, tmp_path))
    assert "MSA|AA" in acknowledgement, acknowledgement + source.log.read_text()[-3000:]
    [entry] = region.found(patient).entries
    unique_id = identifier_of(entry, "entryUnique")
    [content] = region.retrieve(unique_id).documents.values()
    root = etree.fromstring(content)
    assert etree.QName(root).localname == "ClinicalDocument"
    assert "liver" in etree.tostring(root, method="text", encoding="unicode")


def test_a_report_about_an_unknown_patient_is_refused(source: Source, region: Node, tmp_path: Path) -> None:
    """The refusal reaches the sender of the HL7 message."""
    patient = f"nobody^^^&{region.endpoints['assigning_authority']}&ISO"
    before = region.stored()
    acknowledgement = source.send(message(source, patient, tmp_path))
    assert "MSA|AA" not in acknowledgement
    assert region.stored() == before
