"""``obieg directory …``: what care is given by whom and where: importing it, looking at it, taking it out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from obieg.actors.provider_directory import ProviderDirectory
from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent
from obieg.domain.directory import Clause, Lookup, Term, Version
from obieg.domain.problems import Problem
from obieg.domain.requester import Requester
from obieg.mapping import mcsd
from obieg.mapping.directory_csv import COLUMNS
from obieg.mapping.directory_terms import KINDS
from obieg.mapping.mcsd import DirectoryHistory, DirectorySearch
from obieg.ops.accounts import os_user
from obieg.ops.asking import settings_of
from obieg.ops.directory_import import COUNTED, HEADER, DirectoryImport, Imported, operator_event, removal
from obieg.ops.failure import Failure
from obieg.ops.import_files import Source
from obieg.ops.index_access import Access, asked, opened
from obieg.ops.options import AsJson, By, Charset, NodeFile, OptionalSettingsFile, Rejects
from obieg.ops.showing import (
    examined,
    local,
    print_columns,
    print_counts,
    print_json,
    print_lines,
    print_rejects,
    progress_bar,
)
from obieg.ops.wiring import new_uuid
from obieg.ops.wiring_patients import utc_now
from obieg.protocol import Context, FhirRequest
from obieg.storage.directory_store import PostgresDirectoryStore
from obieg.transactions import TRANSACTIONS
from obieg.wire import fhir_json

SOURCE = "operator"  # who says what is imported without --source
_SEARCH = toml("fhir.toml")["search"]
_WORDS = {
    "created": "new resources",
    "updated": "resources changed",
    "unchanged": "nothing new",
    "deactivated": "made inactive, since they are not in the file",
    "rejected": "records rejected",
}
_One = Annotated[str, typer.Argument(metavar="WHAT", help="TYPE/ID, or an identifier: księga, REGON, NIP, NPWZ.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    directory = typer.Typer(help="Who gives which care where: import, search, show, remove.", no_args_is_help=True)
    directory.command("import")(import_)
    for command in (columns, search, show, remove):
        directory.command()(command)
    app.add_typer(directory, name="directory")


# import --------------------------------------------------------------------------------------------------------------


def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="CSV, FHIR NDJSON or a FHIR Bundle (JSON).")],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    source: Annotated[
        str,
        typer.Option(metavar="NAME", help="Who says so: RPWDL, a hospital. Each source changes only what is its own."),
    ] = SOURCE,
    format_: Annotated[str, typer.Option("--format", metavar="csv|fhir", help="If it is not recognised.")] = "",
    charset: Charset = "",
    rejects: Rejects = None,
    by: By = "",
    *,
    complete: Annotated[
        bool, typer.Option("--complete", help="The file is all that the source has: make inactive what is not in it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import facilities, their units and cells, services, practitioners and their roles into the directory.

    A CSV has a header (obieg directory columns); FHIR is NDJSON or a Bundle of Organization, Location,
    HealthcareService, Practitioner, PractitionerRole, Endpoint, OrganizationAffiliation. What a file says again changes
    nothing, so a killed import is simply begun anew.

    A wrong control digit (REGON, NIP, NPWZ) is refused. Rejected records stand as they were in FILE.rejected, each
    below a line with its number and the reason. Correct them there and import that file: the reasons are read over.
    """
    if format_ not in ("", "csv", "fhir"):
        raise typer.BadParameter("is one of csv, fhir", param_hint="--format")
    if len(files) > 1 and (rejects is not None or complete):
        raise typer.BadParameter("is for one file", param_hint="--complete" if complete else "--rejects")
    console = Console(highlight=False)
    results = []
    with opened(settings or settings_of(node)) as access:
        for path in files:
            source_ = _examined(path, format_, charset)
            target = rejects or Path(f"{path}.rejected")
            done = asyncio.run(
                _imported(access, source_, target, source, by or os_user(), complete=complete, dry_run=dry_run)
            )
            results.append((path, done))
            if not as_json:
                _print_imported(console, path, done, dry_run=dry_run)
    if as_json:
        print_json([_imported_data(path, done, dry_run=dry_run) for path, done in results])
    if any(done.counts.get("rejected") for _, done in results):
        raise typer.Exit(1)


def _examined(path: Path, format_: str, charset: str) -> Source:
    source = examined(path, format_, charset, HEADER)
    if source.format not in ("csv", "fhir"):
        raise Failure(
            f"{path} is a file of HL7 v2 messages.",
            "These say nothing of who gives care; nothing was imported from it.",
            "Give CSV or FHIR.",
        )
    return source


async def _imported(
    access: Access, source: Source, rejects: Path, speaker: str, by: str, *, complete: bool, dry_run: bool
) -> Imported:
    with progress_bar("{task.fields[records]} resources") as progress:
        shown = progress.add_task(f"importing {source.path.name}", total=source.size, records=0)

        def advance(count: int, counts: Mapping[str, int]) -> None:
            progress.update(shown, advance=count, records=sum(counts.values()))

        async with access.connected():
            store = PostgresDirectoryStore(access.database, access.audit)
            work = DirectoryImport(store, source, speaker=speaker, by=by, dry_run=dry_run, advance=advance)
            return await work.run(rejects, complete=complete)


def _print_imported(console: Console, path: Path, done: Imported, *, dry_run: bool) -> None:
    console.print(Text.assemble((str(path), "bold"), "  only looked at, nothing was stored" if dry_run else ""))
    print_counts(console, done.counts, _WORDS)
    print_lines(console, done.first_rejects)
    if done.kept_since_rejected:
        console.print("  Nothing was made inactive, because records were rejected: they may be what is missing.")
    print_rejects(console, done.rejects)


def _imported_data(path: Path, done: Imported, *, dry_run: bool) -> dict[str, Any]:
    return {
        "file": str(path),
        "dry_run": dry_run,
        **{name: done.counts.get(name, 0) for name in COUNTED},
        "rejects": str(done.rejects) if done.rejects else None,
        "first_rejects": [{"line": line, "reason": why} for line, why in done.first_rejects],
        "kept_since_rejected": done.kept_since_rejected,
    }


def columns() -> None:
    """Print the columns that a CSV file of the directory may have."""
    print_columns(
        COLUMNS,
        "Polish names (numer księgi, cz. V, nazwa, REGON) are understood as well. One of book and npwz is needed. "
        "Cells are parted by ; or , or a tabulator.",
    )


# looking -------------------------------------------------------------------------------------------------------------


class _Asker:
    """Asks the directory as a client does, in the name of whoever sits at the command line."""

    def __init__(self, access: Access) -> None:
        self.store = PostgresDirectoryStore(access.database, access.audit)
        self._actor = ProviderDirectory(self.store)

    def _context(self, transaction: str) -> Context:
        found = next(t for t in TRANSACTIONS if t.id == transaction)
        who = Requester(system="command line", address="", person=os_user())
        return Context(
            transaction=found, requester=who, request_id=new_uuid(), received_at=utc_now(), source_user=who.person
        )

    async def search(self, kind: str, parameters: Sequence[tuple[str, str]]) -> tuple[list[Version], int]:
        """What fits, and how many there are. Raises Problem."""
        request = FhirRequest(interaction="search-type", resource=kind, parameters=tuple(parameters), strict=True)
        asked = mcsd.read_request(request)
        assert isinstance(asked, DirectorySearch)  # noqa: S101
        context = self._context("ITI-90")
        context.objects = context.transaction.audit(asked)
        page = await self._actor.find(asked.query, context)
        return [*page.found, *page.included], page.total

    async def history(self, kind: str, id_: str) -> list[Version]:
        """All versions, newest first."""
        asked = mcsd.read_history(FhirRequest(interaction="history-instance", resource=kind, id=id_))
        assert isinstance(asked, DirectoryHistory)  # noqa: S101
        context = self._context("ITI-91")
        context.objects = context.transaction.audit(asked)
        return list((await self._actor.history(asked.query, context)).versions)

    async def named(self, what: str) -> list[tuple[str, str]]:
        """Types and ids of what is meant. Raises Failure."""
        kind, slash, id_ = what.partition("/")
        if slash and kind in KINDS:
            return [(kind, id_)]
        found = []
        for each in (k for k in KINDS if "identifier" in _SEARCH[k]):
            versions, _ = await self.search(each, (("identifier", what),))
            found += [(v.kind, v.id) for v in versions]
        if not found:
            raise Failure(
                f"Nothing in the directory has the identifier {what!r}.",
                "Nothing was changed.",
                "obieg directory search finds by name; an id is written TYPE/ID.",
            )
        return found


def search(
    words: Annotated[
        list[str], typer.Argument(metavar="[TYPE] [WORD|PARAMETER=VALUE]...", help="What is looked for; see above.")
    ],
    node: NodeFile = None,
    settings: OptionalSettingsFile = None,
    count: Annotated[int, typer.Option("-n", help="How many of each type.", min=1, max=200)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """Search the directory as its clients do (ITI-90).

    Words are looked for within names, in all types that have one. With a type, search parameters can be given:

    obieg directory search Organization name:contains=dietla address-city=Kraków _include=Organization:endpoint
    """
    kinds = [words[0]] if words[0] in KINDS else [kind for kind in KINDS if "name" in _SEARCH[kind]]
    rest = words[1:] if words[0] in KINDS else words
    given = [tuple(word.split("=", 1)) if "=" in word else ("name:contains", word) for word in rest]
    parameters = [*((name, value) for name, value in given), ("_count", str(count))]

    async def ask(access: Access) -> tuple[list[Version], int]:
        asker = _Asker(access)
        found: list[Version] = []
        total = 0
        for kind in kinds:
            versions, number = await asker.search(kind, parameters)
            found += versions
            total += number
        return found, total

    found, total = asked(node, settings, ask)
    if as_json:
        _print_lines([mcsd.resource(v) for v in found])
        return
    console = Console(highlight=False)
    table = Table("What", "Name", "Identifiers", "", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for version in found:
        resource = mcsd.resource(version)
        table.add_row(f"{version.kind}/{version.id}", _title(resource), _numbers(resource), _state(resource))
    if found:
        console.print(table)
    more = f", {len(found)} shown; -n shows more" if total > len(found) else ""
    console.print(f"{total} found{more}.")


def show(what: _One, node: NodeFile = None, settings: OptionalSettingsFile = None, *, as_json: AsJson = False) -> None:
    """Show a resource of the directory, and when it was changed."""

    async def ask(access: Access) -> list[list[Version]]:
        asker = _Asker(access)
        return [await asker.history(*name) for name in await asker.named(what)]

    histories = [h for h in asked(node, settings, ask) if h]
    if not histories:
        raise Failure(f"The directory has no {what}.", "Nothing was changed.", "obieg directory search finds by name.")
    if as_json:
        _print_lines([mcsd.resource(history[0]) for history in histories])
        return
    console = Console(highlight=False)
    for history in histories:
        newest = history[0]
        console.print(Text(f"{newest.kind}/{newest.id}  {_title(mcsd.resource(newest))}", style="bold"), soft_wrap=True)
        for version in history:
            done = "removed" if version.deleted else "stored"
            console.print(f"  version {version.version} {done} {local(version.updated_at)}")
        console.print(Text(fhir_json.write(mcsd.resource(newest), pretty=True).decode()), soft_wrap=True)


def remove(what: _One, node: NodeFile = None, settings: OptionalSettingsFile = None, by: By = "") -> None:
    """Remove a resource that should never have been there; an import makes inactive what has closed.

    Its history stays, and clients that follow the changes are told (ITI-91). What others refer to is not removed.
    """

    async def ask(access: Access) -> tuple[str, str]:
        asker = _Asker(access)
        names = await asker.named(what)
        if len(names) > 1:
            listed = ", ".join("/".join(n) for n in names)
            raise Failure(f"{what} names several: {listed}.", "Nothing was removed.", "Name one as TYPE/ID.")
        [(kind, id_)] = names
        event = operator_event(f"removal of {kind}/{id_}", (f"{kind}/{id_}",), by or os_user())
        await _remove(asker.store, kind, id_, event)
        return kind, id_

    kind, id_ = asked(node, settings, ask)
    Console(highlight=False).print(f"{kind}/{id_} was removed.")


async def _remove(store: PostgresDirectoryStore, kind: str, id_: str, event: AuditEvent) -> None:
    bound = await store.bound()
    standing = (await store.standing([(kind, id_)])).get((kind, id_))
    versions = await store.named([(kind, id_)], bound)
    if standing is None or standing.deleted or not versions:
        raise Problem.of("AddressNotFound", f"the directory has no {kind}/{id_}")
    referring = []
    for other in KINDS:
        terms = tuple(Term(f"{p}={kind}/{id_}") for p, row in _SEARCH[other].items() if row.get("target") == kind)
        if terms:
            lookup = Lookup(kind=other, clauses=(Clause(terms),))
            referring += [f"{other}/{i}" for i in await store.ids(lookup, bound, 5)]
    if referring:
        said = f"{', '.join(referring[:5])} refer to it; remove these, or let them refer to another, first"
        raise Problem.of("RuleBroken", said, f"{kind}/{id_}")
    await store.store([removal(kind, id_, versions[0].content, standing)], event)


def _title(resource: Mapping[str, Any]) -> str:
    name = resource.get("name", "")
    if isinstance(name, list):
        first = name[0] if name else {}
        return first.get("text") or " ".join(
            [*first.get("prefix", ()), *first.get("given", ()), first.get("family", "")]
        )
    return str(name)


def _numbers(resource: Mapping[str, Any]) -> str:
    found = resource.get("identifier", ())
    return ", ".join(i["value"] for i in ([found] if isinstance(found, dict) else found) if "value" in i)


def _state(resource: Mapping[str, Any]) -> str:
    return "inactive" if resource.get("active") is False or resource.get("status") in ("inactive", "off") else ""


def _print_lines(resources: Sequence[dict[str, Any]]) -> None:
    """NDJSON, as it can be imported."""
    for resource in resources:
        sys.stdout.write(fhir_json.write(resource).decode() + "\n")
