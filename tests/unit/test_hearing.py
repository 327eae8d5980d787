"""What processes of the suite say is heard, whoever starts them and whatever becomes of the file."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from hearing import LOGS, secrets_said

PLANTED = "Bearer c2VjcmV0LW9mLWEtYmVhcmVyLXRva2Vu"
SAY = [sys.executable, "-c", "import sys; print(sys.argv[1], file=sys.stderr)"]


@pytest.mark.parametrize("planted", [PLANTED, "44051401458", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln", "password=x1"])
@pytest.mark.parametrize("how", ["run", "Popen", "asyncio"])
def test_a_secret_is_found_though_its_file_is_gone(tmp_path: Path, how: str, planted: str) -> None:
    path, before = tmp_path / "node.log", len(LOGS)
    with path.open("wb") as log:
        if how == "run":
            subprocess.run([*SAY, planted], stderr=log, check=True)
        elif how == "Popen":
            subprocess.Popen([*SAY, planted], stdout=log, stderr=log).wait()
        else:
            asyncio.run(_said(planted, log))
    path.unlink()
    try:
        assert len(LOGS) == before + 1
        [said] = secrets_said()
        assert str(path) in said
        assert planted not in said
    finally:
        LOGS.pop().file.close()
    assert secrets_said() == []


def test_what_is_masked_is_none(tmp_path: Path) -> None:
    before = len(LOGS)
    with (tmp_path / "node.log").open("wb") as log:
        subprocess.run([*SAY, "password=[masked] bearer [masked] [11 digits]"], stderr=log, check=True)
    assert len(LOGS) == before + 1
    assert secrets_said() == []


async def _said(planted: str, log: object) -> None:
    process = await asyncio.create_subprocess_exec(*SAY, planted, stderr=log)  # type: ignore[arg-type]
    await process.wait()
