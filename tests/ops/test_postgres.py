"""The embedded server: started, stopped, killed, adopted, refused."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from obieg.ops.accounts import run_as, server_account
from obieg.ops.failure import Failure
from obieg.ops.postgres import SOCKET_PATH_BYTES_MAX, Server, reach

pytestmark = pytest.mark.node


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "pg")
    yield server
    if server.pid is not None:
        server.stop()


def show(dsn, name):
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT current_setting(%s)", [name]).fetchone()[0]


def test_started_tuned_private_and_stopped(server):
    dsn = server.start()
    wanted = {
        "listen_addresses": "", "fsync": "on", "synchronous_commit": "on", "jit": "off", "data_checksums": "on",
        "server_encoding": "UTF8", "lc_collate": "C", "random_page_cost": "1.1", "password_encryption": "scram-sha-256",
    }  # fmt: skip
    with psycopg.connect(dsn) as connection:
        found = {name: connection.execute("SELECT current_setting(%s, true)", [name]).fetchone()[0] for name in wanted}
        collation = connection.execute("SELECT datcollate FROM pg_database WHERE datname = 'obieg'").fetchone()[0]
    assert found | {"lc_collate": collation} == wanted
    for folder in (server.data, server.folder / "socket"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((server.folder / "pgpass").stat().st_mode) == 0o600
    assert "password" not in dsn.replace("passfile", "")
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0
    server.stop()
    assert server.pid is None
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)


def test_password_is_needed(server):
    dsn = server.start()
    host = psycopg.conninfo.conninfo_to_dict(dsn)["host"]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=host, user="obieg", dbname="obieg", passfile="/dev/null")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=host, user="obieg", dbname="obieg", password="guess")


def test_data_survive_a_restart_and_a_power_cut(server):
    with psycopg.connect(server.start()) as connection:
        connection.execute("CREATE TABLE kept (n integer)")
    server.stop()
    with psycopg.connect(server.start()) as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
    server.kill()
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(1,)]


def test_left_behind_server_is_adopted(server):
    start = (
        "import os, sys; from pathlib import Path; from obieg.ops.postgres import Server;"
        "Server(Path(sys.argv[1])).start(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", start, server.folder]).returncode == 9
    left = server.pid
    assert left is not None
    dsn = server.start()
    assert server.pid == left
    assert show(dsn, "fsync") == "on"


def begin(server):
    """A start that nobody waits for, as far as its pid file."""
    start = [server.bin_dir / "pg_ctl", "start", "-D", server.data, "-l", server.folder / "log" / "start.log", "-s"]
    begun = subprocess.Popen(start, **run_as(server_account()))
    while server.pid is None and begun.poll() is None:
        time.sleep(0.001)
    return begun


def test_a_start_meets_one_that_a_killed_supervisor_had_begun(server, monkeypatch):
    """The loser of two starts takes the server that the other one starts."""
    server.start()
    server.stop()
    begun = []

    def look_and_be_overtaken():
        begun.append(begin(server))

    monkeypatch.setattr(server, "_check_binaries", look_and_be_overtaken)
    dsn = server.start()
    assert [process.wait() for process in begun] == [0]
    assert show(dsn, "data_checksums") == "on"


def test_who_is_told_to_end_while_it_starts_leaves_nothing_behind(server, monkeypatch):
    make = server._make_database

    def make_and_be_told():
        os.kill(os.getpid(), signal.SIGINT)
        make()

    monkeypatch.setattr(server, "_make_database", make_and_be_told)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            server.start()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert server.pid is None
    monkeypatch.undo()
    assert show(server.start(), "fsync") == "on", "the folder is free"


def test_second_start_on_the_same_folder_is_refused(server):
    server.start()
    with pytest.raises(Failure, match=f"process {os.getpid()}.*already runs on") as refused:
        Server(server.folder).start()
    assert refused.value.exit_code == 3
    assert server.pid is not None


@pytest.mark.parametrize("pid", ["another's", "nobody's", "nonsense"])
def test_stale_pid_file(server, pid):
    server.start()
    lines = (server.data / "postmaster.pid").read_text().splitlines()
    server.stop()
    lines[0] = {"another's": str(os.getpid()), "nobody's": "999999", "nonsense": "x"}[pid]
    (server.data / "postmaster.pid").write_text("\n".join(lines) + "\n")
    assert server.pid is None
    assert show(server.start(), "fsync") == "on"


def test_a_pid_file_that_took_the_place_of_a_stale_one_stays(server, monkeypatch):
    """Between the look at it and its removal another start, of a killed supervisor, may have got as far."""
    server.start()
    file = server.data / "postmaster.pid"
    lines = file.read_text().splitlines()
    server.stop()
    file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    names_another, begun = server._names_another, []

    def look_and_be_overtaken(lines):
        found = names_another(lines)
        file.unlink()
        begun.append(begin(server))
        return found

    monkeypatch.setattr(server, "_names_another", look_and_be_overtaken)
    dsn = server.start()
    assert [process.wait() for process in begun] == [0]
    assert file.read_text().splitlines()[0] == str(server.pid)
    assert not list(server.data.glob("*.stale"))
    assert show(dsn, "data_checksums") == "on"


def test_long_path_gets_its_socket_elsewhere(tmp_path):
    server = Server(tmp_path / ("x" * SOCKET_PATH_BYTES_MAX))
    try:
        host = psycopg.conninfo.conninfo_to_dict(server.start())["host"]
        assert len(host) < SOCKET_PATH_BYTES_MAX
        assert stat.S_IMODE(Path(host).stat().st_mode) == 0o700
    finally:
        server.stop()
    assert not Path(host).exists()


def test_half_made_cluster_is_made_anew(server):
    (server.folder / "data.new").mkdir(parents=True)
    (server.folder / "data.new" / "PG_VERSION").write_text("17\n")
    assert show(server.start(), "fsync") == "on"


def test_other_major_version_is_said(server):
    server.start()
    server.stop()
    (server.data / "PG_VERSION").write_text("13\n")
    with pytest.raises(Failure, match="made by PostgreSQL 13"):
        server.start()


def test_second_start_is_quick(server):
    server.start()
    server.stop()
    began = time.monotonic()
    server.start()
    assert time.monotonic() - began < 15  # 0.4 s where nothing else runs; a bound only against hanging


def test_reach_uses_what_runs_and_starts_what_does_not(server):
    with pytest.raises(Failure, match="no database"), reach("", server.folder):
        pass
    server.start()
    with reach("", server.folder) as dsn:
        assert show(dsn, "fsync") == "on"
    assert server.pid is not None
    server.stop()
    with reach("", server.folder) as dsn:
        assert show(dsn, "fsync") == "on"
    assert server.pid is None
    with reach("host=elsewhere", server.folder) as dsn:
        assert dsn == "host=elsewhere"
