"""What every document store does, run on segments and on an S3 server; then what only segments do."""

import asyncio
import errno
import hashlib
import os
import signal
import subprocess
import sys
import time

import httpx
import obstore
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obieg.domain.document_store import PIECE_SIZE_BYTES, DocumentDamagedError, DocumentMissingError
from obieg.domain.problems import RetryLater
from obieg.storage import machine
from obieg.storage.keys import KeyFile, create_key_file
from obieg.storage.machine import FolderInUseError, claim
from obieg.storage.objects import Objects, connect
from obieg.storage.sealed import plain_size, sealed_chunks, sealed_size
from obieg.storage.segments import HEADER_SIZE_BYTES, SUFFIX, Place, Segments, scan
from s3_server import s3_endpoint  # noqa: F401 - a fixture

MIB = PIECE_SIZE_BYTES
SIZES = [0, 1, 100_000, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 7]


@pytest.fixture
def wrapper(tmp_path):
    create_key_file(tmp_path / "master.key")
    return KeyFile(tmp_path / "master.key")


@pytest.fixture
def bucket(s3_endpoint, tmp_path):  # noqa: F811
    name = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:32]
    httpx.put(f"{s3_endpoint}/{name}").raise_for_status()
    return connect(f"s3://{name}/documents", endpoint=s3_endpoint, access_key="a", secret_key="b")


class SegmentsCase:
    def __init__(self, tmp_path, wrapper):
        self.folder = tmp_path / "segments"
        self.make = lambda: Segments(self.folder, wrapper, segment_size_bytes=8 * MIB)

    def stored(self, location):
        place = Place.parse(location)
        with (self.folder / (place.segment + SUFFIX)).open("rb") as file:
            file.seek(place.offset)
            return file.read(place.length)

    def tamper(self, location, content):
        place = Place.parse(location)
        with (self.folder / (place.segment + SUFFIX)).open("r+b") as file:
            file.seek(place.offset)
            file.write(content)
            if len(content) < place.length:
                file.truncate()


class ObjectsCase:
    def __init__(self, bucket, wrapper):
        self.bucket = bucket
        self.make = lambda: Objects(bucket, wrapper)

    def stored(self, location):
        return bytes(obstore.get(self.bucket, location.partition(":")[0]).bytes())

    def tamper(self, location, content):
        obstore.put(self.bucket, location.partition(":")[0], content)


@pytest.fixture(params=["segments", "s3"])
def case(request, tmp_path, wrapper):
    if request.param == "segments":
        return SegmentsCase(tmp_path, wrapper)
    return ObjectsCase(request.getfixturevalue("bucket"), wrapper)


@pytest.fixture
async def store(case):
    store = case.make()
    yield store
    await store.close()


async def in_chunks(data, size):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(store, appended):
    return [piece async for piece in store.read(appended.location, appended.wrapped_key)]


# every store ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_appended_is_read(store, size):
    data = os.urandom(size)
    whole = await store.append(data)
    streamed = await store.append(in_chunks(data, 300_000))
    for appended in (whole, streamed):
        assert (appended.size, appended.sha256) == (size, hashlib.sha256(data).digest())
        pieces = await read(store, appended)
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= MIB
    if size <= MIB:
        assert await store.read_whole(whole.location, whole.wrapped_key) == data
    else:
        with pytest.raises(ValueError):
            await store.read_whole(whole.location, whole.wrapped_key)


async def test_the_same_bytes_twice_are_two_documents(store):
    first, second = await store.append(b"same"), await store.append(b"same")
    assert first.location != second.location
    with pytest.raises(DocumentDamagedError):
        await store.read_whole(first.location, second.wrapped_key)


async def test_many_at_once(store):
    documents = [os.urandom(n * 13_000) for n in range(100)]
    appended = await asyncio.gather(*map(store.append, documents))
    for document, place in zip(documents, appended, strict=True):
        assert b"".join(await read(store, place)) == document


async def test_nothing_of_the_document_is_stored_in_the_clear(store, case):
    appended = await store.append(b"Kowalska" * 1000)
    assert b"Kowalska" not in case.stored(appended.location)


@pytest.mark.parametrize("size", [0, 5000, 2 * MIB + 5])
async def test_every_flipped_bit_is_noticed(store, case, size):
    appended = await store.append(os.urandom(size))
    stored = case.stored(appended.location)
    for at in {0, 7, 12, 17, 30, len(stored) // 2, len(stored) - 1} & set(range(len(stored))):
        broken = bytearray(stored)
        broken[at] ^= 1
        case.tamper(appended.location, bytes(broken))
        with pytest.raises(DocumentDamagedError):
            await read(store, appended)
    case.tamper(appended.location, stored)
    assert sum(map(len, await read(store, appended))) == size


@pytest.mark.parametrize("cut", [1, 5, MIB, MIB + 16, 2 * MIB])
async def test_a_truncated_document_is_noticed_and_only_whole_chunks_come_out(store, case, cut):
    data = os.urandom(2 * MIB + 5)
    appended = await store.append(data)
    case.tamper(appended.location, case.stored(appended.location)[:-cut])
    seen = bytearray()

    async def read_until_it_breaks():
        async for piece in store.read(appended.location, appended.wrapped_key):
            seen.extend(piece)

    with pytest.raises(DocumentDamagedError):
        await read_until_it_breaks()
    assert len(seen) % MIB == 0
    assert data.startswith(seen)


async def test_chunks_in_another_order_are_noticed(store, case):
    appended = await store.append(os.urandom(3 * MIB))
    stored = case.stored(appended.location)
    head, step = len(stored) - sealed_size(3 * MIB), MIB + 16
    swapped = (
        stored[:head] + stored[head + step : head + 2 * step] + stored[head : head + step] + stored[head + 2 * step :]
    )
    case.tamper(appended.location, swapped)
    with pytest.raises(DocumentDamagedError):
        await read(store, appended)


async def test_a_wrong_key_opens_nothing(store, tmp_path):
    appended = await store.append(b"x" * 100)
    create_key_file(tmp_path / "other.key")
    with pytest.raises(DocumentDamagedError):
        await store.read_whole(appended.location, KeyFile(tmp_path / "other.key").wrap(bytes(32)))


@pytest.mark.parametrize(
    "location", ["", "x", "../x:0:100", "0123456789abcdef-7:0:100", f"aa/{'aa' * 16}:100", "a:b:c", "zz/zz:100"]
)
async def test_what_is_not_there_is_missing(store, wrapper, location):
    with pytest.raises(DocumentMissingError):
        await store.read_whole(location, wrapper.wrap(bytes(32)))


async def test_a_sender_that_breaks_off_leaves_nothing_and_hinders_nobody(store):
    async def breaking():
        yield os.urandom(2 * MIB)
        raise ConnectionResetError("sender is gone")

    for _ in range(3):
        with pytest.raises(ConnectionResetError, match="sender is gone"):
            await store.append(breaking())
    appended = await store.append(os.urandom(3 * MIB))
    assert sum(map(len, await read(store, appended))) == 3 * MIB


async def test_a_cancelled_append_hinders_nobody(store):
    data = os.urandom(5 * MIB)
    for _ in range(5):
        task = asyncio.create_task(store.append(data))
        await asyncio.sleep(0.003)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    kept = [await store.append(data[: n * MIB + n]) for n in range(5)]
    for n, appended in enumerate(kept):
        assert b"".join(await read(store, appended)) == data[: n * MIB + n]


async def test_another_process_reads_it(store, case):
    appended = await store.append(in_chunks(bytes(2 * MIB), MIB))
    other = case.make()
    assert sum(map(len, await read(other, appended))) == 2 * MIB
    await other.close()


# sizes around the edges ----------------------------------------------------------------------------------------------

edges = st.one_of(
    st.integers(0, 5000), st.builds(lambda n, d: max(0, n * MIB + d), st.integers(0, 4), st.integers(-40, 40))
)


@given(edges)
def test_sizes(size):
    sealed = sealed_size(size)
    assert plain_size(sealed) == size
    chunks = list(sealed_chunks(sealed))
    assert sum(length for _, _, length, _ in chunks) == sealed
    assert [last for *_, last in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [number for number, *_ in chunks] == list(range(len(chunks)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=edges, step=st.integers(1, 2 * MIB), seed=st.binary(max_size=8))
def test_any_size_in_any_chunks(tmp_path, wrapper, size, step, seed):
    data = (hashlib.sha512(seed).digest() * (size // 64 + 1))[:size]

    async def run():
        store = Segments(tmp_path / "segments", wrapper, segment_size_bytes=8 * MIB)
        appended = await store.append(in_chunks(data, max(step, size // 1000)))
        assert appended.sha256 == hashlib.sha256(data).digest()
        assert b"".join(await read(store, appended)) == data
        await store.close()

    asyncio.run(run())


# segments ------------------------------------------------------------------------------------------------------------


async def test_segments_are_rolled_and_scanned_without_the_database(tmp_path, wrapper):
    store = Segments(tmp_path / "s", wrapper, segment_size_bytes=MIB)
    locations = {(await store.append(os.urandom(size))).location for size in [300_000] * 10 + [0, 3 * MIB, 3 * MIB]}
    await store.close()
    segments = list((tmp_path / "s").glob("*" + SUFFIX))
    assert len(segments) >= 4
    assert {str(place) for path in segments for place in scan(path)} == locations


async def test_one_fdatasync_serves_many_documents(tmp_path, wrapper, monkeypatch):
    calls = 0
    real = os.fdatasync

    def slow(descriptor):
        nonlocal calls
        calls += 1
        time.sleep(0.02)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    store = Segments(tmp_path / "s", wrapper)
    await asyncio.gather(*(store.append(b"document %d" % n) for n in range(200)))
    await store.close()
    assert 1 <= calls <= 4


async def test_the_loop_does_not_wait_for_the_disk(tmp_path, wrapper, monkeypatch):
    monkeypatch.setattr(os, "fdatasync", lambda _: time.sleep(0.2))
    store = Segments(tmp_path / "s", wrapper)
    appending = asyncio.create_task(store.append(b"x"))
    worst = 0.0
    while not appending.done():
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        worst = max(worst, time.perf_counter() - before)
    await store.close()
    assert worst < 0.1


async def test_a_new_segments_name_is_durable_before_its_first_document(tmp_path, wrapper, monkeypatch):
    order = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("folder"), real(fd)))
    store = Segments(tmp_path / "s", wrapper)
    await store.append(b"x")
    order.append("first")
    await store.append(b"x")
    order.append("second")
    await store.close()
    assert order == ["folder", "first", "second"]


async def test_a_failed_sync_is_not_an_acknowledgement_and_the_segment_is_abandoned(tmp_path, wrapper, monkeypatch):
    store = Segments(tmp_path / "s", wrapper)
    good = await store.append(b"good")

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        for _ in range(20):
            with pytest.raises(RetryLater, match="Input/output"):
                await store.append(b"lost")
    assert len(list((tmp_path / "s").glob("*" + SUFFIX))) <= 3
    monkeypatch.setattr("obieg.storage.segments._PAUSE_AFTER_FAILURE_S", 0)
    store._retry_at = 0
    after = await store.append(b"after")
    assert Place.parse(after.location).segment != Place.parse(good.location).segment
    for appended, data in ((good, b"good"), (after, b"after")):
        assert await store.read_whole(appended.location, appended.wrapped_key) == data
    await store.close()


async def test_a_full_disk_is_answered_later(tmp_path, wrapper, monkeypatch):
    store = Segments(tmp_path / "s", wrapper)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwritev", full)
        with pytest.raises(RetryLater, match="No space"):
            await store.append(b"small")
        with pytest.raises(RetryLater, match="No space"):
            await store.append(bytes(3 * MIB))
    await store.close()


async def test_a_write_that_is_cut_short_is_finished(tmp_path, wrapper, monkeypatch):
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, buffers, at: real(fd, [b"".join(buffers)[:10]], at))
    store = Segments(tmp_path / "s", wrapper)
    appended = await asyncio.gather(*(store.append(bytes([n]) * 1000) for n in range(20)))
    for n, place in enumerate(appended):
        assert await store.read_whole(place.location, place.wrapped_key) == bytes([n]) * 1000
    await store.close()


async def test_a_document_that_is_not_in_the_page_cache_is_read(tmp_path, wrapper, monkeypatch):
    store = Segments(tmp_path / "s", wrapper)
    appended = await store.append(b"cold")

    def cold(*_):
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", cold)
    assert await store.read_whole(appended.location, appended.wrapped_key) == b"cold"
    await store.close()


async def test_a_segment_that_was_deleted_is_let_go_of(tmp_path, wrapper):
    store = Segments(tmp_path / "s", wrapper, segment_size_bytes=1000)
    first, second = await store.append(bytes(900)), await store.append(bytes(900))
    await store.read_whole(first.location, first.wrapped_key)
    name = Place.parse(first.location).segment
    (tmp_path / "s" / (name + SUFFIX)).unlink()
    # Readers that hold the location still get the document, until the store notices.
    assert await store.read_whole(first.location, first.wrapped_key) == bytes(900)
    await store.read_whole(second.location, second.wrapped_key)
    with pytest.raises(DocumentMissingError):
        await store.read_whole(first.location, first.wrapped_key)
    await store.close()


@pytest.mark.parametrize("size", [10, MIB, 3 * MIB + 1])
async def test_a_copy_is_the_same_document_elsewhere(tmp_path, wrapper, size):
    store = Segments(tmp_path / "s", wrapper)
    data = os.urandom(size)
    appended = await store.append(data)
    moved = await store.copy(appended.location)
    assert moved != appended.location
    assert b"".join(await read(store, appended._replace(location=moved))) == data
    await store.close()


def test_another_machine_is_refused(tmp_path, monkeypatch):
    claim(tmp_path).close()
    monkeypatch.setattr(machine, "_machine_id", lambda: "other")
    with pytest.raises(FolderInUseError, match="s3"):
        claim(tmp_path)
    (tmp_path / machine.MARKER).unlink()
    claim(tmp_path).close()


def test_a_clone_of_this_machine_is_refused_while_this_one_works_and_a_reboot_is_not(tmp_path, monkeypatch):
    here = claim(tmp_path)
    also_here = claim(tmp_path)
    monkeypatch.setattr(machine, "_boot_id", lambda: "another kernel")
    with pytest.raises(FolderInUseError, match="another machine"):
        claim(tmp_path)
    here.close()
    also_here.close()
    claim(tmp_path).close()


def test_alone(tmp_path):
    here = claim(tmp_path)
    with pytest.raises(FolderInUseError, match="stop the node"):
        claim(tmp_path, alone=True)
    here.close()
    alone = claim(tmp_path, alone=True)
    alone.close()


APPENDER = """
import asyncio, os, sys
from pathlib import Path
from obieg.storage.keys import KeyFile
from obieg.storage.segments import Segments

async def main():
    folder = Path(sys.argv[1])
    store = Segments(folder / "s", KeyFile(folder / "master.key"), segment_size_bytes=4 << 20)
    async def client(number):
        while True:
            data = os.urandom(2 << 20 if number == 0 else 20_000)
            done = await store.append(data)
            line = f"{done.location} {done.wrapped_key.hex()} {done.sha256.hex()}\\n"
            os.write(1, line.encode())
    await asyncio.gather(*map(client, range(8)))

asyncio.run(main())
"""


def append_until_killed(folder, seconds):
    process = subprocess.Popen([sys.executable, "-c", APPENDER, str(folder)], stdout=subprocess.PIPE)
    lines = [process.stdout.readline()]
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()
    return [line.split() for line in lines if line.endswith(b"\n")]


async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path, wrapper):
    acknowledged = []
    for round_ in range(8):
        acknowledged += await asyncio.to_thread(append_until_killed, tmp_path, 0.02 + 0.03 * round_)
    store = Segments(tmp_path / "s", wrapper)
    assert len(acknowledged) > 50
    seen = {str(place) for path in (tmp_path / "s").glob("*" + SUFFIX) for place in scan(path)}
    for location, key, sha256 in acknowledged:
        digest = hashlib.sha256()
        async for piece in store.read(location.decode(), bytes.fromhex(key.decode())):
            digest.update(piece)
        assert digest.hexdigest() == sha256.decode()
        assert location.decode() in seen
    # A torn tail is ignored, and new documents go elsewhere.
    for path in (tmp_path / "s").glob("*" + SUFFIX):
        places = list(scan(path))
        with path.open("ab") as file:
            file.write(os.urandom(HEADER_SIZE_BYTES // 2))
        assert list(scan(path)) == places
    appended = await store.append(b"after")
    assert Place.parse(appended.location).offset == 0
    await store.close()
