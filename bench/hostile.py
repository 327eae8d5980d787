"""Rows ``hostile_…``: what a hostile client costs a good one beside what a well-behaved client costs it.

Three clients, all on one node. The *good* one is wrk with ITI-18 (the row ``iti18_leaf``) over 16 connections; its
throughput is what is measured. The *hostile* one has 8 connections and goes round the cases of tests/hostile
(``tests/hostile/kinds.py``), in a mixed order that never changes, each run where the last one stopped; it waits for
nothing but the node; only a slow case it gives up after two seconds, since the node, with its ordinary settings, gives
it longer than a run lasts, and eight cases would be all that were ever sent. In ``hostile_all`` each kind has two of
the eight connections to itself: otherwise the slow cases would soon hold all of them, and nothing would be measured.

The *well-behaved* one has 8 connections too and sends **the same number of bytes**: what the hostile one sent is
written down, for each message when it began and how many of its bytes the node's side took (acknowledged by TCP: a
message that is refused at its head is not counted whole), and the well-behaved one sends at the same times messages of
the same sizes. Each is an ITI-41 whose document fills it, or, where it is too small for that, an ITI-18 with as much
white space between its elements; bytes too few for a question count towards the next message. So it sends as many
bytes, as evenly, in at most as many messages: what differs is only whether they are hostile. Many small messages in
place of one large one would cost the node far more and make the comparison easier; they are not sent. Where the node
cannot answer so many valid messages, the well-behaved client falls behind (``bytes_per_s``), which also makes the
comparison harder, not easier.

Both are one program (``bench/caller.py``), started alike, which makes no message while it runs, so what the client
itself takes of the processors (``client_cpu``) is about the same on both sides, and no more than it must be. It is not
taken out of the result: a client on another machine would let the node do more on both sides.

Memory: before any hostile message is sent, and with the good client warmed up, what each worker holds is noted; the
growth is the highest peak of a worker in any hostile run, and while the cases are checked, above that.
"""

from __future__ import annotations

import importlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import machine, messages
from bench.dataset import ENTRIES_PER_PATIENT, FIRST_WITH_DOCUMENTS, FIRST_WITHOUT, PATIENTS_WITHOUT
from bench.load import CONNECTIONS as GOOD_CONNECTIONS
from bench.load import Measured
from bench.messages import NUMBER_MARK, PATIENT_MARK, Identity
from bench.rows import BENCHES, Row, Runner, Site
from obieg.domain.affinity_domain import polish_document

KINDS = ("xml", "mime", "compression", "slow")
_ALL = "hostile_all"
NAMES = (*(f"hostile_{kind}" for kind in KINDS), _ALL)
LEAST = 0.8
GROWTH_MAX_MIB = 256
CONNECTIONS = 8
_GOOD = next(b for b in BENCHES if b.name == "iti18_leaf")
_LEAD_S = 0.5  # how long before and after the good client the other one is at work
_ANSWER_S = 5.0  # that a check waits for
_MORE_RUNS = 10  # times as many as were asked for, until every case was sent
_SLOW_S = 2.0  # that a slow case lasts
_SEED = 616
_FIRST_NUMBER = 2 * 10**17  # of the documents that the well-behaved client provides; a time in 10 us is added
_CALLER = Path(__file__).with_name("caller.py")
_TESTS = Path(__file__).resolve().parents[1] / "tests" / "hostile"
_SMALLEST_DOCUMENT_BYTES = 1_000

Case = tuple[int, int, int, float | None, float | None]  # as bench/caller.py has it
Log = Sequence[tuple[float, int, int, float]]  # when a message began, its bytes, its number, how long it took
Planned = tuple[float, str, int]  # when a message begins, its kind, its bytes


class Measurement:
    """The rows of one node, which nobody else asks meanwhile."""

    def __init__(
        self, site: Site, runner: Runner, field: Any, *, seconds: float, runs: int, tell: Callable[[str], None]
    ) -> None:
        self._site = site
        self._runner = runner
        self._seconds = seconds
        self._runs = runs
        self._tell = tell
        self._data = site.folder / "hostile"
        self._cases: list[Any] = []  # kinds.Hostile; its number is its place
        self._by_kind: dict[str, list[int]] = {}
        self._plans: dict[str, list[Case]] = {}
        self._field = field
        self._make()
        runner.send(_GOOD, max(1.0, seconds / 2), check=True)
        self._before = site.node.resident_by_worker()
        self._otherwise: dict[str, list[str]] = {}
        self._peak: dict[str, int] = {}
        self._templates = well_behaved(site.node.identity, site.size)

    # what is sent ---------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        """Writes all cases one after another into a file."""
        kinds = importlib.import_module("kinds").KINDS
        assert set(kinds) == set(KINDS)
        at = 0
        with self._data.open("wb") as file:
            for kind in KINDS:
                made = kinds[kind](self._field)
                self._by_kind[kind] = list(range(len(self._cases), len(self._cases) + len(made)))
                plan: list[Case] = []
                for number, case in zip(self._by_kind[kind], made, strict=True):
                    file.write(case.data)
                    most_s = _SLOW_S if kind == "slow" else None
                    plan.append((number, at, len(case.data), case.pause_s, most_s))
                    at += len(case.data)
                random.Random(_SEED).shuffle(plan)
                self._plans[kind] = plan
                self._cases += made

    def _check(self, kind: str) -> None:
        """Sends each case once and alone: what the node answers must be no failure of its own.

        A slow case has no answer of use before the node's time is up; the tests prove what it is. The node of the bench
        has its ordinary limits, so a few cases that are too large for the node of the tests are not so here; they are
        named in the row and sent all the same.
        """
        if kind in self._otherwise or kind == "slow":
            return
        self._tell(f"hostile: checking {len(self._by_kind[kind])} cases of {kind}")
        leaks = importlib.import_module("field").LEAKS
        otherwise: list[str] = []
        self._site.node.forget_peaks()
        for number in self._by_kind[kind]:
            case = self._cases[number]
            answer = self._field.raw(case.data, timeout=_ANSWER_S)
            summary = case.summary(answer)
            if summary.startswith("500") or leaks.search(answer):
                raise RuntimeError(f"the node failed at {case.name}: {answer[:1000]!r}")
            if not case.expected(answer):
                otherwise.append(f"{case.name}: {summary}")
        self._note_peak(f"hostile_{kind}")
        self._otherwise[kind] = otherwise

    def _hostile(self, name: str, at: Sequence[int]) -> dict[str, Any]:
        kinds = self._kinds(name)
        lanes = [
            {"connections": CONNECTIONS // len(kinds), "cases": self._plans[kind], "first": first}
            for kind, first in zip(kinds, at, strict=True)
        ]
        return {"data": str(self._data), "lanes": lanes}

    def _kinds(self, name: str) -> tuple[str, ...]:
        return KINDS if name == _ALL else (name.removeprefix("hostile_"),)

    # one side -------------------------------------------------------------------------------------------------------

    def _beside(self, plan: dict[str, Any]) -> tuple[Measured, dict[str, Any], dict[str, float]]:
        """The good client while another one plays ``plan``; what that one says; processor time of one second."""
        path, node = self._site.folder / "plan.json", self._site.node
        path.write_text(json.dumps(plan))
        lasts = max(1, round(self._seconds)) + 2 * _LEAD_S
        command = [sys.executable, "-I", str(_CALLER), str(path), node.http[0], str(node.http[1]), str(lasts)]
        caller = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            time.sleep(_LEAD_S)
            before = node.cpu_s()
            measured = self._runner.send(_GOOD, self._seconds)
            after = node.cpu_s()
            said, trouble = caller.communicate(timeout=60)
        finally:
            if caller.poll() is None:
                caller.kill()
                caller.communicate()
        if caller.returncode:
            raise RuntimeError(f"the other client failed: {trouble[-3000:]}")
        found: dict[str, Any] = json.loads(said)
        share = {who: (after[who] - before[who]) / measured.took_s for who in after}
        share["client"] = found["cpu_s"] / found["took_s"]
        return measured, found, share

    def _note_peak(self, name: str) -> None:
        """Keeps how far a worker has grown since the last call of ``forget_peaks``."""
        peaks = self._site.node.peak_by_worker()
        if peaks.keys() != self._before.keys():
            raise RuntimeError("a worker has ended while hostile messages were sent")
        grown = max(peak - self._before[worker] for worker, peak in peaks.items())
        self._peak[name] = max(grown, self._peak.get(name, 0))

    # rows -----------------------------------------------------------------------------------------------------------

    def measure(self, name: str) -> list[Row]:
        """The row of the throughput and the row of the memory."""
        kinds = self._kinds(name)
        for kind in kinds:
            self._check(kind)
        at = [0 for _ in kinds]
        rounds: list[dict[str, Any]] = []
        missing = {number for kind in kinds for number in self._by_kind[kind]}
        while len(rounds) < self._runs or missing:
            if len(rounds) == _MORE_RUNS * self._runs:
                raise RuntimeError(f"after {len(rounds)} runs {len(missing)} cases were not sent: take more --seconds")
            self._tell(
                f"{name}: run {len(rounds) + 1} (of {self._runs} or more), {len(missing)} cases still to be sent"
            )
            alone = self._runner.send(_GOOD, self._seconds)
            self._site.node.forget_peaks()
            hostile, sent, share = self._beside(self._hostile(name, at))
            self._note_peak(name)
            at, lag = sent["at"], self._site.node.loop_lag_s()
            missing -= {entry[2] for entry in sent["log"]}
            planned = list(replayed(sent["log"], self._templates["question"]["bytes"], self._smallest()))
            good, well, share_well = self._beside({"lanes": [self._well_behaved(planned)]})
            rounds.append(
                {"alone": alone, "hostile": hostile, "sent": sent, "share": share, "lag": lag, "well": good,
                 "well_sent": well, "share_well": share_well, "planned": planned, "load": machine.load_average()}
            )  # fmt: skip
        return [self._row(name, rounds), self._memory_row(name)]

    def _smallest(self) -> int:
        return int(self._templates["document"]["bytes"]) + _SMALLEST_DOCUMENT_BYTES

    def _well_behaved(self, planned: Sequence[Planned]) -> dict[str, Any]:
        return self._templates | {
            "connections": CONNECTIONS,
            "messages": planned,
            "longest": max((size for _, _, size in planned), default=0),
            "number": _FIRST_NUMBER + time.time_ns() // 10_000,
        }

    def _row(self, name: str, rounds: Sequence[dict[str, Any]]) -> Row:
        middle = statistics.median
        kinds = self._kinds(name)
        ratios = [r["hostile"].rate / r["well"].rate for r in rounds]
        ratio = middle(ratios)
        longest: dict[int, float] = {}
        for _, _, number, took in (entry for r in rounds for entry in r["sent"]["log"]):
            longest[number] = max(took, longest.get(number, 0))

        def per_second(side: str, what: Callable[[Log], float]) -> float:
            return round(middle(what(r[side]["log"]) / r[side]["took_s"] for r in rounds), 1)

        def lowered(side: str) -> float:
            return round(middle(1 - r[side].rate / r["alone"].rate for r in rounds), 4)

        connections = f"{GOOD_CONNECTIONS} connections, beside a hostile client of {CONNECTIONS}"
        return Row(
            name=name,
            what=f"ITI-18 over {connections} ({', '.join(kinds)}), and beside a well-behaved one of as many bytes",
            value=round(middle(r["hostile"].rate for r in rounds), 1),
            unit="1/s",
            reference=round(middle(r["well"].rate for r in rounds), 1),
            ratio=round(ratio, 4),
            least=LEAST,
            aim=None,
            met=ratio >= LEAST,
            aim_met=None,
            details={
                "ratios": [round(r, 4) for r in ratios],
                "values": [round(r["hostile"].rate, 1) for r in rounds],
                "references": [round(r["well"].rate, 1) for r in rounds],
                "alone": [round(r["alone"].rate, 1) for r in rounds],
                "lowered_by": {"hostile": lowered("hostile"), "well_behaved": lowered("well")},
                "p50_ms": round(middle(r["hostile"].p50_ms for r in rounds), 2),
                "p95_ms": round(middle(r["hostile"].p95_ms for r in rounds), 2),
                "p99_ms": round(middle(r["hostile"].p99_ms for r in rounds), 2),
                "loop_lag_ms": round(max(r["lag"] for r in rounds) * 1000, 1),
                "bytes_per_s": {"hostile": per_second("sent", _bytes), "well_behaved": per_second("well_sent", _bytes)},
                "messages_per_s": {"hostile": per_second("sent", len), "well_behaved": per_second("well_sent", len)},
                "cases": sum(len(self._by_kind[kind]) for kind in kinds),
                "answered_otherwise": [one for kind in kinds for one in self._otherwise.get(kind, [])],
                "longest_s": {
                    self._cases[number].name: round(took, 2)
                    for number, took in sorted(longest.items(), key=lambda pair: -pair[1])[:5]
                },
                "cpu": {who: round(middle(r["share"][who] for r in rounds), 2) for who in rounds[0]["share"]},
                "client_cpu": {
                    "hostile": round(middle(r["share"]["client"] for r in rounds), 3),
                    "well_behaved": round(middle(r["share_well"]["client"] for r in rounds), 3),
                },
                "load_average": [r["load"] for r in rounds],
            },
        )

    def _memory_row(self, name: str) -> Row:
        names = {name, *(f"hostile_{kind}" for kind in self._kinds(name))}
        grown = max(self._peak.get(n, 0) for n in names) / 2**20
        return Row(
            name=f"{name}_memory",
            what="how far a worker grows meanwhile, beside what it may",
            value=round(grown, 1),
            unit="MiB",
            reference=GROWTH_MAX_MIB,
            ratio=round(grown / GROWTH_MAX_MIB, 4),
            least=None,
            aim=None,
            met=grown < GROWTH_MAX_MIB,
            aim_met=None,
            at_most=1.0,
            details={"before_mib": {str(w): round(b / 2**20, 1) for w, b in self._before.items()}},
        )


def _bytes(log: Log) -> int:
    return sum(entry[1] for entry in log)


def replayed(log: Iterable[tuple[float, int, int, float]], question: int, document: int) -> Iterator[Planned]:
    """What a well-behaved client sends in place of ``log``: at the same times messages of the same sizes.

    ``question`` is the least size of a question, ``document`` that of a message that brings a document.
    """
    owed = 0
    for began, size, _, _ in sorted(log):
        owed += size
        if owed >= question:
            yield began, "document" if owed >= document else "question", owed
            owed = 0


def well_behaved(identity: Identity, entries: int) -> dict[str, Any]:
    """The two requests of a well-behaved client, for ``bench/caller.py``."""
    begun, closed, ended = (
        messages.find_documents(identity, "LeafClass").http().partition(b"</query:AdhocQueryRequest>")
    )
    asked = (FIRST_WITH_DOCUMENTS, FIRST_WITH_DOCUMENTS + entries // ENTRIES_PER_PATIENT - 1)
    provide, document = messages.provide(identity).http(), messages.document(0)
    before, after = provide.split(document)
    noise = document[document.index(b"<text>") + len(b"<text>") : document.index(b"</text>")].decode()
    opening = f'<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"><!-- {NUMBER_MARK} -->'
    return {
        "question": _template(begun, closed + ended, asked, filler=" "),
        "document": _template(
            before + f"{opening}<text>".encode(), b"</text></ClinicalDocument>" + after,
            (FIRST_WITHOUT, FIRST_WITHOUT + PATIENTS_WITHOUT - 1), filler=noise,
        ),
        "patient_mark": PATIENT_MARK,
        "number_mark": NUMBER_MARK,
    }  # fmt: skip


def _template(before: bytes, after: bytes, patients: tuple[int, int], *, filler: str) -> dict[str, Any]:
    head, _, body = before.partition(b"\r\n\r\n")
    lines, _, _ = head.rpartition(b"Content-Length: ")
    return {
        "head": f"{lines.decode()}Content-Length: ",
        "before": body.decode(),
        "after": after.decode(),
        "bytes": len(before) + len(after),
        "patients": patients,
        "filler": filler,  # between the two, as much as is wanted
    }


@contextmanager
def prepared(site: Site) -> Iterator[Any]:
    """The node of the bench as tests/hostile knows one: with the patients and documents that its cases are about."""
    sys.path.insert(0, str(_TESTS))
    field = importlib.import_module("field")
    peer = importlib.import_module("peer")
    node = peer.Node(json.loads(site.node.ready_file.read_bytes()), peer.Codes(polish_document()))
    found = field.prepared(node)
    try:
        yield found
    finally:
        found.close()
        node.close()
