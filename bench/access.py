"""Rows ``access``, ``access_others``, ``access_again``, ``access_timing``: what the filter of docs/access.md costs, and
that its times tell nothing.

They are measured on a node that only the bench can build: it enforces access, but not of what is asked under ``/open``.
Every caller is taken for one doctor whom all patients have chosen (with the cookie ``who=stranger``, for one whom none
has). Each patient has ten consents and five restrictions besides, which the bench writes into the tables.
"""

from __future__ import annotations

import http.client
import random
import statistics
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from bench import machine, messages
from bench.dataset import ENTRIES_PER_PATIENT, FIRST_NUMBER, FIRST_WITH_DOCUMENTS, FIRST_WITHOUT, KEY_FACTOR
from bench.load import Measured
from bench.messages import Message
from bench.node import Node, serve_built, start
from bench.rows import BENCHES, Row, Runner, Site
from obieg.actors import access_control
from obieg.domain.requester import Requester
from obieg.ops import wiring
from obieg.ops.settings import Settings
from obieg.protocol import Credentials

FIRST, OTHERS, AGAIN, TIMING = NAMES = ("access", "access_others", "access_again", "access_timing")
LEAST = 0.85  # of the throughput without the filter
MEDIANS_AT_MOST, AUC_WITHIN = 0.05, (0.45, 0.55)
_ITI18 = next(b for b in BENCHES if b.name == "iti18_leaf")
_NPWZ, _ENTITY = "2.16.840.1.113883.3.4424.1.6.2", "2.16.840.1.113883.3.4424.2.3.1"
_DOCTOR, _STRANGER = f"{_NPWZ}#7654321", f"{_NPWZ}#1234567"
_OPEN = "/open"


def _opened(message: Message) -> Message:
    return replace(message, path=_OPEN + message.path)


_SIDES = {
    "on": _ITI18,
    "off": replace(_ITI18, message=lambda identity: _opened(messages.find_documents(identity, "LeafClass"))),
}
_TURN_S = 2.0
_PATIENTS_AGAIN = 100  # about whom people ask again and again, as in a visit
_WHOSE = {
    FIRST: "of patients nobody has asked about",
    OTHERS: "of patients others have asked about",
    AGAIN: "of patients asked about before",
}
_DOUBLES = 9 * 10**17  # numbers of the documents that are restricted, one for each patient
_SAMPLES_A_SECOND = 125  # of each kind, for each second that a run of another row takes
_MISSING_PATIENT, _MISSING_NUMBER = 9_000_000, 8 * 10**17


class _Anybody:
    """Callers are the chosen doctor, or a stranger."""

    async def authenticate(self, credentials: Credentials) -> Requester:
        person = _STRANGER if "who=stranger" in credentials.cookie else _DOCTOR
        return Requester(
            system="bench", address=credentials.address, proof="saml", person=person, role="medical-doctor",
            organisation=f"{_ENTITY}#000000001", purpose_of_use="TREAT", repositories=None,
        )  # fmt: skip


class _Both:
    """A node that enforces access and, beside it in each worker, one that does not: under ``/open``."""

    def __init__(self, settings: Settings) -> None:
        self._on, self._off = _build(settings, enforced=True), _build(settings, enforced=False)
        self.mllp, self.background = self._on.mllp, self._on.background

    async def asgi(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["path"].startswith(_OPEN):
            await self._off.asgi({**scope, "path": scope["path"].removeprefix(_OPEN)}, receive, send)
        else:
            await self._on.asgi(scope, receive, send)

    async def open(self) -> None:
        await self._on.open()
        await self._off.open()

    async def close(self) -> None:
        await self._off.close()
        await self._on.close()


def build_access(settings: Settings) -> _Both:
    """A node for which every question about a patient is the first one."""
    access_control.KEPT_MAX = 0
    return build_access_again(settings)


def build_access_others(settings: Settings) -> _Both:
    """One that others have asked about every patient: it keeps facts, and decides each time."""
    access_control.DECISIONS_MAX = 0
    return build_access_again(settings)


def build_access_again(settings: Settings) -> _Both:
    """One that everybody has asked before, as it comes with keeping decisions."""
    wiring.LaboratoryAuthentication = _Anybody  # type: ignore[assignment,misc]
    return _Both(settings)


def _build(settings: Settings, *, enforced: bool) -> wiring.Node:
    limits = settings.limits.model_copy(update={"person_requests_per_second": 1_000_000})
    access = settings.access.model_copy(update={"enforced": enforced})
    return wiring.build(settings.model_copy(update={"limits": limits, "access": access}))


# what patients have said --------------------------------------------------------------------------------------------

# Permissions that name somebody else (five) and this doctor (five): each is looked at, half of them end in the filter.
_CONSENTS = """
SELECT p.key, 'Consent/bench-' || p.key || '-' || n, 'consent', json_build_array(json_build_object(
  'id', 'bench-' || n, 'period', json_build_object('begin', '2020-01-01T00:00:00Z'), 'provisions', json_build_array(
    json_build_object('permit', true,
                      'actors', json_build_array(CASE WHEN n > 5 THEN %(doctor)s::text ELSE '1.2.3#' || n END),
                      'condition', json_build_object('class_codes', json_build_array('class-' || n || '^^1.2.3'))))))
FROM patients p CROSS JOIN generate_series(1, 10) AS n
"""
# Restrictions of a document, a class, a label, an author and a time; only the first hides one, which is deprecated, so
# that both sides answer with the same documents.
_RESTRICTIONS = """
SELECT p.key, 'Consent/bench-deny-' || p.key || '-' || n, 'consent', json_build_array(json_build_object(
  'id', 'bench-deny-' || n, 'period', json_build_object('begin', '2020-01-01T00:00:00Z'),
  'provisions', json_build_array(json_build_object('permit', false, 'condition', CASE n
      WHEN 1 THEN json_build_object('documents', json_build_array('urn:uuid:' || p.restricted))
      WHEN 2 THEN json_build_object('class_codes', json_build_array('none^^1.2.3'))
      WHEN 3 THEN json_build_object('labels', json_build_array('ETH'))
      WHEN 4 THEN json_build_object('authors', json_build_array('1.2.3#nobody'))
      ELSE json_build_object('created_to', '19900101000000') END))))
FROM patients p CROSS JOIN generate_series(1, 5) AS n
"""
_DECLARATIONS = """
SELECT p.key, 'CareTeam/bench-' || p.key, 'declaration', json_build_array(json_build_object(
  'professional', %(doctor)s::text, 'kind', 'doctor', 'organisation', '', 'period', json_build_object()))
FROM patients p
"""
_PATIENTS = """
WITH patients AS MATERIALIZED (
  SELECT d.patient_key AS key, d.entry_uuid AS restricted FROM document_entry d
  WHERE d.patient_key BETWEEN %(first)s AND %(last)s AND d.status = 'D' AND d.unique_id LIKE %(doubles)s
)
"""
_STATED = "INSERT INTO access_fact (patient_key, source, version, kind, facts, recorded_at, recorded_by) "
_DOUBLE = """
INSERT INTO document_entry
SELECT (jsonb_populate_record(o.d, jsonb_build_object(
  'entry_uuid', u.uuid, 'logical_id', u.uuid, 'status', 'D', 'unique_id', %(root)s || u.number))).*
FROM (SELECT DISTINCT ON (e.patient_key) e AS d, e.patient_key FROM document_entry e
      WHERE e.patient_key BETWEEN %(first)s AND %(last)s ORDER BY e.patient_key, e.entry_uuid) o
CROSS JOIN LATERAL (SELECT %(number)s + o.patient_key / %(factor)s AS number,
                           md5('bench' || o.patient_key)::uuid AS uuid) u
"""
_DOUBLES_OF = """
FROM document_entry WHERE patient_key BETWEEN %(first)s AND %(last)s AND status = 'D' AND unique_id LIKE %(doubles)s
"""
_LOCATED = tuple(
    f"INSERT INTO {table} ({columns}, kind) SELECT {columns}, 'D' {_DOUBLES_OF}"
    for table, columns in (
        ("unique_id_locator", "unique_id, patient_key, entry_uuid"),
        ("object_locator", "patient_key, entry_uuid"),
    )
)


def prepare(dsn: str, size: int) -> None:
    """Writes what patients have said, unless it is there; the restricted document is found by its uniqueId, too."""
    root = messages.document_unique_id("")
    given: dict[str, Any] = {
        "first": FIRST_WITH_DOCUMENTS * KEY_FACTOR,
        "last": (FIRST_WITH_DOCUMENTS + size // ENTRIES_PER_PATIENT - 1) * KEY_FACTOR,
        "doctor": _DOCTOR,
        "root": root,
        "number": _DOUBLES,
        "factor": KEY_FACTOR,
        "doubles": f"{root}9%",
    }
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT count(*) FROM access_fact WHERE recorded_by = 'bench'").fetchone()
        if found and found[0]:
            return
        connection.execute(_DOUBLE.encode(), given)
        for locate in _LOCATED:
            connection.execute(locate.encode(), given)
        for said in (_DECLARATIONS, _CONSENTS, _RESTRICTIONS):
            statement = (
                f"{_PATIENTS} {_STATED} SELECT s.key, s.source, 1, s.kind, s.facts, now(), 'bench' FROM ({said}) "
            )
            connection.execute((statement + "AS s (key, source, kind, facts)").encode(), given)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE access_fact, document_entry, unique_id_locator, object_locator")


# the filter ----------------------------------------------------------------------------------------------------------


def measure(
    names: Sequence[str], folder: Path, size: int, *, seconds: float, runs: int, tell: Callable[[str], None]
) -> list[Row]:
    """The rows, from a folder whose node is loaded and does not run."""
    rows = []
    for name in _WHOSE:
        if name in names:
            with _started(name, folder, size) as node:
                rows.append(_measure_filter(name, node, size, seconds=seconds, runs=runs, tell=tell))
    if TIMING in names:
        with _started(AGAIN, folder, size) as node:
            for kind in _KINDS:
                rows.append(_measure_timing(kind, Site(node, size), seconds=seconds, runs=runs, tell=tell))
    return rows


@contextmanager
def _started(name: str, folder: Path, size: int) -> Iterator[Node]:
    with start(folder, module="bench.access", arguments=[name]) as node:
        prepare(node.dsn, size)
        yield node


def _measure_filter(name: str, node: Node, size: int, *, seconds: float, runs: int, tell: Callable[[str], None]) -> Row:
    """Both sides in turns, so short that what else the machine does meets both alike."""
    asked = size if name == FIRST else _PATIENTS_AGAIN * ENTRIES_PER_PATIENT
    runner = Runner(Site(node, asked), seconds=seconds, runs=runs, tell=tell)
    measured: dict[str, list[Measured]] = {side: [] for side in _SIDES}
    cpu: dict[str, dict[str, float]] = {side: dict.fromkeys(node.cpu_s(), 0.0) for side in _SIDES}
    for bench in _SIDES.values():
        runner.send(bench, max(1.0, seconds / 2), check=True)
    turns = max(1, round(runs * seconds / _TURN_S))
    for number in range(turns):
        tell(f"{name}: turn {number + 1} of {turns}")
        for side, bench in list(_SIDES.items())[:: 1 if number % 2 == 0 else -1]:
            before = node.cpu_s()
            measured[side].append(runner.send(bench, _TURN_S))
            for who, used in node.cpu_s().items():
                cpu[side][who] += used - before[who]
    on, off = measured.values()
    ratios = sorted(a.rate / b.rate for a, b in zip(on, off, strict=True))
    middle = statistics.median
    ratio = middle(ratios)
    requests = {side: sum(m.requests for m in found) for side, found in measured.items()}
    return Row(
        name=name,
        what=f"{_ITI18.what}, ten consents, five restrictions, {_WHOSE[name]}, beside the same without access control",
        value=round(middle(m.rate for m in on), 1),
        unit="1/s",
        reference=round(middle(m.rate for m in off), 1),
        ratio=round(ratio, 4),
        least=LEAST,
        aim=None,
        met=ratio >= LEAST,
        aim_met=None,
        details={
            "turns": turns,
            "half_of_ratios_within": [round(ratios[len(ratios) // 4], 4), round(ratios[-1 - len(ratios) // 4], 4)],
            "p50_ms": round(middle(m.p50_ms for m in on), 2),
            "p95_ms": round(middle(m.p95_ms for m in on), 2),
            "p99_ms": round(middle(m.p99_ms for m in on), 2),
            # Of workers and PostgreSQL for one request.
            "cpu_ms": {
                side: {who: round(1000 * used / requests[side], 3) for who, used in of_side.items()}
                for side, of_side in cpu.items()
            },
            "load_average": machine.load_average(),
        },
    )


# times ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """One request of a kind: as whom, and what is asked for."""

    message: Message
    stranger: bool
    patient: int
    number: int


def _patients(site: Site, draw: random.Random) -> dict[str, _Asked]:
    """FindDocuments: of somebody without documents, of somebody who may not be read, of nobody."""
    message = messages.find_documents(site.node.identity, "LeafClass")
    known = draw.randrange(FIRST_WITH_DOCUMENTS, FIRST_WITH_DOCUMENTS + site.size // ENTRIES_PER_PATIENT)
    return {
        "existing": _Asked(message, True, FIRST_WITHOUT + draw.randrange(5_000), 0),
        "restricted": _Asked(message, True, known, 0),
        "missing": _Asked(message, True, _MISSING_PATIENT + draw.randrange(500_000), 0),
    }


def _documents(site: Site, draw: random.Random) -> dict[str, _Asked]:
    """ITI-43: of somebody who may not be read, restricted by the patient, not there."""
    message = messages.retrieve(site.node.identity)
    patient = draw.randrange(FIRST_WITH_DOCUMENTS, FIRST_WITH_DOCUMENTS + site.size // ENTRIES_PER_PATIENT)
    return {
        "existing": _Asked(message, True, 0, FIRST_NUMBER + draw.randrange(site.size)),
        "restricted": _Asked(message, False, 0, _DOUBLES + patient),
        "missing": _Asked(message, False, 0, _MISSING_NUMBER + draw.randrange(10**12)),
    }


_KINDS: dict[str, Callable[[Site, random.Random], dict[str, _Asked]]] = {
    "patients": _patients,
    "documents": _documents,
}


def _measure_timing(kind: str, site: Site, *, seconds: float, runs: int, tell: Callable[[str], None]) -> Row:
    found = []
    draw = random.Random(time.time_ns())
    count = max(50, round(seconds * _SAMPLES_A_SECOND))
    _times(site, kind, 50, draw)
    for number in range(runs):
        tell(f"{TIMING} of {kind}: run {number + 1} of {runs}")
        found.append(_compared(_times(site, kind, count, draw)))
    differ = statistics.median(one["medians_differ"] for one in found)
    within = [all(AUC_WITHIN[0] <= auc <= AUC_WITHIN[1] for auc in one["auc"].values()) for one in found]
    # Most runs: one that met other work on the machine says nothing of the node.
    met = differ <= MEDIANS_AT_MOST and 2 * sum(within) > len(within)
    return Row(
        name=f"{TIMING}_{kind}",
        what=f"{kind} that exist, are restricted, are missing: how far the medians of their answers differ",
        value=round(100 * differ, 2),
        unit="%",
        reference=100 * MEDIANS_AT_MOST,
        ratio=round(differ / MEDIANS_AT_MOST, 4),
        least=None,
        aim=None,
        met=met,
        aim_met=None,
        at_most=1.0,
        details={"runs": found, "auc_within": list(AUC_WITHIN), "load_average": machine.load_average()},
    )


def _times(site: Site, kind: str, count: int, draw: random.Random) -> dict[str, list[float]]:
    """Seconds that answers took, by what was asked for, in an order that is drawn; all must be answered alike."""
    order = [what for what in ("existing", "restricted", "missing") for _ in range(count)]
    draw.shuffle(order)
    taken: dict[str, list[float]] = {}
    sizes: set[tuple[int, int]] = set()
    connection = http.client.HTTPConnection(*site.node.http, timeout=20)
    try:
        for what in order:
            asked = _KINDS[kind](site, draw)[what]
            path, body = asked.message.filled(asked.patient, asked.number)
            headers = {"Content-Type": asked.message.content_type}
            if asked.stranger:
                headers["Cookie"] = "who=stranger"
            began = time.perf_counter()
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
            taken.setdefault(what, []).append(time.perf_counter() - began)
            sizes.add((answer.status, len(said) // 100))
            if b"ExtrinsicObject" in said or b"ClinicalDocument" in said:
                raise RuntimeError(f"{kind} that are {what} were shown: {said[:500]!r}")
    finally:
        connection.close()
    if len({status for status, _ in sizes}) > 1 or max(s for _, s in sizes) - min(s for _, s in sizes) > 1:
        raise RuntimeError(f"{kind} are not answered alike: {sorted(sizes)}")
    return taken


def _compared(taken: dict[str, list[float]]) -> dict[str, Any]:
    medians = {what: statistics.median(times) for what, times in taken.items()}
    pairs = [("existing", "restricted"), ("existing", "missing"), ("restricted", "missing")]
    return {
        "median_ms": {what: round(1000 * median, 3) for what, median in medians.items()},
        "medians_differ": max(medians.values()) / min(medians.values()) - 1,
        "auc": {f"{one}-{other}": round(auc(taken[one], taken[other]), 4) for one, other in pairs},
    }


def auc(one: Sequence[float], other: Sequence[float]) -> float:
    """How likely a time of the first is longer than one of the second, ties by half (Mann and Whitney)."""
    ranked = sorted([(t, 0) for t in one] + [(t, 1) for t in other])
    total, at = 0.0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        rank = (at + 1 + end) / 2
        total += rank * sum(1 for _, side in ranked[at:end] if side == 0)
        at = end
    return (total - len(one) * (len(one) + 1) / 2) / (len(one) * len(other))


if __name__ == "__main__":
    serve_built("bench.access:build_{}")
