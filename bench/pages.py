"""Row ``pages``: what the pages of the portals cost beside bare Starlette pages of the same bytes from the same server.

The data are those of ``obieg demo``. Two hundred people are logged in before a run: patients, and doctors whom patients
have chosen. Each goes round three pages of their own over one connection. What the node answered once, its own workers
serve again as it was, below ``/bare/``, from an application that does nothing else.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench import machine
from bench.node import Node, serve_built, start
from bench.rows import Row
from obieg.actors.patient_sessions import cookie_name
from obieg.codes.load import toml
from obieg.ops import wiring
from obieg.ops.commands_node import SETTINGS_NAME
from obieg.ops.demo import LOADED_NAME
from obieg.ops.demo_facts import facts
from obieg.ops.demo_settings import HOSPITALS, REGION
from obieg.ops.people import OF_AGE, age
from obieg.ops.population import Person, demo_documents, people
from obieg.ops.settings import Settings
from obieg.web.areas import PROFESSIONALS
from obieg.web.kit import session_cookie

NAME = "pages"
PATIENTS, DOCTORS = 150, 50  # who is logged in
PAUSE_S = 10.0  # how long people look at a page, where they do
P95_AT_MOST_MS = 1_000.0  # of each kind of page, where they do
LEAST = 0.004  # of the throughput of bare pages, where they do not
BODIES, BARE = "bare-pages.json", "/bare/"
KINDS = ("home", "timeline", "document", "work_home", "work_record", "work_document")
_CLIENT = Path(__file__).with_name("visitors.py")
_DEMO_TIME_S, _START_TIME_S = 900, 60
_ANSWER_HEADERS = frozenset(("content-length", "connection", "date"))  # which the server says itself
_LICENCES = toml("national/pl/pik.toml")["roots"]["npwz_physician"]
_FIRST_LICENCE = 9_000_000
_ENTRY = re.compile(r"documents?[/=]([0-9a-f-]{36})")


_PDF = '/pdf"'  # where a page offers it the content of the document is shown


# the node -------------------------------------------------------------------------------------------------------------


class WithBare:
    """A region that serves bare pages besides."""

    def __init__(self, settings: Settings) -> None:
        self._node = wiring.build(settings)
        self._bodies = settings.data_dir / BODIES
        self._answers: list[Response] = []
        self._bare = Starlette(routes=[Route(f"{BARE}{{number:int}}", self._answer)])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    async def asgi(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        bare = scope["type"] == "http" and scope["path"].startswith(BARE)
        await (self._bare if bare else self._node.asgi)(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if not self._answers:
            self._answers = [Response(b.encode(), headers=h) for h, b in json.loads(self._bodies.read_bytes())]
        bare = self._answers[request.path_params["number"]]
        return Response(bare.body, headers=dict(bare.headers))


def build(settings: Settings) -> WithBare:
    """The demo's region, with bare pages."""
    return WithBare(settings)


# what is there --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Session:
    """Somebody who is logged in, and where they go: the kind of a page and its path."""

    cookie: str
    pages: Sequence[tuple[str, str]]


def demo(folder: Path, tell: Callable[[str], None]) -> Path:
    """The data of the demo, whose population is loaded."""
    data, ready = folder / "demo", folder / "demo.json"
    if (data / LOADED_NAME).exists():
        return data
    tell(f"{NAME}: loading the demo, which takes minutes")
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "obieg", "demo", "--headless", "--data", str(data), "--ready-file", str(ready)]
    with (folder / "demo.log").open("ab") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + _DEMO_TIME_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the demo did not start: {(folder / 'demo.log').read_text()[-2000:]}")
            time.sleep(0.5)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(120)
    return data


def patients(data: Path) -> list[Person]:
    """Adults of the demo who live and have a PESEL and documents that the region keeps, the most of them first."""
    loaded = json.loads((data / LOADED_NAME).read_text("utf-8"))
    persons = people(loaded["patients"], loaded["seed"])
    made = list(demo_documents(persons, loaded["documents"], loaded["seed"]))
    died = {person.number for person, _ in facts(persons, made, loaded["seed"]).deceased}
    elsewhere = {place.key for place in HOSPITALS}
    count = Counter(document.person.number for document in made if document.facility.key not in elsewhere)
    found = [p for p in persons if p.pesel and age(p) >= OF_AGE and p.number not in died and count[p.number]]
    return sorted(found, key=lambda person: (-count[person.number], person.number))


_PATIENT_SESSION = """
INSERT INTO patient_session (session_id, token, pesel, family_name, given_name, birth_date, issuer, assurance, name_id,
  session_index, address, agent, started_at, seen_at, until)
VALUES (gen_random_uuid(), %s, %s, %s, %s, %s, 'bench', 'high', '', '', '127.0.0.1', 'bench', now(), now(),
  now() + interval '8 hours')
"""
_DOCTOR = """
INSERT INTO person (person_id, login, name, identifier, created_at)
VALUES (gen_random_uuid(), %(login)s, %(name)s, %(identifier)s, now())
ON CONFLICT DO NOTHING
"""
_PLACE = """
INSERT INTO person_place (person_id, organisation, role, organisation_name)
SELECT p.person_id, w.organisation, 'medical-doctor', w.organisation_name
FROM person p CROSS JOIN (SELECT * FROM person_place WHERE role = 'medical-doctor' ORDER BY organisation LIMIT 1) w
WHERE p.identifier = %(identifier)s
ON CONFLICT DO NOTHING
"""
_SESSION = """
INSERT INTO session (session_id, token, person_id, method, started_at, seen_at, until, address, agent, organisation,
  role)
SELECT gen_random_uuid(), %(token)s, person_id, 'passkey', now(), now(), now() + interval '8 hours', '127.0.0.1',
  'bench', organisation, role
FROM person JOIN person_place USING (person_id) WHERE identifier = %(identifier)s
"""
_DECLARATION = """
INSERT INTO access_fact (patient_key, source, version, kind, facts, recorded_at, recorded_by)
SELECT patient_key, 'CareTeam/bench-' || %(identifier)s, 1, 'declaration', json_build_array(json_build_object(
  'professional', %(identifier)s::text, 'kind', 'doctor', 'organisation', '', 'period', json_build_object())),
  now(), 'bench'
FROM patient_locator WHERE value = %(pesel)s
ON CONFLICT DO NOTHING
"""
_ID = """
SELECT p.affinity_domain_id FROM patient p JOIN patient_locator l USING (patient_key) WHERE l.value = %s
"""


def log_in(node: Node, persons: Sequence[Person]) -> list[tuple[str, str]]:
    """New sessions, stored as logging in stores them; the cookie of each, and of doctors the id of a patient."""
    found = []
    with psycopg.connect(node.dsn) as connection:
        for number in range(PATIENTS + DOCTORS):
            person, token = persons[number % len(persons)], secrets.token_urlsafe(32)
            hashed = hashlib.sha256(token.encode()).digest()
            if number < PATIENTS:
                given = (hashed, person.pesel, person.family, " ".join(person.given), person.born)
                connection.execute(_PATIENT_SESSION, given)
                found.append((f"{cookie_name(secure=False)}={token}", ""))
                continue
            licence = _FIRST_LICENCE + number
            doctor = {
                "identifier": f"{_LICENCES}#{licence}", "login": f"bench-{number}", "name": f"lek. Maria Nowa {number}",
                "token": hashed, "pesel": person.pesel,
            }  # fmt: skip
            for statement in (_DOCTOR, _PLACE, _SESSION, _DECLARATION):
                connection.execute(statement, doctor)
            row = connection.execute(_ID, (person.pesel,)).fetchone()
            assert row is not None
            found.append((f"{session_cookie('http://')}={token}", row[0]))
    return found


def sessions(origin: tuple[str, int], people: Sequence[tuple[str, str]]) -> tuple[list[Session], list[Any]]:
    """Where each person goes, found as they would: by links. And what each page answered, headers and body.

    Documents are those that the region keeps itself: the hospitals of the demo do not run here.
    """
    found, answers = [], []
    asking = http.client.HTTPConnection(*origin, timeout=60)

    def page(path: str, cookie: str) -> tuple[int, dict[str, str], str]:
        headers = {"Host": f"localhost:{origin[1]}", "Cookie": cookie, "Accept-Language": "pl"}
        asking.request("GET", path, headers=headers)
        answer = asking.getresponse()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _ANSWER_HEADERS}
        return answer.status, kept, answer.read().decode()

    for number, (cookie, patient) in enumerate(people):
        home = "/work" if patient else "/patient"
        record = f"{PROFESSIONALS}/treatment/{patient}" if patient else "/patient/documents"
        listed = sorted(set(_ENTRY.findall(page(record, cookie)[2])))
        turned = [*listed[number % len(listed) :], *listed[: number % len(listed)]] if listed else []
        opened = (f"{record}/document/{each}" if patient else f"{record}/{each}" for each in turned)
        document = next((path for path in opened if _PDF in page(path, cookie)[2]), "")
        paths = (home, record, document)
        if not document:
            raise RuntimeError(f"{record} shows no document that can be opened")
        for path in paths:
            status, headers, said = page(path, cookie)
            if status != http.HTTPStatus.OK:
                raise RuntimeError(f"{path} was answered with {status}: {said[:2000]}")
            answers.append((headers, said))
        found.append(Session(cookie, list(zip(KINDS[3:] if patient else KINDS[:3], paths, strict=True))))
    asking.close()
    return found, answers


# measuring ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Visited:
    """One run."""

    waits: dict[str, list[float]]  # milliseconds, by kind
    took_s: float
    cpu_ms: dict[str, float]  # of one page, by process
    page_bytes: float

    @property
    def rate(self) -> float:
        return sum(map(len, self.waits.values())) / self.took_s

    def p95_ms(self) -> dict[str, float]:
        return {kind: round(_quantile(waits, 0.95), 1) for kind, waits in self.waits.items() if waits}


def _quantile(waits: Sequence[float], share: float) -> float:
    return sorted(waits)[int(len(waits) * share)]


def visit(node: Node, origin: tuple[str, int], given: Sequence[Session], seconds: float, *, pause_s: float) -> Visited:
    """All go round their pages for so long."""
    plan = node.folder / "visitors.json"
    listed = [{"cookie": session.cookie, "pages": list(session.pages)} for session in given]
    plan.write_text(json.dumps({"sessions": listed, "pause_s": pause_s, "seed": time.time_ns()}))
    before = node.cpu_s()
    command = [sys.executable, str(_CLIENT), str(plan), origin[0], str(origin[1]), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = node.cpu_s()
    if done.returncode:
        raise RuntimeError(f"visiting failed: {done.stderr[-2000:]}")
    said = json.loads(done.stdout)
    count = sum(map(len, said["waits"].values()))
    used = {who: after[who] - before[who] for who in after} | {"client": said["cpu_s"]}
    cpu = {who: 1000 * spent / count for who, spent in used.items()}
    return Visited(said["waits"], said["took_s"], cpu, said["received"] / count)


def bare(given: Sequence[Session]) -> list[Session]:
    """The same walks through the bare pages."""
    numbers = iter(range(sum(len(session.pages) for session in given)))
    return [Session(one.cookie, [(kind, f"{BARE}{next(numbers)}") for kind, _ in one.pages]) for one in given]


def measure(folder: Path, *, seconds: float, runs: int, tell: Callable[[str], None]) -> Row:
    """The row, from a folder of its own."""
    data = demo(folder, tell)
    settings = data / REGION / SETTINGS_NAME
    with start(folder, module="bench.pages", settings_file=settings) as node:
        tell(f"{NAME}: logging in")
        origin = ("127.0.0.1", node.settings.http.local_port)
        given, answers = sessions(origin, log_in(node, patients(data)))
        (node.settings.data_dir / BODIES).write_text(json.dumps(answers))
        visit(node, origin, bare(given), 1, pause_s=0)
        pages, bares, paced, bare_paced, records, loads = [], [], [], [], [], []
        for number in range(runs):
            tell(f"{NAME}: run {number + 1} of {runs}")
            mark = _recorded(node)
            pages.append(visit(node, origin, given, seconds, pause_s=0))
            records.append(_expect_recorded(pages[-1], _recorded(node) - mark))
            bares.append(visit(node, origin, bare(given), seconds, pause_s=0))
            paced.append(visit(node, origin, given, max(seconds, 2 * PAUSE_S), pause_s=PAUSE_S))
            bare_paced.append(visit(node, origin, bare(given), max(seconds, 2 * PAUSE_S), pause_s=PAUSE_S))
            loads.append(machine.load_average())
        resident = node.resident_bytes()
    middle = statistics.median
    ratios = [a.rate / b.rate for a, b in zip(pages, bares, strict=True)]
    ratio = middle(ratios)
    p95 = {kind: middle(one.p95_ms()[kind] for one in paced) for kind in KINDS}
    waits = [wait for one in paced for waits in one.waits.values() for wait in waits]
    met = ratio >= LEAST and max(p95.values()) <= P95_AT_MOST_MS
    return Row(
        name=NAME,
        what=f"pages of {PATIENTS} patients and {DOCTORS} doctors, beside bare pages of the same bytes",
        value=round(middle(one.rate for one in pages), 1),
        unit="1/s",
        reference=round(middle(one.rate for one in bares), 1),
        ratio=round(ratio, 4),
        least=LEAST,
        aim=None,
        met=met,
        aim_met=None,
        details={
            "ratios": [round(r, 4) for r in ratios],
            "p50_ms": round(_quantile(waits, 0.5), 1),
            "p95_ms": round(_quantile(waits, 0.95), 1),
            "p99_ms": round(_quantile(waits, 0.99), 1),
            "p95_ms_of": p95,
            "p95_ms_of_bare": {kind: middle(one.p95_ms()[kind] for one in bare_paced) for kind in KINDS},
            "p95_ms_at_most": P95_AT_MOST_MS,
            "pause_s": PAUSE_S,
            "p95_ms_without_pause": {kind: middle(one.p95_ms()[kind] for one in pages) for kind in KINDS},
            "rate_with_pause": round(middle(one.rate for one in paced), 1),
            "cpu_ms": {"pages": _cpu(pages), "bare": _cpu(bares)},
            "audit_records_of_a_page": round(middle(records), 2),
            "page_bytes": round(middle(one.page_bytes for one in pages)),
            "worker_resident_mib": round(resident / 2**20, 1),
            "load_average": loads,
        },
    )


def _cpu(visited: Sequence[Visited]) -> dict[str, float]:
    return {who: round(statistics.median(one.cpu_ms[who] for one in visited), 3) for who in visited[0].cpu_ms}


def _recorded(node: Node) -> int:
    with psycopg.connect(node.dsn) as connection:
        row = connection.execute("SELECT count(*) FROM audit_event").fetchone()
    return int(row[0]) if row else 0


def _expect_recorded(visited: Visited, records: int) -> float:
    """Audit records of a page; every page but those that show nobody must have left one."""
    count = {kind: len(waits) for kind, waits in visited.waits.items()}
    if records < sum(count.values()) - count["work_home"]:
        raise RuntimeError(f"{NAME}: {count} pages left {records} audit records")
    return records / sum(count.values())


if __name__ == "__main__":
    serve_built("bench.pages:build")
