"""``obieg submit``, ``find`` and ``get`` against a real laboratory."""

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

from obieg.ops.demo_files import pdf
from obieg.ops.population import demo_documents, people
from obieg.wire import cda

pytestmark = [pytest.mark.node, pytest.mark.slow]

PESEL_ROOT = "2.16.840.1.113883.3.4424.1.1.616"
EWA = "44051401359"


def start(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "obieg", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=os.environ | {"COLUMNS": "80"},
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err.decode())


@contextmanager
def running_lab(folder):
    ready, log = folder / "ready.json", folder / "lab.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "obieg", "lab", "--data", folder / "data", "--ready-file", ready],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 90
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert ready.exists(), log.read_text()
        yield ready
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with running_lab(tmp_path_factory.mktemp("lab")) as ready:
        yield ready


@pytest.fixture
def obieg(lab, tmp_path):
    return commands(lab, tmp_path)


@pytest.fixture
def fresh_lab(tmp_path_factory):
    """One that holds nothing: populations of different seeds number their documents alike."""
    with running_lab(tmp_path_factory.mktemp("fresh-lab")) as ready:
        yield ready


def commands(lab, folder):
    def run(*arguments, node=lab):
        return finish(start(*arguments, "--node", node, cwd=folder))

    return run


def found(obieg, patient, *options):
    done = obieg("find", "--patient", patient, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_one_line(text):
    return " ".join((text.decode() if isinstance(text, bytes) else text).split())


# PIK HL7 CDA ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def samples(shared, tmp_path):
    """The official samples, each under a uniqueId and a local patient number of its own, as real systems give them."""
    folder = tmp_path / "samples"
    (folder / "deeper").mkdir(parents=True)
    official = sorted((shared / "data/p1/paczos+sim/transformata_hl7").glob("2.16*.xml"))
    assert len(official) >= 30
    for number, path in enumerate(official):
        data = path.read_bytes()
        header = cda.read_header(data)
        local, pesel = header.patient.ids[0], header.patient.ids[1].extension
        data = data.replace(f'extension="{local.extension}"'.encode(), f'extension="L{pesel}"'.encode())
        data = data.replace(
            f'root="{header.id.root}" extension="{header.id.extension}"'.encode(),
            f'root="{header.id.root}" extension="{header.id.extension}-{number}"'.encode(),
            1,
        ).replace(
            f'extension="{header.id.extension}" root="{header.id.root}"'.encode(),
            f'extension="{header.id.extension}-{number}" root="{header.id.root}"'.encode(),
            1,
        )
        (folder / ("deeper" if number % 3 == 0 else "") / path.name).write_bytes(data)
    return folder


def test_official_samples_go_in_once_are_found_and_come_out_byte_for_byte(obieg, samples, tmp_path):
    files = sorted(samples.rglob("*.xml"))
    shallow = obieg("submit", samples)
    assert shallow.returncode == 0, shallow.stdout.decode() + shallow.stderr
    assert "skipped" not in shallow.stdout.decode()

    done = obieg("submit", "--recursive", samples)
    assert done.returncode == 0, done.stdout.decode() + done.stderr
    deeper = len(list((samples / "deeper").iterdir()))
    assert f"{deeper} registered" in in_one_line(done.stdout)
    assert f"{len(files) - deeper} skipped: registered already" in in_one_line(done.stdout)

    again = obieg("submit", "--recursive", samples)
    assert again.returncode == 0
    assert in_one_line(again.stdout) == f"{len(files)} skipped: registered already"

    by_patient = {}
    for path in files:
        header = cda.read_header(path.read_bytes())
        by_patient.setdefault(header.patient.ids[1].extension, {})[header.id.oid_form] = path
    for pesel, documents in by_patient.items():
        entries = {entry["unique_id"]: entry for entry in found(obieg, pesel)}
        assert entries.keys() == documents.keys()
        times = [entry["creation_time"].ljust(14, "0") for entry in entries.values()]
        assert times == sorted(times, reverse=True), "the newest first"
    unique_id, path = next(iter(documents.items()))
    got = obieg("get", unique_id, "-o", "out.xml")
    assert got.returncode == 0, got.stderr
    assert (tmp_path / "out.xml").read_bytes() == path.read_bytes()
    assert obieg("get", unique_id, "-o", "-").stdout == path.read_bytes()


def test_a_folder_with_contradicting_documents_takes_the_others_and_says_why(obieg, shared):
    folder = shared / "data/p1/paczos+sim/transformata_hl7"
    done = obieg("submit", "-r", folder)
    assert done.returncode == 1
    said = in_one_line(done.stdout)
    assert "refused" in said
    assert "another document than" in said
    assert "not CDA" in said
    again = obieg("submit", "-r", folder)
    assert again.returncode == 1
    assert " registered " not in in_one_line(again.stdout).replace("skipped: registered", "")


def test_corrections_replace_what_they_correct_in_any_order(fresh_lab, tmp_path):
    obieg = commands(fresh_lab, tmp_path)
    made = list(demo_documents(people(12, 5), 60, 5))
    corrections = [d for d in made if d.replaces]
    assert corrections
    for number, document in enumerate(made):
        # Corrections sort first, so that what they replace is still to come.
        name = f"{'a' if document.replaces else 'b'}{number:03}.xml"
        (tmp_path / name).write_bytes(document.data)
    done = obieg("submit", ".", "--jobs", "8")
    assert done.returncode == 0, done.stdout.decode() + done.stderr
    assert f"{len(corrections)} registered in place of an earlier version" in in_one_line(done.stdout)
    correction = next(d for d in corrections if d.person.pesel)
    [replaced] = correction.replaces
    approved = {e["unique_id"] for e in found(obieg, correction.person.pesel)}
    assert correction.unique_id in approved
    assert replaced not in approved
    assert replaced in {e["unique_id"] for e in found(obieg, correction.person.pesel, "--status", "deprecated")}


def test_a_patient_without_pesel_is_found_by_the_local_number(obieg, tmp_path):
    document = next(d for d in demo_documents(people(60, 3), 120, 3) if d.person.newborn and not d.replaces)
    (tmp_path / "newborn.xml").write_bytes(document.data)
    assert obieg("submit", "newborn.xml").returncode == 0
    [entry] = found(obieg, str(document.facility.patient_id(document.person)))
    assert entry["unique_id"] == document.unique_id


def test_a_document_without_any_identifier_says_what_to_give(obieg, tmp_path):
    document = next(demo_documents(people(4, 8), 4, 8))
    header = cda.read_header(document.data)
    data = document.data
    for number in header.patient.ids:
        for form in (
            f'root="{number.root}" extension="{number.extension}"',
            f'extension="{number.extension}" root="{number.root}"',
        ):
            data = data.replace(form.encode(), b'nullFlavor="NI"')
    assert not cda.read_header(data).patient.ids
    (tmp_path / "unknown.xml").write_bytes(data)
    done = obieg("submit", "unknown.xml")
    assert done.returncode == 1
    assert "--patient-id" in in_one_line(done.stdout)
    done = obieg("submit", "unknown.xml", "--patient-id", "NN-1^^^&1.2.3.4&ISO")
    assert done.returncode == 0, done.stdout
    assert len(found(obieg, "NN-1^^^&1.2.3.4&ISO")) == 1


# other files ---------------------------------------------------------------------------------------------------------


def test_pdf_with_options(obieg, tmp_path):
    data = pdf(["Morfologia", "Hb 14,1 g/dl"])
    (tmp_path / "wynik.pdf").write_bytes(data)
    refused = obieg("submit", "wynik.pdf")
    assert refused.returncode == 1
    assert "--type and --patient-id" in in_one_line(refused.stdout)
    options = ("--patient-id", EWA, "--type", "11502-2", "--author", "Jan Kowalski", "--title", "Morfologia krwi")
    done = obieg("submit", "wynik.pdf", *options, "--date", "2026-02-03 14:30", "--confidentiality", "R")
    assert done.returncode == 0, done.stdout.decode() + done.stderr
    [entry] = found(obieg, EWA, "--type", "11502-2")
    assert entry["title"] == "Morfologia krwi"
    assert entry["authors"] == ["Jan Kowalski"]
    assert entry["class"]["code"] == "06.10", "follows from the type"
    assert entry["creation_time"] == "202602031330", "the registry keeps UTC"
    assert entry["mime_type"] == "application/pdf"
    assert [c["code"] for c in entry["confidentiality"]] == ["R"]
    again = obieg("submit", "wynik.pdf", *options)
    assert in_one_line(again.stdout) == "1 skipped: registered already"
    table = obieg("find", "--patient", f"{EWA}^^^&{PESEL_ROOT}&ISO").stdout.decode()
    for shown in ("2026-02-03 14:30", "Morfologia krwi", "Jan Kowalski", entry["unique_id"], "approved"):
        assert shown in table
    assert max(map(len, table.splitlines()[:-1])) <= 80
    assert found(obieg, EWA, "--from", "2026-02-03", "--to", "2026-02-03")
    assert not found(obieg, EWA, "--to", "2026-02-02")
    assert not found(obieg, EWA, "--from", "2026-02-03 14:31", "--type", "11502-2")


def test_large_text_with_a_side_file_is_streamed(obieg, tmp_path):
    text = "zażółć gęślą jaźń\n" * 200_000
    (tmp_path / "opis.txt").write_text(text, "utf-8")
    told = {"patient_id": "02070803628", "type": "11488-4", "class": "05.00", "patient": {"family": "Nowak"}}
    (tmp_path / "opis.txt.json").write_text(json.dumps(told))
    done = obieg("submit", ".")
    assert done.returncode == 0, done.stdout.decode() + done.stderr
    [entry] = found(obieg, "02070803628")
    assert entry["size"] == len(text.encode())
    assert obieg("get", entry["unique_id"], "-o", "-").stdout == text.encode()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"type": "11488-4"}, "00.65 (Informacja o odmowie przyjęcia) or 05.00"),
        ({"type": "99999-9", "class": "05.00"}, "typeCode"),
        ({"type": "11502-2", "tilte": "x"}, "tilte"),
        ({"type": "11502-2", "date": "yesterday"}, "is not a time"),
        ({"type": "11502-2", "patient_id": "7"}, "give a PESEL"),
    ],
)
def test_what_is_wrong_with_a_side_file_is_said(told, said, obieg, tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf(["x"]))
    (tmp_path / "a.pdf.json").write_text(json.dumps({"patient_id": EWA} | told))
    done = obieg("submit", "a.pdf")
    assert done.returncode == 1
    assert said in in_one_line(done.stdout)


# what goes wrong -----------------------------------------------------------------------------------------------------


def test_get_never_overwrites_unless_told(obieg, tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf(["kept"]))
    assert obieg("submit", "a.pdf", "--patient-id", EWA, "--type", "11502-2", "--title", "kept").returncode == 0
    [entry] = [e for e in found(obieg, EWA) if e["title"] == "kept"]
    (tmp_path / "out").write_text("mine")
    refused = obieg("get", entry["unique_id"], "-o", "out")
    assert refused.returncode == 1
    assert (tmp_path / "out").read_text() == "mine"
    assert obieg("get", entry["unique_id"], "-o", "out", "--force").returncode == 0
    assert (tmp_path / "out").read_bytes() == pdf(["kept"])
    assert not list(tmp_path.glob(".out*"))
    assert "cannot be written" in obieg("get", entry["unique_id"], "-o", "no/such/out").stderr


def test_unknown_things_are_named(obieg, lab, tmp_path):
    assert "No document is registered as 1.2.3" in obieg("get", "1.2.3", "-o", "x").stderr
    assert "knows no patient" in obieg("find", "--patient", "90090515836").stderr
    assert obieg("find", "--patient", "somebody").returncode == 2
    assert obieg("find", "--patient", EWA, "--from", "today").returncode == 2
    assert obieg("find", "--patient", EWA, "--status", "new").returncode == 2
    assert "is no code" in obieg("find", "--patient", EWA, "--type", "x").stderr
    assert "There is no file" in obieg("submit", "absent.xml").stderr
    (tmp_path / "empty").mkdir()
    assert "There is no document" in obieg("submit", "empty").stderr
    endpoints = json.loads(lab.read_text())
    gone = tmp_path / "gone.json"
    gone.write_text(json.dumps(endpoints | {"mllp": "127.0.0.1:9", "registry": "http://127.0.0.1:9/services/registry"}))
    done = obieg("find", "--patient", EWA, node=gone)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_document_of_an_unknown_repository_says_so(obieg, lab, tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf(["elsewhere"]))
    assert obieg("submit", "a.pdf", "--patient-id", EWA, "--type", "11502-2", "--title", "elsewhere").returncode == 0
    [entry] = [e for e in found(obieg, EWA) if e["title"] == "elsewhere"]
    endpoints = json.loads(lab.read_text())
    other = tmp_path / "other.json"
    other.write_text(json.dumps(endpoints | {"repository_uid": "1.2.3"}))
    refused = obieg("get", entry["unique_id"], "-o", "x", node=other)
    assert endpoints["repository_uid"] in in_one_line(refused.stderr)
    nodes = {"elsewhere": {key: endpoints[key] for key in ("repository_uid", "retrieve")}}
    other.write_text(
        json.dumps(endpoints | {"repository_uid": "1.2.3", "retrieve": "http://127.0.0.1:9", "nodes": nodes})
    )
    assert obieg("get", entry["unique_id"], "-o", "x", node=other).returncode == 0


def test_ctrl_c_ends_after_what_is_under_way_and_the_next_run_does_the_rest(fresh_lab, tmp_path):
    obieg = commands(fresh_lab, tmp_path)
    made = list(demo_documents(people(30, 77), 400, 77))
    for number, document in enumerate(made):
        (tmp_path / f"{number:03}.xml").write_bytes(document.data)
    process = start("submit", ".", "--node", fresh_lab, cwd=tmp_path)
    segments = Path(json.loads(Path(fresh_lab).read_text())["settings"]).parent / "segments"
    while process.poll() is None and sum(p.stat().st_size for p in segments.rglob("*") if p.is_file()) < 100_000:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130, done.stdout.decode() + done.stderr
    assert "Interrupted" in done.stdout.decode()
    assert "Traceback" not in done.stderr
    rest = obieg("submit", ".")
    assert rest.returncode == 0, rest.stdout.decode() + rest.stderr
    everything = obieg("submit", ".")
    assert in_one_line(everything.stdout) == f"{len(made)} skipped: registered already"
