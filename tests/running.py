"""Real nodes as processes of their own, for every folder of tests that needs them."""

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

sys.path.insert(0, str(Path(__file__).resolve().parent / "node"))

import peer
import pytest

from obieg.domain.affinity_domain import polish_document
from obieg.ops import settings as node_settings

START_TIME_S = 60
STOP_TIME_S = 60


@contextmanager
def running(folder: Path, *arguments: str | Path, module: str = "obieg") -> Iterator[dict[str, str]]:
    """``obieg ARGUMENTS`` until the end of the block; its ready file. ``module`` of this folder may run in its place."""
    ready, log = folder / "ready.json", folder / "node.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", module, *map(str, arguments), "--ready-file", str(ready)]
        environment = peer.free_environment()
        if module != "obieg":
            found = [str(Path(peer.__file__).parent), environment.get("PYTHONPATH", "")]
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
    said = log.read_text("utf-8", "replace")
    assert "Traceback" not in said, said[-8000:]


def codes_of(path: Path | None) -> peer.Codes:
    """The codes of a file, or the Polish ones."""
    return peer.Codes(polish_document() if path is None else json.loads(path.read_text()))


@contextmanager
def maker(tmp_path_factory: pytest.TempPathFactory, lab_codes: Path | None) -> Iterator[peer.MakeNode]:
    """Starts nodes from a settings file of their own; they stop with the block."""
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
