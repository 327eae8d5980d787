"""The script ``run``, without what it would install."""

from __future__ import annotations

import subprocess
from pathlib import Path

RUN = Path(__file__).resolve().parents[2] / "run"


def run(*arguments):
    return subprocess.run([RUN, *arguments], capture_output=True, text=True, timeout=60)


def test_it_is_a_script_that_bash_reads():
    assert subprocess.run(["bash", "-n", RUN], capture_output=True).returncode == 0


def test_help_names_every_command():
    said = run("help").stdout
    for command in ("demo", "obieg", "check", "test", "bench", "setup"):
        assert f"./run {command}" in said
    assert run().stdout == said


def test_unknown_command_is_said():
    done = run("nonsense")
    assert done.returncode == 2
    assert "there is no command nonsense" in done.stderr


def test_every_pinned_version_is_exact():
    for name in ("requirements.lock", "requirements-dev.lock"):
        lines = (RUN.parent / name).read_text().splitlines()
        assert lines[0].startswith("# "), name
        assert all("==" in line for line in lines[1:]), name
