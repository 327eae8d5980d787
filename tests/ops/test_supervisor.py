"""The supervisor and its workers, as real processes on real sockets, with a node that does nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from obieg.ops import settings as node_settings
from obieg.ops.postgres import Server

pytestmark = pytest.mark.node

START = """
import sys
from pathlib import Path
from obieg.ops.settings import load
from obieg.ops.supervisor import serve
serve(load(Path(sys.argv[1])), settings_file=Path(sys.argv[1]), ready_file=Path(sys.argv[2]), builder=sys.argv[3])
"""
WAIT_S = 30


class Running:
    def __init__(self, folder, builder="fake_node:build"):
        self.ready_file = folder / "ready.json"
        self.log = folder / "log"
        command = [sys.executable, "-c", START, folder / "settings.toml", self.ready_file, builder]
        with self.log.open("ab") as log:
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def ready(self):
        wait_for(lambda: self.ready_file.exists() or self.process.poll() is not None)
        assert self.ready_file.exists(), self.log.read_text()
        self.endpoints = json.loads(self.ready_file.read_text())
        return self

    def get(self, path="/", **kwargs):
        return httpx.get(self.endpoints["base_url"] + path, timeout=10, **kwargs)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


def wait_for(condition, limit=WAIT_S):
    deadline = time.monotonic() + limit
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return result


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def folder(tmp_path):
    text = node_settings.write_commented(
        "region",
        data_dir="data",
        workers=2,
        http={"port": 0},
        mllp={"port": 0},
        identity={"home_community_id": "1.2.1", "repository_unique_id": "1.2.2", "assigning_authority": "1.2.3"},
        limits={"header_time_s": 2, "idle_time_s": 2, "drain_time_s": 5, "header_bytes_max": 8192},
    )
    (tmp_path / "settings.toml").write_text(text)
    return tmp_path


@pytest.fixture
def node(folder):
    running = Running(folder)
    yield running.ready()
    if running.process.poll() is None:
        running.stop()
    server = Server(folder / "data" / "postgres")
    if server.pid:
        server.kill()


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory):
    """For tests that leave the node as it was."""
    folder = tmp_path_factory.mktemp("node")
    text = node_settings.write_commented(
        "region",
        data_dir="data",
        http={"port": 0},
        mllp={"port": 0},
        identity={"home_community_id": "1.2.1", "repository_unique_id": "1.2.2", "assigning_authority": "1.2.3"},
        limits={"header_time_s": 1, "idle_time_s": 1, "header_bytes_max": 8192},
    )
    (folder / "settings.toml").write_text(text)
    running = Running(folder).ready()
    yield running
    assert running.stop() == 0


def connect(node, which="base_url"):
    host, port = node.endpoints[which].removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def workers(node):
    found = set()
    for _ in range(200):
        found.add(node.get().json()["pid"])
        if len(found) == 2:
            break
    return found


def test_ready_file_names_everything(shared_node):
    endpoints = shared_node.endpoints
    assert all(type(value) is str for value in endpoints.values())
    base = endpoints["base_url"]
    for name in ("registry", "register", "repository", "retrieve"):
        assert endpoints[name] == f"{base}/services/{name}"
    assert endpoints["repository_uid"] == "1.2.2"
    assert endpoints["home_community_id"] == "1.2.1"
    assert endpoints["assigning_authority"] == "1.2.3"
    assert endpoints["pid"] == str(shared_node.process.pid)
    assert endpoints["mllp"].startswith("127.0.0.1:")
    assert shared_node.get().json()["public_url"] == base
    assert shared_node.get().json()["opened"]


def test_both_workers_serve_and_say_nothing_of_themselves(shared_node):
    assert len(workers(shared_node)) == 2
    headers = shared_node.get().headers
    assert "server" not in headers
    assert "date" not in headers


def test_head_over_limit_is_431(shared_node):
    assert shared_node.get(headers={"x-long": "a" * 9000}).status_code == 431
    with connect(shared_node) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx-endless: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                connection.sendall(b"a" * 1000)
                time.sleep(0.005)
        assert connection.recv(100).startswith(b"HTTP/1.1 431")


def test_slow_head_is_408(shared_node):
    with connect(shared_node) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_silent_body_is_cut(shared_node):
    with connect(shared_node) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""


def test_mllp_is_served(shared_node):
    with connect(shared_node, "mllp") as connection:
        connection.sendall(b"hello\n")
        assert connection.recv(100) == b"hello\n"


def test_one_worker_leads(shared_node):
    leaders = shared_node.ready_file.parent / "data" / "leaders"
    wait_for(leaders.exists)
    time.sleep(0.5)
    assert len(leaders.read_text().split()) == 1


def test_second_node_on_the_same_folder_is_refused(shared_node):
    second = subprocess.run(
        [sys.executable, "-c", START, shared_node.ready_file.parent / "settings.toml", "/nonexistent", "x:y"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "already runs on" in second.stderr
    assert shared_node.get().status_code == 200


def test_killed_worker_comes_back(node):
    before = workers(node)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not alive(victim))
    # Callers of the dead worker's socket wait for the next worker; none is refused.
    for _ in range(30):
        assert node.get().status_code == 200
    after = workers(node)
    assert len(after) == 2
    assert victim not in after
    assert after & before


def test_sigterm_ends_running_requests_first(node):
    answers = []
    asking = threading.Thread(target=lambda: answers.append(node.get("/slow").status_code))
    asking.start()
    feed = connect(node, "mllp")
    feed.sendall(b"slow\n")
    time.sleep(0.5)
    pids = workers(node)
    assert node.stop() == 0
    asking.join()
    assert answers == [200]
    assert feed.recv(100) == b"slow\n"
    assert feed.recv(100) == b""
    feed.close()
    assert not node.ready_file.exists()
    assert not any(alive(pid) for pid in pids)
    assert Server(node.ready_file.parent / "data" / "postgres").pid is None
    assert node.log.read_text().count("closed\n") == 2


def test_sigint_stops_and_second_start_keeps_the_data(node, folder):
    assert node.stop(signal.SIGINT) == 0
    again = Running(folder).ready()
    assert again.get().status_code == 200
    assert "migration applied" not in again.log.read_text().split("embedded PostgreSQL stopped")[1]
    assert again.stop() == 0


def test_who_is_told_to_end_again_and_again_stops_its_database(node, folder):
    """As a child is by the kernel for each thread of a parent that dies."""
    while node.process.poll() is None:
        node.process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
    assert "embedded PostgreSQL stopped" in node.log.read_text()
    assert Server(folder / "data" / "postgres").pid is None


def test_sighup_is_passed_on(node):
    node.process.send_signal(signal.SIGHUP)
    wait_for(lambda: node.get().json()["reloaded"] == 1)


def test_killed_supervisor_takes_its_workers_along_and_the_next_adopts_the_database(node, folder):
    pids = workers(node)
    server = Server(folder / "data" / "postgres")
    postmaster = server.pid
    node.process.kill()
    node.process.wait()
    wait_for(lambda: not any(alive(pid) for pid in pids))
    assert server.pid == postmaster
    node.ready_file.unlink()
    again = Running(folder).ready()
    assert server.pid == postmaster
    assert again.stop() == 0
    assert server.pid is None


def test_node_that_cannot_be_built_fails_clearly(folder):
    running = Running(folder, "fake_node:build_broken")
    assert running.process.wait(WAIT_S) == 1
    said = running.log.read_text()
    assert "this node cannot be built" in said
    assert "before it was ready" in said
    assert not running.ready_file.exists()
    assert Server(folder / "data" / "postgres").pid is None


def test_port_in_use_is_said(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = (folder / "settings.toml").read_text()
        text = text.replace("port = 0", f"port = {taken.getsockname()[1]}", 1)
        (folder / "settings.toml").write_text(text)
        running = Running(folder)
        assert running.process.wait(WAIT_S) == 1
        assert "cannot be listened on" in running.log.read_text()
