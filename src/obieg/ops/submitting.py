"""Hands documents in, several at a time, so that it can be repeated: what is registered already is left alone.

Theory of operation. First, questions about many documents at a time tell which are surely new; the others are asked
for one by one. Each document's patient is announced (ITI-8) and their affinity-domain id learnt (ITI-9), once for a
patient; then the document is provided (ITI-41). A document that replaces another of the same run waits for it: the run
is ordered so that the one waited for is taken up earlier, and nobody waits in vain. Nothing is kept here between runs;
the registry is the only memory.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from functools import partial
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from obieg.codes import load
from obieg.domain.documents import AvailabilityStatus, DocumentEntry
from obieg.domain.issuing import Claims
from obieg.domain.problems import Problem, RetryLater
from obieg.mapping.pik import Described, submission
from obieg.ops.exchange import UNIQUE_IDS_MAX, Exchange
from obieg.protocol import Content

JOBS = 4  # documents at a time
ATTEMPTS_MAX = 4
PAUSE_S = 0.5  # before the second attempt; doubled from attempt to attempt

PESEL_ROOT: str = load.toml("national/pl/pik.toml")["roots"]["pesel"]
T = TypeVar("T")


class Outcome(StrEnum):
    """What became of a document."""

    NEW = "new"
    REPLACED = "replaced"  # an earlier version
    SKIPPED = "skipped"  # registered already
    REFUSED = "refused"
    LEFT = "left"  # not tried: the run was interrupted


class Item(NamedTuple):
    """A document to be handed in; its entry lacks only the patient id."""

    name: str  # for people: the file
    described: Described
    content: Content
    by: Claims | None = None  # who asks the registry about it; None: whoever hands in


class Result(NamedTuple):
    """What became of one document, and why."""

    name: str
    outcome: Outcome
    reason: str = ""


class Submitter:
    """Hands in the items of one run."""

    def __init__(
        self, exchange: Exchange, *, jobs: int = JOBS, done: Callable[[Result], None] = lambda _: None
    ) -> None:
        """``done`` is told of every document as soon as it is decided."""
        self._exchange = exchange
        self._jobs = jobs
        self._done = done
        self._patients: dict[tuple[str, ...], asyncio.Task[str]] = {}
        self._ended: dict[str, asyncio.Event] = {}  # by uniqueId, of this run
        self._results: list[Result] = []
        self.stopping = False  # set it to end after the documents that are under way

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """What became of each. Raises RetryLater when the registry cannot even be asked what is there."""
        ordered = list(self._ordered(items))
        asking: dict[Claims | None, list[str]] = {}
        for item in ordered:
            asking.setdefault(item.by, []).append(_unique_id(item))
        new = {one for by, unique_ids in asking.items() for one in await self._surely_new(unique_ids, by)}
        self._ended = {_unique_id(item): asyncio.Event() for item in ordered}
        queue = iter(ordered)

        async def work() -> None:
            for item in queue:
                if self.stopping:
                    self._decide(item, Outcome.LEFT)
                else:
                    await self._handle(item, surely_new=_unique_id(item) in new)
                self._ended[_unique_id(item)].set()

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._jobs):
                    group.create_task(work())
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        return self._results

    async def _surely_new(self, unique_ids: Sequence[str], by: Claims | None) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(unique_ids), UNIQUE_IDS_MAX):
            some = unique_ids[start : start + UNIQUE_IDS_MAX]
            if not await self._exchange.any_registered(some, by):
                found.update(some)
        return found

    def _decide(self, item: Item, outcome: Outcome, reason: str = "") -> None:
        result = Result(item.name, outcome, reason)
        self._results.append(result)
        self._done(result)

    def _ordered(self, items: Sequence[Item]) -> Iterable[Item]:
        """Every uniqueId once, what is replaced before what replaces it."""
        first: dict[str, Item] = {}
        for item in items:
            earlier = first.setdefault(_unique_id(item), item)
            if earlier is item:
                continue
            if earlier.described.entry.hash == item.described.entry.hash:
                self._decide(item, Outcome.SKIPPED, f"the same document as {earlier.name}")
            else:
                self._decide(item, Outcome.REFUSED, f"another document than {earlier.name}, with the same uniqueId")
        placed: set[str] = set()
        for start in first:
            stack = [start]
            while stack:
                unique_id = stack[-1]
                before = [
                    r for r in first[unique_id].described.replaces if r in first and r not in placed and r not in stack
                ]
                if before and unique_id not in placed:
                    stack.append(before[0])
                    continue
                stack.pop()
                if unique_id not in placed:
                    placed.add(unique_id)
                    yield first[unique_id]

    async def _handle(self, item: Item, *, surely_new: bool) -> None:
        try:
            self._decide(item, *(None if surely_new else await self._known(item)) or await self._provide(item))
        except Problem as problem:
            self._decide(item, Outcome.REFUSED, said(problem))
        except RetryLater as error:
            self._decide(item, Outcome.REFUSED, f"no answer, try again: {error}")

    async def _known(self, item: Item) -> tuple[Outcome, str] | None:
        """What becomes of a document because its uniqueId is registered; None where it is not."""
        unique_id = _unique_id(item)
        entries = await _patiently(lambda: self._exchange.registered(unique_id, item.by))
        if not entries:
            return None
        if any(entry.hash in (None, item.described.entry.hash) for entry in entries):
            return Outcome.SKIPPED, ""
        return Outcome.REFUSED, f"registered already with other content: {unique_id}"

    async def _provide(self, item: Item) -> tuple[Outcome, str]:
        described = item.described
        patient_id = await self._patient(described.entry)
        replaced, missing = await self._replaced(described, item.by)
        entry = replace(
            described.entry,
            patient_id=patient_id,
            source_patient_id=described.entry.source_patient_id or patient_id,
        )
        described = Described(entry, replace(described.submission_set, patient_id=patient_id), described.replaces)
        message = submission(described, new_uuid=uuid.uuid4, replaced=replaced)
        await _patiently(lambda: self._exchange.provide(message, {entry.entry_uuid: item.content}))
        note = f"replaces {', '.join(missing)}, which is not registered here" if missing else ""
        return (Outcome.REPLACED if replaced else Outcome.NEW), note

    async def _replaced(self, described: Described, by: Claims | None) -> tuple[list[str], list[str]]:
        """The entryUUIDs of the approved versions that the document replaces, and the uniqueIds nobody knows."""
        own = described.entry.unique_id
        wanted = [unique_id for unique_id in described.replaces if unique_id != own]
        for unique_id in wanted:
            if unique_id in self._ended:
                await self._ended[unique_id].wait()
        approved: list[str] = []
        missing: list[str] = []
        for unique_id in wanted:
            found = await _patiently(partial(self._exchange.registered, unique_id, by))
            standing = [e.entry_uuid for e in found if e.availability_status is AvailabilityStatus.APPROVED]
            approved += standing
            if not found:
                missing.append(unique_id)
            elif not standing:
                raise Problem.of(
                    "XDSReplaceFailed",
                    "the document that it replaces has been replaced by another already; correct the newest one",
                    unique_id,
                )
        return approved, missing

    async def _patient(self, entry: DocumentEntry) -> str:
        """The patient's id in the affinity domain; each patient is announced once in a run."""
        info = tuple(line for line in entry.source_patient_info if line != "PID-8|U")
        task = self._patients.get(info)
        if task is None:
            task = self._patients[info] = asyncio.create_task(_patiently(lambda: announced(self._exchange, info)))
        return await asyncio.shield(task)


async def announced(exchange: Exchange, info: Sequence[str]) -> str:
    """The patient of ``info`` (sourcePatientInfo) in the affinity domain, announced to it. Raises Problem."""
    identifiers = [line.removeprefix("PID-3|") for line in info if line.startswith("PID-3|")]
    if not identifiers:
        raise Problem.of(
            "XDSUnknownPatientId",
            "the document names no patient: say who it is with --patient-id 'number^^^&OID&ISO'",
        )
    # Only one, the PESEL where there is one: a document's header is no patient administration, and a local number
    # in it that the region knows of somebody else would join two people.
    identifiers.sort(key=lambda cx: not cx.endswith(f"^^^&{PESEL_ROOT}&ISO"))
    info = (f"PID-3|{identifiers[0]}", *(line for line in info if not line.startswith("PID-3|")))
    known = await exchange.affinity_domain_id(identifiers[0])
    if known is not None and len(info) == 1:  # nothing that the index could learn
        return known
    await exchange.announce(info, known=known is not None)
    found = known or await exchange.affinity_domain_id(identifiers[0])
    if found is None:
        raise Problem.of("XDSUnknownPatientId", "the patient index took the patient and does not know them")
    return found


async def _patiently(act: Callable[[], Awaitable[T]]) -> T:
    """Repeats what the other side could not do just now."""
    pause = PAUSE_S
    for _ in range(ATTEMPTS_MAX - 1):
        try:
            return await act()
        except RetryLater:
            pass
        except Problem as problem:
            if not all(f.code.endswith("Busy") for f in problem.findings):
                raise
        await asyncio.sleep(pause)
        pause *= 2
    return await act()


def said(problem: Problem) -> str:
    """All that is wrong, for people."""
    return "; ".join(dict.fromkeys(": ".join(filter(None, (f.location, f.detail or f.code))) for f in problem.findings))


def _unique_id(item: Item) -> str:
    return item.described.entry.unique_id or ""
