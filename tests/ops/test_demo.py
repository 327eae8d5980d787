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
from obieg.ops.asking import connected, loaded
from obieg.ops.demo_studies import studies
from obieg.ops.people import age
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
        while not ready.exists() and process.poll() is None and time.monotonic() < began + 240:
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


def registered(folder):
    """All that the region knows, whoever may see it: uniqueId -> repositoryUniqueId."""
    with connected(loaded(folder / "demo.json", None), "test") as connection:
        return dict(connection.execute("SELECT unique_id, repository_unique_id FROM document_entry").fetchall())


def shown(folder, patient):
    """The uniqueIds that the patient sees."""
    asked = ("--patient", patient, "--as", patient, "--status", "all", "--json", "--node", folder / "demo.json")
    done = obieg("find", *asked, cwd=folder)
    assert done.returncode == 0, done.stderr
    return {entry["unique_id"]: entry for entry in json.loads(done.stdout)}


def test_demo(tmp_path):
    made = list(demo_documents(people(PATIENTS, SEED), DOCUMENTS, SEED))
    with demo(tmp_path) as (_, endpoints, _):
        assert endpoints.keys() >= KEYS
        assert set(endpoints["nodes"]) == {"szpital-a", "szpital-b"}
        for node in endpoints["nodes"].values():
            assert node.keys() >= KEYS
            assert node["registry"] == endpoints["registry"], "a hospital's registry is the region's"
            assert node["mllp"] == endpoints["mllp"]
        expected = {d.unique_id: d for d in made}
        where = registered(tmp_path)
        drawn = studies(people(PATIENTS, SEED), made, SEED)
        assert where.keys() >= expected.keys()
        assert len(where) == len(expected) + len(drawn), "and a manifest of each study"
        assert {where[m] for m in where.keys() - expected.keys()} <= {endpoints["repository_uid"]}
        for unique_id, document in expected.items():
            node = endpoints["nodes"].get(document.facility.key, endpoints)
            assert where[unique_id] == node["repository_uid"], "each lies where it was made; the clinics' in the region"
        # One of each repository, fetched through the region's ready file.
        grown = [d for d in made if d.person.pesel and 16 <= age(d.person) < 75]
        assert {where[d.unique_id] for d in grown} == {*where.values()}
        for unique_id, whose in {where[d.unique_id]: (d.unique_id, d.person.pesel) for d in grown}.values():
            got = obieg("get", unique_id, "-o", "-", "--as", whose, "--node", tmp_path / "demo.json", cwd=tmp_path)
            assert got.returncode == 0, got.stderr
            assert got.stdout == expected[unique_id].data
        # A hospital's own ready file is enough to hand something in there.
        (tmp_path / "new.txt").write_text("Notatka demonstracyjna")
        own = tmp_path / "data" / "szpital-a" / "ready.json"
        pesel = grown[0].person.pesel
        options = ("--patient-id", pesel, "--type", "11502-2", "--title", "Notatka")
        done = obieg("submit", "new.txt", *options, "--node", own, cwd=tmp_path)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert not processes_below(tmp_path), "nothing is left running"

    with demo(tmp_path) as (process, again, seconds):
        assert again["repository_uid"] == endpoints["repository_uid"]
        assert again["registry"] == endpoints["registry"], "the ports stay"
        found = shown(tmp_path, pesel)
        assert "Notatka" in {entry["title"] for entry in found.values()}
        theirs = [each for each in (*made, *drawn) if each.person.pesel == pesel]
        assert len(found) == len(theirs) + 1
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
        persons = people(PATIENTS, SEED)
        made = [*demo_documents(persons, DOCUMENTS, SEED)]
        found = registered(folder).keys()
        assert {d.unique_id for d in made} <= found
        assert len(found) == len(made) + len(studies(persons, made, SEED)), "each study has one manifest"
