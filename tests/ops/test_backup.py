"""Backup, restore, verify and compaction on a real database and a real store."""

import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import httpx
import obstore
import psycopg
import pytest
import typer
from typer.testing import CliRunner

from obieg.ops import backup as backup_module
from obieg.ops import documents as documents_module
from obieg.ops import sts_key
from obieg.ops.documents import master_key_file
from obieg.ops.failure import Failure
from obieg.ops.sealing import seal_key_file
from obieg.ops.settings import make
from obieg.ops.sts_key import own_issuer, own_key, renew
from obieg.storage.seal_keys import create_seal_keys
from obieg.storage.segments import SUFFIX, Place
from obieg.storage.stored_documents import StoredDocuments
from s3_server import s3_endpoint  # noqa: F401 - a fixture

INSERT = """
INSERT INTO stored_document (unique_id, repository_unique_id, state, patient_id, mime_type, size, sha1, sha256, location,
  wrapped_key) VALUES (%s, '1.2.3', 'R', 'p', 'text/plain', %s, '', %s, %s, %s)
"""


class Node:
    """A node without a server: its settings, store and database."""

    def __init__(self, folder, dsn, **store):
        folder.mkdir(parents=True, exist_ok=True)
        self.dsn = dsn
        self.file = folder / "settings.toml"
        given = {
            "role": "region",
            "data_dir": "data",
            "database": {"dsn": dsn},
            "store": {"segment_size_bytes": 2**20, **store},
            "identity": {"home_community_id": "1.2", "repository_unique_id": "1.2.3", "assigning_authority": "1.2.4"},
        }
        self.file.write_text(_toml(given))
        self.settings = make(given, "test", folder)
        self.segments = documents_module.segments_folder(self.settings)

    async def store_documents(self, documents):
        """Stores and registers; what was acknowledged."""
        store = documents_module.open_store(self.settings)
        appended = await asyncio.gather(*map(store.append, documents.values()))
        await store.close()
        with psycopg.connect(self.dsn) as connection:
            for unique_id, one in zip(documents, appended, strict=True):
                connection.execute(INSERT, [unique_id, one.size, one.sha256, one.location, one.wrapped_key])
        return appended

    def rows(self):
        with psycopg.connect(self.dsn) as connection:
            return dict(connection.execute("SELECT unique_id, location FROM stored_document").fetchall())

    def delete(self, unique_ids):
        with psycopg.connect(self.dsn) as connection:
            connection.execute("DELETE FROM stored_document WHERE unique_id = ANY(%s)", [list(unique_ids)])

    def run(self, *arguments):
        """A command as the command line runs it."""
        app = typer.Typer()
        documents_module.register(app)
        backup_module.register(app)
        result = CliRunner().invoke(app, [*map(str, arguments), "--settings", str(self.file)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    async def read_all(self):
        store = documents_module.open_store(self.settings)
        found = {}
        async with StoredDocuments.open(self.dsn) as rows:
            async for row in rows.all():
                found[row.unique_id] = b"".join([p async for p in store.read(row.location, row.wrapped_key)])
        await store.close()
        return found


def _toml(given):
    top = [f"{k} = {json.dumps(v)}" for k, v in given.items() if not isinstance(v, dict)]
    for name, table in given.items():
        if isinstance(table, dict):
            top += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    return "\n".join(top) + "\n"


def some(count, prefix="d", size=50_000):
    return {f"1.2.{prefix}.{n}": os.urandom(size + n) for n in range(count)}


@pytest.fixture
def node(tmp_path, database_dsn):
    return Node(tmp_path / "node", database_dsn)


@pytest.fixture
def target(tmp_path, empty_database_dsn):
    return Node(tmp_path / "target", empty_database_dsn)


def age(folder, seconds=7200):
    for path in folder.iterdir():
        os.utime(path, (time.time() - seconds,) * 2)


# backup and restore --------------------------------------------------------------------------------------------------


async def in_thread(function, *arguments):
    return await asyncio.to_thread(function, *arguments)


async def test_a_restored_node_is_the_node(node, target, tmp_path):
    documents = some(60) | {"large": os.urandom(3 * 2**20), "empty": b""}
    await node.store_documents(documents)
    key = tmp_path / "backup.key"
    await in_thread(node.run, "backup", tmp_path / "backup", "--key", key)
    result = await in_thread(target.run, "restore", tmp_path / "backup", "--key", key)
    assert result.exit_code == 0
    assert await target.read_all() == documents
    assert (await in_thread(target.run, "verify")).exit_code == 0
    # Nothing in the backup is readable without its key, and the key is not in it.
    everything = b"".join(p.read_bytes() for p in (tmp_path / "backup").rglob("*") if p.is_file())
    assert b"stored_document" not in everything
    assert bytes.fromhex(key.read_text().split()[-1]) not in everything
    # The target is no longer empty.
    with pytest.raises(Failure, match="not empty"):
        await in_thread(target.run, "restore", tmp_path / "backup", "--key", key)
    await target.store_documents(some(1, "new"))


async def test_the_keys_of_a_restored_node_are_those_of_the_node(node, target, tmp_path):
    await node.store_documents(some(1))
    create_seal_keys(seal_key_file(node.settings))
    own_key(node.settings)
    renew(node.settings)
    key = tmp_path / "backup.key"
    await in_thread(node.run, "backup", tmp_path / "backup", "--key", key)
    other = sts_key.files(target.settings)[1]
    other.parent.mkdir(parents=True)
    other.write_text("another one")
    with pytest.raises(Failure, match="another one than that of the backup"):
        await in_thread(target.run, "restore", tmp_path / "backup", "--key", key)
    other.unlink()
    assert (await in_thread(target.run, "restore", tmp_path / "backup", "--key", key)).exit_code == 0
    for mine, theirs in zip(sts_key.files(node.settings), sts_key.files(target.settings), strict=True):
        assert theirs.read_bytes() == mine.read_bytes()
    assert sts_key.files(target.settings)[0].stat().st_mode & 0o777 == 0o600
    assert own_issuer(target.settings) == own_issuer(node.settings)
    assert own_key(target.settings).certificate == own_key(node.settings).certificate
    assert seal_key_file(target.settings).read_bytes() == seal_key_file(node.settings).read_bytes()
    # No file of keys stands in data_dir that a backup does not know, but its own.
    known = {master_key_file(node.settings), seal_key_file(node.settings), *sts_key.files(node.settings)}
    found = {p for p in node.settings.data_dir.rglob("*") if p.is_file() and re.search(r"key|pem", p.name)}
    assert found == known


async def test_a_second_backup_writes_only_what_is_new(node, target, tmp_path):
    first = some(60)
    await node.store_documents(first)
    backup, key = tmp_path / "backup", tmp_path / "backup.key"
    await in_thread(node.run, "backup", backup, "--key", key)
    before = {p: p.stat().st_mtime_ns for p in backup.rglob("*") if p.is_file()}
    second = some(30, "second")
    await node.store_documents(second)
    await in_thread(node.run, "backup", backup, "--key", key)
    after = {p: p.stat().st_mtime_ns for p in backup.rglob("*") if p.is_file()}
    kept = [p for p in before if before[p] == after.get(p)]
    assert len(kept) >= 2
    assert all(p.parent.name == "segments" for p in kept)
    assert len([p for p in after if p.name.startswith("database")]) == 1
    await in_thread(target.run, "restore", backup, "--key", key)
    assert await target.read_all() == first | second


async def test_an_interrupted_backup_continues_and_the_one_before_stays_whole(node, target, tmp_path, monkeypatch):
    first = some(40)
    await node.store_documents(first)
    backup, key = tmp_path / "backup", tmp_path / "backup.key"
    await in_thread(node.run, "backup", backup, "--key", key)
    await node.store_documents(some(40, "second"))

    real, count = backup_module.Archive.add, 0

    def breaking(self, name, source, **how):
        nonlocal count
        if name.startswith("segments/"):
            count += 1
            if count == 2:
                raise RuntimeError("power cut")
        return real(self, name, source, **how)

    with monkeypatch.context() as broken:
        broken.setattr(backup_module.Archive, "add", breaking)
        with pytest.raises(RuntimeError, match="power cut"):
            await in_thread(node.run, "backup", backup, "--key", key)
    await in_thread(target.run, "restore", backup, "--key", key)
    assert await target.read_all() == first

    count = 2
    monkeypatch.setattr(backup_module.Archive, "add", breaking)
    await in_thread(node.run, "backup", backup, "--key", key)
    written = count - 2
    total = len(list(node.segments.glob("*" + SUFFIX)))
    assert written < total - 1
    assert not (backup / "progress").exists()


async def test_an_interrupted_restore_is_continued(node, target, tmp_path, monkeypatch):
    documents = some(60)
    await node.store_documents(documents)
    backup, key = tmp_path / "backup", tmp_path / "backup.key"
    await in_thread(node.run, "backup", backup, "--key", key)
    real, count = backup_module._put_back_segment, 0

    def breaking(*arguments):
        nonlocal count
        count += 1
        if count == 2:
            raise RuntimeError("power cut")
        return real(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr(backup_module, "_put_back_segment", breaking)
        with pytest.raises(RuntimeError, match="power cut"):
            await in_thread(target.run, "restore", backup, "--key", key)
    await in_thread(target.run, "restore", backup, "--key", key)
    assert await target.read_all() == documents
    assert not (target.settings.data_dir / backup_module.UNFINISHED).exists()


async def test_a_damaged_backup_restores_nothing(node, target, tmp_path):
    await node.store_documents(some(10))
    backup, key = tmp_path / "backup", tmp_path / "backup.key"
    await in_thread(node.run, "backup", backup, "--key", key)
    victim = next((backup / "segments").iterdir())
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(Failure, match="damaged"):
        await in_thread(target.run, "restore", backup, "--key", key)
    with psycopg.connect(target.dsn) as connection:
        assert not connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'").fetchall()


async def test_a_backup_needs_its_own_key_which_does_not_stand_inside(node, target, tmp_path):
    await node.store_documents(some(1))
    backup = tmp_path / "backup"
    with pytest.raises(Failure, match="inside the backup"):
        await in_thread(node.run, "backup", backup, "--key", backup / "key")
    await in_thread(node.run, "backup", backup, "--key", tmp_path / "a.key")
    with pytest.raises(Failure, match="another key"):
        await in_thread(node.run, "backup", backup, "--key", tmp_path / "b.key")
    with pytest.raises(Failure, match="another key"):
        await in_thread(target.run, "restore", backup, "--key", tmp_path / "b.key")
    with pytest.raises(Failure, match="no finished backup"):
        await in_thread(target.run, "restore", tmp_path, "--key", tmp_path / "a.key")


async def test_backup_and_compaction_keep_out_of_each_others_way(node, tmp_path):
    await node.store_documents(some(1))
    async with StoredDocuments.open(node.dsn) as rows:
        assert await rows.lock()
        with pytest.raises(Failure, match="is running"):
            await in_thread(node.run, "backup", tmp_path / "backup")
        with pytest.raises(Failure, match="is running"):
            await in_thread(node.run, "documents", "compact")


async def test_a_restore_of_a_backup_made_under_load_holds_all_that_was_acknowledged_before(node, target, tmp_path):
    acknowledged: dict[str, bytes] = {}
    stop = asyncio.Event()
    store = documents_module.open_store(node.settings)

    async def client(number):
        connection = await psycopg.AsyncConnection.connect(node.dsn, autocommit=True)
        async with connection:
            n = 0
            while not stop.is_set():
                n += 1
                data = os.urandom(2**20 + 50_000 if n % 10 == 0 else 20_000)
                one = await store.append(data)
                unique_id = f"{number}.{n}"
                await connection.execute(INSERT, [unique_id, one.size, one.sha256, one.location, one.wrapped_key])
                acknowledged[unique_id] = hashlib.sha256(data).digest()

    clients = [asyncio.create_task(client(number)) for number in range(4)]
    await asyncio.sleep(0.5)
    before = dict(acknowledged)
    key = tmp_path / "backup.key"
    await in_thread(node.run, "backup", tmp_path / "backup", "--key", key)
    stop.set()
    await asyncio.gather(*clients)
    await store.close()
    assert before
    assert len(acknowledged) > len(before)
    await in_thread(target.run, "restore", tmp_path / "backup", "--key", key)
    restored = {name: hashlib.sha256(data).digest() for name, data in (await target.read_all()).items()}
    assert before.items() <= restored.items() <= acknowledged.items()


# verify --------------------------------------------------------------------------------------------------------------


async def test_verify_names_what_is_damaged_and_what_is_missing(node):
    documents = some(30)
    appended = await node.store_documents(documents)
    assert (await in_thread(node.run, "verify")).exit_code == 0
    names = list(documents)
    place = Place.parse(appended[3].location)
    with (node.segments / (place.segment + SUFFIX)).open("r+b") as file:
        file.seek(place.offset + 1000)
        file.write(b"\0" * 16)
    last = Place.parse(appended[-1].location).segment
    (node.segments / (last + SUFFIX)).unlink()
    gone = {name for name, one in zip(names, appended, strict=True) if Place.parse(one.location).segment == last}
    with psycopg.connect(node.dsn) as connection:
        connection.execute("UPDATE stored_document SET sha256 = sha256(sha256) WHERE unique_id = %s", [names[5]])
    result = await in_thread(node.run, "verify")
    assert result.exit_code == 1
    reported = dict(line.split("\t1.2.3\t") for line in result.stdout.splitlines())
    assert reported.keys() == gone | {names[3], names[5]}
    assert reported[names[3]].startswith("damaged")
    assert "SHA-256" in reported[names[5]]
    assert all(reported[name].startswith("missing") for name in gone)


# compaction ----------------------------------------------------------------------------------------------------------


async def test_compaction_gives_back_the_space_of_what_nobody_refers_to(node):
    documents = some(60)
    await node.store_documents(documents)
    age(node.segments)
    gone = [name for n, name in enumerate(documents) if n % 2]
    node.delete(gone)
    kept = {name: data for name, data in documents.items() if name not in gone}
    before = node.rows()
    size = sum(p.stat().st_size for p in node.segments.glob("*" + SUFFIX))
    await in_thread(node.run, "documents", "compact")
    # Moved, yet the old places can still be read: somebody may have asked the database just before.
    assert all(before[name] != location for name, location in node.rows().items())
    assert all((node.segments / (Place.parse(at).segment + SUFFIX)).exists() for at in before.values())
    assert await node.read_all() == kept
    age(node.segments, 3000)
    await in_thread(node.run, "documents", "compact")
    assert await node.read_all() == kept
    assert sum(p.stat().st_size for p in node.segments.glob("*" + SUFFIX)) < 0.6 * size
    assert not list(node.segments.glob("*.dead"))


async def test_compaction_leaves_alone_what_is_young_or_being_written(node):
    await node.store_documents(some(10))
    store = documents_module.open_store(node.settings)
    unregistered = await store.append(b"about to be registered")
    age(node.segments)  # old, but its writer lives
    await in_thread(node.run, "documents", "compact", "--grace-s", "0")
    await in_thread(node.run, "documents", "compact", "--grace-s", "0")
    assert await store.read_whole(unregistered.location, unregistered.wrapped_key) == b"about to be registered"
    await store.close()
    for path in node.segments.iterdir():
        os.utime(path)  # finished, but young
    await in_thread(node.run, "documents", "compact", "--grace-s", "0")
    assert (node.segments / (Place.parse(unregistered.location).segment + SUFFIX)).exists()
    age(node.segments)
    await in_thread(node.run, "documents", "compact", "--grace-s", "0")
    assert not (node.segments / (Place.parse(unregistered.location).segment + SUFFIX)).exists()
    assert len(await node.read_all()) == 10


async def test_a_document_that_cannot_be_copied_keeps_its_segment(node):
    documents = some(20)
    appended = await node.store_documents(documents)
    names = list(documents)
    place = Place.parse(appended[0].location)
    with (node.segments / (place.segment + SUFFIX)).open("r+b") as file:
        file.seek(place.offset)
        file.write(b"\0" * 16)
    node.delete(names[1::2])
    age(node.segments)
    result = await in_thread(node.run, "documents", "compact", "--grace-s", "0")
    assert result.exit_code == 1
    assert names[0] in result.stdout
    assert node.rows()[names[0]] == appended[0].location
    assert (node.segments / (place.segment + SUFFIX)).exists()
    assert (await in_thread(node.run, "verify")).stdout.splitlines()[0].startswith(names[0])


async def test_compaction_while_the_node_reads_and_writes(node):
    documents = some(80)
    await node.store_documents(documents)
    age(node.segments)
    names = list(documents)
    node.delete(names[::2])
    kept = {name: documents[name] for name in names[1::2]}
    done = asyncio.Event()
    store = documents_module.open_store(node.settings)
    reads = 0

    async def reader():
        nonlocal reads
        async with StoredDocuments.open(node.dsn) as rows:
            while not done.is_set():
                held = [row async for row in rows.all() if row.unique_id in kept]
                await asyncio.sleep(0.01)
                for row in held:
                    assert await store.read_whole(row.location, row.wrapped_key) == kept[row.unique_id]
                    reads += 1

    async def writer():
        n = 0
        while not done.is_set():
            n += 1
            documents = some(1, f"new{n}")
            await node.store_documents(documents)
            kept.update(documents)

    tasks = [asyncio.create_task(reader()), asyncio.create_task(writer())]
    for _ in range(3):
        await in_thread(node.run, "documents", "compact", "--dead-share", "0.1")
    done.set()
    await asyncio.gather(*tasks)
    await store.close()
    assert reads > 20
    assert await node.read_all() == kept


COMPACT = """
import os, signal, sys, typer
from pathlib import Path
from obieg.ops import documents
from obieg.storage.segments import Segments
from obieg.storage.stored_documents import StoredDocuments

left = int(sys.argv[2])

def tick():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def killable(owner, name, is_async):
    real = getattr(owner, name)
    async def one(*arguments, **named):
        tick()
        answer = await real(*arguments, **named)
        tick()
        return answer
    def other(*arguments, **named):
        tick()
        answer = real(*arguments, **named)
        tick()
        return answer
    setattr(owner, name, one if is_async else other)

killable(StoredDocuments, "_run", True)
killable(Segments, "copy", True)
killable(Path, "touch", False)
killable(Path, "unlink", False)
app = typer.Typer()
documents.register(app)
app(["documents", "compact", "--settings", sys.argv[1], "--grace-s", "0", "--safe-age-s", "0"])
"""


def compact_until_killed(settings, ticks):
    return subprocess.run([sys.executable, "-c", COMPACT, settings, str(ticks)], stderr=subprocess.DEVNULL).returncode


@pytest.mark.slow
async def test_compaction_may_be_killed_at_any_point(node):
    documents = some(120, size=30_000)
    await node.store_documents(documents)
    names = list(documents)
    node.delete(names[::3])
    kept = {name: documents[name] for n, name in enumerate(names) if n % 3}
    codes = []
    for ticks in (3, 5, 8, 13, 30, 60, 100, 150, 200, 9, 11, 12, 14, 15, 16, 17, 18):
        codes.append(await in_thread(compact_until_killed, str(node.file), ticks))
        assert await node.read_all() == kept
    assert codes.count(-signal.SIGKILL) >= 10
    for _ in range(2):
        await in_thread(node.run, "documents", "compact", "--grace-s", "0", "--safe-age-s", "0")
    assert await node.read_all() == kept
    live = sum(Place.parse(location).length for location in node.rows().values())
    assert sum(p.stat().st_size for p in node.segments.glob("*" + SUFFIX)) < 1.5 * live


# s3 ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def s3_nodes(tmp_path, database_dsn, empty_database_dsn, s3_endpoint):  # noqa: F811
    def one(name, dsn):
        bucket = f"{name}-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]}"
        httpx.put(f"{s3_endpoint}/{bucket}").raise_for_status()
        store = {"kind": "s3", "s3_url": f"s3://{bucket}/documents", "s3_endpoint": s3_endpoint}
        return Node(tmp_path / name, dsn, **store, s3_access_key="a", s3_secret_key="b")

    return one("node", database_dsn), one("target", empty_database_dsn)


async def test_a_node_on_s3_is_saved_put_back_and_verified(s3_nodes, tmp_path):
    node, target = s3_nodes
    documents = some(20) | {"large": os.urandom(7 * 2**20)}
    await node.store_documents(documents)
    key = tmp_path / "backup.key"
    await in_thread(node.run, "backup", tmp_path / "backup", "--key", key)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "backup" / "objects").rglob("*") if p.is_file()}
    await in_thread(node.run, "backup", tmp_path / "backup", "--key", key)
    assert all(p.stat().st_mtime_ns == before[p] for p in before)
    await in_thread(target.run, "restore", tmp_path / "backup", "--key", key)
    assert await target.read_all() == documents
    assert (await in_thread(target.run, "verify")).exit_code == 0
    obstore.delete(documents_module.bucket(target.settings), target.rows()["large"].partition(":")[0])
    result = await in_thread(target.run, "verify")
    assert result.exit_code == 1
    assert result.stdout.startswith("large\t1.2.3\tmissing")


async def test_compaction_on_s3_deletes_old_objects_that_nobody_refers_to(s3_nodes):
    node, _ = s3_nodes
    documents = some(40, size=1000)
    await node.store_documents(documents)
    node.delete(list(documents)[::2])
    bucket = documents_module.bucket(node.settings)

    def count():
        return sum(len(page) for page in obstore.list(bucket))

    await in_thread(node.run, "documents", "compact")
    assert count() == 40  # too young
    await in_thread(node.run, "documents", "compact", "--safe-age-s", "0")
    assert count() == 20
    assert len(await node.read_all()) == 20


# keys ----------------------------------------------------------------------------------------------------------------


async def test_rotation_wraps_every_key_anew(node):
    documents = some(20)
    await node.store_documents(documents)
    await in_thread(node.run, "documents", "rotate-key")
    key_file = documents_module.master_key_file(node.settings)
    key_file.write_text("\n".join(line for line in key_file.read_text().splitlines() if not line.startswith("1 ")))
    assert await node.read_all() == documents


async def test_a_missing_master_key_is_not_replaced_when_documents_depend_on_it(node):
    await node.store_documents(some(1))
    documents_module.master_key_file(node.settings).unlink()
    with pytest.raises(Failure, match="missing"):
        documents_module.open_store(node.settings)
