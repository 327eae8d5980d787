"""Patient/$everything and Bulk Data $export of a running node, asked by clients that nobody here wrote."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fhir_peer
import httpx
import indexing
import peer
import pytest
from fhir_peer import JSON, FhirPeer
from fhirpy import SyncFHIRClient
from peer import Node
from test_lifecycle import Desk

from obieg.actors import exporter as exporting
from obieg.actors.exporter import Exporter
from obieg.domain.exporting import ExportRequest, Page
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.storage.audit_store import AuditStore
from obieg.storage.export_store import PatientPages, PostgresExports
from obieg.storage.link import Database
from obieg.transactions import TRANSACTIONS

BULK = next(t for t in TRANSACTIONS if t.id == "BULK-1")
ALL = ("Patient", "DocumentReference", "List")


@pytest.fixture(scope="module")
def region(make_node: peer.MakeNode) -> Node:
    """A node of its own, so that an export is of what is registered here; two workers."""
    return make_node("bulk", workers=2)


@pytest.fixture(scope="module")
def fhir(region: Node) -> Iterator[FhirPeer]:
    with fhir_peer.opened(region) as found:
        yield found


@pytest.fixture(scope="module")
def known(region: Node) -> dict[str, dict[str, set[str]]]:
    """By patient, what was registered for them."""
    found: dict[str, dict[str, set[str]]] = {}
    for count in (3, 1, 0):
        patient = region.patient()
        documents: set[str] = set()
        lists: set[str] = set()
        for _ in range(count):
            folder = region.folder(patient)
            entry = region.entry(patient)
            given = region.submission(patient, entry, folders=[folder])
            assert region.provide(given).status == "Success"
        for answer in (region.found(patient),):
            documents |= {e.get("id")[9:] for e in answer.entries}
        everything = region.query("GetAll", patientId=peer.quoted(patient), **STATUSES)
        lists |= {o.get("id")[9:] for o in (*everything.sets, *everything.folders)}
        assert len(documents) == count
        assert len(lists) == 2 * count
        found[patient.split("^")[0]] = {
            "DocumentReference": documents,
            "List": lists,
            "Patient": {patient.split("^")[0]},
        }
    return found


STATUSES = dict.fromkeys(
    ("XDSDocumentEntryStatus", "XDSSubmissionSetStatus", "XDSFolderStatus"), f"('{peer.APPROVED}')"
)


def resources(bundle: Any) -> list[tuple[str, str]]:
    return [(e["resource"]["resourceType"], e["resource"]["id"]) for e in bundle.get("entry", [])]


# $everything ---------------------------------------------------------------------------------------------------------


def test_everything_of_a_patient(fhir: FhirPeer, known: dict[str, Any]) -> None:
    for patient, expected in known.items():
        answer = fhir.both("GET", f"Patient/{patient}/$everything")
        assert answer.status_code == 200, answer.text
        found = resources(answer.json())
        assert found[0] == ("Patient", patient)
        assert {kind: {i for k, i in found if k == kind} for kind in ALL} == expected
        assert len(set(found)) == len(found)


def test_pages_neither_lose_nor_repeat(fhir: FhirPeer, known: dict[str, Any]) -> None:
    patient, expected = next(iter(known.items()))
    for count in (1, 2, 7):
        found, address = [], f"{fhir.base}/Patient/{patient}/$everything?_count={count}"
        while address:
            page = fhir.http.get(address, headers={"Accept": JSON}).json()
            assert len(page["entry"]) <= count
            found += resources(page)
            address = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
        assert Counter(found) == Counter((kind, i) for kind, ids in expected.items() for i in ids)


def test_everything_by_type_and_time(fhir: FhirPeer, known: dict[str, Any]) -> None:
    patient, expected = next(iter(known.items()))
    bundle = fhir.get(f"Patient/{patient}/$everything", _type="List,Patient")
    assert {kind for kind, _ in resources(bundle)} == {"List", "Patient"}
    later = fhir.get(f"Patient/{patient}/$everything", _since="2099-01-01T00:00:00Z")
    assert resources(later) == []
    before = fhir.get(f"Patient/{patient}/$everything", _since="2001-01-01T00:00:00Z")
    assert len(resources(before)) == sum(map(len, expected.values()))


@pytest.mark.parametrize(
    ("path", "status", "where"),
    [
        ("Patient/nobody/$everything", 404, ""),
        ("Patient/{}/$everything?_type=Observation", 400, "http._type"),
        ("Patient/{}/$everything?start=2020-01-01", 400, "http.start"),
        ("Patient/{}/$everything?_cursor=9.x", 410, "http._cursor"),
        ("Patient/{}/$everything?_cursor=1.x/y", 410, "http._cursor"),
        ("Patient/{}/$everything?_since=now", 400, "http._since"),
    ],
)
def test_everything_that_cannot_be_answered(
    fhir: FhirPeer, known: dict[str, Any], path: str, status: int, where: str
) -> None:
    answer = fhir.ask("GET", path.format(next(iter(known))))
    assert answer.status_code == status, answer.text
    assert fhir_peer.issues(answer)[0][2] == where


def test_everything_is_audited(region: Node, fhir: FhirPeer, known: dict[str, Any]) -> None:
    patient = next(iter(known))
    before = region.last_audit()
    fhir.get(f"Patient/{patient}/$everything")
    assert [row[1] for row in region.audits(before)] == ["FHIR-11"]
    [(said,)] = region.rows("SELECT patient_id FROM audit_event ORDER BY audit_id DESC LIMIT 1")
    assert said.startswith(f"{patient}^^^")


def test_clients_ask_for_everything(fhir: FhirPeer, known: dict[str, Any]) -> None:
    patient, expected = next(iter(known.items()))
    wanted = {(kind, i) for kind, ids in expected.items() for i in ids}
    bundle = SyncFHIRClient(fhir.base).execute(f"Patient/{patient}/$everything", method="get")
    assert {(e["resource"]["resourceType"], e["resource"]["id"]) for e in bundle["entry"]} == wanted
    said = fhir.npm(
        base=fhir.base,
        call="operation",
        argument={"name": "everything", "resourceType": "Patient", "id": patient, "method": "GET"},
    )
    assert set(resources(said["answer"])) == wanted


# $export -------------------------------------------------------------------------------------------------------------


def begun(fhir: FhirPeer, path: str = "$export", **headers: str) -> str:
    answer = fhir.http.get(f"{fhir.base}/{path}", headers={"Accept": JSON, "Prefer": "respond-async", **headers})
    assert answer.status_code == 202, answer.text
    assert answer.content == b""
    return answer.headers["content-location"]


def finished(fhir: FhirPeer, address: str) -> Any:
    for _ in range(300):
        answer = fhir.http.get(address, headers={"Accept": "application/json"})
        if answer.status_code == 200:
            assert answer.headers["content-type"] == "application/json"
            assert "expires" in answer.headers
            return answer.json()
        assert answer.status_code == 202, answer.text
        assert answer.headers["x-progress"]
        assert int(answer.headers["retry-after"]) > 0
        time.sleep(0.1)
    raise AssertionError("the export does not end")


def exported(fhir: FhirPeer, manifest: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for output in manifest["output"]:
        answer = fhir.http.get(output["url"], headers={"Accept": "application/fhir+ndjson"})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/fhir+ndjson"
        assert answer.headers["content-encoding"] == "gzip"
        lines = answer.text.splitlines()
        assert answer.text.endswith("\n")
        assert len(lines) == output["count"]
        plain = fhir.http.get(output["url"], headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert int(plain.headers["content-length"]) == len(plain.content)
        assert plain.content == answer.content
        found.setdefault(output["type"], []).extend(map(json.loads, lines))
        assert {r["resourceType"] for r in found[output["type"]]} == {output["type"]}
    return found


def test_an_export_of_everything(region: Node, fhir: FhirPeer, known: dict[str, Any]) -> None:
    before = region.last_audit()
    address = begun(fhir)
    manifest = finished(fhir, address)
    assert manifest["request"] == f"{fhir.base}/$export"
    found = exported(fhir, manifest)
    for kind in ALL:
        wanted = Counter(i for of in known.values() for i in of[kind])
        ids = Counter(r["id"] for r in found[kind])
        assert wanted <= ids
        assert set(ids.values()) == {1}
    for kind in ALL:
        for resource in found[kind][:20]:
            fhir_peer.valid(resource)
            assert fhir.npm(resource=resource) == []
    # What is exported is what is read.
    for patient in known:
        assert fhir.get(f"Patient/{patient}") in found["Patient"]
        everything = fhir.get(f"Patient/{patient}/$everything", _count="200")
        assert all(e["resource"] in found[e["resource"]["resourceType"]] for e in everything["entry"])
    assert {row[1] for row in region.audits(before)} >= {"BULK-1"}
    ended = fhir.http.delete(address)
    assert ended.status_code == 202
    assert fhir.http.get(address).status_code == 404
    assert fhir.http.get(manifest["output"][0]["url"]).status_code == 404
    assert fhir.http.delete(address).status_code == 404


def test_an_export_has_the_newest_versions_only(region: Node, fhir: FhirPeer) -> None:
    """As a search: what has a newer version is not there, what was deprecated is."""
    patient = region.patient()
    folder, entry, deprecated = region.folder(patient), region.entry(patient), region.entry(patient)
    region.provided(region.submission(patient, entry, deprecated, folders=[folder]))
    desk = Desk(region)
    version, titled = (
        desk.entry(patient, entry),
        region.folder(patient, logical_id=folder.id, unique_id=folder.unique_id),
    )
    assert desk.send(patient, [version]).status == "Success"
    assert desk.send(patient, folders=[titled]).status == "Success"
    assert desk.state(patient, deprecated.id).status == "Success"
    found = exported(fhir, finished(fhir, begun(fhir)))
    ids = {r["id"] for of in found.values() for r in of}
    assert {version.id[9:], titled.id[9:], deprecated.id[9:]} <= ids
    assert ids.isdisjoint({entry.id[9:], folder.id[9:]})
    everything = resources(fhir.get(f"Patient/{patient.split('^')[0]}/$everything", _count="200"))
    assert {i for _, i in everything} & {o.id[9:] for o in (entry, version, folder, titled)} == {
        version.id[9:],
        titled.id[9:],
    }


def test_an_export_of_some(fhir: FhirPeer, known: dict[str, Any]) -> None:
    some = exported(fhir, finished(fhir, begun(fhir, "Patient/$export?_type=Patient,List")))
    assert some.keys() == {"Patient", "List"}
    nothing = finished(fhir, begun(fhir, "$export?_since=2099-01-01T00:00:00Z"))
    assert nothing["output"] == []
    body = {"resourceType": "Parameters", "parameter": [{"name": "_type", "valueString": "DocumentReference"}]}
    answer = fhir.http.post(
        f"{fhir.base}/$export", json=body, headers={"Content-Type": JSON, "Prefer": "respond-async"}
    )
    assert answer.status_code == 202, answer.text
    assert exported(fhir, finished(fhir, answer.headers["content-location"])).keys() == {"DocumentReference"}
    assert known


@pytest.mark.parametrize(
    "query", ["_type=Observation", "_outputFormat=text/csv", "_typeFilter=Patient%3Fgender%3Dmale", "_since=x"]
)
def test_exports_that_cannot_be_made(fhir: FhirPeer, query: str) -> None:
    answer = fhir.http.get(f"{fhir.base}/$export?{query}")
    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"
    lenient = fhir.http.get(f"{fhir.base}/$export?{query}", headers={"Prefer": "respond-async, handling=lenient"})
    assert lenient.status_code == (202 if "Filter" in query else 400)


def test_the_statement_tells_of_both(fhir: FhirPeer) -> None:
    [rest] = fhir.get("metadata")["rest"]
    assert "export" in {o["name"] for o in rest["operation"]}
    [patient] = [r for r in rest["resource"] if r["type"] == "Patient"]
    assert {"everything", "export"} <= {o["name"] for o in patient["operation"]}


@pytest.fixture(scope="module")
def smart_fetch() -> Path:
    return fhir_peer.smart_fetch()


def test_smart_fetch(smart_fetch: Path, fhir: FhirPeer, known: dict[str, Any], tmp_path: Path) -> None:
    """What it takes is what the CapabilityStatement offers."""
    command = [smart_fetch, "bulk", tmp_path / "out", "--fhir-url", fhir.base, "--no-compression"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    offered = {r["type"] for r in fhir.get("metadata")["rest"][0]["resource"]} & {"Patient", "DocumentReference"}
    found: dict[str, Counter[str]] = {}
    for path in (tmp_path / "out").glob("*.ndjson"):
        if path.name != "log.ndjson":
            lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            found.setdefault(lines[0]["resourceType"], Counter()).update(r["id"] for r in lines)
    assert found.keys() == offered
    for kind, ids in found.items():
        assert set(ids.values()) == {1}
        assert {i for of in known.values() for i in of[kind]} <= ids.keys()


# the work ------------------------------------------------------------------------------------------------------------

_WORKER = """
import asyncio, sys
from datetime import UTC, datetime
sys.path.insert(0, sys.argv[2])
import indexing
from obieg.actors import exporter
from obieg.storage.audit_store import AuditStore
from obieg.storage.export_store import PatientPages, PostgresExports
from obieg.storage.link import Database

exporter.BATCH = 3
exporter.FILE_RESOURCES_MAX = 20

async def main():
    database = Database(sys.argv[1], links=1)
    await database.open()
    audit = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
    pages = PatientPages(database, indexing.make_index(database).candidates)

    class Slow:
        async def page(self, *given, **named):
            await asyncio.sleep(0.02)
            found = await pages.page(*given, **named)
            print(len(found.resources), flush=True)
            return found

    providers = {"Patient": Slow()}
    await exporter.Exporter(PostgresExports(database, audit), providers, of_patients=frozenset(), new_uuid=str).work()

asyncio.run(main())
"""


class Work:
    """Exports of patients on a database of their own."""

    def __init__(self, dsn: str, database: Database) -> None:
        self.dsn = dsn
        self.index = indexing.make_index(database)
        audit = AuditStore(database, source_id="test", names={}, now=lambda: datetime.now(UTC))
        self.store = PostgresExports(database, audit)
        providers = {"Patient": PatientPages(database, self.index.candidates)}
        self.exporter = Exporter(
            self.store, providers, of_patients=frozenset({"Patient"}), new_uuid=lambda: str(uuid.uuid4())
        )

    async def announce(self, count: int) -> set[str]:
        feeds = [indexing.feed(indexing.local(uuid.uuid4().hex)) for _ in range(count)]
        return {(await self.index.feed(feed, indexing.context())).value for feed in feeds}

    async def begin(self) -> str:
        return await self.exporter.begin(ExportRequest(request="r", base="http://node/fhir"), indexing.context(BULK))

    async def lines(self, export_id: str) -> list[Any]:
        found = []
        for file in (await self.exporter.state(export_id, indexing.context(BULK))).files:
            read: dict[bool, bytes] = {}
            for packed in (True, False):
                content = await self.exporter.file(export_id, file.number, indexing.context(BULK), packed=packed)
                read[packed] = b"".join([piece async for piece in content.chunks()])
                assert len(read[packed]) == content.size
            data = read[False]
            # One member of gzip however many pieces: httpx, as others, reads no second one, and says nothing.
            assert httpx.Response(200, headers={"content-encoding": "gzip"}, content=read[True]).content == data
            assert gzip.decompress(read[True]) == data
            found += [json.loads(line) for line in data.splitlines()]
            assert len(data.splitlines()) == file.resources
        return found

    def worker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _WORKER, self.dsn, str(Path(__file__).parent)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ)


@asynccontextmanager
async def work(dsn: str) -> AsyncIterator[Work]:
    database = Database(dsn, links=2)
    await database.open()
    try:
        yield Work(dsn, database)
    finally:
        database.close()


async def test_a_killed_worker_loses_and_repeats_nothing(database_dsn: str) -> None:
    async with work(database_dsn) as here:
        everybody = await here.announce(70)
        export_id = await here.begin()
        positions = [0]
        for kills in (2, 3, 1, 4):
            process = here.worker()
            assert process.stdout is not None
            for _ in range(kills):
                await asyncio.to_thread(process.stdout.readline)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            standing = await here.exporter.state(export_id, indexing.context(BULK))
            assert standing.expires_at is None
            positions.append(standing.export.position)
        assert positions == sorted(positions)
        assert positions[-1] > positions[1], "each goes on where the one before was"
        ending = here.worker()
        try:
            for _ in range(200):
                standing = await here.exporter.state(export_id, indexing.context(BULK))
                if standing.expires_at is not None:
                    break
                await asyncio.sleep(0.1)
        finally:
            ending.kill()
            ending.communicate()
        found = await here.lines(export_id)
        assert Counter(r["id"] for r in found) == Counter(everybody)
        assert len(standing.files) >= 3, "a file is closed when it is full"
        assert sum(f.resources for f in standing.files) == 70


async def test_two_who_work_at_once_write_each_page_once(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BATCH", 2)
    async with work(database_dsn) as one, work(database_dsn) as other:
        everybody = await one.announce(30)
        export_id = await one.begin()
        tasks = [asyncio.create_task(w.exporter.work()) for w in (one, other, one)]
        for _ in range(200):
            if (await one.exporter.state(export_id, indexing.context(BULK))).expires_at is not None:
                break
            await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert Counter(r["id"] for r in await one.lines(export_id)) == Counter(everybody)


async def test_an_export_that_is_ended_stops(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BATCH", 1)
    async with work(database_dsn) as here:
        await here.announce(50)
        export_id = await here.begin()
        task = asyncio.create_task(here.exporter.work())
        await asyncio.sleep(0.05)
        await here.exporter.cancel(export_id, indexing.context(BULK))
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        assert await here.store.running() is None
        assert await here.store.files(export_id) == []
        with pytest.raises(Problem):
            await here.exporter.state(export_id, indexing.context(BULK))


async def test_a_resource_that_cannot_be_written_ends_the_export(database_dsn: str) -> None:
    class Broken:
        async def page(self, *_: Any, **__: Any) -> Page:
            raise ValueError("cannot be written")

    async with work(database_dsn) as here:
        here.exporter._providers = {"Patient": Broken()}
        export_id = await here.begin()
        task = asyncio.create_task(here.exporter.work())
        for _ in range(100):
            if await here.store.running() is None:
                break
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(Problem, match="the export failed"):
            await here.exporter.state(export_id, indexing.context(BULK))


async def test_files_are_forgotten_when_their_time_is_over(database_dsn: str) -> None:
    async with work(database_dsn) as here:
        await here.announce(1)
        export_id = await here.begin()
        export = await here.store.running()
        assert export is not None
        await here.store.expire(0)
        assert await here.store.running() == export, "what runs is kept"
        await here.exporter._step(export)
        assert len(await here.lines(export_id)) == 1
        await here.store.expire(3600)
        assert len(await here.store.files(export_id)) == 1
        await here.store.expire(0)
        assert await here.store.files(export_id) == []


async def test_exports_are_for_the_operator_and_for_whoever_asked(database_dsn: str) -> None:
    async with work(database_dsn) as here:
        export_id = await here.begin()
        other = indexing.context(BULK, system="somebody else")
        with pytest.raises(Problem, match="no such export"):
            await here.exporter.state(export_id, other)
        with pytest.raises(Problem, match="no such export"):
            await here.exporter.cancel(export_id, other)
        facility = indexing.context(BULK)
        facility.requester = Requester(system="test", repositories=("1.2.3",))
        for act in (
            lambda: here.exporter.begin(ExportRequest(request="r", base="b"), facility),
            lambda: here.exporter.state(export_id, facility),
            lambda: here.exporter.file(export_id, 1, facility, packed=False),
            lambda: here.exporter.cancel(export_id, facility),
        ):
            with pytest.raises(Problem) as refused:
                await act()
            assert refused.value.findings[0].code == "NotPermitted"
