"""``obieg demo``: a region and two hospitals with a synthetic population, each node run by ``obieg serve``.

Every node has a settings file below the data folder and could be started by hand; systems prove who they are by
certificates, people by what they log in by, and access is enforced. The population is handed in as hospitals do it:
feeds by ITI-8, documents by ITI-41 at each hospital, which registers them at the region by ITI-42; the clinics, which
have no node, use the regional repository. A document is asked for in its author's name. What is known of the patients
besides is loaded as a world (docs/lab.md). A start that was interrupted is continued by the next one.

Beside the nodes run stand-ins of what is outside: Węzeł Krajowy, by which patients log in, an SMS gateway, an archive
of images, P1's medical events, a hospital's own system; and the desk, from which one becomes any of the demo's people.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
import tempfile
import tomllib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from obieg.codes.load import toml
from obieg.domain.accounts import ROLES
from obieg.domain.content import MemoryContent
from obieg.domain.issuing import Claims
from obieg.domain.problems import Problem, RetryLater
from obieg.mapping.pik import describe_cda
from obieg.mapping.pik_values import demographics_info
from obieg.ops import demo_desk, demo_settings, demo_standins, demo_studies, world
from obieg.ops import settings as node_settings
from obieg.ops.commands_node import SETTINGS_NAME
from obieg.ops.demo_directory import fill_directory
from obieg.ops.demo_facts import Facts, Worker, entry_uuid, facts, protagonist, workers
from obieg.ops.demo_people import open_accounts
from obieg.ops.demo_settings import COMMANDS, HOST, IDENTITY_METADATA, PLACES, REGION, Ports, system_of
from obieg.ops.exchange import Exchange
from obieg.ops.failure import Failure
from obieg.ops.folder_lock import FolderLock
from obieg.ops.options import ReadyFile, command
from obieg.ops.population import DOCUMENTS, PEOPLE, SEED, DemoDocument, Person, demo_documents, facilities, people
from obieg.ops.postgres import reach
from obieg.ops.submitting import Item, Outcome, Result, Submitter
from obieg.ops.supervisor import write_atomically
from obieg.web.areas import PROFESSIONALS

READY_NAME, LOADED_NAME, LOG_NAME = "ready.json", "loaded.json", "node.log"
PEOPLE_NAME, WORLD_NAME = "people.json", "world"
ASKER = "lekarz-poz"  # in whose name commands ask
DIAGNOSTICIANS: str = toml("national/pl/pik.toml")["roots"]["npwz_diagnostician"]
START_TIME_S = 120.0
STOP_TIME_S = 45.0
JOBS = 4  # documents at a time, of each facility
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LOG_TAIL_LINES = 12

T = TypeVar("T")


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
        self._shown: dict[str, str] = {}  # whom and what to try with: PESEL, uniqueId
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
            async with _nodes(self._data, stop, free_ports=self._headless) as running:
                endpoints, ended, ports = running
                await _while(stop, ended, self._load(endpoints, ports))
                desk = await _while(stop, ended, self._desk(endpoints, ports))
                async with demo_desk.serving(desk, ports.desk):
                    self._tell(endpoints, desk)
                    took = asyncio.get_running_loop().time() - began
                    self._announce(endpoints, desk, took)
                    await _while(stop, ended, asyncio.Event().wait())

    # the population ---------------------------------------------------------------------------------------------------

    async def _load(self, endpoints: dict[str, Any], ports: Ports) -> None:
        """Hands the population in, unless that was done before."""
        count, wanted, seed = self._population
        mark = self._data / LOADED_NAME
        loaded = {"patients": count, "documents": wanted, "seed": seed}
        with contextlib.suppress(OSError, ValueError, KeyError):
            found = json.loads(mark.read_text("utf-8"))
            self._shown = found.pop("shown")
            if found == loaded:
                self._console.print(f"The population is there: {count} patients, {wanted} documents.")
                return
        persons = people(count, seed)
        by_facility: dict[str, list[DemoDocument]] = {key: [] for key in facilities()}
        made = list(demo_documents(persons, wanted, seed))
        for document in made:
            by_facility[document.facility.key].append(document)
        told = facts(persons, made, seed)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with (
            tempfile.TemporaryDirectory(prefix="obieg-demo-") as spool,
            Progress(
                *columns, console=self._console, transient=True, disable=self._headless or not self._console.is_terminal
            ) as progress,
        ):
            bar = progress.add_task(f"Handing in the documents of {count} patients", total=wanted)
            parts = [
                _Part(key, documents, endpoints, self._data, Path(spool), lambda _: progress.advance(bar))
                for key, documents in by_facility.items()
            ]
            results = [result for part in await _all_of([p.hand_in() for p in parts]) for result in part]
            seen = {document.person.number for documents in by_facility.values() for document in documents}
            await parts[-1].announce([person for person in persons if person.number not in seen])
            await parts[-1].announce_changes(told)
            studied = (
                await self._load_studies(persons, made, endpoints, ports, Path(spool))
                if demo_standins.there()[0]
                else {}
            )
            progress.add_task(f"Telling {len(told.resources)} facts of the patients", total=None)
            _check(results)
            settings = self._data / REGION / SETTINGS_NAME
            await asyncio.to_thread(fill_directory, settings, self._data / "directory.csv", seed)
            await asyncio.to_thread(_load_world, settings, self._data / WORLD_NAME, told, endpoints["base_url"])
        demo_standins.write_patients(self._data, told.listed)
        first = protagonist(made, seed)
        demo_standins.write_ward(self._data, workers(seed), told, first[0] if first else None)
        self._shown = _shown(made, seed) | studied
        write_atomically(mark, json.dumps(loaded | {"shown": self._shown}) + "\n")
        counts = Counter(result.outcome for result in results)
        done = counts[Outcome.NEW] + counts[Outcome.REPLACED]
        earlier = f", {counts[Outcome.SKIPPED]} were there" if counts[Outcome.SKIPPED] else ""
        self._console.print(f"Handed in {done} documents of {count} patients{earlier}.")

    async def _load_studies(
        self,
        persons: Sequence[Person],
        made: Sequence[DemoDocument],
        endpoints: dict[str, Any],
        ports: Ports,
        spool: Path,
    ) -> dict[str, str]:
        """Hands in the manifests of the studies at the regional repository; where the first one is seen."""
        listed = demo_studies.studies(persons, made, self._population[2])
        demo_studies.write(self._data / demo_standins.IMAGES_FOLDER / demo_studies.STUDIES_NAME, listed)
        archive, source = f"http://{HOST}:{ports.images}", endpoints["repository_uid"]
        items = await demo_studies.items(listed, archive, source_id=source, seed=self._population[2])
        part = _Part(demo_settings.IMAGES_OF, (), endpoints | {"nodes": {}}, self._data, spool, lambda _: None)
        # The archive knows them by the hospital's numbers, and so must the region.
        await part.announce([study.person for study in listed], known=True)
        results, patient = await part.submit(items)
        _check(results)
        if not items:
            return {}
        document = entry_uuid(items[0].described.entry.unique_id or "")
        return {"study": f"{PROFESSIONALS}/treatment/{patient}/document/{document}/images"}

    # what people see --------------------------------------------------------------------------------------------------

    async def _desk(self, endpoints: dict[str, Any], ports: Ports) -> demo_desk.Desk:
        """Those who can log in; their accounts are made where they are missing."""
        settings = node_settings.load(self._data / REGION / SETTINGS_NAME)
        own = workers(self._population[2])
        secrets = await asyncio.to_thread(open_accounts, settings, self._data / PEOPLE_NAME, own)
        return demo_desk.Desk(
            settings=settings,
            pages=endpoints["pages"],
            own=f"http://localhost:{ports.desk}",
            workers=own,
            secrets=secrets,
            patients=self._data / demo_standins.PATIENTS_NAME if settings.wezel_krajowy.own_entity_id else None,
            messages=f"http://localhost:{ports.sms}/" if settings.notices.sms_url else "",
            ward=f"http://localhost:{ports.ward}/" if settings.medical_events.url else "",
            study=self._shown.get("study", "") if settings.images.archive_url else "",
        )

    def _tell(self, endpoints: dict[str, Any], desk: demo_desk.Desk) -> None:
        """The ready files: with them commands ask in somebody's name, and each hospital's own."""
        people = {worker.login: _claims(worker) for worker in desk.workers}
        whole = endpoints | demo_settings.certificate_of(self._data, COMMANDS)
        whole |= {
            "accounts": str((self._data / PEOPLE_NAME).absolute()),
            "people": people,
            "person": ASKER,
            "desk": desk.own,
            "ward": desk.ward,
            "shown": self._shown,
        }
        for path in self._ready_files:
            write_atomically(path, json.dumps(whole, indent=2) + "\n")
        for key, node in endpoints["nodes"].items():
            own = node | demo_settings.certificate_of(self._data, system_of(key)) | {"sts": endpoints["sts"]}
            write_atomically(self._data / key / READY_NAME, json.dumps(own, indent=2) + "\n")

    def _announce(self, endpoints: dict[str, Any], desk: demo_desk.Desk, took_s: float) -> None:
        if self._headless:
            self._console.print(f"Ready after {took_s:.0f} s: {self._ready_files[-1]}", markup=False)
            return
        out = Console(highlight=False, soft_wrap=True)
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_row(f"[bold]{desk.own}[/]", "Begin here: become a patient, a doctor, a clerk, with one click")
        table.add_row(f"[bold]{desk.pages}[/]", "Region: its pages")
        table.add_row(f"[bold]{endpoints['base_url']}[/]", "Region: registry, regional repository")
        table.add_row(f"[bold]mllp {endpoints['mllp']}[/]", "Region: patient feed and PIX query (HL7 v2)")
        for key, node in endpoints["nodes"].items():
            table.add_row(f"[bold]{node['base_url']}[/]", facilities()[key].name)
        if desk.messages:
            table.add_row(f"[bold]{desk.messages}[/]", "Stand-in of an SMS gateway: what patients were sent")
        if desk.ward:
            table.add_row(
                f"[bold]{desk.ward}[/]", "Stand-in of a hospital's own system: opens records without a log-in"
            )
        out.print()
        out.print(table)
        if "study" in self._shown:
            out.print("The images of studies come from a stand-in of an archive; a program drew them, of nobody.")
        if desk.ward:
            out.print("Medical events beside documents come from a stand-in of P1, which makes them up.")
        people = Table("Login", "Password", "Who", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for worker in desk.workers:
            who = f"{worker.name}, {ROLES[worker.place.role]['pl']}"
            if worker.acts_for is not None:
                who += f", może działać w imieniu: {worker.acts_for.name}"
            people.add_row(Text(worker.login), Text(desk.secrets[worker.login].password), Text(who))
        out.print(f"\nThose who work there log in at {desk.pages}/login; the desk shows their codes:")
        out.print(people)
        if desk.patients is None:
            out.print("Patients cannot log in: there is no stand-in of Węzeł Krajowy here.")
        else:
            out.print(f"Patients log in at {desk.pages}/login/wk, by a stand-in of Węzeł Krajowy that proves nobody.")
        node_file = _from_here(self._ready_files[0])
        out.print("\nTry, in another window:")
        for example in (
            f"find --patient {self._shown.get('patient', 'PESEL')} --node {node_file}",
            f"get 'UNIQUE_ID' -o document.xml --node {node_file}",
            f"directory search Szpital --node {node_file}",
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
        data: Path,
        spool: Path,
        done: Any,
    ) -> None:
        place = next((p for p in PLACES if p.key == key), PLACES[0])
        own = demo_settings.certificate_of(data, system_of(key))
        self._documents = documents
        self._done = done
        self._facility = facilities()[key]
        self._endpoints = endpoints["nodes"].get(key, endpoints) | own | {"sts": endpoints["sts"]}
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
        # The entryUUID is known beforehand, so that consents can name the document.
        new_uuid = chain((entry_uuid(document.unique_id),), (uuid.uuid4() for _ in repeat(None))).__next__
        described = describe_cda(
            document.data,
            patient_id="",
            source_id=self._endpoints["repository_uid"],
            now=datetime.now(UTC),
            new_uuid=new_uuid,
        )
        content = MemoryContent(document.data, described.entry.mime_type)
        number, name = document.author
        author = Claims(
            person=number,
            person_name=" ".join((*name.prefix, *name.given, *name.family)),
            role="laboratory-diagnostician" if number.startswith(f"{DIAGNOSTICIANS}#") else "medical-doctor",
            organisation=demo_settings.organisation(self._facility),
            purpose_of_use="TREAT",
        )
        return Item(f"{self._facility.key} {document.unique_id}", described, content, author)

    async def submit(self, items: Sequence[Item]) -> tuple[list[Result], str]:
        """What became of each, and the affinity-domain id of the first one's patient."""
        exchange = self._exchange()
        try:
            results = await Submitter(exchange, jobs=JOBS).submit(items)
            whose = await exchange.affinity_domain_id(items[0].described.entry.source_patient_id or "") if items else ""
            return results, (whose or "").partition("^")[0]
        finally:
            await exchange.close()

    async def announce(self, persons: Sequence[Person], *, known: bool = False) -> None:
        """Patients with this facility's numbers; ``known``: the region has heard of them."""
        await self._feed([(person, ()) for person in persons], known=known)

    async def announce_changes(self, told: Facts) -> None:
        """Mobile numbers of those who want to be told, and who has died."""
        reached = [(p, (f"PID-13|{p.phone.removeprefix('tel:')}^PRN^CP",)) for p in told.reached if p.phone]
        died = [(person, (f"PID-29|{day}", "PID-30|Y")) for person, day in told.deceased]
        await self._feed([*reached, *died], known=True)

    async def _feed(self, persons: Sequence[tuple[Person, tuple[str, ...]]], *, known: bool) -> None:
        exchange = self._exchange()
        try:
            for person, more in persons:
                first, *others = self._facility.identifiers(person)
                info = [*demographics_info(first, person.demographics), *(f"PID-3|{other}" for other in others), *more]
                await exchange.announce(info, known=known)
        finally:
            await exchange.close()


def _claims(worker: Worker) -> dict[str, str]:
    """What the commands' system says of a person (:class:`obieg.domain.issuing.Claims`)."""
    place = worker.place
    return {
        "person": worker.identifier,
        "person_name": worker.name,
        "role": place.role,
        "organisation": place.organisation,
    }


def _load_world(settings: Path, folder: Path, told: Facts, base: str) -> None:
    """Tells the region what is known of its patients. Raises Failure. Not to be called on an event loop."""
    by_kind: dict[str, list[str]] = {}
    for resource in told.resources:
        by_kind.setdefault(resource["resourceType"], []).append(json.dumps(resource, ensure_ascii=False))
    for kind, lines in by_kind.items():
        write_atomically(folder / f"{kind}.ndjson", "\n".join(lines) + "\n")
    region = node_settings.load(settings)
    with reach(region.database.dsn, region.postgres_dir) as dsn:
        http = region.http.model_copy(update={"public_url": base})
        database = region.database.model_copy(update={"dsn": dsn})
        world.load(folder, region.model_copy(update={"database": database, "http": http}))


def _shown(made: Sequence[DemoDocument], seed: int) -> dict[str, str]:
    """Whom and what to try with."""
    found = protagonist(made, seed)
    if found is None:
        return {}
    person, document = found
    return {"patient": person.pesel, "document": document.unique_id}


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
) -> AsyncIterator[tuple[dict[str, Any], asyncio.Future[None], Ports]]:
    """The nodes and stand-ins while they run.

    What the ready file says of the nodes, a future that fails when one of them ends, and where the stand-ins listen.
    """
    standins, identity = demo_standins.there()
    ports = demo_settings.write(data, free_ports=free_ports, standins=standins, identity=identity)
    running: dict[str, asyncio.subprocess.Process] = {}
    keeper: asyncio.Task[None] | None = None
    try:
        if standins:
            running |= await _start_standins(data, ports, identity=identity)
        for place in PLACES:
            running[place.key] = await _start_node(data / place.key)
        keeper = asyncio.create_task(_keep(data, running))
        described = await _while(stop, keeper, _all_ready(data))
        endpoints = described.pop(REGION)
        yield {**endpoints, "nodes": described}, keeper, ports
    finally:
        Console(stderr=True).print("Stopping …")
        if keeper is not None:
            keeper.cancel()
        await _end(running)


async def _start_standins(data: Path, ports: Ports, *, identity: bool) -> dict[str, asyncio.subprocess.Process]:
    region = int(tomllib.loads((data / REGION / SETTINGS_NAME).read_text("utf-8"))["http"]["port"])
    metadata = data / IDENTITY_METADATA
    metadata.unlink(missing_ok=True)
    found = {}
    for name, command_line in demo_standins.commands(data, ports, region, identity=identity).items():
        (data / name).mkdir(exist_ok=True)
        found[name] = await _start(data / name, *command_line)
    if identity:
        process = found[demo_standins.IDENTITY]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIME_S):
                while not metadata.exists() and process.returncode is None:  # noqa: ASYNC110 - another process makes it
                    await asyncio.sleep(0.05)
    return found


async def _start_node(folder: Path) -> asyncio.subprocess.Process:
    ready = folder / READY_NAME
    ready.unlink(missing_ok=True)
    return await _start(folder, "obieg", "serve", "--settings", str(folder / SETTINGS_NAME), "--ready-file", str(ready))


async def _start(folder: Path, module: str, *arguments: str) -> asyncio.subprocess.Process:
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH", ""), str(demo_standins.CLONE))))
    with (folder / LOG_NAME).open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            env=os.environ | ({"PYTHONPATH": path} if module.startswith("standins.") else {}),
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


def _from_here(path: Path) -> Path:
    with contextlib.suppress(ValueError):
        return path.absolute().relative_to(Path.cwd())
    return path
