"""The test plans of the NIST XDS Toolkit, driven by a client that shares no code with the node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peer import SHARED

pytestmark = [pytest.mark.node, pytest.mark.slow]

REQUIRED = ("data", "reg", "rep", "sq", "pid", "mu", "rmu", "rm", "mpq", "od", "xdr")
NISTKIT = SHARED / "nistkit"


def run(lab: dict[str, str], groups: str, folder: Path) -> dict[str, Any]:
    """Results as the runner writes them."""
    options = {
        "--registry": lab["registry"],
        "--register": lab["register"],
        "--repository": lab["repository"],
        "--retrieve": lab["retrieve"],
        "--repository-uid": lab["repository_uid"],
        "--home": lab["home_community_id"],
        "--assigning-authority": lab["assigning_authority"],
        "--mllp": lab["mllp"],
        "--group": groups,
        "--json": folder / "nist.json",
        "--junit": folder / "nist.xml",
    }
    for key in ("update", "restricted_update", "remove", "remove_documents", "register_on_demand", "xdr"):
        if key in lab:
            options[f"--{key.replace('_', '-')}"] = lab[key]
    command = [sys.executable, "-m", "nistkit", *(str(x) for pair in options.items() for x in pair)]
    done = subprocess.run(command, cwd=NISTKIT, capture_output=True, text=True, timeout=300)
    assert (folder / "nist.json").exists(), done.stdout + done.stderr
    results: dict[str, Any] = json.loads((folder / "nist.json").read_text())
    return results


@pytest.fixture(scope="module")
def results(lab: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not NISTKIT.is_dir():
        pytest.skip("the NIST test plans (../shared/nistkit) are not beside this repository")
    return run(lab, "reg,rep,sq,pid,mu,rmu,rm,mpq,od,xdr", tmp_path_factory.mktemp("nist"))


def _left_out(step: dict[str, Any]) -> bool:
    """Whether the kit itself says that this step cannot be run."""
    name = "/".join((step["test"], step["section"], step["step"]))
    return any(f"`{name[:end]}`" in _known() for end in (len(name), name.rfind("/"), name.find("/")))


def _known() -> str:
    return (NISTKIT / "kit" / "KNOWN.md").read_text("utf-8")


@pytest.mark.parametrize("group", REQUIRED)
def test_every_test_of_the_group_passes(results: dict[str, Any], group: str) -> None:
    steps = [s for s in results["steps"] if s["group"] == group]
    assert steps, f"no step of group {group} was run"
    bad = [s for s in steps if s["verdict"] != "passed" and not _left_out(s)]
    lines = [f"{s['verdict']} {s['test']}/{s['section']}/{s['step']}: {'; '.join(s['reasons'])}" for s in bad]
    assert not lines, "\n".join(lines)
    counts = results["groups"][group]
    print(f"NIST {group}: {counts['passed']} steps, {counts['tests_passed']} of {counts['tests']} tests")
