"""``obieg demo``: a region and two hospitals with a synthetic population, each node run by ``obieg serve``.

Every node has a settings file below the data folder and could be started by hand. The population is handed in as
hospitals do it: feeds by ITI-8, documents by ITI-41 at each hospital, which registers them at the region by ITI-42; the
clinics, which have no node, use the regional repository. A start that was interrupted is continued by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import tempfile
import tomllib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from obieg.domain.content import MemoryContent
from obieg.domain.problems import Problem, RetryLater
from obieg.mapping.pik import describe_cda
from obieg.mapping.pik_values import demographics_info
from obieg.ops import settings as node_settings
from obieg.ops.commands_node import MLLP_PORT, SETTINGS_NAME
from obieg.ops.demo_directory import fill_directory
from obieg.ops.exchange import Exchange
from obieg.ops.failure import Failure
from obieg.ops.folder_lock import FolderLock
from obieg.ops.options import ReadyFile, command
from obieg.ops.population import DOCUMENTS, PEOPLE, SEED, DemoDocument, Person, demo_documents, facilities, people
from obieg.ops.submitting import Item, Outcome, Result, Submitter
from obieg.ops.supervisor import write_atomically

HOST = "127.0.0.1"
REGION = "region"
READY_NAME, LOADED_NAME, LOG_NAME = "ready.json", "loaded.json", "node.log"
START_TIME_S = 60.0
STOP_TIME_S = 45.0
JOBS = 4  # documents at a time, of each facility
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LOG_TAIL_LINES = 12

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the demo: where it listens, and the loopback address from which it and its house call others."""

    key: str
    title: str
    address: str
    port: int
    workers: int


PLACES = (
    Place(REGION, "Platforma regionalna", HOST, 8080, 2),
    Place("szpital-a", "", "127.0.0.2", 8081, 1),
    Place("szpital-b", "", "127.0.0.3", 8082, 1),
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(demo)


def demo(
    data: Annotated[Path, typer.Option(help="Folder for everything the demo keeps.")] = Path("demo-data"),
    ready_file: ReadyFile = None,
    *,
    headless: Annotated[bool, typer.Option("--headless", help="For scripts: no progress, any free ports.")] = False,
    patients: Annotated[int, typer.Option(help="Size of the population.", min=1)] = PEOPLE,
    documents: Annotated[int, typer.Option(help="How many documents they have.", min=1)] = DOCUMENTS,
    seed: Annotated[int, typer.Option(help="Another seed makes another population.")] = SEED,
) -> None:
    """Run a region and two hospitals with synthetic patients, until Ctrl-C; the next start keeps the data."""
    lock = FolderLock(data)
    lock.take()
    try:
        asyncio.run(_Demo(data, ready_file, (patients, documents, seed), headless=headless).run())
    finally:
        lock.release()


class _Stopped(Exception):  # noqa: N818
    """Somebody asked the demo to stop."""


class _Demo:
    def __init__(
        self, data: Path, ready_file: Path | None, population: tuple[int, int, int], *, headless: bool
    ) -> None:
        self._data = data
        self._ready_files = [data / READY_NAME, *([ready_file] if ready_file else [])]
        self._population = population
        self._headless = headless
        self._example = ""  # PESEL to try with
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    async def run(self) -> None:
        """Until SIGINT or SIGTERM."""
        began = asyncio.get_running_loop().time()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with contextlib.ExitStack() as stack, contextlib.suppress(_Stopped):
            for path in self._ready_files:
                path.unlink(missing_ok=True)
                stack.callback(path.unlink, missing_ok=True)
            self._console.print("Starting a region and two hospitals …")
            async with _nodes(self._data, stop, free_ports=self._headless) as (endpoints, ended):
                await _while(stop, ended, self._load(endpoints))
                for path in self._ready_files:
                    write_atomically(path, json.dumps(endpoints, indent=2) + "\n")
                took = asyncio.get_running_loop().time() - began
                self._announce(endpoints, took)
                await _while(stop, ended, asyncio.Event().wait())

    # the population ---------------------------------------------------------------------------------------------------

    async def _load(self, endpoints: dict[str, Any]) -> None:
        """Hands the population in, unless that was done before."""
        count, wanted, seed = self._population
        mark = self._data / LOADED_NAME
        loaded = {"patients": count, "documents": wanted, "seed": seed}
        with contextlib.suppress(OSError, ValueError, KeyError):
            found = json.loads(mark.read_text("utf-8"))
            self._example = found.pop("example")
            if found == loaded:
                self._console.print(f"The population is there: {count} patients, {wanted} documents.")
                return
        persons = people(count, seed)
        by_facility: dict[str, list[DemoDocument]] = {key: [] for key in facilities()}
        for document in demo_documents(persons, wanted, seed):
            by_facility[document.facility.key].append(document)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with (
            tempfile.TemporaryDirectory(prefix="obieg-demo-") as spool,
            Progress(
                *columns, console=self._console, transient=True, disable=self._headless or not self._console.is_terminal
            ) as progress,
        ):
            bar = progress.add_task(f"Handing in the documents of {count} patients", total=wanted)
            parts = [
                _Part(key, documents, endpoints, Path(spool), lambda _: progress.advance(bar))
                for key, documents in by_facility.items()
            ]
            results = [result for part in await _all_of([p.hand_in() for p in parts]) for result in part]
            seen = {document.person.number for documents in by_facility.values() for document in documents}
            await parts[-1].announce([person for person in persons if person.number not in seen])
        _check(results)
        await asyncio.to_thread(fill_directory, self._data / REGION / SETTINGS_NAME, self._data / "directory.csv", seed)
        self._example = _example(by_facility)
        write_atomically(mark, json.dumps(loaded | {"example": self._example}) + "\n")
        counts = Counter(result.outcome for result in results)
        done = counts[Outcome.NEW] + counts[Outcome.REPLACED]
        earlier = f", {counts[Outcome.SKIPPED]} were there" if counts[Outcome.SKIPPED] else ""
        self._console.print(f"Handed in {done} documents of {count} patients{earlier}.")

    # what people see --------------------------------------------------------------------------------------------------

    def _announce(self, endpoints: dict[str, Any], took_s: float) -> None:
        if self._headless:
            self._console.print(f"Ready after {took_s:.0f} s: {self._ready_files[-1]}", markup=False)
            return
        out = Console(highlight=False, soft_wrap=True)
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_row(f"[bold]{endpoints['base_url']}[/]", "Region: registry, regional repository")
        table.add_row(f"[bold]mllp {endpoints['mllp']}[/]", "Region: patient feed and PIX query (HL7 v2)")
        for key, node in endpoints["nodes"].items():
            table.add_row(f"[bold]{node['base_url']}[/]", facilities()[key].name)
        out.print()
        out.print(table)
        node_file = _from_here(self._ready_files[0])
        out.print("\nTry, in another window:")
        for example in (
            f"find --patient {self._example} --node {node_file}",
            f"get 'UNIQUE_ID' -o document.xml --node {node_file}",
            f"directory search Rzeczyce --node {node_file}",
            f"audit tail --follow --node {node_file}",
            "explain",
        ):
            out.print(f"  {command()} {example}", markup=False)
        out.print("\nAll patients are made up. The nodes listen on this machine alone.")
        out.print(f"Ready after {took_s:.0f} s. Ctrl-C stops everything; the next start keeps the data.")


class _Part:
    """One facility that hands in its documents."""

    def __init__(
        self,
        key: str,
        documents: Sequence[DemoDocument],
        endpoints: dict[str, Any],
        spool: Path,
        done: Any,
    ) -> None:
        place = next((p for p in PLACES if p.key == key), PLACES[0])
        self._documents = documents
        self._done = done
        self._facility = facilities()[key]
        self._endpoints = endpoints["nodes"].get(key, endpoints)
        self._place = place
        self._spool = spool

    def _exchange(self) -> Exchange:
        return Exchange(
            self._endpoints,
            spool_folder=self._spool,
            source_address=self._place.address,
            connections_max=JOBS,
            facility=self._facility.name,
        )

    async def hand_in(self) -> list[Result]:
        """All its documents."""
        exchange = self._exchange()
        try:
            items = []
            for document in self._documents:
                items.append(self._item(document))
                await asyncio.sleep(0)  # the other facilities go on meanwhile
            return await Submitter(exchange, jobs=JOBS, done=self._done).submit(items)
        finally:
            await exchange.close()

    def _item(self, document: DemoDocument) -> Item:
        described = describe_cda(
            document.data,
            patient_id="",
            source_id=self._endpoints["repository_uid"],
            now=datetime.now(UTC),
            new_uuid=uuid.uuid4,
        )
        content = MemoryContent(document.data, described.entry.mime_type)
        return Item(f"{self._facility.key} {document.unique_id}", described, content)

    async def announce(self, persons: Sequence[Person]) -> None:
        """Patients of whom there is no document yet."""
        exchange = self._exchange()
        try:
            for person in persons:
                first, *others = self._facility.identifiers(person)
                info = [*demographics_info(first, person.demographics), *(f"PID-3|{other}" for other in others)]
                await exchange.announce(info, known=False)
        finally:
            await exchange.close()


def _example(by_facility: dict[str, list[DemoDocument]]) -> str:
    """PESEL of the patient whom most facilities know, of these the one with most documents."""
    known = Counter(d.person.pesel for documents in by_facility.values() for d in documents if d.person.pesel)
    where = Counter(
        pesel for documents in by_facility.values() for pesel in {d.person.pesel for d in documents if d.person.pesel}
    )
    return max(known, key=lambda pesel: (where[pesel], known[pesel]), default="")


async def _all_of(acts: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Does all at a time. Raises Failure where a node did not take what is handed in."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(act) for act in acts]
    except* (Problem, RetryLater) as several:
        raise Failure(
            f"The population cannot be handed in: {several.exceptions[0]}.",
            "What was taken is kept.",
            f"Start the demo again: it goes on where it ended. The {LOG_NAME} files tell more.",
        ) from None
    return [task.result() for task in tasks]


def _check(results: Sequence[Result]) -> None:
    refused = [r for r in results if r.outcome is Outcome.REFUSED]
    if refused:
        reasons = Counter(r.reason for r in refused).most_common(3)
        raise Failure(
            f"{len(refused)} of {len(results)} documents were not taken.\n"
            + "\n".join(f"       {number} x {reason}" for reason, number in reasons),
            "The population is not whole; what was taken is kept.",
            "Start the demo again: it goes on where it ended. If it says the same, its node.log files tell why.",
        )


# the nodes -----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _nodes(
    data: Path, stop: asyncio.Event, *, free_ports: bool
) -> AsyncIterator[tuple[dict[str, Any], asyncio.Future[None]]]:
    """The nodes while they run: what the ready file says of them, and a future that fails when one of them ends."""
    _write_settings(data, free_ports=free_ports)
    running: dict[str, asyncio.subprocess.Process] = {}
    keeper: asyncio.Task[None] | None = None
    try:
        for place in PLACES:
            running[place.key] = await _start(data / place.key)
        keeper = asyncio.create_task(_keep(data, running))
        described = await _while(stop, keeper, _all_ready(data))
        endpoints = described.pop(REGION)
        yield {**endpoints, "nodes": described}, keeper
    finally:
        Console(stderr=True).print("Stopping …")
        if keeper is not None:
            keeper.cancel()
        await _end(running)


async def _start(folder: Path) -> asyncio.subprocess.Process:
    ready = folder / READY_NAME
    ready.unlink(missing_ok=True)
    with (folder / LOG_NAME).open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "obieg", "serve"),
            *("--settings", folder / SETTINGS_NAME, "--ready-file", ready),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,  # the terminal's Ctrl-C is for the demo alone
            preexec_fn=_end_with_parent,
        )


def _end_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _keep(data: Path, running: dict[str, asyncio.subprocess.Process]) -> None:
    """Raises Failure as soon as a node ends by itself."""
    waiting = {asyncio.create_task(process.wait()): key for key, process in running.items()}
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        key = waiting[done.pop()]
    finally:
        for task in waiting:
            task.cancel()
    log = data / key / LOG_NAME
    tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-_LOG_TAIL_LINES:])
    raise Failure(
        f"The node {key} ended.\n{tail}",
        "The demo needs all its nodes and stops the others now.",
        f"Correct what its log says ({log}), then start the demo again; the data are kept.",
    )


async def _all_ready(data: Path) -> dict[str, dict[str, Any]]:
    described: dict[str, dict[str, Any]] = {}
    try:
        async with asyncio.timeout(START_TIME_S):
            for place in PLACES:
                ready = data / place.key / READY_NAME
                while not ready.exists():  # noqa: ASYNC110 - another process makes it
                    await asyncio.sleep(0.05)
                described[place.key] = json.loads(ready.read_text("utf-8"))
    except TimeoutError:
        raise Failure(
            f"The nodes were not ready after {START_TIME_S:.0f} s.",
            "The machine is very slow, or a node waits for something.",
            f"Look at the logs {data}/*/{LOG_NAME}.",
        ) from None
    return described


async def _end(running: dict[str, asyncio.subprocess.Process]) -> None:
    for process in running.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    waiting = [asyncio.create_task(process.wait()) for process in running.values()]
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=STOP_TIME_S)
        for process in running.values():
            if late and process.returncode is None:
                process.kill()
        await asyncio.gather(*waiting)


async def _while(stop: asyncio.Event, ended: asyncio.Future[None], act: Coroutine[Any, Any, T]) -> T:
    """Does ``act`` while the nodes run; raises _Stopped when the demo is to stop, or why a node ended."""
    task, stopping = asyncio.ensure_future(act), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([task, stopping, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            ended.result()
        if stopping.done():
            raise _Stopped
        return task.result()
    finally:
        stopping.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# settings ------------------------------------------------------------------------------------------------------------


def _write_settings(data: Path, *, free_ports: bool) -> None:
    """The settings files; who the nodes are, and their ports where these are free, stay as they were."""
    earlier = {place.key: _earlier(data / place.key / SETTINGS_NAME) for place in PLACES}
    taken: set[int] = set()

    def port(key: str, table: str, preferred: int) -> int:
        wanted = earlier[key].get(table, {}).get("port", 0 if free_ports else preferred)
        chosen = _free_port(wanted, taken)
        taken.add(chosen)
        return chosen

    ports = {place.key: port(place.key, "http", place.port) for place in PLACES}
    mllp = port(REGION, "mllp", MLLP_PORT)
    identity = earlier[REGION].get("identity") or {
        name: node_settings.new_oid() for name in ("home_community_id", "repository_unique_id", "assigning_authority")
    }
    repositories = {
        place.key: earlier[place.key].get("identity", {}).get("repository_unique_id") or node_settings.new_oid()
        for place in PLACES
    } | {REGION: identity["repository_unique_id"]}
    this_machine = {"name": "this machine", "address": HOST}
    url = f"http://{HOST}:{ports[REGION]}"
    for place in PLACES:
        common: dict[str, Any] = {
            "name": place.key,
            "data_dir": "data",
            "workers": place.workers,
            "http": {"host": HOST, "port": ports[place.key]},
            "identity": identity | {"repository_unique_id": repositories[place.key]},
        }
        hospitals = [p for p in PLACES if p.key != REGION]
        if place.key == REGION:
            bound = [
                {"name": p.key, "address": p.address, "repository_unique_id": repositories[p.key]} for p in hospitals
            ]
            text = node_settings.write_commented(
                "region",
                **common,
                mllp={"host": HOST, "port": mllp},
                nodes=[this_machine, *bound],
            )
        else:
            text = node_settings.write_commented(
                "facility",
                **common,
                nodes=[this_machine, {"name": f"HIS {place.key}", "address": place.address}],
                registry={
                    "register_url": f"{url}/services/register",
                    "query_url": f"{url}/services/registry",
                    "mllp_address": f"{HOST}:{mllp}",
                    "source_address": place.address,
                },
            )
        write_atomically(data / place.key / SETTINGS_NAME, text, mode=0o600)


def _earlier(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _free_port(preferred: int, taken: set[int]) -> int:
    """The preferred port if nobody has it, else any that is free."""
    for wanted in (preferred, *([0] * 20)):
        if wanted in taken:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, wanted))
            found: int = probe.getsockname()[1]
            if found not in taken:
                return found
    raise Failure("No TCP port is free.", "The nodes need one each.", "Stop other programs and try again.")


def _from_here(path: Path) -> Path:
    with contextlib.suppress(ValueError):
        return path.absolute().relative_to(Path.cwd())
    return path
