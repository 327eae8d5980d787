"""``obieg demo`` as a whole: a region and two hospitals, a small population, twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from hearing import hear
from obieg.ops.population import demo_documents, people

pytestmark = [pytest.mark.node, pytest.mark.slow]

PATIENTS, DOCUMENTS, SEED = 12, 40, 616
COMMAND = [sys.executable, "-m", "obieg", "demo", "--headless"]
COMMAND += ["--patients", str(PATIENTS), "--documents", str(DOCUMENTS), "--seed", str(SEED)]
KEYS = {
    "registry",
    "register",
    "repository",
    "retrieve",
    "mllp",
    "repository_uid",
    "home_community_id",
    "assigning_authority",
    "base_url",
}


def obieg(*arguments, cwd):
    command = [sys.executable, "-m", "obieg", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, cwd=cwd, timeout=60)


def processes_below(folder):
    """Every process that names the folder or works in it."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if str(folder) in command or str((process / "cwd").readlink()).startswith(str(folder)):
                found[int(process.name)] = command
        except OSError:
            continue
    return found


@contextmanager
def demo(folder):
    """A running demo: its process, what its ready file says, and the seconds that took."""
    ready, log = folder / "demo.json", folder / "demo.log"
    began = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*COMMAND, "--data", folder / "data", "--ready-file", ready],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=os.environ | {"COLUMNS": "80"},
        )
    try:
        while not ready.exists() and process.poll() is None and time.monotonic() < began + 120:
            time.sleep(0.1)
        assert ready.exists(), log.read_text()
        yield process, json.loads(ready.read_text()), time.monotonic() - began
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for each in (folder / "data").glob("*/node.log"):  # the demo starts its nodes itself
            hear(each)
    assert not ready.exists()


def entries(folder, patient):
    done = obieg("find", "--patient", patient, "--status", "all", "--json", "--node", folder / "demo.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_demo(tmp_path):
    made = list(demo_documents(people(PATIENTS, SEED), DOCUMENTS, SEED))
    with demo(tmp_path) as (_, endpoints, _):
        assert endpoints.keys() >= KEYS
        assert set(endpoints["nodes"]) == {"szpital-a", "szpital-b"}
        for node in endpoints["nodes"].values():
            assert node.keys() >= KEYS
            assert node["registry"] == endpoints["registry"], "a hospital's registry is the region's"
            assert node["mllp"] == endpoints["mllp"]
        stored = {}
        for person in people(PATIENTS, SEED):
            if person.pesel:
                stored |= {e["unique_id"]: e for e in entries(tmp_path, person.pesel)}
        expected = {d.unique_id: d for d in made if d.person.pesel}
        assert stored.keys() == expected.keys()
        where = {u: stored[u]["repository_unique_id"] for u in stored}
        for unique_id, document in expected.items():
            node = endpoints["nodes"].get(document.facility.key, endpoints)
            assert where[unique_id] == node["repository_uid"], "each lies where it was made; the clinics' in the region"
        # One of each repository, fetched through the region's ready file.
        for unique_id in {repository: u for u, repository in where.items()}.values():
            got = obieg("get", unique_id, "-o", "-", "--node", tmp_path / "demo.json", cwd=tmp_path)
            assert got.returncode == 0, got.stderr
            assert got.stdout == expected[unique_id].data
        # A hospital's own ready file is enough to hand something in there.
        (tmp_path / "new.txt").write_text("Notatka demonstracyjna")
        own = tmp_path / "data" / "szpital-a" / "ready.json"
        pesel = next(p.pesel for p in people(PATIENTS, SEED) if p.pesel)
        options = ("--patient-id", pesel, "--type", "11502-2", "--title", "Notatka")
        done = obieg("submit", "new.txt", *options, "--node", own, cwd=tmp_path)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert not processes_below(tmp_path), "nothing is left running"

    with demo(tmp_path) as (process, again, seconds):
        assert again["repository_uid"] == endpoints["repository_uid"]
        assert again["registry"] == endpoints["registry"], "the ports stay"
        titles = {e["title"] for e in entries(tmp_path, pesel)}
        assert "Notatka" in titles
        assert len(entries(tmp_path, pesel)) == sum(d.person.pesel == pesel for d in made) + 1
        assert seconds < 60
        second = obieg("demo", "--headless", "--data", tmp_path / "data", cwd=tmp_path)
        assert second.returncode == 3, "one demo on a folder at a time"
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert not processes_below(tmp_path)
    log = (tmp_path / "demo.log").read_text()
    assert log.count("Handed in") == 1
    assert "The population is there" in log


def test_an_interrupted_load_is_continued_and_a_killed_demo_leaves_nothing_behind(tmp_path):
    folder = tmp_path
    with (folder / "killed.log").open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, "--data", folder / "data"], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
        )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not all(
        (folder / "data" / key / "ready.json").exists() for key in ("region", "szpital-a", "szpital-b")
    ):
        time.sleep(0.02)
    time.sleep(0.3)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while processes_below(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes_below(folder), "the nodes end with the demo, however it ends"
    with demo(folder):
        made = demo_documents(people(PATIENTS, SEED), DOCUMENTS, SEED)
        expected = {d.unique_id for d in made if d.person.pesel}
        stored = {e["unique_id"] for p in people(PATIENTS, SEED) if p.pesel for e in entries(folder, p.pesel)}
        assert stored == expected
