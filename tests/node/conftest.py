"""Real nodes as processes of their own, and a peer to talk to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import mhd_bundles
import peer
import pytest
from lxml import etree

from obieg.domain.affinity_domain import polish_document
from obieg.ops import settings as node_settings

START_TIME_S = 60
STOP_TIME_S = 60
_LOGS: list[Path] = []


@contextmanager
def running(folder: Path, *arguments: str | Path, module: str = "obieg") -> Iterator[dict[str, str]]:
    """``obieg ARGUMENTS`` until the end of the block; its ready file. ``module`` of this folder may run in its place."""
    ready, log = folder / "ready.json", folder / "node.log"
    _LOGS.append(log)
    with log.open("wb") as output:
        command = [sys.executable, "-m", module, *map(str, arguments), "--ready-file", str(ready)]
        environment = peer.free_environment()
        if module != "obieg":
            found = [str(Path(__file__).parent), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, found))
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, env=environment
        )
    try:
        peer.wait_for(lambda: ready.exists() or process.poll() is not None, START_TIME_S)
        assert process.poll() is None, log.read_text()
        yield json.loads(ready.read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_TIME_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert status == 0, log.read_text()[-4000:]
    assert "Traceback" not in log.read_text(), log.read_text()[-8000:]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """What the nodes said last stands beside a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for log in _LOGS:
            if log.exists():
                report.sections.append((f"log of {log.parent.name}", log.read_text("utf-8", "replace")[-4000:]))


@pytest.fixture(scope="session")
def _validate() -> Iterator[None]:
    """Every answer that a test gets is checked against the official schemas, where they are."""
    if not peer.XSD_FOLDER.is_dir():
        yield
        return
    schema = peer.xds_schema()

    def validate(body: Any) -> None:
        if body.tag != f"{{{peer.SOAP}}}Fault":
            assert schema.validate(body), (schema.error_log.last_error, etree.tostring(body)[:3000])

    peer.VALIDATE.append(validate)
    yield
    peer.VALIDATE.remove(validate)


def codes_of(path: Path | None) -> peer.Codes:
    """The codes of a file, or the Polish ones."""
    return peer.Codes(polish_document() if path is None else json.loads(path.read_text()))


@pytest.fixture(scope="session")
def lab_codes() -> Path | None:
    """The test suite's affinity domain where it is there, else the Polish one."""
    return peer.KIT_CODES if peer.KIT_CODES.exists() else None


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, lab_codes: Path | None, _validate: None) -> Iterator[dict[str, str]]:
    """The ready file of ``obieg lab``, one for all tests."""
    folder = tmp_path_factory.mktemp("lab")
    codes = ("--codes", lab_codes) if lab_codes else ()
    with running(folder, "lab", *codes, "--data", folder / "data") as endpoints:
        yield endpoints


@pytest.fixture(scope="session")
def node(lab: dict[str, str], lab_codes: Path | None) -> Iterator[peer.Node]:
    """A peer of the laboratory node."""
    found = peer.Node(lab, codes_of(lab_codes))
    yield found
    found.close()


@pytest.fixture(scope="session")
def polish_node(tmp_path_factory: pytest.TempPathFactory, _validate: None) -> Iterator[peer.Node]:
    """A laboratory node with the Polish affinity domain."""
    folder = tmp_path_factory.mktemp("polish-lab")
    with running(folder, "lab", "--data", folder / "data") as endpoints:
        found = peer.Node(endpoints, codes_of(None))
        yield found
        found.close()


@pytest.fixture(scope="module")
def make_node(
    tmp_path_factory: pytest.TempPathFactory, lab_codes: Path | None, _validate: None
) -> Iterator[peer.MakeNode]:
    """Starts nodes from a settings file of their own; they stop with the module."""
    with ExitStack() as stack:

        def make(name: str, *, module: str = "obieg", **tables: Any) -> peer.Node:
            folder = tmp_path_factory.mktemp(name)
            affinity = {**({"codes": lab_codes} if lab_codes else {}), **tables.pop("affinity_domain", {})}
            text = node_settings.write_commented(
                "region",
                lab=tables.pop("lab", True),
                name=name,
                data_dir=".",
                http={"host": "127.0.0.1", "port": 0},
                mllp={"host": "127.0.0.1", "port": 0, **tables.pop("mllp", {})},
                identity={
                    "home_community_id": node_settings.new_oid(),
                    "repository_unique_id": node_settings.new_oid(),
                    "assigning_authority": node_settings.new_oid(),
                    **tables.pop("identity", {}),
                },
                affinity_domain=affinity,
                **{"workers": 1, **tables},
            )
            data = folder / "data"
            data.mkdir()
            (data / "settings.toml").write_text(text)
            endpoints = stack.enter_context(
                running(folder, "serve", "--settings", data / "settings.toml", module=module)
            )
            found = peer.Node(endpoints, codes_of(lab_codes))
            stack.callback(found.close)
            return found

        yield make


@pytest.fixture(scope="module")
def mhd_node(make_node: peer.MakeNode, tmp_path_factory: pytest.TempPathFactory) -> peer.Node:
    """A node that knows the codes of IHE's examples of MHD."""
    codes = mhd_bundles.write_codes(tmp_path_factory.mktemp("codes"))
    return make_node("mhd", affinity_domain={"codes": codes})
