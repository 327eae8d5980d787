"""A region and a facility as real processes, the link between them, and peers that talk to both."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import peer
import psycopg
from link_proxy import Link

import commanding
from obieg.domain.affinity_domain import polish_document
from obieg.ops import settings as node_settings
from obieg.ops.postgres import Server

HOST = "127.0.0.1"
# The addresses by which the region tells its callers apart.
FACILITY_ADDRESS, HOSPITAL_ADDRESS, STRANGER_ADDRESS = "127.0.0.2", "127.0.0.3", "127.0.0.9"
HOSPITAL_REPOSITORY = "2.25.4711"  # of a node that is only an address here: it registers, and stores elsewhere
START_TIME_S = 60
CODES = peer.Codes(polish_document())
TEXT_FORMAT = ("urn:ihe:iti:xds:2017:mimeTypeSufficient", "1.3.6.1.4.1.19376.1.2.3")


def free_port() -> int:
    """A port outside the range from which the system takes those of outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    return False


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Process:
    """One node, started and killed as often as a test likes."""

    def __init__(self, folder: Path, role: Any, **tables: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.settings = folder / "settings.toml"
        self.ready_file = folder / "ready.json"
        self.log = folder / "node.log"
        self.port, self.mllp_port = free_port(), free_port()
        text = node_settings.write_commented(
            role,
            name=folder.name,
            data_dir=".",
            http={"host": HOST, "port": self.port},
            mllp={"host": HOST, "port": self.mllp_port, "enabled": role == "region"},
            **tables,
        )
        self.settings.write_text(text)
        self.endpoints: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._server = Server(folder / "postgres")

    # running

    def launch(self) -> None:
        """Starts the supervisor, without waiting for it."""
        self.ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "obieg", "serve", "--settings", self.settings, "--ready-file", self.ready_file]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=peer.free_environment()
            )

    def wait_until_ready(self) -> None:
        process = self._process
        assert process is not None
        peer.wait_for(lambda: self.ready_file.exists() or process.poll() is not None, START_TIME_S)
        assert process.poll() is None, self.last_words()
        self.endpoints = peer.read_ready(self.ready_file)

    def start(self) -> None:
        self.launch()
        self.wait_until_ready()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            assert self._process.wait(60) == 0, self.last_words()

    def end(self) -> None:
        """Leaves nothing running."""
        self.kill_supervisor()
        if (pid := self._server.pid) is not None:
            kill(pid)

    def last_words(self) -> str:
        return self.log.read_text("utf-8", "replace")[-8000:]

    # killing

    @property
    def supervisor(self) -> int:
        return self._process.pid if self._process is not None else 0

    def workers(self) -> list[int]:
        """Process ids."""
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.supervisor}/task/{self.supervisor}/children").read_text().split()
            return [int(pid) for pid in children if _is_worker(int(pid))]
        return []

    def kill_workers(self, count: int = 64) -> int:
        """How many there were to be killed."""
        found = self.workers()[:count]
        for pid in found:
            kill(pid)
        return len(found)

    def kill_supervisor(self) -> None:
        """Its workers die with it; its database server does not."""
        workers = self.workers()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        peer.wait_for(lambda: not any(map(alive, workers)))

    def kill_postmaster(self) -> None:
        pid = self._server.pid
        assert pid is not None
        kill(pid)
        peer.wait_for(lambda: not alive(pid))

    def kill_backend(self) -> None:
        """One of the processes of PostgreSQL that serve the node."""

        def one() -> int | None:
            with contextlib.suppress(psycopg.Error):
                rows = self.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'obieg' ORDER BY random()")
                return rows[0][0] if rows else None
            return None

        kill(peer.wait_for(one))

    def command(self, *arguments: str | Path) -> str:
        """Runs ``obieg ARGUMENTS`` with the node's settings; what it said."""
        done = commanding.obieg(*arguments, "--settings", self.settings, environment=peer.free_environment())
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    # what it keeps

    @property
    def dsn(self) -> str:
        return self._server.dsn

    def rows(self, query: str, *parameters: Any) -> list[Any]:
        with psycopg.connect(self.dsn, connect_timeout=10) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def waiting(self) -> int:
        """Pending submissions."""
        return int(self.rows("SELECT count(*) FROM pending_submission")[0][0])


def _is_worker(pid: int) -> bool:
    try:
        return b"obieg.ops.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class Pair:
    """Both nodes and the link."""

    def __init__(self, folder: Path, like: Pair | None = None) -> None:
        """``like``: the nodes whose names these have, too."""
        self.identity = [node_settings.new_oid() for _ in range(4)] if like is None else like.identity
        community, authority, region_repository, self.facility_repository = self.identity
        self.region = Process(
            folder / "region",
            "region",
            identity={
                "home_community_id": community,
                "repository_unique_id": region_repository,
                "assigning_authority": authority,
            },
            nodes=[
                {"name": "szpital", "address": FACILITY_ADDRESS, "repository_unique_id": self.facility_repository},
                {"name": "drugi szpital", "address": HOSPITAL_ADDRESS, "repository_unique_id": HOSPITAL_REPOSITORY},
                {"name": "karmienie", "address": HOST, "repository_unique_id": "2.25.4712"},
            ],
        )
        self.link_port = free_port()
        self.link = Link(self.link_port, (HOST, self.region.port))
        self.facility = Process(
            folder / "facility",
            "facility",
            lab=True,  # so that whoever stands in for the hospital's own systems may call it
            identity={
                "home_community_id": community,
                "repository_unique_id": self.facility_repository,
                "assigning_authority": authority,
            },
            registry={
                "register_url": f"http://{HOST}:{self.link_port}/services/register",
                "query_url": f"http://{HOST}:{self.link_port}/services/registry",
                "source_address": FACILITY_ADDRESS,
            },
        )
        self._peers: list[Peer] = []

    def start(self) -> None:
        for node in (self.region, self.facility):
            node.launch()
        for node in (self.region, self.facility):
            node.wait_until_ready()

    def end(self) -> None:
        for one in self._peers:
            one.close()
        self.link.close()
        for node in (self.facility, self.region):
            node.end()

    def at_facility(self) -> Peer:
        """A peer of the facility."""
        return self._peer(self.facility, HOST)

    def at_region(self, address: str = HOSPITAL_ADDRESS) -> Peer:
        """A peer of the region that calls from ``address``."""
        return self._peer(self.region, address)

    def _peer(self, node: Process, address: str) -> Peer:
        found = Peer(node.endpoints, address)
        self._peers.append(found)
        return found

    def settled(self, seconds: float = 60) -> None:
        """Waits until nothing waits at the facility."""
        peer.wait_for(lambda: not self.facility.waiting(), seconds)


class Peer(peer.Node):
    """A peer that calls from one address."""

    def __init__(self, endpoints: dict[str, str], address: str) -> None:
        super().__init__(endpoints, CODES)
        self.http.close()
        self.http = httpx.Client(timeout=60, transport=httpx.HTTPTransport(local_address=address, verify=False))

    def text(self, patient: str, content: bytes, **changes: Any) -> Any:
        """A plain text document."""
        return self.entry(patient, content=content, format_code=TEXT_FORMAT, **changes)

    def symbolic(self, patient: str, *contents: bytes) -> Sent:
        """An ITI-41 request whose ids are symbols, as most sources send them."""
        entries = [self.text(patient, c, id=f"Document{i:02}", repository="") for i, c in enumerate(contents, 1)]
        members = [
            peer.association("HasMember", "SubmissionSet01", e.id, status="Original", id=f"as{i:02}")
            for i, e in enumerate(entries, 1)
        ]
        return Sent(self, self.submission(patient, *entries, id="SubmissionSet01", member=False, associations=members))

    def exactly(self, patient: str, *entries: Any, **more: Any) -> Sent:
        """An ITI-41 request with the ids of ``entries``."""
        return Sent(self, self.submission(patient, *entries, **more))

    def sets(self, patient: str) -> list[str]:
        """uniqueIds of the submission sets found."""
        answer = self.query(
            "FindSubmissionSets", XDSSubmissionSetPatientId=peer.quoted(patient)[1:-1],
            XDSSubmissionSetStatus=peer.quoted(peer.APPROVED),
        )  # fmt: skip
        assert answer.status == "Success", answer.errors or answer.fault
        return sorted(peer.identifier_of(s, "setUnique") for s in answer.sets)


class Sent:
    """One ITI-41 request, the same bytes however often it is sent."""

    def __init__(self, node: Peer, submission: peer.Submission) -> None:
        self.node = node
        self.submission = submission
        names = {e.id: f"part{i}@peer" for i, e in enumerate(submission.entries)}
        body = submission.provided("".join(peer.include(e, name) for e, name in names.items()))
        self._action = peer.ACTIONS["repository"]
        self._content = peer.package(
            peer.envelope(self._action, body), [(names[e.id], e.content) for e in submission.entries]
        )

    @property
    def unique_ids(self) -> list[str]:
        return sorted(e.unique_id for e in self.submission.entries)

    def by(self, node: Peer) -> Sent:
        """The same request on another connection."""
        found = copy.copy(self)
        found.node = node
        return found

    def send(self) -> peer.Answer:
        return self.node.post("repository", self._content, peer.package_type(self._action))


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came to pass in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
