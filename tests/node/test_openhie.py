"""The client-registry test plans of OpenHIE (OHIE-CR) against a laboratory node, read by nothing of ours.

A plan is a folder of XML steps: a message, and what its answer must hold at paths of HAPI's terser. They are sent over
MLLP in the order of their names, to a node that has seen nothing else. Three things have to be read in some way:

- Groups count from 0 (``QUERY_RESPONSE(1)`` is the second patient), and ``.PID`` is the segment wherever it stands in
  the group.
- Repetitions of a field do not count alike in all steps: 11-50 writes ``PID-3(0)`` where 11-20 writes ``PID-3(1)`` for
  the same answer. A value is right if it stands where either counting, from 0 or from 1, looks for it.
- ``ERR-1-4-2`` is the wording of one product; what is asked is that there is a text.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import hl7
import pytest
from lxml import etree

from running import running

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "ihe" / "santedb-hl7-testing-tool" / "data"
STEPS = sorted(FOLDER.glob("OHIE-CR-*.xml"))
_PATH = re.compile(
    r"(?:(?P<group>\w+)(?:\((?P<which>\d+)\))?/)?(?P<any>\.)?(?P<segment>[A-Z][A-Z0-9]{2})(?:\((?P<nth>\d+)\))?"
    r"(?:-(?P<field>\d+)(?:\((?P<repetition>\d+)\))?(?:-(?P<component>\d+))?(?:-(?P<subcomponent>\d+))?)?"
)
_WORDING = {"ERR-1-4-2"}

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(not STEPS, reason="the OpenHIE test plans (../shared) are not beside this repository"),
]


def test_how_paths_are_read() -> None:
    answer = hl7.parse(
        "MSH|^~\\&|A^1^ISO|B\rMSA|AA|1\rERR|^^^204&unknown\rQAK|T|OK\r"
        "PID|1||7^^^NS&1.2&ISO~8||A^B\rQRI|1\rPID|2||9\rQRI|0.5\r"
    )
    for path, values in {
        "MSA-1": {"AA"},
        "MSH-3": {"A"},
        "ERR-1-4-2": {"unknown"},
        "QUERY_RESPONSE/.PID-3(0)-1": {"7"},
        "QUERY_RESPONSE/.PID-3(1)-1": {"7", "8"},
        "QUERY_RESPONSE/.PID-3(1)-4-2": {"1.2", ""},
        "QUERY_RESPONSE/.PID-3-4": {"NS"},
        "QUERY_RESPONSE(1)/.PID-3-1": {"9"},
        "QUERY_RESPONSE/.PID(0)-5-2": {"B"},
        "QUERY_RESPONSE/.QRI-3": {""},
        "QUERY_RESPONSE(2)/.PID-3": {""},
        "QUERY_RESPONSE(1)/.PID": {"PID"},
        "QUERY_RESPONSE(2)/.PID": {""},
    }.items():
        assert found(answer, path) == values, path


def found(answer: hl7.Message, path: str) -> set[str]:
    """What stands at the path, by either counting of repetitions; a segment alone gives its name. "" is nothing."""
    match = _PATH.fullmatch(path)
    assert match is not None, path
    segments = [list(segment) for segment in answer]
    if match["group"]:
        # A group begins with the segment that every patient of an answer begins with.
        starts = [i for i, segment in enumerate(segments) if str(segment[0]) == "PID"] + [len(segments)]
        which = int(match["which"] or 0)
        segments = segments[starts[which] : starts[which + 1]] if which + 1 < len(starts) else []
    named = [segment for segment in segments if str(segment[0]) == match["segment"]]
    nth = int(match["nth"] or 0)
    if nth >= len(named):
        return {""}
    if not match["field"]:
        return {match["segment"]}
    number = int(match["field"])
    field = str(named[nth][number]) if number < len(named[nth]) else ""
    if (match["segment"], number) == ("MSH", 2):
        return {field}
    repetitions = field.split("~")
    wanted = {0} if match["repetition"] is None else {int(match["repetition"]), max(0, int(match["repetition"]) - 1)}
    return {
        _part(repetitions, index, int(match["component"] or 1), int(match["subcomponent"] or 1)) for index in wanted
    }


def _part(repetitions: list[str], index: int, component: int, subcomponent: int) -> str:
    if index >= len(repetitions):
        return ""
    components = repetitions[index].split("^")
    subcomponents = components[component - 1].split("&") if component <= len(components) else []
    return subcomponents[subcomponent - 1] if subcomponent <= len(subcomponents) else ""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    folder = tmp_path_factory.mktemp("openhie")
    with running(folder, "lab", "--data", folder / "data") as endpoints:
        host, _, port = endpoints["mllp"].removeprefix("mllp://").rpartition(":")
        yield host, int(port)


def send(address: tuple[str, int], message: str) -> hl7.Message:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(b"\x0b" + message.encode() + b"\x1c\r")
        data = b""
        while not data.endswith(b"\x1c\r"):
            chunk = connection.recv(65536)
            assert chunk, f"closed after {data!r}"
            data += chunk
    assert data[0] == 0x0B
    return hl7.parse(data[1:-2].decode())


@pytest.mark.parametrize("step", STEPS, ids=lambda path: path.stem.removeprefix("OHIE-CR-"))
def test_step(address: tuple[str, int], step: Path) -> None:
    plan = etree.parse(step)
    message = plan.findtext("message")
    if message is None:
        assert plan.findtext("description"), "a step without a message says how the receiver is to be prepared"
        return
    lines = [line.strip("\t ") for line in message.strip().splitlines()]
    answer = send(address, "\r".join(lines) + "\r")
    assertions = plan.findall("assertions/assert")
    assert assertions
    for assertion in assertions:
        path = assertion.get("terser")
        values = found(answer, path)
        if assertion.get("missing") == "true":
            assert values == {""}, (path, str(answer))
        elif path in _WORDING:
            assert values != {""}, (path, str(answer))
        else:
            wanted = {assertion.get("value"), *(a.get("value") for a in assertion.findall("alternate"))}
            assert values & wanted, (path, values, wanted, str(answer))
