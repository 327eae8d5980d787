"""``obieg xdm`` against a real laboratory: documents leave on a medium and come back from it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_documents_cli import EWA, commands, found, in_one_line, running_lab

from obieg.ops.demo_files import pdf

pytestmark = [pytest.mark.node, pytest.mark.slow]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with running_lab(tmp_path_factory.mktemp("xdm-lab")) as ready:
        yield ready


@pytest.fixture
def other_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with running_lab(tmp_path_factory.mktemp("xdm-other-lab")) as ready:
        yield ready


@pytest.fixture
def obieg(lab: Path, tmp_path: Path) -> Any:
    return commands(lab, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Described files of two people; one of them is larger than a piece."""
    folder = tmp_path / "documents"
    folder.mkdir()
    bodies = {
        "wynik.pdf": (pdf("Morfologia"), EWA, "11502-2"),
        "notatka.txt": ("Zażółć gęślą jaźń\n".encode() * 100_000, EWA, "11502-2"),
        "inny.pdf": (pdf("Inny pacjent"), "02070803628", "11502-2"),
    }
    for name, (body, pesel, type_) in bodies.items():
        (folder / name).write_bytes(body)
        said = {"patient_id": pesel, "type": type_, "author": "Jan Kowalski", "date": "2026-03-01"}
        (folder / f"{name}.json").write_text(json.dumps(said | {"patient": {"names": [{"family": "Nowak"}]}}))
    return folder


def test_documents_travel_from_files_to_a_node_and_on_to_another(
    obieg: Any, other_lab: Path, folder: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first.zip"
    done = obieg("xdm", "pack", first, folder, "--institution", "Szpital w Łęcznej, 81 000 00 00")
    assert done.returncode == 0, done.stderr
    assert "3 documents in 2 submission sets" in in_one_line(done.stdout)
    listed = obieg("xdm", "unpack", first)
    assert listed.returncode == 0, listed.stderr
    assert "note:" not in listed.stdout.decode()

    handed_in = obieg("xdm", "unpack", first, "--submit")
    assert handed_in.returncode == 0, handed_in.stdout.decode() + handed_in.stderr
    before = {e["unique_id"]: e for e in found(obieg, EWA)}
    assert {e["sha1"] for e in before.values()} == {
        hashlib.sha1((folder / n).read_bytes()).hexdigest() for n in ("wynik.pdf", "notatka.txt")
    }
    again = obieg("xdm", "unpack", first, "--submit")
    assert again.returncode == 0
    assert in_one_line(again.stdout).count("registered already") == 2
    assert len(found(obieg, EWA)) == 2

    second = tmp_path / "second.zip"
    done = obieg("xdm", "pack", second, "--patient", EWA)
    assert done.returncode == 0, done.stderr
    there = commands(other_lab, tmp_path)
    done = there("xdm", "unpack", second, "--submit", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stdout.decode() + done.stderr
    after = {e["unique_id"]: e for e in found(there, EWA)}
    for name in ("sha1", "size", "title", "type", "class", "creation_time", "authors", "mime_type"):
        assert {u: e[name] for u, e in after.items()} == {u: e[name] for u, e in before.items()}
    assert {e["repository_unique_id"] for e in after.values()} != {e["repository_unique_id"] for e in before.values()}
    for unique_id, known in after.items():
        assert there("get", unique_id, "-o", tmp_path / unique_id).returncode == 0
        assert hashlib.sha1((tmp_path / unique_id).read_bytes()).hexdigest() == known["sha1"]
    written = {hashlib.sha1(p.read_bytes()).hexdigest() for p in (tmp_path / "out").rglob("DOC*")}
    assert written == {e["sha1"] for e in before.values()}

    # What was written out are the medium's own metadata; the id in them names the patient at home, too.
    home_id = next(iter(before.values()))["patient_id"]
    [sset] = (tmp_path / "out").rglob("METADATA.XML")
    assert home_id in sset.read_text("utf-8").replace("&amp;", "&")
    assert len(found(obieg, home_id)) == 2

    one = next(iter(before.values()))
    done = obieg("xdm", "pack", tmp_path / "one.zip", "--document", one["entry_uuid"])
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        [name] = [n for n in archive.namelist() if "/DOC" in n]
        assert hashlib.sha1(archive.read(name)).hexdigest() == one["sha1"]


def test_nothing_is_written_of_a_medium_that_is_not_what_it_says(obieg: Any, folder: Path, tmp_path: Path) -> None:
    medium = tmp_path / "medium.zip"
    assert obieg("xdm", "pack", medium, folder).returncode == 0
    with zipfile.ZipFile(medium) as archive:
        archive.extractall(tmp_path / "edited")
    [changed] = (tmp_path / "edited").rglob("DOC*.TXT")
    changed.write_bytes(changed.read_bytes().replace(b"g", b"G", 1))
    subprocess.run(["zip", "-qr", "../changed.zip", "."], cwd=tmp_path / "edited", check=True)
    before = found(obieg, EWA) if obieg("find", "--patient", EWA).returncode == 0 else []
    done = obieg("xdm", "unpack", tmp_path / "changed.zip", "--submit", "--output", tmp_path / "out")
    assert done.returncode == 1
    assert "has hash" in in_one_line(done.stderr)
    assert "refused as a whole" in in_one_line(done.stderr)
    assert not (tmp_path / "out").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert (found(obieg, EWA) if before else []) == before


def test_a_hostile_archive_is_not_opened(obieg: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("IHE_XDM/SUBSET01/../../../evil", b"x")
    done = obieg("xdm", "unpack", tmp_path / "evil.zip", "--output", tmp_path / "out")
    assert done.returncode == 1
    assert "leads out of its folder" in in_one_line(done.stderr)
    assert not (tmp_path / "out").exists()
    (tmp_path / "none.zip").write_bytes(b"this is no archive")
    done = obieg("xdm", "unpack", tmp_path / "none.zip")
    assert done.returncode == 1
    assert "not a ZIP archive" in in_one_line(done.stderr)


def test_files_that_nobody_describes_are_not_packed(obieg: Any, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("x")
    done = obieg("xdm", "pack", tmp_path / "m.zip", tmp_path / "plain.txt")
    assert done.returncode == 1
    assert "does not describe itself" in in_one_line(done.stderr)
    assert not (tmp_path / "m.zip").exists()
